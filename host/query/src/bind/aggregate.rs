//! Aggregates: which accumulator they need, what it looks at, and what is taken of it.

use prism_dsl::{Aggregate, Expr, Field as AstField, Literal, Scope};
use prism_model::Signal;

use super::{Binder, Bound, unsupported};
use crate::error::{QueryError, code};
use crate::eval::node::{Function, Level, Node, Unit};
use crate::field::{Field, From};
use crate::group::{Accumulator, AccumulatorKind, Output, distribution};
use crate::identity;
use crate::names::Fixed;

/// Elements of `top`, which are shown in one cell of an answer.
const TOP_MAX: i64 = 1_000;
/// Buckets of `histogram` and `heatmap`, for the same reason.
const BUCKETS_MAX: i64 = 200;
/// Traces of `exemplars`, of which a sample has few more.
const EXEMPLARS_MAX: i64 = 100;

impl Binder<'_> {
    /// An aggregate over the rows of a group, as a field of the groups.
    pub(super) fn aggregate(&mut self, call: &Aggregate) -> Result<Bound, QueryError> {
        use AccumulatorKind::{Concurrency, Count, Distinct, DistinctExact, Moments};
        if let Some(joined) = self.joined_aggregate(call)? {
            return Ok(joined);
        }
        let (kind, output) = self.accumulator(call)?;
        let source = (call.args.first().cloned(), call.where_.as_deref().cloned());
        let known = (0..self.aggregates.accumulators.len())
            .find(|i| self.aggregates.accumulators[*i].kind == kind && self.aggregates.sources[*i] == source);
        let accumulator = match known {
            Some(known) => known,
            None => {
                let accumulator = self.in_rows(|binder| binder.of_rows(call, kind))?;
                self.aggregates.accumulators.push(accumulator);
                self.aggregates.sources.push(source);
                self.aggregates.accumulators.len() - 1
            }
        };
        let of_arg = self.aggregates.accumulators[accumulator].unit;
        let unit = match (kind, &output) {
            (Count | Distinct | DistinctExact | Concurrency, _) => Unit::Plain,
            (_, Output::Top(_) | Output::Histogram(_) | Output::Heatmap(_) | Output::Exemplars(_)) => Unit::Plain,
            (_, Output::PerSecond(_)) => Unit::Plain,
            (Moments, _) if of_arg == Unit::Time => Unit::Duration,
            _ => of_arg,
        };
        let wanted = (accumulator, output, unit);
        let number = self.aggregates.outputs.iter().position(|o| *o == wanted).unwrap_or_else(|| {
            self.aggregates.outputs.push(wanted);
            self.aggregates.outputs.len() - 1
        });
        Ok(Bound::value(Node::Field(self.query.by.len() + number), unit))
    }

    /// Whether every row is a metric point.
    fn of_points(&self) -> bool {
        self.signal == Signal::Metrics && self.kind.is_none()
    }

    /// Which accumulator an aggregate needs, and what it takes of it.
    fn accumulator(&self, call: &Aggregate) -> Result<(AccumulatorKind, Output), QueryError> {
        use AccumulatorKind as Kind;
        let wrong = |message: String| QueryError::at(code::TYPE, call.pos, call.func.len(), message);
        let number = |default: usize, most: i64| match call.args.get(1) {
            None => Ok(default),
            Some(Expr::Literal(Literal::Int(n))) if (1..=most).contains(n) => Ok(*n as usize),
            Some(_) => Err(wrong(format!("expected a number from 1 to {most} in `{}`", call.func))),
        };
        let asked = || self.query.from.name();
        let values = if call.exact { Kind::QuantileExact } else { Kind::Quantile };
        Ok(match call.func.as_str() {
            "count" => (Kind::Count, Output::Value),
            "rate" if call.args.is_empty() => (Kind::Count, Output::PerSecond(self.rate_nanos)),
            // The sum of a counter's readings is no growth.
            "rate" if self.of_points() => (Kind::Counter, Output::PerSecond(self.rate_nanos)),
            "rate" if self.kind.is_none() => (Kind::Sum, Output::PerSecond(self.rate_nanos)),
            "increase" if self.of_points() => (Kind::Counter, Output::Value),
            func @ ("increase" | "rate") => {
                let message =
                    format!("`{func}` is the growth of a metric's counter, and the query is over {}", asked());
                return Err(wrong(message).with_hint("write `sum(x)`, or ask `from metrics`"));
            }
            "sum" => (Kind::Sum, Output::Value),
            "avg" => (Kind::Sum, Output::Mean),
            "min" => (Kind::Min, Output::Value),
            "max" => (Kind::Max, Output::Value),
            "count_distinct" if call.exact => (Kind::DistinctExact, Output::Value),
            "count_distinct" => (Kind::Distinct, Output::Value),
            "stddev" => (Kind::Moments, Output::Value),
            "first" => (Kind::First, Output::Value),
            "last" => (Kind::Last, Output::Value),
            "top" => (Kind::Top, Output::Top(number(10, TOP_MAX)?)),
            "histogram" => (values, Output::Histogram(number(20, BUCKETS_MAX)?)),
            "heatmap" => (values, Output::Heatmap(number(20, BUCKETS_MAX)?)),
            "exemplars" => (Kind::Exemplars, Output::Exemplars(number(3, EXEMPLARS_MAX)?)),
            "concurrency" if self.signal == Signal::Spans && self.kind.is_none() => (Kind::Concurrency, Output::Value),
            "concurrency" => {
                return Err(wrong(format!("`concurrency` counts rows that last, and the query is over {}", asked()))
                    .with_hint("ask `from spans`"));
            }
            _ => {
                let q = match (call.percentile(), call.args.get(1)) {
                    (Some(q), _) => q,
                    (None, Some(Expr::Literal(Literal::Int(n @ 0..=1)))) if call.func == "quantile" => *n as f64,
                    (None, Some(Expr::Literal(Literal::Float(q))))
                        if call.func == "quantile" && (0.0..=1.0).contains(q) =>
                    {
                        *q
                    }
                    (None, _) if call.func == "quantile" => {
                        return Err(wrong("expected a fixed number from 0 to 1 in `quantile`".into())
                            .with_hint("write `quantile(duration, 0.95)`"));
                    }
                    (None, _) => return Err(unsupported(&format!("`{}`", call.func), call.pos, call.func.len())),
                };
                let of_value = self.of_points() && call.args.first().is_some_and(|arg| self.is_value(arg));
                (if of_value && !call.exact { Kind::Distribution } else { values }, Output::Quantile(q))
            }
        })
    }

    /// Whether an expression is the value of a point.
    fn is_value(&self, expr: &Expr) -> bool {
        let Expr::Field(field) = expr else { return false };
        let of_let = field.word().is_some_and(|word| self.let_of(word).is_some());
        let settled = || self.settle(field).is_ok_and(|f| matches!(f.from, From::Fixed { fixed: Fixed::Value, .. }));
        !of_let && field.of.is_none() && field.scope.is_none() && settled()
    }

    /// What an accumulator looks at in each row.
    fn of_rows(&mut self, call: &Aggregate, kind: AccumulatorKind) -> Result<Accumulator, QueryError> {
        let mut level = Level::Row;
        let mut beside = Vec::new();
        let mut arg = call.args.first();
        let of_exemplar;
        match kind {
            AccumulatorKind::Counter => {
                beside.extend(self.point()?);
                beside.push(self.named("monotonic")?);
            }
            AccumulatorKind::Distribution => {
                beside.extend(self.point()?);
                for name in distribution::FIELDS {
                    beside.push(self.named(name)?);
                }
            }
            AccumulatorKind::Concurrency => beside = vec![self.named("duration")?, self.named("running")?],
            AccumulatorKind::Exemplars if self.of_points() => {
                // Points keep traces beside some of the values that they were made of.
                let exemplar =
                    |name: &str| Expr::Field(AstField { scope: Some(Scope::Exemplar), ..AstField::new(name) });
                of_exemplar = exemplar("value");
                if !arg.is_some_and(|arg| self.is_value(arg) || *arg == of_exemplar) {
                    let message = "metrics keep exemplars of their values alone";
                    return Err(QueryError::at(code::TYPE, call.pos, call.func.len(), message)
                        .with_hint("write `exemplars(value, 3)`"));
                }
                (arg, level) = (Some(&of_exemplar), Level::Exemplar);
                for name in ["trace_id", "span_id", "time"] {
                    beside.push(self.value(&exemplar(name))?.node);
                }
            }
            AccumulatorKind::Exemplars => beside = vec![self.named("trace_id")?, self.named("span_id")?],
            _ => {}
        }
        let bound = match arg {
            Some(arg) if level == Level::Row => Some(self.own_value(arg)?),
            Some(arg) => Some(self.value(arg)?),
            None => None,
        };
        if let (Some(bound), Some(expr)) = (&bound, arg)
            && kind.computes()
        {
            if self.of_points() && matches!(kind, AccumulatorKind::Quantile | AccumulatorKind::QuantileExact) {
                self.refuse_buckets(bound, call)?;
            }
            self.refuse_list(bound, expr)?;
        }
        let filter = call.where_.as_deref().map(|e| self.condition(e)).transpose()?;
        let unit = bound.as_ref().map_or(Unit::Plain, |a| a.unit);
        Ok(Accumulator { kind, arg: bound.map(|a| a.node), filter, unit, beside, level, plugin: None })
    }

    /// Who asks for a quantile of buckets means that of what they count.
    fn refuse_buckets(&self, bound: &Bound, call: &Aggregate) -> Result<(), QueryError> {
        let Some(list) = self.list(bound) else { return Ok(()) };
        let message = format!("expected one value, found `{}`, a list of numbers", list.name);
        Err(QueryError::at(code::TYPE, call.pos, call.func.len(), message)
            .with_hint(format!("write `{}(value)`: of histograms it is what their buckets count", call.func)))
    }

    /// A field of the rows, whatever `let` calls so.
    fn named(&mut self, name: &str) -> Result<Node, QueryError> {
        let settled = self.settle(&AstField::new(name))?;
        Ok(self.row_field(settled).node)
    }

    /// What tells a point's place in its series: see `group::kept`.
    fn point(&mut self) -> Result<[Node; 4], QueryError> {
        let parts = identity::TABLES.map(|table| {
            let name = "series".to_owned();
            self.row_field(Field { name, from: From::Identity { table } }).node
        });
        let series = Node::Call { function: Function::Identity, args: parts.to_vec() };
        Ok([series, self.named("start_time")?, self.named("type")?, self.named("temporality")?])
    }
}
