//! Reading what any process wrote: snapshots, and frames that read only what is asked for.
//!
//! Folders are listed and files opened anew for each snapshot: only that shows what another node wrote on a network file
//! system. What stands in a file is remembered between snapshots by [`crate::scan`].

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prism_model::window::{TimeRange, Window};
use prism_model::{Batch, ColumnId, Origin, Signal, TableKind, TenantId};

use crate::cache::Cache;
use crate::disk::{Disk, RealDisk};
use crate::error::{Damage, StoreError};
use crate::frame::decode::{Blooms, FrameMeta, TokenFilter, TraceFilter};
use crate::frame::stats::ColumnMeta;
use crate::place::{END_SUFFIX, SegmentName, Token, parse_window_dir, signal_dir};
use crate::scan::{Entry, NoIndex, SegmentIndex, end_mark};

/// Bytes of remembered headers and statistics: about 10,000 frames of 80 columns, some ten minutes of 100,000 spans/s.
const INDEX_CACHE_BYTES: usize = 96 << 20;
/// Bytes of remembered filters of trace ids: about as many frames.
const TRACE_CACHE_BYTES: usize = 8 << 20;
/// Bytes of remembered filters of keys and values, which take some 20 KB of a frame.
const TOKEN_CACHE_BYTES: usize = 32 << 20;

/// A frame: its file, its place there, its segment's fingerprint.
type FrameKey = (u64, u64, u64);

/// Reads the hot store below a folder. Cheap to clone; any number in any process.
#[derive(Clone)]
pub struct Reader(Arc<Shared>);

struct Shared {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    indexes: Cache<PathBuf, Arc<SegmentIndex>>,
    traces: Cache<FrameKey, Arc<TraceFilter>>,
    tokens: Cache<FrameKey, Arc<TokenFilter>>,
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

/// Rows that were written together, most of one window. Cheap to clone; nothing is read until asked for.
#[derive(Clone)]
pub struct Frame(Arc<FrameInner>);

struct FrameInner {
    shared: Arc<Shared>,
    path: PathBuf,
    inode: u64,
    at: u64,
    window: Window,
    meta: Arc<FrameMeta>,
    stats: FrameStats,
}

/// What is known about a frame as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameStats {
    /// Items: spans, log records or points.
    pub rows: usize,
    /// Smallest event time ([`Batch::event_times`]), unix nanoseconds.
    pub time_min: i64,
    /// Largest event time, included.
    pub time_max: i64,
    /// Distinct `service.name`s; `None` where there are too many to list.
    pub services: Option<Vec<Arc<str>>>,
    /// Bytes on disk.
    pub bytes: u64,
}

/// What a read cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCost {
    /// Bytes read.
    pub bytes: u64,
    /// Reads.
    pub reads: u64,
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
            traces: Cache::new(TRACE_CACHE_BYTES),
            tokens: Cache::new(TOKEN_CACHE_BYTES),
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
        debug_assert!(crate::segment::end_link(path).to_string_lossy().ends_with(END_SUFFIX));
        match self.disk.read_link(&crate::segment::end_link(path)) {
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
        for entry in &index.frames {
            let header = &entry.meta.header;
            if !range.touches(header.time_min, header.time_max) {
                to.pruned += 1;
                continue;
            }
            if !self.stands(tenant, signal, name, &index, entry, seen) {
                break;
            }
            let stats = FrameStats {
                rows: header.rows as usize,
                time_min: header.time_min,
                time_max: header.time_max,
                services: entry.meta.services.clone(),
                bytes: header.span(),
            };
            to.frames.push(Frame(Arc::new(FrameInner {
                shared: self.clone(),
                path: path.clone(),
                inode: index.inode,
                at: entry.at,
                window: name.window,
                meta: entry.meta.clone(),
                stats,
            })));
        }
    }
}

impl Frame {
    /// What is known without a read.
    pub fn stats(&self) -> &FrameStats {
        &self.0.stats
    }

    /// The signal of the items.
    pub fn signal(&self) -> Signal {
        self.0.meta.signal
    }

    /// How many items.
    pub fn rows(&self) -> usize {
        self.0.stats.rows
    }

