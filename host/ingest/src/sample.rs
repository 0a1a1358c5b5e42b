//! Requests like those of a web shop, for benches and load: the same seed gives the same requests.
//!
//! A span has 15 attributes and about 670 bytes of protobuf, in shapes of HTTP servers, HTTP clients, databases and queues; ids,
//! URLs and user agents are as various as real ones. A data point has 5 attributes and about 270 bytes: what of it are gauges,
//! histograms and so on is told at [`Sample::metrics`].

mod metrics;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

const SERVICES: [&str; 8] =
    ["frontend", "checkout", "cart", "catalog", "payment", "shipping", "recommendation", "currency"];
const ROUTES: [&str; 8] = [
    "/",
    "/product/{id}",
    "/cart",
    "/cart/checkout",
    "/api/recommendations",
    "/api/currency/convert",
    "/api/shipping/quote",
    "/api/products/{id}/reviews",
];
const AGENTS: [&str; 6] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
    "okhttp/4.12.0",
    "python-requests/2.32.3",
];
const STATEMENTS: [&str; 4] = [
    "SELECT id, name, price, currency FROM products WHERE id = $1",
    "SELECT product_id, quantity FROM cart_items WHERE cart_id = $1 ORDER BY added_at",
    "INSERT INTO orders (id, user_id, total, currency, created_at) VALUES ($1, $2, $3, $4, $5)",
    "UPDATE inventory SET reserved = reserved + $1 WHERE product_id = $2",
];
const MESSAGES: [&str; 6] = [
    "order placed",
    "payment authorised",
    "cart is empty",
    "currency conversion requested",
    "product not found",
    "shipping quote computed",
];

/// Makes requests; see the module's page.
#[derive(Clone, Debug)]
pub struct Sample {
    state: u64,
    /// Unix nanoseconds of the next item.
    now: u64,
}

impl Sample {
    /// A generator whose first item has this time.
    pub fn new(seed: u64, start_unix_nanos: u64) -> Sample {
        Sample { state: seed, now: start_unix_nanos }
    }

    /// A trace request of this many spans from a few services.
    pub fn traces(&mut self, spans: usize) -> ExportTraceServiceRequest {
        let services = SERVICES.len().min(spans.max(1));
        let mut resource_spans: Vec<ResourceSpans> = (0..services).map(|i| resource_spans(i, self.next())).collect();
        for i in 0..spans {
            // Requests come from one agent: services in runs, as its buffer has them.
            let service = i * services / spans;
            let span = self.span();
            if let Some(scope) = resource_spans[service].scope_spans.first_mut() {
                scope.spans.push(span);
            }
        }
        ExportTraceServiceRequest { resource_spans }
    }

