//! The same queries over the same Parquet files, by Prism and by what users would pick instead, one after the other in one run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::answers::Sketched;
use crate::build;
use crate::step::{heading, output, root, say, target_dir};

/// Spans of the table; `PRISM_BENCH_SPANS` changes it.
const SPANS: &str = "2500000";
/// Runs of each query; `PRISM_BENCH_RUNS` changes it.
const RUNS: &str = "50";
const PEERS: [&str; 3] = ["duckdb", "chdb", "datafusion"];
/// Who tells exactly what Prism answers from sketches.
const EXACT_PEER: &str = "duckdb";

/// What an engine says of a query.
struct Told {
    cpu: f64,
    wall: f64,
    bytes: u64,
    rows: Value,
    /// The exact answer to what others answer from sketches.
    exact: Option<Value>,
}

/// By query, then by engine.
type Table = BTreeMap<String, BTreeMap<String, Result<Told, String>>>;

pub(crate) fn bench() -> anyhow::Result<()> {
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let (spans, runs) = (setting("PRISM_BENCH_SPANS", SPANS), setting("PRISM_BENCH_RUNS", RUNS));
    let program = build::measured()?.join("examples/speed");
    let folder = target_dir().join("bench/queries");
    let prism = |args: &[&str]| {
        let (how, rest) = args.split_first().context("a command of the program")?;
        output(Command::new(&program).arg(how).arg(&folder).args(rest))
    };
    let made = std::fs::read_to_string(folder.join("spans")).unwrap_or_default();
    if made != spans {
        heading(&format!("{spans} spans of 18 attributes through append, seal and promotion"));
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        say(prism(&["make", &spans])?.trim_end());
    }
    let questions = prism(&["questions"])?;
    let asked: Vec<Value> = serde_json::from_str(&questions)?;
    std::fs::write(folder.join("questions.json"), &questions)?;
    let mut table = Table::new();
    let site = installed()?;
    for tier in ["cold", "hot"] {
        heading(&format!("prism, {tier}: {runs} runs of each query on one thread"));
        collect(&prism(&["ask", tier, &runs])?, &mut table)?;
    }
    for peer in PEERS {
        heading(&format!("{peer}: {runs} runs of each query on one thread"));
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &site).arg(root().join("tests/xtask/peers/ask.py"));
        collect(&output(python.arg(&folder).arg(folder.join("questions.json")).args([&runs, peer]))?, &mut table)?;
    }
    show(&asked, &table)
}

fn collect(lines: &str, to: &mut Table) -> anyhow::Result<()> {
    for line in lines.lines() {
        let mut line: Value = serde_json::from_str(line)?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let (name, engine) = (text("name"), text("engine"));
        let told = match line["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(Told {
                cpu: line["cpu_ms"].as_f64().context("processor time")?,
                wall: line["wall_ms"].as_f64().context("wall time")?,
                bytes: line["bytes"].as_u64().unwrap_or_default(),
                rows: line["rows"].take(),
                exact: line.get_mut("exact").map(Value::take),
            }),
        };
        to.entry(name).or_default().insert(engine, told);
    }
    Ok(())
}

/// Prints the table; an error where an answer is not right.
fn show(asked: &[Value], table: &Table) -> anyhow::Result<()> {
    heading("processor ms of a run (wall ms), the best peer, the ratio to it; hot beside cold");
    let mut wrong = Vec::new();
    let (mut best_or_better, mut within, mut compared) = (0, 0, 0);
    for query in asked {
        let name = query["name"].as_str().unwrap_or_default();
        let Some(told) = table.get(name) else { continue };
        let engine = |name: &str| told.get(name).and_then(|t| t.as_ref().ok());
        let (Some(cold), Some(hot)) = (engine("prism cold"), engine("prism hot")) else {
            bail!("{name}: prism gave no answer");
        };
        let mut line = format!("   {name:<34} cold {:>7.2} ({:>7.2})  hot {:>7.2}", cold.cpu, cold.wall, hot.cpu);
        let mut best: Option<(&str, f64)> = None;
        let sketched = Sketched::of(query);
        for peer in PEERS {
            match told.get(peer) {
                Some(Ok(peer_told)) => {
                    line += &format!("  {peer} {:>7.2}", peer_told.cpu);
                    if best.is_none_or(|(_, least)| peer_told.cpu < least) {
                        best = Some((peer, peer_told.cpu));
                    }
                    if let Err(why) = sketched.same(&cold.rows, &peer_told.rows) {
                        wrong.push(format!("{name}: beside {peer}: {why}"));
                    }
                }
                Some(Err(error)) => line += &format!("  {peer} ({})", error.lines().next().unwrap_or_default()),
                None => {}
            }
        }
        if let Err(why) = sketched.same(&cold.rows, &hot.rows) {
            wrong.push(format!("{name}: hot: {why}"));
        }
        if sketched.any() {
            let exact = engine(EXACT_PEER).and_then(|told| told.exact.as_ref());
            let exact = exact.with_context(|| format!("{name}: no exact answer by {EXACT_PEER}"))?;
            let tiers = [("cold", cold), ("hot", hot)].into_iter();
            let not_right = tiers.filter_map(|(tier, told)| Some((tier, sketched.right(&told.rows, exact).err()?)));
            wrong.extend(not_right.map(|(tier, why)| format!("{name}: {tier}: {why}")));
        }
        if let Some((_, least)) = best {
            let ratio = cold.cpu / least;
            compared += 1;
            best_or_better += usize::from(ratio <= 1.0);
            within += usize::from(ratio <= 1.5);
            line += &format!("  {ratio:>5.2}x");
        }
        say(&format!("{line}  hot/cold {:>5.2}x  {} KB", hot.cpu / cold.cpu, cold.bytes / 1000));
    }
    say(&format!("   of {compared}: {best_or_better} at most the best peer, {within} at most 1.5 times"));
    ensure!(wrong.is_empty(), "answers that are not right:\n{}", wrong.join("\n"));
    Ok(())
}

/// Where the peers are, installed once.
fn installed() -> anyhow::Result<PathBuf> {
    let lock = root().join("tests/xtask/peers/packages.txt");
    let site = target_dir().join("bench/peers");
    let done = site.join("installed.txt");
    let wanted = std::fs::read(&lock)?;
    if std::fs::read(&done).is_ok_and(|have| have == wanted) {
        return Ok(site);
    }
    heading("DuckDB, chDB and DataFusion from PyPI");
    if Path::new(&site).exists() {
        std::fs::remove_dir_all(&site)?;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
    output(pip.args(["--only-binary", ":all:", "--target"]).arg(&site).arg("-r").arg(&lock))?;
    std::fs::write(done, wanted)?;
    Ok(site)
}
