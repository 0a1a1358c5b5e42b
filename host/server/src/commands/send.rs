//! Recorded requests to a server or into the data folder, several at once, until each is taken or refused for good.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use prism_ingest::clocks::Clocks;
use prism_ingest::json::Format;
use prism_ingest::recording::{self, Recorded};
use prism_ingest::{Chains, Pipeline, Request};
use prism_model::{Classify as _, Kind, Signal, TenantId};
use prism_plugin::PluginHost;
use prism_store::Store;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::files::Progress;
use super::tally::{Outcome, TOLD_MAX, Tally};
use crate::cli::Destination;
use crate::config::Config;
use crate::rpc::{ExportResponse, Status};
use crate::show::clean;

/// Requests under way at once: the server syncs groups to disk, so one alone would mostly wait.
const SENDERS: usize = 4;
/// How long a request is tried again that a server is too busy for, or that finds no server: long enough for a restart.
const TRY_FOR: Duration = Duration::from_secs(120);
/// Longest wait that a server may ask for.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// First wait where a server names none; it doubles.
const WAIT_MIN: Duration = Duration::from_millis(250);
/// As queries do.
const TIMEOUT: Duration = Duration::from_secs(180);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A request and where it comes from.
pub(super) struct Parcel {
    pub(super) recorded: Recorded,
    /// As `file:line`.
    pub(super) place: String,
}

/// What all senders share.
struct Shared {
    target: Target,
    tally: Mutex<Tally>,
    told: AtomicU64,
    strict: bool,
    /// Why nothing more is sent.
    stop: Mutex<Option<anyhow::Error>>,
    stopped: AtomicBool,
}

/// Takes parcels; blocks while as many are under way as may be.
pub(super) struct Outbox<'a> {
    parcels: SyncSender<Parcel>,
    shared: &'a Shared,
    progress: &'a Progress,
}

impl Outbox<'_> {
    /// Hands a parcel to a sender. `false` where nothing more is sent.
    pub(super) fn send(&self, parcel: Parcel) -> bool {
        !self.stopped() && self.parcels.send(parcel).is_ok()
    }

    /// Whether nothing more is sent.
    pub(super) fn stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }

    /// Counts a part of a file that is no request.
    pub(super) fn broken(&self, place: &str, reason: &str) {
        lock(&self.shared.tally).add_broken();
        self.shared.tell(self.progress, place, reason);
    }

    /// Counts a file that cannot be read.
    pub(super) fn unread(&self, error: &anyhow::Error) {
        lock(&self.shared.tally).add_unread();
        self.shared.tell(self.progress, "", &format!("{error:#}"));
    }
}

