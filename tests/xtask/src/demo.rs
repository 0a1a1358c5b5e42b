//! From a fresh checkout to answers about real telemetry: build, serve, bind, send, ask, show.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::build;
use crate::server::Server;
use crate::step::{self, heading, say, target_dir};

/// Health checks of the shop: nobody asks for them later.
const DROP_HEALTH_CHECKS: &str = r#"{"rules": [{"when": [{"field": "http.route", "op": "equals", "value": "/healthz"}], "reason": "health-check"}]}"#;

/// What the demo does.
pub(crate) struct Options {
    /// Stop the server at the end.
    pub(crate) once: bool,
    /// Recorded OTLP to send instead of the shop's.
    pub(crate) replay: Vec<String>,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> anyhow::Result<Options> {
        let mut options = Options { once: false, replay: Vec::new() };
        let mut args = args.iter().peekable();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--once" => options.once = true,
                "--replay" => {
                    while let Some(file) = args.next_if(|a| !a.starts_with("--")) {
                        options.replay.push(file.clone());
                    }
                    if options.replay.is_empty() {
                        bail!("expected files after `--replay`");
                    }
                }
                _ => bail!("expected `--once` or `--replay FILE...`, found `{arg}`"),
            }
        }
        Ok(options)
    }
}

/// `cargo xtask demo`.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let bin = build::binaries(&["prism-server", "prism-shop"])?;
    run_with(options, &bin)
}

/// The demo with binaries that are built already.
pub(crate) fn run_with(options: &Options, bin: &Path) -> anyhow::Result<()> {
    heading("Prism with its defaults");
    let data = target_dir().join("demo").join("data");
    // Each demo begins anew, so that what it shows is what it sent.
    match std::fs::remove_dir_all(&data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("old data of the demo");
        }
        _ => {}
    }
    // The usual ports where they are free, so that the README's commands work as they stand.
    let usual = |address| if std::net::TcpListener::bind(address).is_ok() { address } else { "127.0.0.1:0" };
    let server = Server::start(bin, &data, usual("127.0.0.1:4318"), usual("127.0.0.1:4317"))?;
    say(&format!("   {}, gRPC on {}  (data in {})", server.url, server.grpc, data.display()));

    heading(
        "plugins of tenant `default`: a filter, then a redactor, and an aggregate for queries, each in its sandbox",
    );
    let bind = ["plugin", "bind", "--tenant", "default"];
    say(server.operate(&[&bind[..], &["drop-filter", "--config", DROP_HEALTH_CHECKS]].concat())?.trim_end());
    say(server.operate(&[&bind[..], &["redact-pii"]].concat())?.trim_end());
    say(server.operate(&[&bind[..], &["apdex"]].concat())?.trim_end());
    say(server.operate(&["plugin", "list", "--tenant", "default"])?.trim_end());

    if options.replay.is_empty() {
        let summary = shop(bin, &server, &data)?;
        sent_and_stored(&server, &summary)?;
        everything_arrived(&server, &summary)?;
        dropped(&server)?;
        queries(&server, SHOP_QUERIES)?;
        waterfall(&server, &summary)?;
    } else {
        let mut replay = Command::new(bin.join("prism"));
        // Recordings of different months would else keep their distance, and the older lie outside of the last hour.
        replay.args(["replay", "--url", &server.url, "--shift-to-now", "--align", "each", "--speed", "max"]);
        step::run("play the recordings, moved to now", replay.args(&options.replay))?;
        dropped(&server)?;
        queries(&server, REPLAY_QUERIES)?;
        slowest_trace(&server)?;
    }
    if options.once {
        server.stop()?;
        say("\nThe server has stopped cleanly.");
        return Ok(());
    }
    heading("yours to explore");
    let prism = bin.join("prism");
    say(&format!(
        "   {prism} query \"from spans last 1h by service.name, name select count() as n, p95(duration) as p95\"\n   \
         {prism} trace TRACE_ID\n   {prism} doctor\n   curl -s {url}/v1/fields\n   \
         OTEL_EXPORTER_OTLP_ENDPOINT={url} OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf  your program\n\n   Ctrl-C stops the server.",
        prism = prism.display(),
        url = server.url
    ));
    server.wait()
}

const SHOP_QUERIES: &[(&str, &str)] = &[
    (
        "Which operations are slow, and how often do they fail?",
        "from spans last 1h where kind = server by service.name, name \
         select count() as n, count() where status = error as errors, errors / n as error_rate, p50(duration) as p50, p95(duration) as p95 \
         having n > 5 order p95 desc limit 10",
    ),
    (
        "How content are those who wait? (an aggregate of a plugin)",
        "from spans last 1h where kind = server by service.name \
         select plugin.apdex(duration, 50ms) as apdex, count() as n order apdex limit 10",
    ),
    (
        "Why do checkouts fail?",
        "from logs last 1h where severity >= error by service.name, error.type select count() as n order n desc limit 10",
    ),
    (
        "How busy is each route, as the shop's own histograms say?",
        "from metrics last 1h where name = 'http.server.request.duration' by service.name, http.route \
         select max(count) as requests, max(sum) as seconds, max(max) as slowest order requests desc limit 8",
    ),
    (
        "Requests by 5 seconds, without the health checks that the filter dropped",
        "from spans last 1h where http.route =~ '^/' and not http.route starts_with '/healthz' \
         by bin(time, 5s) as at select count() as requests, rate() as per_second, max(duration) as slowest order at limit 12",
    ),
];

