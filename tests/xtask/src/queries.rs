//! The same queries over the same Parquet files, by Prism and by what users would pick instead, one after the other in one run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::build;
use crate::step::{heading, output, root, say, target_dir};

/// Spans of the table; `PRISM_BENCH_SPANS` changes it.
const SPANS: &str = "2500000";
/// Runs of each query; `PRISM_BENCH_RUNS` changes it.
const RUNS: &str = "50";
const PEERS: [&str; 3] = ["duckdb", "chdb", "datafusion"];
/// How far apart sketches of different engines may be.
const APART: f64 = 0.05;
/// One in so many approximate values may be further from those of all peers.
const FEW_APART: usize = 10;

/// What an engine says of a query.
struct Told {
    cpu: f64,
    wall: f64,
    bytes: u64,
    rows: Value,
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
            }),
        };
        to.entry(name).or_default().insert(engine, told);
    }
    Ok(())
}

/// Prints the table; an error where engines disagree.
fn show(asked: &[Value], table: &Table) -> anyhow::Result<()> {
    heading("processor ms of a run (wall ms), the best peer, the ratio to it; hot beside cold");
    let (mut wrong, mut apart) = (Vec::new(), Vec::new());
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
        let mut others: Vec<(&str, &Value)> = Vec::new();
        for peer in PEERS {
            match told.get(peer) {
                Some(Ok(peer_told)) => {
                    line += &format!("  {peer} {:>7.2}", peer_told.cpu);
                    if best.is_none_or(|(_, least)| peer_told.cpu < least) {
                        best = Some((peer, peer_told.cpu));
                    }
                    others.push((peer, &peer_told.rows));
                }
                Some(Err(error)) => line += &format!("  {peer} ({})", error.lines().next().unwrap_or_default()),
                None => {}
            }
        }
        let alone = others.iter().filter_map(|(peer, rows)| Some((peer, agree(query, &cold.rows, rows).err()?)));
        apart.extend(alone.map(|(peer, why)| format!("{name}: {peer}: {why}")));
        if let Err(why) = borne_out(query, &cold.rows, &others) {
            wrong.push(format!("{name}: {why}"));
        }
        if let Err(why) = agree(query, &cold.rows, &hot.rows) {
            wrong.push(format!("{name}: hot: {why}"));
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
    if !apart.is_empty() {
        say(&format!(
            "   peers that say something else (their sketches are coarser, or a query finds nothing):\n{}",
            apart.join("\n")
        ));
    }
    ensure!(wrong.is_empty(), "no peer bears out what Prism answers:\n{}", wrong.join("\n"));
    Ok(())
}

/// Rows of an answer: what must be the same, and the approximate columns.
fn rows(query: &Value, answer: &Value) -> BTreeMap<String, Vec<f64>> {
    let approximate: Vec<usize> =
        query["approx"].as_array().into_iter().flatten().filter_map(|i| Some(i.as_u64()? as usize)).collect();
    let rows = answer.as_array().into_iter().flatten();
    rows.map(|row| {
        let cells = row.as_array().into_iter().flatten().enumerate();
        let (near, exact): (Vec<_>, Vec<_>) = cells.partition(|(i, _)| approximate.contains(i));
        let key = exact.iter().map(|(_, cell)| cell_text(cell)).collect::<Vec<_>>().join("|");
        (key, near.iter().map(|(_, cell)| cell.as_f64().unwrap_or(f64::NAN)).collect())
    })
    .collect()
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= APART * a.abs().max(b.abs())
}

/// Whether peers bear out an answer: one at least has the same rows, and of those that have them one is near each approximate
/// value, or some say more and some less; but for a few values, since quantiles of some dozen rows are what each engine makes of
/// them.
fn borne_out(query: &Value, ours: &Value, others: &[(&str, &Value)]) -> Result<(), String> {
    let own = rows(query, ours);
    let same: Vec<_> =
        others.iter().map(|(_, theirs)| rows(query, theirs)).filter(|theirs| theirs.keys().eq(own.keys())).collect();
    if same.is_empty() && !others.is_empty() {
        return Err("no peer has the same rows".into());
    }
    let mut apart = Vec::new();
    for (key, values) in &own {
        for (column, value) in values.iter().enumerate() {
            let told: Vec<f64> = same.iter().filter_map(|theirs| theirs.get(key)?.get(column).copied()).collect();
            let between = told.iter().any(|other| other < value) && told.iter().any(|other| other > value);
            if !between && !told.iter().any(|other| is_near(*value, *other)) {
                apart.push(format!("`{key}`: {value} beside {told:?}"));
            }
        }
    }
    let values: usize = own.values().map(Vec::len).sum();
    match apart.first() {
        Some(first) if apart.len() * FEW_APART > values => Err(format!("{} of {values} values: {first}", apart.len())),
        _ => Ok(()),
    }
}

/// Whether two answers are the same rows, in whatever order; approximate columns within [`APART`].
fn agree(query: &Value, ours: &Value, theirs: &Value) -> Result<(), String> {
    let (ours, theirs) = (rows(query, ours), rows(query, theirs));
    if ours.len() != theirs.len() {
        return Err(format!("{} rows, expected {}", theirs.len(), ours.len()));
    }
    for ((key, a), (other, b)) in ours.iter().zip(&theirs) {
        if key != other {
            return Err(format!("`{other}` beside `{key}`"));
        }
        if let Some((a, b)) = a.iter().zip(b).find(|(a, b)| !is_near(**a, **b)) {
            return Err(format!("`{key}`: {b} beside {a}"));
        }
    }
    Ok(())
}

/// Some engines write large numbers as text.
fn cell_text(cell: &Value) -> String {
    cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)
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
