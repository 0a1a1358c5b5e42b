//! What a number says, exactly: JSON's grammar, integers in any spelling, doubles.

/// Why a number is no integer of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotInteger {
    /// Something is left behind the decimal point.
    Fraction,
    /// Beyond 64 bits.
    Range,
}

/// An integer as sign and magnitude; a negative zero is a zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer {
    pub(super) negative: bool,
    pub(super) magnitude: u64,
}

impl Integer {
    /// The value as a signed integer.
    #[inline]
    pub(super) fn signed(self) -> Option<i64> {
        match self.negative {
            false => i64::try_from(self.magnitude).ok(),
            true => 0i64.checked_sub_unsigned(self.magnitude),
        }
    }

    /// The value as an unsigned integer.
    #[inline]
    pub(super) fn unsigned(self) -> Option<u64> {
        (!self.negative).then_some(self.magnitude)
    }
}

/// Bytes of the JSON number that `bytes` begin with; 0 where there is none.
#[inline]
pub(super) fn prefix(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let start = usize::from(bytes.first() == Some(&b'-'));
    let mut end = match bytes.get(start) {
        Some(b'0') => start + 1,
        Some(b'1'..=b'9') => start + 1 + digits(start + 1),
        _ => return 0,
    };
    if bytes.get(end) == Some(&b'.') {
        match digits(end + 1) {
            0 => return 0,
            n => end += 1 + n,
        }
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        match digits(end + 1 + sign) {
            0 => return 0,
            n => end += 1 + sign + n,
        }
    }
    end
}

/// An integer that is written as nothing but digits, and few enough.
#[inline]
pub(super) fn plain(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 19 || (bytes[0] == b'0' && bytes.len() > 1) {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| value * 10 + u64::from(digit))
    })
}

/// The value of a JSON number, if it is an integer: `5.0` and `1e3` are.
pub(super) fn integer(token: &[u8]) -> Result<Integer, NotInteger> {
    let (negative, token) = match token {
        [b'-', token @ ..] => (true, token),
        token => (false, token),
    };
    if let Some(magnitude) = plain(token) {
        return Ok(Integer { negative: negative && magnitude != 0, magnitude });
    }
    let exponent_at = token.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(token.len());
    let point_at = token[..exponent_at].iter().position(|b| *b == b'.').unwrap_or(exponent_at);
    let fraction = token[..exponent_at].get(point_at + 1..).unwrap_or_default();
    let digits = || token[..point_at].iter().chain(fraction).map(|b| b - b'0');
    let Some(first) = digits().position(|d| d != 0) else { return Ok(Integer { negative: false, magnitude: 0 }) };
    let total = point_at + fraction.len();
    let last = total - 1 - digits().rev().take_while(|d| *d == 0).count();
    // Zeros to append to the digits from first to last. All lengths are far below 2^63.
    let zeros = exponent(&token[exponent_at..]) - fraction.len() as i64 + (total - 1 - last) as i64;
    if zeros < 0 {
        return Err(NotInteger::Fraction);
    }
    if (last - first + 1) as i64 + zeros > 20 {
        return Err(NotInteger::Range);
    }
    let value = digits().skip(first).take(last - first + 1).chain((0..zeros).map(|_| 0));
    let value = value.fold(0u128, |value, digit| value * 10 + u128::from(digit));
    u64::try_from(value).map(|magnitude| Integer { negative, magnitude }).map_err(|_| NotInteger::Range)
}

/// The value behind `e`, as near as it matters; 0 where there is none.
fn exponent(text: &[u8]) -> i64 {
    const HUGE: i64 = 1 << 40;
    let (negative, digits) = match text {
        [_, b'-', digits @ ..] => (true, digits),
        [_, b'+', digits @ ..] | [_, digits @ ..] => (false, digits),
        [] => return 0,
    };
    let value = digits.iter().fold(0, |value: i64, b| (value * 10 + i64::from(b - b'0')).min(HUGE));
    if negative { -value } else { value }
}

/// The value of a JSON number as the nearest double; `None` where it is beyond every finite one.
pub(super) fn double(token: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(token).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_what_json_calls_numbers() {
        for good in
            ["0", "-0", "10", "0.0", "-1.50", "1e5", "1E+05", "0e0", "1.5e-10", "123456789012345678901234567890"]
        {
            assert_eq!(prefix(good.as_bytes()), good.len(), "{good}");
        }
        for (text, length) in
            [("01", 1), ("1.", 0), (".5", 0), ("+1", 0), ("-", 0), ("1e", 0), ("0x1", 1), ("1,2", 1), ("", 0)]
        {
            assert_eq!(prefix(text.as_bytes()), length, "{text}");
        }
    }

    #[test]
    fn integers_are_exact_in_any_spelling() {
        let signed = |text: &str| integer(text.as_bytes()).map(|i| i.signed());
        for (text, value) in [
            ("5.0", 5),
            ("1e3", 1_000),
            ("-1.5e1", -15),
            ("0.000", 0),
            ("-0", 0),
            ("-0.0e5", 0),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("9223372036854775807.000", i64::MAX),
            ("92233720368547758.07e2", i64::MAX),
            ("900719925474099300e-2", 9_007_199_254_740_993),
            ("0e99999999999999999999", 0),
            ("1.0e+18", 1_000_000_000_000_000_000),
        ] {
            assert_eq!(signed(text), Ok(Some(value)), "{text}");
        }
        assert_eq!(signed("9223372036854775808"), Ok(None));
        assert_eq!(signed("-9223372036854775809"), Ok(None));
        assert_eq!(integer(b"18446744073709551615").unwrap().unsigned(), Some(u64::MAX));
        assert_eq!(integer(b"-1").unwrap().unsigned(), None);
        assert_eq!(integer(b"1844674407370955161.6e1"), Err(NotInteger::Range));
        for beyond in ["1e20", "1e99999999999999999999", "123456789012345678901"] {
            assert_eq!(signed(beyond), Err(NotInteger::Range), "{beyond}");
        }
        for fraction in ["0.5", "1e-1", "1.0000000000000000000000000001", "1e-99999999999999999999"] {
            assert_eq!(signed(fraction), Err(NotInteger::Fraction), "{fraction}");
        }
        let long = format!("1{}e-100000", "0".repeat(100_000));
        assert_eq!(signed(&long), Ok(Some(1)));
    }

    proptest! {
        #[test]
        fn integers_read_as_they_are_written(value in any::<i64>(), zeros in 0usize..6) {
            let plain = value.to_string();
            prop_assert_eq!(integer(plain.as_bytes()).unwrap().signed(), Some(value));
            let pointed = format!("{value}.{}", "0".repeat(zeros + 1));
            prop_assert_eq!(integer(pointed.as_bytes()).unwrap().signed(), Some(value));
            let shifted = format!("{value}{}e-{zeros}", "0".repeat(zeros));
            prop_assert_eq!(integer(shifted.as_bytes()).unwrap().signed(), Some(value));
        }
    }

    #[test]
    fn doubles_are_the_nearest_and_finite() {
        assert_eq!(double(b"1e308"), Some(1e308));
        assert_eq!(double(b"4.9e-324"), Some(f64::from_bits(1)));
        assert_eq!(double(b"1e-400"), Some(0.0));
        assert!(double(b"-0").unwrap().is_sign_negative());
        assert_eq!(double(b"1e309"), None);
    }
}
