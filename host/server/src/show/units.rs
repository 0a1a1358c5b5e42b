//! One value as text that reads well.

use chrono::{DateTime, TimeZone};

/// Text without what a terminal would act on: control characters and marks that change the direction of writing are shown
/// by their code, so that a span name cannot move the cursor or paint over other rows.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// Text as a part of a URL.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// Nanoseconds as people say them: `850ns`, `12.3µs`, `245ms`, `1.25s`, `3m 20s`, `2h 5m`, `3d 4h`.
pub(crate) fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let (second, minute, hour, day) = (1_000_000_000, 60_000_000_000, 3_600_000_000_000, 86_400_000_000_000);
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{sign}{big}{big_unit}"),
        _ => format!("{sign}{big}{big_unit} {small}{small_unit}"),
    };
    match n {
        0 => "0".to_owned(),
        // 999,950 µs would be shown as `1000ms`: each unit ends where rounding to three digits reaches the next.
        1..=999 => format!("{sign}{n}ns"),
        1_000..=999_499 => format!("{sign}{}µs", three_digits(n, 1_000)),
        999_500..=999_499_999 => format!("{sign}{}ms", three_digits(n, 1_000_000)),
        _ if n < minute => format!("{sign}{}s", three_digits(n, second)),
        _ if n < hour => two(n / minute, "m", n % minute / second, "s"),
        _ if n < day => two(n / hour, "h", n % hour / minute, "m"),
        _ => two(n / day, "d", n % day / hour, "h"),
    }
}

/// `n / unit` with three digits that count, and no zeros after the point.
fn three_digits(n: u64, unit: u64) -> String {
    let value = n as f64 / unit as f64;
    let places = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.places$}");
    if places == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// Bytes in powers of 1000: `512B`, `4.1kB`, `10MB`.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..=999 => format!("{n}B"),
        1_000..=999_499 => format!("{}kB", three_digits(n, 1_000)),
        999_500..=999_499_999 => format!("{}MB", three_digits(n, 1_000_000)),
        999_500_000..=999_499_999_999 => format!("{}GB", three_digits(n, 1_000_000_000)),
        _ => format!("{}TB", three_digits(n, 1_000_000_000_000)),
    }
}

/// A whole number with thousands apart: `1,234,567`.
pub(crate) fn count(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::new();
    if n < 0 {
        out.push('-');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time with milliseconds in a zone: `2026-01-02 03:04:05.678`; nanoseconds only where there are any below.
pub(crate) fn time<Z: TimeZone>(utc: &DateTime<chrono::Utc>, zone: &Z) -> String {
    let shown = utc.with_timezone(zone).naive_local();
    let nanos = utc.timestamp_subsec_nanos();
    let form = match nanos {
        0 => "%Y-%m-%d %H:%M:%S",
        n if n % 1_000_000 == 0 => "%Y-%m-%d %H:%M:%S%.3f",
        n if n % 1_000 == 0 => "%Y-%m-%d %H:%M:%S%.6f",
        _ => "%Y-%m-%d %H:%M:%S%.9f",
    };
    shown.format(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_that_count() {
        let cases = [
            (0, "0"),
            (1, "1ns"),
            (999, "999ns"),
            (1_000, "1µs"),
            (12_345, "12.3µs"),
            (999_499, "999µs"),
            (999_500, "1ms"),
            (12_300_000, "12.3ms"),
            (245_000_000, "245ms"),
            (1_250_000_000, "1.25s"),
            (59_000_000_000, "59s"),
            (200_000_000_000, "3m 20s"),
            (7_500_000_000_000, "2h 5m"),
            (273_600_000_000_000, "3d 4h"),
            (-1_500_000, "-1.5ms"),
            (i64::MIN, "-106751d 23h"),
        ];
        for (nanos, text) in cases {
            assert_eq!(duration(nanos), text, "{nanos}");
        }
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(
            [bytes(0), bytes(999), bytes(4_096), bytes(10_000_000), bytes(u64::MAX)].join(" "),
            "0B 999B 4.1kB 10MB 18446744TB"
        );
        assert_eq!([count(0), count(-1_234), count(999), count(1_234_567)].join(" "), "0 -1,234 999 1,234,567");
    }

    #[test]
    fn texts_of_clients_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\nc\u{202e}d ü"), "a\\u{1b}[31mb\\nc\\u{202e}d ü");
    }

    #[test]
    fn times_are_shown_in_the_zone() {
        let at: DateTime<chrono::Utc> = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let zone = chrono::FixedOffset::east_opt(3_600).unwrap();
        assert_eq!(time(&at, &zone), "2026-01-02 04:04:05.678");
        assert_eq!(time(&"2026-01-02T03:04:00Z".parse().unwrap(), &zone), "2026-01-02 04:04:00");
    }
}
