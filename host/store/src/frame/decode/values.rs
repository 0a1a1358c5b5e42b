//! What a column tells without its rows being made: its values, and which rows have one.

use std::borrow::Cow;

use arrow::array::ArrayRef;
use prism_model::{ColumnId, TableKind};

use super::super::buffer::{self, Buffer};
use super::super::column::{self, ColumnDir};
use super::super::crypt::Blocks;
use super::FrameMeta;
use crate::error::Damage;
use crate::unit::Numbered;

impl FrameMeta {
    /// The stretch of the payload (offset, length) that tells all values of a column of the items; `None` where they do not stand by
    /// themselves.
    pub(crate) fn values_stretch(&self, id: &ColumnId) -> Result<Option<(u64, u64)>, Damage> {
        let Some(dir) = self.item(id)? else { return Ok(None) };
        if column::has_texts(id, &dir) {
            return Ok(stretch(&dir));
        }
        Ok(column::values_buffer(&dir).map(|buffer| (buffer.offset, buffer.stored.into())))
    }

    /// The values out of the bytes of [`FrameMeta::values_stretch`]: of a dictionary once, else as often as rows have them.
    pub(crate) fn values_of(&self, id: &ColumnId, stored: &[u8]) -> Result<Option<ArrayRef>, Damage> {
        let Some(dir) = self.item(id)? else { return Ok(None) };
        if column::has_texts(id, &dir) {
            let (rows, blocks) = (self.rows(TableKind::Items), self.blocks()?);
            return column::texts(&dir, rows, |buffer| opened(&dir, buffer, stored, &blocks)).map(Some);
        }
        let Some(buffer) = column::values_buffer(&dir) else { return Ok(None) };
        let bytes = buffer::open(&buffer, stored, false, &self.blocks()?)?;
        column::values(&dir, bytes).map(Some)
    }

    /// The stretch of the payload (offset, length) of a column of the items.
    pub(crate) fn column_stretch(&self, id: &ColumnId) -> Result<Option<(u64, u64)>, Damage> {
        Ok(self.item(id)?.and_then(|dir| stretch(&dir)))
    }

    /// The items that have a number in a column, ascending, out of the bytes of [`FrameMeta::column_stretch`]; `None` where the column
    /// must be decoded to tell.
    pub(crate) fn rows_of_int(&self, id: &ColumnId, number: i64, stored: &[u8]) -> Result<Option<Vec<u32>>, Damage> {
        let Some(dir) = self.item(id)? else { return Ok(None) };
        let (rows, blocks) = (self.rows(TableKind::Items), self.blocks()?);
        column::rows_of_int(&dir, rows, number, |buffer| opened(&dir, buffer, stored, &blocks))
    }

    /// Whether the ids of a column of the items stand by number.
    pub(crate) fn has_numbers(&self, id: &ColumnId) -> Result<bool, Damage> {
        Ok(self.item(id)?.is_some_and(|dir| column::has_numbers(&dir)))
    }

    /// These numbers, and each id once, out of the bytes of [`FrameMeta::column_stretch`].
    pub(crate) fn numbers_of(&self, id: &ColumnId, stored: &[u8]) -> Result<Option<Numbered>, Damage> {
        let Some(dir) = self.item(id)? else { return Ok(None) };
        let (rows, blocks) = (self.rows(TableKind::Items), self.blocks()?);
        column::numbers(&dir, rows, |buffer| opened(&dir, buffer, stored, &blocks))
    }

    /// Where the buffers of a column of the items are; `None` where it has none, or shares them with all others.
    fn item(&self, id: &ColumnId) -> Result<Option<ColumnDir>, Damage> {
        if self.header.whole {
            return Ok(None);
        }
        let Some(items) = self.tables.iter().find(|table| table.kind == TableKind::Items) else { return Ok(None) };
        let place = items.columns.iter().position(|column| column.id == *id);
        place.map(|place| self.dir(items, place)).transpose()
    }
}

/// Where the buffers of a column lie; `None` where it has none.
fn stretch(dir: &ColumnDir) -> Option<(u64, u64)> {
    let mut buffers = dir.buffers().filter(|buffer| buffer.stored > 0);
    let first = buffers.next()?;
    let end = |buffer: Buffer| buffer.offset + u64::from(buffer.stored);
    let end = buffers.last().map_or(end(first), end);
    Some((first.offset, end - first.offset))
}

/// A buffer of a column out of the column's stretch.
fn opened<'s>(
    dir: &ColumnDir,
    buffer: &Buffer,
    stored: &'s [u8],
    blocks: &Blocks<'_>,
) -> Result<Cow<'s, [u8]>, Damage> {
    // Empty ones have no place.
    if buffer.stored == 0 {
        return Ok(Cow::Borrowed(&[]));
    }
    let begin = stretch(dir).map_or(0, |(begin, _)| begin);
    let from = (buffer.offset - begin) as usize;
    let bytes = stored.get(from..from + buffer.stored as usize).ok_or(Damage::Short("payload"))?;
    buffer::open(buffer, bytes, false, blocks)
}
