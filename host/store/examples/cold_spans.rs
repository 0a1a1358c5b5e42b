//! Spans from append to cold: what each step costs in time, processor and memory, and what a span takes there.
//!
//! ```text
//! cargo run --release -p prism-store --example cold_spans -- FOLDER SPANS [COMMITS]
//! ```
//! The folder then holds a Delta table that any engine reads: `FOLDER/objects/cold/acme/spans`. With more than one commit the
//! spans come in so many parts, each of its own hour, and are compacted at the end.
#![allow(clippy::print_stdout, reason = "a program that reports")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prism_model::{Cleared, Signal, TenantId, samples};
use prism_store::cold::delta::Tables;
use prism_store::cold::{ColdEnv, ColdOptions, compact, promote};
use prism_store::disk::RealDisk;
use prism_store::keys::Keyring;
use prism_store::objects::LocalObjects;
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{Store, StoreOptions, Surroundings};

const HOUR: i64 = 3_600_000_000_000;
/// 2026-11-21T00:00:00Z
const BEGIN: i64 = 1_795_219_200_000_000_000;
/// Spans of a request.
const BATCH: usize = 4_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, spans, commits) = match &arguments[..] {
        [folder, spans] => (folder, spans.parse::<usize>()?, 1),
        [folder, spans, commits] => (folder, spans.parse()?, commits.parse::<usize>()?.max(1)),
        _ => return Err("expected `FOLDER SPANS [COMMITS]`".into()),
    };
    let (root, tenant) = (Path::new(folder), "acme".parse::<TenantId>()?);
    std::fs::create_dir_all(root.join("objects"))?;
    let objects = Arc::new(LocalObjects::new(Arc::new(RealDisk), &root.join("objects"), 1));
    let (blocks, tables) = (Blocks::open(objects.clone(), Keyring::default()), Tables::new(objects));
    let (options, named) = (ColdOptions::default(), AtomicU64::new(0));
    let env = ColdEnv {
        disk: &RealDisk,
        root,
        blocks: &blocks,
        tables: &tables,
        options: &options,
        writer: 1,
        named: &named,
    };
    for commit in 0..commits {
        let begin = BEGIN + commit as i64 * HOUR;
        let mut step = Step::begin();
        append(root, &tenant, spans / commits, begin, commit as u64 + 1).await?;
        step.end("appended", spans / commits, String::new());
        let sealed = seal(&env, &tenant, begin + 3 * HOUR)?;
        step.end("sealed", spans / commits, format!("{} blocks", sealed.blocks.len()));
        let report = promote::pass(&env, &tenant, Signal::Spans, begin + 3 * HOUR, false)?;
        let bytes = report.bytes as f64 / report.rows.max(1) as f64;
        let index = report.index.map_or(0.0, |index| index.bytes as f64 / index.entries.max(1) as f64);
        let what =
            format!("{} rows in {} files, {bytes:.1} B a span, index {index:.1} B a trace", report.rows, report.files);
        step.end("promoted", spans / commits, what);
    }
    if commits > 1 {
        let mut step = Step::begin();
        let report = compact::pass(&env, &tenant, Signal::Spans, BEGIN + 1_000 * HOUR, usize::MAX, false)?;
        let what = format!("{} files into {}, {} bytes", report.files_before, report.files, report.bytes);
        step.end("compacted", report.rows as usize, what);
    }
    Ok(())
}

async fn append(root: &Path, tenant: &TenantId, spans: usize, begin: i64, writer: u64) -> Result<(), Box<dyn Error>> {
    let clock = Arc::new(move || begin + HOUR / 2);
    let around = Surroundings { disk: Arc::new(RealDisk), clock, writer, keys: Keyring::default() };
    let store = Store::open_in(root, StoreOptions::default(), around);
    for n in 0..spans.div_ceil(BATCH) {
        let rows = BATCH.min(spans - n * BATCH);
        let at = begin + (n as i64 * (HOUR / 2)) / spans.div_ceil(BATCH) as i64;
        #[expect(clippy::disallowed_methods, reason = "made here, with nothing to redact")]
        let batch = Cleared::by_plugin_chain(samples::spans(rows, at, writer * 1_000_000 + n as u64));
        store.append(tenant, batch).await?;
    }
    store.close().await;
    Ok(())
}

fn seal(env: &ColdEnv<'_>, tenant: &TenantId, now: i64) -> Result<seal::SealReport, Box<dyn Error>> {
    let options = SealOptions::default();
    let covered = |t: &TenantId, signal, shard| Ok(env.tables.table(t, signal).covered(shard)?.unwrap_or(0));
    let (disk, root, blocks) = (env.disk, env.root, env.blocks);
    let seal = SealEnv { disk, root, blocks, options: &options, covered: &covered };
    Ok(seal::pass(&seal, tenant, Signal::Spans, now, false)?)
}

/// What a step took.
struct Step {
    wall: Instant,
    cpu: f64,
}

impl Step {
    fn begin() -> Step {
        Step { wall: Instant::now(), cpu: cpu() }
    }

    fn end(&mut self, did: &str, spans: usize, what: String) {
        let (wall, cpu_now) = (self.wall.elapsed().as_secs_f64(), cpu());
        let share = (cpu_now - self.cpu) * 1e6 / spans.max(1) as f64;
        println!("{did} {spans} spans: {wall:.1} s, {share:.2} CPU-s a million, peak memory {}; {what}", memory());
        (self.wall, self.cpu) = (Instant::now(), cpu());
    }
}

/// Processor seconds of this process.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("").trim().to_owned()
}
