//! Generated traces, and random questions about how their spans lie, each in Prism's text and in SQL: ancestors by a recursive
//! common table expression, relations as `exists`.
#![allow(unreachable_pub, reason = "a part of one test")]

use prism_model::samples::Random;
use prism_model::{Batch, Intrinsic as I, Signal, Value};

use super::compare::{Check, Pair};
use super::generate::{Both, both, pick};
use super::support::{self, MS, NOW, Row, SECOND, str};

const SERVICES: [&str; 4] = ["shop", "bank", "cart", "ünï"];
const TRACES: usize = 90;
/// Files over which the spans are strewn.
const FILES: usize = 3;

fn resources() -> Vec<Row> {
    SERVICES.iter().map(|name| Row { attributes: vec![("service.name", str(name))], ..Row::default() }).collect()
}

fn trace_id(trace: usize) -> Vec<u8> {
    let mut r = Random(trace as u64 * 77 + 5);
    [(r.number() | 1).to_be_bytes(), r.number().to_be_bytes()].concat()
}

/// Spans with ids and starts of their own: chains and stars, several roots, parents that are not stored.
pub fn spans() -> Vec<Batch> {
    let mut r = Random(42);
    let mut files: Vec<Vec<Row>> = vec![Vec::new(); FILES];
    let mut number = 0;
    for trace in 0..TRACES {
        let begin = NOW - 3_000 * SECOND + r.below(2_400) as i64 * SECOND;
        let deep = r.one_in(3);
        let mut ids: Vec<u64> = Vec::new();
        let most = if r.one_in(10) { 60 } else { 18 };
        for _ in 0..1 + r.below(most) {
            let parent = match r.below(14) {
                _ if ids.is_empty() && !r.one_in(6) => None,
                0 => None,
                1 => Some(r.number() | 1),
                _ if ids.is_empty() => None,
                _ if deep => ids.last().copied(),
                _ => Some(ids[r.below(ids.len())]),
            };
            let id = r.number() | 1;
            ids.push(id);
            // No two begin at once.
            let start = begin + r.below(20_000) as i64 * MS + number;
            let mut fixed = vec![
                (I::Time, Value::Int(start)),
                (I::TraceId, Value::Bytes(trace_id(trace))),
                (I::SpanId, Value::Bytes(id.to_be_bytes().to_vec())),
                (I::Name, str(["GET /", "charge", "ünï", "a b"][r.below(4)])),
                (I::Status, Value::Int([0, 0, 0, 1, 2][r.below(5)])),
                (I::Duration, Value::Int(r.below(8_000) as i64 * MS)),
            ];
            fixed.extend(parent.map(|parent| (I::ParentId, Value::Bytes(parent.to_be_bytes().to_vec()))));
            let attributes = vec![("row", Value::Int(number)), ("k", Value::Int(r.below(4) as i64))];
            files[r.below(FILES)].push(Row { fixed, attributes, resource: r.below(SERVICES.len()), ..Row::default() });
            number += 1;
        }
    }
    files.iter().map(|rows| support::batch(Signal::Spans, &resources(), &[], rows)).collect()
}

/// Log records of some of the traces, and of none.
pub fn logs() -> Vec<Batch> {
    let mut r = Random(43);
    let row = |number: usize, r: &mut Random| {
        let mut fixed = vec![
            (I::Time, Value::Int(NOW - 3_000 * SECOND + r.below(2_400_000) as i64 * MS + number as i64)),
            (I::Severity, Value::Int([5, 9, 9, 13, 17][r.below(5)])),
        ];
        if !r.one_in(4) {
            fixed.push((I::TraceId, Value::Bytes(trace_id(r.below(TRACES + 20)))));
        }
        let attributes = vec![("size", Value::Int(r.below(1_000) as i64))];
        Row { fixed, attributes, resource: r.below(SERVICES.len()), ..Row::default() }
    };
    let rows: Vec<Row> = (0..400).map(|number| row(number, &mut r)).collect();
    rows.chunks(200).map(|rows| support::batch(Signal::Logs, &resources(), &[], rows)).collect()
}

/// The spans, and of each those above it with how far they are.
const SPANS: &str = "with recursive s as materialized (select [row@int] as r, [k@int] as k, \"resource:service:name\" as svc, \
                     name, status as st, duration as dur, time as ts, trace_id as t, span_id as i, parent_id as p from {t}), \
                     above as materialized (select t, i, p as a, 1 as far from s where p is not null union all select above.t, \
                     above.i, s.p, above.far + 1 from above join s on s.t = above.t and s.i = above.a where s.p is not null) ";

