//! What a running server is made of, and the two things that it does with it: keep what is sent, answer what is asked.
//!
//! Here the answers of the other crates become [`Failure`]s. Not here: bytes of HTTP and gRPC (`http`, `grpc`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use http::HeaderValue;
use parking_lot::Mutex;
use prism_dsl::{Query, Range};
use prism_ingest::clocks::{Clock, Clocks};
use prism_ingest::{Accepted, Chains, Pipeline, Request};
use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};
use prism_plugin::PluginHost;
use prism_query::{Engine, QueryError, RunOptions, Stats, TenantLimits, calls_plugins};
use prism_store::life::{Storage, Worker};
use prism_store::{Counter, Store, Token};
use tokio::sync::watch;

use crate::access::{self, Access, Used};
use crate::budget;
use crate::config::Config;
use crate::error::{Code, Failure};
use crate::http::body::{BodyLimits, Held, InFlight};
use crate::metrics::{Exposition, Requests, Type, expose_ingest, expose_life, expose_store};
use crate::seats::{Seat, Seats};
use crate::storage;
use crate::tails::Tails;
use crate::telemetry::{self, Telemetry};
use crate::tls::Tls;

/// How long a query waits for a batch that its token names. Another process sees a batch well under a second after it was
/// acknowledged; who waits longer has a token of rows that are gone.
const WAIT_FOR_MAX: Duration = Duration::from_secs(5);
/// Before the second look for it, and between two looks at most: each reads files, and most batches are there at once.
const WAIT_FOR_STEP: Duration = Duration::from_millis(20);
const WAIT_FOR_STEP_MAX: Duration = Duration::from_millis(320);

/// The form of a query's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Columns and rows.
    Json,
    /// An object a row.
    Ndjson,
    /// Arrow IPC stream.
    Arrow,
}

impl Form {
    /// The form of a media type.
    pub(crate) fn of(media_type: &str) -> Option<Form> {
        [Form::Json, Form::Ndjson, Form::Arrow]
            .into_iter()
            .find(|form| form.media_type().eq_ignore_ascii_case(media_type))
    }

    /// Its media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Ndjson => "application/x-ndjson",
            Form::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// A running server.
pub(crate) struct App {
    /// The configuration in force.
    pub(crate) config: Config,
    /// Tenants and keys.
    pub(crate) access: Access,
    /// How connections are secured, where they are.
    pub(crate) tls: Option<Arc<Tls>>,
    /// What this crate counts.
    pub(crate) requests: Arc<Requests>,
    /// Bytes of request bodies in memory.
    pub(crate) room: Arc<InFlight>,
    /// Own spans, where they are on.
    pub(crate) telemetry: Option<Arc<Telemetry>>,
    store: Arc<Store>,
    storage: Arc<Storage>,
    /// Taken out to be stopped.
    worker: Mutex<Option<Worker>>,
    counter: Mutex<Option<Counter>>,
    pipeline: Arc<Pipeline>,
    /// What each tenant has bound.
    chains: Arc<Chains>,
    engine: Engine,
    seats: Arc<Seats>,
    /// Live tails.
    pub(crate) tails: Tails,
    ready: AtomicBool,
    /// Holds true once what has no end must end.
    stopping: watch::Sender<bool>,
}

impl App {
    /// Opens the data folder. Blocks on the disk.
    ///
    /// # Errors
    /// In words for the user: what could not be opened.
    pub(crate) fn open(config: Config) -> anyhow::Result<Arc<App>> {
        let root = &config.data_dir;
        let tls = Tls::open(&config.tls)?;
        let keys = config.keyring()?;
        let store = Store::open_with(root, config.store.clone(), keys.clone()).with_context(|| {
            format!("the data folder `{}` cannot be opened; `prism doctor` says more", root.display())
        })?;
        let storage = storage::open(&config)?;
        let grace = Duration::from_millis(config.storage.read_grace_ms);
        store.follow_blocks(storage.blocks.clone(), grace);
        let log = access::log(root)?;
        let clock: Clock = Arc::new(now_unix_nanos);
        let reload = Duration::from_millis(config.auth.reload_ms);
        let access = Access::new(log.clone(), config.auth.dev, reload, clock.clone(), Used::new(root));
        let host = PluginHost::new(config.plugin_options()).context("the plugin host cannot start")?;
        let clocks = Clocks::beside(clock);
        let chains = Chains::new(root.clone(), host, clocks.steady.clone());
        let pipeline =
            Pipeline::new(store.clone(), chains.clone(), config.limits.clone(), config.ingest.clone(), clocks);
        let engine = Engine::new(storage.reader.clone(), config.query.engine_options());
        let to_self = &config.telemetry.to_self;
        if !to_self.is_empty() && !access::read(&log)?.1.tenants.keys().any(|tenant| tenant.as_str() == to_self) {
            bail!(
                "`telemetry.to_self`: there is no tenant `{to_self}`: create it with `prism tenant create {to_self}`"
            );
        }
        let telemetry = Telemetry::start(&config.telemetry, &pipeline)?;
        let tails = Tails::new(store.clone(), storage.reader.clone(), config.tail.clone(), grace);
        Ok(Arc::new(App {
            telemetry,
            access,
            tls,
            requests: Arc::default(),
            room: InFlight::new(config.http.body_bytes_in_flight_max, config.limits.body_bytes_max),
            store,
            storage,
            worker: Mutex::new(None),
            counter: Mutex::new(None),
            pipeline,
            chains,
            engine,
            seats: Seats::new(&config.query),
            tails,
            ready: AtomicBool::new(false),
            stopping: watch::channel(false).0,
            config,
        }))
    }

