//! Which traces have what is asked for, and the ids and times of their spans.
//!
//! The conditions of the bindings are looked for with pruning, like any others; a trace stays if some way to match has all of
//! its bindings there. Then the spans of those traces are read; where nothing but the found spans matters, they alone.

use arrow::array::{Array, AsArray, FixedSizeBinaryArray, Int32Array, Int64Array};
use arrow::datatypes::Int64Type;
use prism_model::Intrinsic;
use prism_model::window::TimeRange;

use super::ask::Ask;
use super::span::{BELOW, ERROR, IN_RANGE, NAMED, OPEN, Span, Spans, Traces};
use crate::error::QueryError;
use crate::prune;
use crate::reading::{Matching, Reading};
use crate::scan::Scan;

/// Traces up to which frames are asked whether they hold any.
const FILTERED_TRACES_MAX: usize = 64;
/// Number of the status that is an error.
const STATUS_ERROR: i32 = 2;

/// What to read of spans beside their ids.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// Every span of a trace, and not only those that fit a binding.
    pub(crate) all: bool,
    pub(crate) times: bool,
    pub(crate) errors: bool,
}

/// Reads the spans of the traces that may match. `wide`: the range around the rows' in which other spans lie.
pub(crate) fn gather(
    scan: &Scan,
    ask: &Ask,
    wide: TimeRange,
    needs: Needs,
    bases: &[u32],
) -> Result<Spans, QueryError> {
    let frames = scan.frames.len();
    let mut reader =
        Gathering { scan, ask, wide, needs, bases, traces: Traces::new(), spans: Vec::new(), numbers: Vec::new() };
    // A binding that every span fits marks them all.
    let marked_alone = !needs.all || ask.bindings.iter().any(Vec::is_empty);
    let mut found: Vec<u32> = Vec::new();
    if marked_alone {
        for number in 0..frames {
            reader.frame(number, |reader, reading| {
                let marks = reader.marks(number, reading)?;
                if let Some(marks) = marks {
                    reader.spans(number, reading, |row| marks[row] != 0, |row| marks[row], None)?;
                }
                Ok(())
            })?;
        }
        found.resize(reader.traces.len(), 0);
        reader.spans.iter().zip(&reader.numbers).for_each(|(span, trace)| found[*trace as usize] |= span.marks);
        let wanted: Vec<bool> = found.iter().map(|marks| wanted(ask, *marks)).collect();
        return Ok(Spans::grouped(reader.spans, &reader.numbers, &wanted));
    }
    let mut marks: Vec<Option<Vec<u32>>> = vec![None; frames];
    for number in 0..frames {
        reader.frame(number, |reader, reading| {
            let Some(of_frame) = reader.marks(number, reading)? else { return Ok(()) };
            reading.read_items(&[Intrinsic::TraceId])?;
            if let Some(ids) = ids(reading, Intrinsic::TraceId) {
                for (row, marks) in of_frame.iter().enumerate().filter(|(_, marks)| **marks != 0) {
                    let Some(id) = id::<16>(&ids, row) else { continue };
                    let trace = reader.traces.number(id) as usize;
                    found.resize(found.len().max(trace + 1), 0);
                    found[trace] |= marks;
                }
            }
            marks[number] = Some(of_frame);
            Ok(())
        })?;
    }
    let mut wanted: Vec<bool> = found.iter().map(|marks| self::wanted(ask, *marks)).collect();
    let few: Option<Vec<[u8; 16]>> = (wanted.iter().filter(|wanted| **wanted).count() <= FILTERED_TRACES_MAX)
        .then(|| (0..wanted.len()).filter(|trace| wanted[*trace]).map(|trace| reader.traces.id(trace)).collect());
    for number in 0..frames {
        let hopeless = |ids: &Vec<[u8; 16]>| !ids.iter().any(|id| scan.frames[number].may_contain_trace(id));
        // Spans of no trace are looked at where they fit.
        if marks[number].is_none() && few.as_ref().is_some_and(hopeless) {
            continue;
        }
        let of_frame = marks[number].take();
        let marks = |row: usize| of_frame.as_ref().map_or(0, |marks| marks[row]);
        reader.frame(number, |reader, reading| {
            let rows = reading.fitting(&[], wide)?;
            if matches!(rows, Matching::None) {
                return Ok(());
            }
            let stays = rows.mask(scan.frames[number].rows());
            let stays = |row: usize| stays.as_ref().is_none_or(|stays| stays.value(row));
            reader.spans(number, reading, stays, marks, Some(&wanted))
        })?;
    }
    // Spans of no trace are traces of their own.
    wanted.resize(reader.traces.len(), true);
    Ok(Spans::grouped(reader.spans, &reader.numbers, &wanted))
}

