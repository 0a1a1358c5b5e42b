//! The spans of one trace as a tree: by their ids, whatever was sent.
//!
//! A node is an id: spans of one id are one node. Resends say the same; where they do not, that one stands for them which fits
//! a binding, has the least parent id and is the earliest. A parent that is not stored makes its children the tops of trees;
//! where parents lead around in a circle, its earliest span is made a top. Siblings and children keep to the parent id as it
//! was sent. The room is kept from trace to trace.

use super::span::{BELOW, FITS, NAMED, NONE, Span};

/// One trace. Nodes are numbers from 0.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Spans by node, of those of one node first the one that stands for them.
    rows: Vec<u32>,
    /// Where each node's spans begin in `rows`, and the end.
    first: Vec<u32>,
    /// Node of each span.
    node_of: Vec<u32>,
    /// Ids of the nodes that have one, ascending: node by node.
    ids: Vec<u64>,
    /// The parent by its id alone.
    sent: Vec<u32>,
    /// The parent in the tree, which has no circles.
    parent: Vec<u32>,
    /// Nodes as in a waterfall: each before those below it, siblings by start.
    order: Vec<u32>,
    /// Position of each node in `order`, and that behind the last node below it.
    bounds: Vec<(u32, u32)>,
    /// Nodes by start.
    by_start: Vec<u32>,
    /// Number of the parent id of each node, those without at [`NONE`]; and how many there are.
    families: Vec<u32>,
    families_len: usize,
    scratch: Vec<(u64, u32)>,
    counts: Vec<u32>,
    children: Vec<u32>,
    stack: Vec<u32>,
}

/// What a tree must tell beside who is whose parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// [`Tree::order`] and [`Tree::below`].
    pub(crate) order: bool,
    /// [`Tree::by_start`].
    pub(crate) by_start: bool,
    /// [`Tree::family`].
    pub(crate) families: bool,
}

impl Tree {
    /// Lays the spans of a trace out.
    pub(crate) fn lay(&mut self, spans: &[Span], wants: Wants) {
        self.nodes(spans);
        self.parents(spans);
        if wants.by_start || wants.order {
            self.sort_by_start(spans);
        }
        if wants.order {
            self.cut_circles(spans);
            self.sort_by_tree();
        }
        if wants.families {
            self.number_families(spans);
        }
    }

