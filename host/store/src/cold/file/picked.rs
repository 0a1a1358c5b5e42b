//! Which rows of a row group are read where few are wanted.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{Array as _, ArrayRef, AsArray as _, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, UInt32Type};
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

    /// All rows of some ranges, which ascend.
    pub(super) fn all_of(ranges: Vec<Range<usize>>) -> Picked {
        let places = (0..ranges.iter().map(|range| range.len() as u32).sum()).collect::<Vec<u32>>().into();
        Picked { ranges, places }
    }

    /// Which of the rows have a text, by an array of what was read; `None` where it holds no texts.
    pub(super) fn equal(&self, texts: &ArrayRef, value: &[u8]) -> Option<UInt32Array> {
        let rows = self.ranges.iter().cloned().flatten();
        let equal = |(row, text): (usize, Option<&str>)| (text?.as_bytes() == value).then_some(row as u32);
        let found: Vec<u32> = match texts.data_type() {
            DataType::Utf8 => rows.zip(texts.as_string::<i32>()).filter_map(equal).collect(),
            DataType::Dictionary(..) => {
                let texts = texts.as_dictionary_opt::<UInt32Type>()?.downcast_dict::<StringArray>()?;
                rows.zip(texts).filter_map(equal).collect()
            }
            _ => return None,
        };
        Some(found.into())
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
