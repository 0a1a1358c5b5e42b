//! ST-1 through kill -9: a child process appends under load and is killed; what it acknowledged is there once.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use prism_model::Signal;
use prism_model::samples::Random;
use prism_model::window::WINDOW_NANOS;
use prism_store::{Reader, Store, StoreOptions};
use support::{all_of, numbered_of, numbers, tenant};

const ROOT: &str = "PRISM_CRASH_TEST_ROOT";
const FIRST: &str = "PRISM_CRASH_TEST_FIRST";
const ROWS: i64 = 30;

/// The signals take turns.
fn signal_of(batch: i64) -> Signal {
    Signal::ALL[(batch / ROWS) as usize % Signal::ALL.len()]
}

/// Not a test by itself: the body of the child process.
#[test]
fn child() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let first: i64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store =
            Store::open(Path::new(&root), StoreOptions { commit_delay_ms: 1, frame_rows: 100, ..Default::default() });
        let store = store.unwrap();
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..6 {
            let store = store.clone();
            clients.spawn(async move {
                for i in 0.. {
                    let batch = first + (i * 6 + client) * ROWS;
                    let now =
                        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
                    // Some batches lie in two windows.
                    let times: Vec<i64> = (0..ROWS).map(|r| now - (r * i % 2) * WINDOW_NANOS).collect();
                    if store.append(&tenant(), numbered_of(signal_of(batch), batch, &times)).await.is_ok() {
                        // One write call, so that a line is there as a whole or not.
                        std::io::stdout().write_all(format!("ACK {batch}\n").as_bytes()).unwrap();
                    }
                }
            });
        }
        clients.join_next().await;
    });
}

#[test]
fn st1_acknowledged_rows_survive_kill_9_exactly_once() {
    let root = tempfile::tempdir().unwrap();
    let mut random = Random(7);
    let mut acknowledged = BTreeSet::new();
    for life in 0..6i64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROOT, root.path())
            .env(FIRST, (life * 3_000_000).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let until = 20 + random.below(60);
        let mut acks = 0;
        while acks < until {
            let line = lines.next().expect("the child writes until it is killed").unwrap();
            acks += usize::from(note(&line, &mut acknowledged));
        }
        // SIGKILL, with groups on their way to the disk.
        child.kill().unwrap();
        child.wait().unwrap();
        // What was acknowledged before it died counts, even where it was read after.
        for line in lines.map_while(Result::ok) {
            note(&line, &mut acknowledged);
        }

        let reader = Reader::open(root.path());
        let found: Vec<i64> = Signal::ALL.into_iter().flat_map(|signal| numbers(&all_of(&reader, signal))).collect();
        let distinct: BTreeSet<i64> = found.iter().copied().collect();
        assert_eq!(distinct.len(), found.len(), "a row is there twice");
        for batch in &acknowledged {
            assert!(
                (*batch..batch + ROWS).all(|row| distinct.contains(&row)),
                "batch {batch} was acknowledged and is lost"
            );
        }
        // The others are there as a whole or not at all.
        let batches: BTreeSet<i64> = distinct.iter().map(|row| row / ROWS).collect();
        assert_eq!(batches.len() as i64 * ROWS, distinct.len() as i64);
    }
    let reader = Reader::open(root.path());
    assert!(Signal::ALL.into_iter().all(|signal| all_of(&reader, signal).unreadable.is_empty()));
}

fn note(line: &str, acknowledged: &mut BTreeSet<i64>) -> bool {
    // The test harness may write on the same line before.
    let batch = line.split_once("ACK ").and_then(|(_, batch)| batch.trim().parse().ok());
    batch.is_some_and(|batch| acknowledged.insert(batch))
}
