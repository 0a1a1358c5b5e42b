//! Who sends a request, found out before its body is read.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header};
use prism_model::TenantId;

use super::connections::Peer;
use crate::access::{Access, Holder, Key, Role, Roles};
use crate::error::{Code, Failure};

/// Tenant of a server that was started with `--dev`.
pub(crate) const DEV_TENANT: &str = "default";

/// What is known of a request before its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'r> {
    /// The headers.
    pub(crate) headers: &'r HeaderMap,
    /// The target; over HTTP/2 it holds the authority.
    pub(crate) uri: &'r Uri,
    /// The other end of the connection.
    pub(crate) peer: Peer,
}

impl<'r> Head<'r> {
    /// Of a request. Every request has a peer; one without would count as coming from elsewhere.
    pub(crate) fn of<B>(request: &'r http::Request<B>) -> Head<'r> {
        let unknown = Peer(([0, 0, 0, 0], 0).into());
        let peer = request.extensions().get::<Peer>().copied().unwrap_or(unknown);
        Head { headers: request.headers(), uri: request.uri(), peer }
    }

    /// Whether a process of this machine sent it, and for itself: no proxy in between, and addressed to this machine by a
    /// name of its own, so that no web page can reach in by a name that it made resolve to 127.0.0.1.
    pub(crate) fn is_local(&self) -> bool {
        let forwarded =
            ["forwarded", "x-forwarded-for", "x-real-ip"].iter().any(|name| self.headers.contains_key(*name));
        let host = self.uri.authority().map(|a| a.as_str()).or_else(|| self.headers.get(header::HOST)?.to_str().ok());
        self.peer.0.ip().to_canonical().is_loopback() && !forwarded && host.is_none_or(is_loopback_name)
    }
}

fn is_loopback_name(host: &str) -> bool {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = without_port.trim_start_matches('[').trim_end_matches(']');
    name.parse::<IpAddr>().map_or_else(
        |_| name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
        |ip| ip.to_canonical().is_loopback(),
    )
}

/// The key that a request shows.
///
/// # Errors
/// [`Code::Unauthenticated`] where something is shown that is no key.
fn shown(headers: &HeaderMap) -> Result<Option<Key>, Failure> {
    let bearer = headers.get(header::AUTHORIZATION).map(|value| {
        let text = value.to_str().unwrap_or_default();
        text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim())
    });
    let api_key = headers.get("x-api-key").map(|value| value.to_str().unwrap_or_default().trim());
    // Another scheme beside `x-api-key` belongs to a proxy on the way.
    let Some(text) = bearer.flatten().or(api_key) else {
        return if bearer.is_some() { Err(invalid()) } else { Ok(None) };
    };
    Key::parse(text).map(Some).ok_or_else(invalid)
}

fn invalid() -> Failure {
    Failure::new(Code::Unauthenticated, "the key is not valid").hint("create one with `prism key create`")
}

/// The tenant whose data a request may use in `role`.
///
/// # Errors
/// [`Code::Unauthenticated`] without a valid key, [`Code::Forbidden`] with a key of another role, [`Code::Unavailable`]
/// where keys cannot be read.
pub(crate) async fn tenant(access: &Access, head: Head<'_>, role: Role) -> Result<TenantId, Failure> {
    match holder(access, head).await? {
        Holder::Tenant { name, roles } if roles.has(role) => Ok(name),
        Holder::Tenant { roles, .. } => {
            let message = format!("expected a key with the role `{}`, found one with `{roles}`", role.as_str());
            Err(Failure::new(Code::Forbidden, message))
        }
        Holder::Operator => {
            let message = format!("expected a tenant's key with the role `{}`, found an operator's", role.as_str());
            Err(Failure::new(Code::Forbidden, message).hint("operators reach no tenant's data"))
        }
    }
}

/// Whether a request may see what concerns the whole node: from this machine, or with an operator's key.
///
/// # Errors
/// As [`tenant`].
pub(crate) async fn operator(access: &Access, head: Head<'_>) -> Result<(), Failure> {
    let Some(key) = shown(head.headers)? else {
        if head.is_local() {
            return Ok(());
        }
        return Err(Failure::new(
            Code::Unauthenticated,
            "expected an operator's key in `Authorization: Bearer` or `x-api-key`",
        ));
    };
    match access.holder(&key).await?.ok_or_else(invalid)? {
        Holder::Operator => Ok(()),
        Holder::Tenant { .. } => Err(Failure::new(Code::Forbidden, "expected an operator's key, found a tenant's")),
    }
}

async fn holder(access: &Access, head: Head<'_>) -> Result<Holder, Failure> {
    if let Some(key) = shown(head.headers)? {
        return access.holder(&key).await?.ok_or_else(invalid);
    }
    let missing = Failure::new(Code::Unauthenticated, "expected a key in `Authorization: Bearer` or `x-api-key`");
    if !access.dev() {
        return Err(missing);
    }
    match DEV_TENANT.parse() {
        Ok(name) if head.is_local() => Ok(Holder::Tenant { name, roles: Roles::all() }),
        _ => Err(missing.hint("--dev needs no key only for requests that come directly from the same machine")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn local(peer: &str, host: Option<&str>, extra: Option<(&str, &str)>) -> bool {
        let mut request = Request::builder().uri("/v1/query");
        if let Some(host) = host {
            request = request.header("host", host);
        }
        if let Some((name, value)) = extra {
            request = request.header(name, value);
        }
        let mut request = request.body(()).unwrap();
        request.extensions_mut().insert(Peer(peer.parse().unwrap()));
        Head::of(&request).is_local()
    }

    #[test]
    fn only_this_machine_is_local() {
        for host in ["127.0.0.1:4318", "localhost", "LOCALHOST:1", "[::1]:4318", "app.localhost:4318"] {
            assert!(local("127.0.0.1:5000", Some(host), None), "{host}");
        }
        assert!(local("[::1]:5000", None, None) && local("[::ffff:127.0.0.1]:5000", None, None));
        assert!(!local("10.0.0.5:5000", Some("localhost"), None));
        // A name that an attacker's DNS points at 127.0.0.1.
        assert!(!local("127.0.0.1:5000", Some("evil.example:4318"), None));
        assert!(!local("127.0.0.1:5000", Some("localhost"), Some(("x-forwarded-for", "1.2.3.4"))));
        let without_peer = Request::builder().uri("/").body(()).unwrap();
        assert!(!Head::of(&without_peer).is_local());
    }

    #[test]
    fn keys_are_found_in_both_headers() {
        let text = format!("prism_{}_{}", "a".repeat(10), "b".repeat(43));
        let check = |headers: &[(&'static str, String)]| {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
                .collect();
            shown(&headers).map(|key| key.map(|k| k.reveal().to_owned())).map_err(|f| f.code)
        };
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&[("authorization", format!("bearer  {text}"))]), Ok(Some(text.clone())));
        assert_eq!(check(&[("x-api-key", text.clone())]), Ok(Some(text.clone())));
        assert_eq!(check(&[("authorization", "Basic eDp5".into()), ("x-api-key", text.clone())]), Ok(Some(text)));
        assert_eq!(check(&[("authorization", "Basic eDp5".into())]), Err(Code::Unauthenticated));
        assert_eq!(check(&[("x-api-key", "prism_x".into())]), Err(Code::Unauthenticated));
    }
}
