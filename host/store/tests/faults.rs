//! Full disks, failing syncs, torn writes, lost power, flipped bits.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use prism_model::samples::Random;
use prism_model::window::WINDOW_NANOS;
use prism_model::{Classify as _, Kind};
use prism_store::{Reader, Store, StoreError, StoreOptions, Surroundings};
use support::disk::SimDisk;
use support::{NOW, all, numbered, numbers, tenant};

const ROOT: &str = "/data";

fn open(disk: &SimDisk, writer: u64) -> Arc<Store> {
    let options = StoreOptions {
        commit_delay_ms: 0,
        frame_rows: 8,
        segments_open_max: 3,
        segment_bytes_max: 8 << 10,
        ..StoreOptions::default()
    };
    let around =
        Surroundings { disk: Arc::new(disk.clone()), clock: Arc::new(|| NOW), writer, keys: Default::default() };
    Store::open_in(Path::new(ROOT), options, around)
}

fn reader(disk: &SimDisk) -> Reader {
    Reader::open_on(Arc::new(disk.clone()), Path::new(ROOT))
}

/// What a client knows about a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Kept,
    Refused,
    Unknown,
}

/// Appends bursts of batches to a disk that fails now and then.
async fn burst(
    store: &Arc<Store>,
    disk: &SimDisk,
    random: &mut Random,
    next: &mut i64,
    known: &mut BTreeMap<i64, (i64, Known)>,
) {
    let mut running = Vec::new();
    for _ in 0..1 + random.below(4) {
        let n = 1 + random.below(12) as i64;
        let first = *next;
        *next += n;
        let spread = random.below(3) as i64;
        let times: Vec<i64> = (0..n).map(|i| NOW - (i % (spread + 1)) * WINDOW_NANOS * 4).collect();
        let store = store.clone();
        running.push((first, n, tokio::spawn(async move { store.append(&tenant(), numbered(first, &times)).await })));
    }
    for (first, n, task) in running {
        let answer = task.await.unwrap();
        let outcome = match answer {
            // An answer that the machine gave after it was off is none.
            _ if disk.is_dead() => Known::Unknown,
            Ok(_) => Known::Kept,
            Err(StoreError::Uncertain) => Known::Unknown,
            Err(e) => {
                assert_eq!(e.kind(), Kind::Retry, "{e}");
                Known::Refused
            }
        };
        known.insert(first, (n, outcome));
    }
}

/// Every acknowledged row once, no row of a refused batch, the others as a whole or not at all.
fn check(found: &[i64], known: &BTreeMap<i64, (i64, Known)>, seed: u64) {
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
        assert!(fits, "seed {seed}: rows {first} and {n} more were {outcome:?}, seen {seen:?}");
    }
    assert_eq!(found.next(), None, "seed {seed}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn st1_holds_on_a_disk_that_fails_and_through_lost_power() {
    let seeds = std::env::var("PRISM_TEST_SEEDS").map_or(150, |n| n.parse().unwrap());
    for seed in 0..seeds {
        runtime().block_on(async {
            let mut random = Random(seed);
            let mut disk = SimDisk::new(Path::new(ROOT), seed);
            let (mut next, mut known) = (0, BTreeMap::new());
            // Twice, so that a new writer works beside what a crash left.
            for life in 0..2 {
                let store = open(&disk, life);
                disk.fail_one_in([0, 6, 15, 40][random.below(4)]);
                if random.one_in(2) {
                    disk.die_in(random.below(120) as u64);
                }
                let live = reader(&disk);
                for _ in 0..random.below(8) {
                    burst(&store, &disk, &mut random, &mut next, &mut known).await;
                    if !disk.is_dead() {
                        check(&numbers(&all(&live)), &known, seed);
                    }
                }
                if random.one_in(2) && !disk.is_dead() {
                    store.close().await;
                }
                disk = disk.crash();
                let after = all(&reader(&disk));
                check(&numbers(&after), &known, seed);
                assert!(after.unreadable.is_empty(), "seed {seed}: {:?}", after.unreadable);
                // What is there after the crash stays, what is not stays away.
                let there = numbers(&after);
                for (first, (_, outcome)) in &mut known {
                    *outcome = if there.binary_search(first).is_ok() { Known::Kept } else { Known::Refused };
                }
            }
        });
    }
}

