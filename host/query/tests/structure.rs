//! How spans lie in their traces: any forest of spans, with parents that are not stored, circles, repeated ids, spans that are
//! running and spans without a trace, in any frames and tiers, against definitions span by span; and in `shapes` what is
//! meant to hurt.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "support/moved.rs"]
mod moved;
#[path = "structure/shapes.rs"]
mod shapes;

use std::collections::{BTreeMap, BTreeSet};

use moved::Moved;
use prism_dsl::Query;
use prism_model::samples::Random;
use prism_model::{Batch, Intrinsic as I, Signal, Value};
use prism_query::{Answer, Engine, QueryError, RunOptions};
use shapes::span;
use support::{Lab, NOW, Row, SECOND, tenant};

const MINUTE: i64 = 60 * SECOND;
/// The range of the questions, and how far around it spans are found.
const FROM: i64 = NOW - 20 * MINUTE;
const TO: i64 = NOW - 5 * MINUTE;
const SLACK: i64 = 5 * MINUTE;

/// A stored span. Ids are small numbers, 0 for none.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    number: i64,
    trace: u8,
    id: u8,
    parent: u8,
    start: i64,
    duration: i64,
    running: bool,
    kind: i64,
}

fn row(span: &Span) -> Row {
    let id = |n: u8, width: usize| Value::Bytes([vec![0; width - 1], vec![n]].concat());
    let mut fixed = vec![(I::Time, Value::Int(span.start)), (I::Duration, Value::Int(span.duration))];
    let ids = [(I::TraceId, span.trace, 16), (I::SpanId, span.id, 8), (I::ParentId, span.parent, 8)];
    fixed.extend(ids.into_iter().filter(|(_, n, _)| *n > 0).map(|(column, n, width)| (column, id(n, width))));
    if span.running {
        fixed.push((I::Running, Value::Bool(true)));
    }
    let attributes = vec![("row", Value::Int(span.number)), ("k", Value::Int(span.kind))];
    Row { fixed, attributes, ..Row::default() }
}

fn batch(spans: &[Span]) -> Batch {
    support::batch(Signal::Spans, &[], &[], &spans.iter().map(row).collect::<Vec<_>>())
}

/// A few traces, some of whose spans are odd.
fn forest(r: &mut Random) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let traces = 1 + r.below(5) as u8;
    for trace in 0..=traces {
        let ids = 1 + r.below(14) as u8;
        let begin = FROM - 8 * MINUTE + r.below(28 * 60) as i64 * SECOND;
        for _ in 0..1 + r.below(20) {
            let id = 1 + r.below(usize::from(ids)) as u8;
            let parent = match r.below(10) {
                0 => 0,
                // Not stored, or itself, or around in a circle.
                1 => 200 + r.below(3) as u8,
                2 => 1 + r.below(usize::from(ids)) as u8,
                _ => r.below(usize::from(id)) as u8,
            };
            let start = begin + r.below(40) as i64 * SECOND / 2;
            let running = r.one_in(9);
            let duration = if running { start.wrapping_neg() } else { r.below(30) as i64 * SECOND / 4 };
            let id = if r.one_in(15) { 0 } else { id };
            let span = Span { number: 0, trace, id, parent, start, duration, running, kind: r.below(4) as i64 };
            // The end of a span that was running, and resends.
            if running && r.one_in(2) {
                spans.push(Span { running: false, duration: r.below(9) as i64 * SECOND, ..span.clone() });
            }
            if r.one_in(12) {
                spans.push(span.clone());
            }
            spans.push(span);
        }
    }
    // Which row comes first is chance.
    for at in (1..spans.len()).rev() {
        spans.swap(at, r.below(at + 1));
    }
    spans.iter_mut().enumerate().for_each(|(number, span)| span.number = number as i64);
    spans
}

/// The stored spans as they count, and what each is to the others: straight from the definitions.
struct Oracle {
    spans: Vec<Span>,
    /// By trace and id; spans without id have a key of their own.
    nodes: BTreeMap<(u32, u32), Vec<usize>>,
}

type Node = (u32, u32);

impl Oracle {
    /// Where names fit spans of some kinds only, those stand for others of their id; of a kind whose spans are rows and nothing
    /// else, those in the range.
    fn new(stored: &[Span], kinds: &[i64], rows: Option<i64>) -> Oracle {
        Oracle::of(stored, |span| {
            kinds.contains(&span.kind) && (rows != Some(span.kind) || (FROM..TO).contains(&span.start))
        })
    }

