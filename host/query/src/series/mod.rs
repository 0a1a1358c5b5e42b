//! What lies between groups and formulas: an earlier range beside the query's own, bins without rows, functions over bins.
//!
//! ```text
//! groups of each range -> grid (rows of both by their keys, bins without rows) -> functions (over the bins of each series)
//!     -> columns that formulas, having, order and the answer are made of
//! ```
//!
//! A series is what all groups have in common that differ in their time bin alone. Not here: how names find these columns
//! (`bind/series`), formulas and order over them (`finish`).

pub(crate) mod grid;
pub(crate) mod functions;

use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::error::ArrowError;
use prism_dsl::Fill;
use prism_model::window::TimeRange;

use crate::bind::query::{Plan, Shape};
use crate::error::QueryError;
use crate::eval::node::{ArithmeticOp, Level, Node};
use crate::eval::vals::Scalar;
use crate::eval::zone::TimeBin;
use crate::eval::{At, Rows, Vals};
use crate::joins::{JOINED_FIRST, Joined, OfGroup};
use functions::Series;
use grid::Grid;

/// Number of the first series function among the fields of a group. Keys and aggregates have the numbers before; a query has
/// at most 20,000 of them.
pub(crate) const SERIES_FIRST: usize = 1 << 20;
/// Added to a field's number: the same of the earlier range.
pub(crate) const EARLIER: usize = 1 << 24;

/// What is done with the groups of a query before formulas see them.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// The key that is a bin of the rows' time, and its bins.
    pub(crate) bin: Option<(usize, TimeBin)>,
    /// What bins without rows show.
    pub(crate) fill: Fill,
    /// What `fill 0` shows for each aggregate that has no value to tell its type; `None` where 0 would be no value of it.
    pub(crate) zeros: Vec<Option<Scalar>>,
    pub(crate) series: Vec<Series>,
    /// Values of rows of other signals.
    pub(crate) joined: Vec<OfGroup>,
    /// Nanoseconds to the earlier range.
    pub(crate) earlier: Option<i64>,
}

impl Stage {
    /// Whether groups are shown as they are.
    fn nothing(&self) -> bool {
        self.fill == Fill::None && self.series.is_empty() && self.earlier.is_none()
    }

    /// The same of groups to which nothing is joined.
    pub(crate) fn without_joined(&self) -> Stage {
        Stage { joined: Vec::new(), ..self.clone() }
    }

    /// What is joined to groups with these keys.
    fn joined(&self, keys: &[Vals], rows: usize, tables: &[Option<Arc<Joined>>]) -> Result<Vec<Vals>, ArrowError> {
        let of = |of: &OfGroup| {
            let keys: Vec<Vals> = of.keys.iter().filter_map(|key| keys.get(*key).cloned()).collect();
            let table = tables.get(of.join).and_then(Option::as_ref);
            let found = table.map_or_else(|| Ok(Vals::nulls(rows)), |table| table.values(of.output, &keys, rows))?;
            if of.missing.is_null() {
                return Ok(found);
            }
            Vals::coalesce(&[found, Vals::of_scalar(of.missing.clone()).repeat(rows)?])
        };
        self.joined.iter().map(of).collect()
    }
}

/// The groups of a range: keys, then what was aggregated.
pub(crate) struct Grouped {
    pub(crate) rows: usize,
    pub(crate) columns: Vec<Vals>,
    /// The rows of each join.
    pub(crate) joined: Vec<Option<Arc<Joined>>>,
}

/// The rows of an answer before formulas, of each range the same ones.
pub(crate) struct Staged {
    rows: usize,
    own: Side,
    earlier: Option<Side>,
}

/// The columns of one range.
struct Side {
    /// Keys, then what was aggregated.
    columns: Vec<Vals>,
    series: Vec<Vals>,
    joined: Vec<Vals>,
}

/// Makes the rows. `earlier` are the groups of the earlier range, under the keys that they would have now.
///
/// # Errors
/// `Fix` where there are more rows than `fill_rows_max`.
pub(crate) fn staged(
    stage: &Stage,
    keys: usize,
    range: TimeRange,
    own: Grouped,
    earlier: Option<Grouped>,
    fill_rows_max: usize,
) -> Result<Staged, QueryError> {
    if stage.nothing() {
        let joined = stage.joined(&own.columns, own.rows, &own.joined)?;
        let side = Side { columns: own.columns, series: Vec::new(), joined };
        return Ok(Staged { rows: own.rows, own: side, earlier: None });
    }
    let sides: Vec<&Grouped> = std::iter::once(&own).chain(&earlier).collect();
    let grid = Grid::of(stage, keys, range, &sides, fill_rows_max)?;
    let keys = grid.keys(&sides);
    let side = |number: usize, before: Option<&Side>| -> Result<Side, QueryError> {
        let mut columns = keys.clone();
        let joined = stage.joined(&keys, grid.len(), &sides[number].joined)?;
        columns.extend(grid.outputs(stage, number, sides[number])?);
        let mut series = Vec::with_capacity(stage.series.len());
        for function in &stage.series {
            let rows =
                SideRows { rows: grid.len(), columns: &columns, series: &series, joined: &joined, earlier: before };
            let of = crate::eval::vals_at(&function.of, Level::Row, &rows)?;
            series.push(function.over(&of, &grid.runs)?);
        }
        Ok(Side { columns, series, joined })
    };
    let earlier = earlier.as_ref().map(|_| side(1, None)).transpose()?;
    let own = side(0, earlier.as_ref())?;
    Ok(Staged { rows: grid.len(), own, earlier })
}

