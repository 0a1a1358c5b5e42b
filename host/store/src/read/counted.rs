//! Rollups of segments, in memory: what stands for ever of a segment that queries asked for twice is counted as sealing will
//! count it, so that dashboards over the newest rows are answered from cells as those over older ones are (QU-4).
//!
//! ```text
//! snapshot -> the first frames of a segment (one cube) and those behind them, which rows answer
//! a query that cells would answer -> asks for these -> a step: some frames -> cube, merged into that of the frames before
//! ```
//!
//! A segment only grows, and its confirmed frames never change: a cube of its first frames holds as long as it is there. Every
//! snapshot lists segments anew, so that a cube is of use only where its segment is. Nothing here is written, and nothing is
//! done when rows come in. Not here: which queries cells answer (`query`), the thread that takes the steps ([`super::counter`]).

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prism_model::window::Window;
use prism_model::{ColumnId, Intrinsic, Signal, TableKind};

use crate::error::StoreError;
use crate::frame::header::FrameHeader;
use crate::framed::{Filters, Framed, Source};
use crate::hot::scan::SegmentIndex;
use crate::rollup::{Cells, CubeBuilder, CubeLimits, wants};
use crate::unit::Frame;

/// What is counted in one step, which others wait for.
const STEP_FRAMES: usize = 64;
const STEP_ROWS: usize = 256 << 10;
/// Cells of a segment, about 300 bytes each without durations and up to some 3 KB with many: with more, rows answer.
const CELLS_MAX: usize = 20_000;
/// The part of all memory that one segment may take.
const SHARE: usize = 2;
/// How long after its last use a cube may give its room to others: dashboards ask again within minutes. Sooner, two that have no
/// room together would be counted again and again.
const IDLE: Duration = Duration::from_secs(300);
/// Segments that are known or wait, at most.
const SEGMENTS_MAX: usize = 4_096;

/// What is counted of segments, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountOptions {
    /// Bytes of memory that rollups may take, over all tenants; 0 for none.
    pub bytes_max: usize,
    /// How often a segment is asked for until it is counted, which costs about what a query over it does: what is asked once is
    /// not.
    pub asked_min: u32,
    /// Frames that a segment which grows has behind its rollup, at least, before they are added: as many are quickly read, and each
    /// adding copies the cells that are known.
    pub frames_min: usize,
    /// The same by rows, where they are many to a frame.
    pub rows_min: usize,
}

impl Default for CountOptions {
    fn default() -> CountOptions {
        CountOptions { bytes_max: 64 << 20, asked_min: 2, frames_min: 16, rows_min: 32 << 10 }
    }
}

/// What is counted of segments.
#[derive(Default)]
pub(super) struct Counted {
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Default)]
struct State {
    /// `None` where nothing is counted.
    options: Option<CountOptions>,
    bytes: usize,
    segments: HashMap<Key, Known>,
    /// Taken from the front, one step at a time, and put behind the others while something is left.
    waiting: VecDeque<Segment>,
    stopped: bool,
}

/// A segment's file and inode.
type Key = (PathBuf, u64);

struct Known {
    first: Option<Arc<First>>,
    asked: u32,
    waits: bool,
    /// No further frame is counted: before that time, or ever.
    ends: Ends,
    used: Instant,
}

#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Not,
    /// There was no room.
    Until(Instant),
    /// Rows that cells do not tell, or bytes that are damaged.
    Ever,
}

/// The first frames of a segment, and their cells.
pub(super) struct First {
    pub(super) frames: usize,
    pub(super) cells: Arc<Cells>,
    /// The header of the last of them: of its own rows, and so of that place in that file.
    last: FrameHeader,
    bytes: usize,
}

/// A segment as a snapshot found it.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) index: Arc<SegmentIndex>,
    pub(super) source: Arc<dyn Source>,
    pub(super) filters: Arc<Filters>,
    pub(super) signal: Signal,
    pub(super) window: Window,
}

/// Frames of a segment that no rollup tells of yet, and one could.
#[derive(Clone)]
pub struct Uncounted {
    /// Their places in the snapshot: those that the range touches.
    pub frames: Range<usize>,
    pub(super) segment: Segment,
    pub(super) counted: Arc<Counted>,
}

