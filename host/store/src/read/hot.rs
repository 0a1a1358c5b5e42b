//! What stands in the hot tier: segments are listed and opened anew for each snapshot, since only that shows what another node
//! wrote on a network file system. What was found in a file is remembered between snapshots by [`crate::hot::scan`].

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prism_model::window::{TimeRange, Window};
use prism_model::{Signal, TenantId};

use super::counted::{Counted, Segment, Uncounted};
use super::rolled::Rolled;
use super::{Ask, Snapshot, Unreadable, moved_on};
use crate::cache::Cache;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::framed::{Filters, Framed, Source};
use crate::hot::list::siblings;
use crate::hot::scan::{Entry, NoIndex, SegmentIndex, end_mark};
use crate::hot::segment::end_link;
use crate::hot::source::HotFile;
use crate::keys::Keyring;
use crate::place::{SegmentName, parse_window_dir, signal_dir};
use crate::unit::Tier;

/// Bytes of remembered headers and statistics: about 10,000 frames of 80 columns, some ten minutes of 100,000 spans/s.
const INDEX_CACHE_BYTES: usize = 96 << 20;

/// The segments below a folder.
pub(super) struct Hot {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    keys: Keyring,
    indexes: Cache<PathBuf, Arc<SegmentIndex>>,
    filters: Arc<Filters>,
    pub(super) counted: Arc<Counted>,
}

/// One look at a tenant's signal: all of it is of one moment.
pub(super) struct Look<'a> {
    hot: &'a Hot,
    tenant: &'a TenantId,
    signal: Signal,
    seen: HashMap<SegmentName, Arc<SegmentIndex>>,
    /// Segments whose rows a listed block has.
    sealed: &'a HashSet<SegmentName>,
}

/// Whether the frame that a token names is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Yes,
    No,
    /// The segment is not in this tier.
    NoSegment,
}

impl Hot {
    pub(super) fn new(disk: Arc<dyn Disk>, root: PathBuf, keys: Keyring, filters: Arc<Filters>) -> Hot {
        Hot { disk, root, keys, indexes: Cache::new(INDEX_CACHE_BYTES), filters, counted: Arc::default() }
    }

