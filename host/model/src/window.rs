//! Five-minute windows of event time, by which segments are cut.

/// Length of a window in nanoseconds: 5 minutes.
pub const WINDOW_NANOS: i64 = 300 * 1_000_000_000;

/// A window of event time: `[start, start + 5 min)`, aligned to the unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window(i64);

impl Window {
    /// The window that holds a time in unix nanoseconds.
    pub fn of(unix_nanos: i64) -> Window {
        Window(unix_nanos.div_euclid(WINDOW_NANOS))
    }

    /// First nanosecond; saturates at the ends of int64.
    pub fn start_nanos(self) -> i64 {
        self.0.saturating_mul(WINDOW_NANOS)
    }

    /// Last nanosecond; saturates at the ends of int64.
    pub fn last_nanos(self) -> i64 {
        self.start_nanos().saturating_add(WINDOW_NANOS - 1)
    }

    /// First nanosecond after the window; saturates at the ends of int64.
    pub fn end_nanos(self) -> i64 {
        self.0.saturating_add(1).saturating_mul(WINDOW_NANOS)
    }

    /// Number of the window since the epoch, which is what file names hold.
    pub fn number(self) -> i64 {
        self.0
    }

    /// The window of a number that a file name held.
    pub fn from_number(number: i64) -> Window {
        Window(number)
    }
}

/// A half-open range of event time in unix nanoseconds: `[from, to)`. A `to` of `i64::MAX` is no end: that last nanosecond, which
/// clients do send, would lie in no range otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First nanosecond.
    pub from: i64,
    /// First nanosecond after it.
    pub to: i64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: TimeRange = TimeRange { from: i64::MIN, to: i64::MAX };

    /// Whether any time in `[min, max]` (both included) lies in the range.
    pub fn touches(self, min: i64, max: i64) -> bool {
        self.before_end(min) && max >= self.from
    }

    /// Whether every time in `[min, max]` (both included) lies in the range.
    pub fn covers(self, min: i64, max: i64) -> bool {
        min >= self.from && self.before_end(max)
    }

    /// Whether the time lies in the range.
    pub fn contains(self, time: i64) -> bool {
        time >= self.from && self.before_end(time)
    }

    fn before_end(self, time: i64) -> bool {
        time < self.to || self.to == i64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_half_open_and_cover_negative_times() {
        assert_eq!(Window::of(0), Window::of(WINDOW_NANOS - 1));
        assert_ne!(Window::of(0), Window::of(WINDOW_NANOS));
        assert_eq!(Window::of(-1).end_nanos(), 0);
        assert!(Window::of(i64::MAX).start_nanos() < i64::MAX);
        assert!(Window::of(i64::MIN).end_nanos() > i64::MIN);
        assert_eq!(Window::of(i64::MAX).last_nanos(), i64::MAX);
        assert_eq!(Window::of(7).last_nanos() + 1, Window::of(7).end_nanos());
    }

    #[test]
    fn no_time_lies_outside_of_all_of_time() {
        for time in [i64::MIN, -1, 0, i64::MAX - 1, i64::MAX] {
            assert!(TimeRange::ALL.contains(time) && TimeRange::ALL.covers(time, time), "{time}");
            let window = Window::of(time);
            assert!(TimeRange::ALL.touches(window.start_nanos(), window.last_nanos()), "{time}");
            let from = TimeRange { from: time, to: i64::MAX };
            assert!(from.touches(window.start_nanos(), window.last_nanos()) && from.contains(i64::MAX), "{time}");
        }
        assert!(!TimeRange { from: 0, to: 10 }.contains(10));
    }
}
