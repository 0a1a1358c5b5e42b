//! Hashes by which distinct values are counted: the same for equal values, however they are kept.

use std::hash::{BuildHasher as _, Hasher as _};

use arrow::array::{Array, AsArray};
use arrow::buffer::BooleanBuffer;

use crate::encode;
use crate::eval::Vals;
use crate::eval::vals::{Scalar, Text};

/// The hash by which values are counted: the same for a value wherever it is kept, in this process.
#[inline]
pub(super) fn hash_of(kind: u8, bytes: &[u8]) -> u64 {
    // Of the few bytes that most values have it takes half the time of xxh3.
    let mut hasher = foldhash::quality::FixedState::with_seed(u64::from(kind)).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// A hash of each value; of missing ones it means nothing. `hash` is given the kind of a value and its bytes
/// ([`encode::encode`]). Values of a dictionary are hashed once, and only those that a row has.
pub(super) fn hashes<H: Copy + Default>(vals: &Vals, hash: impl Fn(u8, &[u8]) -> H) -> Vec<H> {
    match (vals.kinds(), &vals.str, &vals.id) {
        (1, Some(Text::Dict(dictionary)), _) => {
            let values = dictionary.values().as_string::<i32>();
            let mut of_value: Vec<Option<H>> = vec![None; values.len()];
            let keys = dictionary.keys();
            let of = |row: usize| {
                if keys.is_null(row) {
                    return H::default();
                }
                let value = keys.value(row) as usize;
                *of_value[value].get_or_insert_with(|| hash(encode::STR, values.value(value).as_bytes()))
            };
            (0..vals.len).map(of).collect()
        }
        // Bytes under a null are hashed for nothing.
        (1, Some(Text::Plain(texts)), _) => {
            (0..vals.len).map(|row| hash(encode::STR, texts.value(row).as_bytes())).collect()
        }
        (1, None, Some(ids)) => (0..vals.len).map(|row| hash(encode::ID, ids.value(row))).collect(),
        _ => {
            let mut bytes = Vec::new();
            let of = |row: usize| {
                bytes.clear();
                encode_of(vals, row, &mut bytes);
                bytes.split_first().map_or(H::default(), |(kind, bytes)| hash(*kind, bytes))
            };
            (0..vals.len).map(of).collect()
        }
    }
}

/// Calls with the kind and the bytes of each value that some row has: of a dictionary once, else row by row; false, and nothing is
/// called, where the values are kept otherwise. `seen`: the rows that count, `None` for all; each of them has a value.
pub(super) fn each_value(vals: &Vals, seen: Option<&BooleanBuffer>, mut of: impl FnMut(u8, &[u8])) -> bool {
    let dictionary = match (vals.kinds(), &vals.str, &vals.id) {
        (1, Some(Text::Dict(dictionary)), _) => dictionary,
        (1, Some(Text::Plain(texts)), _) => {
            each_row(vals.len, seen, |row| of(encode::STR, texts.value(row).as_bytes()));
            return true;
        }
        (1, None, Some(ids)) => {
            each_row(vals.len, seen, |row| of(encode::ID, ids.value(row)));
            return true;
        }
        _ => return false,
    };
    let values = dictionary.values().as_string::<i32>();
    let keys = dictionary.keys();
    let mut has = vec![false; values.len()];
    each_row(vals.len, seen, |row| {
        if keys.is_valid(row) {
            has[keys.value(row) as usize] = true;
        }
    });
    let used = values.iter().zip(has).filter_map(|(value, has)| value.filter(|_| has));
    used.for_each(|value| of(encode::STR, value.as_bytes()));
    true
}

fn each_row(len: usize, seen: Option<&BooleanBuffer>, of: impl FnMut(usize)) {
    match seen {
        Some(seen) => seen.set_indices().for_each(of),
        None => (0..len).for_each(of),
    }
}

fn encode_of(vals: &Vals, row: usize, out: &mut Vec<u8>) {
    match &vals.int {
        Some(ints) if ints.is_valid(row) => encode::int(ints.value(row), out),
        _ => match vals.get(row) {
            Scalar::Null => {}
            value => encode::encode(&value, out),
        },
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, FixedSizeBinaryArray, StringArray, UInt32Array};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn equal_values_have_one_hash_however_they_are_kept() {
        let hash = |kind: u8, bytes: &[u8]| (kind, bytes.len(), xxhash_rust::xxh3::xxh3_64(bytes));
        let plain = Vals::of_text(Text::Plain(StringArray::from(vec!["a", "bb", "a"])));
        let keys = UInt32Array::from(vec![1, 2, 1]);
        let values = Arc::new(StringArray::from(vec!["unused", "a", "bb"]));
        let by_value = Vals::of_text(Text::Dict(DictionaryArray::new(keys, values)));
        let ids = Vals::of_ids(FixedSizeBinaryArray::new(2, vec![7, 7, 9, 9, 7, 7].into(), None));
        let one_by_one = |vals: &Vals| -> Vec<_> {
            let encoded = |row: usize| {
                let mut bytes = Vec::new();
                encode::encode(&vals.get(row), &mut bytes);
                hash(bytes[0], &bytes[1..])
            };
            (0..vals.len).map(encoded).collect()
        };
        assert_eq!(hashes(&plain, hash), hashes(&by_value, hash));
        let each = |vals: &Vals, seen: Option<&BooleanBuffer>| {
            let mut found = Vec::new();
            each_value(vals, seen, |kind, bytes| found.push(hash(kind, bytes))).then_some(found)
        };
        let all = hashes(&plain, hash);
        let some = BooleanBuffer::from(vec![true, false, true]);
        assert_eq!(each(&plain, None).as_ref(), Some(&all));
        assert_eq!(each(&plain, Some(&some)), Some(vec![all[0], all[2]]));
        assert_eq!(each(&by_value, None), Some(all[..2].to_vec()));
        assert_eq!(each(&by_value, Some(&some)), Some(all[..1].to_vec()));
        assert_eq!(each(&ids, None), Some(one_by_one(&ids)));
        for vals in [plain, by_value, ids] {
            assert_eq!(hashes(&vals, hash), one_by_one(&vals));
        }
    }
}
