//! Columns to buffers.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, FixedSizeBinaryArray, ListArray, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, UInt8Type, UInt32Type};
use prism_model::{ColumnId, Intrinsic, TableKind};

use super::super::again::{self, StoredValues};
use super::super::bloom;
use super::super::buffer::Sink;
use super::super::header::IDS_FRAME_VERSION;
use super::super::ints;
use super::super::stats::{ColumnMeta, Range, SMALL_DICTIONARY, TextRange};
use super::super::wire::Put as _;
use super::{
    BOOLS, BYTES, DICTIONARY, DOUBLE_LISTS, DOUBLES, FIXED, FIXED_DICTIONARY, INT_LISTS, INTS, LIST_VALUES_MAX, NULLS,
};
use crate::error::StoreError;

/// Ids of a column that tell whether the others are worth a table.
const IDS_LOOKED_AT: usize = 2_048;

/// What [`encode`] needs besides the column.
pub(in crate::frame) struct Encoder<'a> {
    pub(in crate::frame) table: TableKind,
    /// Frames that are joined: what they have of a column is not compressed again.
    pub(in crate::frame) again: &'a [StoredValues],
    pub(in crate::frame) sink: &'a mut Sink,
    pub(in crate::frame) directory: &'a mut Vec<u8>,
    pub(in crate::frame) tokens: &'a mut Vec<u64>,
    pub(in crate::frame) traces: &'a mut Vec<u64>,
    pub(in crate::frame) scratch: &'a mut Vec<u8>,
    pub(in crate::frame) numbers: &'a mut Vec<i64>,
    /// The version of frames that knows all layouts so far.
    pub(in crate::frame) version: &'a mut u16,
}

impl Encoder<'_> {
    /// Puts values as they are as one buffer; `texts`: how many they are, where they are texts.
    fn push_values(&mut self, id: &ColumnId, raw: &[u8], texts: Option<usize>) -> Result<(), StoreError> {
        match again::pieces(self.again, self.table, id, raw.len()).filter(|_| !self.sink.is_whole()) {
            Some((pieces, packed)) => self.sink.push_pieces(raw.len(), &pieces, packed, self.directory),
            None => match texts {
                Some(count) => self.sink.push_texts(raw, count, self.directory),
                None => self.sink.push(raw, self.directory),
            },
        }
    }

    /// Puts `numbers` as one buffer.
    fn push_numbers(&mut self) -> Result<Option<(i64, i64)>, StoreError> {
        self.scratch.clear();
        let (form, range) = ints::encode(self.numbers, self.scratch);
        form.put(self.directory);
        self.sink.push_numbers(self.scratch, self.directory)?;
        Ok(range)
    }
}

/// The key under which a text column's values are in the token filter; `None` for texts that nobody compares as a whole.
pub(crate) fn token_key(id: &ColumnId) -> Option<&str> {
    match id {
        ColumnId::Attr { key, ty: prism_model::AttrType::Str } => Some(key),
        ColumnId::Intrinsic(i) => match i {
            Intrinsic::Name | Intrinsic::SeverityText | Intrinsic::EventName | Intrinsic::StatusMessage => {
                Some(i.name())
            }
            _ => None,
        },
        ColumnId::Attr { .. } => None,
    }
}

