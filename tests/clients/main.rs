//! Real clients: what an OpenTelemetry SDK says it has sent is what Prism holds.
//!
//! ```text
//! install (pinned packages, in the build folder) -> client (a Python or Node process, told what to do) -> facts (what it says)
//!     -> stored (the same facts, read back from Prism) -> sdk (the tests)        recorded (files of other programs)
//! ```

#![expect(clippy::expect_used, reason = "a test says with it what it expected")]

mod install;
mod client;
mod facts;
mod stored;
mod sdk;
mod recorded;
