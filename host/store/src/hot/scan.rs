//! What stands in a segment file: its frames, found by walking their headers, and remembered so that the next walk begins
//! where this one ended.
//!
//! A frame is accepted while all checks hold; the first failure ends the segment. Frames of which a later header (a claimed one or
//! the end mark too) says that they were acknowledged need no hash of their payload here: their buffers are checked when read.
//! The few that nothing confirms yet are hashed as a whole once, since a crash may have torn them.
//! Not here: what is remembered where only the newest frames are asked for ([`super::newest`]).

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, File, is_gone};
use crate::error::Damage;
use crate::frame::crypt::{DataKey, WrappedKey};
use crate::frame::decode::{FrameMeta, body_matches};
use crate::frame::header::{FRAME_HEADER, FrameHeader, SEGMENT_HEADER, SegmentHeader, claimed, is_claim};
use crate::frame::schema::{Siblings, TableColumn};
use crate::hot::list::end_of;
use crate::hot::newest::Mark;
use crate::keys::{KeyError, Keyring};

/// Bytes of one read while walking: header, schema and statistics of most frames.
const WALK_BYTES: usize = 16 << 10;
/// Bytes searched behind a damaged place for a proof that there were acknowledged rows.
const PROOF_BYTES_MAX: u64 = 64 << 20;

/// A frame in its file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: u64,
    pub(crate) meta: Arc<FrameMeta>,
    pub(crate) siblings: Arc<Siblings>,
    /// Length of the segment's list of columns before this frame.
    pub(super) columns_before: usize,
    /// Acknowledged, or hashed here.
    sound: bool,
}

impl Entry {
    /// Bytes in memory, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.meta.memory_bytes() + size_of::<Entry>()
    }

    pub(crate) fn end(&self) -> u64 {
        self.at + self.meta.header.span()
    }
}

/// Where and why a walk ended early.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) at: u64,
    pub(crate) damage: Damage,
    /// Acknowledged rows stood there; else it is a write that a crash cut short, and nothing is missing.
    pub(crate) lost: bool,
    file_len: u64,
}

/// What a walk found.
#[derive(Clone, Debug)]
pub(crate) struct SegmentIndex {
    pub(crate) inode: u64,
    /// Frames before the first of [`SegmentIndex::frames`]: none, but where only newer ones were asked for.
    pub(super) first: usize,
    pub(crate) frames: Vec<Entry>,
    /// Where every so manieth frame stands.
    pub(super) marks: Vec<Mark>,
    pub(crate) fault: Option<Fault>,
    /// All bytes below belong to acknowledged groups.
    pub(crate) confirmed: u64,
    /// The segment's, where it is encrypted.
    pub(super) key: Option<Arc<DataKey>>,
    pub(super) columns: Vec<TableColumn>,
    pub(super) next: u64,
    pub(super) closed: bool,
}

/// Why there is no index.
#[derive(Debug)]
pub(crate) enum NoIndex {
    /// One that is just being made.
    Absent,
    /// No such file: not yet, or not any more.
    Vanished,
    /// The disk failed.
    Io(io::Error),
    /// The file is not the segment that its name says.
    Damaged(Damage),
    /// Its key cannot be had.
    Locked(KeyError),
}

impl From<io::Error> for NoIndex {
    fn from(e: io::Error) -> NoIndex {
        if is_gone(&e) { NoIndex::Vanished } else { NoIndex::Io(e) }
    }
}

