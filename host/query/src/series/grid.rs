//! The rows of an answer over all bins and both ranges: which there are, in the order of their series and bins.

use std::collections::HashMap;

use arrow::array::{Int64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use prism_dsl::Fill;
use prism_model::window::TimeRange;

use super::{Grouped, Stage};
use crate::encode;
use crate::error::QueryError;
use crate::eval::Vals;
use crate::eval::builder::ValsBuilder;
use crate::eval::vals::Scalar;
use crate::eval::zone::TimeBin;

/// A row: a bin of a series.
#[derive(Clone, Copy, Debug)]
struct Cell {
    series: u32,
    /// Start of its bin; 0 without bins.
    bin: i64,
    /// Its group in each range.
    groups: [Option<u32>; 2],
}

/// The rows of an answer, in the order of series and bins.
pub(super) struct Grid {
    cells: Vec<Cell>,
    keys: usize,
    bin: Option<usize>,
    /// Of each series a range and a group of it that has its keys.
    of_series: Vec<(usize, u32)>,
    pub(super) runs: Runs,
}

/// Where series lie among the rows, and which bin each row is.
pub(super) struct Runs {
    /// First and last row, excluded, of each series.
    pub(super) series: Vec<(usize, usize)>,
    /// Of each row the number of its bin: neighbours differ by 1.
    pub(super) bins: Vec<i64>,
}

impl Grid {
    pub(super) fn of(
        stage: &Stage,
        keys: usize,
        range: TimeRange,
        sides: &[&Grouped],
        fill_rows_max: usize,
    ) -> Result<Grid, QueryError> {
        let bin = stage.bin.map(|(key, _)| key);
        let mut series: HashMap<Box<[u8]>, u32> = HashMap::new();
        let mut rows: HashMap<(u32, i64), usize> = HashMap::new();
        let (mut cells, mut of_series) = (Vec::new(), Vec::new());
        let mut bytes = Vec::new();
        for (number, side) in sides.iter().enumerate() {
            for group in 0..side.rows {
                bytes.clear();
                for key in (0..keys).filter(|key| Some(*key) != bin) {
                    let mut value = Vec::new();
                    encode::encode(&side.columns[key].get(group), &mut value);
                    encode::order_key(&value, false, &mut bytes);
                }
                let start = bin.map_or(Scalar::Int(0), |key| side.columns[key].get(group));
                // Every row has a time, and so every group a bin.
                let Scalar::Int(start) = start else { continue };
                let next = of_series.len() as u32;
                let of = match series.get(bytes.as_slice()) {
                    Some(of) => *of,
                    None => {
                        series.insert(bytes.as_slice().into(), next);
                        of_series.push((number, group as u32));
                        next
                    }
                };
                let row = *rows.entry((of, start)).or_insert_with(|| {
                    cells.push(Cell { series: of, bin: start, groups: [None; 2] });
                    cells.len() - 1
                });
                cells[row].groups[number] = Some(group as u32);
            }
        }
        if let (true, Some((_, bins))) = (stage.fill != Fill::None, stage.bin) {
            // Without other groups there is one series, even of no rows.
            let all = if keys == 1 { 1 } else { of_series.len() };
            let starts = starts(bins, range, all, fill_rows_max)?;
            for of in 0..all as u32 {
                let missing = starts.iter().filter(|start| !rows.contains_key(&(of, **start)));
                cells.extend(missing.map(|start| Cell { series: of, bin: *start, groups: [None; 2] }));
            }
        }
        cells.sort_unstable_by_key(|cell| (cell.series, cell.bin));
        let runs = Runs::of(&cells, stage.bin.map(|(_, bins)| bins), fill_rows_max)?;
        Ok(Grid { cells, keys, bin, of_series, runs })
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// The keys of all rows.
    pub(super) fn keys(&self, sides: &[&Grouped]) -> Vec<Vals> {
        let of_key = |key: usize| {
            if Some(key) == self.bin {
                return Vals::of_ints(Int64Array::from_iter_values(self.cells.iter().map(|cell| cell.bin)));
            }
            let mut builder = ValsBuilder::new();
            for cell in &self.cells {
                let of = self.of_series.get(cell.series as usize);
                builder.push(of.map_or(Scalar::Null, |(side, group)| sides[*side].columns[key].get(*group as usize)));
            }
            builder.finish()
        };
        (0..self.keys).map(of_key).collect()
    }

    /// What one range aggregated, filled where it has no group.
    pub(super) fn outputs(&self, stage: &Stage, number: usize, side: &Grouped) -> Result<Vec<Vals>, QueryError> {
        let group = |cell: &Cell| cell.groups[number];
        let there: UInt32Array = match stage.fill {
            Fill::Previous => {
                let mut last: Option<&Cell> = None;
                let with_last = self.cells.iter().map(|cell| {
                    let missing = group(cell).is_none() && last.is_some_and(|last| last.series == cell.series);
                    last = if missing { last } else { Some(cell) };
                    last.and_then(group)
                });
                with_last.collect()
            }
            _ => self.cells.iter().map(group).collect(),
        };
        let absent = BooleanBuffer::collect_bool(self.len(), |row| group(&self.cells[row]).is_none());
        let of_output = |(column, zero): (&Vals, &Option<Scalar>)| {
            let found = column.take(&there)?;
            match zero {
                Some(zero) if stage.fill == Fill::Zero => Ok(Vals::join(&found, &zeros(&found, zero)?.keep(&absent)?)?),
                _ => Ok(found),
            }
        };
        side.columns[self.keys..].iter().zip(&stage.zeros).map(of_output).collect()
    }
}

/// A zero for each row of a column of numbers, of the column's type; nothing beside texts.
fn zeros(of: &Vals, zero: &Scalar) -> Result<Vals, arrow::error::ArrowError> {
    let zero = match (of.kinds(), &of.double, &of.int) {
        (0, ..) => zero.clone(),
        (_, Some(_), _) => Scalar::Double(0.0),
        (_, _, Some(_)) => Scalar::Int(0),
        _ => Scalar::Null,
    };
    Vals::of_scalar(zero).repeat(of.len)
}

/// The bins that a range touches.
fn starts(bins: TimeBin, range: TimeRange, series: usize, limit: usize) -> Result<Vec<i64>, QueryError> {
    let mut starts = Vec::new();
    let mut next = bins.start(range.from);
    while let Some(start) = next.filter(|start| *start < range.to) {
        starts.push(start);
        if starts.len().saturating_mul(series) > limit {
            return Err(QueryError::FillRows { limit });
        }
        next = bins.next(start);
    }
    Ok(starts)
}

impl Runs {
    fn of(cells: &[Cell], bins: Option<TimeBin>, limit: usize) -> Result<Runs, QueryError> {
        let mut series: Vec<(usize, usize)> = Vec::new();
        for (row, cell) in cells.iter().enumerate() {
            match series.last_mut() {
                Some((first, end)) if cells[*first].series == cell.series => *end = row + 1,
                _ => series.push((row, row + 1)),
            }
        }
        let numbers = match bins {
            None => vec![0; cells.len()],
            Some(TimeBin { width, zone: None }) => cells.iter().map(|cell| cell.bin.div_euclid(width)).collect(),
            Some(bins) => {
                let mut starts: Vec<i64> = cells.iter().map(|cell| cell.bin).collect();
                starts.sort_unstable();
                starts.dedup();
                let number_of = numbered(bins, &starts, limit)?;
                cells.iter().map(|cell| number_of[&cell.bin]).collect()
            }
        };
        Ok(Runs { series, bins: numbers })
    }
}

/// The bins of a zone are counted one by one, since they differ in length.
fn numbered(bins: TimeBin, starts: &[i64], limit: usize) -> Result<HashMap<i64, i64>, QueryError> {
    let mut numbers = HashMap::new();
    let (mut number, mut next) = (0, starts.first().copied());
    for start in starts {
        while let Some(at) = next.filter(|at| at < start) {
            number += 1;
            if number as usize > limit {
                return Err(QueryError::FillRows { limit });
            }
            next = bins.next(at);
        }
        numbers.insert(*start, number);
    }
    Ok(numbers)
}
