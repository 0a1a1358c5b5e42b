//! Other engines read the cold tables: DuckDB (with its Delta extension) and chDB answer as Prism does over the same rows (design,
//! 8): counts, sums and groups, over several commits, a checkpoint, a compaction and a schema that grew.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "../../store/tests/support/packages.rs"]
mod packages;
#[path = "lake/engines.rs"]
mod engines;
#[path = "support/moved.rs"]
mod moved;

use std::path::Path;
use std::process::Command;

use engines::Question;
use moved::Moved;
use prism_dsl::Range;
use prism_model::{Batch, Intrinsic as I, Signal, Value, samples};
use prism_query::RunOptions;
use support::{MS, NOW, Row, SECOND, str, tenant};

/// Commits of a table.
const COMMITS: u64 = 4;
/// Rows of a commit that the tests say themselves; odd samples come beside them.
const ROWS: usize = 90;

fn service(name: &str) -> Row {
    Row { attributes: vec![("service.name", str(name)), ("Host Name, long", str("h"))], ..Row::default() }
}

/// Rows of the service `shop`, whose attributes differ from commit to commit: keys that differ by case, with spaces and commas,
/// of one name and two types, and such as only one commit has.
fn rows(signal: Signal, commit: u64) -> Batch {
    let row = |n: usize| {
        let at = n as i64;
        let mut fixed = vec![(I::Time, Value::Int(NOW - 600 * SECOND + at * 977 * MS + commit as i64))];
        let mut attributes = vec![("size", Value::Int(at * 3 + commit as i64))];
        match (commit, n % 3) {
            (0, _) => attributes.push(("userId", str(["ann", "bob", "eve"][n % 3]))),
            (1, 0) => attributes.push(("userid", str("low"))),
            (1, _) => attributes.push(("a key, with comma", Value::Int(at))),
            (2, 0) => attributes.push(("size.kind", str("big"))),
            (2, 1) => attributes.push(("size.kind", Value::Int(7))),
            (2, _) => attributes.push(("only.here", Value::Bool(n.is_multiple_of(2)))),
            _ => attributes.push(("userId", str("ann"))),
        }
        match signal {
            Signal::Spans => fixed.extend([
                (I::TraceId, Value::Bytes(vec![(n % 11) as u8 + 1; 16])),
                (I::Name, str(["GET /", "charge", "ünï"][n % 3])),
                (I::Kind, Value::Int(at % 6)),
                (I::Status, Value::Int(at % 3)),
                (I::Duration, Value::Int(1_000 * at + commit as i64)),
            ]),
            Signal::Logs => {
                fixed.extend([(I::Severity, Value::Int(at % 25)), (I::Body, str(["a \"b\"", "c\nd", ""][n % 3]))]);
            }
            Signal::Metrics => {
                let value = [(I::ValueInt, Value::Int(at)), (I::ValueDouble, Value::Double(at as f64 / 4.0))];
                fixed.push(value[n % 2].clone());
            }
        }
        let event =
            Row { fixed: vec![(I::Name, str("retry"))], attributes: vec![("n", Value::Int(at))], ..Row::default() };
        let events = if signal == Signal::Spans { vec![event; n % 3] } else { Vec::new() };
        let tail = if n.is_multiple_of(5) { vec![("rare", str("x"))] } else { Vec::new() };
        Row { fixed, attributes, resource: n % 2, metric: n % 2, events, tail, ..Row::default() }
    };
    let items: Vec<Row> = (0..ROWS).map(row).collect();
    let resources = [service("shop"), service("shop")];
    let metric = |name: &str| Row { fixed: vec![(I::Name, str(name)), (I::Type, Value::Int(1))], ..Row::default() };
    match signal {
        Signal::Metrics => support::points(&resources, &["cpu", "memory"].map(metric), &items),
        _ => support::batch(signal, &resources, &[], &items),
    }
}

