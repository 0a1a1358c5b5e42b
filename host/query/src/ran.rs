//! One scan of a query: its snapshot, its work on all threads, and what that cost. A query of several ranges, signals or
//! steps runs several.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arrow::array::RecordBatch;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt as _;
use parking_lot::Mutex;
use prism_model::TableKind;
use prism_model::window::TimeRange;
use prism_store::{Found, Frame, Snapshot, StoreError};

use crate::answer::{Partial, Stats};
use crate::bind::query::{Plan, Shape};
use crate::engine::{Asked, Engine, SharedBound, blocking, engine_error, nanos};
use crate::error::{QueryError, code};
use crate::eval::node::Level;
use crate::exec::ScanExec;
use crate::explain::Estimate;
use crate::field::{From as FieldFrom, Types};
use crate::finish;
use crate::joins::Joined;
use crate::names::{nearest, row_fields};
use crate::prune;
use crate::rollup;
use crate::running::Superseded;
use crate::scan::{Deadline, Scan};
use crate::structure::{self, Left};
use crate::turns::places;

/// A scan that was run to its end.
pub(crate) struct Ran {
    pub(crate) scan: Arc<Scan>,
    /// What its threads found, one batch of [`Scan::schema`] each; see [`Scan::take_first`].
    pub(crate) parts: Vec<RecordBatch>,
    /// The scans of joined rows.
    pub(crate) joined: Vec<Ran>,
    warnings: Vec<String>,
    /// Fields that none of its rows has; of no rows nothing is known.
    unknown: Option<Vec<Unknown>>,
    /// What the snapshot found, hot to cold.
    tiers: [Found; 3],
    /// It goes over frames that another pass of the query went over before.
    again: bool,
    bind_nanos: u64,
    scan_nanos: u64,
    /// Whoever drops it needs no more rows of the scan.
    _stop: StopOnDrop,
}

impl Ran {
    /// Puts all groups into parts, also those that stayed as they were for others to be added to.
    pub(crate) fn settle(&mut self) -> Result<(), QueryError> {
        if let (Some(groups), Shape::Groups { spec, .. }) = (self.scan.take_first(), &self.scan.plan.shape) {
            self.parts.push(groups.into_batch(spec)?);
        }
        Ok(())
    }

    /// Adds what should be known about it.
    pub(crate) fn warn(&mut self, warnings: Vec<String>) {
        self.warnings.extend(warnings);
    }

    /// Adds what the scan cost, and what should be known about it.
    pub(crate) fn tell(&self, to: &mut Stats) {
        let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let (scan, counters) = (&self.scan, &self.scan.counters);
        let outside = self.tiers.iter().map(|found| found.pruned as u64).sum::<u64>();
        to.rows_scanned += count(&counters.rows_scanned);
        to.rows_matched += count(&counters.rows_matched);
        to.bytes_read += count(&counters.bytes_read);
        to.reads += count(&counters.reads);
        if !self.again {
            to.frames_total += scan.frames.len() as u64 + outside;
            to.frames_pruned += count(&counters.frames_pruned) + outside;
        }
        to.structure_passes += u64::from(scan.plan.structure.is_some());
        to.frames_read += count(&counters.frames_read);
        to.rollups_read += count(&counters.rollups_read);
        to.rows_from_rollups += count(&counters.rows_from_rollups);
        for ((to, found), of) in to.tiers.iter_mut().zip(&self.tiers).zip(&counters.tiers) {
            to.parts += if self.again { 0 } else { found.parts as u64 };
            to.frames_read += count(&of.frames_read);
            to.bytes_read += count(&of.bytes_read);
            to.reads += count(&of.reads);
        }
        to.bind_nanos += self.bind_nanos;
        to.scan_nanos += self.scan_nanos;
        to.cpu_nanos += count(&counters.busy_nanos);
        if let Some(ask) = &scan.plan.structure {
            to.returned.clone_from(&ask.returned);
        }
        to.warnings.extend(self.warnings.iter().cloned());
        to.partial.extend(scan.partial.lock().iter().cloned());
        to.partial.sort_by(|a, b| a.what.cmp(&b.what));
        to.partial.dedup();
        self.joined.iter().for_each(|ran| ran.tell(to));
    }
}

/// A field that no row in the range has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unknown {
    name: String,
    /// What may have been meant.
    hint: Option<String>,
}

