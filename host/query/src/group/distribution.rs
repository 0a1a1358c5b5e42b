//! Quantiles of what metric points measured: of gauges and sums the values, of histograms what their buckets count.
//!
//! Deltas are added up, readings give what was counted since the one before, as with counters.

use std::cmp::Ordering;

use arrow::array::Array;
use prism_model::Value;
use prism_model::sketch::Sketch;
use prism_model::varint::{put, take};

use super::buckets::{Buckets, Side, Spread};
use super::kept::{Kept, KeptRows, Place, TEMPORALITY, TYPE, int, text, word};
use super::{Accumulator, GroupSpec, Output};
use crate::eval::vals::{Scalar, Vals};

/// Bound behind those of every point, in this order.
const LISTS: [usize; 4] = [4, 5, 6, 7];
const MIN: usize = 8;
const MAX: usize = 9;
const SCALE: usize = 10;
const ZERO_COUNT: usize = 11;
const ZERO_THRESHOLD: usize = 12;
const POSITIVE_OFFSET: usize = 13;
const NEGATIVE_OFFSET: usize = 14;
/// The fields of points that are bound, in that order, behind those of every point.
pub(crate) const FIELDS: [&str; 11] = [
    "bucket_counts",
    "explicit_bounds",
    "positive_counts",
    "negative_counts",
    "min",
    "max",
    "scale",
    "zero_count",
    "zero_threshold",
    "positive_offset",
    "negative_offset",
];
/// Buckets of one group between two times that equal ones are put together.
const SETTLE: usize = 4_096;

#[derive(Clone, Debug)]
struct Point {
    place: Place,
    buckets: Buckets,
}

/// The points of a group.
#[derive(Clone, Debug, Default)]
struct Points {
    numbers: Sketch,
    all: Vec<Point>,
    /// Histograms that are none, or of unspecified temporality.
    unfit: u64,
}

/// Quantiles of metric points.
#[derive(Debug, Default)]
pub(crate) struct Distribution {
    groups: Vec<Points>,
    /// Of all points, counted as they come.
    point_bytes: usize,
}

impl Point {
    fn bytes(&self) -> usize {
        size_of::<Point>()
            + match &self.buckets {
                Buckets::Explicit { bounds, counts, .. } => (bounds.len() + counts.len()) * 8,
                Buckets::Exponential { positive, negative, .. } => (positive.counts.len() + negative.counts.len()) * 8,
            }
    }

    /// Of repeated points the one with most counts is the last.
    fn order(&self, other: &Point) -> Ordering {
        let bytes = |point: &Point| {
            let mut out = Vec::new();
            write_buckets(&point.buckets, &mut out);
            out
        };
        let by_count = || self.buckets.count().cmp(&other.buckets.count());
        self.place.cmp(&other.place).then_with(by_count).then_with(|| bytes(self).cmp(&bytes(other)))
    }
}

impl Kept for Distribution {
    fn grow(&mut self, groups: usize) {
        self.groups.resize(groups, Points::default());
    }

    fn bytes(&self) -> usize {
        self.groups.iter().map(|points| size_of::<Points>() + points.numbers.bytes()).sum::<usize>() + self.point_bytes
    }

    fn add(&mut self, rows: &KeptRows<'_>) {
        rows.each(false, |group, row| {
            let of = &mut self.groups[group];
            if let Some(value) = rows.arg.and_then(|arg| arg.number(row)) {
                of.numbers.add(value);
                return;
            }
            let Some(buckets) = read(rows, row) else { return };
            let delta = match text(rows.beside(TEMPORALITY), row) {
                "delta" => Some(true),
                "cumulative" => Some(false),
                _ => None,
            };
            let place = delta.filter(|_| buckets.is_sound()).and_then(|delta| Place::of(rows, row, delta));
            match place {
                Some(place) => {
                    let point = Point { place, buckets };
                    self.point_bytes += point.bytes();
                    of.all.push(point);
                }
                None => of.unfit += 1,
            }
        });
    }

    fn write(&self, group: usize, out: &mut Vec<u8>) {
        let of = &self.groups[group];
        put(out, of.unfit);
        of.numbers.write(out);
        for point in &of.all {
            point.place.write(out);
            write_buckets(&point.buckets, out);
        }
    }

    fn merge(&mut self, group: usize, mut bytes: &[u8]) -> Option<()> {
        let of = &mut self.groups[group];
        of.unfit += take(&mut bytes)?;
        of.numbers.merge(&Sketch::read(&mut bytes)?);
        while !bytes.is_empty() {
            let point = Point { place: Place::read(&mut bytes)?, buckets: read_buckets(&mut bytes)? };
            self.point_bytes += point.bytes();
            of.all.push(point);
        }
        Some(())
    }

    fn outputs(&self, output: Output, _: &Accumulator, spec: &GroupSpec) -> Vec<Scalar> {
        let Output::Quantile(q) = output else { return vec![Scalar::Null; self.groups.len()] };
        let spreads = self.spreads(spec.range.from);
        let of = |(points, mut spread): (&Points, Spread)| {
            if spread.len() == 0 {
                return points.numbers.quantile(q);
            }
            points.numbers.values().into_iter().for_each(|(value, n)| spread.add(value, value, n));
            spread.settle();
            spread.quantile(q)
        };
        self.groups.iter().zip(spreads).map(|each| of(each).map_or(Scalar::Null, Scalar::Double)).collect()
    }

    fn unfit(&self) -> Option<(u64, &'static str)> {
        let unfit = self.groups.iter().map(|points| points.unfit).sum();
        let why = "histograms without temporality or with buckets that do not fit their bounds were left out";
        (unfit > 0).then_some((unfit, why))
    }
}

