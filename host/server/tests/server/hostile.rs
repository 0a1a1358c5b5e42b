//! Hostile input over the real server: every signal over HTTP and gRPC is answered as the contract has it, nothing of what was
//! refused is stored, what was accepted reads back as it was sent, and the server goes on.

mod bytes;
mod values;

use std::io::Write as _;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use serde_json::json;

use crate::harness::Server;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Spans,
    Logs,
    Metrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Protobuf over HTTP.
    Http,
    /// JSON over HTTP.
    Json,
    Grpc,
}

const SIGNALS: [Signal; 3] = [Signal::Spans, Signal::Logs, Signal::Metrics];
const WAYS: [Way; 3] = [Way::Http, Way::Json, Way::Grpc];

/// One item as a test edits it: what the three signals have in common.
#[derive(Clone, Debug)]
struct Item {
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    time: u64,
    name: String,
    attributes: Vec<KeyValue>,
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

impl Item {
    fn new(attributes: Vec<KeyValue>) -> Item {
        let time = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64;
        Item { trace_id: vec![7; 16], span_id: vec![7; 8], time, name: "item".into(), attributes }
    }
}

impl Signal {
    fn path(self, way: Way) -> &'static str {
        match (way, self) {
            (Way::Http | Way::Json, Signal::Spans) => "/v1/traces",
            (Way::Http | Way::Json, Signal::Logs) => "/v1/logs",
            (Way::Http | Way::Json, Signal::Metrics) => "/v1/metrics",
            (Way::Grpc, Signal::Spans) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            (Way::Grpc, Signal::Logs) => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            (Way::Grpc, Signal::Metrics) => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    /// The name in queries.
    fn table(self) -> &'static str {
        match self {
            Signal::Spans => "spans",
            Signal::Logs => "logs",
            Signal::Metrics => "metrics",
        }
    }

    /// A request of these items, as bytes for this way.
    fn request(self, way: Way, items: &[Item]) -> Vec<u8> {
        if way == Way::Json { self.json(items).to_string().into_bytes() } else { self.protobuf(items) }
    }

    fn json(self, items: &[Item]) -> serde_json::Value {
        let item = |i: &Item| {
            let (trace_id, span_id) = (hex::encode(&i.trace_id), hex::encode(&i.span_id));
            let (time, attributes) = (i.time.to_string(), all_shown(&i.attributes));
            match self {
                Signal::Spans => json!({ "traceId": trace_id, "spanId": span_id, "startTimeUnixNano": time,
                    "endTimeUnixNano": time, "name": i.name, "attributes": attributes }),
                Signal::Logs => json!({ "traceId": trace_id, "spanId": span_id, "timeUnixNano": time,
                    "body": { "stringValue": i.name }, "attributes": attributes }),
                Signal::Metrics => json!({ "name": i.name, "gauge": {
                    "dataPoints": [{ "timeUnixNano": time, "attributes": attributes, "asInt": "1" }] } }),
            }
        };
        let items: Vec<_> = items.iter().map(item).collect();
        match self {
            Signal::Spans => json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": items }] }] }),
            Signal::Logs => json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": items }] }] }),
            Signal::Metrics => json!({ "resourceMetrics": [{ "scopeMetrics": [{ "metrics": items }] }] }),
        }
    }

