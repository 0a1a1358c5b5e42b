//! How often the frames of a scan are gone through for structure, at most: by the memory of a query and how many spans there are,
//! however large single traces are.
//!
//! A pass is about the first traces that are left, by hash, and ends where there is no room for the next one's spans. So of two
//! passes that follow one another the first and the first trace of the second together are larger than what stays where there is
//! no room, [`KEPT_PARTS`] of [`LEFT_PARTS`] of it: there are fewer such pairs than all spans are larger than that, and no more than
//! twice as many passes. Not known: what texts beside rows take, and what the query keeps beside structure.

use super::ask::{Ask, OfTrace};
use super::direct::Direct;
use super::gather::{KEPT_PART, Needs};
use super::leading::LEADING_PART;
use super::span::{PAGE, Span};
use super::spread::{Found, KEPT_PARTS, LEFT_PARTS, Parts, Share, Timed};
use super::task::{self, Task};
use super::tree::Tree;
use super::wanted::ID_BYTES_MAX;
use crate::scan::Scan;

/// Bytes of a field's value beside a span: a number or the number of a text, and which it is.
const VALUE_BYTES: u64 = 16;
/// Bytes of a place or number in the lists of a trace.
const PLACE_BYTES: u64 = size_of::<u32>() as u64;
/// Bytes of a row that waits for conditions between spans, about, and at most: itself twice, its ways and what stands beside it.
const WAITING_BYTES: u64 = 320;
/// Lists that grow have room for twice as much as they hold, at most.
const GROWN: u64 = 2;
/// Room for the work on a part is asked for with so small a part more.
const MORE_PART: u64 = 16;

/// See above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passes {
    /// Passes, at most.
    pub(crate) most: u64,
    /// Those, and goes that end where there is no room for what is made of the spans, from which fewer are looked at.
    pub(crate) tried: u64,
    /// Nothing takes room that is not known.
    pub(crate) certain: bool,
}

impl Passes {
    /// Of frames with so many `rows`, of which so many lie where some may fit a binding's conditions.
    pub(crate) fn of(scan: &Scan, ask: &Ask, rows: u64, fitting: u64) -> Passes {
        let task = Task::of(scan, ask);
        let all = scan.memory_bytes_max as u64;
        let (room, told) = (all / 2, task.needs.later_bytes as u64);
        // Where parents and children tell the matches, perhaps without times and then with them.
        let needs = Needs { times: task.direct || task.needs.times, ..task.needs };
        let lists = (scan.frames.len() * Parts::of(Share::ALL, rows).len() * size_of::<Vec<()>>()) as u64;
        let leading = if task.leading.is_some() { room / LEADING_PART as u64 } else { 0 };
        // Perhaps traces are looked for first, beside marks of rows; then there are these, and the ids of the traces.
        let first = ask.bindings.iter().chain([&ask.parent]).any(|conditions| !conditions.is_empty());
        let kept = if first { room / KEPT_PART as u64 } else { 0 };
        let fit = |room: u64, bytes: u64| (room / bytes).max(1);
        let gathered = fit(room.saturating_sub(2 * kept + leading + lists), needs.bytes() as u64);
        let mut most = 1 + passes(rows, gathered);
        if first {
            let found = size_of::<Found>() as u64 + told;
            most += passes(fitting, fit(room.saturating_sub(kept + lists), found));
            most += passes(fitting, fit(kept, ID_BYTES_MAX as u64));
        }
        let made = Made::of(scan, ask, &task, rows).fit((all / 4 * 3).saturating_sub(lists), rows);
        let mut tried = 0;
        if made < rows {
            // More are tried, then half as many until there is room: no fewer than half of what there is room for.
            most += passes(rows, (made / 2).max(1));
            tried = u64::from((gathered.min(rows) / made).max(1).ilog2()) + 2;
        }
        let texts = task.tested.iter().chain(&task.early).any(|field| task::may_be_text(scan, *field));
        let texts = texts || task.of_traces.contains(&OfTrace::Services);
        let twice = if task.direct { 2 } else { 1 };
        Passes { most, tried: (most + tried) * twice, certain: most == 1 && !texts }
    }
}

/// How many passes, beside one, over so many `there` of which so many fit into the room of one.
fn passes(there: u64, fit: u64) -> u64 {
    if there <= fit {
        return 0;
    }
    let pairs = there.saturating_mul(LEFT_PARTS as u64).div_ceil(fit.saturating_mul(KEPT_PARTS as u64));
    pairs.saturating_mul(2) + 1
}

/// Bytes of what is made of the spans of a pass, and stands beside them.
struct Made {
    /// Of each span, were all of one trace.
    span: u64,
    /// Of each place, in pages of which each may hold but one span.
    place: u64,
    /// Places of all frames.
    places: u64,
}

impl Made {
    fn of(scan: &Scan, ask: &Ask, task: &Task, rows: u64) -> Made {
        let (values, targets) = ((task.tested.len() + task.early.len()) as u64, task.targets.len() as u64);
        let (mut ways, mut bindings, mut edges, mut tests) = (0, 0, 0, false);
        ask.alternatives.iter().for_each(|way| {
            way.each(&mut |way| {
                ways += 1;
                bindings = way.bound.iter().fold(bindings, |most, binding| most.max(*binding as u64 + 1));
                edges = edges.max((way.edges.len() + way.alone.len()) as u64);
                tests |= !way.tests.is_empty();
            });
        });
        // Whether it was found by each way, it and what stands beside it in the part's list, and the values beside it.
        let found = ways + (2 + 3 * targets) * PLACE_BYTES + values * VALUE_BYTES;
        let of_part = if task.direct {
            (size_of::<Timed>() + Direct::<Timed>::SPAN_BYTES) as u64
        } else {
            // Its tree, and by node who fits each binding and three lists of each edge.
            let of_trace = Tree::SPAN_BYTES as u64 + bindings + 3 * edges * PLACE_BYTES;
            let waiting = if tests { WAITING_BYTES } else { 0 };
            size_of::<Span>() as u64 + PLACE_BYTES + of_trace * GROWN + waiting
        };
        Made {
            span: found + of_part + of_part / MORE_PART,
            place: task.needs.later_bytes as u64 + values * PLACE_BYTES + 1,
            places: rows + (scan.frames.len() * PAGE) as u64,
        }
    }

    /// For how many of all spans there is room, one at least.
    fn fit(&self, room: u64, rows: u64) -> u64 {
        let alone = room / (self.span + self.place * PAGE as u64);
        let all_places = room.saturating_sub(self.places.saturating_mul(self.place)) / self.span;
        alone.max(all_places).clamp(1, rows.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_bounded_by_what_two_of_them_hold() {
        assert_eq!((passes(0, 1), passes(100, 100), passes(101, 100)), (0, 0, 5));
        // Each second one is of one small trace, since a large one is next.
        assert!(1 + passes(10 * 75 + 10, 100) >= 20);
    }

    #[test]
    fn what_is_made_fits_by_pages_or_by_all_places() {
        let made = Made { span: 100, place: 8, places: 1_000_000 };
        assert_eq!(made.fit(100_000, 1_000_000), 100_000 / (100 + 8 * PAGE as u64));
        assert_eq!(made.fit(18_000_000, 1_000_000), 100_000);
        assert_eq!((made.fit(1 << 40, 1_000_000), made.fit(0, 0)), (1_000_000, 1));
    }
}
