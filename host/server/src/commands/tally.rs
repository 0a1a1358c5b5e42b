//! What became of recorded requests: counts, reasons, and the table at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use prism_model::Signal;

use crate::show::{Align, Grid, Screen, clean, duration};

/// Failures that are told one by one; the others are counted.
pub(super) const TOLD_MAX: u64 = 50;

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was taken, but for the items that were rejected.
    Taken {
        /// Items of the request.
        items: u64,
        /// Items of it that were not stored.
        rejected: u64,
        /// Why, or what else is to be said; empty where there is nothing.
        message: String,
    },
    /// It was not taken, and will not be if it is sent again.
    Refused(String),
}

/// Counts of one signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    requests: u64,
    stored: u64,
    rejected: u64,
    failed: u64,
}

/// What became of all of them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    signals: [Counts; 3],
    /// Parts of files that are no request.
    broken: u64,
    /// Files that could not be opened.
    unread: u64,
    /// What servers said about requests that they took, and how often.
    said: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn add(&mut self, signal: Signal, outcome: &Outcome) {
        let counts = &mut self.signals[signal as usize];
        counts.requests += 1;
        match outcome {
            Outcome::Taken { items, rejected, message } => {
                counts.stored += items.saturating_sub(*rejected);
                counts.rejected += rejected;
                if !message.is_empty() {
                    *self.said.entry(message.clone()).or_default() += 1;
                }
            }
            Outcome::Refused(_) => counts.failed += 1,
        }
    }

    pub(super) fn add_broken(&mut self) {
        self.broken += 1;
    }

    pub(super) fn add_unread(&mut self) {
        self.unread += 1;
    }

    /// Items of requests that were taken.
    pub(super) fn items(&self) -> u64 {
        self.signals.iter().map(|counts| counts.stored + counts.rejected).sum()
    }

    /// Requests that failed, and what is no request.
    pub(super) fn failed(&self) -> u64 {
        self.signals.iter().map(|counts| counts.failed).sum::<u64>() + self.broken + self.unread
    }

    /// Whether everything was taken; items that were rejected are told apart.
    pub(super) fn whole(&self) -> bool {
        self.failed() == 0
    }

    /// The table and the reasons.
    pub(super) fn report(&self, files: usize, left_out: u64, took: Duration, screen: &Screen) -> String {
        let columns = [
            ("signal", Align::Left),
            ("requests", Align::Right),
            ("items stored", Align::Right),
            ("items rejected", Align::Right),
            ("requests failed", Align::Right),
        ];
        let mut grid = Grid::new(columns.map(|(name, align)| (name.to_owned(), align)));
        for signal in Signal::ALL {
            let counts = self.signals[signal as usize];
            if counts != Counts::default() {
                let numbers = [counts.requests, counts.stored, counts.rejected, counts.failed];
                let row = std::iter::once(signal.as_str().to_owned()).chain(numbers.map(|n| n.to_string()));
                grid.push(row.collect());
            }
        }
        let mut out = grid.render(screen);
        let took = duration(i64::try_from(took.as_nanos()).unwrap_or(i64::MAX));
        out.push_str(&format!("{files} files in {took}"));
        for (count, what) in [
            (self.broken, "lines or messages that are no request"),
            (self.unread, "files that cannot be read"),
            (left_out, "files of other names left out"),
        ] {
            if count > 0 {
                out.push_str(&format!("; {count} {what}"));
            }
        }
        out.push('\n');
        for (message, count) in &self.said {
            out.push_str(&format!("{count} requests: {}\n", clean(message)));
        }
        out
    }
}
