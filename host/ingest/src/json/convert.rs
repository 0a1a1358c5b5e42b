//! Messages and fields: from the JSON as it is scanned to protobuf, appended as it comes.
//!
//! The length of a message stands before its content, which is not known yet: a few bytes are kept free for it, and the content
//! is moved where they do not suffice.

use prism_model::Limits;

use super::fault::{Fault, JsonError, Result, What};
use super::messages::{Field, Kind, Message};
use super::number::{self, Integer};
use super::scan::{Cursor, Quoted};
use super::text;

/// Below so many messages, lengths get the five bytes that any of them needs: were they to be moved, each level would move all
/// that is inside of it again. What clients send is hardly ever as deep.
const MOVED_LEVELS_MAX: usize = 12;

/// Bytes of a length that any message within 32 GiB fits.
const LENGTH_BYTES_MAX: usize = 5;

/// What stands for an id that is not hex: as an id of this length is never valid, it is refused as one of a wrong length.
const NO_ID: &[u8] = &[0];

/// Converts a whole request. `recorded` takes what OTLP forbids and other tools write to files: enums by name, ids in base64.
pub(super) fn request(
    message: &'static Message,
    body: &[u8],
    limits: &Limits,
    recorded: bool,
) -> std::result::Result<Vec<u8>, JsonError> {
    let mut converter = Converter {
        cursor: Cursor::new(body),
        // Mostly it takes less than half; pages that are not touched cost nothing.
        out: Vec::with_capacity(body.len()),
        scratch: Vec::new(),
        depth: limits.value_depth_max,
        level: 0,
        recorded,
        bytes_max: limits.body_bytes_max,
    };
    match converter.request(message, body) {
        Ok(()) => Ok(converter.out),
        Err(fault) => Err(fault.into_error(message.name, body, limits.body_bytes_max, limits.value_depth_max)),
    }
}

struct Converter<'a> {
    cursor: Cursor<'a>,
    out: Vec<u8>,
    /// Where a string with escapes is resolved, if it is not to be written as it is.
    scratch: Vec<u8>,
    /// Levels of arrays and maps that the value at hand may still have.
    depth: usize,
    /// Messages around the one at hand.
    level: usize,
    /// Whether enums may be names and ids base64.
    recorded: bool,
    bytes_max: usize,
}

impl<'a> Converter<'a> {
    fn request(&mut self, message: &'static Message, body: &'a [u8]) -> Result<()> {
        if let Err(e) = std::str::from_utf8(body) {
            return Err(Fault::expected("UTF-8", e.valid_up_to()));
        }
        self.content(message)?;
        match self.cursor.peek() {
            None => Ok(()),
            Some(_) => Err(Fault::expected("the end of the body", self.cursor.at)),
        }
    }

    /// The fields of a message from `{` to `}`.
    fn content(&mut self, message: &'static Message) -> Result<()> {
        self.cursor.expect(b'{', "an object")?;
        if self.cursor.eat(b'}') {
            return Ok(());
        }
        let mut next = 0;
        loop {
            let field = self.name(message, &mut next)?;
            self.cursor.expect(b':', "`:`")?;
            match field {
                Some(field) => self.field(field).map_err(|fault| fault.in_field(field.name))?,
                None => self.cursor.skip_value()?,
            }
            if !self.cursor.eat(b',') {
                return self.cursor.expect(b'}', "`,` or `}`");
            }
        }
    }

