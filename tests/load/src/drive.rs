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
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::time::Instant;

use crate::connection::{Answer, Connection, Target};
use crate::latency::Latency;
use crate::pool::{Pool, Signal};

/// Content type of all bodies.
pub const PROTOBUF: &str = "application/x-protobuf";
/// After a failure a connection pauses, so that a server that refuses is not hammered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);
/// An open run that fell behind may catch up for so long after its end.
const GRACE: Duration = Duration::from_secs(10);

/// How requests are sent.
#[derive(Clone, Copy)]
pub struct Plan {
    /// What rows are.
    pub signal: Signal,
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

/// Sends requests until the plan's end.
///
/// # Errors
/// Only for what has nothing to do with the server.
pub async fn drive(target: &Arc<Target>, pool: &Arc<Pool>, plan: Plan) -> Result<Tally> {
    let run = Arc::new(Run { pool: Arc::clone(pool), plan, begun: Instant::now(), next: AtomicU64::new(0) });
    let workers: Vec<_> = (0..plan.connections)
        .map(|_| {
            let (run, connection) = (Arc::clone(&run), Connection::new(target));
            tokio::spawn(async move { run.work(connection).await })
        })
        .collect();
    let mut tally = Tally::default();
    for worker in workers {
        tally.merge(worker.await??);
    }
    tally.took = run.begun.elapsed();
    Ok(tally)
}

struct Run {
    pool: Arc<Pool>,
    plan: Plan,
    begun: Instant,
    next: AtomicU64,
}

impl Run {
    async fn work(&self, mut connection: Connection) -> Result<Tally> {
        let mut tally = Tally::default();
        let encoding = self.pool.encoding();
        let mut headers: Vec<(HeaderName, &str)> = vec![(header::CONTENT_TYPE, PROTOBUF)];
        headers.extend(encoding.map(|encoding| (header::CONTENT_ENCODING, encoding)));
        while let Some((number, due)) = self.next_due(&mut tally).await {
            if self.plan.rate.is_some() {
                tally.late.record(due.elapsed());
            }
            let filled = self.pool.take(number, now_unix_nanos())?;
            let bytes = filled.body.len() as u64;
            let answer = connection.send(Method::POST, self.plan.signal.path(), &headers, filled.body.clone()).await;
            self.pool.give_back(filled);
            tally.requests += 1;
            match answer {
                Ok(answer) if answer.status == 200 => {
                    tally.latency.record(due.elapsed());
                    let (rejected, reason) = rejected(self.plan.signal, &answer);
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

/// Rows that a 200 did not take, and why.
pub fn rejected(signal: Signal, answer: &Answer) -> (u64, String) {
    let body = answer.body.clone();
    let partial = match signal {
        Signal::Spans => ExportTraceServiceResponse::decode(body)
            .map(|response| response.partial_success.map(|partial| (partial.rejected_spans, partial.error_message))),
        Signal::Logs => ExportLogsServiceResponse::decode(body).map(|response| {
            response.partial_success.map(|partial| (partial.rejected_log_records, partial.error_message))
        }),
    };
    match partial {
        Ok(partial) => partial.map(|(count, reason)| (count.max(0) as u64, reason)).unwrap_or_default(),
        Err(error) => (0, format!("answer is not an export response: {error}")),
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
    use crate::pool::Compression;
    use crate::sink::{Behaviour, Sink};

    fn plan() -> Plan {
        Plan { signal: Signal::Spans, request_rows: 50, connections: 3, rate: None, total: None, duration: None }
    }

    fn pool() -> Arc<Pool> {
        Arc::new(Pool::new(Signal::Spans, 50, Compression::None, 3, 1))
    }

    #[tokio::test]
    async fn a_closed_run_sends_as_many_rows_as_asked() {
        let sink = Sink::start("127.0.0.1:0".parse().unwrap(), Behaviour::default()).await.unwrap();
        let target = Target::new(&sink.url(), &[]).unwrap();
        let tally = drive(&target, &pool(), Plan { total: Some(2_000), ..plan() }).await.unwrap();
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
        let tally = drive(&target, &pool(), plan).await.unwrap();
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
        let tally = drive(&target, &pool(), Plan { total: Some(1_000), ..plan() }).await.unwrap();
        assert_eq!(tally.statuses, BTreeMap::from([(200, 15), (503, 5)]));
        assert_eq!(tally.rows_acknowledged, 15 * 50);
        assert!(tally.first_failure.unwrap().starts_with("503"));
    }
}
