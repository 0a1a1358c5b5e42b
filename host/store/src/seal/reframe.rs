//! The rows of segments as frames of a block. Memory holds the rows of one frame, or two.
//!
//! A frame that is full already is taken as it stands: its bytes are checked, not decoded, and get another header. Small ones
//! are joined, per window, in the order in which they were written; origins keep their batch ids. Of those what keeps its bytes
//! (ids, plain texts) is not compressed again.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::UInt32Array;
use prism_model::window::Window;
use prism_model::{Batch, ColumnId, Signal, TableKind, TenantId};
use xxhash_rust::xxh3::Xxh3;

use super::SealOptions;
use super::plan::Ended;
use crate::disk::{Disk, File};
use crate::error::{Damage, StoreError};
use crate::frame::again::{self, StoredValues};
use crate::frame::decode::body_matches;
use crate::frame::encode::{Encoded, encode_joined};
use crate::frame::header::FRAME_HEADER;
use crate::hot::scan::{Entry, NoIndex, SegmentIndex};
use crate::keys::Keyring;
use crate::warm::BlockSource;
use crate::warm::write::BlockWriter;

/// Rows that wait to be joined are at most so many bytes: few rows can be large.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// A frame that lacks less than this part of `frame_rows` counts as full.
const LACK: usize = 16;

/// A segment that is open for reading.
pub(super) struct Segment {
    name: crate::place::SegmentName,
    valid: u64,
    file: Arc<dyn File>,
    index: SegmentIndex,
}

/// What became of a segment's rows.
pub(super) struct Taken {
    pub(super) source: BlockSource,
    /// Why rows of it could not be taken.
    pub(super) damage: Option<Damage>,
}

/// Why a segment cannot be opened.
pub(super) enum Closed {
    /// It is gone: another process sealed and removed it.
    Gone,
    /// Not one frame of it can be found.
    Damaged(Damage),
}

impl Segment {
    pub(super) fn open(
        disk: &dyn Disk,
        root: &Path,
        tenant: &TenantId,
        signal: Signal,
        ended: &Ended,
        keys: &Keyring,
    ) -> Result<Result<Segment, Closed>, StoreError> {
        let name = ended.name;
        let path = root.join(name.dir(tenant, signal)).join(name.file_name());
        let failed = |e| StoreError::io("read a segment", e);
        let index = match SegmentIndex::read(disk, &path, &name.header(tenant, signal), Some(ended.valid), None, keys) {
            Ok(index) => index,
            Err(NoIndex::Absent | NoIndex::Vanished) => return Ok(Err(Closed::Gone)),
            Err(NoIndex::Io(e)) => return Err(failed(e)),
            Err(NoIndex::Locked(e)) => return Err(e.into()),
            Err(NoIndex::Damaged(damage)) => return Ok(Err(Closed::Damaged(damage))),
        };
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Err(Closed::Gone)),
            Err(e) => return Err(failed(e)),
        };
        if file.identity().map_err(failed)?.0 != index.inode {
            return Ok(Err(Closed::Gone));
        }
        Ok(Ok(Segment { name, valid: ended.valid, file, index }))
    }

    /// Items in its frames.
    pub(super) fn rows(&self) -> u64 {
        self.index.frames.iter().map(|f| u64::from(f.meta.header.rows)).sum()
    }

    /// Whether there is nothing in it, nor ever was.
    pub(super) fn is_empty(&self) -> bool {
        self.index.frames.is_empty() && self.index.fault.is_none()
    }

    /// The bytes behind a frame's header; `None` where they are not what was written.
    fn body(&self, entry: &Entry) -> Result<Option<Vec<u8>>, StoreError> {
        let mut body = vec![0; entry.meta.header.body_len() as usize];
        let n = self.file.read_at(&mut body, entry.at + FRAME_HEADER as u64);
        let n = n.map_err(|e| StoreError::io("read a segment", e))?;
        Ok(Some(body).filter(|body| n == body.len() && body_matches(&entry.meta.header, body)))
    }
}

/// Visits the rows of each frame as it is taken: what rollups are built from.
pub(super) trait Visit {
    /// Columns that it needs.
    fn wants(&self, table: TableKind, id: &ColumnId) -> bool;
    /// Some rows, with at least these columns.
    fn rows(&mut self, batch: &Batch);
}

