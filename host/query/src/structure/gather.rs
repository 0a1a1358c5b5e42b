//! Which traces have what is asked for, and the ids and times of their spans.
//!
//! Where few traces may have what some name asks for, or where all spans of traces are wanted, the traces are found first; then
//! the spans of those are read, frame by frame on all threads. Where nothing but the found spans matters, they alone.

use arrow::array::{AsArray, Int32Array, UInt32Array};
use arrow::datatypes::Int64Type;
use datafusion::execution::memory_pool::MemoryReservation;
use parking_lot::Mutex;
use prism_model::Intrinsic;
use prism_model::window::TimeRange;

use super::Stop;
use super::ask::Ask;
use super::columns::{Ids, Times, TraceIds, bytes_of};
use super::marks::{Kept, Known};
use super::pieces::each;
use super::span::{BELOW, ERROR, IN_RANGE, LOOSE, NAMED, PARENT_FITS, Traces};
use super::spread::{Found, Hashing, Parts, Placed, Sent, Share, Spread, Spreads, Stored};
use super::wanted::Wanted;
use crate::engine::engine_error;
use crate::error::QueryError;
use crate::eval::node::Node;
use crate::prune;
use crate::reading::{Matching, Reading};
use crate::scan::Scan;

/// Traces up to which frames are asked whether they hold any.
const FILTERED_TRACES_MAX: usize = 64;
/// How many times fewer rows the frames of a name must have to be looked at before the others'.
const FIRST_FACTOR: u64 = 4;
/// Of so many rows of a frame one may fit a name that is looked at before the others, where frames do not tell: its traces are
/// then few, and the other spans of most frames need not be looked at.
const SAMPLED_FACTOR: usize = 256;
/// Of so many rows of a frame one must fit another name for that: else few spans are looked at in any case.
const SAMPLED_MANY: usize = 16;
/// Frames of which one is worth being looked at twice to know.
const SAMPLED_FRAMES_MIN: usize = 4;
/// Which part of the room for spans marks that are kept for the second look, and the traces that it is about, may take each.
pub(super) const KEPT_PART: usize = 4;
/// Where the trace of a span of none begins that is counted as one.
const ALONE: u64 = u64::MAX;
/// Number of the status that is an error.
const STATUS_ERROR: i32 = 2;

/// What to read of spans beside their ids, and how much room each takes later.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// Every span of a trace, and not only those that fit a binding.
    pub(crate) all: bool,
    pub(crate) times: bool,
    /// Ids of spans and of their parents.
    pub(crate) ids: bool,
    pub(crate) errors: bool,
    /// Bytes that a span takes beside those in which it is gathered.
    pub(crate) later_bytes: usize,
}

impl Needs {
    /// Bytes that a span takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.later_bytes + if self.times { size_of::<super::spread::Timed>() } else { size_of::<Sent>() }
    }
}

/// What the look for spans is about.
pub(crate) struct Gathering<'s> {
    pub(crate) scan: &'s Scan,
    pub(crate) ask: &'s Ask,
    /// See [`Ask::rows_alone`].
    pub(crate) rows_alone: u32,
    /// The range around the rows' in which other spans lie.
    pub(crate) wide: TimeRange,
    pub(crate) needs: Needs,
    /// The place of the first row of each frame.
    pub(crate) bases: &'s [u32],
    pub(crate) threads: usize,
    /// Bytes that spans may take.
    pub(crate) bytes_max: usize,
    pub(crate) memory: &'s MemoryReservation,
    pub(crate) hashing: &'s Hashing,
    /// Spans that are looked at together at most, but for those of one trace.
    pub(crate) spans_max: usize,
}

/// What was found of the traces that may match.
pub(super) struct Looked {
    pub(super) wanted: Wanted,
    /// Their ids where they are few.
    few: Option<Vec<[u8; 16]>>,
    kept: Kept,
    /// Spans of no trace are among the wanted; else those are that fit something.
    alone: bool,
}

impl Looked {
    /// `alone`: spans of no trace were looked for as well.
    pub(super) fn at(wanted: Wanted, kept: Kept, alone: bool) -> Looked {
        let few = wanted.len() <= FILTERED_TRACES_MAX && !(alone && wanted.ids().any(|id| id[0] == ALONE));
        let few = few.then(|| wanted.ids().map(bytes_of).collect());
        Looked { wanted, few, kept, alone }
    }

