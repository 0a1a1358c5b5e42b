//! Matches over all traces: for each returned span the first that its bindings can be, and whose values stand beside it.
//!
//! Trace after trace: without tests between spans `relate` decides, with them `combine` tries the spans that lie as they must.

use prism_model::window::TimeRange;

use super::ask::{Absent, Alternative, BINDINGS_MAX, Target, Way};
use super::beside::Tuples;
use super::combine::{Combining, FIRST, TESTED, Waiting, Walk};
use super::relate::Relating;
use super::span::{BELOW, IN_RANGE, NONE, Span, Spans, Sparse};
use super::tree::{Tree, Wants};
use crate::error::QueryError;
use crate::scan::Scan;

/// Traces between two looks at the clock.
const CHECK_TRACES: usize = 256;

/// The rows that matched, and the places of the spans beside them.
#[derive(Debug)]
pub(crate) struct Matched {
    /// By target: for each returned row the row of that span. [`Target::Row`] is always there, and tells which rows matched.
    pub(super) to: Vec<(Target, Sparse<u32>)>,
}

impl Matched {
    fn new(targets: &[Target]) -> Matched {
        let mut to = vec![(Target::Row, Sparse::new(NONE))];
        to.extend(targets.iter().filter(|t| **t != Target::Row).map(|target| (*target, Sparse::new(NONE))));
        Matched { to }
    }

    pub(crate) fn of(&self, target: Target) -> Option<&Sparse<u32>> {
        self.to.iter().find(|(known, _)| *known == target).map(|(_, places)| places)
    }

    pub(crate) fn has(&self, place: u32) -> bool {
        self.to[0].1.get(place) != NONE
    }

    pub(crate) fn bytes(&self) -> usize {
        self.to.iter().map(|(_, places)| places.bytes()).sum()
    }
}

/// Bounds of the work.
pub(crate) struct Bounds<'s> {
    pub(crate) scan: &'s Scan,
    /// Combinations of spans that tests may look at.
    pub(crate) combinations_max: u64,
    pub(crate) combinations: u64,
}

/// What the trees of an ask must tell.
pub(crate) fn wants(ways: &[Alternative]) -> Wants {
    let mut wants = Wants::default();
    for alternative in ways {
        wants.by_start |= !alternative.alone.is_empty();
        alternative.ways(&mut |way| match way {
            Way::Parent => {}
            Way::Child => wants.by_start = true,
            Way::Ancestor | Way::Descendant => wants.order = true,
            Way::Sibling => (wants.families, wants.by_start) = (true, true),
        });
    }
    wants
}

/// Finds the matches of every trace. `anywhere`: returned spans need not lie in the range.
pub(crate) fn solve(
    ways: &[Alternative],
    anywhere: bool,
    targets: &[Target],
    spans: &Spans,
    tuples: &Tuples<'_>,
    bounds: &mut Bounds<'_>,
) -> Result<Matched, QueryError> {
    let mut matched = Matched::new(targets);
    let wants = wants(ways);
    for way in ways {
        let absent = way.absent.iter().map(|absent| Excluded::find(absent, spans, tuples, bounds));
        let absent: Vec<Excluded> = absent.collect::<Result<_, _>>()?;
        let mut one = Solving {
            way,
            anywhere,
            absent,
            tree: Tree::default(),
            relating: Relating::default(),
            picked: Vec::new(),
            combining: Combining::new(way, targets, &bounds.scan.plan.fields),
            matched: &mut matched,
            tuples,
        };
        for (number, trace) in spans.traces().enumerate() {
            if number % CHECK_TRACES == 0 {
                bounds.scan.in_time()?;
            }
            one.trace(trace, wants, bounds)?;
        }
        one.test(bounds)?;
    }
    Ok(matched)
}

/// The spans, or traces, of which something is that must not be.
struct Excluded {
    of: Option<usize>,
    matched: Matched,
}

impl Excluded {
    fn find(
        absent: &Absent,
        spans: &Spans,
        tuples: &Tuples<'_>,
        bounds: &mut Bounds<'_>,
    ) -> Result<Excluded, QueryError> {
        Ok(Excluded { of: absent.of, matched: solve(&absent.alternatives, true, &[], spans, tuples, bounds)? })
    }
}

struct Solving<'s> {
    way: &'s Alternative,
    anywhere: bool,
    absent: Vec<Excluded>,
    tree: Tree,
    relating: Relating,
    /// Node of each binding.
    picked: Vec<u32>,
    combining: Combining<'s>,
    matched: &'s mut Matched,
    tuples: &'s Tuples<'s>,
}

