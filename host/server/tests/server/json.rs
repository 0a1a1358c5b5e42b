//! OTLP/JSON over HTTP: what is sent is stored, and answered in JSON.

use std::io::Write as _;

use crate::harness::Server;

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

#[test]
fn json_is_stored_and_answered_in_json() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos();
    let span = |id: &str, name: &str| {
        format!(
            r#"{{"traceId":"{id}","spanId":"EEE19B7EC3C1B174","name":"{name}","kind":2,"startTimeUnixNano":"{now}",
                "endTimeUnixNano":{now},"attributes":[{{"key":"ratio","value":{{"doubleValue":"NaN"}}}}],"future":[{{}}]}}"#
        )
    };
    let spans =
        |spans: String| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#).into_bytes();
    let good = "5b8efff798038103d269b633813fc60c";

    let answer = server.send("POST", "/v1/traces", &[JSON], spans(span(good, "GET \\u002f")));
    assert_eq!((answer.status, answer.header("content-type"), &*answer.text()), (200, "application/json", "{}"));
    assert!(!answer.header("prism-token").is_empty());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&spans([span(good, "b"), span("W47/95gDgQPSabYzgT/GDA==", "c")].join(","))).expect("packs");
    let answer =
        server.send("POST", "/v1/traces", &[JSON, ("content-encoding", "gzip")], gzip.finish().expect("packs"));
    assert_eq!(answer.status, 200);
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], "1");
    assert_eq!(partial["errorMessage"], "1 spans without a trace id of 16 bytes that are not all zero");
    assert_eq!(server.query("from spans last 1h where name = 'GET /' or name = 'b' select count() as n").cell(), 2);

    let log = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"timeUnixNano":"{now}","body":{{"arrayValue":{{}}}}}}]}}]}}]}}"#
    );
    let answer = server.send("POST", "/v1/logs", &[JSON], log.into_bytes());
    assert_eq!((answer.status, &*answer.text()), (200, "{}"));
    assert_eq!(server.query("from logs last 1h select count() as n").cell(), 1);
}

#[test]
fn the_empty_request_succeeds_and_no_json_is_told_its_place() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let answer = server.send("POST", "/v1/traces", &[JSON], b"{}".to_vec());
    assert_eq!((answer.status, &*answer.text()), (200, "{}"));
    for (body, message) in [
        ("", "at byte 0 expected an object, found the end of the body"),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"SERVER"}]}]}]}"#,
            "`resourceSpans[0].scopeSpans[0].spans[0].kind`",
        ),
    ] {
        let answer = server.send("POST", "/v1/traces", &[JSON], body.into());
        assert_eq!((answer.status, answer.header("content-type")), (400, "application/json"));
        assert!(answer.json()["message"].as_str().is_some_and(|m| m.contains(message)), "{}", answer.text());
    }
}
