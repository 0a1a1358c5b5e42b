//! An hour of a busy tenant: tens of millions of spans that lie in all tiers, mixed queries of the last hour while more spans come
//! in, and what a tenant's heavy queries do to another's.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::server::Server;
use crate::step::{heading, say, target_dir};

/// Spans on disk before queries begin; `PRISM_BENCH_HOUR_SPANS` changes it.
const SPANS: u64 = 36_000_000;
/// They come at this pace, so that all of them are of the last hour.
const FILL_RATE: u64 = 100_000;
/// Spans a second that come in beside the queries.
const BESIDE_RATE: u64 = 20_000;
/// Queries in all, the kinds of [`mixed`] in turn.
const QUERIES: usize = 200;
/// Spans of the small tenant, and its queries alone and beside the other's.
const SMALL_SPANS: u64 = 1_000_000;
const SMALL_QUERIES: usize = 200;
/// Between two of them: a dashboard's pace.
const SMALL_PAUSE: Duration = Duration::from_millis(100);
/// Clients of the large tenant that ask without a pause.
const HEAVY_CLIENTS: usize = 4;
/// What is projected to: an hour at 100,000 spans a second.
const PROJECTED: u64 = 360_000_000;

/// A query that was answered.
struct Asked {
    kind: &'static str,
    wall_ms: f64,
    cpu_ms: f64,
    megabytes: f64,
}

pub(crate) fn bench(bin: &Path, server: Server) -> anyhow::Result<()> {
    let spans = match std::env::var("PRISM_BENCH_HOUR_SPANS") {
        Ok(text) => text.parse().context("PRISM_BENCH_HOUR_SPANS")?,
        Err(_) => SPANS,
    };
    // Rows go on to colder tiers within the hour, so that queries find all three.
    server.operate(&["storage", "policy", "default", "--warm-after", "5m", "--cold-after", "6m"])?;
    heading(&format!("{spans} spans at {FILL_RATE} a second"));
    let fill = format!("{}", spans / FILL_RATE);
    let filled =
        Load::begin(bin, &server, &[], FILL_RATE, &["--seconds", &fill, "--connections", "8"], "fill")?.end()?;
    let stored = count(&server, None)?;
    say(&format!("   {filled} acknowledged, {stored} of the last hour are there"));
    let seconds = 3_600.to_string();
    let beside =
        Load::begin(bin, &server, &[], BESIDE_RATE, &["--seconds", &seconds, "--request-rows", "1000"], "beside")?;
    heading(&format!("{QUERIES} mixed queries of the last hour, {BESIDE_RATE} spans/s coming in"));
    let known = known(&server)?;
    let kinds = mixed(&known);
    let mut asked = Vec::new();
    for number in 0..QUERIES {
        let (kind, what) = &kinds[number % kinds.len()];
        asked.push(ask(&server, None, kind, what)?);
    }
    table(&kinds, &asked);
    let rows = count(&server, None)?;
    let (p50, p95) = (percentile(&asked, 0.50), percentile(&asked, 0.95));
    say(&format!("   all {QUERIES} over {rows} spans: p50 {p50:.0} ms, p95 {p95:.0} ms of wall time"));
    let tiers = server.ask("query", &["--json", "from spans last 1h select count() as n, max(duration) as longest"])?;
    let tiers: Value = serde_json::from_str(&tiers)?;
    say(&format!("   where they lie: {}", tiers["stats"]["tiers"]));
    projected(&asked, rows);
    fair(bin, &server)?;
    beside.kill();
    server.stop()
}

/// Values that are there: a trace, a request and a user of the middle.
struct Known {
    trace: String,
    request: String,
    user: String,
}

fn known(server: &Server) -> anyhow::Result<Known> {
    let rows = server.rows(
        "from spans last 1h where exists(request.id) and exists(user.id) select trace_id, request.id, user.id order time limit 1",
    )?;
    let row = rows.first().context("a span with a request and a user")?;
    let text = |cell: usize| row[cell].as_str().map(str::to_owned).context("an id");
    Ok(Known { trace: text(0)?, request: text(1)?, user: text(2)? })
}

