//! Everything of a tenant's signal is read again, and held against what was written down about it.
//!
//! Every frame of every tier: its hashes (which reading checks), its rows, times, nulls and ranges against its statistics; what a
//! block covers against what it holds; numbers without gaps; the Delta table against its files (ST-2, ST-3, ST-4). What is
//! deleted by its age while it is read is no finding. Reads whole frames, one at a time. Not here: repair.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use prism_model::window::TimeRange;
use prism_model::{Signal, TableKind, TenantId};

use super::Storage;
use crate::cold::left;
use crate::error::StoreError;
use crate::frame::stats::{ColumnMeta, Range};
use crate::unit::{Frame, Tier};
use crate::warm::name::BlockName;

/// What to do about a block whose end cannot be read.
pub(super) const MEND: &str = "put its object back from a copy, or remove it for good: its rows are lost then";

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub tier: Tier,
    /// Which part, by a name that is safe to show to its tenant.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.tier.as_str(), self.what, self.why)
    }
}

/// What was read, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Frames that were read: of segments, blocks, and row groups of files.
    pub frames: u64,
    /// Their rows; those of a segment that a block covers and that is not deleted yet count twice.
    pub rows: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is not as it should be.
    pub faults: Vec<Fault>,
}

/// Told after each frame: bytes of it.
pub type Progress<'a> = dyn FnMut(u64) + 'a;

/// Reads everything of a tenant's signal again. Blocks on disk and store.
///
/// # Errors
/// `Retry` where something cannot be listed: then nothing is known. What cannot be read is a fault, not an error.
pub fn verify(
    storage: &Storage,
    tenant: &TenantId,
    signal: Signal,
    progress: &mut Progress<'_>,
) -> Result<Verified, StoreError> {
    let mut verified = Verified::default();
    warm(storage, tenant, signal, progress, &mut verified)?;
    // One snapshot is what a query would read: each row once. What is unreadable there is a fault.
    let snapshot = storage.reader.snapshot(tenant, signal, TimeRange::ALL)?;
    for part in &snapshot.unreadable {
        let (what, why) = (part.what.clone(), part.reason.clone());
        verified.faults.push(Fault { tier: part.tier, what, why });
    }
    for frame in snapshot.frames.iter().filter(|frame| frame.tier() != Tier::Warm) {
        verified.frame(frame, progress);
    }
    left(storage, tenant, signal, progress, &mut verified)?;
    cold(storage, tenant, signal, &mut verified)?;
    Ok(verified)
}

/// The blocks: their numbers, what they cover, and all of their frames.
fn warm(
    storage: &Storage,
    tenant: &TenantId,
    signal: Signal,
    progress: &mut Progress<'_>,
    verified: &mut Verified,
) -> Result<(), StoreError> {
    for shard in storage.blocks.shards(tenant, signal)? {
        // The table first: a block that it covers may be deleted while this is read.
        let covered = storage.covered(tenant, signal, shard)?;
        let mut last: Option<u64> = None;
        let mut sources = HashSet::new();
        for found in storage.blocks.look(tenant, signal, shard, 0)? {
            let what = format!("block {} of shard {shard}", found.seq);
            let mut fault = |why: String| verified.faults.push(Fault { tier: Tier::Warm, what: what.clone(), why });
            match last {
                Some(last) if found.seq != last + 1 => fault(format!("expected number {} after {last}", last + 1)),
                None if found.seq > covered + 1 => {
                    fault(format!("the first one; the table covers those up to {covered}: some are missing between"));
                }
                _ => {}
            }
            last = Some(found.seq);
            let block = match found.block {
                Ok(block) => block,
                Err(error @ StoreError::Damaged(_)) => {
                    fault(format!("{error}; {MEND}"));
                    continue;
                }
                Err(error) => {
                    fault(error.to_string());
                    continue;
                }
            };
            for source in &block.sources {
                if !sources.insert((source.window(), source.file_name())) {
                    fault(format!("segment {} is in an earlier block too", source.file_name()));
                }
                if source.lost {
                    fault(format!("segment {} had lost rows when it was sealed", source.file_name()));
                }
            }
            if let Err(error) = block.verify() {
                fault(error.to_string());
            }
            let mut rows = 0;
            for frame in block.frames(TimeRange::ALL) {
                rows += frame.rows() as u64;
                verified.frame(&frame, progress);
            }
            let of_sources: u64 = block.sources.iter().map(|source| source.rows).sum();
            if rows != block.rows || rows != of_sources {
                let why = format!("holds {rows} rows, says {}, and its segments had {of_sources}", block.rows);
                verified.faults.push(Fault { tier: Tier::Warm, what, why });
            }
        }
    }
    Ok(())
}

