//! The protobuf wire format, read from a slice without copying.
//!
//! It accepts and refuses what prost does, so that a client is answered the same over HTTP and gRPC. What the fields mean is
//! `decode`'s.

use std::borrow::Cow;

/// Levels of groups inside groups in an unknown field. Groups are long deprecated; prost stops at 100 levels of anything.
const GROUP_DEPTH_MAX: u32 = 100;

/// Wire type of ints, bools and enums.
pub(crate) const VARINT: u32 = 0;
/// Wire type of `fixed64` and doubles.
pub(crate) const FIXED64: u32 = 1;
/// Wire type of text, bytes and messages.
pub(crate) const LEN: u32 = 2;
const GROUP: u32 = 3;
const GROUP_END: u32 = 4;
/// Wire type of `fixed32`.
pub(crate) const FIXED32: u32 = 5;

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes end inside of a field, or a field is longer than the message that holds it.
    #[error("the message ends inside of a field")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("a varint is longer than 64 bits")]
    Varint,
    /// A field number of 0 or beyond 2^29, or a wire type that does not exist.
    #[error("expected a field, found an impossible key")]
    Key,
    /// A known field with the wire type of another kind of value.
    #[error("a field has the wire type of another kind of value")]
    WireType,
    /// A group that is not closed, closed under another number, or nested too deeply.
    #[error("a group is not well formed")]
    Group,
    /// A string field that is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// Arrays and maps nested more deeply than `value_depth_max` allows.
    #[error("a value is nested too deeply")]
    Depth,
    /// More numbers in lists than `list_values_max` allows.
    #[error("there are too many numbers in lists")]
    Lists,
}

/// A [`Fault`] and the address of the byte before which it was noticed (an address costs nothing to carry; the decoder turns
/// it into an offset in the body).
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireError {
    pub(crate) fault: Fault,
    address: usize,
}

impl WireError {
    #[cold]
    pub(crate) fn at(fault: Fault, bytes: &[u8]) -> WireError {
        WireError { fault, address: bytes.as_ptr().addr() }
    }

    /// Offset in `body`; `None` where the fault lies in a value that came in several parts and was put together.
    pub(crate) fn offset_in(&self, body: &[u8]) -> Option<usize> {
        self.address.checked_sub(body.as_ptr().addr()).filter(|offset| *offset <= body.len())
    }
}

pub(crate) type Result<T> = std::result::Result<T, WireError>;

/// The key of a field as it stands in front of its value.
pub(crate) const fn key(field: u32, wire_type: u32) -> u32 {
    field << 3 | wire_type
}

/// Keys of messages too small to name each.
pub(crate) const FIXED32_6: u32 = key(6, FIXED32);
pub(crate) const FIXED64_1: u32 = key(1, FIXED64);
pub(crate) const LEN_1: u32 = key(1, LEN);
pub(crate) const LEN_2: u32 = key(2, LEN);
pub(crate) const LEN_3: u32 = key(3, LEN);
pub(crate) const LEN_4: u32 = key(4, LEN);
pub(crate) const VARINT_2: u32 = key(2, VARINT);
pub(crate) const VARINT_3: u32 = key(3, VARINT);
pub(crate) const VARINT_4: u32 = key(4, VARINT);
pub(crate) const VARINT_5: u32 = key(5, VARINT);

/// The fields of a message, as a set of numbers below 32: an occurrence with another wire type than its own is refused.
pub(crate) const fn known(fields: &[u32]) -> u32 {
    let mut set = 0;
    let mut i = 0;
    while i < fields.len() {
        set |= 1 << fields[i];
        i += 1;
    }
    set
}

