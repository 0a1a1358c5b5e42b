//! A table's schema as Delta writes it (JSON), made from those of Parquet files; it grows and never shrinks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use serde_json::{Map, Value, json};

use crate::error::StoreError;

/// The column by which the files of a table are parted. It is in no file.
pub(crate) const PARTITION: &str = "date";

/// The schema of a table after files of `columns` came to it; `None` where it has them all. Columns that others added stay.
///
/// # Errors
/// `Retry` where the table has a column of the name and another type, or its schema cannot be read: somebody else changed it.
pub(crate) fn grown(table: Option<&str>, columns: &[Arc<Schema>]) -> Result<Option<String>, StoreError> {
    let mut schema = match table {
        Some(text) => {
            serde_json::from_str(text).map_err(|e| StoreError::Table(format!("its schema is no JSON: {e}")))?
        }
        None => json!({ "type": "struct", "fields": [field(&Field::new(PARTITION, DataType::Date32, true))?] }),
    };
    let mut grew = false;
    for columns in columns {
        grew |= grow_struct(&mut schema, columns.fields(), "")?;
    }
    Ok((grew || table.is_none()).then(|| schema.to_string()))
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Delta writes it.
    pub data_type: Value,
    /// What stands beside it: the real key of an attribute, its last use.
    pub metadata: BTreeMap<String, String>,
}

/// The columns of a table's schema.
///
/// # Errors
/// `Retry` where it cannot be read.
pub(crate) fn columns(table: &str) -> Result<Vec<TableColumn>, StoreError> {
    let schema: Value =
        serde_json::from_str(table).map_err(|e| StoreError::Table(format!("its schema is no JSON: {e}")))?;
    let fields = schema.get("fields").and_then(Value::as_array).ok_or_else(no_struct)?;
    let column = |f: &Value| {
        let metadata = f.get("metadata").and_then(Value::as_object).into_iter().flatten();
        Some(TableColumn {
            name: f.get("name")?.as_str()?.to_owned(),
            data_type: f.get("type")?.clone(),
            metadata: metadata.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect(),
        })
    };
    fields.iter().map(|f| column(f).ok_or_else(no_struct)).collect()
}

fn no_struct() -> StoreError {
    StoreError::Table("its schema is no struct of named fields".into())
}

fn grow_struct(target: &mut Value, fields: &Fields, within: &str) -> Result<bool, StoreError> {
    let known = target.get_mut("fields").and_then(Value::as_array_mut).ok_or_else(no_struct)?;
    // Engines ignore case: `portable_name` gives no two names that differ in it alone.
    let lower = |f: &Value| f.get("name").and_then(Value::as_str).map(str::to_lowercase);
    let mut places: HashMap<String, usize> =
        known.iter().enumerate().filter_map(|(i, f)| Some((lower(f)?, i))).collect();
    let mut grew = false;
    for new in fields {
        let path = format!("{within}{}", new.name());
        match places.get(&new.name().to_lowercase()) {
            Some(&at) => {
                grew |= grow_type(&mut known[at]["type"], new.data_type(), &path)?;
                for (key, value) in metadata(new) {
                    let there = &mut known[at]["metadata"][key];
                    grew |= *there != value;
                    *there = value;
                }
            }
            None => {
                places.insert(new.name().to_lowercase(), known.len());
                known.push(field(new)?);
                grew = true;
            }
        }
    }
    Ok(grew)
}

fn grow_type(target: &mut Value, new: &DataType, path: &str) -> Result<bool, StoreError> {
    let kind = target.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match (kind.as_str(), new) {
        ("struct", DataType::Struct(fields)) => grow_struct(target, fields, &format!("{path}.")),
        ("array", DataType::List(item)) => grow_type(&mut target["elementType"], item.data_type(), path),
        ("map", DataType::Map(entries, _)) => {
            let DataType::Struct(pair) = entries.data_type() else { return Err(no_struct()) };
            let [_, value] = &pair[..] else { return Err(no_struct()) };
            grow_type(&mut target["valueType"], value.data_type(), path)
        }
        _ => {
            let wanted = type_of(new)?;
            if *target == wanted {
                return Ok(false);
            }
            let shown = |v: &Value| v.as_str().map_or_else(|| v["type"].to_string(), str::to_owned);
            let (found, wanted) = (shown(target), shown(&wanted));
            Err(StoreError::Table(format!("expected type `{wanted}` of column `{path}`, found `{found}`")))
        }
    }
}

fn field(field: &Field) -> Result<Value, StoreError> {
    let metadata: Map<String, Value> = metadata(field).map(|(k, v)| (k.to_owned(), v)).collect();
    // A file without the column gives null, whatever the files that have it hold.
    Ok(json!({ "name": field.name(), "type": type_of(field.data_type())?, "nullable": true, "metadata": metadata }))
}

