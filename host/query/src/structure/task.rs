//! What a scan needs to know of structure: whose values stand beside its rows, and what has to be read of spans for it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::ask::{Ask, Beside, OfTrace, Target, Told, Way};
use super::direct;
use super::gather::{KEPT_PART, Needs};
use super::span::{PAGE, Span};
use super::spread::{Found, ID_BYTES_MAX, Parts, Share};
use crate::bind::query::Shape;
use crate::eval::node::Node;
use crate::field::{Field, From};
use crate::scan::Scan;

/// Bytes that a span takes once more for each number or place that is told of it.
const TOLD_BYTES: usize = 8;

/// Bytes of a field's value beside a span: a number or the number of a text, and which it is.
const VALUE_BYTES: usize = 16;

/// See above.
pub(super) struct Task {
    /// Fields beside rows that decide which rows there are, or what is made of them.
    pub(super) early: HashSet<usize>,
    /// Fields beside rows that only rows of the answer show.
    pub(super) late: Vec<usize>,
    /// The fields of the tests between bound spans.
    pub(super) tested: HashSet<usize>,
    pub(super) targets: Vec<Target>,
    pub(super) own: bool,
    pub(super) critical: bool,
    pub(super) of_traces: Vec<OfTrace>,
    /// Parents and children alone tell the matches.
    pub(super) direct: bool,
    pub(super) needs: Needs,
}

impl Task {
    pub(super) fn of(scan: &Scan, ask: &Ask) -> Task {
        let fields = &scan.plan.fields;
        let shown = beside_in(fields, scan.plan.nodes());
        let tested = tested(ask);
        let told = || shown.iter().chain(&tested).filter_map(|field| beside_of(fields, *field));
        let asks = |what: &dyn Fn(&Told) -> bool| told().any(|beside| what(&beside.told));
        let own = asks(&|told| matches!(told, Told::SelfDuration));
        let critical = asks(&|told| matches!(told, Told::CriticalDuration));
        let of_traces = OfTrace::NAMES.iter().map(|(_, of)| *of).filter(|of| asks(&|told| *told == Told::Trace(*of)));
        let of_traces: Vec<OfTrace> = of_traces.collect();
        let targets: BTreeSet<Target> =
            shown.iter().filter_map(|field| Some(beside_of(fields, *field)?.target)).collect();
        let targets: Vec<Target> = targets.into_iter().collect();
        let far = |way: Way| matches!(way, Way::Ancestor | Way::Descendant);
        let mut ways = Vec::new();
        ask.alternatives.iter().for_each(|alternative| alternative.ways(&mut |way| ways.push(way)));
        let others = targets.contains(&Target::Parent) || targets.contains(&Target::Root);
        let all = ask.traces || own || critical || others || ways.iter().any(|way| far(*way));
        let direct = !ask.traces && !own && !critical && direct::able(&ask.alternatives, &targets);
        // By start the first of several is told, where there may be several.
        let several =
            ask.alternatives.iter().any(|way| !way.alone.is_empty()) || ways.iter().any(|way| *way != Way::Parent);
        let needs = Needs {
            all,
            times: if direct { others } else { all || several },
            // Else which traces a span is of is all that is asked.
            ids: !direct || !ways.is_empty() || targets.iter().any(|target| *target != Target::Row),
            errors: of_traces.contains(&OfTrace::Errors),
            // Spans of traces take the room of those that they are made of, part by part.
            later_bytes: TOLD_BYTES * (usize::from(own) + usize::from(critical) + of_traces.len() + targets.len()),
        };
        let decides = match &scan.plan.shape {
            Shape::Groups { .. } => shown.clone(),
            Shape::Rows => {
                let order = scan.plan.order.iter().map(|key| &key.node);
                beside_in(fields, scan.plan.conditions.iter().chain(order))
            }
        };
        // What is known of spans is not read for rows.
        let is_read = |field: &usize| reads(fields, &[*field]);
        let (late, early): (Vec<usize>, Vec<usize>) =
            shown.into_iter().partition(|field| !decides.contains(field) && is_read(field));
        Task { early: early.into_iter().collect(), late, tested, targets, own, critical, of_traces, direct, needs }
    }
}

