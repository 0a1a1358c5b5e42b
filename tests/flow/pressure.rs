//! More than there is room for: memory stays flat, a full disk is a pause and not a loss.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use prism_tests::process::binary;
use prism_tests::shared::skip;
use prism_tests::{Server, otlp};
use prost::Message as _;

fn request(first: u64, spans: u64) -> Vec<u8> {
    let span = |seq: u64| {
        let filler: String =
            (0..16).map(|i| format!("{:016x}", (seq * 16 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        otlp::span(seq + 1, "filler", vec![otlp::int("seq", seq as i64), otlp::text("filler", &filler)])
    };
    otlp::traces("pressure", (first..first + spans).map(span).collect()).encode_to_vec()
}

/// A disk of 24 MiB is mounted in a mount namespace of the server's own.
#[test]
fn a_full_disk_is_503_and_recovers() {
    let probe = Command::new("unshare").args(["--mount", "true"]).status();
    if !probe.is_ok_and(|s| s.success()) {
        return skip("`unshare --mount` is not allowed here; the store's fault injection covers a full disk besides");
    }
    let data = tempfile::tempdir().expect("a folder");
    let script = format!(
        "mount -t tmpfs -o size=24m tmpfs {dir} && exec {prism} \"$@\"",
        dir = data.path().display(),
        prism = binary("prism").expect("built").display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "prism"]);
    let server = Server::start_with(data.path(), &[], &mut command).expect("starts");
    let inside = format!("/proc/{}/root{}", server.pid(), data.path().display());
    let ballast = format!("{inside}/ballast");

    let mut stored = 0;
    let mut send = |server: &Server| {
        let answer = server.send("traces", request(stored * 100, 100)).expect("an answer");
        if answer.status == 200 {
            stored += 1;
        }
        answer
    };
    assert_eq!(send(&server).status, 200);
    // Everything that is left goes to the ballast.
    let filled =
        Command::new("dd").args(["if=/dev/zero", &format!("of={ballast}"), "bs=64k"]).output().expect("dd runs");
    assert!(!filled.status.success(), "dd ends at the full disk");
    server
        .until("503 on a full disk", |server| {
            let answer = send(server);
            assert!(matches!(answer.status, 200 | 503), "{} {}", answer.status, answer.text());
            assert!(answer.status == 200 || answer.retry_after.is_some(), "says when to come back");
            Ok(answer.status == 503)
        })
        .expect("fills");
    std::fs::remove_file(&ballast).expect("ballast goes");
    server.until("recovery", |server| Ok(send(server).status == 200)).expect("recovers without a restart");
    let rows =
        server.query("from spans last 1h select count() as n, exact(count_distinct(seq)) as d").expect("answers");
    assert_eq!(
        rows[0],
        [stored as i64 * 100, stored as i64 * 100],
        "what was acknowledged is there once, nothing else is"
    );
}

#[test]
fn a_storm_is_refused_and_memory_stays_flat() {
    let data = tempfile::tempdir().expect("a folder");
    let config = data.path().join("prism.toml");
    std::fs::write(&config, STORM_CONFIG).expect("writes");
    let config = config.display().to_string();
    let mut command = Command::new(binary("prism").expect("built"));
    let server = Server::start_with(&data.path().join("data"), &["--config", &config], &mut command).expect("starts");
    let body = request(0, 2_000);
    assert_eq!(server.send("traces", body.clone()).expect("an answer").status, 200);
    let before = server.peak_memory_bytes().expect("runs");
    let (mut accepted, mut refused) = (1, 0);
    // Each request is one of its own, not the same again.
    let next = AtomicU64::new(0);
    let send = || {
        let key = next.fetch_add(1, Ordering::Relaxed).to_string();
        let headers = [("content-type", "application/x-protobuf"), ("idempotency-key", key.as_str())];
        server.post("/v1/traces", &headers, body.clone()).expect("an answer")
    };
    std::thread::scope(|threads| {
        let senders: Vec<_> = (0..48)
            .map(|_| {
                threads.spawn(|| {
                    let answers = (0..4).map(|_| send());
                    answers.fold((0, 0), |(accepted, refused), answer| match answer.status {
                        200 => (accepted + 1, refused),
                        429 | 503 => {
                            assert!(answer.retry_after.is_some(), "says when to come back");
                            (accepted, refused + 1)
                        }
                        other => panic!("{other} {}", answer.text()),
                    })
                })
            })
            .collect();
        for sender in senders {
            let (a, r) = sender.join().expect("no panic");
            accepted += a;
            refused += r;
        }
    });
    assert!(refused > 0, "48 clients at once are more than the tenant's queue holds");
    let grown = server.peak_memory_bytes().expect("runs").saturating_sub(before);
    assert!(grown < 300 << 20, "peak memory grew by {} MiB", grown >> 20);
    let rows = server.number("from spans last 1h select count() as n").expect("answers");
    assert_eq!(rows, accepted * 2_000, "what was acknowledged is there, what was refused is not");
}

const STORM_CONFIG: &str = "[ingest]\ntenant_requests_max = 16\n";
