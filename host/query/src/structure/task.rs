//! What a scan needs to know of structure: whose values stand beside its rows, and what has to be read of spans for it.

use std::collections::{BTreeSet, HashMap, HashSet};

use prism_model::AttrType;

use super::ask::{Ask, Beside, OfTrace, Target, Told, Way};
use super::direct;
use super::gather::Needs;
use super::leading::Leading;
use crate::bind::query::Shape;
use crate::eval::node::Node;
use crate::field::{Field, From};
use crate::scan::Scan;

/// Bytes that a span takes once more for each number or place that is told of it.
const TOLD_BYTES: usize = 8;

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
    /// Which traces are rows is told by their extents.
    pub(super) leading: Option<Leading>,
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
        // Those of one id stand for one another, whichever fit.
        let others = others || !ask.parent.is_empty();
        let all = ask.traces || own || critical || others || ways.iter().any(|way| far(*way));
        let direct = !ask.traces && !own && !critical && direct::able(&ask.alternatives, &targets);
        let needs = Needs {
            all,
            // By start the first of several is told, also of those of one id. Where parents and children tell the matches, times
            // are asked for once they turn out to matter.
            times: !direct,
            // Else which traces a span is of is all that is asked.
            ids: !direct || others || !ways.is_empty() || targets.iter().any(|target| *target != Target::Row),
            errors: of_traces.contains(&OfTrace::Errors),
            // Spans of traces take the room of those that they are made of, part by part.
            later_bytes: TOLD_BYTES * (usize::from(own) + usize::from(critical) + of_traces.len() + targets.len()),
        };
        let leading = Leading::of(&scan.plan, ask);
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
        Task {
            early: early.into_iter().collect(),
            late,
            tested,
            targets,
            own,
            critical,
            of_traces,
            direct,
            needs,
            leading,
        }
    }
}

pub(super) fn beside_of(fields: &[Field], field: usize) -> Option<&Beside> {
    match &fields.get(field)?.from {
        From::Beside(beside) => Some(beside),
        _ => None,
    }
}

/// Whether some value of a field beside rows may be something else than a number.
pub(super) fn may_be_text(scan: &Scan, field: usize) -> bool {
    let plain = |ty: &AttrType| matches!(ty, AttrType::Int | AttrType::Double | AttrType::Bool);
    scan.plan.fields.get(field).is_some_and(|field| {
        let types = scan.frames.iter().map(|frame| field.types(frame));
        types.into_iter().any(|types| types.any || !types.of.iter().all(plain))
    })
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
