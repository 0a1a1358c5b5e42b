//! Decoding requests of 4,000 items: the walk beside prost, which only makes messages and no columns.
//!
//! Per element: nanoseconds an item are CPU-ms per million items.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros make functions without documentation")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prism_ingest::decode;
use prism_ingest::sample::Sample;
use prism_model::Limits;
use prost::Message;

const ITEMS: usize = 4_000;

fn decoding(c: &mut Criterion) {
    let limits = Limits::default();
    let mut sample = Sample::new(1, 1_790_000_000_000_000_000);
    let traces = sample.traces(ITEMS).encode_to_vec();
    let logs = sample.logs(ITEMS).encode_to_vec();
    eprintln!("{} B a span, {} B a log record", traces.len() / ITEMS, logs.len() / ITEMS);

    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(ITEMS as u64));
    group.bench_function("spans/walk", |b| b.iter(|| decode::traces(black_box(&traces), &limits).unwrap()));
    group.bench_function("spans/prost", |b| b.iter(|| ExportTraceServiceRequest::decode(black_box(&*traces)).unwrap()));
    group.bench_function("logs/walk", |b| b.iter(|| decode::logs(black_box(&logs), &limits).unwrap()));
    group.bench_function("logs/prost", |b| b.iter(|| ExportLogsServiceRequest::decode(black_box(&*logs)).unwrap()));
    group.finish();
}

criterion_group!(benches, decoding);
criterion_main!(benches);
