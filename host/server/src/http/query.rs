//! Questions: `/v1/query`, `/v1/traces/{id}`, `/v1/fields`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, Request, header};
use prism_dsl::{Query, Range};
use prism_model::{Signal, TenantId};
use prism_query::RunOptions;

use super::body::{self, BodyLimits};
use super::caller::{self, Head};
use super::respond;
use crate::access::Role;
use crate::app::{App, Form};
use crate::error::{Code, Failure, within};

/// `POST /v1/query`: a JSON document or the text form, told apart by the first letter, since no text form begins with `{`.
/// So `curl -d` works without a header.
pub(super) async fn post(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    asked(&app, request, false).await
}

/// `POST /v1/query/explain`: what the same body would do at `/v1/query`. No row is read.
pub(super) async fn explain(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    asked(&app, request, true).await
}

async fn asked(app: &Arc<App>, request: Request<Body>, dry_run: bool) -> Response {
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
        let mut query = parse(&held.bytes)?;
        query.dry_run |= dry_run;
        run(app, &tenant, query, options(head.uri().query())?, head.headers()).await
    };
    settle(app, answered.await)
}

/// `GET /v1/query?q=`: the text form in the URL.
pub(super) async fn get(State(app): State<Arc<App>>, RawQuery(raw): RawQuery, request: Request<Body>) -> Response {
    let (head, _) = request.into_parts();
    let head = Request::from_parts(head, ());
    let answered = async {
        let tenant = caller::tenant(&app.access, Head::of(&head), Role::Query).await?;
        let text = parameter(raw.as_deref(), "q")?;
        let text = text.ok_or_else(|| Failure::new(Code::BadRequest, "expected the query as `?q=`"))?;
        run(&app, &tenant, parse(text.as_bytes())?, options(raw.as_deref())?, head.headers()).await
    };
    settle(&app, answered.await)
}

/// `GET /v1/traces/{id}`: OTLP/JSON, or with `?format=rows` columns, with each span's own time and its part of the critical path.
pub(super) async fn trace(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
    request: Request<Body>,
) -> Response {
    let (head, _) = request.into_parts();
    let head = Request::from_parts(head, ());
    let answered = async {
        let tenant = caller::tenant(&app.access, Head::of(&head), Role::Query).await?;
        let trace_id = trace_id(&id)?;
        app.wait_for(&tenant, head.headers().get(respond::TOKEN)).await?;
        match parameter(raw.as_deref(), "format")?.as_deref() {
            None | Some("otlp") => {
                let (bytes, missing) = app.trace(&tenant, trace_id).await?;
                let mut response = respond::ok("application/json", bytes);
                respond::partial(&mut response, &missing);
                Ok(response)
            }
            Some("rows") => {
                let id = hex::encode(trace_id);
                let text =
                    format!("{ALL_OF_TIME} where trace_id = '{id}' select {TRACE_COLUMNS} order time limit 10000");
                run(&app, &tenant, parse(text.as_bytes())?, RunOptions::default(), head.headers()).await
            }
            Some(other) => {
                Err(Failure::new(Code::BadRequest, format!("`format`: expected `otlp` or `rows`, found `{other}`")))
            }
        }
    };
    settle(&app, Box::pin(answered).await)
}

/// `GET /v1/fields?last=1h&signal=spans`: names for completion.
pub(super) async fn fields(State(app): State<Arc<App>>, RawQuery(raw): RawQuery, request: Request<Body>) -> Response {
    let (head, _) = request.into_parts();
    let head = Request::from_parts(head, ());
    let answered = async {
        let tenant = caller::tenant(&app.access, Head::of(&head), Role::Query).await?;
        let signal = parameter(raw.as_deref(), "signal")?.map(|text| signal(&text)).transpose()?;
        let bytes = app.fields(&tenant, &range(raw.as_deref())?, signal).await?;
        Ok(respond::ok("application/json", bytes))
    };
    settle(&app, answered.await)
}

