//! Promotion: the rows of blocks become files of the table, by one commit that says so.
//!
//! ```text
//! numbers that the table covers -> blocks above them, without a gap -> frames by time -> files by day -> commit -> checkpoint, index
//! retire: blocks that are covered for longer than a query takes, and whose segments are gone, are deleted
//! ```

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use prism_model::{Signal, TenantId};

use super::delta::{Change, Committed, LeftStep, Table, TxnStep};
use super::gather::{Gather, Gathered};
use super::left::{self, LeftFrame};
use super::{ColdEnv, millis, nanos};
use crate::error::{Damage, StoreError};
use crate::index::IndexReport;
use crate::seal::held::was_damaged;
use crate::seal::{self, Listed, SealEnv, SealOptions};
use crate::warm::name::BlockName;
use crate::warm::{Block, Found};

/// Bytes of footers that are looked at for one commit: of some 6,000 frames of 80 columns. However many blocks wait, no more are in
/// memory.
const FOOTERS_BYTES_MAX: usize = 64 << 20;
/// Times that a shard is looked at again after others promoted its blocks: each time some were.
const ATTEMPTS: usize = 5;
/// A commit so far in the future was made by a clock that was wrong: its age is unknown, and long enough.
const AHEAD_MS: u64 = 60 * 60_000;

/// What a pass did, or in a dry run would do now.
#[derive(Debug, Default)]
pub struct PromoteReport {
    /// Versions that it committed.
    pub versions: Vec<u64>,
    /// Blocks whose rows are now in files.
    pub blocks: usize,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes_warm: u64,
    /// Files; 0 in a dry run.
    pub files: usize,
    /// Bytes of the files; 0 in a dry run.
    pub bytes: u64,
    /// Others promoted the same blocks at the same time: what this pass wrote is swept later.
    pub lost: usize,
    /// The index after it.
    pub index: Option<IndexReport>,
    /// Frames of these blocks that are damaged: the others came to the table, and copies of the blocks are kept for them.
    pub left: Vec<LeftFrame>,
    /// A block that cannot be read, by shard and number, and why: it and those behind it stay where they are.
    pub unread: Vec<(u32, u64, StoreError)>,
    /// What failed after the commits, and is done by a later pass: checkpoint, a shorter log, the index.
    pub later: Option<StoreError>,
}

/// Promotes all blocks of a tenant's signal that the table does not cover. Blocks on the objects. Memory holds
/// `cold.hold_bytes_max` of rows.
///
/// # Errors
/// `Retry` where the objects fail or the table may not be written to (another engine changed it): the blocks stay. `Bug` where a
/// block is missing. What was committed before stays. Damaged frames are no error: see [`PromoteReport::left`].
pub fn pass(
    env: &ColdEnv<'_>,
    tenant: &TenantId,
    signal: Signal,
    now: i64,
    dry_run: bool,
) -> Result<PromoteReport, StoreError> {
    let table = env.tables.table(tenant, signal);
    let mut report = PromoteReport::default();
    for shard in env.blocks.shards(tenant, signal)? {
        Pass { env, tenant, signal, shard, now, table: &table }.run(dry_run, &mut report)?;
    }
    Ok(report)
}

struct Pass<'a> {
    env: &'a ColdEnv<'a>,
    tenant: &'a TenantId,
    signal: Signal,
    shard: u32,
    now: i64,
    table: &'a Table,
}

