//! Reading what any process wrote: snapshots, and frames that read only what is asked for.
//!
//! Folders are listed and files opened anew for each snapshot: only that shows what another node wrote on a network file
//! system. What stands in a file is remembered between snapshots by [`crate::hot::scan`].

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prism_model::window::{TimeRange, Window};
use prism_model::{Origin, Signal, TenantId};

use crate::cache::Cache;
use crate::disk::{Disk, File, RealDisk};
use crate::error::{Damage, StoreError};
use crate::framed::{Filters, Framed, Source};
use crate::hot::scan::{Entry, NoIndex, SegmentIndex, end_mark};
use crate::place::{END_SUFFIX, SegmentName, Token, parse_window_dir, signal_dir};
use crate::unit::{Frame, Tier};

/// Bytes of remembered headers and statistics: about 10,000 frames of 80 columns, some ten minutes of 100,000 spans/s.
const INDEX_CACHE_BYTES: usize = 96 << 20;

/// Reads the hot store below a folder. Cheap to clone; any number in any process.
#[derive(Clone)]
pub struct Reader(Arc<Shared>);

struct Shared {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    indexes: Cache<PathBuf, Arc<SegmentIndex>>,
    filters: Arc<Filters>,
}

/// The frames that may hold rows of a time range, as they stood at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By window, then in the order in which each writer wrote.
    pub frames: Vec<Frame>,
    /// Acknowledged rows that cannot be read: an answer without them is partial.
    pub unreadable: Vec<Unreadable>,
    /// Frames left out because their times are outside of the range.
    pub pruned: usize,
}

/// A part of a tenant's data that cannot be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Name of the segment: safe to show to its tenant.
    pub segment: String,
    /// Its window of event time.
    pub window: Window,
    /// First byte that cannot be read; what lies before is in the snapshot.
    pub offset: u64,
    /// Why, without paths.
    pub reason: String,
}

impl Reader {
    /// A reader of a folder, which need not exist yet.
    pub fn open(root: &Path) -> Reader {
        Reader::open_on(Arc::new(RealDisk), root)
    }

    /// A reader on another file system: the seam for tests.
    pub fn open_on(disk: Arc<dyn Disk>, root: &Path) -> Reader {
        Reader(Arc::new(Shared {
            disk,
            root: root.to_owned(),
            indexes: Cache::new(INDEX_CACHE_BYTES),
            filters: Arc::default(),
        }))
    }

