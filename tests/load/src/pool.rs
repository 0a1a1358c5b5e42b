//! Requests that are ready to send: encoded once, stamped anew each time, compressed if asked for.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use clap::ValueEnum;
use flate2::write::GzEncoder;
use prost::Message;
use serde::Serialize;

use crate::content::{LOG_ATTRIBUTES, POINT_ATTRIBUTES, SPAN_ATTRIBUTES, logs, metrics, traces};
use crate::json;
use crate::mark::{Marks, Sites, Stamp};

/// Requests with values of their own; more would only cost memory, ids and times differ in each request anyway.
const VARIANTS: usize = 8;

/// What rows are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// `POST /v1/traces`
    Spans,
    /// `POST /v1/logs`
    Logs,
    /// `POST /v1/metrics`
    Metrics,
}

impl Signal {
    /// Where requests of the signal go.
    pub fn path(self) -> &'static str {
        match self {
            Signal::Spans => "/v1/traces",
            Signal::Logs => "/v1/logs",
            Signal::Metrics => "/v1/metrics",
        }
    }

    /// The method of the signal over gRPC.
    pub fn grpc_path(self) -> &'static str {
        match self {
            Signal::Spans => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    /// Attributes of a row.
    pub fn attributes(self) -> usize {
        match self {
            Signal::Spans => SPAN_ATTRIBUTES,
            Signal::Logs => LOG_ATTRIBUTES,
            Signal::Metrics => POINT_ATTRIBUTES,
        }
    }
}

/// What bodies are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// `application/x-protobuf`
    #[default]
    Protobuf,
    /// `application/json`, as the official message types write it.
    Json,
}

impl Encoding {
    /// The content type.
    pub fn media_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }
}

/// How bodies are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they are.
    None,
    /// `content-encoding: gzip`, level 1. Costs this process far more than anything else it does.
    Gzip,
    /// `content-encoding: zstd`, level 1.
    Zstd,
}

impl Compression {
    /// The header's value.
    pub fn encoding(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        }
    }
}

/// Encoded requests that wait for their turn.
pub struct Pool {
    signal: Signal,
    encoding: Encoding,
    waiting: Mutex<VecDeque<Buffer>>,
    templates: Vec<Arc<Template>>,
    compression: Compression,
    seed: u64,
}

struct Template {
    encoded: Vec<u8>,
    sites: Sites,
}

/// A request's bytes, to be given back.
pub struct Buffer {
    template: Arc<Template>,
    bytes: BytesMut,
}

/// A body, and what it came from.
pub struct Filled {
    /// What is sent.
    pub body: Bytes,
    template: Arc<Template>,
    /// The uncompressed bytes, where the body is compressed.
    plain: Option<BytesMut>,
}

impl Pool {
    /// Encodes requests of `rows` rows, with so many buffers that `at_once` requests can be under way.
    pub fn new(
        signal: Signal,
        encoding: Encoding,
        rows: usize,
        compression: Compression,
        at_once: usize,
        seed: u64,
    ) -> Pool {
        let template = |variant: usize| {
            let (mut marks, variant) = (Marks::default(), variant as u64);
            Arc::new(match signal {
                Signal::Spans => Template::new(&traces::spans(variant, rows, &mut marks), encoding, marks),
                Signal::Logs => Template::new(&logs::logs(variant, rows, &mut marks), encoding, marks),
                Signal::Metrics => Template::new(&metrics::metrics(variant, rows, &mut marks), encoding, marks),
            })
        };
        let templates: Vec<_> = (0..VARIANTS).map(template).collect();
        let buffers = (0..at_once.max(VARIANTS)).map(|n| Buffer::new(&templates[n % VARIANTS]));
        Pool { signal, encoding, waiting: Mutex::new(buffers.collect()), templates, compression, seed }
    }

