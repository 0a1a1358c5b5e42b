//! The end of a block: what stands in it, so that one read lists it.
//!
//! Sections (each compressed where it pays, with a checksum) stand in the order of how seldom they are needed: cube, sources,
//! index. Behind them the directory says where each is; the tail says how long the directory is, where the sections begin that
//! a listing needs, and the hash of all bytes before it. A kind of section that is not known here is skipped.

use std::sync::Arc;

use prism_model::window::Window;
use prism_model::{Signal, TenantId};

use super::block::BlockSource;
use super::name::{BlockName, VERSION};
use crate::error::{Damage, StoreError};
use crate::frame::buffer::{compress, decompress};
use crate::frame::crypt::{self, Blocks, DataKey, TAG_BYTES, WrappedKey};
use crate::frame::decode::FrameMeta;
use crate::frame::header::{FRAME_HEADER, FrameHeader, check, seal};
use crate::frame::schema;
use crate::frame::wire::{Put as _, Take};
use crate::place::SegmentName;

/// Bytes of the tail, the last of an object.
pub(crate) const TAIL: usize = 64;
/// Bytes of a directory, or of one section, that are believed: the index of a gibibyte of frames takes some 20 MB.
const SECTION_BYTES_MAX: u64 = 256 << 20;
/// Sections that are believed.
const SECTIONS_MAX: usize = 64;
/// Statistics of many frames are alike: level 3 takes a third off what level 1 leaves, of bytes that are few.
const LEVEL: i32 = 3;

const TAIL_MAGIC: &[u8; 8] = b"PRISMEND";

/// What a section holds.
pub(super) const CUBE: u8 = 1;
pub(super) const SOURCES: u8 = 2;
pub(super) const INDEX: u8 = 3;

/// Where a section stands in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: u8,
    pub(super) at: u64,
    pub(super) stored: u64,
    raw: u64,
    crc: u32,
}

impl Section {
    /// The bytes as they are stored at `at`, and the section that tells of them.
    pub(super) fn pack(kind: u8, at: u64, raw: Vec<u8>, blocks: &Blocks<'_>) -> Result<(Section, Vec<u8>), StoreError> {
        if raw.len() as u64 > SECTION_BYTES_MAX {
            return Err(StoreError::Rows(format!("a section of a block's footer of {} bytes", raw.len())));
        }
        let mut packed = Vec::new();
        let raw_len = raw.len() as u64;
        let packed = if compress(&raw, LEVEL, &mut packed)? { packed } else { raw };
        let mut stored = Vec::with_capacity(packed.len() + TAG_BYTES);
        blocks.push(crypt::Place::Section(kind), &packed, &mut stored)?;
        let section = Section { kind, at, stored: stored.len() as u64, raw: raw_len, crc: crc32c::crc32c(&stored) };
        Ok((section, stored))
    }

    /// The section's bytes out of its stored ones.
    pub(super) fn unpack(&self, stored: &[u8], blocks: &Blocks<'_>) -> Result<Vec<u8>, Damage> {
        if stored.len() as u64 != self.stored {
            return Err(Damage::Short("section of a block"));
        }
        if crc32c::crc32c(stored) != self.crc {
            return Err(Damage::Checksum("section of a block"));
        }
        let packed = blocks.take(crypt::Place::Section(self.kind), stored)?;
        if packed.len() as u64 == self.raw { Ok(packed.into_owned()) } else { decompress(&packed, self.raw as usize) }
    }
}

/// What a block says of itself as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Directory {
    pub(super) name: BlockName,
    pub(super) created: i64,
    /// Hash of the block before it in its shard; 0 where there was none when it was made.
    pub(super) previous: u128,
    pub(super) rows: u64,
    pub(super) time_min: i64,
    pub(super) time_max: i64,
    pub(super) sections: Vec<Section>,
    /// The block's data key, where frames and sections are encrypted with it.
    pub(super) key: Option<WrappedKey>,
}

