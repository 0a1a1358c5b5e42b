//! Matches in the traces of a part: for each returned span the first that its bindings can be, and whose values stand beside it.
//!
//! Trace after trace: without tests between spans `relate` decides, with them `combine` tries the spans that lie as they must.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ask::{Absent, Alternative, BINDINGS_MAX, Target, Way};
use super::beside::Tuples;
use super::combine::{Combining, FIRST, TESTED, Waiting, Walk};
use super::pairs::{Pairs, Repeated};
use super::pieces::CHECK_SPANS;
use super::relate::Relating;
use super::room::Room;
use super::span::{BELOW, IN_RANGE, NONE, Span, Spans};
use super::tree::{Tree, Wants};
use crate::error::QueryError;
use crate::scan::Scan;

/// Traces between two looks at the clock, and at whether anybody waits.
pub(super) const CHECK_TRACES: usize = 256;

/// The spans of a part that matched, by their number in it, and the places of the spans beside them.
#[derive(Debug)]
pub(crate) struct Matched {
    rows: Vec<bool>,
    pub(super) to: Vec<(Target, Vec<u32>)>,
}

impl Matched {
    fn new(targets: &[Target], spans: usize) -> Matched {
        let others = targets.iter().filter(|target| **target != Target::Row);
        Matched { rows: vec![false; spans], to: others.map(|target| (*target, vec![NONE; spans])).collect() }
    }

    /// Bytes in memory, about.
    fn bytes(&self) -> usize {
        self.rows.capacity() + self.to.iter().map(|(_, places)| places.capacity() * size_of::<u32>()).sum::<usize>()
    }

    pub(crate) fn has(&self, at: usize) -> bool {
        self.rows[at]
    }

    pub(super) fn set(&mut self, at: usize) {
        self.rows[at] = true;
    }

    pub(crate) fn of(&self, target: Target, at: usize) -> u32 {
        self.to.iter().find(|(known, _)| *known == target).map_or(NONE, |(_, places)| places[at])
    }

    /// As a list.
    pub(crate) fn pairs(&self, spans: &Spans, targets: &[Target]) -> Pairs {
        let mut pairs = Pairs::new(targets);
        for (at, span) in spans.all().iter().enumerate().filter(|(at, _)| self.has(*at)) {
            pairs.add(span.place, |_, target| self.of(target, at));
        }
        pairs
    }
}

/// Bounds of the work.
pub(crate) struct Bounds<'s> {
    pub(crate) scan: &'s Scan,
    /// Of the part.
    pub(crate) room: &'s Room,
    /// Combinations of spans that tests may look at.
    pub(crate) combinations_max: u64,
    /// What all parts together have looked at.
    pub(crate) combinations: &'s AtomicU64,
}

impl Bounds<'_> {
    /// Counts combinations.
    pub(super) fn combine(&self, more: usize) -> Result<(), QueryError> {
        let seen = self.combinations.fetch_add(more as u64, Ordering::Relaxed) + more as u64;
        if seen > self.combinations_max {
            return Err(QueryError::Combinations { limit: self.combinations_max });
        }
        Ok(())
    }
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

/// Finds the matches in every trace of a part. `anywhere`: returned spans need not lie in the range.
///
/// # Errors
/// Over a limit of time, memory or combinations; that the query was given up.
pub(crate) fn solve(
    ways: &[Alternative],
    anywhere: bool,
    targets: &[Target],
    spans: &Spans,
    tuples: &Tuples<'_>,
    bounds: &Bounds<'_>,
) -> Result<Matched, QueryError> {
    let mut matched = Matched::new(targets, spans.all().len());
    bounds.room.keep(matched.bytes())?;
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
        for (number, (first, trace)) in spans.traces().enumerate() {
            if number % CHECK_TRACES == 0 {
                bounds.scan.goes_on()?;
            }
            one.trace(first, trace, wants, bounds)?;
        }
        one.test(bounds)?;
    }
    Ok(matched)
}

/// Whether rows match by themselves, and nothing stands beside them that a tree tells.
fn is_plain(way: &Alternative, targets: &[(Target, Vec<u32>)]) -> bool {
    let alone = way.edges.is_empty() && way.alone.is_empty() && way.tests.is_empty();
    alone && targets.iter().all(|(target, _)| *target != Target::Parent)
}

fn bytes_of(waiting: &Vec<Waiting>) -> usize {
    waiting.capacity() * size_of::<Waiting>()
}

/// The spans, or traces, of which something is that must not be.
struct Excluded {
    of: Option<usize>,
    matched: Matched,
}

