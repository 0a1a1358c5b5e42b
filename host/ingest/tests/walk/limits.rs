//! Bounds of a request, and what the sender is told.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prism_ingest::decode::{self, DecodeError};
use prism_ingest::encode;
use prism_model::{AttrType, Classify, ColumnId, Intrinsic, Kind, Limits, TableKind};
use prost::Message;

use crate::agree;

fn kv(key: impl Into<String>, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn text(text: &str) -> Value {
    Value::StringValue(text.into())
}

fn span(i: u64, attributes: Vec<KeyValue>) -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: (i + 1).to_be_bytes().to_vec(),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_000_001_000,
        attributes,
        ..Span::default()
    }
}

fn request(spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn nested(levels: usize) -> AnyValue {
    (0..levels).fold(AnyValue { value: Some(Value::IntValue(1)) }, |inner, level| AnyValue {
        value: Some(if level % 2 == 0 {
            Value::ArrayValue(ArrayValue { values: vec![inner] })
        } else {
            Value::KvlistValue(KeyValueList { values: vec![KeyValue { value: Some(inner), ..KeyValue::default() }] })
        }),
    })
}

/// Found by fuzzing: put one after the other, the two arrays would make a whole one.
#[test]
fn messages_are_merged_only_where_each_ends_with_a_field() {
    let array = |content: &[u8]| [&[0x2a, content.len() as u8], content].concat();
    let body = |value: &[u8]| {
        let entry = [&[0x0a, 1, b'k', 0x12, value.len() as u8], value].concat();
        let record = [&[0x32, entry.len() as u8], &entry[..]].concat();
        let scope = [&[0x12, record.len() as u8], &record[..]].concat();
        let resource = [&[0x12, scope.len() as u8], &scope[..]].concat();
        [&[0x0a, resource.len() as u8], &resource[..]].concat()
    };
    let limits = Limits::default();
    // An item of 2 bytes that lie in the next array.
    let cut = body(&[array(&[0x0a, 2]), array(&[0x10, 1])].concat());
    assert!(agree::logs(&cut, &limits).unwrap().is_none());
    assert!(matches!(decode::logs(&cut, &limits), Err(DecodeError::Malformed { .. })));
    let whole = body(&[array(&[0x0a, 2, 0x10, 1]), array(&[0x0a, 2, 0x10, 0])].concat());
    assert!(agree::logs(&whole, &limits).unwrap().is_some());
    assert_eq!(encode::logs_json(&[decode::logs(&whole, &limits).unwrap().batch]).matches("boolValue").count(), 2);
}

#[test]
fn the_depth_of_values_is_bounded() {
    let bytes = |levels| request(vec![span(0, vec![KeyValue { value: Some(nested(levels)), ..KeyValue::default() }])]);
    let limits = Limits { value_depth_max: 20, ..Limits::default() };
    assert!(agree::traces(&bytes(20), &limits).unwrap().is_some());
    let error = decode::traces(&bytes(21), &limits).unwrap_err();
    assert_eq!(error.kind(), Kind::Fix);
    assert_eq!(error.to_string(), "a value is nested more than 20 levels deep (value_depth_max)");
    // Deeper than prost, as deep as the default allows, and far beyond the stack.
    decode::traces(&bytes(64), &Limits::default()).unwrap();
    assert!(matches!(decode::traces(&bytes(65), &Limits::default()), Err(DecodeError::TooDeep { max: 64 })));
    assert!(matches!(decode::traces(&bytes(3_000), &Limits::default()), Err(DecodeError::TooDeep { max: 64 })));
}

#[test]
fn the_number_of_items_is_bounded() {
    let bytes = request((0..11).map(|i| span(i, Vec::new())).collect());
    assert_eq!(decode::traces(&bytes, &Limits { items_max: 11, ..Limits::default() }).unwrap().batch.rows(), 11);
    let error = decode::traces(&bytes, &Limits { items_max: 10, ..Limits::default() }).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (Kind::TooLarge, "the request holds more than 10 items (items_max)".into())
    );
}

