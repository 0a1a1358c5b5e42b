//! ST-1 in the whole process: kill -9 under load, and a directory that several processes share.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use prism_tests::{Server, otlp};
use prost::Message as _;

const ROWS: i64 = 200;

fn request(first: i64) -> Vec<u8> {
    let spans = (first..first + ROWS).map(|seq| otlp::span(seq as u64 + 1, "numbered", vec![otlp::int("seq", seq)]));
    otlp::traces("crash", spans.collect()).encode_to_vec()
}

/// Sends numbered requests from several threads until told to stop or the server is gone; returns the first numbers of the
/// acknowledged ones.
fn send_until(server: &Server, next: &AtomicI64, stop: &AtomicBool) -> Vec<i64> {
    let acknowledged = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let first = next.fetch_add(ROWS, Ordering::Relaxed);
                    match server.send("traces", request(first)) {
                        Ok(answer) if answer.status == 200 => acknowledged.lock().expect("no panic").push(first),
                        Ok(answer) => panic!("{} {}", answer.status, answer.text()),
                        Err(_) => return,
                    }
                }
            });
        }
        // Killed in the middle of the work: as soon as there is something to lose.
        while acknowledged.lock().expect("no panic").len() < 12 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        let killed = std::process::Command::new("kill").args(["-9", &server.pid().to_string()]).status();
        assert!(killed.expect("kill runs").success());
    });
    acknowledged.into_inner().expect("no panic")
}

#[test]
fn st_1_acknowledged_rows_are_there_once_after_kill_9() {
    let data = tempfile::tempdir().expect("a folder");
    let (next, mut acknowledged) = (AtomicI64::new(0), Vec::new());
    for _ in 0..3 {
        let server = Server::start(data.path()).expect("starts");
        acknowledged.extend(send_until(&server, &next, &AtomicBool::new(false)));
    }
    let server = Server::start(data.path()).expect("starts after kill -9");
    for first in &acknowledged {
        let range = format!("seq >= {first} and seq < {}", first + ROWS);
        let rows = server
            .query(&format!("from spans last 1h where {range} select count() as n, exact(count_distinct(seq)) as d"))
            .expect("answers");
        assert_eq!(rows[0], [ROWS, ROWS], "request {first}");
    }
    // What was not acknowledged is there once or not at all.
    let rows =
        server.query("from spans last 1h select count() as n, exact(count_distinct(seq)) as d").expect("answers");
    assert_eq!(rows[0][0], rows[0][1], "no row twice");
    assert!(rows[0][0].as_i64() >= Some(acknowledged.len() as i64 * ROWS));
    server.stop().expect("stops cleanly");
}

#[test]
fn st_1_two_processes_share_a_directory() {
    let data = tempfile::tempdir().expect("a folder");
    let (one, two) = (Server::start(data.path()).expect("starts"), Server::start(data.path()).expect("starts"));
    for (server, first) in [(&one, 0), (&two, ROWS), (&one, 2 * ROWS), (&two, 3 * ROWS)] {
        assert_eq!(server.send("traces", request(first)).expect("an answer").status, 200);
        for reader in [&one, &two] {
            let seen = reader.number("from spans last 1h select exact(count_distinct(seq)) as n").expect("answers");
            assert_eq!(seen, first + ROWS, "an acknowledged batch is seen by every process at once");
        }
    }
}