impl SegmentIndex {
    /// Bytes in memory, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let frames: usize = self.frames.iter().map(Entry::memory_bytes).sum();
        frames + self.columns.len() * 96 + self.marks.len() * size_of::<Mark>() + size_of::<SegmentIndex>()
    }

    /// Whether its writer ended it.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a file is still that of which this is the index, and its writer ended it: nothing else will be found in it.
    pub(crate) fn is_all_of(&self, disk: &dyn Disk, path: &Path) -> Result<bool, NoIndex> {
        Ok(self.closed && self.first == 0 && disk.open(path)?.identity()?.0 == self.inode)
    }

    /// Walks the file, from where `before` ended if that was of the same file. `valid` is the length of an end link.
    pub(crate) fn read(
        disk: &dyn Disk,
        path: &Path,
        expected: &SegmentHeader,
        valid: Option<u64>,
        before: Option<&SegmentIndex>,
        keys: &Keyring,
    ) -> Result<SegmentIndex, NoIndex> {
        SegmentIndex::read_from(disk, path, expected, valid, before, keys, 0)
    }

    /// The same of the frames from a number on, and some before it: holds no more of them in memory, and reads no more where
    /// `before` knows where they stand.
    pub(crate) fn read_from(
        disk: &dyn Disk,
        path: &Path,
        expected: &SegmentHeader,
        valid: Option<u64>,
        before: Option<&SegmentIndex>,
        keys: &Keyring,
        from: usize,
    ) -> Result<SegmentIndex, NoIndex> {
        let file = disk.open(path)?;
        let (inode, len) = file.identity()?;
        let before = before.filter(|b| b.inode == inode).and_then(|b| b.reaching(from, valid));
        let mut index = match before {
            Some(before) if before.closed && valid.is_none() => return Ok(before.into_owned()),
            Some(before) => {
                let mut index = before.into_owned();
                index.drop_undone(&*file)?;
                index
            }
            None => {
                let wrapped = check_segment(&*file, expected, len)?;
                let open = |w| keys.open_key(&expected.tenant, &w, &expected.to_bytes()).map_err(NoIndex::Locked);
                SegmentIndex {
                    inode,
                    first: 0,
                    frames: Vec::new(),
                    marks: Vec::new(),
                    fault: None,
                    confirmed: SEGMENT_HEADER as u64,
                    key: wrapped.map(open).transpose()?,
                    columns: Vec::new(),
                    next: SEGMENT_HEADER as u64,
                    closed: false,
                }
            }
        };
        if let Some(valid) = valid {
            index.cut(|frame| frame.end() <= valid);
            // A link ends a segment behind what stands, whether a group spans other segments or not.
            index.confirmed = index.confirmed.max(valid);
        }
        let mut walk = Walk::new(&*file, expected, valid.map_or(len, |v| v.min(len)));
        walk.grows = valid.is_none();
        let found = walk.on(&mut index, from)?;
        let len = if walk.grows { walk.len } else { len };
        index.verify(&*file)?;
        let known = index.fault.take().filter(|f| f.at == index.next && f.file_len == len);
        index.fault = match (found, known) {
            (_, Some(known)) if !index.closed => Some(known),
            (found, _) => index.judge(&walk, found, len)?,
        };
        match valid {
            // What stood when the segment was ended stands for ever.
            Some(valid) if index.next < valid && index.fault.as_ref().is_none_or(|f| !f.lost) => {
                let damage = index.fault.take().map_or(Damage::Short("segment"), |f| f.damage);
                index.fault = Some(Fault { at: index.next, damage, lost: true, file_len: len });
            }
            Some(_) => {}
            // It may have been ended while it was read, and what came behind the end by a writer that was fenced is not there.
            None if index.frames.last().is_some_and(|f| f.end() > index.confirmed) => {
                if let Some(valid) = end_of(disk, path)? {
                    index.cut(|frame| frame.end() <= valid);
                    index.confirmed = index.confirmed.max(valid);
                }
            }
            None => {}
        }
        Ok(index)
    }

    /// Frames that nothing confirmed may have been undone since, or undone and followed by others.
    fn drop_undone(&mut self, file: &dyn File) -> Result<(), NoIndex> {
        let first = self.frames.iter().position(|f| f.end() > self.confirmed).unwrap_or(self.frames.len());
        for i in first..self.frames.len() {
            let mut header = [0; FRAME_HEADER];
            let n = file.read_at(&mut header, self.frames[i].at)?;
            if n < FRAME_HEADER || header != self.frames[i].meta.header.to_bytes() {
                let at = self.frames[i].at;
                self.cut(|frame| frame.at < at);
                break;
            }
        }
        Ok(())
    }

    /// Keeps the frames that hold up to the first that does not.
    fn cut(&mut self, keep: impl Fn(&Entry) -> bool) {
        let Some(first) = self.frames.iter().position(|f| !keep(f)) else { return };
        self.next = self.frames[first].at;
        self.columns.truncate(self.frames[first].columns_before);
        self.frames.truncate(first);
        self.forget_marks();
        self.closed = false;
    }

    /// Hashes frames that no later header confirms; one that does not match ends the segment.
    fn verify(&mut self, file: &dyn File) -> Result<(), NoIndex> {
        for i in 0..self.frames.len() {
            let entry = &mut self.frames[i];
            if entry.sound || entry.end() <= self.confirmed {
                entry.sound = true;
                continue;
            }
            let mut body = vec![0; entry.meta.header.body_len() as usize];
            let n = file.read_at(&mut body, entry.at + FRAME_HEADER as u64)?;
            if n < body.len() || !body_matches(&entry.meta.header, &body) {
                let at = entry.at;
                self.cut(|frame| frame.at < at);
                return Ok(());
            }
            self.frames[i].sound = true;
        }
        Ok(())
    }

    /// Tells a write that a crash cut short from acknowledged rows that are damaged.
    fn judge(&self, walk: &Walk<'_>, found: Option<Damage>, len: u64) -> Result<Option<Fault>, NoIndex> {
        if self.closed {
            return Ok(None);
        }
        let fault = |damage, lost| Some(Fault { at: self.next, damage, lost, file_len: len });
        // The end mark confirms everything before it.
        if let Some(mark) = walk.end_mark()?
            && mark.confirmed > self.next
        {
            return Ok(fault(found.unwrap_or(Damage::Checksum("frame header")), true));
        }
        let Some(damage) = found else { return Ok(None) };
        if matches!(damage, Damage::Version { .. }) {
            return Ok(fault(damage, true));
        }
        let lost = walk.later_header(self.next, self.next + 1)?;
        Ok(fault(damage, lost))
    }
}

