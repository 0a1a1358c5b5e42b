//! REFERENCE.md is true: every example in it reads, and every function stands in it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod again;

use std::path::Path;

use prism_dsl::functions::FUNCTIONS;
use prism_dsl::{parse_expr, parse_json, parse_text};

const REFERENCE: &str = include_str!("../REFERENCE.md");

/// The blocks marked with `language`.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    REFERENCE.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// What stands between backticks in the cells of a table's rows under `heading`.
fn cells(heading: &str) -> Vec<&'static str> {
    let section = REFERENCE.split(&format!("\n## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn blocks_read() {
    let (queries, documents, expressions) = (blocks("query"), blocks("json"), blocks("expr"));
    assert!(queries.len() >= 7 && documents.len() >= 2 && expressions.len() >= 3);
    for query in queries {
        again::same(&parse_text(query).unwrap_or_else(|error| panic!("{error}"))).unwrap();
    }
    for document in documents {
        again::same(&parse_json(document.as_bytes()).unwrap_or_else(|error| panic!("{error}"))).unwrap();
    }
    for line in expressions.iter().flat_map(|block| block.lines()) {
        parse_expr(line).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn both_examples_at_the_top_are_the_same() {
    assert_eq!(parse_text(blocks("query")[0]).unwrap(), parse_json(blocks("json")[0].as_bytes()).unwrap());
}

#[test]
fn clauses_read() {
    for cell in cells("Clauses") {
        let cell =
            cell.replace("t'…'", "t'2026-01-01T00:00:00Z'").replacen("00:00Z' to t'2026", "00:00Z' to t'2027", 1);
        if let Some(rest) = cell.strip_prefix('"') {
            let base = if rest.starts_with("return") { r#""match": {"b": "true"}, "# } else { "" };
            let from = if rest.starts_with("from") { "" } else { r#""from": "spans", "# };
            let document = format!("{{{from}{base}{}}}", cell.replace('…', "x"));
            parse_json(document.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        } else if cell.contains(' ') && !cell.starts_with('{') {
            let base = if cell.starts_with("return") { "match (b: true) " } else { "" };
            let from = if cell.starts_with("from spans") { "" } else { "from spans " };
            let text = format!("{from}{base}{}", cell.replace("…, …", "x, y").replace('…', "z"));
            parse_text(&text).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn structure_reads() {
    let operators = cells("Structure");
    assert_eq!(operators.len(), 15);
    for operator in operators {
        parse_text(&format!("from spans match (a: true, b: true where {operator})"))
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn values_read() {
    for value in cells("Values").into_iter().filter(|cell| !cell.starts_with('\\')) {
        parse_expr(value).unwrap_or_else(|error| panic!("{error}"));
    }
    for escape in cells("Values").into_iter().filter(|cell| cell.starts_with('\\')) {
        parse_expr(&format!("'{escape}'")).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn functions_are_told_of() {
    let calls: Vec<&str> =
        cells("Functions").into_iter().chain(cells("Aggregates")).filter(|cell| cell.contains('(')).collect();
    for call in &calls {
        parse_expr(call).unwrap_or_else(|error| panic!("{error}"));
    }
    for known in FUNCTIONS {
        let told = calls.iter().any(|call| call.starts_with(&format!("{}(", known.name)));
        assert!(told, "REFERENCE.md does not tell of `{}`", known.name);
        let usage = known.usage.replace(", …", "");
        parse_expr(&usage).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Fuzzing begins with what the reference shows. `UPDATE=1` writes the seeds anew.
#[test]
fn the_seeds_of_the_fuzz_targets_read() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    if std::env::var_os("UPDATE").is_some() {
        let lines = blocks("expr").into_iter().flat_map(str::lines);
        for (folder, texts) in
            [("text", blocks("query").into_iter().chain(lines).collect()), ("document", blocks("json"))]
        {
            let folder = seeds.join(folder);
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            for (i, text) in texts.into_iter().enumerate() {
                std::fs::write(folder.join(format!("{i}.txt")), text).unwrap();
            }
        }
    }
    for folder in ["text", "document"] {
        let files = std::fs::read_dir(seeds.join(folder)).unwrap().map(|file| file.unwrap().path());
        let mut read = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let reads = match folder {
                "text" => parse_text(&text).is_ok() || parse_expr(&text).is_ok(),
                _ => parse_json(text.as_bytes()).is_ok(),
            };
            assert!(reads, "{}", file.display());
            read += 1;
        }
        assert!(read > 1, "no seeds in {folder}");
    }
}