impl Distribution {
    /// What histograms counted in each group; `from` is the begin of the range.
    fn spreads(&self, from: i64) -> Vec<Spread> {
        let groups = self.groups.iter().enumerate();
        let mut points: Vec<(&Point, usize)> =
            groups.flat_map(|(group, points)| points.all.iter().map(move |point| (point, group))).collect();
        points.sort_by(|(a, _), (b, _)| a.order(b));
        let mut spreads = vec![Spread::default(); self.groups.len()];
        let mut settled = vec![SETTLE; self.groups.len()];
        let mut before: Option<&Point> = None;
        for (at, (point, group)) in points.iter().enumerate() {
            if points.get(at + 1).is_some_and(|(next, _)| next.place.repeats(&point.place)) {
                continue;
            }
            let spread = &mut spreads[*group];
            let mut count = |buckets: &Buckets| buckets.each(|low, high, n| spread.add(low, high, n));
            match before.filter(|before| before.place.series == point.place.series && !before.place.delta) {
                _ if point.place.delta => count(&point.buckets),
                Some(before) if point.place.continues(&before.place) => {
                    count(&point.buckets.since(&before.buckets).unwrap_or_else(|| point.buckets.clone()));
                }
                Some(_) => count(&point.buckets),
                None if point.place.start != 0 && point.place.start >= from => count(&point.buckets),
                None => {}
            }
            before = Some(point);
            if spread.len() >= settled[*group] {
                spread.settle();
                settled[*group] = spread.len() * 2 + SETTLE;
            }
        }
        spreads
    }
}

/// The buckets of a row; `None` where its point has none.
fn read(rows: &KeptRows<'_>, row: usize) -> Option<Buckets> {
    let list = |number: usize| {
        let text = rows.beside(LISTS[number])?.json.as_ref()?.get(row)?;
        match Value::from_text(text).ok()? {
            Value::Array(items) => Some(items),
            _ => None,
        }
    };
    let counts = |number: usize| {
        let count = |item: &Value| match item {
            Value::Int(n) => u64::try_from(*n).unwrap_or(0),
            _ => 0,
        };
        list(number).map(|items| items.iter().map(count).collect::<Vec<u64>>())
    };
    let whole = |number: usize| rows.beside(number).and_then(|vals| int(vals, row));
    let double = |number: usize| {
        let vals: &Vals = rows.beside(number)?;
        vals.double.as_ref().filter(|a| a.is_valid(row)).map(|a| a.value(row)).filter(|v| v.is_finite())
    };
    match text(rows.beside(TYPE), row) {
        "histogram" => {
            let bounds = list(1).unwrap_or_default();
            let bound = |item: &Value| match item {
                Value::Double(d) => *d,
                Value::Int(i) => *i as f64,
                _ => f64::NAN,
            };
            let counts = counts(0).filter(|counts| !counts.is_empty())?;
            Some(Buckets::Explicit {
                bounds: bounds.iter().map(bound).collect(),
                counts,
                ends: (double(MIN), double(MAX)),
            })
        }
        "exponential_histogram" => {
            let side = |number: usize, offset: usize| Side {
                offset: whole(offset).unwrap_or(0),
                counts: counts(number).unwrap_or_default(),
            };
            Some(Buckets::Exponential {
                scale: whole(SCALE).and_then(|scale| i32::try_from(scale).ok()).unwrap_or(0),
                zero_count: whole(ZERO_COUNT).and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
                zero_threshold: double(ZERO_THRESHOLD).unwrap_or(0.0),
                positive: side(2, POSITIVE_OFFSET),
                negative: side(3, NEGATIVE_OFFSET),
            })
        }
        _ => None,
    }
}

fn write_counts(counts: &[u64], out: &mut Vec<u8>) {
    put(out, counts.len() as u64);
    counts.iter().for_each(|count| put(out, *count));
}

fn read_counts(from: &mut &[u8]) -> Option<Vec<u64>> {
    let len = take(from)?;
    (0..len).map(|_| take(from)).collect()
}

fn write_buckets(buckets: &Buckets, out: &mut Vec<u8>) {
    let double = |out: &mut Vec<u8>, value: f64| out.extend(value.to_bits().to_le_bytes());
    match buckets {
        Buckets::Explicit { bounds, counts, ends } => {
            out.push(0);
            write_counts(counts, out);
            put(out, bounds.len() as u64);
            bounds.iter().for_each(|bound| double(out, *bound));
            [ends.0, ends.1].iter().for_each(|end| double(out, end.unwrap_or(f64::NAN)));
        }
        Buckets::Exponential { scale, zero_count, zero_threshold, positive, negative } => {
            out.push(1);
            out.extend(i64::from(*scale).to_le_bytes());
            put(out, *zero_count);
            double(out, *zero_threshold);
            for side in [positive, negative] {
                out.extend(side.offset.to_le_bytes());
                write_counts(&side.counts, out);
            }
        }
    }
}

fn read_buckets(from: &mut &[u8]) -> Option<Buckets> {
    let double = |from: &mut &[u8]| word(from).map(f64::from_bits);
    let (tag, rest) = from.split_first()?;
    *from = rest;
    if *tag == 0 {
        let counts = read_counts(from)?;
        let len = take(from)?;
        let bounds = (0..len).map(|_| double(from)).collect::<Option<_>>()?;
        let mut end = || double(from).map(|end| Some(end).filter(|end| !end.is_nan()));
        return Some(Buckets::Explicit { bounds, counts, ends: (end()?, end()?) });
    }
    let scale = i32::try_from(word(from)? as i64).ok()?;
    let (zero_count, zero_threshold) = (take(from)?, double(from)?);
    let mut side = || Some(Side { offset: word(from)? as i64, counts: read_counts(from)? });
    Some(Buckets::Exponential { scale, zero_count, zero_threshold, positive: side()?, negative: side()? })
}
