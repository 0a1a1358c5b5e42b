//! Files that other programs wrote, sent as they are: as JSON, and as protobuf; what is refused is in a table.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prism_tests::process::binary;
use prism_tests::{Server, shared};
use prost::Message as _;
use serde_json::Value;

use crate::facts::{at, logs_of, points_of, spans_of, text};
use crate::stored;

/// What the files' times are: anything.
const EVER: &str = "from t'1677-09-22T00:00:00Z' to t'2262-04-11T23:47:16.854775807Z'";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// What the server must say to a request that is not all right.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// 400, and nothing is stored.
    Refused,
    /// 200 with partial success: so many items are left out.
    Rejected(u64),
}

/// Files with requests that are not simply taken: which of the requests (all where nothing is said), what the server must
/// say, and why.
const ODD: &[(&str, Option<usize>, Outcome, &str)] = &[
    ("otlp2parquet-testdata/malformed.json", None, Outcome::Refused, "no JSON"),
    ("duckdb-otlp-testdata/malformed.jsonl", Some(1), Outcome::Refused, "no JSON"),
    ("duckdb-otlp-testdata/malformed.jsonl", Some(2), Outcome::Rejected(1), "a trace id of 3 digits"),
    ("duckdb-otlp-testdata/malformed.jsonl", Some(3), Outcome::Refused, "no JSON"),
    ("duckdb-otlp-testdata/multifile_malformed_traces.jsonl", None, Outcome::Refused, "cut off"),
    ("duckdb-otlp-testdata/ts_overflow_logs.jsonl", None, Outcome::Rejected(1), "a time beyond 2262"),
    // In OTLP/JSON enums are numbers: names "MUST NOT be used".
    ("otlp2parquet-testdata/log_invalid_severity.json", None, Outcome::Refused, "a severity that is none"),
    ("otlp2parquet-testdata/metrics_invalid_temporality.json", None, Outcome::Refused, "a temporality that is none"),
    ("otlp2parquet-testdata/trace_invalid_kind.json", None, Outcome::Refused, "a kind that is none"),
    ("otlp2parquet-testdata/trace_invalid_base64.json", None, Outcome::Refused, "a kind by its name"),
    ("otlp2parquet-testdata/trace_mixed_encoding.json", None, Outcome::Refused, "a kind by its name"),
    ("otlp2parquet-testdata/trace.json", None, Outcome::Refused, "a kind by its name"),
    ("otlp2parquet-testdata/traces.jsonl", None, Outcome::Refused, "a kind by its name"),
    ("otlp2parquet-testdata/log.json", None, Outcome::Refused, "a severity by its name"),
    ("otlp2parquet-testdata/logs.jsonl", None, Outcome::Refused, "a severity by its name"),
    ("duckdb-otlp-testdata/metrics_temporality_strings.jsonl", None, Outcome::Refused, TEMPORALITY),
    ("otlp2parquet-testdata/metrics_exponential_histogram.json", None, Outcome::Refused, TEMPORALITY),
    ("otlp2parquet-testdata/metrics_exponential_histogram.jsonl", None, Outcome::Refused, TEMPORALITY),
    ("otlp2parquet-testdata/metrics_histogram.json", None, Outcome::Refused, TEMPORALITY),
    ("otlp2parquet-testdata/metrics_histogram.jsonl", None, Outcome::Refused, TEMPORALITY),
    ("otlp2parquet-testdata/metrics_mixed.json", None, Outcome::Refused, TEMPORALITY),
    ("otlp2parquet-testdata/metrics_mixed.jsonl", None, Outcome::Refused, TEMPORALITY),
    ("otlp2parquet-testdata/metrics_sum.json", None, Outcome::Refused, TEMPORALITY),
    ("otlp2parquet-testdata/metrics_sum.jsonl", None, Outcome::Refused, TEMPORALITY),
];
const TEMPORALITY: &str = "a temporality by its name";

/// One request of a file.
struct Request {
    /// Folder, file and number.
    name: String,
    /// What the table says of it.
    odd: Option<Outcome>,
    signal: &'static str,
    encoding: &'static str,
    body: Vec<u8>,
    items: u64,
}

const SIGNALS: [(&str, &str, [&str; 3]); 3] = [
    ("traces", "spans", ["resourceSpans", "scopeSpans", "spans"]),
    ("logs", "logs", ["resourceLogs", "scopeLogs", "logRecords"]),
    ("metrics", "metrics", ["resourceMetrics", "scopeMetrics", "metrics"]),
];

