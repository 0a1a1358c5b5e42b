//! The whole way, in the real process: what is sent is stored once, cleared, found, and survives.

mod crash;
mod privacy;
mod fidelity;
mod pressure;