    /// A logs request of this many records from one service.
    pub fn logs(&mut self, records: usize) -> ExportLogsServiceRequest {
        let service = self.below(SERVICES.len());
        let log_records = (0..records).map(|_| self.record()).collect();
        let scope_logs = vec![ScopeLogs { scope: Some(scope("shop.logger")), log_records, ..ScopeLogs::default() }];
        let resource = Some(resource(service, self.next()));
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }],
        }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        // Squared, so that some are frequent and some rare.
        let at = self.below(of.len() * of.len()).isqrt();
        of[of.len() - 1 - at]
    }

    fn id<const N: usize>(&mut self) -> Vec<u8> {
        let mut id = [0; N];
        for part in id.chunks_mut(8) {
            part.copy_from_slice(&(self.next() | 1).to_le_bytes());
        }
        id.to_vec()
    }

    fn span(&mut self) -> Span {
        self.now += 50_000 + self.next() % 900_000;
        let took = 200_000 + self.next() % 40_000_000;
        let failed = self.below(50) == 0;
        let (name, kind, attributes) = match self.below(10) {
            0..=3 => self.server(failed),
            4..=5 => self.client(failed),
            6..=8 => self.database(),
            _ => self.queue(),
        };
        let event = failed.then(|| Event {
            time_unix_nano: self.now + took / 2,
            name: "exception".to_owned(),
            attributes: vec![
                text("exception.type", "TimeoutError"),
                text("exception.message", "upstream did not answer within 2000 ms"),
            ],
            ..Event::default()
        });
        Span {
            trace_id: self.id::<16>(),
            span_id: self.id::<8>(),
            parent_span_id: if self.below(5) == 0 { Vec::new() } else { self.id::<8>() },
            flags: 0x101,
            name,
            kind,
            start_time_unix_nano: self.now,
            end_time_unix_nano: self.now + took,
            attributes,
            events: event.into_iter().collect(),
            status: failed.then(|| Status { message: "upstream timeout".to_owned(), code: 2 }),
            ..Span::default()
        }
    }

    fn server(&mut self, failed: bool) -> (String, i32, Vec<KeyValue>) {
        let route = self.pick(&ROUTES);
        let path = route.replace("{id}", &format!("{:08X}", self.below(4_000)));
        let method = if self.below(4) == 0 { "POST" } else { "GET" };
        let status = if failed { 504 } else { 200 };
        let attributes = vec![
            text("http.request.method", method),
            text("http.route", route),
            text("url.path", &path),
            text("url.query", &format!("session={:016x}&ref=home", self.next())),
            text("url.scheme", "https"),
            text("server.address", "shop.example.com"),
            int("server.port", 443),
            text("client.address", &format!("203.0.113.{}", self.below(250))),
            text("user_agent.original", self.pick(&AGENTS)),
            int("http.response.status_code", status),
            int("http.response.body.size", (200 + self.below(60_000)) as i64),
            text("network.protocol.version", "1.1"),
            text("enduser.id", &format!("user-{}", self.below(20_000))),
            text("thread.name", &format!("http-worker-{}", self.below(16))),
            int("thread.id", self.below(16) as i64),
        ];
        (format!("{method} {route}"), 2, attributes)
    }

    fn client(&mut self, failed: bool) -> (String, i32, Vec<KeyValue>) {
        let service = self.pick(&SERVICES);
        let url = format!("http://{service}.shop.svc.cluster.local:8080/rpc/v1/{:012x}", self.next() >> 16);
        let attributes = vec![
            text("http.request.method", "POST"),
            text("url.full", &url),
            text("server.address", &format!("{service}.shop.svc.cluster.local")),
            int("server.port", 8080),
            text("peer.service", service),
            int("http.response.status_code", if failed { 504 } else { 200 }),
            int("http.request.body.size", (20 + self.below(900)) as i64),
            int("http.response.body.size", (20 + self.below(9_000)) as i64),
            text("network.protocol.version", "2"),
            text("network.peer.address", &format!("10.8.{}.{}", self.below(4), self.below(250))),
            text("rpc.system", "grpc"),
            text("rpc.service", &format!("shop.{service}.v1")),
            text("rpc.method", "Call"),
            boolean("http.resend", self.below(30) == 0),
            text("thread.name", &format!("http-worker-{}", self.below(16))),
        ];
        ("POST".to_owned(), 3, attributes)
    }

    fn database(&mut self) -> (String, i32, Vec<KeyValue>) {
        let statement = self.pick(&STATEMENTS);
        let operation = statement.split(' ').next().unwrap_or_default();
        let attributes = vec![
            text("db.system", "postgresql"),
            text("db.namespace", "shop"),
            text("db.operation.name", operation),
            text("db.query.text", statement),
            text("db.user", "shop_app"),
            text("db.query.parameter.1", &format!("{:016x}-{:08x}", self.next(), self.below(1 << 30))),
            int("db.response.returned_rows", self.below(40) as i64),
            text("server.address", "postgres-primary.shop.svc.cluster.local"),
            int("server.port", 5432),
            text("network.peer.address", "10.8.7.12"),
            text("network.transport", "tcp"),
            text("db.client.connection.pool.name", "orders-rw"),
            int("db.client.connection.id", self.below(64) as i64),
            text("thread.name", &format!("db-worker-{}", self.below(16))),
            double("db.client.wait_ms", self.below(4_000) as f64 / 1_000.0),
        ];
        (format!("{operation} shop"), 3, attributes)
    }

    fn queue(&mut self) -> (String, i32, Vec<KeyValue>) {
        let attributes = vec![
            text("messaging.system", "kafka"),
            text("messaging.destination.name", "orders.placed.v2"),
            text("messaging.operation.type", "publish"),
            text("messaging.message.id", &format!("{:016x}{:016x}", self.next(), self.next())),
            int("messaging.destination.partition.id", self.below(24) as i64),
            int("messaging.kafka.offset", 4_000_000 + self.below(90_000) as i64),
            text("messaging.client.id", "checkout-producer-3"),
            int("messaging.message.body.size", (300 + self.below(2_000)) as i64),
            text("server.address", "kafka-0.kafka.shop.svc.cluster.local"),
            int("server.port", 9092),
            text("network.peer.address", "10.8.9.33"),
            text(
                "order.id",
                &format!("{:08x}-{:04x}-{:012x}", self.below(1 << 30), self.below(1 << 16), self.next() >> 16),
            ),
            double("order.total", self.below(90_000) as f64 / 100.0),
            text("order.currency", self.pick(&["EUR", "USD", "GBP", "JPY"])),
            text("thread.name", &format!("kafka-producer-{}", self.below(4))),
        ];
        ("publish orders.placed.v2".to_owned(), 4, attributes)
    }

    fn record(&mut self) -> LogRecord {
        self.now += 20_000 + self.next() % 400_000;
        let message = self.pick(&MESSAGES);
        let body = format!("{message}: order {:08x} of user-{}", self.below(1 << 30), self.below(20_000));
        let severity = [9, 9, 9, 9, 5, 13, 17][self.below(7)];
        LogRecord {
            time_unix_nano: self.now,
            observed_time_unix_nano: self.now + 40_000,
            severity_number: severity,
            severity_text: match severity {
                5 => "DEBUG",
                9 => "INFO",
                13 => "WARN",
                _ => "ERROR",
            }
            .to_owned(),
            body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
            attributes: vec![
                text("code.namespace", "shop.orders.OrderService"),
                text("code.function", self.pick(&["place", "authorise", "quote", "convert"])),
                int("code.lineno", (40 + self.below(60)) as i64),
                text("thread.name", &format!("http-worker-{}", self.below(16))),
                text("order.id", &format!("{:08x}-{:012x}", self.below(1 << 30), self.next() >> 16)),
                text("enduser.id", &format!("user-{}", self.below(20_000))),
            ],
            flags: 1,
            trace_id: self.id::<16>(),
            span_id: self.id::<8>(),
            ..LogRecord::default()
        }
    }
}