impl Excluded {
    fn find(absent: &Absent, spans: &Spans, tuples: &Tuples<'_>, bounds: &Bounds<'_>) -> Result<Excluded, QueryError> {
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
    /// The spans of a trace, of which the first has this number in the part.
    fn trace(&mut self, first: usize, spans: &[Span], wants: Wants, bounds: &Bounds<'_>) -> Result<(), QueryError> {
        let way = self.way;
        // Most traces lack some binding, which is told without a tree.
        let marks = spans.iter().fold(0, |marks, span| marks | span.marks);
        if way.bound.iter().any(|binding| marks & (1 << binding) == 0) || (!self.anywhere && marks & IN_RANGE == 0) {
            return Ok(());
        }
        let whole = self.absent.iter().filter(|absent| absent.of.is_none());
        for absent in whole {
            if (first..first + spans.len()).any(|at| absent.matched.has(at)) {
                return Ok(());
            }
        }
        let absent = &self.absent;
        let fits = |at: usize, binding: usize| {
            spans[at].has(1 << binding)
                && absent.iter().all(|absent| absent.of != Some(binding) || !absent.matched.has(first + at))
        };
        let root = || {
            let roots = spans.iter().filter(|span| !span.has(BELOW));
            roots.min_by_key(|span| span.key()).map_or(NONE, |span| span.place)
        };
        let mut root_place = None;
        if is_plain(way, &self.matched.to) {
            for (at, span) in spans.iter().enumerate() {
                if (self.anywhere || span.has(IN_RANGE)) && fits(at, way.returned) && !self.matched.has(first + at) {
                    self.matched.set(first + at);
                    for (target, places) in &mut self.matched.to {
                        places[first + at] = match target {
                            Target::Bound(binding) if *binding == way.returned => span.place,
                            Target::Root => *root_place.get_or_insert_with(root),
                            _ => NONE,
                        };
                    }
                }
            }
            return Ok(());
        }
        bounds.room.hold(spans.len() * Tree::SPAN_BYTES)?;
        if spans.len() > CHECK_SPANS {
            bounds.scan.goes_on()?;
        }
        self.tree.lay(spans, wants);
        if !self.relating.relate(way, spans.len(), &self.tree, &fits) {
            return Ok(());
        }
        let tree = &self.tree;
        let laid = tree.bytes() + self.relating.bytes();
        bounds.room.hold(laid)?;
        // Of several spans of one id the first that fits.
        let search = |rows: &[u32], binding: usize| {
            let mut rows = rows.iter().map(|row| *row as usize);
            rows.find(|at| fits(*at, binding)).map_or(NONE, |at| spans[at].place)
        };
        let repeated = Repeated::default();
        let place = |node: u32, binding: usize| match tree.rows(node) {
            rows @ [_] => search(rows, binding),
            rows => repeated.place(node, binding, || search(rows, binding)),
        };
        self.combining.settle();
        let mut waiting: Vec<Waiting> = Vec::new();
        for (at, span) in spans.iter().enumerate() {
            if at % CHECK_SPANS == CHECK_SPANS - 1 {
                bounds.scan.goes_on()?;
                bounds.room.hold(laid + self.combining.bytes() + bytes_of(&waiting))?;
            }
            let node = tree.node_of(at);
            if !(self.anywhere || span.has(IN_RANGE))
                || !fits(at, way.returned)
                || !self.relating.holds(way.returned, node)
                || self.matched.has(first + at)
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
                self.matched.set(first + at);
                for (target, places) in &mut self.matched.to {
                    let to = match target {
                        Target::Bound(binding) if *binding == way.returned => span.place,
                        Target::Bound(binding) => match self.picked[*binding] {
                            NONE => NONE,
                            node => place(node, *binding),
                        },
                        other => fixed(other, &mut root_place),
                    };
                    places[first + at] = to;
                }
                continue;
            }
            let to = self.matched.to.iter();
            let fixed: Vec<(Target, u32)> = to
                .filter(|(target, _)| !matches!(target, Target::Bound(_)))
                .map(|(target, _)| (*target, fixed(target, &mut root_place)))
                .collect();
            waiting.push(Waiting {
                owner: self.combining.own(first + at, span.place, fixed),
                node,
                position: Vec::new(),
            });
        }
        // Where it has come to in each step, a row tells from now on.
        let walked = waiting.len() * self.combining.position_bytes();
        bounds.room.hold(laid + self.combining.bytes() + bytes_of(&waiting) * 2 + walked)?;
        let walk = Walk { way, tree, relating: &self.relating, place: &place };
        let mut most = FIRST;
        while !waiting.is_empty() {
            let mut open = Vec::new();
            for (number, mut row) in waiting.into_iter().enumerate() {
                if number % CHECK_SPANS == CHECK_SPANS - 1 {
                    bounds.scan.goes_on()?;
                }
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

    fn test(&mut self, bounds: &Bounds<'_>) -> Result<(), QueryError> {
        self.combining.test(self.tuples, self.matched, bounds)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fmt;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use datafusion::error::{DataFusionError, Result as Taken};
    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};

    use super::super::span::{NAMED, Traces};
    use super::super::spread::{Sent, Stored as _, Timed};
    use super::*;
    use crate::bind::query::plan;
    use crate::plugins::Plugins;
    use crate::scan::Deadline;

    /// Bytes at once by which a trace is told that is larger than those before: then nobody waits for the answer any more.
    const LARGER: usize = 20_000;
    /// Bytes at once that are refused.
    const REFUSED: usize = 200_000;

    /// A query's memory, whose client leaves when a trace is worked on.
    struct Leaving(Option<Arc<Scan>>);

    impl fmt::Debug for Leaving {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Leaving")
        }
    }

    impl fmt::Display for Leaving {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("leaving")
        }
    }

    impl MemoryPool for Leaving {
        fn name(&self) -> &str {
            "leaving"
        }

        fn grow(&self, _: &MemoryReservation, _: usize) {}

        fn shrink(&self, _: &MemoryReservation, _: usize) {}

        fn try_grow(&self, _: &MemoryReservation, additional: usize) -> Taken<()> {
            if additional > REFUSED {
                return Err(DataFusionError::External(Box::new(QueryError::Memory { limit: REFUSED })));
            }
            if let Some(scan) = self.0.as_ref().filter(|_| additional > LARGER) {
                scan.stop.store(true, Ordering::Relaxed);
            }
            Ok(())
        }

        fn reserved(&self) -> usize {
            0
        }
    }

    fn scan() -> Scan {
        let text = "from spans match (a: kind = client, b: kind = server where a >> b and a.duration < b.duration)";
        let plan = plan(&prism_dsl::parse_text(text).unwrap(), 0, 100, &Plugins::default()).unwrap();
        Scan::new(plan, Vec::new(), Vec::new(), Arc::default(), true)
    }

    /// Traces of so many spans each, of which the first is above the others.
    fn spans(of: &[u64]) -> Spans {
        let mut all: Vec<Timed> = Vec::new();
        for (trace, spans) in of.iter().enumerate() {
            for id in 1..=*spans {
                let (binding, below) = if id == 1 { (0, 0) } else { (1, BELOW) };
                let marks = 1 << binding | below | NAMED | IN_RANGE;
                let place = all.len() as u32;
                all.push(Timed::new(Sent { trace: [1, trace as u64], id, parent: 1, place, marks }, 0, 1));
            }
        }
        Spans::of(std::iter::once(&all[..]), &mut Traces::default(), |_| true)
    }

    fn solved(scan: &Scan, spans: &Spans, memory: Leaving) -> Result<(), QueryError> {
        let ask = scan.plan.structure.as_ref().unwrap();
        let (values, combinations) = (HashMap::new(), AtomicU64::new(0));
        let tuples = Tuples { fields: &scan.plan.fields, values: &values };
        let memory = MemoryConsumer::new("structure").register(&(Arc::new(memory) as Arc<dyn MemoryPool>));
        let room = Room::beside(&memory);
        let bounds = Bounds { scan, room: &room, combinations_max: u64::MAX, combinations: &combinations };
        solve(&ask.alternatives, false, &[], spans, &tuples, &bounds).map(|_| ())
    }

    /// Counted in traces: the one that would be refused is never come to.
    #[test]
    fn who_has_left_or_is_late_is_answered_within_the_next_traces() {
        let mut traces = vec![2; 2 * CHECK_TRACES];
        traces.push(400);
        traces.extend(vec![2; CHECK_TRACES]);
        traces.push(8_000);
        let spans = spans(&traces);
        let waited_for = Arc::new(scan());
        let error = solved(&waited_for, &spans, Leaving(None)).unwrap_err();
        assert!(matches!(error, QueryError::Memory { .. }), "{error}");
        let error = solved(&waited_for, &spans, Leaving(Some(waited_for.clone()))).unwrap_err();
        assert!(error.to_string().contains("given up"), "{error}");
        let mut late = scan();
        late.deadline = Some(Deadline { at: Instant::now(), limit: Duration::ZERO, setting: "budget.time" });
        let error = solved(&late, &spans, Leaving(None)).unwrap_err();
        assert!(matches!(error, QueryError::Time { .. }), "{error}");
    }
}
