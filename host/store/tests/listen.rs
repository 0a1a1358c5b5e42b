//! Who listens is told each row once, as it becomes durable, whoever stores it and wherever it moves meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prism_model::Signal;
use prism_model::samples::Random;
use prism_model::window::{TimeRange, WINDOW_NANOS};
use prism_store::cold::delta::Tables;
use prism_store::cold::{ColdEnv, ColdOptions, promote};
use prism_store::disk::{Disk, RealDisk};
use prism_store::keys::{Erasure, Keyring};
use prism_store::objects::{LocalObjects, Objects};
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{Frame, Listener, Placed, Position, Reader, Store, StoreOptions, Surroundings};
use support::{NOW, numbered, tenant, try_numbers};

const GRACE: Duration = Duration::from_secs(120);
const MINUTE: i64 = 60 * 1_000_000_000;

/// A data folder that several processes share, each a [`Store`] of its own.
struct House {
    root: tempfile::TempDir,
    disk: Arc<dyn Disk>,
    blocks: Blocks,
    tables: Tables,
    /// Unix nanoseconds, of all processes.
    clock: Arc<AtomicI64>,
    writers: AtomicU64,
}

impl House {
    fn new() -> House {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("objects")).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(disk.clone(), &root.path().join("objects"), 1));
        let (blocks, tables) = (Blocks::open(objects.clone(), Keyring::default()), Tables::new(objects));
        House { root, disk, blocks, tables, clock: Arc::new(AtomicI64::new(NOW)), writers: AtomicU64::new(1) }
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn process(&self) -> Arc<Store> {
        let options = StoreOptions { commit_delay_ms: 0, frame_rows: 16, ..StoreOptions::default() };
        let clock = self.clock.clone();
        let writer = self.writers.fetch_add(1, Relaxed);
        let clock = Arc::new(move || clock.load(Relaxed));
        let around = Surroundings { disk: self.disk.clone(), clock, writer, keys: Keyring::beside(self.path()) };
        Store::open_in(self.path(), options, around)
    }

    fn listener(&self, of: &Arc<Store>) -> Listener {
        of.listen(&tenant(), Signal::Spans, GRACE)
    }

    fn reader(&self) -> Reader {
        Reader::open_on(self.disk.clone(), self.path())
    }

    /// Moves what is ended to blocks, deletes their segments, and moves blocks on.
    fn grow_cold(&self, now: i64, as_far_as: usize) {
        let options = SealOptions { frame_rows: 40, seal_bytes_min: 0, ..SealOptions::default() };
        let covered =
            |tenant: &_, signal, shard| self.tables.table(tenant, signal).covered(shard).map(|seq| seq.unwrap_or(0));
        let env = SealEnv {
            disk: &*self.disk,
            root: self.path(),
            blocks: &self.blocks,
            options: &options,
            covered: &covered,
        };
        let cold = ColdOptions::default();
        let named = Arc::default();
        let cold = ColdEnv {
            disk: &*self.disk,
            root: self.path(),
            blocks: &self.blocks,
            tables: &self.tables,
            options: &cold,
            writer: 1,
            named: &named,
        };
        let (tenant, spans) = (tenant(), Signal::Spans);
        seal::pass(&env, &tenant, spans, now, false).unwrap();
        if as_far_as > 0 {
            seal::reclaim(&env, &tenant, spans, now + 10 * MINUTE, false).unwrap();
        }
        if as_far_as > 1 {
            promote::pass(&cold, &tenant, spans, now + 20 * MINUTE, false).unwrap();
        }
    }
}

fn of(placed: &[Placed]) -> Vec<i64> {
    of_frames(placed.iter().map(|placed| placed.frame.clone()))
}

fn of_frames(frames: impl Iterator<Item = Frame>) -> Vec<i64> {
    try_numbers(&frames.collect::<Vec<_>>()).unwrap()
}

fn sorted(mut rows: Vec<i64>) -> Vec<i64> {
    rows.sort_unstable();
    rows
}

#[tokio::test]
async fn what_is_stored_is_told_once_by_every_process() {
    let house = House::new();
    let (a, b) = (house.process(), house.process());
    let (mut own, mut other) = (house.listener(&a), house.listener(&b));
    for listener in [&mut own, &mut other] {
        assert!(listener.look().unwrap().frames.is_empty());
    }
    let mut bell = own.bell();
    bell.mark_unchanged();
    a.append(&tenant(), numbered(0, &[NOW, NOW + 1])).await.unwrap();
    assert!(bell.has_changed().unwrap(), "rings where it is stored");
    let until_told = |listener: &mut Listener| {
        // Another process may believe for a second that nobody else writes.
        let began = std::time::Instant::now();
        loop {
            let rows = of(&listener.look().unwrap().frames);
            if !rows.is_empty() || began.elapsed() > Duration::from_secs(60) {
                return rows;
            }
            std::thread::yield_now();
        }
    };
    assert_eq!(of(&own.look().unwrap().frames), [0, 1]);
    assert_eq!(until_told(&mut other), [0, 1]);
    // A batch in three segments, of which one is of late rows.
    let times = [NOW, NOW - WINDOW_NANOS, NOW - 20 * WINDOW_NANOS, NOW + 5];
    b.append(&tenant(), numbered(10, &times)).await.unwrap();
    assert_eq!(of(&other.look().unwrap().frames), [10, 11, 12, 13]);
    assert_eq!(until_told(&mut own), [10, 11, 12, 13]);
    for listener in [&mut own, &mut other] {
        let news = listener.look().unwrap();
        assert!(news.frames.is_empty() && news.gap_since.is_none() && news.unread == 0);
    }
}

