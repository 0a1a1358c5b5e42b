//! What a tail says, in the form that its client asked for. Each line of NDJSON is an object with one key, which tells what it is:
//!
//! ```text
//! {"columns": [{"name", "type", "unit"}]}   first
//! {"cursor": "…"}                           where the rows behind it begin: with `.n` behind it, after n of them
//! {"row": {…}}
//! {"skipped": {"rows": n}}                  the client reads too slowly: so many rows were not looked at
//! {"gap": {"from", "to"}}                   rows that were stored between these times may be missing
//! {"heartbeat": "<time>"}                   where nothing else was to be said for a while
//! {"end": {"code", "message", "hint"}}      last
//! ```
//!
//! Of server-sent events the data of a `message` is a row, whose id is its cursor; the others are events of their names.

use prism_query::{Column, TailRows};
use serde_json::{Map, Value, json};

/// How a tail is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// An object a line.
    Ndjson,
    /// Server-sent events (the WHATWG's HTML standard, section 9.2).
    Events,
}

/// How long a browser waits before it connects again, in milliseconds.
const RETRY_MS: u32 = 1_000;

impl Form {
    /// Its media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Form::Ndjson => "application/x-ndjson",
            Form::Events => "text/event-stream",
        }
    }

    /// What comes first.
    pub(super) fn columns(self, columns: &[Column], out: &mut String) {
        if self == Form::Events {
            out.push_str(&format!("retry: {RETRY_MS}\n\n"));
        }
        let column = |c: &Column| {
            let mut of = Map::new();
            of.insert("name".into(), c.name.as_str().into());
            of.insert("type".into(), c.ty.into());
            of.extend(c.unit.map(|unit| ("unit".into(), unit.into())));
            Value::Object(of)
        };
        self.told("columns", &Value::Array(columns.iter().map(column).collect()), out);
    }

    /// Where the rows behind it begin.
    pub(super) fn cursor(self, cursor: &str, out: &mut String) {
        if self == Form::Ndjson {
            out.push_str(&format!("{{\"cursor\":\"{cursor}\"}}\n"));
        }
    }

    /// A row, the `number`th behind the cursor.
    pub(super) fn row(self, rows: &TailRows, row: usize, cursor: Option<&str>, number: usize, out: &mut String) {
        match self {
            Form::Ndjson => out.push_str("{\"row\":"),
            Form::Events => {
                if let Some(cursor) = cursor {
                    out.push_str(&format!("id: {cursor}.{number}\n"));
                }
                out.push_str("data: ");
            }
        }
        rows.write(row, out);
        out.push_str(if self == Form::Ndjson { "}\n" } else { "\n\n" });
    }

    /// That the tail lives, and where it is.
    pub(super) fn heartbeat(self, time: &str, cursor: Option<&str>, out: &mut String) {
        match self {
            Form::Ndjson => {
                cursor.iter().for_each(|cursor| self.cursor(cursor, out));
                out.push_str(&format!("{{\"heartbeat\":\"{time}\"}}\n"));
            }
            // No event: whoever reads is not woken, and the id counts all the same.
            Form::Events => {
                out.push_str(&format!(": {time}\n"));
                cursor.iter().for_each(|cursor| out.push_str(&format!("id: {cursor}\n")));
                out.push('\n');
            }
        }
    }

    /// Anything else, by its name.
    pub(super) fn told(self, name: &str, value: &Value, out: &mut String) {
        match self {
            Form::Ndjson => out.push_str(&json!({ name: value }).to_string()),
            Form::Events => out.push_str(&format!("event: {name}\ndata: {value}\n")),
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_says_the_same() {
        let columns = [Column { name: "a\nb".into(), ty: "duration", unit: Some("ns") }];
        let said = |form: Form| {
            let mut out = String::new();
            form.columns(&columns, &mut out);
            form.cursor("C", &mut out);
            form.heartbeat("T", Some("C"), &mut out);
            form.told("skipped", &json!({ "rows": 3 }), &mut out);
            out
        };
        assert_eq!(
            said(Form::Ndjson),
            "{\"columns\":[{\"name\":\"a\\nb\",\"type\":\"duration\",\"unit\":\"ns\"}]}\n{\"cursor\":\"C\"}\n\
             {\"cursor\":\"C\"}\n{\"heartbeat\":\"T\"}\n{\"skipped\":{\"rows\":3}}\n"
        );
        assert_eq!(
            said(Form::Events),
            "retry: 1000\n\nevent: columns\ndata: [{\"name\":\"a\\nb\",\"type\":\"duration\",\"unit\":\"ns\"}]\n\n\
             : T\nid: C\n\nevent: skipped\ndata: {\"rows\":3}\n\n"
        );
    }
}
