//! One writer's file for a tenant, signal and window.
//!
//! Frames are written at their own offsets: the bodies of a group first, then its headers, so that a killed process leaves no
//! header without its body behind. They stay *pending* until their whole group is durable in all of its files
//! ([`SegmentWriter::commit`]). A group that fails before its headers leaves nothing ([`SegmentWriter::retract`]); one that
//! fails after ends its files before it ([`Limbo`]), and they are never written again, as no file is after a restart.
//! Between the two a group whose batches nobody else may store is *claimed* ([`SegmentWriter::claim`]): other writers see
//! which batches it is of. Behind the last group that is acknowledged its end is claimed, which tells all others that the group
//! stays.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prism_model::{Signal, TenantId};

use crate::disk::{Disk, File, Made, begin_dirs};
use crate::frame::crypt::{Crypt, DataKey};
use crate::frame::encode::{Encoded, Position};
use crate::frame::header::{FIRST_FRAME_VERSION, FRAME_HEADER, FrameHeader, SEGMENT_HEADER, claim};
use crate::frame::schema::{SegmentSchema, Siblings};
use crate::keys::{KeyError, Keyring};
use crate::place::{END_SUFFIX, SegmentName};

/// The first extent where nothing is known of the rate; each next one is twice as long. 3,000 quiet segments hold 48 MiB.
const EXTENT_BYTES_MIN: u64 = 16 << 10;
/// The longest extent.
const EXTENT_BYTES_MAX: u64 = 16 << 20;
/// A first extent is this part of what the segment before took: a busy tenant seldom asks for more room, and holds at most
/// about as much again as it writes.
const EXTENT_PART: u64 = 4;
/// Times that a folder is made again which went before the file in it was made.
const FOLDER_ATTEMPTS: usize = 8;
/// Zeros that follow a frame, where the next header will be: bytes of an attempt that failed must not stand there.
const END_MARK: [u8; 8] = [0; 8];

/// Creates segments: remembers which folders are known to be durable.
pub(crate) struct Folders {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: PathBuf,
    pub(crate) known: Mutex<HashSet<PathBuf>>,
    pub(crate) keys: Keyring,
    /// Files that could not be begun, nor removed: they would stay open as long as their writer lives.
    pub(crate) litter: Mutex<Vec<PathBuf>>,
}

impl Folders {
    /// Removes what could not be removed before; whether nothing is left of it.
    pub(crate) fn tidy(&self) -> bool {
        let litter = std::mem::take(&mut *self.litter.lock());
        litter.into_iter().for_each(|path| self.discard(path));
        self.litter.lock().is_empty()
    }

    fn discard(&self, path: PathBuf) {
        match self.disk.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => self.litter.lock().push(path),
            _ => {}
        }
    }
}

struct Pending {
    at: u64,
    header: [u8; FRAME_HEADER],
}

/// Smallest and largest time of no frame.
const NO_TIMES: (i64, i64) = (i64::MAX, i64::MIN);

/// A segment that is being written.
pub(crate) struct SegmentWriter {
    pub(crate) name: SegmentName,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    fingerprint: u64,
    /// What encrypts the frames, and the frames that were tried under it: that count only goes up, whatever is undone.
    key: Option<Arc<DataKey>>,
    tried: u64,
    schema: SegmentSchema,
    /// Bytes below belong to acknowledged groups.
    confirmed: u64,
    /// Where the next frame goes.
    end: u64,
    frames: u32,
    reserved: u64,
    extent: u64,
    /// Folders whose names are not durable yet, and its own.
    made: Vec<Made>,
    pending: Vec<Pending>,
    /// Claims of pending frames may stand in the file.
    claimed: bool,
    /// Headers of pending frames may stand in the file.
    published: bool,
    /// Others see what is written when it is synced, and what was acknowledged last was not told since.
    hides: bool,
    shows_late: bool,
    before: Before,
    times: (i64, i64),
    /// When it had its last group.
    pub(crate) used: Instant,
    /// When it is closed though rows still come, unix nanoseconds.
    pub(crate) closes: i64,
}

/// What a group that is retracted goes back to.
struct Before {
    times: (i64, i64),
    frames: u32,
    schema: u32,
}

/// When a segment is made, and what is known then.
pub(crate) struct Begin {
    pub(crate) now: Instant,
    /// See [`SegmentWriter::closes`].
    pub(crate) closes: i64,
    /// Bytes that the lane's segment before took; 0 where there was none.
    pub(crate) bytes_before: u64,
}

