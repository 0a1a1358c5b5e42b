//! Requests as OTLP/JSON in any spelling that the specification allows, written without the code under test.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, Metric, NumberDataPoint, exemplar, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::scramble::Dice;

/// JSON that is not written yet.
#[derive(Clone)]
enum Json {
    /// A number, word or string that is written already.
    Written(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
    /// A field that is to be left out, or null.
    Absent,
}

/// How a request is spelled: by chance, or as clients do.
pub(crate) struct Speller {
    dice: Dice,
    odd: bool,
}

impl Speller {
    /// As clients do: fields in order, nothing unknown, no escapes but those that must be.
    pub(crate) fn plain() -> Speller {
        Speller { dice: Dice(0), odd: false }
    }

    /// By chance.
    pub(crate) fn odd(seed: u64) -> Speller {
        Speller { dice: Dice(seed), odd: true }
    }

    pub(crate) fn traces(mut self, request: &ExportTraceServiceRequest) -> String {
        let resources = request.resource_spans.iter().map(|group| {
            let scopes = group.scope_spans.iter().map(|inner| {
                let spans = inner.spans.iter().map(|span| self.span(span)).collect();
                let scope = inner.scope.as_ref().map(|scope| self.scope(scope));
                self.envelope("scope", scope, "spans", spans, &inner.schema_url)
            });
            let scopes = scopes.collect::<Vec<_>>();
            let resource = group.resource.as_ref().map(|resource| self.resource(resource));
            self.envelope("resource", resource, "scopeSpans", scopes, &group.schema_url)
        });
        let resources = Json::List(resources.collect());
        self.write_whole(Json::Object(vec![("resourceSpans", resources)]))
    }

    pub(crate) fn logs(mut self, request: &ExportLogsServiceRequest) -> String {
        let resources = request.resource_logs.iter().map(|group| {
            let scopes = group.scope_logs.iter().map(|inner| {
                let records = inner.log_records.iter().map(|record| self.record(record)).collect();
                let scope = inner.scope.as_ref().map(|scope| self.scope(scope));
                self.envelope("scope", scope, "logRecords", records, &inner.schema_url)
            });
            let scopes = scopes.collect::<Vec<_>>();
            let resource = group.resource.as_ref().map(|resource| self.resource(resource));
            self.envelope("resource", resource, "scopeLogs", scopes, &group.schema_url)
        });
        let resources = Json::List(resources.collect());
        self.write_whole(Json::Object(vec![("resourceLogs", resources)]))
    }

    pub(crate) fn metrics(mut self, request: &ExportMetricsServiceRequest) -> String {
        let resources = request.resource_metrics.iter().map(|group| {
            let scopes = group.scope_metrics.iter().map(|inner| {
                let metrics = inner.metrics.iter().map(|metric| self.metric(metric)).collect();
                let scope = inner.scope.as_ref().map(|scope| self.scope(scope));
                self.envelope("scope", scope, "metrics", metrics, &inner.schema_url)
            });
            let scopes = scopes.collect::<Vec<_>>();
            let resource = group.resource.as_ref().map(|resource| self.resource(resource));
            self.envelope("resource", resource, "scopeMetrics", scopes, &group.schema_url)
        });
        let resources = Json::List(resources.collect());
        self.write_whole(Json::Object(vec![("resourceMetrics", resources)]))
    }

    fn envelope(
        &mut self,
        of: &'static str,
        what: Option<Json>,
        items: &'static str,
        list: Vec<Json>,
        url: &str,
    ) -> Json {
        Json::Object(vec![(of, what.unwrap_or(Json::Absent)), (items, Json::List(list)), ("schemaUrl", text(url))])
    }

    fn resource(&mut self, resource: &Resource) -> Json {
        let entities = resource.entity_refs.iter().map(entity).collect();
        Json::Object(vec![
            ("attributes", self.attributes(&resource.attributes)),
            ("droppedAttributesCount", self.number(resource.dropped_attributes_count)),
            ("entityRefs", Json::List(entities)),
        ])
    }

