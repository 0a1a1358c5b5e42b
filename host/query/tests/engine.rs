//! What the engine promises beside its answers: tenants and ranges kept apart, traces whole, limits, partial answers, forms.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, TimeUnit};
use prism_model::window::TimeRange;
use prism_model::{Batch, Classify, Intrinsic as I, Kind, MetricType, Signal, TableKind, Value};
use prism_query::{EngineOptions, QueryError, RunOptions};
use prism_store::StoreOptions;
use support::{Lab, MS, NOW, Row, SECOND, shown, str, tenant};

const HOUR: i64 = 3_600 * SECOND;

fn id(n: u64, width: usize) -> Value {
    Value::Bytes([n.to_be_bytes(), n.to_le_bytes()].concat().into_iter().take(width).collect())
}

fn trace_id(n: u64) -> [u8; 16] {
    match id(n, 16) {
        Value::Bytes(bytes) => bytes.try_into().unwrap(),
        _ => unreachable!(),
    }
}

fn span(trace: u64, number: u64, time: i64, duration: i64) -> Row {
    Row {
        fixed: vec![
            (I::Time, Value::Int(time)),
            (I::Duration, Value::Int(duration)),
            (I::TraceId, id(trace, 16)),
            (I::SpanId, id(number, 8)),
            (I::Name, str(&format!("op{}", number % 3))),
        ],
        attributes: vec![("n", Value::Int(number as i64))],
        ..Row::default()
    }
}

fn service(name: &'static str) -> Vec<Row> {
    vec![Row { attributes: vec![("service.name", str(name))], ..Row::default() }]
}

fn spans(rows: &[Row]) -> Batch {
    support::batch(Signal::Spans, &service("shop"), &[], rows)
}

/// Five frames of 20 spans each, one a minute, oldest first.
async fn minutes(lab: &Lab) {
    for minute in 0..5i64 {
        let start = NOW - (5 - minute) * 60 * SECOND;
        let rows: Vec<Row> = (0..20)
            .map(|i| span(minute as u64, (minute * 20 + i) as u64, start + i * SECOND, (minute * 20 + i) * MS))
            .collect();
        lab.add(spans(&rows)).await;
    }
}

#[tokio::test]
async fn qu1_a_query_sees_one_tenant_and_its_range_only() {
    let lab = Lab::new();
    minutes(&lab).await;
    let other: prism_model::TenantId = "other".parse().unwrap();
    let theirs = support::cleared(spans(&[span(77, 1, NOW - SECOND, 1)]));
    lab.store.append(&other, theirs).await.unwrap();
    let count = |text: String| {
        let lab = &lab;
        async move { lab.ask(&text).await.unwrap().cell(0, 0).as_i64().unwrap() }
    };
    assert_eq!(count("from spans last 1h select count()".into()).await, 100);
    assert_eq!(count("from spans last 2m select count()".into()).await, 40);
    // Half open, to the nanosecond: minute 1 begins at the first and ends before the second.
    let (from, to) = (NOW - 4 * 60 * SECOND, NOW - 3 * 60 * SECOND);
    assert_eq!(count(format!("from spans from {from} to {to} select count()")).await, 20);
    assert_eq!(count(format!("from spans from {} to {to} select count()", from + 1)).await, 19);
    assert_eq!(count(format!("from spans from {from} to {} select count()", to + 1)).await, 21);
    assert_eq!(
        count("from spans last 1h where trace_id = '000000000000004d4d00000000000000' select count()".into()).await,
        0
    );
    assert!(lab.engine.trace(&tenant(), &trace_id(77)).await.unwrap().batches.is_empty());
    assert_eq!(lab.engine.trace(&other, &trace_id(77)).await.unwrap().spans(), 1);
    assert!(lab.engine.fields(&"nobody".parse().unwrap(), TimeRange::ALL).await.unwrap().is_empty());
}

