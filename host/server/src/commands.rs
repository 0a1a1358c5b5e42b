//! What the commands do that are not a server.
//!
//! ```text
//! access (tenants, keys), erase, encryption, plugins (bindings): control objects of the data folder; servers notice within a second
//! storage (what lies where, for how long, and whether it is sound): the data folder and its objects
//! ask (query, trace): a server over HTTP, shown as text
//! fields (what rows have)
//! tail (new rows of a server as they come)
//! files (recordings and progress) -> ingest (as they are) | replay (times moved, at their pace) -> send (server or data folder)
//!   -> tally (what became of it)
//! ```

pub(crate) mod access;
pub(crate) mod erase;
pub(crate) mod encryption;
pub(crate) mod plugin;
pub(crate) mod storage;
pub(crate) mod ask;
pub(crate) mod tail;
pub(crate) mod fields;
mod files;
pub(crate) mod ingest;
pub(crate) mod replay;
mod send;
mod tally;

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in unix milliseconds.
pub(crate) fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
