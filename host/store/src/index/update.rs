//! The index follows the table: traces of new files into the recent run, that into the base when it is due.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};

use super::manifest::{self, Manifest, Run};
use super::page::{Entry, FileRef, kept};
use super::run::{self, ANYWHERE, Stream};
use crate::cold::delta::{FileEntry, Table};
use crate::control::Create;
use crate::error::{Damage, StoreError};
use crate::objects::Objects;

/// Times that an update begins again after another's: each time the index got on.
const ATTEMPTS: usize = 10;
/// Entries of new files that are sorted in memory: 64 MB. A single file with more is taken whole.
const SORT_ENTRIES: usize = 4 << 20;
/// The recent run goes into the base when it has a sixteenth of its entries: an entry is then rewritten some 17 times while the
/// base grows, whatever its size.
const BASE_SHARE: u64 = 16;
/// For [`IndexEnv::recent_entries_min`]: 14 MB, which each commit may rewrite.
pub const RECENT_ENTRIES_MIN: u64 = 1 << 20;
/// Files of other engines that are named in the manifest; beyond, every file is looked into.
const UNINDEXED_MAX: usize = 10_000;

/// What an update works with.
pub struct IndexEnv<'a> {
    /// Where index and table lie.
    pub objects: &'a Arc<dyn Objects>,
    /// A name for each new object, unique among all that were ever made: `<begun, unix milliseconds as hex>-…`.
    pub unique: &'a dyn Fn() -> String,
    /// Fingerprints of the traces of a file, ascending; `None` where they cannot be told (another engine wrote it). Asked of files
    /// whose traces are not at hand.
    pub traces_of: &'a TracesOf<'a>,
    /// Entries that the recent run must have before it goes into the base.
    pub recent_entries_min: u64,
}

/// See [`IndexEnv::traces_of`].
pub type TracesOf<'a> = dyn Fn(&FileEntry) -> Result<Option<Vec<u64>>, StoreError> + 'a;

/// What an update did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Version of the table up to which it is indexed.
    pub through: Option<u64>,
    /// Entries (a trace in a file) of the index now.
    pub entries: u64,
    /// Bytes of the index now.
    pub bytes: u64,
    /// Files that were added.
    pub files: usize,
    /// Whether the base was rewritten.
    pub merged: bool,
}

/// Brings the index to the table's version. `known`: traces of files that were just written, by path. Blocks on the objects.
///
/// # Errors
/// `Retry` where the objects fail: the files that are not indexed yet are found by their own filters. `Bug` where index or
/// table are damaged.
pub fn update(
    env: &IndexEnv<'_>,
    table: &Table,
    tenant: &TenantId,
    signal: Signal,
    known: &HashMap<String, Vec<u64>>,
) -> Result<IndexReport, StoreError> {
    let folder = manifest::folder(tenant, signal);
    let mut report = IndexReport::default();
    for _ in 0..ATTEMPTS {
        let Some(log) = table.log()? else { return Ok(report) };
        // One that cannot be read is made anew; nothing else depends on it.
        let (number, before) = match manifest::latest(env.objects, &folder) {
            Ok(Some((number, before))) => (number, Some(before)),
            Ok(None) => (0, None),
            Err(error @ StoreError::Disk { .. }) => return Err(error),
            // Its writers keep it up; until they do, files have their own filters.
            Err(error @ StoreError::Damaged(Damage::Version { .. })) => {
                tracing::warn!(%error, "the trace index is left to a newer version");
                return Ok(report);
            }
            Err(error) => {
                tracing::warn!(%error, "the trace index cannot be read: it is made anew");
                (manifest::latest_number(env.objects, &folder)?, None)
            }
        };
        let through = before.as_ref().and_then(|m| m.through);
        if let (Some(through), Some(m)) = (through, &before)
            && through >= log.version
        {
            report.through = Some(through);
            (report.entries, report.bytes) = (m.recent.entries() + m.base.entries(), m.recent.bytes() + m.base.bytes());
            return Ok(report);
        }
        let mut before = before.unwrap_or_else(Manifest::empty);
        let due: Vec<(Option<u64>, Vec<FileEntry>)> = match table.added_since(&log, through)? {
            Some(added) => {
                let files = |of: Vec<_>| of.iter().filter_map(|entry| table.file(entry)).collect();
                added.into_iter().map(|(version, of)| (Some(version), files(of))).collect()
            }
            // Those commits were cleaned up: all files, as they stand.
            None => {
                before = Manifest::empty();
                let mut all = Vec::new();
                table.each(&log, TimeRange::ALL, &mut |entry| all.extend(table.file(entry)))?;
                vec![(Some(log.version), all)]
            }
        };
        let step = Step { env, table, log_version: log.version, folder: &folder };
        match step.take(number, before, due, known, &mut report)? {
            Create::Created => {}
            Create::Lost => continue,
        }
    }
    Ok(report)
}

