//! The real binary on a port and a folder of its own, asked as clients ask.

#![allow(clippy::expect_used, reason = "a test that cannot go on says why")]

mod harness;
mod keep;
mod once;
mod encryption;
mod access;
mod matrix;
mod cors;
mod tls;
mod refuse;
mod hostile;
mod json;
mod grpc;
mod telemetry;
mod pressure;
mod life;
mod frames;
mod rude;
mod storage;
mod load;
mod commands;
mod ask;
mod tail;
mod shell;
mod bucket;
mod conditions;
