//! What a running server is made of, and the two things that it does with it: keep what is sent, answer what is asked.
//!
//! Here the answers of the other crates become [`Failure`]s. Not here: bytes of HTTP and gRPC (`http`, `grpc`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use prism_ingest::chains::Clock;
use prism_ingest::{Accepted, Chains, Pipeline, Request};
use prism_model::{Signal, TenantId};
use prism_plugin::PluginHost;
use prism_store::Store;

use crate::access::{self, Access};
use crate::config::Config;
use crate::error::{Code, Failure};
use crate::http::body::{BodyLimits, Held, InFlight};
use crate::metrics::{Exposition, Requests, Type, expose_ingest, expose_store};

/// How long a query waits for a batch that its token names. Another process sees a batch well under a second after it was
/// acknowledged; who waits longer has a token of rows that are gone.
const WAIT_FOR_MAX: Duration = Duration::from_secs(5);
/// Between two looks for it.
const WAIT_FOR_STEP: Duration = Duration::from_millis(20);

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
        [Form::Json, Form::Ndjson, Form::Arrow].into_iter().find(|form| form.media_type().eq_ignore_ascii_case(media_type))
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
    /// What this crate counts.
    pub(crate) requests: Arc<Requests>,
    /// Bytes of request bodies in memory.
    pub(crate) room: Arc<InFlight>,
    store: Arc<Store>,
    pipeline: Arc<Pipeline>,
    //Q engine: Arc<Engine>,
    ready: AtomicBool,
}

impl App {
    /// Opens the data folder. Blocks on the disk.
    ///
    /// # Errors
    /// In words for the user: what could not be opened.
    pub(crate) fn open(config: Config) -> anyhow::Result<Arc<App>> {
        let root = &config.data_dir;
        let store = Store::open(root, config.store.clone())
            .with_context(|| format!("the data folder `{}` cannot be opened; `prism doctor` says more", root.display()))?;
        let log = access::log(root)?;
        let access = Access::new(log, config.auth.dev, Duration::from_millis(config.auth.reload_ms));
        let host = PluginHost::new(config.plugin_options()).context("the plugin host cannot start")?;
        let clock: Clock = Arc::new(now_unix_nanos);
        let chains = Chains::new(root.clone(), host, clock.clone());
        let pipeline = Pipeline::new(store.clone(), chains, config.limits.clone(), config.ingest.clone(), clock);
        //Q let engine = Engine::new(store.reader(), config.query.clone());
        Ok(Arc::new(App {
            access,
            requests: Arc::default(),
            room: InFlight::new(config.http.body_bytes_in_flight_max, config.limits.body_bytes_max),
            store,
            pipeline,
            //Q engine,
            ready: AtomicBool::new(false),
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

    /// Finishes what waits for the disk.
    pub(crate) async fn close(&self) {
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
        expose_ingest(self.pipeline.metrics(), &mut text);
        expose_store(self.store.metrics(), &mut text);
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
        let pipeline = self.pipeline.clone();
        let work = tokio::spawn(async move {
            let accepted = pipeline.ingest(&tenant, signal, request).await;
            drop(held);
            accepted
        });
        match work.await {
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
}

/// Now, in unix nanoseconds.
fn now_unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