#[tokio::test]
async fn qu2_frames_that_cannot_help_are_not_read() {
    // One thread: two may begin with a frame each before either knows what the other found.
    let engine = EngineOptions { threads: 1, ..EngineOptions::default() };
    let lab = Lab::with(StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, engine);
    minutes(&lab).await;
    for (text, rows, frames_read) in [
        ("from spans last 1h where n = 45", 1, 1),
        ("from spans last 1h where n > 79", 20, 1),
        ("from spans last 1h where n in (3, 99)", 2, 2),
        ("from spans last 1h where duration >= 95ms", 5, 1),
        ("from spans last 1h where trace_id = '00000000000000020200000000000000'", 20, 1),
        ("from spans last 1h where name = 'nothing'", 0, 0),
        ("from spans last 1h where service.name = 'cart'", 0, 0),
        ("from spans last 1h where not.there = 1 and n = 4", 0, 0),
        // The newest rows are in the newest frame.
        ("from spans last 1h limit 3", 3, 1),
        ("from spans last 1h order time limit 3", 3, 1),
        ("from spans last 1h order duration desc limit 3", 3, 5),
        // Counting all rows needs no column.
        ("from spans last 1h select count()", 1, 5),
    ] {
        let answer = lab.ask(text).await.unwrap();
        assert_eq!((answer.rows, answer.stats.frames_read), (rows, frames_read), "{text}");
        assert_eq!(answer.stats.frames_total, 5, "{text}");
        assert_eq!(answer.stats.frames_pruned + answer.stats.frames_read, 5, "{text}");
    }
    assert_eq!(lab.ask("from spans last 1h select count()").await.unwrap().stats.bytes_read, 0);
}

#[tokio::test]
async fn a_trace_is_whole_needs_no_range_and_shows_identical_spans_once() {
    let lab = Lab::new();
    let mut with_event = span(1, 1, NOW - 3 * HOUR, 5 * MS);
    with_event.events =
        vec![Row { fixed: vec![(I::Time, Value::Int(NOW)), (I::Name, str("exception"))], ..Row::default() }];
    with_event.attributes.push(("n", Value::Int(2)));
    let mut differs = with_event.clone();
    differs.events[0].attributes.push(("code", Value::Int(7)));
    lab.add(spans(&[with_event.clone(), span(2, 9, NOW, 1)])).await;
    // A retry: the same bytes in another batch, and among them a span that differs in one event's attribute.
    lab.add(spans(&[with_event, differs, span(1, 2, NOW - 30 * 60 * SECOND, MS)])).await;
    let trace = lab.engine.trace(&tenant(), &trace_id(1)).await.unwrap();
    assert_eq!(trace.spans(), 3);
    let batch = &trace.batches[0];
    assert_eq!(batch.table(TableKind::Events).unwrap().rows(), 2);
    assert_eq!(batch.table(TableKind::Tail).unwrap().rows(), 2);
    assert_eq!(batch.table(TableKind::Resources).unwrap().rows(), 1);
    // Rows are never removed by content from counts.
    let count = lab.ask("from spans last 1d where trace_id = '00000000000000010100000000000000' select count()").await;
    assert_eq!(count.unwrap().cell(0, 0), 4);
    assert!(lab.engine.trace(&tenant(), &trace_id(3)).await.unwrap().batches.is_empty());
}

#[tokio::test]
async fn a_running_span_gives_way_to_its_end() {
    let lab = Lab::new();
    let running = |trace, number| {
        let mut row = span(trace, number, NOW - 60 * SECOND, (NOW - 60 * SECOND).wrapping_neg());
        row.fixed.push((I::Running, Value::Bool(true)));
        row
    };
    lab.add(spans(&[running(1, 1), running(1, 2)])).await;
    let text = "from spans last 1h order span_id select span_id, running, duration";
    assert_eq!(lab.ask(text).await.unwrap().rows, 2);
    lab.add(spans(&[span(1, 1, NOW - 60 * SECOND, 5 * MS)])).await;
    let expected = "span_id: id | running: bool | duration: duration ns\n\
        \"0000000000000001\" | false | 5000000\n\
        \"0000000000000002\" | true | null";
    assert_eq!(shown(&lab.ask(text).await.unwrap()), expected);
    let count = lab.ask("from spans last 1h select count(), avg(duration)").await.unwrap();
    assert_eq!((count.cell(0, 0), count.cell(0, 1)), (2.into(), 5_000_000.into()));
    assert_eq!(lab.engine.trace(&tenant(), &trace_id(1)).await.unwrap().spans(), 2);
}