/// Whether a trace with these marks may match.
fn wanted(ask: &Ask, marks: u32) -> bool {
    ask.alternatives.iter().any(|way| way.bound.iter().all(|binding| marks & (1 << binding) != 0))
}

struct Gathering<'s> {
    scan: &'s Scan,
    ask: &'s Ask,
    wide: TimeRange,
    needs: Needs,
    /// The place of the first row of each frame.
    bases: &'s [u32],
    traces: Traces,
    spans: Vec<Span>,
    /// The trace of each.
    numbers: Vec<u32>,
}

impl Gathering<'_> {
    /// Looks into a frame. One that cannot be read makes the answer partial.
    fn frame(
        &mut self,
        number: usize,
        look: impl FnOnce(&mut Self, &mut Reading<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        self.scan.in_time()?;
        let frame = &self.scan.frames[number];
        if !self.wide.touches(frame.stats().time_min, frame.stats().time_max) {
            return Ok(());
        }
        let mut reading = self.scan.reading(number);
        let looked = look(self, &mut reading);
        self.scan.give_up(looked, frame)?;
        let bytes = self.spans.capacity() * size_of::<Span>() * 2 + self.numbers.capacity() * 4 + self.traces.bytes();
        if bytes > self.scan.memory_bytes_max {
            let limit = self.scan.memory_bytes_max;
            return Err(QueryError::Spans { limit, spans: self.spans.len() });
        }
        Ok(())
    }

    /// Which bindings each row fits, and whether it lies in the range; `None` where no row fits any.
    fn marks(&self, number: usize, reading: &mut Reading<'_>) -> Result<Option<Vec<u32>>, QueryError> {
        let frame = &self.scan.frames[number];
        let mut marks = Vec::new();
        for (binding, conditions) in self.ask.bindings.iter().enumerate() {
            let hopeless = |condition| !prune::may_hold(condition, &self.scan.plan.fields, frame);
            if self.scan.prune && conditions.iter().any(hopeless) {
                continue;
            }
            let found = reading.fitting(conditions, self.wide)?;
            if matches!(found, Matching::None) {
                continue;
            }
            marks.resize(frame.rows(), 0u32);
            let mark = 1 << binding;
            match found {
                Matching::None => {}
                Matching::All => marks.iter_mut().for_each(|marks| *marks |= mark),
                Matching::Some(rows) => rows.values().iter().for_each(|row| marks[*row as usize] |= mark),
            }
        }
        if marks.is_empty() {
            return Ok(None);
        }
        let stats = frame.stats();
        if self.scan.plan.range.covers(stats.time_min, stats.time_max) {
            marks.iter_mut().filter(|marks| **marks != 0).for_each(|marks| *marks |= IN_RANGE);
        } else if self.scan.plan.range.touches(stats.time_min, stats.time_max) {
            reading.read_items(&[Intrinsic::Time])?;
            let times = reading.column(Intrinsic::Time);
            let times = times.as_ref().map(|times| times.as_primitive::<Int64Type>());
            for (row, marks) in marks.iter_mut().enumerate().filter(|(_, marks)| **marks != 0) {
                if self.scan.plan.range.contains(times.map_or(0, |times| times.value(row))) {
                    *marks |= IN_RANGE;
                }
            }
        }
        Ok(Some(marks))
    }

    /// Adds the spans of a frame: of rows that stay, of the wanted traces where only some are. Spans of no trace are added
    /// where they fit something.
    fn spans(
        &mut self,
        number: usize,
        reading: &mut Reading<'_>,
        stays: impl Fn(usize) -> bool,
        marks: impl Fn(usize) -> u32,
        wanted: Option<&[bool]>,
    ) -> Result<(), QueryError> {
        let mut columns = vec![Intrinsic::TraceId, Intrinsic::SpanId, Intrinsic::ParentId];
        if self.needs.times {
            columns.extend([Intrinsic::Time, Intrinsic::Duration, Intrinsic::Running]);
        }
        if self.needs.errors {
            columns.push(Intrinsic::Status);
        }
        reading.read_items(&columns)?;
        let [traces, own, parents] =
            [Intrinsic::TraceId, Intrinsic::SpanId, Intrinsic::ParentId].map(|i| ids(reading, i));
        let times = if self.needs.times { Times::of(reading) } else { Times::default() };
        let status: Option<Int32Array> =
            reading.column(Intrinsic::Status).filter(|_| self.needs.errors).map(|a| a.as_primitive().clone());
        for row in (0..self.scan.frames[number].rows()).filter(|row| stays(*row)) {
            let mut marks = marks(row);
            let trace = match (traces.as_ref().and_then(|ids| id::<16>(ids, row)), wanted) {
                (Some(id), None) => self.traces.number(id),
                (Some(id), Some(wanted)) => match self.traces.find(id) {
                    Some(trace) if wanted[trace as usize] => trace,
                    _ => continue,
                },
                (None, _) if marks != 0 => self.traces.alone(),
                (None, _) => continue,
            };
            let own = own.as_ref().and_then(|ids| id::<8>(ids, row));
            let parent = parents.as_ref().and_then(|ids| id::<8>(ids, row));
            if own.is_some() {
                marks |= NAMED;
            }
            if parent.is_some() {
                marks |= BELOW;
            }
            if status.as_ref().is_some_and(|status| status.value(row) == STATUS_ERROR) {
                marks |= ERROR;
            }
            self.numbers.push(trace);
            self.spans.push(Span {
                id: own.map_or(0, u64::from_be_bytes),
                parent: parent.map_or(0, u64::from_be_bytes),
                start: times.start(row),
                duration: times.duration(row),
                place: self.bases[number] + row as u32,
                marks,
            });
        }
        Ok(())
    }
}

