//! The one table from what a caller must do to HTTP and gRPC status codes, and the forms in which errors are answered.
//!
//! | [`Code`]         | HTTP | gRPC                | a client                                     |
//! |------------------|------|---------------------|----------------------------------------------|
//! | `bad_request`    | 400  | INVALID_ARGUMENT    | fixes it                                     |
//! | `unauthenticated`| 401  | UNAUTHENTICATED     | shows a key                                  |
//! | `forbidden`      | 403  | PERMISSION_DENIED   | shows another key                            |
//! | `not_found`      | 404  | NOT_FOUND           |                                              |
//! | `bad_method`     | 405  | UNIMPLEMENTED       | uses the method in `Allow`                   |
//! | `too_slow`       | 408  | DEADLINE_EXCEEDED   | sends again, faster                          |
//! | `no_length`      | 411  | INVALID_ARGUMENT    | says how long the body is                    |
//! | `too_large`      | 413  | RESOURCE_EXHAUSTED  | sends less at once; not retried (no RetryInfo)|
//! | `bad_media_type` | 415  | INVALID_ARGUMENT    | sends another encoding                       |
//! | `over_budget`    | 422  | FAILED_PRECONDITION | asks for less                                |
//! | `busy`           | 429  | UNAVAILABLE         | waits as told, then sends the same           |
//! | `bug`            | 500  | INTERNAL            | reports it                                   |
//! | `unimplemented`  | 501  | UNIMPLEMENTED       |                                              |
//! | `unavailable`    | 503  | UNAVAILABLE         | waits as told, then sends the same           |
//!
//! OTLP clients send again after 429, 502, 503 and 504 only, and drop the data on 500: whatever may pass is `unavailable`.
//! Over gRPC `busy` is UNAVAILABLE, because RESOURCE_EXHAUSTED counts as final there unless RetryInfo is understood.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, StatusCode, header};
use prism_model::{Classify, Kind};
use prism_query::QueryError;

/// What is told to a client by number and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    /// See the table of this module, as for all others.
    BadRequest,
    Unauthenticated,
    Forbidden,
    NotFound,
    BadMethod,
    TooSlow,
    NoLength,
    TooLarge,
    BadMediaType,
    OverBudget,
    Busy,
    Bug,
    Unimplemented,
    Unavailable,
}

impl Code {
    /// Every code.
    pub(crate) const ALL: [Code; 14] = [
        Code::BadRequest,
        Code::Unauthenticated,
        Code::Forbidden,
        Code::NotFound,
        Code::BadMethod,
        Code::TooSlow,
        Code::NoLength,
        Code::TooLarge,
        Code::BadMediaType,
        Code::OverBudget,
        Code::Busy,
        Code::Bug,
        Code::Unimplemented,
        Code::Unavailable,
    ];

    fn row(self) -> (&'static str, StatusCode, i32) {
        match self {
            Code::BadRequest => ("bad_request", StatusCode::BAD_REQUEST, 3),
            Code::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED, 16),
            Code::Forbidden => ("forbidden", StatusCode::FORBIDDEN, 7),
            Code::NotFound => ("not_found", StatusCode::NOT_FOUND, 5),
            Code::BadMethod => ("bad_method", StatusCode::METHOD_NOT_ALLOWED, 12),
            Code::TooSlow => ("too_slow", StatusCode::REQUEST_TIMEOUT, 4),
            Code::NoLength => ("no_length", StatusCode::LENGTH_REQUIRED, 3),
            Code::TooLarge => ("too_large", StatusCode::PAYLOAD_TOO_LARGE, 8),
            Code::BadMediaType => ("bad_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE, 3),
            Code::OverBudget => ("over_budget", StatusCode::UNPROCESSABLE_ENTITY, 9),
            Code::Busy => ("busy", StatusCode::TOO_MANY_REQUESTS, 14),
            Code::Bug => ("bug", StatusCode::INTERNAL_SERVER_ERROR, 13),
            Code::Unimplemented => ("unimplemented", StatusCode::NOT_IMPLEMENTED, 12),
            Code::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE, 14),
        }
    }

    /// The name in answers, logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub(crate) fn http(self) -> StatusCode {
        self.row().1
    }

    /// The gRPC status.
    pub(crate) fn grpc(self) -> i32 {
        self.row().2
    }
}

