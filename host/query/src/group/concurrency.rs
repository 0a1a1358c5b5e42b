//! The most rows at one moment. A row lasts over bins that it did not begin in, so that the rows of all bins of a series are
//! swept together.

use std::collections::{BTreeMap, HashMap};

use super::kept::{Kept, KeptRows, int, word};
use super::keys::Keys;
use super::state::State;
use super::{Accumulator, GroupSpec, Output};
use crate::encode;
use crate::eval::vals::Scalar;
use crate::eval::zone::TimeBin;

/// The end of what still runs.
const OPEN: i64 = i64::MAX;

/// When the rows of each group began and ended.
#[derive(Debug, Default)]
pub(crate) struct Concurrency(Vec<Vec<(i64, i64)>>);

impl Kept for Concurrency {
    fn grow(&mut self, groups: usize) {
        self.0.resize(groups, Vec::new());
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|rows| rows.capacity() * 16 + 24).sum()
    }

    fn add(&mut self, rows: &KeptRows<'_>) {
        rows.each(false, |group, row| {
            let Some(start) = rows.time(row) else { return };
            let runs = rows.beside(1).and_then(|running| running.bool.as_ref()).is_some_and(|runs| runs.value(row));
            let duration = rows.beside(0).and_then(|durations| int(durations, row));
            let end = match duration {
                _ if runs => OPEN,
                // What takes no time is there at its moment.
                duration => start.saturating_add(duration.unwrap_or(0).max(1)),
            };
            self.0[group].push((start, end));
        });
    }

    fn write(&self, group: usize, out: &mut Vec<u8>) {
        for (start, end) in &self.0[group] {
            out.extend(start.to_le_bytes());
            out.extend(end.to_le_bytes());
        }
    }

    fn merge(&mut self, group: usize, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            self.0[group].push((word(&mut bytes)? as i64, word(&mut bytes)? as i64));
        }
        Some(())
    }

    /// Without bins each group is by itself.
    fn outputs(&self, _: Output, _: &Accumulator, spec: &GroupSpec) -> Vec<Scalar> {
        let most = |rows: &Vec<(i64, i64)>| {
            let steps = steps(rows.iter().copied(), spec);
            Scalar::Int(steps.iter().map(|(_, at_once)| *at_once).max().unwrap_or(0))
        };
        self.0.iter().map(most).collect()
    }

    fn intervals(&self) -> Option<&[Vec<(i64, i64)>]> {
        Some(&self.0)
    }
}

/// How many there are from each moment on at which that changes.
pub(super) fn steps(rows: impl Iterator<Item = (i64, i64)>, spec: &GroupSpec) -> Vec<(i64, i64)> {
    let now = spec.now.saturating_add(spec.later).min(spec.until());
    let mut changes: Vec<(i64, i64)> = Vec::new();
    for (start, end) in rows {
        let (start, end) =
            (start.saturating_add(spec.later), if end == OPEN { now } else { end.saturating_add(spec.later) });
        changes.push((start, 1));
        changes.push((end.min(spec.until()).max(start.saturating_add(1)), -1));
    }
    changes.sort_unstable();
    let (mut steps, mut at_once): (Vec<(i64, i64)>, i64) = (Vec::new(), 0);
    for (time, change) in changes {
        at_once += change;
        match steps.last_mut() {
            Some((last, count)) if *last == time => *count = at_once,
            _ => steps.push((time, at_once)),
        }
    }
    steps
}

/// The most at once in each bin that any of it lies in, by the bin's start; `None` where there are more bins than `limit`.
pub(super) fn peaks(steps: &[(i64, i64)], bins: TimeBin, limit: usize) -> Option<Vec<(i64, i64)>> {
    let mut peaks = Vec::new();
    let (mut at, mut at_once) = (0, 0);
    let mut bin = steps.first().and_then(|(time, _)| bins.start(*time));
    while let Some(start) = bin {
        let end = bins.next(start);
        let mut most = at_once;
        while let Some((time, count)) = steps.get(at).filter(|(time, _)| end.is_none_or(|end| *time < end)) {
            // What ends as the bin begins is not in it.
            most = if *time == start { *count } else { most.max(*count) };
            at_once = *count;
            at += 1;
        }
        if most > 0 {
            peaks.push((start, most));
        }
        if peaks.len() > limit {
            return None;
        }
        bin = match (at_once, steps.get(at)) {
            (_, None) => None,
            // Nothing until the next begins.
            (0, Some((time, _))) => bins.start(*time),
            _ => end,
        };
    }
    Some(peaks)
}

/// Of each accumulator that counts rows at once, the most in each group, where groups are bins. Bins that rows only last
/// through become groups too. `None` where there are more of them than `limit`.
pub(super) fn in_bins(
    keys: &mut Keys,
    states: &[State],
    spec: &GroupSpec,
    limit: usize,
) -> Option<HashMap<usize, HashMap<usize, i64>>> {
    let mut found = HashMap::new();
    let Some((bin, bins)) = spec.bin else { return Some(found) };
    let of_states = states.iter().enumerate().filter_map(|(number, state)| match state {
        State::Kept(kept) => Some((number, kept.intervals()?)),
        _ => None,
    });
    let of_states: Vec<_> = of_states.collect();
    if of_states.is_empty() {
        return Some(found);
    }
    // Groups that differ in their bin alone.
    let mut series: BTreeMap<Vec<Box<[u8]>>, Vec<usize>> = BTreeMap::new();
    for group in 0..keys.len() {
        let others = (0..spec.keys.len()).filter(|key| *key != bin);
        series.entry(others.map(|key| keys.value(group, key).into()).collect()).or_default().push(group);
    }
    let mut made = 0;
    for (number, intervals) in of_states {
        let mut most = HashMap::new();
        for (others, groups) in &series {
            let steps = steps(groups.iter().flat_map(|group| intervals[*group].iter().copied()), spec);
            let peaks = peaks(&steps, bins, limit.saturating_sub(made))?;
            made += peaks.len();
            for (start, at_once) in peaks {
                let mut bytes = Vec::new();
                encode::int(start, &mut bytes);
                let mut others = others.iter();
                let mut codes = Vec::with_capacity(spec.keys.len());
                for key in 0..spec.keys.len() {
                    let value = if key == bin { Some(&*bytes) } else { others.next().map(|other| &**other) };
                    codes.push(vec![keys.code_of_bytes(key, value.unwrap_or_default())]);
                }
                let group = keys.groups(&codes, 1).and_then(|groups| groups.first().copied()).unwrap_or(0);
                most.insert(group as usize, at_once);
            }
        }
        found.insert(number, most);
    }
    Some(found)
}
