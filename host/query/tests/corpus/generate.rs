//! Random queries, each in Prism's text and in SQL that means the same.
//!
//! SQL knows three truth values and Prism two: a comparison with a missing value is false, so that each one becomes
//! `coalesce(…, false)`. Integers divide to doubles, and what cannot be computed is null.
#![allow(unreachable_pub, reason = "a part of one test")]

use prism_model::samples::Random;

use super::compare::{Check, Pair};

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    Int,
    Double,
    Text,
    Bool,
}

use Type::{Bool, Double, Int, Text};

/// An expression in both languages.
#[derive(Clone, Debug)]
pub struct Both {
    pub prism: String,
    pub sql: String,
}

pub fn both(prism: impl Into<String>, sql: impl Into<String>) -> Both {
    Both { prism: prism.into(), sql: sql.into() }
}

pub fn pick<T: Clone>(r: &mut Random, of: &[T]) -> T {
    of[r.below(of.len())].clone()
}

/// Fields by their type, with their columns.
fn field(r: &mut Random, ty: Type) -> Both {
    let (prism, sql) = match ty {
        Int => pick(
            r,
            &[
                ("http.response.status_code", "[http.response.status_code@int]"),
                ("size", "[size@int]"),
                ("attr.size", "[size@int]"),
                ("duration", "duration"),
                ("delta", "[delta@int]"),
            ],
        ),
        Double => pick(r, &[("ratio", "[ratio@double]"), ("attr.ratio", "[ratio@double]")]),
        Text => pick(
            r,
            &[
                ("http.route", "[http.route]"),
                ("name", "name"),
                ("user.id", "[user.id]"),
                ("service.name", "\"resource:service:name\""),
                ("resource.service.name", "\"resource:service:name\""),
                ("`odd key, it is`", "[odd key, it is]"),
            ],
        ),
        Bool => ("cached", "[cached@bool]"),
    };
    both(prism, sql)
}

fn quoted(text: &str) -> String {
    format!("'{text}'")
}

fn literal(r: &mut Random, ty: Type) -> Both {
    let same = |text: String| both(text.clone(), text);
    match ty {
        Int => same(pick(r, &["0", "1", "7", "200", "404", "500", "1000000", "-3", "250"]).to_owned()),
        Double => same(pick(r, &["0.5", "0.25", "1.5", "-2.0", "100.0"]).to_owned()),
        Text => {
            same(quoted(pick(r, &["GET /", "charge", "ünï", "/cart", "/cart/items", "u7", "shop", "", "A", "bank"])))
        }
        Bool => same(pick(r, &["true", "false"]).to_owned()),
    }
}