/// A group that is to be taken back: its files are ended before it, in the order of their names. Whoever makes the first of
/// these links decides whether the group is there, its writer or an observer that thinks the writer dead (`takeover`).
pub(crate) struct Limbo {
    disk: Arc<dyn Disk>,
    files: Vec<Ended>,
}

struct Ended {
    path: PathBuf,
    file: Arc<dyn File>,
    /// Where the group begins.
    valid: u64,
    /// Offsets of its headers.
    headers: Vec<u64>,
}

/// What became of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is not there, and never will be.
    Undone,
    /// Another process saw it as a whole, and ended the files behind it.
    Kept,
}

impl SegmentWriter {
    /// A new file with its header. Its name and content are durable with the first commit.
    pub(crate) fn create(
        folders: &Folders,
        tenant: &TenantId,
        signal: Signal,
        name: SegmentName,
        begin: &Begin,
    ) -> io::Result<SegmentWriter> {
        let disk = folders.disk.clone();
        let header = name.header(tenant, signal);
        // First, so that nothing is there where the key is not to be had.
        let (key, wrapped) = folders.keys.data_key(tenant, &header.to_bytes())?.unzip();
        let below = name.dir(tenant, signal);
        let dir = folders.root.join(&below);
        let path = dir.join(name.file_name());
        let mut attempts = 0;
        let (file, mut made) = loop {
            let made = begin_dirs(&*disk, &folders.known, &folders.root, &below)?;
            match disk.create_new(&path) {
                Ok(file) => break (file, made),
                // A folder that is empty is removed when its segments are (`seal`), and may have been between the two.
                Err(e) if e.kind() == io::ErrorKind::NotFound && attempts < FOLDER_ATTEMPTS => attempts += 1,
                Err(e) => {
                    // It may have been made though the reply said otherwise.
                    folders.discard(path);
                    return Err(e);
                }
            }
        };
        made.push(Made { parent: dir.clone(), known: None });
        let begun = file
            .write_all_at(&header.with_key(wrapped.as_ref()), 0)
            // An erasure that listed the folder before the file was there leaves its removal to this writer.
            .and_then(|()| Ok(folders.keys.admit(tenant, true)?));
        // An empty or torn file is skipped by readers.
        begun.inspect_err(|e| {
            folders.discard(path.clone());
            // Of an erased tenant not even folders stay.
            if e.get_ref().is_some_and(|e| e.is::<KeyError>()) {
                let hot = folders.root.join("hot");
                dir.ancestors().take_while(|d| **d != hot).take_while(|d| disk.remove_dir(d).is_ok()).for_each(drop);
            }
        })?;
        Ok(SegmentWriter {
            name,
            path,
            disk,
            hides: false,
            shows_late: file.shows_late(),
            file,
            fingerprint: header.fingerprint(),
            key,
            tried: 0,
            schema: SegmentSchema::default(),
            confirmed: SEGMENT_HEADER as u64,
            end: SEGMENT_HEADER as u64,
            frames: 0,
            reserved: SEGMENT_HEADER as u64,
            extent: (begin.bytes_before / EXTENT_PART).next_power_of_two().clamp(EXTENT_BYTES_MIN, EXTENT_BYTES_MAX),
            made,
            pending: Vec::new(),
            claimed: false,
            published: false,
            before: Before { times: NO_TIMES, frames: 0, schema: 0 },
            times: NO_TIMES,
            used: begin.now,
            closes: begin.closes,
        })
    }

    /// Whether a group was begun and neither committed nor undone.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Number of the next frame.
    pub(crate) fn next_frame(&self) -> u32 {
        self.frames
    }

    /// Bytes of acknowledged frames, with the header.
    pub(crate) fn bytes(&self) -> u64 {
        self.confirmed
    }