    /// Without names, spans that may be rows stand for others of their id.
    fn of_rows(stored: &[Span], kinds: &[i64]) -> Oracle {
        Oracle::of(stored, |span| kinds.contains(&span.kind) && (FROM..TO).contains(&span.start))
    }

    /// Spans that fit stand for others of their id.
    fn of(stored: &[Span], fits: impl Fn(&Span) -> bool) -> Oracle {
        let ended = |span: &Span| {
            stored.iter().any(|other| {
                !other.running && span.trace > 0 && span.id > 0 && (other.trace, other.id) == (span.trace, span.id)
            })
        };
        let near = |span: &Span| span.start >= FROM - SLACK && span.start < TO + SLACK;
        let counts = |span: &&Span| near(span) && !(span.running && ended(span));
        let spans: Vec<Span> = stored.iter().filter(counts).cloned().collect();
        let mut nodes: BTreeMap<Node, Vec<usize>> = BTreeMap::new();
        for (at, span) in spans.iter().enumerate() {
            nodes.entry(key(span, at)).or_default().push(at);
        }
        for rows in nodes.values_mut() {
            rows.sort_by_key(|at| {
                let span = &spans[*at];
                let duration = if span.running { i64::MIN } else { span.duration };
                (!fits(span), span.parent, span.start, duration)
            });
        }
        Oracle { spans, nodes }
    }

    fn node(&self, at: usize) -> Node {
        key(&self.spans[at], at)
    }

    fn head(&self, node: Node) -> &Span {
        &self.spans[self.nodes[&node][0]]
    }

    fn sent_parent(&self, node: Node) -> Option<Node> {
        let span = self.head(node);
        let parent = (u32::from(span.trace), u32::from(span.parent));
        (span.trace > 0 && span.parent > 0 && parent != node && self.nodes.contains_key(&parent)).then_some(parent)
    }

    /// The parent in the tree: none for the earliest span of a circle.
    fn parent(&self, node: Node) -> Option<Node> {
        let parent = self.sent_parent(node)?;
        let (mut circle, mut at) = (vec![node], parent);
        while !circle.contains(&at) {
            circle.push(at);
            match self.sent_parent(at) {
                Some(next) => at = next,
                None => return Some(parent),
            }
        }
        // A circle that it only leads into is cut elsewhere.
        let earliest = |node: &Node| (self.head(*node).start, node.1);
        let is_cut = at == node && circle.iter().min_by_key(|node| earliest(node)) == Some(&node);
        (!is_cut).then_some(parent)
    }

    fn ancestors(&self, node: Node) -> Vec<Node> {
        let mut all = Vec::new();
        let mut at = node;
        while let Some(parent) = self.parent(at) {
            assert!(all.len() <= self.nodes.len());
            all.push(parent);
            at = parent;
        }
        all
    }

    /// Whether `b` is to `a` what the operator says.
    fn lies(&self, op: &str, a: usize, b: usize) -> bool {
        let (m, n) = (self.node(a), self.node(b));
        match op {
            ">" => self.sent_parent(n) == Some(m),
            "<" => self.sent_parent(m) == Some(n),
            ">>" => self.ancestors(n).contains(&m),
            "<<" => self.ancestors(m).contains(&n),
            _ => {
                let (x, y) = (self.head(m), self.head(n));
                m != n && x.trace > 0 && x.trace == y.trace && x.parent > 0 && x.parent == y.parent
            }
        }
    }

    fn in_range(&self, at: usize) -> bool {
        (FROM..TO).contains(&self.spans[at].start)
    }

    fn rows(&self) -> std::ops::Range<usize> {
        0..self.spans.len()
    }

    fn of_kind(&self, kind: i64) -> Vec<usize> {
        self.rows().filter(|at| self.spans[*at].kind == kind).collect()
    }

    /// The numbers of those rows that are in the range.
    fn numbers(&self, fits: impl Fn(usize) -> bool) -> BTreeSet<i64> {
        self.rows().filter(|at| self.in_range(*at) && fits(*at)).map(|at| self.spans[at].number).collect()
    }

    fn same_trace(&self, a: usize, b: usize) -> bool {
        if self.spans[a].trace == 0 { a == b } else { self.spans[a].trace == self.spans[b].trace }
    }

    fn children(&self, node: Node) -> Vec<Node> {
        self.nodes.keys().copied().filter(|child| self.parent(*child) == Some(node)).collect()
    }