impl Side {
    fn column(&self, field: usize) -> Option<&Vals> {
        match (field.checked_sub(JOINED_FIRST), field.checked_sub(SERIES_FIRST)) {
            (Some(joined), _) => self.joined.get(joined),
            (None, Some(series)) => self.series.get(series),
            (None, None) => self.columns.get(field),
        }
    }
}

/// A column, or nulls for one that is none.
fn column(found: Option<&Vals>, rows: usize) -> At<Vals> {
    At { level: Level::Row, of: found.cloned().unwrap_or_else(|| Vals::nulls(rows)) }
}

impl Staged {
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
}

impl Rows for Staged {
    fn field(&self, field: usize) -> Result<At<Vals>, ArrowError> {
        let found = match field.checked_sub(EARLIER) {
            Some(field) => self.earlier.as_ref().and_then(|side| side.column(field)),
            None => self.own.column(field),
        };
        Ok(column(found, self.rows))
    }

    fn len(&self, level: Level) -> usize {
        if level == Level::One { 1 } else { self.rows }
    }

    fn lift(&self, _: Level, _: Level) -> Result<UInt32Array, ArrowError> {
        // Groups have one level.
        Ok(UInt32Array::from_iter_values(0..self.rows as u32))
    }
}

/// One range while its series functions are computed: each sees those before it.
struct SideRows<'a> {
    rows: usize,
    columns: &'a [Vals],
    series: &'a [Vals],
    joined: &'a [Vals],
    earlier: Option<&'a Side>,
}

impl Rows for SideRows<'_> {
    fn field(&self, field: usize) -> Result<At<Vals>, ArrowError> {
        let of = |first| field.checked_sub(first);
        let found = match (of(EARLIER), of(JOINED_FIRST), of(SERIES_FIRST)) {
            (Some(field), ..) => self.earlier.and_then(|side| side.column(field)),
            (None, Some(joined), _) => self.joined.get(joined),
            (None, None, Some(series)) => self.series.get(series),
            (None, None, None) => self.columns.get(field),
        };
        Ok(column(found, self.rows))
    }

    fn len(&self, level: Level) -> usize {
        if level == Level::One { 1 } else { self.rows }
    }

    fn lift(&self, _: Level, _: Level) -> Result<UInt32Array, ArrowError> {
        Ok(UInt32Array::from_iter_values(0..self.rows as u32))
    }
}

/// An expression of groups as the same of the earlier range, but for the keys, which both have.
pub(crate) fn of_earlier(node: &Node, keys: usize) -> Node {
    node.with_fields(&|field| Node::Field(if field < keys || field >= EARLIER { field } else { field + EARLIER }))
}

/// The plan of the earlier range: its rows count as if they had happened so much later, so that they fall into the bins of
/// today. `None` where the query compares nothing.
pub(crate) fn earlier_plan(plan: &Plan) -> Option<Plan> {
    let Shape::Groups { stage, .. } = &plan.shape else { return None };
    Some(moved(plan, stage.earlier?))
}

/// A plan over rows of so much earlier, which count as if they had happened so much later.
fn moved(plan: &Plan, offset: i64) -> Plan {
    let mut earlier = plan.clone();
    // A range without beginning or end stays one.
    let shifted = |time: i64| if time == i64::MIN || time == i64::MAX { time } else { time.saturating_sub(offset) };
    earlier.range = TimeRange { from: shifted(plan.range.from), to: shifted(plan.range.to) };
    let later = |node: &Node| {
        node.with_fields(&|field| match &plan.shown_time {
            Node::Field(time) if *time == field => Node::Arithmetic {
                op: ArithmeticOp::Add,
                left: Box::new(Node::Field(field)),
                right: Box::new(Node::Const(Scalar::Int(offset))),
            },
            _ => Node::Field(field),
        })
    };
    earlier.conditions = plan.conditions.iter().map(later).collect();
    for conditions in earlier.structure.iter_mut().flat_map(|ask| &mut ask.bindings) {
        *conditions = conditions.iter().map(later).collect();
    }
    if let Shape::Groups { spec, .. } = &mut earlier.shape {
        (spec.range, spec.later) = (earlier.range, offset);
        spec.keys = spec.keys.iter().map(later).collect();
        for accumulator in &mut spec.accumulators {
            accumulator.filter = accumulator.filter.as_ref().map(later);
        }
    }
    for join in &mut earlier.joins {
        join.plan = join.plan.take().map(|plan| Box::new(moved(&plan, offset)));
        join.keys = join.keys.iter().map(later).collect();
    }
    earlier.beside = plan.beside.iter().map(|plan| moved(plan, offset)).collect();
    earlier
}
