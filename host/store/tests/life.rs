//! Rows through the tiers by their age: what is due moves, what lies where is told, what is damaged is found.

#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prism_model::Signal;
use prism_model::window::TimeRange;
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
    storage_of(root, SealOptions::default().frame_rows)
}

/// Blocks have frames of so many rows.
fn storage_of(root: &Path, frame_rows: usize) -> Arc<Storage> {
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
        seal: SealOptions { seal_bytes_min: 0, frame_rows, ..SealOptions::default() },
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
    store.follow_blocks(storage.blocks.clone(), Duration::from_secs(120));
    let mut ids = BTreeSet::new();
    let visit = &mut |stored: prism_store::Stored| {
        ids.insert(u128::from_le_bytes(stored.origin.batch_id));
    };
    let (since, asked_for) = (NOW - 30 * MINUTE, |_: &_| false);
    let others = store.follow(&tenant(), Signal::Spans, since, &asked_for, &mut Followed::default(), visit).unwrap();
    assert_eq!(others, Default::default());
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

/// Where sealed segments go sooner, blocks are asked sooner.
#[tokio::test(start_paused = true)]
async fn what_was_sealed_and_deleted_since_the_last_look_is_told_by_its_block_whatever_the_grace() {
    let root = tempfile::tempdir().unwrap();
    for (writer, grace_s, passed_s, told) in [(10, 10, 6, true), (20, 10, 4, false), (30, 300, 100, false)] {
        let number = i64::from(writer);
        let mut storage = storage(root.path());
        Arc::get_mut(&mut storage).unwrap().seal.read_grace_ms = grace_s * 1_000;
        let follower = store(root.path(), writer as u64);
        follower.follow_blocks(storage.blocks.clone(), Duration::from_secs(grace_s));
        let mut followed = Followed::default();
        let mut look = || {
            let mut ids = BTreeSet::new();
            let visit = &mut |stored: prism_store::Stored| ids.extend([u128::from_le_bytes(stored.origin.batch_id)]);
            let asked_for = |_: &_| false;
            follower.follow(&tenant(), Signal::Spans, NOW - 30 * MINUTE, &asked_for, &mut followed, visit).unwrap();
            ids
        };
        look();
        let looked = tokio::time::Instant::now();
        let other = store(root.path(), writer as u64 + 1);
        other.append(&tenant(), numbered(number, &[NOW; 3])).await.unwrap();
        other.close().await;
        let later = NOW + (30 + i64::from(writer)) * MINUTE;
        assert_eq!(parts(&moves(&storage, later, false), Stage::Seal), (1, 3));
        assert_eq!(parts(&moves(&storage, later + 6 * MINUTE, false), Stage::Reclaim).0, 1);
        tokio::time::sleep_until(looked + Duration::from_secs(passed_s)).await;
        assert_eq!(looked.elapsed(), Duration::from_secs(passed_s));
        assert_eq!(look().contains(&(number as u128)), told, "{grace_s} {passed_s}");
    }
}

/// Changes a byte of a block so that one of its frames, by its place, cannot be read, and no other.
fn damage(storage: &Storage, path: &Path, seq: u64, frame: usize) {
    let good = std::fs::read(path).unwrap();
    let blocks = storage.blocks.list(&tenant(), Signal::Spans, 0, seq - 1).unwrap();
    let frames = blocks[0].frames(TimeRange::ALL);
    for at in (300..good.len() - 300).step_by(16) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        std::fs::write(path, &bytes).unwrap();
        let bad: Vec<bool> = frames.iter().map(|frame| frame.read(&|_, _| true).is_err()).collect();
        if bad.iter().enumerate().all(|(n, bad)| *bad == (n == frame)) {
            return;
        }
    }
    panic!("no byte is of frame {frame} alone");
}

