//! Rows become cells, by numbers instead of texts until the end.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, UInt32Type};
use foldhash::fast::RandomState;
use prism_model::{AttrType, Batch, ColumnId, Intrinsic, Signal, TableKind};

use super::count::Counts;
use super::edges::{EdgeBuilder, Span};
use super::{Cube, Key, Totals};

/// Nanoseconds of a minute.
const MINUTE_NANOS: i64 = 60_000_000_000;
/// Status of a span that failed.
const ERROR: i32 = 2;
/// Bytes of cells and sketches in memory, beyond which there is no cube.
const BYTES_MAX: usize = 128 << 20;
/// No number of a text.
const UNKNOWN: u32 = u32::MAX;

/// How large a cube may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CubeLimits {
    /// Cells, and calls between services.
    pub entries: usize,
    /// Spans that are remembered for calls between services, some 60 bytes each; beyond that, and where it is 0, there are none.
    pub edge_spans: usize,
}

impl Default for CubeLimits {
    fn default() -> CubeLimits {
        CubeLimits { entries: 100_000, edge_spans: 500_000 }
    }
}

/// Builds a cube.
pub struct CubeBuilder {
    signal: Signal,
    limits: CubeLimits,
    cells: Counts,
    services: Texts,
    names: Texts,
    rows: u64,
    running: u64,
    weighted: bool,
    edges: Option<EdgeBuilder>,
    /// There are too many cells, or rows that cannot be told by cells.
    unfit: bool,
}

/// Texts by number; 0 stands for none.
#[derive(Default)]
struct Texts {
    numbers: HashMap<Arc<str>, u32, RandomState>,
    texts: Vec<Arc<str>>,
    /// Bytes in memory, about.
    bytes: usize,
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text: Arc<str> = text.into();
        self.bytes += text.len() + 64;
        self.texts.push(text.clone());
        let number = self.texts.len() as u32;
        self.numbers.insert(text, number);
        number
    }

    fn text(&self, number: u32) -> Option<Arc<str>> {
        self.texts.get((number as usize).checked_sub(1)?).cloned()
    }

    /// The number of each row's text.
    fn of(&mut self, column: Option<&ArrayRef>, rows: usize) -> Vec<u32> {
        let Some(column) = column else { return vec![0; rows] };
        if let Some(dictionary) = column.as_dictionary_opt::<UInt32Type>() {
            let values = dictionary.values().as_string::<i32>();
            // Values are numbered when a row has them.
            let mut numbers = vec![UNKNOWN; values.len()];
            let mut of = |key: u32| {
                let number = &mut numbers[key as usize];
                if *number == UNKNOWN {
                    *number = self.number(values.value(key as usize));
                }
                *number
            };
            let keys = dictionary.keys();
            return match keys.nulls().filter(|nulls| nulls.null_count() > 0) {
                None => keys.values().iter().map(|key| of(*key)).collect(),
                Some(nulls) => {
                    keys.values().iter().zip(nulls).map(|(key, there)| if there { of(*key) } else { 0 }).collect()
                }
            };
        }
        if *column.data_type() != DataType::Utf8 {
            return vec![0; rows];
        }
        column.as_string::<i32>().iter().map(|text| text.map_or(0, |text| self.number(text))).collect()
    }
}

/// Whether a cube of a signal is built from a column.
pub(crate) fn wants(signal: Signal, table: TableKind, id: &ColumnId) -> bool {
    use Intrinsic::{
        Duration, Key, Kind, Name, ObservedTime, ParentId, Running, SamplingWeight, Severity, SpanId, Status, Time,
        TraceId,
    };
    match (table, id) {
        (TableKind::Resources, id) => is_service(id),
        (TableKind::Descriptors, ColumnId::Intrinsic(Name)) => signal == Signal::Metrics,
        (TableKind::Tail, ColumnId::Intrinsic(Key)) => true,
        (TableKind::Items, ColumnId::Intrinsic(id)) => match signal {
            Signal::Spans => matches!(
                id,
                Time | Duration | Name | Kind | Status | TraceId | SpanId | ParentId | Running | SamplingWeight
            ),
            Signal::Logs => matches!(id, Time | ObservedTime | Severity | SamplingWeight),
            Signal::Metrics => matches!(id, Time | SamplingWeight),
        },
        _ => false,
    }
}

