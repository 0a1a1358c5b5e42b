//! Queries over a store of an instrumented shop's spans: `PRISM_BENCH_ROWS` of them (200,000 by default).
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prism_model::{Cleared, samples};
use prism_query::{Engine, EngineOptions, RunOptions};
use prism_store::disk::RealDisk;
use prism_store::{Store, StoreOptions, Surroundings};

const NOW: i64 = 1_767_268_800_000_000_000;
const SECOND: i64 = 1_000_000_000;
/// Rows of one request: a frame.
const BATCH: usize = 16_384;

fn queries(c: &mut Criterion) {
    let rows: usize = std::env::var("PRISM_BENCH_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let root = tempfile::tempdir().unwrap();
    let tenant = "bench".parse().unwrap();
    let engine = runtime.block_on(async {
        let around =
            Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer: 1, keys: Default::default() };
        let store = Store::open_in(root.path(), StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, around);
        for i in 0..rows.div_ceil(BATCH) {
            let start = NOW - (i as i64 % 25 + 2) * 60 * SECOND;
            let batch = samples::spans(BATCH.min(rows - i * BATCH), start, i as u64);
            #[expect(clippy::disallowed_methods, reason = "a bench of what is read, long behind the plugin chain")]
            store.append(&tenant, Cleared::by_plugin_chain(batch)).await.unwrap();
        }
        store.close().await;
        Engine::new(store.reader(), EngineOptions::default())
    });
    let mut group = c.benchmark_group("queries");
    group.throughput(Throughput::Elements(rows as u64)).sample_size(20).measurement_time(Duration::from_secs(2));
    for (name, text) in [
        ("count", "from spans last 1h select count()"),
        ("count by service", "from spans last 1h by service.name select count()"),
        ("attribute = value", "from spans last 1h where http.response.status_code = 500 select count()"),
        (
            "quantiles by service",
            "from spans last 1h by service.name select p50(duration), p95(duration), p99(duration)",
        ),
        ("p95 by name and minute", "from spans last 1h by name, bin(time, 1m) select p95(duration)"),
        ("p95 by service and name", "from spans last 1h by service.name, name select p95(duration)"),
        ("distinct traces", "from spans last 1h select count_distinct(trace_id)"),
        ("text contains", "from spans last 1h where name contains 'zz' select count()"),
        ("newest rows", "from spans last 1h"),
        ("slowest rows", "from spans last 1h order duration desc limit 10"),
        (
            "parent > child",
            "from spans last 1h match (a: kind = server, b: kind = client where a > b) select count(), p95(b.duration)",
        ),
        (
            "any parent > child",
            "from spans last 1h match (a: true, b: true where a > b) select count(), p95(b.duration)",
        ),
        (
            "ancestor >> descendant",
            "from spans last 1h match (a: kind = server, b: kind = client where a >> b) select count(), p95(b.duration)",
        ),
        (
            "service map",
            "from spans last 1h where parent.service.name != service.name by parent.service.name, service.name select count(), p95(duration)",
        ),
        ("self time", "from spans last 1h by name select p95(self_duration)"),
        ("traces", "from traces last 1h by root.service.name select count(), p95(duration)"),
        ("trace by id", "from spans last 1h where trace_id = '00112233445566778899aabbccddeeff'"),
    ] {
        let query = prism_dsl::parse_text(text).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(engine.run(&tenant, black_box(&query), NOW, RunOptions::default())).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
