//! A frame's columns as rows to evaluate over: all of them, or those that a condition left.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;
use arrow::error::ArrowError;
use prism_model::{AttrType, Batch, ColumnId, Intrinsic, Table, TableKind};
use prism_store::{ColumnMeta, Frame, Range};

use crate::eval::node::Level;
use crate::eval::{At, Rows, Vals};
use crate::field::{Columns, Field, From, Loaded};
use crate::joins::Joined;
use crate::structure::Structure;

impl Columns for Frame {
    fn types(&self, table: TableKind, key: &str) -> Vec<AttrType> {
        let of_key = |column: &ColumnMeta| match &column.id {
            ColumnId::Attr { key: own, ty } if **own == *key => Some(*ty),
            _ => None,
        };
        let mut types: Vec<AttrType> = self.columns(table).iter().filter_map(of_key).collect();
        types.sort_unstable_by_key(|ty| AttrType::ALL.iter().position(|other| other == ty));
        types
    }

    fn attributes(&self, table: TableKind) -> Vec<ColumnId> {
        let ids = self.columns(table).iter().map(|c| &c.id);
        ids.filter(|id| matches!(id, ColumnId::Attr { .. })).cloned().collect()
    }

    fn tail_may_hold(&self, key: &str) -> bool {
        let tail = self.columns(TableKind::Tail);
        match tail.iter().find(|c| c.id == ColumnId::Intrinsic(Intrinsic::Key)) {
            None => false,
            Some(ColumnMeta { dictionary: Some(keys), .. }) => keys.iter().any(|k| **k == *key),
            Some(ColumnMeta { range: Some(Range::Text(range)), .. }) => {
                *range.min <= *key && range.max.as_ref().is_none_or(|max| **max >= *key)
            }
            Some(_) => true,
        }
    }

    fn negative_durations(&self) -> bool {
        let items = self.columns(TableKind::Items);
        let Some(duration) = items.iter().find(|c| c.id == ColumnId::Intrinsic(Intrinsic::Duration)) else {
            return false;
        };
        !matches!(duration.range, Some(Range::Int { min: 0.., .. }))
    }
}

/// Rows of a child table that belong to selected rows, and the position of each one's parent among those.
type Children = (Option<UInt32Array>, UInt32Array);

/// The columns read so far, over all rows of a frame or a selection of them.
pub(crate) struct FrameRows<'a> {
    fields: &'a [Field],
    columns: &'a dyn Columns,
    parts: &'a [Batch],
    /// Rows of the items table.
    rows: usize,
    selection: Option<&'a UInt32Array>,
    /// Whose rows are counted, where those are events or exemplars instead of items, and to which item each belongs.
    counted: Option<(Level, UInt32Array)>,
    joined: &'a [OnceLock<Arc<Joined>>],
    events: OnceCell<Children>,
    links: OnceCell<Children>,
    exemplars: OnceCell<Children>,
    /// What stands beside the rows, and the number of their frame.
    beside: Option<(Arc<Structure>, usize)>,
    cache: RefCell<HashMap<usize, At<Vals>>>,
}