    /// Writes a frame but for its header, which makes it visible: [`SegmentWriter::publish`]. `siblings` are the last frames of
    /// its group in each of its files, none where the group is this frame alone. Gives its bytes.
    pub(crate) fn write(&mut self, frame: &Encoded, group: u64, siblings: &Siblings) -> io::Result<u64> {
        let (block, new) = self.schema.block(&frame.columns, siblings);
        let crypt = self.key.as_deref().map(|key| Crypt { key, nonce: self.tried });
        self.tried += 1;
        let at = Position {
            segment: self.fingerprint,
            number: self.frames,
            epoch: self.name.epoch,
            confirmed: self.confirmed,
            schema_base: self.schema.len(),
            group,
            split: !siblings.is_empty(),
            crypt,
        };
        let (header, mut body) = frame.place(&block, &at).map_err(io::Error::other)?;
        let span = ((FRAME_HEADER + body.len()) as u64).next_multiple_of(crate::frame::header::ALIGN);
        body.resize(span as usize - FRAME_HEADER, 0);
        body.extend_from_slice(&END_MARK);
        // With room for what is said behind it.
        self.reserve(self.end + span + FRAME_HEADER as u64)?;
        self.file.write_all_at(&body, self.end + FRAME_HEADER as u64)?;
        self.pending.push(Pending { at: self.end, header });
        self.schema.define(new);
        self.end += span;
        self.frames += 1;
        self.times = (self.times.0.min(frame.time_min), self.times.1.max(frame.time_max));
        Ok(span)
    }

    /// Makes the file's name durable: before a frame that has siblings elsewhere, which must never be looked for in vain.
    pub(crate) fn settle_name(&mut self, folders: &Folders) -> io::Result<()> {
        self.made.iter().try_for_each(|made| self.disk.sync_dir(&made.parent))?;
        self.name_is_durable(folders);
        Ok(())
    }

    fn name_is_durable(&mut self, folders: &Folders) {
        if !self.made.is_empty() {
            folders.known.lock().extend(self.made.drain(..).filter_map(|made| made.known));
        }
    }

    /// Shows other writers which batches the group's frames are of, and readers nothing: what is claimed by two at the same
    /// moment at least one of them sees, before either's rows can be seen by anybody.
    pub(crate) fn claim(&mut self) -> io::Result<()> {
        self.claimed = true;
        self.pending.iter().try_for_each(|p| self.file.write_all_at(&claim(&p.header), p.at))?;
        self.file.show()
    }

    /// Writes the headers of the group's frames: readers see them from here on, also where this fails.
    pub(crate) fn publish(&mut self) -> io::Result<()> {
        self.published = true;
        self.pending.iter().try_for_each(|p| self.file.write_all_at(&p.header, p.at))
    }

    /// Grows the file to hold `len` bytes, by an extent where the disk has room for it.
    fn reserve(&mut self, len: u64) -> io::Result<()> {
        if len <= self.reserved {
            return Ok(());
        }
        let wanted = len.max(self.reserved + self.extent);
        let grow = |to: u64| self.file.reserve(self.reserved, to - self.reserved).map(|()| to);
        self.reserved = grow(wanted).or_else(|_| grow(len))?;
        self.extent = (self.extent * 2).min(EXTENT_BYTES_MAX);
        Ok(())
    }

