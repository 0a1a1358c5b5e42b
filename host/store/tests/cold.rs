//! Rows move from blocks to files and between files once, whoever does it and wherever it stops (ST-1, ST-4, ST-5).
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prism_model::samples;
use prism_model::window::TimeRange;
use prism_model::{Batch, Intrinsic, Signal};
use prism_store::cold::delta::{Change, Committed, Table, Tables};
use prism_store::cold::file::ColdFile;
use prism_store::cold::{self, ColdEnv, ColdOptions, compact, expire, promote};
use prism_store::control::Create;
use prism_store::disk::{Disk, RealDisk};
use prism_store::index::Traces;
use prism_store::keys::Keyring;
use prism_store::objects::{Archived, Listed, LocalObjects, Objects, Upload};
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{Frame, Store, StoreError, StoreOptions, Surroundings};
use support::disk::SimDisk;
use support::rows::texts;
use support::{NOW, cleared, numbered, tenant};

const MINUTE: i64 = 60 * 1_000_000_000;
const DAY: i64 = 24 * 60 * MINUTE;
const LATER: i64 = NOW + 120 * MINUTE;

/// One process's view of a data folder.
struct Node {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    blocks: Blocks,
    tables: Tables,
    options: ColdOptions,
    writer: u64,
    named: AtomicU64,
    signal: Signal,
}

/// Objects some of which are archived.
struct Shelved {
    all: LocalObjects,
    archived: Mutex<BTreeSet<String>>,
    /// What was read or made, in order.
    used: Mutex<Vec<String>>,
}

impl Shelved {
    fn new(all: LocalObjects) -> Shelved {
        Shelved { all, archived: Mutex::default(), used: Mutex::default() }
    }
}

impl Objects for Shelved {
    fn create(&self, name: &str, bytes: Bytes) -> io::Result<Create> {
        self.used.lock().unwrap().push(name.to_owned());
        self.all.create(name, bytes)
    }

    fn upload(&self, name: &str) -> io::Result<Box<dyn Upload>> {
        self.all.upload(name)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.all.len(name)
    }

    fn read(&self, name: &str, range: Range<u64>) -> io::Result<Bytes> {
        self.used.lock().unwrap().push(name.to_owned());
        match self.archived.lock().unwrap().contains(name) {
            true => Err(io::Error::other(Archived)),
            false => self.all.read(name, range),
        }
    }

    fn list(&self, folder: &str, after: &str) -> io::Result<Vec<Listed>> {
        self.all.list(folder, after)
    }

    fn folders(&self, folder: &str) -> io::Result<Vec<String>> {
        self.all.folders(folder)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.all.delete(name)
    }
}

