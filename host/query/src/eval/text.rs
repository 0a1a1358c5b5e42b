//! Tests of text: contains, starts and ends with, regular expressions; membership in arrays.

use std::cmp::Ordering;

use arrow::array::{Array as _, BooleanBufferBuilder, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::error::ArrowError;
use memchr::memmem;
use prism_model::Value;

use super::node::{TextOp, TextTest};
use super::vals::{Scalar, Text, Vals, cmp_int_double, validity};

/// Whether each value passes the test (negated: has a type that the test is made for, and does not pass).
pub(crate) fn test(vals: &Vals, test: &TextTest, negated: bool) -> Result<BooleanBuffer, ArrowError> {
    // Ids are searched in their hex form.
    let vals = if vals.id.is_some() { &vals.ids_as_text()? } else { vals };
    let mut out = match (&vals.str, test) {
        (None, _) | (Some(_), TextTest::Element(_)) => BooleanBuffer::new_unset(vals.len),
        (Some(text), TextTest::Regex(regex)) => text.test(|t| regex.is_match(t) != negated),
        (Some(text), TextTest::Op(TextOp::Contains, needle)) => {
            let finder = memmem::Finder::new(needle.as_bytes());
            match text {
                Text::Plain(texts) => contains(texts, &finder, false, negated),
                Text::Dict(_) => text.test(|t| finder.find(t.as_bytes()).is_some() != negated),
            }
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

/// Looks through all texts at once, since most do not have the needle: to begin anew for each takes longer than to look.
/// `whole`: only a text that is the needle counts.
fn contains(texts: &StringArray, finder: &memmem::Finder<'_>, whole: bool, negated: bool) -> BooleanBuffer {
    let (offsets, bytes) = (texts.value_offsets(), texts.value_data());
    let mut found = BooleanBufferBuilder::new(texts.len());
    let width = finder.needle().len();
    if width == 0 {
        if whole {
            return Text::Plain(texts.clone()).test(|text| text.is_empty() != negated);
        }
        let there = validity(texts.nulls(), texts.len());
        return if negated { BooleanBuffer::new_unset(texts.len()) } else { there };
    }
    let mut row = 0;
    let mut from = offsets.first().map_or(0, |at| *at as usize);
    let end = offsets.last().map_or(0, |at| *at as usize);
    while let Some(at) = bytes.get(from..end).filter(|_| row < texts.len()).and_then(|rest| finder.find(rest)) {
        let at = from + at;
        let of = row + ends_before(&offsets[row + 1..], at);
        if of >= texts.len() {
            break;
        }
        let (start, end) = (offsets[of] as usize, offsets[of + 1] as usize);
        if at + width > end || (whole && (at > start || at + width < end)) {
            // It begins in one text and ends in the next, or is only a part.
            from = at + 1;
            continue;
        }
        found.append_n(of - row, false);
        found.append(true);
        (row, from) = (of + 1, end);
    }
    found.append_n(texts.len() - found.len(), false);
    let found = found.finish();
    let found = if negated { !&found } else { found };
    &found & &validity(texts.nulls(), texts.len())
}

/// Which texts are equal to one (negated: are there and are not).
pub(super) fn equal(texts: &StringArray, to: &str, negated: bool) -> BooleanBuffer {
    contains(texts, &memmem::Finder::new(to), true, negated)
}

/// How many texts end at or before `at`, by their ends: of the next few in steps that double, since hits may be dense.
fn ends_before(ends: &[i32], at: usize) -> usize {
    let before = |end: &i32| *end as usize <= at;
    let mut reach = 1;
    while ends.get(reach).is_some_and(before) {
        reach *= 2;
    }
    let (from, to) = (reach / 2, (reach + 1).min(ends.len()));
    from + ends[from..to].partition_point(before)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(text: &str, needle: &str, whole: bool) -> bool {
        if whole { text == needle } else { text.contains(needle) }
    }

    proptest! {
        #[test]
        fn texts_searched_at_once_are_those_searched_one_by_one(
            texts in prop::collection::vec(prop::option::of("[ab]{0,4}"), 0..40),
            skip in 0usize..5,
            needle in "[ab]{0,3}",
            negated: bool,
            whole: bool,
        ) {
            let array = StringArray::from(texts);
            let array = array.slice(skip.min(array.len()), array.len().saturating_sub(skip));
            let one_by_one: Vec<bool> =
                array.iter().map(|text| text.is_some_and(|text| fits(text, &needle, whole) != negated)).collect();
            let found = contains(&array, &memmem::Finder::new(needle.as_bytes()), whole, negated);
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), one_by_one);
        }
    }
}
