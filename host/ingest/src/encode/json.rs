//! OTLP/JSON as the specification asks for it: lowerCamelCase, ids in hex, enums as numbers, 64-bit ints as text, bytes in
//! base64, defaults left out.

mod metrics;

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use opentelemetry_proto::tonic::common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use prism_model::Batch;
use prism_model::value::write_string;

pub use metrics::metrics_json;

/// The spans of all batches as one OTLP/JSON `TracesData`: `{"resourceSpans":[…]}`. Equal resources and scopes are joined.
pub fn traces_json(batches: &[Batch]) -> String {
    let mut groups = Groups::default();
    for resource in batches.iter().flat_map(|batch| super::traces(batch).resource_spans) {
        let envelope = resource_text(resource.resource.as_ref());
        for scope in resource.scope_spans {
            let scope_envelope = scope_text(scope.scope.as_ref());
            let items = groups.items(&envelope, &resource.schema_url, scope_envelope, scope.schema_url);
            scope.spans.iter().for_each(|span| list_item(items, |o| write_span(span, o)));
        }
    }
    groups.into_text("resourceSpans", "scopeSpans", "spans")
}

/// The log records of all batches as one OTLP/JSON `LogsData`: `{"resourceLogs":[…]}`. Equal resources and scopes are joined.
pub fn logs_json(batches: &[Batch]) -> String {
    let mut groups = Groups::default();
    for resource in batches.iter().flat_map(|batch| super::logs(batch).resource_logs) {
        let envelope = resource_text(resource.resource.as_ref());
        for scope in resource.scope_logs {
            let scope_envelope = scope_text(scope.scope.as_ref());
            let items = groups.items(&envelope, &resource.schema_url, scope_envelope, scope.schema_url);
            scope.log_records.iter().for_each(|record| list_item(items, |o| write_record(record, o)));
        }
    }
    groups.into_text("resourceLogs", "scopeLogs", "logRecords")
}

/// What stands around items, as text: a resource or scope, and its schema URL.
type Envelope = (String, String);

/// Items as text, by the text of their resource and scope with their schema URLs, in the order in which these come.
#[derive(Default)]
struct Groups {
    resources: Vec<(Envelope, Vec<(Envelope, String)>)>,
    resource_places: HashMap<Envelope, usize>,
    scope_places: HashMap<(usize, String, String), usize>,
}

impl Groups {
    fn items(&mut self, resource: &str, resource_url: &str, scope: String, scope_url: String) -> &mut String {
        let key = (resource.to_owned(), resource_url.to_owned());
        let resources = &mut self.resources;
        let place = *self.resource_places.entry(key).or_insert_with_key(|key| {
            resources.push((key.clone(), Vec::new()));
            resources.len() - 1
        });
        let scopes = &mut resources[place].1;
        let scope_place = *self.scope_places.entry((place, scope, scope_url)).or_insert_with_key(|(_, scope, url)| {
            scopes.push(((scope.clone(), url.clone()), String::new()));
            scopes.len() - 1
        });
        &mut scopes[scope_place].1
    }

    fn into_text(self, resources_name: &str, scopes_name: &str, items_name: &str) -> String {
        let mut out = Object::new(String::new());
        out.list(resources_name, self.resources.iter(), |((resource, url), scopes), out| {
            let mut out = Object::new(out);
            out.raw("resource", resource);
            out.list(scopes_name, scopes.iter(), |((scope, url), items), out| {
                let mut out = Object::new(out);
                out.raw("scope", scope);
                out.raw(items_name, &format!("[{items}]"));
                out.text("schemaUrl", url);
                out.end()
            });
            out.text("schemaUrl", url);
            out.end()
        });
        if self.resources.is_empty() {
            out.raw(resources_name, "[]");
        }
        out.end()
    }
}

fn list_item(list: &mut String, write: impl FnOnce(String) -> String) {
    if !list.is_empty() {
        list.push(',');
    }
    *list = write(std::mem::take(list));
}

