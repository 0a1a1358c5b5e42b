//! Which rows of a row group are read where few are wanted.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use parquet::arrow::arrow_reader::RowSelection;

use super::damaged;
use crate::error::{Damage, StoreError};

/// Fewer unwanted rows in a row are decoded rather than skipped: each skip costs about as much as so many.
const SKIPPED_ROWS_MIN: usize = 256;

/// Rows of a row group that are read: those that are wanted, and what lies between near ones.
pub(super) struct Picked {
    pub(super) ranges: Vec<Range<usize>>,
    /// The wanted rows' places among those read.
    places: UInt32Array,
}

impl Picked {
    pub(super) fn of(rows: &UInt32Array, all: usize) -> Result<Picked, StoreError> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut places = Vec::with_capacity(rows.len());
        let mut before = 0;
        for row in rows.values().iter().map(|row| *row as usize) {
            match ranges.last_mut() {
                Some(last) if row < last.end => return Err(Damage::Bounds("rows of a row group").into()),
                Some(last) if row - last.end <= SKIPPED_ROWS_MIN => last.end = row + 1,
                last => {
                    before += last.map_or(0, |last| last.len());
                    ranges.push(row..row + 1);
                }
            }
            let start = ranges.last().map_or(0, |last| last.start);
            places.push((before + row - start) as u32);
        }
        match ranges.last() {
            Some(last) if last.end <= all => Ok(Picked { ranges, places: places.into() }),
            _ => Err(Damage::Bounds("rows of a row group").into()),
        }
    }

    /// How many rows are read.
    pub(super) fn read(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    pub(super) fn selection(&self, all: usize) -> RowSelection {
        RowSelection::from_consecutive_ranges(self.ranges.iter().cloned(), all)
    }

    /// The wanted rows of columns that were read.
    pub(super) fn of_those(&self, columns: HashMap<String, ArrayRef>) -> Result<HashMap<String, ArrayRef>, StoreError> {
        if self.places.len() == self.read() {
            return Ok(columns);
        }
        let picked = |(name, array): (String, ArrayRef)| Ok((name, take(&array, &self.places, None).map_err(damaged)?));
        columns.into_iter().map(picked).collect()
    }
}
