//! The rows of one id in a column of ids, found in the pages as they lie there: no value is made of the others. A dictionary
//! without the id ends the search before any row is read.
//!
//! Only what [`super::pages`] writes is known here (data pages v1 of flat columns); of anything else nothing is said, and the
//! caller reads the column.

use std::sync::Arc;

use arrow::array::UInt32Array;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader as _};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

use super::damaged;
use crate::error::StoreError;

/// How the id is told in data pages.
pub(super) enum Sought<'i> {
    /// By its bytes.
    Plain(&'i [u8; 16]),
    /// By its number in the dictionary.
    Number(u32),
}

/// The first page of a chunk.
pub(super) fn first_page<R: ChunkReader<T: 'static> + 'static>(
    reader: R,
    chunk: &ColumnChunkMetaData,
    rows: usize,
    locations: &[PageLocation],
) -> Result<Option<Page>, StoreError> {
    let pages = SerializedPageReader::new(Arc::new(reader), chunk, rows, Some(locations.to_vec()));
    pages.and_then(|mut pages| pages.get_next_page()).map_err(damaged)
}

/// The number of an id in a dictionary page; `None` where it is not in it, or the page is no dictionary of ids.
pub(super) fn number(dictionary: &Page, id: &[u8; 16]) -> Option<u32> {
    let (ids, _) = dictionary.buffer().as_chunks::<16>();
    ids.iter().position(|other| other == id).and_then(|number| u32::try_from(number).ok())
}

/// The rows of the id in the data pages of a chunk; `None` where a page is none that is known here.
pub(super) fn rows<R: ChunkReader<T: 'static> + 'static>(
    reader: R,
    chunk: &ColumnChunkMetaData,
    rows: usize,
    locations: &[PageLocation],
    sought: &Sought<'_>,
) -> Result<Option<UInt32Array>, StoreError> {
    let mut pages =
        SerializedPageReader::new(Arc::new(reader), chunk, rows, Some(locations.to_vec())).map_err(damaged)?;
    if matches!(sought, Sought::Number(_)) {
        pages.skip_next_page().map_err(damaged)?;
    }
    let (mut found, mut first) = (Vec::new(), 0);
    while let Some(page) = pages.get_next_page().map_err(damaged)? {
        if in_page(&page, first, sought, &mut found).is_none() {
            return Ok(None);
        }
        first += page.num_values();
    }
    Ok((first as usize == rows).then(|| found.into()))
}

/// Adds the rows of the id in a data page whose first row is `first`.
fn in_page(page: &Page, first: u32, sought: &Sought<'_>, found: &mut Vec<u32>) -> Option<()> {
    let Page::DataPage { buf, num_values, encoding, .. } = page else { return None };
    let (length, rest) = buf.split_first_chunk::<4>()?;
    let (levels, values) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let rows = *num_values as usize;
    // By value, its row: those that are missing stand in the levels alone.
    let mut there: Option<Vec<u32>> = None;
    if !all_there(levels, rows) {
        let mut of = Vec::with_capacity(rows);
        each(levels, 1, rows, |row, level| {
            if level == 1 {
                of.push(row as u32);
            }
        })?;
        there = Some(of);
    }
    let count = there.as_ref().map_or(rows, Vec::len);
    let mut add = |value: usize| {
        let row = there.as_ref().map_or(value as u32, |of| of[value]);
        found.push(first + row);
    };
    match (sought, encoding) {
        (Sought::Plain(id), Encoding::PLAIN) => {
            let (ids, rest) = values.as_chunks::<16>();
            if ids.len() != count || !rest.is_empty() {
                return None;
            }
            ids.iter().enumerate().filter(|(_, other)| other == id).for_each(|(value, _)| add(value));
        }
        (Sought::Number(number), Encoding::RLE_DICTIONARY) => {
            let (bits, numbers) = values.split_first()?;
            each(numbers, *bits, count, |value, other| {
                if other == *number {
                    add(value);
                }
            })?;
        }
        _ => return None,
    }
    Some(())
}

/// Whether levels are one run of "there".
fn all_there(levels: &[u8], rows: usize) -> bool {
    let mut rest = levels;
    let header = varint(&mut rest);
    header.is_some_and(|header| header & 1 == 0 && (header >> 1) as usize == rows) && rest.first() == Some(&1)
}

/// Visits `count` numbers in Parquet's hybrid of runs and packed bits; `None` where the bytes end before.
fn each(mut bytes: &[u8], bits: u8, count: usize, mut see: impl FnMut(usize, u32)) -> Option<()> {
    if bits > 32 {
        return None;
    }
    let mut at = 0;
    while at < count {
        let header = varint(&mut bytes)?;
        let units = usize::try_from(header >> 1).ok()?;
        if header & 1 == 0 {
            let (value, rest) = bytes.split_at_checked(usize::from(bits).div_ceil(8))?;
            let mut word = [0; 4];
            word[..value.len()].copy_from_slice(value);
            let end = at.checked_add(units)?.min(count);
            if end == at {
                return None;
            }
            (at..end).for_each(|i| see(i, u32::from_le_bytes(word)));
            (bytes, at) = (rest, end);
        } else {
            let (packed, rest) = bytes.split_at_checked(units.checked_mul(usize::from(bits))?)?;
            let end = at.checked_add(units.checked_mul(8)?)?.min(count);
            if end == at {
                return None;
            }
            unpack(packed, bits, end - at, |i, value| see(at + i, value));
            (bytes, at) = (rest, end);
        }
    }
    Some(())
}

/// Numbers of a width from their lowest bit on.
fn unpack(packed: &[u8], bits: u8, count: usize, mut see: impl FnMut(usize, u32)) {
    let mask = if bits == 0 { 0 } else { u64::MAX >> (64 - u32::from(bits)) };
    for i in 0..count {
        let bit = i * usize::from(bits);
        let from = &packed[(bit / 8).min(packed.len())..];
        let word = match from.first_chunk::<8>() {
            Some(word) => u64::from_le_bytes(*word),
            None => from.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        see(i, (word >> (bit % 8) & mask) as u32);
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, bits: u8, count in 0usize..100) {
            let mut seen = 0;
            if each(&bytes, bits, count, |at, _| { assert_eq!(at, seen); seen += 1; }).is_some() {
                prop_assert_eq!(seen, count);
            }
        }
    }
}