/// Appends the column's buffers to the sink, its line to the directory; gives its statistics.
pub(in crate::frame) fn encode(
    id: &ColumnId,
    array: &ArrayRef,
    to: &mut Encoder<'_>,
) -> Result<ColumnMeta, StoreError> {
    let arrow_failed = |e: arrow::error::ArrowError| StoreError::Rows(e.to_string());
    let array = match array.data_type() {
        // A dictionary with nulls among its values has two ways to say null: plain text has one.
        DataType::Dictionary(..) if array.as_dictionary::<UInt32Type>().values().null_count() > 0 => {
            Cow::Owned(cast(array, &DataType::Utf8).map_err(arrow_failed)?)
        }
        _ => Cow::Borrowed(array),
    };
    let (rows, nulls) = (array.len(), array.null_count());
    let mut meta = ColumnMeta { id: id.clone(), null_count: nulls as u32, range: None, dictionary: None };
    let layout = match array.data_type() {
        _ if nulls == rows => NULLS,
        DataType::Boolean => BOOLS,
        DataType::UInt8 | DataType::UInt32 | DataType::Int32 | DataType::Int64 => INTS,
        DataType::Float64 => DOUBLES,
        DataType::FixedSizeBinary(_) => FIXED,
        DataType::Utf8 | DataType::Binary => BYTES,
        DataType::Dictionary(..) => DICTIONARY,
        DataType::List(item) if *item.data_type() == DataType::Int64 => INT_LISTS,
        DataType::List(item) if *item.data_type() == DataType::Float64 => DOUBLE_LISTS,
        other => return Err(StoreError::Rows(format!("column `{id}` has type {other}"))),
    };
    let validity = array.nulls().filter(|n| n.null_count() > 0);
    let by_value = if layout == FIXED { ids_by_value(id, &array, validity, to) } else { None };
    let layout = if by_value.is_some() { FIXED_DICTIONARY } else { layout };
    to.directory.u8(layout);
    to.directory.var(nulls as u64);
    if layout == NULLS {
        return Ok(meta);
    }
    if let Some(validity) = validity {
        to.sink.push(&bitmap(validity.inner()), to.directory)?;
    }
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            let dense: BooleanBuffer = match validity {
                None => values.values().clone(),
                Some(_) => values.iter().flatten().collect(),
            };
            let trues = dense.count_set_bits();
            meta.range = Some(Range::Bool { any_true: trues > 0, any_false: trues < dense.len() });
            to.sink.push(&bitmap(&dense), to.directory)?;
        }
        DataType::UInt8 => put_ints(&dense(array.as_primitive::<UInt8Type>().values(), validity), &mut meta, to)?,
        DataType::UInt32 => put_ints(&dense(array.as_primitive::<UInt32Type>().values(), validity), &mut meta, to)?,
        DataType::Int32 => put_ints(&dense(array.as_primitive::<Int32Type>().values(), validity), &mut meta, to)?,
        DataType::Int64 => put_ints(&dense(array.as_primitive::<Int64Type>().values(), validity), &mut meta, to)?,
        DataType::Float64 => {
            let values = dense(array.as_primitive::<Float64Type>().values(), validity);
            to.scratch.clear();
            values.iter().for_each(|d| to.scratch.extend_from_slice(&d.to_le_bytes()));
            meta.range = double_range(values.iter().copied());
            to.sink.push(to.scratch, to.directory)?;
        }
        DataType::FixedSizeBinary(_) => match by_value {
            Some(ids) => put_ids(ids, to)?,
            None => put_fixed(id, array.as_fixed_size_binary(), to)?,
        },
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            put_bytes(id, values.offsets(), values.value_data(), validity, to)?;
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            put_bytes(id, values.offsets(), values.value_data(), validity, to)?;
            note_text(id, values.iter().flatten(), &mut meta, to);
        }
        DataType::List(_) => put_lists(id, array.as_list::<i32>(), validity, to)?,
        _ => put_dictionary(id, array.as_dictionary::<UInt32Type>(), &mut meta, to)?,
    }
    Ok(meta)
}

/// The values that are there.
fn dense<'a, T: Copy>(values: &'a [T], validity: Option<&NullBuffer>) -> Cow<'a, [T]> {
    match validity {
        None => Cow::Borrowed(values),
        Some(validity) => validity.valid_indices().map(|i| values[i]).collect(),
    }
}

fn put_ints<T: Copy + Into<i64>>(numbers: &[T], meta: &mut ColumnMeta, to: &mut Encoder<'_>) -> Result<(), StoreError> {
    to.numbers.clear();
    to.numbers.extend(numbers.iter().map(|n| (*n).into()));
    meta.range = to.push_numbers()?.map(|(min, max)| Range::Int { min, max });
    Ok(())
}

/// `None` where a NaN is among them: engines disagree on where it stands.
pub(crate) fn double_range(numbers: impl Iterator<Item = f64>) -> Option<Range> {
    let (mut min, mut max, mut any_nan) = (f64::INFINITY, f64::NEG_INFINITY, false);
    for n in numbers {
        any_nan |= n.is_nan();
        min = min.min(n);
        max = max.max(n);
    }
    // -0.0 and 0.0 are equal to some engines and ordered for others.
    let (min, max) = (if min == 0.0 { -0.0 } else { min }, if max == 0.0 { 0.0 } else { max });
    (!any_nan).then_some(Range::Double { min, max })
}

