//! Turns a basket into an order: reserve, charge, confirm; and give everything back where the charge fails.

use std::sync::Arc;

use http::Method;
use opentelemetry::logs::Severity;
use opentelemetry::trace::{SpanKind, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

use crate::mail::Message;
use crate::payment::Charge;
use crate::telemetry::Telemetry;
use crate::web::{self, Call, Client, Failure, Routes};

/// A busy gateway is asked so often.
const CHARGES_MAX: u32 = 2;

/// What a customer wants.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// `o-` and a number.
    pub id: String,
    /// Who orders.
    pub user: String,
    /// Where the confirmation goes.
    pub email: String,
    /// How it is paid.
    pub card: String,
    /// What is bought.
    pub lines: Vec<Line>,
}

/// A product of an order.
#[derive(Serialize, Deserialize)]
pub struct Line {
    /// Id of the product.
    pub product: String,
    /// How many.
    pub count: u32,
}

/// What the customer gets back.
#[derive(Serialize, Deserialize)]
pub struct Receipt {
    /// Id of the order.
    pub order: String,
    /// Sum in cents.
    pub total_cents: u64,
}

/// Where the programs are that the checkout asks.
pub struct Downstream {
    /// URL of the catalogue.
    pub catalogue: String,
    /// URL of the payment.
    pub payment: String,
    /// URL of the mail.
    pub mail: String,
}

/// Runs the checkout until `stop`.
pub async fn run(listener: TcpListener, telemetry: Arc<Telemetry>, to: Downstream, stop: impl Future<Output = ()>) {
    let client = Client::new(Arc::clone(&telemetry));
    web::serve(listener, Arc::clone(&telemetry), Checkout { telemetry, client, to }, stop).await;
}

struct Checkout {
    telemetry: Arc<Telemetry>,
    client: Client,
    to: Downstream,
}

impl Routes for Checkout {
    const ROUTES: &'static [&'static str] = &["POST /orders"];

    async fn handle(&self, call: Call) -> Result<Json, Failure> {
        let order: Order = call.json()?;
        let attributes = vec![
            KeyValue::new("order.id", order.id.clone()),
            KeyValue::new("user.id", order.user.clone()),
            KeyValue::new("user.email", order.email.clone()),
            KeyValue::new("order.lines", order.lines.len() as i64),
        ];
        let cx = self.telemetry.span(&call.cx, "place order", SpanKind::Internal, attributes);
        let outcome = self.place(&cx, &order).await;
        self.telemetry.count_order(outcome.as_ref().err().map_or("placed", |failure| &failure.kind));
        match &outcome {
            Ok(receipt) => {
                let body = format!("order {} of {} placed: {} cents", order.id, order.email, receipt.total_cents);
                cx.span().set_attribute(KeyValue::new("order.total_cents", receipt.total_cents as i64));
                self.telemetry.log(&cx, Severity::Info, body, vec![KeyValue::new("order.id", order.id.clone())]);
            }
            Err(failure) => {
                failure.record(&cx);
                let body = format!("order {} of {} failed: {}", order.id, order.email, failure.message);
                let attributes = vec![
                    KeyValue::new("order.id", order.id.clone()),
                    KeyValue::new("error.type", failure.kind.clone()),
                ];
                self.telemetry.log(&cx, Severity::Error, body, attributes);
            }
        }
        outcome.map(|receipt| json!(receipt))
    }
}

impl Checkout {
    async fn place(&self, cx: &Context, order: &Order) -> Result<Receipt, Failure> {
        let total_cents = self.reserve(cx, order).await?;
        if let Err(failure) = self.charge(cx, order, total_cents).await {
            self.release(cx, order).await?;
            return Err(failure);
        }
        self.confirm(cx, order, total_cents).await?;
        Ok(Receipt { order: order.id.clone(), total_cents })
    }

    async fn reserve(&self, cx: &Context, order: &Order) -> Result<u64, Failure> {
        let cx = self.telemetry.span(cx, "reserve", SpanKind::Internal, Vec::new());
        let mut total_cents = 0;
        for line in &order.lines {
            let url = format!("{}/products/{}/reserve", self.to.catalogue, line.product);
            let product: Json = self.client.call(&cx, Method::POST, &url, &[], json!({"count": line.count})).await?;
            total_cents += product["price_cents"].as_u64().unwrap_or_default() * u64::from(line.count);
        }
        Ok(total_cents)
    }

    async fn release(&self, cx: &Context, order: &Order) -> Result<(), Failure> {
        let cx = self.telemetry.span(cx, "release", SpanKind::Internal, Vec::new());
        for line in &order.lines {
            let url = format!("{}/products/{}/release", self.to.catalogue, line.product);
            self.client.call::<Json>(&cx, Method::POST, &url, &[], json!({"count": line.count})).await?;
        }
        Ok(())
    }

    async fn charge(&self, cx: &Context, order: &Order, cents: u64) -> Result<(), Failure> {
        let url = format!("{}/charges", self.to.payment);
        let mut attempt = 1;
        loop {
            let charge = Charge {
                order: order.id.clone(),
                email: order.email.clone(),
                card: order.card.clone(),
                cents,
                attempt,
            };
            match self.client.call::<Json>(cx, Method::POST, &url, &[], json!(charge)).await {
                Err(failure) if failure.status == 503 && attempt < CHARGES_MAX => {
                    cx.span().add_event("retry", vec![KeyValue::new("attempt", i64::from(attempt))]);
                    attempt += 1;
                }
                outcome => return outcome.map(drop),
            }
        }
    }

    async fn confirm(&self, cx: &Context, order: &Order, cents: u64) -> Result<(), Failure> {
        let text = format!("Thank you for your order {} of {}.{:02} euros.", order.id, cents / 100, cents % 100);
        let message = Message { to: order.email.clone(), order: order.id.clone(), text };
        let url = format!("{}/messages", self.to.mail);
        self.client.call::<Json>(cx, Method::POST, &url, &[], json!(message)).await.map(drop)
    }
}