    /// The duration without the children's times, quarter second by quarter second.
    fn own(&self, node: Node) -> Option<i64> {
        let span = self.head(node);
        if span.running {
            return None;
        }
        let end = span.start + span.duration;
        let children: Vec<&Span> = self.children(node).into_iter().map(|child| self.head(child)).collect();
        let step = SECOND / 4;
        let covered = (0..span.duration / step).filter(|n| {
            let at = span.start + n * step;
            children.iter().any(|c| c.start <= at && at < if c.running { end } else { c.start + c.duration })
        });
        Some(span.duration - covered.count() as i64 * step)
    }
}

fn key(span: &Span, at: usize) -> Node {
    let trace = if span.trace == 0 { 1_000 + at as u32 } else { u32::from(span.trace) };
    (trace, if span.id == 0 { 1_000 + at as u32 } else { u32::from(span.id) })
}

/// An engine, and how it is asked.
struct Asking {
    engine: Engine,
    options: RunOptions,
}

fn plainly(engine: &Engine) -> Asking {
    Asking { engine: engine.clone(), options: RunOptions::default() }
}

async fn ask(engine: &Asking, rest: &str) -> Answer {
    ask_rows(engine, "spans", rest).await.unwrap_or_else(|error| panic!("{rest}: {error}"))
}

/// A question about the range.
fn question(rows: &str, rest: &str) -> Result<Query, QueryError> {
    let range = prism_dsl::Range::Between { from: FROM, to: TO };
    let mut query = prism_dsl::parse_text(&format!("from {rows} {rest}"))?;
    query.range = Some(range);
    query.limit = query.limit.or(Some(10_000));
    Ok(query)
}

async fn ask_rows(engine: &Asking, rows: &str, rest: &str) -> Result<Answer, QueryError> {
    let query = question(rows, rest)?;
    let answer = engine.engine.run(&tenant(), &query, NOW, engine.options.clone()).await?;
    if engine.options.structure_passes_min < 2 {
        support::assert_within(&support::explained(&engine.engine, &query).await, &answer, rest);
    }
    Ok(answer)
}

fn column(answer: &Answer, column: usize) -> Vec<Option<i64>> {
    (0..answer.rows).map(|row| answer.cell(row, column).as_i64()).collect()
}

fn numbers(answer: &Answer) -> BTreeSet<i64> {
    let all: Vec<i64> = column(answer, 0).into_iter().flatten().collect();
    let set: BTreeSet<i64> = all.iter().copied().collect();
    assert_eq!(all.len(), set.len(), "a row twice");
    set
}

