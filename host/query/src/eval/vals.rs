//! Values of an expression, typed apart: at most one type holds a value in each row.
//!
//! Not here: what operators do with them.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array,
    Int64Array, StringArray, UInt32Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, UInt32Type};
use arrow::error::ArrowError;
use prism_model::Value;

use super::builder::ValsBuilder;

/// Text, plain or by value.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Plain(StringArray),
    Dict(DictionaryArray<UInt32Type>),
}

impl Text {
    /// The two layouts of text that the model knows; `None` for any other array.
    pub(crate) fn from_array(array: &ArrayRef) -> Option<Text> {
        match array.data_type() {
            DataType::Utf8 => Some(Text::Plain(array.as_string::<i32>().clone())),
            DataType::Dictionary(..) => {
                let dictionary = array.as_any().downcast_ref::<DictionaryArray<UInt32Type>>()?;
                dictionary.values().as_any().downcast_ref::<StringArray>()?;
                Some(Text::Dict(dictionary.clone()))
            }
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Text::Plain(a) => a.len(),
            Text::Dict(d) => d.len(),
        }
    }

    pub(crate) fn get(&self, row: usize) -> Option<&str> {
        match self {
            Text::Plain(a) => a.is_valid(row).then(|| a.value(row)),
            Text::Dict(d) => {
                let key = d.keys().is_valid(row).then(|| d.keys().value(row))?;
                let values = d.values().as_string::<i32>();
                (values.is_valid(key as usize)).then(|| values.value(key as usize))
            }
        }
    }

    pub(crate) fn present(&self) -> BooleanBuffer {
        match self {
            Text::Plain(a) => validity(a.nulls(), a.len()),
            Text::Dict(d) if d.values().null_count() == 0 => validity(d.keys().nulls(), d.len()),
            Text::Dict(_) => BooleanBuffer::collect_bool(self.len(), |i| self.get(i).is_some()),
        }
    }

    fn take(&self, rows: &UInt32Array) -> Result<Text, ArrowError> {
        let taken = match self {
            Text::Plain(a) => take(a, rows, None)?,
            Text::Dict(d) => take(d, rows, None)?,
        };
        Text::from_array(&taken).ok_or_else(|| ArrowError::ComputeError("text changed its type".into()))
    }

    /// Whether each row's text fits; rows without text do not. The test is made once a distinct value where the text is
    /// kept by value.
    pub(crate) fn test(&self, mut fits: impl FnMut(&str) -> bool) -> BooleanBuffer {
        match self {
            Text::Plain(a) => match a.nulls() {
                None => BooleanBuffer::collect_bool(a.len(), |i| fits(a.value(i))),
                Some(nulls) => BooleanBuffer::collect_bool(a.len(), |i| nulls.is_valid(i) && fits(a.value(i))),
            },
            Text::Dict(d) => {
                let values = d.values().as_string::<i32>();
                let of_value: Vec<bool> =
                    (0..values.len()).map(|i| values.is_valid(i) && fits(values.value(i))).collect();
                let keys = d.keys();
                if !of_value.contains(&true) {
                    return BooleanBuffer::new_unset(d.len());
                }
                match keys.nulls() {
                    None => BooleanBuffer::collect_bool(d.len(), |i| of_value[keys.value(i) as usize]),
                    Some(nulls) => {
                        BooleanBuffer::collect_bool(d.len(), |i| nulls.is_valid(i) && of_value[keys.value(i) as usize])
                    }
                }
            }
        }
    }

    /// Another text for each; `None` gives a missing value. Called once a distinct value where the text is kept by value.
    pub(crate) fn map(&self, mut to: impl FnMut(&str) -> Option<String>) -> Result<Text, ArrowError> {
        match self {
            Text::Plain(a) => Ok(Text::Plain(a.iter().map(|t| t.and_then(&mut to)).collect())),
            Text::Dict(d) => {
                let values: StringArray = d.values().as_string::<i32>().iter().map(|t| t.and_then(&mut to)).collect();
                Ok(Text::Dict(DictionaryArray::try_new(d.keys().clone(), Arc::new(values))?))
            }
        }
    }

