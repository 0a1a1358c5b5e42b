//! Sends a pool's requests: as fast as answers come (closed), or when they are due whether or not answers come (open).
//!
//! In an open run each request has a time at which it is due, fixed at the start; its latency counts from there, so that a
//! server that stands still for a second shows it in all requests of that second, and not in one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use http::{HeaderName, Method, header};
use prost::Message;
use tokio::time::Instant;

use crate::connection::{Answer, Connection, Target};
use crate::grpc::Channel;
use crate::latency::Latency;
use crate::pool::{Filled, Pool};

/// Content type of all bodies.
pub const PROTOBUF: &str = "application/x-protobuf";
/// After a failure a connection pauses, so that a server that refuses is not hammered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);
/// An open run that fell behind may catch up for so long after its end.
const GRACE: Duration = Duration::from_secs(10);

/// How requests are sent.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Rows of a request.
    pub request_rows: u64,
    /// Connections, and so requests at the same time.
    pub connections: usize,
    /// Rows a second of an open run; none: a closed run.
    pub rate: Option<f64>,
    /// Ends after so many rows.
    pub total: Option<u64>,
    /// Ends after so long.
    pub duration: Option<Duration>,
}

/// What happened.
#[derive(Clone, Default)]
pub struct Tally {
    /// Requests sent.
    pub requests: u64,
    /// Rows in requests that were answered with 200, less those rejected.
    pub rows_acknowledged: u64,
    /// Rows that a 200 said were rejected.
    pub rows_rejected: u64,
    /// Bytes of the bodies of acknowledged requests, as sent.
    pub bytes: u64,
    /// Requests by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub broken: u64,
    /// The first answer that was not 200, or the first failure.
    pub first_failure: Option<String>,
    /// Requests that were due and never sent, as the run was over.
    pub unsent: u64,
    /// From when a request was due (open) or begun (closed) to its 200.
    pub latency: Latency,
    /// From when a request was due to when it was begun; of an open run only.
    pub late: Latency,
    /// From the first request to the last answer.
    pub took: Duration,
}

/// Sends requests of the pools in turn until the plan's end; over gRPC where there is a target for it.
///
/// # Errors
/// Only for what has nothing to do with the server.
pub async fn drive(target: &Arc<Target>, grpc: Option<&Arc<Target>>, pools: &Arc<[Pool]>, plan: Plan) -> Result<Tally> {
    let run = Arc::new(Run { pools: Arc::clone(pools), plan, begun: Instant::now(), next: AtomicU64::new(0) });
    let workers: Vec<_> = (0..plan.connections)
        .map(|_| {
            let line = match grpc {
                Some(grpc) => Line::Grpc(Channel::new(grpc)),
                None => Line::Http(Connection::new(target)),
            };
            let run = Arc::clone(&run);
            tokio::spawn(async move { run.work(line).await })
        })
        .collect();
    let mut tally = Tally::default();
    for worker in workers {
        tally.merge(worker.await??);
    }
    tally.took = run.begun.elapsed();
    Ok(tally)
}

/// How a worker reaches the server.
enum Line {
    Http(Connection),
    Grpc(Channel),
}

impl Line {
    async fn send(&mut self, pool: &Pool, filled: &Filled) -> Result<Answer> {
        let (encoding, body) = (pool.encoding(), filled.body.clone());
        match self {
            Line::Http(connection) => {
                let mut headers: Vec<(HeaderName, &str)> = vec![(header::CONTENT_TYPE, pool.media_type())];
                headers.extend(encoding.map(|encoding| (header::CONTENT_ENCODING, encoding)));
                connection.send(Method::POST, pool.signal().path(), &headers, body).await
            }
            Line::Grpc(channel) => channel.call(pool.signal().grpc_path(), encoding, body).await,
        }
    }
}

struct Run {
    pools: Arc<[Pool]>,
    plan: Plan,
    begun: Instant,
    next: AtomicU64,
}

