//! Ast -> text, with as few brackets as reading it back needs.

use std::fmt;

use crate::ast::{
    Aggregate, BinaryOp, Call, Expr, Field, JoinKey, Literal, Of, PluginCall, Query, Range, Step, default_name,
};
use crate::build::relation_symbol;
use crate::expression::{AND, COMPARISON, MINUS, NOT, OR, PRODUCT, SUM};
use crate::lexis::{is_bare, write_bytes, write_duration, write_name, write_quoted, write_time};
use crate::names::{self, Names};
use crate::stack::with_room;

/// Binds looser than anything: an aggregate with its `where`.
const FILTERED: u8 = 0;
/// Binds tighter than anything: literals, fields, calls.
const OPERAND: u8 = 8;

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&query(self))
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&expr_to_text(self))
    }
}

/// An expression as text. Outside of its query the names of `match` are not known, so that reading it back gives the fields
/// of bound spans as plain fields.
pub fn expr_to_text(expr: &Expr) -> String {
    Printer { names: &Names::default() }.text(expr)
}

impl Names {
    /// The names that a finished query declares.
    pub(crate) fn of_query(query: &Query) -> Names {
        let bindings = query.matches.iter().flat_map(|matches| &matches.bindings);
        Names {
            bindings: bindings.map(|bind| bind.name.clone()).collect(),
            joins: query.joins.iter().map(|join| join.source).collect(),
            in_match: false,
        }
    }
}

/// The text form of a query, on one line.
fn query(query: &Query) -> String {
    let names = Names::of_query(query);
    let printer = Printer { names: &names };
    let mut out = format!("from {}", query.from.name());
    match query.range {
        Some(Range::Last(nanos)) => out += &format!(" last {}", write_duration(nanos)),
        Some(Range::Between { from, to }) => out += &format!(" from t'{}' to t'{}'", write_time(from), write_time(to)),
        None => {}
    }
    if let Some(matches) = &query.matches {
        let bindings = matches.bindings.iter().map(|bind| format!("{}: {}", bind.name, printer.text(&bind.expr)));
        out += &format!(" match ({}", list(bindings));
        if let Some(condition) = &matches.where_ {
            let inside = Names { in_match: true, ..names.clone() };
            out += &format!(" where {}", Printer { names: &inside }.text(condition));
        }
        out.push(')');
    }
    if let Some(condition) = &query.where_ {
        out += &format!(" where {}", printer.text(condition));
    }
    if !query.lets.is_empty() {
        out += " let ";
        out +=
            &list(query.lets.iter().map(|define| format!("{} = {}", name(&define.name), printer.text(&define.expr))));
    }
    if !query.by.is_empty() {
        out += " by ";
        out += &list(query.by.iter().map(|by| printer.aliased(&by.expr, by.alias.as_deref())));
    }
    if let Some(fill) = query.fill {
        out += &format!(" fill {}", fill.name());
    }
    if !query.select.is_empty() {
        out += " select ";
        out += &list(query.select.iter().map(|column| printer.column(&column.expr, &column.name)));
    }
    if let Some(condition) = &query.having {
        out += &format!(" having {}", printer.text(condition));
    }
    if !query.order.is_empty() {
        out += " order ";
        out += &list(query.order.iter().map(|order| printer.key(&order.expr, order.descending)));
    }
    if let Some(limit) = query.limit {
        out += &format!(" limit {limit}");
    }
    if let Some(cursor) = &query.cursor {
        out += " cursor ";
        write_quoted(&mut out, cursor, '\'');
    }
    if let Some(compare) = query.compare {
        out += &format!(" compare {}", write_duration(compare.offset));
    }
    for join in &query.joins {
        out += &format!(" join {}", join.source.name());
        if join.where_ != Expr::Literal(Literal::Bool(true)) {
            out += &format!(" where {}", expr_to_text(&join.where_));
        }
        out += " on ";
        out += &list(join.on.iter().map(|key| printer.join_key(key)));
    }
    if let Some(budget) = query.budget {
        let bytes = budget.bytes.map(|bytes| format!("bytes {}", write_bytes(bytes)));
        let time = budget.time.map(|nanos| format!("time {}", write_duration(nanos)));
        if bytes.is_some() || time.is_some() {
            out += &format!(" budget {}", list(bytes.into_iter().chain(time)));
        }
    }
    if let Some(returned) = &query.return_ {
        out += &format!(" return {}", name(returned));
    }
    if query.dry_run {
        out += " dry_run";
    }
    out
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn name(text: &str) -> String {
    let mut out = String::new();
    write_name(&mut out, text);
    out
}

/// Prints expressions that stand where `names` are known.
pub(crate) struct Printer<'a> {
    pub(crate) names: &'a Names,
}

