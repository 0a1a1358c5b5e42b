//! Fields and values as the server tells them, remembered for a while: Tab must not wait for what was told a moment ago.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prism_dsl::Source;
use serde_json::Value;

use super::candidates::Known;
use crate::cli::Remote;
use crate::client;
use crate::commands::fields;

/// New fields and values are seen after so long.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Tab waits no longer: without an answer there is nothing to offer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server's fields and values.
pub(super) struct Server {
    remote: Remote,
    answers: Mutex<HashMap<String, (Instant, Value)>>,
}

impl Server {
    pub(super) fn new(remote: Remote) -> Server {
        Server { remote, answers: Mutex::default() }
    }

    /// An answer of the server, or null where there is none in time.
    fn answer(&self, path: String) -> Value {
        if let Some((_, known)) = self.answers.lock().get(&path).filter(|(asked, _)| asked.elapsed() < REMEMBERED) {
            return known.clone();
        }
        let answer = client::get_within(&self.remote, &path, PATIENCE);
        let answer: Value = answer.ok().and_then(|answer| serde_json::from_str(&answer.text).ok()).unwrap_or_default();
        self.answers.lock().insert(path, (Instant::now(), answer.clone()));
        answer
    }
}

impl Known for Server {
    fn fields(&self, source: Option<Source>) -> Vec<String> {
        let answer = self.answer(fields::path(signal(source), None));
        let mut fields: Vec<(u64, &str)> = Vec::new();
        for field in answer["fields"].as_array().into_iter().flatten() {
            let own = !matches!(field["scope"].as_str(), Some("event" | "link" | "exemplar" | "metadata"));
            if let Some(name) = field["name"].as_str().filter(|_| own) {
                fields.push((field["count"].as_u64().unwrap_or_default(), name));
            }
        }
        fields.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        fields.into_iter().map(|(_, name)| name.to_owned()).collect()
    }

    fn values(&self, source: Option<Source>, field: &str) -> Vec<Value> {
        let answer = self.answer(fields::values_path(field, signal(source), None));
        answer["values"].as_array().into_iter().flatten().map(|value| value["value"].clone()).collect()
    }
}

/// The signal of a source that has one alone.
fn signal(source: Option<Source>) -> Option<&'static str> {
    match source? {
        Source::Spans | Source::Traces => Some("spans"),
        Source::Logs => Some("logs"),
        Source::Metrics => Some("metrics"),
        Source::Events => None,
    }
}
