//! Tests of text: contains, starts and ends with, regular expressions; membership in arrays.

use std::cmp::Ordering;

use arrow::buffer::BooleanBuffer;
use arrow::error::ArrowError;
use memchr::memmem;
use prism_model::Value;

use super::node::{TextOp, TextTest};
use super::vals::{Scalar, Vals, cmp_int_double};

/// Whether each value passes the test (negated: has a type that the test is made for, and does not pass).
pub(crate) fn test(vals: &Vals, test: &TextTest, negated: bool) -> Result<BooleanBuffer, ArrowError> {
    // Ids are searched in their hex form.
    let vals = if vals.id.is_some() { &vals.ids_as_text()? } else { vals };
    let mut out = match (&vals.str, test) {
        (None, _) | (Some(_), TextTest::Element(_)) => BooleanBuffer::new_unset(vals.len),
        (Some(text), TextTest::Regex(regex)) => text.test(|t| regex.is_match(t) != negated),
        (Some(text), TextTest::Op(TextOp::Contains, needle)) => {
            let finder = memmem::Finder::new(needle.as_bytes());
            text.test(|t| finder.find(t.as_bytes()).is_some() != negated)
        }
        (Some(text), TextTest::Op(op, needle)) => text.test(|t| holds(*op, t, needle) != negated),
    };
    // Arrays: membership. Maps and empty values contain nothing.
    let element = match test {
        TextTest::Op(TextOp::Contains, needle) => Some(Scalar::Str(needle.clone())),
        TextTest::Element(element) => Some(element.clone()),
        _ => None,
    };
    if let (Some(json), Some(element)) = (&vals.json, element) {
        let member = |text: &str| match Value::from_text(text) {
            Ok(Value::Array(items)) => items.iter().any(|item| equals(item, &element)) != negated,
            _ => false,
        };
        out = &out | &json.test(member);
    }
    Ok(out)
}

/// The same against another text in each row.
pub(crate) fn test_pair(op: TextOp, left: &Vals, right: &Vals, negated: bool) -> Result<BooleanBuffer, ArrowError> {
    let (left, right) = (left.ids_as_text()?, right.ids_as_text()?);
    let member = |json: &str, row: usize| match Value::from_text(json) {
        Ok(Value::Array(items)) => {
            let element = right.get(row);
            !element.is_null() && items.iter().any(|item| equals(item, &element)) != negated
        }
        _ => false,
    };
    Ok(BooleanBuffer::collect_bool(left.len, |row| {
        if let (TextOp::Contains, Some(json)) = (op, left.json.as_ref().and_then(|t| t.get(row))) {
            return member(json, row);
        }
        let text = left.str.as_ref().and_then(|t| t.get(row));
        let needle = right.str.as_ref().and_then(|t| t.get(row));
        text.zip(needle).is_some_and(|(text, needle)| {
            let needle = if ignores_case(op) { needle.to_lowercase() } else { needle.to_owned() };
            holds(op, text, &needle) != negated
        })
    }))
}

/// Whether the operator ignores case; its needle must be given in lower case.
pub(crate) fn ignores_case(op: TextOp) -> bool {
    matches!(op, TextOp::IContains | TextOp::IStartsWith | TextOp::IEndsWith)
}

fn holds(op: TextOp, text: &str, needle: &str) -> bool {
    match op {
        TextOp::Contains => memmem::find(text.as_bytes(), needle.as_bytes()).is_some(),
        TextOp::StartsWith => text.starts_with(needle),
        TextOp::EndsWith => text.ends_with(needle),
        TextOp::IContains => text.to_lowercase().contains(needle),
        TextOp::IStartsWith => text.to_lowercase().starts_with(needle),
        TextOp::IEndsWith => text.to_lowercase().ends_with(needle),
    }
}

/// Equality as `=` has it: numbers across int and double, everything else within its type.
fn equals(value: &Value, scalar: &Scalar) -> bool {
    match (value, scalar) {
        (Value::Str(a), Scalar::Str(b)) => a == b,
        (Value::Bool(a), Scalar::Bool(b)) => a == b,
        (Value::Int(a), Scalar::Int(b)) => a == b,
        (Value::Double(a), Scalar::Double(b)) => a == b,
        (Value::Int(int), Scalar::Double(double)) | (Value::Double(double), Scalar::Int(int)) => {
            cmp_int_double(*int, *double) == Some(Ordering::Equal)
        }
        (Value::Bytes(a), Scalar::Bytes(b)) => a == b,
        _ => false,
    }
}

/// The value at a path within arrays and maps. Of repeated keys the first counts.
pub(crate) fn path(vals: &Vals, steps: &[super::node::PathStep]) -> Vals {
    use super::node::PathStep;
    let mut out = super::builder::ValsBuilder::new();
    // Neighbouring rows often hold the same text.
    let mut last: Option<(&str, Scalar)> = None;
    for row in 0..vals.len {
        let Some(text) = vals.json.as_ref().and_then(|t| t.get(row)) else {
            out.push(Scalar::Null);
            continue;
        };
        if last.as_ref().is_none_or(|(seen, _)| *seen != text) {
            let value = Value::from_text(text).unwrap_or(Value::Null);
            let found = steps.iter().try_fold(&value, |value, step| match (value, step) {
                (Value::Map(entries), PathStep::Key(key)) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
                (Value::Array(items), PathStep::Index(i)) => items.get(*i as usize),
                _ => None,
            });
            last = Some((text, found.map_or(Scalar::Null, Scalar::from_value)));
        }
        out.push(last.as_ref().map_or(Scalar::Null, |(_, scalar)| scalar.clone()));
    }
    out.finish()
}

/// The members of `trace_state` (`a=1,b=2`) by key, trimmed as W3C Trace Context has it.
pub(crate) fn trace_state_member(vals: &Vals, key: &str) -> Result<Vals, ArrowError> {
    let Some(text) = &vals.str else { return Ok(Vals::nulls(vals.len)) };
    let member = |state: &str| {
        let mut members = state.split(',').filter_map(|m| m.trim_matches([' ', '\t']).split_once('='));
        members.find(|(k, _)| *k == key).map(|(_, v)| v.to_owned())
    };
    let out = text.map(member)?;
    debug_assert_eq!(out.len(), vals.len);
    Ok(Vals::of_text(out))
}
