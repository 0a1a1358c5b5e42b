//! What was recorded elsewhere goes in and comes out as it was.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, TracesData};
use prism_tests::{Server, otlp, shared};
use prost::Message as _;
use serde_json::Value;

/// A request as a map from (resource, scope, span id …) to the rest, blind to order: attribute lists and spans are sets.
fn canonical(resource_spans: &[ResourceSpans]) -> BTreeMap<String, usize> {
    fn sorted(value: &mut Value) {
        match value {
            Value::Array(items) => {
                items.iter_mut().for_each(sorted);
                if items.iter().all(|i| i.get("key").is_some()) {
                    items.sort_by_key(|i| i["key"].to_string());
                }
            }
            Value::Object(map) => map.values_mut().for_each(sorted),
            _ => {}
        }
    }
    fn text(value: &impl serde::Serialize) -> String {
        let mut value = serde_json::to_value(value).expect("serialises");
        sorted(&mut value);
        value.to_string()
    }
    let mut spans = BTreeMap::new();
    for resource in resource_spans {
        for scope in &resource.scope_spans {
            for span in &scope.spans {
                let key = [
                    text(&resource.resource.clone().unwrap_or_default()),
                    resource.schema_url.clone(),
                    text(&scope.scope.clone().unwrap_or_default()),
                    scope.schema_url.clone(),
                    text(span),
                ];
                *spans.entry(key.join("\n")).or_insert(0) += 1;
            }
        }
    }
    spans
}

#[test]
fn recorded_traces_read_back_as_they_were() {
    let lines = shared::lines("otlp-sample/ob-traces.jsonl.gz").expect("readable");
    if lines.is_empty() {
        return;
    }
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path()).expect("starts");
    let mut sent: Vec<ResourceSpans> = Vec::new();
    for line in lines.iter().take(4) {
        let request: ExportTraceServiceRequest = serde_json::from_str(line).expect("official JSON");
        let answer = server.send("traces", request.encode_to_vec()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        sent.extend(request.resource_spans);
    }
    let ids: BTreeSet<Vec<u8>> =
        sent.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).map(|s| s.trace_id.clone()).collect();
    let mut stored = Vec::new();
    for id in ids.iter().take(25) {
        let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
        let answer = server.get(&format!("/v1/traces/{hex}")).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let trace: TracesData = serde_json::from_slice(&answer.body).expect("official JSON");
        stored.extend(trace.resource_spans);
    }
    let asked: BTreeSet<&Vec<u8>> = ids.iter().take(25).collect();
    for resource in &mut sent {
        for scope in &mut resource.scope_spans {
            scope.spans.retain(|s| asked.contains(&s.trace_id));
        }
    }
    // The recording repeats some spans byte for byte; the view of one trace shows those once.
    let (sent, stored) = (canonical(&sent), canonical(&stored));
    assert_eq!(sent.keys().collect::<Vec<_>>(), stored.keys().collect::<Vec<_>>());
    assert!(stored.values().all(|times| *times == 1));
}

#[test]
fn what_is_refused_is_said_and_counted() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path()).expect("starts");
    let mut spans = vec![otlp::span(1, "good", vec![]), otlp::span(2, "bad", vec![]), otlp::span(3, "bad", vec![])];
    spans[1].trace_id = vec![0; 16];
    spans[2].span_id = vec![1, 2, 3];
    let answer = server.send("traces", otlp::traces("ids", spans).encode_to_vec()).expect("an answer");
    assert_eq!(answer.status, 200);
    let response =
        opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse::decode(&answer.body[..])
            .expect("protobuf");
    let partial = response.partial_success.expect("partial success");
    assert_eq!(partial.rejected_spans, 2);
    assert!(
        partial.error_message.contains("trace_id") || partial.error_message.contains("id"),
        "{}",
        partial.error_message
    );
    assert_eq!(server.number("from spans last 1h select count() as n").expect("answers"), 1);
    let truncated = otlp::traces("cut", vec![otlp::span(4, "cut", vec![])]).encode_to_vec();
    let answer = server.send("traces", truncated[..truncated.len() - 3].to_vec()).expect("an answer");
    assert_eq!(answer.status, 400);
    assert_eq!(server.number("from spans last 1h select count() as n").expect("answers"), 1);
}
