//! The Delta log of a table: which Parquet files it consists of, at which version, and how far blocks are covered.
//!
//! ```text
//! date, schema, stats -> action (a line of a commit), left (txn of damaged frames) -> checkpoint (all of them, pruned) + tail (since) -> log (what stands now)
//!                                      -> table (plans) -> commit (changes) -> others (what they wrote)
//! ```
//!
//! An own implementation: planning reads the row groups of a checkpoint that a time range needs, where the usual ones load
//! every action (`host/adr/0004-delta-log.md`). Reader version 1 and writer version 2 of the protocol only, so that everybody
//! reads it. Not here: what is in a Parquet file, and when files are written, joined or removed.

pub(crate) mod date;
pub(crate) mod schema;
pub(crate) mod stats;
pub(crate) mod action;
mod chunks;
mod arrays;
mod checkpoint;
mod tail;
mod news;
mod left;
mod log;
mod rewrite;
mod table;
mod commit;
pub(crate) mod others;
#[cfg(test)]
mod tests;

pub use commit::{Change, Committed, NewFile, TxnStep};
pub use date::Date;
pub use left::{Left, LeftStep};
pub(crate) use log::Log;
pub use log::Totals;
pub use schema::TableColumn;
pub use stats::{ColumnStats, Scalar};
pub use table::{FileEntry, Pinned, Table, Tables};
