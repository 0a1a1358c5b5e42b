//! One column as buffers, and back.
//!
//! Only values that are there are written: what lies under a null, and dictionary values that no row uses, may be what a
//! redactor took out (PL-1), and costs bytes.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array,
    Int32Array, Int64Array, StringArray, UInt8Array, UInt32Array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer as ArrowBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, UInt8Type, UInt32Type};

use super::bloom;
use super::buffer::{Buffer, Lines, Sink};
use super::ints::{self, IntForm};
use super::stats::{ColumnMeta, Range, SMALL_DICTIONARY, TextRange};
use super::wire::{Put as _, Take};
use crate::error::{Damage, StoreError};
use prism_model::{ColumnId, Intrinsic};

const NULLS: u8 = 0;
const BOOLS: u8 = 1;
const INTS: u8 = 2;
const DOUBLES: u8 = 3;
const FIXED: u8 = 4;
const BYTES: u8 = 5;
const DICTIONARY: u8 = 6;

/// Where the buffers of a column are and how to read them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnDir {
    layout: u8,
    nulls: u32,
    validity: Option<Buffer>,
    /// Numbers, lengths, or keys.
    form: Option<IntForm>,
    main: Option<Buffer>,
    /// Bytes of plain values; lengths and bytes of the values of a dictionary.
    second: Option<Buffer>,
    values: u32,
    values_form: Option<IntForm>,
    third: Option<Buffer>,
}

impl ColumnDir {
    pub(super) fn nulls(&self) -> u32 {
        self.nulls
    }

    /// The buffers that must be fetched, in the order of the payload.
    pub(crate) fn buffers(&self) -> impl Iterator<Item = Buffer> {
        [self.validity, self.main, self.second, self.third].into_iter().flatten()
    }
}

/// What [`encode`] needs besides the column.
pub(super) struct Encoder<'a> {
    pub(super) sink: &'a mut Sink,
    pub(super) directory: &'a mut Vec<u8>,
    pub(super) tokens: &'a mut Vec<u64>,
    pub(super) traces: &'a mut Vec<u64>,
    pub(super) scratch: &'a mut Vec<u8>,
    pub(super) numbers: &'a mut Vec<i64>,
}

impl Encoder<'_> {
    /// Puts `numbers` as one buffer.
    fn push_numbers(&mut self) -> Result<Option<(i64, i64)>, StoreError> {
        self.scratch.clear();
        let (form, range) = ints::encode(self.numbers, self.scratch);
        form.put(self.directory);
        self.sink.push(self.scratch, self.directory)?;
        Ok(range)
    }
}

/// The key under which a text column's values are in the token filter; `None` for texts that nobody compares as a whole.
pub(super) fn token_key(id: &ColumnId) -> Option<&str> {
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
pub(super) fn encode(id: &ColumnId, array: &ArrayRef, to: &mut Encoder<'_>) -> Result<ColumnMeta, StoreError> {
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
        other => return Err(StoreError::Rows(format!("column `{id}` has type {other}"))),
    };
    to.directory.u8(layout);
    to.directory.var(nulls as u64);
    if layout == NULLS {
        return Ok(meta);
    }
    let validity = array.nulls().filter(|n| n.null_count() > 0);
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
        DataType::UInt8 => put_ints(dense(array.as_primitive::<UInt8Type>().values(), validity), &mut meta, to)?,
        DataType::UInt32 => put_ints(dense(array.as_primitive::<UInt32Type>().values(), validity), &mut meta, to)?,
        DataType::Int32 => put_ints(dense(array.as_primitive::<Int32Type>().values(), validity), &mut meta, to)?,
        DataType::Int64 => put_ints(dense(array.as_primitive::<Int64Type>().values(), validity), &mut meta, to)?,
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            to.scratch.clear();
            dense(values, validity).for_each(|d| to.scratch.extend_from_slice(&d.to_le_bytes()));
            meta.range = double_range(dense(values, validity));
            to.sink.push(to.scratch, to.directory)?;
        }
        DataType::FixedSizeBinary(_) => put_fixed(id, array.as_fixed_size_binary(), to)?,
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            put_bytes(values.offsets(), values.value_data(), validity, to)?;
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            put_bytes(values.offsets(), values.value_data(), validity, to)?;
            note_text(id, values.iter().flatten(), &mut meta, to);
        }
        _ => put_dictionary(id, array.as_dictionary::<UInt32Type>(), &mut meta, to)?,
    }
    Ok(meta)
}

