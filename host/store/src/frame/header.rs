//! The fixed headers: one of the segment file, one of each frame.

use prism_model::window::Window;
use prism_model::{Signal, TenantId};

use super::crypt::{TAG_BYTES, WrappedKey};
use super::wire::{Put as _, Take};
use crate::error::Damage;

/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER: usize = 256;
/// Bytes of a frame's header.
pub(crate) const FRAME_HEADER: usize = 160;
/// Frames begin at multiples of this.
pub(crate) const ALIGN: u64 = 8;
/// Bytes of one frame, raw or stored, that are believed. A frame holds at most a few requests of 64 MiB each.
pub(crate) const FRAME_BYTES_MAX: u64 = 1 << 30;

const SEGMENT_MAGIC: &[u8; 8] = b"PRISMSEG";
const FRAME_MAGIC: &[u8; 4] = b"PFRM";
/// What stands in a header's place while its frame is only claimed: no reader takes it for a frame.
const CLAIM_MAGIC: &[u8; 4] = b"PCLM";
/// The version of a segment's header.
const SEGMENT_VERSION: u16 = 1;
/// The newest version of a frame. Each frame has the lowest that tells it, so that a neighbour that is a release older reads what
/// it can.
const FRAME_VERSION: u16 = IDS_FRAME_VERSION;
/// What any reader knows.
pub(crate) const FIRST_FRAME_VERSION: u16 = 1;
/// Ids may be kept by value (`super::column`).
pub(crate) const IDS_FRAME_VERSION: u16 = 2;

/// Whose segment a file is. It stands in the file (ST-2), so that a file in the wrong folder is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) tenant: TenantId,
    pub(crate) signal: Signal,
    pub(crate) shard: u32,
    pub(crate) window: Window,
    pub(crate) late: bool,
    pub(crate) writer: u64,
    pub(crate) epoch: u64,
    pub(crate) file: u32,
}

/// Where the wrapped data key of an encrypted segment stands, behind the longest tenant's name.
const KEY_AT: usize = 112;
const LATE: u16 = 1;
const ENCRYPTED_SEGMENT: u16 = 2;

impl SegmentHeader {
    /// The header of a clear segment, which also names an encrypted one: see [`SegmentHeader::fingerprint`].
    pub(crate) fn to_bytes(&self) -> [u8; SEGMENT_HEADER] {
        self.with_key(None)
    }

    /// The header as it stands in the file.
    pub(crate) fn with_key(&self, key: Option<&WrappedKey>) -> [u8; SEGMENT_HEADER] {
        let mut out = Vec::with_capacity(SEGMENT_HEADER);
        out.extend_from_slice(SEGMENT_MAGIC);
        out.u16(SEGMENT_VERSION);
        out.u16(if self.late { LATE } else { 0 } | if key.is_some() { ENCRYPTED_SEGMENT } else { 0 });
        out.u32(self.shard);
        out.i64(self.window.number());
        out.u64(self.writer);
        out.u64(self.epoch);
        out.u32(self.file);
        out.u8(self.signal as u8);
        out.text(self.tenant.as_str().as_bytes());
        if let Some(key) = key {
            out.resize(KEY_AT, 0);
            out.u64(key.version);
            out.extend_from_slice(&key.bytes);
        }
        // Until byte 252 there is room.
        let mut fixed = [0; SEGMENT_HEADER];
        fixed[..out.len()].copy_from_slice(&out);
        seal(&mut fixed);
        fixed
    }

    /// The header, and the key of its frames where they are encrypted.
    pub(crate) fn from_bytes(bytes: &[u8; SEGMENT_HEADER]) -> Result<(SegmentHeader, Option<WrappedKey>), Damage> {
        let mut take = Take::new(check(bytes, "segment header")?, "segment header");
        if take.array::<8>()? != *SEGMENT_MAGIC {
            return Err(Damage::Bounds("segment magic"));
        }
        Damage::version("segment", take.u16()?, SEGMENT_VERSION)?;
        let flags = take.u16()?;
        if flags & !(LATE | ENCRYPTED_SEGMENT) != 0 {
            return Err(Damage::Bounds("segment flags"));
        }
        let shard = take.u32()?;
        let window = Window::from_number(take.i64()?);
        let (writer, epoch, file) = (take.u64()?, take.u64()?, take.u32()?);
        let signal = *Signal::ALL.get(usize::from(take.u8()?)).ok_or(Damage::Bounds("signal"))?;
        let tenant = take.string()?.parse().map_err(|_| Damage::Bounds("tenant"))?;
        let mut behind = Take::new(&bytes[KEY_AT..], "segment key");
        let key = WrappedKey { version: behind.u64()?, bytes: behind.array()? };
        let header = SegmentHeader { tenant, signal, shard, window, late: flags & LATE != 0, writer, epoch, file };
        Ok((header, Some(key).filter(|_| flags & ENCRYPTED_SEGMENT != 0)))
    }

