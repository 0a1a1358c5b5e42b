//! Split-block bloom filters: 256-bit blocks with eight bits set each, as in Parquet, hashed with xxh3.
//!
//! One filter holds the trace ids of a frame, one its `key=value` tokens of text attributes (any scope) and short text
//! columns. No false negatives, whatever the size (QU-2).

const BLOCK: usize = 32;
const SALT: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];
/// About 2 % false positives.
const BITS_PER_VALUE: usize = 9;
/// Below this the answers are worth less than the bytes.
const BITS_PER_VALUE_MIN: usize = 4;
/// Bytes of one filter of a frame: 16k rows with four unique tokens each fit.
pub(super) const BYTES_MAX: usize = 64 << 10;

/// The hash of a trace id.
pub(crate) fn trace_hash(id: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id)
}

/// What a column's values are seeded with.
pub(crate) fn key_seed(key: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key.as_bytes())
}

/// The hash of a token.
pub(crate) fn token_hash(seed: u64, value: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(value.as_bytes(), seed)
}

/// Bytes of a filter over so many distinct hashes.
pub(crate) fn filter_bytes(hashes: usize) -> usize {
    (hashes * BITS_PER_VALUE / 8).next_multiple_of(BLOCK)
}

/// The bytes of a filter over these hashes, at most `bytes_max`; empty where none pays (every answer is then "may contain").
pub(crate) fn build(hashes: &mut Vec<u64>, bytes_max: usize) -> Vec<u8> {
    hashes.sort_unstable();
    hashes.dedup();
    if hashes.is_empty() {
        // One block of zeros: nothing is in it.
        return vec![0; BLOCK];
    }
    let bytes = filter_bytes(hashes.len()).min(bytes_max / BLOCK * BLOCK);
    if bytes * 8 / hashes.len() < BITS_PER_VALUE_MIN {
        return Vec::new();
    }
    let mut words = vec![[0u32; 8]; bytes / BLOCK];
    for &hash in hashes.iter() {
        let block = &mut words[block_of(hash, bytes / BLOCK)];
        for (word, mask) in block.iter_mut().zip(masks(hash)) {
            *word |= mask;
        }
    }
    words.into_iter().flatten().flat_map(u32::to_le_bytes).collect()
}

/// Whether the value may be in the set that `filter` was built over.
pub(crate) fn may_contain(filter: &[u8], hash: u64) -> bool {
    let (blocks, rest) = filter.as_chunks::<BLOCK>();
    if blocks.is_empty() || !rest.is_empty() {
        return true;
    }
    let (words, _) = blocks[block_of(hash, blocks.len())].as_chunks::<4>();
    words.iter().zip(masks(hash)).all(|(word, mask)| u32::from_le_bytes(*word) & mask != 0)
}

fn block_of(hash: u64, blocks: usize) -> usize {
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

fn masks(hash: u64) -> [u32; 8] {
    SALT.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_missed_and_few_are_found_wrongly() {
        for n in [0u64, 1, 10, 1_000, 40_000, 200_000] {
            let mut hashes: Vec<u64> = (0..n).map(|i| trace_hash(&i.to_le_bytes())).collect();
            let all = hashes.clone();
            let filter = build(&mut hashes, BYTES_MAX);
            assert!(all.iter().all(|h| may_contain(&filter, *h)));
            let wrong = (n..n + 10_000).filter(|i| may_contain(&filter, trace_hash(&i.to_le_bytes()))).count();
            let bound = if n > 100_000 {
                10_000
            } else if n == 0 {
                0
            } else {
                500
            };
            assert!(wrong <= bound, "{wrong} of 10000 with {n}");
            assert!(filter.len() <= BYTES_MAX);
        }
    }
}
