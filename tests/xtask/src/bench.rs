//! Measurements in release: processor time and ratios of runs side by side, since machines are shared and noisy.
//!
//! ```text
//! ingest     closed loop: CPU-seconds of the server per million spans: plain, gzip, redact-pii, JSON, gRPC; logs; metrics
//! sizes      the same spans in requests of 1, 2, 2,000 and 16,000
//! openloop   100,000 spans/s with redact-pii and a query a second: latency, visibility, memory, beside the bare disk
//! sustained  10 minutes of 100,000 spans, logs and points a second, the same beside it
//! decode     protobuf and JSON to columns, each signal (criterion)
//! plugins    Wasm beside native on 16,384 rows (criterion)
//! hour       36,000,000 spans of the last hour in all tiers, 200 mixed queries while 20,000 spans/s come in; two tenants
//! queries    queries over cold and hot spans beside DuckDB, chDB and DataFusion from PyPI on the same Parquet files
//! ```

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::build;
use crate::hour;
use crate::queries;
use crate::server::Server;
use crate::step::{cargo, heading, run as run_step, say, target_dir};

const NAMES: [&str; 8] = ["ingest", "sizes", "openloop", "sustained", "hour", "decode", "plugins", "queries"];

/// `cargo xtask bench [NAME...]`.
pub(crate) fn run(names: &[String]) -> anyhow::Result<()> {
    if let Some(unknown) = names.iter().find(|n| !NAMES.contains(&n.as_str())) {
        bail!("expected {}, found `{unknown}`", NAMES.join(", "));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    if wanted("queries") {
        queries::bench()?;
    }
    if names == ["queries"] {
        return Ok(());
    }
    let bin = build::measured()?;
    if wanted("ingest") {
        ingest(&bin)?;
    }
    if wanted("sizes") {
        sizes(&bin)?;
    }
    if wanted("openloop") {
        open_loop(&bin)?;
    }
    if wanted("sustained") {
        sustained(&bin)?;
    }
    if wanted("hour") {
        hour::bench(&bin, server(&bin, false)?)?;
    }
    for (name, package, bench) in [("decode", "prism-ingest", "decode"), ("plugins", "prism-plugin", "wasm_vs_native")]
    {
        if wanted(name) {
            run_step(name, &mut cargo(&["bench", "--package", package, "--bench", bench]))?;
        }
    }
    Ok(())
}

/// Spans sent to each server before its measured run.
const WARM_ROWS: u64 = 200_000;

/// A fresh server, with the bundled redactor bound or without.
fn server(bin: &Path, redact: bool) -> anyhow::Result<Server> {
    let data = target_dir().join("bench").join("data");
    match std::fs::remove_dir_all(&data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("old data of the bench");
        }
        _ => {}
    }
    let server = Server::start(bin, &data, "127.0.0.1:0", "127.0.0.1:0")?;
    if redact {
        server.operate(&["plugin", "bind", "--tenant", "default", "redact-pii"])?;
    }
    // Warm: the chain is built, the pools are filled, the binding has been noticed before the measured run begins.
    load(bin, &server, &["closed", "--total", "100000"], "warm")?;
    load(bin, &server, &["closed", "--total", "100000"], "warm")?;
    Ok(server)
}

/// Runs the load generator against a server; its report.
fn load(bin: &Path, server: &Server, args: &[&str], name: &str) -> anyhow::Result<Value> {
    let report = target_dir().join("bench").join(format!("{name}.json"));
    let mut command = Command::new(bin.join("prism-load"));
    command
        .args(args)
        .args(["--endpoint", &server.url, "--server-pid", &server.pid().to_string(), "--json"])
        .arg(&report);
    let output = command.output().context("cannot start prism-load")?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    if name != "warm" {
        say(&String::from_utf8_lossy(&output.stdout));
    }
    Ok(serde_json::from_slice(&std::fs::read(&report)?)?)
}

/// A closed run on a server of its own; the report. What was acknowledged must be what is there.
fn closed(bin: &Path, name: &str, redact: bool, args: &[&str]) -> anyhow::Result<Value> {
    heading(&format!("{name}: closed loop"));
    let server = server(bin, redact)?;
    let grpc = if args.contains(&"--grpc") { vec![server.grpc.as_str()] } else { Vec::new() };
    let report = load(bin, &server, &[&["closed"], args, &grpc].concat(), name)?;
    let acknowledged = report["rows_acknowledged"].as_u64().unwrap_or_default() + WARM_ROWS;
    let stored = stored(&server)?;
    if stored != acknowledged {
        bail!("{acknowledged} rows were acknowledged, {stored} are queryable");
    }
    server.stop()?;
    Ok(report)
}

