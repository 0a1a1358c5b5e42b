//! What a string says: escapes, hex and base64.

use super::fault::{Fault, Result};
use super::scan::Quoted;

/// Appends a string with its escapes resolved.
pub(super) fn unescape(string: Quoted<'_>, out: &mut Vec<u8>) -> Result<()> {
    let raw = string.raw;
    let mut at = 0;
    while let Some(plain) = memchr::memchr(b'\\', &raw[at..]) {
        out.extend_from_slice(&raw[at..at + plain]);
        at += plain;
        let fault = |expected| Fault::expected(expected, string.at + at);
        let (c, length) = match raw.get(at + 1) {
            Some(b'u') => unicode(&raw[at..]).map_err(fault)?,
            Some(&letter) => (simple(letter).ok_or_else(|| fault("an escape that JSON has"))?, 2),
            None => return Err(fault("an escape that JSON has")),
        };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        at += length;
    }
    out.extend_from_slice(&raw[at..]);
    Ok(())
}

fn simple(letter: u8) -> Option<char> {
    Some(match letter {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return None,
    })
}

/// The character of a `\uXXXX`, or of two that are a pair of surrogates, and their length.
fn unicode(escape: &[u8]) -> std::result::Result<(char, usize), &'static str> {
    let first = unit(escape).ok_or("four hex digits behind `\\u`")?;
    if let Some(c) = char::from_u32(first) {
        return Ok((c, 6));
    }
    let second = unit(&escape[6..]).filter(|second| first < 0xdc00 && (0xdc00..0xe000).contains(second));
    let pair = second.and_then(|second| char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)));
    pair.map(|c| (c, 12)).ok_or("a pair of surrogates, high before low")
}

fn unit(escape: &[u8]) -> Option<u32> {
    match *escape {
        [b'\\', b'u', a, b, c, d, ..] => {
            [a, b, c, d].into_iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
        }
        _ => None,
    }
}

/// Appends the bytes that the hex digits stand for; `None`, with nothing appended, where they are no hex.
#[inline]
pub(super) fn unhex(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let start = out.len();
    let mut wrong = 0;
    out.extend(pairs.iter().map(|[high, low]| {
        let (high, low) = (HEX[usize::from(*high)], HEX[usize::from(*low)]);
        wrong |= high | low;
        high << 4 | low
    }));
    if wrong > 15 {
        out.truncate(start);
        return None;
    }
    Some(())
}

const HEX: [u8; 256] = table(b"0123456789abcdef", b"0123456789ABCDEF");
const BASE64: [u8; 256] = table(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
);

/// The value of each byte that stands in either alphabet; 255 for the others.
const fn table(one: &[u8], other: &[u8]) -> [u8; 256] {
    let mut values = [255; 256];
    let mut i = 0;
    while i < one.len() {
        values[one[i] as usize] = i as u8;
        values[other[i] as usize] = i as u8;
        i += 1;
    }
    values
}

/// Appends the bytes of a base64 text, standard or URL-safe, padded or not. `None` where it is no such text; something may have
/// been appended then.
pub(super) fn unbase64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let text = match text {
        [content @ .., b'=', b'='] | [content @ .., b'='] if text.len().is_multiple_of(4) => content,
        content => content,
    };
    let value = |byte: u8| Some(u32::from(BASE64[usize::from(byte)])).filter(|v| *v < 64);
    let (groups, rest) = text.as_chunks::<4>();
    for [a, b, c, d] in groups {
        let bits = value(*a)? << 18 | value(*b)? << 12 | value(*c)? << 6 | value(*d)?;
        out.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    match *rest {
        [] => {}
        [a, b] => out.push((value(a)? << 2 | value(b)? >> 4) as u8),
        [a, b, c] => {
            let bits = value(a)? << 10 | value(b)? << 4 | value(c)? >> 2;
            out.extend_from_slice(&bits.to_be_bytes()[2..]);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    fn unescaped(raw: &str) -> std::result::Result<String, usize> {
        let mut out = Vec::new();
        let string = Quoted { raw: raw.as_bytes(), at: 0, escaped: true };
        unescape(string, &mut out).map(|()| String::from_utf8(out).unwrap()).map_err(|fault| fault.at)
    }

    #[test]
    fn escapes_are_resolved_and_broken_ones_refused() {
        assert_eq!(unescaped(r#"\"\\\/\b\f\n\r\t"#), Ok("\"\\/\u{8}\u{c}\n\r\t".into()));
        assert_eq!(unescaped(r"x\u0000\u00e9\u20AC\ud83d\ude00y"), Ok("x\0é€😀y".into()));
        for (broken, at) in [
            (r"ab\x", 2),
            (r"\u12", 0),
            (r"\u12g4", 0),
            (r"\u+123", 0),
            (r"a\ud800", 1),
            (r"\ude00\ud83d", 0),
            (r"\ud83d\ud83d", 0),
            (r"\ud83dx\ude00", 0),
        ] {
            assert_eq!(unescaped(broken), Err(at), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn base64_of_either_alphabet_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
                let mut out = Vec::new();
                prop_assert_eq!(unbase64(engine.encode(&bytes).as_bytes(), &mut out), Some(()));
                prop_assert_eq!(&out, &bytes);
            }
        }

        #[test]
        fn hex_of_either_case_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..40), upper: bool) {
            let text = if upper { hex::encode_upper(&bytes) } else { hex::encode(&bytes) };
            let mut out = Vec::new();
            prop_assert_eq!(unhex(text.as_bytes(), &mut out), Some(()));
            prop_assert_eq!(out, bytes);
        }
    }

    #[test]
    fn what_is_neither_hex_nor_base64_is_none() {
        for text in ["a", "0x12", "abc", "zz", "ab cd=", "é"] {
            assert_eq!(unhex(text.as_bytes(), &mut Vec::new()), None, "{text}");
        }
        for text in ["a", "abcde", "ab=", "a===", "====", "ab c", "ab=c", "é"] {
            assert_eq!(unbase64(text.as_bytes(), &mut Vec::new()), None, "{text}");
        }
    }
}
