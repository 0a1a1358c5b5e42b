//! Numbers for groups: each distinct value of a key gets a code, each distinct tuple of codes a group.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use arrow::array::{Array, AsArray};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::encode;
use crate::eval::vals::{Text, Vals};

type Map<K> = HashMap<K, u32, foldhash::fast::RandomState>;

/// Pairs of codes for each row up to which all of them are kept at once: filling zeros is cheap beside hashing.
const PAIRS_A_ROW: usize = 4;

/// A code, and a part of the hash of its value: most others are told by it, without a look at where the value lies.
#[derive(Clone, Copy, Debug)]
struct Coded {
    hash: u32,
    code: u32,
}

/// Codes of one key's values. 0 stands for a missing value.
#[derive(Debug)]
struct KeyCodes {
    /// Codes of short values by these themselves ([`short`]): one look into memory instead of three.
    by_short: Map<u128>,
    /// Codes of others by the hash of their values, from a random seed, so that nobody can send values that collide.
    by_bytes: HashTable<Coded>,
    seed: u64,
    /// The same codes for ints, which are most times: without bytes.
    by_int: Map<i64>,
    /// Encoded values one after the other, and by code where each ends and, of those that are not short, the hash.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    hashes: Vec<u64>,
}

impl KeyCodes {
    fn new() -> KeyCodes {
        KeyCodes {
            by_short: Map::default(),
            by_bytes: HashTable::new(),
            seed: foldhash::fast::RandomState::default().hash_one(0u8),
            by_int: Map::default(),
            bytes: Vec::new(),
            ends: vec![0],
            hashes: vec![0],
        }
    }

    /// How many codes there are.
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn value(&self, code: u32) -> &[u8] {
        let end = self.ends[code as usize];
        let start = (code as usize).checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..end]
    }

    /// The code of an encoded value.
    fn of_bytes(&mut self, bytes: &[u8]) -> u32 {
        match bytes.split_first() {
            None => 0,
            Some((kind, rest)) => self.of_parts(*kind, rest),
        }
    }

    /// The code of a value that is encoded as its kind and its bytes.
    fn of_parts(&mut self, kind: u8, rest: &[u8]) -> u32 {
        if let Some(value) = short(kind, rest) {
            if let Some(code) = self.by_short.get(&value) {
                return *code;
            }
            let code = self.push(kind, rest, 0);
            self.by_short.insert(value, code);
            return code;
        }
        let hash = xxh3_64_with_seed(rest, self.seed ^ u64::from(kind));
        let part = hash as u32;
        let same = |coded: &Coded| {
            coded.hash == part
                && self.value(coded.code).split_first().is_some_and(|(k, bytes)| *k == kind && bytes == rest)
        };
        if let Some(coded) = self.by_bytes.find(hash, same) {
            return coded.code;
        }
        let code = self.push(kind, rest, hash);
        let hashes = &self.hashes;
        self.by_bytes.insert_unique(hash, Coded { hash: part, code }, |coded| hashes[coded.code as usize]);
        code
    }

    /// The code of a value that has none yet.
    fn push(&mut self, kind: u8, rest: &[u8], hash: u64) -> u32 {
        let code = self.ends.len() as u32;
        self.bytes.push(kind);
        self.bytes.extend_from_slice(rest);
        self.ends.push(self.bytes.len());
        self.hashes.push(hash);
        code
    }

    fn of_int(&mut self, int: i64) -> u32 {
        if let Some(code) = self.by_int.get(&int) {
            return *code;
        }
        let mut bytes = Vec::with_capacity(18);
        encode::int(int, &mut bytes);
        let code = self.of_bytes(&bytes);
        self.by_int.insert(int, code);
        code
    }

    /// Bytes in memory, about.
    fn memory_bytes(&self) -> usize {
        let tables = self.by_short.capacity() * 33 + self.by_bytes.capacity() * 10 + self.by_int.capacity() * 17;
        self.bytes.capacity() + tables + self.ends.capacity() * 16
    }
}

/// The longest value that is short.
const SHORT_BYTES_MAX: usize = 14;

