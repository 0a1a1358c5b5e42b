//! Sealing moves every row once, whoever does it and wherever it stops (ST-1, ST-4).
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use prism_model::samples::Random;
use prism_model::window::{TimeRange, WINDOW_NANOS};
use prism_model::{AttrType, ColumnId, Signal};
use prism_store::disk::{Disk, RealDisk};
use prism_store::keys::Keyring;
use prism_store::objects::{LocalObjects, Objects};
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{Frame, Reader, Store, StoreError, StoreOptions, Surroundings, Tier};
use support::disk::SimDisk;
use support::{NOW, all, numbered, tenant};

const MINUTE: i64 = 60 * 1_000_000_000;
/// When all windows of these tests are over, and their deltas due.
const LATER: i64 = NOW + 120 * MINUTE;

/// One process's view of a data folder.
struct Node {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    blocks: Blocks,
    options: SealOptions,
    covered: u64,
}

impl Node {
    fn new(disk: Arc<dyn Disk>, root: &Path, id: u64) -> Node {
        let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(disk.clone(), &root.join("objects"), id));
        let blocks = Blocks::open(objects, Keyring::default());
        let options = SealOptions { frame_rows: 40, seal_bytes_min: 0, ..SealOptions::default() };
        Node { disk, root: root.to_owned(), blocks, options, covered: 0 }
    }

    fn with<T>(&self, work: impl FnOnce(&SealEnv<'_>) -> T) -> T {
        let covered = |_: &_, _, _| Ok(self.covered);
        work(&SealEnv {
            disk: &*self.disk,
            root: &self.root,
            blocks: &self.blocks,
            options: &self.options,
            covered: &covered,
        })
    }

    fn seal(&self, now: i64) -> Result<seal::SealReport, StoreError> {
        self.with(|env| seal::pass(env, &tenant(), Signal::Spans, now, false))
    }

    fn reclaim(&self, now: i64) -> Result<seal::Reclaimed, StoreError> {
        self.with(|env| seal::reclaim(env, &tenant(), Signal::Spans, now, false))
    }

    fn listed(&self) -> Vec<Arc<prism_store::warm::Block>> {
        self.blocks.list(&tenant(), Signal::Spans, 0, 0).unwrap()
    }

    /// The frames of blocks, and of the segments that none covers.
    fn frames(&self) -> Vec<Frame> {
        let blocks = self.listed();
        let sealed: BTreeSet<String> = blocks.iter().flat_map(|b| b.sources.iter().map(|s| s.file_name())).collect();
        let hot = all(&Reader::open_on(self.disk.clone(), &self.root));
        let unsealed = hot
            .frames
            .into_iter()
            .filter(|f| f.tier() == Tier::Hot && !sealed.iter().any(|name| f.name().contains(name.as_str())));
        blocks.iter().flat_map(|b| b.frames(TimeRange::ALL)).chain(unsealed).collect()
    }

    fn rows(&self) -> Vec<i64> {
        let mut rows: Vec<i64> = self.frames().iter().flat_map(numbers).collect();
        rows.sort_unstable();
        rows
    }

    /// Segments that are there, sealed or not.
    fn segments(&self) -> usize {
        let shard = self.root.join("hot").join(tenant().as_str()).join("spans/0");
        let windows = self.disk.list(&shard).unwrap_or_default();
        let files = windows.iter().flat_map(|window| self.disk.list(&shard.join(window)).unwrap_or_default());
        files.filter(|name| name.ends_with(".seg")).count()
    }
}

fn numbers(frame: &Frame) -> Vec<i64> {
    let (batch, _) = frame.read(&|_, _| true).unwrap();
    let rows = batch.items().column(&ColumnId::attr("row", AttrType::Int)).unwrap();
    let rows = rows.as_primitive::<Int64Type>().values().to_vec();
    // Each origin keeps its batch id with its rows.
    for origin in &batch.origins {
        let first = i64::try_from(u128::from_le_bytes(origin.batch_id)).unwrap();
        let own = &rows[origin.first_row as usize..][..origin.rows as usize];
        assert!(own.iter().all(|row| (first..first + 1_000_000).contains(row)), "{first}: {own:?}");
    }
    assert_eq!(batch.origins.iter().map(|o| o.rows as usize).sum::<usize>(), rows.len());
    rows
}

