//! A cube as a batch whose rows stand for many: conditions, keys and values are then those of any rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, StringArray, UInt32Array};
use arrow::datatypes::UInt32Type;
use prism_model::window::TimeRange;
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Signal, Table, TableKind};
use prism_store::rollup::Cell;

use super::MINUTE_NANOS;
use crate::error::QueryError;
use crate::field::Columns;

/// The cells of a time.
pub(crate) struct Cells<'c> {
    batch: [Batch; 1],
    of: Vec<Cell<'c>>,
}

impl<'c> Cells<'c> {
    /// Those of whole minutes within `minutes`.
    pub(crate) fn of(
        cells: impl Iterator<Item = Cell<'c>>,
        signal: Signal,
        minutes: TimeRange,
    ) -> Result<Cells<'c>, QueryError> {
        let within = |cell: &Cell<'_>| {
            let start = cell.minute.saturating_mul(MINUTE_NANOS);
            minutes.covers(start, start.saturating_add(MINUTE_NANOS - 1))
        };
        let mut of = Vec::new();
        let (mut times, mut services, mut names) = (Vec::new(), Texts::default(), Texts::default());
        let (mut kinds, mut states, mut severities) = (Vec::new(), Vec::new(), Vec::new());
        for cell in cells.filter(within) {
            times.push(cell.minute.saturating_mul(MINUTE_NANOS));
            services.push(cell.service);
            names.push(cell.name);
            kinds.push(cell.kind);
            states.push(cell.status);
            severities.push(cell.severity);
            of.push(cell);
        }
        let column = |id: Intrinsic, array: ArrayRef| Column { id: id.into(), array };
        let ints = |of: Vec<i32>| Arc::new(Int32Array::from(of)) as ArrayRef;
        let (resources, services) = services.finish();
        let mut items = vec![
            column(Intrinsic::Time, Arc::new(Int64Array::from(times))),
            column(Intrinsic::Resource, Arc::new(resources)),
        ];
        let mut descriptors = None;
        match signal {
            Signal::Spans => {
                items.push(column(Intrinsic::Name, Arc::new(names.dictionary()?)));
                items.push(column(Intrinsic::Kind, ints(kinds)));
                items.push(column(Intrinsic::Status, ints(states)));
            }
            Signal::Logs => items.push(column(Intrinsic::Severity, ints(severities))),
            Signal::Metrics => {
                let (metrics, names) = names.finish();
                items.push(column(Intrinsic::Metric, Arc::new(metrics)));
                descriptors = Some(column(Intrinsic::Name, Arc::new(names)));
            }
        }
        let service = Column { id: ColumnId::attr("service.name", AttrType::Str), array: Arc::new(services) };
        let bad = |error: &dyn std::fmt::Display| QueryError::Engine(format!("the cells of a rollup: {error}"));
        let table = |kind, columns: Vec<Column>, rows| Table::try_new(kind, rows, columns).map_err(|e| bad(&e));
        let mut tables = vec![table(TableKind::Items, items, of.len())?];
        for (kind, of_kind) in [(TableKind::Resources, Some(service)), (TableKind::Descriptors, descriptors)] {
            if let Some(column) = of_kind {
                let rows = column.array.len();
                tables.push(table(kind, vec![column], rows)?);
            }
        }
        let batch = Batch::try_new(signal, Vec::new(), tables).map_err(|e| bad(&e))?;
        Ok(Cells { batch: [batch], of })
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }

    /// Their values.
    pub(crate) fn parts(&self) -> &[Batch] {
        &self.batch
    }

    /// What else is known of a cell.
    pub(crate) fn get(&self, cell: usize) -> &Cell<'c> {
        &self.of[cell]
    }
}

impl Columns for Cells<'_> {
    fn has(&self, table: TableKind, id: &ColumnId) -> bool {
        self.batch[0].table(table).is_some_and(|table| table.column(id).is_some())
    }

    /// Of services alone, which no aggregate over cells asks for one by one.
    fn attributes(&self, _: TableKind) -> Vec<ColumnId> {
        Vec::new()
    }

    fn tail_may_hold(&self, _: &str) -> bool {
        false
    }

    fn negative_durations(&self) -> bool {
        false
    }
}

/// Texts by value.
#[derive(Default)]
struct Texts<'c> {
    values: Vec<Option<&'c str>>,
    numbers: HashMap<Option<&'c str>, u32, foldhash::fast::RandomState>,
    of: Vec<u32>,
}

impl<'c> Texts<'c> {
    fn push(&mut self, text: Option<&'c str>) {
        let number = *self.numbers.entry(text).or_insert_with(|| {
            self.values.push(text);
            self.values.len() as u32 - 1
        });
        self.of.push(number);
    }

    /// The number of each text, and the values; one at least, as in interned tables.
    fn finish(mut self) -> (UInt32Array, StringArray) {
        if self.values.is_empty() {
            self.values.push(None);
        }
        (UInt32Array::from(self.of), StringArray::from(self.values))
    }

    /// The texts as a column.
    fn dictionary(self) -> Result<DictionaryArray<UInt32Type>, QueryError> {
        let there = |number: &u32| self.values[*number as usize].is_some().then_some(*number);
        let numbers: UInt32Array = self.of.iter().map(there).collect();
        let values = StringArray::from_iter_values(self.values.iter().map(|text| text.unwrap_or_default()));
        Ok(DictionaryArray::try_new(numbers, Arc::new(values))?)
    }
}