/// A value of few bytes as a number that no other value has: its bytes, then its kind and its length.
fn short(kind: u8, bytes: &[u8]) -> Option<u128> {
    let len = bytes.len();
    // The bytes behind the first eight, or four, are the upper ones of the last eight, or four.
    let word = if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        if len > SHORT_BYTES_MAX {
            return None;
        }
        let last = u64::from_le_bytes(*last).checked_shr(8 * (16 - len as u32)).unwrap_or_default();
        u128::from(u64::from_le_bytes(*first)) | u128::from(last) << 64
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let last = u32::from_le_bytes(*last).checked_shr(8 * (8 - len as u32)).unwrap_or_default();
        u128::from(u32::from_le_bytes(*first)) | u128::from(last) << 32
    } else {
        bytes.iter().rev().fold(0, |word, byte| word << 8 | u128::from(*byte))
    };
    Some(word | u128::from(kind) << 112 | (len as u128) << 120)
}

/// The groups seen so far.
#[derive(Debug)]
pub(crate) struct Keys {
    keys: Vec<KeyCodes>,
    /// Of one key: group of each code, from 1; 0 for none yet. Of several: see `pairs`.
    of_code: Vec<u32>,
    /// Codes of the first two keys to a number, of that and the third to another, and so on; the last is the group.
    pairs: Vec<Map<(u32, u32)>>,
    /// Codes of each group, key by key.
    tuples: Vec<u32>,
    groups: usize,
}

