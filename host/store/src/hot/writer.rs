//! Taking batches in: bounded memory, a lane for each tenant and signal, groups that share an fdatasync.
//!
//! ```text
//! append -> room in memory -> lane (waits a few ms for others) -> commit (encode, write, sync) -> acknowledge
//! ```
//!
//! Nothing is acknowledged before its fdatasync. Not here: what a group writes and how it fails (`commit`).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use prism_model::window::Window;
use prism_model::{BatchId, Cleared, Signal, TenantId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::disk::{Disk, RealDisk, blocking, make_dirs};
use crate::error::StoreError;
use crate::hot::clock::ClockWatch;
use crate::hot::commit::{Item, LaneFiles};
use crate::hot::ears::Ears;
use crate::hot::follow::{Followed, Follower, Others, Stored, Wanted};
use crate::hot::lease::Lease;
use crate::hot::once::Once;
use crate::hot::open::{OpenSegments, permitted};
use crate::hot::segment::Folders;
use crate::hot::takeover::Observer;
use crate::keys::Keyring;
use crate::metrics::Metrics;
use crate::options::{StoreOptions, nanos};
use crate::place::Token;
use crate::read::Reader;
use crate::warm::Blocks;

/// Batches that wait in one lane; memory is bounded by bytes, this bounds small ones.
const LANE_ITEMS_MAX: usize = 4_096;
/// Batches of one group: their origins stand in its frames.
const GROUP_ITEMS_MAX: usize = 1_024;
/// Rows of one group, in frames: a group is encoded by one thread.
const GROUP_FRAMES_MAX: usize = 4;
/// After so long without a group others are shown what was acknowledged, where a sync does that: nobody should have to send again
/// for want of it, and a busy lane shows it with its next group.
const SHOW_AFTER: Duration = Duration::from_millis(100);
/// How often a lane looks for segments to close.
const TICK: Duration = Duration::from_secs(5);
/// Threads that wait for the disk; the runtime has 512 that may block.
const SYNCS_PARALLEL_MAX: usize = 256;
/// Times that a batch is tried again while another process has it under way: a claim lasts about a millisecond, a sync some.
const CLAIM_ATTEMPTS: u32 = 5;
/// Before the first of them, up to twice as long; in all a second at most.
const CLAIM_WAIT_MS: u64 = 10;
/// Renewals in a lease time.
const RENEWALS: u32 = 3;
/// Ids that are tried for a writer.
const INCARNATIONS_MAX: usize = 8;

/// What an append gives back: the batch is durable, and in every snapshot from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Names the frames, for [`Reader::sees`].
    pub token: Token,
}

/// The outside of the store, which tests replace.
pub struct Surroundings {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// Unix nanoseconds.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Tells this writer's files from those of any other, ever.
    pub writer: u64,
    /// What new segments are encrypted with, and all are read with.
    pub keys: Keyring,
}

/// A writer of the hot store in this process. Any number of processes may write below one folder.
pub struct Store {
    pub(super) shared: Arc<Shared>,
    lanes: Mutex<Option<BTreeMap<(TenantId, Signal), Lane>>>,
    tended: AtomicBool,
    reader: Reader,
    pub(super) follower: Follower,
}

pub(crate) struct Shared {
    pub(crate) options: StoreOptions,
    pub(crate) folders: Folders,
    pub(crate) writer: u64,
    pub(crate) files: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) metrics: Metrics,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    room: Arc<Semaphore>,
    commits: Arc<Semaphore>,
    pub(crate) encoders: Slots,
    pub(crate) open: OpenSegments,
    /// Whoever listens to what is stored.
    pub(crate) ears: Ears,
    /// The lease of the writer that this process is now.
    lease: Mutex<Option<Arc<Lease>>>,
    /// Writers that this process was.
    incarnations: AtomicU64,
    observer: Mutex<Observer>,
    /// A lane could not end all of its segments: the lease must run out, so that others do.
    unended: AtomicBool,
    /// A lease was lost since the last look at those of others.
    search: AtomicBool,
    watch: Mutex<ClockWatch>,
}

impl Shared {
    /// Unix nanoseconds.
    pub(crate) fn now(&self) -> i64 {
        (self.clock)()
    }