fn store(disk: &Arc<dyn Disk>, root: &Path, writer: u64) -> Arc<Store> {
    let options = StoreOptions { commit_delay_ms: 0, frame_rows: 16, ..StoreOptions::default() };
    let around = Surroundings { disk: disk.clone(), clock: Arc::new(|| NOW), writer, keys: Default::default() };
    Store::open_in(root, options, around)
}

/// Writes so many batches of numbered rows over some windows, and ends the segments.
async fn write(disk: &Arc<dyn Disk>, root: &Path, writer: u64, first: i64, batches: usize) -> i64 {
    let store = store(disk, root, writer);
    let mut next = first;
    for i in 0..batches {
        let rows = if i % 5 == 4 { 50 } else { 3 + (i as i64 % 7) };
        let times: Vec<i64> = (0..rows).map(|r| NOW - (r % 2) * WINDOW_NANOS).collect();
        store.append(&tenant(), numbered(next, &times)).await.unwrap();
        next += rows;
    }
    store.close().await;
    next
}

fn on_disk() -> (tempfile::TempDir, Arc<dyn Disk>) {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("objects")).unwrap();
    (root, Arc::new(RealDisk))
}

#[tokio::test]
async fn st4_sealed_rows_are_in_one_block_and_their_segments_go() {
    let (root, disk) = on_disk();
    let node = Node::new(disk.clone(), root.path(), 1);
    let end = write(&disk, root.path(), 1, 0, 60).await;
    let expected: Vec<i64> = (0..end).collect();
    assert_eq!(node.rows(), expected);
    // Not yet, and a dry run does nothing.
    assert!(node.seal(NOW - 10 * MINUTE).unwrap().blocks.is_empty());
    let plan = node.with(|env| seal::pass(env, &tenant(), Signal::Spans, LATER, true)).unwrap();
    assert_eq!((plan.blocks.len(), plan.blocks[0].rows, plan.blocks[0].seq), (1, end as u64, 1));
    assert!(node.listed().is_empty());
    let report = node.seal(LATER).unwrap();
    assert_eq!((report.blocks.len(), report.blocks[0].rows), (1, end as u64));
    assert_eq!(report.blocks[0].sources, plan.blocks[0].sources);
    assert_eq!(node.rows(), expected);
    // Small frames became full ones, but for the last of each window.
    let frames = node.frames();
    assert!(frames.iter().all(|f| f.tier() == Tier::Warm));
    let small: Vec<usize> = frames.iter().map(Frame::rows).filter(|rows| *rows < 38).collect();
    assert!(small.len() <= 2, "{small:?}");
    // Nothing is left to do, and nothing is deleted before the grace is over.
    assert!(node.seal(LATER).unwrap().blocks.is_empty());
    let early = node.reclaim(LATER + 119_000_000_000).unwrap();
    assert_eq!((early.segments, early.waiting), (0, 2));
    assert!(!seal::gone(&*disk, root.path(), &node.listed()[0]).unwrap());
    let dry = node.with(|env| seal::reclaim(env, &tenant(), Signal::Spans, LATER + 2 * MINUTE, true)).unwrap();
    assert_eq!((dry.segments, node.segments()), (2, 2));
    let reclaimed = node.reclaim(LATER + 2 * MINUTE).unwrap();
    assert_eq!((reclaimed.segments, reclaimed.folders, reclaimed.waiting), (2, 2, 0));
    assert!(seal::gone(&*disk, root.path(), &node.listed()[0]).unwrap());
    assert_eq!((node.rows(), node.segments()), (expected.clone(), 0));
    // A window goes on with deltas, under the next number.
    let end = write(&disk, root.path(), 2, end, 4).await;
    assert_eq!(node.seal(LATER).unwrap().blocks[0].seq, 2);
    assert_eq!(node.rows(), (0..end).collect::<Vec<_>>());
}

