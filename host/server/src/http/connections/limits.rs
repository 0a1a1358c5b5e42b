//! How long a connection may be without movement, and what becomes of it then.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::pulse::Pulse;
use crate::config::HttpSettings;

/// The pulse is taken so many times within the shortest of the limits.
const PULSES_PER_LIMIT: u32 = 4;

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No request came.
    Silent,
    /// An answer is not taken, or the end that was asked for does not come.
    Stalled,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Lives,
    /// It is told to end; requests under way are finished.
    Ends,
    /// It ends now.
    Cut(Reason),
}

/// The limits of one connection, and what was judged so far.
#[derive(Debug)]
pub(super) struct Limits {
    /// When to look again.
    pub(super) pulse: Interval,
    first_request: Duration,
    idle: Duration,
    send_idle: Duration,
    send_total: Duration,
    began: Instant,
    /// When it was told to end, for its silence.
    told: Option<Instant>,
}

impl Limits {
    /// Of a new connection.
    pub(super) fn new(settings: &HttpSettings) -> Limits {
        let ms = Duration::from_millis;
        let (first_request, idle) = (ms(settings.header_timeout_ms), ms(settings.idle_timeout_ms));
        let (send_idle, send_total) = (ms(settings.send_idle_timeout_ms), ms(settings.send_timeout_ms));
        let shortest = first_request.min(idle).min(send_idle).min(send_total);
        let step = (shortest / PULSES_PER_LIMIT).max(ms(1));
        let mut pulse = tokio::time::interval_at(Instant::now() + step, step);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Limits { pulse, first_request, idle, send_idle, send_total, began: Instant::now(), told: None }
    }

    /// What becomes of a connection with this pulse.
    pub(super) fn judge(&mut self, pulse: &Pulse, now: Instant) -> Verdict {
        let since = |then: Instant| now.saturating_duration_since(then);
        // hyper's own limit begins when the protocol is known; who says nothing or one byte is cut here.
        if !pulse.spoke() && since(self.began) > self.first_request {
            return Verdict::Cut(Reason::Silent);
        }
        if pulse.stalled(self.send_idle, self.send_total, now) {
            return Verdict::Cut(Reason::Stalled);
        }
        match (pulse.idle(now), self.told) {
            // The last pieces of answers may be left lying where no pulse is felt.
            (Some(_), Some(told)) if since(told) > self.send_idle => Verdict::Cut(Reason::Stalled),
            (Some(idle), None) if idle > self.idle => {
                self.told = Some(now);
                Verdict::Ends
            }
            _ => Verdict::Lives,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits::new(&HttpSettings {
            header_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            send_idle_timeout_ms: 20_000,
            send_timeout_ms: 90_000,
            ..HttpSettings::default()
        })
    }

    #[tokio::test]
    async fn who_says_nothing_is_cut() {
        let (began, mut limits, pulse) = (Instant::now(), limits(), Pulse::new());
        assert_eq!(limits.judge(&pulse, began + 10 * SECOND), Verdict::Lives);
        assert_eq!(limits.judge(&pulse, limits.began + 11 * SECOND), Verdict::Cut(Reason::Silent));
        drop(pulse.request());
        assert_eq!(limits.judge(&pulse, limits.began + 11 * SECOND), Verdict::Lives);
    }

    #[tokio::test]
    async fn who_asks_no_more_is_told_to_end_and_then_cut() {
        let (mut limits, pulse) = (limits(), Pulse::new());
        let under_way = pulse.request();
        assert_eq!(
            limits.judge(&pulse, Instant::now() + 500 * SECOND),
            Verdict::Lives,
            "a request under way is not idle"
        );
        drop(under_way);
        let idle = Instant::now() + 61 * SECOND;
        assert_eq!([limits.judge(&pulse, idle), limits.judge(&pulse, idle)], [Verdict::Ends, Verdict::Lives]);
        assert_eq!(limits.judge(&pulse, idle + 21 * SECOND), Verdict::Cut(Reason::Stalled));
    }

    #[tokio::test]
    async fn who_leaves_an_answer_is_cut() {
        let (before, mut limits, pulse) = (Instant::now(), limits(), Pulse::new());
        let _left = pulse.request().answer(Body::from("answer"), false);
        assert_eq!(limits.judge(&pulse, before + 20 * SECOND), Verdict::Lives);
        assert_eq!(limits.judge(&pulse, Instant::now() + 21 * SECOND), Verdict::Cut(Reason::Stalled));
    }
}
