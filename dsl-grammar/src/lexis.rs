//! Words and literals: which names go bare, what a string, number, duration, byte count or time says, and how each is written.
//!
//! It works on tokens; where a token ends is for the grammar.

use crate::ast::Literal;

/// Words that a bare field or name cannot be. A dotted name may begin with one (`order.id`).
pub(crate) const RESERVED: [&str; 34] = [
    "and",
    "or",
    "not",
    "in",
    "between",
    "contains",
    "icontains",
    "starts_with",
    "istarts_with",
    "ends_with",
    "iends_with",
    "as",
    "where",
    "true",
    "false",
    "null",
    "from",
    "last",
    "to",
    "match",
    "let",
    "by",
    "fill",
    "select",
    "having",
    "order",
    "limit",
    "cursor",
    "compare",
    "join",
    "on",
    "budget",
    "return",
    "dry_run",
];

/// Operators that are words.
pub(crate) const WORD_OPERATORS: [&str; 11] = [
    "and",
    "or",
    "not",
    "in",
    "between",
    "contains",
    "icontains",
    "starts_with",
    "istarts_with",
    "ends_with",
    "iends_with",
];

pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(word))
}

/// Whether a name can be written without backticks. Only ASCII is, so that reading it back needs no Unicode table.
pub(crate) fn is_bare(name: &str) -> bool {
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    name.split('.').all(letters) && !name.starts_with(|c: char| c.is_ascii_digit()) && !is_reserved(name)
}

/// A name, in backticks where it needs them.
pub(crate) fn write_name(out: &mut String, name: &str) {
    if is_bare(name) {
        out.push_str(name);
    } else {
        write_quoted(out, name, '`');
    }
}

