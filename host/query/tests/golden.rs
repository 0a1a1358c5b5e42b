//! Queries over a small shop's spans, logs and metrics, each with the answer that it must give: `tests/golden/*.txt`.
//! `UPDATE=1` rewrites the answers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use prism_model::{Intrinsic as I, MetricType, Signal, Value};
use support::{Lab, MS, NOW, Row, SECOND, shown, shown_error, str};

fn id(n: u8, width: usize) -> Value {
    Value::Bytes((0..width as u8).map(|i| n.wrapping_mul(17).wrapping_add(i)).collect())
}

/// Seconds before now.
fn at(seconds: i64) -> (I, Value) {
    (I::Time, Value::Int(NOW - seconds * SECOND))
}

fn resources() -> Vec<Row> {
    let service = |name: &str, more: support::Attributes| Row {
        attributes: [vec![("service.name", str(name))], more].concat(),
        ..Row::default()
    };
    vec![
        service("frontend", vec![("host.name", str("web-1")), ("cloud.zone", str("a"))]),
        service("checkout", vec![("host.name", str("app-1")), ("replicas", Value::Int(3))]),
        service("payment", vec![("host.name", str("app-2")), ("cloud.zone", str("b"))]),
    ]
}

fn scopes() -> Vec<Row> {
    vec![
        Row {
            fixed: vec![(I::Name, str("http-lib")), (I::Version, str("1.2"))],
            attributes: vec![("flavor", str("sweet"))],
            ..Row::default()
        },
        Row { fixed: vec![(I::Name, str("db-lib"))], ..Row::default() },
    ]
}

struct Span {
    trace: u8,
    number: u8,
    parent: u8,
    ago: i64,
    service: usize,
    name: &'static str,
    kind: i64,
    status: i64,
    ms: i64,
    attributes: support::Attributes,
}

fn span(s: Span) -> Row {
    let mut fixed = vec![
        at(s.ago),
        (I::TraceId, id(s.trace, 16)),
        (I::SpanId, id(s.number, 8)),
        (I::Name, str(s.name)),
        (I::Kind, Value::Int(s.kind)),
        (I::Status, Value::Int(s.status)),
        (I::Duration, Value::Int(s.ms * MS)),
    ];
    if s.parent > 0 {
        fixed.push((I::ParentId, id(s.parent, 8)));
    }
    if s.status == 2 {
        fixed.push((I::StatusMessage, str("it broke")));
    }
    Row { fixed, attributes: s.attributes, resource: s.service, scope: usize::from(s.kind == 3), ..Row::default() }
}

