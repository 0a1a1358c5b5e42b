//! Rows become cells, by numbers instead of texts until the end.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
};
use arrow::datatypes::{DataType, UInt32Type};
use foldhash::fast::RandomState;
use prism_model::{AttrType, Batch, ColumnId, Intrinsic, Signal, TableKind};

use super::edges::{EdgeBuilder, Span};
use super::{Cube, Durations, Key, Totals};

/// Nanoseconds of a minute.
const MINUTE_NANOS: i64 = 60_000_000_000;
/// Status of a span that failed.
const ERROR: i32 = 2;
/// Bytes of cells and sketches in memory, beyond which there is no cube.
const BYTES_MAX: usize = 128 << 20;
/// Fewer cells than this are not worth measuring.
const CELLS_MEASURED: usize = 4_096;

/// How large a cube may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CubeLimits {
    /// Cells, and calls between services.
    pub entries: usize,
    /// Spans that are remembered for calls between services, some 60 bytes each; beyond that there are none.
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
    cells: HashMap<CellKey, Totals, RandomState>,
    services: Texts,
    names: Texts,
    rows: u64,
    running: u64,
    weighted: bool,
    edges: Option<EdgeBuilder>,
    /// There are too many cells, or rows that cannot be told by cells.
    unfit: bool,
}

/// Minute, service, name, kind or severity, status.
type CellKey = (i64, u32, u32, i32, i32);

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
            let mut numbers: Vec<Option<u32>> = vec![None; values.len()];
            let of = |key: Option<u32>| {
                let key = key? as usize;
                Some(*numbers[key].get_or_insert_with(|| self.number(values.value(key))))
            };
            return dictionary.keys().iter().map(of).map(Option::unwrap_or_default).collect();
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
            cells: HashMap::default(),
            services: Texts::default(),
            names: Texts::default(),
            rows: 0,
            running: 0,
            weighted: false,
            edges: (signal == Signal::Spans).then(|| EdgeBuilder::new(limits.edge_spans)),
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
                    self.cell((minute(*time), services[row], 0, value(severity, row), 0)).count += 1;
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
                    self.cell((minute(*time), services[row], name, 0, 0)).count += 1;
                }
                self.rows += times.len() as u64;
            }
        }
        let large = self.cells.len() > CELLS_MEASURED && self.cell_bytes() > BYTES_MAX;
        if self.cells.len() > self.limits.entries || large {
            self.give_up();
        }
    }

    /// Bytes that it takes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        let texts: usize = [&self.services, &self.names].iter().map(|texts| texts.bytes).sum();
        self.cell_bytes() + self.edges.as_ref().map_or(0, EdgeBuilder::memory_bytes) + texts
    }

    fn cell_bytes(&self) -> usize {
        self.cells.values().map(Totals::bytes).sum()
    }

    /// The cube; `None` where there would be too many entries, or some rows cannot be told by cells.
    pub fn finish(self) -> Option<Cube> {
        if self.unfit {
            return None;
        }
        let severity = self.signal == Signal::Logs;
        let mut cells: Vec<(Key, Totals)> = self
            .cells
            .into_iter()
            .map(|((minute, service, name, kind, status), totals)| {
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

    fn cell(&mut self, key: CellKey) -> &mut Totals {
        self.cells.entry(key).or_default()
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
        let ids = |id| items.intrinsic(id).and_then(|a| a.as_any().downcast_ref::<FixedSizeBinaryArray>());
        let (traces, own, parents) = (ids(Intrinsic::TraceId), ids(Intrinsic::SpanId), ids(Intrinsic::ParentId));
        for (row, time) in times.iter().enumerate() {
            if running.is_some_and(|r| r.is_valid(row) && r.value(row)) {
                self.running += 1;
                continue;
            }
            let (minute, service, status) = (minute(*time), services[row], value(states, row));
            let trace = id(traces, row);
            self.rows += 1;
            let totals = self.cells.entry((minute, service, names[row], value(kinds, row), status)).or_default();
            totals.count += 1;
            let nanos = match durations {
                Some(durations) if durations.is_null(row) => None,
                Some(durations) => Some(durations.value(row)),
                None => Some(0),
            };
            if let Some(nanos) = nanos {
                totals.durations.get_or_insert_default().add(nanos, trace);
            }
            if let Some(edges) = &mut self.edges {
                let span = id(own, row).map(u64::from_le_bytes);
                let parent = id(parents, row).map(u64::from_le_bytes).filter(|parent| *parent != 0);
                edges.add(Span { trace, span, parent, service, minute, failed: status == ERROR });
            }
        }
    }
}

impl Totals {
    /// Bytes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        size_of::<(CellKey, Totals)>() + self.durations.as_ref().map_or(0, |d: &Durations| d.sketch.bytes())
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

fn id<const N: usize>(column: Option<&FixedSizeBinaryArray>, row: usize) -> Option<[u8; N]> {
    column.filter(|c| c.is_valid(row)).and_then(|c| c.value(row).try_into().ok())
}
