//! A request's way in: place in the queue, bytes, once or again, columns, plugin chain, disk, acknowledgement.
//!
//! Work that costs processor time runs on blocking threads, a bounded number of them per tenant and node. Memory stays flat in a
//! storm: bodies under way are bounded per tenant and node, and columns that wait for the disk keep the next request from
//! being decoded. Not here: HTTP and gRPC (`prism-server`).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prism_model::{Batch, BatchId, Classify, Kind, Limits, Origin, Signal, TenantId};
use prism_plugin::{Call, Chain, Passed, PluginError};
use prism_store::{Store, StoreError};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::{self, BodyError};
use crate::chains::{ChainError, Chains};
use crate::clocks::{Clocks, Now};
use crate::decode::{self, DecodeError, Decoded, Rejected};
use crate::json::{self, Format, JsonError};
use crate::metrics::{IngestMetrics, SignalMetrics, add};
use crate::queue::{Bounds, Full, Place, Queue, Room};
use crate::seen::{Begun, Elsewhere, First, Identity, Outcome, Seen, SeenBounds, Stored, UnderWay};
use crate::sizes::{REQUEST_BYTES_BOUNDS, REQUEST_ITEMS_BOUNDS, SMALL_BYTES};

/// Settings of the pipeline. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipelineOptions {
    /// Requests of one tenant under way at once: a few seconds of work for one processor.
    pub tenant_requests_max: usize,
    /// Bytes of one tenant's bodies under way at once: one of the largest size.
    pub tenant_bytes_max: usize,
    /// Requests of all tenants under way at once.
    pub requests_max: usize,
    /// Bytes of all bodies under way at once.
    pub bytes_max: usize,
    /// Bytes of columns that may wait for the disk before decoding waits too. Below `store.inflight_bytes_max`, so that it is
    /// here that they wait.
    pub columns_bytes_max: usize,
    /// Requests of one tenant that are decoded and run through plugins at once; 0 for the number of processors.
    pub tenant_workers: usize,
    /// The same of all tenants; 0 for four times the number of processors, so that tenants whose plugins take all the time
    /// that they may leave some to others.
    pub workers: usize,
    /// How long a stored request is remembered: the same again (its `Idempotency-Key`, else its body) is a duplicate, answered
    /// with a warning, counted, and not stored. Clients try again for minutes; 0 switches it off for all tenants, and
    /// `prism tenant set` for one.
    pub duplicate_window_ms: u64,
    /// Requests of one tenant and signal that are remembered, the latest: 70 a second for half an hour, 250 bytes each.
    pub duplicate_tenant_entries_max: usize,
    /// Requests of all tenants that are remembered: 64 MiB.
    pub duplicate_entries_max: usize,
}

impl Default for PipelineOptions {
    fn default() -> PipelineOptions {
        PipelineOptions {
            tenant_requests_max: 1_024,
            tenant_bytes_max: 64 << 20,
            requests_max: 4_096,
            bytes_max: 192 << 20,
            columns_bytes_max: 64 << 20,
            tenant_workers: 0,
            workers: 0,
            duplicate_window_ms: 30 * 60_000,
            duplicate_tenant_entries_max: 131_072,
            duplicate_entries_max: 262_144,
        }
    }
}

impl PipelineOptions {
    /// Workers of one tenant and of the node, resolved.
    fn resolved_workers(&self) -> (usize, usize) {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let or = |n: usize, default: usize| if n == 0 { default } else { n };
        (or(self.tenant_workers, processors), or(self.workers, 4 * processors))
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// The body, perhaps compressed.
    pub body: Bytes,
    /// How the body is encoded when it is decompressed, by the header `Content-Type`.
    pub format: Format,
    /// The header `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// The header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// A request that is durable, but for what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Items that were rejected by partial success.
    pub rejected: u64,
    /// Why, in English; with `rejected` 0 a warning. Empty where there is nothing to say.
    pub reason: String,
    /// Names the frames: a query given it sees the batch. Empty where nothing was stored.
    pub token: String,
    /// Items stored.
    pub stored: u64,
    /// Items that the tenant's filters dropped.
    pub dropped: u64,
    /// Whether the same request was stored before, and nothing of this one: the rest is what was said then, and a warning.
    pub duplicate: bool,
    /// When its work was done; `None` for a duplicate.
    pub steps: Option<Steps>,
}

/// When each step of a request was worked on, for who traces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Decompression and decoding.
    pub decode: Step,
    /// The plugin chain.
    pub chain: Step,
    /// The wait for room and others, encoding, and the fdatasync.
    pub commit: Step,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
}

