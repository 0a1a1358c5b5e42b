//! Runs queries: snapshot, plan, scan in parallel, finish; within limits of time, memory and bytes.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;
use prism_dsl::Query;
use prism_model::TenantId;
use prism_plugin::{Functions, PluginError};
use prism_store::{Reader, StoreError};

use crate::answer::{Answer, AnswerColumn, Stats};
use crate::bind::query::{Plan, RANGE_DEFAULT_NANOS, plan};
use crate::cost::Bytes;
use crate::cursor::Cursor;
use crate::error::QueryError;
use crate::explain::{Calibration, Explained};
use crate::finish::finish;
use crate::memory::{OfQuery, Total};
use crate::plugins::Plugins;
use crate::ran::{Ran, unknown_fields};
use crate::scan::{Bound, Deadline, Scan};
use crate::series::earlier_plan;
use crate::show;
use crate::structure::Limits;
use crate::turns::{Taker, Turns, places};
use crate::types;

/// Limits of queries, each with its name in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// Rows of an answer at most, `query.limit_max`: an answer is built in memory.
    pub limit_max: usize,
    /// Wall time of a query, `query.time_max_ms`; a query's own budget can only lower it.
    pub time_max: Duration,
    /// Bytes that a query may read, compressed, `query.bytes_max`; `None` for any. Its own budget can only lower it.
    pub bytes_max: Option<u64>,
    /// Bytes that the groups of one query may take, `query.memory_bytes_max`.
    pub memory_bytes_max: usize,
    /// Bytes that the groups of all queries may take together, `query.memory_total_bytes_max`.
    pub memory_total_bytes_max: usize,
    /// Rows that `fill` and functions over bins may make before having, order and limit, `query.fill_rows_max`: each takes
    /// about 100 bytes, and a year of minutes is 525,600.
    pub fill_rows_max: usize,
    /// Frames that all queries work on at once, `query.threads`; 0 for the number of processors.
    pub threads: usize,
    /// Other limits for some tenants, `query.tenants`; those of [`RunOptions::limits`] go before them.
    pub tenants: HashMap<TenantId, TenantLimits>,
    /// How long before the range a span may have begun whose events are in it, `query.span_time_max_ms`: events lie with
    /// their span, which lies by its start.
    pub span_time_max: Duration,
    /// Traces that one side of a join names to the other at most, `query.join_traces_max`: with more of them all rows of the
    /// other side are looked at.
    pub join_traces_max: usize,
    /// How long before and behind the range of a query other spans of its traces are looked for, `query.trace_slack_ms`.
    pub trace_slack: Duration,
    /// Combinations of spans that the conditions between spans of a `match` may compare, `query.combinations_max`.
    pub combinations_max: u64,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            limit_max: 10_000,
            time_max: Duration::from_secs(30),
            bytes_max: None,
            memory_bytes_max: 512 << 20,
            memory_total_bytes_max: 1 << 30,
            fill_rows_max: 1_000_000,
            threads: 0,
            tenants: HashMap::new(),
            span_time_max: Duration::from_secs(3_600),
            join_traces_max: 100_000,
            trace_slack: Duration::from_secs(300),
            combinations_max: 20_000_000,
        }
    }
}

/// Limits of one tenant's queries, each instead of that of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Bytes that a query may read, compressed.
    pub bytes_max: Option<u64>,
    /// Wall time of a query.
    pub time_max: Option<Duration>,
}

/// What sets a tenant's limits, in the words of errors.
mod setting {
    /// In the configuration.
    pub(super) const TENANTS: &str = "query.tenants";
    /// While servers run.
    pub(super) const TENANT_BYTES: &str = "prism tenant set --query-bytes";
    pub(super) const TENANT_TIME: &str = "prism tenant set --query-time";
}

/// What the queries of a process do at the moment, and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineLoad {
    /// Frames that are worked on.
    pub frames_running: usize,
    /// Frames that wait for their turn.
    pub frames_waiting: usize,
    /// Bytes that groups take.
    pub memory_bytes: usize,
    /// Queries that were given up before their end, since whoever asked went away.
    pub given_up: u64,
    /// Time that queries spent in guests of plugins, nanoseconds.
    pub plugin_nanos: u64,
    /// Calls of them.
    pub plugin_calls: u64,
}

