//! One pass over a tenant's signal: what is due goes on its way, stage by stage.
//!
//! ```text
//! seal (hot -> warm) -> reclaim -> promote (warm -> cold) -> retire -> compact -> archive -> expire -> vacuum
//! ```
//!
//! A stage that fails is told, and the next ones go on: a bucket that takes nothing keeps nothing from being deleted that is due.
//! Any number of processes may pass at once, and one may die anywhere: each stage ends in one conditional create or in deletions of
//! what nobody needs (ST-5). Not here: when a pass is made (`worker`).

use std::time::Instant;

use prism_model::{Signal, TenantId};

use super::metrics::Stage;
use super::policy::Policy;
use super::status::{lags, promotable};
use super::worker::Failure;
use super::{Age, Storage, archive};
use crate::cold::delta::others;
use crate::cold::left::{self, LeftFrame};
use crate::cold::{ColdEnv, compact, expire, promote};
use crate::error::StoreError;
use crate::options::nanos;
use crate::seal::{self, SealEnv, SealOptions};

/// Days whose small files one pass joins: so long it keeps others waiting at most.
const COMPACT_GROUPS: usize = 1;

/// Files of other engines that one pass names.
const FOREIGN_TOLD: usize = 20;

/// What a stage did, or in a dry run would do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which.
    pub stage: Stage,
    /// Segments, blocks or files that it made or deleted.
    pub parts: u64,
    /// Rows that it moved or deleted; 0 where it is not known.
    pub rows: u64,
    /// Bytes that it read, or deleted.
    pub bytes: u64,
    /// Nanoseconds that it took.
    pub nanos: u64,
}

/// What a pass did, or in a dry run would do now.
#[derive(Debug, Default)]
pub struct Moved {
    /// The stages in order, also those that had nothing to do.
    pub done: Vec<Done>,
    /// Stages that failed, and why.
    pub failures: Vec<Failure>,
    /// What is damaged, and why: segments (`segment <file>`; what stands in them is sealed, their files are kept aside), blocks
    /// (`block <number> of shard <shard>`; what they may cover is held, and those behind them wait), frames of blocks (`frame
    /// <number> of block …`; all others went on), and files of the table (`file <path>`; those beside it are joined without it).
    pub damaged: Vec<(String, String)>,
    /// For how long the oldest segment could have been sealed.
    pub unsealed_ms: u64,
    /// For how long the oldest block could have been promoted.
    pub unpromoted_ms: u64,
}

/// Parts, rows and bytes of a stage.
type Amount = (u64, u64, u64);

impl Storage {
    /// Moves what is due at `now` (unix nanoseconds); `stop` is asked before each stage. Blocks on disk and store.
    pub fn moves(
        &self,
        tenant: &TenantId,
        signal: Signal,
        policy: &Policy,
        now: i64,
        dry_run: bool,
        stop: &dyn Fn() -> bool,
    ) -> Moved {
        let mut moved = Moved::default();
        let options = self.seal_options(policy);
        let covered = |tenant: &TenantId, signal, shard| self.covered(tenant, signal, shard);
        let (disk, root, blocks) = (&*self.disk, &*self.root, &self.blocks);
        let env = SealEnv { disk, root, blocks, options: &options, covered: &covered };
        let mut damaged = Vec::new();
        moved.stage(Stage::Seal, stop, || {
            let report = seal::pass(&env, tenant, signal, now, dry_run)?;
            damaged.extend(report.damaged.into_iter().map(|(file, why)| (format!("segment {file}"), why)));
            damaged.extend(report.unread.into_iter().map(|(shard, seq, why)| (block(shard, seq), why)));
            let rows = report.blocks.iter().map(|b| b.rows).sum();
            Ok((report.blocks.len() as u64, rows, report.blocks.iter().map(|b| b.bytes_hot).sum()))
        });
        moved.damaged = damaged;
        moved.stage(Stage::Reclaim, stop, || {
            let reclaimed = seal::reclaim(&env, tenant, signal, now, dry_run)?;
            Ok((reclaimed.segments as u64, 0, reclaimed.bytes))
        });
        self.cold_moves(tenant, signal, policy, now, dry_run, stop, &mut moved);
        match lags(self, tenant, signal, policy, now) {
            Ok((unsealed, unpromoted)) => (moved.unsealed_ms, moved.unpromoted_ms) = (unsealed, unpromoted),
            Err(error) => moved.failures.push((Stage::Promote, error)),
        }
        moved
    }

