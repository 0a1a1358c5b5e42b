//! A checkpoint: all actions that stand at a version, in Parquet.
//!
//! Ours hold what the table is in their first row group, then the files by time, 4,096 to a row group, then the removed ones;
//! their key-value metadata tells the times of each row group, so that a plan reads the few that it needs. Those of others
//! are read whole.

use std::sync::Arc;

use prism_model::window::TimeRange;
use serde::{Deserialize, Serialize};

use super::action::{Add, Remove};
use super::arrays::{self, ENTRY_COLUMNS, Entry, FOREIGN_ENTRY_COLUMNS, Front};
use super::chunks::ParquetObject;
use crate::error::{Damage, StoreError};
use crate::objects::Objects;

/// Under which key the footer of a checkpoint of ours tells its row groups.
pub(crate) const GROUPS_KEY: &str = "prism.checkpoint";

/// Files of a row group: a plan decodes some 2 ms of them, and 1,000,000 files make 245 groups, whose footer is 1 MB.
pub(crate) const GROUP_FILES: usize = 4_096;

/// What the footer of ours tells about the files of a row group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    pub(crate) files: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Files that others wrote, about which the tag tells nothing.
    pub(crate) foreign: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Groups {
    pub(crate) version: u16,
    pub(crate) groups: Vec<Group>,
}

/// An opened checkpoint.
pub(crate) struct Checkpoint {
    pub(crate) version: u64,
    files: Vec<ParquetObject>,
    /// The row groups with files in them: which part, which row group, and what is known.
    groups: Vec<(usize, usize, Group)>,
    /// Whether the files lie by (smallest time, path) over all groups.
    pub(crate) sorted: bool,
}

impl Checkpoint {
    /// Opens a checkpoint that consists of these objects, and reads what the table is.
    pub(crate) fn open(
        objects: &Arc<dyn Objects>,
        version: u64,
        names: &[String],
    ) -> Result<(Checkpoint, Front), StoreError> {
        let files: Vec<ParquetObject> =
            names.iter().map(|name| ParquetObject::open(objects, name)).collect::<Result<_, _>>()?;
        let mut front = Front::default();
        let told = match &files[..] {
            [one] => told(one)?,
            _ => None,
        };
        let sorted = told.is_some();
        let groups = match told {
            Some(groups) => {
                files[0].group(0, &["protocol", "metaData", "txn"], |batch| front.read(batch))?;
                groups.into_iter().enumerate().map(|(i, group)| (0, i + 1, group)).collect()
            }
            None => {
                let all = files.iter().enumerate();
                let all = all.flat_map(|(f, file)| (0..file.meta().num_row_groups()).map(move |g| (f, g)));
                let mut groups = Vec::new();
                for (f, g) in all {
                    files[f].group(g, &["protocol", "metaData", "txn"], |batch| front.read(batch))?;
                    groups.push((f, g, foreign_group(&files[f], g)?));
                }
                groups
            }
        };
        Ok((Checkpoint { version, files, groups, sorted }, front))
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().map(|(_, _, group)| group)
    }

    /// The files of a group as plans know them.
    pub(crate) fn entries(&self, group: usize) -> Result<Vec<Entry>, StoreError> {
        let (file, at, known) = &self.groups[group];
        let columns: &[&str] = if known.foreign == 0 { &ENTRY_COLUMNS } else { &FOREIGN_ENTRY_COLUMNS };
        let mut entries = Vec::new();
        self.files[*file].group(*at, columns, |batch| arrays::read_entries(batch, &mut entries))?;
        Ok(entries)
    }

    /// The files of a group, whole.
    pub(crate) fn adds(&self, group: usize) -> Result<Vec<Add>, StoreError> {
        let (file, at, _) = &self.groups[group];
        let mut adds = Vec::new();
        self.files[*file].group(*at, &["add"], |batch| arrays::read_adds(batch, &mut adds))?;
        Ok(adds)
    }

    /// The removed files, a row group at a time.
    pub(crate) fn removes(
        &self,
        mut each: impl FnMut(Vec<Remove>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // In ours they lie behind the files.
        let first = if self.sorted { 1 + self.groups.len() } else { 0 };
        for file in &self.files {
            for group in first..file.meta().num_row_groups() {
                let mut removes = Vec::new();
                file.group(group, &["remove"], |batch| arrays::read_removes(batch, &mut removes))?;
                each(removes)?;
            }
        }
        Ok(())
    }

    /// What it holds in memory, about: parsed footers are some times their bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let footers: usize = self.files.iter().map(|f| f.footer_bytes * 4).sum();
        footers + self.groups.len() * size_of::<(usize, usize, Group)>()
    }
}

/// The row groups that the footer of ours tells.
fn told(file: &ParquetObject) -> Result<Option<Vec<Group>>, StoreError> {
    let pairs = file.meta().file_metadata().key_value_metadata();
    let Some(text) = pairs.into_iter().flatten().find(|kv| kv.key == GROUPS_KEY).and_then(|kv| kv.value.as_deref())
    else {
        return Ok(None);
    };
    let bad = || StoreError::from(Damage::Bounds("row groups of a checkpoint"));
    let told: Groups = serde_json::from_str(text).map_err(|_| bad())?;
    // A newer form is still a checkpoint: it is read as another's.
    if told.version != 1 {
        return Ok(None);
    }
    let rows = |at: usize| file.meta().row_group(at).num_rows();
    let whole = told.groups.len() < file.meta().num_row_groups()
        && told.groups.iter().enumerate().all(|(i, g)| u64::try_from(rows(i + 1)) == Ok(g.files));
    if whole { Ok(Some(told.groups)) } else { Err(bad()) }
}

/// What is known about a row group of another's: how many files, once they were read.
fn foreign_group(file: &ParquetObject, group: usize) -> Result<Group, StoreError> {
    let mut entries = Vec::new();
    file.group(group, &FOREIGN_ENTRY_COLUMNS, |batch| arrays::read_entries(batch, &mut entries))?;
    let mut found = Group::of(&entries);
    found.foreign = found.foreign.max(1);
    Ok(found)
}

impl Group {
    /// What the footer tells about these files.
    pub(crate) fn of(entries: &[Entry]) -> Group {
        let mut group = Group { time_min: i64::MAX, time_max: i64::MIN, files: 0, rows: 0, bytes: 0, foreign: 0 };
        for entry in entries {
            group.time_min = group.time_min.min(entry.known.time_min);
            group.time_max = group.time_max.max(entry.known.time_max);
            group.files += 1;
            group.rows = group.rows.saturating_add(entry.known.rows.unwrap_or(0));
            group.bytes = group.bytes.saturating_add(entry.bytes);
            group.foreign += u64::from(!entry.known.ours);
        }
        group
    }

    pub(crate) fn touches(&self, range: TimeRange) -> bool {
        self.files > 0 && range.touches(self.time_min, self.time_max)
    }
}
