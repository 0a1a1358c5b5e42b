//! Plugins in queries: the same as plain loops over rows however those are spread over frames, threads and tiers; a guest that
//! fails, lies or loops ends the query that called, with an error that says which.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "support/moved.rs"]
mod moved;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prism_dsl::parse_text;
use prism_model::{Classify, Intrinsic as I, Kind, Signal, Value};
use prism_plugin::{Functions, PluginHost, PluginOptions};
use prism_query::{EngineOptions, RunOptions};
use prism_store::StoreOptions;
use serde_json::json;
use support::{Lab, MS, NOW, Row, SECOND, functions, plugin_host, shown, shown_error, str};

const SERVICES: [&str; 3] = ["cart", "pay", "ship"];

/// A generator: the same seed gives the same numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

#[derive(Clone, Debug)]
struct Span {
    service: usize,
    millis: i64,
    path: Option<String>,
    error: bool,
}

fn spans(random: &mut Random, count: usize) -> Vec<Span> {
    let one = |random: &mut Random| Span {
        service: random.below(3) as usize,
        millis: random.below(900) as i64,
        path: (random.below(5) > 0)
            .then(|| format!("/{}/{}", ["users", "orders"][random.below(2) as usize], random.below(40))),
        error: random.below(4) == 0,
    };
    (0..count).map(|_| one(random)).collect()
}

fn batch(spans: &[Span], from: usize) -> prism_model::Batch {
    let resources = SERVICES.map(|name| Row { attributes: vec![("service.name", str(name))], ..Row::default() });
    let row = |(n, span): (usize, &Span)| {
        let mut id = vec![1; 8];
        id[..4].copy_from_slice(&((from + n) as u32).to_le_bytes());
        Row {
            fixed: vec![
                (I::Time, Value::Int(NOW - 60 * SECOND + (from + n) as i64)),
                (I::TraceId, Value::Bytes([id.clone(), id.clone()].concat())),
                (I::SpanId, Value::Bytes(id)),
                (I::Name, str(if span.millis % 2 == 0 { "even" } else { "odd" })),
                (I::Duration, Value::Int(span.millis * MS)),
                (I::Status, Value::Int(if span.error { 2 } else { 0 })),
            ],
            attributes: span.path.iter().map(|path| ("url.path", str(path))).collect(),
            resource: span.service,
            ..Row::default()
        }
    };
    support::batch(Signal::Spans, &resources, &[], &spans.iter().enumerate().map(row).collect::<Vec<_>>())
}

async fn lab_of(spans: &[Span], frames: usize, threads: usize) -> Lab {
    let engine = EngineOptions { threads, ..EngineOptions::default() };
    let mut lab = Lab::with(StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, engine);
    let each = spans.len().div_ceil(frames).max(1);
    for (number, part) in spans.chunks(each).enumerate() {
        lab.add(batch(part, number * each)).await;
    }
    lab.functions = Some(support::first_party());
    lab
}

fn apdex<'s>(spans: impl Iterator<Item = &'s Span>, millis: i64) -> Option<f64> {
    let all: Vec<i64> = spans.map(|span| span.millis).collect();
    let within = |most: i64| all.iter().filter(|m| **m <= most).count() as f64;
    let (whole, half) = (within(millis), within(4 * millis) - within(millis));
    (!all.is_empty()).then(|| (whole + half / 2.0) / all.len() as f64)
}