/// Reads the fields of one message from front to back.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Reader<'a> {
        Reader { rest: message }
    }

    /// Whether everything was read.
    #[inline(always)]
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The key of the next field; `None` at the end of the message.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<u32>> {
        if self.is_at_end() {
            return Ok(None);
        }
        let key = self.varint()?;
        match u32::try_from(key) {
            Ok(key) if key >= 8 && key & 7 <= FIXED32 => Ok(Some(key)),
            _ => Err(self.fault(Fault::Key)),
        }
    }

    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64> {
        match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => {
                self.rest = rest;
                Ok(u64::from(a))
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.rest = rest;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                if i == 9 && byte > 1 {
                    return Err(self.fault(Fault::Varint));
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(self.fault(if self.rest.len() < 10 { Fault::Truncated } else { Fault::Varint }))
    }

    #[inline(always)]
    pub(crate) fn fixed64(&mut self) -> Result<u64> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else { return Err(self.fault(Fault::Truncated)) };
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    #[inline(always)]
    pub(crate) fn fixed32(&mut self) -> Result<u32> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else { return Err(self.fault(Fault::Truncated)) };
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// The bytes of a text, bytes or message field.
    #[inline(always)]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.varint()?;
        match usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length)) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(self.fault(Fault::Truncated)),
        }
    }

    /// The bytes of a text field, checked to be UTF-8.
    pub(crate) fn text(&mut self) -> Result<&'a str> {
        utf8(self.bytes()?)
    }

    /// Steps over an unknown field; refuses a field of `known` numbers, which came here by its wire type.
    #[cold]
    pub(crate) fn skip(&mut self, key: u32, known: u32) -> Result<()> {
        let field = key >> 3;
        if field < 32 && known >> field & 1 == 1 {
            return Err(self.fault(Fault::WireType));
        }
        self.skip_value(key, GROUP_DEPTH_MAX)
    }

    fn skip_value(&mut self, key: u32, depth: u32) -> Result<()> {
        match key & 7 {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed64().map(drop),
            LEN => self.bytes().map(drop),
            FIXED32 => self.fixed32().map(drop),
            GROUP if depth > 0 => loop {
                match self.next()? {
                    None => return Err(self.fault(Fault::Group)),
                    Some(inner) if inner & 7 == GROUP_END && inner >> 3 == key >> 3 => return Ok(()),
                    Some(inner) => self.skip_value(inner, depth - 1)?,
                }
            },
            _ => Err(self.fault(Fault::Group)),
        }
    }

    #[cold]
    fn fault(&self, fault: Fault) -> WireError {
        WireError::at(fault, self.rest)
    }
}

/// The bytes as text.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|e| WireError::at(Fault::Utf8, &bytes[e.valid_up_to()..]))
}

/// Adds an occurrence of a message field that should stand once.
pub(crate) fn merge<'a>(into: &mut Option<Cow<'a, [u8]>>, bytes: &'a [u8]) -> Result<()> {
    match into {
        None => *into = Some(Cow::Borrowed(bytes)),
        Some(before) => append(before, bytes)?,
    }
    Ok(())
}

/// Puts the bytes of a message behind those of an earlier occurrence. Protobuf merges such messages, which is the same as reading
/// one after the other, where each of them ends with a field: else a field could begin in one and end in the next.
#[cold]
pub(crate) fn append<'a>(before: &mut Cow<'a, [u8]>, bytes: &'a [u8]) -> Result<()> {
    // What was appended to is whole already: long chains must not be read again for each of their parts.
    if let Cow::Borrowed(first) = before {
        check_whole(first)?;
    }
    check_whole(bytes)?;
    before.to_mut().extend_from_slice(bytes);
    Ok(())
}

/// Refuses bytes that end within a field.
fn check_whole(message: &[u8]) -> Result<()> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        reader.skip(field, 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_are_read_as_prost_reads_them(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0x80u8..], 0..13)) {
            let mut reader = Reader::new(&bytes);
            let mut theirs = bytes.as_slice();
            let expected = prost::encoding::decode_varint(&mut theirs);
            match (reader.varint(), expected) {
                (Ok(ours), Ok(expected)) => {
                    prop_assert_eq!(ours, expected);
                    prop_assert_eq!(reader.rest, theirs);
                }
                (Err(_), Err(_)) => {}
                (ours, expected) => prop_assert!(false, "{ours:?} against {expected:?}"),
            }
        }
    }

    #[test]
    fn a_fault_tells_its_offset() {
        let body = [0x0a, 0x05, 1, 2];
        let mut reader = Reader::new(&body);
        assert_eq!(reader.next().unwrap(), Some(key(1, LEN)));
        let error = reader.bytes().unwrap_err();
        assert_eq!((error.fault, error.offset_in(&body)), (Fault::Truncated, Some(2)));
        assert_eq!(error.offset_in(&[]), None);
    }

    #[test]
    fn unknown_groups_are_skipped_and_bounded() {
        // group 7 { group 8 { } field 1 = 5 } then the end
        let mut reader = Reader::new(&[0x3b, 0x43, 0x44, 0x08, 0x05, 0x3c]);
        let key = reader.next().unwrap().unwrap();
        reader.skip(key, 0).unwrap();
        assert_eq!(reader.next().unwrap(), None);

        let deep = vec![0x3b; 100_000];
        let mut reader = Reader::new(&deep);
        let key = reader.next().unwrap().unwrap();
        assert_eq!(reader.skip(key, 0).unwrap_err().fault, Fault::Group);
    }
}