fn is_service(id: &ColumnId) -> bool {
    matches!(id, ColumnId::Attr { key, ty: AttrType::Str } if **key == *"service.name")
}

impl CubeBuilder {
    /// A cube of no rows yet.
    pub fn new(signal: Signal, limits: CubeLimits) -> CubeBuilder {
        CubeBuilder {
            signal,
            limits,
            cells: Counts::default(),
            services: Texts::default(),
            names: Texts::default(),
            rows: 0,
            running: 0,
            weighted: false,
            edges: (signal == Signal::Spans && limits.edge_spans > 0).then(|| EdgeBuilder::new(limits.edge_spans)),
            unfit: false,
        }
    }

    /// Adds the rows of a batch of the signal.
    pub fn add(&mut self, batch: &Batch) {
        if self.unfit {
            return;
        }
        if service_in_tail(batch) || batch.signal != self.signal {
            return self.give_up();
        }
        let services = self.service_of_rows(batch);
        let times = batch.event_times();
        let items = batch.items();
        let weights =
            items.intrinsic(Intrinsic::SamplingWeight).and_then(|a| a.as_any().downcast_ref::<Float64Array>());
        self.weighted |= weights.is_some_and(|w| w.iter().flatten().any(|w| w != 1.0));
        let times = times.values();
        match self.signal {
            Signal::Spans => self.spans(batch, times, &services),
            Signal::Logs => {
                let severity = ints32(batch, Intrinsic::Severity);
                for (row, time) in times.iter().enumerate() {
                    self.cells.add(minute(*time), (services[row], 0, value(severity, row), 0));
                }
                self.rows += times.len() as u64;
            }
            Signal::Metrics => {
                let descriptors = batch.table(TableKind::Descriptors);
                let names = descriptors
                    .map_or_else(Vec::new, |table| self.names.of(table.intrinsic(Intrinsic::Name), table.rows()));
                let index = items.index(Intrinsic::Metric);
                for (row, time) in times.iter().enumerate() {
                    let metric = index.map_or(0, |index| index.value(row) as usize);
                    let name = names.get(metric).copied().unwrap_or_default();
                    self.cells.add(minute(*time), (services[row], name, 0, 0));
                }
                self.rows += times.len() as u64;
            }
        }
        if self.cells.len() > self.limits.entries || self.cells.cell_bytes() > BYTES_MAX {
            self.give_up();
        }
    }

