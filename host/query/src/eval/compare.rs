//! Comparisons: each is false where an operand is missing or of another type. Numbers compare exactly across int and double.

use arrow::array::{Array, BooleanArray, Float64Array, Int64Array, Scalar as One, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp;
use arrow::error::ArrowError;

use super::node::{CompareOp, Set};
use super::text;
use super::vals::{Text, Vals, cmp_int_double};

/// One side of a comparison: a value a row, or one for all.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) vals: &'a Vals,
    pub(crate) one: bool,
}

impl Side<'_> {
    fn row(self, row: usize) -> usize {
        if self.one { 0 } else { row }
    }
}

fn bits(result: BooleanArray) -> BooleanBuffer {
    match result.nulls() {
        Some(nulls) => result.values() & nulls.inner(),
        None => result.values().clone(),
    }
}

fn either(a: Option<BooleanBuffer>, b: BooleanBuffer) -> Option<BooleanBuffer> {
    Some(match a {
        Some(a) => &a | &b,
        None => b,
    })
}

/// `left op right` for `len` rows.
pub(crate) fn compare(op: CompareOp, left: Side<'_>, right: Side<'_>, len: usize) -> Result<BooleanBuffer, ArrowError> {
    if left.one && !right.one {
        return compare(op.flipped(), right, left, len);
    }
    let (l, r) = (left.vals, right.vals);
    let mut out = None;
    if let (Some(a), Some(b)) = (&l.str, &r.str) {
        out = either(out, texts(op, a, b, right.one, len)?);
    }
    if let (Some(a), Some(b)) = (&l.int, &r.int) {
        out = either(out, ints(op, a, b, right.one)?);
    }
    if let (Some(a), Some(b)) = (&l.double, &r.double) {
        out = either(out, pairs(a, b, left, right, len, |i, j| op.holds(a.value(i).partial_cmp(&b.value(j)))));
    }
    if let (Some(a), Some(b)) = (&l.int, &r.double) {
        out = either(out, pairs(a, b, left, right, len, |i, j| op.holds(cmp_int_double(a.value(i), b.value(j)))));
    }
    if let (Some(a), Some(b)) = (&l.double, &r.int) {
        let order = |i, j| cmp_int_double(b.value(j), a.value(i)).map(std::cmp::Ordering::reverse);
        out = either(out, pairs(a, b, left, right, len, |i, j| op.holds(order(i, j))));
    }
    if let (Some(a), Some(b)) = (&l.bool, &r.bool) {
        out = either(out, pairs(a, b, left, right, len, |i, j| op.holds(Some(a.value(i).cmp(&b.value(j))))));
    }
    if let (Some(a), Some(b)) = (&l.bytes, &r.bytes) {
        out = either(out, pairs(a, b, left, right, len, |i, j| op.holds(Some(a.value(i).cmp(b.value(j))))));
    }
    if let (Some(a), Some(b)) = (&l.id, &r.id) {
        out = either(out, pairs(a, b, left, right, len, |i, j| op.holds(Some(a.value(i).cmp(b.value(j))))));
    }
    if let (Some(ids), Some(text)) = (&l.id, &r.str) {
        out = either(out, id_text(op, ids, text, left, right, len));
    }
    if let (Some(text), Some(ids)) = (&l.str, &r.id) {
        out = either(out, id_text(op.flipped(), ids, text, right, left, len));
    }
    if let (Some(a), Some(b), CompareOp::Eq | CompareOp::Ne) = (&l.json, &r.json, op) {
        let holds = |i: usize| {
            let pair = a.get(left.row(i)).zip(b.get(right.row(i)));
            pair.is_some_and(|(a, b)| (a == b) == (op == CompareOp::Eq))
        };
        out = either(out, BooleanBuffer::collect_bool(len, holds));
    }
    Ok(out.unwrap_or_else(|| BooleanBuffer::new_unset(len)))
}

fn pairs(
    a: &dyn Array,
    b: &dyn Array,
    left: Side<'_>,
    right: Side<'_>,
    len: usize,
    holds: impl Fn(usize, usize) -> bool,
) -> BooleanBuffer {
    if a.null_count() == 0 && b.null_count() == 0 {
        return BooleanBuffer::collect_bool(len, |i| holds(left.row(i), right.row(i)));
    }
    BooleanBuffer::collect_bool(len, |i| {
        let (i, j) = (left.row(i), right.row(i));
        a.is_valid(i) && b.is_valid(j) && holds(i, j)
    })
}

