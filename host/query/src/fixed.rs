//! Fixed fields: their types, and how the columns that they are made of become values.
//!
//! Not here: which names are fixed fields, and of which columns they are (`names`).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Int64Array, StringArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, UInt32Type};
use arrow::error::ArrowError;
use prism_model::{AttrType, Intrinsic, TableKind, Value};

use crate::eval::vals::{Text, Vals};
use crate::field::{Loaded, typed};
use crate::names::{Fixed, enum_name};

/// The type of lists of ints, as users see it.
pub(crate) const INTS: &str = "int[]";
/// The type of lists of doubles, as users see it.
pub(crate) const DOUBLES: &str = "double[]";

/// The types that its values have.
pub(crate) fn types_of(fixed: Fixed) -> Vec<AttrType> {
    match fixed {
        Fixed::Body => AttrType::ALL.to_vec(),
        Fixed::Value => vec![AttrType::Int, AttrType::Double],
        Fixed::Kind | Fixed::Status | Fixed::MetricType | Fixed::Temporality => vec![AttrType::Str],
        Fixed::Time | Fixed::Severity | Fixed::Duration | Fixed::ObservedTime | Fixed::StartTime => {
            vec![AttrType::Int]
        }
        Fixed::Json(_) | Fixed::List(_) => vec![AttrType::Json],
        Fixed::Plain(i) => vec![match i.data_type() {
            DataType::Utf8 | DataType::FixedSizeBinary(_) => AttrType::Str,
            DataType::Boolean => AttrType::Bool,
            DataType::Float64 => AttrType::Double,
            DataType::Binary => AttrType::Bytes,
            _ => AttrType::Int,
        }],
    }
}

/// The types of a fixed field as users see them.
pub(crate) fn shown_types(fixed: Fixed) -> Vec<&'static str> {
    match fixed {
        Fixed::Time | Fixed::ObservedTime | Fixed::StartTime | Fixed::Plain(Intrinsic::Time) => vec!["time"],
        Fixed::List(i) if i.data_type() == prism_model::column::list_of(DataType::Int64) => vec![INTS],
        Fixed::List(_) => vec![DOUBLES],
        Fixed::Duration => vec!["duration"],
        Fixed::Plain(Intrinsic::TraceId | Intrinsic::SpanId | Intrinsic::ParentId) => vec!["id"],
        other => types_of(other).into_iter().map(AttrType::as_str).collect(),
    }
}

/// A fixed field; `None` where every row lacks it. A column that is not there holds its default, given once.
pub(crate) fn read(table: TableKind, fixed: Fixed, from: &dyn Loaded) -> Result<Option<Vals>, ArrowError> {
    let column = |i: Intrinsic| from.column(table, &i.into());
    let plain =
        |i: Intrinsic| column(i).unwrap_or_else(|| prism_model::reshape::default_array(&i.into(), from.rows(table)));
    match fixed {
        Fixed::Plain(i) => {
            let array = plain(i);
            Ok(Some(match array.data_type() {
                DataType::FixedSizeBinary(_) => Vals::of_ids(array.as_fixed_size_binary().clone()),
                DataType::Boolean => Vals::of_bools(array.as_boolean().clone()),
                DataType::Float64 => Vals::of_doubles(array.as_primitive().clone()),
                DataType::Int64 => Vals::of_ints(array.as_primitive().clone()),
                DataType::Utf8 | DataType::Dictionary(..) => match Text::from_array(&array) {
                    Some(text) => Vals::of_text(text),
                    None => return Ok(None),
                },
                _ => Vals::of_ints(to_ints(&array)?),
            }))
        }
        Fixed::Json(i) => {
            let text = column(i).as_ref().and_then(Text::from_array);
            Ok(text.map(|t| Vals { len: t.len(), json: Some(t), ..Vals::default() }))
        }
        Fixed::Time => event_time(&plain(Intrinsic::Time), column(Intrinsic::ObservedTime)).map(Some),
        Fixed::Kind | Fixed::Status | Fixed::MetricType | Fixed::Temporality => {
            let Some((names, number)) = fixed.number_names().zip(fixed.columns().first()) else { return Ok(None) };
            Ok(Some(named(&plain(*number), names)?))
        }
        Fixed::Severity | Fixed::ObservedTime | Fixed::StartTime => {
            let number = fixed.columns().first().and_then(|i| column(*i));
            Ok(number.map(|a| without_zero(&to_ints(&a)?)).transpose()?)
        }
        Fixed::List(i) => {
            Ok(column(i).as_ref().and_then(lists).map(|t| Vals { len: t.len(), json: Some(t), ..Vals::default() }))
        }
        Fixed::Duration => duration(&plain(Intrinsic::Duration), column(Intrinsic::Running), column(Intrinsic::Time)),
        Fixed::Body => siblings(&Intrinsic::BODY, &column),
        Fixed::Value => {
            siblings(&[(Intrinsic::ValueInt, AttrType::Int), (Intrinsic::ValueDouble, AttrType::Double)], &column)
        }
    }
}

