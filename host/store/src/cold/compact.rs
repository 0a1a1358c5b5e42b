//! Compaction: small files of a day become large ones, in a commit that changes no row.
//!
//! Rows of a group are read row group by row group and sorted again in a file of their day; a group is bounded by rows and bytes, so
//! that memory is, too, however much there is to compact.

use std::collections::BTreeMap;

use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};

use super::delta::{Change, Committed, Date, FileEntry, Table};
use super::file::ColdFile;
use super::gather::{Gather, Gathered};
use super::left::is_damage;
use super::{ColdEnv, millis};
use crate::error::StoreError;
use crate::index::IndexReport;

/// A day takes few rows after this long behind its end (lateness and promotion): what is small then is joined as it is.
const DAY_OVER_NANOS: i64 = 2 * 3_600_000_000_000;

/// What a pass did, or in a dry run would do now.
#[derive(Debug, Default)]
pub struct CompactReport {
    /// Versions that it committed.
    pub versions: Vec<u64>,
    /// Files that went.
    pub files_before: usize,
    /// Their bytes.
    pub bytes_before: u64,
    /// Files that came; 0 in a dry run.
    pub files: usize,
    /// Their bytes; 0 in a dry run.
    pub bytes: u64,
    /// Rows that moved.
    pub rows: u64,
    /// Groups of files that others took first.
    pub lost: usize,
    /// Files that are damaged, by path, and why: they stay as they are, and the others of their group are joined.
    pub damaged: Vec<(String, StoreError)>,
    /// The index after it.
    pub index: Option<IndexReport>,
    /// What failed after the commits, and is done by a later pass.
    pub later: Option<StoreError>,
}

/// Joins small files of a tenant's signal, at most `groups_max` groups of them. Blocks on the objects.
///
/// # Errors
/// As [`super::promote::pass`]. Where objects fail, their group stays as it is and the error comes at the end.
pub fn pass(
    env: &ColdEnv<'_>,
    tenant: &TenantId,
    signal: Signal,
    now: i64,
    groups_max: usize,
    dry_run: bool,
) -> Result<CompactReport, StoreError> {
    let table = env.tables.table(tenant, signal);
    let mut report = CompactReport::default();
    let mut failed = None;
    let mut groups = 0;
    for day in days(env, &table)? {
        let range = TimeRange { from: day.first_nanos(), to: day.last_nanos().saturating_add(1) };
        let pinned = table.pin(range)?;
        for mut group in plan(env, day, pinned.files, now) {
            if groups == groups_max {
                break;
            }
            if dry_run {
                groups += 1;
                report.files_before += group.len();
                report.bytes_before += group.iter().map(|f| f.bytes).sum::<u64>();
                report.rows += group.iter().filter_map(|f| f.rows).sum::<u64>();
                continue;
            }
            let joined = join_sound(env, &table, signal, &mut group, now, &mut report.damaged);
            // A group of damaged or archived files takes no other's turn.
            let Some(joined) = joined.transpose() else { continue };
            groups += 1;
            report.files_before += group.len();
            report.bytes_before += group.iter().map(|f| f.bytes).sum::<u64>();
            let joined = joined.and_then(|gathered| {
                let committed = commit(&table, group, pinned.version, &gathered, now)?;
                Ok((gathered, committed))
            });
            match joined {
                Ok((gathered, Committed::At(version))) => {
                    report.versions.push(version);
                    report.files += gathered.files.len();
                    (report.bytes, report.rows) = (report.bytes + gathered.bytes, report.rows + gathered.rows);
                    match env.keep_up(&table, tenant, signal, now, &gathered.traces) {
                        Ok(index) => report.index = Some(index),
                        Err(error) => report.later = Some(error),
                    }
                }
                Ok((_, Committed::Lost)) => report.lost += 1,
                Err(error) => {
                    tracing::warn!(%error, %day, "small files cannot be joined");
                    failed = Some(error);
                }
            }
        }
    }
    match failed {
        Some(error) if report.versions.is_empty() => Err(error),
        _ => Ok(report),
    }
}

