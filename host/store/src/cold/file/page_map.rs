//! Where the pages of each column chunk lie, with a checksum of each: few rows are read without the rest of their chunks, and
//! what is read is checked all the same.
//!
//! ```text
//! … page index | page map | meta | trailer | Parquet footer (`prism.pages`: length and checksum of the map) …
//! map, by row group and chunk: dictionary page (length or 0, crc32c), number of data pages, then of each: length, rows, crc32c
//! ```
//! Pages of a chunk follow each other without a gap, so that lengths tell places. Readers that do not know the map, and files
//! without one, read whole chunks. Parquet's own page index says as much of places, and nothing of damage.

use std::ops::Range;

use parquet::file::metadata::KeyValue;
use parquet::file::page_index::offset_index::{OffsetIndexMetaData, PageLocation};

use crate::error::Damage;
use crate::frame::wire::{Put as _, Take};

/// The footer's key under which the map's length and checksum stand.
pub(super) const KEY: &str = "prism.pages";
/// Bytes of a map that are believed: of 1,000 columns in as many row groups.
const MAP_BYTES_MAX: usize = 256 << 20;

/// A page of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageSum {
    /// With its header.
    pub(super) len: u32,
    pub(super) rows: u32,
    pub(super) crc: u32,
}

/// The pages of a chunk in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChunkPages {
    pub(super) dictionary: Option<PageSum>,
    pub(super) data: Vec<PageSum>,
}

/// The pages of all chunks, by row group.
pub(super) type PageMap = Vec<Vec<ChunkPages>>;

impl ChunkPages {
    /// Where the data pages of a chunk begin behind each other, and their rows; checksums come when the bytes are known.
    pub(super) fn of(index: Option<&OffsetIndexMetaData>, rows: usize) -> Option<ChunkPages> {
        let locations = index?.page_locations();
        let ends = locations.iter().skip(1).map(|page| page.first_row_index).chain([i64::try_from(rows).ok()?]);
        let page = |(page, end): (&PageLocation, i64)| {
            let rows = u32::try_from(end - page.first_row_index).ok()?;
            Some(PageSum { len: u32::try_from(page.compressed_page_size).ok()?, rows, crc: 0 })
        };
        let data = locations.iter().zip(ends).map(page).collect::<Option<Vec<_>>>()?;
        Some(ChunkPages { dictionary: None, data })
    }

    /// Adds the checksums of a chunk's bytes; what comes before the data pages is the dictionary. `None`: the pages are not those
    /// of these bytes.
    pub(super) fn summed(mut self, chunk: &[u8]) -> Option<ChunkPages> {
        let data: usize = self.data.iter().map(|page| page.len as usize).sum();
        let before = chunk.len().checked_sub(data)?;
        let (dictionary, mut rest) = chunk.split_at(before);
        if before > 0 {
            let (len, crc) = (u32::try_from(before).ok()?, crc32c::crc32c(dictionary));
            self.dictionary = Some(PageSum { len, rows: 0, crc });
        }
        for page in &mut self.data {
            let (bytes, behind) = rest.split_at(page.len as usize);
            page.crc = crc32c::crc32c(bytes);
            rest = behind;
        }
        Some(self)
    }

    /// The pages that hold some of the rows, and the dictionary where there is one, each with where it lies, in a chunk that
    /// begins at `start`. `rows` ascend.
    pub(super) fn holding(&self, rows: &[Range<usize>], start: u64) -> Vec<(Range<u64>, u32)> {
        let mut found = Vec::new();
        let mut at = start;
        let mut place = |len: u32| {
            at += u64::from(len);
            at - u64::from(len)..at
        };
        found.extend(self.dictionary.iter().map(|page| (place(page.len), page.crc)));
        let (mut first, mut rows) = (0, rows.iter().peekable());
        for page in &self.data {
            let end = first + page.rows as usize;
            while rows.next_if(|wanted| wanted.end <= first).is_some() {}
            let lies = place(page.len);
            if rows.peek().is_some_and(|wanted| wanted.start < end) {
                found.push((lies, page.crc));
            }
            first = end;
        }
        found
    }

