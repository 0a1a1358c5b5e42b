//! What other writers stored of a tenant's signal, told once: what makes a request known to every process.
//!
//! A look lists the windows that may hold new rows and goes on in each file where the one before ended, so that it costs what
//! others wrote since. Told are only frames that cannot be undone any more: what stands behind them, or the end of their segment,
//! says that they are acknowledged or were ended as whole by an observer. One of which nothing says so yet is told as under way to
//! whoever asks for it, as is what another writer claims ([`super::segment`]): its writer is about to sync it, or to take it
//! back, and died where neither comes, so that an observer ends its segment.
//!
//! Where no other writer has a lease nothing is listed but the leases, for a second at a time: a batch that a process stored which
//! began and ended within that second is told at its end.
//!
//! What was sealed and deleted between two looks is told by its block. That takes the read grace at least, so blocks are listed
//! only where the look before is half as long ago: who looks all the time asks the object store nothing.
//!
//! Not here: who remembers what was told, and for how long (`prism-ingest`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prism_model::window::{TimeRange, Window};
use prism_model::{BatchId, Origin, Signal, TenantId};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::framed::{Filters, Framed, Source};
use crate::hot::lease::{parse_writer, writers_dir};
use crate::hot::list::siblings;
use crate::hot::scan::{Entry, NoIndex, SegmentIndex};
use crate::hot::segment::end_link;
use crate::hot::source::HotFile;
use crate::keys::Keyring;
use crate::place::{SegmentName, Token, parse_window_dir, signal_dir};
use crate::warm::Blocks;

/// Times that a segment is read anew because what stands behind its frames was none a moment before.
const CLAIM_LOOKS_MAX: usize = 8;

/// Bytes of remembered headers of segments: those of some 3,000 frames of 80 columns.
const INDEX_CACHE_BYTES: usize = 32 << 20;
/// Of each segment the newest that take so many bytes: those of some 100 frames, more than come between two looks. Who is
/// further behind reads them again.
const SEGMENT_CACHE_BYTES: usize = 1 << 20;

/// For so long it is believed that what was not there when nobody else wrote is not there now: another writer has a lease while
/// it writes, and one that came and went since leaves its segments.
pub(super) const ALONE_MAX: Duration = Duration::from_secs(1);

/// How far one has looked at a tenant's signal. A new one has seen nothing.
#[derive(Debug, Default)]
pub struct Followed {
    segments: BTreeMap<SegmentName, Told>,
    /// The last look. At the first one the own segments are told too, of which nothing new is to be learnt after.
    looked: Option<Instant>,
    /// Whether no other writer had a lease when its segments were looked at last, and nothing of another was left to be told.
    alone: bool,
    /// By shard the last block that was told.
    blocks: BTreeMap<u32, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    frames: usize,
    /// The segment is ended and all of it told: it is not opened again.
    done: bool,
    /// Frames stand in it that nothing confirms yet.
    waits: bool,
}

/// A batch that is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Where its rows came from; where a batch was cut, of one part.
    pub origin: Origin,
    /// Names its frames.
    pub token: Token,
}

/// What a look found besides batches that are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Frames and segments that could not be read; those are tried again at the next look.
    pub unread: usize,
    /// Batches that were asked for and that other writers are about to store, or were when they died: which of the two is told
    /// when the lease of a writer that is dead is over.
    pub under_way: Vec<BatchId>,
}

/// Looks at what others write.
pub(crate) struct Follower {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    keys: Keyring,
    indexes: Cache<PathBuf, Arc<SegmentIndex>>,
    pub(super) filters: Arc<Filters>,
    /// Where sealed segments go, and how long they stay behind their blocks at least.
    blocks: OnceLock<(Blocks, Duration)>,
}

/// What one look is for.
pub(crate) struct Wanted<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) signal: Signal,
    /// The own one, whose new rows are no news.
    pub(crate) writer: u64,
    /// Which windows may hold new rows; told whether they are of late rows.
    pub(crate) window: &'a dyn Fn(Window, bool) -> bool,
    /// Batches that are told as under way where others claim them, or nothing confirms them yet.
    pub(crate) batch: &'a dyn Fn(&BatchId) -> bool,
}

impl Follower {
    pub(crate) fn new(disk: Arc<dyn Disk>, root: &Path, keys: Keyring) -> Follower {
        let indexes = Cache::new(INDEX_CACHE_BYTES);
        Follower { disk, root: root.to_owned(), keys, indexes, filters: Arc::default(), blocks: OnceLock::new() }
    }

    /// Where sealed segments go, and how long they stay behind their blocks. Set once.
    pub(crate) fn blocks(&self, blocks: Blocks, grace: Duration) {
        let _already_set = self.blocks.set((blocks, grace));
    }