    /// Bytes that a span takes, about: twelve numbers, its id, and what is sorted.
    pub(crate) const SPAN_BYTES: usize = 12 * size_of::<u32>() + size_of::<u64>() + size_of::<(u64, u32)>();

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let lists = [&self.rows, &self.first, &self.node_of, &self.sent, &self.parent, &self.order, &self.by_start];
        let more = [&self.families, &self.counts, &self.children, &self.stack];
        let numbers: usize = lists.iter().chain(&more).map(|list| list.capacity()).sum();
        numbers * size_of::<u32>()
            + self.ids.capacity() * size_of::<u64>()
            + self.bounds.capacity() * size_of::<(u32, u32)>()
            + self.scratch.capacity() * size_of::<(u64, u32)>()
    }

    pub(crate) fn len(&self) -> usize {
        self.first.len().saturating_sub(1)
    }

    /// The spans of a node by their numbers in the trace, first the one that stands for them.
    pub(crate) fn rows(&self, node: u32) -> &[u32] {
        &self.rows[self.first[node as usize] as usize..self.first[node as usize + 1] as usize]
    }

    /// The span that stands for a node.
    pub(crate) fn head(&self, node: u32) -> usize {
        self.rows[self.first[node as usize] as usize] as usize
    }

    pub(crate) fn node_of(&self, span: usize) -> u32 {
        self.node_of[span]
    }

    /// The parent by its id, [`NONE`] where it is not stored.
    pub(crate) fn sent_parent(&self, node: u32) -> u32 {
        self.sent[node as usize]
    }

    /// The parent in the tree.
    pub(crate) fn parent(&self, node: u32) -> u32 {
        self.parent[node as usize]
    }

    /// Nodes as in a waterfall.
    pub(crate) fn order(&self) -> &[u32] {
        &self.order
    }

    /// Where a node stands in the order, and where the nodes below it end.
    pub(crate) fn bounds(&self, node: u32) -> (u32, u32) {
        self.bounds[node as usize]
    }

    /// Nodes by start.
    pub(crate) fn by_start(&self) -> &[u32] {
        &self.by_start
    }

    /// The number of a node's parent id, [`NONE`] without one.
    pub(crate) fn family(&self, node: u32) -> u32 {
        self.families[node as usize]
    }

    /// How many parent ids there are.
    pub(crate) fn families(&self) -> usize {
        self.families_len
    }

    fn nodes(&mut self, spans: &[Span]) {
        let keys = &mut self.scratch;
        keys.clear();
        keys.extend(spans.iter().enumerate().filter(|(_, s)| s.has(NAMED)).map(|(i, s)| (s.id, i as u32)));
        keys.sort_unstable();
        self.rows.clear();
        self.first.clear();
        self.ids.clear();
        self.node_of.clear();
        self.node_of.resize(spans.len(), 0);
        let mut at = 0;
        while at < keys.len() {
            let id = keys[at].0;
            let same = keys[at..].iter().take_while(|key| key.0 == id).count();
            self.first.push(self.rows.len() as u32);
            self.ids.push(id);
            let from = self.rows.len();
            self.rows.extend(keys[at..at + same].iter().map(|key| key.1));
            if same > 1 {
                // Those that fit something, as if no others were read; then by the parent, since times are not always read.
                let told = |row: &u32| {
                    let span = &spans[*row as usize];
                    (!span.has(FITS), span.parent, span.start, span.duration, span.place)
                };
                self.rows[from..].sort_unstable_by_key(told);
            }
            self.rows[from..].iter().for_each(|row| self.node_of[*row as usize] = self.ids.len() as u32 - 1);
            at += same;
        }
        for (row, _) in spans.iter().enumerate().filter(|(_, s)| !s.has(NAMED)) {
            self.node_of[row] = self.first.len() as u32;
            self.first.push(self.rows.len() as u32);
            self.rows.push(row as u32);
        }
        self.first.push(self.rows.len() as u32);
    }

    fn parents(&mut self, spans: &[Span]) {
        let len = self.len() as u32;
        self.sent.clear();
        for node in 0..len {
            let span = &spans[self.head(node)];
            let found = span.has(BELOW).then(|| self.find(span.parent)).flatten();
            self.sent.push(found.filter(|parent| *parent != node).unwrap_or(NONE));
        }
        self.parent.clone_from(&self.sent);
    }

    fn find(&self, id: u64) -> Option<u32> {
        // Most traces are small.
        if self.ids.len() <= 16 {
            return self.ids.iter().position(|known| *known == id).map(|node| node as u32);
        }
        self.ids.binary_search(&id).ok().map(|node| node as u32)
    }

    fn sort_by_start(&mut self, spans: &[Span]) {
        let mut nodes = std::mem::take(&mut self.by_start);
        nodes.clear();
        nodes.extend(0..self.len() as u32);
        nodes.sort_unstable_by_key(|node| spans[self.head(*node)].key());
        self.by_start = nodes;
    }

    /// Makes the earliest span of each circle a top.
    fn cut_circles(&mut self, spans: &[Span]) {
        let walked = &mut self.counts;
        walked.clear();
        walked.resize(self.first.len(), 0);
        for from in 0..(self.first.len() - 1) as u32 {
            let (mut node, walk) = (from, from + 1);
            while node != NONE && walked[node as usize] == 0 {
                walked[node as usize] = walk;
                node = self.parent[node as usize];
            }
            if node == NONE || walked[node as usize] != walk {
                continue;
            }
            let key = |node: u32| spans[self.rows[self.first[node as usize] as usize] as usize].key();
            let (mut earliest, mut at) = (node, self.parent[node as usize]);
            while at != node {
                if key(at) < key(earliest) {
                    earliest = at;
                }
                at = self.parent[at as usize];
            }
            self.parent[earliest as usize] = NONE;
        }
    }

    fn sort_by_tree(&mut self) {
        let len = self.len();
        // Children of each node by start, those of none at the end.
        let starts = &mut self.counts;
        starts.clear();
        starts.resize(len + 2, 0);
        let slot = |parent: u32| if parent == NONE { len } else { parent as usize };
        self.parent.iter().for_each(|parent| starts[slot(*parent) + 1] += 1);
        (0..=len).for_each(|i| starts[i + 1] += starts[i]);
        let children = &mut self.children;
        children.clear();
        children.resize(len, 0);
        // From the last on, so that a stack gives the first first.
        for node in self.by_start.iter().rev() {
            let at = &mut starts[slot(self.parent[*node as usize])];
            children[*at as usize] = *node;
            *at += 1;
        }
        // Each start now is its end, which is the next one's start.
        let of =
            |starts: &[u32], slot: usize| if slot == 0 { 0 } else { starts[slot - 1] as usize }..starts[slot] as usize;
        self.order.clear();
        self.bounds.clear();
        self.bounds.resize(len, (0, 0));
        self.stack.clear();
        self.stack.extend_from_slice(&children[of(starts, len)]);
        while let Some(node) = self.stack.pop() {
            self.bounds[node as usize].0 = self.order.len() as u32;
            self.order.push(node);
            self.stack.extend_from_slice(&children[of(starts, node as usize)]);
        }
        for at in (0..self.order.len()).rev() {
            let node = self.order[at] as usize;
            let end = self.bounds[node].1.max(at as u32 + 1);
            self.bounds[node].1 = end;
            let parent = self.parent[node];
            if parent != NONE {
                let above = &mut self.bounds[parent as usize].1;
                *above = end.max(*above);
            }
        }
    }

    fn number_families(&mut self, spans: &[Span]) {
        let len = self.len() as u32;
        let mut keys = std::mem::take(&mut self.scratch);
        keys.clear();
        keys.extend((0..len).filter_map(|node| {
            let span = &spans[self.head(node)];
            span.has(BELOW).then_some((span.parent, node))
        }));
        keys.sort_unstable();
        self.families.clear();
        self.families.resize(len as usize, NONE);
        self.families_len = 0;
        for (at, (id, node)) in keys.iter().enumerate() {
            if at == 0 || keys[at - 1].0 != *id {
                self.families_len += 1;
            }
            self.families[*node as usize] = self.families_len as u32 - 1;
        }
        self.scratch = keys;
    }
}
