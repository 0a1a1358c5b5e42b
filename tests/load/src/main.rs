//! Sends telemetry to an OTLP server and measures it: throughput, latency, processor time, how soon rows are seen.
//!
//! ```text
//! content (with marks) -> pool (encoded once, stamped each time) -> drive (closed, open) -> connection, grpc -> report
//! ```
//! It knows nothing of Prism but its HTTP interface.

// A program, not a library: `pub` says what a module offers to the others.
#![allow(unreachable_pub)]

mod content;
mod mark;
mod json;
mod pool;
mod connection;
mod grpc;
mod drive;
mod ids;
mod query;
mod probe;
mod fsync;
mod machine;
mod latency;
mod measure;
mod report;
mod sink;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::connection::Target;
use crate::drive::{Plan, now_unix_nanos};
use crate::measure::{Beside, Body, measure};
use crate::pool::{Compression, Encoding, Signal};
use crate::probe::Ask;
use crate::sink::{Behaviour, Sink};

/// Marks have room for so many rows of a request, with a wide margin.
const REQUEST_ROWS_MAX: u64 = 100_000;

/// Sends telemetry to an OTLP server and measures it.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send as fast as answers come.
    Closed {
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Send at a fixed pace, whether or not answers come; latency counts from when a request was due.
    Open {
        /// Rows a second.
        #[arg(long)]
        rate: f64,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Send spans that carry a running number in `load.seq`, and write down which were acknowledged.
    Ids {
        #[command(flatten)]
        server: ServerArgs,
        /// File to which a line `start end` is appended for each acknowledged request: its numbers from start up to and without end.
        #[arg(long)]
        acks: PathBuf,
        /// The first number.
        #[arg(long, default_value_t = 1)]
        start: u64,
        /// Spans in all.
        #[arg(long)]
        total: Option<u64>,
        /// For how long [default without --total: 10].
        #[arg(long)]
        seconds: Option<f64>,
        /// Spans of a request.
        #[arg(long, default_value_t = 200)]
        request_rows: u64,
        /// Connections.
        #[arg(long, default_value_t = 4)]
        connections: usize,
        /// Send a request that failed again, the same bytes, until it is acknowledged.
        #[arg(long)]
        retry: bool,
        /// Also write the outcome to this file.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Measure the disk alone: writes of one size, each made durable.
    Fsync {
        /// Directory to write in.
        #[arg(long)]
        dir: PathBuf,
        /// For how long.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        #[command(flatten)]
        writes: DiskArgs,
        /// Also write the figures to this file.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Be a server that takes everything and keeps nothing, until interrupted: shows what the generator itself costs.
    Sink {
        /// Address to listen at.
        #[arg(long, default_value = "127.0.0.1:4318")]
        listen: SocketAddr,
        /// Answer each so-manieth request with 503.
        #[arg(long)]
        refuse_every: Option<u64>,
        /// Wait before each answer, in milliseconds.
        #[arg(long, default_value_t = 0)]
        delay_ms: u64,
    },
}

#[derive(Args)]
struct ServerArgs {
    /// Where the server listens.
    #[arg(long, default_value = "http://127.0.0.1:4318")]
    endpoint: String,
    /// A header for each request; may be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Of ids [default: from the clock, so that no run repeats another's].
    #[arg(long)]
    seed: Option<u64>,
    /// Threads; compression may want more.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Args)]
struct LoadArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// What to send; of several, request by request in turn.
    #[arg(long, value_enum, default_value = "spans", value_delimiter = ',')]
    signal: Vec<Signal>,
    /// Send the load over gRPC to this endpoint; queries and probes still go to the other.
    #[arg(long)]
    grpc: Option<String>,
    /// What bodies are written in; over gRPC always protobuf.
    #[arg(long, value_enum, default_value = "protobuf")]
    encoding: Encoding,
    /// Rows in all [default without --seconds: 1000000].
    #[arg(long)]
    total: Option<u64>,
    /// For how long.
    #[arg(long)]
    seconds: Option<f64>,
    /// Rows of a request.
    #[arg(long, default_value_t = 4_000)]
    request_rows: u64,
    /// Connections, so requests at the same time.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Of bodies.
    #[arg(long, value_enum, default_value = "none")]
    compression: Compression,
    /// Process id of the server, for its processor time and memory.
    #[arg(long)]
    server_pid: Option<u32>,
    /// A query to send beside the load: JSON where it begins with a brace, else text.
    #[arg(long)]
    query: Option<String>,
    /// Seconds between queries.
    #[arg(long, default_value_t = 1.0)]
    query_every: f64,
    /// Send a marked span each second and ask until it is seen.
    #[arg(long, value_enum)]
    probe: Option<Ask>,
    /// Seconds between probes.
    #[arg(long, default_value_t = 1.0)]
    probe_every: f64,
    /// Also measure the disk in this directory during the load.
    #[arg(long)]
    fsync_dir: Option<PathBuf>,
    #[command(flatten)]
    writes: DiskArgs,
    /// Also write the report to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct DiskArgs {
    /// Bytes of a write to the disk.
    #[arg(long, default_value_t = 65_536)]
    fsync_bytes: usize,
    /// Milliseconds from one write to the next.
    #[arg(long, default_value_t = 20)]
    fsync_every_ms: u64,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Closed { load } => run_load(None, load),
        Command::Open { rate, load } => {
            ensure!(rate.is_finite() && rate > 0.0, "expected a rate above 0, found `{rate}`");
            run_load(Some(rate), load)
        }
        Command::Ids { server, acks, start, total, seconds, request_rows, connections, retry, json } => {
            let duration = match (seconds, total) {
                (None, None) => Some(Duration::from_secs(10)),
                (seconds, _) => seconds.map(in_seconds).transpose()?,
            };
            check_rows(request_rows)?;
            let plan = ids::Plan { start, request_rows, connections, total, duration, retry, seed: server.seed() };
            let outcome = server.runtime()?.block_on(ids::run(&server.target()?, &acks, plan))?;
            let text = format!(
                "{} spans acknowledged, {} of unknown fate, {} requests of which {} repeated; next number {}\n",
                outcome.acknowledged, outcome.unknown, outcome.requests, outcome.repeated, outcome.next
            );
            finish(&text, json.as_deref(), &outcome)
        }
        Command::Fsync { dir, seconds, writes, json } => {
            disk_alone(&dir, in_seconds(seconds)?, &writes, json.as_deref())
        }
        Command::Sink { listen, refuse_every, delay_ms } => {
            let behaviour = Behaviour { refuse_every, delay: Duration::from_millis(delay_ms) };
            runtime(1)?.block_on(async {
                let sink = Sink::start(listen, behaviour).await?;
                writeln!(io::stdout(), "{}", sink.url())?;
                tokio::signal::ctrl_c().await?;
                writeln!(io::stdout(), "{} requests", sink.requests())?;
                Ok(())
            })
        }
    }
}

fn run_load(rate: Option<f64>, load: LoadArgs) -> Result<()> {
    check_rows(load.request_rows)?;
    ensure!(load.connections > 0, "expected at least one connection, found `0`");
    let duration = load.seconds.map(in_seconds).transpose()?;
    ensure!(load.grpc.is_none() || load.encoding == Encoding::Protobuf, "expected `--encoding protobuf` over gRPC");
    let plan = Plan {
        request_rows: load.request_rows,
        connections: load.connections,
        rate,
        total: load.total.or(if duration.is_none() { Some(1_000_000) } else { None }),
        duration,
    };
    let query_every = in_seconds(load.query_every)?;
    let probe_every = in_seconds(load.probe_every)?;
    let writes = load.writes;
    let beside = Beside {
        server: load.server_pid,
        query: load.query.map(|query| (query, query_every)),
        probe: load.probe.map(|how| (how, probe_every)),
        disk: load.fsync_dir.map(|dir| (dir, writes.fsync_bytes, Duration::from_millis(writes.fsync_every_ms))),
    };
    let target = load.server.target()?;
    let grpc = load.grpc.map(|endpoint| Target::new(&endpoint, &load.server.headers)).transpose()?;
    let body = Body { signals: load.signal, encoding: load.encoding, compression: load.compression };
    let run = measure(&target, grpc.as_ref(), plan, body, load.server.seed(), beside);
    let report = load.server.runtime()?.block_on(run)?;
    finish(&report.to_string(), load.json.as_deref(), &report)
}

fn disk_alone(dir: &Path, duration: Duration, writes: &DiskArgs, json: Option<&Path>) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let timer = Arc::clone(&stop);
    std::thread::spawn(move || {
        std::thread::sleep(duration);
        timer.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let latency = fsync::run(dir, writes.fsync_bytes, Duration::from_millis(writes.fsync_every_ms), &stop)?;
    let mut text = String::new();
    report::figures(&mut text, "disk", latency.figures().as_ref())?;
    writeln!(text, "          writes of {} bytes, each made durable", writes.fsync_bytes)?;
    finish(&text, json, &latency.figures())
}

impl ServerArgs {
    fn target(&self) -> Result<Arc<Target>> {
        Target::new(&self.endpoint, &self.headers)
    }

    fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| mark::mix(now_unix_nanos()))
    }

    fn runtime(&self) -> Result<tokio::runtime::Runtime> {
        runtime(self.threads)
    }
}

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(threads.max(1)).enable_all().build()?)
}

fn check_rows(rows: u64) -> Result<()> {
    ensure!((1..=REQUEST_ROWS_MAX).contains(&rows), "expected 1 to {REQUEST_ROWS_MAX} rows a request, found `{rows}`");
    Ok(())
}

fn in_seconds(seconds: f64) -> Result<Duration> {
    let duration = Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero());
    duration.with_context(|| format!("expected seconds above 0, found `{seconds}`"))
}

fn finish(text: &str, json: Option<&Path>, value: &impl Serialize) -> Result<()> {
    if let Some(file) = json {
        let json = serde_json::to_string_pretty(value)?;
        std::fs::write(file, json).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
