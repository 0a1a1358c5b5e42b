//! Where a tail begins: with what is stored from now on, with the rows of the last minutes before, or where another stopped.

use std::collections::VecDeque;
use std::sync::Arc;

use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};
use prism_query::{Halfway, Tail, TailCursor};
use prism_store::{Frame, Placed, Position, Recent, StoreError, may_have_missed};

use super::follow::Followed;
use super::reader::Source;
use super::ring::At;
use super::{Form, Reader, Seat, Tails};
use crate::app::now_unix_nanos;
use crate::error::{Code, Failure};

/// Looks that it takes at most to begin, where segments are sealed meanwhile.
const JOIN_TRIES: usize = 8;

/// Frames that a tail which goes on somewhere is given at once, and the first of each segment: the others are looked for when
/// these are said, so that what it holds is bounded, and what it is given is read before it may be gone.
pub(super) const STEP_FRAMES_MAX: usize = 512;

/// Where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Begin {
    /// With what is stored from now on.
    Now,
    /// With rows of the last so many nanoseconds by event time, and then with what is stored.
    Last(i64),
    /// Where another stopped.
    Cursor(Box<TailCursor>),
}

/// What is asked for.
pub(crate) struct Asked {
    pub(crate) tenant: TenantId,
    pub(crate) tail: Tail,
    pub(crate) begin: Begin,
    pub(crate) form: Form,
    pub(crate) seat: Seat,
}

/// What is read before anything new.
#[derive(Debug)]
pub(super) enum Piece {
    /// Rows of colder tiers: there is no place to come back to.
    Old(Frame),
    /// A frame of a source.
    Placed(usize, Placed),
    /// Rows may be missing.
    Gap(i64, i64),
}

/// Rows that were stored before the tail began.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) pieces: VecDeque<Piece>,
    /// Those of earlier event times are not shown.
    pub(super) from: i64,
    /// Up to where the bound holds; after it, what is stored counts whatever its time.
    pub(super) until: Vec<Position>,
}

/// What one source has to begin with.
struct Joined {
    at: At,
    /// All that was told.
    told: Position,
    recent: Recent,
}

impl Tails {
    /// Begins a tail. Blocks on the disk; in a runtime.
    ///
    /// # Errors
    /// The store's, where it cannot be looked at, or not at all of it.
    pub(crate) fn begin(&self, asked: Asked) -> Result<Reader, Failure> {
        let Asked { tenant, tail, begin, form, seat } = asked;
        let now = now_unix_nanos();
        let followed: Vec<(Signal, Arc<Followed>)> =
            tail.signals().into_iter().map(|signal| (signal, self.follow(&tenant, signal))).collect();
        let mut sources = Vec::new();
        let mut backlog = Backlog { pieces: VecDeque::new(), from: i64::MIN, until: Vec::new() };
        let mut shown = 0;
        let mut halfway = None;
        if let Begin::Cursor(cursor) = &begin {
            (shown, halfway) = (cursor.shown, cursor.halfway);
            backlog.from = cursor.before.as_ref().map_or(i64::MIN, |before| before.from_unix_nanos);
            if may_have_missed(now.saturating_sub(cursor.at_unix_nanos), self.grace) {
                backlog.pieces.push_back(Piece::Gap(cursor.at_unix_nanos, now));
            }
        }
        if let Begin::Last(nanos) = &begin {
            backlog.from = now.saturating_sub(*nanos);
        }
        let mut hot: Vec<(i64, Piece)> = Vec::new();
        let (mut old, mut lacks) = (Vec::new(), 0);
        for (number, (signal, followed)) in followed.into_iter().enumerate() {
            let bell = followed.bell();
            let joined = self.join(&followed, &begin, backlog.from)?;
            let position = match &begin {
                Begin::Now => joined.told.clone(),
                Begin::Last(_) => before(&joined.told, &joined.recent.hot),
                Begin::Cursor(cursor) => of(&cursor.positions, signal).cloned().unwrap_or_default(),
            };
            backlog.until.push(match &begin {
                Begin::Cursor(cursor) => {
                    let before = cursor.before.as_ref().and_then(|before| of(&before.positions, signal));
                    before.cloned().unwrap_or_default()
                }
                _ => joined.told.clone(),
            });
            lacks += joined.recent.lacks;
            let more = joined.recent.more;
            old.extend(joined.recent.old);
            hot.extend(joined.recent.hot.into_iter().map(|placed| {
                let time = placed.frame.stats().time_min;
                (time, Piece::Placed(number, placed))
            }));
            let told = (!more).then_some(joined.told);
            let (at, lacks, behind) = (joined.at, joined.recent.lacks, begin != Begin::Now);
            let looked = now;
            sources.push(Source { signal, followed, bell, at, position, told, looked, lacks, behind, more });
        }
        if lacks > 0 && backlog.pieces.is_empty() {
            let since = match &begin {
                Begin::Cursor(cursor) => cursor.at_unix_nanos,
                _ => backlog.from,
            };
            backlog.pieces.push_back(Piece::Gap(since, now));
        }
        let gaps = backlog.pieces.len();
        old.sort_by_key(|frame| frame.stats().time_min);
        backlog.pieces.extend(old.into_iter().map(Piece::Old));
        // Within a source they are in order already, which must stay: places are passed one after the other.
        backlog.pieces.extend(merge(hot, sources.len()));
        let skip = halfway.filter(|halfway| first(&mut backlog.pieces, gaps, &sources, halfway));
        if halfway.is_some() && skip.is_none() && gaps == 0 {
            // Its other rows may be missing.
            backlog.pieces.push_front(Piece::Gap(now, now));
        }
        let at = match &begin {
            Begin::Cursor(cursor) => cursor.at_unix_nanos,
            _ => now,
        };
        Ok(Reader::new(tail, sources, backlog, form, seat, self.counts.clone(), now).going_on(shown, skip, at))
    }

