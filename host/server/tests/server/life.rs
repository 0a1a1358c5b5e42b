//! Start and end: nothing under way is cut, addresses in use are told, silent clients hold no place.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use prost::Message as _;

use crate::harness::{Server, run, spans, until};

/// The head of a request and half of its body.
fn half(server: &Server, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.http.trim_start_matches("http://")).expect("connects");
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("writes");
    stream.write_all(&body[..body.len() / 2]).expect("writes");
    stream
}

#[test]
fn a_request_under_way_is_finished_before_the_end() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let body = spans(1, 9).encode_to_vec();
    let mut under_way = half(&server, &body);
    let in_flight = |server: &Server| {
        let metrics = server.get("/metrics").text();
        metrics.lines().any(|l| l.strip_prefix("prism_server_body_in_flight_bytes ").is_some_and(|n| n != "0"))
    };
    until("the server reads the body", || in_flight(&server));
    server.terminate();
    let address = server.http.trim_start_matches("http://").to_owned();
    until("nothing new is taken", || TcpStream::connect(&address).is_err());
    under_way.write_all(&body[body.len() / 2..]).expect("writes");
    let mut answer = String::new();
    under_way.read_to_string(&mut answer).expect("reads");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(server.ended(), "a clean end");
    let again = Server::dev(data.path());
    assert_eq!(again.query("from spans last 1h select count() as n").cell(), 9);
}

#[test]
fn a_request_that_never_ends_does_not_keep_the_server() {
    let data = tempfile::tempdir().expect("a folder");
    let config = data.path().join("prism.toml");
    std::fs::write(&config, "shutdown_grace_ms = 100\n").expect("writes");
    let server = Server::start(&data.path().join("data"), &["--dev", "--config", &config.display().to_string()]);
    let _under_way = half(&server, &spans(1, 9).encode_to_vec());
    server.terminate();
    assert!(server.ended(), "a clean end");
}

#[test]
fn silent_clients_are_cut() {
    let data = tempfile::tempdir().expect("a folder");
    let config = data.path().join("prism.toml");
    std::fs::write(&config, "[http]\nheader_timeout_ms = 100\nbody_idle_timeout_ms = 100\n").expect("writes");
    let server = Server::start(&data.path().join("data"), &["--dev", "--config", &config.display().to_string()]);
    let address = server.http.trim_start_matches("http://");
    // Nothing, a byte that may begin either protocol, half a head.
    for said in ["", "P", "GET /health HTT"] {
        let mut stream = TcpStream::connect(address).expect("connects");
        stream.write_all(said.as_bytes()).expect("writes");
        let mut answer = Vec::new();
        // Ends at once or by a reset, and never waits for more.
        drop(stream.read_to_end(&mut answer));
    }
    let mut slow = half(&server, &spans(1, 9).encode_to_vec());
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("reads");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn an_address_in_use_is_told() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let address = server.http.trim_start_matches("http://");
    let (_, error, success) = run(data.path(), &["serve", "--http", address, "--grpc", ""]);
    assert!(!success && error.contains(address) && error.contains("--http"), "{error}");
    let (report, _, success) = run(data.path(), &["doctor"]);
    assert!(success || report.contains("FAIL"), "{report}");
}
