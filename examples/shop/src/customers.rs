//! People who visit the shop, look at some products and order. They too tell what they do: as the shop's app would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderName, Method, header};
use opentelemetry::logs::Severity;
use opentelemetry::trace::{SpanKind, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::catalogue::PRODUCTS;
use crate::checkout::{Line, Order};
use crate::people::{Dice, Person};
use crate::telemetry::Telemetry;
use crate::web::{Client, Failure};

/// Failed orders that are remembered; a long run needs a few to choose from, not all.
const FAILED_MAX: usize = 1_000;
/// Visits at the same time; more wait, so that a stuck shop does not fill the memory.
const VISITS_MAX: usize = 500;

/// How many customers come, and how fast.
#[derive(Clone, Copy)]
pub struct Traffic {
    /// Describes the world: the same seed brings the same customers with the same wishes.
    pub seed: u64,
    /// Orders in all; none: until the time is over.
    pub orders: Option<u64>,
    /// How long customers come; none: until the orders are placed.
    pub duration: Option<Duration>,
    /// Customers a second.
    pub rate: f64,
}

/// What the customers saw.
#[derive(Default, Serialize, Deserialize)]
pub struct Seen {
    /// Orders tried.
    pub orders: u64,
    /// The first of those that failed.
    pub failed: Vec<FailedOrder>,
    /// How many failed.
    pub failed_count: u64,
}

/// An order that failed, with the personal data that went into its trace.
#[derive(Serialize, Deserialize)]
pub struct FailedOrder {
    /// Hex trace id.
    pub trace: String,
    /// Why.
    pub reason: String,
    /// Who.
    pub person: Person,
}

/// Sends customers to the shop at `frontend`; ends after the last has left. `stop` ends it early.
pub async fn run(
    frontend: String,
    telemetry: Arc<Telemetry>,
    traffic: Traffic,
    stop: impl Future<Output = ()>,
) -> Seen {
    let customers = Arc::new(Customers {
        client: Client::new(Arc::clone(&telemetry)),
        frontend,
        telemetry,
        seed: traffic.seed,
        failed: AtomicU64::new(0),
        first_failed: Mutex::default(),
    });
    let begun = Instant::now();
    let mut visits = JoinSet::new();
    let mut number = 0;
    tokio::pin!(stop);
    while traffic.orders.is_none_or(|orders| number < orders) {
        let due = Duration::from_secs_f64(number as f64 / traffic.rate);
        if traffic.duration.is_some_and(|duration| due >= duration) {
            break;
        }
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep_until(begun + due) => {}
        }
        if visits.len() >= VISITS_MAX {
            visits.join_next().await;
        }
        let customers = Arc::clone(&customers);
        visits.spawn(async move { customers.visit(number).await });
        number += 1;
        while visits.try_join_next().is_some() {}
    }
    visits.join_all().await;
    let failed = std::mem::take(&mut *customers.first_failed.lock().unwrap_or_else(PoisonError::into_inner));
    Seen { orders: number, failed, failed_count: customers.failed.load(Relaxed) }
}

struct Customers {
    client: Client,
    frontend: String,
    telemetry: Arc<Telemetry>,
    seed: u64,
    failed: AtomicU64,
    first_failed: Mutex<Vec<FailedOrder>>,
}

impl Customers {
    async fn visit(&self, number: u64) {
        let person = Person::new(self.seed, number);
        let mut dice = Dice::new(self.seed ^ 0x5eed, number);
        let attributes = vec![
            KeyValue::new("session.id", format!("{:032x}", u128::from(dice.next()) << 64 | u128::from(dice.next()))),
            KeyValue::new("user.id", person.id.clone()),
            KeyValue::new("user.email", person.email.clone()),
            KeyValue::new("client.address", person.address.clone()),
        ];
        let cx = self.telemetry.span(&Context::new(), "visit", SpanKind::Internal, attributes);
        if let Err(failure) = self.shop(&cx, &person, number, &mut dice).await {
            failure.record(&cx);
            let body = format!("order of {} failed with {}", person.email, failure.kind);
            self.telemetry.log(&cx, Severity::Error, body, vec![KeyValue::new("user.id", person.id.clone())]);
            self.failed.fetch_add(1, Relaxed);
            let trace = cx.span().span_context().trace_id().to_string();
            let mut first = self.first_failed.lock().unwrap_or_else(PoisonError::into_inner);
            if first.len() < FAILED_MAX {
                first.push(FailedOrder { trace, reason: failure.kind, person });
            }
        }
    }

    async fn shop(&self, cx: &Context, person: &Person, number: u64, dice: &mut Dice) -> Result<(), Failure> {
        self.ask(cx, person, Method::GET, "/", Json::Null).await?;
        think(dice).await;
        self.ask(cx, person, Method::GET, &format!("/account?email={}", person.email), Json::Null).await?;
        let mut lines = Vec::new();
        for _ in 0..=dice.below(4) {
            think(dice).await;
            let product = format!("p-{}", dice.below(PRODUCTS));
            self.ask(cx, person, Method::GET, &format!("/products/{product}"), Json::Null).await?;
            lines.push(Line { product, count: dice.below(3) as u32 + 1 });
        }
        think(dice).await;
        let (user, email, card) = (person.id.clone(), person.email.clone(), person.card.clone());
        let order = Order { id: format!("o-{number}"), user, email, card, lines };
        self.ask(cx, person, Method::POST, "/orders", json!(order)).await
    }

    async fn ask(&self, cx: &Context, person: &Person, method: Method, path: &str, body: Json) -> Result<(), Failure> {
        let url = format!("{}{path}", self.frontend);
        let login = format!("Bearer {}", person.token);
        let headers = [
            (header::USER_AGENT, person.browser.as_str()),
            (header::AUTHORIZATION, login.as_str()),
            (HeaderName::from_static("x-forwarded-for"), person.address.as_str()),
        ];
        self.client.call::<Json>(cx, method, &url, &headers, body).await.map(drop)
    }
}

/// People need a moment; these are quick, so that a demo is.
async fn think(dice: &mut Dice) {
    tokio::time::sleep(Duration::from_millis(dice.below(30))).await;
}
