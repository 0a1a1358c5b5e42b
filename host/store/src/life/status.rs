//! What of a tenant's signal lies where, how far each tier lags, and what comes next.

use std::collections::HashSet;

use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};

use super::Storage;
use super::metrics::Stage;
use super::policy::Policy;
use super::verify::MEND;
use crate::cold::delta::others;
use crate::cold::left;
use crate::error::StoreError;
use crate::hot::list::{Listed, segments};
use crate::hot::scan::SegmentIndex;
use crate::unit::Tier;
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

/// What is in hot and not in a block, and the blocks that the table does not cover.
struct Ahead {
    /// Segments that no block covers.
    hot: Vec<Listed>,
    /// Segments that a block covers.
    covered: u64,
}

fn ahead(storage: &Storage, tenant: &TenantId, signal: Signal) -> Result<Ahead, StoreError> {
    // Hot before warm: what is sealed in between is told as hot, and nothing is missing.
    let listed = segments(&*storage.disk, &storage.root, tenant, signal, &|_, _| true);
    let listed = listed.map_err(|e| StoreError::io("listed segments", e))?;
    let mut sealed = HashSet::new();
    for shard in storage.blocks.shards(tenant, signal)? {
        for found in storage.blocks.look(tenant, signal, shard, 0)? {
            sealed.extend(found.block.iter().flat_map(|block| block.sources.iter().map(|source| source.name)));
        }
    }
    let all = listed.len();
    let hot: Vec<Listed> = listed.into_iter().filter(|segment| !sealed.contains(&segment.name)).collect();
    Ok(Ahead { covered: (all - hot.len()) as u64, hot })
}

/// For how many milliseconds the oldest segment could have been sealed, and the oldest block be promoted.
pub(crate) fn lags(
    storage: &Storage,
    tenant: &TenantId,
    signal: Signal,
    policy: &Policy,
    now: i64,
) -> Result<(u64, u64), StoreError> {
    let since = |at: Option<i64>| at.map_or(0, |at| u64::try_from(now.saturating_sub(at) / 1_000_000).unwrap_or(0));
    let hot = ahead(storage, tenant, signal)?.hot;
    let unsealed = hot.iter().map(|segment| storage.sealable_at(policy, segment.name.window.end_nanos())).min();
    Ok((since(unsealed), since(promotable(storage, tenant, signal, policy, now)?)))
}

/// When the oldest block that the table does not cover is to be promoted. One that was made far in the future was made by a clock
/// that was wrong: its age is unknown, and long enough.
pub(crate) fn promotable(
    storage: &Storage,
    tenant: &TenantId,
    signal: Signal,
    policy: &Policy,
    now: i64,
) -> Result<Option<i64>, StoreError> {
    let ahead = now.saturating_add(AHEAD_NANOS);
    let due = |created: i64| policy.cold_after.after(created).map(|at| if created > ahead { now } else { at });
    let mut first = None;
    for shard in storage.blocks.shards(tenant, signal)? {
        let covered = storage.covered(tenant, signal, shard)?;
        let blocks = storage.blocks.look(tenant, signal, shard, covered)?;
        let due = blocks.iter().filter_map(|found| due(found.block.as_ref().ok()?.created)).min();
        first = first.into_iter().chain(due).min();
    }
    Ok(first)
}

/// What of a tenant's signal lies where at `now` (unix nanoseconds). Reads headers, footers and the log, and one frame of each
/// tier. Blocks on disk and store.
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
    let (mut next, mut unreadable) = (Vec::new(), Vec::new());

    let ahead = ahead(storage, tenant, signal)?;
    hot.leaving = ahead.covered;
    for segment in &ahead.hot {
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
            Err(crate::hot::scan::NoIndex::Absent | crate::hot::scan::NoIndex::Vanished) => {}
            Err(error) => unreadable.push(format!("segment {}: {error:?}", name.file_name())),
        }
    }
    let sealable = ahead.hot.iter().map(|s| storage.sealable_at(&policy, s.name.window.end_nanos())).min();
    next.extend(sealable.map(|at| (at, Stage::Seal)));

    for shard in storage.blocks.shards(tenant, signal)? {
        let covered = storage.covered(tenant, signal, shard)?;
        for found in storage.blocks.look(tenant, signal, shard, 0)? {
            match found.block {
                Ok(_) if found.seq <= covered => warm.leaving += 1,
                Ok(block) => {
                    warm.parts += 1;
                    warm.add(block.rows, block.bytes, block.time_min, block.time_max);
                }
                Err(error @ StoreError::Damaged(_)) => {
                    unreadable.push(format!("block {} of shard {shard}: {error}; {MEND}", found.seq));
                }
                Err(error) => unreadable.push(format!("block {} of shard {shard}: {error}", found.seq)),
            }
        }
    }
    next.extend(promotable(storage, tenant, signal, &policy, now)?.map(|at| (at, Stage::Promote)));

    let pinned = storage.tables.table(tenant, signal).pin(TimeRange::ALL)?;
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

    (hot.lag_ms, warm.lag_ms) = lags(storage, tenant, signal, &policy, now)?;
    let mut tiers = [hot, warm, cold];
    tiers.iter_mut().for_each(|tier| tier.sample(storage, tenant, signal));
    Ok(Status { signal, policy, tiers, next, unreadable })
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
