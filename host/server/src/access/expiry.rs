//! When a key ends, as people say it: after a time (`90d`), or at one (RFC 3339).

use std::str::FromStr;

use chrono::DateTime;

/// The end of a key, or of the time that an old one has beside a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Milliseconds from now.
    After(i64),
    /// Unix milliseconds.
    At(i64),
}

impl Expiry {
    /// In unix milliseconds.
    pub(crate) fn unix_ms(self, now_unix_ms: i64) -> i64 {
        match self {
            Expiry::After(ms) => now_unix_ms.saturating_add(ms),
            Expiry::At(unix_ms) => unix_ms,
        }
    }
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Expiry, String> {
        let told = || {
            let found: String = text.chars().take(40).collect();
            format!("expected a time such as `90d`, `24h` or `30m`, or `2027-01-31T00:00:00Z`, found `{found}`")
        };
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Expiry::At(at.timestamp_millis()));
        }
        let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(told)?;
        let unit_ms = match unit {
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return Err(told()),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(told());
        }
        // A century is more than any key should live, and leaves room to add a date to it.
        let ms =
            digits.parse::<i64>().ok().and_then(|n| n.checked_mul(unit_ms)).filter(|ms| *ms <= 36_525 * 86_400_000);
        ms.map(Expiry::After).ok_or_else(|| format!("expected at most 100 years, found `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let of = |text: &str| text.parse::<Expiry>().map(|e| e.unix_ms(1_000));
        assert_eq!(of("90d"), Ok(1_000 + 90 * 86_400_000));
        assert_eq!([of("0s"), of("2m"), of("1w")], [Ok(1_000), Ok(121_000), Ok(604_801_000)]);
        assert_eq!(of("1970-01-01T00:00:05+00:00"), Ok(5_000));
        for bad in
            ["", "d", "90", "-1d", "1.5h", "1y", "tomorrow", "2027-01-31", "99999999999999999999d", "101000w", "1ü"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