impl Node {
    fn new(disk: Arc<dyn Disk>, root: &Path, writer: u64, signal: Signal) -> Node {
        let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(disk.clone(), &root.join("objects"), writer));
        Node::with(objects, disk, root, writer, signal)
    }

    fn with(objects: Arc<dyn Objects>, disk: Arc<dyn Disk>, root: &Path, writer: u64, signal: Signal) -> Node {
        let (blocks, tables) = (Blocks::open(objects.clone(), Keyring::default()), Tables::new(objects));
        let options = ColdOptions { checkpoint_commits: 2, compact_files_min: 2, ..ColdOptions::default() };
        let root = root.to_owned();
        Node { disk, root, blocks, tables, options, writer, named: AtomicU64::new(0), signal }
    }

    fn env(&self) -> ColdEnv<'_> {
        ColdEnv {
            disk: &*self.disk,
            root: &self.root,
            blocks: &self.blocks,
            tables: &self.tables,
            options: &self.options,
            writer: self.writer,
            named: &self.named,
        }
    }

    fn table(&self) -> Table {
        self.tables.table(&tenant(), self.signal)
    }

    /// Writes batches to segments and seals them.
    async fn sealed(&self, batches: Vec<Batch>, now: i64) {
        let options = StoreOptions { commit_delay_ms: 0, frame_rows: 16, ..StoreOptions::default() };
        let around = Surroundings {
            disk: self.disk.clone(),
            clock: Arc::new(move || now),
            writer: self.writer * 1_000 + self.named.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            keys: Default::default(),
        };
        let store = Store::open_in(&self.root, options, around);
        for batch in batches {
            store.append(&tenant(), cleared(batch)).await.unwrap();
        }
        store.close().await;
        let options = SealOptions { frame_rows: 40, seal_bytes_min: 0, ..SealOptions::default() };
        let covered = |t: &_, signal, shard| Ok(self.tables.table(t, signal).covered(shard)?.unwrap_or(0));
        let (disk, root, blocks) = (&*self.disk, &*self.root, &self.blocks);
        let env = SealEnv { disk, root, blocks, options: &options, covered: &covered };
        seal::pass(&env, &tenant(), self.signal, now + 120 * MINUTE, false).unwrap();
        seal::reclaim(&env, &tenant(), self.signal, now + 130 * MINUTE, false).unwrap();
    }

    fn promote(&self, now: i64) -> Result<promote::PromoteReport, StoreError> {
        promote::pass(&self.env(), &tenant(), self.signal, now, false)
    }

    fn compact(&self, now: i64) -> Result<compact::CompactReport, StoreError> {
        compact::pass(&self.env(), &tenant(), self.signal, now, 100, false)
    }

    fn vacuum(&self, now: i64) -> Result<expire::VacuumReport, StoreError> {
        expire::vacuum(&self.env(), &tenant(), self.signal, now, false)
    }

    /// The frames of the files of the table, and of the blocks that it does not cover.
    fn frames(&self) -> Vec<Frame> {
        let pinned = self.table().pin(TimeRange::ALL).unwrap();
        let mut frames = Vec::new();
        for file in pinned.files {
            let opened = ColdFile::open(self.blocks.objects().clone(), &file.name, file.bytes).unwrap();
            assert_eq!(Some(opened.rows()), file.rows);
            for frame in opened.frames(TimeRange::ALL) {
                let stats = frame.stats();
                assert!(stats.time_min >= file.time_min && stats.time_max <= file.time_max);
                frames.push(frame);
            }
        }
        let after = pinned.covered.get(&0).copied().unwrap_or(0);
        let blocks = self.blocks.list(&tenant(), self.signal, 0, after).unwrap();
        frames.extend(blocks.iter().flat_map(|block| block.frames(TimeRange::ALL)));
        frames
    }

    fn rows(&self) -> Vec<String> {
        let mut rows: Vec<String> =
            self.frames().iter().flat_map(|frame| texts(&frame.read(&|_, _| true).unwrap().0)).collect();
        rows.sort_unstable();
        rows
    }

    fn files(&self) -> Vec<String> {
        let objects = self.blocks.objects();
        let dir = self.table().dir().to_owned();
        let folders = objects.folders(&dir).unwrap();
        let days = folders.iter().filter(|name| name.starts_with("date="));
        days.flat_map(|day| objects.list(&format!("{dir}/{day}"), "").unwrap()).map(|l| l.name).collect()
    }
}

fn on_disk() -> (tempfile::TempDir, Arc<dyn Disk>) {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("objects")).unwrap();
    (root, Arc::new(RealDisk))
}

/// Equal multisets; what differs is told, not all of them.
#[track_caller]
fn same(found: Vec<String>, expected: &[String], when: &str) {
    let expected = sorted(expected.to_vec());
    let missing = expected.iter().find(|row| found.binary_search(row).is_err());
    let foreign = found.iter().find(|row| expected.binary_search(row).is_err());
    assert_eq!((missing, foreign, found.len()), (None, None, expected.len()), "{when}");
    assert!(found == expected, "{when}: rows come more than once");
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort_unstable();
    rows
}

