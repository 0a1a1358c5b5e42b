//! The requests of one tenant and signal that were stored within the window: a ring by time, looked up by id.
//!
//! Pure: the time comes in, nothing is awaited. Not here: requests under way, and the bound over all tenants (`seen`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use prism_model::BatchId;

/// What the answer to a stored request said, as far as it is not the same for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `None` where only a frame tells of the request, which does not say.
    pub(crate) rejected: Option<u64>,
    pub(crate) reason: Box<str>,
    pub(crate) token: Box<str>,
}

/// A request that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// When it was received, in nanoseconds of the process's steady clock.
    pub(crate) at: i64,
    /// A hash of its body; `None` where only a frame tells of it and it had a key.
    pub(crate) body: Option<u64>,
    /// What was answered.
    pub(crate) outcome: Arc<Outcome>,
}

/// Requests by id, and the order in which they leave.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    by_id: HashMap<BatchId, Stored>,
    by_time: VecDeque<(i64, BatchId)>,
}

impl Kept {
    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The request of an id, where it was received within the window before (or after) now.
    pub(crate) fn find(&self, id: &BatchId, now: i64, window: i64) -> Option<&Stored> {
        self.by_id.get(id).filter(|stored| is_within(stored.at, now, window))
    }

    /// Remembers a request; one of the same id gives way.
    pub(crate) fn insert(&mut self, id: BatchId, stored: Stored) {
        self.by_time.push_back((stored.at, id));
        self.by_id.insert(id, stored);
    }

    /// Forgets what is out of the window. Gives how many requests were forgotten.
    pub(crate) fn expire(&mut self, now: i64, window: i64) -> usize {
        let before = self.len();
        while self.by_time.front().is_some_and(|(at, _)| !is_within(*at, now, window)) {
            self.forget_front();
        }
        before - self.len()
    }

    /// Forgets the request that came first. Gives whether there was one.
    pub(crate) fn evict(&mut self) -> bool {
        let before = self.len();
        while self.len() == before && !self.by_time.is_empty() {
            self.forget_front();
        }
        self.len() < before
    }

    /// Takes the front out of the ring, and its request unless that was received anew since.
    fn forget_front(&mut self) {
        if let Some((at, id)) = self.by_time.pop_front()
            && self.by_id.get(&id).is_some_and(|stored| stored.at == at)
        {
            self.by_id.remove(&id);
        }
        // A storm is over at some time, and its memory is given back.
        if self.by_time.len() < self.by_time.capacity() / 4 {
            self.by_time.shrink_to(self.by_time.len() * 2);
            self.by_id.shrink_to(self.by_id.len() * 2);
        }
    }
}

/// What lies ahead counts as long as it is not further than the window, so that no mistake lasts for ever.
fn is_within(at: i64, now: i64, window: i64) -> bool {
    now.abs_diff(at) < window.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u8) -> BatchId {
        [n; 16]
    }

    fn at(at: i64) -> Stored {
        Stored { at, body: None, outcome: Arc::default() }
    }

    proptest! {
        /// Against a list of (id, time) that is never tidied up: the same answers, whatever was expired in between.
        #[test]
        fn what_is_found_is_what_was_received_within_the_window(
            steps in proptest::collection::vec((0..4u8, 0..6u8, 0..40i64), 1..80), window in 1..60i64,
        ) {
            let (mut kept, mut list, mut now) = (Kept::default(), Vec::<(u8, i64)>::new(), 1_000);
            for (what, n, passed) in steps {
                match what {
                    0 => {
                        kept.insert(id(n), at(now));
                        list.push((n, now));
                    }
                    1 => drop(kept.expire(now, window)),
                    _ => now += passed,
                }
                for n in 0..6 {
                    let last = list.iter().rev().find(|(other, _)| *other == n).map(|(_, at)| *at);
                    let expected = last.filter(|at| now - at < window);
                    prop_assert_eq!(kept.find(&id(n), now, window).map(|s| s.at), expected);
                }
            }
            now += window;
            kept.expire(now, window);
            prop_assert_eq!((kept.len(), kept.by_time.len()), (0, 0));
        }
    }

    #[test]
    fn the_first_that_came_is_evicted_first_and_one_that_came_again_counts_anew() {
        let mut kept = Kept::default();
        for (n, time) in [(1, 10), (2, 20), (1, 30), (3, 40)] {
            kept.insert(id(n), at(time));
        }
        assert_eq!(kept.len(), 3);
        assert!(kept.evict());
        assert!(kept.find(&id(2), 40, 100).is_none() && kept.find(&id(1), 40, 100).is_some());
        assert!(kept.evict() && kept.evict() && !kept.evict());
    }

    #[test]
    fn what_lies_ahead_is_not_kept_for_ever() {
        let mut kept = Kept::default();
        kept.insert(id(1), at(1_000));
        assert!(kept.find(&id(1), 950, 100).is_some(), "a little ahead");
        assert!(kept.find(&id(1), 900, 100).is_none(), "far ahead");
        assert_eq!(kept.expire(900, 100), 1);
    }
}