    fn protobuf(self, items: &[Item]) -> Vec<u8> {
        let items = items.iter().cloned();
        match self {
            Signal::Spans => {
                let span = |i: Item| Span {
                    trace_id: i.trace_id,
                    span_id: i.span_id,
                    start_time_unix_nano: i.time,
                    end_time_unix_nano: i.time,
                    name: i.name,
                    attributes: i.attributes,
                    ..Default::default()
                };
                let scope_spans = vec![ScopeSpans { spans: items.map(span).collect(), ..Default::default() }];
                let resource_spans = vec![ResourceSpans { scope_spans, ..Default::default() }];
                ExportTraceServiceRequest { resource_spans }.encode_to_vec()
            }
            Signal::Logs => {
                let record = |i: Item| LogRecord {
                    trace_id: i.trace_id,
                    span_id: i.span_id,
                    time_unix_nano: i.time,
                    body: Some(AnyValue { value: Some(Value::StringValue(i.name)) }),
                    attributes: i.attributes,
                    ..Default::default()
                };
                let scope_logs = vec![ScopeLogs { log_records: items.map(record).collect(), ..Default::default() }];
                let resource_logs = vec![ResourceLogs { scope_logs, ..Default::default() }];
                ExportLogsServiceRequest { resource_logs }.encode_to_vec()
            }
            Signal::Metrics => {
                let metric = |i: Item| Metric {
                    name: i.name,
                    data: Some(metric::Data::Gauge(Gauge {
                        data_points: vec![NumberDataPoint {
                            time_unix_nano: i.time,
                            attributes: i.attributes,
                            value: Some(number_data_point::Value::AsInt(1)),
                            ..Default::default()
                        }],
                    })),
                    ..Default::default()
                };
                let scope_metrics = vec![ScopeMetrics { metrics: items.map(metric).collect(), ..Default::default() }];
                let resource_metrics = vec![ResourceMetrics { scope_metrics, ..Default::default() }];
                ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
            }
        }
    }
}

/// The value in OTLP/JSON.
fn shown(value: &Value) -> serde_json::Value {
    use base64::Engine as _;
    let any = |v: &AnyValue| v.value.as_ref().map_or(json!({}), shown);
    match value {
        Value::StringValue(s) => json!({ "stringValue": s }),
        Value::BoolValue(b) => json!({ "boolValue": b }),
        Value::IntValue(i) => json!({ "intValue": i.to_string() }),
        Value::DoubleValue(d) if d.is_nan() => json!({ "doubleValue": "NaN" }),
        Value::DoubleValue(d) if d.is_infinite() => {
            json!({ "doubleValue": if *d > 0.0 { "Infinity" } else { "-Infinity" } })
        }
        Value::DoubleValue(d) => json!({ "doubleValue": d }),
        Value::BytesValue(b) => json!({ "bytesValue": base64::engine::general_purpose::STANDARD.encode(b) }),
        // A list that is empty is left out, as in all of proto3's JSON.
        Value::ArrayValue(a) if a.values.is_empty() => json!({ "arrayValue": {} }),
        Value::KvlistValue(k) if k.values.is_empty() => json!({ "kvlistValue": {} }),
        Value::ArrayValue(a) => json!({ "arrayValue": { "values": a.values.iter().map(any).collect::<Vec<_>>() } }),
        Value::KvlistValue(k) => json!({ "kvlistValue": { "values": all_shown(&k.values) } }),
        other => panic!("{other:?} is not sent here"),
    }
}

fn all_shown(attributes: &[KeyValue]) -> Vec<serde_json::Value> {
    let value = |a: &KeyValue| a.value.as_ref().and_then(|v| v.value.as_ref()).map_or(json!({}), shown);
    attributes.iter().map(|a| json!({ "key": a.key, "value": value(a) })).collect()
}

/// `Export<Signal>ServiceResponse`: the three have the same fields.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

/// `google.rpc.Status` with the names of its details.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Detail {
    #[prost(string, tag = "1")]
    kind: String,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Taken, but for so many items.
    Taken { rejected: i64 },
    /// Taken as a whole, with a remark.
    Warned,
    /// 400 with BadRequest; INVALID_ARGUMENT.
    Invalid,
    /// 413; RESOURCE_EXHAUSTED without RetryInfo.
    TooLarge,
    /// 415; UNIMPLEMENTED with the encodings that are served.
    Encoding,
}

const ALL: Told = Told::Taken { rejected: 0 };

