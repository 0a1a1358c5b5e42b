//! Random questions about what histograms counted, each in Prism's text and in SQL: buckets one by one, of readings the growth of
//! each, and the value up to which a part of all lies where each bucket's lie evenly in it.
#![allow(unreachable_pub, reason = "a part of one test")]

use prism_model::samples::Random;

use super::compare::{Check, Pair};
use super::generate::{both, pick};
use super::metrics::{POINTS, grouped, keys};
use super::series;

/// By group (`g`) and point the ends and count of each bucket, of explicit histograms. `{from}` is the begin of the range.
const EXPLICIT: &str = "
    cells as (select id, unnest(range(1, len(bucket_counts) + 1)) as i, unnest(bucket_counts) as n from once),
    both_ as (select o.*, c.i, c.n, coalesce(b.n, 0) as b from once o join cells c on c.id = o.id left join cells b on b.id = o.pid and \
     b.i = c.i),
    whole as (select id, any_value(case when tp = 1 then true when pid is null then s >= {from} else anew end) or bool_or(tp <> 1 and \
     pid is not null and n < b) as whole from both_ group by id),
    grown as (select both_.*, whole, len(bucket_counts) as last, case when whole then n when pid is null then 0 else n - b end as more \
     from both_ join whole using (id)),
    ends as (select g, more as n, case when i > 1 then list_extract(explicit_bounds, i - 1) when whole and lowest is not null then lowest \
     else least(list_extract(explicit_bounds, 1), 0) end as a, case when i < last then list_extract(explicit_bounds, i) when whole and \
     highest is not null then highest else list_extract(explicit_bounds, i - 1) end as z from grown where more > 0)";

/// The same of exponential histograms: what two readings have in common are the buckets of the coarser one.
const EXPONENTIAL: &str = "
    cells as (select id, 1 as side, positive_offset + unnest(range(0, len(positive_counts))) as i, unnest(positive_counts) as n from \
     once where positive_counts is not null union all select id, -1, negative_offset + unnest(range(0, len(negative_counts))), \
     unnest(negative_counts) from once where negative_counts is not null union all select id, 0, 0, zero_count from once),
    both_ as (select id, side, i, sum(n) as n, sum(b) as b from (select o.id, c.side, cast(floor(c.i / pow(2, o.scale - o.coarse)) as \
     bigint) as i, c.n, 0 as b from once o join cells c on c.id = o.id where o.pid is not null union all select o.id, c.side, \
     cast(floor(c.i / pow(2, o.before - o.coarse)) as bigint), 0, c.n from once o join cells c on c.id = o.pid) group by all),
    whole as (select o.id, case when tp = 1 then true when pid is null then s >= {from} else anew or exists (select 1 from both_ where \
     both_.id = o.id and both_.n < both_.b) end as whole from once o),
    grown as (select c.*, o.g, o.scale, o.zero_threshold as zt from cells c join once o using (id) join whole using (id) where whole \
     union all select b.id, b.side, b.i, b.n - b.b, o.g, o.coarse, o.zero_threshold from both_ b join once o using (id) join whole using \
     (id) where not whole and o.tp <> 1),
    reach as (select id, bool_or(side = 1 and n > 0) as above, bool_or(side = -1 and n > 0) as below from grown group by id),
    ends as (select g, n, case side when 1 then pow(2, i * pow(2, -scale)) when -1 then -pow(2, (i + 1) * pow(2, -scale)) else case when \
     below then -zt else 0 end end as a, case side when 1 then pow(2, (i + 1) * pow(2, -scale)) when -1 then -pow(2, i * pow(2, -scale)) \
     else case when above then zt else 0 end end as z from grown join reach using (id) where n > 0)";

/// By group the value up to which `rank` of `total` measurements lie: the first edge of a bucket up to which so many do, or where
/// between it and the edge before.
fn value(name: &str, rank: &str) -> String {
    format!(
        "{name} as (select g, case when before is null or upto - here <= under then e when rank > upto - here then e else before + (e \
         - before) * greatest(rank - under, 0) / (upto - here - under) end as x from (select *, {rank} as rank from upto) where upto >= \
         rank qualify row_number() over (partition by g order by e) = 1)"
    )
}

