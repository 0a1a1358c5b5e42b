//! Rows that matched, each with the spans that stand beside it: of a part as lists, of all frames by place.

use std::cell::RefCell;
use std::collections::HashMap;

use arrow::buffer::{BooleanBuffer, Buffer};

use super::ask::Target;
use super::room::{Held, Room};
use super::span::{NONE, Sparse};
use crate::error::QueryError;

/// What matched in a part.
#[derive(Debug)]
pub(crate) struct Pairs {
    /// Places of rows, each once.
    pub(crate) rows: Vec<u32>,
    /// By target, for each row the place of that span.
    pub(crate) to: Vec<(Target, Vec<u32>)>,
}

impl Pairs {
    /// Nothing yet. A row stands beside itself without being told so.
    pub(crate) fn new(targets: &[Target]) -> Pairs {
        let others = targets.iter().filter(|target| **target != Target::Row);
        Pairs { rows: Vec::new(), to: others.map(|target| (*target, Vec::new())).collect() }
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let places = self.to.iter().map(|(_, places)| places.capacity()).sum::<usize>();
        (self.rows.capacity() + places) * size_of::<u32>()
    }

    /// With room for it, until it is brought together with what matched in other parts.
    ///
    /// # Errors
    /// That the query has none.
    pub(super) fn held(self, room: Room) -> Result<Held<Pairs>, QueryError> {
        let bytes = self.bytes();
        room.done(self, bytes)
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        self.to.iter().map(|(target, _)| *target)
    }

    /// Adds a row; `to` tells the place for a target, which it is given with its number.
    pub(crate) fn add(&mut self, place: u32, mut to: impl FnMut(usize, Target) -> u32) {
        self.rows.push(place);
        for (number, (target, places)) in self.to.iter_mut().enumerate() {
            places.push(to(number, *target));
        }
    }
}

/// By node and binding the place of the span that stands beside rows, of nodes that have several spans: such a node may stand
/// beside as many rows as it has spans, and is searched once.
#[derive(Debug, Default)]
pub(super) struct Repeated(RefCell<HashMap<(u32, usize), u32>>);

impl Repeated {
    pub(super) fn place(&self, node: u32, binding: usize, search: impl FnOnce() -> u32) -> u32 {
        *self.0.borrow_mut().entry((node, binding)).or_insert_with(search)
    }
}

/// All rows that matched, by place.
#[derive(Clone, Debug)]
pub(crate) struct Matched {
    rows: Rows,
    to: Vec<(Target, Sparse<u32>)>,
}

/// A bit for each row of all frames.
#[derive(Clone, Debug)]
enum Rows {
    Open(Vec<u64>),
    Closed(Buffer),
}

/// Each frame's places begin with a word of their own.
pub(crate) const WORD: u32 = u64::BITS;

impl Matched {
    /// Nothing yet, of so many places.
    pub(crate) fn new(targets: &[Target], places: usize) -> Matched {
        let others = targets.iter().filter(|target| **target != Target::Row);
        Matched {
            rows: Rows::Open(vec![0; places.div_ceil(WORD as usize)]),
            to: others.map(|target| (*target, Sparse::new(NONE))).collect(),
        }
    }

    pub(crate) fn add(&mut self, pairs: &Pairs) {
        if let Rows::Open(words) = &mut self.rows {
            for place in &pairs.rows {
                words[(place / WORD) as usize] |= 1 << (place % WORD);
            }
        }
        for (target, places) in &pairs.to {
            let Some((_, to)) = self.to.iter_mut().find(|(known, _)| known == target) else { continue };
            pairs.rows.iter().zip(places).filter(|(_, place)| **place != NONE).for_each(|(row, place)| {
                to.set(*row, *place);
            });
        }
    }

    /// Nothing is added any more.
    pub(crate) fn close(&mut self) {
        if let Rows::Open(words) = &mut self.rows {
            // Bits are counted from the lowest of each byte, on machines of either order.
            words.iter_mut().for_each(|word| *word = word.to_le());
            self.rows = Rows::Closed(Buffer::from_vec(std::mem::take(words)));
        }
    }

    /// Which of so many rows from a place on matched; `None` where none did.
    pub(crate) fn rows(&self, base: u32, rows: usize) -> Option<BooleanBuffer> {
        let Rows::Closed(bits) = &self.rows else { return None };
        let of_frame = BooleanBuffer::new(bits.clone(), base as usize, rows);
        (of_frame.count_set_bits() > 0).then_some(of_frame)
    }

    /// The place of a target beside a row that matched.
    pub(crate) fn beside(&self, target: Target, row: u32) -> u32 {
        match target {
            Target::Row => row,
            other => self.of(other).map_or(NONE, |places| places.get(row)),
        }
    }

    pub(crate) fn of(&self, target: Target) -> Option<&Sparse<u32>> {
        self.to.iter().find(|(known, _)| *known == target).map(|(_, places)| places)
    }

    /// Leaves what stands beside these rows alone, and forgets which matched.
    pub(crate) fn keep(&mut self, rows: &[u32]) {
        self.rows = Rows::Open(Vec::new());
        for (_, places) in &mut self.to {
            *places = Sparse::listed(rows.iter().map(|row| (*row, places.get(*row))).collect(), NONE);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let bits = match &self.rows {
            Rows::Open(words) => words.capacity() * 8,
            Rows::Closed(bits) => bits.len(),
        };
        bits + self.to.iter().map(|(_, places)| places.bytes()).sum::<usize>()
    }
}
