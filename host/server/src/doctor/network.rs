//! Addresses: free, or taken by a Prism; open to whom; and how many files may be open.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::{Finding, tls};
use crate::commands::now_unix_ms;
use crate::config::Config;

/// An answer of this machine comes at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Metrics of a thousand tenants are about 1 MB.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Segments, compiled plugins and the runtime, beside connections.
const FILES_OF_THE_PROCESS: u64 = 1_024;

/// All checks of addresses.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![address("HTTP address", &config.http_addr, "--http")];
    if config.grpc_addr.is_empty() {
        findings.push(Finding::ok("gRPC address", "switched off"));
    } else {
        findings.push(address("gRPC address", &config.grpc_addr, "--grpc"));
    }
    findings.push(exposure(config));
    findings.extend(tls::check(&config.tls, now_unix_ms() / 1_000));
    findings.push(files(config));
    findings
}

fn address(subject: &'static str, text: &str, flag: &str) -> Finding {
    let Ok(addr) = text.parse::<SocketAddr>() else {
        return Finding::fail(subject, format!("`{text}` is none"), format!("name one with {flag}"));
    };
    match TcpListener::bind(addr) {
        Ok(_) => Finding::ok(subject, format!("{addr} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match speaks_prism(addr) {
            true => Finding::ok(subject, format!("a Prism answers at {addr}")),
            false => {
                let todo = format!("end what listens there, or choose another address with {flag}");
                Finding::warn(subject, format!("{addr} is taken"), todo)
            }
        },
        Err(error) => Finding::fail(subject, format!("{addr}: {error}"), format!("choose another address with {flag}")),
    }
}

/// Whether `/health` answers. A gRPC address does not speak HTTP/1.1 and counts as taken by someone.
fn speaks_prism(addr: SocketAddr) -> bool {
    // A Prism that speaks TLS says so.
    get(addr, "/health").is_ok_and(|text| {
        text.starts_with("HTTP/1.") && (text.contains(" 200 ") || text.contains("TLS")) && text.contains("prism")
    })
}

/// The answer, head and body, of a server of this machine to `GET`.
pub(super) fn get(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    // By this name the server knows that it is asked from its own machine, whatever address it listens on.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn exposure(config: &Config) -> Finding {
    let subject = "exposure";
    let open = [&config.http_addr, &config.grpc_addr]
        .into_iter()
        .filter_map(|text| text.parse::<SocketAddr>().ok())
        .any(|addr| !addr.ip().is_loopback());
    match (open, config.auth.dev) {
        (true, false) if config.tls.is_on() => Finding::ok(subject, "others reach it, over TLS"),
        (true, true) => Finding::warn(subject, "--dev on an address that others reach", "leave --dev out"),
        (true, false) => Finding::warn(
            subject,
            "keys and data cross the network in the clear",
            "set `tls.cert_file` and `tls.key_file`, or put a proxy with TLS before Prism",
        ),
        (false, true) => Finding::ok(subject, "this machine only, and without a key (--dev)"),
        (false, false) => Finding::ok(subject, "this machine only"),
    }
}

fn files(config: &Config) -> Finding {
    let subject = "open files";
    let needed = 2 * config.http.connections_max as u64 + FILES_OF_THE_PROCESS;
    match rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        Some(limit) if limit < needed => {
            let todo = format!("raise it to {needed} (`ulimit -n`, LimitNOFILE=), or lower `http.connections_max`");
            Finding::warn(subject, format!("at most {limit}"), todo)
        }
        Some(limit) => Finding::ok(subject, format!("at most {limit}")),
        None => Finding::ok(subject, "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn addresses_are_tried() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap().to_string();
        // Something that is no Prism: it answers everything with a greeting of another protocol.
        let other = std::thread::spawn(move || taken.accept().map(|(mut stream, _)| stream.write_all(b"220 mail\r\n")));
        let finding = address("HTTP address", &addr, "--http");
        assert_eq!(finding.level, Level::Warn, "{finding:?}");
        assert!(other.join().unwrap().is_ok());
        assert_eq!(address("HTTP address", "127.0.0.1:0", "--http").level, Level::Ok);
        assert_eq!(address("HTTP address", "192.0.2.1:80", "--http").level, Level::Fail);
    }

    #[test]
    fn what_others_reach_is_told() {
        let mut config = Config::default();
        assert_eq!(exposure(&config).level, Level::Ok);
        config.http_addr = "0.0.0.0:4318".into();
        assert_eq!(exposure(&config).level, Level::Warn);
    }
}
