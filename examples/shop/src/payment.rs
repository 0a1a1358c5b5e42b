//! Charges cards. Careless with them in its logs and exceptions, as real programs are: a redactor has to mend that.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::logs::Severity;
use opentelemetry::trace::{SpanKind, TraceContextExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

use crate::people::DECLINED_CARD;
use crate::telemetry::Telemetry;
use crate::web::{self, Call, Failure, Routes};

/// The gateway is busy for the first attempt of one order in so many.
const BUSY_ONE_IN: u64 = 12;
const GATEWAY_DELAY: Duration = Duration::from_millis(6);

/// Money to take.
#[derive(Serialize, Deserialize)]
pub struct Charge {
    /// Id of the order.
    pub order: String,
    /// Of the customer.
    pub email: String,
    /// Number of the card.
    pub card: String,
    /// How much.
    pub cents: u64,
    /// Counted from 1.
    pub attempt: u32,
}

/// Runs the payment until `stop`.
pub async fn run(listener: TcpListener, telemetry: Arc<Telemetry>, stop: impl Future<Output = ()>) {
    web::serve(listener, Arc::clone(&telemetry), Payment { telemetry }, stop).await;
}

struct Payment {
    telemetry: Arc<Telemetry>,
}

impl Routes for Payment {
    const ROUTES: &'static [&'static str] = &["POST /charges"];

    async fn handle(&self, call: Call) -> Result<Json, Failure> {
        let charge: Charge = call.json()?;
        let attributes = vec![
            KeyValue::new("order.id", charge.order.clone()),
            KeyValue::new("payment.amount", charge.cents as f64 / 100.0),
            KeyValue::new("payment.currency", "EUR"),
            KeyValue::new("payment.attempt", i64::from(charge.attempt)),
        ];
        let cx = self.telemetry.span(&call.cx, "charge card", SpanKind::Internal, attributes);
        let order = KeyValue::new("order.id", charge.order.clone());
        let body = format!("charging card {} of {}, {} cents", charge.card, charge.email, charge.cents);
        self.telemetry.log(&cx, Severity::Debug, body, vec![order.clone()]);
        tokio::time::sleep(GATEWAY_DELAY).await;

        let outcome = gateway(&charge);
        if let Err(failure) = &outcome {
            failure.record(&cx);
            let attributes = vec![order, KeyValue::new("error.type", failure.kind.clone())];
            self.telemetry.log(&cx, Severity::Warn, failure.message.clone(), attributes);
        }
        cx.span().set_attribute(KeyValue::new("payment.approved", outcome.is_ok()));
        outcome.map(|()| json!({"charged": charge.cents}))
    }
}

/// Stands for the company that talks to the banks.
fn gateway(charge: &Charge) -> Result<(), Failure> {
    let number: u64 = charge.order.trim_start_matches("o-").parse().unwrap_or_default();
    if charge.attempt == 1 && number % BUSY_ONE_IN == 5 {
        return Err(Failure::new(503, "GatewayBusy", "payment gateway busy, try again"));
    }
    if charge.card == DECLINED_CARD {
        return Err(Failure::new(402, "CardDeclined", format!("card {} was declined by its bank", charge.card)));
    }
    Ok(())
}