    /// What each frame of the file repeats, so that a block of another file that the disk shows is no frame. It is the same
    /// whether the segment is encrypted or not: the name of the file tells it.
    pub(crate) fn fingerprint(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.to_bytes())
    }
}

/// What a frame's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Of its own format.
    pub(crate) version: u16,
    /// The payload is one zstd frame; else each buffer is on its own.
    pub(crate) whole: bool,
    /// The frame's group has frames in other segments: it counts only with them.
    pub(crate) split: bool,
    /// No frame, but the end of the segment; the times are those of all its frames.
    pub(crate) close: bool,
    pub(crate) segment: u64,
    pub(crate) number: u32,
    pub(crate) rows: u32,
    pub(crate) epoch: u64,
    /// All bytes of the file below this belong to acknowledged groups.
    pub(crate) confirmed: u64,
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    /// Column definitions of the segment before this frame's.
    pub(crate) schema_base: u32,
    pub(crate) schema_len: u32,
    pub(crate) meta_len: u32,
    pub(crate) meta_raw: u32,
    pub(crate) bloom_len: u32,
    pub(crate) rollup_len: u32,
    pub(crate) payload_len: u64,
    pub(crate) payload_raw: u64,
    /// crc32c of schema and meta.
    pub(crate) head_crc: u32,
    /// crc32c of bloom.
    pub(crate) bloom_crc: u32,
    /// crc32c of the stored payload where it is compressed whole; else its buffers have their own.
    pub(crate) payload_crc: u32,
    /// xxh3-128 of everything behind the header.
    pub(crate) hash: u128,
    /// Number of the group in its writer.
    pub(crate) group: u64,
    /// The frame's half of its blocks' nonces ([`super::crypt`]), where it is encrypted.
    pub(crate) nonce: Option<u64>,
}

const WHOLE: u16 = 1;
const SPLIT: u16 = 2;
const CLOSE: u16 = 4;
const ENCRYPTED: u16 = 8;

impl FrameHeader {
    pub(crate) fn to_bytes(&self) -> [u8; FRAME_HEADER] {
        let flag = |on: bool, bit: u16| if on { bit } else { 0 };
        let mut out = Vec::with_capacity(FRAME_HEADER);
        out.extend_from_slice(FRAME_MAGIC);
        out.u16(self.version);
        out.u16(
            flag(self.whole, WHOLE)
                | flag(self.split, SPLIT)
                | flag(self.close, CLOSE)
                | flag(self.nonce.is_some(), ENCRYPTED),
        );
        out.u64(self.segment);
        out.u32(self.number);
        out.u32(self.rows);
        out.u64(self.epoch);
        out.u64(self.confirmed);
        out.i64(self.time_min);
        out.i64(self.time_max);
        out.u32(self.schema_base);
        out.u32(self.schema_len);
        out.u32(self.meta_len);
        out.u32(self.meta_raw);
        out.u32(self.bloom_len);
        out.u32(self.rollup_len);
        out.u64(self.payload_len);
        out.u64(self.payload_raw);
        out.u32(self.head_crc);
        out.u32(self.bloom_crc);
        out.u32(self.payload_crc);
        out.extend_from_slice(&self.hash.to_le_bytes());
        out.u64(self.group);
        // Until byte 156 there are 4 bytes of room.
        out.u64(self.nonce.unwrap_or_default());
        let mut fixed = [0; FRAME_HEADER];
        fixed[..out.len()].copy_from_slice(&out);
        seal(&mut fixed);
        fixed
    }

