//! An age as people write it: `90s`, `30m`, `6h`, `30d`, `4w`, or `never`.

use std::fmt;
use std::str::FromStr;

/// Units, the largest first, each with its milliseconds.
const UNITS: [(&str, u64); 6] =
    [("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// A century: nothing is kept for longer, and a date added to it stays one.
const MS_MAX: u64 = 36_525 * 86_400_000;

/// After how long something happens to rows. `never` is the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age(u64);

impl Age {
    /// It does not happen.
    pub const NEVER: Age = Age(u64::MAX);

    /// So many milliseconds, at most a century.
    pub const fn ms(ms: u64) -> Age {
        Age(if ms < MS_MAX { ms } else { MS_MAX })
    }

    /// Milliseconds; `None` for never.
    pub fn as_ms(self) -> Option<u64> {
        (self != Age::NEVER).then_some(self.0)
    }

    /// The moment (unix nanoseconds) before which what happened is older; `None` for never.
    pub fn before(self, now_unix_nanos: i64) -> Option<i64> {
        let nanos = i64::try_from(self.as_ms()?).ok()?.checked_mul(1_000_000)?;
        Some(now_unix_nanos.saturating_sub(nanos))
    }

    /// When something of this moment (unix nanoseconds) is so old; `None` for never.
    pub fn after(self, unix_nanos: i64) -> Option<i64> {
        let nanos = i64::try_from(self.as_ms()?).ok()?.checked_mul(1_000_000)?;
        Some(unix_nanos.saturating_add(nanos))
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(ms) = self.as_ms() else { return f.write_str("never") };
        // Weeks are read and not written: nobody says 4w2d.
        let unit = UNITS[1..].iter().find(|(_, unit)| ms > 0 && ms % unit == 0);
        let (name, unit) = unit.copied().unwrap_or(("s", 1_000));
        write!(f, "{}{name}", ms / unit)
    }
}

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Age, String> {
        let told = || {
            let found: String = text.chars().take(40).collect();
            format!("expected an age such as `30m`, `6h` or `30d`, or `never`, found `{found}`")
        };
        if text == "never" {
            return Ok(Age::NEVER);
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, name) = text.split_at(digits);
        let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == name).ok_or_else(told)?;
        if number.is_empty() {
            return Err(told());
        }
        let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*unit)).filter(|ms| *ms <= MS_MAX);
        ms.map(Age).ok_or_else(|| format!("expected at most 100 years, found `{text}`"))
    }
}

impl serde::Serialize for Age {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Age {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Age, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_back_as_people_write_them() {
        for text in ["0s", "1s", "90s", "1m", "6h", "30d", "25h", "1500ms", "never"] {
            assert_eq!(text.parse::<Age>().unwrap().to_string(), text);
        }
        for (text, same) in [("4w", "28d"), ("60s", "1m"), ("1000ms", "1s"), ("48h", "2d")] {
            assert_eq!(text.parse::<Age>().unwrap().to_string(), same);
        }
        for bad in ["", "d", "90", "-1d", "1.5h", "1y", "1 d", "Never", "99999999999999999999d", "101000w", "1ü", "1dd"]
        {
            assert!(bad.parse::<Age>().is_err(), "{bad}");
        }
        assert!(Age::NEVER > Age::ms(u64::MAX));
        assert_eq!((Age::ms(2).before(5_000_000), Age::ms(2).after(5_000_000)), (Some(3_000_000), Some(7_000_000)));
        assert_eq!((Age::NEVER.before(5), Age::NEVER.after(5)), (None, None));
    }
}
