//! TLS 1.3: every protocol over it, certificates that change while it runs, clients that do not speak it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::grpc::{TRACES, unary};
use crate::harness::{PROTOBUF, Server, client, must, run, spans, until};

const COUNT: &str = "from spans last 1h select count() as n";

/// An authority, and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate of this machine and its key.
    fn sign(&self) -> (String, String) {
        let names = ["127.0.0.1", "localhost"].map(str::to_owned);
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }

    fn trusted(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("an authority");
        Arc::new(roots)
    }
}

fn put(dir: &Path, (cert, key): &(String, String)) {
    std::fs::write(dir.join("cert.pem"), cert).expect("writes");
    std::fs::write(dir.join("key.pem"), key).expect("writes");
}

/// A server with TLS by `signed`; `more` lines of the section `tls`.
fn serve(dir: &Path, authority: &Authority, signed: &(String, String), more: &str) -> Server {
    put(dir, signed);
    std::fs::write(dir.join("ca.pem"), &authority.pem).expect("writes");
    let at = |name: &str| dir.join(name).display().to_string();
    let files = format!("[tls]\ncert_file = '{}'\nkey_file = '{}'\n", at("cert.pem"), at("key.pem"));
    let mut server = Server::configured(dir, &format!("{files}{more}"));
    let ca = reqwest::Certificate::from_pem(authority.pem.as_bytes()).expect("PEM");
    server.client = client().tls_certs_only([ca]).build().expect("a client");
    server
}

fn config(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(authority.trusted())
        .with_no_client_auth()
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

fn secured(server: &Server, config: ClientConfig) -> Secured {
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    StreamOwned::new(connection, TcpStream::connect(server.address()).expect("connects"))
}

/// Asks over an open connection, which stays open; the head of the answer.
fn ask(stream: &mut Secured) -> std::io::Result<String> {
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut text = String::new();
    // The answer ends with its JSON object.
    while !text.ends_with("}\n") {
        let mut bytes = [0; 1_024];
        match stream.read(&mut bytes)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => text.push_str(&String::from_utf8_lossy(&bytes[..n])),
        }
    }
    Ok(text)
}

fn shown(stream: &Secured) -> Vec<u8> {
    stream.conn.peer_certificates().expect("a handshake")[0].to_vec()
}

fn der(signed: &(String, String)) -> Vec<u8> {
    CertificateDer::from_pem_slice(signed.0.as_bytes()).expect("PEM").to_vec()
}

const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

#[test]
fn every_protocol_is_served_over_tls() {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let server = serve(dir.path(), &authority, &authority.sign(), "");
    assert!(server.http.starts_with("https://"), "the line that says that it is ready");
    assert_eq!(server.traces(&spans(1, 2)).status, 200);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut with_h2 = config(&authority, TLS13);
    with_h2.alpn_protocols = vec![b"h2".to_vec()];
    let with_h2 = tokio_rustls::TlsConnector::from(Arc::new(with_h2));
    let name = ServerName::try_from("localhost").expect("a name");
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(server.address()).await.expect("connects");
        let stream = with_h2.connect(name.clone(), tcp).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = http::Request::post("https://localhost/v1/traces").header(PROTOBUF.0, PROTOBUF.1);
        let body = http_body_util::Full::new(bytes::Bytes::from(spans(2, 3).encode_to_vec()));
        let response = sender.send_request(request.body(body).expect("a request")).await.expect("an answer");
        assert_eq!((response.version(), response.status().as_u16()), (http::Version::HTTP_2, 200));
    });
    let taken = runtime.block_on(async {
        let address = server.grpc.replace("https://", "");
        let connector = tower::service_fn(move |_| {
            let (connector, name, address) = (with_h2.clone(), name.clone(), address.clone());
            async move {
                let tcp = tokio::net::TcpStream::connect(address).await?;
                connector.connect(name, tcp).await.map(hyper_util::rt::TokioIo::new)
            }
        });
        // The connector brings TLS; the scheme tells the server's name alone.
        let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connector).await.expect("connects");
        unary(channel, TRACES, None, spans(3, 4).encode_to_vec()).await.expect("taken")
    });
    assert_eq!(taken, b"");
    assert_eq!(server.query(COUNT).cell(), 9);

    let ca = dir.path().join("ca.pem").display().to_string();
    let shown = must(dir.path(), &["query", "--url", &server.http, "--ca-file", &ca, "--json", COUNT]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON")["rows"][0][0], 9);
    let (_, error, success) = run(dir.path(), &["query", "--url", &server.http, COUNT]);
    assert!(!success && error.contains("certificate") && error.contains("--ca-file"), "{error}");
    let (_, error, success) = run(dir.path(), &["query", "--url", &server.http, "--ca-file", "/dev/null", COUNT]);
    assert!(!success && error.contains("expected certificates in PEM form with --ca-file"), "{error}");
    let file = dir.path().join("prism.toml").display().to_string();
    let (report, _, _) = run(&dir.path().join("data"), &["--config", &file, "doctor"]);
    assert!(report.contains("certificate") && report.contains("ends on 4096-01-01"), "{report}");
}

