//! How spans lie in their traces: `match`, fields of the parent and root, own time and critical path, traces as rows.
//!
//! ```text
//! ask (what is wanted) -> gather (traces that may have it, their spans: span) -> tree (one trace) -> relate, combine, solve (matches),
//! times -> beside (values of the spans beside each row) -> Structure: the rows of the scan, and fields that it reads
//! ```
//!
//! A stage before the scan: it tells which rows of the snapshot's frames match, and the scan goes on over those as over any
//! rows. It works trace after trace, so that what it needs beside 80 bytes a span is the room of the largest trace. Not here:
//! names (`bind::structure`), what is computed of the rows (`scan`).

pub(crate) mod ask;
mod span;
mod tree;
mod gather;
mod relate;
mod times;
mod beside;
mod combine;
mod solve;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{StringArray, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::error::ArrowError;
use prism_model::window::TimeRange;
use prism_model::{Intrinsic, TableKind, Value};

use crate::error::QueryError;
use crate::eval::Vals;
use crate::field::{Field, From};
use crate::scan::Scan;
use ask::{Ask, Beside, OfTrace, Target, Told, Way};
use beside::{Known, Tuples, Values};
use gather::Needs;
use solve::{Bounds, Matched};
use span::{ERROR, NAMED, NONE, Span, Spans, Sparse};
use times::UNKNOWN;
use tree::{Tree, Wants};

/// The columns of spans that are read.
pub(crate) const SPAN_COLUMNS: [Intrinsic; 7] = [
    Intrinsic::TraceId,
    Intrinsic::SpanId,
    Intrinsic::ParentId,
    Intrinsic::Time,
    Intrinsic::Duration,
    Intrinsic::Running,
    Intrinsic::Status,
];

/// The range in which the other spans of traces are looked for.
pub(crate) fn around(range: TimeRange, slack_nanos: i64) -> TimeRange {
    TimeRange { from: range.from.saturating_sub(slack_nanos), to: range.to.saturating_add(slack_nanos) }
}

/// The rows of a snapshot that match, and what stands beside them.
#[derive(Debug)]
pub(crate) struct Structure {
    /// The place of the first row of each frame.
    bases: Vec<u32>,
    matched: Matched,
    /// By field of the plan.
    values: HashMap<usize, Values>,
}

impl Structure {
    /// The rows of a frame that match; `None` where none does.
    pub(crate) fn rows(&self, number: usize, rows: usize) -> Option<BooleanBuffer> {
        let base = self.bases[number];
        let (_, places) = self.matched.to.first()?;
        places.places(base, rows).next()?;
        Some(BooleanBuffer::collect_bool(rows, |row| self.matched.has(base + row as u32)))
    }

    /// The values of a field beside rows of a frame: all of so many, or the selected.
    pub(crate) fn values(
        &self,
        number: usize,
        field: usize,
        beside: &Beside,
        rows: usize,
        selection: Option<&UInt32Array>,
    ) -> Result<Vals, ArrowError> {
        let len = selection.map_or(rows, UInt32Array::len);
        let (Some(places), Some(values)) = (self.matched.of(beside.target), self.values.get(&field)) else {
            return Ok(Vals::nulls(len));
        };
        let base = self.bases[number];
        match selection {
            None => values.at((0..rows).map(|row| places.get(base + row as u32))),
            Some(selection) => values.at(selection.values().iter().map(|row| places.get(base + row))),
        }
    }
}

/// Bounds of the work, in the words of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) slack_nanos: i64,
    pub(crate) combinations_max: u64,
}

