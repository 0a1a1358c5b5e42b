//! One accumulator over all groups: how rows change it, how parts merge, what it gives.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use arrow::array::Array;
use arrow::buffer::BooleanBuffer;
use prism_model::Value;
use prism_model::sketch::{Sketch, rank};
use prism_model::varint::{put, take};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::concurrency::Concurrency;
use super::counter::Counter;
use super::distinct::Distinct;
use super::distribution::Distribution;
use super::exemplars::Exemplars;
use super::guest::Guest;
use super::hashes::{each_value, hash_of, hashes};
use super::kept::Kept;
use super::shape::{Values, heatmap, histograms};
use super::to::To;
use super::{AccumulatorKind, Many, Output, seen};
use crate::encode;
use crate::eval::node::Unit;
use crate::eval::vals::{Scalar, Vals};

/// Distinct values that one `top` tells apart in a group; values that come later are counted as far as there is room, so that
/// a query over unique ids does not take all memory.
const TOP_VALUES_MAX: usize = 100_000;

/// An encoded value; empty for none.
type Bytes = Box<[u8]>;

/// A sum with its parts kept apart: ints exactly.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    ints: i128,
    doubles: f64,
    count: u64,
    any_double: bool,
}

/// Number, mean and sum of squared distances (Welford, merged after Chan).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    n: f64,
    mean: f64,
    squares: f64,
}

/// The value of the earliest or latest row.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    time: i64,
    value: Bytes,
}

#[derive(Debug)]
pub(crate) enum State {
    Count(Vec<u64>),
    Sum(Vec<Sum>),
    /// Least or greatest: the order that a better value has to the one so far.
    Best(Ordering, Vec<Bytes>),
    Quantile(Vec<Sketch>),
    QuantileExact(Vec<Vec<f64>>),
    Distinct(Vec<Distinct>),
    DistinctExact(Vec<HashSet<u128, foldhash::fast::FixedState>>),
    Moments(Vec<Moments>),
    End(Ordering, Vec<End>),
    Top(Vec<HashMap<Bytes, u64>>),
    /// What is settled when all groups are there.
    Kept(Box<dyn Kept>),
    /// What a plugin keeps.
    Guest(Guest),
}

impl State {
    pub(crate) fn new(kind: AccumulatorKind) -> State {
        match kind {
            AccumulatorKind::Count => State::Count(Vec::new()),
            AccumulatorKind::Sum => State::Sum(Vec::new()),
            AccumulatorKind::Min => State::Best(Ordering::Less, Vec::new()),
            AccumulatorKind::Max => State::Best(Ordering::Greater, Vec::new()),
            AccumulatorKind::Quantile => State::Quantile(Vec::new()),
            AccumulatorKind::QuantileExact => State::QuantileExact(Vec::new()),
            AccumulatorKind::Distinct => State::Distinct(Vec::new()),
            AccumulatorKind::DistinctExact => State::DistinctExact(Vec::new()),
            AccumulatorKind::Moments => State::Moments(Vec::new()),
            AccumulatorKind::First => State::End(Ordering::Less, Vec::new()),
            AccumulatorKind::Last => State::End(Ordering::Greater, Vec::new()),
            AccumulatorKind::Top => State::Top(Vec::new()),
            AccumulatorKind::Counter => State::Kept(Box::<Counter>::default()),
            AccumulatorKind::Distribution => State::Kept(Box::<Distribution>::default()),
            AccumulatorKind::Concurrency => State::Kept(Box::<Concurrency>::default()),
            AccumulatorKind::Exemplars => State::Kept(Box::<Exemplars>::default()),
            // Made with the plugin that it is: see `Groups::new`.
            AccumulatorKind::Plugin => State::Count(Vec::new()),
        }
    }

