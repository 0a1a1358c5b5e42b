//! Frames that were damaged when the rest of their blocks came to the table: kept aside and told until they can be read, or are
//! given up.
//!
//! ```text
//! promote: a frame is damaged -> copy of its block (warm/<tenant>/<signal>/<shard>/left/<seq>) -> one commit: files, txn of the shard,
//!          txn of what is left -> pass: frames that read again -> one commit: files, txn of what is left now
//! ```
//!
//! A copy, because blocks go in the order of their numbers: one that stayed would keep all behind it. Readers of a version take
//! from the copies what that version says is left (ST-1). Whoever mends a copy puts a good one of the whole block in its place;
//! whoever removes it gives its rows up. Not here: what a reader does with them (`read`).

use std::collections::BTreeSet;
use std::io;

use prism_model::{Signal, TenantId};

use super::delta::{Change, Committed, LeftStep, Table};
use super::gather::Gather;
use super::{ColdEnv, millis, nanos};
use crate::error::{Damage, StoreError};
use crate::unit::Frame;
use crate::warm::Block;
use crate::warm::name::BlockName;

/// Bytes that are copied at once.
const COPY_BYTES: u64 = 4 << 20;

/// What to do about frames that are left.
pub(crate) const MEND: &str = "put a good copy of the block there, or remove it for good: these rows are lost then";

/// A frame whose rows did not come to the table.
#[derive(Debug)]
pub struct LeftFrame {
    /// Shard of its block.
    pub shard: u32,
    /// Number of its block.
    pub seq: u64,
    /// Its number in the block.
    pub frame: u32,
    /// Its rows.
    pub rows: u64,
    /// Why it cannot be read.
    pub why: StoreError,
}

/// Such a frame as people are told of it.
impl std::fmt::Display for LeftFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "frame {} of block {} of shard {}, {} rows", self.frame, self.seq, self.shard, self.rows)
    }
}

/// What a pass over frames that were left did.
#[derive(Debug, Default)]
pub struct LeftReport {
    /// Rows that came to the table after all.
    pub rows: u64,
    /// Their files.
    pub files: usize,
    /// Frames that cannot be read still.
    pub still: Vec<LeftFrame>,
    /// Copies that cannot be read at all, as people are told of them, and why.
    pub unread: Vec<(String, StoreError)>,
    /// Frames that were given up: somebody removed their copy.
    pub lost: usize,
    /// What failed after a commit, and is done by a later pass.
    pub later: Option<StoreError>,
}

/// Whether reading failed by what no later try mends, so that the rows are left: not what a newer version wrote, which that
/// version reads.
pub(super) fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Damaged(damage) if !matches!(damage, Damage::Version { .. }))
}

/// The copy of a block as people are told of it: where it lies below its shard's folder.
pub(crate) fn copy_name(shard: u32, seq: u64) -> String {
    format!("copy `left/{seq:020}` of block {seq} of shard {shard}")
}

/// Copies a block of which frames are about to be left, unless it was copied before.
pub(super) fn keep(env: &ColdEnv<'_>, block: &Block) -> Result<(), StoreError> {
    let failed = |e| StoreError::io("kept a copy of a damaged block", e);
    let objects = env.blocks.objects();
    let name = BlockName { tenant: block.tenant().clone(), signal: block.signal(), shard: block.shard, seq: block.seq };
    let mut upload = objects.upload(&name.left_object()).map_err(failed)?;
    let mut at = 0;
    while at < block.bytes {
        let to = block.bytes.min(at + COPY_BYTES);
        let bytes = objects.read(&block.object(), at..to).map_err(|e| StoreError::read("read a damaged block", e))?;
        upload.write(&bytes).map_err(failed)?;
        at = to;
    }
    upload.finish().map_err(failed).map(|_ours_or_another_copy| ())
}

