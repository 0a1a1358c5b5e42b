//! Accepts connections within bounds, and ends them in order: no new request, those under way are finished.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::config::HttpSettings;
use crate::metrics::Requests;

/// After a failed accept (usually: no file left) the next is tried after this time, and not at once in a loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// HTTP/2 clients that do not answer a ping for as long are gone.
const PING: Duration = Duration::from_secs(20);
/// HTTP/2 requests at once on a connection: exporters have a handful.
const STREAMS_MAX: u32 = 128;
/// HTTP/2 flow control: 1 MiB on the way for a connection carries 50 MB/s at 20 ms, and bounds what is buffered.
const CONNECTION_WINDOW: u32 = 1 << 20;
const STREAM_WINDOW: u32 = 512 << 10;
/// Head of a request over HTTP/1.1: the longest text form of a query, percent-encoded, and room for headers.
const HEAD_BYTES_MAX: usize = 256 << 10;

/// Where a request came from. The transport's peer, never a header's word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Serves `router` on `socket` until `stop` holds true; returns when every connection has ended.
pub(crate) async fn serve(
    socket: TcpListener,
    router: Router,
    settings: HttpSettings,
    requests: Arc<Requests>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(settings.connections_max));
    let connections = TaskTracker::new();
    loop {
        // A place first: what has none waits in the kernel's backlog and costs nothing here.
        let place = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection =
                    connection(stream, peer, router.clone(), settings.clone(), requests.clone(), stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(socket);
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    settings: HttpSettings,
    requests: Arc<Requests>,
    mut stop: watch::Receiver<bool>,
) {
    // Answers are small and waited for.
    let _best_effort = stream.set_nodelay(true);
    let spoke = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let spoke = spoke.clone();
        move |request: Request<Incoming>| {
            spoke.store(true, Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            router.clone().oneshot(request)
        }
    });
    let header_timeout = Duration::from_millis(settings.header_timeout_ms);
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_header_list_size(64 << 10);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    // hyper's own timeout begins when the protocol is known; who says nothing or one byte is cut here.
    let mut first_word = std::pin::pin!(tokio::time::sleep(header_timeout));
    requests.connections.fetch_add(1, Relaxed);
    let (mut waits, mut stopping) = (true, false);
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                break;
            }
            () = first_word.as_mut(), if waits => {
                waits = false;
                if !spoke.load(Relaxed) {
                    requests.connections_silent.fetch_add(1, Relaxed);
                    break;
                }
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
    requests.connections.fetch_sub(1, Relaxed);
}
