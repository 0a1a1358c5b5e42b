//! Operators and functions to nodes of the Ast: the rules that text and tree share.
//!
//! Each node counts its levels, so that nothing deeper than [`MAX_LEVELS`] is ever built, also not by a long chain such as
//! `1 + 1 + 1 …`, which needs no brackets.

use crate::MAX_LEVELS;
use crate::ast::{Aggregate, BinaryOp, Call, Expr, Field, Literal, Of, PluginCall, Pos, RelationForm, RelationOp};
use crate::bounds::too_deep;
use crate::error::{DslError, code};
use crate::functions::{self, Kind};
use crate::rules;

/// An expression and how many operators lie above its deepest leaf.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) expr: Expr,
    levels: usize,
}

type Built = Result<Node, DslError>;

fn node(expr: Expr, below: usize) -> Built {
    let levels = below + 1;
    if levels > MAX_LEVELS { Err(too_deep(MAX_LEVELS, "operators")) } else { Ok(Node { expr, levels }) }
}

pub(crate) fn leaf(expr: Expr) -> Node {
    Node { expr, levels: 0 }
}

/// The expressions and the greatest of their levels.
fn split(nodes: Vec<Node>) -> (Vec<Expr>, usize) {
    let below = nodes.iter().map(|node| node.levels).max().unwrap_or(0);
    (nodes.into_iter().map(|node| node.expr).collect(), below)
}

pub(crate) fn list(nodes: Vec<Node>) -> Built {
    let (list, below) = split(nodes);
    node(Expr::List(list), below)
}

/// `and`, where `conjunction`, or `or`. A chain lies flat: `a and (b and c)` is three conditions at one level.
pub(crate) fn logic(conjunction: bool, nodes: Vec<Node>) -> Built {
    let mut flat = Vec::new();
    let mut below = 0;
    let mut nodes = nodes;
    if nodes.len() == 1
        && let Some(only) = nodes.pop()
    {
        return Ok(only);
    }
    for part in nodes {
        match part.expr {
            Expr::And(inner) if conjunction => {
                below = below.max(part.levels - 1);
                flat.extend(inner);
            }
            Expr::Or(inner) if !conjunction => {
                below = below.max(part.levels - 1);
                flat.extend(inner);
            }
            other => {
                below = below.max(part.levels);
                flat.push(other);
            }
        }
    }
    if flat.is_empty() {
        let name = if conjunction { "and" } else { "or" };
        return Err(DslError::new(code::ARGUMENTS, format!("expected conditions in `{name}`, found none")));
    }
    node(if conjunction { Expr::And(flat) } else { Expr::Or(flat) }, below)
}

pub(crate) fn not(inner: Node) -> Built {
    node(Expr::Not(Box::new(inner.expr)), inner.levels)
}

/// Minus; the sign of a number goes into the number.
pub(crate) fn neg(inner: Node) -> Built {
    let folded = match &inner.expr {
        Expr::Literal(Literal::Int(value)) => value.checked_neg().map(Literal::Int),
        Expr::Literal(Literal::Duration(value)) => value.checked_neg().map(Literal::Duration),
        Expr::Literal(Literal::Float(value)) => Some(Literal::Float(-value)),
        _ => None,
    };
    match folded {
        Some(literal) => Ok(leaf(Expr::Literal(literal))),
        None => {
            value(&inner.expr)?;
            node(Expr::Neg(Box::new(inner.expr)), inner.levels)
        }
    }
}

/// An operator between two operands, by its symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Infix {
    Binary(BinaryOp),
    Relation(RelationOp, RelationForm),
}

/// The operator written so. `>`, `<` and `!~` are comparisons here; [`binary`] makes structure of them between spans.
pub(crate) fn infix(symbol: &str) -> Option<Infix> {
    let lower = symbol.to_ascii_lowercase();
    if let Some(op) = BinaryOp::ALL.into_iter().find(|op| op.symbol() == lower) {
        return Some(Infix::Binary(op));
    }
    let (form, plain) = match lower.split_at_checked(1)? {
        ("!", plain) => (RelationForm::Negated, plain),
        ("&", plain) => (RelationForm::Union, plain),
        _ => (RelationForm::Plain, lower.as_str()),
    };
    let op = RelationOp::ALL.into_iter().find(|op| op.symbol() == plain)?;
    Some(Infix::Relation(op, form))
}

