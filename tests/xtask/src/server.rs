//! A `prism` server of the task runner, and the command line to ask it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

use crate::step::output;

/// A running server and where it is. Killed when dropped, unless it was left up.
pub(crate) struct Server {
    child: Child,
    bin: PathBuf,
    data: PathBuf,
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    /// Where it takes OTLP over gRPC, of the same form.
    pub(crate) grpc: String,
}

impl Server {
    /// Starts `prism serve --dev` on `data`; its log goes to `data`.log.
    pub(crate) fn start(bin: &Path, data: &Path, http: &str, grpc: &str) -> anyhow::Result<Server> {
        std::fs::create_dir_all(data)?;
        let log_path = data.with_extension("log");
        let log = std::fs::File::create(&log_path)?;
        let mut child = Command::new(bin.join("prism"))
            .args(["serve", "--dev", "--http", http, "--grpc", grpc, "--data-dir"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start prism")?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let (url, grpc) = loop {
            let Some(line) = lines.next() else {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                bail!("prism ended before it was ready ({}):\n{log}", child.wait()?);
            };
            let line = line?;
            let after = |text: &str| {
                let (_, rest) = line.split_once(text)?;
                rest.split([' ', ',']).next().map(|address| format!("http://{}", address.trim_end_matches('/')))
            };
            if let Some(url) = after("http://") {
                break (url, after("gRPC on ").context("prism takes gRPC")?);
            }
        };
        Ok(Server { child, bin: bin.to_owned(), data: data.to_owned(), url, grpc })
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `prism ARGS` on the server's data, as an operator at its machine.
    pub(crate) fn operate(&self, args: &[&str]) -> anyhow::Result<String> {
        output(Command::new(self.bin.join("prism")).arg("--data-dir").arg(&self.data).args(args))
    }

    /// `prism COMMAND --url … ARGS`, as a user from elsewhere.
    pub(crate) fn ask(&self, command: &str, args: &[&str]) -> anyhow::Result<String> {
        output(Command::new(self.bin.join("prism")).args([command, "--url", &self.url]).args(args))
    }

    /// The text at a path of the server.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        self.exchange(path, &format!("GET {path} HTTP/1.0\r\n"), "")
    }

    fn exchange(&self, path: &str, head: &str, body: &str) -> anyhow::Result<String> {
        let address = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address)?;
        // HTTP/1.0: the answer ends with the connection and is not chunked.
        write!(stream, "{head}Host: {address}\r\n\r\n{body}")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("expected an HTTP answer")?;
        if !head.lines().next().unwrap_or_default().contains(" 200 ") {
            bail!("{path}: {head}\n{body}");
        }
        Ok(body.to_owned())
    }

    /// What the server answers to a text that is posted, with a tenant's key where there is one.
    pub(crate) fn post(&self, path: &str, key: Option<&str>, body: &str) -> anyhow::Result<String> {
        let key = key.map(|key| format!("X-Api-Key: {key}\r\n")).unwrap_or_default();
        let head =
            format!("POST {path} HTTP/1.0\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{key}", body.len());
        self.exchange(path, &head, body)
    }

    /// Rows of a query's answer.
    pub(crate) fn rows(&self, query: &str) -> anyhow::Result<Vec<serde_json::Value>> {
        let answer: serde_json::Value = serde_json::from_str(&self.ask("query", &["--json", query])?)?;
        Ok(answer["rows"].as_array().cloned().unwrap_or_default())
    }

    /// A clean stop.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.pid().to_string()).status()?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("prism ended with {status}");
        }
        Ok(())
    }

    /// Waits until the user ends the server (Ctrl-C reaches it too).
    pub(crate) fn wait(mut self) -> anyhow::Result<()> {
        self.child.wait()?;
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
