//! Spans as a shop of some size would send them.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};

use super::{Dice, INSTANCES, METHODS, REGIONS, ROUTES, SERVICES, TRACE_ROWS, TRACE_SPANS};
use super::{double, flag, resource, scope, text, whole};
use crate::mark::{Kind, Marks};

const TABLES: [&str; 4] = ["users", "orders", "items", "stock"];
const BROWSERS: [&str; 3] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
];

/// The spans of one request, grouped by resource. `variant` chooses among requests that differ in their values.
pub fn spans(variant: u64, rows: usize, marks: &mut Marks) -> ExportTraceServiceRequest {
    let mut dice = Dice(variant);
    let mut by_instance: Vec<Vec<Span>> = vec![Vec::new(); INSTANCES];
    let mut starts = Vec::new();
    for row in 0..rows {
        let (trace, step) = (row / TRACE_SPANS, row % TRACE_SPANS);
        if step == 0 {
            starts = vec![5_000_000_000 - dice.below(1_000_000_000)];
        }
        // A tree in which each span has up to three children.
        let parent = (step > 0).then(|| row - step + (step - 1) / 3);
        let before = starts[step.saturating_sub(1) / 3] - dice.below(20_000_000) * u64::from(step > 0);
        if step > 0 {
            starts.push(before);
        }
        let instance = (trace + step / 3) % INSTANCES;
        by_instance[instance].push(one_span(row, trace, parent, before, instance, &mut dice, marks));
    }
    let resource_spans = by_instance.into_iter().enumerate().filter(|(_, spans)| !spans.is_empty());
    ExportTraceServiceRequest {
        resource_spans: resource_spans
            .map(|(instance, spans)| ResourceSpans {
                resource: Some(resource(instance)),
                scope_spans: vec![ScopeSpans { scope: Some(scope()), spans, schema_url: String::new() }],
                schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
            })
            .collect(),
    }
}

fn one_span(
    row: usize,
    trace: usize,
    parent: Option<usize>,
    before: u64,
    instance: usize,
    dice: &mut Dice,
    marks: &mut Marks,
) -> Span {
    let server = row.is_multiple_of(3);
    let database = row % 3 == 2;
    let method = dice.pick(&METHODS);
    let route = dice.pick(&ROUTES);
    let table = dice.pick(&TABLES);
    let failed = dice.below(50) == 0;
    let took = (dice.below(4_000_000) + 50_000).min(before);
    let mut attributes = if database {
        database_attributes(table, trace, row, dice)
    } else {
        http_attributes(method, route, server, failed, trace, row, instance, dice)
    };
    if dice.below(30) == 0 {
        attributes.push(text("user.email", format!("user-{}@example.com", Kind::Digits.text(trace))));
    }
    let (name, kind) = match (server, database) {
        (true, _) => (format!("{method} {route}"), span::SpanKind::Server),
        (_, true) => (format!("SELECT {table}"), span::SpanKind::Client),
        _ => (method.to_owned(), span::SpanKind::Client),
    };
    let mut events = Vec::new();
    if failed {
        let attributes = vec![
            text("exception.type", "TimeoutError"),
            text("exception.message", format!("no answer from {} within 2000 ms", SERVICES[(instance + 1) % 4])),
            text(
                "exception.stacktrace",
                "at call (client.js:118)\n at retry (client.js:64)\n at handle (orders.js:201)",
            ),
        ];
        events.push(span::Event {
            time_unix_nano: marks.time(before - took),
            name: "exception".into(),
            attributes,
            ..Default::default()
        });
    } else if dice.below(30) == 0 {
        let attributes = vec![
            text("cache.key", format!("{table}:{}", Kind::Digits.text(trace))),
            whole("cache.bytes", dice.below(9_000)),
        ];
        events.push(span::Event {
            time_unix_nano: marks.time(before),
            name: "cache.miss".into(),
            attributes,
            ..Default::default()
        });
    }
    let mut links = Vec::new();
    if trace > 0 && dice.below(100) == 0 {
        let (trace_id, span_id) = (Kind::Trace.bytes16(trace - 1), Kind::Span.bytes8((trace - 1) * TRACE_SPANS));
        links.push(span::Link { trace_id, span_id, flags: 1, ..Default::default() });
    }
    Span {
        trace_id: Kind::Trace.bytes16(trace),
        span_id: Kind::Span.bytes8(row),
        parent_span_id: parent.map(|parent| Kind::Span.bytes8(parent)).unwrap_or_default(),
        flags: 0x101,
        name,
        kind: kind.into(),
        start_time_unix_nano: marks.time(before),
        end_time_unix_nano: marks.time(before - took),
        attributes,
        events,
        links,
        status: failed.then(|| Status { message: "upstream timed out".into(), code: 2 }),
        ..Default::default()
    }
}

