//! Random questions about metric points, each in Prism's text and in SQL: aggregates of values as they are, and the growth of
//! counters, reading by reading in the order of time.
#![allow(unreachable_pub, reason = "a part of one test")]

use prism_model::samples::Random;

use super::compare::{Check, Pair};
use super::generate::{Both, both, pick};
use super::points::METRICS;
use super::series;
use super::spread::{self, Asked};

/// What tells series apart.
const SERIES: &str = "m, svc, route";

/// The points that a question is about, with short names; a start that nobody told is 0.
pub const POINTS: &str = "p as (select metric_name as m, metric_type as ty, metric_temporality as tp, metric_monotonic as up, \
                          metric_unit as unit, \"resource:service:name\" as svc, [route] as route, time as t, coalesce(start_time, 0) as s, \
                          coalesce(\"value@int\"::double, \"value@double\") as v, \"count\" as c, \"sum\" as su, \"min\" as lowest, \
                          \"max\" as highest, bucket_counts, explicit_bounds, scale, zero_count, zero_threshold, positive_offset, \
                          positive_counts, negative_offset, negative_counts from {t})";

/// The type of a metric by its name in Prism.
const TYPE: &str =
    "case ty when 1 then 'gauge' when 2 then 'sum' when 3 then 'histogram' when 4 then 'exponential_histogram' end";
const TEMPORALITY: &str = "case tp when 0 then 'unspecified' when 1 then 'delta' when 2 then 'cumulative' end";

/// A condition on points; in SQL never null.
fn condition(r: &mut Random) -> Both {
    let name = pick(r, &METRICS).0;
    pick(
        r,
        &[
            both("true", "true"),
            both(format!("name = '{name}'"), format!("m = '{name}'")),
            both(format!("name = '{name}'"), format!("m = '{name}'")),
            both("type in (sum, gauge)", "ty in (1, 2)"),
            both("temporality = delta", "tp = 1"),
            both("service.name != 'cart'", "svc <> 'cart'"),
            both("route = '/a'", "coalesce(route = '/a', false)"),
            both("not exists(route)", "route is null"),
            both("value > 10", "coalesce(v > 10, false)"),
            both("sum / count > 2.5", "coalesce(su / nullif(c, 0) > 2.5, false)"),
            both("length(bucket_counts) = 4", "coalesce(len(bucket_counts) = 4, false)"),
            both("bucket_counts contains 5", "coalesce(list_contains(bucket_counts, 5), false)"),
            both("monotonic = true and unit = 's'", "up and unit = 's'"),
        ],
    )
}

/// Keys of groups, and how they compare.
pub fn keys(r: &mut Random) -> Vec<(Both, Check, i64)> {
    let (width, nanos) = pick(r, &[("1m", 60_000_000_000_i64), ("30s", 30_000_000_000), ("5m", 300_000_000_000)]);
    let bin = (both(format!("bin(time, {width})"), format!("t // {nanos} * {nanos}")), Check::Time, nanos);
    let of = |prism: &str, sql: &str| (both(prism, sql), Check::Equal, 0);
    let mut all = [
        bin,
        of("service.name", "svc"),
        of("route", "route"),
        of("name", "m"),
        of("type", TYPE),
        of("temporality", TEMPORALITY),
    ]
    .to_vec();
    (0..r.below(3)).map(|_| all.remove(r.below(all.len()))).collect()
}

/// The clause `by` and the columns of its keys, `k0`, `k1` …
pub fn grouped(keys: &[(Both, Check, i64)]) -> (String, String, Vec<Check>) {
    let prism: Vec<String> = keys.iter().enumerate().map(|(i, (key, ..))| format!("{} as k{i}", key.prism)).collect();
    let sql: Vec<String> = keys.iter().enumerate().map(|(i, (key, ..))| format!("{} as k{i}, ", key.sql)).collect();
    let by = if prism.is_empty() { String::new() } else { format!(" by {}", prism.join(", ")) };
    (by, sql.concat(), keys.iter().map(|(_, check, _)| *check).collect())
}

/// `group by` of the first columns.
pub fn group_by(keys: usize) -> String {
    let numbers: Vec<String> = (1..=keys).map(|i| i.to_string()).collect();
    if keys == 0 { String::new() } else { format!(" group by {}", numbers.join(", ")) }
}

