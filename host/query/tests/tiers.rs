//! The same rows, wherever they lie: in segments, blocks and files of the table, moved there as a server moves them. Any query
//! answers alike (QU-2), and from rollups as from rows (QU-4).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "support/moved.rs"]
mod moved;

use std::path::{Path, PathBuf};

use moved::Moved;
use prism_dsl::{Query, Range};
use prism_model::samples::Random;
use prism_model::window::TimeRange;
use prism_model::{Batch, ColumnId, Intrinsic as I, Signal, TableKind, Value};
use prism_query::{Answer, Engine, EngineOptions, FieldInfo, RunOptions};
use prism_store::{CountOptions, Reader};
use support::{MS, NOW, Row, SECOND, assert_within, cleared, explained, str, tenant};

const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 1_440 * MINUTE;

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
                "count_distinct(trace_id)",
                "exact(count_distinct(trace_id))",
                "count_distinct(service.name)",
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

/// Counts all of the hot tier that was asked for.
fn count(reader: &Reader) {
    while reader.count() {}
}

/// Whether rollups of segments answered.
fn of_hot(answer: &Answer, expected: &Answer) -> bool {
    answer.stats.tiers[0].frames_read < expected.stats.tiers[0].frames_read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qu4_rollups_answer_as_rows_do() {
    for signal in Signal::ALL {
        let (mut from_rollups, mut from_both, mut of_cold, mut hot) = (0, 0, 0, 0);
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
            let reader = moved.reader();
            reader.keep_counts(CountOptions::default());
            let engine = Engine::new(reader.clone(), EngineOptions::default());
            for n in 0..QUERIES {
                // Others come, and of those before all that queries asked for is counted.
                if r.one_in(8) {
                    moved.add(rows(r, signal, Odd::Nothing)).await;
                }
                count(&reader);
                let query = question(r, signal);
                let explained = explained(&engine, &query).await;
                let answer = engine.run(&tenant(), &query, NOW, RunOptions::default()).await.unwrap();
                assert_within(&explained, &answer, &format!("seed {seed}, query {n}: {query}"));
                let by_rows = RunOptions { without_rollups: true, without_pruning: true, ..RunOptions::default() };
                let expected = engine.run(&tenant(), &query, NOW, by_rows).await.unwrap();
                assert_eq!(cells(&answer), cells(&expected), "QU-4: seed {seed}, query {n}: {query}");
                assert_eq!(answer.stats.rows_matched, expected.stats.rows_matched, "seed {seed}, query {n}: {query}");
                assert_eq!(expected.stats.rollups_read, 0);
                of_cold += u64::from(expected.stats.tiers[2].frames_read > 0);
                hot += u64::from(of_hot(&answer, &expected));
                from_rollups += u64::from(answer.stats.rollups_read > 0);
                from_both += u64::from(answer.stats.rollups_read > 0 && answer.stats.rows_scanned > 0);
            }
        }
        // The test is of rollups, and of rollups beside rows.
        let queries = STORES * QUERIES as u64;
        assert!(from_rollups > queries / 3 && from_both > queries / 5, "{signal}: {from_rollups}, {from_both}");
        assert!(of_cold > queries / 3 && hot > queries / 4, "{signal}: {of_cold}, {hot}");
    }
}

