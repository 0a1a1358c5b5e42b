//! How soon a row is seen: sends a marked span each second and asks for its trace until the answer has it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::ValueEnum;
use http::{Method, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::time::{Instant, MissedTickBehavior};

use crate::connection::{Connection, Target};
use crate::drive::{PROTOBUF, excerpt, now_unix_nanos};
use crate::latency::Latency;
use crate::mark::mix;
use crate::query::ask;

/// Between two questions for the same span; what is measured is coarser by that.
const ASK_INTERVAL: Duration = Duration::from_millis(2);
/// A span that is not seen by then counts as unseen.
const SEEN_WITHIN_MAX: Duration = Duration::from_secs(10);

/// How the probe asks.
#[derive(Clone, Copy, ValueEnum)]
pub enum Ask {
    /// `GET /v1/traces/{id}`
    Trace,
    /// `POST /v1/query`, a count of the spans with the trace id.
    Query,
}

/// What the probe saw.
#[derive(Default)]
pub struct Seen {
    /// From the acknowledgement to the end of the first answer that has the span, so the time of a query is in it.
    pub latency: Latency,
    /// Spans that were acknowledged and not seen in time.
    pub unseen: u64,
    /// Spans that were not acknowledged, and questions that failed.
    pub failed: u64,
    /// The first failure.
    pub first_failure: Option<String>,
}

/// Probes every `every` until `stop`.
pub async fn run(target: Arc<Target>, how: Ask, every: Duration, seed: u64, stop: impl Future<Output = ()>) -> Seen {
    let mut connection = Connection::new(&target);
    let mut seen = Seen::default();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(stop);
    for number in 0u64.. {
        tokio::select! {
            () = &mut stop => break,
            _ = ticks.tick() => {}
        }
        // The complement keeps clear of the marks' numbers.
        let trace = u128::from(mix(!seed ^ number)) << 64 | u128::from(mix(seed ^ !number));
        match probe(&mut connection, how, trace).await {
            Ok(Some(time)) => seen.latency.record(time),
            Ok(None) => seen.unseen += 1,
            Err(error) => {
                seen.failed += 1;
                seen.first_failure.get_or_insert(format!("{error:#}"));
            }
        }
    }
    seen
}

async fn probe(connection: &mut Connection, how: Ask, trace: u128) -> Result<Option<Duration>> {
    let body = Bytes::from(request(trace).encode_to_vec());
    let answer = connection.send(Method::POST, "/v1/traces", &[(header::CONTENT_TYPE, PROTOBUF)], body).await?;
    if answer.status != 200 {
        bail!("{}: {}", answer.status, excerpt(&answer.body));
    }
    let acknowledged = Instant::now();
    while acknowledged.elapsed() < SEEN_WITHIN_MAX {
        if is_seen(connection, how, trace).await? {
            return Ok(Some(acknowledged.elapsed()));
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    Ok(None)
}

async fn is_seen(connection: &mut Connection, how: Ask, trace: u128) -> Result<bool> {
    let (status, body) = match how {
        Ask::Trace => {
            let answer = connection.send(Method::GET, &format!("/v1/traces/{trace:032x}"), &[], Bytes::new()).await?;
            (answer.status, answer.body)
        }
        Ask::Query => {
            let query = format!("from spans last 10m where trace_id = '{trace:032x}' select count() as n");
            ask(connection, &query).await?
        }
    };
    match (how, status) {
        (Ask::Trace, 404) => Ok(false),
        (Ask::Trace, 200) => Ok(String::from_utf8_lossy(&body).contains("load.probe")),
        (Ask::Query, 200) => {
            let answer: serde_json::Value = serde_json::from_slice(&body)?;
            Ok(answer["rows"][0][0].as_u64() == Some(1))
        }
        _ => bail!("{status}: {}", excerpt(&body)),
    }
}

fn request(trace: u128) -> ExportTraceServiceRequest {
    let text = |key: &str, value: &str| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.into())) }),
        ..Default::default()
    };
    let now = now_unix_nanos();
    let span = Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: (trace as u64 | 1).to_be_bytes().to_vec(),
        name: "load.probe".into(),
        kind: 1,
        start_time_unix_nano: now,
        end_time_unix_nano: now + 1_000_000,
        ..Default::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: vec![text("service.name", "load-probe")], ..Default::default() }),
            scope_spans: vec![ScopeSpans { spans: vec![span], ..Default::default() }],
            ..Default::default()
        }],
    }
}
