//! The Delta table of a tenant's signal: which files a time range needs, and the commit that changes them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::Schema;
use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};

use super::action::{self, Add, CommitInfo, Known, Line, MetaData, Protocol, Remove, Txn, place_of, shard_app};
use super::arrays::Entry;
use super::date::Date;
use super::log::{Listing, Log, Names, Totals, read_commit};
use super::rewrite;
use super::schema::{self, PARTITION, TableColumn};
use super::stats::{self, ColumnStats};
use crate::cache::Cache;
use crate::control::Create;
use crate::error::StoreError;
use crate::objects::Objects;

/// Bytes of remembered logs, over all tables: of 3,000 quiet ones some 10 KB each, of a table of 1,000,000 files 5 MB.
const LOG_CACHE_BYTES: usize = 64 << 20;
/// Bytes of remembered row groups of checkpoints, over all tables: some 40 of 4,096 files.
const GROUP_CACHE_BYTES: usize = 32 << 20;
/// How often a commit may be overtaken: each time somebody else got on.
const COMMIT_ATTEMPTS: usize = 100;
/// The id under which it is kept up to when (unix milliseconds) files that no commit names were written and may be deleted.
const SWEPT_APP: &str = "prism-swept";

/// The Delta tables among some objects. Cheap to clone; remembers what it read of their logs.
#[derive(Clone)]
pub struct Tables(Arc<Shared>);

struct Shared {
    objects: Arc<dyn Objects>,
    logs: Cache<(TenantId, Signal), Arc<Log>>,
    groups: Cache<(String, u64, usize), Arc<Vec<Entry>>>,
}

/// One table, which need not exist yet.
#[derive(Clone)]
pub struct Table {
    shared: Arc<Shared>,
    key: (TenantId, Signal),
    dir: String,
}

/// A Parquet file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its object.
    pub name: String,
    /// What names it in the log.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows; `None` where another engine wrote it without telling.
    pub rows: Option<u64>,
    /// Smallest event time, unix nanoseconds; of another engine's file the begin of its day.
    pub time_min: i64,
    /// Largest event time, included.
    pub time_max: i64,
    /// The day that all its rows are of.
    pub date: Date,
    /// Whether another engine wrote it (`OPTIMIZE`, `DELETE`): it has the columns, but none of Prism's own metadata.
    pub foreign: bool,
}

/// The files of a table for a time range, at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// The version; `None` where there is no table yet.
    pub version: Option<u64>,
    /// The last block of each shard whose rows are in the files of this version.
    pub covered: BTreeMap<u32, u64>,
    /// The files that may hold rows of the range, by smallest time.
    pub files: Vec<FileEntry>,
    /// Files outside of the range.
    pub outside: u64,
    /// Paths of files of the range that lie outside of the table (another engine's shallow clone): an answer without them is
    /// partial.
    pub elsewhere: Vec<String>,
}

/// A file that is to be added.
#[derive(Clone, Debug, PartialEq)]
pub struct NewFile {
    /// Below the table's folder: `date=YYYY-MM-DD/…`, of letters, digits and `-_.=/` only.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Smallest event time, unix nanoseconds.
    pub time_min: i64,
    /// Largest event time, included, of the same UTC day.
    pub time_max: i64,
    /// Statistics of columns, none of which holds personal data.
    pub stats: Vec<ColumnStats>,
}

/// Blocks of a shard whose rows come to the table with a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnStep {
    /// The shard.
    pub shard: u32,
    /// The last block that is covered before; `None` where none is.
    pub before: Option<u64>,
    /// The last that is covered after it.
    pub last: u64,
}

/// What a commit changes.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// What Delta calls it: `WRITE`, `OPTIMIZE`, `DELETE`.
    pub operation: &'static str,
    /// Now, unix nanoseconds.
    pub now: i64,
    /// When the first of the new files was begun, unix milliseconds: what [`Table::sweep`] goes by. The same stands in its name.
    pub begun: i64,
    /// The columns of the new files.
    pub columns: Vec<Arc<Schema>>,
    /// New files.
    pub adds: Vec<NewFile>,
    /// Paths of files that go, all of which must stand.
    pub removes: Vec<FileEntry>,
    /// The version at which `removes` stood.
    pub base: Option<u64>,
    /// Whether rows come or go; a compaction's do not.
    pub data_change: bool,
    /// What the new files cover.
    pub steps: Vec<TxnStep>,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is this version.
    At(u64),
    /// Somebody else did the same or removed a file that was to go: look again. The new files are in no commit.
    Lost,
}

