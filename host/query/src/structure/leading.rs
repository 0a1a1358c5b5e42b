//! Which traces may be among the first rows, where these are traces by start or duration and nothing else decides: told by the extent
//! of each, so that the spans of those few alone are brought together.

use parking_lot::Mutex;
use prism_model::Intrinsic;

use super::Stop;
use super::ask::{Alternative, Ask, Beside, OfTrace, Target, Told};
use super::columns::{Times, TraceIds};
use super::gather::{Gathering, Looked};
use super::marks::Kept;
use super::pieces::each;
use super::span::Traces;
use super::spread::{Extent, Parts, Placed, Share, Spread, Spreads, Stored};
use super::wanted::Wanted;
use crate::bind::query::{Plan, Shape};
use crate::error::QueryError;
use crate::eval::node::Node;
use crate::field::From;
use crate::reading::{Matching, Reading};

/// Which part of the room for spans the traces that may be among the first take at most.
pub(super) const LEADING_PART: usize = 64;

/// How traces are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leading {
    by_start: bool,
    descending: bool,
    rows: usize,
}

/// A key of the order, the first one greatest, and the trace.
type Keyed = (i64, [u64; 2]);

impl Leading {
    /// Of a plan whose rows are the first of all traces; `None` where something else tells which they are.
    pub(super) fn of(plan: &Plan, ask: &Ask) -> Option<Leading> {
        let any = |way: &Alternative| {
            way.bound == [way.returned] && way.edges.is_empty() && way.tests.is_empty() && way.absent.is_empty()
        };
        let all =
            ask.traces && ask.bindings.iter().all(Vec::is_empty) && matches!(&ask.alternatives[..], [way] if any(way));
        // Where a page before ended, others are the first.
        let whole = plan.conditions.is_empty() && plan.joins.is_empty() && plan.after.is_none() && plan.limit > 0;
        if !all || !whole || !matches!(plan.shape, Shape::Rows) {
            return None;
        }
        let key = plan.order.first()?;
        let Node::Field(field) = &key.node else { return None };
        let by_start = match &plan.fields.get(*field)?.from {
            From::Beside(Beside { target: Target::Row, told: Told::Trace(OfTrace::Start) }) => true,
            From::Beside(Beside { target: Target::Row, told: Told::Trace(OfTrace::Duration) }) => false,
            _ => return None,
        };
        Some(Leading { by_start, descending: key.descending, rows: plan.limit })
    }

    fn key(self, start: i64, end: i64) -> i64 {
        let value = if self.by_start { start } else { end.saturating_sub(start) };
        // In the opposite order.
        if self.descending { value } else { !value }
    }

    /// Leaves those that may be among the first rows: so many, all that are alike with the last of them, and those next to it, which
    /// tell that more follow.
    fn cut(self, all: &mut Vec<Keyed>) {
        if all.len() <= self.rows {
            return;
        }
        let (_, (last, _), behind) = all.select_nth_unstable_by(self.rows - 1, |a, b| b.0.cmp(&a.0));
        let last = *last;
        let next = behind.iter().map(|(key, _)| *key).filter(|key| *key < last).max().unwrap_or(last);
        all.retain(|(key, _)| *key >= next);
    }
}