    /// Whether frames without any of the traces are left out.
    fn only_traces(&self) -> bool {
        !self.alone || self.few.is_some()
    }
}

impl Gathering<'_> {
    /// Reads the spans of the traces of a share that may match. Those of less are given where they are too many.
    pub(crate) fn spans<T: Stored>(&self, share: Share) -> Result<Spreads<T>, Stop> {
        let parts = Parts::of(share, self.rows());
        let bindings = self.bindings();
        let narrow = match self.narrow() {
            None => self.sampled()?,
            narrow => narrow,
        };
        let first: Vec<bool> = match narrow {
            Some(narrow) => (0..bindings).map(|binding| binding == narrow).collect(),
            None if self.needs.all => {
                (0..bindings).map(|b| self.ask.bindings.get(b).is_some_and(|c| !c.is_empty())).collect()
            }
            None => vec![false; bindings],
        };
        if !first.contains(&true) {
            return self.read::<T>(parts, None, &vec![true; bindings]);
        }
        // Where few rows fit, most frames need not be asked for traces.
        let looked = self.traces(parts, &first, narrow.is_none())?;
        let asked: Vec<bool> = first.iter().map(|asked| !asked).collect();
        self.read(looked.wanted.parts(), Some(&looked), &asked)
    }

    /// Rows of the frames that lie in the range.
    pub(super) fn rows(&self) -> u64 {
        self.touched().map(|number| self.scan.frames[number].rows() as u64).sum()
    }

    /// Bytes that may be kept from a look for traces to that for their spans, of each kind.
    pub(super) fn kept_max(&self) -> usize {
        self.bytes_max / KEPT_PART
    }

    /// Stands for the trace of a span of none.
    pub(super) fn loose(&self, frame: usize, row: usize) -> [u64; 2] {
        [ALONE, u64::from(self.bases[frame]) + row as u64]
    }

    /// How many sets of conditions spans are marked by: those of the bindings, then those of parents.
    fn bindings(&self) -> usize {
        self.ask.bindings.len() + usize::from(!self.ask.parent.is_empty())
    }

    fn conditions(&self, binding: usize) -> &[Node] {
        self.ask.bindings.get(binding).unwrap_or(&self.ask.parent)
    }

    /// How a span is marked that fits them.
    fn mark(&self, binding: usize) -> u32 {
        if binding < self.ask.bindings.len() { 1 << binding } else { PARENT_FITS }
    }

    /// Whether every match has a span that fits them.
    fn is_needed(&self, binding: usize) -> bool {
        binding >= self.ask.bindings.len() || self.ask.alternatives.iter().all(|way| way.bound.contains(&binding))
    }

    /// The frames that lie in the range.
    fn touched(&self) -> impl Iterator<Item = usize> + '_ {
        let touches = |number: &usize| {
            let stats = self.scan.frames[*number].stats();
            self.wide.touches(stats.time_min, stats.time_max)
        };
        (0..self.scan.frames.len()).filter(touches)
    }

    /// Whether some row of a frame may fit a binding.
    fn may_fit(&self, number: usize, binding: usize) -> bool {
        let frame = &self.scan.frames[number];
        let stats = frame.stats();
        let elsewhere = || {
            self.rows_alone & self.mark(binding) != 0 && !self.scan.plan.range.touches(stats.time_min, stats.time_max)
        };
        let may_hold = |condition| prune::may_hold(condition, &self.scan.plan.fields, frame);
        !self.scan.prune || (!elsewhere() && self.conditions(binding).iter().all(may_hold))
    }

    /// A binding that every match needs and few frames may have.
    fn narrow(&self) -> Option<usize> {
        let rows = |binding: usize| -> u64 {
            let fitting = self.touched().filter(|number| self.may_fit(*number, binding));
            fitting.map(|number| self.scan.frames[number].rows() as u64).sum()
        };
        let all: Vec<u64> = (0..self.bindings()).map(rows).collect();
        let narrowest =
            (0..all.len()).filter(|binding| self.is_needed(*binding)).min_by_key(|binding| all[*binding])?;
        let others = if self.needs.all {
            self.touched().map(|number| self.scan.frames[number].rows() as u64).sum()
        } else {
            all.iter().copied().max()?
        };
        (all[narrowest].saturating_mul(FIRST_FACTOR) <= others).then_some(narrowest)
    }

    /// A binding that every match needs and few rows fit, by those of one frame, where many fit another.
    fn sampled(&self) -> Result<Option<usize>, Stop> {
        let bindings = self.bindings();
        let needed = |binding: &usize| self.is_needed(*binding);
        let conditional = (0..bindings).filter(needed).any(|binding| !self.conditions(binding).is_empty());
        if !conditional || (bindings == 1 && !self.needs.all) || self.touched().count() < SAMPLED_FRAMES_MIN {
            return Ok(None);
        }
        let Some(number) = self.touched().max_by_key(|number| self.scan.frames[*number].rows()) else {
            return Ok(None);
        };
        let rows = self.scan.frames[number].rows();
        let count = |reading: &mut Reading<'_>, binding: usize| {
            let conditions = self.conditions(binding);
            if conditions.is_empty() {
                return Ok(rows);
            }
            if !self.may_fit(number, binding) {
                return Ok(0);
            }
            Ok(match reading.fitting(conditions, self.wide)? {
                Matching::None => 0,
                Matching::All => rows,
                Matching::Some(some) => some.len(),
            })
        };
        let sampled = each(self.scan, 1, 1, |_, _: &mut ()| {
            let all = |reading: &mut Reading<'_>| (0..bindings).map(|binding| count(reading, binding)).collect();
            Ok::<Option<Vec<usize>>, Stop>(self.frame(number, all)?)
        })?;
        let Some(counts) = sampled.into_iter().flatten().next() else { return Ok(None) };
        let Some(least) = (0..bindings).filter(needed).min_by_key(|binding| counts[*binding]) else { return Ok(None) };
        let most = if self.needs.all { rows } else { counts.iter().copied().max().unwrap_or_default() };
        let few = counts[least] * SAMPLED_FACTOR <= rows && most * SAMPLED_MANY >= rows;
        Ok(few.then_some(least))
    }

    /// Whether a trace with these marks may match, where bindings that were not `asked` about are in all.
    fn wanted(&self, marks: u32, asked: &[bool]) -> bool {
        let has = |binding: &usize| !asked[*binding] || marks & (1 << binding) != 0;
        let parent = self.ask.bindings.len();
        let has_parent = asked.get(parent) != Some(&true) || marks & PARENT_FITS != 0;
        has_parent && self.ask.alternatives.iter().any(|way| way.bound.iter().all(has))
    }

    /// Finds the traces that may match by some bindings.
    fn traces(&self, parts: Parts, asked: &[bool], eager: bool) -> Result<Looked, Stop> {
        let frames = self.scan.frames.len();
        let spreads = Mutex::new(Spreads::<Found>::new(frames, parts));
        let kept = Kept::new(frames, self.kept_max());
        each(self.scan, self.threads, frames, |number, _: &mut ()| {
            let parts = spreads.lock().parts;
            let found = self.frame(number, |reading| {
                if eager {
                    self.load(number, reading, asked, &[Intrinsic::TraceId])?;
                }
                let Some(of_frame) = self.marks(number, reading, asked)? else { return Ok(None) };
                let found = self.found(&TraceIds::read(reading)?, &of_frame, parts);
                Ok(Some((of_frame, found)))
            })?;
            let Some((of_frame, found)) = found.flatten() else { return Ok(()) };
            kept.keep(number, of_frame);
            self.add(&spreads, number, found, parts, usize::MAX, &|| kept.bytes())
        })?;
        let spreads = spreads.into_inner();
        let wanted = each(self.scan, self.threads, spreads.parts.len(), |part, traces: &mut Traces| {
            traces.clear();
            let mut marks: Vec<u32> = Vec::new();
            for found in spreads.part(part).flatten() {
                let number = traces.number(found.trace) as usize;
                marks.resize(marks.len().max(number + 1), 0);
                marks[number] |= found.marks;
            }
            let wanted = traces.ids().iter().zip(marks).filter(|(_, marks)| self.wanted(*marks, asked));
            Ok::<_, Stop>(wanted.map(|(id, _)| *id).collect::<Vec<_>>())
        })?;
        let parts = spreads.parts;
        drop(spreads);
        let wanted = Wanted::of(parts, wanted, self.kept_max(), self.hashing);
        Ok(Looked::at(wanted, kept, false))
    }

    /// The traces of marked rows.
    fn found(&self, traces: &TraceIds, marks: &[u32], parts: Parts) -> Spread<Found> {
        let all = traces.marked(marks);
        let keys = all.iter().enumerate().map(|(at, found)| (at, found.trace));
        Placed::of(keys, parts, self.hashing).spread(|at| all[at])
    }

    /// Reads spans: those that fit something, or all, of any trace or of the wanted ones.
    pub(super) fn read<T: Stored>(
        &self,
        parts: Parts,
        looked: Option<&Looked>,
        asked: &[bool],
    ) -> Result<Spreads<T>, Stop> {
        let wanted = looked.map(|looked| &looked.wanted);
        let few = looked.and_then(|looked| looked.few.as_ref());
        let spreads = Mutex::new(Spreads::<T>::new(self.scan.frames.len(), parts));
        // Marks make room as frames are read.
        let beside = || looked.map_or(0, |looked| looked.wanted.bytes() + looked.kept.bytes());
        let all = vec![true; asked.len()];
        each(self.scan, self.threads, self.scan.frames.len(), |number, _: &mut ()| {
            let known = looked.map_or(Known::Nothing, |looked| looked.kept.take(number));
            let fits_nothing = matches!(known, Known::Nothing);
            let asked = if matches!(known, Known::Forgotten) { &all } else { asked };
            let frame = &self.scan.frames[number];
            let hopeless = |ids: &Vec<[u8; 16]>| !ids.iter().any(|id| frame.may_contain_trace(id));
            // A span of no trace matches only where it fits what was looked for first.
            if fits_nothing && self.scan.prune && few.is_some_and(hopeless) {
                return Ok(());
            }
            let parts = spreads.lock().parts;
            let spread = self.frame(number, |reading| {
                let only_traces = looked.is_some_and(Looked::only_traces);
                if let Some(wanted) = wanted.filter(|_| only_traces && fits_nothing && asked.contains(&true))
                    && !self.holds_any(reading, wanted)?
                {
                    return Ok(None);
                }
                if few.is_none() {
                    self.load(number, reading, asked, &self.columns::<T>())?;
                }
                let mut marks = self.marks(number, reading, asked)?;
                if let Known::Marks(mut known) = known {
                    known.iter_mut().zip(marks.into_iter().flatten()).for_each(|(known, more)| *known |= more);
                    marks = Some(known);
                }
                if marks.is_none() && !self.needs.all {
                    return Ok(None);
                }
                let rows = if self.needs.all { Some(reading.fitting(&[], self.wide)?) } else { None };
                if matches!(rows, Some(Matching::None)) {
                    return Ok(None);
                }
                let stays = rows.and_then(|rows| rows.mask(frame.rows()));
                let stays = |row: usize| match &marks {
                    Some(marks) if marks[row] != 0 => true,
                    _ => self.needs.all && stays.as_ref().is_none_or(|stays| stays.value(row)),
                };
                let marks = |row: usize| marks.as_ref().map_or(0, |marks| marks[row]);
                self.of_frame(number, reading, &stays, &marks, looked, parts).map(Some)
            })?;
            match spread.flatten() {
                Some(spread) => self.add(&spreads, number, spread, parts, self.spans_max, &beside),
                None => Ok(()),
            }
        })?;
        Ok(spreads.into_inner())
    }

    /// Reads at once what is certainly looked at where some of the `asked` bindings may fit.
    fn load(
        &self,
        number: usize,
        reading: &mut Reading<'_>,
        asked: &[bool],
        columns: &[Intrinsic],
    ) -> Result<(), QueryError> {
        let mut columns = columns.to_vec();
        let stats = self.scan.frames[number].stats();
        if !self.scan.plan.range.covers(stats.time_min, stats.time_max) {
            columns.push(Intrinsic::Time);
        }
        let fitting = (0..asked.len()).filter(|binding| asked[*binding] && self.may_fit(number, *binding));
        let fitting: Vec<usize> = fitting.collect();
        if fitting.is_empty() && asked.contains(&true) && !self.needs.all {
            return Ok(());
        }
        if reading.numbered(Intrinsic::TraceId)?.is_some() {
            columns.retain(|column| *column != Intrinsic::TraceId);
        }
        reading.load_with(fitting.iter().flat_map(|binding| self.conditions(*binding)), &columns)
    }

    /// The columns of spans.
    fn columns<T: Stored>(&self) -> Vec<Intrinsic> {
        let mut columns = vec![Intrinsic::TraceId];
        columns.extend(self.columns_beside::<T>());
        columns
    }

    /// Those beside the trace.
    fn columns_beside<T: Stored>(&self) -> Vec<Intrinsic> {
        let mut columns = Vec::new();
        if self.needs.ids {
            columns.extend([Intrinsic::SpanId, Intrinsic::ParentId]);
        }
        if T::TIMED {
            columns.extend([Intrinsic::Time, Intrinsic::Duration, Intrinsic::Running]);
        }
        if self.needs.errors {
            columns.push(Intrinsic::Status);
        }
        columns
    }

    /// Whether a frame holds a row of the wanted traces.
    fn holds_any(&self, reading: &mut Reading<'_>, wanted: &Wanted) -> Result<bool, QueryError> {
        Ok(TraceIds::read(reading)?.any(|id| wanted.has(id, self.hashing)))
    }

    /// Adds what a frame gave, `most` at most, beside so many bytes that are taken already.
    pub(super) fn add<T: super::spread::OfTrace>(
        &self,
        to: &Mutex<Spreads<T>>,
        number: usize,
        spread: Spread<T>,
        of: Parts,
        most: usize,
        beside: &impl Fn() -> usize,
    ) -> Result<(), Stop> {
        let later = |bytes: usize| bytes / size_of::<T>() * self.needs.later_bytes;
        let fits = |bytes: usize| {
            // Asked again each time that what is there was gone through for what may stay.
            self.scan.goes_on()?;
            let bytes = bytes + later(bytes) + beside();
            match self.memory.try_resize(bytes).map_err(engine_error) {
                _ if bytes > self.bytes_max => Ok(false),
                Ok(()) => Ok(true),
                Err(QueryError::Memory { .. }) => Ok(false),
                Err(other) => Err(other),
            }
        };
        match to.lock().add(number, spread, of, self.hashing, most, fits)? {
            Ok(()) => Ok(()),
            Err(one) => Err(QueryError::Spans { limit: self.scan.memory_bytes_max, spans: one.spans }.into()),
        }
    }

    /// Looks into a frame. One that cannot be read makes the answer partial.
    pub(super) fn frame<R>(
        &self,
        number: usize,
        look: impl FnOnce(&mut Reading<'_>) -> Result<R, QueryError>,
    ) -> Result<Option<R>, QueryError> {
        let frame = &self.scan.frames[number];
        if !self.wide.touches(frame.stats().time_min, frame.stats().time_max) {
            return Ok(None);
        }
        let mut reading = self.scan.reading(number);
        match look(&mut reading) {
            Ok(seen) => Ok(Some(seen)),
            Err(error) => self.scan.give_up(Err(error), frame).map(|_| None),
        }
    }

    /// Which of the `asked` bindings each row fits, and whether it lies in the range; `None` where no row fits any.
    fn marks(&self, number: usize, reading: &mut Reading<'_>, asked: &[bool]) -> Result<Option<Vec<u32>>, QueryError> {
        let frame = &self.scan.frames[number];
        let stats = frame.stats();
        let whole = self.scan.plan.range.covers(stats.time_min, stats.time_max);
        let mut marks = Vec::new();
        for (binding, _) in asked.iter().enumerate().filter(|(_, asked)| **asked) {
            if !self.may_fit(number, binding) {
                continue;
            }
            let found = reading.fitting(self.conditions(binding), self.wide)?;
            if matches!(found, Matching::None) {
                continue;
            }
            marks.resize(frame.rows(), 0u32);
            let mark = self.mark(binding) | if whole { IN_RANGE } else { 0 };
            match found {
                Matching::None => {}
                Matching::All => marks.iter_mut().for_each(|marks| *marks |= mark),
                Matching::Some(rows) => rows.values().iter().for_each(|row| marks[*row as usize] |= mark),
            }
        }
        if marks.is_empty() {
            return Ok(None);
        }
        if whole {
            return Ok(Some(marks));
        }
        if self.scan.plan.range.touches(stats.time_min, stats.time_max) {
            reading.read_items(&[Intrinsic::Time])?;
            let times = reading.column(Intrinsic::Time);
            let times = times.as_ref().map(|times| times.as_primitive::<Int64Type>());
            for (row, marks) in marks.iter_mut().enumerate().filter(|(_, marks)| **marks != 0) {
                if self.scan.plan.range.contains(times.map_or(0, |times| times.value(row))) {
                    *marks |= IN_RANGE;
                }
            }
        }
        marks.iter_mut().filter(|marks| **marks & IN_RANGE == 0).for_each(|marks| *marks &= !self.rows_alone);
        Ok(Some(marks))
    }

    /// The spans of a frame: of rows that stay, of the wanted traces where only some are. Spans of no trace are there where
    /// they fit something.
    fn of_frame<T: Stored>(
        &self,
        number: usize,
        reading: &mut Reading<'_>,
        stays: &impl Fn(usize) -> bool,
        marks: &impl Fn(usize) -> u32,
        looked: Option<&Looked>,
        parts: Parts,
    ) -> Result<Spread<T>, QueryError> {
        let base = self.bases[number];
        let traces = TraceIds::read(reading)?;
        let wanted = looked.map(|looked| &looked.wanted);
        let loose = |row: usize| self.loose(number, row);
        let part = |hash: u64| parts.share.contains(hash).then(|| parts.part(hash) as u32);
        let of_trace = |id: [u64; 2]| {
            let hash = self.hashing.of(id);
            part(hash).filter(|_| wanted.is_none_or(|wanted| wanted.has_hashed(id, hash)))
        };
        let alone = |row: usize| match looked.is_some_and(|looked| looked.alone) {
            true => of_trace(loose(row)),
            false => part(self.hashing.of(loose(row))).filter(|_| marks(row) != 0),
        };
        let mut placed = Placed::new(parts);
        let rows = (0..self.scan.frames[number].rows()).filter(|row| stays(*row));
        traces.each(rows, of_trace, alone, |row, part| {
            part.into_iter().for_each(|part| placed.add(row, part));
        });
        // Of few rows their columns alone are read, where the frame can skip the others.
        let picked = UInt32Array::from_iter_values(placed.rows());
        let few = match picked.is_empty() {
            true => None,
            false => reading.few_items(&self.columns_beside::<T>(), &picked)?,
        };
        if few.is_none() && !picked.is_empty() {
            reading.read_items(&self.columns_beside::<T>())?;
        }
        let column = |column: Intrinsic| match &few {
            Some(few) => few.items().intrinsic(column).cloned(),
            None => reading.column(column),
        };
        let ids = |of| Ids::<8>::of(column(of)).filter(|_| self.needs.ids);
        let [own, parents] = [Intrinsic::SpanId, Intrinsic::ParentId].map(ids);
        let times = if T::TIMED { Times::of(column) } else { Times::default() };
        let status: Option<Int32Array> =
            column(Intrinsic::Status).filter(|_| self.needs.errors).map(|a| a.as_primitive().clone());
        let make = |row: usize| {
            let mut marks = marks(row);
            let of_trace = traces.get(row);
            // Where it stands in the columns.
            let at = if few.is_some() { picked.values().partition_point(|other| (*other as usize) < row) } else { row };
            let own = own.as_ref().and_then(|ids| ids.get(at));
            let parent = parents.as_ref().and_then(|ids| ids.get(at));
            for (holds, mark) in [
                (of_trace.is_none(), LOOSE),
                (own.is_some(), NAMED),
                (parent.is_some(), BELOW),
                (status.as_ref().is_some_and(|status| status.value(at) == STATUS_ERROR), ERROR),
            ] {
                marks |= if holds { mark } else { 0 };
            }
            let sent = Sent {
                trace: of_trace.unwrap_or_else(|| loose(row)),
                id: own.map_or(0, |id| u64::from_be_bytes(*id)),
                parent: parent.map_or(0, |id| u64::from_be_bytes(*id)),
                place: base + row as u32,
                marks,
            };
            T::new(sent, times.start(at), times.duration(at))
        };
        Ok(placed.spread(make))
    }
}
