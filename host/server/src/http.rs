//! Everything over HTTP.
//!
//! ```text
//! connections (accept, bounds, order of ending) -> router -> observe (counts, log, panics) -> caller (who) -> body (bounded)
//!   -> otlp | query | operate -> respond
//! ```

pub(crate) mod connections;
pub(crate) mod body;
pub(crate) mod respond;
