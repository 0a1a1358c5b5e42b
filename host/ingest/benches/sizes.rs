//! Requests of 1, 2, 2,000 and 16,000 records through the pipeline into a store on disk: what an item and a request cost.
//!
//! A closed loop of as many clients as make groups; measured is the processor time of the whole process. And the join of a group
//! of a thousand batches of one row, which must cost what its rows cost and not what its batches would alone.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros make functions without documentation")]

mod clock;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clock::CpuTime;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prism_ingest::json::Format;
use prism_ingest::sample::Sample;
use prism_ingest::{Chains, Clocks, Pipeline, PipelineOptions, Request, decode};
use prism_model::{Batch, Limits, Signal, TenantId};
use prism_plugin::{PluginHost, PluginOptions};
use prism_store::{Store, StoreOptions};
use prost::Message as _;
use tokio::runtime::Runtime;

const CLIENTS: usize = 64;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

/// A pipeline into a folder that goes when it is dropped.
struct Node {
    runtime: Runtime,
    pipeline: Arc<Pipeline>,
    _root: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let root = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store = Store::open(root.path(), StoreOptions::default()).unwrap();
        let host = PluginHost::new(PluginOptions::default()).unwrap();
        let chains = Chains::new(root.path().to_owned(), host, Arc::new(now));
        let options = PipelineOptions { tenant_bytes_max: 1 << 30, bytes_max: 1 << 30, ..PipelineOptions::default() };
        let pipeline = Pipeline::new(store, chains, Limits::default(), options, Clocks::of_one(Arc::new(now)));
        Node { runtime, pipeline, _root: root }
    }

    /// Sends all bodies, each client its share one after the other.
    fn send(&self, bodies: Vec<Bytes>) {
        let clients: Vec<_> = (0..CLIENTS.min(bodies.len()))
            .map(|client| {
                let share: Vec<Bytes> = bodies.iter().skip(client).step_by(CLIENTS).cloned().collect();
                let pipeline = self.pipeline.clone();
                self.runtime.spawn(async move {
                    let tenant: TenantId = "acme".parse().unwrap();
                    for body in share {
                        let request =
                            Request { body, format: Format::Protobuf, content_encoding: None, idempotency_key: None };
                        assert!(!pipeline.ingest(&tenant, Signal::Spans, request).await.unwrap().duplicate);
                    }
                })
            })
            .collect();
        self.runtime.block_on(async {
            for client in clients {
                client.await.unwrap();
            }
        });
    }
}

fn requests(c: &mut Criterion<CpuTime>) {
    let node = Node::new();
    let mut sample = Sample::new(1, now() as u64);
    let mut group = c.benchmark_group("requests");
    group.sample_size(10);
    for (items, count) in [(1, 1_024), (2, 1_024), (2_000, 32), (16_000, 4)] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(items), |b| {
            let fresh = || (0..count).map(|_| sample.traces(items).encode_to_vec().into()).collect::<Vec<Bytes>>();
            b.iter_batched(fresh, |bodies| node.send(bodies), BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn joining(c: &mut Criterion<CpuTime>) {
    let mut sample = Sample::new(2, now() as u64);
    let mut group = c.benchmark_group("join");
    for (batches, rows) in [(1_000, 1), (100, 10), (1, 1_000)] {
        let decoded = |_| decode::traces(&sample.traces(rows).encode_to_vec(), &Limits::default()).unwrap().batch;
        let parts: Vec<Batch> = (0..batches).map(decoded).collect();
        group.throughput(Throughput::Elements(batches));
        group.bench_function(format!("{batches} of {rows}"), |b| b.iter(|| Batch::concat(black_box(&parts)).unwrap()));
    }
    group.finish();
}

criterion_group!(name = benches; config = Criterion::default().with_measurement(CpuTime::of_process("ns CPU/request")); targets = joining, requests);
criterion_main!(benches);
