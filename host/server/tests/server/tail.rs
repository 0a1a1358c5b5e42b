//! Live tails by real clients: each row once and soon, whichever process stored it, over lost connections and killed servers;
//! bounded, and ended where they must.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value as Any};
use prost::Message as _;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, PROTOBUF, Server, ended, key, logs, must, prism, spans, until};

/// An answer that goes on.
struct Tail {
    lines: BufReader<reqwest::blocking::Response>,
    cursor: String,
    rows: usize,
}

impl Tail {
    fn begin(server: &Server, query: &str, headers: &[(&str, &str)]) -> Tail {
        let mut request = server.client.post(format!("{}/v1/tail", server.http)).body(query.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().expect("an answer");
        assert_eq!(response.status().as_u16(), 200, "{query}");
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        let mut tail = Tail { lines: BufReader::new(response), cursor: String::new(), rows: 0 };
        let first = tail.line();
        assert!(first["columns"].is_array(), "{first}");
        tail
    }

    fn of(server: &Server, query: &str) -> Tail {
        Tail::begin(server, query, &[])
    }

    /// The next line; null at the end.
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("reads");
        let line: Value = if line.is_empty() { Value::Null } else { serde_json::from_str(&line).expect("JSON") };
        if let Some(cursor) = line["cursor"].as_str() {
            (self.cursor, self.rows) = (cursor.to_owned(), 0);
        }
        self.rows += usize::from(line["row"].is_object());
        line
    }

    /// The next line that is not about where it is. Heartbeats come for ever where a row is lost.
    fn said(&mut self) -> Value {
        let began = Instant::now();
        loop {
            let line = self.line();
            if line["cursor"].is_null() && line["heartbeat"].is_null() {
                return line;
            }
            assert!(began.elapsed() < PATIENCE, "only heartbeats: {line}");
        }
    }

    /// The next cursor.
    fn place_said(&mut self) -> String {
        while self.line()["cursor"].is_null() {}
        self.place()
    }

    /// So many values of a column.
    fn take(&mut self, column: &str, count: usize) -> Vec<String> {
        let value = |row: Value| row["row"][column].as_str().map_or_else(|| panic!("no row: {row}"), str::to_owned);
        (0..count).map(|_| value(self.said())).collect()
    }

    /// Where the rows that it has not taken begin.
    fn place(&self) -> String {
        format!("{}.{}", self.cursor, self.rows)
    }
}

fn send(server: &Server, bodies: &[String]) {
    let mut request = logs(bodies.len());
    for (record, body) in request.resource_logs[0].scope_logs[0].log_records.iter_mut().zip(bodies) {
        record.body = Some(AnyValue { value: Some(Any::StringValue(body.clone())) });
    }
    let sent = server.send("POST", "/v1/logs", &[PROTOBUF], request.encode_to_vec());
    assert_eq!(sent.status, 200, "{}", sent.text());
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("line {n:04}")).collect()
}

fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics").text();
    let value = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap_or(0)
}

#[test]
fn matching_rows_come_once_as_they_are_stored_late_ones_too() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    send(&server, &numbered(0..5));
    let mut all = Tail::of(&server, "from logs");
    let document = json!({"from": "logs", "where": "n > 2 and body contains 'line'", "select": {"n": "n", "text": "body"},
        "let": {"n": "number(substr(body, 6, 4))"}});
    let mut some = Tail::of(&server, &document.to_string());
    send(&server, &numbered(1..5));
    assert_eq!(all.take("body", 4), numbered(1..5));
    assert_eq!(some.said(), json!({"row": {"n": 3, "text": "line 0003"}}));
    assert_eq!(some.said(), json!({"row": {"n": 4, "text": "line 0004"}}));
    // Rows of yesterday are shown when they come.
    let mut late = logs(1);
    late.resource_logs[0].scope_logs[0].log_records[0].time_unix_nano -= 86_400_000_000_000;
    assert_eq!(server.send("POST", "/v1/logs", &[PROTOBUF], late.encode_to_vec()).status, 200);
    assert_eq!(all.take("body", 1), ["line 0"]);
    send(&server, &["other".into(), "line 0009".into()]);
    assert_eq!(all.take("body", 2), ["other", "line 0009"]);
    assert_eq!(some.said()["row"]["n"], 9);
    // What was there before is shown where it is asked for.
    let mut before = Tail::of(&server, "from logs last 10m limit 12");
    let mut shown = before.take("body", 11);
    send(&server, &["last".into()]);
    shown.extend(before.take("body", 1));
    shown.sort();
    let mut sent = [numbered(0..5), numbered(1..5), vec!["other".into(), "line 0009".into(), "last".into()]].concat();
    sent.sort();
    assert_eq!(shown, sent);
    assert_eq!(before.said()["end"]["code"], "limit");
    assert_eq!(before.said(), Value::Null, "the answer is over");
}