#[test]
fn refused_spans_are_counted_with_their_reasons_and_hurt_no_other() {
    let good = || span(9, vec![kv("a", text("kept"))]);
    let spans = vec![
        Span { trace_id: vec![1; 15], ..good() },
        Span { trace_id: vec![0; 16], attributes: vec![kv("b", text("gone"))], ..good() },
        good(),
        Span { span_id: vec![0; 8], ..good() },
        Span { parent_span_id: vec![1; 7], ..good() },
        Span { start_time_unix_nano: u64::MAX, ..good() },
    ];
    let decoded = decode::traces(&request(spans), &Limits::default()).unwrap();
    assert_eq!(decoded.batch.rows(), 1);
    assert!(decoded.batch.items().column(&ColumnId::attr("b", AttrType::Str)).is_none());
    assert_eq!(decoded.rejected.count, 5);
    assert_eq!(
        decoded.rejected.reason,
        "2 spans without a trace id of 16 bytes that are not all zero; \
         1 spans without a span id of 8 bytes that are not all zero; \
         1 spans with a parent span id of neither 0 nor 8 bytes; \
         1 spans with a time beyond 2262-04-11 (int64 nanoseconds)"
    );
}

#[test]
fn a_log_record_with_broken_ids_is_kept_without_them() {
    let record = LogRecord { trace_id: vec![1; 3], span_id: vec![0; 8], severity_number: 9, ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let request =
        ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] };
    let decoded = decode::logs(&request.encode_to_vec(), &Limits::default()).unwrap();
    assert_eq!((decoded.batch.rows(), decoded.rejected.count), (1, 0));
    assert_eq!(decoded.rejected.reason, "1 ids of a wrong length in links, log records or exemplars left out");
    assert!(decoded.batch.items().intrinsic(Intrinsic::TraceId).is_none());
}

#[test]
fn defaults_take_no_column_and_empty_envelopes_no_row() {
    let bytes = request(vec![span(0, Vec::new())]);
    let decoded = decode::traces(&bytes, &Limits::default()).unwrap();
    let names: Vec<String> = decoded.batch.items().columns().iter().map(|c| c.id.to_string()).collect();
    assert_eq!(names, ["trace_id", "span_id", "time", "duration"]);
    let kinds: Vec<TableKind> = decoded.batch.tables().iter().map(|t| t.kind()).collect();
    assert_eq!(kinds, [TableKind::Resources, TableKind::Scopes, TableKind::Items]);
    for empty in [request(Vec::new()), Vec::new()] {
        let decoded = decode::traces(&empty, &Limits::default()).unwrap();
        assert_eq!((decoded.batch.rows(), decoded.batch.tables().len()), (0, 1));
    }
}

#[test]
fn a_key_of_two_types_is_two_columns_and_a_repeated_key_goes_to_the_tail() {
    let spans = vec![
        span(0, vec![kv("k", text("x")), kv("k", Value::IntValue(2)), kv("k", text("y"))]),
        span(1, vec![kv("k", Value::IntValue(3))]),
    ];
    let bytes = request(spans);
    let decoded = agree::traces(&bytes, &Limits::default()).unwrap().unwrap();
    for ty in [AttrType::Str, AttrType::Int] {
        assert_eq!(decoded.batch.items().column(&ColumnId::attr("k", ty)).unwrap().null_count(), 1);
    }
    assert_eq!(decoded.batch.table(TableKind::Tail).unwrap().rows(), 2);
}

#[test]
fn keys_beyond_the_cap_go_to_the_tail() {
    let spans = (0..50).map(|i| span(i, (0..20).map(|k| kv(format!("k{}", i + k), text("v"))).collect())).collect();
    let bytes = request(spans);
    let limits = Limits { attribute_columns_max: 10, ..Limits::default() };
    let decoded = agree::traces(&bytes, &limits).unwrap().unwrap();
    let attributes = |c: &&prism_model::Column| matches!(c.id, ColumnId::Attr { .. });
    assert_eq!(decoded.batch.items().columns().iter().filter(attributes).count(), 10);
    assert!(decoded.batch.table(TableKind::Tail).unwrap().rows() > 800);
}

