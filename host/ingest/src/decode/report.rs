//! What of a request was not kept as sent, in words for its sender.

use super::Rejected;

/// Why an item is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    TraceId,
    SpanId,
    ParentId,
    Time,
    Count,
}

/// What is kept, but not as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Warning {
    /// A link, log record or exemplar with an id of another length: kept without the id.
    IdLength,
    /// A key or value given as a number of a string table, which only profiles have: kept as empty, as OTLP asks for.
    StringTable,
    /// A histogram whose number of bounds is not one below that of its buckets: kept as sent.
    Buckets,
}

/// Counts by reason.
#[derive(Default)]
pub(crate) struct Report {
    refusals: [u64; 5],
    warnings: [u64; 3],
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
            "with a count beyond int64",
        ];
        let what = [
            "ids of a wrong length in links, log records or exemplars left out",
            "references to a string table, which only profiles have, taken as empty",
            "histograms whose buckets and bounds do not match, kept as sent",
        ];
        let refusals =
            self.refusals.iter().zip(why).filter(|(n, _)| **n > 0).map(|(n, why)| format!("{n} {items} {why}"));
        let warnings = self.warnings.iter().zip(what).filter(|(n, _)| **n > 0).map(|(n, what)| format!("{n} {what}"));
        Rejected { count: self.refusals.iter().sum(), reason: refusals.chain(warnings).collect::<Vec<_>>().join("; ") }
    }
}