#[test]
fn all_signals_can_be_followed_at_once() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let mut events = Tail::of(&server, "from events where signal in ('span', 'log') select signal, name, body");
    let mut spans_of = Tail::of(&server, "from spans where name = 'step 1' select name, duration");
    assert_eq!(server.traces(&spans(1, 2)).status, 200);
    assert_eq!(events.take("signal", 2), ["span", "span"]);
    send(&server, &["a line".into()]);
    assert_eq!(events.said(), json!({"row": {"signal": "log", "name": null, "body": "a line"}}));
    assert_eq!(spans_of.said(), json!({"row": {"name": "step 1", "duration": 1_000_000}}));
}

#[test]
fn what_another_process_stores_is_shown_too() {
    let data = tempfile::tempdir().expect("a folder");
    let (here, there) = (Server::dev(data.path()), Server::dev(data.path()));
    let mut tails = [Tail::of(&here, "from logs"), Tail::of(&there, "from logs")];
    for n in 0..20 {
        send(if n % 2 == 0 { &here } else { &there }, &numbered(n..n + 1));
        for tail in &mut tails {
            assert_eq!(tail.take("body", 1), numbered(n..n + 1));
        }
    }
}

#[test]
fn a_lost_connection_goes_on_anywhere_without_a_hole_or_a_repetition() {
    let data = tempfile::tempdir().expect("a folder");
    let (here, there) = (Server::dev(data.path()), Server::dev(data.path()));
    let query = "from logs where body != 'skip'";
    let mut tail = Tail::of(&here, query);
    let mut shown = Vec::new();
    let mut next = 0;
    for turn in 0..12 {
        for (server, count) in [(&here, 7), (&there, 3)] {
            let mut bodies = numbered(next..next + count);
            next += count;
            bodies.insert(1, "skip".into());
            send(server, &bodies);
        }
        // In the middle of a frame, between two, and with rows that nobody read.
        shown.extend(tail.take("body", (turn * 5) % 10 + 1));
        let document = json!({"from": "logs", "where": "body != 'skip'", "cursor": tail.place()});
        tail = Tail::of(if turn % 3 == 0 { &there } else { &here }, &document.to_string());
    }
    shown.extend(tail.take("body", next - shown.len()));
    send(&here, &["end".into()]);
    assert_eq!(tail.take("body", 1), ["end"], "nothing else");
    shown.sort();
    assert_eq!(shown, numbered(0..next));
}

#[test]
fn a_cursor_holds_until_the_first_row_behind_it() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let from = |cursor: &str| Tail::of(&server, &json!({"from": "logs", "cursor": cursor}).to_string());
    let mut tail = Tail::of(&server, "from logs");
    send(&server, &numbered(0..6));
    assert_eq!(tail.take("body", 3), numbered(0..3));
    // Who comes back and leaves before the first row has lost nothing, and sees nothing again.
    let first = from(&tail.place()).place_said();
    let second = from(&first).place_said();
    assert_eq!(from(&second).take("body", 3), numbered(3..6));
    // Who says that more was taken than there is has taken all.
    let mut all = from(&format!("{}.{}", tail.cursor, u64::MAX));
    send(&server, &["one more".into()]);
    assert_eq!(all.take("body", 1), ["one more"]);
}