/// What a span is asked for; `$` is its alias.
fn condition(r: &mut Random) -> Both {
    let (prism, sql) = pick(
        r,
        &[
            ("k = 1", "$.k = 1"),
            ("k = 2", "$.k = 2"),
            ("k in (0, 3)", "$.k in (0, 3)"),
            ("k != 0", "$.k <> 0"),
            ("status = error", "$.st = 2"),
            ("not (status = error)", "$.st <> 2"),
            ("service.name = 'shop'", "$.svc = 'shop'"),
            ("service.name in ('bank', 'ünï')", "$.svc in ('bank', 'ünï')"),
            ("duration > 4s", "$.dur > 4000000000"),
            ("name = 'charge' and duration < 5s", "$.name = 'charge' and $.dur < 5000000000"),
            ("name = 'charge' or k = 3", "$.name = 'charge' or $.k = 3"),
            ("true", "true"),
        ],
    );
    both(prism, format!("({sql})"))
}

/// What the second span must be to the first.
const RELATIONS: [&str; 5] = [">", ">>", "<", "<<", "~"];

fn relation(op: &str, x: &str, y: &str) -> String {
    let above = |low: &str, high: &str| {
        format!("exists (select 1 from above n where n.t = {low}.t and n.i = {low}.i and n.a = {high}.i)")
    };
    let of = match op {
        ">" => format!("{y}.p = {x}.i"),
        "<" => format!("{x}.p = {y}.i"),
        ">>" => above(y, x),
        "<<" => above(x, y),
        _ => format!("{x}.p = {y}.p and {x}.i <> {y}.i"),
    };
    format!("({x}.t = {y}.t and {of})")
}

/// A condition between two spans.
fn between(r: &mut Random, x: &str, y: &str) -> Both {
    let (prism, sql) = pick(
        r,
        &[
            ("Y.time - X.time < 3s", "Y.ts - X.ts < 3000000000"),
            ("X.duration > Y.duration", "X.dur > Y.dur"),
            ("X.k = Y.k", "X.k = Y.k"),
            ("X.service.name != Y.service.name", "X.svc <> Y.svc"),
            ("X.k + Y.k > 3 or Y.time < X.time", "(X.k + Y.k > 3 or Y.ts < X.ts)"),
        ],
    );
    let named = |text: &str| text.replace("X.", &format!("{x}.")).replace("Y.", &format!("{y}."));
    both(format!("({})", named(prism)), named(sql))
}

fn alias(condition: &Both, alias: &str) -> String {
    condition.sql.replace('$', alias)
}