#[test]
fn clients_of_older_versions_and_without_tls_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let server = serve(dir.path(), &authority, &authority.sign(), "handshake_timeout_ms = 1500\n");
    let mut old = secured(&server, config(&authority, &[&rustls::version::TLS12]));
    let error = ask(&mut old).expect_err("refused").to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");

    for said in ["GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "hello\r\n"] {
        let mut plain = TcpStream::connect(server.address()).expect("connects");
        plain.write_all(said.as_bytes()).expect("writes");
        let mut answer = String::new();
        plain.read_to_string(&mut answer).expect("an end in order");
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("use https://"), "{said}: {answer}");
    }
    // Nothing, a record that never ends, no TLS behind the first byte.
    for said in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"\x16rubbish that is no record of TLS"] {
        let mut rude = TcpStream::connect(server.address()).expect("connects");
        rude.write_all(said).expect("writes");
        // Ends at once or by a reset, and never waits for more.
        drop(rude.read_to_end(&mut Vec::new()));
    }
    let failed = server.get("/metrics").text();
    let failed = failed.lines().find_map(|l| l.strip_prefix("prism_server_tls_handshakes_failed_total "));
    assert_eq!(failed, Some("7"), "each is counted");
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn handshakes_that_stall_give_their_place_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let server = serve(dir.path(), &authority, &authority.sign(), "handshakes_max = 1\nhandshake_timeout_ms = 200\n");
    let mut stalled = TcpStream::connect(server.address()).expect("connects");
    stalled.write_all(b"\x16\x03\x01\x02\x00\x01").expect("writes");
    until("a handshake comes through", || ask(&mut secured(&server, config(&authority, TLS13))).is_ok());
    // A Prism that speaks TLS is known as one.
    let file = dir.path().join("doctor.toml");
    std::fs::write(&file, format!("http_addr = '{}'\n", server.address())).expect("writes");
    let (report, _, _) = run(&dir.path().join("data"), &["--config", &file.display().to_string(), "doctor"]);
    assert!(report.contains(&format!("a Prism answers at {}", server.address())), "{report}");
}

#[test]
fn certificates_are_taken_up_while_connections_live() {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let (first, second, third) = (authority.sign(), authority.sign(), authority.sign());
    let server = serve(dir.path(), &authority, &first, "reload_ms = 20\n");
    let connect = || {
        let mut stream = secured(&server, config(&authority, TLS13));
        ask(&mut stream).expect("an answer");
        stream
    };
    let metric = |name: &str| {
        let text = server.get("/metrics").text();
        text.lines().find_map(|l| l.strip_prefix(&format!("{name} ")).map(str::to_owned)).expect("a metric")
    };
    let mut open = connect();
    assert_eq!(shown(&open), der(&first));
    put(dir.path(), &second);
    until("the second certificate is shown", || shown(&connect()) == der(&second));
    assert!(ask(&mut open).expect("an answer").starts_with("HTTP/1.1 200 "), "what is open stays open");

    std::fs::write(dir.path().join("cert.pem"), "no certificate").expect("writes");
    until("the broken file is told", || metric("prism_server_tls_files_broken") == "1");
    assert_eq!(shown(&connect()), der(&second), "the one before stays in force");
    std::fs::remove_file(dir.path().join("cert.pem")).expect("removes");
    put(dir.path(), &(first.0.clone(), third.1.clone()));
    assert_eq!(shown(&connect()), der(&second), "a key of another certificate is not used");
    put(dir.path(), &third);
    until("the third certificate is shown", || shown(&connect()) == der(&third));
    until("the files are told to be sound", || metric("prism_server_tls_files_broken") == "0");
    assert!(ask(&mut open).is_ok());
}

#[test]
fn clients_show_a_certificate_where_that_is_asked() {
    let dir = tempfile::tempdir().expect("a folder");
    let (authority, stranger) = (Authority::new(), Authority::new());
    let more = format!("client_ca_file = '{}'\n", dir.path().join("ca.pem").display());
    let server = serve(dir.path(), &authority, &authority.sign(), &more);
    let showing = |(cert, key): (String, String)| {
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let config = ClientConfig::builder_with_protocol_versions(TLS13).with_root_certificates(authority.trusted());
        config.with_client_auth_cert(chain, key).expect("a pair")
    };
    assert!(ask(&mut secured(&server, config(&authority, TLS13))).is_err(), "none");
    assert!(ask(&mut secured(&server, showing(stranger.sign()))).is_err(), "of another authority");
    assert!(ask(&mut secured(&server, showing(authority.sign()))).expect("an answer").starts_with("HTTP/1.1 200 "));
}

#[test]
fn files_that_cannot_be_used_are_told_at_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    put(dir.path(), &(authority.sign().0, authority.sign().1));
    let at = |name: &str| dir.path().join(name).display().to_string();
    let check = |cert: &str, key: &str, expected: &str| {
        let file = dir.path().join("prism.toml");
        let text = format!("[tls]\ncert_file = '{}'\nkey_file = '{}'\n", at(cert), at(key));
        std::fs::write(&file, text).expect("writes");
        let file = file.display().to_string();
        let args = ["serve", "--http", "127.0.0.1:0", "--grpc", "", "--config", &file];
        let (_, error, success) = run(dir.path(), &args);
        assert!(!success && error.contains(expected), "{error}");
        let (report, _, success) = run(dir.path(), &["--config", &file, "doctor"]);
        assert!(!success && report.contains("FAIL  certificate"), "{report}");
    };
    check("none.pem", "key.pem", "`tls.cert_file`");
    check("cert.pem", "cert.pem", "`tls.key_file`");
    check("cert.pem", "key.pem", "cannot be used");
}
