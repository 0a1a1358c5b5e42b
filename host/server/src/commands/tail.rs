//! `prism tail`: new rows of a server, for as long as the reader wants.
//!
//! ```text
//! connect -> lines (columns, cursor, rows, what is to be known) -> a line a row | NDJSON
//!    ^------ broken off, or the server stops: wait, and go on behind the last row -------'
//! ```

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::Local;
use serde_json::{Map, Value};

use crate::cli::{Tail, TailOutput};
use crate::client::{self, Refused};
use crate::show::{Ink, Screen, clean, row};
use crate::when;

/// A server says something at least every `tail.heartbeat_ms`, 15 s by default: one that says nothing for so long is gone.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// Before it is tried again: doubled each time.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Bytes of a line: of a row with a long body, and no more than memory takes.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Followed where nothing is said.
const QUERY_DEFAULT: &str = "from logs";

/// Runs `prism tail` until it is interrupted, or the server has no more to say.
///
/// # Errors
/// No answer at first, or a refusal.
pub(crate) fn run(command: &Tail, screen: &Screen) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let interrupted = tokio::signal::ctrl_c();
        tokio::select! {
            done = asked(command, screen) => done.map(|()| ExitCode::SUCCESS),
            // Asked for: no row was begun and not finished.
            _ = interrupted => Ok(ExitCode::SUCCESS),
        }
    })
}

/// Follows what the command line says.
async fn asked(command: &Tail, screen: &Screen) -> anyhow::Result<()> {
    let text = super::ask::read_query(&command.query.join(" "))?;
    follow(command, text, screen).await
}

/// How a connection ended.
enum Ended {
    /// All that was asked for is shown, or whoever reads has gone.
    Done,
    /// It may be tried again.
    Broken(String),
}

/// Follows a query, or all logs where there is none, until the server has no more to say.
///
/// # Errors
/// No answer at first, or a refusal.
pub(crate) async fn follow(command: &Tail, text: String, screen: &Screen) -> anyhow::Result<()> {
    let text = if text.trim().is_empty() { QUERY_DEFAULT.to_owned() } else { text };
    let now = Local::now().with_timezone(&screen.zone);
    let range = when::range(command.last.as_deref(), None, None, now).map_err(anyhow::Error::msg)?;
    let mut place = Place { text, range, cursor: None, rows: 0 };
    let mut shown = Shown { kinds: Map::new(), output: command.output, screen: *screen };
    let (mut wait, mut connected) = (WAIT_FIRST, false);
    loop {
        let again = std::mem::replace(&mut connected, false);
        let document = place.document();
        let broken =
            match client::send(&command.remote, "/v1/tail", Some((&document, client::NDJSON)), SILENT_MAX).await {
                // All that was asked for was shown, and only the last words were lost.
                Ok(response) if response.status() == reqwest::StatusCode::NO_CONTENT => return Ok(()),
                Ok(response) => {
                    if wait > WAIT_FIRST {
                        shown.say(Ink::Dim, &place.back());
                    }
                    (wait, connected) = (WAIT_FIRST, true);
                    match read(response, &mut place, &mut shown).await? {
                        Ended::Done => return Ok(()),
                        Ended::Broken(why) => why,
                    }
                }
                // A wrong address is told at once, and a server that was there is waited for.
                Err(error) if place.cursor.is_none() && !again && wait == WAIT_FIRST => return Err(error),
                Err(error) => match error.downcast::<Refused>() {
                    Ok(refused) if !refused.passes() => bail!(refused),
                    Ok(refused) => refused.to_string(),
                    Err(error) => format!("{error:#}"),
                },
            };
        let first = broken.lines().next().unwrap_or_default();
        shown.say(Ink::Yellow, &format!("warning: {}; again in {} s", clean(first), wait.as_secs_f32()));
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// What was asked, and how far it was answered.
struct Place {
    text: String,
    range: Option<prism_dsl::Range>,
    cursor: Option<String>,
    /// Rows since the cursor.
    rows: u64,
}

impl Place {
    /// What is sent. A query that nothing is added to goes as it was typed, so that errors point into it.
    fn document(&self) -> String {
        if self.range.is_none() && self.cursor.is_none() {
            return self.text.clone();
        }
        let is_json = self.text.trim_start().starts_with('{');
        let parsed =
            if is_json { prism_dsl::parse_json(self.text.as_bytes()) } else { prism_dsl::parse_text(&self.text) };
        // The server's error is better than one from here.
        let Ok(mut query) = parsed else { return self.text.clone() };
        query.range = self.range.or(query.range);
        query.cursor = self.cursor.as_ref().map(|cursor| match self.rows {
            0 => cursor.clone(),
            rows => format!("{cursor}.{rows}"),
        });
        query.to_json().to_string()
    }

    fn back(&self) -> String {
        let how = if self.cursor.is_some() { "behind the last row" } else { "from the beginning" };
        format!("connected again: going on {how}")
    }
}

/// Reads an answer line by line.
///
/// # Errors
/// The server has ended it for the reader's fault, or speaks another language.
async fn read(mut response: reqwest::Response, place: &mut Place, shown: &mut Shown) -> anyhow::Result<Ended> {
    let mut rest = Vec::new();
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(Ended::Broken("the server ended the answer".to_owned())),
            Err(error) => return Ok(Ended::Broken(format!("the answer broke off: {}", crate::error::chain(&error)))),
        };
        rest.extend_from_slice(&chunk);
        let Some(last) = rest.iter().rposition(|byte| *byte == b'\n') else {
            if rest.len() > LINE_BYTES_MAX {
                bail!("expected lines of at most {LINE_BYTES_MAX} bytes, found a longer one");
            }
            continue;
        };
        let mut out = String::new();
        let ended = shown.lines(&rest[..last], place, &mut out);
        rest.drain(..=last);
        // Rows that came before an error are shown all the same.
        let mut stdout = std::io::stdout().lock();
        if stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            // `prism tail … | head`
            return Ok(Ended::Done);
        }
        if let Some(ended) = ended? {
            return Ok(ended);
        }
    }
}