fn put_fixed(id: &ColumnId, array: &FixedSizeBinaryArray, to: &mut Encoder<'_>) -> Result<(), StoreError> {
    let width = array.value_size();
    let note = *id == ColumnId::Intrinsic(Intrinsic::TraceId);
    let values = if array.null_count() == 0 {
        Cow::Borrowed(&array.values()[..array.len() * width])
    } else {
        let mut there = Vec::with_capacity((array.len() - array.null_count()) * width);
        array.iter().flatten().for_each(|v| there.extend_from_slice(v));
        Cow::Owned(there)
    };
    if note {
        let mut previous: &[u8] = &[];
        for value in values.chunks_exact(width) {
            if value != previous {
                to.traces.push(bloom::trace_hash(value));
                previous = value;
            }
        }
    }
    to.push_values(id, &values, None)
}

/// The ids that are there by number, and each once in the order in which they come.
struct IdsByValue {
    numbers: Vec<i64>,
    ids: Vec<[u8; 16]>,
}

/// The trace ids of a column, where they come again often enough: a number takes less to write and to read than zstd takes to find
/// the sixteen bytes again. Not where all buffers are compressed together, which shows zstd the ids anyway.
fn ids_by_value(
    id: &ColumnId,
    array: &ArrayRef,
    validity: Option<&NullBuffer>,
    to: &Encoder<'_>,
) -> Option<IdsByValue> {
    if to.sink.is_whole() || *id != ColumnId::Intrinsic(Intrinsic::TraceId) {
        return None;
    }
    let array = array.as_fixed_size_binary();
    let (all, _) = array.value_data().as_chunks::<16>();
    let rows = dense(all.get(..array.len())?, validity);
    let count = array.len() - array.null_count();
    let mut known: HashMap<[u8; 16], u32, foldhash::fast::RandomState> = HashMap::default();
    let (mut numbers, mut ids) = (Vec::with_capacity(count), Vec::new());
    let mut last = None;
    for (row, id) in rows.iter().copied().enumerate() {
        // The spans of a trace may stand together.
        let number = match last {
            Some((same, number)) if same == id => number,
            _ => *known.entry(id).or_insert_with(|| {
                ids.push(id);
                ids.len() as u32 - 1
            }),
        };
        last = Some((id, number));
        numbers.push(i64::from(number));
        // Whether they come again shows early: traces are short beside a frame.
        if row == IDS_LOOKED_AT && ids.len() * 8 > row * 7 {
            return None;
        }
    }
    (ids.len() * 2 <= count).then_some(IdsByValue { numbers, ids })
}

fn put_ids(of: IdsByValue, to: &mut Encoder<'_>) -> Result<(), StoreError> {
    *to.version = (*to.version).max(IDS_FRAME_VERSION);
    to.traces.extend(of.ids.iter().map(|id| bloom::trace_hash(id)));
    *to.numbers = of.numbers;
    to.push_numbers()?;
    to.directory.var(of.ids.len() as u64);
    to.sink.push(of.ids.as_flattened(), to.directory)
}

fn put_bytes(
    id: &ColumnId,
    offsets: &OffsetBuffer<i32>,
    data: &[u8],
    validity: Option<&NullBuffer>,
    to: &mut Encoder<'_>,
) -> Result<(), StoreError> {
    let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
    let length = |i: usize| i64::from(offsets[i + 1] - offsets[i]);
    to.numbers.clear();
    match validity {
        None => to.numbers.extend((0..offsets.len() - 1).map(length)),
        Some(v) => to.numbers.extend(v.valid_indices().map(length)),
    }
    let total = to.numbers.iter().sum::<i64>() as usize;
    let texts = (id.data_type() == DataType::Utf8).then_some(to.numbers.len());
    to.push_numbers()?;
    if total == last - first {
        return to.push_values(id, &data[first..last], texts);
    }
    // Some null hides bytes: leave them out.
    to.scratch.clear();
    for i in validity.into_iter().flat_map(NullBuffer::valid_indices) {
        to.scratch.extend_from_slice(&data[offsets[i] as usize..offsets[i + 1] as usize]);
    }
    match texts {
        Some(count) => to.sink.push_texts(to.scratch, count, to.directory),
        None => to.sink.push(to.scratch, to.directory),
    }
}

