//! The same rows, wherever they lie: in segments, blocks and files of the table, moved there as a server moves them. Any query
//! answers alike (QU-2), and from rollups as from rows (QU-4).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "support/moved.rs"]
mod moved;

use moved::Moved;
use prism_dsl::{Query, Range};
use prism_model::samples::Random;
use prism_model::{Batch, Intrinsic as I, Signal, Value};
use prism_query::{Answer, RunOptions};
use support::{MS, NOW, Row, SECOND, str, tenant};

const MINUTE: i64 = 60 * SECOND;

fn pick<T: Clone>(r: &mut Random, of: &[T]) -> T {
    of[r.below(of.len())].clone()
}

/// What a batch has that a rollup does not tell.
#[derive(Clone, Copy, PartialEq)]
enum Odd {
    Nothing,
    /// Spans that have started, some of which end elsewhere.
    Running,
    /// Spans without end.
    Endless,
    /// Records that say which service they are of.
    OwnService,
}

/// Rows of some minutes before now, of few services and names.
fn rows(r: &mut Random, signal: Signal, odd: Odd) -> Batch {
    let service = |name: Option<&str>| Row {
        attributes: name.map(|name| ("service.name", str(name))).into_iter().collect(),
        ..Row::default()
    };
    let resources = [Some("cart"), Some("pay"), Some(""), None].map(service);
    let names = [Some("GET /"), Some("charge"), Some(""), Some("ünï"), None];
    let first = r.below(25) as i64;
    let row = |r: &mut Random| {
        let time = NOW - first * MINUTE - r.below(6 * 60_000) as i64 * MS;
        let mut row = Row { resource: r.below(4), fixed: vec![(I::Time, Value::Int(time))], ..Row::default() };
        let mut push = |id: I, value: Value| row.fixed.push((id, value));
        match signal {
            Signal::Spans => {
                let id = |n: usize, width: usize| Value::Bytes(vec![n as u8 + 1; width]);
                push(I::TraceId, id(r.below(40), 16));
                push(I::SpanId, id(r.below(3), 8));
                pick(r, &names).into_iter().for_each(|name| push(I::Name, str(name)));
                push(I::Kind, Value::Int(pick(r, &[0, 1, 2, 3, 3, 9])));
                push(I::Status, Value::Int(pick(r, &[0, 0, 1, 2, 7])));
                let long = pick(r, &[1, 1_000, 1_000_000_000]);
                let mut duration = r.below(long) as i64;
                if odd == Odd::Endless && r.one_in(4) {
                    duration = time.wrapping_neg();
                }
                if odd == Odd::Running && r.one_in(3) {
                    push(I::Running, Value::Bool(true));
                    duration = time.wrapping_neg();
                }
                push(I::Duration, Value::Int(duration));
            }
            Signal::Logs => push(I::Severity, Value::Int(pick(r, &[0, 1, 5, 9, 13, 17, 17, 24, 99]))),
            Signal::Metrics => {
                push(I::ValueInt, Value::Int(r.below(100) as i64));
                row.metric = r.below(3);
            }
        }
        if odd == Odd::OwnService && r.one_in(3) {
            row.attributes.push(("service.name", str("its own")));
        }
        row
    };
    let count = 1 + r.below(120);
    let items: Vec<Row> = (0..count).map(|_| row(r)).collect();
    let metric = |name: &str| Row { fixed: vec![(I::Name, str(name)), (I::Type, Value::Int(1))], ..Row::default() };
    match signal {
        Signal::Metrics => support::points(&resources, &["cpu", "memory", "requests"].map(metric), &items),
        _ => support::batch(signal, &resources, &[], &items),
    }
}

/// A range, most of which begin and end within minutes.
fn range(r: &mut Random) -> Range {
    let mut edge = |from: i64| {
        let at = from + r.below(20 * 60_000) as i64 * MS + r.below(1_000_000) as i64;
        if r.one_in(3) { at.div_euclid(MINUTE) * MINUTE } else { at }
    };
    let (from, to) = (edge(NOW - 35 * MINUTE), edge(NOW - 20 * MINUTE));
    match r.below(6) {
        0 => Range::Between { from: i64::MIN, to: i64::MAX },
        1 => Range::Between { from, to: i64::MAX },
        2 => Range::Between { from: i64::MIN, to },
        _ => Range::Between { from, to: to.max(from) },
    }
}