/// A JSON object that is being written to the end of a text.
struct Object {
    out: String,
    first: bool,
}

impl Object {
    fn new(mut out: String) -> Object {
        out.push('{');
        Object { out, first: true }
    }

    fn end(mut self) -> String {
        self.out.push('}');
        self.out
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        let _infallible = write!(self.out, "\"{name}\":");
    }

    /// JSON that is written already; left out where empty.
    fn raw(&mut self, name: &str, json: &str) {
        if !json.is_empty() {
            self.name(name);
            self.out.push_str(json);
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.name(name);
            write_string(text, &mut self.out);
        }
    }

    fn hex(&mut self, name: &str, id: &[u8]) {
        self.text(name, &hex::encode(id));
    }

    fn number(&mut self, name: &str, number: impl Into<i64>) {
        let number = number.into();
        if number != 0 {
            self.name(name);
            let _infallible = write!(self.out, "{number}");
        }
    }

    /// A 64-bit number, which JSON readers would round.
    fn long(&mut self, name: &str, number: u64) {
        if number != 0 {
            self.name(name);
            let _infallible = write!(self.out, "\"{number}\"");
        }
    }

    /// A double that stands for a choice, and so is written whatever it is.
    fn double(&mut self, name: &str, double: f64) {
        self.name(name);
        write_double(double, &mut self.out);
    }

    fn optional_double(&mut self, name: &str, double: Option<f64>) {
        if let Some(double) = double {
            self.double(name, double);
        }
    }

    /// A double that is 0.0 where it is left out; -0.0 is another one.
    fn nonzero_double(&mut self, name: &str, double: f64) {
        if double.to_bits() != 0 {
            self.double(name, double);
        }
    }

    fn object(&mut self, name: &str, write: impl FnOnce(&mut Object)) {
        self.name(name);
        let mut inner = Object::new(std::mem::take(&mut self.out));
        write(&mut inner);
        self.out = inner.end();
    }

    fn list<T>(
        &mut self,
        name: &str,
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(T, String) -> String,
    ) {
        if items.len() == 0 {
            return;
        }
        self.name(name);
        self.out.push('[');
        for (i, item) in items.enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            self.out = write(item, std::mem::take(&mut self.out));
        }
        self.out.push(']');
    }

    fn attributes(&mut self, attributes: &[KeyValue]) {
        self.list("attributes", attributes.iter(), write_key_value);
    }
}

/// JSON has no numbers for what is not finite: these are text.
fn write_double(d: f64, out: &mut String) {
    let _infallible = if d.is_nan() {
        write!(out, "\"NaN\"")
    } else if d.is_infinite() {
        write!(out, "\"{}Infinity\"", if d > 0.0 { "" } else { "-" })
    } else {
        write!(out, "{d:?}")
    };
}

fn resource_text(resource: Option<&Resource>) -> String {
    let Some(resource) = resource else { return String::new() };
    let mut out = Object::new(String::new());
    out.attributes(&resource.attributes);
    out.number("droppedAttributesCount", resource.dropped_attributes_count);
    out.list("entityRefs", resource.entity_refs.iter(), write_entity);
    out.end()
}

