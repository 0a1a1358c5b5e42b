//! DuckDB and chDB, in a process of their own: pinned packages, installed once into the build folder.
//!
//! Where they cannot be installed the tests say so and are skipped; in CI (`CI`, or `PRISM_REQUIRE_CLIENTS=1`) that is a
//! failure.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use prism_model::AttrType;
use prism_model::column::portable_name;
use serde_json::Value;

use super::packages;

/// Both engines.
pub const BOTH: &[&str] = &["duckdb", "chdb"];

/// A question to engines.
pub struct Question {
    /// The folder of a Delta table.
    pub table: PathBuf,
    /// SQL that they read; `{t}` is the table.
    pub sql: String,
    /// Which.
    pub engines: &'static [&'static str],
}

/// The rows of an answer as texts, sorted; one text that is an error otherwise.
pub type Rows = Vec<String>;

/// An engine's rows, or its error.
pub type Answer = Result<Vec<Vec<Value>>, String>;

/// Where the packages are.
pub struct Engines {
    site: PathBuf,
}

impl Engines {
    /// The answer of each engine, by its name, to each question, as texts.
    pub fn ask(&self, questions: &[Question]) -> Vec<BTreeMap<String, Rows>> {
        let rows = |answer: &Answer| match answer {
            Ok(rows) => sorted(rows),
            Err(error) => vec![error.clone()],
        };
        let of = |of: &BTreeMap<String, _>| of.iter().map(|(name, answer)| (name.clone(), rows(answer))).collect();
        self.ask_rows(questions).iter().map(of).collect()
    }

    /// The rows of each engine's answer, by its name, to each question, or its error.
    pub fn ask_rows(&self, questions: &[Question]) -> Vec<BTreeMap<String, Answer>> {
        let asked: Vec<Value> = questions
            .iter()
            .map(|q| serde_json::json!({ "table": q.table, "sql": q.sql, "engines": q.engines }))
            .collect();
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
        let rows = |answer: Value| match answer {
            Value::Array(rows) => Ok(rows.into_iter().map(|row| row.as_array().unwrap().clone()).collect()),
            error => Err(error.to_string()),
        };
        let answers: Vec<BTreeMap<String, _>> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<BTreeMap<String, Value>>(line).unwrap())
            .map(|of| of.into_iter().map(|(name, answer)| (name, rows(answer))).collect())
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
    site("packages.txt", "lake", "DuckDB and chDB").map(|site| Engines { site })
}

/// The folder of the packages of a lock file; `None`, with the reason printed, where `what` cannot be installed.
pub fn site(lock: &str, name: &str, what: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var(name).is_ok_and(|v| !["", "0", "false"].contains(&v.as_str()));
    match packages::installed(&sources().join(lock), name) {
        Ok(site) => Some(site),
        Err(why) if set("CI") || set("PRISM_REQUIRE_CLIENTS") => panic!("{what} is required here: {why}"),
        Err(why) => {
            eprintln!("skipped: {what} cannot be installed: {why}");
            None
        }
    }
}

/// Puts the names of columns in place of `[key]`, `[key@type]`.
pub fn columns(sql: &str) -> String {
    let mut parts = sql.split('[');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        if part.starts_with('\'') {
            // The key of a map.
            out += &format!("[{part}");
            continue;
        }
        let (id, rest) = part.split_once(']').unwrap();
        let ty = AttrType::ALL.into_iter().find(|ty| !ty.suffix().is_empty() && id.ends_with(ty.suffix()));
        let ty = ty.unwrap_or(AttrType::Str);
        let key = id.strip_suffix(ty.suffix()).unwrap();
        out += &format!("\"{}\"{rest}", portable_name("attr", key, ty));
    }
    out
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lake")
}