impl<'a> FrameRows<'a> {
    /// `parts` hold the columns of one frame of so many `rows`, read in several steps; `selection` ascends.
    pub(crate) fn new(
        fields: &'a [Field],
        columns: &'a dyn Columns,
        parts: &'a [Batch],
        rows: usize,
        selection: Option<&'a UInt32Array>,
    ) -> FrameRows<'a> {
        FrameRows {
            fields,
            columns,
            parts,
            rows,
            selection,
            counted: None,
            joined: &[],
            events: OnceCell::new(),
            links: OnceCell::new(),
            exemplars: OnceCell::new(),
            beside: None,
            cache: RefCell::new(HashMap::new()),
        }
    }

    /// With rows of other signals beside them.
    pub(crate) fn joining(self, joined: &'a [OnceLock<Arc<Joined>>]) -> FrameRows<'a> {
        FrameRows { joined, ..self }
    }

    /// Rows of a child table instead of items, each with the values of the item that it belongs to. `selection` numbers them.
    pub(crate) fn counting(mut self, child: Level, len: usize) -> Result<FrameRows<'a>, ArrowError> {
        let Some(table) = child.table() else { return Ok(self) };
        // A column of nothing but zeros may be absent.
        let parents = self.index(table, Intrinsic::Parent).cloned().unwrap_or_else(|| UInt32Array::from_value(0, len));
        let items = self.selection.map_or_else(|| Ok(parents.clone()), |rows| take_u32(&parents, rows))?;
        self.counted = Some((child, items));
        Ok(self)
    }

    /// The item of each row; `None` where row and item have the same number.
    fn items(&self) -> Option<&UInt32Array> {
        self.counted.as_ref().map(|(_, items)| items).or(self.selection)
    }

    /// What holds for items, for the rows that belong to them.
    pub(crate) fn of_items(&self, holds: &BooleanBuffer) -> BooleanBuffer {
        match self.items() {
            None => holds.clone(),
            Some(items) => BooleanBuffer::collect_bool(items.len(), |row| holds.value(items.value(row) as usize)),
        }
    }

    /// With what structure tells of the rows of this frame.
    pub(crate) fn beside(self, structure: Arc<Structure>, number: usize) -> FrameRows<'a> {
        FrameRows { beside: Some((structure, number)), ..self }
    }

    fn table(&self, kind: TableKind) -> impl Iterator<Item = &'a Table> {
        self.parts.iter().filter_map(move |b| b.table(kind))
    }

    /// A column of row numbers; `None` means row 0 everywhere.
    fn index(&self, table: TableKind, column: Intrinsic) -> Option<&'a UInt32Array> {
        self.table(table).find_map(|t| t.index(column))
    }

    fn select(&self, index: Option<&UInt32Array>) -> Result<UInt32Array, ArrowError> {
        match (index, self.items()) {
            (None, _) => Ok(UInt32Array::from_value(0, self.len(Level::Row))),
            (Some(index), None) => Ok(index.clone()),
            (Some(index), Some(rows)) => take_u32(index, rows),
        }
    }

    fn children(&self, child: Level) -> Result<&Children, ArrowError> {
        let (cell, kind) = match child {
            Level::Link => (&self.links, TableKind::Links),
            Level::Exemplar => (&self.exemplars, TableKind::Exemplars),
            _ => (&self.events, TableKind::Events),
        };
        if let Some(children) = cell.get() {
            return Ok(children);
        }
        let parents = self.index(kind, Intrinsic::Parent).cloned().unwrap_or_else(|| UInt32Array::from_value(0, 0));
        let children = match self.selection {
            None => (None, parents),
            Some(selection) => {
                let mut position = vec![None; self.rows];
                selection.values().iter().enumerate().for_each(|(at, row)| position[*row as usize] = Some(at as u32));
                let kept = parents.values().iter().enumerate();
                let kept = kept.filter_map(|(i, parent)| Some((i as u32, position[*parent as usize]?)));
                let (rows, parents): (Vec<u32>, Vec<u32>) = kept.unzip();
                (Some(rows.into()), parents.into())
            }
        };
        Ok(cell.get_or_init(|| children))
    }

    fn at_level(&self, table: TableKind, vals: Vals) -> Result<At<Vals>, ArrowError> {
        let mut level = Level::of_table(table);
        let rows = match level {
            Level::Row => self.items(),
            own if self.counted.as_ref().is_some_and(|(counted, _)| *counted == own) => {
                level = Level::Row;
                self.selection
            }
            child if child.is_child() => self.children(child)?.0.as_ref(),
            _ => None,
        };
        let of = rows.map_or_else(|| Ok(vals.clone()), |rows| vals.take(rows))?;
        Ok(At { level, of })
    }

    fn load(&self, field: usize) -> Result<At<Vals>, ArrowError> {
        if let (From::Beside(beside), Some((structure, number))) = (&self.fields[field].from, &self.beside) {
            let of = structure.values(*number, field, beside, self.rows, self.selection)?;
            return Ok(At { level: Level::Row, of });
        }
        let layers = self.fields[field].read(self.columns, self)?;
        let mut levels = Vec::with_capacity(layers.len());
        for (table, vals) in layers {
            levels.push(self.at_level(table, vals)?);
        }
        let common = levels.iter().fold(Level::One, |level, at| level.common(at.level));
        if common == Level::One {
            return Ok(At { level: Level::One, of: Vals::nulls(1) });
        }
        let mut layers = Vec::with_capacity(levels.len());
        for at in levels {
            layers.push(if at.level == common { at.of } else { at.of.take(&self.lift(at.level, common)?)? });
        }
        Ok(At { level: common, of: Vals::coalesce(&layers)? })
    }
}

impl Loaded for FrameRows<'_> {
    fn column(&self, table: TableKind, id: &ColumnId) -> Option<ArrayRef> {
        self.table(table).find_map(|t| t.column(id)).cloned()
    }

    fn rows(&self, table: TableKind) -> usize {
        match table {
            TableKind::Items => self.rows,
            TableKind::Resources | TableKind::Scopes | TableKind::Descriptors => {
                // Rows that point to nothing point to a row of defaults.
                self.table(table).map(Table::rows).max().unwrap_or(0).max(1)
            }
            _ => self.table(table).map(Table::rows).max().unwrap_or(0),
        }
    }
}

impl Rows for FrameRows<'_> {
    fn field(&self, field: usize) -> Result<At<Vals>, ArrowError> {
        if let Some(known) = self.cache.borrow().get(&field) {
            return Ok(known.clone());
        }
        let loaded = self.load(field)?;
        self.cache.borrow_mut().insert(field, loaded.clone());
        Ok(loaded)
    }

    fn len(&self, level: Level) -> usize {
        match level {
            Level::Row => self.items().map_or(self.rows, Array::len),
            child if child.is_child() => self.children(level).map_or(0, |(_, parents)| parents.len()),
            interned => interned.table().map_or(1, |table| Loaded::rows(self, table)),
        }
    }

    fn joined(&self, join: usize) -> Option<&Joined> {
        self.joined.get(join)?.get().map(|joined| &**joined)
    }

    fn lift(&self, from: Level, to: Level) -> Result<UInt32Array, ArrowError> {
        let to_row = match from {
            Level::Resource => self.select(self.index(TableKind::Items, Intrinsic::Resource))?,
            Level::Scope => self.select(self.index(TableKind::Items, Intrinsic::Scope))?,
            Level::Metric => self.select(self.index(TableKind::Items, Intrinsic::Metric))?,
            _ => return Ok(self.children(to)?.1.clone()),
        };
        match to {
            child if child.is_child() => take_u32(&to_row, &self.children(to)?.1),
            _ => Ok(to_row),
        }
    }
}

fn take_u32(values: &UInt32Array, rows: &UInt32Array) -> Result<UInt32Array, ArrowError> {
    take(values, rows, None)?
        .as_any()
        .downcast_ref::<UInt32Array>()
        .cloned()
        .ok_or_else(|| ArrowError::ComputeError("row numbers changed their type".into()))
}
