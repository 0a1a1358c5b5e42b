//! Which columns a segment has. Each frame defines those that no frame before it in the file had, and names all of its own
//! by number: the text of a key stands once per segment. Beside it stand the frame's siblings.

use std::collections::HashMap;

use prism_model::{AttrType, ColumnId, Intrinsic, TableKind};

use super::wire::{Put as _, Take};
use crate::error::Damage;

/// The last frame of a group in each of its files, as (late, window, file of the same writer, frame number); empty where the
/// group is one frame. A frame counts only when its siblings stand: a batch that was cut by window is there as a whole or not.
pub(crate) type Siblings = Vec<Sibling>;

/// One of [`Siblings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sibling {
    pub(crate) late: bool,
    pub(crate) window: i64,
    pub(crate) file: u32,
    pub(crate) frame: u32,
}

/// Siblings that are believed: windows that one writer has open, with room.
const SIBLINGS_MAX: usize = 4096;

/// A column of a table.
pub(crate) type TableColumn = (TableKind, ColumnId);

/// Columns of one segment, numbered as they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentSchema {
    numbers: HashMap<TableColumn, u32>,
}

impl SegmentSchema {
    pub(crate) fn len(&self) -> u32 {
        self.numbers.len() as u32
    }

    /// The schema block of a frame with these columns, and the columns that it defines: call [`SegmentSchema::define`] with
    /// them once the frame stands.
    pub(crate) fn block(&self, columns: &[TableColumn], siblings: &Siblings) -> (Vec<u8>, Vec<TableColumn>) {
        let mut out = Vec::new();
        let mut new = Vec::new();
        out.var(siblings.len() as u64);
        for s in siblings {
            out.u8(u8::from(s.late));
            out.i64(s.window);
            out.u32(s.file);
            out.u32(s.frame);
        }
        out.var(columns.len() as u64);
        for column in columns {
            let number = self.numbers.get(column).copied().unwrap_or_else(|| {
                new.push(column.clone());
                self.len() + new.len() as u32 - 1
            });
            out.var(u64::from(number));
        }
        out.var(new.len() as u64);
        for (table, id) in &new {
            out.u8(*table as u8);
            match id {
                // By name: the order of the enum may change.
                ColumnId::Intrinsic(i) => {
                    out.u8(0);
                    out.text(i.name().as_bytes());
                }
                ColumnId::Attr { key, ty } => {
                    out.u8(1 + *ty as u8);
                    out.text(key.as_bytes());
                }
            }
        }
        (out, new)
    }

    /// Forgets what frames that failed defined.
    pub(crate) fn truncate(&mut self, len: u32) {
        self.numbers.retain(|_, number| *number < len);
    }

    pub(crate) fn define(&mut self, new: Vec<TableColumn>) {
        for column in new {
            let next = self.len();
            self.numbers.insert(column, next);
        }
    }
}

/// Reads a schema block: the frame's columns and siblings. `known` are the columns defined before it; those that it defines are added.
pub(crate) fn read(block: &[u8], known: &mut Vec<TableColumn>) -> Result<(Vec<TableColumn>, Siblings), Damage> {
    let mut take = Take::new(block, "schema");
    let siblings = take.var_max(SIBLINGS_MAX)?;
    let siblings = (0..siblings)
        .map(|_| Ok(Sibling { late: take.u8()? == 1, window: take.i64()?, file: take.u32()?, frame: take.u32()? }))
        .collect::<Result<Siblings, Damage>>()?;
    let count = take.var_max(block.len())?;
    let numbers = (0..count).map(|_| take.var_max(u32::MAX as usize)).collect::<Result<Vec<_>, _>>()?;
    let new = take.var_max(take.left())?;
    let before = known.len();
    let mut read_new = || {
        for _ in 0..new {
            let table = TableKind::from_u8(take.u8()?).ok_or(Damage::Bounds("table"))?;
            let tag = take.u8()?;
            let text = take.string()?;
            let id = if tag == 0 {
                let found = Intrinsic::ALL.into_iter().find(|i| i.name() == text);
                ColumnId::Intrinsic(found.ok_or(Damage::Bounds("name of a fixed column"))?)
            } else {
                let ty = AttrType::ALL.get(usize::from(tag) - 1).ok_or(Damage::Bounds("type of an attribute"))?;
                ColumnId::attr(text, *ty)
            };
            known.push((table, id));
        }
        numbers
            .iter()
            .map(|n| known.get(*n).cloned().ok_or(Damage::Bounds("number of a column")))
            .collect::<Result<Vec<_>, _>>()
    };
    let columns = read_new().and_then(|columns| take.end().map(|()| columns));
    if columns.is_err() {
        known.truncate(before);
    }
    Ok((columns?, siblings))
}
