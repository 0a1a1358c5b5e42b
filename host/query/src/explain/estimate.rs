//! What a scan will read, by the statistics of its frames: bounds that hold whatever the rows are.
//!
//! A frame is read in steps, each only if rows are left, so that the first step is certain and all steps together are the
//! most. Not here: reading (`scan`), which follows the same steps.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use prism_model::window::TimeRange;
use prism_model::{ColumnId, Intrinsic, TableKind};
use prism_store::{Frame, ReadCost, Tier};

use crate::bind::query::{Plan, Shape};
use crate::distinct::may_tell;
use crate::eval::node::Node;
use crate::events::times;
use crate::prune;
use crate::reading::{is_interned, wanted};
use crate::running::{Superseded, has_running};
use crate::scan::{Piece, Scan, counted};
use crate::structure::ask::Ask;
use crate::structure::{Passes, SPAN_COLUMNS};

/// What a scan will cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// What it reads in any case.
    pub(crate) least: ReadCost,
    /// What it reads at most.
    pub(crate) most: ReadCost,
    /// Rows of the frames that it reads, at most.
    pub(crate) rows: u64,
    /// Frames that it reads, at most.
    pub(crate) frames: u64,
    /// Values that it looks at, at most: rows times columns.
    pub(crate) cells: u64,
    /// Rollups that answer instead of rows.
    pub(crate) rollups: u64,
    /// Passes over the frames, at most, of which each is about a share of the traces; 0 without structure.
    pub(crate) passes: u64,
    /// There are no more: nothing that is not known before takes room.
    pub(crate) passes_certain: bool,
    /// Frames that are left in each tier, hot to cold.
    pub(crate) tiers: [TierEstimate; 3],
}

/// What is left of a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TierEstimate {
    pub(crate) frames: u64,
    pub(crate) rows: u64,
    /// All bytes of these frames, of which the scan reads a part.
    pub(crate) bytes: u64,
}

impl Estimate {
    /// Of a scan that has not begun. Reads filters, no rows.
    pub(crate) fn of(scan: &Scan) -> Estimate {
        let mut estimate = Estimate { passes_certain: true, ..Estimate::default() };
        let plan = &scan.plan;
        // Rows that frames before this one may bring: where they could fill the answer, this one may be left out.
        let mut before = 0;
        let mut fetches = Vec::new();
        let pieces = scan.pieces();
        for piece in &pieces {
            let (number, but, certain) = match piece {
                Piece::Rollup(unit) => {
                    let cost = unit.cost().unwrap_or_default();
                    estimate.least += cost;
                    estimate.most += cost;
                    estimate.rollups += 1;
                    continue;
                }
                Piece::Frame(number, but) => (*number, *but, true),
                Piece::Perhaps(number) => (*number, None, false),
            };
            let frame = &scan.frames[number];
            let steps = Steps::of(plan, frame, but);
            // Which rows match may leave nothing to read.
            if certain
                && plan.structure.is_none()
                && (scan.bound.is_none()
                    || (before < plan.limit as u64 && plan.after.is_none() && !scan.bound_is_shared))
            {
                estimate.least += steps.certain;
            }
            before += counted(plan, frame) as u64;
            estimate.most += steps.all();
            estimate.cells += steps.cells;
            estimate.rows += counted(plan, frame) as u64;
            estimate.frames += 1;
            let tier = &mut estimate.tiers[frame.tier() as usize];
            tier.frames += 1;
            tier.rows += counted(plan, frame) as u64;
            tier.bytes += frame.stats().bytes;
            if matches!(plan.shape, Shape::Rows) {
                fetches.push(cost(frame, &wanted(plan, frame, plan.columns.iter().map(|c| &c.node)), true));
            }
        }
        // The columns of the first rows, and of those that are alike in the order, which may lie anywhere.
        if plan.limit > 0 {
            fetches.into_iter().for_each(|cost| estimate.most += cost);
        }
        estimate.most += of_running(scan, &pieces);
        if let Some(ask) = &plan.structure {
            let passes = passes(scan, ask);
            (estimate.passes, estimate.passes_certain) = (passes.most, passes.certain);
            let structure = of_structure(scan, ask);
            let Estimate { most, rows, frames, cells, .. } = &mut estimate;
            [&mut most.bytes, &mut most.reads, rows, frames, cells]
                .into_iter()
                .for_each(|n| *n = n.saturating_mul(passes.most));
            most.bytes = most.bytes.saturating_add(structure.bytes.saturating_mul(passes.tried));
            most.reads = most.reads.saturating_add(structure.reads.saturating_mul(passes.tried));
        }
        estimate
    }
}

