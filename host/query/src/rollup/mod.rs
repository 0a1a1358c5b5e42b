//! Answers from rollups: which queries a cube answers exactly as its rows do, and for which units (QU-4).
//!
//! ```text
//! plan -> fit (conditions, keys and aggregates ask only for what a cube keeps) -> unit (nothing in it that a cube does not
//! tell) -> cells (a batch whose rows stand for many) -> the same evaluation and groups as rows
//! ```
//!
//! A cube keeps whole minutes: of a range that begins or ends within one, that minute is answered from rows. What is in doubt
//! is answered from rows. Not here: what a cube is made of (`prism-store`).

mod cells;

use prism_model::window::TimeRange;
use prism_model::{AttrType, ColumnId, Intrinsic, Signal, TableKind};
use prism_store::{Frame, Uncounted};

pub(crate) use cells::Cells;

use crate::bind::query::{Plan, Shape};
use crate::eval::node::{ArithmeticOp, Function, Level, Node};
use crate::eval::vals::Scalar;
use crate::field::{Columns as _, Field, From};
use crate::group::{Accumulator, AccumulatorKind, GroupSpec};
use crate::names::Fixed;
use crate::prune;
use crate::running::has_running;
use crate::stack::with_room;

/// A cube's unit of time, nanoseconds.
const MINUTE_NANOS: i64 = 60_000_000_000;

/// What a query asks of a cube that answers it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fit {
    /// The minutes that lie wholly in the query's range.
    pub(crate) minutes: TimeRange,
    /// The field `duration`, where an aggregate is of it.
    pub(crate) duration: Option<usize>,
    services: Vec<usize>,
}

/// What a cube keeps of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Its values.
    Values,
    /// The minute that it lies in.
    Minutes,
    /// Number, sum, least, greatest and a sketch of its values.
    Durations,
}

impl Fit {
    /// How a cube answers a plan; `None` where rows must.
    pub(crate) fn of(plan: &Plan) -> Option<Fit> {
        let Shape::Groups { spec, .. } = &plan.shape else { return None };
        // Frames tell how many rows they have, and cells are of spans, records and points.
        if asks_nothing(plan, spec) || plan.level != Level::Row {
            return None;
        }
        let minutes = whole_minutes(plan.range)?;
        let told = |node: &Node| tells(node, plan);
        let all = plan.conditions.iter().all(told)
            && spec.keys.iter().all(told)
            && spec.accumulators.iter().all(|a| answers(a, plan) && a.filter.iter().all(told));
        if !all || spec.time.is_some() {
            return None;
        }
        let of = |wanted: &dyn Fn(&Field) -> bool| {
            let fields = plan.fields.iter().enumerate().filter(|(_, field)| wanted(field));
            fields.map(|(number, _)| number).collect::<Vec<_>>()
        };
        let services = of(&is_service);
        let durations = of(&|field| kept(field, plan.signal) == Some(Kept::Durations));
        Some(Fit { minutes, duration: durations.first().copied(), services })
    }

    /// Whether a cube tells what the rows of these frames would: all frames of its unit that the range touches.
    pub(crate) fn holds(&self, plan: &Plan, frames: &[Frame]) -> bool {
        let of_resources = |(table, id): &(TableKind, ColumnId)| {
            *table == TableKind::Resources && matches!(id, ColumnId::Attr { ty: AttrType::Str, .. })
        };
        frames.iter().all(|frame| {
            // A span that has started may give way to its end, wherever that lies.
            let open = has_running(frame) || (self.duration.is_some() && frame.negative_durations());
            !open
                && self.services.iter().all(|field| {
                    plan.fields[*field].plain_columns(frame).is_some_and(|columns| columns.iter().all(of_resources))
                })
        })
    }
}

/// Asks for the rollups of what is not counted yet, where they would answer a query.
pub(crate) fn ask(plan: &Plan, frames: &[Frame], uncounted: &[Uncounted]) {
    if uncounted.is_empty() {
        return;
    }
    let Some(fit) = Fit::of(plan) else { return };
    let fulfils = |frame: &Frame| plan.conditions.iter().all(|of| prune::may_hold(of, &plan.fields, frame));
    for segment in uncounted {
        let frames = &frames[segment.frames.clone()];
        if fit.holds(plan, frames) && frames.iter().any(fulfils) {
            segment.ask();
        }
    }
}

/// Whether a query only counts rows.
fn asks_nothing(plan: &Plan, spec: &GroupSpec) -> bool {
    plan.conditions.is_empty() && spec.nodes().next().is_none()
}