impl Unknown {
    fn message(&self) -> String {
        format!("no row in the range has the field `{}`", self.name)
    }

    fn error(self) -> QueryError {
        QueryError::at(code::UNKNOWN_FIELD, prism_dsl::Pos::NONE, 1, self.message()).with_hint_if(self.hint)
    }
}

/// The fields that the rows of none of some scans have, each with a hint from the first that has one.
fn unknown_in_all(ran: &[Ran]) -> Vec<Unknown> {
    let mut known = ran.iter().filter_map(|ran| ran.unknown.as_ref());
    let Some(first) = known.next() else { return Vec::new() };
    let mut unknown = first.clone();
    for more in known {
        unknown.retain_mut(|field| {
            let other = more.iter().find(|other| other.name == field.name);
            field.hint = field.hint.take().or_else(|| other?.hint.clone());
            other.is_some()
        });
    }
    unknown
}

/// The same, and those of each join.
fn all_unknown(ran: &[Ran]) -> Vec<Unknown> {
    let of_joins = ran.iter().flat_map(|ran| &ran.joined).flat_map(|ran| unknown_in_all(std::slice::from_ref(ran)));
    unknown_in_all(ran).into_iter().chain(of_joins).collect()
}

/// Warnings of fields that no row in the range has.
pub(crate) fn unknown_fields(ran: &[Ran]) -> Vec<String> {
    let warning = |unknown: Unknown| match &unknown.hint {
        Some(hint) => format!("{}: {hint}", unknown.message()),
        None => unknown.message(),
    };
    all_unknown(ran).into_iter().map(warning).collect()
}

impl Engine {
    /// Runs the scans of a plan and of those beside it at the same time: they share what a query may use, its turns, and the time
    /// that a row must beat to be among the first.
    ///
    /// # Errors
    /// As [`Engine::ran`]; with `strict` also a field that no row of any has.
    pub(crate) async fn all_ran(&self, mut plan: Plan, asked: &Asked, restarts: bool) -> Result<Vec<Ran>, QueryError> {
        let beside = std::mem::take(&mut plan.beside);
        let bound = Arc::new(SharedBound { scans: 1 + beside.len(), bound: OnceLock::new() });
        let asked = &Asked { bound, ..asked.clone() };
        let plans = std::iter::once(plan).chain(beside);
        let mut all = Vec::new();
        if asked.explained.is_some() {
            // Told in their order.
            for plan in plans {
                all.extend(self.ran(plan, asked, restarts).await?);
            }
        } else {
            let scans = plans.map(|plan| Box::pin(self.ran(plan, asked, restarts)));
            all.extend(futures::future::try_join_all(scans).await?.into_iter().flatten());
        }
        match all_unknown(&all).into_iter().next() {
            Some(unknown) if asked.options.strict => Err(unknown.error()),
            _ => Ok(all),
        }
    }

    /// Runs one scan, with the rows of those of its joins that are known: where it asks for structure of more traces than fit
    /// into its memory in several passes over the same rows, each of which is told as a scan of its own. What is read may move to
    /// a colder tier meanwhile: an error where the query `restarts`, else the answer is partial.
    ///
    /// # Errors
    /// As [`Engine::run`], and what vanished.
    pub(crate) async fn scanned(
        &self,
        plan: Plan,
        joined: Vec<Option<Arc<Joined>>>,
        asked: &Asked,
        restarts: bool,
    ) -> Result<Vec<Ran>, QueryError> {
        let mut started = Instant::now();
        let (engine, of) = (self.clone(), asked.clone());
        let Prepared { mut scan, mut warnings, unknown, tiers } =
            blocking(move || engine.prepare(plan, joined, &of, restarts)).await?;
        let mut left = (scan.plan.structure.is_some() && asked.explained.is_none()).then(Left::all);
        let mut all: Vec<Ran> = Vec::new();
        loop {
            let bound = Instant::now();
            let stop = StopOnDrop(scan.clone());
            if let Some(of_all) = left {
                let enough = all.len() + 1 >= asked.options.structure_passes_min;
                let now = of_all.half().filter(|_| !enough).unwrap_or(of_all);
                left = self.resolved(&scan, now, asked).await?;
            }
            let parts = match &asked.explained {
                Some(_) => Vec::new(),
                None => self.collect(&scan, asked).await?,
            };
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            self.calibration.learn(count(&scan.counters.cells), count(&scan.counters.busy_nanos));
            let (bind_nanos, scan_nanos) = (nanos(bound - started), nanos(bound.elapsed()));
            let (again, next) = (!all.is_empty(), left.as_ref().map(|_| Arc::new(scan.again())));
            let (warnings, unknown) = (std::mem::take(&mut warnings), unknown.clone());
            let joined = Vec::new();
            let ran = Ran { scan, parts, joined, warnings, unknown, tiers, again, bind_nanos, scan_nanos, _stop: stop };
            all.push(self.shown(ran).await?);
            match next {
                Some(next) => (scan, started) = (next, Instant::now()),
                None => return Ok(all),
            }
        }
    }

