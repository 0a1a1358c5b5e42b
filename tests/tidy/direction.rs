//! Who may depend on whom, and which crates know which outside world. The compiler refuses cycles; this refuses the rest.

use std::collections::BTreeSet;

use super::{expect_none, root};

/// Crate folder -> which of our crates it may use (outside of tests).
const MAY_USE: &[(&str, &[&str])] = &[
    ("dsl-grammar", &[]),
    ("host/model", &[]),
    ("host/plugin", &["prism-model"]),
    ("host/store", &["prism-model"]),
    ("host/ingest", &["prism-model", "prism-plugin", "prism-store"]),
    ("host/query", &["prism-dsl", "prism-model", "prism-plugin", "prism-store"]),
    ("host/server", &["prism-dsl", "prism-model", "prism-plugin", "prism-store", "prism-ingest", "prism-query"]),
    ("sdk/pii", &[]),
    ("sdk/rust", &[]),
    ("sdk/componentize", &[]),
    // The one crate on the author's side that knows the host: an author tests in the sandbox of production.
    ("sdk/testkit", &["prism-plugin", "prism-componentize"]),
    ("plugins/redact-pii", &["prism-sdk", "prism-pii"]),
    ("plugins/drop-filter", &["prism-sdk"]),
    ("plugins/apdex", &["prism-sdk"]),
    ("plugins/url-template", &["prism-sdk"]),
    ("examples/shop", &[]),
    ("tests/load", &[]),
    ("tests/xtask", &["prism-componentize"]),
];

/// Outside crate (a prefix where it ends in `*`) -> the only folders that may use it outside of tests.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("wasmtime*", &["host/plugin"]),
    ("datafusion*", &["host/query"]),
    ("opentelemetry-proto", &["host/ingest", "host/server", "tests/load", "tests"]),
    ("axum", &["host/server"]),
    ("tonic", &["host/server"]),
    ("hyper", &["host/server", "tests/load", "examples/shop"]),
    ("pest*", &["dsl-grammar"]),
    ("wit-bindgen", &["sdk/rust"]),
];

fn manifest(folder: &str) -> toml::Table {
    let path = root().join(folder).join("Cargo.toml");
    std::fs::read_to_string(&path).expect(folder).parse().expect(folder)
}

fn dependencies(folder: &str) -> BTreeSet<String> {
    manifest(folder)
        .get("dependencies")
        .and_then(|d| d.as_table())
        .map(|d| d.keys().cloned().collect())
        .unwrap_or_default()
}

fn members() -> Vec<String> {
    let manifest = manifest(".");
    let members = manifest["workspace"]["members"].as_array().expect("members");
    members.iter().filter_map(|m| m.as_str()).map(str::to_owned).collect()
}

#[test]
fn crates_use_only_what_lies_before_them() {
    let mut findings = Vec::new();
    for member in members().iter().filter(|m| *m != "tests") {
        let Some((_, allowed)) = MAY_USE.iter().find(|(folder, _)| folder == member) else {
            findings.push(format!("{member} stands in no table of directions"));
            continue;
        };
        for used in dependencies(member).iter().filter(|d| d.starts_with("prism-")) {
            if !allowed.contains(&used.as_str()) {
                findings.push(format!("{member} uses {used}"));
            }
        }
    }
    expect_none("directions that the house does not allow", findings);
}

#[test]
fn only_some_crates_know_some_worlds() {
    let mut findings = Vec::new();
    for member in members() {
        for used in dependencies(&member) {
            for (name, folders) in ONLY_IN {
                let hit = name.strip_suffix('*').map_or(used == *name, |prefix| used.starts_with(prefix));
                if hit && !folders.contains(&member.as_str()) {
                    findings.push(format!("{member} uses {used}"));
                }
            }
        }
    }
    expect_none("worlds that a crate must not know", findings);
}

#[test]
fn only_the_server_knows_status_codes() {
    let in_host = |path: &str| path.starts_with("host/") && !path.starts_with("host/server/");
    let findings = super::files(&[".rs"])
        .into_iter()
        .filter(|(path, text)| in_host(path) && (text.contains("StatusCode") || text.contains("tonic::Code")))
        .map(|(path, _)| path)
        .collect();
    expect_none("status codes outside of the server", findings);
}