/// Brings frames that were left and can be read again to the table, and gives up those whose copy somebody removed. Blocks on the
/// objects.
///
/// # Errors
/// `Retry` where the objects fail or the table may not be written to. What was committed before stays.
pub fn pass(
    env: &ColdEnv<'_>,
    tenant: &TenantId,
    signal: Signal,
    now: i64,
    dry_run: bool,
) -> Result<LeftReport, StoreError> {
    let table = env.tables.table(tenant, signal);
    let mut report = LeftReport::default();
    for ((shard, seq), told) in table.left_told()? {
        if told.frames.is_empty() {
            continue;
        }
        let of = Of { env, table: &table, name: BlockName { tenant: tenant.clone(), signal, shard, seq }, now };
        match env.blocks.left(&of.name) {
            Ok(block) if of.is_there()? => of.recover(&block, &told.frames, dry_run, &mut report)?,
            Ok(_) | Err(StoreError::Vanished(_)) => {
                // A copy that was made a moment ago may not be listed on every node.
                let settled = told.at.saturating_mul(1_000_000).saturating_add(nanos(env.options.read_grace_ms)) <= now;
                if settled && !of.is_there()? {
                    of.give_up(told.frames, dry_run, &mut report)?;
                }
            }
            Err(error @ StoreError::Damaged(_)) => report.unread.push((copy_name(shard, seq), error)),
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

/// A block of which frames are left.
struct Of<'a> {
    env: &'a ColdEnv<'a>,
    table: &'a Table,
    name: BlockName,
    now: i64,
}

impl Of<'_> {
    /// Whether its copy is there, by its folder, which nobody remembers.
    fn is_there(&self) -> Result<bool, StoreError> {
        let object = self.name.left_object();
        let listed = self.env.blocks.objects().list(&self.name.left_folder(), "");
        let listed = listed.map_err(|e| StoreError::io("listed copies of damaged blocks", e))?;
        Ok(listed.iter().any(|listed| listed.name == object))
    }

    fn recover(
        &self,
        block: &Block,
        left: &BTreeSet<u32>,
        dry_run: bool,
        report: &mut LeftReport,
    ) -> Result<(), StoreError> {
        let BlockName { shard, seq, signal, .. } = self.name;
        let mut after = BTreeSet::new();
        let mut gather = Gather::new(self.env, self.table, signal, format!("{shard}-{seq}-left"), self.now)?;
        for number in left {
            let Some(frame) = block.frame(*number) else {
                after.insert(*number);
                continue;
            };
            match frame.read(&|_, _| true) {
                Ok(_) if dry_run => report.rows += frame.rows() as u64,
                Ok((batch, _)) => gather.add(batch)?,
                Err(why) if is_damage(&why) => {
                    after.insert(*number);
                    report.still.push(LeftFrame { shard, seq, frame: *number, rows: frame.rows() as u64, why });
                }
                Err(error) => return Err(error),
            }
        }
        if dry_run || after == *left {
            return Ok(());
        }
        let gathered = gather.finish()?;
        let change = Change {
            operation: "WRITE",
            now: self.now,
            begun: millis(self.now),
            columns: gathered.columns.clone(),
            adds: gathered.files.clone(),
            data_change: true,
            left: vec![LeftStep { shard, seq, before: left.clone(), after }],
            ..Change::default()
        };
        // Where it is lost somebody else did the same.
        if let Committed::At(_) = self.table.commit(&change)? {
            tracing::info!(
                shard,
                seq,
                rows = gathered.rows,
                "frames that were damaged can be read again, and came to the table"
            );
            (report.rows, report.files) = (report.rows + gathered.rows, report.files + gathered.files.len());
            let kept_up = self.env.keep_up(self.table, &self.name.tenant, signal, self.now, &gathered.traces);
            report.later = kept_up.err().or(report.later.take());
        }
        Ok(())
    }

    fn give_up(&self, left: BTreeSet<u32>, dry_run: bool, report: &mut LeftReport) -> Result<(), StoreError> {
        report.lost += left.len();
        if dry_run {
            return Ok(());
        }
        let BlockName { shard, seq, .. } = self.name;
        tracing::error!(
            shard,
            seq,
            frames = left.len(),
            "the copy of a damaged block was removed: its rows are given up"
        );
        self.settle(left, BTreeSet::new())
    }

    fn settle(&self, before: BTreeSet<u32>, after: BTreeSet<u32>) -> Result<(), StoreError> {
        let BlockName { shard, seq, .. } = self.name;
        let change = Change {
            operation: "WRITE",
            now: self.now,
            begun: millis(self.now),
            left: vec![LeftStep { shard, seq, before, after }],
            ..Change::default()
        };
        // Where it is lost somebody else settled it.
        self.table.commit(&change).map(|_at_or_lost| ())
    }
}

/// Gives up frames whose rows are all older than `cutoff` (unix nanoseconds of event time): with the files of their age. Gives how
/// many rows. Blocks on the objects.
///
/// # Errors
/// As [`pass`].
pub(super) fn expire(
    env: &ColdEnv<'_>,
    table: &Table,
    (tenant, signal): (&TenantId, Signal),
    cutoff: i64,
    now: i64,
    dry_run: bool,
) -> Result<u64, StoreError> {
    let mut rows = 0;
    for ((shard, seq), frames) in table.left()? {
        let of = Of { env, table, name: BlockName { tenant: tenant.clone(), signal, shard, seq }, now };
        // One that cannot be read says nothing about times.
        let Ok(block) = env.blocks.left(&of.name) else { continue };
        let old = |frame: &Frame| frame.stats().time_max < cutoff;
        let goes = frames.iter().filter_map(|number| block.frame(*number)).filter(|frame| old(frame));
        let going: u64 = goes.map(|frame| frame.rows() as u64).sum();
        if going > 0 && !dry_run {
            let stays = frames.iter().copied().filter(|number| block.frame(*number).is_none_or(|frame| !old(&frame)));
            let stays = stays.collect();
            of.settle(frames, stays)?;
        }
        rows += going;
    }
    Ok(rows)
}

/// Deletes copies of which nothing is left for longer than the read grace, and those that never came into a commit; gives how many.
///
/// # Errors
/// `Retry` where the objects fail.
pub(super) fn sweep(
    env: &ColdEnv<'_>,
    tenant: &TenantId,
    signal: Signal,
    shard: u32,
    now: i64,
) -> Result<usize, StoreError> {
    let failed = |e: io::Error| StoreError::io("listed copies of damaged blocks", e);
    let objects = env.blocks.objects();
    let mut name = BlockName { tenant: tenant.clone(), signal, shard, seq: 0 };
    let listed = objects.list(&name.left_folder(), "").map_err(failed)?;
    if listed.is_empty() {
        return Ok(0);
    }
    // After the listing: what was copied for a commit since is above what the commit before it covers.
    // Both of one log: what a commit between two would have covered seems to be told by nobody.
    let Some(log) = env.tables.table(tenant, signal).log()? else { return Ok(0) };
    let (told, covered) = (log.left_told(), log.covered().get(&shard).copied().unwrap_or(0));
    let mut swept = 0;
    for object in listed {
        let digits = object.name.rsplit('/').next().unwrap_or_default();
        let Ok(seq) = digits.parse() else { continue };
        name.seq = seq;
        let over = match told.get(&(shard, seq)) {
            Some(told) => {
                let at = told.at.saturating_mul(1_000_000).saturating_add(nanos(env.options.read_grace_ms));
                told.frames.is_empty() && at <= now
            }
            None => seq <= covered,
        };
        if over && name.left_object() == object.name {
            objects.delete(&object.name).map_err(|e| StoreError::io("removed the copy of a damaged block", e))?;
            swept += 1;
        }
    }
    Ok(swept)
}