/// What people ask: kind, and a query or the path of a trace.
fn mixed(known: &Known) -> Vec<(&'static str, String)> {
    let Known { trace, request, user } = known;
    [
        ("count by service", "from spans last 1h by service.name select count() as n".to_owned()),
        ("errors by minute", "from spans last 1h where status = error by bin(time, 1m), service.name select count() limit 1000".to_owned()),
        ("p95 by service", "from spans last 1h by service.name select p95(duration) as p95, p50(duration) as p50".to_owned()),
        ("p95 by minute", "from spans last 1h by bin(time, 1m) select p95(duration) limit 1000".to_owned()),
        ("attribute = value", "from spans last 1h where http.response.status_code = 504 select count()".to_owned()),
        ("p95 by route", "from spans last 1h where exists(http.route) by http.route select count() as n, p95(duration) as p95".to_owned()),
        ("one pod, slow", "from spans last 1h where k8s.pod.name = 'orders-7d9c5b6f4-00001' and duration > 100ms by name select count()".to_owned()),
        ("newest errors", "from spans last 1h where status = error select time, service.name, name, duration, status_message order time desc limit 100".to_owned()),
        ("newest of 5 minutes", "from spans last 5m select time, service.name, name, duration order time desc limit 100".to_owned()),
        ("trace by id", format!("/v1/traces/{trace}?format=rows")),
        ("needle", format!("from spans last 1h where request.id = '{request}' select time, name, service.name, duration")),
        ("spans of a user", format!("from spans last 1h where user.id = '{user}' select time, name, service.name order time limit 100")),
        ("text contains", "from spans last 15m where url.path contains '/4711' select count()".to_owned()),
        ("slowest", "from spans last 15m select duration, trace_id, name order duration desc limit 20".to_owned()),
        ("regions and sizes", "from spans last 15m by cloud.availability_zone, http.request.method select sum(http.response.body.size), count()".to_owned()),
        ("distinct users", "from spans last 15m select count_distinct(user.id)".to_owned()),
        ("heatmap", "from spans last 1h where service.name = 'billing' by bin(time, 5m) select heatmap(duration, 20)".to_owned()),
        ("apdex as a formula", "from spans last 1h where kind = server by service.name select count() as n, count() where duration < 50ms as good, good / n as apdex".to_owned()),
        ("a calls b and fails", "from spans last 1m match (a: service.name = 'frontend', b: status = error where a >> b) by b.service.name select count()".to_owned()),
        ("compare", "from spans last 10m by service.name select count() as n compare 10m".to_owned()),
    ]
    .into_iter()
    .collect()
}

fn ask(server: &Server, key: Option<&str>, kind: &'static str, what: &str) -> anyhow::Result<Asked> {
    let began = Instant::now();
    let answer = if what.starts_with('/') { server.get(what)? } else { server.post("/v1/query", key, what)? };
    let wall_ms = began.elapsed().as_secs_f64() * 1e3;
    let answer: Value = serde_json::from_str(&answer)?;
    let stats = &answer["stats"];
    ensure!(stats["partial"].as_array().is_none_or(Vec::is_empty), "{kind}: partial: {}", stats["partial"]);
    Ok(Asked {
        kind,
        wall_ms,
        cpu_ms: stats["cpu_ns"].as_f64().unwrap_or_default() / 1e6,
        megabytes: stats["bytes_read"].as_f64().unwrap_or_default() / 1e6,
    })
}

