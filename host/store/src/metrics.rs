//! What the store counts. The server turns it into metrics; nothing here is per record or per tenant.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the histogram of fdatasync in nanoseconds; one more bucket is above.
pub const SYNC_BOUNDS_NANOS: [u64; 8] =
    [500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 50_000_000, 250_000_000, 1_000_000_000];

/// Counters since the store was opened.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Batches acknowledged.
    pub batches: AtomicU64,
    /// Rows acknowledged.
    pub rows: AtomicU64,
    /// Frames acknowledged.
    pub frames: AtomicU64,
    /// Bytes of acknowledged frames.
    pub bytes_written: AtomicU64,
    /// Groups that failed and were undone.
    pub groups_failed: AtomicU64,
    /// Failed groups that could not be undone at once; appends are refused until they are.
    pub undo_failed: AtomicU64,
    /// Batches refused because too many bytes waited.
    pub refused_busy: AtomicU64,
    /// Rows that went to a late segment.
    pub rows_late: AtomicU64,
    /// Bytes of batches that wait or are being written now.
    pub inflight_bytes: AtomicU64,
    /// Segments open for writing now.
    pub segments_open: AtomicU64,
    /// Times that this process was taken for dead and went on as another writer.
    pub leases_lost: AtomicU64,
    /// Writers that this process took for dead.
    pub writers_fenced: AtomicU64,
    /// Segments of dead writers that this process ended.
    pub segments_ended: AtomicU64,
    /// Times that the wall clock jumped.
    pub clock_jumps: AtomicU64,
    /// Nanoseconds of wall time of threads in encoding.
    pub encode_nanos: AtomicU64,
    /// fdatasync calls by duration, see [`SYNC_BOUNDS_NANOS`].
    pub syncs: [AtomicU64; 9],
    /// Nanoseconds in fdatasync.
    pub sync_nanos: AtomicU64,
}

impl Metrics {
    pub(crate) fn synced(&self, nanos: u64) {
        let bucket = SYNC_BOUNDS_NANOS.partition_point(|&bound| bound < nanos);
        self.syncs[bucket].fetch_add(1, Relaxed);
        self.sync_nanos.fetch_add(nanos, Relaxed);
    }

    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }
}