#[test]
fn what_was_stored_before_is_shown_piece_by_piece() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[tail]\nheartbeat_ms = 1\n");
    send(&server, &["needle first".into()]);
    for _ in 0..200 {
        send(&server, &numbered(0..20));
    }
    send(&server, &["needle last".into()]);
    let mut tail = Tail::of(&server, "from logs last 10m where body contains 'needle'");
    let mut cursors = vec![tail.place_said()];
    assert_eq!(tail.take("body", 1), ["needle first"]);
    cursors.push(tail.cursor.clone());
    // It is not silent while nothing matches: a heartbeat is due each millisecond.
    let (mut heartbeats, began) = (0, Instant::now());
    let last = loop {
        let line = tail.line();
        heartbeats += usize::from(line["heartbeat"].is_string());
        if line["cursor"].is_string() && cursors.last() != Some(&tail.cursor) {
            cursors.push(tail.cursor.clone());
        }
        if line["row"].is_object() {
            break line;
        }
        assert!(began.elapsed() < PATIENCE, "{line}");
    };
    assert_eq!(last["row"]["body"], "needle last");
    assert!(heartbeats > 0 && cursors.len() > 3, "{heartbeats} {}", cursors.len());
    // All of them say when that was looked for, and not when it was said: it stood then, and may be gone later. The time is in the
    // first 17 bytes.
    let time = |cursor: &String| cursor[..22].to_owned();
    assert!(cursors.iter().all(|cursor| time(cursor) == time(&cursors[0])), "{cursors:?}");
    let now = tail.place_said();
    assert_ne!(time(&now), time(&cursors[0]));
    // A cursor from the middle leads on.
    let again = json!({"from": "logs", "where": "body contains 'needle'", "cursor": cursors[cursors.len() / 2]});
    assert_eq!(Tail::of(&server, &again.to_string()).take("body", 1), ["needle last"]);
}

#[test]
fn what_cannot_be_read_at_first_is_never_shown_as_new() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    send(&server, &numbered(0..3));
    let mut tail = Tail::of(&server, "from logs last 10m");
    assert_eq!(tail.take("body", 3), numbered(0..3));
    let place = tail.place();
    drop(tail);
    until("nothing is followed", || metric(&server, "prism_server_tail_signals") == 0);
    let segment = segments(&data.path().join("hot")).pop().expect("a segment");
    let aside = segment.with_extension("aside");
    std::fs::rename(&segment, &aside).expect("moves");
    std::fs::create_dir(&segment).expect("a folder where the file was");
    for query in ["from logs", "from logs last 10m"] {
        let refused = server.send("POST", "/v1/tail", &[], query.into());
        assert_eq!(refused.status, 503, "{query}: {}", refused.text());
    }
    // Who comes back knows what it has seen.
    let mut again = Tail::of(&server, &json!({"from": "logs", "cursor": place}).to_string());
    again.place_said();
    std::fs::remove_dir(&segment).expect("removes");
    std::fs::rename(&aside, &segment).expect("moves");
    send(&server, &["new".into()]);
    assert_eq!(again.take("body", 1), ["new"]);
}

fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    let of = |path: std::path::PathBuf| if path.is_dir() { segments(&path) } else { vec![path] };
    entries.flat_map(of).filter(|path| path.extension().is_some_and(|ending| ending == "seg")).collect()
}

/// The events of an answer up to one that is a row with this body: (id, event, data).
fn events(lines: &mut impl std::io::BufRead, until_body: &str) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    let (mut id, mut name, mut data) = (String::new(), String::new(), String::new());
    let began = Instant::now();
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).expect("reads") > 0, "{all:?}");
        assert!(began.elapsed() < PATIENCE, "{until_body} does not come: {all:?}");
        match line.trim_end_matches('\n').split_once(": ") {
            Some(("id", value)) => value.clone_into(&mut id),
            Some(("event", value)) => value.clone_into(&mut name),
            Some(("data", value)) => value.clone_into(&mut data),
            _ if line == "\n" && !data.is_empty() => {
                let value: Value = serde_json::from_str(&data).expect("JSON");
                let done = value["body"] == until_body;
                all.push((id.clone(), std::mem::take(&mut name), value));
                data.clear();
                if done {
                    return all;
                }
            }
            _ => {}
        }
    }
}

