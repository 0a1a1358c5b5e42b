//! Rows become a frame, but for the numbers that only its place in a file gives it.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::AsArray as _;
use prism_model::{AttrType, Batch, ColumnId, Intrinsic, Table, TableKind, Value};

use super::again::StoredValues;
use super::bloom;
use super::buffer::{Sink, compress, unpack};
use super::column::{self, Encoder};
use super::crypt::{Blocks, Crypt, Place, TAG_BYTES};
use super::decode::FrameMeta;
use super::header::{FIRST_FRAME_VERSION, FRAME_BYTES_MAX, FRAME_HEADER, FrameHeader};
use super::origins;
use super::schema::TableColumn;
use super::stats;
use super::wire::Put as _;
use crate::error::{Damage, StoreError};

/// Frames of fewer items are compressed as one: by column, 20 rows of 80 columns would need five times as many bytes.
pub(crate) const WHOLE_ROWS_MAX: usize = 2_000;
/// Services that a frame lists; beyond that the list is left out.
pub(crate) const SERVICES_MAX: usize = 256;

/// A frame without a place.
pub(crate) struct Encoded {
    pub(crate) columns: Vec<TableColumn>,
    pub(crate) rows: u32,
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    /// What reads it.
    version: u16,
    whole: bool,
    meta: Vec<u8>,
    meta_raw: u32,
    bloom: Vec<u8>,
    payload: Vec<u8>,
    payload_raw: u64,
    /// Bytes of each part of the payload that is read alone.
    blocks: Vec<u32>,
}

/// The batch as a frame.
///
/// # Errors
/// [`StoreError::Rows`] for a column type that is none of the model's, or more than 1 GiB.
pub(crate) fn encode(batch: &Batch, level: i32) -> Result<Encoded, StoreError> {
    encode_joined(batch, level, &[])
}

/// The rows of frames, joined in their order, as a frame; `again` are the values of those frames as they are stored.
///
/// # Errors
/// As [`encode`].
pub(crate) fn encode_joined(batch: &Batch, level: i32, again: &[StoredValues]) -> Result<Encoded, StoreError> {
    let whole = batch.rows() < WHOLE_ROWS_MAX;
    let mut sink = Sink::new(whole, level, batch.memory_bytes() / 3);
    let (mut meta, mut columns) = (Vec::with_capacity(8 << 10), Vec::new());
    let mut version = FIRST_FRAME_VERSION;
    let (mut tokens, mut traces, mut scratch, mut numbers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    meta.u8(batch.signal as u8);
    sink.push(&origins::encode(&batch.origins), &mut meta)?;
    put_services(batch, &mut meta);
    meta.var(batch.tables().len() as u64);
    for table in batch.tables() {
        meta.u8(table.kind() as u8);
        meta.var(table.rows() as u64);
        meta.var(table.columns().len() as u64);
        for c in table.columns() {
            let mut encoder = Encoder {
                table: table.kind(),
                again,
                sink: &mut sink,
                directory: &mut meta,
                tokens: &mut tokens,
                traces: &mut traces,
                scratch: &mut scratch,
                numbers: &mut numbers,
                version: &mut version,
            };
            let column_meta = column::encode(&c.id, &c.array, &mut encoder)?;
            stats::put(&column_meta, &mut meta);
            columns.push((table.kind(), c.id.clone()));
        }
        if table.kind() == TableKind::Tail {
            tail_tokens(table, &mut tokens)?;
        }
    }
    let (time_min, time_max) = time_range(batch);
    let (mut payload, mut blocks) = (sink.payload, sink.blocks);
    let payload_raw = payload.len() as u64;
    // A payload that does not shrink stays as it is; its lengths then say so.
    if whole {
        let mut packed = Vec::new();
        if compress(&payload, level, &mut packed)? {
            payload = packed;
        }
        blocks = vec![payload.len() as u32];
    }
    if payload_raw + (blocks.len() * TAG_BYTES) as u64 > FRAME_BYTES_MAX {
        return Err(StoreError::Rows(format!("a frame of {payload_raw} bytes")));
    }
    let meta_raw = meta.len() as u32;
    let mut packed = Vec::new();
    if compress(&meta, level, &mut packed)? {
        meta = packed;
    }
    let (traces, tokens) = (bloom::build(&mut traces, bloom::BYTES_MAX), bloom::build(&mut tokens, bloom::BYTES_MAX));
    let mut bloom = Vec::with_capacity(8 + traces.len() + tokens.len());
    bloom.u32(traces.len() as u32);
    bloom.extend_from_slice(&traces);
    bloom.extend_from_slice(&tokens);
    Ok(Encoded {
        columns,
        rows: batch.rows() as u32,
        time_min,
        time_max,
        version,
        whole,
        meta,
        meta_raw,
        bloom,
        payload,
        payload_raw,
        blocks,
    })
}

/// Where a frame stands, and what encrypts it there.
pub(crate) struct Position<'a> {
    pub(crate) segment: u64,
    pub(crate) number: u32,
    pub(crate) epoch: u64,
    pub(crate) confirmed: u64,
    pub(crate) schema_base: u32,
    pub(crate) group: u64,
    pub(crate) split: bool,
    pub(crate) crypt: Option<Crypt<'a>>,
}

