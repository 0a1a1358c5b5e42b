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
                    told.extend(of(&fresh.since(&position).unwrap()));
                    drop(std::mem::replace(&mut listener, fresh));
                }
                _ => {
                    let mut fresh = house.listener(&silent);
                    fresh.look().unwrap();
                    let (recent, behind) = fresh.recent(&house.reader(), TimeRange::ALL).unwrap();
                    assert!(behind.is_empty(), "nothing is sealed meanwhile");
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
    assert_eq!(sorted(rows.clone()), of(&listener.since(&position).unwrap()), "told again from a place before");
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