/// The values that are there.
fn dense<'a, T: Copy>(values: &'a [T], validity: Option<&'a NullBuffer>) -> impl Iterator<Item = T> + 'a {
    // One of the two is empty: chaining keeps one iterator type without a branch a value.
    let all = if validity.is_none() { values } else { &[] };
    let some = validity.map(|v| v.valid_indices().map(|i| values[i]));
    all.iter().copied().chain(some.into_iter().flatten())
}

fn put_ints<T: Into<i64>>(
    numbers: impl Iterator<Item = T>,
    meta: &mut ColumnMeta,
    to: &mut Encoder<'_>,
) -> Result<(), StoreError> {
    to.numbers.clear();
    to.numbers.extend(numbers.map(Into::into));
    meta.range = to.push_numbers()?.map(|(min, max)| Range::Int { min, max });
    Ok(())
}

/// `None` where a NaN is among them: engines disagree on where it stands.
fn double_range(numbers: impl Iterator<Item = f64>) -> Option<Range> {
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
    to.scratch.clear();
    if array.null_count() == 0 {
        to.scratch.extend_from_slice(&array.values()[..array.len() * width]);
    } else {
        array.iter().flatten().for_each(|v| to.scratch.extend_from_slice(v));
    }
    if note {
        let mut previous: &[u8] = &[];
        for value in to.scratch.chunks_exact(width) {
            if value != previous {
                to.traces.push(bloom::trace_hash(value));
                previous = value;
            }
        }
    }
    to.sink.push(to.scratch, to.directory)
}

fn put_bytes(
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
    to.push_numbers()?;
    if total == last - first {
        return to.sink.push(&data[first..last], to.directory);
    }
    // Some null hides bytes: leave them out.
    to.scratch.clear();
    for i in validity.into_iter().flat_map(NullBuffer::valid_indices) {
        to.scratch.extend_from_slice(&data[offsets[i] as usize..offsets[i + 1] as usize]);
    }
    to.sink.push(to.scratch, to.directory)
}

