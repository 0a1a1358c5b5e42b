//! Spans that wait, within a bound, and the thread that hands them on: to an endpoint by OTLP/HTTP, or to a tenant's pipeline.
//!
//! Whoever answers requests never waits for it: what does not fit is dropped and counted, and what cannot be delivered too.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use parking_lot::Mutex;
use prism_ingest::json::Format;
use prism_ingest::{Pipeline, Request};
use prism_model::{Signal, TenantId};
use prost::Message as _;

use super::request::text;
use crate::metrics::{Exposition, Type};

/// Spans of one export, as the OpenTelemetry SDKs have it.
const BATCH_SPANS: usize = 512;
/// How long a span waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Of one export.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one export, where the endpoint may take it later; a collector that restarts is back by then.
const TRIES: u32 = 3;
/// Before the second try, and twice that before the third.
const TRY_WAIT: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the last spans.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Between two lines in the log about what was lost.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// A trace that is not sampled: whoever takes the export, a Prism perhaps, does not trace it.
const NOT_SAMPLED: &str = "00-70726973000000000000000000000001-7072697300000001-00";

/// Where spans go.
pub(super) enum Destination {
    /// By OTLP/HTTP.
    Endpoint { client: reqwest::blocking::Client, url: String, headers: HeaderMap },
    /// Into this process's own pipeline, plugins included.
    Tenant { pipeline: Arc<Pipeline>, tenant: TenantId, runtime: tokio::runtime::Handle },
}

/// Why a batch was not delivered.
struct Undelivered {
    reason: String,
    /// Whether the same may be taken later.
    again: bool,
}

#[derive(Default)]
struct Counts {
    waiting: AtomicUsize,
    exported: AtomicU64,
    dropped_full: AtomicU64,
    dropped_failed: AtomicU64,
    closing: AtomicBool,
}

/// The queue and its thread.
pub(super) struct Exporter {
    queue: Mutex<Option<Sender<Vec<Span>>>>,
    waiting_max: usize,
    counts: Arc<Counts>,
    /// Tells that the thread has ended.
    ended: Mutex<Option<Receiver<()>>>,
}

impl Destination {
    pub(super) fn tenant(name: &str, pipeline: Arc<Pipeline>) -> anyhow::Result<Destination> {
        let tenant = name.parse().with_context(|| format!("`telemetry.to_self`: `{name}` is no tenant"))?;
        Ok(Destination::Tenant { pipeline, tenant, runtime: tokio::runtime::Handle::current() })
    }

    pub(super) fn endpoint(base: &str, headers_file: &Path) -> anyhow::Result<Destination> {
        let parsed: http::Uri =
            base.parse().with_context(|| format!("`telemetry.endpoint`: expected a URL, found `{base}`"))?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) || parsed.host().is_none() {
            bail!("`telemetry.endpoint`: expected http://HOST:PORT or https://HOST:PORT, found `{base}`");
        }
        let mut headers = headers(headers_file)?;
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert("traceparent", HeaderValue::from_static(NOT_SAMPLED));
        // A redirect would take the key elsewhere.
        let client = reqwest::blocking::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Destination::Endpoint { client, url: format!("{}/v1/traces", base.trim_end_matches('/')), headers })
    }

    fn deliver(&self, spans: &ExportTraceServiceRequest) -> Result<(), Undelivered> {
        let body = spans.encode_to_vec();
        match self {
            Destination::Endpoint { client, url, headers } => {
                let answer = client.post(url).headers(headers.clone()).body(body).send();
                let answer = answer.map_err(|e| Undelivered { reason: crate::error::chain(&e), again: true })?;
                let status = answer.status();
                let again = matches!(
                    status,
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                );
                let failed = || Undelivered { reason: format!("answered with status {status}"), again };
                if status.is_success() { Ok(()) } else { Err(failed()) }
            }
            Destination::Tenant { pipeline, tenant, runtime } => {
                let (format, content_encoding, idempotency_key) = (Format::Protobuf, None, None);
                let request = Request { body: body.into(), format, content_encoding, idempotency_key };
                // On the runtime, so that the work goes on whatever becomes of this thread.
                let (pipeline, tenant) = (pipeline.clone(), tenant.clone());
                let work = runtime.spawn(async move { pipeline.ingest(&tenant, Signal::Spans, request).await });
                match runtime.block_on(work) {
                    Ok(Ok(_accepted)) => Ok(()),
                    Ok(Err(e)) => {
                        Err(Undelivered { again: e.retry_after_seconds().is_some(), reason: crate::error::chain(&e) })
                    }
                    Err(_) => Err(Undelivered { reason: "the pipeline is gone".to_owned(), again: false }),
                }
            }
        }
    }
}

