//! Simulated processes over one storage: begun, killed and begun again, until their work is done; then all is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use prism_model::samples::Random;
use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};
use prism_store::disk::Disk as _;
use prism_store::keys::{Keyring, Scheme};
use prism_store::{READ_GRACE, Reader, Snapshot, Store, StoreError, StoreOptions, Surroundings, Tier, Uncounted};

use super::again::Remembers;
use super::bucket::Bucket;
use super::disk::SimDisk;
use super::model::{Again, Model};
use super::turnstile::{Death, Faults, Process, Turnstile, catch_panics};
use super::{NOW, numbered_at, try_numbers};

pub const ROOT: &str = "/data";
pub const HOUR_MS: i64 = 3_600_000;
/// Within so long every process knows of a tenant that was erased: what it remembers, and an old listing.
const NOTICED: i64 = 4_000_000_000;
/// A process that does nothing for so long waits for something that never comes.
const STUCK: Duration = Duration::from_secs(7 * 86_400);

/// One run.
#[derive(Clone)]
pub struct World {
    pub seed: u64,
    pub turnstile: Turnstile,
    pub disk: SimDisk,
    pub model: Model,
    /// Listings may be this old, in nanoseconds.
    pub stale: i64,
    /// Where the objects are, if not on the disk.
    pub bucket: Option<Bucket>,
    pub varied: Varied,
    /// Blocks of which a byte was changed, by object, as they were.
    pub spoiled: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

/// What else happens in a world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Varied {
    /// Tenants have keys, at first by this scheme.
    pub keys: Option<Scheme>,
    /// Clocks are wrong by hours.
    pub hours: bool,
    /// The disk is full now and then.
    pub full: bool,
    /// A tenant is erased.
    pub erases: bool,
    /// What was not answered is sent again.
    pub again: bool,
    /// Old rows are expired.
    pub expires: bool,
    /// Bytes of blocks change where they lie.
    pub damages: bool,
}

/// What a process of a world has.
#[derive(Clone)]
pub struct Node {
    pub world: World,
    pub process: Process,
    pub disk: Arc<SimDisk>,
    pub keys: Keyring,
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

impl World {
    pub fn new(seed: u64, seats: usize, faults: Faults, stale: i64) -> World {
        catch_panics();
        let disk = SimDisk::new(Path::new(ROOT), seed);
        disk.create_dir(&Path::new(ROOT).join("objects")).and_then(|_| disk.sync_dir(Path::new(ROOT))).unwrap();
        disk.stale(stale);
        let bucket = seed.is_multiple_of(2).then(Bucket::default);
        let turnstile = Turnstile::new(seats, seed, faults);
        turnstile.storage(Arc::new(disk.clone()));
        let (model, varied, spoiled) = (Model::default(), Varied::default(), Arc::default());
        World { seed, turnstile, disk, model, stale, bucket, varied, spoiled }
    }

    /// Processes do their work, each in a seat of its own; one that dies begins again, with what is left to do. `work` is given
    /// the node and which incarnation it is.
    pub fn run(&self, seats: usize, work: &(dyn Fn(Node) -> Work + Sync)) {
        std::thread::scope(|scope| {
            for seat in 0..seats {
                scope.spawn(move || {
                    self.turnstile.sit(seat);
                    // The hook has told the turnstile.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.lives(seat, work)));
                    self.turnstile.leave(seat);
                });
            }
        });
        self.model.nobody_waits();
    }

    /// One process alone without faults, when all others are gone.
    pub fn afterwards(&self, work: &(dyn Fn(Node) -> Work + Sync)) {
        self.turnstile.faults(Faults::default());
        self.disk.stale(0);
        self.run(1, work);
    }

