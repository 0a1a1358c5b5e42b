//! Values of a varying width: text, plain or dictionary-encoded, and bytes.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, DictionaryArray, StringArray, UInt32Array};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::UInt32Type;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::ColumnError;
use super::presence::Presence;

/// Distinct values from which on a column may give its dictionary up before it is finished.
const DISTINCT_MIN: usize = 128;

/// Distinct values from which on a dictionary has to hold each value twice on average; below it, 4 values for 3 places.
const DISTINCT_MANY: usize = 1_024;

/// Bytes of varying width, one after the other.
struct Packed {
    bytes: Vec<u8>,
    /// Where each value ends. Below 2 GiB by the bound on a request's body, and checked when it is finished.
    ends: Vec<u32>,
}

impl Packed {
    #[inline(always)]
    fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len() as u32);
    }

    #[inline(always)]
    fn get(&self, i: u32) -> &[u8] {
        let i = i as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start as usize..self.ends[i] as usize]
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    /// Offsets of `rows` rows: a row without a value is empty.
    fn offsets(&self, presence: &Presence, rows: usize) -> Result<OffsetBuffer<i32>, ColumnError> {
        if i32::try_from(self.bytes.len()).is_err() {
            return Err(ColumnError::TooLong(self.bytes.len()));
        }
        let offsets = presence.offsets(&self.ends, rows);
        Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
    }
}

/// A text column. It looks for distinct values until there are too many of them.
pub(crate) struct Texts {
    pub(crate) rows: Presence,
    /// The distinct values, or every value once the dictionary is given up.
    values: Packed,
    dictionary: Option<Dictionary>,
    /// Bytes of all values that came, repeated ones too.
    total: usize,
}

struct Dictionary {
    /// For each value that came, its number among the distinct ones.
    keys: Vec<u32>,
    table: HashTable<(u32, u32)>,
    hasher: RandomState,
    last: u32,
}

impl Default for Texts {
    fn default() -> Self {
        let dictionary =
            Dictionary { keys: Vec::new(), table: HashTable::new(), hasher: RandomState::default(), last: 0 };
        Texts {
            rows: Presence::default(),
            values: Packed { bytes: Vec::new(), ends: Vec::new() },
            dictionary: Some(dictionary),
            total: 0,
        }
    }
}

impl Texts {
    /// Adds a value; that it is UTF-8 is checked for all at once when the column is finished.
    #[inline]
    pub(crate) fn push(&mut self, row: u32, text: &[u8]) {
        self.rows.push(row);
        self.total += text.len();
        match &mut self.dictionary {
            None => self.values.push(text),
            Some(dictionary) => {
                if !dictionary.push(&mut self.values, text) {
                    self.give_dictionary_up();
                }
            }
        }
    }

    /// Adds a value unless it is empty, which these columns say by null.
    #[inline]
    pub(crate) fn push_unless_empty(&mut self, row: u32, text: &[u8]) {
        if !text.is_empty() {
            self.push(row, text);
        }
    }

    #[cold]
    fn give_dictionary_up(&mut self) {
        let Some(dictionary) = self.dictionary.take() else { return };
        let mut plain = Packed {
            bytes: Vec::with_capacity(self.total + self.total / 2),
            ends: Vec::with_capacity(dictionary.keys.capacity()),
        };
        for key in dictionary.keys {
            plain.push(self.values.get(key));
        }
        self.values = plain;
    }

    /// The values with their rows.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.rows.iter().enumerate().map(|(i, row)| {
            let number = self.dictionary.as_ref().map_or(i as u32, |d| d.keys[i]);
            (row, self.values.get(number))
        })
    }

    /// The column; `None` where it would be all null. A dictionary's values are distinct and all used.
    ///
    /// # Errors
    /// A value is not UTF-8, or together they pass 2 GiB.
    pub(crate) fn finish(mut self, rows: usize) -> Result<Option<ArrayRef>, ColumnError> {
        if self.rows.count() == 0 {
            return Ok(None);
        }
        // Both layouts hold four bytes a row.
        if self.values.bytes.len() + 4 * self.values.len() > self.total {
            self.give_dictionary_up();
        }
        let nulls = self.rows.nulls(rows);
        let Some(dictionary) = self.dictionary else {
            let offsets = self.values.offsets(&self.rows, rows)?;
            return Ok(Some(Arc::new(strings(offsets, self.values.bytes, nulls)?)));
        };
        let all = Presence::default();
        let offsets = self.values.offsets(&all, self.values.len())?;
        let values = strings(offsets, self.values.bytes, None)?;
        let keys = self.rows.spread(dictionary.keys, rows, 0);
        let keys = UInt32Array::new(ScalarBuffer::from(keys), nulls);
        Ok(Some(Arc::new(DictionaryArray::<UInt32Type>::new(keys, Arc::new(values)))))
    }
}

/// Text from bytes that are checked here. The offsets ascend and end with the bytes, so that nothing else can be wrong.
fn strings(offsets: OffsetBuffer<i32>, bytes: Vec<u8>, nulls: Option<NullBuffer>) -> Result<StringArray, ColumnError> {
    StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls).map_err(|_| ColumnError::Utf8)
}

impl Dictionary {
    /// Adds a value; `false` when there are too many distinct ones for a dictionary to be worth it.
    #[inline]
    fn push(&mut self, values: &mut Packed, text: &[u8]) -> bool {
        if !self.keys.is_empty() && values.get(self.last) == text {
            self.keys.push(self.last);
            return true;
        }
        let hash = self.hasher.hash_one(text);
        let mark = (hash >> 32) as u32;
        if let Some(&(number, _)) = self.table.find(hash, |&(n, m)| m == mark && values.get(n) == text) {
            self.last = number;
            self.keys.push(number);
            return true;
        }
        self.push_new(values, text, hash)
    }

    fn push_new(&mut self, values: &mut Packed, text: &[u8], hash: u64) -> bool {
        let number = values.len() as u32;
        values.push(text);
        let hasher = &self.hasher;
        self.table.insert_unique(hash, (number, (hash >> 32) as u32), |&(n, _)| hasher.hash_one(values.get(n)));
        self.last = number;
        self.keys.push(number);
        let (distinct, came) = (values.len(), self.keys.len());
        let worth = if distinct >= DISTINCT_MANY { distinct * 2 <= came } else { distinct * 4 <= came * 3 };
        distinct < DISTINCT_MIN || worth
    }
}

/// A column of bytes.
pub(crate) struct Blobs {
    pub(crate) rows: Presence,
    values: Packed,
}

impl Default for Blobs {
    fn default() -> Self {
        Blobs { rows: Presence::default(), values: Packed { bytes: Vec::new(), ends: Vec::new() } }
    }
}

impl Blobs {
    pub(crate) fn push(&mut self, row: u32, bytes: &[u8]) {
        self.rows.push(row);
        self.values.push(bytes);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.rows.iter().enumerate().map(|(i, row)| (row, self.values.get(i as u32)))
    }

    /// The column; `None` where it would be all null.
    ///
    /// # Errors
    /// The values together pass 2 GiB.
    pub(crate) fn finish(self, rows: usize) -> Result<Option<ArrayRef>, ColumnError> {
        if self.rows.count() == 0 {
            return Ok(None);
        }
        let offsets = self.values.offsets(&self.rows, rows)?;
        let nulls = self.rows.nulls(rows);
        Ok(Some(Arc::new(BinaryArray::new(offsets, Buffer::from_vec(self.values.bytes), nulls))))
    }
}
