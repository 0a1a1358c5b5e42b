//! The golden calls of the upload gate: every function once on a few rows, with and without constants, with and without
//! dictionaries, on missing values and on no rows; an aggregate with states that are merged.
//!
//! A function may answer that it takes no such values; what it must not do is trap, loop or break the contract.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::UInt32Type;
use prism_model::TenantId;

use crate::accumulator::{Accumulator, Session};
use crate::argument::{Argument, Constant};
use crate::call::Caller;
use crate::error::{Failure, PluginError};
use crate::functions::{Callable, Function, Functions};
use crate::gate::stage_of_example;
use crate::host::{Plugin, PluginHost};
use crate::signature::{Signature, ValueType};

/// Calls every function of a plugin.
///
/// # Errors
/// [`PluginError::Refused`], with what a function did.
pub(crate) fn run(host: &Arc<PluginHost>, plugin: &Arc<Plugin>) -> Result<(), PluginError> {
    let stage = stage_of_example(host, plugin)?;
    let callable = Callable { host: host.clone(), binding: "upload".into(), plugin: plugin.clone(), stage };
    let callable = Arc::new(callable);
    let tenant: TenantId = "upload".parse().map_err(|_| PluginError::Host("no name for a trial".into()))?;
    let caller = Caller::new(&Functions::new(host.clone(), tenant, &[]), None);
    for number in 0..plugin.signatures.len() as u32 {
        let function = Function { callable: callable.clone(), number };
        for args in arguments(function.signature()) {
            let called = if function.aggregates() {
                aggregate(&caller, &function, &args)
            } else {
                caller.eval(&function, ROWS, &args).map(|_| ())
            };
            match called {
                Ok(()) | Err(PluginError::Call { failure: Failure::Answered { .. }, .. }) => {}
                Err(PluginError::Call { failure, function, .. }) => {
                    let what = format!("with its `config-example`, on the golden call of `{function}`: {failure}");
                    return Err(PluginError::Refused(what));
                }
                Err(other) => return Err(other),
            }
        }
    }
    Ok(())
}

const ROWS: usize = 3;

fn aggregate(caller: &Arc<Caller>, function: &Function, args: &[Argument]) -> Result<(), PluginError> {
    let constants: Vec<Constant> = args
        .iter()
        .map(|arg| match arg {
            Argument::Constant(constant) => constant.clone(),
            Argument::Column(_) => Constant::Null,
        })
        .collect();
    let session = Session::new(caller, function);
    let fresh = || Accumulator::new(session.clone(), function.clone(), constants.clone());
    let mut part = fresh();
    part.update(Some(&[0, 2, 0]), 3, None, ROWS, args)?;
    let states = part.states(3)?;
    let mut whole = fresh();
    whole.merge(Some(&[1, 0, 1]), 2, &states)?;
    whole.finish(2)?;
    // A group without rows, as a query over none has.
    fresh().finish(1).map(|_| ())
}

/// Columns; columns with missing values; text by value; a column and constants.
fn arguments(signature: &Signature) -> Vec<Vec<Argument>> {
    let of = |arg: &dyn Fn(usize, ValueType) -> Argument| {
        signature.args.iter().enumerate().map(|(position, ty)| arg(position, *ty)).collect::<Vec<_>>()
    };
    vec![
        of(&|_, ty| Argument::Column(column(ty, false))),
        of(&|_, ty| Argument::Column(column(ty, true))),
        of(&|_, ty| match ty {
            ValueType::Utf8 => Argument::Column(Arc::new(
                [Some("/cart/42"), Some(""), Some("/cart/42")].into_iter().collect::<DictionaryArray<UInt32Type>>(),
            )),
            other => Argument::Column(column(other, false)),
        }),
        of(&|position, ty| match position {
            0 => Argument::Column(column(ty, false)),
            _ => Argument::Constant(constant(ty)),
        }),
    ]
}

fn column(ty: ValueType, missing: bool) -> ArrayRef {
    let there = |row: usize| !(missing && row == 1);
    match ty {
        ValueType::Boolean => Arc::new((0..ROWS).map(|row| there(row).then_some(row == 0)).collect::<BooleanArray>()),
        ValueType::Int64 => {
            Arc::new((0..ROWS).map(|row| there(row).then_some([7, i64::MIN, -1][row])).collect::<Int64Array>())
        }
        ValueType::Float64 => {
            let values = [0.5, f64::NAN, f64::INFINITY];
            Arc::new((0..ROWS).map(|row| there(row).then_some(values[row])).collect::<Float64Array>())
        }
        ValueType::Utf8 => {
            let values = ["/cart/42", "", "grüße 😀"];
            Arc::new((0..ROWS).map(|row| there(row).then_some(values[row])).collect::<StringArray>())
        }
        ValueType::Binary => {
            let values: [&[u8]; ROWS] = [b"\xff\x00", b"", b"abc"];
            Arc::new((0..ROWS).map(|row| there(row).then_some(values[row])).collect::<BinaryArray>())
        }
    }
}

fn constant(ty: ValueType) -> Constant {
    match ty {
        ValueType::Boolean => Constant::Bool(true),
        ValueType::Int64 => Constant::Int(1),
        ValueType::Float64 => Constant::Float(1.0),
        ValueType::Utf8 => Constant::Text("a".into()),
        ValueType::Binary => Constant::Bytes(b"a".to_vec()),
    }
}