/// Three traces of an hour, and one span of long ago.
fn spans() -> Vec<Row> {
    let http = |route: &str, code: Value, user: &str| {
        vec![("http.route", str(route)), ("http.response.status_code", code), ("user.id", str(user))]
    };
    let one = |trace, number, parent, ago, service, name, kind, status, ms, attributes| {
        span(Span { trace, number, parent, ago, service, name, kind, status, ms, attributes })
    };
    let mut all = vec![
        one(1, 1, 0, 50, 0, "GET /cart", 2, 0, 120, http("/cart", Value::Int(200), "ann")),
        one(1, 2, 1, 49, 1, "checkout", 2, 1, 80, http("/checkout", Value::Int(201), "ann")),
        one(1, 3, 2, 49, 2, "charge", 3, 2, 60, vec![("amount", Value::Double(12.5)), ("retry", Value::Bool(true))]),
        one(2, 4, 0, 200, 0, "GET /cart", 2, 2, 1_500, http("/cart", Value::Int(500), "bob")),
        // The same key with another type.
        one(2, 5, 4, 199, 1, "checkout", 2, 2, 900, http("/checkout", str("500"), "bob")),
        one(3, 6, 0, 1_000, 0, "GET /health", 2, 0, 1, http("/health", Value::Int(200), "probe")),
        one(3, 7, 6, 999, 2, "charge", 3, 0, 40, vec![("amount", Value::Int(7)), ("retry", Value::Bool(false))]),
        // Beyond int64 seconds of sense, but an answer must not break.
        one(
            3,
            8,
            6,
            998,
            2,
            "refund",
            1,
            0,
            5,
            vec![("amount", Value::Int(i64::MAX)), ("odd", Value::Double(f64::NAN))],
        ),
        one(4, 9, 0, 7_200, 0, "GET /old", 2, 0, 10, http("/old", Value::Int(200), "ann")),
    ];
    let event = |name: &str, ago: i64, attributes| Row {
        fixed: vec![at(ago), (I::Name, str(name))],
        attributes,
        ..Row::default()
    };
    all[2].events = vec![
        event("exception", 49, vec![("exception.type", str("Timeout"))]),
        event("retry", 48, vec![("attempt", Value::Int(2))]),
    ];
    all[4].events = vec![event("exception", 199, vec![("exception.type", str("Refused"))])];
    let link = |trace: u8, span: u8, state: &str| Row {
        fixed: vec![(I::TraceId, id(trace, 16)), (I::SpanId, id(span, 8)), (I::TraceState, str(state))],
        ..Row::default()
    };
    all[6].links = vec![link(1, 3, "vendor=linked, a@b=1"), link(2, 4, "")];
    all[0].fixed.push((I::TraceState, str("vendor=abc, other=1")));
    // A key of a multi-tenant vendor, spaces around members and within values, a repeated key, members that are none.
    all[1].fixed.push((I::TraceState, str("a@b=x y z ,\tvendor= def,vendor=ghi,broken,=no key,empty=,k=v=w")));
    all[2].fixed.push((I::TraceState, str(",,;=;")));
    all[0].attributes.push((
        "tags",
        Value::Array(vec![str("new"), Value::Int(7), Value::Map(vec![("deep".into(), Value::Array(vec![str("x")]))])]),
    ));
    all[1].attributes.push((
        "order",
        Value::Map(vec![("id".into(), str("o-1")), ("lines".into(), Value::Int(3)), ("ship.to".into(), str("DE"))]),
    ));
    // The record's attribute hides the resource's of the same name, only on this row.
    all[3].attributes.push(("host.name", str("override")));
    // A repeated key: the first value is the one.
    all[3].attributes.push(("dup", str("first")));
    all[3].attributes.push(("dup", str("second")));
    all[5].tail.push(("rare", Value::Int(42)));
    all
}

fn logs() -> Vec<Row> {
    let log = |ago: i64, severity: i64, text: &str, body: (I, Value), service: usize| Row {
        fixed: vec![at(ago), (I::Severity, Value::Int(severity)), (I::SeverityText, str(text)), body],
        resource: service,
        ..Row::default()
    };
    let structured = Value::Map(vec![("msg".into(), str("paid")), ("cents".into(), Value::Int(1250))]);
    let mut all = vec![
        log(50, 9, "INFO", (I::Body, str("cart shown to ann")), 0),
        log(49, 13, "WARN", (I::Body, str("payment slow: 60ms")), 2),
        log(48, 17, "ERROR", (I::Body, str("payment failed: Timeout")), 2),
        log(47, 18, "ERROR2", (I::Body, str("Payment failed twice")), 2),
        log(30, 0, "", (I::BodyInt, Value::Int(42)), 1),
        log(20, 5, "DEBUG", (I::BodyJson, str(&structured.to_text())), 1),
    ];
    all[0].fixed.push((I::TraceId, id(1, 16)));
    // Without a time of its own the observed time counts.
    all[5].fixed.retain(|(i, _)| *i != I::Time);
    all[5].fixed.push((I::ObservedTime, Value::Int(NOW - 20 * SECOND)));
    all
}

