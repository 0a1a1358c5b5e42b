//! Conditions: boolean logic and comparisons. A comparison with fields of events or links asks for some of them.

use prism_dsl::{BinaryOp, Expr, Literal, Pos};

use super::value::{constant, join_children, regex};
use super::{Binder, Bound};
use crate::error::{QueryError, code};
use crate::eval::node::{CompareOp, Node, Set, TextOp, TextTest, Unit};
use crate::eval::vals::Scalar;

impl Binder<'_> {
    /// An expression as a condition of the row.
    pub(crate) fn condition(&mut self, expr: &Expr) -> Result<Node, QueryError> {
        self.deeper(|binder| binder.any_condition(expr))
    }

    fn any_condition(&mut self, expr: &Expr) -> Result<Node, QueryError> {
        match expr {
            Expr::And(all) => Ok(Node::And(all.iter().map(|e| self.condition(e)).collect::<Result<_, _>>()?)),
            Expr::Or(all) => Ok(Node::Or(all.iter().map(|e| self.condition(e)).collect::<Result<_, _>>()?)),
            Expr::Not(inner) => Ok(Node::Not(Box::new(self.condition(inner)?))),
            Expr::Literal(Literal::Bool(_)) => Ok(constant_of(expr)),
            Expr::Literal(other) => {
                let message = format!("expected a condition, found the value `{}`", literal_text(other));
                Err(QueryError::at(code::TYPE, Pos::NONE, 1, message).with_hint("compare it: `duration > 100ms`"))
            }
            _ => {
                let bound = self.comparison(expr)?;
                Ok(some_child(bound))
            }
        }
    }

    /// One comparison, or a value that is itself true or false.
    fn comparison(&mut self, expr: &Expr) -> Result<Bound, QueryError> {
        let condition = |node, child| Bound { node, unit: Unit::Plain, child };
        match expr {
            Expr::Binary { op, left, right } => {
                if let Some(op) = compare_op(*op) {
                    return self.compare(op, left, right);
                }
                if let Some((op, negated)) = text_op(*op) {
                    return self.text_test(op, negated, left, right);
                }
                if matches!(op, BinaryOp::Match | BinaryOp::NotMatch) {
                    return self.matches(*op == BinaryOp::NotMatch, left, right);
                }
                self.value(expr)
            }
            Expr::In { expr, list, negated } => self.within(expr, list, *negated),
            Expr::Between { expr, low, high, negated } => self.between(expr, low, high, *negated),
            Expr::Call(call) if call.name == "exists" => {
                let Some(arg) = call.args.first() else { return Ok(condition(Node::And(Vec::new()), None)) };
                let arg = self.value(arg)?;
                Ok(condition(Node::Exists(Box::new(arg.node)), arg.child))
            }
            _ => self.value(expr),
        }
    }

    pub(super) fn compare(&mut self, op: CompareOp, left: &Expr, right: &Expr) -> Result<Bound, QueryError> {
        if let Some(bound) = self.compare_word(op, left, right)? {
            return Ok(bound);
        }
        if let Some(bound) = self.compare_word(op.flipped(), right, left)? {
            return Ok(bound);
        }
        let (a, b) = (self.value(left)?, self.value(right)?);
        self.refuse_list(&a, left)?;
        self.refuse_list(&b, right)?;
        let (a, b) = (read_as(a, left, &b)?, b);
        let b = read_as(b, right, &a)?;
        Ok(Bound {
            child: join_children(a.child, b.child)?,
            node: Node::Compare { op, left: Box::new(a.node), right: Box::new(b.node) },
            unit: Unit::Plain,
        })
    }

    fn text_test(&mut self, op: TextOp, negated: bool, left: &Expr, right: &Expr) -> Result<Bound, QueryError> {
        let (a, b) = (self.value(left)?, self.value(right)?);
        let child = join_children(a.child, b.child)?;
        if op != TextOp::Contains {
            self.refuse_list(&a, left)?;
        }
        self.refuse_list(&b, right)?;
        let expr = Box::new(a.node);
        let node = match b.node {
            Node::Const(Scalar::Str(needle)) => {
                let needle = if crate::eval::text::ignores_case(op) { needle.to_lowercase() } else { needle };
                Node::TextTest { expr, test: TextTest::Op(op, needle), negated }
            }
            Node::Const(element) if op == TextOp::Contains && !element.is_null() => {
                Node::TextTest { expr, test: TextTest::Element(element), negated }
            }
            Node::Const(_) => {
                let message = "expected text to look for";
                return Err(QueryError::at(code::TYPE, Pos::NONE, 1, message).with_hint("texts stand in single quotes"));
            }
            other => Node::TextPair { op, left: expr, right: Box::new(other), negated },
        };
        Ok(Bound { node, unit: Unit::Plain, child })
    }

    fn matches(&mut self, negated: bool, left: &Expr, right: &Expr) -> Result<Bound, QueryError> {
        let (pos, width) = position(left);
        let Expr::Literal(Literal::Str(pattern)) = right else {
            return Err(QueryError::at(code::REGEX, pos, width, "expected a fixed pattern behind `=~`")
                .with_hint("write `name =~ '^GET '`, or use `contains` to compare two fields"));
        };
        let test = TextTest::Regex(regex(pattern, pos, width)?);
        let a = self.value(left)?;
        self.refuse_list(&a, left)?;
        let node = Node::TextTest { expr: Box::new(a.node), test, negated };
        Ok(Bound { node, unit: Unit::Plain, child: a.child })
    }

    /// `in`: constants in a set, anything else compared one by one.
    fn within(&mut self, expr: &Expr, list: &[Expr], negated: bool) -> Result<Bound, QueryError> {
        if let Some(bound) = self.words_in(expr, list, negated)? {
            return Ok(bound);
        }
        let looked_for = self.value(expr)?;
        self.refuse_list(&looked_for, expr)?;
        let mut set = Set::default();
        let mut others = Vec::new();
        let mut child = looked_for.child;
        for item in flat(list) {
            let bound = read_as(self.value(item)?, item, &looked_for)?;
            child = join_children(child, bound.child)?;
            self.refuse_list(&bound, item)?;
            match bound.node {
                Node::Const(Scalar::Str(s)) => {
                    set.ids.extend(hex::decode(&s));
                    set.strs.insert(s);
                }
                Node::Const(Scalar::Int(i)) => {
                    set.ints.insert(i);
                }
                Node::Const(Scalar::Double(d)) => set.doubles.push(d),
                Node::Const(Scalar::Bool(b)) => set.bools.push(b),
                // Nothing equals a missing value.
                Node::Const(Scalar::Null) => {}
                other => others.push(other),
            }
        }
        let in_set = |negated| Node::InSet { expr: Box::new(looked_for.node.clone()), set: set.clone(), negated };
        let compare = |op: CompareOp, other: &Node| Node::Compare {
            op,
            left: Box::new(looked_for.node.clone()),
            right: Box::new(other.clone()),
        };
        let node = if others.is_empty() {
            in_set(negated)
        } else {
            let found = Node::Or(
                std::iter::once(in_set(false)).chain(others.iter().map(|o| compare(CompareOp::Eq, o))).collect(),
            );
            if negated {
                // Comparable with some, equal to none.
                let comparable = std::iter::once(in_set(true)).chain(others.iter().map(|o| compare(CompareOp::Ne, o)));
                Node::And(vec![Node::Or(comparable.collect()), Node::Not(Box::new(found))])
            } else {
                found
            }
        };
        Ok(Bound { node, unit: Unit::Plain, child })
    }

    fn between(&mut self, expr: &Expr, low: &Expr, high: &Expr, negated: bool) -> Result<Bound, QueryError> {
        let (low_op, high_op) = if negated { (CompareOp::Lt, CompareOp::Gt) } else { (CompareOp::Ge, CompareOp::Le) };
        let (a, b) = (self.compare(low_op, expr, low)?, self.compare(high_op, expr, high)?);
        let child = join_children(a.child, b.child)?;
        // Outside of the bounds needs both to be comparable only as far as a comparison does: below one or above the other.
        let both = vec![a.node, b.node];
        let node = if negated { Node::Or(both) } else { Node::And(both) };
        Ok(Bound { node, unit: Unit::Plain, child })
    }
}

