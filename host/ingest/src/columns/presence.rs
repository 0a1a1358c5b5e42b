//! Which rows of a column have a value.

use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};

/// The ascending rows that have a value. As long as none is left out, only their number is kept.
#[derive(Default)]
pub(crate) struct Presence {
    dense: u32,
    /// Every row, once there is a gap; empty until then.
    rows: Vec<u32>,
}

impl Presence {
    /// Adds a row above all others.
    #[inline(always)]
    pub(crate) fn push(&mut self, row: u32) {
        if self.rows.is_empty() && row == self.dense {
            self.dense += 1;
        } else {
            self.push_after_gap(row);
        }
    }

    fn push_after_gap(&mut self, row: u32) {
        if self.rows.is_empty() {
            self.rows.extend(0..self.dense);
        }
        self.rows.push(row);
    }

    /// How many rows have a value.
    pub(crate) fn count(&self) -> usize {
        if self.rows.is_empty() { self.dense as usize } else { self.rows.len() }
    }

    /// Whether the rows that have a value are the first ones.
    pub(crate) fn is_prefix(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows that have a value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let dense = if self.rows.is_empty() { self.dense } else { 0 };
        (0..dense).chain(self.rows.iter().copied())
    }

    /// The validity of `rows` rows; `None` where all have a value.
    pub(crate) fn nulls(&self, rows: usize) -> Option<NullBuffer> {
        let count = self.count();
        if count == rows {
            return None;
        }
        let mut bits = vec![0u8; rows.div_ceil(8)];
        if self.is_prefix() {
            bits[..count / 8].fill(0xff);
            if !count.is_multiple_of(8) {
                bits[count / 8] = (1 << (count % 8)) - 1;
            }
        } else {
            for &row in &self.rows {
                bits[row as usize / 8] |= 1 << (row % 8);
            }
        }
        Some(NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows)))
    }

    /// Offsets of `rows` values of varying length, of which those that came end at `ends`; the others are empty.
    pub(crate) fn offsets(&self, ends: &[u32], rows: usize) -> Vec<i32> {
        let mut offsets: Vec<i32> = Vec::with_capacity(rows + 1);
        offsets.push(0);
        let mut end = 0;
        if self.is_prefix() {
            offsets.extend(ends.iter().map(|&end| end as i32));
            end = ends.last().map_or(0, |&end| end as i32);
        } else {
            for (&row, &next) in self.rows.iter().zip(ends) {
                offsets.resize(row as usize + 1, end);
                end = next as i32;
                offsets.push(end);
            }
        }
        offsets.resize(rows + 1, end);
        offsets
    }

    /// One value for each of `rows` rows, `fill` in the gaps.
    pub(crate) fn spread<T: Copy>(&self, mut values: Vec<T>, rows: usize, fill: T) -> Vec<T> {
        if self.is_prefix() {
            values.resize(rows, fill);
            return values;
        }
        let mut spread = vec![fill; rows];
        for (&row, &value) in self.rows.iter().zip(&values) {
            spread[row as usize] = value;
        }
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gaps_are_filled_where_they_are(flags in proptest::collection::vec(any::<bool>(), 0..70)) {
            let mut presence = Presence::default();
            let mut values = Vec::new();
            for (row, _) in flags.iter().enumerate().filter(|(_, f)| **f) {
                presence.push(row as u32);
                values.push(row as i64);
            }
            let expected: Vec<i64> = flags.iter().enumerate().map(|(i, f)| if *f { i as i64 } else { -1 }).collect();
            prop_assert_eq!(presence.spread(values, flags.len(), -1), expected);
            let nulls = presence.nulls(flags.len());
            for (row, flag) in flags.iter().enumerate() {
                prop_assert_eq!(nulls.as_ref().is_none_or(|n| n.is_valid(row)), *flag);
            }
            prop_assert_eq!(presence.iter().count(), presence.count());
        }
    }
}
