//! What the guest of a binding says in the node's log: one allowance for all of its instances, so that no number of calls
//! floods it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::bindings::host::Level;

/// The target of guests' lines in the log.
const TARGET: &str = "prism_plugin::guest";
/// Lines of one binding in each second: enough to follow what a guest does, too few to hide what others say.
const LINES_MAX: u32 = 20;
const SPAN: Duration = Duration::from_secs(1);
/// Characters of one line.
const LINE_CHARS_MAX: usize = 500;

/// What a guest says to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// It has seen data that is not redacted: its lines go nowhere.
    Withheld,
    /// Log lines go to the node's log.
    Heard,
}

/// The voice of a binding, which its instances share.
pub(crate) struct Voice {
    name: String,
    speech: Speech,
    lines: Mutex<Lines>,
}

impl Voice {
    pub(crate) fn new(name: &str, speech: Speech) -> Voice {
        Voice { name: name.to_owned(), speech, lines: Mutex::default() }
    }

    /// Writes a line of the guest, cut, unless there were too many.
    pub(crate) fn say(&self, level: Level, message: &str) {
        if self.speech == Speech::Withheld {
            return;
        }
        let plugin = &self.name;
        // What the log does not show takes nothing of the allowance.
        macro_rules! say {
            ($event:ident, $level:ident) => {
                if tracing::enabled!(target: TARGET, tracing::Level::$level) && self.may_say() {
                    tracing::$event!(target: TARGET, %plugin, "{}", one_line(message));
                }
            };
        }
        match level {
            Level::Debug => say!(debug, DEBUG),
            Level::Info => say!(info, INFO),
            Level::Warn => say!(warn, WARN),
            Level::Error => say!(error, ERROR),
        }
    }

    /// Whether a line may be written; tells first how many were not.
    fn may_say(&self) -> bool {
        let left_out = self.lines.lock().next(Instant::now());
        self.tell(left_out.unwrap_or(0));
        left_out.is_some()
    }

    fn tell(&self, left_out: u64) {
        if left_out > 0 {
            let plugin = &self.name;
            tracing::warn!(target: TARGET, %plugin, left_out, "a plugin says more than {LINES_MAX} lines a second");
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        let left_out = self.lines.get_mut().left_out;
        self.tell(left_out);
    }
}

/// Lines of the span that runs.
#[derive(Default)]
struct Lines {
    began: Option<Instant>,
    said: u32,
    /// Not said, and not told yet.
    left_out: u64,
}

impl Lines {
    /// Counts a line. `None`: it is left out; else how many were before it, of which nobody knows yet.
    fn next(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= SPAN) {
            (self.began, self.said) = (Some(now), 0);
        }
        if self.said >= LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A guest's words as they may stand in a log or on a screen.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().take(LINE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_so_many_lines_and_what_was_left_out_is_told_once() {
        let (begin, mut lines) = (Instant::now(), Lines::default());
        let mut said = |millis: u64, count: u32| {
            let next = |_| lines.next(begin + Duration::from_millis(millis));
            (0..count).filter_map(next).collect::<Vec<u64>>()
        };
        assert_eq!(said(0, 3), [0, 0, 0]);
        assert_eq!(said(500, 1_000), [0; 17]);
        assert!(said(999, 5).is_empty());
        assert_eq!(said(1_000, 2), [988, 0]);
        assert_eq!(said(1_900, 20), [0; 18]);
        assert_eq!(said(60_000, 1), [2]);
    }
}