    /// The lease to write by. A new one, of a new writer, where there is none or it was lost.
    pub(crate) fn lease(&self) -> io::Result<Arc<Lease>> {
        let mut current = self.lease.lock();
        if let Some(lease) = current.as_ref().filter(|lease| !lease.is_lost()) {
            return Ok(lease.clone());
        }
        if current.take().is_some() {
            Metrics::add(&self.metrics.leases_lost, 1);
            // What it wrote since may be open, and its writer forgotten.
            self.search.store(true, Relaxed);
        }
        for _ in 0..INCARNATIONS_MAX {
            let writer = match self.incarnations.fetch_add(1, Relaxed) {
                0 => self.writer,
                // As good as a random one, since the first is.
                n => xxhash_rust::xxh3::xxh3_64_with_seed(&n.to_le_bytes(), self.writer),
            };
            let begun = Lease::begin(&self.folders.disk, &self.folders.root, &self.folders.known, writer)?;
            if let Some(lease) = begun.map(Arc::new) {
                *current = Some(lease.clone());
                return Ok(lease);
            }
        }
        Err(io::Error::other("every writer id is known already"))
    }

    /// The writer that this process is now; what it was before has ended, and is looked at as any other.
    pub(crate) fn now_writer(&self) -> u64 {
        self.lease.lock().as_ref().map_or(self.writer, |lease| lease.writer)
    }

    /// Renews the lease, and looks after the writers of other processes.
    fn tend(&self, now: Duration) {
        if let Some(by) = self.watch.lock().look(self.now(), now) {
            Metrics::add(&self.metrics.clock_jumps, 1);
            let by_ms = by / 1_000_000;
            tracing::warn!(
                by_ms,
                "the clock jumped: times of receipt, lateness and what is due by age go by it from now on"
            );
        }
        let lease = self.lease.lock().clone();
        if let Some(Err(error)) = lease.map(|lease| lease.renew()) {
            tracing::warn!(%error, "the writer's lease is not renewed");
        }
        self.folders.tidy();
        let disk = &*self.folders.disk;
        let mut observer = self.observer.lock();
        if self.search.swap(false, Relaxed) {
            observer.search();
        }
        match observer.look(disk, &self.folders.root, now) {
            Ok(looked) => {
                Metrics::add(&self.metrics.writers_fenced, looked.fenced as u64);
                Metrics::add(&self.metrics.segments_ended, looked.ended as u64);
            }
            Err(error) => tracing::warn!(%error, "the leases of other writers cannot be looked at"),
        }
    }

    /// Gives the lease up, unless something is open that others must end.
    fn release(&self) {
        let lease = self.lease.lock().take();
        if let Some(lease) = lease.filter(|_| self.folders.tidy() && !self.unended.load(Relaxed)) {
            lease.release();
        }
    }
}

/// So many threads work at once, others wait for one to end.
pub(crate) struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Slots {
    fn new(slots: usize) -> Slots {
        Slots { free: Mutex::new(slots.max(1)), freed: Condvar::new() }
    }

    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut free = self.free.lock();
        self.freed.wait_while(&mut free, |free| *free == 0);
        *free -= 1;
        drop(free);
        let _taken = Taken(self);
        work()
    }
}

/// Given back also where the work panics.
struct Taken<'a>(&'a Slots);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.freed.notify_one();
    }
}

struct Lane {
    queue: mpsc::Sender<Queued>,
    task: JoinHandle<()>,
}

struct Queued {
    item: Item,
    _room: Room,
}

/// Bytes of memory, given back when a batch is done with.
struct Room {
    shared: Arc<Shared>,
    bytes: u64,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.metrics.inflight_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Store {
    /// A writer below a folder, which is made where it does not exist. Tenants that have a key there are encrypted with it.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn open(root: &Path, options: StoreOptions) -> Result<Arc<Store>, StoreError> {
        Store::open_with(root, options, Keyring::beside(root))
    }