    /// The frames that may hold rows of a range. Blocks on the disk.
    ///
    /// Every row that was acknowledged before the call is in exactly one frame (ST-1), or its segment is listed as unreadable.
    /// Frames may hold rows outside of the range.
    ///
    /// # Errors
    /// `Retry` where a folder cannot be listed.
    pub fn snapshot(&self, tenant: &TenantId, signal: Signal, range: TimeRange) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot::default();
        let mut seen = HashMap::new();
        let touches = |window: Window| range.touches(window.start_nanos(), window.last_nanos());
        for name in self.0.segments(tenant, signal, &|window, late| late || touches(window))? {
            let path = self.0.path(tenant, signal, &name);
            if name.late && self.0.outside(tenant, signal, &name, range) {
                continue;
            }
            let found = self.0.index(tenant, signal, &name, &mut seen);
            self.0.add(tenant, signal, range, &name, path, found, &mut seen, &mut snapshot);
        }
        Ok(snapshot)
    }

    /// Visits the origins of all rows in the segments of the wanted windows (told whether they are of late rows), whoever
    /// wrote them. Reads no column. A batch that was cut has an origin in each of its frames. Gives how many frames and
    /// segments could not be read. Blocks on the disk.
    ///
    /// # Errors
    /// `Retry` where a folder cannot be listed.
    pub(crate) fn origins(
        &self,
        tenant: &TenantId,
        signal: Signal,
        wanted: &dyn Fn(Window, bool) -> bool,
        visit: &mut dyn FnMut(&Origin),
    ) -> Result<usize, StoreError> {
        let (mut seen, mut unreadable) = (HashMap::new(), 0);
        for name in self.0.segments(tenant, signal, wanted)? {
            let mut of_segment = Snapshot::default();
            let path = self.0.path(tenant, signal, &name);
            let found = self.0.index(tenant, signal, &name, &mut seen);
            self.0.add(tenant, signal, TimeRange::ALL, &name, path, found, &mut seen, &mut of_segment);
            unreadable += of_segment.unreadable.len();
            for frame in &of_segment.frames {
                match frame.origins() {
                    Ok(origins) => origins.iter().for_each(&mut *visit),
                    Err(error) => {
                        tracing::warn!(frame = frame.name(), %error, "the origins of a frame cannot be read");
                        unreadable += 1;
                    }
                }
            }
        }
        Ok(unreadable)
    }

    /// Whether a batch that was acknowledged with this token is in the snapshots from now on. Blocks on the disk.
    ///
    /// # Errors
    /// `Retry` where the disk fails.
    pub fn sees(&self, tenant: &TenantId, token: &Token) -> Result<bool, StoreError> {
        let mut seen = HashMap::new();
        for (name, frame) in &token.frames {
            match self.0.index(tenant, token.signal, name, &mut seen) {
                Ok(index) => match index.frames.get(*frame as usize) {
                    Some(entry) if self.0.stands(tenant, token.signal, name, &index, entry, &mut seen) => {}
                    _ => return Ok(false),
                },
                Err(NoIndex::Absent | NoIndex::Damaged(_)) => return Ok(false),
                Err(NoIndex::Io(e)) => return Err(StoreError::io("looked for a batch", e)),
            }
        }
        Ok(true)
    }

    /// The tenants that have a folder.
    ///
    /// # Errors
    /// `Retry` where the disk fails.
    pub fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        let names = self.0.list(&self.0.root.join("hot"))?;
        Ok(names.iter().filter_map(|n| n.parse().ok()).collect())
    }
}

/// Indexes that one snapshot has read already: all of it is of one moment.
type Seen = HashMap<SegmentName, Arc<SegmentIndex>>;

impl Shared {
    /// Names in a folder that may not exist.
    fn list(&self, dir: &Path) -> Result<Vec<String>, StoreError> {
        match self.disk.list(dir) {
            Ok(names) => Ok(names),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
            Err(e) => Err(StoreError::io("listed segments", e)),
        }
    }

    fn path(&self, tenant: &TenantId, signal: Signal, name: &SegmentName) -> PathBuf {
        self.root.join(name.dir(tenant, signal)).join(name.file_name())
    }