/// Segments that grow between queries, of windows that are open and of late rows: what of them stands for ever is counted when it
/// was asked for twice, and what came since is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qu4_segments_that_grow_answer_as_their_rows_do() {
    let options = CountOptions { frames_min: 2, ..CountOptions::default() };
    for signal in Signal::ALL {
        let (mut hot, mut queries) = (0, 0);
        for seed in 0..STORES {
            let r = &mut Random(seed * 7_919 + 3);
            let moved = Moved::new();
            let reader = moved.reader();
            reader.keep_counts(options);
            let engine = Engine::new(reader.clone(), EngineOptions::default());
            let store = moved.store();
            for n in 0..QUERIES {
                let odd = match (signal, seed) {
                    (Signal::Spans, 0) if r.one_in(20) => Odd::Running,
                    (Signal::Spans, 1) if r.one_in(20) => Odd::Endless,
                    (_, 2) if r.one_in(20) => Odd::OwnService,
                    _ => Odd::Nothing,
                };
                store.append(&tenant(), cleared(rows(r, signal, odd))).await.unwrap();
                if r.one_in(2) {
                    count(&reader);
                }
                let query = question(r, signal);
                let explained = explained(&engine, &query).await;
                let answer = engine.run(&tenant(), &query, NOW, RunOptions::default()).await.unwrap();
                let label = format!("seed {seed}, query {n}: {query}");
                assert_within(&explained, &answer, &label);
                let by_rows = RunOptions { without_rollups: true, without_pruning: true, ..RunOptions::default() };
                let expected = engine.run(&tenant(), &query, NOW, by_rows).await.unwrap();
                assert_eq!(cells(&answer), cells(&expected), "QU-4: {label}");
                assert_eq!(answer.stats.rows_matched, expected.stats.rows_matched, "{label}");
                let told: u64 = explained.scans.iter().map(|scan| scan.json["rollups"].as_u64().unwrap()).sum();
                assert!(answer.stats.rollups_read <= told, "{label}");
                hot += u64::from(answer.stats.rollups_read > 0);
                queries += 1;
            }
            store.close().await;
        }
        assert!(hot > queries / 3, "{signal}: {hot} of {queries}");
    }
}

/// What nobody asks for again is not counted, nor where there is no room; what is sealed is no segment's any more.
#[tokio::test]
async fn segments_are_counted_when_they_are_asked_for_again_and_there_is_room() {
    let moved = Moved::new();
    let r = &mut Random(11);
    for _ in 0..3 {
        moved.add(rows(r, Signal::Logs, Odd::Nothing)).await;
    }
    let mut query = prism_dsl::parse_text("from logs by service.name select count()").unwrap();
    query.range = Some(Range::Between { from: i64::MIN, to: i64::MAX });
    let asks = async |engine: &Engine, query: &Query| {
        let answer = engine.run(&tenant(), query, NOW, RunOptions::default()).await.unwrap();
        (answer.stats.rollups_read, answer.stats.rows_scanned, cells(&answer))
    };
    let reader = moved.reader();
    let engine = Engine::new(reader.clone(), EngineOptions::default());
    let (_, all, expected) = asks(&engine, &query).await;
    assert!(all > 0);
    for bytes_max in [0, 64, 64 << 20] {
        reader.keep_counts(CountOptions { bytes_max, ..CountOptions::default() });
        let enough = bytes_max > 64;
        for n in 0..4 {
            // What no rollup answers asks for none, nor does a dry run.
            let mut other =
                prism_dsl::parse_text("from logs where time > t'2000-01-01T00:00:00Z' select count()").unwrap();
            other.range = query.range;
            asks(&engine, &other).await;
            explained(&engine, &query).await;
            let (rollups, rows, cells) = asks(&engine, &query).await;
            assert_eq!((rollups > 0, rows == 0), (enough && n > 1, enough && n > 1), "{bytes_max}, {n}");
            assert_eq!(cells, expected);
            count(&reader);
            assert!(reader.counted_bytes() <= bytes_max);
        }
    }
    moved.seal(Signal::Logs);
    let sealed = engine.run(&tenant(), &query, NOW, RunOptions::default()).await.unwrap();
    assert_eq!((cells(&sealed), sealed.stats.tiers.map(|of| of.parts)), (expected, [0, 1, 0]));
}

