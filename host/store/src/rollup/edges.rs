//! Calls between services: a span and its parent, in traces that are wholly there.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

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
    /// Traces by number.
    traces: HashMap<[u8; 16], u32, RandomState>,
    /// The trace that came last: its spans mostly come together.
    last: Option<([u8; 16], u32)>,
    /// Without an id of trace or span.
    nameless: u64,
    full: bool,
}

#[derive(Clone, Copy)]
struct Kept {
    span: u64,
    /// 0 for none: no span has that id.
    parent: u64,
    trace: u32,
    service: u32,
    minute: i64,
    failed: bool,
}

/// Calls and failed calls by minute, caller and called.
type Calls = HashMap<(i64, u32, u32), (u64, u64), RandomState>;

impl EdgeBuilder {
    pub(super) fn new(max: usize) -> EdgeBuilder {
        EdgeBuilder { max, spans: Vec::new(), traces: HashMap::default(), last: None, nameless: 0, full: false }
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
            (self.full, self.spans, self.traces) = (true, Vec::new(), HashMap::default());
            return;
        }
        let number = match self.last {
            Some((last, number)) if last == trace => number,
            _ => {
                let next = self.traces.len() as u32;
                *self.traces.entry(trace).or_insert(next)
            }
        };
        self.last = Some((trace, number));
        let Span { parent, service, minute, failed, .. } = span;
        let parent = parent.unwrap_or(0);
        self.spans.push(Kept { span: id, parent, trace: number, service, minute, failed });
    }

    /// Bytes in memory, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Kept>() + self.traces.capacity() * size_of::<([u8; 16], u32)>()
    }

    /// The calls; `None` where there were more spans than could be remembered.
    pub(super) fn finish(self, text: &dyn Fn(u32) -> Option<Arc<str>>) -> Option<Edges> {
        if self.full {
            return None;
        }
        // The spans of each trace together: traces have numbers, so that counting them is all of the sorting.
        let mut ends = vec![0; self.traces.len() + 1];
        self.spans.iter().for_each(|span| ends[span.trace as usize + 1] += 1);
        for trace in 1..ends.len() {
            ends[trace] += ends[trace - 1];
        }
        let mut order = vec![0; self.spans.len()];
        for (i, span) in self.spans.iter().enumerate() {
            let place: &mut usize = &mut ends[span.trace as usize];
            order[*place] = i as u32;
            *place += 1;
        }
        let mut edges = Edges { outside: self.nameless, ..Edges::default() };
        let mut calls = Calls::default();
        let (mut trace, mut from): (Vec<Kept>, usize) = (Vec::new(), 0);
        for end in ends.into_iter().take(self.traces.len()) {
            trace.clear();
            trace.extend(order[from..end].iter().map(|i| self.spans[*i as usize]));
            from = end;
            if !of_trace(&mut trace, &mut calls) {
                edges.outside += 1;
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
fn of_trace(spans: &mut [Kept], calls: &mut Calls) -> bool {
    // A span that was sent twice stands for itself twice; which of equal ids is the parent does not matter unless their
    // services differ, and then the first of the smallest service is taken, in whatever order they came.
    spans.sort_unstable_by_key(|s| (s.span, s.service));
    let parent_of = |id: u64| {
        let at = spans.partition_point(|s| s.span < id);
        spans.get(at).filter(|s| s.span == id)
    };
    let rooted = spans.iter().any(|s| s.parent == 0);
    if !rooted || !spans.iter().all(|s| s.parent == 0 || parent_of(s.parent).is_some()) {
        return false;
    }
    for span in spans.iter().filter(|s| s.parent != 0) {
        let Some(parent) = parent_of(span.parent).filter(|p| p.service != span.service) else { continue };
        let found = calls.entry((span.minute, parent.service, span.service)).or_default();
        *found = (found.0 + 1, found.1 + u64::from(span.failed));
    }
    true
}