/// The signal of a file, by what stands in it or by its name.
fn signal_of(name: &str, text: &str) -> &'static str {
    let by_field = SIGNALS.iter().find(|(.., [field, ..])| text.contains(field));
    let by_name = || SIGNALS.iter().find(|(signal, ..)| name.contains(signal.trim_end_matches('s')));
    by_field.or_else(by_name).map_or("traces", |(signal, ..)| signal)
}

/// Items of a document, counted by hand.
fn items(signal: &str, document: &Value) -> u64 {
    let Some((.., names)) = SIGNALS.iter().find(|(s, ..)| *s == signal) else { return 0 };
    let all = |of: &[Value], name: &str| -> Vec<Value> {
        of.iter().flat_map(|v| at(v, name).as_array().cloned().unwrap_or_default()).collect()
    };
    let mut found = vec![document.clone()];
    for name in names {
        found = all(&found, name);
    }
    if signal != "metrics" {
        return found.len() as u64;
    }
    let kinds = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"];
    let points =
        |m: &Value| kinds.iter().map(|k| at(at(m, k), "dataPoints").as_array().map_or(0, Vec::len)).sum::<usize>();
    found.iter().map(|m| points(m) as u64).sum()
}

/// The same of protobuf.
fn items_of(signal: &str, body: &[u8]) -> anyhow::Result<u64> {
    Ok(match signal {
        "traces" => {
            let all = ExportTraceServiceRequest::decode(body)?.resource_spans;
            all.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum::<usize>() as u64
        }
        "logs" => {
            let all = ExportLogsServiceRequest::decode(body)?.resource_logs;
            all.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len()).sum::<usize>() as u64
        }
        _ => {
            let all = ExportMetricsServiceRequest::decode(body)?.resource_metrics;
            let points = |data: &Data| match data {
                Data::Gauge(of) => of.data_points.len(),
                Data::Sum(of) => of.data_points.len(),
                Data::Histogram(of) => of.data_points.len(),
                Data::ExponentialHistogram(of) => of.data_points.len(),
                Data::Summary(of) => of.data_points.len(),
            };
            let metrics = all.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
            metrics.filter_map(|m| m.data.as_ref()).map(points).sum::<usize>() as u64
        }
    })
}

/// The requests of a file; none where it holds no OTLP.
fn requests(folder: &Path, file: &str) -> anyhow::Result<Vec<Request>> {
    let path = folder.join(file);
    let mut bytes = std::fs::read(&path)?;
    let name = format!("{}/{file}", folder.file_name().unwrap_or_default().to_string_lossy());
    let plain = match file.strip_suffix(".gz") {
        Some(plain) => {
            let mut unpacked = Vec::new();
            flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut unpacked)?;
            bytes = unpacked;
            plain
        }
        None => file,
    };
    let mut out = Vec::new();
    let mut json = |text: &str| {
        let signal = signal_of(file, text);
        let items = serde_json::from_str(text).map_or(0, |document| items(signal, &document));
        out.push((signal, JSON, text.as_bytes().to_vec(), items));
    };
    match plain.rsplit('.').next() {
        Some("json") => json(&String::from_utf8(bytes)?),
        Some("jsonl") => String::from_utf8(bytes)?.lines().filter(|l| !l.trim().is_empty()).for_each(json),
        Some("pb") if file.ends_with(".gz") => {
            // Each request behind its length.
            let mut rest = &bytes[..];
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let (body, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize).context("a length")?;
                let signal = signal_of(file, "");
                out.push((signal, PROTOBUF, body.to_vec(), items_of(signal, body)?));
                rest = after;
            }
        }
        Some("pb" | "otlp") => {
            let signal = signal_of(file, "");
            let items = items_of(signal, &bytes)?;
            out.push((signal, PROTOBUF, bytes, items));
        }
        _ => {}
    }
    let request = |(n, (signal, encoding, body, items))| {
        let odd = ODD.iter().find(|(file, which, ..)| *file == name && which.is_none_or(|which| which == n));
        Request { name: format!("{name} {n}"), odd: odd.map(|(_, _, what, _)| *what), signal, encoding, body, items }
    };
    Ok(out.into_iter().enumerate().map(request).collect())
}