    fn scope(&mut self, scope: &InstrumentationScope) -> Json {
        Json::Object(vec![
            ("name", text(&scope.name)),
            ("version", text(&scope.version)),
            ("attributes", self.attributes(&scope.attributes)),
            ("droppedAttributesCount", self.number(scope.dropped_attributes_count)),
        ])
    }

    fn span(&mut self, span: &Span) -> Json {
        let events = span.events.iter().map(|event| {
            Json::Object(vec![
                ("timeUnixNano", self.number(event.time_unix_nano)),
                ("name", text(&event.name)),
                ("attributes", self.attributes(&event.attributes)),
                ("droppedAttributesCount", self.number(event.dropped_attributes_count)),
            ])
        });
        let events = events.collect();
        let links = span.links.iter().map(|link| {
            Json::Object(vec![
                ("traceId", self.id(&link.trace_id)),
                ("spanId", self.id(&link.span_id)),
                ("traceState", text(&link.trace_state)),
                ("attributes", self.attributes(&link.attributes)),
                ("droppedAttributesCount", self.number(link.dropped_attributes_count)),
                ("flags", self.number(link.flags)),
            ])
        });
        let links = links.collect();
        let status = span.status.as_ref().map_or(Json::Absent, |status| {
            Json::Object(vec![("message", text(&status.message)), ("code", self.enumeration(status.code))])
        });
        Json::Object(vec![
            ("traceId", self.id(&span.trace_id)),
            ("spanId", self.id(&span.span_id)),
            ("traceState", text(&span.trace_state)),
            ("parentSpanId", self.id(&span.parent_span_id)),
            ("flags", self.number(span.flags)),
            ("name", text(&span.name)),
            ("kind", self.enumeration(span.kind)),
            ("startTimeUnixNano", self.number(span.start_time_unix_nano)),
            ("endTimeUnixNano", self.number(span.end_time_unix_nano)),
            ("attributes", self.attributes(&span.attributes)),
            ("droppedAttributesCount", self.number(span.dropped_attributes_count)),
            ("events", Json::List(events)),
            ("droppedEventsCount", self.number(span.dropped_events_count)),
            ("links", Json::List(links)),
            ("droppedLinksCount", self.number(span.dropped_links_count)),
            ("status", status),
        ])
    }

    fn record(&mut self, record: &LogRecord) -> Json {
        Json::Object(vec![
            ("timeUnixNano", self.number(record.time_unix_nano)),
            ("observedTimeUnixNano", self.number(record.observed_time_unix_nano)),
            ("severityNumber", self.enumeration(record.severity_number)),
            ("severityText", text(&record.severity_text)),
            ("body", record.body.as_ref().map_or(Json::Absent, |body| self.value(body))),
            ("attributes", self.attributes(&record.attributes)),
            ("droppedAttributesCount", self.number(record.dropped_attributes_count)),
            ("flags", self.number(record.flags)),
            ("traceId", self.id(&record.trace_id)),
            ("spanId", self.id(&record.span_id)),
            ("eventName", text(&record.event_name)),
        ])
    }

