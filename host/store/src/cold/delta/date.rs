//! The partition of a file: the UTC day of its rows' event time.

use std::fmt;
use std::str::FromStr;

const DAY_NANOS: i64 = 86_400 * 1_000_000_000;

/// A UTC day, as days since 1970-01-01 in the proleptic Gregorian calendar. Prints as `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Date(i32);

impl Date {
    /// The day of a time in unix nanoseconds.
    pub fn of(unix_nanos: i64) -> Date {
        Date(unix_nanos.div_euclid(DAY_NANOS) as i32)
    }

    /// Days since 1970-01-01.
    pub fn days(self) -> i64 {
        i64::from(self.0)
    }

    /// Its first nanosecond; saturates at the ends of int64.
    pub fn first_nanos(self) -> i64 {
        i64::from(self.0).saturating_mul(DAY_NANOS)
    }

    /// Its last nanosecond; saturates at the ends of int64.
    pub fn last_nanos(self) -> i64 {
        i64::from(self.0).saturating_add(1).checked_mul(DAY_NANOS).map_or(i64::MAX, |end| end - 1)
    }

    /// Year, month and day. The algorithm is `civil_from_days` of Howard Hinnant's "chrono-compatible low-level date algorithms".
    fn civil(self) -> (i64, u32, u32) {
        let days = i64::from(self.0) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Date {
    type Err = ();

    fn from_str(text: &str) -> Result<Date, ()> {
        let mut parts = text.splitn(3, '-');
        let mut next = || parts.next().filter(|p| p.bytes().all(|b| b.is_ascii_digit())).ok_or(());
        let (year, month, day) = (next()?, next()?, next()?);
        let year: i64 = year.parse().map_err(drop)?;
        let (month, day): (i64, i64) = (month.parse().map_err(drop)?, day.parse().map_err(drop)?);
        if !(0..=9_999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(());
        }
        // `days_from_civil` of the same source.
        let year = year - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let date = Date((era * 146_097 + day_of_era - 719_468) as i32);
        if date.to_string() == text { Ok(date) } else { Err(()) }
    }
}

/// A time in unix microseconds as RFC 3339 in UTC with milliseconds, which is what Delta's statistics keep: cut, or rounded up
/// so that it still bounds from above.
pub(crate) fn rfc3339_millis(micros: i64, up: bool) -> String {
    let millis =
        if up { micros.div_euclid(1_000) + i64::from(micros.rem_euclid(1_000) > 0) } else { micros.div_euclid(1_000) };
    let date = Date(millis.div_euclid(86_400_000) as i32);
    let of_day = millis.rem_euclid(86_400_000);
    let (hours, minutes, seconds) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    format!("{date}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", of_day % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_print_as_the_calendar_has_them_and_read_back() {
        for (nanos, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (DAY_NANOS, "1970-01-02"),
            (951_782_400 * 1_000_000_000, "2000-02-29"),
            (1_795_219_200 * 1_000_000_000, "2026-11-21"),
            (i64::MIN, "1677-09-21"),
            (i64::MAX, "2262-04-11"),
        ] {
            let date = Date::of(nanos);
            assert_eq!(date.to_string(), text);
            assert_eq!(text.parse(), Ok(date));
            assert!(date.first_nanos() <= nanos && nanos <= date.last_nanos());
            assert!(date.last_nanos() == i64::MAX || Date::of(date.last_nanos() + 1) > date);
        }
        for day in (-106_000..106_000).step_by(17) {
            assert_eq!(Date(day).to_string().parse(), Ok(Date(day)));
        }
        for bad in
            ["", "2026-11", "2026-02-30", "2026-13-01", "+026-01-01", "2026-1-1", "2026-11-21 ", "__HIVE_DEFAULT__"]
        {
            assert_eq!(bad.parse::<Date>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn times_in_statistics_are_cut_or_rounded_up() {
        assert_eq!(rfc3339_millis(1_795_221_523_123_456, false), "2026-11-21T00:38:43.123Z");
        assert_eq!(rfc3339_millis(1_795_221_523_123_456, true), "2026-11-21T00:38:43.124Z");
        assert_eq!(rfc3339_millis(1_795_221_523_123_000, true), "2026-11-21T00:38:43.123Z");
        assert_eq!(rfc3339_millis(-1, false), "1969-12-31T23:59:59.999Z");
    }
}
