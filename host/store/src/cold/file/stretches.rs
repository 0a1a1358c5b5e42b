//! Stretches of an object: near ones are read together, and all of them are checked before they are used.

use std::ops::Range;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::damaged;
use super::meta::Stretch;
use crate::error::{Damage, StoreError};
use crate::objects::Objects;
use crate::unit::ReadCost;

pub(super) fn read(objects: &dyn Objects, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
    let wanted = range.end.saturating_sub(range.start);
    let bytes = objects.read(name, range).map_err(failed)?;
    if bytes.len() as u64 == wanted { Ok(bytes) } else { Err(Damage::Short("cold file").into()) }
}

fn failed(e: std::io::Error) -> StoreError {
    match e.kind() {
        std::io::ErrorKind::UnexpectedEof => StoreError::Damaged(Damage::Short("cold file")),
        _ => StoreError::read("read a cold file", e),
    }
}

pub(super) fn check(bytes: &[u8], crc: u32, what: &'static str) -> Result<(), StoreError> {
    if crc32c::crc32c(bytes) == crc { Ok(()) } else { Err(Damage::Checksum(what).into()) }
}

/// Ranges with at most `gap` bytes between them as one, ascending.
pub(super) fn join(mut ranges: Vec<Range<u64>>, gap: u64) -> Vec<Range<u64>> {
    ranges.retain(|r| r.start < r.end);
    ranges.sort_by_key(|r| r.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Stretches of a file that were read, by offset. Cheap to clone.
#[derive(Clone)]
pub(super) struct Stretches {
    parts: Vec<(u64, Bytes)>,
    pub(super) cost: ReadCost,
}

impl Stretches {
    /// Reads ranges; those that lie near each other together.
    pub(super) fn read(objects: &dyn Objects, name: &str, ranges: Vec<Range<u64>>) -> Result<Stretches, StoreError> {
        let joined = join(ranges, objects.gap_bytes());
        let read = objects.read_ranges(name, &joined).map_err(failed)?;
        let mut cost = ReadCost::default();
        let mut parts = Vec::with_capacity(joined.len());
        for (range, bytes) in joined.into_iter().zip(read) {
            if bytes.len() as u64 != range.end - range.start {
                return Err(Damage::Short("cold file").into());
            }
            cost.bytes += bytes.len() as u64;
            cost.reads += 1;
            parts.push((range.start, bytes));
        }
        Ok(Stretches { parts, cost })
    }

    /// Bytes of our own, checked.
    pub(super) fn own(&self, stretch: &Stretch) -> Result<Bytes, StoreError> {
        if stretch.len == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.get(stretch.offset, stretch.len as usize).map_err(damaged)?;
        check(&bytes, stretch.crc, "filter")?;
        Ok(bytes)
    }

    pub(super) fn get(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let missing = || ParquetError::EOF("bytes that were not read".into());
        let i = self.parts.partition_point(|(at, _)| *at <= start);
        let (at, bytes) = i.checked_sub(1).and_then(|i| self.parts.get(i)).ok_or_else(missing)?;
        let from = (start - at) as usize;
        let to = from.checked_add(length).filter(|to| *to <= bytes.len()).ok_or_else(missing)?;
        Ok(bytes.slice(from..to))
    }
}

impl Length for Stretches {
    fn len(&self) -> u64 {
        self.parts.last().map_or(0, |(at, bytes)| at + bytes.len() as u64)
    }
}

impl ChunkReader for Stretches {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let i = self.parts.partition_point(|(at, _)| *at <= start);
        let part = i.checked_sub(1).and_then(|i| self.parts.get(i));
        let (at, bytes) = part.ok_or_else(|| ParquetError::EOF("bytes that were not read".into()))?;
        let from = ((start - at) as usize).min(bytes.len());
        Ok(bytes::Buf::reader(bytes.slice(from..)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.get(start, length)
    }
}