/// `GET /v1/fields/{name}/values?last=1h&signal=spans&limit=20`: values for completion, most frequent first.
pub(super) async fn values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    RawQuery(raw): RawQuery,
    request: Request<Body>,
) -> Response {
    let (head, _) = request.into_parts();
    let head = Request::from_parts(head, ());
    let answered = async {
        let tenant = caller::tenant(&app.access, Head::of(&head), Role::Query).await?;
        let signal = parameter(raw.as_deref(), "signal")?.map_or(Ok(Signal::Spans), |text| signal(&text))?;
        let limit = parameter(raw.as_deref(), "limit")?.map_or(Ok(VALUES_DEFAULT), |text| limit(&text))?;
        let bytes = app.values(&tenant, signal, &field(&name), &range(raw.as_deref())?, limit).await?;
        Ok(respond::ok("application/json", bytes))
    };
    settle(&app, answered.await)
}

/// Values that a list for completion shows, where the asker does not say.
const VALUES_DEFAULT: u64 = 20;
/// Values at most.
const VALUES_MAX: u64 = 1_000;
/// Range of names and values, where the asker does not say.
const FIELDS_LAST: &str = "1h";

/// A name as an expression: in backticks where it has letters that a bare name has not, unless the asker has put them.
fn field(name: &str) -> String {
    let bare = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
    if bare || name.contains('`') { name.to_owned() } else { format!("`{name}`") }
}

fn signal(text: &str) -> Result<Signal, Failure> {
    text.parse().map_err(|error: prism_model::signal::UnknownSignal| Failure::new(Code::BadRequest, error.to_string()))
}

fn limit(text: &str) -> Result<u64, Failure> {
    match text.parse() {
        Ok(n @ 1..=VALUES_MAX) => Ok(n),
        _ => Err(Failure::new(
            Code::BadRequest,
            format!("`limit`: expected 1 to {VALUES_MAX}, found `{}`", within(text, 40)),
        )),
    }
}

/// `last=1h`, or `from=` and `to=` in RFC 3339, in the words of the language.
fn range(raw: Option<&str>) -> Result<Range, Failure> {
    let of = |name| parameter(raw, name);
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b":.+-".contains(&b));
    let text = match (of("last")?, of("from")?, of("to")?) {
        (Some(last), None, None) if plain(&last) => format!("last {last}"),
        (None, Some(from), Some(to)) if plain(&from) && plain(&to) => format!("from t'{from}' to t'{to}'"),
        (None, None, None) => format!("last {FIELDS_LAST}"),
        _ => {
            let message = "expected the range as `last=1h`, or as `from=` and `to=` with RFC 3339 times";
            return Err(Failure::new(Code::BadRequest, message));
        }
    };
    let query = prism_dsl::parse_text(&format!("from spans {text}")).map_err(|error| Failure::of_language(&error))?;
    query.range.ok_or_else(|| Failure::new(Code::BadRequest, "expected a range"))
}

/// The range of a question by id. Years that fit unix nanoseconds.
const ALL_OF_TIME: &str = "from spans from t'1678-01-01T00:00:00Z' to t'2262-01-01T00:00:00Z'";
/// What `?format=rows` shows of each span.
const TRACE_COLUMNS: &str = "time, service.name, name, kind, duration, self_duration, critical_duration, status, trace_id, \
    span_id, parent_id";
/// One more than the language takes, so that its own error is answered.
pub(super) const QUERY_BYTES_MAX: usize = prism_dsl::MAX_BYTES + 1;

pub(super) fn parse(bytes: &[u8]) -> Result<Query, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|_| Failure::new(Code::BadRequest, "expected the query in UTF-8"))?;
    let parsed =
        if text.trim_start().starts_with('{') { prism_dsl::parse_json(bytes) } else { prism_dsl::parse_text(text) };
    parsed.map_err(|error| Failure::of_language(&error))
}

/// `strict=true`: a field that no row in the range has is an error instead of a warning.
fn options(raw: Option<&str>) -> Result<RunOptions, Failure> {
    let strict = match parameter(raw, "strict")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            let message = format!("`strict`: expected `true` or `false`, found `{}`", within(other, 40));
            return Err(Failure::new(Code::BadRequest, message));
        }
    };
    Ok(RunOptions { strict, ..RunOptions::default() })
}

async fn run(
    app: &Arc<App>,
    tenant: &TenantId,
    query: Query,
    options: RunOptions,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let form = form(headers);
    app.wait_for(tenant, headers.get(respond::TOKEN)).await?;
    let bytes = app.query(tenant, &query, options, form).await?;
    Ok(respond::ok(form.media_type(), bytes))
}

