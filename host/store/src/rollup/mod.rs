//! Rollups: what dashboards ask of many rows, counted once when the rows are sealed (QU-4).
//!
//! ```text
//! batches -> build (count: cells, edges) -> cube <-> bytes, in a block's footer or a Parquet file
//!                                    cube + cube -> merge
//!                                    cells (a batch whose rows stand for many), which queries read
//! ```
//!
//! A cell is all rows of a minute that have service, name, kind and status in common (spans), service and severity (logs), or
//! service and metric (points): their count, and for spans their durations and an exemplar. Cubes merge in any order to the
//! same bytes. A cube counts **rows**: `sampling_weight` is not in it, and [`Cube::is_weighted`] says whether any row has one.
//! Marks of spans that have started and not ended are not in it either, since their end may lie anywhere;
//! [`Cube::running`] counts them, and where there are any, rows must answer. Not here: which queries a cube answers (`query`).

mod build;
mod count;
mod edges;
mod bytes;
mod cells;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use prism_model::Signal;
use prism_model::sketch::Sketch;

pub(crate) use build::wants;
pub use build::{CubeBuilder, CubeLimits};
pub use cells::Cells;

/// The rollup of some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Cube {
    signal: Signal,
    rows: u64,
    running: u64,
    weighted: bool,
    /// Ascending.
    cells: Vec<(Key, Totals)>,
    edges: Option<Edges>,
}

/// What the rows of a cell have in common. What a signal does not have is 0 or `None`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    minute: i64,
    service: Option<Arc<str>>,
    name: Option<Arc<str>>,
    kind: i32,
    status: i32,
    severity: i32,
}

/// The rows of a cell.
#[derive(Clone, Debug, Default, PartialEq)]
struct Totals {
    count: u64,
    durations: Option<Durations>,
}

/// How long the spans of a cell took.
#[derive(Clone, Debug, PartialEq)]
struct Durations {
    sum: i128,
    min: i64,
    max: i64,
    exemplar: Option<[u8; 16]>,
    sketch: Sketch,
}

/// A cell of a cube.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'c> {
    /// Minutes since the unix epoch, by event time; rows of any minute may be in any block.
    pub minute: i64,
    /// `service.name` of the resource; `None` where it has none.
    pub service: Option<&'c str>,
    /// Name of a span or metric.
    pub name: Option<&'c str>,
    /// Kind of a span.
    pub kind: i32,
    /// Status of a span: 2 is an error.
    pub status: i32,
    /// Severity of a log record.
    pub severity: i32,
    /// Rows.
    pub count: u64,
    /// Durations of spans in nanoseconds, as the sketch that quantiles are computed with.
    pub durations: Option<&'c Sketch>,
    /// Sum of durations, nanoseconds; 0 where there are none.
    pub duration_sum: i128,
    /// Shortest and longest duration, nanoseconds.
    pub duration_range: Option<(i64, i64)>,
    /// Trace id of a span that took longest (of several the smallest id).
    pub exemplar: Option<&'c [u8; 16]>,
}

/// Calls between services, of traces that are wholly inside: each span's parent is there, and one that has none.
#[derive(Clone, Debug, Default, PartialEq)]
struct Edges {
    calls: BTreeMap<EdgeKey, (u64, u64)>,
    outside: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct EdgeKey {
    minute: i64,
    parent: Option<Arc<str>>,
    child: Option<Arc<str>>,
}

/// Calls from one service to another in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge<'c> {
    /// Minutes since the unix epoch, of the called span's start.
    pub minute: i64,
    /// Who called.
    pub parent: Option<&'c str>,
    /// Who was called: another one.
    pub child: Option<&'c str>,
    /// Spans of the called service whose parent is a span of the caller.
    pub count: u64,
    /// Those whose status is an error.
    pub errors: u64,
}

impl Cube {
    /// The cube of no rows.
    pub fn empty(signal: Signal) -> Cube {
        let edges = (signal == Signal::Spans).then(Edges::default);
        Cube { signal, rows: 0, running: 0, weighted: false, cells: Vec::new(), edges }
    }

    /// The signal of the rows.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Rows in the cells.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Marks of spans that have started, which are in no cell.
    pub fn running(&self) -> u64 {
        self.running
    }

    /// Whether some row has a sampling weight other than 1.
    pub fn is_weighted(&self) -> bool {
        self.weighted
    }