    /// Finds out what a scan asks of structure, of the traces that are left. Gives what is left then.
    async fn resolved(&self, scan: &Arc<Scan>, left: Left, asked: &Asked) -> Result<Option<Left>, QueryError> {
        let (scan, limits) = (scan.clone(), self.structure_limits());
        let memory = MemoryConsumer::new("structure").register(asked.context.memory_pool());
        blocking(move || {
            let Some(ask) = &scan.plan.structure else { return Ok(None) };
            let (structure, rest) = structure::resolve(&scan, ask, limits, &left, memory)?;
            scan.settle(Some(structure));
            Ok(rest)
        })
        .await
    }

    /// Of what structure told, leaves what the rows that a scan found show.
    async fn shown(&self, ran: Ran) -> Result<Ran, QueryError> {
        let Some(structure) = ran.scan.structure() else { return Ok(ran) };
        let threads = places(self.options.threads);
        blocking(move || {
            let kept = match &ran.scan.plan.shape {
                Shape::Rows => Some(structure.kept(&ran.scan, &finish::places(&ran), threads)?),
                Shape::Groups { .. } => None,
            };
            drop(structure);
            ran.scan.settle(kept);
            Ok(ran)
        })
        .await
    }

    /// Takes the snapshot and settles what depends on it. Blocks on the disk.
    fn prepare(
        &self,
        mut plan: Plan,
        joined: Vec<Option<Arc<Joined>>>,
        asked: &Asked,
        restarts: bool,
    ) -> Result<Prepared, QueryError> {
        let named = plan.fields.iter().filter_map(|field| match &field.from {
            FieldFrom::Attribute { key, .. } => Some(key),
            _ => None,
        });
        self.reader.used(&asked.tenant, plan.signal, named);
        let snapshot = self.reader.snapshot(&asked.tenant, plan.signal, self.reach(&plan))?;
        let mut partial: Vec<Partial> = snapshot.unreadable.iter().map(Partial::of_unreadable).collect();
        let asked_of = |frame: &Frame| {
            let may_hold = |condition| prune::may_hold(condition, &plan.fields, frame);
            // Other spans than those that fulfil the conditions count where structure is asked for.
            asked.options.without_pruning || plan.structure.is_some() || plan.conditions.iter().all(may_hold)
        };
        // To find them, rows are read.
        let marked: &[Frame] = if asked.explained.is_some() { &[] } else { &snapshot.frames };
        let superseded = match Superseded::find(plan.signal, marked, &asked_of) {
            Err(error @ StoreError::Vanished(_)) if restarts => return Err(error.into()),
            Err(error) => {
                partial.push(Partial { what: "ends of running spans".into(), why: error.to_string() });
                Superseded::default()
            }
            Ok(superseded) => superseded,
        };
        let unknown = unknown(&plan, &snapshot);
        let warnings = std::mem::take(&mut plan.warnings);
        let (holds, limit, tiers) = (snapshot.holds_until(), snapshot.grace(), snapshot.tiers);
        let by_rows = asked.options.without_rollups || plan.structure.is_some();
        if !by_rows && asked.explained.is_none() {
            rollup::ask(&plan, &snapshot.frames, &snapshot.uncounted);
        }
        let rolled = if by_rows { Vec::new() } else { snapshot.rolled };
        let prune = !asked.options.without_pruning;
        let mut scan = Scan::new(plan, snapshot.frames, rolled, Arc::new(superseded), prune);
        scan.superseded.costs.iter().for_each(|(tier, cost)| scan.counters.read(*tier, *cost));
        scan.bytes = asked.bytes.clone();
        let voids = holds.map(|at| Deadline { at, limit, setting: "storage.read_grace_ms" });
        scan.deadline = asked.deadline.into_iter().chain(voids).min_by_key(|deadline| deadline.at);
        scan.restarts = restarts;
        scan.memory_bytes_max = self.options.memory_bytes_max;
        scan.taker = Some(asked.taker.clone());
        scan.bound = scan.bound.take().map(|bound| asked.bound.bound.get_or_init(|| bound).clone());
        scan.bound_is_shared = asked.bound.scans > 1;
        scan.partial = Mutex::new(partial);
        for (number, rows) in joined.into_iter().enumerate() {
            rows.into_iter().for_each(|rows| scan.join(number, rows));
        }
        let tiers = [tiers.hot, tiers.warm, tiers.cold];
        if asked.explained.is_some() || asked.bytes.limited() {
            let estimate = Estimate::of(&scan);
            match &asked.explained {
                Some(explained) => {
                    explained.lock().add(&scan, &estimate, &tiers, self.calibration.nanos(estimate.cells));
                }
                None => asked.bytes.refuse(estimate.least.bytes, estimate.most.bytes)?,
            }
        }
        Ok(Prepared { scan: Arc::new(scan), warnings, unknown, tiers })
    }