/// Finds the rows that match among those of a scan's frames. Blocks on the disk.
///
/// # Errors
/// Over a limit of memory, time or combinations; what vanished.
pub(crate) fn resolve(scan: &Scan, ask: &Ask, limits: Limits) -> Result<Structure, QueryError> {
    let bases = bases(scan)?;
    let fields = &scan.plan.fields;
    let shown = shown(scan);
    let tested = tested(ask);
    let told = || shown.iter().chain(&tested).filter_map(|field| beside_of(fields, *field));
    let asks = |what: &dyn Fn(&Told) -> bool| told().any(|beside| what(&beside.told));
    let own = asks(&|told| matches!(told, Told::SelfDuration));
    let critical = asks(&|told| matches!(told, Told::CriticalDuration));
    let targets: BTreeSet<Target> = shown.iter().filter_map(|field| Some(beside_of(fields, *field)?.target)).collect();
    let far = |way: Way| matches!(way, Way::Ancestor | Way::Descendant);
    let mut ways = Vec::new();
    ask.alternatives.iter().for_each(|alternative| alternative.ways(&mut |way| ways.push(way)));
    let others = targets.contains(&Target::Parent) || targets.contains(&Target::Root);
    let all = ask.traces || own || critical || others || ways.iter().any(|way| far(*way));
    // By start the first of several is told, where there may be several.
    let several =
        ask.alternatives.iter().any(|way| !way.alone.is_empty()) || ways.iter().any(|way| *way != Way::Parent);
    let needs = Needs { all, times: all || several, errors: asks(&|told| *told == Told::Trace(OfTrace::Errors)) };
    let spans = gather::gather(scan, ask, around(scan.plan.range, limits.slack_nanos), needs, &bases)?;
    let mut known = Known::default();
    if own || critical {
        (known.own, known.critical) = spent(scan, &spans, own, critical)?;
    }
    let mut tuples = HashMap::new();
    for (target, of_target) in by_target(fields, tested.iter().copied()) {
        let Target::Bound(binding) = target else { continue };
        let mut places = Sparse::new(NONE);
        let fitting = spans.traces().flatten().filter(|span| span.has(1 << binding));
        fitting.for_each(|span| places.set(span.place, span.place));
        tuples.extend(values(scan, &bases, &places, &of_target, &known)?);
    }
    let mut bounds = Bounds { scan, combinations_max: limits.combinations_max, combinations: 0 };
    let targets: Vec<Target> = targets.into_iter().collect();
    let of_tuples = Tuples { fields, values: &tuples };
    let mut matched = solve::solve(&ask.alternatives, ask.traces, &targets, &spans, &of_tuples, &mut bounds)?;
    drop(tuples);
    if ask.traces {
        matched = solve::traces(scan.plan.range, matched, &spans);
        of_traces(scan, &bases, &matched, &spans, &|of| asks(&|told| *told == Told::Trace(of)), &mut known)?;
    }
    let mut all = HashMap::new();
    for (target, of_target) in by_target(fields, shown.iter().copied()) {
        let Some(to) = matched.of(target) else { continue };
        let mut places = Sparse::new(NONE);
        for (number, frame) in scan.frames.iter().enumerate() {
            let rows = to.places(bases[number], frame.rows());
            rows.map(|row| to.get(row)).for_each(|place| places.set(place, place));
        }
        all.extend(values(scan, &bases, &places, &of_target, &known)?);
        bounded(scan, matched.bytes() + all.values().map(Values::bytes).sum::<usize>(), spans.len())?;
    }
    Ok(Structure { bases, matched, values: all })
}

fn bounded(scan: &Scan, bytes: usize, spans: usize) -> Result<(), QueryError> {
    let limit = scan.memory_bytes_max;
    if bytes > limit { Err(QueryError::Spans { limit, spans }) } else { Ok(()) }
}

/// The place of the first row of each frame.
fn bases(scan: &Scan) -> Result<Vec<u32>, QueryError> {
    let mut bases = Vec::with_capacity(scan.frames.len());
    let mut next = 0u64;
    for frame in &scan.frames {
        bases.push(next as u32);
        next += frame.rows() as u64;
    }
    // The last number stands for none.
    if next >= u64::from(NONE) {
        return Err(QueryError::Rows { limit: u64::from(NONE), rows: next });
    }
    Ok(bases)
}

fn beside_of(fields: &[Field], field: usize) -> Option<&Beside> {
    match &fields.get(field)?.from {
        From::Beside(beside) => Some(beside),
        _ => None,
    }
}

/// The fields beside rows that the scan reads.
fn shown(scan: &Scan) -> HashSet<usize> {
    let mut shown = HashSet::new();
    scan.plan.nodes().for_each(|node| {
        node.fields(&mut |field| {
            if beside_of(&scan.plan.fields, field).is_some() {
                shown.insert(field);
            }
        });
    });
    shown
}

/// The fields of the tests between bound spans.
fn tested(ask: &Ask) -> HashSet<usize> {
    let mut tested = HashSet::new();
    for alternative in &ask.alternatives {
        alternative.conditions(&mut |node| {
            node.fields(&mut |field| {
                tested.insert(field);
            })
        });
    }
    tested
}

fn by_target(fields: &[Field], of: impl Iterator<Item = usize>) -> HashMap<Target, Vec<usize>> {
    let mut by_target: HashMap<Target, Vec<usize>> = HashMap::new();
    for field in of {
        if let Some(beside) = beside_of(fields, field) {
            by_target.entry(beside.target).or_default().push(field);
        }
    }
    by_target
}

/// What some fields tell of the spans at some places.
fn values(
    scan: &Scan,
    bases: &[u32],
    places: &Sparse<u32>,
    of: &[usize],
    known: &Known,
) -> Result<HashMap<usize, Values>, QueryError> {
    let mut values = HashMap::new();
    let (mut numbers, mut read) = (Vec::new(), Vec::new());
    for field in of {
        match beside_of(&scan.plan.fields, *field).map(|beside| &beside.told) {
            Some(Told::Field(inner)) => {
                numbers.push(*field);
                read.push((**inner).clone());
            }
            Some(told) => values.extend(known.values(told).map(|values| (*field, values))),
            None => {}
        }
    }
    if !read.is_empty() {
        let (ranks, vals) = beside::read(scan, bases, places, &read)?;
        values.extend(
            numbers
                .into_iter()
                .zip(vals)
                .map(|(field, vals)| (field, Values::Field { ranks: ranks.clone(), vals: Box::new(vals) })),
        );
    }
    Ok(values)
}