#[tokio::test]
async fn fields_come_from_statistics_and_values_by_frequency() {
    let lab = Lab::new();
    minutes(&lab).await;
    let mut odd = span(9, 500, NOW - SECOND, 1);
    odd.attributes = vec![("n", str("text")), ("only.here", Value::Bool(true))];
    lab.add(spans(&[odd])).await;
    let fields = lab.engine.fields(&tenant(), TimeRange { from: NOW - HOUR, to: NOW }).await.unwrap();
    let of = |name: &str| fields.iter().find(|f| f.name == name).map(|f| (f.scope, f.types.clone(), f.count));
    assert_eq!(of("n"), Some(("attr", vec!["string", "int"], 101)));
    assert_eq!(of("only.here"), Some(("attr", vec!["bool"], 1)));
    assert_eq!(of("service.name"), Some(("resource", vec!["string"], 6)));
    assert_eq!(of("duration"), Some(("intrinsic", vec!["duration"], 101)));
    let mut sorted = fields.clone();
    sorted.sort_by(|a, b| (&a.name, a.scope).cmp(&(&b.name, b.scope)));
    assert_eq!(fields, sorted);
    let range = TimeRange { from: NOW - HOUR, to: NOW };
    let values =
        lab.engine.field_values(&tenant(), Signal::Spans, "name", range, 2, RunOptions::default()).await.unwrap();
    let values: Vec<_> = values.into_iter().map(|v| (v.value, v.count)).collect();
    assert_eq!(values, [("op0".into(), 34), ("op2".into(), 34)]);
    assert!(lab.engine.field_values(&tenant(), Signal::Spans, "", range, 2, RunOptions::default()).await.is_err());
}

#[tokio::test]
async fn an_answer_has_three_forms() {
    let lab = Lab::new();
    let mut row = span(1, 1, NOW - SECOND, 5 * MS);
    row.attributes =
        vec![("big", Value::Int(1 << 60)), ("x", Value::Double(f64::INFINITY)), ("b", Value::Bytes(vec![1, 2]))];
    let mut text = span(1, 2, NOW - 2 * SECOND, 6 * MS);
    text.attributes = vec![("big", str("text")), ("list", Value::Array(vec![Value::Int(1)]))];
    lab.add(spans(&[row, text])).await;
    let answer = lab.ask("from spans last 1h select time, span_id, duration, big, x, b, list, running").await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&answer.to_json()).unwrap();
    let column = |name: &str, ty: &str| serde_json::json!({ "name": name, "type": ty });
    assert_eq!(json["columns"][0], column("time", "time"));
    assert_eq!(json["columns"][2], serde_json::json!({ "name": "duration", "type": "duration", "unit": "ns" }));
    assert_eq!(json["columns"][3], column("big", "mixed"));
    assert_eq!(
        json["rows"],
        serde_json::json!([
            [
                "2026-01-01T11:59:59.000000000Z",
                "0000000000000001",
                5_000_000,
                "1152921504606846976",
                "Infinity",
                "AQI=",
                null,
                false
            ],
            ["2026-01-01T11:59:58.000000000Z", "0000000000000002", 6_000_000, "text", null, null, [1], false],
        ])
    );
    assert_eq!(json["stats"]["rows_matched"], 2);
    assert_eq!(json["stats"]["partial"], serde_json::json!([]));
    let lines: Vec<serde_json::Value> =
        answer.to_ndjson().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[1]["duration"], 5_000_000);
    assert_eq!(lines[3]["stats"]["rows_scanned"], 2);
    let bytes = answer.to_arrow_stream().unwrap();
    let mut reader = arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
    let batch = reader.next().unwrap().unwrap();
    let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    assert_eq!((batch.num_rows(), batch.column(0).data_type()), (2, &utc));
    let durations = batch.column(2).as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(durations.values().as_ref(), [5_000_000, 6_000_000]);
    assert_eq!(batch.column(3).as_string::<i32>().value(1), "\"text\"");
    assert!(batch.column(4).is_null(1));
    assert!(batch.schema().metadata()["stats"].contains("rows_scanned"));
}

