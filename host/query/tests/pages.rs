//! Pages by cursor: joined they are the whole answer, also while rows move to colder tiers and new ones arrive. And what
//! queries may use, alone and together.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "support/moved.rs"]
mod moved;

use std::time::Duration;

use moved::Moved;
use prism_model::samples::Random;
use prism_model::{Batch, Intrinsic as I, Signal, Value};
use prism_query::{Answer, Engine, EngineOptions, QueryError, RunOptions, TenantLimits};
use support::{MS, NOW, Row, SECOND, shown_error, str, tenant};

/// Spans of few times, durations and names, so that many are alike in an order; `from` seconds before now on.
fn spans(r: &mut Random, from: i64, rows: usize) -> Batch {
    let service = |name: &'static str| Row { attributes: vec![("service.name", str(name))], ..Row::default() };
    let items: Vec<Row> = (0..rows)
        .map(|_| Row {
            fixed: vec![
                (I::Time, Value::Int(NOW - from * SECOND + r.below(20) as i64 * 100 * MS)),
                (I::Duration, Value::Int(r.below(4) as i64 * MS)),
                (I::Name, str(["a", "b", ""][r.below(3)])),
                (I::SpanId, Value::Bytes(vec![1 + r.below(6) as u8; 8])),
            ],
            resource: r.below(2),
            ..Row::default()
        })
        .collect();
    support::batch(Signal::Spans, &[service("cart"), service("pay")], &[], &items)
}

fn cells(answer: &Answer) -> Vec<String> {
    assert!(answer.stats.partial.is_empty(), "{:?}", answer.stats.partial);
    let row = |row| (0..answer.columns.len()).map(|c| answer.cell(row, c).to_string()).collect::<Vec<_>>().join(" | ");
    (0..answer.rows).map(row).collect()
}

async fn ask(engine: &Engine, text: &str, cursor: Option<String>, limit: u64, now: i64) -> Result<Answer, QueryError> {
    let mut query = prism_dsl::parse_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    (query.cursor, query.limit) = (cursor, Some(limit));
    engine.run(&tenant(), &query, now, RunOptions::default()).await
}

const QUESTIONS: [&str; 8] = [
    "from spans last 1h",
    "from spans last 1h order time",
    "from spans last 1h where name != 'b' select name, duration, span_id order duration desc",
    "from spans last 1h select name order name",
    "from spans last 1h select 1 as one order service.name, duration",
    "from spans last 1h by name, span_id select count() as n",
    "from spans last 1h by bin(time, 1s), service.name select count() as n, max(duration)",
    "from spans last 1h by service.name, duration",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_joined_are_the_whole_answer_while_rows_move_and_arrive() {
    let mut pages_read = 0;
    for seed in 0..6u64 {
        let r = &mut Random(seed * 977 + 3);
        let moved = Moved::new();
        for part in 0..3 {
            let rows = 1 + r.below(90);
            moved.add(spans(r, 600 - part * 2, rows)).await;
        }
        let text = QUESTIONS[(seed as usize * 5 + 1) % QUESTIONS.len()];
        for text in [text, QUESTIONS[seed as usize % QUESTIONS.len()]] {
            let limit = 1 + r.below(25) as u64;
            let whole = ask(&moved.engine(), text, None, 10_000, NOW).await.unwrap();
            assert_eq!(whole.cursor, None, "all of it");
            let (mut joined, mut cursor, mut page) = (Vec::new(), None, 0);
            loop {
                // Another process may answer the next page, later.
                let answer = ask(&moved.engine(), text, cursor, limit, NOW + page * SECOND).await.unwrap();
                assert!(answer.rows <= limit as usize);
                joined.extend(cells(&answer));
                page += 1;
                pages_read += 1;
                match answer.cursor {
                    Some(next) => cursor = Some(next),
                    None => break,
                }
                assert_eq!(answer.rows, limit as usize, "seed {seed}: {text}: a page before the last is full");
                if page == 1 + r.below(2) as i64 {
                    // New rows are behind the range's end, which the first page pinned.
                    moved.add(spans(r, -5, 10)).await;
                    moved.seal(Signal::Spans);
                    if r.one_in(2) {
                        moved.promote(Signal::Spans);
                    }
                }
            }
            assert_eq!(joined, cells(&whole), "seed {seed}, pages of {limit}: {text}");
        }
    }
    assert!(pages_read > 60, "{pages_read}");
}

/// Of more rows of one place in the order than are told apart the same are shown, whichever thread was faster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_rows_that_are_alike_the_same_are_shown() {
    let moved = Moved::new();
    for part in 0..3 {
        let row = |n: u64| Row {
            fixed: vec![(I::Time, Value::Int(NOW - SECOND)), (I::SpanId, Value::Bytes((n + 1).to_be_bytes().to_vec()))],
            ..Row::default()
        };
        let rows: Vec<Row> = (0..9_000).map(|n| row(part * 9_000 + n)).collect();
        moved.add(support::batch(Signal::Spans, &[], &[], &rows)).await;
    }
    let text = "from spans last 1h select span_id";
    let engine = |threads| Engine::new(moved.reader(), EngineOptions { threads, ..EngineOptions::default() });
    let mut expected = None;
    for threads in [1, 2, 2, 3, 4, 2] {
        let answer = ask(&engine(threads), text, None, 20, NOW).await.unwrap();
        assert_eq!((answer.rows, &answer.cursor, answer.stats.warnings.len()), (20, &None, 1));
        assert_eq!(*expected.get_or_insert_with(|| cells(&answer)), cells(&answer), "{threads} threads");
    }
}

