//! The same request again: stored once, told, counted; and what a tenant chooses, from the command line.

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message as _;

use crate::harness::{Answer, PROTOBUF, Server, must, run, spans, until};

const COUNT: &str = "from spans last 1h select count() as n";

fn warning(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let response = ExportTraceServiceResponse::decode(answer.body.as_slice()).expect("protobuf");
    let partial = response.partial_success.unwrap_or_default();
    assert_eq!(partial.rejected_spans, 0);
    partial.error_message
}

fn keyed(server: &Server, key: &str, request: &ExportTraceServiceRequest) -> Answer {
    server.send("POST", "/v1/traces", &[PROTOBUF, ("idempotency-key", key)], request.encode_to_vec())
}

#[test]
fn st_1_a_request_that_comes_again_is_stored_once_also_after_a_crash() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let (plain, with_key) = (spans(1, 3), spans(2, 4));
    let first = server.traces(&plain);
    assert_eq!(warning(&first), "");
    let again = server.traces(&plain);
    assert!(warning(&again).starts_with("this request was stored already"), "{}", warning(&again));
    assert_eq!(again.header("prism-token"), first.header("prism-token"));
    assert_eq!(warning(&keyed(&server, "k", &with_key)), "");
    assert!(warning(&keyed(&server, "k", &plain)).contains("with another body"));
    let metrics = server.get("/metrics").text();
    for line in [
        "prism_ingest_duplicates_total{signal=\"spans\",kind=\"body\"} 1",
        "prism_ingest_duplicates_total{signal=\"spans\",kind=\"key_of_other_body\"} 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}");
    }
    // Dropped is killed: nothing is said or written at the end.
    drop(server);
    let server = Server::dev(data.path());
    assert!(warning(&server.traces(&plain)).contains("stored already"));
    assert!(warning(&keyed(&server, "k", &with_key)).contains("stored already"));
    assert_eq!(server.query(COUNT).cell(), 7);
}

#[test]
fn a_tenant_chooses_what_a_request_is_known_by() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let request = spans(1, 1);
    server.traces(&request);
    assert!(must(data.path(), &["tenant", "show", "default"]).contains("bodies: "));
    let told = must(data.path(), &["tenant", "set", "default", "--duplicate-window", "off"]);
    assert!(told.contains("`default`: off"), "{told}");
    until("the choice counts", || warning(&server.traces(&request)).is_empty());
    must(data.path(), &["tenant", "set", "default", "--duplicate-window", "bodies"]);
    until("the choice counts", || !warning(&server.traces(&request)).is_empty());
    for (args, expected) in [
        (["tenant", "set", "nobody", "--duplicate-window", "off"], "there is no tenant `nobody`"),
        (
            ["tenant", "set", "default", "--duplicate-window", "some"],
            "expected `off`, `keys` or `bodies`, found `some`",
        ),
    ] {
        let (_, error, success) = run(data.path(), &args);
        assert!(!success && error.contains(expected), "{error}");
    }
}

#[test]
fn doctor_tells_how_clients_use_the_server_that_runs_here() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let request = spans(1, 1);
    server.traces(&request);
    server.traces(&request);
    let file = data.path().join("prism.toml");
    let address = server.http.trim_start_matches("http://");
    std::fs::write(&file, format!("http_addr = \"{address}\"\ngrpc_addr = \"\"\n")).expect("writes");
    let (report, _, _) = run(data.path(), &["--config", &file.display().to_string(), "doctor"]);
    assert!(report.contains("not stored twice: 1\n") && report.contains("request sizes"), "{report}");
    let metrics = server.get("/metrics").text();
    for line in [
        "prism_ingest_request_items_count{signal=\"spans\"} 1",
        "prism_ingest_request_bytes_bucket{signal=\"spans\",form=\"decompressed\",le=\"1024\"} 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
}
