//! Aggregates over time agree with plain loops over all rows, in whatever order and tier the rows lie: the growth of counters,
//! quantiles of histograms, rows at once, bins without rows, functions over bins, an earlier range.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "support/moved.rs"]
mod moved;

use std::collections::BTreeMap;

use moved::Moved;
use prism_model::samples::Random;
use prism_model::{Batch, Intrinsic as I, MetricType, Signal, Value};
use prism_query::{Answer, Engine, RunOptions};
use serde_json::Value as Json;
use support::{NOW, Row, SECOND, str, tenant};

const MINUTE: i64 = 60 * SECOND;
/// Begin and end of what is asked; rows lie before it and behind it too.
const FROM: i64 = NOW - 70 * MINUTE;
const TO: i64 = NOW - 62 * MINUTE;
/// Stores, each with rows of its own.
const STORES: u64 = 5;

fn pick<T: Clone>(r: &mut Random, of: &[T]) -> T {
    of[r.below(of.len())].clone()
}

fn cells(answer: &Answer) -> Vec<Vec<Json>> {
    assert!(answer.stats.partial.is_empty(), "{:?}", answer.stats.partial);
    (0..answer.rows).map(|row| (0..answer.columns.len()).map(|c| answer.cell(row, c)).collect()).collect()
}

/// The range in the text of a query.
fn range() -> String {
    let text = |nanos: i64| chrono_text(nanos);
    format!("from t'{}' to t'{}'", text(FROM), text(TO))
}

