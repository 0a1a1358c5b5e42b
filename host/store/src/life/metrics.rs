//! What moving data counts: for each stage how often, how much, and how it failed; for each tier how far it lags.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A step of the way from hot to gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Segments to a block.
    Seal,
    /// Segments that a block covers are deleted.
    Reclaim,
    /// Blocks to files of the Delta table.
    Promote,
    /// Blocks that the Delta table covers are deleted.
    Retire,
    /// Small files to larger ones.
    Compact,
    /// Files to the archive's storage class.
    Archive,
    /// Rows beyond their age go from the Delta table.
    Expire,
    /// Files that are in no version of the Delta table any more are deleted.
    Vacuum,
}

impl Stage {
    /// All, in the order in which they are run.
    pub const ALL: [Stage; 8] = [
        Stage::Seal,
        Stage::Reclaim,
        Stage::Promote,
        Stage::Retire,
        Stage::Compact,
        Stage::Archive,
        Stage::Expire,
        Stage::Vacuum,
    ];

    /// Its name in metrics and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Seal => "seal",
            Stage::Reclaim => "reclaim",
            Stage::Promote => "promote",
            Stage::Retire => "retire",
            Stage::Compact => "compact",
            Stage::Archive => "archive",
            Stage::Expire => "expire",
            Stage::Vacuum => "vacuum",
        }
    }
}

/// Counters of one stage.
#[derive(Debug, Default)]
pub struct StageMetrics {
    /// Rows that it moved or deleted.
    pub rows: AtomicU64,
    /// Bytes that it wrote or deleted.
    pub bytes: AtomicU64,
    /// Segments, blocks or files that it made or deleted.
    pub parts: AtomicU64,
    /// Passes that failed.
    pub failed: AtomicU64,
    /// Nanoseconds of threads.
    pub nanos: AtomicU64,
}

/// Counters since the process began, and gauges of the last round.
#[derive(Debug, Default)]
pub struct LifeMetrics {
    stages: [StageMetrics; Stage::ALL.len()],
    /// Rounds over all tenants.
    pub rounds: AtomicU64,
    /// Rounds in which nothing was moved, since the tenants could not be listed.
    pub rounds_failed: AtomicU64,
    /// Tenants' signals that wait after failures.
    pub backing_off: AtomicU64,
    /// Segments and blocks that the last pass of each tenant found damaged.
    pub damaged: AtomicU64,
    /// Milliseconds for which the oldest segment could have been sealed, over all tenants.
    pub unsealed_ms: AtomicU64,
    /// Milliseconds for which the oldest block could have been promoted, over all tenants.
    pub unpromoted_ms: AtomicU64,
}

impl LifeMetrics {
    /// The counters of a stage.
    pub fn of(&self, stage: Stage) -> &StageMetrics {
        &self.stages[stage as usize]
    }

    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Relaxed);
    }
}
