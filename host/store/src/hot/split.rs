//! Which window each row goes to, and how many rows a frame gets.

use std::collections::BTreeMap;

use arrow::array::UInt32Array;
use prism_model::window::Window;
use prism_model::{Batch, Cleared};

use crate::error::StoreError;
use crate::options::{StoreOptions, nanos};

/// A segment's window, and whether it is the one for rows that came too late (or too early).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) window: Window,
    pub(crate) late: bool,
}

impl Slot {
    /// Where a row of this event time goes that arrives now. A window takes rows until `lateness_ms` after its end.
    fn of(time: i64, now: i64, options: &StoreOptions) -> Slot {
        let window = Window::of(time);
        let too_late = window.end_nanos().saturating_add(nanos(options.lateness_ms)) < now;
        let too_early = time > now.saturating_add(nanos(options.future_ms));
        if too_late || too_early { Slot { window: Window::of(now), late: true } } else { Slot { window, late: false } }
    }
}

/// The batch cut by window; most are not.
pub(crate) fn by_window(
    cleared: Cleared,
    now: i64,
    options: &StoreOptions,
) -> Result<Vec<(Slot, Cleared)>, StoreError> {
    let times = cleared.batch().event_times();
    let mut rows: BTreeMap<Slot, Vec<u32>> = BTreeMap::new();
    let mut last: Option<(Window, Slot)> = None;
    let mut slot_of = |time: i64| match last {
        // Rows of one window go the same way, but for the edge of the future.
        Some((window, slot)) if !slot.late && window == Window::of(time) && time <= now => slot,
        _ => {
            let slot = Slot::of(time, now, options);
            last = Some((Window::of(time), slot));
            slot
        }
    };
    let Some(first) = times.values().first().map(|t| slot_of(*t)) else { return Ok(Vec::new()) };
    if times.values().iter().all(|t| slot_of(*t) == first) {
        return Ok(vec![(first, cleared)]);
    }
    for (row, time) in times.values().iter().enumerate() {
        rows.entry(slot_of(*time)).or_default().push(row as u32);
    }
    let (slots, rows): (Vec<Slot>, Vec<Vec<u32>>) = rows.into_iter().unzip();
    let parts = select(&cleared, rows.into_iter().map(UInt32Array::from))?;
    Ok(slots.into_iter().zip(cleared.rearranged(|_| parts)).collect())
}

/// The batches of one slot as those that frames are made of: about `rows` each, in the same order.
pub(crate) fn into_frames(batches: Vec<Cleared>, rows: usize) -> Result<Vec<Cleared>, StoreError> {
    let rows = rows.max(1);
    // A quarter more is not worth a frame of its own.
    let rows_max = rows + rows / 4;
    let mut out = Vec::new();
    let mut group: Vec<Cleared> = Vec::new();
    let mut grouped = 0;
    for batch in batches {
        let n = batch.batch().rows();
        if grouped > 0 && grouped + n > rows_max {
            out.push(join(std::mem::take(&mut group))?);
            grouped = 0;
        }
        if n > rows_max {
            out.extend(cut(batch, n.div_ceil(rows))?);
        } else {
            grouped += n;
            group.push(batch);
        }
    }
    if !group.is_empty() {
        out.push(join(group)?);
    }
    Ok(out)
}

/// Concatenation keeps every row; what goes in was cleared, so what comes out is.
fn join(batches: Vec<Cleared>) -> Result<Cleared, StoreError> {
    Cleared::joined(batches).map_err(|e| StoreError::Rows(e.to_string()))
}

/// Equal parts in order.
fn cut(batch: Cleared, parts: usize) -> Result<Vec<Cleared>, StoreError> {
    let n = batch.batch().rows();
    let edge = |i: usize| (n * i / parts) as u32;
    let ranges = (0..parts).map(|i| UInt32Array::from_iter_values(edge(i)..edge(i + 1)));
    let selected = select(&batch, ranges)?;
    Ok(batch.rearranged(|_| selected))
}

fn select(cleared: &Cleared, rows: impl Iterator<Item = UInt32Array>) -> Result<Vec<Batch>, StoreError> {
    rows.map(|r| cleared.batch().select(&r).map_err(|e| StoreError::Rows(e.to_string()))).collect()
}
