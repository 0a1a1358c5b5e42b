//! What an author tests a built plugin with: the plugin is compiled for the sandbox, passes the upload gate, is bound with a
//! configuration and called with rows, all by the code that does it in production.
//!
//! `sandbox!` (build, load, bind) -> [`Sandbox::eval`] or [`Sandbox::aggregate`] (rows -> columns -> guest -> values). Filters
//! and redactors are tested natively, by `prism_sdk::testing`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray,
};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt32Type};
use prism_plugin::{
    Accumulator, Argument, Binding, Caller, Constant, Function, Functions, PluginHost, PluginOptions, Session,
    ValueType,
};
use serde_json::Value as Json;

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Missing.
    Null,
    /// True or false.
    Bool(bool),
    /// An int; durations and times in nanoseconds.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A plugin that is bound and ready to be called.
#[derive(Debug)]
pub struct Sandbox {
    functions: Functions,
    caller: Arc<Caller>,
}

/// Builds the plugin of the crate that is being tested and binds it with a configuration; panics where that fails, as tests do.
#[macro_export]
macro_rules! sandbox {
    ($config:expr) => {
        match $crate::Sandbox::of(env!("CARGO_MANIFEST_DIR"), $config) {
            Ok(sandbox) => sandbox,
            Err(error) => panic!("{error:#}"),
        }
    };
}

/// The words in which a configuration of the plugin of the crate that is being tested is refused.
#[macro_export]
macro_rules! refusal {
    ($config:expr) => {
        match $crate::Sandbox::of(env!("CARGO_MANIFEST_DIR"), $config) {
            Ok(_) => panic!("the configuration was not refused"),
            Err(error) => format!("{error:#}"),
        }
    };
}

impl Sandbox {
    /// Builds the plugin whose `Cargo.toml` stands in a folder, and binds it with a configuration. Compiled forms are kept
    /// beside it.
    ///
    /// # Errors
    /// It does not compile, does not pass the upload gate, or cannot be started with the configuration.
    pub fn of(manifest_dir: impl AsRef<Path>, config: Json) -> Result<Sandbox> {
        let components = prism_componentize::components_dir();
        let component = prism_componentize::build_guest(manifest_dir.as_ref(), &components)?;
        let bytes = std::fs::read(&component).with_context(|| format!("reading `{}`", component.display()))?;
        Sandbox::bind(&bytes, config, components.parent().map(|dir| dir.join("compiled")))
    }

    /// Binds a component with a configuration.
    ///
    /// # Errors
    /// It does not pass the upload gate, or cannot be started with the configuration.
    pub fn bind(component: &[u8], config: Json, cache_dir: Option<PathBuf>) -> Result<Sandbox> {
        let host = PluginHost::new(PluginOptions { cache_dir, ..PluginOptions::default() })?;
        let plugin = host.load(component)?;
        let (name, hash) = (plugin.metadata().name.clone(), plugin.hash().to_owned());
        let binding = Binding { name, plugin: hash, config, signals: Vec::new() };
        let tenant = "test".parse().map_err(|e| anyhow!("{e}"))?;
        host.try_binding(&tenant, &binding, &plugin)?;
        let functions = host.functions(&tenant, &[(binding, plugin)]);
        let caller = Caller::new(&functions, None);
        Ok(Sandbox { functions, caller })
    }

    fn function(&self, name: &str) -> Result<Function> {
        self.functions.find(name).map_err(|e| anyhow!("`{name}`: {e:?}"))
    }

    /// Calls a function with rows, each with a value for every argument; returns a value for each. Text is handed over plain
    /// and by value, and both must give the same.
    ///
    /// # Errors
    /// There is no such function, or it failed.
    pub fn eval(&self, name: &str, rows: &[Vec<Value>]) -> Result<Vec<Value>> {
        let function = self.function(name)?;
        let plain = self.caller.eval(&function, rows.len(), &columns(&function, rows, false)?)?;
        let by_value = self.caller.eval(&function, rows.len(), &columns(&function, rows, true)?)?;
        let (plain, by_value) = (values(&plain)?, values(&by_value)?);
        if plain != by_value && function.signature().deterministic {
            bail!("`{name}` gives {plain:?} of plain text, and {by_value:?} of a dictionary");
        }
        Ok(plain)
    }

