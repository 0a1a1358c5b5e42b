//! For crash tests: sends spans that carry a running number, and writes down each range once it was acknowledged.
//!
//! The file of acknowledgements has one line `start end` for each request that was answered with 200: its spans carry
//! `load.seq` from `start` up to and without `end`. A line is written whole and only after the 200 was read, so what the
//! file says was acknowledged was, even if this program is killed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, header};
use prost::Message;
use serde::Serialize;
use tokio::time::Instant;

use crate::connection::{Connection, Target};
use crate::content;
use crate::drive::{PROTOBUF, excerpt, now_unix_nanos, rejected};
use crate::mark::{Marks, Sites, Stamp};

/// The attribute that carries the number.
pub const SEQUENCE: &str = "load.seq";
/// A server that starts again needs a moment.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// How numbered spans are sent.
#[derive(Clone, Copy)]
pub struct Plan {
    /// The first number.
    pub start: u64,
    /// Spans of a request.
    pub request_rows: u64,
    /// Connections.
    pub connections: usize,
    /// Ends before this number.
    pub total: Option<u64>,
    /// Ends after so long.
    pub duration: Option<Duration>,
    /// Sends a request that failed again, the same bytes, until it is acknowledged or the run has ended; else goes on with
    /// the next numbers.
    pub retry: bool,
    /// Of ids.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Spans that were acknowledged.
    pub acknowledged: u64,
    /// Spans in requests that were never acknowledged: some may be stored all the same.
    pub unknown: u64,
    /// Requests sent, each repetition too.
    pub requests: u64,
    /// Requests that were sent again.
    pub repeated: u64,
    /// The number after the last that was sent.
    pub next: u64,
    /// The first failure.
    pub first_failure: Option<String>,
}

/// Sends until the plan's end; acknowledgements go to the end of the file `acks`.
///
/// # Errors
/// The file cannot be written, or a 200 rejected spans.
pub async fn run(target: &Arc<Target>, acks: &Path, plan: Plan) -> Result<Outcome> {
    let file = OpenOptions::new().append(true).create(true).open(acks);
    let file = file.with_context(|| format!("cannot write `{}`", acks.display()))?;
    let run = Arc::new(Run { plan, acks: Mutex::new(file), next: AtomicU64::new(plan.start), begun: Instant::now() });
    let workers: Vec<_> = (0..plan.connections)
        .map(|_| {
            let (run, connection) = (Arc::clone(&run), Connection::new(target));
            tokio::spawn(async move { run.work(connection).await })
        })
        .collect();
    let mut sum = Outcome::default();
    for worker in workers {
        let outcome = worker.await??;
        sum.acknowledged += outcome.acknowledged;
        sum.unknown += outcome.unknown;
        sum.requests += outcome.requests;
        sum.repeated += outcome.repeated;
        sum.next = sum.next.max(outcome.next);
        sum.first_failure = sum.first_failure.take().or(outcome.first_failure);
    }
    Ok(sum)
}

struct Run {
    plan: Plan,
    acks: Mutex<File>,
    next: AtomicU64,
    begun: Instant,
}

impl Run {
    async fn work(&self, mut connection: Connection) -> Result<Outcome> {
        let mut outcome = Outcome { next: self.plan.start, ..Outcome::default() };
        while !self.is_over() {
            let start = self.next.fetch_add(self.plan.request_rows, Relaxed);
            let end =
                self.plan.total.map_or(u64::MAX, |total| self.plan.start + total).min(start + self.plan.request_rows);
            if start >= end {
                break;
            }
            outcome.next = outcome.next.max(end);
            let body = Bytes::from(request(start, end, self.plan.seed));
            if self.send(&mut connection, &body, &mut outcome).await? {
                let mut acks = self.acks.lock().unwrap_or_else(PoisonError::into_inner);
                acks.write_all(format!("{start} {end}\n").as_bytes()).context("cannot write the acknowledgements")?;
                outcome.acknowledged += end - start;
            } else {
                outcome.unknown += end - start;
            }
        }
        Ok(outcome)
    }

