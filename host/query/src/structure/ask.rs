//! What a query asks of the spans of traces: which spans are bound to which name, how they lie to one another, and whose
//! values stand beside the rows. Made by `bind::structure`, answered by [`super::resolve`].

use crate::eval::node::{Node, Unit};
use crate::field::Field;

/// Bindings of one query: their marks are bits beside those of [`super::span`].
pub(crate) const BINDINGS_MAX: usize = 24;

/// Whose value stands beside a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The row's own span, of whose trace something is told.
    Row,
    /// Its stored parent.
    Parent,
    /// The span of its trace that has no parent id.
    Root,
    /// The span that `match` bound to this name.
    Bound(usize),
}

/// A value beside a row: missing where there is no such span.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Beside {
    pub(crate) target: Target,
    pub(crate) told: Told,
}

/// What is told of the span beside a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// A field of it.
    Field(Box<Field>),
    /// Its duration without the times of its children.
    SelfDuration,
    /// The nanoseconds that it spends on the critical path of its trace.
    CriticalDuration,
    /// Something of its trace as a whole.
    Trace(OfTrace),
}

/// What is told of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OfTrace {
    Start,
    Duration,
    Spans,
    Errors,
    ServiceCount,
    Services,
}

impl OfTrace {
    /// Its name in `from traces`.
    pub(crate) const NAMES: [(&'static str, OfTrace); 6] = [
        ("time", OfTrace::Start),
        ("duration", OfTrace::Duration),
        ("span_count", OfTrace::Spans),
        ("error_count", OfTrace::Errors),
        ("service_count", OfTrace::ServiceCount),
        ("services", OfTrace::Services),
    ];

    pub(crate) fn of_services(self) -> bool {
        matches!(self, OfTrace::ServiceCount | OfTrace::Services)
    }
}

impl Beside {
    /// What its values are measured in.
    pub(crate) fn unit(&self) -> Unit {
        match &self.told {
            Told::Field(field) => field.unit(),
            Told::SelfDuration | Told::CriticalDuration | Told::Trace(OfTrace::Duration) => Unit::Duration,
            Told::Trace(OfTrace::Start) => Unit::Time,
            Told::Trace(_) => Unit::Plain,
        }
    }
}

/// What a query asks.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The condition of each binding, as a list joined by and. Without `match` one: the conditions of the rows.
    pub(crate) bindings: Vec<Vec<Node>>,
    /// What must hold of the stored parent of each row, as a list joined by and, over fields of the parent itself. Only without
    /// `match`, and where nothing but fields of spans is asked for.
    pub(crate) parent: Vec<Node>,
    /// Ways to match; the first that fits a row counts.
    pub(crate) alternatives: Vec<Alternative>,
    /// A row is a trace, not a span.
    pub(crate) traces: bool,
    /// The names that rows may come from, for the answer's statistics; empty without `match`.
    pub(crate) returned: Vec<String>,
}

/// One way to match: spans of one trace that lie as it says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alternative {
    /// Whose spans are the rows.
    pub(crate) returned: usize,
    /// The bindings that it gives spans to.
    pub(crate) bound: Vec<usize>,
    /// From the returned binding outwards, then within each part that is not tied to it: each binding is led to once.
    pub(crate) edges: Vec<Edge>,
    /// Bindings that no edge leads to, other than the returned one: some span of the trace.
    pub(crate) alone: Vec<usize>,
    /// What must hold besides between the bound spans, and how many of them are looked at.
    pub(crate) tests: Vec<Test>,
    /// What must not be.
    pub(crate) absent: Vec<Absent>,
}

/// How a binding is found from one that is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) way: Way,
}

/// What a span is to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Parent,
    Ancestor,
    Child,
    Descendant,
    Sibling,
}

