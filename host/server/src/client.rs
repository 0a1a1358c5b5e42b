//! Asks a server over HTTP, for the commands that do.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cli::Remote;
use crate::show::clean;

/// The server gives up before (`http.answer_timeout_ms`).
pub(crate) const TIMEOUT: Duration = Duration::from_secs(180);
/// A server that does not take a connection by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Forms of answers.
pub(crate) const JSON: &str = "application/json";
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// An answer with status 200.
pub(crate) struct Answer {
    /// The body.
    pub(crate) text: String,
    /// Time of the whole request.
    pub(crate) took: Duration,
    /// What the server could not read, where the form of the answer has no place for it.
    pub(crate) missing: Option<String>,
}

/// A refused request, as it is shown, and its status.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String, pub(crate) u16);

impl Refused {
    /// Whether the same may be taken later.
    pub(crate) fn passes(&self) -> bool {
        matches!(self.1, 429 | 500..=599)
    }
}

/// `GET path`
///
/// # Errors
/// No answer, or a refusal as [`Refused`].
pub(crate) fn get(remote: &Remote, path: &str) -> anyhow::Result<Answer> {
    ask(remote, TIMEOUT, |client, base| client.get(format!("{base}{path}")))
}

/// The same, where nobody waits for long.
///
/// # Errors
/// As [`get`].
pub(crate) fn get_within(remote: &Remote, path: &str, timeout: Duration) -> anyhow::Result<Answer> {
    ask(remote, timeout, |client, base| client.get(format!("{base}{path}")))
}

/// `POST path` with a query, for an answer of a media type.
///
/// # Errors
/// As [`get`].
pub(crate) fn post(remote: &Remote, path: &str, query: &str, accept: &str) -> anyhow::Result<Answer> {
    let media_type = media_type(query);
    let build = |client: &reqwest::blocking::Client, base: &str| {
        client
            .post(format!("{base}{path}"))
            .header("content-type", media_type)
            .header("accept", accept)
            .body(query.to_owned())
    };
    ask(remote, TIMEOUT, build)
}

fn ask(
    remote: &Remote,
    timeout: Duration,
    build: impl Fn(&reqwest::blocking::Client, &str) -> reqwest::blocking::RequestBuilder,
) -> anyhow::Result<Answer> {
    let base = remote.url.trim_end_matches('/');
    let builder = reqwest::blocking::Client::builder().timeout(timeout).connect_timeout(CONNECT_TIMEOUT);
    let client = trusting(builder, &remote.url, remote.ca_file.as_deref())?.build().context("TLS cannot be set up")?;
    let mut request = build(&client, base);
    if let Some(key) = &remote.key {
        request = request.bearer_auth(key.trim());
    }
    let began = Instant::now();
    let response = request.send().map_err(|error| unreachable(base, &error))?;
    let status = response.status();
    let missing = response.headers().get("prism-partial").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let text = response.text().with_context(|| format!("the answer of {base} broke off"))?;
    let took = began.elapsed();
    if status.is_success() {
        return Ok(Answer { text, took, missing });
    }
    bail!(Refused(refusal(status.as_u16(), &text), status.as_u16()));
}

