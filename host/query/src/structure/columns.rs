//! Ids and times of a frame's spans, as they were read.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Int64Array, UInt32Array};
use prism_model::Intrinsic;

use super::span::{OPEN, Span};
use super::spread::Found;
use crate::error::QueryError;
use crate::reading::Reading;

/// Times of a frame's spans.
#[derive(Default)]
pub(super) struct Times {
    starts: Option<Int64Array>,
    durations: Option<Int64Array>,
    running: Option<BooleanArray>,
}

impl Times {
    /// Out of the columns that were read.
    pub(super) fn of(column: impl Fn(Intrinsic) -> Option<ArrayRef>) -> Times {
        Times {
            starts: column(Intrinsic::Time).map(|a| a.as_primitive().clone()),
            durations: column(Intrinsic::Duration).map(|a| a.as_primitive().clone()),
            running: column(Intrinsic::Running).map(|a| a.as_boolean().clone()),
        }
    }

    pub(super) fn start(&self, row: usize) -> i64 {
        self.starts.as_ref().map_or(0, |starts| starts.value(row))
    }

    /// Start and end. What has not ended ends where it starts.
    pub(super) fn extent(&self, row: usize) -> (i64, i64) {
        let span = Span { start: self.start(row), duration: self.duration(row), ..Span::default() };
        (span.start, span.end(span.start))
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
    pub(super) fn of(ids: Option<ArrayRef>) -> Option<Ids<N>> {
        let ids = ids?;
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

/// The traces of a frame's rows.
pub(super) enum TraceIds {
    /// By row.
    Plain(Option<Ids<16>>),
    /// Each once, `None` for one that is empty, and by row its number.
    Numbered { ids: Vec<Option<[u64; 2]>>, numbers: UInt32Array },
}

impl TraceIds {
    /// Reads them. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Reading::read_items`].
    pub(super) fn read(reading: &mut Reading<'_>) -> Result<TraceIds, QueryError> {
        if let Some(numbered) = reading.numbered(Intrinsic::TraceId)?
            && let Some(ids) = numbered.values().as_fixed_size_binary_opt()
            && ids.value_length() == 16
        {
            let (values, _) = ids.value_data().as_chunks::<16>();
            let ids = values.iter().map(|id| (*id != [0; 16]).then(|| words_of(id))).collect();
            return Ok(TraceIds::Numbered { ids, numbers: numbered.keys().clone() });
        }
        reading.read_items(&[Intrinsic::TraceId])?;
        Ok(TraceIds::Plain(Ids::of(reading.column(Intrinsic::TraceId))))
    }

    /// The trace of a row.
    pub(super) fn get(&self, row: usize) -> Option<[u64; 2]> {
        match self {
            TraceIds::Plain(ids) => ids.as_ref()?.get(row).map(words_of),
            TraceIds::Numbered { ids, numbers } if numbers.is_valid(row) => ids[numbers.value(row) as usize],
            TraceIds::Numbered { .. } => None,
        }
    }

    /// Whether some row is of a trace that is wanted.
    pub(super) fn any(&self, mut wanted: impl FnMut([u64; 2]) -> bool) -> bool {
        match self {
            TraceIds::Numbered { ids, .. } => ids.iter().flatten().any(|id| wanted(*id)),
            TraceIds::Plain(None) => false,
            TraceIds::Plain(Some(ids)) => {
                let mut last = [0; 2];
                // Spans of a trace mostly lie together.
                (0..ids.len())
                    .filter_map(|row| ids.get(row).map(words_of))
                    .any(|id| std::mem::replace(&mut last, id) != id && wanted(id))
            }
        }
    }

    /// Sees of each of some rows what is told of its trace: once of each where ids stand so. Of a row without trace `alone` tells.
    pub(super) fn each<V: Copy>(
        &self,
        rows: impl Iterator<Item = usize>,
        tell: impl Fn([u64; 2]) -> V,
        alone: impl Fn(usize) -> V,
        mut see: impl FnMut(usize, V),
    ) {
        match self {
            TraceIds::Numbered { ids, numbers } => {
                // Few of them may be asked for.
                let mut told: Vec<Option<V>> = vec![None; ids.len()];
                for row in rows {
                    let number = numbers.is_valid(row).then(|| numbers.value(row) as usize);
                    let told = match number.and_then(|number| Some((number, ids[number]?))) {
                        None => alone(row),
                        Some((number, id)) => *told[number].get_or_insert_with(|| tell(id)),
                    };
                    see(row, told);
                }
            }
            TraceIds::Plain(ids) => {
                let mut last: Option<([u64; 2], V)> = None;
                for row in rows {
                    let Some(id) = ids.as_ref().and_then(|ids| ids.get(row)).map(words_of) else {
                        see(row, alone(row));
                        continue;
                    };
                    let told = match last {
                        Some((known, told)) if known == id => told,
                        _ => tell(id),
                    };
                    last = Some((id, told));
                    see(row, told);
                }
            }
        }
    }

    /// Sees of each of some rows a number that its trace has, and the trace. A trace may have several numbers; of a row without one
    /// `alone` tells.
    pub(super) fn grouped(
        &self,
        rows: impl Iterator<Item = usize>,
        alone: impl Fn(usize) -> [u64; 2],
        mut see: impl FnMut(usize, usize, [u64; 2]),
    ) {
        match self {
            TraceIds::Numbered { ids, numbers } => {
                let mut next = ids.len();
                for row in rows {
                    let number = numbers.is_valid(row).then(|| numbers.value(row) as usize);
                    match number.and_then(|number| Some((number, ids[number]?))) {
                        Some((number, id)) => see(row, number, id),
                        None => {
                            see(row, next, alone(row));
                            next += 1;
                        }
                    }
                }
            }
            TraceIds::Plain(_) => {
                let (mut last, mut next) = (None, 0);
                for row in rows {
                    let id = self.get(row);
                    // Spans of a trace mostly lie together.
                    if id.is_none() || last != id {
                        (last, next) = (id, next + 1);
                    }
                    see(row, next - 1, id.unwrap_or_else(|| alone(row)));
                }
            }
        }
    }

    /// The traces of rows with marks, and what these are together: some of them perhaps more than once.
    pub(super) fn marked(&self, marks: &[u32]) -> Vec<Found> {
        let mut all: Vec<Found> = Vec::new();
        match self {
            TraceIds::Numbered { ids, numbers } => {
                let mut of_ids = vec![0; ids.len()];
                for (row, marks) in marks.iter().enumerate().filter(|(row, _)| numbers.is_valid(*row)) {
                    of_ids[numbers.value(row) as usize] |= marks;
                }
                let found = ids.iter().zip(of_ids).filter(|(_, marks)| *marks != 0);
                all.extend(found.filter_map(|(id, marks)| Some(Found { trace: (*id)?, marks })));
            }
            TraceIds::Plain(_) => {
                for (row, marks) in marks.iter().enumerate().filter(|(_, marks)| **marks != 0) {
                    let Some(trace) = self.get(row) else { continue };
                    // Spans of a trace mostly lie together.
                    match all.last_mut().filter(|last| last.trace == trace) {
                        Some(last) => last.marks |= marks,
                        None => all.push(Found { trace, marks: *marks }),
                    }
                }
            }
        }
        all
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
