//! Runs the whole shop against a server that keeps what it is sent, and looks at that: is it what the summary says, does it
//! hang together, is the personal data where the demo says it is?

// In a test a panic is the report.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::process::Command;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use serde_json::Value as Json;

#[derive(Default)]
struct Received {
    /// With `service.name`.
    spans: Vec<(String, Span)>,
    logs: Vec<(String, LogRecord)>,
    /// Points of histograms and sums, with `service.name` and the metric's name.
    points: Vec<(String, String)>,
    keys: HashSet<String>,
}

#[test]
fn what_is_sent_is_what_the_summary_says() {
    let (received, summary) = run_shop();
    let count = |key: &str| summary[key].as_u64().unwrap() as usize;
    assert_eq!((count("spans"), count("spans_lost")), (received.spans.len(), 0));
    assert_eq!((count("logs"), count("logs_lost")), (received.logs.len(), 0));
    assert_eq!((count("points"), count("points_lost")), (received.points.len(), 0));
    let measured: BTreeSet<(&str, &str)> = received.points.iter().map(|(s, m)| (s.as_str(), m.as_str())).collect();
    assert!(measured.contains(&("checkout", "shop.orders")));
    assert_eq!(measured.iter().filter(|(_, name)| *name == "http.server.request.duration").count(), 5);
    assert_eq!(received.keys, HashSet::from(["k,1 %".to_owned()]), "each export carries the header");

    services_are_programs_of_their_own(&received);
    traces_hang_together(&received, &summary);
    personal_data_is_where_the_summary_says(&received, &summary);
}

fn services_are_programs_of_their_own(received: &Received) {
    let services: BTreeSet<&str> = received.spans.iter().map(|(service, _)| service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(["catalogue", "checkout", "customers", "frontend", "mail", "payment"]));
    let logging: BTreeSet<&str> = received.logs.iter().map(|(service, _)| service.as_str()).collect();
    assert_eq!(logging, services);
    let kinds: BTreeSet<SpanKind> = received.spans.iter().map(|(_, span)| span.kind()).collect();
    assert_eq!(kinds.len(), 5, "server, client, internal, producer and consumer: {kinds:?}");
    for (service, span) in received.spans.iter().filter(|(_, span)| span.kind() == SpanKind::Server) {
        let status = attribute(&span.attributes, "http.response.status_code");
        assert!(matches!(status, Some(Value::IntValue(200..=599))), "{service} {}: {status:?}", span.name);
    }
    let healthy =
        received.spans.iter().filter(|(_, span)| span.name == "GET /healthz").map(|(service, _)| service.as_str());
    assert_eq!(healthy.collect::<BTreeSet<_>>().len(), 5, "all but the customers are asked for their health");
}

fn traces_hang_together(received: &Received, summary: &Json) {
    let ids: HashSet<(&[u8], &[u8])> =
        received.spans.iter().map(|(_, span)| (&span.trace_id[..], &span.span_id[..])).collect();
    assert_eq!(ids.len(), received.spans.len(), "span ids are unique");
    let mut links = 0;
    for (service, span) in &received.spans {
        let parent = (&span.trace_id[..], &span.parent_span_id[..]);
        assert!(span.parent_span_id.is_empty() || ids.contains(&parent), "{service}: parent of `{}`", span.name);
        links += span.links.len();
        assert!(span.links.iter().all(|link| ids.contains(&(&link.trace_id[..], &link.span_id[..]))));
    }
    let count = |key: &str| summary[key].as_u64().unwrap() as usize;
    assert_eq!(links, count("orders") - count("failed_orders"), "a link for each confirmed order");
    for (service, log) in &received.logs {
        assert!(ids.contains(&(&log.trace_id[..], &log.span_id[..])), "{service}: a log record of no span");
    }
    let trace = received.spans.iter().filter(|(_, span)| hex(&span.trace_id) == summary["trace"]["id"]);
    let mut services: HashMap<&str, u64> = HashMap::new();
    trace.for_each(|(service, _)| *services.entry(service).or_default() += 1);
    assert_eq!(services.values().sum::<u64>(), summary["trace"]["spans"].as_u64().unwrap());
    assert_eq!(services.len(), 5, "a declined order reaches all programs but the mail: {services:?}");
}

