//! Requests that no one here wrote: the shared input data.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prism_ingest::decode;
use prism_ingest::json::to_protobuf;
use prism_model::{Limits, Signal};
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

    /// A whole document or one line of it, where it is OTLP/JSON that the crate can read: read by Prism it is the same.
    fn json(&mut self, text: &str, path: &Path) {
        if let Ok(request) = serde_json::from_str::<ExportTraceServiceRequest>(text)
            && !request.resource_spans.is_empty()
        {
            self.traces(&converted(Signal::Spans, text, &request, path), path);
        }
        if let Ok(request) = serde_json::from_str::<ExportLogsServiceRequest>(text)
            && !request.resource_logs.is_empty()
        {
            self.logs(&converted(Signal::Logs, text, &request, path), path);
        }
        // The crate reads a metric whose temporality is a name as one without data.
        if let Ok(request) = serde_json::from_str::<ExportMetricsServiceRequest>(text)
            && !request.resource_metrics.is_empty()
            && !text.contains("_TEMPORALITY_")
        {
            self.metrics(&converted(Signal::Metrics, text, &request, path), path);
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

fn converted<M: Message + Default + PartialEq>(signal: Signal, text: &str, expected: &M, path: &Path) -> Vec<u8> {
    let bytes = to_protobuf(signal, text.as_bytes(), &Limits::default());
    let bytes = bytes.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(M::decode(&*bytes).unwrap() == *expected, "{}: prost read another request", path.display());
    bytes
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

/// Files that hold odd or broken requests, and how they are answered: what is converted (with the items that are then refused)
/// or how the error ends.
#[test]
fn odd_recorded_requests_are_answered_as_the_contract_says() {
    let Some(dir) = shared_data() else { return };
    let answer = |signal, folder: &str, file: &str, line: usize| {
        let bytes = std::fs::read(dir.join(folder).join(file)).unwrap();
        let whole = file.ends_with(".json");
        let body = if whole { &*bytes } else { bytes.split(|b| *b == b'\n').nth(line).unwrap() };
        match (to_protobuf(signal, body, &Limits::default()), signal) {
            (Err(e), _) => e.to_string(),
            (Ok(bytes), Signal::Spans) => format!("{:?}", decode::traces(&bytes, &Limits::default()).unwrap().rejected),
            (Ok(bytes), Signal::Logs) => format!("{:?}", decode::logs(&bytes, &Limits::default()).unwrap().rejected),
            (Ok(bytes), Signal::Metrics) => {
                format!("{:?}", decode::metrics(&bytes, &Limits::default()).unwrap().rejected)
            }
        }
    };
    let parquet = "otlp2parquet-testdata";
    let duckdb = "duckdb-otlp-testdata";
    let none = "Rejected { count: 0, reason: \"\" }";
    for (signal, folder, file, line, expected) in [
        // Enums by name are errors; these two have an id that is no hex as well.
        (Signal::Spans, parquet, "trace_invalid_kind.json", 0, "not as names), found `\"SPAN_KIND_INVALID_TYPE\"`"),
        (Signal::Spans, parquet, "trace_invalid_base64.json", 0, "not as names), found `\"SPAN_KIND_SERVER\"`"),
        (Signal::Spans, parquet, "trace_mixed_encoding.json", 0, "not as names), found `\"SPAN_KIND_SERVER\"`"),
        (Signal::Logs, parquet, "log_invalid_severity.json", 0, "not as names), found `\"INVALID_SEVERITY_VALUE\"`"),
        (Signal::Metrics, parquet, "metrics_invalid_temporality.json", 0, "found `\"INVALID_TEMPORALITY_VALUE\"`"),
        (Signal::Metrics, duckdb, "metrics_temporality_strings.jsonl", 0, "found `\"AGGREGATION_TEMPORALITY_DELTA\"`"),
        (Signal::Logs, parquet, "malformed.json", 0, "names), found `\"SEVERITY_NUMBER_INFO\"`"),
        (Signal::Spans, duckdb, "malformed.jsonl", 0, none),
        (Signal::Spans, duckdb, "malformed.jsonl", 1, "at byte 0 expected an object, found `this`"),
        (
            Signal::Spans,
            duckdb,
            "malformed.jsonl",
            2,
            "1 spans without a trace id of 16 bytes that are not all zero\" }",
        ),
        (Signal::Spans, duckdb, "malformed.jsonl", 3, "at byte 1 expected a name in quotes, found `incomplete`"),
        (
            Signal::Spans,
            duckdb,
            "multifile_malformed_traces.jsonl",
            0,
            "expected the end of a string, found the end of the body",
        ),
        (Signal::Spans, duckdb, "traces_nulls.jsonl", 1, none),
        (Signal::Logs, duckdb, "logs_nulls.jsonl", 2, none),
        (Signal::Logs, duckdb, "ts_boundary_logs.jsonl", 0, none),
        (
            Signal::Logs,
            duckdb,
            "ts_overflow_logs.jsonl",
            0,
            "1 log records with a time beyond 2262-04-11 (int64 nanoseconds)\" }",
        ),
        (Signal::Metrics, duckdb, "metrics_optional_fields.jsonl", 1, none),
    ] {
        let found = answer(signal, folder, file, line);
        assert!(found.ends_with(expected), "{file}: {found}");
    }
}
