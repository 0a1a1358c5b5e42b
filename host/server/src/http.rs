//! Everything over HTTP.
//!
//! ```text
//! connections (accept, bounds, order of ending) -> router -> cors (pages of other origins) -> observe (counts, log, panics) -> caller (who) -> body (bounded)
//!   -> otlp | query | tail | operate -> respond
//! ```

pub(crate) mod connections;
pub(crate) mod cors;
pub(crate) mod observe;
pub(crate) mod caller;
pub(crate) mod body;
pub(crate) mod otlp;
mod query;
mod tail;
mod operate;
pub(crate) mod respond;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use http::Request;

use crate::app::App;
use crate::error::{Code, Failure};
use crate::grpc;

/// What is served over HTTP.
pub(crate) fn router(app: Arc<App>) -> Router {
    let router = Router::new()
        .route("/v1/traces", post(otlp::traces))
        .route("/v1/logs", post(otlp::logs))
        .route("/v1/metrics", post(otlp::metrics))
        .route("/v1/query", post(query::post).get(query::get))
        .route("/v1/query/explain", post(query::explain))
        .route("/v1/tail", post(tail::post).get(tail::get))
        .route("/v1/traces/{id}", get(query::trace))
        .route("/v1/fields", get(query::fields))
        .route("/v1/fields/{name}/values", get(query::values))
        .route("/health", get(operate::health))
        .route("/ready", get(operate::ready))
        .route("/metrics", get(operate::metrics))
        .merge(grpc::services())
        .fallback(not_found)
        .method_not_allowed_fallback(bad_method)
        .layer(axum::middleware::from_fn_with_state(app.clone(), observe::observe))
        .with_state(app.clone());
    // The configuration was checked when it was read: it names origins, or none.
    match cors::Cors::new(&app.config.http.cors) {
        Ok(Some(settings)) => router.layer(axum::middleware::from_fn_with_state(Arc::new(settings), cors::cors)),
        _ => router,
    }
}

async fn not_found(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    if grpc::is_call(request.headers()) {
        return grpc::unknown(State(app), request).await;
    }
    let failure = Failure::new(Code::NotFound, "nothing is served at this path").hint(
        "OTLP goes to /v1/traces, /v1/logs and /v1/metrics, queries to /v1/query, /v1/query/explain and /v1/tail; /v1/traces/{id}, /v1/fields, /health, /ready, \
         /metrics",
    );
    elsewhere(&app, request, &failure).await
}

async fn bad_method(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let message = format!("`{}` is not served at this path: `Allow` says what is", request.method());
    elsewhere(&app, request, &Failure::new(Code::BadMethod, message)).await
}

/// Refuses what no handler takes: OTLP's clients are answered as OTLP has it, also where a signal is not served.
async fn elsewhere(app: &App, request: Request<Body>, failure: &Failure) -> Response {
    let encoding = otlp::Encoding::of(request.headers());
    let path = request.uri().path();
    let of_otlp = otlp::PATHS.contains(&path) || path.starts_with("/v1development/");
    let (head, body) = request.into_parts();
    body::discard(&head.headers, body).await;
    if of_otlp {
        otlp::refuse(app, encoding, failure)
    } else {
        respond::json(failure, app.config.http.message_bytes_max)
    }
}
