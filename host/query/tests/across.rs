//! Queries over several signals at once: the envelope of all rows, and rows of one signal beside those of another.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "support/moved.rs"]
mod moved;

use std::collections::BTreeMap;

use moved::Moved;
use prism_model::samples::Random;
use prism_model::{Intrinsic as I, MetricType, Signal, Value};
use prism_query::{Answer, Engine, EngineOptions, RunOptions};
use support::{Lab, NOW, Row, SECOND, str, tenant};

fn at(seconds: i64) -> (I, Value) {
    (I::Time, Value::Int(NOW - seconds * SECOND))
}

fn service(name: &str) -> Vec<Row> {
    vec![Row { attributes: vec![("service.name", str(name))], ..Row::default() }]
}

fn id(n: u8, width: usize) -> (u8, Value) {
    (n, Value::Bytes(vec![n; width]))
}

/// A span that began so many seconds ago, with an event at each of some other times.
fn span(trace: u8, number: u8, ago: i64, events: &[i64]) -> Row {
    let event = |ago: &i64| Row { fixed: vec![at(*ago), (I::Name, str("event"))], ..Row::default() };
    Row {
        fixed: vec![at(ago), (I::TraceId, id(trace, 16).1), (I::SpanId, id(number, 8).1), (I::Name, str("span"))],
        events: events.iter().map(event).collect(),
        ..Row::default()
    }
}

fn log(trace: u8, ago: i64, body: &str, severity: i64) -> Row {
    let mut fixed = vec![at(ago), (I::Body, str(body)), (I::Severity, Value::Int(severity))];
    if trace > 0 {
        fixed.push((I::TraceId, id(trace, 16).1));
    }
    Row { fixed, ..Row::default() }
}

#[tokio::test]
async fn an_event_is_in_the_range_of_its_own_time() {
    let lab = Lab::new();
    // One span began before the range, another's events reach behind it; the third has none in it.
    let spans = [span(1, 1, 700, &[650, 500]), span(1, 2, 250, &[245, 240]), span(1, 3, 290, &[100])];
    for row in spans {
        lab.add(support::batch(Signal::Spans, &service("shop"), &[], &[row])).await;
    }
    let range = "from t'2026-01-01T11:50:00Z' to t'2026-01-01T11:56:00Z'";
    let answer =
        lab.ask(&format!("from events {range} where signal = 'span_event' order time select time")).await.unwrap();
    let times: Vec<_> = (0..answer.rows).map(|row| answer.cell(row, 0)).collect();
    assert_eq!(times, ["2026-01-01T11:51:40.000000000Z", "2026-01-01T11:55:55.000000000Z"]);
    // The frame of the third tells the times of its events, so that it is not read.
    assert_eq!((answer.stats.frames_total, answer.stats.frames_read), (3, 2));
    let count = lab.ask(&format!("from events {range} by signal order signal select count()")).await.unwrap();
    assert_eq!((count.cell(0, 1), count.cell(1, 1)), (2.into(), 2.into()));
}

#[tokio::test]
async fn a_condition_that_one_signal_can_fulfil_reads_that_one_only() {
    let lab = Lab::new();
    lab.add(support::batch(Signal::Spans, &service("shop"), &[], &[span(1, 1, 50, &[40])])).await;
    lab.add(support::batch(Signal::Logs, &service("shop"), &[], &[log(1, 45, "hello", 9)])).await;
    let gauge =
        Row { fixed: vec![(I::Name, str("g")), (I::Type, Value::Int(MetricType::Gauge as i64))], ..Row::default() };
    let point = Row { fixed: vec![at(30), (I::ValueInt, Value::Int(7))], ..Row::default() };
    lab.add(support::points(&service("shop"), &[gauge], &[point])).await;
    for (condition, rows, frames) in [
        ("signal = 'log'", 1, 1),
        ("signal != 'log'", 3, 3),
        ("severity >= trace", 1, 1),
        ("value > 0", 1, 1),
        ("signal = 'log' and value > 0", 0, 1),
        ("service.name = 'shop'", 4, 4),
        ("not signal in ('span', 'metric')", 2, 2),
        ("body contains 'ell' or value = 7", 2, 2),
    ] {
        let answer = lab.ask(&format!("from events last 1h where {condition} select time, signal")).await.unwrap();
        assert_eq!((answer.rows, answer.stats.frames_total), (rows, frames), "{condition}");
        assert!(answer.stats.warnings.is_empty(), "{condition}: {:?}", answer.stats.warnings);
    }
    let strict = RunOptions { strict: true, ..RunOptions::default() };
    let error = lab.ask_with("from events last 1h where not.there = 1", strict.clone()).await.unwrap_err();
    assert_eq!(error.code(), "query_unknown_field");
    assert!(lab.ask_with("from events last 1h where severity = info", strict).await.is_ok());
}