/// How rows are shown.
struct Shown {
    /// Types of columns by name.
    kinds: Map<String, Value>,
    output: TailOutput,
    screen: Screen,
}

impl Shown {
    fn lines(&mut self, lines: &[u8], place: &mut Place, out: &mut String) -> anyhow::Result<Option<Ended>> {
        for line in lines.split(|byte| *byte == b'\n') {
            let line: Map<String, Value> = serde_json::from_slice(line).context("expected the lines of a tail")?;
            if let Some(ended) = self.line(&line, place, out)? {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    fn line(
        &mut self,
        line: &Map<String, Value>,
        place: &mut Place,
        out: &mut String,
    ) -> anyhow::Result<Option<Ended>> {
        for (what, value) in line {
            let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
            match (what.as_str(), value) {
                ("row", Value::Object(of)) => {
                    place.rows += 1;
                    match self.output {
                        TailOutput::Ndjson => out.push_str(&value.to_string()),
                        TailOutput::Lines => out.push_str(&row(&self.kinds, of, &self.screen)),
                    }
                    out.push('\n');
                }
                ("cursor", Value::String(cursor)) => (place.cursor, place.rows) = (Some(cursor.clone()), 0),
                ("columns", Value::Array(columns)) => {
                    let kind = |column: &Value| {
                        Some((
                            column.get("name")?.as_str()?.to_owned(),
                            column.get("type").cloned().unwrap_or_default(),
                        ))
                    };
                    self.kinds = columns.iter().filter_map(kind).collect();
                }
                ("skipped", _) => {
                    let rows = value.get("rows").and_then(Value::as_u64).unwrap_or_default();
                    self.say(Ink::Yellow, &format!("warning: {rows} rows were not looked at: {}", clean(text("why"))));
                }
                ("gap", _) => {
                    let (from, to) = (clean(text("from")), clean(text("to")));
                    self.say(
                        Ink::Yellow,
                        &format!("warning: rows may be missing that were stored from {from} to {to}"),
                    );
                }
                ("end", _) => {
                    return match text("code") {
                        "limit" => Ok(Some(Ended::Done)),
                        "stopping" | "unavailable" | "busy" | "bug" => {
                            Ok(Some(Ended::Broken(text("message").to_owned())))
                        }
                        _ => bail!("{}", clean(text("message"))),
                    };
                }
                // Heartbeats, and what later servers may say.
                _ => {}
            }
        }
        Ok(None)
    }

    /// Tells the reader something that is no row.
    fn say(&self, ink: Ink, text: &str) {
        use std::io::IsTerminal as _;
        let coloured = std::io::stderr().is_terminal() && self.screen.colour;
        let shown = if coloured { self.screen.ink(ink, text) } else { text.to_owned() };
        eprintln!("{shown}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_tail_goes_on_behind_the_last_row() {
        let mut place = Place { text: "from logs last 5m".into(), range: None, cursor: None, rows: 0 };
        assert_eq!(place.document(), "from logs last 5m");
        let screen = Screen { width: None, colour: false, zone: chrono::FixedOffset::east_opt(0).unwrap() };
        let mut shown = Shown { kinds: Map::new(), output: TailOutput::Ndjson, screen };
        let mut out = String::new();
        for line in [
            r#"{"columns":[{"name":"body","type":"null"}]}"#,
            r#"{"cursor":"C"}"#,
            r#"{"row":{"body":"a"}}"#,
            r#"{"row":{"body":"b"}}"#,
            r#"{"heartbeat":"x"}"#,
            r#"{"news":1}"#,
        ] {
            let line = serde_json::from_str(line).unwrap();
            assert!(shown.line(&line, &mut place, &mut out).unwrap().is_none());
        }
        assert_eq!(out, "{\"body\":\"a\"}\n{\"body\":\"b\"}\n");
        let document: Value = serde_json::from_str(&place.document()).unwrap();
        assert_eq!((&document["cursor"], &document["range"]["last"]), (&"C.2".into(), &"5m".into()));
        let end =
            |code: &str| serde_json::from_value(serde_json::json!({"end": {"code": code, "message": "m"}})).unwrap();
        assert!(matches!(shown.line(&end("limit"), &mut place, &mut out), Ok(Some(Ended::Done))));
        assert!(matches!(shown.line(&end("stopping"), &mut place, &mut out), Ok(Some(Ended::Broken(_)))));
        assert!(shown.line(&end("unauthenticated"), &mut place, &mut out).is_err());
    }
}
