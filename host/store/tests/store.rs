//! Appending and reading through the public interface, on a real file system.

#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prism_model::samples::texts;
use prism_model::window::{TimeRange, WINDOW_NANOS, Window};
use prism_model::{BatchId, Classify as _, Kind, Signal};
use prism_store::disk::{File, RealDisk};
use prism_store::{Followed, READ_GRACE, Reader, Store, StoreOptions, Stored, Surroundings, Token};
use support::opened::Opened;
use support::{NOW, all, cleared, numbered, numbers, tenant};
use tokio::sync::oneshot;

const SECOND: i64 = 1_000_000_000;

fn open(root: &std::path::Path, options: StoreOptions, writer: u64) -> Arc<Store> {
    Store::open_in(
        root,
        options,
        Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer, keys: Default::default() },
    )
}

fn quick() -> StoreOptions {
    StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }
}

#[tokio::test]
async fn st1_what_is_acknowledged_is_seen_by_any_other_reader_at_once() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path(), quick(), 1);
    // As another process would: opened before there is anything.
    let other = Reader::open(root.path());
    let mut expected = Vec::new();
    for i in 0..20 {
        let receipt = store.append(&tenant(), numbered(i * 10, &[NOW; 10])).await.unwrap();
        expected.extend(i * 10..i * 10 + 10);
        assert_eq!(numbers(&all(&other)), expected);
        let token: Token = receipt.token.to_string().parse().unwrap();
        assert!(other.sees(&tenant(), &token).unwrap());
        assert!(!other.sees(&"other".parse().unwrap(), &token).unwrap());
    }
    store.close().await;
    assert_eq!(numbers(&all(&other)), expected);
    assert_eq!(numbers(&all(&Reader::open(root.path()))), expected);
    assert_eq!(store.append(&tenant(), numbered(0, &[NOW])).await.unwrap_err().kind(), Kind::Retry);
    assert!(other.tenants().unwrap() == vec![tenant()]);
}

/// What a look tells: the batches by number, with their tokens, of which a reader sees each.
fn looked(store: &Store, since: i64, asked_for: &[u128], followed: &mut Followed) -> Vec<u128> {
    let mut ids = BTreeSet::new();
    let asked = |id: &prism_model::BatchId| asked_for.contains(&u128::from_le_bytes(*id));
    let visit = &mut |stored: prism_store::Stored| {
        assert!(store.reader().sees(&tenant(), &stored.token).unwrap());
        ids.insert(u128::from_le_bytes(stored.origin.batch_id));
    };
    let others = store.follow(&tenant(), Signal::Spans, since, &asked, followed, visit).unwrap();
    assert_eq!(others, Default::default());
    Vec::from_iter(ids)
}

#[tokio::test]
async fn batches_of_the_last_while_are_told_whoever_wrote_them_and_wherever_their_rows_went() {
    let root = tempfile::tempdir().unwrap();
    let stores = [1, 2].map(|writer| open(root.path(), quick(), writer));
    // In its window, over two windows, long ago (late), in a frame that is not compressed whole, of another tenant.
    stores[0].append(&tenant(), numbered(1, &[NOW])).await.unwrap();
    stores[1].append(&tenant(), numbered(2, &[NOW, NOW - WINDOW_NANOS])).await.unwrap();
    stores[0].append(&tenant(), numbered(3, &[NOW - 100 * WINDOW_NANOS])).await.unwrap();
    stores[1].append(&tenant(), numbered(4, &[NOW; 3_000])).await.unwrap();
    stores[0].append(&"other".parse().unwrap(), numbered(5, &[NOW])).await.unwrap();
    for store in &stores {
        store.close().await;
    }
    let visited = |since: i64| looked(&stores[0], since, &[], &mut Followed::default());
    assert_eq!(visited(NOW - 1_800 * SECOND), [1, 2, 3, 4]);
    assert_eq!(visited(NOW + 1), [0u128; 0]);
    assert_eq!(visited(NOW + 2 * WINDOW_NANOS + 1_800 * SECOND), [0u128; 0]);
}