/// A value of a type, null where it cannot be computed.
fn value(r: &mut Random, ty: Type, depth: usize) -> Both {
    if depth == 0 || r.one_in(3) {
        return if r.one_in(5) { literal(r, ty) } else { field(r, ty) };
    }
    let choose = |r: &mut Random| {
        let (c, a, b) = (condition(r, depth - 1), value(r, ty, depth - 1), value(r, ty, depth - 1));
        both(
            format!("if({}, {}, {})", c.prism, a.prism, b.prism),
            format!("(case when {} then {} else {} end)", c.sql, a.sql, b.sql),
        )
    };
    let coalesce = |r: &mut Random| {
        let (a, b) = (field(r, ty), value(r, ty, depth - 1));
        both(format!("coalesce({}, {})", a.prism, b.prism), format!("coalesce({}, {})", a.sql, b.sql))
    };
    match (ty, r.below(10)) {
        (_, 0) => choose(r),
        (_, 1) => coalesce(r),
        (Int, 2..6) => {
            let (a, b, op) = (value(r, Int, depth - 1), value(r, Int, depth - 1), pick(r, &["+", "-"]));
            // In SQL too wide to overflow, as no sum of these does in Prism.
            both(
                format!("({} {op} {})", a.prism, b.prism),
                format!("cast(({}::hugeint {op} {}::hugeint) as bigint)", a.sql, b.sql),
            )
        }
        (Int, 6) => {
            let (a, m) = (field(r, Int), pick(r, &[2, 7, 100]));
            both(format!("({} % {m})", a.prism), format!("({} % {m})", a.sql))
        }
        (Int, 7) => {
            let (a, width) = (field(r, Int), pick(r, &[10, 100, 250]));
            both(
                format!("bucket({}, {width})", a.prism),
                format!("cast(floor({}::double / {width}) * {width} as bigint)", a.sql),
            )
        }
        (Int, 8) => {
            let a = value(r, Text, depth - 1);
            both(format!("length({})", a.prism), format!("length({})", a.sql))
        }
        (Int, _) => pick(
            r,
            &[
                both("abs(delta)", "abs([delta@int])"),
                both("hour(time)", "((time // 3600000000000) % 24)"),
                both("weekday(time)", "((time // 86400000000000 + 3) % 7 + 1)"),
                both("(size * 3)", "([size@int] * 3)"),
                both("(- delta)", "(- [delta@int])"),
            ],
        ),
        (Double, 2..5) => {
            let (a, b) = (value(r, Int, depth - 1), value(r, Int, depth - 1));
            both(format!("({} / {})", a.prism, b.prism), format!("({}::double / nullif({}, 0))", a.sql, b.sql))
        }
        (Double, 5) => {
            let (a, b) = (value(r, Int, depth - 1), field(r, Double));
            both(format!("({} + {})", a.prism, b.prism), format!("({} + {})", a.sql, b.sql))
        }
        (Double, _) => pick(
            r,
            &[
                both("sqrt(size)", "(case when [size@int] >= 0 then sqrt([size@int]) end)"),
                both("(ratio * 2.5)", "([ratio@double] * 2.5)"),
                both("floor(ratio)", "floor([ratio@double])"),
                both("ceil(ratio * 10)", "ceil([ratio@double] * 10)"),
                both("(duration / 1000000)", "(duration / 1000000.0)"),
                both("pow(delta, 2)", "pow([delta@int], 2)"),
            ],
        ),
        (Text, 2) => {
            let a = value(r, Text, depth - 1);
            both(format!("upper({})", a.prism), format!("upper({})", a.sql))
        }
        (Text, 3) => {
            let a = value(r, Text, depth - 1);
            both(format!("lower({})", a.prism), format!("lower({})", a.sql))
        }
        (Text, 4 | 5) => {
            let (a, from, n) = (value(r, Text, depth - 1), 1 + r.below(3), 1 + r.below(4));
            both(format!("substr({}, {from}, {n})", a.prism), format!("substr({}, {from}, {n})", a.sql))
        }
        (Text, 6) => {
            let a = value(r, Text, depth - 1);
            both(format!("replace({}, 'a', 'oo')", a.prism), format!("replace({}, 'a', 'oo')", a.sql))
        }
        (Text, 7) => {
            let a = field(r, Int);
            // A duration's text has its unit.
            if a.prism == "duration" {
                return field(r, Text);
            }
            both(format!("text({})", a.prism), format!("cast({} as varchar)", a.sql))
        }
        (Text, 8) => {
            let (a, pattern) = (field(r, Text), pick(r, &["(a+)", "/(c|p)", "u(..?)"]));
            both(
                format!("extract({}, '{pattern}', 1)", a.prism),
                format!(
                    "(case when regexp_matches({0}, '{pattern}') then regexp_extract({0}, '{pattern}', 1) end)",
                    a.sql
                ),
            )
        }
        (Bool, _) => {
            // Alone, a field that is missing would be null in Prism.
            let a = condition(r, depth - 1);
            both(format!("if({}, true, false)", a.prism), a.sql)
        }
        (_, _) => field(r, ty),
    }
}