/// A span, record or exemplar as the tests know it.
#[derive(Clone, Debug)]
struct Known {
    trace: u8,
    ago: i64,
    service: usize,
    /// Status of a span, severity of a record, value of a point.
    number: i64,
}

const SERVICES: [&str; 3] = ["cart", "pay", "ship"];

fn services() -> Vec<Row> {
    SERVICES.into_iter().flat_map(service).collect()
}

/// Random rows of each signal, over all tiers: spans, records, points with an exemplar each.
async fn everywhere(r: &mut Random) -> (Moved, [Vec<Known>; 3]) {
    let moved = Moved::new();
    let mut all = [const { Vec::new() }; 3];
    let gauge =
        Row { fixed: vec![(I::Name, str("g")), (I::Type, Value::Int(MetricType::Gauge as i64))], ..Row::default() };
    for step in 0..4 {
        for (signal, known) in Signal::ALL.into_iter().zip(&mut all) {
            for _ in 0..1 + r.below(2) {
                let rows: Vec<Known> = (0..1 + r.below(30))
                    .map(|_| Known {
                        // 0 stands for none.
                        trace: r.below(25) as u8,
                        ago: 1 + r.below(1_500) as i64,
                        service: r.below(3),
                        number: r.below(24) as i64 + 1,
                    })
                    .collect();
                let row = |of: &Known| {
                    let mut row = match signal {
                        Signal::Spans => span(of.trace, 1, of.ago, &[]),
                        Signal::Logs => log(of.trace, of.ago, &format!("b{}", of.number), of.number),
                        Signal::Metrics => Row {
                            fixed: vec![at(of.ago), (I::ValueInt, Value::Int(of.number))],
                            exemplars: vec![log(of.trace, of.ago, "", 0)],
                            ..Row::default()
                        },
                    };
                    if signal == Signal::Spans {
                        row.fixed.push((I::Status, Value::Int(of.number % 3)));
                        if of.trace == 0 {
                            row.fixed.retain(|(id, _)| *id != I::TraceId);
                        }
                    }
                    row.exemplars.iter_mut().for_each(|e| e.fixed.retain(|(id, _)| matches!(id, I::Time | I::TraceId)));
                    row.resource = of.service;
                    row
                };
                let items: Vec<Row> = rows.iter().map(row).collect();
                moved
                    .add(match signal {
                        Signal::Metrics => support::points(&services(), std::slice::from_ref(&gauge), &items),
                        _ => support::batch(signal, &services(), &[], &items),
                    })
                    .await;
                known.extend(rows);
            }
            if step < 2 {
                moved.seal(signal);
            }
            if step < 1 {
                moved.promote(signal);
            }
        }
    }
    (moved, all)
}

async fn rows(engine: &Engine, text: &str) -> Vec<String> {
    let query = prism_dsl::parse_text(text).unwrap();
    let run = async |options| -> Answer { engine.run(&tenant(), &query, NOW, options).await.unwrap() };
    let answer = run(RunOptions::default()).await;
    let shown = |answer: &Answer| {
        assert!(answer.stats.partial.is_empty(), "{:?}", answer.stats.partial);
        let cell = |row, c| answer.cell(row, c).to_string().replace('"', "");
        let row = |row| (0..answer.columns.len()).map(|c| cell(row, c)).collect::<Vec<_>>().join(" ");
        let mut rows: Vec<String> = (0..answer.rows).map(row).collect();
        rows.sort();
        rows
    };
    let whole = run(RunOptions { without_pruning: true, without_rollups: true, ..RunOptions::default() }).await;
    assert_eq!(shown(&answer), shown(&whole), "QU-2: {text}");
    shown(&answer)
}

fn sorted(rows: impl Iterator<Item = String>) -> Vec<String> {
    let mut rows: Vec<String> = rows.collect();
    rows.sort();
    rows
}

