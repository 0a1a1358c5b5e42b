//! Matches by parents and children alone: a table of a part's spans by trace and id, in which each span looks its parent up.
//!
//! No trace is brought together and no tree laid, so that what the most common questions cost is two looks into a small table
//! for each span. Gives what `solve` would. Not here: ancestors, siblings, tests between spans, children of which the first by
//! start stands beside a row.

use super::ask::{Alternative, Ask, Target, Way};
use super::pairs::{Pairs, Repeated};
use super::pieces::CHECK_SPANS;
use super::room::Room;
use super::span::{BELOW, FITS, IN_RANGE, LOOSE, NAMED, NONE, PARENT_FITS};
use super::spread::{Hashing, Sent, Stored, together};
use crate::error::QueryError;
use crate::scan::Scan;

/// Whether parents and children alone tell the matches.
pub(super) fn able(ways: &[Alternative], targets: &[Target]) -> bool {
    let plain =
        |way: &Alternative| way.tests.is_empty() && way.edges.iter().all(|e| matches!(e.way, Way::Parent | Way::Child));
    let absent = |way: &Alternative| way.absent.iter().all(|absent| able(&absent.alternatives, &[]));
    let shown = |way: &Alternative| {
        targets.iter().all(|target| match target {
            Target::Bound(binding) => !way.bound.contains(binding) || steps(way, *binding).is_some(),
            _ => true,
        })
    };
    ways.iter().all(|way| plain(way) && absent(way) && shown(way))
}

/// How many parents up a binding is from the returned one; `None` where it is none of those.
fn steps(way: &Alternative, binding: usize) -> Option<usize> {
    let (mut at, mut steps) = (binding, 0);
    // Each binding is led to once.
    while at != way.returned {
        let edge = way.edges.iter().find(|edge| edge.to == at)?;
        if edge.way != Way::Parent {
            return None;
        }
        (at, steps) = (edge.from, steps + 1);
    }
    Some(steps)
}

/// Room for the work on a part, kept from part to part.
pub(super) struct Direct<T> {
    rows: Vec<T>,
    node_of: Vec<u32>,
    /// Behind each row the next one of its node.
    next: Vec<u32>,
    /// By node: the row that stands for it.
    head: Vec<u32>,
    /// By node: bindings that some row of it fits.
    marks: Vec<u32>,
    /// By node: the parent by its id alone.
    sent: Vec<u32>,
    /// By node where traces are told apart: the number of its trace.
    trace: Vec<u32>,
    traces: usize,
    /// Nodes by trace and id, each with some bits of their hash, which tell most of two apart without a look at them; as many as a
    /// power of two.
    slots: Vec<(u32, u32)>,
    hashing: Hashing,
    has_child: Vec<bool>,
    /// Which of several rows stands for a node, or is the root of a trace, is told by times, which are not here.
    timeless: bool,
}

impl<T> Default for Direct<T> {
    fn default() -> Direct<T> {
        Direct {
            rows: Vec::new(),
            node_of: Vec::new(),
            next: Vec::new(),
            head: Vec::new(),
            marks: Vec::new(),
            sent: Vec::new(),
            trace: Vec::new(),
            traces: 0,
            slots: Vec::new(),
            hashing: Hashing::default(),
            has_child: Vec::new(),
            timeless: false,
        }
    }
}

impl<T: Stored> Direct<T> {
    /// Bytes that a span takes here, about: its row, eight numbers, and two to four places of the table.
    pub(super) const SPAN_BYTES: usize = size_of::<T>() + (8 + 3 * 2) * size_of::<u32>();

