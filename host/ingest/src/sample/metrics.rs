//! Metrics: gauges, sums, histograms with 15 bounds, exponential histograms and summaries, with exemplars.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
    exemplar, metric, number_data_point,
};

use super::{ROUTES, SERVICES, Sample, int, resource, scope, text};

/// The bounds that OpenTelemetry advises for durations of HTTP requests, in seconds, and one more on top.
const BOUNDS: [f64; 15] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0];
const QUANTILES: [f64; 5] = [0.0, 0.5, 0.9, 0.99, 1.0];
const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;
/// Since when the counters of a sample count: ten minutes before its first point.
const COUNTED_NANOS: u64 = 600_000_000_000;

/// Of each 20 points these go to (gauges, sums, histograms, exponential histograms), the rest to summaries.
const OF_TWENTY: [usize; 4] = [6, 8, 4, 1];

impl Sample {
    /// A metrics request of this many data points from a few services: of 20 points 6 of gauges, 8 of sums, 4 of histograms with
    /// 16 buckets (every fourth with an exemplar), one of an exponential histogram with up to 48 buckets, one of a summary with
    /// 5 quantiles. A point has 5 attributes; the points of a metric differ in them. All points of a request have one time, as a
    /// reader collects them.
    pub fn metrics(&mut self, points: usize) -> ExportMetricsServiceRequest {
        let services = SERVICES.len().min(points.div_ceil(20).max(1));
        self.now += 10_000_000_000;
        let mut resource_metrics = Vec::with_capacity(services);
        for service in 0..services {
            let count = points * (service + 1) / services - points * service / services;
            let scope_metrics = vec![ScopeMetrics {
                scope: Some(scope("shop.metrics")),
                metrics: self.metrics_of_service(count),
                ..ScopeMetrics::default()
            }];
            let schema_url = "https://opentelemetry.io/schemas/1.27.0".to_owned();
            let resource = Some(resource(service, self.next()));
            resource_metrics.push(ResourceMetrics { resource, scope_metrics, schema_url });
        }
        ExportMetricsServiceRequest { resource_metrics }
    }

    fn metrics_of_service(&mut self, points: usize) -> Vec<Metric> {
        let [gauges, sums, histograms, exponentials] = OF_TWENTY.map(|share| points * share / 20);
        let summaries = points - gauges - sums - histograms - exponentials;
        let gauge = Gauge { data_points: (0..gauges).map(|_| self.gauge()).collect() };
        let sum = Sum {
            data_points: (0..sums).map(|_| self.sum()).collect(),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        };
        let histogram = Histogram {
            data_points: (0..histograms).map(|_| self.histogram()).collect(),
            aggregation_temporality: CUMULATIVE,
        };
        let exponential = ExponentialHistogram {
            data_points: (0..exponentials).map(|_| self.exponential()).collect(),
            aggregation_temporality: AggregationTemporality::Delta as i32,
        };
        let summary = Summary { data_points: (0..summaries).map(|_| self.summary()).collect() };
        let all = [
            ("system.memory.usage", "Memory in use, by state", "By", gauges, metric::Data::Gauge(gauge)),
            ("http.server.request.count", "Requests answered", "{request}", sums, metric::Data::Sum(sum)),
            (
                "http.server.request.duration",
                "Duration of HTTP server requests",
                "s",
                histograms,
                metric::Data::Histogram(histogram),
            ),
            (
                "rpc.client.duration",
                "Duration of calls to others",
                "ms",
                exponentials,
                metric::Data::ExponentialHistogram(exponential),
            ),
            ("gc.pause", "Pauses of the garbage collector", "s", summaries, metric::Data::Summary(summary)),
        ];
        let present = all.into_iter().filter(|(_, _, _, points, _)| *points > 0);
        present
            .map(|(name, description, unit, _, data)| Metric {
                name: name.to_owned(),
                description: description.to_owned(),
                unit: unit.to_owned(),
                metadata: Vec::new(),
                data: Some(data),
            })
            .collect()
    }