impl Way {
    /// The same, seen from the other span.
    pub(crate) fn back(self) -> Way {
        match self {
            Way::Parent => Way::Child,
            Way::Ancestor => Way::Descendant,
            Way::Child => Way::Parent,
            Way::Descendant => Way::Ancestor,
            Way::Sibling => Way::Sibling,
        }
    }
}

/// A condition on several bound spans.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    /// Over fields of bound spans.
    Condition(Node),
    /// The second is to the first what the way says.
    Lies(Edge),
    Not(Box<Test>),
    All(Vec<Test>),
    Any(Vec<Test>),
}

/// What must not be in the trace: of the binding where there is one, else at all.
#[derive(Clone, Debug)]
pub(crate) struct Absent {
    pub(crate) of: Option<usize>,
    /// Each returns `of`.
    pub(crate) alternatives: Vec<Alternative>,
}

impl Ask {
    /// The bindings whose spans are rows wherever they are bound, as marks: of them only spans in the range of the query count.
    pub(crate) fn rows_alone(&self) -> u32 {
        // What a trace's row is lies in the range by other rules.
        let all = if self.traces { 0 } else { (1u32 << self.bindings.len()) - 1 };
        let others =
            |way: &Alternative| way.bound.iter().filter(|b| **b != way.returned).fold(0, |all, b| all | 1u32 << b);
        let absent = |way: &Alternative| {
            let inner = |absent: &Absent| {
                let of = absent.of.filter(|of| *of == way.returned);
                absent.alternatives.iter().fold(0, |all, inner| all | inner.marks_but(of))
            };
            way.absent.iter().map(inner).fold(0, |all, marks| all | marks)
        };
        self.alternatives.iter().fold(all, |all, way| all & !others(way) & !absent(way))
    }
}

impl Test {
    /// Visits every condition.
    pub(crate) fn conditions<'t>(&'t self, visit: &mut impl FnMut(&'t Node)) {
        match self {
            Test::Condition(node) => visit(node),
            Test::Lies(_) => {}
            Test::Not(inner) => inner.conditions(visit),
            Test::All(all) | Test::Any(all) => all.iter().for_each(|test| test.conditions(visit)),
        }
    }

    /// Visits every relation.
    pub(crate) fn edges(&self, visit: &mut impl FnMut(Edge)) {
        match self {
            Test::Condition(_) => {}
            Test::Lies(edge) => visit(*edge),
            Test::Not(inner) => inner.edges(visit),
            Test::All(all) | Test::Any(all) => all.iter().for_each(|test| test.edges(visit)),
        }
    }
}

impl Alternative {
    /// All bindings that it and what must be absent bind, as marks, without one.
    fn marks_but(&self, one: Option<usize>) -> u32 {
        let own =
            self.bound.iter().filter(|binding| Some(**binding) != one).fold(0, |all, binding| all | 1u32 << binding);
        let absent = self.absent.iter().flat_map(|absent| &absent.alternatives);
        absent.fold(own, |all, inner| all | inner.marks_but(one))
    }

    /// It, and what must be absent.
    pub(crate) fn each<'t>(&'t self, visit: &mut impl FnMut(&'t Alternative)) {
        visit(self);
        self.absent.iter().flat_map(|absent| &absent.alternatives).for_each(|inner| inner.each(visit));
    }

    /// Every way that it and what must be absent go.
    pub(crate) fn ways(&self, visit: &mut impl FnMut(Way)) {
        self.edges.iter().for_each(|edge| visit(edge.way));
        self.tests.iter().for_each(|test| test.edges(&mut |edge| visit(edge.way)));
        self.absent.iter().flat_map(|absent| &absent.alternatives).for_each(|inner| inner.ways(visit));
    }

    /// Every condition between bound spans, of what must be absent too.
    pub(crate) fn conditions<'t>(&'t self, visit: &mut impl FnMut(&'t Node)) {
        self.tests.iter().for_each(|test| test.conditions(visit));
        self.absent.iter().flat_map(|absent| &absent.alternatives).for_each(|inner| inner.conditions(visit));
    }
}
