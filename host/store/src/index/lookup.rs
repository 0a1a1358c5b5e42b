//! Looking a trace up: the files that may hold it, and how many reads of the index that took.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};

use super::fingerprint;
use super::manifest::{self, Manifest};
use super::page::{FileRef, kept};
use super::run::{self, ANYWHERE};
use crate::cold::delta::{FileEntry, Left, Table};
use crate::error::StoreError;
use crate::objects::Objects;

/// The index of a tenant's signal. Remembers the manifest.
pub struct Traces {
    objects: Arc<dyn Objects>,
    folder: String,
    known: Mutex<Option<Arc<Manifest>>>,
}

/// A file that may hold a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceFile {
    /// The file.
    pub file: FileEntry,
    /// Whether the index named it; else only its own filter knows.
    pub indexed: bool,
}

/// What a lookup found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Version of the table that was looked into; `None` where there is no table.
    pub version: Option<u64>,
    /// The last block of each shard whose rows are in its files.
    pub covered: BTreeMap<u32, u64>,
    /// Frames of these blocks whose rows are in none of the files.
    pub left: Left,
    /// The files that may hold rows of the trace, by smallest time: no other one does (QU-2).
    pub files: Vec<TraceFile>,
    /// Paths of files that lie outside of the table: an answer is partial.
    pub elsewhere: Vec<String>,
    /// Requests that reading the index took: at most 2 with its manifest known, 4 without.
    pub reads: u64,
}

/// What the index says, as far as it goes.
struct Told {
    files: HashSet<FileRef>,
    through: Option<u64>,
    unindexed: HashSet<String>,
    anywhere: bool,
}

impl Traces {
    /// The index of a tenant's signal, which need not exist.
    pub fn open(objects: Arc<dyn Objects>, tenant: &TenantId, signal: Signal) -> Traces {
        Traces { objects, folder: manifest::folder(tenant, signal), known: Mutex::default() }
    }

    /// The files of the table, as it stands now, that may hold a trace. What the index cannot tell, because it is behind or
    /// damaged, the files' own filters must. Blocks on the objects.
    ///
    /// # Errors
    /// As [`Table::pin`].
    pub fn lookup(&self, table: &Table, id: &[u8; 16]) -> Result<Found, StoreError> {
        let Some(log) = table.log()? else { return Ok(Found::default()) };
        let mut found =
            Found { version: Some(log.version), covered: log.covered(), left: log.left(), ..Found::default() };
        let told = match self.ask(id, log.version, &mut found.reads) {
            Ok(told) => told,
            Err(error) => {
                tracing::warn!(%error, "the trace index cannot be read: every file is looked into");
                Told { files: HashSet::new(), through: None, unindexed: HashSet::new(), anywhere: true }
            }
        };
        // Files that came after what is indexed; `None` where any may have.
        let later: Option<HashSet<Box<str>>> = match told.through {
            _ if told.anywhere => None,
            through => table
                .added_since(&log, through)?
                .map(|added| added.into_values().flatten().map(|entry| entry.path).collect()),
        };
        let mut elsewhere = Vec::new();
        let mut files: BTreeMap<(i64, String), TraceFile> = BTreeMap::new();
        let mut take = |file: Option<FileEntry>, path: &str, indexed| match file {
            Some(file) => {
                let kept = files.entry((file.time_min, file.path.clone())).or_insert(TraceFile { file, indexed });
                kept.indexed |= indexed;
            }
            None => elsewhere.push(path.to_owned()),
        };
        let everything = later.is_none() || !told.unindexed.is_empty();
        if everything || later.as_ref().is_some_and(|later| !later.is_empty()) {
            let unknown = |path: &str| match &later {
                None => true,
                Some(later) => later.contains(path) || told.unindexed.contains(path),
            };
            table.each(&log, TimeRange::ALL, &mut |entry| {
                if unknown(&entry.path) {
                    take(table.file(entry), &entry.path, false);
                }
            })?;
        }
        let minutes: HashSet<u32> = told.files.iter().map(|file| file.minute).collect();
        for minute in minutes {
            table.each(&log, of_minute(minute), &mut |entry| {
                if told.files.contains(&FileRef::of(entry.known.time_min, &entry.path)) {
                    take(table.file(entry), &entry.path, true);
                }
            })?;
        }
        found.files = files.into_values().collect();
        found.elsewhere = elsewhere;
        Ok(found)
    }

    fn ask(&self, id: &[u8; 16], version: u64, reads: &mut u64) -> Result<Told, StoreError> {
        let known = self.known.lock().clone().filter(|known| known.through >= Some(version));
        let fresh = known.is_none();
        let Some(manifest) = (match known {
            Some(known) => Some(known),
            None => self.fetch(reads)?,
        }) else {
            // No index yet: nothing is covered.
            return Ok(Told { files: HashSet::new(), through: None, unindexed: HashSet::new(), anywhere: false });
        };
        match self.told(&manifest, id, reads) {
            // A run went away since the manifest was read.
            Err(StoreError::Disk { source, .. }) if !fresh && source.kind() == io::ErrorKind::NotFound => {
                match self.fetch(reads)? {
                    Some(manifest) => self.told(&manifest, id, reads),
                    None => Err(StoreError::io("read the trace index", source)),
                }
            }
            told => told,
        }
    }

    fn fetch(&self, reads: &mut u64) -> Result<Option<Arc<Manifest>>, StoreError> {
        let latest = manifest::latest(&self.objects, &self.folder)?;
        *reads += if latest.is_some() { 2 } else { 1 };
        let latest = latest.map(|(_, manifest)| Arc::new(manifest));
        self.known.lock().clone_from(&latest);
        Ok(latest)
    }

    fn told(&self, manifest: &Manifest, id: &[u8; 16], reads: &mut u64) -> Result<Told, StoreError> {
        let trace = kept(fingerprint(id));
        let mut files = HashSet::new();
        for run in [&manifest.recent, &manifest.base] {
            let (found, cost) = run::find(&self.objects, run, trace)?;
            *reads += cost;
            files.extend(found);
        }
        let anywhere = manifest.all_unindexed || files.contains(&ANYWHERE);
        let unindexed = manifest.unindexed.iter().cloned().collect();
        Ok(Told { files, through: manifest.through, unindexed, anywhere })
    }
}

/// The times of a minute of an entry.
fn of_minute(minute: u32) -> TimeRange {
    let from = i64::from(minute as i32).saturating_mul(60_000_000_000);
    TimeRange { from, to: from.saturating_add(60_000_000_000) }
}