#[test]
fn a_full_disk_refuses_with_retry_and_recovers_by_itself() {
    runtime().block_on(async {
        let disk = SimDisk::new(Path::new(ROOT), 1);
        let store = open(&disk, 1);
        store.append(&tenant(), numbered(0, &[NOW; 5])).await.unwrap();
        let mut kept: Vec<i64> = (0..5).collect();
        disk.capacity(disk.used() + 40_000);
        let mut refused = 0;
        for i in 1..200 {
            match store.append(&tenant(), numbered(i * 100, &[NOW; 50])).await {
                Ok(_) => kept.extend(i * 100..i * 100 + 50),
                Err(e) => {
                    assert!(matches!(e, StoreError::Full(_)), "{e}");
                    assert_eq!(e.kind(), Kind::Retry);
                    refused += 1;
                }
            }
            assert_eq!(numbers(&all(&store.reader())), kept);
        }
        assert!(refused > 10 && kept.len() > 5);
        disk.capacity(u64::MAX);
        store.append(&tenant(), numbered(100_000, &[NOW; 50])).await.unwrap();
        kept.extend(100_000..100_050);
        assert_eq!(numbers(&all(&store.reader())), kept);
        assert_eq!(numbers(&all(&reader(&disk.crash()))), kept);
        store.close().await;
    });
}

const OK: bool = false;
const FAILS: bool = true;

#[test]
fn st1_a_frame_that_cannot_be_blanked_is_cut_off_by_an_end_link() {
    runtime().block_on(async {
        // After body, header: the sync fails, and so does blanking the header.
        for (after, uncertain) in
            [(&[OK][..], false), (&[FAILS, OK], false), (&[FAILS, FAILS], true), (&[FAILS, OK, FAILS], true)]
        {
            let disk = SimDisk::new(Path::new(ROOT), 1);
            let store = open(&disk, 1);
            let live = reader(&disk);
            store.append(&tenant(), numbered(0, &[NOW; 3])).await.unwrap();
            disk.plan(&[&[OK, OK, FAILS], after].concat());
            let error = store.append(&tenant(), numbered(10, &[NOW; 3])).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Retry);
            assert_eq!(matches!(error, StoreError::Uncertain), uncertain, "{after:?}: {error}");
            assert!(disk.plan_is_done());
            if !uncertain {
                assert_eq!(numbers(&all(&live)), [0, 1, 2]);
            }
            // While it cannot be undone nothing is accepted; then the file is left alone and all goes on in another.
            if uncertain {
                disk.plan(&[FAILS]);
                let refused = store.append(&tenant(), numbered(20, &[NOW; 3])).await.unwrap_err();
                assert!(matches!(refused, StoreError::Undoing), "{refused}");
            }
            store.append(&tenant(), numbered(30, &[NOW; 3])).await.unwrap();
            assert_eq!(numbers(&all(&live)), [0, 1, 2, 30, 31, 32]);
            assert_eq!(numbers(&all(&reader(&disk.crash()))), [0, 1, 2, 30, 31, 32]);
        }
    });
}

#[test]
fn st1_a_reader_that_saw_a_frame_before_it_was_undone_forgets_it() {
    runtime().block_on(async {
        let disk = SimDisk::new(Path::new(ROOT), 1);
        let store = open(&disk, 1);
        let live = reader(&disk);
        let two_windows = [NOW, NOW - WINDOW_NANOS];
        store.append(&tenant(), numbered(0, &two_windows)).await.unwrap();
        let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
        disk.before_sync(Some(Arc::new({
            let (live, seen) = (live.clone(), seen.clone());
            move || seen.lock().push(numbers(&all(&live)))
        })));
        // Two bodies and headers, then two syncs of which one fails: the other file is used again at the same place.
        disk.plan(&[OK, OK, OK, OK, FAILS]);
        store.append(&tenant(), numbered(10, &two_windows)).await.unwrap_err();
        disk.before_sync(None);
        assert_eq!(seen.lock()[0], [0, 1, 10, 11], "before the sync both frames stood");
        assert_eq!(numbers(&all(&live)), [0, 1]);
        store.append(&tenant(), numbered(20, &two_windows)).await.unwrap();
        assert_eq!(numbers(&all(&live)), [0, 1, 20, 21]);
    });
}

/// An open segment of two frames, of 3 and of 8 rows: its store, its name, and where the last frame begins and ends.
async fn two_frames(disk: &SimDisk) -> (Arc<Store>, String, [usize; 2]) {
    let store = open(disk, 1);
    store.append(&tenant(), numbered(0, &[NOW; 3])).await.unwrap();
    store.append(&tenant(), numbered(10, &[NOW; 8])).await.unwrap();
    let frames = all(&reader(disk)).frames;
    let bytes = |n: usize| frames[n].stats().bytes as usize;
    let name = disk.names().into_iter().find(|n| n.ends_with(".seg")).unwrap();
    (store, name, [256 + bytes(0), 256 + bytes(0) + bytes(1)])
}

#[test]
fn a_last_frame_without_its_payload_was_never_acknowledged() {
    runtime().block_on(async {
        let disk = SimDisk::new(Path::new(ROOT), 1);
        let (_store, name, [_, end]) = two_frames(&disk).await;
        // The header and all statistics are there, some of the rows are not, and nothing behind it says that it was acknowledged.
        disk.edit(&name, |b| b[end - 40..end + 160].fill(0));
        let snapshot = all(&reader(&disk));
        assert_eq!(numbers(&snapshot), [0, 1, 2]);
        assert!(snapshot.unreadable.is_empty());
    });
}

