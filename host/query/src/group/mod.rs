//! Groups rows and aggregates them, one part of the rows after another: parts merge in any order to the same result.
//!
//! ```text
//! values of a frame -> keys (numbers of groups) -> state (one accumulator over all groups) -> bytes -> merged -> columns
//! ```
//!
//! Not here: which rows (`scan`), formulas over the results (`finish`). An own operator instead of DataFusion's: keys that
//! are kept by value are numbered once a value instead of once a row, and every accumulator works on all groups at once.

pub(crate) mod distinct;
pub(crate) mod keys;
mod to;
mod hashes;
mod kept;
mod counter;
mod buckets;
pub(crate) mod distribution;
mod concurrency;
mod exemplars;
mod guest;
mod shape;
pub(crate) mod state;

use std::sync::Arc;

use arrow::array::{AsArray, BinaryBuilder, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use prism_model::window::TimeRange;
use prism_store::rollup::Cell;

use crate::eval::builder::ValsBuilder;
use crate::eval::node::{Level, Node, Unit};
use crate::eval::vals::Scalar;
use crate::eval::zone::TimeBin;
use crate::eval::{self, Rows, Vals};
use crate::plugins::Called;
use crate::rollup::Cells;
use guest::{Guest, Sessions};
use kept::{Kept, KeptRows};
use keys::Keys;
use state::State;

/// What is accumulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AccumulatorKind {
    Count,
    /// Sum and number, of which means are made too.
    Sum,
    Min,
    Max,
    Quantile,
    QuantileExact,
    Distinct,
    DistinctExact,
    /// For the standard deviation.
    Moments,
    First,
    Last,
    Top,
    /// The growth of counters.
    Counter,
    /// Quantiles of what metric points measured.
    Distribution,
    /// The most rows at one moment.
    Concurrency,
    /// Traces beside typical values.
    Exemplars,
    /// The tenant's own.
    Plugin,
}

impl AccumulatorKind {
    /// Whether it looks at values as numbers or in their order, and not only at which there are.
    pub(crate) fn computes(self) -> bool {
        use AccumulatorKind::{Counter, Exemplars, Max, Min, Moments, Quantile, QuantileExact, Sum};
        matches!(self, Sum | Min | Max | Quantile | QuantileExact | Moments | Counter | Exemplars)
    }

    /// Whether it goes by the rows' time.
    pub(crate) fn by_time(self) -> bool {
        use AccumulatorKind::{Concurrency, Counter, Distribution, Exemplars, First, Last};
        matches!(self, First | Last | Counter | Distribution | Concurrency | Exemplars)
    }
}

/// One accumulator of a query.
#[derive(Clone, Debug)]
pub(crate) struct Accumulator {
    pub(crate) kind: AccumulatorKind,
    /// What is accumulated; `None` counts rows.
    pub(crate) arg: Option<Node>,
    /// Which rows it sees.
    pub(crate) filter: Option<Node>,
    /// Of `arg`.
    pub(crate) unit: Unit,
    /// What else of a row it looks at.
    pub(crate) beside: Vec<Node>,
    /// Whose values they are: the row's, or one of its exemplars'.
    pub(crate) level: Level,
    /// Who aggregates, where that is a plugin: what it is given stands beside.
    pub(crate) plugin: Option<Arc<Called>>,
}

/// What is taken of an accumulator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Output {
    Value,
    Mean,
    Quantile(f64),
    /// The value by so many nanoseconds, as a rate per second.
    PerSecond(i64),
    /// The most frequent values.
    Top(usize),
    /// Counts by so many buckets of the group's values.
    Histogram(usize),
    /// The same, with buckets that all groups have.
    Heatmap(usize),
    /// So many of them.
    Exemplars(usize),
}

/// What rows tell that each stand for many.
pub(crate) struct Many<'a> {
    pub(crate) cells: &'a Cells,
    /// Which cell each row is; `None` where all of them are rows.
    pub(crate) picked: Option<&'a UInt32Array>,
    /// The field whose values are the cells' durations.
    pub(crate) duration: Option<usize>,
}

