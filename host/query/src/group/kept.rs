//! Accumulators that keep what they saw until all groups are there, since what one group gives depends on others: the growth
//! of a counter on the point in the bin before, the most at once on what began there.
//!
//! Points may come in any order, and more than once: they are put in order when all are there. That takes memory for each
//! point, which the query's memory bounds.

use std::fmt;

use arrow::array::Array;
use arrow::buffer::BooleanBuffer;

use super::{Accumulator, GroupSpec, Output, seen};
use crate::eval::vals::{Scalar, Text, Vals};

/// An accumulator of this kind, over all groups.
pub(crate) trait Kept: fmt::Debug + Send {
    /// Makes room for so many groups.
    fn grow(&mut self, groups: usize);
    /// Bytes in memory, about.
    fn bytes(&self) -> usize;
    /// Adds rows.
    fn add(&mut self, rows: &KeptRows<'_>);
    /// Appends a group's state.
    fn write(&self, group: usize, out: &mut Vec<u8>);
    /// Merges a state that [`Kept::write`] wrote into a group; `None` where it is no such.
    fn merge(&mut self, group: usize, bytes: &[u8]) -> Option<()>;
    /// What each group gives.
    fn outputs(&self, output: Output, of: &Accumulator, spec: &GroupSpec) -> Vec<Scalar>;
    /// When the rows of each group began and ended, where it is their number at once that counts.
    fn intervals(&self) -> Option<&[Vec<(i64, i64)>]> {
        None
    }
    /// Rows that it could make nothing of, and why, in the words of a warning.
    fn unfit(&self) -> Option<(u64, &'static str)> {
        None
    }
}

/// Rows that are added.
pub(crate) struct KeptRows<'a> {
    /// Of each row; `None` is group 0 for all.
    pub(crate) groups: Option<&'a [u32]>,
    pub(crate) len: usize,
    pub(crate) arg: Option<&'a Vals>,
    pub(crate) filter: Option<&'a BooleanBuffer>,
    pub(crate) times: Option<&'a Vals>,
    /// What the accumulator looks at beside, in the order that it was bound in.
    pub(crate) beside: &'a [Vals],
}

impl KeptRows<'_> {
    /// Calls `f` with the group and number of each row that the accumulator sees, whatever its value.
    pub(super) fn each(&self, with_arg: bool, mut f: impl FnMut(usize, usize)) {
        let arg = self.arg.filter(|_| with_arg);
        let group = |row: usize| self.groups.map_or(0, |groups| groups[row] as usize);
        match seen(self.len, arg, self.filter) {
            None => (0..self.len).for_each(|row| f(group(row), row)),
            Some(seen) => seen.set_indices().for_each(|row| f(group(row), row)),
        }
    }

    pub(super) fn time(&self, row: usize) -> Option<i64> {
        int(self.times?, row)
    }

    pub(super) fn beside(&self, number: usize) -> Option<&Vals> {
        self.beside.get(number)
    }
}

/// An int of a row.
pub(super) fn int(vals: &Vals, row: usize) -> Option<i64> {
    vals.int.as_ref().filter(|ints| ints.is_valid(row)).map(|ints| ints.value(row))
}

/// An id of a row, of as many bytes.
pub(super) fn id<const N: usize>(vals: Option<&Vals>, row: usize) -> Option<[u8; N]> {
    let ids = vals?.id.as_ref().filter(|ids| ids.is_valid(row))?;
    ids.value(row).first_chunk::<N>().copied()
}

/// A text of a row.
pub(super) fn text(vals: Option<&Vals>, row: usize) -> &str {
    vals.and_then(|vals| vals.str.as_ref()).and_then(|text: &Text| text.get(row)).unwrap_or_default()
}

/// An int or a double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Double(f64),
}

impl Number {
    /// The number of a row; NaN is none.
    pub(super) fn of(vals: &Vals, row: usize) -> Option<Number> {
        match int(vals, row) {
            Some(int) => Some(Number::Int(int)),
            None => vals.number(row).filter(|double| !double.is_nan()).map(Number::Double),
        }
    }

    pub(super) fn double(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Double(double) => double,
        }
    }

    pub(super) fn order(self, other: Number) -> std::cmp::Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(&b),
            (a, b) => a.double().total_cmp(&b.double()),
        }
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        match self {
            Number::Int(int) => {
                out.push(0);
                out.extend(int.to_le_bytes());
            }
            Number::Double(double) => {
                out.push(1);
                out.extend(double.to_bits().to_le_bytes());
            }
        }
    }

    pub(super) fn read(from: &mut &[u8]) -> Option<Number> {
        let (tag, rest) = from.split_first()?;
        *from = rest;
        let word = word(from)?;
        Some(if *tag == 0 { Number::Int(word as i64) } else { Number::Double(f64::from_bits(word)) })
    }
}

/// Eight bytes.
pub(super) fn word(from: &mut &[u8]) -> Option<u64> {
    let (word, rest) = from.split_first_chunk::<8>()?;
    *from = rest;
    Some(u64::from_le_bytes(*word))
}

/// Which point of which series something is: what orders them, and tells repeated ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) series: [u8; 16],
    /// Of deltas, which are added up; the others are readings.
    pub(super) delta: bool,
    pub(super) time: i64,
    /// 0 where it is not known.
    pub(super) start: i64,
}

/// What the points of counters and distributions are bound with, in this order.
pub(super) const SERIES: usize = 0;
pub(super) const START: usize = 1;
pub(super) const TYPE: usize = 2;
pub(super) const TEMPORALITY: usize = 3;

impl Place {
    /// The place of a row.
    pub(super) fn of(rows: &KeptRows<'_>, row: usize, delta: bool) -> Option<Place> {
        let start = rows.beside(START).and_then(|starts| int(starts, row)).unwrap_or(0);
        Some(Place { series: id(rows.beside(SERIES), row)?, delta, time: rows.time(row)?, start })
    }

    /// Whether this is another copy of the point before: a series has one reading at a time, and one delta of a time.
    pub(super) fn repeats(&self, before: &Place) -> bool {
        self.series == before.series
            && self.delta == before.delta
            && self.time == before.time
            && (!self.delta || self.start == before.start)
    }

    /// Whether the point before is of the same counter since the same start.
    pub(super) fn continues(&self, before: &Place) -> bool {
        self.series == before.series
            && self.delta == before.delta
            && (self.start == before.start || self.start == 0 || before.start == 0)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.series);
        out.push(u8::from(self.delta));
        out.extend(self.time.to_le_bytes());
        out.extend(self.start.to_le_bytes());
    }

    pub(super) fn read(from: &mut &[u8]) -> Option<Place> {
        let (series, rest) = from.split_first_chunk::<16>()?;
        let (delta, rest) = rest.split_first()?;
        *from = rest;
        Some(Place { series: *series, delta: *delta != 0, time: word(from)? as i64, start: word(from)? as i64 })
    }
}
