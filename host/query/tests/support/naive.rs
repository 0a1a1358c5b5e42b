//! What the language means, row by row and as simple as can be: the engine must agree with it on any rows.
#![allow(unreachable_pub, reason = "a module of one test file")]

use std::cmp::Ordering;
use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use prism_dsl::{BinaryOp, Expr, Field, Literal, Scope};
use prism_model::reshape::default_array;
use prism_model::{AttrType, Batch, ColumnId, Intrinsic, Signal, Table, TableKind, Value};

/// A value of an expression; `Value::Null`, arrays and maps are structured values that are there.
#[derive(Clone, Debug)]
pub enum Val {
    Plain(Value),
    Id(Vec<u8>),
}

/// One span or point as a query sees it.
pub struct NaiveRow<'a> {
    batch: &'a Batch,
    row: usize,
}

/// Every row of some batches that a query may see: running spans give way to their ends.
pub fn rows(batches: &[Batch]) -> Vec<NaiveRow<'_>> {
    let all: Vec<NaiveRow<'_>> =
        batches.iter().flat_map(|batch| (0..batch.rows()).map(move |row| NaiveRow { batch, row })).collect();
    let key = |row: &NaiveRow<'_>| match (row.intrinsic(Intrinsic::TraceId), row.intrinsic(Intrinsic::SpanId)) {
        (Some(Val::Id(trace)), Some(Val::Id(span))) => Some((trace, span)),
        _ => None,
    };
    let ended: HashSet<_> = all.iter().filter(|r| !r.running()).filter_map(key).collect();
    all.into_iter().filter(|row| !row.running() || !key(row).is_some_and(|k| ended.contains(&k))).collect()
}

fn cell(table: &Table, id: &ColumnId, row: usize) -> Option<Val> {
    value_of(table.column(id)?, id, row)
}

