//! Slow, half-open and rude clients, by raw sockets: each is bounded, and the server goes on for the others.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use prost::Message as _;

use crate::frames::{
    CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, block, frame, head,
};
use crate::harness::{Server, spans, until};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("connects");
    // A server that never ends a connection fails the test rather than keeping it.
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream
}

/// What comes until the other end closes or resets.
fn rest(stream: &mut TcpStream) -> String {
    let mut out = Vec::new();
    let mut bytes = [0; 64 << 10];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(n) => out.extend(&bytes[..n]),
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the connection is still open");
                break;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Sends bytes and reads to the end. The other end may close before it took everything.
fn said(server: &Server, bytes: &[u8]) -> String {
    let mut stream = connect(server);
    let _closed_early = stream.write_all(bytes);
    rest(&mut stream)
}

fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics").text();
    let value = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    value.unwrap_or_default().parse().unwrap_or(0)
}

/// Nothing that a client left behind stays: connections are closed but for the one that asks, no body is held.
fn nothing_is_left(server: &Server) {
    until("every other connection is closed", || metric(server, "prism_server_connections") == 1);
    assert_eq!(metric(server, "prism_server_body_in_flight_bytes"), 0);
    assert_eq!(server.query("from spans last 1h select count() as n").cell(), 0, "nothing was kept");
    assert_eq!(server.traces(&spans(1, 2)).status, 200, "the server goes on");
}

const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";

#[test]
fn requests_that_two_readers_would_cut_differently_end_their_connection() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let smuggled = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let post = |headers: &str, body: &str| {
        format!("POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n{PROTOBUF}{headers}\r\n{body}{smuggled}")
    };
    // By RFC 9112 the encoding counts, and the connection ends behind it.
    for both in
        ["content-length: 4\r\ntransfer-encoding: chunked\r\n", "transfer-encoding: chunked\r\ncontent-length: 4\r\n"]
    {
        let answer = said(&server, post(both, "0\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.matches("HTTP/1.1 ").count() == 1, "{both}: {answer}");
    }
    for refused in [
        "content-length: 4\r\ncontent-length: 40\r\n",
        "content-length: +4\r\n",
        "content-length: 4, 40\r\n",
        "content-length: -1\r\n",
        "content-length: 99999999999999999999\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding : chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "x: a\r\n b\r\ncontent-length: 0\r\n",
        "x\0: a\r\n",
    ] {
        let answer = said(&server, post(refused, "0\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1 ").count() == 1, "{refused}: {answer}");
    }
    let old = format!("POST /v1/traces HTTP/1.0\r\n{PROTOBUF}transfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    let answer = said(&server, old.as_bytes());
    assert!(answer.contains(" 400 ") && answer.matches("HTTP/1.").count() == 1, "{answer}");
    // A body without a word of its length would be taken for another request, and lost with a 200.
    let answer = said(&server, format!("POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n{PROTOBUF}\r\nbody").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 411 ") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    nothing_is_left(&server);
}

#[test]
fn what_is_no_http_ends_its_connection() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let answer = said(&server, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n\x00\x01\xff garbage\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 400 "), "{answer}");
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 600]].concat();
    let random: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect();
    for bytes in
        [&hello[..], &random, b"SSH-2.0-x\r\n\r\n", b"\r\n\r\n\r\n \r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
    {
        let answer = said(&server, bytes);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    nothing_is_left(&server);
}

#[test]
fn heads_and_chunks_are_bounded() {
    let dir = tempfile::tempdir().expect("a folder");
    let lines = "[http]\nhead_bytes_max = 8192\nbody_idle_timeout_ms = 500\n[limits]\nbody_bytes_max = 1000\n";
    let server = Server::configured(dir.path(), lines);
    let head = |more: &str| format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{more}\r\n");
    for (more, what) in [
        (format!("x: {}\r\n", "a".repeat(1 << 20)), "a header of 1 MB"),
        ("x: y\r\n".repeat(100_000), "many headers"),
        ("x: y\r\n".repeat(200), "headers that are many and short"),
    ] {
        let answer = said(&server, head(&more).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 431 "), "{what}: {answer}");
    }
    let long = said(&server, format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)).as_bytes());
    assert!(long.starts_with("HTTP/1.1 414 ") || long.starts_with("HTTP/1.1 431 "), "{long}");

    let post = format!("POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n{PROTOBUF}transfer-encoding: chunked\r\n\r\n");
    for (chunks, status, what) in [
        ("ffffffffffffffff0\r\n".to_owned(), "400", "a size that no number holds"),
        ("ffffffff\r\nabc".to_owned(), "408", "a size that does not come"),
        ("-1\r\n".to_owned(), "400", "a size that is none"),
        (format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(1 << 20)), "400", "an extension of 1 MB"),
        ("1\r\na\r\n".repeat(5_000), "413", "more single bytes than a body may have"),
        (format!("0\r\nx: {}\r\n\r\n", "a".repeat(1 << 20)), "400", "a trailer of 1 MB"),
    ] {
        let answer = said(&server, format!("{post}{chunks}").as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
    }
    nothing_is_left(&server);
}

#[test]
fn who_asks_first_is_answered_before_the_body() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[limits]\nbody_bytes_max = 100_000\n");
    let ask = |path: &str, more: &str, length: usize| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n{more}\r\n"
        );
        // No byte of the body is sent.
        said(&server, head.as_bytes())
    };
    for (path, more, length, status) in [
        ("/v1/traces", "content-type: application/x-protobuf\r\nx-api-key: none\r\n", 50_000, "401"),
        ("/v1/traces", PROTOBUF, 200_000, "413"),
        ("/v1/traces", "content-type: text/plain\r\n", 50_000, "415"),
        ("/v1/query", "x-api-key: none\r\n", 50_000, "401"),
        ("/nothing", "", 50_000, "404"),
    ] {
        let answer = ask(path, more, length);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {status}: {answer}");
    }
    let mut taken = connect(&server);
    let body = spans(1, 3).encode_to_vec();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n{PROTOBUF}expect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    taken.write_all(head.as_bytes()).expect("writes");
    let mut go_on = [0; 25];
    taken.read_exact(&mut go_on).expect("an answer");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    taken.write_all(&body).expect("writes");
    assert!(rest(&mut taken).starts_with("HTTP/1.1 200 "));
    assert_eq!(server.query("from spans last 1h select count() as n").cell(), 3);
}

