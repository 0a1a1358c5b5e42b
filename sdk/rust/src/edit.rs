//! Builds what a redactor answers.

use crate::{BytesCol, ColumnRef, Edit, Values};

/// Changes to one column of text or bytes. Entries come in ascending order, each at most once.
#[derive(Debug, Default)]
pub struct ByteEdits {
    at: Vec<u32>,
    labels: Vec<u8>,
    offsets: Vec<u32>,
    data: Vec<u8>,
    cleared: Vec<u32>,
    cleared_labels: Vec<u8>,
}

impl ByteEdits {
    /// No changes yet.
    pub fn new() -> ByteEdits {
        ByteEdits::default()
    }

    /// Room for so many changed entries of so many bytes in all, where both are known: the result is then never moved.
    pub fn with_capacity(entries: usize, bytes: usize) -> ByteEdits {
        ByteEdits {
            at: Vec::with_capacity(entries),
            labels: Vec::with_capacity(entries),
            offsets: Vec::with_capacity(entries + 1),
            data: Vec::with_capacity(bytes),
            ..ByteEdits::default()
        }
    }

    /// Gives an entry another value, written by `write` at the end of the buffer.
    ///
    /// `label` says what was found, as position in [`crate::Description::labels`].
    pub fn replace(&mut self, entry: usize, label: u8, write: impl FnOnce(&mut Vec<u8>)) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        write(&mut self.data);
        self.at.push(entry as u32);
        self.labels.push(label);
        self.offsets.push(self.data.len() as u32);
    }

    /// Sets an entry to null; on keys: drops the attribute.
    pub fn clear(&mut self, entry: usize, label: u8) {
        self.cleared.push(entry as u32);
        self.cleared_labels.push(label);
    }

    /// The edit of the column; `None` where nothing changes.
    pub fn finish(mut self, column: &ColumnRef<'_>) -> Option<Edit> {
        if self.at.is_empty() && self.cleared.is_empty() {
            return None;
        }
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        self.labels.append(&mut self.cleared_labels);
        let bytes = BytesCol { offsets: self.offsets, data: self.data };
        let values =
            if matches!(column.values(), Values::Binary(_)) { Values::Binary(bytes) } else { Values::Utf8(bytes) };
        Some(Edit {
            table: column.table_index,
            column: column.column_index,
            at: self.at,
            values,
            labels: self.labels,
            cleared: self.cleared,
        })
    }
}

/// Changes to one column of `i64` or `f64`. Entries come in ascending order, each at most once.
#[derive(Debug)]
pub struct NumberEdits<T> {
    at: Vec<u32>,
    labels: Vec<u8>,
    values: Vec<T>,
    cleared: Vec<u32>,
    cleared_labels: Vec<u8>,
}

impl<T> NumberEdits<T> {
    /// No changes yet.
    pub fn new() -> NumberEdits<T> {
        NumberEdits { at: vec![], labels: vec![], values: vec![], cleared: vec![], cleared_labels: vec![] }
    }

    /// Gives an entry another value. `label` says what was found.
    pub fn replace(&mut self, entry: usize, label: u8, value: T) {
        self.at.push(entry as u32);
        self.labels.push(label);
        self.values.push(value);
    }

    /// Sets an entry to null.
    pub fn clear(&mut self, entry: usize, label: u8) {
        self.cleared.push(entry as u32);
        self.cleared_labels.push(label);
    }

    /// The edit of the column; `None` where nothing changes.
    pub fn finish(mut self, column: &ColumnRef<'_>) -> Option<Edit>
    where
        Values: From<Vec<T>>,
    {
        if self.at.is_empty() && self.cleared.is_empty() {
            return None;
        }
        self.labels.append(&mut self.cleared_labels);
        Some(Edit {
            table: column.table_index,
            column: column.column_index,
            at: self.at,
            values: self.values.into(),
            labels: self.labels,
            cleared: self.cleared,
        })
    }
}

impl<T> Default for NumberEdits<T> {
    fn default() -> NumberEdits<T> {
        NumberEdits::new()
    }
}

impl From<Vec<i64>> for Values {
    fn from(values: Vec<i64>) -> Values {
        Values::S64s(values)
    }
}

impl From<Vec<f64>> for Values {
    fn from(values: Vec<f64>) -> Values {
        Values::F64s(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::BatchBuilder;

    #[test]
    fn labels_of_replaced_entries_stand_before_those_of_cleared_ones() {
        let batch = BatchBuilder::spans(3).text(0, "a", &[Some("x"), Some("y"), Some("z")]).build();
        let column = batch.columns().next().unwrap();
        let mut edits = ByteEdits::with_capacity(2, 4);
        edits.clear(0, 9);
        edits.replace(1, 1, |out| out.extend_from_slice(b"yy"));
        edits.replace(2, 2, |out| out.extend_from_slice(b"zz"));
        let edit = edits.finish(&column).unwrap();
        assert_eq!((edit.at, edit.labels, edit.cleared), (vec![1, 2], vec![1, 2, 9], vec![0]));
        let Values::Utf8(values) = edit.values else { panic!("expected text") };
        assert_eq!((values.offsets, values.data), (vec![0, 2, 4], b"yyzz".to_vec()));
        assert!(ByteEdits::new().finish(&column).is_none());
        let mut only_cleared = ByteEdits::new();
        only_cleared.clear(2, 0);
        let Values::Utf8(values) = only_cleared.finish(&column).unwrap().values else { panic!("expected text") };
        assert_eq!(values.offsets, [0]);
    }
}