impl From<Kind> for Code {
    fn from(kind: Kind) -> Code {
        match kind {
            Kind::Fix => Code::BadRequest,
            Kind::TooLarge => Code::TooLarge,
            Kind::Wait => Code::Busy,
            Kind::Retry => Code::Unavailable,
            Kind::NotFound => Code::NotFound,
            Kind::Unauthenticated => Code::Unauthenticated,
            Kind::Forbidden => Code::Forbidden,
            Kind::Bug => Code::Bug,
        }
    }
}

/// Where in a query an error is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// From 1; 0 where it is not known.
    pub(crate) line: u32,
    /// In characters, from 1; 0 where it is not known.
    pub(crate) column: u32,
    /// JSON pointer to the value at fault, in a JSON document.
    pub(crate) pointer: Option<String>,
    /// The line with a caret below; may be empty.
    pub(crate) snippet: String,
}

/// An error on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What kind.
    pub(crate) code: Code,
    /// A name more exact than that of the code, such as `query_syntax`.
    pub(crate) detail: Option<&'static str>,
    /// What is told: what was expected and found. Never paths, other tenants, or what the system said.
    pub(crate) message: Cow<'static, str>,
    /// What to do instead, where there is something.
    pub(crate) hint: Option<String>,
    /// Where in the query.
    pub(crate) place: Option<Box<Place>>,
    /// Seconds to wait; only with [`Code::Busy`] and [`Code::Unavailable`].
    pub(crate) retry_after_s: u32,
    /// What is logged and not told.
    pub(crate) inner: Option<String>,
}

impl Failure {
    /// An error with its message.
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Failure {
        Failure { code, detail: None, message: message.into(), hint: None, place: None, retry_after_s: 1, inner: None }
    }

    /// The error of another crate. Its message is told, since by the rule of the house paths and foreign names stand in its
    /// causes only; those are logged. Of a bug nothing is told: its words are for who mends it.
    pub(crate) fn of(error: &impl Classify) -> Failure {
        let told = match error.kind() {
            Kind::Bug => "an error inside of Prism: please report it with the time at which it happened".into(),
            _ => Cow::Owned(error.to_string()),
        };
        Failure::new(error.kind().into(), told).inner(chain(error))
    }

    /// An error of the query language, with its place.
    pub(crate) fn of_language(error: &prism_dsl::DslError) -> Failure {
        let too_long = error.code == prism_dsl::error::code::TOO_LONG;
        let code = if too_long { Code::TooLarge } else { Code::BadRequest };
        let place = Place {
            line: error.line,
            column: error.column,
            pointer: error.pointer.as_deref().map(str::to_owned),
            snippet: error.snippet.to_string(),
        };
        let failure = Failure::new(code, error.message.clone());
        Failure { detail: Some(error.code), hint: error.hint.clone(), place: Some(Box::new(place)), ..failure }
    }

    /// An error of a query that was understood.
    pub(crate) fn of_query(error: &QueryError) -> Failure {
        if let Some(error) = error.dsl() {
            return Failure::of_language(error);
        }
        let mut failure = Failure::of(error);
        let over = matches!(
            error,
            QueryError::Time { .. }
                | QueryError::Bytes { .. }
                | QueryError::Estimate { .. }
                | QueryError::Memory { .. }
        );
        if over {
            failure.code = Code::OverBudget;
        }
        let place = error.line().zip(error.column());
        let place = place.map(|(line, column)| Box::new(Place { line, column, ..Place::default() }));
        Failure { detail: Some(error.code()), hint: error.hint().map(str::to_owned), place, ..failure }
    }

    /// With what to do instead.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// With what is logged only.
    pub(crate) fn inner(self, inner: impl Into<String>) -> Failure {
        Failure { inner: Some(inner.into()), ..self }
    }

    /// The message, cut at a character so that it takes at most `bytes_max`.
    pub(crate) fn message_within(&self, bytes_max: usize) -> &str {
        within(&self.message, bytes_max)
    }