/// A condition, in SQL never null.
pub fn condition(r: &mut Random, depth: usize) -> Both {
    if depth > 0 && r.one_in(2) {
        let parts: Vec<Both> = (0..2 + r.below(2)).map(|_| condition(r, depth - 1)).collect();
        let join = |of: &dyn Fn(&Both) -> &String, word: &str| {
            let all: Vec<String> = parts.iter().map(|part| format!("({})", of(part))).collect();
            format!("({})", all.join(word))
        };
        return match r.below(5) {
            0 | 1 => both(join(&|p| &p.prism, " and "), join(&|p| &p.sql, " and ")),
            2 | 3 => both(join(&|p| &p.prism, " or "), join(&|p| &p.sql, " or ")),
            _ => both(format!("not ({})", parts[0].prism), format!("(not {})", parts[0].sql)),
        };
    }
    let sure = |prism: String, sql: String| both(prism, format!("coalesce({sql}, false)"));
    let ty = pick(r, &[Int, Int, Text, Text, Double]);
    match r.below(12) {
        0..4 => {
            let (a, b, op) = (field(r, ty), literal(r, ty), pick(r, &["=", "=", "!=", "<", "<=", ">", ">="]));
            sure(format!("{} {op} {}", a.prism, b.prism), format!("{} {op} {}", a.sql, b.sql))
        }
        4 | 5 => {
            let (a, b, op) = (value(r, ty, 1), value(r, ty, 1), pick(r, &["=", "!=", "<", ">="]));
            sure(format!("{} {op} {}", a.prism, b.prism), format!("{} {op} {}", a.sql, b.sql))
        }
        6 => {
            let (a, text) = (field(r, Text), pick(r, &["a", "/c", "GE", "ü", "u1"]));
            let (op, function) = pick(
                r,
                &[
                    ("contains", "contains"),
                    ("starts_with", "starts_with"),
                    ("ends_with", "ends_with"),
                    ("=~", "regexp_matches"),
                ],
            );
            let prism = format!("{} {op} '{text}'", a.prism);
            match (r.below(4), op) {
                (0, "=~") => {
                    sure(format!("{} !~ '{text}'", a.prism), format!("not regexp_matches({}, '{text}')", a.sql))
                }
                (0, _) => {
                    sure(format!("{} not {op} '{text}'", a.prism), format!("not {function}({}, '{text}')", a.sql))
                }
                (1, "contains") => sure(
                    format!("{} icontains '{text}'", a.prism),
                    format!("contains(lower({}), lower('{text}'))", a.sql),
                ),
                _ => sure(prism, format!("{function}({}, '{text}')", a.sql)),
            }
        }
        7 => {
            let (a, list): (Both, Vec<Both>) = (field(r, ty), (0..1 + r.below(3)).map(|_| literal(r, ty)).collect());
            let (not, list) =
                (pick(r, &["", "not "]), list.iter().map(|l| l.sql.clone()).collect::<Vec<_>>().join(", "));
            sure(format!("{} {not}in ({list})", a.prism), format!("{} {not}in ({list})", a.sql))
        }
        8 => {
            let (a, low, high, not) = (field(r, Int), literal(r, Int), literal(r, Int), pick(r, &["", "not "]));
            sure(
                format!("{} {not}between {} and {}", a.prism, low.prism, high.prism),
                format!("{} {not}between {} and {}", a.sql, low.sql, high.sql),
            )
        }
        9 => {
            let ty = pick(r, &[Int, Text, Double, Bool]);
            let a = field(r, ty);
            // What a span always has is there even where it is its default.
            both(format!("exists({})", a.prism), format!("({} is not null)", a.sql))
        }
        10 => pick(
            r,
            &[
                both("status = error", "(status = 2)"),
                both("status != ok", "(status <> 1)"),
                both("kind = server", "(kind = 2)"),
                both("kind in (client, producer)", "(kind in (3, 4))"),
                both("mixed = 'm1'", "coalesce([mixed] = 'm1', false)"),
                both("mixed = 2", "coalesce([mixed@int] = 2, false)"),
                both("duration > 2ms", "(duration > 2000000)"),
            ],
        ),
        _ => {
            let a = field(r, Bool);
            sure(a.prism, a.sql)
        }
    }
}

