//! Data points as OTLP/JSON.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint, exemplar,
    metric, number_data_point,
};
use prism_model::Batch;

use super::{Groups, Object, list_item, resource_text, scope_text, write_double, write_key_value};

/// The data points of all batches as one OTLP/JSON `MetricsData`: `{"resourceMetrics":[…]}`. Equal resources and scopes are
/// joined.
pub fn metrics_json(batches: &[Batch]) -> String {
    let mut groups = Groups::default();
    for resource in batches.iter().flat_map(|batch| super::super::metrics(batch).resource_metrics) {
        let envelope = resource_text(resource.resource.as_ref());
        for scope in resource.scope_metrics {
            let scope_envelope = scope_text(scope.scope.as_ref());
            let items = groups.items(&envelope, &resource.schema_url, scope_envelope, scope.schema_url);
            scope.metrics.iter().for_each(|metric| list_item(items, |o| write_metric(metric, o)));
        }
    }
    groups.into_text("resourceMetrics", "scopeMetrics", "metrics")
}

fn write_metric(metric: &Metric, out: String) -> String {
    let mut out = Object::new(out);
    out.text("name", &metric.name);
    out.text("description", &metric.description);
    out.text("unit", &metric.unit);
    match &metric.data {
        Some(metric::Data::Gauge(gauge)) => {
            write_data(&mut out, "gauge", &gauge.data_points, write_number, 0, false);
        }
        Some(metric::Data::Sum(sum)) => {
            write_data(&mut out, "sum", &sum.data_points, write_number, sum.aggregation_temporality, sum.is_monotonic);
        }
        Some(metric::Data::Histogram(h)) => {
            write_data(&mut out, "histogram", &h.data_points, write_histogram, h.aggregation_temporality, false);
        }
        Some(metric::Data::ExponentialHistogram(h)) => {
            let (points, temporality) = (&h.data_points, h.aggregation_temporality);
            write_data(&mut out, "exponentialHistogram", points, write_exponential, temporality, false);
        }
        Some(metric::Data::Summary(summary)) => {
            write_data(&mut out, "summary", &summary.data_points, write_summary, 0, false);
        }
        None => {}
    }
    out.list("metadata", metric.metadata.iter(), write_key_value);
    out.end()
}

/// The message of a type with its points.
fn write_data<T>(
    out: &mut Object,
    name: &str,
    points: &[T],
    write: fn(&T, String) -> String,
    temporality: i32,
    monotonic: bool,
) {
    out.object(name, |out| {
        out.list("dataPoints", points.iter(), write);
        out.number("aggregationTemporality", temporality);
        if monotonic {
            out.raw("isMonotonic", "true");
        }
    });
}

fn write_number(point: &NumberDataPoint, out: String) -> String {
    let mut out = Object::new(out);
    out.attributes(&point.attributes);
    out.long("startTimeUnixNano", point.start_time_unix_nano);
    out.long("timeUnixNano", point.time_unix_nano);
    match point.value {
        Some(number_data_point::Value::AsDouble(value)) => out.double("asDouble", value),
        Some(number_data_point::Value::AsInt(value)) => out.raw("asInt", &format!("\"{value}\"")),
        None => {}
    }
    out.list("exemplars", point.exemplars.iter(), write_exemplar);
    out.number("flags", point.flags);
    out.end()
}

fn write_histogram(point: &HistogramDataPoint, out: String) -> String {
    let mut out = Object::new(out);
    out.attributes(&point.attributes);
    out.long("startTimeUnixNano", point.start_time_unix_nano);
    out.long("timeUnixNano", point.time_unix_nano);
    out.long("count", point.count);
    out.optional_double("sum", point.sum);
    out.list("bucketCounts", point.bucket_counts.iter(), write_long);
    out.list("explicitBounds", point.explicit_bounds.iter(), write_bound);
    out.list("exemplars", point.exemplars.iter(), write_exemplar);
    out.number("flags", point.flags);
    out.optional_double("min", point.min);
    out.optional_double("max", point.max);
    out.end()
}

fn write_exponential(point: &ExponentialHistogramDataPoint, out: String) -> String {
    let mut out = Object::new(out);
    out.attributes(&point.attributes);
    out.long("startTimeUnixNano", point.start_time_unix_nano);
    out.long("timeUnixNano", point.time_unix_nano);
    out.long("count", point.count);
    out.optional_double("sum", point.sum);
    out.number("scale", point.scale);
    out.long("zeroCount", point.zero_count);
    write_buckets(&mut out, "positive", point.positive.as_ref());
    write_buckets(&mut out, "negative", point.negative.as_ref());
    out.number("flags", point.flags);
    out.list("exemplars", point.exemplars.iter(), write_exemplar);
    out.optional_double("min", point.min);
    out.optional_double("max", point.max);
    out.nonzero_double("zeroThreshold", point.zero_threshold);
    out.end()
}

fn write_buckets(out: &mut Object, name: &str, buckets: Option<&Buckets>) {
    if let Some(buckets) = buckets {
        out.object(name, |out| {
            out.number("offset", buckets.offset);
            out.list("bucketCounts", buckets.bucket_counts.iter(), write_long);
        });
    }
}

fn write_summary(point: &SummaryDataPoint, out: String) -> String {
    let mut out = Object::new(out);
    out.attributes(&point.attributes);
    out.long("startTimeUnixNano", point.start_time_unix_nano);
    out.long("timeUnixNano", point.time_unix_nano);
    out.long("count", point.count);
    out.nonzero_double("sum", point.sum);
    out.list("quantileValues", point.quantile_values.iter(), write_quantile);
    out.number("flags", point.flags);
    out.end()
}

fn write_quantile(quantile: &ValueAtQuantile, out: String) -> String {
    let mut out = Object::new(out);
    out.nonzero_double("quantile", quantile.quantile);
    out.nonzero_double("value", quantile.value);
    out.end()
}

fn write_exemplar(exemplar: &Exemplar, out: String) -> String {
    let mut out = Object::new(out);
    out.list("filteredAttributes", exemplar.filtered_attributes.iter(), write_key_value);
    out.long("timeUnixNano", exemplar.time_unix_nano);
    match exemplar.value {
        Some(exemplar::Value::AsDouble(value)) => out.double("asDouble", value),
        Some(exemplar::Value::AsInt(value)) => out.raw("asInt", &format!("\"{value}\"")),
        None => {}
    }
    out.hex("spanId", &exemplar.span_id);
    out.hex("traceId", &exemplar.trace_id);
    out.end()
}

fn write_long(count: &u64, mut out: String) -> String {
    let _infallible = write!(out, "\"{count}\"");
    out
}

fn write_bound(bound: &f64, mut out: String) -> String {
    write_double(*bound, &mut out);
    out
}
