//! A small web shop of six programs that tell what they do through the OpenTelemetry SDK, with personal data in it.
//!
//! ```text
//! customers --> frontend --> catalogue
//!                        \-> checkout --> catalogue, payment, mail
//! ```
//! `prism-shop run` starts all of them as processes, sends customers and says what was sent.

// A program, not a library: `pub` says what a module offers to the others.
#![allow(unreachable_pub)]

mod people;
mod customers;
mod frontend;
mod catalogue;
mod checkout;
mod payment;
mod mail;
mod web;
mod telemetry;
mod probe;
mod run;
mod summary;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::customers::{Seen, Traffic};
use crate::telemetry::{Report, Telemetry};

/// A small instrumented shop with invented customers.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all programs of the shop, send customers, say what was sent.
    Run(RunArgs),
    /// Run one program of the shop until its standard input ends. Where it exports to: OTEL_EXPORTER_OTLP_* variables.
    #[command(subcommand)]
    Serve(Role),
    /// Run the customers only.
    Visit {
        /// URL of the frontend.
        #[arg(long)]
        frontend: String,
        #[command(flatten)]
        traffic: TrafficArgs,
    },
}

#[derive(Args)]
struct RunArgs {
    /// Where an OTLP/HTTP server listens.
    #[arg(long, default_value = "http://127.0.0.1:4318")]
    endpoint: String,
    /// A header for each export, as `name=value`; may be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Export without gzip.
    #[arg(long)]
    uncompressed: bool,
    #[command(flatten)]
    traffic: TrafficArgs,
    /// Also write the summary to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    summary_json: Option<PathBuf>,
}

#[derive(Args)]
struct TrafficArgs {
    /// How many customers come [default: 40, or as many as come in the seconds].
    #[arg(long)]
    orders: Option<u64>,
    /// For how long customers come.
    #[arg(long)]
    seconds: Option<f64>,
    /// Customers a second.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// The same seed brings the same customers with the same wishes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Each listens at `--listen` and prints its URL.
#[derive(Subcommand)]
enum Role {
    /// The website.
    Frontend {
        /// Address to listen at.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// URL of the catalogue.
        #[arg(long)]
        catalogue: String,
        /// URL of the checkout.
        #[arg(long)]
        checkout: String,
    },
    /// What is sold.
    Catalogue {
        /// Address to listen at.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Orders.
    Checkout {
        /// Address to listen at.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// URL of the catalogue.
        #[arg(long)]
        catalogue: String,
        /// URL of the payment.
        #[arg(long)]
        payment: String,
        /// URL of the mail.
        #[arg(long)]
        mail: String,
    },
    /// Cards.
    Payment {
        /// Address to listen at.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Confirmations.
    Mail {
        /// Address to listen at.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

/// The last line that a program prints.
#[derive(Serialize, Deserialize)]
struct Ended {
    report: Report,
    seen: Option<Seen>,
}

fn main() -> Result<()> {
    // The exporters' HTTP client is built without a TLS library of its own choice: the program says which. An error means that
    // one is there already.
    drop(rustls::crypto::ring::default_provider().install_default());
    match Cli::parse().command {
        Command::Run(args) => {
            args.traffic.check()?;
            if !args.endpoint.starts_with("http://") {
                bail!("expected `http://host:port`, found `{}`", args.endpoint);
            }
            let summary = run::shop(&args)?;
            if let Some(file) = &args.summary_json {
                let json = serde_json::to_string_pretty(&summary)?;
                std::fs::write(file, json).with_context(|| format!("cannot write `{}`", file.display()))?;
            }
            write!(io::stdout(), "{summary}")?;
            if let Some(error) = summary.error {
                bail!("the server did not take everything: {error}");
            }
            Ok(())
        }
        Command::Serve(role) => serve(role),
        Command::Visit { frontend, traffic } => {
            let traffic = traffic.check()?;
            program("customers", |telemetry, stop| async move {
                Ok(Some(customers::run(frontend, telemetry, traffic, stop).await))
            })
        }
    }
}

fn serve(role: Role) -> Result<()> {
    match role {
        Role::Frontend { listen, catalogue, checkout } => program("frontend", async move |telemetry, stop| {
            let to = frontend::Downstream { catalogue, checkout };
            frontend::run(bind(listen).await?, telemetry, to, stop).await;
            Ok(None)
        }),
        Role::Catalogue { listen } => program("catalogue", async move |telemetry, stop| {
            catalogue::run(bind(listen).await?, telemetry, stop).await;
            Ok(None)
        }),
        Role::Checkout { listen, catalogue, payment, mail } => program("checkout", async move |telemetry, stop| {
            let to = checkout::Downstream { catalogue, payment, mail };
            checkout::run(bind(listen).await?, telemetry, to, stop).await;
            Ok(None)
        }),
        Role::Payment { listen } => program("payment", async move |telemetry, stop| {
            payment::run(bind(listen).await?, telemetry, stop).await;
            Ok(None)
        }),
        Role::Mail { listen } => program("mail", async move |telemetry, stop| {
            mail::run(bind(listen).await?, telemetry, stop).await;
            Ok(None)
        }),
    }
}

/// Runs one program with its telemetry, then prints what it sent.
fn program<F>(name: &'static str, run: impl FnOnce(Arc<Telemetry>, Stop) -> F) -> Result<()>
where
    F: Future<Output = Result<Option<Seen>>>,
{
    let telemetry = Arc::new(Telemetry::start(name)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(run(Arc::clone(&telemetry), stop()));
    // Ends what is still in flight, and with it the spans.
    drop(runtime);
    let report = telemetry.stop();
    writeln!(io::stdout(), "{}", serde_json::to_string(&Ended { report, seen: outcome? })?)?;
    Ok(())
}

type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ready when standard input ends, which it also does when the parent dies, or on Ctrl-C.
fn stop() -> Stop {
    let (ended, end) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _read = io::stdin().read_to_end(&mut Vec::new());
        drop(ended);
    });
    Box::pin(async {
        tokio::select! {
            _ = end => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}

async fn bind(listen: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen at `{listen}`"))?;
    writeln!(io::stdout(), "http://{}", listener.local_addr()?)?;
    Ok(listener)
}

impl TrafficArgs {
    fn check(&self) -> Result<Traffic> {
        if !(self.rate.is_finite() && self.rate > 0.0) {
            bail!("expected a rate above 0, found `{}`", self.rate);
        }
        let duration = self.seconds.map(Duration::try_from_secs_f64).transpose().context("expected seconds from 0")?;
        let orders = if duration.is_none() { Some(self.orders.unwrap_or(40)) } else { self.orders };
        Ok(Traffic { seed: self.seed, orders, duration, rate: self.rate })
    }

    fn to_args(&self) -> Vec<String> {
        let mut args = vec![format!("--rate={}", self.rate), format!("--seed={}", self.seed)];
        args.extend(self.orders.map(|orders| format!("--orders={orders}")));
        args.extend(self.seconds.map(|seconds| format!("--seconds={seconds}")));
        args
    }
}
