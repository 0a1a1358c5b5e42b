//! What a row is.
//!
//! ```text
//! signal, metric (its types), tenant -> column (what a column is called) -> table (columns of equal length) -> batch (the tables of one signal)
//!                                                          value (what has no column type of its own)
//! ```
//!
//! Everything else in the host speaks in these types: `ingest` makes a [`Batch`], the plugin chain turns it into a
//! [`Cleared`] one, `store` keeps it, `query` reads it back. The decisions are in `host/adr/0001-rows.md`.
//!
//! Not here: how bytes become columns (`ingest`), how columns become bytes (`store`), what a query means (`query`).

pub mod signal;
pub mod metric;
pub mod tenant;
pub mod column;
pub mod value;
pub mod table;
pub mod batch;
pub mod reshape;
pub mod window;
pub mod varint;
pub mod sketch;
pub mod limits;
pub mod error;
#[cfg(any(test, feature = "samples"))]
pub mod samples;

pub use batch::{Batch, BatchId, Cleared, Origin, Redaction};
pub use column::{AttrType, ColumnId, Intrinsic};
pub use error::{Classify, Kind};
pub use limits::Limits;
pub use metric::MetricType;
pub use signal::Signal;
pub use table::{Column, Table, TableKind};
pub use tenant::TenantId;
pub use value::Value;
