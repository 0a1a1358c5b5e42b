//! What appending costs from batch to acknowledgement on a real disk: CPU of the whole process per million spans.
#![allow(missing_docs, clippy::print_stdout, reason = "a benchmark")]

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use prism_model::samples::spans;
use prism_model::{Cleared, TenantId};
use prism_store::{Store, StoreOptions};

const BATCHES: usize = 250;
const ROWS: usize = 4_000;
const CLIENTS: usize = 8;

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos() as i64;
        let batches: Vec<_> = (0..CLIENTS).map(|i| spans(ROWS, now, i as u64)).collect();
        let store = Store::open(root.path(), StoreOptions::default())?;
        let tenant: TenantId = "acme".parse()?;
        let (wall, before) = (Instant::now(), cpu());
        let mut clients = tokio::task::JoinSet::new();
        for batch in batches {
            let (store, tenant) = (store.clone(), tenant.clone());
            clients.spawn(async move {
                let mut slowest = Duration::ZERO;
                for _ in 0..BATCHES / CLIENTS {
                    let started = Instant::now();
                    #[expect(clippy::disallowed_methods, reason = "measures what comes behind the plugin chain")]
                    let cleared = Cleared::by_plugin_chain(batch.clone());
                    store.append(&tenant, cleared).await?;
                    slowest = slowest.max(started.elapsed());
                }
                Ok::<_, prism_store::StoreError>(slowest)
            });
        }
        let mut slowest = Duration::ZERO;
        while let Some(client) = clients.join_next().await {
            slowest = slowest.max(client??);
        }
        let (wall, cpu) = (wall.elapsed(), cpu() - before);
        let metrics = store.metrics();
        let rows = metrics.rows.load(Relaxed) as f64;
        let syncs: u64 = metrics.syncs.iter().map(|n| n.load(Relaxed)).sum();
        println!("CPU-s per million spans  {:.2}", cpu.as_secs_f64() / rows * 1e6);
        println!("of it encoding           {:.2}", metrics.encode_nanos.load(Relaxed) as f64 / 1e9 / rows * 1e6);
        println!("spans per second         {:.0}", rows / wall.as_secs_f64());
        println!("bytes per span           {:.1}", metrics.bytes_written.load(Relaxed) as f64 / rows);
        println!("rows per frame           {:.0}", rows / metrics.frames.load(Relaxed) as f64);
        println!("slowest acknowledgement  {slowest:?}");
        println!(
            "mean fdatasync           {:?}",
            Duration::from_nanos(metrics.sync_nanos.load(Relaxed) / syncs.max(1))
        );
        store.close().await;
        Ok(())
    })
}
