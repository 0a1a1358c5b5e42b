//! Runs joins: which side first, and what it tells the other.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use datafusion::execution::memory_pool::MemoryConsumer;
use prism_store::Frame;

use super::{JoinPlan, Joined, decide};
use crate::bind::query::{Plan, Shape};
use crate::encode;
use crate::engine::{Asked, Engine, blocking};
use crate::error::QueryError;
use crate::eval::node::{Node, Set};
use crate::eval::vals::Scalar;
use crate::finish::places;
use crate::group::GroupSpec;
use crate::prune;
use crate::ran::Ran;

/// How many times fewer rows a query's own side must have to be asked first: its rows are then read twice.
const ASKED_FIRST: u64 = 4;

type Ids = HashSet<Vec<u8>>;

impl Engine {
    /// Runs a plan with its joins: a scan, or the passes of one.
    ///
    /// # Errors
    /// As [`Engine::run`], and what vanished.
    pub(crate) async fn ran(&self, plan: Plan, asked: &Asked, restarts: bool) -> Result<Vec<Ran>, QueryError> {
        if plan.joins.iter().all(|join| join.plan.is_none()) {
            return self.scanned(plan, Vec::new(), asked, restarts).await;
        }
        let (joins, first) = (plan.joins.clone(), decide(&plan));
        let mut tables: Vec<Option<Arc<Joined>>> = vec![None; joins.len()];
        let mut ran_for_joins = Vec::new();
        for (number, join) in joins.iter().enumerate().filter(|(number, _)| first[*number]) {
            let ids = self.own_ids(&plan, join, asked, restarts, &mut ran_for_joins).await?;
            tables[number] = self.joined(join, ids, asked, restarts, &mut ran_for_joins).await?;
        }
        let mut ran = self.scanned(plan, tables, asked, restarts).await?;
        for (number, join) in joins.iter().enumerate().filter(|(number, _)| !first[*number]) {
            let (ids, ran_again) = self.shown_ids(ran, number, join, asked).await?;
            ran = ran_again;
            if let Some(table) = self.joined(join, ids, asked, restarts, &mut ran_for_joins).await? {
                ran.iter().for_each(|ran| ran.scan.join(number, table.clone()));
            }
        }
        if let Some(first) = ran.first_mut() {
            first.joined = ran_for_joins;
        }
        Ok(ran)
    }

    /// The groups of a joined signal, of some traces or of all rows.
    async fn joined(
        &self,
        join: &JoinPlan,
        ids: Option<Ids>,
        asked: &Asked,
        restarts: bool,
        all: &mut Vec<Ran>,
    ) -> Result<Option<Arc<Joined>>, QueryError> {
        let Some(plan) = &join.plan else { return Ok(None) };
        let mut plan = Plan::clone(plan);
        if let (Some(ids), Shape::Groups { spec, .. }, Some(key)) = (ids, &plan.shape, join.trace) {
            let expr = Box::new(spec.keys[key].clone());
            plan.conditions.push(Node::InSet { expr, set: Set { ids, ..Set::default() }, negated: false });
        }
        let by_trace = join.trace.is_some() && join.keys.len() == 1;
        // Rows of other signals have no structure, and so one pass.
        let Some(ran) = self.scanned(plan, Vec::new(), asked, restarts).await?.pop() else { return Ok(None) };
        if asked.explained.is_some() {
            all.push(ran);
            return Ok(None);
        }
        let memory = MemoryConsumer::new("join").register(asked.context.memory_pool());
        let fill_rows_max = self.options.fill_rows_max;
        let (ran, table) = blocking(move || {
            let (mut ran, mut warnings) = (ran, Vec::new());
            let table = Joined::of(&ran, by_trace, memory, fill_rows_max, &mut warnings)?;
            ran.warn(warnings);
            Ok((ran, table))
        })
        .await?;
        all.push(ran);
        Ok(Some(Arc::new(table)))
    }

