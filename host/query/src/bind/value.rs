//! Values: literals, fields, arithmetic, functions, aggregates.

use prism_dsl::{BinaryOp, Call, Expr, Field as AstField, Literal, Of, Pos, Step};
use regex::RegexBuilder;

use super::series::zone;
use super::{Binder, Bound, Place, shown, unsupported};
use crate::error::{QueryError, code};
use crate::eval::node::{ArithmeticOp, Function, Level, Node, Unit};
use crate::eval::vals::Scalar;
use crate::eval::zone::TimeBin;
use crate::field::{Field, From, path_steps};
use crate::names::Fixed;

/// Bytes of a compiled regular expression: a pattern such as `(a{1000}){1000}` must not take the memory of the node.
pub(super) const REGEX_BYTES_MAX: usize = 1 << 20;

impl Binder<'_> {
    /// Any expression.
    pub(crate) fn value(&mut self, expr: &Expr) -> Result<Bound, QueryError> {
        self.deeper(|binder| binder.any_value(expr))
    }

    fn any_value(&mut self, expr: &Expr) -> Result<Bound, QueryError> {
        if self.place == Place::Group
            && let Some(bound) = self.grouped(expr)?
        {
            return Ok(bound);
        }
        match expr {
            Expr::Literal(literal) => Ok(constant(literal)),
            Expr::Field(field) => self.field(field),
            Expr::Binary { op, left, right } if op.is_arithmetic() => self.arithmetic(*op, left, right),
            Expr::Neg(inner) => {
                let inner = self.value(inner)?;
                Ok(Bound { node: Node::Negate(Box::new(inner.node)), ..inner })
            }
            Expr::Call(call) if call.name == "exists" => self.condition_value(expr),
            Expr::Call(call) => self.call(call),
            Expr::Aggregate(aggregate) => match self.place {
                Place::Group => self.aggregate(aggregate),
                Place::Row | Place::Spans => {
                    let message = format!("expected a value of a row, found the aggregate `{}`", aggregate.func);
                    Err(QueryError::at(code::UNGROUPED, aggregate.pos, aggregate.func.len(), message)
                        .with_hint("aggregates stand in `select`, `having` and `order`"))
                }
            },
            Expr::Plugin(call) => self.plugin(call),
            Expr::Binding(binding) => Err(unsupported("structure between spans", binding.pos, binding.name.len())),
            Expr::Relation { .. } => Err(unsupported("structure between spans", Pos::NONE, 1)),
            Expr::List(_) => Err(QueryError::at(code::TYPE, Pos::NONE, 1, "expected a value, found a list")
                .with_hint("lists stand behind `in`")),
            _ => self.condition_value(expr),
        }
    }

    /// A value that is the row's own, not one of its events' or links'.
    pub(crate) fn own_value(&mut self, expr: &Expr) -> Result<Bound, QueryError> {
        let bound = self.value(expr)?;
        match bound.child {
            None => Ok(bound),
            Some(child) => {
                let (word, pos) = first_child_field(expr).unwrap_or(("event", Pos::NONE));
                let (what, row) = match child {
                    Level::Exemplar => ("an exemplar", "point"),
                    Level::Link => ("a link", "span"),
                    _ => ("an event", "span"),
                };
                let message =
                    format!("expected a value of the {row}, found one of {what}, of which a {row} may have many");
                let example = if child == Level::Event { "name = '…'" } else { "trace_id = '…'" };
                Err(QueryError::at(code::TYPE, pos, word.len(), message).with_hint(format!(
                    "put it in a condition such as `{word}.{example}`, which asks whether some {word} fulfils it"
                )))
            }
        }
    }

    fn condition_value(&mut self, expr: &Expr) -> Result<Bound, QueryError> {
        let node = self.condition(expr)?;
        Ok(Bound { node, unit: Unit::Plain, child: None })
    }

    /// What an expression over groups means as a whole: a key, or a name of `select`.
    fn grouped(&mut self, expr: &Expr) -> Result<Option<Bound>, QueryError> {
        let query = self.query;
        let word = match expr {
            Expr::Field(field) => field.word(),
            _ => None,
        };
        let of_select = |binder: &Self| {
            let mut all = query.select.iter().enumerate();
            all.find(|(i, s)| Some(s.name.as_str()) == word && !binder.open_selects.contains(i))
        };
        if let Some(bound) = word.map(|word| self.earlier_column(word)).transpose()?.flatten() {
            return Ok(Some(bound));
        }
        if let Some((i, select)) = of_select(self) {
            self.open_selects.push(i);
            let bound = self.value(&select.expr);
            self.open_selects.pop();
            return bound.map(Some);
        }
        let key =
            query.by.iter().position(|by| by.expr == *expr || word.is_some_and(|w| by.alias.as_deref() == Some(w)));
        Ok(key.map(|key| Bound::value(Node::Field(key), self.key_units.get(key).copied().unwrap_or_default())))
    }

    fn field(&mut self, field: &AstField) -> Result<Bound, QueryError> {
        if let Some((i, definition)) = field.word().and_then(|word| self.let_of(word)) {
            self.open_lets.push(i);
            let bound = self.value(&definition.expr);
            self.open_lets.pop();
            return bound;
        }
        if let Some(Of::Joined(source)) = field.of {
            return self.joined(source, field);
        }
        if self.place == Place::Group {
            let name = shown(field);
            let message = format!("the field `{name}` is neither a group nor inside an aggregate");
            let hint = format!("add `{name}` to `by`, or take one value of each group: `first({name})`");
            return Err(QueryError::at(code::UNGROUPED, field.pos, name.chars().count(), message).with_hint(hint));
        }
        if let Some(kind) = self.kind.filter(|_| field.word() == Some("signal")) {
            return Ok(Bound::value(Node::Const(Scalar::Str(kind.name().to_owned())), Unit::Plain));
        }
        if self.place == Place::Spans && !matches!(field.of, Some(prism_dsl::Of::Binding(_))) {
            let name = shown(field);
            let message = format!("expected a field of a bound span, found `{name}`");
            let bound = self.query.matches.as_ref().and_then(|m| m.bindings.first()).map_or("a", |b| b.name.as_str());
            return Err(QueryError::at(code::TYPE, field.pos, name.chars().count(), message)
                .with_hint(format!("say whose: `{bound}.{name}`, or put a condition of one span behind its name")));
        }
        let settled = self.settle(field)?;
        if field.path.is_empty() {
            return Ok(self.row_field(settled));
        }
        if let (From::Fixed { table, fixed }, [Step::Key(key)]) = (&settled.from, field.path.as_slice())
            && *fixed == Fixed::Plain(prism_model::Intrinsic::TraceState)
        {
            let from = From::TraceState { table: *table, key: key.clone() };
            return Ok(self.row_field(Field { name: settled.name, from }));
        }
        let whole = self.row_field(settled);
        let node = Node::Path { expr: Box::new(whole.node), steps: path_steps(&field.path) };
        Ok(Bound { node, unit: Unit::Plain, child: whole.child })
    }

    fn arithmetic(&mut self, op: BinaryOp, left: &Expr, right: &Expr) -> Result<Bound, QueryError> {
        let sides = (self.value(left)?, self.value(right)?);
        self.refuse_list(&sides.0, left)?;
        self.refuse_list(&sides.1, right)?;
        let (left, right) = sides;
        let op = match op {
            BinaryOp::Add => ArithmeticOp::Add,
            BinaryOp::Sub => ArithmeticOp::Sub,
            BinaryOp::Mul => ArithmeticOp::Mul,
            BinaryOp::Div => ArithmeticOp::Div,
            _ => ArithmeticOp::Rem,
        };
        Ok(Bound {
            unit: arithmetic_unit(op, left.unit, right.unit),
            child: join_children(left.child, right.child)?,
            node: Node::Arithmetic { op, left: Box::new(left.node), right: Box::new(right.node) },
        })
    }

    fn call(&mut self, call: &Call) -> Result<Bound, QueryError> {
        let name = call.name.as_str();
        let wrong = |message: String| QueryError::at(code::TYPE, call.pos, call.name.len(), message);
        if name == "now" {
            return Ok(Bound::value(Node::Const(Scalar::Int(self.now)), Unit::Time));
        }
        if let Some(function) = prism_dsl::functions::find(name)
            && function.kind == prism_dsl::functions::Kind::Series
        {
            return self.series_call(call);
        }
        let mut args = Vec::with_capacity(call.args.len());
        let conditions = match name {
            "if" => 1,
            "case" => call.args.len() / 2 * 2,
            _ => 0,
        };
        let mut child = None;
        for (i, arg) in call.args.iter().enumerate() {
            let bound = if i < conditions && i % 2 == 0 { self.condition_value(arg)? } else { self.value(arg)? };
            child = join_children(child, bound.child)?;
            args.push(bound);
        }
        let units: Vec<Unit> = args.iter().map(|a| a.unit).collect();
        let first_unit = units.first().copied().unwrap_or_default();
        let rest_of = |args: &mut Vec<Bound>, keep: usize| args.truncate(keep);
        let (function, unit) = match name {
            "if" => (Function::If, same_unit(&args[1.min(args.len())..], 1)),
            "case" => (Function::Case, case_unit(&args, conditions)),
            "coalesce" => (Function::Coalesce, same_unit(&args, 1)),
            "lower" => (Function::Lower, Unit::Plain),
            "upper" => (Function::Upper, Unit::Plain),
            "length" => (Function::Length, Unit::Plain),
            "substr" => (Function::Substr, Unit::Plain),
            "replace" => (Function::Replace, Unit::Plain),
            "split" => (Function::Split, Unit::Plain),
            "extract" => {
                let function = self.extract(call)?;
                rest_of(&mut args, 1);
                (function, Unit::Plain)
            }
            "text" => (Function::Text(first_unit), Unit::Plain),
            "number" => (Function::Number, Unit::Plain),
            "bool" => (Function::Bool, Unit::Plain),
            "abs" => (Function::Abs, first_unit),
            "floor" => (Function::Floor, first_unit),
            "ceil" => (Function::Ceil, first_unit),
            "round" => (Function::Round, first_unit),
            "log2" => (Function::Log2, Unit::Plain),
            "log10" => (Function::Log10, Unit::Plain),
            "sqrt" => (Function::Sqrt, Unit::Plain),
            "pow" => (Function::Pow, Unit::Plain),
            "mod" => {
                let right = args.pop().map_or(Node::Const(Scalar::Null), |b| b.node);
                let left = args.pop().map_or(Node::Const(Scalar::Null), |b| b.node);
                let node = Node::Arithmetic { op: ArithmeticOp::Rem, left: Box::new(left), right: Box::new(right) };
                return Ok(Bound { node, unit: first_unit, child });
            }
            "bucket" | "bin" => {
                let zone = zone(call, 2)?;
                match args.get(1).map(|a| (&a.node, a.unit)) {
                    Some((Node::Const(Scalar::Int(1..)), _)) => {}
                    Some((Node::Const(Scalar::Double(d)), _)) if *d > 0.0 => {}
                    Some((Node::Const(_), _)) => {
                        return Err(
                            wrong(format!("expected a width above 0 in `{name}`")).with_hint("write `bin(time, 1m)`")
                        );
                    }
                    _ if name == "bin" => {
                        return Err(wrong("expected a fixed width in `bin`".into()).with_hint("write `bin(time, 1m)`"));
                    }
                    _ => {}
                }
                if name == "bin" && first_unit == Unit::Time && units.get(1) != Some(&Unit::Duration) {
                    return Err(wrong("expected a duration as the width of a time bin".into())
                        .with_hint("write `bin(time, 1m)`"));
                }
                match (zone, args.get(1).map(|a| &a.node)) {
                    (Some(zone), Some(Node::Const(Scalar::Int(width)))) if first_unit == Unit::Time => {
                        let bin = TimeBin { width: *width, zone: Some(zone) };
                        rest_of(&mut args, 1);
                        (Function::Bin(bin), first_unit)
                    }
                    (Some(_), _) => {
                        return Err(wrong("expected a time where `bin` has a time zone".into())
                            .with_hint("write `bin(time, 1d, 'Europe/Berlin')`"));
                    }
                    (None, _) => {
                        rest_of(&mut args, 2);
                        (Function::Bucket, first_unit)
                    }
                }
            }
            "hour" | "weekday" => {
                let zone = zone(call, 1)?;
                if first_unit != Unit::Time {
                    return Err(
                        wrong(format!("expected a time in `{name}`")).with_hint(format!("write `{name}(time)`"))
                    );
                }
                rest_of(&mut args, 1);
                (if name == "hour" { Function::Hour(zone) } else { Function::Weekday(zone) }, Unit::Plain)
            }
            _ => return Err(unsupported(&format!("the function `{name}`"), call.pos, name.len())),
        };
        let node = Node::Call { function, args: args.into_iter().map(|a| a.node).collect() };
        Ok(Bound { node, unit, child })
    }

    fn extract(&mut self, call: &Call) -> Result<Function, QueryError> {
        let Some(Expr::Literal(Literal::Str(pattern))) = call.args.get(1) else {
            return Err(QueryError::at(
                code::REGEX,
                call.pos,
                call.name.len(),
                "expected a fixed pattern in `extract`",
            )
            .with_hint("write `extract(name, '^/api/([a-z]+)')`"));
        };
        let regex = regex(pattern, call.pos, call.name.len())?;
        let group = match call.args.get(2) {
            // With a group in the pattern, that is what is asked for.
            None => usize::from(regex.captures_len() > 1),
            Some(Expr::Literal(Literal::Int(n))) if usize::try_from(*n).is_ok_and(|n| n < regex.captures_len()) => {
                *n as usize
            }
            Some(Expr::Literal(Literal::Str(name))) if regex.capture_names().flatten().any(|n| n == name) => {
                regex.capture_names().position(|n| n == Some(name)).unwrap_or(0)
            }
            Some(_) => {
                let message = format!("expected a group of the pattern, 0 to {}", regex.captures_len() - 1);
                return Err(QueryError::at(code::REGEX, call.pos, call.name.len(), message));
            }
        };
        Ok(Function::Extract(regex, group))
    }

    /// Binds over rows, wherever the binder stands.
    pub(super) fn in_rows<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, QueryError>) -> Result<T, QueryError> {
        let place = std::mem::replace(&mut self.place, Place::Row);
        let out = f(self);
        self.place = place;
        out
    }
}