    /// Makes room for so many groups.
    pub(crate) fn grow(&mut self, groups: usize) {
        match self {
            State::Count(of) => of.resize(groups, 0),
            State::Sum(of) => of.resize(groups, Sum::default()),
            State::Best(_, of) => of.resize(groups, Bytes::default()),
            State::Quantile(of) => of.resize(groups, Sketch::default()),
            State::QuantileExact(of) => of.resize(groups, Vec::new()),
            State::Distinct(of) => of.resize(groups, Distinct::default()),
            State::DistinctExact(of) => of.resize_with(groups, HashSet::default),
            State::Moments(of) => of.resize(groups, Moments::default()),
            State::End(_, of) => of.resize(groups, End::default()),
            State::Top(of) => of.resize_with(groups, HashMap::new),
            State::Kept(of) => of.grow(groups),
            State::Guest(of) => of.grow(groups),
        }
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            State::Count(of) => of.len() * 8,
            State::Sum(of) => of.len() * size_of::<Sum>(),
            State::Best(_, of) => of.iter().map(|b| b.len() + 32).sum(),
            State::Quantile(of) => of.iter().map(Sketch::bytes).sum(),
            State::QuantileExact(of) => of.iter().map(|v| v.capacity() * 8 + 24).sum(),
            State::Distinct(of) => of.iter().map(Distinct::bytes).sum(),
            State::DistinctExact(of) => of.iter().map(|s| s.capacity() * 17 + 48).sum(),
            State::Moments(of) => of.len() * size_of::<Moments>(),
            State::End(_, of) => of.iter().map(|e| e.value.len() + 40).sum(),
            State::Top(of) => of.iter().map(|m| m.capacity() * 64 + 48).sum(),
            State::Kept(of) => of.bytes(),
            // Its instance's memory is counted once for all that share it.
            State::Guest(_) => 0,
        }
    }

    /// Adds rows. `groups` gives each row's group; `None` is group 0 for all.
    pub(crate) fn update(
        &mut self,
        groups: Option<&[u32]>,
        len: usize,
        arg: Option<&Vals>,
        filter: Option<&BooleanBuffer>,
        times: Option<&Vals>,
    ) {
        let seen = seen(len, arg, filter);
        let to = To { groups, len, seen: seen.as_ref() };
        match self {
            State::Count(counts) => match (groups, &seen) {
                (None, None) => counts[0] += len as u64,
                (None, Some(seen)) => counts[0] += seen.count_set_bits() as u64,
                (Some(groups), None) => groups.iter().for_each(|g| counts[*g as usize] += 1),
                (Some(_), Some(_)) => to.each(|group, _| counts[group] += 1),
            },
            State::Sum(sums) => {
                let Some(arg) = arg else { return };
                if let Some(ints) = &arg.int {
                    to.each(|group, row| {
                        if ints.is_valid(row) {
                            sums[group].ints += i128::from(ints.value(row));
                            sums[group].count += 1;
                        }
                    });
                }
                if let Some(doubles) = &arg.double {
                    to.each(|group, row| {
                        if doubles.is_valid(row) {
                            sums[group].doubles += doubles.value(row);
                            sums[group].count += 1;
                            sums[group].any_double = true;
                        }
                    });
                }
            }
            State::Quantile(sketches) => to.numbers(arg, |group, value| sketches[group].add(value)),
            State::QuantileExact(all) => to.numbers(arg, |group, value| {
                if !value.is_nan() {
                    all[group].push(value);
                }
            }),
            State::Moments(moments) => to.numbers(arg, |group, value| moments[group].add(value)),
            State::Distinct(distinct) => {
                let Some(arg) = arg else { return };
                if let (None, [all]) = (to.groups, &mut distinct[..])
                    && each_value(arg, to.seen, |kind, bytes| all.add(hash_of(kind, bytes)))
                {
                    return;
                }
                let hashes = hashes(arg, hash_of);
                to.each(|group, row| distinct[group].add(hashes[row]));
            }
            State::DistinctExact(distinct) => {
                let Some(arg) = arg else { return };
                let hashes = hashes(arg, |kind, bytes| xxh3_128_with_seed(bytes, u64::from(kind)));
                to.each(|group, row| {
                    distinct[group].insert(hashes[row]);
                });
            }
            State::Best(better, best) => update_best(*better, best, arg, &to),
            State::End(better, ends) => {
                let (Some(arg), Some(times)) = (arg, times) else { return };
                let mut bytes = Vec::new();
                to.each(|group, row| {
                    let Scalar::Int(time) = times.get(row) else { return };
                    let end = &mut ends[group];
                    if !end.value.is_empty() && time.cmp(&end.time) == better.reverse() {
                        return;
                    }
                    bytes.clear();
                    encode::encode(&arg.get(row), &mut bytes);
                    end.offer(*better, time, &bytes);
                });
            }
            // See more than an argument: see `keep` and `Guest::add`.
            State::Kept(_) | State::Guest(_) => {}
            State::Top(tops) => {
                let Some(arg) = arg else { return };
                let mut bytes = Vec::new();
                to.each(|group, row| {
                    bytes.clear();
                    encode::encode(&arg.get(row), &mut bytes);
                    add_top(&mut tops[group], &bytes, 1);
                });
            }
        }
    }

    /// Adds rows that each stand for many. Only what [`crate::rollup::Fit`] lets through is asked for.
    pub(crate) fn update_many(
        &mut self,
        groups: Option<&[u32]>,
        len: usize,
        arg: Option<&Vals>,
        filter: Option<&BooleanBuffer>,
        many: &Many<'_>,
    ) {
        let group = |row: usize| groups.map_or(0, |g| g[row] as usize);
        let seen = seen(len, arg, filter);
        let rows = (0..len).filter(|row| seen.as_ref().is_none_or(|seen| seen.value(*row)));
        match (self, arg) {
            (State::Count(counts), _) => rows.for_each(|row| counts[group(row)] += many.count(row)),
            (State::Top(tops), Some(arg)) => {
                let mut bytes = Vec::new();
                rows.for_each(|row| {
                    bytes.clear();
                    encode::encode(&arg.get(row), &mut bytes);
                    add_top(&mut tops[group(row)], &bytes, many.count(row));
                });
            }
            // A value counts once, however many rows have it.
            (state, arg) => state.update(groups, len, arg, filter, None),
        }
    }

    /// Adds the durations of rows that each stand for many.
    pub(crate) fn update_durations(
        &mut self,
        groups: Option<&[u32]>,
        len: usize,
        filter: Option<&BooleanBuffer>,
        many: &Many<'_>,
    ) {
        let group = |row: usize| groups.map_or(0, |g| g[row] as usize);
        let rows = (0..len).filter(|row| filter.is_none_or(|filter| filter.value(*row)));
        let each = rows.filter_map(|row| {
            let cell = many.cell(row)?;
            Some((group(row), cell, cell.durations?))
        });
        match self {
            State::Count(counts) => each.for_each(|(group, _, sketch)| counts[group] += sketch.count()),
            State::Quantile(sketches) => each.for_each(|(group, _, sketch)| sketches[group].merge(sketch)),
            State::Sum(sums) => each.for_each(|(group, cell, sketch)| {
                sums[group].ints += cell.duration_sum;
                sums[group].count += sketch.count();
            }),
            State::Best(better, best) => each.for_each(|(group, cell, _)| {
                let Some((least, greatest)) = cell.duration_range else { return };
                let mut bytes = Vec::new();
                encode::int(if *better == Ordering::Less { least } else { greatest }, &mut bytes);
                offer(*better, &mut best[group], &bytes);
            }),
            _ => debug_assert!(false, "no other accumulator is made of a cell's durations"),
        }
    }

    /// Appends a group's state.
    pub(crate) fn write(&self, group: usize, out: &mut Vec<u8>) {
        match self {
            State::Count(of) => put(out, of[group]),
            State::Sum(of) => {
                let sum = &of[group];
                out.push(u8::from(sum.any_double));
                put(out, sum.count);
                out.extend(sum.ints.to_le_bytes());
                out.extend(sum.doubles.to_bits().to_le_bytes());
            }
            State::Best(_, of) => out.extend_from_slice(&of[group]),
            State::Quantile(of) => of[group].write(out),
            State::QuantileExact(of) => of[group].iter().for_each(|v| out.extend(v.to_bits().to_le_bytes())),
            State::Distinct(of) => of[group].write(out),
            State::DistinctExact(of) => of[group].iter().for_each(|h| out.extend(h.to_le_bytes())),
            State::Moments(of) => {
                let m = &of[group];
                [m.n, m.mean, m.squares].iter().for_each(|v| out.extend(v.to_bits().to_le_bytes()));
            }
            State::End(_, of) => {
                out.extend(of[group].time.to_le_bytes());
                out.extend_from_slice(&of[group].value);
            }
            State::Top(of) => {
                for (value, count) in &of[group] {
                    put(out, value.len() as u64);
                    out.extend_from_slice(value);
                    put(out, *count);
                }
            }
            State::Kept(of) => of.write(group, out),
            // All of its groups at once: see `Guest::states`.
            State::Guest(_) => {}
        }
    }

    /// Merges a state that [`State::write`] wrote into a group; `None` where it is no such.
    pub(crate) fn merge(&mut self, group: usize, mut bytes: &[u8]) -> Option<()> {
        let from = &mut bytes;
        match self {
            State::Count(of) => of[group] += take(from)?,
            State::Sum(of) => {
                let (any_double, rest) = from.split_first()?;
                *from = rest;
                let sum = &mut of[group];
                sum.any_double |= *any_double != 0;
                sum.count += take(from)?;
                sum.ints += i128::from_le_bytes(*from.first_chunk::<16>()?);
                *from = &from[16..];
                sum.doubles += double(from)?;
            }
            State::Best(better, of) => offer(*better, &mut of[group], from),
            State::Quantile(of) => of[group].merge(&Sketch::read(from)?),
            State::QuantileExact(of) => {
                while !from.is_empty() {
                    of[group].push(double(from)?);
                }
            }
            State::Distinct(of) => of[group].merge(Distinct::read(from)?),
            State::DistinctExact(of) => {
                let (hashes, _) = from.as_chunks::<16>();
                of[group].extend(hashes.iter().map(|h| u128::from_le_bytes(*h)));
            }
            State::Moments(of) => {
                let other = Moments { n: double(from)?, mean: double(from)?, squares: double(from)? };
                of[group].merge(&other);
            }
            State::End(better, of) => {
                let (time, value) = from.split_first_chunk::<8>()?;
                of[group].offer(*better, i64::from_le_bytes(*time), value);
            }
            State::Top(of) => {
                while !from.is_empty() {
                    let len = usize::try_from(take(from)?).ok()?;
                    let (value, rest) = from.split_at_checked(len)?;
                    *from = rest;
                    add_top(&mut of[group], value, take(from)?);
                }
            }
            State::Kept(of) => of.merge(group, from)?,
            State::Guest(_) => return None,
        }
        Some(())
    }

    /// How the values of each group are spread; `None` for any other output.
    pub(crate) fn shapes(&self, output: Output, unit: Unit) -> Option<Vec<Scalar>> {
        let sorted = |values: &Vec<f64>| {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            sorted.into_iter().map(|value| (value, 1)).collect()
        };
        let values: Vec<Values> = match self {
            State::Quantile(of) => of.iter().map(Sketch::values).collect(),
            State::QuantileExact(of) => of.iter().map(sorted).collect(),
            _ => return None,
        };
        match output {
            Output::Histogram(n) => Some(histograms(&values, n, unit)),
            Output::Heatmap(n) => Some(heatmap(&values, n, unit)),
            _ => None,
        }
    }

    /// What a group gives.
    pub(crate) fn output(&self, group: usize, output: Output) -> Scalar {
        let number = |d: Option<f64>| d.map_or(Scalar::Null, Scalar::Double);
        match (self, output) {
            (State::Count(of), Output::PerSecond(nanos)) => number(Some(of[group] as f64 * 1e9 / nanos as f64)),
            (State::Count(of), _) => Scalar::Int(of[group] as i64),
            (State::Sum(of), Output::Mean) => {
                number((of[group].count > 0).then(|| of[group].total() / of[group].count as f64))
            }
            (State::Sum(of), Output::PerSecond(nanos)) => number(Some(of[group].total() * 1e9 / nanos as f64)),
            (State::Sum(of), _) => of[group].value(),
            (State::Best(_, of), _) => encode::decode(&of[group]),
            (State::Quantile(of), Output::Quantile(q)) => number(of[group].quantile(q)),
            (State::QuantileExact(of), Output::Quantile(q)) => {
                let mut sorted = of[group].clone();
                sorted.sort_by(f64::total_cmp);
                number(sorted.get(rank(q, sorted.len() as u64) as usize - 1).copied())
            }
            (State::Distinct(of), _) => Scalar::Int(of[group].count() as i64),
            (State::DistinctExact(of), _) => Scalar::Int(of[group].len() as i64),
            (State::Moments(of), _) => {
                let m = &of[group];
                number((m.n > 1.0).then(|| (m.squares / (m.n - 1.0)).sqrt()))
            }
            (State::End(_, of), _) => encode::decode(&of[group].value),
            (State::Top(of), Output::Top(n)) => top(&of[group], n),
            _ => Scalar::Null,
        }
    }
}