    fn metric(&mut self, metric: &Metric) -> Json {
        let mut fields = vec![
            ("name", text(&metric.name)),
            ("description", text(&metric.description)),
            ("unit", text(&metric.unit)),
            ("metadata", self.attributes(&metric.metadata)),
        ];
        fields.extend(metric.data.as_ref().map(|data| match data {
            metric::Data::Gauge(gauge) => ("gauge", Json::Object(vec![self.number_points(&gauge.data_points)])),
            metric::Data::Sum(sum) => {
                let monotonic = if sum.is_monotonic || self.odd { word(sum.is_monotonic) } else { Json::Absent };
                let points = self.number_points(&sum.data_points);
                let temporality = self.enumeration(sum.aggregation_temporality);
                ("sum", Json::Object(vec![points, ("aggregationTemporality", temporality), ("isMonotonic", monotonic)]))
            }
            metric::Data::Histogram(histogram) => {
                let points = histogram.data_points.iter().map(|point| {
                    Json::Object(vec![
                        ("attributes", self.attributes(&point.attributes)),
                        ("startTimeUnixNano", self.number(point.start_time_unix_nano)),
                        ("timeUnixNano", self.number(point.time_unix_nano)),
                        ("count", self.number(point.count)),
                        ("sum", self.optional(point.sum)),
                        ("bucketCounts", self.numbers(&point.bucket_counts)),
                        ("explicitBounds", self.doubles(&point.explicit_bounds)),
                        ("exemplars", self.exemplars(&point.exemplars)),
                        ("flags", self.number(point.flags)),
                        ("min", self.optional(point.min)),
                        ("max", self.optional(point.max)),
                    ])
                });
                let points = Json::List(points.collect());
                let temporality = self.enumeration(histogram.aggregation_temporality);
                ("histogram", Json::Object(vec![("dataPoints", points), ("aggregationTemporality", temporality)]))
            }
            metric::Data::ExponentialHistogram(histogram) => {
                let points = histogram.data_points.iter().map(|point| {
                    Json::Object(vec![
                        ("attributes", self.attributes(&point.attributes)),
                        ("startTimeUnixNano", self.number(point.start_time_unix_nano)),
                        ("timeUnixNano", self.number(point.time_unix_nano)),
                        ("count", self.number(point.count)),
                        ("sum", self.optional(point.sum)),
                        ("scale", self.number(point.scale)),
                        ("zeroCount", self.number(point.zero_count)),
                        ("positive", self.buckets(point.positive.as_ref())),
                        ("negative", self.buckets(point.negative.as_ref())),
                        ("flags", self.number(point.flags)),
                        ("exemplars", self.exemplars(&point.exemplars)),
                        ("min", self.optional(point.min)),
                        ("max", self.optional(point.max)),
                        ("zeroThreshold", self.double(point.zero_threshold)),
                    ])
                });
                let points = Json::List(points.collect());
                let temporality = self.enumeration(histogram.aggregation_temporality);
                let fields = vec![("dataPoints", points), ("aggregationTemporality", temporality)];
                ("exponentialHistogram", Json::Object(fields))
            }
            metric::Data::Summary(summary) => {
                let points = summary.data_points.iter().map(|point| {
                    let quantiles = point.quantile_values.iter().map(|at| {
                        Json::Object(vec![("quantile", self.double(at.quantile)), ("value", self.double(at.value))])
                    });
                    let quantiles = Json::List(quantiles.collect());
                    Json::Object(vec![
                        ("attributes", self.attributes(&point.attributes)),
                        ("startTimeUnixNano", self.number(point.start_time_unix_nano)),
                        ("timeUnixNano", self.number(point.time_unix_nano)),
                        ("count", self.number(point.count)),
                        ("sum", self.double(point.sum)),
                        ("quantileValues", quantiles),
                        ("flags", self.number(point.flags)),
                    ])
                });
                ("summary", Json::Object(vec![("dataPoints", Json::List(points.collect()))]))
            }
        }));
        Json::Object(fields)
    }

    fn number_points(&mut self, points: &[NumberDataPoint]) -> (&'static str, Json) {
        let points = points.iter().map(|point| {
            let mut fields = vec![
                ("attributes", self.attributes(&point.attributes)),
                ("startTimeUnixNano", self.number(point.start_time_unix_nano)),
                ("timeUnixNano", self.number(point.time_unix_nano)),
                ("exemplars", self.exemplars(&point.exemplars)),
                ("flags", self.number(point.flags)),
            ];
            fields.extend(point.value.map(|value| match value {
                number_data_point::Value::AsDouble(value) => ("asDouble", self.double(value)),
                number_data_point::Value::AsInt(value) => ("asInt", self.number(value)),
            }));
            Json::Object(fields)
        });
        ("dataPoints", Json::List(points.collect()))
    }