/// Runs `feed`, which sends, and waits until all is through. Returns what became of it.
///
/// # Errors
/// Nothing more could be sent: no server, a key that is refused, a data folder that cannot be opened.
pub(super) fn all(
    to: &Destination,
    config: &Config,
    strict: bool,
    progress: &Progress,
    feed: impl FnOnce(&Outbox<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Tally> {
    let shared = Shared {
        target: Target::open(to, config)?,
        tally: Mutex::default(),
        told: AtomicU64::new(0),
        strict,
        stop: Mutex::new(None),
        stopped: AtomicBool::new(false),
    };
    let (parcels, receiver) = sync_channel(1);
    let receiver = Mutex::new(receiver);
    let fed = thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| shared.run(&receiver, progress));
        }
        let outbox = Outbox { parcels, shared: &shared, progress };
        feed(&outbox)
    });
    progress.finish();
    shared.target.close();
    if let Some(error) = lock(&shared.stop).take() {
        return Err(error);
    }
    fed?;
    Ok(shared.tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Shared {
    fn run(&self, parcels: &Mutex<Receiver<Parcel>>, progress: &Progress) {
        loop {
            // Held only while waiting for the next parcel, which one sender does at a time.
            let Ok(parcel) = lock(parcels).recv() else { return };
            if self.stopped.load(Ordering::Relaxed) {
                // What is still handed over is dropped, so that the feeder never waits.
                continue;
            }
            match self.target.take(&parcel, &self.stopped) {
                Ok(outcome) => {
                    let items = {
                        let mut tally = lock(&self.tally);
                        tally.add(parcel.recorded.signal, &outcome);
                        tally.items()
                    };
                    progress.items(items);
                    if let Outcome::Refused(reason) = &outcome {
                        self.tell(progress, &parcel.place, reason);
                    }
                }
                Err(error) => self.stop(error.context(parcel.place.clone())),
            }
        }
    }

    /// Tells a failure, unless there were many.
    fn tell(&self, progress: &Progress, place: &str, reason: &str) {
        let before = self.told.fetch_add(1, Ordering::Relaxed);
        let separator = if place.is_empty() { "" } else { ": " };
        match before {
            0..TOLD_MAX => progress.line(&format!("{place}{separator}{}", clean(reason))),
            TOLD_MAX => progress.line("further failures are counted, and not told"),
            _ => {}
        }
        if self.strict {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    fn stop(&self, error: anyhow::Error) {
        lock(&self.stop).get_or_insert(error);
        self.stopped.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Counts stay right whatever another sender was doing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who takes requests.
enum Target {
    Server(Server),
    Folder(Folder),
}

impl Target {
    fn open(to: &Destination, config: &Config) -> anyhow::Result<Target> {
        match &to.offline {
            Some(tenant) => Folder::open(tenant, config).map(Target::Folder),
            None => Server::new(to).map(Target::Server),
        }
    }

    fn take(&self, parcel: &Parcel, stopped: &AtomicBool) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let mut wait = WAIT_MIN;
        loop {
            let turn = match self {
                Target::Server(server) => server.post(parcel)?,
                Target::Folder(folder) => folder.take(parcel)?,
            };
            let (reason, asked) = match turn {
                Turn::Done(outcome) => return Ok(outcome),
                Turn::Again { reason, after } => (reason, after),
            };
            let pause = asked.unwrap_or(wait).min(WAIT_MAX);
            wait = (2 * wait).min(WAIT_MAX);
            if began.elapsed() + pause > TRY_FOR || stopped.load(Ordering::Relaxed) {
                return Ok(Outcome::Refused(format!("given up after {} s: {reason}", began.elapsed().as_secs())));
            }
            thread::sleep(pause);
        }
    }

    fn close(&self) {
        if let Target::Folder(folder) = self {
            folder.close();
        }
    }
}

/// One try.
enum Turn {
    Done(Outcome),
    Again { reason: String, after: Option<Duration> },
}

/// A server over OTLP/HTTP.
struct Server {
    client: reqwest::blocking::Client,
    base: String,
    key: Option<String>,
    /// Whether it ever answered: one that never did is not there, one that did may be starting again.
    answered: AtomicBool,
}

impl Server {
    fn new(to: &Destination) -> anyhow::Result<Server> {
        let builder = reqwest::blocking::Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
        let builder = crate::client::trusting(builder, &to.url, to.ca_file.as_deref())?;
        let client = builder.build().context("TLS cannot be set up")?;
        let key = to.key.as_ref().map(|key| key.trim().to_owned());
        let base = to.url.trim_end_matches('/').to_owned();
        Ok(Server { client, base, key, answered: AtomicBool::new(false) })
    }

    fn post(&self, parcel: &Parcel) -> anyhow::Result<Turn> {
        let path = match parcel.recorded.signal {
            Signal::Spans => "/v1/traces",
            Signal::Logs => "/v1/logs",
            Signal::Metrics => "/v1/metrics",
        };
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&parcel.recorded.body).and_then(|()| gzip.try_finish()).context("gzip failed")?;
        let request = self
            .client
            .post(format!("{}{path}", self.base))
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "gzip")
            .header("idempotency-key", idempotency_key(parcel))
            .body(gzip.finish().context("gzip failed")?);
        let request = match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let response = match request.send() {
            Ok(response) => response,
            Err(error) if self.answered.load(Ordering::Relaxed) => {
                return Ok(Turn::Again { reason: crate::error::chain(&error), after: None });
            }
            Err(error) => return Err(crate::client::unreachable(&self.base, &error)),
        };
        self.answered.store(true, Ordering::Relaxed);
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
        let bytes = match response.bytes() {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Turn::Again { reason: crate::error::chain(&error), after: None }),
        };
        if status == 200 {
            let partial = ExportResponse::decode(bytes).unwrap_or_default().partial_success.unwrap_or_default();
            return Ok(Turn::Done(Outcome::Taken {
                items: recording::items(parcel.recorded.signal, &parcel.recorded.body),
                rejected: u64::try_from(partial.rejected).unwrap_or(0),
                message: partial.error_message,
            }));
        }
        let message = Status::decode(bytes).map(|status| status.message).unwrap_or_default();
        let reason = format!("status {status}: {}", clean(&message));
        match status {
            429 | 502..=504 => Ok(Turn::Again { reason, after: after.map(Duration::from_secs) }),
            401 | 403 => anyhow::bail!("{reason}\nhint: --key or PRISM_KEY names a key with the role `ingest`"),
            _ => Ok(Turn::Done(Outcome::Refused(reason))),
        }
    }
}

/// Names a request by where it stands and what it says: sent again it is known, and two that are equal in a recording are two.
fn idempotency_key(parcel: &Parcel) -> String {
    let hash = Sha256::new().chain_update(&parcel.place).chain_update([0]).chain_update(&parcel.recorded.body);
    hex::encode(&hash.finalize()[..16])
}

/// The data folder itself, beside servers that may run on it.
struct Folder {
    runtime: tokio::runtime::Runtime,
    store: Arc<Store>,
    pipeline: Arc<Pipeline>,
    tenant: TenantId,
}

impl Folder {
    fn open(tenant: &TenantId, config: &Config) -> anyhow::Result<Folder> {
        super::plugin::must_exist(tenant, config)?;
        let root: &Path = &config.data_dir;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let entered = runtime.enter();
        let store = Store::open_with(root, config.store.clone(), config.keyring()?)
            .with_context(|| format!("the data folder `{}` cannot be opened", root.display()))?;
        let host = PluginHost::new(config.plugin_options()).context("the plugin host cannot start")?;
        let clocks = Clocks::beside(Arc::new(crate::app::now_unix_nanos));
        let chains = Chains::new(root.to_owned(), host, clocks.steady.clone());
        let pipeline = Pipeline::new(store.clone(), chains, config.limits.clone(), config.ingest.clone(), clocks);
        drop(entered);
        Ok(Folder { runtime, store, pipeline, tenant: tenant.clone() })
    }

    fn take(&self, parcel: &Parcel) -> anyhow::Result<Turn> {
        let Recorded { signal, body, .. } = &parcel.recorded;
        let request = Request {
            body: body.clone().into(),
            format: Format::Protobuf,
            content_encoding: None,
            idempotency_key: Some(idempotency_key(parcel)),
        };
        Ok(match self.runtime.block_on(self.pipeline.ingest(&self.tenant, *signal, request)) {
            Ok(accepted) => Turn::Done(Outcome::Taken {
                items: recording::items(*signal, body),
                rejected: accepted.rejected,
                message: accepted.reason,
            }),
            Err(error) => match error.kind() {
                Kind::Wait | Kind::Retry => {
                    let after = error.retry_after_seconds().map(Duration::from_secs);
                    Turn::Again { reason: error.to_string(), after }
                }
                _ => Turn::Done(Outcome::Refused(crate::error::chain(&error))),
            },
        })
    }

    fn close(&self) {
        self.runtime.block_on(self.store.close());
    }
}
