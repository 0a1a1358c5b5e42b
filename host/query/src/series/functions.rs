//! Functions over the bins of a series: a bin without a row is a missing value, which `fill` before them may have mended.

use arrow::array::UInt32Array;
use arrow::error::ArrowError;

use super::grid::Runs;
use crate::eval::Vals;
use crate::eval::arithmetic::arithmetic;
use crate::eval::builder::ValsBuilder;
use crate::eval::node::{ArithmeticOp, Node};
use crate::eval::vals::Scalar;

/// A function over the bins of a series.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) function: SeriesFunction,
    /// What it is of: an expression of groups and of the series functions before it.
    pub(crate) of: Node,
}

/// What is computed for each bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SeriesFunction {
    /// The mean of so many bins, this one the last.
    MovingAvg(usize),
    /// The mean in which each bin before weighs so much less: `alpha * x + (1 - alpha) * before`.
    Ewma(f64),
    /// The change from the bin before.
    Diff,
    /// The sum of all bins so far.
    Cumsum,
    /// The distance from the mean of so many bins before this one, in their standard deviations.
    Zscore(usize),
    /// The value so many bins earlier.
    Shift(i64),
}

impl SeriesFunction {
    /// Whether it gives doubles, whatever it is of.
    pub(crate) fn is_double(self) -> bool {
        matches!(self, SeriesFunction::MovingAvg(_) | SeriesFunction::Ewma(_) | SeriesFunction::Zscore(_))
    }
}

impl Series {
    /// The function of `of`, which has a value for each row.
    pub(super) fn over(&self, of: &Vals, runs: &Runs) -> Result<Vals, ArrowError> {
        match self.function {
            SeriesFunction::Shift(bins) => of.take(&earlier(runs, of.len, bins)),
            SeriesFunction::Diff => arithmetic(ArithmeticOp::Sub, of, &of.take(&earlier(runs, of.len, 1))?),
            SeriesFunction::Cumsum => Ok(cumsum(of, runs)),
            SeriesFunction::Ewma(alpha) => Ok(each(of.len, runs, |rows, out| {
                let mut mean: Option<f64> = None;
                for row in rows {
                    if let Some(value) = of.number(row) {
                        mean = Some(mean.map_or(value, |mean| alpha * value + (1.0 - alpha) * mean));
                    }
                    out[row] = mean;
                }
            })),
            SeriesFunction::MovingAvg(bins) => {
                Ok(windows(of, runs, bins as i64 - 1, 0, |values| (!values.is_empty()).then(|| mean(values))))
            }
            SeriesFunction::Zscore(bins) => {
                let deviations = windows(of, runs, bins as i64, 1, |values| {
                    let (n, mean) = (values.len() as f64, mean(values));
                    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
                    (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()).filter(|d| *d > 0.0)
                });
                let means = windows(of, runs, bins as i64, 1, |values| (!values.is_empty()).then(|| mean(values)));
                arithmetic(ArithmeticOp::Div, &arithmetic(ArithmeticOp::Sub, of, &means)?, &deviations)
            }
        }
    }
}

/// Of each row the row of its series that many bins earlier.
fn earlier(runs: &Runs, rows: usize, bins: i64) -> UInt32Array {
    let mut found = vec![None; rows];
    for (first, end) in &runs.series {
        let of_series = &runs.bins[*first..*end];
        for (at, bin) in of_series.iter().enumerate() {
            let wanted = bin.checked_sub(bins);
            let row = wanted.and_then(|wanted| of_series.binary_search(&wanted).ok());
            found[first + at] = row.map(|row| (first + row) as u32);
        }
    }
    found.into()
}

/// A number for each row, series by series.
fn each(rows: usize, runs: &Runs, mut of_series: impl FnMut(std::ops::Range<usize>, &mut [Option<f64>])) -> Vals {
    let mut out = vec![None; rows];
    runs.series.iter().for_each(|(first, end)| of_series(*first..*end, &mut out));
    Vals::of_doubles(out.into_iter().map(|v: Option<f64>| v.filter(|v| v.is_finite())).collect())
}

/// A number for each row, of the values from `back` bins before it to `until` bins before it.
fn windows(of: &Vals, runs: &Runs, back: i64, until: i64, number: impl Fn(&[f64]) -> Option<f64>) -> Vals {
    let mut values = Vec::new();
    each(of.len, runs, |rows, out| {
        let mut from = rows.start;
        for row in rows {
            let bin = runs.bins[row];
            while runs.bins[from] < bin.saturating_sub(back) {
                from += 1;
            }
            values.clear();
            let within = (from..=row).take_while(|at| runs.bins[*at] <= bin.saturating_sub(until));
            values.extend(within.filter_map(|at| of.number(at)));
            out[row] = number(&values);
        }
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Ints stay ints while there is no double among them; a sum beyond int64 is missing.
fn cumsum(of: &Vals, runs: &Runs) -> Vals {
    let mut builder = ValsBuilder::new();
    let doubles = of.double.is_some();
    for (first, end) in &runs.series {
        let (mut whole, mut sum) = (0i128, 0.0);
        for row in *first..*end {
            match of.get(row) {
                Scalar::Int(i) => whole += i128::from(i),
                Scalar::Double(d) => sum += d,
                _ => {}
            }
            builder.push(match i64::try_from(whole) {
                _ if doubles => Scalar::Double(whole as f64 + sum),
                Ok(whole) => Scalar::Int(whole),
                Err(_) => Scalar::Null,
            });
        }
    }
    builder.finish()
}
