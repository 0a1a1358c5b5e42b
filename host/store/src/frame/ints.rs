//! Integers with as few bytes each as their range needs.
//!
//! `base` is subtracted and what remains takes `width` bytes; for ascending numbers (times, parents) the same is done with
//! the differences. zstd then finds what repeats. Widths are whole bytes: packing bits would hide repetition from zstd.

use arrow::buffer::BooleanBuffer;

use super::wire::{Put as _, Take};
use crate::error::Damage;

const DIRECT: u8 = 0;
const DELTA: u8 = 1;

/// What stands in the directory beside the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IntForm {
    delta: bool,
    width: u8,
    /// First number (delta), or the smallest.
    base: i64,
    /// Smallest difference.
    step: i64,
}

impl IntForm {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        out.u8(if self.delta { DELTA } else { DIRECT } | self.width << 4);
        out.i64(self.base);
        if self.delta {
            out.i64(self.step);
        }
    }

    pub(super) fn take(take: &mut Take<'_>) -> Result<IntForm, Damage> {
        let code = take.u8()?;
        let (delta, width) = (code & 15, code >> 4);
        if delta > DELTA || width > 8 {
            return Err(Damage::Bounds("form of a number"));
        }
        let base = take.i64()?;
        let step = if delta == DELTA { take.i64()? } else { 0 };
        Ok(IntForm { delta: delta == DELTA, width, base, step })
    }

    /// Bytes of `count` numbers.
    pub(super) fn len(self, count: usize) -> usize {
        usize::from(self.width) * if self.delta { count.saturating_sub(1) } else { count }
    }
}

/// Bytes that hold every number from 0 to `n`.
fn width_of(n: u64) -> u8 {
    (64 - n.leading_zeros()).div_ceil(8) as u8
}

/// Appends the numbers to `out`; also gives the smallest and the largest, where there is any.
pub(super) fn encode(numbers: &[i64], out: &mut Vec<u8>) -> (IntForm, Option<(i64, i64)>) {
    let Some(&first) = numbers.first() else { return (IntForm { delta: false, width: 0, base: 0, step: 0 }, None) };
    let (min, max) = numbers.iter().fold((first, first), |(min, max), &n| (min.min(n), max.max(n)));
    let direct = width_of(max.wrapping_sub(min) as u64);
    let form = if let Some((step, width)) = narrower(numbers, direct) {
        pack(steps(numbers).map(|n| n.wrapping_sub(step) as u64), width, out);
        IntForm { delta: true, width, base: first, step }
    } else {
        pack(numbers.iter().map(|n| n.wrapping_sub(min) as u64), direct, out);
        IntForm { delta: false, width: direct, base: min, step: 0 }
    };
    (form, Some((min, max)))
}

/// Differences of two int64 wrap; the range of wrapped ones may still be narrow, and reading wraps back.
fn steps(numbers: &[i64]) -> impl Iterator<Item = i64> {
    numbers.iter().zip(numbers.get(1..).unwrap_or_default()).map(|(a, b)| b.wrapping_sub(*a))
}

/// The smallest difference, and the bytes of what is left of each, where these are fewer than `direct`.
fn narrower(numbers: &[i64], direct: u8) -> Option<(i64, u8)> {
    let first = steps(numbers).next().filter(|_| direct > 0)?;
    if direct == 1 {
        // Less than a byte are none: one look tells mostly, for keys of dictionaries as for small numbers.
        return steps(numbers).all(|step| step == first).then_some((first, 0));
    }
    let (min, max) = steps(numbers).fold((first, first), |(min, max), n| (min.min(n), max.max(n)));
    Some((min, width_of(max.wrapping_sub(min) as u64))).filter(|(_, width)| *width < direct)
}

/// Appends `width` low bytes of each.
fn pack(numbers: impl Iterator<Item = u64>, width: u8, out: &mut Vec<u8>) {
    out.reserve(numbers.size_hint().0 * usize::from(width));
    match width {
        0 => {}
        1 => out.extend(numbers.map(|n| n as u8)),
        2 => numbers.for_each(|n| out.extend_from_slice(&(n as u16).to_le_bytes())),
        4 => numbers.for_each(|n| out.extend_from_slice(&(n as u32).to_le_bytes())),
        8 => numbers.for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
        _ => numbers.for_each(|n| out.extend_from_slice(&n.to_le_bytes()[..usize::from(width)])),
    }
}