    /// Makes everything written so far durable. After an error the group must go, and the file with it.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // After the file, since a journal that has just been written holds the new names already.
        self.made.iter().try_for_each(|made| self.disk.sync_dir(&made.parent))
    }

    /// The whole group is durable: its frames stay.
    pub(crate) fn commit(&mut self, folders: &Folders, now: Instant) {
        self.name_is_durable(folders);
        self.pending.clear();
        (self.claimed, self.published) = (false, false);
        self.confirmed = self.end;
        self.before = Before { times: self.times, frames: self.frames, schema: self.schema.len() };
        self.used = now;
        // Where this fails the next group tells it, or the end of the file.
        self.hides = self.confirm().is_ok() && self.shows_late;
    }

    /// Claims the end of the file behind the last group, where the next one will be: so all others know that the group is
    /// acknowledged and is never taken back. It need not survive lost power, and is written over.
    fn confirm(&self) -> io::Result<()> {
        self.file.write_all_at(&claim(&self.end_mark().to_bytes()), self.confirmed)
    }

    /// Whether nodes do not see yet what was acknowledged last.
    pub(crate) fn hides(&self) -> bool {
        self.hides
    }

    /// Lets them see it.
    pub(crate) fn show(&mut self) -> io::Result<()> {
        self.hides = false;
        self.file.show()
    }

    /// Whether frames of a group that is not committed may be seen.
    pub(crate) fn is_published(&self) -> bool {
        self.published
    }

    /// Takes a group back of which no header was written: its room is used again.
    ///
    /// # Errors
    /// Where a claim cannot be taken back: the file must be ended before it.
    pub(crate) fn retract(&mut self) -> io::Result<()> {
        debug_assert!(!self.published);
        let was_claimed = self.claimed;
        if was_claimed {
            self.pending.iter().try_for_each(|p| self.file.write_all_at(&END_MARK, p.at))?;
            self.claimed = false;
        }
        self.schema.truncate(self.before.schema);
        self.frames = self.before.frames;
        self.end = self.confirmed;
        self.times = self.before.times;
        self.pending.clear();
        if was_claimed && self.frames > 0 {
            // The claim stood in its place. As behind a commit, nothing rests on this.
            self.hides = self.confirm().is_ok() && self.shows_late;
        }
        Ok(())
    }

    /// Ends the file: writes its end mark with the times of all frames, gives the unused extent back.
    ///
    /// # Errors
    /// Where the disk fails, with what ends it by a link.
    pub(crate) fn close(self) -> Result<(), (io::Error, Limbo)> {
        debug_assert!(self.pending.is_empty());
        self.mark().map_err(|e| {
            let disk = self.disk.clone();
            (e, Limbo::of(vec![self], &disk))
        })
    }

    fn mark(&self) -> io::Result<()> {
        self.file.set_len(self.end + FRAME_HEADER as u64)?;
        self.file.write_all_at(&self.end_mark().to_bytes(), self.end)?;
        self.file.sync_data()
    }

    /// What stands behind the last frame of a file that is ended.
    fn end_mark(&self) -> FrameHeader {
        FrameHeader {
            version: FIRST_FRAME_VERSION,
            whole: false,
            split: false,
            close: true,
            segment: self.fingerprint,
            number: self.frames,
            rows: 0,
            epoch: self.name.epoch,
            confirmed: self.end,
            time_min: self.times.0,
            time_max: self.times.1,
            schema_base: self.schema.len(),
            schema_len: 0,
            meta_len: 0,
            meta_raw: 0,
            bloom_len: 0,
            rollup_len: 0,
            payload_len: 0,
            payload_raw: 0,
            head_crc: 0,
            bloom_crc: 0,
            payload_crc: 0,
            hash: 0,
            group: 0,
            nonce: None,
        }
    }
}

impl Limbo {
    /// The group of these segments, which are given in the order of their names, with at least one. They are written no more.
    pub(crate) fn of(segments: Vec<SegmentWriter>, disk: &Arc<dyn Disk>) -> Limbo {
        let ended = |s: SegmentWriter| Ended {
            path: s.path,
            file: s.file,
            valid: s.confirmed,
            headers: s.pending.iter().map(|p| p.at).collect(),
        };
        Limbo { disk: disk.clone(), files: segments.into_iter().map(ended).collect() }
    }

    /// Ends the files before the group, by a link beside each: one atomic operation, name and length together.
    ///
    /// # Errors
    /// Where the disk fails: the group's fate is open, and this must be called again until it is not.
    pub(crate) fn settle(&self) -> io::Result<Fate> {
        for (i, ended) in self.files.iter().enumerate() {
            let link = end_link(&ended.path);
            match self.disk.symlink(&ended.valid.to_string(), &link) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    // By an earlier attempt, one whose reply was lost, or an observer.
                    let valid = self.disk.read_link(&link)?.parse().unwrap_or(0);
                    if i == 0 && valid > ended.valid {
                        return Ok(Fate::Kept);
                    }
                }
                // The file is gone with its folder, by whoever deleted its tenant.
                Err(e) if e.kind() == io::ErrorKind::NotFound && self.is_gone(&ended.path) => continue,
                Err(e) => return Err(e),
            }
            self.disk.sync_dir(link.parent().unwrap_or(Path::new(".")))?;
        }
        self.blank();
        Ok(Fate::Undone)
    }

    fn is_gone(&self, path: &Path) -> bool {
        matches!(self.disk.open(path), Err(e) if e.kind() == io::ErrorKind::NotFound)
    }

    /// A reader on another node may not see the links for a moment, but it does see the file. Nothing rests on this.
    fn blank(&self) {
        let blank = [0; FRAME_HEADER];
        for ended in &self.files {
            let blanked = ended.headers.iter().try_for_each(|at| ended.file.write_all_at(&blank, *at));
            let _ = blanked.and_then(|()| ended.file.sync_data());
        }
    }
}

/// The link that ends a segment.
pub(crate) fn end_link(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(END_SUFFIX);
    name.into()
}