/// One question.
pub fn pair(r: &mut Random) -> Pair {
    let (range, from, to) = series::range(r, 1_300);
    let exponential = r.one_in(2);
    let (names, ty) = if exponential { (["waits", "steps"], 4) } else { (["latency", "sizes"], 3) };
    let rows = match r.below(3) {
        0 => both(
            format!("type = {}", ["histogram", "exponential_histogram"][usize::from(exponential)]),
            format!("ty = {ty}"),
        ),
        _ => {
            let name = pick(r, &names);
            both(format!("name = '{name}'"), format!("m = '{name}'"))
        }
    };
    let some = pick(
        r,
        &[
            both("true", "true"),
            both("service.name = 'cart'", "svc = 'cart'"),
            both("route != '/a'", "coalesce(route <> '/a', false)"),
            both("count > 20", "c > 20"),
        ],
    );
    let of = pick(r, &[both("true", "true"), both("true", "true"), both("service.name != 'bank'", "svc <> 'bank'")]);
    let (function, q) = pick(
        r,
        &[
            ("p50(value)", 0.5),
            ("p95(value)", 0.95),
            ("p99(value)", 0.99),
            ("quantile(value, 0.1)", 0.1),
            ("quantile(value, 1)", 1.0),
        ],
    );
    let keys = keys(r);
    let (by, columns, mut checks) = grouped(&keys);
    let names: Vec<String> = (0..keys.len()).map(|i| format!("k{i}")).collect();
    let order = if names.is_empty() { "1".to_owned() } else { names.join(", ") };
    let shown: String = names.iter().map(|name| format!("any_value({name}) as {name}, ")).collect();
    let counts = if exponential {
        "coalesce(list_sum(positive_counts), 0) + coalesce(list_sum(negative_counts), 0) + coalesce(zero_count, 0)"
    } else {
        "list_sum(bucket_counts)"
    };
    let buckets = if exponential { EXPONENTIAL } else { EXPLICIT }.replace("{from}", &from.to_string());
    // A little beside the rank in both directions, since sums of parts are not told to the last digit.
    let (low, high) = (
        value("low", &format!("{q} * (1 - 1e-10) * total")),
        value("high", &format!("least({q} * (1 + 1e-10), 1 - 1e-15) * total")),
    );
    let sql = format!(
        "with {POINTS}, seen as (select *, dense_rank() over (order by {order}) as g from (select {columns}* from p where {} and {} and t \
         >= {from} and t < {to})), numbered as (select *, row_number() over () as id, {counts} as total from seen where {}), once as (select \
         *, lag(id) over w as pid, lag(scale) over w as before, least(scale, coalesce(lag(scale) over w, scale)) as coarse, coalesce(s <> \
         lag(s) over w and s <> 0 and lag(s) over w <> 0, false) as anew from (select * from numbered qualify row_number() over (partition \
         by m, svc, route, t, case when tp = 1 then s end order by s desc, total desc) = 1) window w as (partition by m, svc, route order \
         by t)), {buckets}, sound as (select g, n, least(a, z) as a, greatest(a, z) as z from ends), edges as (select distinct g, \
         unnest(list_value(a, z)) as e from sound), upto as (select *, lag(e) over (partition by g order by e) as before, lag(upto) over \
         (partition by g order by e) as under, max(upto) over (partition by g) as total from (select g, e, sum(n * case when z <= e then \
         1 when a >= e then 0 else (e - a) / (z - a) end) as upto, sum(case when a = e and z = e then n else 0 end) as here from edges join \
         sound using (g) group by g, e)), {low}, {high} select {shown}any_value(low.x), any_value(high.x), count(*) from seen left join low \
         on low.g = seen.g left join high on high.g = seen.g{}",
        rows.sql,
        some.sql,
        of.sql,
        if names.is_empty() { "" } else { " group by seen.g" }
    );
    checks.extend([Check::Between, Check::Equal]);
    Pair {
        prism: format!(
            "from metrics {range} where {} and {}{by} select ({function} where {}) as q, count() as n limit 10000",
            rows.prism, some.prism, of.prism
        ),
        sql: sql.replace('\n', " "),
        checks,
        only: None,
    }
}
