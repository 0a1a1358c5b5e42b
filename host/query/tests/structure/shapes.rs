//! Shapes of traces that are meant to hurt: deep, wide, of one id, larger than the memory of a query.

use prism_model::{Intrinsic as I, Signal, Value};
use prism_query::{Answer, Engine, EngineOptions};

use super::support::{self, Lab, NOW, Row};
use super::{MINUTE, ask_rows, plainly, question};

/// A span of a trace, with an id that its number tells.
pub(super) fn span(number: i64, trace: u8, parent: Option<u64>, kind: i64, length: i64) -> Row {
    let id = |n: u64| Value::Bytes(n.to_be_bytes().to_vec());
    let mut fixed = vec![
        (I::Time, Value::Int(NOW - 10 * MINUTE + number)),
        (I::Duration, Value::Int(length)),
        (I::TraceId, Value::Bytes(vec![trace; 16])),
        (I::SpanId, id(number as u64 + 1)),
    ];
    fixed.extend(parent.map(|parent| (I::ParentId, id(parent + 1))));
    Row { fixed, attributes: vec![("k", Value::Int(kind))], ..Row::default() }
}

/// Shapes whose cost would be the square of their size, were a span looked at from each other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_shapes_are_bounded() {
    const SPANS: i64 = 30_000;
    let lab = Lab::new();
    let mut rows = Vec::new();
    // A chain of all spans, and one span with all the others below it.
    for n in 0..SPANS {
        rows.push(span(n, 1, (n > 0).then(|| n as u64 - 1), i64::from(n > 0) + 1, 2 * SPANS - n));
        rows.push(span(n, 2, (n > 0).then_some(0), i64::from(n > 0) + 1, 2 * SPANS - n));
    }
    lab.add(support::batch(Signal::Spans, &[], &[], &rows)).await;
    let count = |answer: &Answer| answer.cell(0, 0).as_i64().unwrap();
    for (text, expected) in [
        ("match (a: k = 1, b: k = 2 where a >> b) select count()", 2 * (SPANS - 1)),
        ("match (a: true, b: k = 2 where a >> b) select count()", 2 * (SPANS - 1)),
        ("match (a: k = 2, b: true where a << b) select count()", SPANS),
        ("match (a: true, b: true where a ~ b) select count()", SPANS - 1),
        ("match (a: k = 2, b: k = 2 where a !~ b) select count()", SPANS - 1),
        ("match (a: true, b: true, c: true where a > b and b ~ c and a >> c) return c select count()", SPANS - 1),
        ("where root.k = 1 and critical_duration >= 0 and self_duration >= 0 select count()", 2 * SPANS),
    ] {
        let answer =
            ask_rows(&plainly(&lab.engine), "spans", text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(count(&answer), expected, "{text}");
    }
    // Each of a half with each of the other: refused before it takes the day.
    let options = EngineOptions { combinations_max: 100_000, ..EngineOptions::default() };
    let engine = Engine::new(lab.store.reader(), options);
    let text = "match (a: k = 2, b: k = 2 where a ~ b and a.duration + b.duration < 0s) select count()";
    let error = ask_rows(&plainly(&engine), "spans", text).await.unwrap_err();
    assert_eq!(error.code(), "query_over_combinations");
    assert!(error.to_string().contains("100000") && error.to_string().contains("query.combinations_max"), "{error}");
    let options = EngineOptions { memory_bytes_max: 1 << 20, ..EngineOptions::default() };
    let engine = Engine::new(lab.store.reader(), options);
    let error = ask_rows(&plainly(&engine), "spans", "where parent.k = 1 select count()").await.unwrap_err();
    assert_eq!(error.code(), "query_over_memory");
    assert!(error.to_string().contains("query.memory_bytes_max"), "{error}");
}

