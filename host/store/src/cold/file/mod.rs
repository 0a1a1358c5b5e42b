//! A cold file: the rows of a tenant, signal and day as Parquet, and back. Row groups follow each other in time; in each, rows are
//! sorted by resource, then by trace as they begin there: bounds of row groups find times, bounds of pages services.
//!
//! ```text
//! batches -> rows (one order over all of them) -> flatten (a row group's columns, nested) -> write (Parquet, filters, meta)
//! meta, read (row groups as frames of a snapshot) -> rebuild (the tables of ADR 0001)
//! ```
//!
//! Row groups, their statistics, Bloom filters and the page index are Parquet's, for everybody. What only Prism needs (rows of
//! each table, lists of values, token and cuckoo filters, the rollup cube, checksums) are bytes that other readers skip: the
//! footer's metadata `prism.*` say where. Not here: which files there are (`delta`), which columns are called what (`schema`).

mod options;
mod summary;
mod rows;
mod nested;
mod flatten;
mod cuckoo;
mod filter;
mod meta;
mod hybrid;
mod pages;
mod page_map;
mod write;
mod rebuild;
mod stretches;
mod picked;
mod find;
mod read;
#[cfg(test)]
mod tests;

pub use options::{FileOptions, Filter};
pub use read::{ColdFile, ColdFiles};
pub use summary::FileSummary;
pub use write::Writer;

use crate::error::{Damage, StoreError};

/// Columns that cannot be written: a bug.
fn unwritable(e: impl std::fmt::Display) -> StoreError {
    StoreError::Rows(e.to_string())
}

/// Bytes that no writer of ours wrote.
fn damaged(e: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(Damage::Parquet(e.to_string()))
}
