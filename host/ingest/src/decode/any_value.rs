//! One `AnyValue` from the wire: its kind and content, and the text form of arrays and maps.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prism_model::value::{write_double, write_key, write_string};

use crate::wire::{FIXED64, Fault, LEN, Reader, Result, VARINT, WireError, append, key, known, merge, utf8};

const STRING: u32 = key(1, LEN);
const BOOL: u32 = key(2, VARINT);
const INT: u32 = key(3, VARINT);
const DOUBLE: u32 = key(4, FIXED64);
const ARRAY: u32 = key(5, LEN);
const MAP: u32 = key(6, LEN);
const BYTES: u32 = key(7, LEN);
const STRING_INDEX: u32 = key(8, VARINT);
const KNOWN: u32 = known(&[1, 2, 3, 4, 5, 6, 7, 8]);

const KV_KEY: u32 = key(1, LEN);
const KV_VALUE: u32 = key(2, LEN);
const KV_KEY_INDEX: u32 = key(3, VARINT);
const KV_KNOWN: u32 = known(&[1, 2, 3]);

/// An `AnyValue` as it stands on the wire.
#[derive(Clone)]
pub(crate) enum Wire<'a> {
    Null,
    /// Not yet checked to be UTF-8.
    Str(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'a [u8]),
    /// The `ArrayValue` message, not looked into yet.
    Array(Cow<'a, [u8]>),
    /// The `KeyValueList` message, not looked into yet.
    Map(Cow<'a, [u8]>),
    /// A number of a string table.
    StringIndex,
}

/// Reads the message of an `AnyValue`.
#[inline]
pub(crate) fn parse(message: &[u8], depth: usize) -> Result<Wire<'_>> {
    // One field that fills the message: every value that a sane client sends.
    match *message {
        [tag, length, ref text @ ..]
            if u32::from(tag) == STRING && usize::from(length) == text.len() && length < 0x80 =>
        {
            Ok(Wire::Str(text))
        }
        [tag, a] if u32::from(tag) == INT && a < 0x80 => Ok(Wire::Int(i64::from(a))),
        [tag, a, b] if u32::from(tag) == INT && a >= 0x80 && b < 0x80 => {
            Ok(Wire::Int(i64::from(a & 0x7f) | i64::from(b) << 7))
        }
        _ => parse_any(message, depth),
    }
}

#[inline(never)]
fn parse_any(message: &[u8], depth: usize) -> Result<Wire<'_>> {
    let mut reader = Reader::new(message);
    let mut value = Wire::Null;
    while let Some(key) = reader.next()? {
        let next = match key {
            STRING => Wire::Str(reader.bytes()?),
            BOOL => Wire::Bool(reader.varint()? != 0),
            INT => Wire::Int(reader.varint()? as i64),
            DOUBLE => Wire::Double(f64::from_bits(reader.fixed64()?)),
            ARRAY => Wire::Array(Cow::Borrowed(reader.bytes()?)),
            MAP => Wire::Map(Cow::Borrowed(reader.bytes()?)),
            BYTES => Wire::Bytes(reader.bytes()?),
            STRING_INDEX => {
                reader.varint()?;
                Wire::StringIndex
            }
            other => {
                reader.skip(other, KNOWN)?;
                continue;
            }
        };
        // The last one wins; a message is merged with the same kind of message before it.
        value = match (value, next) {
            (Wire::Null, next) => next,
            (Wire::Array(mut before), Wire::Array(Cow::Borrowed(next))) => {
                append(&mut before, next)?;
                Wire::Array(before)
            }
            (Wire::Map(mut before), Wire::Map(Cow::Borrowed(next))) => {
                append(&mut before, next)?;
                Wire::Map(before)
            }
            (before, next) => {
                check_parsed(&before, depth)?;
                next
            }
        };
    }
    Ok(value)
}

/// Key and value of a `KeyValue`, not looked into yet.
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: Option<Cow<'a, [u8]>>,
    /// Whether the key is given as a number of a string table.
    pub(crate) key_index: bool,
}

/// Key and value of a `KeyValue` that has one of each in this order and nothing else, each below 128 bytes or (value) 16 KiB.
#[inline(always)]
pub(crate) fn plain_entry(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let [tag, key_length, rest @ ..] = message else { return None };
    if u32::from(*tag) != KV_KEY || *key_length >= 0x80 {
        return None;
    }
    let (key, rest) = rest.split_at_checked(usize::from(*key_length))?;
    match *rest {
        [tag, length, ref value @ ..]
            if u32::from(tag) == KV_VALUE && length < 0x80 && usize::from(length) == value.len() =>
        {
            Some((key, value))
        }
        [tag, low, high, ref value @ ..]
            if u32::from(tag) == KV_VALUE
                && low >= 0x80
                && high < 0x80
                && (usize::from(low & 0x7f) | usize::from(high) << 7) == value.len() =>
        {
            Some((key, value))
        }
        _ => None,
    }
}