    /// One array of plain text.
    pub(crate) fn to_plain(&self) -> Result<StringArray, ArrowError> {
        match self {
            Text::Plain(a) => Ok(a.clone()),
            Text::Dict(d) => {
                let plain = take(d.values(), d.keys(), None)?;
                Ok(plain.as_string::<i32>().clone())
            }
        }
    }
}

/// The validity of an array as bits.
pub(crate) fn validity(nulls: Option<&NullBuffer>, len: usize) -> BooleanBuffer {
    nulls.map_or_else(|| BooleanBuffer::new_set(len), |n| n.inner().clone())
}

/// One value.
#[derive(Clone, Debug)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Str(String),
    Bytes(Vec<u8>),
    /// A trace or span id.
    Id(Vec<u8>),
    /// An array or map, as [`Value`] text.
    Json(String),
}

impl Scalar {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Scalar::Null)
    }

    /// An attribute value: arrays and maps keep their text form.
    pub(crate) fn from_value(value: &Value) -> Scalar {
        match value {
            Value::Str(s) => Scalar::Str(s.clone()),
            Value::Bool(b) => Scalar::Bool(*b),
            Value::Int(i) => Scalar::Int(*i),
            Value::Double(d) => Scalar::Double(*d),
            Value::Bytes(b) => Scalar::Bytes(b.clone()),
            Value::Null | Value::Array(_) | Value::Map(_) => Scalar::Json(value.to_text()),
        }
    }
}

/// Exact order of an int and a double; `None` for NaN.
pub(crate) fn cmp_int_double(int: i64, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // 2^63 and -2^63 are doubles; outside of them the int cannot reach.
    if double >= 9_223_372_036_854_775_808.0 {
        return Some(Ordering::Less);
    }
    if double < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Greater);
    }
    let whole = double.trunc();
    let by_whole = int.cmp(&(whole as i64));
    if by_whole != Ordering::Equal {
        return Some(by_whole);
    }
    0.0.partial_cmp(&(double - whole))
}

/// Values of `len` rows. In each row at most one of the parts holds a value; none: the value is missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vals {
    pub(crate) len: usize,
    pub(crate) str: Option<Text>,
    pub(crate) int: Option<Int64Array>,
    pub(crate) double: Option<Float64Array>,
    pub(crate) bool: Option<BooleanArray>,
    pub(crate) bytes: Option<BinaryArray>,
    pub(crate) id: Option<FixedSizeBinaryArray>,
    pub(crate) json: Option<Text>,
}

impl Vals {
    /// All missing.
    pub(crate) fn nulls(len: usize) -> Vals {
        Vals { len, ..Vals::default() }
    }

    pub(crate) fn of_text(text: Text) -> Vals {
        Vals { len: text.len(), str: Some(text), ..Vals::default() }
    }

    pub(crate) fn of_strings(texts: StringArray) -> Vals {
        Vals::of_text(Text::Plain(texts))
    }

    pub(crate) fn of_ints(ints: Int64Array) -> Vals {
        Vals { len: ints.len(), int: Some(ints), ..Vals::default() }
    }

    pub(crate) fn of_doubles(doubles: Float64Array) -> Vals {
        Vals { len: doubles.len(), double: Some(doubles), ..Vals::default() }
    }

    pub(crate) fn of_bools(bools: BooleanArray) -> Vals {
        Vals { len: bools.len(), bool: Some(bools), ..Vals::default() }
    }

    pub(crate) fn of_mask(mask: BooleanBuffer) -> Vals {
        Vals::of_bools(BooleanArray::new(mask, None))
    }

    pub(crate) fn of_ids(ids: FixedSizeBinaryArray) -> Vals {
        Vals { len: ids.len(), id: Some(ids), ..Vals::default() }
    }

    /// One value, for one row.
    pub(crate) fn of_scalar(scalar: Scalar) -> Vals {
        let mut builder = ValsBuilder::new();
        builder.push(scalar);
        builder.finish()
    }

