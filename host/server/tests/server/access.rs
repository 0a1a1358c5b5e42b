//! Who may do what: every key on every path; keys that come and go while the server runs.

use prost::Message as _;

use crate::harness::{PROTOBUF, Server, key, must, prism, run, spans, trace_id, until};

#[test]
fn every_key_opens_exactly_its_doors() {
    let data = tempfile::tempdir().expect("a folder");
    for tenant in ["shop", "bank"] {
        must(data.path(), &["tenant", "create", tenant]);
    }
    let of = |roles: &str| key(data.path(), "shop", roles);
    let (ingest, query, admin, both) = (of("ingest"), of("query"), of("admin"), of("ingest,query"));
    let operator = must(data.path(), &["key", "create", "--operator"]).trim().to_owned();
    // Keys are random: one may end with any letter.
    let other = if ingest.ends_with('x') { 'y' } else { 'x' };
    let wrong = format!("{}{other}", &ingest[..ingest.len() - 1]);
    let server = Server::start(data.path(), &[]);
    let paths: [(&str, &str); 6] = [
        ("POST", "/v1/traces"),
        ("POST", "/v1/logs"),
        ("POST", "/v1/query"),
        ("GET", "/v1/traces/00000000000000010000000000000001"),
        ("GET", "/v1/fields"),
        ("GET", "/metrics"),
    ];
    // 404: let in, and there is no such trace.
    let matrix: [(&str, Option<&str>, [u16; 6]); 7] = [
        // /metrics is open to this machine.
        ("no key", None, [401, 401, 401, 401, 401, 200]),
        ("wrong", Some(&wrong), [401, 401, 401, 401, 401, 401]),
        ("ingest", Some(&ingest), [200, 200, 403, 403, 403, 403]),
        ("query", Some(&query), [403, 403, 200, 404, 200, 403]),
        ("admin", Some(&admin), [403, 403, 403, 403, 403, 403]),
        ("both", Some(&both), [200, 200, 200, 404, 200, 403]),
        ("operator", Some(&operator), [403, 403, 403, 403, 403, 200]),
    ];
    for (name, key, statuses) in matrix {
        for ((method, path), status) in paths.iter().zip(statuses) {
            let body = if *path == "/v1/query" { b"from spans last 1h".to_vec() } else { Vec::new() };
            for header in ["authorization", "x-api-key"] {
                let value =
                    key.map(|key| if header == "authorization" { format!("Bearer {key}") } else { key.to_owned() });
                let headers: Vec<(&str, &str)> = value.iter().map(|v| (header, v.as_str())).chain([PROTOBUF]).collect();
                let answer = server.send(method, path, &headers, body.clone());
                assert_eq!(answer.status, status, "{name} {header} {method} {path}: {}", answer.text());
                assert!(!answer.text().contains("bank"), "{name} {path}: names another tenant");
                assert_eq!(answer.status == 401, !answer.header("www-authenticate").is_empty());
            }
        }
        for path in ["/health", "/ready"] {
            assert_eq!(server.get(path).status, 200);
        }
    }
    // From elsewhere, by the word of a proxy, /metrics needs a key.
    assert_eq!(server.send("GET", "/metrics", &[("x-forwarded-for", "203.0.113.7")], Vec::new()).status, 401);
}

#[test]
fn qu_1_a_tenant_sees_its_own_rows_only() {
    let data = tempfile::tempdir().expect("a folder");
    let keys = ["shop", "bank"].map(|tenant| {
        must(data.path(), &["tenant", "create", tenant]);
        key(data.path(), tenant, "ingest,query")
    });
    let server = Server::start(data.path(), &[]);
    let token = |i: usize| {
        let headers = [PROTOBUF, ("x-api-key", keys[i].as_str())];
        let answer = server.send("POST", "/v1/traces", &headers, spans(i as u64 + 1, i as u64 + 2).encode_to_vec());
        assert_eq!(answer.status, 200);
        answer.header("prism-token").to_owned()
    };
    let tokens = [token(0), token(1)];
    for (i, (own, other)) in [(0, 1), (1, 0)].into_iter().enumerate() {
        let ask = |path: &str| server.send("GET", path, &[("x-api-key", &keys[own])], Vec::new());
        assert_eq!(ask("/v1/query?q=from+spans+last+1h+select+count()+as+n").cell(), i as u64 + 2);
        assert_eq!(ask(&format!("/v1/traces/{}", trace_id(own as u64 + 1))).status, 200);
        assert_eq!(
            ask(&format!("/v1/traces/{}", trace_id(other as u64 + 1))).status,
            404,
            "another's trace is not there"
        );
    }
    let headers = [("x-api-key", keys[0].as_str()), ("prism-token", tokens[1].as_str())];
    let foreign = server.send("POST", "/v1/query", &headers, b"from spans last 1h".to_vec());
    assert_eq!(foreign.status, 503, "another's token names nothing here");
}