/// Text between `quote`s, with escapes.
pub(crate) fn write_quoted(out: &mut String, text: &str, quote: char) {
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// Something wrong with a token: where (bytes from its start, bytes long), what, and what to do.
#[derive(Debug)]
pub(crate) struct Flaw {
    pub(crate) offset: usize,
    pub(crate) length: usize,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// What stands between quotes or backticks, both of which `token` begins and ends with.
pub(crate) fn unquote(token: &str) -> Result<String, Flaw> {
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        if c == '\\' {
            let (escaped, length) = unescape(rest).map_err(|(length, message)| Flaw {
                offset: 1 + inner.len() - rest.len(),
                length,
                message,
                hint: Some(r"escapes are \\ \' \` \n \t \u{…}; a backslash itself is \\".into()),
            })?;
            out.push(escaped);
            rest = &rest[length..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Ok(out)
}

/// The character that the escape at the start of `text` stands for, and the escape's length in bytes.
fn unescape(text: &str) -> Result<(char, usize), (usize, String)> {
    match text.chars().nth(1) {
        Some('n') => Ok(('\n', 2)),
        Some('t') => Ok(('\t', 2)),
        Some(c @ ('\\' | '\'' | '`')) => Ok((c, 2)),
        Some('u') => {
            let braced = text[2..].strip_prefix('{').and_then(|open| open.split_once('}')).map(|(hex, _)| hex);
            let fits = |hex: &&str| (1..=6).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
            let Some(hex) = braced.filter(fits) else {
                return Err((2, r"expected one to six hexadecimal digits as in \u{1f600}".into()));
            };
            let length = hex.len() + 4;
            match u32::from_str_radix(hex, 16).ok().and_then(char::from_u32) {
                Some(c) => Ok((c, length)),
                None => Err((length, format!(r"`\u{{{hex}}}` is not a character"))),
            }
        }
        Some(c) => Err((1 + c.len_utf8(), format!(r"`\{}` is not an escape", c.escape_debug()))),
        None => Err((1, "expected an escape, found the end".into())),
    }
}

/// Nanoseconds in each unit of a duration, longest first.
const DURATIONS: [(&str, u64); 8] = [
    ("w", 604_800_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Bytes in each unit, longest first.
const BYTES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// What a token that begins with a digit says: a whole number, a number, a duration or bytes. `negative` gives it a minus,
/// apart from bytes, which have none.
pub(crate) fn number(token: &str, negative: bool) -> Result<Literal, Flaw> {
    let flaw = |message: String, hint: Option<String>| Flaw { offset: 0, length: token.len(), message, hint };
    let digits = token.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &token[digits..];
    if rest.is_empty() {
        let sign = if negative { "-" } else { "" };
        return format!("{sign}{token}").parse().map(Literal::Int).map_err(|_| {
            let hint = format!("write it as `{token}.0` for a double, or in quotes for text");
            flaw(format!("`{token}` is beyond the whole numbers, which end at 9223372036854775807"), Some(hint))
        });
    }
    let float = rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if float && let Ok(value) = token.parse::<f64>() {
        if value.is_infinite() {
            return Err(flaw(format!("`{token}` is beyond the doubles, which end near 1.8e308"), None));
        }
        return Ok(Literal::Float(if negative { -value } else { value }));
    }
    let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if BYTES.iter().any(|(known, _)| *known == unit) {
        return quantity(token, &BYTES).map(Literal::Bytes);
    }
    if DURATIONS.iter().any(|(known, _)| unit.starts_with(known)) || unit.starts_with(['µ', 'μ']) {
        let nanos = i128::from(quantity(token, &DURATIONS)?);
        let nanos = i64::try_from(if negative { -nanos } else { nanos })
            .map_err(|_| flaw(format!("`{token}` is longer than the longest duration, about 292 years"), None))?;
        return Ok(Literal::Duration(nanos));
    }
    let hint = match unit {
        "" => "numbers are written `12`, `1.5` or `1e3`".into(),
        _ if unit.starts_with('_') => "write numbers without `_`".into(),
        _ if token.starts_with("0x") => "write numbers to base 10".into(),
        _ => unit_hint(unit),
    };
    Err(flaw(format!("`{token}` is not a number, duration or byte count"), Some(hint)))
}

/// What somebody who wrote the unknown unit `unit` may have meant.
fn unit_hint(unit: &str) -> String {
    let near = match unit.to_ascii_lowercase().as_str() {
        "min" | "mins" | "minutes" | "minute" => Some("m"),
        "sec" | "secs" | "seconds" | "second" => Some("s"),
        "hr" | "hrs" | "hours" | "hour" => Some("h"),
        "day" | "days" => Some("d"),
        "week" | "weeks" => Some("w"),
        "millis" | "msec" => Some("ms"),
        lower => {
            let bare = |unit: &str| unit.to_ascii_lowercase().trim_end_matches('b').to_owned();
            let units = || BYTES.iter().chain(&DURATIONS).map(|(known, _)| *known);
            let same = units().find(|known| known.eq_ignore_ascii_case(unit));
            same.or_else(|| units().find(|known| *known != "B" && bare(known) == bare(lower)))
        }
    };
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            "units are ns us ms s m h d w for time, KB MB GB TB KiB MiB GiB TiB for bytes; a field that begins with a \
                 digit stands in backticks"
                .into()
        }
    }
}

/// The sum of the parts of `1h30m` or `1.5MB`, exactly.
fn quantity(token: &str, units: &[(&str, u64)]) -> Result<u64, Flaw> {
    let flaw = |message: String| Flaw { offset: 0, length: token.len(), message, hint: None };
    let mut total = 0u64;
    let mut rest = token;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (amount, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let unit = if matches!(unit, "µs" | "μs") { "us" } else { unit };
        let Some((_, size)) = units.iter().find(|(known, _)| *known == unit) else {
            let message = format!("`{token}` is not a number, duration or byte count");
            return Err(Flaw { hint: Some(unit_hint(unit)), ..flaw(message) });
        };
        let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
        let fraction = fraction.trim_end_matches('0');
        let too_much = || flaw(format!("`{token}` is too much"));
        let whole: u64 = whole.parse().map_err(|_| too_much())?;
        let part = whole.checked_mul(*size).ok_or_else(too_much)?;
        // At 18 digits the product below still fits 128 bits, and no unit is divisible further.
        let uneven =
            || flaw(format!("`{token}` is not a whole number of the smallest unit, `{}`", units[units.len() - 1].0));
        if fraction.len() > 18 {
            return Err(uneven());
        }
        let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let product =
            u128::from(*size) * if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| too_much())? };
        if !product.is_multiple_of(scale) {
            return Err(uneven());
        }
        let small = u64::try_from(product / scale).map_err(|_| too_much())?;
        total = total.checked_add(part).and_then(|sum| sum.checked_add(small)).ok_or_else(too_much)?;
        rest = next;
    }
    Ok(total)
}

/// A duration in its longest unit, up to days, that leaves no fraction.
pub(crate) fn write_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    // Without weeks: `7d` is what people compare with.
    let (amount, unit) = shortest(nanos.unsigned_abs(), &DURATIONS[1..]);
    format!("{sign}{amount}{unit}")
}

/// A byte count in the unit that leaves the smallest whole number.
pub(crate) fn write_bytes(bytes: u64) -> String {
    let (amount, unit) = shortest(bytes, &BYTES);
    format!("{amount}{unit}")
}

fn shortest<'a>(amount: u64, units: &[(&'a str, u64)]) -> (u64, &'a str) {
    let whole = units.iter().find(|(_, size)| amount > 0 && amount.is_multiple_of(*size));
    whole.or(units.last()).map_or((amount, ""), |(unit, size)| (amount / size, *unit))
}

