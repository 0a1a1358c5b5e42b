//! Data points: what is refused, what is kept as sent, what is interned, and the whole way to disk and back.

use arrow::array::{Array, AsArray, UInt32Array};
use arrow::datatypes::Float64Type;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, number_data_point,
};
use prism_ingest::decode::{self, Decoded};
use prism_ingest::encode;
use prism_model::window::TimeRange;
use prism_model::{Batch, Classify, Cleared, Intrinsic, Kind, Limits, MetricType, Signal, TableKind, TenantId};
use prism_store::{Store, StoreOptions};
use proptest::prelude::*;
use prost::Message;

use crate::{agree, generate};

const NOW: u64 = 1_700_000_000_000_000_000;

fn text(key: &str, text: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(text.into())) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

fn of_scope(scope: &str, metrics: Vec<Metric>) -> ScopeMetrics {
    let scope = Some(InstrumentationScope { name: scope.into(), ..InstrumentationScope::default() });
    ScopeMetrics { scope, metrics, ..ScopeMetrics::default() }
}

fn request(scope_metrics: Vec<ScopeMetrics>) -> Vec<u8> {
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.into(), data: Some(data), ..Metric::default() }
}

fn number(value: f64) -> NumberDataPoint {
    let value = Some(number_data_point::Value::AsDouble(value));
    NumberDataPoint { time_unix_nano: NOW, value, ..NumberDataPoint::default() }
}

fn gauge(name: &str, points: Vec<NumberDataPoint>) -> Metric {
    metric(name, Data::Gauge(Gauge { data_points: points }))
}

fn histogram(bucket_counts: &[u64], explicit_bounds: &[f64]) -> HistogramDataPoint {
    HistogramDataPoint {
        time_unix_nano: NOW,
        bucket_counts: bucket_counts.to_vec(),
        explicit_bounds: explicit_bounds.to_vec(),
        ..HistogramDataPoint::default()
    }
}

fn histograms(points: Vec<HistogramDataPoint>) -> Metric {
    metric("h", Data::Histogram(Histogram { data_points: points, aggregation_temporality: 2 }))
}

fn both(bytes: &[u8]) -> Decoded {
    agree::metrics(bytes, &Limits::default()).unwrap().unwrap()
}

#[test]
fn refused_points_are_counted_with_their_reasons_and_leave_no_trace() {
    let beyond = i64::MAX as u64 + 1;
    let good = || histogram(&[1, 2], &[0.5]);
    let gone = |point: HistogramDataPoint| HistogramDataPoint {
        attributes: vec![text("gone", "x")],
        bucket_counts: [point.bucket_counts, vec![7]].concat(),
        ..point
    };
    let late = Exemplar { time_unix_nano: beyond, ..Exemplar::default() };
    let points = vec![
        gone(HistogramDataPoint { time_unix_nano: beyond, ..good() }),
        good(),
        gone(HistogramDataPoint { start_time_unix_nano: beyond, ..good() }),
        gone(HistogramDataPoint { exemplars: vec![late], ..good() }),
        gone(HistogramDataPoint { count: beyond, ..good() }),
        gone(histogram(&[1, beyond], &[0.5])),
        good(),
    ];
    let exponential = |point| {
        let data_points = vec![point];
        metric("e", Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality: 1 }))
    };
    let buckets = Some(Buckets { offset: 0, bucket_counts: vec![u64::MAX] });
    let of_count = SummaryDataPoint { count: u64::MAX, ..SummaryDataPoint::default() };
    let metrics = vec![
        histograms(points),
        exponential(ExponentialHistogramDataPoint { zero_count: beyond, ..ExponentialHistogramDataPoint::default() }),
        exponential(ExponentialHistogramDataPoint { negative: buckets, ..ExponentialHistogramDataPoint::default() }),
        metric("s", Data::Summary(Summary { data_points: vec![of_count] })),
    ];
    let decoded = both(&request(vec![of_scope("s", metrics)]));
    assert_eq!((decoded.batch.rows(), decoded.rejected.count), (2, 8));
    assert_eq!(
        decoded.rejected.reason,
        "3 data points with a time beyond 2262-04-11 (int64 nanoseconds); 5 data points with a count beyond int64"
    );
    let names: Vec<String> = decoded.batch.items().columns().iter().map(|c| c.id.to_string()).collect();
    assert_eq!(names, ["time", "count", "bucket_counts", "explicit_bounds"]);
    assert_eq!(decoded.batch.table(TableKind::Descriptors).unwrap().rows(), 1, "a metric without points is none");
    let lists = decoded.batch.items().intrinsic(Intrinsic::BucketCounts).unwrap().as_list::<i32>();
    assert_eq!((lists.values().len(), lists.null_count()), (4, 0));
}

