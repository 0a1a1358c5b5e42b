//! Starts the programs of the shop as processes, in the order in which they need each other, and ends them in the order in
//! which requests pass, so that what is in flight arrives.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::summary::Summary;
use crate::{Ended, RunArgs, probe};

/// Runs the whole shop once.
///
/// # Errors
/// A program did not start or did not end well. That the server took less than everything is no error here: the summary
/// says so.
pub fn shop(args: &RunArgs) -> Result<Summary> {
    let begun = Instant::now();
    let (mail, mail_url) = Program::serve(args, &["mail"])?;
    let (payment, payment_url) = Program::serve(args, &["payment"])?;
    let (catalogue, catalogue_url) = Program::serve(args, &["catalogue"])?;
    let to = ["--catalogue", &catalogue_url, "--payment", &payment_url, "--mail", &mail_url];
    let (checkout, checkout_url) = Program::serve(args, &[&["checkout"], &to[..]].concat())?;
    let to = ["--catalogue", &catalogue_url, "--checkout", &checkout_url];
    let (frontend, frontend_url) = Program::serve(args, &[&["frontend"], &to[..]].concat())?;

    let (stop_probe, stopped) = mpsc::channel::<()>();
    let urls = [&frontend_url, &checkout_url, &catalogue_url, &payment_url, &mail_url];
    let addresses: Vec<String> = urls.iter().map(|url| url.trim_start_matches("http://").to_owned()).collect();
    let prober = std::thread::spawn(move || probe::run(&addresses, &stopped));

    let mut visit = vec!["visit".to_owned(), "--frontend".to_owned(), frontend_url];
    visit.extend(args.traffic.to_args());
    // The customers leave by themselves; all others when they are told.
    let customers = Program::start(args, &visit)?.wait()?;

    drop(stop_probe);
    if prober.join().is_err() {
        bail!("the health probe panicked");
    }
    let mut ended = vec![customers];
    for program in [frontend, checkout, payment, catalogue, mail] {
        ended.push(program.end()?);
    }
    Ok(Summary::new(args.endpoint.clone(), begun.elapsed(), ended))
}

struct Program {
    name: String,
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn serve(args: &RunArgs, role: &[&str]) -> Result<(Program, String)> {
        let arguments: Vec<String> = ["serve"].iter().chain(role).map(|arg| (*arg).to_owned()).collect();
        let mut program = Program::start(args, &arguments)?;
        let url = program.line()?;
        Ok((program, url))
    }

    fn start(args: &RunArgs, arguments: &[String]) -> Result<Program> {
        let name = arguments.iter().take(2).map(String::as_str).collect::<Vec<_>>().join(" ");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &args.endpoint);
        command.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        if !args.uncompressed {
            command.env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        }
        // By the environment and not by an argument: a list of processes shows arguments to everyone.
        if !args.headers.is_empty() {
            let headers: Result<Vec<_>> = args.headers.iter().map(|header| escaped(header)).collect();
            command.env("OTEL_EXPORTER_OTLP_HEADERS", headers?.join(","));
        }
        let mut child = command.spawn().with_context(|| format!("cannot start `{name}`"))?;
        let output = child.stdout.take().context("a program without output")?;
        Ok(Program { name, child, output: BufReader::new(output).lines() })
    }

    fn line(&mut self) -> Result<String> {
        match self.output.next() {
            Some(line) => Ok(line?),
            None => bail!("`prism-shop {}` ended early with {}", self.name, self.child.wait()?),
        }
    }

    /// Tells the program to end, by the end of its input.
    fn end(mut self) -> Result<Ended> {
        drop(self.child.stdin.take());
        self.wait()
    }

    fn wait(mut self) -> Result<Ended> {
        let line = self.line()?;
        // Kept open until here: its end would have told the program to end.
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if !status.success() {
            bail!("`prism-shop {}` failed with {status}", self.name);
        }
        serde_json::from_str(&line).with_context(|| format!("`prism-shop {}` ended with an unexpected line", self.name))
    }
}

impl Drop for Program {
    /// A failed start must not leave the others behind; after a good end this does nothing.
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _reaped_before = self.child.wait();
    }
}

/// The variable holds a list like that of W3C baggage: commas and percent signs in values are encoded.
fn escaped(header: &str) -> Result<String> {
    let (name, value) = header.split_once('=').with_context(|| format!("expected `name=value`, found `{header}`"))?;
    let value: String = value
        .bytes()
        .map(|b| match b {
            b'%' | b',' | b';' | b'"' | b'\\' | b' ' | 0x80.. => format!("%{b:02X}"),
            _ => char::from(b).to_string(),
        })
        .collect();
    Ok(format!("{name}={value}"))
}