/// Headers of a file with a `name: value` a line; none where no file is named.
fn headers(file: &Path) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if file.as_os_str().is_empty() {
        return Ok(headers);
    }
    let shown = file.display();
    let content = std::fs::read_to_string(file).with_context(|| format!("`telemetry.headers_file`: `{shown}`"))?;
    for (i, line) in content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        // Never the line itself: it may hold a key.
        let expected = || format!("`telemetry.headers_file`: expected `name: value` in line {} of `{shown}`", i + 1);
        let (name, value) = line.split_once(':').with_context(expected)?;
        let name: HeaderName = name.trim().parse().with_context(expected)?;
        let mut value: HeaderValue = value.trim().parse().with_context(expected)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

impl Exporter {
    pub(super) fn start(destination: Destination, waiting_max: usize) -> anyhow::Result<Exporter> {
        let counts = Arc::new(Counts::default());
        let (queue, spans) = channel();
        let (ending, ended) = channel();
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).map_err(|e| anyhow::anyhow!("no random numbers: {e}"))?;
        let attributes = vec![
            text("service.name", "prism"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &hex::encode(instance)),
        ];
        let worker = Worker {
            destination,
            spans,
            counts: counts.clone(),
            resource: Resource { attributes, ..Resource::default() },
            logged: None,
            lost: 0,
        };
        std::thread::Builder::new().name("telemetry".to_owned()).spawn(move || {
            worker.run();
            drop(ending);
        })?;
        Ok(Exporter { queue: Mutex::new(Some(queue)), waiting_max, counts, ended: Mutex::new(Some(ended)) })
    }

    /// Puts the spans of a request in the queue, all of them or, where they do not fit, none.
    pub(super) fn push(&self, spans: Vec<Span>) {
        let count = spans.len();
        let before = self.counts.waiting.fetch_add(count, Relaxed);
        let queue = self.queue.lock();
        let sent = match queue.as_ref().filter(|_| before + count <= self.waiting_max) {
            Some(queue) => queue.send(spans).is_ok(),
            None => false,
        };
        if !sent {
            self.counts.waiting.fetch_sub(count, Relaxed);
            self.counts.dropped_full.fetch_add(count as u64, Relaxed);
        }
    }

    /// Takes nothing more, and waits for the last export for a while.
    pub(super) async fn close(&self) {
        self.counts.closing.store(true, Relaxed);
        drop(self.queue.lock().take());
        let Some(ended) = self.ended.lock().take() else { return };
        // Ends by the thread's end: nothing is ever sent.
        let waited = tokio::task::spawn_blocking(move || ended.recv_timeout(CLOSE_WAIT)).await;
        if matches!(waited, Ok(Err(RecvTimeoutError::Timeout))) {
            tracing::warn!("the last spans of Prism's own were not exported in time");
        }
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        let of = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        out.family("prism_server_telemetry_spans_total", Type::Counter, "Prism's own spans, by what became of them.");
        out.sample(&[("outcome", "exported")], of(&self.counts.exported));
        out.sample(&[("outcome", "dropped_queue_full")], of(&self.counts.dropped_full));
        out.sample(&[("outcome", "dropped_not_delivered")], of(&self.counts.dropped_failed));
        let waiting = self.counts.waiting.load(Relaxed) as f64;
        out.one(
            "prism_server_telemetry_waiting_spans",
            Type::Gauge,
            "Prism's own spans that wait for export.",
            waiting,
        );
    }
}