/// A node of as many spans as have it as their parent: sent again and again, or by who gives all spans one id. And a span that is
/// looked for behind all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_ids_are_bounded() {
    const SPANS: i64 = 80_000;
    let lab = Lab::new();
    let mut rows = Vec::new();
    for n in 0..SPANS {
        rows.push(span(n + 1, 1, Some(0), 2, 1));
        // Of one id; the last by start is the only one that fits its name.
        let mut row = span(SPANS + 1 + n, 1, None, if n + 1 < SPANS { 3 } else { 1 }, 2);
        row.fixed.retain(|(column, _)| *column != I::SpanId);
        row.fixed.push((I::SpanId, Value::Bytes(1u64.to_be_bytes().to_vec())));
        rows.push(row);
    }
    for rows in rows.chunks(40_000) {
        lab.add(support::batch(Signal::Spans, &[], &[], rows)).await;
    }
    for text in [
        "match (a: k = 1, b: k = 2, c: k = 3 where a > b) return b by a.k select count() as n",
        "match (a: k = 1, b: k = 2, c: k = 3 where a >> b) return b by a.k select count() as n",
        "match (a: k = 1, b: k = 2, c: k = 3 where a >> b and a.duration > b.duration) return b by a.k select count() as n",
        "match (a: k = 2, b: k = 1 where a.duration < b.duration) return a by b.k select count() as n",
    ] {
        let answer =
            ask_rows(&plainly(&lab.engine), "spans", text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        let cells = [0, 1].map(|column| answer.cell(0, column).as_i64());
        assert_eq!((answer.rows, cells), (1, [Some(1), Some(SPANS)]), "{text}");
    }
}

