//! `prism serve`: from nothing to ready, and in order back to nothing.
//!
//! ```text
//! bind addresses -> open store, plugin host, engine -> accept -> ready
//! signal -> not ready -> accept nothing more -> finish what is under way -> close the store
//! ```

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prism_store::keys::{Erasure, SWEEP_AGE_MS};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::access;
use crate::app::App;
use crate::config::Config;
use crate::http::caller::DEV_TENANT;
use crate::http::connections::{self, Listener};
use crate::{commands, grpc, http};

/// Between two looks for what erased tenants have again: some small listings.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Runs a server until it is told to stop.
///
/// # Errors
/// In words for the user: what could not be opened, and what to do.
pub(crate) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(serve(config.clone()));
    // Threads that still compute for requests that were cut off are not waited for.
    runtime.shutdown_background();
    code
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    // Addresses first: the most frequent mistake is told before anything is opened. Who connects already waits in the backlog.
    let http_socket = bind(&config.http_addr, "--http").await?;
    let grpc_socket = if config.grpc_addr.is_empty() { None } else { Some(bind(&config.grpc_addr, "--grpc").await?) };
    let http_addr = http_socket.local_addr()?;
    let grpc_addr = grpc_socket.as_ref().map(TcpListener::local_addr).transpose()?;

    let opening = config.clone();
    let app = tokio::task::spawn_blocking(move || open(opening)).await??;
    let (stop, stopped) = watch::channel(false);
    let serve_on = |socket, router| {
        let (settings, tls, requests) = (config.http.clone(), app.tls.clone(), app.requests.clone());
        let stop = stopped.clone();
        tokio::spawn(connections::serve(socket, Listener { router, settings, tls, requests, stop }))
    };
    let mut listeners = vec![serve_on(http_socket, http::router(app.clone()))];
    listeners.extend(grpc_socket.map(|socket| serve_on(socket, grpc::router(app.clone()))));
    if let Some(tls) = app.tls.clone() {
        tokio::spawn(tls.watch(stopped.clone()));
    }
    tokio::spawn(sweep_erased(commands::erase::erasure(&config)?, stopped.clone()));
    app.start()?;
    app.set_ready(true);
    announce(&config, http_addr, grpc_addr);

    let name = signals.next().await;
    tracing::info!(signal = name, "stopping");
    app.set_ready(false);
    app.stop();
    let _listeners_are_there = stop.send(true);
    let grace = Duration::from_millis(config.shutdown_grace_ms);
    let finishing = async {
        for listener in &mut listeners {
            // A listener that panicked has nothing to finish.
            let _panicked = listener.await;
        }
        app.close().await;
    };
    tokio::select! {
        finished = tokio::time::timeout(grace, finishing) => {
            if finished.is_err() {
                tracing::warn!(grace_ms = config.shutdown_grace_ms, "requests were cut off (`shutdown_grace_ms`)");
                listeners.iter().for_each(tokio::task::JoinHandle::abort);
                // What was acknowledged is on disk already; closing only ends segments tidily.
                let _best_effort = tokio::time::timeout(Duration::from_secs(2), app.close()).await;
            }
        }
        name = signals.next() => {
            tracing::warn!(signal = name, "stopping at once");
            return Ok(ExitCode::from(130));
        }
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Removes what erased tenants get again by writes that were under way: of all of them at the start, then of the recent ones.
async fn sweep_erased(erasure: Erasure, mut stop: watch::Receiver<bool>) {
    let mut age_max_ms = i64::MAX;
    loop {
        let erasure = erasure.clone();
        let swept = tokio::task::spawn_blocking(move || erasure.sweep(commands::now_unix_ms(), age_max_ms)).await;
        match swept {
            Ok(Ok(_)) => age_max_ms = SWEEP_AGE_MS,
            Ok(Err(error)) => tracing::warn!(%error, "what erased tenants left cannot be looked for"),
            Err(error) => tracing::error!(%error, "looking for what erased tenants left panicked"),
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP_EVERY) => {}
            _ = stop.changed() => return,
        }
    }
}

async fn bind(text: &str, flag: &str) -> anyhow::Result<TcpListener> {
    let addr: SocketAddr =
        text.parse().with_context(|| format!("expected ADDRESS:PORT with {flag}, found `{text}`"))?;
    TcpListener::bind(addr).await.with_context(|| format!("{addr} cannot be listened on; {flag} names another address"))
}

fn open(config: Config) -> anyhow::Result<Arc<App>> {
    if config.auth.dev {
        commands::erase::refuse_erased(&config, &DEV_TENANT.parse()?)?;
        let log = access::log(&config.data_dir)?;
        access::change(&log, |directory| {
            let name = DEV_TENANT.parse().map_err(|_| access::DirectoryError::NoRole)?;
            match directory.create_tenant(&name, commands::now_unix_ms()) {
                Ok(()) | Err(access::DirectoryError::Exists(_)) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .with_context(|| format!("tenant `{DEV_TENANT}` cannot be created"))?;
    }
    App::open(config)
}

/// The one line on standard output: who starts a server waits for it, and finds the addresses in it.
fn announce(config: &Config, http: SocketAddr, grpc: Option<SocketAddr>) {
    let on_grpc = grpc.map_or_else(String::new, |addr| format!(", gRPC on {addr}"));
    let dev = if config.auth.dev { ", tenant `default` needs no key from this machine" } else { "" };
    let scheme = if config.tls.is_on() { "https" } else { "http" };
    crate::print(&format!(
        "prism is ready on {scheme}://{http}{on_grpc}, data in {}{dev}\n",
        config.data_dir.display()
    ));
    let grpc = grpc.map_or_else(|| "off".to_owned(), |addr| addr.to_string());
    if config.auth.dev && !http.ip().is_loopback() {
        tracing::warn!(%http, "--dev on an address that others reach: they need a key, processes of this machine need none");
    }
    tracing::info!(%http, grpc, tls = config.tls.is_on(), dev = config.auth.dev, version = env!("CARGO_PKG_VERSION"), "ready");
}

/// Signals that ask for an end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Takes as many open files as the system allows: many give 1,024 first and a million on demand.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some() && limit.current != limit.maximum {
        // Where it is refused, `prism doctor` tells of the limit.
        let _refused = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