fn chrono_text(nanos: i64) -> String {
    // 2026-01-01T12:00:00Z is the tests' now, and everything lies on that day.
    let seconds = (nanos - NOW) / SECOND + 12 * 3_600;
    format!("2026-01-01T{:02}:{:02}:{:02}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// A bin's start as an answer shows it.
fn label(nanos: i64) -> Json {
    Json::from(chrono_text(nanos).replace('Z', ".000000000Z"))
}

async fn ask(engine: &Engine, text: &str) -> Vec<Vec<Json>> {
    ask_counting(engine, text, &mut 0).await
}

/// The same, and how many rollups answered.
async fn ask_counting(engine: &Engine, text: &str, rollups: &mut u64) -> Vec<Vec<Json>> {
    let query = prism_dsl::parse_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let answer = engine.run(&tenant(), &query, NOW, RunOptions::default()).await;
    let answer = answer.unwrap_or_else(|error| panic!("{text}: {error}"));
    let by_rows = RunOptions { without_rollups: true, without_pruning: true, ..RunOptions::default() };
    let whole = engine.run(&tenant(), &query, NOW, by_rows).await.unwrap();
    assert_eq!(cells(&answer), cells(&whole), "QU-2, QU-4: {text}");
    *rollups += answer.stats.rollups_read;
    cells(&answer)
}

/// Rows in some batches, of which two are moved to the table, one to a block, and one stays where it is.
async fn spread(r: &mut Random, signal: Signal, rows: &[Row], batch: impl Fn(&[Row]) -> Batch) -> Moved {
    let moved = Moved::new();
    let mut parts = vec![Vec::new(); 4];
    rows.iter().for_each(|row| parts[r.below(4)].push(row.clone()));
    for (n, part) in parts.iter().enumerate() {
        if !part.is_empty() {
            moved.add(batch(part)).await;
            if n == 1 || n == 2 {
                moved.seal(signal);
            }
            if n == 1 {
                moved.promote(signal);
            }
        }
    }
    moved
}

fn services() -> Vec<Row> {
    ["cart", "pay"].map(|name| Row { attributes: vec![("service.name", str(name))], ..Row::default() }).to_vec()
}

fn metric(name: &str, ty: MetricType, temporality: i64) -> Row {
    let fixed = vec![
        (I::Name, str(name)),
        (I::Type, Value::Int(ty as i64)),
        (I::Temporality, Value::Int(temporality)),
        (I::Monotonic, Value::Bool(true)),
    ];
    Row { fixed, ..Row::default() }
}

/// A point of a counter or histogram.
#[derive(Clone, Debug)]
struct Point {
    series: usize,
    time: i64,
    /// 0: none was told.
    start: i64,
    /// Of a counter one, of a histogram one a bucket.
    values: Vec<i64>,
}

/// What tells series apart: the service, a route, a shard that is a number or a text.
const SERIES: usize = 8;

fn service(series: usize) -> usize {
    series % 2
}

fn route(series: usize) -> &'static str {
    ["/a", "/b"][series / 2 % 2]
}

/// A row of a point; what tells its series apart may lie in the tail or in columns.
fn row(r: &mut Random, point: &Point, metric: usize, fixed: Vec<(I, Value)>) -> Row {
    let shard = if point.series >= 4 { str("7") } else { Value::Int(7) };
    let mut row = Row { resource: service(point.series), metric, fixed, ..Row::default() };
    row.fixed.push((I::Time, Value::Int(point.time)));
    if point.start != 0 {
        row.fixed.push((I::StartTime, Value::Int(point.start)));
    }
    row.attributes.push(("route", str(route(point.series))));
    if r.one_in(3) {
        row.tail.push(("shard", shard))
    } else {
        row.attributes.push(("shard", shard))
    }
    row
}

/// Points of all series over some minutes around the range, in no order, some twice. `deltas`: or readings, which begin anew
/// now and then.
fn points(r: &mut Random, deltas: bool, values: usize) -> Vec<Point> {
    let mut all: Vec<Point> = Vec::new();
    for series in 0..SERIES {
        let known = r.one_in(2);
        let mut time = FROM - r.below(180) as i64 * SECOND;
        let mut start = time;
        let mut sums = vec![0i64; values];
        for _ in 0..r.below(60) {
            let before = time;
            time += (1 + r.below(40) as i64) * SECOND / 2;
            if deltas {
                start = before;
            } else if r.one_in(9) {
                // Begins anew, which is told by its start or by its value alone.
                sums.iter_mut().for_each(|sum| *sum = 0);
                start = if r.one_in(2) { time } else { start };
            }
            let more: Vec<i64> = (0..values).map(|_| r.below(20) as i64).collect();
            sums = if deltas { more } else { sums.iter().zip(&more).map(|(a, b)| a + b).collect() };
            all.push(Point { series, time, start: if known { start } else { 0 }, values: sums.clone() });
        }
    }
    let copies: Vec<Point> = all.iter().filter(|_| r.one_in(5)).cloned().collect();
    all.extend(copies);
    // Another reading of the same moment: the greater counts.
    let odd: Vec<Point> = all.iter().filter(|_| r.one_in(15)).cloned().collect();
    all.extend(odd.into_iter().map(|p| Point { values: p.values.iter().map(|v| v / 2).collect(), ..p }));
    for i in (1..all.len()).rev() {
        all.swap(i, r.below(i + 1));
    }
    all
}

/// What each point in the range adds, by hand: one of each moment in the order of time, differences of neighbours.
fn added(points: &[Point], deltas: bool) -> Vec<(Point, Vec<i64>)> {
    let within = points.iter().filter(|p| (FROM..TO).contains(&p.time));
    // Copies: the newest start, and of these the most.
    let mut once: BTreeMap<(usize, i64, i64), Point> = BTreeMap::new();
    for point in within {
        let key = (point.series, point.time, if deltas { point.start } else { 0 });
        let order = |p: &Point| (p.start, p.values.iter().sum::<i64>());
        let kept = once.entry(key).or_insert_with(|| point.clone());
        if order(point) > order(kept) {
            *kept = point.clone();
        }
    }
    let once: Vec<Point> = once.into_values().collect();
    let mut out = Vec::new();
    for (i, point) in once.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| &once[i]).filter(|before| before.series == point.series);
        let falls = |before: &Point| point.values.iter().zip(&before.values).any(|(now, then)| now < then);
        let other_start = |before: &Point| point.start != 0 && before.start != 0 && point.start != before.start;
        let more = match before {
            _ if deltas => point.values.clone(),
            Some(before) if falls(before) || other_start(before) => point.values.clone(),
            Some(before) => point.values.iter().zip(&before.values).map(|(now, then)| now - then).collect(),
            None if point.start >= FROM => point.values.clone(),
            None => vec![0; point.values.len()],
        };
        out.push((point.clone(), more));
    }
    out
}

/// The keys of a group as an answer shows them.
fn keys(point: &Point, by: usize) -> Vec<Json> {
    let bin = label(point.time.div_euclid(MINUTE) * MINUTE);
    match by {
        0 => Vec::new(),
        1 => vec![bin],
        2 => vec![Json::from(route(point.series))],
        _ => vec![bin, Json::from(["cart", "pay"][service(point.series)]), Json::from(route(point.series))],
    }
}

