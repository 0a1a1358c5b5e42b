//! What of a tenant's signal lies where, how far each tier lags, and what comes next.

use std::collections::HashSet;
use std::sync::Arc;

use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};

use super::Storage;
use super::metrics::Stage;
use super::policy::Policy;
use super::verify::MEND;
use crate::cold::delta::{Pinned, others};
use crate::cold::left;
use crate::error::StoreError;
use crate::hot::list;
use crate::hot::scan::{NoIndex, SegmentIndex};
use crate::seal;
use crate::unit::Tier;
use crate::warm::Block;
use crate::warm::name::BlockName;

/// How far ahead a block may have been made by clocks that differ.
const AHEAD_NANOS: i64 = 3_600_000_000_000;

/// What lies in a tier.
#[derive(Clone, Debug, PartialEq)]
pub struct TierStatus {
    /// Which.
    pub tier: Tier,
    /// Rows, those of a segment that a block covers in that block alone.
    pub rows: u64,
    /// Bytes of them as they are stored.
    pub bytes: u64,
    /// Segments, blocks or files.
    pub parts: u64,
    /// Parts that a colder tier has and that are deleted when no query reads them any more.
    pub leaving: u64,
    /// Smallest and largest event time, unix nanoseconds; `None` where there are no rows.
    pub times: Option<(i64, i64)>,
    /// Bytes of a row as columns in memory, by the largest part that was looked at; `None` where none was.
    pub memory_bytes_per_row: Option<f64>,
    /// For how long the oldest part could have gone on.
    pub lag_ms: u64,
}

impl TierStatus {
    /// How many times smaller rows are than as columns in memory.
    pub fn compression(&self) -> Option<f64> {
        let per_row = self.memory_bytes_per_row?;
        (self.bytes > 0).then(|| per_row * self.rows as f64 / self.bytes as f64)
    }
}

/// What lies where, of a tenant's signal.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Of which.
    pub signal: Signal,
    /// The ages in force.
    pub policy: Policy,
    /// The tiers, hot first.
    pub tiers: [TierStatus; 3],
    /// What comes next and when, unix nanoseconds, in that order; what is due since before is due now.
    pub next: Vec<(i64, Stage)>,
    /// Parts that cannot be read.
    pub unreadable: Vec<String>,
}

/// What lies in which tier, of one moment.
struct Tiers {
    pinned: Pinned,
    /// Segments that no block covers.
    hot: Vec<list::Listed>,
    /// Segments that a block covers.
    covered: u64,
    /// By shard all blocks, also those that the table covers.
    blocks: Vec<(u32, seal::Listed)>,
}

impl Tiers {
    /// Looks in the order in which a snapshot is taken ([`crate::read`]), so that what moves meanwhile is in one of them.
    fn look(storage: &Storage, tenant: &TenantId, signal: Signal, range: TimeRange) -> Result<Tiers, StoreError> {
        let pinned = storage.tables.table(tenant, signal).pin(range)?;
        let listed = list::segments(&*storage.disk, &storage.root, tenant, signal, &|_, _| true);
        let listed = listed.map_err(|e| StoreError::io("listed segments", e))?;
        let blocks = seal::Listed::by_shard(&storage.blocks, tenant, signal)?;
        let through = |shard| pinned.covered.get(shard).copied().unwrap_or(0);
        let sealed: HashSet<_> = blocks.iter().flat_map(|(shard, of)| of.sealed(through(shard))).collect();
        let all = listed.len();
        let hot: Vec<_> = listed.into_iter().filter(|segment| !sealed.contains(&segment.name)).collect();
        Ok(Tiers { covered: (all - hot.len()) as u64, hot, blocks, pinned })
    }

    /// The blocks of a shard whose rows the table has, or has not.
    fn in_table<'a>(&self, shard: u32, of: &'a seal::Listed, wanted: bool) -> impl Iterator<Item = &'a Arc<Block>> {
        let through = self.pinned.covered.get(&shard).copied().unwrap_or(0);
        of.blocks.iter().filter(move |block| (block.seq <= through) == wanted)
    }

    /// When the first segment is to be sealed, and the first block promoted.
    fn next(&self, storage: &Storage, policy: &Policy, now: i64) -> (Option<i64>, Option<i64>) {
        let hot = self.hot.iter().map(|segment| storage.sealable_at(policy, segment.name.window.end_nanos())).min();
        let warm = self.blocks.iter().flat_map(|(shard, of)| self.in_table(*shard, of, false));
        (hot, warm.filter_map(|block| promoted_at(policy, now, block.created)).min())
    }
}

