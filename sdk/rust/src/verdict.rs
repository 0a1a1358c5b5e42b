//! Builds what a filter answers.

use crate::column::Bits;
use crate::{Addition, Dtype, Field, Place, Role, Values, Verdict};

/// The label of rows that stay; labels are positions below 64.
const KEEP: u8 = u8::MAX;

/// Which rows are dropped, and why; in any order of rows.
#[derive(Clone, Debug)]
pub struct Drops {
    /// A label for each row; empty as long as nothing is dropped.
    labels: Vec<u8>,
    rows: usize,
    dropped: usize,
}

impl Drops {
    /// Keeps all `rows`.
    pub fn new(rows: usize) -> Drops {
        Drops { labels: Vec::new(), rows, dropped: 0 }
    }

    /// Drops a row for the reason at position `label` of [`crate::Description::labels`]. The first reason stays; a row
    /// beyond the end is ignored.
    pub fn drop(&mut self, row: usize, label: u8) {
        if self.labels.is_empty() {
            self.labels = vec![KEEP; self.rows];
        }
        if let Some(slot) = self.labels.get_mut(row).filter(|slot| **slot == KEEP) {
            *slot = label;
            self.dropped += 1;
        }
    }

    /// Whether the row was dropped.
    pub fn is_dropped(&self, row: usize) -> bool {
        self.labels.get(row).is_some_and(|&label| label != KEEP)
    }

    /// How many rows were dropped.
    pub fn dropped(&self) -> usize {
        self.dropped
    }
}

impl From<Drops> for Verdict {
    fn from(drops: Drops) -> Verdict {
        if drops.dropped == 0 {
            return Verdict { keep: None, reasons: None, add: Vec::new() };
        }
        let mut keep = Vec::with_capacity(drops.rows.div_ceil(8));
        let mut reasons = Vec::with_capacity(drops.dropped);
        for rows in drops.labels.chunks(8) {
            keep.push(rows.iter().enumerate().fold(0u8, |byte, (i, &label)| byte | u8::from(label == KEEP) << i));
        }
        reasons.extend(drops.labels.iter().copied().filter(|&label| label != KEEP));
        Verdict { keep: Some(keep), reasons: Some(reasons), add: Vec::new() }
    }
}

impl Addition {
    /// The weight of each row: how many items it stands for. Rows without a bit in `valid` keep the weight they have.
    pub fn sampling_weight(weights: Vec<f64>, valid: Bits) -> Addition {
        Addition::new(Role::Intrinsic, "sampling_weight", Dtype::Float64, Values::F64s(weights), Some(valid))
    }

    /// An attribute of the items: one value for each row, dropped ones too. Where valid, it replaces the attribute of that
    /// key. `values` may be of text, int64, float64, booleans or binary.
    pub fn attribute(name: &str, dtype: Dtype, values: Values, valid: Option<Bits>) -> Addition {
        Addition::new(Role::Attribute, name, dtype, values, valid)
    }

    /// The rows take their values from a dictionary: a key for each row.
    pub fn keyed(mut self, keys: Vec<u32>) -> Addition {
        self.keys = Some(keys);
        self
    }

    fn new(role: Role, name: &str, dtype: Dtype, values: Values, valid: Option<Bits>) -> Addition {
        let field = Field { need: 0, place: Some(Place::Item), role, name: name.to_owned(), dtype };
        Addition { field, validity: valid.map(Bits::into_bytes), keys: None, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_the_order_of_rows() {
        let mut drops = Drops::new(10);
        drops.drop(9, 3);
        drops.drop(1, 7);
        drops.drop(1, 8);
        drops.drop(10, 8);
        assert!(drops.is_dropped(1) && !drops.is_dropped(0) && drops.dropped() == 2);
        let verdict = Verdict::from(drops);
        assert_eq!(verdict.keep, Some(vec![0b1111_1101, 0b01]));
        assert_eq!(verdict.reasons, Some(vec![7, 3]));
        assert_eq!(Verdict::from(Drops::new(3)).keep, None);
    }
}