/// Looking for the ends of spans that have started, wherever they lie.
fn of_running(scan: &Scan, pieces: &[Piece<'_>]) -> ReadCost {
    let asked = |piece: &Piece<'_>| match piece {
        Piece::Rollup(_) => false,
        Piece::Frame(number, _) | Piece::Perhaps(number) => has_running(&scan.frames[*number]),
    };
    let mut all = ReadCost::default();
    if pieces.iter().any(asked) {
        let mut ids = Superseded::columns();
        ids.insert(Intrinsic::Time.into());
        let of_marks = HashMap::from([(TableKind::Items, ids)]);
        for frame in &scan.frames {
            // A mark's own frame is read for marks, and again for ends.
            (0..2).for_each(|_| all += cost(frame, &of_marks, false));
        }
    }
    all
}

/// How often spans of traces are looked for.
fn passes(scan: &Scan, ask: &Ask) -> Passes {
    let may_hold =
        |condition: &Node, frame: &Frame| !scan.prune || prune::may_hold(condition, &scan.plan.fields, frame);
    let fits = |frame: &Frame| {
        let asking = ask.bindings.iter().chain([&ask.parent]);
        let mut asking = asking.filter(|conditions| !conditions.is_empty());
        asking.any(|conditions| conditions.iter().all(|condition| may_hold(condition, frame)))
    };
    let rows = |frame: &Frame| frame.rows() as u64;
    let fitting = scan.frames.iter().filter(|frame| fits(frame)).map(rows).sum();
    Passes::of(scan, ask, scan.frames.iter().map(rows).sum(), fitting)
}

/// Looking for the spans of traces before the scan.
fn of_structure(scan: &Scan, ask: &Ask) -> ReadCost {
    let plan = &scan.plan;
    let mut all = ReadCost::default();
    for frame in &scan.frames {
        // Traces first, then their spans; of each whether it is in the range, and has not given way.
        for conditions in ask.bindings.iter().chain([&ask.parent]) {
            (0..2).for_each(|_| all += cost(frame, &wanted(plan, frame, conditions.iter()), true));
        }
        let of_spans = HashMap::from([(TableKind::Items, SPAN_COLUMNS.map(ColumnId::Intrinsic).into())]);
        (0..6).for_each(|_| all += cost(frame, &of_spans, true));
        for field in &plan.fields {
            let mut of_field: HashMap<TableKind, HashSet<ColumnId>> = HashMap::new();
            field.wanted_beside(frame, &mut |table, id| {
                of_field.entry(table).or_default().insert(id);
            });
            // For tests between spans, and beside rows.
            (0..2).for_each(|_| all += cost(frame, &of_field, false));
        }
    }
    all
}

/// The place of the step of conditions that rows decide.
const DEAR: usize = 1;

/// The steps in which a frame is read.
struct Steps {
    of: Vec<ReadCost>,
    /// The first step, which is taken whatever it finds; nothing where columns may tell what it asks for.
    certain: ReadCost,
    cells: u64,
}