fn resource_spans(service: usize, random: u64) -> ResourceSpans {
    let scope_spans = vec![ScopeSpans { scope: Some(scope("shop.http")), ..ScopeSpans::default() }];
    let schema_url = "https://opentelemetry.io/schemas/1.27.0".to_owned();
    ResourceSpans { resource: Some(resource(service, random)), scope_spans, schema_url }
}

fn resource(service: usize, random: u64) -> Resource {
    let name = SERVICES[service % SERVICES.len()];
    let attributes = vec![
        text("service.name", name),
        text("service.namespace", "shop"),
        text("service.version", "2.14.3"),
        text("service.instance.id", &format!("{random:016x}")),
        text("deployment.environment.name", "production"),
        text("k8s.pod.name", &format!("{name}-7d9c5b6f4-{:05x}", random & 0xf_ffff)),
        text("k8s.namespace.name", "shop"),
        text("host.name", &format!("node-{}", random % 12)),
        text("telemetry.sdk.language", "java"),
        text("telemetry.sdk.version", "1.42.1"),
    ];
    Resource { attributes, ..Resource::default() }
}

fn scope(name: &str) -> InstrumentationScope {
    InstrumentationScope { name: name.to_owned(), version: "2.8.0".to_owned(), ..InstrumentationScope::default() }
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn text(key: &str, text: &str) -> KeyValue {
    key_value(key, Value::StringValue(text.to_owned()))
}

fn int(key: &str, int: i64) -> KeyValue {
    key_value(key, Value::IntValue(int))
}

fn double(key: &str, double: f64) -> KeyValue {
    key_value(key, Value::DoubleValue(double))
}

fn boolean(key: &str, boolean: bool) -> KeyValue {
    key_value(key, Value::BoolValue(boolean))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;
    use prism_model::{Limits, TableKind};
    use prost::Message;

    #[test]
    fn samples_are_kept_as_a_whole_and_have_the_shape_they_promise() {
        let mut sample = Sample::new(1, 1_790_000_000_000_000_000);
        let limits = Limits::default();
        for rows in [1, 7, 20, 4_000] {
            let bytes = sample.metrics(rows).encode_to_vec();
            let decoded = decode::metrics(&bytes, &limits).unwrap();
            assert_eq!((decoded.batch.rows(), &*decoded.rejected.reason), (rows, ""));
            if rows == 4_000 {
                let rows_of = |kind| decoded.batch.table(kind).map_or(0, prism_model::Table::rows);
                assert_eq!((rows_of(TableKind::Resources), rows_of(TableKind::Descriptors)), (8, 5));
                assert!((150..250).contains(&rows_of(TableKind::Exemplars)));
                assert!((240..320).contains(&(bytes.len() / rows)), "{} bytes a point", bytes.len() / rows);
            }
        }
        let traces = decode::traces(&sample.traces(100).encode_to_vec(), &limits).unwrap();
        let logs = decode::logs(&sample.logs(100).encode_to_vec(), &limits).unwrap();
        assert_eq!((traces.batch.rows(), logs.batch.rows()), (100, 100));
        assert_eq!((traces.rejected.count, logs.rejected.count), (0, 0));
    }
}