fn texts(op: CompareOp, a: &Text, b: &Text, b_is_one: bool, len: usize) -> Result<BooleanBuffer, ArrowError> {
    if b_is_one {
        let Some(b) = b.get(0) else { return Ok(BooleanBuffer::new_unset(len)) };
        if let (Text::Plain(a), CompareOp::Eq | CompareOp::Ne) = (a, op) {
            return Ok(text::equal(a, b, op == CompareOp::Ne));
        }
        // Bytes of UTF-8 are in the order of code points.
        return Ok(a.test(|text| op.holds(Some(text.cmp(b)))));
    }
    let (a, b) = (a.to_plain()?, b.to_plain()?);
    by_kernel(op, &a as &StringArray, &b as &StringArray)
}

fn ints(op: CompareOp, a: &Int64Array, b: &Int64Array, b_is_one: bool) -> Result<BooleanBuffer, ArrowError> {
    if b_is_one { by_kernel(op, a, &One::new(b.slice(0, 1))) } else { by_kernel(op, a, b) }
}

fn by_kernel(
    op: CompareOp,
    a: &dyn arrow::array::Datum,
    b: &dyn arrow::array::Datum,
) -> Result<BooleanBuffer, ArrowError> {
    Ok(bits(match op {
        CompareOp::Eq => cmp::eq(a, b)?,
        CompareOp::Ne => cmp::neq(a, b)?,
        CompareOp::Lt => cmp::lt(a, b)?,
        CompareOp::Le => cmp::lt_eq(a, b)?,
        CompareOp::Gt => cmp::gt(a, b)?,
        CompareOp::Ge => cmp::gt_eq(a, b)?,
    }))
}

/// Ids against text: the text is their hex form, in either case.
fn id_text(
    op: CompareOp,
    ids: &arrow::array::FixedSizeBinaryArray,
    text: &Text,
    left: Side<'_>,
    right: Side<'_>,
    len: usize,
) -> BooleanBuffer {
    if right.one {
        let Some(text) = text.get(0) else { return BooleanBuffer::new_unset(len) };
        if let Ok(bytes) = hex::decode(text) {
            return pairs(ids, ids, left, left, len, |i, _| op.holds(Some(ids.value(i).cmp(&bytes))));
        }
        let lower = text.to_lowercase();
        return pairs(ids, ids, left, left, len, |i, _| op.holds(Some(hex::encode(ids.value(i)).as_str().cmp(&lower))));
    }
    BooleanBuffer::collect_bool(len, |row| {
        let i = left.row(row);
        let text = text.get(row).map(str::to_lowercase);
        ids.is_valid(i) && text.is_some_and(|text| op.holds(Some(hex::encode(ids.value(i)).cmp(&text))))
    })
}

/// `vals in set`, or `not in`: which asks for a value that some element can be compared with, and that equals none.
pub(crate) fn in_set(vals: &Vals, set: &Set, negated: bool) -> BooleanBuffer {
    let mut out = None;
    if let Some(text) = vals.str.as_ref().filter(|_| !set.strs.is_empty()) {
        out = either(out, text.test(|t| set.strs.contains(t) != negated));
    }
    let numbers = !set.ints.is_empty() || !set.doubles.is_empty();
    if let Some(a) = vals.int.as_ref().filter(|_| numbers) {
        let found = |v: i64| {
            set.ints.contains(&v)
                || set.doubles.iter().any(|d| cmp_int_double(v, *d) == Some(std::cmp::Ordering::Equal))
        };
        out = either(out, BooleanBuffer::collect_bool(vals.len, |i| a.is_valid(i) && found(a.value(i)) != negated));
    }
    if let Some(a) = vals.double.as_ref().filter(|_| numbers) {
        out = either(out, doubles_in_set(a, set, negated));
    }
    if let Some(a) = vals.bool.as_ref().filter(|_| !set.bools.is_empty()) {
        let found = |i| set.bools.contains(&a.value(i));
        out = either(out, BooleanBuffer::collect_bool(vals.len, |i| a.is_valid(i) && found(i) != negated));
    }
    if let Some(a) = vals.id.as_ref().filter(|_| !set.strs.is_empty() || !set.ids.is_empty()) {
        let found = |i| set.ids.contains(a.value(i));
        out = either(out, BooleanBuffer::collect_bool(vals.len, |i| a.is_valid(i) && found(i) != negated));
    }
    out.unwrap_or_else(|| BooleanBuffer::new_unset(vals.len))
}

fn doubles_in_set(a: &Float64Array, set: &Set, negated: bool) -> BooleanBuffer {
    let equal_int = |v: f64| v.trunc() == v && v.abs() < 9.3e18 && set.ints.contains(&(v as i64));
    // The cast saturates at the ends of int64, so an equal int is checked exactly.
    let exact = |v: f64| cmp_int_double(v as i64, v) == Some(std::cmp::Ordering::Equal);
    let found = |v: f64| set.doubles.contains(&v) || (equal_int(v) && exact(v));
    BooleanBuffer::collect_bool(a.len(), |i| a.is_valid(i) && found(a.value(i)) != negated)
}