fn write_entity(entity: &EntityRef, out: String) -> String {
    let mut out = Object::new(out);
    out.text("schemaUrl", &entity.schema_url);
    out.text("type", &entity.r#type);
    for (name, keys) in [("idKeys", &entity.id_keys), ("descriptionKeys", &entity.description_keys)] {
        out.list(name, keys.iter(), |key, mut out| {
            write_string(key, &mut out);
            out
        });
    }
    out.end()
}

fn scope_text(scope: Option<&InstrumentationScope>) -> String {
    let Some(scope) = scope else { return String::new() };
    let mut out = Object::new(String::new());
    out.text("name", &scope.name);
    out.text("version", &scope.version);
    out.attributes(&scope.attributes);
    out.number("droppedAttributesCount", scope.dropped_attributes_count);
    out.end()
}

fn write_span(span: &Span, out: String) -> String {
    let mut out = Object::new(out);
    out.hex("traceId", &span.trace_id);
    out.hex("spanId", &span.span_id);
    out.text("traceState", &span.trace_state);
    out.hex("parentSpanId", &span.parent_span_id);
    out.number("flags", span.flags);
    out.text("name", &span.name);
    out.number("kind", span.kind);
    out.long("startTimeUnixNano", span.start_time_unix_nano);
    out.long("endTimeUnixNano", span.end_time_unix_nano);
    out.attributes(&span.attributes);
    out.number("droppedAttributesCount", span.dropped_attributes_count);
    out.list("events", span.events.iter(), write_event);
    out.number("droppedEventsCount", span.dropped_events_count);
    out.list("links", span.links.iter(), write_link);
    out.number("droppedLinksCount", span.dropped_links_count);
    if let Some(status) = &span.status {
        out.object("status", |out| {
            out.text("message", &status.message);
            out.number("code", status.code);
        });
    }
    out.end()
}

fn write_event(event: &Event, out: String) -> String {
    let mut out = Object::new(out);
    out.long("timeUnixNano", event.time_unix_nano);
    out.text("name", &event.name);
    out.attributes(&event.attributes);
    out.number("droppedAttributesCount", event.dropped_attributes_count);
    out.end()
}

fn write_link(link: &Link, out: String) -> String {
    let mut out = Object::new(out);
    out.hex("traceId", &link.trace_id);
    out.hex("spanId", &link.span_id);
    out.text("traceState", &link.trace_state);
    out.attributes(&link.attributes);
    out.number("droppedAttributesCount", link.dropped_attributes_count);
    out.number("flags", link.flags);
    out.end()
}

fn write_record(record: &LogRecord, out: String) -> String {
    let mut out = Object::new(out);
    out.long("timeUnixNano", record.time_unix_nano);
    out.long("observedTimeUnixNano", record.observed_time_unix_nano);
    out.number("severityNumber", record.severity_number);
    out.text("severityText", &record.severity_text);
    if let Some(body) = &record.body {
        out.name("body");
        out.out = write_value(body, std::mem::take(&mut out.out));
    }
    out.attributes(&record.attributes);
    out.number("droppedAttributesCount", record.dropped_attributes_count);
    out.number("flags", record.flags);
    out.hex("traceId", &record.trace_id);
    out.hex("spanId", &record.span_id);
    out.text("eventName", &record.event_name);
    out.end()
}

fn write_key_value(kv: &KeyValue, out: String) -> String {
    let mut out = Object::new(out);
    // A key is always written: a reader that knows the attribute by its key shall find one, even where it is empty.
    out.name("key");
    write_string(&kv.key, &mut out.out);
    if let Some(value) = &kv.value {
        out.name("value");
        out.out = write_value(value, std::mem::take(&mut out.out));
    }
    out.end()
}

/// A value names its kind, so nothing is left out for being a default.
fn write_value(value: &AnyValue, out: String) -> String {
    let mut out = Object::new(out);
    match &value.value {
        None => {}
        Some(Value::StringValue(text)) => {
            out.name("stringValue");
            write_string(text, &mut out.out);
        }
        Some(Value::BoolValue(b)) => out.raw("boolValue", if *b { "true" } else { "false" }),
        Some(Value::IntValue(i)) => out.raw("intValue", &format!("\"{i}\"")),
        Some(Value::DoubleValue(d)) => out.double("doubleValue", *d),
        Some(Value::BytesValue(bytes)) => out.raw("bytesValue", &format!("\"{}\"", BASE64.encode(bytes))),
        Some(Value::StringValueStrindex(i)) => out.raw("stringValueStrindex", &i.to_string()),
        Some(Value::ArrayValue(array)) => {
            out.object("arrayValue", |out| out.list("values", array.values.iter(), write_value));
        }
        Some(Value::KvlistValue(list)) => {
            out.object("kvlistValue", |out| out.list("values", list.values.iter(), write_key_value));
        }
    }
    out.end()
}
