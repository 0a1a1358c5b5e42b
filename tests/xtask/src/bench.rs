//! Measurements in release: processor time and ratios of runs side by side, since machines are shared and noisy.
//!
//! ```text
//! ingest    closed loop: CPU-seconds of the server per million spans, plain, gzip, and with redact-pii
//! openloop  100,000 spans/s with redact-pii and a query a second: latency, visibility, memory, beside the bare disk
//! plugins   Wasm beside native on 16,384 rows (criterion)
//! ```

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::build;
use crate::server::Server;
use crate::step::{cargo, heading, run as run_step, say, target_dir};

const NAMES: [&str; 3] = ["ingest", "openloop", "plugins"];

/// `cargo xtask bench [NAME...]`.
pub(crate) fn run(names: &[String]) -> anyhow::Result<()> {
    if let Some(unknown) = names.iter().find(|n| !NAMES.contains(&n.as_str())) {
        bail!("expected {}, found `{unknown}`", NAMES.join(", "));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let bin = build::binaries(&["prism-server", "prism-load"], true)?;
    if wanted("ingest") {
        ingest(&bin)?;
    }
    if wanted("openloop") {
        open_loop(&bin)?;
    }
    if wanted("plugins") {
        let bench = ["bench", "--package", "prism-plugin", "--bench", "wasm_vs_native"];
        run_step("Wasm beside native", &mut cargo(&bench))?;
    }
    Ok(())
}

/// A fresh server, with the bundled redactor bound or without.
fn server(bin: &Path, redact: bool) -> anyhow::Result<Server> {
    let data = target_dir().join("bench").join("data");
    match std::fs::remove_dir_all(&data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("old data of the bench");
        }
        _ => {}
    }
    let server = Server::start(bin, &data, "127.0.0.1:0", &[])?;
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

fn ingest(bin: &Path) -> anyhow::Result<()> {
    let runs = [("plain", false, "none"), ("gzip", false, "gzip"), ("redact", true, "none")];
    let mut cost = Vec::new();
    for (name, redact, compression) in runs {
        heading(&format!("ingest, {name}: closed loop, 1,000,000 spans"));
        let server = server(bin, redact)?;
        let args = ["closed", "--total", "1000000", "--compression", compression];
        let report = load(bin, &server, &args, name)?;
        let rows = server.rows("from spans last 1h select count() as n")?;
        let stored = rows.first().and_then(|r| r[0].as_u64()).context("a count")?;
        let acknowledged = report["rows_acknowledged"].as_u64().unwrap_or_default() + 200_000;
        if stored != acknowledged {
            bail!("{acknowledged} spans were acknowledged, {stored} are queryable");
        }
        cost.push((name, report["server_cpu_seconds_per_million"].as_f64().context("CPU time of the server")?));
        server.stop()?;
    }
    heading("CPU-seconds of the server per million spans, HTTP to durable and queryable");
    cost.iter().for_each(|(name, seconds)| say(&format!("   {name:<8} {seconds:.2}")));
    let [(_, plain), _, (_, redact)] = cost[..] else { bail!("three runs") };
    say(&format!("   throughput with redact-pii on all strings: {:.0} % of plain", 100.0 * plain / redact));
    Ok(())
}

fn open_loop(bin: &Path) -> anyhow::Result<()> {
    heading("open loop: 100,000 spans/s for 60 s, redact-pii bound, a query a second, the bare disk beside it");
    let server = server(bin, true)?;
    let disk = target_dir().join("bench").join("disk");
    std::fs::create_dir_all(&disk)?;
    let disk = disk.to_string_lossy().into_owned();
    let query = "from spans last 1m by service.name select count() as n, p95(duration) as p95";
    let args = [
        "open",
        "--rate",
        "100000",
        "--seconds",
        "60",
        "--connections",
        "16",
        "--query",
        query,
        "--probe",
        "query",
        "--fsync-dir",
        &disk,
    ];
    load(bin, &server, &args, "openloop")?;
    server.stop()
}
