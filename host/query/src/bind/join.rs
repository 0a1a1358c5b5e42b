//! Fields of joined rows: `logs.count`, `logs.first.body`, `avg(metrics.value)`.
//!
//! Each is an aggregate over the joined rows that have the keys of the join in common with a row, or with a group: the join's
//! own query is made of them, with the keys as its groups.

use prism_dsl::functions::{self, Kind as FunctionKind};
use prism_dsl::{
    Aggregate, By, Call, Expr, Field as AstField, Join, JoinKey, Literal, Of, PluginCall, Pos, Query, Scope, Select,
    Source,
};
use prism_model::Signal;

use super::query::{Plan, bin_expr, plan_of};
use super::{Binder, Bound, Place, shown};
use crate::error::{QueryError, code};
use crate::eval::node::{Function, Level, Node, Unit};
use crate::eval::vals::Scalar;
use crate::joins::{JOINED_FIRST, JoinPlan, OfGroup};

impl<'q> Binder<'q> {
    /// A field of joined rows where one value is asked for.
    pub(super) fn joined(&mut self, source: Source, field: &AstField) -> Result<Bound, QueryError> {
        let name = shown(field);
        let Some(aggregate) = member(field) else {
            let message = format!("expected one value, found `{name}`, of which many rows may be joined");
            let own = name.strip_prefix(source.name()).unwrap_or(&name).trim_start_matches('.');
            return Err(QueryError::at(code::TYPE, field.pos, name.chars().count(), message)
                .with_hint(format!("write `{0}.first.{own}`, `{0}.max.{own}` or `{0}.count`", source.name())));
        };
        self.joined_value(source, Expr::Aggregate(aggregate), &name)
    }

    /// An aggregate over joined rows; `None` for one over the query's own.
    pub(super) fn joined_aggregate(&mut self, call: &Aggregate) -> Result<Option<Bound>, QueryError> {
        let Some(source) = source_of(call.args.iter().chain(call.where_.as_deref()))? else { return Ok(None) };
        let own = Aggregate {
            args: call.args.iter().map(of_joined_row).collect(),
            where_: call.where_.as_deref().map(|condition| Box::new(of_joined_row(condition))),
            ..call.clone()
        };
        self.joined_value(source, Expr::Aggregate(own), &call.func).map(Some)
    }

    /// The same for an aggregate of a plugin.
    pub(super) fn joined_plugin(&mut self, call: &PluginCall) -> Result<Option<Bound>, QueryError> {
        let Some(source) = source_of(call.args.iter().chain(call.where_.as_deref()))? else { return Ok(None) };
        let own = of_joined_row(&Expr::Plugin(call.clone()));
        self.joined_value(source, own, &call.name).map(Some)
    }

    fn joined_value(&mut self, source: Source, expr: Expr, name: &str) -> Result<Bound, QueryError> {
        let query = self.query;
        let found = query.joins.iter().enumerate().find(|(_, join)| join.source == source);
        let Some((number, join)) = found else {
            return Err(QueryError::Engine(format!("a field of {} that are not joined", source.name())));
        };
        let (func, pos) = match &expr {
            Expr::Aggregate(aggregate) => (aggregate.func.as_str(), aggregate.pos),
            Expr::Plugin(call) => ("", call.pos),
            _ => ("", Pos::NONE),
        };
        let missing = match func {
            "count" | "count_distinct" | "sum" => Scalar::Int(0),
            "rate" => Scalar::Double(0.0),
            _ => Scalar::Null,
        };
        self.joined_outputs.resize(query.joins.len(), Vec::new());
        let output = match self.joined_outputs[number].iter().position(|(known, _)| *known == expr) {
            Some(known) => known,
            None => {
                let unit = self.joined_unit(join, &expr)?;
                self.joined_outputs[number].push((expr, unit));
                self.joined_outputs[number].len() - 1
            }
        };
        let unit = self.joined_outputs[number][output].1;
        if self.place == Place::Group {
            let keys = self.group_keys(join, name, pos)?;
            let wanted = |known: &OfGroup| (known.join, known.output) == (number, output);
            let at = self.joined_of_groups.iter().position(wanted).unwrap_or_else(|| {
                self.joined_of_groups.push(OfGroup { join: number, output, keys, missing });
                self.joined_of_groups.len() - 1
            });
            return Ok(Bound::value(Node::Field(JOINED_FIRST + at), unit));
        }
        let (keys, child) = self.row_keys(join, pos)?;
        let mut node = Node::Joined { join: number, output, keys };
        if let Some(child) = child {
            node = Node::First { child, expr: Box::new(node) };
        }
        if !missing.is_null() {
            node = Node::Call { function: Function::Coalesce, args: vec![node, Node::Const(missing)] };
        }
        Ok(Bound::value(node, unit))
    }

