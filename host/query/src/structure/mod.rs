//! How spans lie in their traces: `match`, fields of the parent and root, own time and critical path, traces as rows.
//!
//! ```text
//! ask (what is wanted) -> gather (traces that may have it, their spans), leading (traces that may be among the first rows)
//!     -> spread (spans by part of the traces' hashes)
//!     -> direct (parents and children alone: one table a part)
//!      | span (traces of a part) -> tree (one trace) -> relate, combine, solve (matches), times, traces
//!     -> pairs (rows that matched) -> beside (values of the spans beside each row) -> Structure
//! passes (how often all of that, for an estimate)
//! ```
//!
//! A stage before the scan: it tells which rows of the snapshot's frames match, and the scan goes on over those as over any
//! rows. Frames, then parts are worked on by all threads. Spans of more traces than fit into a query's memory are looked at in
//! several passes, each about a share of the traces. Not here: names (`bind::structure`), what is computed of the rows (`scan`).

pub(crate) mod ask;
mod pieces;
mod room;
mod spread;
mod wanted;
mod span;
mod tree;
mod columns;
mod marks;
mod gather;
mod leading;
mod direct;
mod relate;
mod times;
mod beside;
mod combine;
mod solve;
mod pairs;
mod traces;
mod task;
mod passes;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::array::UInt32Array;
use arrow::buffer::BooleanBuffer;
use arrow::error::ArrowError;
use datafusion::execution::memory_pool::MemoryReservation;
use parking_lot::Mutex;
use prism_model::window::TimeRange;
use prism_model::{Intrinsic, TableKind};

pub(crate) use beside::holds_of_nothing;
pub(crate) use passes::Passes;
pub(crate) use spread::Left;

use crate::engine::engine_error;
use crate::error::QueryError;
use crate::eval::Vals;
use crate::field::{Field, From};
use crate::scan::Scan;
use ask::{Ask, Beside, Target, Told};
use beside::{Known, Tuples, Values};
use gather::{Gathering, Needs};
use pairs::{Matched, Pairs, WORD};
use pieces::each;
use room::{Found, Room};
use solve::{Bounds, CHECK_TRACES};
use span::{NONE, Spans, Sparse};
use spread::{Hashing, Sent, Share, Spreads, Stored, Timed};
use task::Task;
use times::UNKNOWN;
use tree::{Tree, Wants};

/// The columns of spans that are read.
pub(crate) const SPAN_COLUMNS: [Intrinsic; 7] = [
    Intrinsic::TraceId,
    Intrinsic::SpanId,
    Intrinsic::ParentId,
    Intrinsic::Time,
    Intrinsic::Duration,
    Intrinsic::Running,
    Intrinsic::Status,
];

/// The range in which the other spans of traces are looked for.
pub(crate) fn around(range: TimeRange, slack_nanos: i64) -> TimeRange {
    TimeRange { from: range.from.saturating_sub(slack_nanos), to: range.to.saturating_add(slack_nanos) }
}

/// The rows of a snapshot that match, and what stands beside them.
#[derive(Debug)]
pub(crate) struct Structure {
    /// The place of the first row of each frame.
    bases: Vec<u32>,
    matched: Matched,
    /// By field of the plan, of those that decide which rows there are.
    values: HashMap<usize, Values>,
    /// Fields that rows only show.
    late: Vec<usize>,
    /// Its share of the query's memory.
    _memory: MemoryReservation,
}

impl Structure {
    /// The rows of a frame that match; `None` where none does.
    pub(crate) fn rows(&self, number: usize, rows: usize) -> Option<BooleanBuffer> {
        self.matched.rows(self.bases[number], rows)
    }

    /// The values of a field beside rows of a frame: all of so many, or the selected.
    pub(crate) fn values(
        &self,
        number: usize,
        field: usize,
        beside: &Beside,
        rows: usize,
        selection: Option<&UInt32Array>,
    ) -> Result<Vals, ArrowError> {
        let len = selection.map_or(rows, UInt32Array::len);
        let Some(values) = self.values.get(&field) else { return Ok(Vals::nulls(len)) };
        let base = self.bases[number];
        let place = |row: u32| self.matched.beside(beside.target, base + row);
        match selection {
            None => values.at((0..rows as u32).map(place)),
            Some(selection) => values.at(selection.values().iter().map(|row| place(*row))),
        }
    }