/// What stands beside a column, by key.
fn metadata(field: &Field) -> impl Iterator<Item = (&str, Value)> {
    let mut metadata: Vec<_> = field.metadata().iter().filter(|(k, _)| !k.starts_with("PARQUET:")).collect();
    metadata.sort();
    metadata.into_iter().map(|(k, v)| (k.as_str(), json!(v)))
}

fn type_of(data_type: &DataType) -> Result<Value, StoreError> {
    Ok(match data_type {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 => json!("byte"),
        DataType::Int16 => json!("short"),
        DataType::Int32 => json!("integer"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            json!("binary")
        }
        DataType::Date32 => json!("date"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => json!("timestamp"),
        DataType::Dictionary(_, values) => type_of(values)?,
        DataType::List(item) | DataType::LargeList(item) => {
            json!({ "type": "array", "elementType": type_of(item.data_type())?, "containsNull": true })
        }
        DataType::Struct(fields) => {
            let fields: Vec<Value> = fields.iter().map(|f| self::field(f)).collect::<Result<_, _>>()?;
            json!({ "type": "struct", "fields": fields })
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return Err(no_struct()) };
            let [key, value] = &pair[..] else { return Err(no_struct()) };
            let (key, value) = (type_of(key.data_type())?, type_of(value.data_type())?);
            json!({ "type": "map", "keyType": key, "valueType": value, "valueContainsNull": true })
        }
        other => return Err(StoreError::Rows(format!("a Delta table has no type for `{other}`"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: Vec<Field>) -> [Arc<Schema>; 1] {
        [Arc::new(Schema::new(fields))]
    }

    #[test]
    fn a_schema_grows_inside_too_and_keeps_what_others_added() {
        let event = |more: Option<Field>| {
            let fields: Vec<Field> = [Field::new("name", DataType::Utf8, true)].into_iter().chain(more).collect();
            let item = Field::new("element", DataType::Struct(fields.into()), true);
            Field::new("events", DataType::List(Arc::new(item)), true)
        };
        let time = Field::new("time", DataType::Int64, false);
        let first = grown(None, &schema(vec![time.clone(), event(None)])).unwrap().unwrap();
        assert_eq!(grown(Some(&first), &schema(vec![event(None), time.clone()])).unwrap(), None);
        let foreign = first.replacen("[", r#"[{"name":"theirs","type":"string","nullable":true,"metadata":{}},"#, 1);
        let wider = Field::new("dropped", DataType::Int32, true);
        let second = grown(Some(&foreign), &schema(vec![event(Some(wider))])).unwrap().unwrap();
        let names: Vec<String> = columns(&second).unwrap().into_iter().map(|column| column.name).collect();
        assert_eq!(names, ["theirs", "date", "time", "events"]);
        assert!(second.contains(r#"{"name":"dropped","type":"integer","nullable":true,"metadata":{}}"#), "{second}");
        let other = grown(Some(&second), &schema(vec![Field::new("TIME", DataType::Utf8, true)])).unwrap_err();
        assert_eq!(
            other.to_string(),
            "the Delta table cannot be used: expected type `string` of column `TIME`, found `long`"
        );
        for bad in ["", "{}", r#"{"fields":3}"#, r#"{"fields":[{"name":1}]}"#] {
            assert!(
                columns(bad).is_err() && grown(Some(bad), &schema(vec![time.clone()])).is_err_and(|_| true)
                    || bad.contains("[{")
            );
        }
    }

    #[test]
    fn keys_of_attributes_stand_beside_their_safe_names() {
        let key =
            HashMap::from([("prism.key".to_owned(), "userId".to_owned()), ("PARQUET:field_id".into(), "1".into())]);
        let column = Field::new("attr:userid~0011223344556677", DataType::Utf8, true).with_metadata(key);
        let first = grown(None, &schema(vec![column.clone()])).unwrap().unwrap();
        assert!(first.contains(r#""metadata":{"prism.key":"userId"}"#), "{first}");
        assert_eq!(grown(Some(&first), &schema(vec![column.clone()])).unwrap(), None);
        let mut marked = column.metadata().clone();
        marked.insert("prism.day".into(), "2026-11-21".into());
        let second = grown(Some(&first), &schema(vec![column.with_metadata(marked)])).unwrap().unwrap();
        let found = columns(&second).unwrap().pop().unwrap().metadata;
        assert_eq!((&*found["prism.key"], &*found["prism.day"]), ("userId", "2026-11-21"));
    }
}
