//! `prism query`, `prism trace`: a server's answer as text.

use std::io::Read as _;

use anyhow::{Context as _, bail};

use crate::cli::{Query, Trace};
use crate::client;
use crate::show::{Screen, answer, spent, waterfall};

/// Longest query that the server takes; more is not read from a file.
const QUERY_BYTES_MAX: u64 = 1 << 20;

/// Runs `prism query`; returns what is printed.
///
/// # Errors
/// No answer, or the server's refusal with its place in the query.
pub(crate) fn query(command: &Query, screen: &Screen) -> anyhow::Result<String> {
    let text = read_query(&command.query.join(" "))?;
    let response = client::post(&command.remote, "/v1/query", &text)?;
    if command.json {
        return Ok(with_line_end(response.text));
    }
    let parsed = serde_json::from_str(&response.text).context("expected a JSON answer")?;
    let took_ns = i64::try_from(response.took.as_nanos()).unwrap_or(i64::MAX);
    Ok(answer(&parsed, took_ns, screen))
}

/// Runs `prism trace`; returns what is printed.
///
/// # Errors
/// No such trace, or no answer.
pub(crate) fn trace(command: &Trace, screen: &Screen) -> anyhow::Result<String> {
    let id = command.id.trim().to_ascii_lowercase();
    if id.len() != 32 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        bail!("expected a trace id of 32 hexadecimal digits, found `{}`", crate::show::clean(&id));
    }
    let response = client::get(&command.remote, &format!("/v1/traces/{id}"))?;
    if let Some(missing) = &response.missing {
        eprintln!("warning: spans may be missing, because this could not be read: {}", crate::show::clean(missing));
    }
    if command.json {
        return Ok(with_line_end(response.text));
    }
    let parsed = serde_json::from_str(&response.text).context("expected a JSON answer")?;
    // The picture is whole without them.
    let rows = client::get(&command.remote, &format!("/v1/traces/{id}?format=rows"));
    let rows = rows.ok().and_then(|rows| serde_json::from_str(&rows.text).ok());
    let spent = rows.as_ref().map(spent).unwrap_or_default();
    Ok(waterfall(&id, &parsed, &spent, screen))
}

fn read_query(argument: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    match argument.strip_prefix('@') {
        Some(path) => {
            let file =
                std::fs::File::open(path).with_context(|| format!("expected a readable file, found `{path}`"))?;
            file.take(QUERY_BYTES_MAX)
                .read_to_string(&mut text)
                .with_context(|| format!("`{path}` cannot be read as text"))?;
        }
        None if argument == "-" => {
            std::io::stdin()
                .take(QUERY_BYTES_MAX)
                .read_to_string(&mut text)
                .context("standard input cannot be read as text")?;
        }
        None => text.push_str(argument),
    }
    Ok(text.trim_end().to_owned())
}

fn with_line_end(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