/// Questions of rows that have everything the model allows.
const OF_ROWS: [&str; 16] = [
    "from spans limit 3",
    "from spans where flags = 1 order duration desc, span_id limit 20",
    "from spans where http.route = 'GET' select time, name, userId order time, span_id limit 0",
    "from spans where kind = server select span_id, http.route, body order span_id limit 1000",
    "from spans select count()",
    "from spans where http.route = 'GET' select count(), max(duration)",
    "from spans where userId = 'a' or userid = 'checkout' by service.name select count()",
    "from spans where not exists(http.route) by kind, status select count(), min(name)",
    "from spans where not.there = 1 select count()",
    "from spans where resource.k8s.pod.name != 'a' by bin(time, 1m) select count(), count_distinct(trace_id)",
    "from spans where event.name contains 'e' select count()",
    "from spans where exists(message) by message select count() limit 1000",
    "from spans where name in ('GET', 'a', '') by name select count(), sum(flags)",
    "from spans where duration > 0s by flags select count(), avg(duration)",
    "from spans where running = true select count()",
    "from spans where link.trace_id != '' select count()",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qu2_rows_answer_alike_in_every_tier() {
    for seed in 0..3 {
        let moved = Moved::new();
        for part in 0..3 {
            moved.add(prism_model::samples::batch(Signal::Spans, 120, NOW - 600 * SECOND, seed * 31 + part)).await;
        }
        answer_alike_in_every_tier(&moved, &OF_ROWS, &format!("seed {seed}")).await;
    }
}

/// What may be told without a row being made.
const OF_COLUMNS: [&str; 11] = [
    "from spans where code = 503 select count()",
    "from spans where code = 503 and method = 'GET' select count(), count_distinct(user.id)",
    "from spans where code = 503 by code select count()",
    "from spans where code = 503 select code, user.id order user.id, code limit 20",
    "from spans where code = 77 select count()",
    "from spans where mixed = 1 select count()",
    "from spans select exact(count_distinct(trace_id)), exact(count_distinct(user.id)), count()",
    "from spans select exact(count_distinct(method)), exact(count_distinct(request.id))",
    "from traces select span_count, duration order span_count desc, duration desc limit 300",
    "from spans match (a: code = 503, b: code = 404) select count()",
    "from spans by user.id select count() order user.id limit 500",
];

/// Frames of so many rows that their columns are read one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qu2_columns_tell_what_their_rows_do() {
    let moved = Moved::new();
    let mut expected = 0;
    for part in 0..2 {
        let r = &mut Random(part + 5);
        let row = |r: &mut Random| {
            let mut attributes = vec![
                ("user.id", str(&format!("user-{}", r.below(300)))),
                ("method", str(pick(r, &["GET", "POST"]))),
                ("request.id", str(&format!("{:x}", r.number()))),
                ("mixed", if part == 0 || r.one_in(2) { Value::Int(r.below(3) as i64) } else { str("1") }),
            ];
            if !r.one_in(3) {
                attributes.push(("code", Value::Int(pick(r, &[200, 200, 404, 503]))));
            }
            let fixed = vec![
                (I::Time, Value::Int(NOW - 600 * SECOND + r.below(1_000) as i64 * MS)),
                (I::TraceId, Value::Bytes((r.below(200) as u128 + 1).to_be_bytes().to_vec())),
            ];
            Row { fixed, attributes, ..Row::default() }
        };
        let rows: Vec<Row> = (0..3_000).map(|_| row(r)).collect();
        expected += rows.iter().filter(|row| row.attributes.contains(&("code", Value::Int(503)))).count();
        moved.add(support::batch(Signal::Spans, &[], &[], &rows)).await;
    }
    let answers = answer_alike_in_every_tier(&moved, &OF_COLUMNS, "columns").await;
    assert_eq!(answers[0], [expected.to_string()]);
    assert_eq!(answers[6], ["200 | 300 | 6000"]);
}

