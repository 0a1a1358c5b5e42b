//! The queries that a user would compare by, over spans that went through append, seal and promotion: processor and wall time of
//! each, and its answer, so that other engines can be asked the same over the same Parquet files.
//!
//! ```text
//! cargo run --release -p prism-query --example speed -- make FOLDER SPANS      cold and hot stores of the same spans
//! cargo run --release -p prism-query --example speed -- ask FOLDER cold|hot RUNS [NAME]   a line of JSON for each query
//! cargo run --release -p prism-query --example speed -- questions FOLDER       the queries in SQL
//! ```
//! `cargo xtask bench queries` runs both and DuckDB, chDB and DataFusion beside them. All use one thread.
#![allow(clippy::print_stdout, reason = "a program that reports")]

// As the server's.
#[path = "../../../server/src/allocator.rs"]
mod allocator;
mod spans;
mod stores;
mod ask;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    allocator::settle();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", folder, spans] => stores::make(Path::new(folder), spans.parse()?).await,
        ["ask", folder, tier, runs] => ask::all(Path::new(folder), tier, runs.parse()?, None).await,
        ["ask", folder, tier, runs, name] => ask::all(Path::new(folder), tier, runs.parse()?, Some(name)).await,
        ["questions", folder] => ask::questions(Path::new(folder)),
        _ => Err("expected `make FOLDER SPANS`, `questions FOLDER` or `ask FOLDER cold|hot RUNS [NAME]`".into()),
    }
}

/// Processor seconds of this process.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
