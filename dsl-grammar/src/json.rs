//! A small JSON reader that keeps what a query needs to know: where each value stands, every key of an object also where one
//! is repeated, and whether a number was written whole.
//!
//! `serde_json` drops the place and all but the last of repeated keys, and turns whole numbers beyond 64 bits to doubles.

use crate::error::{DslError, code};
use crate::lexis::short;
use crate::position::Lines;
use crate::stack::with_room;
use crate::{MAX_LEVELS, bounds};

/// Deepest nesting of arrays and objects: an operator of the tree form is an object with an array, and the document and
/// its clauses stand around it. Reading recurses, so this bounds the stack.
const NESTING_MAX: usize = 2 * MAX_LEVELS + 8;

/// A value and the byte at which it begins.
#[derive(Debug)]
pub(crate) struct Json {
    pub(crate) at: usize,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Array(Vec<Json>),
    /// In the order written; keys are distinct.
    Object(Vec<Entry>),
}

/// A key of an object, the byte at which it begins, and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: usize,
    pub(crate) value: Json,
}

impl Json {
    /// The kind in words.
    pub(crate) fn words(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "a truth value",
            Kind::Int(_) | Kind::Float(_) => "a number",
            Kind::Text(_) => "a string",
            Kind::Array(_) => "an array",
            Kind::Object(_) => "an object",
        }
    }
}

