//! Requests that no one here wrote: the shared input data.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prism_model::Limits;
use prost::Message;

use crate::agree;

/// The folder of input data; `None`, with a printed reason, where it is missing.
fn shared_data() -> Option<PathBuf> {
    let found = match std::env::var_os("PRISM_SHARED_DATA") {
        Some(path) => Some(PathBuf::from(path)),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .map(|dir| dir.join("shared/data"))
            .find(|dir| dir.is_dir()),
    };
    let found = found.filter(|dir| dir.is_dir());
    if found.is_none() {
        println!("skipped: no folder `shared/data` beside the repository (or in PRISM_SHARED_DATA)");
    }
    found
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

fn read(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|e| e == "gz") {
        let packed = std::mem::take(&mut bytes);
        flate2::read::MultiGzDecoder::new(&*packed).read_to_end(&mut bytes).unwrap();
    }
    bytes
}

#[derive(Default)]
struct Tally {
    requests: usize,
    items: usize,
    points: usize,
}

impl Tally {
    fn traces(&mut self, bytes: &[u8], path: &Path) {
        if let Some(decoded) =
            agree::traces(bytes, &Limits::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        {
            self.requests += 1;
            self.items += decoded.batch.rows();
        }
    }

    fn logs(&mut self, bytes: &[u8], path: &Path) {
        if let Some(decoded) =
            agree::logs(bytes, &Limits::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        {
            self.requests += 1;
            self.items += decoded.batch.rows();
        }
    }

    fn metrics(&mut self, bytes: &[u8], path: &Path) {
        if let Some(decoded) =
            agree::metrics(bytes, &Limits::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        {
            self.requests += 1;
            self.points += decoded.batch.rows();
        }
    }

    /// A whole document or one line of it, where it is OTLP/JSON that the crate can read.
    fn json(&mut self, text: &str, path: &Path) {
        if let Ok(request) = serde_json::from_str::<ExportTraceServiceRequest>(text)
            && !request.resource_spans.is_empty()
        {
            self.traces(&request.encode_to_vec(), path);
        }
        if let Ok(request) = serde_json::from_str::<ExportLogsServiceRequest>(text)
            && !request.resource_logs.is_empty()
        {
            self.logs(&request.encode_to_vec(), path);
        }
        if let Ok(request) = serde_json::from_str::<ExportMetricsServiceRequest>(text)
            && !request.resource_metrics.is_empty()
        {
            self.metrics(&request.encode_to_vec(), path);
        }
    }
}

/// Messages that stand one after the other, the length of each (4 bytes, big-endian) in front; `None` where bytes are none such.
fn length_delimited(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (message, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        messages.push(message);
        bytes = rest;
    }
    Some(messages)
}

#[test]
fn recorded_requests_are_walked_as_prost_decodes_them() {
    let Some(dir) = shared_data() else { return };
    let mut paths = Vec::new();
    files(&dir, &mut paths);
    let mut tally = Tally::default();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = read(&path);
        if name.contains(".pb") {
            // Whatever they hold, both must agree: a request of another signal is a fine test of unknown fields.
            for message in length_delimited(&bytes).unwrap_or_else(|| vec![&bytes]) {
                tally.traces(message, &path);
                tally.logs(message, &path);
                tally.metrics(message, &path);
            }
        } else if let Ok(text) = std::str::from_utf8(&bytes) {
            match name.contains("jsonl") {
                true => text.lines().for_each(|line| tally.json(line, &path)),
                false => tally.json(text, &path),
            }
        }
    }
    println!("{} requests, {} items, {} data points", tally.requests, tally.items, tally.points);
    assert!(tally.items > 10_000, "the shared data holds more than 10,000 spans and log records");
    assert!(tally.points > 10_000, "the shared data holds more than 10,000 data points");
}