/// Joined by hand: number, sum and least of the joined rows of a trace.
fn by_trace(of: &[Known], wanted: impl Fn(&Known) -> bool) -> BTreeMap<u8, (usize, i64, i64)> {
    let mut groups = BTreeMap::new();
    for row in of.iter().filter(|row| row.trace > 0 && wanted(row)) {
        let group = groups.entry(row.trace).or_insert((0, 0, i64::MAX));
        *group = (group.0 + 1, group.1 + row.number, group.2.min(row.number));
    }
    groups
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_over_all_tiers_are_those_by_hand() {
    let time = |row: &Known| prism_time(NOW - row.ago * SECOND);
    for seed in 0..4 {
        let (moved, [spans, logs, points]) = everywhere(&mut Random(seed * 6_271 + 5)).await;
        // Handing over traces, and not: the answers are alike.
        for join_traces_max in [100_000, 3] {
            let engine = Engine::new(moved.reader(), EngineOptions { join_traces_max, ..EngineOptions::default() });
            let rows = async |text: &str| rows(&engine, text).await;
            let limit = "limit 10000";
            let warned = by_trace(&logs, |log| log.number >= 13);
            let joined = |row: &Known| warned.get(&row.trace).filter(|_| row.trace > 0);
            let shown = |row: &Known| match joined(row) {
                Some((count, sum, least)) => format!("{} {count} {sum} {least}", time(row)),
                None => format!("{} 0 0 null", time(row)),
            };
            let columns = "time, logs.count, logs.sum.severity, logs.min.severity";
            let join = "join logs where severity >= warn on trace";
            let found = rows(&format!("from spans last 1h select {columns} {limit} {join}")).await;
            assert_eq!(found, sorted(spans.iter().map(&shown)), "seed {seed}");
            let found = rows(&format!("from spans last 1h where logs.count > 0 select {columns} {limit} {join}")).await;
            assert_eq!(found, sorted(spans.iter().filter(|s| joined(s).is_some()).map(&shown)), "seed {seed}");
            let selective = "where service.name = 'pay' and status = error and logs.count < 2";
            let found = rows(&format!("from spans last 1h {selective} select {columns} {limit} {join}")).await;
            let kept = |s: &&Known| s.service == 1 && s.number % 3 == 2 && joined(s).is_none_or(|j| j.0 < 2);
            assert_eq!(found, sorted(spans.iter().filter(kept).map(&shown)), "seed {seed}");
            // From the other side, and through exemplars.
            let slow = by_trace(&spans, |_| true);
            let found = rows(&format!(
                "from logs last 1h where spans.count > 1 select time, spans.count {limit} join spans on trace"
            ))
            .await;
            let kept = |row: &Known| {
                slow.get(&row.trace).filter(|s| row.trace > 0 && s.0 > 1).map(|s| format!("{} {}", time(row), s.0))
            };
            assert_eq!(found, sorted(logs.iter().filter_map(kept)), "seed {seed}");
            let found = rows(&format!(
                "from metrics last 1h where spans.count > 1 select time, spans.count {limit} join spans on trace"
            ))
            .await;
            assert_eq!(found, sorted(points.iter().filter_map(kept)), "seed {seed}");
            let exemplars = by_trace(&points, |p| p.number > 5);
            let found = rows(&format!("from spans last 1h where metrics.count > 0 select time, metrics.sum.value {limit} join metrics where value > 5 on trace")).await;
            let kept = |row: &Known| {
                exemplars.get(&row.trace).filter(|_| row.trace > 0).map(|e| format!("{} {}", time(row), e.1))
            };
            assert_eq!(found, sorted(spans.iter().filter_map(kept)), "seed {seed}");
            // Groups, by time and service.
            let text = "from spans last 1h by bin(time, 5m) as b, service.name as s select count() as n, sum(metrics.value) as v, logs.count \
                        limit 10000 join metrics on bin, service.name join logs on bin, service.name";
            let group = |row: &Known| ((NOW - row.ago * SECOND).div_euclid(300 * SECOND), row.service);
            let sum = |of: &[Known], key, value: &dyn Fn(&Known) -> i64| {
                of.iter().filter(|row| group(row) == key).map(value).sum::<i64>()
            };
            let mut keys: Vec<_> = spans.iter().map(group).collect();
            keys.sort_unstable();
            keys.dedup();
            let expected = keys.into_iter().map(|key| {
                let bin = prism_time(key.0 * 300 * SECOND);
                let (n, v, logs) =
                    (sum(&spans, key, &|_| 1), sum(&points, key, &|p| p.number), sum(&logs, key, &|_| 1));
                format!("{bin} {} {n} {v} {logs}", SERVICES[key.1])
            });
            assert_eq!(rows(text).await, sorted(expected), "seed {seed}");
            // The envelope is all of it.
            let text = "from events last 1h where service.name != 'ship' by signal, service.name as s select count() as n limit 10000";
            let count = |of: &[Known], service| of.iter().filter(|row| row.service == service).count();
            let all = [("span", &spans), ("log", &logs), ("metric", &points)];
            let expected = all.into_iter().flat_map(|(signal, of)| {
                let line = move |service: usize| {
                    (count(of, service) > 0).then(|| format!("{signal} {} {}", SERVICES[service], count(of, service)))
                };
                (0..2).filter_map(line)
            });
            assert_eq!(rows(text).await, sorted(expected), "seed {seed}");
            let newest = rows("from events last 1h limit 20 select time").await;
            let mut times: Vec<String> = [&spans, &logs, &points].into_iter().flatten().map(time).collect();
            times.sort();
            assert_eq!(newest, times.split_off(times.len() - 20), "seed {seed}");
        }
    }
}

/// A time as answers show it.
fn prism_time(unix_nanos: i64) -> String {
    chrono::DateTime::from_timestamp_nanos(unix_nanos).to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
}
