//! AWS as far as `moto` imitates it, in a process of its own: pinned packages, installed once into the build folder.
//!
//! Where they cannot be installed the tests say so and are skipped; in CI (`CI`, or `PRISM_REQUIRE_CLIENTS=1`) that is a
//! failure.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::packages;

/// A server on a free port. It ends with this.
pub struct Moto {
    child: Child,
    pub port: u16,
}

impl Moto {
    /// A server without anything in it; `None`, with the reason printed, where it cannot be installed.
    pub fn start() -> Option<Moto> {
        let set = |name: &str| std::env::var(name).is_ok_and(|v| !["", "0", "false"].contains(&v.as_str()));
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/moto.txt");
        match packages::installed(&lock, "moto") {
            Ok(site) => Some(Moto::run(&site)),
            Err(why) if set("CI") || set("PRISM_REQUIRE_CLIENTS") => panic!("moto is required here: {why}"),
            Err(why) => {
                eprintln!("skipped: moto cannot be installed: {why}");
                None
            }
        }
    }

    fn run(site: &Path) -> Moto {
        let mut child = Command::new("python3")
            .args(["-c", "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"])
            .env("PYTHONPATH", site)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let port = loop {
            let line = lines.next().unwrap_or_else(|| panic!("moto ended before it was ready: {said}")).unwrap();
            if let Some((_, rest)) = line.split_once("Running on http://127.0.0.1:") {
                break rest.trim().parse().unwrap();
            }
            said += &line;
        };
        // The pipe is read on, so that the server never blocks on it.
        std::thread::spawn(move || lines.for_each(drop));
        Moto { child, port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// An action of KMS, in the tests' region; its answer as text.
    pub fn kms(&self, action: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let scope = "Credential=test/20261121/eu-west-1/kms/aws4_request, SignedHeaders=host, Signature=0";
        let head = format!(
            "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.1\r\n\
             x-amz-target: TrentService.{action}\r\nauthorization: AWS4-HMAC-SHA256 {scope}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Ends the server: nobody answers at its address any more.
    pub fn stop(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