    /// Segments of the wanted windows (told whether they are of late rows), in order.
    fn segments(
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

    /// Whether a late segment that was closed says that it has no row of the range: two small reads instead of a walk.
    fn outside(&self, tenant: &TenantId, signal: Signal, name: &SegmentName, range: TimeRange) -> bool {
        let path = self.path(tenant, signal, name);
        if self.indexes.get(&path).is_some() {
            return false;
        }
        let mark = || -> Result<_, NoIndex> {
            let file = self.disk.open(&path)?;
            let (_, len) = file.identity()?;
            end_mark(&*file, len, name.header(tenant, signal).fingerprint())
        };
        matches!(mark(), Ok(Some(mark)) if !range.touches(mark.time_min, mark.time_max))
    }

    /// What stands in a segment now.
    fn index(
        &self,
        tenant: &TenantId,
        signal: Signal,
        name: &SegmentName,
        seen: &mut Seen,
    ) -> Result<Arc<SegmentIndex>, NoIndex> {
        if let Some(index) = seen.get(name) {
            return Ok(index.clone());
        }
        let path = self.path(tenant, signal, name);
        let before = self.indexes.get(&path);
        let valid = self.end_of(&path)?;
        let index = SegmentIndex::read(&*self.disk, &path, &name.header(tenant, signal), valid, before.as_deref())?;
        let index = Arc::new(index);
        self.indexes.put(path, index.clone(), index.memory_bytes());
        seen.insert(*name, index.clone());
        Ok(index)
    }

    /// The length of a segment's end link. One that is no number ends the segment at once: it was meant to.
    fn end_of(&self, path: &Path) -> Result<Option<u64>, NoIndex> {
        debug_assert!(crate::hot::segment::end_link(path).to_string_lossy().ends_with(END_SUFFIX));
        match self.disk.read_link(&crate::hot::segment::end_link(path)) {
            Ok(text) => Ok(Some(text.parse().unwrap_or(0))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(NoIndex::Io(e)),
        }
    }

    /// Whether a frame counts: its group was acknowledged, or is whole.
    fn stands(
        &self,
        tenant: &TenantId,
        signal: Signal,
        name: &SegmentName,
        index: &SegmentIndex,
        entry: &Entry,
        seen: &mut Seen,
    ) -> bool {
        if entry.end() <= index.confirmed {
            return true;
        }
        entry.siblings.iter().all(|s| {
            let other = SegmentName { window: Window::from_number(s.window), late: s.late, file: s.file, ..*name };
            if other == *name {
                return index.frames.len() > s.frame as usize;
            }
            self.index(tenant, signal, &other, seen).is_ok_and(|i| i.frames.len() > s.frame as usize)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "one step of a loop, cut out to be readable")]
    fn add(
        self: &Arc<Self>,
        tenant: &TenantId,
        signal: Signal,
        range: TimeRange,
        name: &SegmentName,
        path: PathBuf,
        found: Result<Arc<SegmentIndex>, NoIndex>,
        seen: &mut Seen,
        to: &mut Snapshot,
    ) {
        let unreadable =
            |offset, reason: String| Unreadable { segment: name.file_name(), window: name.window, offset, reason };
        let index = match found {
            Ok(index) => index,
            Err(NoIndex::Absent) => return,
            Err(NoIndex::Io(e)) => {
                tracing::error!(path = %path.display(), error = %e, "a segment cannot be read");
                return to.unreadable.push(unreadable(0, "the disk failed".into()));
            }
            Err(NoIndex::Damaged(damage)) => {
                tracing::error!(path = %path.display(), error = %damage, "a segment is damaged");
                return to.unreadable.push(unreadable(0, damage.to_string()));
            }
        };
        if let Some(fault) = index.fault.as_ref().filter(|f| f.lost) {
            tracing::error!(path = %path.display(), offset = fault.at, error = %fault.damage, "a segment is damaged");
            to.unreadable.push(unreadable(fault.at, fault.damage.to_string()));
        }
        let source: Arc<dyn Source> = Arc::new(HotFile { disk: self.disk.clone(), path, inode: index.inode });
        for entry in &index.frames {
            let header = &entry.meta.header;
            if !range.touches(header.time_min, header.time_max) {
                to.pruned += 1;
                continue;
            }
            if !self.stands(tenant, signal, name, &index, entry, seen) {
                break;
            }
            to.frames.push(Framed::frame(&source, &self.filters, entry.at, name.window, entry.meta.clone()));
        }
    }
}

/// A segment's file: opened anew for each read, and known again by its inode.
struct HotFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    inode: u64,
}

impl Source for HotFile {
    fn open(&self) -> Result<Arc<dyn File>, StoreError> {
        let failed = |e| StoreError::io("read a frame", e);
        let file = self.disk.open(&self.path).map_err(failed)?;
        if file.identity().map_err(failed)?.0 == self.inode { Ok(file) } else { Err(Damage::Foreign("frame").into()) }
    }

    fn identity(&self) -> u64 {
        self.inode
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn tier(&self) -> Tier {
        Tier::Hot
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
