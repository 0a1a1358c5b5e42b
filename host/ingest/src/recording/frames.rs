//! Messages one after the other, told apart by the length in front of each.

use std::io::{BufRead, Read};

use super::content::{Fault, too_large};

/// How messages are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is one.
    Single,
    /// 4 bytes, big-endian, in front of each (the Collector's file exporter).
    Fixed,
    /// A varint in front of each (protobuf's `writeDelimitedTo`).
    Varint,
}

/// The framing of which the beginning of a recording is an example. `whole` says that there is nothing more.
pub(super) fn framing(window: &[u8], whole: bool, max: usize) -> Framing {
    if is_request(window, whole) {
        return Framing::Single;
    }
    let holds = |framing| {
        // Zeros alone are the lengths of nothing.
        let (mut rest, mut some) = (window, false);
        while !rest.is_empty() {
            let Some((length, after)) = length(rest, framing) else { return some && rest.len() < 10 };
            if length > max as u64 {
                return false;
            }
            some |= length > 0;
            match after.split_at_checked(length as usize) {
                Some((message, next)) if is_request(message, true) => rest = next,
                Some(_) => return false,
                // Also the last message of a recording that was cut off.
                None => return is_request(after, false),
            }
        }
        some
    };
    [Framing::Fixed, Framing::Varint].into_iter().find(|framing| holds(*framing)).unwrap_or(Framing::Single)
}

/// Whether bytes are the messages of field 1 one after the other, as every OTLP request is.
fn is_request(mut bytes: &[u8], whole: bool) -> bool {
    while let [key, rest @ ..] = bytes {
        if *key != 0x0a {
            return false;
        }
        let Some((length, rest)) = length(rest, Framing::Varint) else { return !whole && rest.len() < 10 };
        match usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) {
            Some((_, next)) => bytes = next,
            None => return !whole,
        }
    }
    true
}

/// The length in front, and what follows it; `None` where it is not all there, or none.
fn length(bytes: &[u8], framing: Framing) -> Option<(u64, &[u8])> {
    match framing {
        Framing::Single => None,
        Framing::Fixed => bytes.split_first_chunk().map(|(length, rest)| (u32::from_be_bytes(*length).into(), rest)),
        Framing::Varint => {
            let mut rest = bytes;
            let length = prost::encoding::decode_varint(&mut rest).ok()?;
            Some((length, rest))
        }
    }
}

/// The next message, or `None` at the end.
pub(super) fn next(
    bytes: &mut Box<dyn BufRead + Send>,
    framing: Framing,
    max: usize,
) -> Result<Option<Vec<u8>>, Fault> {
    let stop = |reason: String| Fault { reason, goes_on: false };
    let mut head = Vec::with_capacity(10);
    let length = loop {
        match length(&head, framing) {
            Some((length, _)) => break length,
            None if head.len() == 10 => return Err(stop("expected the length of a message, found none".into())),
            None => {}
        }
        if bytes.by_ref().take(1).read_to_end(&mut head)? == 0 {
            return match head.len() {
                0 => Ok(None),
                n => Err(stop(format!("expected the length of a message, found the end of the file after {n} bytes"))),
            };
        }
    };
    if length > max as u64 {
        let skipped = std::io::copy(&mut bytes.by_ref().take(length), &mut std::io::sink())?;
        return Err(Fault { reason: too_large(max), goes_on: skipped == length });
    }
    let mut message = Vec::new();
    let found = bytes.by_ref().take(length).read_to_end(&mut message)?;
    if (found as u64) < length {
        return Err(stop(format!("expected a message of {length} bytes, found the end of the file after {found}")));
    }
    Ok(Some(message))
}
