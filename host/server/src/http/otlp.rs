//! OTLP over HTTP: `POST /v1/traces`, `POST /v1/logs`, `POST /v1/metrics`.
//!
//! Answers and errors come in the request's encoding.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Request, Version, header};
use prism_ingest::json::Format;
use prism_model::Signal;
use prost::Message as _;

use super::body;
use super::caller::{self, Head};
use super::respond;
use crate::access::Role;
use crate::app::App;
use crate::error::{Code, Failure, within};
use crate::rpc::{ExportResponse, PartialSuccess, Status};

/// Where OTLP is taken.
pub(super) const PATHS: [&str; 3] = ["/v1/traces", "/v1/logs", "/v1/metrics"];

/// How a request is encoded, by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `application/x-protobuf`
    Protobuf,
    /// `application/json`
    Json,
    /// Neither: answered as text.
    Other,
}

impl Encoding {
    /// The media type is compared without parameters and case, as the Collector does.
    pub(crate) fn of(headers: &HeaderMap) -> Encoding {
        let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media_type = text.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/x-protobuf") {
            Encoding::Protobuf
        } else if media_type.eq_ignore_ascii_case("application/json") {
            Encoding::Json
        } else {
            Encoding::Other
        }
    }
}

/// `POST /v1/traces`
pub(super) async fn traces(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Spans, request).await
}

/// `POST /v1/logs`
pub(super) async fn logs(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Logs, request).await
}

/// `POST /v1/metrics`
pub(super) async fn metrics(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Metrics, request).await
}

async fn export(app: Arc<App>, signal: Signal, request: Request<Body>) -> Response {
    let encoding = Encoding::of(request.headers());
    match accept(&app, signal, encoding, request).await {
        Ok(response) => response,
        Err(failure) => refuse(&app, encoding, &failure),
    }
}

async fn accept(
    app: &Arc<App>,
    signal: Signal,
    encoding: Encoding,
    request: Request<Body>,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, ());
    let tenant = match checked(app, encoding, &head).await {
        Ok(tenant) => tenant,
        Err(failure) => {
            body::discard(head.headers(), body).await;
            return Err(failure);
        }
    };
    let held = body::read(head.headers(), body, app.body_limits(), &tenant, &app.room).await?;
    let request = prism_ingest::Request {
        body: held.bytes.clone(),
        format: if encoding == Encoding::Json { Format::Json } else { Format::Protobuf },
        content_encoding: text(head.headers(), &header::CONTENT_ENCODING),
        idempotency_key: text(head.headers(), &http::HeaderName::from_static("idempotency-key")),
    };
    let accepted = app.ingest(tenant, signal, request, held).await?;
    let answer = export_response(app, &accepted);
    let mut response = match encoding {
        Encoding::Json => respond::ok("application/json", answer.to_json(signal)),
        _ => respond::ok("application/x-protobuf", answer.encode_to_vec()),
    };
    respond::token(&mut response, &accepted.token);
    Ok(response)
}

/// `Export<Signal>ServiceResponse`: partial success is unset where there is nothing to say.
pub(crate) fn export_response(app: &App, accepted: &prism_ingest::Accepted) -> ExportResponse {
    let partial_success = (accepted.rejected > 0 || !accepted.reason.is_empty()).then(|| PartialSuccess {
        rejected: i64::try_from(accepted.rejected).unwrap_or(i64::MAX),
        error_message: within(&accepted.reason, app.config.http.message_bytes_max).to_owned(),
    });
    ExportResponse { partial_success }
}

/// What is checked before a byte of the body is read.
async fn checked(app: &App, encoding: Encoding, head: &Request<()>) -> Result<prism_model::TenantId, Failure> {
    let tenant = caller::tenant(&app.access, Head::of(head), Role::Ingest).await?;
    let told = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().any(|name| head.headers().contains_key(name));
    if head.version() <= Version::HTTP_11 && !told {
        // By HTTP/1.1 such a request has no body, so what its client sends after the head would be lost with a 200.
        let message = "expected `Content-Length` or `Transfer-Encoding: chunked`, found neither";
        return Err(Failure::new(Code::NoLength, message));
    }
    let packed = text(head.headers(), &header::CONTENT_ENCODING).unwrap_or_default();
    if !prism_ingest::body::is_served(&packed) {
        let found: String = packed.chars().take(80).collect();
        let message = format!("expected `content-encoding` `gzip`, `zstd` or none, found `{found}`");
        return Err(Failure::new(Code::BadMediaType, message));
    }
    match encoding {
        Encoding::Protobuf | Encoding::Json => Ok(tenant),
        Encoding::Other => {
            let found = text(head.headers(), &header::CONTENT_TYPE);
            let found: String = found.as_deref().unwrap_or("none").chars().take(100).collect();
            Err(Failure::new(
                Code::BadMediaType,
                format!("expected `content-type: application/x-protobuf` or `application/json`, found `{found}`"),
            ))
        }
    }
}

fn text(headers: &HeaderMap, name: &http::HeaderName) -> Option<String> {
    // A header that is no text is handed on as what it is not: unknown, and so refused where it matters.
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// `google.rpc.Status` in the request's encoding, as text where that is none of OTLP's.
pub(crate) fn refuse(app: &App, encoding: Encoding, failure: &Failure) -> Response {
    let bytes_max = app.config.http.message_bytes_max;
    let (media_type, bytes) = match encoding {
        Encoding::Protobuf => ("application/x-protobuf", Status::of(failure, bytes_max).encode_to_vec()),
        Encoding::Json => ("application/json", Status::of(failure, bytes_max).to_json()),
        Encoding::Other => {
            ("text/plain; charset=utf-8", format!("{}\n", failure.message_within(bytes_max)).into_bytes())
        }
    };
    respond::failure(failure, media_type, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_compared_without_parameters_and_case() {
        let of = |text: &str| Encoding::of(&HeaderMap::from_iter([(header::CONTENT_TYPE, text.parse().unwrap())]));
        assert_eq!(of("application/x-protobuf"), Encoding::Protobuf);
        assert_eq!(of("Application/X-Protobuf; charset=utf-8"), Encoding::Protobuf);
        assert_eq!(of("application/json;charset=UTF-8"), Encoding::Json);
        assert_eq!(of("text/plain"), Encoding::Other);
        assert_eq!(Encoding::of(&HeaderMap::new()), Encoding::Other);
    }
}
