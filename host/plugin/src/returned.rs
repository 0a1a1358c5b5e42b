//! A column that a guest returned, checked like network input: lengths, offsets, keys, bitmaps, text.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray,
    UInt32Array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::{nullif, take};
use arrow::datatypes::{DataType, UInt32Type};

use crate::bindings::base::Dtype;
use crate::bindings::columns::{BytesColResult, ValuesResult};
use crate::edit::{check_offsets, check_texts};
use crate::error::{Failure, lied};

/// One value for each row, as a guest gives it.
pub(crate) struct Returned {
    pub(crate) validity: Option<Vec<u8>>,
    pub(crate) keys: Option<Vec<u32>>,
    pub(crate) values: ValuesResult,
}

impl Returned {
    /// The column of so many rows: plain, or text by value where its values are distinct.
    ///
    /// # Errors
    /// The first rule that it breaks. What rows share counts once a row against `bytes_max`, since it may be written out for
    /// each.
    pub(crate) fn check(self, rows: usize, dtype: Dtype, bytes_max: usize) -> Result<ArrayRef, Failure> {
        if let Some(validity) = &self.validity {
            check_bitmap("validity", validity, rows)?;
        }
        let validity = self.validity.map(|v| NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(v), 0, rows)));
        let Some(keys) = self.keys else {
            return with_validity(&check_values(self.values, rows, dtype)?, validity);
        };
        if keys.len() != rows {
            return Err(lied(format!("expected {rows} keys, found {}", keys.len())));
        }
        let entries = entries_of(&self.values).ok_or_else(|| lied("values of this type cannot have keys"))?;
        let widths: Option<Vec<usize>> = match &self.values {
            ValuesResult::Utf8(bytes) | ValuesResult::Binary(bytes) => Some(widths(bytes)),
            _ => None,
        };
        let values = check_values(self.values, entries, dtype)?;
        let valid = |row: usize| validity.as_ref().is_none_or(|v| v.is_valid(row));
        let mut bytes = 0usize;
        for (_, key) in keys.iter().enumerate().filter(|(row, _)| valid(*row)) {
            if *key as usize >= entries {
                return Err(lied(format!("key {key} of {entries}")));
            }
            bytes = bytes.saturating_add(widths.as_ref().map_or(0, |widths| widths[*key as usize]));
        }
        if bytes > bytes_max {
            return Err(Failure::Output { limit: bytes_max });
        }
        let keys: UInt32Array = keys.iter().enumerate().map(|(row, &key)| valid(row).then_some(key)).collect();
        if dtype == Dtype::Utf8 && is_distinct(&values) {
            return Ok(Arc::new(DictionaryArray::try_new(keys, values).map_err(|e| lied(e.to_string()))?));
        }
        take(&values, &keys, None).map_err(|e| lied(e.to_string()))
    }
}

/// Bytes of each value; `None` where all take as many.
pub(crate) fn lengths(values: &ArrayRef) -> Option<Vec<usize>> {
    let of_offsets = |offsets: &OffsetBuffer<i32>| offsets.lengths().collect::<Vec<_>>();
    if let Some(dictionary) = values.as_dictionary_opt::<UInt32Type>() {
        let of_value = lengths(dictionary.values())?;
        let of_key = |key: Option<u32>| key.map_or(0, |key| of_value[key as usize]);
        return Some(dictionary.keys().iter().map(of_key).collect());
    }
    match values.data_type() {
        DataType::Utf8 => Some(of_offsets(values.as_string::<i32>().offsets())),
        DataType::Binary => Some(of_offsets(values.as_binary::<i32>().offsets())),
        _ => None,
    }
}

/// Bytes that text or bytes of a column take where each row has its own.
pub(crate) fn written_out(array: &ArrayRef) -> usize {
    lengths(array).map_or(0, |lengths| lengths.into_iter().fold(0, usize::saturating_add))
}

/// Bytes of each entry; what descends is found by the check of offsets.
fn widths(bytes: &BytesColResult) -> Vec<usize> {
    bytes.offsets.windows(2).map(|o| o[1].saturating_sub(o[0]) as usize).collect()
}

pub(crate) fn check_bitmap(what: &str, bitmap: &[u8], rows: usize) -> Result<(), Failure> {
    let expected = rows.div_ceil(8);
    if bitmap.len() == expected {
        Ok(())
    } else {
        Err(lied(format!("expected {expected} bytes of `{what}`, found {}", bitmap.len())))
    }
}

/// A dictionary that a guest made need not hold distinct values; the model's must.
fn is_distinct(values: &ArrayRef) -> bool {
    let Some(texts) = values.as_any().downcast_ref::<StringArray>() else { return false };
    let mut seen = std::collections::HashSet::with_capacity(texts.len());
    texts.iter().all(|t| seen.insert(t))
}

fn entries_of(values: &ValuesResult) -> Option<usize> {
    match values {
        ValuesResult::Utf8(v) | ValuesResult::Binary(v) => Some(v.offsets.len().saturating_sub(1)),
        ValuesResult::S64s(v) => Some(v.len()),
        ValuesResult::F64s(v) => Some(v.len()),
        _ => None,
    }
}

fn check_values(values: ValuesResult, count: usize, dtype: Dtype) -> Result<ArrayRef, Failure> {
    let counted = |found: usize| {
        if found == count { Ok(()) } else { Err(lied(format!("expected {count} values, found {found}"))) }
    };
    match (values, dtype) {
        (ValuesResult::Utf8(bytes), Dtype::Utf8) => {
            let texts = check_texts(&bytes.offsets, &bytes.data, count)?;
            Ok(Arc::new(StringArray::from_iter_values(texts)))
        }
        (ValuesResult::Binary(bytes), Dtype::Binary) => {
            check_offsets(&bytes.offsets, bytes.data.len(), count)?;
            let slices = bytes.offsets.windows(2).map(|o| &bytes.data[o[0] as usize..o[1] as usize]);
            Ok(Arc::new(BinaryArray::from_iter_values(slices)))
        }
        (ValuesResult::S64s(ints), Dtype::Int64) => {
            counted(ints.len())?;
            Ok(Arc::new(Int64Array::from(ints)))
        }
        (ValuesResult::F64s(doubles), Dtype::Float64) => {
            counted(doubles.len())?;
            Ok(Arc::new(Float64Array::from(doubles)))
        }
        (ValuesResult::Bools(bitmap), Dtype::Boolean) => {
            check_bitmap("bools", &bitmap, count)?;
            Ok(Arc::new(BooleanArray::new(BooleanBuffer::new(Buffer::from_vec(bitmap), 0, count), None)))
        }
        _ => Err(lied("the values are not of the type that was promised")),
    }
}

fn with_validity(values: &ArrayRef, validity: Option<NullBuffer>) -> Result<ArrayRef, Failure> {
    match validity {
        None => Ok(values.clone()),
        // Not only marked as null but written anew, so that no value lies hidden under a null.
        Some(valid) => {
            let invalid = BooleanArray::new(!valid.inner(), None);
            nullif(values, &invalid)
                .and_then(|a| take(&a, &UInt32Array::from_iter_values(0..a.len() as u32), None))
                .map_err(|e| lied(e.to_string()))
        }
    }
}