/// Every odd row of every signal, through seal, promotion, compaction, retirement of blocks, vacuum.
#[tokio::test]
async fn st4_promotion_and_compaction_keep_every_row_as_it_is() {
    for signal in Signal::ALL {
        let (root, disk) = on_disk();
        let node = Node::new(disk, root.path(), 1, signal);
        let mut expected = Vec::new();
        for round in 0..4u64 {
            let now = NOW + round as i64 * 3 * 60 * MINUTE;
            let batches: Vec<Batch> = (0..6).map(|n| samples::batch(signal, 60, now, round * 100 + n)).collect();
            expected.extend(batches.iter().flat_map(texts));
            node.sealed(batches, now).await;
            let plan = promote::pass(&node.env(), &tenant(), signal, now + 150 * MINUTE, true).unwrap();
            assert!(plan.versions.is_empty() && plan.blocks > 0);
            let before = node.table().pin(TimeRange::ALL).unwrap().version;
            let report = node.promote(now + 150 * MINUTE).unwrap();
            assert_eq!((report.blocks, report.rows, report.bytes_warm), (plan.blocks, plan.rows, plan.bytes_warm));
            assert!(report.later.is_none(), "{:?}", report.later);
            assert_eq!(report.versions, [before.map_or(0, |v| v + 1)]);
            // Again: nothing is left.
            assert!(node.promote(now + 150 * MINUTE).unwrap().versions.is_empty());
            same(node.rows(), &expected, &format!("{signal}, round {round}"));
        }
        let retired = promote::retire(&node.env(), &tenant(), signal, NOW + DAY).unwrap();
        assert!(retired > 0);
        let before = node.table().pin(TimeRange::ALL).unwrap().files.len();
        let report = node.compact(NOW + 400 * DAY).unwrap();
        assert!(report.later.is_none(), "{:?}", report.later);
        let after = node.table().pin(TimeRange::ALL).unwrap().files.len();
        assert!(after < before, "{signal}: {after} of {before}");
        assert_eq!((after + report.files_before, report.lost), (before + report.files, 0));
        same(node.rows(), &expected, &format!("{signal}, compacted"));
        assert!(node.compact(NOW + 400 * DAY).unwrap().versions.is_empty());
        // What compaction took out stays for whoever reads an older version, then goes.
        assert_eq!(node.vacuum(NOW + 400 * DAY).unwrap().removed, 0);
        assert_eq!(node.vacuum(NOW + 402 * DAY).unwrap().removed, report.files_before);
        assert_eq!(node.files().len(), after);
        let fresh = Node::new(node.disk.clone(), root.path(), 2, signal);
        same(fresh.rows(), &expected, &format!("{signal}, afterwards"));
    }
}

#[tokio::test]
async fn traces_are_found_without_a_time_range_in_two_reads_of_the_index() {
    let (root, disk) = on_disk();
    let node = Node::new(disk, root.path(), 1, Signal::Spans);
    let mut batches = Vec::new();
    for round in 0..3u64 {
        let now = NOW + round as i64 * DAY;
        let batch = samples::spans(200, now, round);
        node.sealed(vec![batch.clone()], now).await;
        let report = node.promote(now + 150 * MINUTE).unwrap();
        assert_eq!(report.index.unwrap().through, node.table().pin(TimeRange::ALL).unwrap().version);
        batches.push(batch);
    }
    let ids = |batch: &Batch| -> BTreeSet<[u8; 16]> {
        let ids = batch.items().intrinsic(Intrinsic::TraceId).unwrap().clone();
        let ids = ids.as_any().downcast_ref::<arrow::array::FixedSizeBinaryArray>().unwrap();
        ids.iter().flatten().map(|id| id.try_into().unwrap()).collect()
    };
    let check = |traces: &Traces, first: u64| {
        for (n, batch) in batches.iter().enumerate() {
            for (i, id) in ids(batch).iter().step_by(17).enumerate() {
                let found = traces.lookup(&node.table(), id).unwrap();
                assert_eq!(found.reads, if n + i == 0 { first } else { 2 - u64::from(first == 3) });
                assert_eq!(found.files.len(), 1);
                let file = &found.files[0].file;
                let opened = ColdFile::open(node.blocks.objects().clone(), &file.name, file.bytes).unwrap();
                assert!(found.files[0].indexed && opened.may_contain_trace(id));
            }
        }
    };
    // All entries are in the recent run: manifest listed, manifest, one page.
    check(&Traces::open(node.blocks.objects().clone(), &tenant(), Signal::Spans), 3);
    // The index was lost: it is made anew from the files.
    for object in node.blocks.objects().list("index/acme/spans", "").unwrap() {
        node.blocks.objects().delete(&object.name).unwrap();
    }
    let traces = Traces::open(node.blocks.objects().clone(), &tenant(), Signal::Spans);
    let id = *ids(&batches[0]).first().unwrap();
    let found = traces.lookup(&node.table(), &id).unwrap();
    assert_eq!((found.files.len(), found.reads), (3, 1));
    assert_eq!(cold::reindex(&node.env(), &tenant(), Signal::Spans, NOW).unwrap().files, 3);
    check(&Traces::open(node.blocks.objects().clone(), &tenant(), Signal::Spans), 3);
}