/// Frames that are damaged inside of a block keep nothing but themselves from becoming cold. They are told wherever one looks, are
/// read as soon as the copy of their block is mended, and come to the table then.
#[tokio::test]
async fn st4_damaged_frames_of_a_block_stay_alone_and_come_back_when_they_are_mended() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage_of(root.path(), 50);
    let round = |n: i64| {
        let writer = store(root.path(), 10 + n as u64);
        async move {
            for part in 0..3 {
                writer.append(&tenant(), numbered(n * 1_000 + part * 100, &[NOW + part; 50])).await.unwrap();
            }
            writer.close().await;
        }
    };
    for n in 0..2 {
        round(n).await;
        moves(&storage, NOW + (40 + 10 * n) * MINUTE, false);
    }
    let folder = root.path().join("objects/warm/acme/spans/0");
    let path = folder.join("00000000000000000001.blk");
    let good = std::fs::read(&path).unwrap();
    damage(&storage, &path, 1, 1);
    let seen = |storage: &Storage| {
        let snapshot = storage.reader.snapshot(&tenant(), Signal::Spans, TimeRange::ALL).unwrap();
        assert!(snapshot.unreadable.is_empty(), "{:?}", snapshot.unreadable);
        let (good, bad): (Vec<_>, Vec<_>) = snapshot.frames.into_iter().partition(|f| f.read(&|_, _| true).is_ok());
        let bad: Vec<_> = bad.iter().map(|frame| (frame.tier(), frame.rows())).collect();
        (good.iter().map(|frame| frame.rows()).sum::<usize>(), bad)
    };
    assert_eq!(seen(&storage), (250, vec![(Tier::Warm, 50)]));

    // All is due to be cold, and all but those 50 rows becomes it, also what comes behind them.
    let later = NOW + 300 * MINUTE;
    let what = ["frame 1 of block 1 of shard 0, 50 rows"];
    let told = |moved: &Moved| moved.damaged.iter().map(|(what, _)| what.clone()).collect::<Vec<_>>();
    assert_eq!(parts(&moves(&storage, later, true), Stage::Promote), (2, 300), "what a dry run cannot know");
    let moved = moves(&storage, later, false);
    assert_eq!((parts(&moved, Stage::Promote), told(&moved)), ((2, 250), what.map(str::to_owned).to_vec()));
    assert!(
        moved.damaged[0]
            .1
            .contains("copy `left/00000000000000000001` of block 1 of shard 0: put a good copy of the block there")
    );
    round(2).await;
    let moved = moves(&storage, later, false);
    assert_eq!((parts(&moved, Stage::Seal), told(&moved)), ((1, 150), what.map(str::to_owned).to_vec()));
    assert_eq!(parts(&moves(&storage, later + 120 * MINUTE, false), Stage::Promote), (1, 150));
    // Blocks go; what is damaged does not go with them.
    assert_eq!(parts(&moves(&storage, later + 240 * MINUTE, false), Stage::Retire).0, 2);
    assert!(!path.exists() && folder.join("left/00000000000000000001").exists());
    for storage in [&storage, &storage_of(root.path(), 50)] {
        assert_eq!(seen(storage), (400, vec![(Tier::Warm, 50)]));
        let now = status(storage, later);
        assert_eq!(now.tiers.clone().map(|tier| tier.rows), [0, 50, 400]);
        assert_eq!(
            now.unreadable,
            [
                "copy `left/00000000000000000001` of block 1 of shard 0: 1 frames of 50 rows were damaged, and all others are \
              cold; put a good copy of the block there, or remove it for good: these rows are lost then"
            ]
        );
        let faults = verify(storage).faults;
        assert!(faults.iter().any(|f| f.what.ends_with("0-1.blk/1")), "{faults:?}");
        assert!(faults.iter().any(|f| f.what.starts_with("copy `left/") && f.why.contains("good copy")), "{faults:?}");
    }
    let options = WorkerOptions { interval: Duration::from_millis(20), id: 5 };
    let worker = Worker::start(storage.clone(), options, Arc::new(move || later)).unwrap();
    let began = std::time::Instant::now();
    while worker.metrics().damaged.load(Relaxed) != 1 {
        assert!(began.elapsed() < Duration::from_secs(60), "the metric tells");
        std::thread::yield_now();
    }
    drop(worker);

    // Mended it is read at once, and comes to the table with the next pass; the copy goes when no reader needs it.
    let copy = folder.join("left/00000000000000000001");
    std::fs::write(&copy, &good).unwrap();
    assert_eq!(seen(&storage), (450, vec![]));
    let moved = moves(&storage, later + 240 * MINUTE, false);
    assert_eq!((parts(&moved, Stage::Promote), moved.damaged.len()), ((1, 50), 0));
    assert_eq!(seen(&storage), (450, vec![]));
    assert_eq!(status(&storage, later).tiers.map(|tier| tier.rows), [0, 0, 450]);
    assert_eq!(verify(&storage).faults, []);
    assert!(copy.exists());
    moves(&storage, later + 250 * MINUTE, false);
    assert!(!copy.exists());
    assert_eq!(verify(&storage).faults, []);
}