/// Sends a message, as it is or with the word that it is compressed, and checks the form of the answer.
fn send(server: &Server, signal: Signal, way: Way, encoding: Option<&str>, message: &[u8]) -> Told {
    match way {
        Way::Http => {
            let mut headers = vec![("content-type", "application/x-protobuf")];
            headers.extend(encoding.map(|name| ("content-encoding", name)));
            let answer = server.send("POST", signal.path(way), &headers, message.to_vec());
            assert_eq!(answer.header("content-type"), "application/x-protobuf", "in the request's encoding");
            let status = || Status::decode(answer.body.as_slice()).expect("google.rpc.Status");
            match answer.status {
                200 => taken(&answer.body),
                400 => refused(&status(), 3, "type.googleapis.com/google.rpc.BadRequest", Told::Invalid),
                413 => refused(&status(), 8, "", Told::TooLarge),
                415 => {
                    assert_eq!(answer.header("accept-encoding"), "gzip, zstd");
                    refused(&status(), 3, "", Told::Encoding)
                }
                other => panic!("{signal:?}: {other} {}", answer.text()),
            }
        }
        Way::Json => {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(encoding.map(|name| ("content-encoding", name)));
            let answer = server.send("POST", signal.path(way), &headers, message.to_vec());
            assert_eq!(answer.header("content-type"), "application/json", "in the request's encoding");
            let body = answer.json();
            if answer.status == 200 {
                let partial = &body["partialSuccess"];
                let rejected = ["rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"]
                    .iter()
                    .find_map(|name| partial[name].as_str());
                let rejected = rejected.map_or(0, |n| n.parse().expect("a number"));
                return judged(rejected, partial["errorMessage"].as_str().unwrap_or_default());
            }
            assert!(body["message"].as_str().is_some_and(|m| !m.is_empty()), "{}", answer.text());
            match (answer.status, body["code"].as_i64()) {
                (400, Some(3)) => Told::Invalid,
                (413, Some(8)) => Told::TooLarge,
                (415, Some(3)) => Told::Encoding,
                other => panic!("{signal:?}: {other:?} {}", answer.text()),
            }
        }
        Way::Grpc => {
            let mut framed = vec![u8::from(encoding.is_some())];
            framed.extend((message.len() as u32).to_be_bytes());
            framed.extend(message);
            let mut request = server.client.post(format!("{}{}", server.grpc, signal.path(way))).body(framed);
            request = request.header("content-type", "application/grpc");
            request = encoding.into_iter().fold(request, |request, name| request.header("grpc-encoding", name));
            let answer = crate::harness::answer(request.send().expect("an answer"));
            assert_eq!((answer.status, answer.header("content-type")), (200, "application/grpc"));
            let code = answer.header("grpc-status");
            if code.is_empty() {
                return taken(&answer.body[5..]);
            }
            use base64::Engine as _;
            let details =
                base64::engine::general_purpose::STANDARD_NO_PAD.decode(answer.header("grpc-status-details-bin"));
            let status = details.map(|bytes| Status::decode(bytes.as_slice()).expect("google.rpc.Status")).ok();
            let status = status.filter(|s| s.code != 0).unwrap_or_else(|| Status {
                code: code.parse().expect("a number"),
                message: answer.header("grpc-message").to_owned(),
                details: Vec::new(),
            });
            match status.code {
                3 => refused(&status, 3, "type.googleapis.com/google.rpc.BadRequest", Told::Invalid),
                8 => refused(&status, 8, "", Told::TooLarge),
                12 => {
                    assert_eq!(answer.header("grpc-accept-encoding"), "identity,gzip,zstd");
                    refused(&status, 12, "", Told::Encoding)
                }
                other => panic!("{signal:?}: grpc-status {other} {}", answer.header("grpc-message")),
            }
        }
    }
}

fn taken(body: &[u8]) -> Told {
    let partial = Response::decode(body).expect("a response").partial.unwrap_or_default();
    judged(partial.rejected, &partial.message)
}

fn judged(rejected: i64, message: &str) -> Told {
    match (rejected, message.is_empty()) {
        (0, false) => Told::Warned,
        (0, true) => ALL,
        (rejected, no_reason) => {
            assert!(!no_reason, "a reason for what is rejected");
            Told::Taken { rejected }
        }
    }
}

fn refused(status: &Status, code: i32, detail: &str, told: Told) -> Told {
    assert_eq!(status.code, code, "{}", status.message);
    assert!(!status.message.is_empty());
    let details: Vec<&str> = status.details.iter().map(|d| d.kind.as_str()).collect();
    assert_eq!(details, if detail.is_empty() { vec![] } else { vec![detail] }, "{}", status.message);
    told
}

/// Rows of a signal, of all times.
fn count(server: &Server, signal: Signal, condition: &str) -> i64 {
    let range = "from t'1678-01-01T00:00:00Z' to t'2262-04-01T00:00:00Z'";
    let text = format!("from {} {range} {condition} select count() as n", signal.table());
    server.query(&text).cell().as_i64().expect("a number")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("compresses");
    encoder.finish().expect("compresses")
}
