//! The SDKs of Python and JavaScript, each in one process that uses every exporter it has.

use std::net::TcpListener;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail, ensure};
use prism_tests::process::binary;
use prism_tests::{Server, cli};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::client::Client;
use crate::facts::text;
use crate::{install, stored};

/// Linux hands out those from 32,768 on.
const PORTS: Range<u32> = 20_000..30_000;
/// Exports of which some happen before the server stops, some while it is away, some after it is back.
const STEADY: usize = 24;

/// How a server ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// What is under way is answered.
    Stopped,
    /// What is under way may be stored and never answered: the same request comes again.
    Killed,
}

fn server(data: &std::path::Path, args: &[&str]) -> anyhow::Result<Server> {
    let grpc: &[&str] = if args.contains(&"--grpc") { &[] } else { &["--grpc", "127.0.0.1:0"] };
    Server::start_with(data, &[args, grpc].concat(), &mut Command::new(binary("prism")?))
}

fn run(language: &str, command: Option<Command>, protocols: &[&str]) -> anyhow::Result<()> {
    let Some(command) = command else { return Ok(()) };
    let mut client = Client::start(command)?;
    let outcome = stages(language, &mut client, protocols);
    // What exporters say of failures goes there.
    outcome.map_err(|error| error.context(format!("the client's standard error: {}", client.errors())))
}

fn stages(language: &str, client: &mut Client, protocols: &[&str]) -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let server = server(data.path(), &[])?;
    everything_reads_back(client, &server, protocols).context("what was sent")?;
    keys_are_asked_for(client, &server, data.path(), protocols).context("keys in the environment")?;
    certificates_are_checked(client, protocols).context("TLS")?;
    // The gRPC exporter for JavaScript leaves it to its application to try again.
    let retries = |protocol: &str| !(language == "JavaScript" && protocol == "grpc");
    for end in [End::Stopped, End::Killed] {
        a_restart_loses_nothing(client, protocols, end, &retries)
            .with_context(|| format!("a server {end:?} during exports"))?;
    }
    Ok(())
}

/// All signals through every exporter, with gzip and without.
fn everything_reads_back(client: &mut Client, server: &Server, protocols: &[&str]) -> anyhow::Result<()> {
    let exporters: Vec<Value> = protocols
        .iter()
        .flat_map(|protocol| {
            ["none", "gzip"].map(|compression| {
                json!({ "name": format!("{protocol} {compression}"), "protocol": protocol, "compression": compression })
            })
        })
        .collect();
    let grpc = server.grpc().context("gRPC is on")?;
    client.tell(&json!({ "do": "everything", "exporters": exporters, "http": server.url(), "grpc": grpc }))?;
    let (facts, _) = client.all()?;
    let failed: Vec<&Value> = facts.iter().filter(|f| f.get("failed").is_some()).collect();
    ensure!(failed.is_empty(), "exports failed: {failed:?}");
    let of = |signal: &str| -> Vec<Value> { facts.iter().filter(|f| f["signal"] == signal).cloned().collect() };
    let (spans, logs, points) = (of("spans"), of("logs"), of("metrics"));
    for all in [&spans, &logs, &points] {
        ensure!(all.len() >= 4 * exporters.len(), "too few facts: {}", all.len());
    }
    stored::spans(server, &spans)?;
    stored::logs(server, &logs)?;
    stored::points(server, &points)?;
    stored::completed(server, &points)
}

/// `OTEL_EXPORTER_OTLP_HEADERS` with a key stores for its tenant; with a wrong one the exporter says that it failed.
fn keys_are_asked_for(
    client: &mut Client,
    server: &Server,
    data: &std::path::Path,
    protocols: &[&str],
) -> anyhow::Result<()> {
    cli(data, &["tenant", "create", "clients"])?;
    let key = cli(data, &["key", "create", "--tenant", "clients", "--role", "ingest,query"])?;
    let key = key.split_whitespace().find(|word| word.len() > 20).context("a key")?.to_owned();
    for protocol in protocols {
        let endpoint = match *protocol {
            "grpc" => format!("http://{}", server.grpc().context("gRPC is on")?),
            _ => server.url().to_owned(),
        };
        let mut send = |name: String, key: &str| -> anyhow::Result<bool> {
            let env = json!({
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                "OTEL_EXPORTER_OTLP_HEADERS": format!("authorization=Bearer%20{key}"),
                "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
                "OTEL_EXPORTER_OTLP_INSECURE": "true",
            });
            client.tell(&json!({ "do": "one", "protocol": protocol, "env": env, "span": name }))?;
            let (_, done) = client.all()?;
            done["success"].as_bool().context("success")
        };
        ensure!(send(format!("keyed {protocol}"), &key)?, "{protocol}: a key was refused");
        let before = unauthenticated(server)?;
        let unknown = key.replace(|c: char| c.is_ascii_digit(), "z");
        ensure!(!send(format!("unknown {protocol}"), &unknown)?, "{protocol}: a wrong key was accepted");
        // An error that no retry mends is not tried again: the exporter says so at once.
        ensure!(unauthenticated(server)? == before + 1, "{protocol}: a wrong key was tried again");
    }
    let text = "from spans last 1h select name order name";
    let ask = [("content-type", "text/plain"), ("authorization", &format!("Bearer {key}"))];
    let answer = server.post("/v1/query", &ask, text.into())?;
    let mut expected: Vec<Value> = protocols.iter().map(|p| json!([format!("keyed {p}")])).collect();
    expected.sort_by_key(Value::to_string);
    ensure!(answer.json()["rows"] == json!(expected), "{} {}", answer.status, answer.text());
    let elsewhere =
        server.number("from spans last 1h where name contains 'keyed' or name contains 'unknown' select count()")?;
    ensure!(elsewhere == 0, "rows of a key went to another tenant");
    Ok(())
}