    /// The keys of a row. A point has the traces of its exemplars: it goes by the first with joined rows.
    fn row_keys(&mut self, join: &'q Join, pos: Pos) -> Result<(Vec<Node>, Option<Level>), QueryError> {
        let mut child = None;
        let mut keys = Vec::with_capacity(join.on.len());
        for key in &join.on {
            let expr = match key {
                JoinKey::Trace => trace_field(self.signal == Signal::Metrics),
                JoinKey::Bin => bin_expr(self.query).cloned().ok_or_else(|| no_bin(pos))?,
                JoinKey::Field(field) => Expr::Field(field.clone()),
            };
            let bound = self.in_rows(|binder| binder.value(&expr))?;
            child = super::value::join_children(child, bound.child)?;
            keys.push(bound.node);
        }
        Ok((keys, child))
    }

    /// Which of the groups' keys are those of a join.
    fn group_keys(&self, join: &Join, name: &str, pos: Pos) -> Result<Vec<usize>, QueryError> {
        let by = &self.query.by;
        let key_of = |key: &JoinKey| {
            let (found, what) = match key {
                JoinKey::Bin => (by.iter().position(|by| Some(bin_of(self.query, by)) == bin_expr(self.query)), None),
                JoinKey::Trace => {
                    (by.iter().position(|by| is_field(&by.expr, "trace_id")), Some("trace_id".to_owned()))
                }
                JoinKey::Field(field) => {
                    let same = |by: &By| {
                        by.expr == Expr::Field(field.clone())
                            || field.word().is_some_and(|w| by.alias.as_deref() == Some(w))
                    };
                    (by.iter().position(same), Some(shown(field)))
                }
            };
            found.ok_or_else(|| match what {
                None => no_bin(pos),
                Some(key) => {
                    let message = format!("`{name}` is joined by `{key}`, which is no group");
                    let hint = format!(
                        "add `{key}` to `by`, or aggregate the rows' values: `sum({}.count)`",
                        join.source.name()
                    );
                    QueryError::at(code::UNGROUPED, pos, name.chars().count(), message).with_hint(hint)
                }
            })
        };
        join.on.iter().map(key_of).collect()
    }

    /// The unit of an aggregate over joined rows.
    fn joined_unit(&self, join: &Join, expr: &Expr) -> Result<Unit, QueryError> {
        let query = self.join_query(join, std::slice::from_ref(expr))?;
        let plan = self.plan_join(join, &query)?;
        Ok(plan.columns.last().map_or(Unit::Plain, |column| column.unit))
    }

    /// The plans of all joins, once every field of them is known.
    pub(super) fn join_plans(&mut self) -> Result<Vec<JoinPlan>, QueryError> {
        let query = self.query;
        let mut plans = Vec::with_capacity(query.joins.len());
        self.joined_outputs.resize(query.joins.len(), Vec::new());
        for (number, join) in query.joins.iter().enumerate() {
            let outputs: Vec<Expr> = self.joined_outputs[number].iter().map(|(expr, _)| expr.clone()).collect();
            let mut own = self.join_query(join, &outputs)?;
            own.where_ = Some(join.where_.clone()).filter(|all| *all != Expr::Literal(Literal::Bool(true)));
            // Bound although nothing is asked of it, so that mistakes in it are told.
            let plan = self.plan_join(join, &own)?;
            let asked = !outputs.is_empty();
            let keys = if asked { self.row_keys(join, Pos::NONE)?.0 } else { Vec::new() };
            let trace = join.on.iter().position(|key| *key == JoinKey::Trace);
            plans.push(JoinPlan { plan: asked.then(|| Box::new(plan)), trace, keys });
        }
        Ok(plans)
    }

    /// The query of a join: groups by its keys.
    fn join_query(&self, join: &Join, outputs: &[Expr]) -> Result<Query, QueryError> {
        let mut query = Query::new(join.source);
        query.range = self.query.range;
        for key in &join.on {
            let expr = match key {
                JoinKey::Trace => trace_field(join.source == Source::Metrics),
                JoinKey::Bin => bin_expr(self.query).cloned().ok_or_else(|| no_bin(Pos::NONE))?,
                JoinKey::Field(field) => Expr::Field(field.clone()),
            };
            query.by.push(By { expr, alias: None });
        }
        // Names that no field has.
        let column = |(n, expr): (usize, &Expr)| Select { name: format!("\u{0}{n}"), expr: expr.clone() };
        query.select = outputs.iter().enumerate().map(column).collect();
        Ok(query)
    }