/// The metrics of the shop, and their points.
fn metrics() -> (Vec<Row>, Vec<Row>) {
    let metric = |name: &str, unit: &str, ty: MetricType, temporality: i64, monotonic: bool| Row {
        fixed: vec![
            (I::Name, str(name)),
            (I::Unit, str(unit)),
            (I::Type, Value::Int(ty as i64)),
            (I::Temporality, Value::Int(temporality)),
            (I::Monotonic, Value::Bool(monotonic)),
        ],
        ..Row::default()
    };
    let mut metrics = vec![
        metric("queue.length", "{items}", MetricType::Gauge, 0, false),
        metric("http.server.requests", "1", MetricType::Sum, 2, true),
        metric("http.server.duration", "ms", MetricType::Histogram, 1, false),
        metric("payload.size", "By", MetricType::ExponentialHistogram, 2, false),
        metric("rpc.latency", "s", MetricType::Summary, 0, false),
    ];
    metrics[0].fixed.push((I::Description, str("what waits")));
    metrics[0].attributes.push(("prometheus.type", str("gauge")));
    let point = |metric: usize, service: usize, ago: i64, fixed: Vec<(I, Value)>| Row {
        fixed: [vec![at(ago)], fixed].concat(),
        metric,
        resource: service,
        ..Row::default()
    };
    let since = || (I::StartTime, Value::Int(NOW - 600 * SECOND));
    let list = |of: &[f64]| Value::Array(of.iter().map(|d| Value::Double(*d)).collect());
    let counts = |of: &[i64]| Value::Array(of.iter().map(|i| Value::Int(*i)).collect());
    let mut points = vec![
        point(0, 0, 60, vec![(I::ValueInt, Value::Int(7))]),
        point(0, 0, 50, vec![(I::ValueDouble, Value::Double(8.5))]),
        point(0, 2, 40, vec![(I::ValueDouble, Value::Double(f64::NAN))]),
        // No value was recorded.
        point(0, 2, 30, vec![(I::Flags, Value::Int(1))]),
        point(1, 0, 60, vec![since(), (I::ValueInt, Value::Int(100))]),
        point(1, 0, 30, vec![since(), (I::ValueInt, Value::Int((1 << 53) + 1))]),
        point(
            2,
            0,
            30,
            vec![
                since(),
                (I::Count, Value::Int(6)),
                (I::Sum, Value::Double(120.5)),
                (I::Min, Value::Double(1.0)),
                (I::Max, Value::Double(80.0)),
                (I::BucketCounts, counts(&[1, 5, 0])),
                (I::ExplicitBounds, list(&[5.0, 100.0])),
            ],
        ),
        point(
            3,
            1,
            30,
            vec![
                since(),
                (I::Count, Value::Int(9)),
                (I::Sum, Value::Double(4_096.0)),
                (I::Scale, Value::Int(2)),
                (I::ZeroCount, Value::Int(1)),
                (I::ZeroThreshold, Value::Double(0.5)),
                (I::PositiveOffset, Value::Int(-3)),
                (I::PositiveCounts, counts(&[4, 0, 1 << 60])),
                (I::NegativeOffset, Value::Int(0)),
            ],
        ),
        point(
            4,
            1,
            20,
            vec![
                (I::Count, Value::Int(3)),
                (I::Sum, Value::Double(0.75)),
                (I::Quantiles, list(&[0.5, 1.0])),
                (I::QuantileValues, list(&[0.25, f64::INFINITY])),
            ],
        ),
    ];
    for (point, route) in [(0, "/cart"), (4, "/cart"), (5, "/checkout"), (6, "/cart")] {
        points[point].attributes.push(("http.route", str(route)));
    }
    let exemplar = |fixed: Vec<(I, Value)>, attributes| Row { fixed, attributes, ..Row::default() };
    points[6].exemplars = vec![
        exemplar(
            vec![at(31), (I::ValueDouble, Value::Double(80.0)), (I::TraceId, id(1, 16)), (I::SpanId, id(3, 8))],
            vec![("user.id", str("ann"))],
        ),
        exemplar(vec![at(32), (I::ValueInt, Value::Int(2))], vec![]),
    ];
    (metrics, points)
}

