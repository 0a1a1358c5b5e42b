//! OTLP over gRPC, with tonic as the client.

use std::io::Write as _;

use bytes::{Buf as _, BufMut as _};
use prost::Message as _;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};

use crate::harness::{Server, key, logs, must, spans, until};

pub(crate) const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub(crate) const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Messages as the bytes that they are.
#[derive(Default)]
struct Opaque;

impl Codec for Opaque {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Opaque;
    type Decoder = Opaque;

    fn encoder(&mut self) -> Opaque {
        Opaque
    }

    fn decoder(&mut self) -> Opaque {
        Opaque
    }
}

impl Encoder for Opaque {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Opaque {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining()).to_vec()))
    }
}

/// A call over an open channel.
pub(crate) async fn unary(
    channel: Channel,
    path: &'static str,
    key: Option<&str>,
    message: Vec<u8>,
) -> Result<Vec<u8>, Status> {
    let mut client = tonic::client::Grpc::new(channel).max_encoding_message_size(usize::MAX);
    client.ready().await.expect("ready");
    let mut request = tonic::Request::new(message);
    if let Some(key) = key {
        request.metadata_mut().insert("x-api-key", key.parse().expect("ASCII"));
    }
    client.unary(request, path.parse().expect("a path"), Opaque).await.map(tonic::Response::into_inner)
}

/// A call over a channel of its own.
pub(crate) fn call(
    server: &Server,
    path: &'static str,
    key: Option<&str>,
    message: Vec<u8>,
) -> Result<Vec<u8>, Status> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(server.grpc.clone()).expect("an address");
        unary(endpoint.connect().await.expect("connects"), path, key, message).await
    })
}

#[test]
fn spans_and_logs_go_the_same_way() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    assert_eq!(call(&server, TRACES, None, spans(1, 3).encode_to_vec()).expect("taken"), b"");
    assert_eq!(call(&server, LOGS, None, logs(2).encode_to_vec()).expect("taken"), b"");
    assert_eq!(server.query("from spans last 1h select count() as n").cell(), 3);
    assert_eq!(server.query("from logs last 1h select count() as n").cell(), 2);
    let mut bad = spans(2, 2);
    bad.resource_spans[0].scope_spans[0].spans[0].trace_id.clear();
    let partial = call(&server, TRACES, None, bad.encode_to_vec()).expect("taken");
    type Response = opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
    let partial = Response::decode(partial.as_slice()).expect("protobuf").partial_success.expect("a part");
    assert_eq!(partial.rejected_spans, 1);
}

#[test]
fn refusals_have_the_codes_that_clients_act_on() {
    let data = tempfile::tempdir().expect("a folder");
    must(data.path(), &["tenant", "create", "shop"]);
    let (ingest, query) = (key(data.path(), "shop", "ingest"), key(data.path(), "shop", "query"));
    let config = data.path().join("prism.toml");
    std::fs::write(&config, "[limits]\nbody_bytes_max = 100_000\n").expect("writes");
    let server = Server::start(data.path(), &["--config", &config.display().to_string()]);
    let code = |path, key: Option<&str>, message: Vec<u8>| call(&server, path, key, message).expect_err("refused");
    let good = || spans(1, 2).encode_to_vec();
    assert_eq!(code(TRACES, None, good()).code(), tonic::Code::Unauthenticated);
    assert_eq!(code(TRACES, Some(&query), good()).code(), tonic::Code::PermissionDenied);
    assert_eq!(code(TRACES, Some(&ingest), b"\xff\xff".to_vec()).code(), tonic::Code::InvalidArgument);
    assert_eq!(code("/a.B/C", Some(&ingest), Vec::new()).code(), tonic::Code::Unimplemented);
    let large = code(TRACES, Some(&ingest), vec![b'x'; 200_000]);
    assert_eq!(large.code(), tonic::Code::ResourceExhausted, "final for clients: {large}");
    assert!(large.details().is_empty(), "no RetryInfo");
    assert!(call(&server, TRACES, Some(&ingest), good()).is_ok(), "the server goes on");
}

#[test]
fn messages_may_be_compressed() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let send = |encoding: &str, flag: u8, body: &[u8]| {
        let mut framed = vec![flag];
        framed.put_u32(body.len() as u32);
        framed.put_slice(body);
        let request = server.client.post(format!("{}{TRACES}", server.grpc)).body(framed);
        let request = request.header("content-type", "application/grpc+proto").header("grpc-encoding", encoding);
        crate::harness::answer(request.send().expect("an answer"))
    };
    let zstd = zstd::encode_all(spans(1, 4).encode_to_vec().as_slice(), 1).expect("compresses");
    assert_eq!(send("zstd", 1, &zstd).header("grpc-status"), "");
    assert_eq!(send("gzip", 0, &spans(2, 4).encode_to_vec()).header("grpc-status"), "", "the flag decides");
    assert_eq!(send("snappy", 1, b"x").header("grpc-status"), "12");
    assert_eq!(send("gzip", 1, b"no gzip").header("grpc-status"), "3");
    assert_eq!(server.query("from spans last 1h select count() as n").cell(), 8);
}

