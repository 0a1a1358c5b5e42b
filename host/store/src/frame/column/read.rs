//! Buffers to columns. Every number is checked: the bytes come from disk.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    ListArray, StringArray, UInt8Array, UInt32Array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer as ArrowBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use prism_model::ColumnId;

use super::super::buffer::Buffer;
use super::super::ints;
use super::{
    BOOLS, BYTES, ColumnDir, DICTIONARY, DOUBLE_LISTS, DOUBLES, FIXED, FIXED_DICTIONARY, INT_LISTS, INTS, NULLS,
};
use crate::error::Damage;
use crate::unit::Numbered;

/// The column out of its buffers. `fetch` gives the raw bytes of one.
pub(in crate::frame) fn decode<'a>(
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
    let form = || dir.form.ok_or_else(bad);
    let numbers = || ints::decode::<i64>(form()?, count, &main);
    let lengths = || ints::decode::<u32>(form()?, count, &main).map_err(|_| Damage::Bounds("lengths"));
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
            let values = scatter(ints::decode(form()?, count, &main)?, validity.as_ref()).into();
            Arc::new(Int32Array::try_new(values, validity).map_err(broken)?)
        }
        (INTS, DataType::UInt32) => {
            let values = scatter(ints::decode(form()?, count, &main)?, validity.as_ref()).into();
            Arc::new(UInt32Array::try_new(values, validity).map_err(broken)?)
        }
        (INTS, DataType::UInt8) => {
            let values = scatter(ints::decode(form()?, count, &main)?, validity.as_ref()).into();
            Arc::new(UInt8Array::try_new(values, validity).map_err(broken)?)
        }
        (DOUBLES, DataType::Float64) => {
            let values = scatter(doubles(&main, count)?, validity.as_ref());
            Arc::new(Float64Array::try_new(values.into(), validity).map_err(broken)?)
        }
        (FIXED, DataType::FixedSizeBinary(width)) => fixed(main, *width, count, rows, validity)?,
        (BYTES, DataType::Utf8 | DataType::Binary) => {
            let offsets = offsets(&lengths()?, validity.as_ref(), rows)?;
            bytes_array(&data_type, offsets, fetch(dir.second.as_ref().ok_or_else(bad)?)?, validity)?
        }
        (DICTIONARY, DataType::Utf8) => {
            let keys = scatter(ints::decode(form()?, count, &main)?, validity.as_ref()).into();
            let keys = UInt32Array::try_new(keys, validity).map_err(broken)?;
            let values = values(dir, fetch(dir.third.as_ref().ok_or_else(bad)?)?)?;
            Arc::new(DictionaryArray::try_new(keys, values).map_err(broken)?)
        }
        (FIXED_DICTIONARY, DataType::FixedSizeBinary(16)) => {
            let numbers = ints::decode::<u32>(form()?, count, &main)?;
            let stored = fetch(dir.third.as_ref().ok_or_else(bad)?)?;
            let (ids, rest) = stored.as_chunks::<16>();
            if ids.len() != dir.values as usize || !rest.is_empty() {
                return Err(Damage::Bounds("ids"));
            }
            let id = |number: u32| ids.get(number as usize).copied().ok_or(Damage::Bounds("number of an id"));
            let dense = numbers.into_iter().map(id).collect::<Result<Vec<_>, _>>()?;
            let values = scatter(dense, validity.as_ref()).into_flattened();
            Arc::new(FixedSizeBinaryArray::try_new(16, values.into(), validity).map_err(broken)?)
        }
        (layout @ (INT_LISTS | DOUBLE_LISTS), DataType::List(item)) => {
            let offsets = offsets(&lengths()?, validity.as_ref(), rows)?;
            let count = dir.values as usize;
            // Before the values are made: a damaged count would make too many of them.
            if offsets[rows] as usize != count {
                return Err(Damage::Bounds("lists"));
            }
            let stored = fetch(dir.third.as_ref().ok_or_else(bad)?)?;
            let values: ArrayRef = match (layout, item.data_type()) {
                (INT_LISTS, DataType::Int64) => {
                    Arc::new(Int64Array::from(ints::decode::<i64>(dir.values_form.ok_or_else(bad)?, count, &stored)?))
                }
                (DOUBLE_LISTS, DataType::Float64) => Arc::new(Float64Array::from(doubles(&stored, count)?)),
                _ => return Err(Damage::Bounds("layout of a column")),
            };
            Arc::new(ListArray::try_new(item.clone(), offsets, values, validity).map_err(broken)?)
        }
        _ => return Err(Damage::Bounds("layout of a column")),
    };
    Ok(array)
}

/// The ids of a column by number, each once in the dictionary; `None` where they do not stand so.
pub(in crate::frame) fn numbers<'a>(
    dir: &ColumnDir,
    rows: usize,
    fetch: impl Fn(&Buffer) -> Result<Cow<'a, [u8]>, Damage>,
) -> Result<Option<Numbered>, Damage> {
    let (FIXED_DICTIONARY, Some(form), Some(main), Some(third)) = (dir.layout, dir.form, &dir.main, &dir.third) else {
        return Ok(None);
    };
    let validity = match &dir.validity {
        None => None,
        Some(buffer) => Some(validity(&fetch(buffer)?, rows, dir.nulls as usize)?),
    };
    let broken = |e: arrow::error::ArrowError| Damage::Rows(e.to_string());
    let dense = ints::decode::<u32>(form, rows - dir.nulls as usize, &fetch(main)?)?;
    let numbers = UInt32Array::try_new(scatter(dense, validity.as_ref()).into(), validity).map_err(broken)?;
    // A number that no id has is an error here.
    Numbered::try_new(numbers, values(dir, fetch(third)?)?).map(Some).map_err(broken)
}