/// Rows of `match`: its text, and the condition in SQL that makes a span `z` one of them.
fn matched(r: &mut Random) -> (String, String) {
    let [a, b, c] = [(); 3].map(|()| condition(r));
    let (op, then) = (pick(r, &RELATIONS), pick(r, &RELATIONS));
    let exists = |name: &str, of: &Both, rest: &str| {
        format!("exists (select 1 from s {name} where {} and {rest})", alias(of, name))
    };
    let none = |name: &str, of: &Both, rest: &str| format!("not {}", exists(name, of, rest));
    let two = format!("match (a: {}, b: {}", a.prism, b.prism);
    let three = format!("{two}, c: {}", c.prism);
    let (of_a, of_b, of_c) = (alias(&a, "z"), alias(&b, "z"), alias(&c, "z"));
    // The second of a chain, which has its first above or below it.
    let second = |last: &str| {
        let first = exists("a", &a, &relation(op, "a", "b"));
        format!("exists (select 1 from s b where {} and {first} and {})", alias(&b, "b"), relation(last, "b", "z"))
    };
    match r.below(17) {
        0 => (format!("{two} where a {op} b)"), format!("{of_b} and {}", exists("a", &a, &relation(op, "a", "z")))),
        1 => {
            let lies = exists("b", &b, &relation(op, "z", "b"));
            (format!("{two} where a {op} b) return a"), format!("{of_a} and {lies}"))
        }
        2 => (format!("{two} where a !{op} b)"), format!("{of_b} and {}", none("a", &a, &relation(op, "a", "z")))),
        3 => (format!("{two} where not (a {op} b))"), format!("{of_b} and {}", none("a", &a, &relation(op, "a", "z")))),
        4 => {
            let (left, right) = (exists("b", &b, &relation(op, "z", "b")), exists("a", &a, &relation(op, "a", "z")));
            (format!("{two} where a &{op} b)"), format!("(({of_b} and {right}) or ({of_a} and {left}))"))
        }
        5 => {
            let test = between(r, "a", "b");
            let rest = format!("{} and {}", relation(op, "a", "z"), test.sql.replace("b.", "z."));
            (format!("{two} where a {op} b and {})", test.prism), format!("{of_b} and {}", exists("a", &a, &rest)))
        }
        6 => {
            let test = between(r, "a", "b");
            let rest = format!("{} and {}", relation(op, "a", "z"), test.sql.replace("b.", "z."));
            (format!("{two} where not (a {op} b and {}))", test.prism), format!("{of_b} and {}", none("a", &a, &rest)))
        }
        7 => {
            let text = pick(r, &["", " where a and b"]);
            (format!("{two}{text})"), format!("{of_b} and {}", exists("a", &a, "a.t = z.t")))
        }
        8 => (format!("{two} where b and not a)"), format!("{of_b} and {}", none("a", &a, "a.t = z.t"))),
        9 => (format!("{two} where a or b)"), format!("({of_a} or {of_b})")),
        10 => (format!("{three} where a {op} b {then} c)"), format!("{of_c} and {}", second(then))),
        11 => (format!("{three} where a {op} b !{then} c)"), format!("{of_c} and not {}", second(then))),
        12 | 13 => {
            let (word, sql) = pick(r, &[("and", "and"), ("or", "or")]);
            let (one, other) = (exists("a", &a, &relation(op, "a", "z")), exists("b", &b, &relation(then, "b", "z")));
            (format!("{three} where a {op} c {word} b {then} c)"), format!("{of_c} and ({one} {sql} {other})"))
        }
        14 => {
            let first = exists("a", &a, &format!("{} and {}", relation(op, "a", "b"), relation(">>", "a", "z")));
            let lies = exists("b", &b, &format!("{} and {first}", relation(then, "b", "z")));
            (format!("{three} where a {op} b and b {then} c and a >> c) return c"), format!("{of_c} and {lies}"))
        }
        15 => {
            let test = between(r, "a", "b");
            let rest = format!("a.t = z.t and {}", test.sql.replace("b.", "z."));
            (
                format!("{two} where a and b and {}) return b", test.prism),
                format!("{of_b} and {}", exists("a", &a, &rest)),
            )
        }
        _ => {
            // Nothing of a third in the whole trace.
            let lies = exists("a", &a, &relation(op, "a", "z"));
            (
                format!("{three} where a {op} b and not c)"),
                format!("{of_b} and {lies} and {}", none("c", &c, "c.t = z.t")),
            )
        }
    }
}

fn equal(prism: String, sql: String, columns: usize) -> Pair {
    Pair { prism, sql, checks: vec![Check::Equal; columns], only: None }
}

/// Which other span stands beside a row, of several that match.
fn beside(r: &mut Random) -> Pair {
    let (a, b) = (condition(r), condition(r));
    let (op, first) = pick(
        r,
        &[
            (">", "a.ts"),
            ("<", "a.ts"),
            ("~", "a.ts"),
            (">>", "(select n.far from above n where n.t = z.t and n.i = z.i and n.a = a.i)"),
        ],
    );
    let lies = relation(op, "a", "z");
    let shown =
        |what: &str| format!("(select a.{what} from s a where {} and {lies} order by {first} limit 1)", alias(&a, "a"));
    let prism = format!("match (a: {}, b: {} where a {op} b)", a.prism, b.prism);
    let sql = format!("from s z where {} and {} is not null", alias(&b, "z"), shown("r"));
    if r.one_in(2) {
        return equal(
            format!("from spans {prism} select row, a.row, a.name, a.duration limit 10000"),
            format!("{SPANS} select z.r, {}, {}, {} {sql}", shown("r"), shown("name"), shown("dur")),
            4,
        );
    }
    equal(
        format!(
            "from spans {prism} by a.service.name as x, name select count() as n, max(a.duration) as most limit 10000"
        ),
        format!("{SPANS} select {} as x, z.name, count(*), max({}) {sql} group by 1, 2", shown("svc"), shown("dur")),
        4,
    )
}

