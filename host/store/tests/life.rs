//! Rows through the tiers by their age: what is due moves, what lies where is told, what is damaged is found.

#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prism_model::Signal;
use prism_store::cold::ColdOptions;
use prism_store::cold::delta::Tables;
use prism_store::disk::RealDisk;
use prism_store::keys::Keyring;
use prism_store::life::{self, Moved, Policy, Stage, Status, Storage, Worker, WorkerOptions};
use prism_store::objects::LocalObjects;
use prism_store::seal::SealOptions;
use prism_store::warm::Blocks;
use prism_store::{Followed, Objects, Reader, Store, StoreOptions, Surroundings, Tier};
use support::{NOW, numbered, tenant};

const MINUTE: i64 = 60_000_000_000;

fn storage(root: &Path) -> Arc<Storage> {
    std::fs::create_dir_all(root.join("objects")).unwrap();
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(Arc::new(RealDisk), &root.join("objects"), 7));
    let (keys, grace) = (Keyring::default(), Duration::from_secs(120));
    Arc::new(Storage {
        disk: Arc::new(RealDisk),
        root: root.to_owned(),
        blocks: Blocks::open(objects.clone(), keys.clone()),
        tables: Tables::new(objects.clone()),
        reader: Reader::open_with(Arc::new(RealDisk), objects.clone(), root, keys.clone(), grace),
        keys,
        seal: SealOptions { seal_bytes_min: 0, ..SealOptions::default() },
        cold: ColdOptions::default(),
        writer: 7,
        named: Default::default(),
        archive: None,
        defaults: Policy::default(),
        objects,
    })
}

fn store(root: &Path, writer: u64) -> Arc<Store> {
    let around = Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer, keys: Keyring::default() };
    Store::open_in(root, StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, around)
}

fn moves(storage: &Storage, now: i64, dry_run: bool) -> Moved {
    let moved = storage.moves(&tenant(), Signal::Spans, &storage.defaults, now, dry_run, &|| false);
    assert!(moved.failures.is_empty(), "{:?}", moved.failures);
    moved
}

fn parts(moved: &Moved, stage: Stage) -> (u64, u64) {
    let done = moved.done.iter().find(|done| done.stage == stage).unwrap();
    (done.parts, done.rows)
}

fn status(storage: &Storage, now: i64) -> Status {
    life::status(storage, &tenant(), Signal::Spans, storage.defaults, now).unwrap()
}

fn verify(storage: &Storage) -> life::Verified {
    life::verify(storage, &tenant(), Signal::Spans, &mut |_| ()).unwrap()
}

/// Numbers of the batches that a process which begins now knows.
fn known(root: &Path, storage: &Storage, writer: u64) -> BTreeSet<u128> {
    let store = store(root, writer);
    store.follow_blocks(storage.blocks.clone());
    let mut ids = BTreeSet::new();
    let visit = &mut |stored: prism_store::Stored| {
        ids.insert(u128::from_le_bytes(stored.origin.batch_id));
    };
    let (since, asked_for) = (NOW - 30 * MINUTE, |_: &_| false);
    let unread = store.follow(&tenant(), Signal::Spans, since, &asked_for, &mut Followed::default(), visit).unwrap();
    assert_eq!(unread, 0);
    ids
}

#[tokio::test]
async fn st_4_rows_are_told_in_one_tier_each_and_requests_are_known_in_all() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path());
    let writer = store(root.path(), 1);
    writer.append(&tenant(), numbered(0, &[NOW; 40])).await.unwrap();
    writer.append(&tenant(), numbered(100, &[NOW - 5 * MINUTE; 60])).await.unwrap();
    writer.close().await;
    let rows = |status: &Status| status.tiers.clone().map(|tier| tier.rows);
    let before = status(&storage, NOW);
    assert_eq!((rows(&before), before.tiers[0].parts), ([100, 0, 0], 2));
    assert_eq!(before.tiers[0].times, Some((NOW - 5 * MINUTE, NOW)));
    assert!(before.tiers[0].compression().is_some_and(|ratio| ratio > 0.1));
    assert_eq!(before.next.first().map(|(_, stage)| *stage), Some(Stage::Seal));
    assert_eq!(known(root.path(), &storage, 2), [0, 100].into());

    // A dry run tells the same as what is then done, and does nothing.
    let later = NOW + 40 * MINUTE;
    assert!(moves(&storage, later, true).unsealed_ms > 0);
    assert_eq!(rows(&status(&storage, later)), [100, 0, 0]);
    let told = parts(&moves(&storage, later, true), Stage::Seal);
    assert_eq!(parts(&moves(&storage, later, false), Stage::Seal), told);
    assert_eq!(told.1, 100);
    let sealed = status(&storage, later);
    assert_eq!((rows(&sealed), sealed.tiers[0].leaving), ([0, 100, 0], 2));
    assert_eq!(known(root.path(), &storage, 3), [0, 100].into());

    // Segments go when no query that listed them can be at work any more.
    assert_eq!(parts(&moves(&storage, later + MINUTE, false), Stage::Reclaim).0, 0);
    assert_eq!(parts(&moves(&storage, later + 3 * MINUTE, false), Stage::Reclaim).0, 2);
    let reclaimed = status(&storage, later + 3 * MINUTE);
    assert_eq!((rows(&reclaimed), reclaimed.tiers[0].leaving), ([0, 100, 0], 0));
    assert_eq!(known(root.path(), &storage, 4), [0, 100].into(), "by the block");
    let verified = verify(&storage);
    assert_eq!((verified.faults.as_slice(), verified.rows), (&[][..], 100));
}

