//! What was sent, to be held against what is stored.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::Ended;
use crate::customers::{FailedOrder, Seen};

/// Counts and samples of a run.
#[derive(Serialize)]
pub struct Summary {
    /// Where to.
    pub endpoint: String,
    /// How long the run took.
    pub seconds: f64,
    /// Orders tried.
    pub orders: u64,
    /// Orders that failed.
    pub failed_orders: u64,
    /// Spans that the server acknowledged.
    pub spans: u64,
    /// Spans that it did not.
    pub spans_lost: u64,
    /// Log records that the server acknowledged.
    pub logs: u64,
    /// Log records that it did not.
    pub logs_lost: u64,
    /// Metric points that the server acknowledged.
    pub points: u64,
    /// Metric points that it did not.
    pub points_lost: u64,
    /// The first failure to send, if any.
    pub error: Option<String>,
    /// What each program sent.
    pub services: Vec<Service>,
    /// Personal data of the trace below, or empty where no order failed.
    pub personal: Vec<Personal>,
    /// The failed order with the most spans.
    pub trace: Option<Trace>,
}

/// What one program sent.
#[derive(Serialize)]
pub struct Service {
    /// `service.name`.
    pub name: String,
    /// Acknowledged spans.
    pub spans: u64,
    /// Acknowledged log records.
    pub logs: u64,
    /// Acknowledged metric points.
    pub points: u64,
}

/// A piece of personal data that was sent.
#[derive(Serialize)]
pub struct Personal {
    /// What it is: `e-mail`, `card`, `address` or `token`.
    pub kind: &'static str,
    /// As it was sent.
    pub value: String,
    /// Where it was.
    pub places: &'static [&'static str],
}

/// A trace that is worth a look.
#[derive(Serialize)]
pub struct Trace {
    /// Hex trace id.
    pub id: String,
    /// Its acknowledged spans.
    pub spans: u64,
    /// Why the order failed.
    pub reason: String,
}

impl Summary {
    /// Sums up what the programs said at their end.
    pub fn new(endpoint: String, took: Duration, ended: Vec<Ended>) -> Summary {
        let mut seen = Seen::default();
        let mut traces: HashMap<String, u64> = HashMap::new();
        let mut summary = Summary {
            endpoint,
            seconds: took.as_secs_f64(),
            orders: 0,
            failed_orders: 0,
            spans: 0,
            spans_lost: 0,
            logs: 0,
            logs_lost: 0,
            points: 0,
            points_lost: 0,
            error: None,
            services: Vec::new(),
            personal: Vec::new(),
            trace: None,
        };
        for Ended { report, seen: customers } in ended {
            summary.spans += report.spans;
            summary.spans_lost += report.spans_lost;
            summary.logs += report.logs;
            summary.logs_lost += report.logs_lost;
            summary.points += report.points;
            summary.points_lost += report.points_lost;
            summary.error = summary.error.or(report.error.map(|error| format!("{}: {error}", report.service)));
            let (spans, logs, points) = (report.spans, report.logs, report.points);
            summary.services.push(Service { name: report.service, spans, logs, points });
            for (trace, spans) in report.traces {
                *traces.entry(trace).or_default() += spans;
            }
            seen = customers.unwrap_or(seen);
        }
        if summary.error.is_none() && summary.spans_lost + summary.logs_lost + summary.points_lost > 0 {
            summary.error = Some("more rows waited than the queue of the SDK holds".to_owned());
        }
        summary.orders = seen.orders;
        summary.failed_orders = seen.failed_count;
        let spans = |order: &FailedOrder| traces.get(&order.trace).copied().unwrap_or_default();
        // Declined cards first: they bring a card number into an exception.
        let worst = seen.failed.iter().max_by_key(|order| (order.reason == "CardDeclined", spans(order), &order.trace));
        if let Some(order) = worst {
            summary.personal = personal(order);
            summary.trace = Some(Trace { id: order.trace.clone(), spans: spans(order), reason: order.reason.clone() });
        }
        summary
    }
}

fn personal(order: &FailedOrder) -> Vec<Personal> {
    let person = &order.person;
    let piece = |kind, value: &str, places| Personal { kind, value: value.to_owned(), places };
    vec![
        piece("e-mail", &person.email, &["user.email", "url.full", "url.query", "log bodies"]),
        piece("card", &person.card, &["exception.message", "status message", "log bodies"]),
        piece("address", &person.address, &["client.address", "log bodies"]),
        piece("token", &person.token, &["http.request.header.authorization"]),
    ]
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { orders, failed_orders, seconds, spans, logs, points, endpoint, .. } = self;
        writeln!(f, "{orders} orders ({failed_orders} failed) in {seconds:.1} s by {} programs", self.services.len())?;
        writeln!(f, "sent {spans} spans, {logs} log records and {points} metric points to {endpoint}")?;
        if self.spans_lost + self.logs_lost + self.points_lost > 0 {
            let Summary { spans_lost, logs_lost, points_lost, .. } = self;
            writeln!(f, "not acknowledged: {spans_lost} spans, {logs_lost} log records, {points_lost} metric points")?;
        }
        if let Some(trace) = &self.trace {
            writeln!(f, "a failed checkout ({}) of {} spans: trace {}", trace.reason, trace.spans, trace.id)?;
            writeln!(f, "personal data in it, all of it invented:")?;
        }
        for Personal { kind, value, places } in &self.personal {
            writeln!(f, "  {kind:<8} {value:<58} {}", places.join(", "))?;
        }
        Ok(())
    }
}