impl Many<'_> {
    pub(crate) fn len(&self) -> usize {
        self.picked.map_or_else(|| self.cells.len(), |picked| picked.len())
    }

    fn at(&self, row: usize) -> usize {
        self.picked.map_or(row, |picked| picked.value(row) as usize)
    }

    /// How many rows a row stands for.
    pub(crate) fn count(&self, row: usize) -> u64 {
        self.cells.counts()[self.at(row)]
    }

    fn cell(&self, row: usize) -> Option<Cell<'_>> {
        self.cells.get(self.at(row))
    }

    /// Whether durations are accumulated.
    fn of_durations(&self, accumulator: &Accumulator) -> bool {
        matches!(accumulator.arg, Some(Node::Field(field)) if self.duration == Some(field))
    }
}

/// How rows are grouped and what is made of each group.
#[derive(Clone, Debug)]
pub(crate) struct GroupSpec {
    /// Group by these.
    pub(crate) keys: Vec<Node>,
    pub(crate) accumulators: Vec<Accumulator>,
    /// The row's time, where some accumulator goes by it.
    pub(crate) time: Option<Node>,
    /// The range of the rows.
    pub(crate) range: TimeRange,
    /// The time of the query.
    pub(crate) now: i64,
    /// The key that is a bin of the rows' time.
    pub(crate) bin: Option<(usize, TimeBin)>,
    /// How much later than they happened rows count in their bins: 0 but for the earlier range of a comparison.
    pub(crate) later: i64,
}

impl GroupSpec {
    /// Every node that is evaluated for a row.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        let accumulators = self.accumulators.iter().flat_map(|a| a.arg.iter().chain(&a.filter).chain(&a.beside));
        self.keys.iter().chain(accumulators).chain(&self.time)
    }

    /// The end of the range in the time of the bins.
    fn until(&self) -> i64 {
        if self.range.to == i64::MAX { i64::MAX } else { self.range.to.saturating_add(self.later) }
    }

    /// The form in which groups travel: a column of bytes for each key, then for each accumulator.
    pub(crate) fn schema(&self) -> SchemaRef {
        let keys = (0..self.keys.len()).map(|i| Field::new(format!("k{i}"), DataType::Binary, true));
        let states = (0..self.accumulators.len()).map(|i| Field::new(format!("a{i}"), DataType::Binary, false));
        // A batch without columns would lose its number of rows on the way.
        let rows = std::iter::once(Field::new("groups", DataType::UInt32, false));
        Arc::new(Schema::new(keys.chain(states).chain(rows).collect::<Vec<_>>()))
    }
}

/// The groups of the rows seen so far.
#[derive(Debug)]
pub(crate) struct Groups {
    keys: Keys,
    states: Vec<State>,
    sessions: Sessions,
}

impl Groups {
    pub(crate) fn new(spec: &GroupSpec) -> Groups {
        let mut sessions = Sessions::default();
        let states = spec.accumulators.iter().map(|a| match &a.plugin {
            Some(called) => State::Guest(Guest::new(a, called, &mut sessions)),
            None => State::new(a.kind),
        });
        Groups { keys: Keys::new(spec.keys.len()), states: states.collect(), sessions }
    }

