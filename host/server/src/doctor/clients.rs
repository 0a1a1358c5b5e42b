//! How clients use the server that runs here, by what it counts: requests that are too small, and requests that came again.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use prism_ingest::sizes::{SMALL_BYTES, SMALL_PER_SECOND_MANY};

use super::Finding;
use super::network::get;
use crate::config::Config;
use crate::metrics::SMALL_RATE;

/// What to do about small requests, in the words of the clients.
const LARGER: &str = "send fewer, larger ones: raise OTEL_BSP_MAX_EXPORT_BATCH_SIZE (512; with OTEL_BSP_MAX_QUEUE_SIZE) and \
     OTEL_BSP_SCHEDULE_DELAY (5000), for logs OTEL_BLRP_*, or put a Collector in between, whose batch processor sends \
     `send_batch_size: 8192`";

/// All checks of a running server; none where there is no answer.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let Ok(addr) = config.http_addr.parse::<SocketAddr>() else { return Vec::new() };
    match get(addr, "/metrics") {
        Ok(text) if text.contains("\nprism_ingest_requests_total{") => {
            let samples: Vec<Sample<'_>> = text.lines().filter_map(sample).collect();
            vec![sizes(&samples), duplicates(&samples)]
        }
        _ => Vec::new(),
    }
}

/// A line of the exposition: name, labels as they stand, value.
type Sample<'t> = (&'t str, &'t str, f64);

fn sample(line: &str) -> Option<Sample<'_>> {
    let (head, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    Some((name, labels.trim_end_matches('}'), value.parse().ok()?))
}

/// The value of a label. Values of the labels that are looked for hold no quotes.
fn label<'t>(labels: &'t str, name: &str) -> Option<&'t str> {
    labels.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}

fn sizes(samples: &[Sample<'_>]) -> Finding {
    let subject = "request sizes";
    let many: Vec<String> = samples
        .iter()
        .filter(|(name, _, rate)| *name == SMALL_RATE && *rate > SMALL_PER_SECOND_MANY)
        .filter_map(|(_, labels, rate)| Some(format!("{} of tenant `{}`", rate.round(), label(labels, "tenant")?)))
        .collect();
    let small = SMALL_BYTES >> 10;
    if many.is_empty() {
        return Finding::ok(subject, format!("no tenant sends many requests below {small} KiB"));
    }
    Finding::warn(subject, format!("requests a second below {small} KiB: {}", many.join(", ")), LARGER)
}

fn duplicates(samples: &[Sample<'_>]) -> Finding {
    let subject = "duplicates";
    let mut by_kind: BTreeMap<&str, f64> = BTreeMap::new();
    for (_, labels, value) in samples.iter().filter(|(name, _, _)| *name == "prism_ingest_duplicates_total") {
        *by_kind.entry(label(labels, "kind").unwrap_or_default()).or_default() += value;
    }
    let of = |kind| by_kind.get(kind).copied().unwrap_or(0.0);
    let total = |name| samples.iter().filter(|(n, _, _)| *n == name).map(|(_, _, value)| value).sum::<f64>();
    let all: f64 = by_kind.values().sum();
    let found = format!("requests that came again and were not stored twice: {all}");
    if of("key_of_other_body") > 0.0 {
        let found = format!(
            "{found}; {} of them with another body than their Idempotency-Key stood for",
            of("key_of_other_body")
        );
        return Finding::warn(subject, found, "clients must give each request an Idempotency-Key of its own");
    }
    let evicted = total("prism_ingest_duplicate_window_evicted_total");
    if evicted > 0.0 {
        let found = format!("{found}; {evicted} stored ones were forgotten early");
        let todo = "raise ingest.duplicate_tenant_entries_max and ingest.duplicate_entries_max (250 bytes each), or send larger requests";
        return Finding::warn(subject, found, todo);
    }
    Finding::ok(subject, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn samples(text: &str) -> Vec<Sample<'_>> {
        text.lines().filter_map(sample).collect()
    }

    #[test]
    fn small_requests_at_a_high_rate_are_told_with_what_to_set() {
        let line = |tenant: &str, rate: f64| format!("{SMALL_RATE}{{tenant=\"{tenant}\"}} {rate}");
        let text = ["# TYPE x gauge".to_owned(), line("quiet", 99.0), line("shop", 412.4)].join("\n");
        let finding = sizes(&samples(&text));
        assert_eq!(finding.level, Level::Warn);
        assert_eq!(finding.found, "requests a second below 256 KiB: 412 of tenant `shop`");
        assert!(finding.todo.contains("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") && finding.todo.contains("send_batch_size"));
        assert_eq!(sizes(&samples(&line("quiet", 100.0))).level, Level::Ok);
    }

    #[test]
    fn duplicates_are_never_silent_and_a_key_used_twice_is_a_warning() {
        let line =
            |kind: &str, n: u64| format!("prism_ingest_duplicates_total{{signal=\"spans\",kind=\"{kind}\"}} {n}\n");
        let (key, body, other) = (line("key", 2), line("body", 3), line("key_of_other_body", 1));
        let finding = duplicates(&samples(&[key.clone(), body.clone()].concat()));
        assert_eq!((finding.level, finding.found.ends_with(": 5")), (Level::Ok, true));
        assert_eq!(duplicates(&samples(&[key, body, other].concat())).level, Level::Warn);
        assert_eq!(duplicates(&samples("prism_ingest_duplicate_window_evicted_total 4")).level, Level::Warn);
    }
}
