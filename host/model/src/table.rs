//! Columns of equal length, each with its name.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::datatypes::DataType;

use crate::column::{ColumnId, Intrinsic, is_text};

/// The tables of a batch. Interned tables come first, since the others point into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TableKind {
    /// One row a distinct (resource, schema URL). Its attribute columns are resource attributes.
    Resources = 0,
    /// One row a distinct (scope, schema URL). Its attribute columns are scope attributes.
    Scopes = 1,
    /// One row a distinct metric (name, unit, description, type, temporality, monotonicity, metadata).
    Descriptors = 2,
    /// One row a span, log record or metric point: the rows that queries count.
    Items = 3,
    /// One row a span event.
    Events = 4,
    /// One row a span link.
    Links = 5,
    /// One row an exemplar.
    Exemplars = 6,
    /// One row an attribute that has no column: repeated keys, and keys beyond the cap of columns.
    Tail = 7,
}

impl TableKind {
    /// Every kind, in the order of storage.
    pub const ALL: [TableKind; 8] = [
        TableKind::Resources,
        TableKind::Scopes,
        TableKind::Descriptors,
        TableKind::Items,
        TableKind::Events,
        TableKind::Links,
        TableKind::Exemplars,
        TableKind::Tail,
    ];

    /// The kind of a stored number.
    pub fn from_u8(n: u8) -> Option<TableKind> {
        TableKind::ALL.get(usize::from(n)).copied()
    }

    /// Whether rows of this table belong to a row of another by [`Intrinsic::Parent`].
    pub fn is_child(self) -> bool {
        matches!(self, TableKind::Events | TableKind::Links | TableKind::Exemplars | TableKind::Tail)
    }
}

/// A column and its name.
#[derive(Clone, Debug)]
pub struct Column {
    /// The name, unique in its table.
    pub id: ColumnId,
    /// The values; as long as the table has rows. Text is `Utf8` or `Dictionary(UInt32, Utf8)`.
    pub array: ArrayRef,
}

/// Columns of equal length. A column that is not there holds its default in every row (null, zero or false).
#[derive(Clone, Debug)]
pub struct Table {
    kind: TableKind,
    rows: usize,
    columns: Vec<Column>,
}

impl Table {
    /// A table without columns.
    pub fn empty(kind: TableKind, rows: usize) -> Table {
        Table { kind, rows, columns: Vec::new() }
    }

    /// A checked table.
    ///
    /// # Errors
    /// A column of another length, of a type that its name does not allow, or named twice.
    pub fn try_new(kind: TableKind, rows: usize, columns: Vec<Column>) -> Result<Table, BadTable> {
        let mut seen = std::collections::HashSet::with_capacity(columns.len());
        for column in &columns {
            if column.array.len() != rows {
                return Err(BadTable::Length {
                    column: column.id.to_string(),
                    expected: rows,
                    found: column.array.len(),
                });
            }
            let (expected, found) = (column.id.data_type(), column.array.data_type());
            if *found != expected && !(expected == DataType::Utf8 && is_text(found)) {
                return Err(BadTable::Type { column: column.id.to_string(), expected, found: found.clone() });
            }
            if !seen.insert(&column.id) {
                return Err(BadTable::Twice { column: column.id.to_string() });
            }
        }
        Ok(Table { kind, rows, columns })
    }

    /// Which table this is.
    pub fn kind(&self) -> TableKind {
        self.kind
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns, in no order that means anything.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Takes the table apart into its columns.
    pub fn into_columns(self) -> Vec<Column> {
        self.columns
    }

    /// The values of a column; `None` where every row has its default.
    pub fn column(&self, id: &ColumnId) -> Option<&ArrayRef> {
        self.columns.iter().find(|c| c.id == *id).map(|c| &c.array)
    }

    /// The values of a fixed column; `None` where every row has its default.
    pub fn intrinsic(&self, id: Intrinsic) -> Option<&ArrayRef> {
        self.columns.iter().find(|c| c.id == ColumnId::Intrinsic(id)).map(|c| &c.array)
    }

    /// A fixed column of row numbers ([`Intrinsic::Resource`], [`Intrinsic::Parent`] …).
    pub fn index(&self, id: Intrinsic) -> Option<&UInt32Array> {
        self.intrinsic(id).and_then(|a| a.as_any().downcast_ref())
    }

    /// Bytes of the buffers that the columns hold on to.
    pub fn memory_bytes(&self) -> usize {
        self.columns.iter().map(|c| c.array.get_buffer_memory_size()).sum()
    }
}

/// Columns that do not make a table: a bug, or a damaged or foreign file.
#[derive(Debug, thiserror::Error)]
pub enum BadTable {
    /// A column of another length.
    #[error("expected {expected} rows in column `{column}`, found {found}")]
    Length {
        /// Its name.
        column: String,
        /// Rows of the table.
        expected: usize,
        /// Rows of the column.
        found: usize,
    },
    /// A column of a type that its name does not allow.
    #[error("expected {expected} in column `{column}`, found {found}")]
    Type {
        /// Its name.
        column: String,
        /// What the name asks for.
        expected: DataType,
        /// What the array holds.
        found: DataType,
    },
    /// Two columns of one name.
    #[error("column `{column}` stands twice")]
    Twice {
        /// Its name.
        column: String,
    },
    /// A row number that points outside of its table.
    #[error("column `{column}` points to row {row} of {rows}")]
    Dangling {
        /// Its name.
        column: String,
        /// Where it points.
        row: u32,
        /// How many rows there are.
        rows: usize,
    },
}
