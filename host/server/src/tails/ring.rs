//! The newest frames of a tenant's signal, in the order in which they were found: tails take them from here, each at its pace.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prism_query::TailRows;
use prism_store::Placed;

/// A frame is kept for so long at most: half of the shortest time in which its file may go.
const KEPT_MAX: Duration = Duration::from_secs(15);

/// What is found.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A frame.
    Frame(Arc<Found>),
    /// Between these times (unix nanoseconds) nobody looked for so long that rows may be missing.
    Gap(i64, i64),
}

/// A frame, and what is known of its rows.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) placed: Placed,
    /// By what queries have in common that show the same rows. Rows are kept for as long as a tail shows them, and not longer.
    rows: Mutex<HashMap<u64, Known>>,
}

/// What is known of the rows that match a query.
#[derive(Debug)]
enum Known {
    /// There are none.
    Nothing,
    Rows(Weak<TailRows>),
}

impl Found {
    pub(super) fn new(placed: Placed) -> Arc<Found> {
        Arc::new(Found { placed, rows: Mutex::default() })
    }

    /// The rows that match a query, as a tail that asked the same found them, else as `find` does. `None` where there are none.
    /// Tails that ask the same wait for the one that came first.
    pub(super) fn rows<E>(
        &self,
        alike: Option<u64>,
        find: impl FnOnce() -> Result<TailRows, E>,
    ) -> Result<Option<Arc<TailRows>>, E> {
        let some = |rows: TailRows| (!rows.is_empty()).then(|| Arc::new(rows));
        let Some(alike) = alike else { return find().map(some) };
        let mut known = self.rows.lock();
        match known.get(&alike) {
            Some(Known::Nothing) => return Ok(None),
            Some(Known::Rows(rows)) => {
                if let Some(rows) = rows.upgrade() {
                    return Ok(Some(rows));
                }
            }
            None => {}
        }
        let rows = some(find()?);
        known.insert(alike, rows.as_ref().map_or(Known::Nothing, |rows| Known::Rows(Arc::downgrade(rows))));
        Ok(rows)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ring {
    frames_max: usize,
    events: VecDeque<(Instant, Event)>,
    /// The number of the first event that is here.
    first: u64,
    /// Rows before it.
    rows_before: u64,
    /// Events up to the last gap, and with it.
    to_gap: u64,
}

/// What a tail finds at its place.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing new.
    Nothing,
    /// An event.
    Event(Event),
    /// What was there is not kept any more: the tail was too slow.
    Late,
}

/// A tail's place in a ring.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct At {
    event: u64,
    /// Rows of all events before it.
    rows: u64,
}

impl Ring {
    /// An empty one.
    pub(super) fn new(frames_max: usize) -> Ring {
        Ring { frames_max, events: VecDeque::new(), first: 0, rows_before: 0, to_gap: 0 }
    }

    /// Adds what was found.
    pub(super) fn push(&mut self, event: Event, now: Instant) {
        if matches!(event, Event::Gap(..)) {
            self.to_gap = self.first + self.events.len() as u64 + 1;
        }
        self.events.push_back((now, event));
        while self.events.len() > self.frames_max {
            self.drop_first();
        }
    }

    /// Lets go of what is old.
    pub(super) fn age(&mut self, now: Instant) {
        while self.events.front().is_some_and(|(found, _)| now.saturating_duration_since(*found) > KEPT_MAX) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, event)) = self.events.pop_front() {
            self.first += 1;
            self.rows_before += rows(&event);
        }
    }

    /// The place behind all that is here.
    pub(super) fn end(&self) -> At {
        let rows = self.events.iter().map(|(_, event)| rows(event)).sum::<u64>();
        At { event: self.first + self.events.len() as u64, rows: self.rows_before + rows }
    }

    /// Whether there was a gap behind a place, kept or not.
    pub(super) fn gap_behind(&self, at: At) -> bool {
        at.event < self.to_gap
    }

    /// Moves a place behind all that is here; gives the rows that it did not see.
    pub(super) fn skip(&self, at: &mut At) -> u64 {
        let end = self.end();
        let skipped = end.rows.saturating_sub(at.rows);
        *at = end;
        skipped
    }

    /// What is at a place, which moves on behind it.
    pub(super) fn next(&self, at: &mut At) -> Next {
        if at.event < self.first {
            return Next::Late;
        }
        let index = usize::try_from(at.event - self.first).unwrap_or(usize::MAX);
        let Some((_, event)) = self.events.get(index) else { return Next::Nothing };
        *at = At { event: at.event + 1, rows: at.rows + rows(event) };
        Next::Event(event.clone())
    }
}

fn rows(event: &Event) -> u64 {
    match event {
        Event::Frame(found) => found.placed.frame.rows() as u64,
        Event::Gap(..) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ring: &Ring, at: &mut At) -> Vec<i64> {
        std::iter::from_fn(|| match ring.next(at) {
            Next::Event(Event::Gap(from, _)) => Some(from),
            Next::Late => {
                ring.skip(at);
                Some(-1)
            }
            _ => None,
        })
        .collect()
    }

    #[test]
    fn each_tail_has_its_own_place_and_who_is_slow_is_told() {
        let (mut ring, now) = (Ring::new(3), Instant::now());
        let mut slow = ring.end();
        ring.push(Event::Gap(1, 1), now);
        let mut quick = ring.end();
        assert!(ring.gap_behind(slow) && !ring.gap_behind(quick));
        (2..=5).for_each(|n| ring.push(Event::Gap(n, n), now));
        assert_eq!((told(&ring, &mut slow), told(&ring, &mut quick)), (vec![-1], vec![-1]));
        ring.push(Event::Gap(6, 6), now);
        ring.push(Event::Gap(7, 7), now);
        assert_eq!(told(&ring, &mut quick), [6, 7]);
        ring.age(now + KEPT_MAX * 2);
        assert_eq!((told(&ring, &mut slow), told(&ring, &mut quick)), (vec![-1], vec![]), "only who is behind is late");
    }
}
