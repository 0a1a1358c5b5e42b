//! Prism's own spans: each request that it answers, as a part of the trace of whoever sent it, and the steps of its work.
//!
//! ```text
//! context (traceparent, tracestate, baggage) -> request (its span, the steps) -> export (bounded queue, an endpoint or a tenant)
//! ```
//!
//! Off by default; a request that is not sampled costs a look at its headers and allocates nothing. In a span stand routes,
//! codes, counts and times; of a client's words only members of its baggage that the operator has named. Never headers, bodies,
//! keys, texts of queries or ids in paths. The request's own context belongs to the call and not to the data that it brings,
//! which it never touches.
//!
//! What is exported is not traced: a tenant's pipeline is asked without a request, and to an endpoint goes a `traceparent` that
//! says "not sampled", so that even two Prisms that export to each other come to rest.

mod context;
mod request;
mod export;

use std::sync::Arc;

use anyhow::Context as _;
use http::Request;
use prism_ingest::Pipeline;

use crate::config::TelemetrySettings;
use crate::metrics::{Exposition, Route};
use export::{Destination, Exporter};
use request::Ids;
pub(crate) use request::{RequestSpan, note, step, within};

/// Own telemetry that is on.
pub(crate) struct Telemetry {
    /// Of all numbers of 64 bits, how many are sampled where the caller does not say.
    threshold: u64,
    baggage_keys: Vec<String>,
    exporter: Exporter,
}

impl Telemetry {
    /// Starts it where it is configured. Call it within the runtime that runs the pipeline.
    ///
    /// # Errors
    /// In words for the user: what is configured cannot work.
    pub(crate) fn start(
        settings: &TelemetrySettings,
        pipeline: &Arc<Pipeline>,
    ) -> anyhow::Result<Option<Arc<Telemetry>>> {
        let destination = if !settings.to_self.is_empty() {
            Destination::tenant(&settings.to_self, pipeline.clone())?
        } else if !settings.endpoint.is_empty() {
            Destination::endpoint(&settings.endpoint, &settings.headers_file)?
        } else {
            return Ok(None);
        };
        let exporter = Exporter::start(destination, settings.queue_spans_max).context("own telemetry cannot start")?;
        Ok(Some(Arc::new(Telemetry {
            threshold: (settings.sample_ratio.clamp(0.0, 1.0) * u64::MAX as f64) as u64,
            baggage_keys: settings.baggage_keys.clone(),
            exporter,
        })))
    }

    /// The span of a request that begins; `None` where it is not sampled: by the caller's word, else by the share of traces.
    pub(crate) fn begin<B>(&self, request: &Request<B>, route: Route) -> Option<RequestSpan> {
        // Probes come every second and tell nothing.
        if route == Route::Operate {
            return None;
        }
        let parent = context::parent(request.headers());
        if parent.as_ref().is_some_and(|p| !p.sampled) {
            return None;
        }
        let mut random = [0; 24];
        // Without randomness there is no id, and so no span.
        getrandom::fill(&mut random).ok()?;
        let (trace_id, span_id): ([u8; 16], [u8; 8]) = (*random.first_chunk()?, *random.last_chunk()?);
        let ids = match parent {
            Some(parent) => Ids { trace_id: parent.trace_id, span_id, parent: Some(parent.span_id) },
            None => Ids { trace_id, span_id, parent: None },
        };
        if ids.parent.is_none() && !self.is_chosen(&trace_id) {
            return None;
        }
        Some(RequestSpan::begin(ids, request, &self.baggage_keys))
    }

    /// By the last bytes of the trace id, as W3C's random flag and other samplers have it.
    fn is_chosen(&self, trace_id: &[u8; 16]) -> bool {
        trace_id.last_chunk().is_some_and(|bytes| u64::from_be_bytes(*bytes) <= self.threshold) && self.threshold > 0
    }

    /// Hands over the spans of a request that was answered.
    pub(crate) fn end(&self, span: RequestSpan, status: u16, code: Option<crate::error::Code>) {
        self.exporter.push(span.finish(status, code));
    }

    /// Exports what waits, for a while.
    pub(crate) async fn close(&self) {
        self.exporter.close().await;
    }

    /// What is counted.
    pub(crate) fn expose(&self, text: &mut Exposition) {
        self.exporter.expose(text);
    }
}
