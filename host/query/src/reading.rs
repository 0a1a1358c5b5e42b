//! One frame, read in steps, each only if rows are left: columns of conditions on resources, scopes and metrics, columns of the
//! other conditions, columns of what is computed.
//!
//! Not here: which frames are read, and in what order (`scan`).

use std::collections::{HashMap, HashSet};

use arrow::array::{ArrayRef, UInt32Array};
use arrow::buffer::BooleanBuffer;
use prism_model::window::TimeRange;
use prism_model::{AttrType, Batch, ColumnId, Intrinsic, TableKind};
use prism_store::{Exact, Frame, Numbered, ReadCost};

use crate::bind::query::Plan;
use crate::cost::add;
use crate::error::QueryError;
use crate::eval;
use crate::eval::node::{CompareOp, Level, Node};
use crate::eval::vals::Scalar;
use crate::events::times;
use crate::field::Field;
use crate::frame::FrameRows;
use crate::running::Superseded;
use crate::scan::{Scan, counted};

/// One row in so many is few: between them lie more rows than it costs to skip.
const FEW_ROWS: usize = 256;

/// Columns of a frame, by table.
type Wanted = HashMap<TableKind, HashSet<ColumnId>>;

/// The columns of some nodes that a frame may have.
pub(crate) fn wanted<'n>(plan: &Plan, frame: &Frame, nodes: impl Iterator<Item = &'n Node>) -> Wanted {
    let mut fields = HashSet::new();
    nodes.for_each(|n| {
        n.fields(&mut |f| {
            fields.insert(f);
        })
    });
    let mut wanted = Wanted::new();
    if let (Some(table), true) = (plan.level.table(), plan.level.is_child()) {
        wanted.entry(table).or_default().insert(Intrinsic::Parent.into());
    }
    for field in fields {
        plan.fields[field].wanted(frame, &mut |table, id| {
            wanted.entry(table).or_default().insert(id);
        });
    }
    wanted
}

/// Whether a condition is decided by resources, scopes and metrics alone.
pub(crate) fn is_interned(plan: &Plan, frame: &Frame, node: &Node) -> bool {
    let pointer =
        |id: &ColumnId| matches!(id, ColumnId::Intrinsic(Intrinsic::Resource | Intrinsic::Scope | Intrinsic::Metric));
    wanted(plan, frame, std::iter::once(node)).iter().all(|(table, ids)| match table {
        TableKind::Resources | TableKind::Scopes | TableKind::Descriptors => true,
        TableKind::Items => ids.iter().all(pointer),
        _ => false,
    })
}

/// The column of the items and the text or integer that a condition asks it for, where no other column can fulfil it.
fn exactly_asked<'n>(plan: &Plan, condition: &'n Node, frame: &Frame) -> Option<(ColumnId, Exact<'n>)> {
    let Node::Compare { op: CompareOp::Eq, left, right } = condition else { return None };
    let (Node::Field(field), Node::Const(value)) = (&**left, &**right) else { return None };
    let [(TableKind::Items, column)] = <[_; 1]>::try_from(plan.fields.get(*field)?.plain_columns(frame)?).ok()? else {
        return None;
    };
    let ColumnId::Attr { ty, .. } = &column else { return None };
    let value = match (ty, value) {
        (AttrType::Str, Scalar::Str(text)) => Exact::Bytes(text.as_bytes()),
        (AttrType::Int, Scalar::Int(number)) => Exact::Int(*number),
        _ => return None,
    };
    // Where no row can be skipped, the column would be read as a whole again for anything else.
    (frame.skips() || uses(plan, *field) == 1).then_some((column, value))
}

/// How often a query asks for a field.
fn uses(plan: &Plan, field: usize) -> usize {
    let mut uses = 0;
    plan.nodes().for_each(|node| node.fields(&mut |other| uses += usize::from(other == field)));
    uses
}

/// Which rows of a frame fulfil the conditions.
pub(crate) enum Matching {
    None,
    All,
    Some(UInt32Array),
}