fn value_of(array: &ArrayRef, id: &ColumnId, row: usize) -> Option<Val> {
    if array.is_null(row) {
        return None;
    }
    let plain = cast(array, &id.data_type()).unwrap();
    if plain.is_null(row) {
        return None;
    }
    Some(Val::Plain(match id.data_type() {
        DataType::Utf8 => {
            let text = plain.as_string::<i32>().value(row);
            match id {
                ColumnId::Attr { ty: AttrType::Json, .. } => Value::from_text(text).unwrap_or(Value::Null),
                _ => Value::Str(text.to_owned()),
            }
        }
        DataType::Int64 | DataType::Int32 | DataType::UInt32 => {
            Value::Int(cast(&plain, &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(row))
        }
        DataType::Float64 => Value::Double(plain.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => Value::Bool(plain.as_boolean().value(row)),
        DataType::Binary => Value::Bytes(plain.as_binary::<i32>().value(row).to_vec()),
        DataType::List(_) => {
            let items = plain.as_list::<i32>().value(row);
            let item = |i: usize| match items.data_type() {
                DataType::Int64 => Value::Int(items.as_primitive::<Int64Type>().value(i)),
                _ => Value::Double(items.as_primitive::<Float64Type>().value(i)),
            };
            Value::Array((0..items.len()).map(item).collect())
        }
        DataType::FixedSizeBinary(_) => return Some(Val::Id(plain.as_fixed_size_binary().value(row).to_vec())),
        other => panic!("no cell of {other}"),
    }))
}

impl NaiveRow<'_> {
    fn intrinsic(&self, i: Intrinsic) -> Option<Val> {
        self.fixed(TableKind::Items, i)
    }

    /// The row of another table that this one points to, or itself.
    fn row_in(&self, table: TableKind) -> usize {
        let pointer = |i: Intrinsic| self.batch.items().index(i).map_or(0, |a| a.value(self.row) as usize);
        match table {
            TableKind::Resources => pointer(Intrinsic::Resource),
            TableKind::Scopes => pointer(Intrinsic::Scope),
            TableKind::Descriptors => pointer(Intrinsic::Metric),
            _ => self.row,
        }
    }

    fn fixed(&self, table: TableKind, i: Intrinsic) -> Option<Val> {
        self.fixed_at(table, i, self.row_in(table))
    }

    fn fixed_at(&self, table: TableKind, i: Intrinsic, row: usize) -> Option<Val> {
        match self.batch.table(table).filter(|t| t.intrinsic(i).is_some()) {
            Some(table) => cell(table, &i.into(), row),
            None => value_of(&default_array(&i.into(), 1), &i.into(), 0),
        }
    }

    /// The number as its name, or as digits.
    fn named(&self, i: Intrinsic, names: &[&str]) -> Option<Val> {
        let Some(Val::Plain(Value::Int(n))) = self.fixed(TableKind::Descriptors, i) else { return None };
        let name = usize::try_from(n).ok().and_then(|n| names.get(n));
        Some(Val::Plain(Value::Str(name.map_or(n.to_string(), |name| (*name).to_owned()))))
    }

    /// Whether some exemplar's field fulfils an operator.
    fn some_exemplar(&self, op: BinaryOp, name: &str, with: &Val) -> bool {
        let kind = TableKind::Exemplars;
        let Some(parents) = self.batch.table(kind).and_then(|t| t.index(Intrinsic::Parent)) else { return false };
        let own = (0..parents.len()).filter(|row| parents.value(*row) as usize == self.row);
        own.into_iter().any(|row| {
            let value = match name {
                "value" => self
                    .fixed_at(kind, Intrinsic::ValueInt, row)
                    .or_else(|| self.fixed_at(kind, Intrinsic::ValueDouble, row)),
                "trace_id" => self.fixed_at(kind, Intrinsic::TraceId, row),
                key => self.attribute_at(kind, key, row),
            };
            value.is_some_and(|value| binary(op, &value, with))
        })
    }

    fn int(&self, i: Intrinsic) -> i64 {
        match self.intrinsic(i) {
            Some(Val::Plain(Value::Int(v))) => v,
            _ => 0,
        }
    }

    fn running(&self) -> bool {
        matches!(self.intrinsic(Intrinsic::Running), Some(Val::Plain(Value::Bool(true))))
    }

    pub fn time(&self) -> i64 {
        self.int(Intrinsic::Time)
    }

    fn attribute(&self, table: TableKind, key: &str) -> Option<Val> {
        self.attribute_at(table, key, self.row_in(table))
    }

    fn attribute_at(&self, table: TableKind, key: &str, row: usize) -> Option<Val> {
        let of = self.batch.table(table)?;
        let column = AttrType::ALL.into_iter().find_map(|ty| cell(of, &ColumnId::attr(key, ty), row));
        column.or_else(|| {
            let tail = self.batch.table(TableKind::Tail)?;
            let at = |i: Intrinsic, n: usize| match cell(tail, &i.into(), n) {
                Some(Val::Plain(v)) => v,
                _ => Value::Null,
            };
            let kinds = tail.intrinsic(Intrinsic::Of)?.as_primitive::<arrow::datatypes::UInt8Type>();
            let parents = tail.index(Intrinsic::Parent)?;
            let here = |n: &usize| {
                kinds.value(*n) == table as u8
                    && parents.value(*n) as usize == row
                    && at(Intrinsic::Key, *n) == Value::Str(key.into())
            };
            (0..tail.rows()).find(here).map(|n| match at(Intrinsic::Value, n) {
                Value::Str(text) => Val::Plain(Value::from_text(&text).unwrap()),
                _ => Val::Plain(Value::Null),
            })
        })
    }

    /// A fixed field of points and their metrics; `None` for any other name.
    fn point_field(&self, name: &str) -> Option<Option<Val>> {
        use Intrinsic as I;
        let types = ["unspecified", "gauge", "sum", "histogram", "exponential_histogram", "summary"];
        Some(match name {
            "name" => self.fixed(TableKind::Descriptors, I::Name),
            "unit" => self.fixed(TableKind::Descriptors, I::Unit),
            "description" => self.fixed(TableKind::Descriptors, I::Description),
            "monotonic" => self.fixed(TableKind::Descriptors, I::Monotonic),
            "type" => self.named(I::Type, &types),
            "temporality" => self.named(I::Temporality, &["unspecified", "delta", "cumulative"]),
            "value" => self.intrinsic(I::ValueInt).or_else(|| self.intrinsic(I::ValueDouble)),
            _ => {
                let columns = [
                    I::Count,
                    I::Sum,
                    I::Min,
                    I::Flags,
                    I::ZeroCount,
                    I::PositiveOffset,
                    I::Scale,
                    I::BucketCounts,
                    I::ExplicitBounds,
                    I::PositiveCounts,
                    I::NegativeCounts,
                    I::NegativeOffset,
                    I::Quantiles,
                ];
                self.intrinsic(columns.into_iter().find(|i| i.name() == name)?)
            }
        })
    }

    fn field(&self, field: &Field) -> Option<Val> {
        if self.batch.signal == Signal::Metrics
            && field.scope.is_none()
            && let Some(value) = self.point_field(&field.name)
        {
            return value;
        }
        match (field.scope, field.name.as_str()) {
            (None, "name") => self.intrinsic(Intrinsic::Name),
            (None, "flags") => self.intrinsic(Intrinsic::Flags),
            (None, "trace_id") => self.intrinsic(Intrinsic::TraceId),
            (None, "duration") => {
                let duration = self.int(Intrinsic::Duration);
                let no_end = duration < 0 && self.time().wrapping_add(duration) == 0;
                (!self.running() && !no_end).then_some(Val::Plain(Value::Int(duration)))
            }
            (Some(Scope::Attr), key) => self.attribute(TableKind::Items, key),
            (Some(Scope::Metadata), key) => self.attribute(TableKind::Descriptors, key),
            (Some(Scope::Resource), key) => self.attribute(TableKind::Resources, key),
            (None, key) => [TableKind::Items, TableKind::Scopes, TableKind::Resources]
                .into_iter()
                .find_map(|table| self.attribute(table, key)),
            other => panic!("the tests do not use {other:?}"),
        }
    }

    /// Whether a condition holds.
    pub fn holds(&self, expr: &Expr) -> bool {
        match expr {
            Expr::And(all) => all.iter().all(|e| self.holds(e)),
            Expr::Or(all) => all.iter().any(|e| self.holds(e)),
            Expr::Not(inner) => !self.holds(inner),
            Expr::Binary { op, left, right } if !op.is_arithmetic() => {
                if let Expr::Field(Field { scope: Some(Scope::Exemplar), name, .. }) = &**left {
                    return self.value(right).is_some_and(|with| self.some_exemplar(*op, name, &with));
                }
                let (Some(a), Some(b)) = (self.value(left), self.value(right)) else { return false };
                binary(*op, &a, &b)
            }
            Expr::In { expr, list, negated } => {
                let Some(a) = self.value(expr) else { return false };
                let values: Vec<Val> = list.iter().filter_map(|e| self.value(e)).collect();
                let equal = values.iter().any(|b| order(&a, b) == Some(Some(Ordering::Equal)));
                let comparable = values.iter().any(|b| order(&a, b).is_some());
                if *negated { comparable && !equal } else { equal }
            }
            Expr::Between { expr, low, high, negated } => {
                let Some(a) = self.value(expr) else { return false };
                let against = |e: &Expr| self.value(e).and_then(|b| order(&a, &b)).flatten();
                let (low, high) = (against(low), against(high));
                if *negated {
                    low == Some(Ordering::Less) || high == Some(Ordering::Greater)
                } else {
                    matches!(low, Some(Ordering::Greater | Ordering::Equal))
                        && matches!(high, Some(Ordering::Less | Ordering::Equal))
                }
            }
            Expr::Call(call) if call.name == "exists" => self.value(&call.args[0]).is_some(),
            other => matches!(self.value(other), Some(Val::Plain(Value::Bool(true)))),
        }
    }

    /// The value of an expression.
    pub fn value(&self, expr: &Expr) -> Option<Val> {
        let plain = |v: Value| Some(Val::Plain(v));
        match expr {
            Expr::Literal(Literal::Null) => None,
            Expr::Literal(Literal::Bool(b)) => plain(Value::Bool(*b)),
            Expr::Literal(Literal::Int(i)) => plain(Value::Int(*i)),
            Expr::Literal(Literal::Float(d)) => plain(Value::Double(*d)),
            Expr::Literal(Literal::Str(s)) => plain(Value::Str(s.clone())),
            Expr::Literal(other) => panic!("the tests do not use {other:?}"),
            Expr::Field(field) => self.field(field),
            Expr::Neg(inner) => match self.value(inner)? {
                Val::Plain(Value::Int(i)) => plain(Value::Int(i.checked_neg()?)),
                Val::Plain(Value::Double(d)) => plain(Value::Double(-d)),
                _ => None,
            },
            Expr::Binary { op, left, right } if op.is_arithmetic() => {
                arithmetic(*op, &self.value(left)?, &self.value(right)?).map(Val::Plain)
            }
            Expr::Call(call) if call.name == "coalesce" => call.args.iter().find_map(|e| self.value(e)),
            Expr::Call(call) if call.name == "if" => {
                self.value(&call.args[if self.holds(&call.args[0]) { 1 } else { 2 }])
            }
            Expr::Call(call) if call.name == "lower" => match self.value(&call.args[0])? {
                Val::Plain(Value::Str(s)) => plain(Value::Str(s.to_lowercase())),
                Val::Id(id) => plain(Value::Str(hex::encode(id))),
                _ => None,
            },
            condition => plain(Value::Bool(self.holds(condition))),
        }
    }
}

fn number(v: &Val) -> Option<f64> {
    match v {
        Val::Plain(Value::Int(i)) => Some(*i as f64),
        Val::Plain(Value::Double(d)) => Some(*d),
        _ => None,
    }
}

fn arithmetic(op: BinaryOp, a: &Val, b: &Val) -> Option<Value> {
    if let (Val::Plain(Value::Int(a)), Val::Plain(Value::Int(b)), true) = (a, b, op != BinaryOp::Div) {
        return match op {
            BinaryOp::Add => a.checked_add(*b),
            BinaryOp::Sub => a.checked_sub(*b),
            BinaryOp::Mul => a.checked_mul(*b),
            _ => a.checked_rem(*b),
        }
        .map(Value::Int);
    }
    let (a, b) = (number(a)?, number(b)?);
    let result = match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        _ if b == 0.0 => return None,
        BinaryOp::Div => a / b,
        _ => a % b,
    };
    let lost = !result.is_finite() && a.is_finite() && b.is_finite();
    (!lost).then_some(Value::Double(result))
}

