//! Queries in, Asts and errors out, in files that people read: `UPDATE=1 cargo test -p prism-dsl --test golden` rewrites them.
//!
//! A file is a list of cases: a line `=== name`, the query, and below `---` what became of it. A query that begins with `{` is
//! a document, any other is text.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fmt::Write as _;
use std::path::Path;

use prism_dsl::{DslError, Query, parse_json, parse_text};

/// Runs each case of a file through `answer` and compares.
fn check(file: &str, answer: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let before = std::fs::read_to_string(&path).unwrap();
    let mut after = String::new();
    let mut names = std::collections::BTreeSet::new();
    for case in before.split("=== ").filter(|case| !case.trim().is_empty()) {
        let (name, rest) = case.split_once('\n').unwrap();
        let input = rest.split_once("\n---\n").map_or(rest, |(input, _)| input).trim_end();
        assert!(names.insert(name), "two cases are called `{name}`");
        writeln!(after, "=== {name}\n{input}\n---\n{}\n", answer(input)).unwrap();
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, after).unwrap();
        return;
    }
    for (line, (before, after)) in before.lines().zip(after.lines()).enumerate() {
        assert_eq!(before, after, "{file}, line {}; UPDATE=1 accepts it", line + 1);
    }
    assert_eq!(before.lines().count(), after.lines().count(), "{file}; UPDATE=1 accepts it");
}

fn read(input: &str) -> Result<Query, DslError> {
    if input.starts_with('{') { parse_json(input.as_bytes()) } else { parse_text(input) }
}

/// The three forms of the query, each of which reads back as the same.
#[test]
fn good() {
    check("good.txt", |input| {
        let query = read(input).unwrap_or_else(|error| panic!("{input}\n{error}"));
        let (text, strings, tree) = (query.to_string(), query.to_json().to_string(), query.to_json_tree().to_string());
        for form in [&text, &strings, &tree] {
            assert_eq!(read(form).unwrap_or_else(|error| panic!("{form}\n{error}")), query, "{form}");
        }
        format!("{text}\n{strings}\n{tree}")
    });
}

/// The whole error.
#[test]
fn bad() {
    check("bad.txt", |input| {
        let error = read(input).err().unwrap_or_else(|| panic!("should be refused: {input}"));
        format!("{}: {error}", error.code)
    });
}
