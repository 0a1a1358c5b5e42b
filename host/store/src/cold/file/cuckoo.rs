//! Cuckoo filters: each value leaves a fingerprint in one of two buckets of four. Fewer bits than a Bloom filter where few
//! false positives are wanted; no false negatives, whatever happens (QU-2).

/// Fingerprints of a bucket.
const SLOTS: usize = 4;
/// Of the slots that may be taken: above it building fails too often.
const LOAD: f64 = 0.94;
/// Evictions before a larger filter is tried.
const KICKS_MAX: usize = 500;
/// Filters that are tried, each twice as large as the one before.
const TRIES: u32 = 3;

/// The bytes of a filter over these hashes, of about so many false positives: a byte with the bits of a fingerprint, then the
/// buckets, packed. Empty where none could be built: every answer is then "may contain".
pub(super) fn build(hashes: &mut Vec<u64>, false_positives: f64) -> Vec<u8> {
    hashes.sort_unstable();
    hashes.dedup();
    // Two buckets of four fingerprints are looked at.
    let bits = (2.0 * SLOTS as f64 / false_positives).log2().ceil().clamp(4.0, 32.0) as u32;
    let least = ((hashes.len() as f64 / LOAD) / SLOTS as f64).ceil().max(1.0) as usize;
    (0..TRIES).find_map(|n| pack(hashes, bits, least << n)).unwrap_or_default()
}

/// Whether the value may be in the set that `filter` was built over.
pub(super) fn may_contain(filter: &[u8], hash: u64) -> bool {
    let Some((&bits, packed)) = filter.split_first() else { return true };
    let bits = u32::from(bits);
    if !(4..=32).contains(&bits) || packed.len() < 8 {
        return true;
    }
    // The last eight bytes are there so that every slot can be read as a word.
    let buckets = (packed.len() - 8) * 8 / (bits as usize * SLOTS);
    if buckets == 0 {
        return true;
    }
    let print = fingerprint(hash, bits);
    let first = bucket(hash, buckets);
    [first, other(first, print, buckets)].iter().any(|b| (0..SLOTS).any(|s| read(packed, bits, b * SLOTS + s) == print))
}

fn pack(hashes: &[u64], bits: u32, buckets: usize) -> Option<Vec<u8>> {
    // Zero is an empty slot.
    let mut slots = vec![0u32; buckets * SLOTS];
    for (n, &hash) in hashes.iter().enumerate() {
        let mut print = fingerprint(hash, bits);
        let mut at = bucket(hash, buckets);
        let mut kicks = 0;
        loop {
            let free = |b: usize| (b * SLOTS..(b + 1) * SLOTS).find(|s| slots[*s] == 0);
            if let Some(slot) = free(at).or_else(|| free(other(at, print, buckets))) {
                slots[slot] = print;
                break;
            }
            kicks += 1;
            if kicks > KICKS_MAX {
                return None;
            }
            // Any victim does; which one changes from kick to kick.
            let slot = at * SLOTS + (n + kicks) % SLOTS;
            std::mem::swap(&mut slots[slot], &mut print);
            at = other(at, print, buckets);
        }
    }
    let mut packed = vec![0u8; (slots.len() * bits as usize).div_ceil(8) + 9];
    packed[0] = bits as u8;
    for (slot, print) in slots.into_iter().enumerate() {
        let at = slot * bits as usize;
        let mut word = u64::from(print) << (at % 8);
        for byte in &mut packed[1 + at / 8..] {
            *byte |= word as u8;
            word >>= 8;
            if word == 0 {
                break;
            }
        }
    }
    Some(packed)
}

fn read(packed: &[u8], bits: u32, slot: usize) -> u32 {
    let at = slot * bits as usize;
    let word = packed.get(at / 8..).and_then(|b| b.first_chunk::<8>()).map_or(0, |b| u64::from_le_bytes(*b));
    ((word >> (at % 8)) & ((1u64 << bits) - 1)) as u32
}

fn fingerprint(hash: u64, bits: u32) -> u32 {
    (((hash as u32 as u64) & ((1u64 << bits) - 1)) as u32).max(1)
}

fn bucket(hash: u64, buckets: usize) -> usize {
    (((hash >> 32) * buckets as u64) >> 32) as usize
}

/// The other bucket of a fingerprint: its own inverse for any number of buckets.
fn other(bucket: usize, print: u32, buckets: usize) -> usize {
    let spread = (((u64::from(print).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * buckets as u64) >> 32) as usize;
    (spread + buckets - bucket) % buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::bloom::trace_hash;

    #[test]
    fn no_value_is_missed_and_few_are_found_wrongly() {
        for n in [0u64, 1, 7, 1_000, 40_000] {
            for share in [0.05, 0.01, 0.001] {
                let mut hashes: Vec<u64> = (0..n).map(|i| trace_hash(&i.to_le_bytes())).collect();
                let all = hashes.clone();
                let filter = build(&mut hashes, share);
                assert!(!filter.is_empty(), "none for {n} at {share}");
                assert!(all.iter().all(|h| may_contain(&filter, *h)), "{n} at {share}");
                let wrong = (n..n + 20_000).filter(|i| may_contain(&filter, trace_hash(&i.to_le_bytes()))).count();
                assert!(wrong as f64 <= 20_000.0 * share * 1.5 + 5.0, "{wrong} of 20000 with {n} at {share}");
            }
        }
    }

    #[test]
    fn foreign_bytes_say_maybe() {
        for bytes in [&[][..], &[0], &[40, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &[8, 1, 2], &[8; 9]] {
            assert!(may_contain(bytes, 77), "{bytes:?}");
        }
    }
}
