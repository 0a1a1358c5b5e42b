//! What ingest counts. The server turns it into metrics; nothing here is per record, and of tenants only what is small.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use prism_model::Signal;

use crate::sizes::{Histogram, SmallRequests};

/// Names that a labelled counter keeps apart; what comes after is counted together. Labels are the plugins', so only
/// plugins could make more.
const LABELS_MAX: usize = 256;

/// Counters since the pipeline was made.
#[derive(Debug, Default)]
pub struct IngestMetrics {
    /// Spans.
    pub spans: SignalMetrics,
    /// Log records.
    pub logs: SignalMetrics,
    /// Data points.
    pub points: SignalMetrics,
    /// Requests refused because their tenant had too many waiting.
    pub refused_tenant_full: AtomicU64,
    /// Requests refused because the node had too many waiting.
    pub refused_node_full: AtomicU64,
    /// Requests that wait or are worked on now.
    pub queued_requests: AtomicU64,
    /// Bytes of their bodies as they came.
    pub queued_bytes: AtomicU64,
    /// Nanoseconds of threads in decompression and decoding.
    pub decode_nanos: AtomicU64,
    /// Nanoseconds of threads in plugin chains.
    pub chain_nanos: AtomicU64,
    /// Of these, nanoseconds in guests.
    pub guest_nanos: AtomicU64,
    /// Calls of guests.
    pub guest_calls: AtomicU64,
    /// Values whose verdict was remembered.
    pub verdicts_remembered: AtomicU64,
    /// Values that a guest had to look at.
    pub verdicts_asked: AtomicU64,
    /// Batches that a plugin failed on.
    pub plugin_failures: AtomicU64,
    /// Batches refused because a tenant's plugins could not be loaded or its bindings not be read.
    pub chains_missing: AtomicU64,
    /// Small requests of each tenant.
    pub small_requests: SmallRequests,
    /// Requests remembered now as stored within the duplicate window.
    pub duplicate_window_entries: AtomicU64,
    /// Requests that were forgotten before the window's end because there were too many.
    pub duplicate_window_evicted: AtomicU64,
    /// Frames and segments whose requests could not be recalled.
    pub duplicate_window_unread: AtomicU64,
    /// Values redacted, by (plugin, label).
    pub redacted: Labelled,
    /// Items dropped by filters, by (binding, label).
    pub dropped: Labelled,
}

/// Counters of one signal.
#[derive(Debug, Default)]
pub struct SignalMetrics {
    /// Requests that came.
    pub requests: AtomicU64,
    /// Requests that were answered with an error.
    pub failed: AtomicU64,
    /// Bytes of bodies as they came.
    pub bytes: AtomicU64,
    /// Bytes of bodies, decompressed.
    pub bytes_decompressed: AtomicU64,
    /// Items stored.
    pub items: AtomicU64,
    /// Items rejected by partial success.
    pub rejected: AtomicU64,
    /// Items dropped by filters.
    pub dropped: AtomicU64,
    /// Requests not stored because one with the same key was.
    pub duplicates_by_key: AtomicU64,
    /// Requests not stored because one with the same key and another body was.
    pub duplicates_by_key_of_other_body: AtomicU64,
    /// Requests not stored because one with the same body was.
    pub duplicates_by_body: AtomicU64,
    /// Bytes of the bodies of all of these as they came.
    pub duplicate_bytes: AtomicU64,
    /// Bytes of each body as it came, in buckets of [`crate::sizes::REQUEST_BYTES_BOUNDS`].
    pub request_bytes: Histogram,
    /// Bytes of each body, decompressed, in the same buckets.
    pub request_bytes_decompressed: Histogram,
    /// Items of each request, whatever became of them, in buckets of [`crate::sizes::REQUEST_ITEMS_BOUNDS`].
    pub request_items: Histogram,
}

impl IngestMetrics {
    /// The counters of a signal.
    pub fn of(&self, signal: Signal) -> &SignalMetrics {
        match signal {
            Signal::Spans => &self.spans,
            Signal::Logs => &self.logs,
            Signal::Metrics => &self.points,
        }
    }
}

/// A counter by two names.
#[derive(Debug, Default)]
pub struct Labelled(Mutex<BTreeMap<(String, String), u64>>);

impl Labelled {
    pub(crate) fn add(&self, name: &str, label: &str, by: u64) {
        let mut counts = self.0.lock();
        let key = (name.to_owned(), label.to_owned());
        if counts.len() < LABELS_MAX || counts.contains_key(&key) {
            *counts.entry(key).or_default() += by;
        } else {
            *counts.entry(("other".to_owned(), "other".to_owned())).or_default() += by;
        }
    }

    /// The counts so far.
    pub fn counts(&self) -> BTreeMap<(String, String), u64> {
        self.0.lock().clone()
    }
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}

pub(crate) fn subtract(counter: &AtomicU64, by: u64) {
    counter.fetch_sub(by, Relaxed);
}
