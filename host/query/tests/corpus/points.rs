//! Generated points of every kind of metric: readings of counters that begin anew now and then, deltas, gauges, histograms of both
//! kinds; some sent twice, some of one moment, in no order.
#![allow(unreachable_pub, reason = "a part of one test")]

use prism_model::samples::Random;
use prism_model::{Batch, Intrinsic as I, MetricType, Value};

use super::generate::pick;
use super::support::{self, NOW, Row, SECOND, str};

const SERVICES: [&str; 3] = ["shop", "bank", "cart"];
const ROUTES: [Option<&str>; 3] = [Some("/a"), Some("/b"), None];
/// Files over which the points are strewn.
const FILES: usize = 3;
/// Of readings, and of deltas, as OTLP numbers them.
const CUMULATIVE: i64 = 2;
const DELTA: i64 = 1;

/// A metric: name, type, temporality, whether it only grows.
pub const METRICS: [(&str, MetricType, i64, bool); 10] = [
    ("requests", MetricType::Sum, CUMULATIVE, true),
    ("bytes", MetricType::Sum, DELTA, true),
    ("seconds", MetricType::Sum, CUMULATIVE, true),
    ("open", MetricType::Sum, CUMULATIVE, false),
    ("queue", MetricType::Gauge, 0, false),
    ("load", MetricType::Gauge, 0, false),
    ("latency", MetricType::Histogram, CUMULATIVE, false),
    ("sizes", MetricType::Histogram, DELTA, false),
    ("waits", MetricType::ExponentialHistogram, CUMULATIVE, false),
    ("steps", MetricType::ExponentialHistogram, DELTA, false),
];

/// What a counter or histogram has counted.
#[derive(Clone, Debug, Default)]
struct Counted {
    value: i64,
    buckets: Vec<i64>,
    zeros: i64,
    /// Of exponential histograms: index of the first bucket, and the scale.
    offset: i64,
    scale: i64,
    below: Vec<i64>,
}

/// A point of a series.
#[derive(Clone, Debug)]
struct Point {
    time: i64,
    /// 0: none was told.
    start: i64,
    counted: Counted,
}

fn list(of: impl Iterator<Item = Value>) -> Value {
    Value::Array(of.collect())
}

fn counts(of: &[i64]) -> Value {
    list(of.iter().map(|n| Value::Int(*n)))
}

/// Bounds of a series' buckets: two layouts.
fn bounds(service: usize) -> &'static [f64] {
    if service == 2 { &[-5.0, 0.0, 50.0] } else { &[5.0, 10.0, 25.0, 100.0] }
}

/// The columns of a point, the same whenever it is sent.
fn fixed(metric: usize, service: usize, point: &Point) -> Vec<(I, Value)> {
    let (name, ty, ..) = METRICS[metric];
    let r = &mut Random(point.time as u64 | 1);
    let counted = &point.counted;
    let mut fixed = vec![(I::Time, Value::Int(point.time))];
    if point.start != 0 {
        fixed.push((I::StartTime, Value::Int(point.start)));
    }
    let sum = || Value::Double(counted.value as f64 / 4.0);
    let all = counted.buckets.iter().chain(&counted.below).sum::<i64>() + counted.zeros;
    match ty {
        MetricType::Histogram => {
            let bounds = bounds(service);
            fixed.extend([(I::Count, Value::Int(all)), (I::Sum, sum()), (I::BucketCounts, counts(&counted.buckets))]);
            fixed.push((I::ExplicitBounds, list(bounds.iter().map(|bound| Value::Double(*bound)))));
            let (first, last) = (counted.buckets[0] > 0, counted.buckets.last().is_some_and(|n| *n > 0));
            // The least and greatest lie in the buckets that end there.
            if first && r.one_in(2) {
                fixed.push((I::Min, Value::Double(bounds[0] - 1.0 - r.below(8) as f64)));
            }
            if last && r.one_in(2) {
                fixed.push((I::Max, Value::Double(bounds[bounds.len() - 1] + 1.0 + r.below(80) as f64)));
            }
        }
        MetricType::ExponentialHistogram => {
            fixed.extend([
                (I::Count, Value::Int(all)),
                (I::Sum, sum()),
                (I::Scale, Value::Int(counted.scale)),
                (I::ZeroCount, Value::Int(counted.zeros)),
                (I::ZeroThreshold, Value::Double([0.0, 0.01][service % 2])),
                (I::PositiveOffset, Value::Int(counted.offset)),
                (I::PositiveCounts, counts(&counted.buckets)),
            ]);
            if !counted.below.is_empty() {
                fixed.extend([
                    (I::NegativeOffset, Value::Int(counted.offset + 1)),
                    (I::NegativeCounts, counts(&counted.below)),
                ]);
            }
        }
        _ if ["bytes", "load", "seconds"].contains(&name) => {
            fixed.push((I::ValueDouble, Value::Double(counted.value as f64 / 8.0)));
        }
        _ => fixed.push((I::ValueInt, Value::Int(counted.value))),
    }
    fixed
}

