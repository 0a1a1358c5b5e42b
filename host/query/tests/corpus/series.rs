//! Random questions over time bins, each in Prism's text and in SQL: bins without rows, functions over bins as windows, an
//! earlier range as a full join.
#![allow(unreachable_pub, reason = "a part of one test")]

use prism_model::samples::Random;

use super::compare::{Check, Pair};
use super::generate::{Both, both, pick};
use super::support::{NOW, SECOND};

const MINUTE: i64 = 60 * SECOND;

/// A time in both languages: so many seconds before now.
fn time(before: i64) -> (String, i64) {
    let at = NOW - before * SECOND;
    let (minute, second) = (60 - (before + 59) / 60, (60 - before % 60) % 60);
    (format!("t'2026-01-01T11:{minute:02}:{second:02}Z'"), at)
}

/// A range within the rows', whose ends need not be those of bins.
pub fn range(r: &mut Random, earliest: i64) -> (String, i64, i64) {
    let from = earliest - r.below(300) as i64;
    let to = from - 120 - r.below((from - 180).max(1) as usize) as i64;
    let ((begin, from), (end, to)) = (time(from), time(to.max(1)));
    (format!("from {begin} to {end}"), from, to)
}

fn condition(r: &mut Random) -> Both {
    let (prism, sql) = pick(
        r,
        &[
            ("", "true"),
            (" where status = error", "status = 2"),
            (" where duration > 1ms", "duration > 1000000"),
            (" where service.name != 'cart'", "\"resource:service:name\" <> 'cart'"),
            (" where name = 'no such'", "name = 'no such'"),
        ],
    );
    both(prism, sql)
}

/// Aggregates of a bin, and what `fill 0` makes of them where there is no row.
fn aggregate(r: &mut Random) -> Both {
    let (prism, sql) = pick(
        r,
        &[
            ("count()", "count(*)"),
            ("count(size)", "count([size@int])"),
            ("max(duration)", "max(duration)"),
            ("sum(size)", "coalesce(sum([size@int]), 0)"),
            ("avg(ratio)", "avg([ratio@double])"),
            ("count() where status = error", "count(*) filter (where status = 2)"),
        ],
    );
    both(prism, sql)
}

/// A function over bins of `x`, over a window of the series; `j` tells how many bins up to this one have a value.
fn function(r: &mut Random, width: i64) -> (String, String, Check) {
    let bins = |before: i64, until: i64| {
        format!(
            "over (partition by k order by b range between {} preceding and {} preceding)",
            before * width,
            until * width
        )
    };
    let n = 2 + r.below(4) as i64;
    match r.below(6) {
        0 => ("diff(x)".into(), format!("x - first_value(x) {}", bins(1, 1)), Check::Close),
        1 => ("cumsum(x)".into(), "coalesce(sum(x) over (partition by k order by b), 0)".into(), Check::Close),
        2 => (format!("moving_avg(x, {n})"), format!("avg(x) {}", bins(n - 1, 0)), Check::Close),
        // The first value weighs as all that would lie before it.
        3 => {
            let (alpha, rest) = pick(r, &[("0.1", "0.9"), ("0.3", "0.7"), ("0.5", "0.5"), ("0.8", "0.2")]);
            let window = format!(
                "pow({rest}, j) * sum(x * (case when j = 1 then 1 else {alpha} end) * pow({rest}, -j)) over (partition by k order by b)"
            );
            (format!("ewma(x, {alpha})"), window, Check::Close)
        }
        4 => (format!("shift(x, {}s)", n * width / SECOND), format!("first_value(x) {}", bins(n, n)), Check::Close),
        _ => (
            format!("zscore(x, {n})"),
            format!("(x - avg(x) {0}) / nullif(stddev_samp(x) {0}, 0)", bins(n, 1)),
            Check::Close,
        ),
    }
}

