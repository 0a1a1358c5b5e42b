//! Numbers in as few bytes as they need, seven bits in each, the lowest first; a set highest bit says that more follow.
//!
//! The encoding is LEB128, as in DWARF 5, section 7.6. Sketches and the states of groups are written with it.

/// Appends a number: 1 to 10 bytes.
pub fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads what [`put`] wrote, from the front of `bytes`, which begins behind it then; `None` where that is no number of 64 bits.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        n |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(numbers in proptest::collection::vec(prop_oneof![any::<u64>(), 0u64..300], 0..20)) {
            let mut bytes = Vec::new();
            numbers.iter().for_each(|n| put(&mut bytes, *n));
            let mut rest = &bytes[..];
            for n in numbers {
                prop_assert_eq!(take(&mut rest), Some(n));
            }
            prop_assert_eq!((rest.len(), take(&mut rest)), (0, None));
        }
    }

    #[test]
    fn what_is_no_number_of_64_bits_is_refused() {
        let most = [&[0xff; 9][..], &[1]].concat();
        assert_eq!(take(&mut &most[..]), Some(u64::MAX));
        for bad in [&[0x80][..], &[0xff; 9], &[0xff; 11], &[&[0xff; 9][..], &[2]].concat()] {
            assert_eq!(take(&mut &bad[..]), None, "{bad:?}");
        }
    }
}