    /// Whether requests are taken.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    /// From now on requests are taken, or no longer.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Relaxed);
    }

    /// Ends what has no end of its own.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Holds true once what has no end of its own must end.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// What answers queries.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Begins what goes on beside requests: moving data to its next tier, and counting what queries ask of the hot one.
    ///
    /// # Errors
    /// In words for the user: what cannot be begun.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        *self.worker.lock() = storage::work(&self.config, &self.storage)?;
        *self.counter.lock() = storage::count(&self.config, &self.storage)?;
        Ok(())
    }

    /// Finishes what waits for export and for the disk.
    pub(crate) async fn close(&self) {
        // It stops after the step that it is at, which may be abandoned anywhere: nobody waits for it.
        if let Some(worker) = &*self.worker.lock() {
            worker.stop();
        }
        if let Some(counter) = &*self.counter.lock() {
            counter.stop();
        }
        if let Some(telemetry) = &self.telemetry {
            telemetry.close().await;
        }
        self.store.close().await;
    }

    /// What is counted, as Prometheus text.
    pub(crate) fn expose(&self) -> String {
        let mut text = Exposition::default();
        self.requests.expose(&mut text);
        text.one(
            "prism_server_body_in_flight_bytes",
            Type::Gauge,
            "Bytes of request bodies in memory.",
            self.room.bytes() as f64,
        );
        let load = self.engine.load();
        for (name, help, value) in [
            ("prism_query_frames_running", "Frames that queries work on.", load.frames_running),
            ("prism_query_frames_waiting", "Frames that wait for their query's turn.", load.frames_waiting),
            ("prism_query_memory_bytes", "Bytes that the groups of queries take.", load.memory_bytes),
            (
                "prism_query_hot_rollup_bytes",
                "Bytes that rollups of rows that are not sealed take.",
                self.storage.reader.counted_bytes(),
            ),
        ] {
            text.one(name, Type::Gauge, help, value as f64);
        }
        text.one(
            "prism_query_given_up_total",
            Type::Counter,
            "Queries that ended because whoever asked went away.",
            load.given_up as f64,
        );
        for (name, help, value) in [
            (
                "prism_query_plugin_seconds_total",
                "Time that queries spent in guests of plugins.",
                load.plugin_nanos as f64 / 1e9,
            ),
            ("prism_query_plugin_calls_total", "Calls of guests of plugins by queries.", load.plugin_calls as f64),
        ] {
            text.one(name, Type::Counter, help, value);
        }
        if let Some(tls) = &self.tls {
            tls.expose(&mut text);
        }
        self.tails.expose(&mut text);
        expose_ingest(self.pipeline.metrics(), &mut text);
        expose_store(self.store.metrics(), &mut text);
        if let Some(worker) = &*self.worker.lock() {
            expose_life(worker.metrics(), &mut text);
        }
        if let Some(telemetry) = &self.telemetry {
            telemetry.expose(&mut text);
        }
        text.finish()
    }

    /// What the body of an OTLP request may take.
    pub(crate) fn body_limits(&self) -> BodyLimits {
        let http = &self.config.http;
        BodyLimits {
            bytes_max: self.config.limits.body_bytes_max,
            setting: "limits.body_bytes_max",
            idle: Duration::from_millis(http.body_idle_timeout_ms),
            total: Duration::from_millis(http.body_timeout_ms),
        }
    }

    /// Keeps a request's rows; the acknowledgement comes when they are durable. A client that goes away meanwhile changes
    /// nothing: the work goes on, so that what it sends again finds it done.
    ///
    /// # Errors
    /// The pipeline's.
    pub(crate) async fn ingest(
        &self,
        tenant: TenantId,
        signal: Signal,
        request: Request,
        held: Held,
    ) -> Result<Accepted, Failure> {
        self.requests.body_bytes.fetch_add(request.body.len() as u64, Relaxed);
        telemetry::note("prism.tenant", tenant.as_str());
        let pipeline = self.pipeline.clone();
        let work = tokio::spawn(async move {
            let accepted = pipeline.ingest(&tenant, signal, request).await;
            drop(held);
            accepted
        });
        let worked = work.await;
        if let Ok(Ok(Accepted { steps: Some(steps), stored, dropped, rejected, .. })) = &worked {
            telemetry::step("decode", steps.decode.began, steps.decode.took, &[("prism.items.rejected", *rejected)]);
            telemetry::step("plugin chain", steps.chain.began, steps.chain.took, &[("prism.items.dropped", *dropped)]);
            telemetry::step("commit", steps.commit.began, steps.commit.took, &[("prism.items.stored", *stored)]);
        }
        match worked {
            Ok(accepted) => accepted.map_err(|error| {
                let wait = error.retry_after_seconds().and_then(|s| u32::try_from(s).ok());
                let failure = Failure::of(&error);
                Failure { retry_after_s: wait.unwrap_or(failure.retry_after_s), ..failure }
            }),
            Err(panic) => {
                let message = "an error inside of Prism: please report it with the time at which it happened";
                Err(Failure::new(Code::Bug, message).inner(panic.to_string()))
            }
        }
    }

    /// Waits until the tenant's queries see the batch that a token names.
    ///
    /// # Errors
    /// [`Code::BadRequest`] where it is no token, [`Code::Unavailable`] where the batch does not appear in time.
    pub(crate) async fn wait_for(&self, tenant: &TenantId, token: Option<&HeaderValue>) -> Result<(), Failure> {
        let Some(token) = token else { return Ok(()) };
        let parsed = token.to_str().ok().and_then(|text| text.parse::<Token>().ok());
        let message = "expected in `prism-token` what an acknowledgement brought in that header";
        let token = Arc::new(parsed.ok_or_else(|| Failure::new(Code::BadRequest, message))?);
        let (began, mut step) = (Instant::now(), WAIT_FOR_STEP);
        loop {
            let (reader, tenant, looked_for) = (self.storage.reader.clone(), tenant.clone(), token.clone());
            let seen = tokio::task::spawn_blocking(move || reader.sees(&tenant, &looked_for)).await;
            match seen {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => return Err(Failure::of(&error)),
                Err(panic) => {
                    return Err(Failure::new(Code::Bug, "looking for a batch failed").inner(panic.to_string()));
                }
            }
            if began.elapsed() >= WAIT_FOR_MAX {
                let message = "the batch that `prism-token` names is not there yet: ask again later";
                return Err(Failure::new(Code::Unavailable, message));
            }
            tokio::time::sleep(step).await;
            step = (step * 2).min(WAIT_FOR_STEP_MAX);
        }
    }

    /// Waits for a seat.
    async fn seat(&self, tenant: &TenantId) -> Result<Seat, Failure> {
        telemetry::note("prism.tenant", tenant.as_str());
        let began = Instant::now();
        let seat = self.seats.take(tenant).await;
        telemetry::step("wait for a seat", began, began.elapsed(), &[]);
        seat
    }

    /// What a tenant's queries may cost, as it was set while servers run. Not known is not unlimited: it protects the others.
    async fn limits(&self, tenant: &TenantId) -> Result<TenantLimits, Failure> {
        let settings = self.chains.settings(tenant).await.map_err(|error| Failure::of(&error))?;
        Ok(budget::limits(&settings))
    }

    /// Answers a query.
    ///
    /// # Errors
    /// The engine's, and [`Code::Busy`] where too many queries run.
    pub(crate) async fn query(
        &self,
        tenant: &TenantId,
        query: &Query,
        mut options: RunOptions,
        form: Form,
    ) -> Result<Vec<u8>, Failure> {
        options.limits = self.limits(tenant).await?;
        if calls_plugins(query) {
            let functions = self.chains.functions(tenant).await;
            options.functions = Some(functions.map_err(|error| Failure::of(&error))?);
        }
        let _seat = self.seat(tenant).await?;
        let began = Instant::now();
        let answer = self.engine.run(tenant, query, now_unix_nanos(), options).await;
        let answer = answer.map_err(|error| Failure::of_query(&error))?;
        trace_query(began, &answer.stats);
        let began = Instant::now();
        let bytes = encoded(move || match form {
            Form::Json => Ok(answer.to_json().into_bytes()),
            Form::Ndjson => Ok(answer.to_ndjson().into_bytes()),
            Form::Arrow => answer.to_arrow_stream(),
        })
        .await;
        telemetry::step("encode", began, began.elapsed(), &[]);
        bytes
    }

    /// A trace as OTLP/JSON, and the parts of the data that could not be read and may hold more of it.
    ///
    /// # Errors
    /// The engine's, [`Code::NotFound`] where the tenant has no such trace.
    pub(crate) async fn trace(&self, tenant: &TenantId, id: [u8; 16]) -> Result<(Vec<u8>, Vec<String>), Failure> {
        let _seat = self.seat(tenant).await?;
        let began = Instant::now();
        let trace = self.engine.trace(tenant, &id).await.map_err(|error| Failure::of_query(&error))?;
        telemetry::step("scan", began, began.elapsed(), &numbers_of(&trace.stats));
        if trace.spans() == 0 {
            // What cannot be read may hold it: not known is another answer than not there.
            return Err(match trace.stats.partial.first() {
                None => Failure::new(Code::NotFound, format!("there is no trace `{}`", hex::encode(id))),
                Some(part) => Failure::new(Code::Unavailable, "part of the stored spans cannot be read at the moment")
                    .inner(format!("{}: {}", part.what, part.why)),
            });
        }
        let missing = trace.stats.partial.iter().map(|part| part.what.clone()).collect();
        let bytes = encoded(move || Ok(prism_ingest::encode::traces_json(&trace.batches).into_bytes())).await?;
        Ok((bytes, missing))
    }

    /// The fields of a tenant's rows in a range: `{"fields": [{"name", "scope", "signal", "types", "count"}]}`.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) async fn fields(
        &self,
        tenant: &TenantId,
        range: &Range,
        signal: Option<Signal>,
    ) -> Result<Vec<u8>, Failure> {
        let _seat = self.seat(tenant).await?;
        let fields = self.engine.fields(tenant, time_range(range)).await.map_err(|error| Failure::of_query(&error))?;
        let shown = fields.iter().filter(|f| signal.is_none_or(|signal| signal == f.signal));
        let list: Vec<serde_json::Value> = shown
            .map(|f| {
                let (name, signal) = (&f.name, f.signal.as_str());
                serde_json::json!({ "name": name, "scope": f.scope, "signal": signal, "types": f.types, "count": f.count })
            })
            .collect();
        Ok(serde_json::json!({ "fields": list }).to_string().into_bytes())
    }

    /// The most frequent values of a field: `{"values": [{"value", "count"}]}`.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) async fn values(
        &self,
        tenant: &TenantId,
        signal: Signal,
        field: &str,
        range: &Range,
        limit: u64,
    ) -> Result<Vec<u8>, Failure> {
        let options = RunOptions { limits: self.limits(tenant).await?, ..RunOptions::default() };
        let _seat = self.seat(tenant).await?;
        let values = self.engine.field_values(tenant, signal, field, time_range(range), limit, options).await;
        let values = values.map_err(|error| Failure::of_query(&error))?;
        let list: Vec<serde_json::Value> =
            values.iter().map(|v| serde_json::json!({ "value": v.value, "count": v.count })).collect();
        Ok(serde_json::json!({ "values": list }).to_string().into_bytes())
    }
}