    fn lives(&self, seat: usize, work: &(dyn Fn(Node) -> Work + Sync)) {
        let mut random = Random(self.seed ^ (seat as u64 + 1) << 32);
        loop {
            let process: Arc<OnceLock<Process>> = Arc::default();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                // Tasks that are woken by others of the same thread go in order, whatever came meanwhile.
                .global_queue_interval(u32::MAX)
                .on_thread_park({
                    let process = process.clone();
                    move || process.get().into_iter().for_each(Process::sleeps)
                })
                .build()
                .unwrap();
            let down = Duration::from_millis([0, 100, 30_000, 600_000][random.below(4)]);
            let skews =
                if self.varied.hours { [0, -1_500, -9 * HOUR_MS, 26 * HOUR_MS] } else { [0, 0, -1_500, 40_000] };
            let skew = skews[random.below(4)] * 1_000_000;
            let done = runtime.block_on(async {
                let process = process.get_or_init(|| self.turnstile.born(seat, down, skew)).clone();
                let disk = Arc::new(self.disk.of(&process));
                let keys = self.keys(&disk);
                let node = Node { world: self.clone(), process: process.clone(), disk, keys };
                tokio::select! {
                    biased;
                    () = process.died() => false,
                    () = work(node) => true,
                    () = tokio::time::sleep(STUCK) => panic!("a process waits for what never comes"),
                }
            });
            drop(runtime);
            if done || self.turnstile.failure().is_some() {
                return;
            }
        }
    }

    fn keys(&self, disk: &Arc<SimDisk>) -> Keyring {
        let Some(scheme) = self.varied.keys else { return Keyring::default() };
        let root = Path::new(ROOT);
        Keyring::open_in(disk.clone(), root, &root.join("keys"), scheme, None)
    }

    /// Ends a run: panics with its history where something was wrong.
    pub fn end(&self, what: &str) {
        let all = replayed().is_some();
        if let Some(failure) = self.turnstile.failure() {
            let (seed, told) = (self.seed, self.turnstile.told(all));
            panic!("{told}\n{what}, seed {seed}: {failure}\nreplay: PRISM_SIM_SEED={seed}");
        }
        if all {
            tell(&self.turnstile.told(true));
        }
    }
}

#[expect(clippy::print_stdout, reason = "a replayed seed tells its history")]
fn tell(text: &str) {
    println!("{text}");
}

/// The one seed that is to be replayed.
pub fn replayed() -> Option<u64> {
    std::env::var("PRISM_SIM_SEED").ok().map(|n| n.parse().unwrap())
}

/// Runs seeds on all processors, or the one that is to be replayed. `default` of them where the environment does not say.
pub fn seeds(default: u64, run: impl Fn(u64) + Sync) {
    if let Some(seed) = replayed() {
        return run(seed);
    }
    let seeds = std::env::var("PRISM_SIM_SEEDS").map_or(default, |n| n.parse().unwrap());
    on_all_processors(seeds, run);
}

/// Runs numbers below `n`; ends at the first that panics.
fn on_all_processors(n: u64, run: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let work = || {
        while let Some(number) = Some(next.fetch_add(1, SeqCst)).filter(|number| *number < n) {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(number))) {
                next.store(n, SeqCst);
                std::panic::resume_unwind(panic);
            }
        }
    };
    let failed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|t| t.join().err()).next()
    });
    if let Some(panic) = failed {
        std::panic::resume_unwind(panic);
    }
}

impl Node {
    /// Its wall clock: unix nanoseconds.
    pub fn now(&self) -> i64 {
        NOW + self.process.time() + self.process.skew()
    }

    /// A number no other process has.
    pub fn id(&self) -> u64 {
        ((self.process.seat() as u64 + 1) << 40)
            | (u64::from(self.process.life()) << 16)
            | self.process.below(1 << 16) as u64
    }

    pub fn store(&self, options: &StoreOptions) -> Arc<Store> {
        let clock = Arc::new({
            let process = self.process.clone();
            move || NOW + process.time() + process.skew()
        });
        let around = Surroundings { disk: self.disk.clone(), clock, writer: self.id(), keys: self.keys.clone() };
        Store::open_in(Path::new(ROOT), options.clone(), around)
    }

    /// A reader of all tiers.
    pub fn reader(&self) -> Reader {
        Reader::open_with(self.disk.clone(), self.objects(), Path::new(ROOT), self.keys.clone(), READ_GRACE)
    }

    /// Lives until whatever dead processes left is taken over, files without a lease too.
    pub async fn outlives_the_dead(&self, options: &StoreOptions) {
        let options = StoreOptions { lease_ms: 60_000, ..options.clone() };
        let store = self.store(&options);
        let lane = (super::tenant(), Signal::Logs);
        self.sends(&store, &lane, &[self.now()]).await;
        tokio::time::sleep(Duration::from_secs(45 * 60)).await;
        store.close().await;
    }