/// Unix nanoseconds of an RFC 3339 time.
pub(crate) fn time(text: &str) -> Result<i64, (String, Option<String>)> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| {
        let hint = "write it as `2026-01-01T00:00:00Z`, with up to nine digits of a second and a zone";
        (format!("expected an RFC 3339 time, found `{}`", short(text)), Some(hint.into()))
    })?;
    parsed
        .timestamp_nanos_opt()
        .ok_or_else(|| (format!("`{}` is outside of the years 1677 to 2262", short(text)), None))
}

/// A time in RFC 3339, UTC, with 0, 3, 6 or 9 digits of a second.
pub(crate) fn write_time(unix_nanos: i64) -> String {
    chrono::DateTime::from_timestamp_nanos(unix_nanos).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// Text for a message, cut where it is long and without characters that disturb a terminal.
pub(crate) fn short(text: &str) -> String {
    const SHOWN_MAX: usize = 40;
    let mut out: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    // `escape_debug` also escapes quotes, which need none between backticks.
    out = out.replace("\\'", "'").replace("\\\"", "\"");
    if text.chars().nth(SHOWN_MAX).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The grammar has its own list of reserved words, since pest cannot read this one.
    #[test]
    fn reserved_words_are_those_of_the_grammar() {
        let grammar = include_str!("grammar.pest");
        let rule = grammar.split("\nreserved = @{").nth(1).and_then(|rest| rest.split("~ !more").next());
        let mut theirs: Vec<&str> = rule.unwrap_or_default().split('"').skip(1).step_by(2).collect();
        let mut ours = RESERVED.to_vec();
        theirs.sort_unstable();
        ours.sort_unstable();
        assert_eq!(theirs, ours);
        for word in RESERVED {
            assert!(crate::parse_text(&format!("from spans select a as {word}")).is_err(), "{word}");
            assert!(crate::parse_text(&format!("from spans where `{word}` = 1 and {word}.x = 1")).is_ok(), "{word}");
        }
    }

    #[test]
    fn numbers() {
        let read = |token: &str| number(token, false).map_err(|flaw| flaw.message);
        assert_eq!(read("9223372036854775807"), Ok(Literal::Int(i64::MAX)));
        assert_eq!(number("9223372036854775808", true).ok(), Some(Literal::Int(i64::MIN)));
        assert!(read("9223372036854775808").is_err());
        assert_eq!(read("1e3"), Ok(Literal::Float(1000.0)));
        assert!(read("1e999").is_err());
        assert_eq!(read("1.5h"), Ok(Literal::Duration(5_400_000_000_000)));
        assert_eq!(read("1h30m"), Ok(Literal::Duration(5_400_000_000_000)));
        assert_eq!(read("0.001us"), Ok(Literal::Duration(1)));
        assert_eq!(read("2µs"), Ok(Literal::Duration(2_000)));
        assert!(read("0.5ns").is_err());
        assert!(read("300000d").is_err());
        assert_eq!(read("10MB"), Ok(Literal::Bytes(10_000_000)));
        assert_eq!(read("1.5KiB"), Ok(Literal::Bytes(1536)));
        assert!(read("99999999999TB").is_err());
        assert!(read("0x10").is_err());
        assert!(read("1_000").is_err());
        assert!(read("1.2.3").is_err());
    }

    #[test]
    fn units_are_written_short() {
        assert_eq!(write_duration(90_000_000_000), "90s");
        assert_eq!(write_duration(7 * 86_400_000_000_000), "7d");
        assert_eq!(write_duration(i64::MIN), "-9223372036854775808ns");
        assert_eq!(write_bytes(0), "0B");
        assert_eq!(write_bytes(1536), "1536B");
        assert_eq!(write_bytes(1 << 30), "1GiB");
    }
}
