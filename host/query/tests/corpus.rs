//! Generated queries answer as DuckDB does over the same Parquet: conditions, expressions, groups, aggregates with their own
//! conditions, `having`, order and limit. Sketches are within their bounds. `PRISM_CORPUS=n` asks n queries,
//! `PRISM_CORPUS_SEED=n` begins elsewhere.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "../../store/tests/support/packages.rs"]
mod packages;
#[path = "lake/engines.rs"]
mod engines;
#[path = "support/moved.rs"]
mod moved;
#[path = "corpus/generate.rs"]
mod generate;

use engines::Question;
use generate::{Check, Pair, pair};
use moved::Moved;
use prism_dsl::{Expr, Literal, Range};
use prism_model::samples::Random;
use prism_model::{Batch, Intrinsic as I, Signal, Value};
use prism_query::RunOptions;
use serde_json::Value as Json;
use support::{MS, NOW, Row, SECOND, str, tenant};

/// Queries, if nobody says how many.
const QUERIES: usize = 300;
const COMMITS: usize = 3;
/// Rows of a commit.
const ROWS: usize = 700;

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

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

/// Whether a value of Prism is what another engine says; `theirs` holds two for a quantile. Prism shows `whole` nanoseconds.
fn agrees(check: Check, whole: bool, ours: &Json, theirs: &[Json]) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) + if whole { 0.5 } else { 0.0 };
    match check {
        Check::Time => {
            let Some(time) = ours.as_str() else { return false };
            let parsed = prism_dsl::parse_expr(&format!("t'{time}'")).unwrap();
            matches!((parsed, theirs[0].as_i64()), (Expr::Literal(Literal::Time(a)), Some(b)) if a == b)
        }
        Check::Equal => match (ours.as_f64(), theirs[0].as_f64()) {
            (Some(a), Some(b)) => near(a, b),
            _ => *ours == theirs[0],
        },
        Check::Distinct => match (ours.as_f64(), theirs[0].as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= (0.02 * b).max(0.5),
            _ => false,
        },
        Check::Quantile => match (ours.as_f64(), theirs[0].as_f64(), theirs[1].as_f64()) {
            (None, None, None) => ours.is_null(),
            (Some(ours), Some(low), Some(high)) => {
                ours >= low - 0.0101 * low.abs() - 1e-9 && ours <= high + 0.0101 * high.abs() + 1e-9
            }
            _ => false,
        },
    }
}

/// Why the answers differ, if they do.
fn difference(pair: &Pair, whole: &[bool], ours: &[Vec<Json>], theirs: &[Vec<Json>]) -> Option<String> {
    if ours.len() != theirs.len() {
        return Some(format!("{} rows, the other has {}", ours.len(), theirs.len()));
    }
    // Rows of groups come in any order: each needs one of the other's that nobody has yet.
    let same = |a: &[Json], b: &[Json]| {
        let mut at = 0;
        pair.checks.iter().enumerate().all(|(i, check)| {
            let width = if *check == Check::Quantile { 2 } else { 1 };
            at += width;
            pair.only.is_some_and(|only| only != i) || agrees(*check, whole[i], &a[i], &b[at - width..at])
        })
    };
    let mut free: Vec<usize> = (0..theirs.len()).collect();
    for row in ours {
        match free.iter().position(|other| same(row, &theirs[*other])) {
            Some(found) => {
                free.remove(found);
            }
            None => {
                let left: Vec<String> =
                    free.iter().take(8).map(|other| format!("\n    {:?}", theirs[*other])).collect();
                return Some(format!("{row:?} is not there; left of the other: {}", left.concat()));
            }
        }
    }
    None
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
    let engine = moved.engine();
    let first = number("PRISM_CORPUS_SEED").unwrap_or(1);
    let pairs: Vec<Pair> = (first..first + number("PRISM_CORPUS").unwrap_or(QUERIES))
        .map(|seed| pair(&mut Random(seed as u64 * 0x9E37_79B9)))
        .collect();
    let asked: Vec<Question> = pairs
        .iter()
        .map(|p| Question { table: table.clone(), sql: engines::columns(&p.sql), engines: &["duckdb"] })
        .collect();
    let answers = engines.ask_rows(&asked);
    let mut wrong = Vec::new();
    for ((pair, question), answer) in pairs.iter().zip(&asked).zip(&answers) {
        let text = format!("from spans{}", pair.prism);
        let mut query = prism_dsl::parse_text(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        query.range = Some(Range::Between { from: i64::MIN, to: i64::MAX });
        let ours = engine.run(&tenant(), &query, NOW, RunOptions::default()).await;
        let ours = ours.unwrap_or_else(|error| panic!("{text}: {error}"));
        let whole: Vec<bool> = ours.columns.iter().map(|column| column.unit.is_some()).collect();
        let row = |row| (0..ours.columns.len()).map(|c| ours.cell(row, c)).collect::<Vec<_>>();
        let ours: Vec<Vec<Json>> = (0..ours.rows).map(row).collect();
        let why = match &answer["duckdb"] {
            Err(error) => Some(error.clone()),
            Ok(theirs) => difference(pair, &whole, &ours, theirs),
        };
        if let Some(why) = why {
            wrong.push(format!("{text}\n  {}\n  {why}", question.sql));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), pairs.len(), wrong[..wrong.len().min(12)].join("\n"));
}
