//! Where the time of a trace goes: each span's own time, and its part of the critical path.

use super::span::{BELOW, NONE, OPEN, Span};
use super::tree::Tree;

/// Stands for a time that is not known.
pub(crate) const UNKNOWN: i64 = i64::MIN;

/// The duration of each span, by its place, without the times in which its children run. Missing for spans that have not ended; a child
/// that has not ended runs until its parent ends.
pub(crate) fn own(spans: &[Span], tree: &Tree, to: &mut Vec<(u32, i64)>) {
    for node in 0..tree.len() as u32 {
        let span = &spans[tree.head(node)];
        if span.duration == OPEN {
            continue;
        }
        let end = span.end(span.start);
        let (mut reached, mut covered) = (span.start, 0i64);
        for child in children(tree, node) {
            let child = &spans[tree.head(child)];
            let (from, until) = (child.start.max(reached), child.end(end).min(end));
            if until > from {
                covered += until - from;
                reached = until;
            }
        }
        let own = span.duration.saturating_sub(covered);
        to.extend(tree.rows(node).iter().map(|row| (spans[*row as usize].place, own)));
    }
}

/// The nanoseconds of each span, by its place, that are on the critical path (the last that is told counts): 0 beside it, all together the time of the trace's root, or
/// without a stored root of the top that ends last.
///
/// The path is walked backwards from the end: at each moment it is in the child that ended last before, and in the span
/// itself where none did. Children count within the time of their parent only. What has not ended ends with its trace.
pub(crate) fn critical(spans: &[Span], tree: &Tree, to: &mut Vec<(u32, i64)>) {
    let head = |node: u32| &spans[tree.head(node)];
    let last = spans.iter().map(|span| span.end(span.start)).max().unwrap_or_default();
    let end = |span: &Span| span.end(last);
    to.extend(spans.iter().map(|span| (span.place, 0)));
    let roots = (0..tree.len() as u32).filter(|node| !head(*node).has(BELOW)).min_by_key(|node| head(*node).key());
    let tops = || {
        let tops = tree.order().iter().copied().filter(|node| tree.parent(*node) == NONE);
        tops.min_by_key(|node| (std::cmp::Reverse(end(head(*node))), head(*node).key()))
    };
    let Some(top) = roots.or_else(tops) else { return };
    let mut left = vec![(top, head(top).start, end(head(top)))];
    let mut ended: Vec<(i64, i64, u32)> = Vec::new();
    while let Some((node, from, until)) = left.pop() {
        ended.clear();
        for child in children(tree, node) {
            let span = head(child);
            let (start, stop) = (span.start.max(from), end(span).min(until));
            if stop > start {
                ended.push((stop, start, child));
            }
        }
        // The last to end first, of those the longest.
        ended.sort_by_key(|(stop, start, _)| (std::cmp::Reverse(*stop), *start));
        let (mut at, mut own) = (until, until.saturating_sub(from));
        for (stop, start, child) in &ended {
            if *stop <= at {
                own -= stop - start;
                at = *start;
                left.push((*child, *start, *stop));
            }
        }
        to.extend(tree.rows(node).iter().map(|row| (spans[*row as usize].place, own)));
    }
}

/// The children of a node by start.
fn children(tree: &Tree, node: u32) -> impl Iterator<Item = u32> {
    let (at, end) = tree.bounds(node);
    let mut next = at + 1;
    std::iter::from_fn(move || {
        let child = (next < end).then(|| tree.order()[next as usize])?;
        next = tree.bounds(child).1;
        Some(child)
    })
}