#[test]
fn server_sent_events_have_ids_that_bring_a_browser_back() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let url = format!("{}/v1/tail?q=from+logs+select+body", server.http);
    let connect = |id: Option<&str>| {
        let mut request = server.client.get(&url).header("accept", "text/event-stream");
        if let Some(id) = id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().expect("an answer");
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        BufReader::new(response)
    };
    let mut stream = connect(None);
    send(&server, &numbered(0..6));
    let first = events(&mut stream, "line 0002");
    assert_eq!(first[0].1, "columns");
    assert_eq!(first[1..].iter().map(|(.., row)| row["body"].clone()).collect::<Vec<_>>(), numbered(0..3));
    drop(stream);
    send(&server, &numbered(6..8));
    let (id, ..) = first.last().expect("an event");
    let rest = events(&mut connect(Some(id)), "line 0007");
    assert_eq!(rest[1..].iter().map(|(.., row)| row["body"].clone()).collect::<Vec<_>>(), numbered(3..8));
    // Who has all rows that it asked for is told not to come again.
    let mut stream = BufReader::new(
        server.client.get(format!("{url}+limit+2")).header("accept", "text/event-stream").send().expect("an answer"),
    );
    send(&server, &numbered(8..11));
    let last = events(&mut stream, "line 0009");
    let id = &last.last().expect("an event").0;
    let again = server.client.get(format!("{url}+limit+2")).header("last-event-id", id).send().expect("an answer");
    assert_eq!(again.status().as_u16(), 204);
}

#[test]
fn what_no_tail_can_show_is_refused_with_what_to_do() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let refused = |body: &str, status: u16, code: &str| {
        let answer = server.send("POST", "/v1/tail", &[], body.as_bytes().to_vec());
        let error = &answer.json()["error"];
        assert_eq!((answer.status, error["code"].as_str()), (status, Some(code)), "{body}: {}", answer.text());
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        error["hint"].as_str().unwrap_or_default().to_owned()
    };
    for body in [
        "from logs select count() as n",
        "from logs by service.name",
        "from logs order body",
        "from logs where body = 'a' order count()",
        "from logs by bin(time, 1m) select count() as n fill 0",
        "from logs budget bytes 1GB",
        "from traces",
        "from spans where parent.name = 'a'",
        "from spans select self_duration",
        "from spans match (a: name = 'a', b: name = 'b' where a >> b)",
        r#"{"from": "logs", "dry_run": true}"#,
        r#"{"from": "spans", "join": {"logs": "true", "on": "trace"}, "select": {"n": "logs.count"}}"#,
    ] {
        assert_ne!(refused(body, 400, "query_not_for_tail"), "", "{body}: what to do instead");
    }
    refused("from logs from t'2026-01-01T00:00:00Z' to t'2026-01-02T00:00:00Z'", 400, "bad_request");
    refused("from logs last 2d", 400, "bad_request");
    refused("from logs where", 400, "query_syntax");
    refused("from logs where body =~ '('", 400, "query_regex");
    refused("", 400, "query_syntax");
    refused(&format!("from logs where body = '{}'", "x".repeat(65_512)), 413, "query_too_long");
    let with = |cursor: &str| json!({"from": "logs", "cursor": cursor}).to_string();
    let long = "A".repeat(60_000);
    for cursor in ["x", "AAAA", ".", "..", "A.-1", &long, &format!("{long}.99999999999999999999")] {
        refused(&with(cursor), 400, "query_cursor");
    }
    let tail = Tail::of(&server, "from spans");
    assert_eq!(refused(&with(&tail.place()), 400, "query_cursor"), "", "of another query, or damaged");
    for path in ["/v1/tail", "/v1/tail?q=", "/v1/tail?q=%ff", "/v1/tail?q=from+logs&cursor=%00", "/v1/tail?q=a&q=b"] {
        assert_eq!(server.get(path).status, 400, "{path}");
    }
    let odd = server.send("GET", "/v1/tail?q=from+logs", &[("last-event-id", "ü")], Vec::new());
    assert_eq!(odd.status, 400);
    assert_eq!(server.send("PUT", "/v1/tail", &[], Vec::new()).status, 405);
    drop(tail);
    until("no tail is left", || metric(&server, "prism_server_tails") == 0);
}

