//! Ids and times of a frame's spans, as they were read.

use arrow::array::{Array, AsArray, BooleanArray, FixedSizeBinaryArray, Int64Array};
use prism_model::Intrinsic;

use super::span::OPEN;
use crate::reading::Reading;

/// Times of a frame's spans.
#[derive(Default)]
pub(super) struct Times {
    starts: Option<Int64Array>,
    durations: Option<Int64Array>,
    running: Option<BooleanArray>,
}

impl Times {
    pub(super) fn of(reading: &Reading<'_>) -> Times {
        Times {
            starts: reading.column(Intrinsic::Time).map(|a| a.as_primitive().clone()),
            durations: reading.column(Intrinsic::Duration).map(|a| a.as_primitive().clone()),
            running: reading.column(Intrinsic::Running).map(|a| a.as_boolean().clone()),
        }
    }

    pub(super) fn start(&self, row: usize) -> i64 {
        self.starts.as_ref().map_or(0, |starts| starts.value(row))
    }

    /// As the field `duration` has it.
    pub(super) fn duration(&self, row: usize) -> i64 {
        if self.running.as_ref().is_some_and(|running| running.is_valid(row) && running.value(row)) {
            return OPEN;
        }
        match self.durations.as_ref() {
            Some(durations) if durations.is_null(row) => OPEN,
            // The end 0 is none.
            Some(durations) if durations.value(row) < 0 && self.start(row).wrapping_add(durations.value(row)) == 0 => {
                OPEN
            }
            Some(durations) => durations.value(row),
            None => 0,
        }
    }
}

/// Ids of a frame.
pub(super) struct Ids<const N: usize>(FixedSizeBinaryArray);

impl<const N: usize> Ids<N> {
    pub(super) fn of(reading: &Reading<'_>, column: Intrinsic) -> Option<Ids<N>> {
        let ids = reading.column(column)?;
        Some(Ids(ids.as_fixed_size_binary().clone())).filter(|ids| ids.0.value_length() as usize == N)
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// An id that is there: neither missing nor empty.
    pub(super) fn get(&self, row: usize) -> Option<&[u8; N]> {
        let (ids, _) = self.0.value_data().as_chunks::<N>();
        let id = ids.get(row)?;
        (*id != [0; N] && self.0.is_valid(row)).then_some(id)
    }
}

/// As it is hashed and compared.
pub(super) fn words_of(id: &[u8; 16]) -> [u64; 2] {
    let (words, _) = id.as_chunks::<8>();
    [u64::from_be_bytes(words[0]), u64::from_be_bytes(words[1])]
}

/// As it is stored.
pub(super) fn bytes_of(id: &[u64; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id[0].to_be_bytes());
    bytes[8..].copy_from_slice(&id[1].to_be_bytes());
    bytes
}
