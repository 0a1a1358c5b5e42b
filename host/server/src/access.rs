//! Who may do what: tenants, keys, roles.
//!
//! ```text
//! key (what a client shows) -> directory (all tenants and keys with their end, one control object)
//!   -> live (the newest directory, and the clock) -> check
//! ```
//!
//! Tenants' roles (`ingest`, `query`, `admin`) reach one tenant's data; the operator's role is apart from them: it creates
//! tenants and reads `/metrics`, and reaches no tenant's data. Not here: headers and status codes (`http`, `error`).

mod role;
mod key;
mod expiry;
mod directory;
mod change;
mod used;
mod live;

pub(crate) use change::{change, log, read};
pub(crate) use directory::{DirectoryError, Holder};
pub(crate) use expiry::Expiry;
pub(crate) use key::Key;
pub(crate) use live::Access;
pub(crate) use role::{Role, Roles};
pub(crate) use used::{Used, forget, last_used_unix_ms};