    /// Aggregates rows that come in parts, each row with its group and a value for every argument. Every part has an
    /// accumulator of its own, and their states are merged in one order and in the other, which must give the same.
    ///
    /// `constants`: one for each argument, [`Value::Null`] where rows differ. Returns a value for each of `groups` groups.
    ///
    /// # Errors
    /// There is no such aggregate, or it failed.
    pub fn aggregate(
        &self,
        name: &str,
        constants: &[Value],
        groups: usize,
        parts: &[(Vec<u32>, Vec<Vec<Value>>)],
    ) -> Result<Vec<Value>> {
        let function = self.function(name)?;
        let session = Session::new(&self.caller, &function);
        let fixed: Vec<Constant> = constants.iter().map(constant).collect();
        let fresh = || Accumulator::new(session.clone(), function.clone(), fixed.clone());
        let mut states = Vec::with_capacity(parts.len());
        for (of_rows, rows) in parts {
            let mut part = fresh();
            let mut args = columns(&function, rows, false)?;
            for (arg, fixed) in args.iter_mut().zip(&fixed).filter(|(_, fixed)| **fixed != Constant::Null) {
                *arg = Argument::Constant(fixed.clone());
            }
            part.update(Some(of_rows), groups, None, rows.len(), &args)?;
            states.push(part.states(groups)?);
        }
        let own: Vec<u32> = (0..groups as u32).collect();
        let merged = |states: &mut dyn Iterator<Item = &BinaryArray>| -> Result<Vec<Value>> {
            let mut whole = fresh();
            for state in states {
                whole.merge(Some(&own), groups, state)?;
            }
            values(&whole.finish(groups)?)
        };
        let (forth, back) = (merged(&mut states.iter())?, merged(&mut states.iter().rev())?);
        if forth != back {
            bail!("`{name}` gives {forth:?}, and {back:?} where the states are merged in the other order");
        }
        Ok(forth)
    }
}

fn constant(value: &Value) -> Constant {
    match value {
        Value::Null => Constant::Null,
        Value::Bool(b) => Constant::Bool(*b),
        Value::Int(i) => Constant::Int(*i),
        Value::Float(d) => Constant::Float(*d),
        Value::Text(text) => Constant::Text(text.clone()),
        Value::Bytes(bytes) => Constant::Bytes(bytes.clone()),
    }
}

/// The arguments of rows, as columns.
fn columns(function: &Function, rows: &[Vec<Value>], by_value: bool) -> Result<Vec<Argument>> {
    let width = rows.first().map_or(function.signature().args.len(), Vec::len);
    (0..width)
        .map(|position| {
            let ty = function.signature().arg(position).with_context(|| format!("argument {}", position + 1))?;
            let cells = rows.iter().map(|row| row.get(position).unwrap_or(&Value::Null));
            Ok(Argument::Column(column(ty, cells, by_value)?))
        })
        .collect()
}

fn column<'v>(ty: ValueType, cells: impl Iterator<Item = &'v Value>, by_value: bool) -> Result<ArrayRef> {
    macro_rules! collect {
        ($array:ty, $value:pat => $of:expr) => {
            cells
                .map(|cell| match cell {
                    $value => Ok(Some($of)),
                    Value::Null => Ok(None),
                    other => bail!("expected {}, found {other:?}", ty.as_str()),
                })
                .collect::<Result<$array>>()?
        };
    }
    Ok(match ty {
        ValueType::Boolean => Arc::new(collect!(BooleanArray, Value::Bool(b) => *b)),
        ValueType::Int64 => Arc::new(collect!(Int64Array, Value::Int(i) => *i)),
        ValueType::Float64 => Arc::new(collect!(Float64Array, Value::Float(d) => *d)),
        ValueType::Utf8 if by_value => {
            Arc::new(collect!(DictionaryArray<UInt32Type>, Value::Text(text) => text.as_str()))
        }
        ValueType::Utf8 => Arc::new(collect!(StringArray, Value::Text(text) => text.as_str())),
        ValueType::Binary => Arc::new(collect!(BinaryArray, Value::Bytes(bytes) => bytes.as_slice())),
    })
}

fn values(array: &ArrayRef) -> Result<Vec<Value>> {
    let plain = match array.data_type() {
        DataType::Dictionary(..) => arrow::compute::cast(array, &DataType::Utf8)?,
        _ => array.clone(),
    };
    let value = |row: usize| {
        if plain.is_null(row) {
            return Ok(Value::Null);
        }
        Ok(match plain.data_type() {
            DataType::Boolean => Value::Bool(plain.as_boolean().value(row)),
            DataType::Int64 => Value::Int(plain.as_primitive::<Int64Type>().value(row)),
            DataType::Float64 => Value::Float(plain.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => Value::Text(plain.as_string::<i32>().value(row).to_owned()),
            DataType::Binary => Value::Bytes(plain.as_binary::<i32>().value(row).to_vec()),
            other => bail!("a result of {other}"),
        })
    };
    (0..plain.len()).map(value).collect()
}