impl Sum {
    fn total(&self) -> f64 {
        self.ints as f64 + self.doubles
    }

    /// 0 of nothing; an int beyond int64 is missing, never wrapped.
    fn value(&self) -> Scalar {
        if self.any_double {
            return Scalar::Double(self.total());
        }
        i64::try_from(self.ints).map_or(Scalar::Null, Scalar::Int)
    }
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.n += 1.0;
        let distance = value - self.mean;
        self.mean += distance / self.n;
        self.squares += distance * (value - self.mean);
    }

    fn merge(&mut self, other: &Moments) {
        if other.n == 0.0 {
            return;
        }
        let n = self.n + other.n;
        let distance = other.mean - self.mean;
        self.squares += other.squares + distance * distance * self.n * other.n / n;
        self.mean += distance * other.n / n;
        self.n = n;
    }
}

impl End {
    /// Of rows of one time the greater value counts, so that the answer does not depend on the order of parts.
    fn offer(&mut self, better: Ordering, time: i64, value: &[u8]) {
        if value.is_empty() {
            return;
        }
        let order = time.cmp(&self.time);
        if self.value.is_empty() || order == better || (order == Ordering::Equal && value > &*self.value) {
            *self = End { time, value: value.into() };
        }
    }
}

fn offer(better: Ordering, best: &mut Bytes, bytes: &[u8]) {
    if !bytes.is_empty() && (best.is_empty() || bytes.cmp(&**best) == better) {
        *best = bytes.into();
    }
}