fn personal_data_is_where_the_summary_says(received: &Received, summary: &Json) {
    let id = &summary["trace"]["id"];
    let spans: Vec<&Span> =
        received.spans.iter().map(|(_, span)| span).filter(|span| hex(&span.trace_id) == *id).collect();
    let bodies: Vec<String> = received
        .logs
        .iter()
        .filter(|(_, log)| hex(&log.trace_id) == *id)
        .filter_map(|(_, log)| Some(format!("{:?}", log.body.as_ref()?.value)))
        .collect();
    let pieces = summary["personal"].as_array().unwrap();
    assert_eq!(pieces.len(), 4);
    for piece in pieces {
        let value = piece["value"].as_str().unwrap();
        for place in piece["places"].as_array().unwrap() {
            let place = place.as_str().unwrap();
            let within = |attributes: &[KeyValue]| format!("{:?}", attribute(attributes, place)).contains(value);
            let found = match place {
                "log bodies" => bodies.iter().any(|body| body.contains(value)),
                "status message" => {
                    spans.iter().any(|s| s.status.as_ref().is_some_and(|status| status.message.contains(value)))
                }
                _ => spans
                    .iter()
                    .any(|s| within(&s.attributes) || s.events.iter().any(|event| within(&event.attributes))),
            };
            assert!(found, "{value} in {place}");
        }
    }
}

/// Everything that a run sends, and its summary.
fn run_shop() -> (Received, Json) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let received = Arc::new(Mutex::new(Received::default()));
    let endpoint = runtime.block_on(collect(Arc::clone(&received)));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("summary.json");
    let output = Command::new(env!("CARGO_BIN_EXE_prism-shop"))
        .args(["run", "--orders=24", "--rate=40", "--seed=1", "--uncompressed", "--header", "x-api-key=k,1 %"])
        .arg(format!("--endpoint={endpoint}"))
        .arg(format!("--summary-json={}", file.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    (std::mem::take(&mut received.lock().unwrap()), summary)
}

/// Starts a server that keeps what it is sent; where it listens.
async fn collect(received: Arc<Mutex<Received>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let received = Arc::clone(&received);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let received = Arc::clone(&received);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let mut received = received.lock().unwrap();
                    received.keys.insert(head.headers["x-api-key"].to_str().unwrap().to_owned());
                    received.keep(head.uri.path(), body);
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move { drop(connection.serve_connection(TokioIo::new(stream), service).await) });
        }
    });
    endpoint
}

impl Received {
    fn keep(&mut self, path: &str, body: Bytes) {
        if path == "/v1/traces" {
            for resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
                let service = service(&resource.resource.unwrap().attributes);
                let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                self.spans.extend(spans.map(|span| (service.clone(), span)));
            }
        } else if path == "/v1/metrics" {
            for resource in ExportMetricsServiceRequest::decode(body).unwrap().resource_metrics {
                let service = service(&resource.resource.unwrap().attributes);
                for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                    let points = match metric.data.unwrap() {
                        Data::Sum(sum) => sum.data_points.len(),
                        Data::Histogram(histogram) => histogram.data_points.len(),
                        other => panic!("{other:?}"),
                    };
                    self.points.extend(std::iter::repeat_n((service.clone(), metric.name), points));
                }
            }
        } else {
            for resource in ExportLogsServiceRequest::decode(body).unwrap().resource_logs {
                let service = service(&resource.resource.unwrap().attributes);
                let records = resource.scope_logs.into_iter().flat_map(|scope| scope.log_records);
                self.logs.extend(records.map(|record| (service.clone(), record)));
            }
        }
    }
}

fn service(resource: &[KeyValue]) -> String {
    for key in ["service.version", "service.instance.id", "host.name", "process.pid", "telemetry.sdk.name"] {
        assert!(attribute(resource, key).is_some(), "a resource without `{key}`");
    }
    match attribute(resource, "service.name") {
        Some(Value::StringValue(name)) => name,
        other => panic!("service.name is {other:?}"),
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<Value> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
