//! One way to match in one trace: which spans of each binding have the others as they must lie, and which of several is
//! taken.
//!
//! Edges are followed from the leaves to the returned binding, each once over all nodes, so that the work is linear in the
//! spans whatever the shape of the trace. For each node and edge the first that fits is kept: of ancestors the nearest, of
//! others the first by start (of descendants the first in the order of a waterfall). Not here: tests between spans
//! (`combine`).

use super::ask::{Alternative, Edge, Way};
use super::span::NONE;
use super::tree::Tree;

/// The state of one alternative in one trace, with room that is kept from trace to trace.
#[derive(Debug, Default)]
pub(crate) struct Relating {
    /// By binding: whether a node has a span that fits, and its others where they must be.
    sets: Vec<Vec<bool>>,
    /// By edge: for each node the first at its other end.
    firsts: Vec<Vec<u32>>,
    /// By edge to children, descendants or siblings: behind each node of the set the next one.
    nexts: Vec<Vec<u32>>,
    /// By edge to siblings: the first of each family.
    heads: Vec<Vec<u32>>,
    /// For each binding that stands alone its nodes by start.
    alone: Vec<Vec<u32>>,
}

/// Whether a span of the trace fits a binding: `fits(number, binding)`.
pub(crate) trait Fits: Fn(usize, usize) -> bool {}
impl<F: Fn(usize, usize) -> bool> Fits for F {}

