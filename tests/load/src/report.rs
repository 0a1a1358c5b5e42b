//! What a run found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::drive::Tally;
use crate::latency::{Figures, Latency};
use crate::machine::{Cpu, Machine};
use crate::pool::{Compression, Encoding, Signal};
use crate::probe::Seen;
use crate::query::Queries;

/// Above this share of busy time, latencies say more about the machine than about the server.
const BUSY_MAX: f64 = 0.9;

/// A run's figures. Times in milliseconds or seconds, sizes in bytes, as the names say.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// What was sent.
    pub workload: Workload,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Requests sent.
    pub requests: u64,
    /// Requests by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub broken: u64,
    /// Requests that were due and never sent, of an open run.
    pub unsent: u64,
    /// The first answer that was not 200, or failure.
    pub first_failure: Option<String>,
    /// Rows acknowledged by a 200.
    pub rows_acknowledged: u64,
    /// Rows that a 200 rejected.
    pub rows_rejected: u64,
    /// Rows acknowledged a second.
    pub rows_per_second: f64,
    /// Bytes of acknowledged bodies a second, as sent.
    pub bytes_per_second: f64,
    /// Of requests answered with 200; in an open run from when they were due.
    pub latency: Option<Figures>,
    /// In an open run: how much later than due requests were begun. A millisecond is the timer's; more means that all
    /// connections waited for the server.
    pub late: Option<Figures>,
    /// Processor time.
    pub cpu: Cpu,
    /// The server's processor seconds for a million rows acknowledged.
    pub server_cpu_seconds_per_million: Option<f64>,
    /// This program's, likewise.
    pub own_cpu_seconds_per_million: f64,
    /// False if the machine was too busy for latencies to mean the server, or requests could not be sent at all.
    pub below_capacity: bool,
    /// The most memory that the server held since it started, in bytes.
    pub server_peak_resident_bytes: Option<u64>,
    /// Queries beside the load.
    pub queries: Option<Beside>,
    /// From acknowledged to seen.
    pub visible: Option<Visible>,
    /// The disk alone: one write made durable.
    pub disk: Option<Figures>,
}

/// What was sent.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// What rows are, request by request in turn.
    pub signals: Vec<Signal>,
    /// What bodies are written in.
    pub encoding: Encoding,
    /// Over gRPC, else HTTP/1.1.
    pub grpc: bool,
    /// The pace of an open run; none: closed.
    pub open_rows_per_second: Option<f64>,
    /// Connections.
    pub connections: usize,
    /// Of bodies.
    pub compression: Compression,
    /// Rows of a request.
    pub request_rows: u64,
    /// Mean uncompressed bytes of a request.
    pub request_bytes: usize,
    /// Mean uncompressed bytes of a row.
    pub row_bytes: f64,
    /// Attributes of a row (the most, of several signals), beside those of its resource.
    pub row_attributes: usize,
}

/// Queries beside the load.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// Of answered queries.
    pub latency: Option<Figures>,
    /// Queries that failed.
    pub failed: u64,
    /// Why the first did.
    pub first_failure: Option<String>,
}

/// How soon rows are seen.
#[derive(Clone, Debug, Serialize)]
pub struct Visible {
    /// From the acknowledgement to the end of the first answer with the row.
    pub latency: Option<Figures>,
    /// Rows acknowledged and not seen within 10 s.
    pub unseen: u64,
    /// Probes that failed.
    pub failed: u64,
    /// Why the first did.
    pub first_failure: Option<String>,
}