impl Tables {
    /// The tables among these objects.
    pub fn new(objects: Arc<dyn Objects>) -> Tables {
        let (logs, groups) = (Cache::new(LOG_CACHE_BYTES), Cache::new(GROUP_CACHE_BYTES));
        Tables(Arc::new(Shared { objects, logs, groups }))
    }

    /// The table of a tenant's signal. Nothing is read.
    pub fn table(&self, tenant: &TenantId, signal: Signal) -> Table {
        let dir = format!("cold/{tenant}/{signal}");
        Table { shared: self.0.clone(), key: (tenant.clone(), signal), dir }
    }

    /// The tenants and signals that have a table. Blocks on the objects.
    ///
    /// # Errors
    /// `Retry` where the objects fail.
    pub fn all(&self) -> Result<Vec<(TenantId, Signal)>, StoreError> {
        let list = |folder: &str| {
            let listed = self.0.objects.folders(folder);
            listed.map_err(|e| StoreError::io("listed Delta tables", e))
        };
        let mut all = Vec::new();
        for tenant in list("cold")?.iter().filter_map(|name| name.parse::<TenantId>().ok()) {
            let signals = list(&format!("cold/{tenant}"))?;
            all.extend(signals.iter().filter_map(|name| Some((tenant.clone(), name.parse().ok()?))));
        }
        Ok(all)
    }
}

impl Table {
    /// A table that shares nothing with others; [`Tables`] remembers for many.
    pub fn open(objects: Arc<dyn Objects>, tenant: &TenantId, signal: Signal) -> Table {
        Tables::new(objects).table(tenant, signal)
    }

    /// Its folder among the objects: `cold/<tenant>/<signal>`.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    /// The files that may hold rows of a range, as the table stands now. Reads the log as far as it is not known, and the row
    /// groups of its checkpoint that touch the range (QU-2). Blocks on the objects.
    ///
    /// # Errors
    /// `Retry` where the objects fail or another engine made the table what is not read here, `Bug` where the log is damaged or
    /// its protocol is newer.
    pub fn pin(&self, range: TimeRange) -> Result<Pinned, StoreError> {
        let Some(log) = self.log()? else { return Ok(Pinned::default()) };
        let mut pinned = Pinned { version: Some(log.version), covered: log.covered(), ..Pinned::default() };
        self.each(&log, range, &mut |entry| match self.file(entry) {
            Some(file) => pinned.files.push(file),
            None => pinned.elsewhere.push(entry.path.to_string()),
        })?;
        let taken = (pinned.files.len() + pinned.elsewhere.len()) as u64;
        pinned.outside = log.totals().files.saturating_sub(taken);
        pinned.files.sort_by(|a, b| (a.time_min, &a.path).cmp(&(b.time_min, &b.path)));
        Ok(pinned)
    }

    /// Visits the files of a log that may hold rows of a range, in no order, a row group in memory at a time.
    pub(crate) fn each(&self, log: &Log, range: TimeRange, visit: &mut dyn FnMut(&Entry)) -> Result<(), StoreError> {
        let touches = |entry: &Entry| range.touches(entry.known.time_min, entry.known.time_max);
        for (at, group) in log.checkpoint.iter().flat_map(|c| c.groups()).enumerate() {
            if !group.touches(range) {
                continue;
            }
            for entry in self.entries(log, at)?.iter() {
                let changed = log.removed.contains_key(&*entry.path) || log.added.contains_key(&*entry.path);
                if touches(entry) && !changed {
                    visit(entry);
                }
            }
        }
        log.added.values().map(|add| Entry::of(add)).filter(touches).for_each(|entry| visit(&entry));
        Ok(())
    }

    /// A file of the table; `None` where it lies outside of it.
    pub(crate) fn file(&self, entry: &Entry) -> Option<FileEntry> {
        let (known, place) = (entry.known, place_of(&entry.path)?);
        Some(FileEntry {
            name: format!("{}/{place}", self.dir),
            path: entry.path.to_string(),
            bytes: entry.bytes,
            rows: known.rows,
            time_min: known.time_min,
            time_max: known.time_max,
            date: Date::of(known.time_min),
            foreign: !known.ours,
        })
    }

