//! OTLP/JSON to protobuf: every spelling of a request is the same request, and what is no request is refused with its place.

use std::panic::{AssertUnwindSafe, catch_unwind};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prism_ingest::json::{JsonError, to_protobuf};
use prism_ingest::{decode, encode};
use prism_model::{Classify, Kind, Limits, Signal};
use proptest::prelude::*;
use prost::Message;

use crate::spell::Speller;
use crate::{agree, as_json, generate};

fn convert(signal: Signal, json: impl AsRef<[u8]>) -> Result<Vec<u8>, JsonError> {
    to_protobuf(signal, json.as_ref(), &Limits::default())
}

/// The request as prost reads what was converted.
fn traces(json: impl AsRef<[u8]>) -> Result<ExportTraceServiceRequest, String> {
    let bytes = convert(Signal::Spans, json).map_err(|e| e.to_string())?;
    Ok(ExportTraceServiceRequest::decode(&*bytes).unwrap())
}

fn logs(json: impl AsRef<[u8]>) -> Result<ExportLogsServiceRequest, String> {
    let bytes = convert(Signal::Logs, json).map_err(|e| e.to_string())?;
    Ok(ExportLogsServiceRequest::decode(&*bytes).unwrap())
}

fn metrics(json: impl AsRef<[u8]>) -> Result<ExportMetricsServiceRequest, String> {
    let bytes = convert(Signal::Metrics, json).map_err(|e| e.to_string())?;
    Ok(ExportMetricsServiceRequest::decode(&*bytes).unwrap())
}

/// Equal in every bit but those of NaN, which JSON has one of.
fn same(found: &impl std::fmt::Debug, expected: &impl std::fmt::Debug, json: &str) {
    assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{json}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn traces_are_the_same_in_every_spelling(request in generate::traces(), seed: u64) {
        for speller in [Speller::plain(), Speller::odd(seed)] {
            let json = speller.traces(&request);
            same(&traces(&json).unwrap(), &request, &json);
            // What prost reads the walk reads too, so the batch is that of the request in protobuf.
            let decoded = agree::traces(&convert(Signal::Spans, &json).unwrap(), &Limits::default()).unwrap().unwrap();
            let expected = decode::traces(&request.encode_to_vec(), &Limits::default()).unwrap();
            prop_assert_eq!(decoded.rejected, expected.rejected);
            prop_assert_eq!(
                agree::normal_traces(encode::traces(&decoded.batch)),
                agree::normal_traces(encode::traces(&expected.batch))
            );
        }
    }

    #[test]
    fn logs_are_the_same_in_every_spelling(request in generate::logs(), seed: u64) {
        for speller in [Speller::plain(), Speller::odd(seed)] {
            let json = speller.logs(&request);
            same(&logs(&json).unwrap(), &request, &json);
            agree::logs(&convert(Signal::Logs, &json).unwrap(), &Limits::default()).unwrap().unwrap();
        }
    }

    #[test]
    fn metrics_are_the_same_in_every_spelling(request in generate::metrics(), seed: u64) {
        for speller in [Speller::plain(), Speller::odd(seed)] {
            let json = speller.metrics(&request);
            same(&metrics(&json).unwrap(), &request, &json);
            agree::metrics(&convert(Signal::Metrics, &json).unwrap(), &Limits::default()).unwrap().unwrap();
        }
    }

    #[test]
    fn what_prism_writes_reads_back(
        trace_request in generate::traces(),
        log_request in generate::logs(),
        metric_request in generate::metrics(),
    ) {
        let batch = decode::metrics(&metric_request.encode_to_vec(), &Limits::default()).unwrap().batch;
        let json = encode::metrics_json(std::slice::from_ref(&batch));
        let back = decode::metrics(&convert(Signal::Metrics, &json).unwrap(), &Limits::default()).unwrap().batch;
        prop_assert_eq!(encode::metrics_json(&[back]), json);
        let batch = decode::traces(&trace_request.encode_to_vec(), &Limits::default()).unwrap().batch;
        let json = encode::traces_json(std::slice::from_ref(&batch));
        prop_assert_eq!(agree::normal_traces(traces(&json).unwrap()), agree::normal_traces(encode::traces(&batch)));
        let batch = decode::logs(&log_request.encode_to_vec(), &Limits::default()).unwrap().batch;
        let json = encode::logs_json(std::slice::from_ref(&batch));
        prop_assert_eq!(agree::normal_logs(logs(&json).unwrap()), agree::normal_logs(encode::logs(&batch)));
    }

    /// Only what is JSON may be accepted, and nothing may panic or be written that prost cannot read.
    #[test]
    fn changed_requests_are_refused_or_still_json(
        request in generate::traces(),
        seed: u64,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..4),
    ) {
        let mut json = Speller::odd(seed).traces(&request).into_bytes();
        for (place, byte, how) in changes {
            let at = place.index(json.len());
            match how {
                0 => json[at] = byte,
                1 => json[at] ^= 1 << (byte % 8),
                _ => drop(json.remove(at)),
            }
            if json.is_empty() {
                break;
            }
        }
        check(Signal::Spans, &json);
    }

    #[test]
    fn soup_is_refused_or_json(pieces in proptest::collection::vec(piece(), 0..24)) {
        let json = pieces.concat();
        for signal in [Signal::Spans, Signal::Logs, Signal::Metrics] {
            check(signal, json.as_bytes());
        }
    }
}

fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "{}",
        "[]",
        "null",
        "true",
        "0",
        "-1.5e3",
        "01",
        "\"x\"",
        "\"\\u12\"",
        " ",
        "\"resourceSpans\":[",
        "\"resourceLogs\":[",
        "\"resourceMetrics\":[",
        "{\"resource\":{",
        "\"attributes\":[{",
        "\"key\":\"k\",",
        "\"value\":{",
        "\"intValue\":",
        "\"1e3\"",
        "}]}]}",
    ])
}

/// Whether something is accepted; if so it must be what it says.
fn check(signal: Signal, json: &[u8]) -> bool {
    as_json::taken(signal, json, &Limits::default())
        .unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(json)))
}

/// A trace request that has everything once.
const FULL: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"sh\u00f6p"}}],
"droppedAttributesCount":1,"entityRefs":[{"schemaUrl":"u","type":"t","idKeys":["a","b"],"descriptionKeys":[]}]},
"scopeSpans":[{"scope":{"name":"lib","version":"1"},"spans":[{"traceId":"5B8EFFF798038103D269B633813FC60C",
"spanId":"EEE19B7EC3C1B174","parentSpanId":"","traceState":"a=b","flags":257,"name":"GET \ud83d\ude00","kind":2,
"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000,"attributes":[
{"key":"s","value":{"stringValue":"x"}},{"key":"i","value":{"intValue":"-9223372036854775808"}},
{"key":"d","value":{"doubleValue":"NaN"}},{"key":"b","value":{"boolValue":false}},{"key":"y","value":{"bytesValue":"-_8"}},
{"key":"a","value":{"arrayValue":{"values":[{},{"kvlistValue":{"values":[{"key":"k","value":null}]}}]}}}],
"events":[{"timeUnixNano":"5","name":"e","attributes":[]}],"links":[{"traceId":"01","spanId":"not hex"}],
"status":{"message":"no","code":2},"droppedLinksCount":3,"someday":{"new":[1,2,{"x":"]}"}]}}],"schemaUrl":"s"}]}]}"#;

#[test]
fn every_truncation_is_refused() {
    for end in 0..FULL.len() {
        let json = &FULL.as_bytes()[..end];
        assert!(convert(Signal::Spans, json).is_err(), "accepted {:?}", String::from_utf8_lossy(json));
    }
    convert(Signal::Spans, FULL).unwrap();
}

#[test]
fn every_changed_byte_is_refused_or_still_json() {
    let mut accepted = 0;
    for at in 0..FULL.len() {
        for byte in [b'"', b'\\', b'{', b'}', b'[', b']', b',', b':', b'0', b'n', b' ', b'\n', 0, 0x80, 0xff] {
            let mut json = FULL.as_bytes().to_vec();
            json[at] = byte;
            accepted += usize::from(check(Signal::Spans, &json));
        }
    }
    assert!(accepted > 1_000, "{accepted} accepted: letters in texts and names may change");
}