/// The form of the answer by `Accept`; JSON where nothing that is known is asked for.
fn form(headers: &HeaderMap) -> Form {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let asked = accept.split(',').filter_map(|part| part.split(';').next());
    asked.filter_map(|media_type| Form::of(media_type.trim())).next().unwrap_or(Form::Json)
}

pub(super) fn settle(app: &App, answered: Result<Response, Failure>) -> Response {
    answered.unwrap_or_else(|failure| respond::json(&failure, app.config.http.message_bytes_max))
}

fn trace_id(text: &str) -> Result<[u8; 16], Failure> {
    let mut id = [0; 16];
    match hex::decode_to_slice(text, &mut id) {
        Ok(()) if id != [0; 16] => Ok(id),
        _ => {
            let found: String = text.chars().take(80).collect();
            let message = format!("expected a trace id of 32 hexadecimal digits, not all 0, found `{found}`");
            Err(Failure::new(Code::BadRequest, message))
        }
    }
}

/// A parameter of the URL, decoded as forms are.
pub(super) fn parameter(raw: Option<&str>, name: &str) -> Result<Option<String>, Failure> {
    let pairs = raw.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    let value = found.next();
    if found.next().is_some() {
        return Err(Failure::new(Code::BadRequest, format!("expected one `{name}`, found several")));
    }
    value.map(decode).transpose()
}

fn decode(text: &str) -> Result<String, Failure> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    let broken = || Failure::new(Code::BadRequest, "expected percent-encoded UTF-8 in the URL");
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).ok_or_else(broken);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                bytes.push(u8::try_from(high * 16 + low).map_err(|_| broken())?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_as_forms_are() {
        let check = |raw: &str| parameter(Some(raw), "q").map_err(|f| f.message.into_owned());
        assert_eq!(check("q=from+spans%20where%20x%3D'%C3%BC'&y=1"), Ok(Some("from spans where x='ü'".into())));
        assert_eq!(check("p=1"), Ok(None));
        assert!(
            check("q=1&q=2").is_err() && check("q=%4").is_err() && check("q=%ff").is_err() && check("q=%zz").is_err()
        );
    }

    #[test]
    fn strictness_is_asked_for_in_the_url() {
        let strict = |raw| options(raw).map(|options| options.strict).map_err(|failure| failure.code);
        assert_eq!((strict(None), strict(Some("q=x&strict=true"))), (Ok(false), Ok(true)));
        assert_eq!((strict(Some("strict=false")), strict(Some("strict=yes"))), (Ok(false), Err(Code::BadRequest)));
    }

    #[test]
    fn trace_ids_are_32_digits() {
        assert!(trace_id("0AF7651916cd43dd8448eb211c80319c").is_ok());
        for bad in ["", "0af7", "00000000000000000000000000000000", "zaf7651916cd43dd8448eb211c80319c", "ü"] {
            assert_eq!(trace_id(bad).unwrap_err().code, Code::BadRequest, "{bad}");
        }
    }

    #[test]
    fn ranges_are_those_of_the_language() {
        assert_eq!(range(None).unwrap(), Range::Last(3_600_000_000_000));
        assert_eq!(range(Some("last=5m")).unwrap(), Range::Last(300_000_000_000));
        let between = range(Some("from=1970-01-01T00:00:00Z&to=1970-01-01T00:00:01Z")).unwrap();
        assert_eq!(between, Range::Between { from: 0, to: 1_000_000_000 });
        for bad in ["last=x", "last=1h+where+a", "last=1h&from=2020-01-01T00:00:00Z", "from=1'2", "last="] {
            assert_eq!(range(Some(bad)).unwrap_err().code, Code::BadRequest, "{bad}");
        }
    }

    #[test]
    fn odd_names_are_quoted() {
        assert_eq!([field("http.route"), field("a b"), field("attr.`a b`")].join(" "), "http.route `a b` attr.`a b`");
    }

    #[test]
    fn the_form_is_what_is_asked_for() {
        let of = |accept: &str| form(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]));
        assert_eq!(of("*/*"), Form::Json);
        assert_eq!(of("application/x-ndjson"), Form::Ndjson);
        assert_eq!(of("text/html, application/vnd.apache.arrow.stream;q=0.9"), Form::Arrow);
    }
}