fn check_segment(file: &dyn File, expected: &SegmentHeader, len: u64) -> Result<Option<WrappedKey>, NoIndex> {
    let mut bytes = [0; SEGMENT_HEADER];
    let n = file.read_at(&mut bytes, 0)?;
    let blank = n < SEGMENT_HEADER || bytes == [0; SEGMENT_HEADER];
    let (found, key) = match SegmentHeader::from_bytes(&bytes) {
        Ok(found) => found,
        Err(damage @ Damage::Version { .. }) => return Err(NoIndex::Damaged(damage)),
        Err(damage) => {
            // The header is durable before any frame is acknowledged. A blank one is from before a crash, unless a frame tells
            // of an acknowledged one before it; a torn one is of a file that could not be begun, unless there is any frame.
            let walk = Walk::new(file, expected, len);
            let begin = SEGMENT_HEADER as u64;
            let ended = walk.end_mark()?.is_some_and(|mark| mark.confirmed > begin);
            let lost = ended || walk.later_header(begin, if blank { begin + 1 } else { begin })?;
            return Err(if lost { NoIndex::Damaged(damage) } else { NoIndex::Absent });
        }
    };
    // ST-2: a segment holds one tenant, signal and window, and says which.
    if found == *expected { Ok(key) } else { Err(NoIndex::Damaged(Damage::Foreign("segment"))) }
}

struct Walk<'a> {
    file: &'a dyn File,
    fingerprint: u64,
    epoch: u64,
    len: u64,
    /// Whether the file may have become longer since its length was asked for.
    grows: bool,
    chunk: Vec<u8>,
    chunk_at: u64,
}

