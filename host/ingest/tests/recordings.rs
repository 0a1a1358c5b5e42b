//! Recordings: requests are found in files of every kind, what is broken is told, and times move together.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of their functions")]

use std::io::{Cursor, Read};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as OtlpSpan, span::Event};
use prism_ingest::recording::{self, About, Broken, Recorded, Recording, Shift, Span};
use prism_model::{Limits, Signal};
use prost::Message as _;

fn traces(times: &[u64]) -> Vec<u8> {
    let span = |time: &u64| OtlpSpan {
        trace_id: vec![7; 16],
        span_id: vec![9; 8],
        start_time_unix_nano: *time,
        end_time_unix_nano: time + 10,
        events: vec![Event { time_unix_nano: time + 5, ..Event::default() }],
        ..OtlpSpan::default()
    };
    let scope_spans = vec![ScopeSpans { spans: times.iter().map(span).collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn logs(times: &[u64]) -> Vec<u8> {
    let record = |time: &u64| LogRecord { time_unix_nano: *time, severity_number: 9, ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: times.iter().map(record).collect(), ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
        .encode_to_vec()
}

fn metrics(time: u64) -> Vec<u8> {
    let exemplars = vec![Exemplar { time_unix_nano: time - 1, ..Exemplar::default() }];
    let gauge = NumberDataPoint { time_unix_nano: time, exemplars: exemplars.clone(), ..NumberDataPoint::default() };
    let histogram = HistogramDataPoint {
        start_time_unix_nano: time - 50,
        time_unix_nano: time,
        exemplars,
        ..HistogramDataPoint::default()
    };
    let data = [
        metric::Data::Gauge(Gauge { data_points: vec![gauge.clone(), gauge] }),
        metric::Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 }),
    ];
    let metric = |data| Metric { name: "m".into(), data: Some(data), ..Metric::default() };
    let scope_metrics = vec![ScopeMetrics { metrics: data.map(metric).to_vec(), ..ScopeMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { scope_metrics, ..Default::default() }] }
        .encode_to_vec()
}

fn with_lengths(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|m| [&(m.len() as u32).to_be_bytes()[..], m].concat()).collect()
}

fn with_varints(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        prost::encoding::encode_varint(message.len() as u64, &mut out);
        out.extend_from_slice(message);
    }
    out
}

fn read_as(bytes: impl Read + Send + 'static, about: About) -> Vec<Result<Recorded, Broken>> {
    Recording::open(bytes, about).unwrap().collect()
}

fn read(bytes: &[u8], name: &str) -> Vec<Result<Recorded, Broken>> {
    read_as(Cursor::new(bytes.to_vec()), About { name: name.into(), ..About::default() })
}

fn found(bytes: &[u8], name: &str) -> Vec<(u64, Signal, Vec<u8>)> {
    read(bytes, name).into_iter().map(|r| r.unwrap()).map(|r| (r.number, r.signal, r.body)).collect()
}

/// Gives one byte at a time, as a slow pipe may.
struct Drops(Cursor<Vec<u8>>);

impl Read for Drops {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = out.len().min(1);
        self.0.read(&mut out[..n])
    }
}

#[test]
fn protobuf_is_told_apart_by_its_content() {
    for (body, signal) in [(traces(&[5]), Signal::Spans), (logs(&[5]), Signal::Logs), (metrics(500), Signal::Metrics)] {
        assert_eq!(found(&body, "x.bin"), [(0, signal, body.clone())]);
        let two = [body.clone(), body.clone()];
        for packed in [with_lengths(&two), with_varints(&two)] {
            let expected = [(1, signal, body.clone()), (2, signal, body.clone())];
            assert_eq!(found(&packed, "x.bin"), expected);
            assert_eq!(found(&zstd::bulk::compress(&packed, 1).unwrap(), "x"), expected);
            let slow: Vec<_> = read_as(Drops(Cursor::new(packed)), About::default());
            assert_eq!(slow.len(), 2);
        }
    }
    // A request whose first message is 10 bytes long begins like a length of 10.
    let odd = [traces(&[]), traces(&[5])].concat();
    assert_eq!(found(&odd, "x").len(), 1);
}

#[test]
fn the_name_settles_what_the_content_leaves_open_and_only_that() {
    // An envelope without items may be of any signal.
    let empty = traces(&[]);
    assert_eq!(found(&empty, "my-logs.pb")[0].1, Signal::Logs);
    assert_eq!(found(&traces(&[5]), "logs.pb")[0].1, Signal::Spans);
    let broken = read(&empty, "x.pb").remove(0).unwrap_err();
    assert!(broken.reason.contains("--signal"), "{broken:?}");
    let about = About { signal: Some(Signal::Metrics), ..About::default() };
    assert_eq!(read_as(Cursor::new(empty), about).remove(0).unwrap().signal, Signal::Metrics);
    assert!(read(b"\x01\x02\x03 no request", "x").remove(0).is_err());
}