impl Step {
    fn between(began: Instant, ended: Instant) -> Step {
        Step { began, took: ended.saturating_duration_since(began) }
    }
}

/// A request that was not taken. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The body does not stand for bytes.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The bytes are no request.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The JSON is no request.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The tenant's plugins cannot be run.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A plugin failed on the batch.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The batch could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tenant has too much under way.
    #[error(
        "too many requests of this tenant are under way: expected at most {requests} with {bytes} bytes \
         (ingest.tenant_requests_max, ingest.tenant_bytes_max)"
    )]
    TenantFull {
        /// The limit of requests.
        requests: usize,
        /// The limit of bytes.
        bytes: usize,
    },
    /// The node has too much under way.
    #[error("this node has too many requests under way (ingest.requests_max, ingest.bytes_max)")]
    NodeFull,
    /// The work on the batch broke off.
    #[error("the work on the batch broke off: {0}")]
    Broken(&'static str),
}

impl Classify for IngestError {
    fn kind(&self) -> Kind {
        match self {
            IngestError::Body(e) => e.kind(),
            IngestError::Decode(e) => e.kind(),
            IngestError::Json(e) => e.kind(),
            IngestError::Chain(e) => e.kind(),
            IngestError::Plugin(e) => e.kind(),
            IngestError::Store(e) => e.kind(),
            IngestError::TenantFull { .. } => Kind::Wait,
            IngestError::NodeFull => Kind::Retry,
            IngestError::Broken(_) => Kind::Bug,
        }
    }
}

impl IngestError {
    /// After how many seconds the client may try again, where it may.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self.kind() {
            Kind::Wait => Some(1),
            Kind::Retry => Some(2),
            _ => None,
        }
    }
}

/// Bytes of a body that are decoded by the thread that has them: some 20 spans, in which it is away for less than 100 µs.
const AT_ONCE_BYTES_MAX: usize = 16 << 10;

/// The way in, for all tenants of this process.
pub struct Pipeline {
    store: Arc<Store>,
    chains: Arc<Chains>,
    clocks: Clocks,
    limits: Limits,
    options: PipelineOptions,
    queue: Arc<Queue>,
    workers: Arc<Semaphore>,
    room: Room,
    seen: Arc<Seen>,
    elsewhere: Arc<Elsewhere>,
    metrics: Arc<IngestMetrics>,
}

/// What the work on a request gives.
enum Worked {
    /// Rows to be stored.
    Rows(Box<Rows>),
    /// The same was stored already.
    Duplicate(Identity, Stored),
    /// The same is being stored: how that ends decides about this one.
    UnderWay(Identity, UnderWay),
}

/// How the work on a request ended.
enum Done {
    /// Rows to be stored, the request's place in the queue, which it keeps until they are, and its turn and worker.
    Rows(Box<Rows>, Place, (OwnedSemaphorePermit, OwnedSemaphorePermit)),
    /// The same was stored before; asked at this time of the steady clock.
    Duplicate(Identity, Stored, i64),
}

struct Rows {
    passed: Passed,
    rejected: Rejected,
    bytes: usize,
    decode: Step,
    chain: Step,
    /// `None` where the tenant wants each request stored.
    first: Option<First>,
}

impl Pipeline {
    /// A pipeline that ends in this store.
    pub fn new(
        store: Arc<Store>,
        chains: Arc<Chains>,
        limits: Limits,
        options: PipelineOptions,
        clocks: Clocks,
    ) -> Arc<Pipeline> {
        let metrics = Arc::new(IngestMetrics::default());
        let (tenant_turns, workers) = options.resolved_workers();
        let bounds = Bounds {
            tenant_requests: options.tenant_requests_max,
            tenant_bytes: options.tenant_bytes_max,
            node_requests: options.requests_max,
            node_bytes: options.bytes_max,
            tenant_turns,
        };
        let seen = SeenBounds {
            window: i64::try_from(options.duplicate_window_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000),
            tenant_entries: options.duplicate_tenant_entries_max,
            entries: options.duplicate_entries_max,
        };
        let seen = Seen::new(seen, metrics.clone());
        Arc::new(Pipeline {
            elsewhere: Arc::new(Elsewhere { seen: seen.clone(), store: store.clone(), clocks: clocks.clone() }),
            seen,
            queue: Queue::new(bounds, metrics.clone()),
            workers: Arc::new(Semaphore::new(workers)),
            room: Room::new(options.columns_bytes_max),
            store,
            chains,
            clocks,
            limits,
            options,
            metrics,
        })
    }

    /// What was counted so far.
    pub fn metrics(&self) -> &Arc<IngestMetrics> {
        &self.metrics
    }

