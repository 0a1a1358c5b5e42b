//! More than there is room for: refused with a time to come back, and nothing of it is kept.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prost::Message as _;

use crate::harness::{PROTOBUF, Server, spans};

#[test]
fn a_storm_beyond_the_queue_is_told_to_wait_and_what_was_acknowledged_is_there() {
    let data = tempfile::tempdir().expect("a folder");
    let config = data.path().join("prism.toml");
    std::fs::write(&config, "[ingest]\ntenant_requests_max = 2\n").expect("writes");
    let server = Server::start(&data.path().join("data"), &["--dev", "--config", &config.display().to_string()]);
    let (kept, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for sender in 0..16 {
            let (server, kept, refused) = (&server, &kept, &refused);
            scope.spawn(move || {
                for i in 0..12 {
                    let answer =
                        server.send("POST", "/v1/traces", &[PROTOBUF], spans(1 + sender * 100 + i, 50).encode_to_vec());
                    match answer.status {
                        200 => kept.fetch_add(1, Relaxed),
                        429 | 503 => {
                            assert!(answer.header("retry-after").parse::<u64>().is_ok(), "says when to come back");
                            refused.fetch_add(1, Relaxed)
                        }
                        other => panic!("{other}: {}", answer.text()),
                    };
                }
            });
        }
    });
    assert!(refused.load(Relaxed) > 0, "16 senders are more than 2 places");
    let rows = server.query("from spans last 1h select count() as n").cell();
    assert_eq!(rows, kept.load(Relaxed) * 50, "what was acknowledged is there, what was refused is not");
    let metrics = server.get("/metrics").text();
    let counted =
        metrics.lines().find_map(|l| l.strip_prefix("prism_ingest_requests_refused_total{reason=\"tenant_full\"} "));
    assert_eq!(counted.and_then(|n| n.parse().ok()), Some(refused.load(Relaxed)), "{metrics}");
}
