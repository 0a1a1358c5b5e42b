//! A span as structure sees it, and the spans of the wanted traces side by side.

use super::ask::BINDINGS_MAX;
use super::spread::{Hashing, Stored};

/// No span, no row.
pub(crate) const NONE: u32 = u32::MAX;
/// The start lies in the range of the rows.
pub(crate) const IN_RANGE: u32 = 1 << 31;
/// The span has an id of its own.
pub(crate) const NAMED: u32 = 1 << 30;
/// The span names a parent.
pub(crate) const BELOW: u32 = 1 << 29;
/// The span's status is an error.
pub(crate) const ERROR: u32 = 1 << 28;
/// The span is of no trace.
pub(crate) const LOOSE: u32 = 1 << 27;
/// The span is such as the parent of a row must be.
pub(crate) const PARENT_FITS: u32 = 1 << 26;
/// The span fits some binding.
pub(crate) const FITS: u32 = (1 << BINDINGS_MAX) - 1;
/// Duration of a span that has not ended.
pub(crate) const OPEN: i64 = i64::MIN;

/// A stored span: 40 bytes, of which a cache line holds more than one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub(crate) id: u64,
    /// Told by [`BELOW`].
    pub(crate) parent: u64,
    /// Unix nanoseconds; 0 where nothing asked for it.
    pub(crate) start: i64,
    /// Nanoseconds, or [`OPEN`].
    pub(crate) duration: i64,
    /// Its row, counted over all frames.
    pub(crate) place: u32,
    /// A bit for each binding that it fits, and what is above.
    pub(crate) marks: u32,
}

impl Span {
    pub(crate) fn has(&self, mark: u32) -> bool {
        self.marks & mark != 0
    }

    /// By which spans are told apart and ordered: the earliest first.
    pub(crate) fn key(&self) -> (i64, u64, u32) {
        (self.start, self.id, self.place)
    }

    /// Its end; of one that has not ended `open`. Never before its start.
    pub(crate) fn end(&self, open: i64) -> i64 {
        match self.duration {
            OPEN => open.max(self.start),
            duration => self.start.saturating_add(duration.max(0)),
        }
    }
}

/// The spans of some traces, those of a trace together.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    spans: Vec<Span>,
    /// Where each trace begins, and the end.
    starts: Vec<u32>,
}

impl Spans {
    /// Brings the spans of each trace of a part together, for those traces whose marks are `wanted`.
    pub(crate) fn of<'s, T: Stored + 's>(
        part: impl Iterator<Item = &'s [T]> + Clone,
        traces: &mut Traces,
        wanted: impl Fn(u32) -> bool,
    ) -> Spans {
        traces.clear();
        let mut numbers: Vec<u32> = Vec::with_capacity(part.clone().map(<[T]>::len).sum());
        let mut counts: Vec<u32> = Vec::new();
        let mut marks: Vec<u32> = Vec::new();
        for stored in part.clone().flatten() {
            let sent = stored.sent();
            let number = if sent.marks & LOOSE == 0 { traces.number(sent.trace) } else { traces.alone() };
            if number as usize == counts.len() {
                counts.push(0);
                marks.push(0);
            }
            counts[number as usize] += 1;
            marks[number as usize] |= sent.marks;
            numbers.push(number);
        }
        let mut starts = Vec::with_capacity(counts.len() + 1);
        let mut sum = 0;
        for (count, marks) in counts.iter_mut().zip(&marks) {
            starts.push(sum);
            if wanted(*marks) {
                sum += *count;
            } else {
                *count = 0;
            }
        }
        starts.push(sum);
        // Where the next span of each goes; those of no use go nowhere.
        let mut next = starts.clone();
        let mut spans = vec![Span::default(); sum as usize];
        for (stored, number) in part.flatten().zip(numbers) {
            if counts[number as usize] == 0 {
                continue;
            }
            let (sent, (start, duration)) = (stored.sent(), stored.times());
            let at = &mut next[number as usize];
            spans[*at as usize] =
                Span { id: sent.id, parent: sent.parent, start, duration, place: sent.place, marks: sent.marks };
            *at += 1;
        }
        Spans { spans, starts }
    }

    /// The spans of each trace that has any, and the number of the first.
    pub(crate) fn traces(&self) -> impl Iterator<Item = (usize, &[Span])> {
        let bounds = self.starts.windows(2).filter(|bounds| bounds[0] < bounds[1]);
        bounds.map(|bounds| (bounds[0] as usize, &self.spans[bounds[0] as usize..bounds[1] as usize]))
    }

    pub(crate) fn all(&self) -> &[Span] {
        &self.spans
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.starts.capacity() * 4
    }
}