/// A frame of one metric's points, a second apart.
fn points(name: &str, ty: MetricType, ago: i64, values: &[Value]) -> Batch {
    let metric = Row {
        fixed: vec![(I::Name, str(name)), (I::Type, Value::Int(ty as i64))],
        attributes: vec![("origin", str("test"))],
        ..Row::default()
    };
    let point = |(i, value): (usize, &Value)| {
        let column = match value {
            Value::Int(_) => I::ValueInt,
            Value::Array(_) => I::BucketCounts,
            _ => I::ValueDouble,
        };
        Row {
            fixed: vec![(I::Time, Value::Int(NOW - (ago - i as i64) * SECOND)), (column, value.clone())],
            attributes: vec![("host", str(if i % 2 == 0 { "a" } else { "b" }))],
            ..Row::default()
        }
    };
    support::points(&service("shop"), &[metric], &values.iter().enumerate().map(point).collect::<Vec<_>>())
}

async fn gauges(lab: &Lab) {
    for n in 0..6i64 {
        let values: Vec<Value> = (0..10).map(|i| Value::Int(n * 10 + i)).collect();
        lab.add(points(&format!("metric.{n}"), MetricType::Gauge, 600 - n * 60, &values)).await;
    }
    let values = [Value::Double(1e9), Value::Double(2.5e9)];
    lab.add(points("huge", MetricType::Sum, 60, &values)).await;
    let counts = |of: &[i64]| Value::Array(of.iter().map(|n| Value::Int(*n)).collect());
    lab.add(points("sizes", MetricType::Histogram, 30, &[counts(&[1, 2]), counts(&[3])])).await;
}

#[tokio::test]
async fn qu2_frames_without_the_metric_are_not_read() {
    let lab = Lab::new();
    gauges(&lab).await;
    for (text, rows, frames_read) in [
        ("from metrics last 1h where name = 'metric.3'", 10, 1),
        ("from metrics last 1h where name in ('metric.3', 'huge')", 12, 2),
        ("from metrics last 1h where name = 'nothing'", 0, 0),
        ("from metrics last 1h where name starts_with 'metric.5'", 10, 1),
        ("from metrics last 1h where type = sum", 2, 1),
        ("from metrics last 1h where type = summary", 0, 0),
        ("from metrics last 1h where value > 58", 3, 2),
        ("from metrics last 1h where value between 3 and 12", 10, 2),
        ("from metrics last 1h where count > 0", 0, 0),
        ("from metrics last 1h where exemplar.value > 0", 0, 0),
        ("from metrics last 1h where metadata.origin = 'other'", 0, 0),
        ("from metrics last 1h where bucket_counts contains 3", 1, 8),
    ] {
        let answer = lab.ask(text).await.unwrap();
        assert_eq!((answer.rows, answer.stats.frames_read), (rows, frames_read), "{text}");
        assert_eq!(answer.stats.frames_total, 8, "{text}");
    }
}

#[tokio::test]
async fn fields_and_values_of_metrics_are_listed() {
    let lab = Lab::new();
    gauges(&lab).await;
    let range = TimeRange { from: NOW - HOUR, to: NOW };
    let fields = lab.engine.fields(&tenant(), range).await.unwrap();
    assert!(fields.iter().all(|f| f.signal == Signal::Metrics));
    let of = |name: &str| fields.iter().find(|f| f.name == name).map(|f| (f.scope, f.types.clone(), f.count));
    assert_eq!(of("value"), Some(("intrinsic", vec!["int", "double"], 64)));
    assert_eq!(of("name"), Some(("intrinsic", vec!["string"], 64)));
    assert_eq!(of("bucket_counts"), Some(("intrinsic", vec!["int[]"], 64)));
    assert_eq!(of("start_time"), Some(("intrinsic", vec!["time"], 64)));
    assert_eq!(of("host"), Some(("attr", vec!["string"], 64)));
    assert_eq!(of("origin"), Some(("metadata", vec!["string"], 8)));
    let values = async |field: &str, limit| {
        let options = RunOptions::default();
        let found = lab.engine.field_values(&tenant(), Signal::Metrics, field, range, limit, options).await.unwrap();
        found.into_iter().map(|v| (v.value, v.count)).collect::<Vec<_>>()
    };
    assert_eq!(values("name", 2).await, [("metric.0".into(), 10), ("metric.1".into(), 10)]);
    assert_eq!(values("type", 9).await, [("gauge".into(), 60), ("histogram".into(), 2), ("sum".into(), 2)]);
    assert_eq!(values("host", 9).await, [("a".into(), 32), ("b".into(), 32)]);
    assert_eq!(values("metadata.origin", 9).await, [("test".into(), 64)]);
}

