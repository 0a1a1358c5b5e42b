//! Spans on their way to their traces: those of a frame, by the part of the traces' hashes that they fall into.
//!
//! Parts are small beside a processor's cache, so that whoever brings a part's spans together never waits for memory; and all
//! spans of a trace are in one part, so that parts are worked on apart from each other. Where all traces are too many for the
//! memory of a query, a pass is about a share of the hashes alone.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};

use super::span::LOOSE;

/// Spans of a part, about: of 40 bytes each, together with their table they fit into a processor's own cache.
const PART_SPANS: u64 = 8 << 10;
/// Parts at most: so many places of memory are written to in turn.
const PARTS_MAX: u64 = 512;

/// The hash of a trace, seeded: a sender cannot choose ids that fall together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hashing(foldhash::fast::RandomState);

impl Hashing {
    #[inline]
    pub(crate) fn of(&self, trace: [u64; 2]) -> u64 {
        // Word by word: a list is hashed as bytes of any length.
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(trace[0]);
        hasher.write_u64(trace[1]);
        hasher.finish()
    }

    /// Of a span of a trace.
    #[inline]
    pub(crate) fn of_span(&self, trace: [u64; 2], span: u64) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(trace[0]);
        hasher.write_u64(trace[1]);
        hasher.write_u64(span);
        hasher.finish()
    }
}

/// The hashes that a pass is about; the last is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    from: u64,
    last: u64,
}

impl Share {
    pub(crate) const ALL: Share = Share { from: 0, last: u64::MAX };

    pub(crate) fn contains(self, hash: u64) -> bool {
        (self.from..=self.last).contains(&hash)
    }

    /// Its first half; `None` of a single hash.
    pub(crate) fn half(self) -> Option<Share> {
        (self.from < self.last).then(|| Share { last: self.from + (self.last - self.from) / 2, ..self })
    }

    /// Its first traces by hash that have so many spans of `all` at most, but one trace at least: as large a share as there is, so
    /// that of two that follow one another the traces of one and the next one's first have more. `None` where no trace is left
    /// out.
    pub(super) fn first(self, spans: usize, all: impl Iterator<Item = u64> + Clone) -> Option<Share> {
        // The hashes in which the last of them lies are told apart, those before and behind are but counted.
        const SLOTS: u32 = 12;
        let shift = (u64::BITS - (self.last - self.from).leading_zeros()).saturating_sub(SLOTS);
        let slot = |hash: u64| ((hash - self.from) >> shift) as usize;
        let mut counts = vec![0usize; 1 << SLOTS];
        all.clone().for_each(|hash| counts[slot(hash)] += 1);
        let mut kept = 0;
        let over = counts.iter().position(|count| {
            kept += count;
            kept > spans
        })?;
        kept -= counts[over];
        let mut within: BTreeMap<u64, usize> = BTreeMap::new();
        all.filter(|hash| slot(*hash) == over).for_each(|hash| *within.entry(hash).or_default() += 1);
        let (mut last, is_first) = (None, kept == 0);
        for (hash, count) in within {
            kept += count;
            if kept > spans && !(is_first && last.is_none()) {
                // A share ends where the first trace begins that is too many.
                return Some(Share { last: hash - 1, ..self });
            }
            last = Some(hash);
        }
        let behind = counts[over + 1..].iter().any(|count| *count > 0);
        last.filter(|_| behind).map(|last| Share { last, ..self })
    }

    /// All that lies behind it.
    pub(crate) fn rest(self) -> Option<Share> {
        self.last.checked_add(1).map(|from| Share { from, last: u64::MAX })
    }
}

/// What passes have left: each begins where the one before ended, by the same hashes.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    pub(super) share: Share,
    pub(super) hashing: Hashing,
    /// Spans that a pass is about at most, but for those of one trace: for what stands beside more there was no room.
    pub(super) spans_max: usize,
}

impl Left {
    /// All traces.
    pub(crate) fn all() -> Left {
        Left { share: Share::ALL, hashing: Hashing::default(), spans_max: usize::MAX }
    }

    /// A first half of it.
    pub(crate) fn half(&self) -> Option<Left> {
        self.share.half().map(|share| Left { share, ..self.clone() })
    }

