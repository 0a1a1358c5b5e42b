//! The leaf of every plan: frames of a snapshot are pruned, filtered and turned into groups or the first rows of an order.
//!
//! Partitions take frames from one queue, so that none waits for another. Not here: in which steps a frame is read (`reading`).

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use parking_lot::{Mutex, RwLock};
use prism_model::window::TimeRange;
use prism_store::{Frame, Rolled, StoreError};

use crate::answer::Partial;
use crate::bind::query::{Plan, Shape};
use crate::cost::{Bytes, Counters, add};
use crate::distinct;
use crate::encode;
use crate::engine::engine_error;
use crate::error::QueryError;
use crate::eval::node::{Level, Node};
use crate::eval::vals::Scalar;
use crate::eval::{self, Rows};
use crate::events::times;
use crate::frame::FrameRows;
use crate::group::{Groups, Many};
use crate::joins::{self, Joined};
use crate::prune;
use crate::reading::{Matching, Reading};
use crate::rollup::{Cells, Fit};
use crate::running::{Superseded, has_running};
use crate::seat::Seat;
use crate::sink::Sink;
use crate::structure::Structure;
use crate::turns::{Place, Taker};

/// Frames between two looks at the memory that groups take: sketches of many groups take a while to add up.
const MEMORY_CHECK_FRAMES: usize = 4;

/// One query's work over one snapshot.
pub(crate) struct Scan {
    pub(crate) plan: Plan,
    /// Which rows match, and what stands beside them, where the query asks for structure; afterwards what stands beside the
    /// rows of the answer alone.
    structure: RwLock<Option<Arc<Structure>>>,
    /// In the order in which they are taken.
    pub(crate) frames: Vec<Frame>,
    jobs: Vec<Job>,
    fit: Option<Fit>,
    pub(crate) superseded: Arc<Superseded>,
    /// The rows of each join, once they are known.
    pub(crate) joined: Vec<OnceLock<Arc<Joined>>>,
    pub(crate) counters: Counters,
    pub(crate) partial: Mutex<Vec<Partial>>,
    /// Told to stop: nobody waits for the answer any more.
    pub(crate) stop: AtomicBool,
    pub(crate) bytes: Arc<Bytes>,
    /// When it must be done, and the error for when it is not.
    pub(crate) deadline: Option<Deadline>,
    pub(crate) memory_bytes_max: usize,
    /// Through which it takes turns with other queries.
    pub(crate) taker: Option<Arc<Taker>>,
    /// Memory of what partitions found, for as long as it is there.
    pub(crate) held: Mutex<Vec<MemoryReservation>>,
    /// What moves while it is read begins the query anew, instead of making the answer partial.
    pub(crate) restarts: bool,
    /// Off only in tests of QU-2.
    pub(crate) prune: bool,
    next: AtomicUsize,
    /// Groups of the partition that was done first: those of the others are added to them.
    first: Mutex<Option<Groups>>,
    /// Partitions that keep groups in guests.
    pub(crate) working: AtomicUsize,
    /// The time that a row must beat to be among the first, where the order begins with time.
    pub(crate) bound: Option<Arc<Bound>>,
    /// Rows of other scans may bound it too.
    pub(crate) bound_is_shared: bool,
}

/// What a thread takes at a time.
enum Job {
    /// A frame, by number.
    Frame(usize),
    /// A unit whose rollup answers instead of its frames, where it can be read.
    Rolled(Rolled),
}

/// What would be read.
pub(crate) enum Piece<'s> {
    /// The rollup of a unit.
    Rollup(&'s Rolled),
    /// A frame, by number, but for the rows of a time that a rollup answers.
    Frame(usize, Option<TimeRange>),
    /// A frame whose unit's rollup may not tell all.
    Perhaps(usize),
}

/// The end of a query's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) limit: Duration,
    pub(crate) setting: &'static str,
}

/// See [`Scan::bound`].
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) descending: bool,
    pub(crate) time: AtomicI64,
}