/// Every question about one forest.
async fn check(engine: &Asking, stored: &[Span], told: &str) {
    let [two, two_of_a, two_of_both] = [Some(2), Some(1), None].map(|rows| Oracle::new(stored, &[1, 2], rows));
    let three = Oracle::new(stored, &[1, 2, 3], Some(3));
    let (a, b, c) = (two.of_kind(1), two.of_kind(2), two.of_kind(3));
    let is = |rows: &[usize], at: usize| rows.contains(&at);
    for op in [">>", "<<", ">", "<", "~"] {
        let o = &two;
        let has = |x: usize| a.iter().any(|y| o.lies(op, *y, x));
        let plain = o.numbers(|at| is(&b, at) && has(at));
        let from = "match (a: k = 1, b: k = 2 where a";
        assert_eq!(numbers(&ask(engine, &format!("{from} {op} b) select row")).await), plain, "{op} {told}");
        let negated = o.numbers(|at| is(&b, at) && !has(at));
        assert_eq!(numbers(&ask(engine, &format!("{from} !{op} b) select row")).await), negated, "!{op} {told}");
        let not = format!("match (a: k = 1, b: k = 2 where not (a {op} b)) select row");
        assert_eq!(numbers(&ask(engine, &not).await), negated, "not {op} {told}");
        let gives = |o: &Oracle, x: usize| b.iter().any(|y| o.lies(op, x, *y));
        let o = &two_of_both;
        let has = |x: usize| a.iter().any(|y| o.lies(op, *y, x));
        let union = o.numbers(|at| (is(&b, at) && has(at)) || (is(&a, at) && gives(o, at)));
        assert_eq!(numbers(&ask(engine, &format!("{from} &{op} b) select row")).await), union, "&{op} {told}");
        let o = &two_of_a;
        let left = o.numbers(|at| is(&a, at) && gives(o, at));
        assert_eq!(numbers(&ask(engine, &format!("{from} {op} b) select row return a")).await), left, "{op} a {told}");
        // With conditions between the spans: of those of one id the first that fits stands for all.
        let o = &two;
        let first = |at: &usize, of: &[usize]| {
            o.nodes[&o.node(*at)].iter().find(|row| of.contains(row)).is_some_and(|row| row == at)
        };
        let near = |x: usize, y: usize| o.spans[y].start - o.spans[x].start < 3 * SECOND;
        let tested = o.numbers(|at| is(&b, at) && a.iter().any(|y| first(y, &a) && o.lies(op, *y, at) && near(*y, at)));
        let text = format!("match (a: k = 1, b: k = 2 where a {op} b and b.time - a.time < 3s) select row");
        assert_eq!(numbers(&ask(engine, &text).await), tested, "{op} near {told}");
        let none = o.numbers(|at| is(&b, at) && !a.iter().any(|y| first(y, &a) && o.lies(op, *y, at) && near(*y, at)));
        let text = format!("match (a: k = 1, b: k = 2 where not (a {op} b and b.time - a.time < 3s)) select row");
        assert_eq!(numbers(&ask(engine, &text).await), none, "not {op} near {told}");
        for then in [">>", ">", "~", "<<"] {
            let o = &three;
            let has = |x: usize| a.iter().any(|y| o.lies(op, *y, x));
            let chain = o.numbers(|at| is(&c, at) && b.iter().any(|y| has(*y) && o.lies(then, *y, at)));
            let text = format!("match (a: k = 1, b: k = 2, c: k = 3 where a {op} b {then} c) select row");
            assert_eq!(numbers(&ask(engine, &text).await), chain, "{op} {then} {told}");
            let no_chain = o.numbers(|at| is(&c, at) && !b.iter().any(|y| has(*y) && o.lies(then, *y, at)));
            let text = format!("match (a: k = 1, b: k = 2, c: k = 3 where a {op} b !{then} c) select row");
            assert_eq!(numbers(&ask(engine, &text).await), no_chain, "{op} !{then} {told}");
            // Both hold of one pair, though the second needs not be of the same a.
            let both = o.numbers(|at| is(&c, at) && has(at) && b.iter().any(|y| o.lies(then, *y, at)));
            let text = format!("match (a: k = 1, b: k = 2, c: k = 3 where a {op} c and b {then} c) select row");
            assert_eq!(numbers(&ask(engine, &text).await), both, "{op} and {then} {told}");
            let either = o.numbers(|at| is(&c, at) && (has(at) || b.iter().any(|y| o.lies(then, *y, at))));
            let text = format!("match (a: k = 1, b: k = 2, c: k = 3 where a {op} c or b {then} c) select row");
            assert_eq!(numbers(&ask(engine, &text).await), either, "{op} or {then} {told}");
            // A triangle: three relations between three spans.
            let triangle = o.numbers(|at| {
                is(&c, at)
                    && b.iter()
                        .any(|y| o.lies(then, *y, at) && a.iter().any(|x| o.lies(op, *x, *y) && o.lies(">>", *x, at)))
            });
            let text = format!(
                "match (a: k = 1, b: k = 2, c: k = 3 where a {op} b and b {then} c and a >> c) select row return c"
            );
            assert_eq!(numbers(&ask(engine, &text).await), triangle, "{op} {then} triangle {told}");
        }
    }
    let o = &two;
    let together = o.numbers(|at| is(&b, at) && a.iter().any(|y| o.same_trace(*y, at)));
    assert_eq!(numbers(&ask(engine, "match (a: k = 1, b: k = 2) select row").await), together, "{told}");
    let alone = o.numbers(|at| is(&b, at) && !a.iter().any(|y| o.same_trace(*y, at)));
    assert_eq!(numbers(&ask(engine, "match (a: k = 1, b: k = 2 where b and not a) select row").await), alone, "{told}");
    let all = Oracle::of_rows(stored, &[0, 1, 2, 3]);
    beside(engine, &all, told).await;
    of_parents(engine, stored, told).await;
    traces(engine, &all, told).await;
}