/// Times of a frame's spans.
#[derive(Default)]
struct Times {
    starts: Option<Int64Array>,
    durations: Option<Int64Array>,
    running: Option<arrow::array::BooleanArray>,
}

impl Times {
    fn of(reading: &Reading<'_>) -> Times {
        Times {
            starts: reading.column(Intrinsic::Time).map(|a| a.as_primitive().clone()),
            durations: reading.column(Intrinsic::Duration).map(|a| a.as_primitive().clone()),
            running: reading.column(Intrinsic::Running).map(|a| a.as_boolean().clone()),
        }
    }

    fn start(&self, row: usize) -> i64 {
        self.starts.as_ref().map_or(0, |starts| starts.value(row))
    }

    /// As the field `duration` has it.
    fn duration(&self, row: usize) -> i64 {
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

fn ids(reading: &Reading<'_>, column: Intrinsic) -> Option<FixedSizeBinaryArray> {
    reading.column(column).map(|ids| ids.as_fixed_size_binary().clone())
}

/// An id that is there: neither missing nor empty.
fn id<const N: usize>(ids: &FixedSizeBinaryArray, row: usize) -> Option<[u8; N]> {
    let id: [u8; N] = ids.is_valid(row).then(|| ids.value(row).try_into().ok())??;
    (id != [0; N]).then_some(id)
}
