//! Rules that hold for the parts of a query whichever form they came in.

use crate::ast::{Expr, Field, Of, Query, Range};
use crate::error::{DslError, code};
use crate::functions::{self, Kind};
use crate::nearest::did_you_mean;

/// Refuses aggregates and series functions in `expr`, which sees single rows. Plugins without a `where` pass: only the
/// binder knows what they are.
pub(crate) fn rows_only(expr: &Expr, place: &str) -> Result<(), DslError> {
    let mut found = None;
    expr.walk(&mut |part| {
        if found.is_some() {
            return;
        }
        found = match part {
            Expr::Aggregate(call) => Some((call.func.clone(), "an aggregate", call.pos)),
            Expr::Plugin(call) if call.where_.is_some() => {
                Some((format!("plugin.{}", call.name), "an aggregate, as its `where` says,", call.pos))
            }
            Expr::Call(call) if functions::find(&call.name).is_some_and(|known| known.kind == Kind::Series) => {
                Some((call.name.clone(), "a series function", call.pos))
            }
            _ => None,
        };
    });
    let Some((name, kind, pos)) = found else { return Ok(()) };
    let message = format!("`{name}` is {kind} and cannot stand in {place}, which sees single rows");
    let hint = "name it in `select` and filter groups with `having`";
    Err(DslError::new(code::AGGREGATE, message).hint(hint).at(pos, name.chars().count()))
}

/// Refuses a name that `known` already has.
pub(crate) fn distinct<'a>(name: &str, what: &str, mut known: impl Iterator<Item = &'a str>) -> Result<(), DslError> {
    if known.any(|other| other == name) {
        let message = format!("`{}` is the name of two {what}", crate::lexis::short(name));
        return Err(DslError::new(code::DUPLICATE, message).hint("give one of them another name"));
    }
    Ok(())
}

/// Refuses an empty or reversed range.
pub(crate) fn range(range: Range) -> Result<Range, DslError> {
    match range {
        Range::Last(nanos) if nanos <= 0 => {
            Err(DslError::new(code::VALUE, "expected a range above 0").hint("write it as `last 1h`"))
        }
        Range::Between { from, to } if from >= to => {
            let message = "expected a range that ends after its start";
            Err(DslError::new(code::VALUE, message).hint("the end is not part of the range: [from, to)"))
        }
        fine => Ok(fine),
    }
}

/// Refuses a `return` that names no span of `match`. The error has the pointer of a document.
pub(crate) fn returned(query: &Query) -> Result<(), DslError> {
    let Some(name) = &query.return_ else { return Ok(()) };
    let Some(matches) = &query.matches else {
        let message = "`return` names a span of `match`, and the query has no `match`";
        return Err(DslError::new(code::VALUE, message));
    };
    if matches.bindings.iter().any(|bind| bind.name == *name) {
        return Ok(());
    }
    let message = format!("`match` names no span `{}`", crate::lexis::short(name));
    let hint = did_you_mean(name, matches.bindings.iter().map(|bind| bind.name.as_str()));
    Err(DslError::new(code::UNKNOWN, message).hint_if(hint))
}

/// Refuses fields of other spans in the condition of one span of `match`.
pub(crate) fn own_fields(expr: &Expr) -> Result<(), DslError> {
    let mut found = None;
    expr.walk(&mut |part| {
        if let Expr::Field(Field { of: Some(Of::Binding(name)), pos, .. }) = part {
            found.get_or_insert((name.clone(), *pos));
        }
    });
    let Some((name, pos)) = found else { return Ok(()) };
    let message = format!("a field of the span `{name}` cannot stand in the condition of one span");
    let hint = "conditions between spans stand in the `where` of `match`";
    Err(DslError::new(code::STRUCTURE, message).hint(hint).at(pos, name.chars().count()))
}