impl<'a> Walk<'a> {
    fn new(file: &'a dyn File, expected: &SegmentHeader, len: u64) -> Walk<'a> {
        let (fingerprint, epoch) = (expected.fingerprint(), expected.epoch);
        Walk { file, fingerprint, epoch, len, grows: false, chunk: Vec::new(), chunk_at: 0 }
    }

    /// Adds frames to the index up to the end, the end mark, or the first failure; lets those go that come before `from`.
    fn on(&mut self, index: &mut SegmentIndex, from: usize) -> Result<Option<Damage>, NoIndex> {
        while !index.closed && index.next + FRAME_HEADER as u64 <= self.len {
            match self.frame(index)? {
                Ok(true) => index.forget(from),
                Ok(false) => return Ok(None),
                Err(damage) => return Ok(Some(damage)),
            }
        }
        Ok(None)
    }

    /// One frame; `false` where none was written yet.
    fn frame(&mut self, index: &mut SegmentIndex) -> Result<Result<bool, Damage>, NoIndex> {
        let (at, own) = (index.next, (self.fingerprint, self.epoch));
        let head = self.bytes(at, FRAME_HEADER)?;
        let Some(head) = head.first_chunk::<FRAME_HEADER>() else { return Ok(Err(Damage::Short("frame header"))) };
        if head[..8] == [0; 8] {
            return Ok(Ok(false));
        }
        if is_claim(head) {
            // Whoever claims what comes next says what was acknowledged before it.
            if let Ok(claim) = claimed(head)
                && (claim.segment, claim.epoch) == own
                && claim.number as usize == index.count()
                && claim.confirmed <= at
            {
                index.confirmed = index.confirmed.max(claim.confirmed);
            }
            return Ok(Ok(false));
        }
        let header = match FrameHeader::from_bytes(head) {
            Ok(header) => header,
            Err(damage) => return Ok(Err(damage)),
        };
        let in_order = header.number as usize == index.count() && header.schema_base as usize == index.columns.len();
        if (header.segment, header.epoch) != own {
            return Ok(Err(Damage::Foreign("frame")));
        }
        if !in_order || header.confirmed > at {
            return Ok(Err(Damage::Bounds("frame number")));
        }
        if header.close {
            index.confirmed = at;
            index.closed = true;
            return Ok(Ok(true));
        }
        if at + header.span() > self.len && self.grows {
            // Its writer made room for the frame after the length was asked for.
            self.len = self.len.max(self.file.identity()?.1);
        }
        if at + header.span() > self.len {
            return Ok(Err(Damage::Short("frame")));
        }
        let (schema_len, meta_len) = (header.schema_len as usize, header.meta_len as usize);
        let blocks = self.bytes(at + FRAME_HEADER as u64, schema_len + meta_len)?.to_vec();
        let columns_before = index.columns.len();
        let confirmed = header.confirmed;
        let like = index.frames.last().map(|entry| &*entry.meta);
        match FrameMeta::open(header, &blocks, index.key.as_ref(), &mut index.columns, like) {
            Ok((meta, siblings)) => {
                let entry =
                    Entry { at, meta: Arc::new(meta), siblings: Arc::new(siblings), columns_before, sound: false };
                index.next = entry.end();
                index.confirmed = index.confirmed.max(confirmed);
                index.mark(&entry);
                index.frames.push(entry);
                Ok(Ok(true))
            }
            Err(damage) => Ok(Err(damage)),
        }
    }

    /// Up to `n` bytes at an offset, read with what follows.
    fn bytes(&mut self, at: u64, n: usize) -> Result<&[u8], NoIndex> {
        let have = at.checked_sub(self.chunk_at).filter(|from| from + n as u64 <= self.chunk.len() as u64);
        let from = match have {
            Some(from) => from as usize,
            None => {
                self.chunk.resize(n.max(WALK_BYTES), 0);
                let read = self.file.read_at(&mut self.chunk, at)?;
                self.chunk.truncate(read);
                self.chunk_at = at;
                0
            }
        };
        Ok(&self.chunk[from..self.chunk.len().min(from + n)])
    }

    /// The mark at the end of a file that was closed.
    fn end_mark(&self) -> Result<Option<FrameHeader>, NoIndex> {
        end_mark(self.file, self.len, self.fingerprint)
    }

    /// Whether a whole header, or the claim of one, stands at `at` or behind and says that all below `confirmed` was acknowledged.
    fn later_header(&self, at: u64, confirmed: u64) -> Result<bool, NoIndex> {
        let end = self.len.min(at.saturating_add(PROOF_BYTES_MAX));
        // A claim is durable by chance: it proves only what it says of frames before it.
        let claims = |head: &[u8; FRAME_HEADER]| claimed(head).ok().filter(|c| c.confirmed > SEGMENT_HEADER as u64);
        let mut chunk = vec![0; 1 << 20];
        let mut from = at;
        while from + (FRAME_HEADER as u64) <= end {
            let n = self.file.read_at(&mut chunk, from)?;
            let (mut i, bytes) = (0, &chunk[..n]);
            while i + FRAME_HEADER <= n {
                let magic = bytes[i..].starts_with(b"PFRM") || is_claim(&bytes[i..]);
                if magic
                    && let Some(head) = bytes[i..].first_chunk::<FRAME_HEADER>()
                    && let Some(header) = FrameHeader::from_bytes(head).ok().or_else(|| claims(head))
                    && header.segment == self.fingerprint
                    && header.confirmed >= confirmed
                {
                    return Ok(true);
                }
                i += crate::frame::header::ALIGN as usize;
            }
            if n < chunk.len() {
                break;
            }
            from += i as u64;
        }
        Ok(false)
    }
}

/// The end mark of a file of this length, where it has one.
pub(crate) fn end_mark(file: &dyn File, len: u64, fingerprint: u64) -> Result<Option<FrameHeader>, NoIndex> {
    let Some(at) = len.checked_sub(FRAME_HEADER as u64).filter(|at| *at >= SEGMENT_HEADER as u64) else {
        return Ok(None);
    };
    let mut bytes = [0; FRAME_HEADER];
    if file.read_at(&mut bytes, at)? < FRAME_HEADER {
        return Ok(None);
    }
    let mark = FrameHeader::from_bytes(&bytes).ok();
    Ok(mark.filter(|m| m.close && m.segment == fingerprint && m.confirmed == at))
}