    pub(super) fn look<'a>(
        &'a self,
        tenant: &'a TenantId,
        signal: Signal,
        sealed: &'a HashSet<SegmentName>,
    ) -> Look<'a> {
        Look { hot: self, tenant, signal, seen: HashMap::new(), sealed }
    }

    /// The tenants that have a folder.
    pub(super) fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        Ok(self.list(&self.root.join("hot"))?.iter().filter_map(|n| n.parse().ok()).collect())
    }

    /// Segments of the wanted windows (told whether they are of late rows), in order.
    pub(super) fn segments(
        &self,
        tenant: &TenantId,
        signal: Signal,
        wanted: &dyn Fn(Window, bool) -> bool,
    ) -> Result<Vec<SegmentName>, StoreError> {
        let dir = self.root.join(signal_dir(tenant, signal));
        let mut names = Vec::new();
        for shard_name in self.list(&dir)? {
            let Ok(shard) = shard_name.parse::<u32>() else { continue };
            let shard_dir = dir.join(&shard_name);
            for window_name in self.list(&shard_dir)? {
                let Some((window, late)) = parse_window_dir(&window_name) else { continue };
                if !wanted(window, late) {
                    continue;
                }
                let files = self.list(&shard_dir.join(&window_name))?;
                names.extend(files.iter().filter_map(|f| SegmentName::parse(shard, window, late, f)));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Names in a folder that may not exist.
    fn list(&self, dir: &Path) -> Result<Vec<String>, StoreError> {
        match self.disk.list(dir) {
            Ok(names) => Ok(names),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
            Err(e) => Err(StoreError::io("listed segments", e)),
        }
    }

    /// The length of a segment's end link. One that is no number ends the segment at once: it was meant to.
    fn end_of(&self, path: &Path) -> Result<Option<u64>, NoIndex> {
        match self.disk.read_link(&end_link(path)) {
            Ok(text) => Ok(Some(text.parse().unwrap_or(0))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(NoIndex::Io(e)),
        }
    }
}

impl Look<'_> {
    fn path(&self, name: &SegmentName) -> PathBuf {
        self.hot.root.join(name.dir(self.tenant, self.signal)).join(name.file_name())
    }

    /// Whether a late segment that was closed says that it has no row of the range: two small reads instead of a walk.
    fn outside(&self, name: &SegmentName, range: TimeRange) -> bool {
        if !name.late {
            return false;
        }
        let path = self.path(name);
        if self.hot.indexes.get(&path).is_some() {
            return false;
        }
        let mark = || -> Result<_, NoIndex> {
            let file = self.hot.disk.open(&path)?;
            let (_, len) = file.identity()?;
            end_mark(&*file, len, name.header(self.tenant, self.signal).fingerprint())
        };
        matches!(mark(), Ok(Some(mark)) if !range.touches(mark.time_min, mark.time_max))
    }

    /// What stands in a segment now.
    fn index(&mut self, name: &SegmentName) -> Result<Arc<SegmentIndex>, NoIndex> {
        if let Some(index) = self.seen.get(name) {
            return Ok(index.clone());
        }
        let path = self.path(name);
        let before = self.hot.indexes.get(&path);
        let valid = self.hot.end_of(&path)?;
        let header = name.header(self.tenant, self.signal);
        let (disk, keys) = (&*self.hot.disk, &self.hot.keys);
        if let Some(before) = before.as_ref().filter(|_| valid.is_none())
            && before.is_all_of(disk, &path)?
        {
            self.seen.insert(*name, before.clone());
            return Ok(before.clone());
        }
        let index = Arc::new(SegmentIndex::read(disk, &path, &header, valid, before.as_deref(), keys)?);
        self.hot.indexes.put(path, index.clone(), index.memory_bytes());
        self.seen.insert(*name, index.clone());
        Ok(index)
    }

    /// Whether a frame counts: its group was acknowledged, or is whole. An error where that cannot be told.
    fn stands(&mut self, name: &SegmentName, index: &SegmentIndex, entry: &Entry) -> Result<bool, NoIndex> {
        if entry.end() <= index.confirmed {
            return Ok(true);
        }
        for (other, frame) in siblings(name, entry) {
            let frames = if other == *name {
                index.frames.len()
            } else if self.sealed.contains(&other) {
                // Only frames that stand are sealed, with all that was written together with them.
                continue;
            } else {
                match self.index(&other) {
                    Ok(index) => index.frames.len(),
                    Err(NoIndex::Absent) => 0,
                    Err(e) => return Err(e),
                }
            };
            if frames <= frame as usize {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds the frames of a segment that may hold what is asked for.
    pub(super) fn add(&mut self, name: &SegmentName, ask: &Ask<'_>, to: &mut Snapshot) {
        if self.outside(name, ask.range) {
            return;
        }
        let path = self.path(name);
        let unreadable = |offset, reason: String| Unreadable {
            tier: Tier::Hot,
            what: format!("segment {} from byte {offset}", name.file_name()),
            reason,
        };
        let index = match self.index(name) {
            Ok(index) => index,
            Err(NoIndex::Absent) => return,
            // It was sealed since it was listed.
            Err(NoIndex::Vanished) => return to.vanished(unreadable(0, moved_on())),
            Err(NoIndex::Io(e)) => {
                tracing::error!(path = %path.display(), error = %e, "a segment cannot be read");
                return to.unreadable.push(unreadable(0, "the disk failed".into()));
            }
            // Logged once by the keyring: a tenant may have a thousand segments.
            Err(NoIndex::Locked(e)) => return to.unreadable.push(unreadable(0, e.to_string())),
            Err(NoIndex::Damaged(damage)) => {
                tracing::error!(path = %path.display(), error = %damage, "a segment is damaged");
                return to.unreadable.push(unreadable(0, damage.to_string()));
            }
        };
        if let Some(fault) = index.fault.as_ref().filter(|f| f.lost) {
            tracing::error!(path = %path.display(), offset = fault.at, error = %fault.damage, "a segment is damaged");
            to.unreadable.push(unreadable(fault.at, fault.damage.to_string()));
        }
        let source: Arc<dyn Source> =
            Arc::new(HotFile { disk: self.hot.disk.clone(), path: path.clone(), inode: index.inode });
        let segment = Segment {
            path: path.clone(),
            index: index.clone(),
            source: source.clone(),
            filters: self.hot.filters.clone(),
            signal: self.signal,
            window: name.window,
        };
        // Of some frames of a trace no rollup tells.
        let (first, more) = if ask.trace.is_none() { self.hot.counted.of(&segment) } else { (None, false) };
        let (counted, confirmed) = (first.as_ref().map_or(0, |first| first.frames), segment.confirmed());
        // Frames of the snapshot among the counted and the confirmed ones.
        let (mut told, mut settled) = (0, 0);
        let (mut frames, mut standing) = (Vec::new(), 0);
        for (number, entry) in index.frames.iter().enumerate() {
            let header = &entry.meta.header;
            if !ask.range.touches(header.time_min, header.time_max) {
                standing += 1;
                continue;
            }
            match self.stands(name, &index, entry) {
                Ok(true) => {}
                Ok(false) => break,
                Err(NoIndex::Vanished) => {
                    to.vanished(unreadable(entry.at, moved_on()));
                    break;
                }
                Err(e) => {
                    tracing::error!(path = %path.display(), error = ?e, "the other part of a batch cannot be read");
                    to.unreadable.push(unreadable(entry.at, "the other part of a batch cannot be read".into()));
                    break;
                }
            }
            standing += 1;
            told += usize::from(number < counted);
            settled += usize::from(number < confirmed);
            frames.push(Framed::frame(&source, &self.hot.filters, entry.at, name.window, entry.meta.clone()));
        }
        let from = to.add(Tier::Hot, ask, frames, standing).start;
        if more && told < settled {
            let (segment, counted) = (segment.clone(), self.hot.counted.clone());
            to.uncounted.push(Uncounted { frames: from + told..from + settled, segment, counted });
        }
        if let Some(first) = first.filter(|_| told > 0) {
            to.rolled.push(Rolled::segment(segment, first, from..from + told));
        }
    }

    /// Whether the frame of a token stands.
    pub(super) fn sees(&mut self, name: &SegmentName, frame: u32) -> Result<Seen, StoreError> {
        let stands = self.index(name).and_then(|index| {
            let entry = index.frames.get(frame as usize);
            entry.map_or(Ok(false), |entry| self.stands(name, &index, entry))
        });
        match stands {
            Ok(true) => Ok(Seen::Yes),
            Ok(false) => Ok(Seen::No),
            Err(NoIndex::Vanished) => Ok(Seen::NoSegment),
            Err(NoIndex::Absent | NoIndex::Damaged(_)) => Ok(Seen::No),
            Err(NoIndex::Io(e)) => Err(StoreError::io("looked for a batch", e)),
            Err(NoIndex::Locked(e)) => Err(e.into()),
        }
    }
}
