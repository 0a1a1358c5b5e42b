//! A server that takes everything and keeps nothing: shows what the generator itself costs, and tests it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// How it answers.
#[derive(Clone, Copy, Default)]
pub struct Behaviour {
    /// Answers each so-manieth request with 503.
    pub refuse_every: Option<u64>,
    /// Waits before each answer.
    pub delay: Duration,
}

/// A running sink; ends with the runtime.
pub struct Sink {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Sink {
    /// Listens at `address`.
    ///
    /// # Errors
    /// It cannot.
    pub async fn start(address: SocketAddr, behaviour: Behaviour) -> Result<Sink> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen at `{address}`"))?;
        let sink = Sink { address: listener.local_addr()?, requests: Arc::default() };
        let requests = Arc::clone(&sink.requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let requests = Arc::clone(&requests);
                let service = hyper::service::service_fn(move |request| {
                    let number = requests.fetch_add(1, Relaxed) + 1;
                    async move { Ok::<_, Infallible>(answer(request, number, behaviour).await) }
                });
                tokio::spawn(async move {
                    let connection =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    drop(connection.await);
                });
            }
        });
        Ok(sink)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

async fn answer(request: http::Request<Incoming>, number: u64, behaviour: Behaviour) -> Response<Full<Bytes>> {
    let mut body = request.into_body();
    // Frame by frame: the body is not kept.
    while let Some(Ok(_)) = body.frame().await {}
    if !behaviour.delay.is_zero() {
        tokio::time::sleep(behaviour.delay).await;
    }
    let mut response = Response::new(Full::default());
    if behaviour.refuse_every.is_some_and(|every| number.is_multiple_of(every)) {
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