#[test]
fn lines_go_on_behind_a_broken_one_and_documents_may_be_of_two_signals() {
    let lines = "{\"resourceLogs\":[]}\r\n\n  \nbroken\n{\"resourceSpans\":[]}";
    let read_lines = read(lines.as_bytes(), "x.txt");
    let numbers: Vec<_> =
        read_lines.iter().map(|r| r.as_ref().map(|r| (r.number, r.signal)).map_err(|b| b.number)).collect();
    assert_eq!(numbers, [Ok((1, Signal::Logs)), Err(4), Ok((5, Signal::Spans))]);
    let both = "{\n \"resourceLogs\": [{}],\n \"resourceSpans\": [{}]\n}";
    let signals: Vec<_> = found(both.as_bytes(), "x.json").into_iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(signals, [(0, Signal::Logs), (0, Signal::Spans)]);
    for nothing in ["", "  \n\t\n"] {
        assert!(read(nothing.as_bytes(), "x.json").is_empty());
    }
    // Broken from its first line on, and still lines, as the name says.
    let broken = read(b"{broken\n{\"resourceLogs\":[]}", "x.jsonl.gz");
    assert!(broken[0].is_err() && broken[1].is_ok());
}

#[test]
fn files_may_have_names_of_enums_and_ids_in_base64() {
    let id = |id: &str| {
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{id}","spanId":"zEct9HIG27g=","kind":"SPAN_KIND_CLIENT"}}]}}]}}]}}"#
        )
    };
    let body = &found(id("z8OFOVwAZBCbxoxWWYBiBQ==").as_bytes(), "x")[0].2;
    let request = ExportTraceServiceRequest::decode(&**body).unwrap();
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!((span.kind, span.trace_id.len(), span.span_id.len()), (3, 16, 8));
    let hex = &found(id("cfc385395c0064109bc68c5659806205").as_bytes(), "x")[0].2;
    assert_eq!(hex, body);
    let unknown = read(id("").replace("CLIENT", "NOBODY").as_bytes(), "x").remove(0).unwrap_err();
    assert!(unknown.reason.contains("SPAN_KIND_NOBODY"), "{unknown:?}");
}

#[test]
fn what_is_too_large_is_stepped_over_and_what_is_cut_off_is_told() {
    let limits = Limits { body_bytes_max: 200, ..Limits::default() };
    let about = || About { limits: limits.clone(), ..About::default() };
    let long = format!("{{\"resourceLogs\":[]{}}}", " ".repeat(300));
    let lines = ["{\"resourceLogs\":[]}", &long, "{\"resourceLogs\":[]}"].join("\n");
    let results = read_as(Cursor::new(lines.into_bytes()), about());
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert!(results[1].as_ref().unwrap_err().reason.contains("limits.body_bytes_max"));
    // Far enough behind the beginning that it does not tell what the recording is.
    let small = vec![traces(&[1]); 20_000];
    let messages = with_lengths(&[&small[..], &[traces(&[1; 20]), traces(&[2])]].concat());
    let results = read_as(Cursor::new(messages), about());
    let broken: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    assert_eq!((results.len(), broken.len(), broken[0].number), (20_002, 1, 20_001));

    let whole = with_lengths(&[traces(&[1]), traces(&[2])]);
    for cut in 1..whole.len() {
        let results = read(&whole[..cut], "traces.pb");
        let good = results.iter().filter(|r| r.is_ok()).count();
        assert!(good <= 1 && results.iter().filter(|r| r.is_err()).count() <= 1, "{cut}: {results:?}");
    }
    let gzip = zstd::bulk::compress(&whole, 1).unwrap();
    let cut = Recording::open(Cursor::new(gzip[..gzip.len() - 4].to_vec()), About::default());
    assert!(cut.is_err() || cut.unwrap().any(|r| r.is_err()));
}

#[test]
fn all_times_of_a_request_move_together() {
    let shifted = |signal, body: &[u8], by| recording::shift(signal, body, Shift(by)).unwrap();
    let span = |signal, body: &[u8]| recording::span(signal, body).unwrap();
    let (first, second) = (1_000_000, 5_000_000);
    let body = traces(&[first, second]);
    assert_eq!(span(Signal::Spans, &body), Some(Span { first, last: second + 10 }));
    assert_eq!(shifted(Signal::Spans, &body, 77), traces(&[first + 77, second + 77]));
    assert_eq!(shifted(Signal::Spans, &body, -77), traces(&[first - 77, second - 77]));
    assert_eq!(shifted(Signal::Metrics, &metrics(1_000), 77), metrics(1_077));
    assert_eq!(span(Signal::Metrics, &metrics(1_000)), Some(Span { first: 950, last: 1_000 }));
    // No time stays none, and what is beyond int64 is none.
    let odd = logs(&[0, u64::MAX, 10]);
    assert_eq!(shifted(Signal::Logs, &odd, 5), logs(&[0, u64::MAX, 15]));
    assert_eq!(span(Signal::Logs, &odd), Some(Span { first: 10, last: 10 }));
    assert_eq!(span(Signal::Logs, &logs(&[0])), None);
    assert_eq!(shifted(Signal::Logs, &logs(&[10]), i64::MIN), logs(&[1]));
    assert!(recording::span(Signal::Spans, b"\xff").is_err());
}

#[test]
fn items_are_counted() {
    assert_eq!(recording::items(Signal::Spans, &traces(&[1, 2, 3])), 3);
    assert_eq!(recording::items(Signal::Logs, &logs(&[1, 2])), 2);
    assert_eq!(recording::items(Signal::Metrics, &metrics(100)), 3);
    assert_eq!(recording::items(Signal::Spans, &[]), 0);
}