impl Relating {
    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let of = |lists: &[Vec<u32>]| lists.iter().map(Vec::capacity).sum::<usize>() * size_of::<u32>();
        let sets = self.sets.iter().map(Vec::capacity).sum::<usize>();
        sets + of(&self.firsts) + of(&self.nexts) + of(&self.heads) + of(&self.alone)
    }

    /// Whether some span may be returned. Afterwards sets and firsts are those of this trace.
    pub(crate) fn relate(&mut self, of: &Alternative, spans: usize, tree: &Tree, fits: &impl Fits) -> bool {
        let bindings = of.bound.iter().max().map_or(0, |most| most + 1);
        self.sets.resize_with(bindings.max(self.sets.len()), Vec::new);
        self.firsts.resize_with(of.edges.len().max(self.firsts.len()), Vec::new);
        self.nexts.resize_with(of.edges.len().max(self.nexts.len()), Vec::new);
        self.heads.resize_with(of.edges.len().max(self.heads.len()), Vec::new);
        for binding in &of.bound {
            let set = &mut self.sets[*binding];
            set.clear();
            set.resize(tree.len(), false);
            let mut any = false;
            for at in 0..spans {
                if fits(at, *binding) {
                    set[tree.node_of(at) as usize] = true;
                    any = true;
                }
            }
            if !any {
                return false;
            }
        }
        for (number, edge) in of.edges.iter().enumerate().rev() {
            self.follow(number, *edge, tree);
            let (set, first) = (&mut self.sets[edge.from], &self.firsts[number]);
            let mut any = false;
            for (fits, first) in set.iter_mut().zip(first) {
                *fits &= *first != NONE;
                any |= *fits;
            }
            if !any {
                return false;
            }
        }
        self.alone.resize_with(of.alone.len().max(self.alone.len()), Vec::new);
        for (binding, alone) in of.alone.iter().zip(&mut self.alone) {
            alone.clear();
            alone.extend(tree.by_start().iter().filter(|node| self.sets[*binding][**node as usize]));
        }
        true
    }

    /// Whether a node has its others.
    pub(crate) fn holds(&self, binding: usize, node: u32) -> bool {
        self.sets[binding][node as usize]
    }

    /// The first node at the other end of an edge.
    pub(crate) fn first(&self, edge: usize, node: u32) -> u32 {
        self.firsts[edge][node as usize]
    }

    /// The node of a binding that stands alone, by its number among those, at a position by start; [`NONE`] behind the last.
    pub(crate) fn alone(&self, number: usize, position: u32) -> u32 {
        self.alone[number].get(position as usize).copied().unwrap_or(NONE)
    }

    /// Gives every binding that has none yet a node: the first that fits what leads to it.
    pub(crate) fn pick(&self, of: &Alternative, picked: &mut [u32]) {
        for (number, binding) in of.alone.iter().enumerate() {
            if picked[*binding] == NONE {
                picked[*binding] = self.alone(number, 0);
            }
        }
        for (number, edge) in of.edges.iter().enumerate() {
            if picked[edge.to] == NONE && picked[edge.from] != NONE {
                picked[edge.to] = self.first(number, picked[edge.from]);
            }
        }
    }

    /// The node at the other end of an edge behind `previous`, the first where that is [`NONE`]; [`NONE`] behind the last.
    pub(crate) fn next(&self, number: usize, edge: Edge, from: u32, previous: u32, tree: &Tree) -> u32 {
        let next = |node: u32| self.nexts[number][node as usize];
        match (edge.way, previous) {
            (Way::Parent, NONE) | (Way::Child | Way::Sibling, NONE) => self.first(number, from),
            (Way::Parent, _) => NONE,
            (Way::Ancestor, NONE) => self.first(number, from),
            (Way::Ancestor, previous) => self.first(number, previous),
            (Way::Child, previous) => next(previous),
            (Way::Sibling, previous) => match next(previous) {
                own if own == from => next(own),
                other => other,
            },
            (Way::Descendant, previous) => {
                let node = if previous == NONE { self.first(number, from) } else { next(previous) };
                if node != NONE && tree.bounds(node).0 < tree.bounds(from).1 { node } else { NONE }
            }
        }
    }

    /// For each node the first of the edge's set that lies so.
    fn follow(&mut self, number: usize, edge: Edge, tree: &Tree) {
        let set = &self.sets[edge.to];
        let (first, next) = (&mut self.firsts[number], &mut self.nexts[number]);
        first.clear();
        first.resize(tree.len(), NONE);
        let fits = |node: u32| node != NONE && set[node as usize];
        if matches!(edge.way, Way::Child | Way::Descendant | Way::Sibling) {
            next.clear();
            next.resize(tree.len(), NONE);
        }
        match edge.way {
            Way::Parent => {
                for (node, first) in first.iter_mut().enumerate() {
                    let parent = tree.sent_parent(node as u32);
                    if fits(parent) {
                        *first = parent;
                    }
                }
            }
            Way::Ancestor => {
                for node in tree.order() {
                    let parent = tree.parent(*node);
                    if parent != NONE {
                        first[*node as usize] = if fits(parent) { parent } else { first[parent as usize] };
                    }
                }
            }
            Way::Child => {
                for node in tree.by_start().iter().rev().filter(|node| fits(**node)) {
                    let parent = tree.sent_parent(*node);
                    if parent != NONE {
                        next[*node as usize] = std::mem::replace(&mut first[parent as usize], *node);
                    }
                }
            }
            Way::Descendant => {
                let mut behind = NONE;
                for node in tree.order().iter().rev() {
                    if behind != NONE && tree.bounds(behind).0 < tree.bounds(*node).1 {
                        first[*node as usize] = behind;
                    }
                    if fits(*node) {
                        next[*node as usize] = std::mem::replace(&mut behind, *node);
                    }
                }
            }
            Way::Sibling => {
                let heads = &mut self.heads[number];
                heads.clear();
                heads.resize(tree.families(), NONE);
                for node in tree.by_start().iter().rev().filter(|node| fits(**node) && tree.family(**node) != NONE) {
                    next[*node as usize] = std::mem::replace(&mut heads[tree.family(*node) as usize], *node);
                }
                for (node, first) in first.iter_mut().enumerate() {
                    let family = tree.family(node as u32);
                    if family != NONE {
                        *first = match heads[family as usize] {
                            own if own == node as u32 => next[node],
                            other => other,
                        };
                    }
                }
            }
        }
    }
}

/// Whether `b` is to `a` what the way says.
pub(crate) fn lies(tree: &Tree, a: u32, b: u32, way: Way) -> bool {
    let below = |a: u32, b: u32| {
        let (at, end) = tree.bounds(a);
        let (inner, _) = tree.bounds(b);
        at < inner && inner < end
    };
    match way {
        Way::Parent => tree.sent_parent(a) == b,
        Way::Child => tree.sent_parent(b) == a,
        Way::Ancestor => below(b, a),
        Way::Descendant => below(a, b),
        Way::Sibling => a != b && tree.family(a) != NONE && tree.family(a) == tree.family(b),
    }
}
