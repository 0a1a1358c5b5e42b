//! The index of traces over many files: what a trace by id costs, without a time range.
//!
//! ```text
//! cargo run --release -p prism-store --example trace_index -- write FOLDER FILES TRACES   so many traces in each file
//! cargo run --release -p prism-store --example trace_index -- look FOLDER TRACES          up, all over the table
//! ```
//! Files are entries of the log only: no rows are written. The index is kept up after each commit; each tenth trace goes on in
//! the next file.
#![allow(clippy::print_stdout, reason = "a program that reports")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use prism_model::samples::Random;
use prism_model::{Signal, TenantId};
use prism_store::cold::ColdOptions;
use prism_store::cold::delta::{Change, ColumnStats, Date, NewFile, Scalar, Table, TxnStep};
use prism_store::disk::RealDisk;
use prism_store::index::{self, IndexEnv, IndexReport, RECENT_ENTRIES_MIN, Traces, fingerprint};
use prism_store::objects::{LocalObjects, Objects};

const HOUR: i64 = 3_600_000_000_000;
const DAYS: i64 = 30;
/// 2026-10-01T00:00:00Z
const BEGIN: i64 = 1_790_812_800_000_000_000;
/// Files of a commit: what 1 PB a month brings in two hours.
const COMMIT_FILES: u64 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", folder, files, traces] => write(Path::new(folder), files.parse()?, traces.parse()?)?,
        ["look", folder, traces] => look(Path::new(folder), traces.parse()?)?,
        _ => return Err("expected `write FOLDER FILES TRACES` or `look FOLDER TRACES`".into()),
    }
    Ok(())
}

fn objects(folder: &Path) -> std::io::Result<Arc<dyn Objects>> {
    std::fs::create_dir_all(folder)?;
    Ok(Arc::new(LocalObjects::new(Arc::new(RealDisk), folder, u64::from(std::process::id()))))
}

fn tenant() -> Result<TenantId, Box<dyn std::error::Error>> {
    Ok("acme".parse()?)
}

fn table(folder: &Path) -> Result<Table, Box<dyn std::error::Error>> {
    Ok(Table::open(objects(folder)?, &tenant()?, Signal::Spans))
}

fn write(folder: &Path, files: u64, traces: u64) -> Result<(), Box<dyn std::error::Error>> {
    let (objects, tenant, table) = (objects(folder)?, tenant()?, table(folder)?);
    let named = AtomicU64::new(0);
    let mut indexed = IndexReport::default();
    let from = Instant::now();
    let mut next = 0;
    let mut commit = 0u64;
    while next < files {
        let upto = files.min(next + COMMIT_FILES.min(files / 10));
        let adds: Vec<NewFile> = (next..upto).map(|n| file(n, files)).collect();
        let now = adds.last().map_or(BEGIN, |f| f.time_max);
        let steps = vec![TxnStep { shard: 0, before: (commit > 0).then_some(commit), last: commit + 1 }];
        let columns = vec![Arc::new(columns())];
        let of = |n: u64| {
            (0..traces).map(move |t| (n, t)).chain((0..traces / 10).filter_map(move |t| Some((n.checked_sub(1)?, t))))
        };
        let known: HashMap<String, Vec<u64>> =
            (next..upto).zip(&adds).map(|(n, file)| (file.path.clone(), sorted(of(n)))).collect();
        let change = Change {
            operation: "WRITE",
            now,
            begun: now,
            columns,
            adds,
            data_change: true,
            steps,
            ..Change::default()
        };
        table.commit(&change)?;
        let unique = || format!("{:x}-{:016x}-{}", now / 1_000_000, 7, named.fetch_add(1, Relaxed));
        let env = IndexEnv {
            objects: &objects,
            unique: &unique,
            traces_of: &|_| Ok(None),
            recent_entries_min: RECENT_ENTRIES_MIN,
        };
        indexed = index::update(&env, &table, &tenant, Signal::Spans, &known)?;
        index::vacuum(&env, &tenant, Signal::Spans, now / 1_000_000)?;
        table.checkpoint(10, ColdOptions::default().checkpoint_files, now - 24 * HOUR)?;
        table.clean_log(now - 24 * HOUR, 1_000)?;
        (next, commit) = (upto, commit + 1);
    }
    println!("{files} files in {commit} commits, {:.1} s, {}", from.elapsed().as_secs_f64(), memory());
    println!("index: {} entries, {} bytes", indexed.entries, indexed.bytes);
    Ok(())
}

