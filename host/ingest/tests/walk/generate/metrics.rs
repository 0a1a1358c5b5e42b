//! Metrics of all five types, with exemplars; absent data and values, and what is refused.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, metric,
    number_data_point,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{attributes, double, enumeration, optional_id, resource, scope, text, time, url};

/// A count of measurements; now and then one that does not fit.
fn measurements() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0u64..100_000, 4 => Just(0), 2 => Just(i64::MAX as u64), 1 => any::<u64>()]
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    let value =
        prop_oneof![double().prop_map(exemplar::Value::AsDouble), any::<i64>().prop_map(exemplar::Value::AsInt),];
    (attributes(), time(), optional_id(8), optional_id(16), option::weighted(0.9, value)).prop_map(
        |(filtered_attributes, time, span_id, trace_id, value)| Exemplar {
            filtered_attributes,
            // Rarely one that makes its point be refused.
            time_unix_nano: if time % 7 == 0 { time } else { time & i64::MAX as u64 },
            span_id,
            trace_id,
            value,
        },
    )
}

fn exemplars() -> impl Strategy<Value = Vec<Exemplar>> {
    prop_oneof![2 => Just(Vec::new()), 1 => vec(exemplar(), 1..3)]
}

fn flags() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(0), 1 => Just(1), 1 => any::<u32>()]
}

fn number() -> impl Strategy<Value = NumberDataPoint> {
    let value = prop_oneof![
        double().prop_map(number_data_point::Value::AsDouble),
        prop_oneof![any::<i64>(), Just(0)].prop_map(number_data_point::Value::AsInt),
    ];
    (attributes(), time(), time(), exemplars(), flags(), option::weighted(0.9, value)).prop_map(
        |(attributes, start_time_unix_nano, time_unix_nano, exemplars, flags, value)| NumberDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            exemplars,
            flags,
            value,
        },
    )
}

fn histogram() -> impl Strategy<Value = HistogramDataPoint> {
    let common = (attributes(), time(), time(), exemplars(), flags());
    let numbers = (measurements(), option::of(double()), option::of(double()), option::of(double()));
    // Now and then of lengths that do not match.
    let matching = vec(double(), 0..6).prop_flat_map(|bounds| {
        let n = bounds.len() + 1;
        (vec(measurements(), n), Just(bounds))
    });
    let buckets = prop_oneof![
        4 => matching,
        1 => (vec(measurements(), 0..4), vec(double(), 0..4)),
        1 => Just((Vec::new(), Vec::new())),
    ];
    (common, numbers, buckets).prop_map(|(common, numbers, buckets)| HistogramDataPoint {
        attributes: common.0,
        start_time_unix_nano: common.1,
        time_unix_nano: common.2,
        exemplars: common.3,
        flags: common.4,
        count: numbers.0,
        sum: numbers.1,
        min: numbers.2,
        max: numbers.3,
        bucket_counts: buckets.0,
        explicit_bounds: buckets.1,
    })
}

fn exponential() -> impl Strategy<Value = ExponentialHistogramDataPoint> {
    let buckets = || {
        option::weighted(
            0.8,
            (prop_oneof![-20..20, any::<i32>()], vec(measurements(), 0..6))
                .prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts }),
        )
    };
    let common = (attributes(), time(), time(), exemplars(), flags());
    let numbers = (measurements(), option::of(double()), option::of(double()), option::of(double()));
    let scale = (prop_oneof![-10..20, any::<i32>()], measurements(), prop_oneof![Just(0.0), double()]);
    (common, numbers, scale, buckets(), buckets()).prop_map(|(common, numbers, scale, positive, negative)| {
        ExponentialHistogramDataPoint {
            attributes: common.0,
            start_time_unix_nano: common.1,
            time_unix_nano: common.2,
            exemplars: common.3,
            flags: common.4,
            count: numbers.0,
            sum: numbers.1,
            min: numbers.2,
            max: numbers.3,
            scale: scale.0,
            zero_count: scale.1,
            zero_threshold: scale.2,
            positive,
            negative,
        }
    })
}

fn summary() -> impl Strategy<Value = SummaryDataPoint> {
    let quantile = (double(), double()).prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    (attributes(), time(), time(), flags(), measurements(), double(), vec(quantile, 0..4)).prop_map(
        |(attributes, start_time_unix_nano, time_unix_nano, flags, count, sum, quantile_values)| SummaryDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            flags,
            count,
            sum,
            quantile_values,
        },
    )
}

fn data() -> impl Strategy<Value = metric::Data> {
    prop_oneof![
        vec(number(), 0..4).prop_map(|data_points| metric::Data::Gauge(Gauge { data_points })),
        (vec(number(), 0..4), enumeration(), any::<bool>()).prop_map(|(data_points, aggregation_temporality, m)| {
            metric::Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: m })
        }),
        (vec(histogram(), 0..4), enumeration()).prop_map(|(data_points, aggregation_temporality)| {
            metric::Data::Histogram(Histogram { data_points, aggregation_temporality })
        }),
        (vec(exponential(), 0..4), enumeration()).prop_map(|(data_points, aggregation_temporality)| {
            metric::Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality })
        }),
        vec(summary(), 0..4).prop_map(|data_points| metric::Data::Summary(Summary { data_points })),
    ]
}

fn metric() -> impl Strategy<Value = Metric> {
    let metadata = prop_oneof![2 => Just(Vec::new()), 1 => attributes()];
    (text(), text(), prop_oneof![Just("1"), Just("s"), Just("By"), Just("")], metadata, option::weighted(0.95, data()))
        .prop_map(|(name, description, unit, metadata, data)| Metric {
            name,
            description,
            unit: unit.to_owned(),
            metadata,
            data,
        })
}

/// Metrics requests, empty envelopes, metrics without data and points to refuse included.
pub(crate) fn metrics() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let scope_metrics = (scope(), vec(metric(), 0..5), url()).prop_map(|(scope, metrics, schema_url)| ScopeMetrics {
        scope,
        metrics,
        schema_url,
    });
    let resource_metrics = (resource(), vec(scope_metrics, 0..3), url())
        .prop_map(|(resource, scope_metrics, schema_url)| ResourceMetrics { resource, scope_metrics, schema_url });
    vec(resource_metrics, 0..3).prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics })
}
