//! Counts the metric points that the other side acknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;

use super::Sent;

/// An exporter that counts what was acknowledged.
pub(super) struct CountedPoints<E> {
    pub(super) exporter: E,
    pub(super) sent: Arc<Sent>,
}

impl<E: PushMetricExporter> PushMetricExporter for CountedPoints<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let points = metrics.scope_metrics().flat_map(|scope| scope.metrics()).map(|m| points(m.data())).sum::<usize>();
        self.sent.points_read.fetch_add(points as u64, Relaxed);
        let outcome = self.exporter.export(metrics).await;
        self.sent.note(&self.sent.points, points, &outcome);
        outcome
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

fn points(data: &AggregatedMetrics) -> usize {
    match data {
        AggregatedMetrics::F64(data) => points_of(data),
        AggregatedMetrics::U64(data) => points_of(data),
        AggregatedMetrics::I64(data) => points_of(data),
    }
}

fn points_of<T>(data: &MetricData<T>) -> usize {
    match data {
        MetricData::Gauge(gauge) => gauge.data_points().count(),
        MetricData::Sum(sum) => sum.data_points().count(),
        MetricData::Histogram(histogram) => histogram.data_points().count(),
        MetricData::ExponentialHistogram(histogram) => histogram.data_points().count(),
    }
}
