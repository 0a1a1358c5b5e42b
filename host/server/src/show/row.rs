//! A row of a live tail as one line: what people look for first as it is, the rest as `key=value`.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::screen::{Ink, Screen};
use super::units::{clean, duration};

/// Fields that need no name, since their values tell what they are.
const BARE: [&str; 9] =
    ["time", "signal", "service.name", "severity_text", "severity", "name", "body", "message", "duration"];
/// Names of levels take so many places, so that what stands behind them is aligned.
const LEVEL_WIDTH: usize = 5;

/// A line without its end. `kinds` are the types of columns by name, as far as they are known; missing values are left out.
pub(crate) fn row(kinds: &Map<String, Value>, row: &Map<String, Value>, screen: &Screen) -> String {
    let mut parts = Vec::new();
    let order = kinds.keys().chain(row.keys().filter(|name| !kinds.contains_key(*name)));
    for name in order {
        let Some(value) = row.get(name).filter(|value| !value.is_null()) else { continue };
        let kind = kinds.get(name).and_then(Value::as_str).unwrap_or_default();
        let text = text(kind, value, screen);
        parts.push(match name.as_str() {
            "time" => screen.ink(Ink::Dim, &text),
            "service.name" => screen.ink(Ink::Service(hue(&text)), &text),
            "severity_text" | "severity" => screen_level(&text, screen),
            "status" if text == "unset" => continue,
            "status" => screen.ink(if text == "error" { Ink::Red } else { Ink::Dim }, &text),
            bare if BARE.contains(&bare) => text,
            name => {
                let quoted = if text.contains([' ', '"', '=']) { Value::from(text).to_string() } else { text };
                screen.ink(Ink::Dim, &format!("{}=", clean(name))) + &quoted
            }
        });
    }
    parts.join(" ")
}

fn text(kind: &str, value: &Value, screen: &Screen) -> String {
    match (kind, value) {
        ("time", Value::String(text)) => match text.parse::<DateTime<Utc>>() {
            Ok(at) => at.with_timezone(&screen.zone).format("%H:%M:%S%.3f").to_string(),
            Err(_) => clean(text),
        },
        ("duration", Value::Number(n)) => n.as_i64().map_or_else(|| n.to_string(), duration),
        (_, Value::String(text)) => clean(text),
        (_, other) => clean(&other.to_string()),
    }
}

fn screen_level(level: &str, screen: &Screen) -> String {
    let padded = format!("{level:LEVEL_WIDTH$}");
    let begins = |of: &[&str]| of.iter().any(|word| level.to_ascii_lowercase().starts_with(word));
    match () {
        () if begins(&["err", "fatal", "crit", "emerg", "alert"]) => screen.ink(Ink::Red, &padded),
        () if begins(&["warn"]) => screen.ink(Ink::Yellow, &padded),
        () if begins(&["debug", "trace"]) => screen.ink(Ink::Dim, &padded),
        () => padded,
    }
}

/// The same colour for the same service, whenever it comes.
fn hue(text: &str) -> usize {
    text.bytes().fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(kinds: Value, of: Value, colour: bool) -> String {
        let screen = Screen { width: None, colour, zone: chrono::FixedOffset::east_opt(3_600).unwrap() };
        row(kinds.as_object().unwrap(), of.as_object().unwrap(), &screen)
    }

    #[test]
    fn what_tells_itself_has_no_name_and_the_rest_has() {
        let kinds = json!({"time": "time", "service.name": "string", "severity_text": "string", "body": "null",
            "trace_id": "id", "took": "duration"});
        let of = json!({"trace_id": "ab", "body": "paid\n\u{1b}[2J", "time": "2026-01-02T03:04:05.678901234Z",
            "service.name": "shop", "severity_text": "INFO", "took": 1_500_000, "extra": "a b", "gone": null});
        assert_eq!(
            line(kinds.clone(), of.clone(), false),
            "04:04:05.678 shop INFO  paid\\n\\u{1b}[2J trace_id=ab took=1.5ms extra=\"a b\""
        );
        let coloured = line(kinds, json!({"severity_text": "ERROR", "status": "error"}), true);
        assert_eq!(coloured, "\u{1b}[31mERROR\u{1b}[0m \u{1b}[31merror\u{1b}[0m");
    }

    #[test]
    fn rows_of_another_shape_are_shown_as_they_are() {
        assert_eq!(
            line(json!({"time": "time"}), json!({"time": 5, "x": [1, {"a": null}]}), false),
            "5 x=\"[1,{\\\"a\\\":null}]\""
        );
        assert_eq!(line(json!({}), json!({}), false), "");
    }
}
