//! The times of a request: when it was, and all of it moved by one offset.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, Metric, metric::Data};
use prism_model::Signal;
use prost::{DecodeError, Message};

use crate::wire::{LEN, Reader, key};

/// From the first to the last time of something, in unix nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl Span {
    /// From the first of both to the last of both.
    pub fn and(self, other: Span) -> Span {
        Span { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// How far times are moved, in nanoseconds; backwards where negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift(pub i64);

/// The times of a request in protobuf; `None` where it has none. A time of 0 says that there is none, and one beyond int64 is no
/// time (its item is rejected), so both are left out.
///
/// # Errors
/// It is no request of the signal.
pub fn span(signal: Signal, body: &[u8]) -> Result<Option<Span>, DecodeError> {
    let mut span: Option<Span> = None;
    visit(signal, body, &mut |time| {
        if is_time(*time) {
            let this = Span { first: *time, last: *time };
            span = Some(span.map_or(this, |span| span.and(this)));
        }
    })?;
    Ok(span)
}

/// The request with every time moved: of spans, their events, log records (observed times too), points (start times too) and
/// exemplars. A time stays within int64, and never becomes 0.
///
/// # Errors
/// It is no request of the signal.
pub fn shift(signal: Signal, body: &[u8], by: Shift) -> Result<Vec<u8>, DecodeError> {
    visit(signal, body, &mut |time| {
        if is_time(*time) {
            *time = time.saturating_add_signed(by.0).clamp(1, i64::MAX as u64);
        }
    })
}

fn is_time(time: u64) -> bool {
    time != 0 && i64::try_from(time).is_ok()
}

/// Visits every time of a request, and returns it as it is then.
fn visit(signal: Signal, body: &[u8], each: &mut impl FnMut(&mut u64)) -> Result<Vec<u8>, DecodeError> {
    Ok(match signal {
        Signal::Spans => {
            let mut request = ExportTraceServiceRequest::decode(body)?;
            let scopes = request.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans);
            for span in scopes.flat_map(|s| &mut s.spans) {
                each(&mut span.start_time_unix_nano);
                each(&mut span.end_time_unix_nano);
                span.events.iter_mut().for_each(|e| each(&mut e.time_unix_nano));
            }
            request.encode_to_vec()
        }
        Signal::Logs => {
            let mut request = ExportLogsServiceRequest::decode(body)?;
            let scopes = request.resource_logs.iter_mut().flat_map(|r| &mut r.scope_logs);
            for record in scopes.flat_map(|s| &mut s.log_records) {
                each(&mut record.time_unix_nano);
                each(&mut record.observed_time_unix_nano);
            }
            request.encode_to_vec()
        }
        Signal::Metrics => {
            let mut request = ExportMetricsServiceRequest::decode(body)?;
            let scopes = request.resource_metrics.iter_mut().flat_map(|r| &mut r.scope_metrics);
            scopes.flat_map(|s| &mut s.metrics).for_each(|metric| visit_metric(metric, each));
            request.encode_to_vec()
        }
    })
}

fn visit_metric(metric: &mut Metric, each: &mut impl FnMut(&mut u64)) {
    let mut point = |start: &mut u64, time: &mut u64, exemplars: &mut [Exemplar]| {
        each(start);
        each(time);
        exemplars.iter_mut().for_each(|e| each(&mut e.time_unix_nano));
    };
    match &mut metric.data {
        None => {}
        Some(Data::Gauge(gauge)) => gauge
            .data_points
            .iter_mut()
            .for_each(|p| point(&mut p.start_time_unix_nano, &mut p.time_unix_nano, &mut p.exemplars)),
        Some(Data::Sum(sum)) => sum
            .data_points
            .iter_mut()
            .for_each(|p| point(&mut p.start_time_unix_nano, &mut p.time_unix_nano, &mut p.exemplars)),
        Some(Data::Histogram(histogram)) => histogram
            .data_points
            .iter_mut()
            .for_each(|p| point(&mut p.start_time_unix_nano, &mut p.time_unix_nano, &mut p.exemplars)),
        Some(Data::ExponentialHistogram(histogram)) => histogram
            .data_points
            .iter_mut()
            .for_each(|p| point(&mut p.start_time_unix_nano, &mut p.time_unix_nano, &mut p.exemplars)),
        Some(Data::Summary(summary)) => summary
            .data_points
            .iter_mut()
            .for_each(|p| point(&mut p.start_time_unix_nano, &mut p.time_unix_nano, &mut [])),
    }
}

/// Spans, log records or points of a request in protobuf; of a broken one, those before the fault.
pub fn items(signal: Signal, body: &[u8]) -> u64 {
    let path: &[&[u32]] = match signal {
        Signal::Spans | Signal::Logs => &[&[1], &[2], &[2]],
        Signal::Metrics => &[&[1], &[2], &[2], &[5, 7, 9, 10, 11], &[1]],
    };
    count(body, path)
}

fn count(message: &[u8], path: &[&[u32]]) -> u64 {
    let Some((fields, path)) = path.split_first() else { return 1 };
    let (mut reader, mut found) = (Reader::new(message), 0);
    while let Ok(Some(next)) = reader.next() {
        if fields.iter().any(|field| next == key(*field, LEN)) {
            let Ok(inner) = reader.bytes() else { break };
            found += count(inner, path);
        } else if reader.skip(next, 0).is_err() {
            break;
        }
    }
    found
}