/// How one query is run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// What the tenant's plugins offer; without them `plugin.name(…)` means nothing. See [`calls_plugins`].
    pub functions: Option<Arc<Functions>>,
    /// What was set for the tenant while servers run (`prism tenant set`): goes before `query.tenants`, each for itself.
    pub limits: TenantLimits,
    /// A field that no row in the range has is an error instead of a warning.
    pub strict: bool,
    /// Read every frame of the range: for tests of QU-2.
    #[doc(hidden)]
    pub without_pruning: bool,
    /// Answer from rows alone: for tests of QU-4.
    #[doc(hidden)]
    pub without_rollups: bool,
    /// Look at the structure of traces in so many passes at least: for tests of what memory makes of it.
    #[doc(hidden)]
    pub structure_passes_min: usize,
}

/// Answers queries over one store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) reader: Reader,
    pub(crate) options: Arc<EngineOptions>,
    pub(crate) calibration: Arc<Calibration>,
    pub(crate) turns: Arc<Turns>,
    memory: Arc<Total>,
    given_up: Arc<AtomicU64>,
    guests: Arc<Guests>,
}

/// What guests of plugins took for all queries so far.
#[derive(Debug, Default)]
struct Guests {
    nanos: AtomicU64,
    calls: AtomicU64,
}

impl Engine {
    /// An engine over what `reader` sees.
    pub fn new(reader: Reader, options: EngineOptions) -> Engine {
        Engine {
            reader,
            calibration: Arc::default(),
            turns: Turns::new(options.threads),
            memory: Total::new(options.memory_total_bytes_max),
            given_up: Arc::default(),
            guests: Arc::default(),
            options: Arc::new(options),
        }
    }

    /// What its queries do at the moment, and did.
    pub fn load(&self) -> EngineLoad {
        let (frames_running, frames_waiting) = self.turns.now();
        let given_up = self.given_up.load(Ordering::Relaxed);
        EngineLoad {
            frames_running,
            frames_waiting,
            memory_bytes: self.memory.used(),
            given_up,
            plugin_nanos: self.guests.nanos.load(Ordering::Relaxed),
            plugin_calls: self.guests.calls.load(Ordering::Relaxed),
        }
    }