impl Directory {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(key) = &self.key {
            out.u64(key.version);
            out.extend_from_slice(&key.bytes);
        }
        out.u8(self.name.signal as u8);
        out.text(self.name.tenant.as_str().as_bytes());
        out.u32(self.name.shard);
        out.u64(self.name.seq);
        out.i64(self.created);
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.u64(self.rows);
        out.i64(self.time_min);
        out.i64(self.time_max);
        out.var(self.sections.len() as u64);
        for s in &self.sections {
            out.u8(s.kind);
            out.u64(s.at);
            out.u64(s.stored);
            out.u64(s.raw);
            out.u32(s.crc);
        }
        out
    }

    /// `end` is where the directory begins: sections lie before.
    pub(super) fn from_bytes(bytes: &[u8], end: u64, encrypted: bool) -> Result<Directory, Damage> {
        let mut take = Take::new(bytes, "block directory");
        let key = match encrypted {
            true => Some(WrappedKey { version: take.u64()?, bytes: take.array()? }),
            false => None,
        };
        let signal: Signal = *Signal::ALL.get(usize::from(take.u8()?)).ok_or(Damage::Bounds("signal"))?;
        let tenant: TenantId = take.string()?.parse().map_err(|_| Damage::Bounds("tenant"))?;
        let (shard, seq) = (take.u32()?, take.u64()?);
        let created = take.i64()?;
        let previous = u128::from_le_bytes(take.array()?);
        let rows = take.u64()?;
        let (time_min, time_max) = (take.i64()?, take.i64()?);
        let count = take.var_max(SECTIONS_MAX)?;
        let mut sections = Vec::with_capacity(count);
        for _ in 0..count {
            let section =
                Section { kind: take.u8()?, at: take.u64()?, stored: take.u64()?, raw: take.u64()?, crc: take.u32()? };
            let inside = section.at.checked_add(section.stored).is_some_and(|to| to <= end);
            if !inside || section.raw.max(section.stored) > SECTION_BYTES_MAX {
                return Err(Damage::Bounds("section of a block"));
            }
            sections.push(section);
        }
        take.end()?;
        let name = BlockName { tenant, signal, shard, seq };
        Ok(Directory { name, created, previous, rows, time_min, time_max, sections, key })
    }

    pub(super) fn section(&self, kind: u8) -> Option<Section> {
        self.sections.iter().find(|s| s.kind == kind).copied()
    }
}

/// The last bytes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Where the bytes begin that list the block.
    pub(super) listed_at: u64,
    pub(super) directory_len: u32,
    pub(super) directory_crc: u32,
    /// The directory begins with a key, and frames and sections are encrypted with it.
    pub(super) encrypted: bool,
    /// xxh3-128 of all bytes before the tail.
    pub(super) hash: u128,
}

impl Tail {
    pub(super) fn to_bytes(self) -> [u8; TAIL] {
        let mut out = Vec::with_capacity(TAIL);
        out.extend_from_slice(TAIL_MAGIC);
        out.u16(VERSION);
        out.u16(u16::from(self.encrypted));
        out.u64(self.listed_at);
        out.u32(self.directory_len);
        out.u32(self.directory_crc);
        out.extend_from_slice(&self.hash.to_le_bytes());
        let mut fixed = [0; TAIL];
        fixed[..out.len()].copy_from_slice(&out);
        seal(&mut fixed);
        fixed
    }

    /// The tail of an object of `len` bytes.
    pub(super) fn from_bytes(bytes: &[u8; TAIL], len: u64) -> Result<Tail, Damage> {
        let mut take = Take::new(check(bytes, "block tail")?, "block tail");
        if take.array::<8>()? != *TAIL_MAGIC {
            return Err(Damage::Bounds("block magic"));
        }
        Damage::version("block", take.u16()?, VERSION)?;
        let encrypted = match take.u16()? {
            0 => false,
            1 => true,
            _ => return Err(Damage::Bounds("block flags")),
        };
        let (listed_at, directory_len, directory_crc) = (take.u64()?, take.u32()?, take.u32()?);
        let hash = u128::from_le_bytes(take.array()?);
        let end = len - TAIL as u64;
        let fits = listed_at <= end && end - listed_at >= u64::from(directory_len);
        if !fits || end - listed_at > 3 * SECTION_BYTES_MAX {
            return Err(Damage::Bounds("block tail"));
        }
        Ok(Tail { listed_at, directory_len, directory_crc, encrypted, hash })
    }
}

