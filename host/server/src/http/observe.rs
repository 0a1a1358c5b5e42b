//! Around every request: counted, timed, logged by what happened and never by what was in it; a panic is an answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt as _;
use http::Request;

use super::otlp;
use super::respond::{self, Note};
use crate::app::App;
use crate::error::{Code, Failure};
use crate::metrics::Route;
use crate::telemetry;

/// The middleware.
pub(crate) async fn observe(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let began = Instant::now();
    let route = route(&request);
    let method = request.method().clone();
    let form = otlp::Encoding::of(request.headers());
    let settings = &app.config.http;
    let limit = Duration::from_millis(settings.body_timeout_ms.saturating_add(settings.answer_timeout_ms));
    let span = app.telemetry.as_ref().and_then(|telemetry| telemetry.begin(&request, route));
    let answering = AssertUnwindSafe(telemetry::within(span.as_ref(), next.run(request))).catch_unwind();
    let response = match tokio::time::timeout(limit, answering).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            let words = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            let failure = Failure::new(
                Code::Bug,
                "an error inside of Prism: please report it with the time at which it happened",
            );
            refuse(&app, route, form, &failure.inner(format!("panic: {}", words.unwrap_or_default())))
        }
        Err(_) => {
            let failure = Failure::new(
                Code::Unavailable,
                "no answer in time (`http.answer_timeout_ms`): send the same again later",
            );
            refuse(&app, route, form, &failure)
        }
    };
    let took = began.elapsed();
    let note = response.extensions().get::<Note>();
    app.requests.answered(route, note.map(|n| n.code), took);
    log(route, method.as_str(), response.status().as_u16(), note, took);
    if let (Some(telemetry), Some(span)) = (&app.telemetry, span) {
        telemetry.end(span, response.status().as_u16(), note.map(|n| n.code));
    }
    response
}

fn log(route: Route, method: &str, status: u16, note: Option<&Note>, took: Duration) {
    let (route, took_ms) = (route.as_str(), took.as_secs_f64() * 1e3);
    let outcome = note.map_or("ok", |n| n.code.name());
    let inner = note.and_then(|n| n.inner.as_deref()).unwrap_or_default();
    match note.map(|n| n.code) {
        Some(Code::Bug) => tracing::error!(route, method, status, outcome, inner, took_ms, "request"),
        Some(Code::Unavailable) => tracing::warn!(route, method, status, outcome, inner, took_ms, "request"),
        // What is wrong with a client's input is the client's business, and its words may be personal: no inner here.
        _ => tracing::debug!(route, method, status, outcome, took_ms, "request"),
    }
}

fn refuse(app: &App, route: Route, form: otlp::Encoding, failure: &Failure) -> Response {
    match route {
        Route::Grpc => crate::grpc::refuse(app, failure),
        Route::Traces | Route::Logs | Route::Metrics => otlp::refuse(app, form, failure),
        _ => respond::json(failure, app.config.http.message_bytes_max),
    }
}

fn route<B>(request: &Request<B>) -> Route {
    match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some("/v1/traces") => Route::Traces,
        Some("/v1/logs") => Route::Logs,
        Some("/v1/metrics") => Route::Metrics,
        Some("/v1/query") => Route::Query,
        Some("/v1/tail") => Route::Tail,
        Some("/v1/traces/{id}") => Route::Trace,
        Some("/v1/fields" | "/v1/fields/{name}/values") => Route::Fields,
        Some("/health" | "/ready" | "/metrics") => Route::Operate,
        Some(path) if path.starts_with("/opentelemetry.") || path.starts_with("/grpc.") => Route::Grpc,
        _ => Route::Other,
    }
}