/// What stands beside every row.
async fn beside(engine: &Asking, o: &Oracle, told: &str) {
    let answer = ask(engine, "select row, parent.duration, root.row, self_duration, critical_duration, parent.k").await;
    assert_eq!(numbers(&answer), o.numbers(|_| true), "{told}");
    let place: BTreeMap<i64, usize> = o.rows().map(|at| (o.spans[at].number, at)).collect();
    let cells: Vec<Vec<Option<i64>>> = (0..6).map(|c| column(&answer, c)).collect();
    for row in 0..answer.rows {
        let at = place[&cells[0][row].unwrap()];
        let node = o.node(at);
        let parent = o.sent_parent(node).map(|parent| o.head(parent));
        let ended = |span: &Span| (!span.running).then_some(span.duration);
        assert_eq!(cells[1][row], parent.and_then(ended), "{at} {told}");
        // Which of several of one id stands for them is open where they say the same.
        assert_eq!(cells[5][row].is_some(), parent.is_some(), "{at} {told}");
        let roots = o.rows().filter(|other| o.same_trace(*other, at) && o.spans[*other].parent == 0);
        let first = roots.min_by_key(|other| (o.spans[*other].start, o.spans[*other].id));
        let same = |number: i64| {
            let (x, y) = (&o.spans[place[&number]], &o.spans[first.unwrap()]);
            (x.start, x.id) == (y.start, y.id) && x.parent == 0
        };
        assert_eq!(cells[2][row].is_some(), first.is_some(), "{at} {told}");
        assert!(cells[2][row].is_none_or(same), "{at} {told}");
        assert_eq!(cells[3][row], o.own(node), "{at} {told}");
        assert!(cells[4][row].unwrap() >= 0, "{told}");
    }
}

/// Conditions on the parents of rows, of which those that speak of nothing else are looked for among the parents themselves.
async fn of_parents(engine: &Asking, stored: &[Span], told: &str) {
    // A row's own conditions tell which of several spans of one id stands for them.
    for (own, kinds) in [("", &[0, 1, 2, 3][..]), ("k = 2 and ", &[2][..])] {
        let o = Oracle::of_rows(stored, kinds);
        type Holds = fn(Option<i64>) -> bool;
        let conditions: [(&str, Holds); 7] = [
            ("parent.k = 1", |k| k == Some(1)),
            ("parent.k != 1", |k| k.is_some_and(|k| k != 1)),
            ("not (parent.k = 1)", |k| k != Some(1)),
            ("exists(parent.k)", |k| k.is_some()),
            ("coalesce(parent.k, 1) = 1", |k| k.is_none_or(|k| k == 1)),
            ("parent.k >= 1 and parent.k < 3", |k| k.is_some_and(|k| (1..3).contains(&k))),
            ("(parent.k = 0 or parent.k = k)", |_| true),
        ];
        for (condition, holds) in conditions {
            // Where spans of one id say the same of themselves, it is open which of them stands for all.
            let kinds_of = |at: usize| {
                let Some(node) = o.sent_parent(o.node(at)) else { return vec![None] };
                let may_be_row = |span: &Span| kinds.contains(&span.kind) && (FROM..TO).contains(&span.start);
                let says = |span: &Span| (!may_be_row(span), span.parent, span.start, span.duration, span.running);
                let head = says(o.head(node));
                let alike = o.nodes[&node].iter().map(|row| &o.spans[*row]).filter(|span| says(span) == head);
                alike.map(|span| Some(span.kind)).collect::<Vec<_>>()
            };
            let all = |at: usize, kind: Option<i64>| match condition.contains("= k") {
                true => kind.is_some_and(|kind| kind == 0 || kind == o.spans[at].kind),
                false => holds(kind),
            };
            let fits = |at: usize| kinds.contains(&o.spans[at].kind);
            let certain = o.numbers(|at| fits(at) && kinds_of(at).into_iter().all(|kind| all(at, kind)));
            let perhaps = o.numbers(|at| fits(at) && kinds_of(at).into_iter().any(|kind| all(at, kind)));
            let found = numbers(&ask(engine, &format!("where {own}{condition} select row")).await);
            let text = format!("{own}{condition} {told}: {found:?}, expected {certain:?} to {perhaps:?}");
            assert!(found.is_superset(&certain) && found.is_subset(&perhaps), "{text}");
            // As well beside what stands beside rows.
            let beside = ask(engine, &format!("where {own}{condition} select row, parent.duration, root.row")).await;
            assert_eq!(numbers(&beside), found, "{text}");
        }
    }
}

