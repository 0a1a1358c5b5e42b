//! Moving rows to colder tiers, as any process of a world may do at any time.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};
use prism_store::keys::Keyring;
use prism_store::objects::{LocalObjects, Objects};
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{Frame, StoreError, Tier};

use super::try_numbers;
use super::world::{Node, ROOT};

/// The colder tiers as a process sees them.
#[derive(Clone)]
pub struct Tiers {
    node: Node,
    blocks: Blocks,
    seal: SealOptions,
}

type Lane = (TenantId, Signal);

impl Node {
    /// Looks at the rows of all tiers, while nothing is written or moved: blocks, and segments that none of them covers.
    pub fn looks_everywhere(&self, lane: &Lane) {
        let before = self.world.model.before(&lane.0, lane.1, self.process.time());
        let checked = self.tiers().rows(lane).and_then(|rows| {
            self.process.note(&format!("sees {} rows in all tiers", rows.len()));
            self.world.model.check(&before, &rows, 0, true)
        });
        if let Err(wrong) = checked {
            self.world.turnstile.fail(&wrong);
        }
    }

    /// When nothing fails any more all rows move on, and give back their room.
    pub async fn all_grow_cold(&self) {
        let tiers = self.tiers();
        // Windows end, deltas are due, and no reader needs what was sealed.
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            for lane in self.world.model.lanes() {
                for done in [tiers.seals(&lane).map(drop), tiers.reclaims(&lane).map(drop)] {
                    if let Err(e) = done {
                        self.world.turnstile.fail(&format!("rows do not move although nothing fails: {e}"));
                    }
                }
                self.looks_everywhere(&lane);
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
        Tiers { node: self.clone(), blocks: Blocks::open(self.objects(), Keyring::default()), seal }
    }
}

impl Tiers {
    /// Seals what is due.
    ///
    /// # Errors
    /// As [`seal::pass`].
    pub fn seals(&self, lane: &Lane) -> Result<seal::SealReport, StoreError> {
        let done = self.with(|env| seal::pass(env, &lane.0, lane.1, self.node.now(), false));
        self.node.process.note(&format!("sealed: {done:?}"));
        done
    }

    /// Deletes segments that blocks cover.
    ///
    /// # Errors
    /// As [`seal::reclaim`].
    pub fn reclaims(&self, lane: &Lane) -> Result<seal::Reclaimed, StoreError> {
        let done = self.with(|env| seal::reclaim(env, &lane.0, lane.1, self.node.now(), false));
        self.node.process.note(&format!("reclaimed: {done:?}"));
        done
    }

    fn rows(&self, lane: &Lane) -> Result<Vec<i64>, String> {
        let told = |e: StoreError| format!("not readable although nothing fails: {e}");
        let mut frames = Vec::new();
        let mut sealed = BTreeSet::new();
        for shard in self.blocks.shards(&lane.0, lane.1).map_err(told)? {
            let mut expected = None;
            for block in self.blocks.list(&lane.0, lane.1, shard, 0).map_err(told)? {
                if expected.is_some_and(|seq| seq != block.seq) {
                    return Err(format!("a gap before block {}", block.seq));
                }
                expected = Some(block.seq + 1);
                sealed.extend(block.sources.iter().map(prism_store::warm::BlockSource::file_name));
                frames.extend(block.frames(TimeRange::ALL));
            }
        }
        let snapshot = self.node.reader().snapshot(&lane.0, lane.1, TimeRange::ALL).map_err(told)?;
        if let Some(unreadable) = snapshot.unreadable.first() {
            return Err(format!("not readable although nothing fails: {unreadable:?}"));
        }
        let of_hot = |f: &Frame| f.tier() == Tier::Hot && !sealed.iter().any(|name| f.name().contains(name.as_str()));
        frames.extend(snapshot.frames.into_iter().filter(of_hot));
        try_numbers(&frames).map_err(told)
    }

    fn with<T>(&self, work: impl FnOnce(&SealEnv<'_>) -> T) -> T {
        let covered = |_: &TenantId, _, _| Ok(0);
        work(&SealEnv {
            disk: &*self.node.disk,
            root: Path::new(ROOT),
            blocks: &self.blocks,
            options: &self.seal,
            covered: &covered,
        })
    }
}
