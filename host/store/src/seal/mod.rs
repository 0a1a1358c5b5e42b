//! Sealing: segments that are done become blocks of objects, and go once nobody reads them any more.
//!
//! ```text
//! hot segments, listed blocks -> plan (which are due) -> pass (next number, conditional create) -> reframe (frames of 16k rows) -> block
//! block older than the read grace -> reclaim (its segments are deleted)
//! ```
//!
//! Any number of processes may seal: a block's number is taken by a conditional create, and whoever loses it reads the winner
//! and decides again (ST-5). Nothing here asks a clock: times come as arguments. Not here: what a block looks like (`warm`).
//!
//! **Why a row is sealed once.** Blocks are listed first, then the number up to which the Delta table covers them is read, then
//! segments are listed. A segment that is there and in none of these blocks was in no block when they were listed: the block
//! that covered it would be listed, or was removed, which happens after its segments are gone. Whoever sealed it since took
//! the next number, so that the create here is lost.
//!
//! A sealer that pauses before its create may find its number free again, when the block that had it was promoted and removed.
//! What it makes then is *void*: to readers, the table covers its number. Each block names the hash of the one before it, so
//! that the one behind a void block gives it away; that is why blocks are removed in order and the newest stays ([`retire`]).
//! What only a void block covers is sealed again.
//!
//! A block whose footer cannot be read holds up what it may cover, and nothing else ([`held`]).

mod plan;
mod reframe;
pub(crate) mod held;
mod pass;
mod reclaim;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use prism_model::{Signal, TenantId};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::options::nanos;
use crate::place::SegmentName;
use crate::warm::{Block, Blocks, Found};

pub use pass::{SealReport, Sealed, pass};
pub use reclaim::{Reclaimed, gone, reclaim, retire};

/// How sealing goes. Sizes are bytes, times milliseconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SealOptions {
    /// A window's first segments are sealed so long after its end. Writers close them then.
    pub seal_after_ms: u64,
    /// What comes to a window that has a block is sealed so long after the window's end: that is how long a window takes rows,
    /// so that they go to one block rather than to many.
    pub seal_delta_ms: u64,
    /// Less than this waits for more, but not longer than `seal_delta_ms` behind the oldest window's end: a block costs
    /// requests, and small frames compress and prune badly.
    pub seal_bytes_min: u64,
    /// A block that has so many bytes of segments takes no further one. Segments are never cut, so a larger one makes a larger
    /// block.
    pub block_bytes_max: u64,
    /// Rows that a frame is filled up to: statistics of 16k rows prune well, and one column of it is read in a millisecond.
    pub frame_rows: usize,
    /// zstd level, 1 to 3.
    pub zstd_level: i32,
    /// Entries of a block's rollup; one that would have more is left out, and rows answer.
    pub cube_entries_max: usize,
    /// Spans of a block that are remembered while it is made, some 60 bytes each, to tell calls between services; where there
    /// are more its rollup has none.
    pub cube_spans_max: usize,
    /// Segments stay so long behind their block, for queries that listed them: twice the longest query.
    pub read_grace_ms: u64,
}

impl Default for SealOptions {
    fn default() -> SealOptions {
        SealOptions {
            seal_after_ms: 30_000,
            seal_delta_ms: 30 * 60_000,
            seal_bytes_min: 4 << 20,
            block_bytes_max: 256 << 20,
            frame_rows: 16_384,
            zstd_level: 1,
            cube_entries_max: 100_000,
            cube_spans_max: 500_000,
            read_grace_ms: 120_000,
        }
    }
}

/// What a pass works with.
pub struct SealEnv<'a> {
    /// The file system of the hot tier.
    pub disk: &'a dyn Disk,
    /// The data folder, in which `hot` lies.
    pub root: &'a Path,
    /// The blocks, with the objects that they are and the keys of tenants.
    pub blocks: &'a Blocks,
    /// Settings.
    pub options: &'a SealOptions,
    /// The number up to which the tenant's Delta table covers the blocks of a shard; 0 where there is none. It is asked after
    /// the blocks were listed: the next number is above both.
    pub covered: &'a CoveredThrough<'a>,
}

