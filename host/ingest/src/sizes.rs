//! How large requests are: histograms by signal, and by tenant how many small ones a second come.
//!
//! A request costs the same work whatever it holds (a head, a key, a place in the queue, an answer), so that clients that
//! send many small ones cost most of a node; `prism doctor` tells which tenant's do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use prism_model::TenantId;

/// Upper bounds of the buckets of body sizes, in bytes; one more bucket is above.
pub const REQUEST_BYTES_BOUNDS: [u64; BOUNDS] =
    [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20];
/// Upper bounds of the buckets of items a request; one more bucket is above.
pub const REQUEST_ITEMS_BOUNDS: [u64; BOUNDS] = [1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536];
const BOUNDS: usize = 9;

/// A request below this many bytes (decompressed) is small: some hundred spans.
pub const SMALL_BYTES: usize = 256 << 10;
/// Small requests a second, averaged over a minute, that are worth a word with the client.
pub const SMALL_PER_SECOND_MANY: f64 = 100.0;

/// A histogram whose bounds its reader knows.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS + 1],
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, bounds: &[u64; BOUNDS], value: u64) {
        self.buckets[bounds.partition_point(|bound| *bound < value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Values in each bucket, none cumulative, the last one above all bounds; and the sum of all values.
    pub fn counts(&self) -> ([u64; BOUNDS + 1], u64) {
        (std::array::from_fn(|i| self.buckets[i].load(Relaxed)), self.sum.load(Relaxed))
    }
}

/// Nanoseconds of one slot of a rate.
const SLOT_NANOS: i64 = 10_000_000_000;
/// Slots of the minute that a rate is the average of; one more is being filled.
const SLOTS: i64 = 6;

/// Small requests of each tenant in the last minute.
#[derive(Debug, Default)]
pub struct SmallRequests(Mutex<HashMap<TenantId, Slots>>);

/// Counts by slot; a slot's place is its number modulo their count.
#[derive(Debug, Default)]
struct Slots {
    counts: [u64; SLOTS as usize + 1],
    /// Number of the slot that is being filled.
    current: i64,
}

impl Slots {
    /// Moves on to the slot of a time. A clock that was set back begins anew.
    fn move_to(&mut self, now: i64) {
        let slot = now.div_euclid(SLOT_NANOS);
        if !(0..=SLOTS).contains(&slot.wrapping_sub(self.current)) {
            self.counts = Default::default();
        } else {
            (self.current + 1..=slot).for_each(|passed| *self.at(passed) = 0);
        }
        self.current = slot;
    }

    fn at(&mut self, slot: i64) -> &mut u64 {
        &mut self.counts[slot.rem_euclid(SLOTS + 1) as usize]
    }
}

impl SmallRequests {
    /// Counts a small request received now.
    pub(crate) fn add(&self, tenant: &TenantId, now: i64) {
        let mut tenants = self.0.lock();
        if !tenants.contains_key(tenant) {
            tenants.insert(tenant.clone(), Slots::default());
        }
        if let Some(slots) = tenants.get_mut(tenant) {
            slots.move_to(now);
            *slots.at(slots.current) += 1;
        }
    }

    /// Small requests a second of each tenant that sent any in the last minute, averaged over the last full minute of slots.
    /// Forgets the others: who never reads rates keeps a name of each tenant.
    pub fn per_second(&self, now: i64) -> Vec<(TenantId, f64)> {
        let mut rates = Vec::new();
        self.0.lock().retain(|tenant, slots| {
            slots.move_to(now);
            let all: u64 = slots.counts.iter().sum();
            let full = all - *slots.at(slots.current);
            rates.push((tenant.clone(), full as f64 / (SLOTS * SLOT_NANOS / 1_000_000_000) as f64));
            all > 0
        });
        rates.retain(|(_, rate)| *rate > 0.0);
        rates.sort_by(|(a, _), (b, _)| a.cmp(b));
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_whose_bound_they_reach() {
        let histogram = Histogram::default();
        for value in [0, 1, 2, 65_536, 65_537] {
            histogram.observe(&REQUEST_ITEMS_BOUNDS, value);
        }
        assert_eq!(histogram.counts(), ([2, 1, 0, 0, 0, 0, 0, 0, 1, 1], 131_076));
    }

    #[test]
    fn a_rate_is_the_average_of_a_minute_and_ends_with_it() {
        let (small, a): (SmallRequests, TenantId) = (SmallRequests::default(), "a".parse().unwrap());
        let second = |s: i64| s * 1_000_000_000;
        for s in 0..120 {
            (0..200).for_each(|_| small.add(&a, second(s)));
        }
        assert_eq!(small.per_second(second(120)), [(a.clone(), 200.0)]);
        assert_eq!(small.per_second(second(150)), [(a.clone(), 100.0)], "half of the minute was quiet");
        assert_eq!(small.per_second(second(200)), []);
        assert!(small.0.lock().is_empty(), "who is quiet is forgotten");
        small.add(&a, second(500));
        assert_eq!(small.per_second(second(100)), [], "a clock that was set back");
    }
}
