//! Parquet's hybrid of runs and packed bits: definition levels, and numbers of values.

use arrow::buffer::NullBuffer;

/// Appends the definition levels of rows: 1 where there is a value. Gives how many there are.
pub(super) fn levels(nulls: Option<&NullBuffer>, from: usize, to: usize, out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let there = match nulls {
        Some(nulls) => {
            let levels: Vec<u32> = nulls.inner().slice(from, to - from).iter().map(u32::from).collect();
            hybrid(&levels, 1, out);
            levels.iter().sum::<u32>() as usize
        }
        None => {
            run(1, to - from, 1, out);
            to - from
        }
    };
    let len = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
    there
}

/// Parquet's hybrid of runs and packed bits. Runs of eight and more are told as runs.
pub(super) fn hybrid(values: &[u32], bits: u8, out: &mut Vec<u8>) {
    let (mut packed_from, mut at) = (0, 0);
    while let Some(equal) = equal_four(&values[at..]) {
        let value = values[at + equal];
        let before = values[at..at + equal].iter().rev().take_while(|v| **v == value).count();
        let from = at + equal - before;
        let len = before + values[at + equal..].iter().take_while(|v| **v == value).count();
        // Packed values come in groups of eight: a run begins where a group ends.
        let odd = (from - packed_from) % 8;
        let lost = if odd == 0 { 0 } else { 8 - odd };
        at = from + len;
        if len >= lost + 8 {
            pack(&values[packed_from..from + lost], bits, out);
            run(value, len - lost, bits, out);
            packed_from = at;
        }
    }
    pack(&values[packed_from..], bits, out);
}

/// Where the first four equal values are, of each four: a run of eight and more has such.
fn equal_four(values: &[u32]) -> Option<usize> {
    values.as_chunks::<4>().0.iter().position(|[a, b, c, d]| a == b && b == c && c == d).map(|four| four * 4)
}

fn run(value: u32, len: usize, bits: u8, out: &mut Vec<u8>) {
    if len == 0 {
        return;
    }
    varint((len as u64) << 1, out);
    out.extend_from_slice(&value.to_le_bytes()[..usize::from(bits).div_ceil(8)]);
}

fn pack(values: &[u32], bits: u8, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(8);
    varint((groups as u64) << 1 | 1, out);
    let end = out.len() + groups * usize::from(bits);
    let (mut word, mut filled) = (0u64, 0u32);
    out.reserve(end - out.len() + 8);
    for &value in values {
        word |= u64::from(value) << filled;
        filled += u32::from(bits);
        if filled >= 32 {
            out.extend_from_slice(&(word as u32).to_le_bytes());
            word >>= 32;
            filled -= 32;
        }
    }
    out.extend_from_slice(&(word as u32).to_le_bytes());
    out.resize(end, 0);
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The values of a hybrid, and how many of them are told as runs.
    fn read(mut bytes: &[u8], bits: u8, count: usize) -> (Vec<u32>, usize) {
        let (mut values, mut in_runs) = (Vec::new(), 0);
        while values.len() < count {
            let head = prism_model::varint::take(&mut bytes).unwrap();
            let (is_packed, n) = (head & 1 == 1, (head >> 1) as usize);
            let len = if is_packed { n * usize::from(bits) } else { usize::from(bits).div_ceil(8) };
            let (own, rest) = bytes.split_at(len);
            bytes = rest;
            let bit = |at: usize| u32::from(own[at / 8] >> (at % 8) & 1);
            let value = |from: usize| (0..usize::from(bits)).map(|i| bit(from + i) << i).sum::<u32>();
            if is_packed {
                values.extend((0..n * 8).map(|i| value(i * usize::from(bits))));
            } else {
                values.extend(std::iter::repeat_n(value(0), n));
                in_runs += n;
            }
        }
        assert!(bytes.is_empty());
        values.truncate(count);
        (values, in_runs)
    }

    proptest! {
        #[test]
        fn any_values_read_back_and_long_runs_are_told_as_runs(
            bits in 0u8..=32,
            of in proptest::collection::vec((any::<u32>(), prop_oneof![3 => 1usize..4, 2 => 5usize..12, 1 => 13usize..200]), 0..40),
        ) {
            let mask = if bits == 32 { u32::MAX } else { (1 << bits) - 1 };
            let values: Vec<u32> =
                of.iter().flat_map(|(value, times)| std::iter::repeat_n(value & mask, *times)).collect();
            let mut bytes = Vec::new();
            hybrid(&values, bits, &mut bytes);
            let (back, in_runs) = read(&bytes, bits, values.len());
            prop_assert_eq!(&back, &values);
            // Of a run at most the first seven are packed with what is before it.
            let long: usize = values.chunk_by(|a, b| a == b).map(|run| run.len()).filter(|len| *len >= 15).map(|len| len - 7).sum();
            prop_assert!(in_runs >= long, "{} of {}", in_runs, long);
        }

        #[test]
        fn levels_tell_what_is_there(of in proptest::collection::vec(any::<bool>(), 1..100), from in 0usize..100) {
            let from = from.min(of.len());
            let nulls = NullBuffer::from(of.clone());
            let mut bytes = Vec::new();
            let there = levels(Some(&nulls), from, of.len(), &mut bytes);
            prop_assert_eq!(there, of[from..].iter().filter(|there| **there).count());
            let (len, rest) = bytes.split_first_chunk::<4>().unwrap();
            prop_assert_eq!(u32::from_le_bytes(*len) as usize, rest.len());
            let expected: Vec<u32> = of[from..].iter().map(|there| u32::from(*there)).collect();
            prop_assert_eq!(read(rest, 1, expected.len()).0, expected);
        }
    }
}