/// NaN is neither above nor below anything, so it is never the least or greatest.
fn update_best(better: Ordering, best: &mut [Bytes], arg: Option<&Vals>, to: &To<'_>) {
    let Some(arg) = arg else { return };
    let mut bytes = Vec::new();
    if let (1, Some(ints)) = (arg.kinds(), &arg.int) {
        // The best of this frame first: comparing ints is cheaper than comparing bytes.
        let mut of_frame: HashMap<usize, i64, foldhash::fast::FixedState> = HashMap::default();
        to.each(|group, row| {
            if ints.is_valid(row) {
                let value = ints.value(row);
                let so_far = of_frame.entry(group).or_insert(value);
                if value.cmp(so_far) == better {
                    *so_far = value;
                }
            }
        });
        for (group, value) in of_frame {
            bytes.clear();
            encode::int(value, &mut bytes);
            offer(better, &mut best[group], &bytes);
        }
        return;
    }
    to.each(|group, row| {
        let value = arg.get(row);
        if matches!(value, Scalar::Double(d) if d.is_nan()) {
            return;
        }
        bytes.clear();
        encode::encode(&value, &mut bytes);
        offer(better, &mut best[group], &bytes);
    });
}

fn add_top(top: &mut HashMap<Bytes, u64>, value: &[u8], count: u64) {
    if let Some(so_far) = top.get_mut(value) {
        *so_far += count;
    } else if !value.is_empty() && top.len() < TOP_VALUES_MAX {
        top.insert(value.into(), count);
    }
}

