//! What blocks a shard has: names are listed anew each time, footers remembered, since objects do not change.

use std::io;
use std::sync::Arc;

use prism_model::{Signal, TenantId};

use super::block::Block;
use super::name::{BlockName, signal_folder};
use crate::cache::Cache;
use crate::error::StoreError;
use crate::framed::Filters;
use crate::keys::Keyring;
use crate::objects::Objects;

/// Bytes of remembered footers: about 5,000 frames of 80 columns.
const FOOTER_CACHE_BYTES: usize = 48 << 20;

/// The blocks of an object store. Cheap to clone. All calls block on the store.
#[derive(Clone)]
pub struct Blocks(Arc<Inner>);

struct Inner {
    objects: Arc<dyn Objects>,
    keys: Keyring,
    /// By name, and whether it is the copy of [`Blocks::left`].
    footers: Cache<(BlockName, bool), Arc<Block>>,
    filters: Arc<Filters>,
}

/// A block's number, and the block, or why it cannot be listed.
#[derive(Debug)]
pub struct Found {
    /// Its number.
    pub seq: u64,
    /// Bytes of the object.
    pub bytes: u64,
    /// Itself.
    pub block: Result<Arc<Block>, StoreError>,
}

impl Blocks {
    /// The blocks among these objects, read with these keys.
    pub fn open(objects: Arc<dyn Objects>, keys: Keyring) -> Blocks {
        let footers = Cache::new(FOOTER_CACHE_BYTES);
        Blocks(Arc::new(Inner { objects, keys, footers, filters: Arc::default() }))
    }

    /// The objects that the blocks are.
    pub fn objects(&self) -> &Arc<dyn Objects> {
        &self.0.objects
    }

    /// The keys of tenants that they are read with.
    pub(crate) fn keys(&self) -> &Keyring {
        &self.0.keys
    }

    /// The shards that have a folder, ascending.
    ///
    /// # Errors
    /// `Retry` where the store fails.
    pub fn shards(&self, tenant: &TenantId, signal: Signal) -> Result<Vec<u32>, StoreError> {
        let folders = self.0.objects.folders(&signal_folder(tenant, signal)).map_err(failed)?;
        let mut shards: Vec<u32> = folders.iter().filter_map(|name| name.parse().ok()).collect();
        shards.sort_unstable();
        Ok(shards)
    }

    /// The blocks of a shard with numbers above `after`, ascending.
    ///
    /// # Errors
    /// `Retry` where the store fails or a block went away meanwhile, `Bug` where one is damaged: then none is returned.
    pub fn list(
        &self,
        tenant: &TenantId,
        signal: Signal,
        shard: u32,
        after: u64,
    ) -> Result<Vec<Arc<Block>>, StoreError> {
        self.look(tenant, signal, shard, after)?.into_iter().map(|found| found.block).collect()
    }

    /// The blocks of a shard with numbers above `after`, ascending, each with why it cannot be listed where it cannot: what a
    /// reader does not need may be damaged.
    ///
    /// # Errors
    /// `Retry` where the names cannot be listed.
    pub fn look(&self, tenant: &TenantId, signal: Signal, shard: u32, after: u64) -> Result<Vec<Found>, StoreError> {
        self.look_while(tenant, signal, shard, after, &mut |_| true)
    }

    /// The same up to the first that is not wanted, which comes too: those behind it are not read.
    ///
    /// # Errors
    /// As [`Blocks::look`].
    pub(crate) fn look_while(
        &self,
        tenant: &TenantId,
        signal: Signal,
        shard: u32,
        after: u64,
        wanted: &mut dyn FnMut(&Found) -> bool,
    ) -> Result<Vec<Found>, StoreError> {
        let name = |seq| BlockName { tenant: tenant.clone(), signal, shard, seq };
        let folder = format!("{}/{shard}", signal_folder(tenant, signal));
        let listed = self.0.objects.list(&folder, &name(after).object()).map_err(failed)?;
        let mut found = Vec::new();
        for object in listed {
            let Some(seq) = BlockName::parse_seq(&object.name) else {
                tracing::warn!(object = object.name, "an object among the blocks is none");
                continue;
            };
            let one = Found { seq, bytes: object.bytes, block: self.block(name(seq)) };
            let goes_on = wanted(&one);
            found.push(one);
            if !goes_on {
                break;
            }
        }
        Ok(found)
    }

    fn block(&self, name: BlockName) -> Result<Arc<Block>, StoreError> {
        let object = name.object();
        self.read((name, false), object)
    }

    /// The copy that is kept of a block whose damaged frames did not come to the table (`cold::left`).
    ///
    /// # Errors
    /// `Retry` where the store fails or there is none, `Bug` where its footer is damaged.
    pub(crate) fn left(&self, name: &BlockName) -> Result<Arc<Block>, StoreError> {
        self.read((name.clone(), true), name.left_object())
    }

    fn read(&self, key: (BlockName, bool), object: String) -> Result<Arc<Block>, StoreError> {
        if let Some(block) = self.0.footers.get(&key) {
            return Ok(block);
        }
        let name = key.0.clone();
        let block = Arc::new(Block::read(&self.0.objects, &self.0.keys, name, object, &self.0.filters)?);
        self.0.footers.put(key, block.clone(), block.memory_bytes());
        Ok(block)
    }
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks").finish_non_exhaustive()
    }
}

fn failed(e: io::Error) -> StoreError {
    StoreError::io("listed blocks", e)
}
