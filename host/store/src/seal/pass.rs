//! One pass: what is due becomes blocks under the next numbers.

use std::collections::HashSet;
use std::io;

use prism_model::{Batch, ColumnId, Signal, TableKind, TenantId};

use super::plan::{Ended, Plan, plan};
use super::reframe::{Closed, Reframe, Segment, Visit};
use super::{Listed, SealEnv, SealOptions, held, listing, shards};
use crate::control::Create;
use crate::error::StoreError;
use crate::hot::list::segments;
use crate::place::SegmentName;
use crate::rollup::{self, CubeBuilder, CubeLimits};
use crate::warm::name::BlockName;
use crate::warm::write::BlockWriter;

/// Times that a pass decides again after others took its number. Each time at least one block was made, by somebody.
const ATTEMPTS: usize = 5;

/// What a pass did, or in a dry run would do now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SealReport {
    /// The blocks, in order.
    pub blocks: Vec<Sealed>,
    /// Segments that are ended and not due yet.
    pub waiting: usize,
    /// Segments that are not ended.
    pub open: usize,
    /// Segments of which acknowledged rows cannot be read, by file name, and why. What stands in them is sealed all the same;
    /// their files are kept.
    pub damaged: Vec<(String, String)>,
    /// Blocks that cannot be read, by shard and number, and why: nothing is sealed again that one of them may cover.
    pub unread: Vec<(u32, u64, String)>,
    /// Segments that are held for them.
    pub held: usize,
    /// Others sealed at the same time, again and again: the next pass goes on.
    pub outrun: bool,
}

/// A block.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// Its shard.
    pub shard: u32,
    /// Its number.
    pub seq: u64,
    /// File names of its segments.
    pub sources: Vec<String>,
    /// Items.
    pub rows: u64,
    /// Frames; 0 in a dry run.
    pub frames: u32,
    /// Bytes of its segments.
    pub bytes_hot: u64,
    /// Bytes of the object; 0 in a dry run.
    pub bytes: u64,
}

/// Seals what is due of a tenant's signal at `now` (unix nanoseconds). Blocks on disk and store; memory holds a few frames and
/// the footer of a block.
///
/// # Errors
/// `Retry` where disk or store fail. Blocks that were made before stay.
pub fn pass(
    env: &SealEnv<'_>,
    tenant: &TenantId,
    signal: Signal,
    now: i64,
    dry_run: bool,
) -> Result<SealReport, StoreError> {
    let mut report = SealReport::default();
    for shard in shards(env, tenant, signal)? {
        Pass { env, tenant, signal, shard, now }.run(dry_run, &mut report)?;
    }
    Ok(report)
}

/// How far the numbers of a shard have come.
struct Last {
    seq: u64,
    hash: u128,
}

struct Pass<'a> {
    env: &'a SealEnv<'a>,
    tenant: &'a TenantId,
    signal: Signal,
    shard: u32,
    now: i64,
}