/// The minutes that lie wholly in a range; `None` where none does.
fn whole_minutes(range: TimeRange) -> Option<TimeRange> {
    let from = match range.from {
        i64::MIN => i64::MIN,
        from => from.checked_add(MINUTE_NANOS - 1)?.div_euclid(MINUTE_NANOS).checked_mul(MINUTE_NANOS)?,
    };
    let to = match range.to {
        // No end.
        i64::MAX => i64::MAX,
        to => to.div_euclid(MINUTE_NANOS).checked_mul(MINUTE_NANOS)?,
    };
    (from < to).then_some(TimeRange { from, to })
}

fn is_service(field: &Field) -> bool {
    matches!(&field.from, From::Attribute { tables, key } if **key == *"service.name" && tables.contains(&TableKind::Resources))
}

fn kept(field: &Field, signal: Signal) -> Option<Kept> {
    if is_service(field) {
        return Some(Kept::Values);
    }
    let From::Fixed { table, fixed } = &field.from else { return None };
    match (signal, table, fixed) {
        (Signal::Spans, TableKind::Items, Fixed::Plain(Intrinsic::Name) | Fixed::Kind | Fixed::Status) => {
            Some(Kept::Values)
        }
        (Signal::Logs, TableKind::Items, Fixed::Severity) => Some(Kept::Values),
        (Signal::Metrics, TableKind::Descriptors, Fixed::Plain(Intrinsic::Name)) => Some(Kept::Values),
        (_, TableKind::Items, Fixed::Time) => Some(Kept::Minutes),
        (Signal::Spans, TableKind::Items, Fixed::Duration) => Some(Kept::Durations),
        _ => None,
    }
}

/// What a cube keeps of the field that a node is.
fn kept_of(node: &Node, plan: &Plan) -> Option<Kept> {
    let Node::Field(field) = node else { return None };
    kept(plan.fields.get(*field)?, plan.signal)
}

/// A time that was put off by whole minutes, as a comparison does, lies in a minute as the time itself does.
fn in_minutes(node: &Node) -> &Node {
    match node {
        Node::Arithmetic { op: ArithmeticOp::Add, left, right } => match &**right {
            Node::Const(Scalar::Int(by)) if by % MINUTE_NANOS == 0 => left,
            _ => node,
        },
        _ => node,
    }
}

/// Whether a node has one value for all rows of a cell, which the cell tells.
fn tells(node: &Node, plan: &Plan) -> bool {
    with_room(|| tells_of(node, plan))
}

fn tells_of(node: &Node, plan: &Plan) -> bool {
    let all = |nodes: &[Node]| nodes.iter().all(|n| tells(n, plan));
    match node {
        Node::Const(_) => true,
        Node::Field(_) => kept_of(node, plan) == Some(Kept::Values),
        Node::Compare { left, right, .. }
        | Node::TextPair { left, right, .. }
        | Node::Arithmetic { left, right, .. } => tells(left, plan) && tells(right, plan),
        Node::InSet { expr, .. }
        | Node::TextTest { expr, .. }
        | Node::Exists(expr)
        | Node::Not(expr)
        | Node::Negate(expr)
        | Node::Path { expr, .. } => tells(expr, plan),
        Node::And(nodes) | Node::Or(nodes) => all(nodes),
        Node::Some { .. } | Node::Joined { .. } | Node::First { .. } => false,
        // Cells tell of no row what a guest would be asked.
        Node::Call { function: Function::Plugin(_), .. } => false,
        Node::Call { function, args } => {
            let of_time = || args.first().and_then(|arg| kept_of(in_minutes(arg), plan)) == Some(Kept::Minutes);
            match (function, args.get(1)) {
                (Function::Bucket, Some(Node::Const(Scalar::Int(width)))) if of_time() => width % MINUTE_NANOS == 0,
                (Function::Hour(None) | Function::Weekday(None), None) if of_time() => true,
                _ => all(args),
            }
        }
    }
}

/// Whether the cells of a cube give an accumulator the state that rows would.
fn answers(accumulator: &Accumulator, plan: &Plan) -> bool {
    use AccumulatorKind::{Count, Distinct, DistinctExact, Max, Min, Quantile, Sum, Top};
    let Some(arg) = &accumulator.arg else { return accumulator.kind == Count };
    match kept_of(arg, plan) {
        Some(Kept::Durations) => matches!(accumulator.kind, Count | Quantile | Sum | Min | Max),
        _ => matches!(accumulator.kind, Count | Min | Max | Distinct | DistinctExact | Top) && tells(arg, plan),
    }
}