#[test]
fn a_last_frame_that_lost_its_payload_after_it_was_acknowledged_is_told() {
    runtime().block_on(async {
        let disk = SimDisk::new(Path::new(ROOT), 1);
        let (_store, name, [last, end]) = two_frames(&disk).await;
        disk.edit(&name, |b| b[end - 40..end].fill(0));
        let snapshot = all(&reader(&disk));
        assert!(snapshot.frames[0].read(&|_, _| true).is_ok());
        let error = snapshot.frames[1].read(&|_, _| true).unwrap_err();
        assert!(matches!(error, prism_store::StoreError::Damaged(_)), "{error}");
        // The header of it too: then it is not found, and it is known that something was there.
        disk.edit(&name, |b| b[last..last + 160].fill(7));
        let snapshot = all(&reader(&disk));
        assert_eq!((snapshot.frames.len(), snapshot.unreadable.len()), (1, 1));
    });
}

/// Bytes of the only segment after four appends of 3 rows; `closed` says whether it has its end mark.
async fn segment(disk: &SimDisk, closed: bool) -> (String, Vec<u8>) {
    let store = open(disk, 1);
    for i in 0..4 {
        store.append(&tenant(), numbered(i * 3, &[NOW; 3])).await.unwrap();
    }
    if closed {
        store.close().await;
    }
    let name = disk.names().into_iter().find(|n| n.ends_with(".seg")).unwrap();
    let mut bytes = Vec::new();
    disk.edit(&name, |b| bytes.clone_from(b));
    (name, bytes)
}

#[test]
fn a_flipped_bit_anywhere_loses_no_row_in_silence() {
    runtime().block_on(async {
        let disk = SimDisk::new(Path::new(ROOT), 1);
        let (name, bytes) = segment(&disk, true).await;
        for at in 0..bytes.len() {
            disk.edit(&name, |b| b[at] ^= 1 << (at % 8));
            let snapshot = all(&reader(&disk));
            let mut found = Vec::new();
            let mut told = !snapshot.unreadable.is_empty();
            for frame in &snapshot.frames {
                match frame.read(&|_, _| true) {
                    Ok(_) => {
                        let mut one = prism_store::Snapshot::default();
                        one.frames.push(frame.clone());
                        found.extend(numbers(&one));
                    }
                    Err(_) => told = true,
                }
            }
            assert!(found.windows(2).all(|w| w[0] < w[1]) && found.iter().all(|n| (0..12).contains(n)), "flip at {at}");
            // The last frame of a file without its end mark may have been cut short by a crash: then nothing is missing.
            let in_end_mark = at >= bytes.len() - 160;
            assert!(found.len() == 12 || told || in_end_mark, "flip at {at}: {found:?}");
            disk.edit(&name, |b| b[at] ^= 1 << (at % 8));
        }
    });
}

#[test]
fn a_segment_cut_anywhere_keeps_its_whole_frames() {
    runtime().block_on(async {
        let disk = SimDisk::new(Path::new(ROOT), 1);
        let (name, bytes) = segment(&disk, false).await;
        for len in 0..bytes.len().min(8_000) {
            disk.edit(&name, |b| b.truncate(len));
            let snapshot = all(&reader(&disk));
            let found = numbers(&snapshot);
            assert!(
                found.len().is_multiple_of(3) && found == (0..found.len() as i64).collect::<Vec<_>>(),
                "cut at {len}: {found:?}"
            );
            assert!(snapshot.unreadable.is_empty());
            disk.edit(&name, |b| b.clone_from(&bytes));
        }
        assert_eq!(numbers(&all(&reader(&disk))).len(), 12);
    });
}

#[test]
fn st2_a_segment_in_the_wrong_place_is_refused() {
    runtime().block_on(async {
        let disk = SimDisk::new(Path::new(ROOT), 1);
        let (name, bytes) = segment(&disk, true).await;
        let store = open(&disk, 1);
        let other: prism_model::TenantId = "other".parse().unwrap();
        store.append(&other, numbered(100, &[NOW])).await.unwrap();
        let theirs = name.replace("/acme/", "/other/");
        disk.edit(&theirs, |b| *b = bytes);
        let range = prism_model::window::TimeRange::ALL;
        let snapshot = reader(&disk).snapshot(&other, prism_model::Signal::Spans, range).unwrap();
        assert!(snapshot.frames.is_empty());
        assert_eq!(snapshot.unreadable.len(), 1);
        assert!(!snapshot.unreadable[0].reason.contains("acme"));
    });
}