/// Appends what a block covers.
pub(super) fn put_sources(sources: &[BlockSource]) -> Vec<u8> {
    let mut out = Vec::new();
    out.var(sources.len() as u64);
    for s in sources {
        out.u8(u8::from(s.name.late) | u8::from(s.lost) << 1);
        out.i64(s.name.window.number());
        out.u64(s.name.writer);
        out.u64(s.name.epoch);
        out.u32(s.name.file);
        out.u64(s.bytes);
        out.u64(s.rows);
        out.u32(s.frames);
        out.extend_from_slice(&s.hash.to_le_bytes());
    }
    out
}

/// Reads what [`put_sources`] wrote.
pub(super) fn take_sources(bytes: &[u8], shard: u32) -> Result<Vec<BlockSource>, Damage> {
    let mut take = Take::new(bytes, "sources of a block");
    // Each takes 65 bytes, so a wrong count cannot ask for more memory than the bytes are worth.
    let count = take.var_max(bytes.len() / 65)?;
    let mut sources = Vec::with_capacity(count);
    for _ in 0..count {
        let flags = take.u8()?;
        if flags > 3 {
            return Err(Damage::Bounds("flags of a source"));
        }
        let (window, late) = (Window::from_number(take.i64()?), flags & 1 != 0);
        let name = SegmentName { shard, window, late, writer: take.u64()?, epoch: take.u64()?, file: take.u32()? };
        let (bytes, rows, frames) = (take.u64()?, take.u64()?, take.u32()?);
        let hash = u128::from_le_bytes(take.array()?);
        sources.push(BlockSource { name, bytes, rows, frames, hash, lost: flags & 2 != 0 });
    }
    take.end()?;
    Ok(sources)
}

/// A frame in its block.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) window: Window,
    pub(super) meta: Arc<FrameMeta>,
}

/// Appends a frame's line to the index: what its own bytes say, but for blooms and payload.
pub(super) fn put_frame(
    index: &mut Vec<u8>,
    at: u64,
    window: Window,
    header: &[u8; FRAME_HEADER],
    schema: &[u8],
    raw_meta: &[u8],
) {
    index.u64(at);
    index.i64(window.number());
    index.extend_from_slice(header);
    index.extend_from_slice(schema);
    index.extend_from_slice(raw_meta);
}

/// Reads `index`; frames lie before `end`, in order, and belong to the block of this fingerprint and key.
pub(super) fn take_frames(
    index: &[u8],
    fingerprint: u64,
    end: u64,
    key: Option<&Arc<DataKey>>,
) -> Result<Vec<Place>, Damage> {
    let mut take = Take::new(index, "index of a block");
    let mut columns = Vec::new();
    let mut places: Vec<Place> = Vec::new();
    let mut from = super::name::BLOCK_HEADER as u64;
    while take.left() > 0 {
        let (at, window) = (take.u64()?, Window::from_number(take.i64()?));
        let header = FrameHeader::from_bytes(&take.array()?)?;
        if header.segment != fingerprint {
            return Err(Damage::Foreign("frame"));
        }
        let in_order = at >= from && header.number as usize == places.len() && !header.close;
        let to = at.checked_add(header.span()).filter(|to| in_order && *to <= end).ok_or(Damage::Bounds("frame"))?;
        from = to;
        let block = take.bytes((header.schema_len as usize).saturating_sub(header.tag_len()))?;
        let raw_meta = take.bytes(header.meta_raw as usize)?;
        let (own, _no_siblings) = schema::read(block, &mut columns)?;
        let like = places.last().map(|p| &*p.meta);
        let meta = Arc::new(FrameMeta::read_raw(header, raw_meta, key, &own, like)?);
        places.push(Place { at, window, meta });
    }
    Ok(places)
}
