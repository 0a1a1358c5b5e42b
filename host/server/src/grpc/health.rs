//! `grpc.health.v1.Health/Check`: whether requests are taken, for load balancers that speak gRPC. Open, as `/ready` is.
//!
//! Source: grpc/grpc, `doc/health-checking.md`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use prost::Message as _;

use super::frame;
use crate::app::App;
use crate::error::{Code, Failure};

/// The name of a service, with room.
const BODY_BYTES_MAX: usize = 1_024;
/// Services that can be asked for; the empty name is the whole server.
const SERVICES: [&str; 4] = [
    "",
    "opentelemetry.proto.collector.trace.v1.TraceService",
    "opentelemetry.proto.collector.logs.v1.LogsService",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
];

/// `HealthCheckRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse`: 1 is SERVING, 2 is NOT_SERVING.
#[derive(Clone, PartialEq, prost::Message)]
struct Health {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The method.
pub(super) async fn check(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    if !super::is_call(request.headers()) {
        return super::no_call();
    }
    match answer(&app, request.into_body()).await {
        Ok(health) => super::answer(Some(health.encode_to_vec()), super::status_ok()),
        Err(failure) => super::refuse(&app, &failure),
    }
}

async fn answer(app: &App, body: Body) -> Result<Health, Failure> {
    let limits = app.body_limits();
    let reading = Limited::new(body, BODY_BYTES_MAX).collect();
    let read = tokio::time::timeout(Duration::from_millis(app.config.http.body_idle_timeout_ms), reading).await;
    let broken = || Failure::new(Code::BadRequest, "expected a `HealthCheckRequest`");
    let bytes = read.map_err(|_| Failure::new(Code::TooSlow, "expected the message in time"))?.map_err(|_| broken())?;
    let message = frame::unframe(&bytes.to_bytes(), &limits)?;
    let asked = Asked::decode(message.bytes).map_err(|_| broken())?;
    if message.compressed || !SERVICES.contains(&asked.service.as_str()) {
        return Err(Failure::new(Code::NotFound, "expected the name of a service of OTLP, or none"));
    }
    Ok(Health { status: if app.is_ready() { 1 } else { 2 } })
}
