//! The JSON answer of a query as a table with its cost.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::lines::{counts, sparkline};
use super::screen::{Ink, Screen};
use super::table::{Align, Grid};
use super::units::{bytes, clean, count, duration, time};

/// The table, what it cost, and warnings. `took_ns`: time of the whole request as the caller measured it.
pub(crate) fn answer(answer: &Value, took_ns: i64, screen: &Screen) -> String {
    let list = |key: &str| answer.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let columns: Vec<Column> = list("columns").iter().map(Column::read).collect();
    let mut grid = Grid::new(columns.iter().map(|c| (c.header(), c.align())));
    let rows = list("rows");
    if let Some(plan) = answer["explain"]["text"].as_str() {
        return plan.lines().map(|line| clean(line) + "\n").collect();
    }
    for row in rows {
        let cells = row.as_array().map(Vec::as_slice).unwrap_or_default();
        grid.push(columns.iter().zip(cells).map(|(column, value)| column.cell(value, screen)).collect());
    }
    let mut out = if rows.is_empty() { String::new() } else { grid.render(screen) };
    if !rows.is_empty() {
        out.push('\n');
    }
    out.push_str(&over_time(&columns, rows, screen));
    out.push_str(&screen.ink(Ink::Dim, &footer(answer, rows.len(), took_ns)));
    out.push('\n');
    for warning in warnings(answer) {
        out.push_str(&screen.ink(Ink::Yellow, &format!("warning: {}", clean(&warning))));
        out.push('\n');
    }
    out
}

/// A line for each column of numbers, where each row is a bin of time.
fn over_time(columns: &[Column], rows: &[Value], screen: &Screen) -> String {
    let bins = columns.iter().position(|column| column.kind == "time" && column.name.starts_with("bin("));
    let Some(bins) = bins.filter(|_| rows.len() > 1) else { return String::new() };
    let bin = |row: &Value| row[bins].as_str().map(str::to_owned);
    // Several groups a bin are no line.
    if rows.windows(2).any(|two| bin(&two[0]) >= bin(&two[1])) {
        return String::new();
    }
    let width = screen.width.unwrap_or(80).saturating_sub(24);
    let mut out = String::new();
    for (number, column) in columns.iter().enumerate().filter(|(_, column)| column.align() == Align::Right) {
        let values: Vec<Option<f64>> = rows.iter().map(|row| row[number].as_f64()).collect();
        let line = sparkline(&values, width);
        if !line.is_empty() {
            out.push_str(&format!("{}  {}\n", screen.ink(Ink::Dim, &column.name), line));
        }
    }
    if out.is_empty() { out } else { out + "\n" }
}

struct Column {
    name: String,
    kind: String,
    unit: String,
}

impl Column {
    fn read(column: &Value) -> Column {
        let text = |key: &str| column.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Column { name: clean(&text("name")), kind: text("type"), unit: text("unit") }
    }

    /// The name, with the unit where the cells do not show it themselves.
    fn header(&self) -> String {
        match self.unit.as_str() {
            "" | "ns" | "By" | "1" => self.name.clone(),
            unit => format!("{} [{}]", self.name, clean(unit)),
        }
    }

    fn align(&self) -> Align {
        let number = ["int", "uint", "double", "float", "number", "duration"].iter().any(|n| self.kind.contains(n));
        if number || !self.unit.is_empty() { Align::Right } else { Align::Left }
    }

    fn cell(&self, value: &Value, screen: &Screen) -> String {
        match value {
            Value::Null => "·".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Number(number) => self.number(number),
            Value::String(text) => match text.parse::<DateTime<Utc>>() {
                Ok(at) if self.kind.contains("time") => time(&at, &screen.zone),
                // Integers beyond 2^53 come as text.
                _ => match text.parse::<i64>() {
                    Ok(n) if self.align() == Align::Right => self.number(&n.into()),
                    _ => clean(text),
                },
            },
            other => match counts(other) {
                Some(counts) => sparkline(&counts.into_iter().map(Some).collect::<Vec<_>>(), 40),
                None => clean(&other.to_string()),
            },
        }
    }

    fn number(&self, number: &serde_json::Number) -> String {
        match (self.unit.as_str(), number.as_i64(), number.as_f64()) {
            ("ns", Some(n), _) => duration(n),
            // Casting saturates, and 292 years in nanoseconds are as good as more.
            ("ns", None, Some(n)) => duration(n.round() as i64),
            ("By", Some(n), _) if n >= 0 => bytes(n.unsigned_abs()),
            (_, Some(n), _) => count(n),
            (_, _, Some(n)) => double(n),
            _ => number.to_string(),
        }
    }
}