impl Encoded {
    /// The meta block as it was before it was compressed.
    pub(crate) fn raw_meta(&self) -> Result<Cow<'_, [u8]>, Damage> {
        unpack(&self.meta, self.meta_raw)
    }

    /// A frame as it stands in a file, to be placed in another one; `body` is all behind its header, as its hash tells.
    pub(crate) fn stored(meta: &FrameMeta, body: &[u8]) -> Result<Encoded, Damage> {
        let (header, blocks) = (&meta.header, meta.blocks()?);
        let part = |at: u64, len: u64| {
            let from = at as usize - FRAME_HEADER;
            body.get(from..from + len as usize).ok_or(Damage::Short("frame"))
        };
        let meta_at = FRAME_HEADER as u64 + u64::from(header.schema_len);
        let (mut payload, mut lens) = (Vec::with_capacity(header.payload_len as usize), Vec::new());
        for (at, len) in meta.payload_blocks()? {
            let block = blocks.take(Place::Payload(at), part(header.payload_at() + at, len)?)?;
            lens.push(block.len() as u32);
            payload.extend_from_slice(&block);
        }
        Ok(Encoded {
            columns: meta.table_columns(),
            rows: header.rows,
            time_min: header.time_min,
            time_max: header.time_max,
            version: header.version,
            whole: header.whole,
            meta: blocks.take(Place::Meta, part(meta_at, header.meta_len.into())?)?.into_owned(),
            meta_raw: header.meta_raw,
            bloom: blocks.take(Place::Blooms, part(header.bloom_at(), header.bloom_len.into())?)?.into_owned(),
            payload,
            payload_raw: header.payload_raw,
            blocks: lens,
        })
    }

    /// Header and body of the frame at its place.
    ///
    /// # Errors
    /// [`StoreError::Rows`] where encryption refuses a block, which is none that [`encode`] makes.
    pub(crate) fn place(&self, schema: &[u8], at: &Position<'_>) -> Result<([u8; FRAME_HEADER], Vec<u8>), StoreError> {
        let tag = if at.crypt.is_some() { TAG_BYTES } else { 0 };
        let mut header = FrameHeader {
            version: self.version,
            whole: self.whole,
            split: at.split,
            close: false,
            segment: at.segment,
            number: at.number,
            rows: self.rows,
            epoch: at.epoch,
            confirmed: at.confirmed,
            time_min: self.time_min,
            time_max: self.time_max,
            schema_base: at.schema_base,
            schema_len: (schema.len() + tag) as u32,
            meta_len: (self.meta.len() + tag) as u32,
            meta_raw: self.meta_raw,
            bloom_len: (self.bloom.len() + tag) as u32,
            rollup_len: 0,
            payload_len: (self.payload.len() + self.blocks.len() * tag) as u64,
            payload_raw: self.payload_raw,
            head_crc: 0,
            bloom_crc: 0,
            payload_crc: 0,
            hash: 0,
            group: at.group,
            nonce: at.crypt.map(|c| c.nonce),
        };
        let blocks = Blocks::store(&header, at.crypt);
        let mut body = Vec::with_capacity(header.body_len() as usize + 16);
        blocks.push(Place::Schema, schema, &mut body)?;
        blocks.push(Place::Meta, &self.meta, &mut body)?;
        header.head_crc = crc32c::crc32c(&body);
        let bloom_at = body.len();
        blocks.push(Place::Blooms, &self.bloom, &mut body)?;
        header.bloom_crc = crc32c::crc32c(&body[bloom_at..]);
        let payload_at = body.len();
        let mut rest = &self.payload[..];
        for len in &self.blocks {
            let (block, behind) = rest.split_at(*len as usize);
            blocks.push(Place::Payload((body.len() - payload_at) as u64), block, &mut body)?;
            rest = behind;
        }
        if self.whole {
            header.payload_crc = crc32c::crc32c(&body[payload_at..]);
        }
        header.hash = xxhash_rust::xxh3::xxh3_128(&body);
        Ok((header.to_bytes(), body))
    }
}

/// Smallest and largest event time of the items.
fn time_range(batch: &Batch) -> (i64, i64) {
    let times = batch.event_times();
    let values = times.values();
    values.iter().fold((i64::MAX, i64::MIN), |(min, max), t| (min.min(*t), max.max(*t)))
}

/// The distinct `service.name`s: 0 for "not listed", else their count plus one and their texts.
fn put_services(batch: &Batch, out: &mut Vec<u8>) {
    let Some(services) = services(batch) else { return out.var(0) };
    out.var(services.len() as u64 + 1);
    services.iter().for_each(|s| out.text(s.as_bytes()));
}

fn services(batch: &Batch) -> Option<Vec<Arc<str>>> {
    let resources = batch.table(TableKind::Resources);
    let Some(column) = resources.and_then(|t| t.column(&ColumnId::attr("service.name", AttrType::Str))) else {
        return Some(Vec::new());
    };
    let texts = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).ok()?;
    let mut distinct: Vec<Arc<str>> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for text in texts.as_string::<i32>().iter().flatten() {
        if seen.insert(text) {
            distinct.push(text.into());
        }
        if distinct.len() > SERVICES_MAX {
            return None;
        }
    }
    Some(distinct)
}

/// Text attributes without a column are in the filter too, else a filter on one would lose its rows (QU-2).
fn tail_tokens(tail: &Table, tokens: &mut Vec<u64>) -> Result<(), StoreError> {
    let plain = |i: Intrinsic| -> Result<Option<arrow::array::ArrayRef>, StoreError> {
        let Some(array) = tail.intrinsic(i) else { return Ok(None) };
        let cast = arrow::compute::cast(array, &arrow::datatypes::DataType::Utf8);
        Ok(Some(cast.map_err(|e| StoreError::Rows(e.to_string()))?))
    };
    let (Some(keys), Some(values)) = (plain(Intrinsic::Key)?, plain(Intrinsic::Value)?) else { return Ok(()) };
    for (key, value) in keys.as_string::<i32>().iter().zip(values.as_string::<i32>()) {
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        if value.starts_with('"')
            && let Ok(Value::Str(text)) = Value::from_text(value)
        {
            tokens.push(bloom::token_hash(bloom::key_seed(key), &text));
        }
    }
    Ok(())
}