/// Traces that start in the range, with all of their spans.
async fn traces(engine: &Asking, o: &Oracle, told: &str) {
    let text = "select span_count, duration, trace_id order trace_id";
    let answer = ask_rows(engine, "traces", text).await.unwrap();
    let mut expected: Vec<(i64, i64, String)> = Vec::new();
    let all: BTreeSet<usize> = o.rows().collect();
    let mut seen = BTreeSet::new();
    for at in &all {
        if !seen.insert(key(&o.spans[*at], *at).0) {
            continue;
        }
        let rows: Vec<&Span> = all.iter().filter(|x| o.same_trace(**x, *at)).map(|x| &o.spans[*x]).collect();
        let start = rows.iter().map(|s| s.start).min().unwrap();
        if !(FROM..TO).contains(&start) {
            continue;
        }
        let end = rows.iter().map(|s| s.start + if s.running { 0 } else { s.duration }).max().unwrap();
        let named: BTreeSet<u8> = rows.iter().map(|s| s.id).filter(|id| *id > 0).collect();
        let count = named.len() + rows.iter().filter(|s| s.id == 0).count();
        let id = if o.spans[*at].trace == 0 { String::new() } else { format!("{:032x}", o.spans[*at].trace) };
        expected.push((count as i64, end - start, id));
    }
    expected.sort();
    let (counts, durations) = (column(&answer, 0), column(&answer, 1));
    let mut found: Vec<(i64, i64, String)> = (0..answer.rows)
        .map(|row| {
            let id = answer.cell(row, 2).as_str().unwrap_or_default().to_owned();
            (counts[row].unwrap(), durations[row].unwrap(), id)
        })
        .collect();
    found.sort();
    assert_eq!(found, expected, "{told}");
    // The first of them, which are told before all spans of any are looked at.
    for limit in [1, 2, 4] {
        for (order, longest) in [("duration desc", true), ("duration", false)] {
            let text = format!("select span_count, duration, trace_id order {order} limit {limit}");
            let first = ask_rows(engine, "traces", &text).await.unwrap();
            let mut durations: Vec<i64> = expected.iter().map(|(_, duration, _)| *duration).collect();
            durations.sort_by_key(|duration| if longest { -duration } else { *duration });
            durations.truncate(limit);
            assert_eq!(column(&first, 1), durations.into_iter().map(Some).collect::<Vec<_>>(), "{text} {told}");
            for row in 0..first.rows {
                let [count, duration] = [0, 1].map(|column| first.cell(row, column).as_i64().unwrap());
                let id = first.cell(row, 2).as_str().unwrap_or_default().to_owned();
                assert!(expected.contains(&(count, duration, id)), "{text} {told}");
            }
        }
        let first = ask_rows(engine, "traces", &format!("select time order time limit {limit}")).await.unwrap();
        let all = ask_rows(engine, "traces", "select time, span_count order span_count, time").await.unwrap();
        let times = |answer: &Answer| {
            let mut times: Vec<String> = (0..answer.rows).map(|row| answer.cell(row, 0).to_string()).collect();
            times.sort();
            times.truncate(limit);
            times
        };
        assert_eq!(times(&first), times(&all), "{limit} {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn structure_is_as_defined() {
    let seeds: u64 = std::env::var("PRISM_STRUCTURE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        let mut r = Random(seed * 7 + 1);
        let stored = forest(&mut r);
        let moved = Moved::new();
        let mut rest = stored.as_slice();
        let mut batches = 0;
        while !rest.is_empty() {
            let (some, others) = rest.split_at(rest.len().min(1 + r.below(40)));
            moved.add(batch(some)).await;
            batches += 1;
            // What comes later lies warmer.
            if batches == 2 && r.one_in(2) {
                moved.seal(Signal::Spans);
                if r.one_in(2) {
                    moved.promote(Signal::Spans);
                }
            }
            rest = others;
        }
        // Every other time as if memory ended after half of what is left.
        let options = RunOptions { structure_passes_min: 1 + 3 * (seed as usize % 2), ..RunOptions::default() };
        let asking = Asking { engine: moved.engine(), options };
        check(&asking, &stored, &format!("seed {seed}")).await;
    }
}

/// Everything that a trace spends is spent somewhere on its critical path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_critical_path_is_as_long_as_its_root() {
    for seed in 0..20 {
        let mut r = Random(seed);
        let lab = Lab::new();
        let mut rows = vec![span(0, 1, None, 0, 1_000)];
        for n in 1..60 {
            rows.push(span(n, 1, Some(r.below(n as usize) as u64), 1, r.below(1_500) as i64));
        }
        lab.add(support::batch(Signal::Spans, &[], &[], &rows)).await;
        let answer = ask(&plainly(&lab.engine), "select sum(critical_duration), max(critical_duration)").await;
        assert_eq!(answer.cell(0, 0).as_i64(), Some(1_000), "seed {seed}");
    }
}