/// Reads the message of a `KeyValue`.
pub(crate) fn entry(message: &[u8]) -> Result<Entry<'_>> {
    let mut reader = Reader::new(message);
    let mut entry = Entry { key: &[], value: None, key_index: false };
    while let Some(key) = reader.next()? {
        match key {
            KV_KEY => {
                utf8(entry.key)?;
                entry.key = reader.bytes()?;
            }
            KV_VALUE => merge(&mut entry.value, reader.bytes()?)?,
            KV_KEY_INDEX => entry.key_index = reader.varint()? as i32 != 0,
            other => reader.skip(other, KV_KNOWN)?,
        }
    }
    Ok(entry)
}

/// Appends the text form of a value whose arrays and maps may be `depth` levels deep. Returns how many references to a string
/// table were taken as empty.
pub(crate) fn write_text(value: &Wire<'_>, depth: usize, out: &mut String) -> Result<u64> {
    let mut references = 0;
    match value {
        Wire::Null => out.push_str("null"),
        Wire::StringIndex => {
            out.push_str("null");
            references += 1;
        }
        Wire::Str(text) => write_string(utf8(text)?, out),
        Wire::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Wire::Int(i) => {
            use std::fmt::Write as _;
            let _infallible = write!(out, "{i}");
        }
        Wire::Double(d) => write_double(*d, out),
        Wire::Bytes(bytes) => {
            out.push_str("{\"$bytes\":\"");
            BASE64.encode_string(bytes, out);
            out.push_str("\"}");
        }
        Wire::Array(message) => {
            let depth = depth.checked_sub(1).ok_or_else(|| WireError::at(Fault::Depth, message))?;
            out.push('[');
            let mut first = true;
            for_each(message, |item| {
                separate(&mut first, out);
                references += write_text(&parse(item, depth)?, depth, out)?;
                Ok(())
            })?;
            out.push(']');
        }
        Wire::Map(message) => {
            let depth = depth.checked_sub(1).ok_or_else(|| WireError::at(Fault::Depth, message))?;
            out.push('{');
            let mut first = true;
            for_each(message, |item| {
                separate(&mut first, out);
                let entry = entry(item)?;
                references += u64::from(entry.key_index);
                write_key(utf8(entry.key)?, out);
                out.push(':');
                match &entry.value {
                    Some(value) => references += write_text(&parse(value, depth)?, depth, out)?,
                    None => out.push_str("null"),
                }
                Ok(())
            })?;
            out.push('}');
        }
    }
    Ok(references)
}

fn separate(first: &mut bool, out: &mut String) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

/// Calls `each` with the messages of an `ArrayValue` or `KeyValueList`.
fn for_each<'a>(message: &'a [u8], mut each: impl FnMut(&'a [u8]) -> Result<()>) -> Result<()> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        if field == key(1, LEN) {
            each(reader.bytes()?)?;
        } else {
            reader.skip(field, known(&[1]))?;
        }
    }
    Ok(())
}

/// Refuses a `KeyValue` that is not kept, where prost would.
pub(crate) fn check_entry(message: &[u8], depth: usize) -> Result<()> {
    let entry = entry(message)?;
    utf8(entry.key)?;
    entry.value.map_or(Ok(()), |value| check(&value, depth))
}

/// Refuses an `AnyValue` that is not kept, where prost would.
pub(crate) fn check(message: &[u8], depth: usize) -> Result<()> {
    check_parsed(&parse(message, depth)?, depth)
}

fn check_parsed(value: &Wire<'_>, depth: usize) -> Result<()> {
    match value {
        Wire::Str(text) => utf8(text).map(drop),
        Wire::Array(message) => {
            let depth = depth.checked_sub(1).ok_or_else(|| WireError::at(Fault::Depth, message))?;
            for_each(message, |item| check(item, depth))
        }
        Wire::Map(message) => {
            let depth = depth.checked_sub(1).ok_or_else(|| WireError::at(Fault::Depth, message))?;
            for_each(message, |item| check_entry(item, depth))
        }
        _ => Ok(()),
    }
}
