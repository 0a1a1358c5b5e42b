//! Generated queries answer as DuckDB does over the same Parquet: conditions, expressions, groups, aggregates with their own
//! conditions, `having`, order and limit; structure of traces, traces as rows, joins; bins that are filled, functions over them,
//! earlier ranges; how values are spread; metric points, the growth of counters, what histograms counted. Sketches are within
//! their bounds. `PRISM_CORPUS=n` asks n queries of each kind, `PRISM_CORPUS_SEED=n` begins
//! elsewhere.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "../../store/tests/support/packages.rs"]
mod packages;
#[path = "lake/engines.rs"]
mod engines;
#[path = "support/moved.rs"]
mod moved;
#[path = "corpus/compare.rs"]
mod compare;
#[path = "corpus/generate.rs"]
mod generate;
#[path = "corpus/spread.rs"]
mod spread;
#[path = "corpus/traces.rs"]
mod traces;
#[path = "corpus/series.rs"]
mod series;
#[path = "corpus/points.rs"]
mod points;
#[path = "corpus/metrics.rs"]
mod metrics;
#[path = "corpus/buckets.rs"]
mod buckets;

use compare::Pair;
use moved::Moved;
use prism_model::samples::Random;
use prism_model::{Batch, Intrinsic as I, Signal, Value};
use prism_query::RunOptions;
use support::{MS, NOW, Row, SECOND, str, tenant};

/// Queries, if nobody says how many.
const QUERIES: usize = 300;
const COMMITS: usize = 3;
/// Rows of a commit.
const ROWS: usize = 700;

fn rows(commit: usize) -> Batch {
    let mut r = Random(11 + commit as u64);
    let services = ["shop", "bank", "cart", "ünï"];
    let resources = services.map(|name| Row { attributes: vec![("service.name", str(name))], ..Row::default() });
    let row = |n: usize| {
        let mut maybe = |many: usize| !r.one_in(many);
        let has = [maybe(4), maybe(5), maybe(3), maybe(2), maybe(3), maybe(6), maybe(3)];
        let mut attributes = vec![("user.id", str(&format!("u{}", r.below(400))))];
        let mut add = |there: bool, key: &'static str, value: Value| {
            if there {
                attributes.push((key, value));
            }
        };
        let routes = ["/cart", "/cart/items", "/pay", "/", "", "/Abc"];
        add(has[0], "http.route", str(routes[r.below(routes.len())]));
        let code = [200, 200, 200, 204, 301, 404, 500, 503][r.below(8)];
        add(has[1], "http.response.status_code", Value::Int(code));
        add(has[2], "size", Value::Int(r.below(2_000) as i64));
        add(has[3], "ratio", Value::Double(r.below(4_000) as f64 / 1_000.0 - 1.0));
        add(has[4], "cached", Value::Bool(r.one_in(2)));
        add(has[5], "delta", Value::Int(r.below(600) as i64 - 300));
        add(has[6], "odd key, it is", str(["x", "yy", "Z z"][r.below(3)]));
        let mixed = if r.one_in(2) { str(["m1", "m2"][r.below(2)]) } else { Value::Int(r.below(4) as i64) };
        add(commit > 0, "mixed", mixed);
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&(r.number() | 1).to_le_bytes());
        let exponent = r.below(24);
        let fixed = vec![
            // Each row has a time of its own.
            (
                I::Time,
                Value::Int(NOW - 1_200 * SECOND + (n as i64 * 1_700 + commit as i64 * 13) * MS + r.below(9) as i64),
            ),
            (I::TraceId, Value::Bytes(trace.to_vec())),
            (I::SpanId, Value::Bytes((r.number() | 1).to_le_bytes().to_vec())),
            (I::Name, str(["GET /", "charge", "ünï", "a b", "GET /cart"][r.below(5)])),
            (I::Kind, Value::Int(r.below(6) as i64)),
            (I::Status, Value::Int([0, 0, 0, 1, 2][r.below(5)])),
            (I::Duration, Value::Int(1 + r.below(1 << exponent) as i64)),
        ];
        Row { fixed, attributes, resource: r.below(services.len()), ..Row::default() }
    };
    let items: Vec<Row> = (0..ROWS).map(row).collect();
    support::batch(Signal::Spans, &resources, &[], &items)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_queries_answer_as_duckdb_does() {
    let Some(engines) = engines::installed() else { return };
    let moved = Moved::new();
    for commit in 0..COMMITS {
        moved.add(rows(commit)).await;
        moved.seal(Signal::Spans);
        moved.promote(Signal::Spans);
    }
    let table = moved.root().join(format!("objects/cold/{}/{}", tenant(), Signal::Spans));
    let pairs = compare::generated(QUERIES, generate::pair);
    compare::agree(&engines, &moved.engine(), &RunOptions::default(), &table, &pairs).await;
    for pair in [series::pair, spread::pair] {
        let pairs = compare::generated(QUERIES, pair);
        compare::agree(&engines, &moved.engine(), &RunOptions::default(), &table, &pairs).await;
    }
}

/// Points of every kind of metric, in no order, some sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_questions_about_metrics_answer_as_duckdb_does() {
    let Some(engines) = engines::installed() else { return };
    let moved = Moved::new();
    for some in points::batches() {
        moved.add(some).await;
        moved.seal(Signal::Metrics);
        moved.promote(Signal::Metrics);
    }
    let table = moved.root().join(format!("objects/cold/{}/{}", tenant(), Signal::Metrics));
    for pair in [metrics::pair, buckets::pair] {
        let pairs = compare::generated(QUERIES, pair);
        compare::agree(&engines, &moved.engine(), &RunOptions::default(), &table, &pairs).await;
    }
}

/// Structure among generated traces, whose spans lie in several files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_structure_answers_as_duckdb_does() {
    let Some(engines) = engines::installed() else { return };
    let moved = Moved::new();
    for spans in traces::spans() {
        moved.add(spans).await;
        moved.seal(Signal::Spans);
        moved.promote(Signal::Spans);
    }
    for logs in traces::logs() {
        moved.add(logs).await;
        moved.seal(Signal::Logs);
        moved.promote(Signal::Logs);
    }
    let table = |signal: Signal| moved.root().join(format!("objects/cold/{}/{signal}", tenant()));
    let logs = format!("delta_scan('{}')", table(Signal::Logs).display());
    let with_logs = |pair: Pair| Pair { sql: pair.sql.replace("{logs}", &logs), ..pair };
    let pairs = compare::generated(QUERIES, |r| with_logs(traces::pair(r)));
    compare::agree(&engines, &moved.engine(), &RunOptions::default(), &table(Signal::Spans), &pairs).await;
    // As if memory ended again and again.
    let some = &pairs[..pairs.len().min(60)];
    let often = RunOptions { structure_passes_min: 4, ..RunOptions::default() };
    let passes = compare::agree(&engines, &moved.engine(), &often, &table(Signal::Spans), some).await;
    assert!(passes >= 2 * some.len() as u64, "{passes} passes");
}