    /// Rows whose value is there.
    pub(crate) fn present(&self) -> BooleanBuffer {
        let parts = [
            self.str.as_ref().map(Text::present),
            self.int.as_ref().map(|a| validity(a.nulls(), a.len())),
            self.double.as_ref().map(|a| validity(a.nulls(), a.len())),
            self.bool.as_ref().map(|a| validity(a.nulls(), a.len())),
            self.bytes.as_ref().map(|a| validity(a.nulls(), a.len())),
            self.id.as_ref().map(|a| validity(a.nulls(), a.len())),
            self.json.as_ref().map(Text::present),
        ];
        parts.into_iter().flatten().reduce(|a, b| &a | &b).unwrap_or_else(|| BooleanBuffer::new_unset(self.len))
    }

    /// The values as a condition: true where they are `true`.
    pub(crate) fn truth(&self) -> BooleanBuffer {
        match &self.bool {
            Some(bools) => match bools.nulls() {
                Some(nulls) => bools.values() & nulls.inner(),
                None => bools.values().clone(),
            },
            None => BooleanBuffer::new_unset(self.len),
        }
    }

    /// The value of a row.
    pub(crate) fn get(&self, row: usize) -> Scalar {
        if let Some(a) = self.int.as_ref().filter(|a| a.is_valid(row)) {
            return Scalar::Int(a.value(row));
        }
        if let Some(t) = self.str.as_ref().and_then(|t| t.get(row)) {
            return Scalar::Str(t.to_owned());
        }
        if let Some(a) = self.double.as_ref().filter(|a| a.is_valid(row)) {
            return Scalar::Double(a.value(row));
        }
        if let Some(a) = self.bool.as_ref().filter(|a| a.is_valid(row)) {
            return Scalar::Bool(a.value(row));
        }
        if let Some(a) = self.bytes.as_ref().filter(|a| a.is_valid(row)) {
            return Scalar::Bytes(a.value(row).to_vec());
        }
        if let Some(a) = self.id.as_ref().filter(|a| a.is_valid(row)) {
            return Scalar::Id(a.value(row).to_vec());
        }
        match self.json.as_ref().and_then(|t| t.get(row)) {
            Some(text) => Scalar::Json(text.to_owned()),
            None => Scalar::Null,
        }
    }

    /// The value of a row as a number; doubles of ints beyond 2^53 are rounded.
    pub(crate) fn number(&self, row: usize) -> Option<f64> {
        if let Some(a) = self.int.as_ref().filter(|a| a.is_valid(row)) {
            return Some(a.value(row) as f64);
        }
        self.double.as_ref().filter(|a| a.is_valid(row)).map(|a| a.value(row))
    }

