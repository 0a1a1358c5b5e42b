//! Arguments of functions: constants and Arrow columns, cut into calls and lowered without a copy.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, UInt32Type};

use crate::bindings::functions;
use crate::error::PluginError;
use crate::rows::plain_column;
use crate::signature::{Signature, ValueType};
use crate::view::ViewColumn;

/// A value that a query fixes.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// A missing value.
    Null,
    /// True or false.
    Bool(bool),
    /// An int; durations and times in nanoseconds.
    Int(i64),
    /// A double.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Constant {
    /// Whether an argument of the type may be this constant.
    pub fn is_of(&self, ty: ValueType) -> bool {
        matches!(
            (self, ty),
            (Constant::Null, _)
                | (Constant::Bool(_), ValueType::Boolean)
                | (Constant::Int(_), ValueType::Int64 | ValueType::Float64)
                | (Constant::Float(_), ValueType::Float64)
                | (Constant::Text(_), ValueType::Utf8)
                | (Constant::Bytes(_), ValueType::Binary)
        )
    }

    /// As the guest gets it: ints opposite float64 are doubles.
    pub(crate) fn lower(&self, ty: ValueType) -> functions::Constant<'_> {
        match self {
            Constant::Null => functions::Constant::Null,
            Constant::Bool(b) => functions::Constant::Boolean(*b),
            Constant::Int(i) if ty == ValueType::Float64 => functions::Constant::Float(*i as f64),
            Constant::Int(i) => functions::Constant::Int(*i),
            Constant::Float(d) => functions::Constant::Float(*d),
            Constant::Text(text) => functions::Constant::Text(text),
            Constant::Bytes(bytes) => functions::Constant::Bytes(bytes),
        }
    }
}

/// An argument of a call.
#[derive(Clone, Debug)]
pub enum Argument {
    /// The same for all rows.
    Constant(Constant),
    /// A value for each row, of [`ValueType::data_type`] or, of text, a dictionary with `UInt32` keys.
    Column(ArrayRef),
}

impl Argument {
    pub(crate) fn column(&self) -> Option<&ArrayRef> {
        match self {
            Argument::Column(array) => Some(array),
            Argument::Constant(_) => None,
        }
    }

    pub(crate) fn map(&self, of: impl Fn(&ArrayRef) -> Result<ArrayRef, PluginError>) -> Result<Argument, PluginError> {
        Ok(match self {
            Argument::Column(array) => Argument::Column(of(array)?),
            constant => constant.clone(),
        })
    }

    /// The argument of some rows.
    pub(crate) fn take(&self, rows: &UInt32Array) -> Result<Argument, PluginError> {
        self.map(|array| take(array, rows, None).map_err(|e| PluginError::Host(e.to_string())))
    }

    /// The argument of rows that follow each other. A dictionary that is longer than they are is written out.
    pub(crate) fn slice(&self, from: usize, len: usize) -> Result<Argument, PluginError> {
        self.map(|array| {
            let part = array.slice(from, len);
            match part.as_dictionary_opt::<UInt32Type>() {
                Some(dictionary) if dictionary.values().len() > len => {
                    cast(&part, &DataType::Utf8).map_err(|e| PluginError::Host(e.to_string()))
                }
                _ => Ok(part),
            }
        })
    }
}

/// Checks that the arguments are what a signature asks for: whoever calls has settled that before.
pub(crate) fn check(signature: &Signature, rows: usize, args: &[Argument]) -> Result<(), PluginError> {
    let (least, most) = signature.arity();
    let fits = |(position, arg): (usize, &Argument)| {
        signature.arg(position).is_some_and(|ty| match arg {
            Argument::Constant(constant) => constant.is_of(ty),
            Argument::Column(array) => {
                let text = ty == ValueType::Utf8 && array.as_dictionary_opt::<UInt32Type>().is_some();
                array.len() == rows && (text || *array.data_type() == ty.data_type())
            }
        })
    };
    if (least..=most).contains(&args.len()) && args.iter().enumerate().all(fits) {
        return Ok(());
    }
    Err(PluginError::Host(format!("a call of `{}` with other arguments than `{signature}`", signature.name)))
}

/// Rows in which no argument is missing; `None` where that is all of them.
pub(crate) fn present(args: &[Argument], rows: usize) -> Option<BooleanBuffer> {
    if args.iter().any(|arg| matches!(arg, Argument::Constant(Constant::Null))) {
        return Some(BooleanBuffer::new_unset(rows));
    }
    let nulls = args.iter().filter_map(Argument::column).filter_map(|array| array.logical_nulls());
    let all = nulls.reduce(|a, b| NullBuffer::new(a.inner() & b.inner()))?;
    (all.null_count() > 0).then(|| all.inner().clone())
}

/// The numbers of the rows whose bit is set.
pub(crate) fn rows_of(mask: &BooleanBuffer) -> UInt32Array {
    UInt32Array::from_iter_values(mask.set_indices().map(|row| row as u32))
}

/// Where calls begin and how many rows each has, so that each brings at most so many rows and bytes.
pub(crate) fn calls(args: &[Argument], rows: usize, rows_max: usize, bytes_max: usize) -> Vec<(usize, usize)> {
    let of_column =
        |array: &ArrayRef| array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_buffer_memory_size());
    let bytes: usize = args.iter().filter_map(Argument::column).map(of_column).sum();
    let parts = rows.div_ceil(rows_max.max(1)).max(bytes / bytes_max.max(1)).clamp(1, rows.max(1));
    let each = rows.div_ceil(parts).max(1);
    (0..rows).step_by(each).map(|from| (from, each.min(rows - from))).collect()
}

/// Arguments with their Arrow buffers at hand, to be borrowed by a call.
pub(crate) struct Lowered<'a> {
    columns: Vec<Option<ViewColumn>>,
    args: &'a [Argument],
    signature: &'a Signature,
}

impl<'a> Lowered<'a> {
    pub(crate) fn of(signature: &'a Signature, args: &'a [Argument]) -> Lowered<'a> {
        let columns = args.iter().map(|arg| arg.column().map(|array| plain_column(0, array))).collect();
        Lowered { columns, args, signature }
    }

    pub(crate) fn args(&self) -> Vec<functions::Arg<'_>> {
        let mut lowered = Vec::with_capacity(self.args.len());
        for (position, (arg, column)) in self.args.iter().zip(&self.columns).enumerate() {
            let ty = self.signature.arg(position).unwrap_or(ValueType::Utf8);
            lowered.push(match (arg, column) {
                (Argument::Constant(constant), _) => functions::Arg::Constant(constant.lower(ty)),
                (Argument::Column(_), Some(column)) => functions::Arg::Series(functions::SeriesParam {
                    validity: column.validity.as_deref(),
                    keys: column.keys.as_deref(),
                    values: column.values.lower(),
                }),
                (Argument::Column(_), None) => functions::Arg::Constant(functions::Constant::Null),
            });
        }
        lowered
    }
}
