//! Calls of plugins: their names, number and types of arguments, and where aggregates may stand.

use std::sync::Arc;

use prism_dsl::{Expr, PluginCall};
use prism_plugin::{Signature, ValueType};

use super::condition::position;
use super::value::join_children;
use super::{Binder, Bound, Place};
use crate::error::{QueryError, code};
use crate::eval;
use crate::eval::node::{Function, Level, Node, Unit};
use crate::eval::plugin::constant;
use crate::eval::vals::Scalar;
use crate::events::NoRows;
use crate::field::From;
use crate::fixed::shown_types;
use crate::group::{Accumulator, AccumulatorKind, Output};
use crate::plugins::{Called, width};
use crate::types;

impl Binder<'_> {
    /// A call of a function or aggregate of a plugin.
    pub(super) fn plugin(&mut self, call: &PluginCall) -> Result<Bound, QueryError> {
        let called = self.plugins.find(call)?;
        let wrong = |code, message: String| QueryError::at(code, call.pos, width(call), message);
        if called.function.aggregates() {
            return match self.place {
                Place::Group => self.plugin_aggregate(call, called),
                Place::Row | Place::Spans => {
                    let message = format!("expected a value of a row, found the aggregate `plugin.{}`", call.name);
                    Err(wrong(code::UNGROUPED, message).with_hint("aggregates stand in `select`, `having` and `order`"))
                }
            };
        }
        if call.where_.is_some() {
            let message = format!("`plugin.{}` gives a value for each row and aggregates none", call.name);
            return Err(wrong(code::TYPE, message)
                .with_hint("only aggregates have a `where`; put the choice into `if(condition, value, null)`"));
        }
        let (args, child) = self.arguments(call, called.function.signature(), false)?;
        Ok(Bound { node: Node::Call { function: Function::Plugin(called), args }, unit: Unit::Plain, child })
    }

    /// An aggregate of a plugin over the rows of a group, as a field of the groups.
    fn plugin_aggregate(&mut self, call: &PluginCall, called: Arc<Called>) -> Result<Bound, QueryError> {
        if let Some(joined) = self.joined_plugin(call)? {
            return Ok(joined);
        }
        let source = (Some(Expr::Plugin(call.clone())), None);
        let known = self.aggregates.sources.iter().position(|known| *known == source);
        let accumulator = match known {
            Some(known) => known,
            None => {
                let accumulator = self.in_rows(|binder| {
                    let (beside, _) = binder.arguments(call, called.function.signature(), true)?;
                    let filter = call.where_.as_deref().map(|e| binder.condition(e)).transpose()?;
                    let (kind, plugin) = (AccumulatorKind::Plugin, Some(called));
                    Ok(Accumulator { kind, arg: None, filter, unit: Unit::Plain, beside, level: Level::Row, plugin })
                })?;
                self.aggregates.accumulators.push(accumulator);
                self.aggregates.sources.push(source);
                self.aggregates.accumulators.len() - 1
            }
        };
        let wanted = (accumulator, Output::Value, Unit::Plain);
        let number = self.aggregates.outputs.iter().position(|o| *o == wanted).unwrap_or_else(|| {
            self.aggregates.outputs.push(wanted);
            self.aggregates.outputs.len() - 1
        });
        Ok(Bound::value(Node::Field(self.query.by.len() + number), Unit::Plain))
    }

    /// The arguments, as many and of such types as the signature asks for. Those of an aggregate are the row's own.
    fn arguments(
        &mut self,
        call: &PluginCall,
        signature: &Signature,
        own: bool,
    ) -> Result<(Vec<Node>, Option<Level>), QueryError> {
        let (least, most) = signature.arity();
        if !(least..=most).contains(&call.args.len()) {
            let wanted = match least {
                1 if most == 1 => "1 argument".to_owned(),
                _ if least == most => format!("{least} arguments"),
                _ => format!("{least} to {most} arguments"),
            };
            let message = format!("expected {wanted} of `plugin.{}`, found {}", call.name, call.args.len());
            return Err(
                QueryError::at(code::TYPE, call.pos, width(call), message).with_hint(format!("it is `{signature}`"))
            );
        }
        let (mut nodes, mut child) = (Vec::with_capacity(call.args.len()), None);
        for (number, arg) in call.args.iter().enumerate() {
            let bound = if own { self.own_value(arg)? } else { self.value(arg)? };
            self.refuse_list(&bound, arg)?;
            child = join_children(child, bound.child)?;
            let node = folded(bound.node)?;
            if let Some(ty) = signature.arg(number) {
                self.check_type(call, number, &node, ty)?;
            }
            nodes.push(node);
        }
        Ok((nodes, child))
    }

    /// Refuses what would be missing in every row.
    fn check_type(&self, call: &PluginCall, number: usize, node: &Node, ty: ValueType) -> Result<(), QueryError> {
        let found = match node {
            Node::Const(Scalar::Null) => return Ok(()),
            Node::Const(scalar) if constant(scalar, ty) != prism_plugin::Constant::Null => return Ok(()),
            node => self.type_known(node),
        };
        let fits = match (found, ty) {
            (None, _) => !matches!(node, Node::Const(_)),
            (Some(found), ValueType::Boolean) => found == "bool",
            (Some(found), ValueType::Int64) => matches!(found, "int" | "time" | "duration"),
            (Some(found), ValueType::Float64) => matches!(found, "int" | "double" | "time" | "duration"),
            (Some(found), ValueType::Utf8) => matches!(found, "string" | "id"),
            (Some(found), ValueType::Binary) => matches!(found, "bytes" | "id"),
        };
        if fits {
            return Ok(());
        }
        let (pos, len) = match position(&call.args[number]) {
            (pos, _) if pos.line == 0 => (call.pos, width(call)),
            known => known,
        };
        let what = match ty {
            ValueType::Boolean => "true or false",
            ValueType::Int64 => "an int",
            ValueType::Float64 => "a number",
            ValueType::Utf8 => "text",
            ValueType::Binary => "bytes",
        };
        let found = found.unwrap_or("another value");
        let message =
            format!("expected {what} as argument {} of `plugin.{}`, found {}", number + 1, call.name, shown(found));
        let cast = match ty {
            ValueType::Utf8 => Some("write `text(…)` around it"),
            ValueType::Float64 | ValueType::Int64 if found == "string" => Some("write `number(…)` around it"),
            _ => None,
        };
        Err(QueryError::at(code::TYPE, pos, len, message).with_hint_if(cast.map(str::to_owned)))
    }

    /// The type of every value, where that is known before any row is read.
    fn type_known(&self, node: &Node) -> Option<&'static str> {
        let of_field = |number: usize| match (self.place, self.fields.get(number)?) {
            (Place::Row, field) => match &field.from {
                From::Fixed { fixed, .. } => match shown_types(*fixed)[..] {
                    [one] => Some(one),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        types::of_expression(node, &of_field)
    }
}

fn shown(ty: &str) -> String {
    match ty {
        "string" => "text".to_owned(),
        "bool" => "true or false".to_owned(),
        "bytes" | "another value" => ty.to_owned(),
        "int" | "id" => format!("an {ty}"),
        other => format!("a {other}"),
    }
}

/// What is made of constants alone as the constant that it is, so that guests know it as one.
fn folded(node: Node) -> Result<Node, QueryError> {
    let mut joined = false;
    node.joins(&mut |_| joined = true);
    if matches!(node, Node::Const(_)) || joined || node.calls_plugin() || !node.field_set().is_empty() {
        return Ok(node);
    }
    Ok(Node::Const(eval::vals(&node, &NoRows)?.of.get(0)))
}