/// Dies at each operation of a promotion and of a compaction; whoever comes next goes on.
#[tokio::test]
async fn st1_a_death_anywhere_in_promotion_or_compaction_neither_loses_nor_doubles_a_row() {
    let root = Path::new("/data");
    let mut deaths = 0;
    for die_in in 1.. {
        let sim = SimDisk::new(root, die_in);
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        disk.create_dir(&root.join("objects")).unwrap();
        disk.sync_dir(root).unwrap();
        let node = Node::new(disk, root, 1, Signal::Spans);
        let batch = |first: i64, at: i64| numbered(first, &[at, at - DAY, at + MINUTE]).into_batch();
        let mut expected: Vec<String> = Vec::new();
        for round in 0..2 {
            let batches = vec![batch(round * 10, NOW), batch(round * 10 + 5, NOW)];
            expected.extend(batches.iter().flat_map(texts));
            node.sealed(batches, NOW + round * MINUTE).await;
            if round == 0 {
                node.promote(LATER).unwrap();
            }
        }
        sim.die_in(die_in);
        let compacted = NOW + 3 * DAY;
        let _ = node.promote(LATER + MINUTE).and_then(|_| node.compact(compacted)).and_then(|_| node.vacuum(compacted));
        let died = sim.is_dead();
        let after = sim.crash();
        let next = Node::new(Arc::new(after.clone()), root, 2, Signal::Spans);
        let expected = sorted(expected);
        assert_eq!(next.rows(), expected, "death at {die_in}: {:#?}", after.names());
        next.promote(LATER + 2 * MINUTE).unwrap();
        let report = next.compact(compacted + MINUTE).unwrap();
        assert!(report.later.is_none());
        cold::reindex(&next.env(), &tenant(), Signal::Spans, compacted).unwrap();
        promote::retire(&next.env(), &tenant(), Signal::Spans, compacted).unwrap();
        assert_eq!(next.rows(), expected, "death at {die_in}, and again");
        // What the dead left behind goes, and nothing else.
        next.vacuum(compacted + 5 * DAY).unwrap();
        let stand: BTreeSet<String> =
            next.table().pin(TimeRange::ALL).unwrap().files.into_iter().map(|f| f.name).collect();
        assert_eq!(next.files().into_iter().collect::<BTreeSet<_>>(), stand, "death at {die_in}");
        let again = Node::new(Arc::new(after.crash()), root, 3, Signal::Spans);
        assert_eq!(again.rows(), expected, "death at {die_in}, and a crash later");
        deaths += usize::from(died);
        if !died {
            break;
        }
    }
    assert!(deaths > 60, "{deaths}");
}