    /// Takes a request. When this returns `Ok`, what it says was stored is durable and visible to every later query; when it
    /// returns an error, nothing is. The same request again within the duplicate window is answered as the first one was.
    ///
    /// Run it to its end, whether or not the client is still there: where it is dropped while the disk works, nobody knows
    /// whether the request is stored, so the same again would be tried again.
    ///
    /// # Errors
    /// [`IngestError`]; its kind says what the client must do.
    pub async fn ingest(&self, tenant: &TenantId, signal: Signal, request: Request) -> Result<Accepted, IngestError> {
        let counts = self.metrics.of(signal);
        add(&counts.requests, 1);
        add(&counts.bytes, request.body.len() as u64);
        let result = self.take(tenant, signal, request, counts).await;
        if result.is_err() {
            add(&counts.failed, 1);
        }
        result
    }

    async fn take(
        &self,
        tenant: &TenantId,
        signal: Signal,
        request: Request,
        counts: &SignalMetrics,
    ) -> Result<Accepted, IngestError> {
        let place = self.queue.enter(tenant, request.body.len()).map_err(|full| match full {
            Full::Tenant => IngestError::TenantFull {
                requests: self.options.tenant_requests_max,
                bytes: self.options.tenant_bytes_max,
            },
            Full::Node => IngestError::NodeFull,
        })?;
        // Before a processor is taken: loading a plugin may take seconds, and is this tenant's matter alone (PL-3).
        let decided = self.chains.of(tenant).await.inspect_err(|_| add(&self.metrics.chains_missing, 1))?;
        let once = self.seen.is_on() && decided.settings.duplicate_window.covers(request.idempotency_key.is_some());
        if once {
            self.seen.recall(&self.store, tenant, signal, self.clocks.now()).await;
        }
        // A thread that may block costs more than the work on a few items; but a guest may run long, and a compressed body hold
        // anything.
        let at_once = request.body.len() <= AT_ONCE_BYTES_MAX
            && decided.chain.is_empty(signal)
            && request.content_encoding.as_deref().is_none_or(str::is_empty);
        let request = Arc::new(request);
        let work = Work {
            tenant: tenant.clone(),
            signal,
            request: request.clone(),
            chain: decided.chain,
            seen: once.then(|| self.seen.clone()),
            limits: self.limits.clone(),
            metrics: self.metrics.clone(),
        };
        let (rows, _place, worker) = match self.work(place, work, at_once).await? {
            Done::Rows(rows, place, worker) => (rows, place, worker),
            Done::Duplicate(identity, stored, now) => return Ok(self.repeat(&request, counts, identity, &stored, now)),
        };
        let Rows { passed, rejected, bytes, decode, chain, first } = *rows;
        self.count(&passed);
        let stored = passed.cleared.batch().rows() as u64;
        let dropped = passed.dropped.iter().map(|d| d.count).sum();
        add(&counts.bytes_decompressed, bytes as u64);
        counts.request_bytes.observe(&REQUEST_BYTES_BOUNDS, request.body.len() as u64);
        counts.request_bytes_decompressed.observe(&REQUEST_BYTES_BOUNDS, bytes as u64);
        counts.request_items.observe(&REQUEST_ITEMS_BOUNDS, stored + dropped + rejected.count);
        if bytes < SMALL_BYTES {
            self.metrics.small_requests.add(tenant, (self.clocks.wall)());
        }
        let waits = Instant::now();
        // With the worker in hand: while the disk does not keep up, nothing more is decoded.
        let _room = self.room.take(passed.cleared.batch().memory_bytes()).await;
        drop(worker);
        let receipt = match &first {
            None => self.store.append(tenant, passed.cleared).await?,
            Some(right) => match self.store.append_once(tenant, passed.cleared, self.elsewhere.clone()).await {
                Ok(receipt) => receipt,
                // Another process was first: its copy is found now.
                Err(error @ StoreError::Stored) => {
                    let (identity, now) = (right.identity(), (self.clocks.steady)());
                    return match self.seen.begin(tenant, signal, identity, now) {
                        Begun::Stored(stored) => Ok(self.repeat(&request, counts, identity, &stored, now)),
                        Begun::First(_) | Begun::UnderWay(_) => Err(error.into()),
                    };
                }
                Err(error) => return Err(error.into()),
            },
        };
        add(&counts.items, stored);
        add(&counts.rejected, rejected.count);
        add(&counts.dropped, dropped);
        let token = if stored > 0 { receipt.token.to_string() } else { String::new() };
        // A request without items is no request to be told from another.
        if let Some(first) = first.filter(|_| stored + dropped + rejected.count > 0) {
            first.stored(Outcome {
                rejected: Some(rejected.count),
                reason: rejected.reason.as_str().into(),
                token: token.as_str().into(),
            });
        }
        let steps = Some(Steps { decode, chain, commit: Step::between(waits, Instant::now()) });
        let Rejected { count: rejected, reason, .. } = rejected;
        Ok(Accepted { rejected, reason, token, stored, dropped, duplicate: false, steps })
    }