impl Printer<'_> {
    pub(crate) fn text(&self, expr: &Expr) -> String {
        let mut out = String::new();
        self.write(&mut out, expr, FILTERED);
        out
    }

    /// A group: its name only where it has one of its own.
    pub(crate) fn aliased(&self, expr: &Expr, alias: Option<&str>) -> String {
        match alias {
            Some(alias) => format!("{} as {}", self.text(expr), name(alias)),
            None => self.text(expr),
        }
    }

    /// A column: its name only where it is not the one that it would get.
    fn column(&self, expr: &Expr, name: &str) -> String {
        self.aliased(expr, (default_name(expr) != name).then_some(name))
    }

    pub(crate) fn key(&self, expr: &Expr, descending: bool) -> String {
        format!("{}{}", self.text(expr), if descending { " desc" } else { "" })
    }

    pub(crate) fn join_key(&self, key: &JoinKey) -> String {
        match key {
            JoinKey::Trace => "trace".into(),
            JoinKey::Bin => "bin".into(),
            JoinKey::Field(field) => {
                let mut out = String::new();
                match field.word() {
                    Some(word) if word.eq_ignore_ascii_case("trace") || word.eq_ignore_ascii_case("bin") => {
                        write_quoted(&mut out, word, '`');
                    }
                    _ => self.field(&mut out, field),
                }
                out
            }
        }
    }

    /// Writes `expr`, in brackets if it binds looser than `least`.
    fn write(&self, out: &mut String, expr: &Expr, least: u8) {
        with_room(|| self.write_here(out, expr, least));
    }

    fn write_here(&self, out: &mut String, expr: &Expr, least: u8) {
        let power = power(expr);
        if power < least {
            out.push('(');
            self.write(out, expr, FILTERED);
            out.push(')');
            return;
        }
        match expr {
            Expr::Literal(literal) => write_literal(out, literal),
            Expr::List(members) => self.members(out, members, '[', ']'),
            Expr::Field(field) => self.field(out, field),
            Expr::Binding(span) => out.push_str(&span.name),
            Expr::And(parts) => self.chain(out, parts, " and ", NOT),
            Expr::Or(parts) => self.chain(out, parts, " or ", AND),
            Expr::Not(inner) => {
                out.push_str("not ");
                self.write(out, inner, NOT);
            }
            Expr::Neg(inner) => {
                out.push('-');
                self.write(out, inner, MINUS);
            }
            Expr::Binary { op, left, right } => {
                // A comparison takes no comparison on either side; arithmetic goes on at its left.
                self.write(out, left, if power == COMPARISON { SUM } else { power });
                *out += &format!(" {} ", op.symbol());
                self.write(out, right, power + 1);
            }
            Expr::Relation { op, form, left, right } => {
                self.write(out, left, COMPARISON);
                *out += &format!(" {} ", relation_symbol(*op, *form));
                self.write(out, right, SUM);
            }
            Expr::In { expr, list, negated } => {
                self.write(out, expr, SUM);
                out.push_str(if *negated { " not in " } else { " in " });
                self.members(out, list, '(', ')');
            }
            Expr::Between { expr, low, high, negated } => {
                self.write(out, expr, SUM);
                out.push_str(if *negated { " not between " } else { " between " });
                self.write(out, low, SUM);
                out.push_str(" and ");
                self.write(out, high, SUM);
            }
            Expr::Call(Call { name, args, .. }) => self.call(out, name, args),
            Expr::Aggregate(Aggregate { func, args, where_, exact, .. }) => {
                out.push_str(if *exact { "exact(" } else { "" });
                self.call(out, func, args);
                out.push_str(if *exact { ")" } else { "" });
                self.filter(out, where_.as_deref());
            }
            Expr::Plugin(PluginCall { name, args, where_, .. }) => {
                out.push_str("plugin.");
                write_name(out, name);
                self.members(out, args, '(', ')');
                self.filter(out, where_.as_deref());
            }
        }
    }

    fn call(&self, out: &mut String, name: &str, args: &[Expr]) {
        out.push_str(name);
        self.members(out, args, '(', ')');
    }

    fn filter(&self, out: &mut String, condition: Option<&Expr>) {
        if let Some(condition) = condition {
            out.push_str(" where ");
            self.write(out, condition, OR);
        }
    }

    fn chain(&self, out: &mut String, parts: &[Expr], word: &str, least: u8) {
        for (i, part) in parts.iter().enumerate() {
            out.push_str(if i > 0 { word } else { "" });
            self.write(out, part, least);
        }
    }

    fn members(&self, out: &mut String, members: &[Expr], open: char, close: char) {
        out.push(open);
        for (i, member) in members.iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            self.write(out, member, FILTERED);
        }
        out.push(close);
    }

    pub(crate) fn field(&self, out: &mut String, field: &Field) {
        let Field { of, scope, name, path, .. } = field;
        let other = match of {
            Some(Of::Parent) => Some("parent"),
            Some(Of::Root) => Some("root"),
            Some(Of::Binding(name)) => Some(name.as_str()),
            Some(Of::Joined(source)) => Some(source.name()),
            None => None,
        };
        for word in other.into_iter().chain(scope.map(|scope| scope.name())) {
            out.push_str(word);
            out.push('.');
        }
        // A key that begins like a scope, or in `match` a field called like a span, would be read as something else.
        let claimed = match name.split_once('.') {
            Some((first, _)) if of.is_none() && scope.is_none() => self.names.claims(first),
            Some((first, _)) if scope.is_none() => names::scope(first).is_some(),
            None if of.is_none() && scope.is_none() => {
                self.names.in_match && path.is_empty() && self.names.bindings.contains(name)
            }
            _ => false,
        };
        if claimed || !is_bare(name) {
            write_quoted(out, name, '`');
        } else {
            out.push_str(name);
        }
        for step in path {
            out.push('[');
            match step {
                Step::Key(key) => write_quoted(out, key, '\''),
                Step::Index(index) => *out += &index.to_string(),
            }
            out.push(']');
        }
    }
}