    /// The field of the name that comes next; `None` where it is unknown. Fields mostly come in the order of the table, so it is
    /// looked for from the place behind the one before.
    #[inline(always)]
    fn name(&mut self, message: &'static Message, next: &mut usize) -> Result<Option<&'static Field>> {
        self.cursor.expect(b'"', "a name in quotes")?;
        let rest = self.cursor.rest();
        let fields = message.fields;
        for step in 0..fields.len() {
            let index = if *next + step < fields.len() { *next + step } else { *next + step - fields.len() };
            let name = fields[index].name.as_bytes();
            if rest.get(name.len()) == Some(&b'"') && rest.starts_with(name) {
                self.cursor.at += name.len() + 1;
                *next = index + 1;
                return Ok(Some(&fields[index]));
            }
        }
        self.odd_name(message)
    }

    /// A name that is unknown, or written with escapes.
    #[inline(never)]
    fn odd_name(&mut self, message: &'static Message) -> Result<Option<&'static Field>> {
        let name = self.cursor.string_content()?;
        if !name.escaped {
            return Ok(None);
        }
        self.scratch.clear();
        text::unescape(name, &mut self.scratch)?;
        Ok(message.fields.iter().find(|field| field.name.as_bytes() == self.scratch))
    }

    #[inline]
    fn field(&mut self, field: &'static Field) -> Result<()> {
        if self.cursor.eat_null()? {
            return Ok(());
        }
        if field.list {
            return self.list(field);
        }
        self.varint(u64::from(field.key));
        self.value(field.kind)
    }

    fn list(&mut self, field: &'static Field) -> Result<()> {
        self.cursor.expect(b'[', "an array")?;
        if self.cursor.eat(b']') {
            return Ok(());
        }
        if field.kind.packs() {
            self.varint(u64::from(field.key));
            let start = self.open(1);
            self.elements(|this| this.value(field.kind))?;
            return self.close(start, 1);
        }
        self.elements(|this| {
            this.varint(u64::from(field.key));
            this.value(field.kind)
        })
    }

    /// The elements of a list that is not empty, to its end.
    #[inline]
    fn elements(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        for index in 0.. {
            element(self).map_err(|fault| fault.in_element(index))?;
            self.bounded()?;
            if !self.cursor.eat(b',') {
                break;
            }
        }
        self.cursor.expect(b']', "`,` or `]`")
    }

    /// A value without its key.
    #[inline]
    fn value(&mut self, kind: Kind) -> Result<()> {
        match kind {
            Kind::Str => self.string(),
            Kind::Message(message) => self.message(message),
            Kind::Id => self.id(),
            Kind::Bytes => self.bytes(),
            Kind::Bool => self.bool(),
            Kind::Double => self.double().map(|value| self.out.extend_from_slice(&value.to_le_bytes())),
            Kind::Enum(names) => self.enumeration(kind, names),
            Kind::Int32 => {
                self.integer(kind, |i| i32::try_from(i.signed()?).ok()).map(|value| self.varint(value as u64))
            }
            Kind::Sint32 => self
                .integer(kind, |i| i32::try_from(i.signed()?).ok())
                .map(|value| self.varint(u64::from((value << 1 ^ value >> 31) as u32))),
            Kind::Uint32 => {
                self.integer(kind, |i| u32::try_from(i.unsigned()?).ok()).map(|value| self.varint(u64::from(value)))
            }
            Kind::Fixed32 => self
                .integer(kind, |i| u32::try_from(i.unsigned()?).ok())
                .map(|value| self.out.extend_from_slice(&value.to_le_bytes())),
            Kind::Int64 => self.integer(kind, Integer::signed).map(|value| self.varint(value as u64)),
            Kind::Uint64 => self.integer(kind, Integer::unsigned).map(|value| self.varint(value)),
            Kind::Sfixed64 => {
                self.integer(kind, Integer::signed).map(|value| self.out.extend_from_slice(&value.to_le_bytes()))
            }
            Kind::Fixed64 => {
                self.integer(kind, Integer::unsigned).map(|value| self.out.extend_from_slice(&value.to_le_bytes()))
            }
        }
    }

    fn message(&mut self, message: &'static Message) -> Result<()> {
        let length_bytes = if self.level < MOVED_LEVELS_MAX { message.length_bytes } else { LENGTH_BYTES_MAX };
        let depth = self.depth;
        if message.nests {
            let fault = || Fault::new(What::TooDeep, self.cursor.at);
            self.depth = depth.checked_sub(1).ok_or_else(fault)?;
        }
        self.level += 1;
        let start = self.open(length_bytes);
        self.content(message)?;
        self.level -= 1;
        self.depth = depth;
        self.close(start, length_bytes)
    }

    #[inline]
    fn string(&mut self) -> Result<()> {
        let string = self.cursor.string(Kind::Str.expected())?;
        if string.escaped {
            let start = self.open(1);
            text::unescape(string, &mut self.out)?;
            return self.close(start, 1);
        }
        self.varint(string.raw.len() as u64);
        self.out.extend_from_slice(string.raw);
        Ok(())
    }

    fn id(&mut self) -> Result<()> {
        let string = self.cursor.string(Kind::Id.expected())?;
        let start = self.open(1);
        let text = resolved(string, &mut self.scratch)?;
        let base64 = self.recorded && id_in_base64(text, &mut self.out);
        if !base64 && text::unhex(text, &mut self.out).is_none() {
            self.out.extend_from_slice(NO_ID);
        }
        self.close(start, 1)
    }

    fn bytes(&mut self) -> Result<()> {
        let at = self.cursor.at;
        let string = self.cursor.string(Kind::Bytes.expected())?;
        let start = self.open(1);
        let text = resolved(string, &mut self.scratch)?;
        if text::unbase64(text, &mut self.out).is_none() {
            return Err(Fault::expected(Kind::Bytes.expected(), at));
        }
        self.close(start, 1)
    }

    fn bool(&mut self) -> Result<()> {
        let value = self.cursor.peek() == Some(b't');
        self.cursor.literal(if value { b"true" } else { b"false" }, Kind::Bool.expected())?;
        self.out.push(u8::from(value));
        Ok(())
    }

    fn enumeration(&mut self, kind: Kind, names: &[&str]) -> Result<()> {
        if self.cursor.peek() != Some(b'"') {
            return self.integer(kind, |i| i32::try_from(i.signed()?).ok()).map(|value| self.varint(value as u64));
        }
        let fault = Fault::expected(kind.expected(), self.cursor.at);
        if !self.recorded {
            return Err(fault);
        }
        let name = self.cursor.string(kind.expected())?;
        match names.iter().position(|known| known.as_bytes() == name.raw) {
            Some(number) => {
                self.varint(number as u64);
                Ok(())
            }
            None => Err(fault),
        }
    }

    /// An integer as number or string, in the range that `fit` lets through.
    #[inline]
    fn integer<T>(&mut self, kind: Kind, fit: impl Fn(Integer) -> Option<T>) -> Result<T> {
        let quoted = self.cursor.peek() == Some(b'"');
        let at = self.cursor.at;
        let token = match quoted {
            true => {
                let string = self.cursor.string(kind.expected())?;
                resolved(string, &mut self.scratch)?
            }
            false => self.cursor.number(kind.expected())?,
        };
        let value = match number::plain(token) {
            Some(magnitude) => fit(Integer { negative: false, magnitude }),
            None if token.is_empty() || number::prefix(token) != token.len() => None,
            None => number::integer(token).ok().and_then(fit),
        };
        value.ok_or_else(|| Fault::expected(kind.expected(), at))
    }

    fn double(&mut self) -> Result<f64> {
        let fault = |at| Fault::expected(Kind::Double.expected(), at);
        if self.cursor.peek() != Some(b'"') {
            let at = self.cursor.at;
            let token = self.cursor.number(Kind::Double.expected())?;
            return number::double(token).ok_or_else(|| fault(at));
        }
        let at = self.cursor.at;
        let string = self.cursor.string(Kind::Double.expected())?;
        match resolved(string, &mut self.scratch)? {
            b"NaN" => Ok(f64::NAN),
            b"Infinity" => Ok(f64::INFINITY),
            b"-Infinity" => Ok(f64::NEG_INFINITY),
            [] => Err(fault(at)),
            token if number::prefix(token) == token.len() => number::double(token).ok_or_else(|| fault(at)),
            _ => Err(fault(at)),
        }
    }

    #[inline(always)]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// Keeps bytes free for a length; returns where.
    #[inline(always)]
    fn open(&mut self, length_bytes: usize) -> usize {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; LENGTH_BYTES_MAX][..length_bytes]);
        start
    }

