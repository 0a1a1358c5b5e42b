//! PL-1 and PL-3 in the whole process: what a redactor removes is nowhere, and when it fails nothing is stored.

use std::path::Path;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::{Status, span};
use prism_tests::{Server, cli, otlp};
use prost::Message as _;

/// Invented, from ranges that are reserved for examples.
const PERSONAL: [&str; 5] = [
    "ada.lovelace@example.com",
    "4111 1111 1111 1111",
    "203.0.113.77",
    "2001:db8::beef:1",
    "Bearer dGhpcyBpcyBub3QgYSByZWFsIHRva2Vu",
];

fn sentence(personal: &str) -> String {
    format!("customer wrote: {personal} (end)")
}

fn string(text: String) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text)) }
}

/// The personal value as text, inside an array, inside a map inside an array, as a map's key, and as an attribute's key.
fn attributes(personal: &str) -> Vec<KeyValue> {
    let text = sentence(personal);
    let entry = |key: &str, value: AnyValue| KeyValue { key: key.into(), value: Some(value), ..Default::default() };
    let map = Value::KvlistValue(KeyValueList { values: vec![entry(&text, string(text.clone()))] });
    let array = ArrayValue { values: vec![string(text.clone()), AnyValue { value: Some(map.clone()) }] };
    vec![
        otlp::text("plain", &text),
        // A repeated key has no column of its own.
        otlp::text("plain", &text),
        otlp::attribute("array", Value::ArrayValue(array)),
        otlp::attribute("map", map),
        otlp::text(&text, "named after it"),
    ]
}

fn trace_request(id: u64, personal: &str) -> Vec<u8> {
    let text = sentence(personal);
    let mut one = otlp::span(id, &text, attributes(personal));
    one.trace_state = format!("vendor={}", text.replace([',', '='], " "));
    one.status = Some(Status { message: text.clone(), code: 2 });
    one.events = vec![span::Event { name: text.clone(), attributes: attributes(personal), ..Default::default() }];
    one.links = vec![span::Link {
        trace_id: one.trace_id.clone(),
        span_id: one.span_id.clone(),
        trace_state: text.clone(),
        attributes: attributes(personal),
        ..Default::default()
    }];
    let mut request = otlp::traces(&text, vec![one]);
    let resource_spans = &mut request.resource_spans[0];
    resource_spans.schema_url = text.clone();
    if let Some(resource) = &mut resource_spans.resource {
        resource.attributes.extend(attributes(personal));
    }
    resource_spans.scope_spans[0].scope = Some(InstrumentationScope {
        name: text.clone(),
        version: text.clone(),
        attributes: attributes(personal),
        ..Default::default()
    });
    resource_spans.scope_spans[0].schema_url = text;
    request.encode_to_vec()
}

fn log_request(personal: &str) -> Vec<u8> {
    let text = sentence(personal);
    let nested = attributes(personal).swap_remove(2).value;
    let record = |body: Option<AnyValue>| LogRecord {
        time_unix_nano: otlp::now(),
        severity_text: text.clone(),
        event_name: text.clone(),
        body,
        attributes: attributes(personal),
        ..Default::default()
    };
    otlp::logs("mail", vec![record(Some(string(text.clone()))), record(nested)]).encode_to_vec()
}

/// Waits until a running server has noticed the tenant's bindings, by what comes back.
fn send_until_redacted(server: &Server, id: &mut u64) {
    server
        .until("the binding is in effect", |server| {
            *id += 1;
            let sent = server.send("traces", trace_request(*id, PERSONAL[0]))?;
            assert_eq!(sent.status, 200, "{}", sent.text());
            Ok(!server.get(&format!("/v1/traces/{id:016x}{id:016x}"))?.text().contains(PERSONAL[0]))
        })
        .expect("the binding takes effect without a restart");
}

#[test]
fn pl_1_personal_data_is_nowhere_in_what_was_stored() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path()).expect("starts");
    cli(data.path(), &["plugin", "bind", "--tenant", "default", "redact-pii"]).expect("binds");
    let mut id = 1;
    send_until_redacted(&server, &mut id);
    for personal in PERSONAL {
        id += 1;
        assert_eq!(server.send("traces", trace_request(id, personal)).expect("an answer").status, 200);
        assert_eq!(server.send("logs", log_request(personal)).expect("an answer").status, 200);
        let trace = server.get(&format!("/v1/traces/{id:016x}{id:016x}")).expect("an answer");
        assert_eq!(trace.status, 200);
        assert!(trace.text().contains("customer wrote: "), "the rest of the text stays");
        assert!(!trace.text().contains(personal), "{personal}: {}", trace.text());
        let rows = server.query("from logs last 1h limit 10000").expect("answers");
        assert!(!rows.is_empty() && !format!("{rows:?}").contains(personal), "{personal}: {rows:?}");
    }
    for path in ["/v1/fields", "/metrics"] {
        let text = server.get(path).expect("an answer").text();
        assert!(PERSONAL.iter().all(|personal| !text.contains(personal)), "{path}");
    }
}

