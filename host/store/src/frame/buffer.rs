//! One buffer of a payload: how it is compressed, checked and found.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Cursor;

use super::crypt::{Blocks, Place};
use super::header::{FRAME_BYTES_MAX, FrameHeader};
use super::wire::{Put as _, Take};
use crate::error::{Damage, StoreError};

/// Numbers of few values repeat by the handful everywhere: to say that takes longer, to write and to read, than to say the numbers,
/// and more bytes.
const NUMBERS_MATCH_BYTES_MIN: u32 = 7;
/// What the level chooses.
const MATCH_BYTES_MIN: u32 = 0;
/// Of texts that mostly differ zstd makes a copy or two each, however short they are (6 ns, where reading ten bytes takes less than
/// one): a text must become smaller by so many bytes on average.
const TEXT_BYTES_SAVED_MIN: usize = 8;
/// Shorter buffers are stored as they are: a zstd frame needs about 15 bytes by itself.
const COMPRESS_BYTES_MIN: usize = 48;

/// Where a buffer stands in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    /// From the beginning of the payload (decompressed, where that is compressed whole).
    pub(crate) offset: u64,
    /// Bytes on disk, with the tag where it is encrypted.
    pub(crate) stored: u32,
    pub(crate) raw: u32,
    pub(super) packed: bool,
    /// crc32c of the bytes before they are encrypted; 0 in a payload that is compressed whole, which is checked by its hash.
    pub(crate) crc: u32,
}

thread_local! {
    // A context is about 600 KiB at level 1 and takes longer to make than a small buffer to compress.
    static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    // About 150 KiB, which a column of a few thousand rows is decompressed in the time of making.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends `raw` compressed; `false` (and nothing appended) where that would not be smaller.
pub(crate) fn compress(raw: &[u8], level: i32, out: &mut Vec<u8>) -> Result<bool, StoreError> {
    compress_matching(raw, level, MATCH_BYTES_MIN, 0, out)
}

/// The same with matches of so many bytes at least, where more than `worth` bytes are saved.
fn compress_matching(
    raw: &[u8],
    level: i32,
    match_min: u32,
    worth: usize,
    out: &mut Vec<u8>,
) -> Result<bool, StoreError> {
    if raw.len() < COMPRESS_BYTES_MIN {
        return Ok(false);
    }
    let failed = |e: std::io::Error| StoreError::Rows(format!("zstd: {e}"));
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(l, _)| *l != level) {
            let mut fresh = zstd::bulk::Compressor::new(level).map_err(failed)?;
            // Checksums stand in the directory already.
            fresh.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(false)).map_err(failed)?;
            *slot = Some((level, fresh));
        }
        let Some((_, compressor)) = slot else { return Ok(false) };
        compressor.set_parameter(zstd::zstd_safe::CParameter::MinMatch(match_min)).map_err(failed)?;
        let before = out.len();
        out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let mut end = Cursor::new(&mut *out);
        end.set_position(before as u64);
        let n = compressor.compress_to_buffer(raw, &mut end).map_err(failed)?;
        // Reading a raw buffer is free, so a saving of a few percent is none.
        let pays = n + worth.max(n / 32) < raw.len();
        out.truncate(if pays { before + n } else { before });
        Ok(pays)
    })
}

/// The bytes of a zstd frame that is known to have `raw` bytes.
pub(crate) fn decompress(stored: &[u8], raw: usize) -> Result<Vec<u8>, Damage> {
    if raw as u64 > FRAME_BYTES_MAX {
        return Err(Damage::Bounds("length of a buffer"));
    }
    let damaged = |_| Damage::Checksum("compressed data");
    let out = DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(known) => known,
            None => slot.insert(zstd::bulk::Decompressor::new().map_err(damaged)?),
        };
        decompressor.decompress(stored, raw).map_err(damaged)
    })?;
    if out.len() == raw { Ok(out) } else { Err(Damage::Short("compressed data")) }
}

/// Bytes that were compressed where they are not as many as they were.
pub(super) fn unpack(bytes: &[u8], raw: u32) -> Result<Cow<'_, [u8]>, Damage> {
    if bytes.len() == raw as usize { Ok(Cow::Borrowed(bytes)) } else { decompress(bytes, raw as usize).map(Cow::Owned) }
}

/// Collects the buffers of a payload.
pub(super) struct Sink {
    /// The payload.
    pub(super) payload: Vec<u8>,
    /// Bytes of each of its blocks that has any.
    pub(super) blocks: Vec<u32>,
    whole: bool,
    level: i32,
}

impl Sink {
    pub(super) fn new(whole: bool, level: i32, capacity: usize) -> Sink {
        Sink { payload: Vec::with_capacity(capacity), blocks: Vec::new(), whole, level }
    }

