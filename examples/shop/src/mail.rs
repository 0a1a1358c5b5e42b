//! Confirms orders by mail, later and several at a time: a queue, whose spans point by links to those that filled it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::logs::{AnyValue, Severity};
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt};
use opentelemetry::{Context, Key, KeyValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::telemetry::Telemetry;
use crate::web::{self, Call, Failure, Routes};

/// Messages that may wait; more are refused.
const QUEUE_MAX: usize = 1_000;
/// Messages that are sent together.
const BATCH_MAX: usize = 8;
/// Lets a batch gather.
const BATCH_DELAY: Duration = Duration::from_millis(80);

/// A mail.
#[derive(Serialize, Deserialize)]
pub struct Message {
    /// Address.
    pub to: String,
    /// Id of the order.
    pub order: String,
    /// What it says.
    pub text: String,
}

/// Runs the mail until `stop`, then sends what is still in the queue.
pub async fn run(listener: TcpListener, telemetry: Arc<Telemetry>, stop: impl Future<Output = ()>) {
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    let worker = tokio::spawn(work(Arc::clone(&telemetry), waiting));
    web::serve(listener, Arc::clone(&telemetry), Mail { telemetry, queue }, stop).await;
    // The queue has ended with the server; the worker ends with the queue.
    worker.await.unwrap_or_default();
}

struct Mail {
    telemetry: Arc<Telemetry>,
    queue: mpsc::Sender<(SpanContext, Message)>,
}

impl Routes for Mail {
    const ROUTES: &'static [&'static str] = &["POST /messages"];

    async fn handle(&self, call: Call) -> Result<Json, Failure> {
        let message: Message = call.json()?;
        let cx = self.telemetry.span(&call.cx, "send confirmations", SpanKind::Producer, messaging("send"));
        let origin = cx.span().span_context().clone();
        let queued = self.queue.try_send((origin, message));
        queued.map_err(|_| Failure::new(503, "QueueFull", format!("more than {QUEUE_MAX} messages wait")))?;
        Ok(json!({"queued": true}))
    }
}

async fn work(telemetry: Arc<Telemetry>, mut waiting: mpsc::Receiver<(SpanContext, Message)>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        if batch.len() < BATCH_MAX && !waiting.is_closed() {
            tokio::time::sleep(BATCH_DELAY).await;
            while batch.len() < BATCH_MAX
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
        }
        let origins = batch.iter().map(|(origin, _)| origin.clone()).collect();
        let mut attributes = messaging("process");
        attributes.push(KeyValue::new("messaging.batch.message_count", batch.len() as i64));
        let cx =
            telemetry.linked_span(&Context::new(), "process confirmations", SpanKind::Consumer, attributes, origins);
        for (_, message) in batch.drain(..) {
            deliver(&telemetry, &cx, message).await;
        }
    }
}

async fn deliver(telemetry: &Telemetry, cx: &Context, message: Message) {
    let attributes =
        vec![KeyValue::new("order.id", message.order.clone()), KeyValue::new("mail.to", message.to.clone())];
    let cx = telemetry.span(cx, "deliver", SpanKind::Internal, attributes);
    tokio::time::sleep(Duration::from_millis(2)).await;
    // A structured body: the address is inside a map.
    let body: HashMap<Key, AnyValue> = HashMap::from([
        (Key::new("event"), AnyValue::from("mail.sent")),
        (Key::new("to"), AnyValue::from(message.to)),
        (Key::new("text"), AnyValue::from(message.text)),
    ]);
    let order = KeyValue::new("order.id", message.order);
    telemetry.log(&cx, Severity::Info, AnyValue::Map(Box::new(body)), vec![order]);
}

fn messaging(operation: &'static str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.system", "memory"),
        KeyValue::new("messaging.destination.name", "confirmations"),
        KeyValue::new("messaging.operation.type", operation),
    ]
}
