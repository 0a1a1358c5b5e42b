//! `prism query`, `prism trace`: a server's answer as text.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::Local;

use crate::cli::{Output, Query, Trace};
use crate::client;
use crate::show::{Screen, answer, csv, spent, waterfall};
use crate::when;

/// Longest query that the server takes; more is not read from a file.
const QUERY_BYTES_MAX: u64 = 1 << 20;

/// Runs `prism query`; returns what is printed.
///
/// # Errors
/// No answer, or the server's refusal with its place in the query.
pub(crate) fn query(command: &Query, screen: &Screen) -> anyhow::Result<String> {
    let text = settled(command, read_query(&argument(&command.query))?, screen)?;
    let output = if command.json { Output::Json } else { command.output };
    let path = if command.explain { "/v1/query/explain".to_owned() } else { path(command.strict) };
    let media_type = if output == Output::Ndjson { client::NDJSON } else { client::JSON };
    let response = client::post(&command.remote, &path, &text, media_type)?;
    shown(&response.text, response.took, output, command.explain, screen)
}

/// Where queries are asked. `strict`: a field that no row in the range has is an error.
pub(crate) fn path(strict: bool) -> String {
    if strict { "/v1/query?strict=true".to_owned() } else { "/v1/query".to_owned() }
}

/// A server's answer as it is printed.
///
/// # Errors
/// It is no answer to a query.
pub(crate) fn shown(
    text: &str,
    took: Duration,
    output: Output,
    explained: bool,
    screen: &Screen,
) -> anyhow::Result<String> {
    if matches!(output, Output::Json | Output::Ndjson) {
        return Ok(with_line_end(text.to_owned()));
    }
    let parsed: serde_json::Value = serde_json::from_str(text).context("expected a JSON answer")?;
    if output == Output::Csv && !explained {
        return Ok(csv(&parsed));
    }
    let took_ns = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
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

/// The query with the range and cursor that the flags name. One that they do not change goes as it was typed, so that errors
/// point into it.
fn settled(command: &Query, text: String, screen: &Screen) -> anyhow::Result<String> {
    let now = Local::now().with_timezone(&screen.zone);
    let (last, from, to) = (command.last.as_deref(), command.from.as_deref(), command.to.as_deref());
    let range = when::range(last, from, to, now).map_err(anyhow::Error::msg)?;
    if range.is_none() && command.cursor.is_none() {
        return Ok(text);
    }
    let is_json = text.trim_start().starts_with('{');
    let parsed = if is_json { prism_dsl::parse_json(text.as_bytes()) } else { prism_dsl::parse_text(&text) };
    // The server's error is better than one from here.
    let Ok(mut query) = parsed else { return Ok(text) };
    query.range = range.or(query.range);
    query.cursor = command.cursor.clone().or(query.cursor);
    Ok(query.to_json().to_string())
}

/// Where no query is named, it is what a program writes to standard input.
fn argument(words: &[String]) -> String {
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

/// The query that an argument means: itself, `@FILE`, or `-` for standard input.
///
/// # Errors
/// What cannot be read.
pub(super) fn read_query(argument: &str) -> anyhow::Result<String> {
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
