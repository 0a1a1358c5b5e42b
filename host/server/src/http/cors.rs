//! Leave for pages of other origins, where the configuration names them: preflights, and headers on answers.
//!
//! A preflight shows no key and needs none: it tells only what is configured. Credentials (cookies) are never allowed, since
//! Prism has none: pages send a key in a header.
//!
//! Source: Fetch Standard, section 3.2 (CORS protocol).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};

use super::respond;
use crate::config::CorsSettings;

/// Methods of the paths that pages use.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
/// Headers of answers that pages may read, beside those that need no leave.
const EXPOSED: HeaderValue = HeaderValue::from_static("prism-partial, prism-token, retry-after");

/// Who has leave, ready to be looked up.
#[derive(Clone, Debug)]
pub(crate) struct Cors {
    origins: Vec<Allowed>,
    headers: HeaderValue,
    max_age: HeaderValue,
}

/// An origin that has leave, as browsers spell it: lower case, without the scheme's own port.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    /// This one.
    Exact(String),
    /// Every name below one: what is before it (`https://`) and what follows (`.example.com:8443`).
    Below(String, String),
}

impl Allowed {
    fn new(text: &str) -> Result<Allowed, String> {
        let refused = |expected: &str| Err(format!("`http.cors.allowed_origins`: expected {expected}, found `{text}`"));
        if text == "*" {
            return refused("each origin by name, because `*` would open this server to every page");
        }
        let (plain, below) = match text.split_once("://*.") {
            Some((scheme, rest)) => (format!("{scheme}://{rest}"), true),
            None => (text.to_owned(), false),
        };
        let parsed: Option<Uri> = plain.parse().ok();
        let parts = parsed.as_ref().and_then(|u| Some((u.scheme_str()?, u.host()?, u.port_u16())));
        let Some((scheme, host, port)) = parts.filter(|(scheme, ..)| ["http", "https"].contains(scheme)) else {
            return refused("SCHEME://NAME[:PORT] such as `https://app.example.com` or `https://*.example.com`");
        };
        let named = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if !plain.eq_ignore_ascii_case(&format!("{scheme}://{named}")) || host.contains('*') {
            return refused("SCHEME://NAME[:PORT] with nothing behind it, and with `*.` at most in front");
        }
        if below && !host.contains('.') {
            return refused("a name with a point behind `*.`, because whole top-level domains have many owners");
        }
        let host = host.to_ascii_lowercase();
        let own = if scheme == "https" { 443 } else { 80 };
        let port = port.filter(|p| *p != own).map_or_else(String::new, |p| format!(":{p}"));
        Ok(if below {
            Allowed::Below(format!("{scheme}://"), format!(".{host}{port}"))
        } else {
            Allowed::Exact(format!("{scheme}://{host}{port}"))
        })
    }

    fn has(&self, origin: &str) -> bool {
        match self {
            Allowed::Exact(exact) => exact == origin,
            Allowed::Below(scheme, rest) => {
                let name = origin.strip_prefix(scheme.as_str()).and_then(|o| o.strip_suffix(rest.as_str()));
                // Names only: no second scheme, user or port may stand where the wildcard is.
                let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
                name.is_some_and(|name| !name.is_empty() && name.bytes().all(letters))
            }
        }
    }
}

impl Cors {
    /// Leave as configured; `None` where no origin has any.
    ///
    /// # Errors
    /// The setting and what was expected.
    pub(crate) fn new(settings: &CorsSettings) -> Result<Option<Cors>, String> {
        let origins: Vec<Allowed> =
            settings.allowed_origins.iter().map(|text| Allowed::new(text)).collect::<Result<_, _>>()?;
        for name in &settings.allowed_headers {
            if name == "*" || HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(format!("`http.cors.allowed_headers`: expected names of headers, found `{name}`"));
            }
        }
        let headers = HeaderValue::from_str(&settings.allowed_headers.join(", ").to_ascii_lowercase())
            .map_err(|_| "`http.cors.allowed_headers`: expected names of headers".to_owned())?;
        let cors = Cors { origins, headers, max_age: HeaderValue::from(settings.max_age_s) };
        Ok((!cors.origins.is_empty()).then_some(cors))
    }

    /// The request's origin, where it has leave.
    fn leave(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let text = origin.to_str().ok()?;
        self.origins.iter().any(|allowed| allowed.has(text)).then(|| origin.clone())
    }
}

/// The middleware. Answers preflights itself.
pub(super) async fn cors(State(cors): State<Arc<Cors>>, request: Request<Body>, next: Next) -> Response {
    let leave = cors.leave(request.headers());
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight {
        let mut response = respond::ok("text/plain; charset=utf-8", Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().remove(header::CONTENT_TYPE);
        response
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    // Also where there is no leave: a cache must not show one origin's answer to another.
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = leave {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, cors.max_age.clone());
        } else {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(origins: &[&str]) -> Result<Option<Cors>, String> {
        let allowed_origins = origins.iter().map(|o| (*o).to_owned()).collect();
        Cors::new(&CorsSettings { allowed_origins, ..CorsSettings::default() })
    }

    #[test]
    fn origins_are_those_that_are_named_and_no_other() {
        let cors = with(&["https://App.example.com", "http://localhost:3000", "https://*.example.org:443"]);
        let cors = cors.unwrap().unwrap();
        let has = |origin: &str| {
            let headers = HeaderMap::from_iter([(header::ORIGIN, origin.parse().unwrap())]);
            cors.leave(&headers).is_some()
        };
        for yes in
            ["https://app.example.com", "http://localhost:3000", "https://a.example.org", "https://a.b.example.org"]
        {
            assert!(has(yes), "{yes}");
        }
        for no in [
            "null",
            "",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.example",
            "https://evil-app.example.com",
            "http://localhost",
            "https://example.org",
            "https://.example.org",
            "https://evilexample.org",
            "https://evil.example/.example.org",
            "https://evil.example:1.example.org",
            "https://user@x.example.org",
        ] {
            assert!(!has(no), "{no}");
        }
    }

    #[test]
    fn what_cannot_be_an_origin_is_refused_at_the_start() {
        assert!(with(&[]).unwrap().is_none(), "off by default");
        for bad in [
            "*",
            "example.com",
            "https://",
            "https://a.example/path",
            "https://a.example/",
            "ftp://a.example",
            "null",
            "https://*",
            "https://*.com",
            "https://a.*.example",
            "https://*.*.example.com",
            "https://a@b.example",
            "https://a.example:x",
        ] {
            let error = with(&[bad]).unwrap_err();
            assert!(
                error.starts_with("`http.cors.allowed_origins`: expected ") && error.ends_with(&format!("`{bad}`")),
                "{error}"
            );
        }
        for bad in ["*", "a b", ""] {
            let settings = CorsSettings { allowed_headers: vec![bad.to_owned()], ..CorsSettings::default() };
            assert!(Cors::new(&settings).unwrap_err().starts_with("`http.cors.allowed_headers`"), "{bad}");
        }
    }
}
