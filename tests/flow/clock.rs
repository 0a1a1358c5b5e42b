//! Clocks of real processes that jump by hours while rows are sent, sealed and promoted: no row is lost, none is there twice, and
//! nobody is taken for dead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use prism_tests::process::{binary, cli};
use prism_tests::{Server, otlp};
use prost::Message as _;

const HOUR: i64 = 3_600;
/// Rows of a request.
const ROWS: u64 = 40;

const SETTINGS: &str = "\
[store]
segment_idle_ms = 100
seal_after_ms = 0
lease_ms = 3000
[storage]
interval_ms = 100
warm_after = \"0s\"
cold_after = \"1s\"
seal_bytes_min = 0
";

/// What moves a process's clock, compiled for this machine.
struct Clock {
    library: PathBuf,
    ahead: PathBuf,
}

impl Clock {
    fn new(dir: &Path) -> Clock {
        let (library, ahead) = (dir.join("clock.so"), dir.join("ahead"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("flow/clock.c");
        let status = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(status.expect("a C compiler").success());
        let clock = Clock { library, ahead };
        clock.set(0);
        clock
    }

    fn set(&self, seconds: i64) {
        use std::io::Write as _;
        // In place: processes have the file mapped.
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&self.ahead);
        file.and_then(|mut file| file.write_all(&seconds.to_ne_bytes())).expect("writes");
    }

    fn start(&self, data: &Path, config: &Path) -> Server {
        let mut prism = Command::new(binary("prism").expect("built"));
        prism.env("LD_PRELOAD", &self.library).env("PRISM_TEST_CLOCK", &self.ahead);
        Server::start_with(data, &["--config", config.to_str().expect("UTF-8")], &mut prism).expect("starts")
    }
}

/// Spans numbered from `first` on, at the time that a clock tells that is `ahead` seconds ahead.
fn request(first: u64, ahead: i64) -> Vec<u8> {
    let span = |seq: u64| {
        let mut span = otlp::span(seq + 1, "jumps", vec![otlp::int("seq", seq as i64)]);
        let moved = |at: u64| at.saturating_add_signed(ahead * 1_000_000_000);
        (span.start_time_unix_nano, span.end_time_unix_nano) =
            (moved(span.start_time_unix_nano), moved(span.end_time_unix_nano));
        span
    };
    otlp::traces("shop", (first..first + ROWS).map(span).collect()).encode_to_vec()
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics").expect("metrics").text();
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn st1_clocks_that_jump_by_hours_lose_and_double_no_row_and_fence_nobody() {
    let dir = tempfile::tempdir().expect("a folder");
    let (data, config) = (dir.path().join("data"), dir.path().join("prism.toml"));
    fs::write(&config, SETTINGS).expect("writes");
    let clock = Clock::new(dir.path());
    // One whose clock jumps, and one whose clock goes as it should.
    let jumps = clock.start(&data, &config);
    let steady = Server::start_with(
        &data,
        &["--config", config.to_str().expect("UTF-8")],
        &mut Command::new(binary("prism").expect("built")),
    )
    .expect("starts");
    let all = "from spans from t'2020-01-01T00:00:00Z' to t'2100-01-01T00:00:00Z' \
               select count() as n, exact(count_distinct(seq)) as d, sum(seq) as s";
    let mut sent = 0;
    let mut noticed = 0.0;
    for (turn, ahead) in [0, 5 * HOUR, -21 * HOUR, 26 * HOUR, -HOUR, 0].into_iter().enumerate() {
        clock.set(ahead);
        // Its clients' clocks go with it, and some do not.
        for of in [ahead, 0, -ahead] {
            for server in [&jumps, &steady] {
                assert_eq!(server.send("traces", request(sent, of)).expect("an answer").status, 200);
                sent += ROWS;
            }
        }
        let expected = [sent, sent, sent * (sent - 1) / 2].map(serde_json::Value::from).to_vec();
        for server in [&jumps, &steady] {
            assert_eq!(server.query(all).expect("answers"), [expected.clone()], "turn {turn}");
        }
        if turn > 0 {
            jumps
                .until("the jump is noticed", |server| Ok(metric(server, "prism_store_clock_jumps_total") > noticed))
                .expect("in time");
            noticed = metric(&jumps, "prism_store_clock_jumps_total");
        }
        // Rows move on meanwhile, by the clock of either.
        steady
            .until("rows become cold", |server| {
                assert_eq!(server.query(all).expect("answers"), [expected.clone()], "turn {turn}, while rows move");
                let told = cli(&data, &["storage", "status", "--json"])?;
                let told: serde_json::Value = serde_json::from_str(&told)?;
                let rows = ["hot", "warm", "cold"].map(|tier| told["storage"][0]["tiers"][tier]["rows"].as_u64());
                assert_eq!(rows.iter().flatten().sum::<u64>(), sent, "turn {turn}: {rows:?}");
                Ok(rows[2] > Some(0))
            })
            .expect("in time");
    }
    for server in [&jumps, &steady] {
        for fenced in ["prism_store_leases_lost_total", "prism_store_writers_fenced_total"] {
            assert_eq!(metric(server, fenced), 0.0, "{fenced}");
        }
    }
    assert_eq!(metric(&steady, "prism_store_clock_jumps_total"), 0.0);
    let verified = cli(&data, &["storage", "verify"]).expect("all is sound");
    assert!(verified.ends_with("all is sound\n"), "{verified}");
    jumps.stop().expect("stops cleanly");
    steady.stop().expect("stops cleanly");
}