/// `/users/7` is `/users/{n}`.
fn template(span: &Span) -> Option<String> {
    span.path.as_ref().map(|path| format!("{}/{{n}}", &path[..path.rfind('/').unwrap()]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_plain_loops_however_rows_are_spread() {
    for seed in 1..=12 {
        let mut random = Random(seed);
        let count = [0, 1, 40, 300][random.below(4) as usize];
        let spans = spans(&mut random, count);
        let (frames, threads) = (1 + random.below(7) as usize, 1 + random.below(4) as usize);
        let lab = lab_of(&spans, frames, threads).await;
        let text = "from spans last 1h let t = plugin.url_template(url.path) by service.name, t order service.name, t \
                    select plugin.apdex(duration, 200ms) as a, plugin.apdex(duration, 100ms) where status = error as e, \
                    count() as n limit 1000";
        let text = text.replace(
            "plugin.apdex(duration, 100ms) where status = error as e",
            "(plugin.apdex(duration, 100ms) where status = error) as e",
        );
        let answer = lab.ask(&text).await.unwrap_or_else(|e| panic!("seed {seed}: {}", shown_error(&e)));
        let mut groups: Vec<(usize, Option<String>)> = spans.iter().map(|s| (s.service, template(s))).collect();
        // Missing values come last.
        groups.sort_by_key(|(service, path)| (*service, path.is_none(), path.clone()));
        groups.dedup();
        assert_eq!(answer.rows, groups.len(), "seed {seed}");
        for (row, (service, path)) in groups.iter().enumerate() {
            let of_group = || spans.iter().filter(|s| s.service == *service && template(s) == *path);
            let expected = [
                json!(SERVICES[*service]),
                json!(path),
                json!(apdex(of_group(), 200)),
                json!(apdex(of_group().filter(|s| s.error), 100)),
                json!(of_group().count()),
            ];
            let found: Vec<_> = (0..5).map(|column| answer.cell(row, column)).collect();
            assert_eq!(found, expected, "seed {seed}, row {row}");
        }
        let condition =
            "from spans last 1h where plugin.url_template(url.path) = '/users/{n}' and duration < 500ms select count()";
        let answer = lab.ask(condition).await.unwrap();
        let expected = spans.iter().filter(|s| template(s).as_deref() == Some("/users/{n}") && s.millis < 500).count();
        assert_eq!(answer.cell(0, 0), json!(expected), "seed {seed}");
        let pruned =
            lab.ask_with(condition, RunOptions { without_pruning: true, ..RunOptions::default() }).await.unwrap();
        assert_eq!(pruned.cell(0, 0), json!(expected), "seed {seed}: QU-2");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qu_4_no_rollup_answers_for_a_plugin_in_any_tier() {
    let moved = moved::Moved::new();
    let spans = spans(&mut Random(11), 200);
    for (number, part) in spans.chunks(50).enumerate() {
        moved.add(batch(part, number * 50)).await;
    }
    let range = "from spans from t'2026-01-01T11:00:00Z' to t'2026-01-01T12:00:00Z'";
    let native = format!("{range} by service.name order service.name select count() as n");
    let calls = [
        format!(
            "{range} by plugin.url_template(service.name) as s order s select plugin.apdex(duration, 200ms) as a, count() as n"
        ),
        format!("{range} where plugin.url_template(service.name) = 'pay' select count() as n"),
        format!("{range} by service.name order service.name select plugin.apdex(duration, 200ms) as a"),
    ];
    let functions = Some(support::first_party());
    let ask = async |text: &str| {
        let options = RunOptions { functions: functions.clone(), ..RunOptions::default() };
        moved.engine().run(&support::tenant(), &parse_text(text).unwrap(), NOW, options).await.unwrap()
    };
    let mut hot = Vec::new();
    for text in &calls {
        hot.push(shown(&ask(text).await));
    }
    for move_on in [moved::Moved::seal, moved::Moved::promote] {
        move_on(&moved, Signal::Spans);
        // A test that nothing could fail without rollups there.
        assert!(ask(&native).await.stats.rollups_read > 0);
        for (text, hot) in calls.iter().zip(&hot) {
            let answer = ask(text).await;
            assert_eq!(shown(&answer), *hot, "{text}");
            assert_eq!(answer.stats.rollups_read, 0, "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_guests_took_is_told_and_only_what_is_left_is_asked() {
    let lab = lab_of(&spans(&mut Random(7), 200), 1, 1).await;
    let none = lab.ask("from spans last 1h select count()").await.unwrap();
    assert_eq!((none.stats.plugin_calls, none.stats.plugin_nanos), (0, 0));
    let answer = lab.ask("from spans last 1h select plugin.apdex(duration, 200ms)").await.unwrap();
    assert!(answer.stats.plugin_calls > 0 && answer.stats.plugin_nanos > 0, "{:?}", answer.stats);
    assert!(answer.to_json().contains("\"plugin_ns\":"), "{}", answer.to_json());
    // No row fulfils the other condition: there is nothing to ask.
    let answer =
        lab.ask("from spans last 1h where plugin.url_template(url.path) = 'x' and name = 'never'").await.unwrap();
    assert_eq!(answer.stats.plugin_calls, 0);
    let dry =
        parse_text("from spans last 1h where plugin.url_template(url.path) = 'x' select plugin.apdex(duration, 1s)");
    let dry = lab.run(&prism_dsl::Query { dry_run: true, ..dry.unwrap() }, RunOptions::default()).await.unwrap();
    assert_eq!(dry.stats.plugin_calls, 0, "what is only explained asks no guest");
    let told = dry.to_json();
    assert!(told.contains("plugin.url_template(") && told.contains("plugin.apdex("), "{told}");
}

/// The functions of a guest that misbehaves.
fn hostile(host: &Arc<PluginHost>, kind: &str, mode: &str) -> Arc<Functions> {
    functions(host, &[("it", &format!("plugin/tests/guests/hostile-{kind}"), json!({ "mode": mode }))])
}

async fn error_of(kind: &str, mode: &str, text: &str) -> prism_query::QueryError {
    let mut lab = lab_of(&spans(&mut Random(3), 60), 3, 2).await;
    lab.functions = Some(hostile(plugin_host(), kind, mode));
    let error = lab.ask(text).await.unwrap_err();
    // The engine goes on.
    assert_eq!(lab.ask("from spans last 1h select count()").await.unwrap().cell(0, 0), json!(60));
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pl_3_a_guest_that_fails_ends_its_query_with_its_name() {
    let scalar = [
        "where plugin.echo(name) = 'x'",
        "by plugin.echo(service.name) select count()",
        "select plugin.echo(name)",
        "order plugin.echo(name)",
        "by name having plugin.echo(name) = 'x' select count()",
        "select count(plugin.echo(name))",
    ];
    let call = |text: &str| (Some(1), text.find("plugin.").map(|at| at as u32 + 1));
    for clause in scalar {
        let text = format!("from spans last 1h {clause}");
        let error = error_of("scalar", "trap", &text).await;
        assert_eq!((error.line(), error.column()), call(&text), "{clause}");
        let words = error.to_string();
        assert!(
            words.starts_with("`plugin.echo` failed: plugin `hostile`, binding `it`: it trapped"),
            "{clause}: {words}"
        );
        assert_eq!((error.kind(), error.code()), (Kind::Fix, "query_plugin_failed"), "{clause}");
        assert!(error.hint().is_some());
    }
    for (mode, words) in
        [("loop", "more than 400 ms of processor time"), ("few", "breaks the contract"), ("error", "what went wrong")]
    {
        let error = error_of("scalar", mode, "from spans last 1h select plugin.echo(name)").await;
        assert!(error.to_string().contains(words), "{mode}: {error}");
    }
    for (mode, words) in [
        ("trap", "it trapped"),
        ("loop", "processor time"),
        ("state-few", "breaks the contract"),
        ("merge-trap", "it trapped"),
        ("finish-type", "breaks the contract"),
    ] {
        let text = "from spans last 1h by service.name select plugin.many(name)";
        let error = error_of("aggregator", mode, text).await;
        assert_eq!((error.line(), error.column()), call(text), "{mode}");
        assert!(
            error.to_string().contains("`plugin.many` failed") && error.to_string().contains(words),
            "{mode}: {error}"
        );
        assert_eq!(error.code(), "query_plugin_failed", "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pl_3_the_time_of_a_query_ends_its_guests() {
    let compiled = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
    let options = PluginOptions { cpu_ms_max: 60_000, cache_dir: Some(compiled), ..PluginOptions::default() };
    let patient = PluginHost::new(options).unwrap();
    for (kind, what) in [("scalar", "plugin.echo(name)"), ("aggregator", "plugin.many(name)")] {
        let mut lab = lab_of(&spans(&mut Random(3), 60), 3, 2).await;
        lab.functions = Some(hostile(&patient, kind, "loop"));
        let began = Instant::now();
        let error = lab.ask(&format!("from spans last 1h select {what} budget time 300ms")).await.unwrap_err();
        assert_eq!(error.code(), "query_over_time", "{error}");
        assert!(error.to_string().contains("budget.time"), "{error}");
        // The thread that looped is free again, and not after a minute.
        let again = lab.ask("from spans last 1h select count()").await.unwrap();
        assert_eq!(again.cell(0, 0), json!(60));
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        // A query that nobody waits for any more ends as well.
        let query = parse_text(&format!("from spans last 1h select {what}")).unwrap();
        let given_up = tokio::time::timeout(Duration::from_millis(200), lab.run(&query, RunOptions::default())).await;
        assert!(given_up.is_err());
        while lab.engine.load().frames_running > 0 {
            assert!(began.elapsed() < Duration::from_secs(30), "a guest of a query that was given up goes on");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_groups_of_a_plugin_count_for_the_memory_of_the_query() {
    let engine = EngineOptions { memory_bytes_max: 16 << 20, threads: 1, ..EngineOptions::default() };
    let mut lab = Lab::with(StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, engine);
    lab.add(batch(&spans(&mut Random(3), 60), 0)).await;
    lab.functions = Some(hostile(plugin_host(), "aggregator", "keep"));
    let error = lab.ask("from spans last 1h select plugin.many(name)").await.unwrap_err();
    assert_eq!(error.code(), "query_over_memory", "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pl_3_what_groups_of_a_plugin_give_counts_for_the_memory_of_the_query() {
    let engine = EngineOptions { memory_bytes_max: 16 << 20, threads: 1, ..EngineOptions::default() };
    let mut lab = Lab::with(StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, engine);
    lab.add(batch(&spans(&mut Random(3), 300), 0)).await;
    for (mode, code) in [("ok", None), ("fat", Some("query_over_memory"))] {
        // Some eighty groups, each of which gives a MiB in a call of its own where the guest means harm.
        lab.functions = Some(hostile(plugin_host(), "aggregator", mode));
        let answer = lab.ask("from spans last 1h by url.path select plugin.many(name)").await;
        assert_eq!(answer.as_ref().err().map(prism_query::QueryError::code), code, "{answer:?}");
    }
    assert_eq!(lab.ask("from spans last 1h select count()").await.unwrap().cell(0, 0), json!(300));
    let began = Instant::now();
    while lab.engine.load().memory_bytes > 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "what it gave is not given back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_queries_than_a_tenant_may_have_instances_for_all_get_their_answer() {
    let compiled = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
    let options = PluginOptions {
        tenant_instances_max: 1,
        instances_max: 8,
        cache_dir: Some(compiled),
        ..PluginOptions::default()
    };
    let few = PluginHost::new(options).unwrap();
    let mut lab = lab_of(&spans(&mut Random(5), 300), 12, 4).await;
    lab.functions = Some(hostile(&few, "aggregator", "ok"));
    let text = "from spans last 1h by service.name order service.name select plugin.many(name) as n, count() as m";
    let asked = (0..12).map(|_| lab.ask(text));
    for answer in futures::future::join_all(asked).await {
        let answer = answer.unwrap_or_else(|e| panic!("{}", shown_error(&e)));
        for row in 0..answer.rows {
            assert_eq!(answer.cell(row, 1), answer.cell(row, 2), "{}", shown(&answer));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_bindings_the_error_says_how_to_bind() {
    let mut lab = lab_of(&spans(&mut Random(3), 5), 1, 1).await;
    lab.functions = None;
    let error = lab.ask("from spans last 1h select plugin.apdex(duration, 1s)").await.unwrap_err();
    assert_eq!(
        shown_error(&error),
        "error query_unknown_plugin at 1:27: the tenant has no function `plugin.apdex`\nhint: `prism plugin bind --tenant \
         NAME PLUGIN` makes the functions of a plugin known, `prism plugin list` shows those that come with Prism"
    );
}