impl Solving<'_> {
    fn trace(&mut self, spans: &[Span], wants: Wants, bounds: &mut Bounds<'_>) -> Result<(), QueryError> {
        let way = self.way;
        // Most traces lack some binding, which is told without a tree.
        let marks = spans.iter().fold(0, |marks, span| marks | span.marks);
        if way.bound.iter().any(|binding| marks & (1 << binding) == 0) || (!self.anywhere && marks & IN_RANGE == 0) {
            return Ok(());
        }
        let whole = self.absent.iter().filter(|absent| absent.of.is_none());
        for absent in whole {
            if spans.iter().any(|span| absent.matched.has(span.place)) {
                return Ok(());
            }
        }
        self.tree.lay(spans, wants);
        let absent = &self.absent;
        let fits = |span: &Span, binding: usize| {
            span.has(1 << binding)
                && absent.iter().all(|absent| absent.of != Some(binding) || !absent.matched.has(span.place))
        };
        if !self.relating.relate(way, spans, &self.tree, &fits) {
            return Ok(());
        }
        let tree = &self.tree;
        // Of several spans of one id the first that fits.
        let place = |node: u32, binding: usize| {
            let rows = tree.rows(node).iter().map(|row| &spans[*row as usize]);
            rows.into_iter().find(|span| fits(span, binding)).map_or(NONE, |span| span.place)
        };
        let root = || {
            let roots = spans.iter().filter(|span| !span.has(BELOW));
            roots.min_by_key(|span| span.key()).map_or(NONE, |span| span.place)
        };
        let mut root_place = None;
        self.combining.settle();
        let mut waiting: Vec<Waiting> = Vec::new();
        for (at, span) in spans.iter().enumerate() {
            let node = tree.node_of(at);
            if !(self.anywhere || span.has(IN_RANGE))
                || !fits(span, way.returned)
                || !self.relating.holds(way.returned, node)
                || self.matched.has(span.place)
            {
                continue;
            }
            self.picked.clear();
            self.picked.resize(BINDINGS_MAX, NONE);
            self.picked[way.returned] = node;
            let fixed = |target: &Target, root_place: &mut Option<u32>| match target {
                Target::Parent => match tree.sent_parent(node) {
                    NONE => NONE,
                    parent => spans[tree.head(parent)].place,
                },
                Target::Root => *root_place.get_or_insert_with(root),
                _ => NONE,
            };
            if way.tests.is_empty() {
                self.relating.pick(way, &mut self.picked);
                self.matched.to[0].1.set(span.place, span.place);
                for (target, places) in &mut self.matched.to[1..] {
                    let to = match target {
                        Target::Bound(binding) if *binding == way.returned => span.place,
                        Target::Bound(binding) => match self.picked[*binding] {
                            NONE => NONE,
                            node => place(node, *binding),
                        },
                        other => fixed(other, &mut root_place),
                    };
                    places.set(span.place, to);
                }
                continue;
            }
            let fixed: Vec<(Target, u32)> = self.matched.to[1..]
                .iter()
                .filter(|(target, _)| !matches!(target, Target::Bound(_)))
                .map(|(target, _)| (*target, fixed(target, &mut root_place)))
                .collect();
            waiting.push(Waiting { owner: self.combining.own(span.place, fixed), node, position: Vec::new() });
        }
        let walk = Walk { way, tree, relating: &self.relating, place: &place };
        let mut most = FIRST;
        while !waiting.is_empty() {
            let mut open = Vec::new();
            for mut row in waiting {
                if self.combining.is_matched(row.owner) {
                    continue;
                }
                let whole = walk.more(&mut self.combining, &mut row, &mut self.picked, most);
                if self.combining.len() >= TESTED {
                    self.combining.test(self.tuples, self.matched, bounds)?;
                }
                if !whole {
                    open.push(row);
                }
            }
            if !open.is_empty() {
                self.combining.test(self.tuples, self.matched, bounds)?;
            }
            most = (most * 8).min(TESTED);
            waiting = open;
        }
        Ok(())
    }

    fn test(&mut self, bounds: &mut Bounds<'_>) -> Result<(), QueryError> {
        self.combining.test(self.tuples, self.matched, bounds)
    }
}

/// Makes a row of each trace that has a match, or without `match` of each trace: that of its root, else of its first span.
/// What stood beside its first match stands beside it. A trace is in the range in which it starts.
pub(crate) fn traces(range: TimeRange, matched: Matched, spans: &Spans) -> Matched {
    let targets: Vec<Target> = matched.to.iter().map(|(target, _)| *target).collect();
    let mut whole = Matched::new(&targets);
    for trace in spans.traces() {
        let start = trace.iter().map(|span| span.start).min().unwrap_or_default();
        if !range.contains(start) {
            continue;
        }
        let first = trace.iter().filter(|span| matched.has(span.place)).min_by_key(|span| span.key());
        let Some(first) = first else { continue };
        let root = trace.iter().filter(|span| !span.has(BELOW)).min_by_key(|span| span.key());
        let row = root.or_else(|| trace.iter().min_by_key(|span| span.key())).unwrap_or(first);
        for (target, places) in &mut whole.to {
            let to = match target {
                Target::Row => row.place,
                Target::Root => root.map_or(NONE, |root| root.place),
                other => matched.of(*other).map_or(NONE, |places| places.get(first.place)),
            };
            places.set(row.place, to);
        }
    }
    whole
}