/// `[{"value": …, "count": …}, …]`, most frequent first, equal ones by value.
fn top(counts: &HashMap<Bytes, u64>, n: usize) -> Scalar {
    let mut all: Vec<(&Bytes, &u64)> = counts.iter().collect();
    all.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let item = |(bytes, count): (&Bytes, &u64)| {
        let value = match encode::decode(bytes) {
            Scalar::Null => Value::Null,
            Scalar::Bool(b) => Value::Bool(b),
            Scalar::Int(i) => Value::Int(i),
            Scalar::Double(d) => Value::Double(d),
            Scalar::Str(s) => Value::Str(s),
            Scalar::Bytes(b) => Value::Bytes(b),
            Scalar::Id(id) => Value::Str(hex::encode(id)),
            Scalar::Json(text) => Value::from_text(&text).unwrap_or(Value::Null),
        };
        Value::Map(vec![("value".into(), value), ("count".into(), Value::Int(*count as i64))])
    };
    Scalar::Json(Value::Array(all.into_iter().take(n).map(item).collect()).to_text())
}

fn double(from: &mut &[u8]) -> Option<f64> {
    let (word, rest) = from.split_first_chunk::<8>()?;
    *from = rest;
    Some(f64::from_bits(u64::from_le_bytes(*word)))
}