/// Rows that nobody can mend are given up by removing the copy of their block.
#[tokio::test]
async fn damaged_frames_are_given_up_by_removing_their_copy_or_when_they_are_too_old() {
    for removed in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let storage = storage_of(root.path(), 50);
        let writer = store(root.path(), 10);
        for part in 0..3 {
            writer.append(&tenant(), numbered(part * 100, &[NOW + part; 50])).await.unwrap();
        }
        writer.close().await;
        moves(&storage, NOW + 40 * MINUTE, false);
        let folder = root.path().join("objects/warm/acme/spans/0");
        damage(&storage, &folder.join("00000000000000000001.blk"), 1, 2);
        let later = NOW + 300 * MINUTE;
        assert_eq!(parts(&moves(&storage, later, false), Stage::Promote), (1, 100));
        let copy = folder.join("left/00000000000000000001");
        let days = |n: i64| later + n * 24 * 60 * MINUTE;
        if removed {
            std::fs::remove_file(&copy).unwrap();
            // A copy that was made just now may not be listed yet.
            let moved = moves(&storage, later + MINUTE, false);
            assert_eq!(status(&storage, later).unreadable.len(), 1, "{:?}", moved.damaged);
            let snapshot = storage.reader.snapshot(&tenant(), Signal::Spans, TimeRange::ALL).unwrap();
            let bad = snapshot.frames.iter().filter(|frame| frame.read(&|_, _| true).is_err()).count();
            assert_eq!(snapshot.unreadable.len() + bad, 1);
            moves(&storage, later + 3 * MINUTE, false);
        } else {
            let policy = Policy { delete_after: "2d".parse().unwrap(), ..storage.defaults };
            let moved = storage.moves(&tenant(), Signal::Spans, &policy, days(4), false, &|| false);
            assert_eq!((parts(&moved, Stage::Expire), moved.failures.len()), ((1, 150), 0));
            moves(&storage, days(5), false);
            assert!(!copy.exists());
        }
        assert_eq!(status(&storage, later).unreadable, [""; 0]);
        // The newest block stays until there is a newer one.
        let faults = verify(&storage_of(root.path(), 50)).faults;
        assert!(faults.iter().all(|f| f.what == "block 1 of shard 0" || f.what.ends_with("0-1.blk/2")), "{faults:?}");
        assert_eq!(moves(&storage, days(6), false).damaged, []);
    }
}

/// A file of the table that is damaged is told and stays as it is; those beside it are joined.
#[tokio::test]
async fn a_damaged_file_keeps_no_others_from_being_joined() {
    let root = tempfile::tempdir().unwrap();
    let storage = storage(root.path());
    let at = |n: i64| NOW + (150 + 100 * n) * MINUTE;
    for n in 0..5 {
        let writer = store(root.path(), 10 + n as u64);
        writer.append(&tenant(), numbered(n * 100, &[NOW; 50])).await.unwrap();
        writer.close().await;
        moves(&storage, at(n), false);
        moves(&storage, at(n) + 90 * MINUTE, false);
    }
    let files = |storage: &Storage| storage.tables.table(&tenant(), Signal::Spans).pin(TimeRange::ALL).unwrap().files;
    let before = files(&storage);
    assert_eq!(before.len(), 5);
    let path = root.path().join("objects").join(&before[2].name);
    let mut bytes = std::fs::read(&path).unwrap();
    (4..400).for_each(|at| bytes[at] ^= 1);
    std::fs::write(&path, &bytes).unwrap();
    let moved = moves(&storage, NOW + 3 * 24 * 60 * MINUTE, false);
    assert_eq!(parts(&moved, Stage::Compact), (4, 200));
    let damaged: Vec<&str> = moved.damaged.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(damaged, [format!("file {}", before[2].path)]);
    let after = files(&storage);
    assert!(after.len() == 2 && after.contains(&before[2]), "{after:?}");
    assert_eq!(status(&storage, NOW).tiers.map(|tier| tier.rows), [0, 0, 250]);
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