#[test]
fn tails_are_bounded_by_tenant_and_free_when_their_clients_leave() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[tail]\ntenant_concurrent_max = 2\nheartbeat_ms = 50\n");
    let first = Tail::of(&server, "from logs");
    let mut second = Tail::of(&server, "from logs");
    let third = server.send("POST", "/v1/tail", &[], b"from logs".to_vec());
    assert_eq!((third.status, third.header("retry-after")), (429, "10"), "{}", third.text());
    assert!(third.text().contains("tail.tenant_concurrent_max"), "{}", third.text());
    assert_eq!(metric(&server, "prism_server_tails_refused_total"), 1);
    // Heartbeats say where it is, and find out who is gone.
    let mut heartbeat = second.line();
    while heartbeat["heartbeat"].is_null() {
        heartbeat = second.line();
    }
    assert!(heartbeat["heartbeat"].as_str().is_some_and(|time| time.ends_with('Z')) && !second.cursor.is_empty());
    drop(first);
    until("a place is free", || {
        server.client.post(format!("{}/v1/tail", server.http)).body("from logs").send().expect("an answer").status()
            == 200
    });
    drop(second);
    until("all places are free", || metric(&server, "prism_server_tails") == 0);
    until("nothing is followed", || metric(&server, "prism_server_tail_signals") == 0);
    let looks = metric(&server, "prism_server_tail_looks_total");
    send(&server, &numbered(0..1));
    assert_eq!(metric(&server, "prism_server_tail_looks_total"), looks, "nobody looks any more");
}

