//! OTLP/JSON to the bytes of the same request in protobuf, in one pass and without building the messages in between.
//!
//! ```text
//! scan (JSON, byte by byte) -> number, text (what a value says) -> convert (by the tables of messages) -> protobuf bytes
//! fault (what is wrong, and where)
//! ```
//!
//! The walk in `decode` reads those bytes, so both encodings obey one set of rules: limits, refusals and columns are not known
//! here. What is read is proto3 JSON with OTLP's exceptions (opentelemetry-proto, "OTLP/JSON"):
//!
//! - Names are lowerCamelCase; a field of any other name is stepped over, whatever its shape.
//! - Trace and span ids are hex of either case. Text that is not hex (base64, `0x…`) becomes an id of one byte, which has the
//!   wrong length as it would have in protobuf: its item is refused or warned about, the rest of the request is kept.
//! - Enums are integers. A name is an error, as the specification forbids it.
//! - 64-bit integers are numbers or strings, `5.0` and `1e3` included; what is not integral or beyond its range is an error.
//! - Doubles are numbers or strings, `"NaN"`, `"Infinity"` and `"-Infinity"` included.
//! - Bytes are base64, standard or URL-safe, padded or not.
//! - `null` says that a field is absent; as an element of a list it is an error, as in proto3 JSON.
//! - A name that repeats is the field given twice: the last value holds, messages are merged, lists go on.
//! - A text is Unicode: bytes that are not UTF-8, lone surrogates and raw control characters are errors.

mod scan;
mod number;
mod text;
mod fault;
mod messages;
mod convert;

use prism_model::{Limits, Signal};

pub use fault::JsonError;

/// How the body of a request is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The protobuf wire format.
    #[default]
    Protobuf,
    /// OTLP/JSON.
    Json,
}

/// Turns an `Export…ServiceRequest` in OTLP/JSON, decompressed, into the bytes of the same request in protobuf. They are at most
/// 4 times as long as the JSON, and no longer than [`Limits::body_bytes_max`], which a request in protobuf may not exceed either.
///
/// Values nest as deeply as [`Limits::value_depth_max`] allows, and unknown fields up to 128 levels.
///
/// # Errors
/// [`JsonError`]: the body is no such request, or passes one of the limits.
pub fn to_protobuf(signal: Signal, body: &[u8], limits: &Limits) -> Result<Vec<u8>, JsonError> {
    convert::request(messages::request(signal), body, limits, false)
}

/// As [`to_protobuf`], for files: enums may also be names and ids base64, as proto3 JSON has them and other tools write them,
/// though OTLP forbids both.
///
/// # Errors
/// As [`to_protobuf`].
pub(crate) fn recorded_to_protobuf(signal: Signal, body: &[u8], limits: &Limits) -> Result<Vec<u8>, JsonError> {
    convert::request(messages::request(signal), body, limits, true)
}

/// The signals whose requests a JSON object is, by the names in it; none where it is no object or has none of them. What
/// stands behind the first fault is not looked at.
pub(crate) fn signals(body: &[u8]) -> Vec<Signal> {
    let mut found = Vec::new();
    let mut cursor = scan::Cursor::new(body);
    if cursor.expect(b'{', "an object").is_err() {
        return found;
    }
    while let Ok(name) = cursor.string("a name in quotes") {
        let signal = Signal::ALL.into_iter().find(|s| messages::request(*s).fields[0].name.as_bytes() == name.raw);
        found.extend(signal.filter(|signal| !found.contains(signal)));
        if cursor.expect(b':', "`:`").is_err() || cursor.skip_value().is_err() || !cursor.eat(b',') {
            break;
        }
    }
    found
}

/// Whether the bytes are one JSON value and nothing else.
pub(crate) fn is_value(body: &[u8]) -> bool {
    let mut cursor = scan::Cursor::new(body);
    cursor.skip_value().is_ok() && cursor.peek().is_none()
}
