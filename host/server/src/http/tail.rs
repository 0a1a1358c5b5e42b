//! `/v1/tail`: new rows that match a query, for as long as the client reads.
//!
//! The answer begins at once and ends where the client leaves, the server stops, the key is no longer good, the tenant is
//! erased, or `limit` rows were shown; its last line says which. What is said is asked for when the client has room for it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use bytes::Bytes;
use futures::future::select_all;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use prism_dsl::{Query, Range};
use prism_query::TailCursor;
use tokio::sync::watch;
use tokio::time::Instant;

use super::body::{self, BodyLimits};
use super::caller::{self, Head};
use super::connections::Live;
use super::query::{QUERY_BYTES_MAX, parameter, parse, settle};
use super::respond;
use crate::access::Role;
use crate::app::{App, now_unix_nanos};
use crate::error::{Code, Failure};
use crate::tails::{Asked, Begin, Ended, Form, Reader, Said};

/// The header of who reads server-sent events and lost the connection.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies that follow nginx hold answers back without it.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How often is looked whether the key is still good: as often as keys are read (`auth.reload_ms`), by default.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Rows are looked for at most so long before it is looked whether the tail must end, and whether its client is still there.
const SAY_MAX: Duration = Duration::from_millis(100);

/// `POST /v1/tail`: the same document or text as at `/v1/query`, of plain rows.
pub(super) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, ());
    let answered = async {
        let tenant = match caller::tenant(&app.access, Head::of(&head), Role::Query).await {
            Ok(tenant) => tenant,
            Err(failure) => {
                body::discard(head.headers(), body).await;
                return Err(failure);
            }
        };
        let limits =
            BodyLimits { bytes_max: QUERY_BYTES_MAX, setting: "64 KiB are the longest query", ..app.body_limits() };
        let held = body::read(head.headers(), body, limits, &tenant, &app.room).await?;
        let query = parse(&held.bytes)?;
        drop(held);
        begin(&app, head, query).await
    };
    let answered = answered.await;
    settle(&app, answered)
}

/// `GET /v1/tail?q=`: the text form in the URL, for whoever cannot send a body, such as `EventSource`.
pub(super) async fn get(State(app): State<Arc<App>>, RawQuery(raw): RawQuery, request: Request<Body>) -> Response {
    let (head, _) = request.into_parts();
    let head = Request::from_parts(head, ());
    let answered = async {
        caller::tenant(&app.access, Head::of(&head), Role::Query).await?;
        let text = parameter(raw.as_deref(), "q")?;
        let text = text.ok_or_else(|| Failure::new(Code::BadRequest, "expected the query as `?q=`"))?;
        begin(&app, head, parse(text.as_bytes())?).await
    };
    let answered = answered.await;
    settle(&app, answered)
}

async fn begin(app: &Arc<App>, head: Request<()>, query: Query) -> Result<Response, Failure> {
    let tenant = caller::tenant(&app.access, Head::of(&head), Role::Query).await?;
    let form = form(&head);
    let begin = beginning(&head, &query, app.config.tail.last_max_ms)?;
    if let (Begin::Cursor(cursor), Some(limit)) = (&begin, query.limit)
        && cursor.shown >= limit
    {
        // What tells `EventSource` not to come again.
        return Ok(respond::line(StatusCode::NO_CONTENT, ""));
    }
    let seat = app.tails.seat(&tenant)?;
    let tail = app.engine().tail(&tenant, &query, now_unix_nanos()).map_err(|error| Failure::of_query(&error))?;
    let (of, runtime) = (app.clone(), tokio::runtime::Handle::current());
    let begun = tokio::task::spawn_blocking(move || {
        let _runtime = runtime.enter();
        of.tails.begin(Asked { tenant, tail, begin, form, seat })
    });
    let reader = begun.await.unwrap_or_else(|panic| Err(broken(&panic)))?;
    let now = Instant::now();
    let heartbeat = Duration::from_millis(app.config.tail.heartbeat_ms);
    let state = Streaming {
        bells: reader.bells(),
        reader: Some(reader),
        stopping: app.stopping(),
        app: app.clone(),
        head,
        heartbeat,
        said: now,
        checked: now,
    };
    let mut response = respond::ok(form.media_type(), Body::from_stream(futures::stream::unfold(state, next)));
    response.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
    response.extensions_mut().insert(Live);
    Ok(response)
}

