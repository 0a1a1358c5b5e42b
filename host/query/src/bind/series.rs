//! Functions over bins, time bins and zones, and the columns of an earlier range.

use chrono_tz::Tz;
use prism_dsl::{Call, Expr, Fill, Literal, Pos, Query};
use prism_plugin::ValueType;

use super::query::OutputColumn;
use super::{Binder, Bound, Place};
use crate::error::{QueryError, code};
use crate::eval::node::{Function, Node, Unit};
use crate::eval::vals::Scalar;
use crate::eval::zone::TimeBin;
use crate::group::{Accumulator, AccumulatorKind, Output};
use crate::names::nearest;
use crate::series::functions::{Series, SeriesFunction};
use crate::series::{EARLIER, SERIES_FIRST, Stage, of_earlier};

/// Bins that one value of a series function is made of: each is looked at for each row.
const SERIES_BINS_MAX: i64 = 1_000;

impl Binder<'_> {
    /// A function over the bins of the groups.
    pub(super) fn series_call(&mut self, call: &Call) -> Result<Bound, QueryError> {
        let name = call.name.as_str();
        let wrong = |message: String| QueryError::at(code::TYPE, call.pos, name.len(), message);
        if self.place == Place::Row {
            return Err(wrong(format!("expected a value of a row, found the series function `{name}`"))
                .with_hint("series functions stand in `select`, `having` and `order`"));
        }
        let Some((_, bins)) = self.bin else {
            return Err(wrong(format!("`{name}` goes over time bins, and the query groups by none"))
                .with_hint("add `bin(time, 1m)` to `by`"));
        };
        let [of, rest @ ..] = call.args.as_slice() else {
            return Err(wrong(format!("expected a value in `{name}`")));
        };
        let of = self.own_value(of)?;
        let bins_of = |least: i64| match rest {
            [Expr::Literal(Literal::Int(n))] if (least..=SERIES_BINS_MAX).contains(n) => Ok(*n as usize),
            _ => Err(wrong(format!("expected a number of bins from {least} to {SERIES_BINS_MAX} in `{name}`"))
                .with_hint(format!("write `{name}(count(), 5)`"))),
        };
        let (function, unit) = match name {
            "moving_avg" => (SeriesFunction::MovingAvg(bins_of(1)?), of.unit),
            "zscore" => (SeriesFunction::Zscore(bins_of(2)?), Unit::Plain),
            "ewma" => {
                let alpha = match rest {
                    [Expr::Literal(Literal::Float(alpha))] => *alpha,
                    [Expr::Literal(Literal::Int(1))] => 1.0,
                    _ => 0.0,
                };
                if !(alpha > 0.0 && alpha <= 1.0) {
                    return Err(wrong("expected a fixed number above 0 and at most 1 in `ewma`".into())
                        .with_hint("write `ewma(count(), 0.3)`: the weight of the newest bin"));
                }
                (SeriesFunction::Ewma(alpha), of.unit)
            }
            "diff" => (SeriesFunction::Diff, if of.unit == Unit::Time { Unit::Duration } else { of.unit }),
            "cumsum" => (SeriesFunction::Cumsum, if of.unit == Unit::Time { Unit::Plain } else { of.unit }),
            _ => match rest {
                [Expr::Literal(Literal::Duration(by))] if by % bins.width == 0 => {
                    (SeriesFunction::Shift(by / bins.width), of.unit)
                }
                _ => {
                    let width = crate::show::duration(bins.width);
                    return Err(wrong(format!("expected a multiple of the bin's width `{width}` in `{name}`"))
                        .with_hint(format!("write `{name}(count(), {width})`")));
                }
            },
        };
        self.series.push(Series { function, of: of.node });
        Ok(Bound::value(Node::Field(SERIES_FIRST + self.series.len() - 1), unit))
    }

    /// `name@-1d`: a column of `select` as it was in the earlier range.
    pub(super) fn earlier_column(&mut self, word: &str) -> Result<Option<Bound>, QueryError> {
        let query = self.query;
        let Some(compare) = query.compare else { return Ok(None) };
        let Some(name) = word.strip_suffix(&compare.suffix()) else { return Ok(None) };
        let Some((i, select)) = query.select.iter().enumerate().find(|(_, s)| s.name == name) else { return Ok(None) };
        if self.open_selects.contains(&i) {
            return Ok(None);
        }
        self.open_selects.push(i);
        let bound = self.own_value(&select.expr);
        self.open_selects.pop();
        let bound = bound?;
        Ok(Some(Bound { node: of_earlier(&bound.node, query.by.len()), ..bound }))
    }

    /// The key that is a bin of the rows' time; the position of a second one is an error where it matters.
    pub(super) fn time_bin(&self, keys: &[Node], time: &Node) -> Result<Option<(usize, TimeBin)>, QueryError> {
        let mut found = None;
        for (key, node) in keys.iter().enumerate() {
            let Some(bin) = bin_of(node, time) else { continue };
            if found.is_some() && needs_bins(self.query) {
                let message = "expected one time bin among the groups, found two";
                let (pos, width) = super::condition::position(&self.query.by[key].expr);
                return Err(QueryError::at(code::TYPE, pos, width, message)
                    .with_hint("`fill`, series functions and `compare` go along one of them"));
            }
            found = found.or(Some((key, bin)));
        }
        if found.is_none() && self.query.fill.is_some_and(|fill| fill != Fill::None) {
            let message = "`fill` shows time bins without rows, and the query groups by none";
            return Err(QueryError::at(code::TYPE, Pos::NONE, 1, message).with_hint("add `bin(time, 1m)` to `by`"));
        }
        Ok(found)
    }

    /// What is done with the groups, once everything is bound.
    pub(super) fn stage(&mut self) -> Stage {
        let zero = |(accumulator, output, unit): &(usize, Output, Unit)| {
            match (zero(&self.aggregates.accumulators[*accumulator], *output), unit) {
                (_, Unit::Time) => None,
                // Known to be numbers where no row tells it.
                (Some(Scalar::Null), Unit::Duration) => Some(Scalar::Int(0)),
                (zero, _) => zero,
            }
        };
        Stage {
            bin: self.bin,
            fill: self.query.fill.unwrap_or(Fill::None),
            zeros: self.aggregates.outputs.iter().map(zero).collect(),
            series: std::mem::take(&mut self.series),
            joined: std::mem::take(&mut self.joined_of_groups),
            earlier: self.query.compare.map(|compare| compare.offset),
        }
    }

    /// Each selected column, followed by its twin of the earlier range. What is made of keys alone is the same in both, and
    /// what speaks of the earlier range already has no twin.
    pub(super) fn with_twins(&self, columns: Vec<OutputColumn>) -> Vec<OutputColumn> {
        let Some(compare) = self.query.compare else { return columns };
        let keys = self.query.by.len();
        let mut all = Vec::with_capacity(columns.len() * 2);
        for column in columns {
            let fields = column.node.field_set();
            let own = fields.iter().any(|f| (keys..EARLIER).contains(f)) && fields.iter().all(|f| *f < EARLIER);
            let twin = own.then(|| OutputColumn {
                name: format!("{}{}", column.name, compare.suffix()),
                node: of_earlier(&column.node, keys),
                unit: column.unit,
            });
            all.push(column);
            all.extend(twin);
        }
        all
    }
}