/// What numbers are decoded to.
pub(super) trait Number: Copy + Default {
    /// The numbers of the type.
    const RANGE: (i64, i64);

    /// The number, which is in the range.
    fn of(number: i64) -> Self;
}

impl Number for i64 {
    const RANGE: (i64, i64) = (i64::MIN, i64::MAX);

    fn of(number: i64) -> i64 {
        number
    }
}

impl Number for i32 {
    const RANGE: (i64, i64) = (i32::MIN as i64, i32::MAX as i64);

    fn of(number: i64) -> i32 {
        number as i32
    }
}

impl Number for u32 {
    const RANGE: (i64, i64) = (0, u32::MAX as i64);

    fn of(number: i64) -> u32 {
        number as u32
    }
}

impl Number for u8 {
    const RANGE: (i64, i64) = (0, u8::MAX as i64);

    fn of(number: i64) -> u8 {
        number as u8
    }
}

/// `count` numbers. `bytes` must have [`IntForm::len`] bytes.
pub(super) fn decode<T: Number>(form: IntForm, count: usize, bytes: &[u8]) -> Result<Vec<T>, Damage> {
    if bytes.len() != form.len(count) {
        return Err(Damage::Bounds("length of numbers"));
    }
    let (min, max) = T::RANGE;
    // Whether any bytes give numbers of the type: then none is looked at for it.
    let widest = if form.width == 8 { u64::MAX } else { (1 << (8 * u32::from(form.width))) - 1 };
    let fits =
        form.base >= min && i64::try_from(widest).is_ok_and(|n| form.base.checked_add(n).is_some_and(|n| n <= max));
    let every = (min, max) == i64::RANGE;
    if !form.delta && (fits || every) {
        return Ok(if form.width == 0 {
            vec![T::of(form.base); count]
        } else {
            unpacked(bytes, form.width, |n| T::of(form.base.wrapping_add(n as i64)))
        });
    }
    let numbers = if form.delta { summed(form, count, bytes) } else { decode::<i64>(form, count, bytes)? };
    let narrow = |n: i64| if n < min || n > max { Err(Damage::Bounds("number")) } else { Ok(T::of(n)) };
    numbers.into_iter().map(narrow).collect()
}

/// Which of `count` numbers are `number`, as their bytes tell; `None` where these are differences.
pub(super) fn equal(form: IntForm, count: usize, bytes: &[u8], number: i64) -> Result<Option<BooleanBuffer>, Damage> {
    fn of<const WIDTH: usize>(bytes: &[u8], packed: u64) -> BooleanBuffer {
        let (numbers, _) = bytes.as_chunks::<WIDTH>();
        let wanted = packed.to_le_bytes();
        let wanted: [u8; WIDTH] = std::array::from_fn(|i| wanted[i]);
        BooleanBuffer::collect_bool(numbers.len(), |i| numbers[i] == wanted)
    }
    if form.delta {
        return Ok(None);
    }
    if bytes.len() != form.len(count) {
        return Err(Damage::Bounds("length of numbers"));
    }
    let packed = number.wrapping_sub(form.base) as u64;
    if width_of(packed) > form.width {
        return Ok(Some(BooleanBuffer::new_unset(count)));
    }
    Ok(Some(match form.width {
        0 => BooleanBuffer::new_set(count),
        1 => of::<1>(bytes, packed),
        2 => of::<2>(bytes, packed),
        3 => of::<3>(bytes, packed),
        4 => of::<4>(bytes, packed),
        5 => of::<5>(bytes, packed),
        6 => of::<6>(bytes, packed),
        7 => of::<7>(bytes, packed),
        _ => of::<8>(bytes, packed),
    }))
}

