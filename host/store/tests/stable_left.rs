//! A table whose log tells of frames that it lacks (`prism-left`), as version 1 wrote it, is read for ever: what is left is told,
//! and read and brought to the table when it is mended (`adr/0005`).
//!
//! `PRISM_WRITE_FIXTURES=1` writes the folder where it is not there.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::path::{Path, PathBuf};

use prism_model::samples::spans;
use prism_model::window::TimeRange;
use prism_model::{Batch, Signal};
use prism_store::keys::Keyring;
use prism_store::life::{self, Age, Moved, Policy, Storage};
use prism_store::{Snapshot, Tier};
use support::folders::{copied, fixture, is_written, kept, lines, storage, told_of, write};
use support::rows::texts;
use support::{NOW, tenant};

const MINUTE: i64 = 60_000_000_000;
const FOLDER: &str = "data-v1-left";
/// The copies that are there, with how many frames each lacks.
const COPIES: [(u64, usize); 2] = [(1, 2), (4, 1)];
/// When it was written last.
const LAST: i64 = NOW + 5 * 60 * MINUTE;

/// Small frames: one transaction tells of 32.
fn small(root: &Path) -> Storage {
    let mut storage = storage(root, Keyring::default());
    storage.seal.frame_rows = 4;
    storage
}

fn block(root: &Path, seq: u64) -> PathBuf {
    root.join(format!("objects/warm/acme/spans/0/{seq:020}.blk"))
}

fn copy(root: &Path, seq: u64) -> PathBuf {
    root.join(format!("objects/warm/acme/spans/0/left/{seq:020}"))
}

fn good(root: &Path, seq: u64) -> PathBuf {
    root.join(format!("block-{seq}.blk"))
}

fn moves(root: &Path, now: i64, cold_after: Age) -> Moved {
    let policy = Policy { cold_after, warm_after: Age::ms(0), ..Policy::default() };
    let moved = small(root).moves(&tenant(), Signal::Spans, &policy, now, false, &|| false);
    assert!(moved.failures.is_empty(), "{moved:?}");
    moved
}

fn snapshot(root: &Path) -> Snapshot {
    small(root).reader.snapshot(&tenant(), Signal::Spans, TimeRange::ALL).unwrap()
}

/// Damages these frames of a block and no other; gives the block's bytes as they were.
fn damage(root: &Path, seq: u64, which: &[usize]) -> Vec<u8> {
    let path = block(root, seq);
    let good = std::fs::read(&path).unwrap();
    let found = small(root).blocks.list(&tenant(), Signal::Spans, 0, seq - 1).unwrap();
    let frames = found[0].frames(TimeRange::ALL);
    let bad =
        || -> Vec<usize> { (0..frames.len()).filter(|frame| frames[*frame].read(&|_, _| true).is_err()).collect() };
    let (mut bytes, mut at) = (good.clone(), 300);
    for (n, _) in which.iter().enumerate() {
        while bad() != which[..=n] {
            bytes[at] = good[at];
            at += 16;
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
        }
        at += 16;
    }
    good
}

