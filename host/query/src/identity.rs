//! Which series a point belongs to: a number made of everything that OpenTelemetry tells series apart by, wherever a tier
//! keeps it.
//!
//! Attributes are added up, so that their order and their place (a column, the tail) do not matter. A description, a schema
//! URL and flags do not tell series apart.

use arrow::array::{AsArray, FixedSizeBinaryArray};
use arrow::buffer::Buffer;
use arrow::datatypes::UInt8Type;
use arrow::error::ArrowError;
use prism_model::{ColumnId, Intrinsic, TableKind, Value};
use xxhash_rust::xxh3::Xxh3;

use crate::encode;
use crate::eval::vals::{Scalar, Text, Vals};
use crate::field::{Columns, Loaded, typed};
use crate::names::Fixed;

/// The tables that series are told apart by.
pub(crate) const TABLES: [TableKind; 4] =
    [TableKind::Items, TableKind::Resources, TableKind::Scopes, TableKind::Descriptors];
/// Bytes of an identity.
const WIDTH: usize = 16;

/// The fixed columns of a table that tell series apart.
fn fixed(table: TableKind) -> &'static [Intrinsic] {
    match table {
        TableKind::Scopes => &[Intrinsic::Name, Intrinsic::Version],
        TableKind::Descriptors => {
            &[Intrinsic::Name, Intrinsic::Unit, Intrinsic::Type, Intrinsic::Temporality, Intrinsic::Monotonic]
        }
        _ => &[],
    }
}

/// What is in the tail has a row of its own.
const TAIL: [Intrinsic; 4] = [Intrinsic::Of, Intrinsic::Parent, Intrinsic::Key, Intrinsic::Value];

/// Whether attributes of a table are part of the identity; those of a metric itself only say more about it.
fn with_attributes(table: TableKind) -> bool {
    table != TableKind::Descriptors
}

/// The columns to read.
pub(crate) fn wanted(table: TableKind, columns: &dyn Columns, want: &mut impl FnMut(TableKind, ColumnId)) {
    fixed(table).iter().for_each(|i| want(table, (*i).into()));
    if with_attributes(table) {
        columns.attributes(table).into_iter().for_each(|id| want(table, id));
        TAIL.iter().for_each(|i| want(TableKind::Tail, (*i).into()));
    }
}

/// The part of a table, for each of its rows, as an id.
pub(crate) fn read(table: TableKind, columns: &dyn Columns, from: &dyn Loaded) -> Result<Vals, ArrowError> {
    let mut sums = vec![0u128; from.rows(table)];
    for i in fixed(table) {
        if let Some(vals) = crate::fixed::read(table, Fixed::Plain(*i), from)? {
            add(&mut sums, table, i.name(), &vals);
        }
    }
    if with_attributes(table) {
        for id in columns.attributes(table) {
            let ColumnId::Attr { key, ty } = &id else { continue };
            if let Some(vals) = from.column(table, &id).and_then(|array| typed(&array, *ty)) {
                add(&mut sums, table, key, &vals);
            }
        }
        add_tail(&mut sums, table, from);
    }
    Ok(ids(&sums))
}

/// The identity of each row, of its parts of all tables.
pub(crate) fn joined(parts: &[Vals], len: usize) -> Vals {
    let mut sums = vec![0u128; len];
    for ids in parts.iter().filter_map(|part| part.id.as_ref()) {
        for (sum, id) in sums.iter_mut().zip(ids.iter()) {
            let part = id.and_then(|id| id.first_chunk::<WIDTH>()).map_or(0, |id| u128::from_le_bytes(*id));
            *sum = sum.wrapping_add(part);
        }
    }
    ids(&sums)
}

fn ids(sums: &[u128]) -> Vals {
    let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    let ids = FixedSizeBinaryArray::try_new(WIDTH as i32, Buffer::from_vec(bytes), None);
    // So many bytes for each row is what the array checks.
    ids.map_or_else(|_| Vals::nulls(sums.len()), Vals::of_ids)
}

/// One value of one key. A text that is empty is as good as none: clients send either.
fn number(table: TableKind, key: &str, value: &Scalar, bytes: &mut Vec<u8>) -> u128 {
    if matches!(value, Scalar::Null) || matches!(value, Scalar::Str(text) if text.is_empty()) {
        return 0;
    }
    bytes.clear();
    encode::encode(value, bytes);
    let mut hash = Xxh3::new();
    hash.update(&[table as u8]);
    hash.update(&(key.len() as u64).to_le_bytes());
    hash.update(key.as_bytes());
    hash.update(bytes);
    hash.digest128()
}

fn add(sums: &mut [u128], table: TableKind, key: &str, vals: &Vals) {
    let mut bytes = Vec::new();
    if let (1, Some(Text::Dict(dictionary))) = (vals.kinds(), &vals.str) {
        let values = dictionary.values().as_string::<i32>();
        let of = |text: Option<&str>| text.map_or(Scalar::Null, |text| Scalar::Str(text.to_owned()));
        let numbers: Vec<u128> = values.iter().map(|text| number(table, key, &of(text), &mut bytes)).collect();
        for (sum, code) in sums.iter_mut().zip(dictionary.keys()) {
            let number = code.and_then(|code| numbers.get(code as usize)).copied().unwrap_or(0);
            *sum = sum.wrapping_add(number);
        }
        return;
    }
    for (row, sum) in sums.iter_mut().enumerate().take(vals.len) {
        *sum = sum.wrapping_add(number(table, key, &vals.get(row), &mut bytes));
    }
}

fn add_tail(sums: &mut [u128], table: TableKind, from: &dyn Loaded) {
    let tail = |i: Intrinsic| from.column(TableKind::Tail, &i.into());
    let [Some(of), Some(parents), Some(keys), Some(values)] = TAIL.map(tail) else { return };
    let (Some(of), Some(parents)) =
        (of.as_primitive_opt::<UInt8Type>(), parents.as_primitive_opt::<arrow::datatypes::UInt32Type>())
    else {
        return;
    };
    let (Some(keys), Some(values)) = (Text::from_array(&keys), Text::from_array(&values)) else { return };
    let mut bytes = Vec::new();
    for row in (0..of.len()).filter(|row| of.value(*row) == table as u8) {
        let value = values.get(row).and_then(|text| Value::from_text(text).ok());
        let (Some(sum), Some(key), Some(value)) = (sums.get_mut(parents.value(row) as usize), keys.get(row), value)
        else {
            continue;
        };
        *sum = sum.wrapping_add(number(table, key, &Scalar::from_value(&value), &mut bytes));
    }
}
