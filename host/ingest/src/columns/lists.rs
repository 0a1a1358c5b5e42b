//! Lists of numbers, which grow value by value before it is known whether their row is kept.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, ListArray, PrimitiveArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use prism_model::column::list_of;

use super::ColumnError;
use super::presence::Presence;

/// A column of lists, and the list at hand. A row without values has no list.
pub(crate) struct Lists<T> {
    rows: Presence,
    /// The values of all kept lists, then of the one at hand.
    values: Vec<T>,
    /// Where each kept list ends.
    ends: Vec<u32>,
    /// Where the list at hand starts.
    start: usize,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Lists { rows: Presence::default(), values: Vec::new(), ends: Vec::new(), start: 0 }
    }
}

impl<T: Copy> Lists<T> {
    /// Adds a value to the list at hand.
    #[inline(always)]
    pub(crate) fn push(&mut self, value: T) {
        self.values.push(value);
    }

    /// Adds values to the list at hand.
    #[inline(always)]
    pub(crate) fn extend(&mut self, values: impl Iterator<Item = T>) {
        self.values.extend(values);
    }

    /// The list at hand.
    #[inline(always)]
    pub(crate) fn pending(&self) -> &[T] {
        &self.values[self.start..]
    }

    /// Gives the list at hand to a row above all others; the next one starts empty.
    #[inline(always)]
    pub(crate) fn keep(&mut self, row: u32) {
        if self.values.len() > self.start {
            self.rows.push(row);
            // What does not fit is found when the column is finished.
            self.ends.push(self.values.len() as u32);
            self.start = self.values.len();
        }
    }

    /// Forgets the list at hand.
    #[inline(always)]
    pub(crate) fn forget(&mut self) {
        self.values.truncate(self.start);
    }
}

/// A nullable column of lists; `None` where it would be all null.
///
/// # Errors
/// There are more values than 32-bit offsets count.
pub(crate) fn lists<P: ArrowPrimitiveType>(
    mut column: Lists<P::Native>,
    rows: usize,
) -> Result<Option<ArrayRef>, ColumnError> {
    column.forget();
    if column.ends.is_empty() {
        return Ok(None);
    }
    if i32::try_from(column.values.len()).is_err() {
        return Err(ColumnError::TooLong(size_of_val(&*column.values)));
    }
    let offsets = column.rows.offsets(&column.ends, rows);
    let nulls = column.rows.nulls(rows);
    let arrow::datatypes::DataType::List(item) = list_of(P::DATA_TYPE) else { return Ok(None) };
    let values = PrimitiveArray::<P>::new(ScalarBuffer::from(column.values), None);
    Ok(Some(Arc::new(ListArray::new(item, OffsetBuffer::new(ScalarBuffer::from(offsets)), Arc::new(values), nulls))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn kept_lists_are_there_and_others_leave_no_trace(
            all in proptest::collection::vec((proptest::collection::vec(any::<i64>(), 0..4), any::<bool>()), 0..40),
        ) {
            let mut column = Lists::default();
            let mut expected = Vec::new();
            for (list, keep) in &all {
                column.extend(list.iter().copied());
                prop_assert_eq!(column.pending(), &list[..]);
                if *keep {
                    column.keep(expected.len() as u32);
                    expected.push(list.clone());
                } else {
                    column.forget();
                }
            }
            match lists::<Int64Type>(column, expected.len()).unwrap() {
                None => prop_assert!(expected.iter().all(Vec::is_empty)),
                Some(array) => {
                    let array = array.as_list::<i32>();
                    prop_assert_eq!(array.len(), expected.len());
                    for (row, list) in expected.iter().enumerate() {
                        prop_assert_eq!(array.is_null(row), list.is_empty());
                        let found = array.value(row);
                        prop_assert_eq!(found.as_primitive::<Int64Type>().values(), &list[..]);
                    }
                }
            }
        }
    }
}
