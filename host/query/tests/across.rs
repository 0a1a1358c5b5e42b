//! Queries over several signals at once: the envelope of all rows, and rows of one signal beside those of another.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use prism_model::{Intrinsic as I, MetricType, Signal, Value};
use prism_query::RunOptions;
use support::{Lab, NOW, Row, SECOND, str};

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