#[test]
fn slow_heads_end_however_they_drip() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[http]\nheader_timeout_ms = 500\n");
    let mut drips = connect(&server);
    drips.write_all(b"GET /health HTTP/1.1\r\nx: ").expect("writes");
    until("a head that drips is cut", || drips.write_all(b"a").is_err());
    // An idle connection is cut as well.
    let mut idle = connect(&server);
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("writes");
    assert!(rest(&mut idle).starts_with("HTTP/1.1 200 "));
    // So is one that begins HTTP/2 and asks nothing.
    assert!(Connection::new(&server, &[]).rest().iter().all(|f| f.kind != HEADERS));
    assert!(metric(&server, "prism_server_connections_silent_total") >= 1);
}

#[test]
fn who_does_not_read_answers_is_cut() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[http]\nsend_idle_timeout_ms = 500\nidle_timeout_ms = 500\n");
    let stalled = || metric(&server, "prism_server_connections_stalled_total");
    // Requests one behind the other, until what the system buffers is full.
    let mut deaf = connect(&server);
    let many = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(20_000);
    let _ended_early = deaf.write_all(&many);
    until("the server ends the connection", || stalled() == 1);
    // HTTP/2 with no room for a byte of an answer, and with room for one: what is left of it lies in a buffer, and nothing
    // else moves.
    for (window, expected) in [(0, 2), (1, 3)] {
        const INITIAL_WINDOW_SIZE: u16 = 4;
        let mut deaf = Connection::new(&server, &[(INITIAL_WINDOW_SIZE, window)]);
        deaf.write(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET", "/metrics", &[])));
        assert!(deaf.find(HEADERS).is_some(), "an answer begins");
        deaf.rest();
        assert_eq!(stalled(), expected, "window {window}");
    }
    nothing_is_left(&server);
}

#[test]
fn connections_wait_for_a_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[http]\nconnections_max = 2\n");
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("writes");
        let mut answer = String::new();
        while !answer.ends_with("ready\n") {
            let mut bytes = [0; 1_024];
            let n = stream.read(&mut bytes).expect("an answer");
            answer.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    };
    let mut placed = [connect(&server), connect(&server)];
    placed.iter_mut().for_each(ask);
    let mut third = connect(&server);
    third.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("writes");
    // Those with a place are answered meanwhile, the third is not.
    for _ in 0..50 {
        placed.iter_mut().for_each(ask);
    }
    third.set_nonblocking(true).expect("a mode");
    let waits = third.peek(&mut [0]).expect_err("no answer");
    assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock);
    third.set_nonblocking(false).expect("a mode");
    drop(placed);
    assert!(rest(&mut third).starts_with("HTTP/1.1 200 "));
}

