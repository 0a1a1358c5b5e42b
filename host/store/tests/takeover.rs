//! Writers that die or stand still past their lease: others end their files, and what was acknowledged is there once (ST-1).
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod nfs;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nfs::{Faults, Node, Server};
use parking_lot::Mutex;
use prism_model::samples::Random;
use prism_model::window::WINDOW_NANOS;
use prism_store::disk::{Disk, RealDisk};
use prism_store::keys::Keyring;
use prism_store::{Observer, Reader, Store, StoreError, StoreOptions, Surroundings};
use support::disk::SimDisk;
use support::{NOW, all, numbered, numbers, tenant};

const ROOT: &str = "/data";

fn options() -> StoreOptions {
    StoreOptions { commit_delay_ms: 0, frame_rows: 8, segments_open_max: 3, ..StoreOptions::default() }
}

fn open(disk: impl Disk + 'static, root: &Path, writer: u64) -> Arc<Store> {
    Store::open_in(
        root,
        options(),
        Surroundings { disk: Arc::new(disk), clock: Arc::new(|| NOW), writer, keys: Keyring::default() },
    )
}

/// Segments without an end link, and folders of writers.
fn left(disk: &SimDisk) -> (Vec<String>, Vec<String>) {
    let names = disk.names();
    let open = |n: &&String| n.ends_with(".seg") && !names.contains(&format!("{n}.end"));
    let writers = |n: &&String| Path::new(n).parent().is_some_and(|p| p.ends_with(".writers"));
    (names.iter().filter(open).cloned().collect(), names.iter().filter(writers).cloned().collect())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Kept,
    Refused,
    Unknown,
}

/// Every acknowledged row once, none that was refused, the others as a whole or not at all.
fn check(found: &[i64], known: &BTreeMap<i64, (i64, Known)>, told: &str) {
    let mut found = found.iter().peekable();
    for (first, (n, outcome)) in known {
        let mut seen = Vec::new();
        while let Some(row) = found.next_if(|row| **row < first + n) {
            seen.push(*row);
        }
        let whole: Vec<i64> = (*first..first + n).collect();
        let fits = match outcome {
            Known::Kept => seen == whole,
            Known::Refused => seen.is_empty(),
            Known::Unknown => seen.is_empty() || seen == whole,
        };
        assert!(fits, "{told}: rows {first} and {n} more were {outcome:?}, seen {seen:?}");
    }
    assert_eq!(found.next(), None, "{told}");
}

async fn append(store: &Arc<Store>, random: &mut Random, next: &mut i64, known: &mut BTreeMap<i64, (i64, Known)>) {
    let n = 1 + random.below(12) as i64;
    let first = *next;
    *next += n;
    let spread = random.below(3) as i64;
    let times: Vec<i64> = (0..n).map(|i| NOW - (i % (spread + 1)) * WINDOW_NANOS).collect();
    let outcome = match store.append(&tenant(), numbered(first, &times)).await {
        Ok(_) => Known::Kept,
        Err(StoreError::Uncertain) => Known::Unknown,
        Err(_) => Known::Refused,
    };
    known.insert(first, (n, outcome));
}