impl Matching {
    /// By the rows of so many that fulfil; `None` where all do.
    fn of(mask: Option<BooleanBuffer>, rows: usize) -> Matching {
        match mask {
            None if rows == 0 => Matching::None,
            None => Matching::All,
            Some(mask) => match mask.count_set_bits() {
                0 => Matching::None,
                set if set == rows => Matching::All,
                _ => Matching::Some(UInt32Array::from_iter_values(mask.set_indices().map(|i| i as u32))),
            },
        }
    }

    /// Of so many rows; `None` where all do.
    pub(crate) fn mask(&self, rows: usize) -> Option<BooleanBuffer> {
        match self {
            Matching::None => Some(BooleanBuffer::new_unset(rows)),
            Matching::All => None,
            Matching::Some(some) => {
                let mut mask = vec![false; rows];
                some.values().iter().for_each(|row| mask[*row as usize] = true);
                Some(mask.into())
            }
        }
    }
}

/// A frame as far as it has been read.
pub(crate) struct Reading<'s> {
    scan: &'s Scan,
    frame: &'s Frame,
    number: usize,
    /// Rows of this time were answered already.
    but: Option<TimeRange>,
    parts: Vec<Batch>,
    have: Wanted,
    /// Fixed columns of ids by number.
    numbered: Vec<(Intrinsic, Numbered)>,
    /// All that is still asked for, of the rows that are left alone.
    left: Option<Batch>,
}

impl<'s> Reading<'s> {
    /// Nothing of a frame yet. Rows of the time `but` were answered already.
    pub(crate) fn of(scan: &'s Scan, number: usize, but: Option<TimeRange>) -> Reading<'s> {
        let frame = &scan.frames[number];
        Reading { scan, frame, number, but, parts: Vec::new(), have: Wanted::new(), numbered: Vec::new(), left: None }
    }
}

impl Reading<'_> {
    pub(crate) fn rows<'r>(&'r self, selection: Option<&'r UInt32Array>) -> Result<FrameRows<'r>, QueryError> {
        let plan = &self.scan.plan;
        if let (Some(left), Some(selection)) = (&self.left, selection) {
            let rows = FrameRows::new(&plan.fields, self.frame, std::slice::from_ref(left), selection.len(), None);
            return Ok(rows.joining(&self.scan.joined));
        }
        let rows = FrameRows::new(&plan.fields, self.frame, &self.parts, self.frame.rows(), selection);
        let rows = rows.joining(&self.scan.joined);
        Ok(match (plan.level, self.scan.structure()) {
            (Level::Row, Some(structure)) => rows.beside(structure, self.number),
            (Level::Row, None) => rows,
            (child, _) => rows.counting(child, counted(plan, self.frame))?,
        })
    }

    /// Reads the columns of some nodes for the rows that are left: of few rows alone, where the frame can skip the others.
    pub(crate) fn late<'n, N: Iterator<Item = &'n Node>>(
        &mut self,
        rows: Option<&UInt32Array>,
        nodes: impl Fn() -> N,
    ) -> Result<(), QueryError> {
        // Rows of another level have other numbers than those of the frame, by which structure knows them too.
        let plain = self.scan.plan.level == Level::Row && self.scan.structure().is_none();
        let able = plain && self.frame.skips();
        let few = rows.filter(|rows| able && rows.len().saturating_mul(FEW_ROWS) <= self.frame.rows());
        let Some(rows) = few.filter(|rows| !rows.is_empty()) else { return self.load(nodes()) };
        let wanted = wanted(&self.scan.plan, self.frame, nodes());
        if self.has_any(&wanted) {
            return self.read(wanted);
        }
        let wanted = self.missing(wanted);
        if wanted.is_empty() {
            return Ok(());
        }
        self.left = Some(self.read_rows(&wanted, rows)?);
        Ok(())
    }

    /// Whether some of it was read already, for conditions: that is not read again for some of its rows.
    fn has_any(&self, wanted: &Wanted) -> bool {
        let again = |(table, ids): (&TableKind, &HashSet<ColumnId>)| {
            self.have.get(table).is_some_and(|have| !have.is_disjoint(ids))
        };
        wanted.iter().any(again)
    }