#[test]
fn buckets_that_do_not_match_are_kept_as_sent_with_a_warning() {
    let points = vec![
        histogram(&[], &[]),
        histogram(&[1], &[]),
        histogram(&[1, 2], &[0.5]),
        histogram(&[1, 2], &[0.5, 0.6]),
        histogram(&[], &[0.5]),
        histogram(&[1, 2, 3], &[]),
    ];
    let decoded = both(&request(vec![of_scope("s", vec![histograms(points)])]));
    assert_eq!((decoded.batch.rows(), decoded.rejected.count), (6, 0));
    assert_eq!(decoded.rejected.reason, "3 histograms whose buckets and bounds do not match, kept as sent");
}

#[test]
fn an_exemplar_with_broken_ids_is_kept_without_them() {
    let broken = Exemplar { trace_id: vec![1; 15], span_id: vec![2; 9], time_unix_nano: 5, ..Exemplar::default() };
    let zero = Exemplar { trace_id: vec![0; 16], span_id: vec![0; 8], ..Exemplar::default() };
    let point = NumberDataPoint { exemplars: vec![broken, zero], ..number(1.0) };
    let decoded = both(&request(vec![of_scope("s", vec![gauge("g", vec![point])])]));
    assert_eq!(decoded.rejected.reason, "2 ids of a wrong length in links, log records or exemplars left out");
    let exemplars = decoded.batch.table(TableKind::Exemplars).unwrap();
    assert_eq!((exemplars.rows(), exemplars.intrinsic(Intrinsic::TraceId).unwrap().null_count()), (2, 1));
}

#[test]
fn equal_descriptors_share_a_row_and_others_do_not() {
    let described = |unit: &str| Metric { unit: unit.into(), ..gauge("m", vec![number(1.0)]) };
    let sum = |temporality, is_monotonic| {
        let data_points = vec![number(1.0)];
        metric("m", Data::Sum(Sum { data_points, aggregation_temporality: temporality, is_monotonic }))
    };
    let with_metadata = Metric { metadata: vec![text("k", "v")], ..described("s") };
    let first = vec![described("s"), described("s"), described("ms"), sum(1, false), sum(2, false), sum(2, true)];
    // Parts of another length that join to the same bytes are other parts.
    let odd =
        [("ab", ""), ("a", "b")].map(|(name, unit)| Metric { unit: unit.into(), ..gauge(name, vec![number(1.0)]) });
    let second = [vec![described("s"), with_metadata], odd.to_vec()].concat();
    let decoded = both(&request(vec![of_scope("a", first), of_scope("b", second)]));
    let metric_of = decoded.batch.items().index(Intrinsic::Metric).unwrap();
    assert_eq!(metric_of.values(), &[0, 0, 1, 2, 3, 4, 0, 5, 6, 7]);
    let descriptors = decoded.batch.table(TableKind::Descriptors).unwrap();
    assert_eq!(descriptors.rows(), 8);
    assert!(descriptors.column(&prism_model::ColumnId::attr("k", prism_model::AttrType::Str)).is_some());
    let types = descriptors.intrinsic(Intrinsic::Type).unwrap().as_primitive::<arrow::datatypes::Int32Type>();
    assert_eq!(types.value(0), MetricType::Gauge as i32);
    assert_eq!(types.value(2), MetricType::Sum as i32);
    // The points of one metric that came in two messages read back under one.
    let back = encode::metrics(&decoded.batch);
    assert_eq!(back.resource_metrics[0].scope_metrics.iter().map(|s| s.metrics.len()).collect::<Vec<_>>(), [5, 4]);
}

#[test]
fn metrics_without_data_or_points_leave_nothing() {
    let without = |data| Metric { name: "m".into(), metadata: vec![text("k", "v")], data, ..Metric::default() };
    let empty = vec![without(None), without(Some(Data::Gauge(Gauge::default())))];
    let decoded = both(&request(vec![of_scope("s", empty)]));
    assert_eq!((decoded.batch.rows(), decoded.rejected.count, &*decoded.rejected.reason), (0, 0, ""));
    let kinds: Vec<TableKind> = decoded.batch.tables().iter().map(|t| t.kind()).collect();
    assert_eq!(kinds, [TableKind::Items]);
}

