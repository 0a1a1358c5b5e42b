//! What the columns of a cold file are called and of which type they are, outside and inside.
//!
//! ```text
//! (table, column) of ADR 0001 <-> outside (name, Arrow type in a Parquet file) ; retire: which keys get a column of their own
//! ```
//!
//! One wide row an item: resources, scopes and descriptors are repeated in each row (dictionaries make that nearly free), events,
//! links and exemplars are lists of structs, what has no column stands in typed maps. Top-level columns are flat, because engines
//! neither prune nor push filters into nested fields. Not here: how values get there (`file`).

mod outside;
mod retire;

pub use outside::{ChildField, KEY_METADATA, Outside, arrow_schema, child_fields, fixed_columns};
pub use retire::{Found, LastUse, choose};
