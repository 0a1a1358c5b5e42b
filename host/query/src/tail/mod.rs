//! New rows that match a query, frame by frame as they are stored: what a live tail shows.
//!
//! ```text
//! query -> refuse what needs all rows at once -> plan -> one frame after the other (prune, read, filter) -> its rows by time
//! ```
//!
//! A row is shown when it arrives, whatever its own time is: there is no range, and no order but that of arrival. Not here: which
//! frames are new (`prism-store`), and who waits for them (`server`).

mod cursor;

use std::sync::Arc;

use arrow::array::UInt32Array;
use prism_dsl::{Pos, Query, Source};
use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};
use prism_store::Frame;

pub use cursor::{Before, Halfway, TailCursor};

use crate::answer::Column;
use crate::bind::query::{Plan, Shape, plan};
use crate::engine::Engine;
use crate::error::{QueryError, code};
use crate::eval::node::Unit;
use crate::eval::vals::{Scalar, Vals};
use crate::plugins::{Plugins, calls_plugins};
use crate::scan::Scan;
use crate::show;
use crate::turns::Taker;
use crate::types;

/// A query that is asked of each frame on its own.
#[derive(Debug)]
pub struct Tail {
    query: Query,
    taker: Arc<Taker>,
    plans: Vec<Plan>,
    /// The plans hold the time at which they were made.
    timed: bool,
}

/// The rows of a frame that match, by their times.
#[derive(Debug)]
pub struct TailRows {
    columns: Arc<[(String, Unit)]>,
    values: Vec<Vec<Vals>>,
    /// Of which plan each row is, and where.
    order: Vec<(usize, usize)>,
}

impl Engine {
    /// Settles a query for a live tail of one tenant. `now_unix_nanos` is what `now()` means in it.
    ///
    /// # Errors
    /// `Fix` where the query is at fault, or needs more than one frame at a time: groups, order, structure, joins.
    pub fn tail(&self, tenant: &TenantId, query: &Query, now_unix_nanos: i64) -> Result<Tail, QueryError> {
        refuse(query)?;
        let plans = plans(query, now_unix_nanos)?;
        // A condition alone cannot tell what stands beside a row.
        if plans.iter().any(|plan| plan.structure.is_some()) {
            return Err(unfit("fields of other spans (`parent.`, `root.`, `self_duration`, `critical_duration`)"));
        }
        if plans.iter().any(|plan| !matches!(plan.shape, Shape::Rows)) {
            return Err(unfit("aggregates and groups"));
        }
        let named = plans.iter().flat_map(|plan| &plan.fields).filter_map(|field| match &field.from {
            crate::field::From::Attribute { key, .. } => Some(key),
            _ => None,
        });
        plans.iter().for_each(|plan| self.reader.used(tenant, plan.signal, named.clone()));
        let timed = query.to_string().to_ascii_lowercase().contains("now(");
        Ok(Tail { query: query.clone(), taker: self.turns.open(tenant), plans, timed })
    }
}

impl Tail {
    /// The signals whose rows it shows, each once.
    pub fn signals(&self) -> Vec<Signal> {
        let mut signals: Vec<Signal> = self.plans.iter().map(|plan| plan.signal).collect();
        signals.sort_unstable();
        signals.dedup();
        signals
    }

    /// The columns of its rows; the type is `null` where it depends on the row.
    pub fn columns(&self) -> Vec<Column> {
        let Some(first) = self.plans.first() else { return Vec::new() };
        let of = |(number, column): (usize, &crate::bind::query::OutputColumn)| {
            let types = self.plans.iter().map(|plan| types::of_column(plan, &[], &[], &plan.columns.get(number)?.node));
            let types: std::collections::BTreeSet<_> = types.flatten().collect();
            let known = match (column.unit, types.len()) {
                (Unit::Time, _) => Some("time"),
                (Unit::Duration, _) => Some("duration"),
                (_, 1) => types.first().copied(),
                _ => None,
            };
            Column {
                name: column.name.clone(),
                ty: known.unwrap_or("null"),
                unit: (column.unit == Unit::Duration).then_some("ns"),
            }
        };
        first.columns.iter().enumerate().map(of).collect()
    }

    /// Its query.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// A number that tails have in common which show the same rows of any frame; none where those depend on the time.
    pub fn alike(&self) -> Option<u64> {
        (!self.timed).then(|| cursor::fingerprint(&self.query))
    }

    /// The rows of a frame that match and whose event time is not before `from_unix_nanos`, by their times; always in the same
    /// order. Waits for its turn among the queries. Blocks on the disk.
    ///
    /// # Errors
    /// `Retry` where the frame cannot be read, `Bug` where it is damaged.
    pub fn rows(&self, frame: &Frame, now_unix_nanos: i64, from_unix_nanos: i64) -> Result<TailRows, QueryError> {
        let fresh;
        let plans = if self.timed {
            fresh = plans(&self.query, now_unix_nanos)?;
            &fresh
        } else {
            &self.plans
        };
        let columns = plans.first().map(|plan| plan.columns.iter().map(|c| (c.name.clone(), c.unit)).collect());
        let mut rows = TailRows { columns: columns.unwrap_or_default(), values: Vec::new(), order: Vec::new() };
        let mut keyed = Vec::new();
        for plan in plans.iter().filter(|plan| plan.signal == frame.signal()) {
            let mut plan = plan.clone();
            plan.range = TimeRange { from: from_unix_nanos, ..TimeRange::ALL };
            let scan = Scan::new(plan, vec![frame.clone()], Vec::new(), Arc::default(), true);
            let Some((times, values)) = self.taken(&scan)? else { continue };
            let part = rows.values.len();
            rows.values.push(values);
            keyed.extend((0..times.len).map(|row| (time_of(&times.get(row)), part, row)));
        }
        keyed.sort_unstable();
        rows.order = keyed.into_iter().map(|(_, part, row)| (part, row)).collect();
        Ok(rows)
    }