#[test]
fn bindings_change_without_restart() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path()).expect("starts");
    let mut id = 1;
    assert_eq!(server.send("traces", trace_request(id, PERSONAL[0])).expect("an answer").status, 200);
    assert!(server.get("/v1/traces/00000000000000010000000000000001").expect("an answer").text().contains(PERSONAL[0]));
    cli(data.path(), &["plugin", "bind", "--tenant", "default", "redact-pii"]).expect("binds");
    send_until_redacted(&server, &mut id);
    cli(data.path(), &["plugin", "unbind", "--tenant", "default", "redact-pii"]).expect("unbinds");
    server
        .until("the binding is gone", |server| {
            id += 1;
            assert_eq!(server.send("traces", trace_request(id, PERSONAL[0]))?.status, 200);
            Ok(server.get(&format!("/v1/traces/{id:016x}{id:016x}"))?.text().contains(PERSONAL[0]))
        })
        .expect("unbinding takes effect without a restart");
}

#[test]
fn a_configuration_that_does_not_fit_is_refused_with_a_reason() {
    let data = tempfile::tempdir().expect("a folder");
    let bind =
        |config: &str| cli(data.path(), &["plugin", "bind", "--tenant", "default", "redact-pii", "--config", config]);
    let error = bind(r#"{"detectors": ["email", "shoe-size"]}"#).expect_err("refused").to_string();
    assert!(error.contains("detectors") && error.contains("shoe-size"), "{error}");
    let error = bind(r#"{"detector": []}"#).expect_err("refused").to_string();
    assert!(error.contains("detector"), "{error}");
}

#[test]
fn dropped_rows_are_counted_and_the_rest_stays() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path()).expect("starts");
    let config = r#"{"rules": [{"when": [{"field": "http.route", "op": "equals", "value": "/healthz"}]}]}"#;
    cli(data.path(), &["plugin", "bind", "--tenant", "default", "drop-filter", "--config", config]).expect("binds");
    let request = |first: u64| {
        let span = |id: u64| {
            let route = if id.is_multiple_of(2) { "/healthz" } else { "/orders" };
            otlp::span(id, "request", vec![otlp::text("http.route", route)])
        };
        otlp::traces("web", (first..first + 10).map(span).collect()).encode_to_vec()
    };
    let mut first = 1;
    server
        .until("the binding is in effect", |server| {
            first += 10;
            assert_eq!(server.send("traces", request(first))?.status, 200);
            let kept = format!("from spans last 1h where trace_id = '{0:016x}{0:016x}' select count() as n", first + 1);
            Ok(server.number(&kept)? == 0)
        })
        .expect("takes effect");
    let orders = "from spans last 1h where http.route = '/orders' select count() as n";
    let before = server.number(orders).expect("answers");
    assert_eq!(server.send("traces", request(first + 10)).expect("an answer").status, 200);
    assert_eq!(server.number(orders).expect("answers"), before + 5);
    let metrics = server.get("/metrics").expect("an answer").text();
    assert!(metrics.lines().any(|l| l.contains("dropped") && l.contains("drop-filter")), "{metrics}");
}

/// The redactor of the plugin crate's tests that misbehaves as its configuration says, as a component.
fn hostile() -> String {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/plugin/tests/guests/hostile-redactor");
    let test = std::env::current_exe().expect("a path");
    let out = test.ancestors().nth(3).expect("a target folder").join("guests").join("hostile");
    prism_componentize::build_guest(&guest, &out).expect("the hostile guest builds").display().to_string()
}

#[test]
fn pl_1_pl_3_when_a_redactor_fails_nothing_is_stored_and_others_go_on() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path()).expect("starts");
    cli(data.path(), &["tenant", "create", "other"]).expect("creates");
    let key = cli(data.path(), &["key", "create", "--tenant", "other", "--role", "ingest,query"]).expect("creates");
    let key = key.split_whitespace().find(|word| word.starts_with("prism_")).expect("a key is printed").to_owned();
    let plugin = hostile();
    for mode in ["trap", "loop", "alloc"] {
        let config = format!(r#"{{"mode": "{mode}"}}"#);
        let bind = ["plugin", "bind", "--tenant", "default", &plugin, "--name", "hostile", "--config", &config];
        cli(data.path(), &bind).expect("binds");
        let request = |name: &str| otlp::traces(mode, vec![otlp::span(otlp::now(), name, vec![])]).encode_to_vec();
        // Until the running server has noticed the binding, requests pass as before; they carry another name.
        server
            .until("the binding is in effect", |server| Ok(server.send("traces", request("before"))?.status != 200))
            .expect("takes effect");
        let refused = server.send("traces", request("after")).expect("an answer");
        assert_eq!(refused.status, 503, "{mode}: {}", refused.text());
        assert!(refused.retry_after.is_some(), "{mode}: says when to come back");
        let stored = format!("from spans last 1h where service.name = '{mode}' and name = 'after' select count() as n");
        assert_eq!(server.number(&stored).expect("answers"), 0, "{mode}: nothing of a refused batch is stored");

        let headers = [("content-type", "application/x-protobuf"), ("x-api-key", key.as_str())];
        let other = server.post("/v1/traces", &headers, request("other")).expect("an answer");
        assert_eq!(other.status, 200, "{mode}: another tenant goes on: {}", other.text());
    }
    cli(data.path(), &["plugin", "unbind", "--tenant", "default", "hostile"]).expect("unbinds");
    let request = otlp::traces("again", vec![otlp::span(1, "again", vec![])]).encode_to_vec();
    server.until("recovery", |server| Ok(server.send("traces", request.clone())?.status == 200)).expect("recovers");
}