impl Keys {
    pub(crate) fn new(keys: usize) -> Keys {
        Keys {
            keys: (0..keys).map(|_| KeyCodes::new()).collect(),
            of_code: Vec::new(),
            pairs: (1..keys).map(|_| Map::default()).collect(),
            tuples: Vec::new(),
            groups: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.groups
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let pairs: usize = self.pairs.iter().map(|p| p.capacity() * 13).sum();
        self.keys.iter().map(KeyCodes::memory_bytes).sum::<usize>()
            + pairs
            + (self.tuples.capacity() + self.of_code.capacity()) * 4
    }

    /// The encoded value of a group's key.
    pub(crate) fn value(&self, group: usize, key: usize) -> &[u8] {
        let code = self.tuples[group * self.keys.len() + key];
        self.keys[key].value(code)
    }

    /// The code of an encoded value.
    pub(crate) fn code_of_bytes(&mut self, key: usize, bytes: &[u8]) -> u32 {
        self.keys[key].of_bytes(bytes)
    }

    /// The code of each value of a key.
    pub(crate) fn codes(&mut self, key: usize, vals: &Vals) -> Vec<u32> {
        let codes = &mut self.keys[key];
        let mut out = vec![0; vals.len];
        if let Some(text) = &vals.str {
            text_codes(codes, text, &mut out);
        }
        if let Some(ints) = &vals.int {
            // Bins of time come in runs.
            let mut last = None;
            for (row, out) in out.iter_mut().enumerate().filter(|(row, _)| ints.is_valid(*row)) {
                let int = ints.value(row);
                *out = match last {
                    Some((value, code)) if value == int => code,
                    _ => codes.of_int(int),
                };
                last = Some((int, *out));
            }
        }
        let rest = Vals { str: None, int: None, ..vals.clone() };
        if rest.kinds() > 0 {
            let mut bytes = Vec::new();
            for (row, out) in out.iter_mut().enumerate() {
                bytes.clear();
                encode::encode(&rest.get(row), &mut bytes);
                if !bytes.is_empty() {
                    *out = codes.of_bytes(&bytes);
                }
            }
        }
        out
    }

    /// The group of each row, by its codes key by key. `None`: there are no keys, all rows are group 0.
    pub(crate) fn groups(&mut self, codes: &[Vec<u32>], len: usize) -> Option<Vec<u32>> {
        match codes {
            [] => {
                self.groups = self.groups.max(usize::from(len > 0));
                None
            }
            [codes] => {
                self.of_code.resize(self.keys[0].len(), 0);
                let mut group_of = |code: u32| {
                    let group = &mut self.of_code[code as usize];
                    if *group == 0 {
                        self.tuples.push(code);
                        self.groups += 1;
                        *group = self.groups as u32;
                    }
                    *group - 1
                };
                Some(codes.iter().map(|code| group_of(*code)).collect())
            }
            [a, b] if self.values(0).saturating_mul(self.values(1)) <= len.saturating_mul(PAIRS_A_ROW) => {
                // Every pair has a place of its own for these rows: a multiplication instead of a hash.
                let width = self.values(1);
                let mut known = vec![0u32; self.values(0) * width];
                let group = |(row, (x, y)): (usize, (&u32, &u32))| {
                    let place = &mut known[*x as usize * width + *y as usize];
                    if *place == 0 {
                        *place = self.group_of(codes, row) + 1;
                    }
                    *place - 1
                };
                Some(a.iter().zip(b).enumerate().map(group).collect())
            }
            _ => {
                let mut out: Vec<u32> = Vec::with_capacity(len);
                for row in 0..len {
                    let same = row > 0 && codes.iter().all(|c| c[row] == c[row - 1]);
                    out.push(if same { out[row - 1] } else { self.group_of(codes, row) });
                }
                Some(out)
            }
        }
    }

    /// Codes of a key so far.
    fn values(&self, key: usize) -> usize {
        self.keys[key].len()
    }

    /// The group of a row of two keys or more.
    fn group_of(&mut self, codes: &[Vec<u32>], row: usize) -> u32 {
        let Some((first, rest)) = codes.split_first() else { return 0 };
        let mut number = first[row];
        for (pairs, codes) in self.pairs.iter_mut().zip(rest) {
            let next = pairs.len() as u32;
            number = *pairs.entry((number, codes[row])).or_insert(next);
        }
        if self.pairs.last().is_some_and(|pairs| pairs.len() > self.groups) {
            self.groups += 1;
            self.tuples.extend(codes.iter().map(|c| c[row]));
        }
        number
    }
}

fn text_codes(codes: &mut KeyCodes, text: &Text, out: &mut [u32]) {
    let mut code_of = |text: &str| codes.of_parts(encode::STR, text.as_bytes());
    match text {
        Text::Plain(array) => {
            let mut last: Option<(&str, u32)> = None;
            for (row, out) in out.iter_mut().enumerate().filter(|(row, _)| array.is_valid(*row)) {
                let value = array.value(row);
                *out = match last {
                    Some((seen, code)) if seen == value => code,
                    _ => code_of(value),
                };
                last = Some((value, *out));
            }
        }
        Text::Dict(dictionary) => {
            let values = dictionary.values().as_string::<i32>();
            // Only values that rows still have: a dictionary may carry those of rows that a condition dropped.
            // They are looked up one behind the other, so that the waits for memory overlap.
            let mut of_value = vec![0u32; values.len()];
            let keys = dictionary.keys();
            let rows = || (0..keys.len()).filter(|row| keys.is_valid(*row)).map(|row| (row, keys.value(row) as usize));
            rows().for_each(|(_, value)| of_value[value] = 1);
            for (value, code) in of_value.iter_mut().enumerate().filter(|(_, used)| **used == 1) {
                *code = if values.is_valid(value) { code_of(values.value(value)) } else { 0 };
            }
            rows().for_each(|(row, value)| out[row] = of_value[value]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Values are equal where their codes are, whatever their lengths.
        #[test]
        fn each_value_has_a_code_of_its_own(values in proptest::collection::vec((0u8..3, "[\\x00ab]{0,18}"), 0..200)) {
            let (mut codes, mut known) = (KeyCodes::new(), HashMap::new());
            for (kind, text) in &values {
                let code = codes.of_parts(*kind, text.as_bytes());
                let next = known.len() as u32 + 1;
                prop_assert_eq!(code, *known.entry((*kind, text)).or_insert(next));
                prop_assert_eq!(codes.value(code).split_first(), Some((kind, text.as_bytes())));
            }
            prop_assert_eq!(codes.len(), known.len() + 1);
        }
    }
}
