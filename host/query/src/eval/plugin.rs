//! Functions of plugins: values become their arguments, what comes back becomes values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Float64Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;
use prism_dsl::Pos;
use prism_plugin::{Argument, Constant, PluginError, Signature, ValueType};

use super::node::{Level, Node};
use super::vals::{Scalar, Text, Vals};
use super::{At, Rows, lift_vals, vals};
use crate::error::QueryError;
use crate::plugins::Called;

/// The values of a call, at the lowest level that has them all.
pub(super) fn call(called: &Called, nodes: &[Node], rows: &dyn Rows) -> Result<At<Vals>, ArrowError> {
    let signature = called.function.signature();
    let all: Vec<At<Vals>> = nodes.iter().map(|n| vals(n, rows)).collect::<Result<_, _>>()?;
    let mut level = all.iter().fold(Level::One, |level, v| level.common(v.level));
    if !signature.deterministic {
        // Each row has a value of its own.
        level = level.common(Level::Row);
    }
    let args = all.into_iter().enumerate().map(|(position, of)| argument(signature, position, of, level, rows));
    let args = args.collect::<Result<Vec<_>, _>>()?;
    let found = called.caller.eval(&called.function, rows.len(level), &args);
    let found = found.map_err(|error| failed(error, called.pos))?;
    Ok(At { level, of: of_array(&found)? })
}

/// The error of a plugin's call on its way through what evaluates expressions.
pub(crate) fn failed(error: PluginError, call: Pos) -> ArrowError {
    ArrowError::ExternalError(match error {
        // Why the query has no memory is its own to say.
        PluginError::NoMemory(why) => why,
        error => Box::new(QueryError::of_plugin(error, call)),
    })
}

fn argument(
    signature: &Signature,
    position: usize,
    of: At<Vals>,
    level: Level,
    rows: &dyn Rows,
) -> Result<Argument, ArrowError> {
    let ty = type_of(signature, position)?;
    if of.level == Level::One {
        return Ok(Argument::Constant(constant(&of.of.get(0), ty)));
    }
    Ok(Argument::Column(column(&lift_vals(of, level, rows)?, ty)?))
}

/// The type of an argument, whose number the binder has checked.
pub(crate) fn type_of(signature: &Signature, position: usize) -> Result<ValueType, ArrowError> {
    signature.arg(position).ok_or_else(|| ArrowError::ComputeError("an argument too many".into()))
}

/// A value as a constant of a type; of another type it is missing, as in a row.
pub(crate) fn constant(scalar: &Scalar, ty: ValueType) -> Constant {
    let constant = match (scalar, ty) {
        (Scalar::Bool(b), _) => Constant::Bool(*b),
        (Scalar::Int(i), _) => Constant::Int(*i),
        (Scalar::Double(d), _) => Constant::Float(*d),
        (Scalar::Str(text), _) => Constant::Text(text.clone()),
        (Scalar::Id(id), ValueType::Utf8) => Constant::Text(hex::encode(id)),
        (Scalar::Bytes(bytes) | Scalar::Id(bytes), _) => Constant::Bytes(bytes.clone()),
        (Scalar::Null | Scalar::Json(_), _) => Constant::Null,
    };
    if constant.is_of(ty) { constant } else { Constant::Null }
}

/// Values as a column of a type: text by value where it is kept so.
pub(crate) fn column(vals: &Vals, ty: ValueType) -> Result<ArrayRef, ArrowError> {
    let missing = || new_null_array(&ty.data_type(), vals.len);
    Ok(match ty {
        ValueType::Boolean => vals.bool.as_ref().map_or_else(missing, |a| Arc::new(a.clone())),
        ValueType::Int64 => vals.int.as_ref().map_or_else(missing, |a| Arc::new(a.clone())),
        ValueType::Float64 => match (&vals.int, &vals.double) {
            (None, None) => missing(),
            (None, Some(doubles)) => Arc::new(doubles.clone()),
            (Some(ints), None) => cast(ints, &DataType::Float64)?,
            (Some(_), Some(_)) => Arc::new((0..vals.len).map(|row| vals.number(row)).collect::<Float64Array>()),
        },
        ValueType::Utf8 => match &vals.ids_as_text()?.str {
            Some(Text::Plain(texts)) => Arc::new(texts.clone()),
            Some(Text::Dict(texts)) => Arc::new(texts.clone()),
            None => missing(),
        },
        ValueType::Binary => match (&vals.bytes, &vals.id) {
            (Some(bytes), None) => Arc::new(bytes.clone()),
            (None, Some(ids)) => Arc::new(ids.iter().collect::<BinaryArray>()),
            (None, None) => missing(),
            (Some(bytes), Some(ids)) => {
                let mut both = BinaryBuilder::new();
                bytes.iter().zip(ids.iter()).for_each(|(bytes, id)| both.append_option(bytes.or(id)));
                Arc::new(both.finish())
            }
        },
    })
}

/// What a guest returned, as values.
pub(crate) fn of_array(array: &ArrayRef) -> Result<Vals, ArrowError> {
    if let Some(text) = Text::from_array(array) {
        return Ok(Vals::of_text(text));
    }
    let len = array.len();
    Ok(match array.data_type() {
        DataType::Boolean => Vals::of_bools(array.as_boolean().clone()),
        DataType::Int64 => Vals::of_ints(array.as_primitive::<Int64Type>().clone()),
        DataType::Float64 => Vals::of_doubles(array.as_primitive::<Float64Type>().clone()),
        DataType::Binary => Vals { len, bytes: Some(array.as_binary::<i32>().clone()), ..Vals::default() },
        other => return Err(ArrowError::ComputeError(format!("a plugin's result of {other}"))),
    })
}