/// A call as raw bytes, so that what no gRPC library sends can be sent.
fn raw(server: &Server, url: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> crate::harness::Answer {
    let mut request = server.client.post(format!("{url}{path}")).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    crate::harness::answer(request.send().expect("an answer"))
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut out = vec![flag];
    out.put_u32(message.len() as u32);
    out.put_slice(message);
    out
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[test]
fn what_is_no_unary_call_is_refused_by_its_code() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let check = |headers: &[(&str, &str)], body: Vec<u8>, code: &str, why: &str| {
        let answer = raw(&server, &server.grpc, TRACES, headers, body);
        assert_eq!(
            (answer.status, answer.header("grpc-status")),
            (200, code),
            "{why}: {}",
            answer.header("grpc-message")
        );
        assert_eq!(answer.header("grpc-accept-encoding"), "identity,gzip,zstd", "{why}");
    };
    let one = framed(0, &spans(1, 1).encode_to_vec());
    check(&[GRPC], Vec::new(), "12", "no message");
    check(&[GRPC], [one.clone(), one.clone()].concat(), "12", "two messages");
    check(&[GRPC], one[..one.len() - 1].to_vec(), "3", "cut off");
    check(&[GRPC], one[..3].to_vec(), "3", "cut off in its length");
    check(&[GRPC], b"\0\xff\xff\xff\xffabc".to_vec(), "8", "announces 4 GiB");
    check(&[GRPC], framed(7, b""), "3", "an unknown flag");
    check(&[GRPC], framed(1, b""), "3", "compressed by nothing");
    check(&[GRPC, ("grpc-encoding", "identity")], framed(1, b""), "3", "compressed by nothing that is named");
    check(&[GRPC, ("grpc-encoding", "br")], framed(1, b"x"), "12", "compressed by what is not served");
    check(&[GRPC, ("grpc-timeout", "0n")], one.clone(), "4", "no time at all");
    check(&[GRPC, ("grpc-timeout", "soon")], framed(0, b""), "", "a time that is none is no limit");
    check(&[GRPC, ("grpc-timeout", "1H")], framed(0, b""), "", "an empty request");
    for other in [&[][..], &[("content-type", "application/json")], &[("content-type", "application/grpc-web")]] {
        assert_eq!(raw(&server, &server.grpc, TRACES, other, one.clone()).status, 415, "{other:?}");
    }
    assert_eq!(server.query("from spans last 1h select count() as n").cell(), 0, "nothing of it was kept");
}

#[test]
fn the_http_address_takes_calls_too() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let taken = raw(&server, &server.http, TRACES, &[GRPC], framed(0, &spans(1, 3).encode_to_vec()));
    assert_eq!((taken.status, taken.header("grpc-status"), taken.body.len()), (200, "", 5));
    let unknown = raw(&server, &server.http, "/a.B/C", &[GRPC], framed(0, b""));
    assert_eq!((unknown.status, unknown.header("grpc-status")), (200, "12"));
    assert_eq!(server.query("from spans last 1h select count() as n").cell(), 3);
}

#[test]
fn load_balancers_are_told_whether_requests_are_taken() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &[]);
    let asked = |service: &str| {
        let mut message = vec![0x0a, service.len() as u8];
        message.extend_from_slice(service.as_bytes());
        call(&server, CHECK, None, message)
    };
    assert_eq!(call(&server, CHECK, None, Vec::new()).expect("an answer"), [0x08, 1], "SERVING");
    let service = "opentelemetry.proto.collector.metrics.v1.MetricsService";
    assert_eq!(asked(service).expect("an answer"), [0x08, 1]);
    assert_eq!(asked("mail").expect_err("refused").code(), tonic::Code::NotFound);
    assert_eq!(
        call(&server, CHECK, None, vec![b'x'; 5_000]).expect_err("refused").code(),
        tonic::Code::InvalidArgument
    );
    let watch = "/grpc.health.v1.Health/Watch";
    assert_eq!(call(&server, watch, None, Vec::new()).expect_err("refused").code(), tonic::Code::Unimplemented);
}

/// A call over HTTP/2 by hand: the message comes in these pieces. The answer's head, its message, and its trailers.
fn streamed(
    server: &Server,
    headers: &[(&'static str, &'static str)],
    pieces: Vec<Vec<u8>>,
) -> (http::HeaderMap, Vec<u8>, http::HeaderMap) {
    use http_body_util::{BodyExt as _, StreamBody};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let address = server.grpc.trim_start_matches("http://").to_owned();
        let io = hyper_util::rt::TokioIo::new(tokio::net::TcpStream::connect(&address).await.expect("connects"));
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
        tokio::spawn(connection);
        type Piece = Result<hyper::body::Frame<bytes::Bytes>, std::convert::Infallible>;
        let frames = pieces.into_iter().map(|piece| -> Piece { Ok(hyper::body::Frame::data(piece.into())) });
        let body = StreamBody::new(futures::stream::iter(frames));
        let mut request = http::Request::post(format!("http://{address}{TRACES}")).header(GRPC.0, GRPC.1);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, body) =
            sender.send_request(request.body(body).expect("a request")).await.expect("an answer").into_parts();
        let answer = body.collect().await.expect("a whole answer");
        let trailers = answer.trailers().cloned().unwrap_or_default();
        (head.headers, answer.to_bytes().to_vec(), trailers)
    })
}