/// The time that children of each span cover of it.
const COVERED: &str = "covered as (select t, i, sum(greatest(0, ends - greatest(begins, coalesce(before, begins)))) as busy from \
                       (select *, max(ends) over (partition by t, i order by begins, ends rows between unbounded preceding and 1 \
                       preceding) as before from (select o.t, o.i, greatest(c.ts, o.ts) as begins, least(c.ts + c.dur, o.ts + \
                       o.dur) as ends from s c join s o on o.t = c.t and o.i = c.p)) group by 1, 2)";

/// Parents, roots and own times.
fn relatives(r: &mut Random) -> Pair {
    let root = |what: &str| format!("(select x.{what} from s x where x.t = z.t and x.p is null order by x.ts limit 1)");
    let parent = |what: &str| format!("(select x.{what} from s x where x.t = z.t and x.i = z.p)");
    let own = "z.dur - coalesce((select busy from covered c where c.t = z.t and c.i = z.i), 0)";
    let c = condition(r);
    let filter = alias(&c, "z");
    match r.below(5) {
        0 => equal(
            format!(
                "from spans where ({}) and parent.k > 1 by parent.service.name as x select count() as n, sum(duration) as d",
                c.prism
            ),
            format!(
                "{SPANS} select {} as x, count(*), sum(z.dur) from s z where {filter} and {} > 1 group by 1",
                parent("svc"),
                parent("k")
            ),
            3,
        ),
        1 => equal(
            format!(
                "from spans where ({}) by root.service.name as x, root.name as y select count() as n, max(duration) as d",
                c.prism
            ),
            format!(
                "{SPANS} select {} as x, {} as y, count(*), max(z.dur) from s z where {filter} group by 1, 2",
                root("svc"),
                root("name")
            ),
            4,
        ),
        2 => equal(
            format!("from spans where ({}) select row, parent.row, root.row, self_duration limit 10000", c.prism),
            format!("{SPANS}, {COVERED} select z.r, {}, {}, {own} from s z where {filter}", parent("r"), root("r")),
            4,
        ),
        3 => equal(
            format!("from spans where ({}) by service.name select sum(self_duration) as own, count() as n", c.prism),
            format!("{SPANS}, {COVERED} select z.svc, sum({own}), count(*) from s z where {filter} group by 1"),
            3,
        ),
        _ => equal(
            format!("from spans where ({}) and self_duration < duration / 2 by name select count() as n", c.prism),
            format!(
                "{SPANS}, {COVERED} select z.name, count(*) from s z where {filter} and {own} < z.dur / 2.0 group by 1"
            ),
            2,
        ),
    }
}

/// Traces as rows.
fn whole(r: &mut Random) -> Pair {
    const OF: &str = "of as (select t, min(ts) as ts, max(ts + dur) - min(ts) as dur, count(*) as spans, count(*) filter (where st = \
                      2) as errors, count(distinct svc) as services, arg_min(name, ts) filter (where p is null) as root, \
                      arg_min(svc, ts) filter (where p is null) as svc from s group by t)";
    let (text, rows) = if r.one_in(2) { matched(r) } else { (String::new(), "true".into()) };
    let text =
        text.trim_end_matches(" return a").trim_end_matches(" return c").trim_end_matches(" return b").to_owned();
    let found = format!("t in (select z.t from s z where {rows})");
    let (only, filter) = pick(
        r,
        &[
            ("", "true"),
            (" where span_count > 6", "spans > 6"),
            (" where error_count = 0 and service_count > 2", "errors = 0 and services > 2"),
            (" where duration > 15s", "dur > 15000000000"),
            (" where root.service.name = 'shop'", "svc = 'shop'"),
        ],
    );
    match r.below(3) {
        0 => equal(
            format!(
                "from traces {text}{only} select trace_id, duration, span_count, error_count, service_count, root.name limit 10000"
            ),
            format!(
                "{SPANS}, {OF} select lower(hex(t)), dur, spans, errors, services, root from of where {filter} and {found}"
            ),
            6,
        ),
        1 => equal(
            format!(
                "from traces {text}{only} by root.service.name as x select count() as n, max(duration) as d, sum(span_count) as m"
            ),
            format!(
                "{SPANS}, {OF} select svc, count(*), max(dur), sum(spans) from of where {filter} and {found} group by 1"
            ),
            4,
        ),
        _ => {
            let limit = 1 + r.below(12);
            let prism = format!("from traces {text}{only} select time, duration, span_count order time limit {limit}");
            let sql = format!(
                "{SPANS}, {OF} select ts, dur, spans from of where {filter} and {found} order by ts limit {limit}"
            );
            Pair { prism, sql, checks: vec![Check::Time, Check::Equal, Check::Equal], only: None }
        }
    }
}

