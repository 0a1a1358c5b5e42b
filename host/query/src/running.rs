//! Spans that have started and not ended: a row marked `running` gives way to the row of its end, in every tier.

use std::collections::HashSet;

use arrow::array::{Array, AsArray};
use arrow::buffer::BooleanBuffer;
use prism_model::{Batch, ColumnId, Intrinsic, Signal, TableKind};
use prism_store::{Frame, StoreError};

/// Trace id and span id.
type SpanKey = ([u8; 16], [u8; 8]);

/// The running spans of a snapshot whose end is in it too.
#[derive(Debug, Default)]
pub(crate) struct Superseded {
    ended: HashSet<SpanKey>,
}

fn has_running(frame: &Frame) -> bool {
    frame.columns(TableKind::Items).iter().any(|c| c.id == ColumnId::Intrinsic(Intrinsic::Running))
}

impl Superseded {
    /// Looks for them, which costs nothing where no span is marked. Blocks on the disk.
    ///
    /// # Errors
    /// Where a frame cannot be read.
    pub(crate) fn find(signal: Signal, frames: &[Frame]) -> Result<Superseded, StoreError> {
        let mut superseded = Superseded::default();
        if signal != Signal::Spans || !frames.iter().any(has_running) {
            return Ok(superseded);
        }
        let columns = Superseded::columns();
        let read =
            |frame: &Frame| frame.read(&|table, id| table == TableKind::Items && columns.contains(id)).map(|(b, _)| b);
        let mut running = HashSet::new();
        for frame in frames.iter().filter(|f| has_running(f)) {
            let batch = read(frame)?;
            visit(&[batch], |_, key, runs| {
                if runs {
                    running.insert(key);
                }
            });
        }
        for frame in frames.iter().filter(|f| running.iter().any(|(trace, _)| f.may_contain_trace(trace))) {
            let batch = read(frame)?;
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
