//! `prism ingest` and `prism replay`: recordings of every kind reach the store whole, and what cannot is told with its place.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use prost::Message as _;

use crate::harness::{Server, key, logs, must, prism, run, spans, trace_id};

/// 2022-01-01, long before any test.
const OLD: u64 = 1_641_000_000_000_000_000;

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).expect("writes");
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("packs");
    out.finish().expect("packs")
}

fn with_lengths(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|m| [&(m.len() as u32).to_be_bytes()[..], m].concat()).collect()
}

fn with_varints(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        prost::encoding::encode_varint(message.len() as u64, &mut out);
        out.extend_from_slice(message);
    }
    out
}

/// A request of one span in OTLP/JSON.
fn span_json(id: u64, time: u64) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{}","spanId":"{id:016x}","name":"step","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"{time}","endTimeUnixNano":"{}","events":[{{"timeUnixNano":{time},"name":"e"}}]}}]}}]}}]}}"#,
        trace_id(id),
        time + 1_000
    )
}

fn log_json(time: u64) -> String {
    format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"timeUnixNano":"{time}","severityNumber":9,"body":{{"stringValue":"x"}}}}]}}]}}]}}"#
    )
}

fn gauge_json(time: u64) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"g","gauge":{{"dataPoints":[{{"timeUnixNano":"{time}","asDouble":"NaN"}}]}}}}]}}]}}]}}"#
    )
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64
}

fn count(server: &Server, signal: &str) -> serde_json::Value {
    server.query(&format!("from {signal} last 1h select count() as n")).cell()
}

#[test]
fn recordings_of_every_kind_are_stored() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(&data.path().join("data"));
    let dir = data.path().join("recordings");
    std::fs::create_dir_all(dir.join("inner")).expect("creates");
    write(&dir, "one.pb", spans(1, 2).encode_to_vec());
    write(&dir, "lengths.pb.gz", gzip(&with_lengths(&[spans(2, 2).encode_to_vec(), spans(3, 2).encode_to_vec()])));
    let varints = with_varints(&[logs(4).encode_to_vec(), logs(5).encode_to_vec()]);
    write(&dir, "inner/varints.otlp.zst", zstd::bulk::compress(&varints, 1).expect("packs"));
    // Equal lines are as many as they are.
    let lines = [span_json(9, now()), log_json(now()), String::new(), gauge_json(now()), log_json(now())].join("\n");
    write(&dir, "mixed.jsonl.gz", gzip(format!("{lines}\r\n{}\n", lines.lines().last().expect("a line")).as_bytes()));
    let pretty: serde_json::Value = serde_json::from_str(&span_json(10, now())).expect("JSON");
    write(&dir, "pretty.json", serde_json::to_string_pretty(&pretty).expect("JSON"));
    write(&dir, "empty.jsonl", "");
    write(&dir, "whitespace.jsonl", "   \n\t\n  ");
    write(&dir, "README.md", "not a recording");

    let out = must(data.path(), &["ingest", &dir.display().to_string(), "--url", &server.http]);
    assert_eq!(count(&server, "spans"), 8);
    assert_eq!(count(&server, "logs"), 4 + 5 + 3);
    assert_eq!(count(&server, "metrics"), 1);
    for part in ["7 files in", "1 files of other names left out"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let row = |signal: &str| {
        let line =
            out.lines().find(|line| line.trim_start().starts_with(signal)).unwrap_or_else(|| panic!("{signal}: {out}"));
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("spans"), ["5", "8", "0", "0"]);
    assert_eq!(row("metrics"), ["1", "1", "0", "0"]);
    // Again, as after an interruption: what was stored is known by its place, and is not stored twice.
    let again = must(data.path(), &["ingest", &dir.display().to_string(), "--url", &server.http]);
    assert_eq!((count(&server, "spans"), count(&server, "logs")), (8.into(), 12.into()), "{again}");
}

#[test]
fn what_is_no_request_is_told_with_its_place_and_the_rest_is_stored() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(&data.path().join("data"));
    let bad_id = span_json(3, now()).replace(&trace_id(3), "ABC");
    let lines = [
        span_json(1, now()),
        "this is no JSON".into(),
        r#"{"invalid":"not otlp json"}"#.into(),
        bad_id,
        "{incomplete".into(),
        span_json(2, now()),
    ];
    let file = write(data.path(), "lines.jsonl", lines.join("\n"));
    let cut = with_lengths(&[spans(4, 1).encode_to_vec(), spans(5, 1).encode_to_vec()]);
    let cut = write(data.path(), "cut.pb", &cut[..cut.len() - 3]);
    let args = |more: &[&str]| {
        let paths = [&file, &cut].map(|path| path.display().to_string());
        let args = ["ingest", &*paths[0], &*paths[1], "--url", &server.http];
        run(data.path(), &[&args[..], more].concat())
    };
    let (out, error, success) = args(&["--keep-going"]);
    assert!(!success, "{out}");
    assert_eq!(count(&server, "spans"), 3, "{out}{error}");
    for place in [
        "lines.jsonl:2: expected an OTLP ExportTraceServiceRequest in JSON: at byte 0 expected an object, found `this`",
        "lines.jsonl:3: expected `resourceSpans`, `resourceLogs` or `resourceMetrics`, found none of them",
        "lines.jsonl:5: expected an OTLP ExportTraceServiceRequest in JSON: at byte 1 expected a name in quotes",
        "cut.pb: message 2: expected a message of",
    ] {
        assert!(error.contains(place), "{place}: {error}");
    }
    assert!(out.contains("4 lines or messages that are no request"), "{out}");
    assert!(out.contains("1 requests: 1 spans without a trace id of 16 bytes"), "{out}");

    let (out, error, success) = args(&["--strict"]);
    assert!(!success && error.contains("lines.jsonl:2") && !error.contains("lines.jsonl:3"), "{out}{error}");
}

