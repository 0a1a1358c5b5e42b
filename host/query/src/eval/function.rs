//! Scalar functions. What cannot be computed is missing, never an error.

use arrow::array::{Array, BooleanArray, Int64Array, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::error::ArrowError;
use chrono::{DateTime, Datelike as _, NaiveDateTime, Timelike as _};
use chrono_tz::Tz;
use prism_model::Value;

use super::arithmetic::{bucket, finite_from, map_doubles, map_numbers};
use super::builder::ValsBuilder;
use super::node::{Function, Unit};
use super::vals::{Scalar, Vals};
use super::zone::{self, TimeBin};
use crate::identity;
use crate::show;

/// A function of plain values; conditionals and plugins are evaluated by the caller, which knows conditions from values
/// and constants from columns.
pub(crate) fn call(function: &Function, args: &[Vals], len: usize) -> Result<Vals, ArrowError> {
    let [first, ..] = args else { return Ok(Vals::nulls(len)) };
    match function {
        Function::If | Function::Case | Function::Plugin(_) => Ok(Vals::nulls(len)),
        Function::Coalesce => Vals::coalesce(args),
        Function::Lower => map_text(first, |t| Some(t.to_lowercase())),
        Function::Upper => map_text(first, |t| Some(t.to_uppercase())),
        Function::Length => Ok(length(first)),
        Function::Substr => Ok(substr(args)),
        Function::Replace => Ok(replace(args)),
        Function::Split => Ok(split(args)),
        Function::Extract(regex, group) => {
            map_text(first, |t| regex.captures(t).and_then(|c| c.get(*group)).map(|m| m.as_str().to_owned()))
        }
        Function::Text(unit) => to_text(first, *unit),
        Function::Number => to_number(first),
        Function::Bool => to_bool(first),
        Function::Abs => map_numbers(first, i64::checked_abs, |d| Some(d.abs())),
        Function::Floor => map_numbers(first, Some, |d| Some(d.floor())),
        Function::Ceil => map_numbers(first, Some, |d| Some(d.ceil())),
        Function::Round => round(args),
        Function::Log2 => Ok(map_doubles(first, f64::log2)),
        Function::Log10 => Ok(map_doubles(first, f64::log10)),
        Function::Sqrt => Ok(map_doubles(first, f64::sqrt)),
        Function::Pow => Ok(pow(args)),
        Function::Bucket => args.get(1).map_or_else(|| Ok(Vals::nulls(len)), |width| bucket(first, width)),
        Function::Identity => Ok(identity::joined(args, len)),
        Function::Bin(bin) => Ok(bins(first, *bin)),
        Function::Hour(zone) => Ok(of_time(first, *zone, |t| i64::from(t.hour()))),
        Function::Weekday(zone) => Ok(of_time(first, *zone, |t| i64::from(t.weekday().number_from_monday()))),
    }
}

fn map_text(vals: &Vals, to: impl FnMut(&str) -> Option<String>) -> Result<Vals, ArrowError> {
    let vals = vals.ids_as_text()?;
    match &vals.str {
        Some(text) => Ok(Vals::of_text(text.map(to)?)),
        None => Ok(Vals::nulls(vals.len)),
    }
}

fn text_at(vals: Option<&Vals>, row: usize) -> Option<&str> {
    vals?.str.as_ref()?.get(row)
}

fn int_at(vals: Option<&Vals>, row: usize) -> Option<i64> {
    let vals = vals?;
    if let Some(a) = vals.int.as_ref().filter(|a| a.is_valid(row)) {
        return Some(a.value(row));
    }
    // A whole double is as good.
    vals.number(row).filter(|d| d.fract() == 0.0 && d.abs() < 9e15).map(|d| d as i64)
}

/// Characters of text, bytes of bytes, elements of an array or map.
fn length(vals: &Vals) -> Vals {
    let of = |row: usize| match vals.get(row) {
        Scalar::Str(t) => Some(t.chars().count() as i64),
        Scalar::Bytes(b) | Scalar::Id(b) => Some(b.len() as i64),
        Scalar::Json(text) => match Value::from_text(&text) {
            Ok(Value::Array(items)) => Some(items.len() as i64),
            Ok(Value::Map(entries)) => Some(entries.len() as i64),
            _ => None,
        },
        _ => None,
    };
    Vals::of_ints((0..vals.len).map(of).collect())
}

/// Text, first character (from 1; below 0 from the end), optionally how many.
fn substr(args: &[Vals]) -> Vals {
    let len = args[0].len;
    let of = |row: usize| -> Option<String> {
        let text = text_at(args.first(), row)?;
        let start = int_at(args.get(1), row)?;
        let count = match args.get(2) {
            Some(_) => usize::try_from(int_at(args.get(2), row)?.max(0)).ok()?,
            None => usize::MAX,
        };
        let skip = match start {
            1.. => usize::try_from(start - 1).ok()?,
            0 => 0,
            _ => text.chars().count().saturating_sub(usize::try_from(start.unsigned_abs()).ok()?),
        };
        Some(text.chars().skip(skip).take(count).collect())
    };
    Vals::of_strings((0..len).map(of).collect())
}

fn replace(args: &[Vals]) -> Vals {
    let of = |row: usize| -> Option<String> {
        let (text, from, to) = (text_at(args.first(), row)?, text_at(args.get(1), row)?, text_at(args.get(2), row)?);
        // An empty text would be found between all characters.
        Some(if from.is_empty() { text.to_owned() } else { text.replace(from, to) })
    };
    Vals::of_strings((0..args[0].len).map(of).collect())
}

/// Text, separator, optionally which part (from 1; below 0 from the end); without it all parts as an array.
fn split(args: &[Vals]) -> Vals {
    let mut out = ValsBuilder::new();
    for row in 0..args[0].len {
        let parts = text_at(args.first(), row).zip(text_at(args.get(1), row)).map(|(text, separator)| {
            if separator.is_empty() { vec![text] } else { text.split(separator).collect::<Vec<_>>() }
        });
        let scalar = match (parts, args.get(2)) {
            (None, _) => None,
            (Some(parts), None) => {
                let items = parts.into_iter().map(|p| Value::Str(p.to_owned())).collect();
                Some(Scalar::Json(Value::Array(items).to_text()))
            }
            (Some(parts), Some(_)) => int_at(args.get(2), row).and_then(|n| {
                let n = if n < 0 { n.checked_add(parts.len() as i64)? } else { n - 1 };
                parts.get(usize::try_from(n).ok()?).map(|p| Scalar::Str((*p).to_owned()))
            }),
        };
        out.push(scalar.unwrap_or(Scalar::Null));
    }
    out.finish()
}

fn to_text(vals: &Vals, unit: Unit) -> Result<Vals, ArrowError> {
    if let (1, Some(text)) = (vals.kinds(), &vals.str) {
        return Ok(Vals::of_text(text.clone()));
    }
    if let (1, Some(text)) = (vals.kinds(), &vals.json) {
        return Ok(Vals::of_text(text.clone()));
    }
    let texts: StringArray = (0..vals.len).map(|row| show::scalar_text(&vals.get(row), unit)).collect();
    Ok(Vals::of_strings(texts))
}

/// Numbers stay; text that is written like one (also `1e3`) becomes one, `true` is 1.
fn to_number(vals: &Vals) -> Result<Vals, ArrowError> {
    let mut out = Vals { int: vals.int.clone(), double: vals.double.clone(), ..Vals::nulls(vals.len) };
    if let Some(bools) = &vals.bool {
        let ints: Int64Array = bools.iter().map(|b| b.map(i64::from)).collect();
        out = Vals::join(&out, &Vals::of_ints(ints))?;
    }
    if let Some(text) = &vals.str {
        let mut builder = ValsBuilder::new();
        for row in 0..vals.len {
            builder.push(text.get(row).map_or(Scalar::Null, parse_number));
        }
        out = Vals::join(&out, &builder.finish())?;
    }
    Ok(out)
}

fn parse_number(text: &str) -> Scalar {
    let text = text.trim();
    if let Ok(int) = text.parse::<i64>() {
        return Scalar::Int(int);
    }
    // Rust also reads `inf`, `nan` and `infinity`, which are words here.
    let numeric = text.bytes().any(|b| b.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(d) if numeric && d.is_finite() => Scalar::Double(d),
        _ => Scalar::Null,
    }
}

/// `true` and `false` in any case, and numbers: 0 is false.
fn to_bool(vals: &Vals) -> Result<Vals, ArrowError> {
    let of = |row: usize| match vals.get(row) {
        Scalar::Bool(b) => Some(b),
        Scalar::Int(i) => Some(i != 0),
        Scalar::Double(d) if !d.is_nan() => Some(d != 0.0),
        Scalar::Str(t) if t.eq_ignore_ascii_case("true") || t == "1" => Some(true),
        Scalar::Str(t) if t.eq_ignore_ascii_case("false") || t == "0" => Some(false),
        _ => None,
    };
    Ok(Vals::of_bools((0..vals.len).map(of).collect::<BooleanArray>()))
}

/// Number, optionally how many digits behind the point (below 0: before it); half away from zero.
fn round(args: &[Vals]) -> Result<Vals, ArrowError> {
    let Some(digits) = args.get(1) else { return map_numbers(&args[0], Some, |d| Some(d.round())) };
    let vals = &args[0];
    let mut out = ValsBuilder::new();
    for row in 0..vals.len {
        let digits = int_at(Some(digits), row).map(|d| d.clamp(-400, 400) as i32);
        out.push(match (vals.get(row), digits) {
            (Scalar::Int(i), Some(0..)) => Scalar::Int(i),
            (Scalar::Int(i), Some(digits)) => round_int(i, digits.unsigned_abs()).map_or(Scalar::Null, Scalar::Int),
            (Scalar::Double(d), Some(digits)) => {
                let factor = 10f64.powi(digits);
                let scaled = d * factor;
                // Beyond the precision of a double there is nothing to round.
                let rounded = if scaled.is_finite() && factor > 0.0 { scaled.round() / factor } else { d };
                finite_from(if digits < -308 { 0.0 } else { rounded }, true).map_or(Scalar::Null, Scalar::Double)
            }
            _ => Scalar::Null,
        });
    }
    Ok(out.finish())
}

fn round_int(value: i64, digits: u32) -> Option<i64> {
    let Some(unit) = 10i128.checked_pow(digits).filter(|u| *u <= 1 << 80) else { return Some(0) };
    let value = i128::from(value);
    let half = if value < 0 { -unit / 2 } else { unit / 2 };
    i64::try_from((value + half) / unit * unit).ok()
}

/// Ints stay ints where the exponent is whole and not below 0.
fn pow(args: &[Vals]) -> Vals {
    let mut out = ValsBuilder::new();
    for row in 0..args[0].len {
        let pair = (args[0].get(row), args.get(1).map_or(Scalar::Null, |e| e.get(row)));
        out.push(match pair {
            (Scalar::Int(base), Scalar::Int(exponent @ 0..)) => {
                u32::try_from(exponent).ok().and_then(|e| base.checked_pow(e)).map_or(Scalar::Null, Scalar::Int)
            }
            _ => {
                let numbers = args[0].number(row).zip(args.get(1).and_then(|e| e.number(row)));
                numbers
                    .and_then(|(b, e)| finite_from(b.powf(e), b.is_finite() && e.is_finite()))
                    .map_or(Scalar::Null, Scalar::Double)
            }
        });
    }
    out.finish()
}

/// A part of what the clock shows at each time.
fn of_time(vals: &Vals, zone: Option<Tz>, part: impl Fn(NaiveDateTime) -> i64) -> Vals {
    let of = |v: Option<i64>| {
        let local = v.and_then(|nanos| nanos.checked_add(zone.map_or(0, |zone| zone::offset(zone, nanos))));
        local.map(|nanos| part(DateTime::from_timestamp_nanos(nanos).naive_utc()))
    };
    match &vals.int {
        Some(a) => Vals::of_ints(a.iter().map(of).collect()),
        None => Vals::nulls(vals.len),
    }
}

/// The start of the bin that each time lies in. Times of one bin come in runs.
fn bins(vals: &Vals, bin: TimeBin) -> Vals {
    let Some(ints) = &vals.int else { return Vals::nulls(vals.len) };
    let mut last: Option<(i64, i64)> = None;
    let start = |time: Option<i64>| {
        let time = time?;
        match last {
            Some((start, until)) if (start..=until).contains(&time) => Some(start),
            _ => {
                let start = bin.start(time)?;
                last = Some((start, time));
                Some(start)
            }
        }
    };
    Vals::of_ints(ints.iter().map(start).collect())
}

/// In each row the value whose condition is the first true one.
pub(crate) fn choose(conditions: &[BooleanBuffer], values: &[Vals], len: usize) -> Result<Vals, ArrowError> {
    let mut open = BooleanBuffer::new_set(len);
    let mut out = Vals::nulls(len);
    for (i, value) in values.iter().enumerate() {
        let here = match conditions.get(i) {
            Some(condition) => &open & condition,
            None => open.clone(),
        };
        out = Vals::join(&out, &value.keep(&here)?)?;
        open = &open & &!&here;
    }
    Ok(out)
}