/// Numbers out of the differences of each to the one before.
fn summed(form: IntForm, count: usize, bytes: &[u8]) -> Vec<i64> {
    let mut current = form.base;
    let mut next = |n: u64| {
        current = current.wrapping_add(form.step).wrapping_add(n as i64);
        current
    };
    let mut numbers = if form.width == 0 {
        (1..count).map(|_| next(0)).collect::<Vec<_>>()
    } else {
        unpacked(bytes, form.width, next)
    };
    if count > 0 {
        numbers.insert(0, form.base);
    }
    numbers
}

/// What numbers of so many bytes each become.
fn unpacked<T>(bytes: &[u8], width: u8, each: impl FnMut(u64) -> T) -> Vec<T> {
    // The compiler knows the width of each: variable ones take several times as long.
    fn of<const WIDTH: usize, T>(bytes: &[u8], mut each: impl FnMut(u64) -> T) -> Vec<T> {
        let number = |chunk: &[u8; WIDTH]| {
            let mut eight = [0; 8];
            eight[..WIDTH].copy_from_slice(chunk);
            each(u64::from_le_bytes(eight))
        };
        bytes.as_chunks::<WIDTH>().0.iter().map(number).collect()
    }
    match width {
        0 => Vec::new(),
        1 => of::<1, T>(bytes, each),
        2 => of::<2, T>(bytes, each),
        3 => of::<3, T>(bytes, each),
        4 => of::<4, T>(bytes, each),
        5 => of::<5, T>(bytes, each),
        6 => of::<6, T>(bytes, each),
        7 => of::<7, T>(bytes, each),
        _ => of::<8, T>(bytes, each),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(numbers: &[i64]) -> usize {
        let mut bytes = Vec::new();
        let (form, range) = encode(numbers, &mut bytes);
        assert_eq!(range, numbers.iter().min().map(|min| (*min, *numbers.iter().max().unwrap())));
        let mut stored = Vec::new();
        form.put(&mut stored);
        let mut take = Take::new(&stored, "test");
        assert_eq!(IntForm::take(&mut take).unwrap(), form);
        assert_eq!(decode::<i64>(form, numbers.len(), &bytes).unwrap(), numbers, "{form:?}");
        for number in numbers.iter().take(8).flat_map(|n| [*n, n.wrapping_add(1)]) {
            if let Some(found) = equal(form, numbers.len(), &bytes, number).unwrap() {
                assert!(found.iter().eq(numbers.iter().map(|n| *n == number)), "{form:?} {number}");
            }
        }
        // A narrower type holds them all, or damage is told.
        let narrow: Result<Vec<u8>, _> = numbers.iter().map(|n| u8::try_from(*n)).collect();
        assert_eq!(decode::<u8>(form, numbers.len(), &bytes).ok(), narrow.ok(), "{form:?}");
        let narrow: Result<Vec<i32>, _> = numbers.iter().map(|n| i32::try_from(*n)).collect();
        assert_eq!(decode::<i32>(form, numbers.len(), &bytes).ok(), narrow.ok(), "{form:?}");
        bytes.len()
    }

    #[test]
    fn extremes_read_back_and_narrow_ranges_are_small() {
        check(&[]);
        assert_eq!(check(&[i64::MIN]), 0);
        assert_eq!(check(&[7; 1000]), 0);
        check(&[i64::MIN, i64::MAX, i64::MIN, 0, -1]);
        assert_eq!(check(&(0..1000).collect::<Vec<_>>()), 0);
        assert_eq!(check(&(0..1000).map(|i| 1_700_000_000_000_000_000 + i * 1_000 + i % 3).collect::<Vec<_>>()), 999);
        assert_eq!(check(&(0..1000).map(|i| -200 + i % 200).collect::<Vec<_>>()), 1000);
    }

    proptest! {
        #[test]
        fn any_numbers_read_back(base in any::<i64>(), bits in 0u32..64, raw in proptest::collection::vec(any::<i64>(), 0..40)) {
            check(&raw.iter().map(|n| base.wrapping_add(n >> bits)).collect::<Vec<_>>());
            check(&raw);
        }
    }
}