#[test]
fn the_number_of_points_is_bounded() {
    let bytes = request(vec![of_scope("s", vec![gauge("a", vec![number(1.0); 6]), gauge("b", vec![number(1.0); 5])])]);
    assert_eq!(decode::metrics(&bytes, &Limits { items_max: 11, ..Limits::default() }).unwrap().batch.rows(), 11);
    let error = decode::metrics(&bytes, &Limits { items_max: 10, ..Limits::default() }).unwrap_err();
    assert_eq!(error.to_string(), "the request holds more than 10 items (items_max)");
}

#[test]
fn the_numbers_in_lists_are_bounded() {
    let summary = Summary {
        data_points: vec![SummaryDataPoint { quantile_values: vec![ValueAtQuantile::default()], ..Default::default() }],
    };
    let buckets = Some(Buckets { offset: 0, bucket_counts: vec![1, 300] });
    let point = ExponentialHistogramDataPoint { positive: buckets.clone(), negative: buckets, ..Default::default() };
    let exponential = ExponentialHistogram { data_points: vec![point], aggregation_temporality: 1 };
    let metrics = vec![
        histograms(vec![histogram(&[1, 2], &[0.5])]),
        metric("e", Data::ExponentialHistogram(exponential)),
        metric("s", Data::Summary(summary)),
    ];
    let bytes = request(vec![of_scope("s", metrics)]);
    let of = |list_values_max| decode::metrics(&bytes, &Limits { list_values_max, ..Limits::default() });
    assert_eq!(of(9).unwrap().batch.rows(), 3);
    let error = of(8).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (
            Kind::TooLarge,
            "the request holds more than 8 numbers in buckets, bounds and quantiles (list_values_max)".to_owned()
        )
    );
}

#[test]
fn every_double_keeps_its_bits() {
    let doubles =
        [f64::NAN, -f64::NAN, f64::from_bits(0x7ff0_0000_0000_0001), f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0];
    let points = doubles.map(number).to_vec();
    let bounds = HistogramDataPoint { sum: Some(-0.0), min: Some(f64::NAN), ..histogram(&[1; 8], &doubles) };
    let decoded = both(&request(vec![of_scope("s", vec![gauge("g", points), histograms(vec![bounds])])]));
    let values = decoded.batch.items().intrinsic(Intrinsic::ValueDouble).unwrap().as_primitive::<Float64Type>();
    let bits = |values: &[f64]| values.iter().map(|d| d.to_bits()).collect::<Vec<u64>>();
    assert_eq!(bits(&values.values()[..7]), bits(&doubles));
    assert!(values.is_null(7));
    let bounds = decoded.batch.items().intrinsic(Intrinsic::ExplicitBounds).unwrap().as_list::<i32>().value(7);
    assert_eq!(bits(bounds.as_primitive::<Float64Type>().values()), bits(&doubles));
}

/// A length-delimited field.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(number << 3 | 2), &mut out);
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    [out, content.to_vec()].concat()
}

/// Around a metric whose data is the field of this number, with these points.
fn around(data: u32, points: &[Vec<u8>]) -> Vec<u8> {
    let points: Vec<u8> = points.iter().flat_map(|point| field(1, point)).collect();
    field(1, &field(2, &field(2, &field(data, &points))))
}

