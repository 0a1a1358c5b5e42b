//! The spans of an OTLP/JSON trace, in the order in which a reader expects them: parents before children, by time.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// One line of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// `service.name` of its resource, or `?`.
    pub(crate) service: String,
    /// The span's name.
    pub(crate) name: String,
    /// In hexadecimal digits.
    pub(crate) id: String,
    /// Unix nanoseconds.
    pub(crate) start: i128,
    /// Unix nanoseconds; `None` while the span runs.
    pub(crate) end: Option<i128>,
    /// Whether the status is an error.
    pub(crate) error: bool,
    /// Message of the status.
    pub(crate) message: String,
    /// For each level: whether more siblings follow there. Empty for roots.
    pub(crate) rails: Vec<bool>,
    /// The span names a parent that is not in the trace.
    pub(crate) orphan: bool,
}

struct Span {
    node: Node,
    id: String,
    parent: String,
}

/// All spans, parents first. Spans that stand in the answer twice, byte for byte, are shown once. Spans whose parents form
/// a circle are shown as roots.
pub(crate) fn tree(trace: &Value) -> Vec<Node> {
    let mut spans = read(trace);
    spans.sort_by(|a, b| (a.node.start, &a.id).cmp(&(b.node.start, &b.id)));
    let ids: HashSet<&str> = spans.iter().map(|s| s.id.as_str()).collect();
    let mut children: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (i, span) in spans.iter().enumerate() {
        if span.parent.is_empty() || span.parent == span.id || !ids.contains(span.parent.as_str()) {
            roots.push(i);
        } else {
            children.entry(&span.parent).or_default().push(i);
        }
    }
    let mut out = Vec::with_capacity(spans.len());
    let mut seen = vec![false; spans.len()];
    for root in roots.into_iter().chain(0..spans.len()) {
        walk(root, &spans, &children, &mut seen, &mut out);
    }
    out
}

fn walk(root: usize, spans: &[Span], children: &HashMap<&str, Vec<usize>>, seen: &mut [bool], out: &mut Vec<Node>) {
    // A stack and no recursion: depth is the client's to choose.
    let mut stack: Vec<(usize, Vec<bool>)> = vec![(root, Vec::new())];
    while let Some((i, rails)) = stack.pop() {
        if std::mem::replace(&mut seen[i], true) {
            continue;
        }
        let span = &spans[i];
        let orphan = rails.is_empty() && !span.parent.is_empty();
        out.push(Node { rails: rails.clone(), orphan, ..span.node.clone() });
        let below: Vec<usize> =
            children.get(span.id.as_str()).into_iter().flatten().copied().filter(|c| !seen[*c]).collect();
        for (n, child) in below.iter().enumerate().rev() {
            let mut rails = rails.clone();
            rails.push(n + 1 < below.len());
            stack.push((*child, rails));
        }
    }
}

fn read(trace: &Value) -> Vec<Span> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut seen = HashSet::new();
    let mut spans = Vec::new();
    for resource in list(trace, "resourceSpans") {
        let service = service_name(&resource);
        for scope in list(&resource, "scopeSpans") {
            for span in list(&scope, "spans") {
                if seen.insert((service.clone(), span.to_string())) {
                    spans.push(read_span(&service, &span));
                }
            }
        }
    }
    spans
}

fn read_span(service: &str, span: &Value) -> Span {
    let text = |key: &str| span.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let end = Some(nanos(span.get("endTimeUnixNano"))).filter(|end| *end != 0);
    let status = span.get("status");
    let node = Node {
        service: service.to_owned(),
        name: text("name"),
        id: text("spanId"),
        start: nanos(span.get("startTimeUnixNano")),
        end,
        error: status.and_then(|s| s.get("code")).and_then(Value::as_i64) == Some(2),
        message: status.and_then(|s| s.get("message")).and_then(Value::as_str).unwrap_or_default().to_owned(),
        rails: Vec::new(),
        orphan: false,
    };
    Span { node, id: text("spanId"), parent: text("parentSpanId") }
}

fn service_name(resource: &Value) -> String {
    let attributes = resource.pointer("/resource/attributes").and_then(Value::as_array);
    let named = attributes.into_iter().flatten().find(|a| a.get("key").and_then(Value::as_str) == Some("service.name"));
    let value = named.and_then(|a| a.pointer("/value/stringValue")).and_then(Value::as_str);
    value.unwrap_or("?").to_owned()
}

/// 64-bit integers are texts in OTLP/JSON, and numbers are accepted.
fn nanos(value: Option<&Value>) -> i128 {
    match value {
        Some(Value::String(text)) => text.parse().unwrap_or(0),
        Some(Value::Number(number)) => number.as_u64().map_or(0, i128::from),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spans: &[(&str, &str, u64)], expected: &str) {
        let spans: Vec<Value> = spans
            .iter()
            .map(|(id, parent, start)| {
                json!({"spanId": id, "parentSpanId": parent, "name": id, "startTimeUnixNano": start.to_string(), "endTimeUnixNano": "9"})
            })
            .collect();
        let trace = json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]});
        let shown: Vec<String> = tree(&trace)
            .iter()
            .map(|n| format!("{}{}{}", "-".repeat(n.rails.len()), n.name, if n.orphan { "?" } else { "" }))
            .collect();
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn parents_come_first_and_siblings_by_time() {
        check(&[("c", "a", 3), ("b", "a", 2), ("a", "", 1), ("d", "b", 4)], "a -b --d -c");
    }

    #[test]
    fn odd_traces_lose_no_span() {
        check(&[("a", "gone", 1), ("b", "a", 2)], "a? -b");
        check(&[("a", "b", 1), ("b", "a", 2)], "a? -b");
        check(&[("a", "a", 1)], "a?");
        check(&[("a", "", 1), ("a", "", 1)], "a");
        check(&[("a", "", 1), ("a", "", 2), ("b", "a", 3)], "a -b a");
        assert!(tree(&json!({"resourceSpans": "x"})).is_empty());
    }

    #[test]
    fn deep_traces_do_not_overflow() {
        let spans: Vec<Value> = (0..3_000)
            .map(|i| json!({"spanId": i.to_string(), "parentSpanId": if i == 0 { String::new() } else { (i - 1).to_string() }}))
            .collect();
        assert_eq!(tree(&json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})).len(), 3_000);
    }
}
