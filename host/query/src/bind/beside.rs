//! Fields of other spans than the row's: the parent's, the root's, a bound span's, and what is told of a trace.
//!
//! Not here: which spans are bound (`structure`), fields of the row itself (the binder).

use prism_dsl::{Field as AstField, Of, Source};

use super::{Binder, shown};
use crate::error::{QueryError, code};
use crate::field::{Field, From};
use crate::structure::ask::{Beside, OfTrace, Target, Told};

impl Binder<'_> {
    /// A field of another span than the row's, or of its trace; `None` for any other.
    pub(super) fn beside(&self, field: &AstField) -> Result<Option<Field>, QueryError> {
        let name = shown(field);
        let spans = matches!(self.query.from, Source::Spans | Source::Traces);
        let told = |target, told| Ok(Some(Field { name: name.clone(), from: From::Beside(Beside { target, told }) }));
        let times = || match (field.scope, field.name.as_str()) {
            (None, "self_duration") => Some(Told::SelfDuration),
            (None, "critical_duration") => Some(Told::CriticalDuration),
            _ => None,
        };
        let target = match &field.of {
            None if self.query.from == Source::Traces && !self.of_span => {
                let known = OfTrace::NAMES.iter().find(|(known, _)| field.word() == Some(known));
                return match known {
                    Some((_, of)) => told(Target::Row, Told::Trace(*of)),
                    None if field.word() == Some("trace_id") => Ok(None),
                    None => Err(self.no_field_of_traces(field, &name)),
                };
            }
            None => match times().filter(|_| spans) {
                Some(times) => return told(Target::Row, times),
                None => return Ok(None),
            },
            Some(Of::Joined(_)) => return Ok(None),
            Some(Of::Parent) => Target::Parent,
            Some(Of::Root) => Target::Root,
            Some(Of::Binding(name)) => Target::Bound(self.binding(name).unwrap_or_default()),
        };
        if !spans || (target == Target::Parent && self.query.from == Source::Traces) {
            let message = format!("expected a field of {}, found `{name}`", self.query.from.name());
            return Err(QueryError::at(code::TYPE, field.pos, name.chars().count(), message).with_hint(
                "other spans stand beside the rows of `from spans`, and the root beside those of `from traces`",
            ));
        }
        if let Some(times) = times() {
            return told(target, times);
        }
        let inner = self.settle_own(&AstField { of: None, ..field.clone() })?;
        if inner.child().is_some() {
            let message = format!("expected a value of one span, found `{name}`, of which it may have many");
            return Err(QueryError::at(code::TYPE, field.pos, name.chars().count(), message).with_hint(
                "put a condition on events or links into `match`: `match (p: event.name = '…', c: true where p > c)`",
            ));
        }
        told(target, Told::Field(Box::new(inner)))
    }

    fn no_field_of_traces(&self, field: &AstField, name: &str) -> QueryError {
        let names = OfTrace::NAMES.iter().map(|(name, _)| *name).chain(["trace_id"]);
        let near = crate::names::nearest(&field.name, names.clone());
        let all: Vec<&str> = names.collect();
        let message = format!("expected a field of a trace ({}), found `{name}`", all.join(", "));
        QueryError::at(code::TYPE, field.pos, name.chars().count(), message).with_hint(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("a field of its root is `root.{}`; conditions on other spans stand in `match`", field.name),
        })
    }
}
