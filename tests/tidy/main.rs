//! The house keeps its shape: direction of dependencies, absences, versions, names, sizes.

#![expect(clippy::expect_used, reason = "a test says with it what it expected")]

mod direction;
mod sources;
mod versions;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).expect("tests/ lies in the root")
}

/// Every file that belongs to the repository with one of these endings, by path relative to the root.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("folder is readable").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name.starts_with(".git") || name == "target" || name == "corpus" || name == "node_modules" {
                continue;
            }
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    found
        .into_iter()
        .filter(|p| endings.iter().any(|e| p.to_string_lossy().ends_with(e)))
        .filter_map(|p| {
            let text = std::fs::read_to_string(&p).ok()?;
            Some((p.strip_prefix(root()).ok()?.to_string_lossy().into_owned(), text))
        })
        .collect()
}

/// Fails with all findings at once.
fn expect_none(what: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}
