//! A Delta log of many files, and what planning over it costs.
//!
//! ```text
//! cargo run --release -p prism-store --example delta_plan -- write FOLDER FILES   a log of so many files over 30 days
//! cargo run --release -p prism-store --example delta_plan -- tail FOLDER FILES COMMITS   so many more, as if all processes died
//! cargo run --release -p prism-store --example delta_plan -- plan FOLDER          one hour, first in this process and again
//! ```
//! A tail is as many commits as a checkpoint waits for at most, and then one more that is not followed by its checkpoint.
//! Files are entries of the log only: no rows are written.
#![allow(clippy::print_stdout, reason = "a program that reports")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};
use prism_store::StoreError;
use prism_store::cold::delta::{Change, ColumnStats, Date, NewFile, Scalar, Table, TxnStep};
use prism_store::disk::RealDisk;
use prism_store::objects::LocalObjects;

const HOUR: i64 = 3_600_000_000_000;
const DAYS: i64 = 30;
/// 2026-10-01T00:00:00Z
const BEGIN: i64 = 1_790_812_800_000_000_000;
/// As `cold.checkpoint_files`.
const FILES: usize = 10_000;
/// Files of a commit: what 1 PB a month brings in two hours.
const COMMIT_FILES: u64 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", folder, files] => write(Path::new(folder), files.parse()?)?,
        ["tail", folder, files, commits] => tail(Path::new(folder), files.parse()?, commits.parse()?)?,
        ["plan", folder] => plan(Path::new(folder))?,
        _ => return Err("expected `write FOLDER FILES`, `tail FOLDER FILES COMMITS` or `plan FOLDER`".into()),
    }
    Ok(())
}

fn table(folder: &Path) -> Result<Table, Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    let tenant: TenantId = "acme".parse()?;
    let objects = LocalObjects::new(Arc::new(RealDisk), folder, u64::from(std::process::id()));
    Ok(Table::open(Arc::new(objects), &tenant, Signal::Spans))
}

fn write(folder: &Path, files: u64) -> Result<(), Box<dyn std::error::Error>> {
    let table = table(folder)?;
    let (from, mut slowest) = (Instant::now(), 0.0f64);
    let mut next = 0;
    let mut commit = 0u64;
    while next < files {
        let upto = files.min(next + COMMIT_FILES.min(files / 10));
        let now = add(&table, next..upto, files, commit)?;
        let checkpoint = Instant::now();
        let made = table.checkpoint(10, FILES, now - 24 * HOUR)?;
        slowest = slowest.max(made.map_or(0.0, |_| checkpoint.elapsed().as_secs_f64()));
        table.clean_log(now - 24 * HOUR, 1_000)?;
        (next, commit) = (upto, commit + 1);
    }
    let took = from.elapsed().as_secs_f64();
    println!("{files} files in {commit} commits, {took:.1} s, slowest checkpoint {slowest:.2} s, {}", memory());
    Ok(())
}

/// Commits that no checkpoint follows, all of the same hours as those that are there.
fn tail(folder: &Path, files: u64, commits: u64) -> Result<(), Box<dyn std::error::Error>> {
    let table = table(folder)?;
    let first = table.totals()?.files;
    let covered = table.covered(0)?.unwrap_or(0);
    for commit in 0..commits {
        let part = |n: u64| first + files * n / commits;
        add(&table, part(commit)..part(commit + 1), first + files, covered + commit)?;
    }
    println!("{files} files in {commits} commits without a checkpoint");
    Ok(())
}

/// One commit of these files; gives its time.
fn add(table: &Table, of: std::ops::Range<u64>, files: u64, commit: u64) -> Result<i64, StoreError> {
    let adds: Vec<NewFile> = of.map(|n| file(n, files)).collect();
    let now = adds.last().map_or(BEGIN, |f| f.time_max);
    let steps = vec![TxnStep { shard: 0, before: (commit > 0).then_some(commit), last: commit + 1 }];
    let columns = vec![Arc::new(columns())];
    let change =
        Change { operation: "WRITE", now, begun: now, columns, adds, data_change: true, steps, ..Change::default() };
    table.commit(&change)?;
    Ok(now)
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

fn plan(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let table = table(folder)?;
    for (name, day) in [("cold", 17), ("warm", 17), ("another hour", 3)] {
        let from = BEGIN + day * 24 * HOUR + 9 * HOUR;
        let (wall, cpu) = (Instant::now(), cpu());
        let pinned = table.pin(TimeRange { from, to: from + HOUR })?;
        let wall = wall.elapsed().as_secs_f64() * 1e3;
        let cpu = (self::cpu() - cpu) * 1e3;
        let (files, outside) = (pinned.files.len(), pinned.outside);
        println!("{name}: {files} files of {}, {wall:.1} ms, {cpu:.1} CPU-ms, {}", outside + files as u64, memory());
    }
    check(&table)?;
    Ok(())
}

/// That planning loses no file: all hours of a day against the day.
fn check(table: &Table) -> Result<(), StoreError> {
    let day = BEGIN + 20 * 24 * HOUR;
    let mut found = std::collections::BTreeSet::new();
    for hour in 0..24 {
        let from = day + hour * HOUR;
        found.extend(table.pin(TimeRange { from, to: from + HOUR })?.files.into_iter().map(|f| f.path));
    }
    let whole = table.pin(TimeRange { from: day, to: day + 24 * HOUR })?.files.len();
    println!("24 hours: {} files, the day: {whole}", found.len());
    Ok(())
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
