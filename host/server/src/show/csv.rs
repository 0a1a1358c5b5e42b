//! The JSON answer of a query as CSV (RFC 4180): a line of names, then a line a row, values as the answer has them.

use serde_json::Value;

/// The lines, each with its end.
pub(crate) fn csv(answer: &Value) -> String {
    let list = |key: &str| answer.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut out = line(list("columns").iter().map(|column| cell(&column["name"])));
    for row in list("rows") {
        out.push_str(&line(row.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(cell)));
    }
    out
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(",") + "\r\n"
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_quoted_where_they_must() {
        let answer = json!({
            "columns": [{"name": "a"}, {"name": "b, c"}],
            "rows": [["x \"y\"", 1.5], [null, {"k": [1, 2]}], ["two\nlines", true]]
        });
        let expected = "a,\"b, c\"\r\n\"x \"\"y\"\"\",1.5\r\n,\"{\"\"k\"\":[1,2]}\"\r\n\"two\nlines\",true\r\n";
        assert_eq!(csv(&answer), expected);
        assert_eq!(csv(&json!({})), "\r\n");
    }
}
