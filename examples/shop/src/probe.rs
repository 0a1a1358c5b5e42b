//! Asks every program for its health, all the time, as an orchestrator does: the noise that a filter drops.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use std::io::{Read, Write};
use std::net::TcpStream;

const PROBE_INTERVAL: Duration = Duration::from_millis(500);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Probes the programs at `addresses` (host and port) until the other end of `stop` is dropped. A probe that fails is
/// not its business.
pub fn run(addresses: &[String], stop: &Receiver<()>) {
    loop {
        for address in addresses {
            let _unhealthy = probe(address);
        }
        if stop.recv_timeout(PROBE_INTERVAL) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn probe(address: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    write!(
        stream,
        "GET /healthz HTTP/1.1\r\nhost: {address}\r\nuser-agent: kube-probe/1.34\r\nconnection: close\r\n\r\n"
    )?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}