/// A comparison, arithmetic or, between spans, structure.
pub(crate) fn binary(op: Infix, left: Node, right: Node) -> Built {
    let below = left.levels.max(right.levels);
    let spans = (is_span(&left.expr), is_span(&right.expr));
    let (left, right) = (Box::new(left.expr), Box::new(right.expr));
    let op = match (op, spans) {
        (Infix::Binary(BinaryOp::Gt), (true, true)) => Infix::Relation(RelationOp::Child, RelationForm::Plain),
        (Infix::Binary(BinaryOp::Lt), (true, true)) => Infix::Relation(RelationOp::Parent, RelationForm::Plain),
        (Infix::Binary(BinaryOp::NotMatch), (true, true)) => {
            Infix::Relation(RelationOp::Sibling, RelationForm::Negated)
        }
        (op, _) => op,
    };
    match op {
        Infix::Relation(op, form) => {
            if spans != (true, true) {
                return Err(no_span(&relation_symbol(op, form), if spans.0 { &right } else { &left }));
            }
            node(Expr::Relation { op, form, left, right }, below)
        }
        Infix::Binary(op) => {
            value(&left)?;
            value(&right)?;
            node(Expr::Binary { op, left, right }, below)
        }
    }
}

/// The error of an operand that is not a span.
fn no_span(symbol: &str, operand: &Expr) -> DslError {
    let error = |message: String| DslError::new(code::STRUCTURE, message);
    let hint = "name spans: `match (a: service.name = 'shop', b: status = error where a >> b)`";
    match operand {
        Expr::Field(Field { of: Some(Of::Binding(name)), .. }) => {
            error(format!("`{symbol}` relates spans, found a field of the span `{name}`"))
                .hint(format!("write `{name}` alone"))
        }
        Expr::Field(field) if let Some(name) = field.word() => {
            error(format!("`{symbol}` relates spans, and no span is called `{}` here", crate::lexis::short(name)))
                .hint(hint)
        }
        _ => error(format!("`{symbol}` relates spans, found a value")).hint(hint),
    }
}

/// How a relation is written.
pub(crate) fn relation_symbol(op: RelationOp, form: RelationForm) -> String {
    let sign = match form {
        RelationForm::Plain => "",
        RelationForm::Negated => "!",
        RelationForm::Union => "&",
    };
    format!("{sign}{}", op.symbol())
}

pub(crate) fn in_list(expr: Node, list: Vec<Node>, negated: bool) -> Built {
    if list.is_empty() {
        return Err(DslError::new(code::ARGUMENTS, "expected at least one value in the list of `in`, found none"));
    }
    value(&expr.expr)?;
    let (list, below) = split(list);
    let below = below.max(expr.levels);
    node(Expr::In { expr: Box::new(expr.expr), list, negated }, below)
}

pub(crate) fn between(expr: Node, low: Node, high: Node, negated: bool) -> Built {
    let below = expr.levels.max(low.levels).max(high.levels);
    for part in [&expr, &low, &high] {
        value(&part.expr)?;
    }
    let (expr, low, high) = (Box::new(expr.expr), Box::new(low.expr), Box::new(high.expr));
    node(Expr::Between { expr, low, high, negated }, below)
}