#[test]
fn repeated_numbers_may_stand_packed_or_one_by_one_or_both() {
    let one = |number: u32, value: u64| [vec![(number << 3 | 1) as u8], value.to_le_bytes().to_vec()].concat();
    let packed =
        |number, values: &[u64]| field(number, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    let bounds = [0.5f64, 1.0].map(f64::to_bits);
    let parts = [packed(6, &[1, 2]), one(6, 3), one(7, bounds[0]), packed(6, &[]), packed(7, &[bounds[1]]), one(6, 4)];
    let decoded = both(&around(9, &[parts.concat()]));
    let Some(Data::Histogram(back)) =
        &encode::metrics(&decoded.batch).resource_metrics[0].scope_metrics[0].metrics[0].data
    else {
        panic!("a histogram was sent");
    };
    assert_eq!(back.data_points[0].bucket_counts, [1, 2, 3, 4]);
    assert_eq!(back.data_points[0].explicit_bounds, [0.5, 1.0]);

    // Buckets in two messages, which protobuf merges: offset -2 (zigzag 3), then counts, one of them of two bytes.
    let counts = [field(8, &[&[0x08, 3][..], &[0x10, 5], &field(2, &[6, 0xac, 0x02])].concat()), field(8, &[0x10, 7])];
    let decoded = both(&around(10, &[counts.concat()]));
    let Some(Data::ExponentialHistogram(back)) =
        &encode::metrics(&decoded.batch).resource_metrics[0].scope_metrics[0].metrics[0].data
    else {
        panic!("an exponential histogram was sent");
    };
    let expected = Buckets { offset: -2, bucket_counts: vec![5, 6, 300, 7] };
    assert_eq!((back.data_points[0].positive.clone(), back.data_points[0].negative.clone()), (Some(expected), None));

    // Bytes that are no whole numbers are refused by both.
    for broken in [field(6, &[1; 12]), field(7, &[1; 7]), field(8, &field(2, &[0x80]))] {
        for data in [9, 10] {
            assert!(agree::metrics(&around(data, std::slice::from_ref(&broken)), &Limits::default()).is_ok());
        }
    }
    assert!(decode::metrics(&around(9, &[field(6, &[1; 12])]), &Limits::default()).is_err());
}

#[test]
fn data_of_another_type_replaces_what_came_before_and_of_the_same_type_adds_to_it() {
    let gauge_of = |value: f64| field(5, &field(1, &number(value).encode_to_vec()));
    let sum_of = |value: f64| field(7, &[field(1, &number(value).encode_to_vec()), vec![0x10, 2]].concat());
    let request = |parts: &[Vec<u8>]| field(1, &field(2, &field(2, &parts.concat())));
    let kept = |parts: &[Vec<u8>]| {
        let decoded = both(&request(parts));
        let values = decoded.batch.items().intrinsic(Intrinsic::ValueDouble).unwrap();
        values.as_primitive::<Float64Type>().values().to_vec()
    };
    assert_eq!(kept(&[gauge_of(1.0), gauge_of(2.0)]), [1.0, 2.0]);
    assert_eq!(kept(&[gauge_of(1.0), sum_of(2.0), sum_of(3.0)]), [2.0, 3.0]);
    assert_eq!(kept(&[sum_of(1.0), gauge_of(2.0), sum_of(3.0)]), [3.0]);
    // What is replaced must still be well formed.
    let broken = field(5, &field(1, &field(7, &field(1, &[0xff]))));
    assert!(decode::metrics(&request(&[broken, sum_of(1.0)]), &Limits::default()).is_err());
}

fn cleared(batch: Batch) -> Cleared {
    #[expect(clippy::disallowed_methods, reason = "the plugin chain is not what is tested here")]
    Cleared::by_plugin_chain(batch)
}

/// Appended, and read anew from disk: the points as text.
async fn through_the_store(batch: &Batch) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let tenant: TenantId = "acme".parse().unwrap();
    let store = Store::open(root.path(), StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }).unwrap();
    store.append(&tenant, cleared(batch.clone())).await.unwrap();
    let snapshot = store.reader().snapshot(&tenant, Signal::Metrics, TimeRange::ALL).unwrap();
    assert!(snapshot.unreadable.is_empty(), "{:?}", snapshot.unreadable);
    let batches: Vec<Batch> = snapshot.frames.iter().map(|frame| frame.read(&|_, _| true).unwrap().0).collect();
    let mut points: Vec<String> =
        batches.iter().flat_map(|batch| agree::normal_metrics(encode::metrics(batch)).0).collect();
    points.sort();
    points
}

fn points(batch: &Batch) -> Vec<String> {
    agree::normal_metrics(encode::metrics(batch)).0
}

/// Without the bits of its doubles: JSON has one NaN.
fn without_bits(points: Vec<String>) -> Vec<String> {
    points.into_iter().map(|point| point.rsplit_once(" [").unwrap().0.to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn points_come_back_through_json(request in generate::metrics()) {
        let limits = Limits::default();
        let batch = decode::metrics(&request.encode_to_vec(), &limits).unwrap().batch;
        let json = encode::metrics_json(std::slice::from_ref(&batch));
        let bytes = prism_ingest::json::to_protobuf(Signal::Metrics, json.as_bytes(), &limits).unwrap();
        let back = decode::metrics(&bytes, &limits).unwrap();
        prop_assert_eq!(back.rejected.count, 0);
        let mut expected = without_bits(points(&batch));
        let mut found = without_bits(points(&back.batch));
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected, "{}", json);
    }

    #[test]
    fn points_come_back_through_the_store_and_rearranged(
        one in generate::metrics(), two in generate::metrics(), seed: u64, tight: bool,
    ) {
        let limits = Limits { attribute_columns_max: if tight { 2 } else { 1_000 }, ..Limits::default() };
        let decode = |r: &ExportMetricsServiceRequest| decode::metrics(&r.encode_to_vec(), &limits).unwrap().batch;
        let (one, two) = (decode(&one), decode(&two));
        let joined = Batch::concat(&[one.clone(), two.clone()]).unwrap();
        let mut expected = [points(&one), points(&two)].concat();
        expected.sort();
        prop_assert_eq!(&points(&joined), &expected);

        // Cut in two by chance, which keeps every point with what belongs to it.
        let bit = |row: u32| seed >> (row % 64) & 1 == 1;
        let (left, right): (Vec<u32>, Vec<u32>) = (0..joined.rows() as u32).partition(|row| bit(*row));
        let cut = [left, right].map(|rows| joined.select(&UInt32Array::from(rows)).unwrap());
        let mut parts: Vec<String> = cut.iter().flat_map(points).collect();
        parts.sort();
        prop_assert_eq!(&parts, &expected);

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        prop_assert_eq!(runtime.block_on(through_the_store(&joined)), expected);
    }
}

