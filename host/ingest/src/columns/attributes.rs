//! The attribute columns of one table: a column per key and type, found by guessing that keys follow each other as before.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Float64Type, Int64Type};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use prism_model::value::{write_double, write_string};
use prism_model::{AttrType, Column, ColumnId, TableKind, Value};

use super::ColumnError;
use super::scalar::{Scalars, nullable, nullable_bools};
use super::tail::Tail;
use super::text::{Blobs, Texts};

/// Bytes that the columns of one table may grow to by filling their gaps, besides the size of the request. A request of many
/// rows, each with keys of its own, would otherwise take a thousand times its size; its sparsest columns go to the tail.
const FILLED_BYTES_MAX: usize = 16 << 20;

const NONE: u32 = u32::MAX;

/// The attribute columns of a table while they grow.
pub(crate) struct Attributes {
    kind: TableKind,
    columns_max: usize,
    columns: usize,
    keys: Vec<Key>,
    by_name: HashTable<u32>,
    hasher: RandomState,
    /// The key before this one: what followed it last time is the guess for the next.
    previous: u32,
    texts: Vec<Texts>,
    jsons: Vec<Texts>,
    ints: Vec<Scalars<i64>>,
    doubles: Vec<Scalars<f64>>,
    bools: Vec<Scalars<bool>>,
    blobs: Vec<Blobs>,
}

struct Key {
    name: Arc<str>,
    /// The keys that followed this one, the latest first.
    next: [u32; 2],
    /// The row that had this key last.
    row: u32,
    /// Number of the column of each type.
    columns: [u32; 6],
}

/// Where the value of a key goes.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// The column of this number among those of the type.
    Column(u32),
    /// The tail.
    Tail,
}

impl Attributes {
    pub(crate) fn new(kind: TableKind, columns_max: usize) -> Attributes {
        let start = Key { name: "".into(), next: [NONE; 2], row: NONE, columns: [NONE; 6] };
        Attributes {
            kind,
            columns_max,
            columns: 0,
            // The first entry stands for the start of a record and is no key.
            keys: vec![start],
            by_name: HashTable::new(),
            hasher: RandomState::default(),
            previous: 0,
            texts: Vec::new(),
            jsons: Vec::new(),
            ints: Vec::new(),
            doubles: Vec::new(),
            bools: Vec::new(),
            blobs: Vec::new(),
        }
    }

    /// Says that the next attribute is the first of a record.
    #[inline(always)]
    pub(crate) fn start_record(&mut self) {
        self.previous = 0;
    }

    /// The place of a key's value. `None` where the key is not UTF-8.
    #[inline]
    pub(crate) fn place(&mut self, row: u32, name: &[u8], ty: AttrType) -> Option<Place> {
        let key = self.key(name)?;
        if key == NONE {
            return Some(Place::Tail);
        }
        let entry = &mut self.keys[key as usize];
        if entry.row == row {
            return Some(Place::Tail);
        }
        entry.row = row;
        match entry.columns[ty as usize] {
            NONE => Some(self.new_column(key, ty)),
            column => Some(Place::Column(column)),
        }
    }

    /// The number of a key; [`NONE`] where it is new and there are no places left.
    #[inline(always)]
    fn key(&mut self, name: &[u8]) -> Option<u32> {
        let [guess, other] = self.keys[self.previous as usize].next;
        if guess != NONE && self.keys[guess as usize].name.as_bytes() == name {
            self.previous = guess;
            return Some(guess);
        }
        self.key_without_guess(name, guess, other)
    }

    #[inline(never)]
    fn key_without_guess(&mut self, name: &[u8], guess: u32, other: u32) -> Option<u32> {
        let key = if other != NONE && self.keys[other as usize].name.as_bytes() == name {
            other
        } else {
            let hash = self.hasher.hash_one(name);
            let keys = &self.keys;
            match self.by_name.find(hash, |&k| keys[k as usize].name.as_bytes() == name) {
                Some(&key) => key,
                None if self.columns >= self.columns_max => return std::str::from_utf8(name).ok().map(|_| NONE),
                None => self.new_key(name, hash)?,
            }
        };
        self.keys[self.previous as usize].next = [key, guess];
        self.previous = key;
        Some(key)
    }

    fn new_key(&mut self, name: &[u8], hash: u64) -> Option<u32> {
        let name = std::str::from_utf8(name).ok()?.into();
        let key = self.keys.len() as u32;
        self.keys.push(Key { name, next: [NONE; 2], row: NONE, columns: [NONE; 6] });
        let (keys, hasher) = (&self.keys, &self.hasher);
        self.by_name.insert_unique(hash, key, |&k| hasher.hash_one(keys[k as usize].name.as_bytes()));
        Some(key)
    }

    #[cold]
    fn new_column(&mut self, key: u32, ty: AttrType) -> Place {
        if self.columns >= self.columns_max {
            return Place::Tail;
        }
        let number = match ty {
            AttrType::Str => grow(&mut self.texts),
            AttrType::Json => grow(&mut self.jsons),
            AttrType::Int => grow(&mut self.ints),
            AttrType::Double => grow(&mut self.doubles),
            AttrType::Bool => grow(&mut self.bools),
            AttrType::Bytes => grow(&mut self.blobs),
        };
        self.columns += 1;
        self.keys[key as usize].columns[ty as usize] = number;
        Place::Column(number)
    }

    #[inline(always)]
    pub(crate) fn push_text(&mut self, column: u32, row: u32, text: &[u8]) {
        self.texts[column as usize].push(row, text);
    }

