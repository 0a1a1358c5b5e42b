//! Starts the binary, talks to it, ends it. One function a boundary, so that a change of the boundary is a change here.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use reqwest::blocking::Client;

pub(crate) const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

/// Long enough for a machine that is busy with other tests; no test waits for it when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary with a clean environment: settings of whoever runs the tests are not the tests'.
pub(crate) fn prism(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prism"));
    let variables: Vec<_> =
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PRISM_")).collect();
    for (name, _) in variables {
        command.env_remove(name);
    }
    command.arg("--data-dir").arg(data);
    command
}

/// Runs a command to its end; what it printed, whether it succeeded.
pub(crate) fn run(data: &Path, args: &[&str]) -> (String, String, bool) {
    let Output { status, stdout, stderr } = prism(data).args(args).output().expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (text(stdout), text(stderr), status.success())
}

/// Standard output of a command that must succeed.
pub(crate) fn must(data: &Path, args: &[&str]) -> String {
    let (out, error, success) = run(data, args);
    assert!(success, "{args:?}: {error}");
    out
}

/// A new key of a tenant.
pub(crate) fn key(data: &Path, tenant: &str, roles: &str) -> String {
    must(data, &["key", "create", "--tenant", tenant, "--role", roles]).trim().to_owned()
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The first cell of the first row.
    pub(crate) fn cell(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()["rows"][0][0].clone()
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) http: String,
    pub(crate) grpc: String,
    pub(crate) client: Client,
}

impl Server {
    /// `prism serve` with ports of its own.
    pub(crate) fn start(data: &Path, args: &[&str]) -> Server {
        Server::start_by(prism(data), args)
    }

    /// The same by a command of [`prism`].
    pub(crate) fn start_by(prism: Command, args: &[&str]) -> Server {
        Server::serve(prism, "127.0.0.1:0", args)
    }

    /// `prism serve --dev` at an address that another one had.
    pub(crate) fn at(data: &Path, address: &str) -> Server {
        Server::serve(prism(data), address, &["--dev"])
    }

    fn serve(mut prism: Command, address: &str, args: &[&str]) -> Server {
        let ports = ["serve", "--http", address, "--grpc", "127.0.0.1:0"];
        let mut child =
            prism.args(ports).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            log.read_to_string(&mut text).map(|_| text)
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let Some((before, rest)) = line.split_once("://") else {
            panic!("not ready: {line}{}", log.join().expect("no panic").expect("a log"));
        };
        let scheme = before.rsplit(' ').next().unwrap_or_default();
        let address = |text: &str| text.split([',', ' ']).next().unwrap_or_default().to_owned();
        let grpc = rest.split_once("gRPC on ").map(|(_, rest)| address(rest)).unwrap_or_default();
        let client = client().build().expect("a client");
        Server { child, http: format!("{scheme}://{}", address(rest)), grpc: format!("{scheme}://{grpc}"), client }
    }

    /// `prism serve --dev` with a configuration file of these lines, on the folder `data` in `dir`.
    pub(crate) fn configured(dir: &Path, lines: &str) -> Server {
        let config = dir.join("prism.toml");
        std::fs::write(&config, lines).expect("writes");
        Server::start(&dir.join("data"), &["--dev", "--config", &config.display().to_string()])
    }

    /// `prism serve --dev`
    pub(crate) fn dev(data: &Path) -> Server {
        Server::start(data, &["--dev"])
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request =
            self.client.request(method.parse().expect("a method"), format!("{}{path}", self.http)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send().expect("an answer"))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Vec::new())
    }

    /// Sends spans of tenant `default`.
    pub(crate) fn traces(&self, request: &ExportTraceServiceRequest) -> Answer {
        self.send("POST", "/v1/traces", &[PROTOBUF], request.encode_to_vec())
    }

    /// The address of the HTTP listener, for sockets.
    pub(crate) fn address(&self) -> &str {
        self.http.split("://").nth(1).expect("an address")
    }

    pub(crate) fn query(&self, text: &str) -> Answer {
        self.send("POST", "/v1/query", &[], text.as_bytes().to_vec())
    }

    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kills");
    }

    /// Waits for the end; whether it was clean.
    pub(crate) fn ended(mut self) -> bool {
        ended(&mut self.child)
    }

    pub(crate) fn stop(self) {
        self.terminate();
        assert!(self.ended(), "a clean end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits for the end of a process, which comes soon; whether it was a good one.
pub(crate) fn ended(child: &mut Child) -> bool {
    let mut status = None;
    until("it ends", || {
        status = child.try_wait().expect("waits");
        status.is_some()
    });
    status.is_some_and(|status| status.success())
}

/// A client that trusts no authority unless it is given one, so that it needs none of this machine, and opens a connection for
/// each request, so that none is lost to a server that ends idle ones early.
pub(crate) fn client() -> reqwest::blocking::ClientBuilder {
    // Another test of this process may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().timeout(PATIENCE).tls_certs_only([]).pool_max_idle_per_host(0)
}

pub(crate) fn answer(response: reqwest::blocking::Response) -> Answer {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.bytes().expect("a body").to_vec() }
}

/// Waits until `probe` holds, asking it again and again.
pub(crate) fn until(what: &str, mut probe: impl FnMut() -> bool) {
    let began = Instant::now();
    while !probe() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.into())) };
    KeyValue { key: key.into(), value: Some(value), ..Default::default() }
}

/// The trace id of [`spans`].
pub(crate) fn trace_id(seed: u64) -> String {
    format!("{seed:016x}{seed:016x}")
}

/// A request of `count` spans of one trace.
pub(crate) fn spans(seed: u64, count: u64) -> ExportTraceServiceRequest {
    let start = now();
    let span = |i: u64| Span {
        trace_id: [seed.to_be_bytes(), seed.to_be_bytes()].concat(),
        span_id: (i + 1).to_be_bytes().to_vec(),
        parent_span_id: if i == 0 { Vec::new() } else { 1u64.to_be_bytes().to_vec() },
        name: format!("step {i}"),
        start_time_unix_nano: start + i,
        end_time_unix_nano: start + i + 1_000_000,
        attributes: vec![text("http.route", "/orders")],
        ..Default::default()
    };
    let scope_spans = vec![ScopeSpans { spans: (0..count).map(span).collect(), ..Default::default() }];
    let resource = Some(Resource { attributes: vec![text("service.name", "shop")], ..Default::default() });
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, ..Default::default() }] }
}

/// A request of `count` log records.
pub(crate) fn logs(count: usize) -> ExportLogsServiceRequest {
    let record = |i| LogRecord {
        time_unix_nano: now(),
        body: Some(AnyValue { value: Some(Value::StringValue(format!("line {i}"))) }),
        ..Default::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: (0..count).map(record).collect(), ..Default::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..Default::default() }] }
}
