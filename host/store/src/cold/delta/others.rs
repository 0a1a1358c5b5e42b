//! Files that other engines wrote to a table: told, since they have none of what Prism reads beside the rows, and taken back where
//! they only join files of ours.
//!
//! An engine's `OPTIMIZE` changes no row, and the files that it joined stay for a while. So long one commit puts them in the place
//! of what was made of them. Rows that others added, changed or deleted are theirs to take back.

use std::collections::{BTreeMap, BTreeSet};

use prism_model::window::TimeRange;

use super::action::{Known, Line, Remove};
use super::arrays::Entry;
use super::commit::{Change, Committed, NewFile};
use super::date::Date;
use super::log::{Names, read_commit};
use super::table::{FileEntry, Table};
use crate::error::StoreError;

/// Commits that are looked at: those of a day or more.
const COMMITS_MAX: u64 = 100;
/// What Prism says of itself in its commits.
const ENGINE: &str = "prism/";
/// What to do about files of others.
pub(crate) const MEND: &str = "another engine wrote it, and answers are partial without it: have that engine take its change back \
     (not by restoring an old version, which also takes back what Prism added since), and let none write to the table";

impl Table {
    /// Paths of the files that others wrote, ascending.
    ///
    /// # Errors
    /// As [`Table::pin`].
    pub fn foreign(&self) -> Result<Vec<String>, StoreError> {
        let Some(log) = self.log()? else { return Ok(Vec::new()) };
        Ok(self.foreign_files(&log)?.into_keys().collect())
    }

    fn foreign_files(&self, log: &super::Log) -> Result<BTreeMap<String, FileEntry>, StoreError> {
        let mut foreign = BTreeMap::new();
        self.each_foreign(log, &mut |entry| {
            foreign.extend(self.file(entry).map(|file| (file.path.clone(), file)));
        })?;
        Ok(foreign)
    }

    /// Takes back what others joined without changing a row, as far as the files of ours are there still and were removed after
    /// `oldest` (unix milliseconds): what was removed before may be deleted at any time. Gives how many files came back.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub fn take_back(&self, now: i64, oldest: i64) -> Result<usize, StoreError> {
        // What is done builds on this log alone: a commit after it that touches what is taken out is then seen, and loses nothing.
        let Some(log) = self.log()? else { return Ok(0) };
        let mut theirs = self.foreign_files(&log)?;
        if theirs.is_empty() {
            return Ok(0);
        }
        let mut going: Vec<FileEntry> = Vec::new();
        let mut coming: BTreeMap<String, Remove> = BTreeMap::new();
        for version in (log.version.saturating_sub(COMMITS_MAX)..=log.version).rev() {
            let lines = match read_commit(&self.shared.objects, &Names(&self.dir), version) {
                Err(StoreError::Disk { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => break,
                lines => lines?,
            };
            let Some(joined) = Joined::of(lines) else { continue };
            // All that it made must be there, or be what a later one joined again.
            if !joined.adds.iter().all(|path| theirs.contains_key(path) || coming.contains_key(path)) {
                continue;
            }
            for path in joined.adds {
                if coming.remove(&path).is_none() {
                    going.extend(theirs.remove(&path));
                }
            }
            coming.extend(joined.removes.into_iter().map(|remove| (remove.path.clone(), remove)));
        }
        let adds: Option<Vec<NewFile>> = coming.values().map(|remove| self.as_it_was(remove, oldest)).collect();
        let Some(adds) = adds.filter(|adds| !adds.is_empty()) else { return Ok(0) };
        let rows = |files: &[FileEntry]| files.iter().map(|file| file.rows).sum::<Option<u64>>();
        if rows(&going) != Some(adds.iter().map(|file| file.rows).sum()) {
            return Ok(0);
        }
        let (files, base) = (adds.len(), Some(log.version));
        let begun = now.div_euclid(1_000_000);
        let change = Change { operation: "RESTORE", now, begun, adds, removes: going, base, ..Change::default() };
        Ok(match self.commit(&change)? {
            Committed::At(_) => files,
            Committed::Lost => 0,
        })
    }

    /// A removed file, where it is ours and there still.
    fn as_it_was(&self, remove: &Remove, oldest: i64) -> Option<NewFile> {
        let known = remove.known()?;
        let kept = remove.deletion_timestamp.is_some_and(|at| at > oldest);
        let entry = Entry { path: remove.path.as_str().into(), bytes: remove.size?, known };
        let file = self.file(&entry).filter(|_| kept && Date::of(known.time_min) == Date::of(known.time_max))?;
        let there = self.shared.objects.len(&file.name).is_ok_and(|bytes| bytes == entry.bytes);
        let Known { rows, time_min, time_max, .. } = known;
        there.then_some(NewFile {
            path: file.path,
            bytes: entry.bytes,
            rows: rows?,
            time_min,
            time_max,
            stats: Vec::new(),
        })
    }

    /// Visits the files of others.
    fn each_foreign(&self, log: &super::Log, visit: &mut dyn FnMut(&Entry)) -> Result<(), StoreError> {
        self.each_in(log, TimeRange::ALL, &|group| group.foreign > 0, &mut |entry| {
            if !entry.known.ours {
                visit(entry);
            }
        })
    }
}

/// A commit of others that only joined files.
struct Joined {
    adds: BTreeSet<String>,
    removes: Vec<Remove>,
}

impl Joined {
    fn of(lines: Vec<Line>) -> Option<Joined> {
        let ours = |line: &Line| {
            let info = line.commit_info.as_ref().and_then(|info| info.engine_info.as_deref());
            info.is_some_and(|info| info.starts_with(ENGINE))
        };
        if lines.iter().any(ours) {
            return None;
        }
        let mut joined = Joined { adds: BTreeSet::new(), removes: Vec::new() };
        for line in lines {
            let changes = line.add.as_ref().is_some_and(|add| add.data_change)
                || line.remove.as_ref().is_some_and(|remove| remove.data_change);
            if changes {
                return None;
            }
            joined.adds.extend(line.add.map(|add| add.path));
            joined.removes.extend(line.remove);
        }
        (!joined.adds.is_empty() && !joined.removes.is_empty()).then_some(joined)
    }
}