/// More spans than fit into the memory of a query are looked at in several passes, and the answer is the same; a single trace
/// that does not fit is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_by_passes() {
    let lab = Lab::new();
    let (traces, spans) = (200, 40);
    let mut rows = Vec::new();
    for n in 0..traces * spans {
        let (trace, at) = (n % traces, n / traces);
        let parent = (at > 0).then(|| (trace + (at - 1) / 2 * traces) as u64);
        rows.push(span(n, trace as u8, parent, at % 3, (n * 7_919) % 10_007));
    }
    for rows in rows.chunks(1_500) {
        lab.add(support::batch(Signal::Spans, &[], &[], rows)).await;
    }
    let small = |memory_bytes_max| {
        let engine = Engine::new(lab.store.reader(), EngineOptions { memory_bytes_max, ..EngineOptions::default() });
        plainly(&engine)
    };
    let (whole, small, tiny) = (plainly(&lab.engine), small(400 << 10), small(2 << 10));
    for (from, text) in [
        ("spans", "match (a: k = 1, b: k = 2 where a > b) by k select count() as n, p95(duration), max(a.duration)"),
        ("spans", "match (a: k = 1, b: k = 2 where a >> b) select count() as n, sum(duration)"),
        ("spans", "match (a: k = 1, b: k = 2 where a ~ b and a.duration < b.duration) by a.k, k select count() as n"),
        ("spans", "match (a: k = 0, b: k = 2 where a !>> b) select count() as n"),
        ("spans", "where parent.k = 1 by root.k, k select count() as n"),
        ("spans", "where self_duration > 5000ns select count() as n, sum(self_duration), sum(critical_duration)"),
        (
            "spans",
            "match (a: k = 1, b: true where a >> b) order b.duration desc, time select trace_id, b.duration, a.duration limit 30",
        ),
        ("spans", "where parent.k = 1 order time limit 25 select time, parent.duration, root.k, self_duration"),
        ("traces", "order duration desc, trace_id limit 20 select trace_id, duration, span_count, root.k"),
        ("traces", "match (a: k = 1, b: k = 2 where a > b) by root.k select count() as n, max(duration)"),
    ] {
        let expected = ask_rows(&whole, from, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        let answer = ask_rows(&small, from, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        let cells = |answer: &Answer| {
            let row = |row| (0..answer.columns.len()).map(|c| answer.cell(row, c).to_string()).collect::<Vec<_>>();
            (0..answer.rows).map(row).collect::<Vec<_>>()
        };
        assert_eq!(cells(&answer), cells(&expected), "{text}");
        assert_eq!((expected.stats.structure_passes, answer.stats.structure_passes > 1), (1, true), "{text}");
        // Of the first by time, those that come later are not looked at.
        let all = answer.stats.rows_matched == expected.stats.rows_matched;
        // Nor traces that are not among the first by their extent.
        assert!(all || text.contains("order time") || text.contains("order duration"), "{text}");
        assert_eq!(answer.stats.frames_total, expected.stats.frames_total, "{text}");
        assert!(answer.stats.bytes_read > expected.stats.bytes_read, "{text}");
        let error = ask_rows(&tiny, from, text).await.unwrap_err();
        assert_eq!(error.code(), "query_over_memory", "{text}: {error}");
    }
}

/// Rows that wait for conditions between spans take of the query's memory: without room for them it is refused, and does not grow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_wait_for_tests_are_bounded_by_memory() {
    const SPANS: i64 = 40_000;
    let lab = Lab::new();
    // One span with all others below it, in one trace or in many.
    for traces in [1, 200] {
        let of_trace = |n: i64| if traces == 1 { 250 } else { 1 + (n % traces) as u8 };
        let root = |n: i64| if traces == 1 { 0 } else { n % traces };
        let row = |n: i64| {
            let parent = (root(n) != n).then(|| root(n) as u64);
            span(n, of_trace(n), parent, if parent.is_none() { 1 } else { 2 } + 4 * i64::from(traces == 1), n)
        };
        let rows: Vec<Row> = (0..SPANS).map(row).collect();
        lab.add(support::batch(Signal::Spans, &[], &[], &rows)).await;
    }
    let engine = |memory_bytes_max| {
        plainly(&Engine::new(lab.store.reader(), EngineOptions { memory_bytes_max, ..EngineOptions::default() }))
    };
    let text = |first: i64, test: &str| {
        format!("match (a: k = {first}, b: k = {} where a >> b{test}) select count() as n, sum(b.duration)", first + 1)
    };
    const TEST: &str = " and a.duration < b.duration";
    for (first, traces) in [(5, 1), (1, 200)] {
        for test in ["", TEST] {
            let answer = ask_rows(&engine(256 << 20), "spans", &text(first, test)).await.unwrap();
            assert_eq!((answer.cell(0, 0).as_i64(), answer.stats.structure_passes), (Some(SPANS - traces), 1));
        }
    }
    // Enough for the trace and its tree, and too little for its rows.
    let small = engine(14 << 20);
    assert_eq!(ask_rows(&small, "spans", &text(5, "")).await.unwrap().cell(0, 0).as_i64(), Some(SPANS - 1));
    let error = ask_rows(&small, "spans", &text(5, TEST)).await.unwrap_err();
    assert_eq!(error.code(), "query_over_memory");
    assert!(error.to_string().contains("query.memory_bytes_max"), "{error}");
    // Of many traces those of one are there at a time.
    let answer = ask_rows(&small, "spans", &text(1, TEST)).await.unwrap();
    assert_eq!(answer.cell(0, 0).as_i64(), Some(SPANS - 200));
}