    fn join(&self, followed: &Followed, begin: &Begin, from: i64) -> Result<Joined, Failure> {
        let failed = |error: StoreError| Failure::of(&error);
        let refuse = |why: &'static str| {
            Err(Failure::new(Code::Unavailable, format!("what is stored cannot be followed now: {why}")))
        };
        for _ in 0..JOIN_TRIES {
            let mut listener = followed.listener.lock();
            let unread = followed.look(&mut listener).map_err(failed)?;
            let (heard, at) = (listener.heard(), followed.ring.lock().end());
            // All other tails of these rows would wait for the object store.
            drop(listener);
            let recent = match begin {
                // What stands there unread would be told as new later.
                Begin::Now | Begin::Last(_) if unread > 0 => return refuse("some of it cannot be read"),
                Begin::Now => Some(Recent::default()),
                Begin::Last(_) => heard.recent(&self.rows, TimeRange { from, ..TimeRange::ALL }).map_err(failed)?,
                Begin::Cursor(cursor) => {
                    let of_signal = of(&cursor.positions, heard.signal());
                    let from = of_signal.cloned().unwrap_or_default();
                    Some(heard.since(&from, STEP_FRAMES_MAX).map_err(failed)?)
                }
            };
            match recent {
                Some(recent) => return Ok(Joined { at, told: heard.position(), recent }),
                None => followed.listener.lock().doubt(),
            }
        }
        refuse("it moves on all the time")
    }
}

fn of(positions: &[(Signal, Position)], signal: Signal) -> Option<&Position> {
    positions.iter().find(|(of, _)| *of == signal).map(|(_, position)| position)
}

/// All that was told, but for some frames and those behind them in their segments.
fn before(told: &Position, frames: &[Placed]) -> Position {
    let mut before = told.clone();
    frames.iter().for_each(|placed| before.back_to(&placed.place));
    before
}

/// Pieces of several sources by time, each source's in its order.
fn merge(pieces: Vec<(i64, Piece)>, sources: usize) -> Vec<Piece> {
    let mut queues: Vec<VecDeque<(i64, Piece)>> = (0..sources).map(|_| VecDeque::new()).collect();
    for (time, piece) in pieces {
        if let Piece::Placed(number, _) = &piece
            && let Some(queue) = queues.get_mut(*number)
        {
            queue.push_back((time, piece));
        }
    }
    let mut merged = Vec::new();
    loop {
        let heads = queues.iter().enumerate().filter_map(|(n, queue)| Some((queue.front()?.0, n)));
        let Some((_, n)) = heads.min() else { return merged };
        merged.extend(queues[n].pop_front().map(|(_, piece)| piece));
    }
}

/// The frame of which some rows were taken comes first behind the gaps; whether it is there, or will be when it can be read.
fn first(pieces: &mut VecDeque<Piece>, gaps: usize, sources: &[Source], halfway: &Halfway) -> bool {
    let is_it = |piece: &Piece| {
        matches!(piece, Piece::Placed(number, placed)
            if placed.place == halfway.place && sources.get(*number).is_some_and(|s| s.signal == halfway.signal))
    };
    let piece = pieces.iter().position(is_it).and_then(|at| pieces.remove(at));
    if let Some(piece) = piece {
        pieces.insert(gaps, piece);
        return true;
    }
    let mut told = sources.iter().filter(|source| source.signal == halfway.signal).filter_map(|s| s.told.as_ref());
    told.any(|told| told.awaits(&halfway.place))
}