/// Turns segments into frames of a block.
pub(super) struct Reframe<'a> {
    block: &'a mut BlockWriter,
    options: &'a SealOptions,
    visit: &'a mut dyn Visit,
    /// Rows of a window that wait for more.
    pending: Vec<Batch>,
    /// What is stored of them.
    stored: Vec<StoredValues>,
    pending_rows: usize,
    pending_bytes: usize,
    window: Window,
    late: bool,
}

impl<'a> Reframe<'a> {
    pub(super) fn new(block: &'a mut BlockWriter, options: &'a SealOptions, visit: &'a mut dyn Visit) -> Reframe<'a> {
        Reframe {
            block,
            options,
            visit,
            pending: Vec::new(),
            stored: Vec::new(),
            pending_rows: 0,
            pending_bytes: 0,
            window: Window::from_number(0),
            late: false,
        }
    }

    /// Adds all rows of a segment that can be read.
    pub(super) fn take(&mut self, segment: &Segment) -> Result<Taken, StoreError> {
        if (self.window, self.late) != (segment.name.window, segment.name.late) {
            self.flush()?;
            (self.window, self.late) = (segment.name.window, segment.name.late);
        }
        let mut hash = Xxh3::new();
        let mut damage = segment.index.fault.as_ref().filter(|f| f.lost).map(|f| f.damage.clone());
        let (mut rows, mut frames) = (0, 0);
        for entry in &segment.index.frames {
            let taken = match segment.body(entry)? {
                Some(body) => self.frame(entry, &body)?,
                None => Err(Damage::Checksum("frame")),
            };
            match taken {
                Ok(()) => {
                    hash.update(&entry.meta.header.hash.to_le_bytes());
                    rows += u64::from(entry.meta.header.rows);
                    frames += 1;
                }
                Err(found) => damage = Some(found),
            }
        }
        let lost = damage.is_some();
        let source =
            BlockSource { name: segment.name, bytes: segment.valid, rows, frames, hash: hash.digest128(), lost };
        Ok(Taken { source, damage })
    }

    /// The frame's rows; the damage where they cannot be had though the hash says that these are the bytes that were written.
    fn frame(&mut self, entry: &Entry, body: &[u8]) -> Result<Result<(), Damage>, StoreError> {
        let rows = self.options.frame_rows.max(1);
        let full = entry.meta.header.rows as usize >= rows - rows / LACK;
        let visit = &*self.visit;
        let want = |table, id: &ColumnId| !full || visit.wants(table, id);
        let batch = match entry.meta.rows_in(&want, body) {
            Ok(batch) => batch,
            Err(damage) => return Ok(Err(damage)),
        };
        if full {
            let stored = match Encoded::stored(&entry.meta, body) {
                Ok(stored) => stored,
                Err(damage) => return Ok(Err(damage)),
            };
            self.visit.rows(&batch);
            self.block.frame(&stored, self.window)?;
            return Ok(Ok(()));
        }
        let stored = match entry.meta.stored_values(body) {
            Ok(stored) => stored,
            Err(damage) => return Ok(Err(damage)),
        };
        self.visit.rows(&batch);
        self.pending_rows += batch.rows();
        self.pending_bytes += batch.memory_bytes() + again::memory_bytes(&stored);
        self.pending.push(batch);
        self.stored.push(stored);
        if self.pending_rows >= rows || self.pending_bytes >= PENDING_BYTES_MAX {
            self.flush()?;
        }
        Ok(Ok(()))
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        let (batches, stored) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.stored));
        let rows = std::mem::take(&mut self.pending_rows);
        self.pending_bytes = 0;
        if rows == 0 {
            return Ok(());
        }
        let joined = Batch::concat(&batches).map_err(bug)?;
        drop(batches);
        let wanted = self.options.frame_rows.max(1);
        // The last batch may be as large as the ones before it together.
        let parts = (rows / wanted).max(1);
        if parts == 1 {
            return self.write(&joined, &stored);
        }
        let edge = |i: usize| (rows * i / parts) as u32;
        for i in 0..parts {
            let range = UInt32Array::from_iter_values(edge(i)..edge(i + 1));
            self.write(&joined.select(&range).map_err(bug)?, &[])?;
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch, stored: &[StoredValues]) -> Result<(), StoreError> {
        self.block.frame(&encode_joined(batch, self.options.zstd_level.clamp(1, 3), stored)?, self.window)
    }
}

fn bug(e: prism_model::reshape::ReshapeError) -> StoreError {
    StoreError::Rows(e.to_string())
}