    /// The files that commits after a version up to that of the log added, by version, whether they still stand or not; `None`
    /// where those commits were cleaned up.
    pub(crate) fn added_since(
        &self,
        log: &Log,
        version: Option<u64>,
    ) -> Result<Option<BTreeMap<u64, Vec<Entry>>>, StoreError> {
        let mut added = BTreeMap::new();
        for version in version.map_or(0, |v| v + 1)..=log.version {
            let lines = match read_commit(&self.shared.objects, &Names(&self.dir), version) {
                Err(StoreError::Disk { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(None);
                }
                lines => lines?,
            };
            added.insert(version, lines.into_iter().filter_map(|line| Some(Entry::of(&line.add?))).collect());
        }
        Ok(Some(added))
    }

    fn entries(&self, log: &Log, group: usize) -> Result<Arc<Vec<Entry>>, StoreError> {
        let Some(checkpoint) = &log.checkpoint else { return Ok(Arc::default()) };
        let key = (self.dir.clone(), checkpoint.version, group);
        if let Some(known) = self.shared.groups.get(&key) {
            return Ok(known);
        }
        let entries = Arc::new(checkpoint.entries(group)?);
        let bytes = entries.iter().map(Entry::memory_bytes).sum();
        self.shared.groups.put(key, entries.clone(), bytes);
        Ok(entries)
    }

    /// How many files, rows and bytes it has now.
    ///
    /// # Errors
    /// As [`Table::pin`].
    pub fn totals(&self) -> Result<Totals, StoreError> {
        Ok(self.log()?.map_or(Totals::default(), |log| log.totals()))
    }

    /// Its columns; none where there is no table.
    ///
    /// # Errors
    /// As [`Table::pin`].
    pub fn columns(&self) -> Result<Vec<TableColumn>, StoreError> {
        self.log()?.map_or(Ok(Vec::new()), |log| schema::columns(&log.meta_data.schema_string))
    }

    /// The last block of a shard whose rows are in its files; `None` where none are.
    ///
    /// # Errors
    /// As [`Table::pin`].
    pub fn covered(&self, shard: u32) -> Result<Option<u64>, StoreError> {
        Ok(self.log()?.and_then(|log| log.covered().get(&shard).copied()))
    }

    /// Each shard, its last covered block, and when that was committed (unix nanoseconds).
    ///
    /// # Errors
    /// As [`Table::pin`].
    pub fn covered_at(&self) -> Result<Vec<(u32, u64, i64)>, StoreError> {
        let Some(log) = self.log()? else { return Ok(Vec::new()) };
        let at = |shard: &u32| log.updated(&shard_app(*shard)).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Ok(log.covered().iter().map(|(shard, seq)| (*shard, *seq, at(shard))).collect())
    }

    /// Visits the paths of files that were removed and when (unix milliseconds), as far as the log still knows them.
    pub(crate) fn removed(&self, log: &Log, visit: &mut dyn FnMut(&str, i64)) -> Result<(), StoreError> {
        let mut removed = |remove: &Remove| {
            if let (Some(place), Some(at)) = (place_of(&remove.path), remove.deletion_timestamp)
                && !log.added.contains_key(&remove.path)
            {
                visit(&place, at);
            }
        };
        log.removed.values().for_each(|gone| removed(&gone.remove));
        match &log.checkpoint {
            Some(checkpoint) => checkpoint.removes(|of| {
                of.iter().for_each(&mut removed);
                Ok(())
            }),
            None => Ok(()),
        }
    }

    /// The log as it stands now.
    pub(crate) fn log(&self) -> Result<Option<Arc<Log>>, StoreError> {
        let known = self.shared.logs.get(&self.key);
        let log = Log::read(&self.shared.objects, &Names(&self.dir), known)?;
        if let Some(log) = &log {
            self.shared.logs.put(self.key.clone(), log.clone(), log.memory_bytes());
        }
        Ok(log)
    }

    /// Changes the table by one commit (ST-5): all of the change or nothing of it, and only where what it builds on still stands.
    ///
    /// # Errors
    /// `Retry` where the objects fail: then it is there or not, and its files must stay. As [`Table::pin`] otherwise.
    pub fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        let names = Names(&self.dir);
        for _ in 0..COMMIT_ATTEMPTS {
            let log = self.log()?;
            if !self.stands(log.as_deref(), change)? {
                return Ok(Committed::Lost);
            }
            let version = log.as_ref().map_or(0, |log| log.version + 1);
            let bytes = action::write(&self.lines(log.as_deref(), change)?)?;
            let name = names.commit(version);
            let io = |e| StoreError::io("committed to a Delta table", e);
            match self.shared.objects.create(&name, bytes.clone().into()).map_err(io)? {
                Create::Created => return Ok(Committed::At(version)),
                // Also where it is ours, and the answer to an earlier try was lost.
                Create::Lost if self.shared.objects.get(&name).map_err(io)? == bytes => {
                    return Ok(Committed::At(version));
                }
                Create::Lost => {}
            }
        }
        Err(StoreError::Table(format!("{COMMIT_ATTEMPTS} commits of others came first")))
    }

