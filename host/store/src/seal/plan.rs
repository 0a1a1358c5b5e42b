//! Which segments are due, and which of them go to one block.

use std::collections::{BTreeMap, HashSet};

use prism_model::window::Window;

use super::{SealOptions, nanos};
use crate::hot::list::Listed;
use crate::place::SegmentName;

/// A window whose writers did not all end their segments is sealed so long after it was due all the same: one that died is
/// fenced by then. What it leaves is sealed as a delta.
const STRAGGLERS_MS: u64 = 60_000;

/// A segment that is ended, with the bytes of it that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) name: SegmentName,
    pub(super) valid: u64,
}

/// What is to be done with the segments of a shard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The segments of each block, in order.
    pub(super) blocks: Vec<Vec<Ended>>,
    /// Ended, and not due yet.
    pub(super) waiting: usize,
    /// Not ended.
    pub(super) open: usize,
}

/// Decides from what was listed: the segments of one shard in order, the names that blocks cover, the time (unix nanoseconds).
pub(super) fn plan(segments: &[Listed], covered: &HashSet<SegmentName>, now: i64, options: &SealOptions) -> Plan {
    let mut plan = Plan::default();
    let mut slots: BTreeMap<(Window, bool), (Vec<Ended>, usize)> = BTreeMap::new();
    for segment in segments.iter().filter(|s| !covered.contains(&s.name)) {
        let (ended, open) = slots.entry((segment.name.window, segment.name.late)).or_default();
        match segment.ended {
            Some(valid) => ended.push(Ended { name: segment.name, valid }),
            None => *open += 1,
        }
    }
    let sealed: HashSet<(Window, bool)> = covered.iter().map(|name| (name.window, name.late)).collect();
    let mut due = Vec::new();
    let mut overdue = false;
    for ((window, late), (ended, open)) in slots {
        plan.open += open;
        let passed = |ms: u64| window.end_nanos().saturating_add(nanos(ms)) <= now;
        let settled = options.seal_after_ms.saturating_add(if open > 0 { STRAGGLERS_MS } else { 0 });
        let after = if sealed.contains(&(window, late)) { options.seal_delta_ms } else { settled };
        if passed(after) {
            overdue |= passed(options.seal_delta_ms);
            due.extend(ended);
        } else {
            plan.waiting += ended.len();
        }
    }
    let bytes: u64 = due.iter().map(|s| s.valid).sum();
    if bytes < options.seal_bytes_min && !overdue {
        plan.waiting += due.len();
        return plan;
    }
    let mut bytes = 0;
    for segment in due {
        if plan.blocks.is_empty() || bytes + segment.valid > options.block_bytes_max {
            plan.blocks.push(Vec::new());
            bytes = 0;
        }
        bytes += segment.valid;
        plan.blocks.last_mut().into_iter().for_each(|block| block.push(segment));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60 * 1_000_000_000;

    fn name(window: i64, late: bool, file: u32) -> SegmentName {
        SegmentName { shard: 0, window: Window::from_number(window), late, writer: 1, epoch: 1, file }
    }

    fn listed(window: i64, file: u32, ended: Option<u64>) -> Listed {
        Listed { name: name(window, false, file), ended }
    }

    /// The files of each block, at a time after the end of window 100.
    fn check(segments: &[Listed], covered: &[SegmentName], after: i64) -> (Vec<Vec<u32>>, usize, usize) {
        let now = Window::from_number(100).end_nanos() + after;
        let found = plan(segments, &covered.iter().copied().collect(), now, &SealOptions::default());
        let files = |b: &Vec<Ended>| b.iter().map(|s| s.name.file).collect();
        (found.blocks.iter().map(files).collect(), found.waiting, found.open)
    }

    #[test]
    fn a_window_is_sealed_when_it_is_over_and_its_deltas_half_an_hour_later() {
        let big = Some(5 << 20);
        let base = [listed(100, 1, big), listed(100, 2, big)];
        assert_eq!(check(&base, &[], MINUTE / 2 - 1), (vec![], 2, 0));
        assert_eq!(check(&base, &[], MINUTE / 2), (vec![vec![1, 2]], 0, 0));
        // One that is not ended is waited for, but not for long.
        let open = [listed(100, 1, big), listed(100, 2, None)];
        assert_eq!(check(&open, &[], MINUTE), (vec![], 1, 1));
        assert_eq!(check(&open, &[], 2 * MINUTE), (vec![vec![1]], 0, 1));
        // A delta waits, and what is covered is none.
        assert_eq!(check(&base, &[name(100, false, 1)], 29 * MINUTE), (vec![], 1, 0));
        assert_eq!(check(&base, &[name(100, false, 1)], 30 * MINUTE), (vec![vec![2]], 0, 0));
        assert_eq!(check(&base, &[name(100, true, 9)], MINUTE), (vec![vec![1, 2]], 0, 0));
    }

    #[test]
    fn little_waits_for_more_and_much_makes_several_blocks() {
        let small = Some(1 << 20);
        let few = [listed(99, 1, small), listed(100, 2, small)];
        assert_eq!(check(&few, &[], MINUTE), (vec![], 2, 0));
        assert_eq!(check(&few, &[], 25 * MINUTE), (vec![vec![1, 2]], 0, 0));
        let many = [listed(98, 1, small), listed(98, 2, small), listed(99, 3, small), listed(100, 4, small)];
        assert_eq!(check(&many, &[], MINUTE), (vec![vec![1, 2, 3, 4]], 0, 0));
        let large = |file| listed(100, file, Some(100 << 20));
        let huge = listed(100, 4, Some(1 << 30));
        let found = check(&[large(1), large(2), large(3), huge, large(5)], &[], MINUTE);
        assert_eq!(found, (vec![vec![1, 2], vec![3], vec![4], vec![5]], 0, 0));
    }

    #[test]
    fn clocks_at_the_ends_of_time_do_no_harm() {
        let base = [listed(i64::MIN, 1, Some(9)), listed(i64::MAX, 2, Some(9))];
        for now in [i64::MIN, 0, i64::MAX] {
            plan(&base, &HashSet::new(), now, &SealOptions { seal_delta_ms: u64::MAX, ..SealOptions::default() });
        }
    }
}
