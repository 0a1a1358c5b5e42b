//! The first rows of an order, and where a page may end among rows that are alike.
//!
//! Kept are the rows that may be among the first, all that are alike in the last place of the order with them: which of those
//! come first is told by what they show (`finish`), which is read only for them.

use std::collections::BTreeMap;

/// Rows of one place in the order beyond which none are kept: telling them apart needs all of them in memory. Kept are those that
/// lie first, so that it is not chance which.
pub(crate) const ALIKE_MAX: usize = 16_384;
/// Frame and row behind the values of the order.
pub(crate) const PLACE_BYTES: usize = 8;
/// The place of a row that stands for those that were not kept.
pub(crate) const MORE: (u32, u32) = (u32::MAX, u32::MAX);

/// The first rows by their order.
#[derive(Debug)]
pub(crate) struct First {
    /// Rows wanted.
    limit: usize,
    rows: BTreeMap<Vec<u8>, Alike>,
    len: usize,
    bytes: usize,
    /// Where the page before ended: rows before it are not wanted, those at it perhaps.
    after: Option<Vec<u8>>,
}

/// Rows of one place in the order.
#[derive(Debug)]
struct Alike {
    rows: Vec<(u32, u32)>,
    /// The first value of the order.
    first: Option<i64>,
    more: bool,
}

impl First {
    /// So many rows, and one that tells whether more follow.
    pub(crate) fn new(limit: usize, after: Option<Vec<u8>>) -> First {
        First { limit, rows: BTreeMap::new(), len: 0, bytes: 0, after }
    }

    /// Whether no row is wanted at all.
    pub(crate) fn is_closed(&self) -> bool {
        self.limit == 0
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first value of the last place, where there are enough rows: only rows that are no worse are wanted.
    pub(crate) fn worst(&self) -> Option<i64> {
        if self.is_full() { self.rows.last_key_value().and_then(|(_, alike)| alike.first) } else { None }
    }

    /// Rows at the place where the page before ended do not count: they may all have been given.
    fn is_full(&self) -> bool {
        let given = self.after.as_ref().and_then(|after| self.rows.get(after)).map_or(0, |alike| alike.rows.len());
        self.len - given > self.limit
    }

    /// Adds a row, which lies behind those that were added before.
    pub(crate) fn add(&mut self, key: &[u8], first: Option<i64>, place: (u32, u32)) {
        if self.after.as_ref().is_some_and(|after| key < after.as_slice()) {
            return;
        }
        if let Some(alike) = self.rows.get_mut(key) {
            if alike.rows.len() >= ALIKE_MAX {
                alike.more = true;
                return;
            }
            alike.rows.push(place);
            self.bytes += PLACE_BYTES;
        } else {
            if self.is_full() && self.rows.last_key_value().is_some_and(|(last, _)| key > last.as_slice()) {
                return;
            }
            self.bytes += key.len() + size_of::<Alike>() + PLACE_BYTES;
            self.rows.insert(key.to_vec(), Alike { rows: vec![place], first, more: false });
        }
        self.len += 1;
        // The last place goes where the others are enough.
        while self.is_full_without_last() {
            let Some((key, alike)) = self.rows.pop_last() else { return };
            self.len -= alike.rows.len();
            self.bytes -= key.len() + size_of::<Alike>() + alike.rows.len() * PLACE_BYTES;
        }
    }

    fn is_full_without_last(&self) -> bool {
        let Some((last, alike)) = self.rows.last_key_value() else { return false };
        let given = match &self.after {
            Some(after) if after != last => self.rows.get(after).map_or(0, |alike| alike.rows.len()),
            _ => 0,
        };
        self.len - alike.rows.len() - given > self.limit
    }

    /// The rows, each as the values of its order with its place behind.
    pub(crate) fn into_keys(self) -> Vec<Vec<u8>> {
        let mut keys = Vec::with_capacity(self.len);
        for (key, alike) in self.rows {
            let more = alike.more.then_some(MORE);
            for (frame, row) in alike.rows.into_iter().chain(more) {
                let mut key = key.clone();
                key.extend(frame.to_be_bytes());
                key.extend(row.to_be_bytes());
                keys.push(key);
            }
        }
        keys
    }
}

/// The values of the order, frame and row.
pub(crate) fn parts(key: &[u8]) -> Option<(&[u8], (u32, u32))> {
    let (values, place) = key.split_last_chunk::<PLACE_BYTES>()?;
    let (frame, row) = place.split_first_chunk::<4>()?;
    Some((values, (u32::from_be_bytes(*frame), u32::from_be_bytes(*row.first_chunk::<4>()?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(limit: usize, after: Option<&[u8]>, keys: &[u8]) -> Vec<u8> {
        let mut first = First::new(limit, after.map(<[u8]>::to_vec));
        keys.iter().enumerate().for_each(|(row, key)| first.add(&[*key], Some(i64::from(*key)), (0, row as u32)));
        let keys = first.into_keys();
        keys.iter().map(|key| parts(key).unwrap().0[0]).collect()
    }

    #[test]
    fn the_first_rows_are_kept_with_one_more_and_all_that_are_alike() {
        assert_eq!(kept(2, None, &[5, 3, 9, 1, 7]), [1, 3, 5]);
        assert_eq!(kept(2, None, &[5, 5, 5, 9, 1]), [1, 5, 5, 5]);
        assert_eq!(kept(1, None, &[2, 1, 2, 1, 2, 1]), [1, 1, 1]);
        assert_eq!(kept(3, None, &[4, 2]), [2, 4]);
    }

    #[test]
    fn rows_where_the_page_before_ended_are_kept_beside() {
        assert_eq!(kept(2, Some(&[3]), &[1, 3, 3, 3, 4, 5, 6, 7, 2]), [3, 3, 3, 4, 5, 6]);
        assert_eq!(kept(1, Some(&[9]), &[1, 9]), [9]);
    }

    #[test]
    fn more_rows_alike_than_fit_are_told() {
        let mut first = First::new(1, None);
        (0..ALIKE_MAX + 5).for_each(|row| first.add(b"k", None, (0, row as u32)));
        let keys = first.into_keys();
        assert_eq!(keys.len(), ALIKE_MAX + 1);
        assert_eq!(parts(keys.last().unwrap()).unwrap().1, MORE);
    }
}
