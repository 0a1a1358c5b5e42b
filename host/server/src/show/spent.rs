//! Where the time of a trace went, span by span: from the answer to `GET /v1/traces/{id}?format=rows`.

use std::collections::HashMap;

use serde_json::Value;

/// What a span spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Its duration without the times of its children, nanoseconds; `None` while it runs.
    pub(crate) own: Option<i64>,
    /// It is on the critical path of its trace.
    pub(crate) critical: bool,
}

/// By span id; nothing of rows that do not tell.
pub(crate) fn spent(rows: &Value) -> HashMap<String, Spent> {
    let columns = rows.get("columns").and_then(Value::as_array);
    let column = |name: &str| columns?.iter().position(|c| c.get("name").and_then(Value::as_str) == Some(name));
    let (Some(id), Some(own), Some(critical)) =
        (column("span_id"), column("self_duration"), column("critical_duration"))
    else {
        return HashMap::new();
    };
    let of_row = |row: &Value| {
        let critical = row.get(critical).and_then(Value::as_i64).is_some_and(|nanos| nanos > 0);
        let spent = Spent { own: row.get(own).and_then(Value::as_i64), critical };
        Some((row.get(id)?.as_str()?.to_owned(), spent))
    };
    rows.get("rows").and_then(Value::as_array).into_iter().flatten().filter_map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_tell_by_the_names_of_their_columns() {
        let rows = json!({
            "columns": [{"name": "critical_duration"}, {"name": "span_id"}, {"name": "self_duration"}],
            "rows": [[5, "a", 7], [0, "b", null]],
        });
        let of = spent(&rows);
        assert_eq!(of["a"], Spent { own: Some(7), critical: true });
        assert_eq!(of["b"], Spent { own: None, critical: false });
        assert!(spent(&json!({"columns": [], "rows": [[1]]})).is_empty());
        assert!(spent(&json!("text")).is_empty());
    }
}