fn table(kinds: &[(&'static str, String)], asked: &[Asked]) {
    for (kind, _) in kinds {
        let of: Vec<&Asked> = asked.iter().filter(|one| one.kind == *kind).collect();
        let mean = |what: fn(&Asked) -> f64| of.iter().map(|one| what(one)).sum::<f64>() / of.len().max(1) as f64;
        let most = of.iter().map(|one| one.wall_ms).fold(0.0, f64::max);
        say(&format!(
            "   {kind:<22} wall {:>7.0} ms, at most {most:>7.0}; processor {:>7.0} ms, {:>7.1} MB read",
            mean(|one| one.wall_ms),
            mean(|one| one.cpu_ms),
            mean(|one| one.megabytes),
        ));
    }
}

fn percentile(asked: &[Asked], share: f64) -> f64 {
    let mut walls: Vec<f64> = asked.iter().map(|one| one.wall_ms).collect();
    walls.sort_by(f64::total_cmp);
    let at = (walls.len() as f64 * share).ceil() as usize;
    walls.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// What ten times as many spans would need: processor time and bytes grow with the rows that are read.
fn projected(asked: &[Asked], rows: u64) {
    let times = PROJECTED as f64 / rows.max(1) as f64;
    let mut cpu: Vec<f64> = asked.iter().map(|one| one.cpu_ms * times).collect();
    cpu.sort_by(f64::total_cmp);
    let p95 = cpu.get(cpu.len() * 95 / 100).copied().unwrap_or_default();
    let mut bytes: Vec<f64> = asked.iter().map(|one| one.megabytes * times).collect();
    bytes.sort_by(f64::total_cmp);
    let p95_bytes = bytes.get(bytes.len() * 95 / 100).copied().unwrap_or_default();
    say(&format!(
        "   {PROJECTED} spans ({times:.1}x, if all grew with the rows): p95 {:.1} s of one processor, {p95_bytes:.0} MB read; within \
         2 s on {:.0} processors that are free for it",
        p95 / 1e3,
        (p95 / 2e3).ceil(),
    ));
}

/// A small tenant's queries alone, and beside clients of the large one that ask heavy ones without a pause.
fn fair(bin: &Path, server: &Server) -> anyhow::Result<()> {
    heading(&format!("a small tenant's queries, alone and beside {HEAVY_CLIENTS} clients of the large one"));
    server.operate(&["tenant", "create", "small"])?;
    let key = |role: &str| -> anyhow::Result<String> {
        let told = server.operate(&["key", "create", "--tenant", "small", "--role", role])?;
        let key = told.split_whitespace().find(|word| word.starts_with("prism_"));
        key.map(str::to_owned).context("a key")
    };
    let (ingest, query) = (key("ingest")?, key("query")?);
    let seconds = (SMALL_SPANS / FILL_RATE).to_string();
    Load::begin(
        bin,
        server,
        &["--header", &format!("x-api-key={ingest}")],
        FILL_RATE,
        &["--seconds", &seconds],
        "small",
    )?
    .end()?;
    let rows = count(server, Some(&query))?;
    let light = [
        ("count", "from spans last 1h by service.name select count()"),
        ("p95", "from spans last 1h by http.route select p95(duration)"),
        ("attribute", "from spans last 1h where http.response.status_code = 504 select count()"),
        ("newest", "from spans last 1h where status = error select time, name order time desc limit 20"),
    ];
    let small = || -> anyhow::Result<Vec<Asked>> {
        let one = |n: usize| {
            std::thread::sleep(SMALL_PAUSE);
            ask(server, Some(&query), light[n % 4].0, light[n % 4].1)
        };
        (0..SMALL_QUERIES).map(one).collect()
    };
    small()?;
    let alone = small()?;
    let done = std::sync::atomic::AtomicBool::new(false);
    let heavy = "from spans last 1h by name, http.route, http.response.status_code select count() as n, p95(duration), \
                 count_distinct(user.id) order n desc limit 10";
    let (beside, answered) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..HEAVY_CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut answered = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        // One that takes too long is refused, which is as heavy.
                        answered += usize::from(server.post("/v1/query", None, heavy).is_ok());
                    }
                    answered
                })
            })
            .collect();
        let beside = small();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let answered: usize = clients.into_iter().map(|client| client.join().unwrap_or_default()).sum();
        (beside, answered)
    });
    let beside = beside?;
    let (a, b) = (percentile(&alone, 0.95), percentile(&beside, 0.95));
    say(&format!(
        "   {rows} spans, {SMALL_QUERIES} queries each: p95 alone {a:.0} ms, beside {b:.0} ms: {:.2}x (p50 {:.0} and {:.0} ms); \
         {answered} heavy queries were answered meanwhile",
        b / a,
        percentile(&alone, 0.5),
        percentile(&beside, 0.5),
    ));
    Ok(())
}

fn count(server: &Server, key: Option<&str>) -> anyhow::Result<u64> {
    let answer: Value =
        serde_json::from_str(&server.post("/v1/query", key, "from spans last 1h select count() as n")?)?;
    answer["rows"][0][0].as_u64().with_context(|| format!("a count: {}", json!(answer)))
}

/// A load generator beside what else is done.
struct Load {
    child: Child,
    report: std::path::PathBuf,
}

impl Load {
    fn begin(bin: &Path, server: &Server, with: &[&str], rate: u64, args: &[&str], name: &str) -> anyhow::Result<Load> {
        let report = target_dir().join("bench").join(format!("{name}.json"));
        let mut command = Command::new(bin.join("prism-load"));
        command.args(["open", "--rate", &rate.to_string(), "--endpoint", &server.url]).args(with).args(args);
        let child =
            command.arg("--json").arg(&report).stdout(Stdio::null()).spawn().context("cannot start prism-load")?;
        Ok(Load { child, report })
    }

    /// Rows that were acknowledged, at its end.
    fn end(mut self) -> anyhow::Result<u64> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("prism-load ended with {status}");
        }
        let report: Value = serde_json::from_slice(&std::fs::read(&self.report)?)?;
        report["rows_acknowledged"].as_u64().context("acknowledged rows")
    }

    fn kill(mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
