//! ST-1 with several processes on one folder: one is killed, one stands still past its lease, the others go on and end what
//! those two left open. What was acknowledged is there once, whoever acknowledged it.
//!
//! `PRISM_TEST_NFS=/mnt/a:/mnt/b` names mounts of one export (each with its own cache: `nosharecache`): the processes are then as
//! on nodes of their own.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prism_model::window::WINDOW_NANOS;
use prism_store::disk::RealDisk;
use prism_store::keys::Keyring;
use prism_store::{Observer, Reader, Store, StoreError, StoreOptions};
use rustix::process::{Pid, Signal, kill_process};
use support::{all, numbered, numbers, tenant};

const ROOT: &str = "PRISM_PROCESSES_TEST_ROOT";
const FIRST: &str = "PRISM_PROCESSES_TEST_FIRST";
const ROWS: i64 = 30;
/// Long enough for a busy machine, short enough to wait for.
const LEASE_MS: u64 = 2_000;

/// One on NFS may be behind by as much as the mount advice says.
fn options() -> StoreOptions {
    let listing_stale_ms = if mounts().is_empty() { 100 } else { StoreOptions::default().listing_stale_ms };
    StoreOptions {
        commit_delay_ms: 1,
        frame_rows: 100,
        lease_ms: LEASE_MS,
        listing_stale_ms,
        ..StoreOptions::default()
    }
}

/// Where nodes see the same folder.
fn mounts() -> Vec<PathBuf> {
    std::env::var("PRISM_TEST_NFS").map_or_else(|_| Vec::new(), |paths| std::env::split_paths(&paths).collect())
}

/// Not a test by itself: the body of a child process.
#[test]
fn child() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let first: i64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(Path::new(&root), options()).unwrap();
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..4 {
            let store = store.clone();
            clients.spawn(async move {
                for i in 0.. {
                    let batch = first + (i * 4 + client) * ROWS;
                    let now =
                        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
                    // Some batches lie in two windows.
                    let times: Vec<i64> = (0..ROWS).map(|r| now - (r * i % 2) * WINDOW_NANOS).collect();
                    let told = match store.append(&tenant(), numbered(batch, &times)).await {
                        Ok(_) => "KEPT",
                        Err(StoreError::Uncertain) => "OPEN",
                        Err(_) => "LOST",
                    };
                    let lives = store.metrics().leases_lost.load(Relaxed);
                    // One write call, so that a line is there as a whole or not.
                    std::io::stdout().write_all(format!("TOLD {told} {batch} {lives}\n").as_bytes()).unwrap();
                }
            });
        }
        clients.join_next().await;
    });
}

/// What a process said of each batch.
#[derive(Default)]
struct Told {
    kept: BTreeSet<i64>,
    refused: BTreeSet<i64>,
    open: BTreeSet<i64>,
    /// Times that it was taken for dead.
    lives: u64,
}

struct Process {
    child: Child,
    told: Arc<Mutex<Told>>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    fn start(root: &Path, number: i64) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROOT, root)
            .env(FIRST, (number * 30_000_000).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = Arc::new(Mutex::new(Told::default()));
        let heard = told.clone();
        let listener = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test harness may write on the same line before.
                let Some((_, line)) = line.split_once("TOLD ") else { continue };
                let parts: Vec<&str> = line.split_whitespace().collect();
                let &[what, batch, lives] = parts.as_slice() else { continue };
                let (batch, mut told) = (batch.parse().unwrap(), heard.lock());
                told.lives = lives.parse().unwrap();
                match what {
                    "KEPT" => told.kept.insert(batch),
                    "OPEN" => told.open.insert(batch),
                    _ => told.refused.insert(batch),
                };
            }
        });
        Process { child, told, listener: Some(listener) }
    }

    fn kept(&self) -> usize {
        self.told.lock().kept.len()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // What it said before it died counts, even where it is heard after.
        self.listener.take().unwrap().join().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also where the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for what comes for sure; a minute is for machines that do much else.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn writers(root: &Path) -> BTreeSet<String> {
    let listed = std::fs::read_dir(root.join("hot/.writers")).into_iter().flatten().flatten();
    listed.map(|e| e.file_name().into_string().unwrap()).collect()
}

/// Segments of these writers, and whether each is ended.
fn segments(dir: &Path, writers: &BTreeSet<String>, found: &mut BTreeMap<PathBuf, bool>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() {
            segments(&path, writers, found);
        } else if name.ends_with(".seg") && writers.iter().any(|w| name.starts_with(w.as_str())) {
            let bytes = std::fs::read(&path).unwrap();
            let marked = bytes.len() >= 416 && bytes[bytes.len() - 160..].starts_with(b"PFRM");
            let linked = std::fs::read_link(dir.join(format!("{name}.end"))).is_ok();
            found.insert(path, marked || linked);
        }
    }
}

