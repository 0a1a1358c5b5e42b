//! Seeds of the fuzz targets: small requests that have everything once. `UPDATE=1` writes them anew.

use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prism_model::Limits;
use prost::Message;

use crate::agree;
use crate::scramble::{self, Dice, scramble};

fn kv(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn attributes() -> Vec<KeyValue> {
    let values = vec![AnyValue { value: None }, AnyValue { value: Some(Value::DoubleValue(f64::NAN)) }];
    vec![
        kv("s", Value::StringValue("text".into())),
        kv("s", Value::StringValue("again".into())),
        kv("i", Value::IntValue(-1)),
        kv("d", Value::DoubleValue(0.5)),
        kv("b", Value::BoolValue(true)),
        kv("y", Value::BytesValue(vec![0, 255])),
        kv("a", Value::ArrayValue(ArrayValue { values })),
        kv("m", Value::KvlistValue(KeyValueList { values: vec![kv("$k", Value::IntValue(300))] })),
    ]
}

fn resource() -> Option<Resource> {
    let entity = EntityRef {
        schema_url: "u".into(),
        r#type: "service".into(),
        id_keys: vec!["s".into()],
        description_keys: vec!["i".into()],
    };
    Some(Resource { attributes: attributes(), dropped_attributes_count: 1, entity_refs: vec![entity] })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "lib".into(),
        version: "1".into(),
        attributes: attributes(),
        dropped_attributes_count: 1,
    })
}

fn traces() -> ExportTraceServiceRequest {
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        trace_state: "k=v".into(),
        parent_span_id: vec![3; 8],
        flags: 257,
        name: "GET /".into(),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_000_000_009,
        attributes: attributes(),
        dropped_attributes_count: 1,
        events: vec![Event {
            time_unix_nano: 5,
            name: "e".into(),
            attributes: attributes(),
            dropped_attributes_count: 1,
        }],
        dropped_events_count: 2,
        links: vec![Link {
            trace_id: vec![4; 16],
            span_id: vec![5; 8],
            trace_state: "l".into(),
            attributes: attributes(),
            dropped_attributes_count: 1,
            flags: 1,
        }],
        dropped_links_count: 3,
        status: Some(Status { message: "no".into(), code: 2 }),
    };
    let scope_spans = vec![ScopeSpans { scope: scope(), spans: vec![span, Span::default()], schema_url: "s".into() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: resource(), scope_spans, schema_url: "r".into() }],
    }
}

fn logs() -> ExportLogsServiceRequest {
    let record = |body| LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000,
        observed_time_unix_nano: 1_700_000_000_000_000_009,
        severity_number: 9,
        severity_text: "INFO".into(),
        body: Some(AnyValue { value: Some(body) }),
        attributes: attributes(),
        dropped_attributes_count: 1,
        flags: 1,
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        event_name: "e".into(),
    };
    let log_records = attributes().into_iter().filter_map(|kv| kv.value?.value).map(record).take(3).collect();
    let scope_logs = vec![ScopeLogs { scope: scope(), log_records, schema_url: "s".into() }];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: resource(), scope_logs, schema_url: "r".into() }],
    }
}

#[test]
fn the_seeds_of_the_fuzz_targets_are_up_to_date_and_agree() {
    let limits = Limits { attribute_columns_max: 4, ..Limits::default() };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (kind, plain, shape) in
        [("traces", traces().encode_to_vec(), scramble::TRACES), ("logs", logs().encode_to_vec(), scramble::LOGS)]
    {
        let rewritten = (1..4).map(|seed| scramble(&plain, shape, &mut Dice(seed)));
        for (i, bytes) in [plain.clone()].into_iter().chain(rewritten).enumerate() {
            let agreed = if kind == "traces" { agree::traces(&bytes, &limits) } else { agree::logs(&bytes, &limits) };
            assert!(matches!(agreed, Ok(Some(_))), "{kind} {i}: {agreed:?}");
            check(&dir.join(kind).join(format!("{i}.bin")), &bytes);
        }
    }
}

fn check(path: &PathBuf, bytes: &[u8]) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let kept = std::fs::read(path).unwrap_or_default();
    assert!(kept == bytes, "{} is out of date: run again with UPDATE=1", path.display());
}