    /// Nothing of a dead writer is open: its folder would be there else.
    pub fn has_no_writers_left(&self) {
        let of_writer = |name: &String| Path::new(name).parent().is_some_and(|p| p.ends_with("hot/.writers"));
        if let Some(left) = self.world.disk.names().into_iter().find(of_writer) {
            self.world.turnstile.fail(&format!("`{left}` is left of a writer that is gone"));
        }
    }

    /// Sends a batch whose rows are of these times, and notes what is answered.
    pub async fn sends(&self, store: &Store, lane: &(TenantId, Signal), times: &[i64]) {
        let first = self.world.model.sends(&lane.0, lane.1, times, Some(&self.process));
        let batch = numbered_at(lane.1, first, times, self.now());
        let since = self.process.time();
        let answer = store.append(&lane.0, batch).await.map(drop);
        self.is_told(lane, first, times.len(), since, false, &answer);
    }

    /// The same of a batch that other processes may send at the same moment.
    pub async fn sends_once(&self, store: &Remembers, lane: &(TenantId, Signal), times: &[i64]) {
        let first = self.world.model.sends(&lane.0, lane.1, times, Some(&self.process));
        self.world.model.is_sent_once(lane, first);
        let times = times.to_vec();
        self.sends_copy(store, lane, &Again { first, times, may_be: false }).await;
    }

    /// Sends a batch again that was refused, or that another process may have stored, or may be storing now unless listings are
    /// old (one that lacks the other's new file shows no claim); `None` where there is none.
    pub async fn sends_again(&self, store: &Remembers, lane: &(TenantId, Signal)) -> Option<Result<(), StoreError>> {
        let at_once = self.world.stale == 0;
        let again = self.world.model.sends_again(lane, &self.process, at_once)?;
        self.process.note(&format!("sends rows {} again", again.first));
        self.sends_copy(store, lane, &again).await
    }

    /// Sends a copy of a batch, unless another one is found.
    pub async fn sends_copy(
        &self,
        store: &Remembers,
        lane: &(TenantId, Signal),
        Again { first, times, may_be }: &Again,
    ) -> Option<Result<(), StoreError>> {
        let once = store.once(lane)?;
        let batch = numbered_at(lane.1, *first, times, self.now());
        let since = self.process.time();
        let answer = store.store.append_once(&lane.0, batch, once).await.map(drop);
        self.is_told(lane, *first, times.len(), since, *may_be, &answer);
        Some(answer)
    }

    fn is_told(
        &self,
        lane: &(TenantId, Signal),
        first: i64,
        rows: usize,
        since: i64,
        again: bool,
        answer: &Result<(), StoreError>,
    ) {
        let dead = self.process.is_dead();
        self.process.note(&format!("rows {first} and {} more: {answer:?}", rows - 1));
        self.world.model.answered(lane, first, self.process.time(), dead, again, answer);
        let erased = self.world.model.is_erased(&lane.0).flatten();
        if !dead && answer.is_ok() && erased.is_some_and(|at| at + NOTICED < since) {
            self.world.turnstile.fail(&format!("KE-2: rows {first} were acknowledged to an erased tenant"));
        }
    }

    /// Numbers of blocks have no gaps, shard by shard, of all that were ever made.
    pub fn numbers_have_no_gaps(&self) {
        let mut shards: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for name in self.world.disk.blocks().into_iter().chain(self.world.bucket.iter().flat_map(Bucket::blocks)) {
            let numbered = name.strip_suffix(".blk").and_then(|name| name.rsplit_once('/'));
            match numbered.and_then(|(shard, number)| Some((shard, number.parse().ok()?))) {
                Some((shard, number)) => drop(shards.entry(shard.to_owned()).or_default().insert(number)),
                None => self.world.turnstile.fail(&format!("`{name}` is no name of a block")),
            }
        }
        for (shard, numbers) in shards {
            if !numbers.iter().copied().eq(1..=numbers.len() as u64) {
                self.world.turnstile.fail(&format!("numbers of blocks have gaps in `{shard}`: {numbers:?}"));
            }
        }
    }