/// Reads a document. Errors have their place but no snippet.
pub(crate) fn parse(text: &str) -> Result<Json, DslError> {
    bounds::size(text.len())?;
    let mut reader = Reader { text, at: 0 };
    reader.skip();
    let value = reader.value(0)?;
    reader.skip();
    match reader.peek() {
        None => Ok(value),
        Some(found) => {
            Err(reader.error(format!("expected the end of the document, found `{}`", short(&found.to_string()))))
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip(&mut self) {
        self.at += self.rest().bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
    }

    fn error(&self, message: String) -> DslError {
        self.error_at(self.at, message)
    }

    fn error_at(&self, at: usize, message: String) -> DslError {
        DslError::new(code::JSON, message).at(Lines::new(self.text).at(at), 1)
    }

    fn expected(&self, what: &str) -> DslError {
        match self.peek() {
            None => self.error(format!("expected {what}, found the end of the document")),
            Some('\'') => {
                let error = self.error(format!("expected {what}, found `'`"));
                error.hint("in JSON strings stand in double quotes; single quotes belong inside: `\"name = 'x'\"`")
            }
            Some(found) => self.error(format!("expected {what}, found `{}`", short(&found.to_string()))),
        }
    }

    /// Takes `sign` and the space after it, if it is next.
    fn take(&mut self, sign: char) -> bool {
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len_utf8();
            self.skip();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Json, DslError> {
        let at = self.at;
        if depth > NESTING_MAX {
            return Err(bounds::too_deep(NESTING_MAX, "JSON").at(Lines::new(self.text).at(at), 1));
        }
        let kind = match self.peek() {
            Some('{') => with_room(|| self.object(depth))?,
            Some('[') => with_room(|| self.array(depth))?,
            Some('"') => Kind::Text(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            Some('a'..='z' | 'A'..='Z') => {
                let length = self.rest().bytes().take_while(u8::is_ascii_alphanumeric).count();
                let kind = match &self.rest()[..length] {
                    "null" => Kind::Null,
                    "true" => Kind::Bool(true),
                    "false" => Kind::Bool(false),
                    word => return Err(self.error(format!("expected a JSON value, found `{}`", short(word)))),
                };
                self.at += length;
                kind
            }
            _ => return Err(self.expected("a JSON value")),
        };
        Ok(Json { at, kind })
    }

    fn array(&mut self, depth: usize) -> Result<Kind, DslError> {
        self.take('[');
        let mut members = Vec::new();
        if self.take(']') {
            return Ok(Kind::Array(members));
        }
        loop {
            members.push(self.value(depth + 1)?);
            self.skip();
            if self.take(']') {
                return Ok(Kind::Array(members));
            }
            if !self.take(',') {
                return Err(self.expected("`,` or `]`"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Kind, DslError> {
        self.take('{');
        let mut entries: Vec<Entry> = Vec::new();
        // Beside the list, so that a document of thousands of keys is not compared pair by pair.
        let mut known = std::collections::BTreeSet::new();
        if self.take('}') {
            return Ok(Kind::Object(entries));
        }
        loop {
            let at = self.at;
            if self.peek() != Some('"') {
                return Err(self.expected("a key in double quotes"));
            }
            let key = self.string()?;
            if !known.insert(key.clone()) {
                let message = format!("the key `{}` stands twice in one object", short(&key));
                return Err(
                    DslError::new(code::DUPLICATE, message).at(Lines::new(self.text).at(at), key.chars().count() + 2)
                );
            }
            self.skip();
            if !self.take(':') {
                return Err(self.expected("`:`"));
            }
            let value = self.value(depth + 1)?;
            entries.push(Entry { key, at, value });
            self.skip();
            if self.take('}') {
                return Ok(Kind::Object(entries));
            }
            if !self.take(',') {
                return Err(self.expected("`,` or `}`"));
            }
        }
    }

    fn number(&mut self) -> Result<Kind, DslError> {
        let start = self.at;
        let part = |b: &u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let length = self.rest().bytes().take_while(part).count();
        let token = &self.rest()[..length];
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (mantissa, exponent) = token.split_once(['e', 'E']).map_or((token, None), |(m, e)| (m, Some(e)));
        let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
        let whole = whole.strip_prefix('-').unwrap_or(whole);
        let shaped = digits(whole)
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(digits)
            && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
        if !shaped {
            return Err(self.error(format!("`{}` is not a JSON number", short(token))));
        }
        self.at += length;
        let error = |message: String| DslError::new(code::LITERAL, message).at(Lines::new(self.text).at(start), length);
        if fraction.is_none() && exponent.is_none() {
            return token.parse().map(Kind::Int).map_err(|_| {
                let message =
                    format!("`{}` is beyond the whole numbers, which end at 9223372036854775807", short(token));
                error(message).hint("write it with `.0` for a double, or as a string for text")
            });
        }
        match token.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Kind::Float(value)),
            _ => Err(error(format!("`{}` is beyond the doubles, which end near 1.8e308", short(token)))),
        }
    }

    fn string(&mut self) -> Result<String, DslError> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let Some(c) = self.peek() else {
                return Err(self.error_at(start, "the string is not closed".into()));
            };
            match c {
                '"' => {
                    self.at += 1;
                    return Ok(out);
                }
                '\\' => out.push(self.escape()?),
                c if (c as u32) < 0x20 => {
                    let message = format!("unexpected control character U+{:04X} in a string", c as u32);
                    return Err(self.error(message).hint(format!("write it as \\u{:04x}", c as u32)));
                }
                c => {
                    self.at += c.len_utf8();
                    out.push(c);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, DslError> {
        let start = self.at;
        let escaped = self.rest().chars().nth(1);
        self.at += 1 + escaped.map_or(0, char::len_utf8);
        Ok(match escaped {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let high = self.unit(start)?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high).ok_or_else(|| self.lone(start));
                }
                if !self.rest().starts_with("\\u") {
                    return Err(self.lone(start));
                }
                self.at += 2;
                let low = self.unit(start)?;
                if !(0xdc00..0xe000).contains(&low) {
                    return Err(self.lone(start));
                }
                char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or_else(|| self.lone(start))?
            }
            _ => {
                let error = self.error_at(start, "this escape is not one of JSON".into());
                return Err(error.hint("a backslash inside of a JSON string is written `\\\\`"));
            }
        })
    }

    fn lone(&self, at: usize) -> DslError {
        self.error_at(at, "half of a surrogate pair is not a character".into())
    }

    /// Four hexadecimal digits.
    fn unit(&mut self, start: usize) -> Result<u32, DslError> {
        let hex = self.rest().get(..4).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(value) = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()) else {
            return Err(self.error_at(start, "expected four hexadecimal digits after `\\u`".into()));
        };
        self.at += 4;
        Ok(value)
    }
}