impl Gathering<'_> {
    /// Reads the spans of the traces of a share that may be among the first rows.
    pub(super) fn leading<T: Stored>(&self, share: Share, leading: Leading) -> Result<Spreads<T>, Stop> {
        let Some(looked) = self.leaders(Parts::of(share, self.rows()), leading)? else { return self.spans(share) };
        self.read(looked.wanted.parts(), Some(&looked), &vec![true; self.ask.bindings.len()])
    }

    /// Finds them; `None` where so many are alike that all may as well be looked at.
    fn leaders(&self, parts: Parts, leading: Leading) -> Result<Option<Looked>, Stop> {
        let frames = self.scan.frames.len();
        let spreads = Mutex::new(Spreads::<Extent>::new(frames, parts));
        each(self.scan, self.threads, frames, |number, _: &mut ()| {
            let parts = spreads.lock().parts;
            let extents = self.frame(number, |reading| self.extents(number, reading, parts))?;
            extents.flatten().map_or(Ok(()), |of| self.add(&spreads, number, of, parts, usize::MAX, &|| 0))
        })?;
        let spreads = spreads.into_inner();
        let of_parts = each(self.scan, self.threads, spreads.parts.len(), |part, traces: &mut Traces| {
            traces.clear();
            let mut all: Vec<Extent> = Vec::new();
            for extent in spreads.part(part).flatten() {
                let number = traces.number(extent.trace) as usize;
                match all.get_mut(number) {
                    Some(known) => {
                        (known.start, known.end) = (known.start.min(extent.start), known.end.max(extent.end));
                    }
                    None => all.push(*extent),
                }
            }
            // A trace is in the range in which it starts.
            let within = all.iter().filter(|of| self.scan.plan.range.contains(of.start));
            let mut keyed: Vec<Keyed> = within.map(|of| (leading.key(of.start, of.end), of.trace)).collect();
            leading.cut(&mut keyed);
            Ok::<_, Stop>(keyed)
        })?;
        let mut first: Vec<Keyed> = of_parts.iter().flatten().copied().collect();
        leading.cut(&mut first);
        let least = first.iter().map(|(key, _)| *key).min().unwrap_or(i64::MAX);
        let wanted =
            of_parts.into_iter().map(|of| of.into_iter().filter(|(key, _)| *key >= least).map(|(_, id)| id).collect());
        let parts = spreads.parts;
        drop(spreads);
        let wanted = Wanted::of(parts, wanted.collect(), usize::MAX, self.hashing);
        let few = wanted.bytes() <= self.bytes_max / LEADING_PART;
        Ok(few.then(|| Looked::at(wanted, Kept::new(frames, 0), true)))
    }

    /// The extents of a frame's traces.
    fn extents(
        &self,
        number: usize,
        reading: &mut Reading<'_>,
        parts: Parts,
    ) -> Result<Option<Spread<Extent>>, QueryError> {
        let traces = TraceIds::read(reading)?;
        reading.read_items(&[Intrinsic::Time, Intrinsic::Duration, Intrinsic::Running])?;
        let rows = reading.fitting(&[], self.wide)?;
        if matches!(rows, Matching::None) {
            return Ok(None);
        }
        let all = self.scan.frames[number].rows();
        let stays = rows.mask(all);
        let times = Times::of(|column| reading.column(column));
        let mut extents: Vec<Extent> = Vec::new();
        let rows = (0..all).filter(|row| stays.as_ref().is_none_or(|stays| stays.value(*row)));
        traces.grouped(
            rows,
            |row| self.loose(number, row),
            |row, group, trace| {
                let (start, end) = times.extent(row);
                if group >= extents.len() {
                    extents.resize(group + 1, Extent::NONE);
                }
                let extent = &mut extents[group];
                *extent = Extent { trace, start: extent.start.min(start), end: extent.end.max(end) };
            },
        );
        extents.retain(|extent| extent.trace != Extent::NONE.trace);
        let keys = extents.iter().enumerate().map(|(at, extent)| (at, extent.trace));
        Ok(Some(Placed::of(keys, parts, self.hashing).spread(|at| extents[at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_those_that_tell_of_more_are_left() {
        let cut = |rows: usize, keys: &[i64]| {
            let leading = Leading { by_start: false, descending: true, rows };
            let mut all: Vec<Keyed> = keys.iter().map(|key| (*key, [1, 1])).collect();
            leading.cut(&mut all);
            let mut left: Vec<i64> = all.iter().map(|(key, _)| *key).collect();
            left.sort_unstable_by(|a, b| b.cmp(a));
            left
        };
        assert_eq!(cut(2, &[1, 5, 3, 4, 2]), [5, 4, 3]);
        assert_eq!(cut(2, &[1, 5, 3, 5, 5, 3]), [5, 5, 5, 3, 3]);
        assert_eq!((cut(3, &[1, 2, 3]), cut(1, &[7, 7, 7])), (vec![3, 2, 1], vec![7, 7, 7]));
        let ascending = Leading { by_start: true, descending: false, rows: 1 };
        assert!(ascending.key(1, 0) > ascending.key(2, 0) && ascending.key(i64::MIN, 0) > ascending.key(i64::MAX, 0));
    }
}