/// What 0 looks like for an aggregate without a value of its own.
fn zero(accumulator: &Accumulator, output: Output) -> Option<Scalar> {
    use AccumulatorKind::{First, Last, Max, Min, Moments};
    match (accumulator.kind, output) {
        (_, Output::Top(_) | Output::Histogram(_) | Output::Heatmap(_) | Output::Exemplars(_)) => None,
        (_, Output::Mean | Output::Quantile(_) | Output::PerSecond(_)) | (Moments, _) => Some(Scalar::Double(0.0)),
        (AccumulatorKind::Plugin, _) => match accumulator.plugin.as_ref()?.function.signature().returns {
            ValueType::Int64 => Some(Scalar::Int(0)),
            ValueType::Float64 => Some(Scalar::Double(0.0)),
            _ => None,
        },
        // Of texts there is none: the values tell.
        (First | Last | Min | Max, _) => Some(Scalar::Null),
        _ => Some(Scalar::Int(0)),
    }
}

fn needs_bins(query: &Query) -> bool {
    query.compare.is_some() || query.fill.is_some_and(|fill| fill != Fill::None) || {
        let exprs = query.select.iter().map(|s| &s.expr).chain(&query.having);
        let mut all = exprs.chain(query.order.iter().map(|o| &o.expr));
        all.any(has_series)
    }
}

/// Whether an expression holds a series function.
pub(super) fn has_series(expr: &Expr) -> bool {
    let mut found = false;
    expr.walk(&mut |part| {
        found |= matches!(part, Expr::Call(call) if is_series(&call.name));
    });
    found
}

pub(super) fn is_series(name: &str) -> bool {
    prism_dsl::functions::find(name).is_some_and(|known| known.kind == prism_dsl::functions::Kind::Series)
}

/// The bins of a key that is a bin of the rows' time.
fn bin_of(node: &Node, time: &Node) -> Option<TimeBin> {
    let Node::Call { function, args } = node else { return None };
    match (args.first(), time) {
        (Some(Node::Field(a)), Node::Field(b)) if a == b => {}
        _ => return None,
    }
    match (function, args.get(1)) {
        (Function::Bucket, Some(Node::Const(Scalar::Int(width)))) => Some(TimeBin { width: *width, zone: None }),
        (Function::Bin(bin), _) => Some(*bin),
        _ => None,
    }
}

/// The time zone of an argument; `None` for UTC.
pub(super) fn zone(call: &Call, arg: usize) -> Result<Option<Tz>, QueryError> {
    let wrong = |message: String| QueryError::at(code::TYPE, call.pos, call.name.len(), message);
    match call.args.get(arg) {
        None => Ok(None),
        Some(Expr::Literal(Literal::Str(zone))) => {
            if ["utc", "z", "etc/utc", "gmt"].contains(&zone.to_lowercase().as_str()) {
                return Ok(None);
            }
            let known = || chrono_tz::TZ_VARIANTS.iter().map(|tz| tz.name());
            let found = chrono_tz::TZ_VARIANTS.iter().find(|tz| tz.name().eq_ignore_ascii_case(zone));
            found.copied().map(Some).ok_or_else(|| {
                let hint = match nearest(zone, known()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "write it as the IANA database does: `'Europe/Berlin'`".into(),
                };
                wrong(format!("expected a time zone, found `{zone}`")).with_hint(hint)
            })
        }
        Some(_) => Err(wrong(format!("expected a fixed time zone in `{}`", call.name))
            .with_hint("write it as the IANA database does: `'Europe/Berlin'`")),
    }
}