impl Uncounted {
    /// Says that a query would have been answered by their rollup: it is made in the background where that is asked again.
    pub fn ask(&self) {
        self.counted.ask(&self.segment);
    }
}

impl std::fmt::Debug for Uncounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uncounted").field("frames", &self.frames).finish_non_exhaustive()
    }
}

impl Segment {
    fn key(&self) -> Key {
        (self.path.clone(), self.index.inode)
    }

    /// How many frames stand for ever.
    pub(super) fn confirmed(&self) -> usize {
        self.index.frames.partition_point(|entry| entry.end() <= self.index.confirmed)
    }

    fn frame(&self, number: usize) -> Option<Frame> {
        let entry = self.index.frames.get(number)?;
        Some(Framed::frame(&self.source, &self.filters, entry.at, self.window, entry.meta.clone()))
    }

    /// The first frames, as frames.
    pub(super) fn first(&self, frames: usize) -> Vec<Frame> {
        (0..frames).filter_map(|number| self.frame(number)).collect()
    }

    /// Whether a cube is of this segment's first frames.
    fn begins_with(&self, first: &First) -> bool {
        let last = first.frames.checked_sub(1).and_then(|last| self.index.frames.get(last));
        last.is_some_and(|entry| entry.meta.header == first.last && entry.end() <= self.index.confirmed)
    }

    /// Whether enough stands behind so many frames to be counted.
    fn has_more(&self, frames: usize, options: &CountOptions) -> bool {
        let behind = self.index.frames.get(frames..self.confirmed()).unwrap_or_default();
        let rows = || behind.iter().map(|entry| entry.meta.header.rows as usize).sum::<usize>();
        !behind.is_empty()
            && (self.index.is_closed() || behind.len() >= options.frames_min || rows() >= options.rows_min)
    }

    /// Counts some frames more; `None` where cells cannot tell them, or would be too many.
    fn count(&self, known: Option<&First>) -> Result<Option<First>, StoreError> {
        let mut cube = CubeBuilder::new(self.signal, CubeLimits { entries: CELLS_MAX, edge_spans: 0 });
        // No query asks for calls and exemplars.
        let dear = |id: &ColumnId| {
            use Intrinsic::{ParentId, SpanId, TraceId};
            matches!(id, ColumnId::Intrinsic(TraceId | SpanId | ParentId))
        };
        let want = |table: TableKind, id: &ColumnId| wants(self.signal, table, id) && !dear(id);
        let from = known.map_or(0, |known| known.frames);
        let (mut frames, mut rows) = (from, 0);
        while frames < self.confirmed().min(from + STEP_FRAMES)
            && rows < STEP_ROWS
            && let Some(frame) = self.frame(frames)
        {
            let (batch, _) = frame.read(&want)?;
            cube.add(&batch);
            (frames, rows) = (frames + 1, rows + batch.rows());
        }
        let last = frames.checked_sub(1).and_then(|last| self.index.frames.get(last));
        // Marks of spans that have started are in no cell.
        let (Some(new), Some(last)) = (cube.finish().filter(|cube| cube.running() == 0), last) else { return Ok(None) };
        let cube = match known {
            None => new,
            Some(known) => {
                let mut both = known.cells.cube().clone();
                both.merge(&new);
                both
            }
        };
        if cube.entries() > CELLS_MAX {
            return Ok(None);
        }
        let cells = Arc::new(Cells::of(cube)?);
        let bytes = cells.memory_bytes();
        Ok(Some(First { frames, cells, last: last.meta.header.clone(), bytes }))
    }
}

impl Counted {
    /// Begins to note what is asked for, with nothing counted.
    pub(super) fn begin(&self, options: CountOptions) {
        *self.state.lock() =
            State { options: Some(options).filter(|options| options.bytes_max > 0), ..State::default() };
    }

    /// Bytes that cells take.
    pub(super) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// The first frames of a segment that are counted, and whether more of it can be.
    pub(super) fn of(&self, segment: &Segment) -> (Option<Arc<First>>, bool) {
        let mut state = self.state.lock();
        let Some(options) = state.options else { return (None, false) };
        let Some(known) = state.segments.get_mut(&segment.key()) else { return (None, segment.has_more(0, &options)) };
        known.used = Instant::now();
        let first = known.first.clone().filter(|first| segment.begins_with(first));
        let more = match known.ends {
            Ends::Not => true,
            Ends::Until(at) => known.used >= at,
            Ends::Ever => false,
        };
        let frames = first.as_ref().map_or(0, |first| first.frames);
        (first, more && segment.has_more(frames, &options))
    }