    /// Writes the length of what was appended since `open`.
    #[inline(always)]
    fn close(&mut self, start: usize, length_bytes: usize) -> Result<()> {
        let length = self.out.len() - start - length_bytes;
        if length_bytes == 1 && length < 0x80 {
            self.out[start] = length as u8;
            return Ok(());
        }
        self.close_long(start, length_bytes, length)
    }

    #[inline(never)]
    fn close_long(&mut self, start: usize, mut length_bytes: usize, length: usize) -> Result<()> {
        self.bounded()?;
        let needed = (1 + (length.max(1).ilog2() / 7)) as usize;
        if needed > length_bytes {
            let content = start + length_bytes..self.out.len();
            self.out.extend_from_slice(&[0; LENGTH_BYTES_MAX][..needed - length_bytes]);
            self.out.copy_within(content, start + needed);
            length_bytes = needed;
        }
        for (i, byte) in self.out[start..start + length_bytes].iter_mut().enumerate() {
            let more = if i + 1 < length_bytes { 0x80 } else { 0 };
            *byte = (length >> (7 * i)) as u8 & 0x7f | more;
        }
        Ok(())
    }

    /// Refuses to write on beyond the limit.
    #[inline(always)]
    fn bounded(&self) -> Result<()> {
        if self.out.len() > self.bytes_max { Err(Fault::new(What::TooLarge, self.cursor.at)) } else { Ok(()) }
    }
}

/// Appends the id of 16 or 8 bytes that a text is in base64; whether it is one. In hex an id has 32 or 16 digits.
fn id_in_base64(text: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let is_id = matches!(text.len(), 11 | 12 | 22 | 24)
        && text::unbase64(text, out).is_some()
        && matches!(out.len() - start, 8 | 16);
    if !is_id {
        out.truncate(start);
    }
    is_id
}

/// What a string says; written to `scratch` where it has escapes.
#[inline]
fn resolved<'s>(string: Quoted<'s>, scratch: &'s mut Vec<u8>) -> Result<&'s [u8]> {
    if !string.escaped {
        return Ok(string.raw);
    }
    scratch.clear();
    text::unescape(string, scratch)?;
    Ok(scratch)
}
