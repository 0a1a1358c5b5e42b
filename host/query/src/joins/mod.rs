//! Rows of another signal beside a query's own: grouped by what both have in common, and looked up by it.
//!
//! ```text
//! query -> a plan for each join: groups by the common keys, of which each field (`logs.first.body`) is an aggregate (bind/join)
//!     -> run: the side with fewer rows first, whose trace ids the other is read by -> table (groups by key)
//!     -> a value for each row (eval) or group (series)
//! ```
//!
//! A row without partner stays, with no values and a count of 0. Not here: what the names mean (`bind/join`).

mod table;
mod run;

pub(crate) use table::Joined;

use arrow::array::UInt32Array;
use arrow::error::ArrowError;
use prism_store::Frame;

use crate::bind::query::{Plan, Shape};
use crate::eval::node::{Level, Node};
use crate::eval::vals::Scalar;
use crate::eval::{self, At, Rows, Vals};
use crate::scan::Scan;

/// Number of the first joined value among the fields of a group: behind keys, aggregates and series functions.
pub(crate) const JOINED_FIRST: usize = 1 << 22;

/// One join of a query.
#[derive(Clone, Debug)]
pub(crate) struct JoinPlan {
    /// Groups by the common keys, with a column for each field that the query names; none where it names none.
    pub(crate) plan: Option<Box<Plan>>,
    /// Which of the keys is the trace id.
    pub(crate) trace: Option<usize>,
    /// The query's own rows by the same keys.
    pub(crate) keys: Vec<Node>,
}

/// A joined value of each group.
#[derive(Clone, Debug)]
pub(crate) struct OfGroup {
    /// Which join, and which of its columns.
    pub(crate) join: usize,
    pub(crate) output: usize,
    /// Which of the groups' keys are those of the join, in its order.
    pub(crate) keys: Vec<usize>,
    /// The value where nothing is joined.
    pub(crate) missing: Scalar,
}

/// Whether no row of a frame fulfils some condition on joined rows, since nothing is joined to any (QU-2).
pub(crate) fn hopeless(scan: &Scan, frame: &Frame) -> bool {
    scan.plan.conditions.iter().any(|condition| {
        let mut joins = Vec::new();
        condition.joins(&mut |join| joins.push(join));
        // Without partners a row has the values that a row of nothing has.
        !joins.is_empty()
            && !holds_of_nothing(condition)
            && joins.iter().all(|join| {
                let joined = scan.joined.get(*join).and_then(|joined| joined.get());
                joined.is_some_and(|joined| !joined.may_touch(frame))
            })
    })
}

/// Whether a condition may hold for a row to which nothing is joined.
fn holds_of_nothing(condition: &Node) -> bool {
    let alone = condition.without_joined();
    // What else it asks of the row is not known.
    !alone.field_set().is_empty()
        || alone.calls_plugin()
        || eval::mask(&alone, &Nothing).map_or(true, |mask| mask.of.value(0))
}

/// One row to which nothing is joined.
struct Nothing;

impl Rows for Nothing {
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

/// The joins whose values decide which rows there are, or what is made of them; the others are but shown.
fn decide(plan: &Plan) -> Vec<bool> {
    let mut decide = vec![false; plan.joins.len()];
    let mut see = |node: &Node| {
        node.joins(&mut |join| decide[join] = true);
    };
    plan.conditions.iter().for_each(&mut see);
    match &plan.shape {
        Shape::Groups { spec, .. } => spec.nodes().for_each(&mut see),
        Shape::Rows => plan.order.iter().for_each(|key| see(&key.node)),
    }
    decide
}