/// A literal as a constant.
pub(super) fn constant(literal: &Literal) -> Bound {
    let (scalar, unit) = match literal {
        Literal::Null => (Scalar::Null, Unit::Plain),
        Literal::Bool(b) => (Scalar::Bool(*b), Unit::Plain),
        Literal::Int(i) => (Scalar::Int(*i), Unit::Plain),
        Literal::Float(d) => (Scalar::Double(*d), Unit::Plain),
        Literal::Str(s) => (Scalar::Str(s.clone()), Unit::Plain),
        Literal::Duration(nanos) => (Scalar::Int(*nanos), Unit::Duration),
        Literal::Bytes(b) => (i64::try_from(*b).map_or(Scalar::Double(*b as f64), Scalar::Int), Unit::Plain),
        Literal::Time(nanos) => (Scalar::Int(*nanos), Unit::Time),
    };
    Bound::value(Node::Const(scalar), unit)
}

/// A pattern of bounded size, matched in linear time.
pub(super) fn regex(pattern: &str, pos: Pos, width: usize) -> Result<regex::Regex, QueryError> {
    RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build().map_err(|e| {
        let why = match e {
            regex::Error::CompiledTooBig(limit) => format!("it compiles to more than {limit} bytes"),
            // The last line says what is wrong; those before draw the pattern.
            other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        };
        QueryError::at(code::REGEX, pos, width, format!("expected a regular expression, found `{pattern}`: {why}"))
    })
}