/// Whether [`numbers`] has an answer.
pub(in crate::frame) fn has_numbers(dir: &ColumnDir) -> bool {
    dir.layout == FIXED_DICTIONARY
}

/// The texts of a column that stand one behind the other, without the rows that have none.
pub(in crate::frame) fn texts<'a>(
    dir: &ColumnDir,
    rows: usize,
    fetch: impl Fn(&Buffer) -> Result<Cow<'a, [u8]>, Damage>,
) -> Result<ArrayRef, Damage> {
    let (Some(form), Some(main), Some(second)) = (dir.form, &dir.main, &dir.second) else {
        return Err(Damage::Bounds("column"));
    };
    let count = rows - dir.nulls as usize;
    let lengths = ints::decode::<u32>(form, count, &fetch(main)?).map_err(|_| Damage::Bounds("lengths"))?;
    bytes_array(&DataType::Utf8, offsets(&lengths, None, count)?, fetch(second)?, None)
}

/// Whether [`texts`] has an answer.
pub(in crate::frame) fn has_texts(id: &ColumnId, dir: &ColumnDir) -> bool {
    dir.layout == BYTES && id.data_type() == DataType::Utf8
}

/// The values of a dictionary, each of which some row has, out of the buffer that holds them alone.
pub(in crate::frame) fn values(dir: &ColumnDir, stored: Cow<'_, [u8]>) -> Result<ArrayRef, Damage> {
    let count = dir.values as usize;
    if dir.layout == FIXED_DICTIONARY {
        if stored.len() != 16 * count {
            return Err(Damage::Bounds("ids"));
        }
        return fixed(stored, 16, count, count, None);
    }
    let bad = || Damage::Bounds("column");
    let form = dir.values_form.ok_or_else(bad)?;
    let (lengths, data) = stored.split_at_checked(form.len(count)).ok_or_else(bad)?;
    let lengths = ints::decode::<u32>(form, count, lengths).map_err(|_| Damage::Bounds("lengths"))?;
    bytes_array(&DataType::Utf8, offsets(&lengths, None, count)?, Cow::Borrowed(data), None)
}

/// The buffer that holds the values of a dictionary alone; `None` where the column has none.
pub(in crate::frame) fn values_buffer(dir: &ColumnDir) -> Option<Buffer> {
    if matches!(dir.layout, DICTIONARY | FIXED_DICTIONARY) { dir.third } else { None }
}

/// The rows that have a number, ascending; `None` where the column must be decoded to tell.
pub(in crate::frame) fn rows_of_int<'a>(
    dir: &ColumnDir,
    rows: usize,
    number: i64,
    fetch: impl Fn(&Buffer) -> Result<Cow<'a, [u8]>, Damage>,
) -> Result<Option<Vec<u32>>, Damage> {
    let (INTS, Some(form), Some(main)) = (dir.layout, dir.form, &dir.main) else { return Ok(None) };
    let count = rows - dir.nulls as usize;
    let Some(found) = ints::equal(form, count, &fetch(main)?, number)? else { return Ok(None) };
    let Some(buffer) = &dir.validity else {
        return Ok(Some(found.set_indices().map(|row| row as u32).collect()));
    };
    let there = validity(&fetch(buffer)?, rows, dir.nulls as usize)?;
    let with = there.valid_indices().zip(found.iter()).filter(|(_, found)| *found);
    Ok(Some(with.map(|(row, _)| row as u32).collect()))
}

fn doubles(bytes: &[u8], count: usize) -> Result<Vec<f64>, Damage> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    if chunks.len() != count || !rest.is_empty() {
        return Err(Damage::Bounds("doubles"));
    }
    Ok(chunks.iter().map(|c| f64::from_le_bytes(*c)).collect())
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

fn fixed(
    bytes: Cow<'_, [u8]>,
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
        None => bytes.into_owned(),
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
fn offsets(lengths: &[u32], validity: Option<&NullBuffer>, rows: usize) -> Result<OffsetBuffer<i32>, Damage> {
    let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    if i32::try_from(total).is_err() {
        return Err(Damage::Bounds("lengths"));
    }
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut end = 0;
    offsets.push(0);
    let mut push = |length: u32| {
        end += length as i32;
        offsets.push(end);
    };
    match validity {
        None => lengths.iter().for_each(|length| push(*length)),
        Some(v) => {
            let mut next = lengths.iter();
            v.iter().for_each(|there| push(if there { next.next().copied().unwrap_or(0) } else { 0 }));
        }
    }
    Ok(OffsetBuffer::new(offsets.into()))
}

fn bytes_array(
    data_type: &DataType,
    offsets: OffsetBuffer<i32>,
    data: Cow<'_, [u8]>,
    validity: Option<NullBuffer>,
) -> Result<ArrayRef, Damage> {
    if offsets[offsets.len() - 1] as usize != data.len() {
        return Err(Damage::Bounds("text"));
    }
    let broken = |e: arrow::error::ArrowError| Damage::Rows(e.to_string());
    let data = ArrowBuffer::from(data.into_owned());
    Ok(if *data_type == DataType::Utf8 {
        Arc::new(StringArray::try_new(offsets, data, validity).map_err(broken)?)
    } else {
        Arc::new(BinaryArray::try_new(offsets, data, validity).map_err(broken)?)
    })
}
