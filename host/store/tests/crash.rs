//! ST-1 with real processes on one folder: they append under load, one is killed, one stands still past its lease; what they
//! acknowledged is there once.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use prism_model::Signal;
use prism_model::samples::Random;
use prism_model::window::WINDOW_NANOS;
use prism_store::{Reader, Store, StoreOptions};
use rustix::process::Signal as Unix;
use support::{all_of, numbered_of, numbers, tenant};

const ROOT: &str = "PRISM_CRASH_TEST_ROOT";
const FIRST: &str = "PRISM_CRASH_TEST_FIRST";
const ROWS: i64 = 30;
/// The shortest lease there is.
const LEASE_MS: u64 = 1_000;

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
        let options = StoreOptions {
            commit_delay_ms: 1,
            frame_rows: 100,
            lease_ms: LEASE_MS,
            listing_stale_ms: 100,
            ..Default::default()
        };
        let store = Store::open(Path::new(&root), options).unwrap();
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

/// A child that appends.
struct Appender {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Appender {
    fn begin(root: &Path, first: i64) -> Appender {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROOT, root)
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Appender { child, lines }
    }

    /// Waits for so many acknowledgements.
    fn acknowledges(&mut self, batches: usize, acknowledged: &mut BTreeSet<i64>) {
        let mut acks = 0;
        while acks < batches {
            let line = self.lines.next().expect("the child writes until it is killed").unwrap();
            acks += usize::from(note(&line, acknowledged));
        }
    }

    fn signal(&self, signal: Unix) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGKILL, with groups on their way to the disk. What was acknowledged before it died counts, even where it is read after.
    fn dies(mut self, acknowledged: &mut BTreeSet<i64>) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for line in self.lines.map_while(Result::ok) {
            note(&line, acknowledged);
        }
    }
}

/// Every acknowledged row is there once. Where nothing is being written the others are there as a whole or not at all.
fn check(root: &Path, acknowledged: &BTreeSet<i64>, quiet: bool) {
    let reader = Reader::open(root);
    let found: Vec<i64> = Signal::ALL.into_iter().flat_map(|signal| numbers(&all_of(&reader, signal))).collect();
    let distinct: BTreeSet<i64> = found.iter().copied().collect();
    assert_eq!(distinct.len(), found.len(), "a row is there twice");
    for batch in acknowledged {
        assert!(
            (*batch..batch + ROWS).all(|row| distinct.contains(&row)),
            "batch {batch} was acknowledged and is lost"
        );
    }
    let batches: BTreeSet<i64> = distinct.iter().map(|row| row / ROWS).collect();
    assert!(!quiet || batches.len() as i64 * ROWS == distinct.len() as i64);
}

#[test]
fn st1_acknowledged_rows_survive_kill_9_exactly_once() {
    let root = tempfile::tempdir().unwrap();
    let mut random = Random(7);
    let mut acknowledged = BTreeSet::new();
    for life in 0..6i64 {
        let mut child = Appender::begin(root.path(), life * 3_000_000);
        child.acknowledges(20 + random.below(60), &mut acknowledged);
        child.dies(&mut acknowledged);
        check(root.path(), &acknowledged, true);
    }
    let reader = Reader::open(root.path());
    assert!(Signal::ALL.into_iter().all(|signal| all_of(&reader, signal).unreadable.is_empty()));
}

/// Writers that have a lease.
fn writers(root: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(root.join("hot/.writers")).unwrap();
    names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn st1_of_several_processes_one_is_killed_and_one_stands_still_past_its_lease() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let mut acknowledged = BTreeSet::new();
    // One after the other, so that it is known which writer is whose.
    let mut known = BTreeSet::new();
    let mut begin = |n: i64| {
        let mut child = Appender::begin(root, n * 3_000_000);
        child.acknowledges(10, &mut acknowledged);
        let now = writers(root);
        let own: Vec<String> = now.difference(&known).cloned().collect();
        known = now;
        assert_eq!(own.len(), 1);
        (child, own[0].clone())
    };
    let (killed, its_writer) = begin(0);
    let (mut paused, paused_writer) = begin(1);
    let (mut lives, living_writer) = begin(2);
    paused.acknowledges(20, &mut acknowledged);
    paused.signal(Unix::STOP);
    killed.dies(&mut acknowledged);
    // The third fences both, ends their segments and forgets them, while it appends itself.
    while !writers(root).is_disjoint(&BTreeSet::from([its_writer.clone(), paused_writer.clone()])) {
        lives.acknowledges(1, &mut acknowledged);
    }
    check(root, &acknowledged, false);
    paused.signal(Unix::CONT);
    // It acknowledged some before it stood still, and more than the pipe holds only as another writer.
    while writers(root).len() < 2 {
        paused.acknowledges(1, &mut acknowledged);
    }
    paused.acknowledges(30, &mut acknowledged);
    assert!(writers(root).contains(&living_writer), "who lives keeps its lease");
    assert!(!writers(root).contains(&paused_writer), "who was fenced goes on as another");
    paused.dies(&mut acknowledged);
    lives.dies(&mut acknowledged);
    check(root, &acknowledged, true);
}

fn note(line: &str, acknowledged: &mut BTreeSet<i64>) -> bool {
    // The test harness may write on the same line before.
    let batch = line.split_once("ACK ").and_then(|(_, batch)| batch.trim().parse().ok());
    batch.is_some_and(|batch| acknowledged.insert(batch))
}