#[tokio::test]
async fn what_others_store_is_told_once_as_soon_as_it_is_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let stores = [1, 2].map(|writer| open(root.path(), quick(), writer));
    let (mut followed, since) = (Followed::default(), NOW - 1_800 * SECOND);
    let mut look = |asked_for: &[u128]| looked(&stores[0], since, asked_for, &mut followed);
    assert_eq!(look(&[]), [0u128; 0]);
    stores[1].append(&tenant(), numbered(1, &[NOW])).await.unwrap();
    assert_eq!(look(&[9]), [1]);
    assert_eq!(look(&[1]), [0u128; 0]);
    stores[1].append(&tenant(), numbered(2, &[NOW, NOW - WINDOW_NANOS])).await.unwrap();
    assert_eq!(look(&[]), [2]);
    // What one has written oneself is no news.
    stores[0].append(&tenant(), numbered(3, &[NOW])).await.unwrap();
    stores[1].close().await;
    assert_eq!(look(&[1, 2, 3]), [0u128; 0]);
    // A writer that comes later.
    let third = open(root.path(), quick(), 3);
    third.append(&tenant(), numbered(4, &[NOW])).await.unwrap();
    assert_eq!(look(&[]), [4]);
    third.close().await;
    assert_eq!(look(&[]), [0u128; 0]);
}

/// A file whose syncs are counted, and the next of which, where that is wanted, stands still until it is let go, and fails.
struct Slow(Arc<dyn File>, Arc<Syncs>);

#[derive(Default)]
struct Syncs {
    begun: AtomicUsize,
    /// Says when it stands still, and is told when to fail.
    next: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
    /// As files of a network file system.
    shows_late: bool,
}

impl File for Slow {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.begun.fetch_add(1, Relaxed);
        let Some((stands, fails)) = self.1.next.lock().unwrap().take() else { return self.0.sync_data() };
        stands.send(()).unwrap();
        fails.blocking_recv().unwrap();
        Err(io::Error::other("injected"))
    }
    fn shows_late(&self) -> bool {
        self.1.shows_late
    }
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.reserve(offset, len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn identity(&self) -> io::Result<(u64, u64)> {
        self.0.identity()
    }
}

fn slow(root: &std::path::Path, syncs: &Arc<Syncs>) -> Arc<Store> {
    let counted = syncs.clone();
    let disk = Opened::new(move |file| Arc::new(Slow(file, counted.clone())) as Arc<dyn File>);
    let around = Surroundings { disk: Arc::new(disk), clock: Arc::new(|| NOW), writer: 1, keys: Default::default() };
    Store::open_in(root, quick(), around)
}

