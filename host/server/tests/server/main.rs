//! The real binary on a port and a folder of its own, asked as clients ask.

mod harness;
mod keep;
mod access;
mod refuse;
mod grpc;
mod pressure;
mod life;
mod commands;
