//! A `KeyValue` of the wire to its place: the column of its key and type, or the tail.

use prism_model::{AttrType, TableKind};

use super::any_value::{self, Wire};
use super::report::Warning;
use super::{Context, Stop};
use crate::columns::attributes::{Attributes, Place};
use crate::wire::{Fault, WireError, utf8};

/// Adds one attribute of a row.
#[inline(always)]
pub(crate) fn push(
    columns: &mut Attributes,
    of: TableKind,
    row: u32,
    message: &[u8],
    context: &mut Context,
) -> Result<(), Stop> {
    match any_value::plain_entry(message) {
        Some((key, value)) => push_value(columns, of, row, key, &any_value::parse(value, context.depth_max)?, context),
        None => push_entry(columns, of, row, message, context),
    }
}

#[inline(never)]
fn push_entry(
    columns: &mut Attributes,
    of: TableKind,
    row: u32,
    message: &[u8],
    context: &mut Context,
) -> Result<(), Stop> {
    let entry = any_value::entry(message)?;
    if entry.key_index {
        context.report.warn(Warning::StringTable);
    }
    let value = match &entry.value {
        Some(value) => any_value::parse(value, context.depth_max)?,
        None => Wire::Null,
    };
    push_value(columns, of, row, entry.key, &value, context)
}

#[inline(always)]
fn push_value(
    columns: &mut Attributes,
    of: TableKind,
    row: u32,
    key: &[u8],
    value: &Wire<'_>,
    context: &mut Context,
) -> Result<(), Stop> {
    let ty = match value {
        Wire::Str(_) => AttrType::Str,
        Wire::Int(_) => AttrType::Int,
        Wire::Double(_) => AttrType::Double,
        Wire::Bool(_) => AttrType::Bool,
        Wire::Bytes(_) => AttrType::Bytes,
        Wire::Null | Wire::StringIndex | Wire::Array(_) | Wire::Map(_) => AttrType::Json,
    };
    let Some(place) = columns.place(row, key, ty) else { return Err(WireError::at(Fault::Utf8, key).into()) };
    match (place, value) {
        (Place::Column(column), Wire::Str(text)) => columns.push_text(column, row, text),
        (Place::Column(column), Wire::Int(value)) => columns.push_int(column, row, *value),
        (Place::Column(column), Wire::Double(value)) => columns.push_double(column, row, *value),
        (Place::Column(column), Wire::Bool(value)) => columns.push_bool(column, row, *value),
        (Place::Column(column), Wire::Bytes(value)) => columns.push_bytes(column, row, value),
        (place, value) => return push_as_text(columns, place, of, row, key, value, context),
    }
    Ok(())
}

#[inline(never)]
fn push_as_text(
    columns: &mut Attributes,
    place: Place,
    of: TableKind,
    row: u32,
    key: &[u8],
    value: &Wire<'_>,
    context: &mut Context,
) -> Result<(), Stop> {
    let depth = context.depth_max;
    let mut references = 0;
    match place {
        Place::Column(column) => {
            context.scratch.clear();
            references = any_value::write_text(value, depth, &mut context.scratch)?;
            columns.push_json(column, row, &context.scratch);
        }
        Place::Tail => context.tail.push(of, row, utf8(key)?, |out| {
            references = any_value::write_text(value, depth, out)?;
            Ok::<(), WireError>(())
        })?,
    }
    for _ in 0..references {
        context.report.warn(Warning::StringTable);
    }
    Ok(())
}
