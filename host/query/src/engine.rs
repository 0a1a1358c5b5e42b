//! Runs queries: snapshot, plan, scan in parallel, finish; within limits of time, memory and bytes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt as _;
use parking_lot::Mutex;
use prism_dsl::Query;
use prism_model::{TableKind, TenantId};
use prism_store::{Found, Frame, Reader, Snapshot, StoreError};

use crate::answer::{Answer, AnswerColumn, Partial, Stats, TierStats};
use crate::bind::query::{Plan, RANGE_DEFAULT_NANOS, plan};
use crate::error::{QueryError, code};
use crate::exec::ScanExec;
use crate::field::{From as FieldFrom, Types};
use crate::finish::finish;
use crate::names::{nearest, row_fields};
use crate::prune;
use crate::running::Superseded;
use crate::scan::{Deadline, Scan};
use crate::show;
use crate::types;

/// Limits of queries, each with its name in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// Rows of an answer at most, `query.limit_max`: an answer is built in memory.
    pub limit_max: usize,
    /// Wall time of a query, `query.time_max_ms`; a query's own budget can only lower it.
    pub time_max: Duration,
    /// Bytes that the groups of one query may take, `query.memory_bytes_max`.
    pub memory_bytes_max: usize,
    /// Threads of one query, `query.threads`; 0 for the number of processors.
    pub threads: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions { limit_max: 10_000, time_max: Duration::from_secs(30), memory_bytes_max: 512 << 20, threads: 0 }
    }
}

/// How one query is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// A field that no row in the range has is an error instead of a warning.
    pub strict: bool,
    /// Read every frame of the range: for tests of QU-2.
    #[doc(hidden)]
    pub without_pruning: bool,
    /// Answer from rows alone: for tests of QU-4.
    #[doc(hidden)]
    pub without_rollups: bool,
}

/// Answers queries over one store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) reader: Reader,
    options: Arc<EngineOptions>,
}

impl Engine {
    /// An engine over what `reader` sees.
    pub fn new(reader: Reader, options: EngineOptions) -> Engine {
        Engine { reader, options: Arc::new(options) }
    }

