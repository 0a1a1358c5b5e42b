//! What the warm tier adds to a snapshot: its blocks that the table does not have yet, and which segments they cover.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use prism_model::{Signal, TenantId};

use super::rolled::{Cubes, Rolled};
use super::{Ask, Snapshot, Unreadable, moved_on};
use crate::cold::delta::Left;
use crate::error::StoreError;
use crate::place::SegmentName;
use crate::seal::Listed;
use crate::unit::{Frame, Tier};
use crate::warm::Blocks;
use crate::warm::name::BlockName;

/// What a tenant's signal has in the warm tier, by shard.
pub(super) struct Warm(Vec<(u32, Listed)>);

/// Lists all blocks, also those that the table has: their segments may still be there, too.
///
/// # Errors
/// `Retry` where names cannot be listed.
pub(super) fn list(blocks: &Blocks, tenant: &TenantId, signal: Signal) -> Result<Warm, StoreError> {
    Listed::by_shard(blocks, tenant, signal).map(Warm)
}

impl Warm {
    /// The segments whose rows blocks have. What only a void block names is sealed again, and counts until then.
    pub(super) fn sealed(&self, covered: &BTreeMap<u32, u64>) -> HashSet<SegmentName> {
        let through = |shard: &u32| covered.get(shard).copied().unwrap_or(0);
        self.0.iter().flat_map(|(shard, listed)| listed.sealed(through(shard))).collect()
    }

    /// Whether blocks of a shard that the table has were deleted: which segments they covered is not told any more.
    pub(super) fn has_retired(&self, shard: u32, covered: &BTreeMap<u32, u64>) -> bool {
        let through = covered.get(&shard).copied().unwrap_or(0);
        let of_shard = self.0.iter().filter(|(of, _)| *of == shard);
        let numbers = of_shard.flat_map(|(_, listed)| {
            listed.blocks.iter().map(|block| block.seq).chain(listed.unread.iter().map(|(seq, _)| *seq))
        });
        (numbers.filter(|seq| *seq <= through).count() as u64) < through
    }

    /// Adds the frames of the blocks above `covered` (the last block of each shard that the table has) that may hold what is
    /// asked for.
    pub(super) fn add(&self, ask: &Ask<'_>, covered: &BTreeMap<u32, u64>, cubes: &Arc<Cubes>, to: &mut Snapshot) {
        let is_covered = |shard: u32, seq: u64| covered.get(&shard).is_some_and(|last| seq <= *last);
        let unread =
            self.0.iter().flat_map(|(shard, listed)| listed.unread.iter().map(move |(seq, e)| (shard, seq, e)));
        for (shard, seq, error) in unread {
            let what = format!("block {shard}/{seq}");
            match error {
                // Its rows are in the table, and it goes when its segments are gone: it was deleted just now.
                StoreError::Vanished(_) => to.vanished(Unreadable { tier: Tier::Warm, what, reason: moved_on() }),
                error => {
                    tracing::error!(shard, seq, %error, covered = is_covered(*shard, *seq), "a block cannot be read");
                    // Also where the table has its rows: which segments it covers is not known then.
                    to.unreadable.push(Unreadable { tier: Tier::Warm, what, reason: error.to_string() });
                }
            }
        }
        let blocks = self.0.iter().flat_map(|(_, listed)| &listed.blocks);
        for block in blocks.filter(|block| !is_covered(block.shard, block.seq)) {
            let touched = ask.range.touches(block.time_min, block.time_max);
            let frames = if touched { block.frames(ask.range) } else { Vec::new() };
            let taken = to.add(Tier::Warm, ask, frames, block.frames);
            if !taken.is_empty() {
                to.rolled.push(Rolled::block(cubes, block.clone(), taken));
            }
        }
    }
}

/// Adds the frames that may hold what is asked for of those that were left when the rest of their blocks came to the table. Who
/// reads them finds out whether they are damaged still.
pub(super) fn add_left(blocks: &Blocks, ask: &Ask<'_>, left: &Left, to: &mut Snapshot) {
    for ((shard, seq), numbers) in left {
        let name = BlockName { tenant: ask.tenant.clone(), signal: ask.signal, shard: *shard, seq: *seq };
        let what = format!("block {shard}/{seq}, {} frames of it", numbers.len());
        match blocks.left(&name) {
            Ok(block) => {
                let all: Vec<_> = numbers.iter().filter_map(|number| block.frame(*number)).collect();
                let touched = |frame: &&Frame| ask.range.touches(frame.stats().time_min, frame.stats().time_max);
                let frames = all.iter().filter(touched).cloned().collect();
                to.add(Tier::Warm, ask, frames, all.len());
            }
            // Recovered since, and that longer ago than the grace; or somebody removed the copy.
            Err(StoreError::Vanished(_)) => to.vanished(Unreadable { tier: Tier::Warm, what, reason: moved_on() }),
            Err(error) => {
                tracing::error!(shard, seq, %error, "the copy of a damaged block cannot be read");
                to.unreadable.push(Unreadable { tier: Tier::Warm, what, reason: error.to_string() });
            }
        }
    }
}
