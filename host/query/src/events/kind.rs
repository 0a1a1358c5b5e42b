//! The kinds of rows of the envelope, and what a name means in each.

use prism_model::{Intrinsic, Signal, TableKind};

use crate::eval::node::Level;
use crate::field::From;
use crate::names::{Fixed, fixed_field, row_fields};

/// A kind of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Span,
    SpanEvent,
    Log,
    Metric,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Span, Kind::SpanEvent, Kind::Log, Kind::Metric];

    /// The value of `signal`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Span => "span",
            Kind::SpanEvent => "span_event",
            Kind::Log => "log",
            Kind::Metric => "metric",
        }
    }

    /// Where its rows are stored.
    pub(crate) fn signal(self) -> Signal {
        match self {
            Kind::Span | Kind::SpanEvent => Signal::Spans,
            Kind::Log => Signal::Logs,
            Kind::Metric => Signal::Metrics,
        }
    }

    /// What is counted there.
    pub(crate) fn level(self) -> Level {
        if self == Kind::SpanEvent { Level::Event } else { Level::Row }
    }

    /// The fixed field that a name without a scope means; `None` for any other name.
    pub(crate) fn fixed(self, name: &str) -> Option<From> {
        let own = match (self, name) {
            // What a record is called, where it is.
            (Kind::Log, "name") => Some((TableKind::Items, Fixed::Plain(Intrinsic::EventName))),
            (Kind::SpanEvent, "trace_id" | "span_id") => {
                fixed_field(Signal::Spans, TableKind::Items, name).map(|fixed| (TableKind::Items, fixed))
            }
            (Kind::SpanEvent, _) => {
                fixed_field(Signal::Spans, TableKind::Events, name).map(|fixed| (TableKind::Events, fixed))
            }
            _ => row_fields(self.signal()).find(|(known, ..)| *known == name).map(|(_, table, fixed)| (table, fixed)),
        };
        let of_others = || Signal::ALL.into_iter().flat_map(row_fields).find(|(known, ..)| *known == name);
        match own {
            Some((table, fixed)) => Some(From::Fixed { table, fixed }),
            None => of_others().map(|(_, _, fixed)| From::Absent(fixed)),
        }
    }

    /// The table of a row's own attributes.
    pub(crate) fn table(self) -> TableKind {
        if self == Kind::SpanEvent { TableKind::Events } else { TableKind::Items }
    }
}
