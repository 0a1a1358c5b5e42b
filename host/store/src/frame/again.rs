//! Values of frames that are joined, as they are stored: zstd's frames behind each other are their contents behind each other
//! (RFC 8878, 3.1), so that what keeps its bytes and its order need not be compressed again.

use std::collections::HashMap;

use prism_model::{ColumnId, TableKind};

use super::schema::TableColumn;

/// A buffer of values as it is stored, but for encryption.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(super) bytes: Vec<u8>,
    /// Bytes of the values themselves.
    pub(super) raw: usize,
    /// Whether the two differ.
    pub(super) packed: bool,
}

/// The buffers of one frame that hold ids and plain texts, by column. Numbers and keys of dictionaries are relative to what
/// else is in their frame.
pub(crate) type StoredValues = HashMap<TableColumn, Stored>;

/// Tables whose rows keep their order when frames are joined.
pub(super) fn keeps_order(table: TableKind) -> bool {
    matches!(table, TableKind::Items | TableKind::Events | TableKind::Links | TableKind::Exemplars)
}

/// The buffers of a column in joined frames which together are its `raw` bytes, and whether they are compressed; `None` where
/// they must be compressed anew.
pub(super) fn pieces<'a>(
    frames: &'a [StoredValues],
    table: TableKind,
    id: &ColumnId,
    raw: usize,
) -> Option<(Vec<&'a [u8]>, bool)> {
    let column = (table, id.clone());
    let stored = || frames.iter().filter_map(|frame| frame.get(&column)).filter(|stored| stored.raw > 0);
    let packed = stored().next()?.packed;
    // A frame that has the column as a dictionary lacks its bytes here.
    let same =
        stored().all(|stored| stored.packed == packed) && stored().map(|stored| stored.raw).sum::<usize>() == raw;
    same.then(|| (stored().map(|stored| &stored.bytes[..]).collect(), packed))
}

/// Bytes in memory, about.
pub(crate) fn memory_bytes(values: &StoredValues) -> usize {
    values.values().map(|stored| stored.bytes.len() + size_of::<(TableColumn, Stored)>()).sum()
}