/// Rows that come late to an archived day are joined without what is archived, which takes no other day's turn.
#[tokio::test]
async fn archived_files_stop_the_compaction_of_no_other() {
    let (root, disk) = on_disk();
    let local = LocalObjects::new(disk.clone(), &root.path().join("objects"), 1);
    let shelved = Arc::new(Shelved::new(local));
    let node = Node::with(shelved.clone(), disk, root.path(), 1, Signal::Spans);
    for round in 0..3 {
        let batch = numbered(round * 10, &[NOW - DAY, NOW]).into_batch();
        node.sealed(vec![batch], NOW + round * MINUTE).await;
        node.promote(LATER + round * MINUTE).unwrap();
    }
    let (rows, files) = (node.rows(), sorted(node.files()));
    assert_eq!(files.len(), 6);
    shelved.archived.lock().unwrap().insert(files[0].clone());
    let over = NOW + 3 * DAY;
    let pass = || compact::pass(&node.env(), &tenant(), Signal::Spans, over, 1, false).unwrap();
    let joined: Vec<(usize, usize)> =
        (0..3).map(|_| pass()).map(|report| (report.files_before, report.files)).collect();
    assert_eq!(joined, [(2, 1), (3, 1), (0, 0)]);
    let stand: Vec<String> = node.table().pin(TimeRange::ALL).unwrap().files.into_iter().map(|f| f.name).collect();
    assert!(stand.len() == 3 && stand.contains(&files[0]), "{stand:?}");
    shelved.archived.lock().unwrap().clear();
    assert_eq!(node.rows(), rows);
}

/// However many blocks wait, those of one commit are looked at, and then those of the next.
#[tokio::test]
async fn a_long_row_of_blocks_is_promoted_some_at_a_time() {
    let (dir, disk) = on_disk();
    let node = Node::new(disk.clone(), dir.path(), 1, Signal::Spans);
    for n in 0..9 {
        node.sealed(vec![numbered(n * 10, &[NOW; 5]).into_batch()], NOW).await;
    }
    let objects = Arc::new(Shelved::new(LocalObjects::new(disk.clone(), &dir.path().join("objects"), 2)));
    let mut fresh = Node::with(objects.clone(), disk, dir.path(), 2, Signal::Spans);
    fresh.options.commit_rows_max = 10;
    let foreseen = promote::pass(&fresh.env(), &tenant(), Signal::Spans, LATER, true).unwrap();
    assert_eq!((foreseen.blocks, foreseen.rows, foreseen.versions.len()), (9, 45, 0));
    let mut fresh = Node::with(objects.clone(), fresh.disk.clone(), dir.path(), 3, Signal::Spans);
    fresh.options.commit_rows_max = 10;
    objects.used.lock().unwrap().clear();
    let report = fresh.promote(LATER).unwrap();
    assert_eq!((report.blocks, report.rows, report.versions.len()), (9, 45, 5));
    let used = objects.used.lock().unwrap().clone();
    let mut blocks = BTreeSet::new();
    let mut commits = 0;
    for name in used {
        if name.ends_with(".blk") {
            blocks.insert(name);
        } else if name.contains("_delta_log/") && name.ends_with(".json") && !name.contains("checkpoint") {
            commits += usize::from(!blocks.is_empty());
            // Those of the commits up to now, and one that does not fit.
            assert!(blocks.len() <= commits * 2 + 1, "{} for {commits} commits", blocks.len());
        }
    }
    assert_eq!(blocks.len(), 9);
}

