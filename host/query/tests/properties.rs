//! Any rows, any conditions: the engine agrees with a row-by-row interpreter, with and without pruning (QU-2), and groups are
//! what grouping by hand gives.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "support/naive.rs"]
mod naive;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array};
use prism_dsl::{Aggregate, BinaryOp, By, Call, Expr, Field, Literal, Pos, Query, Range, Scope, Select, Source};
use prism_model::samples::{self, Random};
use prism_model::{Batch, Column, ColumnId, Signal, Table, TableKind};
use prism_query::{Answer, RunOptions};
use support::{Lab, NOW, tenant};

const NUMBER: &str = "test.row";

/// Generated rows, each with a number of its own.
fn numbered(signal: Signal, rows: usize, seed: u64, first: i64) -> Batch {
    let batch = samples::batch(signal, rows, NOW, seed);
    let (signal, origins) = (batch.signal, batch.origins.clone());
    let tables = batch.into_tables().into_iter().map(|table| {
        let (kind, rows) = (table.kind(), table.rows());
        let columns: Vec<Column> = table.into_columns().into_iter().map(structured).collect();
        if kind != TableKind::Items {
            return Table::try_new(kind, rows, columns).unwrap();
        }
        let numbers = Int64Array::from_iter_values(first..first + rows as i64);
        let number = Column { id: ColumnId::attr(NUMBER, prism_model::AttrType::Int), array: Arc::new(numbers) };
        Table::try_new(kind, rows, columns.into_iter().chain([number]).collect()).unwrap()
    });
    Batch::try_new(signal, origins, tables.collect()).unwrap()
}

/// Generated columns of arrays and maps hold any text: here they hold what such columns may hold.
fn structured(column: Column) -> Column {
    let ColumnId::Attr { ty: prism_model::AttrType::Json, .. } = &column.id else { return column };
    let texts = arrow::compute::cast(&column.array, &arrow::datatypes::DataType::Utf8).unwrap();
    let values = ["null", "[]", "[1,2.5]", "[null,\"a\"]", "[\"GET\",true]"];
    let valid = |text: &str| values[text.len() % values.len()];
    let array: arrow::array::StringArray = texts.as_string::<i32>().iter().map(|t| t.map(valid)).collect();
    Column { id: column.id, array: Arc::new(array) }
}

fn pick<T: Clone>(r: &mut Random, of: &[T]) -> T {
    of[r.below(of.len())].clone()
}

fn field(r: &mut Random, s: Signal) -> Expr {
    let keys = ["http.route", "userId", "userid", "a key, with = odd", "k8s.pod.name", "message", "not.there"];
    let (fixed, part): (&[&str], usize) = match s {
        Signal::Metrics => (&POINT_FIELDS, 2),
        _ => (&["name", "duration", "flags", "trace_id"], 4),
    };
    let mut field = match r.below(part) {
        0 => return Expr::Field(Field::new(pick(r, fixed))),
        _ => Field::new(pick(r, &keys)),
    };
    let own = if s == Signal::Metrics { Scope::Metadata } else { Scope::Attr };
    field.scope = pick(r, &[None, None, Some(Scope::Attr), Some(Scope::Resource), Some(own)]);
    Expr::Field(field)
}

/// Those whose values are words (types, temporalities) read numbers as words: [`of_points`] compares them with words.
const POINT_FIELDS: [&str; 14] = [
    "name",
    "name",
    "unit",
    "description",
    "monotonic",
    "value",
    "value",
    "count",
    "sum",
    "min",
    "flags",
    "zero_count",
    "positive_offset",
    "scale",
];

