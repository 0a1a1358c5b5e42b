//! Accepts connections within bounds, and ends them in order: no new request, those under way are finished.
//!
//! ```text
//! accept -> tls -> stall (a bound on each write) -> hyper -> router -> pulse (what moves) -> limits (live, end, cut)
//! ```

mod stall;
mod pulse;
mod limits;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use self::limits::{Limits, Reason, Verdict};
pub(crate) use self::pulse::Live;
use self::pulse::Pulse;
use self::stall::Stall;
use crate::config::HttpSettings;
use crate::metrics::Requests;
use crate::tls::Tls;

/// After a failed accept (usually: no file left) the next is tried after this time, and not at once in a loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// HTTP/2 flow control: 1 MiB on the way for a connection carries 50 MB/s at 20 ms, and bounds what is buffered.
const CONNECTION_WINDOW: u32 = 1 << 20;
const STREAM_WINDOW: u32 = 512 << 10;
/// A piece of a body over HTTP/2: the least that clients may assume is 16 KiB, of which a request of some MB would need hundreds.
const FRAME_BYTES_MAX: u32 = 128 << 10;
/// Head of a request over HTTP/2, where each stream of a connection may have one.
const STREAM_HEAD_BYTES_MAX: u32 = 64 << 10;
/// HTTP/2 streams that a client opened and reset before they were looked at, and streams that it made us reset: more of them
/// is an attack (CVE-2023-44487, CVE-2025-8671), and the connection ends.
const RESET_PENDING_MAX: usize = 20;
const RESET_LOCAL_MAX: usize = 256;

/// Where a request came from. The transport's peer, never a header's word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// What a listener's connections share.
#[derive(Clone)]
pub(crate) struct Listener {
    /// What is served.
    pub(crate) router: Router,
    /// Bounds.
    pub(crate) settings: HttpSettings,
    /// How connections are secured, where they are.
    pub(crate) tls: Option<Arc<Tls>>,
    /// What is counted.
    pub(crate) requests: Arc<Requests>,
    /// Holds true once no more is taken.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Serves on `socket` until the listener is stopped; returns when every connection has ended.
pub(crate) async fn serve(socket: TcpListener, listener: Listener) {
    let mut stop = listener.stop.clone();
    let places = Arc::new(Semaphore::new(listener.settings.connections_max.min(Semaphore::MAX_PERMITS)));
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
                let listener = listener.clone();
                connections.spawn(async move {
                    listener.requests.connections.fetch_add(1, Relaxed);
                    secure(stream, peer, &listener).await;
                    listener.requests.connections.fetch_sub(1, Relaxed);
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

async fn secure(stream: TcpStream, peer: SocketAddr, listener: &Listener) {
    // Answers are small and waited for.
    let _best_effort = stream.set_nodelay(true);
    let Some(tls) = &listener.tls else { return connection(stream, peer, listener).await };
    let mut stop = listener.stop.clone();
    let secured = tokio::select! {
        secured = tls.accept(stream) => secured,
        _ = stop.wait_for(|stop| *stop) => None,
    };
    if let Some(stream) = secured {
        connection(stream, peer, listener).await;
    }
}

fn builder(settings: &HttpSettings) -> Builder<TokioExecutor> {
    let ping = Duration::from_millis(settings.ping_ms);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(settings.header_timeout_ms))
        .max_buf_size(settings.head_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(ping)
        .keep_alive_timeout(ping)
        .max_concurrent_streams(settings.streams_max)
        .max_pending_accept_reset_streams(RESET_PENDING_MAX)
        .max_local_error_reset_streams(RESET_LOCAL_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(STREAM_HEAD_BYTES_MAX);
    builder
}

async fn connection<S>(stream: S, peer: SocketAddr, listener: &Listener)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let pulse = Pulse::new();
    let service = service_fn(|request: Request<Incoming>| {
        let under_way = pulse.request();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        let answering = listener.router.clone().oneshot(request);
        async move {
            answering.await.map(|response| {
                let live = response.extensions().get::<Live>().is_some();
                response.map(|body| under_way.answer(body, live))
            })
        }
    });
    let settings = &listener.settings;
    let send_idle = Duration::from_millis(settings.send_idle_timeout_ms);
    let builder = builder(settings);
    let stream = Stall::new(stream, send_idle, listener.requests.clone());
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let mut limits = Limits::new(settings);
    let (mut stop, mut stopping) = (listener.stop.clone(), false);
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            now = limits.pulse.tick() => match limits.judge(&pulse, now) {
                Verdict::Lives => {}
                Verdict::Ends => serving.as_mut().graceful_shutdown(),
                Verdict::Cut(reason) => {
                    tracing::debug!(?reason, "a connection was cut");
                    let counter = match reason {
                        Reason::Silent => &listener.requests.connections_silent,
                        Reason::Stalled => &listener.requests.connections_stalled,
                    };
                    counter.fetch_add(1, Relaxed);
                    return;
                }
            },
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}
