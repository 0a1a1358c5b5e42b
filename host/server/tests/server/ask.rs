//! Questions that are explained, paged, limited and given up.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use prost::Message as _;

use crate::harness::{PROTOBUF, Server, must, run, spans, until};

/// For what happens soon: no test waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_query_is_explained_paged_and_refused_over_its_budget() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[query]\ntenants = [\"default: bytes 1GB\"]\n");
    for batch in 1..4 {
        let sent = server.send("POST", "/v1/traces", &[PROTOBUF], spans(batch * 100, 40).encode_to_vec());
        assert_eq!(sent.status, 200);
    }
    let ask = |path: &str, text: &str| server.send("POST", path, &[], text.as_bytes().to_vec());
    let plan = ask("/v1/query/explain", "from spans last 1h where exists(name) by name select count() as n").json();
    assert!(plan["rows"].as_array().is_some_and(Vec::is_empty) && plan["stats"]["rows_scanned"] == 0, "{plan}");
    assert!(plan["explain"]["estimate"]["rows_most"] == 120, "{plan}");
    let dry = ask("/v1/query", r#"{"from": "spans", "select": {"n": "count()"}, "dry_run": true}"#).json();
    assert!(dry["explain"]["text"].as_str().is_some_and(|text| text.contains("read spans from")), "{dry}");

    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = cursor.map(|cursor| format!(" cursor '{cursor}'")).unwrap_or_default();
        let answer = ask("/v1/query", &format!("from spans last 1h select span_id, name limit 50{page}")).json();
        seen.extend(answer["rows"].as_array().expect("rows").iter().map(ToString::to_string));
        cursor = answer["cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 120);
    let bad = ask("/v1/query", "from spans last 1h cursor 'AAAA'");
    assert_eq!((bad.status, bad.json()["error"]["code"].as_str()), (400, Some("query_cursor")), "{}", bad.text());
    let over = ask("/v1/query", "from spans last 1h where exists(name) select count() budget bytes 1");
    assert_eq!((over.status, over.json()["error"]["code"].as_str()), (422, Some("query_over_budget")));
    assert!(over.text().contains("at least"), "{}", over.text());

    let data = dir.path().join("data");
    let prism = |args: &[&str]| must(&data, &[&["query", "--url", &server.http], args].concat());
    let shown = prism(&["--last", "15m", "from spans select count() as n"]);
    assert!(shown.contains("120") && shown.contains("hot:"), "{shown}");
    assert!(prism(&["--from", "-1h", "--explain", "from spans"]).starts_with("read spans from"));
    assert_eq!(prism(&["-o", "csv", "from spans last 1h select count() as n"]), "n\r\n120\r\n");
    assert!(prism(&["-o", "ndjson", "from spans last 1h select count() as n"]).contains("{\"n\":120}"));
    let line = prism(&["from spans last 1h by bin(time, 1m) fill 0 select count() as n"]);
    assert!(line.contains('█'), "{line}");
}

#[test]
fn a_tenants_budget_changes_while_servers_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[query]\ntenants = [\"default: bytes 1GB\"]\n");
    let sent = server.send("POST", "/v1/traces", &[PROTOBUF], spans(1, 40).encode_to_vec());
    assert_eq!(sent.status, 200);
    let (data, config) = (dir.path().join("data"), dir.path().join("prism.toml"));
    let config = config.display().to_string();
    let prism = |args: &[&str]| must(&data, &[&["--config", &config, "tenant"], args].concat());
    let ask = || server.query("from spans last 1h where exists(name) by name select count() as n");
    let values = || server.get("/v1/fields/name/values");
    assert_eq!((ask().status, values().status), (200, 200));
    assert!(prism(&["show", "default"]).contains("1GB (`query.tenants`)"));

    // Lower than the configuration; the error names what to change.
    let told = prism(&["set", "default", "--query-bytes", "1B"]);
    assert_eq!(told, "query bytes of tenant `default`: 1B (set for the tenant); servers follow within a second\n");
    until("the budget counts", || ask().status != 200);
    for refused in [ask(), values()] {
        assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (422, Some("query_over_budget")));
        assert!(refused.text().contains("of 1 (`prism tenant set --query-bytes`)"), "{}", refused.text());
    }
    let shown = prism(&["show", "default"]);
    assert!(shown.contains("1B (set for the tenant)") && shown.contains("30s (`query.time_max_ms`)"), "{shown}");

    // Taken back, while the other is set.
    let told = prism(&["set", "default", "--query-bytes", "default", "--query-time", "1ns"]);
    assert!(told.contains("1GB (`query.tenants`)") && told.contains("1ns (set for the tenant)"), "{told}");
    until("the time counts", || ask().json()["error"]["code"] == "query_over_time");
    assert!(ask().text().contains("(`prism tenant set --query-time`)"), "{}", ask().text());
    prism(&["set", "default", "--query-time", "default"]);
    until("it is answered again", || ask().status == 200);
    assert_eq!(values().status, 200);

    for (args, expected) in [
        (&["set", "default", "--query-bytes", "10s"][..], "expected bytes above 0 such as `10GB`"),
        (&["set", "default", "--query-time", "10GB"], "expected a time above 0 such as `10s`"),
        (&["set", "default", "--query-time", "1h"], "at most `storage.read_grace_ms`"),
        (&["set", "default"], "--query-bytes"),
        (&["set", "nobody", "--query-bytes", "1GB"], "there is no tenant `nobody`"),
    ] {
        let (_, error, success) = run(&data, &[&["tenant"], args].concat());
        assert!(!success && error.contains(expected), "{args:?}: {error}");
    }
}

#[test]
fn a_query_ends_when_its_client_goes_away() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::configured(dir.path(), "[query]\nthreads = 1\n");
    for batch in 1..41 {
        let sent = server.send("POST", "/v1/traces", &[PROTOBUF], spans(batch * 2_000, 1_000).encode_to_vec());
        assert_eq!(sent.status, 200);
    }
    let given_up = || {
        let metrics = server.get("/metrics").text();
        let of = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        (of("prism_query_given_up_total"), of("prism_query_frames_running"))
    };
    assert_eq!(given_up(), (Some(0), Some(0)));
    let address = server.http.trim_start_matches("http://");
    let text =
        "from spans last 1h by span_id, trace_id, name select exact(p99(duration)), count_distinct(name) limit 1";
    let began = Instant::now();
    // One may be answered before it is given up; of many, one is not.
    while given_up().0 == Some(0) {
        assert!(began.elapsed() < PATIENCE, "no query was given up");
        let mut connection = TcpStream::connect(address).expect("connects");
        let head =
            format!("POST /v1/query HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        connection.write_all(head.as_bytes()).expect("writes");
        connection.set_read_timeout(Some(Duration::from_millis(5))).expect("sets");
        let _not_yet = connection.read(&mut [0; 16]);
    }
    while given_up().1 != Some(0) {
        assert!(began.elapsed() < PATIENCE, "its threads go on");
    }
}