/// Who answered "stored already" by a copy that its writer takes back would have lost the batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_writer_may_take_back_is_told_to_nobody() {
    let root = tempfile::tempdir().unwrap();
    let syncs = Arc::<Syncs>::default();
    let (busy, other) = (slow(root.path(), &syncs), open(root.path(), quick(), 2));
    let mut listener = other.listen(&tenant(), Signal::Spans, READ_GRACE);
    let mut followed = Followed::default();
    let mut look = |number: u128| {
        let (mut stored, asked) = (Vec::new(), |id: &BatchId| *id == number.to_le_bytes());
        let visit = &mut |of: Stored| stored.push(u128::from_le_bytes(of.origin.batch_id));
        let others = other.follow(&tenant(), Signal::Spans, 0, &asked, &mut followed, visit).unwrap();
        (stored, others.under_way.into_iter().map(u128::from_le_bytes).collect::<Vec<_>>())
    };
    busy.append(&tenant(), numbered(1, &[NOW])).await.unwrap();
    assert_eq!(look(1), (vec![1], vec![]));
    let (stands, stood) = oneshot::channel();
    let (fail, fails) = oneshot::channel();
    *syncs.next.lock().unwrap() = Some((stands, fails));
    let second = tokio::spawn({
        let busy = busy.clone();
        async move { busy.append(&tenant(), numbered(2, &[NOW])).await }
    });
    stood.await.unwrap();
    // Its header is there, and readers see it.
    assert_eq!(numbers(&all(&other.reader())), [1, 2]);
    assert_eq!(look(2), (vec![], vec![2]));
    assert_eq!(listener.look().unwrap().frames.len(), 1);
    fail.send(()).unwrap();
    assert_eq!(second.await.unwrap().unwrap_err().kind(), Kind::Retry);
    assert_eq!(look(2), (vec![], vec![]));
    assert!(listener.look().unwrap().frames.is_empty());
    assert_eq!(numbers(&all(&other.reader())), [1]);
    busy.append(&tenant(), numbered(2, &[NOW])).await.unwrap();
    assert_eq!(look(2), (vec![2], vec![]));
    assert_eq!(listener.look().unwrap().frames.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_others_see_what_is_synced_the_last_group_is_shown_soon() {
    for (shows_late, expected) in [(false, 1), (true, 2)] {
        let root = tempfile::tempdir().unwrap();
        let syncs = Arc::new(Syncs { shows_late, ..Syncs::default() });
        let store = slow(root.path(), &syncs);
        store.append(&tenant(), numbered(1, &[NOW])).await.unwrap();
        assert_eq!(syncs.begun.load(Relaxed), 1);
        // Not again and again: once, when nothing followed.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(syncs.begun.load(Relaxed), expected);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn st1_batches_of_many_writers_and_clients_are_there_once() {
    let root = tempfile::tempdir().unwrap();
    let stores = [1, 2].map(|writer| open(root.path(), StoreOptions { frame_rows: 50, ..quick() }, writer));
    let mut clients = Vec::new();
    for c in 0..8i64 {
        let store = stores[c as usize % 2].clone();
        clients.push(tokio::spawn(async move {
            for i in 0..10 {
                store.append(&tenant(), numbered((c * 10 + i) * 17, &[NOW; 17])).await.unwrap();
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(numbers(&all(&stores[0].reader())), (0..80 * 17).collect::<Vec<_>>());
    let metrics = stores[0].metrics();
    assert_eq!(metrics.rows.load(std::sync::atomic::Ordering::Relaxed), 40 * 17);
    // Room is given back just after the acknowledgement, and surely by the end.
    for store in &stores {
        store.close().await;
    }
    assert_eq!(metrics.inflight_bytes.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn st2_rows_go_to_their_window_and_late_ones_aside() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path(), quick(), 1);
    let window = Window::of(NOW).number();
    let times = [
        NOW,
        NOW - WINDOW_NANOS,
        NOW - 30 * 60 * SECOND, // its window ended less than 30 minutes ago
        NOW - 36 * 60 * SECOND, // and this one's more
        NOW - 86_400 * SECOND,
        NOW + 9 * 60 * SECOND,
        NOW + 11 * 60 * SECOND,
        0,
    ];
    let receipt = store.append(&tenant(), numbered(0, &times)).await.unwrap();
    let dir = root.path().join("hot/acme/spans/0");
    let found: BTreeSet<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let expected = [window, window - 1, window - 6, window + 2].map(|w| w.to_string());
    assert_eq!(found, expected.into_iter().chain([format!("late-{window}")]).collect());
    let reader = store.reader();
    assert!(reader.sees(&tenant(), &receipt.token).unwrap());
    let in_range = |from: i64, to: i64| {
        let snapshot = reader.snapshot(&tenant(), Signal::Spans, TimeRange { from, to }).unwrap();
        numbers(&snapshot)
    };
    assert_eq!(in_range(i64::MIN, i64::MAX), (0..8).collect::<Vec<_>>());
    assert_eq!(in_range(NOW, NOW + 1).first(), Some(&0));
    // An old range finds the late rows by the times of their frame.
    assert_eq!(in_range(NOW - 86_401 * SECOND, NOW - 86_399 * SECOND), [3, 4, 6, 7]);
    assert_eq!(in_range(NOW - 3_600_000 * SECOND, NOW - 3_000_000 * SECOND), [3, 4, 6, 7]);
    assert!(in_range(NOW + 1_000 * SECOND, NOW + 2_000 * SECOND).is_empty());
    store.close().await;
    // A closed late segment is skipped by its end mark.
    let fresh = Reader::open(root.path());
    let later = TimeRange { from: NOW + 1_000 * SECOND, to: i64::MAX };
    assert!(fresh.snapshot(&tenant(), Signal::Spans, later).unwrap().frames.is_empty());
    assert_eq!(numbers(&all(&fresh)), (0..8).collect::<Vec<_>>());
}

#[tokio::test]
async fn odd_batches_of_every_signal_read_back_and_large_ones_are_cut() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path(), StoreOptions { frame_rows: 40, ..quick() }, 1);
    for signal in Signal::ALL {
        let mut expected = Vec::new();
        for seed in 0..6 {
            let batch = prism_model::samples::batch(signal, 90, NOW, seed);
            expected.extend(texts(&batch));
            store.append(&tenant(), cleared(batch)).await.unwrap();
        }
        let snapshot = store.reader().snapshot(&tenant(), signal, TimeRange::ALL).unwrap();
        assert!(snapshot.unreadable.is_empty());
        let mut found: Vec<String> =
            snapshot.frames.iter().flat_map(|f| texts(&f.read(&|_, _| true).unwrap().0)).collect();
        found.sort();
        expected.sort();
        assert!(found == expected);
        assert!(snapshot.frames.iter().all(|f| f.rows() <= 50));
    }
    store.close().await;
}

#[tokio::test]
async fn small_batches_share_a_frame_and_tenants_do_not() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path(), StoreOptions { commit_delay_ms: 1_000, frame_rows: 100, ..quick() }, 1);
    let other: prism_model::TenantId = "other".parse().unwrap();
    // The group is full at 100 rows, so that nobody waits for the second to pass.
    let (a, b) = (tenant(), other.clone());
    let appends = (0..10).map(|i| {
        let (store, tenant) = (store.clone(), if i % 2 == 0 { a.clone() } else { b.clone() });
        tokio::spawn(async move { store.append(&tenant, numbered(i * 20, &[NOW; 20])).await.unwrap() })
    });
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap();
    }
    for (tenant, parity) in [(tenant(), 0), (other, 1)] {
        let snapshot = store.reader().snapshot(&tenant, Signal::Spans, TimeRange::ALL).unwrap();
        assert_eq!(snapshot.frames.len(), 1);
        assert!(numbers(&snapshot).iter().all(|n| n / 20 % 2 == parity));
        let (batch, _) = snapshot.frames[0].read(&|_, _| false).unwrap();
        assert_eq!(batch.origins.len(), 5);
    }
    store.close().await;
}

#[tokio::test]
async fn memory_is_bounded_and_too_much_is_told_to_wait() {
    let root = tempfile::tempdir().unwrap();
    let tight = StoreOptions { inflight_bytes_max: 4 << 10, inflight_wait_ms: 0, commit_delay_ms: 300, ..quick() };
    let store = open(root.path(), tight, 1);
    let waiting = tokio::spawn({
        let store = store.clone();
        // Larger than everything that may wait: goes alone rather than never.
        async move { store.append(&tenant(), numbered(0, &[NOW; 10_000])).await }
    });
    while store.metrics().inflight_bytes.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.append(&tenant(), numbered(0, &[NOW])).await.unwrap_err().kind(), Kind::Wait);
    waiting.await.unwrap().unwrap();
    store.append(&tenant(), numbered(10_000, &[NOW])).await.unwrap();
    assert_eq!(numbers(&all(&store.reader())), (0..10_001).collect::<Vec<_>>());
    store.close().await;
}