/// Slots that are kept from part to part.
const SLOTS_KEPT: usize = 1 << 14;

/// Numbers of traces, in the order in which they were first seen. The room is kept from part to part.
#[derive(Debug)]
pub(crate) struct Traces {
    /// Number of a trace, or [`NONE`]; as many as a power of two.
    slots: Vec<u32>,
    ids: Vec<[u64; 2]>,
    hashing: Hashing,
    last: ([u64; 2], u32),
}

impl Default for Traces {
    fn default() -> Traces {
        Traces { slots: vec![NONE; 1 << 10], ids: Vec::new(), hashing: Hashing::default(), last: ([0; 2], NONE) }
    }
}

impl Traces {
    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        // One large part should not make all others slow.
        self.slots.truncate(SLOTS_KEPT);
        self.slots.fill(NONE);
        self.ids.clear();
        self.last = ([0; 2], NONE);
    }

    /// Their ids; zeros for those of [`Traces::alone`].
    pub(crate) fn ids(&self) -> &[[u64; 2]] {
        &self.ids
    }

    /// The number of a trace, a new one for one that is new.
    pub(crate) fn number(&mut self, id: [u64; 2]) -> u32 {
        // Spans of a trace mostly lie together.
        if self.last.0 == id && self.last.1 != NONE {
            return self.last.1;
        }
        if self.ids.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let slot = self.slot(id);
        if self.slots[slot] == NONE {
            self.slots[slot] = self.ids.len() as u32;
            self.ids.push(id);
        }
        self.last = (id, self.slots[slot]);
        self.slots[slot]
    }

    /// A number for a span that is of no trace.
    pub(crate) fn alone(&mut self) -> u32 {
        self.ids.push([0; 2]);
        self.ids.len() as u32 - 1
    }

    fn slot(&self, id: [u64; 2]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hashing.of(id) as usize & mask;
        while self.slots[slot] != NONE && self.ids[self.slots[slot] as usize] != id {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![NONE; (old.len() * 2).max((self.ids.len() * 4).next_power_of_two())];
        for number in old.into_iter().filter(|number| *number != NONE) {
            let slot = self.slot(self.ids[number as usize]);
            self.slots[slot] = number;
        }
    }
}

/// A value for some of the rows of all frames, which takes room only where values are.
#[derive(Clone, Debug)]
pub(crate) struct Sparse<T> {
    pages: Vec<Option<Box<[T]>>>,
    /// Instead of pages, ascending by row: of a few rows each may lie in a page of its own.
    listed: Vec<(u32, T)>,
    none: T,
}

/// Rows of a page.
pub(super) const PAGE: usize = 1 << 8;

impl<T: Copy + PartialEq> Sparse<T> {
    /// Nothing yet. `none` stands for a missing value.
    pub(crate) fn new(none: T) -> Sparse<T> {
        Sparse { pages: Vec::new(), listed: Vec::new(), none }
    }

    /// The values of a few rows, to which no more are added.
    pub(crate) fn listed(mut of: Vec<(u32, T)>, none: T) -> Sparse<T> {
        of.sort_unstable_by_key(|(row, _)| *row);
        Sparse { pages: Vec::new(), listed: of, none }
    }

    pub(crate) fn get(&self, place: u32) -> T {
        if !self.listed.is_empty() {
            let at = self.listed.binary_search_by_key(&place, |(row, _)| *row);
            return at.map_or(self.none, |at| self.listed[at].1);
        }
        let page = self.pages.get(place as usize / PAGE).and_then(Option::as_deref);
        page.map_or(self.none, |page| page[place as usize % PAGE])
    }

    pub(crate) fn set(&mut self, place: u32, value: T) {
        let number = place as usize / PAGE;
        if number >= self.pages.len() {
            self.pages.resize_with(number + 1, || None);
        }
        let none = self.none;
        let page = self.pages[number].get_or_insert_with(|| vec![none; PAGE].into_boxed_slice());
        page[place as usize % PAGE] = value;
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.iter().flatten().count() * PAGE * size_of::<T>() + self.listed.capacity() * size_of::<(u32, T)>()
    }

    /// The places from `first` on, `rows` of them, that have a value.
    pub(crate) fn places(&self, first: u32, rows: usize) -> impl Iterator<Item = u32> {
        let end = first as usize + rows;
        (first as usize / PAGE..end.div_ceil(PAGE))
            .filter(|page| self.pages.get(*page).is_some_and(Option::is_some))
            .flat_map(move |page| {
                let from = (page * PAGE).max(first as usize);
                (from..((page + 1) * PAGE).min(end))
                    .map(|place| place as u32)
                    .filter(|place| self.get(*place) != self.none)
            })
    }
}
