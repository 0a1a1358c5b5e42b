//! Attributes that have no column of their own: one row each, the key and the value as text.

use std::sync::Arc;

use arrow::array::{UInt8Array, UInt32Array};
use prism_model::{Column, Intrinsic, Table, TableKind};

use super::ColumnError;
use super::text::Texts;

/// The tail of a batch while it grows.
#[derive(Default)]
pub(crate) struct Tail {
    entries: Vec<Entry>,
    text: String,
}

struct Entry {
    of: TableKind,
    row: u32,
    /// Whether the value had a column first and gave it up: it came before the row's other values of the key.
    first: bool,
    key_end: usize,
    end: usize,
}

impl Tail {
    /// Adds an attribute of a row; `write` appends the value's text form.
    pub(crate) fn push<E>(
        &mut self,
        of: TableKind,
        row: u32,
        key: &str,
        write: impl FnOnce(&mut String) -> Result<(), E>,
    ) -> Result<(), E> {
        self.add(of, row, key, false, write)
    }

    /// Adds the value of a column that is given up.
    pub(crate) fn push_first(&mut self, of: TableKind, row: u32, key: &str, write: impl FnOnce(&mut String)) {
        let _infallible: Result<(), std::convert::Infallible> = self.add(of, row, key, true, |out| {
            write(out);
            Ok(())
        });
    }

    fn add<E>(
        &mut self,
        of: TableKind,
        row: u32,
        key: &str,
        first: bool,
        write: impl FnOnce(&mut String) -> Result<(), E>,
    ) -> Result<(), E> {
        self.text.push_str(key);
        let key_end = self.text.len();
        write(&mut self.text)?;
        self.entries.push(Entry { of, row, first, key_end, end: self.text.len() });
        Ok(())
    }

    /// The table, by table and row; the values of a row in the order in which they came.
    pub(crate) fn finish(self) -> Result<Table, ColumnError> {
        let mut start = 0;
        let mut order: Vec<(usize, Entry)> = Vec::with_capacity(self.entries.len());
        for entry in self.entries {
            let end = entry.end;
            order.push((start, entry));
            start = end;
        }
        order.sort_by_key(|(_, e)| (e.of, e.row, !e.first));
        let (mut keys, mut values) = (Texts::default(), Texts::default());
        for (i, (start, entry)) in order.iter().enumerate() {
            keys.push(i as u32, &self.text.as_bytes()[*start..entry.key_end]);
            values.push(i as u32, &self.text.as_bytes()[entry.key_end..entry.end]);
        }
        let rows = order.len();
        if rows == 0 {
            return Ok(Table::empty(TableKind::Tail, 0));
        }
        let of = UInt8Array::from_iter_values(order.iter().map(|(_, e)| e.of as u8));
        let parent = UInt32Array::from_iter_values(order.iter().map(|(_, e)| e.row));
        let mut columns = vec![
            Column { id: Intrinsic::Of.into(), array: Arc::new(of) },
            Column { id: Intrinsic::Parent.into(), array: Arc::new(parent) },
        ];
        for (id, texts) in [(Intrinsic::Key, keys), (Intrinsic::Value, values)] {
            columns.extend(texts.finish(rows)?.map(|array| Column { id: id.into(), array }));
        }
        Ok(Table::try_new(TableKind::Tail, rows, columns)?)
    }
}
