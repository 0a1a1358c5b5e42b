//! Wall clocks that jump by an hour, back and ahead, while rows come in: nothing is lost, nothing is there twice, and leases go to
//! whom they should (ST-1). Two real servers over one folder, each with a clock that the test sets. What comes again is known
//! between two jumps, and across them by whom it was sent to.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use prism_tests::clock::WallClock;
use prism_tests::process::{binary, cli};
use prism_tests::{Server, otlp};
use prost::Message as _;

use crate::tiers::rows_by_tier;

const HOUR: i64 = 3_600;
/// For what happens within seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// Spans of a request.
const ROWS: u64 = 20;
/// Half of the spans are of a window that is over, so that rows move to colder tiers all the while.
const AGE_NANOS: u64 = 20 * 60 * 1_000_000_000;
/// Requests of each server before and after a clock jumps.
const REQUESTS: u64 = 5;
/// Whatever any clock says.
const COUNT: &str = "from spans from t'2020-01-01T00:00:00Z' to t'2100-01-01T00:00:00Z' \
                     select count() as n, exact(count_distinct(seq)) as d";

const SETTINGS: &str = "\
[query]
time_max_ms = 5000
[store]
segment_idle_ms = 100
seal_after_ms = 0
lease_ms = 6000
listing_stale_ms = 500
[storage]
interval_ms = 100
warm_after = \"0s\"
cold_after = \"1s\"
seal_bytes_min = 0
read_grace_ms = 5000
";

/// A server, and the clock that it goes by.
struct Node {
    server: Server,
    clock: WallClock,
    _dir: tempfile::TempDir,
}

impl Node {
    fn start(folder: &Path) -> Node {
        let config = folder.join("prism.toml");
        std::fs::write(&config, SETTINGS).expect("writes");
        let dir = tempfile::tempdir().expect("a folder");
        let clock = WallClock::new(dir.path()).expect("a clock");
        let mut prism = clock.command(&binary("prism").expect("built"));
        let args = ["--config", config.to_str().expect("UTF-8")];
        let server = Server::start_with(&folder.join("data"), &args, &mut prism).expect("starts");
        Node { server, clock, _dir: dir }
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.server.get("/metrics").expect("an answer").text();
        let of = |line: &str| line.strip_prefix(name)?.trim().parse::<f64>().ok();
        text.lines().find_map(of).unwrap_or_else(|| panic!("{name} is counted")) as u64
    }

    fn jumps(&self) -> u64 {
        self.metric("prism_store_clock_jumps_total ")
    }

    /// Rows of any time, and how many different ones.
    fn count(&self) -> (u64, u64) {
        let row = self.server.query(COUNT).expect("answers").remove(0);
        (row[0].as_u64().expect("a number"), row[1].as_u64().expect("a number"))
    }
}

