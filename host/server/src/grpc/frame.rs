//! The bytes of a unary call: a message after its flag and length, and the time that the caller gives.
//!
//! Source: grpc/grpc, `doc/PROTOCOL-HTTP2.md`.

use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use http::HeaderMap;
use http_body_util::StreamBody;
use hyper::body::Frame;

use crate::error::{Code, Failure};
use crate::http::body::BodyLimits;

/// The flag and the length before a message.
pub(super) const PREFIX_BYTES: usize = 5;

/// A message as it came.
#[derive(Debug)]
pub(super) struct Message {
    /// Whether it is compressed, by `grpc-encoding`.
    pub(super) compressed: bool,
    /// The bytes.
    pub(super) bytes: Bytes,
}

/// The one message of a unary call.
///
/// # Errors
/// [`Code::Unimplemented`] for none and for several, as gRPC has it; [`Code::TooLarge`] where it announces more than may
/// come; [`Code::BadRequest`] where its bytes are none.
pub(super) fn unframe(bytes: &Bytes, limits: &BodyLimits) -> Result<Message, Failure> {
    let broken = |message: &'static str| Err(Failure::new(Code::BadRequest, message));
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return match bytes.len() {
            0 => Err(Failure::new(Code::Unimplemented, "expected one message, found none")),
            _ => broken("expected a message with its flag and length, found less"),
        };
    };
    let [flag, length @ ..] = *prefix;
    let length = u32::from_be_bytes(length) as usize;
    if length > limits.bytes_max {
        return Err(limits.too_large());
    }
    if flag > 1 {
        return broken("expected 0 or 1 as the flag of a message");
    }
    match rest.len() {
        n if n < length => broken("expected a message of the length that it announces, found less"),
        n if n > length => Err(Failure::new(Code::Unimplemented, "expected one message, found more behind it")),
        _ => Ok(Message { compressed: flag == 1, bytes: bytes.slice(PREFIX_BYTES..) }),
    }
}

/// A message and what follows it.
pub(super) fn framed(message: &[u8], trailers: HeaderMap) -> Body {
    let mut data = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    data.put_u8(0);
    data.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    data.put_slice(message);
    let frames = [Ok::<_, std::convert::Infallible>(Frame::data(data.freeze())), Ok(Frame::trailers(trailers))];
    Body::new(StreamBody::new(stream::iter(frames)))
}

/// The time that `grpc-timeout` gives: up to 8 digits and a unit. What is none of these is no limit: the server has its own.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3_600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_one_message() {
        let limits =
            BodyLimits { bytes_max: 3, setting: "limits.body_bytes_max", idle: Duration::ZERO, total: Duration::ZERO };
        let check = |bytes: &'static [u8]| {
            unframe(&Bytes::from_static(bytes), &limits).map(|m| (m.compressed, m.bytes.to_vec())).map_err(|f| f.code)
        };
        assert_eq!(check(b"\0\0\0\0\0"), Ok((false, vec![])));
        assert_eq!(check(b"\x01\0\0\0\x02ab"), Ok((true, b"ab".to_vec())));
        assert_eq!(check(b""), Err(Code::Unimplemented));
        assert_eq!(check(b"\0\0\0\0\x01a\0\0\0\0\0"), Err(Code::Unimplemented), "two messages");
        for broken in [&b"\0\0\0"[..], b"\0\0\0\0\x02a", b"\x02\0\0\0\0"] {
            assert_eq!(check(broken), Err(Code::BadRequest), "{broken:?}");
        }
        assert_eq!(check(b"\0\xff\xff\xff\xff"), Err(Code::TooLarge), "by its word alone");
    }

    #[test]
    fn times_are_those_of_grpc() {
        let of =
            |text: &str| timeout(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]));
        assert_eq!(of("10S"), Some(Duration::from_secs(10)));
        assert_eq!(of("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!([of("5m"), of("5u"), of("0n")].map(|t| t.unwrap().as_nanos()), [5_000_000, 5_000, 0]);
        for none in ["", "S", "10", "100000000S", "-1S", "1.5S", "+1S", "1s", "1ü"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
