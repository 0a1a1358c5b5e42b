//! What of a request was not kept as sent, in words for its sender.

use super::Rejected;

/// Why an item is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    TraceId,
    SpanId,
    ParentId,
    Time,
}

/// What is kept, but not as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Warning {
    /// A link or log record with an id of another length: kept without the id.
    IdLength,
    /// A key or value given as a number of a string table, which only profiles have: kept as empty, as OTLP asks for.
    StringTable,
}

/// Counts by reason.
#[derive(Default)]
pub(crate) struct Report {
    refusals: [u64; 4],
    warnings: [u64; 2],
}

impl Report {
    #[cold]
    pub(crate) fn refuse(&mut self, why: Refusal) {
        self.refusals[why as usize] += 1;
    }

    #[cold]
    pub(crate) fn warn(&mut self, of: Warning) {
        self.warnings[of as usize] += 1;
    }

    /// The reply; `items` is what the signal calls its items.
    pub(crate) fn into_rejected(self, items: &str) -> Rejected {
        let why = [
            "without a trace id of 16 bytes that are not all zero",
            "without a span id of 8 bytes that are not all zero",
            "with a parent span id of neither 0 nor 8 bytes",
            "with a time beyond 2262-04-11 (int64 nanoseconds)",
        ];
        let what = [
            "ids of a wrong length in links or log records left out",
            "references to a string table, which only profiles have, taken as empty",
        ];
        let refusals =
            self.refusals.iter().zip(why).filter(|(n, _)| **n > 0).map(|(n, why)| format!("{n} {items} {why}"));
        let warnings = self.warnings.iter().zip(what).filter(|(n, _)| **n > 0).map(|(n, what)| format!("{n} {what}"));
        Rejected { count: self.refusals.iter().sum(), reason: refusals.chain(warnings).collect::<Vec<_>>().join("; ") }
    }
}
