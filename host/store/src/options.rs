//! Settings of the store, each with its reason.

use std::time::Duration;

use crate::hot::takeover::Patience;

/// How a [`crate::Store`] writes. Sizes are bytes, times milliseconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// Bytes of batches (as Arrow buffers) that may wait for the disk, over all tenants. Bounds memory: a batch needs about
    /// this once more while it is encoded.
    pub inflight_bytes_max: usize,
    /// How long a batch waits for room before it is refused with "wait".
    pub inflight_wait_ms: u64,
    /// How long the first batch of a group waits for others: an fdatasync costs the same for all of them, and large frames
    /// compress and prune better.
    pub commit_delay_ms: u64,
    /// Rows after which a group does not wait any longer, and rows of a frame: statistics of 16k rows prune well, and one
    /// column of it is read in about a millisecond.
    pub frame_rows: usize,
    /// zstd level, 1 to 3: 3 gains under 1 %.
    pub zstd_level: i32,
    /// Rows older than this when they arrive go to the current window's late segment.
    pub lateness_ms: u64,
    /// Rows further than this in the future go to the current window's late segment: a wrong clock must not open windows.
    pub future_ms: u64,
    /// So long after a window's end its segments are closed, so that they can be sealed; what comes later for it goes to
    /// other files. Most of what is late is late by seconds.
    pub seal_after_ms: u64,
    /// A segment that had no row for so long is closed.
    pub segment_idle_ms: u64,
    /// Open segments of one tenant and signal; the one that was idle longest is closed. 30 minutes of lateness are 7 windows.
    pub segments_open_max: usize,
    /// Segments are closed and followed by another at this size, so that a scan's unit stays bounded.
    pub segment_bytes_max: u64,
    /// A writer whose lease another process did not see renewed for so long is fenced there, and its segments are ended. It is
    /// renewed three times as often. A writer that stood still for longer goes on as another one, and says of what it was
    /// writing that it is not known to be kept. The same for all processes of a folder, at least a second.
    pub lease_ms: u64,
    /// How long after it was made an entry of a folder may be missing where another node lists it: the `acdirmax` that the
    /// file system is mounted with, and a reserve. Files of a fenced writer are measured after this.
    pub listing_stale_ms: u64,
    /// Groups that are encoded at the same time; 0 for the number of processors.
    pub commits_parallel: usize,
    /// Groups that are written and synced at the same time, each with a thread: a journal takes as long for all of them as for
    /// one. one thread took 8 ms a small file; 1,500 took 0.11 s by 32 threads, 0.15 s by 64; `syncfs` took 0.07 s, but also
    /// waits for what others write, and does not tell whose write failed.
    pub syncs_parallel: usize,
    /// Open segments of the process; those that were idle longest are closed. 1,000 tenants with three signals have 3,000, and
    /// twice as many where windows meet. Each takes a file handle and some 10 KB of memory. Fewer where the process may not
    /// have as many handles.
    pub segments_open_total_max: usize,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            inflight_bytes_max: 96 << 20,
            inflight_wait_ms: 1_000,
            commit_delay_ms: 15,
            frame_rows: 16_384,
            zstd_level: 1,
            lateness_ms: 30 * 60_000,
            future_ms: 10 * 60_000,
            seal_after_ms: 30_000,
            segment_idle_ms: 60_000,
            segments_open_max: 16,
            segment_bytes_max: 1 << 30,
            lease_ms: 15_000,
            listing_stale_ms: 3_000,
            commits_parallel: 0,
            syncs_parallel: 32,
            segments_open_total_max: 8_192,
        }
    }
}

impl StoreOptions {
    /// `commit_delay_ms`, at most a second: an acknowledgement waits for it.
    pub(crate) fn commit_delay(&self) -> Duration {
        Duration::from_millis(self.commit_delay_ms.min(1_000))
    }

    /// `lease_ms`, and what it is renewed by.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms.max(1_000))
    }

    /// What observers of this folder's writers go by.
    pub fn patience(&self) -> Patience {
        Patience { lease: self.lease(), stale: Duration::from_millis(self.listing_stale_ms) }
    }

    /// `commits_parallel` resolved.
    pub(crate) fn parallel(&self) -> usize {
        match self.commits_parallel {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            n => n,
        }
    }
}

/// Milliseconds of a setting as nanoseconds; saturates.
pub(crate) fn nanos(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}
