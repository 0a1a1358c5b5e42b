//! Requests with everything that OTLP has, in odd combinations.

mod metrics;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(crate) use metrics::metrics;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop_oneof![Just("GET"), Just("checkout"), Just("/cart/{id}"), Just("")].prop_map(str::to_owned),
        2 => vec(any::<char>(), 0..12).prop_map(String::from_iter),
        1 => (0u32..1000).prop_map(|i| format!("value-{i}")),
        1 => (100usize..400).prop_map(|n| "long ".repeat(n)),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop_oneof![Just("http.method"), Just("a"), Just("b"), Just("userId"), Just("userid"), Just("db.statement")].prop_map(str::to_owned),
        1 => prop_oneof![Just(""), Just("$bytes"), Just("$double"), Just("odd, key = \"x\"\n"), Just("ключ")].prop_map(str::to_owned),
        1 => vec(any::<char>(), 0..8).prop_map(String::from_iter),
        1 => Just("k".repeat(300)),
    ]
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.0), Just(0.0), Just(1.0)],
    ]
}

fn leaf() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        text().prop_map(|s| Some(Value::StringValue(s))),
        any::<bool>().prop_map(|b| Some(Value::BoolValue(b))),
        prop_oneof![any::<i64>(), Just(0), Just(-1)].prop_map(|i| Some(Value::IntValue(i))),
        double().prop_map(|d| Some(Value::DoubleValue(d))),
        vec(any::<u8>(), 0..20).prop_map(|b| Some(Value::BytesValue(b))),
        any::<i32>().prop_map(|i| Some(Value::StringValueStrindex(i))),
    ]
}

fn value() -> impl Strategy<Value = AnyValue> {
    leaf().prop_map(|value| AnyValue { value }).prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4)
                .prop_map(|values| AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }),
            vec((key(), option::weighted(0.9, inner)), 0..4).prop_map(|entries| {
                let values = entries.into_iter().map(|(key, value)| KeyValue { key, value, key_strindex: 0 }).collect();
                AnyValue { value: Some(Value::KvlistValue(KeyValueList { values })) }
            }),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let index = prop_oneof![20 => Just(0), 1 => any::<i32>()];
    let kv = (key(), option::weighted(0.95, value()), index);
    vec(kv.prop_map(|(key, value, key_strindex)| KeyValue { key, value, key_strindex }), 0..7)
}

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        30 => vec(any::<u8>(), length),
        1 => Just(vec![0; length]),
        1 => vec(any::<u8>(), 0..20),
    ]
}

fn optional_id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![2 => Just(Vec::new()), 3 => id(length)]
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => 1_700_000_000_000_000_000u64..1_700_000_100_000_000_000,
        2 => Just(0),
        1 => Just(i64::MAX as u64),
        1 => any::<u64>(),
    ]
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0), 1 => any::<u32>()]
}

fn enumeration() -> impl Strategy<Value = i32> {
    prop_oneof![8 => 0..6, 1 => any::<i32>()]
}

fn event() -> impl Strategy<Value = Event> {
    (time(), text(), attributes(), count()).prop_map(|(time_unix_nano, name, attributes, dropped_attributes_count)| {
        Event { time_unix_nano: time_unix_nano & i64::MAX as u64, name, attributes, dropped_attributes_count }
    })
}

fn link() -> impl Strategy<Value = Link> {
    (id(16), id(8), text(), attributes(), count(), count()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    )
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (id(16), id(8), optional_id(8));
    let texts = (text(), text(), enumeration(), count());
    let times = (time(), time());
    let children = (attributes(), vec(event(), 0..3), vec(link(), 0..3));
    let dropped = (count(), count(), count());
    let status = option::of((text(), enumeration()).prop_map(|(message, code)| Status { message, code }));
    (ids, texts, times, children, dropped, status).prop_map(|(ids, texts, times, children, dropped, status)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        trace_state: texts.0,
        name: texts.1,
        kind: texts.2,
        flags: texts.3,
        start_time_unix_nano: times.0,
        end_time_unix_nano: times.1,
        attributes: children.0,
        events: children.1,
        links: children.2,
        dropped_attributes_count: dropped.0,
        dropped_events_count: dropped.1,
        dropped_links_count: dropped.2,
        status,
    })
}

fn record() -> impl Strategy<Value = LogRecord> {
    let ids = (optional_id(16), optional_id(8));
    let numbers = (time(), time(), enumeration(), count(), count());
    (ids, numbers, text(), option::of(value()), attributes(), text()).prop_map(
        |(ids, numbers, severity_text, body, attributes, event_name)| LogRecord {
            trace_id: ids.0,
            span_id: ids.1,
            time_unix_nano: numbers.0,
            observed_time_unix_nano: numbers.1,
            severity_number: numbers.2,
            severity_text,
            body,
            attributes,
            dropped_attributes_count: numbers.3,
            flags: numbers.4,
            event_name,
        },
    )
}

fn resource() -> impl Strategy<Value = Option<Resource>> {
    let entity = (text(), text(), vec(text(), 0..3), vec(text(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef { schema_url, r#type, id_keys, description_keys },
    );
    let any =
        (attributes(), count(), vec(entity, 0..2)).prop_map(|(attributes, dropped_attributes_count, entity_refs)| {
            Resource { attributes, dropped_attributes_count, entity_refs }
        });
    let few = (0..3).prop_map(|i| Resource {
        attributes: vec![KeyValue {
            key: "service.name".into(),
            value: Some(AnyValue { value: Some(Value::StringValue(format!("shop-{i}"))) }),
            key_strindex: 0,
        }],
        ..Resource::default()
    });
    option::weighted(0.9, prop_oneof![any, few])
}

fn scope() -> impl Strategy<Value = Option<InstrumentationScope>> {
    let any =
        (text(), text(), attributes(), count()).prop_map(|(name, version, attributes, dropped_attributes_count)| {
            InstrumentationScope { name, version, attributes, dropped_attributes_count }
        });
    let few = (0..2).prop_map(|i| InstrumentationScope { name: format!("lib-{i}"), ..InstrumentationScope::default() });
    option::weighted(0.8, prop_oneof![any, few])
}

fn url() -> impl Strategy<Value = String> {
    prop_oneof![Just(""), Just("https://opentelemetry.io/schemas/1.21.0"), Just("u")].prop_map(str::to_owned)
}

/// Trace requests, empty envelopes and items to refuse included.
pub(crate) fn traces() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope_spans = (scope(), vec(span(), 0..4), url()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    });
    let resource_spans = (resource(), vec(scope_spans, 0..3), url())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 0..4).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// Log requests, empty envelopes and items to refuse included.
pub(crate) fn logs() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scope_logs = (scope(), vec(record(), 0..5), url()).prop_map(|(scope, log_records, schema_url)| ScopeLogs {
        scope,
        log_records,
        schema_url,
    });
    let resource_logs = (resource(), vec(scope_logs, 0..3), url())
        .prop_map(|(resource, scope_logs, schema_url)| ResourceLogs { resource, scope_logs, schema_url });
    vec(resource_logs, 0..4).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}
