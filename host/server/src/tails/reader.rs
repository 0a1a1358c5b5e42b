//! One tail: its place, its query, and what it says next. It holds the rows of one frame at most.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat};
use prism_model::Signal;
use prism_query::{Before, Halfway, QueryError, Tail, TailCursor, TailRows};
use prism_store::{Place, Placed, Position, StoreError};
use serde_json::json;
use tokio::sync::watch;

use super::begin::{Backlog, Piece, STEP_FRAMES_MAX};
use super::follow::Followed;
use super::ring::{At, Event, Found, Next};
use super::{Counts, Form, Seat};
use crate::app::now_unix_nanos;
use crate::error::Failure;

/// What is said at a time: more would wait in memory for a client that reads slowly.
const SAID_BYTES: usize = 64 << 10;
/// Who takes longer from one look at what lies behind its position to the next is late: for twice as long it is remembered
/// which segments there were.
const CATCH_UP_MAX: Duration = Duration::from_secs(300);
/// Between two times that segments which are gone leave the position of a tail that always has something to say.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// One signal that a tail follows.
pub(super) struct Source {
    pub(super) signal: Signal,
    pub(super) followed: Arc<Followed>,
    pub(super) bell: watch::Receiver<u64>,
    /// Its place in the ring.
    pub(super) at: At,
    /// What was said.
    pub(super) position: Position,
    /// All that was told before it began; taken when what lies before is said.
    pub(super) told: Option<Position>,
    /// When it was last looked for what stands behind its position, unix nanoseconds.
    pub(super) looked: i64,
    /// It has not come up with the ring yet: what that does not keep any more is looked for where it lies.
    pub(super) behind: bool,
    /// The backlog is a part of what stood before its place in the ring.
    pub(super) more: bool,
    /// Segments that cannot be read, of which it was told.
    pub(super) lacks: usize,
}

/// What is said at a time.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) text: String,
    /// Time was up or enough said before all was looked at.
    pub(crate) more: bool,
    /// Why it ends, after what was said.
    pub(crate) ended: Option<Ended>,
}

/// Why a tail ends.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It has shown as many rows as it was asked for.
    Limit(u64),
    /// Something went wrong, or the asker may not read any more.
    Failed(Failure),
    /// The server stops.
    Stopping,
}

/// See the module.
pub(crate) struct Reader {
    tail: Tail,
    sources: Vec<Source>,
    backlog: Backlog,
    form: Form,
    counts: Arc<Counts>,
    current: Option<Current>,
    begun: bool,
    shown: u64,
    limit: Option<u64>,
    /// When it was begun, before it was looked for what stood there.
    joined: i64,
    /// The first frame, of which rows were taken before, and what `now()` was for them.
    skip: Option<Halfway>,
    skip_at: i64,
    forgot: Instant,
    _seat: Seat,
}

fn some(rows: TailRows) -> Option<Arc<TailRows>> {
    (!rows.is_empty()).then(|| Arc::new(rows))
}

/// A frame that is being said.
struct Current {
    rows: Arc<TailRows>,
    next: usize,
    /// Rows that the cursor counts as taken.
    base: usize,
    cursor: Option<String>,
    /// The source that it is of, and its place.
    of: Option<(usize, Place)>,
}

impl Reader {
    pub(super) fn new(
        tail: Tail,
        sources: Vec<Source>,
        backlog: Backlog,
        form: Form,
        seat: Seat,
        counts: Arc<Counts>,
        joined: i64,
    ) -> Reader {
        let limit = tail.query().limit;
        Reader {
            tail,
            sources,
            backlog,
            form,
            counts,
            current: None,
            begun: false,
            shown: 0,
            limit,
            joined,
            skip: None,
            skip_at: 0,
            forgot: Instant::now(),
            _seat: seat,
        }
    }

    /// Behind `shown` rows, and some of its first frame.
    pub(super) fn going_on(self, shown: u64, skip: Option<Halfway>, skip_at: i64) -> Reader {
        Reader { shown, skip, skip_at, ..self }
    }

    /// Rings when there may be more to say.
    pub(crate) fn bells(&self) -> Vec<watch::Receiver<u64>> {
        self.sources.iter().map(|source| source.bell.clone()).collect()
    }