impl Run {
    async fn work(&self, mut line: Line) -> Result<Tally> {
        let mut tally = Tally::default();
        while let Some((number, due)) = self.next_due(&mut tally).await {
            if self.plan.rate.is_some() {
                tally.late.record(due.elapsed());
            }
            let pool = &self.pools[number as usize % self.pools.len()];
            let filled = pool.take(number, now_unix_nanos())?;
            let bytes = filled.body.len() as u64;
            let answer = line.send(pool, &filled).await;
            pool.give_back(filled);
            tally.requests += 1;
            match answer {
                Ok(answer) if answer.status == 200 => {
                    tally.latency.record(due.elapsed());
                    let (rejected, reason) = rejected(pool.media_type(), &answer);
                    tally.rows_rejected += rejected;
                    tally.rows_acknowledged += self.plan.request_rows.saturating_sub(rejected);
                    tally.bytes += bytes;
                    *tally.statuses.entry(200).or_default() += 1;
                    if rejected > 0 {
                        tally.first_failure.get_or_insert(reason);
                    }
                }
                Ok(answer) => {
                    *tally.statuses.entry(answer.status).or_default() += 1;
                    tally.first_failure.get_or_insert_with(|| format!("{}: {}", answer.status, excerpt(&answer.body)));
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
                Err(error) => {
                    tally.broken += 1;
                    tally.first_failure.get_or_insert_with(|| format!("{error:#}"));
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
        Ok(tally)
    }

    /// Waits for the next request's time.
    async fn next_due(&self, tally: &mut Tally) -> Option<(u64, Instant)> {
        let Plan { request_rows, rate, total, duration, .. } = self.plan;
        loop {
            let number = self.next.fetch_add(1, Relaxed);
            let row = number * request_rows;
            if total.is_some_and(|total| row >= total) {
                return None;
            }
            let Some(rate) = rate else {
                return duration
                    .is_none_or(|duration| self.begun.elapsed() < duration)
                    .then(|| (number, Instant::now()));
            };
            let offset = Duration::from_secs_f64(row as f64 / rate);
            if duration.is_some_and(|duration| offset >= duration) {
                return None;
            }
            if duration.is_some_and(|duration| self.begun.elapsed() > duration + GRACE) {
                tally.unsent += 1;
                continue;
            }
            tokio::time::sleep_until(self.begun + offset).await;
            return Some((number, self.begun + offset));
        }
    }
}

impl Tally {
    fn merge(&mut self, other: Tally) {
        self.requests += other.requests;
        self.rows_acknowledged += other.rows_acknowledged;
        self.rows_rejected += other.rows_rejected;
        self.bytes += other.bytes;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.broken += other.broken;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.unsent += other.unsent;
        self.latency.merge(&other.latency);
        self.late.merge(&other.late);
    }
}

/// `Export<Signal>ServiceResponse`: the three have the same fields.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `Export<Signal>PartialSuccess`
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// Rows that a 200 did not take, and why.
pub fn rejected(media_type: &str, answer: &Answer) -> (u64, String) {
    let not = |error: &dyn std::fmt::Display| (0, format!("answer is not an export response: {error}"));
    if media_type != PROTOBUF {
        let answer: serde_json::Value = match serde_json::from_slice(&answer.body) {
            Ok(answer) => answer,
            Err(error) => return not(&error),
        };
        let Some(partial) = answer["partialSuccess"].as_object() else { return (0, String::new()) };
        let count = partial
            .iter()
            .filter(|(name, _)| name.starts_with("rejected"))
            .find_map(|(_, count)| count.as_u64().or_else(|| count.as_str()?.parse().ok()));
        let reason = partial.get("errorMessage").and_then(|reason| reason.as_str()).unwrap_or_default();
        return (count.unwrap_or(0), reason.to_owned());
    }
    match ExportResponse::decode(answer.body.clone()) {
        Ok(ExportResponse { partial_success: None }) => (0, String::new()),
        Ok(ExportResponse { partial_success: Some(partial) }) => {
            (partial.rejected.max(0) as u64, partial.error_message)
        }
        Err(error) => not(&error),
    }
}

/// The beginning of a body, for a message. A `Status` message's text is in the clear after a few bytes.
pub fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(300)]).chars().filter(|c| !c.is_control()).collect()
}

/// The time of this machine's clock.
pub fn now_unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{Compression, Encoding, Signal};
    use crate::sink::{Behaviour, Sink};

    fn plan() -> Plan {
        Plan { request_rows: 50, connections: 3, rate: None, total: None, duration: None }
    }

    fn pool() -> Arc<[Pool]> {
        [Pool::new(Signal::Spans, Encoding::Protobuf, 50, Compression::None, 3, 1)].into()
    }

    #[tokio::test]
    async fn a_closed_run_sends_as_many_rows_as_asked() {
        let sink = Sink::start("127.0.0.1:0".parse().unwrap(), Behaviour::default()).await.unwrap();
        let target = Target::new(&sink.url(), &[]).unwrap();
        let tally = drive(&target, None, &pool(), Plan { total: Some(2_000), ..plan() }).await.unwrap();
        assert_eq!((tally.requests, tally.rows_acknowledged, tally.broken), (40, 2_000, 0));
        assert_eq!(tally.latency.figures().unwrap().count, 40);
        assert_eq!(sink.requests(), 40);
    }

    /// The server holds each answer back for 50 ms on one connection while a request is due every 10 ms: a generator that
    /// counted from the sending would see 50 ms throughout.
    #[tokio::test]
    async fn an_open_run_counts_from_the_time_that_was_due() {
        let behaviour = Behaviour { delay: Duration::from_millis(50), ..Behaviour::default() };
        let sink = Sink::start("127.0.0.1:0".parse().unwrap(), behaviour).await.unwrap();
        let target = Target::new(&sink.url(), &[]).unwrap();
        let plan = Plan { connections: 1, rate: Some(5_000.0), total: Some(1_000), ..plan() };
        let tally = drive(&target, None, &pool(), plan).await.unwrap();
        // The last of 20 is due after 190 ms and answered after 20 x 50 ms at the earliest.
        let figures = tally.latency.figures().unwrap();
        assert_eq!(figures.count, 20);
        assert!(figures.max_ms >= 800.0 && figures.p50_ms >= 300.0, "{figures:?}");
    }

    #[tokio::test]
    async fn refusals_are_counted_and_never_as_acknowledged() {
        let behaviour = Behaviour { refuse_every: Some(4), ..Behaviour::default() };
        let sink = Sink::start("127.0.0.1:0".parse().unwrap(), behaviour).await.unwrap();
        let target = Target::new(&sink.url(), &[]).unwrap();
        let tally = drive(&target, None, &pool(), Plan { total: Some(1_000), ..plan() }).await.unwrap();
        assert_eq!(tally.statuses, BTreeMap::from([(200, 15), (503, 5)]));
        assert_eq!(tally.rows_acknowledged, 15 * 50);
        assert!(tally.first_failure.unwrap().starts_with("503"));
    }
}
