//! What moves on a connection: requests under way, and answers that the client takes or does not.
//!
//! hyper asks for more of an answer only when the client has room for it. So a body knows nothing of a client that gives no
//! room, and the connection is asked from outside.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Pieces of an answer: what hyper has taken over and the client has not is at most one of them for each stream.
const PIECE_BYTES: usize = 16 << 10;

/// The pulse of one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests so far; the next one's number.
    requests: u64,
    /// Requests whose answer is not handed over.
    under_way: usize,
    /// When the last one ended.
    idle_since: Instant,
    /// Answers that are being handed over.
    sending: HashMap<u64, Sending>,
}

/// An answer that is being handed over.
#[derive(Debug)]
struct Sending {
    began: Instant,
    /// When a piece was last taken.
    last: Instant,
    /// It goes on for as long as there is something to tell, and has no time in which it must be whole.
    live: bool,
    /// The client has taken all that there is so far.
    waiting: bool,
}

/// Marks an answer that has no end of its own; travels beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live;

/// A request, until its answer is handed over or nobody wants it any more.
#[derive(Debug)]
pub(super) struct UnderWay {
    pulse: Arc<Pulse>,
    number: u64,
}

impl Pulse {
    /// Of a new connection.
    pub(super) fn new() -> Arc<Pulse> {
        let (idle_since, sending) = (Instant::now(), HashMap::new());
        Arc::new(Pulse { state: Mutex::new(State { requests: 0, under_way: 0, idle_since, sending }) })
    }

    /// A request has come.
    pub(super) fn request(self: &Arc<Pulse>) -> UnderWay {
        let mut state = self.state.lock();
        state.under_way += 1;
        state.requests += 1;
        UnderWay { pulse: self.clone(), number: state.requests }
    }

    /// Whether a request came.
    pub(super) fn spoke(&self) -> bool {
        self.state.lock().requests > 0
    }

    /// How long there has been no request; `None` while one is under way.
    pub(super) fn idle(&self, now: Instant) -> Option<Duration> {
        let state = self.state.lock();
        (state.under_way == 0).then(|| now.saturating_duration_since(state.idle_since))
    }

    /// Whether the client leaves an answer: takes no piece for `idle`, or not the whole within `total`.
    pub(super) fn stalled(&self, idle: Duration, total: Duration, now: Instant) -> bool {
        let since = |then: &Instant| now.saturating_duration_since(*then);
        let left = |of: &Sending| (!of.live && since(&of.began) > total) || (!of.waiting && since(&of.last) > idle);
        self.state.lock().sending.values().any(left)
    }
}

impl UnderWay {
    /// The answer's body, in pieces that tell how far it has come.
    pub(super) fn answer(self, body: Body, live: bool) -> Body {
        let now = Instant::now();
        self.pulse.state.lock().sending.insert(self.number, Sending { began: now, last: now, live, waiting: false });
        Body::new(Sent { body, rest: Bytes::new(), under_way: self })
    }

    /// The client has room for another piece; `waiting` where there is none yet, which is not its fault.
    fn asked(&self, waiting: bool) {
        if let Some(of) = self.pulse.state.lock().sending.get_mut(&self.number) {
            of.last = Instant::now();
            of.waiting = waiting && of.live;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.pulse.state.lock();
        state.under_way -= 1;
        state.idle_since = Instant::now();
        state.sending.remove(&self.number);
    }
}

struct Sent {
    body: Body,
    rest: Bytes,
    under_way: UnderWay,
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => {
                    self.under_way.asked(true);
                    return other;
                }
            }
        }
        self.under_way.asked(false);
        let len = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(len)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        match hint.exact() {
            Some(exact) => hint.set_exact(exact + rest),
            None => hint.set_lower(hint.lower() + rest),
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use hyper::body::Body as _;

    #[tokio::test]
    async fn an_answer_comes_whole_and_tells_how_far_it_is() {
        let (pulse, later) = (Pulse::new(), Instant::now() + Duration::from_secs(600));
        assert!(!pulse.spoke() && pulse.idle(later).is_some());
        let mut body = pulse.request().answer(Body::from(vec![7; 2 * PIECE_BYTES + 1]), false);
        assert!(pulse.spoke() && pulse.idle(later).is_none());
        let mut sizes = Vec::new();
        let mut left = body.size_hint().exact().unwrap();
        while let Some(frame) = body.frame().await {
            let len = frame.unwrap().into_data().unwrap().len();
            left -= len as u64;
            assert_eq!(body.size_hint().exact(), Some(left));
            sizes.push(len);
        }
        assert_eq!(sizes, [PIECE_BYTES, PIECE_BYTES, 1]);
        let (zero, max) = (Duration::ZERO, Duration::MAX);
        assert!(pulse.stalled(zero, max, later) && pulse.stalled(max, zero, later) && !pulse.stalled(max, max, later));
        drop(body);
        assert!(!pulse.stalled(zero, zero, later) && pulse.idle(later).is_some());
    }

    #[tokio::test]
    async fn a_live_answer_stalls_only_where_the_client_leaves_a_piece() {
        let (pulse, later) = (Pulse::new(), Instant::now() + Duration::from_secs(600));
        let (pieces, body) = futures::channel::mpsc::unbounded::<Result<Bytes, std::io::Error>>();
        let mut body = pulse.request().answer(Body::from_stream(body), true);
        let (idle, total) = (Duration::from_secs(20), Duration::from_secs(60));
        assert!(futures::poll!(body.frame()).is_pending());
        assert!(!pulse.stalled(idle, total, later), "there is nothing to take");
        pieces.unbounded_send(Ok(Bytes::from_static(b"row"))).unwrap();
        assert!(futures::poll!(body.frame()).is_ready());
        assert!(pulse.stalled(idle, total, later), "hyper has a piece for which the client has no room");
        assert!(futures::poll!(body.frame()).is_pending() && !pulse.stalled(idle, total, later));
        drop(body);
        assert!(pulse.idle(later).is_some());
    }

    #[test]
    fn a_request_that_is_given_up_is_over() {
        let pulse = Pulse::new();
        let given_up = pulse.request();
        assert!(pulse.idle(Instant::now()).is_none());
        drop(given_up);
        assert!(pulse.idle(Instant::now()).is_some());
    }
}
