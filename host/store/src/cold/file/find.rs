//! The rows of one value in a column, found in the pages as they lie there: no value is made of the others. A dictionary without
//! the value ends the search before any row is read. And of all rows the numbers of their values.
//!
//! Only flat columns with data pages v1 are known here: ids and dictionaries as [`super::pages`] writes them, and texts one behind
//! the other as Parquet's writer does. Of anything else nothing is said, and the caller reads the column.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, FixedSizeBinaryArray, StringArray, UInt32Array};
use arrow::buffer::{Buffer, NullBuffer};
use memchr::memmem::Finder;
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageReader as _};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

use super::damaged;
use crate::error::StoreError;
use crate::frame::wire::Take;

/// How a value is told in data pages.
pub(super) enum Sought<'v> {
    /// By its bytes, which are those of an id.
    Id(&'v [u8; 16]),
    /// By its bytes, somewhere among those of other texts.
    Text(Box<Finder<'v>>),
    /// By its number in the dictionary.
    Number(u32),
}

/// Rows of a value.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Those that are certain, ascending.
    pub(super) rows: Vec<u32>,
    /// Pages whose bytes have the value somewhere: rows that must be looked at.
    pub(super) perhaps: Vec<Range<usize>>,
}

/// The pages of a chunk.
pub(super) fn pages<R: ChunkReader + 'static>(
    reader: R,
    chunk: &ColumnChunkMetaData,
    rows: usize,
    locations: &[PageLocation],
) -> Result<SerializedPageReader<R>, StoreError> {
    SerializedPageReader::new(Arc::new(reader), chunk, rows, Some(locations.to_vec())).map_err(damaged)
}

/// The number of a value in a dictionary page; `None` where it is not in it.
pub(super) fn number(dictionary: &Page, physical: Type, value: &[u8]) -> Option<u32> {
    let bytes = dictionary.buffer();
    let at = match physical {
        Type::FIXED_LEN_BYTE_ARRAY => bytes.chunks_exact(value.len().max(1)).position(|other| other == value),
        _ => texts(bytes).position(|other| other == value),
    };
    at.and_then(|number| u32::try_from(number).ok())
}

/// The values of a dictionary page, in its order; `None` where they are neither texts nor ids.
pub(super) fn values(dictionary: &Page, chunk: &ColumnChunkMetaData) -> Option<ArrayRef> {
    let bytes = dictionary.buffer();
    let count = dictionary.num_values() as usize;
    let array: ArrayRef = match chunk.column_type() {
        Type::BYTE_ARRAY => {
            let texts = texts(bytes).map(|text| std::str::from_utf8(text).ok()).collect::<Option<Vec<&str>>>()?;
            Arc::new(StringArray::from_iter_values(texts))
        }
        Type::FIXED_LEN_BYTE_ARRAY => {
            let width = chunk.column_descr().type_length();
            Arc::new(FixedSizeBinaryArray::try_new(width, Buffer::from(bytes.clone()), None).ok()?)
        }
        _ => return None,
    };
    (array.len() == count).then_some(array)
}

/// Texts, each behind its length.
fn texts(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        bytes = rest;
        Some(text)
    })
}

/// The rows of a value in the data pages of a chunk; `None` where a page is none that is known here.
pub(super) fn rows<R: ChunkReader + 'static>(
    mut pages: SerializedPageReader<R>,
    rows: usize,
    sought: &Sought<'_>,
) -> Result<Option<Found>, StoreError> {
    let (mut found, mut first) = (Found::default(), 0);
    while let Some(page) = pages.get_next_page().map_err(damaged)? {
        if matches!(page, Page::DictionaryPage { .. }) {
            continue;
        }
        if in_page(&page, first, sought, &mut found).is_none() {
            return Ok(None);
        }
        first += page.num_values();
    }
    Ok((first as usize == rows).then_some(found))
}