    fn plan_join(&self, join: &Join, query: &Query) -> Result<Plan, QueryError> {
        let signal = match join.source {
            Source::Logs => Signal::Logs,
            Source::Metrics => Signal::Metrics,
            _ => Signal::Spans,
        };
        let mut binder = Binder::new(query, signal, self.now, &self.plugins);
        if signal == Signal::Metrics && join.on.contains(&JoinKey::Trace) {
            // Points have traces by their exemplars.
            binder.level = Level::Exemplar;
        }
        plan_of(binder, usize::MAX)
    }
}

/// The aggregate that a dotted name stands for: `count`, or one before a field's name. `None` for a field of a joined row.
pub(super) fn member(field: &AstField) -> Option<Aggregate> {
    if field.scope.is_some() {
        return None;
    }
    let (func, rest) = match field.name.split_once('.') {
        Some((func, rest)) => (func, Some(rest)),
        None => (field.name.as_str(), None),
    };
    let known = functions::percentile(func).is_some()
        || functions::find(func).is_some_and(|function| function.kind == FunctionKind::Aggregate);
    let args = match rest {
        _ if !known => return None,
        None if func == "count" && field.path.is_empty() => Vec::new(),
        None => return None,
        Some(rest) => {
            let scoped = rest.split_once('.').and_then(|(scope, name)| {
                let scope = Scope::ALL.into_iter().find(|known| known.name() == scope)?;
                (!name.is_empty()).then_some((scope, name))
            });
            let (scope, name) = scoped.map_or((None, rest), |(scope, name)| (Some(scope), name));
            let own = AstField { scope, path: field.path.clone(), pos: field.pos, ..AstField::new(name) };
            vec![Expr::Field(own)]
        }
    };
    Some(Aggregate { func: func.to_owned(), args, where_: None, exact: false, pos: field.pos })
}

/// The signal whose joined rows an aggregate is over; `None` for the query's own rows.
fn source_of<'e>(exprs: impl Iterator<Item = &'e Expr>) -> Result<Option<Source>, QueryError> {
    let mut source = None;
    let (mut others, mut first) = (false, None);
    exprs.for_each(|expr| {
        expr.walk(&mut |part| {
            let Expr::Field(field) = part else { return };
            match field.of {
                Some(Of::Joined(of)) if member(field).is_none() && source.is_none_or(|known| known == of) => {
                    source = Some(of);
                    first = first.or(Some(field));
                }
                _ => others = true,
            }
        });
    });
    let (Some(source), Some(first)) = (source, first) else { return Ok(None) };
    if others {
        let name = shown(first);
        let message = format!("expected fields of {} alone beside `{name}`", source.name());
        return Err(QueryError::at(code::TYPE, first.pos, name.chars().count(), message)
            .with_hint("an aggregate is over the rows of one signal; join two aggregates by a formula"));
    }
    Ok(Some(source))
}

/// An expression over joined rows as one over rows of their own.
fn of_joined_row(expr: &Expr) -> Expr {
    let all = |parts: &[Expr]| parts.iter().map(of_joined_row).collect::<Vec<_>>();
    let boxed = |part: &Expr| Box::new(of_joined_row(part));
    match expr {
        Expr::Field(field) => Expr::Field(AstField { of: None, ..field.clone() }),
        Expr::List(parts) => Expr::List(all(parts)),
        Expr::And(parts) => Expr::And(all(parts)),
        Expr::Or(parts) => Expr::Or(all(parts)),
        Expr::Not(inner) => Expr::Not(boxed(inner)),
        Expr::Neg(inner) => Expr::Neg(boxed(inner)),
        Expr::Binary { op, left, right } => Expr::Binary { op: *op, left: boxed(left), right: boxed(right) },
        Expr::In { expr, list, negated } => Expr::In { expr: boxed(expr), list: all(list), negated: *negated },
        Expr::Between { expr, low, high, negated } => {
            Expr::Between { expr: boxed(expr), low: boxed(low), high: boxed(high), negated: *negated }
        }
        Expr::Call(call) => Expr::Call(Call { args: all(&call.args), ..call.clone() }),
        Expr::Plugin(call) => {
            let where_ = call.where_.as_deref().map(boxed);
            Expr::Plugin(PluginCall { args: all(&call.args), where_, ..call.clone() })
        }
        other => other.clone(),
    }
}

fn trace_field(of_exemplars: bool) -> Expr {
    let scope = of_exemplars.then_some(Scope::Exemplar);
    Expr::Field(AstField { scope, ..AstField::new("trace_id") })
}

fn is_field(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Field(field) if field.word() == Some(name))
}

/// What a group is, with names of `let` written out.
fn bin_of<'q>(query: &'q Query, by: &'q By) -> &'q Expr {
    super::query::written_out(query, &by.expr)
}

fn no_bin(pos: Pos) -> QueryError {
    QueryError::at(code::TYPE, pos, 1, "`join … on bin` goes by the time bin of the groups, and there is none")
        .with_hint("add `bin(time, 1m)` to `by`")
}
