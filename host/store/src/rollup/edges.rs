//! Calls between services: a span and its parent, in traces that are wholly there.

use std::sync::Arc;

use super::{EdgeKey, Edges};

/// What is remembered of a span.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) trace: Option<[u8; 16]>,
    pub(super) span: Option<u64>,
    pub(super) parent: Option<u64>,
    pub(super) service: u32,
    pub(super) minute: i64,
    pub(super) failed: bool,
}

/// Remembers spans up to a number.
pub(super) struct EdgeBuilder {
    max: usize,
    spans: Vec<Kept>,
    /// Without an id of trace or span.
    nameless: u64,
    full: bool,
}

#[derive(Clone, Copy)]
struct Kept {
    trace: [u8; 16],
    span: u64,
    parent: Option<u64>,
    service: u32,
    minute: i64,
    failed: bool,
}

impl EdgeBuilder {
    pub(super) fn new(max: usize) -> EdgeBuilder {
        EdgeBuilder { max, spans: Vec::new(), nameless: 0, full: false }
    }

    pub(super) fn add(&mut self, span: Span) {
        if self.full {
            return;
        }
        let (Some(trace), Some(id)) = (span.trace, span.span) else {
            self.nameless += 1;
            return;
        };
        if self.spans.len() == self.max {
            (self.full, self.spans) = (true, Vec::new());
            return;
        }
        let Span { parent, service, minute, failed, .. } = span;
        self.spans.push(Kept { trace, span: id, parent, service, minute, failed });
    }

    /// Bytes in memory, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Kept>()
    }

    /// The calls; `None` where there were more spans than could be remembered.
    pub(super) fn finish(self, text: &dyn Fn(u32) -> Option<Arc<str>>) -> Option<Edges> {
        if self.full {
            return None;
        }
        // Trace ids are random, so eight bytes of them tell most apart: sorting numbers is cheaper than sorting spans.
        let prefix = |s: &Kept| s.trace.first_chunk().map_or(0, |c| u64::from_be_bytes(*c));
        let mut order: Vec<(u64, u32)> =
            self.spans.iter().enumerate().map(|(i, span)| (prefix(span), i as u32)).collect();
        order.sort_unstable();
        let mut edges = Edges { outside: self.nameless, ..Edges::default() };
        let mut calls: std::collections::HashMap<(i64, u32, u32), (u64, u64), foldhash::fast::RandomState> =
            std::collections::HashMap::default();
        let mut trace: Vec<Kept> = Vec::new();
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            let mut rest: Vec<Kept> = group.iter().map(|(_, i)| self.spans[*i as usize]).collect();
            if rest.iter().any(|s| s.trace != rest[0].trace) {
                rest.sort_by_key(|s| s.trace);
            }
            for same in rest.chunk_by(|a, b| a.trace == b.trace) {
                trace.clear();
                trace.extend_from_slice(same);
                if !of_trace(&mut trace, &mut calls) {
                    edges.outside += 1;
                }
            }
        }
        for ((minute, parent, child), found) in calls {
            // Two numbers never have the same text.
            edges.calls.insert(EdgeKey { minute, parent: text(parent), child: text(child) }, found);
        }
        Some(edges)
    }
}

/// Adds the calls of one trace; `false`, and none, where it is not wholly here.
fn of_trace(
    spans: &mut [Kept],
    calls: &mut std::collections::HashMap<(i64, u32, u32), (u64, u64), foldhash::fast::RandomState>,
) -> bool {
    // A span that was sent twice stands for itself twice; which of equal ids is the parent does not matter unless their
    // services differ, and then the first of the smallest service is taken, in whatever order they came.
    spans.sort_unstable_by_key(|s| (s.span, s.service));
    let parent_of = |id: u64| {
        let at = spans.partition_point(|s| s.span < id);
        spans.get(at).filter(|s| s.span == id)
    };
    let rooted = spans.iter().any(|s| s.parent.is_none());
    if !rooted || !spans.iter().all(|s| s.parent.is_none_or(|id| parent_of(id).is_some())) {
        return false;
    }
    for span in spans.iter() {
        let Some(parent) = span.parent.and_then(parent_of).filter(|p| p.service != span.service) else { continue };
        let found = calls.entry((span.minute, parent.service, span.service)).or_default();
        *found = (found.0 + 1, found.1 + u64::from(span.failed));
    }
    true
}
