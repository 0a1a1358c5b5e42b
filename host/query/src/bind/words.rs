//! Words that are values: `status = error`, `kind in (server, client)`, `severity >= warn`, `type = gauge`.

use prism_dsl::{Expr, Field as AstField, Literal, Of, Pos, Source};
use prism_model::Signal;

use super::condition::flat;
use super::join::member;
use super::{Binder, Bound, Place};
use crate::error::{QueryError, code};
use crate::eval::node::{CompareOp, Node, Set, Unit};
use crate::eval::vals::Scalar;
use crate::field::From;
use crate::names::{
    Fixed, KINDS, METRIC_TYPES, SEVERITIES, STATUSES, TEMPORALITIES, enum_name, nearest, severity_range,
};

impl Binder<'_> {
    /// A comparison of a kind, state, severity, type or temporality with a name or number; `None` for any other.
    pub(super) fn compare_word(
        &mut self,
        op: CompareOp,
        left: &Expr,
        right: &Expr,
    ) -> Result<Option<Bound>, QueryError> {
        let Some((field, fixed)) = self.worded(left)? else { return Ok(None) };
        let Some(word) = self.word(right, fixed)? else { return Ok(None) };
        let compare =
            |op, value| Node::Compare { op, left: Box::new(field.clone()), right: Box::new(Node::Const(value)) };
        let node = match word {
            Word::Name(name) => compare(op, Scalar::Str(name)),
            Word::Severity(low, high) => {
                let (low, high) = (Scalar::Int(low), Scalar::Int(high));
                match op {
                    CompareOp::Eq => Node::And(vec![compare(CompareOp::Ge, low), compare(CompareOp::Le, high)]),
                    CompareOp::Ne => Node::Or(vec![compare(CompareOp::Lt, low), compare(CompareOp::Gt, high)]),
                    CompareOp::Lt | CompareOp::Ge => compare(op, low),
                    CompareOp::Le | CompareOp::Gt => compare(op, high),
                }
            }
        };
        Ok(Some(condition(node)))
    }

    /// The same for `in`.
    pub(super) fn words_in(&mut self, expr: &Expr, list: &[Expr], negated: bool) -> Result<Option<Bound>, QueryError> {
        let Some((field, fixed)) = self.worded(expr)? else { return Ok(None) };
        let (mut set, mut ranges) = (Set::default(), Vec::new());
        for item in flat(list) {
            match self.word(item, fixed)? {
                Some(Word::Name(name)) => {
                    set.strs.insert(name);
                }
                Some(Word::Severity(low, high)) => ranges.push((low, high)),
                None => return Ok(None),
            }
        }
        if fixed == Fixed::Severity {
            set.ints.extend(ranges.into_iter().flat_map(|(low, high)| low..=high));
        }
        Ok(Some(condition(Node::InSet { expr: Box::new(field), set, negated })))
    }

    /// A field whose values have names.
    fn worded(&mut self, expr: &Expr) -> Result<Option<(Node, Fixed)>, QueryError> {
        let Expr::Field(field) = expr else { return Ok(None) };
        if let Some(Of::Joined(source)) = field.of {
            return self.joined_words(source, field);
        }
        if self.place == Place::Group {
            // A group's key keeps the words of its field.
            let key = self.query.by.iter().position(|by| by.expr == *expr);
            let settled = self.settle(field).ok().map(|f| f.from);
            return Ok(match (key, settled.as_ref().and_then(From::fixed)) {
                (Some(key), Some(fixed)) if has_words(fixed) => Some((Node::Field(key), fixed)),
                _ => None,
            });
        }
        if field.word().is_some_and(|word| self.let_of(word).is_some()) || !field.path.is_empty() {
            return Ok(None);
        }
        let settled = self.settle(field)?;
        match settled.from.fixed() {
            Some(fixed) if has_words(fixed) => Ok(Some((self.row_field(settled).node, fixed))),
            _ => Ok(None),
        }
    }

    /// A value of joined rows that has a name: `logs.max.severity`.
    fn joined_words(&mut self, source: Source, field: &AstField) -> Result<Option<(Node, Fixed)>, QueryError> {
        let Some(aggregate) = member(field) else { return Ok(None) };
        let [Expr::Field(own)] = &aggregate.args[..] else { return Ok(None) };
        let signal = match source {
            Source::Logs => Signal::Logs,
            Source::Metrics => Signal::Metrics,
            _ => Signal::Spans,
        };
        let kept = matches!(aggregate.func.as_str(), "first" | "last" | "min" | "max") && own.path.is_empty();
        match Binder::new(self.query, signal, self.now, &self.plugins).settle(own)?.from {
            From::Fixed { fixed, .. } if kept && has_words(fixed) => {
                Ok(Some((self.joined(source, field)?.node, fixed)))
            }
            _ => Ok(None),
        }
    }

    /// The value that an expression opposite such a field means; `None` where it is an ordinary expression.
    fn word(&self, expr: &Expr, fixed: Fixed) -> Result<Option<Word>, QueryError> {
        let (text, pos) = match expr {
            Expr::Literal(Literal::Str(text)) => (text.as_str(), Pos::NONE),
            Expr::Literal(Literal::Int(n)) => {
                return Ok(match fixed {
                    Fixed::Severity => Some(Word::Severity(*n, *n)),
                    _ => {
                        let names = fixed.number_names().unwrap_or_default();
                        i32::try_from(*n).ok().map(|n| Word::Name(enum_name(names, n)))
                    }
                });
            }
            Expr::Field(field) => match field.word() {
                // A dotted name is an attribute's, and a name of `let` is that.
                Some(word) if !word.contains('.') && self.let_of(word).is_none() => (word, field.pos),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let lower = text.to_ascii_lowercase();
        let (names, prefix): (&[&str], _) = match fixed {
            Fixed::Severity => (&SEVERITIES, "severity_number_"),
            Fixed::Kind => (&KINDS, "span_kind_"),
            Fixed::Status => (&STATUSES, "status_code_"),
            Fixed::Temporality => (&TEMPORALITIES, "aggregation_temporality_"),
            _ => (&METRIC_TYPES, "metric_"),
        };
        let name = lower.strip_prefix(prefix).unwrap_or(&lower);
        if fixed == Fixed::Severity {
            if let Some((low, high)) = severity_range(name) {
                return Ok(Some(Word::Severity(low, high)));
            }
        } else if names.contains(&name) || name.parse::<i32>().is_ok() {
            return Ok(Some(Word::Name(name.to_owned())));
        }
        let message = format!("expected one of {}, found `{text}`", names.join(", "));
        let hint = nearest(&lower, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        Err(QueryError::at(code::TYPE, pos, text.chars().count(), message).with_hint_if(hint))
    }
}

enum Word {
    Name(String),
    /// Severity numbers, both included.
    Severity(i64, i64),
}

fn has_words(fixed: Fixed) -> bool {
    fixed == Fixed::Severity || fixed.number_names().is_some()
}

fn condition(node: Node) -> Bound {
    Bound { node, unit: Unit::Plain, child: None }
}
