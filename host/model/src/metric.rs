//! The five types of metrics.

/// What the points of a metric are; stored in [`crate::Intrinsic::Type`] by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MetricType {
    /// A value at a time.
    Gauge = 1,
    /// A value added up over a time, perhaps only growing.
    Sum = 2,
    /// Measurements counted in buckets with explicit bounds.
    Histogram = 3,
    /// Measurements counted in buckets whose bounds grow by a fixed ratio.
    ExponentialHistogram = 4,
    /// Quantiles that the client computed.
    Summary = 5,
}

impl MetricType {
    /// Every type, by number.
    pub const ALL: [MetricType; 5] = [
        MetricType::Gauge,
        MetricType::Sum,
        MetricType::Histogram,
        MetricType::ExponentialHistogram,
        MetricType::Summary,
    ];

    /// The type of a stored number.
    pub fn from_number(n: i32) -> Option<MetricType> {
        MetricType::ALL.into_iter().find(|t| *t as i32 == n)
    }

    /// The name in queries and in `/v1/fields`.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricType::Gauge => "gauge",
            MetricType::Sum => "sum",
            MetricType::Histogram => "histogram",
            MetricType::ExponentialHistogram => "exponential_histogram",
            MetricType::Summary => "summary",
        }
    }
}