    /// What the rows are.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// The `content-type` of bodies.
    pub fn media_type(&self) -> &'static str {
        self.encoding.media_type()
    }

    /// The `content-encoding` of bodies.
    pub fn encoding(&self) -> Option<&'static str> {
        self.compression.encoding()
    }

    /// Mean uncompressed size of a request in bytes.
    pub fn request_bytes(&self) -> usize {
        self.templates.iter().map(|template| template.encoded.len()).sum::<usize>() / self.templates.len()
    }

    /// The next request.
    ///
    /// # Errors
    /// Compression failed.
    pub fn take(&self, number: u64, now_unix_nanos: u64) -> Result<Filled> {
        let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        // None waits where a failed connection has kept one: a new one comes in its place.
        let mut buffer = next.unwrap_or_else(|| Buffer::new(&self.templates[number as usize % VARIANTS]));
        buffer.template.sites.stamp(&mut buffer.bytes, Stamp { seed: self.seed, number, now_unix_nanos });
        let Buffer { template, bytes } = buffer;
        Ok(match self.compression {
            Compression::None => Filled { body: bytes.freeze(), template, plain: None },
            compression => Filled { body: compress(compression, &bytes)?, template, plain: Some(bytes) },
        })
    }

    /// Gives a request's buffer back after it was sent.
    pub fn give_back(&self, filled: Filled) {
        let Filled { body, template, plain } = filled;
        // The connection may still hold the body of a request that failed half way; then the buffer is given up.
        let Some(bytes) = plain.or_else(|| body.try_into_mut().ok()) else { return };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(Buffer { template, bytes });
    }
}

impl Template {
    fn new(request: &(impl Message + Serialize), encoding: Encoding, marks: Marks) -> Template {
        let (encoded, sites) = match encoding {
            Encoding::Protobuf => {
                let encoded = request.encode_to_vec();
                let sites = Sites::find(&encoded, marks);
                (encoded, sites)
            }
            Encoding::Json => json::encode(&serde_json::to_value(request).unwrap_or_default(), marks),
        };
        Template { encoded, sites }
    }
}

impl Buffer {
    fn new(template: &Arc<Template>) -> Buffer {
        Buffer { template: Arc::clone(template), bytes: BytesMut::from(template.encoded.as_slice()) }
    }
}

