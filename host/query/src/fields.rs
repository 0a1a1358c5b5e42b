//! Which fields rows have, of which types and how often: from the statistics of frames. Keys without a column (the tail) are read,
//! the newest frames first, up to a bound.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::UInt8Array;

use prism_model::window::TimeRange;
use prism_model::{AttrType, ColumnId, Intrinsic, Signal, TableKind, TenantId, Value};
use prism_store::Frame;

use crate::engine::{Engine, RunOptions, blocking};
use crate::error::QueryError;
use crate::eval::vals::Text;
use crate::names::row_fields;

/// Bytes of tails, compressed, that are read for a list of fields: some hundred milliseconds. Rare keys of older frames are not
/// listed then.
const TAIL_BYTES_MAX: u64 = 16 << 20;

/// Types and number of values by name and scope.
type Found = BTreeMap<(String, &'static str, Signal), (BTreeSet<AttrType>, u64)>;

/// A field and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// As a query names it within its scope.
    pub name: String,
    /// `intrinsic`, `attr`, `scope`, `resource`, `event`, `link`, `exemplar` or `metadata`.
    pub scope: &'static str,
    /// In which rows.
    pub signal: Signal,
    /// Its types, sorted: a field of several has values of each.
    pub types: Vec<&'static str>,
    /// Values in the frames that touch the range: of records for attributes, of distinct resources and scopes for theirs.
    pub count: u64,
}

/// A value of a field and how many rows have it.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldValue {
    /// As in answers.
    pub value: serde_json::Value,
    /// Rows.
    pub count: u64,
}

impl Engine {
    /// The fields of a tenant's rows in a range, by name, scope and signal. Of rows only the keys that have
    /// no column of their own (the tail) are read, of the newest frames up to a bound.
    ///
    /// # Errors
    /// `Retry` where the store cannot be listed.
    pub async fn fields(&self, tenant: &TenantId, range: TimeRange) -> Result<Vec<FieldInfo>, QueryError> {
        let (reader, tenant) = (self.reader.clone(), tenant.clone());
        blocking(move || {
            let mut found = Found::new();
            let mut fixed = Vec::new();
            for signal in Signal::ALL {
                let snapshot = reader.snapshot(&tenant, signal, range)?;
                let rows: u64 = snapshot.frames.iter().map(|f| f.rows() as u64).sum();
                if rows > 0 {
                    fixed.extend(row_fields(signal).map(|(name, _, of)| intrinsic(signal, name, of, rows)));
                }
                for frame in &snapshot.frames {
                    for table in TableKind::ALL {
                        let Some(scope) = scope_of(table) else { continue };
                        let all = frame.table_rows(table) as u64;
                        for column in frame.columns(table) {
                            let ColumnId::Attr { key, ty } = &column.id else { continue };
                            let entry = found.entry((key.to_string(), scope, signal)).or_default();
                            entry.0.insert(*ty);
                            entry.1 += all.saturating_sub(u64::from(column.null_count));
                        }
                    }
                }
                add_tails(signal, &snapshot.frames, &mut found);
            }
            let mut fields: Vec<FieldInfo> = found
                .into_iter()
                .map(|((name, scope, signal), (types, count))| FieldInfo {
                    name,
                    scope,
                    signal,
                    types: types.into_iter().map(AttrType::as_str).collect(),
                    count,
                })
                .chain(fixed)
                .collect();
            fields.sort_by(|a, b| (&a.name, a.scope, a.signal).cmp(&(&b.name, b.scope, b.signal)));
            Ok(fields)
        })
        .await
    }

