//! The task runner: `cargo xtask demo | test | bench | guests`.
//!
//! It needs nothing but a Rust toolchain and a C compiler; what else is missing (the Wasm target) it finds or installs.

mod step;
mod build;
mod server;
mod demo;
mod check;
mod answers;
mod queries;
mod hour;
mod bench;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <task>

  demo [--once] [--replay FILE...]   build, start Prism, send telemetry through the bundled plugins, run queries
                                     --once     stop the server at the end
                                     --replay   send recorded OTLP (folders, or .pb, .json, .jsonl, each also .gz) instead of
                                                the shop's
  test [--quick]                     everything that CI checks; --quick leaves out clippy and the demo
  bench [NAME...]                    measure in release: ingest, openloop, plugins, queries … (default: all)
  guests                             build the bundled plugins only
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("demo") => demo::Options::parse(rest).and_then(|options| demo::run(&options)),
        Some("test") => check::run(rest),
        Some("bench") => bench::run(rest),
        Some("guests") => build::guests().map(|_| ()),
        _ => {
            step::say(USAGE);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            step::say(&format!("\nfailed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
