//! The three OpenTelemetry signals that Prism stores.

use std::fmt;
use std::str::FromStr;

/// One of the OpenTelemetry signals; a segment, a table and a plugin call hold exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Trace spans (`ExportTraceServiceRequest`), one row a span.
    Spans,
    /// Log records (`ExportLogsServiceRequest`), one row a record.
    Logs,
    /// Metric data points (`ExportMetricsServiceRequest`), one row a point.
    Metrics,
}

impl Signal {
    /// Every signal, in the order of the OTLP specification.
    pub const ALL: [Signal; 3] = [Signal::Spans, Signal::Logs, Signal::Metrics];

    /// The name in paths, queries and metrics: `spans`, `logs` or `metrics`.
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Spans => "spans",
            Signal::Logs => "logs",
            Signal::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Signal, UnknownSignal> {
        Signal::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| UnknownSignal(text.to_owned()))
    }
}

/// A name that is none of `spans`, `logs`, `metrics`.
#[derive(Debug, thiserror::Error)]
#[error("expected `spans`, `logs` or `metrics`, found `{0}`")]
pub struct UnknownSignal(String);