/// Keys without a column are listed beside those with one: every value that was stored is counted, in its scope.
#[tokio::test]
async fn fields_count_every_value_also_of_keys_without_a_column() {
    use arrow::array::AsArray as _;
    use prism_model::{AttrType, ColumnId, Intrinsic, TableKind};
    let scope = |table| match table {
        // Resources and scopes are stored once for each window of their spans, and not without one.
        TableKind::Items => Some("attr"),
        TableKind::Events => Some("event"),
        TableKind::Links => Some("link"),
        _ => None,
    };
    let mut tails = 0;
    for seed in 0..6 {
        let batch = prism_model::samples::batch(Signal::Spans, 40, NOW - 1_000, seed);
        let mut expected = std::collections::BTreeMap::<(String, &str), usize>::new();
        for table in batch.tables() {
            let Some(scope) = scope(table.kind()) else { continue };
            for column in table.columns() {
                if let ColumnId::Attr { key, .. } = &column.id {
                    *expected.entry((key.to_string(), scope)).or_default() += table.rows() - column.array.null_count();
                }
            }
        }
        if let Some(tail) = batch.table(TableKind::Tail) {
            let of = tail.intrinsic(Intrinsic::Of).unwrap().as_primitive::<arrow::datatypes::UInt8Type>();
            let keys = arrow::compute::cast(tail.intrinsic(Intrinsic::Key).unwrap(), &arrow::datatypes::DataType::Utf8);
            let keys = keys.unwrap();
            for row in 0..tail.rows() {
                let Some(scope) = TableKind::from_u8(of.value(row)).and_then(scope) else { continue };
                *expected.entry((keys.as_string::<i32>().value(row).to_owned(), scope)).or_default() += 1;
                tails += 1;
            }
        }
        let lab = Lab::new();
        lab.add(batch).await;
        let fields = lab.engine.fields(&tenant(), TimeRange::ALL).await.unwrap();
        let listed = fields.iter().filter(|f| ["attr", "event", "link"].contains(&f.scope));
        let listed = listed.filter(|f| f.count > 0).map(|f| ((f.name.clone(), f.scope), f.count as usize));
        expected.retain(|_, count| *count > 0);
        assert_eq!(listed.collect::<std::collections::BTreeMap<_, _>>(), expected, "seed {seed}");
        let types: Vec<&str> = [AttrType::Str, AttrType::Int, AttrType::Json].map(AttrType::as_str).to_vec();
        assert!(fields.iter().any(|f| f.types.iter().any(|ty| types.contains(ty))));
    }
    assert!(tails > 0, "samples have keys without a column");
}

#[tokio::test]
async fn lists_of_numbers_are_lists_in_every_form() {
    let lab = Lab::new();
    gauges(&lab).await;
    let answer = lab.ask("from metrics last 1h where type in (histogram, sum) select name, bucket_counts, quantiles");
    let answer = answer.await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&answer.to_json()).unwrap();
    assert_eq!(json["columns"][1], serde_json::json!({ "name": "bucket_counts", "type": "int[]" }));
    assert_eq!(json["columns"][2], serde_json::json!({ "name": "quantiles", "type": "double[]" }));
    assert_eq!(json["rows"][0], serde_json::json!(["sizes", [3], null]));
    let line: serde_json::Value = serde_json::from_str(answer.to_ndjson().lines().nth(2).unwrap()).unwrap();
    assert_eq!(line["bucket_counts"], serde_json::json!([1, 2]));
    let bytes = answer.to_arrow_stream().unwrap();
    let batch = arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap().next().unwrap().unwrap();
    let lists = batch.column(1).as_list::<i32>();
    assert_eq!(lists.data_type(), &prism_model::column::list_of(DataType::Int64));
    let list = lists.value(1);
    assert_eq!(list.as_primitive::<arrow::datatypes::Int64Type>().values().as_ref(), [1, 2]);
    assert!(lists.is_null(2));
    assert_eq!(batch.column(2).data_type(), &prism_model::column::list_of(DataType::Float64));
    assert_eq!(batch.column(2).null_count(), 4);
}