/// The steps of a query that was answered, one after the other.
fn trace_query(began: Instant, stats: &Stats) {
    let (bind, scan) = (Duration::from_nanos(stats.bind_nanos), Duration::from_nanos(stats.scan_nanos));
    telemetry::step("bind", began, bind, &[("prism.frames.pruned", stats.frames_pruned)]);
    telemetry::step("scan", began + bind, scan, &numbers_of(stats));
    telemetry::step("finish", began + bind + scan, Duration::from_nanos(stats.finish_nanos), &[]);
}

/// What reading took.
fn numbers_of(stats: &Stats) -> [(&'static str, u64); 4] {
    [
        ("prism.frames.read", stats.frames_read),
        ("prism.rows.scanned", stats.rows_scanned),
        ("prism.rows.matched", stats.rows_matched),
        ("prism.bytes.read", stats.bytes_read),
    ]
}

/// Encoding an answer of 10,000 rows takes tens of milliseconds, which the threads of connections must not.
async fn encoded(work: impl FnOnce() -> Result<Vec<u8>, QueryError> + Send + 'static) -> Result<Vec<u8>, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(bytes) => bytes.map_err(|error| Failure::of_query(&error)),
        Err(panic) => Err(Failure::new(Code::Bug, "the answer could not be encoded").inner(panic.to_string())),
    }
}

fn time_range(range: &Range) -> TimeRange {
    match range {
        Range::Last(nanos) => {
            let to = now_unix_nanos();
            TimeRange { from: to.saturating_sub(*nanos), to }
        }
        Range::Between { from, to } => TimeRange { from: *from, to: *to },
    }
}

/// Now, in unix nanoseconds.
pub(crate) fn now_unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
