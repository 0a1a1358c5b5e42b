//! The whole way, in the real process: what is sent is stored once, cleared, found, and survives.

#![expect(clippy::expect_used, reason = "a test says with it what it expected")]

mod crash;
mod privacy;
mod functions;
mod fidelity;
mod pressure;
mod tiers;
#[cfg(target_os = "linux")]
mod clock;
