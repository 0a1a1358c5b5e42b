//! Requests by route and outcome, connections, bytes of bodies.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::exposition::{Exposition, Type};
use crate::error::Code;

/// A closed set of routes: a label must not hold what a client wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// OTLP spans over HTTP.
    Traces,
    /// OTLP log records over HTTP.
    Logs,
    /// OTLP metric points over HTTP.
    Metrics,
    /// OTLP over gRPC.
    Grpc,
    /// A query.
    Query,
    /// New rows of a query; counted when it begins.
    Tail,
    /// A trace by id.
    Trace,
    /// Names and values of fields.
    Fields,
    /// `/health`, `/ready`, `/metrics`
    Operate,
    /// Nothing that is served.
    Other,
}

impl Route {
    const ALL: [Route; 10] = [
        Route::Traces,
        Route::Logs,
        Route::Metrics,
        Route::Grpc,
        Route::Query,
        Route::Tail,
        Route::Trace,
        Route::Fields,
        Route::Operate,
        Route::Other,
    ];

    /// The label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Route::Traces => "traces",
            Route::Logs => "logs",
            Route::Metrics => "metrics",
            Route::Grpc => "grpc",
            Route::Query => "query",
            Route::Tail => "tail",
            Route::Trace => "trace",
            Route::Fields => "fields",
            Route::Operate => "operate",
            Route::Other => "other",
        }
    }
}

const ROUTES: usize = Route::ALL.len();
/// One for each code, one for success.
const OUTCOMES: usize = Code::ALL.len() + 1;
/// Seconds. Ingest aims at 0.5 s, queries at 2 s; the others tell how far off.
const BOUNDS: [f64; 9] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 10.0];

#[derive(Debug, Default)]
struct PerRoute {
    outcomes: [AtomicU64; OUTCOMES],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// Counters since the process started.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    routes: [PerRoute; ROUTES],
    /// Bytes of bodies as they came, before decompression.
    pub(crate) body_bytes: AtomicU64,
    /// Open connections.
    pub(crate) connections: AtomicU64,
    /// Connections that were cut because no request came in time.
    pub(crate) connections_silent: AtomicU64,
    /// Connections that were cut because the client did not take its answer, or did not end when told.
    pub(crate) connections_stalled: AtomicU64,
}

impl Requests {
    /// Counts an answered request; `None` is success.
    pub(crate) fn answered(&self, route: Route, code: Option<Code>, took: Duration) {
        let outcome = code.map_or(0, |code| 1 + Code::ALL.iter().position(|c| *c == code).unwrap_or(0));
        let per_route = &self.routes[route as usize];
        per_route.outcomes[outcome].fetch_add(1, Relaxed);
        let bucket = BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        per_route.buckets[bucket].fetch_add(1, Relaxed);
        per_route.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The text. Outcomes that never happened are left out.
    pub(crate) fn expose(&self, text: &mut Exposition) {
        text.family("prism_server_requests_total", Type::Counter, "Answered requests by route and outcome.");
        for route in Route::ALL {
            for (i, count) in self.routes[route as usize].outcomes.iter().enumerate() {
                let outcome = if i == 0 { "ok" } else { Code::ALL[i - 1].name() };
                match count.load(Relaxed) {
                    0 if i > 0 => {}
                    n => {
                        text.sample(&[("route", route.as_str()), ("outcome", outcome)], n as f64);
                    }
                }
            }
        }
        text.histograms("prism_server_request_duration_seconds", "Time from the head of a request to its answer.");
        for route in Route::ALL {
            let per_route = &self.routes[route as usize];
            let counts: Vec<u64> = per_route.buckets.iter().map(|b| b.load(Relaxed)).collect();
            if counts.iter().any(|n| *n > 0) {
                let seconds = per_route.nanos.load(Relaxed) as f64 / 1e9;
                text.histogram(&[("route", route.as_str())], &BOUNDS, &counts, seconds);
            }
        }
        let of = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        text.one(
            "prism_server_body_bytes_total",
            Type::Counter,
            "Bytes of request bodies before decompression.",
            of(&self.body_bytes),
        );
        text.one("prism_server_connections", Type::Gauge, "Open connections.", of(&self.connections));
        text.one(
            "prism_server_connections_silent_total",
            Type::Counter,
            "Connections cut because no request came in time.",
            of(&self.connections_silent),
        );
        text.one(
            "prism_server_connections_stalled_total",
            Type::Counter,
            "Connections cut because the client did not take its answer.",
            of(&self.connections_stalled),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_outcome() {
        let requests = Requests::default();
        requests.answered(Route::Traces, None, Duration::from_millis(30));
        requests.answered(Route::Traces, Some(Code::Busy), Duration::from_secs(60));
        let mut text = Exposition::default();
        requests.expose(&mut text);
        let text = text.finish();
        for line in [
            "prism_server_requests_total{route=\"traces\",outcome=\"ok\"} 1",
            "prism_server_requests_total{route=\"traces\",outcome=\"busy\"} 1",
            "prism_server_requests_total{route=\"query\",outcome=\"ok\"} 0",
            "prism_server_request_duration_seconds_bucket{route=\"traces\",le=\"0.05\"} 1",
            "prism_server_request_duration_seconds_bucket{route=\"traces\",le=\"+Inf\"} 2",
            "prism_server_request_duration_seconds_sum{route=\"traces\"} 60.03",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
