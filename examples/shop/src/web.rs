//! HTTP between the programs of the shop, instrumented in one place: a server span for each request that comes in, a client
//! span for each that goes out, `traceparent` between them.
//!
//! It knows no shop: what a route does is in the module that lists it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value, global};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::telemetry::Telemetry;

/// Every program answers this; who watches the shop asks it all the time.
pub const HEALTH: &str = "GET /healthz";
/// No message of the shop is near to it.
const BODY_BYTES_MAX: usize = 1 << 20;
/// A program that does not answer by then counts as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What a program does with the requests that match its routes.
pub trait Routes: Send + Sync + 'static {
    /// Method and path, `{}` stands for one segment: `GET /products/{id}`.
    const ROUTES: &'static [&'static str];

    /// Answers a request with JSON. `call.route` is one of `ROUTES`.
    fn handle(&self, call: Call) -> impl Future<Output = Result<Json, Failure>> + Send;
}

/// A request that has come in.
pub struct Call {
    /// Holds the server span.
    pub cx: Context,
    /// The route that matched.
    pub route: &'static str,
    /// What stood for the `{}` of the route.
    pub segments: Vec<String>,
    /// The part after `?`.
    pub query: String,
    /// Header fields.
    pub headers: HeaderMap,
    body: Bytes,
}

impl Call {
    /// The body.
    ///
    /// # Errors
    /// 400 where it is not what the route expects.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| Failure::new(400, "BadRequest", error.to_string()))
    }

    /// A header field as text, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A request that failed, here or further on.
#[derive(Clone, Debug)]
pub struct Failure {
    /// HTTP status.
    pub status: u16,
    /// Becomes `error.type` and `exception.type`.
    pub kind: String,
    /// Becomes `exception.message`.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(status: u16, kind: &str, message: impl Into<String>) -> Failure {
        Failure { status, kind: kind.to_owned(), message: message.into() }
    }

    /// Writes the failure down in the span of `cx`, as a recorded exception and as its status.
    pub fn record(&self, cx: &Context) {
        cx.span().add_event(
            "exception",
            vec![
                KeyValue::new("exception.type", self.kind.clone()),
                KeyValue::new("exception.message", self.message.clone()),
            ],
        );
        cx.span().set_attribute(KeyValue::new("error.type", self.kind.clone()));
        cx.span().set_status(Status::error(self.message.clone()));
    }
}

/// Answers requests until `stop`, then lets go of `routes`.
pub async fn serve<R: Routes>(
    listener: TcpListener,
    telemetry: Arc<Telemetry>,
    routes: R,
    stop: impl Future<Output = ()>,
) {
    let routes = Arc::new(routes);
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        let (telemetry, routes) = (Arc::clone(&telemetry), Arc::clone(&routes));
        let answer = hyper::service::service_fn(move |request| {
            let (telemetry, routes) = (Arc::clone(&telemetry), Arc::clone(&routes));
            async move { Ok::<_, Infallible>(answer(&telemetry, routes.as_ref(), request).await) }
        });
        // A client that goes away is its own affair.
        connections.spawn(async move {
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await
        });
    }
    connections.shutdown().await;
}

async fn answer<R: Routes>(telemetry: &Telemetry, routes: &R, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let begun = Instant::now();
    let parent = global::get_text_map_propagator(|w3c| w3c.extract(&Headers(request.headers())));
    let (head, body) = request.into_parts();
    let method = head.method.to_string();
    let path = head.uri.path();
    let matched =
        R::ROUTES.iter().chain([&HEALTH]).find_map(|route| Some((*route, segments(route, &head.method, path)?)));
    let path_of = |route: &'static str| route.split_once(' ').map_or(route, |(_, path)| path);
    let route = matched.as_ref().map(|(route, _)| path_of(route));
    let name = matched.as_ref().map_or(head.method.as_str(), |(route, _)| route);
    let cx = telemetry.span(&parent, name, SpanKind::Server, server_attributes(&head));

    let outcome = match (matched, Limited::new(body, BODY_BYTES_MAX).collect().await) {
        (None, _) => Err(Failure::new(404, "NotFound", format!("no route for `{path}`"))),
        (_, Err(error)) => Err(Failure::new(400, "BadRequest", error.to_string())),
        (Some((HEALTH, _)), _) => {
            cx.span().set_attribute(KeyValue::new("http.route", "/healthz"));
            Ok(json!({"status": "ok"}))
        }
        (Some((route, segments)), Ok(body)) => {
            cx.span().set_attribute(KeyValue::new("http.route", path_of(route)));
            let query = head.uri.query().unwrap_or_default().to_owned();
            let call = Call { cx: cx.clone(), route, segments, query, headers: head.headers, body: body.to_bytes() };
            routes.handle(call).await
        }
    };
    let (status, body) = match outcome {
        Ok(body) => (200, body),
        Err(failure) => {
            // The conventions: a 4xx is the caller's error, not this server's.
            if failure.status >= 500 {
                failure.record(&cx);
            }
            (failure.status, json!({"error": failure.kind, "message": failure.message}))
        }
    };
    let body = body.to_string();
    cx.span().set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    cx.span().set_attribute(KeyValue::new("http.response.body.size", body.len() as i64));
    let mut measured = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("http.response.status_code", i64::from(status)),
        KeyValue::new("url.scheme", "http"),
    ];
    measured.extend(route.map(|route| KeyValue::new("http.route", route)));
    // Within the server span, so that a measurement can become an exemplar of it.
    let _current = cx.attach();
    telemetry.request_took(begun.elapsed(), &measured);
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn server_attributes(head: &http::request::Parts) -> Vec<KeyValue> {
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut attributes = vec![
        KeyValue::new("http.request.method", head.method.to_string()),
        KeyValue::new("url.scheme", "http"),
        KeyValue::new("url.path", head.uri.path().to_owned()),
        KeyValue::new("network.protocol.version", "1.1"),
    ];
    if let Some(query) = head.uri.query() {
        attributes.push(KeyValue::new("url.query", query.to_owned()));
    }
    if let Some((host, port)) = text(header::HOST).as_deref().and_then(|host| host.rsplit_once(':')) {
        attributes.push(KeyValue::new("server.address", host.to_owned()));
        attributes.push(KeyValue::new("server.port", port.parse::<i64>().unwrap_or_default()));
    }
    if let Some(browser) = text(header::USER_AGENT) {
        attributes.push(KeyValue::new("user_agent.original", browser));
    }
    if let Some(address) = text(HeaderName::from_static("x-forwarded-for")) {
        attributes.push(KeyValue::new("client.address", address));
    }
    // Someone switched on the capture of headers to look into a login problem, and forgot it. It happens.
    if let Some(login) = text(header::AUTHORIZATION) {
        let values = Value::Array(Array::String(vec![StringValue::from(login)]));
        attributes.push(KeyValue::new("http.request.header.authorization", values));
    }
    attributes
}

