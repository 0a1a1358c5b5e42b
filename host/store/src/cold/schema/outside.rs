//! The columns of a cold file: names outside <-> tables and columns of ADR 0001.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use prism_model::column::{list_of, portable_name};
use prism_model::{AttrType, ColumnId, Intrinsic, Signal, TableKind};

/// Metadata of a field whose name does not tell it: the real key of the attribute.
pub const KEY_METADATA: &str = "prism.key";

/// A top-level column of a cold file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outside {
    /// Row number in the file's table of resources, scopes or descriptors, `Int32`.
    Pointer(TableKind),
    /// When it happened ([`prism_model::Batch::event_times`]), microseconds, UTC; rounded down.
    Timestamp,
    /// A column of the items, or one of the table that a pointer leads to, repeated.
    Column(TableKind, ColumnId),
    /// Events, links or exemplars: a list of structs, null where there are none.
    Children(TableKind),
    /// The part of a table's tail that has this type: a map from key to value, null where empty.
    Tail(TableKind, AttrType),
    /// The part of a table's tail that a map cannot hold: a list of (key, [`prism_model::Value`] text), null where empty.
    Repeated(TableKind),
}

impl Outside {
    /// Its name: unique where case is ignored.
    pub fn name(&self) -> String {
        match self {
            Outside::Pointer(table) => prefix(*table).trim_end_matches('_').to_owned(),
            Outside::Timestamp => "timestamp".into(),
            Outside::Column(table, ColumnId::Intrinsic(i)) => format!("{}{}", prefix(*table), i.name()),
            Outside::Column(table, ColumnId::Attr { key, ty }) => portable_name(scope(*table), key, *ty),
            Outside::Children(table) => match table {
                TableKind::Events => "events".into(),
                TableKind::Links => "links".into(),
                _ => "exemplars".into(),
            },
            Outside::Tail(table, ty) => format!("{}attributes_{}", prefix(*table), ty.as_str()),
            Outside::Repeated(table) => format!("{}attributes_repeated", prefix(*table)),
        }
    }

    /// Its type in the file. Unsigned numbers are signed and wide enough, since neither Delta nor most engines have others.
    pub fn data_type(&self) -> DataType {
        match self {
            Outside::Pointer(_) => DataType::Int32,
            Outside::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Outside::Column(_, id) => signed(id.data_type()),
            Outside::Children(table) => list_of_structs(child_fields(*table)),
            Outside::Tail(_, ty) => map_of(*ty),
            Outside::Repeated(_) => repeated(),
        }
    }

    /// Name, type, and the real key where the name does not tell it. Everything may be null: a file without the column is.
    pub fn field(&self) -> Field {
        let name = self.name();
        let field = Field::new(&name, self.data_type(), true);
        match self {
            Outside::Column(table, ColumnId::Attr { key, ty })
                if name != format!("{}:{}{}", scope(*table), key.replace('.', ":"), ty.suffix())
                    || key.contains(':') =>
            {
                field.with_metadata(HashMap::from([(KEY_METADATA.into(), key.to_string())]))
            }
            _ => field,
        }
    }
}

/// The Arrow schema of a file with these columns. Schemas of several files merge by name: a name has one type.
pub fn arrow_schema(columns: &[Outside]) -> Schema {
    Schema::new(columns.iter().map(Outside::field).collect::<Vec<_>>())
}

/// The fixed columns of a table that are in every file though they may hold but their default: without them an engine that does
/// not know the default would see a null in some files and a number in others. Columns that are null by default come only with
/// a file that has them.
pub fn fixed_columns(signal: Signal, table: TableKind) -> &'static [Intrinsic] {
    use Intrinsic::*;
    match (table, signal) {
        (TableKind::Items, Signal::Spans) => &[
            TraceId,
            SpanId,
            ParentId,
            Flags,
            Name,
            Kind,
            Time,
            Duration,
            Status,
            StatusMessage,
            DroppedAttributes,
            DroppedEvents,
            DroppedLinks,
            Running,
            SamplingWeight,
        ],
        (TableKind::Items, Signal::Logs) => &[
            Time,
            ObservedTime,
            Severity,
            SeverityText,
            EventName,
            Body,
            TraceId,
            SpanId,
            Flags,
            DroppedAttributes,
            SamplingWeight,
        ],
        (TableKind::Items, Signal::Metrics) => &[Time, StartTime, Flags, ValueInt, ValueDouble, SamplingWeight],
        (TableKind::Resources, _) => &[DroppedAttributes],
        (TableKind::Scopes, _) => &[Name, Version, DroppedAttributes],
        (TableKind::Descriptors, Signal::Metrics) => &[Name, Unit, Description, Type, Temporality, Monotonic],
        _ => &[],
    }
}

/// The fixed fields of a child's struct; maps of its attributes and what those cannot hold follow. All are always there, so
/// that the type of a list is the same in every file.
fn child_intrinsics(table: TableKind) -> &'static [Intrinsic] {
    use Intrinsic::*;
    match table {
        TableKind::Events => &[Time, Name, DroppedAttributes],
        TableKind::Links => &[TraceId, SpanId, TraceState, Flags, DroppedAttributes],
        _ => &[Time, ValueInt, ValueDouble, TraceId, SpanId],
    }
}

/// The fields of the struct of an event, link or exemplar, in their order.
pub fn child_fields(table: TableKind) -> Vec<(ChildField, Field)> {
    let fixed =
        child_intrinsics(table).iter().map(|i| (ChildField::Fixed(*i), i.name().to_owned(), signed(i.data_type())));
    let maps = AttrType::ALL
        .into_iter()
        .map(|ty| (ChildField::Attributes(ty), format!("attributes_{}", ty.as_str()), map_of(ty)));
    let tail = (ChildField::Repeated, "attributes_repeated".to_owned(), repeated());
    fixed.chain(maps).chain([tail]).map(|(what, name, ty)| (what, Field::new(name, ty, true))).collect()
}

/// A field of a child's struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildField {
    /// A fixed column.
    Fixed(Intrinsic),
    /// The attributes of a type.
    Attributes(AttrType),
    /// Its tail.
    Repeated,
}

fn prefix(table: TableKind) -> &'static str {
    match table {
        TableKind::Resources => "resource_",
        TableKind::Scopes => "scope_",
        TableKind::Descriptors => "metric_",
        _ => "",
    }
}

fn scope(table: TableKind) -> &'static str {
    match table {
        TableKind::Resources => "resource",
        TableKind::Scopes => "scope",
        TableKind::Descriptors => "metric",
        _ => "attr",
    }
}

fn signed(data_type: DataType) -> DataType {
    match data_type {
        DataType::UInt8 | DataType::UInt32 => DataType::Int64,
        DataType::List(item) => list_of(item.data_type().clone()),
        other => other,
    }
}

fn map_of(ty: AttrType) -> DataType {
    let pair = vec![Field::new("key", DataType::Utf8, false), Field::new("value", ty.data_type(), true)];
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair.into()), false)), false)
}

fn repeated() -> DataType {
    let pair = vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Utf8, true)];
    DataType::List(Arc::new(Field::new("element", DataType::Struct(pair.into()), true)))
}

fn list_of_structs(fields: Vec<(ChildField, Field)>) -> DataType {
    let fields: Fields = fields.into_iter().map(|(_, field)| field).collect();
    DataType::List(Arc::new(Field::new("element", DataType::Struct(fields), true)))
}