/// The same with pruning and without it, within what explain says, hot, sealed and promoted; gives the answers.
async fn answer_alike_in_every_tier(moved: &Moved, questions: &[&str], label: &str) -> Vec<Vec<String>> {
    let engine = moved.engine();
    let mut found = Vec::new();
    for tier in 0..3 {
        match tier {
            1 => moved.seal(Signal::Spans),
            2 => moved.promote(Signal::Spans),
            _ => {}
        }
        let mut answers = Vec::new();
        for text in questions {
            let mut query = prism_dsl::parse_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            query.range = Some(Range::Between { from: i64::MIN, to: i64::MAX });
            let explained = explained(&engine, &query).await;
            let answer = engine.run(&tenant(), &query, NOW, RunOptions::default()).await.unwrap();
            assert_within(&explained, &answer, &format!("{label}, tier {tier}: {text}"));
            let whole = RunOptions { without_pruning: true, without_rollups: true, ..RunOptions::default() };
            let whole = engine.run(&tenant(), &query, NOW, whole).await.unwrap();
            assert_eq!(cells(&answer), cells(&whole), "{label}, tier {tier}: {text}");
            // All of it lies where it was moved to.
            let parts = whole.stats.tiers.map(|of| of.parts > 0);
            assert_eq!(parts, std::array::from_fn(|at| at == tier), "{:?}", whole.stats);
            answers.push(cells(&answer));
        }
        found.push(answers);
    }
    for (n, text) in questions.iter().enumerate() {
        assert_eq!(found[0][n], found[1][n], "{label}, sealed: {text}");
        assert_eq!(found[0][n], found[2][n], "{label}, promoted: {text}");
    }
    found.swap_remove(0)
}

#[tokio::test]
async fn a_trace_is_found_in_every_tier_and_says_what_it_took() {
    let moved = Moved::new();
    let mut parts = Vec::new();
    for part in 0..3 {
        let r = &mut Random(part + 1);
        let batch = rows(r, Signal::Spans, Odd::Nothing);
        moved.add(batch.clone()).await;
        parts.push(batch);
        match part {
            0 => {
                moved.seal(Signal::Spans);
                moved.promote(Signal::Spans);
            }
            1 => moved.seal(Signal::Spans),
            _ => {}
        }
    }
    let engine = moved.engine();
    let mut met = [false; 3];
    for n in 1..=40u8 {
        let answer = engine.trace(&tenant(), &[n; 16]).await.unwrap();
        assert!(answer.stats.partial.is_empty(), "{:?}", answer.stats.partial);
        let query =
            prism_dsl::parse_text(&format!("from spans where trace_id = '{}' select count()", hex::encode([n; 16])));
        let mut query = query.unwrap();
        query.range = Some(Range::Between { from: i64::MIN, to: i64::MAX });
        let count = engine.run(&tenant(), &query, NOW, RunOptions::default()).await.unwrap();
        assert_eq!(count.cell(0, 0), answer.stats.rows_matched, "trace {n}");
        assert!(answer.stats.index_reads <= if n == 1 { 4 } else { 2 }, "{:?}", answer.stats);
        // One block and one file hold it; its segments are of several windows.
        assert!(answer.stats.tiers[1..].iter().all(|of| of.parts <= 1), "{:?}", answer.stats);
        answer.stats.tiers.iter().zip(&mut met).for_each(|(of, met)| *met |= of.frames_read > 0);
    }
    assert_eq!(met, [true; 3]);
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let inside = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    inside.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Distinct values of all rows are told by dictionaries. One that is damaged leaves the rows of its file out, which the answer says;
/// other columns of the file are read as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_dictionary_makes_the_answer_partial() {
    const ROWS: usize = 1_200;
    const TRACES: &str = "select exact(count_distinct(trace_id)), count()";
    const OTHERS: &str = "from spans select exact(count_distinct(user.id)), count()";
    let moved = Moved::new();
    let ids = |r: &mut Random| [(r.number() | 1).to_be_bytes(), r.number().to_be_bytes()].concat();
    let traces = [(1, 60), (2, 40)].map(|(seed, many)| {
        let r = &mut Random(seed);
        (0..many).map(|_| ids(r)).collect::<Vec<_>>()
    });
    for ids in &traces {
        let row = |n: usize| Row {
            fixed: vec![
                (I::Time, Value::Int(NOW - 600 * SECOND + n as i64 * MS)),
                (I::TraceId, Value::Bytes(ids[n % ids.len()].clone())),
                (I::Duration, Value::Int(n as i64)),
            ],
            attributes: vec![("user.id", str(["ann", "bob"][n % 2]))],
            ..Row::default()
        };
        let rows: Vec<Row> = (0..ROWS).map(row).collect();
        moved.add(support::batch(Signal::Spans, &[], &[], &rows)).await;
        moved.seal(Signal::Spans);
        moved.promote(Signal::Spans);
    }
    let ask = async |text: &str| {
        let mut query = prism_dsl::parse_text(text).unwrap();
        query.range = Some(Range::Between { from: i64::MIN, to: i64::MAX });
        let options = RunOptions { without_rollups: true, ..RunOptions::default() };
        let answer = moved.engine().run(&tenant(), &query, NOW, options).await.unwrap();
        let partial: Vec<String> = answer.stats.partial.iter().map(|part| part.what.clone()).collect();
        ([0, 1].map(|column| answer.cell(0, column).as_u64().unwrap()), partial, answer.stats.bytes_read)
    };
    let of_all = format!("from spans {TRACES}");
    let (whole, partial, bytes) = ask(&of_all).await;
    assert_eq!((whole, partial.len()), ([100, 2 * ROWS as u64], 0));
    let (by_rows, _, of_rows) = ask(&format!("from spans where duration >= 0ns {TRACES}")).await;
    assert!(by_rows == whole && bytes < of_rows, "dictionaries alone tell it: {bytes} of {of_rows} bytes");

    // An id stands in its file once, in the dictionary of its column.
    let id = &traces[0][7];
    let find = |bytes: &[u8]| bytes.windows(id.len()).position(|window| window == id);
    let found = files(&moved.root().join(format!("objects/cold/{}/spans", tenant())));
    let found = found.into_iter().find_map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        find(&bytes).map(|at| (path, bytes, at))
    });
    let (path, mut bytes, at) = found.unwrap();
    bytes[at] ^= 1;
    assert_eq!(find(&bytes), None);
    std::fs::write(&path, &bytes).unwrap();
    let (left, partial, _) = ask(&of_all).await;
    assert_eq!(left, [40, ROWS as u64]);
    assert!(partial.len() == 1 && partial[0].starts_with("frame "), "{partial:?}");
    let (others, partial, _) = ask(OTHERS).await;
    assert_eq!((others, partial.len()), ([2, 2 * ROWS as u64], 0), "{partial:?}");
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

