//! Moving rows to colder tiers, as any process of a world may do at any time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prism_model::{Signal, TenantId};
use prism_store::StoreError;
use prism_store::cold::delta::Tables;
use prism_store::cold::{ColdEnv, ColdOptions, compact, expire, promote};
use prism_store::keys::Keyring;
use prism_store::objects::{LocalObjects, Objects};
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;

use super::world::{Node, ROOT};

/// The colder tiers as a process sees them.
#[derive(Clone)]
pub struct Tiers {
    node: Node,
    blocks: Blocks,
    tables: Tables,
    seal: SealOptions,
    options: ColdOptions,
    writer: u64,
    named: Arc<AtomicU64>,
}

/// What any process may do at any time.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Seal,
    Reclaim,
    Promote,
    Compact,
    Retire,
    Vacuum,
}

impl Step {
    pub const ALL: [Step; 6] = [Step::Seal, Step::Reclaim, Step::Promote, Step::Compact, Step::Retire, Step::Vacuum];
}

type Lane = (TenantId, Signal);

impl Node {
    /// When nothing fails any more all rows move on, and give back their room.
    pub async fn all_grow_cold(&self) {
        let (tiers, reader) = (self.tiers(), self.reader());
        // Windows end, deltas are due, and no reader needs what was sealed.
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            for lane in self.world.model.lanes() {
                for step in Step::ALL {
                    if let Err(e) = tiers.takes(step, &lane) {
                        self.world.turnstile.fail(&format!("{step:?} fails although nothing else does: {e}"));
                    }
                    self.looks(&reader, &lane, true);
                }
            }
        }
        if let Some(left) = self.world.disk.names().into_iter().find(|name| name.contains(".seg")) {
            self.world.turnstile.fail(&format!("`{left}` is left although all rows moved on"));
        }
    }

    /// The objects of its world: a bucket, or a folder on the shared disk.
    pub fn objects(&self) -> Arc<dyn Objects> {
        match &self.world.bucket {
            Some(bucket) => Arc::new(bucket.of(&self.process)),
            None => Arc::new(LocalObjects::new(self.disk.clone(), &Path::new(ROOT).join("objects"), self.id())),
        }
    }

    pub fn tiers(&self) -> Tiers {
        let seal =
            SealOptions { frame_rows: 16, seal_bytes_min: 0, block_bytes_max: 4 << 10, ..SealOptions::default() };
        let options = ColdOptions { checkpoint_commits: 3, compact_files_min: 2, ..ColdOptions::default() };
        let objects = self.objects();
        let (blocks, tables) = (Blocks::open(objects.clone(), Keyring::default()), Tables::new(objects));
        Tiers { node: self.clone(), blocks, tables, seal, options, writer: self.id(), named: Arc::default() }
    }
}

impl Tiers {
    /// Takes a step with all rows of a tenant's signal that are due.
    ///
    /// # Errors
    /// As the step.
    pub fn takes(&self, step: Step, (tenant, signal): &Lane) -> Result<(), StoreError> {
        let (signal, now) = (*signal, self.node.now());
        let told = match step {
            Step::Seal => self.with(|env| seal::pass(env, tenant, signal, now, false)).map(|r| format!("{r:?}")),
            Step::Reclaim => self.with(|env| seal::reclaim(env, tenant, signal, now, false)).map(|r| format!("{r:?}")),
            Step::Promote => promote::pass(&self.cold(), tenant, signal, now, false).map(|r| format!("{r:?}")),
            Step::Compact => compact::pass(&self.cold(), tenant, signal, now, 4, false).map(|r| format!("{r:?}")),
            Step::Retire => promote::retire(&self.cold(), tenant, signal, now).map(|r| format!("{r:?}")),
            Step::Vacuum => expire::vacuum(&self.cold(), tenant, signal, now, false).map(|r| format!("{r:?}")),
        };
        self.node.process.note(&format!("{step:?} {tenant} {signal:?}: {told:?}"));
        told.map(drop)
    }

    fn cold(&self) -> ColdEnv<'_> {
        ColdEnv {
            disk: &*self.node.disk,
            root: Path::new(ROOT),
            blocks: &self.blocks,
            tables: &self.tables,
            options: &self.options,
            writer: self.writer,
            named: &self.named,
        }
    }

    fn with<T>(&self, work: impl FnOnce(&SealEnv<'_>) -> T) -> T {
        let covered = |tenant: &TenantId, signal, shard| {
            self.tables.table(tenant, signal).covered(shard).map(|seq| seq.unwrap_or(0))
        };
        work(&SealEnv {
            disk: &*self.node.disk,
            root: Path::new(ROOT),
            blocks: &self.blocks,
            options: &self.seal,
            covered: &covered,
        })
    }
}
