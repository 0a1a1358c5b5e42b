//! `match`: bindings, relations and conditions between spans become ways to match.
//!
//! The `where` of `match` is written out into alternatives of parts joined by and. A relation ties two bindings; what stands
//! under `not`, or on the left of a negated relation, speaks of any spans that fit, unless all of its names are bound beside
//! it. Not here: how matches are found (`structure`).

use std::collections::{BTreeSet, VecDeque};

use prism_dsl::{Expr, Field as AstField, Match, Of, Pos, RelationForm, RelationOp};

use super::condition::position;
use super::{Binder, Place};
use crate::error::{QueryError, code};
use crate::eval::node::Node;
use crate::field::{Field, From};
use crate::structure::ask::{Absent, Alternative, BINDINGS_MAX, Edge, Test, Way};

/// Alternatives that the `or`s of a `where` are written out into.
const ALTERNATIVES_MAX: usize = 64;

/// Bindings and ways to match.
pub(super) struct Matching {
    pub(super) bindings: Vec<Vec<Node>>,
    pub(super) alternatives: Vec<Alternative>,
    pub(super) returned: Vec<String>,
}

/// Parts that must hold together.
#[derive(Clone, Default)]
struct Together<'q> {
    parts: Vec<Part<'q>>,
    /// The right side of the last relation.
    last: Option<usize>,
}

