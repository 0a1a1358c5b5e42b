//! Asks a server over HTTP, for the commands that do.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cli::Remote;

/// The server gives up before (`http.answer_timeout_ms`).
const TIMEOUT: Duration = Duration::from_secs(180);
/// A server that does not take a connection by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer with status 200.
pub(crate) struct Answer {
    /// The body.
    pub(crate) text: String,
    /// Time of the whole request.
    pub(crate) took: Duration,
}

/// A refused request, as it is shown.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// `GET path`
///
/// # Errors
/// No answer, or a refusal as [`Refused`].
pub(crate) fn get(remote: &Remote, path: &str) -> anyhow::Result<Answer> {
    ask(remote, |client, base| client.get(format!("{base}{path}")), "")
}

/// `POST path` with a query. `query` is shown under its error.
///
/// # Errors
/// As [`get`].
pub(crate) fn post(remote: &Remote, path: &str, query: &str) -> anyhow::Result<Answer> {
    let media_type = if query.trim_start().starts_with('{') { "application/json" } else { "text/plain; charset=utf-8" };
    let build = |client: &reqwest::blocking::Client, base: &str| {
        client.post(format!("{base}{path}")).header("content-type", media_type).body(query.to_owned())
    };
    ask(remote, build, query)
}

fn ask(
    remote: &Remote,
    build: impl Fn(&reqwest::blocking::Client, &str) -> reqwest::blocking::RequestBuilder,
    query: &str,
) -> anyhow::Result<Answer> {
    let base = remote.url.trim_end_matches('/');
    let client = reqwest::blocking::Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).build()?;
    let mut request = build(&client, base);
    if let Some(key) = &remote.key {
        request = request.bearer_auth(key.trim());
    }
    let began = Instant::now();
    let response = request.send().map_err(|error| unreachable(base, &error))?;
    let status = response.status();
    let text = response.text().with_context(|| format!("the answer of {base} broke off"))?;
    let took = began.elapsed();
    if status.is_success() {
        return Ok(Answer { text, took });
    }
    bail!(Refused(refusal(status.as_u16(), &text, query)));
}

fn unreachable(base: &str, error: &reqwest::Error) -> anyhow::Error {
    let reason = crate::error::chain(error);
    let hint = if error.is_connect() { "\nhint: is `prism serve` running there? --url or PRISM_URL names another server" } else { "" };
    anyhow::anyhow!("no answer from {base}: {reason}{hint}")
}

/// The server's error with its place in the query.
///
/// ```text
/// expected a field, found `and`
///   from spans where and x = 1
///                    ^
/// hint: ...
/// ```
fn refusal(status: u16, body: &str, query: &str) -> String {
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    let error = &parsed["error"];
    let Some(message) = error["message"].as_str() else {
        return format!("status {status}: {}", crate::show::clean(body.trim()));
    };
    let mut out = crate::show::clean(message);
    let place = |key: &str| error[key].as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    if let (Some(line), Some(column)) = (place("line"), place("column"))
        && let Some(text) = query.lines().nth(line - 1)
    {
        // A tab is wider than the column that it counts as.
        let text = text.replace('\t', " ");
        out.push_str(&format!("\n  {text}\n  {}^", " ".repeat(column - 1)));
    }
    if let Some(hint) = error["hint"].as_str() {
        out.push_str(&format!("\nhint: {}", crate::show::clean(hint)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_point_into_the_query() {
        let body = r#"{"error":{"code":"bad_request","message":"expected a field, found `and`","hint":"x","line":2,"column":7}}"#;
        assert_eq!(
            refusal(400, body, "from spans\nwhere and x = 1"),
            "expected a field, found `and`\n  where and x = 1\n        ^\nhint: x"
        );
        assert_eq!(refusal(502, "<html>", "q"), "status 502: <html>");
        assert_eq!(refusal(401, r#"{"error":{"message":"no"}}"#, "q"), "no");
    }
}