/// What is known of rows between the look for traces and that for their spans takes a part of the memory only, however many rows
/// there are of which a few fit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_of_many_rows_need_little_room() {
    const OF_FRAME: i64 = 4_000;
    const FRAMES: i64 = 12;
    let lab = Lab::new();
    let mut rows = Vec::new();
    for n in 0..FRAMES * OF_FRAME {
        let (frame, at) = (n / OF_FRAME, n % OF_FRAME);
        let trace = if at < 20 { 1 + (frame * 10 + at / 2) % 30 } else { 100 + n % 100 };
        let (parent, kind) = match at {
            20.. => (None, 0),
            _ if at % 2 == 0 => (None, 2),
            _ => (Some(n as u64 - 1), 1),
        };
        let mut row = span(n, trace as u8, parent, kind, 1 + n % 7);
        // In half of the frames what fits is of no trace, and none of the traces is there.
        if at < 20 && frame >= FRAMES / 2 {
            row.fixed.retain(|(column, _)| *column != I::TraceId);
        }
        rows.push(row);
    }
    for rows in rows.chunks(OF_FRAME as usize) {
        lab.add(support::batch(Signal::Spans, &[], &[], rows)).await;
    }
    // Spans may take half of it: less than a mark for each row.
    let memory_bytes_max = 360 << 10;
    assert!(FRAMES * OF_FRAME * 4 > memory_bytes_max as i64 / 2);
    let small = Engine::new(lab.store.reader(), EngineOptions { memory_bytes_max, ..EngineOptions::default() });
    let fitting = FRAMES * 10;
    for (text, expected) in [
        ("where k = 1 select count(), count() where parent.k = 2", [fitting, fitting / 2]),
        ("where k = 1 select count(), count() where root.k = 2", [fitting, fitting / 2]),
        ("match (a: k = 1, b: true where b > a) return a select count(), count() where b.k = 2", [fitting / 2; 2]),
        ("match (a: k = 1, b: true) return a select count(), count() where duration > 0ns", [fitting; 2]),
    ] {
        for engine in [&lab.engine, &small] {
            let answer =
                ask_rows(&plainly(engine), "spans", text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!([0, 1].map(|column| answer.cell(0, column).as_i64()), expected.map(Some), "{text}");
        }
    }
}

/// Traces as no one should send them, of more than 100,000 spans and 10,000 levels: also with circles, ids that repeat, spans
/// that are their own parents, two roots, and spans that are running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_may_be_large_and_deep() {
    const CHAIN: i64 = 10_000;
    const CHAINS: i64 = 11;
    let lab = Lab::new();
    let mut rows = Vec::new();
    // Chains of one trace, two of which have roots, one ends in a circle, one in a span that is its own parent; the others hang
    // below the first.
    for n in 0..CHAIN * CHAINS {
        let (chain, at) = (n / CHAIN, n % CHAIN);
        let parent = match (at, chain) {
            (0, 0 | 1) => None,
            (0, 2) => Some(2 * CHAIN + CHAIN - 1),
            (0, 3) => Some(n),
            (0, _) => Some(0),
            _ => Some(n - 1),
        };
        let kind = if at == 0 { 1 } else { 2 };
        let mut row = span(n, 7, parent.map(|parent| parent as u64), kind, 1_000 + CHAIN - at);
        if chain == 4 && at == CHAIN - 1 {
            row.fixed.retain(|(column, _)| *column != I::Duration);
            row.fixed.extend([(I::Running, Value::Bool(true)), (I::Duration, Value::Int(0))]);
        }
        // The same again.
        if at % 1_000 == 17 {
            rows.push(row.clone());
        }
        rows.push(row);
    }
    let again = rows.len() as i64 - CHAIN * CHAINS;
    for rows in rows.chunks(20_000) {
        lab.add(support::batch(Signal::Spans, &[], &[], rows)).await;
    }
    let asking = plainly(&lab.engine);
    let of_chain = CHAIN - 1 + again / CHAINS;
    for (from, text, expected) in [
        ("spans", "match (a: k = 1, b: k = 2 where a > b) select count()", CHAINS),
        ("spans", "match (a: true, b: true where a > b) select count()", CHAINS * of_chain + CHAINS - 3),
        ("spans", "match (a: k = 1, b: k = 2 where a >> b) select count()", CHAINS * of_chain),
        ("spans", "match (a: k = 2, b: k = 1 where a << b) select count()", CHAINS),
        ("spans", "match (a: k = 1, b: k = 1 where a ~ b) select count()", CHAINS - 4),
        ("spans", "where parent.k = 1 select count()", CHAINS + CHAINS - 4),
        ("spans", "where self_duration >= 0 and critical_duration >= 0 select count()", CHAINS * (of_chain + 1) - 1),
        ("spans", "where running = true and not exists(self_duration) select count()", 1),
        ("traces", "select span_count", CHAINS * CHAIN),
    ] {
        let answer = ask_rows(&asking, from, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(answer.cell(0, 0).as_i64(), Some(expected), "{text}");
    }
}

