//! `prism fields`: which fields rows have, and their values, as a server tells them.

use anyhow::Context as _;
use serde_json::Value;

use crate::cli::{Fields, FieldsOutput};
use crate::client;
use crate::show::{Align, Grid, Ink, Screen, clean, count, encoded};

/// Values that are asked for.
const VALUES: usize = 100;

/// Runs `prism fields`; returns what is printed.
///
/// # Errors
/// No answer, or a refusal.
pub(crate) fn run(command: &Fields, screen: &Screen) -> anyhow::Result<String> {
    let signal = command.signal.map(prism_model::Signal::as_str);
    let last = command.last.as_deref();
    let path = match &command.values {
        Some(field) => values_path(field, signal, last),
        None => path(signal, last),
    };
    let answer = client::get(&command.remote, &path)?;
    match (command.output, &command.values) {
        (FieldsOutput::Json, _) => Ok(answer.text.trim_end().to_owned() + "\n"),
        (FieldsOutput::Table, Some(_)) => values(&answer.text, screen),
        (FieldsOutput::Table, None) => table(&answer.text, command.part.as_deref(), screen),
    }
}

/// Where fields are asked for.
pub(crate) fn path(signal: Option<&str>, last: Option<&str>) -> String {
    with("/v1/fields".to_owned(), &[("signal", signal), ("last", last)])
}

/// Where the values of a field are asked for.
pub(crate) fn values_path(field: &str, signal: Option<&str>, last: Option<&str>) -> String {
    let limit = VALUES.to_string();
    let path = format!("/v1/fields/{}/values", encoded(field));
    with(path, &[("limit", Some(&limit)), ("signal", signal), ("last", last)])
}

fn with(path: String, parameters: &[(&str, Option<&str>)]) -> String {
    let set = parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded((*value)?))));
    let set: Vec<String> = set.collect();
    if set.is_empty() { path } else { format!("{path}?{}", set.join("&")) }
}

/// An answer to `/v1/fields` as a table of those whose names hold `part`, the most frequent first.
///
/// # Errors
/// It is no such answer.
pub(crate) fn table(text: &str, part: Option<&str>, screen: &Screen) -> anyhow::Result<String> {
    let answer: Value = serde_json::from_str(text).context("expected a JSON answer")?;
    let part = part.unwrap_or_default().to_lowercase();
    let word = |field: &Value, key: &str| clean(field[key].as_str().unwrap_or_default());
    let mut fields: Vec<&Value> = answer["fields"].as_array().into_iter().flatten().collect();
    fields.retain(|field| word(field, "name").to_lowercase().contains(&part));
    fields
        .sort_by_key(|field| (word(field, "signal"), std::cmp::Reverse(field["count"].as_u64()), word(field, "name")));
    let header = ["signal", "name", "scope", "types"].map(|name| (name.to_owned(), Align::Left));
    let mut grid = Grid::new(header.into_iter().chain([("count".to_owned(), Align::Right)]));
    for field in &fields {
        let types = field["types"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
        let rows = count(field["count"].as_i64().unwrap_or_default());
        grid.push(vec![word(field, "signal"), word(field, "name"), word(field, "scope"), types.join(", "), rows]);
    }
    Ok(with_footer(grid, fields.len(), "field", screen))
}

/// An answer to `/v1/fields/{name}/values` as a table.
///
/// # Errors
/// It is no such answer.
pub(crate) fn values(text: &str, screen: &Screen) -> anyhow::Result<String> {
    let answer: Value = serde_json::from_str(text).context("expected a JSON answer")?;
    let mut grid = Grid::new([("value".to_owned(), Align::Left), ("rows".to_owned(), Align::Right)]);
    let values: Vec<&Value> = answer["values"].as_array().into_iter().flatten().collect();
    for value in &values {
        let shown = value["value"].as_str().map_or_else(|| value["value"].to_string(), str::to_owned);
        grid.push(vec![clean(&shown), count(value["count"].as_i64().unwrap_or_default())]);
    }
    Ok(with_footer(grid, values.len(), "value", screen))
}

fn with_footer(grid: Grid, number: usize, what: &str, screen: &Screen) -> String {
    let table = if number == 0 { String::new() } else { grid.render(screen) + "\n" };
    let plural = if number == 1 { "" } else { "s" };
    format!("{table}{}\n", screen.ink(Ink::Dim, &format!("{number} {what}{plural}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: Screen = Screen { width: None, colour: false, zone: chrono::FixedOffset::east_opt(0).unwrap() };

    #[test]
    fn names_stand_in_urls() {
        assert_eq!(path(None, None), "/v1/fields");
        assert_eq!(
            values_path("a b/ü", Some("logs"), Some("1h")),
            "/v1/fields/a%20b%2F%C3%BC/values?limit=100&signal=logs&last=1h"
        );
    }

    #[test]
    fn fields_and_values_are_tables() {
        let fields = serde_json::json!({"fields": [
            {"name": "http.route", "scope": "attr", "signal": "spans", "types": ["string"], "count": 1200},
            {"name": "n", "scope": "attr", "signal": "spans", "types": ["int", "string"], "count": 5},
            {"name": "body", "scope": "intrinsic", "signal": "logs", "types": ["string"], "count": 7},
        ]});
        assert_eq!(
            table(&fields.to_string(), None, &SCREEN).unwrap(),
            "signal  name        scope      types        count\n\
             ──────  ──────────  ─────────  ───────────  ─────\n\
             logs    body        intrinsic  string           7\n\
             spans   http.route  attr       string       1,200\n\
             spans   n           attr       int, string      5\n\n3 fields\n"
        );
        assert!(table(&fields.to_string(), Some("ROUTE"), &SCREEN).unwrap().ends_with("\n\n1 field\n"));
        assert_eq!(table("{}", None, &SCREEN).unwrap(), "0 fields\n");
        let of = serde_json::json!({"values": [{"value": "a\u{1b}", "count": 2}, {"value": 7, "count": 1}]});
        assert_eq!(
            values(&of.to_string(), &SCREEN).unwrap(),
            "value    rows\n───────  ────\na\\u{1b}     2\n7           1\n\n2 values\n"
        );
    }
}
