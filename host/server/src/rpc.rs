//! `google.rpc.Status` and its details: how OTLP and gRPC answer errors.
//!
//! Source: googleapis, `google/rpc/status.proto` and `google/rpc/error_details.proto`.

use base64::Engine as _;
use prism_model::Signal;
use prost::Message;

use crate::error::{Code, Failure};

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    /// `google.rpc.Code`
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    /// What was expected and found.
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    /// When to come back, or what was wrong.
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    /// `type.googleapis.com/…`
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

/// `Export<Signal>ServiceResponse`: the three have the same fields.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportResponse {
    /// Unset where everything was accepted without a remark.
    #[prost(message, optional, tag = "1")]
    pub(crate) partial_success: Option<PartialSuccess>,
}

/// `Export<Signal>PartialSuccess`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PartialSuccess {
    /// `rejected_spans`, `rejected_log_records` or `rejected_data_points`
    #[prost(int64, tag = "1")]
    pub(crate) rejected: i64,
    /// Why; with 0 rejected a warning.
    #[prost(string, tag = "2")]
    pub(crate) error_message: String,
}

impl ExportResponse {
    /// The response in OTLP/JSON, where the three differ in the name of what was rejected.
    pub(crate) fn to_json(&self, signal: Signal) -> Vec<u8> {
        let rejected = match signal {
            Signal::Spans => "rejectedSpans",
            Signal::Logs => "rejectedLogRecords",
            Signal::Metrics => "rejectedDataPoints",
        };
        let Some(partial) = &self.partial_success else { return b"{}".to_vec() };
        // proto3 JSON writes 64-bit integers as strings.
        let partial =
            serde_json::json!({ rejected: partial.rejected.to_string(), "errorMessage": partial.error_message });
        serde_json::json!({ "partialSuccess": partial }).to_string().into_bytes()
    }
}

impl Status {
    /// The status of a failure.
    pub(crate) fn of(failure: &Failure, message_bytes_max: usize) -> Status {
        let message = failure.message_within(message_bytes_max).to_owned();
        let details = match failure.code {
            Code::Busy | Code::Unavailable => {
                let info = RetryInfo { retry_delay: Some(Delay { seconds: failure.retry_after_s.into() }) };
                vec![any("google.rpc.RetryInfo", &info)]
            }
            Code::BadRequest => {
                let violation = FieldViolation { field: String::new(), description: message.clone() };
                vec![any("google.rpc.BadRequest", &BadRequest { field_violations: vec![violation] })]
            }
            // Above all no RetryInfo with RESOURCE_EXHAUSTED: a request that is too large stays too large.
            _ => Vec::new(),
        };
        Status { code: failure.code.grpc(), message, details }
    }

    /// The status as JSON, without details: their JSON form names fields by type, and no client reads them.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::json!({ "code": self.code, "message": self.message }).to_string().into_bytes()
    }

    /// The value of `grpc-status-details-bin`.
    pub(crate) fn to_header(&self) -> String {
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(self.encode_to_vec())
    }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_later_carries_retry_info() {
        for code in Code::ALL {
            let status = Status::of(&Failure::new(code, "x"), 10);
            let retry = status.details.iter().any(|d| d.type_url.ends_with("RetryInfo"));
            assert_eq!(retry, matches!(code, Code::Busy | Code::Unavailable), "{code:?}");
        }
    }

    #[test]
    fn the_wire_form_is_that_of_google_rpc() {
        let status = Status::of(&Failure::new(Code::TooLarge, "abc"), 2);
        assert_eq!(status.encode_to_vec(), [0x08, 8, 0x12, 2, b'a', b'b']);
        assert_eq!(status.to_json(), br#"{"code":8,"message":"ab"}"#);
        let none = ExportResponse { partial_success: None };
        assert!(none.encode_to_vec().is_empty());
        assert_eq!(none.to_json(Signal::Spans), b"{}");
        let some =
            ExportResponse { partial_success: Some(PartialSuccess { rejected: 2, error_message: "why".into() }) };
        let json: serde_json::Value = serde_json::from_slice(&some.to_json(Signal::Logs)).unwrap();
        assert_eq!(json, serde_json::json!({ "partialSuccess": { "errorMessage": "why", "rejectedLogRecords": "2" } }));
    }
}
