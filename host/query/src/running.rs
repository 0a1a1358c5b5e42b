//! Spans that have started and not ended: a row marked `running` gives way to the row of its end, in every tier.

use std::collections::HashSet;

use arrow::array::{Array, AsArray};
use arrow::buffer::BooleanBuffer;
use prism_model::window::WINDOW_NANOS;
use prism_model::{Batch, ColumnId, Intrinsic, Signal, TableKind};
use prism_store::{Frame, Range, ReadCost, StoreError, Tier};

/// Trace id and span id.
type SpanKey = ([u8; 16], [u8; 8]);

/// The running spans of a snapshot whose end is in it too.
#[derive(Debug, Default)]
pub(crate) struct Superseded {
    ended: HashSet<SpanKey>,
    /// What it took to find them, frame by frame.
    pub(crate) costs: Vec<(Tier, ReadCost)>,
}

/// Whether some span of a frame may be marked.
pub(crate) fn has_running(frame: &Frame) -> bool {
    let column = frame.columns(TableKind::Items).iter().find(|c| c.id == ColumnId::Intrinsic(Intrinsic::Running));
    column.is_some_and(|column| !matches!(column.range, Some(Range::Bool { any_true: false, .. })))
}

impl Superseded {
    /// Looks for them, which costs nothing where no span is marked. `asked`: whether rows of a frame may be in the answer.
    ///
    /// A span's time is its start, which its mark and its end have in common, so that the end is looked for only in frames
    /// about the time of a mark, in whatever tier, and there only where the filter knows its trace. Blocks on the disk.
    ///
    /// # Errors
    /// Where a frame cannot be read.
    pub(crate) fn find(
        signal: Signal,
        frames: &[Frame],
        asked: &dyn Fn(&Frame) -> bool,
    ) -> Result<Superseded, StoreError> {
        let mut superseded = Superseded::default();
        let marked: Vec<&Frame> = frames.iter().filter(|f| has_running(f) && asked(f)).collect();
        if signal != Signal::Spans || marked.is_empty() {
            return Ok(superseded);
        }
        let columns = Superseded::columns();
        let mut running = HashSet::new();
        let mut traces = HashSet::new();
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        for frame in marked {
            let wanted = |id: &ColumnId| *id == ColumnId::Intrinsic(Intrinsic::Time) || columns.contains(id);
            let (batch, cost) = frame.read(&|table, id| table == TableKind::Items && wanted(id))?;
            superseded.costs.push((frame.tier(), cost));
            let times = batch.event_times();
            visit(&[batch], |row, key, runs| {
                if runs {
                    traces.insert(key.0);
                    running.insert(key);
                    (first, last) = (first.min(times.value(row)), last.max(times.value(row)));
                }
            });
        }
        // Clocks that were set in between move the start by little.
        let (first, last) = (first.saturating_sub(WINDOW_NANOS), last.saturating_add(WINDOW_NANOS));
        let near = |frame: &&Frame| frame.stats().time_min <= last && frame.stats().time_max >= first;
        let known = |frame: &&Frame| traces.iter().any(|trace| frame.may_contain_trace(trace));
        for frame in frames.iter().filter(near).filter(known) {
            let (batch, cost) = frame.read(&|table, id| table == TableKind::Items && columns.contains(id))?;
            superseded.costs.push((frame.tier(), cost));
            visit(&[batch], |_, key, runs| {
                if !runs && running.contains(&key) {
                    superseded.ended.insert(key);
                }
            });
        }
        Ok(superseded)
    }

    /// The columns that tell.
    pub(crate) fn columns() -> HashSet<ColumnId> {
        [Intrinsic::TraceId, Intrinsic::SpanId, Intrinsic::Running].map(ColumnId::Intrinsic).into()
    }

    /// Whether the frame may hold rows that gave way.
    pub(crate) fn touches(&self, frame: &Frame) -> bool {
        !self.ended.is_empty() && has_running(frame)
    }

    /// The rows that stay; `None` where the columns were not read.
    pub(crate) fn others(&self, parts: &[Batch]) -> Option<BooleanBuffer> {
        let mut stays = vec![true; parts.first()?.rows()];
        visit(parts, |row, key, runs| stays[row] = !(runs && self.ended.contains(&key)));
        Some(BooleanBuffer::from(stays))
    }
}

fn visit(parts: &[Batch], mut see: impl FnMut(usize, SpanKey, bool)) {
    let column = |i: Intrinsic| parts.iter().find_map(|b| b.items().intrinsic(i));
    let (Some(traces), Some(spans)) = (column(Intrinsic::TraceId), column(Intrinsic::SpanId)) else { return };
    let (traces, spans) = (traces.as_fixed_size_binary(), spans.as_fixed_size_binary());
    let running = column(Intrinsic::Running).map(|a| a.as_boolean());
    for row in 0..traces.len() {
        if traces.is_null(row) || spans.is_null(row) {
            continue;
        }
        let key = traces.value(row).try_into().ok().zip(spans.value(row).try_into().ok());
        let runs = running.is_some_and(|r| r.is_valid(row) && r.value(row));
        if let Some(key) = key {
            see(row, key, runs);
        }
    }
}