fn form(head: &Request<()>) -> Form {
    let accept = head.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let mut asked = accept.split(',').filter_map(|part| part.split(';').next());
    let events = |media_type: &str| media_type.trim().eq_ignore_ascii_case(Form::Events.media_type());
    if asked.any(events) { Form::Events } else { Form::Ndjson }
}

/// Where it begins: by the cursor that is there, else by the query's range.
fn beginning(head: &Request<()>, query: &Query, last_max_ms: u64) -> Result<Begin, Failure> {
    let refuse = |message: String| Failure::new(Code::BadRequest, message);
    let of_header = match head.headers().get(LAST_EVENT_ID).map(HeaderValue::to_str) {
        Some(Err(_)) => return Err(refuse("expected in `last-event-id` the id of an event".to_owned())),
        Some(Ok(id)) => Some(id.to_owned()).filter(|id| !id.is_empty()),
        None => None,
    };
    // `EventSource` comes again with the URL that it began with, so that its header is the newer one.
    let of_url = parameter(head.uri().query(), "cursor")?;
    if let Some(text) = of_header.or(of_url).or_else(|| query.cursor.clone()) {
        let cursor = TailCursor::read(&text, query).map_err(|error| Failure::of_query(&error))?;
        return Ok(Begin::Cursor(Box::new(cursor)));
    }
    match query.range {
        None => Ok(Begin::Now),
        Some(Range::Last(nanos))
            if nanos <= i64::try_from(last_max_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000) =>
        {
            Ok(Begin::Last(nanos))
        }
        Some(Range::Last(_)) => {
            let message = format!("a tail begins at most {last_max_ms} ms before now (`tail.last_max_ms`)");
            Err(refuse(message).hint("ask /v1/query for older rows"))
        }
        Some(Range::Between { .. }) => {
            let message = "a tail has no end: expected no range, or one such as `last 5m` to begin with".to_owned();
            Err(refuse(message).hint("ask /v1/query for rows between two times"))
        }
    }
}

fn broken(panic: &tokio::task::JoinError) -> Failure {
    let message = "an error inside of Prism: please report it with the time at which it happened";
    Failure::new(Code::Bug, message).inner(panic.to_string())
}

/// A tail that is being said.
struct Streaming {
    app: Arc<App>,
    /// Who asked, to see whether it still may.
    head: Request<()>,
    /// Taken when it has ended.
    reader: Option<Reader>,
    bells: Vec<watch::Receiver<u64>>,
    stopping: watch::Receiver<bool>,
    heartbeat: Duration,
    /// When anything was said, and when the key was looked at.
    said: Instant,
    checked: Instant,
}

/// What is said next: asked for when the client has room.
async fn next(mut of: Streaming) -> Option<(Result<Bytes, Infallible>, Streaming)> {
    loop {
        let reader = of.reader.take()?;
        if let Some(ended) = of.ended(&reader).await {
            return Some((Ok(last_words(&reader, &ended).into()), of));
        }
        // Nor may a heartbeat wait for them.
        let time_max = SAY_MAX.min(of.heartbeat);
        let work = tokio::task::spawn_blocking(move || {
            let mut reader = reader;
            let said = reader.say(time_max);
            (reader, said)
        });
        let (mut reader, Said { text, more, ended }) = match work.await {
            Ok(done) => done,
            Err(panic) => {
                // The reader is gone with its place: the answer breaks off.
                tracing::error!(%panic, "a tail panicked");
                return None;
            }
        };
        if let Some(ended) = ended {
            return Some((Ok((text + &last_words(&reader, &ended)).into()), of));
        }
        if !text.is_empty() {
            of.said = Instant::now();
            of.reader = Some(reader);
            return Some((Ok(text.into()), of));
        }
        let waited = loop {
            let waited = match more {
                true if of.said.elapsed() >= of.heartbeat => Waited::Beat,
                true => Waited::News,
                false => of.wait().await,
            };
            match waited {
                // Nothing is new: only whether it must end is looked at.
                Waited::Check => match of.ended(&reader).await {
                    Some(ended) => return Some((Ok(last_words(&reader, &ended).into()), of)),
                    None => continue,
                },
                waited => break waited,
            }
        };
        match waited {
            Waited::News | Waited::Check => of.reader = Some(reader),
            Waited::Beat => {
                let work = tokio::task::spawn_blocking(move || {
                    let said = reader.beat();
                    (reader, said)
                });
                let (reader, said) = work.await.ok()?;
                (of.said, of.reader) = (Instant::now(), Some(reader));
                return Some((Ok(said.into()), of));
            }
        }
    }
}