    /// Does the work in its tenant's turn. Where another copy of the request is under way, its end decides, and is waited for
    /// without a worker in hand, which the other may need.
    async fn work(&self, mut place: Place, mut work: Work, at_once: bool) -> Result<Done, IngestError> {
        let mut identity = None;
        loop {
            let now = self.clocks.now();
            // Who has waited for another copy of the request asks again before any work is done twice.
            let mut first = None;
            if let Some(identity) = identity {
                match self.seen.begin(&work.tenant, work.signal, identity, now.steady) {
                    Begun::First(right) => first = Some(right),
                    Begun::Stored(stored) => return Ok(Done::Duplicate(identity, stored, now.steady)),
                    Begun::UnderWay(other) => {
                        other.ended().await;
                        continue;
                    }
                }
            }
            let closed = || IngestError::Broken("the workers are closed");
            let turn = place.turn().await.ok_or_else(closed)?;
            let worker = self.workers.clone().acquire_owned().await.map_err(|_| closed())?;
            let run = move || {
                let worked = work.run(first, now);
                // Given back only when the work is over, also where nobody waits for it any more.
                (worked, work, place, (turn, worker))
            };
            let done = if at_once {
                std::panic::catch_unwind(AssertUnwindSafe(run)).ok()
            } else {
                tokio::task::spawn_blocking(run).await.ok()
            };
            let done = done.ok_or(IngestError::Broken("a worker panicked"))?;
            let (worked, worker);
            (worked, work, place, worker) = done;
            match worked? {
                Worked::Rows(rows) => return Ok(Done::Rows(rows, place, worker)),
                Worked::Duplicate(identity, stored) => return Ok(Done::Duplicate(identity, stored, now.steady)),
                Worked::UnderWay(of, other) => {
                    drop(worker);
                    other.ended().await;
                    identity = Some(of);
                }
            }
        }
    }

    /// The answer to a request that was stored before: the same as then, and a warning.
    fn repeat(
        &self,
        request: &Request,
        counts: &SignalMetrics,
        identity: Identity,
        stored: &Stored,
        now: i64,
    ) -> Accepted {
        let other_body = identity.by_key && stored.body.is_some_and(|body| body != identity.body);
        let counter = match (identity.by_key, other_body) {
            (true, true) => &counts.duplicates_by_key_of_other_body,
            (true, false) => &counts.duplicates_by_key,
            (false, _) => &counts.duplicates_by_body,
        };
        add(counter, 1);
        add(&counts.duplicate_bytes, request.body.len() as u64);
        let seconds = now.saturating_sub(stored.at).max(0) / 1_000_000_000;
        let mut reason = match (identity.by_key, other_body) {
            (true, true) => format!(
                "another request with this `Idempotency-Key` was stored already, {seconds} s ago, with another body: \
                 nothing of this one is stored; each request needs a key of its own"
            ),
            (true, false) => format!(
                "this request was stored already, {seconds} s ago under the same `Idempotency-Key`: nothing is stored twice"
            ),
            (false, _) => format!(
                "this request was stored already, {seconds} s ago with the same body: nothing is stored twice; an \
                 `Idempotency-Key` tells requests apart that are equal by intent"
            ),
        };
        let outcome = &stored.outcome;
        if outcome.rejected.is_none() {
            reason.push_str("; what was rejected of it then is no longer known");
        } else if !outcome.reason.is_empty() {
            reason.push_str("; then: ");
            reason.push_str(&outcome.reason);
        }
        let token = outcome.token.to_string();
        Accepted { rejected: outcome.rejected.unwrap_or(0), reason, token, duplicate: true, ..Accepted::default() }
    }

    fn count(&self, passed: &Passed) {
        let metrics = &self.metrics;
        add(&metrics.guest_nanos, passed.guest_nanos);
        add(&metrics.guest_calls, passed.guest_calls);
        add(&metrics.verdicts_remembered, passed.cache_hits);
        add(&metrics.verdicts_asked, passed.cache_misses);
        for dropped in &passed.dropped {
            metrics.dropped.add(&dropped.binding, &dropped.label, dropped.count);
        }
        for redaction in passed.cleared.batch().origins.iter().flat_map(|origin| &origin.redactions) {
            metrics.redacted.add(&redaction.plugin, &redaction.label, redaction.count);
        }
    }
}

