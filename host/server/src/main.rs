//! The `prism` binary: configuration, keys, HTTP, gRPC, command line.
//!
//! ```text
//! cli -> config -> serve -> http, grpc -> access -> ingest pipeline | query engine -> error, metrics
//!              \-> commands (tenants, keys, plugins: control objects of the data folder) | client -> show
//! ```
//!
//! Not here: what a request means (`prism-ingest`, `prism-query`) and where rows live (`prism-store`). Only this crate knows
//! status codes.

mod cli;
mod config;
mod logs;
mod access;
mod error;
mod metrics;
mod rpc;
mod http;
mod client;
mod doctor;
mod show;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &cli::Cli) -> anyhow::Result<ExitCode> {
    let loaded = config::load(&cli.flags(), std::env::vars())?;
    logs::start(loaded.config.log.format, &loaded.config.log.filter).map_err(anyhow::Error::msg)?;
    match &cli.command {
        cli::Command::Config(cli::ConfigCommand::Print) => {
            print(&loaded.print());
            Ok(ExitCode::SUCCESS)
        }
        _ => anyhow::bail!("not joined yet"),
    }
}

/// Writes to standard output; a reader that has gone away (`prism ... | head`) is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let _reader_gone = std::io::stdout().write_all(text.as_bytes());
}