    /// Whether what a change builds on is still so.
    fn stands(&self, log: Option<&Log>, change: &Change) -> Result<bool, StoreError> {
        let Some(log) = log else {
            return Ok(change.removes.is_empty() && change.steps.iter().all(|s| s.before.is_none()));
        };
        log.protocol.check_write()?;
        log.meta_data.check_write()?;
        let covered = log.covered();
        if change.steps.iter().any(|step| covered.get(&step.shard).copied() != step.before) {
            return Ok(false);
        }
        if !change.adds.is_empty() && log.txn(SWEPT_APP).is_some_and(|swept| change.begun <= swept) {
            return Ok(false);
        }
        if change.removes.is_empty() {
            return Ok(true);
        }
        if change.data_change {
            log.meta_data.check_remove()?;
        }
        let going: HashSet<&str> = change.removes.iter().map(|file| &*file.path).collect();
        for version in change.base.map_or(0, |base| base + 1)..=log.version {
            let lines = match read_commit(&self.shared.objects, &Names(&self.dir), version) {
                // So long ago that it was cleaned up.
                Err(StoreError::Disk { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(false);
                }
                lines => lines?,
            };
            let touched = |line: &Line| {
                let path = line.remove.as_ref().map(|r| &r.path).or(line.add.as_ref().map(|a| &a.path));
                path.is_some_and(|path| going.contains(&**path))
            };
            if lines.iter().any(touched) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn lines(&self, log: Option<&Log>, change: &Change) -> Result<Vec<Line>, StoreError> {
        let millis = change.now.div_euclid(1_000_000);
        let mut lines = vec![Line {
            commit_info: Some(CommitInfo {
                timestamp: Some(millis),
                operation: Some(change.operation.to_owned()),
                operation_parameters: Some(serde_json::json!({})),
                engine_info: Some(concat!("prism/", env!("CARGO_PKG_VERSION")).to_owned()),
            }),
            ..Line::default()
        }];
        let before = log.map(|log| &*log.meta_data.schema_string);
        let grown = schema::grown(before, &change.columns)?;
        if log.is_none() {
            lines.push(Line { protocol: Some(Protocol::OURS), ..Line::default() });
        }
        if let Some(schema_string) = grown {
            let meta_data = match log {
                Some(log) => MetaData { schema_string, ..log.meta_data.clone() },
                None => self.begun(schema_string, change, millis),
            };
            lines.push(Line { meta_data: Some(meta_data), ..Line::default() });
        }
        let txn = |app_id, version| {
            let txn = Txn { app_id, version, last_updated: Some(millis) };
            Line { txn: Some(txn), ..Line::default() }
        };
        lines.extend(change.steps.iter().map(|step| txn(shard_app(step.shard), step.last as i64)));
        if change.operation == SWEEP {
            lines.push(txn(SWEPT_APP.to_owned(), change.begun));
        }
        lines.extend(change.removes.iter().map(|file| Line {
            remove: Some(Remove {
                path: file.path.clone(),
                deletion_timestamp: Some(millis),
                data_change: change.data_change,
                extended_file_metadata: Some(true),
                partition_values: Some([(PARTITION.to_owned(), Some(file.date.to_string()))].into()),
                size: Some(file.bytes),
                tags: file.rows.map(|rows| Known::to_tags(rows, file.time_min, file.time_max)),
            }),
            ..Line::default()
        }));
        lines.extend(change.adds.iter().map(|file| Line {
            add: Some(Add {
                path: file.path.clone(),
                partition_values: [(PARTITION.to_owned(), Some(Date::of(file.time_min).to_string()))].into(),
                size: file.bytes,
                modification_time: millis,
                data_change: change.data_change,
                stats: Some(stats::to_json(file.rows, &file.stats)),
                tags: Some(Known::to_tags(file.rows, file.time_min, file.time_max)),
            }),
            ..Line::default()
        }));
        Ok(lines)
    }

    /// What a table is called and how it is kept, from its first commit on.
    fn begun(&self, schema_string: String, change: &Change, millis: i64) -> MetaData {
        let columns: std::collections::BTreeSet<&str> =
            change.adds.iter().flat_map(|file| &file.stats).map(|column| &*column.name).collect();
        // A name with a dot would be one inside of a struct.
        let quoted: Vec<String> = columns.iter().map(|name| format!("`{name}`")).collect();
        let configuration =
            [("delta.dataSkippingStatsColumns", quoted.join(",")), ("delta.appendOnly", "false".to_owned())];
        let id = xxhash_rust::xxh3::xxh3_128(format!("{}/{}", self.dir, change.now).as_bytes());
        let hex = format!("{id:032x}");
        MetaData {
            // A UUID of version 8 (RFC 9562): of this table and moment.
            id: format!("{}-{}-8{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]),
            name: Some(format!("{}", self.key.1)),
            description: None,
            format: action::Format { provider: "parquet".to_owned(), options: BTreeMap::new() },
            schema_string,
            partition_columns: vec![PARTITION.to_owned()],
            configuration: configuration.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            created_time: Some(millis),
        }
    }

    /// Writes a checkpoint where `every` commits came since the last one, or that is another's. Files removed before `forget`
    /// (unix nanoseconds) leave the log. Gives its version where one was written.
    ///
    /// # Errors
    /// As [`Table::pin`].
    pub fn checkpoint(&self, every: u64, forget: i64) -> Result<Option<u64>, StoreError> {
        let Some(log) = self.log()? else { return Ok(None) };
        let due = match &log.checkpoint {
            None => log.version + 1 >= every,
            Some(last) => log.version >= last.version + every || (!last.sorted && log.version > last.version),
        };
        if !due {
            return Ok(None);
        }
        log.protocol.check_write()?;
        let names = Names(&self.dir);
        let name = names.checkpoint(log.version);
        let (_ours_or_anothers, written) =
            rewrite::write(&self.shared.objects, &name, &log, forget.div_euclid(1_000_000))?;
        let hint = serde_json::json!({
            "version": log.version, "size": written.actions, "numOfAddFiles": written.files,
        });
        let replaced = self.shared.objects.replace(&names.hint(), hint.to_string().into());
        replaced.map_err(|e| StoreError::io("hinted at a checkpoint", e))?;
        Ok(Some(log.version))
    }

    /// Deletes commits and checkpoints below the latest checkpoint that was made before `until` (unix nanoseconds), at most `most`
    /// objects. Gives how many.
    ///
    /// # Errors
    /// `Retry` where the objects fail.
    pub fn clean_log(&self, until: i64, most: usize) -> Result<usize, StoreError> {
        let names = Names(&self.dir);
        let objects = &self.shared.objects;
        let listing = Listing::from(objects, &names, 0)?;
        let mut first = None;
        for &version in listing.checkpoints.keys().rev() {
            if listing.commits.binary_search(&version).is_err() {
                continue;
            }
            let made = read_commit(objects, &names, version)?.into_iter().find_map(|line| line.commit_info?.timestamp);
            if made.is_some_and(|millis| millis.saturating_mul(1_000_000) < until) {
                first = Some(version);
                break;
            }
        }
        let Some(first) = first else { return Ok(0) };
        let checkpoints = listing.checkpoints.range(..first).flat_map(|(_, names)| names.clone());
        let commits = listing.commits.iter().filter(|v| **v < first).map(|v| names.commit(*v));
        let mut deleted = 0;
        for name in checkpoints.chain(commits).take(most) {
            objects.delete(&name).map_err(|e| StoreError::io("cleaned a Delta log", e))?;
            deleted += 1;
        }
        Ok(deleted)
    }

    /// Forbids every commit of files that were begun at or before `begun` (unix milliseconds) and that no commit names yet: after
    /// it they may be deleted. Gives whether it had to commit.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub fn sweep(&self, now: i64, begun: i64) -> Result<bool, StoreError> {
        let Some(log) = self.log()? else { return Ok(false) };
        if log.txn(SWEPT_APP).is_some_and(|swept| swept >= begun) {
            return Ok(false);
        }
        self.commit(&Change { operation: SWEEP, now, begun, ..Change::default() })?;
        Ok(true)
    }
}

/// The operation of [`Table::sweep`].
const SWEEP: &str = "VACUUM START";