/// Processes come, store and go; rows grow cold; who listens is told each row once, may come back anywhere, and may begin with
/// all that is there.
#[tokio::test]
async fn each_row_is_told_once_whatever_happens_to_it() {
    let mut moved = 0;
    for seed in 0..6 {
        let mut random = Random(seed);
        let house = House::new();
        let silent = house.process();
        let mut processes = [house.process(), house.process()];
        let mut listener = house.listener(&silent);
        let mut told = of(&listener.look().unwrap().frames);
        let mut next = 0;
        for step in 0..60 {
            match random.below(10) {
                0..=4 => {
                    let process = &processes[random.below(2)];
                    let rows = 1 + random.below(30) as i64;
                    let windows = [0, 0, 1, 2, 9];
                    let times: Vec<i64> =
                        (0..rows).map(|r| NOW + r - windows[random.below(5)] * WINDOW_NANOS).collect();
                    process.append(&tenant(), numbered(next, &times)).await.unwrap();
                    next += rows;
                }
                5 => {
                    let fresh = house.process();
                    let of = random.below(2);
                    std::mem::replace(&mut processes[of], fresh).close().await;
                }
                6 => {
                    // Whoever looks within the grace has seen a segment before it goes.
                    told.extend(seen(&mut listener));
                    house.grow_cold(NOW + 120 * MINUTE, random.below(3));
                }
                7 => told.extend(seen(&mut listener)),
                8 => {
                    // Comes back at another process.
                    let mut bytes = Vec::new();
                    listener.position().write(&mut bytes);
                    let position = Position::read(&mut &bytes[..]).unwrap();
                    let mut fresh = house.listener(&processes[random.below(2)]);
                    fresh.look().unwrap();
                    told.extend(of(&fresh.heard().since(&position, usize::MAX).unwrap().hot));
                    drop(std::mem::replace(&mut listener, fresh));
                }
                _ => {
                    let mut fresh = house.listener(&silent);
                    fresh.look().unwrap();
                    let recent = fresh.heard().recent(&house.reader(), TimeRange::ALL).unwrap();
                    // Nothing is sealed meanwhile.
                    let recent = recent.unwrap();
                    assert_eq!(recent.lacks, 0, "seed {seed} step {step}");
                    moved += recent.old.len();
                    let old = of_frames(recent.old.into_iter());
                    let all = sorted([old, of(&recent.hot)].concat());
                    assert_eq!(all, (0..next).collect::<Vec<_>>(), "seed {seed} step {step}: recent rows");
                }
            }
        }
        told.extend(seen(&mut listener));
        assert_eq!(sorted(told), (0..next).collect::<Vec<_>>(), "seed {seed}");
    }
    assert!(moved > 0, "rows were found in colder tiers");
}

/// What is told now, where another process is not believed to be silent.
fn seen(listener: &mut Listener) -> Vec<i64> {
    let position = listener.position();
    let mut rows = of(&listener.look().unwrap().frames);
    let began = std::time::Instant::now();
    // For a second it may be believed that nobody else writes.
    while began.elapsed() < Duration::from_millis(1_100) && listener.is_alone() {
        rows.extend(of(&listener.look().unwrap().frames));
    }
    assert_eq!(
        sorted(rows.clone()),
        of(&listener.heard().since(&position, usize::MAX).unwrap().hot),
        "told again from a place before"
    );
    rows
}

#[tokio::test]
async fn who_did_not_look_for_long_is_told_so() {
    let house = House::new();
    let store = house.process();
    let mut listener = house.listener(&store);
    assert_eq!(listener.look().unwrap().gap_since, None, "nothing was missed before the first look");
    store.append(&tenant(), numbered(0, &[NOW])).await.unwrap();
    house.clock.store(NOW + i64::try_from(GRACE.as_nanos()).unwrap() / 2, Relaxed);
    assert_eq!(listener.look().unwrap().gap_since, None, "nothing can be deleted by then");
    let looked = house.clock.load(Relaxed);
    house.clock.store(looked + i64::try_from(GRACE.as_nanos()).unwrap(), Relaxed);
    store.append(&tenant(), numbered(1, &[NOW])).await.unwrap();
    let news = listener.look().unwrap();
    assert_eq!((news.gap_since, of(&news.frames)), (Some(looked), vec![1]));
}