/// `None`: of different types. `Some(None)`: of one type, but not ordered.
fn order(a: &Val, b: &Val) -> Option<Option<Ordering>> {
    let (a, b) = match (a, b) {
        (Val::Id(a), Val::Id(b)) => return Some(Some(a.cmp(b))),
        (Val::Id(a), Val::Plain(Value::Str(b))) => return Some(Some(hex::encode(a).cmp(&b.to_lowercase()))),
        (Val::Plain(Value::Str(a)), Val::Id(b)) => return Some(Some(a.to_lowercase().cmp(&hex::encode(b)))),
        (Val::Plain(a), Val::Plain(b)) => (a, b),
        _ => return None,
    };
    let exact = |int: i64, double: f64| -> Option<Ordering> {
        // Doubles are exact in i128 once their fraction is split off.
        if double.is_nan() {
            return None;
        }
        if double.abs() > 1e30 {
            return Some(if double > 0.0 { Ordering::Less } else { Ordering::Greater });
        }
        let floor = double.floor();
        Some(i128::from(int).cmp(&(floor as i128)).then(if double > floor { Ordering::Less } else { Ordering::Equal }))
    };
    Some(match (a, b) {
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Double(b)) => exact(*a, *b),
        (Value::Double(a), Value::Int(b)) => exact(*b, *a).map(Ordering::reverse),
        (Value::Null | Value::Array(_) | Value::Map(_), Value::Null | Value::Array(_) | Value::Map(_)) => {
            (a.to_text() == b.to_text()).then_some(Ordering::Equal)
        }
        _ => return None,
    })
}

