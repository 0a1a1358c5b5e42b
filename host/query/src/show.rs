//! Values as text and JSON: times RFC 3339, ids lower-case hex, large ints and odd doubles as strings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, SecondsFormat};
use serde_json::Value as Json;

use crate::eval::node::Unit;
use crate::eval::vals::Scalar;

/// The greatest int that every JSON reader keeps exactly: 2^53.
pub(crate) const EXACT_INT_MAX: i64 = 1 << 53;

/// RFC 3339 with nanoseconds, UTC.
pub(crate) fn time(unix_nanos: i64) -> String {
    DateTime::from_timestamp_nanos(unix_nanos).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// A duration as queries write it: in the largest unit that leaves no more than three digits behind the point, and before
/// it too; else in nanoseconds.
pub(crate) fn duration(nanos: i64) -> String {
    let units =
        [("h", 3_600_000_000_000i64), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];
    for (name, unit) in units {
        // An exact decimal, since the text should read back.
        let thousandth = unit / 1_000;
        if nanos.unsigned_abs() >= unit.unsigned_abs() && nanos % thousandth.max(1) == 0 {
            let thousandths = i128::from(nanos) * 1_000 / i128::from(unit);
            let large = name != "h" && thousandths.abs() >= 1_000_000;
            if large || thousandths * i128::from(unit) != i128::from(nanos) * 1_000 {
                continue;
            }
            let sign = if thousandths < 0 { "-" } else { "" };
            let (whole, rest) = (thousandths.abs() / 1_000, thousandths.abs() % 1_000);
            let rest = format!("{rest:03}");
            let rest = rest.trim_end_matches('0');
            let dot = if rest.is_empty() { "" } else { "." };
            return format!("{sign}{whole}{dot}{rest}{name}");
        }
    }
    format!("{nanos}ns")
}

/// What `text(x)` gives; `None` for a missing value.
pub(crate) fn scalar_text(scalar: &Scalar, unit: Unit) -> Option<String> {
    Some(match (scalar, unit) {
        (Scalar::Null, _) => return None,
        (Scalar::Int(i), Unit::Time) => time(*i),
        (Scalar::Int(i), Unit::Duration) => duration(*i),
        (Scalar::Double(d), Unit::Duration | Unit::Time) if d.is_finite() => return scalar_text(&whole(*d), unit),
        (Scalar::Int(i), Unit::Plain) => i.to_string(),
        (Scalar::Double(d), _) => double(*d),
        (Scalar::Bool(b), _) => b.to_string(),
        (Scalar::Str(s) | Scalar::Json(s), _) => s.clone(),
        (Scalar::Bytes(b), _) => BASE64.encode(b),
        (Scalar::Id(id), _) => hex::encode(id),
    })
}

fn double(d: f64) -> String {
    if d.is_nan() {
        "NaN".into()
    } else if d.is_infinite() {
        if d > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        format!("{d:?}")
    }
}

/// The nearest int; means of nanoseconds are shown in whole ones.
pub(crate) fn whole(d: f64) -> Scalar {
    // The cast saturates.
    Scalar::Int(d.round() as i64)
}

/// A value of an answer.
pub(crate) fn json(scalar: &Scalar, unit: Unit) -> Json {
    match (scalar, unit) {
        (Scalar::Null, _) => Json::Null,
        (Scalar::Int(i), Unit::Time) => Json::String(time(*i)),
        (Scalar::Double(d), Unit::Time | Unit::Duration) if d.is_finite() => json(&whole(*d), unit),
        (Scalar::Int(i), _) if i.unsigned_abs() > EXACT_INT_MAX.unsigned_abs() => Json::String(i.to_string()),
        (Scalar::Int(i), _) => Json::from(*i),
        (Scalar::Double(d), _) => {
            serde_json::Number::from_f64(*d).map_or_else(|| Json::String(double(*d)), Json::Number)
        }
        (Scalar::Bool(b), _) => Json::Bool(*b),
        (Scalar::Str(s), _) => Json::String(s.clone()),
        (Scalar::Bytes(b), _) => Json::String(BASE64.encode(b)),
        (Scalar::Id(id), _) => Json::String(hex::encode(id)),
        (Scalar::Json(text), _) => prism_model::Value::from_text(text).map_or(Json::Null, |v| value_json(&v)),
    }
}

/// Arrays and maps as JSON. Of repeated keys the first is shown.
pub(crate) fn value_json(value: &prism_model::Value) -> Json {
    use prism_model::Value;
    match value {
        Value::Null => Json::Null,
        Value::Array(items) => Json::Array(items.iter().map(value_json).collect()),
        Value::Map(entries) => {
            let mut map = serde_json::Map::new();
            for (key, value) in entries {
                map.entry(key.clone()).or_insert_with(|| value_json(value));
            }
            Json::Object(map)
        }
        plain => json(&Scalar::from_value(plain), Unit::Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_queries_read_them() {
        for (nanos, text) in [
            (0, "0ns"),
            (1, "1ns"),
            (1_500, "1.5us"),
            (200_000_000, "200ms"),
            (1_500_000_000, "1.5s"),
            (-1_500_000_000, "-1.5s"),
            (1_500_000_001, "1500000001ns"),
            (90_000_000_000, "1.5m"),
            (3_600_000_000_000, "1h"),
            (i64::MIN, "-9223372036854775808ns"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }

    #[test]
    fn numbers_that_json_would_change_are_strings() {
        assert_eq!(json(&Scalar::Int(1 << 53), Unit::Plain), Json::from(1i64 << 53));
        assert_eq!(json(&Scalar::Int((1 << 53) + 1), Unit::Plain), Json::from("9007199254740993"));
        assert_eq!(json(&Scalar::Double(f64::NAN), Unit::Plain), Json::from("NaN"));
        assert_eq!(json(&Scalar::Double(f64::NEG_INFINITY), Unit::Plain), Json::from("-Infinity"));
        assert_eq!(json(&Scalar::Int(0), Unit::Time), Json::from("1970-01-01T00:00:00.000000000Z"));
        assert_eq!(json(&Scalar::Double(1.6), Unit::Duration), Json::from(2));
    }
}