/// Days with enough small files.
fn days(env: &ColdEnv<'_>, table: &Table) -> Result<Vec<Date>, StoreError> {
    let Some(log) = table.log()? else { return Ok(Vec::new()) };
    let mut small: BTreeMap<Date, usize> = BTreeMap::new();
    table.each(&log, TimeRange::ALL, &mut |entry| {
        if entry.known.ours && is_small(env, entry.bytes, entry.known.rows) {
            *small.entry(Date::of(entry.known.time_min)).or_default() += 1;
        }
    })?;
    Ok(small.into_iter().filter(|(_, n)| *n >= env.options.compact_files_min.max(2)).map(|(day, _)| day).collect())
}

fn is_small(env: &ColdEnv<'_>, bytes: u64, rows: Option<u64>) -> bool {
    let rows_max = env.options.file.file_rows_max as u64;
    bytes < env.options.compact_bytes_target / 2 && rows.is_some_and(|rows| rows < rows_max / 2)
}

/// Groups of small files of a day, by time. One that does not fill a file waits until the day is over.
fn plan(env: &ColdEnv<'_>, day: Date, files: Vec<FileEntry>, now: i64) -> Vec<Vec<FileEntry>> {
    let options = env.options;
    let (bytes_max, rows_max) = (options.compact_bytes_target, options.file.file_rows_max as u64);
    let over = day.last_nanos().saturating_add(DAY_OVER_NANOS) < now;
    let mut groups: Vec<Vec<FileEntry>> = Vec::new();
    let (mut group, mut bytes, mut rows) = (Vec::new(), 0, 0);
    for file in files.into_iter().filter(|f| !f.foreign && is_small(env, f.bytes, f.rows)) {
        let more = file.rows.unwrap_or(0);
        if bytes + file.bytes > bytes_max || rows + more > rows_max {
            groups.push(std::mem::take(&mut group));
            (bytes, rows) = (0, 0);
        }
        (bytes, rows) = (bytes + file.bytes, rows + more);
        group.push(file);
    }
    if over {
        groups.push(group);
    }
    groups.retain(|group| group.len() >= options.compact_files_min.max(2));
    groups
}

/// Joins the files of a group that are neither damaged nor archived, which are all that is left in it; `None` where they are too
/// few.
fn join_sound(
    env: &ColdEnv<'_>,
    table: &Table,
    signal: Signal,
    group: &mut Vec<FileEntry>,
    now: i64,
    damaged: &mut Vec<(String, StoreError)>,
) -> Result<Option<Gathered>, StoreError> {
    loop {
        let mut at = 0;
        match join(env, table, signal, group, now, &mut at) {
            Err(error) if is_damage(&error) && at < group.len() => {
                damaged.push((group.remove(at).path, error));
            }
            // Rows that came late to a day that is archived: its older files stay as they are.
            Err(StoreError::Archived(_)) if at < group.len() => drop(group.remove(at)),
            joined => return joined.map(Some),
        }
        if group.len() < env.options.compact_files_min.max(2) {
            return Ok(None);
        }
    }
}

/// Joins files; `at` is the one that is being read, and their count when all are.
fn join(
    env: &ColdEnv<'_>,
    table: &Table,
    signal: Signal,
    group: &[FileEntry],
    now: i64,
    at: &mut usize,
) -> Result<Gathered, StoreError> {
    let mut gather = Gather::new(env, table, signal, format!("c-{}", group.len()), now)?;
    for file in group {
        let opened = ColdFile::open(env.blocks.objects().clone(), &file.name, file.bytes)?;
        for frame in opened.frames(TimeRange::ALL) {
            gather.add(frame.read(&|_, _| true)?.0)?;
        }
        *at += 1;
    }
    let gathered = gather.finish()?;
    // ST-4: compaction keeps the multiset of rows.
    let rows = group.iter().filter_map(|f| f.rows).sum::<u64>();
    if gathered.rows != rows {
        return Err(StoreError::Rows(format!("expected {rows} rows in joined files, found {}", gathered.rows)));
    }
    Ok(gathered)
}

fn commit(
    table: &Table,
    group: Vec<FileEntry>,
    base: Option<u64>,
    gathered: &Gathered,
    now: i64,
) -> Result<Committed, StoreError> {
    table.commit(&Change {
        operation: "OPTIMIZE",
        now,
        begun: millis(now),
        columns: gathered.columns.clone(),
        adds: gathered.files.clone(),
        removes: group,
        base,
        data_change: false,
        ..Change::default()
    })
}
