//! Blocks, files and parts of segments whose rollup may answer instead of their frames.

use std::ops::Range;
use std::sync::Arc;

use prism_model::window::TimeRange;

use super::counted::{First, Segment};
use crate::cache::Cache;
use crate::cold::file::ColdFile;
use crate::error::StoreError;
use crate::rollup::{Cells, Cube};
use crate::unit::{Frame, ReadCost, Tier};
use crate::warm::Block;

/// Bytes of remembered cubes: a dashboard asks for the same ones again and again.
const CUBE_CACHE_BYTES: usize = 64 << 20;

/// Cubes that were read before, by object; `None` where there is none.
pub(super) struct Cubes(Cache<String, Option<Arc<Cells>>>);

impl Default for Cubes {
    fn default() -> Cubes {
        Cubes(Cache::new(CUBE_CACHE_BYTES))
    }
}

/// A block or file of a snapshot, which may have a rollup of all its rows, or the first frames of a segment, which were counted.
#[derive(Clone)]
pub struct Rolled {
    /// Its frames in the snapshot: those that the range touches.
    pub frames: Range<usize>,
    /// Where it lies.
    pub tier: Tier,
    /// A name that is safe to show to its tenant.
    pub name: String,
    of: Of,
}

#[derive(Clone)]
enum Of {
    Block(Arc<Block>, Arc<Cubes>),
    File(Arc<ColdFile>, Arc<Cubes>),
    Segment(Segment, Arc<First>),
}

impl Rolled {
    pub(super) fn block(known: &Arc<Cubes>, block: Arc<Block>, frames: Range<usize>) -> Rolled {
        let name = format!("block {}/{}", block.shard, block.seq);
        Rolled { frames, tier: Tier::Warm, name, of: Of::Block(block, known.clone()) }
    }

    pub(super) fn file(known: &Arc<Cubes>, file: Arc<ColdFile>, name: String, frames: Range<usize>) -> Rolled {
        Rolled { frames, tier: Tier::Cold, name, of: Of::File(file, known.clone()) }
    }

    pub(super) fn segment(segment: Segment, first: Arc<First>, frames: Range<usize>) -> Rolled {
        let name = format!("segment {}", segment.source.name());
        Rolled { frames, tier: Tier::Hot, name, of: Of::Segment(segment, first) }
    }

    /// All frames that its rollup tells of, also those that the snapshot's range does not touch. Nothing is read.
    pub fn whole(&self) -> Vec<Frame> {
        match &self.of {
            Of::Block(block, _) => block.frames(TimeRange::ALL),
            Of::File(file, _) => file.frames(TimeRange::ALL),
            Of::Segment(segment, first) => segment.first(first.frames),
        }
    }

    /// What [`Rolled::cells`] would cost; `None` where it has none. Nothing is read.
    pub fn cost(&self) -> Option<ReadCost> {
        let (known, object, bytes) = match &self.of {
            Of::Block(block, known) => (known, block.object(), block.cube_len()?),
            Of::File(file, known) => (known, file.name().to_owned(), file.cube_len()?),
            Of::Segment(..) => return Some(ReadCost::default()),
        };
        match known.0.get(&object) {
            Some(known) => known.map(|_| ReadCost::default()),
            None => Some(ReadCost { bytes, reads: 1 }),
        }
    }

    /// The cells of its rollup, and what reading it cost; `None` where it has none. Blocks on the store.
    ///
    /// # Errors
    /// `Retry` where the store fails, `Bug` where the bytes are damaged.
    pub fn cells(&self) -> Result<Option<(Arc<Cells>, ReadCost)>, StoreError> {
        let cost = self.cost().unwrap_or_default();
        let (known, object) = match &self.of {
            Of::Block(block, known) => (known, block.object()),
            Of::File(file, known) => (known, file.name().to_owned()),
            Of::Segment(_, first) => return Ok(Some((first.cells.clone(), cost))),
        };
        if let Some(known) = known.0.get(&object) {
            return Ok(known.map(|cells| (cells, ReadCost::default())));
        }
        let bytes = match &self.of {
            Of::Block(block, _) => block.cube_bytes()?,
            Of::File(file, _) => file.cube()?.map(Vec::from),
            Of::Segment(..) => None,
        };
        let Some(bytes) = bytes else {
            known.0.put(object, None, size_of::<String>());
            return Ok(None);
        };
        let cells = Arc::new(Cells::of(Cube::from_bytes(&bytes)?)?);
        known.0.put(object, Some(cells.clone()), cells.memory_bytes());
        Ok(Some((cells, cost)))
    }
}

impl std::fmt::Debug for Rolled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rolled").field("name", &self.name).field("frames", &self.frames).finish_non_exhaustive()
    }
}