/// How many spans: those of one id, which were sent again, count once, as a trace shows them.
fn once<'s>(spans: impl Iterator<Item = &'s Span>) -> i64 {
    let (mut ids, mut nameless) = (Vec::new(), 0);
    for span in spans {
        if span.has(NAMED) { ids.push(span.id) } else { nameless += 1 }
    }
    ids.sort_unstable();
    ids.dedup();
    ids.len() as i64 + nameless
}

/// The service of a span.
pub(crate) fn service_name() -> Field {
    let tables = vec![TableKind::Items, TableKind::Scopes, TableKind::Resources];
    Field { name: "service.name".into(), from: From::Attribute { tables, key: "service.name".into() } }
}

type Spent = (Option<Arc<Sparse<i64>>>, Option<Arc<Sparse<i64>>>);

/// Own time and critical path of every span.
fn spent(scan: &Scan, spans: &Spans, own: bool, critical: bool) -> Result<Spent, QueryError> {
    let mut tree = Tree::default();
    let (mut owns, mut criticals) = (Sparse::new(UNKNOWN), Sparse::new(UNKNOWN));
    for (number, trace) in spans.traces().enumerate() {
        if number % 256 == 0 {
            scan.in_time()?;
        }
        tree.lay(trace, Wants { order: true, ..Wants::default() });
        if own {
            times::own(trace, &tree, &mut owns);
        }
        if critical {
            times::critical(trace, &tree, &mut criticals);
        }
    }
    bounded(scan, owns.bytes() + criticals.bytes(), spans.len())?;
    Ok((own.then(|| Arc::new(owns)), critical.then(|| Arc::new(criticals))))
}

/// What is told of each trace that is a row.
fn of_traces(
    scan: &Scan,
    bases: &[u32],
    matched: &Matched,
    spans: &Spans,
    asked: &dyn Fn(OfTrace) -> bool,
    known: &mut Known,
) -> Result<(), QueryError> {
    let services = if OfTrace::NAMES.iter().any(|(_, of)| of.of_services() && asked(*of)) {
        let mut places = Sparse::new(NONE);
        spans.traces().flatten().for_each(|span| places.set(span.place, span.place));
        let (ranks, mut vals) = beside::read(scan, bases, &places, &[service_name()])?;
        vals.pop().map(|vals| (ranks, vals))
    } else {
        None
    };
    let mut numbers: Vec<(OfTrace, Sparse<i64>)> = OfTrace::NAMES
        .iter()
        .filter(|(_, of)| *of != OfTrace::Services && asked(*of))
        .map(|(_, of)| (*of, Sparse::new(UNKNOWN)))
        .collect();
    let (mut lists, mut texts, mut list_numbers) = (Sparse::new(NONE), Vec::new(), HashMap::new());
    for trace in spans.traces() {
        let Some(row) = trace.iter().find(|span| matched.has(span.place)) else { continue };
        let start = trace.iter().map(|span| span.start).min().unwrap_or_default();
        let mut of_trace: BTreeSet<String> = BTreeSet::new();
        if let Some((ranks, vals)) = &services {
            for span in trace {
                let rank = ranks.get(span.place);
                if rank != NONE
                    && let Some(name) = vals.str.as_ref().and_then(|text| text.get(rank as usize))
                    && !of_trace.contains(name)
                {
                    of_trace.insert(name.to_owned());
                }
            }
        }
        for (of, to) in &mut numbers {
            let number = match of {
                OfTrace::Start => start,
                OfTrace::Duration => {
                    let end = trace.iter().map(|span| span.end(span.start)).max().unwrap_or(start);
                    end.saturating_sub(start)
                }
                OfTrace::Spans => once(trace.iter()),
                OfTrace::Errors => once(trace.iter().filter(|span| span.has(ERROR))),
                OfTrace::ServiceCount | OfTrace::Services => of_trace.len() as i64,
            };
            to.set(row.place, number);
        }
        let list = Value::Array(of_trace.into_iter().map(Value::Str).collect()).to_text();
        let number = *list_numbers.entry(list.clone()).or_insert_with(|| {
            texts.push(list);
            texts.len() as u32 - 1
        });
        lists.set(row.place, number);
    }
    known.of_traces.extend(numbers.into_iter().map(|(of, to)| (of, Values::Number(Arc::new(to)))));
    let texts = Arc::new(StringArray::from(texts));
    known.of_traces.insert(OfTrace::Services, Values::Text { numbers: Arc::new(lists), texts });
    Ok(())
}