/// Typed columns of one logical field.
fn siblings(
    parts: &[(Intrinsic, AttrType)],
    column: &dyn Fn(Intrinsic) -> Option<ArrayRef>,
) -> Result<Option<Vals>, ArrowError> {
    let layers: Vec<Vals> = parts.iter().filter_map(|(i, ty)| column(*i).and_then(|a| typed(&a, *ty))).collect();
    if layers.is_empty() { Ok(None) } else { Ok(Some(Vals::coalesce(&layers)?)) }
}

/// Lists of numbers in the text form of arrays, by which `contains`, `length` and `[0]` know them.
fn lists(array: &ArrayRef) -> Option<Text> {
    let lists = array.as_list_opt::<i32>()?;
    let values = lists.values();
    let (ints, doubles) = (values.as_primitive_opt::<Int64Type>(), values.as_primitive_opt::<Float64Type>());
    let item = |i: usize| match (ints, doubles) {
        (Some(ints), _) => Value::Int(ints.value(i)),
        (_, Some(doubles)) => Value::Double(doubles.value(i)),
        _ => Value::Null,
    };
    let text = |row: usize| {
        let range = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
        lists.is_valid(row).then(|| Value::Array(range.map(item).collect()).to_text())
    };
    Some(Text::Plain((0..lists.len()).map(text).collect()))
}

fn without_zero(ints: &Int64Array) -> Result<Vals, ArrowError> {
    Ok(Vals::of_ints(ints.iter().map(|v| v.filter(|v| *v != 0)).collect()))
}

/// The time by which rows are placed: what `Batch::event_times` gives.
fn event_time(times: &ArrayRef, observed: Option<ArrayRef>) -> Result<Vals, ArrowError> {
    let times = to_ints(times)?;
    let Some(observed) = observed.map(|a| to_ints(&a)).transpose()? else { return Ok(Vals::of_ints(times)) };
    let pairs = times.values().iter().zip(observed.values());
    Ok(Vals::of_ints(Int64Array::from_iter_values(pairs.map(|(t, o)| if *t == 0 { *o } else { *t }))))
}

/// Missing for a running span and for one without end (end 0), whose difference means nothing.
fn duration(
    durations: &ArrayRef,
    running: Option<ArrayRef>,
    times: Option<ArrayRef>,
) -> Result<Option<Vals>, ArrowError> {
    let durations = durations.as_primitive::<Int64Type>();
    let running: Option<BooleanArray> = running.map(|a| a.as_boolean().clone());
    if running.is_none() && durations.values().iter().all(|d| *d >= 0) {
        return Ok(Some(Vals::of_ints(durations.clone())));
    }
    let times = times.map(|a| to_ints(&a)).transpose()?;
    let no_end = |row: usize| times.as_ref().is_some_and(|t| t.value(row).wrapping_add(durations.value(row)) == 0);
    let runs = |row: usize| running.as_ref().is_some_and(|r| r.is_valid(row) && r.value(row));
    let known = (0..durations.len()).map(|row| {
        let duration = durations.value(row);
        let open = runs(row) || (duration < 0 && no_end(row));
        (!open && durations.is_valid(row)).then_some(duration)
    });
    Ok(Some(Vals::of_ints(known.collect())))
}

/// Numbers as their names, by value.
fn named(numbers: &ArrayRef, names: &[&str]) -> Result<Vals, ArrowError> {
    let numbers = numbers.as_primitive::<Int32Type>();
    let mut values: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    // A missing number is 0 beneath.
    if numbers.values().iter().all(|n| (*n as u32 as usize) < names.len()) {
        let keys: Vec<u32> = numbers.values().iter().map(|n| *n as u32).collect();
        let keys = UInt32Array::new(keys.into(), numbers.nulls().cloned());
        let dictionary = DictionaryArray::<UInt32Type>::try_new(keys, Arc::new(StringArray::from(values)))?;
        return Ok(Vals::of_text(Text::Dict(dictionary)));
    }
    let mut odd: HashMap<i32, u32> = HashMap::new();
    let keys: UInt32Array = numbers
        .iter()
        .map(|n| {
            let n = n?;
            match u32::try_from(n) {
                Ok(known) if (known as usize) < names.len() => Some(known),
                _ => Some(*odd.entry(n).or_insert_with(|| {
                    values.push(enum_name(names, n));
                    values.len() as u32 - 1
                })),
            }
        })
        .collect();
    let dictionary = DictionaryArray::<UInt32Type>::try_new(keys, Arc::new(StringArray::from(values)))?;
    Ok(Vals::of_text(Text::Dict(dictionary)))
}

fn to_ints(array: &ArrayRef) -> Result<Int64Array, ArrowError> {
    Ok(cast(array, &DataType::Int64)?.as_primitive().clone())
}
