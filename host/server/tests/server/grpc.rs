//! OTLP over gRPC, with tonic as the client.

use bytes::{Buf as _, BufMut as _};
use prost::Message as _;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;

use crate::harness::{Server, key, logs, must, spans};

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

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

fn call(server: &Server, path: &'static str, key: Option<&str>, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel =
            Endpoint::from_shared(server.grpc.clone()).expect("an address").connect().await.expect("connects");
        let mut client = tonic::client::Grpc::new(channel).max_encoding_message_size(usize::MAX);
        client.ready().await.expect("ready");
        let mut request = tonic::Request::new(message);
        if let Some(key) = key {
            request.metadata_mut().insert("x-api-key", key.parse().expect("ASCII"));
        }
        client.unary(request, path.parse().expect("a path"), Opaque).await.map(tonic::Response::into_inner)
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
    let metrics = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    assert_eq!(code(metrics, Some(&ingest), Vec::new()).code(), tonic::Code::Unimplemented);
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