    /// Sends a request, again if the plan says so; true after its 200.
    async fn send(&self, connection: &mut Connection, body: &Bytes, outcome: &mut Outcome) -> Result<bool> {
        loop {
            outcome.requests += 1;
            let sent =
                connection.send(Method::POST, "/v1/traces", &[(header::CONTENT_TYPE, PROTOBUF)], body.clone()).await;
            let failure = match sent {
                Ok(answer) if answer.status == 200 => {
                    let (rejected, reason) = rejected(PROTOBUF, &answer);
                    anyhow::ensure!(rejected == 0, "{rejected} spans rejected: {reason}");
                    return Ok(true);
                }
                Ok(answer) => format!("{}: {}", answer.status, excerpt(&answer.body)),
                Err(error) => format!("{error:#}"),
            };
            outcome.first_failure.get_or_insert(failure);
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            if !self.plan.retry || self.is_over() {
                return Ok(false);
            }
            outcome.repeated += 1;
        }
    }

    fn is_over(&self) -> bool {
        self.plan.duration.is_some_and(|duration| self.begun.elapsed() >= duration)
    }
}

/// A request whose spans carry the numbers from `start` up to and without `end`.
fn request(start: u64, end: u64, seed: u64) -> Vec<u8> {
    let mut marks = Marks::default();
    let mut request = content::traces::spans(start, (end - start) as usize, &mut marks);
    let spans = request.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans).flat_map(|s| &mut s.spans);
    for (span, number) in spans.zip(start..end) {
        span.attributes.push(content::whole(SEQUENCE, number));
    }
    let mut encoded = request.encode_to_vec();
    let stamp = Stamp { seed, number: start, now_unix_nanos: now_unix_nanos() };
    Sites::find(&encoded, marks).stamp(&mut encoded, stamp);
    encoded
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;
    use crate::sink::{Behaviour, Sink};

    fn plan() -> Plan {
        Plan { start: 1, request_rows: 30, connections: 2, total: Some(200), duration: None, retry: false, seed: 3 }
    }

    fn numbers(acks: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(acks).unwrap();
        let mut numbers: Vec<u64> = text
            .lines()
            .flat_map(|line| {
                let (start, end) = line.split_once(' ').unwrap();
                start.parse::<u64>().unwrap()..end.parse().unwrap()
            })
            .collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn each_span_carries_its_number() {
        let request = ExportTraceServiceRequest::decode(&*request(10, 60, 1)).unwrap();
        let spans = request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
        let found: BTreeSet<i64> = spans
            .map(|span| match span.attributes.iter().find(|a| a.key == SEQUENCE).and_then(|a| a.value.clone()?.value) {
                Some(Value::IntValue(number)) => number,
                other => panic!("no number but {other:?}"),
            })
            .collect();
        assert_eq!(found, (10..60).collect());
    }

    /// ST-1 is tested with this file: it must name what was acknowledged, all of it and nothing else.
    #[tokio::test]
    async fn only_acknowledged_numbers_are_written_down() {
        let sink =
            Sink::start("127.0.0.1:0".parse().unwrap(), Behaviour { refuse_every: Some(3), ..Behaviour::default() });
        let target = Target::new(&sink.await.unwrap().url(), &[]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let acks = dir.path().join("acks");
        let outcome = run(&target, &acks, plan()).await.unwrap();
        let numbers = numbers(&acks);
        assert_eq!(outcome.acknowledged, numbers.len() as u64);
        assert_eq!(outcome.acknowledged + outcome.unknown, 200);
        assert!(outcome.unknown > 0 && outcome.next == 201);
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "a number twice");
    }

    #[tokio::test]
    async fn retries_bring_everything_through() {
        let sink =
            Sink::start("127.0.0.1:0".parse().unwrap(), Behaviour { refuse_every: Some(3), ..Behaviour::default() });
        let target = Target::new(&sink.await.unwrap().url(), &[]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let acks = dir.path().join("acks");
        let outcome = run(&target, &acks, Plan { retry: true, ..plan() }).await.unwrap();
        assert_eq!(numbers(&acks), (1..=200).collect::<Vec<_>>());
        assert!(outcome.repeated > 0 && outcome.unknown == 0);
    }
}
