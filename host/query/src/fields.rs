//! Which fields rows have, of which types and how often: from the statistics of frames, without reading rows.

use std::collections::BTreeMap;

use prism_model::window::TimeRange;
use prism_model::{AttrType, ColumnId, Signal, TableKind, TenantId};

use crate::engine::{Engine, blocking};
use crate::error::QueryError;
use crate::names::row_fields;

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
    /// The fields of a tenant's rows in a range, by name, scope and signal. No payload is read; keys that have no
    /// column of their own (the tail) are not listed.
    ///
    /// # Errors
    /// `Retry` where the store cannot be listed.
    pub async fn fields(&self, tenant: &TenantId, range: TimeRange) -> Result<Vec<FieldInfo>, QueryError> {
        let (reader, tenant) = (self.reader.clone(), tenant.clone());
        blocking(move || {
            let mut found: BTreeMap<(String, &'static str, Signal), (std::collections::BTreeSet<AttrType>, u64)> =
                BTreeMap::new();
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
        let answer = self.run(tenant, &query, range.to, crate::RunOptions::default()).await?;
        let value = |row| FieldValue { value: answer.cell(row, 0), count: answer.cell(row, 1).as_u64().unwrap_or(0) };
        Ok((0..answer.rows).map(value).collect())
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
    let types = crate::field::shown_types(fixed);
    FieldInfo { name: name.to_owned(), scope: "intrinsic", signal, types, count: rows }
}
