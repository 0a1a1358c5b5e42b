//! The counters of ingest and store under their names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prism_ingest::{IngestMetrics, Labelled, SignalMetrics, sizes};
use prism_model::Signal;

use super::exposition::{Exposition, Type};

/// A counter of each signal: its name, its help, and where it is.
type OfSignal = (&'static str, &'static str, fn(&SignalMetrics) -> &AtomicU64);

const OF_SIGNAL: [OfSignal; 7] = [
    ("prism_ingest_requests_total", "Requests that came.", |m| &m.requests),
    ("prism_ingest_requests_failed_total", "Requests answered with an error.", |m| &m.failed),
    ("prism_ingest_body_bytes_total", "Bytes of bodies as they came.", |m| &m.bytes),
    ("prism_ingest_body_decompressed_bytes_total", "Bytes of bodies, decompressed.", |m| &m.bytes_decompressed),
    ("prism_ingest_items_total", "Spans, log records or data points stored.", |m| &m.items),
    ("prism_ingest_items_rejected_total", "Spans, log records or data points rejected by partial success.", |m| {
        &m.rejected
    }),
    ("prism_ingest_items_dropped_total", "Spans, log records or data points dropped by tenants' filters.", |m| {
        &m.dropped
    }),
];

/// What ingest counts.
pub(crate) fn expose_ingest(metrics: &IngestMetrics, text: &mut Exposition) {
    for (name, help, counter) in OF_SIGNAL {
        text.family(name, Type::Counter, help);
        for signal in Signal::ALL {
            text.sample(&[("signal", signal.as_str())], load(counter(metrics.of(signal))));
        }
    }
    text.family(
        "prism_ingest_requests_refused_total",
        Type::Counter,
        "Requests refused because too many were under way.",
    );
    text.sample(&[("reason", "tenant_full")], load(&metrics.refused_tenant_full));
    text.sample(&[("reason", "node_full")], load(&metrics.refused_node_full));
    sizes(metrics, text);
    duplicates(metrics, text);
    let queued = "Requests that wait or are worked on.";
    text.one("prism_ingest_queued_requests", Type::Gauge, queued, load(&metrics.queued_requests));
    text.one("prism_ingest_queued_bytes", Type::Gauge, "Bytes of their bodies.", load(&metrics.queued_bytes));
    seconds(
        text,
        "prism_ingest_decode_seconds_total",
        "Time of threads in decompression and decoding.",
        &metrics.decode_nanos,
    );
    seconds(text, "prism_plugin_chain_seconds_total", "Time of threads in plugin chains.", &metrics.chain_nanos);
    seconds(text, "prism_plugin_guest_seconds_total", "Of these, time in guests.", &metrics.guest_nanos);
    counter(text, "prism_plugin_guest_calls_total", "Calls of guests.", &metrics.guest_calls);
    text.family("prism_plugin_verdicts_total", Type::Counter, "Values that redactors judged.");
    text.sample(&[("from", "memory")], load(&metrics.verdicts_remembered));
    text.sample(&[("from", "guest")], load(&metrics.verdicts_asked));
    counter(text, "prism_plugin_batches_failed_total", "Batches that a plugin failed on.", &metrics.plugin_failures);
    counter(
        text,
        "prism_plugin_chains_missing_total",
        "Requests refused because the tenant's plugins could not be loaded.",
        &metrics.chains_missing,
    );
    labelled(text, "prism_plugin_redacted_values_total", "Values redacted.", "plugin", &metrics.redacted);
    labelled(
        text,
        "prism_plugin_dropped_items_total",
        "Spans, log records or metric points dropped by filters.",
        "binding",
        &metrics.dropped,
    );
}

/// Small requests of each tenant, which `prism doctor` looks at.
pub(crate) const SMALL_RATE: &str = "prism_ingest_small_requests_per_second";

/// How large requests are.
fn sizes(metrics: &IngestMetrics, text: &mut Exposition) {
    let float = |bounds: &[u64]| bounds.iter().map(|bound| *bound as f64).collect::<Vec<_>>();
    let (bytes, items) = (float(&sizes::REQUEST_BYTES_BOUNDS), float(&sizes::REQUEST_ITEMS_BOUNDS));
    text.histograms("prism_ingest_request_bytes", "Bytes of the body of a request, as it came and decompressed.");
    for signal in Signal::ALL {
        let of = metrics.of(signal);
        for (form, histogram) in [("as_sent", &of.request_bytes), ("decompressed", &of.request_bytes_decompressed)] {
            let (counts, sum) = histogram.counts();
            text.histogram(&[("signal", signal.as_str()), ("form", form)], &bytes, &counts, sum as f64);
        }
    }
    text.histograms("prism_ingest_request_items", "Spans, log records or data points of a request.");
    for signal in Signal::ALL {
        let (counts, sum) = metrics.of(signal).request_items.counts();
        text.histogram(&[("signal", signal.as_str())], &items, &counts, sum as f64);
    }
    let help = "Requests below 256 KiB (decompressed) a second, averaged over the last minute.";
    text.family(SMALL_RATE, Type::Gauge, help);
    for (tenant, rate) in metrics.small_requests.per_second(crate::app::now_unix_nanos()) {
        text.sample(&[("tenant", tenant.as_str())], rate);
    }
}

