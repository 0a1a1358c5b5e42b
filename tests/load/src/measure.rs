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
use crate::pool::{Compression, Pool};
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

/// Runs the plan and sums up.
///
/// # Errors
/// The server's process does not exist, the disk cannot be written. Not: the server refuses; the report says so.
pub async fn measure(
    target: &Arc<Target>,
    plan: Plan,
    compression: Compression,
    seed: u64,
    beside: Beside,
) -> Result<Report> {
    let pool = Arc::new(Pool::new(plan.signal, plan.request_rows as usize, compression, plan.connections, seed));
    let (stop, stopped) = watch::channel(false);

    let before = Reading::now(beside.server)?;
    let queries = beside
        .query
        .map(|(query, every)| tokio::spawn(query::run(Arc::clone(target), query, every, ended(stopped.clone()))));
    let probe = beside
        .probe
        .map(|(how, every)| tokio::spawn(probe::run(Arc::clone(target), how, every, seed, ended(stopped.clone()))));
    let disk = beside.disk.map(|(dir, bytes, every)| disk(dir, bytes, every, stopped.clone()));

    let tally = drive(target, &pool, plan).await?;
    let cpu = Reading::now(beside.server).context("the server has ended during the run")?.since(&before);

    stop.send_replace(true);
    let queries = finish(queries).await?;
    let probe = finish(probe).await?;
    let disk = finish(disk).await?.transpose()?;
    let workload = Workload {
        signal: plan.signal,
        open_rows_per_second: plan.rate,
        connections: plan.connections,
        compression,
        request_rows: plan.request_rows,
        request_bytes: pool.request_bytes(),
        row_attributes: plan.signal.attributes(),
        row_bytes: pool.request_bytes() as f64 / plan.request_rows as f64,
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
