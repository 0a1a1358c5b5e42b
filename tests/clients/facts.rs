//! Facts in one form, whoever states them: a client about what it sent, or OTLP/JSON and rows about what is stored.

use serde_json::{Map, Value, json};

/// A field of a fact; null where it is not stated.
pub(crate) fn at<'a>(fact: &'a Value, name: &str) -> &'a Value {
    fact.get(name).unwrap_or(&Value::Null)
}

/// Text of a field, empty where it is not stated.
pub(crate) fn text(fact: &Value, name: &str) -> String {
    at(fact, name).as_str().unwrap_or_default().to_owned()
}

/// A number of a field, written as number or text; 0 where it is not stated.
pub(crate) fn int(fact: &Value, name: &str) -> i64 {
    match at(fact, name) {
        Value::String(digits) => digits.parse().expect("an int"),
        other => other.as_i64().unwrap_or(0),
    }
}

/// A double, whichever way its writer spells odd ones.
pub(crate) fn double(value: &Value) -> f64 {
    match value {
        Value::String(text) => match text.as_str() {
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            other => other.parse().expect("a double"),
        },
        other => other.as_f64().expect("a double"),
    }
}

/// A value with its type: `["int", "5"]`, `["double", "0.1"]`, `["array", […]]`, `["map", {…}]`, `["null"]` …
///
/// Reads an OTLP/JSON `AnyValue`, and the clients' shorter form of arrays and maps.
pub(crate) fn any(value: &Value) -> Value {
    let Some((kind, of)) = value.as_object().and_then(|o| o.iter().next()) else { return json!(["null"]) };
    let items = |of: &Value| of.get("values").unwrap_or(of).as_array().cloned().unwrap_or_default();
    match kind.as_str() {
        "stringValue" => json!(["string", of]),
        "boolValue" => json!(["bool", of]),
        "intValue" => json!(["int", int(value, kind)]),
        // By its bits: all NaN are one, zero has a sign.
        "doubleValue" => json!(["double", format!("{:?}", double(of))]),
        "bytesValue" => json!(["bytes", of]),
        "arrayValue" => json!(["array", items(of).iter().map(any).collect::<Vec<_>>()]),
        "kvlistValue" if of.get("values").is_some_and(Value::is_array) => json!(["map", attributes(&of["values"])]),
        "kvlistValue" => json!(["map", attributes(of)]),
        other => panic!("no value is a `{other}`"),
    }
}

/// Attributes by key: from an OTLP list, or from a client's object.
pub(crate) fn attributes(of: &Value) -> Value {
    let mut map = Map::new();
    match of {
        Value::Array(list) => {
            for entry in list {
                let before = map.insert(text(entry, "key"), any(at(entry, "value")));
                assert!(before.is_none(), "`{}` twice", text(entry, "key"));
            }
        }
        Value::Object(object) => map.extend(object.iter().map(|(k, v)| (k.clone(), any(v)))),
        _ => {}
    }
    Value::Object(map)
}

fn each(of: &Value, name: &str, fact: impl Fn(&Value) -> Value) -> Vec<Value> {
    at(of, name).as_array().into_iter().flatten().map(fact).collect()
}

/// A span as a client states it.
pub(crate) fn span(said: &Value) -> Value {
    let event = |e: &Value| json!([int(e, "time"), text(e, "name"), attributes(at(e, "attributes"))]);
    let scope = at(said, "scope");
    json!({
        "ids": ids(said),
        "traceState": text(said, "traceState"), "flags": int(said, "flags"), "name": text(said, "name"),
        "kind": int(said, "kind"), "times": [int(said, "start"), int(said, "end")],
        "status": [int(at(said, "status"), "code"), text(at(said, "status"), "message")],
        "attributes": attributes(at(said, "attributes")),
        "dropped": [int(said, "droppedAttributes"), int(said, "droppedEvents"), int(said, "droppedLinks")],
        "events": each(said, "events", event), "links": each(said, "links", link),
        "resource": attributes(at(said, "resource")), "resourceSchema": text(said, "resourceSchema"),
        "scope": [text(scope, "name"), text(scope, "version"), text(scope, "schemaUrl")],
        "scopeAttributes": attributes(at(scope, "attributes")),
    })
}

/// Ids are hexadecimal in any case.
fn ids(span: &Value) -> [String; 3] {
    ["traceId", "spanId", "parentSpanId"].map(|id| text(span, id).to_lowercase())
}

fn link(l: &Value) -> Value {
    json!([
        text(l, "traceId"),
        text(l, "spanId"),
        text(l, "traceState"),
        int(l, "flags"),
        attributes(at(l, "attributes"))
    ])
}

/// What stands in an OTLP/JSON document for each item of a scope, with its resource and scope as a client states them.
fn items(document: &Value, signal: [&str; 3], mut see: impl FnMut(&Value, Value)) {
    let list = |of: &Value, name: &str| at(of, name).as_array().cloned().unwrap_or_default();
    let plain = |of: &Value| -> Value {
        list(of, "attributes").iter().map(|a| (text(a, "key"), at(a, "value").clone())).collect::<Map<_, _>>().into()
    };
    for of_resource in list(document, signal[0]) {
        for of_scope in list(&of_resource, signal[1]) {
            let scope = at(&of_scope, "scope");
            for item in list(&of_scope, signal[2]) {
                let around = json!({
                    "resource": plain(at(&of_resource, "resource")), "attributes": plain(&item),
                    "scope": { "name": text(scope, "name"), "version": text(scope, "version"), "attributes": plain(scope) },
                });
                see(&item, around);
            }
        }
    }
}

