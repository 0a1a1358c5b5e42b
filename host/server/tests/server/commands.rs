//! Commands that need no server.

use crate::harness::{must, run};

#[test]
fn the_printed_configuration_reads_back() {
    let data = tempfile::tempdir().expect("a folder");
    let text = must(data.path(), &["config"]);
    let file = data.path().join("prism.toml");
    std::fs::write(&file, &text).expect("writes");
    let again = must(data.path(), &["--config", &file.display().to_string(), "config", "print"]);
    let values = |text: &str| {
        text.lines().map(|l| l.split("  # from").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&text), values(&again));
    std::fs::write(&file, "[store]\nfsync = false\n").expect("writes");
    let (_, error, success) = run(data.path(), &["--config", &file.display().to_string(), "config"]);
    assert!(!success && error.contains("`store.fsync`") && error.contains("no setting"), "{error}");
}

#[test]
fn doctor_says_what_to_do() {
    let data = tempfile::tempdir().expect("a folder");
    let (report, _, _) = run(data.path(), &["doctor"]);
    for subject in ["data folder", "sync", "conditional create", "HTTP address", "open files", "tenants and keys"] {
        assert!(report.contains(subject), "{subject}: {report}");
    }
    let file = data.path().join("file");
    std::fs::write(&file, b"").expect("writes");
    let (report, _, success) = run(&file, &["doctor"]);
    assert!(!success && report.contains("FAIL") && report.contains("--data-dir"), "{report}");
}

#[test]
fn no_server_is_told() {
    let data = tempfile::tempdir().expect("a folder");
    let (_, error, success) = run(data.path(), &["query", "--url", "http://127.0.0.1:1", "from spans"]);
    assert!(!success && error.contains("http://127.0.0.1:1") && error.contains("prism serve"), "{error}");
    let (_, error, success) = run(data.path(), &["trace", "xyz"]);
    assert!(!success && error.contains("32 hexadecimal digits"), "{error}");
}
