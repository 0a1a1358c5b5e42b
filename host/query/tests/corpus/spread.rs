//! Random questions about how values are spread, each in Prism's text and in SQL: counts by buckets between the least and the
//! greatest value of a group, or of all groups.
#![allow(unreachable_pub, reason = "a part of one test")]

use prism_model::samples::Random;
use serde_json::Value as Json;

use super::compare::{Check, Pair, near};
use super::generate::{self, pick};

/// What a question is about.
pub struct Asked {
    /// Rows, up to their `where`.
    pub from: String,
    /// Conditions in both languages.
    pub rows: generate::Both,
    /// A key of groups, and how it compares.
    pub key: (generate::Both, Check),
    pub value: generate::Both,
    /// Its numbers are whole, so that SQL tells without a rounding where they lie.
    pub ints: bool,
    /// Nanoseconds, of which the ends of buckets are whole ones.
    pub whole: bool,
}

/// A question about spans.
pub fn pair(r: &mut Random) -> Pair {
    let (prism, sql, ints, whole) = pick(
        r,
        &[
            ("size", "[size@int]", true, false),
            ("duration", "duration", true, true),
            ("delta", "[delta@int]", true, false),
            ("ratio", "[ratio@double]", false, false),
            ("log10(duration)", "log10(duration)", false, false),
        ],
    );
    let value = generate::both(prism, sql);
    let asked =
        Asked { from: "from spans".into(), rows: generate::condition(r, 1), key: generate::key(r), value, ints, whole };
    question(r, &asked)
}

/// A histogram or heatmap of what is asked, exact or not.
pub fn question(r: &mut Random, asked: &Asked) -> Pair {
    let Asked { from, rows, key: (key, check), value, ints, whole } = asked;
    let (ints, whole, n) = (*ints, *whole, 1 + r.below(60));
    let (function, share) = pick(r, &[("histogram", "partition by k"), ("heatmap", "")]);
    let exact = r.one_in(2);
    let of = format!("{function}({}, {n})", value.prism);
    let of = if exact { format!("exact({of})") } else { of };
    let prism = format!("{from} where {} by {} as k select {of} as h, count() as n limit 10000", rows.prism, key.prism);
    let seen = format!(
        "with v as (select {} as k, {} as x from {{t}} where {}), e as (select k, x, min(x) over ({share}) as lo, max(x) over \
         ({share}) as hi from v where x is not null), g as (select k, count(*) as n from v group by k)",
        key.sql, value.sql, rows.sql
    );
    if exact && ints {
        let sql = format!(
            "{seen}, b as (select k, case when lo = hi then 0 else least((x - lo) * {n} // (hi - lo), {n} - 1) end as i, count(*) \
             as c from e group by 1, 2), ends as (select distinct k, lo, hi, case when lo = hi then 1 else {n} end as m from e), \
             every as (select k, lo, hi, m, unnest(range(0, m)) as i from ends), h as (select every.k as k, list(struct_pack(\"from\" \
             := lo + (hi - lo) * every.i / m, \"to\" := lo + (hi - lo) * (every.i + 1) / m, \"count\" := coalesce(b.c, 0)) order by \
             every.i) as h from every left join b on b.k is not distinct from every.k and b.i = every.i group by 1) select g.k, h.h, \
             g.n from g left join h on h.k is not distinct from g.k"
        );
        return Pair { prism, sql, checks: vec![*check, Check::Buckets { whole }, Check::Equal], only: None };
    }
    let sql = format!(
        "{seen}, h as (select k, list(x order by x) as x, any_value(lo) as lo, any_value(hi) as hi from e group by k) select g.k, \
         h.x, h.lo, h.hi, g.n from g left join h on h.k is not distinct from g.k"
    );
    Pair { prism, sql, checks: vec![*check, Check::Spread { n, exact, whole }, Check::Equal], only: None }
}

/// Whether buckets are those of SQL.
pub fn same(ours: &Json, theirs: &Json, whole: bool) -> bool {
    let (Some(ours), Some(theirs)) = (ours.as_array(), theirs.as_array()) else { return ours == theirs };
    let same = |(ours, theirs): (&Json, &Json)| {
        let ends = ["from", "to"].iter().all(|end| match (ours[end].as_f64(), theirs[end].as_f64()) {
            (Some(a), Some(b)) => near(a, b, whole),
            _ => false,
        });
        ends && ours["count"].is_u64() && ours["count"] == theirs["count"]
    };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
}

/// Whether `n` buckets hold these values, or one where all are alike: the ends lie at the least and greatest, the others evenly between them, and each bucket
/// counts what lies between its ends, but for what is as near to one of them as may count beside it.
pub fn fits(ours: &Json, theirs: &[Json], n: usize, exact: bool, whole: bool) -> bool {
    let Some(values) = theirs[0].as_array() else { return ours.is_null() && theirs[0].is_null() };
    let (Some(ours), Some(low), Some(high)) = (ours.as_array(), theirs[1].as_f64(), theirs[2].as_f64()) else {
        return false;
    };
    let values: Vec<f64> = values.iter().filter_map(Json::as_f64).collect();
    let number = |bucket: &Json, name: &str| bucket[name].as_f64().unwrap_or(f64::NAN);
    let round = if whole { 1.0 } else { 0.0 };
    let about = |edge: f64| if exact { 1e-9 * edge.abs() } else { 0.01 * edge.abs() } + 1e-12;
    let (Some(first), Some(last)) = (ours.first(), ours.last()) else { return false };
    let (begin, end) = (number(first, "from"), number(last, "to"));
    let wide = high - low > about(low) + about(high) + 2.0 * round;
    let many = ours.len() == n || (ours.len() == 1 && !wide);
    let ends = (begin - low).abs() <= about(low) + round && (end - high).abs() <= about(high) + round;
    let step = (end - begin) / ours.len() as f64;
    let even = ours.iter().enumerate().all(|(i, bucket)| {
        let at =
            |edge: f64, i: usize| (edge - (begin + step * i as f64)).abs() <= 1e-9 * (begin.abs() + end.abs()) + round;
        at(number(bucket, "from"), i) && at(number(bucket, "to"), i + 1)
    });
    let mut below = 0;
    let counted = ours.iter().enumerate().all(|(i, bucket)| {
        below += bucket["count"].as_u64().unwrap_or(0) as usize;
        if i + 1 == ours.len() {
            return below == values.len();
        }
        let edge = number(bucket, "to");
        let beside = |value: f64| about(value).max(about(edge)) + round;
        let least = values.partition_point(|value| *value < edge - beside(*value));
        let most = values.partition_point(|value| *value <= edge + beside(*value));
        (least..=most).contains(&below)
    });
    values.len() == theirs[0].as_array().map_or(0, Vec::len) && many && ends && even && counted
}