    /// Visits the batches of all segments at first, and then of what others wrote since.
    pub(crate) fn look(
        &self,
        wanted: &Wanted<'_>,
        followed: &mut Followed,
        visit: &mut dyn FnMut(Stored),
    ) -> Result<Others, StoreError> {
        let now = Instant::now();
        let since = followed.looked.map(|looked| now.duration_since(looked));
        // One that was there at the look before may have written until it left.
        let alone = self.is_alone(wanted.writer);
        if std::mem::replace(&mut followed.alone, alone) && alone && since.is_some_and(|since| since < ALONE_MAX) {
            return Ok(Others::default());
        }
        let names = self.segments(wanted, followed.looked.is_none())?;
        followed.segments.retain(|name, _| (wanted.window)(name.window, name.late));
        let (mut others, mut waits) = (Others::default(), false);
        for name in names {
            let told = followed.segments.entry(name).or_default();
            if told.done {
                continue;
            }
            let error = match self.segment(wanted, name, told, visit) {
                Ok(claimed) => {
                    others.under_way.extend(claimed);
                    waits |= told.waits && name.writer != wanted.writer;
                    continue;
                }
                Err(NoIndex::Absent | NoIndex::Vanished) => continue,
                // It does not become readable by looking at it again.
                Err(NoIndex::Damaged(error)) => {
                    told.done = true;
                    error.to_string()
                }
                Err(NoIndex::Io(error)) => error.to_string(),
                Err(NoIndex::Locked(error)) => error.to_string(),
            };
            tracing::warn!(segment = name.file_name(), error, "the requests of a segment cannot be read");
            others.unread += 1;
        }
        // After the segments: one that was gone when they were listed is in a block by now.
        if let Some((blocks, grace)) = self.blocks.get()
            && since.is_none_or(|since| since >= *grace / 2)
        {
            others.unread += sealed(blocks, wanted, followed, visit)?;
        }
        // A dead writer may have no lease and yet frames whose fate is open.
        followed.alone &= !waits && others.unread == 0;
        followed.looked = Some(now);
        Ok(others)
    }

    /// Whether no other writer has a lease: one listing instead of one for each window.
    pub(super) fn is_alone(&self, writer: u64) -> bool {
        let listed = self.disk.list(&self.root.join(writers_dir()));
        listed.is_ok_and(|names| names.iter().filter_map(|name| parse_writer(name)).all(|other| other == writer))
    }

    /// Segments of the wanted windows in order: others', or all.
    pub(super) fn segments(&self, wanted: &Wanted<'_>, own: bool) -> Result<Vec<SegmentName>, StoreError> {
        let list = |dir: &Path| match self.disk.list(dir) {
            Ok(names) => Ok(names),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
            Err(e) => Err(StoreError::io("listed segments", e)),
        };
        let dir = self.root.join(signal_dir(wanted.tenant, wanted.signal));
        let mut names = Vec::new();
        for shard_name in list(&dir)? {
            let Ok(shard) = shard_name.parse::<u32>() else { continue };
            let shard_dir = dir.join(&shard_name);
            for window_name in list(&shard_dir)? {
                let Some((window, late)) = parse_window_dir(&window_name) else { continue };
                if (wanted.window)(window, late) {
                    let files = list(&shard_dir.join(&window_name))?;
                    names.extend(files.iter().filter_map(|f| SegmentName::parse(shard, window, late, f)));
                }
            }
        }
        names.retain(|name| own || name.writer != wanted.writer);
        names.sort_unstable();
        Ok(names)
    }

    /// Tells what became of a segment. Gives the batches that were asked for and that its writer is about to store.
    fn segment(
        &self,
        wanted: &Wanted<'_>,
        name: SegmentName,
        told: &mut Told,
        visit: &mut dyn FnMut(Stored),
    ) -> Result<Vec<BatchId>, NoIndex> {
        let mut before = None;
        for _ in 0..CLAIM_LOOKS_MAX {
            let (index, linked) = self.index(wanted, &name, told.frames)?;
            let mut under_way = self.frames(wanted, name, &index, told, visit)?;
            told.done = linked || index.is_closed();
            // The own claims are this look's reason.
            if told.done || name.writer == wanted.writer {
                return Ok(under_way);
            }
            let file = self.disk.open(&self.path(wanted, &name))?;
            match index.claims(&*file, name.header(wanted.tenant, wanted.signal).fingerprint())? {
                Ok(claimed) => {
                    under_way.extend(claimed.into_iter().filter(|id| (wanted.batch)(id)));
                    return Ok(under_way);
                }
                // What was claimed before stands by now, or was taken back; what a crash cut short stays what it is.
                Err(unclear) if before == Some(unclear) => return Ok(under_way),
                Err(unclear) => before = Some(unclear),
            }
        }
        Err(NoIndex::Io(io::Error::other("a segment changes all the time")))
    }