/// What only points have: names of types and temporalities, lists, exemplars.
fn of_points(r: &mut Random) -> Expr {
    let text = |t: &str| Expr::Literal(Literal::Str(t.to_owned()));
    let named = |r: &mut Random, name: &str, words: &[&str], op: BinaryOp| Expr::Binary {
        op,
        left: Box::new(Expr::Field(Field::new(name))),
        right: Box::new(text(pick(r, words))),
    };
    let list = pick(r, &["bucket_counts", "explicit_bounds", "positive_counts", "negative_counts", "quantiles"]);
    let list = Expr::Field(Field::new(list));
    let equality = pick(r, &[BinaryOp::Eq, BinaryOp::Ne]);
    match r.below(6) {
        0 => named(r, "type", &["gauge", "sum", "histogram", "exponential_histogram", "summary"], equality),
        1 => named(r, "temporality", &["unspecified", "delta", "cumulative"], equality),
        2 => call("exists", vec![list]),
        3 => Expr::Binary {
            op: pick(r, &[BinaryOp::Contains, BinaryOp::NotContains]),
            left: Box::new(list),
            right: Box::new(Expr::Literal(Literal::Int(r.below(40) as i64))),
        },
        _ => {
            let name = pick(r, &["value", "value", "trace_id", "http.route", "userid", "a key, with = odd"]);
            let field = Field { scope: Some(Scope::Exemplar), ..Field::new(name) };
            let op = pick(r, &[BinaryOp::Eq, BinaryOp::Ne, BinaryOp::Lt, BinaryOp::Ge]);
            Expr::Binary { op, left: Box::new(Expr::Field(field)), right: Box::new(literal(r)) }
        }
    }
}

fn literal(r: &mut Random) -> Expr {
    let texts = ["", "a", "GET", "checkout", "ünï", "x=y", "a3", "GET7", "a very long text"];
    Expr::Literal(match r.below(10) {
        0..5 => Literal::Str(pick(r, &texts).to_owned()),
        5..7 => Literal::Int(pick(r, &[0, 1, 3, 7, 30, i64::MAX, i64::MIN, (1 << 53) + 1])),
        7 => Literal::Float(pick(r, &[0.0, 1.5, 3.0, 100.125, 9.3e18, 9_007_199_254_740_992.0])),
        8 => Literal::Bool(r.one_in(2)),
        _ => Literal::Null,
    })
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Call(Call { name: name.into(), args, pos: Pos::NONE })
}

fn value(r: &mut Random, s: Signal, depth: usize) -> Expr {
    use BinaryOp::{Add, Div, Mul, Rem, Sub};
    match r.below(if depth == 0 { 4 } else { 9 }) {
        0..3 => field(r, s),
        3 => literal(r),
        4 | 5 => Expr::Binary {
            op: pick(r, &[Add, Sub, Mul, Div, Rem]),
            left: Box::new(value(r, s, depth - 1)),
            right: Box::new(value(r, s, depth - 1)),
        },
        6 => call("coalesce", vec![value(r, s, depth - 1), value(r, s, depth - 1)]),
        7 => call("if", vec![condition(r, s, depth - 1), value(r, s, depth - 1), value(r, s, depth - 1)]),
        _ => call("lower", vec![field(r, s)]),
    }
}

fn condition(r: &mut Random, s: Signal, depth: usize) -> Expr {
    use BinaryOp::{Contains, EndsWith, Eq, Ge, Gt, IContains, Le, Lt, Match, Ne, NotContains, NotMatch, StartsWith};
    if depth > 0 {
        let two = |r: &mut Random| (0..2 + r.below(2)).map(|_| condition(r, s, depth - 1)).collect();
        match r.below(8) {
            0 | 1 => return Expr::And(two(r)),
            2 | 3 => return Expr::Or(two(r)),
            4 => return Expr::Not(Box::new(condition(r, s, depth - 1))),
            _ => {}
        }
    }
    if s == Signal::Metrics && r.one_in(4) {
        return of_points(r);
    }
    match r.below(12) {
        0..5 => Expr::Binary {
            op: pick(r, &[Eq, Eq, Ne, Lt, Le, Gt, Ge]),
            left: Box::new(field(r, s)),
            right: Box::new(literal(r)),
        },
        5 => Expr::Binary {
            op: pick(r, &[Eq, Ne, Lt, Le, Gt, Ge]),
            left: Box::new(value(r, s, 1)),
            right: Box::new(value(r, s, 1)),
        },
        6 | 7 => Expr::Binary {
            op: pick(r, &[Contains, NotContains, IContains, StartsWith, EndsWith, Match, NotMatch]),
            left: Box::new(field(r, s)),
            right: Box::new(Expr::Literal(Literal::Str(pick(r, &["a", "G", "eck", "ü", ""]).to_owned()))),
        },
        8 => Expr::In {
            expr: Box::new(field(r, s)),
            list: (0..1 + r.below(4)).map(|_| literal(r)).collect(),
            negated: r.one_in(2),
        },
        9 => Expr::Between {
            expr: Box::new(field(r, s)),
            low: Box::new(literal(r)),
            high: Box::new(literal(r)),
            negated: r.one_in(2),
        },
        10 => call("exists", vec![field(r, s)]),
        _ => field(r, s),
    }
}