/// Events and links in one comparison have no common row.
pub(super) fn join_children(a: Option<Level>, b: Option<Level>) -> Result<Option<Level>, QueryError> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => {
            let message = "expected fields of events or of links in one comparison, found both";
            Err(QueryError::at(code::TYPE, Pos::NONE, 1, message).with_hint("join two comparisons by `and`"))
        }
        (a, b) => Ok(a.or(b)),
    }
}

fn arithmetic_unit(op: ArithmeticOp, left: Unit, right: Unit) -> Unit {
    use ArithmeticOp::{Add, Div, Mul, Rem, Sub};
    match (op, left, right) {
        (Sub, Unit::Time, Unit::Time) => Unit::Duration,
        (Add | Sub, Unit::Time, _) | (Add, _, Unit::Time) => Unit::Time,
        (Add | Sub | Rem, Unit::Duration, _) | (Add | Sub, _, Unit::Duration) => Unit::Duration,
        (Rem, Unit::Time, Unit::Duration) => Unit::Duration,
        (Mul, Unit::Duration, Unit::Plain) | (Mul, Unit::Plain, Unit::Duration) => Unit::Duration,
        (Div, Unit::Duration, Unit::Plain) => Unit::Duration,
        _ => Unit::Plain,
    }
}

/// The unit that all branches share; a constant null fits any.
fn same_unit(args: &[Bound], step: usize) -> Unit {
    let mut units = args.iter().step_by(step).filter(|a| !matches!(a.node, Node::Const(Scalar::Null))).map(|a| a.unit);
    let Some(first) = units.next() else { return Unit::Plain };
    if units.all(|u| u == first) { first } else { Unit::Plain }
}

fn case_unit(args: &[Bound], conditions: usize) -> Unit {
    let values: Vec<Bound> =
        args.iter().enumerate().filter(|(i, _)| *i >= conditions || i % 2 == 1).map(|(_, a)| a.clone()).collect();
    same_unit(&values, 1)
}

/// Where an expression first names an event or link.
fn first_child_field(expr: &Expr) -> Option<(&'static str, Pos)> {
    match expr {
        Expr::Field(field) => match field.scope {
            Some(scope @ (prism_dsl::Scope::Event | prism_dsl::Scope::Link | prism_dsl::Scope::Exemplar)) => {
                Some((scope.name(), field.pos))
            }
            _ => None,
        },
        Expr::Call(call) => call.args.iter().find_map(first_child_field),
        Expr::Plugin(call) => call.args.iter().find_map(first_child_field),
        Expr::Binary { left, right, .. } => first_child_field(left).or_else(|| first_child_field(right)),
        Expr::Neg(inner) => first_child_field(inner),
        _ => None,
    }
}