#[tokio::test]
async fn nothing_is_told_of_an_erased_tenant() {
    let house = House::new();
    let store = house.process();
    let mut listener = house.listener(&store);
    store.append(&tenant(), numbered(0, &[NOW])).await.unwrap();
    assert_eq!(of(&listener.look().unwrap().frames), [0]);
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(house.disk.clone(), &house.path().join("objects"), 1));
    let keys = Keyring::beside(house.path());
    Erasure::open_in(house.disk.clone(), house.path(), keys, objects).erase(&tenant(), NOW / 1_000_000).unwrap();
    // Tombstones are looked at every two seconds.
    let began = std::time::Instant::now();
    let refused = loop {
        match listener.look() {
            Err(error) => break error,
            Ok(news) => assert!(news.frames.is_empty() && began.elapsed() < Duration::from_secs(60)),
        }
    };
    assert_eq!(prism_model::Classify::kind(&refused), prism_model::Kind::Forbidden, "{refused}");
}

#[tokio::test]
async fn what_was_sealed_before_it_was_told_is_told_by_the_next_look() {
    let house = House::new();
    let silent = house.process();
    let gone = house.process();
    gone.append(&tenant(), numbered(7, &[NOW])).await.unwrap();
    gone.close().await;
    let mut listener = house.listener(&silent);
    assert_eq!((of(&listener.look().unwrap().frames), listener.is_alone()), (vec![7], true), "nobody else writes");
    let other = house.process();
    other.append(&tenant(), numbered(0, &[NOW, NOW + 1])).await.unwrap();
    other.close().await;
    house.grow_cold(NOW + 120 * MINUTE, 0);
    let heard = listener.heard();
    assert!(heard.recent(&house.reader(), TimeRange::ALL).unwrap().is_none(), "it would come twice");
    listener.doubt();
    assert_eq!(of(&listener.look().unwrap().frames), [0, 1], "whoever is told of news has them, whatever fails then");
    let recent = listener.heard().recent(&house.reader(), TimeRange::ALL).unwrap().unwrap();
    assert_eq!((of_frames(recent.old.into_iter()), recent.hot.len(), recent.lacks), (vec![0, 1, 7], 0, 0));
    assert_eq!(
        of(&heard.since(&Position::default(), usize::MAX).unwrap().hot),
        [7],
        "what was heard then stays as it was"
    );
}

/// The files below a folder with some ending.
fn files(dir: &Path, ending: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path, ending),
        false => vec![path],
    };
    entries.flat_map(of).filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

#[tokio::test]
async fn what_is_damaged_is_said_once_and_what_cannot_be_read_yet_is_told_later() {
    let house = House::new();
    let (store, silent) = (house.process(), house.process());
    let mut listener = house.listener(&silent);
    let seen = |listener: &mut Listener| {
        listener.doubt();
        listener.look().unwrap()
    };
    seen(&mut listener);
    for n in 0..3 {
        store.append(&tenant(), numbered(n, &[NOW])).await.unwrap();
    }
    let [segment] = &files(house.path(), ".seg")[..] else { panic!("one segment") };
    let good = std::fs::read(segment).unwrap();
    let sound = |bytes: &[u8]| std::fs::write(segment, bytes).unwrap();
    // A folder where the file was: the disk fails.
    let aside = segment.with_extension("aside");
    std::fs::rename(segment, &aside).unwrap();
    std::fs::create_dir(segment).unwrap();
    let news = seen(&mut listener);
    assert_eq!((news.unread, news.damaged, news.gap_since, news.frames.len()), (1, 0, None, 0));
    std::fs::remove_dir(segment).unwrap();
    std::fs::rename(&aside, segment).unwrap();
    // The first frame, of which the later ones say that it was acknowledged.
    let mut bad = good.clone();
    bad[256 + 20] ^= 1;
    sound(&bad);
    let mut before = house.listener(&silent);
    assert_eq!(seen(&mut before).damaged, 1);
    assert_eq!(before.heard().since(&Position::default(), usize::MAX).unwrap().lacks, 1);
    assert_eq!(before.heard().recent(&house.reader(), TimeRange::ALL).unwrap().unwrap().lacks, 1);
    let looked = house.clock.load(Relaxed);
    let news = seen(&mut listener);
    assert_eq!((news.unread, news.damaged, news.gap_since, news.frames.len()), (0, 1, Some(looked), 0));
    let news = seen(&mut listener);
    assert_eq!((news.damaged, news.gap_since), (0, None), "it was said");
    // All of the segment.
    bad[0] ^= 1;
    sound(&bad);
    let mut fresh = house.listener(&house.process());
    assert_eq!(seen(&mut fresh).damaged, 1);
    sound(&good);
    let mut fresh = house.listener(&silent);
    assert_eq!(
        (of(&seen(&mut fresh).frames), fresh.heard().since(&Position::default(), usize::MAX).unwrap().lacks),
        (vec![0, 1, 2], 0)
    );
}