#[test]
fn st1_holds_for_a_writer_that_stands_still_anywhere_past_its_lease_on_nfs() {
    let seeds = std::env::var("PRISM_TEST_SEEDS").map_or(300, |n| n.parse().unwrap());
    let (mut fenced, mut unknown) = (0, 0);
    for seed in 0..seeds {
        let server = Server::new(SimDisk::new(Path::new(ROOT), seed));
        let mut random = Random(seed);
        let behind = if random.one_in(2) { Duration::from_millis(2_900) } else { Duration::ZERO };
        let faults = |random: &mut Random| Faults {
            fails: [0, 0, 40, 15][random.below(4)],
            lost_replies: [0, 20, 6][random.below(3)],
            behind,
        };
        let node = Node::new(&server, seed, faults(&mut random));
        let patience = options().patience();
        let observers: Vec<_> = (0..1 + random.below(2) as u64)
            .map(|i| {
                (
                    Node::new(&server, seed ^ (77 + i), faults(&mut random)),
                    Observer::new(100 + i, patience, Keyring::default()),
                )
            })
            .collect();
        let observers = Arc::new(Mutex::new(observers));
        // Others look at the writer for so long: until it is fenced, measured, ended or forgotten.
        let others_look = {
            let (server, observers) = (server.clone(), observers.clone());
            move |looks: usize| {
                for _ in 0..looks {
                    server.pass(Duration::from_secs(4));
                    for (node, observer) in &mut *observers.lock() {
                        let _ = observer.look(node, Path::new(ROOT), server.now());
                    }
                }
            }
        };
        let (mut next, mut known) = (0, BTreeMap::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let live = Reader::open_on(Arc::new(server.disk().clone()), Path::new(ROOT));
        runtime.block_on(async {
            let store = open(node.clone(), Path::new(ROOT), seed + 1);
            others_look(random.below(2));
            for _ in 0..2 + random.below(3) {
                for _ in 0..random.below(4) {
                    append(&store, &mut random, &mut next, &mut known).await;
                }
                let (looks, others_look) = (random.below(16), others_look.clone());
                node.pause_in(random.below(40), move || others_look(looks));
                for _ in 0..6 {
                    append(&store, &mut random, &mut next, &mut known).await;
                    check(&numbers(&all(&live)), &known, &format!("seed {seed}, live"));
                }
            }
            if random.one_in(2) {
                store.close().await;
            } else {
                std::mem::forget(store);
            }
        });
        runtime.shutdown_background();
        fenced += usize::from(server.disk().names().iter().any(|n| n.ends_with(".end")));
        unknown += known.values().filter(|(_, o)| *o == Known::Unknown).count();
        // The process is gone; others end all that it left, whatever their own network does, and forget it.
        for (node, _) in &*observers.lock() {
            node.faults(Faults { behind, ..Faults::default() });
        }
        // Files of writers that were forgotten before are looked for now and then.
        server.pass(Duration::from_secs(30 * 60));
        others_look(16);
        check(&numbers(&all(&live)), &known, &format!("seed {seed}, ended"));
        let there = numbers(&all(&live));
        let (open, writers) = left(server.disk());
        assert!(writers.is_empty(), "seed {seed}: {writers:?}");
        for segment in open {
            let mut bytes = Vec::new();
            server.disk().edit(&segment, |b| bytes.clone_from(b));
            assert!(
                ends_by_mark(&bytes),
                "seed {seed}: {segment} is open, {} bytes, {:?}",
                bytes.len(),
                left(server.disk())
            );
        }
        // What was decided is so after lost power too.
        let after = Reader::open_on(Arc::new(server.disk().crash()), Path::new(ROOT));
        let snapshot = all(&after);
        assert!(snapshot.unreadable.is_empty(), "seed {seed}: {:?}", snapshot.unreadable);
        assert_eq!(numbers(&snapshot), there, "seed {seed}");
    }
    assert!(fenced > seeds as usize / 4 && unknown > 0, "{fenced} of {seeds} were fenced, {unknown} left open");
}

fn ends_by_mark(bytes: &[u8]) -> bool {
    let at = bytes.len() - 160;
    bytes[at..].starts_with(b"PFRM") && bytes[at + 6] & 4 != 0
}

/// A folder on NFS where one is named, and one on this machine in any case.
fn roots() -> Vec<(PathBuf, Option<tempfile::TempDir>)> {
    let here = tempfile::tempdir().unwrap();
    let mut roots = vec![(here.path().to_owned(), Some(here))];
    match std::env::var("PRISM_TEST_NFS") {
        Ok(paths) => {
            let there = tempfile::tempdir_in(std::env::split_paths(&paths).next().unwrap()).unwrap();
            roots.push((there.path().to_owned(), Some(there)));
        }
        Err(_) => eprintln!("not run on a mount: PRISM_TEST_NFS names no folder of one"),
    }
    roots
}

#[test]
fn a_dead_writers_segments_are_ended_and_its_folder_goes() {
    for (root, _kept) in roots() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(async {
            let store = open(RealDisk, &root, 1);
            store.append(&tenant(), numbered(0, &[NOW, NOW - WINDOW_NANOS])).await.unwrap();
            store.append(&tenant(), numbered(10, &[NOW; 3])).await.unwrap();
            store
        });
        let lease = root.join("hot/.writers/0000000000000001");
        assert_eq!(std::fs::read_link(lease.join("lease.1")).unwrap().to_str(), Some("0000000000000001 holds"));
        let mut observer = Observer::new(9, options().patience(), Keyring::default());
        let mut at = |seconds| observer.look(&RealDisk, &root, Duration::from_secs(seconds)).unwrap();
        assert_eq!((at(0).alive, at(14).alive), (1, 1));
        assert_eq!(at(15).fenced, 1);
        assert_eq!(std::fs::read_link(lease.join("lease.2")).unwrap().to_str(), Some("0000000000000009 fences"));
        // Seen at 16, and listings are behind until 19.
        assert_eq!((at(16).ended, at(18).ended, at(19).ended), (0, 0, 2));
        // It wakes: nothing that it writes counts until it is another writer.
        let error = runtime.block_on(store.append(&tenant(), numbered(20, &[NOW]))).unwrap_err();
        assert!(matches!(error, StoreError::Group(_)), "{error}");
        runtime.block_on(store.append(&tenant(), numbered(30, &[NOW]))).unwrap();
        let found = numbers(&all(&Reader::open(&root)));
        assert_eq!(found, [0, 1, 10, 11, 12, 30]);
        assert_eq!(store.metrics().leases_lost.load(std::sync::atomic::Ordering::Relaxed), 1);
        let looked: Vec<_> = (20..36).map(&mut at).collect();
        assert_eq!(looked.iter().map(|l| l.removed).sum::<usize>(), 1);
        assert!(!lease.exists());
        // Files that a writer made after it was forgotten are found too.
        std::fs::write(root.join("hot/acme/spans/0/20000/0000000000000001-1-99.seg"), b"torn").unwrap_or_else(|_| {
            let window = NOW / WINDOW_NANOS;
            std::fs::write(root.join(format!("hot/acme/spans/0/{window}/0000000000000001-1-99.seg")), b"torn").unwrap();
        });
        assert_eq!((0..16).map(|i| at(2_000 + i * 4).removed).sum::<usize>(), 2, "it, and the one that wakes no more");
        let (ended, _) = (all(&Reader::open(&root)), runtime.shutdown_background());
        assert_eq!(numbers(&ended), [0, 1, 10, 11, 12, 30]);
        assert!(std::fs::read_dir(root.join("hot/.writers")).unwrap().next().is_none());
        std::mem::forget(store);
    }
}

/// A process that only reads, or only moves rows on, ends what dead writers left all the same.
#[test]
fn a_store_that_never_writes_ends_what_the_dead_left() {
    let disk = SimDisk::new(Path::new(ROOT), 1);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let dies = runtime();
    dies.block_on(async {
        let store = open(disk.clone(), Path::new(ROOT), 1);
        store.append(&tenant(), numbered(0, &[NOW, NOW - WINDOW_NANOS])).await.unwrap();
        std::mem::forget(store);
    });
    dies.shutdown_background();
    assert_eq!((left(&disk).0.len(), left(&disk).1.len()), (2, 1));
    runtime().block_on(async {
        let store = open(disk.clone(), Path::new(ROOT), 2);
        tokio::time::sleep(options().patience().lease * 4).await;
        assert_eq!(left(&disk), (Vec::new(), Vec::new()));
        assert_eq!(store.metrics().writers_fenced.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert_eq!(numbers(&all(&store.reader())), [0, 1]);
    });
}
