//! The `prism` binary: configuration, keys, HTTP, gRPC, command line.
//!
//! ```text
//! cli -> config -> serve -> tls -> http, grpc -> access -> ingest pipeline | query engine -> error, metrics
//!              \-> commands (tenants, keys, plugins: control objects of the data folder; storage: what lies where) | client -> show, shell
//! ```
//!
//! Not here: what a request means (`prism-ingest`, `prism-query`) and where rows live (`prism-store`). Only this crate knows
//! status codes.

mod allocator;
mod cli;
mod config;
mod logs;
mod serve;
mod storage;
mod app;
mod seats;
mod tails;
mod tls;
mod grpc;
mod http;
mod access;
mod rpc;
mod error;
mod metrics;
mod telemetry;
mod commands;
mod bundled;
mod client;
mod when;
mod budget;
mod doctor;
mod show;
mod shell;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    allocator::settle();
    // What every TLS connection of this process computes with, as server and as client.
    let _installed_once = rustls::crypto::ring::default_provider().install_default();
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
    let (config, screen) = (&loaded.config, show::Screen::of_stdout());
    let text = match &cli.command {
        cli::Command::Config { command: None | Some(cli::ConfigCommand::Print) } => loaded.print(),
        cli::Command::Tenant(command) => commands::access::tenant(command, config, &screen)?,
        cli::Command::Key(command) => commands::access::key(command, config, &screen)?,
        cli::Command::Query(command) => match command.shell() {
            Some(shell) => return shell::run(&shell, &screen),
            None => commands::ask::query(command, &screen)?,
        },
        cli::Command::Shell(command) => return shell::run(command, &screen),
        cli::Command::Fields(command) => commands::fields::run(command, &screen)?,
        cli::Command::Tail(command) => return commands::tail::run(command, &screen),
        cli::Command::Trace(command) => commands::ask::trace(command, &screen)?,
        cli::Command::Ingest(command) => return report(commands::ingest::run(command, config, &screen)?),
        cli::Command::Replay(command) => return report(commands::replay::run(command, config, &screen)?),
        cli::Command::Doctor => {
            let (text, sound) = doctor::run(&loaded, &screen);
            print(&text);
            return Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        cli::Command::Encryption(command) => commands::encryption::run(command, config, &screen)?,
        cli::Command::Plugin(command) => commands::plugin::run(command, config, &screen)?,
        cli::Command::Storage(command) => return report(commands::storage::run(command, config, &screen)?),
        cli::Command::Serve(_) => return serve::run(config),
    };
    print(&text);
    Ok(ExitCode::SUCCESS)
}

/// Prints what was done; fails where not all of it was.
fn report((text, whole): (String, bool)) -> anyhow::Result<ExitCode> {
    print(&text);
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes to standard output; a reader that has gone away (`prism ... | head`) is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let _reader_gone = std::io::stdout().write_all(text.as_bytes());
}
