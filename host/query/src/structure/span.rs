//! A span as structure sees it, and the spans of the wanted traces side by side.

use std::hash::BuildHasher as _;

use super::ask::BINDINGS_MAX;

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
    /// Brings the spans of each trace together, for those traces that are wanted. `numbers`: the trace of each.
    pub(crate) fn grouped(spans: Vec<Span>, numbers: &[u32], wanted: &[bool]) -> Spans {
        let mut counts = vec![0u32; wanted.len() + 1];
        for number in numbers.iter().filter(|number| wanted[**number as usize]) {
            counts[*number as usize + 1] += 1;
        }
        let mut starts = Vec::with_capacity(counts.len());
        let mut sum = 0;
        for count in &counts {
            sum += count;
            starts.push(sum);
        }
        let mut next = starts.clone();
        let mut grouped = vec![Span::default(); sum as usize];
        for (span, number) in spans.iter().zip(numbers).filter(|(_, number)| wanted[**number as usize]) {
            let at = &mut next[*number as usize];
            grouped[*at as usize] = *span;
            *at += 1;
        }
        Spans { spans: grouped, starts }
    }

    /// The spans of each trace that has any.
    pub(crate) fn traces(&self) -> impl Iterator<Item = &[Span]> {
        let bounds = self.starts.windows(2).filter(|bounds| bounds[0] < bounds[1]);
        bounds.map(|bounds| &self.spans[bounds[0] as usize..bounds[1] as usize])
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }
}

/// Numbers of traces, in the order in which they were first seen.
pub(crate) struct Traces {
    /// Number of a trace, or [`NONE`]; as many as a power of two.
    slots: Vec<u32>,
    ids: Vec<u128>,
    /// Seeded: a sender cannot choose ids that fall together.
    state: foldhash::fast::RandomState,
    last: (u128, u32),
}

impl Traces {
    pub(crate) fn new() -> Traces {
        Traces { slots: vec![NONE; 1 << 12], ids: Vec::new(), state: Default::default(), last: (0, NONE) }
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn id(&self, number: usize) -> [u8; 16] {
        self.ids[number].to_be_bytes()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * 4 + self.ids.capacity() * 16
    }

    /// The number of a trace, a new one for one that is new.
    pub(crate) fn number(&mut self, id: [u8; 16]) -> u32 {
        let id = u128::from_be_bytes(id);
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

    /// The number of a trace that was seen.
    pub(crate) fn find(&self, id: [u8; 16]) -> Option<u32> {
        Some(self.slots[self.slot(u128::from_be_bytes(id))]).filter(|number| *number != NONE)
    }

    /// A number for a span that is of no trace.
    pub(crate) fn alone(&mut self) -> u32 {
        self.ids.push(0);
        self.ids.len() as u32 - 1
    }

    fn slot(&self, id: u128) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.state.hash_one(id) as usize & mask;
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
#[derive(Debug)]
pub(crate) struct Sparse<T> {
    pages: Vec<Option<Box<[T]>>>,
    none: T,
}

/// Rows of a page.
const PAGE: usize = 1 << 14;

impl<T: Copy + PartialEq> Sparse<T> {
    /// Nothing yet. `none` stands for a missing value.
    pub(crate) fn new(none: T) -> Sparse<T> {
        Sparse { pages: Vec::new(), none }
    }

    pub(crate) fn get(&self, place: u32) -> T {
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
        self.pages.iter().flatten().count() * PAGE * size_of::<T>()
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