struct Step<'a> {
    env: &'a IndexEnv<'a>,
    table: &'a Table,
    log_version: u64,
    folder: &'a str,
}

impl Step<'_> {
    /// Takes the files of as many versions as are sorted at once, and makes the next manifest, again until all are in.
    fn take(
        &self,
        mut number: u64,
        mut manifest: Manifest,
        due: Vec<(Option<u64>, Vec<FileEntry>)>,
        known: &HashMap<String, Vec<u64>>,
        report: &mut IndexReport,
    ) -> Result<Create, StoreError> {
        let mut entries = Vec::new();
        let last = due.len().saturating_sub(1);
        for (at, (version, files)) in due.into_iter().enumerate() {
            let many = files.len();
            for (n, file) in files.into_iter().enumerate() {
                report.files += 1;
                let of = FileRef::of(file.time_min, &file.path);
                let read;
                let traces = match known.get(&file.path) {
                    Some(traces) => Some(traces),
                    None => {
                        read = self.traces_of(&file)?;
                        read.as_ref()
                    }
                };
                match traces {
                    Some(traces) => entries.extend(traces.iter().map(|t| Entry { trace: kept(*t), file: of })),
                    None => manifest.unindexed.push(file.path),
                }
                let whole = n + 1 == many;
                if whole {
                    manifest.through = version;
                }
                if entries.len() >= SORT_ENTRIES || (whole && at == last) {
                    match self.step(number, &mut manifest, std::mem::take(&mut entries), report)? {
                        Create::Created => number += 1,
                        Create::Lost => return Ok(Create::Lost),
                    }
                }
            }
            if many == 0 {
                manifest.through = version;
                if at == last {
                    return self.step(number, &mut manifest, std::mem::take(&mut entries), report);
                }
            }
        }
        Ok(Create::Created)
    }

    /// A file that is gone has no traces any more: nothing will be read from it.
    fn traces_of(&self, file: &FileEntry) -> Result<Option<Vec<u64>>, StoreError> {
        if file.foreign {
            return Ok(None);
        }
        match (self.env.traces_of)(file) {
            Err(StoreError::Disk { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Some(Vec::new()))
            }
            traces => traces,
        }
    }

    fn step(
        &self,
        number: u64,
        manifest: &mut Manifest,
        mut new: Vec<Entry>,
        report: &mut IndexReport,
    ) -> Result<Create, StoreError> {
        new.sort_unstable();
        new.dedup();
        let objects = self.env.objects;
        let name = || format!("{}/runs/{}.idx", self.folder, (self.env.unique)());
        let (count, recent) = (new.len() as u64, manifest.recent.entries());
        let due = recent + count > self.env.recent_entries_min.max(manifest.base.entries() / BASE_SHARE);
        let fresh = Head::new(From::New(new.into_iter()))?;
        let mut heads = vec![fresh, Head::new(From::Run(Stream::of(objects, &manifest.recent)))?];
        if !due {
            manifest.recent = run::write(objects, recent + count, name, || least(&mut heads))?;
        } else {
            let stand = self.standing(manifest)?;
            heads.push(Head::new(From::Run(Stream::of(objects, &manifest.base)))?);
            let most = recent + count + manifest.base.entries();
            let base = run::write(objects, most, name, || {
                while let Some(entry) = least(&mut heads)? {
                    if entry.file == ANYWHERE || stand.contains(&entry.file) {
                        return Ok(Some(entry));
                    }
                }
                Ok(None)
            })?;
            (manifest.recent, manifest.base) = (Run::default(), base);
            report.merged = true;
        }
        if manifest.unindexed.len() > UNINDEXED_MAX {
            manifest.unindexed.truncate(UNINDEXED_MAX);
            manifest.all_unindexed = true;
        }
        report.through = manifest.through;
        report.entries = manifest.recent.entries() + manifest.base.entries();
        report.bytes = manifest.recent.bytes() + manifest.base.bytes();
        manifest::create(objects, self.folder, number + 1, manifest)
    }

    /// The files that stand, and with them those that came since: their entries stay. What is gone leaves the list of others'
    /// files, too.
    fn standing(&self, manifest: &mut Manifest) -> Result<HashSet<FileRef>, StoreError> {
        let mut stand = HashSet::new();
        let others: HashSet<&str> = manifest.unindexed.iter().map(String::as_str).collect();
        let mut found = HashSet::new();
        let Some(log) = self.table.log()?.filter(|log| log.version >= self.log_version) else { return Ok(stand) };
        self.table.each(&log, TimeRange::ALL, &mut |entry| {
            stand.insert(FileRef::of(entry.known.time_min, &entry.path));
            if others.contains(&*entry.path) {
                found.insert(entry.path.to_string());
            }
        })?;
        manifest.unindexed.retain(|path| found.contains(path));
        Ok(stand)
    }
}