    /// What there is to say now, some tens of kilobytes at most, found within about such a time; nothing where nothing is new.
    /// Blocks on the disk.
    pub(crate) fn say(&mut self, time_max: Duration) -> Said {
        let (began, mut looked) = (Instant::now(), false);
        let mut text = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            self.form.columns(&self.tail.columns(), &mut text);
            // The first cursor is behind what may be missing before it.
            while let Some(Piece::Gap(from, to)) = self.backlog.pieces.front() {
                self.gap(*from, *to, &mut text);
                self.backlog.pieces.pop_front();
            }
            self.said_at_rest(&mut text);
        }
        if self.forgot.elapsed() >= FORGET_EVERY {
            self.forget();
        }
        while text.len() < SAID_BYTES {
            if self.limit.is_some_and(|limit| self.shown >= limit) {
                return Said { text, more: false, ended: Some(Ended::Limit(self.shown)) };
            }
            if self.current.is_some() {
                self.say_row(&mut text);
                continue;
            }
            // Something is looked at each time, however short that is.
            if std::mem::replace(&mut looked, true) && began.elapsed() >= time_max {
                break;
            }
            match self.go_on(&mut text) {
                Ok(true) => {}
                Ok(false) => return Said { text, more: false, ended: None },
                Err(failure) => return Said { text, more: false, ended: Some(Ended::Failed(failure)) },
            }
        }
        Said { text, more: true, ended: None }
    }

    /// That it lives, and where it is.
    pub(crate) fn beat(&mut self) -> String {
        self.forget();
        let mut out = String::new();
        let time = DateTime::from_timestamp_nanos(now_unix_nanos()).to_rfc3339_opts(SecondsFormat::Nanos, true);
        self.form.heartbeat(&time, self.cursor_at_rest().as_deref(), &mut out);
        out
    }

    /// Lets segments go that are gone; another time where one looks for new frames just now.
    fn forget(&mut self) {
        for source in &mut self.sources {
            let Some(listener) = source.followed.listener.try_lock() else { continue };
            source.position.forget_but(&listener.position());
            self.forgot = Instant::now();
        }
    }

    /// Its last words.
    pub(crate) fn end(&self, ended: &Ended) -> String {
        let mut out = String::new();
        if self.current.is_none() {
            self.said_at_rest(&mut out);
        }
        let told = match ended {
            Ended::Limit(rows) => json!({ "code": "limit", "message": format!("{rows} rows were shown (`limit`)") }),
            Ended::Stopping => json!({
                "code": "stopping",
                "message": "the server stops",
                "hint": "go on from the cursor, at another server or at this one when it is back",
            }),
            Ended::Failed(failure) => {
                let mut told =
                    json!({ "code": failure.detail.unwrap_or(failure.code.name()), "message": failure.message });
                if let Some(hint) = &failure.hint {
                    told["hint"] = hint.as_str().into();
                }
                told
            }
        };
        self.form.told("end", &told, &mut out);
        out
    }

    /// Why its rows are not followed any more.
    pub(crate) fn fault(&self) -> Option<Failure> {
        self.sources.iter().find_map(|source| source.followed.fault())
    }

    /// The cursor where no row is being said; none where there is no place to come back to.
    fn said_at_rest(&self, out: &mut String) {
        if let Some(cursor) = self.cursor_at_rest() {
            match self.form {
                Form::Ndjson => self.form.cursor(&cursor, out),
                Form::Events => out.push_str(&format!("id: {cursor}\n\n")),
            }
        }
    }

    fn cursor_at_rest(&self) -> Option<String> {
        match self.skip {
            Some(halfway) => self.cursor(Some(halfway), self.skip_at),
            None => self.cursor(None, self.now()),
        }
    }

    /// Up to when all that was stored is in its place. What lies before is of when that was looked for, however long it takes to
    /// say it: what is sealed and deleted meanwhile is not there for who comes back.
    fn now(&self) -> i64 {
        if self.backlog.until.is_empty() { now_unix_nanos() } else { self.joined }
    }

    fn cursor(&self, halfway: Option<Halfway>, now: i64) -> Option<String> {
        let old = matches!(self.backlog.pieces.front(), Some(Piece::Old(_)));
        if old || self.current.as_ref().is_some_and(|current| current.of.is_none()) {
            return None;
        }
        let positions = |of: &mut dyn Iterator<Item = &Position>| {
            self.sources.iter().map(|source| source.signal).zip(of.cloned()).collect::<Vec<_>>()
        };
        let before = (self.backlog.from > i64::MIN).then(|| Before {
            from_unix_nanos: self.backlog.from,
            positions: positions(&mut self.backlog.until.iter()),
        });
        let positions = positions(&mut self.sources.iter().map(|source| &source.position));
        let cursor = TailCursor { at_unix_nanos: now, shown: self.shown, positions, halfway, before };
        cursor.write(self.tail.query())
    }

    fn say_row(&mut self, out: &mut String) {
        let Some(current) = &mut self.current else { return };
        if current.next < current.rows.len() {
            let number = current.next + 1 - current.base;
            self.form.row(&current.rows, current.next, current.cursor.as_deref(), number, out);
            current.next += 1;
            self.shown = self.shown.saturating_add(1);
            self.counts.rows.fetch_add(1, Relaxed);
        }
        if current.next >= current.rows.len() {
            let of = current.of;
            self.current = None;
            self.passed(of);
        }
    }

    fn passed(&mut self, of: Option<(usize, Place)>) {
        if let Some((number, place)) = of
            && let Some(source) = self.sources.get_mut(number)
        {
            source.position.pass(&place);
        }
    }

    /// Takes the next piece or event; whether there was one.
    fn go_on(&mut self, out: &mut String) -> Result<bool, Failure> {
        if let Some(piece) = self.backlog.pieces.pop_front() {
            match piece {
                Piece::Old(frame) => {
                    let rows = self.tail.rows(&frame, now_unix_nanos(), self.backlog.from).map(some);
                    self.load(rows, frame.rows(), None, 0, now_unix_nanos(), out)?;
                }
                Piece::Gap(from, to) => self.gap(from, to, out),
                Piece::Placed(number, Placed { frame, place }) => {
                    let bound = self.backlog.until.get(number).is_some_and(|until| until.passed(&place));
                    let from = if bound { self.backlog.from } else { i64::MIN };
                    let (taken, now) = self.taken(number, &place, self.joined);
                    let rows = self.tail.rows(&frame, now, from).map(some);
                    self.load(rows, frame.rows(), Some((number, place)), taken, now, out)?;
                }
            }
            return Ok(true);
        }
        if let Some(number) = self.sources.iter().position(|source| source.more) {
            self.catch_up(number, out);
            return Ok(true);
        }
        if !self.backlog.until.is_empty() {
            // All that lay before is said.
            self.backlog = Backlog { pieces: VecDeque::new(), from: i64::MIN, until: Vec::new() };
            for source in &mut self.sources {
                // A cursor may be ahead of a node that could not read a segment yet.
                source.position.raise(&source.told.take().unwrap_or_default());
            }
        }
        let mut found = false;
        for number in 0..self.sources.len() {
            if self.current.is_some() {
                break;
            }
            let source = &mut self.sources[number];
            let next = source.followed.ring.lock().next(&mut source.at);
            found |= !matches!(next, Next::Nothing);
            match next {
                Next::Nothing => source.behind = false,
                Next::Event(Event::Gap(from, to)) => self.gap(from, to, out),
                Next::Event(Event::Frame(found)) => self.found(number, &found, out)?,
                Next::Late if source.behind => {
                    self.catch_up(number, out);
                    break;
                }
                Next::Late => self.late(number, out),
            }
        }
        Ok(found)
    }

    /// Goes on with what stands behind its position, some of it at a time: who has much to say of before has not come up with what
    /// is kept of the newest. What lies there no more is told as missing.
    fn catch_up(&mut self, number: usize, out: &mut String) {
        let now = now_unix_nanos();
        let source = &mut self.sources[number];
        source.more = false;
        let looked = || {
            let mut listener = source.followed.listener.lock();
            source.followed.look(&mut listener)?;
            let heard = listener.heard();
            let ring = source.followed.ring.lock();
            let (at, gap) = (ring.end(), ring.gap_behind(source.at));
            drop((ring, listener));
            // All other tails of these rows would wait for the disk.
            Ok::<_, StoreError>((heard.position(), at, gap, heard.since(&source.position, STEP_FRAMES_MAX)?))
        };
        let in_time = now.saturating_sub(source.looked) < CATCH_UP_MAX.as_nanos() as i64;
        let looked = in_time.then(looked).transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "a tail cannot catch up");
            None
        });
        let Some((told, at, gap, recent)) = looked else {
            source.behind = false;
            return self.late(number, out);
        };
        let lacks = recent.lacks > source.lacks || gap || recent.gone != Position::default();
        let since = std::mem::replace(&mut source.looked, now);
        source.position.raise(&recent.gone);
        (source.at, source.more, source.lacks) = (at, recent.more, recent.lacks);
        source.told = (!recent.more).then_some(told);
        self.backlog.pieces.extend(recent.hot.into_iter().map(|placed| Piece::Placed(number, placed)));
        if self.backlog.until.is_empty() {
            self.backlog.until = vec![Position::default(); self.sources.len()];
        }
        let behind = self.sources.iter().filter(|source| source.behind).map(|source| source.looked);
        self.joined = behind.min().unwrap_or(now);
        if lacks {
            self.gap(since, now, out);
        }
    }

    /// A client that reads too slowly goes on with what comes now.
    fn late(&mut self, number: usize, out: &mut String) {
        let source = &mut self.sources[number];
        let listener = source.followed.listener.lock();
        let rows = source.followed.ring.lock().skip(&mut source.at);
        source.position.raise(&listener.position());
        drop(listener);
        self.skipped(rows, "the client reads too slowly", out);
    }

    fn skipped(&self, rows: u64, why: &str, out: &mut String) {
        self.counts.skipped.fetch_add(rows, Relaxed);
        self.form.told("skipped", &json!({ "rows": rows, "why": why }), out);
        if self.current.is_none() {
            self.said_at_rest(out);
        }
    }

    fn gap(&self, from: i64, to: i64, out: &mut String) {
        self.counts.gaps.fetch_add(1, Relaxed);
        let time = |nanos| DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(SecondsFormat::Nanos, true);
        let hint = "rows that were stored between these times may be missing here: a query finds them";
        self.form.told("gap", &json!({ "from": time(from), "to": time(to), "hint": hint }), out);
    }

    /// How many rows of a frame were taken before, and what `now()` was then; else what it is.
    fn taken(&mut self, number: usize, place: &Place, now: i64) -> (u64, i64) {
        let signal = self.sources.get(number).map(|source| source.signal);
        let taken = self.skip.take_if(|first| first.place == *place && Some(first.signal) == signal);
        taken.map_or((0, now), |first| (first.rows, self.skip_at))
    }

    /// A frame that all tails of its rows are told of.
    fn found(&mut self, number: usize, found: &Found, out: &mut String) -> Result<(), Failure> {
        let Placed { frame, place } = &found.placed;
        if self.sources.get(number).is_some_and(|source| source.position.passed(place)) {
            return Ok(());
        }
        let (taken, now) = self.taken(number, place, now_unix_nanos());
        let rows = found.rows(self.tail.alike(), || {
            self.counts.frames.fetch_add(1, Relaxed);
            self.tail.rows(frame, now, i64::MIN)
        });
        self.load(rows, frame.rows(), Some((number, *place)), taken, now, out)
    }

    /// Begins with the rows of a frame of so many, where some match, behind those that were taken.
    fn load(
        &mut self,
        rows: Result<Option<Arc<TailRows>>, QueryError>,
        of_rows: usize,
        of: Option<(usize, Place)>,
        taken: u64,
        now: i64,
        out: &mut String,
    ) -> Result<(), Failure> {
        let rows = match rows {
            Ok(rows) => rows,
            Err(QueryError::Store(error)) => {
                tracing::warn!(%error, "a frame cannot be read for a tail");
                self.passed(of);
                self.skipped(of_rows as u64, "they cannot be read", out);
                return Ok(());
            }
            Err(error) => return Err(Failure::of_query(&error)),
        };
        let next = usize::try_from(taken).unwrap_or(usize::MAX);
        let Some(rows) = rows.filter(|rows| next < rows.len()) else {
            self.passed(of);
            return Ok(());
        };
        let halfway = of.and_then(|(number, place)| {
            Some(Halfway { signal: self.sources.get(number)?.signal, place, rows: next as u64 })
        });
        let cursor = halfway.and_then(|halfway| self.cursor(Some(halfway), now));
        cursor.iter().for_each(|cursor| self.form.cursor(cursor, out));
        self.current = Some(Current { rows, next, base: next, cursor, of });
        Ok(())
    }
}