    /// Tells the frames of a segment that stand. Gives the batches that were asked for of those that may stand or not.
    fn frames(
        &self,
        wanted: &Wanted<'_>,
        name: SegmentName,
        index: &SegmentIndex,
        told: &mut Told,
        visit: &mut dyn FnMut(Stored),
    ) -> Result<Vec<BatchId>, NoIndex> {
        let source: Arc<dyn Source> = Arc::new(self.file(wanted, &name, index.inode));
        let mut under_way = Vec::new();
        told.waits = false;
        for number in told.frames..index.count() {
            let Some(entry) = index.frame(number) else { break };
            let settled = entry.end() <= index.confirmed;
            let frame = Framed::frame(&source, &self.filters, entry.at, name.window, entry.meta.clone());
            let origins = frame.origins().map_err(broken)?;
            if !settled {
                // Those behind it are not confirmed either, but one of them may be what is asked for.
                told.waits = true;
                under_way.extend(origins.iter().map(|origin| origin.batch_id).filter(|id| (wanted.batch)(id)));
                continue;
            }
            let token = || Token { signal: wanted.signal, frames: frames_of(&name, number, entry) };
            origins.into_iter().for_each(|origin| visit(Stored { origin, token: token() }));
            told.frames = number + 1;
        }
        Ok(under_way)
    }

    /// What stands in a segment from a frame on, and perhaps before, and whether a link ends it. Reads what came since this was
    /// called last.
    pub(super) fn index(
        &self,
        wanted: &Wanted<'_>,
        name: &SegmentName,
        from: usize,
    ) -> Result<(Arc<SegmentIndex>, bool), NoIndex> {
        let path = self.path(wanted, name);
        let valid = match self.disk.read_link(&end_link(&path)) {
            // One that is no number ends the segment at once: it was meant to.
            Ok(text) => Some(text.parse().unwrap_or(0)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(NoIndex::Io(e)),
        };
        let before = self.indexes.get(&path);
        let header = name.header(wanted.tenant, wanted.signal);
        let (disk, before) = (&*self.disk, before.as_deref());
        let index = Arc::new(SegmentIndex::read_from(disk, &path, &header, valid, before, &self.keys, from)?);
        let kept = match index.memory_bytes() {
            bytes if bytes > SEGMENT_CACHE_BYTES => Arc::new(index.newest(SEGMENT_CACHE_BYTES)),
            _ => index.clone(),
        };
        let bytes = kept.memory_bytes();
        self.indexes.put(path, kept, bytes);
        Ok((index, valid.is_some()))
    }

    fn path(&self, wanted: &Wanted<'_>, name: &SegmentName) -> PathBuf {
        self.root.join(name.dir(wanted.tenant, wanted.signal)).join(name.file_name())
    }

    pub(super) fn file(&self, wanted: &Wanted<'_>, name: &SegmentName, inode: u64) -> HotFile {
        HotFile { disk: self.disk.clone(), path: self.path(wanted, name), inode }
    }
}

/// What blocks tell of segments that were not told to their end.
fn sealed(
    blocks: &Blocks,
    wanted: &Wanted<'_>,
    followed: &mut Followed,
    visit: &mut dyn FnMut(Stored),
) -> Result<usize, StoreError> {
    let mut unread = 0;
    for shard in blocks.shards(wanted.tenant, wanted.signal)? {
        let last = followed.blocks.get(&shard).copied().unwrap_or(0);
        for found in blocks.look(wanted.tenant, wanted.signal, shard, last)? {
            followed.blocks.insert(shard, found.seq);
            let Ok(block) = found.block else {
                unread += 1;
                continue;
            };
            let news = block.sources.iter().any(|source| {
                let told = followed.segments.get(&source.name).is_some_and(|told| told.done);
                (wanted.window)(source.name.window, source.name.late) && !told
            });
            for frame in block.frames(TimeRange::ALL).iter().filter(|_| news) {
                let Ok(origins) = frame.origins() else {
                    unread += 1;
                    continue;
                };
                // It is in every snapshot from now on: there is nothing to wait for.
                let token = || Token { signal: wanted.signal, frames: Vec::new() };
                origins.into_iter().for_each(|origin| visit(Stored { origin, token: token() }));
            }
        }
    }
    Ok(unread)
}

/// The last frame of a batch in each of its segments, as its acknowledgement names them.
fn frames_of(name: &SegmentName, number: usize, entry: &Entry) -> Vec<(SegmentName, u32)> {
    if entry.siblings.is_empty() {
        return vec![(*name, u32::try_from(number).unwrap_or(u32::MAX))];
    }
    siblings(name, entry).collect()
}

fn broken(error: StoreError) -> NoIndex {
    match error {
        StoreError::Damaged(damage) => NoIndex::Damaged(damage),
        other => NoIndex::Io(io::Error::other(other)),
    }
}