/// The members of a list, also of one given as a single list.
pub(super) fn flat(list: &[Expr]) -> Vec<&Expr> {
    list.iter()
        .flat_map(|item| match item {
            Expr::List(inner) => inner.iter().collect::<Vec<_>>(),
            other => vec![other],
        })
        .collect()
}

/// A condition on events or links becomes one on the row: some of them fulfils it.
pub(super) fn some_child(bound: Bound) -> Node {
    match bound.child {
        Some(child) => Node::Some { child, condition: Box::new(bound.node) },
        None => bound.node,
    }
}

fn constant_of(expr: &Expr) -> Node {
    match expr {
        Expr::Literal(literal) => constant(literal).node,
        _ => Node::Const(Scalar::Null),
    }
}

/// Text opposite a time is read as one; opposite a duration it is a mistake that would never be true.
fn read_as(side: Bound, expr: &Expr, other: &Bound) -> Result<Bound, QueryError> {
    let (Node::Const(Scalar::Str(text)), Expr::Literal(_)) = (&side.node, expr) else { return Ok(side) };
    match other.unit {
        Unit::Plain => Ok(side),
        Unit::Time => match chrono::DateTime::parse_from_rfc3339(text).ok().and_then(|t| t.timestamp_nanos_opt()) {
            Some(nanos) => Ok(Bound { node: Node::Const(Scalar::Int(nanos)), unit: Unit::Time, ..side }),
            None => Err(QueryError::at(code::TYPE, Pos::NONE, 1, format!("expected a time, found `{text}`"))
                .with_hint("write `t'2026-01-01T00:00:00Z'`")),
        },
        Unit::Duration => {
            Err(QueryError::at(code::TYPE, Pos::NONE, 1, format!("expected a duration, found the text `{text}`"))
                .with_hint("durations stand without quotes: `200ms`, `1.5s`"))
        }
    }
}