    /// Rows of a table; 0 where it is absent.
    pub fn table_rows(&self, table: TableKind) -> usize {
        self.0.meta.rows(table)
    }

    /// The columns of a table with their statistics; empty where it is absent. Nothing is read.
    pub fn columns(&self, table: TableKind) -> &[ColumnMeta] {
        self.0.meta.columns(table)
    }

    /// The window of the frame's segment; rows of a late segment may be of other times.
    pub fn window(&self) -> Window {
        self.0.window
    }

    /// A name that is unique among a tenant's frames of a signal and safe to show to it.
    pub fn name(&self) -> String {
        let file = self.0.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{}/{file}/{}", self.0.window.number(), self.0.meta.header.number)
    }

    /// `false` only where no span, log record, link or exemplar here has this trace id (QU-2). Reads the filter once.
    pub fn may_contain_trace(&self, id: &[u8; 16]) -> bool {
        let filter = self.0.shared.traces.get(&self.key()).or_else(|| Some(self.filters()?.traces));
        filter.is_none_or(|f| f.may_contain(id))
    }

    /// `false` only where no string attribute of any scope here has this key and exactly this value, nor one of the columns
    /// `name`, `severity_text`, `event_name`, `status_message` under its name as key (QU-2). Reads the filter once.
    pub fn may_contain_token(&self, key: &str, value: &str) -> bool {
        let filter = self.0.shared.tokens.get(&self.key()).or_else(|| Some(self.filters()?.tokens));
        filter.is_none_or(|f| f.may_contain(key, value))
    }

    fn key(&self) -> FrameKey {
        (self.0.inode, self.0.at, self.0.meta.header.segment)
    }

    /// The filters, from disk; `None` where they cannot be read, which must not lose rows.
    fn filters(&self) -> Option<Blooms> {
        let (frame, header) = (&self.0, &self.0.meta.header);
        let file = frame.shared.disk.open(&frame.path).ok()?;
        let mut bytes = vec![0; header.bloom_len as usize];
        let n = file.read_at(&mut bytes, frame.at + header.bloom_at()).ok()?;
        let filters = Blooms::read(header, bytes.get(..n)?).ok()?;
        frame.shared.traces.put(self.key(), filters.traces.clone(), filters.traces.memory_bytes());
        frame.shared.tokens.put(self.key(), filters.tokens.clone(), filters.tokens.memory_bytes());
        Some(filters)
    }

    /// The wanted columns; indices that hold tables together come always. Tables keep their number of rows even where no
    /// column of theirs is wanted. Blocks on the disk.
    ///
    /// # Errors
    /// `Retry` where the disk fails, `Bug` where bytes are not what was written: then nothing of the frame is returned.
    pub fn read(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Result<(Batch, ReadCost), StoreError> {
        let stretches = self.payload(self.0.meta.stretches(want)?)?;
        let bytes = stretches.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let cost = ReadCost { bytes, reads: stretches.len() as u64 };
        Ok((self.0.meta.rows_of(want, &stretches)?, cost))
    }

    /// Where the rows came from, without any column.
    fn origins(&self) -> Result<Vec<Origin>, StoreError> {
        let stretches = self.payload(vec![self.0.meta.origins_stretch()])?;
        let bytes = stretches.first().map_or(&[][..], |(_, bytes)| bytes);
        Ok(self.0.meta.origins_of(bytes)?)
    }

    /// Stretches (offset, length) of the payload with their bytes.
    fn payload(&self, stretches: Vec<(u64, u64)>) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let frame = &self.0;
        let failed = |e| StoreError::io("read a frame", e);
        let file = frame.shared.disk.open(&frame.path).map_err(failed)?;
        if file.identity().map_err(failed)?.0 != frame.inode {
            return Err(Damage::Foreign("frame").into());
        }
        let from = frame.at + frame.meta.header.payload_at();
        let read = |(offset, len): (u64, u64)| {
            let mut bytes = vec![0; len as usize];
            let n = file.read_at(&mut bytes, from + offset).map_err(failed)?;
            if n < bytes.len() { Err(Damage::Short("frame").into()) } else { Ok((offset, bytes)) }
        };
        stretches.into_iter().map(read).collect()
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame").field("name", &self.name()).field("stats", &self.0.stats).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