    /// Looks at all rows of a tenant's signal. `quiet` where nothing fails and nothing is being written: then everything must
    /// be readable and whole.
    pub fn looks(&self, reader: &Reader, lane: &(TenantId, Signal), quiet: bool) {
        let (tenant, signal) = lane;
        let before = self.world.model.before(tenant, *signal, self.process.time());
        let found = reader.snapshot(tenant, *signal, TimeRange::ALL).map_err(|e| e.to_string()).and_then(|snapshot| {
            told_of_damage(&snapshot)?;
            counted(&snapshot)?;
            snapshot.uncounted.iter().for_each(Uncounted::ask);
            if reader.count() {
                while reader.count() {}
                let again = reader.snapshot(tenant, *signal, TimeRange::ALL).map_err(|e| e.to_string())?;
                self.process.note(&format!("finds {} segments counted", counted(&again)?));
            }
            try_numbers(&snapshot.frames).map_err(|e| e.to_string())
        });
        if self.process.is_dead() {
            return;
        }
        // What it listed may be gone since, and the reader's own clock is not simulated.
        if self.process.time() - before.time() > READ_GRACE.as_nanos() as i64 {
            return self.process.note("looked for longer than a snapshot holds");
        }
        let checked = match found {
            Ok(found) => {
                self.process.note(&format!("sees {} rows", found.len()));
                let stale = if quiet { 0 } else { self.world.stale };
                self.world.model.check(&before, &found, stale, quiet)
            }
            Err(e) if quiet => Err(format!("not readable although nothing fails: {e}")),
            Err(e) => {
                self.process.note(&format!("cannot see all: {e}"));
                Ok(())
            }
        };
        if let Err(wrong) = checked {
            self.world.turnstile.fail(&wrong);
        }
    }
}

/// What is counted of segments is what their rows are (QU-4). Tells how many are.
fn counted(snapshot: &Snapshot) -> Result<usize, String> {
    const MINUTE: i64 = 60_000_000_000;
    let mut counted = 0;
    for unit in snapshot.rolled.iter().filter(|unit| unit.tier == Tier::Hot) {
        let mut left: BTreeMap<i64, i64> = BTreeMap::new();
        for frame in &snapshot.frames[unit.frames.clone()] {
            let (rows, _) = frame.read(&|_, _| true).map_err(|e| e.to_string())?;
            rows.event_times().values().iter().for_each(|time| *left.entry(time.div_euclid(MINUTE)).or_default() += 1);
        }
        let (cells, _) =
            unit.cells().map_err(|e| e.to_string())?.ok_or("QU-4: a segment that is counted has no cells")?;
        cells.cube().cells().for_each(|cell| *left.entry(cell.minute).or_default() -= cell.count as i64);
        assert!(left.values().all(|rows| *rows == 0), "QU-4: {}: {left:?}", unit.name);
        counted += 1;
    }
    Ok(counted)
}

fn told_of_damage(snapshot: &Snapshot) -> Result<(), String> {
    snapshot.unreadable.first().map_or(Ok(()), |u| Err(format!("{u:?}")))
}

/// A scenario whose first process dies once at each of its storage operations (or at each so manieth: `stride`), in each way;
/// `afterwards` follows each time.
pub fn dies_everywhere(
    what: &str,
    seats: usize,
    deaths: &[Death],
    stride: usize,
    work: &(dyn Fn(Node) -> Work + Sync),
    afterwards: &(dyn Fn(Node) -> Work + Sync),
) -> usize {
    let once = |seed, planned: Option<(usize, Death)>| {
        let world = World::new(seed, seats, Faults { switch: 1, ..Faults::default() }, 0);
        if let Some((operation, death)) = planned {
            world.turnstile.plan_death(operation, death);
        }
        world.run(seats, work);
        let operations = world.turnstile.operations();
        world.afterwards(afterwards);
        world.end(&format!("{what}, dies at {planned:?}"));
        operations
    };
    let operations = once(0, None);
    let stride = if std::env::var_os("PRISM_SIM_DEATHS").is_some_and(|all| all == "all") { 1 } else { stride };
    on_all_processors((operations.div_ceil(stride) * deaths.len()) as u64, |case| {
        let (operation, death) = (case as usize / deaths.len() * stride, deaths[case as usize % deaths.len()]);
        once(case, Some((operation, death)));
    });
    operations
}