/// Bins, filled or not, and a function over them.
fn bins(r: &mut Random) -> Pair {
    let (range, from, to) = range(r, 1_300);
    let (text, width) = pick(r, &[("1m", MINUTE), ("30s", MINUTE / 2), ("2m", 2 * MINUTE)]);
    let (c, of) = (condition(r), aggregate(r));
    let grouped = r.one_in(2);
    let fill = pick(r, &["none", "null", "0", "previous"]);
    let (function, window, check) = function(r, width);
    let key = if grouped { "\"resource:service:name\"" } else { "0" };
    let found = format!(
        "found as (select {key} as k, time // {width} * {width} as b, {} as x from {{t}} where {} and time >= {from} and time < {to} \
         group by 1, 2)",
        of.sql, c.sql
    );
    // Without other groups there is one series, even of no rows.
    let series = if grouped { "select distinct k from found" } else { "select 0 as k" };
    let all = format!(
        "every as (select k, b from ({series}) cross join (select unnest(range({from} // {width} * {width}, {to}, {width})) as b))"
    );
    let filled = match fill {
        "none" => "grid as (select k, b, x from found)".to_owned(),
        "null" => "grid as (select k, b, x from every left join found using (k, b))".to_owned(),
        "0" => "grid as (select k, b, case when found.k is null then 0 else x end as x from every left join found using (k, b))"
            .to_owned(),
        _ => "grid as (select k, b, (last_value(case when there then struct_pack(v := x) end ignore nulls) over (partition by k order by b)).v as x from \
              (select every.k as k, every.b as b, x, found.k is not null as there from every left join found using (k, b)))"
            .to_owned(),
    };
    let by = if grouped { ", service.name" } else { "" };
    let shown = if grouped { "k, " } else { "" };
    let mut checks = vec![Check::Time];
    checks.extend(grouped.then_some(Check::Equal));
    checks.extend([Check::Close, check]);
    Pair {
        prism: format!(
            "from spans {range}{} by bin(time, {text}) as b{by} fill {fill} select {} as x, {function} as f limit 10000",
            c.prism, of.prism
        ),
        sql: format!(
            "with {found}, {all}, {filled}, ranked as (select *, count(x) over (partition by k order by b) as j from grid) select b, \
             {shown}x, {window} as f from ranked"
        ),
        checks,
        only: None,
    }
}

/// An earlier range beside the query's own.
fn earlier(r: &mut Random) -> Pair {
    let (range, from, to) = range(r, 900);
    let (text, offset) = pick(r, &[("1m", MINUTE), ("5m", 5 * MINUTE), ("90s", 3 * MINUTE / 2)]);
    let (c, of) = (condition(r), aggregate(r));
    let (by, key, check) = pick(
        r,
        &[
            ("service.name", "\"resource:service:name\"", Check::Equal),
            ("name", "name", Check::Equal),
            ("status", "case status when 0 then 'unset' when 1 then 'ok' else 'error' end", Check::Equal),
            ("bin(time, 30s)", "(time + {later}) // 30000000000 * 30000000000", Check::Time),
        ],
    );
    let side = |later: i64| {
        format!(
            "(select {} as k, count(*) as n, {} as x from {{t}} where {} and time >= {} and time < {} group by 1)",
            key.replace("{later}", &later.to_string()),
            of.sql,
            c.sql,
            from - later,
            to - later
        )
    };
    Pair {
        prism: format!(
            "from spans {range}{} by {by} as k select count() as n, {} as x limit 10000 compare {text}",
            c.prism, of.prism
        ),
        sql: format!(
            "select coalesce(a.k, z.k), a.n, z.n, a.x, z.x from {} a full join {} z on a.k = z.k",
            side(0),
            side(offset)
        ),
        checks: vec![check, Check::Equal, Check::Equal, Check::Close, Check::Close],
        only: None,
    }
}

/// One question.
pub fn pair(r: &mut Random) -> Pair {
    if r.one_in(3) { earlier(r) } else { bins(r) }
}