#[tokio::test]
async fn what_is_damaged_or_missing_is_found_and_named() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path());
    for round in 0..3 {
        let writer = store(root.path(), 10 + round);
        writer.append(&tenant(), numbered(round as i64 * 100, &[NOW; 50])).await.unwrap();
        writer.close().await;
        moves(&storage, NOW + (40 + 40 * round as i64) * MINUTE, false);
    }
    let folder = root.path().join("objects/warm/acme/spans/0");
    let mut blocks: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    blocks.sort();
    assert_eq!((blocks.len(), verify(&storage).faults.len()), (3, 0));
    let good = std::fs::read(&blocks[1]).unwrap();
    // In the middle of its frames: the footer is sound.
    let mut bad = good.clone();
    bad[400] ^= 4;
    std::fs::write(&blocks[1], &bad).unwrap();
    let fresh = self::storage(root.path());
    let faults = verify(&fresh).faults;
    assert!(!faults.is_empty() && faults.iter().all(|f| f.tier == Tier::Warm && f.what.contains('2')), "{faults:?}");
    std::fs::remove_file(&blocks[1]).unwrap();
    let faults = verify(&self::storage(root.path())).faults;
    assert!(faults.iter().any(|f| f.what.starts_with("block 3") && f.why.contains("number 2")), "{faults:?}");
    std::fs::write(&blocks[1], &good).unwrap();
    assert_eq!(verify(&self::storage(root.path())).faults, []);
}

/// A batch that was acknowledged is seen for ever, wherever its rows went; one that nobody stored is not.
#[tokio::test]
async fn st1_a_token_is_seen_in_every_tier_and_when_its_block_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path());
    let mut tokens = Vec::new();
    for n in 0..3i64 {
        let writer = store(root.path(), 10 + n as u64);
        // Of two windows, and of one that is over for long: late.
        let times = [NOW, NOW - 5 * MINUTE, NOW - 3_000 * MINUTE];
        tokens.push(writer.append(&tenant(), numbered(n * 100, &times)).await.unwrap().token);
        writer.close().await;
        let sees = || tokens.iter().map(|token| storage.reader.sees(&tenant(), token).unwrap()).collect::<Vec<_>>();
        assert!(sees().iter().all(|seen| *seen), "hot");
        for minutes in [40, 45, 180, 240] {
            moves(&storage, NOW + (300 * n + minutes) * MINUTE, false);
            assert!(sees().iter().all(|seen| *seen), "{n}, {minutes} minutes later");
        }
    }
    let left = storage.blocks.list(&tenant(), Signal::Spans, 0, 0).unwrap();
    assert_eq!(left.iter().map(|block| block.seq).collect::<Vec<_>>(), [3], "the newest stays");
    // A segment of a window that the table knows nothing of is none that was promoted.
    let late = tokens[0].to_string().split('_').find(|part| part.contains(".late.")).unwrap().to_owned();
    let window = (NOW / 300_000_000_000).to_string();
    let token = tokens[0].to_string().replace(&format!("_{late}"), "");
    assert!(storage.reader.sees(&tenant(), &token.parse().unwrap()).unwrap());
    let other = token.replace(&window, "7000000");
    assert!(other != token && !storage.reader.sees(&tenant(), &other.parse().unwrap()).unwrap());
}

/// What queries of this process name is noted in the table's schema by its worker, whoever moves the tenant.
#[tokio::test]
async fn columns_that_queries_name_keep_their_places() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path());
    let writer = store(root.path(), 1);
    writer.append(&tenant(), numbered(0, &[NOW; 40])).await.unwrap();
    writer.close().await;
    moves(&storage, NOW + 40 * MINUTE, false);
    moves(&storage, NOW + 200 * MINUTE, false);
    let table = storage.tables.table(&tenant(), Signal::Spans);
    let noted = || {
        let columns = table.columns().unwrap();
        let noted = columns.into_iter().filter(|column| column.metadata.contains_key("prism.query_day"));
        noted.map(|column| column.name).collect::<Vec<_>>()
    };
    assert!(noted().is_empty() && table.totals().unwrap().rows == 40);
    storage.reader.used(&tenant(), Signal::Spans, ["row".into(), "nobody's".into()].iter());
    let options = WorkerOptions { interval: Duration::from_millis(20), id: 5 };
    let worker = Worker::start(storage.clone(), options, Arc::new(|| NOW + 201 * MINUTE)).unwrap();
    let began = std::time::Instant::now();
    while noted().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "it is noted");
        std::thread::yield_now();
    }
    drop(worker);
    assert_eq!(noted(), ["attr:row@int"]);
    assert_eq!(verify(&storage).faults, []);
}

