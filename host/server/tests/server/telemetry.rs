//! Prism's own spans: parts of the callers' traces, read back from a tenant or from another Prism.

use std::path::Path;

use prost::Message as _;
use serde_json::Value;

use crate::harness::{PROTOBUF, Server, run, spans, trace_id, until};

const CALLER: &str = "b7ad6b7169203331";
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A server with a `[telemetry]` section of its own.
fn start(data: &Path, telemetry: &str) -> Server {
    std::fs::create_dir_all(data).expect("a folder");
    let file = data.join("prism.toml");
    std::fs::write(&file, format!("[telemetry]\n{telemetry}\n")).expect("writes");
    Server::start(data, &["--dev", "--config", &file.display().to_string()])
}

fn traceparent(seed: u64, flags: &str) -> String {
    format!("00-{}-{CALLER}-{flags}", trace_id(seed))
}

/// The spans of a trace, where it is there yet.
fn stored(server: &Server, seed: u64) -> Vec<Value> {
    let answer = server.get(&format!("/v1/traces/{}", trace_id(seed)));
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let resources = list(&answer.json(), "resourceSpans");
    resources.iter().flat_map(|r| list(r, "scopeSpans")).flat_map(|s| list(&s, "spans")).collect()
}

/// Waits for the spans of a trace: the one of the request first, then its steps by name.
fn wait_for(server: &Server, seed: u64) -> (Value, Vec<String>) {
    until("the spans are stored", || !stored(server, seed).is_empty());
    let spans = stored(server, seed);
    let (requests, steps): (Vec<Value>, Vec<Value>) = spans.into_iter().partition(|s| s["parentSpanId"] == CALLER);
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(steps.iter().all(|s| s["parentSpanId"] == requests[0]["spanId"]), "{steps:?}");
    let mut names: Vec<String> = steps.iter().filter_map(|s| s["name"].as_str()).map(str::to_owned).collect();
    names.sort();
    (requests[0].clone(), names)
}

fn attribute<'s>(span: &'s Value, key: &str) -> Option<&'s str> {
    let all = span["attributes"].as_array()?;
    let value = &all.iter().find(|a| a["key"] == key)?["value"];
    value["stringValue"].as_str().or(value["intValue"].as_str())
}