/// `GET path`, or `POST path` with a query for an answer of a media type, whose answer is read while it comes. It breaks off where
/// nothing comes for `silent`.
///
/// # Errors
/// As [`get`].
pub(crate) async fn send(
    remote: &Remote,
    path: &str,
    query: Option<(&str, &str)>,
    silent: Duration,
) -> anyhow::Result<reqwest::Response> {
    let base = remote.url.trim_end_matches('/');
    let mut builder = reqwest::Client::builder().read_timeout(silent).connect_timeout(CONNECT_TIMEOUT);
    if let Some(authorities) = authorities(&remote.url, remote.ca_file.as_deref())? {
        builder = builder.tls_certs_only(authorities);
    }
    let client = builder.build().context("TLS cannot be set up")?;
    let url = format!("{base}{path}");
    let mut request = match query {
        None => client.get(url),
        Some((query, accept)) => {
            client.post(url).header("content-type", media_type(query)).header("accept", accept).body(query.to_owned())
        }
    };
    if let Some(key) = &remote.key {
        request = request.bearer_auth(key.trim());
    }
    let response = request.send().await.map_err(|error| unreachable(base, &error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.with_context(|| format!("the answer of {base} broke off"))?;
    bail!(Refused(refusal(status.as_u16(), &text), status.as_u16()));
}

/// Of a query: a document or text.
fn media_type(query: &str) -> &'static str {
    if query.trim_start().starts_with('{') { "application/json" } else { "text/plain; charset=utf-8" }
}

/// Whom the command believes to be the server: authorities of `--ca-file` alone, else those of this machine.
pub(crate) fn trusting(
    builder: reqwest::blocking::ClientBuilder,
    url: &str,
    ca_file: Option<&Path>,
) -> anyhow::Result<reqwest::blocking::ClientBuilder> {
    Ok(match authorities(url, ca_file)? {
        Some(authorities) => builder.tls_certs_only(authorities),
        None => builder,
    })
}

/// The only authorities that are believed; `None` for those of this machine.
fn authorities(url: &str, ca_file: Option<&Path>) -> anyhow::Result<Option<Vec<reqwest::Certificate>>> {
    let Some(path) = ca_file else {
        // Nothing to believe without TLS, and small images hold no authorities.
        let plain = url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
        return Ok(plain.then(Vec::new));
    };
    let shown = path.display();
    let bytes =
        std::fs::read(path).with_context(|| format!("expected a readable file with --ca-file, found `{shown}`"))?;
    let authorities = reqwest::Certificate::from_pem_bundle(&bytes).unwrap_or_default();
    if authorities.is_empty() {
        bail!("expected certificates in PEM form with --ca-file, found none in `{shown}`");
    }
    Ok(Some(authorities))
}

/// What is said where no server answers.
pub(crate) fn unreachable(base: &str, error: &reqwest::Error) -> anyhow::Error {
    let reason = crate::error::chain(error);
    let hint = if reason.contains("certificate") {
        "\nhint: --ca-file or PRISM_CA_FILE names the authority that signed the server's certificate"
    } else if error.is_connect() {
        "\nhint: is `prism serve` running there? --url or PRISM_URL names another server"
    } else {
        ""
    };
    anyhow::anyhow!("no answer from {base}: {reason}{hint}")
}

/// The server's error, with the line at fault and a caret, or else its numbers, where there are any.
fn refusal(status: u16, body: &str) -> String {
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    let error = &parsed["error"];
    let Some(message) = error["message"].as_str() else {
        return format!("status {status}: {}", clean(body.trim()));
    };
    let mut out = clean(message);
    for line in error["snippet"].as_str().unwrap_or_default().lines() {
        out.push_str(&format!("\n{}", clean(line)));
    }
    if error["snippet"].is_null()
        && let (Some(line), Some(column)) = (error["line"].as_u64(), error["column"].as_u64())
    {
        out.push_str(&format!("\n --> line {line}, column {column}"));
    }
    if let Some(pointer) = error["pointer"].as_str() {
        out.push_str(&format!("\nin {}", clean(pointer)));
    }
    if let Some(hint) = error["hint"].as_str() {
        out.push_str(&format!("\nhint: {}", clean(hint)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_point_into_the_query() {
        let error = serde_json::json!({"error": {
            "code": "query_syntax", "message": "expected a field, found `and`", "hint": "x", "line": 1, "column": 2,
            "snippet": "  |\n1 | q and\n  |   ^", "pointer": "/where"
        }});
        assert_eq!(
            refusal(400, &error.to_string()),
            "expected a field, found `and`\n  |\n1 | q and\n  |   ^\nin /where\nhint: x"
        );
        let failed = r#"{"error": {"message": "it trapped", "line": 1, "column": 27}}"#;
        assert_eq!(refusal(400, failed), "it trapped\n --> line 1, column 27");
        assert_eq!(refusal(502, "<html>"), "status 502: <html>");
        assert_eq!(refusal(401, r#"{"error":{"message":"no"}}"#), "no");
    }
}
