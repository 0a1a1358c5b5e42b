//! What cannot be taken is refused clearly, in the request's encoding, and the server goes on.

use std::io::Write as _;

use prost::Message as _;

use crate::harness::{Answer, PROTOBUF, Server, spans};

/// `google.rpc.Status` without its details.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

fn status_of(answer: &Answer) -> Status {
    assert_eq!(answer.header("content-type"), "application/x-protobuf");
    Status::decode(answer.body.as_slice()).expect("google.rpc.Status")
}

#[test]
fn what_is_no_request_is_refused_in_its_encoding() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let post = |path: &str, headers: &[(&str, &str)], body: &[u8]| server.send("POST", path, headers, body.to_vec());

    let garbage = post("/v1/traces", &[PROTOBUF], b"\xff\xff\xff\xff what");
    assert_eq!((garbage.status, status_of(&garbage).code), (400, 3));
    assert!(!status_of(&garbage).message.is_empty());
    let truncated = spans(1, 2).encode_to_vec();
    assert_eq!(post("/v1/traces", &[PROTOBUF], &truncated[..truncated.len() - 3]).status, 400);
    assert_eq!(post("/v1/traces", &[PROTOBUF, ("content-encoding", "gzip")], b"no gzip").status, 400);
    let unknown = post("/v1/traces", &[PROTOBUF, ("content-encoding", "br")], b"");
    assert!(matches!(unknown.status, 400 | 415), "{}", unknown.status);

    let json = post("/v1/logs", &[("content-type", "application/json; charset=utf-8")], b"{\"resourceLogs\":[1]}");
    assert_eq!((json.status, json.header("content-type")), (400, "application/json"));
    assert_eq!(json.json()["code"], 3);
    let message = "at `resourceLogs[0]` (byte 17) expected an object, found `1`";
    assert!(json.json()["message"].as_str().is_some_and(|m| m.contains(message)), "{}", json.text());
    let text = post("/v1/traces", &[("content-type", "text/plain")], b"hello");
    assert_eq!((text.status, text.header("content-type")), (415, "text/plain; charset=utf-8"));
    assert_eq!(post("/v1/traces", &[], b"hello").status, 415);

    for path in ["/v1/traces", "/v1/logs", "/v1/metrics"] {
        let method = server.get(path);
        assert_eq!((method.status, method.header("allow")), (405, "POST"));
        assert_eq!(method.header("content-type"), "text/plain; charset=utf-8", "{path}");
        let method = server.send("PUT", path, &[PROTOBUF], Vec::new());
        assert_eq!((method.status, status_of(&method).code), (405, 12), "{path}");
    }
    let profiles = post("/v1development/profiles", &[PROTOBUF], b"");
    assert_eq!((profiles.status, status_of(&profiles).code), (404, 5), "final: no client queues profiles for us");
    assert_eq!(server.get("/v1/nothing").status, 404);
    assert_eq!(server.query("from spans last 1h select count() as n").cell(), 0, "nothing of it was kept");
}

#[test]
fn bodies_over_the_limit_are_413_however_they_come() {
    let data = tempfile::tempdir().expect("a folder");
    let config = data.path().join("prism.toml");
    std::fs::write(&config, "[limits]\nbody_bytes_max = 100_000\n").expect("writes");
    let server = Server::start(&data.path().join("data"), &["--dev", "--config", &config.display().to_string()]);
    let too_large = |answer: &Answer, how: &str| {
        assert_eq!((answer.status, status_of(answer).code), (413, 8), "{how}");
        assert!(status_of(answer).message.contains("body_bytes_max"), "{how}: {}", status_of(answer).message);
    };
    let big = vec![b'x'; 3_000_000];
    too_large(&server.send("POST", "/v1/traces", &[PROTOBUF], big.clone()), "announced");
    let chunked = reqwest::blocking::Body::new(std::io::Cursor::new(big.clone()));
    let request = server.client.post(format!("{}/v1/traces", server.http)).header(PROTOBUF.0, PROTOBUF.1).body(chunked);
    too_large(&crate::harness::answer(request.send().expect("an answer, not a reset")), "in pieces");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&big).expect("compresses");
    let bomb = gzip.finish().expect("compresses");
    assert!(bomb.len() < 100_000);
    too_large(&server.send("POST", "/v1/traces", &[PROTOBUF, ("content-encoding", "gzip")], bomb), "decompressed");
    assert_eq!(server.traces(&spans(1, 2)).status, 200, "the server goes on");
}

#[test]
fn queries_are_refused_with_their_place() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let check = |query: &str, status: u16, line: u64, column: u64| {
        let answer = server.query(query);
        let error = &answer.json()["error"];
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
        assert!(error["code"].is_string() && error["message"].is_string(), "{query}: {}", answer.text());
        if line > 0 {
            assert_eq!(
                (error["line"].as_u64(), error["column"].as_u64()),
                (Some(line), Some(column)),
                "{}",
                answer.text()
            );
        }
    };
    check("from spans where\n  and x = 1", 400, 2, 3);
    check("", 400, 0, 0);
    check("{", 400, 0, 0);
    check(r#"{"from": "spans", "wehre": "x = 1"}"#, 400, 0, 0);
    check(&"(".repeat(10_000), 400, 0, 0);
    check(&format!("from spans where x = '{}'", "y".repeat(70_000)), 413, 0, 0);
    check(&"z".repeat(2_000_000), 413, 0, 0);
    assert_eq!(server.query("\u{fffd}").status, 400);
    assert_eq!(server.send("POST", "/v1/query", &[], vec![0xff, 0xfe]).status, 400);
    for path in ["/v1/query", "/v1/query?q=%ff", "/v1/traces/xyz", "/v1/fields?last=nothing", "/v1/fields?signal=none"]
    {
        assert_eq!(server.get(path).status, 400, "{path}");
    }
}