    /// Appends a buffer, and its line to the directory.
    pub(super) fn push(&mut self, raw: &[u8], directory: &mut Vec<u8>) -> Result<(), StoreError> {
        self.push_matching(raw, MATCH_BYTES_MIN, 0, directory)
    }

    /// The same of so many texts one behind the other, which are compressed where that saves enough of each.
    pub(super) fn push_texts(&mut self, raw: &[u8], count: usize, directory: &mut Vec<u8>) -> Result<(), StoreError> {
        self.push_matching(raw, MATCH_BYTES_MIN, count.saturating_mul(TEXT_BYTES_SAVED_MIN), directory)
    }

    /// The same of numbers.
    pub(super) fn push_numbers(&mut self, raw: &[u8], directory: &mut Vec<u8>) -> Result<(), StoreError> {
        self.push_matching(raw, NUMBERS_MATCH_BYTES_MIN, 0, directory)
    }

    fn push_matching(
        &mut self,
        raw: &[u8],
        match_min: u32,
        worth: usize,
        directory: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let before = self.begin(raw.len(), directory)?;
        if self.whole {
            self.payload.extend_from_slice(raw);
            return Ok(());
        }
        let packed = compress_matching(raw, self.level, match_min, worth, &mut self.payload)?;
        if !packed {
            self.payload.extend_from_slice(raw);
        }
        self.line(before, packed, directory);
        Ok(())
    }

    /// Appends a buffer of `raw` bytes in pieces that are compressed already, or need not be.
    pub(super) fn push_pieces(
        &mut self,
        raw: usize,
        pieces: &[&[u8]],
        packed: bool,
        directory: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let before = self.begin(raw, directory)?;
        pieces.iter().for_each(|piece| self.payload.extend_from_slice(piece));
        self.line(before, packed, directory);
        Ok(())
    }

    /// Whether the payload is compressed as one.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Begins the line of a buffer; gives where it begins.
    fn begin(&self, raw: usize, directory: &mut Vec<u8>) -> Result<usize, StoreError> {
        if raw as u64 > FRAME_BYTES_MAX {
            return Err(StoreError::Rows(format!("a column of {raw} bytes")));
        }
        directory.var(raw as u64);
        Ok(self.payload.len())
    }

    /// The rest of the line of the buffer that begins at `before`.
    fn line(&mut self, before: usize, packed: bool, directory: &mut Vec<u8>) {
        // 0 stands for "as it is".
        directory.var(if packed { (self.payload.len() - before) as u64 } else { 0 });
        directory.u32(crc32c::crc32c(&self.payload[before..]));
        if self.payload.len() > before {
            self.blocks.push((self.payload.len() - before) as u32);
        }
    }
}

/// Reads the directory's lines, which follow each other as the buffers do.
pub(super) struct Lines {
    next: u64,
    whole: bool,
    /// Bytes behind each buffer that is not empty.
    tag: u32,
}

impl Lines {
    pub(super) fn new(header: &FrameHeader) -> Lines {
        Lines::from(0, header)
    }

    /// The lines of buffers from an offset of the payload on.
    pub(super) fn from(next: u64, header: &FrameHeader) -> Lines {
        Lines { next, whole: header.whole, tag: if header.whole { 0 } else { header.tag_len() as u32 } }
    }

    pub(super) fn take(&mut self, take: &mut Take<'_>) -> Result<Buffer, Damage> {
        let max = FRAME_BYTES_MAX as usize;
        let raw = take.var_max(max)? as u32;
        let (stored, packed, crc) = if self.whole {
            (raw, false, 0)
        } else {
            match take.var_max(max)? as u32 {
                0 => (raw, false, take.u32()?),
                stored => (stored, true, take.u32()?),
            }
        };
        let stored = if stored == 0 { 0 } else { stored + self.tag };
        let buffer = Buffer { offset: self.next, stored, raw, packed, crc };
        self.next += u64::from(stored);
        Ok(buffer)
    }

    /// Bytes of all buffers so far.
    pub(super) fn total(&self) -> u64 {
        self.next
    }
}

/// The raw bytes of a buffer out of its stored ones. `whole`: out of a payload that was opened as one.
pub(super) fn open<'a>(
    buffer: &Buffer,
    stored: &'a [u8],
    whole: bool,
    blocks: &Blocks<'_>,
) -> Result<Cow<'a, [u8]>, Damage> {
    if stored.len() != buffer.stored as usize {
        return Err(Damage::Short("buffer"));
    }
    if stored.is_empty() || whole {
        return Ok(Cow::Borrowed(stored));
    }
    let bytes = blocks.take(Place::Payload(buffer.offset), stored)?;
    if crc32c::crc32c(&bytes) != buffer.crc {
        return Err(Damage::Checksum("buffer"));
    }
    if !buffer.packed {
        return Ok(bytes);
    }
    Ok(Cow::Owned(decompress(&bytes, buffer.raw as usize)?))
}