/// Exporters that are told of the server's authority (`OTEL_EXPORTER_OTLP_CERTIFICATE`) store over TLS.
fn certificates_are_checked(client: &mut Client, protocols: &[&str]) -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let at = |name: &str| data.path().join(name);
    let mut authority = CertificateParams::new(Vec::new())?;
    // Of one name with what it signs, the certificate would seem to have signed itself.
    authority.distinguished_name.push(DnType::CommonName, "authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    std::fs::write(at("ca.pem"), authority.self_signed(&authority_key)?.pem())?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    let certificate = certificate.signed_by(&key, &Issuer::new(authority, authority_key))?;
    std::fs::write(at("cert.pem"), certificate.pem())?;
    std::fs::write(at("key.pem"), key.serialize_pem())?;
    std::fs::set_permissions(at("key.pem"), std::fs::Permissions::from_mode(0o600))?;
    let config =
        format!("[tls]\ncert_file = '{}'\nkey_file = '{}'\n", at("cert.pem").display(), at("key.pem").display());
    std::fs::write(at("prism.toml"), config)?;
    let server = server(&at("data"), &["--config", &at("prism.toml").display().to_string()])?;
    ensure!(server.url().starts_with("https://"), "{} is not secured", server.url());
    for protocol in protocols {
        let endpoint = match *protocol {
            "grpc" => format!("https://{}", server.grpc().context("gRPC is on")?),
            _ => server.url().to_owned(),
        };
        let env = json!({ "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_CERTIFICATE": at("ca.pem") });
        client
            .tell(&json!({ "do": "one", "protocol": protocol, "env": env, "span": format!("secured {protocol}") }))?;
        ensure!(client.all()?.1["success"] == true, "{protocol}: the export failed");
    }
    let mut ask = Command::new(binary("prism")?);
    ask.env("PRISM_CA_FILE", at("ca.pem")).args(["query", "--json", "--url", server.url()]);
    let answer: Value = serde_json::from_str(&install::output(
        ask.arg("from spans last 1h where name starts_with 'secured' select count()"),
    )?)?;
    ensure!(answer["rows"] == json!([[protocols.len()]]), "{answer}");
    Ok(())
}

/// How many requests were refused for their key so far.
fn unauthenticated(server: &Server) -> anyhow::Result<u64> {
    let metrics = server.get("/metrics")?.text();
    let lines =
        metrics.lines().filter(|l| l.starts_with("prism_server_requests_total") && l.contains("unauthenticated"));
    lines.map(|l| Ok(l.rsplit(' ').next().unwrap_or_default().parse::<u64>()?)).sum()
}

/// An address that stays free while the server is away: below the ports that systems hand out, so that neither another
/// server nor a client that connects gets it.
fn address() -> anyhow::Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..PORTS.len() {
        let step = std::process::id().wrapping_mul(16).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.0.0.1:{}", PORTS.start + step % (PORTS.end - PORTS.start));
        if TcpListener::bind(&address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port of {PORTS:?} is free")
}

/// The server ends and comes back on the same address while a client exports: the exporter's own retries (or where it has
/// none its application) bring everything, and nothing twice.
fn a_restart_loses_nothing(
    client: &mut Client,
    protocols: &[&str],
    end: End,
    retries: &dyn Fn(&str) -> bool,
) -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (http, grpc) = (address()?, address()?);
    let first = server(data.path(), &["--http", &http, "--grpc", &grpc])?;
    let url = first.url();
    client.tell(&json!({ "do": "steady", "protocols": protocols, "http": url, "grpc": grpc, "spans": STEADY }))?;
    let mut sent = (0..protocols.len() * 2).map(|_| client.next()).collect::<anyhow::Result<Vec<_>>>()?;
    match end {
        End::Stopped => first.stop()?,
        End::Killed => first.kill()?,
    }
    let again = server(data.path(), &["--http", &http, "--grpc", &grpc])?;
    sent.extend(client.all()?.0);
    ensure!(sent.len() == STEADY * protocols.len(), "expected {STEADY} exports of each, found {}", sent.len());
    for export in &sent {
        let (name, protocol) = (text(export, "span"), text(export, "protocol"));
        let exports = export["exports"].as_i64().context("exports")?;
        ensure!(if retries(&protocol) { exports == 1 } else { exports >= 1 }, "{export}");
        let stored = again.number(&format!("from spans last 1h where name = '{name}' select count()"))?;
        ensure!(stored == 1, "{name}: expected once, found {stored}");
    }
    Ok(())
}

#[test]
fn what_the_python_sdk_sends_is_stored() {
    run("Python", install::python().expect("the client"), &["http", "grpc"]).expect("as it was sent");
}

#[test]
fn what_the_javascript_sdk_sends_is_stored() {
    run("JavaScript", install::node().expect("the client"), &["json", "http", "grpc"]).expect("as it was sent");
}
