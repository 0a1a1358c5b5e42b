//! Blocks and files whose rollup may answer instead of their frames.

use std::ops::Range;
use std::sync::Arc;

use prism_model::window::TimeRange;

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

/// A block or file of a snapshot, which may have a rollup of all its rows.
#[derive(Clone)]
pub struct Rolled {
    /// Its frames in the snapshot: those that the range touches.
    pub frames: Range<usize>,
    /// Where it lies.
    pub tier: Tier,
    /// A name that is safe to show to its tenant.
    pub name: String,
    of: Of,
    known: Arc<Cubes>,
}

#[derive(Clone)]
enum Of {
    Block(Arc<Block>),
    File(Arc<ColdFile>),
}

impl Rolled {
    pub(super) fn block(known: &Arc<Cubes>, block: Arc<Block>, frames: Range<usize>) -> Rolled {
        let name = format!("block {}/{}", block.shard, block.seq);
        Rolled { frames, tier: Tier::Warm, name, of: Of::Block(block), known: known.clone() }
    }

    pub(super) fn file(known: &Arc<Cubes>, file: Arc<ColdFile>, name: String, frames: Range<usize>) -> Rolled {
        Rolled { frames, tier: Tier::Cold, name, of: Of::File(file), known: known.clone() }
    }

    fn object(&self) -> String {
        match &self.of {
            Of::Block(block) => block.object(),
            Of::File(file) => file.name().to_owned(),
        }
    }

    /// All frames that its rollup tells of, also those that the snapshot's range does not touch. Nothing is read.
    pub fn whole(&self) -> Vec<Frame> {
        match &self.of {
            Of::Block(block) => block.frames(TimeRange::ALL),
            Of::File(file) => file.frames(TimeRange::ALL),
        }
    }

    /// What [`Rolled::cells`] would cost; `None` where it has none. Nothing is read.
    pub fn cost(&self) -> Option<ReadCost> {
        let bytes = match &self.of {
            Of::Block(block) => block.cube_len(),
            Of::File(file) => file.cube_len(),
        }?;
        match self.known.0.get(&self.object()) {
            Some(known) => known.map(|_| ReadCost::default()),
            None => Some(ReadCost { bytes, reads: 1 }),
        }
    }

    /// The cells of its rollup, and what reading it cost; `None` where it has none. Blocks on the store.
    ///
    /// # Errors
    /// `Retry` where the store fails, `Bug` where the bytes are damaged.
    pub fn cells(&self) -> Result<Option<(Arc<Cells>, ReadCost)>, StoreError> {
        let object = self.object();
        let cost = self.cost().unwrap_or_default();
        if let Some(known) = self.known.0.get(&object) {
            return Ok(known.map(|cells| (cells, ReadCost::default())));
        }
        let bytes = match &self.of {
            Of::Block(block) => block.cube_bytes()?,
            Of::File(file) => file.cube()?.map(Vec::from),
        };
        let Some(bytes) = bytes else {
            self.known.0.put(object, None, size_of::<String>());
            return Ok(None);
        };
        let cells = Arc::new(Cells::of(Cube::from_bytes(&bytes)?)?);
        self.known.0.put(object, Some(cells.clone()), cells.memory_bytes());
        Ok(Some((cells, cost)))
    }
}

impl std::fmt::Debug for Rolled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rolled").field("name", &self.name).field("frames", &self.frames).finish_non_exhaustive()
    }
}