#[test]
fn many_rows_with_keys_of_their_own_do_not_blow_up() {
    // 60,000 rows x 1,000 columns would be 240 MB of gaps for a request of 3 MB.
    let spans = (0..60_000).map(|i| {
        let odd = (i % 50 == 0).then(|| kv(format!("key-{}", i / 50), text("v")));
        span(i, odd.into_iter().chain([kv("always", Value::BoolValue(true))]).collect())
    });
    let bytes = request(spans.collect());
    let decoded = agree::traces(&bytes, &Limits::default()).unwrap().unwrap();
    assert!(decoded.batch.memory_bytes() < 40 << 20, "{} bytes", decoded.batch.memory_bytes());
    assert!(decoded.batch.items().column(&ColumnId::attr("always", AttrType::Bool)).is_some());
}

#[test]
fn dictionaries_are_given_up_where_values_differ() {
    let spans = (0..3_000u64).map(|i| {
        let mut attributes =
            vec![kv("few", text(["a", "b", "c"][i as usize % 3])), kv("all", text(&format!("value {i}")))];
        if i % 7 == 0 {
            attributes.push(kv("some", text(&format!("{}", i % 11))));
        }
        span(i, attributes)
    });
    let bytes = request(spans.collect());
    let decoded = agree::traces(&bytes, &Limits::default()).unwrap().unwrap();
    let layout = |key: &str| {
        let column = decoded.batch.items().column(&ColumnId::attr(key, AttrType::Str)).unwrap();
        column.data_type().to_string()
    };
    assert_eq!(layout("few"), "Dictionary(UInt32, Utf8)");
    assert_eq!(layout("some"), "Dictionary(UInt32, Utf8)");
    assert_eq!(layout("all"), "Utf8");
}

#[test]
fn an_error_tells_what_and_where() {
    let mut bytes = request(vec![span(0, Vec::new())]);
    bytes.truncate(20);
    let error = decode::traces(&bytes, &Limits::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Fix);
    assert_eq!(
        error.to_string(),
        "expected an OTLP ExportTraceServiceRequest in protobuf, found the message ends inside of a field at byte 2"
    );
    let error = decode::traces(
        &request(vec![span(0, vec![kv("k", text("bad"))])]).replace_last(b"bad", b"b\xffd"),
        &Limits::default(),
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "expected an OTLP ExportTraceServiceRequest in protobuf: a text is not UTF-8");
}

trait ReplaceLast {
    fn replace_last(self, from: &[u8], to: &[u8]) -> Self;
}

impl ReplaceLast for Vec<u8> {
    fn replace_last(mut self, from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = self.windows(from.len()).rposition(|w| w == from).unwrap();
        self[at..at + from.len()].copy_from_slice(to);
        self
    }
}

#[test]
fn equal_resources_share_a_row() {
    let resource = opentelemetry_proto::tonic::resource::v1::Resource {
        attributes: vec![kv("service.name", text("shop"))],
        ..Default::default()
    };
    let group = |i, url: &str| ResourceSpans {
        resource: Some(resource.clone()),
        scope_spans: vec![ScopeSpans { spans: vec![span(i, Vec::new())], ..ScopeSpans::default() }],
        schema_url: url.into(),
    };
    let request = ExportTraceServiceRequest { resource_spans: vec![group(0, "a"), group(1, "b"), group(2, "a")] };
    let decoded = agree::traces(&request.encode_to_vec(), &Limits::default()).unwrap().unwrap();
    assert_eq!(decoded.batch.table(TableKind::Resources).unwrap().rows(), 2);
    assert_eq!(decoded.batch.items().index(Intrinsic::Resource).unwrap().values(), &[0, 1, 0]);
    assert_eq!(encode::traces(&decoded.batch).resource_spans.len(), 2);
}