const BY: [&str; 4] = [
    "",
    "by bin(time, 1m)",
    "by route",
    "by bin(time, 1m), service.name, route order bin(time, 1m), service.name, route",
];

/// Groups by their keys, in the order of answers.
fn grouped(added: &[(Point, Vec<i64>)], by: usize) -> BTreeMap<Vec<String>, (Vec<Json>, Vec<i64>)> {
    let mut groups: BTreeMap<Vec<String>, (Vec<Json>, Vec<i64>)> = BTreeMap::new();
    for (point, more) in added {
        let keys = keys(point, by);
        let order = keys.iter().map(Json::to_string).collect();
        let (_, sums) = groups.entry(order).or_insert_with(|| (keys, vec![0; more.len()]));
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
    groups
}

/// A query in two clauses: what is selected stands between groups and their order.
fn question(name: &str, by: &str, select: &str) -> String {
    let (by, order) =
        by.split_once(" order ").map_or((by, String::new()), |(by, order)| (by, format!(" order {order}")));
    let order = if by == "by route" { " order route".to_owned() } else { order };
    format!("from metrics {} where name = '{name}' {by} select {select}{order} limit 10000", range())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_grow_as_by_hand_in_any_order_and_tier() {
    for seed in 0..STORES {
        let r = &mut Random(seed * 65_537 + 5);
        let deltas = seed % 2 == 1;
        let points = points(r, deltas, 1);
        let metrics = [metric("c", MetricType::Sum, if deltas { 1 } else { 2 })];
        let rows: Vec<Row> =
            points.iter().map(|p| row(r, p, 0, vec![(I::ValueInt, Value::Int(p.values[0]))])).collect();
        let added = added(&points, deltas);
        // Twice in other parts: the answers are the same.
        for _ in 0..2 {
            let moved = spread(r, Signal::Metrics, &rows, |rows| support::points(&services(), &metrics, rows)).await;
            let engine = moved.engine();
            for (n, by) in BY.iter().enumerate() {
                let text = question("c", by, "increase(value) as more, rate(value) as rate");
                let seconds = if n == 1 || n == 3 { 60.0 } else { (TO - FROM) as f64 / 1e9 };
                let expected: Vec<Vec<Json>> = grouped(&added, n)
                    .into_values()
                    .map(|(mut keys, sums)| {
                        keys.extend([Json::from(sums[0]), Json::from(sums[0] as f64 / seconds)]);
                        keys
                    })
                    .collect();
                let found = ask(&engine, &text).await;
                assert_eq!(found.len(), expected.len(), "seed {seed}: {text}");
                for (found, expected) in found.iter().zip(&expected) {
                    let keys = found.len() - 2;
                    assert_eq!(found[..=keys], expected[..=keys], "seed {seed}: {text}");
                    let off = found[keys + 1].as_f64().unwrap() - expected[keys + 1].as_f64().unwrap();
                    assert!(off.abs() < 1e-9, "seed {seed}: {text}: {found:?} {expected:?}");
                }
            }
        }
    }
}

/// The value below which a part of the counts lies, as if they lay evenly in their buckets; beyond the last it is its edge.
fn quantile(bounds: &[f64], counts: &[i64], q: f64) -> Option<f64> {
    let total: i64 = counts.iter().sum();
    let rank = q * total as f64;
    let mut below = 0.0;
    for (i, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        if below + *count as f64 >= rank {
            let low = if i == 0 { 0.0 } else { bounds[i - 1] };
            let high = bounds.get(i).copied().unwrap_or(low);
            return Some(low + (high - low) * (rank - below) / *count as f64);
        }
        below += *count as f64;
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quantiles_of_histograms_are_those_of_their_counts_in_any_order_and_tier() {
    let bounds = [5.0, 10.0, 25.0, 100.0];
    for seed in 0..STORES {
        let r = &mut Random(seed * 31_337 + 9);
        let (deltas, exponential) = (seed % 2 == 1, seed >= 3);
        let points = points(r, deltas, bounds.len() + 1);
        let list = |of: &[i64]| Value::Array(of.iter().map(|i| Value::Int(*i)).collect());
        let fixed = |p: &Point| {
            if exponential {
                // Buckets from 2 on: the first is all there is up to 2, which is the zero bucket.
                return vec![
                    (I::Scale, Value::Int(0)),
                    (I::ZeroCount, Value::Int(p.values[0])),
                    (I::ZeroThreshold, Value::Double(2.0)),
                    (I::PositiveOffset, Value::Int(1)),
                    (I::PositiveCounts, list(&p.values[1..])),
                ];
            }
            let bounds = Value::Array(bounds.iter().map(|b| Value::Double(*b)).collect());
            vec![(I::BucketCounts, list(&p.values)), (I::ExplicitBounds, bounds)]
        };
        let ty = if exponential { MetricType::ExponentialHistogram } else { MetricType::Histogram };
        let metrics = [metric("h", ty, if deltas { 1 } else { 2 })];
        let rows: Vec<Row> = points.iter().map(|p| row(r, p, 0, fixed(p))).collect();
        let added = added(&points, deltas);
        let moved = spread(r, Signal::Metrics, &rows, |rows| support::points(&services(), &metrics, rows)).await;
        let engine = moved.engine();
        for (n, by) in BY.iter().enumerate() {
            let text = question("h", by, "p50(value) as p50, quantile(value, 0.9) as p90");
            let found = ask(&engine, &text).await;
            let expected: Vec<_> = grouped(&added, n).into_values().collect();
            assert_eq!(found.len(), expected.len(), "seed {seed}: {text}");
            for (found, (keys, counts)) in found.iter().zip(&expected) {
                assert_eq!(found[..keys.len()], keys[..], "seed {seed}: {text}");
                for (at, q) in [(keys.len(), 0.5), (keys.len() + 1, 0.9)] {
                    let edges: &[f64] = if exponential { &[2.0, 4.0, 8.0, 16.0, 32.0] } else { &bounds };
                    // Without counts above it the zero bucket is at 0.
                    let no_positive = exponential && counts[1..].iter().all(|n| *n == 0) && counts[0] > 0;
                    let expected = if no_positive { Some(0.0) } else { quantile(edges, counts, q) };
                    let close = match (found[at].as_f64(), expected) {
                        (Some(found), Some(expected)) => (found - expected).abs() < 1e-9 * (1.0 + expected),
                        (None, None) => true,
                        _ => false,
                    };
                    assert!(close, "seed {seed}: {text}: {found:?}, {expected:?} of {counts:?}");
                }
            }
        }
    }
}

/// What a function over bins gives for a bin, of all bins of a series.
type Function<'a> = dyn Fn(&[Option<i64>]) -> Json + 'a;

/// A span: start, end (none: it runs), service.
type Span = (i64, Option<i64>, usize);

fn spans(r: &mut Random) -> (Vec<Span>, Vec<Row>) {
    let mut all = Vec::new();
    for _ in 0..20 + r.below(150) {
        let start = FROM - 2 * MINUTE + r.below(12 * 60) as i64 * SECOND;
        let lasts = pick(r, &[0, 1, 30, 200]);
        let end = start + r.below(1 + lasts) as i64 * SECOND;
        all.push((start, (!r.one_in(40)).then_some(end), r.below(2)));
    }
    let row = |(n, (start, end, service)): (usize, &Span)| Row {
        fixed: vec![
            (I::Time, Value::Int(*start)),
            (I::TraceId, Value::Bytes(vec![n as u8 + 1; 16])),
            (I::SpanId, Value::Bytes(vec![n as u8 + 1; 8])),
            (I::Running, Value::Bool(end.is_none())),
            (I::Duration, Value::Int(end.map_or(start.wrapping_neg(), |end| end - start))),
        ],
        resource: *service,
        ..Row::default()
    };
    let rows = all.iter().enumerate().map(row).collect();
    (all, rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_at_once_are_those_of_counting_at_each_moment() {
    for seed in 0..STORES {
        let r = &mut Random(seed * 7_001 + 1);
        let (spans, rows) = spans(r);
        let moved = spread(r, Signal::Spans, &rows, |rows| support::batch(Signal::Spans, &services(), &[], rows)).await;
        let engine = moved.engine();
        for (by, of) in [("", 0..1), (", service.name", 0..2)] {
            let text = format!(
                "from spans {} by bin(time, 30s){by} select concurrency() as most, count() as begun order bin(time, 30s){by} limit 10000",
                range()
            );
            let mut expected = Vec::new();
            for bin in (FROM..TO).step_by(30 * SECOND as usize) {
                for service in of.clone() {
                    let seen =
                        || spans.iter().filter(|s| (FROM..TO).contains(&s.0) && (by.is_empty() || s.2 == service));
                    // What takes no time is there at its moment; what runs lasts over the range.
                    let until = |s: &Span| s.1.map_or(TO, |end| end.max(s.0 + 1));
                    let at = |moment: i64| seen().filter(|s| s.0 <= moment && moment < until(s)).count();
                    let moments = seen().map(|s| s.0).filter(|start| (bin..bin + 30 * SECOND).contains(start));
                    let most = moments.chain([bin]).map(at).max().unwrap();
                    let begun = seen().filter(|s| (bin..bin + 30 * SECOND).contains(&s.0)).count();
                    if most > 0 {
                        let mut row = vec![label(bin)];
                        row.extend((!by.is_empty()).then(|| Json::from(["cart", "pay"][service])));
                        row.extend([Json::from(most), Json::from(begun)]);
                        expected.push(row);
                    }
                }
            }
            assert_eq!(ask(&engine, &text).await, expected, "seed {seed}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bins_without_rows_and_functions_over_bins_are_as_by_hand() {
    let mut rollups = 0;
    for seed in 0..STORES {
        let r = &mut Random(seed * 911 + 77);
        let (spans, rows) = spans(r);
        let moved = spread(r, Signal::Spans, &rows, |rows| support::batch(Signal::Spans, &services(), &[], rows)).await;
        let engine = moved.engine();
        // Offsets that are multiples of the bins, and not. Rollups may answer for whole minutes, also of what was earlier.
        let (width, offset) = [(30, 60), (30, 45), (60, 120), (60, 90), (60, 60)][seed as usize];
        let (width, offset) = (width * SECOND, offset * SECOND);
        for fill in ["none", "null", "0", "previous"] {
            let text = format!(
                "from spans {} by bin(time, {}s) as bin, service.name as service fill {fill} select bin, service, \
                 count() as n, diff(n) as change, cumsum(n) as total, moving_avg(n, 3) as mean, shift(n, 1m) as before \
                 order service, bin limit 10000 compare {}s",
                range(),
                width / SECOND,
                offset / SECOND
            );
            let count = |bin: i64, service: usize, later: i64| {
                let own = spans.iter().filter(|s| s.2 == service && (FROM - later..TO - later).contains(&s.0));
                own.filter(|s| (bin..bin + width).contains(&(s.0 + later))).count() as i64
            };
            let mut expected = Vec::new();
            let bins: Vec<i64> = (FROM..TO).step_by(width as usize).collect();
            for service in 0..2 {
                if bins.iter().all(|bin| count(*bin, service, 0) + count(*bin, service, offset) == 0) {
                    continue;
                }
                // Of both ranges what each bin shows; `None` is missing.
                let side = |later: i64| {
                    let mut last = None;
                    let shown = bins.iter().map(|bin| {
                        let found = Some(count(*bin, service, later)).filter(|n| *n > 0);
                        let filled = match fill {
                            "0" => found.or(Some(0)),
                            "previous" => found.or(last),
                            _ => found,
                        };
                        last = filled;
                        filled
                    });
                    shown.collect::<Vec<Option<i64>>>()
                };
                let sides = [side(0), side(offset)];
                for (i, bin) in bins.iter().enumerate() {
                    if fill == "none" && sides.iter().all(|side| side[i].is_none()) {
                        continue;
                    }
                    let mut row = vec![label(*bin), Json::from(["cart", "pay"][service])];
                    let earlier = |side: &[Option<i64>], by: usize| i.checked_sub(by).and_then(|i| side[i]);
                    let functions: [&Function<'_>; 5] = [
                        &|side| Json::from(side[i]),
                        &|side| Json::from(side[i].zip(earlier(side, 1)).map(|(now, then)| now - then)),
                        &|side| Json::from(side[..=i].iter().flatten().sum::<i64>()),
                        &|side| {
                            let last: Vec<i64> = side[i.saturating_sub(2)..=i].iter().flatten().copied().collect();
                            let mean = last.iter().sum::<i64>() as f64 / last.len() as f64;
                            if last.is_empty() { Json::Null } else { Json::from(mean) }
                        },
                        &|side| Json::from(earlier(side, (MINUTE / width) as usize)),
                    ];
                    for function in functions {
                        row.extend(sides.iter().map(|side| function(side)));
                    }
                    expected.push(row);
                }
            }
            assert_eq!(ask_counting(&engine, &text, &mut rollups).await, expected, "seed {seed}: {text}");
        }
    }
    assert!(rollups > 0, "the test is of rollups too");
}