/// A trace as large as what is looked at at once makes no more passes than were told before, and is refused only where there is no
/// room for it alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_giant_trace_keeps_to_the_estimate() {
    const GIANT: i64 = 6_000;
    const OTHERS: i64 = 240;
    let lab = Lab::new();
    let mut rows = Vec::new();
    for n in 0..GIANT + OTHERS * 25 {
        // Every other span is of the giant, whose spans hang below one another in tens.
        let (giant, at) = (n % 2 == 0 && n / 2 < GIANT, n / 2);
        let (trace, parent) = match giant {
            true => (255, (at > 0).then(|| (at - 1) / 10 * 2)),
            false => ((at % OTHERS) as u8 + 1, (at >= OTHERS).then(|| n - 2 * OTHERS)),
        };
        rows.push(span(n, trace, parent.map(|parent| parent as u64), at % 3, (n * 7_919) % 10_007));
    }
    for rows in rows.chunks(1_000) {
        lab.add(support::batch(Signal::Spans, &[], &[], rows)).await;
    }
    let (mut refused, mut most) = (0, 0);
    for (from, text) in [
        ("spans", "match (a: k = 1, b: k = 2 where a > b) by k select count() as n, max(a.duration)"),
        ("spans", "match (a: k = 1, b: k = 2 where a >> b) select count() as n, sum(duration)"),
        ("spans", "match (a: k = 1, b: k = 2 where a >> b and a.duration < b.duration) select count() as n"),
        ("spans", "match (a: k = 0, b: k = 2 where a !> b) select count() as n"),
        ("spans", "where parent.k = 1 by root.k, k select count() as n"),
        ("spans", "where self_duration > 5000ns select count() as n, sum(critical_duration)"),
        ("traces", "order duration desc, trace_id limit 20 select trace_id, duration, span_count, root.k"),
    ] {
        let cells = |answer: &Answer| {
            let row = |row| (0..answer.columns.len()).map(|c| answer.cell(row, c).to_string()).collect::<Vec<_>>();
            (0..answer.rows).map(row).collect::<Vec<_>>()
        };
        let expected = ask_rows(&plainly(&lab.engine), from, text).await.unwrap();
        // All of it fits, and numbers alone stand beside rows.
        let said = support::explained(&lab.engine, &question(from, text).unwrap()).await;
        assert_eq!((&said.scans[0].json["passes_most"], said.may_be_more), (&1.into(), false), "{}", said.text());
        // From hardly enough for the giant to enough for all.
        for memory_bytes_max in (7..22).map(|n| n * (128 << 10)) {
            let options = EngineOptions { memory_bytes_max, ..EngineOptions::default() };
            let engine = plainly(&Engine::new(lab.store.reader(), options));
            let said = support::explained(&engine.engine, &question(from, text).unwrap()).await;
            let several = said.scans[0].json["passes_most"].as_u64() > Some(1);
            assert_eq!(
                (said.may_be_more, said.text().contains("in more passes")),
                (several, several),
                "{}",
                said.text()
            );
            // Which holds the answer against what was told before.
            match ask_rows(&engine, from, text).await {
                Ok(answer) => {
                    assert_eq!(cells(&answer), cells(&expected), "{text} with {memory_bytes_max}");
                    most = most.max(answer.stats.structure_passes);
                }
                Err(error) => {
                    assert_eq!(error.code(), "query_over_memory", "{text} with {memory_bytes_max}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(most > 2 && refused > 0, "{most} passes, {refused} refused");
    // How long texts are is known from rows alone.
    let text = "where root.name = 'a' and self_duration > 0 select count()";
    let said = support::explained(&lab.engine, &question("spans", text).unwrap()).await;
    assert_eq!((&said.scans[0].json["passes_most"], said.may_be_more), (&1.into(), true), "{}", said.text());
    assert!(said.text().contains("long texts"), "{}", said.text());
}
