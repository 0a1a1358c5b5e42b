//! Answers: bytes with a media type, failures with their status, headers, and a note for the log.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::error::{Code, Failure, within};

/// The header of an acknowledgement that a query may be sent back with, to see at least what was acknowledged.
pub(crate) const TOKEN: HeaderName = HeaderName::from_static("prism-token");

/// The header that names what is missing from an answer whose form has no place for it.
pub(crate) const PARTIAL: HeaderName = HeaderName::from_static("prism-partial");

/// What the log and the counters need of an answer; travels beside it.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    /// The failure's code.
    pub(crate) code: Code,
    /// What is not told.
    pub(crate) inner: Option<String>,
}

/// 200 with a body.
pub(crate) fn ok(media_type: &'static str, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    // An answer is the state of a moment, and for whoever asked.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A failure in a form that the caller chose.
pub(crate) fn failure(failure: &Failure, media_type: &'static str, bytes: Vec<u8>) -> Response {
    let mut response = ok(media_type, bytes);
    *response.status_mut() = failure.code.http();
    for (name, value) in failure.headers() {
        response.headers_mut().insert(name, value);
    }
    note(&mut response, failure);
    response
}

/// A failure as JSON, the form of everything but OTLP.
pub(crate) fn json(error: &Failure, message_bytes_max: usize) -> Response {
    failure(error, "application/json", error.to_json(message_bytes_max))
}

/// Adds what the log needs.
pub(crate) fn note(response: &mut Response, failure: &Failure) {
    response.extensions_mut().insert(Note { code: failure.code, inner: failure.inner.clone() });
}

/// Adds the token of an acknowledged batch; an empty one is left out.
pub(crate) fn token(response: &mut Response, token: &str) {
    if let Ok(value) = HeaderValue::from_str(token)
        && !token.is_empty()
    {
        response.headers_mut().insert(TOKEN, value);
    }
}

/// Says that the answer lacks parts that could not be read; none is no header.
pub(crate) fn partial(response: &mut Response, missing: &[String]) {
    let text = missing.join("; ");
    if let Ok(value) = HeaderValue::from_str(within(&text, PARTIAL_BYTES_MAX))
        && !missing.is_empty()
    {
        response.headers_mut().insert(PARTIAL, value);
    }
}

/// Proxies refuse heads of some KiB.
const PARTIAL_BYTES_MAX: usize = 1_024;

/// A status with a line of text.
pub(crate) fn line(status: StatusCode, text: &'static str) -> Response {
    let mut response = ok("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}