/// The numbers of a chunk's rows in its dictionary, null where a value is missing; `None` where a page is none that is known here.
pub(super) fn numbers<R: ChunkReader + 'static>(
    mut pages: SerializedPageReader<R>,
    rows: usize,
) -> Result<Option<UInt32Array>, StoreError> {
    let (mut all, mut missing) = (Vec::with_capacity(rows), Vec::new());
    while let Some(page) = pages.get_next_page().map_err(damaged)? {
        if !matches!(page, Page::DictionaryPage { .. }) && numbers_in(&page, &mut all, &mut missing).is_none() {
            return Ok(None);
        }
    }
    if all.len() != rows {
        return Ok(None);
    }
    let there = (!missing.is_empty()).then(|| {
        let mut there = vec![true; rows];
        missing.iter().for_each(|row| there[*row] = false);
        NullBuffer::from(there)
    });
    Ok(Some(UInt32Array::new(all.into(), there)))
}

/// Adds the numbers of a page's rows, and which of all rows have none.
fn numbers_in(page: &Page, all: &mut Vec<u32>, missing: &mut Vec<usize>) -> Option<()> {
    let (levels, values, rows, encoding) = parts(page)?;
    if encoding != Encoding::RLE_DICTIONARY {
        return None;
    }
    let (bits, numbers) = values.split_first()?;
    if all_there(levels, rows) {
        return each(numbers, *bits, rows, |_, number| all.push(number));
    }
    let (first, mut there) = (all.len(), 0);
    all.resize(first + rows, 0);
    let mut of = Vec::with_capacity(rows);
    each(levels, 1, rows, |row, level| match level {
        1 => of.push(first + row),
        _ => missing.push(first + row),
    })?;
    each(numbers, *bits, of.len(), |value, number| {
        all[of[value]] = number;
        there += 1;
    })?;
    (there == of.len()).then_some(())
}

/// Levels, values, rows and encoding of a data page.
fn parts(page: &Page) -> Option<(&[u8], &[u8], usize, Encoding)> {
    let Page::DataPage { buf, num_values, encoding, .. } = page else { return None };
    let (length, rest) = buf.split_first_chunk::<4>()?;
    let (levels, values) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((levels, values, *num_values as usize, *encoding))
}

/// Adds the rows of the value in a data page whose first row is `first`.
fn in_page(page: &Page, first: u32, sought: &Sought<'_>, found: &mut Found) -> Option<()> {
    let (levels, values, rows, encoding) = parts(page)?;
    if let (Sought::Text(finder), Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::PLAIN) = (sought, encoding) {
        if finder.find(values).is_some() {
            found.perhaps.push(first as usize..first as usize + rows);
        }
        return Some(());
    }
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
        found.rows.push(first + row);
    };
    match (sought, encoding) {
        (Sought::Id(id), Encoding::PLAIN) => {
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
    let mut take = Take::new(levels, "levels of a page");
    let header = take.var().ok();
    header.is_some_and(|header| header & 1 == 0 && (header >> 1) as usize == rows) && take.rest().first() == Some(&1)
}

/// Visits `count` numbers in Parquet's hybrid of runs and packed bits; `None` where the bytes end before.
fn each(bytes: &[u8], bits: u8, count: usize, mut see: impl FnMut(usize, u32)) -> Option<()> {
    if bits > 32 {
        return None;
    }
    let (mut take, mut at) = (Take::new(bytes, "numbers of a page"), 0);
    while at < count {
        let header = take.var().ok()?;
        let units = usize::try_from(header >> 1).ok()?;
        let end = if header & 1 == 0 {
            let value = take.bytes(usize::from(bits).div_ceil(8)).ok()?;
            let mut word = [0; 4];
            word[..value.len()].copy_from_slice(value);
            let end = at.checked_add(units)?.min(count);
            (at..end).for_each(|i| see(i, u32::from_le_bytes(word)));
            end
        } else {
            let packed = take.bytes(units.checked_mul(usize::from(bits))?).ok()?;
            let end = at.checked_add(units.checked_mul(8)?)?.min(count);
            unpack(packed, bits, end - at, |i, value| see(at + i, value));
            end
        };
        if end == at {
            return None;
        }
        at = end;
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