    /// Answers a query for one tenant (QU-1: every scan is bound to it and to a range).
    ///
    /// `now_unix_nanos` is what `last 1h` and `now()` mean. Work runs on the blocking threads of the current tokio runtime;
    /// dropping the future stops it. With `dry_run` the answer has its columns, no rows, and [`Answer::explained`]; no row is
    /// read for it.
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
        let page = query.cursor.as_ref().map(|text| Cursor::read(text, query)).transpose()?;
        let now_unix_nanos = page.as_ref().map_or(now_unix_nanos, |page| page.now);
        let (limit, setting) = self.time_of(tenant, query, options.limits);
        let context = self.context()?;
        let plugins = Plugins::of(options.functions.clone(), started.checked_add(limit), context.memory_pool());
        let _stop = plugins.until_dropped();
        let mut settled = plan(query, now_unix_nanos, self.options.limit_max, &plugins)?;
        if let Some(page) = page {
            settled.turn_to(&page.after);
        }
        if settled.range_is_default && query.cursor.is_none() {
            let last = show::duration(RANGE_DEFAULT_NANOS);
            settled.warnings.push(format!("the query names no range: it was answered for the last {last}"));
        }
        let asked = Asked {
            tenant: tenant.clone(),
            now: now_unix_nanos,
            started,
            bytes: Arc::new(Bytes::most(self.bytes_of(tenant, query, options.limits))),
            deadline: started.checked_add(limit).map(|at| Deadline { at, limit, setting }),
            context,
            taker: self.turns.open(tenant),
            bound: Arc::default(),
            explained: query.dry_run.then(Arc::default),
            query: Arc::new(query.clone()),
            options,
        };
        let explained = asked.explained.clone();
        let unanswered = Unanswered(Some(&self.given_up));
        let answered = tokio::time::timeout(limit, Box::pin(self.answer(settled, asked))).await;
        unanswered.answered();
        let spent = plugins.spent();
        self.guests.nanos.fetch_add(spent.nanos, Ordering::Relaxed);
        self.guests.calls.fetch_add(spent.calls, Ordering::Relaxed);
        let mut answer = match answered {
            // Its guests were stopped when its time was over.
            Ok(Err(QueryError::Plugin { error, .. })) if matches!(*error, PluginError::Interrupted) => {
                return Err(QueryError::Time { limit, setting });
            }
            Ok(answer) => answer?,
            Err(_) => return Err(QueryError::Time { limit, setting }),
        };
        (answer.stats.plugin_nanos, answer.stats.plugin_calls) = (spent.nanos, spent.calls);
        if let Some(explained) = explained {
            let mut explained = std::mem::take(&mut *explained.lock());
            explained.memory_bytes_max = self.options.memory_bytes_max as u64;
            answer.explain(explained);
        }
        Ok(answer)
    }

    /// How long a query may take, and what says so.
    fn time_of(&self, tenant: &TenantId, query: &Query, set: TenantLimits) -> (Duration, &'static str) {
        let own =
            query.budget.and_then(|b| b.time).and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos);
        let configured = self.options.tenants.get(tenant).and_then(|limits| limits.time_max);
        let all = match (set.time_max, configured) {
            (Some(limit), _) => (limit, setting::TENANT_TIME),
            (None, Some(limit)) => (limit, setting::TENANTS),
            (None, None) => (self.options.time_max, "query.time_max_ms"),
        };
        own.map(|own| (own, "budget.time")).into_iter().chain([all]).min().unwrap_or(all)
    }

    /// How many bytes a query may read, and what says so; `None` for any.
    fn bytes_of(&self, tenant: &TenantId, query: &Query, set: TenantLimits) -> Option<(u64, &'static str)> {
        let own = query.budget.and_then(|budget| budget.bytes).map(|own| (own, "budget.bytes"));
        let configured = self.options.tenants.get(tenant).and_then(|limits| limits.bytes_max);
        let all = match (set.bytes_max, configured) {
            (Some(limit), _) => Some((limit, setting::TENANT_BYTES)),
            (None, Some(limit)) => Some((limit, setting::TENANTS)),
            (None, None) => self.options.bytes_max.map(|limit| (limit, "query.bytes_max")),
        };
        own.into_iter().chain(all).min()
    }

    /// What is read may move to a colder tier meanwhile. Nothing was answered by then, so that the query begins anew, once.
    async fn answer(&self, plan: Plan, asked: Asked) -> Result<Answer, QueryError> {
        match Box::pin(self.attempt(plan.clone(), asked.clone(), true)).await {
            Err(QueryError::Store(StoreError::Vanished(_))) => {
                asked.explained.iter().for_each(|explained| *explained.lock() = Explained::default());
                Box::pin(self.attempt(plan, asked, false)).await
            }
            answered => answered,
        }
    }

    async fn attempt(&self, plan: Plan, asked: Asked, restarts: bool) -> Result<Answer, QueryError> {
        let range = plan.range;
        // Few queries compare: the others need no room for it.
        let earlier = Box::pin(async {
            match earlier_plan(&plan) {
                // A field that was not there yet is no mistake.
                Some(plan) => self.all_ran(plan, &asked.lenient(), restarts).await,
                None => Ok(Vec::new()),
            }
        });
        let (ran, earlier) = futures::try_join!(self.all_ran(plan.clone(), &asked, restarts), earlier)?;
        let (begun, fill_rows_max) = (Instant::now(), self.options.fill_rows_max);
        let (ran, earlier, finished) = blocking(move || {
            let given_up = || Err(QueryError::given_up());
            let finished = match ran.first() {
                Some(first) => first.scan.in_turn(|| finish(&ran, &earlier, fill_rows_max)).unwrap_or_else(given_up),
                None => given_up(),
            }?;
            Ok((ran, earlier, finished))
        })
        .await?;
        let mut stats = Stats {
            from: range.from,
            to: range.to,
            complete_through: range.to.min(asked.now),
            finish_nanos: nanos(begun.elapsed()),
            ..Stats::default()
        };
        for ran in [&ran, &earlier] {
            ran.iter().for_each(|ran: &Ran| ran.tell(&mut stats));
            stats.warnings.extend(unknown_fields(ran));
        }
        stats.warnings.extend(finished.warnings);
        let mut told = HashSet::new();
        stats.warnings.retain(|warning| told.insert(warning.clone()));
        stats.elapsed_nanos = nanos(asked.started.elapsed());
        let scans: Vec<&Scan> = ran.iter().map(|ran| &*ran.scan).collect();
        let first = scans.first().map_or(&[][..], |scan| &scan.plan.columns[..]);
        let columns = first.iter().zip(finished.columns).enumerate().map(|(i, (column, values))| AnswerColumn {
            name: column.name.clone(),
            unit: column.unit,
            expected: types::of_column_in(&scans, i),
            values,
        });
        let cursor = finished.next.map(|after| Cursor { now: asked.now, after }.write(&asked.query));
        if cursor == Some(None) {
            stats.warnings.push("the order is by too long texts for another page: order by a shorter field".to_owned());
        }
        let mut answer = Answer::new(columns.collect(), finished.rows, stats);
        answer.cursor = cursor.flatten();
        Ok(answer)
    }

    /// Bounds of the look for structure.
    pub(crate) fn structure_limits(&self) -> Limits {
        let slack = self.options.trace_slack.as_nanos();
        Limits {
            slack_nanos: i64::try_from(slack).unwrap_or(i64::MAX),
            combinations_max: self.options.combinations_max,
            threads: places(self.options.threads),
        }
    }

    /// Where the operators of one query take their memory from.
    fn context(&self) -> Result<Arc<TaskContext>, QueryError> {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(OfQuery::new(self.options.memory_bytes_max, self.memory.clone()))
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

/// A query's circumstances, which all of its scans share.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) tenant: TenantId,
    pub(crate) now: i64,
    pub(crate) started: Instant,
    pub(crate) bytes: Arc<Bytes>,
    pub(crate) deadline: Option<Deadline>,
    /// As it was asked.
    pub(crate) query: Arc<Query>,
    pub(crate) context: Arc<TaskContext>,
    /// Takes turns with the other queries.
    pub(crate) taker: Arc<Taker>,
    /// The time that a row must beat to be among the first, over all scans beside each other.
    pub(crate) bound: Arc<SharedBound>,
    /// Scans are planned and written here, and not run.
    pub(crate) explained: Option<Arc<Mutex<Explained>>>,
    pub(crate) options: RunOptions,
}

/// See [`Asked::bound`].
#[derive(Default)]
pub(crate) struct SharedBound {
    /// How many scans have it.
    pub(crate) scans: usize,
    /// Of the first of them.
    pub(crate) bound: OnceLock<Arc<Bound>>,
}

impl Asked {
    /// The same where nothing that the query names need be there.
    fn lenient(&self) -> Asked {
        Asked { options: RunOptions { strict: false, ..self.options.clone() }, ..self.clone() }
    }
}

/// Counts a query that is dropped before it is answered.
struct Unanswered<'e>(Option<&'e AtomicU64>);

impl Unanswered<'_> {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(given_up) = self.0 {
            given_up.fetch_add(1, Ordering::Relaxed);
        }
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

pub(crate) fn engine_error(error: DataFusionError) -> QueryError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<QueryError>() {
            Ok(own) => *own,
            Err(other) => QueryError::Engine(other.to_string()),
        },
        DataFusionError::Context(_, inner) => engine_error(*inner),
        other => QueryError::Engine(other.to_string()),
    }
}
