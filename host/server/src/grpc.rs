//! OTLP over gRPC: the `Export` methods, as bytes into the same pipeline as over HTTP.
//!
//! A unary call is a head, five bytes before the message, and trailers, so it is written here rather than generated: the
//! body is read by the reader that bounds every body, keys are checked before it, compression is undone by the pipeline's
//! bounded decoder, and a message that is too large is RESOURCE_EXHAUSTED without RetryInfo. tonic would answer
//! OUT_OF_RANGE, which clients send again.
//!
//! Source: grpc/grpc, `doc/PROTOCOL-HTTP2.md`; opentelemetry-proto, `collector/*/v1`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prism_model::Signal;
use prost::Message as _;

use crate::access::Role;
use crate::app::App;
use crate::error::{Code, Failure};
use crate::http::body::{self, Held};
use crate::http::caller::{self, Head};
use crate::http::observe::observe;
use crate::http::otlp::export_response;
use crate::http::respond;
use crate::rpc::Status;

/// The flag and the length before a message.
const PREFIX_BYTES: usize = 5;
/// What compressed messages may be.
const ENCODINGS: &str = "identity,gzip,zstd";

/// The services.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", post(traces))
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", post(logs))
        .fallback(unknown)
        .layer(axum::middleware::from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

async fn traces(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Spans, request).await
}

async fn logs(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Logs, request).await
}

async fn unknown(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let message = match request.uri().path() {
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
            "metrics are not stored yet: send traces and logs, and leave metrics out"
        }
        _ => "expected the `Export` method of OTLP's trace or logs service",
    };
    refuse(&app, &Failure::new(Code::Unimplemented, message))
}

async fn export(app: Arc<App>, signal: Signal, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, ());
    match accept(&app, signal, &head, body).await {
        Ok(response) => response,
        Err(failure) => refuse(&app, &failure),
    }
}

async fn accept(app: &Arc<App>, signal: Signal, head: &Request<()>, body: Body) -> Result<Response, Failure> {
    let media_type = head.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !media_type.starts_with("application/grpc") {
        return Err(Failure::new(Code::BadMediaType, "expected `content-type: application/grpc`"));
    }
    let tenant = caller::tenant(&app.access, Head::of(head), Role::Ingest).await?;
    let mut limits = app.body_limits();
    limits.bytes_max += PREFIX_BYTES;
    let held = body::read(body, limits, &tenant, &app.room).await?;
    let (compressed, message) = unframe(&held)?;
    let content_encoding = if compressed { Some(encoding(head.headers())?) } else { None };
    let idempotency_key = head.headers().get("idempotency-key").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let request = prism_ingest::Request { body: message, content_encoding, idempotency_key };
    let accepted = app.ingest(tenant, signal, request, held).await?;
    let mut response = answer(Some(export_response(app, &accepted).encode_to_vec()), status_ok());
    respond::token(&mut response, &accepted.token);
    Ok(response)
}

/// The one message of a unary call, and whether it is compressed.
fn unframe(held: &Held) -> Result<(bool, Bytes), Failure> {
    let broken = |message: &'static str| Failure::new(Code::BadRequest, message);
    let bytes = &held.bytes;
    let (Some(flag), Some(length)) = (bytes.first(), bytes.get(1..PREFIX_BYTES)) else {
        return Err(broken("expected a message, found none"));
    };
    let length = length.iter().fold(0usize, |n, byte| n << 8 | usize::from(*byte));
    if bytes.len() - PREFIX_BYTES != length || *flag > 1 {
        return Err(broken("expected one message of the length that it announces"));
    }
    Ok((*flag == 1, bytes.slice(PREFIX_BYTES..)))
}

fn encoding(headers: &HeaderMap) -> Result<String, Failure> {
    match headers.get("grpc-encoding").and_then(|v| v.to_str().ok()) {
        Some(name @ ("gzip" | "zstd")) => Ok(name.to_owned()),
        _ => Err(Failure::new(Code::Unimplemented, "expected a message that is not compressed, or by gzip or zstd")),
    }
}

fn status_ok() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))])
}

/// A status without a message.
pub(crate) fn refuse(app: &App, failure: &Failure) -> Response {
    let status = Status::of(failure, app.config.http.message_bytes_max);
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
        Some(message) => {
            let mut data = BytesMut::with_capacity(PREFIX_BYTES + message.len());
            data.put_u8(0);
            data.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
            data.put_slice(&message);
            let frames = [Ok::<_, std::convert::Infallible>(Frame::data(data.freeze())), Ok(Frame::trailers(trailers))];
            Response::new(Body::new(StreamBody::new(stream::iter(frames))))
        }
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
}
