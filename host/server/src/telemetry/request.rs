//! The span of one request, and the steps of its work as its children.
//!
//! Names and attributes: OpenTelemetry's semantic conventions for HTTP and RPC servers.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::MatchedPath;
use http::{Request, Version};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::SpanKind, status::StatusCode};
use parking_lot::Mutex;

use super::context;
use crate::error::Code;

/// Children of one span: a request has a handful.
const STEPS_MAX: usize = 32;
/// Flags of a span: sampled, and that it is known whether the parent is of another process.
const FLAGS: u32 = 0x101;
/// Flags of a span: the parent is of another process.
const FLAG_REMOTE: u32 = 0x200;

tokio::task_local! {
    /// What the request that this task answers has done so far; not set where it is not sampled.
    static CURRENT: Arc<Mutex<Recorded>>;
}

#[derive(Default)]
struct Recorded {
    steps: Vec<Step>,
    attributes: Vec<KeyValue>,
}

struct Step {
    name: &'static str,
    began: Instant,
    took: Duration,
    attributes: Vec<KeyValue>,
}

/// Who a span is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    /// The caller's span.
    pub(super) parent: Option<[u8; 8]>,
}

/// A request that is being answered and is sampled.
pub(crate) struct RequestSpan {
    ids: Ids,
    began: Instant,
    started: SystemTime,
    name: String,
    trace_state: String,
    /// Whether it is a call of gRPC, which has codes of its own.
    is_rpc: bool,
    attributes: Vec<KeyValue>,
    recorded: Arc<Mutex<Recorded>>,
}

/// Runs the work on a request; its steps are recorded where it has a span.
pub(crate) async fn within<F: Future>(span: Option<&RequestSpan>, work: F) -> F::Output {
    match span {
        Some(span) => CURRENT.scope(span.recorded.clone(), work).await,
        None => work.await,
    }
}

/// Records a step of the request that this task answers, with numbers that tell of it. Does nothing where it is not sampled.
pub(crate) fn step(name: &'static str, began: Instant, took: Duration, numbers: &[(&'static str, u64)]) {
    // Not set: not sampled.
    let _not_sampled = CURRENT.try_with(|recorded| {
        let mut recorded = recorded.lock();
        if recorded.steps.len() < STEPS_MAX {
            let attributes = numbers.iter().map(|(key, n)| int(key, *n)).collect();
            recorded.steps.push(Step { name, began, took, attributes });
        }
    });
}

/// Records something about the request that this task answers. Does nothing where it is not sampled.
pub(crate) fn note(key: &'static str, value: &str) {
    let _not_sampled = CURRENT.try_with(|recorded| recorded.lock().attributes.push(text(key, value)));
}

impl RequestSpan {
    pub(super) fn begin<B>(ids: Ids, request: &Request<B>, baggage_keys: &[String]) -> RequestSpan {
        let method = match request.method().as_str() {
            known @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS" | "PATCH") => known,
            // What a client invents is no name.
            _ => "_OTHER",
        };
        let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let call = route.filter(|path| path.starts_with("/opentelemetry.") || path.starts_with("/grpc."));
        let call = call.and_then(|path| path.trim_start_matches('/').split_once('/'));
        let mut attributes =
            vec![text("network.protocol.name", "http"), text("network.protocol.version", version(request))];
        let name = match (call, route) {
            (Some((service, rpc)), _) => {
                attributes.extend([text("rpc.system", "grpc"), text("rpc.service", service), text("rpc.method", rpc)]);
                format!("{service}/{rpc}")
            }
            (None, route) => {
                attributes.push(text("http.request.method", method));
                // Only a path that is a route: any other holds what a client wrote, and one with a place holds an id.
                if let Some(route) = route {
                    attributes.push(text("http.route", route));
                }
                if let Some(path) = route.filter(|route| !route.contains('{')) {
                    attributes.push(text("url.path", path));
                }
                route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"))
            }
        };
        let members = context::baggage(request.headers(), baggage_keys);
        attributes.extend(members.iter().map(|(key, value)| text(key, value)));
        RequestSpan {
            ids,
            began: Instant::now(),
            started: SystemTime::now(),
            name,
            // Without a parent there is nothing that it would be the state of.
            trace_state: if ids.parent.is_some() { context::trace_state(request.headers()) } else { String::new() },
            is_rpc: call.is_some(),
            attributes,
            recorded: Arc::default(),
        }
    }

    /// The spans of a request that was answered with a status, or a failure's code.
    pub(super) fn finish(self, http_status: u16, code: Option<Code>) -> Vec<Span> {
        let took = self.began.elapsed();
        let Recorded { steps, attributes } = std::mem::take(&mut *self.recorded.lock());
        let mut attributes: Vec<KeyValue> = self.attributes.iter().cloned().chain(attributes).collect();
        let failed = if self.is_rpc {
            let status = code.map_or(0, Code::grpc);
            attributes.push(int("rpc.grpc.status_code", u64::try_from(status).unwrap_or_default()));
            // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS are a server's errors.
            matches!(status, 2 | 4 | 12 | 13 | 14 | 15)
        } else {
            attributes.push(int("http.response.status_code", http_status.into()));
            http_status >= 500
        };
        if let Some(code) = code.filter(|_| failed || http_status >= 400) {
            attributes.push(text("error.type", code.name()));
        }
        let status = Status { code: StatusCode::Error.into(), ..Status::default() };
        let remote = if self.ids.parent.is_some() { FLAG_REMOTE } else { 0 };
        let mut spans = vec![Span {
            trace_id: self.ids.trace_id.to_vec(),
            span_id: self.ids.span_id.to_vec(),
            parent_span_id: self.ids.parent.map(|id| id.to_vec()).unwrap_or_default(),
            trace_state: self.trace_state.clone(),
            flags: FLAGS | remote,
            name: self.name.clone(),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: nanos(self.started),
            end_time_unix_nano: nanos(self.started + took),
            attributes,
            status: failed.then_some(status),
            ..Span::default()
        }];
        spans.extend(steps.into_iter().filter_map(|step| self.child(step)));
        spans
    }

    fn child(&self, step: Step) -> Option<Span> {
        let mut span_id = [0; 8];
        getrandom::fill(&mut span_id).ok()?;
        let start = self.started + step.began.saturating_duration_since(self.began);
        Some(Span {
            trace_id: self.ids.trace_id.to_vec(),
            span_id: span_id.to_vec(),
            parent_span_id: self.ids.span_id.to_vec(),
            trace_state: self.trace_state.clone(),
            flags: FLAGS,
            name: step.name.to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: nanos(start),
            end_time_unix_nano: nanos(start + step.took),
            attributes: step.attributes,
            ..Span::default()
        })
    }
}

fn version<B>(request: &Request<B>) -> &'static str {
    match request.version() {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn int(key: &str, value: u64) -> KeyValue {
    let value = any_value::Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX));
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