/// Four blocks come to the table, of each some frames are damaged: two of the first stay so though a third is mended, those of the
/// second are mended, that of the third is given up, that of the fourth is left behind the checkpoint.
fn write_folder(root: &Path) {
    std::fs::create_dir_all(root.join("objects")).unwrap();
    let mut rows: Vec<String> = Vec::new();
    let seal = |seq: u64, batches: usize| -> Vec<Vec<String>> {
        let now = NOW + (seq as i64 - 1) * 60 * MINUTE;
        let of: Vec<Batch> = (0..batches).map(|n| spans(5, now, seq * 100 + n as u64)).collect();
        write(root, &Keyring::default(), 20 + seq, now, of.iter().map(|b| (Signal::Spans, b.clone())).collect(), true);
        moves(root, now + 40 * MINUTE, Age::NEVER);
        of.iter().map(texts).collect()
    };
    let promote = |seq: u64| {
        let now = NOW + (seq as i64 - 1) * 60 * MINUTE + 45 * MINUTE;
        let left = moves(root, now, Age::ms(0)).damaged.len();
        // What was sealed goes, when nobody reads it.
        moves(root, now + 5 * MINUTE, Age::ms(0));
        left
    };
    rows.extend(seal(1, 40).concat());
    let first = damage(root, 1, &[1, 33, 39]);
    assert_eq!(promote(1), 3);
    rows.extend(seal(2, 3).concat());
    let second = damage(root, 2, &[0, 2]);
    assert_eq!(promote(2), 5);
    std::fs::write(copy(root, 2), second).unwrap();
    let third = seal(3, 3);
    rows.extend([third[0].clone(), third[2].clone()].concat());
    damage(root, 3, &[1]);
    assert_eq!(promote(3), 4);
    std::fs::remove_file(copy(root, 3)).unwrap();
    rows.extend(seal(4, 3).concat());
    let fourth = damage(root, 4, &[0]);
    assert_eq!(promote(4), 4);
    // All but two of the first block's.
    let mut mended = std::fs::read(copy(root, 1)).unwrap();
    let spoilt: Vec<usize> = (0..first.len()).filter(|at| first[*at] != mended[*at]).collect();
    let [_, of_33, _] = spoilt[..] else { panic!("{spoilt:?}") };
    mended[of_33] = first[of_33];
    std::fs::write(copy(root, 1), mended).unwrap();
    assert_eq!(moves(root, LAST, Age::ms(0)).damaged.len(), 3);
    std::fs::write(good(root, 1), first).unwrap();
    std::fs::write(good(root, 4), fourth).unwrap();
    rows.sort_unstable();
    std::fs::write(root.join("rows-spans.txt"), lines(&rows)).unwrap();
    let log = std::fs::read_dir(root.join("objects/cold/acme/spans/_delta_log")).unwrap();
    let names: Vec<String> = log.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.ends_with(".checkpoint.parquet")), "{names:?}");
}

#[test]
fn a_table_of_version_1_that_lacks_damaged_frames_reads_and_is_mended() {
    if is_written() && !fixture(FOLDER).exists() {
        write_folder(&fixture(FOLDER));
    }
    let root = copied(FOLDER);
    let all = kept(FOLDER, "rows-spans.txt");
    let lacks: usize = COPIES.iter().map(|(_, frames)| frames).sum();
    // What is left is told, and nothing else is missing.
    let found = snapshot(root.path());
    let (rows, why) = told_of(&found);
    assert_eq!((rows.len() + 5 * lacks, why.len(), found.unreadable.len()), (all.len(), lacks, 0), "{why:?}");
    assert!(rows.iter().all(|row| all.binary_search(row).is_ok()));
    assert_eq!(found.frames.iter().filter(|frame| frame.tier() == Tier::Warm).count(), lacks);
    let status = life::status(&small(root.path()), &tenant(), Signal::Spans, Policy::default(), LAST).unwrap();
    assert_eq!(status.unreadable.len(), COPIES.len(), "{:?}", status.unreadable);
    for ((seq, frames), told) in COPIES.iter().zip(&status.unreadable) {
        let what = format!("copy `left/{seq:020}` of block {seq} of shard 0: {frames} frames of {} rows", 5 * frames);
        assert!(told.starts_with(&what), "{told}");
    }
    // A good copy is read at once, and comes to the table.
    for (seq, _) in COPIES {
        std::fs::copy(good(root.path(), seq), copy(root.path(), seq)).unwrap();
    }
    // The newest block is there itself, too.
    std::fs::copy(good(root.path(), 4), block(root.path(), 4)).unwrap();
    assert_eq!(told_of(&snapshot(root.path())), (all.clone(), Vec::new()));
    let moved = moves(root.path(), LAST + 10 * MINUTE, Age::ms(0));
    assert_eq!(moved.damaged, []);
    let found = snapshot(root.path());
    assert!(found.frames.iter().all(|frame| frame.tier() == Tier::Cold));
    assert_eq!(told_of(&found), (all, Vec::new()));
    let verified = life::verify(&small(root.path()), &tenant(), Signal::Spans, &mut |_| ()).unwrap();
    assert_eq!(verified.faults, []);
}
