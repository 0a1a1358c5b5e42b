//! Whether Prism holds what a client says: spans by their trace, log records and points as rows of queries.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use prism_tests::Server;
use serde_json::{Value, json};

use crate::facts::{any, at, double, int, span, spans_of, text};

/// Spans of these facts, read back equal, and no others of their traces.
///
/// # Errors
/// What differs.
pub(crate) fn spans(server: &Server, said: &[Value]) -> anyhow::Result<()> {
    let traces: BTreeSet<String> = said.iter().map(|s| text(s, "traceId")).collect();
    for trace in traces {
        let answer = server.get(&format!("/v1/traces/{trace}"))?;
        ensure!(answer.status == 200, "trace {trace}: {} {}", answer.status, answer.text());
        let sorted = |mut all: Vec<Value>| {
            all.sort_by_key(|s| s["ids"].to_string());
            all
        };
        let stored = sorted(spans_of(&answer.json()));
        let expected = sorted(said.iter().filter(|s| text(s, "traceId") == trace).map(span).collect());
        same(&format!("trace {trace}"), &expected, &stored)?;
    }
    Ok(())
}

fn same(what: &str, expected: &[Value], stored: &[Value]) -> anyhow::Result<()> {
    ensure!(expected.len() == stored.len(), "{what}: expected {} spans, found {}", expected.len(), stored.len());
    for (expected, stored) in expected.iter().zip(stored) {
        for (name, value) in expected.as_object().context("a fact")? {
            ensure!(*value == stored[name], "{what}: {name}: expected {value}, found {}", stored[name]);
        }
    }
    Ok(())
}

/// A column of a query, with the type and the cell that it must have.
struct Cell {
    ask: String,
    expected: (&'static str, Value),
}

fn cell(ask: impl Into<String>, expected: (&'static str, Value)) -> Cell {
    Cell { ask: ask.into(), expected }
}

/// A value of any type as an answer shows it.
fn shown(typed: &Value) -> (&'static str, Value) {
    let of = &typed[1];
    match typed[0].as_str().unwrap_or_default() {
        "string" => ("string", of.clone()),
        "bool" => ("bool", of.clone()),
        "bytes" => ("bytes", of.clone()),
        "int" => ("int", number(of.as_i64().expect("an int"))),
        "double" => ("double", number_of(double(of))),
        "array" => ("json", of.as_array().into_iter().flatten().map(|v| shown(v).1).collect()),
        "map" => (
            "json",
            Value::Object(of.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), shown(v).1)).collect()),
        ),
        _ => ("json", Value::Null),
    }
}

/// Ints beyond 2^53 are text, so that no reader rounds them.
fn number(n: i64) -> Value {
    if n.unsigned_abs() > 1 << 53 { json!(n.to_string()) } else { json!(n) }
}

/// Where 0 means that none was given.
fn some_time(nanos: i64) -> Value {
    if nanos == 0 { Value::Null } else { number(nanos) }
}

