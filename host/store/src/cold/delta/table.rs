//! The Delta table of a tenant's signal: which files a time range needs, and the upkeep of its log. Not here: the commit that
//! changes it ([`super::commit`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};

use super::action::{place_of, shard_app};
use super::arrays::Entry;
use super::checkpoint::Group;
use super::date::Date;
use super::left::{Left, Told};
use super::log::{Listing, Log, Names, Totals, read_commit};
use super::rewrite;
use super::schema::{self, TableColumn};
use crate::cache::Cache;
use crate::error::StoreError;
use crate::objects::Objects;

/// Bytes of remembered logs, over all tables: of 3,000 quiet ones some 10 KB each, of a table of 1,000,000 files 5 MB.
const LOG_CACHE_BYTES: usize = 64 << 20;
/// Bytes of remembered row groups of checkpoints, over all tables: some 40 of 4,096 files.
const GROUP_CACHE_BYTES: usize = 32 << 20;

/// The Delta tables among some objects. Cheap to clone; remembers what it read of their logs.
#[derive(Clone)]
pub struct Tables(Arc<Shared>);

pub(super) struct Shared {
    pub(super) objects: Arc<dyn Objects>,
    logs: Cache<(TenantId, Signal), Arc<Log>>,
    groups: Cache<(String, u64, usize), Arc<Vec<Entry>>>,
}

/// One table, which need not exist yet.
#[derive(Clone)]
pub struct Table {
    pub(super) shared: Arc<Shared>,
    pub(super) key: (TenantId, Signal),
    pub(super) dir: String,
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
    /// Frames of these blocks whose rows are in none of the files: they were damaged. Copies of the blocks have them.
    pub left: Left,
    /// The files that may hold rows of the range, by smallest time.
    pub files: Vec<FileEntry>,
    /// Files outside of the range.
    pub outside: u64,
    /// Paths of files of the range that lie outside of the table (another engine's shallow clone): an answer without them is
    /// partial.
    pub elsewhere: Vec<String>,
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
        pinned.left = log.left();
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
        self.each_in(log, range, &|_| true, visit)
    }

    /// The same, of wanted row groups of the checkpoint only.
    pub(super) fn each_in(
        &self,
        log: &Log,
        range: TimeRange,
        wanted: &dyn Fn(&Group) -> bool,
        visit: &mut dyn FnMut(&Entry),
    ) -> Result<(), StoreError> {
        let touches = |entry: &Entry| range.touches(entry.known.time_min, entry.known.time_max);
        for (at, group) in log.checkpoint.iter().flat_map(|c| c.groups()).enumerate() {
            if !group.touches(range) || !wanted(group) {
                continue;
            }
            for entry in self.entries(log, at)?.iter() {
                if touches(entry) && !log.tail.knows(&entry.path) {
                    visit(entry);
                }
            }
        }
        log.tail.added(touches).for_each(visit);
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

    /// Frames of covered blocks whose rows are in none of its files.
    ///
    /// # Errors
    /// As [`Table::pin`].
    pub fn left(&self) -> Result<Left, StoreError> {
        Ok(self.log()?.map_or(Left::new(), |log| log.left()))
    }

    /// The same, with when that was committed, and with blocks of which nothing is left any more.
    pub(crate) fn left_told(&self) -> Result<BTreeMap<(u32, u64), Told>, StoreError> {
        Ok(self.log()?.map_or(BTreeMap::new(), |log| log.left_told()))
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
        let mut removed = |path: &str, at: Option<i64>| {
            if let (Some(place), Some(at)) = (place_of(path), at) {
                visit(&place, at);
            }
        };
        log.tail.removed().for_each(|gone| removed(&gone.path, gone.at));
        let Some(checkpoint) = &log.checkpoint else { return Ok(()) };
        checkpoint.removes(|of| {
            let out = of.iter().filter(|remove| !log.tail.stands(&remove.path));
            out.for_each(|remove| removed(&remove.path, remove.deletion_timestamp));
            Ok(())
        })
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

    /// Writes a checkpoint where `every` commits came since the last one, or what they say of `files` files, or that is
    /// another's: what came since is read whole before the first plan of a process. Files removed before `forget` (unix
    /// nanoseconds) leave the log. Gives its version where one was written.
    ///
    /// # Errors
    /// As [`Table::pin`].
    pub fn checkpoint(&self, every: u64, files: usize, forget: i64) -> Result<Option<u64>, StoreError> {
        let Some(log) = self.log()? else { return Ok(None) };
        let due = match &log.checkpoint {
            None => log.version + 1 >= every,
            Some(last) => log.version >= last.version + every || (!last.sorted && log.version > last.version),
        };
        if !due && log.tail.len() < files.max(1) {
            return Ok(None);
        }
        log.protocol.check_write()?;
        let names = Names(&self.dir);
        let (_ours_or_anothers, written) =
            rewrite::write(&self.shared.objects, &names, &log, forget.div_euclid(1_000_000))?;
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
            if listing.commits.binary_search_by_key(&version, |(commit, _)| *commit).is_err() {
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
        let commits = listing.commits.iter().filter(|(v, _)| *v < first).map(|(v, _)| names.commit(*v));
        let mut deleted = 0;
        for name in checkpoints.chain(commits).take(most) {
            objects.delete(&name).map_err(|e| StoreError::io("cleaned a Delta log", e))?;
            deleted += 1;
        }
        Ok(deleted)
    }
}