/// RFC 9113, section 7.
const REFUSED_STREAM: u32 = 7;
const FRAME_SIZE_ERROR: u32 = 6;
const ENHANCE_YOUR_CALM: u32 = 11;

#[test]
fn http_2_streams_are_bounded_and_floods_end_their_connection() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(
        dir.path(),
        "[http]\nstreams_max = 4\nbody_idle_timeout_ms = 500\nidle_timeout_ms = 500\nsend_idle_timeout_ms = 500\n",
    );
    let post = head("POST", "/v1/traces", &[("content-type", "application/x-protobuf")]);
    let numbers = || (0..).map(|i| 2 * i + 1);
    // Streams that stay open: those above the bound are refused, and a client may send them again.
    let mut greedy = Connection::new(&server, &[]);
    for stream in numbers().take(6) {
        greedy.write(&frame(HEADERS, END_HEADERS, stream, &post));
    }
    let refused: Vec<_> =
        greedy.rest().into_iter().filter(|f| f.kind == RST_STREAM && f.error() == REFUSED_STREAM).collect();
    assert_eq!(refused.iter().map(|f| f.stream).collect::<Vec<_>>(), [9, 11]);
    // Streams that are reset as soon as they are opened.
    let mut flood = Connection::new(&server, &[]);
    let resets: Vec<u8> = numbers()
        .take(2_000)
        .flat_map(|n| [frame(HEADERS, END_HEADERS, n, &post), frame(RST_STREAM, 0, n, &8u32.to_be_bytes())].concat())
        .collect();
    flood.write(&resets);
    let end = flood.find(GOAWAY).expect("an end that says why");
    assert_eq!(end.error(), ENHANCE_YOUR_CALM);
    // A head that never ends.
    let mut endless = Connection::new(&server, &[]);
    endless.write(&frame(HEADERS, 0, 1, &post));
    let more = frame(CONTINUATION, 0, 1, &block(&[("x", &"a".repeat(16_000))]));
    until("the connection is ended", || !endless.write(&more));
    // A head of 1 MB that does.
    let mut large = Connection::new(&server, &[]);
    large.write(&frame(HEADERS, 0, 1, &post));
    for i in 0..64 {
        large.write(&frame(
            CONTINUATION,
            if i == 63 { END_HEADERS } else { 0 },
            1,
            &block(&[("x", &"a".repeat(16_000))]),
        ));
    }
    large.rest();
    // A frame larger than was agreed on.
    let mut wide = Connection::new(&server, &[]);
    wide.write(&frame(DATA, 0, 1, &[0; 200_000]));
    assert_eq!(wide.find(GOAWAY).expect("an end that says why").error(), FRAME_SIZE_ERROR);
    // Answered, and then silent: told to end.
    let mut idle = Connection::new(&server, &[]);
    idle.write(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET", "/health", &[])));
    assert_eq!(idle.find(GOAWAY).expect("told to end").error(), 0);
    idle.rest();
    nothing_is_left(&server);
}

#[test]
fn clients_that_are_gone_hold_no_connection() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[http]\nping_ms = 500\n");
    let mut gone = Connection::new(&server, &[]);
    gone.write(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET", "/health", &[])));
    // It reads and answers no ping.
    gone.rest();
    nothing_is_left(&server);
}

#[test]
fn calls_whose_message_stops_coming_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[http]\nbody_idle_timeout_ms = 500\n");
    let mut half = Connection::new(&server, &[]);
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    half.write(&frame(HEADERS, END_HEADERS, 1, &head("POST", path, &[("content-type", "application/grpc")])));
    half.write(&frame(DATA, 0, 1, &spans(1, 9).encode_to_vec()[..20]));
    assert!(half.find(HEADERS).is_some(), "an answer");
    assert_eq!(metric(&server, "prism_server_requests_total{route=\"grpc\",outcome=\"too_slow\"}"), 1);
    drop(half);
    nothing_is_left(&server);
}