    /// The most frequent values of a field among a tenant's rows of one signal in a range, most frequent first.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub async fn field_values(
        &self,
        tenant: &TenantId,
        signal: Signal,
        field: &str,
        range: TimeRange,
        limit: u64,
        options: RunOptions,
    ) -> Result<Vec<FieldValue>, QueryError> {
        let source = match signal {
            Signal::Spans => prism_dsl::Source::Spans,
            Signal::Logs => prism_dsl::Source::Logs,
            Signal::Metrics => prism_dsl::Source::Metrics,
        };
        let expr = prism_dsl::parse_text(&format!("from {} by {field}", source.name()))?;
        let mut query = prism_dsl::Query::new(source);
        query.by = expr.by.into_iter().take(1).collect();
        query.range = Some(prism_dsl::Range::Between { from: range.from, to: range.to });
        query.limit = Some(limit);
        if let Some(by) = query.by.first() {
            let call =
                prism_dsl::Call { name: "exists".into(), args: vec![by.expr.clone()], pos: prism_dsl::Pos::NONE };
            query.where_ = Some(prism_dsl::Expr::Call(call));
        }
        let count = prism_dsl::Aggregate {
            func: "count".into(),
            args: Vec::new(),
            where_: None,
            exact: false,
            pos: prism_dsl::Pos::NONE,
        };
        query.select = vec![prism_dsl::Select { name: "rows".into(), expr: prism_dsl::Expr::Aggregate(count) }];
        let answer = self.run(tenant, &query, range.to, options).await?;
        let value = |row| FieldValue { value: answer.cell(row, 0), count: answer.cell(row, 1).as_u64().unwrap_or(0) };
        Ok((0..answer.rows).map(value).collect())
    }
}

/// Adds the keys that have no column of their own. A frame that cannot be read is left out: the list is for completion.
fn add_tails(signal: Signal, frames: &[Frame], found: &mut Found) {
    let columns = [Intrinsic::Of, Intrinsic::Key, Intrinsic::Value].map(ColumnId::Intrinsic);
    let want = |table, id: &ColumnId| table == TableKind::Tail && columns.contains(id);
    let mut tails: Vec<&Frame> = frames.iter().filter(|frame| frame.table_rows(TableKind::Tail) > 0).collect();
    tails.sort_by_key(|frame| std::cmp::Reverse(frame.stats().time_max));
    let mut left = TAIL_BYTES_MAX;
    for frame in tails {
        let Some(rest) = left.checked_sub(frame.cost(&want).bytes) else { return };
        left = rest;
        let Ok((batch, _)) = frame.read(&want) else { continue };
        let column = |i: Intrinsic| batch.table(TableKind::Tail)?.intrinsic(i).cloned();
        let (Some(of), Some(keys)) = (column(Intrinsic::Of), column(Intrinsic::Key)) else { continue };
        let (Some(of), Some(keys)) = (of.as_any().downcast_ref::<UInt8Array>(), Text::from_array(&keys)) else {
            continue;
        };
        let values = column(Intrinsic::Value).as_ref().and_then(Text::from_array);
        for row in 0..keys.len() {
            let scope = TableKind::from_u8(of.value(row)).and_then(scope_of);
            let (Some(scope), Some(key)) = (scope, keys.get(row)) else { continue };
            let entry = found.entry((key.to_owned(), scope, signal)).or_default();
            entry.0.insert(type_of(values.as_ref().and_then(|values| values.get(row)).unwrap_or("null")));
            entry.1 += 1;
        }
    }
}

/// The type of a column that would have the value.
fn type_of(text: &str) -> AttrType {
    match Value::from_text(text) {
        Ok(Value::Str(_)) => AttrType::Str,
        Ok(Value::Int(_)) => AttrType::Int,
        Ok(Value::Double(_)) => AttrType::Double,
        Ok(Value::Bool(_)) => AttrType::Bool,
        Ok(Value::Bytes(_)) => AttrType::Bytes,
        _ => AttrType::Json,
    }
}

fn scope_of(table: TableKind) -> Option<&'static str> {
    Some(match table {
        TableKind::Items => "attr",
        TableKind::Scopes => "scope",
        TableKind::Resources => "resource",
        TableKind::Events => "event",
        TableKind::Links => "link",
        TableKind::Exemplars => "exemplar",
        TableKind::Descriptors => "metadata",
        TableKind::Tail => return None,
    })
}

fn intrinsic(signal: Signal, name: &str, fixed: crate::names::Fixed, rows: u64) -> FieldInfo {
    let types = crate::fixed::shown_types(fixed);
    FieldInfo { name: name.to_owned(), scope: "intrinsic", signal, types, count: rows }
}