#[test]
fn calls_over_http_2_end_with_their_status() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[limits]\nbody_bytes_max = 100_000\n");
    let of = |headers: &http::HeaderMap, name: &str| {
        headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    // A message that comes in single bytes is one message.
    let message = framed(0, &spans(1, 2).encode_to_vec());
    let (head, body, trailers) = streamed(&server, &[], message.iter().map(|b| vec![*b]).collect());
    assert_eq!((of(&head, "content-type").as_str(), body.as_slice()), ("application/grpc", &[0; 5][..]));
    assert_eq!((of(&trailers, "grpc-status").as_str(), of(&head, "grpc-status").as_str()), ("0", ""));
    assert!(!of(&head, "prism-token").is_empty());
    let refused = |headers: &[(&'static str, &'static str)], pieces: Vec<Vec<u8>>, code: &str, what: &str| {
        let (head, body, _) = streamed(&server, headers, pieces);
        assert_eq!((of(&head, "grpc-status").as_str(), body.len()), (code, 0), "{what}: {}", of(&head, "grpc-message"));
    };
    refused(&[], vec![vec![0; 60_000]; 50], "8", "more than the limit, in pieces");
    refused(&[], vec![message.clone(), message.clone()], "12", "two messages");
    refused(&[], vec![message[..20].to_vec()], "3", "half a message");
    refused(&[], Vec::new(), "12", "no message");
    refused(&[("grpc-encoding", "snappy")], vec![framed(1, b"x")], "12", "an encoding that is not served");
    refused(&[("x-api-key", "no key")], vec![message.clone()], "16", "a key that is none");
    let bomb = zstd::encode_all(vec![0; 3_000_000].as_slice(), 19).expect("compresses");
    refused(&[("grpc-encoding", "zstd")], vec![framed(1, &bomb)], "8", "a bomb");
    assert_eq!(server.query("from spans last 1h select count() as n").cell(), 2, "nothing of it was kept");
}

#[test]
fn what_may_pass_later_says_when_to_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let lines = "[limits]\nbody_bytes_max = 100_000\n[http]\nbody_bytes_in_flight_max = 100_000\n";
    let server = Server::configured(dir.path(), lines);
    // Another client's body takes the room, and its end does not come.
    let mut other = std::net::TcpStream::connect(server.address()).expect("connects");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\ncontent-length: 90000\r\n\r\n";
    other.write_all(&[head.as_bytes(), &[0; 60_000]].concat()).expect("writes");
    let taken = "prism_server_body_in_flight_bytes 60000";
    until("the other body is there", || server.get("/metrics").text().lines().any(|l| l == taken));
    let large = vec![0; 50_000];
    let busy = server.send("POST", "/v1/traces", &[crate::harness::PROTOBUF], large.clone());
    assert_eq!((busy.status, busy.header("retry-after")), (429, "1"));
    let retry_info = |status: &Status| status.details().windows(9).any(|w| w == b"RetryInfo");
    let busy = call(&server, TRACES, None, large).expect_err("refused");
    assert!(busy.code() == tonic::Code::Unavailable && retry_info(&busy), "{busy:?}");
    drop(server);

    // A disk that takes nothing: what should be a folder is a file.
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let hot = data.path().join("hot");
    drop(std::fs::remove_dir_all(&hot));
    std::fs::write(&hot, b"in the way").expect("writes");
    let lost = server.traces(&spans(1, 2));
    assert_eq!(lost.status, 503, "never 500, which clients do not send again: {}", lost.text());
    assert!(lost.header("retry-after").parse::<u64>().is_ok());
    assert!(!lost.text().contains(&data.path().display().to_string()), "no path is told");
    let lost = call(&server, LOGS, None, logs(2).encode_to_vec()).expect_err("refused");
    assert!(lost.code() == tonic::Code::Unavailable && retry_info(&lost), "{lost:?}");
    std::fs::remove_file(&hot).expect("removes");
    assert!(call(&server, LOGS, None, logs(2).encode_to_vec()).is_ok(), "sent again, it is taken");
    assert_eq!(server.traces(&spans(1, 2)).status, 200);
    assert_eq!(server.query("from spans last 1h select count() as n").cell(), 2);
    assert_eq!(server.query("from logs last 1h select count() as n").cell(), 2);
}