    /// The cells, ascending by minute, service, name, kind, status, severity.
    pub fn cells(&self) -> impl Iterator<Item = Cell<'_>> {
        self.cells.iter().map(|(key, totals)| Cell::of(key, totals))
    }

    /// Calls between services, ascending; `None` where they were too many spans to tell. Those of traces that are not wholly
    /// inside are not among them: [`Cube::traces_outside`].
    pub fn edges(&self) -> Option<impl Iterator<Item = Edge<'_>>> {
        self.edges.as_ref().map(|edges| {
            edges.calls.iter().map(|(key, (count, errors))| Edge {
                minute: key.minute,
                parent: key.parent.as_deref(),
                child: key.child.as_deref(),
                count: *count,
                errors: *errors,
            })
        })
    }

    /// Traces of which some span is here, and its parent or the root is not: their calls are not known. One that lies in
    /// several cubes counts in each.
    pub fn traces_outside(&self) -> u64 {
        self.edges.as_ref().map_or(0, |edges| edges.outside)
    }

    /// Adds all rows of another cube of the same signal.
    pub fn merge(&mut self, other: &Cube) {
        debug_assert_eq!(self.signal, other.signal);
        self.rows += other.rows;
        self.running += other.running;
        self.weighted |= other.weighted;
        let mut own = std::mem::take(&mut self.cells).into_iter().peekable();
        for (key, totals) in &other.cells {
            while let Some(before) = own.next_if(|(own, _)| own < key) {
                self.cells.push(before);
            }
            self.cells.push(match own.next_if(|(own, _)| own == key) {
                Some((key, mut both)) => {
                    both.merge(totals);
                    (key, both)
                }
                None => (key.clone(), totals.clone()),
            });
        }
        self.cells.extend(own);
        self.edges = self.edges.take().zip(other.edges.as_ref()).map(|(mut own, other)| {
            own.outside += other.outside;
            for (key, (count, errors)) in &other.calls {
                let calls = own.calls.entry(key.clone()).or_default();
                *calls = (calls.0 + count, calls.1 + errors);
            }
            own
        });
    }

    /// Bytes in memory, about; texts are shared, and count once in each cell.
    pub(crate) fn memory_bytes(&self) -> usize {
        let edges = self.edges.as_ref().map_or(0, |edges| edges.calls.len());
        let texts = |key: &Key| [&key.service, &key.name].into_iter().flatten().map(|text| text.len()).sum::<usize>();
        let cells = self.cells.iter().map(|(key, totals)| size_of::<Key>() + texts(key) + totals.bytes());
        size_of::<Cube>() + cells.sum::<usize>() + edges * 2 * size_of::<EdgeKey>()
    }

    /// Cells and edges.
    pub fn entries(&self) -> usize {
        self.cells.len() + self.edges.as_ref().map_or(0, |e| e.calls.len())
    }
}

impl<'c> Cell<'c> {
    fn of(key: &'c Key, totals: &'c Totals) -> Cell<'c> {
        let durations = totals.durations.as_ref();
        Cell {
            minute: key.minute,
            service: key.service.as_deref(),
            name: key.name.as_deref(),
            kind: key.kind,
            status: key.status,
            severity: key.severity,
            count: totals.count,
            durations: durations.map(|d| &d.sketch),
            duration_sum: durations.map_or(0, |d| d.sum),
            duration_range: durations.map(|d| (d.min, d.max)),
            exemplar: durations.and_then(|d| d.exemplar.as_ref()),
        }
    }
}

impl Totals {
    /// Bytes in memory, about.
    fn bytes(&self) -> usize {
        size_of::<Totals>() + self.durations.as_ref().map_or(0, |d| d.sketch.bytes())
    }

    fn merge(&mut self, other: &Totals) {
        self.count += other.count;
        match (&mut self.durations, &other.durations) {
            (Some(own), Some(other)) => own.merge(other),
            (own @ None, other) => *own = other.clone(),
            (Some(_), None) => {}
        }
    }
}

impl Durations {
    fn merge(&mut self, other: &Durations) {
        self.sum += other.sum;
        keep_longest((&mut self.max, &mut self.exemplar), (other.max, other.exemplar));
        self.min = self.min.min(other.min);
        self.sketch.merge(&other.sketch);
    }
}

/// Keeps the longest, of equal ones that with the smallest id, so that the order of adding does not matter.
fn keep_longest(own: (&mut i64, &mut Option<[u8; 16]>), (nanos, trace): (i64, Option<[u8; 16]>)) {
    let (max, exemplar) = own;
    if nanos > *max {
        (*max, *exemplar) = (nanos, trace);
    } else if nanos == *max && trace.is_some() && (exemplar.is_none() || trace < *exemplar) {
        *exemplar = trace;
    }
}
