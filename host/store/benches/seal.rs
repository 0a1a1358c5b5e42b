//! What sealing costs: CPU of the whole process per million spans of 15 attributes, read from segments, put into frames of a
//! block with its rollup, and written to a folder; and the memory that it takes.
#![allow(missing_docs, clippy::print_stdout, reason = "a benchmark")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use prism_model::samples::spans;
use prism_model::{Batch, Cleared, Signal, TenantId};
use prism_store::disk::RealDisk;
use prism_store::keys::Keyring;
use prism_store::objects::LocalObjects;
use prism_store::rollup::{CubeBuilder, CubeLimits};
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{Store, StoreOptions, Surroundings};

const SPANS: usize = 1_000_000;
const NOW: i64 = 6_000_000 * 300_000_000_000 + 100_000_000_000;

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Most bytes that the process had in memory, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let tenant: TenantId = "acme".parse()?;
    for rows in [20_000, 4_000, 500] {
        let root = tempfile::tempdir()?;
        let batches: Vec<Batch> = (0..8).map(|i| spans(rows, NOW, i)).collect();
        runtime.block_on(async {
            let around =
                Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer: 1, keys: Keyring::default() };
            let options = StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() };
            let store = Store::open_in(root.path(), options, around);
            for i in 0..SPANS / rows {
                #[expect(clippy::disallowed_methods, reason = "measures what comes behind the plugin chain")]
                let cleared = Cleared::by_plugin_chain(batches[i % batches.len()].clone());
                store.append(&tenant, cleared).await?;
            }
            store.close().await;
            Ok::<_, prism_store::StoreError>(())
        })?;
        std::fs::create_dir_all(root.path().join("objects"))?;
        let objects = LocalObjects::new(Arc::new(RealDisk), &root.path().join("objects"), 1);
        let blocks = Blocks::open(Arc::new(objects), Keyring::default());
        let options = SealOptions::default();
        let env = SealEnv {
            disk: &RealDisk,
            root: root.path(),
            blocks: &blocks,
            options: &options,
            covered: &|_, _, _| Ok(0),
        };
        let (wall, before) = (Instant::now(), cpu());
        let report = seal::pass(&env, &tenant, Signal::Spans, NOW + 3_600_000_000_000, false)?;
        let (wall, cpu) = (wall.elapsed(), cpu() - before);
        let sealed: u64 = report.blocks.iter().map(|b| b.rows).sum();
        let bytes: u64 = report.blocks.iter().map(|b| b.bytes).sum();
        let hot: u64 = report.blocks.iter().map(|b| b.bytes_hot).sum();
        let frames: u32 = report.blocks.iter().map(|b| b.frames).sum();
        let listed = blocks.list(&tenant, Signal::Spans, 0, 0)?;
        let cubes = listed.iter().filter_map(|b| b.cube_bytes().ok().flatten()).map(|c| c.len()).sum::<usize>();
        println!("hot frames of {rows} rows");
        println!("  CPU-s per million spans  {:.3}", cpu.as_secs_f64() / sealed as f64 * 1e6);
        println!("  wall                     {wall:?}");
        println!("  rows per frame           {:.0}", sealed as f64 / f64::from(frames));
        println!("  bytes per span hot, warm {:.1} {:.1}", hot as f64 / sealed as f64, bytes as f64 / sealed as f64);
        println!("  of it rollup             {:.2}", cubes as f64 / sealed as f64);
        println!("  peak memory so far       {} MiB", peak());
    }
    let batch = spans(16_384, NOW, 1);
    let before = cpu();
    let mut builder = CubeBuilder::new(Signal::Spans, CubeLimits::default());
    for _ in 0..30 {
        builder.add(&batch);
    }
    let cells = builder.finish().map_or(0, |c| c.entries());
    println!("rollup alone, CPU-s per million spans  {:.3}, {cells} entries", (cpu() - before).as_secs_f64() / 0.49152);
    Ok(())
}