    /// A writer below a folder, with these keys.
    ///
    /// # Errors
    /// `Retry` where the folder cannot be made or there is no randomness for the writer's id.
    pub fn open_with(root: &Path, options: StoreOptions, keys: Keyring) -> Result<Arc<Store>, StoreError> {
        make_dirs(&RealDisk, root).map_err(|e| StoreError::io("made its folder", e))?;
        let mut id = [0; 8];
        getrandom::fill(&mut id)
            .map_err(|e| StoreError::io("chose a writer id", std::io::Error::other(e.to_string())))?;
        let clock = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
        };
        let writer = u64::from_le_bytes(id);
        let (disk, clock) = (Arc::new(RealDisk), Arc::new(clock));
        let options = StoreOptions { segments_open_total_max: permitted(options.segments_open_total_max), ..options };
        Ok(Store::open_in(root, options, Surroundings { disk, clock, writer, keys }))
    }

    /// A writer in other surroundings: the seam for tests. The root must exist. From here on the writers of other processes are
    /// watched, and what dead ones left open is ended, where this is called in a runtime; else from the first append on.
    pub fn open_in(root: &Path, options: StoreOptions, around: Surroundings) -> Arc<Store> {
        let reader = Reader::keyed(around.disk.clone(), root, around.keys.clone());
        let observer = Observer::new(around.writer, options.patience(), around.keys.clone());
        let follower = Follower::new(around.disk.clone(), root, around.keys.clone());
        let shared = Shared {
            room: Arc::new(Semaphore::new(kib(options.inflight_bytes_max as u64) as usize)),
            commits: Arc::new(Semaphore::new(options.syncs_parallel.clamp(1, SYNCS_PARALLEL_MAX))),
            encoders: Slots::new(options.parallel()),
            open: OpenSegments::new(options.segments_open_total_max),
            ears: Ears::default(),
            options,
            folders: Folders {
                disk: around.disk,
                root: root.to_owned(),
                known: Mutex::default(),
                keys: around.keys,
                litter: Mutex::default(),
            },
            writer: around.writer,
            files: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            metrics: Metrics::default(),
            clock: around.clock,
            lease: Mutex::default(),
            incarnations: AtomicU64::new(0),
            observer: Mutex::new(observer),
            unended: AtomicBool::new(false),
            search: AtomicBool::new(false),
            watch: Mutex::default(),
        };
        let lanes = Mutex::new(Some(BTreeMap::new()));
        let tended = AtomicBool::new(false);
        let store = Arc::new(Store { shared: Arc::new(shared), lanes, tended, reader, follower });
        store.begin();
        store
    }

    /// Begins to look after leases, where a runtime runs it; else the first append does. Also a process that writes nothing ends
    /// what dead ones left open: nobody else may be there to do it, and their rows could not move on.
    fn begin(&self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !self.tended.swap(true, Relaxed)
        {
            runtime.spawn(tend(Arc::downgrade(&self.shared)));
        }
    }

    /// Keeps a batch. When this returns `Ok`, its rows are durable and in every later snapshot exactly once (ST-1). When it
    /// returns an error, none of them ever is, and the same batch may be sent again; only after [`StoreError::Uncertain`], or
    /// where the future is dropped, the batch is kept or not, as a whole.
    ///
    /// # Errors
    /// `Wait` where too many bytes wait for the disk, `Retry` where it is full, failing, or the store is closed.
    pub async fn append(&self, tenant: &TenantId, batch: Cleared) -> Result<Receipt, StoreError> {
        self.keep(tenant, batch, None).await
    }

    /// Keeps a batch as [`Store::append`] does, unless `once` knows at the last moment that it is stored. Where all writers of a
    /// batch come this way it is stored once, also by two processes at the same moment.
    ///
    /// # Errors
    /// As [`Store::append`], and [`StoreError::Stored`], [`StoreError::UnderWay`].
    pub async fn append_once(
        &self,
        tenant: &TenantId,
        batch: Cleared,
        once: Arc<dyn Once>,
    ) -> Result<Receipt, StoreError> {
        self.keep(tenant, batch, Some(once)).await
    }

    async fn keep(
        &self,
        tenant: &TenantId,
        batch: Cleared,
        once: Option<Arc<dyn Once>>,
    ) -> Result<Receipt, StoreError> {
        let signal = batch.batch().signal;
        if batch.batch().rows() == 0 {
            return Ok(Receipt { token: Token { signal, frames: Vec::new() } });
        }
        let room = self.room(batch.batch().memory_bytes() as u64).await?;
        let (reply, answer) = oneshot::channel();
        let mut queued = Queued { item: Item { batch, now: (self.shared.clock)(), once, reply }, _room: room };
        loop {
            let lane = self.lane(tenant, signal)?;
            match lane.send(queued).await {
                Ok(()) => break,
                // The lane ended for want of work just now: the next one is another.
                Err(mpsc::error::SendError(back)) => queued = back,
            }
        }
        // The sender is dropped without an answer only where a commit panicked or the runtime goes down.
        answer.await.unwrap_or(Err(StoreError::Uncertain)).map(|token| Receipt { token })
    }

    /// A reader of the same folder.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Visits the batches that were received since a time (unix nanoseconds): of all writers at the first look, then what other
    /// writers stored since the one before. Told are batches that stay: those of frames that nothing confirms yet come at a
    /// later look; of those among them that `asked_for` names, and of what others are about to store, the answer tells. A batch that was cut is visited for each of its frames. Reads no column, and per frame one stretch of the
    /// disk. Blocks on the disk.
    ///
    /// # Errors
    /// `Retry` where a folder cannot be listed.
    pub fn follow(
        &self,
        tenant: &TenantId,
        signal: Signal,
        since_unix_nanos: i64,
        asked_for: &dyn Fn(&BatchId) -> bool,
        followed: &mut Followed,
        visit: &mut dyn FnMut(Stored),
    ) -> Result<Others, StoreError> {
        let lateness = nanos(self.shared.options.lateness_ms);
        // What came since then went to a window that was open then: not older than the lateness, or the one of late rows. One
        // window more, because the clock of another writer may differ.
        let late_from = Window::of(since_unix_nanos).number() - 1;
        let from = Window::of(since_unix_nanos.saturating_sub(lateness)).number() - 1;
        let window = |window: Window, late| window.number() >= if late { late_from } else { from };
        let wanted = Wanted { tenant, signal, writer: self.shared.now_writer(), window: &window, batch: asked_for };
        self.follower.look(&wanted, followed, &mut |stored| {
            if stored.origin.received_unix_nanos >= since_unix_nanos {
                visit(stored);
            }
        })
    }

    /// Where sealed segments go, so that [`Store::follow`] knows of those that are deleted already. `grace`: how long they stay
    /// behind their blocks, `storage.read_grace_ms`. Counts the first time.
    pub fn follow_blocks(&self, blocks: Blocks, grace: Duration) {
        self.follower.blocks(blocks, grace);
    }

    /// Counters.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Takes nothing more, finishes what waits, ends the segments.
    pub async fn close(&self) {
        let lanes = self.lanes.lock().take();
        // All are told before any is waited for: thousands end side by side.
        let tasks: Vec<JoinHandle<()>> = lanes.into_iter().flatten().map(|(_, lane)| lane.task).collect();
        for task in tasks {
            // A lane that panicked has left its segments open.
            if task.await.is_err() {
                self.shared.unended.store(true, Relaxed);
            }
        }
        let shared = self.shared.clone();
        let _ = blocking(&*self.shared.folders.disk, move || shared.release()).await;
    }

    async fn room(&self, bytes: u64) -> Result<Room, StoreError> {
        let limit = self.shared.options.inflight_bytes_max;
        // A batch beyond the limit goes alone rather than never.
        let permits = kib(bytes).clamp(1, kib(limit as u64));
        let wait = Duration::from_millis(self.shared.options.inflight_wait_ms);
        let acquired = tokio::time::timeout(wait, self.shared.room.clone().acquire_many_owned(permits)).await;
        match acquired {
            Ok(Ok(permit)) => {
                Metrics::add(&self.shared.metrics.inflight_bytes, bytes);
                Ok(Room { shared: self.shared.clone(), bytes, _permit: permit })
            }
            Ok(Err(_closed)) => Err(StoreError::Closed),
            Err(_elapsed) => {
                Metrics::add(&self.shared.metrics.refused_busy, 1);
                Err(StoreError::Busy { limit })
            }
        }
    }

    /// The queue of a tenant's signal; its task is begun where there is none.
    fn lane(&self, tenant: &TenantId, signal: Signal) -> Result<mpsc::Sender<Queued>, StoreError> {
        let mut lanes = self.lanes.lock();
        let lanes = lanes.as_mut().ok_or(StoreError::Closed)?;
        let key = (tenant.clone(), signal);
        if let Some(lane) = lanes.get(&key).filter(|lane| !lane.queue.is_closed()) {
            return Ok(lane.queue.clone());
        }
        self.begin();
        // Lanes end by themselves when idle; forget those that did.
        lanes.retain(|_, lane| !lane.queue.is_closed());
        let (queue, items) = mpsc::channel(LANE_ITEMS_MAX);
        let task = tokio::spawn(run_lane(self.shared.clone(), tenant.clone(), signal, items));
        lanes.insert(key, Lane { queue: queue.clone(), task });
        Ok(queue)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("metrics", &self.shared.metrics).finish_non_exhaustive()
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4)
}