#[test]
fn a_full_request_is_read_whole() {
    let request = traces(FULL).unwrap();
    let group = &request.resource_spans[0];
    let span = &group.scope_spans[0].spans[0];
    assert_eq!(hex::encode(&span.trace_id), "5b8efff798038103d269b633813fc60c");
    assert_eq!((span.name.as_str(), span.kind, span.flags, span.dropped_links_count), ("GET 😀", 2, 257, 3));
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 1_000_000_000);
    assert_eq!(group.resource.as_ref().unwrap().entity_refs[0].id_keys, ["a", "b"]);
    // An id that is not hex has the wrong length in any message.
    assert_eq!((span.links[0].trace_id.len(), span.links[0].span_id.len()), (1, 1));
    let text = format!("{:?}", span.attributes);
    for part in ["IntValue(-9223372036854775808)", "DoubleValue(NaN)", "BoolValue(false)", "BytesValue([251, 255])"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.contains("ArrayValue(ArrayValue { values: [AnyValue { value: None }, AnyValue"), "{text}");
}

/// A log record around a value of its body, and a gauge around fields of its point.
fn body(value: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{value}}}]}}]}}]}}"#)
}

fn point(fields: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":[{{{fields}}}]}}}}]}}]}}]}}"#
    )
}

#[test]
fn values_are_read_in_every_spelling_that_proto3_json_has() {
    for (json, expected) in [
        ("null", "None"),
        ("{}", "Some(AnyValue { value: None })"),
        (r#"{"stringValue":null}"#, "Some(AnyValue { value: None })"),
        (r#"{"stringValue":""}"#, r#"Some(AnyValue { value: Some(StringValue("")) })"#),
        (r#"{"stringValue":"a\u0000b"}"#, r#"Some(AnyValue { value: Some(StringValue("a\0b")) })"#),
        (r#"{"\u0073tringValue":"x"}"#, r#"Some(AnyValue { value: Some(StringValue("x")) })"#),
        (r#"{"intValue":5.0}"#, "Some(AnyValue { value: Some(IntValue(5)) })"),
        (r#"{"intValue":1e3}"#, "Some(AnyValue { value: Some(IntValue(1000)) })"),
        (r#"{"intValue":"\u0031e3"}"#, "Some(AnyValue { value: Some(IntValue(1000)) })"),
        (r#"{"intValue":9007199254740993}"#, "Some(AnyValue { value: Some(IntValue(9007199254740993)) })"),
        (r#"{"intValue":"-9223372036854775808"}"#, "Some(AnyValue { value: Some(IntValue(-9223372036854775808)) })"),
        (r#"{"doubleValue":"1.5"}"#, "Some(AnyValue { value: Some(DoubleValue(1.5)) })"),
        (r#"{"doubleValue":-0}"#, "Some(AnyValue { value: Some(DoubleValue(-0.0)) })"),
        (r#"{"doubleValue":"-Infinity"}"#, "Some(AnyValue { value: Some(DoubleValue(-inf)) })"),
        (r#"{"bytesValue":""}"#, "Some(AnyValue { value: Some(BytesValue([])) })"),
        (r#"{"bytesValue":"+\/8="}"#, "Some(AnyValue { value: Some(BytesValue([251, 255])) })"),
        (r#"{"arrayValue":{}}"#, "Some(AnyValue { value: Some(ArrayValue(ArrayValue { values: [] })) })"),
        (r#"{"arrayValue":{"values":null}}"#, "Some(AnyValue { value: Some(ArrayValue(ArrayValue { values: [] })) })"),
        (
            r#"{"kvlistValue":{"values":[]}}"#,
            "Some(AnyValue { value: Some(KvlistValue(KeyValueList { values: [] })) })",
        ),
        // A name that repeats: the last value holds, messages are merged, lists go on.
        (r#"{"boolValue":true,"intValue":2}"#, "Some(AnyValue { value: Some(IntValue(2)) })"),
        (
            r#"{"arrayValue":{"values":[{"intValue":1}]},"arrayValue":{"values":[{"intValue":2}]}}"#,
            "Some(AnyValue { value: Some(ArrayValue(ArrayValue { values: [AnyValue { value: Some(IntValue(1)) }, \
             AnyValue { value: Some(IntValue(2)) }] })) })",
        ),
    ] {
        let request = logs(body(json)).unwrap_or_else(|e| panic!("{json}: {e}"));
        assert_eq!(format!("{:?}", request.resource_logs[0].scope_logs[0].log_records[0].body), expected, "{json}");
    }
}

#[test]
fn points_keep_what_other_readers_lose() {
    for (fields, expected) in [
        (r#""asDouble":"NaN""#, "Some(AsDouble(NaN))"),
        (r#""asDouble":"Infinity""#, "Some(AsDouble(inf))"),
        (r#""asDouble":"3.5""#, "Some(AsDouble(3.5))"),
        (r#""asDouble":0"#, "Some(AsDouble(0.0))"),
        (r#""asInt":"0""#, "Some(AsInt(0))"),
        (r#""asInt":-7"#, "Some(AsInt(-7))"),
        (r#""asInt":null"#, "None"),
    ] {
        let request = metrics(point(fields)).unwrap_or_else(|e| panic!("{fields}: {e}"));
        let text = format!("{:?}", request.resource_metrics[0].scope_metrics[0].metrics[0].data);
        assert!(text.contains(&format!("value: {expected}")), "{fields}: {text}");
    }
}

#[test]
fn nulls_empties_and_unknown_fields_are_nothing() {
    for json in ["{}", " {\n} ", r#"{"resourceSpans":null}"#, r#"{"resourceSpans":[]}"#, r#"{"resource_spans":[1]}"#] {
        assert_eq!(traces(json).unwrap(), ExportTraceServiceRequest::default(), "{json}");
    }
    let nulls = r#"{"resourceSpans":[{"resource":null,"schemaUrl":null,"scopeSpans":[{"scope":null,"spans":[
        {"traceId":null,"parentSpanId":null,"name":null,"kind":null,"startTimeUnixNano":null,"attributes":null,"events":null,
         "status":null,"flags":null,"droppedEventsCount":null}]}]},{"scopeSpans":null}]}"#;
    let request = traces(nulls).unwrap();
    assert_eq!(request.resource_spans.len(), 2);
    assert_eq!(request.resource_spans[0].scope_spans[0].spans[0], Default::default());
    let unknown =
        traces(r#"{"a":1,"b":[{"c":[null,{}]}],"resourceSpans":[{"d":"\"","scopeSpans":[{}]}],"e":{}}"#).unwrap();
    assert_eq!(unknown.resource_spans[0].scope_spans.len(), 1);
}

#[test]
fn an_id_that_is_not_hex_costs_its_span_and_no_other() {
    let good = r#"{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}"#;
    for id in [
        "zzz",
        "!!!INVALID_BASE64!!!",
        "W47/95gDgQPSabYzgT/GDA==",
        "0x5b8efff798038103d269b633813fc60c",
        "5b8",
        "not hex, not hex",
    ] {
        let json = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{id}","spanId":"eee19b7ec3c1b174"}},{good}]}}]}}]}}"#
        );
        let decoded = decode::traces(&convert(Signal::Spans, &json).unwrap(), &Limits::default()).unwrap();
        assert_eq!((decoded.batch.rows(), decoded.rejected.count), (1, 1), "{id}");
        assert_eq!(decoded.rejected.reason, "1 spans without a trace id of 16 bytes that are not all zero");
        let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"traceId":"{id}"}}]}}]}}]}}"#);
        let decoded = decode::logs(&convert(Signal::Logs, &json).unwrap(), &Limits::default()).unwrap();
        assert_eq!((decoded.batch.rows(), decoded.rejected.count), (1, 0), "{id}");
        assert_eq!(decoded.rejected.reason, "1 ids of a wrong length in links, log records or exemplars left out");
    }
}

#[test]
fn errors_tell_place_expectation_and_finding() {
    let span =
        |fields: &str| format!(r#"{{"resourceSpans":[{{}},{{"scopeSpans":[{{"spans":[{{}},{{{fields}}}]}}]}}]}}"#);
    for (json, expected) in [
        (
            span(r#""kind":"SPAN_KIND_SERVER""#),
            "at `resourceSpans[1].scopeSpans[0].spans[1].kind` (byte 57) expected an integer (OTLP/JSON has enums as integers, \
             not as names), found `\"SPAN_KIND_SERVER\"`",
        ),
        (
            span(r#""startTimeUnixNano":"-1""#),
            "at `resourceSpans[1].scopeSpans[0].spans[1].startTimeUnixNano` (byte 70) expected an integer from 0 to \
             18446744073709551615, found `\"-1\"`",
        ),
        (
            span(r#""attributes":[{"value":{"intValue":1.5}}]"#),
            "at `resourceSpans[1].scopeSpans[0].spans[1].attributes[0].value.intValue` (byte 85) expected an integer from \
             -9223372036854775808 to 9223372036854775807, found `1.5`",
        ),
        (
            span(r#""attributes":[{"value":{"bytesValue":"a"}}]"#),
            "at `resourceSpans[1].scopeSpans[0].spans[1].attributes[0].value.bytesValue` (byte 87) expected base64 in a string, \
             found `\"a\"`",
        ),
        (
            span(r#""events":{}"#),
            "at `resourceSpans[1].scopeSpans[0].spans[1].events` (byte 59) expected an array, found an object",
        ),
        (
            span(r#""events":[null]"#),
            "at `resourceSpans[1].scopeSpans[0].spans[1].events[0]` (byte 60) expected an object, found `null`",
        ),
        (
            span(r#""name":7"#),
            "at `resourceSpans[1].scopeSpans[0].spans[1].name` (byte 57) expected a string, found `7`",
        ),
        (
            span(r#""name":"a\ud800""#),
            "at `resourceSpans[1].scopeSpans[0].spans[1].name` (byte 59) expected a pair of surrogates, high before low, found \
             `\\ud800\"`",
        ),
        (String::new(), "at byte 0 expected an object, found the end of the body"),
        ("[]".into(), "at byte 0 expected an object, found an array"),
        ("null".into(), "at byte 0 expected an object, found `null`"),
        ("\u{feff}{}".into(), "at byte 0 expected an object, found a byte order mark"),
        ("{} {}".into(), "at byte 3 expected the end of the body, found an object"),
        ("{\"a\":1,}".into(), "at byte 7 expected a name in quotes, found `}`"),
        ("{\"a\" 1}".into(), "at byte 5 expected `:`, found `1`"),
        ("{'a':1}".into(), "at byte 1 expected a name in quotes, found `'a'`"),
        ("{\"a\":NaN}".into(), "at byte 5 expected a value, found `NaN`"),
        ("{\"a\":\"x\ny\"}".into(), "at byte 7 expected control characters in strings as escapes, found `\\n`"),
        (
            format!("{{\"a\":{}", "[".repeat(200)),
            "at byte 133 expected an unknown field of at most 128 levels, found an array",
        ),
        (format!("{{\"a\":\"{}", "x".repeat(60)), "at byte 66 expected the end of a string, found the end of the body"),
        (format!("{{\"a\":{}}}", "x".repeat(60)), &*format!("at byte 5 expected a value, found `{}…`", "x".repeat(40))),
    ] {
        let error = convert(Signal::Spans, &json).unwrap_err();
        assert_eq!(error.kind(), Kind::Fix);
        assert_eq!(
            error.to_string(),
            format!("expected an OTLP ExportTraceServiceRequest in JSON: {expected}"),
            "{json}"
        );
    }
    let error = convert(Signal::Spans, b"{\"a\":\"\xff\"}").unwrap_err();
    assert!(error.to_string().ends_with("at byte 6 expected UTF-8, found the byte 0xff"), "{error}");
}

#[test]
fn numbers_and_texts_that_say_nothing_clear_are_refused() {
    for value in [
        r#"{"intValue":""}"#,
        r#"{"intValue":" 5"}"#,
        r#"{"intValue":"0x10"}"#,
        r#"{"intValue":"+5"}"#,
        r#"{"intValue":01}"#,
        r#"{"intValue":"01"}"#,
        r#"{"intValue":9223372036854775808}"#,
        r#"{"intValue":true}"#,
        r#"{"doubleValue":""}"#,
        r#"{"doubleValue":"nan"}"#,
        r#"{"doubleValue":"inf"}"#,
        r#"{"doubleValue":1e999}"#,
        r#"{"doubleValue":NaN}"#,
        r#"{"boolValue":"true"}"#,
        r#"{"boolValue":1}"#,
        r#"{"boolValue":truer}"#,
        r#"{"stringValue":["x"]}"#,
        r#"{"arrayValue":{"values":[null]}}"#,
        r#"{"arrayValue":[]}"#,
        r#"{"kvlistValue":{"values":[{"key":null},null]}}"#,
        "5",
        r#""x""#,
    ] {
        assert!(convert(Signal::Logs, body(value)).is_err(), "accepted {value}");
    }
    for point in
        [r#""flags":-1"#, r#""flags":4294967296"#, r#""asInt":1.5"#, r#""timeUnixNano":"18446744073709551616""#]
    {
        let json = self::point(point);
        assert!(convert(Signal::Metrics, &json).is_err(), "accepted {json}");
    }
}

#[test]
fn values_nest_as_deeply_as_the_limit_and_the_walk_allow() {
    let nested = |levels: usize| {
        body(&format!("{}{{\"intValue\":1}}{}", r#"{"arrayValue":{"values":["#.repeat(levels), "]}}".repeat(levels)))
    };
    let limits = Limits { value_depth_max: 20, ..Limits::default() };
    let bytes = to_protobuf(Signal::Logs, nested(20).as_bytes(), &limits).unwrap();
    assert_eq!(decode::logs(&bytes, &limits).unwrap().batch.rows(), 1);
    let error = to_protobuf(Signal::Logs, nested(21).as_bytes(), &limits).unwrap_err();
    assert_eq!(error.kind(), Kind::Fix);
    assert!(error.to_string().ends_with("a value is nested more than 20 levels deep (value_depth_max)"), "{error}");
    assert!(decode::logs(&convert(Signal::Logs, nested(64)).unwrap(), &Limits::default()).is_ok());
    assert!(matches!(convert(Signal::Logs, nested(65)), Err(JsonError::TooDeep { max: 64, .. })));
    assert!(matches!(convert(Signal::Logs, nested(100_000)), Err(JsonError::TooDeep { max: 64, .. })));
}

#[test]
fn the_protobuf_form_is_at_most_four_times_as_long_and_bounded() {
    let zeros = |n: usize| point_list(&"0,".repeat(n));
    let converted = convert(Signal::Metrics, zeros(100_000)).unwrap();
    let json = zeros(100_000).len();
    assert!(converted.len() > 3 * json && converted.len() <= 4 * json, "{} bytes of {json}", converted.len());
    // Many empty messages, with short and with long lengths.
    let empties = format!(r#"{{"resourceSpans":[{}{{}}]}}"#, "{},".repeat(100_000));
    assert!(convert(Signal::Spans, &empties).unwrap().len() <= 4 * empties.len());
    let deep = format!("{}{}{{}}{}", r#"{"arrayValue":{"values":["#.repeat(8), "{},".repeat(100_000), "]}}".repeat(8));
    let deep = body(&deep);
    assert!(convert(Signal::Logs, &deep).unwrap().len() <= 4 * deep.len());
    let limits = Limits { body_bytes_max: 100_000, ..Limits::default() };
    let error = to_protobuf(Signal::Metrics, zeros(20_000).as_bytes(), &limits).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
    assert_eq!(
        error.to_string(),
        "expected a request of at most 100000 bytes in protobuf, found more (body_bytes_max)"
    );
}

fn point_list(numbers: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{"explicitBounds":[{numbers}0]}}]}}}}]}}]}}]}}"#
    )
}

#[test]
fn any_bytes_end_in_an_answer() {
    let mut dice = crate::scramble::Dice(7);
    for _ in 0..2_000 {
        let bytes: Vec<u8> =
            (0..dice.roll(60)).map(|_| b"{}[]\",:\\u0ae-.\x00\xff \nresourceSpans"[dice.roll(31)]).collect();
        let answer = catch_unwind(AssertUnwindSafe(|| convert(Signal::Spans, &bytes).is_ok()));
        assert!(answer.is_ok(), "{bytes:?}");
    }
}
