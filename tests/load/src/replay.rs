//! Sends recorded OTLP: `.json`, `.jsonl` (one request a line) and `.pb` (one request, or 4-byte big-endian length before
//! each), each also with `.gz`. JSON is read by the official message types and sent as protobuf.
//!
//! Not here: loading history into a server for good, with resumption; this is for demos and tests.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use http::header::CONTENT_TYPE;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use crate::connection::{Connection, Target};
use crate::drive::now_unix_nanos;

/// A recorded request.
enum Request {
    Traces(ExportTraceServiceRequest),
    Logs(ExportLogsServiceRequest),
}

/// What was sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Requests acknowledged.
    pub requests: u64,
    /// Spans in them.
    pub spans: u64,
    /// Log records in them.
    pub logs: u64,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// Reads the files, shifts their times so that the latest is now (if asked), and posts each request in order.
///
/// # Errors
/// A file cannot be read, or the server refuses a request.
pub async fn replay(target: &Arc<Target>, files: &[PathBuf], shift_to_now: bool) -> Result<Sent> {
    let mut connection = Connection::new(target);
    let mut sent = Sent::default();
    let mut requests = Vec::new();
    for file in &files_of(files)? {
        read(file, &mut requests, &mut sent.left_out).with_context(|| format!("cannot read `{}`", file.display()))?;
    }
    if shift_to_now {
        let now = now_unix_nanos();
        let mut latest = 0;
        requests.iter_mut().for_each(|r| r.times(&mut |time| latest = latest.max(*time)));
        let by = now.saturating_sub(latest);
        // 0 means absent, in every time field of OTLP.
        requests.iter_mut().for_each(|r| {
            r.times(&mut |time| {
                if *time > 0 {
                    *time += by
                }
            })
        });
    }
    for request in requests {
        let (path, body) = match request {
            Request::Traces(request) => {
                let scopes = request.resource_spans.iter().flat_map(|r| &r.scope_spans);
                sent.spans += scopes.map(|s| s.spans.len() as u64).sum::<u64>();
                ("/v1/traces", request.encode_to_vec())
            }
            Request::Logs(request) => {
                let scopes = request.resource_logs.iter().flat_map(|r| &r.scope_logs);
                sent.logs += scopes.map(|s| s.log_records.len() as u64).sum::<u64>();
                ("/v1/logs", request.encode_to_vec())
            }
        };
        let kind = [(CONTENT_TYPE, "application/x-protobuf")];
        let answer = connection.send(Method::POST, path, &kind, body.into()).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        sent.requests += 1;
    }
    Ok(sent)
}

/// The files, and those directly in the folders, by name.
fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut inside: Vec<PathBuf> = std::fs::read_dir(path)?.flatten().map(|entry| entry.path()).collect();
            inside.retain(|p| p.is_file());
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} spans and {} log records in {} requests", self.spans, self.logs, self.requests)?;
        self.left_out.iter().try_for_each(|what| writeln!(f, "left out: {what}"))
    }
}

impl Request {
    /// Visits every time of the request.
    fn times(&mut self, visit: &mut impl FnMut(&mut u64)) {
        match self {
            Request::Traces(request) => {
                let spans =
                    request.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans).flat_map(|s| &mut s.spans);
                for span in spans {
                    visit(&mut span.start_time_unix_nano);
                    visit(&mut span.end_time_unix_nano);
                    span.events.iter_mut().for_each(|e| visit(&mut e.time_unix_nano));
                }
            }
            Request::Logs(request) => {
                let records =
                    request.resource_logs.iter_mut().flat_map(|r| &mut r.scope_logs).flat_map(|s| &mut s.log_records);
                for record in records {
                    visit(&mut record.time_unix_nano);
                    visit(&mut record.observed_time_unix_nano);
                }
            }
        }
    }
}

fn read(file: &Path, requests: &mut Vec<Request>, left_out: &mut Vec<String>) -> Result<()> {
    let mut bytes = std::fs::read(file)?;
    let mut name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(inner) = name.strip_suffix(".gz") {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain)?;
        (bytes, name) = (plain, inner.to_owned());
    }
    if name.ends_with(".jsonl") {
        for (number, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, l)| !l.trim_ascii().is_empty()) {
            match json(line).with_context(|| format!("line {}", number + 1))? {
                Some(request) => requests.push(request),
                None => {
                    left_out.push(format!("{name}: metrics, which are not stored yet"));
                    return Ok(());
                }
            }
        }
    } else if name.ends_with(".json") {
        match json(&bytes)? {
            Some(request) => requests.push(request),
            None => left_out.push(format!("{name}: metrics, which are not stored yet")),
        }
    } else if name.ends_with(".pb") {
        if name.contains("metric") {
            left_out.push(format!("{name}: metrics, which are not stored yet"));
            return Ok(());
        }
        for message in messages(&bytes) {
            requests.push(if name.contains("log") {
                Request::Logs(ExportLogsServiceRequest::decode(message)?)
            } else {
                Request::Traces(ExportTraceServiceRequest::decode(message)?)
            });
        }
    } else {
        left_out.push(format!("{name}: expected a name that ends in .json, .jsonl or .pb, with or without .gz"));
    }
    Ok(())
}

/// One request in JSON; `None` for metrics.
fn json(text: &[u8]) -> Result<Option<Request>> {
    let value: serde_json::Value = serde_json::from_slice(text)?;
    if value.get("resourceSpans").is_some() {
        return Ok(Some(Request::Traces(serde_json::from_value(value)?)));
    }
    if value.get("resourceLogs").is_some() {
        return Ok(Some(Request::Logs(serde_json::from_value(value)?)));
    }
    ensure!(value.get("resourceMetrics").is_some(), "expected `resourceSpans`, `resourceLogs` or `resourceMetrics`");
    Ok(None)
}

/// The messages of a `.pb` file: length-delimited ones if the lengths add up exactly, else the whole file is one.
fn messages(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((message, tail)) = tail.split_at_checked(length) else { return vec![bytes] };
        found.push(message);
        rest = tail;
    }
    if rest.is_empty() { found } else { vec![bytes] }
}