    /// Columns of some rows alone.
    fn read_rows(&self, wanted: &Wanted, rows: &UInt32Array) -> Result<Batch, QueryError> {
        let want = |table, id: &ColumnId| wanted.get(&table).is_some_and(|ids| ids.contains(id));
        let (batch, cost) = self.frame.read_rows(&want, rows)?;
        add(&self.scan.counters.cells, wanted.values().map(|ids| ids.len() as u64).sum::<u64>() * rows.len() as u64);
        self.count(cost)?;
        Ok(batch)
    }

    /// Fixed columns of the items of some rows, which ascend, alone; `None` where they are not few, the frame cannot skip others, or
    /// some of it was read already.
    pub(crate) fn few_items(&self, columns: &[Intrinsic], rows: &UInt32Array) -> Result<Option<Batch>, QueryError> {
        let ids = columns.iter().map(|column| ColumnId::Intrinsic(*column)).collect();
        self.few(HashMap::from([(TableKind::Items, ids)]), rows)
    }

    /// The same of fields, which need not be the plan's.
    pub(crate) fn few_fields(&self, fields: &[Field], rows: &UInt32Array) -> Result<Option<Batch>, QueryError> {
        self.few(self.of_fields(fields), rows)
    }

    fn few(&self, wanted: Wanted, rows: &UInt32Array) -> Result<Option<Batch>, QueryError> {
        let few = self.frame.skips() && rows.len().saturating_mul(FEW_ROWS) <= self.frame.rows();
        if !few || self.has_any(&wanted) {
            return Ok(None);
        }
        let wanted = self.missing(wanted);
        if wanted.is_empty() { Ok(None) } else { self.read_rows(&wanted, rows).map(Some) }
    }

    fn of_fields(&self, fields: &[Field]) -> Wanted {
        let mut wanted = Wanted::new();
        for field in fields {
            field.wanted(self.frame, &mut |table, id| {
                wanted.entry(table).or_default().insert(id);
            });
        }
        wanted
    }