const REPLAY_QUERIES: &[(&str, &str)] = &[
    (
        "Which operations are slow?",
        "from spans last 1h by service.name, name select count() as n, p50(duration) as p50, p99(duration) as p99 \
         having n > 5 order p99 desc limit 10",
    ),
    (
        "Which metrics are there?",
        "from metrics last 1h by name, type, unit select count() as points order points desc limit 10",
    ),
    ("How much does each service say?", "from logs last 1h by service.name select count() as n order n desc limit 10"),
    (
        "Spans by minute",
        "from spans last 1h by bin(time, 1m) as minute select count() as n, count_distinct(trace_id) as traces order minute limit 15",
    ),
];

fn shop(bin: &Path, server: &Server, data: &Path) -> anyhow::Result<Value> {
    let file = data.with_file_name("summary.json");
    let mut shop = Command::new(bin.join("prism-shop"));
    shop.args(["run", "--endpoint", &server.url, "--orders", "120", "--rate", "15", "--summary-json"]).arg(&file);
    step::run("an instrumented shop and its customers, real OpenTelemetry SDK, invented people", &mut shop)?;
    Ok(serde_json::from_slice(&std::fs::read(&file)?)?)
}

/// What was sent beside what is stored, for the people of one failed checkout.
fn sent_and_stored(server: &Server, summary: &Value) -> anyhow::Result<()> {
    heading("what was sent, and what was stored");
    let trace = summary["trace"]["id"].as_str().context("the shop's summary names a failed checkout")?;
    let stored = server.ask("trace", &["--json", trace])?;
    let logs = server.ask("query", &["--json", &format!("from logs last 1h where trace_id = '{trace}' limit 1000")])?;
    for piece in summary["personal"].as_array().into_iter().flatten() {
        let (kind, value) = (piece["kind"].as_str().unwrap_or_default(), piece["value"].as_str().unwrap_or_default());
        let found = stored.matches(value).count() + logs.matches(value).count();
        say(&format!("   sent    {kind:<8} {value}"));
        say(&format!("   stored  {:<8} {found} times in the spans and logs of this trace", ""));
        if found > 0 {
            bail!("personal data was stored: {kind}");
        }
    }
    say("");
    let places = format!(
        "from spans last 1h where trace_id = '{trace}' and exists(user.email) select service.name, user.email, client.address limit 3"
    );
    say(server.ask("query", &[&places])?.trim_end());
    let bodies =
        format!("from logs last 1h where trace_id = '{trace}' select service.name, severity_text, body limit 8");
    say(server.ask("query", &[&bodies])?.trim_end());
    Ok(())
}

/// What the shop's programs say was acknowledged is what queries find and what the filter dropped.
fn everything_arrived(server: &Server, summary: &Value) -> anyhow::Result<()> {
    let (mut sent, mut stored, mut said) = (0, 0, [Vec::new(), Vec::new()]);
    for (signal, key, name) in
        [("spans", "spans", "spans"), ("logs", "logs", "log records"), ("metrics", "points", "metric points")]
    {
        let rows = server.rows(&format!("from {signal} last 1h select count() as n"))?;
        let found = rows.first().and_then(|r| r[0].as_u64()).context("a count")?;
        let acknowledged = summary[key].as_u64().context("the shop's summary counts what was acknowledged")?;
        (sent, stored) = (sent + acknowledged, stored + found);
        said[0].push(format!("{acknowledged} {name}"));
        said[1].push(format!("{found} {name}"));
    }
    let counters = server.get("/metrics")?;
    let dropped = counters.lines().filter(|line| line.starts_with("prism_ingest_items_dropped_total"));
    let dropped: u64 = dropped.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    say(&format!("   sent    {}", said[0].join(", ")));
    say(&format!("   stored  {}; {dropped} were dropped by the filter", said[1].join(", ")));
    if sent != stored + dropped {
        bail!("{sent} were acknowledged, {stored} are stored and {dropped} dropped");
    }
    Ok(())
}

/// Counters of what plugins took out.
fn dropped(server: &Server) -> anyhow::Result<()> {
    heading("what plugins dropped and redacted (from /metrics)");
    let metrics = server.get("/metrics")?;
    let told = metrics.lines().filter(|l| !l.starts_with('#') && (l.contains("dropped") || l.contains("redact")));
    told.for_each(|line| say(&format!("   {line}")));
    Ok(())
}

fn queries(server: &Server, queries: &[(&str, &str)]) -> anyhow::Result<()> {
    for (question, query) in queries {
        heading(question);
        say(&format!("   {query}\n"));
        say(server.ask("query", &[query])?.trim_end());
    }
    Ok(())
}

fn waterfall(server: &Server, summary: &Value) -> anyhow::Result<()> {
    let trace = summary["trace"]["id"].as_str().unwrap_or_default();
    heading(&format!("a failed checkout ({})", summary["trace"]["reason"].as_str().unwrap_or_default()));
    say(server.ask("trace", &[trace])?.trim_end());
    Ok(())
}

fn slowest_trace(server: &Server) -> anyhow::Result<()> {
    let rows = server
        .rows("from spans last 1h where not exists(parent_id) select trace_id, duration order duration desc limit 1")?;
    let Some(trace) = rows.first().and_then(|r| r[0].as_str()) else { return Ok(()) };
    heading("the slowest trace");
    say(server.ask("trace", &[trace])?.trim_end());
    Ok(())
}