/// Buckets of which each holds two of before.
fn coarser(buckets: &[i64], offset: i64) -> (Vec<i64>, i64) {
    let first = offset.div_euclid(2);
    let mut wider = vec![0; ((offset + buckets.len() as i64 - 1).div_euclid(2) - first + 1) as usize];
    for (i, n) in (offset..).zip(buckets) {
        wider[(i.div_euclid(2) - first) as usize] += n;
    }
    (wider, first)
}

/// What was measured in a step: added to readings, a delta by itself.
fn measured(r: &mut Random, ty: MetricType, service: usize, of: &Counted) -> Counted {
    let some = |r: &mut Random, many: usize| (0..many).map(|_| [0, 0, 1, 5, 12][r.below(5)]).collect::<Vec<i64>>();
    let value = r.below(40) as i64;
    match ty {
        MetricType::Histogram => Counted { value, buckets: some(r, bounds(service).len() + 1), ..Counted::default() },
        MetricType::ExponentialHistogram => Counted {
            value,
            buckets: some(r, of.buckets.len()),
            below: some(r, of.below.len()),
            zeros: [0, 0, 3][r.below(3)],
            ..of.clone()
        },
        _ => Counted { value, ..Counted::default() },
    }
}

fn added(to: &Counted, more: &Counted) -> Counted {
    let sums = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| a + b).collect();
    Counted {
        value: to.value + more.value,
        buckets: sums(&to.buckets, &more.buckets),
        below: sums(&to.below, &more.below),
        zeros: to.zeros + more.zeros,
        ..to.clone()
    }
}

/// Nothing counted yet, in the buckets of a series.
fn nothing(r: &mut Random, ty: MetricType, service: usize) -> Counted {
    match ty {
        MetricType::Histogram => Counted { buckets: vec![0; bounds(service).len() + 1], ..Counted::default() },
        MetricType::ExponentialHistogram => Counted {
            buckets: vec![0; 3 + r.below(5)],
            below: vec![0; if service == 1 { 2 } else { 0 }],
            offset: r.below(9) as i64 - 4,
            scale: r.below(4) as i64 - 1,
            ..Counted::default()
        },
        _ => Counted::default(),
    }
}

