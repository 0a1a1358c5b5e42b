//! Data points to an `ExportMetricsServiceRequest`.

use std::collections::HashMap;

use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, metric,
    number_data_point,
};
use prism_model::{Batch, Intrinsic, MetricType, Table, TableKind};

use super::group::group;
use super::read::{Attributes, Cells, children};

/// The points of a batch under their metrics, with all that belongs to them.
pub fn metrics(batch: &Batch) -> ExportMetricsServiceRequest {
    let descriptor_of = Cells(batch.items()).u32(Intrinsic::Metric);
    let descriptors = Descriptors::new(batch);
    // Grouped are rows: a point's message depends on its metric.
    let groups = group(batch, |row| row);
    let points = Points::new(batch);
    let mut exemplars = children(batch, TableKind::Exemplars, exemplar_reader);
    let mut metrics_of = |rows: Vec<usize>| {
        let mut metrics: Vec<Metric> = Vec::new();
        let mut place_of: HashMap<u32, usize> = HashMap::new();
        for row in rows {
            let descriptor = descriptor_of(row);
            let place = *place_of.entry(descriptor).or_insert_with(|| {
                metrics.push(descriptors.get(descriptor as usize));
                metrics.len() - 1
            });
            points.push(row, std::mem::take(&mut exemplars[row]), &mut metrics[place]);
        }
        metrics
    };
    let mut resource_metrics = Vec::with_capacity(groups.len());
    for by_resource in groups {
        let mut scope_metrics = Vec::with_capacity(by_resource.scopes.len());
        for by_scope in by_resource.scopes {
            let metrics = metrics_of(by_scope.items);
            scope_metrics.push(ScopeMetrics { scope: by_scope.scope, schema_url: by_scope.schema_url, metrics });
        }
        let (resource, schema_url) = (by_resource.resource, by_resource.schema_url);
        resource_metrics.push(ResourceMetrics { resource, schema_url, scope_metrics });
    }
    ExportMetricsServiceRequest { resource_metrics }
}

struct Descriptors<'a> {
    table: Option<&'a Table>,
    attributes: Attributes<'a>,
}