#[test]
fn standard_input_and_the_data_folder_are_taken() {
    let data = tempfile::tempdir().expect("a folder");
    let folder = data.path().join("data");
    must(&folder, &["tenant", "create", "default"]);
    let mut child = prism(&folder)
        .args(["ingest", "-", "--offline", "default"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(&gzip([span_json(1, now()), log_json(now())].join("\n").as_bytes())).expect("writes");
    drop(input);
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let server = Server::dev(&folder);
    assert_eq!((count(&server, "spans"), count(&server, "logs")), (1.into(), 1.into()));

    let (_, error, success) = run(&folder, &["ingest", "nothing.pb", "--offline", "default"]);
    assert!(!success && error.contains("nothing.pb"), "{error}");
    let (_, error, success) = run(&folder, &["ingest", "-", "--offline", "nobody"]);
    assert!(!success && error.contains("there is no tenant `nobody`"), "{error}");
}

#[test]
fn a_server_that_is_not_there_or_refuses_the_key_ends_it_at_once() {
    let data = tempfile::tempdir().expect("a folder");
    let file = write(data.path(), "spans.jsonl", span_json(1, now())).display().to_string();
    let (_, error, success) = run(data.path(), &["ingest", &file, "--url", "http://127.0.0.1:1"]);
    assert!(
        !success && error.contains("no answer from http://127.0.0.1:1") && error.contains("prism serve"),
        "{error}"
    );

    let folder = data.path().join("data");
    must(&folder, &["tenant", "create", "shop"]);
    let (good, bad) = (key(&folder, "shop", "ingest"), key(&folder, "shop", "query"));
    let server = Server::start(&folder, &[]);
    let (_, error, success) = run(data.path(), &["ingest", &file, "--url", &server.http, "--key", &bad]);
    assert!(!success && error.contains("status 403") && error.contains("role `ingest`"), "{error}");
    must(data.path(), &["ingest", &file, "--url", &server.http, "--key", &good]);
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let data = tempfile::tempdir().expect("a folder");
    let config = write(data.path(), "prism.toml", "[ingest]\ntenant_requests_max = 1\n");
    let server = Server::start(&data.path().join("data"), &["--dev", "--config", &config.display().to_string()]);
    let lines: Vec<String> = (1..=40).map(|i| span_json(i, now())).collect();
    let file = write(data.path(), "spans.jsonl", lines.join("\n")).display().to_string();
    must(data.path(), &["ingest", &file, "--url", &server.http]);
    assert_eq!(count(&server, "spans"), 40);
}

#[test]
fn a_replay_ends_now_and_keeps_its_distances() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(&data.path().join("data"));
    // Two files, 10 s apart; a line without times and one that is too late to be one.
    let early = [span_json(1, OLD), log_json(OLD + 1_000_000), log_json(0), log_json(u64::MAX)].join("\n");
    let early = write(data.path(), "early.jsonl", early).display().to_string();
    let late = [span_json(2, OLD + 10_000_000_000), gauge_json(OLD + 2_000_000_000)].join("\n");
    let late = write(data.path(), "late.jsonl", late).display().to_string();
    let times = |id: u64| -> Vec<u64> {
        let trace = server.get(&format!("/v1/traces/{}", trace_id(id))).json();
        let span = &trace["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        let time = |text: &serde_json::Value| text.as_str().expect("a time").parse().expect("a number");
        vec![time(&span["startTimeUnixNano"]), time(&span["endTimeUnixNano"]), time(&span["events"][0]["timeUnixNano"])]
    };

    let before = now();
    let args = ["replay", &*early, &*late, "--shift-to-now", "--speed", "1000x", "--url", &server.http];
    let out = must(data.path(), &args);
    let after = now();
    assert!(out.contains("1 log records with a time beyond 2262-04-11"), "{out}");
    let (first, last) = (times(1), times(2));
    assert!((before..=after).contains(&last[1]), "the last event is when it is sent");
    assert_eq!((last[0] - first[0], last[1] - last[0], first[2]), (10_000_000_000, 1_000, first[0]));
    assert_eq!((count(&server, "spans"), count(&server, "metrics")), (2.into(), 1.into()));

    // Each on its own: both end now.
    let lines = [span_json(11, OLD), span_json(12, OLD + 5_000_000_000)].map(|line| line.replace("step", "each"));
    let files = [("a.jsonl", &lines[0]), ("b.jsonl", &lines[1])].map(|(name, line)| write(data.path(), name, line));
    let [a, b] = files.map(|path| path.display().to_string());
    let args = ["replay", &*a, &*b, "--shift-to-now", "--align", "each", "--speed", "max", "--url", &server.http];
    must(data.path(), &args);
    assert_eq!(times(11), times(12));

    let (_, error, success) = run(data.path(), &["replay", "-", "--url", &server.http]);
    assert!(!success && error.contains("read twice"), "{error}");
    let (_, error, success) = run(data.path(), &["replay", &a, "--speed", "0x"]);
    assert!(!success && error.contains("expected `max`"), "{error}");
}