/// The points of a series in their order.
fn series(r: &mut Random, ty: MetricType, temporality: i64, service: usize) -> Vec<Point> {
    let (mut time, known) = (NOW - 1_400 * SECOND + r.below(300) as i64 * SECOND, r.one_in(2));
    let (mut start, mut so_far) = (time, nothing(r, ty, service));
    let mut points = Vec::new();
    for _ in 0..20 + r.below(25) {
        let before = time;
        time += (1 + r.below(90)) as i64 * SECOND / 2;
        match temporality {
            DELTA => (start, so_far) = (before, measured(r, ty, service, &so_far)),
            CUMULATIVE => {
                if r.one_in(9) {
                    // Begins anew, which is told by its start or by its value alone.
                    so_far = if r.one_in(3) {
                        nothing(r, ty, service)
                    } else {
                        Counted { value: 0, zeros: 0, ..so_far.clone() }
                    };
                    so_far.buckets.fill(0);
                    so_far.below.fill(0);
                    start = if r.one_in(2) { time } else { start };
                }
                let more = measured(r, ty, service, &so_far);
                so_far = added(&so_far, &more);
                if ty == MetricType::ExponentialHistogram && so_far.scale > -3 && r.one_in(9) {
                    let (buckets, offset) = coarser(&so_far.buckets, so_far.offset);
                    // The other side begins one bucket behind.
                    let (below, first) = coarser(&so_far.below, so_far.offset + 1);
                    let gap = vec![0; if so_far.below.is_empty() { 0 } else { (first - offset - 1).max(0) as usize }];
                    let kept =
                        if so_far.below.is_empty() || first < offset + 1 { None } else { Some([gap, below].concat()) };
                    // What cannot be written so stays finer.
                    if let Some(below) = kept.or_else(|| so_far.below.is_empty().then(Vec::new)) {
                        so_far = Counted { buckets, below, offset, scale: so_far.scale - 1, ..so_far };
                    }
                }
            }
            _ => so_far = measured(r, ty, service, &so_far),
        }
        points.push(Point { time, start: if known { start } else { 0 }, counted: so_far.clone() });
    }
    points
}

/// All points, strewn over files.
pub fn batches() -> Vec<Batch> {
    let mut r = Random(23);
    let mut files: Vec<Vec<Row>> = vec![Vec::new(); FILES];
    for (metric, (_, ty, temporality, _)) in METRICS.iter().enumerate() {
        for service in 0..SERVICES.len() {
            for route in ROUTES {
                let mut points = series(&mut r, *ty, *temporality, service);
                // Sent again; and another reading of the same moment, perhaps of a counter that began anew just then.
                let again: Vec<Point> = points.iter().filter(|_| r.one_in(6)).cloned().collect();
                let mut odd: Vec<Point> = points.iter().filter(|_| r.one_in(12)).cloned().collect();
                for point in &mut odd {
                    let half = |of: &[i64]| of.iter().map(|n| n / 2).collect::<Vec<i64>>();
                    let of = &mut point.counted;
                    (of.value, of.zeros) = (of.value / 2, of.zeros / 2);
                    (of.buckets, of.below) = (half(&of.buckets), half(&of.below));
                    if point.start != 0 && r.one_in(2) {
                        point.start = point.time;
                    }
                }
                points.extend(again.into_iter().chain(odd));
                for point in &points {
                    let attributes = route.map(|route| ("route", str(route))).into_iter();
                    let attributes = attributes.chain(Some(("shard", Value::Int(7)))).collect();
                    let fixed = fixed(metric, service, point);
                    files[r.below(FILES)].push(Row { fixed, attributes, resource: service, metric, ..Row::default() });
                }
            }
        }
    }
    let resources = SERVICES.map(|name| Row { attributes: vec![("service.name", str(name))], ..Row::default() });
    let descriptor = |(name, ty, temporality, grows): &(&str, MetricType, i64, bool)| Row {
        fixed: vec![
            (I::Name, str(name)),
            (I::Type, Value::Int(*ty as i64)),
            (I::Temporality, Value::Int(*temporality)),
            (I::Monotonic, Value::Bool(*grows)),
            (I::Unit, str(pick(&mut Random(name.len() as u64), &["s", "By"]))),
        ],
        ..Row::default()
    };
    let descriptors: Vec<Row> = METRICS.iter().map(descriptor).collect();
    // Which comes first is chance.
    for rows in &mut files {
        for at in (1..rows.len()).rev() {
            rows.swap(at, r.below(at + 1));
        }
    }
    files.iter().map(|rows| support::points(&resources, &descriptors, rows)).collect()
}
