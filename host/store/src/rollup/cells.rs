//! A cube as a batch whose rows stand for many: conditions, keys and values are then those of any rows. Made once, for all
//! queries that ask the cube.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, DictionaryArray, Int32Array, Int64Array, StringArray, UInt32Array};
use arrow::datatypes::UInt32Type;
use prism_model::window::TimeRange;
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Signal, Table, TableKind};

use super::{Cell, Cube, Key};
use crate::error::StoreError;

/// A cube's unit of time, nanoseconds.
const MINUTE_NANOS: i64 = 60_000_000_000;

/// The cells of a cube by number, ascending as [`Cube::cells`], and as columns.
#[derive(Debug)]
pub struct Cells {
    cube: Cube,
    counts: Vec<u64>,
    batch: Batch,
}

impl Cells {
    /// The cells of a cube.
    ///
    /// # Errors
    /// `Bug` where they make no batch.
    pub fn of(cube: Cube) -> Result<Cells, StoreError> {
        let counts = cube.cells.iter().map(|(_, totals)| totals.count).collect();
        let batch = batch(&cube)?;
        Ok(Cells { cube, counts, batch })
    }

    /// Whose they are.
    pub fn cube(&self) -> &Cube {
        &self.cube
    }

    /// The rows that each stands for.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// One of them; `None` where there are fewer.
    pub fn get(&self, number: usize) -> Option<Cell<'_>> {
        self.cube.cells.get(number).map(|(key, totals)| Cell::of(key, totals))
    }

    /// Those of the minutes that lie wholly in a range.
    pub fn within(&self, range: TimeRange) -> Range<usize> {
        let cells = &self.cube.cells;
        let start = |key: &Key| key.minute.saturating_mul(MINUTE_NANOS);
        let first = cells.partition_point(|(key, _)| start(key) < range.from);
        let covered = |(key, _): &(Key, _)| range.covers(start(key), start(key).saturating_add(MINUTE_NANOS - 1));
        first..first + cells[first..].partition_point(covered)
    }

    /// Some of them as rows of their signal: start of the minute as the time, service, name, kind, status, severity.
    ///
    /// # Errors
    /// `Bug` where they make no batch.
    pub fn rows(&self, of: Range<usize>) -> Result<Batch, StoreError> {
        if of == (0..self.counts.len()) {
            return Ok(self.batch.clone());
        }
        let cut = |table: &Table| {
            if table.kind() != TableKind::Items {
                return Ok(table.clone());
            }
            let slice =
                |column: &Column| Column { id: column.id.clone(), array: column.array.slice(of.start, of.len()) };
            Table::try_new(TableKind::Items, of.len(), table.columns().iter().map(slice).collect()).map_err(bad)
        };
        let tables = self.batch.tables().iter().map(cut).collect::<Result<Vec<_>, _>>()?;
        Batch::try_new(self.cube.signal, Vec::new(), tables).map_err(bad)
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        self.cube.memory_bytes() + self.batch.memory_bytes() + self.counts.len() * size_of::<u64>()
    }
}

fn bad(error: impl std::fmt::Display) -> StoreError {
    StoreError::Rows(format!("the cells of a rollup: {error}"))
}

fn batch(cube: &Cube) -> Result<Batch, StoreError> {
    let keys = || cube.cells.iter().map(|(key, _)| key);
    let column = |id: Intrinsic, array: ArrayRef| Column { id: id.into(), array };
    let ints = |of: &dyn Fn(&Key) -> i32| Arc::new(keys().map(of).collect::<Int32Array>()) as ArrayRef;
    let times = keys().map(|key| key.minute.saturating_mul(MINUTE_NANOS));
    let (resources, services) = Texts::of(keys().map(|key| key.service.as_deref())).numbered();
    let names = Texts::of(keys().map(|key| key.name.as_deref()));
    let mut items = vec![
        column(Intrinsic::Time, Arc::new(Int64Array::from_iter_values(times))),
        column(Intrinsic::Resource, Arc::new(resources)),
    ];
    let mut descriptors = None;
    match cube.signal {
        Signal::Spans => {
            items.push(column(Intrinsic::Name, Arc::new(names.dictionary()?)));
            items.push(column(Intrinsic::Kind, ints(&|key| key.kind)));
            items.push(column(Intrinsic::Status, ints(&|key| key.status)));
        }
        Signal::Logs => items.push(column(Intrinsic::Severity, ints(&|key| key.severity))),
        Signal::Metrics => {
            let (metrics, names) = names.numbered();
            items.push(column(Intrinsic::Metric, Arc::new(metrics)));
            descriptors = Some(column(Intrinsic::Name, Arc::new(names)));
        }
    }
    let service = Column { id: ColumnId::attr("service.name", AttrType::Str), array: Arc::new(services) };
    let mut tables = vec![Table::try_new(TableKind::Items, cube.cells.len(), items).map_err(bad)?];
    for (kind, column) in [(TableKind::Resources, Some(service)), (TableKind::Descriptors, descriptors)] {
        if let Some(column) = column {
            tables.push(Table::try_new(kind, column.array.len(), vec![column]).map_err(bad)?);
        }
    }
    Batch::try_new(cube.signal, Vec::new(), tables).map_err(bad)
}

/// Texts by value.
#[derive(Default)]
struct Texts<'c> {
    values: Vec<Option<&'c str>>,
    of: Vec<u32>,
}

impl<'c> Texts<'c> {
    fn of(texts: impl Iterator<Item = Option<&'c str>>) -> Texts<'c> {
        let mut numbers: HashMap<Option<&str>, u32, foldhash::fast::RandomState> = HashMap::default();
        let mut all = Texts::default();
        for text in texts {
            let number = *numbers.entry(text).or_insert_with(|| {
                all.values.push(text);
                all.values.len() as u32 - 1
            });
            all.of.push(number);
        }
        all
    }

    /// The number of each text, and the values; one at least, as in interned tables.
    fn numbered(mut self) -> (UInt32Array, StringArray) {
        if self.values.is_empty() {
            self.values.push(None);
        }
        (UInt32Array::from(self.of), StringArray::from(self.values))
    }

    /// The texts as a column.
    fn dictionary(self) -> Result<DictionaryArray<UInt32Type>, StoreError> {
        let there = |number: &u32| self.values[*number as usize].is_some().then_some(*number);
        let numbers: UInt32Array = self.of.iter().map(there).collect();
        let values = StringArray::from_iter_values(self.values.iter().map(|text| text.unwrap_or_default()));
        DictionaryArray::try_new(numbers, Arc::new(values)).map_err(bad)
    }
}
