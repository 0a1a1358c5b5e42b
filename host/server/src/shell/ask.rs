//! One question to the server, which Ctrl-C gives up: the connection ends, and with it the work of the server.

use std::time::{Duration, Instant};

use crate::cli::Remote;
use crate::client;

/// What is asked.
pub(super) enum Ask {
    Get(String),
    Post { path: String, query: String, ndjson: bool },
}

/// What became of it.
pub(super) enum Done {
    Answered { text: String, took: Duration },
    Interrupted,
}

/// Asks; ends where the reader presses Ctrl-C.
///
/// # Errors
/// No answer, or a refusal.
pub(super) async fn run(remote: &Remote, ask: Ask) -> anyhow::Result<Done> {
    let began = Instant::now();
    let asked = async {
        let response = match &ask {
            Ask::Get(path) => client::send(remote, path, None, client::TIMEOUT).await?,
            Ask::Post { path, query, ndjson } => {
                let accept = if *ndjson { client::NDJSON } else { client::JSON };
                client::send(remote, path, Some((query, accept)), client::TIMEOUT).await?
            }
        };
        Ok(Done::Answered { text: response.text().await?, took: began.elapsed() })
    };
    tokio::select! {
        done = asked => done,
        _ = tokio::signal::ctrl_c() => Ok(Done::Interrupted),
    }
}

/// The query with a range, where it names none. One that is not understood goes as it is, so that its error points into it.
pub(super) fn ranged(query: &str, last: Option<&str>) -> String {
    let Some(last) = last else { return query.to_owned() };
    let is_json = query.trim_start().starts_with('{');
    let parsed = if is_json { prism_dsl::parse_json(query.as_bytes()) } else { prism_dsl::parse_text(query) };
    match (parsed, crate::when::range(Some(last), None, None, chrono::Local::now().fixed_offset())) {
        (Ok(mut parsed), Ok(range)) if parsed.range.is_none() => {
            parsed.range = range;
            parsed.to_json().to_string()
        }
        _ => query.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::ranged;

    #[test]
    fn a_range_is_added_where_there_is_none() {
        assert_eq!(ranged("from logs", None), "from logs");
        assert_eq!(ranged("from logs last 5m", Some("1h")), "from logs last 5m");
        assert_eq!(ranged("from logs where (", Some("1h")), "from logs where (");
        let added: serde_json::Value = serde_json::from_str(&ranged("from logs", Some("1h"))).unwrap();
        assert_eq!(added["range"]["last"], "1h");
    }
}
