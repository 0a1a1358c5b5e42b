//! One trace by its id, without a time range: an index tells which files of the table may hold it, filters which frames of
//! blocks and segments; only those are read.

use std::collections::HashSet;
use std::time::Instant;

use arrow::array::{Array, AsArray, UInt32Array};
use arrow::row::{RowConverter, SortField};
use prism_model::{Batch, ColumnId, Intrinsic, Signal, TableKind, TenantId};
use prism_store::{Exact, Frame, Reader, StoreError};

use crate::answer::{Partial, Stats, TierStats};
use crate::engine::{Engine, blocking, nanos};
use crate::error::QueryError;
use crate::running::Superseded;

/// The spans of a trace.
#[derive(Clone, Debug)]
pub struct TraceAnswer {
    /// Spans with everything that belongs to them, in the order in which they were stored; none where the trace is not
    /// known. Spans that are identical in every byte are there once.
    pub batches: Vec<Batch>,
    /// What it cost, and what is missing.
    pub stats: Stats,
}

impl TraceAnswer {
    /// How many spans.
    pub fn spans(&self) -> usize {
        self.batches.iter().map(Batch::rows).sum()
    }
}

impl Engine {
    /// The spans of one trace of one tenant (QU-1: bound to an id instead of a range).
    ///
    /// # Errors
    /// `Retry` where the store cannot be listed. Parts that cannot be read make the answer partial instead.
    pub async fn trace(&self, tenant: &TenantId, id: &[u8; 16]) -> Result<TraceAnswer, QueryError> {
        let (reader, tenant, id) = (self.reader.clone(), tenant.clone(), *id);
        blocking(move || match spans(&reader, &tenant, &id, true) {
            // What it read moved to a colder tier meanwhile: it begins anew, once.
            Err(QueryError::Store(StoreError::Vanished(_))) => spans(&reader, &tenant, &id, false),
            answered => answered,
        })
        .await
    }
}

/// Reads a trace. What vanishes is an error where it `restarts`, and makes the answer partial else. Blocks on the disk.
fn spans(reader: &Reader, tenant: &TenantId, id: &[u8; 16], restarts: bool) -> Result<TraceAnswer, QueryError> {
    let started = Instant::now();
    let snapshot = reader.trace(tenant, Signal::Spans, id)?;
    let (frames, tiers) = (snapshot.frames, [snapshot.tiers.hot, snapshot.tiers.warm, snapshot.tiers.cold]);
    let pruned = tiers.map(|found| found.pruned as u64).iter().sum::<u64>();
    let mut stats = Stats {
        from: i64::MIN,
        to: i64::MAX,
        complete_through: i64::MAX,
        frames_total: frames.len() as u64 + pruned,
        frames_pruned: pruned,
        index_reads: snapshot.index_reads,
        tiers: tiers.map(|found| TierStats { parts: found.parts as u64, ..TierStats::default() }),
        ..Stats::default()
    };
    stats.partial = snapshot.unreadable.iter().map(Partial::of_unreadable).collect();
    let superseded = Superseded::find(Signal::Spans, &frames, &|_| true)?;
    superseded.costs.iter().for_each(|(tier, cost)| stats.read(*tier, *cost));
    let mut batches = Vec::new();
    for frame in &frames {
        match of_frame(frame, id, &superseded, &mut stats) {
            Ok(batch) => batches.extend(batch),
            Err(QueryError::Store(error)) if !(restarts && matches!(error, StoreError::Vanished(_))) => {
                tracing::error!(frame = frame.name(), %error, "a frame cannot be read");
                stats.partial.push(Partial { what: format!("frame {}", frame.name()), why: error.to_string() });
            }
            Err(other) => return Err(other),
        }
    }
    let batches = once(batches)?;
    stats.elapsed_nanos = nanos(started.elapsed());
    stats.cpu_nanos = stats.elapsed_nanos;
    Ok(TraceAnswer { batches, stats })
}