/// How often the frames of a scan are gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passes {
    /// Passes, at most.
    pub(crate) most: u64,
    /// Those, and goes that end where there is no room for what is read beside spans, from which a smaller share is looked at.
    pub(crate) tried: u64,
}

impl Passes {
    /// Of frames with so many `rows`, of which so many lie where some may fit a binding's conditions: unless single traces are as
    /// large as a pass, or texts that stand beside rows are long.
    pub(crate) fn of(scan: &Scan, ask: &Ask, rows: u64, fitting: u64) -> Passes {
        let task = Task::of(scan, ask);
        let all = scan.memory_bytes_max as u64;
        let (room, told) = (all / 2, task.needs.later_bytes);
        let lists = (scan.frames.len() * Parts::of(Share::ALL, rows).len() * size_of::<Vec<()>>()) as u64;
        // What so many rows take, of which one in `share` is looked at.
        let of = |rows: u64, share: u64, bytes: usize| rows.div_ceil(share).saturating_mul(bytes as u64);
        let spans = |share: u64| of(rows, share, task.needs.bytes()).saturating_add(lists);
        let gathered = |share: u64| {
            if ask.bindings.iter().all(Vec::is_empty) {
                return spans(share) <= room;
            }
            // Perhaps their traces are looked for first, beside marks of rows; then there are these, and ids of the traces.
            let kept = room / KEPT_PART as u64;
            let found = of(fitting, share, size_of::<Found>() + told).saturating_add(lists);
            found <= room - kept && of(fitting, share, ID_BYTES_MAX) <= kept && spans(share) <= room - 2 * kept
        };
        // Values are kept by pages of places, each of which may hold but one.
        let values = (task.tested.len() + task.early.len()) * VALUE_BYTES;
        let beside = |share: u64| {
            let pages = of(rows, share, (told + values) * PAGE).min(of(rows, 1, told + values));
            of(rows, share, size_of::<Span>()).saturating_add(pages) <= all / 4 * 3
        };
        const HALVES_MAX: u32 = u64::BITS - 2;
        let halves_of = |fits: &dyn Fn(u64) -> bool| (0..HALVES_MAX).find(|n| fits(1 << n)).unwrap_or(HALVES_MAX);
        let (first, last) = (halves_of(&gathered), halves_of(&|share| gathered(share) && beside(share)));
        // What was too large leaves off half of what it began with.
        let most = if last == 0 { 1 } else { 2u64 << last };
        Passes { most, tried: most + u64::from(last - first) }
    }
}

pub(super) fn beside_of(fields: &[Field], field: usize) -> Option<&Beside> {
    match &fields.get(field)?.from {
        From::Beside(beside) => Some(beside),
        _ => None,
    }
}

/// Whether some of these fields have to be read.
pub(super) fn reads(fields: &[Field], of: &[usize]) -> bool {
    of.iter().filter_map(|field| beside_of(fields, *field)).any(|beside| matches!(beside.told, Told::Field(_)))
}

/// The fields beside rows that some nodes name.
fn beside_in<'n>(fields: &[Field], nodes: impl Iterator<Item = &'n Node>) -> HashSet<usize> {
    let mut found = HashSet::new();
    nodes.for_each(|node| {
        node.fields(&mut |field| {
            if beside_of(fields, field).is_some() {
                found.insert(field);
            }
        });
    });
    found
}

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

pub(super) fn by_target(fields: &[Field], of: impl Iterator<Item = usize>) -> HashMap<Target, Vec<usize>> {
    let mut by_target: HashMap<Target, Vec<usize>> = HashMap::new();
    for field in of {
        if let Some(beside) = beside_of(fields, field) {
            by_target.entry(beside.target).or_default().push(field);
        }
    }
    by_target
}
