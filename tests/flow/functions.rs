//! Plugins in queries, in the real process: bound by the command line, called over HTTP, failing alone, taken away again.

use opentelemetry_proto::tonic::trace::v1::Span;
use prism_tests::{Server, cli, otlp};
use prost::Message as _;

fn spans() -> Vec<u8> {
    let span = |id: u64| Span {
        end_time_unix_nano: otlp::now() + id * 100_000_000,
        start_time_unix_nano: otlp::now(),
        ..otlp::span(id, "GET", vec![otlp::text("url.path", &format!("/users/{id}"))])
    };
    otlp::traces("shop", (1..=8).map(span).collect()).encode_to_vec()
}

#[test]
fn functions_are_bound_called_and_taken_away_while_the_server_runs() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path()).expect("starts");
    assert_eq!(server.send("traces", spans()).expect("an answer").status, 200);
    let text = "from spans last 1h by plugin.url_template(url.path) as path \
                select plugin.apdex(duration, 200ms) as apdex, count() as n";
    let ask = |text: &str| server.post("/v1/query", &[], text.as_bytes().to_vec()).expect("an answer");
    let refused = ask(text);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "query_unknown_plugin", "{}", refused.text());
    assert!(refused.text().contains("prism plugin bind"), "{}", refused.text());

    let bind = |args: &[&str]| cli(data.path(), &[&["plugin", "bind", "--tenant", "default"], args].concat());
    let told = bind(&["apdex"]).expect("binds");
    assert!(told.contains("`plugin.apdex(number, number) -> number`"), "{told}");
    bind(&["url-template"]).expect("binds");
    let wrong = bind(&["apdex", "--name", "other", "--config", r#"{"tolerated": 0}"#]).expect_err("refused");
    assert!(wrong.to_string().contains("/tolerated"), "{wrong}");
    server
        .until("the functions are known", |server| Ok(server.post("/v1/query", &[], text.into())?.status == 200))
        .expect("known");

    let answer = ask(text).json();
    // 200ms whole, 800ms half: of 8 spans 2 and 6.
    assert_eq!(answer["rows"], serde_json::json!([["/users/{n}", 0.625, 8]]), "{answer}");
    assert!(answer["stats"]["plugin_ns"].as_u64() > Some(0) && answer["stats"]["plugin_calls"].as_u64() > Some(0));
    let tree = r#"{"from": "spans", "range": {"last": "1h"}, "select":
        {"apdex": {"plugin.apdex": [{"field": "duration"}, {"duration": "200ms"}]}}}"#;
    assert_eq!(ask(tree).json()["rows"], serde_json::json!([[0.625]]));
    let shown = cli(data.path(), &["query", "--url", server.url(), text]).expect("answers");
    assert!(shown.contains("/users/{n}") && shown.contains("0.625") && shown.contains("plugins "), "{shown}");

    let metrics = server.get("/metrics").expect("an answer").text();
    let calls =
        metrics.lines().find_map(|line| line.strip_prefix("prism_query_plugin_calls_total ")).expect("is counted");
    assert!(calls.parse::<f64>().expect("a number") > 0.0, "{calls}");

    // A guest that traps fails its own query, and no batch.
    let guest = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/plugin/tests/guests/hostile-scalar");
    let component = prism_componentize::build_guest(&guest, data.path()).expect("builds");
    let component = component.to_str().expect("a path");
    bind(&[component, "--name", "broken", "--config", r#"{"mode": "trap"}"#]).expect("binds");
    let calls = "from spans last 1h select plugin.broken.echo(name)";
    server
        .until("it is known", |server| {
            Ok(server.post("/v1/query", &[], calls.into())?.text().contains("query_plugin_failed"))
        })
        .expect("known");
    let failed = ask(calls);
    assert_eq!(failed.status, 400, "{}", failed.text());
    assert!(failed.text().contains("`plugin.echo` failed: plugin `hostile`, binding `broken`"), "{}", failed.text());
    assert_eq!(
        (failed.json()["error"]["line"].as_u64(), failed.json()["error"]["column"].as_u64()),
        (Some(1), Some(27))
    );
    assert_eq!(server.send("traces", spans()).expect("an answer").status, 200);
    assert_eq!(ask(text).status, 200);

    cli(data.path(), &["plugin", "unbind", "--tenant", "default", "apdex"]).expect("unbinds");
    server.until("it is gone", |server| Ok(server.post("/v1/query", &[], text.into())?.status == 400)).expect("gone");
}

#[test]
fn a_plugin_is_uploaded_bound_by_its_hash_and_taken_back_while_queries_run() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path()).expect("starts");
    assert_eq!(server.send("traces", spans()).expect("an answer").status, 200);
    let plugin = |args: &[&str]| cli(data.path(), &[&["plugin", args[0], "--tenant", "default"], &args[1..]].concat());
    let ask = |server: &Server| {
        let answer = server.post("/v1/query", &[], "from spans last 1h select plugin.apdex(duration, 200ms)".into())?;
        anyhow::ensure!(answer.status == 200, "a query failed: {}", answer.text());
        Ok(answer.json()["rows"][0][0].as_f64())
    };
    plugin(&["bind", "apdex"]).expect("binds");
    server.until("it is known", |server| Ok(ask(server).is_ok())).expect("known");
    assert_eq!(ask(&server).expect("an answer"), Some(0.625));

    // A newer version: a custom section makes other bytes of it, and another configuration another answer.
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/apdex");
    let component = prism_componentize::build_guest(&source, data.path()).expect("builds");
    let newer = [std::fs::read(component).expect("reads"), vec![0, 3, 1, b'v', 2]].concat();
    let file = data.path().join("newer.wasm");
    std::fs::write(&file, newer).expect("writes");
    let hash = plugin(&["upload", file.to_str().expect("a path")]).expect("uploads");
    assert!(hash.trim().len() == 64 && hash.trim().bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
    assert_eq!(ask(&server).expect("an answer"), Some(0.625), "nothing runs it yet");
    let told = plugin(&["bind", &hash[..12], "--config", r#"{"tolerated": 2}"#]).expect("binds");
    assert!(told.contains("prism plugin rollback --tenant default apdex"), "{told}");
    // No query fails meanwhile.
    server.until("the newer version answers", |server| Ok(ask(server)? == Some(0.375))).expect("answers");

    let history = plugin(&["history", "apdex"]).expect("tells");
    assert!(history.contains("now 2") && history.contains(&hash[..12]) && history.contains("tolerated"), "{history}");
    let told = plugin(&["rollback", "apdex"]).expect("goes back");
    assert!(told.contains("as change 1 left it") && told.contains(&hash[..12]), "{told}");
    server.until("the older version answers", |server| Ok(ask(server)? == Some(0.625))).expect("answers");
    plugin(&["unbind", "apdex"]).expect("unbinds");
    server.until("it is gone", |server| Ok(ask(server).is_err())).expect("gone");
    plugin(&["rollback", "apdex", "--to", "2"]).expect("goes back");
    server.until("it is back", |server| Ok(ask(server).is_ok())).expect("back");
    assert_eq!(ask(&server).expect("an answer"), Some(0.375));
    let refused = plugin(&["bind", "0123456789abcdef"]).expect_err("refused");
    assert!(refused.to_string().contains("prism plugin upload"), "{refused}");
}
