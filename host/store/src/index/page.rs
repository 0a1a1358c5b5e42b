//! Pages of a run: entries in the order of their fingerprints, each in the page that its fingerprint computes, or a few behind.

use crate::error::Damage;

/// Bytes of a page: one read of the smallest useful size.
pub(crate) const PAGE: usize = 4_096;
const HEAD: usize = 8;
const ENTRY: usize = 12;
/// Entries that a page holds.
pub(crate) const CAPACITY: usize = (PAGE - HEAD) / ENTRY;
/// Entries that a page gets on average: 340 is three standard deviations above it, so that few go to the page behind.
pub(crate) const FILL: u64 = 289;

/// A trace in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// The upper 48 bits of the fingerprint.
    pub(crate) trace: u64,
    pub(crate) file: FileRef,
}

/// Which file, without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileRef {
    /// Minute of the smallest event time since 1970, wrapping.
    pub(crate) minute: u32,
    /// Of the hash of the path.
    pub(crate) path: u16,
}

impl FileRef {
    pub(crate) fn of(time_min: i64, path: &str) -> FileRef {
        let minute = time_min.div_euclid(60_000_000_000) as u32;
        FileRef { minute, path: xxhash_rust::xxh3::xxh3_64(path.as_bytes()) as u16 }
    }
}

/// What of a fingerprint an entry keeps.
pub(crate) fn kept(fingerprint: u64) -> u64 {
    fingerprint >> 16
}

/// The page of a kept fingerprint in a part of `2^bits` parts with so many pages.
pub(crate) fn home(trace: u64, bits: u32, pages: u64) -> u64 {
    let within = (trace << 16) << bits;
    ((u128::from(within) * u128::from(pages)) >> 64) as u64
}

/// The part that a kept fingerprint is in.
pub(crate) fn part(trace: u64, bits: u32) -> usize {
    if bits == 0 { 0 } else { (trace >> (48 - bits)) as usize }
}

/// A page of these entries, at most [`CAPACITY`]: crc32c of the rest, count, entries, zeros.
pub(crate) fn write(entries: &[Entry]) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    page[4..8].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    for (entry, at) in entries.iter().zip(page[HEAD..].chunks_exact_mut(ENTRY)) {
        at[..6].copy_from_slice(&entry.trace.to_le_bytes()[..6]);
        at[6..10].copy_from_slice(&entry.file.minute.to_le_bytes());
        at[10..].copy_from_slice(&entry.file.path.to_le_bytes());
    }
    let crc = crc32c::crc32c(&page[4..]);
    page[..4].copy_from_slice(&crc.to_le_bytes());
    page
}

/// The entries of a page.
pub(crate) fn read(page: &[u8]) -> Result<impl Iterator<Item = Entry> + use<'_>, Damage> {
    let page: &[u8; PAGE] = page.try_into().map_err(|_| Damage::Short("page of the trace index"))?;
    let (crc, rest) = page.split_at(4);
    if crc32c::crc32c(rest).to_le_bytes() != crc {
        return Err(Damage::Checksum("page of the trace index"));
    }
    let count = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
    if count > CAPACITY {
        return Err(Damage::Bounds("entries of a page of the trace index"));
    }
    let entry = |at: &[u8]| Entry {
        trace: u64::from_le_bytes([at[0], at[1], at[2], at[3], at[4], at[5], 0, 0]),
        file: FileRef {
            minute: u32::from_le_bytes([at[6], at[7], at[8], at[9]]),
            path: u16::from_le_bytes([at[10], at[11]]),
        },
    };
    Ok(page[HEAD..].chunks_exact(ENTRY).take(count).map(entry))
}
