//! Many tenants in one process: each appends a small batch of each signal now and then. Tells how long acknowledgements take,
//! and what it costs in files, bytes, memory and processor time.
//!
//! `PRISM_LANES=TENANTS,ROWS,EVERY_MS,SECONDS` (default `1000,20,1000,30`); `PRISM_LANES_ROOT` names another file system.
#![allow(missing_docs, clippy::print_stdout, reason = "a benchmark")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prism_model::samples::{Random, batch};
use prism_model::{Batch, Cleared, Signal, TenantId};
use prism_store::{Store, StoreOptions};

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Megabytes of memory, now and at most.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) >> 10
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// Files, their bytes, and bytes of the disk that they take.
fn files(dir: &Path) -> (usize, u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = (0, 0, 0);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            let (n, len, blocks) = files(&entry.path());
            sum = (sum.0 + n, sum.1 + len, sum.2 + blocks);
        } else if meta.is_file() {
            sum = (sum.0 + 1, sum.1 + meta.len(), sum.2 + meta.blocks() * 512);
        }
    }
    sum
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}

/// The rows at the present time.
fn at_present(of: &Batch) -> Batch {
    use prism_model::{Column, Intrinsic, Table, TableKind};
    let move_items = |table: &Table| {
        let times = Arc::new(arrow::array::Int64Array::from_value(now(), table.rows()));
        let columns = table.columns().iter().map(|c| match &c.id {
            id if *id == Intrinsic::Time.into() => Column { id: id.clone(), array: times.clone() },
            _ => c.clone(),
        });
        Table::try_new(TableKind::Items, table.rows(), columns.collect())
    };
    let tables = of.tables().iter().map(|t| match t.kind() {
        TableKind::Items => move_items(t),
        _ => Ok(t.clone()),
    });
    let tables = tables.collect::<Result<Vec<_>, _>>();
    tables.and_then(|tables| Batch::try_new(of.signal, of.origins.clone(), tables)).unwrap_or_else(|_| of.clone())
}

fn percentile(sorted: &[Duration], part: f64) -> Duration {
    sorted.get((sorted.len() as f64 * part) as usize).or(sorted.last()).copied().unwrap_or_default()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = std::env::var("PRISM_LANES").unwrap_or_else(|_| "1000,20,1000,30".into());
    let numbers = text.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let &[tenants, rows, every, seconds] = numbers.as_slice() else { return Err("expected four numbers".into()) };
    let root = match std::env::var("PRISM_LANES_ROOT") {
        Ok(path) => tempfile::tempdir_in(path)?,
        Err(_) => tempfile::tempdir()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(root.path(), StoreOptions::default())?;
        // A few shapes of each signal, shared: what is measured is the store, not the making of rows.
        let shapes: Vec<Vec<Batch>> =
            Signal::ALL.iter().map(|s| (0..8).map(|i| batch(*s, rows as usize, now(), i)).collect()).collect();
        let shapes = Arc::new(shapes);
        let begin = tokio::time::Instant::now();
        let until = begin + Duration::from_secs(seconds);
        let waits = Arc::new(Mutex::new(Vec::<(Duration, Duration)>::new()));
        let (wall, before) = (Instant::now(), cpu());
        let mut lanes = tokio::task::JoinSet::new();
        for n in 0..tenants {
            let tenant: TenantId = format!("tenant-{n}").parse()?;
            for s in 0..Signal::ALL.len() {
                let (store, tenant, shapes, waits) = (store.clone(), tenant.clone(), shapes.clone(), waits.clone());
                lanes.spawn(async move {
                    let mut random = Random(n * 3 + s as u64);
                    let mut due = begin + Duration::from_millis(random.below(every as usize) as u64);
                    while due < until {
                        tokio::time::sleep_until(due).await;
                        let rows = at_present(&shapes[s][random.below(8)]);
                        #[expect(clippy::disallowed_methods, reason = "measures what comes behind the plugin chain")]
                        let cleared = Cleared::by_plugin_chain(rows);
                        store.append(&tenant, cleared).await?;
                        // Open loop: an acknowledgement that is late makes the next one late too, from when it was due.
                        waits.lock().push((begin.elapsed(), due.elapsed()));
                        due += Duration::from_millis(every);
                    }
                    Ok::<_, prism_store::StoreError>(())
                });
            }
        }
        while let Some(lane) = lanes.join_next().await {
            lane??;
        }
        let (wall, cpu) = (wall.elapsed(), cpu() - before);
        let handles = std::fs::read_dir("/proc/self/fd")?.count();
        let (rss, peak) = memory();
        let (count, bytes, disk) = files(&root.path().join("hot"));
        let metrics = store.metrics();
        let load = |n: &std::sync::atomic::AtomicU64| n.load(Relaxed);
        let told = std::mem::take(&mut *waits.lock());
        let sorted = |from: u64| {
            let from = Duration::from_secs(from);
            let mut waits: Vec<Duration> = told.iter().filter(|(at, _)| *at >= from).map(|(_, wait)| *wait).collect();
            waits.sort_unstable();
            waits
        };
        println!("{} lanes, {rows} rows every {every} ms for {:.0} s", tenants * 3, wall.as_secs_f64());
        for (what, waits) in [("all", sorted(0)), ("after 5 s", sorted(5))] {
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|p| percentile(&waits, p));
            let most = waits.last().copied().unwrap_or_default();
            println!(
                "acknowledged {what}: {} batches, p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}, most {most:?}",
                waits.len()
            );
        }
        println!("segments open {}, file handles {handles}, files {count}", load(&metrics.segments_open));
        println!(
            "bytes acknowledged {} MB, lengths {} MB, disk {} MB",
            load(&metrics.bytes_written) >> 20,
            bytes >> 20,
            disk >> 20
        );
        println!("memory {rss} MB, at most {peak} MB");
        let batches = load(&metrics.batches).max(1);
        println!(
            "CPU {:.1} s, {:.0} us a batch; encoding {:.1} s",
            cpu.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / batches as f64,
            load(&metrics.encode_nanos) as f64 / 1e9
        );
        let syncs: u64 = metrics.syncs.iter().map(load).sum();
        println!("fdatasync {syncs}, mean {:?}", Duration::from_nanos(load(&metrics.sync_nanos) / syncs.max(1)));
        let closing = Instant::now();
        store.close().await;
        println!("closed in {:?}; then disk {} MB", closing.elapsed(), files(&root.path().join("hot")).2 >> 20);
        Ok(())
    })
}
