//! Pairs of queries, asked of both: where their answers differ.
#![allow(unreachable_pub, reason = "a part of one test")]

use std::path::Path;

use prism_dsl::{Expr, Literal, Range};
use prism_model::samples::Random;
use prism_query::{Engine, RunOptions};
use serde_json::Value as Json;

use super::engines::{self, Engines, Question};
use super::spread;
use super::support::{NOW, tenant};

/// How a column of the answers is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// Equal; doubles but for their last digits.
    Equal,
    /// A time, in SQL in nanoseconds.
    Time,
    /// Equal but for what is lost where numbers near each other are taken from one another.
    Close,
    /// SQL gives the exact number; 2 % beside it is right.
    Distinct,
    /// SQL gives the two values about the quantile in two columns; 1 % beside them is right.
    Quantile,
    /// SQL gives the two values between which it lies in two columns.
    Between,
    /// Counts by bucket, whose ends may be `whole` numbers near to those of SQL.
    Buckets { whole: bool },
    /// The same by `n` buckets, of which SQL gives in three columns the values that are counted, ascending, the least and the greatest: those
    /// within 1 % of an edge may count beside it, or where it is `exact` those at it.
    Spread { n: usize, exact: bool, whole: bool },
}

impl Check {
    /// How many columns SQL has for it.
    fn width(self) -> usize {
        match self {
            Check::Spread { .. } => 3,
            Check::Quantile | Check::Between => 2,
            _ => 1,
        }
    }
}

/// A query in both languages, whole, and how its columns compare.
pub struct Pair {
    pub prism: String,
    pub sql: String,
    pub checks: Vec<Check>,
    /// Only this column can be compared, since a limit cut rows that it does not tell apart.
    pub only: Option<usize>,
}

/// A number that is set from outside.
pub fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

/// As many generated pairs as `PRISM_CORPUS` says, else `many`, from the seed `PRISM_CORPUS_SEED` on.
pub fn generated(many: usize, pair: impl Fn(&mut Random) -> Pair) -> Vec<(usize, Pair)> {
    let first = number("PRISM_CORPUS_SEED").unwrap_or(1);
    let seeds = first..first + number("PRISM_CORPUS").unwrap_or(many);
    seeds.map(|seed| (seed, pair(&mut Random(seed as u64 * 0x9E37_79B9)))).collect()
}

/// Whether a number is another but for its last digits, or where it is `whole` near to it.
pub fn near(a: f64, b: f64, whole: bool) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) + if whole { 0.5 } else { 0.0 }
}

/// Whether a value of Prism is what another engine says; `theirs` holds as many as the check is wide. Prism shows `whole`
/// nanoseconds.
fn agrees(check: Check, whole: bool, ours: &Json, theirs: &[Json]) -> bool {
    let near = |a: f64, b: f64| near(a, b, whole);
    match check {
        Check::Time => {
            let Some(time) = ours.as_str() else { return false };
            let parsed = prism_dsl::parse_expr(&format!("t'{time}'")).unwrap();
            matches!((parsed, theirs[0].as_i64()), (Expr::Literal(Literal::Time(a)), Some(b)) if a == b)
        }
        Check::Equal => match (ours.as_f64(), theirs[0].as_f64()) {
            (Some(a), Some(b)) => near(a, b),
            _ => *ours == theirs[0],
        },
        Check::Close => match (ours.as_f64(), theirs[0].as_f64()) {
            (Some(a), Some(b)) => near(a, b) || (a - b).abs() < 1e-6,
            _ => *ours == theirs[0],
        },
        Check::Distinct => match (ours.as_f64(), theirs[0].as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= (0.02 * b).max(0.5),
            _ => false,
        },
        Check::Quantile => match (ours.as_f64(), theirs[0].as_f64(), theirs[1].as_f64()) {
            (None, None, None) => ours.is_null(),
            (Some(ours), Some(low), Some(high)) => {
                ours >= low - 0.0101 * low.abs() - 1e-9 && ours <= high + 0.0101 * high.abs() + 1e-9
            }
            _ => false,
        },
        Check::Between => match (ours.as_f64(), theirs[0].as_f64(), theirs[1].as_f64()) {
            (None, None, None) => ours.is_null(),
            (Some(ours), Some(low), Some(high)) => (low..=high).contains(&ours) || near(ours, low) || near(ours, high),
            _ => false,
        },
        Check::Buckets { whole } => spread::same(ours, &theirs[0], whole),
        Check::Spread { n, exact, whole } => spread::fits(ours, theirs, n, exact, whole),
    }
}

/// Why the answers differ, if they do.
fn difference(pair: &Pair, whole: &[bool], ours: &[Vec<Json>], theirs: &[Vec<Json>]) -> Option<String> {
    if ours.len() != theirs.len() {
        return Some(format!("{} rows, the other has {}", ours.len(), theirs.len()));
    }
    // Rows of groups come in any order: each needs one of the other's that nobody has yet.
    let same = |a: &[Json], b: &[Json]| {
        let mut at = 0;
        pair.checks.iter().enumerate().all(|(i, check)| {
            let width = check.width();
            at += width;
            pair.only.is_some_and(|only| only != i) || agrees(*check, whole[i], &a[i], &b[at - width..at])
        })
    };
    let mut free: Vec<usize> = (0..theirs.len()).collect();
    for row in ours {
        match free.iter().position(|other| same(row, &theirs[*other])) {
            Some(found) => {
                free.remove(found);
            }
            None => {
                let left: Vec<String> =
                    free.iter().take(8).map(|other| format!("\n    {:?}", theirs[*other])).collect();
                return Some(format!("{row:?} is not there; left of the other: {}", left.concat()));
            }
        }
    }
    None
}

/// Asks both all pairs; fails where they do not agree. Gives the passes over spans that their structure took.
pub async fn agree(
    engines: &Engines,
    engine: &Engine,
    options: &RunOptions,
    table: &Path,
    pairs: &[(usize, Pair)],
) -> u64 {
    let asked: Vec<Question> = pairs
        .iter()
        .map(|(_, p)| Question { table: table.to_owned(), sql: engines::columns(&p.sql), engines: &["duckdb"] })
        .collect();
    let answers = engines.ask_rows(&asked);
    let (mut wrong, mut passes) = (Vec::new(), 0);
    for (((seed, pair), question), answer) in pairs.iter().zip(&asked).zip(&answers) {
        let text = &pair.prism;
        let mut query = prism_dsl::parse_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        query.range = query.range.or(Some(Range::Between { from: i64::MIN, to: i64::MAX }));
        let ours = engine.run(&tenant(), &query, NOW, options.clone()).await;
        let ours = ours.unwrap_or_else(|error| panic!("{text}: {error}"));
        passes += ours.stats.structure_passes;
        let whole: Vec<bool> = ours.columns.iter().map(|column| column.unit.is_some()).collect();
        let row = |row| (0..ours.columns.len()).map(|c| ours.cell(row, c)).collect::<Vec<_>>();
        let ours: Vec<Vec<Json>> = (0..ours.rows).map(row).collect();
        let why = match &answer["duckdb"] {
            Err(error) => Some(error.clone()),
            Ok(theirs) => difference(pair, &whole, &ours, theirs),
        };
        if let Some(why) = why {
            wrong.push(format!("seed {seed}: {text}\n  {}\n  {why}", question.sql));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), pairs.len(), wrong[..wrong.len().min(12)].join("\n"));
    passes
}