    /// Groups so far.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.bytes() + self.states.iter().map(State::bytes).sum::<usize>() + self.sessions.bytes()
    }

    /// Adds the rows of a frame, or those that each stand for `many`.
    pub(crate) fn add(&mut self, spec: &GroupSpec, rows: &dyn Rows, many: Option<&Many<'_>>) -> Result<(), ArrowError> {
        let len = rows.len(Level::Row);
        if len == 0 {
            return Ok(());
        }
        let mut codes = Vec::with_capacity(spec.keys.len());
        for (i, key) in spec.keys.iter().enumerate() {
            let at = eval::vals(key, rows)?;
            let of_level = self.keys.codes(i, &at.of);
            codes.push(match at.level {
                Level::Row => of_level,
                Level::One => vec![of_level.first().copied().unwrap_or(0); len],
                level => {
                    let index = rows.lift(level, Level::Row)?;
                    index.values().iter().map(|r| of_level[*r as usize]).collect()
                }
            });
        }
        let groups = self.keys.groups(&codes, len);
        let groups = groups.as_deref();
        let count = self.keys.len();
        let times = spec.time.as_ref().map(|t| eval::vals_at(t, Level::Row, rows)).transpose()?;
        for (accumulator, state) in spec.accumulators.iter().zip(&mut self.states) {
            state.grow(count);
            let filter = accumulator.filter.as_ref().map(|f| eval::mask_at(f, Level::Row, rows)).transpose()?;
            if let (State::Guest(guest), Some(called)) = (&mut *state, &accumulator.plugin) {
                guest.add(accumulator, called, rows, groups, filter.as_ref())?;
                continue;
            }
            if let State::Kept(kept) = state {
                keep(kept.as_mut(), accumulator, rows, groups, filter.as_ref(), times.as_ref())?;
                continue;
            }
            if let Some(many) = many.filter(|many| many.of_durations(accumulator)) {
                state.update_durations(groups, len, filter.as_ref(), many);
                continue;
            }
            let arg = accumulator.arg.as_ref().map(|a| eval::vals_at(a, Level::Row, rows)).transpose()?;
            match many {
                Some(many) => state.update_many(groups, len, arg.as_ref(), filter.as_ref(), many),
                None => state.update(groups, len, arg.as_ref(), filter.as_ref(), times.as_ref()),
            }
        }
        Ok(())
    }

    /// Adds rows of which only the distinct values are known: by accumulator, `None` for those that count rows.
    pub(crate) fn add_values(&mut self, rows: usize, values: &[Option<Vals>]) {
        self.keys.groups(&[], rows);
        for (state, values) in self.states.iter_mut().zip(values) {
            state.grow(1);
            let len = values.as_ref().map_or(rows, |values| values.len);
            state.update(None, len, values.as_ref(), None, None);
        }
    }

    /// Whether they can be added to as they are: those that guests keep go on as bytes, so that no instance is held.
    pub(crate) fn stay(&self) -> bool {
        !self.states.iter().any(|state| matches!(state, State::Guest(_)))
    }

    /// The groups as they travel to where they are merged.
    pub(crate) fn into_batch(mut self, spec: &GroupSpec) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<arrow::array::ArrayRef> = Vec::with_capacity(spec.keys.len() + self.states.len() + 1);
        for key in 0..spec.keys.len() {
            let mut builder = BinaryBuilder::new();
            for group in 0..self.len() {
                builder.append_value(self.keys.value(group, key));
            }
            columns.push(Arc::new(builder.finish()));
        }
        let len = self.len();
        for state in &mut self.states {
            if let State::Guest(guest) = state {
                columns.push(Arc::new(guest.states(len)?));
                continue;
            }
            let mut builder = BinaryBuilder::new();
            let mut bytes = Vec::new();
            for group in 0..len {
                bytes.clear();
                state.write(group, &mut bytes);
                builder.append_value(&bytes);
            }
            columns.push(Arc::new(builder.finish()));
        }
        columns.push(Arc::new(UInt32Array::from_iter_values(0..len as u32)));
        RecordBatch::try_new(spec.schema(), columns)
    }

    /// Adds groups that travelled.
    pub(crate) fn merge(&mut self, spec: &GroupSpec, batch: &RecordBatch) -> Result<(), ArrowError> {
        let len = batch.num_rows();
        let mut codes = Vec::with_capacity(spec.keys.len());
        for key in 0..spec.keys.len() {
            let bytes = batch.column(key).as_binary::<i32>();
            codes.push((0..len).map(|row| self.keys.code_of_bytes(key, bytes.value(row))).collect::<Vec<u32>>());
        }
        let groups = self.keys.groups(&codes, len);
        let count = self.keys.len();
        for (i, state) in self.states.iter_mut().enumerate() {
            state.grow(count);
            let bytes = batch.column(spec.keys.len() + i).as_binary::<i32>();
            if let State::Guest(guest) = state {
                guest.merge(groups.as_deref(), bytes)?;
                continue;
            }
            for row in 0..len {
                let group = groups.as_ref().map_or(0, |g| g[row] as usize);
                state
                    .merge(group, bytes.value(row))
                    .ok_or_else(|| ArrowError::ComputeError("a group's state cannot be read".into()))?;
            }
        }
        Ok(())
    }

    /// What should be known about rows that accumulators could make nothing of.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let unfit = self.states.iter().filter_map(|state| match state {
            State::Kept(kept) => kept.unfit(),
            _ => None,
        });
        unfit.map(|(rows, why)| format!("{rows} {why}")).collect()
    }

    /// The keys, then the outputs, as columns; without keys there is one group even of no rows. `None` where rows last over
    /// more bins than `bins_max`.
    pub(crate) fn finish(
        mut self,
        spec: &GroupSpec,
        outputs: &[(usize, Output, Unit)],
        bins_max: usize,
    ) -> Result<Option<(usize, Vec<Vals>)>, ArrowError> {
        if spec.keys.is_empty() && self.len() == 0 {
            self.keys.groups(&[], 1);
            self.states.iter_mut().for_each(|s| s.grow(1));
        }
        let Some(at_once) = concurrency::in_bins(&mut self.keys, &self.states, spec, bins_max) else { return Ok(None) };
        let len = self.len();
        self.states.iter_mut().for_each(|state| state.grow(len));
        let mut columns = Vec::with_capacity(spec.keys.len() + outputs.len());
        for key in 0..spec.keys.len() {
            let mut builder = ValsBuilder::new();
            (0..len).for_each(|group| builder.push_encoded(self.keys.value(group, key)));
            columns.push(builder.finish());
        }
        for (state, output, _) in outputs {
            if let State::Guest(guest) = &mut self.states[*state] {
                columns.push(guest.outputs(len)?);
                continue;
            }
            let mut builder = ValsBuilder::new();
            let accumulator = &spec.accumulators[*state];
            match (&self.states[*state], at_once.get(state)) {
                (State::Kept(_), Some(most)) => {
                    (0..len).for_each(|group| builder.push(Scalar::Int(most.get(&group).copied().unwrap_or(0))));
                }
                (State::Kept(kept), None) => {
                    kept.outputs(*output, accumulator, spec).into_iter().for_each(|scalar| builder.push(scalar));
                }
                (state, _) => match state.shapes(*output, accumulator.unit) {
                    Some(shapes) => shapes.into_iter().for_each(|scalar| builder.push(scalar)),
                    None => (0..len).for_each(|group| builder.push(state.output(group, *output))),
                },
            }
            let column = builder.finish();
            // A sum of doubles in one group makes all of them doubles: a column has one type where it can.
            let sums = matches!((&self.states[*state], output), (State::Sum(_) | State::Kept(_), Output::Value));
            columns.push(if sums && column.double.is_some() { as_doubles(&column) } else { column });
        }
        Ok(Some((len, columns)))
    }
}

