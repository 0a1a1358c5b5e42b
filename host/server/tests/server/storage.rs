//! `prism storage` beside a server and without one, moving in the background, and requests known in every process.

use crate::harness::{Server, key, must, run, spans, until};

const COUNT: &str = "from spans last 1h select count() as n";

#[test]
fn a_tenants_ages_are_shown_set_and_refused_where_they_cannot_be() {
    let data = tempfile::tempdir().expect("a folder");
    must(data.path(), &["tenant", "create", "shop"]);
    let shown = must(data.path(), &["storage", "policy", "shop"]);
    assert!(
        shown.contains("30m") && shown.contains("1h") && shown.contains("never") && !shown.contains("set"),
        "{shown}"
    );
    let archive = ["storage", "policy", "shop", "--delete-after", "90d", "--archive-after", "30d"];
    let (_, error, success) = run(data.path(), &archive);
    assert!(!success && error.contains("`archive_after` needs objects in a bucket (`objects.url`)"), "{error}");
    assert_eq!(must(data.path(), &["storage", "policy", "shop"]), shown, "nothing was changed");
    // With a bucket, which is not asked.
    let file = data.path().join("bucket.toml");
    std::fs::write(&file, "[objects]\nurl = \"s3://prism\"\n").expect("writes");
    let file = file.display().to_string();
    let set = must(data.path(), &[&["--config", &file][..], &archive].concat());
    assert_eq!((set.matches("90d (set)").count(), set.matches("30d (set)").count()), (3, 3), "{set}");
    let of_logs = must(data.path(), &["storage", "policy", "shop", "--signal", "logs", "--archive-after", "never"]);
    assert!(of_logs.contains("never (set for logs)") && of_logs.contains("30d (set)"), "{of_logs}");
    for (args, expected) in [
        (&["--delete-after", "1d"][..], "expected `delete_after` to be at least `archive_after` (30d), found `1d`"),
        (&["--warm-after", "never"], "expected an age for `warm_after`"),
        (&["--cold-after", "soon"], "expected an age such as `30m`, `6h` or `30d`, or `never`, found `soon`"),
        (&["--reset", "--cold-after", "2h"], "cannot be used with"),
    ] {
        let (_, error, success) = run(data.path(), &[&["storage", "policy", "shop"], args].concat());
        assert!(!success && error.contains(expected), "{args:?}: {error}");
    }
    assert_eq!(must(data.path(), &["storage", "policy", "shop"]), of_logs, "nothing was changed");
    must(data.path(), &["storage", "policy", "shop", "--signal", "logs", "--reset"]);
    assert_eq!(must(data.path(), &["storage", "policy", "shop", "--reset"]), shown);
    let (_, error, success) = run(data.path(), &["storage", "policy", "nobody"]);
    assert!(!success && error.contains("there is no tenant `nobody`"), "{error}");
}

#[test]
fn ages_of_the_configuration_are_checked_at_the_start() {
    let data = tempfile::tempdir().expect("a folder");
    for (lines, expected) in [
        ("[storage]\ndelete_after = \"1m\"\n", "`storage`: expected `delete_after` to be at least `cold_after` (1h)"),
        ("[storage]\nread_grace_ms = 5\n", "`storage.read_grace_ms`: expected at least `query.time_max_ms`"),
        (
            "[storage]\narchive_after = \"30d\"\n",
            "`storage`: `archive_after` needs objects in a bucket (`objects.url`)",
        ),
        ("[objects]\nurl = \"ftp://x\"\n", "`objects.url`: expected nothing, or `s3://BUCKET/PREFIX`, found `ftp://x`"),
    ] {
        let file = data.path().join("prism.toml");
        std::fs::write(&file, lines).expect("writes");
        let (_, error, success) = run(data.path(), &["--config", &file.display().to_string(), "config", "print"]);
        assert!(!success && error.contains(expected), "{error}");
    }
}

#[test]
fn what_lies_where_is_told_and_checked_beside_a_server_and_without_one() {
    let data = tempfile::tempdir().expect("a folder");
    assert_eq!(must(data.path(), &["storage", "status"]), "nothing is stored\n");
    let server = Server::dev(data.path());
    server.traces(&spans(1, 30));
    let look = || {
        let told: serde_json::Value =
            serde_json::from_str(&must(data.path(), &["storage", "status", "--json"])).expect("JSON");
        let of = &told["storage"][0];
        assert_eq!((of["tenant"].as_str(), of["signal"].as_str()), (Some("default"), Some("spans")));
        let rows = ["hot", "warm", "cold"].map(|tier| of["tiers"][tier]["rows"].as_u64());
        assert_eq!(rows, [Some(30), Some(0), Some(0)]);
        let verified = must(data.path(), &["storage", "verify"]);
        assert!(verified.starts_with("30 rows in 1 frames") && verified.ends_with("all is sound\n"), "{verified}");
    };
    look();
    let text = must(data.path(), &["storage", "status", "default"]);
    assert!(text.contains("seal in ") && text.contains("hot"), "{text}");
    server.stop();
    look();
    let segment =
        walk(&data.path().join("hot/default")).into_iter().find(|p| p.extension().is_some_and(|e| e == "seg"));
    let segment = segment.expect("a segment");
    let mut bytes = std::fs::read(&segment).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&segment, bytes).expect("writes");
    let (found, _, success) = run(data.path(), &["storage", "verify"]);
    assert!(!success && found.contains("default spans: hot: ") && found.contains("finding"), "{found}");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn st_1_a_request_that_one_process_acknowledged_is_known_to_all() {
    let data = tempfile::tempdir().expect("a folder");
    let (one, two) = (Server::dev(data.path()), Server::dev(data.path()));
    // Both have met the tenant.
    let mut sent = vec![spans(1, 2), spans(2, 2)];
    one.traces(&sent[0]);
    two.traces(&sent[1]);
    for n in 3..9 {
        let (first, second) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let request = spans(n, 2);
        let (stored, again) = (first.traces(&request), second.traces(&request));
        sent.push(request);
        assert_eq!((stored.status, again.status), (200, 200));
        assert_eq!(again.header("prism-token"), stored.header("prism-token"), "answered as the first was");
    }
    // Killed: its last request is known all the same.
    drop(one);
    let three = Server::dev(data.path());
    for request in &sent {
        assert_eq!((two.traces(request).status, three.traces(request).status), (200, 200));
    }
    assert_eq!(three.query(COUNT).cell(), 16);
    let metrics = three.get("/metrics").text();
    assert!(metrics.contains("prism_ingest_duplicates_total{signal=\"spans\",kind=\"body\"} 8\n"), "{metrics}");
}

#[test]
fn an_operator_sees_what_moving_data_costs() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::configured(data.path(), "[storage]\ninterval_ms = 50\n");
    server.traces(&spans(1, 3));
    let shown = |name: &str| server.get("/metrics").text().lines().any(|line| line.starts_with(name));
    until("rounds are counted", || {
        let metrics = server.get("/metrics").text();
        let rounds = metrics.lines().find_map(|line| line.strip_prefix("prism_store_move_rounds_total "));
        rounds.and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n > 2)
    });
    assert!(
        shown("prism_store_moves_failed_total{stage=\"seal\"} 0") && shown("prism_store_lag_seconds{tier=\"hot\"}")
    );
    drop(server);
    let off = tempfile::tempdir().expect("a folder");
    let server = Server::configured(off.path(), "[storage]\nworker = false\n");
    assert!(!server.get("/metrics").text().contains("prism_store_move"));
    assert!(!key(&off.path().join("data"), "default", "query").is_empty());
}