/// The id of a trace that begins in a file.
fn id(file: u64, trace: u64) -> [u8; 16] {
    let mut random = Random(file.wrapping_mul(1_000_003).wrapping_add(trace));
    let (a, b) = (random.number(), random.number());
    (u128::from(a) << 64 | u128::from(b)).to_le_bytes()
}

fn sorted(of: impl Iterator<Item = (u64, u64)>) -> Vec<u64> {
    let mut prints: Vec<u64> = of.map(|(file, trace)| fingerprint(&id(file, trace))).collect();
    prints.sort_unstable();
    prints.dedup();
    prints
}

/// Traces of files all over the table: the files that are found, the reads of the index, and the time.
fn look(folder: &Path, traces: u64) -> Result<(), Box<dyn std::error::Error>> {
    const LOOKUPS: usize = 2_000;
    let table = table(folder)?;
    let files = table.totals()?.files;
    let index = Traces::open(objects(folder)?, &tenant()?, Signal::Spans);
    let mut random = Random(7);
    let (mut reads, mut found, mut more) = (Vec::new(), 0, 0);
    let mut millis = Vec::new();
    for n in 0..LOOKUPS {
        let (file, of) = (random.below(files as usize) as u64, random.below(traces as usize) as u64);
        let (wall, cpu) = (Instant::now(), cpu());
        let answer = index.lookup(&table, &id(file, of))?;
        let wall = wall.elapsed().as_secs_f64() * 1e3;
        let expected = if of < traces / 10 && file + 1 < files { 2 } else { 1 };
        let named = |n: u64| answer.files.iter().any(|f| f.indexed && f.file.path.contains(&format!("/0-{n}-{n}-0-")));
        if !(file..file + expected).all(named) {
            return Err(format!("the trace {of} of file {file} is not found").into());
        }
        more += answer.files.len() as u64 - expected;
        found += answer.files.len();
        if n == 0 {
            let cpu = (self::cpu() - cpu) * 1e3;
            println!("cold: {} reads of the index, {wall:.1} ms, {cpu:.1} CPU-ms, {}", answer.reads, memory());
        } else {
            reads.push(answer.reads);
            millis.push(wall);
        }
    }
    millis.sort_by(f64::total_cmp);
    let at = |share: f64| millis[((millis.len() - 1) as f64 * share) as usize];
    println!(
        "{LOOKUPS} lookups in {files} files: at most {} reads of the index, {found} files to look into, {more} of them in vain; \
         p50 {:.2} ms, p99 {:.2} ms, {}",
        reads.iter().max().copied().unwrap_or(0),
        at(0.5),
        at(0.99),
        memory()
    );
    let absent = index.lookup(&table, &[9; 16])?;
    println!("an id that is nowhere: {} files, {} reads", absent.files.len(), absent.reads);
    Ok(())
}

fn file(n: u64, files: u64) -> NewFile {
    let step = DAYS * 24 * HOUR / files as i64;
    let time_min = BEGIN + n as i64 * step;
    let time_max = (time_min + step + HOUR / 6).min(Date::of(time_min).last_nanos());
    let int = |name: &str, min, max| ColumnStats {
        name: name.into(),
        nulls: n % 7,
        range: Some((Scalar::Int(min), Scalar::Int(max))),
    };
    let mut stats =
        vec![int("time", time_min, time_max), int("duration", (n % 1_000) as i64, 9_000_000_000 + n as i64)];
    let micros = (Scalar::Micros(time_min / 1_000), Scalar::Micros(time_max / 1_000));
    stats.push(ColumnStats { name: "timestamp".into(), nulls: 0, range: Some(micros) });
    stats.extend(["kind", "status"].map(|name| int(name, 0, 5)));
    let path = format!("date={}/0-{n}-{n}-0-{:x}-{:016x}-{n}.parquet", Date::of(time_min), time_max / 1_000_000, 7);
    NewFile { path, bytes: (1 << 30) + n, rows: 20_000_000 + n, time_min, time_max, stats }
}

fn columns() -> Schema {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = vec![Field::new("time", DataType::Int64, false), Field::new("timestamp", timestamp, false)];
    fields.extend(["duration", "kind", "status"].map(|name| Field::new(name, DataType::Int64, true)));
    fields.extend((0..200).map(|n| Field::new(format!("attr:key:{n}"), DataType::Utf8, true)));
    Schema::new(fields)
}

/// Processor seconds of this process.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("").trim().to_owned();
    format!("peak memory {peak}")
}