    /// Bytes in memory, with what Parquet's reader is told.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<ChunkPages>() + self.data.len() * (size_of::<PageSum>() + size_of::<PageLocation>())
    }

    /// As Parquet's reader wants to know it, for a chunk that begins at `start`.
    fn offsets(&self, start: u64) -> OffsetIndexMetaData {
        let (mut at, mut first) = (start + u64::from(self.dictionary.map_or(0, |page| page.len)), 0);
        let location = |page: &PageSum| {
            let here =
                PageLocation { offset: at as i64, compressed_page_size: page.len as i32, first_row_index: first };
            at += u64::from(page.len);
            first += i64::from(page.rows);
            here
        };
        let page_locations = self.data.iter().map(location).collect();
        OffsetIndexMetaData { page_locations, unencoded_byte_array_data_bytes: None }
    }
}

/// What stands in the footer of a map.
pub(super) fn told(bytes: &[u8]) -> KeyValue {
    KeyValue::new(KEY.to_owned(), format!("{}:{:08x}", bytes.len(), crc32c::crc32c(bytes)))
}

/// Length and checksum of the map, as the footer says; `None` where there is none.
pub(super) fn stands(footer: Option<&Vec<KeyValue>>) -> Option<(usize, u32)> {
    let (len, crc) = footer?.iter().find(|pair| pair.key == KEY)?.value.as_deref()?.split_once(':')?;
    let len = len.parse().ok().filter(|len| *len <= MAP_BYTES_MAX)?;
    Some((len, u32::from_str_radix(crc, 16).ok()?))
}

/// A map as bytes.
pub(super) fn put(map: &PageMap) -> Vec<u8> {
    let mut out = Vec::new();
    out.var(map.len() as u64);
    for group in map {
        out.var(group.len() as u64);
        for chunk in group {
            let dictionary = chunk.dictionary.unwrap_or_default();
            out.var(u64::from(dictionary.len));
            out.u32(dictionary.crc);
            out.var(chunk.data.len() as u64);
            for page in &chunk.data {
                out.var(u64::from(page.len));
                out.var(u64::from(page.rows));
                out.u32(page.crc);
            }
        }
    }
    out
}

/// Reads what [`put`] wrote.
///
/// # Errors
/// [`Damage`] for any other bytes.
pub(super) fn take(bytes: &[u8], crc: u32) -> Result<PageMap, Damage> {
    if crc32c::crc32c(bytes) != crc {
        return Err(Damage::Checksum("page map"));
    }
    let mut take = Take::new(bytes, "page map");
    let groups = take.var_max(take.left())?;
    let mut map = Vec::with_capacity(groups);
    for _ in 0..groups {
        let chunks = take.var_max(take.left())?;
        let mut group = Vec::with_capacity(chunks);
        for _ in 0..chunks {
            let (len, crc) = (small(&mut take)?, take.u32()?);
            let dictionary = (len > 0).then_some(PageSum { len, rows: 0, crc });
            let pages = take.var_max(take.left() / 6)?;
            let page = |_| Ok(PageSum { len: small(&mut take)?, rows: small(&mut take)?, crc: take.u32()? });
            group.push(ChunkPages { dictionary, data: (0..pages).map(page).collect::<Result<_, Damage>>()? });
        }
        map.push(group);
    }
    take.end()?;
    Ok(map)
}

fn small(take: &mut Take<'_>) -> Result<u32, Damage> {
    Ok(take.var_max(i32::MAX as usize)? as u32)
}

/// The map for Parquet's reader; `chunks` says where each chunk lies, and the rows of its group. `None` where the map is not of
/// these chunks.
pub(super) fn offset_index(
    map: &PageMap,
    chunks: &[Vec<(Range<u64>, usize)>],
) -> Option<Vec<Vec<OffsetIndexMetaData>>> {
    let fits = |(pages, (lies, rows)): (&ChunkPages, &(Range<u64>, usize))| {
        let all = || pages.dictionary.iter().chain(&pages.data);
        all().map(|page| u64::from(page.len)).sum::<u64>() == lies.end - lies.start
            && all().map(|page| page.rows as usize).sum::<usize>() == *rows
    };
    let same = map.len() == chunks.len()
        && map.iter().zip(chunks).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(fits));
    let of_group = |(pages, chunks): (&Vec<ChunkPages>, &Vec<(Range<u64>, usize)>)| {
        pages.iter().zip(chunks).map(|(pages, (lies, _))| pages.offsets(lies.start)).collect()
    };
    same.then(|| map.iter().zip(chunks).map(of_group).collect())
}