/// A block that cannot be read keeps itself and what is behind it from becoming cold, and is told; one that was removed for
/// good is passed over.
#[tokio::test]
async fn a_damaged_block_is_told_and_the_rest_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let round = |n: i64| {
        let writer = store(root.path(), 10 + n as u64);
        async move {
            writer.append(&tenant(), numbered(n * 100, &[NOW; 50])).await.unwrap();
            writer.close().await;
        }
    };
    let at = |n: i64| NOW + (40 + 10 * n) * MINUTE;
    for n in 0..3 {
        round(n).await;
        moves(&storage(root.path()), at(n), false);
        moves(&storage(root.path()), at(n) + 3 * MINUTE, false);
    }
    let path = root.path().join("objects/warm/acme/spans/0/00000000000000000002.blk");
    let mut bytes = std::fs::read(&path).unwrap();
    let len = bytes.len();
    bytes[len - 70] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let fresh = storage(root.path());
    // All is due to be cold.
    let later = NOW + 300 * MINUTE;
    let moved = moves(&fresh, later, false);
    let what = "block 2 of shard 0";
    assert_eq!(moved.damaged.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), [what]);
    assert_eq!((parts(&moved, Stage::Promote), parts(&moved, Stage::Seal)), ((1, 50), (0, 0)));
    round(3).await;
    let moved = moves(&fresh, later, false);
    assert_eq!((parts(&moved, Stage::Promote), parts(&moved, Stage::Seal)), ((0, 0), (1, 50)));
    let now = status(&fresh, later);
    assert_eq!(now.tiers.clone().map(|tier| tier.rows), [0, 100, 50]);
    assert!(now.unreadable.len() == 1 && now.unreadable[0].starts_with(what), "{:?}", now.unreadable);
    assert!(
        now.unreadable[0].ends_with("put its object back from a copy, or remove it for good: its rows are lost then")
    );
    assert!(verify(&fresh).faults.iter().any(|f| f.what == what && f.why.contains("remove it for good")));
    let options = WorkerOptions { interval: Duration::from_millis(20), id: 5 };
    let worker = Worker::start(fresh.clone(), options, Arc::new(move || later)).unwrap();
    let began = std::time::Instant::now();
    while worker.metrics().damaged.load(Relaxed) != 1 {
        assert!(began.elapsed() < Duration::from_secs(60), "the metric tells");
        std::thread::yield_now();
    }
    drop(worker);
    std::fs::remove_file(&path).unwrap();
    let moved = moves(&fresh, later, false);
    assert_eq!((moved.damaged.len(), parts(&moved, Stage::Promote)), (0, (2, 100)));
    assert_eq!(status(&fresh, later).tiers.map(|tier| tier.rows), [0, 0, 150]);
}

#[tokio::test]
async fn the_worker_moves_by_itself_and_one_tenant_that_fails_stops_no_other() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path());
    let writer = store(root.path(), 1);
    let other = "other".parse().unwrap();
    for tenant in [&tenant(), &other] {
        writer.append(tenant, numbered(0, &[NOW; 10])).await.unwrap();
    }
    writer.close().await;
    // The folder of one tenant's blocks is a file.
    std::fs::create_dir_all(root.path().join("objects/warm")).unwrap();
    let blocked = root.path().join("objects/warm/acme");
    std::fs::write(&blocked, b"").unwrap();
    let options = WorkerOptions { interval: Duration::from_millis(20), id: 5 };
    let worker = Worker::start(storage.clone(), options, Arc::new(|| NOW + 40 * MINUTE)).unwrap();
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let began = std::time::Instant::now();
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::yield_now();
        }
    };
    let seal = worker.metrics().of(Stage::Seal);
    until("the other is sealed", &|| seal.rows.load(Relaxed) == 10);
    until("the failure is counted", &|| {
        seal.failed.load(Relaxed) > 0 && worker.metrics().backing_off.load(Relaxed) > 0
    });
    std::fs::remove_file(&blocked).unwrap();
    until("what is mended goes on", &|| seal.rows.load(Relaxed) == 20);
    until("nothing waits", &|| worker.metrics().backing_off.load(Relaxed) == 0);
    drop(worker);
    assert_eq!(verify(&storage).faults, []);
    assert_eq!(std::fs::read_dir(root.path().join("hot/.movers")).unwrap().count(), 0, "it says that it has gone");
}