    /// What is left behind a pass over a share, which was about so many spans at most.
    pub(super) fn behind(&self, done: Share, spans_max: usize) -> Option<Left> {
        done.rest().map(|share| Left { share, spans_max, ..self.clone() })
    }
}

/// How a share is cut into parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) share: Share,
    shift: u32,
}

impl Parts {
    /// For so many spans at most.
    pub(crate) fn of(share: Share, spans: u64) -> Parts {
        let wanted = (spans / PART_SPANS).next_power_of_two().clamp(1, PARTS_MAX);
        let width = share.last - share.from;
        let bits = u64::BITS - width.leading_zeros();
        Parts { share, shift: bits.saturating_sub(wanted.trailing_zeros()) }
    }

    /// The same number of parts for less.
    pub(super) fn narrowed(self, share: Share) -> Parts {
        Parts::of(share, self.len() as u64 * PART_SPANS)
    }

    pub(crate) fn len(&self) -> usize {
        self.part(self.share.last) + 1
    }

    /// The part of a hash of the share.
    pub(crate) fn part(&self, hash: u64) -> usize {
        // A share of one part has as many bits as a hash.
        (hash - self.share.from).checked_shr(self.shift).unwrap_or(0) as usize
    }
}

/// What is of a trace.
pub(crate) trait OfTrace: Copy + Send + Sync {
    /// Whose hash tells its part: the trace id, or for what is of no trace something of its own.
    fn key(&self) -> [u64; 2];
}

/// A stored span: 40 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// The trace id; of a span without one, which [`LOOSE`](super::span::LOOSE) tells, its place.
    pub(crate) trace: [u64; 2],
    pub(crate) id: u64,
    /// Told by [`BELOW`](super::span::BELOW).
    pub(crate) parent: u64,
    /// Its row, counted over all frames.
    pub(crate) place: u32,
    /// A bit for each binding that it fits, and those of `span`.
    pub(crate) marks: u32,
}

/// A stored span with its times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    pub(crate) sent: Sent,
    pub(crate) start: i64,
    pub(crate) duration: i64,
}

/// A trace of which something was found: 24 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) trace: [u64; 2],
    pub(crate) marks: u32,
}

/// From when to when a trace lasts, by some of its spans: 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Extent {
    pub(crate) trace: [u64; 2],
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Extent {
    /// Of no span.
    pub(crate) const NONE: Extent = Extent { trace: [0; 2], start: i64::MAX, end: i64::MIN };
}

/// A span in either form.
pub(crate) trait Stored: OfTrace {
    /// Whether it has times.
    const TIMED: bool;
    fn new(sent: Sent, start: i64, duration: i64) -> Self;
    fn sent(&self) -> &Sent;
    /// Start and duration; 0 where they are not known.
    fn times(&self) -> (i64, i64);
}

impl OfTrace for Sent {
    fn key(&self) -> [u64; 2] {
        self.trace
    }
}

impl OfTrace for Timed {
    fn key(&self) -> [u64; 2] {
        self.sent.trace
    }
}

impl OfTrace for Found {
    fn key(&self) -> [u64; 2] {
        self.trace
    }
}

impl OfTrace for Extent {
    fn key(&self) -> [u64; 2] {
        self.trace
    }
}

impl Stored for Sent {
    const TIMED: bool = false;

    fn new(sent: Sent, _: i64, _: i64) -> Sent {
        sent
    }

    fn sent(&self) -> &Sent {
        self
    }

    fn times(&self) -> (i64, i64) {
        (0, 0)
    }
}

impl Stored for Timed {
    const TIMED: bool = true;

    fn new(sent: Sent, start: i64, duration: i64) -> Timed {
        Timed { sent, start, duration }
    }

    fn sent(&self) -> &Sent {
        &self.sent
    }

    fn times(&self) -> (i64, i64) {
        (self.start, self.duration)
    }
}

/// Rows of a frame, each with its part.
pub(crate) struct Placed {
    rows: Vec<(u32, u32)>,
    /// By part how many.
    counts: Vec<usize>,
}

impl Placed {
    /// None yet.
    pub(crate) fn new(parts: Parts) -> Placed {
        Placed { rows: Vec::new(), counts: vec![0; parts.len()] }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, row: usize, part: u32) {
        self.counts[part as usize] += 1;
        self.rows.push((row as u32, part));
    }