/// How tight an expression binds.
fn power(expr: &Expr) -> u8 {
    match expr {
        Expr::Or(_) => OR,
        Expr::And(_) => AND,
        Expr::Not(_) => NOT,
        Expr::Binary { op: BinaryOp::Add | BinaryOp::Sub, .. } => SUM,
        Expr::Binary { op, .. } if op.is_arithmetic() => PRODUCT,
        Expr::Binary { .. } | Expr::In { .. } | Expr::Between { .. } => COMPARISON,
        Expr::Relation { .. } => COMPARISON,
        Expr::Neg(_) => MINUS,
        Expr::Aggregate(Aggregate { where_: Some(_), .. }) | Expr::Plugin(PluginCall { where_: Some(_), .. }) => {
            FILTERED
        }
        _ => OPERAND,
    }
}

fn write_literal(out: &mut String, literal: &Literal) {
    match literal {
        Literal::Null => out.push_str("null"),
        Literal::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Literal::Int(value) => *out += &value.to_string(),
        // The debug form keeps a point or an exponent, so that it reads back as a double.
        Literal::Float(value) => *out += &format!("{value:?}"),
        Literal::Str(text) => write_quoted(out, text, '\''),
        Literal::Duration(nanos) => *out += &write_duration(*nanos),
        Literal::Bytes(bytes) => *out += &write_bytes(*bytes),
        Literal::Time(nanos) => *out += &format!("t'{}'", write_time(*nanos)),
    }
}