/// The same request as protobuf, by the official types; `None` where their JSON does not read it.
fn as_protobuf(request: &Request) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(&request.body).ok()?;
    let body = match request.signal {
        "traces" => serde_json::from_str::<ExportTraceServiceRequest>(text).ok()?.encode_to_vec(),
        "logs" => serde_json::from_str::<ExportLogsServiceRequest>(text).ok()?.encode_to_vec(),
        _ => serde_json::from_str::<ExportMetricsServiceRequest>(text).ok()?.encode_to_vec(),
    };
    (items_of(request.signal, &body).ok()? == request.items).then_some(body)
}

fn stored_items(server: &Server) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let count = |(signal, table, _): &(&'static str, &str, _)| {
        Ok((*signal, server.number(&format!("from {table} {EVER} select count()"))? as u64))
    };
    SIGNALS.iter().map(count).collect()
}

/// What the server said to a request: how many items it left out, or that it refused all.
fn send(server: &Server, request: &Request, encoding: &str, body: Vec<u8>) -> anyhow::Result<Option<Outcome>> {
    // Files repeat each other's requests, which must not count as retries.
    let key = format!("{} {encoding}", request.name);
    let headers = [("content-type", encoding), ("idempotency-key", key.as_str())];
    let answer = server.post(&format!("/v1/{}", request.signal), &headers, body)?;
    let name = &request.name;
    if answer.status == 400 {
        // google.rpc.Status in the request's encoding: field 2 is the message.
        let said = if encoding == JSON { answer.json()["message"].is_string() } else { answer.body.contains(&0x12) };
        ensure!(said, "{name}: 400 says nothing: {}", answer.text());
        return Ok(Some(Outcome::Refused));
    }
    ensure!(answer.status == 200, "{name}: {} {}", answer.status, answer.text());
    let rejected = if encoding == JSON {
        let partial = &answer.json()["partialSuccess"];
        let count = ["rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"].map(|n| &partial[n]);
        count.into_iter().find_map(|n| n.as_str().and_then(|n| n.parse().ok()).or_else(|| n.as_u64())).unwrap_or(0)
    } else {
        use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
        // The three responses have one form.
        let response = ExportTraceServiceResponse::decode(&answer.body[..])?;
        response.partial_success.map_or(0, |p| p.rejected_spans as u64)
    };
    Ok((rejected > 0).then_some(Outcome::Rejected(rejected)))
}

fn start(data: &Path) -> anyhow::Result<Server> {
    // Each request waits for its commit, and none comes beside it that could share one.
    Server::start_with(data, &[], Command::new(binary("prism")?).env("PRISM_STORE__COMMIT_DELAY_MS", "0"))
}

/// Sends every request of the files, in its own encoding or as protobuf, and compares what is stored with what they hold.
fn all_files(as_what: &str) -> anyhow::Result<()> {
    let Some(shared) = shared::data() else { return Ok(()) };
    let data = tempfile::tempdir()?;
    let server = start(data.path())?;
    let (mut expected, mut surprises) = (stored_items(&server)?, Vec::new());
    let mut requests_sent = 0;
    for folder in ["otlp-proto-examples", "otlp2parquet-testdata", "duckdb-otlp-testdata", "otlp-sample"] {
        let folder = shared.join(folder);
        let mut files: Vec<String> = std::fs::read_dir(&folder)?
            .map(|f| Ok(f?.file_name().to_string_lossy().into_owned()))
            .collect::<anyhow::Result<_>>()?;
        files.sort();
        for file in files {
            for request in requests(&folder, &file)? {
                let odd = request.odd;
                let (encoding, body) = match (as_what, request.encoding) {
                    (PROTOBUF, JSON) => match as_protobuf(&request) {
                        Some(body) => (PROTOBUF, body),
                        // What has no meaning as JSON has no form as protobuf.
                        None if odd.is_some() => continue,
                        None => bail!("{}: the official types do not read it", request.name),
                    },
                    (_, own) => (own, request.body.clone()),
                };
                requests_sent += 1;
                let said = send(&server, &request, encoding, body)?;
                if said != odd {
                    surprises.push(format!("{}: expected {odd:?}, found {said:?}", request.name));
                }
                *expected.entry(request.signal).or_default() += match said {
                    None => request.items,
                    Some(Outcome::Rejected(n)) => request.items - n,
                    Some(Outcome::Refused) => 0,
                };
            }
        }
    }
    ensure!(surprises.is_empty(), "{}", surprises.join("\n"));
    let stored = stored_items(&server)?;
    ensure!(stored == expected, "expected {expected:?}, found {stored:?}");
    // Enough to know that the files were read.
    ensure!(requests_sent > 150 && expected.values().all(|n| *n > 1_000), "{requests_sent} requests, {expected:?}");
    Ok(())
}