/// The path's segments that stand for the placeholders of `route`, if it matches.
fn segments(route: &str, method: &Method, path: &str) -> Option<Vec<String>> {
    let (wanted, template) = route.split_once(' ')?;
    if wanted != method.as_str() || template.split('/').count() != path.split('/').count() {
        return None;
    }
    let mut found = Vec::new();
    for (template, segment) in template.split('/').zip(path.split('/')) {
        match template.starts_with('{') {
            true => found.push(segment.to_owned()),
            false if template == segment => {}
            false => return None,
        }
    }
    Some(found)
}

/// Calls other programs.
pub struct Client {
    telemetry: Arc<Telemetry>,
    client: legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client whose spans go to `telemetry`.
    pub fn new(telemetry: Arc<Telemetry>) -> Client {
        Client { telemetry, client: legacy::Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Sends a request in a client span below that of `cx` and reads the answer. A `body` of null is none.
    ///
    /// # Errors
    /// The failure that the other program answered, or 502 where it did not.
    pub async fn call<T: DeserializeOwned>(
        &self,
        cx: &Context,
        method: Method,
        url: &str,
        headers: &[(HeaderName, &str)],
        body: Json,
    ) -> Result<T, Failure> {
        let attributes =
            vec![KeyValue::new("http.request.method", method.to_string()), KeyValue::new("url.full", url.to_owned())];
        let cx = self.telemetry.span(cx, method.to_string(), SpanKind::Client, attributes);
        let outcome = match request(&cx, method, url, headers, &body) {
            Ok(request) => tokio::time::timeout(CALL_TIMEOUT, self.send(&cx, request)).await.unwrap_or_else(|_| {
                Err(Failure::new(504, "Timeout", format!("no answer within {} s", CALL_TIMEOUT.as_secs())))
            }),
            Err(error) => Err(Failure::new(400, "BadRequest", format!("{error:#}"))),
        };
        if let Err(failure) = &outcome {
            failure.record(&cx);
        }
        outcome
    }

    async fn send<T: DeserializeOwned>(&self, cx: &Context, request: Request<Full<Bytes>>) -> Result<T, Failure> {
        let unreachable = |error: &dyn std::fmt::Display| Failure::new(502, "Unreachable", error.to_string());
        let span = cx.span();
        span.set_attribute(KeyValue::new("server.address", request.uri().host().unwrap_or_default().to_owned()));
        span.set_attribute(KeyValue::new("server.port", i64::from(request.uri().port_u16().unwrap_or(80))));
        let response = self.client.request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        let body =
            Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await.map_err(|error| unreachable(&error))?;
        let body: Json = serde_json::from_slice(&body.to_bytes()).map_err(|error| unreachable(&error))?;
        if status >= 400 {
            let text = |key: &str| body[key].as_str().unwrap_or_default();
            return Err(Failure::new(status, text("error"), text("message")));
        }
        serde_json::from_value(body).map_err(|error| unreachable(&error))
    }
}

fn request(
    cx: &Context,
    method: Method,
    url: &str,
    headers: &[(HeaderName, &str)],
    body: &Json,
) -> Result<Request<Full<Bytes>>> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut request = Request::builder().method(method).uri(url).body(Full::from(body)).context("invalid request")?;
    for (name, value) in headers {
        request.headers_mut().insert(name, HeaderValue::from_str(value)?);
    }
    global::get_text_map_propagator(|w3c| w3c.inject_context(cx, &mut HeadersMut(request.headers_mut())));
    Ok(request)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_match_segment_by_segment() {
        let found = |route, path| segments(route, &Method::GET, path);
        assert_eq!(found("GET /products/{id}", "/products/p-7"), Some(vec!["p-7".to_owned()]));
        assert_eq!(found("GET /products/{id}", "/products"), None);
        assert_eq!(found("POST /products", "/products"), None);
        assert_eq!(found("GET /", "/"), Some(vec![]));
    }
}