/// Compresses a body.
///
/// # Errors
/// The compressor failed.
pub fn compress(compression: Compression, body: &[u8]) -> Result<Bytes> {
    Ok(match compression {
        Compression::None => Bytes::copy_from_slice(body),
        Compression::Gzip => {
            let mut gzip = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
            gzip.write_all(body)?;
            gzip.finish()?.into()
        }
        Compression::Zstd => zstd::bulk::compress(body, 1)?.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::trace::v1::Span;

    use super::*;

    const NOW: u64 = 1_700_000_000_000_000_000;

    fn spans(body: &[u8]) -> Vec<Span> {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans).collect()
    }

    #[test]
    fn a_request_decodes_to_the_figures_that_are_stated() {
        let pool = Pool::new(Signal::Spans, Encoding::Protobuf, 4_000, Compression::None, 1, 1);
        let filled = pool.take(0, NOW).unwrap();
        assert!(!filled.body.windows(4).any(|w| w == [0x01, 0x1f, 0x02, 0x1e]), "a mark is left");
        let spans = spans(&filled.body);
        assert_eq!(spans.len(), 4_000);
        let share = |n: usize| n as f64 / 4_000.0;
        let bytes = share(pool.request_bytes());
        assert!((620.0..720.0).contains(&bytes), "{bytes} bytes a span");
        let emails = |span: &&Span| span.attributes.iter().any(|a| a.key == "user.email");
        let mailed = spans.iter().filter(emails).count();
        assert!((0.02..0.05).contains(&share(mailed)));
        for span in &spans {
            assert_eq!(span.attributes.len(), SPAN_ATTRIBUTES + usize::from(emails(&span)));
            let keys: HashSet<_> = span.attributes.iter().map(|a| &a.key).collect();
            assert_eq!(keys.len(), span.attributes.len(), "keys differ");
            assert!(span.start_time_unix_nano < span.end_time_unix_nano && span.end_time_unix_nano <= NOW);
            assert!(NOW - span.start_time_unix_nano < 6_000_000_000);
        }
        let events: usize = spans.iter().map(|span| span.events.len()).sum();
        let links: usize = spans.iter().map(|span| span.links.len()).sum();
        assert!((0.03..0.08).contains(&share(events)) && (0.003..0.02).contains(&share(links)), "{events} {links}");
    }

    #[test]
    fn ids_of_many_requests_are_unique_and_parents_are_there() {
        let pool = Pool::new(Signal::Spans, Encoding::Protobuf, 400, Compression::None, 1, 9);
        let (mut span_ids, mut trace_ids, mut request_ids) = (HashSet::new(), HashSet::new(), HashSet::new());
        for number in 0..30 {
            let filled = pool.take(number, NOW).unwrap();
            let spans = spans(&filled.body);
            let here: HashSet<_> = spans.iter().map(|span| (span.trace_id.clone(), span.span_id.clone())).collect();
            for span in &spans {
                assert!(span_ids.insert(span.span_id.clone()), "span id twice");
                trace_ids.insert(span.trace_id.clone());
                let request = span.attributes.iter().find(|a| a.key == "request.id").unwrap();
                let Some(Value::StringValue(id)) = request.value.clone().unwrap().value else { panic!("not a text") };
                assert!(id.len() == 32 && request_ids.insert(id));
                assert!(
                    span.parent_span_id.is_empty()
                        || here.contains(&(span.trace_id.clone(), span.parent_span_id.clone()))
                );
            }
            pool.give_back(filled);
        }
        assert_eq!((span_ids.len(), trace_ids.len()), (30 * 400, 30 * 20));
    }

    #[test]
    fn compressed_bodies_are_the_plain_ones() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let plain =
                Pool::new(Signal::Logs, Encoding::Protobuf, 500, Compression::None, 1, 1).take(3, NOW).unwrap().body;
            let body = Pool::new(Signal::Logs, Encoding::Protobuf, 500, compression, 1, 1).take(3, NOW).unwrap().body;
            let mut back = Vec::new();
            match compression {
                Compression::Gzip => drop(std::io::copy(&mut flate2::read::GzDecoder::new(&*body), &mut back).unwrap()),
                _ => zstd::stream::copy_decode(&*body, &mut back).unwrap(),
            }
            assert_eq!(back, plain);
            assert!(body.len() < plain.len() / 2);
            let request = ExportLogsServiceRequest::decode(back.as_slice()).unwrap();
            let records =
                request.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len()).sum::<usize>();
            assert_eq!(records, 500);
            let records = request.resource_logs.iter().flat_map(|r| &r.scope_logs).flat_map(|s| &s.log_records);
            assert!(records.into_iter().all(|record| record.attributes.len() == LOG_ATTRIBUTES));
        }
    }

    #[test]
    fn json_says_what_protobuf_says() {
        for signal in [Signal::Spans, Signal::Logs, Signal::Metrics] {
            let body = |encoding| Pool::new(signal, encoding, 500, Compression::None, 1, 1).take(3, NOW).unwrap().body;
            let (json, wire) = (body(Encoding::Json), body(Encoding::Protobuf));
            match signal {
                Signal::Spans => same::<ExportTraceServiceRequest>(&json, &wire),
                Signal::Logs => same::<ExportLogsServiceRequest>(&json, &wire),
                Signal::Metrics => same::<ExportMetricsServiceRequest>(&json, &wire),
            }
        }
    }

    fn same<M: Message + Default + PartialEq + std::fmt::Debug + serde::de::DeserializeOwned>(
        json: &[u8],
        wire: &[u8],
    ) {
        let (json, wire): (M, M) = (serde_json::from_slice(json).unwrap(), M::decode(wire).unwrap());
        assert!(json == wire, "{json:?}\n{wire:?}");
    }

    #[test]
    fn a_buffer_that_is_given_back_is_used_again() {
        let pool = Pool::new(Signal::Spans, Encoding::Protobuf, 20, Compression::None, 1, 1);
        for number in 0..20 {
            let filled = pool.take(number, NOW).unwrap();
            pool.give_back(filled);
        }
        assert_eq!(pool.waiting.lock().unwrap().len(), VARIANTS);
    }
}