    fn ask(&self, segment: &Segment) {
        let state = &mut *self.state.lock();
        let Some(options) = state.options else { return };
        if state.segments.len() >= SEGMENTS_MAX && !state.forget_idle() {
            return;
        }
        let known = state.segments.entry(segment.key()).or_insert_with(|| Known {
            first: None,
            asked: 0,
            waits: false,
            ends: Ends::Not,
            used: Instant::now(),
        });
        known.asked = known.asked.saturating_add(1);
        if known.asked >= options.asked_min && !known.waits {
            known.waits = true;
            state.waiting.push_back(segment.clone());
            self.asked.notify_one();
        }
    }

    /// Takes one step of what was asked for; `false` where nothing is. Blocks on the disk.
    pub(super) fn step(&self) -> bool {
        let (segment, known) = {
            let mut state = self.state.lock();
            let Some(segment) = state.waiting.pop_front() else { return false };
            let known = state.segments.get_mut(&segment.key());
            let first = known.as_ref().and_then(|known| known.first.clone());
            // A look that was behind another asked.
            if let (Some(known), Some(first)) = (known, &first)
                && first.frames >= segment.confirmed()
            {
                known.waits = false;
                return true;
            }
            (segment, first)
        };
        // A place in the file that is another's by now is counted from the start.
        let known = known.filter(|first| segment.begins_with(first));
        let counted = match segment.count(known.as_deref()) {
            Ok(Some(first)) => Ok(first),
            Ok(None) => Err(Ends::Ever),
            // It was sealed meanwhile, or is read better the next time that somebody asks.
            Err(StoreError::Vanished(_)) => Err(Ends::Not),
            Err(error) => {
                tracing::warn!(segment = segment.source.name(), %error, "a segment cannot be counted: its rows answer");
                Err(Ends::Until(Instant::now() + IDLE))
            }
        };
        self.state.lock().put(segment, counted);
        true
    }

    /// Waits until something is asked for, and meanwhile forgets what nobody uses; `false` where it is to stop.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while state.waiting.is_empty() && !state.stopped {
            if self.asked.wait_for(&mut state, IDLE).timed_out() {
                state.forget_idle();
            }
        }
        !state.stopped
    }

    /// Ends [`Counted::wait`].
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.asked.notify_all();
    }
}

impl State {
    /// Keeps what a step counted, or notes why it counted nothing.
    fn put(&mut self, segment: Segment, counted: Result<First, Ends>) {
        self.forget_idle();
        let key = segment.key();
        // It was forgotten meanwhile.
        let Some(mut known) = self.segments.remove(&key) else { return };
        known.waits = false;
        let before = known.first.as_ref().map_or(0, |first| first.bytes);
        let bytes_max = self.options.map_or(0, |options| options.bytes_max);
        match counted {
            Err(ends) => (known.asked, known.ends) = (0, ends),
            Ok(first) if first.bytes > bytes_max / SHARE => known.ends = Ends::Ever,
            Ok(first) if self.bytes - before + first.bytes > bytes_max => {
                known.ends = Ends::Until(Instant::now() + IDLE);
            }
            Ok(first) => {
                self.bytes = self.bytes - before + first.bytes;
                if first.frames < segment.confirmed() {
                    known.waits = true;
                    self.waiting.push_back(segment);
                }
                (known.first, known.ends) = (Some(Arc::new(first)), Ends::Not);
            }
        }
        self.segments.insert(key, known);
    }

    /// Forgets what nobody asked for a while; whether that was anything.
    fn forget_idle(&mut self) -> bool {
        let (now, before) = (Instant::now(), self.segments.len());
        let mut freed = 0;
        self.segments.retain(|_, known| {
            let stays = known.waits || now.saturating_duration_since(known.used) < IDLE;
            freed += known.first.as_ref().filter(|_| !stays).map_or(0, |first| first.bytes);
            stays
        });
        self.bytes -= freed;
        self.segments.len() < before
    }
}
