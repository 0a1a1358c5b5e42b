//! Times as people type them: `now`, `today`, `yesterday`, `-1h`, `2h ago`, `14:00`, `2026-11-20 14:00`, RFC 3339.

use chrono::{DateTime, Days, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};
use prism_dsl::Range;

/// What is meant by `--last`, `--from` and `--to`; `None` where nothing is said. `now` is in the reader's zone, in which times
/// without a zone are read.
///
/// # Errors
/// What was expected and found, in words for the user.
pub(crate) fn range(
    last: Option<&str>,
    from: Option<&str>,
    to: Option<&str>,
    now: DateTime<FixedOffset>,
) -> Result<Option<Range>, String> {
    let nanos = |at: DateTime<FixedOffset>, text: &str| {
        at.timestamp_nanos_opt().ok_or_else(|| format!("expected a time from 1678 to 2262, found `{text}`"))
    };
    let of = |text: &str| nanos(time(text, now)?, text);
    let (from, to) = match (last, from, to) {
        (None, None, None) => return Ok(None),
        (Some(last), None, None) => return Ok(Some(Range::Last(duration(last)?))),
        (Some(_), ..) => return Err("expected --last, or --from with --to, found both".to_owned()),
        (None, None, Some(_)) => return Err("expected --from with --to, found --to alone".to_owned()),
        (None, Some(from), Some(to)) => (of(from)?, of(to)?),
        // A day alone is that day.
        (None, Some(day @ ("today" | "yesterday")), None) => {
            let from = of(day)?;
            let end = if day == "today" { nanos(now, day)? } else { of("today")? };
            (from, end)
        }
        (None, Some(from), None) => (of(from)?, nanos(now, "now")?),
    };
    if from >= to {
        return Err("expected a range that ends after it begins: --from is not before --to".to_owned());
    }
    Ok(Some(Range::Between { from, to }))
}

/// A duration in the words of the language, such as `15m` or `1h`.
fn duration(text: &str) -> Result<i64, String> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    let parsed = if plain { prism_dsl::parse_text(&format!("from spans last {text}")).ok() } else { None };
    match parsed.and_then(|query| query.range) {
        Some(Range::Last(nanos)) => Ok(nanos),
        _ => Err(format!("expected a duration such as `15m`, `1h` or `2d`, found `{text}`")),
    }
}

fn time(text: &str, now: DateTime<FixedOffset>) -> Result<DateTime<FixedOffset>, String> {
    let text = text.trim();
    let expected = || {
        format!(
            "expected a time such as `now`, `today`, `yesterday`, `-1h`, `2h ago`, `14:00`, `2026-11-20`, `2026-11-20 14:00` or \
             `2026-11-20T14:00:00Z`, found `{text}`"
        )
    };
    let midnight = |day: NaiveDate| in_zone(day.and_time(NaiveTime::MIN), now);
    let before = |ago: &str| Ok(now - chrono::Duration::nanoseconds(duration(ago.trim())?));
    match text {
        "now" => return Ok(now),
        "today" => return midnight(now.date_naive()).ok_or_else(expected),
        "yesterday" => {
            return now.date_naive().checked_sub_days(Days::new(1)).and_then(midnight).ok_or_else(expected);
        }
        _ => {}
    }
    if let Some(ago) = text.strip_suffix("ago").or_else(|| text.strip_prefix('-')) {
        return before(ago).map_err(|_: String| expected());
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at);
    }
    for form in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, form) {
            return in_zone(at, now).ok_or_else(expected);
        }
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return midnight(day).ok_or_else(expected);
    }
    for form in ["%H:%M:%S", "%H:%M"] {
        if let Ok(at) = NaiveTime::parse_from_str(text, form) {
            return in_zone(now.date_naive().and_time(at), now).ok_or_else(expected);
        }
    }
    Err(expected())
}

fn in_zone(at: NaiveDateTime, now: DateTime<FixedOffset>) -> Option<DateTime<FixedOffset>> {
    at.and_local_timezone(*now.offset()).single()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<FixedOffset> {
        DateTime::parse_from_rfc3339("2026-11-21T15:30:00+01:00").unwrap()
    }

    #[test]
    fn times_are_read_as_people_type_them() {
        for (text, expected) in [
            ("now", "2026-11-21T15:30:00+01:00"),
            ("today", "2026-11-21T00:00:00+01:00"),
            ("yesterday", "2026-11-20T00:00:00+01:00"),
            ("-1h", "2026-11-21T14:30:00+01:00"),
            ("2h ago", "2026-11-21T13:30:00+01:00"),
            ("1d ago", "2026-11-20T15:30:00+01:00"),
            ("14:00", "2026-11-21T14:00:00+01:00"),
            ("2026-11-20", "2026-11-20T00:00:00+01:00"),
            ("2026-11-20 14:00", "2026-11-20T14:00:00+01:00"),
            ("2026-11-20 14:00:05.5", "2026-11-20T14:00:05.500+01:00"),
            ("2026-11-20T14:00:00Z", "2026-11-20T15:00:00+01:00"),
        ] {
            assert_eq!(time(text, now()).unwrap(), DateTime::parse_from_rfc3339(expected).unwrap(), "{text}");
        }
        for bad in ["", "soon", "-", "-x", "ago", "25:00", "2026-13-01", "1h' where x", "2026-11-20 14"] {
            assert!(time(bad, now()).unwrap_err().starts_with("expected a time such as"), "{bad}");
        }
    }

    #[test]
    fn ranges_are_of_last_or_of_from_and_to() {
        let nanos = |text: &str| time(text, now()).unwrap().timestamp_nanos_opt().unwrap();
        let between = |from: &str, to: &str| Ok(Some(Range::Between { from: nanos(from), to: nanos(to) }));
        assert_eq!(range(None, None, None, now()), Ok(None));
        assert_eq!(range(Some("15m"), None, None, now()), Ok(Some(Range::Last(900_000_000_000))));
        assert_eq!(range(None, Some("2h ago"), Some("now"), now()), between("-2h", "now"));
        assert_eq!(range(None, Some("yesterday"), None, now()), between("yesterday", "today"));
        assert_eq!(range(None, Some("today"), None, now()), between("today", "now"));
        assert_eq!(range(None, Some("14:00"), None, now()), between("14:00", "now"));
        for (last, from, to) in [
            (Some("x"), None, None),
            (Some("1h"), Some("today"), None),
            (None, None, Some("now")),
            (None, Some("now"), Some("today")),
            (None, Some("16:00"), None),
        ] {
            assert!(range(last, from, to, now()).is_err(), "{last:?} {from:?} {to:?}");
        }
    }
}