/// Four digits after the point are what an eye compares; `--json` has all of them.
fn double(n: f64) -> String {
    match n.abs() {
        a if a != 0.0 && !(1e-4..1e15).contains(&a) => format!("{n:.4e}"),
        _ => {
            let text = format!("{n:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// `3 rows in 12ms  ·  read 1,234 rows, 4.1kB in 7 frames, 120 pruned  ·  plugins 2ms in 7 calls`
fn footer(answer: &Value, rows: usize, took_ns: i64) -> String {
    let stats = answer.get("stats").unwrap_or(&Value::Null);
    let number = |name: &str| stats.get(name).and_then(Value::as_i64);
    let mut read = Vec::new();
    if let Some(n) = number("rows_scanned") {
        read.push(of(n, "row", "rows"));
    }
    if let Some(n) = number("bytes_read") {
        read.push(bytes(n.unsigned_abs()));
    }
    if let Some(n) = number("frames_read") {
        read.push(of(n, "frame", "frames"));
    }
    if let Some(n) = number("frames_pruned") {
        read.push(format!("{} pruned", count(n)));
    }
    let mut out = format!("{} in {}", of(rows as i64, "row", "rows"), duration(took_ns));
    if !read.is_empty() {
        out.push_str(&format!("  ·  read {}", read.join(", ")));
    }
    if let Some(n) = number("rollups_read").filter(|n| *n > 0) {
        let rows = number("rows_from_rollups").unwrap_or(0);
        out.push_str(&format!("  ·  {} tell of {}", of(n, "rollup", "rollups"), of(rows, "row", "rows")));
    }
    if let Some(n) = number("index_reads").filter(|n| *n > 0) {
        out.push_str(&format!("  ·  {}", of(n, "index read", "index reads")));
    }
    if let Some(calls) = number("plugin_calls").filter(|n| *n > 0) {
        let took = duration(number("plugin_ns").unwrap_or(0));
        out.push_str(&format!("  ·  plugins {took} in {}", of(calls, "call", "calls")));
    }
    for (tier, found) in stats["tiers"].as_object().into_iter().flatten() {
        let number = |name: &str| found[name].as_i64().unwrap_or(0);
        let read = bytes(number("bytes_read").unsigned_abs());
        out.push_str(&format!("  ·  {}: {read} of {}", clean(tier), of(number("parts"), "part", "parts")));
    }
    if let Some(cursor) = answer.get("cursor").and_then(Value::as_str) {
        out.push_str(&format!("  ·  more rows follow: --cursor {}", clean(cursor)));
    }
    out
}

fn of(n: i64, one: &str, more: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { more })
}

/// Warnings, and the parts that are missing because they could not be read.
fn warnings(answer: &Value) -> Vec<String> {
    let list = |key: &str| answer["stats"][key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let missing =
        |part: &Value| format!("{} could not be read and is missing: {}", text(&part["what"]), text(&part["why"]));
    list("warnings").iter().map(text).chain(list("partial").iter().map(missing)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn golden() {
        let given = json!({
            "columns": [
                {"name": "service.name", "type": "string"},
                {"name": "minute", "type": "time"},
                {"name": "n", "type": "int"},
                {"name": "p95", "type": "double", "unit": "ns"},
                {"name": "err", "type": "double"}
            ],
            "rows": [
                ["checkout", "2026-01-02T03:04:00.000000000Z", 12345, 12_345_678.9, 0.015625],
                [null, "2026-01-02T03:05:00.000000000Z", "9007199254740993", 850, "NaN"]
            ],
            "stats": {
                "rows_scanned": 12390, "bytes_read": 4096, "frames_read": 7, "frames_pruned": 120,
                "rollups_read": 2, "rows_from_rollups": 5000, "index_reads": 1,
                "plugin_ns": 1_250_000, "plugin_calls": 3,
                "tiers": {"hot": {"parts": 1, "bytes_read": 96}, "cold": {"parts": 3, "bytes_read": 4000}},
                "warnings": ["limit 5000 is clamped to 1000"],
                "partial": [{"what": "segment x from byte 5", "why": "damaged"}]
            }
        });
        let screen = Screen { width: Some(100), colour: false, zone: chrono::FixedOffset::east_opt(0).unwrap() };
        assert_eq!(
            answer(&given, 12_000_000, &screen),
            "\
service.name  minute                                   n     p95     err
────────────  ───────────────────  ─────────────────────  ──────  ──────
checkout      2026-01-02 03:04:00                 12,345  12.3ms  0.0156
·             2026-01-02 03:05:00  9,007,199,254,740,993   850ns     NaN

2 rows in 12ms  ·  read 12,390 rows, 4.1kB, 7 frames, 120 pruned  ·  2 rollups tell of 5,000 rows  ·  1 index read  ·  plugins 1.25ms in 3 calls  ·  hot: 96B of 1 part  ·  cold: 4kB of 3 parts
warning: limit 5000 is clamped to 1000
warning: segment x from byte 5 could not be read and is missing: damaged
"
        );
    }

    #[test]
    fn answers_of_another_shape_do_not_panic() {
        let screen = Screen { width: Some(10), colour: true, zone: chrono::FixedOffset::east_opt(0).unwrap() };
        assert!(answer(&json!({}), 0, &screen).contains("0 rows"));
        assert!(answer(&json!({"columns": [1], "rows": [3, [1, 2, 3]]}), 0, &screen).contains("2 rows"));
        assert_eq!([double(0.0), double(1e-9), double(1e20), double(-2.5)].join(" "), "0 1.0000e-9 1.0000e20 -2.5");
    }
}