    fn taken(&self, scan: &Scan) -> Result<Option<(Vals, Vec<Vals>)>, QueryError> {
        let turn = self.taker.take(&|| false);
        let found = scan.only();
        drop(turn);
        found
    }
}

fn time_of(time: &Scalar) -> i64 {
    match time {
        Scalar::Int(time) => *time,
        _ => i64::MIN,
    }
}

impl TailRows {
    /// How many.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds a row to some text: an object with a value for each column, as in answers to queries.
    pub fn write(&self, row: usize, out: &mut String) {
        let Some((part, row)) = self.order.get(row) else { return };
        let Some(values) = self.values.get(*part) else { return };
        let cells = self.columns.iter().zip(values);
        let object: serde_json::Map<_, _> =
            cells.map(|((name, unit), values)| (name.clone(), show::json(&values.get(*row), *unit))).collect();
        out.push_str(&serde_json::Value::Object(object).to_string());
    }
}

/// The plan of each kind of rows.
fn plans(query: &Query, now: i64) -> Result<Vec<Plan>, QueryError> {
    // Calls of plugins were refused.
    let mut first = plan(query, now, usize::MAX, &Plugins::default())?;
    let beside = std::mem::take(&mut first.beside);
    Ok(std::iter::once(first).chain(beside).collect())
}

/// Refuses clauses that a tail has no meaning for.
fn refuse(query: &Query) -> Result<(), QueryError> {
    if query.from == Source::Traces {
        return Err(unfit("traces: a trace is whole only some time after its last span")
            .with_hint("follow `from spans`, and ask /v1/query for traces"));
    }
    if calls_plugins(query) {
        return Err(unfit("a call of a plugin"));
    }
    let clauses = [
        (query.matches.is_some(), "`match`"),
        (!query.joins.is_empty(), "`join`"),
        (!query.by.is_empty(), "`by`"),
        (query.having.is_some(), "`having`"),
        (query.fill.is_some(), "`fill`"),
        (query.compare.is_some(), "`compare`"),
    ];
    if let Some((_, clause)) = clauses.into_iter().find(|(there, _)| *there) {
        return Err(unfit(clause));
    }
    if !query.order.is_empty() {
        let message = "a tail shows rows in the order in which they arrive: expected no `order`";
        return Err(QueryError::at(code::TAIL, Pos::NONE, 1, message).with_hint("ask /v1/query for ordered rows"));
    }
    if query.budget.is_some() {
        let message = "a tail has no end, and so no budget: expected no `budget`";
        return Err(QueryError::at(code::TAIL, Pos::NONE, 1, message).with_hint("`limit` ends it after so many rows"));
    }
    if query.dry_run {
        let message = "a tail cannot be explained: expected no `dry_run`";
        return Err(QueryError::at(code::TAIL, Pos::NONE, 1, message).with_hint("ask /v1/query/explain"));
    }
    Ok(())
}

fn unfit(what: &str) -> QueryError {
    let message = format!("a tail shows each row as it arrives, on its own: expected plain rows, found {what}");
    let hint = "keep `where`, `let` and `select` of plain fields here, and ask /v1/query again and again for the rest";
    QueryError::at(code::TAIL, Pos::NONE, 1, message).with_hint(hint)
}

impl Scan {
    /// The rows of the only frame that match: their times, and the columns.
    pub(crate) fn only(&self) -> Result<Option<(Vals, Vec<Vals>)>, QueryError> {
        use crate::eval::node::Level;
        use crate::reading::Matching;
        let Some(frame) = self.frames.first() else { return Ok(None) };
        if self.hopeless(frame) {
            return Ok(None);
        }
        let mut reading = self.reading(0);
        let selection = match reading.matching(None)? {
            Matching::None => return Ok(None),
            Matching::All => {
                UInt32Array::from_iter_values(0..u32::try_from(crate::scan::counted(&self.plan, frame)).unwrap_or(0))
            }
            Matching::Some(rows) => rows,
        };
        let nodes = || self.plan.columns.iter().map(|c| &c.node).chain([&self.plan.shown_time]);
        reading.late(Some(&selection), nodes)?;
        let rows = reading.rows(Some(&selection))?;
        let values = self.plan.columns.iter().map(|c| crate::eval::vals_at(&c.node, Level::Row, &rows));
        let values = values.collect::<Result<_, _>>()?;
        Ok(Some((crate::eval::vals_at(&self.plan.shown_time, Level::Row, &rows)?, values)))
    }
}
