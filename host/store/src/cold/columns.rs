//! When a table's attribute columns were last used: kept with its schema, so that dead keys give their places up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use prism_model::{AttrType, ColumnId, TableKind};

use super::delta::{Change, Date, Table, TableColumn};
use super::millis;
use super::schema::{KEY_METADATA, LastUse, Outside};
use crate::error::StoreError;

/// Metadata of a column of the table: the last day with a file that has a value in it. Written anew once a day at most.
pub(crate) const DAY_METADATA: &str = "prism.day";

/// Metadata of a column of the table: the last day with a query that named it, written anew once a day at most.
pub(crate) const QUERY_DAY_METADATA: &str = "prism.query_day";

/// Writes down that queries named these attribute keys today (`now` in unix nanoseconds), whatever the scope and type, by a
/// commit of the schema alone where it does not say so yet. Gives how many columns it marked. Blocks on the objects.
///
/// # Errors
/// As [`Table::commit`].
pub fn queried(table: &Table, keys: &BTreeSet<Arc<str>>, now: i64) -> Result<usize, StoreError> {
    let today = Date::of(now);
    let mut fields: BTreeMap<String, Field> = BTreeMap::new();
    for column in table.columns()? {
        let key = column.metadata.get(KEY_METADATA).map(String::as_str);
        let Some((of, id)) = attribute(&column.name, key) else { continue };
        let named = matches!(&id, ColumnId::Attr { key, .. } if keys.contains(key));
        if named && day(&column, QUERY_DAY_METADATA).is_none_or(|day| day.days() < today.days()) {
            let field = Outside::Column(of, id).field();
            let metadata = HashMap::from([(QUERY_DAY_METADATA.to_owned(), today.to_string())]);
            fields.insert(field.name().clone(), field.with_metadata(metadata));
        }
    }
    let marked = fields.len();
    if marked > 0 {
        let columns = vec![Arc::new(Schema::new(fields.into_values().collect::<Vec<_>>()))];
        let change = Change { operation: "SET QUERIED", now, begun: millis(now), columns, ..Change::default() };
        // Nothing else is asked for, so that nobody can have come first.
        let _at = table.commit(&change)?;
    }
    Ok(marked)
}

fn day(column: &TableColumn, of: &str) -> Option<Date> {
    column.metadata.get(of).and_then(|day| day.parse().ok())
}

/// The attribute columns of a table with their last use.
pub(super) struct Used {
    pub(super) last: Arc<BTreeMap<(TableKind, ColumnId), LastUse>>,
}

impl Used {
    pub(super) fn of(table: &Table) -> Result<Used, StoreError> {
        let mut last = BTreeMap::new();
        for column in table.columns()? {
            let Some(id) = attribute(&column.name, column.metadata.get(KEY_METADATA).map(String::as_str)) else {
                continue;
            };
            // What others added has no day: it holds its place from now on.
            if let Some(file) = day(&column, DAY_METADATA) {
                let query_day = day(&column, QUERY_DAY_METADATA).map(|day| day.days());
                last.insert(id, LastUse { file_day: file.days(), query_day });
            }
        }
        Ok(Used { last: Arc::new(last) })
    }

    /// Marks the attributes that new files have: the day goes into the schema where it is not there yet.
    pub(super) fn mark(
        &self,
        attributes: &BTreeSet<(TableKind, ColumnId)>,
        today: Date,
        columns: &mut Vec<Arc<Schema>>,
    ) {
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
    use prism_model::Signal;
    use prism_model::window::TimeRange;

    use super::*;
    use crate::disk::RealDisk;
    use crate::objects::{LocalObjects, Objects};

    #[test]
    fn what_queries_name_is_written_down_once_a_day_and_read_back() {
        let root = tempfile::tempdir().unwrap();
        let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(Arc::new(RealDisk), root.path(), 1));
        let table = Table::open(objects, &"acme".parse().unwrap(), Signal::Spans);
        let day = 86_400_000_000_000;
        let ids = [("a", AttrType::Str), ("a", AttrType::Int), ("b c", AttrType::Str)];
        let ids = ids.map(|(key, ty)| (TableKind::Items, ColumnId::attr(key, ty)));
        let keys = |of: &[&str]| of.iter().map(|key| Arc::from(*key)).collect::<BTreeSet<Arc<str>>>();
        let write = |now: i64| {
            let mut columns = Vec::new();
            let ids = ids.iter().cloned().collect();
            Used::of(&table).unwrap().mark(&ids, Date::of(now), &mut columns);
            let change = Change { operation: "WRITE", now, begun: millis(now), columns, ..Change::default() };
            table.commit(&change).unwrap();
        };
        assert_eq!(queried(&table, &keys(&["a"]), day).unwrap(), 0, "there is no table yet");
        write(10 * day);
        assert_eq!(queried(&table, &keys(&["a", "none"]), 12 * day).unwrap(), 2);
        let version = table.pin(TimeRange::ALL).unwrap().version;
        assert_eq!(queried(&table, &keys(&["a"]), 12 * day + 9).unwrap(), 0);
        assert_eq!(table.pin(TimeRange::ALL).unwrap().version, version, "nothing new is no commit");
        // What files have is written beside it.
        write(14 * day);
        assert_eq!(queried(&table, &keys(&["b c"]), 15 * day).unwrap(), 1);
        let last = Used::of(&table).unwrap().last;
        let days = ids.map(|id| (last[&id].file_day, last[&id].query_day));
        assert_eq!(days, [(14, Some(12)), (14, Some(12)), (14, Some(15))]);
    }

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
