//! One writer's file for a tenant, signal and window.
//!
//! Frames are written at their own offsets: body first, header last, so that a killed process leaves no header without its
//! body behind. They stay *pending* until their whole group is durable in all of its files ([`SegmentWriter::commit`]); a
//! group that fails is made invisible before anybody is told ([`SegmentWriter::undo`]). A file that failed to sync, and any
//! file after a restart, is never written again.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prism_model::{Signal, TenantId};

use crate::disk::{Disk, File, create_dirs};
use crate::frame::crypt::{Crypt, DataKey};
use crate::frame::encode::{Encoded, Position};
use crate::frame::header::{FRAME_HEADER, FrameHeader, SEGMENT_HEADER};
use crate::frame::schema::{SegmentSchema, Siblings};
use crate::keys::Keyring;
use crate::place::{END_SUFFIX, SegmentName};

/// The first extent; each next one is twice as long, so that sizes follow the rate: a quiet tenant holds little of the disk,
/// a busy one seldom asks for more.
const EXTENT_BYTES_MIN: u64 = 256 << 10;
/// The longest extent.
const EXTENT_BYTES_MAX: u64 = 16 << 20;
/// Zeros that follow a frame, where the next header will be: bytes of an attempt that failed must not stand there.
const END_MARK: [u8; 8] = [0; 8];

/// Creates segments: remembers which folders are known to be durable.
pub(crate) struct Folders {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: PathBuf,
    pub(crate) known: Mutex<HashSet<PathBuf>>,
    pub(crate) keys: Keyring,
}

struct Pending {
    at: u64,
    schema_before: u32,
}

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
    pending: Vec<Pending>,
    times: (i64, i64),
    times_before: (i64, i64),
    pub(crate) used: Instant,
}

/// A pending frame that could not be made invisible: [`Limbo::settle`] until it succeeds.
pub(crate) struct Limbo {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    valid: u64,
}

impl SegmentWriter {
    /// A new file with its header; its name is durable, its content with the first commit.
    pub(crate) fn create(
        folders: &Folders,
        tenant: &TenantId,
        signal: Signal,
        name: SegmentName,
        now: Instant,
    ) -> io::Result<SegmentWriter> {
        let disk = folders.disk.clone();
        let header = name.header(tenant, signal);
        // First, so that nothing is there where the key is not to be had.
        let (key, wrapped) = folders.keys.data_key(tenant, &header.to_bytes())?.unzip();
        let below = name.dir(tenant, signal);
        create_dirs(&*disk, &folders.known, &folders.root, &below)?;
        let dir = folders.root.join(&below);
        let path = dir.join(name.file_name());
        let file = disk.create_new(&path)?;
        let begun = file
            .write_all_at(&header.with_key(wrapped.as_ref()), 0)
            .and_then(|()| disk.sync_dir(&dir))
            // An erasure that listed the folder before the file was there leaves its removal to this writer.
            .and_then(|()| Ok(folders.keys.admit(tenant, true)?));
        if let Err(e) = begun {
            // An empty or torn file is skipped by readers; removing it is only tidy.
            let _ = disk.remove(&path);
            return Err(e);
        }
        Ok(SegmentWriter {
            name,
            path,
            disk,
            file,
            fingerprint: header.fingerprint(),
            key,
            tried: 0,
            schema: SegmentSchema::default(),
            confirmed: SEGMENT_HEADER as u64,
            end: SEGMENT_HEADER as u64,
            frames: 0,
            reserved: SEGMENT_HEADER as u64,
            extent: EXTENT_BYTES_MIN,
            pending: Vec::new(),
            times: (i64::MAX, i64::MIN),
            times_before: (i64::MAX, i64::MIN),
            used: now,
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

    /// Writes a frame; it is pending then. `siblings` are the last frames of its group in each of its files, none where the
    /// group is this frame alone. Gives its bytes.
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
        self.reserve(self.end + span + END_MARK.len() as u64)?;
        self.file.write_all_at(&body, self.end + FRAME_HEADER as u64)?;
        // From here on the frame is visible, so it is pending even where this write fails.
        self.pending.push(Pending { at: self.end, schema_before: self.schema.len() });
        self.file.write_all_at(&header, self.end)?;
        self.schema.define(new);
        self.end += span;
        self.frames += 1;
        self.times = (self.times.0.min(frame.time_min), self.times.1.max(frame.time_max));
        Ok(span)
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

    /// Makes everything written so far durable. After an error the file must go: [`SegmentWriter::undo`] with `failed`.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The whole group is durable: its frames stay.
    pub(crate) fn commit(&mut self, now: Instant) {
        self.pending.clear();
        self.confirmed = self.end;
        self.times_before = self.times;
        self.used = now;
    }

    /// The group failed: makes its frames invisible, durably. Gives back a writer that may go on, unless the file failed to
    /// sync: what it holds in memory and on disk may differ then.
    pub(crate) fn undo(mut self, failed: bool) -> (Option<SegmentWriter>, Option<Limbo>) {
        if self.pending.is_empty() && !failed {
            return (Some(self), None);
        }
        let blank = [0; FRAME_HEADER];
        let blanked = self.pending.iter().try_for_each(|p| self.file.write_all_at(&blank, p.at));
        let undone = blanked.and_then(|()| self.file.sync_data());
        if undone.is_err() || failed {
            let limbo = Limbo { disk: self.disk.clone(), path: self.path.clone(), valid: self.confirmed };
            // After a failed sync even a successful one proves nothing: the kernel forgets pages that it could not write.
            return (None, limbo.settle().err().map(|_| limbo));
        }
        if let Some(first) = self.pending.first() {
            self.schema.truncate(first.schema_before);
        }
        self.frames -= self.written_frames();
        self.end = self.confirmed;
        self.times = self.times_before;
        self.pending.clear();
        (Some(self), None)
    }

    /// Pending frames whose header was written.
    fn written_frames(&self) -> u32 {
        self.pending.iter().filter(|p| p.at < self.end).count() as u32
    }

    /// Ends the file: writes its end mark with the times of all frames, gives the unused extent back.
    pub(crate) fn close(self) -> io::Result<()> {
        debug_assert!(self.pending.is_empty());
        let mark = FrameHeader {
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
        };
        self.file.set_len(self.end + FRAME_HEADER as u64)?;
        self.file.write_all_at(&mark.to_bytes(), self.end)?;
        self.file.sync_data()
    }
}

impl Limbo {
    /// Ends the segment before the frames that failed, by a link beside it: one atomic operation, name and length together.
    pub(crate) fn settle(&self) -> io::Result<()> {
        let link = end_link(&self.path);
        match self.disk.symlink(&self.valid.to_string(), &link) {
            Ok(()) => {}
            // An earlier attempt made it and failed after.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        self.disk.sync_dir(link.parent().unwrap_or(Path::new(".")))
    }
}

/// The link that ends a segment.
pub(crate) fn end_link(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(END_SUFFIX);
    name.into()
}