    pub(crate) fn push_json(&mut self, column: u32, row: u32, text: &str) {
        self.jsons[column as usize].push(row, text.as_bytes());
    }

    #[inline(always)]
    pub(crate) fn push_int(&mut self, column: u32, row: u32, value: i64) {
        self.ints[column as usize].push(row, value);
    }

    pub(crate) fn push_double(&mut self, column: u32, row: u32, value: f64) {
        self.doubles[column as usize].push(row, value);
    }

    pub(crate) fn push_bool(&mut self, column: u32, row: u32, value: bool) {
        self.bools[column as usize].push(row, value);
    }

    pub(crate) fn push_bytes(&mut self, column: u32, row: u32, value: &[u8]) {
        self.blobs[column as usize].push(row, value);
    }

    /// Finishes the columns of a table of `rows` rows, decoded from a request of `request_bytes`.
    pub(crate) fn finish(
        mut self,
        rows: usize,
        request_bytes: usize,
        tail: &mut Tail,
    ) -> Result<Vec<Column>, ColumnError> {
        let given_up = self.too_sparse(rows, FILLED_BYTES_MAX + request_bytes);
        let mut columns = Vec::with_capacity(self.columns);
        for entry in std::mem::take(&mut self.keys) {
            for ty in AttrType::ALL {
                let number = entry.columns[ty as usize];
                if number == NONE {
                    continue;
                }
                if given_up.contains(&(ty, number)) {
                    self.move_to_tail(&entry.name, ty, number, tail)?;
                } else if let Some(array) = self.take_column(ty, number as usize, rows)? {
                    columns.push(Column { id: ColumnId::Attr { key: entry.name.clone(), ty }, array });
                }
            }
        }
        Ok(columns)
    }

    /// The columns with the fewest values that have to go, so that the others fit `bytes_max` with their gaps filled.
    fn too_sparse(&self, rows: usize, bytes_max: usize) -> Vec<(AttrType, u32)> {
        let mut bytes = 0;
        let mut sizes: Vec<(usize, AttrType, u32, usize)> = Vec::new();
        if rows * self.columns * 8 <= bytes_max {
            return Vec::new();
        }
        for entry in &self.keys {
            for ty in AttrType::ALL {
                let number = entry.columns[ty as usize];
                if number == NONE {
                    continue;
                }
                let i = number as usize;
                let (count, width) = match ty {
                    AttrType::Str => (self.texts[i].rows.count(), 4),
                    AttrType::Json => (self.jsons[i].rows.count(), 4),
                    AttrType::Int => (self.ints[i].rows.count(), 8),
                    AttrType::Double => (self.doubles[i].rows.count(), 8),
                    AttrType::Bool => (self.bools[i].rows.count(), 1),
                    AttrType::Bytes => (self.blobs[i].rows.count(), 4),
                };
                bytes += rows * width;
                sizes.push((count, ty, number, rows * width));
            }
        }
        sizes.sort_unstable();
        let mut given_up = Vec::new();
        for (_, ty, number, size) in sizes {
            if bytes <= bytes_max {
                break;
            }
            bytes -= size;
            given_up.push((ty, number));
        }
        given_up
    }

    fn move_to_tail(&mut self, name: &str, ty: AttrType, number: u32, tail: &mut Tail) -> Result<(), ColumnError> {
        let (kind, i) = (self.kind, number as usize);
        let utf8 = |text| std::str::from_utf8(text).map_err(|_| ColumnError::Utf8);
        match ty {
            AttrType::Str => {
                for (row, text) in self.texts[i].iter() {
                    let text = utf8(text)?;
                    tail.push_first(kind, row, name, |out| write_string(text, out));
                }
            }
            AttrType::Json => {
                for (row, text) in self.jsons[i].iter() {
                    let text = utf8(text)?;
                    tail.push_first(kind, row, name, |out| out.push_str(text));
                }
            }
            AttrType::Int => {
                for (row, value) in self.ints[i].iter() {
                    tail.push_first(kind, row, name, |out| Value::Int(value).write_text(out));
                }
            }
            AttrType::Double => {
                for (row, value) in self.doubles[i].iter() {
                    tail.push_first(kind, row, name, |out| write_double(value, out));
                }
            }
            AttrType::Bool => {
                for (row, value) in self.bools[i].iter() {
                    tail.push_first(kind, row, name, |out| Value::Bool(value).write_text(out));
                }
            }
            AttrType::Bytes => {
                for (row, value) in self.blobs[i].iter() {
                    tail.push_first(kind, row, name, |out| Value::Bytes(value.to_vec()).write_text(out));
                }
            }
        }
        Ok(())
    }

    fn take_column(&mut self, ty: AttrType, i: usize, rows: usize) -> Result<Option<ArrayRef>, ColumnError> {
        match ty {
            AttrType::Str => std::mem::take(&mut self.texts[i]).finish(rows),
            AttrType::Json => std::mem::take(&mut self.jsons[i]).finish(rows),
            AttrType::Int => Ok(nullable::<Int64Type>(std::mem::take(&mut self.ints[i]), rows)),
            AttrType::Double => Ok(nullable::<Float64Type>(std::mem::take(&mut self.doubles[i]), rows)),
            AttrType::Bool => Ok(nullable_bools(std::mem::take(&mut self.bools[i]), rows)),
            AttrType::Bytes => std::mem::take(&mut self.blobs[i]).finish(rows),
        }
    }
}

fn grow<T: Default>(columns: &mut Vec<T>) -> u32 {
    columns.push(T::default());
    (columns.len() - 1) as u32
}