/// Prism queries, and what they are in SQL, which names columns by their attribute: `[key]` or `[key@int]`.
fn questions(signal: Signal) -> Vec<(String, String)> {
    let shop = "\"resource:service:name\" = 'shop'";
    let mut all: Vec<(&str, String)> = vec![
        ("select count()", "select count(*) from {t}".into()),
        (
            "where resource.service.name = 'shop' select count(), sum(size), min(size), max(size)",
            format!("select count(*), sum([size@int]), min([size@int]), max([size@int]) from {{t}} where {shop}"),
        ),
        (
            "where resource.service.name = 'shop' by userId select count(), sum(size)",
            format!("select [userId], count(*), sum([size@int]) from {{t}} where {shop} group by 1"),
        ),
        (
            "where resource.service.name = 'shop' by userid select count()",
            format!("select [userid], count(*) from {{t}} where {shop} group by 1"),
        ),
        (
            "where resource.service.name = 'shop' select count(`a key, with comma`), sum(`a key, with comma`)",
            format!("select count([a key, with comma@int]), sum([a key, with comma@int]) from {{t}} where {shop}"),
        ),
        (
            "where resource.service.name = 'shop' and size.kind = 'big' select count()",
            format!("select count(*) from {{t}} where {shop} and [size.kind] = 'big'"),
        ),
        (
            "where resource.service.name = 'shop' and size.kind = 7 select count(), sum(size)",
            format!("select count(*), sum([size@int]) from {{t}} where {shop} and [size.kind@int] = 7"),
        ),
        (
            "where resource.service.name = 'shop' and exists(only.here) select count()",
            format!("select count([only.here@bool]) from {{t}} where {shop}"),
        ),
        (
            "where rare = 'x' select count(), sum(size)",
            "select count(*), sum([size@int]) from {t} where attributes_string['rare'] = 'x'".into(),
        ),
    ];
    match signal {
        Signal::Spans => all.extend([
            (
                "where status = error select count(), sum(flags)",
                "select count(*), sum(flags) from {t} where status = 2".to_owned(),
            ),
            (
                "where resource.service.name = 'shop' by status select count(), sum(size)",
                format!(
                    "select case status when 0 then 'unset' when 1 then 'ok' else 'error' end, count(*), sum([size@int]) \
                     from {{t}} where {shop} group by 1"
                ),
            ),
            ("by name select count()", "select name, count(*) from {t} group by 1".to_owned()),
            (
                "where resource.service.name = 'shop' by name select count(), sum(duration), max(duration)",
                format!("select name, count(*), sum(duration), max(duration) from {{t}} where {shop} group by 1"),
            ),
            (
                "where resource.service.name = 'shop' select count_distinct(trace_id)",
                format!("select count(distinct trace_id) from {{t}} where {shop}"),
            ),
            (
                "where resource.service.name = 'shop' and event.name = 'retry' select count()",
                format!("select count(*) from {{t}} where {shop} and length(events) > 0"),
            ),
        ]),
        Signal::Logs => all.extend([
            (
                "where resource.service.name = 'shop' by severity select count(), sum(size)",
                format!("select nullif(severity, 0), count(*), sum([size@int]) from {{t}} where {shop} group by 1"),
            ),
            (
                "where resource.service.name = 'shop' by body select count()",
                format!("select body, count(*) from {{t}} where {shop} group by 1"),
            ),
            ("by event_name select count()", "select event_name, count(*) from {t} group by 1".to_owned()),
        ]),
        Signal::Metrics => all.extend([
            (
                "where resource.service.name = 'shop' by name select count(), sum(value)",
                format!(
                    "select metric_name, count(*), sum(coalesce(\"value@int\" * 1.0, \"value@double\")) from {{t}} \
                     where {shop} group by 1"
                ),
            ),
        ]),
    }
    all.into_iter().map(|(prism, sql)| (format!("from {signal} {prism}"), engines::columns(&sql))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_engines_count_sum_and_group_as_prism_does() {
    let Some(engines) = engines::installed() else { return };
    let (mut asked, mut expected, mut stores) = (Vec::new(), Vec::new(), Vec::new());
    for signal in Signal::ALL {
        let moved = Moved::new();
        for commit in 0..COMMITS {
            moved.add(rows(signal, commit)).await;
            moved.add(samples::batch(signal, 120, NOW - 600 * SECOND, commit * 31 + signal as u64)).await;
            moved.seal(signal);
            moved.promote(signal);
            // A commit and a checkpoint of joined files lie before the last two of whole ones.
            if commit + 2 == COMMITS {
                moved.compact(signal);
            }
        }
        let table = moved.root().join(format!("objects/cold/{}/{signal}", tenant()));
        let engine = moved.engine();
        for (text, sql) in questions(signal) {
            let mut query = prism_dsl::parse_text(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            query.range = Some(Range::Between { from: i64::MIN, to: i64::MAX });
            query.limit = Some(10_000);
            let options = RunOptions { without_rollups: true, ..RunOptions::default() };
            let answer = engine.run(&tenant(), &query, NOW, options).await.unwrap();
            assert!(answer.stats.partial.is_empty(), "{:?}", answer.stats.partial);
            assert!(answer.stats.tiers[..2].iter().all(|of| of.parts == 0), "{:?}", answer.stats);
            let row = |row| (0..answer.columns.len()).map(|c| answer.cell(row, c)).collect::<Vec<_>>();
            expected.push((text, (0..answer.rows).map(row).collect::<Vec<_>>()));
            asked.push(Question { table: table.clone(), sql, engines: engines::BOTH });
        }
        stores.push(moved);
    }
    let answers = engines.ask(&asked);
    let mut wrong = Vec::new();
    for (((text, expected), question), answers) in expected.into_iter().zip(&asked).zip(&answers) {
        for (engine, answer) in answers {
            if *answer != engines::sorted(&expected) {
                wrong.push(format!(
                    "{engine}: {text}\n{}\n  {:?}\n  {answer:?}",
                    question.sql,
                    engines::sorted(&expected)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs a step of delta-rs at a table; gives its version, files, and (rows, traces, sum of flags) as it sees them.
fn delta_rs(site: &Path, step: &[&str], table: &Path) -> (u64, u64, [i64; 3]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lake/delta_rs.py");
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", site).arg(script).arg(step[0]).arg(table).args(&step[1..]);
    let told = packages::output(&mut python).unwrap_or_else(|error| panic!("{step:?}: {error}"));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let rows = [0, 1, 2].map(|n| told["rows"][n].as_i64().unwrap());
    (told["version"].as_u64().unwrap(), told["files"].as_u64().unwrap(), rows)
}

/// delta-rs reads the table as Prism does. What it joins is taken back, what it vacuums nobody misses, and what it deletes is named
/// until it is taken back; what Prism adds meanwhile is added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delta_rs_reads_the_table_and_what_it_writes_is_told_and_taken_back() {
    let Some(site) = engines::site("deltalake.txt", "deltalake", "delta-rs") else { return };
    let moved = Moved::new();
    let spans = |n: u64| samples::batch(Signal::Spans, 120, NOW - 600 * SECOND, n);
    let more = async |n: u64| {
        moved.add(spans(n)).await;
        moved.seal(Signal::Spans);
        moved.promote(Signal::Spans);
    };
    let table = moved.root().join(format!("objects/cold/{}/spans", tenant()));
    let question = "from spans select count(), exact(count_distinct(trace_id)), sum(flags)";
    let ask = async || {
        let mut query = prism_dsl::parse_text(question).unwrap();
        query.range = Some(Range::Between { from: i64::MIN, to: i64::MAX });
        let options = RunOptions { without_rollups: true, ..RunOptions::default() };
        let answer = moved.engine().run(&tenant(), &query, NOW, options).await.unwrap();
        let partial: Vec<String> = answer.stats.partial.iter().map(|part| part.what.clone()).collect();
        ([0, 1, 2].map(|c| answer.cell(0, c).as_i64().unwrap_or_default()), partial)
    };
    for n in 0..3 {
        more(n).await;
    }
    let (whole, partial) = ask().await;
    assert!(partial.is_empty() && whole[0] == 360);
    let (version, files, seen) = delta_rs(&site, &["look"], &table);
    assert_eq!(seen, whole);

    // Joined by others: named in answers, taken back by the next pass, and what came in between is there.
    let (optimized, joined, seen) = delta_rs(&site, &["optimize"], &table);
    assert_eq!((optimized, seen), (version + 1, whole));
    assert!(joined < files);
    let (_, partial) = ask().await;
    assert!(!partial.is_empty() && partial.iter().all(|what| what.contains("part-0")), "{partial:?}");
    more(3).await;
    let (_, _, with_more) = delta_rs(&site, &["look"], &table);
    assert_eq!(with_more[0], 480);
    assert!(moved.take_back(Signal::Spans) > 1);
    assert_eq!(moved.take_back(Signal::Spans), 0);
    assert_eq!(ask().await, (with_more, Vec::new()));
    assert_eq!(delta_rs(&site, &["look"], &table).2, with_more);
    // What nothing names any more may go.
    delta_rs(&site, &["vacuum"], &table);
    assert_eq!(ask().await, (with_more, Vec::new()));

    // Rows that others change are theirs to take back.
    let (version, ..) = delta_rs(&site, &["look"], &table);
    let (_, _, deleted) = delta_rs(&site, &["delete"], &table);
    assert!(deleted[0] < 480);
    assert_eq!(moved.take_back(Signal::Spans), 0);
    let foreign = moved.foreign(Signal::Spans);
    let (_, partial) = ask().await;
    assert_eq!(partial.len(), foreign.len(), "{partial:?} {foreign:?}");
    delta_rs(&site, &["restore", &version.to_string()], &table);
    assert_eq!((ask().await, moved.foreign(Signal::Spans)), ((with_more, Vec::new()), Vec::new()));
    more(4).await;
    assert_eq!((ask().await.0[0], delta_rs(&site, &["look"], &table).2[0]), (600, 600));
}