    pub(crate) fn from_bytes(bytes: &[u8; FRAME_HEADER]) -> Result<FrameHeader, Damage> {
        let mut take = Take::new(check(bytes, "frame header")?, "frame header");
        if take.array::<4>()? != *FRAME_MAGIC {
            return Err(Damage::Bounds("frame magic"));
        }
        let version = take.u16()?;
        Damage::version("frame", version, FRAME_VERSION)?;
        let flags = take.u16()?;
        if flags & !(WHOLE | SPLIT | CLOSE | ENCRYPTED) != 0 {
            return Err(Damage::Bounds("frame flags"));
        }
        let header = FrameHeader {
            version,
            whole: flags & WHOLE != 0,
            split: flags & SPLIT != 0,
            close: flags & CLOSE != 0,
            segment: take.u64()?,
            number: take.u32()?,
            rows: take.u32()?,
            epoch: take.u64()?,
            confirmed: take.u64()?,
            time_min: take.i64()?,
            time_max: take.i64()?,
            schema_base: take.u32()?,
            schema_len: take.u32()?,
            meta_len: take.u32()?,
            meta_raw: take.u32()?,
            bloom_len: take.u32()?,
            rollup_len: take.u32()?,
            payload_len: take.u64()?,
            payload_raw: take.u64()?,
            head_crc: take.u32()?,
            bloom_crc: take.u32()?,
            payload_crc: take.u32()?,
            hash: u128::from_le_bytes(take.array()?),
            group: take.u64()?,
            nonce: Some(take.u64()?).filter(|_| flags & ENCRYPTED != 0),
        };
        let parts = [
            u64::from(header.schema_len),
            u64::from(header.meta_len),
            u64::from(header.bloom_len),
            u64::from(header.rollup_len),
            header.payload_len,
            header.payload_raw,
            u64::from(header.meta_raw),
        ];
        if parts.iter().any(|n| *n > FRAME_BYTES_MAX) {
            return Err(Damage::Bounds("frame length"));
        }
        Ok(header)
    }

    /// The header with zeros for what is computed over the stored bytes: what encrypted blocks are bound to.
    pub(crate) fn unchecked_bytes(&self) -> [u8; FRAME_HEADER] {
        FrameHeader { head_crc: 0, bloom_crc: 0, payload_crc: 0, hash: 0, ..self.clone() }.to_bytes()
    }

    /// Bytes that encryption adds to each block.
    pub(crate) fn tag_len(&self) -> usize {
        if self.nonce.is_some() { TAG_BYTES } else { 0 }
    }

    /// Bytes behind the header, without padding.
    pub(crate) fn body_len(&self) -> u64 {
        u64::from(self.schema_len)
            + u64::from(self.meta_len)
            + u64::from(self.bloom_len)
            + u64::from(self.rollup_len)
            + self.payload_len
    }

    /// Bytes that the directory's buffers take together.
    pub(crate) fn payload_raw_or_len(&self) -> u64 {
        if self.whole { self.payload_raw } else { self.payload_len }
    }

    /// Bytes from this frame's header to where the next one begins.
    pub(crate) fn span(&self) -> u64 {
        (FRAME_HEADER as u64 + self.body_len()).next_multiple_of(ALIGN)
    }

    /// Where the blooms begin, counted from the header.
    pub(crate) fn bloom_at(&self) -> u64 {
        FRAME_HEADER as u64 + u64::from(self.schema_len) + u64::from(self.meta_len)
    }

    /// Where the payload begins, counted from the header.
    pub(crate) fn payload_at(&self) -> u64 {
        self.bloom_at() + u64::from(self.bloom_len) + u64::from(self.rollup_len)
    }
}

/// A header as it stands while its frame is claimed.
pub(crate) fn claim(header: &[u8; FRAME_HEADER]) -> [u8; FRAME_HEADER] {
    let mut claim = *header;
    claim[..4].copy_from_slice(CLAIM_MAGIC);
    claim
}

/// Whether a claim begins here.
pub(crate) fn is_claim(bytes: &[u8]) -> bool {
    bytes.starts_with(CLAIM_MAGIC)
}

/// The header that a claim is of.
pub(crate) fn claimed(bytes: &[u8; FRAME_HEADER]) -> Result<FrameHeader, Damage> {
    if !is_claim(bytes) {
        return Err(Damage::Bounds("claim magic"));
    }
    let mut header = *bytes;
    header[..4].copy_from_slice(FRAME_MAGIC);
    FrameHeader::from_bytes(&header)
}

/// Puts the checksum of all bytes before it into the last four.
pub(crate) fn seal(bytes: &mut [u8]) {
    let at = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..at]);
    bytes[at..].copy_from_slice(&crc.to_le_bytes());
}

pub(crate) fn check<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a [u8], Damage> {
    let (data, crc) = bytes.split_last_chunk::<4>().ok_or(Damage::Short(what))?;
    if crc32c::crc32c(data) == u32::from_le_bytes(*crc) { Ok(data) } else { Err(Damage::Checksum(what)) }
}
