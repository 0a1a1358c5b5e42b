//! JSON as RFC 8259 has it, read from front to back: tokens, and values that are stepped over.
//!
//! The body is known to be UTF-8. Not here: what a number or text says (`number`, `text`).

use super::fault::{Fault, Result};
use super::{number, text};

/// Levels of arrays and objects in a field that is stepped over: as many as there are bits to remember them by, and as many as
/// serde_json reads.
const SKIPPED_DEPTH_MAX: u32 = u128::BITS;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// A place in a body that moves forward.
pub(super) struct Cursor<'a> {
    input: &'a [u8],
    pub(super) at: usize,
}

/// A string between its quotes, as it stands in the body.
#[derive(Clone, Copy)]
pub(super) struct Quoted<'a> {
    pub(super) raw: &'a [u8],
    /// Where `raw` begins.
    pub(super) at: usize,
    pub(super) escaped: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(input: &'a [u8]) -> Cursor<'a> {
        Cursor { input, at: 0 }
    }

    /// What is not read yet.
    #[inline(always)]
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.input[self.at..]
    }

    /// The next byte that is not white space; it is not consumed.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> Option<u8> {
        match self.input.get(self.at) {
            Some(&byte) if byte > b' ' => Some(byte),
            _ => self.peek_past_space(),
        }
    }

    #[inline(never)]
    fn peek_past_space(&mut self) -> Option<u8> {
        while let Some(&byte) = self.input.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Consumes the byte if it comes next, white space aside.
    #[inline(always)]
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    #[inline(always)]
    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<()> {
        if self.eat(byte) { Ok(()) } else { Err(Fault::expected(expected, self.at)) }
    }

    /// Consumes `null` if it comes next.
    #[inline(always)]
    pub(super) fn eat_null(&mut self) -> Result<bool> {
        match self.peek() {
            Some(b'n') => self.literal(b"null", "a value").map(|()| true),
            _ => Ok(false),
        }
    }

    /// Consumes a word, of which the first letter was seen.
    pub(super) fn literal(&mut self, word: &[u8], expected: &'static str) -> Result<()> {
        if !self.rest().starts_with(word) {
            return Err(Fault::expected(expected, self.at));
        }
        self.at += word.len();
        Ok(())
    }

    /// Consumes a string; `expected` is what is said where there is none.
    #[inline]
    pub(super) fn string(&mut self, expected: &'static str) -> Result<Quoted<'a>> {
        self.expect(b'"', expected)?;
        self.string_content()
    }

    /// Consumes a string whose opening quote is consumed already.
    #[inline]
    pub(super) fn string_content(&mut self) -> Result<Quoted<'a>> {
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_prefix(self.rest());
            match self.input.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') if self.at + 1 < self.input.len() => {
                    escaped = true;
                    self.at += 2;
                }
                Some(b'\\') | None => return Err(Fault::expected("the end of a string", self.input.len())),
                Some(_) => return Err(Fault::expected("control characters in strings as escapes", self.at)),
            }
        }
        let raw = &self.input[start..self.at];
        self.at += 1;
        Ok(Quoted { raw, at: start, escaped })
    }

    /// Consumes a number and returns it as it stands.
    #[inline]
    pub(super) fn number(&mut self, expected: &'static str) -> Result<&'a [u8]> {
        let rest = self.rest();
        let length = number::prefix(rest);
        if length == 0 {
            return Err(Fault::expected(expected, self.at));
        }
        self.at += length;
        Ok(&rest[..length])
    }

    /// Consumes a value of any shape. It is checked to be JSON, and nothing else.
    pub(super) fn skip_value(&mut self) -> Result<()> {
        // Which of the open levels are objects; the innermost is the lowest bit.
        let (mut objects, mut depth) = (0u128, 0u32);
        loop {
            match self.peek() {
                Some(opening @ (b'{' | b'[')) => {
                    let object = opening == b'{';
                    if depth == SKIPPED_DEPTH_MAX {
                        return Err(Fault::expected("an unknown field of at most 128 levels", self.at));
                    }
                    self.at += 1;
                    if !self.eat(if object { b'}' } else { b']' }) {
                        objects = objects << 1 | u128::from(object);
                        depth += 1;
                        if object {
                            self.skip_name()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.skip_string("a value")?,
                Some(b't') => self.literal(b"true", "a value")?,
                Some(b'f') => self.literal(b"false", "a value")?,
                Some(b'n') => self.literal(b"null", "a value")?,
                _ => drop(self.number("a value")?),
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                if self.eat(b',') {
                    if object {
                        self.skip_name()?;
                    }
                    break;
                }
                match object {
                    true => self.expect(b'}', "`,` or `}`")?,
                    false => self.expect(b']', "`,` or `]`")?,
                }
                objects >>= 1;
                depth -= 1;
            }
        }
    }

    fn skip_name(&mut self) -> Result<()> {
        self.skip_string("a name in quotes")?;
        self.expect(b':', "`:`")
    }

    fn skip_string(&mut self, expected: &'static str) -> Result<()> {
        let string = self.string(expected)?;
        if string.escaped { text::unescape(string, &mut Vec::new()) } else { Ok(()) }
    }
}

/// How many bytes there are before the first quote, backslash or control character.
#[inline(always)]
fn plain_prefix(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let zero_bytes = |w: u64| w.wrapping_sub(ONES) & !w;
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        // A borrow can only mark bytes above one that is rightly marked: the lowest mark is always right.
        let marks = (zero_bytes(word ^ (ONES * 0x22)) | zero_bytes(word ^ (ONES * 0x5c)) | below_space) & HIGHS;
        if marks != 0 {
            return 8 * i + marks.trailing_zeros() as usize / 8;
        }
    }
    let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
    bytes.len() - rest.len() + plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_end_where_the_first_special_byte_is(
            bytes in proptest::collection::vec(prop_oneof![8 => 0x20u8.., 1 => any::<u8>()], 0..40),
        ) {
            let expected = bytes.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\').unwrap_or(bytes.len());
            prop_assert_eq!(plain_prefix(&bytes), expected);
        }
    }

    #[test]
    fn any_value_is_stepped_over_and_no_stack_grows() {
        let skip = |text: &str| {
            let mut cursor = Cursor::new(text.as_bytes());
            cursor.skip_value().map(|()| cursor.at).map_err(|fault| fault.at)
        };
        for text in ["{}", "[]", "[[],{}]", r#"{"a":[1,{"b":null}],"c":"\u00e9\""}"#, "-0.5e+10", "true", "\"\""] {
            assert_eq!(skip(text), Ok(text.len()), "{text}");
        }
        for (text, at) in [
            ("", 0),
            ("[1,]", 3),
            ("{\"a\"}", 4),
            ("{\"a\":1,}", 7),
            ("[1}", 2),
            ("tru", 0),
            ("\"\\x\"", 1),
            ("\"\\ud800\"", 1),
            ("\"a", 2),
            ("\"\\", 2),
        ] {
            assert_eq!(skip(text), Err(at), "{text}");
        }
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(skip(&nested(128)), Ok(256));
        assert_eq!(skip(&nested(129)), Err(128));
        assert_eq!(skip(&"[".repeat(10_000_000)), Err(128));
    }
}
