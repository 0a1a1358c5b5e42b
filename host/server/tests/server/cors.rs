//! Pages of other origins: none has leave unless the configuration names it.

use crate::harness::{Answer, PROTOBUF, Server, run};

const APP: (&str, &str) = ("origin", "https://app.example.com");
const EVIL: (&str, &str) = ("origin", "https://evil.example");

fn preflight(server: &Server, origin: (&str, &str)) -> Answer {
    let asked = [
        origin,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-encoding,x-api-key"),
    ];
    server.send("OPTIONS", "/v1/traces", &asked, Vec::new())
}

#[test]
fn pages_have_no_leave_by_default() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    assert_eq!(preflight(&server, APP).status, 405);
    let answer = server.send("POST", "/v1/traces", &[PROTOBUF, APP], Vec::new());
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{:?}", answer.headers);
}

#[test]
fn pages_of_named_origins_have_leave_and_no_other() {
    let data = tempfile::tempdir().expect("a folder");
    let config = data.path().join("prism.toml");
    let lines = "[http.cors]\nallowed_origins = ['https://app.example.com', 'https://*.example.org']\nmax_age_s = 60\n";
    std::fs::write(&config, lines).expect("writes");
    // Without --dev: a preflight shows no key, and the request behind it must.
    let server = Server::start(&data.path().join("data"), &["--config", &config.display().to_string()]);
    for origin in [APP, ("origin", "https://a.b.example.org")] {
        let leave = preflight(&server, origin);
        assert_eq!((leave.status, leave.body.len()), (204, 0));
        assert_eq!(leave.header("access-control-allow-origin"), origin.1);
        assert_eq!(leave.header("access-control-allow-methods"), "GET, POST");
        assert_eq!(
            leave.header("access-control-allow-headers"),
            "authorization, content-encoding, content-type, idempotency-key, last-event-id, x-api-key"
        );
        assert_eq!((leave.header("access-control-max-age"), leave.header("vary")), ("60", "origin"));
    }
    let none = preflight(&server, EVIL);
    assert_eq!((none.status, none.header("access-control-allow-origin")), (204, ""));
    assert_eq!((none.header("access-control-allow-headers"), none.header("vary")), ("", "origin"));

    let answer = server.send("POST", "/v1/traces", &[PROTOBUF, APP], Vec::new());
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (401, APP.1), "a page reads its refusal");
    assert!(answer.header("access-control-expose-headers").contains("prism-token"));
    assert_eq!(
        server.send("POST", "/v1/traces", &[PROTOBUF, EVIL], Vec::new()).header("access-control-allow-origin"),
        ""
    );
    assert_eq!(server.get("/health").header("vary"), "origin", "a cache keeps origins apart");
    for answer in [&answer, &none] {
        assert_eq!(answer.header("access-control-allow-credentials"), "", "never");
    }
    assert_eq!(server.send("OPTIONS", "/v1/traces", &[APP], Vec::new()).status, 405, "no preflight");
}

#[test]
fn origins_that_cannot_be_are_refused_at_the_start() {
    let data = tempfile::tempdir().expect("a folder");
    let config = data.path().join("prism.toml");
    for (bad, expected) in [("*", "would open this server to every page"), ("app.example.com", "SCHEME://NAME[:PORT]")]
    {
        std::fs::write(&config, format!("[http.cors]\nallowed_origins = ['{bad}']\n")).expect("writes");
        let (_, error, success) = run(data.path(), &["serve", "--config", &config.display().to_string()]);
        assert!(!success && error.contains("`http.cors.allowed_origins`") && error.contains(expected), "{error}");
    }
}
