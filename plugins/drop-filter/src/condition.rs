//! One condition: decided once for each distinct value, then carried to the rows.
//!
//! Types are apart, as in queries: the number 500 is not the text "500"; numbers compare across int and double. `status`,
//! `kind`, `severity`, and a metric's `type` and `temporality` may be named (`error`, `server`, `warn`, `gauge`, `delta`); a name
//! of a severity stands for its four numbers.

use prism_sdk::{Batch, ColumnRef, Place, Role, TableKind};

use crate::config::{Condition, Op, Scalar, SignalName};
use crate::field::{Needs, is_of_points, resolve};

/// A prepared condition.
#[derive(Debug)]
pub(crate) struct Test {
    needs: Vec<usize>,
    op: Op,
    values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    /// From, to, both included: one number, or those of a named severity.
    Ints(i64, i64),
    Float(f64),
    Bool(bool),
}

impl Test {
    /// A condition of a rule for this signal (any signal where `None`).
    pub(crate) fn new(condition: Condition, signal: Option<SignalName>, needs: &mut Needs) -> Result<Test, String> {
        let Condition { field, scope, op, value } = condition;
        let values = match (op, value) {
            (Op::Exists, None) => vec![],
            (Op::Exists, Some(_)) => return Err(format!("`{field}`: `exists` takes no value")),
            (Op::In, Some(Scalar::List(items))) if !items.is_empty() => items,
            (Op::In, _) => return Err(format!("`{field}`: expected a list of values behind `in`")),
            (_, None) => return Err(format!("`{field}`: expected a `value`")),
            (_, Some(Scalar::List(_))) => {
                return Err(format!("`{field}`: expected one value, found a list; `in` takes one"));
            }
            (Op::StartsWith | Op::EndsWith | Op::Contains, Some(text @ Scalar::Text(_))) => vec![text],
            (Op::StartsWith | Op::EndsWith | Op::Contains, _) => return Err(format!("`{field}`: expected a text")),
            (_, Some(value)) => vec![value],
        };
        let of_points = is_of_points(&field, scope, signal);
        let values = values.into_iter().map(|value| prepare(&field, of_points, value)).collect::<Result<_, _>>()?;
        Ok(Test { needs: resolve(&field, scope, signal, needs)?, op, values })
    }

    /// Takes away the rows for which the condition does not hold.
    pub(crate) fn narrow(&self, batch: &Batch, holds: &mut [bool]) {
        // For each row whether a value was found, in the order of needs: the first that has one decides.
        let mut known = vec![false; holds.len()];
        let mut true_for = vec![false; holds.len()];
        for &need in &self.needs {
            let mut here = vec![false; holds.len()];
            for column in batch.columns().filter(|c| c.need() == need) {
                match column.kind() {
                    TableKind::Items => self.look(&column, |row, hit| {
                        if let Some(false) = known.get(row) {
                            here[row] = true;
                            true_for[row] |= hit;
                        }
                    }),
                    TableKind::Leaves => self.look_at_leaves(batch, &column, |row, hit| {
                        if let Some(false) = known.get(row) {
                            here[row] = true;
                            true_for[row] |= hit;
                        }
                    }),
                    _ => {}
                }
            }
            known.iter_mut().zip(here).for_each(|(known, here)| *known |= here);
        }
        holds.iter_mut().zip(true_for).for_each(|(holds, hit)| *holds &= hit);
    }

    /// Each row that has a value, and whether it holds.
    fn look(&self, column: &ColumnRef<'_>, mut each: impl FnMut(usize, bool)) {
        let hits = self.hits(column);
        column.for_each_row(|row, entry| each(row, hits.get(entry) == Some(&true)));
    }

    /// Attributes without a column of their own stand among the leaves, with the record's row beside. Leaves within arrays
    /// and maps tell only that the attribute is there.
    fn look_at_leaves(&self, batch: &Batch, column: &ColumnRef<'_>, mut each: impl FnMut(usize, bool)) {
        let Some(parents) = column.table.parents.as_ref().filter(|_| column.table.of == Place::Item) else { return };
        if column.role() != Role::Attribute && column.role() != Role::Intrinsic {
            return;
        }
        let paths = batch.columns_of(column.table_index as usize).find(|c| c.role() == Role::LeafPath);
        let is_whole = |row: usize| {
            let entry = paths.as_ref().and_then(|paths| paths.entry_of(row));
            entry
                .zip(paths.as_ref().and_then(ColumnRef::bytes))
                .is_none_or(|(entry, paths)| paths.get(entry).is_empty())
        };
        self.look(column, |leaf, hit| {
            if let Some(&row) = parents.get(leaf) {
                each(row as usize, hit && (self.op == Op::Exists || is_whole(leaf)));
            }
        });
    }

