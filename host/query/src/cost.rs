//! What a scan has cost so far, and what all scans of a query may read together. Not here: what they will read (`explain`).

use std::sync::atomic::{AtomicU64, Ordering};

use prism_store::{ReadCost, Tier};

use crate::error::QueryError;

/// What a query has cost so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) rows_scanned: AtomicU64,
    pub(crate) rows_matched: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) frames_read: AtomicU64,
    pub(crate) frames_pruned: AtomicU64,
    pub(crate) rollups_read: AtomicU64,
    pub(crate) rows_from_rollups: AtomicU64,
    /// Values that were read: rows times columns.
    pub(crate) cells: AtomicU64,
    pub(crate) busy_nanos: AtomicU64,
    /// In the order of [`crate::TIERS`].
    pub(crate) tiers: [TierCounters; 3],
}

/// What a query has read in a tier so far.
#[derive(Debug, Default)]
pub(crate) struct TierCounters {
    pub(crate) frames_read: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) reads: AtomicU64,
}

impl Counters {
    pub(crate) fn tier(&self, tier: Tier) -> &TierCounters {
        &self.tiers[tier as usize]
    }

    pub(crate) fn read(&self, tier: Tier, cost: ReadCost) {
        let of_tier = self.tier(tier);
        for (counter, n) in [(&self.bytes_read, cost.bytes), (&of_tier.bytes_read, cost.bytes)] {
            add(counter, n);
        }
        for (counter, n) in [(&self.reads, cost.reads), (&of_tier.reads, cost.reads)] {
            add(counter, n);
        }
    }
}

/// What all scans of a query may read together.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    read: AtomicU64,
    most: Option<(u64, &'static str)>,
}

impl Bytes {
    /// So many at most, by a setting.
    pub(crate) fn most(most: Option<(u64, &'static str)>) -> Bytes {
        Bytes { read: AtomicU64::new(0), most }
    }

    /// Refuses what certainly reads too much, before it begins.
    pub(crate) fn refuse(&self, least: u64, most: u64) -> Result<(), QueryError> {
        let read = self.read.load(Ordering::Relaxed);
        match self.most {
            Some((limit, setting)) if read.saturating_add(least) > limit => {
                Err(QueryError::Estimate { least, most, limit, setting })
            }
            _ => Ok(()),
        }
    }

    /// Whether there is a limit.
    pub(crate) fn limited(&self) -> bool {
        self.most.is_some()
    }

    /// Counts what was read.
    pub(crate) fn read(&self, bytes: u64) -> Result<(), QueryError> {
        let read = self.read.fetch_add(bytes, Ordering::Relaxed) + bytes;
        match self.most {
            Some((limit, setting)) if read > limit => Err(QueryError::Bytes { limit, setting }),
            _ => Ok(()),
        }
    }
}

/// Counts on.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