#[tokio::test]
async fn st5_of_many_that_promote_the_same_blocks_one_commits() {
    let (root, disk) = on_disk();
    let node = Node::new(disk.clone(), root.path(), 1, Signal::Spans);
    let batches: Vec<Batch> = (0..8).map(|n| numbered(n * 100, &[NOW; 20]).into_batch()).collect();
    let expected = sorted(batches.iter().flat_map(texts).collect());
    node.sealed(batches, NOW).await;
    let nodes: Vec<Node> = (2..6).map(|n| Node::new(disk.clone(), root.path(), n, Signal::Spans)).collect();
    let versions: usize = std::thread::scope(|scope| {
        let one = |node| scope.spawn(move || Node::promote(node, LATER).unwrap().versions.len());
        nodes.iter().map(one).collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(versions, 1);
    assert_eq!(node.rows(), expected);
    let stand = node.table().pin(TimeRange::ALL).unwrap().files.len();
    let report = node.vacuum(LATER + 3 * DAY).unwrap();
    assert_eq!((node.files().len(), report.removed), (stand, 0));
    assert_eq!(node.rows(), expected);
}

#[tokio::test]
async fn a_missing_block_or_a_table_of_others_stops_promotion_and_loses_nothing() {
    let (root, disk) = on_disk();
    let node = Node::new(disk.clone(), root.path(), 1, Signal::Spans);
    for round in 0..3 {
        node.sealed(vec![numbered(round, &[NOW]).into_batch()], NOW + round * 10 * MINUTE).await;
    }
    let objects = node.blocks.objects();
    let first = node.blocks.list(&tenant(), Signal::Spans, 0, 0).unwrap()[0].object();
    let bytes = objects.get(&first).unwrap();
    objects.delete(&first).unwrap();
    assert_eq!(node.promote(LATER).unwrap_err().to_string(), "damaged data: a block is missing, number 1");
    objects.create(&first, bytes.slice(..bytes.len() / 2)).unwrap();
    assert!(node.promote(LATER).is_err());
    objects.replace(&first, bytes).unwrap();
    let expected = node.rows();
    // Somebody raised the protocol.
    node.table().commit(&Change { operation: "WRITE", ..Change::default() }).unwrap();
    let theirs = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["rowTracking"]}}"#;
    objects.create("cold/acme/spans/_delta_log/00000000000000000001.json", theirs.into()).unwrap();
    let refused = node.promote(LATER).unwrap_err().to_string();
    assert_eq!(
        refused,
        "damaged data: writer protocol of the Delta table has version 7, this knows up to 2: another engine raised it, rows stay in blocks until it is lowered again"
    );
    assert_eq!(node.rows(), expected);
    // And lowered it again.
    let ours = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#;
    objects.create("cold/acme/spans/_delta_log/00000000000000000002.json", ours.into()).unwrap();
    assert_eq!(node.promote(LATER).unwrap().rows, 3);
    assert_eq!(node.rows(), expected);
}

#[tokio::test]
async fn files_expire_when_all_of_their_rows_are_too_old() {
    let (root, disk) = on_disk();
    let node = Node::new(disk.clone(), root.path(), 1, Signal::Spans);
    for day in 0..4 {
        let now = NOW + day * DAY;
        node.sealed(vec![numbered(day * 100, &[now, now + MINUTE]).into_batch()], now).await;
        node.promote(now + 150 * MINUTE).unwrap();
    }
    let expire = |cutoff, dry_run| expire::pass(&node.env(), &tenant(), Signal::Spans, cutoff, NOW + 5 * DAY, dry_run);
    let cutoff = NOW + 2 * DAY + MINUTE;
    let plan = expire(cutoff, true).unwrap();
    assert_eq!((plan.files, plan.rows, node.rows().len()), (2, 4, 8));
    assert_eq!(expire(cutoff, false).unwrap(), plan);
    assert_eq!((expire(cutoff, false).unwrap().files, node.rows().len(), node.files().len()), (0, 4, 4));
    let vacuum = |now, dry_run| expire::vacuum(&node.env(), &tenant(), Signal::Spans, now, dry_run).unwrap();
    assert_eq!(vacuum(NOW + 5 * DAY + MINUTE, false).removed, 0);
    assert_eq!((vacuum(NOW + 7 * DAY, true).removed, node.files().len()), (2, 4));
    assert_eq!((vacuum(NOW + 7 * DAY, false).removed, node.files().len(), node.rows().len()), (2, 2, 4));
    // Nothing that is not Prism's is touched.
    let foreign = "cold/acme/spans/date=2026-11-21/part-0.snappy.parquet";
    node.blocks.objects().create(foreign, "theirs".into()).unwrap();
    vacuum(NOW + 90 * DAY, false);
    assert!(node.files().contains(&foreign.to_owned()));
    // A table that only takes rows loses none.
    let log = r#"{"metaData":{"id":"i","format":{"provider":"parquet"},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":["date"],"configuration":{"delta.appendOnly":"true"}}}"#;
    let version = node.table().pin(TimeRange::ALL).unwrap().version.unwrap() + 1;
    node.blocks.objects().create(&format!("cold/acme/spans/_delta_log/{version:020}.json"), log.into()).unwrap();
    let refused = expire(i64::MAX, false).unwrap_err().to_string();
    assert!(refused.ends_with("found it on: nothing expires"), "{refused}");
    assert!(matches!(node.table().commit(&Change::default()), Ok(Committed::At(_))));
}