    /// The same for some rows alone, by frame: what else the rows show is read for them. Blocks on the disk.
    ///
    /// # Errors
    /// As [`resolve`].
    pub(crate) fn kept(
        &self,
        scan: &Scan,
        rows: &[(usize, UInt32Array)],
        threads: usize,
    ) -> Result<Structure, QueryError> {
        let of_frame = |(frame, rows): &(usize, UInt32Array)| {
            let base = self.bases[*frame];
            rows.values().iter().map(|row| base + row).collect::<Vec<u32>>()
        };
        let rows: Vec<u32> = rows.iter().flat_map(of_frame).collect();
        let fields = &scan.plan.fields;
        let mut values = HashMap::new();
        let all = self.values.keys().chain(&self.late).copied();
        for (target, of_target) in task::by_target(fields, all) {
            let places: BTreeSet<u32> = rows.iter().map(|row| self.matched.beside(target, *row)).collect();
            let places: Vec<u32> = places.into_iter().filter(|place| *place != NONE).collect();
            let late: Vec<usize> = of_target.iter().filter(|field| self.late.contains(field)).copied().collect();
            let mut wanted = Sparse::new(NONE);
            places.iter().for_each(|place| wanted.set(*place, *place));
            let read = self::values(scan, threads, &self.bases, &wanted, &late, &Known::default())?;
            let ranks = places.iter().enumerate().map(|(rank, place)| (*place, rank as u32)).collect();
            let ranks = Arc::new(Sparse::listed(ranks, NONE));
            for field in of_target {
                let Some(of_field) = self.values.get(&field).or(read.get(&field)) else { continue };
                let vals = Box::new(of_field.at(places.iter().copied())?);
                values.insert(field, Values::Field { ranks: ranks.clone(), vals });
            }
        }
        let mut matched = self.matched.clone();
        matched.keep(&rows);
        let memory = self._memory.new_empty();
        let bytes = matched.bytes() + values.values().map(Values::bytes).sum::<usize>();
        memory.try_resize(bytes).map_err(engine_error)?;
        Ok(Structure { bases: self.bases.clone(), matched, values, late: Vec::new(), _memory: memory })
    }
}

/// Bounds of the work, in the words of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) slack_nanos: i64,
    pub(crate) combinations_max: u64,
    pub(crate) threads: usize,
}

/// Why a pass came to no end.
pub(crate) enum Stop {
    /// Its spans take more memory than there is: fewer of them may fit.
    Over {
        spans: usize,
        /// It was about one trace.
        one: bool,
    },
    Query(QueryError),
}

impl<E: Into<QueryError>> std::convert::From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Query(error.into())
    }
}

/// Finds the rows that match among those of a scan's frames, of the traces that are left. Gives what is left behind those for
/// which there was room. Blocks on the disk.
///
/// # Errors
/// Over a limit of time or combinations, or of memory where not even one trace fits; what vanished.
pub(crate) fn resolve(
    scan: &Scan,
    ask: &Ask,
    limits: Limits,
    left: &Left,
    memory: MemoryReservation,
) -> Result<(Structure, Option<Left>), QueryError> {
    let task = Task::of(scan, ask);
    let bases = bases(scan)?;
    let mut spans_max = left.spans_max;
    loop {
        let hashing = &left.hashing;
        let pass = Pass { scan, ask, task: &task, limits, bases: &bases, memory: &memory, hashing, spans_max };
        let (matched, values, done) = match pass.run(left.share) {
            Ok(found) => found,
            Err(Stop::Query(error)) => return Err(error),
            // Of traces that fall together there may be more.
            Err(Stop::Over { spans, one: false }) if (2..=spans_max).contains(&spans) => {
                spans_max = spans / 2;
                continue;
            }
            Err(Stop::Over { spans, .. }) => return Err(QueryError::Spans { limit: scan.memory_bytes_max, spans }),
        };
        let rest = left.behind(done, spans_max);
        return Ok((Structure { bases, matched, values, late: task.late.clone(), _memory: memory }, rest));
    }
}