#[tokio::test]
async fn full_frames_are_taken_as_they_stand() {
    let (root, disk) = on_disk();
    let mut node = Node::new(disk.clone(), root.path(), 1);
    node.options.frame_rows = 16;
    let options = StoreOptions { commit_delay_ms: 0, frame_rows: 16, ..StoreOptions::default() };
    let around = Surroundings { disk: disk.clone(), clock: Arc::new(|| NOW), writer: 1, keys: Default::default() };
    let store = Store::open_in(root.path(), options, around);
    for i in 0..6 {
        store.append(&tenant(), numbered(i * 16, &[NOW; 16])).await.unwrap();
    }
    store.append(&tenant(), numbered(96, &[NOW; 3])).await.unwrap();
    store.close().await;
    let before: Vec<u64> =
        all(&Reader::open_on(disk.clone(), root.path())).frames.iter().map(|f| f.stats().bytes).collect();
    node.seal(LATER).unwrap();
    let frames = node.frames();
    assert_eq!(frames.iter().map(Frame::rows).collect::<Vec<_>>(), [16, 16, 16, 16, 16, 16, 3]);
    // Only the schema may differ.
    for (frame, before) in frames.iter().zip(before) {
        assert!(frame.stats().bytes.abs_diff(before) < 64, "{} {before}", frame.stats().bytes);
    }
    assert_eq!(node.rows(), (0..99).collect::<Vec<_>>());
    node.listed()[0].verify().unwrap();
}