/// Where an expression begins, as far as the Ast knows.
pub(super) fn position(expr: &Expr) -> (Pos, usize) {
    match expr {
        Expr::Field(field) => (field.pos, field.name.chars().count()),
        Expr::Call(call) => (call.pos, call.name.chars().count()),
        Expr::Aggregate(call) => (call.pos, call.func.chars().count()),
        Expr::Plugin(call) => (call.pos, crate::plugins::width(call)),
        Expr::Binary { left, .. } => position(left),
        _ => (Pos::NONE, 1),
    }
}

fn literal_text(literal: &Literal) -> String {
    prism_dsl::expr_to_text(&Expr::Literal(literal.clone()))
}

fn compare_op(op: BinaryOp) -> Option<CompareOp> {
    Some(match op {
        BinaryOp::Eq => CompareOp::Eq,
        BinaryOp::Ne => CompareOp::Ne,
        BinaryOp::Lt => CompareOp::Lt,
        BinaryOp::Le => CompareOp::Le,
        BinaryOp::Gt => CompareOp::Gt,
        BinaryOp::Ge => CompareOp::Ge,
        _ => return None,
    })
}

fn text_op(op: BinaryOp) -> Option<(TextOp, bool)> {
    Some(match op {
        BinaryOp::Contains => (TextOp::Contains, false),
        BinaryOp::NotContains => (TextOp::Contains, true),
        BinaryOp::IContains => (TextOp::IContains, false),
        BinaryOp::NotIContains => (TextOp::IContains, true),
        BinaryOp::StartsWith => (TextOp::StartsWith, false),
        BinaryOp::NotStartsWith => (TextOp::StartsWith, true),
        BinaryOp::IStartsWith => (TextOp::IStartsWith, false),
        BinaryOp::NotIStartsWith => (TextOp::IStartsWith, true),
        BinaryOp::EndsWith => (TextOp::EndsWith, false),
        BinaryOp::NotEndsWith => (TextOp::EndsWith, true),
        BinaryOp::IEndsWith => (TextOp::IEndsWith, false),
        BinaryOp::NotIEndsWith => (TextOp::IEndsWith, true),
        _ => return None,
    })
}
