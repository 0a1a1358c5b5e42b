//! Frames without a segment, for benches and fuzzing.

use std::sync::Arc;

use prism_model::{Batch, ColumnId, TableKind};

use super::crypt::{Crypt, DataKey};
use super::decode::FrameMeta;
use super::encode::{Position, encode as encode_frame};
use super::header::{FRAME_HEADER, FrameHeader};
use super::schema::{SegmentSchema, Siblings};
use crate::error::{Damage, StoreError};

/// The batch as the first frame of some segment.
///
/// # Errors
/// `Bug` where the batch cannot be stored.
pub fn encode(batch: &Batch, zstd_level: i32) -> Result<Vec<u8>, StoreError> {
    placed(batch, zstd_level, None)
}

/// The batch as an encrypted frame.
///
/// # Errors
/// As [`encode`].
pub fn encrypt(batch: &Batch, zstd_level: i32, key: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
    let key = DataKey::new(key)?;
    placed(batch, zstd_level, Some(Crypt { key: &key, nonce: 0 }))
}

fn placed(batch: &Batch, zstd_level: i32, crypt: Option<Crypt<'_>>) -> Result<Vec<u8>, StoreError> {
    let frame = encode_frame(batch, zstd_level)?;
    let (block, _) = SegmentSchema::default().block(&frame.columns, &Siblings::new());
    let at = Position { segment: 0, number: 0, epoch: 1, confirmed: 0, schema_base: 0, group: 0, split: false, crypt };
    let (header, mut bytes) = frame.place(&block, &at)?;
    bytes.splice(0..0, header);
    Ok(bytes)
}

/// The wanted columns of a frame.
///
/// # Errors
/// [`Damage`] for any bytes that [`encode`] did not give.
pub fn decode(bytes: &[u8], want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Result<Batch, Damage> {
    taken(bytes, None, want)
}

/// The wanted columns of an encrypted frame.
///
/// # Errors
/// [`Damage`] for any bytes that [`encrypt`] did not give with this key.
pub fn decrypt(bytes: &[u8], key: &[u8; 32], want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Result<Batch, Damage> {
    taken(bytes, Some(&Arc::new(DataKey::new(key)?)), want)
}

fn taken(
    bytes: &[u8],
    key: Option<&Arc<DataKey>>,
    want: &dyn Fn(TableKind, &ColumnId) -> bool,
) -> Result<Batch, Damage> {
    let short = Damage::Short("frame");
    let header = FrameHeader::from_bytes(bytes.first_chunk::<FRAME_HEADER>().ok_or(short.clone())?)?;
    let part = |from: usize, len: usize| bytes.get(from..from.saturating_add(len)).ok_or(Damage::Short("frame"));
    let payload = header.payload_at() as usize;
    let stored = part(FRAME_HEADER, header.schema_len as usize + header.meta_len as usize)?;
    let (meta, _) = FrameMeta::open(header, stored, key, &mut Vec::new(), None)?;
    let read = |(at, len): (u64, u64)| Ok((at, part(payload + at as usize, len as usize)?.to_vec()));
    let stretches = meta.stretches(want)?.into_iter().map(read).collect::<Result<Vec<_>, Damage>>()?;
    meta.rows_of(want, &stretches)
}

/// Bytes of each part, for reports.
pub fn parts(bytes: &[u8]) -> Vec<(&'static str, usize)> {
    let Some(Ok(header)) = bytes.first_chunk::<FRAME_HEADER>().map(FrameHeader::from_bytes) else { return Vec::new() };
    vec![
        ("schema", header.schema_len as usize),
        ("meta", header.meta_len as usize),
        ("blooms", header.bloom_len as usize),
        ("payload", header.payload_len as usize),
    ]
}
