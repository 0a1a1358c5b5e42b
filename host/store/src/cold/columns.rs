//! When a table's attribute columns were last used: kept with its schema, so that dead keys give their places up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use prism_model::{AttrType, ColumnId, TableKind};

use super::delta::{Date, Table};
use super::schema::{KEY_METADATA, LastUse, Outside};
use crate::error::StoreError;

/// Metadata of a column of the table: the last day with a file that has a value in it. Written anew once a day at most.
pub(crate) const DAY_METADATA: &str = "prism.day";

/// The attribute columns of a table with their last use.
pub(super) struct Used {
    pub(super) last: BTreeMap<(TableKind, ColumnId), LastUse>,
}

impl Used {
    pub(super) fn of(table: &Table) -> Result<Used, StoreError> {
        let mut last = BTreeMap::new();
        for column in table.columns()? {
            let Some(id) = attribute(&column.name, column.metadata.get(KEY_METADATA).map(String::as_str)) else {
                continue;
            };
            // What others added has no day: it holds its place from now on.
            let day = column.metadata.get(DAY_METADATA).and_then(|day| day.parse::<Date>().ok());
            if let Some(day) = day {
                last.insert(id, LastUse { file_day: day.days(), query_day: None });
            }
        }
        Ok(Used { last })
    }

    /// Marks the attributes that new files have: the day goes into the schema where it is not there yet.
    pub(super) fn mark(&self, attributes: &[(TableKind, ColumnId)], today: Date, columns: &mut Vec<Arc<Schema>>) {
        let stale = |id: &&(TableKind, ColumnId)| self.last.get(id).is_none_or(|used| used.file_day < today.days());
        let mut fields: BTreeMap<String, Field> = BTreeMap::new();
        for (table, id) in attributes.iter().filter(stale) {
            let field = Outside::Column(*table, id.clone()).field();
            let mut metadata: HashMap<String, String> = field.metadata().clone();
            metadata.insert(DAY_METADATA.to_owned(), today.to_string());
            fields.insert(field.name().clone(), field.with_metadata(metadata));
        }
        if !fields.is_empty() {
            columns.push(Arc::new(Schema::new(fields.into_values().collect::<Vec<_>>())));
        }
    }
}

/// The attribute that a column is of, by its name and the key that stands beside it; `None` for every other column.
fn attribute(name: &str, key: Option<&str>) -> Option<(TableKind, ColumnId)> {
    let (scope, rest) = name.split_once(':')?;
    let table = match scope {
        "attr" => TableKind::Items,
        "resource" => TableKind::Resources,
        "scope" => TableKind::Scopes,
        "metric" => TableKind::Descriptors,
        _ => return None,
    };
    let suffixed = |ty: &AttrType| !ty.suffix().is_empty() && rest.ends_with(ty.suffix());
    let ty = AttrType::ALL.into_iter().find(suffixed).unwrap_or(AttrType::Str);
    let plain = rest.strip_suffix(ty.suffix()).unwrap_or(rest);
    let id = ColumnId::attr(key.map_or_else(|| plain.replace(':', "."), str::to_owned), ty);
    (Outside::Column(table, id.clone()).name() == name).then_some((table, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_columns_give_their_attributes_back() {
        for table in [TableKind::Items, TableKind::Resources, TableKind::Scopes, TableKind::Descriptors] {
            for key in ["http.route", "userId", "a key, with odd ; characters", "x@int", "a:b", "", "ü"] {
                for ty in AttrType::ALL {
                    let id = ColumnId::attr(key, ty);
                    let field = Outside::Column(table, id.clone()).field();
                    let found = attribute(field.name(), field.metadata().get(KEY_METADATA).map(String::as_str));
                    assert_eq!(found, Some((table, id)), "{}", field.name());
                }
            }
        }
        for other in ["time", "timestamp", "resource", "theirs.x", "theirs:x", "attr:UPPER"] {
            assert_eq!(attribute(other, None), None, "{other}");
        }
    }
}
