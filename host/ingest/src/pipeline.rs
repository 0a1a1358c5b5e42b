//! A request's way in: place in the queue, bytes, columns, plugin chain, disk, acknowledgement.
//!
//! Work that costs processor time runs on blocking threads, a bounded number of them per tenant and node. Memory stays flat in a
//! storm: bodies under way are bounded per tenant and node, and columns that wait for the disk keep the next request from
//! being decoded. Not here: HTTP and gRPC (`prism-server`).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prism_model::{Batch, BatchId, Classify, Kind, Limits, Origin, Signal, TenantId};
use prism_plugin::{Call, Chain, Passed, PluginError};
use prism_store::{Store, StoreError};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::body::{self, BodyError};
use crate::chains::{ChainError, Chains, Clock};
use crate::decode::{self, DecodeError, Decoded, Rejected};
use crate::json::{self, Format, JsonError};
use crate::metrics::{IngestMetrics, SignalMetrics, add};
use crate::queue::{Bounds, Full, Queue, Room};

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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The way in, for all tenants of this process.
pub struct Pipeline {
    store: Arc<Store>,
    chains: Arc<Chains>,
    clock: Clock,
    limits: Limits,
    options: PipelineOptions,
    queue: Arc<Queue>,
    workers: Arc<Semaphore>,
    room: Room,
    metrics: Arc<IngestMetrics>,
}

/// What the work on a request gives.
struct Worked {
    passed: Passed,
    rejected: Rejected,
    bytes: usize,
}

impl Pipeline {
    /// A pipeline that ends in this store. The clock tells the time of receipt, in unix nanoseconds.
    pub fn new(
        store: Arc<Store>,
        chains: Arc<Chains>,
        limits: Limits,
        options: PipelineOptions,
        clock: Clock,
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
        Arc::new(Pipeline {
            queue: Queue::new(bounds, metrics.clone()),
            workers: Arc::new(Semaphore::new(workers)),
            room: Room::new(options.columns_bytes_max),
            store,
            chains,
            clock,
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
    /// returns an error, nothing is.
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
        let now = (self.clock)();
        let place = self.queue.enter(tenant, request.body.len()).map_err(|full| match full {
            Full::Tenant => IngestError::TenantFull {
                requests: self.options.tenant_requests_max,
                bytes: self.options.tenant_bytes_max,
            },
            Full::Node => IngestError::NodeFull,
        })?;
        // Before a processor is taken: loading a plugin may take seconds, and is this tenant's matter alone (PL-3).
        let chain = self.chains.of(tenant).await.inspect_err(|_| add(&self.metrics.chains_missing, 1))?;
        let closed = || IngestError::Broken("the workers are closed");
        let turn = place.turn().await.ok_or_else(closed)?;
        let worker = self.workers.clone().acquire_owned().await.map_err(|_| closed())?;
        let (limits, metrics, scope) = (self.limits.clone(), self.metrics.clone(), tenant.clone());
        let work = move || {
            let worked = work(&scope, signal, &request, &chain, now, &limits, &metrics);
            // Given back only when the work is over, also where nobody waits for it any more.
            (worked, place, (turn, worker))
        };
        let done = tokio::task::spawn_blocking(work).await;
        let (worked, _place, worker) = done.map_err(|_| IngestError::Broken("a worker panicked"))?;
        let Worked { passed, rejected, bytes } = worked?;
        add(&counts.bytes_decompressed, bytes as u64);
        self.count(&passed);
        let rows = passed.cleared.batch().rows() as u64;
        // With the worker in hand: while the disk does not keep up, nothing more is decoded.
        let _room = self.room.take(passed.cleared.batch().memory_bytes()).await;
        drop(worker);
        let receipt = self.store.append(tenant, passed.cleared).await?;
        let dropped = passed.dropped.iter().map(|d| d.count).sum();
        add(&counts.items, rows);
        add(&counts.rejected, rejected.count);
        add(&counts.dropped, dropped);
        let token = if rows > 0 { receipt.token.to_string() } else { String::new() };
        Ok(Accepted { rejected: rejected.count, reason: rejected.reason, token, stored: rows, dropped })
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
fn work(
    tenant: &TenantId,
    signal: Signal,
    request: &Request,
    chain: &Chain,
    now: i64,
    limits: &Limits,
    metrics: &IngestMetrics,
) -> Result<Worked, IngestError> {
    let started = Instant::now();
    let body = body::decompress(request.content_encoding.as_deref(), &request.body, limits.body_bytes_max)?;
    let bytes = body.len();
    let body = match request.format {
        Format::Protobuf => body,
        Format::Json => json::to_protobuf(signal, &body, limits)?.into(),
    };
    let Decoded { batch, rejected } = match signal {
        Signal::Spans => decode::traces(&body, limits)?,
        Signal::Logs => decode::logs(&body, limits)?,
        Signal::Metrics => decode::metrics(&body, limits)?,
    };
    drop(body);
    let decoded = Instant::now();
    add(&metrics.decode_nanos, nanos(decoded - started));
    let batch_id = batch_id(tenant, signal, request);
    let batch = with_origin(batch, batch_id, now);
    let [seed, ..] = *batch_id.as_chunks::<8>().0 else { return Err(IngestError::Broken("a batch id has 16 bytes")) };
    let call = Call { now_unix_nanos: now, seed: u64::from_le_bytes(seed), batch_id };
    let passed = chain.run(batch, &call).inspect_err(|_| add(&metrics.plugin_failures, 1))?;
    add(&metrics.chain_nanos, nanos(decoded.elapsed()));
    Ok(Worked { passed, rejected, bytes })
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn with_origin(mut batch: Batch, batch_id: BatchId, received_unix_nanos: i64) -> Batch {
    let rows = batch.rows() as u32;
    batch.origins = vec![Origin { batch_id, first_row: 0, rows, received_unix_nanos, redactions: Vec::new() }];
    batch
}

/// What names a request: its idempotency key within tenant and signal, or else the bytes of its body as they came, which a
/// client that tries again sends again.
fn batch_id(tenant: &TenantId, signal: Signal, request: &Request) -> BatchId {
    let Some(key) = &request.idempotency_key else {
        return xxhash_rust::xxh3::xxh3_128(&request.body).to_le_bytes();
    };
    // Neither a tenant's name nor a signal's holds a zero byte.
    let scoped = Sha256::new().chain_update(tenant.as_str()).chain_update([0]).chain_update(signal.as_str());
    let hash: [u8; 32] = scoped.chain_update([0]).chain_update(key).finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_ids_are_scoped() {
        let request = |key: Option<&str>, body: &'static str| Request {
            body: Bytes::from_static(body.as_bytes()),
            format: Format::Protobuf,
            content_encoding: None,
            idempotency_key: key.map(str::to_owned),
        };
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let id = |tenant, key, body| batch_id(tenant, Signal::Spans, &request(key, body));
        assert_eq!(id(&a, Some("k"), "x"), id(&a, Some("k"), "y"));
        assert_ne!(id(&a, Some("k"), "x"), id(&b, Some("k"), "x"));
        assert_ne!(id(&a, Some("k"), "x"), batch_id(&a, Signal::Logs, &request(Some("k"), "x")));
        assert_eq!(id(&a, None, "x"), id(&a, None, "x"));
        assert_ne!(id(&a, None, "x"), id(&a, None, "y"));
    }
}