    /// The headers that go with the status.
    pub(crate) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        match self.code {
            Code::Busy | Code::Unavailable => vec![(header::RETRY_AFTER, HeaderValue::from(self.retry_after_s))],
            Code::Unauthenticated => vec![(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))],
            Code::BadMediaType => vec![(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"))],
            // The rest of the body is not read, so the connection cannot carry another request.
            Code::TooLarge | Code::TooSlow | Code::NoLength => {
                vec![(header::CONNECTION, HeaderValue::from_static("close"))]
            }
            _ => Vec::new(),
        }
    }

    /// The answer of query paths: `{"error": {"code", "message", "hint", "line", "column", "pointer", "snippet"}}`.
    pub(crate) fn to_json(&self, message_bytes_max: usize) -> Vec<u8> {
        let mut error = serde_json::Map::new();
        error.insert("code".into(), self.detail.unwrap_or(self.code.name()).into());
        error.insert("message".into(), self.message_within(message_bytes_max).into());
        if let Some(hint) = &self.hint {
            error.insert("hint".into(), hint.as_str().into());
        }
        if let Some(place) = &self.place {
            for (key, number) in [("line", place.line), ("column", place.column)] {
                if number > 0 {
                    error.insert(key.into(), number.into());
                }
            }
            if let Some(pointer) = &place.pointer {
                error.insert("pointer".into(), pointer.as_str().into());
            }
            if !place.snippet.is_empty() {
                error.insert("snippet".into(), place.snippet.as_str().into());
            }
        }
        serde_json::json!({ "error": error }).to_string().into_bytes()
    }
}

/// The text, cut at a character so that it takes at most `bytes_max`.
pub(crate) fn within(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// An error's message and those of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !out.ends_with(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        cause = inner.source();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let mut table = String::new();
        for code in Code::ALL {
            table.push_str(&format!("{} {} {}\n", code.name(), code.http().as_u16(), code.grpc()));
        }
        assert_eq!(
            table,
            "bad_request 400 3\nunauthenticated 401 16\nforbidden 403 7\nnot_found 404 5\nbad_method 405 12\n\
             too_slow 408 4\nno_length 411 3\ntoo_large 413 8\nbad_media_type 415 3\nover_budget 422 9\nbusy 429 14\nbug 500 13\n\
             unimplemented 501 12\nunavailable 503 14\n"
        );
    }

    #[test]
    fn clients_send_again_exactly_what_may_pass_later() {
        // OTLP: HTTP 429, 502, 503, 504 are sent again; of gRPC 1 4 10 11 14 15 (8 with RetryInfo only).
        for kind in [Kind::Wait, Kind::Retry] {
            let code = Code::from(kind);
            assert!([429, 503].contains(&code.http().as_u16()) && code.grpc() == 14, "{kind:?}");
        }
        for kind in [Kind::Fix, Kind::TooLarge, Kind::NotFound, Kind::Unauthenticated, Kind::Forbidden, Kind::Bug] {
            let code = Code::from(kind);
            assert!(![429, 502, 503, 504].contains(&code.http().as_u16()), "{kind:?}");
            assert!(![1, 4, 10, 11, 14, 15].contains(&code.grpc()), "{kind:?}");
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the disk failed")]
    struct Inner {
        source: std::io::Error,
        kind: Kind,
    }

    impl Classify for Inner {
        fn kind(&self) -> Kind {
            self.kind
        }
    }

    #[test]
    fn causes_are_logged_and_not_told() {
        for (kind, told) in
            [(Kind::Retry, "the disk failed"), (Kind::Bug, "an error inside of Prism: please report it")]
        {
            let failure = Failure::of(&Inner { source: std::io::Error::other("open /secret/place"), kind });
            assert!(failure.message.starts_with(told) && !failure.message.contains("secret"), "{kind:?}");
            assert_eq!(failure.inner.as_deref(), Some("the disk failed: open /secret/place"));
        }
    }

    #[test]
    fn answers_are_json_with_the_place() {
        let mut failure = Failure::new(Code::BadRequest, "expected a field, found `ü`").hint("x");
        failure.place = Some(Box::new(Place { line: 1, column: 7, ..Place::default() }));
        let text = String::from_utf8(failure.to_json(1_000)).unwrap();
        assert_eq!(
            text,
            r#"{"error":{"code":"bad_request","message":"expected a field, found `ü`","hint":"x","line":1,"column":7}}"#
        );
        assert_eq!(failure.message_within(26), "expected a field, found `");
    }
}
