//! Decoding requests of 4,000 items: the walk beside prost, which only makes messages and no columns.
//!
//! Measured is the processor time of the thread, so that a busy machine tells little less than an idle one: nanoseconds an item
//! are CPU-ms per million items.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros make functions without documentation")]

mod clock;

use std::hint::black_box;

use clock::CpuTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prism_ingest::sample::Sample;
use prism_ingest::{decode, encode, json};
use prism_model::{Limits, Signal};
use prost::Message;

const ITEMS: usize = 4_000;

fn decoding(c: &mut Criterion<CpuTime>) {
    let limits = Limits::default();
    let mut sample = Sample::new(1, 1_790_000_000_000_000_000);
    let traces = sample.traces(ITEMS).encode_to_vec();
    let logs = sample.logs(ITEMS).encode_to_vec();
    let metrics = sample.metrics(ITEMS).encode_to_vec();
    let bytes = [&traces, &logs, &metrics].map(|request| request.len() / ITEMS);
    eprintln!("{} B a span, {} B a log record, {} B a data point", bytes[0], bytes[1], bytes[2]);

    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(ITEMS as u64));
    group.bench_function("spans/walk", |b| b.iter(|| decode::traces(black_box(&traces), &limits).unwrap()));
    group.bench_function("spans/prost", |b| b.iter(|| ExportTraceServiceRequest::decode(black_box(&*traces)).unwrap()));
    group.bench_function("logs/walk", |b| b.iter(|| decode::logs(black_box(&logs), &limits).unwrap()));
    group.bench_function("logs/prost", |b| b.iter(|| ExportLogsServiceRequest::decode(black_box(&*logs)).unwrap()));
    group.bench_function("metrics/walk", |b| b.iter(|| decode::metrics(black_box(&metrics), &limits).unwrap()));
    group.bench_function("metrics/prost", |b| {
        b.iter(|| ExportMetricsServiceRequest::decode(black_box(&*metrics)).unwrap());
    });
    // The same requests as JSON: all of it, and the part that makes protobuf of it.
    let spans_json = encode::traces_json(&[decode::traces(&traces, &limits).unwrap().batch]);
    let logs_json = encode::logs_json(&[decode::logs(&logs, &limits).unwrap().batch]);
    eprintln!("{} B a span, {} B a log record in JSON", spans_json.len() / ITEMS, logs_json.len() / ITEMS);
    let convert = |signal, json: &str| json::to_protobuf(signal, black_box(json).as_bytes(), &limits).unwrap();
    group.bench_function("spans/json", |b| {
        b.iter(|| decode::traces(&convert(Signal::Spans, &spans_json), &limits).unwrap());
    });
    group.bench_function("spans/json to protobuf", |b| b.iter(|| convert(Signal::Spans, &spans_json)));
    group.bench_function("logs/json", |b| {
        b.iter(|| decode::logs(&convert(Signal::Logs, &logs_json), &limits).unwrap());
    });
    group.bench_function("logs/json to protobuf", |b| b.iter(|| convert(Signal::Logs, &logs_json)));
    group.finish();
}

criterion_group!(name = benches; config = Criterion::default().with_measurement(CpuTime::of_thread("ns CPU/item")); targets = decoding);
criterion_main!(benches);
