//! The `prism` process: started on a free port, asked, stopped or killed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use reqwest::blocking::Client;

/// Folder of the binaries under test: what the task runner says, else where this test was built.
fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("PRISM_BIN_DIR") {
        return dir.into();
    }
    let test = std::env::current_exe().unwrap_or_default();
    test.ancestors().nth(2).map_or(PathBuf::new(), Path::to_path_buf)
}

/// A binary of the workspace.
///
/// # Errors
/// It was not built: `cargo xtask test` builds it before the tests.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let path = bin_dir().join(name);
    ensure!(path.exists(), "{name} is not built; run `cargo xtask test`, or `cargo build --workspace --bins` first");
    Ok(path)
}

/// Runs `prism` with these arguments to the end; returns what it printed.
///
/// # Errors
/// It ended with an error, which is in the message.
pub fn cli(data: &Path, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(binary("prism")?).arg("--data-dir").arg(data).args(args).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "prism {args:?}: {}\n{}", text(&output.stdout), text(&output.stderr));
    Ok(text(&output.stdout))
}

/// A status and a body.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Seconds of `Retry-After`, where there is one.
    pub retry_after: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A running `prism serve --dev`. Killed when dropped.
pub struct Server {
    child: Child,
    url: String,
    grpc: Option<String>,
    client: Client,
}

impl Server {
    /// Starts a server on `data` with port 0 and waits until it says that it is ready.
    ///
    /// # Errors
    /// It ended before, or was not ready within 60 s.
    pub fn start(data: &Path) -> anyhow::Result<Server> {
        Server::start_with(data, &[], &mut Command::new(binary("prism")?))
    }

    /// As [`Server::start`], with more arguments, and a command to run it by (`unshare`, limits …). Addresses among the
    /// arguments replace the free port, and no gRPC.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with(data: &Path, args: &[&str], command: &mut Command) -> anyhow::Result<Server> {
        command.args(["serve", "--dev"]);
        for (flag, address) in [("--http", "127.0.0.1:0"), ("--grpc", "")] {
            if !args.contains(&flag) {
                command.args([flag, address]);
            }
        }
        let mut child =
            command.arg("--data-dir").arg(data).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let log = child.stderr.take().context("stderr is piped")?;
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            // What the server wrote until then is all there is to show if its pipe breaks.
            drop(BufReader::new(log).read_to_string(&mut text));
            text
        });
        let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let (url, grpc) = loop {
            let Some(line) = lines.next() else {
                child.wait()?;
                bail!("the server ended before it was ready: {}", log.join().unwrap_or_default());
            };
            let line = line?;
            if let Some(at) = line.find("https://").or_else(|| line.find("http://")) {
                let url = line[at..].split([' ', ',']).next().unwrap_or_default().trim_end_matches('/').to_owned();
                let grpc = line.split_once("gRPC on ").and_then(|(_, rest)| rest.split([' ', ',']).next());
                break (url, grpc.map(str::to_owned));
            }
        };
        // The pipe is read on, so that the server never blocks on it.
        std::thread::spawn(move || lines.for_each(drop));
        // Another test of this process may have been first.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder().timeout(Duration::from_secs(60)).build()?;
        Ok(Server { child, url, grpc, client })
    }

    /// `http://127.0.0.1:PORT`, or `https://…` where it was given certificates.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:PORT` of OTLP/gRPC, where it was asked for.
    pub fn grpc(&self) -> Option<&str> {
        self.grpc.as_deref()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Peak resident memory so far, in bytes.
    ///
    /// # Errors
    /// The process has ended.
    pub fn peak_memory_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).context("VmHWM")?;
        let kib: u64 = line.split_whitespace().nth(1).context("VmHWM")?.parse()?;
        Ok(kib * 1024)
    }

    /// Posts bytes.
    ///
    /// # Errors
    /// No answer came.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> anyhow::Result<Answer> {
        let mut request = self.client.post(format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send()?)
    }

    /// Gets a path.
    ///
    /// # Errors
    /// No answer came.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        answer(self.client.get(format!("{}{path}", self.url)).send()?)
    }

    /// Sends an encoded OTLP request of `signal` (`traces` or `logs`).
    ///
    /// # Errors
    /// No answer came.
    pub fn send(&self, signal: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
        self.post(&format!("/v1/{signal}"), &[("content-type", "application/x-protobuf")], body)
    }

    /// Asks in the query language; the rows of the answer.
    ///
    /// # Errors
    /// The server refused the query.
    pub fn query(&self, text: &str) -> anyhow::Result<Vec<Vec<serde_json::Value>>> {
        let body = serde_json::json!({ "query": text }).to_string();
        let answer = match self.post("/v1/query", &[("content-type", "text/plain")], text.as_bytes().to_vec())? {
            refused if refused.status == 415 => {
                self.post("/v1/query", &[("content-type", "application/json")], body.into())?
            }
            answered => answered,
        };
        ensure!(answer.status == 200, "{text}: {} {}", answer.status, answer.text());
        let rows = answer.json()["rows"].as_array().cloned().unwrap_or_default();
        Ok(rows.into_iter().map(|row| row.as_array().cloned().unwrap_or_default()).collect())
    }

    /// The one number that a query answers.
    ///
    /// # Errors
    /// The server refused the query, or the answer is no number.
    pub fn number(&self, text: &str) -> anyhow::Result<i64> {
        let rows = self.query(text)?;
        rows.first()
            .and_then(|r| r.first())
            .and_then(serde_json::Value::as_i64)
            .with_context(|| format!("{text}: {rows:?}"))
    }

    /// Waits until `probe` holds; the condition itself is asked, never the clock alone.
    ///
    /// # Errors
    /// It did not hold within 30 s.
    pub fn until(&self, what: &str, mut probe: impl FnMut(&Server) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let start = Instant::now();
        while !probe(self)? {
            ensure!(start.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
            std::thread::yield_now();
        }
        Ok(())
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    ///
    /// # Errors
    /// The process could not be waited for.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Errors
    /// It ended with an error.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let status = Command::new("kill").arg(self.pid().to_string()).status()?;
        ensure!(status.success(), "kill: {status}");
        let status = self.child.wait()?;
        ensure!(status.success(), "prism ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn answer(response: reqwest::blocking::Response) -> anyhow::Result<Answer> {
    let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).map(str::to_owned);
    Ok(Answer { status: response.status().as_u16(), retry_after, body: response.bytes()?.to_vec() })
}
