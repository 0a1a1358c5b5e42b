//! One tail: its place, its query, and what it says next. It holds the rows of one frame at most.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use chrono::{DateTime, SecondsFormat};
use prism_model::Signal;
use prism_query::{Before, Halfway, QueryError, Tail, TailCursor, TailRows};
use prism_store::{Place, Placed, Position};
use serde_json::json;
use tokio::sync::watch;

use super::begin::{Backlog, Piece};
use super::follow::Followed;
use super::ring::{At, Event, Found, Next};
use super::{Counts, Form, Seat};
use crate::app::now_unix_nanos;
use crate::error::Failure;

/// What is said at a time: more would wait in memory for a client that reads slowly.
const SAID_BYTES: usize = 64 << 10;

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
    /// Rows of the first frame that were taken before, and what `now()` was for them.
    skip: Option<(Place, u64)>,
    skip_at: i64,
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
            skip: None,
            skip_at: 0,
            _seat: seat,
        }
    }

    /// Behind `shown` rows, and some of its first frame.
    pub(super) fn going_on(self, shown: u64, skip: Option<(Place, u64)>, skip_at: i64) -> Reader {
        Reader { shown, skip, skip_at, ..self }
    }

    /// Rings when there may be more to say.
    pub(crate) fn bells(&self) -> Vec<watch::Receiver<u64>> {
        self.sources.iter().map(|source| source.bell.clone()).collect()
    }

    /// What there is to say now, some tens of kilobytes at most; nothing where nothing is new. Blocks on the disk.
    ///
    /// # Errors
    /// Why it ends, after what was said.
    pub(crate) fn say(&mut self) -> (String, Option<Ended>) {
        let mut out = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            self.form.columns(&self.tail.columns(), &mut out);
            self.said_at_rest(&mut out);
        }
        while out.len() < SAID_BYTES {
            if self.limit.is_some_and(|limit| self.shown >= limit) {
                return (out, Some(Ended::Limit(self.shown)));
            }
            if self.current.is_some() {
                self.say_row(&mut out);
                continue;
            }
            match self.go_on(&mut out) {
                Ok(true) => {}
                Ok(false) => break,
                Err(failure) => return (out, Some(Ended::Failed(failure))),
            }
        }
        (out, None)
    }

    /// That it lives, and where it is. Blocks where one looks for new frames just then.
    pub(crate) fn beat(&mut self) -> String {
        for source in &mut self.sources {
            let known = source.followed.listener.lock().position();
            source.position.forget_but(&known);
        }
        let mut out = String::new();
        let time = DateTime::from_timestamp_nanos(now_unix_nanos()).to_rfc3339_opts(SecondsFormat::Nanos, true);
        let cursor = self.cursor(None, now_unix_nanos());
        self.form.heartbeat(&time, cursor.as_deref(), &mut out);
        out
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
        if let Some(cursor) = self.cursor(None, now_unix_nanos()) {
            match self.form {
                Form::Ndjson => self.form.cursor(&cursor, out),
                Form::Events => out.push_str(&format!("id: {cursor}\n\n")),
            }
        }
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
        Some(cursor.write(self.tail.query()))
    }

    fn say_row(&mut self, out: &mut String) {
        let Some(current) = &mut self.current else { return };
        if current.next < current.rows.len() {
            let number = current.next + 1 - current.base;
            self.form.row(&current.rows, current.next, current.cursor.as_deref(), number, out);
            current.next += 1;
            self.shown += 1;
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
                    // Rows that were taken before are counted as `now()` was then.
                    let taken = self.skip.take_if(|(first, _)| *first == place).map(|(_, rows)| rows);
                    let now = if taken.is_some() { self.skip_at } else { now_unix_nanos() };
                    let rows = self.tail.rows(&frame, now, from).map(some);
                    self.load(rows, frame.rows(), Some((number, place)), taken.unwrap_or(0), now, out)?;
                }
            }
            return Ok(true);
        }
        if !self.backlog.until.is_empty() {
            // All that lay before is said.
            self.backlog = Backlog { pieces: VecDeque::new(), from: i64::MIN, until: Vec::new() };
            for source in &mut self.sources {
                source.position = source.told.take().unwrap_or_default();
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
                Next::Nothing => {}
                Next::Event(Event::Gap(from, to)) => self.gap(from, to, out),
                Next::Event(Event::Frame(found)) => self.found(number, &found, out)?,
                Next::Late => self.late(number, out),
            }
        }
        Ok(found)
    }

    /// A client that is behind all that is kept goes on with what comes now.
    fn late(&mut self, number: usize, out: &mut String) {
        let source = &mut self.sources[number];
        let listener = source.followed.listener.lock();
        let rows = source.followed.ring.lock().skip(&mut source.at);
        source.position = listener.position();
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

    /// A frame that all tails of its rows are told of.
    fn found(&mut self, number: usize, found: &Found, out: &mut String) -> Result<(), Failure> {
        let (Placed { frame, place }, now) = (&found.placed, now_unix_nanos());
        let rows = found.rows(self.tail.alike(), || {
            self.counts.frames.fetch_add(1, Relaxed);
            self.tail.rows(frame, now, i64::MIN)
        });
        self.load(rows, frame.rows(), Some((number, *place)), 0, now, out)
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