/// Renews the writer's lease, and watches others', until the store is closed.
async fn tend(shared: Weak<Shared>) {
    let begun = tokio::time::Instant::now();
    if let Some(shared) = shared.upgrade() {
        // A jump before the first renewal is one too.
        shared.watch.lock().look(shared.now(), Duration::ZERO);
    }
    loop {
        let Some(every) = shared.upgrade().map(|s| s.options.lease() / RENEWALS) else { return };
        tokio::time::sleep(every).await;
        let Some(shared) = shared.upgrade() else { return };
        let disk = shared.folders.disk.clone();
        let _ = blocking(&*disk, move || shared.tend(begun.elapsed())).await;
    }
}

/// Takes items in groups until the queue is closed, or nothing came for so long that all segments are closed.
async fn run_lane(shared: Arc<Shared>, tenant: TenantId, signal: Signal, mut items: mpsc::Receiver<Queued>) {
    let files = Arc::new(Mutex::new(LaneFiles::new(tenant, signal)));
    shared.open.register(&files);
    let mut looked = tokio::time::Instant::now();
    loop {
        let hides = files.lock().hides();
        let quiet = match tokio::time::timeout(if hides { SHOW_AFTER } else { TICK }, items.recv()).await {
            Ok(Some(first)) => {
                let group = gather(&shared, first, &mut items).await;
                commit(&shared, &files, group).await;
                false
            }
            Ok(None) => break,
            Err(_quiet) if hides => {
                let _shown_later_where_it_panicked = with_files(&shared, &files, |_, files| files.show()).await;
                continue;
            }
            Err(_quiet) => true,
        };
        let now = tokio::time::Instant::now();
        if !quiet && now - looked < TICK {
            continue;
        }
        looked = now;
        let now = now.into_std();
        if files.lock().is_due(&shared, now) {
            let _closed_later_where_it_panicked =
                with_files(&shared, &files, move |shared, files| files.close_due(shared, now)).await;
        }
        if quiet && files.lock().is_empty() {
            // Whoever has a sender already may have sent: take that, and let others find a new lane.
            items.close();
        }
    }
    let ended = with_files(&shared, &files, |shared, files| files.close_all(shared)).await;
    if ended != Some(true) {
        shared.unended.store(true, Relaxed);
    }
}