    /// The matches among the spans of a part; `None` where they depend on times that are not there.
    ///
    /// # Errors
    /// That the query's time is over, or that it has no room for the table.
    pub(super) fn solve<'s>(
        &mut self,
        scan: &Scan,
        room: &Room,
        part: impl Iterator<Item = &'s [T]> + Clone,
        ask: &Ask,
        targets: &[Target],
    ) -> Result<Option<Pairs>, QueryError>
    where
        T: 's,
    {
        room.hold(part.clone().map(<[T]>::len).sum::<usize>() * Direct::<T>::SPAN_BYTES)?;
        self.rows.clear();
        part.for_each(|rows| self.rows.extend_from_slice(rows));
        let ways = &ask.alternatives;
        self.timeless = false;
        self.nodes(if targets.contains(&Target::Parent) { u32::MAX } else { PARENT_FITS });
        if targets.contains(&Target::Root) || ways.iter().any(by_trace) {
            self.tell_traces();
        }
        let roots = if targets.contains(&Target::Root) { self.roots() } else { Vec::new() };
        if self.timeless {
            return Ok(None);
        }
        let mut pairs = Pairs::new(targets);
        let repeated = Repeated::default();
        let mut matched = vec![false; if ways.len() > 1 { self.rows.len() } else { 0 }];
        for way in ways {
            let sets = self.sets(way);
            let steps: Vec<Option<(usize, usize)>> = pairs
                .targets()
                .map(|target| match target {
                    Target::Bound(binding) if way.bound.contains(&binding) => Some((steps(way, binding)?, binding)),
                    _ => None,
                })
                .collect();
            let returned = 1u32 << way.returned;
            for (row, stored) in self.rows.iter().enumerate() {
                if row % CHECK_SPANS == 0 {
                    scan.goes_on()?;
                }
                let (sent, node) = (stored.sent(), self.node_of[row]);
                let fits = sent.marks & returned != 0 && sent.marks & IN_RANGE != 0;
                if !fits || sets[node as usize] & returned == 0 {
                    continue;
                }
                if !ask.parent.is_empty() && self.parent(node).is_none_or(|parent| parent.marks & PARENT_FITS == 0) {
                    continue;
                }
                if let Some(matched) = matched.get_mut(row)
                    && std::mem::replace(matched, true)
                {
                    continue;
                }
                pairs.add(sent.place, |number, target| match target {
                    Target::Row => sent.place,
                    Target::Parent => self.parent(node).map_or(NONE, |parent| parent.place),
                    Target::Root => roots[self.trace[node as usize] as usize],
                    Target::Bound(binding) if binding == way.returned => sent.place,
                    Target::Bound(_) => match steps[number] {
                        Some((steps, binding)) => {
                            let up = (0..steps).fold(node, |node, _| self.sent[node as usize]);
                            self.place(up, binding, &repeated)
                        }
                        None => NONE,
                    },
                });
            }
        }
        Ok(Some(pairs))
    }

    /// The span that stands for the parent of a node.
    fn parent(&self, node: u32) -> Option<&Sent> {
        match self.sent[node as usize] {
            NONE => None,
            parent => Some(self.rows[self.head[parent as usize] as usize].sent()),
        }
    }

    /// Of several rows of one id the first that fits.
    fn place(&self, node: u32, binding: usize, repeated: &Repeated) -> u32 {
        let head = self.head[node as usize];
        match self.next[head as usize] == head {
            true => self.search(head, binding),
            false => repeated.place(node, binding, || self.search(head, binding)),
        }
    }

    /// The same, row by row.
    fn search(&self, head: u32, binding: usize) -> u32 {
        let (mut best, mut row) = (NONE, head);
        // The rows of a node stand in a ring.
        loop {
            let fits = self.rows[row as usize].sent().marks & (1 << binding) != 0;
            if fits && (best == NONE || self.stands_before(row, best)) {
                best = row;
            }
            row = self.next[row as usize];
            if row == head {
                break;
            }
        }
        if best == NONE { NONE } else { self.rows[best as usize].sent().place }
    }

    /// Which of two rows of one id stands for both, as in `tree`.
    fn stands_before(&self, a: u32, b: u32) -> bool {
        let key = |row: u32| {
            let stored = &self.rows[row as usize];
            let (sent, times) = (stored.sent(), stored.times());
            (sent.marks & FITS == 0, sent.parent, times, sent.place)
        };
        key(a) < key(b)
    }

    /// Rows of one trace and id become nodes, and each node finds its parent. Rows that stand for nodes matter where they differ in
    /// some of these marks; all of them where any row does.
    fn nodes(&mut self, differ: u32) {
        self.slots.clear();
        self.slots.resize((self.rows.len() * 2).next_power_of_two(), (NONE, 0));
        for list in [&mut self.node_of, &mut self.next, &mut self.head, &mut self.marks, &mut self.sent] {
            list.clear();
        }
        for row in 0..self.rows.len() {
            let sent = *self.rows[row].sent();
            self.next.push(row as u32);
            let slot = (sent.marks & (NAMED | LOOSE) == NAMED).then(|| self.slot(&sent, sent.id));
            let node = slot.map_or(NONE, |(slot, _)| self.slots[slot].0);
            if node == NONE {
                let node = self.head.len() as u32;
                slot.into_iter().for_each(|(slot, bits)| self.slots[slot] = (node, bits));
                self.head.push(row as u32);
                self.marks.push(sent.marks & FITS);
                self.node_of.push(node);
                continue;
            }
            let head = self.head[node as usize];
            self.next[row] = std::mem::replace(&mut self.next[head as usize], row as u32);
            self.marks[node as usize] |= sent.marks & FITS;
            self.node_of.push(node);
            if !T::TIMED {
                let other = self.rows[head as usize].sent();
                let alike = (other.marks & FITS == 0, other.parent) == (sent.marks & FITS == 0, sent.parent);
                self.timeless |= alike && (differ == u32::MAX || (other.marks ^ sent.marks) & differ != 0);
            }
            if self.stands_before(row as u32, head) {
                self.head[node as usize] = row as u32;
            }
        }
        for node in 0..self.head.len() {
            let sent = *self.rows[self.head[node] as usize].sent();
            let parent = match sent.marks & (BELOW | LOOSE) {
                BELOW => self.slots[self.slot(&sent, sent.parent).0].0,
                _ => NONE,
            };
            self.sent.push(if parent == node as u32 { NONE } else { parent });
        }
    }

    /// Where a span of the trace of another is, or would be with these bits.
    fn slot(&self, of: &Sent, id: u64) -> (usize, u32) {
        let mask = self.slots.len() - 1;
        let hash = self.hashing.of_span(of.trace, id);
        let (mut slot, bits) = (hash as usize & mask, (hash >> u32::BITS) as u32);
        loop {
            let (node, others) = self.slots[slot];
            if node == NONE {
                return (slot, bits);
            }
            if others == bits {
                let other = self.rows[self.head[node as usize] as usize].sent();
                if other.id == id && together(other, of) {
                    return (slot, bits);
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    fn tell_traces(&mut self) {
        let mut traces = super::span::Traces::default();
        self.trace.clear();
        for head in &self.head {
            let sent = self.rows[*head as usize].sent();
            self.trace.push(if sent.marks & LOOSE == 0 { traces.number(sent.trace) } else { traces.alone() });
        }
        self.traces = traces.ids().len();
    }

    /// By trace: the place of the first span that names no parent.
    fn roots(&mut self) -> Vec<u32> {
        let mut roots = vec![((i64::MAX, u64::MAX, NONE), NONE); self.traces];
        for (row, stored) in self.rows.iter().enumerate() {
            let sent = stored.sent();
            let key = (stored.times().0, sent.id, sent.place);
            let root = &mut roots[self.trace[self.node_of[row] as usize] as usize];
            if sent.marks & BELOW == 0 {
                self.timeless |= !T::TIMED && root.1 != NONE;
                if root.1 == NONE || key < root.0 {
                    *root = (key, sent.place);
                }
            }
        }
        roots.into_iter().map(|(_, place)| place).collect()
    }

    /// By node the bindings that it fits and whose others are where they must be.
    fn sets(&mut self, way: &Alternative) -> Vec<u32> {
        let mut sets = self.marks.clone();
        let mut ruled_out = Vec::new();
        for absent in &way.absent {
            for inner in &absent.alternatives {
                let found = self.sets(inner);
                let returned = 1 << inner.returned;
                match absent.of {
                    Some(binding) => {
                        let found = found.iter().map(|found| found & returned != 0);
                        let without = |found: bool| if found { !(1 << binding) } else { u32::MAX };
                        sets.iter_mut().zip(found).for_each(|(set, found)| *set &= without(found));
                    }
                    None => {
                        ruled_out.resize(self.traces, false);
                        let found = found.iter().zip(&self.trace).filter(|(found, _)| **found & returned != 0);
                        found.for_each(|(_, trace)| ruled_out[*trace as usize] = true);
                    }
                }
            }
        }
        if !ruled_out.is_empty() {
            let of_ruled_out = sets.iter_mut().zip(&self.trace).filter(|(_, trace)| ruled_out[**trace as usize]);
            of_ruled_out.for_each(|(set, _)| *set = 0);
        }
        for edge in way.edges.iter().rev() {
            let (from, to) = (1u32 << edge.from, 1u32 << edge.to);
            if edge.way == Way::Parent {
                for node in 0..sets.len() {
                    if sets[node] & from != 0 {
                        let parent = self.sent[node];
                        if parent == NONE || sets[parent as usize] & to == 0 {
                            sets[node] &= !from;
                        }
                    }
                }
                continue;
            }
            self.has_child.clear();
            self.has_child.resize(sets.len(), false);
            for (set, parent) in sets.iter().zip(&self.sent) {
                if set & to != 0 && *parent != NONE {
                    self.has_child[*parent as usize] = true;
                }
            }
            for (set, has_child) in sets.iter_mut().zip(&self.has_child) {
                if !has_child {
                    *set &= !from;
                }
            }
        }
        if !way.alone.is_empty() {
            let all = way.alone.iter().fold(0, |all, binding| all | 1u32 << binding);
            let mut of_trace = vec![0u32; self.traces];
            sets.iter().zip(&self.trace).for_each(|(set, trace)| of_trace[*trace as usize] |= set);
            let lacking = |trace: u32| of_trace[trace as usize] & all != all;
            let of_lacking = sets.iter_mut().zip(&self.trace).filter(|(_, trace)| lacking(**trace));
            of_lacking.for_each(|(set, _)| *set &= !(1 << way.returned));
        }
        sets
    }
}

/// Whether something is asked of whole traces.
fn by_trace(way: &Alternative) -> bool {
    !way.alone.is_empty()
        || way.absent.iter().any(|absent| absent.of.is_none() || absent.alternatives.iter().any(by_trace))
}