/// One attempt at a share.
struct Pass<'s> {
    scan: &'s Scan,
    ask: &'s Ask,
    task: &'s Task,
    limits: Limits,
    bases: &'s [u32],
    memory: &'s MemoryReservation,
    hashing: &'s Hashing,
    /// See [`Left::spans_max`].
    spans_max: usize,
}

type Resolved = (Matched, HashMap<usize, Values>, Share);

impl Pass<'_> {
    fn run(&self, share: Share) -> Result<Resolved, Stop> {
        let gathering = |needs| Gathering {
            scan: self.scan,
            ask: self.ask,
            rows_alone: self.ask.rows_alone(),
            wide: around(self.scan.plan.range, self.limits.slack_nanos),
            needs,
            bases: self.bases,
            threads: self.limits.threads,
            bytes_max: self.scan.memory_bytes_max / 2,
            memory: self.memory,
            hashing: self.hashing,
            spans_max: self.spans_max,
        };
        let needs = self.task.needs;
        if self.task.direct {
            return match self.direct::<Sent>(&gathering(needs).spans(share)?)? {
                Some(found) => Ok(found),
                None => {
                    let timed = self.direct::<Timed>(&gathering(Needs { times: true, ..needs }).spans(share)?)?;
                    timed.ok_or_else(|| QueryError::Engine("spans have no times".into()).into())
                }
            };
        }
        match (self.task.leading, needs.times) {
            (Some(leading), _) => self.whole::<Timed>(gathering(needs).leading(share, leading)?),
            (None, false) => self.whole::<Sent>(gathering(needs).spans(share)?),
            (None, true) => self.whole::<Timed>(gathering(needs).spans(share)?),
        }
    }

    /// By parents and children alone; `None` where times must be known too.
    fn direct<T: Stored>(&self, spreads: &Spreads<T>) -> Result<Option<Resolved>, Stop> {
        let targets = &self.task.targets;
        let found = Found { share: spreads.parts.share, spans: spreads.len(), one: spreads.is_one_trace() };
        let pairs =
            each(self.scan, self.limits.threads, spreads.parts.len(), |part, table: &mut direct::Direct<T>| {
                let room = Room::beside(self.memory);
                let pairs = table.solve(self.scan, &room, spreads.part(part), self.ask, targets);
                let held = pairs.and_then(|pairs| pairs.map(|pairs| pairs.held(room)).transpose());
                held.map_err(|error| found.stopped(error))
            })?;
        let Some(pairs) = pairs.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let pairs = pairs.iter().map(|pairs| &pairs.of);
        self.matched(found, pairs, &Known::default(), spreads.bytes()).map(Some)
    }

    /// Trace after trace.
    fn whole<T: Stored>(&self, spreads: Spreads<T>) -> Result<Resolved, Stop> {
        let (scan, threads) = (self.scan, self.limits.threads);
        let wanted = |marks: u32| {
            let has = |binding: &usize| marks & (1 << binding) != 0;
            self.ask.alternatives.iter().any(|way| way.bound.iter().all(has))
        };
        let parts = spreads.parts.len();
        let found = Found { share: spreads.parts.share, spans: spreads.len(), one: spreads.is_one_trace() };
        let sent: Vec<Mutex<Vec<Vec<T>>>> = spreads.into_parts().into_iter().map(Mutex::new).collect();
        let spans: Vec<Spans> = each(scan, threads, parts, |part, traces: &mut span::Traces| {
            let rows = std::mem::take(&mut *sent[part].lock());
            Ok::<_, Stop>(Spans::of(rows.iter().map(Vec::as_slice), traces, wanted))
        })?;
        let bytes: usize = spans.iter().map(Spans::bytes).sum();
        let mut known = self.spent(&spans)?;
        self.fits(found, bytes + known.bytes())?;
        let mut tuples = HashMap::new();
        for (target, of_target) in task::by_target(&scan.plan.fields, self.task.tested.iter().copied()) {
            let Target::Bound(binding) = target else { continue };
            let mut places = Sparse::new(NONE);
            let fitting = spans.iter().flat_map(Spans::all).filter(|span| span.has(1 << binding));
            fitting.for_each(|span| places.set(span.place, span.place));
            tuples.extend(values(scan, threads, self.bases, &places, &of_target, &known)?);
            self.fits(found, bytes + known.bytes() + tuples.values().map(Values::read_bytes).sum::<usize>())?;
        }
        let combinations = AtomicU64::new(0);
        let of_tuples = Tuples { fields: &scan.plan.fields, values: &tuples };
        let solve = |part: &Spans, room: &Room| {
            let (ways, targets) = (&self.ask.alternatives, &self.task.targets);
            let combinations_max = self.limits.combinations_max;
            let bounds = Bounds { scan, room, combinations_max, combinations: &combinations };
            solve::solve(ways, self.ask.traces, targets, part, &of_tuples, &bounds)
        };
        if !self.ask.traces {
            let pairs = each(scan, threads, parts, |part, _: &mut ()| {
                let (spans, room) = (&spans[part], Room::beside(self.memory));
                let pairs = solve(spans, &room).map(|matched| matched.pairs(spans, &self.task.targets));
                pairs.and_then(|pairs| pairs.held(room)).map_err(|error| found.stopped(error))
            })?;
            return self.matched(found, pairs.iter().map(|pairs| &pairs.of), &known, bytes);
        }
        let services = match self.task.of_traces.iter().any(|of| of.of_services()) {
            true => {
                let mut places = Sparse::new(NONE);
                spans.iter().flat_map(Spans::all).for_each(|span| places.set(span.place, span.place));
                let (ranks, mut vals) = beside::read(scan, threads, self.bases, &places, &[service_name()])?;
                vals.pop().map(|vals| (ranks, vals))
            }
            false => None,
        };
        let rows = each(scan, threads, parts, |part, _: &mut ()| {
            let (spans, targets, asked) = (&spans[part], &self.task.targets, &self.task.of_traces);
            let room = Room::beside(self.memory);
            let matched = solve(spans, &room).map_err(|error| found.stopped(error))?;
            Ok::<_, Stop>(traces::rows(scan, &matched, spans, targets, asked, &services)?)
        })?;
        traces::tell(&rows, &mut known);
        self.matched(found, rows.iter().map(|rows| &rows.pairs), &known, bytes)
    }

    /// Own time and critical path of every span, where they are asked for.
    fn spent(&self, spans: &[Spans]) -> Result<Known, Stop> {
        let mut known = Known::default();
        let (own, critical) = (self.task.own, self.task.critical);
        if !own && !critical {
            return Ok(known);
        }
        let of_parts = each(self.scan, self.limits.threads, spans.len(), |part, tree: &mut Tree| {
            let (mut owns, mut criticals) = (Vec::new(), Vec::new());
            for (number, (_, trace)) in spans[part].traces().enumerate() {
                if number % CHECK_TRACES == 0 {
                    self.scan.goes_on()?;
                }
                tree.lay(trace, Wants { order: true, ..Wants::default() });
                if own {
                    times::own(trace, tree, &mut owns);
                }
                if critical {
                    times::critical(trace, tree, &mut criticals);
                }
            }
            Ok::<_, Stop>((owns, criticals))
        })?;
        let (mut owns, mut criticals) = (Sparse::new(UNKNOWN), Sparse::new(UNKNOWN));
        for (own, critical) in of_parts {
            own.into_iter().for_each(|(place, nanos)| owns.set(place, nanos));
            critical.into_iter().for_each(|(place, nanos)| criticals.set(place, nanos));
        }
        known.own = own.then(|| Arc::new(owns));
        known.critical = critical.then(|| Arc::new(criticals));
        Ok(known)
    }

    /// Takes note of what is held.
    fn fits(&self, found: Found, bytes: usize) -> Result<(), Stop> {
        // The rest is for what the scan makes of the rows.
        if bytes > self.scan.memory_bytes_max / 4 * 3 {
            return Err(found.over());
        }
        self.memory.try_resize(bytes).map_err(|error| found.stopped(engine_error(error)))
    }

    /// What matched in all parts, and what decides of the rows beside it. `bytes`: what spans take.
    fn matched<'p>(
        &self,
        found: Found,
        pairs: impl Iterator<Item = &'p Pairs>,
        known: &Known,
        bytes: usize,
    ) -> Result<Resolved, Stop> {
        let places = self.bases.last().map_or(0, |last| *last as usize)
            + self.scan.frames.last().map_or(0, |frame| frame.rows());
        let mut matched = Matched::new(&self.task.targets, places);
        for pairs in pairs {
            self.scan.goes_on()?;
            matched.add(pairs);
        }
        matched.close();
        let held = bytes + known.bytes() + matched.bytes();
        self.fits(found, held)?;
        let mut all = HashMap::new();
        for (target, of_target) in task::by_target(&self.scan.plan.fields, self.task.early.iter().copied()) {
            let mut places = Sparse::new(NONE);
            // What is told without a look at a field needs no places.
            if task::reads(&self.scan.plan.fields, &of_target) {
                for (number, frame) in self.scan.frames.iter().enumerate() {
                    let base = self.bases[number];
                    let Some(rows) = matched.rows(base, frame.rows()) else { continue };
                    self.scan.goes_on()?;
                    for row in rows.set_indices() {
                        match matched.beside(target, base + row as u32) {
                            NONE => {}
                            place => places.set(place, place),
                        }
                    }
                }
            }
            all.extend(values(self.scan, self.limits.threads, self.bases, &places, &of_target, known)?);
            self.fits(found, held + all.values().map(Values::read_bytes).sum::<usize>())?;
        }
        // Spans are needed no more.
        self.fits(found, matched.bytes() + all.values().map(Values::bytes).sum::<usize>())?;
        Ok((matched, all, found.share))
    }
}