#[test]
fn keys_come_and_go_while_the_server_runs() {
    let data = tempfile::tempdir().expect("a folder");
    must(data.path(), &["tenant", "create", "shop"]);
    let server = Server::start(data.path(), &[]);
    let status =
        |key: &str| server.send("POST", "/v1/query", &[("x-api-key", key)], b"from spans last 1h".to_vec()).status;
    assert_eq!(status("prism_0000000000_0000000000000000000000000000000000000000000"), 401);
    let new = key(data.path(), "shop", "query");
    assert!(must(data.path(), &["key", "list"]).contains("never"), "not used yet");
    until("a new key works", || status(&new) == 200);
    until("its use is shown", || !must(data.path(), &["key", "list"]).contains("never"));
    assert_eq!(must(data.path(), &["key", "list"]).matches(&new[6..16]).count(), 1);
    assert!(!must(data.path(), &["key", "list"]).contains(&new[17..]), "a list shows no secret");
    must(data.path(), &["key", "revoke", &new[6..16]]);
    until("a revoked key no longer works", || status(&new) == 401);
}

#[test]
fn dev_needs_no_key_from_this_machine_only() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::dev(data.path());
    let ask =
        |headers: &[(&str, &str)]| server.send("POST", "/v1/query", headers, b"from spans last 1h".to_vec()).status;
    assert_eq!(ask(&[]), 200);
    assert_eq!(ask(&[("x-api-key", "no key")]), 401, "a key that is shown is checked");
    assert_eq!(ask(&[("x-forwarded-for", "203.0.113.7")]), 401);
    assert_eq!(ask(&[("host", "rebound.example")]), 401, "a name that a page made resolve to this machine");
    assert!(must(data.path(), &["tenant", "list"]).contains("default"));
}

#[test]
fn misspelt_commands_change_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let check = |args: &[&str], expected: &str| {
        let (_, error, success) = run(data.path(), args);
        assert!(!success && error.contains(expected), "{args:?}: {error}");
    };
    check(&["key", "create", "--tenant", "shop", "--role", "query"], "there is no tenant `shop`");
    check(&["plugin", "bind", "--tenant", "shop", "redact-pii"], "there is no tenant `shop`");
    check(&["key", "revoke", "nothing"], "there is no key `nothing`");
    must(data.path(), &["tenant", "create", "shop"]);
    check(&["tenant", "create", "shop"], "tenant `shop` exists already");
    check(&["plugin", "bind", "--tenant", "shop", "no-such-plugin"], "no-such-plugin");
    check(&["plugin", "unbind", "--tenant", "shop", "none"], "`none`");
    let file = data.path().join("text.wasm");
    std::fs::write(&file, b"no component").expect("writes");
    check(&["plugin", "bind", "--tenant", "shop", &file.display().to_string()], "refused");
    let output = prism(data.path()).env("PRISM_HTTP_ADRR", "x").arg("doctor").output().expect("runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("did you mean `PRISM_HTTP_ADDR`?"), "{error}");
}

#[test]
fn a_key_that_is_revoked_by_another_process_ends_on_every_server_of_the_folder() {
    let data = tempfile::tempdir().expect("a folder");
    must(data.path(), &["tenant", "create", "shop"]);
    let key = key(data.path(), "shop", "query");
    let servers = [Server::start(data.path(), &[]), Server::start(data.path(), &[])];
    let ask = |server: &Server| {
        server.send("POST", "/v1/query", &[("x-api-key", &key)], b"from spans last 1h".to_vec()).status
    };
    for server in &servers {
        assert_eq!(ask(server), 200);
    }
    must(data.path(), &["key", "revoke", &key]);
    for server in &servers {
        until("a revoked key is refused", || ask(server) == 401);
    }
}

#[test]
fn keys_end_and_hand_over_without_a_gap() {
    let data = tempfile::tempdir().expect("a folder");
    must(data.path(), &["tenant", "create", "shop"]);
    let server = Server::start(data.path(), &[]);
    let ask = |key: &str| server.send("POST", "/v1/query", &[("x-api-key", key)], b"from spans last 1h".to_vec());
    let brief = must(data.path(), &["key", "create", "--tenant", "shop", "--role", "query", "--expires", "1s"]);
    until("a key that ended is told so", || ask(brief.trim()).json()["error"]["message"] == "the key has expired");

    let old = key(data.path(), "shop", "query");
    let new = must(data.path(), &["key", "rotate", &old[6..16], "--grace", "1h", "--expires", "90d"]);
    assert_eq!((ask(&old).status, ask(new.trim()).status), (200, 200), "both work");
    let last = must(data.path(), &["key", "rotate", new.trim(), "--grace", "0s", "--expires", "90d"]);
    until("a key without grace ends", || ask(new.trim()).status == 401);
    assert_eq!((ask(&old).status, ask(last.trim()).status), (200, 200));
    let list = must(data.path(), &["key", "list", "--tenant", "shop"]);
    assert_eq!(list.matches("(has ended)").count(), 2, "{list}");

    let check = |args: &[&str], expected: &str| {
        let (_, error, success) = run(data.path(), args);
        assert!(!success && error.contains(expected), "{args:?}: {error}");
    };
    check(&["key", "rotate", "nothing"], "there is no key `nothing`");
    check(&["key", "rotate", last.trim()], "--expires");
    let past = "2001-01-01T00:00:00Z";
    check(&["key", "create", "--operator", "--expires", past], "expected an end that is to come");
    check(&["key", "create", "--operator", "--expires", "soon"], "such as `90d`");
}
