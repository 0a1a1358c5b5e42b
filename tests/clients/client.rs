//! A client process: commands in, facts out, line by line. Not here: what they mean (`facts`, `sdk`).

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::Context as _;
use serde_json::Value;

/// A running client. Killed when dropped.
pub(crate) struct Client {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
    errors: Option<JoinHandle<String>>,
}

impl Client {
    /// Starts it, with nothing of this machine's own OpenTelemetry settings.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Client> {
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("OTEL_")) {
            command.env_remove(name);
        }
        // These would win over the authority that an exporter is told of.
        for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.env_remove(name);
        }
        // A proxy would be asked for the server on this machine.
        command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1").env("PYTHONUNBUFFERED", "1");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("a client")?;
        let to = child.stdin.take().context("stdin is piped")?;
        let from = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let mut errors = child.stderr.take().context("stderr is piped")?;
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            // What it wrote until then is all there is to show if its pipe breaks.
            drop(errors.read_to_string(&mut text));
            text
        });
        Ok(Client { child, to, from, errors: Some(errors) })
    }

    /// Tells it to do something.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn tell(&mut self, command: &Value) -> anyhow::Result<()> {
        Ok(writeln!(self.to, "{command}")?)
    }

    /// The next thing that it says.
    ///
    /// # Errors
    /// It has ended, or says something else than facts.
    pub(crate) fn next(&mut self) -> anyhow::Result<Value> {
        let line = self.from.next().context("the client ended")?;
        let line = line?;
        serde_json::from_str(&line).with_context(|| format!("the client said `{line}`"))
    }

    /// All that it says until it is done, and then how that ended.
    ///
    /// # Errors
    /// As [`Client::next`].
    pub(crate) fn all(&mut self) -> anyhow::Result<(Vec<Value>, Value)> {
        let mut facts = Vec::new();
        loop {
            let fact = self.next()?;
            if fact.get("done").is_some() {
                return Ok((facts, fact));
            }
            facts.push(fact);
        }
    }
}

impl Client {
    /// Ends it; what it wrote to standard error.
    pub(crate) fn errors(mut self) -> String {
        // It may have ended already.
        drop(self.child.kill());
        self.errors.take().map(JoinHandle::join).and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