/// Rows of another signal beside spans.
fn joined(r: &mut Random) -> Pair {
    let c = condition(r);
    let filter = alias(&c, "z");
    let (of_logs, logs) = pick(
        r,
        &[
            (
                "",
                "select trace_id as t, severity as sv, [size@int] as size, time as ts, \"resource:service:name\" as svc from {logs}",
            ),
            (
                " where severity >= warn",
                "select trace_id as t, severity as sv, [size@int] as size, time as ts, \"resource:service:name\" as svc from {logs} \
                 where severity >= 13",
            ),
        ],
    );
    let with = format!("{SPANS}, l as materialized ({logs})");
    match r.below(4) {
        0 => equal(
            format!(
                "from spans where ({}) and logs.count > 1 select row, logs.count, logs.max.severity, logs.first.size limit 10000 join logs{of_logs} on trace",
                c.prism
            ),
            format!(
                "{with}, g as (select t, count(*) as n, max(sv) as sv, arg_min(size, ts) as size from l where t is not null group by t) \
                     select z.r, g.n, g.sv, g.size from s z join g on g.t = z.t where {filter} and g.n > 1"
            ),
            4,
        ),
        1 => equal(
            format!(
                "from spans where ({}) by service.name select count() as n, sum(logs.count) as m join logs{of_logs} on trace",
                c.prism
            ),
            format!(
                "{with}, g as (select t, count(*) as n from l where t is not null group by t) select z.svc, count(*), \
                     sum(coalesce(g.n, 0)) from s z left join g on g.t = z.t where {filter} group by 1"
            ),
            3,
        ),
        2 => equal(
            format!(
                "from spans where ({}) by trace_id select trace_id, count() as n, logs.count, sum(logs.size) as m limit 10000 join logs{of_logs} on trace",
                c.prism
            ),
            format!(
                "{with}, g as (select t, count(*) as n, sum(size) as m from l where t is not null group by t), k as (select t, \
                     count(*) as n from s z where {filter} group by t) select lower(hex(k.t)), k.n, coalesce(g.n, 0), \
                     coalesce(g.m, 0) from k left join g on g.t = k.t"
            ),
            4,
        ),
        _ => {
            let (width, nanos) = pick(r, &[("1m", 60_000_000_000_i64), ("5m", 300_000_000_000)]);
            Pair {
                prism: format!(
                    "from spans where ({}) by bin(time, {width}), service.name select count() as n, logs.count limit 10000 join \
                     logs{of_logs} on bin, service.name",
                    c.prism
                ),
                sql: format!(
                    "{with}, g as (select ts // {nanos} * {nanos} as b, svc, count(*) as n from l group by 1, 2), k as (select \
                     z.ts // {nanos} * {nanos} as b, z.svc, count(*) as n from s z where {filter} group by 1, 2) select k.b, \
                     k.svc, k.n, coalesce(g.n, 0) from k left join g on g.b = k.b and g.svc = k.svc"
                ),
                checks: vec![Check::Time, Check::Equal, Check::Equal, Check::Equal],
                only: None,
            }
        }
    }
}

/// One question.
pub fn pair(r: &mut Random) -> Pair {
    match r.below(12) {
        0..6 => {
            let (text, rows) = matched(r);
            let (text, end) = match text.split_once(") return ") {
                Some((text, name)) => (format!("{text})"), format!(" return {name}")),
                None => (text, String::new()),
            };
            if r.one_in(3) {
                return equal(
                    format!(
                        "from spans {text} by service.name, k select count() as n, sum(duration) as d{end} limit 10000"
                    ),
                    format!("{SPANS} select z.svc, z.k, count(*), sum(z.dur) from s z where {rows} group by 1, 2"),
                    4,
                );
            }
            equal(
                format!("from spans {text} select row{end} limit 10000"),
                format!("{SPANS} select z.r from s z where {rows}"),
                1,
            )
        }
        6 | 7 => beside(r),
        8 | 9 => relatives(r),
        10 => whole(r),
        _ => joined(r),
    }
}
