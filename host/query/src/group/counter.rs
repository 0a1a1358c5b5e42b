//! The growth of counters: differences of readings, and sums of deltas.
//!
//! The points of a series are put in order over all groups. The difference of two readings counts in the group of the later
//! one, so that no growth is counted twice or lost at the edge of a bin. A reading below the one before, or with another
//! start, began from 0. The first reading in the range counts wholly where its start lies in the range, else only what
//! follows it does: nothing is extrapolated.

use prism_model::varint::{put, take};

use super::kept::{Kept, KeptRows, Number, Place, TEMPORALITY, TYPE, text};
use super::{Accumulator, GroupSpec, Output};
use crate::eval::vals::Scalar;

/// Bound behind those of every point.
const MONOTONIC: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Point {
    place: Place,
    value: Number,
}

/// The points of a group.
#[derive(Clone, Debug, Default)]
struct Points {
    all: Vec<Point>,
    /// Of gauges and of sums that also fall.
    unfit: u64,
}

/// The growth of counters.
#[derive(Debug, Default)]
pub(crate) struct Counter(Vec<Points>);

/// What grew so far: ints exactly.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    ints: i128,
    doubles: f64,
    any_double: bool,
    any: bool,
}

impl Growth {
    fn add(&mut self, from: Option<Number>, to: Number) {
        self.any = true;
        match (from.unwrap_or(Number::Int(0)), to) {
            (Number::Int(from), Number::Int(to)) => self.ints += i128::from(to) - i128::from(from),
            (from, to) => {
                self.doubles += to.double() - from.double();
                self.any_double = true;
            }
        }
    }

    fn total(&self) -> f64 {
        self.ints as f64 + self.doubles
    }
}

impl Kept for Counter {
    fn grow(&mut self, groups: usize) {
        self.0.resize(groups, Points::default());
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|points| points.all.capacity() * size_of::<Point>() + size_of::<Points>()).sum()
    }

    fn add(&mut self, rows: &KeptRows<'_>) {
        let Some(arg) = rows.arg else { return };
        rows.each(true, |group, row| {
            let of = &mut self.0[group];
            let Some(value) = Number::of(arg, row) else { return };
            let falls = || {
                let monotonic = rows.beside(MONOTONIC).and_then(|vals| vals.bool.as_ref());
                !monotonic.is_some_and(|monotonic| monotonic.value(row))
            };
            let delta = match (text(rows.beside(TYPE), row), text(rows.beside(TEMPORALITY), row)) {
                ("sum", _) if falls() => None,
                ("gauge", _) => None,
                ("summary", _) | (_, "cumulative") => Some(false),
                (_, "delta") => Some(true),
                _ => None,
            };
            match delta.and_then(|delta| Place::of(rows, row, delta)) {
                Some(place) => of.all.push(Point { place, value }),
                None => of.unfit += 1,
            }
        });
    }

    fn write(&self, group: usize, out: &mut Vec<u8>) {
        let of = &self.0[group];
        put(out, of.unfit);
        for point in &of.all {
            point.place.write(out);
            point.value.write(out);
        }
    }

    fn merge(&mut self, group: usize, mut bytes: &[u8]) -> Option<()> {
        let of = &mut self.0[group];
        of.unfit += take(&mut bytes)?;
        while !bytes.is_empty() {
            of.all.push(Point { place: Place::read(&mut bytes)?, value: Number::read(&mut bytes)? });
        }
        Some(())
    }

    fn outputs(&self, output: Output, _: &Accumulator, spec: &GroupSpec) -> Vec<Scalar> {
        let growth = self.growth(spec.range.from);
        let of = |growth: Growth| match output {
            _ if !growth.any => Scalar::Null,
            Output::PerSecond(nanos) => Scalar::Double(growth.total() * 1e9 / nanos as f64),
            _ if growth.any_double => Scalar::Double(growth.total()),
            _ => i64::try_from(growth.ints).map_or(Scalar::Null, Scalar::Int),
        };
        growth.into_iter().map(of).collect()
    }

    fn unfit(&self) -> Option<(u64, &'static str)> {
        let unfit = self.0.iter().map(|points| points.unfit).sum();
        let why = "points of gauges and of sums that may fall have no growth, and were left out: `diff(last(value))` over bins \
                   tells how they change";
        (unfit > 0).then_some((unfit, why))
    }
}

impl Counter {
    /// Of each group; `from` is the begin of the range.
    fn growth(&self, from: i64) -> Vec<Growth> {
        let groups = self.0.iter().enumerate();
        let mut points: Vec<(&Point, usize)> =
            groups.flat_map(|(group, points)| points.all.iter().map(move |point| (point, group))).collect();
        points.sort_by(|(a, _), (b, _)| a.place.cmp(&b.place).then_with(|| a.value.order(b.value)));
        let mut growth = vec![Growth::default(); self.0.len()];
        let mut before: Option<&Point> = None;
        for (at, (point, group)) in points.iter().enumerate() {
            // Of repeated points the last in order counts: the newest start, the greatest value.
            if points.get(at + 1).is_some_and(|(next, _)| next.place.repeats(&point.place)) {
                continue;
            }
            let same_series = before.filter(|before| before.place.series == point.place.series && !before.place.delta);
            let grew = &mut growth[*group];
            match same_series {
                _ if point.place.delta => grew.add(None, point.value),
                Some(before) if point.place.continues(&before.place) && before.value.order(point.value).is_le() => {
                    grew.add(Some(before.value), point.value);
                }
                Some(_) => grew.add(None, point.value),
                None if point.place.start != 0 && point.place.start >= from => grew.add(None, point.value),
                None => grew.any = true,
            }
            before = Some(point);
        }
        growth
    }
}
