//! What a request says: spans, log records and metric points as a shop of some size would send them, with marks where each
//! request must differ.
//!
//! Of the attributes of a span about half have few values (method, route, status, region, host) and half have many (user,
//! session, request, path with ids). Four services in eight instances, traces of twenty spans that reach across them, an event on
//! one span of twenty, an error on one of fifty, a link on one of a hundred, an e-mail address on one of thirty.

pub mod traces;
pub mod logs;
pub mod metrics;

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// Spans of a trace.
pub const TRACE_SPANS: usize = 20;
/// Attributes of a span; an e-mail address on some comes on top.
pub const SPAN_ATTRIBUTES: usize = 15;
/// Attributes of a log record.
pub const LOG_ATTRIBUTES: usize = 8;
/// Attributes of a metric point.
pub const POINT_ATTRIBUTES: usize = 4;

const INSTANCES: usize = 8;
const SERVICES: [&str; 4] = ["frontend", "orders", "inventory", "billing"];
const REGIONS: [&str; 3] = ["eu-central-1", "eu-west-1", "us-east-1"];
const ROUTES: [&str; 6] =
    ["/users/{id}/orders", "/users/{id}", "/orders/{id}/items", "/orders/{id}", "/search/{id}", "/items/{id}/stock"];
const METHODS: [&str; 4] = ["GET", "GET", "POST", "PUT"];

/// Marks of spans and of what is the same for a whole trace must not meet.
const TRACE_ROWS: usize = 1 << 19;

fn resource(instance: usize) -> Resource {
    let service = SERVICES[instance % SERVICES.len()];
    let attributes = vec![
        text("service.name", service),
        text("service.namespace", "shop"),
        text("service.version", "4.2.0"),
        text("service.instance.id", format!("{service}-{instance}")),
        text("deployment.environment.name", "load"),
        text("k8s.pod.name", format!("{service}-7d9c5b6f4-{instance:05}")),
        text("k8s.namespace.name", "shop"),
        text("host.name", format!("node-{}", instance % 3)),
        text("cloud.region", REGIONS[instance % REGIONS.len()]),
        whole("process.pid", 1_000 + instance as u64),
        text("telemetry.sdk.language", "rust"),
    ];
    Resource { attributes, ..Default::default() }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "shop.http".into(), version: "1.0.0".into(), ..Default::default() }
}

/// An attribute that is an integer.
pub fn whole(key: &str, value: u64) -> KeyValue {
    pair(key, Value::IntValue(value as i64))
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    pair(key, Value::StringValue(value.into()))
}

fn double(key: &str, value: f64) -> KeyValue {
    pair(key, Value::DoubleValue(value))
}

fn flag(key: &str, value: bool) -> KeyValue {
    pair(key, Value::BoolValue(value))
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        crate::mark::mix(self.0) % bound
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len() as u64) as usize]
    }
}
