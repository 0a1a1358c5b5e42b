//! Batches for native unit tests of a plugin, and what the plugin told the host. Not in guests.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::column::Bits;
use crate::{Batch, BytesCol, Call, Column, Dtype, Field, Level, Place, Role, Signal, Table, TableKind, Values};

/// Builds a batch column by column. `need` is the position of the need that the column answers.
#[derive(Debug)]
pub struct BatchBuilder {
    batch: Batch,
    place: Place,
    role: Role,
}

impl BatchBuilder {
    /// A batch with an items table of spans.
    pub fn spans(rows: u32) -> BatchBuilder {
        BatchBuilder::of(Signal::Spans, TableKind::Items, rows)
    }

    /// A batch with an items table of log records.
    pub fn logs(rows: u32) -> BatchBuilder {
        BatchBuilder::of(Signal::Logs, TableKind::Items, rows)
    }

    /// What a redactor with access `entries` sees.
    pub fn entries() -> BatchBuilder {
        BatchBuilder::of(Signal::Spans, TableKind::Entries, 0)
    }

    fn of(signal: Signal, kind: TableKind, rows: u32) -> BatchBuilder {
        let table = Table { kind, of: Place::Item, rows, parents: None, columns: Vec::new() };
        let batch = Batch { signal, fields: Vec::new(), tables: vec![table] };
        BatchBuilder { batch, place: Place::Item, role: Role::Attribute }
    }

    /// Starts a table of leaves of the items; later columns go into it.
    pub fn leaves(mut self, parents: &[u32]) -> BatchBuilder {
        self.batch.tables.push(Table {
            kind: TableKind::Leaves,
            of: Place::Item,
            rows: parents.len() as u32,
            parents: Some(parents.to_vec()),
            columns: Vec::new(),
        });
        self
    }

    /// Place and role of the columns that follow (at first: attributes of items).
    pub fn at(mut self, place: Place, role: Role) -> BatchBuilder {
        (self.place, self.role) = (place, role);
        self
    }

    /// A column of text: one entry a row.
    pub fn text(self, need: u32, name: &str, values: &[Option<&str>]) -> BatchBuilder {
        let validity = validity(values);
        let values = bytes(values.iter().map(|v| v.unwrap_or_default().as_bytes()));
        self.column(need, name, Dtype::Utf8, Values::Utf8(values), validity, None)
    }

    /// A column of text in which rows point to entries; `None` where a row has no value.
    pub fn dictionary(self, need: u32, name: &str, entries: &[&str], rows: &[Option<u32>]) -> BatchBuilder {
        let values = Values::Utf8(bytes(entries.iter().map(|e| e.as_bytes())));
        let keys = rows.iter().map(|k| k.unwrap_or_default()).collect();
        self.column(need, name, Dtype::Utf8, values, validity(rows), Some(keys))
    }

    /// A column of bytes: one entry a row.
    pub fn binary(self, need: u32, name: &str, values: &[&[u8]]) -> BatchBuilder {
        self.column(need, name, Dtype::Binary, Values::Binary(bytes(values.iter().copied())), None, None)
    }

    /// A column of fixed width: one entry a row.
    pub fn fixed<const N: usize>(self, need: u32, name: &str, values: &[[u8; N]]) -> BatchBuilder {
        let fixed = crate::bindings::columns::FixedCol { width: N as u32, data: values.concat() };
        self.column(need, name, Dtype::Fixed, Values::Fixed(fixed), None, None)
    }

    /// A column of int64: one entry a row.
    pub fn ints(self, need: u32, name: &str, values: &[Option<i64>]) -> BatchBuilder {
        let validity = validity(values);
        let values = values.iter().map(|v| v.unwrap_or_default()).collect();
        self.column(need, name, Dtype::Int64, Values::S64s(values), validity, None)
    }

    /// A column of int32: one entry a row.
    pub fn int32s(self, need: u32, name: &str, values: &[i32]) -> BatchBuilder {
        self.column(need, name, Dtype::Int32, Values::S32s(values.to_vec()), None, None)
    }

    /// A column of float64: one entry a row.
    pub fn floats(self, need: u32, name: &str, values: &[Option<f64>]) -> BatchBuilder {
        let validity = validity(values);
        let values = values.iter().map(|v| v.unwrap_or_default()).collect();
        self.column(need, name, Dtype::Float64, Values::F64s(values), validity, None)
    }

    /// A column of booleans.
    pub fn booleans(self, need: u32, name: &str, values: &[bool]) -> BatchBuilder {
        let mut bits = Bits::filled(values.len(), false);
        values.iter().enumerate().for_each(|(i, &v)| bits.set(i, v));
        self.column(need, name, Dtype::Boolean, Values::Bools(bits.into_bytes()), None, None)
    }

    /// The batch.
    pub fn build(self) -> Batch {
        self.batch
    }

    fn column(
        mut self,
        need: u32,
        name: &str,
        dtype: Dtype,
        values: Values,
        validity: Option<Vec<u8>>,
        keys: Option<Vec<u32>>,
    ) -> BatchBuilder {
        let field = self.batch.fields.len() as u32;
        self.batch.fields.push(Field { need, place: Some(self.place), role: self.role, name: name.to_owned(), dtype });
        if let Some(table) = self.batch.tables.last_mut() {
            table.columns.push(Column { field, validity, keys, values });
        }
        self
    }
}

/// A call at the epoch, with seed 0.
pub fn call() -> Call {
    Call { now_unix_nanos: 0, seed: 0, batch_id: vec![0; 16], shadow: false }
}

/// What this thread's plugins logged since the last time, in order.
pub fn take_logs() -> Vec<(Level, String)> {
    LOGS.with(|logs| logs.take())
}

/// What this thread's plugins counted since the last time, by counter.
pub fn take_counts() -> BTreeMap<u32, u64> {
    COUNTS.with(|counts| counts.take())
}

thread_local! {
    static LOGS: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static COUNTS: RefCell<BTreeMap<u32, u64>> = const { RefCell::new(BTreeMap::new()) };
}

pub(crate) fn record_log(level: Level, message: &str) {
    LOGS.with(|logs| logs.borrow_mut().push((level, message.to_owned())));
}

pub(crate) fn record_count(counter: u32, by: u64) {
    COUNTS.with(|counts| *counts.borrow_mut().entry(counter).or_default() += by);
}

fn bytes<'a>(values: impl Iterator<Item = &'a [u8]>) -> BytesCol {
    let (mut offsets, mut data) = (vec![0], Vec::new());
    for value in values {
        data.extend_from_slice(value);
        offsets.push(data.len() as u32);
    }
    BytesCol { offsets, data }
}

fn validity<T>(values: &[Option<T>]) -> Option<Vec<u8>> {
    if values.iter().all(Option::is_some) {
        return None;
    }
    let mut bits = Bits::filled(values.len(), false);
    values.iter().enumerate().for_each(|(i, v)| bits.set(i, v.is_some()));
    Some(bits.into_bytes())
}