fn add(fact: &mut Value, fields: Value) {
    if let (Value::Object(fact), Value::Object(fields)) = (fact, fields) {
        fact.extend(fields);
    }
}

/// The log records of an OTLP/JSON document, as a client would state them.
pub(crate) fn logs_of(document: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    items(document, ["resourceLogs", "scopeLogs", "logRecords"], |record, mut fact| {
        add(
            &mut fact,
            json!({
                "time": int(record, "timeUnixNano"), "observed": int(record, "observedTimeUnixNano"),
                "severity": int(record, "severityNumber"), "severityText": text(record, "severityText"),
                "eventName": text(record, "eventName"), "body": at(record, "body"), "flags": int(record, "flags"),
                "traceId": text(record, "traceId").to_lowercase(), "spanId": text(record, "spanId").to_lowercase(),
            }),
        );
        out.push(fact);
    });
    out
}

/// The points of an OTLP/JSON document, as a client would state them.
pub(crate) fn points_of(document: &Value) -> Vec<Value> {
    let types = [
        ("gauge", "gauge"),
        ("sum", "sum"),
        ("histogram", "histogram"),
        ("exponentialHistogram", "exponential_histogram"),
        ("summary", "summary"),
    ];
    let mut out = Vec::new();
    items(document, ["resourceMetrics", "scopeMetrics", "metrics"], |metric, around| {
        for (name, ty) in types {
            let of = at(metric, name);
            let list = json!({ "m": [{ "s": [{ "p": at(of, "dataPoints") }] }] });
            items(&list, ["m", "s", "p"], |point, own| {
                let mut fact = around.clone();
                add(
                    &mut fact,
                    json!({
                        "name": text(metric, "name"), "unit": text(metric, "unit"), "type": ty,
                        "description": text(metric, "description"), "temporality": int(of, "aggregationTemporality"),
                        "monotonic": at(of, "isMonotonic").as_bool().unwrap_or(false), "attributes": own["attributes"],
                        "time": int(point, "timeUnixNano"), "start": int(point, "startTimeUnixNano"),
                    }),
                );
                for (from, to, kind) in [("asInt", "value", "intValue"), ("asDouble", "value", "doubleValue")] {
                    if let Some(value) = point.get(from) {
                        add(&mut fact, json!({ to: { kind: value } }));
                    }
                }
                for (from, to) in [
                    ("count", "count"),
                    ("sum", "sum"),
                    ("min", "min"),
                    ("max", "max"),
                    ("bucketCounts", "counts"),
                    ("explicitBounds", "bounds"),
                    ("scale", "scale"),
                    ("zeroCount", "zeroCount"),
                ] {
                    if let Some(value) = point.get(from) {
                        add(&mut fact, json!({ to: value }));
                    }
                }
                let quantiles =
                    |name: &str| each(point, "quantileValues", |q| q.get(name).cloned().unwrap_or(json!(0.0)));
                add(&mut fact, json!({ "quantiles": quantiles("quantile"), "quantileValues": quantiles("value") }));
                for side in ["positive", "negative"] {
                    if let Some(buckets) = point.get(side) {
                        let counts = at(buckets, "bucketCounts");
                        add(&mut fact, json!({ side: { "offset": int(buckets, "offset"), "counts": counts } }));
                    }
                }
                out.push(fact);
            });
        }
    });
    out
}

/// The spans of an OTLP/JSON document, in the same form.
pub(crate) fn spans_of(document: &Value) -> Vec<Value> {
    let event = |e: &Value| json!([int(e, "timeUnixNano"), text(e, "name"), attributes(at(e, "attributes"))]);
    let mut out = Vec::new();
    for of_resource in at(document, "resourceSpans").as_array().into_iter().flatten() {
        for of_scope in at(of_resource, "scopeSpans").as_array().into_iter().flatten() {
            let scope = at(of_scope, "scope");
            out.extend(each(of_scope, "spans", |s| {
                json!({
                    "ids": ids(s),
                    "traceState": text(s, "traceState"), "flags": int(s, "flags"), "name": text(s, "name"),
                    "kind": int(s, "kind"), "times": [int(s, "startTimeUnixNano"), int(s, "endTimeUnixNano")],
                    "status": [int(at(s, "status"), "code"), text(at(s, "status"), "message")],
                    "attributes": attributes(at(s, "attributes")),
                    "dropped": [
                        int(s, "droppedAttributesCount"), int(s, "droppedEventsCount"), int(s, "droppedLinksCount"),
                    ],
                    "events": each(s, "events", event), "links": each(s, "links", link),
                    "resource": attributes(at(at(of_resource, "resource"), "attributes")),
                    "resourceSchema": text(of_resource, "schemaUrl"),
                    "scope": [text(scope, "name"), text(scope, "version"), text(of_scope, "schemaUrl")],
                    "scopeAttributes": attributes(at(scope, "attributes")),
                })
            }));
        }
    }
    out
}