/// Attributes of every type, one key that is text in some rows and a number in others, one that comes twice, and one that had no
/// column from the start.
fn of_every_type(n: usize) -> Row {
    let mixed = if n.is_multiple_of(2) { str("1") } else { Value::Int(1) };
    let attributes = vec![
        ("a.text", str(["x", "", "null"][n % 3])),
        ("a.int", Value::Int(n as i64 % 2)),
        ("a.double", Value::Double(2.0)),
        ("a.bool", Value::Bool(n.is_multiple_of(3))),
        ("a.bytes", Value::Bytes(vec![7, n as u8 % 2])),
        ("a.list", Value::Array(vec![Value::Int(1), str("y")])),
        ("mixed", mixed),
        ("twice", str("first")),
        ("twice", Value::Int(2)),
    ];
    Row { attributes, tail: vec![("loose", Value::Int(7)), ("null", Value::Null)], ..Row::default() }
}

/// Thirty rows of one window of yesterday, whose files may be joined, and a few of everything that they point to or have, each with [`of_every_type`].
fn attributed(signal: Signal, from: usize) -> Batch {
    let two = [of_every_type(from), of_every_type(from + 1)];
    let item = |n: usize| {
        let mut row = Row { resource: n % 2, scope: n % 2, metric: n % 2, ..of_every_type(from + n) };
        row.fixed = vec![(I::Time, Value::Int(NOW - DAY - n as i64 * MS))];
        match signal {
            Signal::Spans => {
                row.fixed.extend([(I::TraceId, Value::Bytes(vec![1; 16])), (I::Name, str("step"))]);
                row.fixed.push((I::SpanId, Value::Bytes(vec![n as u8 + 1; 8])));
                (row.events, row.links) = (vec![of_every_type(n)], vec![of_every_type(n + 1); 2]);
            }
            Signal::Logs => row.fixed.push((I::Body, str("line"))),
            Signal::Metrics => {
                row.fixed.push((I::ValueInt, Value::Int(n as i64)));
                row.exemplars = vec![of_every_type(n)];
            }
        }
        row
    };
    let items: Vec<Row> = (0..30).map(item).collect();
    let named = |row: &Row| Row { fixed: vec![(I::Name, str("m"))], ..row.clone() };
    match signal {
        Signal::Metrics => support::points(&two, &two.clone().map(|row| named(&row)), &items),
        _ => support::batch(signal, &two, &two, &items),
    }
}

