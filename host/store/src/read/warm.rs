//! What the warm tier adds to a snapshot: its blocks that the table does not have yet, and which segments they cover.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use prism_model::{Signal, TenantId};

use super::rolled::{Cubes, Rolled};
use super::{Ask, Snapshot, Unreadable, moved_on};
use crate::error::StoreError;
use crate::place::SegmentName;
use crate::seal::is_void;
use crate::unit::Tier;
use crate::warm::{Block, Blocks};

/// What a tenant's signal has in the warm tier.
#[derive(Default)]
pub(super) struct Listed {
    /// Every block that can be read, by shard and number.
    pub(super) blocks: Vec<Arc<Block>>,
    /// Those that cannot be read.
    unreadable: Vec<(u32, u64, StoreError)>,
}

/// Lists all blocks, also those that the table has: their segments may still be there, too.
///
/// # Errors
/// `Retry` where names cannot be listed.
pub(super) fn list(blocks: &Blocks, tenant: &TenantId, signal: Signal) -> Result<Listed, StoreError> {
    let mut listed = Listed::default();
    for shard in blocks.shards(tenant, signal)? {
        for found in blocks.look(tenant, signal, shard, 0)? {
            match found.block {
                Ok(block) => listed.blocks.push(block),
                Err(error) => listed.unreadable.push((shard, found.seq, error)),
            }
        }
    }
    Ok(listed)
}

impl Listed {
    /// The segments whose rows blocks have. What only a void block names is sealed again, and counts until then.
    pub(super) fn sealed(&self, covered: &BTreeMap<u32, u64>) -> HashSet<SegmentName> {
        let mut sealed = HashSet::new();
        for blocks in self.blocks.chunk_by(|a, b| a.shard == b.shard) {
            let through = covered.get(&blocks[0].shard).copied().unwrap_or(0);
            let stand = blocks.iter().filter(|block| !is_void(block, blocks, through));
            sealed.extend(stand.flat_map(|block| block.sources.iter().map(|source| source.name)));
        }
        sealed
    }

    /// Adds the frames of the blocks above `covered` (the last block of each shard that the table has) that may hold what is
    /// asked for.
    pub(super) fn add(&self, ask: &Ask<'_>, covered: &BTreeMap<u32, u64>, cubes: &Arc<Cubes>, to: &mut Snapshot) {
        let is_covered = |shard: u32, seq: u64| covered.get(&shard).is_some_and(|last| seq <= *last);
        for (shard, seq, error) in &self.unreadable {
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
        for block in self.blocks.iter().filter(|block| !is_covered(block.shard, block.seq)) {
            let touched = ask.range.touches(block.time_min, block.time_max);
            let frames = if touched { block.frames(ask.range) } else { Vec::new() };
            let taken = to.add(Tier::Warm, ask, frames, block.frames);
            if !taken.is_empty() {
                to.rolled.push(Rolled::block(cubes, block.clone(), taken));
            }
        }
    }
}
