//! The type that a column of an answer would have if a row had a value: what empty answers tell.

use std::sync::{Arc, OnceLock};

use prism_plugin::ValueType;
use prism_store::Frame;

use crate::bind::query::{Plan, Shape};
use crate::eval::node::{ArithmeticOp, Function, Node};
use crate::eval::vals::Scalar;
use crate::field::{Field, From};
use crate::fixed::shown_types;
use crate::group::{AccumulatorKind, Output};
use crate::joins::{JOINED_FIRST, Joined};
use crate::plugins::Called;
use crate::scan::Scan;
use crate::series::{EARLIER, SERIES_FIRST};
use crate::stack::with_room;
use crate::structure::ask::{OfTrace, Told};

/// The rows of each join.
type Tables = [OnceLock<Arc<Joined>>];

/// The type of a column of an answer from several scans, where they agree on it.
pub(crate) fn of_column_in(scans: &[&Scan], column: usize) -> Option<&'static str> {
    let of_scan =
        |scan: &&Scan| of_column(&scan.plan, &scan.frames, &scan.joined, &scan.plan.columns.get(column)?.node);
    let found: std::collections::BTreeSet<&'static str> = scans.iter().filter_map(of_scan).collect();
    one(found.into_iter().collect())
}

/// The type of a column of a plan, by its expression and what the frames have; `None` where it depends on the rows.
pub(crate) fn of_column(plan: &Plan, frames: &[Frame], joined: &Tables, node: &Node) -> Option<&'static str> {
    let of_join = |join: usize, output| joined.get(join)?.get()?.type_of(output);
    let rows = |node: &Node| of_node(node, &|field| of_field(plan, frames, field), &of_join);
    let Shape::Groups { spec, outputs, stage, .. } = &plan.shape else { return rows(node) };
    let of_groups = |field: usize| {
        // The earlier range has the same columns.
        let field = if field >= EARLIER { field - EARLIER } else { field };
        if let Some(of) = field.checked_sub(JOINED_FIRST) {
            let of = stage.joined.get(of)?;
            return of_join(of.join, of.output);
        }
        if let Some(series) = field.checked_sub(SERIES_FIRST) {
            let series = stage.series.get(series)?;
            return if series.function.is_double() {
                Some("double")
            } else {
                of_column(plan, frames, joined, &series.of)
            };
        }
        if let Some(key) = spec.keys.get(field) {
            return rows(key);
        }
        let (accumulator, output, _) = outputs.get(field - spec.keys.len())?;
        let accumulator = &spec.accumulators[*accumulator];
        let arg = || accumulator.arg.as_ref().and_then(&rows);
        match (accumulator.kind, output) {
            (_, Output::Mean | Output::Quantile(_) | Output::PerSecond(_)) => Some("double"),
            (AccumulatorKind::Moments, _) => Some("double"),
            (AccumulatorKind::Plugin, _) => accumulator.plugin.as_ref().map(|called| returned(called)),
            (
                AccumulatorKind::Count
                | AccumulatorKind::Distinct
                | AccumulatorKind::DistinctExact
                | AccumulatorKind::Concurrency,
                _,
            ) => Some("int"),
            (_, Output::Top(_) | Output::Histogram(_) | Output::Heatmap(_) | Output::Exemplars(_)) => Some("json"),
            _ => arg(),
        }
    };
    of_node(node, &of_groups, &of_join)
}

fn of_field(plan: &Plan, frames: &[Frame], field: usize) -> Option<&'static str> {
    of_logical(plan.fields.get(field)?, frames)
}

fn of_logical(field: &Field, frames: &[Frame]) -> Option<&'static str> {
    match &field.from {
        From::Beside(beside) => match &beside.told {
            Told::Field(inner) => of_logical(inner, frames),
            Told::SelfDuration | Told::CriticalDuration | Told::Trace(OfTrace::Duration) => Some("duration"),
            Told::Trace(OfTrace::Start) => Some("time"),
            Told::Trace(OfTrace::Services) => Some("json"),
            Told::Trace(_) => Some("int"),
        },
        From::Fixed { fixed, .. } | From::Absent(fixed) => one(shown_types(*fixed)),
        From::TraceState { .. } => Some("string"),
        From::Body { .. } | From::Identity { .. } => None,
        From::Attribute { .. } => {
            let mut found = std::collections::BTreeSet::new();
            for types in frames.iter().map(|frame| field.types(frame)) {
                if types.any {
                    return None;
                }
                found.extend(types.of.into_iter().map(|ty| ty.as_str()));
            }
            one(found.into_iter().collect())
        }
    }
}

