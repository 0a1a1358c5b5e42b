//! Values of a fixed width.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, BooleanArray, FixedSizeBinaryArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, Buffer, ScalarBuffer};

use super::presence::Presence;

/// Values of one type; a row without one is null or has the column's default.
pub(crate) struct Scalars<T> {
    pub(crate) rows: Presence,
    values: Vec<T>,
}

impl<T> Default for Scalars<T> {
    fn default() -> Self {
        Scalars { rows: Presence::default(), values: Vec::new() }
    }
}

impl<T: Copy + PartialEq> Scalars<T> {
    #[inline(always)]
    pub(crate) fn push(&mut self, row: u32, value: T) {
        self.rows.push(row);
        self.values.push(value);
    }

    /// Adds a value unless it is what a row without one has.
    #[inline(always)]
    pub(crate) fn push_unless(&mut self, row: u32, value: T, default: T) {
        if value != default {
            self.push(row, value);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, T)> {
        self.rows.iter().zip(self.values.iter().copied())
    }
}

/// A nullable column; `None` where it would be all null.
pub(crate) fn nullable<P: ArrowPrimitiveType>(column: Scalars<P::Native>, rows: usize) -> Option<ArrayRef> {
    if column.values.is_empty() {
        return None;
    }
    let nulls = column.rows.nulls(rows);
    let values = column.rows.spread(column.values, rows, P::Native::default());
    Some(Arc::new(PrimitiveArray::<P>::new(ScalarBuffer::from(values), nulls)))
}

/// A column without nulls whose gaps hold its default, zero; `None` where it would be all zero.
pub(crate) fn zero_filled<P: ArrowPrimitiveType>(column: Scalars<P::Native>, rows: usize) -> Option<ArrayRef> {
    if column.values.is_empty() {
        return None;
    }
    let values = column.rows.spread(column.values, rows, P::Native::default());
    Some(Arc::new(PrimitiveArray::<P>::new(ScalarBuffer::from(values), None)))
}

/// A nullable column of bools; `None` where it would be all null.
pub(crate) fn nullable_bools(column: Scalars<bool>, rows: usize) -> Option<ArrayRef> {
    if column.values.is_empty() {
        return None;
    }
    let nulls = column.rows.nulls(rows);
    let values = column.rows.spread(column.values, rows, false);
    Some(Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)))
}

/// A column of bools without nulls whose gaps are false; `None` where it would be all false.
pub(crate) fn false_filled(column: Scalars<bool>, rows: usize) -> Option<ArrayRef> {
    if column.values.is_empty() {
        return None;
    }
    Some(Arc::new(BooleanArray::new(BooleanBuffer::from(column.rows.spread(column.values, rows, false)), None)))
}

/// A nullable column of `N` bytes; `None` where it would be all null.
pub(crate) fn nullable_ids<const N: usize>(column: Scalars<[u8; N]>, rows: usize) -> Option<ArrayRef> {
    if column.values.is_empty() {
        return None;
    }
    let nulls = column.rows.nulls(rows);
    let values = column.rows.spread(column.values, rows, [0; N]).into_flattened();
    Some(Arc::new(FixedSizeBinaryArray::new(N as i32, Buffer::from_vec(values), nulls)))
}
