//! Expiry: files whose rows are all too old leave the table; what is in no version any more is deleted after a safety age.

use std::collections::{HashMap, HashSet};

use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};

use super::delta::{Change, Committed, Date, FileEntry, Table};
use super::{ColdEnv, left, millis, nanos};
use crate::error::StoreError;
use crate::index;

/// Files of one commit: some 3 MB of it.
const COMMIT_FILES: usize = 10_000;

/// What an expiry did, or in a dry run would do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireReport {
    /// Files that left the table.
    pub files: usize,
    /// Their rows, as far as they are known.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether others removed some of them at the same time: the next pass goes on.
    pub lost: bool,
}

/// Removes the files of a tenant's signal whose rows are all older than `cutoff` (unix nanoseconds of event time). Whole files
/// only: one with a younger row stays. Blocks on the objects.
///
/// # Errors
/// `Retry` where the objects fail or the table may not be written to.
pub fn pass(
    env: &ColdEnv<'_>,
    tenant: &TenantId,
    signal: Signal,
    cutoff: i64,
    now: i64,
    dry_run: bool,
) -> Result<ExpireReport, StoreError> {
    let table = env.tables.table(tenant, signal);
    let mut report = ExpireReport::default();
    let Some(log) = table.log()? else { return Ok(report) };
    let mut gone: Vec<FileEntry> = Vec::new();
    table.each(&log, TimeRange { from: i64::MIN, to: cutoff }, &mut |entry| {
        if entry.known.time_max < cutoff {
            gone.extend(table.file(entry));
        }
    })?;
    while !gone.is_empty() {
        let removes: Vec<FileEntry> = gone.drain(..gone.len().min(COMMIT_FILES)).collect();
        let (rows, bytes) =
            (removes.iter().filter_map(|f| f.rows).sum::<u64>(), removes.iter().map(|f| f.bytes).sum::<u64>());
        let files = removes.len();
        if !dry_run {
            let base = Some(log.version);
            let change = Change { operation: "DELETE", now, removes, base, data_change: true, ..Change::default() };
            if table.commit(&change)? == Committed::Lost {
                report.lost = true;
                break;
            }
            // A hundred such commits would take plans seconds to read.
            env.checkpoint(&table, now)?;
        }
        report.files += files;
        (report.rows, report.bytes) = (report.rows + rows, report.bytes + bytes);
    }
    report.rows += left::expire(env, &table, (tenant, signal), cutoff, now, dry_run)?;
    if report.files > 0 && !dry_run {
        env.keep_up(&table, tenant, signal, now, &HashMap::new())?;
    }
    Ok(report)
}

/// What a vacuum did, or in a dry run would do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VacuumReport {
    /// Files that were removed from the table `cold.sweep_after_ms` ago, and are deleted now.
    pub removed: usize,
    /// Files that never came into the table (a crash, a lost commit), and are deleted now.
    pub leftover: usize,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Objects of the trace index that nothing names any more.
    pub index: usize,
}

/// Deletes the files of a tenant's signal that are in no version that anybody still reads: those that left the table, and those
/// of Prism's own that never came into it, `cold.sweep_after_ms` after. Files that are neither are not touched. Blocks on the
/// objects.
///
/// # Errors
/// `Retry` where the objects fail. What was deleted before stays deleted.
pub fn vacuum(
    env: &ColdEnv<'_>,
    tenant: &TenantId,
    signal: Signal,
    now: i64,
    dry_run: bool,
) -> Result<VacuumReport, StoreError> {
    let table = env.tables.table(tenant, signal);
    let mut report = VacuumReport::default();
    if !dry_run {
        // Where a crash or another engine left many files since the last one.
        env.checkpoint(&table, now)?;
    }
    let Some(mut log) = table.log()? else { return Ok(report) };
    let until = millis(now.saturating_sub(nanos(env.options.sweep_after_ms)));
    let objects = env.blocks.objects();
    let listing = |e| StoreError::io("listed cold files", e);
    let mut swept = dry_run;
    for folder in objects.folders(table.dir()).map_err(listing)? {
        let Some(day) = folder.strip_prefix("date=").and_then(|day| day.parse::<Date>().ok()) else { continue };
        let mut there = objects.list(&format!("{}/{folder}", table.dir()), "").map_err(listing)?;
        let mut state = State::of(&table, &log, day)?;
        there.retain(|object| !state.stand.contains(&object.name));
        let leftover = |name: &str, state: &State| {
            !state.removed.contains_key(name) && begun(name).is_some_and(|begun| begun <= until)
        };
        if !swept && there.iter().any(|object| leftover(&object.name, &state)) {
            // From here on none of them can come into the table.
            table.sweep(now, until)?;
            swept = true;
            if let Some(after) = table.log()? {
                log = after;
            }
            state = State::of(&table, &log, day)?;
        }
        for object in there.iter().filter(|object| !state.stand.contains(&object.name)) {
            let over = state.removed.get(&object.name).is_some_and(|at| *at <= until);
            if !over && !leftover(&object.name, &state) {
                continue;
            }
            if !dry_run {
                objects.delete(&object.name).map_err(|e| StoreError::io("deleted a cold file", e))?;
            }
            report.bytes += object.bytes;
            *(if over { &mut report.removed } else { &mut report.leftover }) += 1;
        }
    }
    if !dry_run {
        report.index = env.indexed(now, |index| index::vacuum(index, tenant, signal, until))?;
    }
    Ok(report)
}

/// The files of a day, by their objects' names.
struct State {
    stand: HashSet<String>,
    /// Removed ones, and when (unix milliseconds).
    removed: HashMap<String, i64>,
}

impl State {
    fn of(table: &Table, log: &super::delta::Log, day: Date) -> Result<State, StoreError> {
        let mut stand = HashSet::new();
        // Others may keep rows of any time in the folder: what has no time of ours comes with every day.
        let range = TimeRange { from: day.first_nanos(), to: day.last_nanos().saturating_add(1) };
        table.each(log, range, &mut |entry| stand.extend(table.file(entry).map(|file| file.name)))?;
        let prefix = format!("date={day}/");
        let mut removed = HashMap::new();
        table.removed(log, &mut |path, at| {
            if path.starts_with(&prefix) {
                removed.insert(format!("{}/{path}", table.dir()), at);
            }
        })?;
        removed.retain(|name, _| !stand.contains(name));
        Ok(State { stand, removed })
    }
}

/// When a file was begun, by its name (unix milliseconds); `None` where Prism did not name it.
fn begun(name: &str) -> Option<i64> {
    let mut parts = name.strip_suffix(".parquet")?.rsplit('-');
    let (_, writer, begun) = (parts.next()?.parse::<u64>().ok()?, parts.next()?, parts.next()?);
    (writer.len() == 16 && u64::from_str_radix(writer, 16).is_ok()).then_some(())?;
    i64::from_str_radix(begun, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_when_a_file_was_begun_and_foreign_names_tell_nothing() {
        let ours = "cold/acme/spans/date=2026-11-21/0-17-23-0-1a1fe2e5000-00000000000000ab-7.parquet";
        assert_eq!(begun(ours), Some(0x1a1_fe2e_5000));
        for foreign in ["part-00000-6f1d3f0e-95b5-4a1e-b2bb-7a3c0d2c8f10-c000.snappy.parquet", "x.parquet", "a-b-c"] {
            assert_eq!(begun(foreign), None, "{foreign}");
        }
    }
}