/// All of time, and more rows than there are.
fn query(s: Signal) -> Query {
    let mut query = Query::new(if s == Signal::Metrics { Source::Metrics } else { Source::Spans });
    query.range = Some(Range::Between { from: i64::MIN, to: i64::MAX });
    query.limit = Some(10_000);
    query
}

fn column(name: &str, expr: Expr) -> Select {
    Select { name: name.into(), expr }
}

fn sorted(answer: &Answer) -> Vec<String> {
    assert!(answer.stats.partial.is_empty(), "{:?}", answer.stats.partial);
    let row = |row| (0..answer.columns.len()).map(|c| answer.cell(row, c).to_string()).collect::<Vec<_>>().join(" | ");
    let mut rows: Vec<String> = (0..answer.rows).map(row).collect();
    rows.sort();
    rows
}

/// How many stores, and queries of each: enough to meet every operator with every type.
const STORES: u64 = 6;
const QUERIES: usize = 120;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qu2_spans_are_those_that_a_row_by_row_interpreter_keeps() {
    rows_are_those_that_a_row_by_row_interpreter_keeps(Signal::Spans).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qu2_points_are_those_that_a_row_by_row_interpreter_keeps() {
    rows_are_those_that_a_row_by_row_interpreter_keeps(Signal::Metrics).await;
}

async fn rows_are_those_that_a_row_by_row_interpreter_keeps(s: Signal) {
    for seed in 0..STORES {
        let r = &mut Random(seed * 7_919 + 11);
        let lab = Lab::new();
        let mut batches = Vec::new();
        for b in 0..4 {
            let batch = numbered(s, 1 + r.below(40), r.below(1 << 40) as u64, b * 1_000);
            lab.add(batch.clone()).await;
            batches.push(batch);
        }
        let rows = naive::rows(&batches);
        let number = Expr::Field(Field::new(NUMBER));
        for n in 0..QUERIES {
            let mut query = query(s);
            let (condition, shown) = (condition(r, s, 3), value(r, s, 2));
            query.where_ = Some(condition.clone());
            query.select = vec![column("number", number.clone()), column("value", shown.clone())];
            let more: &[&str] =
                if s == Signal::Metrics { &["type", "temporality", "bucket_counts", "quantiles"] } else { &[] };
            query.select.extend(more.iter().map(|name| column(name, Expr::Field(Field::new(*name)))));
            let pruned = lab.engine.run(&tenant(), &query, NOW, RunOptions::default()).await;
            let pruned = match pruned {
                Ok(answer) => sorted(&answer),
                // Some comparisons of durations with text are refused.
                Err(error) if error.code() == "query_type" => continue,
                Err(error) => panic!("seed {seed}, query {n}: {query}: {error}"),
            };
            let options = RunOptions { without_pruning: true, ..RunOptions::default() };
            let whole = lab.engine.run(&tenant(), &query, NOW, options).await.unwrap();
            assert_eq!(pruned, sorted(&whole), "QU-2: seed {seed}, query {n}: {query}");
            let mut expected: Vec<String> = rows
                .iter()
                .filter(|row| row.holds(&condition))
                .map(|row| {
                    let value = row.value(&shown);
                    // Durations are shown in whole nanoseconds.
                    let number = row.value(&number);
                    let more = more.iter().map(|name| row.value(&Expr::Field(Field::new(*name))));
                    let cells: Vec<String> =
                        [number, value].into_iter().chain(more).map(|v| naive::shown(v.as_ref())).collect();
                    cells.join(" | ")
                })
                .collect();
            expected.sort();
            let durations = query.to_string().contains("duration");
            if durations {
                // Values with a unit are rounded in answers, so that only the rows are compared.
                let rows =
                    |all: &[String]| all.iter().map(|r| r.split(" | ").next().unwrap().to_owned()).collect::<Vec<_>>();
                assert_eq!(rows(&pruned), rows(&expected), "seed {seed}, query {n}: {query}");
            } else {
                assert_eq!(pruned, expected, "seed {seed}, query {n}: {query}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_spans_are_those_of_grouping_by_hand() {
    groups_are_those_of_grouping_by_hand(Signal::Spans).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_points_are_those_of_grouping_by_hand() {
    groups_are_those_of_grouping_by_hand(Signal::Metrics).await;
}

async fn groups_are_those_of_grouping_by_hand(s: Signal) {
    for seed in 0..STORES {
        let r = &mut Random(seed * 104_729 + 3);
        let lab = Lab::new();
        let mut batches = Vec::new();
        for b in 0..5 {
            let batch = numbered(s, 1 + r.below(60), r.below(1 << 40) as u64, b * 1_000);
            lab.add(batch.clone()).await;
            batches.push(batch);
        }
        let rows = naive::rows(&batches);
        for n in 0..QUERIES / 2 {
            let (kept, key, second, arg) = (condition(r, s, 1), field(r, s), field(r, s), field(r, s));
            let aggregate = |func: &str, args: Vec<Expr>| {
                Expr::Aggregate(Aggregate { func: func.into(), args, where_: None, exact: true, pos: Pos::NONE })
            };
            let mut query = query(s);
            query.where_ = Some(kept.clone());
            query.by = [&key, &second].into_iter().map(|k| By { expr: k.clone(), alias: None }).collect();
            query.by[1].alias = Some("second".into());
            query.select = vec![
                column("n", aggregate("count", vec![])),
                column("has", aggregate("count", vec![arg.clone()])),
                column("distinct", aggregate("count_distinct", vec![arg.clone()])),
            ];
            let answer = match lab.engine.run(&tenant(), &query, NOW, RunOptions::default()).await {
                Ok(answer) => answer,
                Err(error) if error.code() == "query_type" => continue,
                Err(error) => panic!("seed {seed}, query {n}: {query}: {error}"),
            };
            let mut groups: BTreeMap<(String, String), (u64, u64, std::collections::BTreeSet<String>)> =
                BTreeMap::new();
            for row in rows.iter().filter(|row| row.holds(&kept)) {
                // One group for each type: a double is shown with its point, text in quotes. Negative zero is zero.
                let shown = |e: &Expr| {
                    let value = row.value(e);
                    let tag = match &value {
                        Some(naive::Val::Plain(v)) => std::mem::discriminant(v),
                        _ => std::mem::discriminant(&prism_model::Value::Null),
                    };
                    let text = naive::shown(value.as_ref());
                    let text = if text == "-0.0" { "0.0".to_owned() } else { text };
                    (text.clone(), format!("{tag:?} {} {text}", value.is_some()))
                };
                let (first, second, arg) = (shown(&key), shown(&second), shown(&arg));
                let group = groups.entry((first.1 + "\u{0}" + &first.0, second.1 + "\u{0}" + &second.0)).or_default();
                group.0 += 1;
                if row.value(&self::plain(&arg_of(&query))).is_some() {
                    group.1 += 1;
                    group.2.insert(arg.1);
                }
            }
            let name = |k: &str| k.split('\u{0}').next_back().unwrap_or_default().to_owned();
            let mut expected: Vec<String> = groups
                .iter()
                .map(|((a, b), (n, has, distinct))| {
                    format!("{} | {} | {n} | {has} | {}", name(a), name(b), distinct.len())
                })
                .collect();
            expected.sort();
            assert_eq!(sorted(&answer), expected, "seed {seed}, query {n}: {query}");
        }
    }
}

fn arg_of(query: &Query) -> Expr {
    match &query.select[1].expr {
        Expr::Aggregate(aggregate) => aggregate.args[0].clone(),
        other => other.clone(),
    }
}

fn plain(expr: &Expr) -> Expr {
    expr.clone()
}
