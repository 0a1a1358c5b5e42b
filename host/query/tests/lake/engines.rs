//! DuckDB and chDB, in a process of their own: pinned packages, installed once into the build folder.
//!
//! Where they cannot be installed the tests say so and are skipped; in CI (`CI`, or `PRISM_REQUIRE_CLIENTS=1`) that is a
//! failure.
#![allow(unreachable_pub, reason = "a part of one test")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::packages;

/// A question to both engines.
pub struct Question {
    /// The folder of a Delta table.
    pub table: PathBuf,
    /// SQL that both read; `{t}` is the table.
    pub sql: String,
}

/// The rows of an answer as texts, sorted; one text that is an error otherwise.
pub type Rows = Vec<String>;

/// Where the packages are.
pub struct Engines {
    site: PathBuf,
}

impl Engines {
    /// The answer of each engine, by its name, to each question.
    pub fn ask(&self, questions: &[Question]) -> Vec<BTreeMap<String, Rows>> {
        let asked: Vec<Value> =
            questions.iter().map(|q| serde_json::json!({ "table": q.table, "sql": q.sql })).collect();
        let mut child = Command::new("python3")
            .arg(sources().join("ask.py"))
            .env("PYTHONPATH", &self.site)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(Value::from(asked).to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "the engines ended with {}", output.status);
        let rows = |answer: &Value| match answer.as_array() {
            Some(rows) => {
                let rows: Vec<Vec<Value>> = rows.iter().map(|row| row.as_array().unwrap().clone()).collect();
                sorted(&rows)
            }
            None => vec![answer.to_string()],
        };
        let answers: Vec<BTreeMap<String, Rows>> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<BTreeMap<String, Value>>(line).unwrap())
            .map(|of| of.iter().map(|(name, answer)| (name.clone(), rows(answer))).collect())
            .collect();
        assert_eq!(answers.len(), questions.len());
        answers
    }
}

/// Rows in an order that no engine has to give; a double that is whole is a number like any.
pub fn sorted(rows: &[Vec<Value>]) -> Rows {
    let cell = |value: &Value| match value.as_f64() {
        Some(whole) if value.is_f64() && whole.fract() == 0.0 => whole.to_string(),
        _ => value.to_string(),
    };
    let row = |cells: &Vec<Value>| cells.iter().map(cell).collect::<Vec<_>>().join(" | ");
    let mut rows: Rows = rows.iter().map(row).collect();
    rows.sort_unstable();
    rows
}

/// The engines; `None`, with the reason printed, where they cannot be installed.
pub fn installed() -> Option<Engines> {
    let set = |name: &str| std::env::var(name).is_ok_and(|v| !["", "0", "false"].contains(&v.as_str()));
    match packages::installed(&sources().join("packages.txt"), "lake") {
        Ok(site) => Some(Engines { site }),
        Err(why) if set("CI") || set("PRISM_REQUIRE_CLIENTS") => panic!("DuckDB and chDB are required here: {why}"),
        Err(why) => {
            eprintln!("skipped: DuckDB and chDB cannot be installed: {why}");
            None
        }
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lake")
}