#[allow(clippy::too_many_arguments)]
fn http_attributes(
    method: &str,
    route: &str,
    server: bool,
    failed: bool,
    trace: usize,
    row: usize,
    instance: usize,
    dice: &mut Dice,
) -> Vec<KeyValue> {
    let path = route.replace("{id}", &Kind::Digits.text(trace));
    let status = if failed { 504 } else { [200, 200, 200, 201, 204, 304, 404][dice.below(7) as usize] };
    let mut attributes = vec![
        text("http.request.method", method),
        whole("http.response.status_code", status),
        text("server.address", format!("{}.shop.internal", SERVICES[(instance + 1) % SERVICES.len()])),
        whole("server.port", 8_080),
        text("network.protocol.version", "1.1"),
        text("cloud.availability_zone", dice.pick(&REGIONS)),
        text("user.id", format!("u-{}", Kind::Digits.text(trace))),
        text("session.id", format!("{}{}", Kind::Hex.text(trace), Kind::Hex.text(3 * TRACE_ROWS + trace))),
        text("request.id", format!("{}{}", Kind::Hex.text(TRACE_ROWS + row), Kind::Hex.text(2 * TRACE_ROWS + row))),
        whole("http.response.body.size", dice.below(64_000)),
        flag("cache.hit", dice.below(3) == 0),
    ];
    if server {
        attributes.extend([
            text("http.route", route),
            text("url.path", path),
            text("client.address", format!("203.0.113.{}", dice.below(254) + 1)),
            text("user_agent.original", dice.pick(&BROWSERS)),
        ]);
    } else {
        attributes.extend([
            text("url.full", format!("http://{}.shop.internal:8080{path}", SERVICES[(instance + 1) % SERVICES.len()])),
            whole("http.request.resend_count", dice.below(2)),
            text("peer.service", SERVICES[(instance + 1) % SERVICES.len()]),
            double("client.wait_ms", dice.below(400_000) as f64 / 1e3),
        ]);
    }
    attributes
}

fn database_attributes(table: &str, trace: usize, row: usize, dice: &mut Dice) -> Vec<KeyValue> {
    vec![
        text("db.system.name", "postgresql"),
        text("db.namespace", format!("shop-{}", dice.below(4))),
        text("db.collection.name", table),
        text("db.operation.name", "SELECT"),
        text(
            "db.query.text",
            format!(
                "SELECT id, tenant, state, changed_at FROM {table} WHERE tenant = $1 AND id = $2 ORDER BY id LIMIT 50"
            ),
        ),
        whole("db.response.returned_rows", dice.below(50)),
        text("server.address", format!("pg-{}.shop.internal", dice.below(4))),
        whole("server.port", 5_432),
        text("cloud.availability_zone", dice.pick(&REGIONS)),
        text("user.id", format!("u-{}", Kind::Digits.text(trace))),
        text("request.id", format!("{}{}", Kind::Hex.text(TRACE_ROWS + row), Kind::Hex.text(2 * TRACE_ROWS + row))),
        whole("thread.id", dice.below(32)),
        text("thread.name", format!("pool-1-thread-{}", dice.below(32))),
        double("db.wait_ms", dice.below(90_000) as f64 / 1e3),
        flag("db.prepared", dice.below(4) > 0),
    ]
}