    fn point_attributes(&mut self) -> Vec<KeyValue> {
        let status = [200, 200, 200, 200, 201, 304, 404, 503][self.below(8)];
        vec![
            text("http.request.method", if self.below(4) == 0 { "POST" } else { "GET" }),
            text("http.route", self.pick(&ROUTES)),
            int("http.response.status_code", status),
            text("network.protocol.version", "1.1"),
            text("server.address", &format!("shop-{}.example.com", self.below(24))),
        ]
    }

    fn gauge(&mut self) -> NumberDataPoint {
        let used = self.below(1 << 34);
        let value = match self.below(2) {
            0 => number_data_point::Value::AsInt(used as i64),
            _ => number_data_point::Value::AsDouble(used as f64 / (1u64 << 34) as f64),
        };
        NumberDataPoint {
            attributes: self.point_attributes(),
            time_unix_nano: self.now,
            value: Some(value),
            ..NumberDataPoint::default()
        }
    }

    fn sum(&mut self) -> NumberDataPoint {
        NumberDataPoint {
            attributes: self.point_attributes(),
            start_time_unix_nano: self.now - COUNTED_NANOS,
            time_unix_nano: self.now,
            value: Some(number_data_point::Value::AsInt(self.below(5_000_000) as i64)),
            ..NumberDataPoint::default()
        }
    }

    fn histogram(&mut self) -> HistogramDataPoint {
        // Most requests are quick, few are slow.
        let bucket_counts: Vec<u64> =
            (0..=BOUNDS.len()).map(|i| (self.below(8_000) >> i.abs_diff(4).min(12)) as u64).collect();
        let count = bucket_counts.iter().sum();
        let exemplar = (self.below(4) == 0).then(|| self.exemplar());
        HistogramDataPoint {
            attributes: self.point_attributes(),
            start_time_unix_nano: self.now - COUNTED_NANOS,
            time_unix_nano: self.now,
            count,
            sum: Some(count as f64 * 0.06),
            bucket_counts,
            explicit_bounds: BOUNDS.to_vec(),
            exemplars: exemplar.into_iter().collect(),
            min: Some(0.001),
            max: Some(self.below(20_000) as f64 / 1_000.0),
            ..HistogramDataPoint::default()
        }
    }

    fn exemplar(&mut self) -> Exemplar {
        Exemplar {
            filtered_attributes: vec![text("enduser.id", &format!("user-{}", self.below(20_000)))],
            time_unix_nano: self.now - self.next() % 10_000_000_000,
            span_id: self.id::<8>(),
            trace_id: self.id::<16>(),
            value: Some(exemplar::Value::AsDouble(self.below(20_000) as f64 / 1_000.0)),
        }
    }

    fn exponential(&mut self) -> ExponentialHistogramDataPoint {
        let buckets = 24 + self.below(25);
        let bucket_counts: Vec<u64> = (0..buckets).map(|_| self.below(300) as u64).collect();
        let zero_count = self.below(3) as u64;
        let count = zero_count + bucket_counts.iter().sum::<u64>();
        ExponentialHistogramDataPoint {
            attributes: self.point_attributes(),
            start_time_unix_nano: self.now - 10_000_000_000,
            time_unix_nano: self.now,
            count,
            sum: Some(count as f64 * 14.5),
            scale: 3,
            zero_count,
            positive: Some(Buckets { offset: self.below(16) as i32 - 8, bucket_counts }),
            min: Some(0.25),
            max: Some(900.0),
            ..ExponentialHistogramDataPoint::default()
        }
    }

    fn summary(&mut self) -> SummaryDataPoint {
        let longest = self.below(400) as f64 / 1_000.0;
        let at = |quantile: f64| ValueAtQuantile { quantile, value: longest * quantile * quantile };
        SummaryDataPoint {
            attributes: self.point_attributes(),
            start_time_unix_nano: self.now - COUNTED_NANOS,
            time_unix_nano: self.now,
            count: self.below(10_000) as u64,
            sum: longest * 120.0,
            quantile_values: QUANTILES.map(at).to_vec(),
            ..SummaryDataPoint::default()
        }
    }
}
