//! Seeds of the fuzz targets: small requests that have everything once. `UPDATE=1` writes them anew.

use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prism_ingest::decode::Decoded;
use prism_model::{Limits, Signal};
use prost::Message;

use crate::scramble::{self, Dice, Shape, scramble};
use crate::spell::Speller;
use crate::{agree, as_json};

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

fn metrics() -> ExportMetricsServiceRequest {
    let (start_time_unix_nano, time_unix_nano) = (1_700_000_000_000_000_000, 1_700_000_000_000_000_009);
    let exemplars = vec![Exemplar {
        filtered_attributes: attributes(),
        time_unix_nano,
        span_id: vec![2; 8],
        trace_id: vec![1; 16],
        value: Some(exemplar::Value::AsInt(-3)),
    }];
    let number = |value| NumberDataPoint {
        attributes: attributes(),
        start_time_unix_nano,
        time_unix_nano,
        exemplars: exemplars.clone(),
        flags: 1,
        value,
    };
    let gauge = Gauge { data_points: vec![number(Some(number_data_point::Value::AsDouble(-0.0))), number(None)] };
    let sum = Sum {
        data_points: vec![number(Some(number_data_point::Value::AsInt(-1)))],
        aggregation_temporality: 2,
        is_monotonic: true,
    };
    let histogram = HistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano,
        time_unix_nano,
        count: 6,
        sum: Some(f64::NAN),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, f64::INFINITY],
        exemplars: exemplars.clone(),
        flags: 0,
        min: Some(0.0),
        max: Some(9.0),
    };
    let exponential = ExponentialHistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano,
        time_unix_nano,
        count: 6,
        sum: Some(1.5),
        scale: -2,
        zero_count: 1,
        positive: Some(Buckets { offset: -3, bucket_counts: vec![1, 300] }),
        negative: Some(Buckets::default()),
        flags: 0,
        exemplars,
        min: None,
        max: None,
        zero_threshold: 0.25,
    };
    let summary = SummaryDataPoint {
        attributes: attributes(),
        start_time_unix_nano,
        time_unix_nano,
        count: 6,
        sum: 1.5,
        quantile_values: vec![ValueAtQuantile { quantile: 0.5, value: 2.0 }, ValueAtQuantile::default()],
        flags: 0,
    };
    let data = [
        Data::Gauge(gauge),
        Data::Sum(sum),
        Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 1 }),
        Data::ExponentialHistogram(ExponentialHistogram { data_points: vec![exponential], aggregation_temporality: 2 }),
        Data::Summary(Summary { data_points: vec![summary] }),
    ];
    let metric = |data| Metric {
        name: "m".into(),
        description: "d".into(),
        unit: "s".into(),
        metadata: attributes(),
        data: Some(data),
    };
    let metrics = data.into_iter().map(metric).chain([Metric::default()]).collect();
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, schema_url: "s".into() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { resource: resource(), scope_metrics, schema_url: "r".into() }],
    }
}

#[test]
fn the_seeds_of_the_fuzz_targets_are_up_to_date_and_agree() {
    let limits = Limits { attribute_columns_max: 4, ..Limits::default() };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    type Agree = fn(&[u8], &Limits) -> Result<Option<Decoded>, String>;
    let kinds: [(&str, Vec<u8>, Shape, Agree); 3] = [
        ("traces", traces().encode_to_vec(), scramble::TRACES, agree::traces),
        ("logs", logs().encode_to_vec(), scramble::LOGS, agree::logs),
        ("metrics", metrics().encode_to_vec(), scramble::METRICS, agree::metrics),
    ];
    for (kind, plain, shape, agree) in kinds {
        let rewritten = (1..4).map(|seed| scramble(&plain, shape, &mut Dice(seed)));
        for (i, bytes) in [plain.clone()].into_iter().chain(rewritten).enumerate() {
            let agreed = agree(&bytes, &limits);
            assert!(matches!(agreed, Ok(Some(_))), "{kind} {i}: {agreed:?}");
            check(&dir.join(kind).join(format!("{i}.bin")), &bytes);
        }
    }
    for signal in Signal::ALL {
        let spellers = [Speller::plain(), Speller::odd(1), Speller::odd(2), Speller::odd(3)];
        for (i, speller) in spellers.into_iter().enumerate() {
            let (kind, json) = match signal {
                Signal::Spans => ("json_traces", speller.traces(&traces())),
                Signal::Logs => ("json_logs", speller.logs(&logs())),
                Signal::Metrics => ("json_metrics", speller.metrics(&metrics())),
            };
            assert_eq!(as_json::taken(signal, json.as_bytes(), &limits), Ok(true), "{kind} {i}");
            check(&dir.join(kind).join(format!("{i}.json")), json.as_bytes());
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
