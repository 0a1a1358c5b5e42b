//! A day in the life of rows: sent, sealed, moved to the Delta table, and answered alike all the way (ST-1, ST-4).

use std::process::Command;

use prism_tests::process::cli;
use prism_tests::{Server, otlp};
use prost::Message as _;

const ROWS: u64 = 300;
/// Half an hour: their windows are over, and take rows no more than a moment longer.
const AGE_NANOS: u64 = 20 * 60 * 1_000_000_000;

/// Everything at once, so that a day takes seconds.
const SETTINGS: &str = "\
[query]
time_max_ms = 1000
[store]
segment_idle_ms = 100
seal_after_ms = 0
[storage]
interval_ms = 100
warm_after = \"0s\"
cold_after = \"1s\"
seal_bytes_min = 0
read_grace_ms = 1000
";

fn request(first: u64) -> Vec<u8> {
    let span = |seq: u64| {
        let mut span =
            otlp::span(seq + 1, ["read", "write", "list"][seq as usize % 3], vec![otlp::int("seq", seq as i64)]);
        span.start_time_unix_nano -= AGE_NANOS;
        span.end_time_unix_nano = span.start_time_unix_nano + 1_000 * (seq + 1);
        span
    };
    otlp::traces("shop", (first..first + ROWS).map(span).collect()).encode_to_vec()
}

const QUERIES: [&str; 3] = [
    "from spans last 1h select count() as n, exact(count_distinct(seq)) as d, sum(seq) as s",
    "from spans last 1h by name select count() as n, max(duration) as m",
    "from spans last 1h where seq >= 100 and seq < 250 select count() as n, min(seq) as a, max(seq) as b",
];

pub(crate) fn rows_by_tier(data: &std::path::Path) -> [u64; 3] {
    let told = cli(data, &["storage", "status", "--json"]).expect("a status");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    ["hot", "warm", "cold"].map(|tier| told["storage"][0]["tiers"][tier]["rows"].as_u64().expect("a number"))
}

#[test]
fn st_4_rows_are_answered_alike_in_every_tier() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, config) = (dir.path().join("data"), dir.path().join("prism.toml"));
    let mut seen = [false; 3];
    // First without moving anything, then with: what is compared with is of hot alone.
    std::fs::write(&config, format!("{SETTINGS}worker = false\n")).expect("writes");
    let prism = prism_tests::process::binary("prism").expect("built");
    let args = ["--config", config.to_str().expect("UTF-8")];
    let server = Server::start_with(&data, &args, &mut Command::new(&prism)).expect("starts");
    for first in [0, ROWS] {
        assert_eq!(server.send("traces", request(first)).expect("an answer").status, 200);
    }
    let ask = |server: &Server| QUERIES.map(|query| server.query(query).expect("answers"));
    let expected = ask(&server);
    assert_eq!(expected[0][0][0], 2 * ROWS);
    assert_eq!(rows_by_tier(&data), [2 * ROWS, 0, 0]);
    server.stop().expect("stops cleanly");

    std::fs::write(&config, SETTINGS).expect("writes");
    let server = Server::start_with(&data, &args, &mut Command::new(&prism)).expect("starts");
    server
        .until("all rows are cold", |server| {
            assert_eq!(ask(server), expected);
            let rows = rows_by_tier(&data);
            assert_eq!(rows.iter().sum::<u64>(), 2 * ROWS, "{rows:?}");
            (0..3).filter(|tier| rows[*tier] > 0).for_each(|tier| seen[tier] = true);
            Ok(rows == [0, 0, 2 * ROWS])
        })
        .expect("in time");
    // What was sent first and is long gone from the shared file system is still known.
    assert_eq!(server.send("traces", request(0)).expect("an answer").status, 200);
    assert_eq!(ask(&server)[0][0][0], 2 * ROWS + ROWS, "times of another moment make another request");
    let verified = cli(&data, &["storage", "verify"]).expect("all is sound");
    assert!(verified.ends_with("all is sound\n"), "{verified}");
    server.stop().expect("stops cleanly");
    assert!(seen[2]);
}
