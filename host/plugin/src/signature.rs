//! What a plugin's functions take and give: checked signatures.

use std::fmt;

use arrow::datatypes::DataType;

use crate::bindings::base::Dtype;
use crate::bindings::functions;

/// Functions of one plugin: more are more likely a loop in a script.
const FUNCTIONS_MAX: usize = 64;
/// Arguments that a signature names, and those of a call where the last may stand again.
const ARGS_MAX: usize = 16;
const CALL_ARGS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 63;

/// Types of arguments and results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// True or false.
    Boolean,
    /// Ints; durations and times in nanoseconds.
    Int64,
    /// Numbers: ints count too.
    Float64,
    /// Text.
    Utf8,
    /// Bytes.
    Binary,
}

impl ValueType {
    fn of(dtype: Dtype) -> Option<ValueType> {
        Some(match dtype {
            Dtype::Boolean => ValueType::Boolean,
            Dtype::Int64 => ValueType::Int64,
            Dtype::Float64 => ValueType::Float64,
            Dtype::Utf8 => ValueType::Utf8,
            Dtype::Binary => ValueType::Binary,
            _ => return None,
        })
    }

    pub(crate) fn dtype(self) -> Dtype {
        match self {
            ValueType::Boolean => Dtype::Boolean,
            ValueType::Int64 => Dtype::Int64,
            ValueType::Float64 => Dtype::Float64,
            ValueType::Utf8 => Dtype::Utf8,
            ValueType::Binary => Dtype::Binary,
        }
    }

    /// The plain Arrow type; text may also come as a dictionary of it with `UInt32` keys.
    pub fn data_type(self) -> DataType {
        match self {
            ValueType::Boolean => DataType::Boolean,
            ValueType::Int64 => DataType::Int64,
            ValueType::Float64 => DataType::Float64,
            ValueType::Utf8 => DataType::Utf8,
            ValueType::Binary => DataType::Binary,
        }
    }

    /// The word for it in the query language.
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Boolean => "bool",
            ValueType::Int64 => "int",
            ValueType::Float64 => "number",
            ValueType::Utf8 => "string",
            ValueType::Binary => "bytes",
        }
    }
}

/// A function or aggregate of a plugin. Its text is `apdex(number, number) -> number`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Signature {
    /// `a-z 0-9 _`, a letter first.
    pub name: String,
    /// Types of the arguments.
    pub args: Vec<ValueType>,
    /// The last argument may stand again.
    pub variadic: bool,
    /// Type of the result.
    pub returns: ValueType,
    /// It sees missing values; else a missing argument gives a missing result, or is not aggregated.
    pub handles_nulls: bool,
    /// The same arguments give the same result.
    pub deterministic: bool,
}

impl Signature {
    /// The type of an argument by its position; `None` for one too many.
    pub fn arg(&self, position: usize) -> Option<ValueType> {
        let last = self.args.last().filter(|_| self.variadic && position < CALL_ARGS_MAX);
        self.args.get(position).or(last).copied()
    }

    /// How many arguments a call may have: at least, at most.
    pub fn arity(&self) -> (usize, usize) {
        (self.args.len(), if self.variadic { CALL_ARGS_MAX } else { self.args.len() })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args: Vec<&str> = self.args.iter().map(|arg| arg.as_str()).collect();
        let more = if self.variadic { ", …" } else { "" };
        write!(f, "{}({}{more}) -> {}", self.name, args.join(", "), self.returns.as_str())
    }
}

/// Checks what a guest said about its functions.
///
/// # Errors
/// The first rule of the contract that it breaks.
pub(crate) fn check(said: Vec<functions::Signature>) -> Result<Vec<Signature>, String> {
    if said.is_empty() || said.len() > FUNCTIONS_MAX {
        return Err(format!("expected 1 to {FUNCTIONS_MAX} functions, found {}", said.len()));
    }
    let mut checked: Vec<Signature> = Vec::with_capacity(said.len());
    for one in said {
        let name: String = one.name.chars().take(80).collect();
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let begins = one.name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if !begins || one.name.len() > NAME_BYTES_MAX || !one.name.bytes().all(allowed) {
            return Err(format!(
                "expected names of functions of 1 to {NAME_BYTES_MAX} characters `a-z`, `0-9`, `_`, a letter first, found `{name}`"
            ));
        }
        if checked.iter().any(|other| other.name == one.name) {
            return Err(format!("two functions are called `{name}`"));
        }
        if one.args.len() > ARGS_MAX {
            return Err(format!("expected at most {ARGS_MAX} arguments of `{name}`, found {}", one.args.len()));
        }
        if one.variadic && one.args.is_empty() {
            return Err(format!("`{name}` is variadic and has no argument that could stand again"));
        }
        let of = |dtype: Dtype| {
            ValueType::of(dtype).ok_or_else(|| {
                format!("`{name}`: expected boolean, int64, float64, utf8 or binary, which values of queries are")
            })
        };
        let args = one.args.iter().map(|dtype| of(*dtype)).collect::<Result<_, _>>()?;
        let returns = of(one.returns)?;
        checked.push(Signature {
            name: one.name,
            args,
            variadic: one.variadic,
            returns,
            handles_nulls: one.handles_nulls,
            deterministic: one.deterministic,
        });
    }
    Ok(checked)
}