fn all_ended(root: &Path, writers: &BTreeSet<String>) -> bool {
    let mut found = BTreeMap::new();
    segments(&root.join("hot"), writers, &mut found);
    !found.is_empty() && found.values().all(|ended| *ended)
}

#[test]
fn st1_of_killed_and_paused_processes_all_is_ended_and_what_they_refused_is_not_there() {
    let mounts = mounts();
    let folder = match mounts.first() {
        Some(mount) => tempfile::tempdir_in(mount).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let root = folder.path();
    let root_of = |number: usize| match mounts.get(number % mounts.len().max(1)) {
        Some(mount) => mount.join(root.file_name().unwrap()),
        None => root.to_owned(),
    };
    let mut processes = Vec::new();
    let mut ids = Vec::new();
    for number in 0..3 {
        let before = writers(root);
        let process = Process::start(&root_of(number), number as i64);
        until("an acknowledgement", || process.kept() >= 10);
        let new = || writers(root).difference(&before).cloned().collect::<BTreeSet<_>>();
        until("the folder of a writer", || !new().is_empty());
        ids.push(new());
        processes.push(process);
    }
    let [killed, paused, alive] = &mut processes[..] else { unreachable!("three") };
    killed.kill();
    paused.signal(Signal::STOP);
    let gone: BTreeSet<String> = ids[0].union(&ids[1]).cloned().collect();
    until("the end of what both left open", || all_ended(root, &gone));
    let (paused_before, alive_before) = (paused.kept(), alive.kept());
    until("an acknowledgement of the one that lives", || alive.kept() > alive_before);
    assert_eq!(paused.kept(), paused_before);
    let then: BTreeSet<i64> = numbers(&all(&Reader::open(root))).into_iter().collect();
    for kept in [&*killed, &*paused].iter().flat_map(|p| p.told.lock().kept.clone()) {
        assert!((kept..kept + ROWS).all(|row| then.contains(&row)), "batch {kept} is lost while others live");
    }

    paused.signal(Signal::CONT);
    until("another life of the one that stood still", || {
        let told = paused.told.lock();
        told.lives > 0 && told.kept.len() > paused_before + 20
    });
    paused.kill();
    alive.kill();

    // All are gone; whoever comes next ends what they left.
    let mut observer = Observer::new(1, options().patience(), Keyring::default());
    let begun = Instant::now();
    until("an empty folder of leases", || {
        let _ = observer.look(&RealDisk, root, begun.elapsed());
        writers(root).is_empty()
    });
    let everybody = std::iter::once(String::new()).collect();
    assert!(all_ended(root, &everybody));

    let snapshot = all(&Reader::open(root));
    assert!(snapshot.unreadable.is_empty());
    let found = numbers(&snapshot);
    let distinct: BTreeSet<i64> = found.iter().copied().collect();
    assert_eq!(distinct.len(), found.len(), "a row is there twice");
    for process in &processes {
        let told = process.told.lock();
        for batch in &told.kept {
            assert!((*batch..batch + ROWS).all(|row| distinct.contains(&row)), "batch {batch} was acknowledged");
        }
        for batch in &told.refused {
            assert!((*batch..batch + ROWS).all(|row| !distinct.contains(&row)), "batch {batch} was refused");
        }
    }
    // Those that nobody was told about are there as a whole or not at all.
    let batches: BTreeSet<i64> = distinct.iter().map(|row| row.div_euclid(ROWS)).collect();
    let whole = |batch: &i64| (batch * ROWS..(batch + 1) * ROWS).all(|row| distinct.contains(&row));
    let parts: Vec<i64> = batches.into_iter().filter(|batch| !whole(batch)).map(|batch| batch * ROWS).collect();
    assert!(parts.is_empty(), "of these batches only a part is there: {parts:?}");
}