#[tokio::test]
async fn a_cursor_of_something_else_is_refused() {
    let moved = Moved::new();
    moved.add(spans(&mut Random(1), 600, 50)).await;
    let engine = moved.engine();
    let cursor = ask(&engine, QUESTIONS[0], None, 5, NOW).await.unwrap().cursor.unwrap();
    for (text, cursor) in [
        (QUESTIONS[1], cursor.clone()),
        (QUESTIONS[0], cursor[1..].to_owned()),
        (QUESTIONS[0], String::new()),
        (QUESTIONS[0], "x".repeat(40_000)),
    ] {
        let error = ask(&engine, text, Some(cursor), 5, NOW).await.unwrap_err();
        assert_eq!(error.code(), "query_cursor", "{}", shown_error(&error));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_refuse_before_and_while_a_query_runs() {
    let moved = Moved::new();
    let r = &mut Random(9);
    for _ in 0..6 {
        moved.add(spans(r, 600, 200)).await;
    }
    let engine = moved.engine();
    let text = "from spans last 1h where name = 'a' and duration > 0ms by span_id select count()";
    let whole = ask(&engine, text, None, 10, NOW).await.unwrap().stats;
    let budget = |bytes: u64| format!("{text} budget bytes {bytes}");
    let before = ask(&engine, &budget(10), None, 10, NOW).await.unwrap_err();
    assert!(matches!(before, QueryError::Estimate { limit: 10, setting: "budget.bytes", .. }), "{before:?}");
    // What is certain is within this budget, what is read is not.
    let during = ask(&engine, &budget(whole.bytes_read - 1), None, 10, NOW).await.unwrap_err();
    assert!(matches!(during, QueryError::Bytes { setting: "budget.bytes", .. }), "{during:?}");
    assert!(ask(&engine, &budget(whole.bytes_read), None, 10, NOW).await.is_ok(), "a budget that is enough");

    let of = |options: EngineOptions| Engine::new(moved.reader(), options);
    let limited = of(EngineOptions { bytes_max: Some(10), ..EngineOptions::default() });
    let error = ask(&limited, text, None, 10, NOW).await.unwrap_err();
    assert!(matches!(error, QueryError::Estimate { setting: "query.bytes_max", .. }), "{error:?}");
    let limits = TenantLimits { bytes_max: Some(20), time_max: None };
    let tenants = [(tenant(), limits)].into_iter().collect();
    let limited = of(EngineOptions { bytes_max: Some(u64::MAX), tenants, ..EngineOptions::default() });
    let error = ask(&limited, text, None, 10, NOW).await.unwrap_err();
    assert!(matches!(error, QueryError::Estimate { limit: 20, setting: "query.tenants", .. }), "{error:?}");
    // What is set while servers run goes before the configuration, higher or lower; the query's own budget lowers both.
    let set = async |engine: &Engine, text: &str, limits: TenantLimits| {
        let query = prism_dsl::parse_text(text).unwrap();
        engine.run(&tenant(), &query, NOW, RunOptions { limits, ..RunOptions::default() }).await
    };
    let enough = TenantLimits { bytes_max: Some(u64::MAX), time_max: None };
    assert!(set(&limited, text, enough).await.is_ok());
    let error = set(&limited, text, TenantLimits { bytes_max: Some(7), time_max: None }).await.unwrap_err();
    assert!(error.to_string().ends_with("over its budget of 7 (`prism tenant set --query-bytes`)"), "{error}");
    let error = set(&limited, &budget(10), enough).await.unwrap_err();
    assert!(matches!(error, QueryError::Estimate { limit: 10, setting: "budget.bytes", .. }), "{error:?}");
    let at_once = TenantLimits { bytes_max: enough.bytes_max, time_max: Some(Duration::ZERO) };
    let error = set(&limited, text, at_once).await.unwrap_err();
    assert_eq!(error.to_string(), "the query took longer than 0 ms (`prism tenant set --query-time`)");
    let full = of(EngineOptions { memory_total_bytes_max: 100, ..EngineOptions::default() });
    let error = ask(&full, text, None, 10, NOW).await.unwrap_err();
    assert!(matches!(error, QueryError::MemoryFull { limit: 100 }), "{error:?}");
    // Its other threads may still be on their way out.
    let free = async {
        while full.load().memory_bytes > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), free).await.expect("nothing stays taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_nobody_waits_for_ends() {
    let moved = Moved::new();
    let r = &mut Random(4);
    for _ in 0..4 {
        moved.add(spans(r, 600, 300)).await;
    }
    let engine = Engine::new(moved.reader(), EngineOptions { threads: 1, ..EngineOptions::default() });
    let text = "from spans last 1h by span_id select count()";
    let asked = prism_dsl::parse_text(text).unwrap();
    {
        let tenant = tenant();
        let running = std::pin::pin!(engine.run(&tenant, &asked, NOW, RunOptions::default()));
        assert!(poll_once(running).is_pending(), "it works on other threads");
    }
    assert_eq!(engine.load().given_up, 1);
    // Its turns are given back: the next query gets all it needs.
    assert!(engine.run(&tenant(), &asked, NOW, RunOptions::default()).await.is_ok());
    assert_eq!((engine.load().frames_waiting, engine.load().memory_bytes), (0, 0));
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}