#[test]
fn a_client_that_reads_too_slowly_is_told_and_holds_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[tail]\nframes_kept = 3\n");
    let mut stream = TcpStream::connect(server.address()).expect("connects");
    let query = "from logs select n, body";
    let head = format!("POST /v1/tail HTTP/1.0\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{query}", query.len());
    stream.write_all(head.as_bytes()).expect("writes");
    until("it has begun", || metric(&server, "prism_server_tails") == 1);
    // More than all buffers on the way take.
    let long = "x".repeat(512 << 10);
    let sent = 60;
    for n in 0..sent {
        send(&server, &[format!("{n} {long}")]);
    }
    send(&server, &["end".into()]);
    stream.set_read_timeout(Some(PATIENCE)).expect("sets");
    let mut lines = BufReader::new(stream);
    let (mut shown, mut skipped) = (Vec::new(), 0);
    let began = Instant::now();
    loop {
        let mut line = String::new();
        assert!(began.elapsed() < PATIENCE, "the last row does not come: {shown:?} {skipped}");
        assert!(lines.read_line(&mut line).expect("reads") > 0, "the answer goes on");
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(body) = line["row"]["body"].as_str() {
            if body == "end" {
                break;
            }
            shown.push(body.split(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a number"));
        }
        if let Some(rows) = line["skipped"]["rows"].as_u64() {
            skipped += rows;
            if shown.len() as u64 + skipped == sent + 1 {
                // The last row was skipped, too: another shows that it goes on.
                send(&server, &["end".into()]);
            }
        }
    }
    assert!(skipped > 0 && shown.is_sorted() && shown.len() as u64 + skipped >= sent, "{shown:?} {skipped}");
    assert!(metric(&server, "prism_server_tail_rows_skipped_total") >= skipped);
    lines.get_ref().shutdown(Shutdown::Both).expect("closes");
    until("it is gone", || metric(&server, "prism_server_tails") == 0);
}

/// Much is stored while a tail says what was there before: all of it is shown, and once.
#[test]
fn a_tail_that_begins_with_much_catches_up_with_what_is_stored_meanwhile() {
    let dir = tempfile::tempdir().expect("a folder");
    // A client that takes nothing for a while is not cut off.
    let settings = "[tail]\nframes_kept = 3\n[http]\nsend_idle_timeout_ms = 600000\n";
    let server = Server::configured(dir.path(), settings);
    let long = "x".repeat(512 << 10);
    let (before, meanwhile) = (60, 560);
    for n in 0..before {
        send(&server, &[format!("{n} {long}")]);
    }
    let mut stream = TcpStream::connect(server.address()).expect("connects");
    let query = "from logs last 10m select body";
    let head = format!("POST /v1/tail HTTP/1.0\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{query}", query.len());
    stream.write_all(head.as_bytes()).expect("writes");
    until("it has begun", || metric(&server, "prism_server_tails") == 1);
    // It has said no more than all buffers on the way take. More than it is given in one step.
    for n in before..before + meanwhile {
        send(&server, &[format!("{n} ")]);
    }
    stream.set_read_timeout(Some(PATIENCE)).expect("sets");
    let mut lines = BufReader::new(stream);
    let (mut shown, began) = (Vec::new(), Instant::now());
    while shown.len() < before + meanwhile {
        let mut line = String::new();
        assert!(began.elapsed() < PATIENCE, "the last row does not come: {shown:?}");
        assert!(lines.read_line(&mut line).expect("reads") > 0, "the answer goes on");
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        assert!(line["skipped"].is_null() && line["gap"].is_null(), "{line}");
        if let Some(body) = line["row"]["body"].as_str() {
            shown.push(body.split(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("a number"));
        }
    }
    shown.sort_unstable();
    assert_eq!(shown, Vec::from_iter(0..before + meanwhile));
    // And it goes on.
    send(&server, &["end".into()]);
    let mut line = String::new();
    while !line.contains("\"end\"") {
        line.clear();
        assert!(began.elapsed() < 2 * PATIENCE && lines.read_line(&mut line).expect("reads") > 0, "{line}");
    }
}

#[test]
fn a_server_that_stops_ends_its_tails_in_order() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let mut tail = Tail::of(&server, "from logs");
    send(&server, &numbered(0..2));
    assert_eq!(tail.take("body", 2), numbered(0..2));
    server.terminate();
    let end = tail.said();
    assert_eq!(end["end"]["code"], "stopping", "{end}");
    assert_eq!(tail.said(), Value::Null);
    assert!(server.ended(), "a clean end");
    let server = Server::dev(data.path());
    send(&server, &numbered(2..3));
    let again = json!({"from": "logs", "cursor": tail.place()});
    assert_eq!(Tail::of(&server, &again.to_string()).take("body", 1), numbered(2..3));
}

#[test]
fn who_may_not_read_any_more_reads_no_more() {
    let data = tempfile::tempdir().expect("a folder");
    for tenant in ["shop", "bank"] {
        must(data.path(), &["tenant", "create", tenant]);
    }
    let of = |tenant: &str, roles: &str| key(data.path(), tenant, roles);
    let (ingest, revoked, brief) = (of("shop", "ingest"), of("shop", "query"), of("bank", "query"));
    let server = Server::start(data.path(), &[]);
    let tail = |key: &str| Tail::begin(&server, "from logs", &[("x-api-key", key)]);
    let (mut shop, mut bank) = (tail(&revoked), tail(&brief));
    let sent = server.send("POST", "/v1/logs", &[PROTOBUF, ("x-api-key", &ingest)], logs(1).encode_to_vec());
    assert_eq!((sent.status, shop.take("body", 1)), (200, vec!["line 0".to_owned()]));
    must(data.path(), &["key", "revoke", revoked.split('_').nth(1).expect("an id")]);
    let end = shop.said();
    assert_eq!(end["end"]["code"], "unauthenticated", "{end}");
    must(data.path(), &["tenant", "erase", "bank", "--yes"]);
    let end = bank.said();
    assert!(end["end"]["code"] == "unauthenticated" || end["end"]["code"] == "forbidden", "{end}");
    until("no tail is left", || metric(&server, "prism_server_tails") == 0);
}

/// `prism tail` beside a server; killed when dropped.
struct Command {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Command {
    fn run(data: &Path, url: &str, args: &[&str]) -> Command {
        let mut command = prism(data);
        command.args(["tail", "--url", url]).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (send, lines) = mpsc::channel();
        // Ends with the command, or with whoever reads.
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Command { child, lines }
    }

    fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => {
                drop(self.child.kill());
                panic!("no line: {error}: {}", self.told());
            }
        }
    }

    /// Waits for the end that comes by itself; whether it was a good one, the lines that nobody read, and what it told.
    fn end(mut self) -> (bool, Vec<String>, String) {
        let ended = ended(&mut self.child);
        (ended, self.lines.iter().collect(), self.told())
    }

    fn told(&mut self) -> String {
        let mut told = String::new();
        self.child.stderr.take().expect("once").read_to_string(&mut told).expect("reads");
        told
    }

    /// Ctrl-C; whether it ended well, and what it told.
    fn interrupt(mut self) -> (bool, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("kills");
        let ended = ended(&mut self.child);
        (ended, self.told())
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Answers one connection after the other with these heads and bodies, and ends each.
fn answering(answers: &'static [(&str, &str)]) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = answers.iter().map(move |(head, body)| {
        let (mut stream, _) = listener.accept().expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("sets");
        let mut request = BufReader::new(stream.try_clone().expect("clones"));
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            assert!(request.read_line(&mut line).expect("reads") > 0, "a whole request");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut document = vec![0; length];
        request.read_exact(&mut document).expect("reads");
        write!(stream, "HTTP/1.1 {head}\r\nconnection: close\r\n\r\n{body}").expect("writes");
        String::from_utf8(document).expect("UTF-8")
    });
    (url, std::thread::spawn(move || asked.collect()))
}