struct Worker {
    destination: Destination,
    spans: Receiver<Vec<Span>>,
    counts: Arc<Counts>,
    resource: Resource,
    logged: Option<Instant>,
    /// Spans lost since the last line in the log.
    lost: u64,
}

impl Worker {
    fn run(mut self) {
        while let Ok(mut batch) = self.spans.recv() {
            let deadline = Instant::now() + BATCH_WAIT;
            while batch.len() < BATCH_SPANS {
                let left = deadline.saturating_duration_since(Instant::now());
                let Ok(more) = self.spans.recv_timeout(left) else { break };
                batch.extend(more);
            }
            let count = batch.len();
            self.export(batch);
            self.counts.waiting.fetch_sub(count, Relaxed);
        }
    }

    fn export(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let scope = InstrumentationScope {
            name: "prism".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let of_resource = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![of_resource] };
        let mut wait = TRY_WAIT;
        for attempt in 1..=TRIES {
            match self.destination.deliver(&request) {
                Ok(()) => {
                    self.counts.exported.fetch_add(count, Relaxed);
                    return;
                }
                // At the end of the process nobody waits for a second try.
                Err(e) if attempt == TRIES || !e.again || self.counts.closing.load(Relaxed) => {
                    self.counts.dropped_failed.fetch_add(count, Relaxed);
                    self.log(&e.reason, count);
                    return;
                }
                Err(_) => {
                    std::thread::sleep(wait);
                    wait *= 2;
                }
            }
        }
    }

    /// One line a minute: an endpoint that is down for a day is no reason for a full log.
    fn log(&mut self, reason: &str, count: u64) {
        self.lost += count;
        if self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            tracing::warn!(spans = self.lost, reason, "Prism's own spans were not delivered and are dropped");
            (self.logged, self.lost) = (Some(Instant::now()), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter(waiting_max: usize) -> Exporter {
        // Nothing listens there, and a connection to it is refused at once.
        let destination = Destination::endpoint("http://127.0.0.1:1", Path::new("")).unwrap();
        Exporter::start(destination, waiting_max).unwrap()
    }

    #[tokio::test]
    async fn an_endpoint_that_is_not_there_costs_counted_drops_and_no_waiting() {
        let crypto = rustls::crypto::ring::default_provider().install_default();
        drop(crypto);
        let exporter = tokio::task::spawn_blocking(|| exporter(3)).await.unwrap();
        exporter.push(vec![Span::default(); 2]);
        exporter.push(vec![Span::default(); 2]);
        assert_eq!(exporter.counts.dropped_full.load(Relaxed), 2, "all of a request or nothing");
        exporter.close().await;
        assert_eq!(exporter.counts.dropped_failed.load(Relaxed), 2);
        assert_eq!(exporter.counts.waiting.load(Relaxed), 0);
        exporter.push(vec![Span::default()]);
        assert_eq!(exporter.counts.dropped_full.load(Relaxed), 3, "after the end nothing is taken");
    }

    #[test]
    fn header_files_are_read_and_faults_told_without_their_content() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("headers");
        std::fs::write(&file, "Authorization: Bearer secret\n\nx-scope: a:b\n").unwrap();
        let read = headers(&file).unwrap();
        assert_eq!(
            (read["authorization"].as_bytes(), read["x-scope"].as_bytes()),
            (&b"Bearer secret"[..], &b"a:b"[..])
        );
        assert!(!format!("{read:?}").contains("secret"));
        std::fs::write(&file, "a: b\nsecret").unwrap();
        let error = format!("{:#}", headers(&file).unwrap_err());
        assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
        assert!(Destination::endpoint("ftp://x", Path::new("")).is_err());
    }
}