impl Pass<'_> {
    fn run(&self, dry_run: bool, report: &mut SealReport) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            // In this order: see the module's docs.
            let blocks = Listed::settled(self.env.blocks.look(self.tenant, self.signal, self.shard, 0)?)?;
            let covered = (self.env.covered)(self.tenant, self.signal, self.shard)?;
            self.check_listing(&blocks, covered)?;
            let mut last = last(&blocks, covered);
            let (plan, held) = self.plan(&blocks, covered, dry_run)?;
            if dry_run {
                self.foresee(&plan, last.seq, report)?;
                self.tell(&blocks, held, report);
                return Ok(());
            }
            let mut lost = false;
            for block in &plan.blocks {
                match self.block(block, &last, report)? {
                    None => {}
                    Some((Create::Created, next)) => last = next,
                    Some((Create::Lost, _)) => {
                        lost = true;
                        break;
                    }
                }
            }
            if !lost {
                report.waiting += plan.waiting;
                report.open += plan.open;
                self.tell(&blocks, held, report);
                return Ok(());
            }
        }
        report.outrun = true;
        Ok(())
    }

    fn tell(&self, blocks: &Listed, held: usize, report: &mut SealReport) {
        report.unread.extend(blocks.unread.iter().map(|(seq, why)| (self.shard, *seq, why.to_string())));
        report.held += held;
    }

    /// The newest block stays for ever. Where the table covers one that is there and was not listed, the listing is old (as it may
    /// be in a folder of a network file system), and what that block covers would be sealed again.
    fn check_listing(&self, blocks: &Listed, covered: u64) -> Result<(), StoreError> {
        if covered == 0 || blocks.newest().is_some_and(|newest| newest >= covered) {
            return Ok(());
        }
        let name = self.name(covered);
        let old = || io::Error::new(io::ErrorKind::WouldBlock, "the listing of blocks is behind the table");
        match self.env.blocks.objects().len(&name.object()) {
            Ok(_) => Err(StoreError::io("listed blocks", old())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(StoreError::io("listed blocks", e)),
        }
    }

    /// What is due, and how many segments damaged blocks hold.
    fn plan(&self, blocks: &Listed, covered: u64, dry_run: bool) -> Result<(Plan, usize), StoreError> {
        let sealed = blocks.sealed(covered);
        let mut listed =
            segments(self.env.disk, self.env.root, self.tenant, self.signal, &|_, _| true).map_err(listing)?;
        listed.retain(|s| s.name.shard == self.shard);
        let mut held = HashSet::new();
        if !blocks.unread.is_empty() {
            let there: Vec<SegmentName> = listed.iter().map(|s| s.name).filter(|name| !sealed.contains(name)).collect();
            for (seq, _) in &blocks.unread {
                held.extend(held::held(self.env, &self.name(*seq), &there, dry_run)?);
            }
            held.retain(|name| !sealed.contains(name));
            listed.retain(|s| !held.contains(&s.name));
        }
        Ok((plan(&listed, &sealed, self.now, self.env.options), held.len()))
    }

    fn name(&self, seq: u64) -> BlockName {
        BlockName { tenant: self.tenant.clone(), signal: self.signal, shard: self.shard, seq }
    }

    /// What the plan comes to, without doing it.
    fn foresee(&self, plan: &Plan, mut seq: u64, report: &mut SealReport) -> Result<(), StoreError> {
        report.waiting += plan.waiting;
        report.open += plan.open;
        for block in &plan.blocks {
            let mut sealed = self.none_yet(seq + 1);
            for ended in block {
                if let Some(segment) = self.open(ended, report)? {
                    sealed.add(ended, segment.rows());
                }
            }
            if !sealed.sources.is_empty() {
                seq += 1;
                report.blocks.push(sealed);
            }
        }
        Ok(())
    }

    /// Makes a block of these segments; `None` where nothing is left of them.
    fn block(&self, of: &[Ended], last: &Last, report: &mut SealReport) -> Result<Option<(Create, Last)>, StoreError> {
        let name = self.name(last.seq + 1);
        let objects = &**self.env.blocks.objects();
        let mut sealed = self.none_yet(name.seq);
        let mut writer = BlockWriter::begin(objects, self.env.blocks.keys(), name.clone(), self.now, last.hash)?;
        let mut damaged = Vec::new();
        let mut sources = Vec::new();
        let mut rollup = Rollup::new(self.signal, self.env.options);
        let mut reframe = Reframe::new(&mut writer, self.env.options, &mut rollup);
        for ended in of {
            let Some(segment) = self.open(ended, report)? else { continue };
            let taken = reframe.take(&segment)?;
            if let Some(damage) = taken.damage {
                damaged.push((ended.name.file_name(), damage.to_string()));
            }
            sealed.add(ended, taken.source.rows);
            sources.push(taken.source);
        }
        reframe.flush()?;
        if sources.is_empty() {
            return Ok(None);
        }
        let cube = rollup.cube.finish().map(|cube| cube.to_bytes()).transpose()?;
        let written = writer.finish(&sources, cube)?;
        let next = Last { seq: name.seq, hash: written.hash };
        if written.created == Create::Lost {
            return Ok(Some((Create::Lost, next)));
        }
        (sealed.frames, sealed.bytes) = (written.frames, written.bytes);
        report.blocks.push(sealed);
        report.damaged.extend(damaged);
        Ok(Some((Create::Created, next)))
    }

    /// A segment with anything in it.
    fn open(&self, ended: &Ended, report: &mut SealReport) -> Result<Option<Segment>, StoreError> {
        match Segment::open(self.env.disk, self.env.root, self.tenant, self.signal, ended, self.env.blocks.keys())? {
            Ok(segment) if segment.is_empty() => Ok(None),
            Ok(segment) => Ok(Some(segment)),
            Err(Closed::Gone) => Ok(None),
            // Nothing of it can be sealed: it stays where it is, and readers say that it cannot be read.
            Err(Closed::Damaged(damage)) => {
                let found = (ended.name.file_name(), damage.to_string());
                if !report.damaged.contains(&found) {
                    report.damaged.push(found);
                }
                Ok(None)
            }
        }
    }

    fn none_yet(&self, seq: u64) -> Sealed {
        Sealed { shard: self.shard, seq, sources: Vec::new(), rows: 0, frames: 0, bytes_hot: 0, bytes: 0 }
    }
}

impl Sealed {
    fn add(&mut self, ended: &Ended, rows: u64) {
        self.sources.push(ended.name.file_name());
        self.rows += rows;
        self.bytes_hot += ended.valid;
    }
}

/// The last number that was taken, whether its block is still there or not, and whether it can be read or not.
fn last(blocks: &Listed, covered: u64) -> Last {
    match blocks.blocks.last() {
        Some(block) if block.seq >= covered && Some(block.seq) == blocks.newest() => {
            Last { seq: block.seq, hash: block.hash }
        }
        _ => Last { seq: blocks.newest().unwrap_or(0).max(covered), hash: 0 },
    }
}

/// Builds the block's rollup.
struct Rollup {
    signal: Signal,
    cube: CubeBuilder,
}

impl Rollup {
    fn new(signal: Signal, options: &SealOptions) -> Rollup {
        let limits = CubeLimits { entries: options.cube_entries_max, edge_spans: options.cube_spans_max };
        Rollup { signal, cube: CubeBuilder::new(signal, limits) }
    }
}

impl Visit for Rollup {
    fn wants(&self, table: TableKind, id: &ColumnId) -> bool {
        rollup::wants(self.signal, table, id)
    }

    fn rows(&mut self, batch: &Batch) {
        self.cube.add(batch);
    }
}