/// Adds rows, or what belongs to them, to an accumulator that looks at more than one value.
fn keep(
    kept: &mut dyn Kept,
    accumulator: &Accumulator,
    rows: &dyn Rows,
    groups: Option<&[u32]>,
    filter: Option<&BooleanBuffer>,
    times: Option<&Vals>,
) -> Result<(), ArrowError> {
    let level = accumulator.level;
    let arg = accumulator.arg.as_ref().map(|a| eval::vals_at(a, level, rows)).transpose()?;
    let beside = accumulator.beside.iter().map(|b| eval::vals_at(b, level, rows));
    let beside: Vec<Vals> = beside.collect::<Result<_, _>>()?;
    if level == Level::Row {
        let len = rows.len(level);
        kept.add(&KeptRows { groups, len, arg: arg.as_ref(), filter, times, beside: &beside });
        return Ok(());
    }
    let parents = rows.parents(level)?;
    let of_parent = |parent: &u32| groups.map_or(0, |groups| groups[*parent as usize]);
    let groups: Vec<u32> = parents.values().iter().map(of_parent).collect();
    let filter = filter
        .map(|filter| BooleanBuffer::collect_bool(parents.len(), |child| filter.value(parents.value(child) as usize)));
    let times = times.map(|times| times.take(&parents)).transpose()?;
    kept.add(&KeptRows {
        groups: Some(&groups),
        len: parents.len(),
        arg: arg.as_ref(),
        filter: filter.as_ref(),
        times: times.as_ref(),
        beside: &beside,
    });
    Ok(())
}

fn as_doubles(numbers: &Vals) -> Vals {
    Vals::of_doubles((0..numbers.len).map(|row| numbers.number(row)).collect())
}

/// Rows that an accumulator sees: those of the filter that have a value.
fn seen(len: usize, arg: Option<&Vals>, filter: Option<&BooleanBuffer>) -> Option<BooleanBuffer> {
    let present = arg.map(Vals::present).filter(|p| p.count_set_bits() < len);
    match (present, filter) {
        (None, None) => None,
        (Some(present), None) => Some(present),
        (None, Some(filter)) => Some(filter.clone()),
        (Some(present), Some(filter)) => Some(&present & filter),
    }
}