    /// Of rows, each with what its trace is hashed by, those whose hash is in the share.
    pub(crate) fn of(rows: impl Iterator<Item = (usize, [u64; 2])>, parts: Parts, hashing: &Hashing) -> Placed {
        let mut placed = Placed::new(parts);
        // Spans of a trace mostly lie together.
        let mut last = ([0; 2], hashing.of([0; 2]));
        for (row, key) in rows {
            if last.0 != key {
                last = (key, hashing.of(key));
            }
            if parts.share.contains(last.1) {
                placed.add(row, parts.part(last.1) as u32);
            }
        }
        placed
    }

    /// The rows.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = u32> {
        self.rows.iter().map(|(row, _)| *row)
    }

    /// Each row as `make` has it.
    pub(crate) fn spread<T>(self, make: impl Fn(usize) -> T) -> Spread<T> {
        let mut spread: Vec<Vec<T>> = self.counts.into_iter().map(Vec::with_capacity).collect();
        for (row, part) in self.rows {
            spread[part as usize].push(make(row as usize));
        }
        Spread(spread)
    }
}

/// What a frame holds, by part.
#[derive(Debug)]
pub(crate) struct Spread<T>(Vec<Vec<T>>);

impl<T: OfTrace> Spread<T> {
    pub(crate) fn part(&self, part: usize) -> &[T] {
        self.0.get(part).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|part| part.capacity() * size_of::<T>() + size_of::<Vec<T>>()).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    /// The hash of each one's trace.
    fn hashes(&self, hashing: &Hashing) -> impl Iterator<Item = u64> + Clone {
        // Spans of a trace mostly lie together.
        let mut last = None;
        self.0.iter().flatten().map(move |of| match last {
            Some((key, hash)) if key == of.key() => hash,
            _ => {
                let hash = hashing.of(of.key());
                last = Some((of.key(), hash));
                hash
            }
        })
    }

    /// Keeps what is in a smaller share, in the parts of that.
    fn narrow(&mut self, parts: Parts, hashing: &Hashing) {
        let all: Vec<T> = std::mem::take(&mut self.0).into_iter().flatten().collect();
        let keys = all.iter().enumerate().map(|(at, of)| (at, of.key()));
        *self = Placed::of(keys, parts, hashing).spread(|at| all[at]);
    }
}

/// What frames gave so far, within a bound of memory: where it is reached, some of the traces are left for another pass.
pub(crate) struct Spreads<T> {
    pub(crate) parts: Parts,
    /// By frame.
    pub(crate) of: Vec<Option<Spread<T>>>,
    bytes: usize,
    len: usize,
}

/// Of what is there so many parts of [`LEFT_PARTS`] stay where some of it is left for another pass: little is left at a time, so
/// that most passes are nearly as large as there is room.
pub(super) const KEPT_PARTS: usize = 3;
/// See above.
pub(super) const LEFT_PARTS: usize = 4;

/// Not even one trace fits.
pub(crate) struct OneTrace {
    /// How many spans of it were seen.
    pub(crate) spans: usize,
}

impl<T: OfTrace> Spreads<T> {
    pub(crate) fn new(frames: usize, parts: Parts) -> Spreads<T> {
        Spreads { parts, of: (0..frames).map(|_| None).collect(), bytes: 0, len: 0 }
    }

    /// Adds what a frame gave by the parts that there were when it was begun. `fits`: whether so many bytes may be taken. No more
    /// than `most` of it are kept, but for those of one trace.
    pub(crate) fn add<E>(
        &mut self,
        frame: usize,
        mut spread: Spread<T>,
        of: Parts,
        hashing: &Hashing,
        most: usize,
        mut fits: impl FnMut(usize) -> Result<bool, E>,
    ) -> Result<Result<(), OneTrace>, E> {
        if of != self.parts {
            spread.narrow(self.parts, hashing);
        }
        (self.bytes, self.len) = (self.bytes + spread.bytes(), self.len + spread.len());
        self.of[frame] = Some(spread);
        loop {
            let fits = fits(self.bytes)?;
            if fits && self.len <= most {
                return Ok(Ok(()));
            }
            match self.first(hashing) {
                Some(first) => self.narrow(first, hashing),
                None if fits => return Ok(Ok(())),
                None => return Ok(Err(OneTrace { spans: self.len })),
            }
        }
    }