    /// Reads the columns of some nodes that are not here yet.
    pub(crate) fn load<'n>(&mut self, nodes: impl Iterator<Item = &'n Node>) -> Result<(), QueryError> {
        let wanted = wanted(&self.scan.plan, self.frame, nodes);
        self.read(wanted)
    }

    /// What is not here yet.
    fn missing(&self, mut wanted: Wanted) -> Wanted {
        for (table, ids) in &mut wanted {
            if let Some(have) = self.have.get(table) {
                ids.retain(|id| !have.contains(id));
            }
            // Absent columns hold their default; asking for them would open the file for nothing.
            let there = self.frame.columns(*table);
            ids.retain(|id| there.iter().any(|c| c.id == *id));
        }
        wanted.retain(|_, ids| !ids.is_empty());
        wanted
    }

    fn read(&mut self, wanted: Wanted) -> Result<(), QueryError> {
        let wanted = self.missing(wanted);
        if wanted.is_empty() {
            return Ok(());
        }
        let (batch, cost) = self.frame.read(&|table, id| wanted.get(&table).is_some_and(|ids| ids.contains(id)))?;
        self.parts.push(batch);
        let cells = wanted.values().map(|ids| ids.len() as u64).sum::<u64>() * self.frame.rows() as u64;
        for (table, ids) in wanted {
            self.have.entry(table).or_default().extend(ids);
        }
        add(&self.scan.counters.cells, cells);
        self.count(cost)
    }

    fn count(&self, cost: ReadCost) -> Result<(), QueryError> {
        self.scan.counters.read(self.frame.tier(), cost);
        self.scan.bytes.read(cost.bytes)
    }

    /// Reads the columns of some fields, which need not be the plan's.
    pub(crate) fn read_fields(&mut self, fields: &[Field]) -> Result<(), QueryError> {
        let wanted = self.of_fields(fields);
        self.read(wanted)
    }

    /// Reads the columns of some nodes and fixed columns of the items together: each read costs beside its columns.
    pub(crate) fn load_with<'n>(
        &mut self,
        nodes: impl Iterator<Item = &'n Node>,
        items: &[Intrinsic],
    ) -> Result<(), QueryError> {
        let mut wanted = wanted(&self.scan.plan, self.frame, nodes);
        wanted.entry(TableKind::Items).or_default().extend(items.iter().map(|column| ColumnId::Intrinsic(*column)));
        self.read(wanted)
    }

    /// Reads fixed columns of the items.
    pub(crate) fn read_items(&mut self, columns: &[Intrinsic]) -> Result<(), QueryError> {
        let ids = columns.iter().map(|column| ColumnId::Intrinsic(*column)).collect();
        self.read(HashMap::from([(TableKind::Items, ids)]))
    }

    /// A fixed column of ids of the items by number, where the frame stores it so and it was not read otherwise.
    pub(crate) fn numbered(&mut self, column: Intrinsic) -> Result<Option<Numbered>, QueryError> {
        if let Some((_, numbered)) = self.numbered.iter().find(|(known, _)| *known == column) {
            return Ok(Some(numbered.clone()));
        }
        let id = ColumnId::Intrinsic(column);
        let here = self.have.get(&TableKind::Items).is_some_and(|have| have.contains(&id));
        if here || !self.frame.columns(TableKind::Items).iter().any(|known| known.id == id) {
            return Ok(None);
        }
        let Some((numbered, cost)) = self.frame.numbers_of(&id)? else { return Ok(None) };
        add(&self.scan.counters.cells, self.frame.rows() as u64);
        self.numbered.push((column, numbered.clone()));
        self.count(cost)?;
        Ok(Some(numbered))
    }

    /// A fixed column of the items that was read; `None` where the frame does not have it.
    pub(crate) fn column(&self, column: Intrinsic) -> Option<ArrayRef> {
        self.parts.iter().find_map(|part| part.items().intrinsic(column)).cloned()
    }

    /// What was read so far.
    pub(crate) fn parts(&self) -> &[Batch] {
        &self.parts
    }

    /// The rows that fulfil the conditions of the query, among those that matched where it asks for structure.
    pub(crate) fn matching(&mut self, matched: Option<BooleanBuffer>) -> Result<Matching, QueryError> {
        let plan = &self.scan.plan;
        let rows = counted(plan, self.frame);
        match matched {
            None => self.fitting(&plan.conditions, plan.range),
            // Those that matched are in the range, and have not given way.
            Some(matched) => Ok(match self.fulfilling(&plan.conditions)? {
                None => Matching::None,
                Some(None) => Matching::of(Some(matched), rows),
                Some(Some(found)) => Matching::of(Some(&found & &matched), rows),
            }),
        }
    }

    /// The rows of a range that fulfil some conditions, without those that gave way.
    pub(crate) fn fitting(&mut self, conditions: &[Node], range: TimeRange) -> Result<Matching, QueryError> {
        let rows = counted(&self.scan.plan, self.frame);
        let Some(mut mask) = self.fulfilling(conditions)? else { return Ok(Matching::None) };
        for more in [self.in_range(range)?, self.not_superseded()?].into_iter().flatten() {
            mask = Some(match mask {
                Some(mask) => &mask & &more,
                None => more,
            });
        }
        Ok(Matching::of(mask, rows))
    }

    /// Evaluates conditions, the cheap ones first. `None`: no row fulfils them; `Some(None)`: all do.
    fn fulfilling(&mut self, conditions: &[Node]) -> Result<Option<Option<BooleanBuffer>>, QueryError> {
        let plan = &self.scan.plan;
        let (guests, own): (Vec<&Node>, Vec<&Node>) = conditions.iter().partition(|node| node.calls_plugin());
        let (cheap, dear): (Vec<&Node>, Vec<&Node>) =
            own.into_iter().partition(|node| is_interned(plan, self.frame, node));
        let mut mask: Option<BooleanBuffer> = None;
        for step in [cheap, dear] {
            let mut left = Vec::with_capacity(step.len());
            for condition in step {
                match self.sought(condition)? {
                    None => left.push(condition),
                    Some(found) if found.count_set_bits() == 0 => return Ok(None),
                    Some(found) => mask = Some(mask.map_or_else(|| found.clone(), |mask| &mask & &found)),
                }
            }
            let step = left;
            if step.is_empty() {
                continue;
            }
            self.load(step.iter().copied())?;
            let columns = self.rows(None)?;
            for condition in step {
                let found = eval::mask(condition, &columns)?;
                let set = found.of.count_set_bits();
                if set == 0 {
                    return Ok(None);
                }
                if set == found.of.len() {
                    continue;
                }
                let found = eval::lift_mask(found, Level::Row, &columns)?;
                mask = Some(match mask {
                    Some(mask) => &mask & &found,
                    None => found,
                });
            }
            if mask.as_ref().is_some_and(|m| m.count_set_bits() == 0) {
                return Ok(None);
            }
        }
        self.asking(&guests, mask)
    }

    /// The rows that fulfil a condition which asks for one text or integer, where the frame finds them for less than its column costs.
    fn sought(&mut self, condition: &Node) -> Result<Option<BooleanBuffer>, QueryError> {
        let plan = &self.scan.plan;
        if plan.level != Level::Row {
            return Ok(None);
        }
        let Some((column, value)) = exactly_asked(plan, condition, self.frame) else { return Ok(None) };
        // What is here already, or not there at all, is decided without the frame.
        let here = |column| self.have.get(&TableKind::Items).is_some_and(|have| have.contains(column));
        let there = self.frame.columns(TableKind::Items).iter().any(|known| known.id == column);
        if here(&column) || !there {
            return Ok(None);
        }
        let Some((rows, cost)) = self.frame.rows_of(&column, value)? else { return Ok(None) };
        add(&self.scan.counters.cells, self.frame.rows() as u64);
        self.count(cost)?;
        Ok(Matching::Some(rows).mask(self.frame.rows()))
    }

    /// The same of conditions that call plugins, which are asked last, and only of rows that fulfil all others.
    fn asking(
        &mut self,
        guests: &[&Node],
        mut mask: Option<BooleanBuffer>,
    ) -> Result<Option<Option<BooleanBuffer>>, QueryError> {
        if guests.is_empty() {
            return Ok(Some(mask));
        }
        self.load(guests.iter().copied())?;
        for condition in guests {
            let left = mask.as_ref().map(|mask| UInt32Array::from_iter_values(mask.set_indices().map(|i| i as u32)));
            let columns = self.rows(left.as_ref())?;
            let found = eval::mask_at(condition, Level::Row, &columns)?;
            let Some(left) = left else {
                mask = Some(found);
                continue;
            };
            let all = mask.as_ref().map_or(0, BooleanBuffer::len);
            let mut fulfil = vec![false; all];
            found.set_indices().for_each(|at| fulfil[left.value(at) as usize] = true);
            mask = Some(BooleanBuffer::from(fulfil));
        }
        Ok(mask.filter(|mask| mask.count_set_bits() > 0).map(Some))
    }

    /// QU-1: rows outside of the range, of which a frame may hold some.
    fn in_range(&mut self, range: TimeRange) -> Result<Option<BooleanBuffer>, QueryError> {
        let plan = &self.scan.plan;
        let (first, last) = times(plan, self.frame);
        let but = self.but.filter(|but| but.touches(first, last));
        if but.is_none() && range.covers(first, last) {
            return Ok(None);
        }
        let wanted = |time| range.contains(time) && !but.is_some_and(|but| but.contains(time));
        self.load(std::iter::once(&plan.time))?;
        let times = eval::vals_at(&plan.time, Level::Row, &self.rows(None)?)?;
        let inside = |row: usize| matches!(times.get(row), Scalar::Int(time) if wanted(time));
        Ok(Some(match times.int.as_ref() {
            Some(ints) => BooleanBuffer::collect_bool(times.len, |row| wanted(ints.value(row))),
            None => BooleanBuffer::collect_bool(times.len, inside),
        }))
    }

    /// A span that has started gives way to its end.
    fn not_superseded(&mut self) -> Result<Option<BooleanBuffer>, QueryError> {
        if !self.scan.superseded.touches(self.frame) {
            return Ok(None);
        }
        self.read(HashMap::from([(TableKind::Items, Superseded::columns())]))?;
        let Some(others) = self.scan.superseded.others(&self.parts) else { return Ok(None) };
        Ok(Some(match self.scan.plan.level {
            Level::Row => others,
            _ => {
                self.load(std::iter::empty())?;
                self.rows(None)?.of_items(&others)
            }
        }))
    }
}