    /// Bytes that it takes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        let texts: usize = [&self.services, &self.names].iter().map(|texts| texts.bytes).sum();
        self.cells.memory_bytes() + self.edges.as_ref().map_or(0, EdgeBuilder::memory_bytes) + texts
    }

    /// The cube; `None` where there would be too many entries, or some rows cannot be told by cells.
    pub fn finish(self) -> Option<Cube> {
        if self.unfit {
            return None;
        }
        let severity = self.signal == Signal::Logs;
        let mut cells: Vec<(Key, Totals)> = self
            .cells
            .finish()
            .map(|(minute, (service, name, kind, status), totals)| {
                let (service, name) = (self.services.text(service), self.names.text(name));
                let (kind, severity) = if severity { (0, kind) } else { (kind, 0) };
                (Key { minute, service, name, kind, status, severity }, totals)
            })
            .collect();
        cells.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let cube = Cube {
            signal: self.signal,
            rows: self.rows,
            running: self.running,
            weighted: self.weighted,
            cells,
            edges: self.edges.and_then(|edges| edges.finish(&|number| self.services.text(number))),
        };
        (cube.entries() <= self.limits.entries).then_some(cube)
    }

    fn give_up(&mut self) {
        *self = CubeBuilder { unfit: true, edges: None, ..CubeBuilder::new(self.signal, self.limits) };
    }

    fn service_of_rows(&mut self, batch: &Batch) -> Vec<u32> {
        let Some(resources) = batch.table(TableKind::Resources) else { return vec![0; batch.rows()] };
        let column = resources.column(&ColumnId::attr("service.name", AttrType::Str));
        let services = self.services.of(column, resources.rows());
        match batch.items().index(Intrinsic::Resource) {
            Some(index) => index.values().iter().map(|row| services[*row as usize]).collect(),
            None => vec![services[0]; batch.rows()],
        }
    }

    fn spans(&mut self, batch: &Batch, times: &[i64], services: &[u32]) {
        let items = batch.items();
        let names = self.names.of(items.intrinsic(Intrinsic::Name), batch.rows());
        let (kinds, states) = (ints32(batch, Intrinsic::Kind), ints32(batch, Intrinsic::Status));
        let durations = items.intrinsic(Intrinsic::Duration).and_then(|a| a.as_any().downcast_ref::<Int64Array>());
        let running = items.intrinsic(Intrinsic::Running).and_then(|a| a.as_any().downcast_ref::<BooleanArray>());
        let traces = Ids::<16>::of(batch, Intrinsic::TraceId);
        let (own, parents) = (Ids::<8>::of(batch, Intrinsic::SpanId), Ids::<8>::of(batch, Intrinsic::ParentId));
        for (row, time) in times.iter().enumerate() {
            if running.is_some_and(|r| r.is_valid(row) && r.value(row)) {
                self.running += 1;
                continue;
            }
            let (minute, service, status) = (minute(*time), services[row], value(states, row));
            let trace = traces.get(row);
            self.rows += 1;
            let cell = self.cells.add(minute, (service, names[row], value(kinds, row), status));
            let nanos = match durations {
                Some(durations) if durations.is_null(row) => None,
                Some(durations) => Some(durations.value(row)),
                None => Some(0),
            };
            if let Some(nanos) = nanos {
                self.cells.duration(cell, nanos, trace);
            }
            if let Some(edges) = &mut self.edges {
                let span = own.get(row).map(u64::from_le_bytes);
                let parent = parents.get(row).map(u64::from_le_bytes).filter(|parent| *parent != 0);
                edges.add(Span { trace, span, parent, service, minute, failed: status == ERROR });
            }
        }
    }
}

/// Whether a resource has a `service.name` that is in no column: cells would not know it.
pub(super) fn service_in_tail(batch: &Batch) -> bool {
    let Some(tail) = batch.table(TableKind::Tail) else { return false };
    let Some(keys) = tail.intrinsic(Intrinsic::Key) else { return false };
    let mut texts = Texts::default();
    let numbers = texts.of(Some(keys), tail.rows());
    let Some(service) = texts.numbers.get("service.name") else { return false };
    let of = tail.intrinsic(Intrinsic::Of).and_then(|a| a.as_any().downcast_ref::<arrow::array::UInt8Array>());
    let of_resource = |row: usize| of.is_none_or(|of| of.value(row) == TableKind::Resources as u8);
    numbers.iter().enumerate().any(|(row, number)| number == service && of_resource(row))
}

fn minute(time: i64) -> i64 {
    time.div_euclid(MINUTE_NANOS)
}

fn ints32(batch: &Batch, id: Intrinsic) -> Option<&Int32Array> {
    batch.items().intrinsic(id).and_then(|a| a.as_any().downcast_ref())
}

fn value(column: Option<&Int32Array>, row: usize) -> i32 {
    column.filter(|c| c.is_valid(row)).map_or(0, |c| c.value(row))
}

/// A column of ids; none where it is absent.
struct Ids<'a, const N: usize> {
    values: &'a [[u8; N]],
    nulls: Option<&'a NullBuffer>,
}

impl<'a, const N: usize> Ids<'a, N> {
    fn of(batch: &'a Batch, id: Intrinsic) -> Ids<'a, N> {
        let array = batch.items().intrinsic(id).and_then(|a| a.as_any().downcast_ref::<FixedSizeBinaryArray>());
        match array.filter(|array| array.value_size() == N) {
            Some(array) => Ids { values: array.value_data().as_chunks().0, nulls: array.nulls() },
            None => Ids { values: &[], nulls: None },
        }
    }

    fn get(&self, row: usize) -> Option<[u8; N]> {
        self.values.get(row).filter(|_| self.nulls.is_none_or(|nulls| nulls.is_valid(row))).copied()
    }
}
