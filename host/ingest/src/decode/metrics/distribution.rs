//! The columns of histograms, exponential histograms and summaries.

use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use prism_model::{Column, Intrinsic, MetricType};

use super::super::Context;
use super::super::resource::columns;
use super::point::Fields;
use crate::columns::ColumnError;
use crate::columns::lists::{Lists, lists};
use crate::columns::scalar::{Scalars, nullable};
use crate::wire::{Fault, Result as WireResult, WireError};

/// What only these points have; null for a point whose type does not have it.
#[derive(Default)]
pub(super) struct Distribution {
    pub(super) room: Room,
    pub(super) bucket_counts: Lists<i64>,
    pub(super) explicit_bounds: Lists<f64>,
    pub(super) positive_counts: Lists<i64>,
    pub(super) negative_counts: Lists<i64>,
    pub(super) quantiles: Lists<f64>,
    pub(super) quantile_values: Lists<f64>,
    count: Scalars<i64>,
    sum: Scalars<f64>,
    min: Scalars<f64>,
    max: Scalars<f64>,
    scale: Scalars<i32>,
    zero_count: Scalars<i64>,
    zero_threshold: Scalars<f64>,
    positive_offset: Scalars<i32>,
    negative_offset: Scalars<i32>,
}

/// How many numbers the lists may still get.
#[derive(Default)]
pub(super) struct Room(usize);

impl Room {
    /// Takes the room of `count` numbers that stand in these bytes.
    #[inline(always)]
    pub(super) fn take(&mut self, count: usize, bytes: &[u8]) -> WireResult<()> {
        self.0 = self.0.checked_sub(count).ok_or_else(|| WireError::at(Fault::Lists, bytes))?;
        Ok(())
    }
}

impl Distribution {
    pub(super) fn new(context: &Context) -> Distribution {
        Distribution { room: Room(context.list_values_max), ..Distribution::default() }
    }

    /// Whether the counts of the lists at hand fit int64; those beyond came as negative ones.
    pub(super) fn counts_fit(&self) -> bool {
        let fit = |counts: &[i64]| counts.iter().fold(0, |all, count| all | count) >= 0;
        fit(self.bucket_counts.pending()) && fit(self.positive_counts.pending()) && fit(self.negative_counts.pending())
    }

    /// Adds a point with the lists at hand. `false` where these do not match each other.
    pub(super) fn keep(&mut self, ty: MetricType, row: u32, fields: &Fields) -> bool {
        self.count.push(row, fields.count as i64);
        push_some(&mut self.sum, row, fields.sum);
        let mut matching = true;
        match ty {
            MetricType::Histogram => {
                let (counts, bounds) = (self.bucket_counts.pending().len(), self.explicit_bounds.pending().len());
                // A histogram may go without buckets; else the last bucket has no upper bound.
                matching = counts == bounds + 1 || (counts == 0 && bounds == 0);
                self.bucket_counts.keep(row);
                self.explicit_bounds.keep(row);
            }
            MetricType::ExponentialHistogram => {
                self.scale.push(row, fields.scale);
                self.zero_count.push(row, fields.zero_count as i64);
                self.zero_threshold.push(row, fields.zero_threshold);
                push_some(&mut self.positive_offset, row, fields.positive_offset);
                push_some(&mut self.negative_offset, row, fields.negative_offset);
                self.positive_counts.keep(row);
                self.negative_counts.keep(row);
            }
            _ => {
                self.quantiles.keep(row);
                self.quantile_values.keep(row);
                return true;
            }
        }
        push_some(&mut self.min, row, fields.min);
        push_some(&mut self.max, row, fields.max);
        matching
    }

    /// Forgets the lists at hand.
    pub(super) fn forget(&mut self) {
        self.bucket_counts.forget();
        self.explicit_bounds.forget();
        self.positive_counts.forget();
        self.negative_counts.forget();
        self.quantiles.forget();
        self.quantile_values.forget();
    }

    pub(super) fn finish(self, rows: usize) -> Result<Vec<Column>, ColumnError> {
        Ok(columns([
            (Intrinsic::Count, nullable::<Int64Type>(self.count, rows)),
            (Intrinsic::Sum, nullable::<Float64Type>(self.sum, rows)),
            (Intrinsic::Min, nullable::<Float64Type>(self.min, rows)),
            (Intrinsic::Max, nullable::<Float64Type>(self.max, rows)),
            (Intrinsic::BucketCounts, lists::<Int64Type>(self.bucket_counts, rows)?),
            (Intrinsic::ExplicitBounds, lists::<Float64Type>(self.explicit_bounds, rows)?),
            (Intrinsic::Scale, nullable::<Int32Type>(self.scale, rows)),
            (Intrinsic::ZeroCount, nullable::<Int64Type>(self.zero_count, rows)),
            (Intrinsic::ZeroThreshold, nullable::<Float64Type>(self.zero_threshold, rows)),
            (Intrinsic::PositiveOffset, nullable::<Int32Type>(self.positive_offset, rows)),
            (Intrinsic::PositiveCounts, lists::<Int64Type>(self.positive_counts, rows)?),
            (Intrinsic::NegativeOffset, nullable::<Int32Type>(self.negative_offset, rows)),
            (Intrinsic::NegativeCounts, lists::<Int64Type>(self.negative_counts, rows)?),
            (Intrinsic::Quantiles, lists::<Float64Type>(self.quantiles, rows)?),
            (Intrinsic::QuantileValues, lists::<Float64Type>(self.quantile_values, rows)?),
        ]))
    }
}

fn push_some<T: Copy + PartialEq>(column: &mut Scalars<T>, row: u32, value: Option<T>) {
    if let Some(value) = value {
        column.push(row, value);
    }
}
