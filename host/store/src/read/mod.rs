//! Reading what any process wrote: one snapshot over all tiers, and frames that read only what is asked for.
//!
//! ```text
//! pin the version of the table (cold) -> list segments (hot) -> list blocks (warm) -> what a colder tier has is left out
//! ```
//!
//! Rows only move to colder tiers, and are deleted in the warmer one after they are in the colder. So a list that is taken
//! from cold to hot misses what moves meanwhile, unless the move shows: a block that covers segments is listed behind them.
//! What was listed and is not there any more when it is read starts the snapshot over, once.

mod cold;
mod hot;
mod warm;
mod counted;
mod counter;
mod rolled;
mod used;

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prism_model::window::{TimeRange, Window};
use prism_model::{Signal, TenantId};

use crate::cache::Cache;
use crate::cold::delta::{Pinned, Tables};
use crate::cold::file::ColdFiles;
use crate::disk::{Disk, RealDisk};
use crate::error::StoreError;
use crate::framed::Filters;
use crate::index::Traces;
use crate::keys::Keyring;
use crate::objects::{LocalObjects, Objects};
use crate::place::{SegmentName, Token};
use crate::unit::{Frame, Tier};
use crate::warm::Blocks;
pub use counted::{CountOptions, Uncounted};
pub use counter::Counter;
use hot::{Hot, Seen};
use rolled::Cubes;
pub use rolled::Rolled;
pub use used::Used;
use used::Uses;

/// How long what a snapshot lists stays where it is, at least: twice the longest query. `storage.read_grace_ms`.
pub const READ_GRACE: Duration = Duration::from_secs(120);

/// Bytes of remembered manifests of the index of traces, over all tables.
const INDEX_CACHE_BYTES: usize = 8 << 20;
/// Bytes of such a manifest in memory, about.
const MANIFEST_BYTES: usize = 4 << 10;
/// No time at all.
const NOTHING: TimeRange = TimeRange { from: 0, to: 0 };
/// Bytes of remembered footers of cold files, some hundreds of kilobytes each.
const FOOTER_CACHE_BYTES: usize = 96 << 20;

/// Reads the store below a folder and in an object store. Cheap to clone; any number in any process.
#[derive(Clone)]
pub struct Reader(Arc<Shared>);

struct Shared {
    hot: Hot,
    blocks: Blocks,
    tables: Tables,
    files: ColdFiles,
    traces: Cache<(TenantId, Signal), Arc<Traces>>,
    cubes: Arc<Cubes>,
    uses: Uses,
    grace: Duration,
}

/// The frames that may hold rows of a time range, as they stood at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Cold, then warm, then hot: within a tier by window, then in the order in which each writer wrote.
    pub frames: Vec<Frame>,
    /// The blocks and files among them that have rollups, and what is counted of segments.
    pub rolled: Vec<Rolled>,
    /// What of segments could be counted and is not yet.
    pub uncounted: Vec<Uncounted>,
    /// Acknowledged rows that cannot be read: an answer without them is partial.
    pub unreadable: Vec<Unreadable>,
    /// What was found in each tier.
    pub tiers: Tiers,
    /// Reads of the index of traces.
    pub index_reads: u64,
    taken: Instant,
    grace: Duration,
    /// Something was listed and then not there.
    vanished: bool,
}

/// What a snapshot found, by tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tiers {
    /// Segments of the shared file system.
    pub hot: Found,
    /// Blocks.
    pub warm: Found,
    /// Files of the Delta table.
    pub cold: Found,
}

/// What a snapshot found in a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Segments, blocks or files that may hold rows of the range.
    pub parts: usize,
    /// Frames that cannot hold any, by their times or their filters.
    pub pruned: usize,
}

/// What is looked for.
struct Ask<'a> {
    tenant: &'a TenantId,
    signal: Signal,
    range: TimeRange,
    trace: Option<[u8; 16]>,
}

/// A part of a tenant's data that cannot be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Where it lies.
    pub tier: Tier,
    /// Which part, by a name that is safe to show to its tenant.
    pub what: String,
    /// Why, without paths.
    pub reason: String,
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot::new(READ_GRACE)
    }
}

