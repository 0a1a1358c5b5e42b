//! Traces as rows: which span is a trace's row, and what is told of the trace.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::StringArray;
use prism_model::Value;

use super::ask::{OfTrace, Target};
use super::beside::{Known, Values};
use super::pairs::Pairs;
use super::solve::{CHECK_TRACES, Matched};
use super::span::{BELOW, ERROR, NAMED, NONE, Span, Spans, Sparse};
use super::times::UNKNOWN;
use crate::error::QueryError;
use crate::eval::Vals;
use crate::scan::Scan;

/// The traces of a part that are rows.
pub(super) struct Rows {
    pub(super) pairs: Pairs,
    /// By what is told, for each row.
    numbers: Vec<(OfTrace, Vec<i64>)>,
    /// The services of each row, where they are asked for.
    services: Vec<String>,
}

/// The services of spans: the number of each place's, and their texts.
pub(super) type Services = Option<(Arc<Sparse<u32>>, Vals)>;

/// Makes a row of each trace that has a match, or without `match` of each trace: that of its root, else of its first span.
/// What stood beside its first match stands beside it. A trace is in the range in which it starts.
///
/// # Errors
/// That the query's time is over, or that it was given up.
pub(super) fn rows(
    scan: &Scan,
    matched: &Matched,
    spans: &Spans,
    targets: &[Target],
    asked: &[OfTrace],
    services: &Services,
) -> Result<Rows, QueryError> {
    let mut rows = Rows {
        pairs: Pairs::new(targets),
        numbers: asked.iter().filter(|of| **of != OfTrace::Services).map(|of| (*of, Vec::new())).collect(),
        services: Vec::new(),
    };
    let mut ids = Vec::new();
    for (number, (begin, trace)) in spans.traces().enumerate() {
        if number % CHECK_TRACES == 0 {
            scan.goes_on()?;
        }
        let start = trace.iter().map(|span| span.start).min().unwrap_or_default();
        if !scan.plan.range.contains(start) {
            continue;
        }
        let matching = (0..trace.len()).filter(|at| matched.has(begin + at));
        let Some(first) = matching.min_by_key(|at| trace[*at].key()) else { continue };
        let root = trace.iter().filter(|span| !span.has(BELOW)).min_by_key(|span| span.key());
        let row = root.or_else(|| trace.iter().min_by_key(|span| span.key())).unwrap_or(&trace[first]);
        rows.pairs.add(row.place, |_, target| match target {
            Target::Row => row.place,
            Target::Root => root.map_or(NONE, |root| root.place),
            other => matched.of(other, begin + first),
        });
        let names = services.as_ref().map(|services| names(trace, services));
        for (of, numbers) in &mut rows.numbers {
            numbers.push(match of {
                OfTrace::Start => start,
                OfTrace::Duration => {
                    let end = trace.iter().map(|span| span.end(span.start)).max().unwrap_or(start);
                    end.saturating_sub(start)
                }
                OfTrace::Spans => once(trace.iter(), &mut ids),
                OfTrace::Errors => once(trace.iter().filter(|span| span.has(ERROR)), &mut ids),
                OfTrace::ServiceCount | OfTrace::Services => names.as_ref().map_or(0, |names| names.len() as i64),
            });
        }
        if asked.contains(&OfTrace::Services) {
            let names = names.into_iter().flatten().map(|name| Value::Str(name.to_owned()));
            rows.services.push(Value::Array(names.collect()).to_text());
        }
    }
    Ok(rows)
}

/// What is told of the traces of all parts.
pub(super) fn tell(parts: &[Rows], known: &mut Known) {
    let mut numbers: HashMap<OfTrace, Sparse<i64>> = HashMap::new();
    let (mut lists, mut texts, mut list_numbers) = (Sparse::new(NONE), Vec::new(), HashMap::new());
    for part in parts {
        for (of, of_part) in &part.numbers {
            let to = numbers.entry(*of).or_insert_with(|| Sparse::new(UNKNOWN));
            part.pairs.rows.iter().zip(of_part).for_each(|(row, number)| to.set(*row, *number));
        }
        for (row, list) in part.pairs.rows.iter().zip(&part.services) {
            let number = *list_numbers.entry(list.as_str()).or_insert_with(|| {
                texts.push(list.as_str());
                texts.len() as u32 - 1
            });
            lists.set(*row, number);
        }
    }
    known.of_traces.extend(numbers.into_iter().map(|(of, to)| (of, Values::Number(Arc::new(to)))));
    let texts = Arc::new(StringArray::from(texts));
    known.of_traces.insert(OfTrace::Services, Values::Text { numbers: Arc::new(lists), texts });
}

fn names<'v>(trace: &[Span], (ranks, vals): &'v (Arc<Sparse<u32>>, Vals)) -> BTreeSet<&'v str> {
    let texts = vals.str.as_ref();
    let name = |span: &Span| match ranks.get(span.place) {
        NONE => None,
        rank => texts?.get(rank as usize),
    };
    trace.iter().filter_map(name).collect()
}

/// How many spans: those of one id, which were sent again, count once, as a trace shows them.
fn once<'s>(spans: impl Iterator<Item = &'s Span>, ids: &mut Vec<u64>) -> i64 {
    ids.clear();
    let mut nameless = 0;
    for span in spans {
        if span.has(NAMED) { ids.push(span.id) } else { nameless += 1 }
    }
    ids.sort_unstable();
    ids.dedup();
    ids.len() as i64 + nameless
}
