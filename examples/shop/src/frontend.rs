//! The shop's website: knows who is logged in, asks the other programs.

use std::sync::Arc;

use http::Method;
use opentelemetry::KeyValue;
use opentelemetry::logs::Severity;
use opentelemetry::trace::TraceContextExt;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

use crate::checkout::{Line, Order, Receipt};
use crate::telemetry::Telemetry;
use crate::web::{self, Call, Client, Failure, Routes};

/// Where the programs are that the frontend asks.
pub struct Downstream {
    /// URL of the catalogue.
    pub catalogue: String,
    /// URL of the checkout.
    pub checkout: String,
}

/// Runs the frontend until `stop`.
pub async fn run(listener: TcpListener, telemetry: Arc<Telemetry>, to: Downstream, stop: impl Future<Output = ()>) {
    let client = Client::new(Arc::clone(&telemetry));
    web::serve(listener, Arc::clone(&telemetry), Frontend { telemetry, client, to }, stop).await;
}

struct Frontend {
    telemetry: Arc<Telemetry>,
    client: Client,
    to: Downstream,
}

impl Routes for Frontend {
    const ROUTES: &'static [&'static str] = &["GET /", "GET /account", "GET /products/{id}", "POST /orders"];

    async fn handle(&self, call: Call) -> Result<Json, Failure> {
        let user = user(&call)?;
        call.cx.span().set_attribute(KeyValue::new("user.id", user));
        let outcome = match call.route {
            "GET /" => {
                self.client
                    .call(&call.cx, Method::GET, &format!("{}/products", self.to.catalogue), &[], Json::Null)
                    .await
            }
            "GET /account" => self.account(&call),
            "GET /products/{id}" => {
                let url = format!("{}/products/{}", self.to.catalogue, call.segments[0]);
                self.client.call(&call.cx, Method::GET, &url, &[], Json::Null).await
            }
            _ => self.order(&call).await,
        };
        let (severity, status) =
            outcome.as_ref().map_or_else(|f| (Severity::Warn, f.status), |_| (Severity::Info, 200));
        let line =
            format!("{} \"{}\" {status} \"{}\"", call.header("x-forwarded-for"), call.route, call.header("user-agent"));
        let route = KeyValue::new("http.route", call.route);
        self.telemetry.log(
            &call.cx,
            severity,
            line,
            vec![route, KeyValue::new("http.response.status_code", i64::from(status))],
        );
        outcome
    }
}

impl Frontend {
    fn account(&self, call: &Call) -> Result<Json, Failure> {
        let email = call.query.strip_prefix("email=").unwrap_or_default();
        if email.is_empty() {
            return Err(Failure::new(400, "BadRequest", "expected an `email` in the query"));
        }
        let body = format!("{email} signed in from {}", call.header("x-forwarded-for"));
        self.telemetry.log(&call.cx, Severity::Info, body, vec![KeyValue::new("event.outcome", "success")]);
        Ok(json!({"email": email}))
    }

    async fn order(&self, call: &Call) -> Result<Json, Failure> {
        let order: Order = call.json()?;
        let items: i64 = order.lines.iter().map(|Line { count, .. }| i64::from(*count)).sum();
        call.cx.span().set_attribute(KeyValue::new("order.id", order.id.clone()));
        call.cx.span().set_attribute(KeyValue::new("order.items", items));
        let url = format!("{}/orders", self.to.checkout);
        let receipt: Receipt = self.client.call(&call.cx, Method::POST, &url, &[], json!(order)).await?;
        Ok(json!(receipt))
    }
}

/// Who sends the request: the login carries the user's id.
fn user(call: &Call) -> Result<String, Failure> {
    call.header("authorization")
        .strip_prefix("Bearer tok_")
        .and_then(|token| token.split_once('_'))
        .map(|(user, _)| user.to_owned())
        .ok_or_else(|| Failure::new(401, "Unauthenticated", "expected a bearer token"))
}