/// Keys that have no column in a file lie in its maps by type, and are listed, counted and looked up as in other tiers.
#[tokio::test]
async fn keys_without_a_column_are_listed_in_every_tier() {
    let range = TimeRange { from: NOW - 2 * DAY, to: NOW };
    let fields = async |moved: &Moved| moved.engine().fields(&tenant(), range).await.unwrap();
    let values = async |moved: &Moved, signal: Signal| {
        let mut all = Vec::new();
        for field in ["a.text", "a.int", "a.bool", "a.bytes", "a.list", "mixed", "twice", "loose", "resource.mixed"] {
            let engine = moved.engine();
            let found = engine.field_values(&tenant(), signal, field, range, 99, RunOptions::default()).await;
            let mut of: Vec<String> =
                found.unwrap().into_iter().map(|v| format!("{field} = {} {}x", v.value, v.count)).collect();
            of.sort();
            all.extend(of);
        }
        all
    };
    let columns = |moved: &Moved, signal: Signal| {
        let frames = moved.reader().snapshot(&tenant(), signal, TimeRange::ALL).unwrap().frames;
        let flat = [TableKind::Items, TableKind::Resources, TableKind::Scopes, TableKind::Descriptors];
        let of = |table| frames.iter().flat_map(move |frame| frame.columns(table)).map(|column| &column.id);
        flat.into_iter().flat_map(of).filter(|id| matches!(id, ColumnId::Attr { .. })).count()
    };
    for signal in Signal::ALL {
        for columns_max in [0, 5] {
            let moved = Moved::new();
            moved.columns_max.set(columns_max);
            moved.add(attributed(signal, 0)).await;
            let (hot, hot_values) = (fields(&moved).await, values(&moved, signal).await);
            let of = |scope: &str, name: &str| {
                let is_it = |f: &&FieldInfo| f.scope == scope && f.name == name && f.signal == signal;
                hot.iter().find(is_it).map(|f| (f.types.join(" "), f.count))
            };
            assert_eq!(of("attr", "a.int"), Some(("int".to_owned(), 30)));
            assert_eq!(of("attr", "mixed"), Some(("string int".to_owned(), 30)));
            assert_eq!(of("attr", "twice"), Some(("string int".to_owned(), 60)));
            assert_eq!(of("resource", "loose"), Some(("int".to_owned(), 2)));
            assert!(columns(&moved, signal) > columns_max);
            moved.seal(signal);
            assert_eq!(fields(&moved).await, hot, "{signal:?} in a block");
            moved.promote(signal);
            assert!(columns(&moved, signal) <= columns_max, "{signal:?}: there are keys without a column");
            assert_eq!(fields(&moved).await, hot, "{signal:?} in a file of {columns_max} columns");
            assert_eq!(values(&moved, signal).await, hot_values, "{signal:?} in a file of {columns_max} columns");

            // Joined with another file; resources and scopes of both are counted once then.
            moved.add(attributed(signal, 0)).await;
            moved.seal(signal);
            moved.promote(signal);
            moved.compact(signal);
            let known = |fields: Vec<FieldInfo>| -> Vec<_> {
                fields.into_iter().map(|f| (f.name, f.scope, f.signal, f.types)).collect()
            };
            assert_eq!(known(fields(&moved).await), known(hot), "{signal:?} joined");
        }
    }
}