#[test]
fn recorded_requests_are_stored_or_refused_as_the_protocol_says() {
    all_files(JSON).expect("every request");
}

#[test]
fn recorded_requests_as_protobuf_are_stored_or_refused_the_same() {
    all_files(PROTOBUF).expect("every request");
}

/// Files whose items are told apart by trace, or by time and name or body: those of the protocol itself, and of others what
/// is odd (nothing but a name, deep nesting, large attributes, optional fields, each type of metric).
const FIELD_BY_FIELD: [(&str, &str); 14] = [
    ("otlp-proto-examples", "trace.json"),
    ("otlp-proto-examples", "logs.json"),
    ("otlp-proto-examples", "events.json"),
    ("otlp-proto-examples", "metrics.json"),
    ("duckdb-otlp-testdata", "traces_nulls.jsonl"),
    ("duckdb-otlp-testdata", "traces_deep_nesting.jsonl"),
    ("duckdb-otlp-testdata", "traces_large_attrs.jsonl"),
    ("duckdb-otlp-testdata", "logs_simple.jsonl"),
    ("duckdb-otlp-testdata", "logs_nulls.jsonl"),
    ("duckdb-otlp-testdata", "ts_boundary_logs.jsonl"),
    ("duckdb-otlp-testdata", "metrics_nulls.jsonl"),
    ("duckdb-otlp-testdata", "metrics_optional_fields.jsonl"),
    ("duckdb-otlp-testdata", "metrics_all_types.jsonl"),
    ("otlp2parquet-testdata", "metrics_summary.json"),
];

/// Field by field, from JSON and from protobuf.
#[test]
fn examples_read_back_equal() {
    let Some(shared) = shared::data() else { return };
    for encoding in [JSON, PROTOBUF] {
        let data = tempfile::tempdir().expect("a folder");
        let server = start(data.path()).expect("starts");
        let mut expected = stored_items(&server).expect("counts");
        for (folder, file) in FIELD_BY_FIELD {
            for request in requests(&shared.join(folder), file).expect("readable") {
                let body = if encoding == JSON { Some(request.body.clone()) } else { as_protobuf(&request) };
                let said = send(&server, &request, encoding, body.expect("convertible")).expect("an answer");
                assert_eq!(said, None, "{}", request.name);
                *expected.entry(request.signal).or_default() += request.items;
                reads_back(&server, &request)
                    .with_context(|| format!("{} as {encoding}", request.name))
                    .expect("equal");
            }
        }
        assert_eq!(stored_items(&server).expect("counts"), expected);
    }
}

fn reads_back(server: &Server, request: &Request) -> anyhow::Result<()> {
    let document: Value = serde_json::from_slice(&request.body)?;
    for span in spans_of(&document) {
        let trace = span["ids"][0].as_str().context("an id")?;
        let stored = spans_of(&server.get(&format!("/v1/traces/{trace}"))?.json());
        ensure!(stored.contains(&span), "expected {span}, found {stored:?}");
    }
    for record in logs_of(&document) {
        let body = match record["body"].get("stringValue") {
            Some(text) => format!("body = '{}'", text.as_str().unwrap_or_default()),
            None => "not (body = '' or body != '')".to_owned(),
        };
        stored::log(server, &format!("{EVER} where number(time) = {} and {body}", record["time"]), &record)?;
    }
    for point in points_of(&document) {
        let attributes = point["attributes"].as_object().context("attributes")?;
        let mut of = format!("{EVER} where number(time) = {} and name = '{}'", point["time"], text(&point, "name"));
        for (key, value) in attributes.iter().filter_map(|(k, v)| Some((k, v.get("stringValue")?.as_str()?))) {
            of.push_str(&format!(" and attr.`{key}` = '{value}'"));
        }
        stored::point(server, &of, &point)?;
    }
    Ok(())
}
