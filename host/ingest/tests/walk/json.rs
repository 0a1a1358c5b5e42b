//! OTLP/JSON that is written, read again by the reference crate.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prism_ingest::{decode, encode};
use prism_model::Limits;
use proptest::prelude::*;
use prost::Message;

use crate::{agree, generate};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The crate's reader refuses empty arrays and maps and NaN (see the contract), so it is asked where it can answer; the
    /// text must be JSON everywhere.
    #[test]
    fn json_reads_back(traces in generate::traces(), logs in generate::logs(), metrics in generate::metrics()) {
        let batch = decode::traces(&traces.encode_to_vec(), &Limits::default()).unwrap().batch;
        let text = encode::traces_json(std::slice::from_ref(&batch));
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        if let Ok(back) = serde_json::from_str::<ExportTraceServiceRequest>(&text) {
            let expected = agree::normal_traces(encode::traces(&batch));
            if !text.contains("\"NaN\"") && !text.contains("Infinity\"") {
                prop_assert_eq!(agree::normal_traces(back), expected, "{}", text);
            }
        }
        let batch = decode::logs(&logs.encode_to_vec(), &Limits::default()).unwrap().batch;
        let text = encode::logs_json(std::slice::from_ref(&batch));
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        if let Ok(back) = serde_json::from_str::<ExportLogsServiceRequest>(&text) {
            let expected = agree::normal_logs(encode::logs(&batch));
            if !text.contains("\"NaN\"") && !text.contains("Infinity\"") {
                prop_assert_eq!(agree::normal_logs(back), expected, "{}", text);
            }
        }
        let batch = decode::metrics(&metrics.encode_to_vec(), &Limits::default()).unwrap().batch;
        let text = encode::metrics_json(std::slice::from_ref(&batch));
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        if let Ok(back) = serde_json::from_str::<ExportMetricsServiceRequest>(&text) {
            let expected = agree::normal_metrics(encode::metrics(&batch));
            // Inside of a metric the crate swallows what it refuses, and reads a metric without data.
            if !text.contains("Value\":{}") && !text.contains("\"NaN\"") && !text.contains("Infinity\"") {
                prop_assert_eq!(agree::normal_metrics(back), expected, "{}", text);
            }
        }
    }
}

#[test]
fn a_trace_of_two_batches_is_one_document() {
    let kv =
        |key: &str, value| KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 };
    let resource = opentelemetry_proto::tonic::resource::v1::Resource {
        attributes: vec![kv("service.name", Value::StringValue("shop".into()))],
        ..Default::default()
    };
    let batch = |id: u8| {
        let span = Span {
            trace_id: vec![0xab; 16],
            span_id: vec![id; 8],
            name: "GET /".into(),
            kind: 2,
            start_time_unix_nano: 1_700_000_000_000_000_001,
            end_time_unix_nano: 1_700_000_000_000_000_002,
            attributes: vec![
                kv("big", Value::IntValue(i64::MAX)),
                kv("bytes", Value::BytesValue(b"hi".to_vec())),
                kv("nan", Value::DoubleValue(f64::NAN)),
            ],
            events: vec![Event { time_unix_nano: 5, name: "e".into(), ..Event::default() }],
            links: vec![Link { trace_id: vec![1; 16], span_id: vec![2; 8], flags: 1, ..Link::default() }],
            status: Some(Status { message: "no".into(), code: 2 }),
            ..Span::default()
        };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let resource_spans =
            vec![ResourceSpans { resource: Some(resource.clone()), scope_spans, schema_url: "u".into() }];
        decode::traces(&ExportTraceServiceRequest { resource_spans }.encode_to_vec(), &Limits::default()).unwrap().batch
    };
    let span = |id: &str| {
        format!(
            r#"{{"traceId":"abababababababababababababababab","spanId":"{id}","name":"GET /","kind":2,"startTimeUnixNano":"1700000000000000001","endTimeUnixNano":"1700000000000000002","attributes":[{{"key":"big","value":{{"intValue":"9223372036854775807"}}}},{{"key":"bytes","value":{{"bytesValue":"aGk="}}}},{{"key":"nan","value":{{"doubleValue":"NaN"}}}}],"events":[{{"timeUnixNano":"5","name":"e"}}],"links":[{{"traceId":"01010101010101010101010101010101","spanId":"0202020202020202","flags":1}}],"status":{{"message":"no","code":2}}}}"#
        )
    };
    assert_eq!(
        encode::traces_json(&[batch(1), batch(2)]),
        format!(
            r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},"scopeSpans":[{{"spans":[{},{}]}}],"schemaUrl":"u"}}]}}"#,
            span("0101010101010101"),
            span("0202020202020202")
        )
    );
    assert_eq!(encode::traces_json(&[]), r#"{"resourceSpans":[]}"#);
}