/// The trace's spans in a frame: its ids first, everything else only where they are.
fn of_frame(
    frame: &Frame,
    id: &[u8; 16],
    superseded: &Superseded,
    stats: &mut Stats,
) -> Result<Option<Batch>, QueryError> {
    stats.frames_read += 1;
    stats.tiers[frame.tier() as usize].frames_read += 1;
    stats.rows_scanned += frame.rows() as u64;
    let found =
        if superseded.touches(frame) { None } else { frame.rows_of(&Intrinsic::TraceId.into(), Exact::Bytes(id))? };
    let rows = match found {
        Some((rows, cost)) => {
            stats.read(frame.tier(), cost);
            rows
        }
        None => rows_by_column(frame, id, superseded, stats)?,
    };
    if rows.is_empty() {
        return Ok(None);
    }
    stats.rows_matched += rows.len() as u64;
    let (batch, cost) = frame.read_rows(&|_, _| true, &rows)?;
    stats.read(frame.tier(), cost);
    Ok(Some(batch))
}

/// The trace's rows in a frame by its column of ids, without those that gave way to others.
fn rows_by_column(
    frame: &Frame,
    id: &[u8; 16],
    superseded: &Superseded,
    stats: &mut Stats,
) -> Result<UInt32Array, QueryError> {
    let trace = ColumnId::Intrinsic(Intrinsic::TraceId);
    let ids = if superseded.touches(frame) { Superseded::columns() } else { HashSet::from([trace]) };
    let (batch, cost) = frame.read(&|table, column| table == TableKind::Items && ids.contains(column))?;
    stats.read(frame.tier(), cost);
    let Some(traces) = batch.items().intrinsic(Intrinsic::TraceId) else { return Ok(Vec::<u32>::new().into()) };
    let traces = traces.as_fixed_size_binary();
    let stays = superseded.others(std::slice::from_ref(&batch));
    let wanted =
        |row: &usize| traces.value(*row) == id && traces.is_valid(*row) && stays.as_ref().is_none_or(|s| s.value(*row));
    Ok((0..traces.len()).filter(wanted).map(|row| row as u32).collect::<Vec<u32>>().into())
}

/// Drops spans that repeat an earlier one in every byte: retried exports store them twice, and stay counted twice, but a
/// trace shows them once.
fn once(batches: Vec<Batch>) -> Result<Vec<Batch>, QueryError> {
    let bug = |e: &dyn std::fmt::Display| QueryError::Engine(e.to_string());
    if batches.is_empty() {
        return Ok(batches);
    }
    let whole = Batch::concat(&batches).map_err(|e| bug(&e))?;
    if !repeats(&whole) {
        return Ok(vec![whole]);
    }
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for row in 0..whole.rows() as u32 {
        // Selecting one row brings everything that belongs to it, in a canonical arrangement.
        let one = whole.select(&UInt32Array::from(vec![row])).map_err(|e| bug(&e))?;
        if seen.insert(fingerprint(&one)?) {
            kept.push(row);
        }
    }
    if kept.len() == whole.rows() {
        return Ok(vec![whole]);
    }
    let rows = UInt32Array::from(kept);
    Ok(vec![whole.select(&rows).map_err(|e| bug(&e))?])
}

/// Whether two spans have one id, without which none repeats another.
fn repeats(batch: &Batch) -> bool {
    let Some(ids) = batch.items().intrinsic(Intrinsic::SpanId) else { return true };
    let mut seen = HashSet::with_capacity(ids.len());
    !ids.as_fixed_size_binary().iter().all(|id| seen.insert(id))
}

/// All bytes of a batch, but for where it came from.
fn fingerprint(batch: &Batch) -> Result<Vec<u8>, QueryError> {
    let mut out = Vec::new();
    for table in batch.tables() {
        out.push(table.kind() as u8);
        out.extend((table.rows() as u64).to_le_bytes());
        let mut columns: Vec<_> = table.columns().iter().collect();
        columns.sort_by(|a, b| a.id.cmp(&b.id));
        for column in columns {
            let plain = arrow::compute::cast(&column.array, &column.id.data_type())?;
            // A column of defaults and an absent one are the same fact.
            if plain == prism_model::reshape::default_array(&column.id, table.rows()) {
                continue;
            }
            out.extend(column.id.to_string().as_bytes());
            out.push(0);
            let converter = RowConverter::new(vec![SortField::new(plain.data_type().clone())])?;
            for row in converter.convert_columns(&[plain])?.iter() {
                out.extend((row.data().len() as u64).to_le_bytes());
                out.extend_from_slice(row.data());
            }
        }
    }
    Ok(out)
}