impl Snapshot {
    fn new(grace: Duration) -> Snapshot {
        Snapshot {
            frames: Vec::new(),
            rolled: Vec::new(),
            uncounted: Vec::new(),
            unreadable: Vec::new(),
            tiers: Tiers::default(),
            index_reads: 0,
            taken: Instant::now(),
            grace,
            vanished: false,
        }
    }

    /// Parts left out because their times are outside of the range.
    pub fn pruned(&self) -> usize {
        self.tiers.hot.pruned + self.tiers.warm.pruned + self.tiers.cold.pruned
    }

    /// How long its frames can be read after it was taken, `storage.read_grace_ms`.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Until when its frames can be read: later, what it lists may be deleted.
    pub fn holds_until(&self) -> Option<Instant> {
        self.taken.checked_add(self.grace)
    }

    /// Adds those frames of a segment, block or file that may hold what is asked for, of `all` that it has. Gives their places.
    fn add(&mut self, tier: Tier, ask: &Ask<'_>, frames: Vec<Frame>, all: usize) -> Range<usize> {
        let from = self.frames.len();
        let wanted = |frame: &Frame| ask.trace.is_none_or(|id| frame.may_contain_trace(&id));
        self.frames.extend(frames.into_iter().filter(wanted));
        let taken = self.frames.len() - from;
        let found = match tier {
            Tier::Hot => &mut self.tiers.hot,
            Tier::Warm => &mut self.tiers.warm,
            Tier::Cold => &mut self.tiers.cold,
        };
        found.parts += usize::from(taken > 0);
        found.pruned += all - taken;
        from..self.frames.len()
    }

    /// All of a tier.
    fn lacks(&mut self, tier: Tier, error: &StoreError) {
        self.unreadable.push(Unreadable {
            tier,
            what: format!("the {} tier", tier.as_str()),
            reason: error.to_string(),
        });
    }

    /// A part that was listed is not there any more.
    fn vanished(&mut self, part: Unreadable) {
        self.vanished = true;
        self.unreadable.push(part);
    }
}

impl Reader {
    /// A reader of a folder, which need not exist yet, with its objects and keys in that folder.
    pub fn open(root: &Path) -> Reader {
        Reader::keyed(Arc::new(RealDisk), root, Keyring::beside(root))
    }

    /// A reader on another file system, without keys: the seam for tests.
    pub fn open_on(disk: Arc<dyn Disk>, root: &Path) -> Reader {
        Reader::keyed(disk, root, Keyring::default())
    }

    /// A reader with these keys, its objects in the folder.
    pub(crate) fn keyed(disk: Arc<dyn Disk>, root: &Path, keys: Keyring) -> Reader {
        // A reader writes nothing, so that its writer id is never used.
        let objects = LocalObjects::new(disk.clone(), &root.join("objects"), 0);
        Reader::open_with(disk, Arc::new(objects), root, keys, READ_GRACE)
    }