/// A query that rollups may answer.
fn question(r: &mut Random, signal: Signal) -> Query {
    let (conditions, keys, aggregates): (&[&str], &[&str], &[&str]) = match signal {
        Signal::Spans => (
            &[
                "service.name = 'cart'",
                "resource.service.name != 'pay'",
                "name =~ '^GET'",
                "not exists(name)",
                "kind = server",
                "status = error or name = 'charge'",
                "service.name in ('cart', '')",
                "status != ok",
                "length(name) > 3",
            ],
            &["service.name", "name", "kind", "status", "bin(time, 1m)", "bin(time, 7m)", "lower(name)", "hour(time)"],
            &[
                "count()",
                "count() where status = error",
                "count(name)",
                "count(duration) where kind = client",
                "rate()",
                "p50(duration)",
                "p99(duration)",
                "quantile(duration, 0.9) where service.name = 'pay'",
                "avg(duration)",
                "sum(duration)",
                "min(duration)",
                "max(duration) where status != error",
                "count_distinct(name)",
                "min(name)",
                "max(service.name)",
                "top(name, 3)",
            ],
        ),
        Signal::Logs => (
            &["service.name = 'cart'", "severity >= error", "severity = info", "not exists(severity)"],
            &["service.name", "severity", "bin(time, 2m)"],
            &["count()", "count() where severity >= warn", "max(severity)", "count_distinct(service.name)"],
        ),
        Signal::Metrics => (
            &["service.name = 'cart'", "name = 'cpu'", "name contains 'e'"],
            &["service.name", "name", "bin(time, 5m)"],
            &["count()", "count(name)", "top(name, 2)"],
        ),
    };
    let some = |r: &mut Random, of: &[&str], most: usize| -> Vec<String> {
        let mut found: Vec<String> = (0..r.below(most + 1)).map(|_| pick(r, of).to_owned()).collect();
        found.sort();
        found.dedup();
        found
    };
    let mut text = format!("from {}", signal.as_str());
    let conditions = some(r, conditions, 2);
    if !conditions.is_empty() {
        text += &format!(" where ({})", conditions.join(") and ("));
    }
    let keys = some(r, keys, 3);
    if !keys.is_empty() {
        text += &format!(" by {}", keys.join(", "));
    }
    let mut aggregates = some(r, aggregates, 4);
    aggregates.push("count()".into());
    let named = aggregates.iter().enumerate().map(|(i, a)| format!("{a} as a{i}"));
    text += &format!(" select {}", named.collect::<Vec<_>>().join(", "));
    let mut query = prism_dsl::parse_text(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    query.range = Some(range(r));
    query.limit = Some(10_000);
    query
}

fn cells(answer: &Answer) -> Vec<String> {
    assert!(answer.stats.partial.is_empty(), "{:?}", answer.stats.partial);
    let row = |row| (0..answer.columns.len()).map(|c| answer.cell(row, c).to_string()).collect::<Vec<_>>().join(" | ");
    (0..answer.rows).map(row).collect()
}

/// Stores, and queries of each.
const STORES: u64 = 4;
const QUERIES: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qu4_rollups_answer_as_rows_do() {
    for signal in Signal::ALL {
        let (mut from_rollups, mut from_both) = (0, 0);
        for seed in 0..STORES {
            let r = &mut Random(seed * 6_151 + 5);
            let moved = Moved::new();
            for tier in 0..6 {
                let odd = match (signal, r.below(6)) {
                    (Signal::Spans, 0) => Odd::Running,
                    (Signal::Spans, 1) => Odd::Endless,
                    (_, 2) => Odd::OwnService,
                    _ => Odd::Nothing,
                };
                for _ in 0..1 + r.below(3) {
                    moved.add(rows(r, signal, odd)).await;
                }
                // The last stay hot, those before lie in blocks, the first of them in files.
                if tier < 5 {
                    moved.seal(signal);
                }
                if tier == 2 {
                    moved.promote(signal);
                }
            }
            let engine = moved.engine();
            for n in 0..QUERIES {
                let query = question(r, signal);
                let answer = engine.run(&tenant(), &query, NOW, RunOptions::default()).await.unwrap();
                let by_rows = RunOptions { without_rollups: true, without_pruning: true, ..RunOptions::default() };
                let expected = engine.run(&tenant(), &query, NOW, by_rows).await.unwrap();
                assert_eq!(cells(&answer), cells(&expected), "QU-4: seed {seed}, query {n}: {query}");
                assert_eq!(answer.stats.rows_matched, expected.stats.rows_matched, "seed {seed}, query {n}: {query}");
                assert_eq!(expected.stats.rollups_read, 0);
                from_rollups += u64::from(answer.stats.rollups_read > 0);
                from_both += u64::from(answer.stats.rollups_read > 0 && answer.stats.rows_scanned > 0);
            }
        }
        // The test is of rollups, and of rollups beside rows.
        let queries = STORES * QUERIES as u64;
        assert!(from_rollups > queries / 3 && from_both > queries / 5, "{signal}: {from_rollups}, {from_both}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_without_conditions_reads_nothing() {
    let r = &mut Random(7);
    let moved = Moved::new();
    for _ in 0..3 {
        moved.add(rows(r, Signal::Spans, Odd::Nothing)).await;
        moved.seal(Signal::Spans);
    }
    let mut query = prism_dsl::parse_text("from spans select count()").unwrap();
    query.range = Some(Range::Between { from: i64::MIN, to: i64::MAX });
    let answer = moved.engine().run(&tenant(), &query, NOW, RunOptions::default()).await.unwrap();
    assert_eq!((answer.stats.reads, answer.stats.bytes_read), (0, 0));
    assert_eq!(answer.cell(0, 0), answer.stats.rows_matched);
    assert!(answer.stats.tiers[1].parts == 3 && answer.stats.rows_matched > 0, "{:?}", answer.stats);
}