/// An aggregate, and how it compares; `{f}` is where its condition goes in SQL.
fn aggregate(r: &mut Random) -> (Both, Check) {
    let number = |r: &mut Random| {
        let ty = pick(r, &[Int, Int, Double]);
        value(r, ty, 1)
    };
    match r.below(14) {
        0..3 => (both("count()", "count(*){f}"), Check::Equal),
        3 => {
            let ty = pick(r, &[Int, Text, Double, Bool]);
            let a = field(r, ty);
            (both(format!("count({})", a.prism), format!("count({}){{f}}", a.sql)), Check::Equal)
        }
        4 | 5 => {
            let a = number(r);
            (both(format!("sum({})", a.prism), format!("coalesce(sum({}){{f}}, 0)", a.sql)), Check::Equal)
        }
        6 => {
            let a = number(r);
            (both(format!("avg({})", a.prism), format!("avg({}){{f}}", a.sql)), Check::Equal)
        }
        7 | 8 => {
            let (ty, least) = (pick(r, &[Int, Double, Text]), pick(r, &["min", "max"]));
            let a = value(r, ty, 1);
            (both(format!("{least}({})", a.prism), format!("{least}({}){{f}}", a.sql)), Check::Equal)
        }
        9 => {
            let a = number(r);
            (both(format!("stddev({})", a.prism), format!("stddev_samp({}::double){{f}}", a.sql)), Check::Equal)
        }
        10 => {
            let a = value(r, Text, 1);
            let sql = format!("count(distinct {}){{f}}", a.sql);
            match r.one_in(2) {
                true => (both(format!("exact(count_distinct({}))", a.prism), sql), Check::Equal),
                false => (both(format!("count_distinct({})", a.prism), sql), Check::Distinct),
            }
        }
        11 => {
            let (a, end) = (field(r, Int), pick(r, &["first", "last"]));
            let of = if end == "first" { "arg_min" } else { "arg_max" };
            (both(format!("{end}({})", a.prism), format!("{of}({}, time){{f}}", a.sql)), Check::Equal)
        }
        _ => {
            let (a, (name, q)) = (field(r, Int), pick(r, &[("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]));
            let prism =
                if r.one_in(3) { format!("exact({name}({}))", a.prism) } else { format!("{name}({})", a.prism) };
            let at = |round: &str| {
                format!(
                    "list_extract(list_sort(list({0}){{f}}), 1 + cast({round}({q} * (count({0}){{f}} - 1)) as bigint))",
                    a.sql
                )
            };
            // Lists keep nulls, which sort to the front: they are left out by the condition.
            let sql = format!("{}, {}", at("floor"), at("ceil")).replace("{f}", "{n}");
            (both(prism, sql.replace("{n}", &format!("{{f and {} is not null}}", a.sql))), Check::Quantile)
        }
    }
}

/// Puts the condition of an aggregate in its places.
fn filtered(sql: &str, condition: Option<&str>) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find("{f") {
        out += &rest[..at];
        let end = at + rest[at..].find('}').unwrap();
        let more = rest[at + 2..end].strip_prefix(" and ");
        let all: Vec<&str> = condition.into_iter().chain(more).collect();
        if !all.is_empty() {
            out += &format!(" filter (where {})", all.join(" and "));
        }
        rest = &rest[end + 1..];
    }
    out + rest
}

/// A group's key.
pub fn key(r: &mut Random) -> (Both, Check) {
    match r.below(7) {
        0 => (both("service.name", "\"resource:service:name\""), Check::Equal),
        1 => (both("name", "name"), Check::Equal),
        2 => (both("http.route", "[http.route]"), Check::Equal),
        3 => (both("http.response.status_code", "[http.response.status_code@int]"), Check::Equal),
        4 => {
            let (width, nanos) = pick(r, &[("1m", 60_000_000_000_i64), ("5m", 300_000_000_000), ("7s", 7_000_000_000)]);
            (both(format!("bin(time, {width})"), format!("(time // {nanos} * {nanos})")), Check::Time)
        }
        5 => {
            let ty = pick(r, &[Int, Text]);
            (value(r, ty, 2), Check::Equal)
        }
        _ => (field(r, Bool), Check::Equal),
    }
}

/// One query.
pub fn pair(r: &mut Random) -> Pair {
    let wanted = (!r.one_in(4)).then(|| condition(r, 2));
    let where_ = |sql: bool| match &wanted {
        None => String::new(),
        Some(c) => format!(" where {}", if sql { &c.sql } else { &c.prism }),
    };
    if r.one_in(5) {
        // Rows, told apart by their times.
        let columns: Vec<Both> = (0..1 + r.below(3))
            .map(|_| {
                let ty = pick(r, &[Int, Double, Text, Bool]);
                value(r, ty, 2)
            })
            .collect();
        let (order, limit) = (pick(r, &["", " desc"]), 1 + r.below(60));
        let prism: Vec<String> = columns.iter().enumerate().map(|(i, c)| format!("{} as c{i}", c.prism)).collect();
        let sql: Vec<&str> = columns.iter().map(|c| c.sql.as_str()).collect();
        return Pair {
            prism: format!("from spans{} select {} order time{order} limit {limit}", where_(false), prism.join(", ")),
            sql: format!("select {} from {{t}}{} order by time{order} limit {limit}", sql.join(", "), where_(true)),
            checks: vec![Check::Equal; columns.len()],
            only: None,
        };
    }
    let keys: Vec<(Both, Check)> = (0..r.below(3)).map(|_| key(r)).collect();
    let mut selected = vec![(both("count() as n", "count(*) as n"), Check::Equal)];
    for i in 0..1 + r.below(3) {
        let (of, check) = aggregate(r);
        let filter = r.one_in(3).then(|| condition(r, 1));
        let prism = match &filter {
            None => of.prism,
            Some(f) => format!("({} where {})", of.prism, f.prism),
        };
        let sql = filtered(&of.sql, filter.as_ref().map(|f| f.sql.as_str()));
        selected.push((both(format!("{prism} as a{i}"), sql), check));
    }
    if r.one_in(3) {
        // Doubles of both, since Prism's integers divide to doubles.
        selected.push((
            both(
                "(count() where status = error) / n as share",
                "(count(*) filter (where status = 2))::double / nullif(count(*), 0)",
            ),
            Check::Equal,
        ));
    }
    let having = r.one_in(3).then(|| pick(r, &[1, 3, 20]));
    let limit = (!keys.is_empty() && r.one_in(4)).then(|| 1 + r.below(8));
    let mut prism = format!("from spans{}", where_(false));
    let mut sql = String::from("select ");
    let mut checks = Vec::new();
    for (i, (key, check)) in keys.iter().enumerate() {
        prism += &format!("{} {} as k{i}", if i == 0 { " by" } else { "," }, key.prism);
        sql += &format!("{} as k{i}, ", key.sql);
        checks.push(*check);
    }
    let all = |of: &dyn Fn(&Both) -> String| selected.iter().map(|(b, _)| of(b)).collect::<Vec<_>>().join(", ");
    prism += &format!(" select {}", all(&|b| b.prism.clone()));
    sql += &all(&|b| b.sql.clone());
    checks.extend(selected.iter().map(|(_, check)| *check));
    sql += &format!(" from {{t}}{}", where_(true));
    if !keys.is_empty() {
        let numbers: Vec<String> = (1..=keys.len()).map(|i| i.to_string()).collect();
        sql += &format!(" group by {}", numbers.join(", "));
    }
    if let Some(least) = having {
        prism += &format!(" having n >= {least}");
        sql += &format!(" having count(*) >= {least}");
    }
    let only = limit.map(|_| keys.len());
    match limit {
        Some(limit) => {
            prism += &format!(" order n desc limit {limit}");
            sql += &format!(" order by n desc limit {limit}");
        }
        None => prism += " limit 10000",
    }
    Pair { prism, sql, checks, only }
}
