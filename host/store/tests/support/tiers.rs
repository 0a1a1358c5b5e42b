//! Moving rows to colder tiers, as any process of a world may do at any time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};
use prism_store::StoreError;
use prism_store::cold::delta::{Date, Tables};
use prism_store::cold::{ColdEnv, ColdOptions, compact, expire, left, promote};
use prism_store::keys::Erasure;
use prism_store::objects::{LocalObjects, Objects};
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;

use super::try_numbers;
use super::world::{HOUR_MS, Node, ROOT};

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
        let hours: &[u64] = if self.world.varied.hours { &[1, 1, 27, 1, 10, 1] } else { &[1, 1, 1, 1] };
        // Windows end, deltas are due, and no reader needs what was sealed.
        for hours in hours {
            tokio::time::sleep(Duration::from_secs(hours * 3_600)).await;
            for lane in self.world.model.lanes() {
                for step in Step::ALL {
                    self.must(&format!("{step:?}"), tiers.takes(step, &lane));
                    self.looks(&reader, &lane, true);
                }
            }
        }
        if let Some(left) = self.world.disk.names().into_iter().find(|name| name.contains(".seg")) {
            self.world.turnstile.fail(&format!("`{left}` is left although all rows moved on"));
        }
    }

    /// What is older than some day expires, exactly, and what no table names is deleted after a while.
    pub async fn the_old_expire(&self) {
        let (tiers, reader) = (self.tiers(), self.reader());
        let before = Date::of(self.now() - 6 * HOUR_MS * 1_000_000).first_nanos();
        for lane in self.world.model.lanes() {
            self.must("expiring", tiers.expires(&lane, before));
            self.looks(&reader, &lane, true);
        }
        tokio::time::sleep(Duration::from_secs(70 * 3_600)).await;
        for lane in self.world.model.lanes() {
            self.must("vacuum", tiers.takes(Step::Vacuum, &lane));
            self.looks(&reader, &lane, true);
            let Ok(snapshot) = reader.snapshot(&lane.0, lane.1, TimeRange::ALL) else { continue };
            let found = try_numbers(&snapshot.frames).unwrap_or_default();
            let folder = format!("cold/{}/{}/date=", lane.0, lane.1.as_str());
            let files =
                self.object_names().into_iter().filter(|n| n.contains(&folder) && n.ends_with(".parquet")).count();
            let checked = self.world.model.check_expired(&lane, &found, before);
            if let Err(wrong) = checked {
                self.world.turnstile.fail(&wrong);
            }
            if files != snapshot.tiers.cold.parts {
                let told = format!("{files} files of `{folder}` are left, the table has {}", snapshot.tiers.cold.parts);
                self.world.turnstile.fail(&told);
            }
        }
    }

    /// Erases a tenant, as far as nothing fails.
    pub fn erases(&self, tenant: &TenantId) {
        self.world.model.erases(tenant);
        let erasure = Erasure::open_in(self.disk.clone(), Path::new(ROOT), self.keys.clone(), self.objects());
        let erased = erasure.erase(tenant, self.now() / 1_000_000);
        self.process.note(&format!("erases {tenant}: {erased:?}"));
        if erased.is_ok() && !self.process.is_dead() {
            self.world.model.erased(tenant, self.process.time());
        }
    }

    /// KE-2: of a tenant that somebody began to erase nothing is left, also after a loss of power.
    pub fn is_erased(&self, tenant: &TenantId) {
        if self.world.model.is_erased(tenant).is_none() {
            return;
        }
        self.erases(tenant);
        let of_tenant = format!("/{tenant}/");
        let left = |names: Vec<String>| names.into_iter().find(|n| n.contains(&of_tenant) && !n.contains("/erased/"));
        let disk = self.world.disk.crash();
        if let Some(left) = left(disk.names()).or_else(|| left(self.object_names())) {
            self.world.turnstile.fail(&format!("KE-2: `{left}` is left of an erased tenant"));
        }
    }

    pub fn must(&self, what: &str, done: Result<(), StoreError>) {
        if let Err(e) = done {
            let cause = std::error::Error::source(&e).map(ToString::to_string);
            self.world.turnstile.fail(&format!("{what} fails although nothing else does: {e} ({cause:?})"));
        }
    }

    fn object_names(&self) -> Vec<String> {
        match &self.world.bucket {
            Some(bucket) => bucket.names().into_iter().map(|name| format!("/{name}")).collect(),
            None => self.world.disk.names().into_iter().filter(|name| name.contains("/objects/")).collect(),
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
        let (blocks, tables) = (Blocks::open(objects.clone(), self.keys.clone()), Tables::new(objects));
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
            Step::Promote => {
                let back = left::pass(&self.cold(), tenant, signal, now, false);
                back.and_then(|back| Ok((back, promote::pass(&self.cold(), tenant, signal, now, false)?))).map(
                    |(back, r)| {
                        if back.rows + back.still.len() as u64 == 0 {
                            format!("{r:?}")
                        } else {
                            format!("{r:?} {back:?}")
                        }
                    },
                )
            }
            Step::Compact => compact::pass(&self.cold(), tenant, signal, now, 4, false).map(|r| format!("{r:?}")),
            Step::Retire => promote::retire(&self.cold(), tenant, signal, now).map(|r| format!("{r:?}")),
            Step::Vacuum => expire::vacuum(&self.cold(), tenant, signal, now, false).map(|r| format!("{r:?}")),
        };
        self.node.process.note(&format!("{step:?} {tenant} {signal:?}: {told:?}"));
        told.map(drop)
    }

    /// Expires rows before an event time.
    ///
    /// # Errors
    /// As the step.
    pub fn expires(&self, lane: &Lane, before: i64) -> Result<(), StoreError> {
        self.node.world.model.expires(lane, before);
        let told = expire::pass(&self.cold(), &lane.0, lane.1, before, self.node.now(), false);
        self.node.process.note(&format!("expires {} {:?} before {before}: {told:?}", lane.0, lane.1));
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
