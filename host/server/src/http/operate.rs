//! `/health`, `/ready`, `/metrics`: for who runs the node.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode};

use super::caller::{self, Head};
use super::respond;
use crate::app::App;
use crate::metrics::EXPOSITION_MEDIA_TYPE;

/// `GET /health`: the process answers.
pub(super) async fn health() -> Response {
    respond::ok(
        "application/json",
        concat!("{\"status\":\"ok\",\"name\":\"prism\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}\n"),
    )
}

/// `GET /ready`: the process takes requests; not before it has opened its store, and no longer once it ends.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.is_ready() {
        respond::line(StatusCode::OK, "ready\n")
    } else {
        respond::line(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// `GET /metrics`: open to this machine, and with an operator's key. Tenants' names stand in it, so no tenant's key opens it.
pub(super) async fn metrics(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (head, _) = request.into_parts();
    let head = Request::from_parts(head, ());
    match caller::operator(&app.access, Head::of(&head)).await {
        Ok(()) => respond::ok(EXPOSITION_MEDIA_TYPE, app.expose()),
        Err(failure) => respond::json(&failure, app.config.http.message_bytes_max),
    }
}