/// For how many milliseconds the oldest segment could have been sealed, and the oldest block be promoted.
pub(crate) fn lags(
    storage: &Storage,
    tenant: &TenantId,
    signal: Signal,
    policy: &Policy,
    now: i64,
) -> Result<(u64, u64), StoreError> {
    // Of no time: which blocks the table covers is enough.
    let nothing = TimeRange { from: 0, to: 0 };
    let (hot, warm) = Tiers::look(storage, tenant, signal, nothing)?.next(storage, policy, now);
    Ok((since(hot, now), since(warm, now)))
}

/// Milliseconds from then to now.
fn since(then: Option<i64>, now: i64) -> u64 {
    then.map_or(0, |then| u64::try_from(now.saturating_sub(then) / 1_000_000).unwrap_or(0))
}

/// When a block is to be promoted. One that was made far in the future was made by a clock that was wrong: its age is unknown, and
/// long enough.
fn promoted_at(policy: &Policy, now: i64, created: i64) -> Option<i64> {
    let ahead = now.saturating_add(AHEAD_NANOS);
    policy.cold_after.after(created).map(|at| if created > ahead { now } else { at })
}

/// When the oldest block that the table does not cover is to be promoted.
pub(crate) fn promotable(
    storage: &Storage,
    tenant: &TenantId,
    signal: Signal,
    policy: &Policy,
    now: i64,
) -> Result<Option<i64>, StoreError> {
    let mut first = None;
    for shard in storage.blocks.shards(tenant, signal)? {
        let covered = storage.covered(tenant, signal, shard)?;
        let blocks = storage.blocks.look(tenant, signal, shard, covered)?;
        let created = blocks.iter().filter_map(|found| Some(found.block.as_ref().ok()?.created));
        let due = created.filter_map(|created| promoted_at(policy, now, created)).min();
        first = first.into_iter().chain(due).min();
    }
    Ok(first)
}

/// What of a tenant's signal lies where at `now` (unix nanoseconds), each row in one tier. Reads headers, footers and the log, and
/// one frame of each tier. Blocks on disk and store.
///
/// # Errors
/// `Retry` where something cannot be listed.
pub fn status(
    storage: &Storage,
    tenant: &TenantId,
    signal: Signal,
    policy: Policy,
    now: i64,
) -> Result<Status, StoreError> {
    let (first, vanished) = look(storage, tenant, signal, policy, now)?;
    // What was listed and is gone has moved on: as a snapshot does, once more.
    if vanished { look(storage, tenant, signal, policy, now).map(|(second, _)| second) } else { Ok(first) }
}