#[test]
fn a_request_is_a_part_of_its_senders_trace() {
    let data = tempfile::tempdir().expect("a folder");
    let server = start(data.path(), "to_self = 'default'\nsample_ratio = 0.0\nbaggage_keys = ['plan']");
    let send = |seed: u64, parent: Option<&str>| {
        let mut headers = vec![PROTOBUF, ("tracestate", "vendor=x"), ("baggage", "plan=gold,user=Jane%20Doe")];
        headers.extend(parent.map(|p| ("traceparent", p)));
        let answer = server.send("POST", "/v1/traces", &headers, spans(seed, 1).encode_to_vec());
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    send(1, Some(&traceparent(101, "00")));
    send(2, None);
    send(3, Some("00-no-parent-01"));
    send(4, Some(&traceparent(104, "01")));
    let (request, steps) = wait_for(&server, 104);
    assert_eq!((&request["name"], &request["kind"]), (&"POST /v1/traces".into(), &2.into()));
    assert_eq!(request["traceState"], "vendor=x");
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/traces"),
        ("url.path", "/v1/traces"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("prism.tenant", "default"),
        ("plan", "gold"),
    ] {
        assert_eq!(attribute(&request, key), Some(value), "{key} in {request}");
    }
    assert!(!request.to_string().contains("Jane"), "only members that are allowed: {request}");
    assert_eq!(steps, ["commit", "decode", "plugin chain"]);
    assert!(stored(&server, 101).is_empty(), "its sender did not sample it");
    // The two without a parent were not chosen, and the export of these spans is no request.
    let own = "from spans last 1h where service.name = 'prism' and kind = 'server' select count() as n";
    assert_eq!(server.query(own).cell(), 1);
    let data = stored(&server, 4);
    assert!(!Value::from(data.clone()).to_string().contains("gold"), "the call's context is not the data's: {data:?}");
}

#[test]
fn calls_of_grpc_and_failures_are_told_by_their_codes() {
    let data = tempfile::tempdir().expect("a folder");
    let server = start(data.path(), "to_self = 'default'");
    let call = |seed: u64, message: &[u8]| {
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        let request = server.client.post(format!("{}{EXPORT}", server.grpc)).body(body);
        let request = request.header("content-type", "application/grpc").header("traceparent", traceparent(seed, "01"));
        assert_eq!(request.send().expect("an answer").status(), 200);
    };
    call(1, &spans(9, 1).encode_to_vec());
    call(2, b"no protobuf");
    let (request, _) = wait_for(&server, 1);
    assert_eq!(request["name"], EXPORT.trim_start_matches('/'));
    assert_eq!(attribute(&request, "rpc.method"), Some("Export"));
    assert_eq!(attribute(&request, "rpc.grpc.status_code"), Some("0"));
    let (request, steps) = wait_for(&server, 2);
    assert_eq!((attribute(&request, "rpc.grpc.status_code"), steps.len()), (Some("3"), 0));
}

#[test]
fn own_spans_go_to_another_prism_which_does_not_trace_their_export() {
    let data = tempfile::tempdir().expect("a folder");
    let taker = start(&data.path().join("taker"), "to_self = 'default'");
    let server = start(&data.path().join("asked"), &format!("endpoint = '{}'", taker.http));
    let parent = traceparent(7, "01");
    let query = "from spans last 1h where name = 'secret words' select count() as n";
    let answer = server.send("POST", "/v1/query", &[("traceparent", &parent)], query.as_bytes().to_vec());
    assert_eq!(answer.cell(), 0);
    let (request, steps) = wait_for(&taker, 7);
    assert_eq!(request["name"], "POST /v1/query");
    assert_eq!(steps, ["bind", "encode", "finish", "scan", "wait for a seat"]);
    assert!(!Value::from(stored(&taker, 7)).to_string().contains("secret"), "no text of a query");
    let exports = "from spans last 1h where name = 'POST /v1/traces' select count() as n";
    assert_eq!(taker.query(exports).cell(), 0);
    // What waits is exported at the end.
    let parent = traceparent(8, "01");
    server.send("GET", "/v1/fields", &[("traceparent", &parent)], Vec::new());
    server.stop();
    let (request, _) = wait_for(&taker, 8);
    assert_eq!(attribute(&request, "http.route"), Some("/v1/fields"));
}

#[test]
fn an_endpoint_that_is_not_there_costs_counted_drops_and_a_tenant_that_is_not_there_is_told() {
    let data = tempfile::tempdir().expect("a folder");
    let server = start(data.path(), "endpoint = 'http://127.0.0.1:1'\nqueue_spans_max = 4");
    for seed in 0..3 {
        assert_eq!(server.traces(&spans(seed, 1)).status, 200);
    }
    let full = |server: &Server| {
        let metrics = server.get("/metrics").text();
        let name = "prism_server_telemetry_spans_total{outcome=\"dropped_queue_full\"} ";
        metrics.lines().find_map(|l| l.strip_prefix(name)).map(|n| n.parse::<u64>().expect("a number"))
    };
    assert_eq!(full(&server), Some(8), "one request of three has room");
    drop(server);
    let file = data.path().join("prism.toml");
    for (telemetry, expected) in [
        ("to_self = 'nobody'", "no tenant `nobody`"),
        ("endpoint = 'collector:4318'", "expected http://HOST:PORT"),
        ("to_self = 'default'\nendpoint = 'http://x'", "found both"),
        ("sample_ratio = 2.0", "expected 0.0 to 1.0"),
    ] {
        std::fs::write(&file, format!("[telemetry]\n{telemetry}\n")).expect("writes");
        let args = ["serve", "--dev", "--http", "127.0.0.1:0", "--grpc", "", "--config", &file.display().to_string()];
        let (_, error, success) = run(data.path(), &args);
        assert!(!success && error.contains(expected), "{error}");
    }
}
