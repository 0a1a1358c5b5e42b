//! Queries at a fixed pace beside the load, and how long their answers take.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, header};
use tokio::time::{Instant, MissedTickBehavior};

use crate::connection::{Connection, Target};
use crate::drive::excerpt;
use crate::latency::Latency;

/// What happened to the queries.
#[derive(Default)]
pub struct Queries {
    /// From when a query was sent to the end of its answer, of those answered with 200.
    pub latency: Latency,
    /// Queries that failed.
    pub failed: u64,
    /// Why the first did.
    pub first_failure: Option<String>,
}

/// Sends `query` every `every` until `stop`: as JSON where it begins with a brace, else as text.
pub async fn run(target: Arc<Target>, query: String, every: Duration, stop: impl Future<Output = ()>) -> Queries {
    let mut connection = Connection::new(&target);
    let mut queries = Queries::default();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return queries,
            _ = ticks.tick() => {}
        }
        let sent = Instant::now();
        let failure = match ask(&mut connection, &query).await {
            Ok((200, _)) => {
                queries.latency.record(sent.elapsed());
                continue;
            }
            Ok((status, body)) => format!("{status}: {}", excerpt(&body)),
            Err(error) => format!("{error:#}"),
        };
        queries.failed += 1;
        queries.first_failure.get_or_insert(failure);
    }
}

/// Sends one query; the status and body of its answer.
///
/// # Errors
/// No answer came.
pub async fn ask(connection: &mut Connection, query: &str) -> anyhow::Result<(u16, Bytes)> {
    let content_type = if query.trim_start().starts_with('{') { "application/json" } else { "text/plain" };
    let body = Bytes::copy_from_slice(query.as_bytes());
    let answer = connection.send(Method::POST, "/v1/query", &[(header::CONTENT_TYPE, content_type)], body).await?;
    Ok((answer.status, answer.body))
}