fn until(what: &str, mut probe: impl FnMut() -> bool) {
    let began = Instant::now();
    while !probe() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// Everything that was sent so far.
#[derive(Default)]
struct Sent(AtomicU64);

impl Sent {
    /// Spans that nobody sent before.
    fn request(&self) -> Vec<u8> {
        let first = self.0.fetch_add(ROWS, SeqCst);
        let span = |seq: u64| {
            let mut span = otlp::span(seq + 1, "step", vec![otlp::int("seq", seq as i64)]);
            if seq.is_multiple_of(2) {
                span.start_time_unix_nano -= AGE_NANOS;
                span.end_time_unix_nano -= AGE_NANOS;
            }
            span
        };
        otlp::traces("shop", (first..first + ROWS).map(span).collect()).encode_to_vec()
    }

    fn rows(&self) -> u64 {
        self.0.load(SeqCst)
    }

    /// Sends to all nodes without a pause while a clock is set, until the node has noticed that it jumped and more came in.
    fn while_jumping(&self, nodes: &[&Node], jumps: &Node, to_seconds: i64) {
        let before = jumps.jumps();
        let again = self.request();
        let send_again = || {
            let answer = jumps.server.send("traces", again.clone()).expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
        };
        send_again();
        let (stop, done) = (AtomicBool::new(false), nodes.iter().map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
        std::thread::scope(|scope| {
            for (node, done) in nodes.iter().zip(&done) {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(SeqCst) {
                        let answer = node.server.send("traces", self.request()).expect("an answer");
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        done.fetch_add(1, SeqCst);
                    }
                });
            }
            // Whoever fails here must not leave the others sending.
            let ends = Ends(&stop);
            let more = || {
                let goal: Vec<u64> = done.iter().map(|done| done.load(SeqCst) + REQUESTS).collect();
                until("rows come in", || done.iter().zip(&goal).all(|(done, goal)| done.load(SeqCst) >= *goal));
            };
            more();
            jumps.clock.set(to_seconds).expect("sets");
            // Before it is noticed, and after.
            send_again();
            until("the jump is noticed", || jumps.jumps() > before);
            send_again();
            more();
            drop(ends);
        });
        self.check(nodes);
    }

    /// Each row is there once, for each node; and what comes again is known.
    fn check(&self, nodes: &[&Node]) {
        for node in nodes {
            let again = self.request();
            for _ in 0..2 {
                let answer = node.server.send("traces", again.clone()).expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        }
        for node in nodes {
            until("all rows are seen", || {
                let (rows, different) = node.count();
                assert_eq!(rows, different, "of {} rows, some are there twice", self.rows());
                assert!(rows <= self.rows(), "{rows} of {} rows", self.rows());
                rows == self.rows()
            });
            let stolen = ["prism_store_leases_lost_total ", "prism_store_writers_fenced_total "];
            assert_eq!(stolen.map(|name| node.metric(name)), [0, 0], "nobody is dead");
        }
    }
}

/// Sets it when dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn st_1_clocks_that_jump_by_an_hour_lose_nothing_double_nothing_and_steal_no_lease() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    let (a, b) = (Node::start(dir.path()), Node::start(dir.path()));
    let sent = Sent::default();
    sent.while_jumping(&[&a, &b], &a, -HOUR);
    sent.while_jumping(&[&a, &b], &b, HOUR);
    // Two hours apart; now each jumps to the other's side.
    sent.while_jumping(&[&a, &b], &a, HOUR);
    sent.while_jumping(&[&a, &b], &b, -HOUR);

    // One dies with its clock an hour ahead of the right time; the other, an hour behind it, takes over what it had open.
    a.server.kill().expect("kills");
    let fenced = |node: &Node| node.metric("prism_store_writers_fenced_total ");
    until("the dead one's lease is taken", || fenced(&b) == 1);
    assert_eq!(b.count(), (sent.rows(), sent.rows()));

    // And the other way round: who dies is behind, who takes over is ahead.
    let c = Node::start(dir.path());
    let before = c.jumps();
    c.clock.set(HOUR).expect("sets");
    until("the jump is noticed", || c.jumps() > before);
    let answer = b.server.send("traces", sent.request()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    b.server.kill().expect("kills");
    until("the dead one's lease is taken", || fenced(&c) == 1);
    assert_eq!(c.count(), (sent.rows(), sent.rows()));

    // What came to windows of a clock that was ahead is due by then.
    c.clock.set(3 * HOUR).expect("sets");
    until("all rows are cold", || {
        let rows = rows_by_tier(&data);
        assert_eq!(rows.iter().sum::<u64>(), sent.rows(), "{rows:?}");
        rows == [0, 0, sent.rows()]
    });
    assert_eq!(c.count(), (sent.rows(), sent.rows()));
    c.server.stop().expect("stops cleanly");
    let verified = cli(&data, &["storage", "verify"]).expect("all is sound");
    assert!(verified.ends_with("all is sound\n"), "{verified}");
}
