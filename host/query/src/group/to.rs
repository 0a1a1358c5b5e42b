//! Which rows an accumulator adds, and to which groups.

use arrow::array::Array as _;
use arrow::buffer::BooleanBuffer;

use crate::eval::Vals;

/// Some rows and the group of each.
pub(super) struct To<'a> {
    /// By row; `None` is group 0 for all.
    pub(super) groups: Option<&'a [u32]>,
    /// How many rows there are.
    pub(super) len: usize,
    /// Those that are added; `None` for all.
    pub(super) seen: Option<&'a BooleanBuffer>,
}

impl To<'_> {
    /// Calls with group and row. The loops are apart, so that what is called is made part of each.
    #[inline(always)]
    pub(super) fn each(&self, mut f: impl FnMut(usize, usize)) {
        match (self.groups, self.seen) {
            (None, None) => (0..self.len).for_each(|row| f(0, row)),
            (Some(groups), None) => groups.iter().enumerate().for_each(|(row, group)| f(*group as usize, row)),
            (None, Some(seen)) => seen.set_indices().for_each(|row| f(0, row)),
            (Some(groups), Some(seen)) => seen.set_indices().for_each(|row| f(groups[row] as usize, row)),
        }
    }

    /// Every number among the rows, as a double. Rows that are seen have a value.
    #[inline(always)]
    pub(super) fn numbers(&self, arg: Option<&Vals>, mut add: impl FnMut(usize, f64)) {
        let Some(arg) = arg else { return };
        match (&arg.int, &arg.double) {
            (Some(ints), None) if arg.kinds() == 1 => {
                let ints = ints.values();
                self.each(|group, row| add(group, ints[row] as f64));
            }
            (None, Some(doubles)) if arg.kinds() == 1 => {
                let doubles = doubles.values();
                self.each(|group, row| add(group, doubles[row]));
            }
            (None, None) => {}
            (Some(ints), None) => self.each(|group, row| {
                if ints.is_valid(row) {
                    add(group, ints.value(row) as f64);
                }
            }),
            _ => self.each(|group, row| {
                if let Some(value) = arg.number(row) {
                    add(group, value);
                }
            }),
        }
    }
}
