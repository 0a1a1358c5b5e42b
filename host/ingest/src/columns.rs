//! Builders of Arrow columns that are filled row by row, in any pattern of gaps.
//!
//! ```text
//! presence (which rows have a value) -> scalar, text, lists (the values) -> attributes (the columns of a table, by key and type)
//!                                                                    tail (attributes without a column)
//! ```
//!
//! A builder holds the values that came and nothing for the rows between, so that its memory is bound by the bytes of the
//! request; gaps are filled when it is finished. Not here: where values come from (`decode`).

pub(crate) mod presence;
pub(crate) mod scalar;
pub(crate) mod text;
pub(crate) mod lists;
pub(crate) mod tail;
pub(crate) mod attributes;

use prism_model::table::BadTable;

/// Columns that could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum ColumnError {
    /// A text that came over the wire is not UTF-8 (found when its whole column is checked at once).
    #[error("a text is not UTF-8")]
    Utf8,
    /// The values of one column pass the 2 GiB that 32-bit offsets reach.
    #[error("the values of a column hold {0} bytes")]
    TooLong(usize),
    /// The columns make no table.
    #[error(transparent)]
    Table(#[from] BadTable),
}