/// Two hours ago: counters and histograms, whose points come twice, in any order, and begin anew.
fn counters() -> (Vec<Row>, Vec<Row>) {
    let metric = |name: &str, ty: MetricType, temporality: i64, monotonic: bool| Row {
        fixed: vec![
            (I::Name, str(name)),
            (I::Type, Value::Int(ty as i64)),
            (I::Temporality, Value::Int(temporality)),
            (I::Monotonic, Value::Bool(monotonic)),
        ],
        ..Row::default()
    };
    let metrics = vec![
        metric("bytes.sent", MetricType::Sum, 2, true),
        metric("bytes.delta", MetricType::Sum, 1, true),
        metric("connections", MetricType::Sum, 2, false),
        metric("latency", MetricType::Histogram, 2, false),
        metric("latency.delta", MetricType::Histogram, 1, false),
        metric("size", MetricType::ExponentialHistogram, 2, false),
    ];
    let ten = NOW - 7_200 * SECOND;
    let point = |metric: usize, service: usize, start: Option<i64>, at: i64, route: &str, fixed: Vec<(I, Value)>| {
        let mut all = vec![(I::Time, Value::Int(ten + at * SECOND))];
        all.extend(start.map(|start| (I::StartTime, Value::Int(ten + start * SECOND))));
        Row {
            fixed: [all, fixed].concat(),
            attributes: vec![("http.route", str(route))],
            metric,
            resource: service,
            ..Row::default()
        }
    };
    let int = |i: i64| vec![(I::ValueInt, Value::Int(i))];
    let double = |d: f64| vec![(I::ValueDouble, Value::Double(d))];
    let counts = |of: &[i64]| Value::Array(of.iter().map(|i| Value::Int(*i)).collect());
    let list = |of: &[f64]| Value::Array(of.iter().map(|d| Value::Double(*d)).collect());
    let buckets = |of: &[i64], more: Vec<(I, Value)>| {
        [vec![(I::BucketCounts, counts(of)), (I::ExplicitBounds, list(&[10.0, 20.0, 50.0]))], more].concat()
    };
    let exponential = |scale: i64, offset: i64, of: &[i64]| {
        vec![
            (I::Scale, Value::Int(scale)),
            (I::PositiveOffset, Value::Int(offset)),
            (I::PositiveCounts, counts(of)),
            (I::ZeroCount, Value::Int(0)),
        ]
    };
    let points = vec![
        // Begun in the range, so that its first reading counts; begun anew at 120 and, with a new start, at 180.
        point(0, 0, Some(0), 30, "/a", int(10)),
        point(0, 0, Some(0), 90, "/a", int(60)),
        point(0, 0, Some(0), 60, "/a", int(30)),
        point(0, 0, Some(0), 120, "/a", int(5)),
        point(0, 0, Some(150), 180, "/a", int(9)),
        // Of an unknown start: the first reading only begins.
        point(0, 0, None, 40, "/b", int(100)),
        point(0, 0, None, 100, "/b", double(150.5)),
        // The same attributes at another resource are another series.
        point(0, 1, Some(-600), 50, "/a", int(1_000)),
        point(0, 1, Some(-600), 110, "/a", int(1_001)),
        point(1, 0, Some(0), 60, "/a", int(5)),
        point(1, 0, Some(60), 120, "/a", int(7)),
        point(2, 0, Some(0), 60, "/a", int(5)),
        point(2, 0, Some(0), 120, "/a", int(3)),
        point(3, 0, Some(-600), 30, "/a", buckets(&[100, 0, 0, 0], vec![])),
        point(3, 0, Some(-600), 90, "/a", buckets(&[110, 20, 10, 0], vec![])),
        point(3, 0, Some(100), 120, "/a", buckets(&[0, 0, 0, 8], vec![])),
        point(
            4,
            0,
            Some(0),
            60,
            "/a",
            buckets(&[1, 0, 0, 1], vec![(I::Min, Value::Double(8.0)), (I::Max, Value::Double(90.0))]),
        ),
        point(5, 0, Some(-600), 30, "/a", exponential(2, 4, &[1, 1, 0, 1])),
        point(5, 0, Some(-600), 90, "/a", exponential(0, 1, &[5, 2])),
        // Copies of some, a copy of another reading at the same time.
        point(0, 0, Some(0), 90, "/a", int(60)),
        point(1, 0, Some(60), 120, "/a", int(7)),
        point(3, 0, Some(-600), 90, "/a", buckets(&[110, 20, 10, 0], vec![])),
        point(0, 1, Some(-600), 110, "/a", int(1_000)),
    ];
    (metrics, points)
}