fn one(types: Vec<&'static str>) -> Option<&'static str> {
    match types.as_slice() {
        [one] => Some(one),
        _ => None,
    }
}

/// The type that a plugin's signature promises.
fn returned(called: &Called) -> &'static str {
    match called.function.signature().returns {
        ValueType::Boolean => "bool",
        ValueType::Int64 => "int",
        ValueType::Float64 => "double",
        ValueType::Utf8 => "string",
        ValueType::Binary => "bytes",
    }
}

/// The type of an expression over rows to which nothing is joined, by those of its fields.
pub(crate) fn of_expression(node: &Node, field: &dyn Fn(usize) -> Option<&'static str>) -> Option<&'static str> {
    of_node(node, field, &|_, _| None)
}

type OfField<'f> = &'f dyn Fn(usize) -> Option<&'static str>;
type OfJoin<'f> = &'f dyn Fn(usize, usize) -> Option<&'static str>;

fn of_node(node: &Node, field: OfField<'_>, joined: OfJoin<'_>) -> Option<&'static str> {
    with_room(|| type_of(node, field, joined))
}

fn type_of(node: &Node, field: OfField<'_>, joined: OfJoin<'_>) -> Option<&'static str> {
    let same = |all: &mut dyn Iterator<Item = &Node>| {
        let types: std::collections::BTreeSet<&'static str> =
            all.map(|n| of_node(n, field, joined)).collect::<Option<Vec<_>>>()?.into_iter().collect();
        one(types.into_iter().collect())
    };
    match node {
        Node::Const(scalar) => match scalar {
            Scalar::Int(_) => Some("int"),
            Scalar::Double(_) => Some("double"),
            Scalar::Str(_) => Some("string"),
            Scalar::Bool(_) => Some("bool"),
            _ => None,
        },
        Node::Field(number) => field(*number),
        Node::Arithmetic { op: ArithmeticOp::Div, .. } => Some("double"),
        Node::Arithmetic { left, right, .. } => match (of_node(left, field, joined)?, of_node(right, field, joined)?) {
            ("double", _) | (_, "double") => Some("double"),
            ("int" | "time" | "duration", "int" | "time" | "duration") => Some("int"),
            _ => None,
        },
        Node::Negate(inner) => of_node(inner, field, joined),
        Node::Path { .. } => None,
        Node::Joined { join, output, .. } => joined(*join, *output),
        Node::First { expr, .. } => of_node(expr, field, joined),
        Node::Call { function, args } => match function {
            Function::If => same(&mut args.iter().skip(1)),
            Function::Case => {
                let pairs = args.len() / 2 * 2;
                same(&mut args.iter().enumerate().filter(|(i, _)| i % 2 == 1 || *i >= pairs).map(|(_, n)| n))
            }
            Function::Coalesce => same(&mut args.iter()),
            Function::Lower | Function::Upper | Function::Substr | Function::Replace => Some("string"),
            Function::Split if args.len() < 3 => Some("json"),
            Function::Split | Function::Extract(..) | Function::Text(_) => Some("string"),
            Function::Length | Function::Hour(_) | Function::Weekday(_) => Some("int"),
            Function::Bool => Some("bool"),
            Function::Log2 | Function::Log10 | Function::Sqrt => Some("double"),
            Function::Abs | Function::Floor | Function::Ceil | Function::Round => of_node(args.first()?, field, joined),
            Function::Bucket | Function::Bin(_) => of_node(args.first()?, field, joined),
            Function::Plugin(called) => Some(returned(called)),
            Function::Number | Function::Pow | Function::Identity => None,
        },
        _ => Some("bool"),
    }
}