impl Pass<'_> {
    fn run(&self, dry_run: bool, report: &mut PromoteReport) -> Result<(), StoreError> {
        let mut attempts = 0;
        // What a dry run has told of.
        let mut foreseen = 0;
        while attempts < ATTEMPTS {
            let before = self.table.covered(self.shard)?;
            let after = before.unwrap_or(0).max(foreseen);
            let mut listed = Listed::settled(self.some(after)?)?;
            let mut blocks = listed.blocks;
            if let Some((seq, _)) = listed.unread.first() {
                // Rows come to the table in the order of the numbers.
                blocks.retain(|block| block.seq < *seq);
                if blocks.is_empty() {
                    let (seq, why) = listed.unread.swap_remove(0);
                    report.unread.push((self.shard, seq, why));
                    return Ok(());
                }
            }
            let before = if dry_run { before.max(Some(foreseen)) } else { before };
            let Some(run) = self.run_of(before, &blocks)? else {
                attempts += 1;
                continue;
            };
            let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
            if dry_run {
                self.count(run, report);
                foreseen = last.seq;
                continue;
            }
            let step = TxnStep { shard: self.shard, before, last: last.seq };
            let label = format!("{}-{}-{}", self.shard, first.seq, last.seq);
            let (gathered, left) = self.gather(run, label)?;
            if gathered.files.is_empty() && self.table.log()?.is_none() {
                // A table begins with the columns of a file. These blocks wait for one that has a row that can be read.
                report.unread.extend(left.into_iter().map(|frame| (self.shard, frame.seq, frame.why)));
                return Ok(());
            }
            match self.commit(step, &gathered, run, &left)? {
                Committed::At(version) => {
                    report.versions.push(version);
                    report.files += gathered.files.len();
                    report.bytes += gathered.bytes;
                    self.count(run, report);
                    report.rows -= left.iter().map(|frame| frame.rows).sum::<u64>();
                    report.left.extend(left);
                    self.after(&gathered.traces, report);
                }
                Committed::Lost => {
                    report.lost += 1;
                    attempts += 1;
                }
            }
        }
        Ok(())
    }

    /// Blocks above a number, as many as a commit may be of, and one more.
    fn some(&self, after: u64) -> Result<Vec<Found>, StoreError> {
        let (mut rows, mut bytes) = (0, 0);
        let mut few = |found: &Found| {
            if let Ok(block) = &found.block {
                (rows, bytes) = (rows + block.rows, bytes + block.memory_bytes());
            }
            rows <= self.env.options.commit_rows_max && bytes <= FOOTERS_BYTES_MAX
        };
        self.env.blocks.look_while(self.tenant, self.signal, self.shard, after, &mut few)
    }

    /// The blocks of the next commit; `None` where others promoted meanwhile.
    fn run_of<'b>(
        &self,
        before: Option<u64>,
        blocks: &'b [Arc<Block>],
    ) -> Result<Option<&'b [Arc<Block>]>, StoreError> {
        let (mut next, mut rows, mut count) = (before.unwrap_or(0) + 1, 0, 0);
        for block in blocks {
            if block.seq != next && !self.removed(next..block.seq)? {
                if self.table.covered(self.shard)? != before {
                    return Ok(None);
                }
                // Numbers have no gaps: its rows would be passed over for ever.
                if count == 0 {
                    return Err(Damage::Missing("a block", next).into());
                }
                break;
            }
            if count > 0 && rows + block.rows > self.env.options.commit_rows_max {
                break;
            }
            (next, rows, count) = (block.seq + 1, rows + block.rows, count + 1);
        }
        Ok(Some(&blocks[..count]))
    }

    /// Whether all of these numbers are of blocks that were damaged and that somebody removed since, for good.
    fn removed(&self, mut numbers: Range<u64>) -> Result<bool, StoreError> {
        let (tenant, signal, shard) = (self.tenant.clone(), self.signal, self.shard);
        let mut name = BlockName { tenant, signal, shard, seq: 0 };
        let mut was_damaged = |seq| {
            name.seq = seq;
            was_damaged(&**self.env.blocks.objects(), &name)
        };
        numbers.try_fold(true, |all, seq| Ok(all && was_damaged(seq)?))
    }

    fn count(&self, blocks: &[Arc<Block>], report: &mut PromoteReport) {
        report.blocks += blocks.len();
        report.rows += blocks.iter().map(|b| b.rows).sum::<u64>();
        report.bytes_warm += blocks.iter().map(|b| b.bytes).sum::<u64>();
    }

    /// The rows as files: frames by time, so that each file is of a narrow stretch of it. And the frames that are damaged.
    fn gather(&self, blocks: &[Arc<Block>], label: String) -> Result<(Gathered, Vec<LeftFrame>), StoreError> {
        let numbered = |block: &Arc<Block>| {
            let (block, count) = (block.clone(), block.frames as u32);
            (0..count).filter_map(move |number| Some((block.seq, number, block.frame(number)?)))
        };
        let mut frames: Vec<_> = blocks.iter().flat_map(numbered).collect();
        frames.sort_by_key(|(_, _, frame)| frame.stats().time_min);
        let mut gather = Gather::new(self.env, self.table, self.signal, label, self.now)?;
        let mut left = Vec::new();
        for (seq, number, frame) in &frames {
            match frame.read(&|_, _| true) {
                Ok((batch, _)) => gather.add(batch)?,
                Err(why) if left::is_damage(&why) => {
                    let (shard, rows) = (self.shard, frame.rows() as u64);
                    left.push(LeftFrame { shard, seq: *seq, frame: *number, rows, why });
                }
                Err(error) => return Err(error),
            }
        }
        let gathered = gather.finish()?;
        // ST-4: promotion keeps the multiset of rows.
        let rows = blocks.iter().map(|b| b.rows).sum::<u64>() - left.iter().map(|f| f.rows).sum::<u64>();
        if gathered.rows != rows {
            return Err(StoreError::Rows(format!("expected {rows} rows of blocks in files, found {}", gathered.rows)));
        }
        Ok((gathered, left))
    }

    /// Commits the files, with what they cover and what of that is left; copies of the blocks of those stand before.
    fn commit(
        &self,
        step: TxnStep,
        gathered: &Gathered,
        blocks: &[Arc<Block>],
        left: &[LeftFrame],
    ) -> Result<Committed, StoreError> {
        let mut steps = Vec::new();
        for block in blocks {
            let after: BTreeSet<u32> = left.iter().filter(|f| f.seq == block.seq).map(|f| f.frame).collect();
            if !after.is_empty() {
                left::keep(self.env, block)?;
                steps.push(LeftStep { shard: self.shard, seq: block.seq, before: BTreeSet::new(), after });
            }
        }
        self.table.commit(&Change {
            operation: "WRITE",
            now: self.now,
            begun: millis(self.now),
            columns: gathered.columns.clone(),
            adds: gathered.files.clone(),
            data_change: true,
            steps: vec![step],
            left: steps,
            ..Change::default()
        })
    }

    fn after(&self, traces: &HashMap<String, Vec<u64>>, report: &mut PromoteReport) {
        match self.env.keep_up(self.table, self.tenant, self.signal, self.now, traces) {
            Ok(index) => report.index = Some(index),
            Err(error) => {
                tracing::warn!(%error, "a table was committed to, and what follows is left to a later pass");
                report.later = Some(error);
            }
        }
    }
}

/// Deletes blocks whose rows are in the table for longer than `cold.read_grace_ms` and whose segments are gone; gives how many.
/// Blocks on disk and objects.
///
/// # Errors
/// As [`seal::retire`] and [`Table::pin`].
pub fn retire(env: &ColdEnv<'_>, tenant: &TenantId, signal: Signal, now: i64) -> Result<usize, StoreError> {
    let table = env.tables.table(tenant, signal);
    let options = SealOptions::default();
    let covered = |tenant: &TenantId, signal, shard| {
        let table = env.tables.table(tenant, signal);
        table.covered(shard).map(|seq| seq.unwrap_or(0))
    };
    let seal = SealEnv { disk: env.disk, root: env.root, blocks: env.blocks, options: &options, covered: &covered };
    let mut retired = 0;
    for (shard, through, at) in table.covered_at()? {
        let over = at.saturating_add(nanos(env.options.read_grace_ms)) <= now;
        if over || at > now.saturating_add(nanos(AHEAD_MS)) {
            retired += seal::retire(&seal, tenant, signal, shard, through)?;
            left::sweep(env, tenant, signal, shard, now)?;
        }
    }
    Ok(retired)
}