async fn shop() -> Lab {
    let lab = Lab::new();
    let spans = spans();
    // Two frames, of which only the second has some of the columns.
    let (first, second) = spans.split_at(4);
    lab.add(support::batch(Signal::Spans, &resources(), &scopes(), first)).await;
    lab.add(support::batch(Signal::Spans, &resources(), &scopes(), second)).await;
    lab.add(support::batch(Signal::Logs, &resources(), &[], &logs())).await;
    let (metrics, points) = metrics();
    let (numbers, distributions) = points.split_at(6);
    lab.add(support::points(&resources(), &metrics, numbers)).await;
    lab.add(support::points(&resources(), &metrics, distributions)).await;
    let (metrics, points) = counters();
    // Frames that hold points of every time.
    for n in 0..3 {
        let some: Vec<Row> = points.iter().skip(n).step_by(3).cloned().collect();
        lab.add(support::points(&resources(), &metrics, &some)).await;
    }
    lab
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_as_written() {
    let mut lab = shop().await;
    lab.functions = Some(support::first_party());
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut rewritten = String::new();
        // Cases stand apart by `====`; the query is above `----`, the answer below; `#` begins a remark above the query.
        for case in text.split("\n====\n").map(str::trim).filter(|c| !c.is_empty()) {
            let (asked, expected) = case.split_once("\n----\n").unwrap_or((case.trim_end_matches("\n----"), ""));
            let query: String = asked.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n");
            let found = match lab.ask(&query).await {
                Ok(answer) => shown(&answer),
                Err(error) => shown_error(&error),
            };
            // What is written as JSON, its expressions as text or as trees, means the same.
            if let Ok(query) = prism_dsl::parse_text(&query)
                && file.ends_with("plugins.txt")
            {
                for form in [query.to_json(), query.to_json_tree()] {
                    let query = prism_dsl::parse_json(form.to_string().as_bytes()).unwrap();
                    let as_json = match lab.run(&query, prism_query::RunOptions::default()).await {
                        Ok(answer) => shown(&answer),
                        Err(error) => error.to_string(),
                    };
                    let same = if as_json.contains('\n') { as_json == found } else { found.contains(&as_json) };
                    assert!(same, "{form}:\n{as_json}\ninstead of:\n{found}");
                }
            }
            if found != expected {
                wrong.push(format!("{}\n{query}\nexpected:\n{expected}\nfound:\n{found}\n", file.display()));
            }
            if !rewritten.is_empty() {
                rewritten.push_str("\n====\n");
            }
            rewritten.push_str(&format!("{asked}\n----\n{found}"));
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, rewritten + "\n").unwrap();
        }
    }
    if std::env::var_os("UPDATE").is_none() {
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examples_of_the_reference_run() {
    let mut lab = shop().await;
    lab.functions = Some(support::first_party());
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dsl-grammar/REFERENCE.md");
    let reference = std::fs::read_to_string(path).unwrap();
    let examples: Vec<&str> =
        reference.split("```query\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() > 10);
    for example in examples {
        match lab.ask(example).await {
            Ok(answer) => assert!(answer.stats.partial.is_empty()),
            // The end of a page of another query, and what is told to come.
            Err(error) => {
                let fine = error.code() == "query_not_supported_yet" || error.code().contains("cursor");
                assert!(fine, "{example}: {}", shown_error(&error));
            }
        }
    }
}