    /// The share of its first traces where some are left for another pass; `None` of one trace.
    fn first(&self, hashing: &Hashing) -> Option<Share> {
        if self.is_one_trace() {
            return None;
        }
        let hashes = self.of.iter().flatten().flat_map(|spread| spread.hashes(hashing));
        self.parts.share.first(self.len / LEFT_PARTS * KEPT_PARTS, hashes)
    }

    fn narrow(&mut self, share: Share, hashing: &Hashing) {
        self.parts = self.parts.narrowed(share);
        (self.bytes, self.len) = (0, 0);
        for spread in self.of.iter_mut().flatten() {
            spread.narrow(self.parts, hashing);
            self.bytes += spread.bytes();
            self.len += spread.len();
        }
    }

    /// Whether nothing can be left for another pass.
    pub(crate) fn is_one_trace(&self) -> bool {
        let mut keys = self.of.iter().flatten().flat_map(Spread::iter).map(OfTrace::key);
        let first = keys.next();
        keys.all(|key| Some(key) == first)
    }

    /// What all frames have of a part, in the order of the frames.
    pub(crate) fn part(&self, part: usize) -> impl Iterator<Item = &[T]> + Clone {
        self.of.iter().flatten().map(move |spread| spread.part(part)).filter(|rows| !rows.is_empty())
    }

    /// Each part by itself, whose room is given back with it: what all frames have of it.
    pub(crate) fn into_parts(self) -> Vec<Vec<Vec<T>>> {
        let mut parts: Vec<Vec<Vec<T>>> = (0..self.parts.len()).map(|_| Vec::new()).collect();
        for spread in self.of.into_iter().flatten() {
            parts
                .iter_mut()
                .zip(spread.0)
                .filter(|(_, rows)| !rows.is_empty())
                .for_each(|(part, rows)| part.push(rows));
        }
        parts
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Whether two spans are of one trace.
pub(crate) fn together(a: &Sent, b: &Sent) -> bool {
    a.trace == b.trace && (a.marks | b.marks) & LOOSE == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever lies beside one another by hash, a large trace among them: each trace is in one pass, and two passes that follow one
    /// another hold more than what is kept where there is no room.
    #[test]
    fn passes_are_of_as_many_traces_as_there_is_room_for() {
        const MOST: usize = 16;
        for large in [1, MOST / 2, MOST, 3 * MOST] {
            let hashing = Hashing::default();
            let found = |n: u64| Found { trace: [n, n], marks: 1 };
            let mut all: Vec<Found> = (1..=90).flat_map(|n| vec![found(n); 1 + n as usize % 3]).collect();
            all.extend(vec![found(99); large]);
            let (mut left, mut passes) = (Some(Share::ALL), Vec::new());
            while let Some(share) = left {
                let mut spreads = Spreads::<Found>::new(4, Parts::of(share, 1_000));
                for (frame, rows) in all.chunks(all.len().div_ceil(4)).enumerate() {
                    let keys = rows.iter().enumerate().map(|(at, found)| (at, found.trace));
                    let parts = spreads.parts;
                    let spread = Placed::of(keys, parts, &hashing).spread(|at| rows[at]);
                    let added = spreads.add(frame, spread, parts, &hashing, MOST, |_| Ok::<_, ()>(true));
                    assert!(matches!(added, Ok(Ok(()))));
                }
                let held: Vec<u64> = spreads.of.iter().flatten().flat_map(Spread::iter).map(|of| of.trace[0]).collect();
                assert_eq!(held.len(), spreads.len());
                assert!(held.len() <= MOST || held.iter().all(|trace| *trace == 99), "{held:?}");
                passes.push(held);
                left = spreads.parts.share.rest();
            }
            let mut told: Vec<u64> = passes.iter().flatten().copied().collect();
            told.sort_unstable();
            assert_eq!(told, all.iter().map(|found| found.trace[0]).collect::<Vec<_>>(), "each once");
            for pair in passes.windows(2).take(passes.len().saturating_sub(2)) {
                let both = pair[0].len() + pair[1].len();
                assert!(both > MOST / LEFT_PARTS * KEPT_PARTS, "{both} with {large}");
                assert!(pair[0].iter().all(|trace| !pair[1].contains(trace)), "a trace is in one pass");
            }
        }
    }
}
