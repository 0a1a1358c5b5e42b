//! Runs Prism as a user does: the `prism` binary in a folder of its own, asked over HTTP and the command line.
//!
//! ```text
//! process (start, stop, kill the server), clock (its time of day) -> otlp (requests to send) -> shared (recorded input, where it is there)
//! ```

pub mod process;
#[cfg(target_os = "linux")]
pub mod clock;
pub mod otlp;
pub mod shared;

pub use process::{Answer, Server, cli};
