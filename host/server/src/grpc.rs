//! OTLP over gRPC: the `Export` methods, as bytes into the same pipeline as over HTTP; and the health service.
//!
//! ```text
//! router -> export | health -> frame (one message of a unary call) -> pipeline -> answer (message and trailers)
//! ```
//!
//! A unary call is a head, five bytes before the message, and trailers, so it is written here rather than generated: the
//! body is read by the reader that bounds every body, keys are checked before it, compression is undone by the pipeline's
//! bounded decoder, and a message that is too large is RESOURCE_EXHAUSTED without RetryInfo. tonic would answer
//! OUT_OF_RANGE, which clients send again.
//!
//! Source: grpc/grpc, `doc/PROTOCOL-HTTP2.md`, `doc/statuscodes.md`; opentelemetry-proto, `collector/*/v1`.

mod frame;
mod health;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use prism_ingest::json::Format;
use prism_model::Signal;
use prost::Message as _;

use crate::access::Role;
use crate::app::App;
use crate::error::{Code, Failure};
use crate::http::body;
use crate::http::caller::{self, Head};
use crate::http::observe::observe;
use crate::http::otlp::export_response;
use crate::http::respond;
use crate::rpc::Status;

/// What compressed messages may be.
const ENCODINGS: &str = "identity,gzip,zstd";
/// Bytes of a status message. It goes out twice in the head of the answer, percent-encoded (three letters a byte at worst) and
/// in base64, and clients take heads of 8 KiB in all.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// The services, on a listener of their own.
pub(crate) fn router(app: Arc<App>) -> Router {
    services().fallback(unknown).layer(axum::middleware::from_fn_with_state(app.clone(), observe)).with_state(app)
}

/// The paths of the services: they are served on the HTTP address too.
pub(crate) fn services() -> Router<Arc<App>> {
    Router::new()
        .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", post(traces))
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", post(logs))
        .route("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", post(metrics))
        .route("/grpc.health.v1.Health/Check", post(health::check))
}

/// Whether a request is a gRPC call, by its media type: `application/grpc`, `application/grpc+proto`, with parameters or not.
/// `application/grpc-web` is another protocol.
pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    ["application/grpc", "application/grpc+proto"].iter().any(|known| media_type.eq_ignore_ascii_case(known))
}

async fn traces(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Spans, request).await
}

async fn logs(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Logs, request).await
}

async fn metrics(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Metrics, request).await
}

/// A method that is not served.
pub(crate) async fn unknown(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    if !is_call(request.headers()) {
        return no_call();
    }
    let message =
        "expected the `Export` method of OTLP's trace, logs or metrics service, or `grpc.health.v1.Health/Check`";
    refuse(&app, &Failure::new(Code::Unimplemented, message))
}

/// What is no gRPC call is told so by its HTTP status, as the protocol asks.
fn no_call() -> Response {
    let failure = Failure::new(Code::BadMediaType, "expected a gRPC call (`content-type: application/grpc`)");
    respond::failure(&failure, "text/plain; charset=utf-8", format!("{}\n", failure.message).into_bytes())
}

async fn export(app: Arc<App>, signal: Signal, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, ());
    if !is_call(head.headers()) {
        body::discard(head.headers(), body).await;
        return no_call();
    }
    let late = || Failure::new(Code::TooSlow, "no answer within the time that the call gave (`grpc-timeout`)");
    let answered = match frame::timeout(head.headers()) {
        None => accept(&app, signal, &head, body).await,
        // Without this a body that is there already would be taken at the first look, and the answer be wrong.
        Some(Duration::ZERO) => Err(late()),
        // What was taken by then goes on: a client that sends the same again finds it done.
        Some(time) => {
            tokio::time::timeout(time, accept(&app, signal, &head, body)).await.unwrap_or_else(|_| Err(late()))
        }
    };
    answered.unwrap_or_else(|failure| refuse(&app, &failure))
}

async fn accept(app: &Arc<App>, signal: Signal, head: &Request<()>, body: Body) -> Result<Response, Failure> {
    let tenant = caller::tenant(&app.access, Head::of(head), Role::Ingest).await?;
    let limits = app.body_limits();
    let framed = body::BodyLimits { bytes_max: limits.bytes_max + frame::PREFIX_BYTES, ..limits };
    let held = body::read(head.headers(), body, framed, &tenant, &app.room).await?;
    let message = frame::unframe(&held.bytes, &limits)?;
    let content_encoding = if message.compressed { Some(encoding(head.headers())?) } else { None };
    let idempotency_key = head.headers().get("idempotency-key").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let request =
        prism_ingest::Request { body: message.bytes, format: Format::Protobuf, content_encoding, idempotency_key };
    let accepted = app.ingest(tenant, signal, request, held).await?;
    let mut response = answer(Some(export_response(app, &accepted).encode_to_vec()), status_ok());
    respond::token(&mut response, &accepted.token);
    Ok(response)
}

/// The encoding of a message whose flag says that it is compressed.
fn encoding(headers: &HeaderMap) -> Result<String, Failure> {
    let found = headers.get("grpc-encoding").map(|value| String::from_utf8_lossy(value.as_bytes()));
    match found.as_deref() {
        Some(name @ ("gzip" | "zstd")) => Ok(name.to_owned()),
        None | Some("identity") => {
            let message =
                "expected `grpc-encoding: gzip` or `zstd` with a message that is marked as compressed, found none";
            Err(Failure::new(Code::BadRequest, message))
        }
        Some(other) => {
            let found: String = other.chars().take(80).collect();
            let message = format!("expected `grpc-encoding` of `{ENCODINGS}`, found `{found}`");
            Err(Failure::new(Code::Unimplemented, message))
        }
    }
}

fn status_ok() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))])
}

/// A status without a message.
pub(crate) fn refuse(app: &App, failure: &Failure) -> Response {
    let status = Status::of(failure, app.config.http.message_bytes_max.min(MESSAGE_BYTES_MAX));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status.code));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&status.message)) {
        trailers.insert("grpc-message", message);
    }
    if let (false, Ok(details)) = (status.details.is_empty(), HeaderValue::from_str(&status.to_header())) {
        trailers.insert("grpc-status-details-bin", details);
    }
    let mut response = answer(None, trailers);
    respond::note(&mut response, failure);
    response
}

/// A message and trailers; without a message the trailers are the head (Trailers-Only).
fn answer(message: Option<Vec<u8>>, trailers: HeaderMap) -> Response {
    let mut response = match message {
        None => {
            let mut response = Response::new(Body::empty());
            response.headers_mut().extend(trailers);
            response
        }
        Some(message) => Response::new(frame::framed(&message, trailers)),
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static(ENCODINGS));
    response
}

/// The form of `grpc-message`: printable ASCII but `%`, everything else by byte.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("100 % ü\n"), "100 %25 %C3%BC%0A");
    }

    #[test]
    fn calls_are_told_by_their_media_type() {
        let call = |text: &str| is_call(&HeaderMap::from_iter([(header::CONTENT_TYPE, text.parse().unwrap())]));
        assert!(call("application/grpc") && call("Application/gRPC+proto; charset=utf-8"));
        assert!(!call("application/grpc-web") && !call("application/grpc+json") && !call("application/json"));
        assert!(!is_call(&HeaderMap::new()));
    }
}