#[tokio::test]
async fn limits_refuse_with_what_raises_them() {
    let engine = EngineOptions { time_max: Duration::ZERO, ..EngineOptions::default() };
    let lab = Lab::with(StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, engine);
    minutes(&lab).await;
    let error = lab.ask("from spans last 1h").await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("query_over_time", Kind::Fix));
    assert!(error.to_string().contains("query.time_max_ms"), "{error}");

    let engine = EngineOptions { memory_bytes_max: 10_000, limit_max: 7, ..EngineOptions::default() };
    let lab = Lab::with(StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, engine);
    minutes(&lab).await;
    let error = lab.ask("from spans last 1h by span_id select p95(duration)").await.unwrap_err();
    assert!(matches!(error, QueryError::Memory { .. }), "{error}");
    let few = lab.ask("from spans last 1h by name select count()").await.unwrap();
    assert_eq!(few.rows, 3);
    assert_eq!(lab.ask("from spans last 1h").await.unwrap().rows, 7);
    let error = lab.ask("from spans last 1h select span_id budget bytes 10").await.unwrap_err();
    assert_eq!(error.code(), "query_over_budget");
}

#[tokio::test]
async fn deep_and_doubling_queries_are_answered_or_refused_but_never_crash() {
    let lab = Lab::new();
    minutes(&lab).await;
    let deep = format!("from spans last 1h where {}n = 1{}", "not (".repeat(60), ")".repeat(60));
    assert_eq!(lab.ask(&deep).await.unwrap().rows, 1);
    let sum = format!("from spans last 1h where n = 1 select {}n{} as x", "(1 + ".repeat(60), ")".repeat(60));
    assert_eq!(lab.ask(&sum).await.unwrap().cell(0, 0), 61);
    let mut doubling = "from spans last 1h let a0 = n".to_owned();
    for i in 1..40 {
        doubling.push_str(&format!(", a{i} = a{} + a{}", i - 1, i - 1));
    }
    let error = lab.ask(&format!("{doubling} select a39")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fix, "{error}");
    let mut chain = "from spans last 1h let a0 = n".to_owned();
    for i in 1..900 {
        chain.push_str(&format!(", a{i} = a{} + 1", i - 1));
    }
    assert_eq!(lab.ask(&format!("{chain} select a899")).await.unwrap_err().kind(), Kind::Fix);
}

#[tokio::test]
async fn a_frame_that_cannot_be_read_makes_the_answer_partial_and_is_named() {
    let root = tempfile::tempdir().unwrap();
    let options = StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() };
    let store = prism_store::Store::open(root.path(), options).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    for batch in 0..2u64 {
        let rows: Vec<Row> = (0..3_000).map(|i| span(batch, i, now - SECOND * (1 + i as i64 / 100), 1)).collect();
        store.append(&tenant(), support::cleared(spans(&rows))).await.unwrap();
    }
    store.close().await;
    let mut files = Vec::new();
    let mut folders = vec![root.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    let file = files.iter().max_by_key(|f| std::fs::metadata(f).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(file).unwrap();
    // Inside of the last frame's payload.
    let at = bytes.len() - 600;
    bytes[at..at + 64].iter_mut().for_each(|b| *b ^= 0xff);
    std::fs::write(file, bytes).unwrap();
    let engine = prism_query::Engine::new(prism_store::Reader::open(root.path()), EngineOptions::default());
    let query =
        prism_dsl::parse_text("from spans last 1h by trace_id select count(n) as n, count(event.name = 'x') as m")
            .unwrap();
    let answer = engine.run(&tenant(), &query, now, prism_query::RunOptions::default()).await.unwrap();
    let whole: Vec<_> = (0..answer.rows).map(|row| answer.cell(row, 1)).collect();
    assert!(!answer.stats.partial.is_empty() || whole == [3_000, 3_000], "{}", shown(&answer));
    for partial in &answer.stats.partial {
        let shown = format!("{partial:?}");
        assert!(!shown.contains(&*root.path().to_string_lossy()), "{shown}");
    }
}