    /// Answers a query for one tenant (QU-1: every scan is bound to it and to a range).
    ///
    /// `now_unix_nanos` is what `last 1h` and `now()` mean. Work runs on the blocking threads of the current tokio runtime;
    /// dropping the future stops it.
    ///
    /// # Errors
    /// `Fix` where the query is at fault (with position and hint) or over a budget (codes `query_over_…`), `Retry` where the
    /// store cannot be listed, `Bug` else. Parts that cannot be read make the answer partial instead.
    pub async fn run(
        &self,
        tenant: &TenantId,
        query: &Query,
        now_unix_nanos: i64,
        options: RunOptions,
    ) -> Result<Answer, QueryError> {
        let started = Instant::now();
        let mut settled = plan(query, now_unix_nanos, self.options.limit_max)?;
        if settled.range_is_default {
            let last = show::duration(RANGE_DEFAULT_NANOS);
            settled.warnings.push(format!("the query names no range: it was answered for the last {last}"));
        }
        let own =
            query.budget.and_then(|b| b.time).and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos);
        let (limit, setting) = match own {
            Some(own) if own < self.options.time_max => (own, "budget.time"),
            _ => (self.options.time_max, "query.time_max_ms"),
        };
        let asked = Asked {
            tenant: tenant.clone(),
            now: now_unix_nanos,
            started,
            bytes_max: query.budget.and_then(|b| b.bytes),
            deadline: started.checked_add(limit).map(|at| Deadline { at, limit, setting }),
            options,
        };
        match tokio::time::timeout(limit, self.answer(settled, asked)).await {
            Ok(answer) => answer,
            Err(_) => Err(QueryError::Time { limit, setting }),
        }
    }

    /// What is read may move to a colder tier meanwhile. Nothing was answered by then, so that the query begins anew, once.
    async fn answer(&self, plan: Plan, asked: Asked) -> Result<Answer, QueryError> {
        match self.attempt(plan.clone(), asked.clone(), true).await {
            Err(QueryError::Store(StoreError::Vanished(_))) => self.attempt(plan, asked, false).await,
            answered => answered,
        }
    }

    async fn attempt(&self, plan: Plan, asked: Asked, restarts: bool) -> Result<Answer, QueryError> {
        let (now, started, range) = (asked.now, asked.started, plan.range);
        let engine = self.clone();
        let Prepared { scan, warnings, tiers } = blocking(move || engine.prepare(plan, asked, restarts)).await?;
        let bound = Instant::now();
        let stop = StopOnDrop(scan.clone());
        let parts = self.collect(&scan).await?;
        let scanned = Instant::now();
        let of_scan = scan.clone();
        let finished = blocking(move || finish(&of_scan, &parts)).await?;
        drop(stop);
        let mut partial = std::mem::take(&mut *scan.partial.lock());
        partial.sort_by(|a, b| a.what.cmp(&b.what));
        partial.dedup();
        let count = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
        let counters = &scan.counters;
        let frames_outside = tiers.map(|found| found.pruned as u64).iter().sum::<u64>();
        let stats = Stats {
            from: range.from,
            to: range.to,
            rows_scanned: count(&counters.rows_scanned),
            rows_matched: count(&counters.rows_matched),
            bytes_read: count(&counters.bytes_read),
            reads: count(&counters.reads),
            frames_total: scan.frames.len() as u64 + frames_outside,
            frames_pruned: count(&counters.frames_pruned) + frames_outside,
            frames_read: count(&counters.frames_read),
            index_reads: 0,
            rollups_read: count(&counters.rollups_read),
            rows_from_rollups: count(&counters.rows_from_rollups),
            tiers: std::array::from_fn(|tier| TierStats {
                parts: tiers[tier].parts as u64,
                frames_read: count(&counters.tiers[tier].frames_read),
                bytes_read: count(&counters.tiers[tier].bytes_read),
                reads: count(&counters.tiers[tier].reads),
            }),
            elapsed_nanos: nanos(started.elapsed()),
            bind_nanos: nanos(bound - started),
            scan_nanos: nanos(scanned - bound),
            finish_nanos: nanos(scanned.elapsed()),
            cpu_nanos: count(&counters.busy_nanos),
            complete_through: range.to.min(now),
            warnings,
            partial,
        };
        let columns = scan.plan.columns.iter().zip(finished.columns).map(|(column, values)| AnswerColumn {
            name: column.name.clone(),
            unit: column.unit,
            expected: types::of_column(&scan.plan, &scan.frames, &column.node),
            values,
        });
        Ok(Answer::new(columns.collect(), finished.rows, stats))
    }

    /// Takes the snapshot and settles what depends on it. Blocks on the disk.
    fn prepare(&self, mut plan: Plan, asked: Asked, restarts: bool) -> Result<Prepared, QueryError> {
        let snapshot = self.reader.snapshot(&asked.tenant, plan.signal, plan.range)?;
        let mut partial: Vec<Partial> = snapshot.unreadable.iter().map(Partial::of_unreadable).collect();
        let asked_of = |frame: &Frame| {
            let may_hold = |condition| prune::may_hold(condition, &plan.fields, frame);
            asked.options.without_pruning || plan.conditions.iter().all(may_hold)
        };
        let superseded = match Superseded::find(plan.signal, &snapshot.frames, &asked_of) {
            Err(error @ StoreError::Vanished(_)) if restarts => return Err(error.into()),
            Err(error) => {
                partial.push(Partial { what: "ends of running spans".into(), why: error.to_string() });
                Superseded::default()
            }
            Ok(superseded) => superseded,
        };
        check_fields(&mut plan, &snapshot, asked.options.strict)?;
        let warnings = std::mem::take(&mut plan.warnings);
        let (holds, limit, tiers) = (snapshot.holds_until(), snapshot.grace(), snapshot.tiers);
        let rolled = if asked.options.without_rollups { Vec::new() } else { snapshot.rolled };
        let mut scan = Scan::new(plan, snapshot.frames, rolled, superseded, !asked.options.without_pruning);
        scan.superseded.costs.iter().for_each(|(tier, cost)| scan.counters.read(*tier, *cost));
        scan.bytes_max = asked.bytes_max;
        let voids = holds.map(|at| Deadline { at, limit, setting: "store.read_grace_ms" });
        scan.deadline = asked.deadline.into_iter().chain(voids).min_by_key(|deadline| deadline.at);
        scan.restarts = restarts;
        scan.memory_bytes_max = self.options.memory_bytes_max;
        scan.partial = Mutex::new(partial);
        Ok(Prepared { scan: Arc::new(scan), warnings, tiers: [tiers.hot, tiers.warm, tiers.cold] })
    }

    /// Runs the partitions of a scan.
    async fn collect(&self, scan: &Arc<Scan>) -> Result<Vec<RecordBatch>, QueryError> {
        let threads = match self.options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let partitions = threads.min(scan.jobs()).max(1);
        let leaf = Arc::new(ScanExec::new(scan.clone(), partitions));
        let plan: Arc<dyn ExecutionPlan> = Arc::new(CoalescePartitionsExec::new(leaf));
        let context = self.context()?;
        let stream = execute_stream(plan, context).map_err(engine_error)?;
        stream.try_collect().await.map_err(engine_error)
    }

    fn context(&self) -> Result<Arc<TaskContext>, QueryError> {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(self.options.memory_bytes_max)))
            // A stateless node has no disk to spill to: a query that needs one is refused.
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()
            .map_err(engine_error)?;
        let config = SessionConfig::new();
        // Functions and aggregates are Prism's own, bound before DataFusion sees the plan.
        let (scalars, orders, aggregates, windows) = (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
        let id = "query".to_owned();
        Ok(Arc::new(TaskContext::new(None, id, config, scalars, orders, aggregates, windows, runtime)))
    }
}

