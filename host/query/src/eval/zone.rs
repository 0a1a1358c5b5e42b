//! Bins of time: in UTC aligned to the epoch, in a named zone to its wall clock, so that a day there has 23, 24 or 25 hours.
//!
//! Bins follow each other without gap. Not here: which bins a query asks for (`bind`), which it shows (`series`).

use chrono::{DateTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Steps by which the end of a bin that is longer than its width is looked for. No zone changes by other steps today.
const STEP: i64 = 900 * SECOND;
/// Zones have skipped a day and no more.
const STEPS_MAX: i64 = 2 * DAY / STEP;

/// Bins of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeBin {
    /// Nanoseconds on the wall clock, above 0.
    pub(crate) width: i64,
    /// `None`: UTC.
    pub(crate) zone: Option<Tz>,
}

impl TimeBin {
    /// The start of the bin that a time lies in; `None` outside of the times that an int64 holds.
    pub(crate) fn start(self, time: i64) -> Option<i64> {
        let floor = |time: i64| time.div_euclid(self.width).checked_mul(self.width);
        let Some(zone) = self.zone else { return floor(time) };
        let start = floor(time.checked_add(offset(zone, time))?)?;
        begin(zone, start, time)
    }

    /// The start of the bin after the one that begins at `start`.
    pub(crate) fn next(self, start: i64) -> Option<i64> {
        let mut at = start.checked_add(self.width)?;
        if self.zone.is_none() {
            return Some(at);
        }
        for _ in 0..STEPS_MAX {
            let found = self.start(at)?;
            if found <= start {
                // A longer bin than most.
                at = at.checked_add(STEP)?;
            } else if self.start(found - 1)? == start {
                return Some(found);
            } else {
                // A shorter one lies between.
                at = found - 1;
            }
        }
        None
    }
}

/// Nanoseconds that the wall clock is ahead of UTC.
pub(crate) fn offset(zone: Tz, time: i64) -> i64 {
    let at = DateTime::from_timestamp_nanos(time).naive_utc();
    i64::from(zone.offset_from_utc_datetime(&at).fix().local_minus_utc()) * SECOND
}

/// When the wall clock showed `local` last before `time`, or passed over it.
fn begin(zone: Tz, local: i64, time: i64) -> Option<i64> {
    let wall = DateTime::from_timestamp_nanos(local).naive_utc();
    let at = |offset: &<Tz as chrono::TimeZone>::Offset| {
        local.checked_sub(i64::from(offset.fix().local_minus_utc()) * SECOND)
    };
    match zone.offset_from_local_datetime(&wall) {
        chrono::LocalResult::Single(one) => at(&one),
        // Shown twice: each time begins a bin.
        chrono::LocalResult::Ambiguous(first, second) => match at(&second) {
            Some(second) if second <= time => Some(second),
            _ => at(&first),
        },
        chrono::LocalResult::None => {
            // Never shown: the clock was put forward between these two.
            let mut low =
                local.checked_sub(offset(zone, local.checked_sub(DAY)?))?.checked_sub(DAY)?.div_euclid(SECOND);
            let mut high = time.div_euclid(SECOND);
            let before = offset(zone, low.checked_mul(SECOND)?);
            while low + 1 < high {
                let middle = low + (high - low) / 2;
                if offset(zone, middle.checked_mul(SECOND)?) == before { low = middle } else { high = middle }
            }
            high.checked_mul(SECOND)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_nanos_opt().unwrap()
    }

    fn bins(zone: Tz, width: i64, from: &str, n: usize) -> Vec<String> {
        let bin = TimeBin { width, zone: Some(zone) };
        let first = bin.start(at(from)).unwrap();
        let all = std::iter::successors(Some(first), |start| bin.next(*start)).take(n);
        all.map(|start| {
            assert_eq!(bin.start(start), Some(start), "a start lies in its own bin");
            let end = bin.next(start).unwrap();
            assert_eq!(bin.start(end - 1), Some(start), "a bin ends where the next begins");
            zone.timestamp_nanos(start).to_rfc3339()
        })
        .collect()
    }

    #[test]
    fn days_begin_at_midnight_whatever_their_length() {
        assert_eq!(
            bins(Tz::Europe__Berlin, DAY, "2026-03-28T12:00:00Z", 3),
            ["2026-03-28T00:00:00+01:00", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"]
        );
        assert_eq!(
            bins(Tz::Europe__Berlin, DAY, "2026-10-24T23:30:00+02:00", 3),
            ["2026-10-24T00:00:00+02:00", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"]
        );
        // The clock was put forward at midnight: the day begins at one.
        assert_eq!(
            bins(Tz::America__Sao_Paulo, DAY, "2018-11-03T12:00:00Z", 3),
            ["2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"]
        );
        // A whole day was left out.
        assert_eq!(
            bins(Tz::Pacific__Apia, DAY, "2011-12-29T12:00:00-10:00", 2),
            ["2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"]
        );
    }

    #[test]
    fn hours_that_the_clock_shows_twice_are_two_bins() {
        assert_eq!(
            bins(Tz::Europe__Berlin, DAY / 24, "2026-10-25T01:10:00+02:00", 4),
            [
                "2026-10-25T01:00:00+02:00",
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T03:00:00+01:00"
            ]
        );
        assert_eq!(
            bins(Tz::Europe__Berlin, DAY / 24, "2026-03-29T01:10:00+01:00", 2),
            ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]
        );
        // Half hours ahead of UTC.
        assert_eq!(
            bins(Tz::Asia__Kolkata, DAY / 24, "2026-03-29T01:10:00Z", 2),
            ["2026-03-29T06:00:00+05:30", "2026-03-29T07:00:00+05:30"]
        );
    }

    #[test]
    fn bins_at_the_ends_of_time_are_none() {
        for zone in [None, Some(Tz::Europe__Berlin)] {
            for time in [i64::MIN, i64::MAX] {
                let bin = TimeBin { width: DAY, zone };
                if let Some(start) = bin.start(time) {
                    assert!(start <= time);
                    assert!(bin.next(start).is_none_or(|next| next > time));
                }
            }
        }
    }
}
