//! How long what stays where: rows grow older, and go from tier to tier until they are deleted.
//!
//! ```text
//! policy (ages) -> moves (one tenant's signal, once) <- worker (all of them, again and again, shared among processes)
//! status (what lies where, and what comes next)   verify (everything is read again)
//! ```
//!
//! Times come as arguments; only the worker has a clock, which it is given. Not here: how rows get from one tier to the next
//! (`seal`, `cold`).

mod age;
pub mod policy;
mod metrics;
mod share;
mod archive;
mod moves;
mod left;
mod worker;
mod status;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prism_model::{Signal, TenantId};

pub use age::Age;
pub use archive::Archive;
pub use metrics::{LifeMetrics, Stage, StageMetrics};
pub use moves::{Done, Moved};
pub use policy::{Choices, Policies, Policy, PolicyError};
pub use status::{Status, TierStatus, status};
pub use verify::{Fault, Progress, Verified, verify};
pub use worker::{Worker, WorkerOptions};

use crate::cold::ColdOptions;
use crate::cold::delta::Tables;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::keys::Keyring;
use crate::objects::Objects;
use crate::read::Reader;
use crate::seal::SealOptions;
use crate::warm::Blocks;

/// All tiers of a data folder, and how rows go through them. Any number of processes may have one.
pub struct Storage {
    /// The file system of the hot tier.
    pub disk: Arc<dyn Disk>,
    /// The data folder.
    pub root: PathBuf,
    /// The objects of the colder tiers.
    pub objects: Arc<dyn Objects>,
    /// The warm tier.
    pub blocks: Blocks,
    /// The cold tier.
    pub tables: Tables,
    /// What queries read.
    pub reader: Reader,
    /// What opens encrypted data.
    pub keys: Keyring,
    /// How segments become blocks.
    pub seal: SealOptions,
    /// How blocks become files, and what becomes of these.
    pub cold: ColdOptions,
    /// Random, of this process alone: in the names of files.
    pub writer: u64,
    /// Files of this process so far.
    pub named: AtomicU64,
    /// Where archived files go; `None` where objects are in a folder, which has no storage classes.
    pub archive: Option<Archive>,
    /// How long what stays where, for whom nothing else is set.
    pub defaults: Policy,
}

impl Storage {
    /// The tenants that have rows in any tier, ascending.
    ///
    /// # Errors
    /// `Retry` where disk or store fail.
    pub fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        let mut tenants = self.reader.tenants()?;
        for folder in ["warm", "cold"] {
            let listed = self.objects.folders(folder).map_err(|e| StoreError::io("listed tenants", e))?;
            tenants.extend(listed.iter().filter_map(|name| name.parse::<TenantId>().ok()));
        }
        tenants.sort_unstable();
        tenants.dedup();
        Ok(tenants)
    }

    /// The number of the last block of a shard that the Delta table covers; 0 where it covers none.
    pub(crate) fn covered(&self, tenant: &TenantId, signal: Signal, shard: u32) -> Result<u64, StoreError> {
        let log = self.tables.table(tenant, signal).log()?;
        Ok(log.and_then(|log| log.covered().get(&shard).copied()).unwrap_or(0))
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("root", &self.root).finish_non_exhaustive()
    }
}