/// See [`SealEnv::covered`].
pub type CoveredThrough<'a> = dyn Fn(&TenantId, Signal, u32) -> Result<u64, StoreError> + Sync + 'a;

/// Shards that have segments or blocks, ascending.
fn shards(env: &SealEnv<'_>, tenant: &TenantId, signal: Signal) -> Result<Vec<u32>, StoreError> {
    let dir = env.root.join(crate::place::signal_dir(tenant, signal));
    let names = crate::hot::list::names(env.disk, &dir).map_err(listing)?;
    let mut shards: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    shards.extend(env.blocks.shards(tenant, signal)?);
    shards.sort_unstable();
    shards.dedup();
    Ok(shards)
}

/// The blocks of a shard: those that can be read, and the others.
pub(crate) struct Listed {
    /// Ascending.
    pub(crate) blocks: Vec<Arc<Block>>,
    /// Numbers and why not, ascending.
    pub(crate) unread: Vec<(u64, StoreError)>,
}

impl Listed {
    /// All blocks of a tenant's signal, by shard.
    ///
    /// # Errors
    /// `Retry` where names cannot be listed.
    pub(crate) fn by_shard(
        blocks: &Blocks,
        tenant: &TenantId,
        signal: Signal,
    ) -> Result<Vec<(u32, Listed)>, StoreError> {
        let look = |shard| Ok((shard, Listed::of(blocks.look(tenant, signal, shard, 0)?)));
        blocks.shards(tenant, signal)?.into_iter().map(look).collect()
    }

    /// Sorts what was found.
    pub(crate) fn of(found: Vec<Found>) -> Listed {
        let mut listed = Listed { blocks: Vec::new(), unread: Vec::new() };
        for Found { seq, block, .. } in found {
            match block {
                Ok(block) => listed.blocks.push(block),
                Err(error) => listed.unread.push((seq, error)),
            }
        }
        listed
    }

    /// The same, where damage is all that keeps a block from being read.
    ///
    /// # Errors
    /// What does otherwise: it goes away.
    pub(crate) fn settled(found: Vec<Found>) -> Result<Listed, StoreError> {
        let mut listed = Listed::of(found);
        match listed.unread.iter().position(|(_, error)| !matches!(error, StoreError::Damaged(_))) {
            Some(at) => Err(listed.unread.swap_remove(at).1),
            None => Ok(listed),
        }
    }

    fn is_unread(&self, seq: u64) -> bool {
        self.unread.iter().any(|(unread, _)| *unread == seq)
    }

    /// The largest number that is there.
    fn newest(&self) -> Option<u64> {
        self.blocks.last().map(|block| block.seq).max(self.unread.last().map(|(seq, _)| *seq))
    }

    /// Whether a block is void (see above): the next one names another before it, or is gone already though newer ones are
    /// there. One whose next one cannot be read is believed to stand: see [`Listed::is_sure`].
    pub(crate) fn is_void(&self, block: &Block, covered: u64) -> bool {
        match self.blocks.iter().find(|b| b.seq == block.seq + 1) {
            // A sealer whose listing was old did not see the block before its own, and names none.
            Some(next) => next.previous != 0 && next.previous != block.hash,
            None if self.is_unread(block.seq + 1) => false,
            None => block.seq <= covered && self.newest().is_some_and(|newest| newest > block.seq),
        }
    }

    /// Whether it is known that a block is not void, so that what it covers may be deleted: only the number of one that the
    /// table covers can have been used before.
    fn is_sure(&self, block: &Block, covered: u64) -> bool {
        block.seq > covered || !self.is_unread(block.seq + 1)
    }

    /// The segments whose rows readable blocks have.
    pub(crate) fn sealed(&self, covered: u64) -> HashSet<SegmentName> {
        let stand = self.blocks.iter().filter(|block| !self.is_void(block, covered));
        stand.flat_map(|block| block.sources.iter().map(|source| source.name)).collect()
    }
}

fn listing(e: std::io::Error) -> StoreError {
    StoreError::io("listed segments", e)
}
