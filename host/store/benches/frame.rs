//! What a frame of realistic spans (15 attributes) costs: CPU per million spans and bytes per span.
#![allow(missing_docs, reason = "a benchmark")]

use std::hint::black_box;

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prism_model::samples::spans;
use prism_model::{AttrType, Batch, ColumnId, Intrinsic, TableKind};
use prism_store::frame_bytes;

const NOW: i64 = 1_800_000_000_000_000_000;

/// CPU time of the thread: the budget is in it, and other work on the machine does not change it much.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn frame(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("frame");
    group.sample_size(20);
    for rows in [4_000, 16_000] {
        let batch = spans(rows, NOW, 1);
        let Ok(bytes) = frame_bytes::encode(&batch, 1) else { return };
        eprintln!("{rows} spans: {:.1} bytes a span", bytes.len() as f64 / rows as f64);
        for (part, bytes) in frame_bytes::parts(&bytes) {
            eprintln!("  {part}: {:.1} bytes a span", bytes as f64 / rows as f64);
        }
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("encode {rows}"), |b| b.iter(|| frame_bytes::encode(black_box(&batch), 1)));
        group.bench_function(format!("decode all {rows}"), |b| {
            b.iter(|| frame_bytes::decode(black_box(&bytes), &|_, _| true))
        });
        let key = [7; 32];
        let Ok(sealed) = frame_bytes::encrypt(&batch, 1, &key) else { return };
        eprintln!("  encrypted: {:.1} bytes a span more", (sealed.len() - bytes.len()) as f64 / rows as f64);
        group.bench_function(format!("encode encrypted {rows}"), |b| {
            b.iter(|| frame_bytes::encrypt(black_box(&batch), 1, &key))
        });
        group.bench_function(format!("decode all encrypted {rows}"), |b| {
            b.iter(|| frame_bytes::decrypt(black_box(&sealed), &key, &|_, _| true))
        });
        let status = ColumnId::attr("http.response.status_code", AttrType::Int);
        let one = |kind: TableKind, id: &ColumnId| kind == TableKind::Items && *id == status;
        group.bench_function(format!("decode one int {rows}"), |b| {
            b.iter(|| frame_bytes::decode(black_box(&bytes), &one))
        });
        let name = |kind: TableKind, id: &ColumnId| kind == TableKind::Items && *id == Intrinsic::Name.into();
        group.bench_function(format!("decode one text {rows}"), |b| {
            b.iter(|| frame_bytes::decode(black_box(&bytes), &name))
        });
    }
    let four: Vec<Batch> = (0..4).map(|i| spans(4_000, NOW, i)).collect();
    group.throughput(Throughput::Elements(16_000));
    group.bench_function("join 4 of 4000", |b| b.iter(|| Batch::concat(black_box(&four)).map(|b| b.rows())));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).without_plots();
    targets = frame
}
criterion_main!(benches);