impl Report {
    /// Sums up.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        machine: Machine,
        workload: Workload,
        tally: Tally,
        cpu: Cpu,
        server_peak_resident_bytes: Option<u64>,
        queries: Option<Queries>,
        seen: Option<Seen>,
        disk: Option<Latency>,
    ) -> Report {
        let seconds = tally.took.as_secs_f64();
        let millions = tally.rows_acknowledged.max(1) as f64 / 1e6;
        Report {
            machine,
            workload,
            seconds,
            requests: tally.requests,
            statuses: tally.statuses,
            broken: tally.broken,
            unsent: tally.unsent,
            first_failure: tally.first_failure,
            rows_acknowledged: tally.rows_acknowledged,
            rows_rejected: tally.rows_rejected,
            rows_per_second: tally.rows_acknowledged as f64 / seconds,
            bytes_per_second: tally.bytes as f64 / seconds,
            latency: tally.latency.figures(),
            late: tally.late.figures(),
            server_cpu_seconds_per_million: cpu.server_seconds.map(|seconds| seconds / millions),
            own_cpu_seconds_per_million: cpu.own_seconds / millions,
            below_capacity: cpu.machine_busy <= BUSY_MAX && tally.unsent == 0,
            cpu,
            server_peak_resident_bytes,
            queries: queries.map(|queries| Beside {
                latency: queries.latency.figures(),
                failed: queries.failed,
                first_failure: queries.first_failure,
            }),
            visible: seen.map(|seen| Visible {
                latency: seen.latency.figures(),
                unseen: seen.unseen,
                failed: seen.failed,
                first_failure: seen.first_failure,
            }),
            disk: disk.and_then(|disk| disk.figures()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Workload { signals, encoding, connections, compression, request_rows, row_bytes, row_attributes, .. } =
            &self.workload;
        let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let Machine { cores, model, memory_bytes } = &self.machine;
        writeln!(f, "machine   {cores} cores, {model}, {:.1} GiB", gibibytes(*memory_bytes))?;
        let pace = self
            .workload
            .open_rows_per_second
            .map_or("closed loop".to_owned(), |rate| format!("open loop, {rate:.0} rows/s"));
        let name = |of: &dyn fmt::Debug| format!("{of:?}").to_lowercase();
        let signal = signals.iter().map(|s| name(s)).collect::<Vec<_>>().join(" and ");
        let (encoding, compression) = (name(encoding), name(compression));
        let over = if self.workload.grpc { "gRPC" } else { "HTTP" };
        writeln!(
            f,
            "load      {pace}, {signal}, {encoding} over {over}, {request_rows} a request, each {row_bytes:.0} B and {row_attributes} attributes, {connections} connections, compression {compression}"
        )?;
        writeln!(
            f,
            "rows      {} acknowledged in {:.2} s: {:.0} rows/s, {:.1} MB/s",
            self.rows_acknowledged,
            self.seconds,
            self.rows_per_second,
            self.bytes_per_second / 1e6
        )?;
        let statuses: Vec<_> = self.statuses.iter().map(|(status, count)| format!("{count} x {status}")).collect();
        writeln!(
            f,
            "requests  {}: {}; {} without an answer, {} due and not sent, {} rows rejected",
            self.requests,
            statuses.join(", "),
            self.broken,
            self.unsent,
            self.rows_rejected
        )?;
        if let Some(failure) = &self.first_failure {
            writeln!(f, "          first failure: {failure}")?;
        }
        figures(f, "request", self.latency.as_ref())?;
        if self.late.is_some() {
            figures(f, "late", self.late.as_ref())?;
        }
        if let Some(queries) = &self.queries {
            figures(f, "query", queries.latency.as_ref())?;
            failed(f, queries.failed, queries.first_failure.as_ref())?;
        }
        if let Some(visible) = &self.visible {
            figures(f, "visible", visible.latency.as_ref())?;
            if visible.unseen > 0 {
                writeln!(f, "          {} not seen within 10 s", visible.unseen)?;
            }
            failed(f, visible.failed, visible.first_failure.as_ref())?;
        }
        if self.disk.is_some() {
            figures(f, "disk", self.disk.as_ref())?;
        }
        if let Some((seconds, each)) = self.cpu.server_seconds.zip(self.server_cpu_seconds_per_million) {
            let peak = self
                .server_peak_resident_bytes
                .map_or(String::new(), |peak| format!(", peak {:.2} GiB", gibibytes(peak)));
            writeln!(f, "server    {seconds:.2} CPU-s, {each:.2} CPU-s a million rows{peak}")?;
        }
        writeln!(
            f,
            "generator {:.2} CPU-s, {:.2} CPU-s a million rows",
            self.cpu.own_seconds, self.own_cpu_seconds_per_million
        )?;
        let below = if self.below_capacity { "below" } else { "NOT below" };
        writeln!(
            f,
            "machine   {:.0} % busy, {:.0} % stolen: the load stayed {below} what the machine can do",
            self.cpu.machine_busy * 100.0,
            self.cpu.machine_stolen * 100.0
        )
    }
}

/// One line of times.
pub fn figures(f: &mut impl fmt::Write, name: &str, figures: Option<&Figures>) -> fmt::Result {
    match figures {
        Some(Figures { count, p50_ms, p95_ms, p99_ms, max_ms, .. }) => {
            writeln!(
                f,
                "{name:<9} p50 {p50_ms:.1} ms, p95 {p95_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms of {count}"
            )
        }
        None => writeln!(f, "{name:<9} none"),
    }
}

fn failed(f: &mut fmt::Formatter<'_>, count: u64, first: Option<&String>) -> fmt::Result {
    match first {
        Some(first) => writeln!(f, "          {count} failed, first: {first}"),
        None => Ok(()),
    }
}
