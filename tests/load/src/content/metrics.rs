//! Metric points as a shop of some size would send them: of ten points four are of counters, three of gauges, two of
//! histograms with 15 buckets (one of four with an exemplar) and one of an exponential histogram.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, number_data_point,
};

use super::{Dice, INSTANCES, METHODS, ROUTES, TRACE_ROWS, TRACE_SPANS, resource, scope, text, whole};
use crate::mark::{Kind, Marks};

/// The advised bounds of `http.server.request.duration`, seconds.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// How long the counters have counted.
const SINCE_NANOS: u64 = 3_600_000_000_000;
const CUMULATIVE: i32 = 2;

/// The points of one request, each instance with its metrics. `variant` chooses among requests that differ in their values.
pub fn metrics(variant: u64, rows: usize, marks: &mut Marks) -> ExportMetricsServiceRequest {
    let mut dice = Dice(variant);
    let mut by_instance: Vec<Points> = (0..INSTANCES).map(|_| Points::default()).collect();
    for row in 0..rows {
        by_instance[row / 10 % INSTANCES].push(row, &mut dice, marks);
    }
    let full = by_instance.into_iter().enumerate().filter(|(_, points)| points.rows > 0);
    ExportMetricsServiceRequest {
        resource_metrics: full
            .map(|(instance, points)| ResourceMetrics {
                resource: Some(resource(instance)),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics: points.metrics(),
                    ..Default::default()
                }],
                schema_url: String::new(),
            })
            .collect(),
    }
}

/// The points of one instance.
#[derive(Default)]
struct Points {
    rows: usize,
    requests: Vec<NumberDataPoint>,
    memory: Vec<NumberDataPoint>,
    durations: Vec<HistogramDataPoint>,
    waits: Vec<ExponentialHistogramDataPoint>,
}

impl Points {
    fn push(&mut self, row: usize, dice: &mut Dice, marks: &mut Marks) {
        self.rows += 1;
        let time_unix_nano = marks.time(dice.below(5_000_000_000));
        let start_time_unix_nano = marks.time(SINCE_NANOS);
        let attributes = attributes(dice);
        match row % 10 {
            0..=3 => self.requests.push(NumberDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                value: Some(number_data_point::Value::AsInt(dice.below(10_000_000) as i64)),
                ..Default::default()
            }),
            4..=6 => self.memory.push(NumberDataPoint {
                attributes,
                time_unix_nano,
                value: Some(number_data_point::Value::AsDouble(dice.below(1 << 30) as f64 / 4.0)),
                ..Default::default()
            }),
            7..=8 => {
                let bucket_counts: Vec<u64> = (0..=BOUNDS.len()).map(|_| dice.below(900)).collect();
                let exemplars = (dice.below(4) == 0).then(|| Exemplar {
                    filtered_attributes: vec![text("user.id", format!("u-{}", Kind::Digits.text(TRACE_ROWS + row)))],
                    time_unix_nano,
                    span_id: Kind::Span.bytes8(row),
                    trace_id: Kind::Trace.bytes16(row / TRACE_SPANS),
                    value: Some(exemplar::Value::AsDouble(dice.below(9_000) as f64 / 1e3)),
                });
                self.durations.push(HistogramDataPoint {
                    attributes,
                    start_time_unix_nano,
                    time_unix_nano,
                    count: bucket_counts.iter().sum(),
                    sum: Some(dice.below(9_000_000) as f64 / 1e3),
                    bucket_counts,
                    explicit_bounds: BOUNDS.to_vec(),
                    exemplars: exemplars.into_iter().collect(),
                    min: Some(dice.below(50) as f64 / 1e4),
                    max: Some(dice.below(9_000) as f64 / 1e3),
                    ..Default::default()
                });
            }
            _ => {
                let bucket_counts: Vec<u64> = (0..40).map(|_| dice.below(60)).collect();
                self.waits.push(ExponentialHistogramDataPoint {
                    attributes,
                    start_time_unix_nano,
                    time_unix_nano,
                    count: bucket_counts.iter().sum(),
                    sum: Some(dice.below(90_000) as f64 / 1e3),
                    scale: 3,
                    positive: Some(Buckets { offset: -20, bucket_counts }),
                    ..Default::default()
                });
            }
        }
    }

    fn metrics(self) -> Vec<Metric> {
        let metric = |name: &str, unit: &str, description: &str, data| Metric {
            name: name.into(),
            unit: unit.into(),
            description: description.into(),
            data: Some(data),
            ..Default::default()
        };
        let requests = Sum { data_points: self.requests, aggregation_temporality: CUMULATIVE, is_monotonic: true };
        let durations = Histogram { data_points: self.durations, aggregation_temporality: CUMULATIVE };
        let waits = ExponentialHistogram { data_points: self.waits, aggregation_temporality: CUMULATIVE };
        vec![
            metric("http.server.requests", "{request}", "Requests answered", Data::Sum(requests)),
            metric(
                "process.memory.usage",
                "By",
                "Physical memory in use",
                Data::Gauge(Gauge { data_points: self.memory }),
            ),
            metric("http.server.request.duration", "s", "Duration of requests", Data::Histogram(durations)),
            metric("db.client.connection.wait_time", "s", "Wait for a connection", Data::ExponentialHistogram(waits)),
        ]
    }
}

fn attributes(dice: &mut Dice) -> Vec<KeyValue> {
    vec![
        text("http.request.method", dice.pick(&METHODS)),
        text("http.route", dice.pick(&ROUTES)),
        whole("http.response.status_code", [200, 200, 404, 504][dice.below(4) as usize]),
        text("network.protocol.version", "1.1"),
    ]
}
