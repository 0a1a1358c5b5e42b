//! Whether answers to the measured queries are right: to the last cell where they are exact, and where Prism answers from a sketch
//! within what that promises of the exact value. No value may be further from it.

use serde_json::Value;

/// A quantile is the middle of a bucket that is a 64th of its lower bound wide (`host/model/src/sketch.rs`).
const QUANTILE_APART: f64 = 1.0 / 128.0;
/// So many values are kept one by one: their quantiles are exact.
const QUANTILE_EXACT_MAX: u64 = 32;
/// What is promised of a count of distinct values (`host/query/src/group/distinct.rs`).
const DISTINCT_APART: f64 = 0.02;
/// So many are counted one by one.
const DISTINCT_EXACT_MAX: u64 = 4_096;

/// How a column is answered from a sketch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sketch {
    /// By nearest rank: the smallest value that so large a part of all does not exceed.
    Quantile,
    Distinct,
}

impl Sketch {
    /// How far from an exact value, which is one of so many, the sketch may be.
    fn apart(self, exact: f64, of: u64) -> f64 {
        match self {
            Sketch::Quantile if of <= QUANTILE_EXACT_MAX => 0.0,
            Sketch::Quantile => exact.abs() * QUANTILE_APART,
            Sketch::Distinct if exact <= DISTINCT_EXACT_MAX as f64 => 0.0,
            Sketch::Distinct => exact * DISTINCT_APART,
        }
    }
}

/// The columns that a query answers from sketches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sketched(Vec<(usize, Sketch)>);

#[derive(Debug)]
struct Row {
    /// What is exact of it.
    key: String,
    /// What sketches give.
    near: Vec<f64>,
    /// Of how many values, where that is told.
    of: u64,
}

impl Sketched {
    /// As the query tells by `quantiles` and `distincts`.
    pub(crate) fn of(query: &Value) -> Sketched {
        let columns = |key: &str| query[key].as_array().into_iter().flatten().filter_map(Value::as_u64);
        let quantiles = columns("quantiles").map(|column| (column as usize, Sketch::Quantile));
        let distincts = columns("distincts").map(|column| (column as usize, Sketch::Distinct));
        Sketched(quantiles.chain(distincts).collect())
    }

    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether two answers have the same rows, in whatever order. What sketches give may be apart.
    pub(crate) fn same(&self, ours: &Value, theirs: &Value) -> Result<(), String> {
        same(&self.rows(ours, false)?, &self.rows(theirs, false)?)
    }

    /// Whether an answer is right beside the exact one, whose rows end with how many values their quantiles are of.
    pub(crate) fn right(&self, ours: &Value, exact: &Value) -> Result<(), String> {
        let counted = self.0.iter().any(|(_, sketch)| *sketch == Sketch::Quantile);
        let (ours, exact) = (self.rows(ours, false)?, self.rows(exact, counted)?);
        same(&ours, &exact)?;
        for (our, exact) in ours.iter().zip(&exact) {
            for ((found, expected), (_, sketch)) in our.near.iter().zip(&exact.near).zip(&self.0) {
                let is_near = (found - expected).abs() <= sketch.apart(*expected, exact.of);
                if !is_near {
                    return Err(format!("`{}`: {found}, expected {expected} (of {} values)", our.key, exact.of));
                }
            }
        }
        Ok(())
    }

    /// The rows of an answer by their exact cells. `counted`: the last cell is no column, but how many values the row is of.
    fn rows(&self, answer: &Value, counted: bool) -> Result<Vec<Row>, String> {
        let row = |row: &Value| {
            let mut cells = row.as_array().cloned().unwrap_or_default();
            let of = if counted { cells.pop().as_ref().and_then(number).map_or(u64::MAX, |n| n as u64) } else { 0 };
            let near = self.0.iter().map(|(column, _)| cells.get(*column).and_then(number));
            let near = near.collect::<Option<Vec<f64>>>().ok_or_else(|| format!("no number in {row}"))?;
            let is_exact = |column: &usize| self.0.iter().all(|(sketched, _)| sketched != column);
            let exact = (0..cells.len()).filter(is_exact).map(|column| text(&cells[column]));
            Ok(Row { key: exact.collect::<Vec<_>>().join("|"), near, of })
        };
        let mut rows: Vec<Row> = answer.as_array().into_iter().flatten().map(row).collect::<Result<_, String>>()?;
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(rows)
    }
}

fn same(ours: &[Row], theirs: &[Row]) -> Result<(), String> {
    if ours.len() != theirs.len() {
        return Err(format!("{} rows beside {}", ours.len(), theirs.len()));
    }
    match ours.iter().zip(theirs).find(|(our, their)| our.key != their.key) {
        Some((our, their)) => Err(format!("`{}` beside `{}`", our.key, their.key)),
        None => Ok(()),
    }
}

/// Some engines write large numbers as text.
fn number(cell: &Value) -> Option<f64> {
    cell.as_f64().or_else(|| cell.as_str()?.parse().ok())
}

fn text(cell: &Value) -> String {
    cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantiles_are_as_near_as_their_sketch_promises() {
        let sketched = Sketched::of(&json!({"quantiles": [1]}));
        let right = |found: f64, of: u64| {
            sketched.right(&json!([["a", found], ["b", 7]]), &json!([["b", 7, 1], ["a", 1000, of]])).is_ok()
        };
        assert!(right(1000.0, 32) && right(1000.0, 33) && right(1007.0, 33) && right(993.0, 33));
        assert!(!right(1008.0, 33) && !right(992.0, 33) && !right(1001.0, 32));
        let told = sketched.right(&json!([["a", 3]]), &json!([["a", 5, 2]])).unwrap_err();
        assert_eq!(told, "`a`: 3, expected 5 (of 2 values)");
        assert!(sketched.right(&json!([["a", null]]), &json!([["a", 5, 2]])).is_err());
    }

    #[test]
    fn distinct_values_are_counted_one_by_one_while_they_are_few() {
        let sketched = Sketched::of(&json!({"distincts": [0]}));
        let right = |found: u64, exact: u64| sketched.right(&json!([[found]]), &json!([[exact]])).is_ok();
        assert!(right(4_096, 4_096) && right(49_100, 50_000) && right(51_000, 50_000));
        assert!(!right(4_095, 4_096) && !right(48_900, 50_000));
    }

    #[test]
    fn rows_are_compared_in_any_order_each_as_often_as_it_is_there() {
        let exact = Sketched::of(&json!({}));
        assert!(!exact.any());
        assert_eq!(exact.same(&json!([["a", 1], ["b", "2"]]), &json!([["b", 2], ["a", 1]])), Ok(()));
        assert_eq!(exact.same(&json!([[1], [1]]), &json!([[1], [2]])), Err("`1` beside `2`".into()));
        assert_eq!(exact.same(&json!([[1], [1]]), &json!([[1]])), Err("2 rows beside 1".into()));
    }
}
