//! A measured run: the load, and beside it whatever else was asked for (queries, probe, disk), with processor time around
//! all of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::connection::Target;
use crate::drive::{Plan, drive};
use crate::latency::Latency;
use crate::machine::{Machine, Reading, peak_resident_bytes};
use crate::pool::{Compression, Encoding, Pool, Signal};
use crate::report::{Report, Workload};
use crate::{fsync, probe, query};

/// What is measured beside the load.
pub struct Beside {
    /// Process id of the server.
    pub server: Option<u32>,
    /// A query, and how often.
    pub query: Option<(String, Duration)>,
    /// A probe of visibility, and how often.
    pub probe: Option<(probe::Ask, Duration)>,
    /// A directory in which writes are made durable, their size, and how often.
    pub disk: Option<(PathBuf, usize, Duration)>,
}

/// What requests hold.
pub struct Body {
    /// What rows are, request by request in turn.
    pub signals: Vec<Signal>,
    /// What bodies are written in.
    pub encoding: Encoding,
    /// How they are sent.
    pub compression: Compression,
}

/// Runs the plan and sums up.
///
/// # Errors
/// The server's process does not exist, the disk cannot be written. Not: the server refuses; the report says so.
pub async fn measure(
    target: &Arc<Target>,
    grpc: Option<&Arc<Target>>,
    plan: Plan,
    body: Body,
    seed: u64,
    beside: Beside,
) -> Result<Report> {
    let Body { signals, encoding, compression } = body;
    let rows = plan.request_rows as usize;
    let pools = signals.iter().map(|s| Pool::new(*s, encoding, rows, compression, plan.connections, seed));
    let pools: Arc<[Pool]> = pools.collect();
    let (stop, stopped) = watch::channel(false);

    let before = Reading::now(beside.server)?;
    let queries = beside
        .query
        .map(|(query, every)| tokio::spawn(query::run(Arc::clone(target), query, every, ended(stopped.clone()))));
    let probe = beside
        .probe
        .map(|(how, every)| tokio::spawn(probe::run(Arc::clone(target), how, every, seed, ended(stopped.clone()))));
    let disk = beside.disk.map(|(dir, bytes, every)| disk(dir, bytes, every, stopped.clone()));

    let tally = drive(target, grpc, &pools, plan).await?;
    let cpu = Reading::now(beside.server).context("the server has ended during the run")?.since(&before);

    stop.send_replace(true);
    let queries = finish(queries).await?;
    let probe = finish(probe).await?;
    let disk = finish(disk).await?.transpose()?;
    let request_bytes = pools.iter().map(Pool::request_bytes).sum::<usize>() / pools.len().max(1);
    let row_attributes = signals.iter().map(|signal| signal.attributes()).max().unwrap_or(0);
    let workload = Workload {
        signals,
        encoding,
        grpc: grpc.is_some(),
        open_rows_per_second: plan.rate,
        connections: plan.connections,
        compression,
        request_rows: plan.request_rows,
        request_bytes,
        row_attributes,
        row_bytes: request_bytes as f64 / plan.request_rows as f64,
    };
    let peak = beside.server.and_then(peak_resident_bytes);
    Ok(Report::new(Machine::this(), workload, tally, cpu, peak, queries, probe, disk))
}

/// Measures the disk on a thread of its own: a write that blocks must not hold the load up.
fn disk(dir: PathBuf, bytes: usize, every: Duration, stopped: watch::Receiver<bool>) -> JoinHandle<Result<Latency>> {
    let stop = Arc::new(AtomicBool::new(false));
    let writer = Arc::clone(&stop);
    let thread = tokio::task::spawn_blocking(move || fsync::run(&dir, bytes, every, &writer));
    tokio::spawn(async move {
        ended(stopped).await;
        stop.store(true, Relaxed);
        thread.await?
    })
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    // An error says that the other end is gone, which ends it as well.
    drop(stopped.wait_for(|stop| *stop).await);
}

async fn finish<T>(task: Option<JoinHandle<T>>) -> Result<Option<T>> {
    match task {
        Some(task) => Ok(Some(task.await?)),
        None => Ok(None),
    }
}