    /// The rows at these numbers.
    pub(crate) fn take(&self, rows: &UInt32Array) -> Result<Vals, ArrowError> {
        fn part<A: Array + Clone + 'static>(array: &Option<A>, rows: &UInt32Array) -> Result<Option<A>, ArrowError> {
            let Some(array) = array else { return Ok(None) };
            Ok(take(array, rows, None)?.as_any().downcast_ref::<A>().cloned())
        }
        Ok(Vals {
            len: rows.len(),
            str: self.str.as_ref().map(|t| t.take(rows)).transpose()?,
            int: part(&self.int, rows)?,
            double: part(&self.double, rows)?,
            bool: part(&self.bool, rows)?,
            bytes: part(&self.bytes, rows)?,
            id: part(&self.id, rows)?,
            json: self.json.as_ref().map(|t| t.take(rows)).transpose()?,
        })
    }

    /// One row as many times.
    pub(crate) fn repeat(&self, len: usize) -> Result<Vals, ArrowError> {
        if self.len == len { Ok(self.clone()) } else { self.take(&UInt32Array::from_value(0, len)) }
    }

    /// Only the rows of the mask keep their value.
    pub(crate) fn keep(&self, mask: &BooleanBuffer) -> Result<Vals, ArrowError> {
        if mask.count_set_bits() == mask.len() {
            return Ok(self.clone());
        }
        let rows: UInt32Array = (0..self.len as u32).map(|i| mask.value(i as usize).then_some(i)).collect();
        self.take(&rows)
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let text = |text: &Option<Text>| match text {
            None => 0,
            Some(Text::Plain(a)) => a.get_array_memory_size(),
            Some(Text::Dict(d)) => d.get_array_memory_size(),
        };
        text(&self.str)
            + text(&self.json)
            + self.int.as_ref().map_or(0, Array::get_array_memory_size)
            + self.double.as_ref().map_or(0, Array::get_array_memory_size)
            + self.bool.as_ref().map_or(0, Array::get_array_memory_size)
            + self.bytes.as_ref().map_or(0, Array::get_array_memory_size)
            + self.id.as_ref().map_or(0, Array::get_array_memory_size)
    }

    /// How many of the parts hold any value.
    pub(crate) fn kinds(&self) -> usize {
        [
            self.str.is_some(),
            self.int.is_some(),
            self.double.is_some(),
            self.bool.is_some(),
            self.bytes.is_some(),
            self.id.is_some(),
            self.json.is_some(),
        ]
        .into_iter()
        .filter(|there| *there)
        .count()
    }

    /// In each row the first value that is there. All are equally long.
    pub(crate) fn coalesce(layers: &[Vals]) -> Result<Vals, ArrowError> {
        let Some((first, rest)) = layers.split_first() else { return Ok(Vals::nulls(0)) };
        let mut merged = first.clone();
        for layer in rest {
            let missing = !&merged.present();
            if missing.count_set_bits() == 0 {
                break;
            }
            merged = Vals::join(&merged, &layer.keep(&missing)?)?;
        }
        Ok(merged)
    }

    /// Two sets of values, of which no row has both.
    pub(crate) fn join(a: &Vals, b: &Vals) -> Result<Vals, ArrowError> {
        if a.kinds() == 0 {
            return Ok(b.clone());
        }
        if b.kinds() == 0 {
            return Ok(a.clone());
        }
        fn text(a: &Option<Text>, b: &Option<Text>) -> Result<Option<Text>, ArrowError> {
            let (Some(a), Some(b)) = (a, b) else { return Ok(a.clone().or_else(|| b.clone())) };
            let joined: StringArray = (0..a.len()).map(|i| a.get(i).or_else(|| b.get(i))).collect();
            Ok(Some(Text::Plain(joined)))
        }
        fn part<A: Array + Clone + 'static>(a: &Option<A>, b: &Option<A>) -> Result<Option<A>, ArrowError> {
            let (Some(a), Some(b)) = (a, b) else { return Ok(a.clone().or_else(|| b.clone())) };
            if a.data_type() != b.data_type() {
                return Err(ArrowError::ComputeError("ids of two lengths in one column".into()));
            }
            let mask = BooleanArray::new(validity(a.nulls(), a.len()), None);
            Ok(arrow::compute::kernels::zip::zip(&mask, a, b)?.as_any().downcast_ref::<A>().cloned())
        }
        // Span ids beside trace ids have no common array: they go on as their text.
        let (a, b) = match (&a.id, &b.id) {
            (Some(x), Some(y)) if x.data_type() != y.data_type() => (a.ids_as_text()?, b.ids_as_text()?),
            _ => (a.clone(), b.clone()),
        };
        Ok(Vals {
            len: a.len,
            str: text(&a.str, &b.str)?,
            int: part(&a.int, &b.int)?,
            double: part(&a.double, &b.double)?,
            bool: part(&a.bool, &b.bool)?,
            bytes: part(&a.bytes, &b.bytes)?,
            id: part(&a.id, &b.id)?,
            json: text(&a.json, &b.json)?,
        })
    }

    /// Ids become lower-case hex text, which is how they are written in queries and answers.
    pub(crate) fn ids_as_text(&self) -> Result<Vals, ArrowError> {
        let Some(ids) = &self.id else { return Ok(self.clone()) };
        let texts: StringArray = ids.iter().map(|id| id.map(hex::encode)).collect();
        let rest = Vals { id: None, ..self.clone() };
        Vals::join(&rest, &Vals::of_strings(texts))
    }
}