    /// A reader with another object store, and keys. `grace`: how long readers may use what was deleted since, `storage.read_grace_ms`.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        objects: Arc<dyn Objects>,
        root: &Path,
        keys: Keyring,
        grace: Duration,
    ) -> Reader {
        Reader(Arc::new(Shared {
            blocks: Blocks::open(objects.clone(), keys.clone()),
            tables: Tables::new(objects.clone()),
            files: ColdFiles::new(objects, FOOTER_CACHE_BYTES),
            traces: Cache::new(INDEX_CACHE_BYTES),
            hot: Hot::new(disk, root.to_owned(), keys, Arc::<Filters>::default()),
            cubes: Arc::default(),
            uses: Uses::default(),
            grace,
        }))
    }

    /// The frames that may hold rows of a range. Blocks on the disk.
    ///
    /// Every row that was acknowledged before the call is in exactly one frame (ST-1), or its part is listed as unreadable.
    /// Frames may hold rows outside of the range.
    ///
    /// # Errors
    /// `Retry` where the hot tier cannot be listed.
    pub fn snapshot(&self, tenant: &TenantId, signal: Signal, range: TimeRange) -> Result<Snapshot, StoreError> {
        self.0.twice(&Ask { tenant, signal, range, trace: None })
    }

    /// The frames that may hold rows of a trace, whenever it was: of the table by its index, of blocks and segments by their
    /// filters. Blocks on the disk.
    ///
    /// Every row of the trace that was acknowledged before the call is in exactly one frame, or its part is listed as
    /// unreadable. Frames may hold rows of other traces. `pruned` counts the frames that a filter left out.
    ///
    /// # Errors
    /// `Retry` where the hot tier cannot be listed.
    pub fn trace(&self, tenant: &TenantId, signal: Signal, id: &[u8; 16]) -> Result<Snapshot, StoreError> {
        self.0.twice(&Ask { tenant, signal, range: TimeRange::ALL, trace: Some(*id) })
    }

    /// Whether a batch that was acknowledged with this token is in the snapshots from now on: it stands in a segment, or was
    /// sealed since. Blocks on the disk.
    ///
    /// # Errors
    /// `Retry` where the disk fails.
    pub fn sees(&self, tenant: &TenantId, token: &Token) -> Result<bool, StoreError> {
        let sealed = HashSet::new();
        let mut look = self.0.hot.look(tenant, token.signal, &sealed);
        let mut gone = Vec::new();
        for (name, frame) in &token.frames {
            match look.sees(name, *frame)? {
                Seen::Yes => {}
                Seen::No => return Ok(false),
                Seen::NoSegment => gone.push(name),
            }
        }
        if gone.is_empty() {
            return Ok(true);
        }
        // Not here yet, or sealed: only whole segments are, with all that was acknowledged.
        let table = self.0.tables.table(tenant, token.signal);
        let covered = table.pin(NOTHING)?.covered;
        let listed = warm::list(&self.0.blocks, tenant, token.signal)?;
        let sealed = listed.sealed(&covered);
        for name in gone.into_iter().filter(|name| !sealed.contains(name)) {
            // Its block may have gone too, after its rows came to the table: where no block has gone, or the table has nothing of
            // its window, that cannot be. Rows that came late may be of any time.
            let window = TimeRange { from: name.window.start_nanos(), to: name.window.end_nanos() };
            let in_table = || Ok::<_, StoreError>(name.late || !table.pin(window)?.files.is_empty());
            if !listed.has_retired(name.shard, &covered) || !in_table()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Notes that a query names these attributes: their columns keep their places in the table. Cheap, and bounded in memory.
    pub fn used<'k>(&self, tenant: &TenantId, signal: Signal, keys: impl Iterator<Item = &'k Arc<str>>) {
        self.0.uses.note(tenant, signal, keys);
    }

    /// What was noted since this was last called.
    pub fn take_used(&self) -> Used {
        self.0.uses.take()
    }

    /// From now on what queries ask for of segments ([`Uncounted::ask`]) is noted, and counted by [`Reader::count`].
    pub fn keep_counts(&self, options: CountOptions) {
        self.0.hot.counted.begin(options);
    }

    /// Counts some of what was asked for; `false` where there is nothing. Blocks on the disk. [`Counter`]
    /// does it again and again.
    pub fn count(&self) -> bool {
        self.0.hot.counted.step()
    }

    /// Bytes of memory that the rollups of segments take.
    pub fn counted_bytes(&self) -> usize {
        self.0.hot.counted.bytes()
    }

    /// Whether a block covers a segment that is still there and of which `told` holds. Blocks on the disk.
    pub(crate) fn has_sealed(
        &self,
        tenant: &TenantId,
        signal: Signal,
        told: &dyn Fn(&SegmentName) -> bool,
    ) -> Result<bool, StoreError> {
        let segments = self.0.hot.segments(tenant, signal, &|_, _| true)?;
        let mut open = segments.iter().filter(|name| told(name)).peekable();
        if open.peek().is_none() {
            return Ok(false);
        }
        let covered = self.0.tables.table(tenant, signal).pin(NOTHING)?.covered;
        let sealed = warm::list(&self.0.blocks, tenant, signal)?.sealed(&covered);
        Ok(open.any(|name| sealed.contains(name)))
    }

    /// The tenants that have something in any tier, ascending.
    ///
    /// # Errors
    /// `Retry` where a tier cannot be listed.
    pub fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        let mut tenants = self.0.hot.tenants()?;
        for tier in ["warm", "cold"] {
            let names = self.0.blocks.objects().folders(tier).map_err(|e| StoreError::io("listed tenants", e))?;
            tenants.extend(names.iter().filter_map(|name| name.parse::<TenantId>().ok()));
        }
        tenants.sort_unstable();
        tenants.dedup();
        Ok(tenants)
    }
}

