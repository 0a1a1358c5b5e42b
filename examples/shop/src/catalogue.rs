//! What the shop sells, in a database in memory of four shards, one of which is slow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry::KeyValue;
use opentelemetry::logs::Severity;
use opentelemetry::trace::{SpanKind, TraceContextExt};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

use crate::telemetry::Telemetry;
use crate::web::{self, Call, Failure, Routes};

/// Products are `p-0` up to and without this.
pub const PRODUCTS: u64 = 24;
const SHARDS: u64 = 4;
const SLOW_SHARD: u64 = 3;
const NORMAL_QUERY: Duration = Duration::from_micros(400);
const SLOW_QUERY: Duration = Duration::from_millis(45);

const NAMES: [&str; 8] = ["lamp", "kettle", "chair", "carpet", "mirror", "teapot", "shelf", "clock"];

/// Runs the catalogue until `stop`.
pub async fn run(listener: TcpListener, telemetry: Arc<Telemetry>, stop: impl Future<Output = ()>) {
    let catalogue = Catalogue { telemetry: Arc::clone(&telemetry), reserved: Mutex::default() };
    web::serve(listener, telemetry, catalogue, stop).await;
}

struct Catalogue {
    telemetry: Arc<Telemetry>,
    /// How many of each product wait for their payment.
    reserved: Mutex<BTreeMap<u64, i64>>,
}

impl Routes for Catalogue {
    const ROUTES: &'static [&'static str] =
        &["GET /products", "GET /products/{id}", "POST /products/{id}/reserve", "POST /products/{id}/release"];

    async fn handle(&self, call: Call) -> Result<Json, Failure> {
        let Some(id) = call.segments.first() else {
            let query = "SELECT id, name, price_cents FROM products LIMIT 8";
            self.query(&call.cx, 0, "SELECT", query, 8).await;
            return Ok((0..8).map(product).collect());
        };
        let number = id.strip_prefix("p-").and_then(|n| n.parse().ok()).filter(|n| *n < PRODUCTS);
        let number: u64 = number.ok_or_else(|| Failure::new(404, "UnknownProduct", format!("no product `{id}`")))?;
        call.cx.span().set_attribute(KeyValue::new("product.id", id.clone()));
        let change = match call.route {
            "POST /products/{id}/reserve" => 1,
            "POST /products/{id}/release" => -1,
            _ => {
                let query = "SELECT id, name, price_cents FROM products WHERE id = ?";
                self.query(&call.cx, number % SHARDS, "SELECT", query, 1).await;
                return Ok(product(number));
            }
        };
        let query = "UPDATE products SET reserved = reserved + ? WHERE id = ?";
        self.query(&call.cx, number % SHARDS, "UPDATE", query, 1).await;
        *self.reserved.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_default() += change;
        Ok(product(number))
    }
}

impl Catalogue {
    /// Stands for the database: takes its time and leaves the span that a database client leaves.
    async fn query(&self, cx: &Context, shard: u64, operation: &'static str, text: &'static str, rows: i64) {
        let attributes = vec![
            KeyValue::new("db.system.name", "memory"),
            KeyValue::new("db.namespace", format!("shard-{shard}")),
            KeyValue::new("db.collection.name", "products"),
            KeyValue::new("db.operation.name", operation),
            KeyValue::new("db.query.text", text),
        ];
        let cx = self.telemetry.span(cx, format!("{operation} products"), SpanKind::Client, attributes);
        let begun = Instant::now();
        tokio::time::sleep(if shard == SLOW_SHARD { SLOW_QUERY } else { NORMAL_QUERY }).await;
        cx.span().set_attribute(KeyValue::new("db.response.returned_rows", rows));
        if shard == SLOW_SHARD {
            let millis = begun.elapsed().as_secs_f64() * 1e3;
            cx.span().add_event("db.slow", vec![KeyValue::new("db.wait_ms", millis)]);
            let attributes = vec![KeyValue::new("db.namespace", "shard-3"), KeyValue::new("db.wait_ms", millis)];
            self.telemetry.log(
                &cx,
                Severity::Warn,
                format!("{operation} took {millis:.1} ms on shard-{shard}"),
                attributes,
            );
        }
    }
}

fn product(number: u64) -> Json {
    let name = NAMES[number as usize % NAMES.len()];
    json!({"id": format!("p-{number}"), "name": format!("{name} no. {number}"), "price_cents": 900 + number * 250})
}