impl Steps {
    fn of(plan: &Plan, frame: &Frame, but: Option<TimeRange>) -> Steps {
        let (cheap, dear): (Vec<&Node>, Vec<&Node>) =
            plan.conditions.iter().partition(|node| is_interned(plan, frame, node));
        let (first, last) = times(plan, frame);
        let whole = plan.range.covers(first, last) && !but.is_some_and(|but| but.touches(first, last));
        let time = (!whole).then_some(&plan.time);
        let answer: Vec<&Node> = match &plan.shape {
            Shape::Groups { spec, .. } => spec.nodes().collect(),
            Shape::Rows => plan.order.iter().map(|key| &key.node).collect(),
        };
        let mut wants = vec![
            wanted(plan, frame, cheap.into_iter()),
            wanted(plan, frame, dear.into_iter()),
            wanted(plan, frame, time.into_iter()),
        ];
        if has_running(frame) {
            wants.push(HashMap::from([(TableKind::Items, Superseded::columns())]));
        }
        wants.push(wanted(plan, frame, answer.into_iter()));
        let mut have: HashSet<(TableKind, ColumnId)> = HashSet::new();
        let mut steps = Steps { of: Vec::new(), certain: ReadCost::default(), cells: 0 };
        let by_values = may_tell(plan, frame);
        let apart = by_values || !plan.conditions.is_empty();
        for (place, mut want) in wants.into_iter().enumerate() {
            // What was only looked for in pages is read again for the answer.
            let forgotten = apart && place == DEAR;
            for (table, ids) in &mut want {
                let there = frame.columns(*table);
                let mut new = |id: &ColumnId| match forgotten {
                    true => !have.contains(&(*table, id.clone())),
                    false => have.insert((*table, id.clone())),
                };
                ids.retain(|id| there.iter().any(|c| c.id == *id) && new(id));
            }
            want.retain(|_, ids| !ids.is_empty());
            if want.is_empty() {
                continue;
            }
            let columns = want.values().map(|ids| ids.len() as u64).sum::<u64>();
            steps.cells += columns * counted(plan, frame) as u64;
            if steps.of.is_empty() && !by_values {
                steps.certain = cost(frame, &want, false);
            }
            steps.of.push(cost(frame, &want, apart));
        }
        steps
    }

    fn all(&self) -> ReadCost {
        let mut all = ReadCost::default();
        self.of.iter().for_each(|step| all += *step);
        all
    }
}

/// What columns cost, `apart` where each may be read alone, or by pages.
fn cost(frame: &Frame, want: &HashMap<TableKind, HashSet<ColumnId>>, apart: bool) -> ReadCost {
    if want.values().all(HashSet::is_empty) {
        return ReadCost::default();
    }
    let want = |table, id: &ColumnId| want.get(&table).is_some_and(|ids| ids.contains(id));
    if apart { frame.cost_apart(&want) } else { frame.cost(&want) }
}

/// The tier of a frame of an estimate, by its place in [`Estimate::tiers`].
pub(crate) fn tier_name(place: usize) -> &'static str {
    [Tier::Hot, Tier::Warm, Tier::Cold].get(place).map_or("", |tier| tier.as_str())
}

/// Processor time of a value, as the scans of this process took it.
#[derive(Debug)]
pub(crate) struct Calibration {
    picos: AtomicU64,
}

/// Before any scan was measured: reading, filtering and grouping a value on a small machine.
const PICOS_AT_FIRST: u64 = 12_000;
/// Smaller scans tell more of starting than of work.
const CELLS_MIN: u64 = 100_000;

impl Default for Calibration {
    fn default() -> Calibration {
        Calibration { picos: AtomicU64::new(PICOS_AT_FIRST) }
    }
}

impl Calibration {
    /// What so many values take, nanoseconds.
    pub(crate) fn nanos(&self, cells: u64) -> u64 {
        cells.saturating_mul(self.picos.load(Ordering::Relaxed)) / 1_000
    }

    /// Learns from a scan: an eighth of what is known gives way to it.
    pub(crate) fn learn(&self, cells: u64, cpu_nanos: u64) {
        if cells < CELLS_MIN {
            return;
        }
        let seen = cpu_nanos.saturating_mul(1_000) / cells;
        let known = self.picos.load(Ordering::Relaxed);
        self.picos.store((known * 7 + seen) / 8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_learnt_from_scans_that_are_large_enough() {
        let calibration = Calibration::default();
        let first = calibration.nanos(1_000_000);
        calibration.learn(10, 1_000_000_000);
        assert_eq!(calibration.nanos(1_000_000), first, "too small to tell");
        for _ in 0..100 {
            calibration.learn(1_000_000, 3_000_000);
        }
        let learnt = calibration.nanos(1_000_000);
        assert!((2_900_000..=3_200_000).contains(&learnt), "{learnt}");
    }
}