#[derive(Clone)]
enum Part<'q> {
    /// Some span of the trace.
    Bound(usize),
    Edge(Edge),
    Test(Node, BTreeSet<usize>),
    Not(&'q Expr),
    /// No span that the left side of a relation gives is so to the binding: left side, way, binding.
    Without(Vec<(Together<'q>, usize)>, Way, usize),
}

type Sides<'q> = Vec<(Together<'q>, usize)>;

impl<'q> Binder<'q> {
    /// Settles a `match`.
    pub(super) fn matching(&mut self, of: &'q Match) -> Result<Matching, QueryError> {
        if of.bindings.len() > BINDINGS_MAX {
            let message = format!("expected at most {BINDINGS_MAX} spans in `match`, found {}", of.bindings.len());
            return Err(QueryError::at(code::TYPE, Pos::NONE, 1, message));
        }
        let mut bindings = Vec::new();
        for bind in &of.bindings {
            self.of_span = true;
            let condition = self.condition(&bind.expr);
            self.of_span = false;
            let condition = condition?;
            if let Some(field) = condition.field_set().into_iter().find(|field| self.is_beside(*field)) {
                let name = self.fields[field].name.clone();
                let message =
                    format!("expected a field of the span itself in the condition of `{}`, found `{name}`", bind.name);
                return Err(QueryError::at(code::TYPE, Pos::NONE, 1, message).with_hint(format!(
                    "name the other span in `match` too, or compare in its `where`: `{}.{name} …`",
                    bind.name
                )));
            }
            bindings.push(match condition {
                Node::And(all) => all,
                one => vec![one],
            });
        }
        let explicit = self.query.return_.as_deref().and_then(|name| of.bindings.iter().position(|b| b.name == name));
        let everything = Together { parts: (0..bindings.len()).map(Part::Bound).collect(), last: None };
        let written = match &of.where_ {
            None => vec![everything],
            Some(expr) => {
                let named = self.names_of(expr);
                let mut written = self.ways(expr)?;
                let unnamed = (0..bindings.len()).filter(|binding| !named.contains(binding)).map(Part::Bound);
                let unnamed: Vec<Part<'_>> = unnamed.collect();
                written.iter_mut().for_each(|way| way.parts.splice(0..0, unnamed.iter().cloned()).for_each(drop));
                written
            }
        };
        let mut alternatives = Vec::new();
        for way in written {
            alternatives.push(self.alternative(way, explicit)?);
        }
        let mut returned: Vec<String> = Vec::new();
        for alternative in &alternatives {
            let name = &of.bindings[alternative.returned].name;
            if !returned.contains(name) {
                returned.push(name.clone());
            }
        }
        Ok(Matching { bindings, alternatives, returned })
    }

    fn is_beside(&self, field: usize) -> bool {
        matches!(self.fields.get(field), Some(Field { from: From::Beside(_), .. }))
    }

    pub(super) fn binding(&self, name: &str) -> Option<usize> {
        self.query.matches.as_ref()?.bindings.iter().position(|bind| bind.name == name)
    }

    /// The bindings that an expression names, in its fields too.
    fn names_of(&self, expr: &Expr) -> BTreeSet<usize> {
        let mut names = BTreeSet::new();
        expr.walk(&mut |part| match part {
            Expr::Binding(binding) => names.extend(self.binding(&binding.name)),
            Expr::Field(AstField { of: Some(Of::Binding(name)), .. }) => names.extend(self.binding(name)),
            _ => {}
        });
        names
    }

    /// An expression as alternatives.
    fn ways(&mut self, expr: &'q Expr) -> Result<Vec<Together<'q>>, QueryError> {
        self.deeper(|binder| binder.any_ways(expr))
    }

    fn any_ways(&mut self, expr: &'q Expr) -> Result<Vec<Together<'q>>, QueryError> {
        if !has_structure(expr) {
            let names = self.names_of(expr);
            let place = std::mem::replace(&mut self.place, Place::Spans);
            let condition = self.condition(expr);
            self.place = place;
            return Ok(vec![Together { parts: vec![Part::Test(condition?, names)], last: None }]);
        }
        match expr {
            Expr::Binding(_) | Expr::Relation { .. } => {
                let sides = self.sides(expr)?;
                let relates = matches!(expr, Expr::Relation { .. });
                let with_last = |(together, last)| match relates {
                    true => Together { last: Some(last), ..together },
                    false => together,
                };
                Ok(sides.into_iter().map(with_last).collect())
            }
            Expr::And(all) => {
                let mut ways = vec![Together::default()];
                for part in all {
                    let part = self.ways(part)?;
                    ways = ways.iter().flat_map(|way| part.iter().map(|more| joined(way, more))).collect();
                    few(ways.len())?;
                }
                Ok(ways)
            }
            Expr::Or(all) => {
                let mut ways = Vec::new();
                for part in all {
                    ways.extend(self.ways(part)?);
                    few(ways.len())?;
                }
                Ok(ways)
            }
            Expr::Not(inner) => match &**inner {
                Expr::Not(twice) => self.ways(twice),
                // Without what is not so.
                Expr::Relation { op, form: RelationForm::Negated, left, right } => {
                    let sides = self.plain(*op, left, right)?;
                    Ok(sides.into_iter().map(|(together, last)| Together { last: Some(last), ..together }).collect())
                }
                inner => Ok(vec![Together { parts: vec![Part::Not(inner)], last: last_of(self, inner) }]),
            },
            other => {
                let (pos, width) = position(other);
                let message = "expected spans, relations and conditions joined by `and`, `or` and `not`";
                Err(QueryError::at(code::TYPE, pos, width, message))
            }
        }
    }

    /// The ways to bind one side of a relation, and which binding it then gives.
    fn sides(&mut self, expr: &'q Expr) -> Result<Sides<'q>, QueryError> {
        match expr {
            Expr::Binding(binding) => {
                let number = self.binding(&binding.name).ok_or_else(|| {
                    let message = format!("`match` names no span `{}`", binding.name);
                    QueryError::at(code::TYPE, binding.pos, binding.name.len(), message)
                })?;
                Ok(vec![(Together { parts: vec![Part::Bound(number)], last: None }, number)])
            }
            Expr::Relation { op, form: RelationForm::Plain, left, right } => self.plain(*op, left, right),
            Expr::Relation { op, form: RelationForm::Union, left, right } => {
                let mut both = self.plain(*op, left, right)?;
                let lefts = self.sides(left)?;
                let rights = both.len() / lefts.len().max(1);
                // The same spans, given by the other side.
                for at in 0..both.len() {
                    let (together, _) = both[at].clone();
                    both.push((together, lefts[at / rights.max(1)].1));
                }
                few(both.len())?;
                Ok(both)
            }
            Expr::Relation { op, form: RelationForm::Negated, left, right } => {
                let lefts = self.sides(left)?;
                let rights = self.sides(right)?;
                Ok(rights
                    .into_iter()
                    .map(|(mut together, last)| {
                        together.parts.push(Part::Without(lefts.clone(), way_of(*op), last));
                        (together, last)
                    })
                    .collect())
            }
            other => {
                let (pos, width) = position(other);
                Err(QueryError::at(code::TYPE, pos, width, "expected a span of `match` on each side of a relation"))
            }
        }
    }

    fn plain(&mut self, op: RelationOp, left: &'q Expr, right: &'q Expr) -> Result<Sides<'q>, QueryError> {
        let (lefts, rights) = (self.sides(left)?, self.sides(right)?);
        let mut sides = Vec::new();
        for (one, from) in &lefts {
            for (other, to) in &rights {
                if from == to {
                    return Err(itself(right));
                }
                let mut together = joined(one, other);
                together.parts.push(Part::Edge(Edge { from: *from, to: *to, way: way_of(op) }));
                sides.push((together, *to));
            }
        }
        few(sides.len())?;
        Ok(sides)
    }

    /// Parts as a way to match.
    fn alternative(&mut self, mut way: Together<'q>, explicit: Option<usize>) -> Result<Alternative, QueryError> {
        let mut bound = BTreeSet::new();
        let mut named = None;
        for part in &way.parts {
            match part {
                Part::Bound(binding) | Part::Without(_, _, binding) => {
                    bound.insert(*binding);
                    named = Some(*binding);
                }
                Part::Edge(edge) => bound.extend([edge.from, edge.to]),
                Part::Test(_, names) => bound.extend(names.iter().copied()),
                Part::Not(_) => {}
            }
        }
        let last_test = way.parts.iter().rev().find_map(|part| match part {
            Part::Test(_, names) => names.last().copied(),
            Part::Not(expr) => self.names_of(expr).last().copied(),
            _ => None,
        });
        let returned = explicit.or(way.last).or(named).or(last_test).unwrap_or(0);
        bound.insert(returned);
        let mut alternative = Alternative { returned, ..Alternative::default() };
        let mut edges: Vec<Edge> = Vec::new();
        for part in std::mem::take(&mut way.parts) {
            match part {
                Part::Bound(_) => {}
                Part::Edge(edge) => {
                    if !edges.contains(&edge) {
                        edges.push(edge);
                    }
                }
                Part::Test(node, _) => alternative.tests.push(Test::Condition(node)),
                Part::Not(expr) => self.not(expr, &bound, &mut alternative)?,
                Part::Without(lefts, way, of) => {
                    let mut alternatives = Vec::new();
                    for (mut together, from) in lefts {
                        if from == of {
                            let message = "expected two spans in a relation, found one twice";
                            return Err(QueryError::at(code::TYPE, Pos::NONE, 1, message).with_hint(TWICE));
                        }
                        together.parts.push(Part::Edge(Edge { from, to: of, way }));
                        alternatives.push(self.alternative(together, Some(of))?);
                    }
                    alternative.absent.push(Absent { of: Some(of), alternatives });
                }
            }
        }
        alternative.bound = bound.into_iter().collect();
        tie(&mut alternative, &edges);
        Ok(alternative)
    }

    /// What must not be: among the bound spans, or of one of them, or in the trace.
    fn not(&mut self, expr: &'q Expr, bound: &BTreeSet<usize>, to: &mut Alternative) -> Result<(), QueryError> {
        let names = self.names_of(expr);
        if names.is_subset(bound)
            && names.len() > 1
            && !matches!(expr, Expr::Relation { form: RelationForm::Union, .. })
        {
            let test = self.test(expr)?;
            to.tests.push(Test::Not(Box::new(test)));
            return Ok(());
        }
        let outer: Vec<usize> = names.intersection(bound).copied().collect();
        if outer.len() > 1 {
            let (pos, width) = position(expr);
            let message = "expected at most one span under `not` that is bound beside it too, or all of them";
            return Err(QueryError::at(code::TYPE, pos, width, message)
                .with_hint("write a negated relation: `a !>> b`, or bind the others beside it too"));
        }
        let of = outer.first().copied();
        let mut alternatives = Vec::new();
        for way in self.ways(expr)? {
            alternatives.push(self.alternative(way, of)?);
        }
        to.absent.push(Absent { of, alternatives });
        Ok(())
    }

    /// An expression over bound spans as a test of them.
    fn test(&mut self, expr: &'q Expr) -> Result<Test, QueryError> {
        self.deeper(|binder| binder.any_test(expr))
    }

    fn any_test(&mut self, expr: &'q Expr) -> Result<Test, QueryError> {
        Ok(match expr {
            Expr::And(all) => Test::All(all.iter().map(|e| self.test(e)).collect::<Result<_, _>>()?),
            Expr::Or(all) => Test::Any(all.iter().map(|e| self.test(e)).collect::<Result<_, _>>()?),
            Expr::Not(inner) => Test::Not(Box::new(self.test(inner)?)),
            // It is bound.
            Expr::Binding(_) => Test::All(Vec::new()),
            Expr::Relation { op, form: RelationForm::Plain, left, right } => {
                let mut all = Vec::new();
                for side in [left, right] {
                    if let Expr::Relation { .. } = &**side {
                        all.push(self.test(side)?);
                    }
                }
                let (Some(from), Some(to)) = (given(self, left), given(self, right)) else {
                    return Err(under_not(expr));
                };
                if from == to {
                    return Err(itself(right));
                }
                all.push(Test::Lies(Edge { from, to, way: way_of(*op) }));
                Test::All(all)
            }
            Expr::Relation { .. } => return Err(under_not(expr)),
            condition => {
                let place = std::mem::replace(&mut self.place, Place::Spans);
                let bound = self.condition(condition);
                self.place = place;
                Test::Condition(bound?)
            }
        })
    }
}

const TWICE: &str = "name such spans twice: `match (a: …, b: … where a >> b)`";

fn itself(side: &Expr) -> QueryError {
    let name = match side {
        Expr::Binding(binding) => binding.name.as_str(),
        _ => "it",
    };
    let pos = match side {
        Expr::Binding(binding) => binding.pos,
        _ => Pos::NONE,
    };
    let message = format!("expected two spans in a relation, found `{name}` on both sides");
    QueryError::at(code::TYPE, pos, name.len(), message).with_hint(TWICE)
}

fn under_not(expr: &Expr) -> QueryError {
    let (pos, width) = position(expr);
    let message = "expected plain relations under `not` between bound spans";
    QueryError::at(code::TYPE, pos, width, message).with_hint("write the relation without `!` or `&` there")
}

/// The binding that a side of a relation gives.
fn given(binder: &Binder<'_>, expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Binding(binding) => binder.binding(&binding.name),
        Expr::Relation { right, .. } => given(binder, right),
        _ => None,
    }
}

/// The right side of the last relation within an expression.
fn last_of(binder: &Binder<'_>, expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Relation { .. } => given(binder, expr),
        Expr::And(all) | Expr::Or(all) => all.iter().rev().find_map(|part| last_of(binder, part)),
        Expr::Not(inner) => last_of(binder, inner),
        _ => None,
    }
}

fn has_structure(expr: &Expr) -> bool {
    let mut found = false;
    expr.walk(&mut |part| found |= matches!(part, Expr::Binding(_) | Expr::Relation { .. }));
    found
}

fn few(ways: usize) -> Result<(), QueryError> {
    if ways <= ALTERNATIVES_MAX {
        return Ok(());
    }
    let message =
        format!("the `where` of `match` has more than {ALTERNATIVES_MAX} alternatives once its `or`s are written out");
    Err(QueryError::at(prism_dsl::error::code::TOO_DEEP, Pos::NONE, 1, message))
}

fn joined<'q>(one: &Together<'q>, other: &Together<'q>) -> Together<'q> {
    let parts = one.parts.iter().chain(&other.parts).cloned().collect();
    Together { parts, last: other.last.or(one.last) }
}

fn way_of(op: RelationOp) -> Way {
    match op {
        RelationOp::Descendant => Way::Descendant,
        RelationOp::Ancestor => Way::Ancestor,
        RelationOp::Child => Way::Child,
        RelationOp::Parent => Way::Parent,
        RelationOp::Sibling => Way::Sibling,
    }
}

/// Leads from the returned binding to all that are tied to it, then from one of the others, and so on. An edge between two
/// that are led to already is a test.
fn tie(of: &mut Alternative, edges: &[Edge]) {
    let mut reached = BTreeSet::new();
    let mut used = vec![false; edges.len()];
    let starts: Vec<usize> = std::iter::once(of.returned).chain(of.bound.iter().copied()).collect();
    for start in starts {
        if !reached.insert(start) {
            continue;
        }
        if start != of.returned {
            of.alone.push(start);
        }
        let mut next = VecDeque::from([start]);
        while let Some(at) = next.pop_front() {
            for (number, edge) in edges.iter().enumerate() {
                let out = match at {
                    at if at == edge.from => *edge,
                    at if at == edge.to => Edge { from: edge.to, to: edge.from, way: edge.way.back() },
                    _ => continue,
                };
                if std::mem::replace(&mut used[number], true) {
                    continue;
                }
                if reached.insert(out.to) {
                    of.edges.push(out);
                    next.push_back(out.to);
                } else {
                    of.tests.push(Test::Lies(*edge));
                }
            }
        }
    }
}
