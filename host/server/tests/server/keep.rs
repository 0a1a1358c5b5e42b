//! What is sent is kept, and found again by every process, also after a restart.

use std::io::Write as _;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;

use crate::harness::{PROTOBUF, Server, logs, must, spans, trace_id};

const COUNT: &str = "from spans last 1h select count() as n";

#[test]
fn spans_and_logs_come_back_in_every_encoding_and_after_a_restart() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let answer = server.traces(&spans(1, 3));
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-protobuf"));
    let response = ExportTraceServiceResponse::decode(answer.body.as_slice()).expect("protobuf");
    assert!(response.partial_success.is_none(), "unset where everything was accepted");

    let body = spans(2, 4).encode_to_vec();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&body).expect("compresses");
    let gzip = gzip.finish().expect("compresses");
    assert_eq!(server.send("POST", "/v1/traces", &[PROTOBUF, ("content-encoding", "gzip")], gzip).status, 200);
    let zstd = zstd::encode_all(spans(3, 5).encode_to_vec().as_slice(), 1).expect("compresses");
    let odd = ("content-type", "Application/X-Protobuf; charset=utf-8");
    assert_eq!(server.send("POST", "/v1/traces", &[odd, ("content-encoding", "zstd")], zstd).status, 200);
    assert_eq!(server.send("POST", "/v1/logs", &[PROTOBUF], logs(6).encode_to_vec()).status, 200);
    assert_eq!(server.send("POST", "/v1/traces", &[PROTOBUF], Vec::new()).status, 200, "an empty request is a success");

    let check = |server: &Server| {
        assert_eq!(server.query(COUNT).cell(), 12);
        assert_eq!(server.query("from logs last 1h select count() as n").cell(), 6);
        let document = r#"{"from": "spans", "range": {"last": "1h"}, "select": {"n": "count()"}}"#;
        assert_eq!(server.query(document).cell(), 12);
        assert_eq!(server.get("/v1/query?q=from+spans+last+1h+select+count()+as+n").cell(), 12);
        let trace = server.get(&format!("/v1/traces/{}", trace_id(2)));
        assert_eq!(trace.json()["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().map(Vec::len), Some(4));
        let rows = server.get(&format!("/v1/traces/{}?format=rows", trace_id(2)));
        assert_eq!(rows.json()["rows"].as_array().map(Vec::len), Some(4));
        assert_eq!(server.get(&format!("/v1/traces/{}", trace_id(99))).status, 404);
        let fields = server.get("/v1/fields?last=1h&signal=spans").json();
        assert!(fields["fields"].as_array().is_some_and(|f| f.iter().any(|f| f["name"] == "http.route")), "{fields}");
        let values = server.get("/v1/fields/http.route/values").json();
        assert_eq!(values["values"][0], serde_json::json!({"value": "/orders", "count": 12}));
    };
    check(&server);
    server.stop();
    check(&Server::dev(data.path()));
}

#[test]
fn answers_come_as_json_ndjson_or_arrow() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    server.traces(&spans(1, 3));
    let ask = |accept: &str| server.send("POST", "/v1/query", &[("accept", accept)], COUNT.as_bytes().to_vec());
    assert_eq!(ask("*/*").header("content-type"), "application/json");
    let lines = ask("application/x-ndjson");
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    assert!(lines.text().lines().any(|line| line == r#"{"n":3}"#), "{}", lines.text());
    let stream = ask("application/vnd.apache.arrow.stream");
    let reader = arrow::ipc::reader::StreamReader::try_new(stream.body.as_slice(), None).expect("an Arrow stream");
    let rows: usize = reader.map(|batch| batch.expect("a batch").num_rows()).sum();
    assert_eq!(rows, 1);
}

#[test]
fn st_1_two_processes_on_one_folder_see_each_others_rows_and_a_token_waits_for_them() {
    let data = tempfile::tempdir().expect("a folder");
    let (one, two) = (Server::dev(data.path()), Server::dev(data.path()));
    for (i, (writer, reader)) in [(&one, &two), (&two, &one)].into_iter().enumerate() {
        let answer = writer.traces(&spans(i as u64 + 1, 5));
        let token = answer.header("prism-token");
        assert!(!token.is_empty());
        let seen = reader.send("POST", "/v1/query", &[("prism-token", token)], COUNT.as_bytes().to_vec());
        assert_eq!(seen.cell(), 5 * (i as u64 + 1));
    }
    let bad = one.send("POST", "/v1/query", &[("prism-token", "what")], COUNT.as_bytes().to_vec());
    assert_eq!(bad.status, 400);
}

#[test]
fn the_command_line_shows_answers_and_traces() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    server.traces(&spans(7, 2));
    let table = must(
        data.path(),
        &["query", "--url", &server.http, "from spans last 1h by name select count() as n order name"],
    );
    assert!(table.starts_with("name    n\n──────  ─\nstep 0  1\nstep 1  1\n\n2 rows in "), "{table}");
    let json = must(data.path(), &["query", "--url", &server.http, "--json", COUNT]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["rows"][0][0], 2);
    let trace = must(data.path(), &["trace", "--url", &server.http, &trace_id(7)]);
    assert!(
        trace.contains("2 spans") && trace.contains("└─ ◆ step 1") && trace.contains(", own ") && trace.contains('█'),
        "{trace}"
    );
    let (_, error, success) = crate::harness::run(data.path(), &["query", "--url", &server.http, "from spans where"]);
    assert!(!success && error.contains('^'), "{error}");
}