    /// Whether each entry holds.
    fn hits(&self, column: &ColumnRef<'_>) -> Vec<bool> {
        let entries = 0..column.entries();
        if self.op == Op::Exists {
            return vec![true; entries.len()];
        }
        if let Some(texts) = column.text() {
            return texts.iter().map(|text| self.holds_for_text(text)).collect();
        }
        if let Some(floats) = column.floats() {
            return floats.iter().map(|&float| self.holds_for_float(float)).collect();
        }
        entries
            .map(|entry| match (column.integer(entry), column.boolean(entry)) {
                (Some(int), _) => self.holds_for_int(int),
                (_, Some(b)) => self.holds(
                    |value| matches!(value, Value::Bool(v) if *v == b),
                    matches!(self.values[0], Value::Bool(_)),
                ),
                _ => false,
            })
            .collect()
    }

    /// `equals`, `not_equals` and `in`, by whether the value equals one of the rule's; `same_type`: whether it could.
    fn holds(&self, equal: impl Fn(&Value) -> bool, same_type: bool) -> bool {
        match self.op {
            Op::Equals | Op::In => self.values.iter().any(equal),
            Op::NotEquals => same_type && !self.values.iter().any(equal),
            _ => false,
        }
    }

    fn holds_for_text(&self, text: &str) -> bool {
        match (self.op, self.values.first()) {
            (Op::StartsWith, Some(Value::Text(value))) => text.starts_with(value.as_str()),
            (Op::EndsWith, Some(Value::Text(value))) => text.ends_with(value.as_str()),
            (Op::Contains, Some(Value::Text(value))) => text.contains(value.as_str()),
            (Op::Greater, Some(Value::Text(value))) => text > value.as_str(),
            (Op::Less, Some(Value::Text(value))) => text < value.as_str(),
            (_, first) => {
                self.holds(|value| matches!(value, Value::Text(v) if v == text), matches!(first, Some(Value::Text(_))))
            }
        }
    }

    fn holds_for_int(&self, int: i128) -> bool {
        match (self.op, self.values.first()) {
            (Op::Greater, Some(Value::Ints(_, to))) => int > i128::from(*to),
            (Op::Less, Some(Value::Ints(from, _))) => int < i128::from(*from),
            (_, Some(Value::Float(_))) => self.holds_for_float(int as f64),
            (_, first) => {
                let equal = |value: &Value| match value {
                    Value::Ints(from, to) => (i128::from(*from)..=i128::from(*to)).contains(&int),
                    Value::Float(value) => int as f64 == *value,
                    _ => false,
                };
                self.holds(equal, matches!(first, Some(Value::Ints(..))))
            }
        }
    }

    fn holds_for_float(&self, float: f64) -> bool {
        let number = |value: &Value| match value {
            Value::Ints(from, to) if from == to => Some(*from as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        };
        let first = self.values.first().and_then(number);
        match (self.op, first) {
            (Op::Greater, Some(value)) => float > value,
            (Op::Less, Some(value)) => float < value,
            _ => self.holds(|value| number(value) == Some(float), first.is_some()),
        }
    }
}

fn prepare(field: &str, of_points: bool, value: Scalar) -> Result<Value, String> {
    let names: &[(&str, i64, i64)] = match field {
        "status" => &[("unset", 0, 0), ("ok", 1, 1), ("error", 2, 2)],
        "kind" => &[
            ("unspecified", 0, 0),
            ("internal", 1, 1),
            ("server", 2, 2),
            ("client", 3, 3),
            ("producer", 4, 4),
            ("consumer", 5, 5),
        ],
        "severity" => {
            &[("trace", 1, 4), ("debug", 5, 8), ("info", 9, 12), ("warn", 13, 16), ("error", 17, 20), ("fatal", 21, 24)]
        }
        "type" if of_points => {
            &[("gauge", 1, 1), ("sum", 2, 2), ("histogram", 3, 3), ("exponential_histogram", 4, 4), ("summary", 5, 5)]
        }
        "temporality" if of_points => &[("unspecified", 0, 0), ("delta", 1, 1), ("cumulative", 2, 2)],
        _ => &[],
    };
    Ok(match value {
        Scalar::Text(text) if !names.is_empty() => {
            let found = names.iter().find(|(name, ..)| text.eq_ignore_ascii_case(name));
            let &(_, from, to) = found.ok_or_else(|| {
                let names: Vec<&str> = names.iter().map(|(name, ..)| *name).collect();
                format!("`{field}` has no value `{text}`: expected one of {}", names.join(", "))
            })?;
            Value::Ints(from, to)
        }
        Scalar::Text(text) => Value::Text(text),
        Scalar::Int(int) => Value::Ints(int, int),
        Scalar::Float(float) => Value::Float(float),
        Scalar::Bool(b) => Value::Bool(b),
        Scalar::List(_) => return Err(format!("`{field}`: expected a list of values, found a list of lists")),
    })
}