fn number_of(d: f64) -> Value {
    if d.is_nan() {
        json!("NaN")
    } else if d.is_infinite() {
        json!(if d > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(d)
    }
}

/// A key in backticks, of which a scope is told apart by the dot.
fn key(scope: &str, name: &str) -> String {
    format!("{scope}.{}", quoted(name, '`'))
}

fn quoted(text: &str, quote: char) -> String {
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Attributes of a record, its resource and scope, and the scope's name.
fn surroundings(said: &Value) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut all = |scope: &str, of: &Value| {
        for (name, value) in of.as_object().into_iter().flatten() {
            cells.push(cell(key(scope, name), shown(&any(value))));
        }
    };
    all("attr", at(said, "attributes"));
    all("resource", at(said, "resource"));
    let scope = at(said, "scope");
    for (name, value) in at(scope, "attributes").as_object().into_iter().flatten() {
        cells.push(cell(key("scope.attr", name), shown(&any(value))));
    }
    cells.push(fixed("scope.name", text(scope, "name")));
    cells.push(fixed("scope.version", text(scope, "version")));
    cells
}

/// A fixed text: empty ones are missing.
fn fixed(name: &str, value: String) -> Cell {
    let shown = if value.is_empty() { Value::Null } else { json!(value) };
    cell(name, ("string", shown))
}

/// Log records of these facts, read back equal, and as many as there are.
///
/// # Errors
/// What differs.
pub(crate) fn logs(server: &Server, said: &[Value]) -> anyhow::Result<()> {
    for record in said {
        let id = any(&record["attributes"]["test.id"])[1].as_str().context("test.id")?.to_owned();
        let exporter = quoted(&text(record, "exporter"), '\'');
        let of = format!("last 1h where resource.exporter = {exporter} and attr.test.id = {}", quoted(&id, '\''));
        log(server, &of, record)?;
    }
    counted(server, "logs", said)
}

/// One log record, found by a range and a condition.
///
/// # Errors
/// What differs.
pub(crate) fn log(server: &Server, of: &str, record: &Value) -> anyhow::Result<()> {
    let mut cells = surroundings(record);
    let time = if int(record, "time") == 0 { int(record, "observed") } else { int(record, "time") };
    let severity = int(record, "severity");
    cells.extend([
        cell("number(time)", ("int", number(time))),
        cell("number(observed_time)", ("int", some_time(int(record, "observed")))),
        cell("severity", ("int", if severity == 0 { Value::Null } else { json!(severity) })),
        fixed("severity_text", text(record, "severityText")),
        fixed("event_name", text(record, "eventName")),
        cell("body", shown(&any(at(record, "body")))),
        cell("text(trace_id)", fixed("", text(record, "traceId")).expected),
        cell("text(span_id)", fixed("", text(record, "spanId")).expected),
        cell("flags", ("int", json!(int(record, "flags")))),
    ]);
    one_row(server, &format!("from logs {of}"), &cells)
}

/// Metric points of these facts, read back equal, and as many as there are.
///
/// # Errors
/// What differs.
pub(crate) fn points(server: &Server, said: &[Value]) -> anyhow::Result<()> {
    for point in said {
        let id = any(&point["attributes"]["point"])[1].as_str().context("point")?.to_owned();
        let of = format!(
            "last 1h where resource.exporter = {} and name = {} and attr.point = {}",
            quoted(&text(point, "exporter"), '\''),
            quoted(&text(point, "name"), '\''),
            quoted(&id, '\'')
        );
        self::point(server, &of, point)?;
    }
    counted(server, "metrics", said)
}

/// One point, found by a range and a condition.
///
/// # Errors
/// What differs.
pub(crate) fn point(server: &Server, of: &str, point: &Value) -> anyhow::Result<()> {
    let mut cells = surroundings(point);
    let temporality = ["unspecified", "delta", "cumulative"][int(point, "temporality") as usize];
    cells.extend([
        fixed("name", text(point, "name")),
        fixed("unit", text(point, "unit")),
        fixed("description", text(point, "description")),
        fixed("type", text(point, "type")),
        fixed("temporality", temporality.to_owned()),
        cell("monotonic", ("bool", at(point, "monotonic").clone())),
        cell("number(time)", ("int", number(int(point, "time")))),
        cell("number(start_time)", ("int", some_time(int(point, "start")))),
    ]);
    if let Some(value) = point.get("value") {
        cells.push(cell("value", shown(&any(value))));
    }
    if point.get("count").is_some() {
        cells.push(cell("count", ("int", number(int(point, "count")))));
        for name in ["sum", "min", "max"] {
            let value = point.get(name).map_or(Value::Null, |v| number_of(double(v)));
            // Only in a summary is the sum no optional field.
            let absent = value.is_null() && name == "sum" && text(point, "type") == "summary";
            cells.push(cell(name, ("double", if absent { json!(0.0) } else { value })));
        }
    }
    let ints = |of: &Value| -> (&'static str, Value) {
        let all = of.as_array().into_iter().flatten().map(|n| json!({ "n": n }));
        let all: Vec<Value> = all.map(|n| number(int(&n, "n"))).collect();
        // An empty list and none are the same fact.
        ("int[]", if all.is_empty() { Value::Null } else { json!(all) })
    };
    let doubles = |of: &Value| -> (&'static str, Value) {
        let all: Vec<Value> = of.as_array().into_iter().flatten().map(|d| number_of(double(d))).collect();
        ("double[]", if all.is_empty() { Value::Null } else { json!(all) })
    };
    cells.extend([
        cell("explicit_bounds", doubles(at(point, "bounds"))),
        cell("bucket_counts", ints(at(point, "counts"))),
        cell("quantiles", doubles(at(point, "quantiles"))),
        cell("quantile_values", doubles(at(point, "quantileValues"))),
    ]);
    if point.get("scale").is_some() {
        cells.push(cell("scale", ("int", json!(int(point, "scale")))));
        cells.push(cell("zero_count", ("int", number(int(point, "zeroCount")))));
        for side in ["positive", "negative"] {
            let buckets = at(point, side);
            let offset = if buckets.is_null() { Value::Null } else { json!(int(buckets, "offset")) };
            cells.push(cell(format!("{side}_offset"), ("int", offset)));
            cells.push(cell(format!("{side}_counts"), ints(at(buckets, "counts"))));
        }
    }
    let of = format!("from metrics {of}");
    one_row(server, &of, &cells)?;
    exemplars(server, &of, point)
}

/// Names and values for completion know these points: their attributes, and how many points each metric has.
///
/// # Errors
/// What is not known, or differs.
pub(crate) fn completed(server: &Server, said: &[Value]) -> anyhow::Result<()> {
    let fields = server.get("/v1/fields?signal=metrics&last=1h")?.json();
    let fields = fields["fields"].as_array().context("fields")?;
    let known = |name: &str, scope: &str| fields.iter().any(|f| f["name"] == name && f["scope"] == scope);
    for (name, scope) in
        [("value", "intrinsic"), ("bucket_counts", "intrinsic"), ("point", "attr"), ("ünï", "resource")]
    {
        ensure!(known(name, scope), "`{name}` of {scope} is not listed");
    }
    ensure!(fields.iter().all(|f| f["signal"] == "metrics"), "fields of other signals are listed");
    let mut expected = BTreeMap::new();
    for point in said {
        *expected.entry(text(point, "name")).or_insert(0i64) += 1;
    }
    let values = server.get("/v1/fields/name/values?signal=metrics&last=1h&limit=100")?.json();
    let values = values["values"].as_array().context("values")?;
    let found: BTreeMap<String, i64> = values.iter().map(|v| (text(v, "value"), int(v, "count"))).collect();
    ensure!(found == expected, "expected {expected:?}, found {found:?}");
    Ok(())
}

/// Each exemplar by its parts.
fn exemplars(server: &Server, of: &str, point: &Value) -> anyhow::Result<()> {
    for exemplar in at(point, "exemplars").as_array().into_iter().flatten() {
        let mut parts = vec![format!("number(exemplar.time) = {}", int(exemplar, "time"))];
        let value = any(at(exemplar, "value"));
        parts.push(format!("exemplar.value = {}", value[1].to_string().trim_matches('"')));
        for (name, field) in [("traceId", "trace_id"), ("spanId", "span_id")] {
            if !text(exemplar, name).is_empty() {
                parts.push(format!("exemplar.{field} = '{}'", text(exemplar, name)));
            }
        }
        for (name, value) in at(exemplar, "attributes").as_object().into_iter().flatten() {
            let field = key("exemplar", name);
            parts.push(match shown(&any(value)) {
                ("string", Value::String(text)) => format!("{field} = {}", quoted(&text, '\'')),
                ("json", Value::Array(items)) => {
                    items.iter().map(|i| format!("{field} contains {i}")).collect::<Vec<_>>().join(" and ")
                }
                (_, plain) => format!("{field} = {plain}"),
            });
        }
        let text = format!("{of} and {} select count()", parts.join(" and "));
        ensure!(server.number(&text)? == 1, "not found: {text}");
    }
    Ok(())
}

/// The query gives one row with these cells.
fn one_row(server: &Server, of: &str, cells: &[Cell]) -> anyhow::Result<()> {
    let columns: Vec<String> = cells.iter().enumerate().map(|(i, c)| format!("{} as c{i}", c.ask)).collect();
    let text = format!("{of} select {}", columns.join(", "));
    let answer = server.post("/v1/query", &[("content-type", "text/plain")], text.clone().into())?;
    ensure!(answer.status == 200, "{text}: {} {}", answer.status, answer.text());
    let json = answer.json();
    let rows = json["rows"].as_array().context("rows")?;
    ensure!(rows.len() == 1, "{of}: expected one row, found {}", rows.len());
    for (i, Cell { ask, expected: (ty, value) }) in cells.iter().enumerate() {
        let (found, found_type) = (&rows[0][i], &json["columns"][i]["type"]);
        // As text, since -0.0 and 0.0 are two numbers and 1 and 1.0 too.
        let (found_text, expected_text) = (found.to_string(), value.to_string());
        ensure!(found_text == expected_text, "{of}: {ask}: expected {expected_text}, found {found_text}");
        ensure!(value.is_null() || found_type == ty, "{of}: {ask}: expected a {ty}, found a {found_type}");
    }
    Ok(())
}

/// No row is missing, and none is there twice.
fn counted(server: &Server, table: &str, said: &[Value]) -> anyhow::Result<()> {
    let exporters: BTreeSet<String> = said.iter().map(|f| text(f, "exporter")).collect();
    for exporter in exporters {
        let of = quoted(&exporter, '\'');
        let stored = server.number(&format!("from {table} last 1h where resource.exporter = {of} select count()"))?;
        let expected = said.iter().filter(|f| text(f, "exporter") == exporter).count() as i64;
        ensure!(stored == expected, "{table} of {exporter}: expected {expected}, found {stored}");
    }
    Ok(())
}