/// Rows of all signals that queries see.
fn stored(server: &Server) -> anyhow::Result<u64> {
    let mut sum = 0;
    for signal in ["spans", "logs", "metrics"] {
        let rows = server.rows(&format!("from {signal} last 1h select count() as n"))?;
        sum += rows.first().and_then(|r| r[0].as_u64()).context("a count")?;
    }
    Ok(sum)
}

fn cost(report: &Value) -> anyhow::Result<f64> {
    report["server_cpu_seconds_per_million"].as_f64().context("CPU time of the server")
}

fn ingest(bin: &Path) -> anyhow::Result<()> {
    // `--grpc` comes last: its value is the server's address.
    let runs: [(&str, bool, &[&str]); 7] = [
        ("spans", false, &[]),
        ("spans, gzip", false, &["--compression", "gzip"]),
        ("spans, redact-pii", true, &[]),
        ("spans, JSON", false, &["--encoding", "json"]),
        ("spans, gRPC", false, &["--grpc"]),
        ("logs", false, &["--signal", "logs"]),
        ("metrics", false, &["--signal", "metrics"]),
    ];
    let mut lines = Vec::new();
    let mut spans = (0.0, 0.0);
    for (name, redact, args) in runs {
        let report = closed(bin, name, redact, &[&["--total", "1000000"], args].concat())?;
        let cost = cost(&report)?;
        let megabytes = report["workload"]["row_bytes"].as_f64().context("bytes of a row")?;
        if name == "spans" {
            spans = (cost, cost / megabytes);
        }
        lines.push(format!(
            "   {name:<18} {cost:>5.2} CPU-s a million rows {:>5.2}x   {:>5.2} CPU-s a GB {:>5.2}x",
            cost / spans.0,
            1e3 * cost / megabytes,
            cost / megabytes / spans.1
        ));
    }
    heading("the server's processor time, from HTTP to durable and queryable, and its ratio to spans");
    lines.iter().for_each(|line| say(line));
    Ok(())
}

fn sizes(bin: &Path) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for (rows, total) in [("1", "20000"), ("2", "40000"), ("2000", "1000000"), ("16000", "1000000")] {
        let connections = if total.len() < 6 { "64" } else { "4" };
        let args = ["--request-rows", rows, "--total", total, "--connections", connections];
        let report = closed(bin, &format!("{rows} spans a request"), false, &args)?;
        let p99 = report["latency"]["p99_ms"].as_f64().unwrap_or_default();
        let requests = report["requests"].as_f64().unwrap_or(1.0);
        let micros = report["cpu"]["server_seconds"].as_f64().unwrap_or_default() * 1e6 / requests;
        lines.push(format!(
            "   {rows:>6} a request: {:>7.2} CPU-s a million spans, {micros:>8.0} CPU-us a request, p99 {p99:.0} ms",
            cost(&report)?
        ));
    }
    heading("the server's processor time by the size of requests");
    lines.iter().for_each(|line| say(line));
    Ok(())
}

fn open_loop(bin: &Path) -> anyhow::Result<()> {
    heading("open loop: 100,000 spans/s for 60 s, redact-pii bound, a query a second, the bare disk beside it");
    beside(bin, &["--seconds", "60"], "openloop")
}

fn sustained(bin: &Path) -> anyhow::Result<()> {
    heading("sustained: 100,000 spans, logs and points a second for 10 minutes, redact-pii bound, a query a second");
    beside(bin, &["--seconds", "600", "--signal", "spans,logs,metrics"], "sustained")
}

/// An open run with everything beside it; what was acknowledged must be what is there.
fn beside(bin: &Path, args: &[&str], name: &str) -> anyhow::Result<()> {
    let server = server(bin, true)?;
    let disk = target_dir().join("bench").join("disk");
    std::fs::create_dir_all(&disk)?;
    let disk = disk.to_string_lossy().into_owned();
    let query = "from spans last 1m by service.name select count() as n, p95(duration) as p95";
    let load_args = ["open", "--rate", "100000", "--connections", "16", "--query", query, "--probe", "query"];
    let report = load(bin, &server, &[&load_args, &["--fsync-dir", &disk][..], args].concat(), name)?;
    let probes = report["visible"]["latency"]["count"].as_u64().unwrap_or_default();
    let acknowledged = report["rows_acknowledged"].as_u64().unwrap_or_default() + WARM_ROWS + probes;
    let stored = stored(&server)?;
    say(&format!("   {acknowledged} rows acknowledged, {stored} queryable"));
    if stored != acknowledged {
        bail!("{acknowledged} rows were acknowledged, {stored} are queryable");
    }
    server.stop()
}