/// The part that costs processor time: bytes to columns, columns through the plugins.
struct Work {
    tenant: TenantId,
    signal: Signal,
    request: Arc<Request>,
    chain: Arc<Chain>,
    /// Where the request is looked for, if it is.
    seen: Option<Arc<Seen>>,
    limits: Limits,
    metrics: Arc<IngestMetrics>,
}

impl Work {
    /// Does it, for a request received now. `first` is the right to store it, where that was settled before.
    fn run(&self, mut first: Option<First>, now: Now) -> Result<Worked, IngestError> {
        let Work { signal, request, limits, metrics, .. } = self;
        let started = Instant::now();
        let body = body::decompress(request.content_encoding.as_deref(), &request.body, limits.body_bytes_max)?;
        let identity = identity(&self.tenant, *signal, request.idempotency_key.as_deref(), &body);
        if let (Some(seen), None) = (&self.seen, &first) {
            match seen.begin(&self.tenant, *signal, identity, now.steady) {
                Begun::First(right) => first = Some(right),
                Begun::UnderWay(other) => return Ok(Worked::UnderWay(identity, other)),
                Begun::Stored(stored) => return Ok(Worked::Duplicate(identity, stored)),
            }
        }
        let bytes = body.len();
        let body = match request.format {
            Format::Protobuf => body,
            Format::Json => json::to_protobuf(*signal, &body, limits)?.into(),
        };
        let Decoded { batch, rejected } = match signal {
            Signal::Spans => decode::traces(&body, limits)?,
            Signal::Logs => decode::logs(&body, limits)?,
            Signal::Metrics => decode::metrics(&body, limits)?,
        };
        drop(body);
        let decoded = Instant::now();
        add(&metrics.decode_nanos, nanos(decoded - started));
        let batch = with_origin(batch, identity.id, now.wall);
        let [seed, ..] = *identity.id.as_chunks::<8>().0 else {
            return Err(IngestError::Broken("a batch id has 16 bytes"));
        };
        let call = Call { now_unix_nanos: now.wall, seed: u64::from_le_bytes(seed), batch_id: identity.id };
        let passed = self.chain.run(batch, &call).inspect_err(|_| add(&metrics.plugin_failures, 1))?;
        let cleared = Instant::now();
        add(&metrics.chain_nanos, nanos(cleared - decoded));
        let (decode, chain) = (Step::between(started, decoded), Step::between(decoded, cleared));
        Ok(Worked::Rows(Box::new(Rows { passed, rejected, bytes, decode, chain, first })))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn with_origin(mut batch: Batch, batch_id: BatchId, received_unix_nanos: i64) -> Batch {
    let rows = batch.rows() as u32;
    batch.origins = vec![Origin { batch_id, first_row: 0, rows, received_unix_nanos, redactions: Vec::new() }];
    batch
}

/// What names a request: its idempotency key within tenant and signal, or else the bytes of its body, decompressed: a client
/// that tries again sends the same, but may compress it anew, and gzip writes the time into its head.
fn identity(tenant: &TenantId, signal: Signal, key: Option<&str>, body: &[u8]) -> Identity {
    let hash = xxhash_rust::xxh3::xxh3_128(body);
    let Some(key) = key else {
        return Identity { id: hash.to_le_bytes(), body: hash as u64, by_key: false };
    };
    // Neither a tenant's name nor a signal's holds a zero byte.
    let scoped = Sha256::new().chain_update(tenant.as_str()).chain_update([0]).chain_update(signal.as_str());
    let scoped: [u8; 32] = scoped.chain_update([0]).chain_update(key).finalize().into();
    let mut id: BatchId = [0; 16];
    id.copy_from_slice(&scoped[..16]);
    Identity { id, body: hash as u64, by_key: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_ids_are_scoped() {
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let id = |tenant, key, body: &str| identity(tenant, Signal::Spans, key, body.as_bytes()).id;
        assert_eq!(id(&a, Some("k"), "x"), id(&a, Some("k"), "y"));
        assert_ne!(id(&a, Some("k"), "x"), id(&b, Some("k"), "x"));
        assert_ne!(id(&a, Some("k"), "x"), identity(&a, Signal::Logs, Some("k"), b"x").id);
        assert_eq!(id(&a, None, "x"), id(&a, None, "x"));
        assert_ne!(id(&a, None, "x"), id(&a, None, "y"));
    }
}
