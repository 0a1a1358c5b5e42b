//! What makes a program of the shop tell what it does: the OpenTelemetry SDK, set up as its documentation says, and a
//! count of what the other side acknowledged.
//!
//! Where to send is not decided here: the SDK reads `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_HEADERS` and `…_COMPRESSION`.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::{Counter, Histogram, MeterProvider};
use opentelemetry::trace::{Link, SpanContext, SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{self, BatchLogProcessor, LogBatch, SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{self, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData};
use serde::{Deserialize, Serialize};

mod points;

use points::CountedPoints;

/// Rows that may wait in a process: some seconds of the fastest run, so that a slow server loses nothing.
const QUEUE_ROWS_MAX: usize = 65_536;
/// The advice of the conventions for `http.server.request.duration`, seconds.
const DURATION_BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// A demo wants to see its data soon.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// Of metrics; each time every counter becomes a point.
const MEASURE_INTERVAL: Duration = Duration::from_secs(2);
/// Traces whose spans are counted one by one; a long run needs a few to choose from, not all.
const TRACES_COUNTED_MAX: usize = 5_000;

/// The telemetry of one process.
pub struct Telemetry {
    service: &'static str,
    tracer: SdkTracer,
    logger: SdkLogger,
    durations: Histogram<f64>,
    orders: Counter<u64>,
    tracers: SdkTracerProvider,
    loggers: SdkLoggerProvider,
    meters: SdkMeterProvider,
    sent: Arc<Sent>,
}

impl Telemetry {
    /// Sets up the SDK for this process.
    ///
    /// # Errors
    /// The exporter's configuration in the environment is wrong.
    pub fn start(service: &'static str) -> Result<Telemetry> {
        global::set_text_map_propagator(TraceContextPropagator::new());
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attributes([
                KeyValue::new("service.namespace", "shop"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", format!("{service}-{}", std::process::id())),
                KeyValue::new("deployment.environment.name", "demo"),
                KeyValue::new("host.name", host_name()),
                KeyValue::new("process.pid", i64::from(std::process::id())),
                KeyValue::new("process.executable.name", "prism-shop"),
            ])
            .build();
        let sent = Arc::new(Sent::default());

        let spans = SpanExporter::builder().with_http().build().context("cannot set up the span exporter")?;
        let batches = trace::BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_ROWS_MAX)
            .with_scheduled_delay(FLUSH_INTERVAL);
        let processor = BatchSpanProcessor::builder(Counted { exporter: spans, sent: Arc::clone(&sent) })
            .with_batch_config(batches.build())
            .build();
        let tracers =
            SdkTracerProvider::builder().with_resource(resource.clone()).with_span_processor(processor).build();

        let records = LogExporter::builder().with_http().build().context("cannot set up the log exporter")?;
        let batches = logs::BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_ROWS_MAX)
            .with_scheduled_delay(FLUSH_INTERVAL);
        let processor = BatchLogProcessor::builder(Counted { exporter: records, sent: Arc::clone(&sent) })
            .with_batch_config(batches.build())
            .build();
        let loggers =
            SdkLoggerProvider::builder().with_resource(resource.clone()).with_log_processor(processor).build();

        let points = MetricExporter::builder().with_http().build().context("cannot set up the metric exporter")?;
        let reader = PeriodicReader::builder(CountedPoints { exporter: points, sent: Arc::clone(&sent) })
            .with_interval(MEASURE_INTERVAL)
            .build();
        let meters = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
        let meter = meters.meter("prism-shop");

        Ok(Telemetry {
            service,
            tracer: tracers.tracer("prism-shop"),
            logger: loggers.logger("prism-shop"),
            durations: meter
                .f64_histogram("http.server.request.duration")
                .with_unit("s")
                .with_description("Duration of requests")
                .with_boundaries(DURATION_BOUNDS.to_vec())
                .build(),
            orders: meter
                .u64_counter("shop.orders")
                .with_unit("{order}")
                .with_description("Orders, by what became of them")
                .build(),
            tracers,
            loggers,
            meters,
            sent,
        })
    }

    /// A new span below that of `parent`, or a root where `parent` has none. It ends with the last copy of what is returned.
    pub fn span(
        &self,
        parent: &Context,
        name: impl Into<String>,
        kind: SpanKind,
        attributes: Vec<KeyValue>,
    ) -> Context {
        self.linked_span(parent, name, kind, attributes, Vec::new())
    }

    /// A new span that also points to other spans, which need not be of its trace.
    pub fn linked_span(
        &self,
        parent: &Context,
        name: impl Into<String>,
        kind: SpanKind,
        attributes: Vec<KeyValue>,
        links: Vec<SpanContext>,
    ) -> Context {
        self.sent.spans_started.fetch_add(1, Relaxed);
        let span = self
            .tracer
            .span_builder(name.into())
            .with_kind(kind)
            .with_attributes(attributes)
            .with_links(links.into_iter().map(|to| Link::new(to, Vec::new(), 0)).collect())
            .start_with_context(&self.tracer, parent);
        parent.with_span(span)
    }

    /// A log record that carries the ids of the span in `cx`.
    pub fn log(&self, cx: &Context, severity: Severity, body: impl Into<AnyValue>, attributes: Vec<KeyValue>) {
        self.sent.logs_written.fetch_add(1, Relaxed);
        let mut record = self.logger.create_log_record();
        record.set_timestamp(SystemTime::now());
        record.set_severity_number(severity);
        record.set_severity_text(severity.name());
        record.set_body(body.into());
        for KeyValue { key, value, .. } in attributes {
            record.add_attribute(key, any(value));
        }
        let span = cx.span().span_context().clone();
        if span.is_valid() {
            record.set_trace_context(span.trace_id(), span.span_id(), Some(span.trace_flags()));
        }
        self.logger.emit(record);
    }

    /// Measures how long a request took.
    pub fn request_took(&self, took: Duration, attributes: &[KeyValue]) {
        self.durations.record(took.as_secs_f64(), attributes);
    }

    /// Counts an order: `placed`, or why it failed.
    pub fn count_order(&self, outcome: &str) {
        self.orders.add(1, &[KeyValue::new("outcome", outcome.to_owned())]);
    }

    /// Sends what still waits and says what arrived. Blocks; not for use inside an async runtime.
    pub fn stop(&self) -> Report {
        let ends = [self.tracers.shutdown(), self.loggers.shutdown(), self.meters.shutdown()];
        let failed_to_end = ends.into_iter().find_map(Result::err).map(|error| error.to_string());
        let sent = &self.sent;
        Report {
            service: self.service.to_owned(),
            spans: sent.spans.load(Relaxed),
            spans_lost: sent.spans_started.load(Relaxed).saturating_sub(sent.spans.load(Relaxed)),
            logs: sent.logs.load(Relaxed),
            logs_lost: sent.logs_written.load(Relaxed).saturating_sub(sent.logs.load(Relaxed)),
            points: sent.points.load(Relaxed),
            points_lost: sent.points_read.load(Relaxed).saturating_sub(sent.points.load(Relaxed)),
            error: sent.error.lock().unwrap_or_else(PoisonError::into_inner).take().or(failed_to_end),
            traces: std::mem::take(&mut *sent.traces.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// What one process sent.
#[derive(Default, Serialize, Deserialize)]
pub struct Report {
    /// `service.name`.
    pub service: String,
    /// Spans that the server acknowledged.
    pub spans: u64,
    /// Spans that it did not.
    pub spans_lost: u64,
    /// Log records that the server acknowledged.
    pub logs: u64,
    /// Log records that it did not.
    pub logs_lost: u64,
    /// Metric points that the server acknowledged.
    pub points: u64,
    /// Metric points that it did not.
    pub points_lost: u64,
    /// The first failure to send.
    pub error: Option<String>,
    /// Acknowledged spans by trace id, of the first traces only.
    pub traces: HashMap<String, u64>,
}

#[derive(Debug, Default)]
struct Sent {
    spans_started: AtomicU64,
    logs_written: AtomicU64,
    spans: AtomicU64,
    logs: AtomicU64,
    points_read: AtomicU64,
    points: AtomicU64,
    error: Mutex<Option<String>>,
    traces: Mutex<HashMap<String, u64>>,
}

impl Sent {
    fn note(&self, count: &AtomicU64, rows: usize, outcome: &OTelSdkResult) {
        match outcome {
            Ok(()) => {
                count.fetch_add(rows as u64, Relaxed);
            }
            Err(error) => {
                self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
            }
        }
    }

    fn note_traces(&self, ids: impl Iterator<Item = String>) {
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            if traces.len() < TRACES_COUNTED_MAX || traces.contains_key(&id) {
                *traces.entry(id).or_default() += 1;
            }
        }
    }
}

/// An exporter that counts what was acknowledged.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    sent: Arc<Sent>,
}

impl<E: trace::SpanExporter> trace::SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let ids: Vec<_> = batch.iter().map(|span| span.span_context.trace_id()).collect();
        let outcome = self.exporter.export(batch).await;
        self.sent.note(&self.sent.spans, ids.len(), &outcome);
        if outcome.is_ok() {
            self.sent.note_traces(ids.iter().map(ToString::to_string));
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: logs::LogExporter> logs::LogExporter for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let rows = batch.iter().count();
        let outcome = self.exporter.export(batch).await;
        self.sent.note(&self.sent.logs, rows, &outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

fn any(value: opentelemetry::Value) -> AnyValue {
    match value {
        opentelemetry::Value::Bool(b) => b.into(),
        opentelemetry::Value::I64(i) => i.into(),
        opentelemetry::Value::F64(f) => f.into(),
        other => other.to_string().into(),
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}