    /// The range in which rows lie that are in a plan's.
    fn reach(&self, plan: &Plan) -> TimeRange {
        if plan.structure.is_some() {
            return structure::around(plan.range, self.structure_limits().slack_nanos);
        }
        let before = match plan.level {
            Level::Event => i64::try_from(self.options.span_time_max.as_nanos()).unwrap_or(i64::MAX),
            _ => 0,
        };
        TimeRange { from: plan.range.from.saturating_sub(before), to: plan.range.to }
    }

    /// Runs the partitions of a scan.
    async fn collect(&self, scan: &Arc<Scan>, asked: &Asked) -> Result<Vec<RecordBatch>, QueryError> {
        let partitions = places(self.options.threads).min(scan.jobs()).max(1);
        let leaf = Arc::new(ScanExec::new(scan.clone(), partitions));
        let plan: Arc<dyn ExecutionPlan> = Arc::new(CoalescePartitionsExec::new(leaf));
        let stream = execute_stream(plan, asked.context.clone()).map_err(engine_error)?;
        stream.try_collect().await.map_err(engine_error)
    }
}

/// A scan that can begin.
struct Prepared {
    scan: Arc<Scan>,
    warnings: Vec<String>,
    unknown: Option<Vec<Unknown>>,
    /// What the snapshot found, hot to cold.
    tiers: [Found; 3],
}

/// Tells a scan's threads to stop when nobody waits for them.
struct StopOnDrop(Arc<Scan>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// The fields of a plan that no row in the range has; `None` where there is no row.
fn unknown(plan: &Plan, snapshot: &Snapshot) -> Option<Vec<Unknown>> {
    if snapshot.frames.is_empty() {
        return None;
    }
    let defaults: &[&str] = &["service.name"];
    let mut unknown = Vec::new();
    for field in &plan.fields {
        // Conditions on parents are looked for among all spans.
        let own = field.name.strip_prefix("parent.").unwrap_or(&field.name);
        if !matches!(field.from, FieldFrom::Attribute { .. }) || defaults.contains(&own) {
            continue;
        }
        let found = snapshot.frames.iter().any(|frame| {
            let types: Types = field.types(frame);
            types.found()
        });
        if found {
            continue;
        }
        let names = attribute_names(&snapshot.frames);
        let bare = own.trim_matches('`');
        let fixed = row_fields(plan.signal).map(|(name, ..)| name);
        let near = nearest(bare, names.iter().map(String::as_str).chain(fixed));
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        unknown.push(Unknown { name: field.name.clone(), hint });
    }
    Some(unknown)
}

/// Every attribute key of some frames, once.
fn attribute_names(frames: &[Frame]) -> Vec<String> {
    let mut names = std::collections::BTreeSet::new();
    for frame in frames {
        for table in [TableKind::Items, TableKind::Scopes, TableKind::Resources] {
            for column in frame.columns(table) {
                if let prism_model::ColumnId::Attr { key, .. } = &column.id {
                    names.insert(key.to_string());
                }
            }
        }
    }
    names.into_iter().collect()
}