/// Lengths of the lists that are there, then their values one after the other. Numbers within lists have no statistics.
fn put_lists(
    id: &ColumnId,
    array: &ListArray,
    validity: Option<&NullBuffer>,
    to: &mut Encoder<'_>,
) -> Result<(), StoreError> {
    let offsets = array.value_offsets();
    let present = || {
        let rows = match validity {
            None => 0..array.len(),
            Some(_) => 0..0,
        };
        let rows = rows.chain(validity.into_iter().flat_map(NullBuffer::valid_indices));
        rows.map(|i| offsets[i] as usize..offsets[i + 1] as usize)
    };
    if array.values().null_count() > 0 {
        return Err(StoreError::Rows(format!("column `{id}` has a list with a null")));
    }
    to.numbers.clear();
    to.numbers.extend(present().map(|r| r.len() as i64));
    let count = to.numbers.iter().sum::<i64>() as usize;
    if count > LIST_VALUES_MAX {
        return Err(StoreError::Rows(format!("column `{id}` has lists of {count} values")));
    }
    to.push_numbers()?;
    to.directory.var(count as u64);
    match array.value_type() {
        DataType::Int64 => {
            let values = array.values().as_primitive::<Int64Type>().values();
            to.numbers.clear();
            present().for_each(|r| to.numbers.extend_from_slice(&values[r]));
            to.push_numbers()?;
            Ok(())
        }
        _ => {
            let values = array.values().as_primitive::<Float64Type>().values();
            to.scratch.clear();
            present().flat_map(|r| &values[r]).for_each(|d| to.scratch.extend_from_slice(&d.to_le_bytes()));
            to.sink.push(to.scratch, to.directory)
        }
    }
}

fn put_dictionary(
    id: &ColumnId,
    array: &DictionaryArray<UInt32Type>,
    meta: &mut ColumnMeta,
    to: &mut Encoder<'_>,
) -> Result<(), StoreError> {
    let values: &StringArray = array.values().as_string();
    let keys = array.keys();
    let numbers = dense(keys.values(), keys.nulls());
    let mut used = vec![false; values.len()];
    numbers.iter().for_each(|k| used[*k as usize] = true);
    let count = used.iter().filter(|u| **u).count();
    to.numbers.clear();
    if count == used.len() {
        to.numbers.extend(numbers.iter().map(|k| i64::from(*k)));
    } else {
        let mut next = 0;
        let new: Vec<i64> = used.iter().map(|u| if *u { (next, next += 1).0 } else { 0 }).collect();
        to.numbers.extend(numbers.iter().map(|k| new[*k as usize]));
    }
    to.push_numbers()?;
    let text = |i: usize| values.value(i);
    let present = (0..values.len()).filter(|i| used[*i]);
    to.directory.var(count as u64);
    to.scratch.clear();
    to.numbers.clear();
    to.numbers.extend(present.clone().map(|i| text(i).len() as i64));
    let (form, _) = ints::encode(to.numbers, to.scratch);
    form.put(to.directory);
    present.clone().for_each(|i| to.scratch.extend_from_slice(text(i).as_bytes()));
    to.sink.push(to.scratch, to.directory)?;
    note_text(id, present.clone().map(text), meta, to);
    let bytes: usize = present.clone().map(|i| text(i).len()).sum();
    if count <= SMALL_DICTIONARY.values && bytes <= SMALL_DICTIONARY.bytes {
        meta.dictionary = Some(present.map(|i| text(i).into()).collect());
    }
    Ok(())
}

/// Range and tokens of a text column.
fn note_text<'a>(
    id: &ColumnId,
    texts: impl Iterator<Item = &'a str> + Clone,
    meta: &mut ColumnMeta,
    to: &mut Encoder<'_>,
) {
    meta.range = TextRange::of(texts.clone()).map(Range::Text);
    if let Some(key) = token_key(id) {
        let seed = bloom::key_seed(key);
        to.tokens.extend(texts.map(|t| bloom::token_hash(seed, t)));
    }
}

/// The bits from the first one on, with zeros behind the last.
fn bitmap(bits: &BooleanBuffer) -> Vec<u8> {
    let mut bytes = bits.sliced().as_slice()[..bits.len().div_ceil(8)].to_vec();
    if let (Some(last), 1..) = (bytes.last_mut(), bits.len() % 8) {
        *last &= (1 << (bits.len() % 8)) - 1;
    }
    bytes
}