/// Entries in ascending order.
enum From<'a> {
    New(std::vec::IntoIter<Entry>),
    Run(Stream<'a>),
}

/// What is being merged, and its next entry.
struct Head<'a> {
    ahead: Option<Entry>,
    from: From<'a>,
}

impl<'a> Head<'a> {
    fn new(from: From<'a>) -> Result<Head<'a>, StoreError> {
        let mut head = Head { ahead: None, from };
        head.take()?;
        Ok(head)
    }

    fn take(&mut self) -> Result<Option<Entry>, StoreError> {
        let next = match &mut self.from {
            From::New(entries) => entries.next(),
            From::Run(stream) => stream.next()?,
        };
        Ok(std::mem::replace(&mut self.ahead, next))
    }
}

/// The least entry of all.
fn least(heads: &mut [Head<'_>]) -> Result<Option<Entry>, StoreError> {
    match heads.iter_mut().filter(|head| head.ahead.is_some()).min_by_key(|head| head.ahead) {
        Some(head) => head.take(),
        None => Ok(None),
    }
}

/// Deletes runs that no manifest names any more and that were begun before `until` (unix milliseconds); gives how many. A new
/// manifest comes first, so that an update that is still under way loses and its runs may go, too.
///
/// # Errors
/// `Retry` where the objects fail.
pub fn vacuum(env: &IndexEnv<'_>, tenant: &TenantId, signal: Signal, until: i64) -> Result<usize, StoreError> {
    let folder = manifest::folder(tenant, signal);
    let io = |e| StoreError::io("listed the trace index", e);
    let listed = env.objects.list(&format!("{folder}/runs"), "").map_err(io)?;
    let (number, latest) = match manifest::latest(env.objects, &folder) {
        Ok(Some(latest)) => latest,
        // What a newer version names is not known here.
        Ok(None) | Err(StoreError::Damaged(Damage::Version { .. })) => return Ok(0),
        Err(error) => return Err(error),
    };
    let parts = latest.recent.parts.iter().chain(&latest.base.parts);
    let named: HashSet<&str> = parts.map(|part| &*part.name).collect();
    let begun = |name: &str| i64::from_str_radix(name.rsplit('/').next()?.split('-').next()?, 16).ok();
    let old = |name: &str| begun(name).is_some_and(|begun| begun < until);
    let goes: Vec<String> =
        listed.into_iter().map(|l| l.name).filter(|name| !named.contains(&**name) && old(name)).collect();
    if goes.is_empty() || manifest::create(env.objects, &folder, number + 1, &latest)? == Create::Lost {
        return Ok(0);
    }
    for name in &goes {
        env.objects.delete(name).map_err(|e| StoreError::io("cleaned the trace index", e))?;
    }
    Ok(goes.len())
}