/// The frames that were damaged when the rest of their blocks came to the table. What can be read again by now is no fault: it
/// comes to the table next.
fn left(
    storage: &Storage,
    tenant: &TenantId,
    signal: Signal,
    progress: &mut Progress<'_>,
    verified: &mut Verified,
) -> Result<(), StoreError> {
    for ((shard, seq), numbers) in storage.tables.table(tenant, signal).left()? {
        let name = BlockName { tenant: tenant.clone(), signal, shard, seq };
        let mut damaged = false;
        if let Ok(block) = storage.blocks.left(&name) {
            for frame in numbers.iter().filter_map(|number| block.frame(*number)) {
                let before = verified.faults.len();
                verified.frame(&frame, progress);
                damaged |= verified.faults.len() > before;
            }
        }
        // A copy that cannot be opened was told with the snapshot.
        if damaged {
            let (what, why) = (left::copy_name(shard, seq), left::MEND.to_owned());
            verified.faults.push(Fault { tier: Tier::Warm, what, why });
        }
    }
    Ok(())
}

/// The Delta table against the store: its files are there, and as long as it says. Their rows were read with the snapshot.
fn cold(storage: &Storage, tenant: &TenantId, signal: Signal, verified: &mut Verified) -> Result<(), StoreError> {
    let pinned = storage.tables.table(tenant, signal).pin(TimeRange::ALL)?;
    for path in &pinned.elsewhere {
        let why = "it lies outside of the table's folder and is not read here".to_owned();
        verified.faults.push(Fault { tier: Tier::Cold, what: path.clone(), why });
    }
    for file in &pinned.files {
        let mut fault = |why| verified.faults.push(Fault { tier: Tier::Cold, what: file.path.clone(), why });
        match storage.objects.len(&file.name) {
            Ok(bytes) if bytes == file.bytes => {}
            Ok(bytes) => fault(format!("has {bytes} bytes, the table says {}", file.bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => fault("is in the table and not there".into()),
            Err(error) => fault(format!("cannot be looked at: {error}")),
        }
    }
    Ok(())
}

impl Verified {
    /// Reads a frame and holds its rows against its statistics.
    fn frame(&mut self, frame: &Frame, progress: &mut Progress<'_>) {
        let (stats, name) = (frame.stats().clone(), frame.name());
        let mut fault = |why: String| {
            self.faults.push(Fault { tier: frame.tier(), what: name.clone(), why });
        };
        match frame.read(&|_, _| true) {
            // Deleted by its age, or moved on, since it was listed: by then its rows were elsewhere.
            Err(StoreError::Vanished(_)) => return,
            Err(error) => fault(error.to_string()),
            Ok((batch, cost)) => {
                self.bytes += cost.bytes;
                if batch.rows() != stats.rows {
                    fault(format!("has {} rows, says {}", batch.rows(), stats.rows));
                }
                let times = batch.event_times();
                let outside = times.values().iter().filter(|t| !(stats.time_min..=stats.time_max).contains(*t)).count();
                if outside > 0 {
                    fault(format!("{outside} rows are of times outside of those that it says"));
                }
                if batch.signal != frame.signal() {
                    fault(format!("is of {}, says {}", batch.signal, frame.signal()));
                }
                for kind in TableKind::ALL {
                    let Some(table) = batch.table(kind) else { continue };
                    for meta in frame.columns(kind) {
                        if let Some(column) = table.column(&meta.id)
                            && let Some(why) = differs(meta, column)
                        {
                            fault(format!("column {:?} of {kind:?}: {why}", meta.id));
                        }
                    }
                }
            }
        }
        self.frames += 1;
        self.rows += stats.rows as u64;
        progress(stats.bytes);
    }
}

/// What about a column is not as its statistics say.
fn differs(meta: &ColumnMeta, column: &ArrayRef) -> Option<String> {
    if column.logical_null_count() != meta.null_count as usize {
        return Some(format!("has {} nulls, says {}", column.logical_null_count(), meta.null_count));
    }
    let (min, max) = (Ordering::Less, Ordering::Greater);
    let outside = match meta.range.as_ref()? {
        Range::Int { min, max } => {
            let values = cast(column, &DataType::Int64).ok()?;
            values.as_primitive::<Int64Type>().iter().flatten().filter(|v| !(min..=max).contains(&v)).count()
        }
        Range::Double { min: low, max: high } => {
            let values = cast(column, &DataType::Float64).ok()?;
            let out = |v: &f64| v.is_nan() || v.partial_cmp(low) == Some(min) || v.partial_cmp(high) == Some(max);
            values.as_primitive::<Float64Type>().iter().flatten().filter(out).count()
        }
        Range::Bool { any_true, any_false } => {
            let values = column.as_boolean_opt()?;
            values.iter().flatten().filter(|v| if *v { !any_true } else { !any_false }).count()
        }
        Range::Text(range) => {
            let values = cast(column, &DataType::Utf8).ok()?;
            let out = |v: &&str| **v < *range.min || range.max.as_ref().is_some_and(|high| **v > **high);
            values.as_string::<i32>().iter().flatten().filter(out).count()
        }
    };
    (outside > 0).then(|| format!("{outside} values lie outside of the range that it says"))
}