impl Shared {
    /// A snapshot, another one where something of the first was not there any more.
    fn twice(&self, ask: &Ask<'_>) -> Result<Snapshot, StoreError> {
        let first = self.snapshot(ask)?;
        if first.vanished { self.snapshot(ask) } else { Ok(first) }
    }

    fn snapshot(&self, ask: &Ask<'_>) -> Result<Snapshot, StoreError> {
        let Ask { tenant, signal, range, .. } = *ask;
        let mut snapshot = Snapshot::new(self.grace);
        // Without a version, blocks that the table has are read too: then nothing of the table is.
        let pinned = self.pin(ask, &mut snapshot).unwrap_or_else(|error| {
            tracing::error!(%error, "the table cannot be read");
            snapshot.lacks(Tier::Cold, &error);
            Pinned::default()
        });
        let touches = |window: Window| range.touches(window.start_nanos(), window.last_nanos());
        let segments = self.hot.segments(tenant, signal, &|window, late| late || touches(window))?;
        let sealed = match warm::list(&self.blocks, tenant, signal) {
            Ok(listed) => {
                cold::add(&self.files, ask, &pinned, &self.cubes, &mut snapshot);
                listed.add(ask, &pinned.covered, &self.cubes, &mut snapshot);
                warm::add_left(&self.blocks, ask, &pinned.left, &mut snapshot);
                listed.sealed(&pinned.covered)
            }
            Err(error) => {
                // Which segments are sealed is not known then. Nothing colder is read, so that no row is there twice: the newest
                // are in the answer, which says what it lacks.
                tracing::error!(%error, "the blocks cannot be listed");
                snapshot.lacks(Tier::Warm, &error);
                if pinned.version.is_some() {
                    snapshot.lacks(Tier::Cold, &error);
                }
                HashSet::new()
            }
        };
        let mut look = self.hot.look(tenant, signal, &sealed);
        for name in segments.iter().filter(|name| !sealed.contains(name)) {
            look.add(name, ask, &mut snapshot);
        }
        Ok(snapshot)
    }
}

impl Shared {
    /// The version of the table, and its files that may hold what is asked for.
    fn pin(&self, ask: &Ask<'_>, to: &mut Snapshot) -> Result<Pinned, StoreError> {
        let table = self.tables.table(ask.tenant, ask.signal);
        let Some(id) = ask.trace else { return table.pin(ask.range) };
        let key = (ask.tenant.clone(), ask.signal);
        let traces = self.traces.get(&key).unwrap_or_else(|| {
            let objects = self.blocks.objects().clone();
            let traces = Arc::new(Traces::open(objects, ask.tenant, ask.signal));
            self.traces.put(key, traces.clone(), MANIFEST_BYTES);
            traces
        });
        let found = traces.lookup(&table, &id)?;
        to.index_reads += found.reads;
        let files = found.files.into_iter().map(|file| file.file).collect();
        Ok(Pinned {
            version: found.version,
            covered: found.covered,
            left: found.left,
            files,
            elsewhere: found.elsewhere,
            ..Pinned::default()
        })
    }
}

/// Why a part that was listed cannot be read.
fn moved_on() -> String {
    "it moved on while it was read".into()
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