impl<'a> Descriptors<'a> {
    fn new(batch: &'a Batch) -> Descriptors<'a> {
        let attributes = Attributes::new(batch, TableKind::Descriptors);
        Descriptors { table: batch.table(TableKind::Descriptors), attributes }
    }

    /// The metric without its points. One of no known type, which only a foreign file has, counts as a gauge.
    fn get(&self, row: usize) -> Metric {
        let data = |ty, aggregation_temporality, is_monotonic| match ty {
            Some(MetricType::Sum) => metric::Data::Sum(Sum { aggregation_temporality, is_monotonic, ..Sum::default() }),
            Some(MetricType::Histogram) => {
                metric::Data::Histogram(Histogram { aggregation_temporality, ..Histogram::default() })
            }
            Some(MetricType::ExponentialHistogram) => metric::Data::ExponentialHistogram(ExponentialHistogram {
                aggregation_temporality,
                ..ExponentialHistogram::default()
            }),
            Some(MetricType::Summary) => metric::Data::Summary(Summary::default()),
            Some(MetricType::Gauge) | None => metric::Data::Gauge(Gauge::default()),
        };
        let Some(cells) = self.table.map(Cells) else {
            return Metric { data: Some(data(None, 0, false)), ..Metric::default() };
        };
        let ty = MetricType::from_number(cells.i32(Intrinsic::Type)(row));
        let (temporality, monotonic) = (cells.i32(Intrinsic::Temporality)(row), cells.bool(Intrinsic::Monotonic)(row));
        Metric {
            name: cells.text(Intrinsic::Name).string(row),
            description: cells.text(Intrinsic::Description).string(row),
            unit: cells.text(Intrinsic::Unit).string(row),
            metadata: self.attributes.of(row),
            data: Some(data(ty, temporality, monotonic)),
        }
    }
}

type Read<'a, T> = Box<dyn Fn(usize) -> T + 'a>;

/// The columns of points, by what they hold.
struct Points<'a> {
    attributes: Attributes<'a>,
    time: Read<'a, i64>,
    start_time: Read<'a, i64>,
    flags: Read<'a, u32>,
    value: (Read<'a, Option<i64>>, Read<'a, Option<f64>>),
    count: Read<'a, i64>,
    sum: Read<'a, Option<f64>>,
    min: Read<'a, Option<f64>>,
    max: Read<'a, Option<f64>>,
    bucket_counts: Read<'a, &'a [i64]>,
    explicit_bounds: Read<'a, &'a [f64]>,
    scale: Read<'a, i32>,
    zero_count: Read<'a, i64>,
    zero_threshold: Read<'a, Option<f64>>,
    positive: (Read<'a, Option<i32>>, Read<'a, &'a [i64]>),
    negative: (Read<'a, Option<i32>>, Read<'a, &'a [i64]>),
    quantiles: (Read<'a, &'a [f64]>, Read<'a, &'a [f64]>),
}

impl<'a> Points<'a> {
    fn new(batch: &'a Batch) -> Points<'a> {
        let cells = Cells(batch.items());
        let (double, long) = (
            |id| -> Read<'a, Option<f64>> { Box::new(cells.optional::<Float64Type>(id)) },
            |id| -> Read<'a, i64> { Box::new(cells.i64(id)) },
        );
        let offset = |id| -> Read<'a, Option<i32>> { Box::new(cells.optional::<Int32Type>(id)) };
        let counts = |id| -> Read<'a, &'a [i64]> { Box::new(cells.list::<Int64Type>(id)) };
        let doubles = |id| -> Read<'a, &'a [f64]> { Box::new(cells.list::<Float64Type>(id)) };
        Points {
            attributes: Attributes::new(batch, TableKind::Items),
            time: long(Intrinsic::Time),
            start_time: long(Intrinsic::StartTime),
            flags: Box::new(cells.u32(Intrinsic::Flags)),
            value: (Box::new(cells.optional::<Int64Type>(Intrinsic::ValueInt)), double(Intrinsic::ValueDouble)),
            count: long(Intrinsic::Count),
            sum: double(Intrinsic::Sum),
            min: double(Intrinsic::Min),
            max: double(Intrinsic::Max),
            bucket_counts: counts(Intrinsic::BucketCounts),
            explicit_bounds: doubles(Intrinsic::ExplicitBounds),
            scale: Box::new(cells.i32(Intrinsic::Scale)),
            zero_count: long(Intrinsic::ZeroCount),
            zero_threshold: double(Intrinsic::ZeroThreshold),
            positive: (offset(Intrinsic::PositiveOffset), counts(Intrinsic::PositiveCounts)),
            negative: (offset(Intrinsic::NegativeOffset), counts(Intrinsic::NegativeCounts)),
            quantiles: (doubles(Intrinsic::Quantiles), doubles(Intrinsic::QuantileValues)),
        }
    }

    /// Adds a point to its metric.
    fn push(&self, row: usize, exemplars: Vec<Exemplar>, to: &mut Metric) {
        match &mut to.data {
            Some(metric::Data::Gauge(gauge)) => gauge.data_points.push(self.number(row, exemplars)),
            Some(metric::Data::Sum(sum)) => sum.data_points.push(self.number(row, exemplars)),
            Some(metric::Data::Histogram(h)) => h.data_points.push(self.histogram(row, exemplars)),
            Some(metric::Data::ExponentialHistogram(h)) => h.data_points.push(self.exponential(row, exemplars)),
            Some(metric::Data::Summary(summary)) => summary.data_points.push(self.summary(row)),
            // A descriptor always says which.
            None => {}
        }
    }

    fn number(&self, row: usize, exemplars: Vec<Exemplar>) -> NumberDataPoint {
        let int = (self.value.0)(row).map(number_data_point::Value::AsInt);
        NumberDataPoint {
            attributes: self.attributes.of(row),
            start_time_unix_nano: (self.start_time)(row) as u64,
            time_unix_nano: (self.time)(row) as u64,
            exemplars,
            flags: (self.flags)(row),
            value: int.or_else(|| (self.value.1)(row).map(number_data_point::Value::AsDouble)),
        }
    }

    fn histogram(&self, row: usize, exemplars: Vec<Exemplar>) -> HistogramDataPoint {
        HistogramDataPoint {
            attributes: self.attributes.of(row),
            start_time_unix_nano: (self.start_time)(row) as u64,
            time_unix_nano: (self.time)(row) as u64,
            count: (self.count)(row) as u64,
            sum: (self.sum)(row),
            bucket_counts: unsigned((self.bucket_counts)(row)),
            explicit_bounds: (self.explicit_bounds)(row).to_vec(),
            exemplars,
            flags: (self.flags)(row),
            min: (self.min)(row),
            max: (self.max)(row),
        }
    }

    fn exponential(&self, row: usize, exemplars: Vec<Exemplar>) -> ExponentialHistogramDataPoint {
        let buckets = |(offset, counts): &(Read<'a, Option<i32>>, Read<'a, &'a [i64]>)| {
            let (offset, counts) = (offset(row), unsigned(counts(row)));
            (offset.is_some() || !counts.is_empty())
                .then(|| Buckets { offset: offset.unwrap_or_default(), bucket_counts: counts })
        };
        ExponentialHistogramDataPoint {
            attributes: self.attributes.of(row),
            start_time_unix_nano: (self.start_time)(row) as u64,
            time_unix_nano: (self.time)(row) as u64,
            count: (self.count)(row) as u64,
            sum: (self.sum)(row),
            scale: (self.scale)(row),
            zero_count: (self.zero_count)(row) as u64,
            positive: buckets(&self.positive),
            negative: buckets(&self.negative),
            flags: (self.flags)(row),
            exemplars,
            min: (self.min)(row),
            max: (self.max)(row),
            zero_threshold: (self.zero_threshold)(row).unwrap_or_default(),
        }
    }

    fn summary(&self, row: usize) -> SummaryDataPoint {
        let (quantiles, values) = ((self.quantiles.0)(row), (self.quantiles.1)(row));
        let both = quantiles.iter().zip(values);
        SummaryDataPoint {
            attributes: self.attributes.of(row),
            start_time_unix_nano: (self.start_time)(row) as u64,
            time_unix_nano: (self.time)(row) as u64,
            count: (self.count)(row) as u64,
            sum: (self.sum)(row).unwrap_or_default(),
            quantile_values: both.map(|(&quantile, &value)| ValueAtQuantile { quantile, value }).collect(),
            flags: (self.flags)(row),
        }
    }
}

fn unsigned(counts: &[i64]) -> Vec<u64> {
    counts.iter().map(|count| *count as u64).collect()
}

fn exemplar_reader<'a>(batch: &'a Batch, table: &'a Table) -> impl Fn(usize) -> Exemplar + use<'a> {
    let cells = Cells(table);
    let attributes = Attributes::new(batch, TableKind::Exemplars);
    let time = cells.i64(Intrinsic::Time);
    let (int, double) =
        (cells.optional::<Int64Type>(Intrinsic::ValueInt), cells.optional::<Float64Type>(Intrinsic::ValueDouble));
    let (trace_id, span_id) = (cells.id(Intrinsic::TraceId), cells.id(Intrinsic::SpanId));
    move |row| Exemplar {
        filtered_attributes: attributes.of(row),
        time_unix_nano: time(row) as u64,
        span_id: span_id(row),
        trace_id: trace_id(row),
        value: int(row).map(exemplar::Value::AsInt).or_else(|| double(row).map(exemplar::Value::AsDouble)),
    }
}