    fn exemplars(&mut self, exemplars: &[Exemplar]) -> Json {
        let exemplars = exemplars.iter().map(|exemplar| {
            let mut fields = vec![
                ("filteredAttributes", self.attributes(&exemplar.filtered_attributes)),
                ("timeUnixNano", self.number(exemplar.time_unix_nano)),
                ("spanId", self.id(&exemplar.span_id)),
                ("traceId", self.id(&exemplar.trace_id)),
            ];
            fields.extend(exemplar.value.map(|value| match value {
                exemplar::Value::AsDouble(value) => ("asDouble", self.double(value)),
                exemplar::Value::AsInt(value) => ("asInt", self.number(value)),
            }));
            Json::Object(fields)
        });
        Json::List(exemplars.collect())
    }

    fn buckets(&mut self, buckets: Option<&Buckets>) -> Json {
        buckets.map_or(Json::Absent, |buckets| {
            let counts = self.numbers(&buckets.bucket_counts);
            Json::Object(vec![("offset", self.number(buckets.offset)), ("bucketCounts", counts)])
        })
    }

    fn attributes(&mut self, attributes: &[KeyValue]) -> Json {
        Json::List(attributes.iter().map(|kv| self.key_value(kv)).collect())
    }

    fn key_value(&mut self, kv: &KeyValue) -> Json {
        Json::Object(vec![
            ("key", text(&kv.key)),
            ("value", kv.value.as_ref().map_or(Json::Absent, |value| self.value(value))),
            ("keyStrindex", self.number(kv.key_strindex)),
        ])
    }

    fn value(&mut self, value: &AnyValue) -> Json {
        let Some(value) = &value.value else { return Json::Object(Vec::new()) };
        Json::Object(vec![match value {
            Value::StringValue(value) => ("stringValue", text(value)),
            Value::BoolValue(value) => ("boolValue", word(*value)),
            Value::IntValue(value) => ("intValue", self.number(*value)),
            Value::DoubleValue(value) => ("doubleValue", self.double(*value)),
            Value::BytesValue(bytes) => {
                let engine = if self.odd { self.dice.roll(4) } else { 0 };
                let engine = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD][engine];
                ("bytesValue", text(&engine.encode(bytes)))
            }
            Value::StringValueStrindex(index) => ("stringValueStrindex", self.number(*index)),
            Value::ArrayValue(array) => {
                let values = array.values.iter().map(|value| self.value(value)).collect();
                ("arrayValue", Json::Object(vec![("values", Json::List(values))]))
            }
            Value::KvlistValue(list) => ("kvlistValue", Json::Object(vec![("values", self.attributes(&list.values))])),
        }])
    }

    fn id(&mut self, id: &[u8]) -> Json {
        let id = hex::encode(id);
        let upper = |c: char, this: &mut Speller| if this.dice.roll(2) == 0 { c.to_ascii_uppercase() } else { c };
        text(&if self.odd { id.chars().map(|c| upper(c, self)).collect() } else { id })
    }

    fn enumeration(&mut self, value: i32) -> Json {
        Json::Written(if self.odd && self.dice.roll(5) == 0 { format!("{value}.0") } else { value.to_string() })
    }

    /// An integer: a number or a string, and by chance as `5.0` or `50e-1`.
    fn number(&mut self, value: impl Into<i128>) -> Json {
        let value: i128 = value.into();
        if !self.odd {
            let long = value.unsigned_abs() > u128::from(u32::MAX);
            return if long { text(&value.to_string()) } else { Json::Written(value.to_string()) };
        }
        let spelled = match self.dice.roll(6) {
            0 => format!("{value}.00"),
            1 if value != 0 => format!("{value}0e-1"),
            2 if value % 1_000 == 0 => format!("{}E+3", value / 1_000),
            _ => value.to_string(),
        };
        if self.dice.roll(2) == 0 { text(&spelled) } else { Json::Written(spelled) }
    }

    fn numbers(&mut self, values: &[u64]) -> Json {
        Json::List(values.iter().map(|value| self.number(*value)).collect())
    }

    fn optional(&mut self, value: Option<f64>) -> Json {
        value.map_or(Json::Absent, |value| self.double(value))
    }