/// The place of the first row of each frame, which begins a word of bits.
fn bases(scan: &Scan) -> Result<Vec<u32>, QueryError> {
    let mut bases = Vec::with_capacity(scan.frames.len());
    let mut next = 0u64;
    for frame in &scan.frames {
        bases.push(next as u32);
        next += (frame.rows() as u64).next_multiple_of(u64::from(WORD));
    }
    // The last number stands for none.
    if next >= u64::from(NONE) {
        return Err(QueryError::Rows { limit: u64::from(NONE), rows: next });
    }
    Ok(bases)
}

/// What some fields tell of the spans at some places. Blocks on the disk.
fn values(
    scan: &Scan,
    threads: usize,
    bases: &[u32],
    places: &Sparse<u32>,
    of: &[usize],
    known: &Known,
) -> Result<HashMap<usize, Values>, QueryError> {
    let mut values = HashMap::new();
    let (mut numbers, mut read) = (Vec::new(), Vec::new());
    for field in of {
        match task::beside_of(&scan.plan.fields, *field).map(|beside| &beside.told) {
            Some(Told::Field(inner)) => {
                numbers.push(*field);
                read.push((**inner).clone());
            }
            Some(told) => values.extend(known.values(told).map(|values| (*field, values))),
            None => {}
        }
    }
    if !read.is_empty() {
        let (ranks, vals) = beside::read(scan, threads, bases, places, &read)?;
        values.extend(
            numbers
                .into_iter()
                .zip(vals)
                .map(|(field, vals)| (field, Values::Field { ranks: ranks.clone(), vals: Box::new(vals) })),
        );
    }
    Ok(values)
}

/// The service of a span.
pub(crate) fn service_name() -> Field {
    let tables = vec![TableKind::Items, TableKind::Scopes, TableKind::Resources];
    Field { name: "service.name".into(), from: From::Attribute { tables, key: "service.name".into() } }
}