fn put_dictionary(
    id: &ColumnId,
    array: &DictionaryArray<UInt32Type>,
    meta: &mut ColumnMeta,
    to: &mut Encoder<'_>,
) -> Result<(), StoreError> {
    let values: &StringArray = array.values().as_string();
    let keys = array.keys();
    let mut used = vec![false; values.len()];
    dense(keys.values(), keys.nulls()).for_each(|k| used[k as usize] = true);
    let count = used.iter().filter(|u| **u).count();
    to.numbers.clear();
    if count == used.len() {
        to.numbers.extend(dense(keys.values(), keys.nulls()).map(i64::from));
    } else {
        let mut next = 0;
        let new: Vec<i64> = used.iter().map(|u| if *u { (next, next += 1).0 } else { 0 }).collect();
        to.numbers.extend(dense(keys.values(), keys.nulls()).map(|k| new[k as usize]));
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

/// Reads a column's line of the directory.
pub(super) fn take(take: &mut Take<'_>, lines: &mut Lines, rows: usize) -> Result<ColumnDir, Damage> {
    let layout = take.u8()?;
    let nulls = take.var_max(rows)? as u32;
    let mut dir = ColumnDir {
        layout,
        nulls,
        validity: None,
        form: None,
        main: None,
        second: None,
        values: 0,
        values_form: None,
        third: None,
    };
    if layout == NULLS {
        return if nulls as usize == rows { Ok(dir) } else { Err(Damage::Bounds("nulls of a column")) };
    }
    if nulls > 0 {
        dir.validity = Some(lines.take(take)?);
    }
    if matches!(layout, INTS | BYTES | DICTIONARY) {
        dir.form = Some(IntForm::take(take)?);
    }
    dir.main = Some(lines.take(take)?);
    match layout {
        BOOLS | INTS | DOUBLES | FIXED => {}
        BYTES => dir.second = Some(lines.take(take)?),
        DICTIONARY => {
            dir.values = take.var_max(rows - nulls as usize)? as u32;
            dir.values_form = Some(IntForm::take(take)?);
            dir.third = Some(lines.take(take)?);
        }
        _ => return Err(Damage::Bounds("layout of a column")),
    }
    Ok(dir)
}

/// The column out of its buffers. `fetch` gives the raw bytes of one.
pub(super) fn decode<'a>(
    id: &ColumnId,
    dir: &ColumnDir,
    rows: usize,
    fetch: impl Fn(&Buffer) -> Result<Cow<'a, [u8]>, Damage>,
) -> Result<ArrayRef, Damage> {
    let data_type = id.data_type();
    let bad = || Damage::Bounds("column");
    let broken = |e: arrow::error::ArrowError| Damage::Rows(e.to_string());
    if dir.layout == NULLS {
        return Ok(new_null_array(&data_type, rows));
    }
    let validity = match &dir.validity {
        None => None,
        Some(buffer) => Some(validity(&fetch(buffer)?, rows, dir.nulls as usize)?),
    };
    let count = rows - dir.nulls as usize;
    let main = fetch(dir.main.as_ref().ok_or_else(bad)?)?;
    let numbers = || ints::decode(dir.form.ok_or_else(bad)?, count, &main);
    let array: ArrayRef = match (dir.layout, &data_type) {
        (BOOLS, DataType::Boolean) => {
            let dense = bits(&main, count)?;
            let values = match &validity {
                None => dense,
                Some(v) => {
                    let mut next = dense.iter();
                    v.iter().map(|there| there && next.next().unwrap_or(false)).collect()
                }
            };
            Arc::new(BooleanArray::new(values, validity))
        }
        (INTS, DataType::Int64) => {
            let values = scatter(numbers()?, validity.as_ref());
            Arc::new(Int64Array::try_new(values.into(), validity).map_err(broken)?)
        }
        (INTS, DataType::Int32) => {
            let values = narrow(numbers()?, validity.as_ref())?;
            Arc::new(Int32Array::try_new(values, validity).map_err(broken)?)
        }
        (INTS, DataType::UInt32) => {
            let values = narrow(numbers()?, validity.as_ref())?;
            Arc::new(UInt32Array::try_new(values, validity).map_err(broken)?)
        }
        (INTS, DataType::UInt8) => {
            let values = narrow(numbers()?, validity.as_ref())?;
            Arc::new(UInt8Array::try_new(values, validity).map_err(broken)?)
        }
        (DOUBLES, DataType::Float64) => {
            let (chunks, rest) = main.as_chunks::<8>();
            if chunks.len() != count || !rest.is_empty() {
                return Err(bad());
            }
            let values = scatter(chunks.iter().map(|c| f64::from_le_bytes(*c)).collect(), validity.as_ref());
            Arc::new(Float64Array::try_new(values.into(), validity).map_err(broken)?)
        }
        (FIXED, DataType::FixedSizeBinary(width)) => fixed(&main, *width, count, rows, validity)?,
        (BYTES, DataType::Utf8 | DataType::Binary) => {
            let offsets = offsets(&numbers()?, validity.as_ref(), rows)?;
            let data = fetch(dir.second.as_ref().ok_or_else(bad)?)?;
            bytes_array(&data_type, offsets, &data, validity)?
        }
        (DICTIONARY, DataType::Utf8) => {
            let keys = narrow(numbers()?, validity.as_ref())?;
            let keys = UInt32Array::try_new(keys, validity).map_err(broken)?;
            let form = dir.values_form.ok_or_else(bad)?;
            let count = dir.values as usize;
            let stored = fetch(dir.third.as_ref().ok_or_else(bad)?)?;
            let (lengths, data) = stored.split_at_checked(form.len(count)).ok_or_else(bad)?;
            let offsets = offsets(&ints::decode(form, count, lengths)?, None, count)?;
            let values = bytes_array(&DataType::Utf8, offsets, data, None)?;
            Arc::new(DictionaryArray::try_new(keys, values).map_err(broken)?)
        }
        _ => return Err(Damage::Bounds("layout of a column")),
    };
    Ok(array)
}

fn bits(bytes: &[u8], count: usize) -> Result<BooleanBuffer, Damage> {
    if bytes.len() != count.div_ceil(8) {
        return Err(Damage::Bounds("bitmap"));
    }
    Ok(BooleanBuffer::new(ArrowBuffer::from(bytes.to_vec()), 0, count))
}

fn validity(bytes: &[u8], rows: usize, nulls: usize) -> Result<NullBuffer, Damage> {
    let validity = NullBuffer::new(bits(bytes, rows)?);
    if validity.null_count() == nulls { Ok(validity) } else { Err(Damage::Bounds("nulls of a column")) }
}

/// Puts dense values where the column is not null; zeros elsewhere.
fn scatter<T: Copy + Default>(dense: Vec<T>, validity: Option<&NullBuffer>) -> Vec<T> {
    let Some(validity) = validity else { return dense };
    let mut values = vec![T::default(); validity.len()];
    for (to, value) in validity.valid_indices().zip(dense) {
        values[to] = value;
    }
    values
}

fn narrow<T>(numbers: Vec<i64>, validity: Option<&NullBuffer>) -> Result<ScalarBuffer<T>, Damage>
where
    T: TryFrom<i64> + Copy + Default + arrow::datatypes::ArrowNativeType,
{
    let dense: Vec<T> =
        numbers.into_iter().map(|n| T::try_from(n).map_err(|_| Damage::Bounds("number"))).collect::<Result<_, _>>()?;
    Ok(scatter(dense, validity).into())
}

fn fixed(
    bytes: &[u8],
    width: i32,
    count: usize,
    rows: usize,
    validity: Option<NullBuffer>,
) -> Result<ArrayRef, Damage> {
    let size = width as usize;
    if bytes.len() != size * count {
        return Err(Damage::Bounds("fixed column"));
    }
    let values = match &validity {
        None => bytes.to_vec(),
        Some(v) => {
            let mut values = vec![0; size * rows];
            for (to, value) in v.valid_indices().zip(bytes.chunks_exact(size)) {
                values[to * size..][..size].copy_from_slice(value);
            }
            values
        }
    };
    let array =
        FixedSizeBinaryArray::try_new(width, values.into(), validity).map_err(|e| Damage::Rows(e.to_string()))?;
    Ok(Arc::new(array))
}

/// Offsets out of the lengths of the values that are there.
fn offsets(lengths: &[i64], validity: Option<&NullBuffer>, rows: usize) -> Result<OffsetBuffer<i32>, Damage> {
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut end = 0i32;
    offsets.push(0);
    let mut push = |length: i64| {
        end = i32::try_from(length)
            .ok()
            .filter(|l| *l >= 0)
            .and_then(|l| end.checked_add(l))
            .ok_or(Damage::Bounds("text"))?;
        offsets.push(end);
        Ok(())
    };
    match validity {
        None => lengths.iter().try_for_each(|l| push(*l))?,
        Some(v) => {
            let mut next = lengths.iter();
            v.iter().try_for_each(|there| push(if there { next.next().copied().unwrap_or(0) } else { 0 }))?;
        }
    }
    Ok(OffsetBuffer::new(offsets.into()))
}

fn bytes_array(
    data_type: &DataType,
    offsets: OffsetBuffer<i32>,
    data: &[u8],
    validity: Option<NullBuffer>,
) -> Result<ArrayRef, Damage> {
    if offsets[offsets.len() - 1] as usize != data.len() {
        return Err(Damage::Bounds("text"));
    }
    let broken = |e: arrow::error::ArrowError| Damage::Rows(e.to_string());
    let data = ArrowBuffer::from(data.to_vec());
    Ok(if *data_type == DataType::Utf8 {
        Arc::new(StringArray::try_new(offsets, data, validity).map_err(broken)?)
    } else {
        Arc::new(BinaryArray::try_new(offsets, data, validity).map_err(broken)?)
    })
}