/// The status, and whether something was listed and not there any more.
fn look(
    storage: &Storage,
    tenant: &TenantId,
    signal: Signal,
    policy: Policy,
    now: i64,
) -> Result<(Status, bool), StoreError> {
    let tier = |tier| TierStatus {
        tier,
        rows: 0,
        bytes: 0,
        parts: 0,
        leaving: 0,
        times: None,
        memory_bytes_per_row: None,
        lag_ms: 0,
    };
    let [mut hot, mut warm, mut cold] = [tier(Tier::Hot), tier(Tier::Warm), tier(Tier::Cold)];
    let (mut next, mut unreadable, mut vanished) = (Vec::new(), Vec::new(), false);

    let tiers = Tiers::look(storage, tenant, signal, TimeRange::ALL)?;
    hot.leaving = tiers.covered;
    for segment in &tiers.hot {
        let name = &segment.name;
        let path = storage.root.join(name.dir(tenant, signal)).join(name.file_name());
        let header = name.header(tenant, signal);
        match SegmentIndex::read(&*storage.disk, &path, &header, segment.ended, None, &storage.keys) {
            Ok(index) => {
                hot.parts += 1;
                for entry in &index.frames {
                    let header = &entry.meta.header;
                    hot.add(u64::from(header.rows), header.span(), header.time_min, header.time_max);
                }
            }
            Err(NoIndex::Absent) => {}
            Err(NoIndex::Vanished) => vanished = true,
            Err(error) => unreadable.push(format!("segment {}: {error:?}", name.file_name())),
        }
    }
    for (shard, of) in &tiers.blocks {
        warm.leaving += tiers.in_table(*shard, of, true).count() as u64;
        for block in tiers.in_table(*shard, of, false) {
            warm.parts += 1;
            warm.add(block.rows, block.bytes, block.time_min, block.time_max);
        }
        for (seq, error) in &of.unread {
            vanished |= matches!(error, StoreError::Vanished(_));
            let mend = if matches!(error, StoreError::Damaged(_)) { format!("; {MEND}") } else { String::new() };
            unreadable.push(format!("block {seq} of shard {shard}: {error}{mend}"));
        }
    }
    let (sealed, promoted) = tiers.next(storage, &policy, now);
    next.extend(sealed.map(|at| (at, Stage::Seal)));
    next.extend(promoted.map(|at| (at, Stage::Promote)));
    (hot.lag_ms, warm.lag_ms) = (since(sealed, now), since(promoted, now));

    let pinned = &tiers.pinned;
    let mut oldest: Option<i64> = None;
    for file in &pinned.files {
        cold.parts += 1;
        cold.add(file.rows.unwrap_or(0), file.bytes, file.time_min, file.time_max);
        // Whole days go, when their last moment is old enough.
        let last = file.date.last_nanos();
        oldest = Some(oldest.map_or(last, |oldest| oldest.min(last)));
    }
    for ((shard, seq), numbers) in &pinned.left {
        let name = BlockName { tenant: tenant.clone(), signal, shard: *shard, seq: *seq };
        let copy = left::copy_name(*shard, *seq);
        match storage.blocks.left(&name) {
            Ok(block) => {
                let mut rows = 0;
                for frame in numbers.iter().filter_map(|number| block.frame(*number)) {
                    let stats = frame.stats();
                    rows += stats.rows as u64;
                    warm.add(stats.rows as u64, stats.bytes, stats.time_min, stats.time_max);
                }
                let frames = numbers.len();
                unreadable.push(format!(
                    "{copy}: {frames} frames of {rows} rows were damaged, and all others are cold; {}",
                    left::MEND
                ));
            }
            Err(error) => unreadable.push(format!("{copy}: {error}; {}", left::MEND)),
        }
    }
    let foreign = pinned.files.iter().filter(|file| file.foreign);
    unreadable.extend(foreign.map(|file| format!("file {}: {}", file.path, others::MEND)));
    unreadable.extend(pinned.elsewhere.iter().map(|path| format!("file {path}: outside of the table's folder")));
    let of_oldest = |age: super::Age, stage| Some((age.after(oldest?)?, stage));
    if storage.archive.is_some() {
        next.extend(of_oldest(policy.archive_after, Stage::Archive));
    }
    next.extend(of_oldest(policy.delete_after, Stage::Expire));
    next.sort_unstable();

    let mut tiers = [hot, warm, cold];
    tiers.iter_mut().for_each(|tier| tier.sample(storage, tenant, signal));
    Ok((Status { signal, policy, tiers, next, unreadable }, vanished))
}

impl TierStatus {
    fn add(&mut self, rows: u64, bytes: u64, time_min: i64, time_max: i64) {
        self.rows += rows;
        self.bytes += bytes;
        if rows > 0 {
            let (min, max) = self.times.unwrap_or((i64::MAX, i64::MIN));
            self.times = Some((min.min(time_min), max.max(time_max)));
        }
    }

    /// Reads one frame at the newest rows, to see how large they are in memory.
    fn sample(&mut self, storage: &Storage, tenant: &TenantId, signal: Signal) {
        let Some((_, newest)) = self.times else { return };
        let at = TimeRange { from: newest, to: newest.saturating_add(1) };
        let Ok(snapshot) = storage.reader.snapshot(tenant, signal, at) else { return };
        let frames = snapshot.frames.iter().filter(|frame| frame.tier() == self.tier && frame.rows() > 0);
        let Some(frame) = frames.max_by_key(|frame| frame.rows()) else { return };
        if let Ok((batch, _)) = frame.read(&|_, _| true) {
            self.memory_bytes_per_row = Some(batch.memory_bytes() as f64 / batch.rows().max(1) as f64);
        }
    }
}
