//! The walk over the bytes and prost must agree: on what is refused, and on every field of what is kept.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of their functions")]

mod agree;
mod generate;
mod scramble;
mod properties;
mod recorded;
mod limits;
mod points;
mod spell;
mod as_json;
mod from_json;
mod json;
mod seeds;
