//! Arithmetic: overflow, division by zero and everything that is no number give a missing value, never an error.

use arrow::array::{Array, Float64Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::error::ArrowError;

use super::node::ArithmeticOp;
use super::vals::Vals;

/// `left op right`, row by row. Ints stay ints but for `/`.
pub(crate) fn arithmetic(op: ArithmeticOp, left: &Vals, right: &Vals) -> Result<Vals, ArrowError> {
    let only_ints = |v: &Vals| v.double.is_none();
    if op != ArithmeticOp::Div && only_ints(left) && only_ints(right) {
        let (Some(a), Some(b)) = (&left.int, &right.int) else { return Ok(Vals::nulls(left.len)) };
        return Ok(Vals::of_ints(
            a.iter().zip(b.iter()).map(|(a, b)| a.zip(b).and_then(|(a, b)| int(op, a, b))).collect(),
        ));
    }
    if op == ArithmeticOp::Div || (left.int.is_none() || right.int.is_none()) {
        let rows = (0..left.len).map(|row| left.number(row).zip(right.number(row)).and_then(|(a, b)| double(op, a, b)));
        return Ok(Vals::of_doubles(rows.collect()));
    }
    // Both types on both sides: a row of two ints stays int.
    let (mut ints, mut doubles) = (Vec::with_capacity(left.len), Vec::with_capacity(left.len));
    for row in 0..left.len {
        let whole = |v: &Vals| v.int.as_ref().filter(|a| a.is_valid(row)).map(|a| a.value(row));
        match (whole(left), whole(right)) {
            (Some(a), Some(b)) => {
                ints.push(int(op, a, b));
                doubles.push(None);
            }
            _ => {
                ints.push(None);
                doubles.push(left.number(row).zip(right.number(row)).and_then(|(a, b)| double(op, a, b)));
            }
        }
    }
    Vals::join(&Vals::of_ints(Int64Array::from(ints)), &Vals::of_doubles(Float64Array::from(doubles)))
}

fn int(op: ArithmeticOp, a: i64, b: i64) -> Option<i64> {
    match op {
        ArithmeticOp::Add => a.checked_add(b),
        ArithmeticOp::Sub => a.checked_sub(b),
        ArithmeticOp::Mul => a.checked_mul(b),
        ArithmeticOp::Rem => a.checked_rem(b),
        ArithmeticOp::Div => None,
    }
}

fn double(op: ArithmeticOp, a: f64, b: f64) -> Option<f64> {
    let result = match op {
        ArithmeticOp::Add => a + b,
        ArithmeticOp::Sub => a - b,
        ArithmeticOp::Mul => a * b,
        ArithmeticOp::Div if b == 0.0 => return None,
        ArithmeticOp::Div => a / b,
        ArithmeticOp::Rem if b == 0.0 => return None,
        ArithmeticOp::Rem => a % b,
    };
    finite_from(result, a.is_finite() && b.is_finite())
}

/// A result that is not finite though its operands were is an overflow or impossible: missing.
pub(crate) fn finite_from(result: f64, operands_finite: bool) -> Option<f64> {
    (result.is_finite() || !operands_finite).then_some(result)
}

/// `-x`
pub(crate) fn negate(vals: &Vals) -> Result<Vals, ArrowError> {
    map_numbers(vals, i64::checked_neg, |d| Some(-d))
}

/// Another number for each; what is no number is missing.
pub(crate) fn map_numbers(
    vals: &Vals,
    int: impl Fn(i64) -> Option<i64>,
    double: impl Fn(f64) -> Option<f64>,
) -> Result<Vals, ArrowError> {
    let mut out = Vals::nulls(vals.len);
    if let Some(a) = &vals.int {
        out.int = Some(a.iter().map(|v| v.and_then(&int)).collect());
    }
    if let Some(a) = &vals.double {
        let mapped = a.iter().map(|v| v.and_then(|v| double(v).and_then(|r| finite_from(r, v.is_finite()))));
        out.double = Some(mapped.collect());
    }
    Ok(out)
}

/// A double for each number.
pub(crate) fn map_doubles(vals: &Vals, f: impl Fn(f64) -> f64) -> Vals {
    let rows = (0..vals.len).map(|row| vals.number(row).and_then(|v| finite_from(f(v), v.is_finite())));
    Vals::of_doubles(rows.collect())
}

/// The multiple of `width` at or below each int; missing where the width is not above 0, and where it would overflow.
pub(crate) fn bins(ints: &Int64Array, width: i64) -> Int64Array {
    if width <= 0 {
        return Int64Array::new_null(ints.len());
    }
    let mut lost = Vec::new();
    // Neighbours are mostly in one bin: a comparison instead of a division.
    let mut last = ints.values().first().map_or(0, |first| first.div_euclid(width).checked_mul(width).unwrap_or(0));
    let of = |(row, value): (usize, &i64)| {
        if (0..width).contains(&value.wrapping_sub(last)) && *value >= last {
            return last;
        }
        match value.div_euclid(width).checked_mul(width) {
            Some(bin) => last = bin,
            None => {
                lost.push(row);
                return 0;
            }
        }
        last
    };
    let bins: Vec<i64> = ints.values().iter().enumerate().map(of).collect();
    let nulls = match (ints.nulls(), lost.is_empty()) {
        (nulls, true) => nulls.cloned(),
        (nulls, false) => {
            let mut there: Vec<bool> = (0..ints.len()).map(|row| nulls.is_none_or(|n| n.is_valid(row))).collect();
            lost.iter().for_each(|row| there[*row] = false);
            Some(NullBuffer::from(there))
        }
    };
    Int64Array::new(bins.into(), nulls)
}

/// The multiple of `width` at or below each number; missing where the width is not above 0.
pub(crate) fn bucket(vals: &Vals, widths: &Vals) -> Result<Vals, ArrowError> {
    let whole_width = |row: usize| widths.int.as_ref().filter(|a| a.is_valid(row)).map(|a| a.value(row));
    let mut out = Vals::nulls(vals.len);
    if let (Some(a), true) = (&vals.int, widths.int.is_some()) {
        let of = |row: usize| {
            let width = whole_width(row).filter(|w| *w > 0)?;
            a.value(row).div_euclid(width).checked_mul(width)
        };
        out.int = Some((0..vals.len).map(|row| a.is_valid(row).then(|| of(row)).flatten()).collect());
    }
    if vals.double.is_some() || widths.double.is_some() {
        let of = |row: usize| {
            // A row of two ints has its bucket already.
            if vals.int.as_ref().is_some_and(|a| a.is_valid(row)) && whole_width(row).is_some() {
                return None;
            }
            let (value, width) = vals.number(row).zip(widths.number(row))?;
            (width > 0.0).then(|| (value / width).floor() * width).and_then(|r| finite_from(r, value.is_finite()))
        };
        out.double = Some((0..vals.len).map(of).collect());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn odd_int() -> impl Strategy<Value = i64> {
        prop_oneof![any::<i64>(), -40i64..40, Just(i64::MIN), Just(i64::MAX), i64::MAX - 40..i64::MAX]
    }

    proptest! {
        #[test]
        fn bins_of_one_width_are_buckets_of_that_width(
            ints in prop::collection::vec(prop::option::of(odd_int()), 0..30),
            width in prop_oneof![odd_int(), 1i64..9],
        ) {
            let ints = Int64Array::from(ints);
            let widths = Vals::of_ints(Int64Array::from_value(width, ints.len()));
            let expected = bucket(&Vals::of_ints(ints.clone()), &widths).unwrap();
            prop_assert_eq!(bins(&ints, width), expected.int.unwrap());
        }
    }
}