#[test]
fn the_command_shows_all_rows_and_ends_when_all_are_shown() {
    let data = tempfile::tempdir().expect("a folder");
    let begun =
        "{\"columns\":[{\"name\":\"body\",\"type\":\"string\"}]}\n{\"cursor\":\"C\"}\n{\"row\":{\"body\":\"a\"}}\n";
    let row = || vec![json!({ "body": "a" }).to_string()];
    // The connection is lost before the last words: the next answer says that nothing is left.
    let answers: &[_] = Box::leak(Box::new([("200 OK", begun), ("204 No Content", "")]));
    let (url, server) = answering(answers);
    let args = ["from logs select body limit 1", "--output", "ndjson"];
    let (well, lines, told) = Command::run(data.path(), &url, &args).end();
    assert!(well && lines == row(), "{lines:?} {told}");
    let asked = server.join().expect("no panic");
    assert!(asked[1].contains("\"C.1\""), "{asked:?}");
    // Rows and their end in one piece.
    let end = format!("{begun}{}\n", json!({"end": {"code": "forbidden", "message": "no more"}}));
    let answers: &[_] = Box::leak(Box::new([("200 OK", &*Box::leak(end.into_boxed_str()))]));
    let (url, server) = answering(answers);
    let (well, lines, told) = Command::run(data.path(), &url, &args).end();
    assert!(!well && lines == row() && told.contains("no more"), "{lines:?} {told}");
    server.join().expect("no panic");
}

#[test]
fn the_command_shows_rows_and_goes_on_when_its_server_is_killed() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let url = server.http.clone();
    let mut command = Command::run(data.path(), &url, &["from logs select body", "--output", "ndjson"]);
    until("it is connected", || metric(&server, "prism_server_tails") == 1);
    let rows = |command: &mut Command, count| (0..count).map(|_| command.line()).collect::<Vec<_>>();
    let as_rows = |range| numbered(range).iter().map(|body| json!({ "body": body }).to_string()).collect::<Vec<_>>();
    send(&server, &numbered(0..3));
    assert_eq!(rows(&mut command, 3), as_rows(0..3));
    let address = server.address().to_owned();
    drop(server);
    // What is stored while it is away, by another process.
    let other = Server::dev(data.path());
    send(&other, &numbered(3..5));
    let server = Server::at(data.path(), &address);
    assert_eq!(rows(&mut command, 2), as_rows(3..5));
    send(&server, &numbered(5..6));
    assert_eq!(rows(&mut command, 1), as_rows(5..6));
    let (well, told) = command.interrupt();
    assert!(well && told.contains("warning: ") && told.contains("connected again"), "{told}");
    until("the server has noticed", || metric(&server, "prism_server_tails") == 0);
}

#[test]
fn the_command_is_good_to_read_and_says_what_is_wrong() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let mut command = Command::run(data.path(), &server.http, &["from", "spans", "--last", "5m"]);
    until("it is connected", || metric(&server, "prism_server_tails") == 1);
    assert_eq!(server.traces(&spans(3, 1)).status, 200);
    let line = command.line();
    let (time, rest) = line.split_once(' ').expect("a time");
    assert_eq!(
        (time.len(), rest.split(" trace_id=").next()),
        ("12:00:00.000".len(), Some("shop step 0 1ms")),
        "{line}"
    );
    assert_eq!(command.interrupt(), (true, String::new()));
    for (args, told) in [
        (&["from logs select count() as n"][..], "plain rows"),
        (&["from logs where ("], "is not closed"),
        (&["from logs", "--last", "x"], "expected"),
        (&["from logs", "--last", "3d"], "tail.last_max_ms"),
    ] {
        let output = prism(data.path()).args(["tail", "--url", &server.http]).args(args).output().expect("runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(told), "{args:?}: {error}");
    }
    drop(server);
    let output = prism(data.path()).args(["tail", "--url", "http://127.0.0.1:1"]).output().expect("runs");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no answer"));
}