    /// The stages of the cold tier.
    #[expect(clippy::too_many_arguments, reason = "the second half of a pass, cut out to be readable")]
    fn cold_moves(
        &self,
        tenant: &TenantId,
        signal: Signal,
        policy: &Policy,
        now: i64,
        dry_run: bool,
        stop: &dyn Fn() -> bool,
        moved: &mut Moved,
    ) {
        let env = ColdEnv {
            disk: &*self.disk,
            root: &self.root,
            blocks: &self.blocks,
            tables: &self.tables,
            options: &self.cold,
            writer: self.writer,
            named: &self.named,
        };
        let mut damaged = std::mem::take(&mut moved.damaged);
        // What follows a commit (checkpoint, index) may fail alone: it is told, and done by a later pass.
        let mut later = Vec::new();
        moved.stage(Stage::Promote, stop, || {
            let told = |of: LeftFrame| {
                (of.to_string(), format!("{}; {}: {}", of.why, left::copy_name(of.shard, of.seq), left::MEND))
            };
            let back = left::pass(&env, tenant, signal, now, dry_run)?;
            damaged.extend(back.still.into_iter().map(told));
            damaged.extend(back.unread.into_iter().map(|(what, why)| (what, format!("{why}; {}", left::MEND))));
            later.extend(back.later.map(|error| (Stage::Promote, error)));
            // One that is due takes those behind it with it: files grow larger.
            if promotable(self, tenant, signal, policy, now)?.is_none_or(|at| at > now) {
                return Ok((back.files as u64, back.rows, 0));
            }
            let report = promote::pass(&env, tenant, signal, now, dry_run)?;
            let unread = report.unread.into_iter().map(|(shard, seq, why)| (block(shard, seq), why.to_string()));
            damaged.extend(unread);
            damaged.extend(report.left.into_iter().map(told));
            later.extend(report.later.map(|error| (Stage::Promote, error)));
            Ok((report.blocks as u64 + back.files as u64, report.rows + back.rows, report.bytes_warm))
        });
        if !dry_run {
            moved.stage(Stage::Retire, stop, || Ok((promote::retire(&env, tenant, signal, now)? as u64, 0, 0)));
        }
        moved.stage(Stage::Compact, stop, || {
            let table = self.tables.table(tenant, signal);
            if !dry_run {
                let oldest = now.saturating_sub(nanos(self.cold.sweep_after_ms) / 2).div_euclid(1_000_000);
                let files = table.take_back(now, oldest)?;
                if files > 0 {
                    tracing::warn!(files, "another engine had joined files of the table: they are back as they were");
                }
            }
            let foreign = table.foreign()?;
            let (few, more) = foreign.split_at(foreign.len().min(FOREIGN_TOLD));
            damaged.extend(few.iter().map(|path| (format!("file {path}"), others::MEND.to_owned())));
            if !more.is_empty() {
                damaged.push((format!("{} more files", more.len()), others::MEND.to_owned()));
            }
            let report = compact::pass(&env, tenant, signal, now, COMPACT_GROUPS, dry_run)?;
            damaged.extend(report.damaged.into_iter().map(|(path, why)| (format!("file {path}"), why.to_string())));
            later.extend(report.later.map(|error| (Stage::Compact, error)));
            Ok((report.files_before as u64, report.rows, report.bytes_before))
        });
        if let (Some(cutoff), Some(archive)) = (policy.archive_after.before(now), &self.archive) {
            moved.stage(Stage::Archive, stop, || archive::pass(self, archive, tenant, signal, cutoff, dry_run));
        }
        if let Some(cutoff) = policy.delete_after.before(now) {
            moved.stage(Stage::Expire, stop, || {
                let report = expire::pass(&env, tenant, signal, cutoff, now, dry_run)?;
                Ok((report.files as u64, report.rows, report.bytes))
            });
        }
        moved.stage(Stage::Vacuum, stop, || {
            let report = expire::vacuum(&env, tenant, signal, now, dry_run)?;
            Ok(((report.removed + report.leftover + report.index) as u64, 0, report.bytes))
        });
        damaged.sort_unstable();
        damaged.dedup();
        moved.damaged = damaged;
        moved.failures.append(&mut later);
    }

    /// How a tenant's segments are sealed.
    fn seal_options(&self, policy: &Policy) -> SealOptions {
        let late = policy.warm_after.as_ms().unwrap_or(self.seal.seal_delta_ms);
        SealOptions { seal_delta_ms: late, seal_after_ms: self.seal.seal_after_ms.min(late), ..self.seal.clone() }
    }

    /// When a window's segments that end at this moment may be sealed.
    pub(crate) fn sealable_at(&self, policy: &Policy, window_end: i64) -> i64 {
        let options = self.seal_options(policy);
        Age::ms(options.seal_after_ms).after(window_end).unwrap_or(i64::MAX)
    }
}

/// A block as people are told of it.
fn block(shard: u32, seq: u64) -> String {
    format!("block {seq} of shard {shard}")
}

impl Moved {
    fn stage(&mut self, stage: Stage, stop: &dyn Fn() -> bool, work: impl FnOnce() -> Result<Amount, StoreError>) {
        if stop() {
            return;
        }
        let began = Instant::now();
        match work() {
            Ok((parts, rows, bytes)) => {
                let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.done.push(Done { stage, parts, rows, bytes, nanos });
            }
            Err(error) => self.failures.push((stage, error)),
        }
    }
}