fn last_words(reader: &Reader, ended: &Ended) -> String {
    if let Ended::Failed(Failure { inner: Some(inner), .. }) = ended {
        tracing::warn!(inner, "a tail ended early");
    }
    reader.end(ended)
}

enum Waited {
    News,
    Check,
    Beat,
}

impl Streaming {
    /// Whether it must end before more is said.
    async fn ended(&mut self, reader: &Reader) -> Option<Ended> {
        if *self.stopping.borrow() {
            return Some(Ended::Stopping);
        }
        if let Some(fault) = reader.fault() {
            return Some(Ended::Failed(fault));
        }
        if self.checked.elapsed() < CHECK_EVERY {
            return None;
        }
        let standing = caller::tenant(&self.app.access, Head::of(&self.head), Role::Query).await;
        self.checked = Instant::now();
        standing.err().map(Ended::Failed)
    }

    /// Waits until there may be more to say, or it is to be looked whether the tail must end.
    async fn wait(&mut self) -> Waited {
        let beat = self.said + self.heartbeat;
        let check = self.checked + CHECK_EVERY;
        let rung = select_all(self.bells.iter_mut().map(|bell| Box::pin(bell.changed())));
        tokio::select! {
            _ = rung => Waited::News,
            _ = self.stopping.wait_for(|stopping| *stopping) => Waited::Check,
            () = tokio::time::sleep_until(beat.min(check)) => {
                if Instant::now() >= beat { Waited::Beat } else { Waited::Check }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str, last_event_id: Option<&str>, query: &str) -> Result<Begin, Code> {
        let mut head = Request::builder().uri(uri);
        if let Some(id) = last_event_id {
            head = head.header(LAST_EVENT_ID, id);
        }
        let query = prism_dsl::parse_text(query).unwrap();
        beginning(&head.body(()).unwrap(), &query, 3_600_000).map_err(|failure| failure.code)
    }

    #[test]
    fn a_tail_begins_now_or_a_while_ago_or_where_another_stopped() {
        assert_eq!(asked("/v1/tail", None, "from logs"), Ok(Begin::Now));
        assert_eq!(asked("/v1/tail", Some(""), "from logs last 5m"), Ok(Begin::Last(300_000_000_000)));
        for bad in ["from logs last 2h", "from logs from t'2020-01-01T00:00:00Z' to t'2020-01-02T00:00:00Z'"] {
            assert_eq!(asked("/v1/tail", None, bad), Err(Code::BadRequest), "{bad}");
        }
        let query = prism_dsl::parse_text("from logs").unwrap();
        let cursor = |shown| TailCursor { at_unix_nanos: 7, shown, positions: Vec::new(), halfway: None, before: None };
        let (old, new) = (cursor(1).write(&query).unwrap(), cursor(2).write(&query).unwrap());
        let url = format!("/v1/tail?cursor={old}");
        assert_eq!(asked(&url, None, "from logs last 5m"), Ok(Begin::Cursor(Box::new(cursor(1)))));
        assert_eq!(
            asked(&url, Some(&new), "from logs"),
            Ok(Begin::Cursor(Box::new(cursor(2)))),
            "a browser came again"
        );
        assert_eq!(asked("/v1/tail?cursor=x", None, "from logs"), Err(Code::BadRequest));
        assert_eq!(asked("/v1/tail", Some("x"), "from logs"), Err(Code::BadRequest));
        assert_eq!(asked(&url, None, "from spans"), Err(Code::BadRequest), "another query's");
    }
}