impl Scan {
    /// `rolled`: the units that have rollups, which answer where they can; none where rows must.
    pub(crate) fn new(
        plan: Plan,
        mut frames: Vec<Frame>,
        rolled: Vec<Rolled>,
        superseded: Arc<Superseded>,
        prune: bool,
    ) -> Scan {
        let by_time = plan
            .order
            .first()
            .filter(|key| matches!((&key.node, &plan.time), (Node::Field(a), Node::Field(b)) if a == b));
        let bound = match (&plan.shape, by_time) {
            (Shape::Rows, Some(key)) if key.descending => {
                frames.sort_by_key(|f| std::cmp::Reverse(times(&plan, f).1));
                Some(Arc::new(Bound { descending: true, time: AtomicI64::new(i64::MIN) }))
            }
            (Shape::Rows, Some(_)) => {
                frames.sort_by_key(|f| times(&plan, f).0);
                Some(Arc::new(Bound { descending: false, time: AtomicI64::new(i64::MAX) }))
            }
            _ => None,
        };
        let fit = if rolled.is_empty() { None } else { Fit::of(&plan) };
        let jobs = jobs(&plan, &frames, rolled, fit.as_ref());
        let joined = plan.joins.iter().map(|_| OnceLock::new()).collect();
        Scan {
            plan,
            structure: RwLock::default(),
            frames,
            jobs,
            fit,
            superseded,
            joined,
            counters: Counters::default(),
            partial: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
            bytes: Arc::default(),
            deadline: None,
            memory_bytes_max: usize::MAX,
            taker: None,
            held: Mutex::default(),
            restarts: false,
            prune,
            next: AtomicUsize::new(0),
            first: Mutex::default(),
            working: AtomicUsize::new(0),
            bound,
            bound_is_shared: false,
        }
    }

    /// The same work over the same rows, of which nothing is done yet: for another share of its traces.
    pub(crate) fn again(&self) -> Scan {
        let mut scan =
            Scan::new(self.plan.clone(), self.frames.clone(), Vec::new(), self.superseded.clone(), self.prune);
        scan.bytes = self.bytes.clone();
        scan.deadline = self.deadline;
        scan.restarts = self.restarts;
        scan.memory_bytes_max = self.memory_bytes_max;
        scan.taker = self.taker.clone();
        scan.bound = self.bound.clone();
        for (number, joined) in self.joined.iter().enumerate() {
            joined.get().into_iter().for_each(|rows| scan.join(number, rows.clone()));
        }
        scan
    }

    /// What structure tells of the rows.
    pub(crate) fn structure(&self) -> Option<Arc<Structure>> {
        self.structure.read().clone()
    }

    /// Settles what structure tells.
    pub(crate) fn settle(&self, structure: Option<Structure>) {
        *self.structure.write() = structure.map(Arc::new);
    }

    /// Settles the rows of a join, once.
    pub(crate) fn join(&self, number: usize, rows: Arc<Joined>) {
        if let Some(join) = self.joined.get(number) {
            join.get_or_init(|| rows);
        }
    }

    /// How many pieces the work has.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// The form of the batches that partitions give.
    pub(crate) fn schema(&self) -> SchemaRef {
        match &self.plan.shape {
            Shape::Rows => Arc::new(Schema::new(vec![ArrowField::new("row", DataType::Binary, false)])),
            Shape::Groups { spec, .. } => spec.schema(),
        }
    }

    /// One partition: takes frames until none is left.
    pub(crate) fn work(&self, context: &TaskContext) -> Result<RecordBatch, QueryError> {
        // Before any turn: whoever waits for it holds nothing that others need to come to an end.
        let _held = match self.seat()? {
            Seat::Free => None,
            Seat::Held(held, _working) => Some((held, _working)),
            Seat::Others => return Ok(RecordBatch::new_empty(self.schema())),
        };
        let _open = prism_store::KeepsOpen::here();
        let reservation = MemoryConsumer::new("groups").register(context.memory_pool());
        let mut sink = Sink::new(&self.plan);
        let mut since_check = 0;
        let mut place = Place::default();
        while !self.stop.load(Ordering::Relaxed) {
            let Some(job) = self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            self.in_time()?;
            match job {
                Job::Frame(number) => self.frame(*number, None, &mut sink, &mut place)?,
                Job::Rolled(unit) => self.rolled(unit, &mut sink, &mut place)?,
            }
            since_check += 1;
            if since_check >= MEMORY_CHECK_FRAMES {
                since_check = 0;
                reservation.try_resize(sink.bytes()).map_err(engine_error)?;
            }
        }
        reservation.try_resize(sink.bytes()).map_err(engine_error)?;
        self.held.lock().push(reservation);
        self.in_turns(&mut place, || self.found(sink)).unwrap_or_else(|| {
            // Given up: nobody looks at it.
            Ok(RecordBatch::new_empty(self.schema()))
        })
    }

