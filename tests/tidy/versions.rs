//! One version of each library that must agree with itself, and features that must stay off.

use super::{expect_none, root};

#[test]
fn one_version_of_what_must_agree() {
    let lock: toml::Table =
        std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock").parse().expect("toml");
    let packages = lock["package"].as_array().expect("packages");
    let mut findings = Vec::new();
    for name in ["arrow", "arrow-array", "parquet", "object_store", "tonic", "prost", "datafusion", "wasmtime", "zstd"]
    {
        let versions: Vec<&str> = packages
            .iter()
            .filter(|p| p["name"].as_str() == Some(name))
            .filter_map(|p| p["version"].as_str())
            .collect();
        if versions.len() > 1 {
            findings.push(format!("{name}: {}", versions.join(", ")));
        }
    }
    expect_none("more than one version", findings);
}

/// With `arbitrary_precision`, doubles in JSON are silently lost; features unify, so any dependency could turn it on.
#[test]
fn serde_json_keeps_plain_numbers() {
    let long = "0.10000000000000000000000000001";
    let kept = serde_json::from_str::<serde_json::Value>(long).expect("a number").to_string();
    assert_ne!(kept, long, "serde_json/arbitrary_precision is on");
}
