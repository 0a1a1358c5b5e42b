//! Finding one's way in what the host hands over.

use crate::column::{Bytes, Text, bit};
use crate::{Batch, Column, Field, Place, Role, Table, TableKind, Values};

impl Batch {
    /// How many items (spans, log records or points); 0 for a redactor with access `entries`.
    pub fn rows(&self) -> usize {
        self.table(TableKind::Items).map_or(0, |t| t.rows as usize)
    }

    /// The first table of a kind.
    pub fn table(&self, kind: TableKind) -> Option<&Table> {
        self.tables.iter().find(|t| t.kind == kind)
    }

    /// Every column of every table.
    pub fn columns(&self) -> impl Iterator<Item = ColumnRef<'_>> {
        self.tables.iter().zip(0u32..).flat_map(move |(table, t)| {
            table.columns.iter().zip(0u32..).filter_map(move |(column, c)| {
                let field = self.fields.get(column.field as usize)?;
                Some(ColumnRef { table_index: t, column_index: c, table, column, field })
            })
        })
    }

    /// The columns of a table, by its position in `tables`.
    pub fn columns_of(&self, table: usize) -> impl Iterator<Item = ColumnRef<'_>> {
        self.columns().filter(move |c| c.table_index as usize == table)
    }
}

/// A column with what it holds.
///
/// Its values are *entries*; with keys (a dictionary) many rows share one, without keys entry `i` is that of row `i`.
#[derive(Clone, Copy, Debug)]
pub struct ColumnRef<'a> {
    /// Position of the table in the batch, which edits name.
    pub table_index: u32,
    /// Position of the column in its table, which edits name.
    pub column_index: u32,
    /// The table.
    pub table: &'a Table,
    /// What it holds.
    pub field: &'a Field,
    column: &'a Column,
}

impl<'a> ColumnRef<'a> {
    /// Name of the attribute or fixed field; in the table `entries` the name in the need.
    pub fn name(&self) -> &'a str {
        &self.field.name
    }

    /// Fixed field, attribute, key, or path of a leaf.
    pub fn role(&self) -> Role {
        self.field.role
    }

    /// Where it comes from; `None` where values of several places stand together.
    pub fn place(&self) -> Option<Place> {
        self.field.place
    }

    /// Position of the need that it answers.
    pub fn need(&self) -> usize {
        self.field.need as usize
    }

    /// The table it stands in.
    pub fn kind(&self) -> TableKind {
        self.table.kind
    }

    /// How many rows its table has.
    pub fn rows(&self) -> usize {
        self.table.rows as usize
    }

    /// How many entries.
    pub fn entries(&self) -> usize {
        match &self.column.values {
            Values::Bools(_) => self.rows(),
            Values::S32s(v) => v.len(),
            Values::U32s(v) => v.len(),
            Values::S64s(v) => v.len(),
            Values::U64s(v) => v.len(),
            Values::F64s(v) => v.len(),
            Values::Utf8(v) | Values::Binary(v) => v.offsets.len().saturating_sub(1),
            Values::Fixed(v) => v.data.len() / (v.width as usize).max(1),
            Values::U64List(v) => v.offsets.len().saturating_sub(1),
            Values::F64List(v) => v.offsets.len().saturating_sub(1),
        }
    }

    /// The values as they came.
    pub fn values(&self) -> &'a Values {
        &self.column.values
    }

    /// Entries of text.
    pub fn text(&self) -> Option<Text<'a>> {
        match &self.column.values {
            Values::Utf8(v) => Text::new(&v.offsets, &v.data),
            _ => None,
        }
    }

    /// Entries of text, binary or fixed width, as bytes.
    pub fn bytes(&self) -> Option<Bytes<'a>> {
        match &self.column.values {
            Values::Utf8(v) | Values::Binary(v) => Some(Bytes::new(&v.offsets, &v.data)),
            Values::Fixed(v) => Some(Bytes::fixed(v.width, &v.data)),
            _ => None,
        }
    }

    /// Entries of int64.
    pub fn ints(&self) -> Option<&'a [i64]> {
        match &self.column.values {
            Values::S64s(v) => Some(v),
            _ => None,
        }
    }

    /// Entries of float64.
    pub fn floats(&self) -> Option<&'a [f64]> {
        match &self.column.values {
            Values::F64s(v) => Some(v),
            _ => None,
        }
    }

    /// An entry of any integer type.
    pub fn integer(&self, entry: usize) -> Option<i128> {
        match &self.column.values {
            Values::S32s(v) => v.get(entry).map(|&n| n.into()),
            Values::U32s(v) => v.get(entry).map(|&n| n.into()),
            Values::S64s(v) => v.get(entry).map(|&n| n.into()),
            Values::U64s(v) => v.get(entry).map(|&n| n.into()),
            _ => None,
        }
    }

    /// An entry of booleans.
    pub fn boolean(&self, entry: usize) -> Option<bool> {
        match &self.column.values {
            Values::Bools(v) => Some(bit(v, entry)),
            _ => None,
        }
    }

    /// The entry of a row; `None` where the row has no value, or is beyond the end.
    pub fn entry_of(&self, row: usize) -> Option<usize> {
        if row >= self.rows() || self.column.validity.as_ref().is_some_and(|bits| !bit(bits, row)) {
            return None;
        }
        match &self.column.keys {
            Some(keys) => keys.get(row).map(|&k| k as usize).filter(|&k| k < self.entries()),
            None => Some(row),
        }
    }

    /// Calls with the row and the entry of each row that has a value, in order.
    pub fn for_each_row(&self, mut each: impl FnMut(usize, usize)) {
        let (rows, entries) = (self.rows(), self.entries());
        match (&self.column.keys, &self.column.validity) {
            // The common case without a branch but that of the bound, which the host has checked.
            (Some(keys), None) => {
                keys.iter()
                    .take(rows)
                    .enumerate()
                    .filter(|&(_, &k)| (k as usize) < entries)
                    .for_each(|(row, &k)| each(row, k as usize));
            }
            (None, None) => (0..rows.min(entries)).for_each(|row| each(row, row)),
            _ => (0..rows).for_each(|row| {
                if let Some(entry) = self.entry_of(row) {
                    each(row, entry);
                }
            }),
        }
    }
}
