//! Asks each query many times, in batches that are long beside the clock's tick, and tells what a run cost and what it answered.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use prism_query::{QueryError, RunOptions};
use serde_json::{Value, json};

use crate::stores::{NOW, batches, engine, tenant};
use crate::{cpu, spans};

/// Name, text, and `sql` of the other engines, with `{t}` for the table and `{id}`, `{request}` for what is looked for.
const QUERIES: &str = include_str!("queries.json");

/// Prints the queries with what they look for filled in.
pub(crate) fn questions(folder: &Path) -> Result<(), Box<dyn Error>> {
    let (id, request) = looked_for(folder)?;
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{}", QUERIES.replace("{id}", &id).replace("{request}", &request));
    Ok(())
}

/// A trace id and a request id from the middle of the spans.
fn looked_for(folder: &Path) -> Result<([u8; 16], String), Box<dyn Error>> {
    let spans_made: usize = std::fs::read_to_string(folder.join("spans"))?.trim().parse()?;
    let middle = batches(spans_made) / 2;
    Ok((spans::trace_of(middle), spans::request_of(middle)))
}

pub(crate) async fn all(folder: &Path, tier: &str, runs: usize, only: Option<&str>) -> Result<(), Box<dyn Error>> {
    let ((engine, reader), tenant) = (engine(folder, tier), tenant()?);
    let (id, request) = looked_for(folder)?;
    let queries: Vec<Value> = serde_json::from_str(QUERIES)?;
    for query in &queries {
        let name = query["name"].as_str().unwrap_or_default();
        if only.is_some_and(|only| only != name) {
            continue;
        }
        if name == "trace by id" {
            let answer = engine.trace(&tenant, &id).await?;
            let cost = (answer.stats.bytes_read, answer.stats.reads);
            let (cpu, wall) = measure(runs, async || engine.trace(&tenant, &id).await.map(drop)).await?;
            tell(name, tier, runs, cpu, wall, cost, json!([[answer.spans()]]));
            continue;
        }
        let text = query["prism"].as_str().unwrap_or_default().replace("{request}", &request);
        let parsed = prism_dsl::parse_text(&text).map_err(|error| format!("{text}: {error:?}"))?;
        // Some are answered from rollups: their rows are measured too.
        let options = RunOptions { without_rollups: query["rows"].as_bool().unwrap_or(false), ..RunOptions::default() };
        let answer = engine.run(&tenant, &parsed, NOW, options.clone()).await?;
        let cost = (answer.stats.bytes_read, answer.stats.reads);
        // Of the hot tier a server counts in the background what is asked for again: that is over before a dashboard asks for the
        // third time.
        engine.run(&tenant, &parsed, NOW, options.clone()).await?;
        while reader.count() {}
        let (cpu, wall) =
            measure(runs, async || engine.run(&tenant, &parsed, NOW, options.clone()).await.map(drop)).await?;
        tell(name, tier, runs, cpu, wall, cost, rows(&answer.to_json())?);
    }
    Ok(())
}

/// The rows of an answer, times as unix nanoseconds, as other engines have them.
fn rows(answer: &str) -> Result<Value, Box<dyn Error>> {
    let mut answer: Value = serde_json::from_str(answer)?;
    let columns = answer["columns"].as_array().into_iter().flatten().enumerate();
    let times: Vec<usize> = columns.filter(|(_, column)| column["type"] == "time").map(|(i, _)| i).collect();
    for row in answer["rows"].as_array_mut().into_iter().flatten() {
        for cell in &times {
            let time = chrono::DateTime::parse_from_rfc3339(row[*cell].as_str().unwrap_or_default())?;
            row[*cell] = time.timestamp_nanos_opt().into();
        }
    }
    Ok(answer["rows"].take())
}

/// Processor and wall seconds of one run: the median over batches of runs.
async fn measure(runs: usize, run: impl AsyncFn() -> Result<(), QueryError>) -> Result<(f64, f64), Box<dyn Error>> {
    let batches = 10.min(runs);
    let mut seen = Vec::new();
    for _ in 0..batches {
        let (from, began) = (cpu(), Instant::now());
        for _ in 0..runs.div_ceil(batches) {
            run().await?;
        }
        let n = runs.div_ceil(batches) as f64;
        seen.push(((cpu() - from) / n, began.elapsed().as_secs_f64() / n));
    }
    let median = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = seen.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Ok((median(&|s| s.0), median(&|s| s.1)))
}

fn tell(name: &str, tier: &str, runs: usize, cpu: f64, wall: f64, (bytes, reads): (u64, u64), rows: Value) {
    let line = json!({
        "name": name, "engine": format!("prism {tier}"), "runs": runs, "cpu_ms": cpu * 1e3, "wall_ms": wall * 1e3,
        "bytes": bytes, "reads": reads, "rows": rows,
    });
    println!("{line}");
}