fn is_order(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge)
}

fn binary(op: BinaryOp, a: &Val, b: &Val) -> bool {
    let structured = matches!(a, Val::Plain(Value::Null | Value::Array(_) | Value::Map(_)));
    if let Some(positive) = op.negates().filter(|op| *op != BinaryOp::Eq) {
        return match (a, b) {
            (Val::Plain(Value::Array(_)), _) if positive == BinaryOp::Contains => !binary(positive, a, b),
            (Val::Plain(Value::Str(_)) | Val::Id(_), Val::Plain(Value::Str(_))) => !binary(positive, a, b),
            _ => false,
        };
    }
    if let (Val::Id(id), true) = (a, op.negates().is_none() && !is_order(op)) {
        return binary(op, &Val::Plain(Value::Str(hex::encode(id))), b);
    }
    let Some(order) = order(a, b) else {
        return match (op, a, b) {
            (BinaryOp::Contains, Val::Plain(Value::Array(items)), b) => {
                items.iter().any(|item| self::order(&Val::Plain(item.clone()), b) == Some(Some(Ordering::Equal)))
            }
            _ => false,
        };
    };
    match op {
        BinaryOp::Eq => order == Some(Ordering::Equal),
        BinaryOp::Ne => order != Some(Ordering::Equal),
        _ if structured => false,
        BinaryOp::Lt => order == Some(Ordering::Less),
        BinaryOp::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        BinaryOp::Gt => order == Some(Ordering::Greater),
        BinaryOp::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        _ => {
            let (Val::Plain(Value::Str(a)), Val::Plain(Value::Str(b))) = (a, b) else { return false };
            match op {
                BinaryOp::Contains => a.contains(b.as_str()),
                BinaryOp::StartsWith => a.starts_with(b.as_str()),
                BinaryOp::EndsWith => a.ends_with(b.as_str()),
                BinaryOp::IContains => a.to_lowercase().contains(&b.to_lowercase()),
                // The tests' patterns are plain texts.
                BinaryOp::Match => regex::Regex::new(b).unwrap().is_match(a),
                _ => panic!("the tests do not use {op:?}"),
            }
        }
    }
}

