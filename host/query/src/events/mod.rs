//! `from events`: one row for each span, span event, log record and metric point, with the fields of all of them.
//!
//! ```text
//! query -> a plan for each kind that its conditions may keep (names: kind) -> a scan for each, all at once -> finish merges rows or groups
//! ```
//!
//! A condition is decided for a kind before anything is read where it asks for what rows of that kind never have: `signal =
//! 'log'` scans logs alone, `severity >= warn` too. Not here: how rows of several scans are merged (`finish`).

mod kind;

pub(crate) use kind::Kind;

use arrow::array::UInt32Array;
use arrow::error::ArrowError;
use prism_dsl::Query;
use prism_model::{ColumnId, Intrinsic, TableKind};
use prism_store::{Frame, Range};

use crate::bind::Binder;
use crate::bind::query::{Plan, plan_of};
use crate::error::QueryError;
use crate::eval::node::{Level, Node};
use crate::eval::vals::Scalar;
use crate::eval::{self, At, Rows, Vals};
use crate::field::{Field, From};
use crate::plugins::Plugins;
use crate::stack::with_room;

/// The plans of a query over all kinds: the first, with the others beside it. Kinds that it keeps no rows of have none.
pub(crate) fn plan(query: &Query, now: i64, limit_max: usize, plugins: &Plugins) -> Result<Plan, QueryError> {
    let mut plans = Vec::new();
    for kind in Kind::ALL {
        plans.push(plan_of(Binder::of_kind(query, kind, now, plugins), limit_max)?);
    }
    let mut first = plans.remove(0);
    plans.iter_mut().for_each(|plan| plan.warnings.clear());
    let never = |plan: &Plan| plan.conditions.iter().any(|c| known(c, &plan.fields) == Some(false));
    plans.retain(|plan| !never(plan));
    if never(&first) {
        if plans.is_empty() {
            // No kind is left, but an answer has columns: of a scan that reads nothing.
            first.conditions = vec![Node::Const(Scalar::Bool(false))];
        } else {
            let warnings = std::mem::take(&mut first.warnings);
            first = plans.remove(0);
            first.warnings = warnings;
        }
    }
    first.beside = plans;
    Ok(first)
}

/// Least and greatest time of a frame's rows, as far as is known without reading them.
pub(crate) fn times(plan: &Plan, frame: &Frame) -> (i64, i64) {
    if plan.level != Level::Event {
        return (frame.stats().time_min, frame.stats().time_max);
    }
    let time = ColumnId::Intrinsic(Intrinsic::Time);
    match frame.columns(TableKind::Events).iter().find(|column| column.id == time).map(|column| &column.range) {
        Some(Some(Range::Int { min, max })) => (*min, *max),
        _ => (i64::MIN, i64::MAX),
    }
}

/// What a condition is for every row, where that is certain before any is read.
fn known(node: &Node, fields: &[Field]) -> Option<bool> {
    with_room(|| known_of(node, fields))
}

fn known_of(node: &Node, fields: &[Field]) -> Option<bool> {
    let missing = |node: &Node| match node {
        Node::Const(value) => value.is_null(),
        Node::Field(field) => fields.get(*field).is_some_and(|field| matches!(field.from, From::Absent(_))),
        _ => false,
    };
    let decided = |parts: &[Node], by: bool| {
        let parts: Vec<Option<bool>> = parts.iter().map(|part| known(part, fields)).collect();
        if parts.contains(&Some(by)) { Some(by) } else { parts.iter().all(Option::is_some).then_some(!by) }
    };
    match node {
        Node::And(all) => decided(all, false),
        Node::Or(all) => decided(all, true),
        Node::Not(inner) => known(inner, fields).map(|holds| !holds),
        // Comparisons of what is missing are false, negated ones too.
        Node::Compare { left, right, .. } | Node::TextPair { left, right, .. } if missing(left) || missing(right) => {
            Some(false)
        }
        Node::InSet { expr, .. } | Node::TextTest { expr, .. } | Node::Exists(expr) if missing(expr) => Some(false),
        Node::Const(Scalar::Bool(holds)) => Some(*holds),
        _ if missing(node) => Some(false),
        // What a plugin says is not known before it is asked, and it is asked of rows alone.
        _ if node.calls_plugin() => None,
        _ if node.field_set().is_empty() => Some(eval::mask(node, &NoRows).ok()?.of.value(0)),
        _ => None,
    }
}

/// Nothing to take values from.
pub(crate) struct NoRows;

impl Rows for NoRows {
    fn field(&self, _: usize) -> Result<At<Vals>, ArrowError> {
        Ok(At { level: Level::One, of: Vals::nulls(1) })
    }

    fn len(&self, _: Level) -> usize {
        1
    }

    fn lift(&self, _: Level, _: Level) -> Result<UInt32Array, ArrowError> {
        Ok(UInt32Array::from_value(0, 1))
    }
}