/// A query's circumstances.
#[derive(Clone)]
struct Asked {
    tenant: TenantId,
    now: i64,
    started: Instant,
    bytes_max: Option<u64>,
    deadline: Option<Deadline>,
    options: RunOptions,
}

/// A scan that can begin.
struct Prepared {
    scan: Arc<Scan>,
    warnings: Vec<String>,
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

/// Runs what blocks on disk or processor beside the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    match tokio::task::spawn_blocking(f).await {
        Ok(done) => done,
        Err(error) => Err(QueryError::Engine(format!("a task of the query ended early: {error}"))),
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn engine_error(error: DataFusionError) -> QueryError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<QueryError>() {
            Ok(own) => *own,
            Err(other) => QueryError::Engine(other.to_string()),
        },
        DataFusionError::Context(_, inner) => engine_error(*inner),
        other => QueryError::Engine(other.to_string()),
    }
}

/// Warns of fields that no row in the range has; with `strict` they are an error.
fn check_fields(plan: &mut Plan, snapshot: &Snapshot, strict: bool) -> Result<(), QueryError> {
    if snapshot.frames.is_empty() {
        return Ok(());
    }
    let defaults: &[&str] = &["service.name"];
    for field in &plan.fields {
        if !matches!(field.from, FieldFrom::Attribute { .. }) || defaults.contains(&field.name.as_str()) {
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
        let bare = field.name.trim_matches('`');
        let fixed = row_fields(plan.signal).map(|(name, ..)| name);
        let near = nearest(bare, names.iter().map(String::as_str).chain(fixed));
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        let message = format!("no row in the range has the field `{}`", field.name);
        if strict {
            return Err(QueryError::at(code::UNKNOWN_FIELD, prism_dsl::Pos::NONE, 1, message).with_hint_if(hint));
        }
        plan.warnings.push(match hint {
            Some(hint) => format!("{message}: {hint}"),
            None => message,
        });
    }
    Ok(())
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