/// Values of points as they are.
fn plain(r: &mut Random) -> Pair {
    let (range, from, to) = series::range(r, 1_300);
    let (rows, keys) = (condition(r), keys(r));
    let (by, columns, mut checks) = grouped(&keys);
    let q = pick(r, &[("p50", 0.5), ("p95", 0.95)]);
    let at = |round: &str| {
        format!(
            "list_extract(list_sort(list(v) filter (where v is not null)), 1 + cast({round}({} * (count(v) - 1)) as bigint))",
            q.1
        )
    };
    let ends = "struct_extract({end}(struct_pack(t := t, v := {sign}v)) filter (where v is not null), 'v') * {sign}1";
    let end = |end: &str, sign: &str| ends.replace("{end}", end).replace("{sign}", sign);
    let of_numbers = [
        (format!("exact({}(value))", q.0), format!("{}, {}", at("floor"), at("ceil")), Check::Quantile),
        (
            format!("{}(value) where type in (gauge, sum)", q.0),
            format!("{}, {}", at("floor"), at("ceil")),
            Check::Quantile,
        ),
        // Of several at one time the greatest.
        ("last(value)".to_owned(), end("max", ""), Check::Equal),
        ("first(value)".to_owned(), end("min", "-"), Check::Equal),
    ];
    let simple = [
        ("count(value)", "count(v)"),
        ("sum(value)", "coalesce(sum(v), 0)"),
        ("avg(value)", "avg(v)"),
        ("min(value)", "min(v)"),
        ("max(value)", "max(v)"),
        ("stddev(value)", "stddev_samp(v)"),
        ("sum(count)", "coalesce(sum(c), 0)"),
        ("max(sum / count)", "max(su / nullif(c, 0))"),
        ("max(max - min)", "max(highest - lowest)"),
        ("max(length(explicit_bounds))", "max(len(explicit_bounds))"),
        ("min(scale)", "min(scale)"),
        ("exact(count_distinct(route))", "count(distinct route)"),
        ("count() where exists(start_time)", "count(*) filter (where s <> 0)"),
        ("sum(value) where service.name = 'shop'", "coalesce(sum(v) filter (where svc = 'shop'), 0)"),
    ];
    let mut all: Vec<(String, String, Check)> =
        simple.iter().map(|(prism, sql)| ((*prism).to_owned(), (*sql).to_owned(), Check::Close)).collect();
    all.extend(of_numbers);
    let chosen: Vec<_> = (0..1 + r.below(3)).map(|_| pick(r, &all)).collect();
    checks.extend(chosen.iter().map(|(.., check)| *check));
    checks.push(Check::Equal);
    let prism: Vec<String> = chosen.iter().enumerate().map(|(i, (of, ..))| format!("({of}) as a{i}")).collect();
    let sql: Vec<&str> = chosen.iter().map(|(_, of, _)| of.as_str()).collect();
    Pair {
        prism: format!(
            "from metrics {range} where {}{by} select {}, count() as n limit 10000",
            rows.prism,
            prism.join(", ")
        ),
        sql: format!(
            "with {POINTS} select {columns}{}, count(*) from p where {} and t >= {from} and t < {to}{}",
            sql.join(", "),
            rows.sql,
            group_by(keys.len())
        ),
        checks,
        only: None,
    }
}

/// How much counters grew.
fn growth(r: &mut Random) -> Pair {
    let (range, from, to) = series::range(r, 1_300);
    let (rows, keys) = (condition(r), keys(r));
    let (by, columns, mut checks) = grouped(&keys);
    let (prism, x, fits) = pick(
        r,
        &[
            ("value", "v", "ty = 2 and up"),
            ("value", "v", "ty = 2 and up"),
            ("value", "v", "ty = 2 and up"),
            ("count", "c", "ty in (3, 4)"),
            ("sum", "su", "ty in (3, 4)"),
        ],
    );
    let of = pick(
        r,
        &[
            both("true", "true"),
            both("true", "true"),
            both("service.name = 'shop'", "svc = 'shop'"),
            both("exists(route)", "route is not null"),
        ],
    );
    let seconds = match keys.iter().find(|(.., nanos)| *nanos > 0) {
        Some((.., nanos)) => *nanos as f64 / 1e9,
        None => (to - from) as f64 / 1e9,
    };
    // Of copies one counts: of readings of one time that since the newest start, of these the greatest.
    let once = format!(
        "once as (select * from seen where x is not null and fits qualify row_number() over (partition by {SERIES}, t, case when \
         tp = 1 then s end order by s desc, x desc) = 1)"
    );
    let grew = format!(
        "grew as (select *, case when tp = 1 then x when before is null then case when s >= {from} then x else 0 end when x < \
         before or (s <> since and s <> 0 and since <> 0) then x else x - before end as g from (select *, lag(x) over w as before, \
         lag(s) over w as since from once window w as (partition by {SERIES} order by t)))"
    );
    let names: Vec<String> = (0..keys.len()).map(|i| format!("k{i}")).collect();
    let names = if names.is_empty() { String::new() } else { format!("{}, ", names.join(", ")) };
    let sql = format!(
        "with {POINTS}, seen as (select {columns}*, {x} as x, ({fits} and {}) as fits from p where {} and t >= {from} and t < {to}), \
         {once}, {grew} select {names}sum(g), sum(g) / {seconds}, count(n) from (select {names}g, null as n from grew union all select \
         {names}null, 1 from seen){}",
        of.sql,
        rows.sql,
        group_by(keys.len())
    );
    checks.extend([Check::Close, Check::Close, Check::Equal]);
    Pair {
        prism: format!(
            "from metrics {range} where {}{by} select (increase({prism}) where {}) as grew, (rate({prism}) where {}) as a_second, \
             count() as n limit 10000",
            rows.prism, of.prism, of.prism
        ),
        sql,
        checks,
        only: None,
    }
}

/// How the values of gauges and counters are spread.
fn values(r: &mut Random) -> Pair {
    let keys: Vec<(Both, Check)> = vec![
        (both("service.name", "\"resource:service:name\""), Check::Equal),
        (both("name", "metric_name"), Check::Equal),
        (both("bin(time, 2m)", "time // 120000000000 * 120000000000"), Check::Time),
    ];
    let of = |prism: &str, sql: &str, ints: bool| (both(prism, sql), ints);
    let (value, ints) = pick(
        r,
        &[
            of("value", "coalesce(\"value@int\"::double, \"value@double\")", false),
            of("count", "\"count\"", true),
            of("sum", "\"sum\"", false),
        ],
    );
    let asked = Asked {
        from: "from metrics".into(),
        rows: pick(r, &[both("true", "true"), both("route = '/b'", "coalesce([route] = '/b', false)")]),
        key: pick(r, &keys),
        value,
        ints,
        whole: false,
    };
    spread::question(r, &asked)
}

/// One question.
pub fn pair(r: &mut Random) -> Pair {
    match r.below(9) {
        0..3 => plain(r),
        3 => values(r),
        _ => growth(r),
    }
}