    fn double(&mut self, value: f64) -> Json {
        let spelled = match value {
            value if value.is_nan() => return text("NaN"),
            f64::INFINITY => return text("Infinity"),
            f64::NEG_INFINITY => return text("-Infinity"),
            value if self.odd && self.dice.roll(3) == 0 => format!("{value:E}"),
            value => format!("{value:?}"),
        };
        if self.odd && self.dice.roll(3) == 0 { text(&spelled) } else { Json::Written(spelled) }
    }

    fn doubles(&mut self, values: &[f64]) -> Json {
        Json::List(values.iter().map(|value| self.double(*value)).collect())
    }

    fn write_whole(mut self, json: Json) -> String {
        let mut out = String::new();
        self.space(&mut out);
        self.write(&json, &mut out);
        self.space(&mut out);
        out
    }

    fn write(&mut self, json: &Json, out: &mut String) {
        match json {
            Json::Absent => out.push_str("null"),
            Json::Written(written) => out.push_str(written),
            Json::Text(text) => self.write_text(text, out),
            Json::List(list) => {
                out.push('[');
                for (i, json) in list.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    self.space(out);
                    self.write(json, out);
                    self.space(out);
                }
                self.space(out);
                out.push(']');
            }
            Json::Object(fields) => self.write_object(fields, out),
        }
    }

    fn write_object(&mut self, fields: &[(&'static str, Json)], out: &mut String) {
        let mut fields: Vec<(&str, Option<&Json>)> = fields
            .iter()
            .filter(|(_, json)| !matches!(json, Json::Absent) || self.odd && self.dice.roll(2) == 0)
            .map(|(name, json)| (*name, Some(json)))
            .collect();
        if self.odd {
            for _ in 0..fields.len() / 2 {
                let (a, b) = (self.dice.roll(fields.len()), self.dice.roll(fields.len()));
                fields.swap(a, b);
            }
            if self.dice.roll(6) == 0 {
                let names = ["unknown", "trace_id", "spans ", "Name", "", "resourceProfiles", "stringvalue", "ké\"y"];
                let at = self.dice.roll(fields.len() + 1);
                fields.insert(at, (names[self.dice.roll(names.len())], None));
            }
        }
        out.push('{');
        for (i, (name, json)) in fields.into_iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "" });
            self.space(out);
            self.write_text(name, out);
            self.space(out);
            out.push(':');
            self.space(out);
            match json {
                Some(json) => self.write(json, out),
                None => {
                    let unknown = [
                        "1",
                        "-0.5e-3",
                        "null",
                        "\"x\\u00e9]}\"",
                        "{\"a\":[{},[],{\"b\":{}}]}",
                        "[1,[2,\"]\"]]",
                        "true",
                    ];
                    out.push_str(unknown[self.dice.roll(unknown.len())]);
                }
            }
            self.space(out);
        }
        out.push('}');
    }

    fn write_text(&mut self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            if self.odd && self.dice.roll(12) == 0 {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&if self.dice.roll(2) == 0 {
                        format!("\\u{unit:04x}")
                    } else {
                        format!("\\u{unit:04X}")
                    });
                }
                continue;
            }
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '/' if self.odd && self.dice.roll(2) == 0 => out.push_str("\\/"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
                c => out.push(c),
            }
        }
        out.push('"');
    }

    fn space(&mut self, out: &mut String) {
        if self.odd && self.dice.roll(8) == 0 {
            out.push_str([" ", "\n", "\t\r\n  "][self.dice.roll(3)]);
        }
    }
}

fn entity(entity: &EntityRef) -> Json {
    let texts = |keys: &[String]| Json::List(keys.iter().map(|key| text(key)).collect());
    Json::Object(vec![
        ("schemaUrl", text(&entity.schema_url)),
        ("type", text(&entity.r#type)),
        ("idKeys", texts(&entity.id_keys)),
        ("descriptionKeys", texts(&entity.description_keys)),
    ])
}

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

fn word(value: bool) -> Json {
    Json::Written(value.to_string())
}
