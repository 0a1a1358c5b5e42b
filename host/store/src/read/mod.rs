//! Reading what any process wrote: one snapshot over all tiers, and frames that read only what is asked for.
//!
//! ```text
//! pin the version of the table (cold) -> list segments (hot) -> list blocks (warm) -> what a colder tier has is left out
//! ```
//!
//! Rows only move to colder tiers, and are deleted in the warmer one after they are in the colder. So a list that is taken
//! from cold to hot misses what moves meanwhile, unless the move shows: a block that covers segments is listed behind them.
//! What was listed and is not there any more when it is read starts the snapshot over, once.

mod hot;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prism_model::window::{TimeRange, Window};
use prism_model::{Signal, TenantId};

use crate::disk::{Disk, RealDisk};
use crate::error::StoreError;
use crate::framed::Filters;
use crate::keys::Keyring;
use crate::objects::{LocalObjects, Objects};
use crate::place::{SegmentName, Token};
use crate::unit::{Frame, Tier};
use hot::{Hot, Seen};

/// How long what a snapshot lists stays where it is, at least: twice the longest query. `store.read_grace_ms`.
pub const READ_GRACE: Duration = Duration::from_secs(120);

/// Reads the store below a folder and in an object store. Cheap to clone; any number in any process.
#[derive(Clone)]
pub struct Reader(Arc<Shared>);

struct Shared {
    hot: Hot,
    objects: Arc<dyn Objects>,
    grace: Duration,
}

/// The frames that may hold rows of a time range, as they stood at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Cold, then warm, then hot: within a tier by window, then in the order in which each writer wrote.
    pub frames: Vec<Frame>,
    /// Acknowledged rows that cannot be read: an answer without them is partial.
    pub unreadable: Vec<Unreadable>,
    /// What was found in each tier.
    pub tiers: Tiers,
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
    /// Those that do not by their times: frames of segments, blocks and frames of blocks, files and their row groups.
    pub pruned: usize,
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
            unreadable: Vec::new(),
            tiers: Tiers::default(),
            taken: Instant::now(),
            grace,
            vanished: false,
        }
    }

    /// Parts left out because their times are outside of the range.
    pub fn pruned(&self) -> usize {
        self.tiers.hot.pruned + self.tiers.warm.pruned + self.tiers.cold.pruned
    }

    /// How long its frames can be read after it was taken, `store.read_grace_ms`.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Until when its frames can be read: later, what it lists may be deleted.
    pub fn holds_until(&self) -> Option<Instant> {
        self.taken.checked_add(self.grace)
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

    /// A reader with another object store, and keys. `grace`: how long readers may use what was deleted since, `store.read_grace_ms`.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        objects: Arc<dyn Objects>,
        root: &Path,
        keys: Keyring,
        grace: Duration,
    ) -> Reader {
        let filters: Arc<Filters> = Arc::default();
        Reader(Arc::new(Shared { hot: Hot::new(disk, root.to_owned(), keys, filters), objects, grace }))
    }

    /// The frames that may hold rows of a range. Blocks on the disk.
    ///
    /// Every row that was acknowledged before the call is in exactly one frame (ST-1), or its part is listed as unreadable.
    /// Frames may hold rows outside of the range.
    ///
    /// # Errors
    /// `Retry` where the hot tier cannot be listed.
    pub fn snapshot(&self, tenant: &TenantId, signal: Signal, range: TimeRange) -> Result<Snapshot, StoreError> {
        let first = self.0.snapshot(tenant, signal, range)?;
        if first.vanished { self.0.snapshot(tenant, signal, range) } else { Ok(first) }
    }

    /// Whether a batch that was acknowledged with this token is in the snapshots from now on. Blocks on the disk.
    ///
    /// # Errors
    /// `Retry` where the disk fails.
    pub fn sees(&self, tenant: &TenantId, token: &Token) -> Result<bool, StoreError> {
        let sealed = HashSet::new();
        let mut look = self.0.hot.look(tenant, token.signal, &sealed);
        for (name, frame) in &token.frames {
            match look.sees(name, *frame)? {
                Seen::Yes => {}
                Seen::No | Seen::NoSegment => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The tenants that have a folder.
    ///
    /// # Errors
    /// `Retry` where the disk fails.
    pub fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        self.0.hot.tenants()
    }
}

impl Shared {
    fn snapshot(&self, tenant: &TenantId, signal: Signal, range: TimeRange) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot::new(self.grace);
        let touches = |window: Window| range.touches(window.start_nanos(), window.last_nanos());
        let segments = self.hot.segments(tenant, signal, &|window, late| late || touches(window))?;
        let sealed: HashSet<SegmentName> = HashSet::new();
        let mut look = self.hot.look(tenant, signal, &sealed);
        segments.iter().filter(|name| !sealed.contains(name)).for_each(|name| look.add(name, range, &mut snapshot));
        Ok(snapshot)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