/// `aggregate where condition`
pub(crate) fn filtered(aggregate: Node, condition: Node) -> Built {
    rules::rows_only(&condition.expr, "the `where` of an aggregate").map_err(|error| match error.code {
        code::AGGREGATE => {
            error.hint("`where` reaches as far as it can; put brackets around: `(count() where …) / count()`")
        }
        _ => error,
    })?;
    let below = aggregate.levels.max(condition.levels);
    let twice =
        || Err(DslError::new(code::DUPLICATE, "the aggregate has two `where`").hint("join the conditions with `and`"));
    match aggregate.expr {
        Expr::Aggregate(Aggregate { where_: Some(_), .. }) | Expr::Plugin(PluginCall { where_: Some(_), .. }) => {
            twice()
        }
        Expr::Aggregate(call) => {
            node(Expr::Aggregate(Aggregate { where_: Some(Box::new(condition.expr)), ..call }), below)
        }
        Expr::Plugin(call) => node(Expr::Plugin(PluginCall { where_: Some(Box::new(condition.expr)), ..call }), below),
        _ => Err(DslError::new(code::SYNTAX, "`where` stands after something that is not an aggregate").hint(
            "after an aggregate `where` filters that aggregate; the query's `where` stands before `by` and `select`",
        )),
    }
}

/// A plugin's function.
pub(crate) fn plugin(name: String, args: Vec<Node>, pos: Pos) -> Built {
    if name.is_empty() {
        return Err(DslError::new(code::UNKNOWN_FUNCTION, "expected a name after `plugin.`, found none"));
    }
    let (args, below) = split(args);
    node(Expr::Plugin(PluginCall { name, args, where_: None, pos }), below)
}

/// A function or aggregate by its name.
pub(crate) fn call(name: &str, args: Vec<Node>, pos: Pos) -> Built {
    if name.eq_ignore_ascii_case("exact") {
        return exact(args);
    }
    let Some(known) = functions::find(name) else {
        let message = format!("no function is called `{}`", crate::lexis::short(name));
        return Err(DslError::new(code::UNKNOWN_FUNCTION, message).hint_if(functions::hint(name)));
    };
    let name = name.to_ascii_lowercase();
    let count = args.len();
    if count < known.least || known.most.is_some_and(|most| count > most) {
        let wanted = match (known.least, known.most) {
            (1, Some(1)) => "1 argument".into(),
            (least, Some(most)) if least == most => format!("{least} arguments"),
            (least, Some(most)) => format!("{least} to {most} arguments"),
            (least, None) => format!("at least {least} argument{}", if least == 1 { "" } else { "s" }),
        };
        let message = format!("`{name}` expected {wanted}, found {count}");
        return Err(
            DslError::new(code::ARGUMENTS, message).hint(format!("it is written `{}`: {}", known.usage, known.doc))
        );
    }
    let (args, below) = split(args);
    args.iter().try_for_each(value)?;
    if known.kind != Kind::Aggregate {
        return node(Expr::Call(Call { name, args, pos }), below);
    }
    args.iter().try_for_each(|arg| rules::rows_only(arg, &format!("the arguments of `{name}`")))?;
    node(Expr::Aggregate(Aggregate { func: name, args, where_: None, exact: false, pos }), below)
}

/// `exact(aggregate)`, which is a property of the aggregate.
fn exact(mut args: Vec<Node>) -> Built {
    match (args.pop(), args.is_empty()) {
        (Some(Node { expr: Expr::Aggregate(call), levels }), true) => {
            Ok(Node { expr: Expr::Aggregate(Aggregate { exact: true, ..call }), levels })
        }
        _ => Err(DslError::new(code::ARGUMENTS, "`exact` expected an aggregate in its brackets")
            .hint("write it as `exact(count_distinct(user.id))`")),
    }
}

fn is_span(expr: &Expr) -> bool {
    matches!(expr, Expr::Binding(_) | Expr::Relation { .. })
}

/// Refuses a span where a value is wanted.
fn value(expr: &Expr) -> Result<(), DslError> {
    let error = |message: String| DslError::new(code::STRUCTURE, message);
    match expr {
        Expr::Binding(span) => Err(error(format!("`{}` is a span, expected a value", span.name))
            .hint(format!("name one of its fields, as in `{}.duration`", span.name))
            .at(span.pos, span.name.chars().count())),
        Expr::Relation { op, form, .. } => {
            Err(error(format!("`{}` relates spans and is not a value", relation_symbol(*op, *form))))
        }
        _ => Ok(()),
    }
}