#[test]
fn json_of_points_says_everything_and_leaves_defaults_out() {
    let exemplar = Exemplar {
        filtered_attributes: vec![text("user", "u")],
        time_unix_nano: 5,
        span_id: vec![0xab; 8],
        trace_id: vec![0xcd; 16],
        value: Some(exemplar::Value::AsInt(i64::MIN)),
    };
    let sum = Sum {
        data_points: vec![
            NumberDataPoint { exemplars: vec![exemplar], flags: 1, ..number(f64::NAN) },
            NumberDataPoint { value: Some(number_data_point::Value::AsInt(0)), ..NumberDataPoint::default() },
            NumberDataPoint::default(),
        ],
        aggregation_temporality: 2,
        is_monotonic: true,
    };
    let histogram = HistogramDataPoint {
        start_time_unix_nano: 1,
        count: 1 << 60,
        sum: Some(0.0),
        max: Some(f64::INFINITY),
        ..histogram(&[0, 1 << 60], &[-0.5])
    };
    let exponential = ExponentialHistogramDataPoint {
        scale: -1,
        zero_count: 2,
        positive: Some(Buckets { offset: -3, bucket_counts: vec![1] }),
        negative: Some(Buckets::default()),
        zero_threshold: 0.25,
        ..ExponentialHistogramDataPoint::default()
    };
    let summary = SummaryDataPoint {
        sum: 1.5,
        quantile_values: vec![ValueAtQuantile { quantile: 0.5, value: f64::NEG_INFINITY }, ValueAtQuantile::default()],
        ..SummaryDataPoint::default()
    };
    let exponential = ExponentialHistogram { data_points: vec![exponential], aggregation_temporality: 1 };
    let metrics = vec![
        Metric { unit: "1".into(), metadata: vec![text("k", "v")], ..metric("s", Data::Sum(sum)) },
        histograms(vec![histogram]),
        metric("e", Data::ExponentialHistogram(exponential)),
        metric("q", Data::Summary(Summary { data_points: vec![summary] })),
    ];
    let batch = both(&request(vec![of_scope("lib", metrics)])).batch;
    let expected = concat!(
        r#"{"resourceMetrics":[{"scopeMetrics":[{"scope":{"name":"lib"},"metrics":["#,
        r#"{"name":"s","unit":"1","sum":{"dataPoints":["#,
        r#"{"timeUnixNano":"1700000000000000000","asDouble":"NaN","exemplars":[{"#,
        r#""filteredAttributes":[{"key":"user","value":{"stringValue":"u"}}],"timeUnixNano":"5","#,
        r#""asInt":"-9223372036854775808","spanId":"abababababababab","traceId":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"}],"#,
        r#""flags":1},{"asInt":"0"},{}],"aggregationTemporality":2,"isMonotonic":true},"#,
        r#""metadata":[{"key":"k","value":{"stringValue":"v"}}]},"#,
        r#"{"name":"h","histogram":{"dataPoints":[{"startTimeUnixNano":"1","timeUnixNano":"1700000000000000000","#,
        r#""count":"1152921504606846976","sum":0.0,"bucketCounts":["0","1152921504606846976"],"#,
        r#""explicitBounds":[-0.5],"max":"Infinity"}],"aggregationTemporality":2}},"#,
        r#"{"name":"e","exponentialHistogram":{"dataPoints":[{"scale":-1,"zeroCount":"2","#,
        r#""positive":{"offset":-3,"bucketCounts":["1"]},"negative":{},"zeroThreshold":0.25}],"#,
        r#""aggregationTemporality":1}},"#,
        r#"{"name":"q","summary":{"dataPoints":[{"sum":1.5,"#,
        r#""quantileValues":[{"quantile":0.5,"value":"-Infinity"},{}]}]}}"#,
        r#"]}]}]}"#
    );
    assert_eq!(encode::metrics_json(&[batch]), expected);
    assert_eq!(encode::metrics_json(&[]), r#"{"resourceMetrics":[]}"#);
}