    /// The traces of the query's own rows, where finding them first is less work than looking at all rows of the other side.
    async fn own_ids(
        &self,
        plan: &Plan,
        join: &JoinPlan,
        asked: &Asked,
        restarts: bool,
        all: &mut Vec<Ran>,
    ) -> Result<Option<Ids>, QueryError> {
        let (Some(trace), Some(other)) = (join.trace, &join.plan) else { return Ok(None) };
        // What is only estimated gives no ids.
        if asked.explained.is_some() {
            return Ok(None);
        }
        let key = &join.keys[trace];
        // Of several traces a point, none is its own.
        if plan.fields.iter().enumerate().any(|(n, field)| key.field_set().contains(&n) && field.child().is_some()) {
            return Ok(None);
        }
        let mut own = plan.clone();
        own.conditions.retain(|condition| {
            let mut of_join = false;
            condition.joins(&mut |_| of_join = true);
            !of_join
        });
        let rows = |plan: &Plan| {
            let (engine, plan, asked) = (self.clone(), plan.clone(), asked.clone());
            blocking(move || engine.candidates(&plan, &asked))
        };
        if own.conditions.is_empty() || rows(&own).await?.saturating_mul(ASKED_FIRST) > rows(other).await? {
            return Ok(None);
        }
        let Shape::Groups { spec, stage, .. } = &other.shape else { return Ok(None) };
        let (keys, accumulators) = (vec![key.clone()], Vec::new());
        let spec = Box::new(GroupSpec { keys, accumulators, time: None, bin: None, ..GroupSpec::clone(spec) });
        let stage = Box::new(stage.without_joined());
        own.shape = Shape::Groups { spec, outputs: Vec::new(), stage, having: None };
        (own.columns, own.order, own.joins) = (Vec::new(), Vec::new(), Vec::new());
        let mut ran = self.scanned(own, Vec::new(), asked, restarts).await?;
        ran.iter_mut().try_for_each(Ran::settle)?;
        let parts = ran.iter().flat_map(|ran| &ran.parts);
        let ids = ids_of_groups(parts, 0, self.options.join_traces_max);
        all.extend(ran);
        Ok(ids)
    }

    /// The traces of what the passes of a scan found.
    async fn shown_ids(
        &self,
        ran: Vec<Ran>,
        number: usize,
        join: &JoinPlan,
        asked: &Asked,
    ) -> Result<(Option<Ids>, Vec<Ran>), QueryError> {
        let Some(trace) = join.trace.filter(|_| join.plan.is_some() && asked.explained.is_none()) else {
            return Ok((None, ran));
        };
        let (key, most) = (join.keys[trace].clone(), self.options.join_traces_max);
        blocking(move || {
            let mut ran = ran;
            ran.iter_mut().try_for_each(Ran::settle)?;
            let ids = match ran.first().map(|first| &first.scan.plan.shape) {
                Some(Shape::Groups { stage, .. }) => {
                    let of_join = stage.joined.iter().find(|joined| joined.join == number);
                    let parts = ran.iter().flat_map(|ran| &ran.parts);
                    of_join.and_then(|joined| ids_of_groups(parts, joined.keys[trace], most))
                }
                Some(Shape::Rows) => ids_of_rows(&ran, &key, most)?,
                None => None,
            };
            Ok((ids, ran))
        })
        .await
    }

    /// Rows of the frames that a plan would read. Blocks on the disk.
    fn candidates(&self, plan: &Plan, asked: &Asked) -> Result<u64, QueryError> {
        let snapshot = self.reader.snapshot(&asked.tenant, plan.signal, plan.range)?;
        let may_hold = |frame: &&Frame| plan.conditions.iter().all(|c| prune::may_hold(c, &plan.fields, frame));
        Ok(snapshot.frames.iter().filter(may_hold).map(|frame| frame.rows() as u64).sum())
    }
}

/// The trace ids among a key of groups; `None` where there are more than `most`.
fn ids_of_groups<'p>(parts: impl Iterator<Item = &'p RecordBatch>, key: usize, most: usize) -> Option<Ids> {
    let mut ids = Ids::new();
    for part in parts {
        for bytes in part.column(key).as_binary::<i32>().iter().flatten() {
            if let Scalar::Id(id) = encode::decode(bytes) {
                ids.insert(id);
            }
            if ids.len() > most {
                return None;
            }
        }
    }
    Some(ids)
}

/// The trace ids of the rows of an answer. Blocks on the disk.
fn ids_of_rows(ran: &[Ran], key: &Node, most: usize) -> Result<Option<Ids>, QueryError> {
    let mut ids = Ids::new();
    for (ran, (frame, rows)) in ran.iter().flat_map(|ran| places(ran).into_iter().map(move |rows| (ran, rows))) {
        let Some(found) = ran.scan.fetch_all(frame, &rows, key)? else { continue };
        for row in 0..found.len {
            if let Scalar::Id(id) = found.get(row) {
                ids.insert(id);
            }
        }
        if ids.len() > most {
            return Ok(None);
        }
    }
    Ok(Some(ids))
}