/// Of many that seal and reclaim at once, each row is sealed by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn st4_sealers_that_race_seal_each_row_once() {
    let (root, disk) = on_disk();
    let mut next = 0;
    for round in 0..4 {
        for writer in 0..4 {
            next = write(&disk, root.path(), 10 + round * 10 + writer, next, 6).await;
        }
        let reports: Vec<_> = std::thread::scope(|scope| {
            let one = |i: u64| {
                let (disk, root) = (disk.clone(), root.path());
                scope.spawn(move || {
                    let mut node = Node::new(disk, root, 100 * (round + 1) + i);
                    node.options.block_bytes_max = 1;
                    let sealed = node.seal(LATER).unwrap();
                    (sealed, node.reclaim(LATER + 10 * MINUTE).unwrap())
                })
            };
            let threads: Vec<_> = (0..4).map(one).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let node = Node::new(disk.clone(), root.path(), 1);
        node.seal(LATER).unwrap();
        assert_eq!(node.rows(), (0..next).collect::<Vec<_>>(), "{reports:?}");
        let seqs: Vec<u64> = node.listed().iter().map(|b| b.seq).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    }
    let node = Node::new(disk.clone(), root.path(), 1);
    node.reclaim(LATER + 10 * MINUTE).unwrap();
    assert_eq!((node.segments(), node.rows()), (0, (0..next).collect::<Vec<_>>()));
}

/// The machine dies at each operation of sealing and reclaiming; after power is back, the same work goes on.
#[tokio::test]
async fn st4_a_death_at_any_step_loses_and_doubles_nothing() {
    let root = Path::new("/data");
    let mut deaths = 0;
    for seed in 0..3 {
        for die_in in 1.. {
            let sim = SimDisk::new(root, seed * 1_000 + die_in);
            let disk: Arc<dyn Disk> = Arc::new(sim.clone());
            disk.create_dir(&root.join("objects")).unwrap();
            disk.sync_dir(root).unwrap();
            let end = write(&disk, root, 1, 0, 8).await;
            let node = Node::new(disk, root, 1);
            sim.die_in(die_in);
            let done = node.seal(LATER).and_then(|_| node.reclaim(LATER + 5 * MINUTE));
            let died = done.is_err();
            let after = sim.crash();
            let node = Node::new(Arc::new(after.clone()), root, 2);
            assert_eq!(
                node.rows(),
                (0..end).collect::<Vec<_>>(),
                "seed {seed}, death at {die_in}: {:#?}",
                after.names()
            );
            node.seal(LATER + 10 * MINUTE).unwrap();
            node.reclaim(LATER + 20 * MINUTE).unwrap();
            assert_eq!(node.rows(), (0..end).collect::<Vec<_>>(), "seed {seed}, death at {die_in}, and again");
            assert_eq!(node.segments(), 0);
            assert!(node.listed().iter().all(|b| seal::gone(&after, root, b).unwrap()));
            // What was removed stays removed.
            let again = Node::new(Arc::new(after.crash()), root, 3);
            assert_eq!((again.segments(), again.rows()), (0, (0..end).collect::<Vec<_>>()));
            deaths += usize::from(died);
            if !died {
                break;
            }
        }
    }
    assert!(deaths > 60, "{deaths}");
}

/// Each operation may fail, or be done though the answer says that it failed.
#[tokio::test]
async fn failures_of_disk_and_objects_are_made_up_for() {
    let root = Path::new("/data");
    let mut failed = 0;
    for seed in 0..60 {
        let sim = SimDisk::new(root, seed);
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        disk.create_dir(&root.join("objects")).unwrap();
        disk.sync_dir(root).unwrap();
        let end = write(&disk, root, 1, 0, 8).await;
        let node = Node::new(disk, root, 1);
        sim.fail_one_in(6);
        for step in 0..6 {
            let now = LATER + step * 5 * MINUTE;
            failed += usize::from(node.seal(now).is_err()) + usize::from(node.reclaim(now).is_err());
        }
        sim.fail_one_in(0);
        assert_eq!(node.rows(), (0..end).collect::<Vec<_>>(), "seed {seed}");
        node.seal(LATER + 40 * MINUTE).unwrap();
        node.reclaim(LATER + 50 * MINUTE).unwrap();
        assert_eq!((node.segments(), node.rows()), (0, (0..end).collect::<Vec<_>>()), "seed {seed}");
    }
    assert!(failed > 50, "{failed}");
}

#[tokio::test]
async fn what_stands_of_a_damaged_segment_is_sealed_and_its_file_is_kept() {
    let (root, disk) = on_disk();
    let node = Node::new(disk.clone(), root.path(), 1);
    let store = store(&disk, root.path(), 1);
    for i in 0..20 {
        store.append(&tenant(), numbered(i * 5, &[NOW; 5])).await.unwrap();
    }
    store.close().await;
    let segment = files_below(&root.path().join("hot")).into_iter().find(|p| p.extension().is_some()).unwrap();
    let frames = all(&Reader::open_on(disk.clone(), root.path())).frames;
    // The payload of the fifth frame, which nothing but its hash covers once it is confirmed.
    let offset: u64 = 256 + frames[..5].iter().map(|f| f.stats().bytes).sum::<u64>();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[offset as usize - 20] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let report = node.seal(LATER).unwrap();
    assert_eq!((report.blocks.len(), report.blocks[0].rows), (1, 95));
    assert_eq!(report.damaged.len(), 1);
    assert!(node.listed()[0].sources[0].lost);
    let lost: Vec<i64> = (0..100).filter(|n| (20..25).contains(n)).collect();
    assert_eq!(node.rows(), (0..100).filter(|n| !lost.contains(n)).collect::<Vec<_>>());
    let reclaimed = node.reclaim(LATER + 5 * MINUTE).unwrap();
    assert_eq!((reclaimed.segments, reclaimed.aside.len()), (0, 1));
    let kept = files_below(&root.path().join("hot"));
    assert_eq!(kept.len(), 1);
    assert!(kept[0].to_string_lossy().contains("/damaged/") && std::fs::read(&kept[0]).unwrap() == bytes);
    assert!(seal::gone(&*disk, root.path(), &node.listed()[0]).unwrap());
    assert_eq!(node.reclaim(LATER + 9 * MINUTE).unwrap(), seal::Reclaimed::default());

    // One of which not even the header stands is left where it is, and does not hold up others.
    let end = write(&disk, root.path(), 2, 100, 3).await;
    let segment =
        files_below(&root.path().join("hot")).into_iter().find(|p| !p.to_string_lossy().contains("/damaged/"));
    let segment = segment.unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let report = node.seal(LATER).unwrap();
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    node.reclaim(LATER + 20 * MINUTE).unwrap();
    assert!(segment.exists());
    assert!(end > 100);
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A writer that makes a file in a folder that is being removed finds or makes the folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_go_while_writers_make_files_in_them() {
    let (root, disk) = on_disk();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tidy = {
        let (disk, root, stop) = (disk.clone(), root.path().to_owned(), stop.clone());
        std::thread::spawn(move || {
            let node = Node::new(disk, &root, 9);
            let mut reclaimed = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                node.seal(LATER).unwrap();
                reclaimed += node.reclaim(LATER + 5 * MINUTE).unwrap().folders;
            }
            reclaimed
        })
    };
    let mut known = BTreeMap::new();
    let mut next = 0;
    for writer in 0..40 {
        let store = store(&disk, root.path(), writer);
        for _ in 0..3 {
            let kept = store.append(&tenant(), numbered(next, &[NOW; 4])).await;
            if let Err(e) = &kept {
                eprintln!("{e}: {:?}", std::error::Error::source(e));
            }
            known.insert(next, kept.is_ok());
            next += 4;
        }
        store.close().await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let folders = tidy.join().unwrap();
    let node = Node::new(disk, root.path(), 1);
    let expected: Vec<i64> =
        known.iter().filter(|(_, kept)| **kept).flat_map(|(first, _)| *first..*first + 4).collect();
    assert_eq!(node.rows(), expected);
    assert!(known.values().all(|kept| *kept), "no append fails for a folder that went: {folders} did");
}

/// A sealer that slept makes a block under a number that was used, promoted and removed: nothing is lost by it.
#[tokio::test]
async fn a_block_that_took_an_old_number_covers_nothing() {
    let (root, disk) = on_disk();
    let mut node = Node::new(disk.clone(), root.path(), 1);
    let mut next = 0;
    for writer in 0..3 {
        next = write(&disk, root.path(), writer, next, 3).await;
        node.seal(LATER).unwrap();
    }
    node.reclaim(LATER + 5 * MINUTE).unwrap();
    assert_eq!(node.listed().len(), 3);
    // Numbers up to 2 are promoted; the newest block would stay even where it is covered.
    node.covered = 2;
    let objects = node.blocks.objects().clone();
    let first = node.listed()[0].object();
    let removed = node.with(|env| seal::retire(env, &tenant(), Signal::Spans, 0, 1)).unwrap();
    assert_eq!(removed, 1);
    // The sealer that slept: it knew of no block when it decided.
    let end = write(&disk, root.path(), 7, next, 3).await;
    let (elsewhere, other) = (tempfile::tempdir().unwrap(), Node::new(disk.clone(), root.path(), 8));
    let apart: Arc<dyn Objects> = Arc::new(LocalObjects::new(disk.clone(), elsewhere.path(), 8));
    let slept = Node { blocks: Blocks::open(apart.clone(), Keyring::default()), ..other };
    slept.seal(LATER).unwrap();
    objects.create(&first, apart.get(&first).unwrap()).unwrap();
    let node = Node { blocks: Blocks::open(objects, Keyring::default()), ..node };
    assert_eq!(node.listed().len(), 3);
    // Its segments stay, and are sealed again.
    assert_eq!(node.reclaim(LATER + 5 * MINUTE).unwrap().void, [1]);
    let report = node.seal(LATER + 5 * MINUTE).unwrap();
    assert_eq!((report.blocks.len(), report.blocks[0].seq, report.blocks[0].rows), (1, 4, (end - next) as u64));
    // All of them promoted: the newest stays.
    let node = Node { covered: 4, ..node };
    node.reclaim(LATER + 15 * MINUTE).unwrap();
    assert_eq!(node.with(|env| seal::retire(env, &tenant(), Signal::Spans, 0, 4)).unwrap(), 3);
    assert_eq!(node.listed().iter().map(|b| b.seq).collect::<Vec<_>>(), [4]);
}

/// Blocks of a shard whose blocks were all removed go on behind what the table covers.
#[tokio::test]
async fn numbers_go_on_behind_what_is_covered() {
    let (root, disk) = on_disk();
    let mut node = Node::new(disk.clone(), root.path(), 1);
    node.covered = 41;
    write(&disk, root.path(), 1, 0, 3).await;
    assert_eq!(node.seal(LATER).unwrap().blocks[0].seq, 42);
}

/// A sealer whose listing is old knows the last number from the table, and not its block: that one is not void for it.
#[tokio::test]
async fn a_block_that_a_late_listing_missed_still_covers_its_segments() {
    let (root, disk) = on_disk();
    let node = Node::new(disk.clone(), root.path(), 1);
    let next = write(&disk, root.path(), 1, 0, 3).await;
    node.seal(LATER).unwrap();
    let of_first = node.listed()[0].rows;
    let elsewhere = tempfile::tempdir().unwrap();
    let apart: Arc<dyn Objects> = Arc::new(LocalObjects::new(disk.clone(), elsewhere.path(), 8));
    let late = Node::new(disk.clone(), root.path(), 8);
    let late = Node { blocks: Blocks::open(apart.clone(), Keyring::default()), covered: 1, ..late };
    let end = write(&disk, root.path(), 2, next, 3).await;
    // What it sees of segments does not matter here: it only makes the second block.
    let second = late.seal(LATER).unwrap().blocks[0].seq;
    let object = node.listed()[0].object().replace(&format!("{:020}", 1), &format!("{second:020}"));
    node.blocks.objects().create(&object, apart.get(&object).unwrap()).unwrap();
    let node = Node { covered: 1, ..Node::new(disk, root.path(), 3) };
    assert_eq!(node.listed().len(), 2);
    assert!(of_first > 0 && end > next);
    // Nothing is sealed again, and reclaim takes no block for void.
    assert!(node.seal(LATER).unwrap().blocks.is_empty());
    assert!(node.reclaim(LATER + 5 * MINUTE).unwrap().void.is_empty());
}

/// Objects whose listings are old.
struct Behind(Arc<dyn Objects>);

impl Objects for Behind {
    fn create(&self, name: &str, bytes: bytes::Bytes) -> io::Result<prism_store::control::Create> {
        self.0.create(name, bytes)
    }

    fn upload(&self, name: &str) -> io::Result<Box<dyn prism_store::objects::Upload>> {
        self.0.upload(name)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.0.len(name)
    }

    fn read(&self, name: &str, range: std::ops::Range<u64>) -> io::Result<bytes::Bytes> {
        self.0.read(name, range)
    }

    fn list(&self, _: &str, _: &str) -> io::Result<Vec<prism_store::objects::Listed>> {
        Ok(Vec::new())
    }

    fn folders(&self, folder: &str) -> io::Result<Vec<String>> {
        self.0.folders(folder)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.0.delete(name)
    }
}

/// With an old listing nothing is sealed that the table may have: neither before the table covers it nor after.
#[tokio::test]
async fn st4_an_old_listing_seals_nothing_twice() {
    let (root, disk) = on_disk();
    let node = Node::new(disk.clone(), root.path(), 1);
    let end = write(&disk, root.path(), 1, 0, 3).await;
    node.seal(LATER).unwrap();
    for covered in [0, 1] {
        let behind: Arc<dyn Objects> = Arc::new(Behind(node.blocks.objects().clone()));
        let old = Node::new(disk.clone(), root.path(), 9 + covered);
        let old = Node { blocks: Blocks::open(behind, Keyring::default()), covered, ..old };
        match (covered, old.seal(LATER)) {
            (0, Ok(report)) => assert!(report.blocks.is_empty() && report.outrun),
            (_, Err(StoreError::Disk { .. })) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
    assert_eq!((node.listed().len(), node.rows()), (1, (0..end).collect::<Vec<_>>()));
}

/// Spoils the end of a block, so that what it covers is unknown; gives its path and bytes.
fn spoil(node: &Node, root: &Path, seq: u64) -> (PathBuf, Vec<u8>) {
    let block = node.listed().into_iter().find(|block| block.seq == seq).unwrap();
    let path = root.join("objects").join(block.object());
    let good = std::fs::read(&path).unwrap();
    let mut bytes = good.clone();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    (path, good)
}

/// A block whose sources are unknown holds up what it may cover and nothing else; when it is back no row is there twice.
#[tokio::test]
async fn st4_a_damaged_block_holds_what_it_may_cover_and_the_rest_is_sealed() {
    for (seq, removed) in [(1, false), (2, false), (2, true)] {
        let (root, disk) = on_disk();
        let node = Node::new(disk.clone(), root.path(), 1);
        let mut next = 0;
        for writer in 1..=2 {
            next = write(&disk, root.path(), writer, next, 3).await;
            node.seal(LATER).unwrap();
        }
        let (of_damaged, first) = {
            let block = &node.listed()[seq as usize - 1];
            (block.rows, block.sources.len())
        };
        let (path, good) = spoil(&node, root.path(), seq);
        // Ended before the damage is found: it may be in the block, for all that is known.
        let held = next..write(&disk, root.path(), 3, next, 3).await;
        // Opened anew: the footer is not remembered.
        let node = Node::new(disk.clone(), root.path(), 2);
        let plan = node.with(|env| seal::pass(env, &tenant(), Signal::Spans, LATER, true)).unwrap();
        let report = node.seal(LATER).unwrap();
        assert_eq!((&report.unread, report.held, report.blocks.len()), (&plan.unread, plan.held, 0));
        assert_eq!((report.unread[0].0, report.unread[0].1, report.held), (0, seq, first + 2));
        // What comes after is sealed, behind the damaged one.
        let after = held.end..write(&disk, root.path(), 4, held.end, 3).await;
        let node = Node::new(disk.clone(), root.path(), 3);
        let report = node.seal(LATER).unwrap();
        assert_eq!(
            report.blocks.iter().map(|b| (b.seq, b.rows)).collect::<Vec<_>>(),
            [(3, after.clone().count() as u64)]
        );
        // Nothing of what is held goes, what other blocks cover does; a query has each row once, and says what may lack.
        let all_rows: Vec<i64> = (0..after.end).collect();
        let reader = || Reader::open_on(disk.clone(), root.path());
        let sees = |unreadable: usize| {
            let snapshot = all(&reader());
            assert_eq!((support::numbers(&snapshot), snapshot.unreadable.len()), (all_rows.clone(), unreadable));
        };
        sees(1);
        node.reclaim(LATER + 9 * MINUTE).unwrap();
        assert_eq!(node.segments(), report.held);
        sees(1);
        assert!(node.seal(LATER).unwrap().blocks.is_empty(), "again nothing of it");
        if removed {
            std::fs::remove_file(&path).unwrap();
            let node = Node::new(disk.clone(), root.path(), 5);
            // Its rows were still in segments: they are sealed under a new number.
            let report = node.seal(LATER).unwrap();
            let rows: u64 = report.blocks.iter().map(|block| block.rows).sum();
            assert_eq!((report.blocks[0].seq, rows), (4, of_damaged + held.count() as u64));
        } else {
            std::fs::write(&path, &good).unwrap();
            let node = Node::new(disk.clone(), root.path(), 5);
            let report = node.seal(LATER).unwrap();
            assert_eq!((report.blocks.iter().map(|b| b.rows).sum::<u64>(), report.held), (held.count() as u64, 0));
        }
        let node = Node::new(disk.clone(), root.path(), 6);
        node.reclaim(LATER + 9 * MINUTE).unwrap();
        assert_eq!(node.segments(), 0);
        sees(0);
        assert_eq!(node.rows(), all_rows);
    }
}

/// Whether a block that the table covers took an old number is told by the one behind it: while that cannot be read, what it
/// covers is neither sealed again nor deleted.
#[tokio::test]
async fn a_block_before_a_damaged_one_keeps_what_it_covers() {
    let (root, disk) = on_disk();
    let node = Node::new(disk.clone(), root.path(), 1);
    let mut next = 0;
    for writer in 1..=3 {
        next = write(&disk, root.path(), writer, next, 3).await;
        node.seal(LATER).unwrap();
    }
    spoil(&node, root.path(), 2);
    let node = Node { covered: 1, ..Node::new(disk, root.path(), 2) };
    let report = node.seal(LATER).unwrap();
    assert_eq!((report.blocks.len(), report.held), (0, 2));
    let reclaimed = node.reclaim(LATER + 9 * MINUTE).unwrap();
    assert_eq!((reclaimed.segments, reclaimed.waiting, reclaimed.void.len()), (2, 2, 0));
    assert_eq!(node.with(|env| seal::retire(env, &tenant(), Signal::Spans, 0, 1)).unwrap(), 0);
}

/// Memory and time do not depend on how the segments are cut: random batches in random segments, in several blocks.
#[tokio::test]
async fn any_cut_of_rows_into_segments_gives_the_same_rows() {
    let (root, disk) = on_disk();
    let mut random = Random(11);
    let mut next = 0;
    for writer in 0..6 {
        let store = store(&disk, root.path(), writer);
        for _ in 0..1 + random.below(12) {
            let rows = 1 + random.below(90) as i64;
            let times: Vec<i64> = (0..rows).map(|_| NOW - random.below(9) as i64 * WINDOW_NANOS).collect();
            store.append(&tenant(), numbered(next, &times)).await.unwrap();
            next += rows;
        }
        store.close().await;
    }
    let mut node = Node::new(disk, root.path(), 1);
    node.options.block_bytes_max = 20_000;
    let report = node.seal(LATER).unwrap();
    assert!(report.blocks.len() > 2, "{report:?}");
    assert_eq!(node.rows(), (0..next).collect::<Vec<_>>());
    assert!(node.frames().iter().all(|f| f.tier() == Tier::Warm));
    for block in node.listed() {
        block.verify().unwrap();
    }
    let missing = node.blocks.list(&"other".parse().unwrap(), Signal::Spans, 0, 0).unwrap();
    assert!(missing.is_empty());
    assert_eq!(io::ErrorKind::NotFound, node.blocks.objects().get("warm/none").unwrap_err().kind());
}