/// A value as an answer shows it.
pub fn shown(val: Option<&Val>) -> String {
    let double = |d: f64| {
        if d.is_nan() {
            "\"NaN\"".into()
        } else if d.is_infinite() {
            format!("\"{}Infinity\"", if d < 0.0 { "-" } else { "" })
        } else {
            serde_json::Value::from(d).to_string()
        }
    };
    fn json(value: &Value, double: &dyn Fn(f64) -> String) -> String {
        match value {
            Value::Null => "null".into(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) if i.unsigned_abs() > 1 << 53 => format!("\"{i}\""),
            Value::Int(i) => i.to_string(),
            Value::Double(d) => double(*d),
            Value::Str(s) => serde_json::Value::from(s.as_str()).to_string(),
            Value::Bytes(b) => {
                use base64::Engine as _;
                format!("\"{}\"", base64::engine::general_purpose::STANDARD.encode(b))
            }
            Value::Array(items) => {
                format!("[{}]", items.iter().map(|v| json(v, double)).collect::<Vec<_>>().join(","))
            }
            Value::Map(_) => panic!("the tests do not use maps"),
        }
    }
    match val {
        None => "null".into(),
        Some(Val::Id(id)) => format!("\"{}\"", hex::encode(id)),
        Some(Val::Plain(value)) => json(value, &double),
    }
}