    /// What a partition found, in the form in which it goes on.
    fn found(&self, sink: Sink) -> Result<RecordBatch, QueryError> {
        match sink {
            Sink::Groups(groups) if groups.stay() => {
                let mut first = self.first.lock();
                if first.is_none() {
                    *first = Some(groups);
                    return Ok(RecordBatch::new_empty(self.schema()));
                }
                drop(first);
                Sink::Groups(groups).into_batch(&self.plan, self.schema())
            }
            sink => sink.into_batch(&self.plan, self.schema()),
        }
    }

    /// The groups that are in no partition's batch.
    pub(crate) fn take_first(&self) -> Option<Groups> {
        self.first.lock().take()
    }

    /// Does a piece of work when it is the query's turn; `None` where the query was given up before.
    pub(crate) fn in_turn<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        self.in_turns(&mut Place::default(), work)
    }

    /// The same, one of many pieces of a thread: it keeps its place from one to the next while that is due to it.
    pub(crate) fn in_turns<'s, T>(&'s self, place: &mut Place<'s>, work: impl FnOnce() -> T) -> Option<T> {
        let late = || self.deadline.as_ref().is_some_and(|deadline| Instant::now() >= deadline.at);
        let (done, nanos) = match &self.taker {
            Some(taker) => place.work(taker, &|| self.stop.load(Ordering::Relaxed) || late(), work)?,
            None => {
                let began = Instant::now();
                let done = work();
                (done, u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX))
            }
        };
        add(&self.counters.busy_nanos, nanos);
        Some(done)
    }

    /// A thread does not notice that its query was given up for time, nor a frame that it may be gone by now.
    pub(crate) fn in_time(&self) -> Result<(), QueryError> {
        match &self.deadline {
            Some(deadline) if Instant::now() >= deadline.at => {
                Err(QueryError::Time { limit: deadline.limit, setting: deadline.setting })
            }
            _ => Ok(()),
        }
    }

    /// The same where work goes on for longer than a frame takes, and whether anybody waits for the answer still. Not for the threads
    /// of a scan, which stop for each other's errors too: those say more.
    pub(crate) fn goes_on(&self) -> Result<(), QueryError> {
        self.in_time()?;
        if self.stop.load(Ordering::Relaxed) { Err(QueryError::given_up()) } else { Ok(()) }
    }

    /// One unit: its rollup for whole minutes, rows for the others. A rollup that cannot be read is done without.
    fn rolled<'s>(&'s self, unit: &Rolled, sink: &mut Sink, place: &mut Place<'s>) -> Result<(), QueryError> {
        let frames = unit.frames.clone();
        let answered = match &self.fit {
            // What no row fulfils needs no rollup either.
            Some(fit) if !(self.prune && frames.clone().all(|number| self.hopeless(&self.frames[number]))) => {
                match unit.cells() {
                    // Marks of spans that have started are in no cell.
                    Ok(Some((cells, _))) if cells.cube().running() > 0 => None,
                    Ok(Some((known, cost))) => {
                        self.counters.read(unit.tier, cost);
                        let cells = || self.cells(fit, &Cells::of(known, fit.minutes)?, sink);
                        self.in_turns(place, cells).unwrap_or_else(|| self.in_time())?;
                        Some(fit.minutes)
                    }
                    Ok(None) => None,
                    Err(error @ StoreError::Vanished(_)) if self.restarts => return Err(error.into()),
                    Err(error) => {
                        tracing::warn!(unit = unit.name, %error, "a rollup cannot be read: rows answer instead");
                        None
                    }
                }
            }
            _ => None,
        };
        for number in frames {
            let stats = self.frames[number].stats();
            if !answered.is_some_and(|minutes| minutes.covers(stats.time_min, stats.time_max)) {
                self.in_time()?;
                self.frame(number, answered, sink, place)?;
            }
        }
        Ok(())
    }

    /// The cells of a rollup, as rows that each stand for many.
    fn cells(&self, fit: &Fit, cells: &Cells, sink: &mut Sink) -> Result<(), QueryError> {
        let columns = FrameRows::new(&self.plan.fields, cells, cells.parts(), cells.len(), None);
        let mut mask = BooleanBuffer::new_set(cells.len());
        for condition in &self.plan.conditions {
            mask = &mask & &eval::mask_at(condition, Level::Row, &columns)?;
        }
        let some = mask.count_set_bits() < cells.len();
        let picked = some.then(|| UInt32Array::from_iter_values(mask.set_indices().map(|i| i as u32)));
        let many = Many { cells, picked: picked.as_ref(), duration: fit.duration };
        let rows = (0..many.len()).map(|row| many.count(row)).sum();
        add(&self.counters.rollups_read, 1);
        add(&self.counters.rows_from_rollups, rows);
        add(&self.counters.rows_matched, rows);
        let rows = FrameRows::new(&self.plan.fields, cells, cells.parts(), cells.len(), picked.as_ref());
        sink.add_many(&self.plan, &rows, &many)
    }

    /// What would be read, and in which order, as far as that is known before.
    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let left = |number: &usize| !(self.prune && self.hopeless(&self.frames[*number]));
        let mut pieces = Vec::new();
        for job in &self.jobs {
            match (job, &self.fit) {
                (Job::Rolled(unit), Some(fit)) if unit.cost().is_some() => {
                    if !unit.frames.clone().any(|number| left(&number)) {
                        continue;
                    }
                    pieces.push(Piece::Rollup(unit));
                    let within = |number: &usize| {
                        let (first, last) = times(&self.plan, &self.frames[*number]);
                        fit.minutes.covers(first, last)
                    };
                    // Marks of spans that have started are in no cell: where there are some, rows answer.
                    let runs = unit.whole().iter().any(has_running);
                    for number in unit.frames.clone().filter(left) {
                        let but = Some(fit.minutes).filter(|_| !runs);
                        match within(&number) {
                            true if runs => pieces.push(Piece::Perhaps(number)),
                            true => {}
                            false => pieces.push(Piece::Frame(number, but)),
                        }
                    }
                }
                (Job::Rolled(unit), _) => {
                    pieces.extend(unit.frames.clone().filter(left).map(|number| Piece::Frame(number, None)));
                }
                (Job::Frame(number), _) => {
                    pieces.extend(Some(*number).filter(left).map(|number| Piece::Frame(number, None)));
                }
            }
        }
        pieces
    }

    /// Whether no row of a frame fulfils the conditions.
    pub(crate) fn hopeless(&self, frame: &Frame) -> bool {
        let (first, last) = times(&self.plan, frame);
        let none =
            self.plan.level.is_child() && (counted(&self.plan, frame) == 0 || !self.plan.range.touches(first, last));
        none || joins::hopeless(self, frame)
            || self.plan.conditions.iter().any(|condition| !prune::may_hold(condition, &self.plan.fields, frame))
    }

    /// One frame, `but` for the rows of a time that were answered already. A frame that cannot be read makes the answer
    /// partial.
    fn frame<'s>(
        &'s self,
        number: usize,
        but: Option<TimeRange>,
        sink: &mut Sink,
        place: &mut Place<'s>,
    ) -> Result<(), QueryError> {
        let frame = &self.frames[number];
        let late = |bound: &Bound| {
            let time = bound.time.load(Ordering::Relaxed);
            let (first, last) = times(&self.plan, frame);
            if bound.descending { last < time } else { first > time }
        };
        let matched = self.structure().map(|structure| structure.rows(number, frame.rows()));
        let no_match = matches!(matched, Some(None));
        if no_match
            || self.bound.as_ref().is_some_and(|bound| late(bound) || self.given(bound, frame))
            || (self.prune && self.hopeless(frame))
        {
            add(&self.counters.frames_pruned, 1);
            return Ok(());
        }
        add(&self.counters.frames_read, 1);
        add(&self.counters.tier(frame.tier()).frames_read, 1);
        add(&self.counters.rows_scanned, counted(&self.plan, frame) as u64);
        let matched = matched.flatten();
        self.in_turns(place, || self.frame_now(number, but, matched, sink)).unwrap_or_else(|| self.in_time())
    }

    fn frame_now(
        &self,
        number: usize,
        but: Option<TimeRange>,
        matched: Option<BooleanBuffer>,
        sink: &mut Sink,
    ) -> Result<(), QueryError> {
        let frame = &self.frames[number];
        let mut reading = Reading::of(self, number, but);
        match reading.matching(matched) {
            Ok(Matching::None) => Ok(()),
            Ok(matching) => {
                if matches!(matching, Matching::All) {
                    match distinct::by_values(self, frame, sink) {
                        Ok(true) => return Ok(()),
                        Ok(false) => {}
                        Err(error) => return self.give_up(Err(error), frame).map(|_| ()),
                    }
                }
                let selection = match &matching {
                    Matching::Some(rows) => Some(rows),
                    _ => None,
                };
                let read = reading.late(selection, || sink.nodes(&self.plan));
                if self.give_up(read, frame)? {
                    return Ok(());
                }
                let rows = reading.rows(selection)?;
                add(&self.counters.rows_matched, rows.len(Level::Row) as u64);
                sink.add(self, number, &rows, selection)
            }
            Err(error) => self.give_up(Err(error), frame).map(|_| ()),
        }
    }

    /// Whether the pages before gave all rows of a frame.
    fn given(&self, bound: &Bound, frame: &Frame) -> bool {
        let after = self.plan.after.as_ref().map(|after| encode::first_of_order(&after.key, bound.descending));
        let (first, last) = times(&self.plan, frame);
        match after {
            Some(Scalar::Int(after)) => {
                if bound.descending {
                    first > after
                } else {
                    last < after
                }
            }
            _ => false,
        }
    }

    /// Whether a frame is left out: its rows cannot be read, which the answer says.
    pub(crate) fn give_up(&self, read: Result<(), QueryError>, frame: &Frame) -> Result<bool, QueryError> {
        match read {
            Ok(()) => Ok(false),
            Err(QueryError::Store(error)) if !(self.restarts && matches!(error, StoreError::Vanished(_))) => {
                tracing::error!(frame = frame.name(), %error, "a frame cannot be read");
                self.partial.lock().push(Partial { what: format!("frame {}", frame.name()), why: error.to_string() });
                Ok(true)
            }
            Err(other) => Err(other),
        }
    }

    /// The values of a node for some rows of a frame, ascending, at the lowest level that has them.
    pub(crate) fn fetch_all(
        &self,
        number: usize,
        rows: &UInt32Array,
        node: &Node,
    ) -> Result<Option<eval::Vals>, QueryError> {
        self.in_time()?;
        let frame = &self.frames[number];
        let mut reading = self.reading(number);
        let read = reading.load(std::iter::once(node));
        if self.give_up(read, frame)? {
            return Ok(None);
        }
        let rows = reading.rows(Some(rows))?;
        Ok(Some(eval::vals(node, &rows)?.of))
    }

    /// A frame of which nothing is read yet.
    pub(crate) fn reading(&self, number: usize) -> Reading<'_> {
        Reading::of(self, number, None)
    }

    /// The columns of answers for some rows of a frame, ascending: one set of values for each column.
    pub(crate) fn fetch(&self, number: usize, rows: &UInt32Array) -> Result<Option<Vec<eval::Vals>>, QueryError> {
        self.in_time()?;
        let frame = &self.frames[number];
        let mut reading = self.reading(number);
        let read = reading.late(Some(rows), || self.plan.columns.iter().map(|c| &c.node));
        if self.give_up(read, frame)? {
            return Ok(None);
        }
        let rows = reading.rows(Some(rows))?;
        let columns = self.plan.columns.iter().map(|c| eval::vals_at(&c.node, Level::Row, &rows));
        Ok(Some(columns.collect::<Result<_, _>>()?))
    }
}

/// Units that a rollup may answer first, since they may hold many frames; then the other frames.
fn jobs(plan: &Plan, frames: &[Frame], rolled: Vec<Rolled>, fit: Option<&Fit>) -> Vec<Job> {
    let mut single = vec![true; frames.len()];
    let mut jobs = Vec::with_capacity(frames.len());
    for unit in rolled {
        if fit.is_some_and(|fit| fit.holds(plan, &frames[unit.frames.clone()])) {
            single[unit.frames.clone()].fill(false);
            jobs.push(Job::Rolled(unit));
        }
    }
    jobs.extend((0..frames.len()).filter(|number| single[*number]).map(Job::Frame));
    jobs
}

/// Rows of a frame, of the kind that is counted.
pub(crate) fn counted(plan: &Plan, frame: &Frame) -> usize {
    match plan.level {
        Level::Row => frame.rows(),
        child => child.table().map_or(0, |table| frame.table_rows(table)),
    }
}