/// More items for a group: those that come while the first one waits, up to the rows of some frames.
async fn gather(shared: &Shared, first: Queued, items: &mut mpsc::Receiver<Queued>) -> Vec<Queued> {
    let deadline = tokio::time::Instant::now() + shared.options.commit_delay();
    let mut rows = first.item.batch.batch().rows();
    let mut group = vec![first];
    let rows_max = shared.options.frame_rows.saturating_mul(GROUP_FRAMES_MAX);
    while rows < rows_max && group.len() < GROUP_ITEMS_MAX {
        let next = if rows < shared.options.frame_rows {
            tokio::time::timeout_at(deadline, items.recv()).await.ok().flatten()
        } else {
            // A frame is full: take only what waits already.
            items.try_recv().ok()
        };
        let Some(next) = next else { break };
        rows += next.item.batch.batch().rows();
        group.push(next);
    }
    group
}

async fn commit(shared: &Arc<Shared>, files: &Arc<Mutex<LaneFiles>>, group: Vec<Queued>) {
    let (mut items, _rooms): (Vec<Item>, Vec<Room>) = group.into_iter().map(|q| (q.item, q._room)).unzip();
    for attempt in 0..=CLAIM_ATTEMPTS {
        let now = tokio::time::Instant::now().into_std();
        let waiting = with_files(shared, files, move |shared, files| files.commit(shared, items, now)).await;
        items = waiting.unwrap_or_default();
        if items.is_empty() {
            return;
        }
        if attempt < CLAIM_ATTEMPTS {
            tokio::time::sleep(claim_again_after(shared.now_writer(), attempt)).await;
        }
    }
    items.into_iter().for_each(|item| drop(item.reply.send(Err(StoreError::UnderWay))));
}

/// Writers that gave way to each other wait for different times, longer each time.
fn claim_again_after(writer: u64, attempt: u32) -> Duration {
    let share = xxhash_rust::xxh3::xxh3_64_with_seed(&attempt.to_le_bytes(), writer) % CLAIM_WAIT_MS;
    Duration::from_millis((CLAIM_WAIT_MS + share) << attempt)
}

/// Runs on a thread that may block; at most `syncs_parallel` at a time. `None` where it panicked: the lane undoes what it left.
async fn with_files<T: Send + 'static>(
    shared: &Arc<Shared>,
    files: &Arc<Mutex<LaneFiles>>,
    work: impl FnOnce(&Shared, &mut LaneFiles) -> T + Send + 'static,
) -> Option<T> {
    let permit = shared.commits.clone().acquire_owned().await.ok()?;
    let (shared, files) = (shared.clone(), files.clone());
    let disk = shared.folders.disk.clone();
    blocking(&*disk, move || {
        let done = work(&shared, &mut files.lock());
        drop(permit);
        done
    })
    .await
}