/// A counter of each signal by kind: the kind, and where it is.
type OfKind = (&'static str, fn(&SignalMetrics) -> &AtomicU64);

/// Requests that came again.
fn duplicates(metrics: &IngestMetrics, text: &mut Exposition) {
    let kinds: [OfKind; 3] = [
        ("key", |m| &m.duplicates_by_key),
        ("key_of_other_body", |m| &m.duplicates_by_key_of_other_body),
        ("body", |m| &m.duplicates_by_body),
    ];
    let help =
        "Requests not stored because the same was stored within the duplicate window, by what they were known by.";
    text.family("prism_ingest_duplicates_total", Type::Counter, help);
    for signal in Signal::ALL {
        for (kind, counter) in kinds {
            text.sample(&[("signal", signal.as_str()), ("kind", kind)], load(counter(metrics.of(signal))));
        }
    }
    text.family("prism_ingest_duplicate_bytes_total", Type::Counter, "Bytes of their bodies as they came.");
    for signal in Signal::ALL {
        text.sample(&[("signal", signal.as_str())], load(&metrics.of(signal).duplicate_bytes));
    }
    text.one(
        "prism_ingest_duplicate_window_requests",
        Type::Gauge,
        "Stored requests that are remembered.",
        load(&metrics.duplicate_window_entries),
    );
    counter(
        text,
        "prism_ingest_duplicate_window_evicted_total",
        "Stored requests forgotten before the end of the duplicate window because there were too many.",
        &metrics.duplicate_window_evicted,
    );
    counter(
        text,
        "prism_ingest_duplicate_window_unread_total",
        "Frames and segments whose requests could not be recalled.",
        &metrics.duplicate_window_unread,
    );
}

/// What the store counts.
pub(crate) fn expose_store(metrics: &prism_store::Metrics, text: &mut Exposition) {
    counter(text, "prism_store_batches_total", "Batches acknowledged.", &metrics.batches);
    counter(text, "prism_store_rows_total", "Rows acknowledged.", &metrics.rows);
    counter(text, "prism_store_frames_total", "Frames acknowledged.", &metrics.frames);
    counter(text, "prism_store_written_bytes_total", "Bytes of acknowledged frames.", &metrics.bytes_written);
    counter(
        text,
        "prism_store_groups_failed_total",
        "Groups of batches that failed and were undone.",
        &metrics.groups_failed,
    );
    counter(
        text,
        "prism_store_undo_failed_total",
        "Failed groups that could not be undone at once.",
        &metrics.undo_failed,
    );
    counter(
        text,
        "prism_store_batches_refused_total",
        "Batches refused because too much waited.",
        &metrics.refused_busy,
    );
    counter(text, "prism_store_rows_late_total", "Rows that came too late for their window.", &metrics.rows_late);
    text.one(
        "prism_store_in_flight_bytes",
        Type::Gauge,
        "Bytes of batches that wait for the disk.",
        load(&metrics.inflight_bytes),
    );
    text.one("prism_store_segments_open", Type::Gauge, "Segments open for writing.", load(&metrics.segments_open));
    counter(
        text,
        "prism_store_leases_lost_total",
        "Times that this process was taken for dead and went on as another writer.",
        &metrics.leases_lost,
    );
    counter(text, "prism_store_writers_fenced_total", "Writers that were taken for dead.", &metrics.writers_fenced);
    counter(
        text,
        "prism_store_segments_ended_total",
        "Segments of dead writers that were ended.",
        &metrics.segments_ended,
    );
    counter(
        text,
        "prism_store_clock_jumps_total",
        "Times that the wall clock jumped by more than 10 s.",
        &metrics.clock_jumps,
    );
    seconds(text, "prism_store_encode_seconds_total", "Time of threads in encoding frames.", &metrics.encode_nanos);
    let bounds: Vec<f64> = prism_store::metrics::SYNC_BOUNDS_NANOS.iter().map(|nanos| *nanos as f64 / 1e9).collect();
    let counts: Vec<u64> = metrics.syncs.iter().map(|bucket| bucket.load(Relaxed)).collect();
    text.histograms("prism_store_sync_duration_seconds", "Time of an fdatasync.");
    text.histogram(&[], &bounds, &counts, load(&metrics.sync_nanos) / 1e9);
}

fn load(counter: &AtomicU64) -> f64 {
    counter.load(Relaxed) as f64
}

fn counter(text: &mut Exposition, name: &str, help: &str, value: &AtomicU64) {
    text.one(name, Type::Counter, help, load(value));
}

fn seconds(text: &mut Exposition, name: &str, help: &str, nanos: &AtomicU64) {
    text.one(name, Type::Counter, help, load(nanos) / 1e9);
}

fn labelled(text: &mut Exposition, name: &str, help: &str, first: &str, counts: &Labelled) {
    text.family(name, Type::Counter, help);
    for ((of, label), count) in counts.counts() {
        text.sample(&[(first, of.as_str()), ("label", label.as_str())], count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        let mut text = Exposition::default();
        expose_ingest(&IngestMetrics::default(), &mut text);
        expose_store(&prism_store::Metrics::default(), &mut text);
        let text = text.finish();
        let mut seen = std::collections::HashSet::new();
        for line in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let crates = ["prism_ingest_", "prism_plugin_", "prism_store_"];
            assert!(crates.iter().any(|c| name.starts_with(c)), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} {kind}");
            assert!(seen.insert(name.to_owned()), "{name} twice");
        }
    }
}
