//! Actions as columns: the rows of a checkpoint, whose schema the protocol gives.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListBuilder, MapArray, MapBuilder, MapFieldNames,
    RecordBatch, StringArray, StringBuilder, StructArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, SchemaRef};

use super::action::{Add, Format, Known, MetaData, NullableText, Protocol, Remove, Txn, is_tag};
use super::schema::PARTITION;
use super::stats;
use crate::error::{Damage, StoreError};

/// A file as plans know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Box<str>,
    pub(crate) bytes: u64,
    pub(crate) known: Known,
}

impl Entry {
    pub(crate) fn of(add: &Add) -> Entry {
        Entry { path: add.path.as_str().into(), bytes: add.size, known: add.known() }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Entry>() + self.path.len()
    }
}

/// The columns that entries need: of Prism's files, and of others'.
pub(crate) const ENTRY_COLUMNS: [&str; 3] = ["add.path", "add.size", "add.tags"];
pub(crate) const FOREIGN_ENTRY_COLUMNS: [&str; 5] =
    ["add.path", "add.size", "add.tags", "add.partitionValues", "add.stats"];

fn map_type() -> DataType {
    let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair), false)), false)
}

fn list_type() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Utf8, true)))
}

fn fields(of: &[(&str, DataType)]) -> Fields {
    of.iter().map(|(name, ty)| Field::new(*name, ty.clone(), true)).collect()
}

struct Parts {
    txn: Fields,
    add: Fields,
    remove: Fields,
    format: Fields,
    meta_data: Fields,
    protocol: Fields,
    schema: SchemaRef,
}

static PARTS: LazyLock<Parts> = LazyLock::new(|| {
    use DataType::{Boolean, Int32, Int64, Struct, Utf8};
    let txn = fields(&[("appId", Utf8), ("version", Int64), ("lastUpdated", Int64)]);
    let add = fields(&[
        ("path", Utf8),
        ("partitionValues", map_type()),
        ("size", Int64),
        ("modificationTime", Int64),
        ("dataChange", Boolean),
        ("tags", map_type()),
        ("stats", Utf8),
    ]);
    let remove = fields(&[
        ("path", Utf8),
        ("deletionTimestamp", Int64),
        ("dataChange", Boolean),
        ("extendedFileMetadata", Boolean),
        ("partitionValues", map_type()),
        ("size", Int64),
        ("tags", map_type()),
    ]);
    let format = fields(&[("provider", Utf8), ("options", map_type())]);
    let meta_data = fields(&[
        ("id", Utf8),
        ("name", Utf8),
        ("description", Utf8),
        ("format", Struct(format.clone())),
        ("schemaString", Utf8),
        ("partitionColumns", list_type()),
        ("configuration", map_type()),
        ("createdTime", Int64),
    ]);
    let protocol = fields(&[("minReaderVersion", Int32), ("minWriterVersion", Int32)]);
    let top = [
        ("txn", Struct(txn.clone())),
        ("add", Struct(add.clone())),
        ("remove", Struct(remove.clone())),
        ("metaData", Struct(meta_data.clone())),
        ("protocol", Struct(protocol.clone())),
    ];
    let schema = Arc::new(Schema::new(fields(&top)));
    Parts { txn, add, remove, format, meta_data, protocol, schema }
});

/// The schema of a checkpoint.
pub(crate) fn schema() -> SchemaRef {
    PARTS.schema.clone()
}

fn batch(rows: usize, named: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, StoreError> {
    let schema = schema();
    let column = |f: &Arc<Field>| {
        let found = named.iter().find(|(name, _)| name == f.name());
        found.map_or_else(|| new_null_array(f.data_type(), rows), |(_, array)| array.clone())
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(schema, columns).map_err(|e| StoreError::Rows(e.to_string()))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn longs(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn flags(values: impl Iterator<Item = Option<bool>>) -> ArrayRef {
    Arc::new(values.collect::<BooleanArray>())
}

fn maps<'a>(values: impl Iterator<Item = Option<Vec<(&'a str, Option<&'a str>)>>>) -> Result<ArrayRef, StoreError> {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for map in values {
        for (key, value) in map.iter().flatten() {
            maps.keys().append_value(key);
            maps.values().append_option(*value);
        }
        maps.append(map.is_some()).map_err(|e| StoreError::Rows(e.to_string()))?;
    }
    Ok(Arc::new(maps.finish()))
}

fn nullable(map: &NullableText) -> Vec<(&str, Option<&str>)> {
    map.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect()
}

fn structs(fields: &Fields, columns: Vec<ArrayRef>) -> Result<ArrayRef, StoreError> {
    let array = StructArray::try_new(fields.clone(), columns, None).map_err(|e| StoreError::Rows(e.to_string()))?;
    Ok(Arc::new(array))
}

/// Rows of files.
pub(crate) fn adds(of: &[Add]) -> Result<RecordBatch, StoreError> {
    let columns = vec![
        texts(of.iter().map(|a| Some(&*a.path))),
        maps(of.iter().map(|a| Some(nullable(&a.partition_values))))?,
        longs(of.iter().map(|a| Some(a.size as i64))),
        longs(of.iter().map(|a| Some(a.modification_time))),
        // Nothing changes by being in a checkpoint.
        flags(of.iter().map(|_| Some(false))),
        maps(of.iter().map(|a| a.tags.as_ref().map(nullable)))?,
        texts(of.iter().map(|a| a.stats.as_deref())),
    ];
    batch(of.len(), vec![("add", structs(&PARTS.add, columns)?)])
}

/// Rows of files that are no more.
pub(crate) fn removes(of: &[Remove]) -> Result<RecordBatch, StoreError> {
    let columns = vec![
        texts(of.iter().map(|r| Some(&*r.path))),
        longs(of.iter().map(|r| r.deletion_timestamp)),
        flags(of.iter().map(|_| Some(false))),
        flags(of.iter().map(|r| r.extended_file_metadata)),
        maps(of.iter().map(|r| r.partition_values.as_ref().map(nullable)))?,
        longs(of.iter().map(|r| r.size.map(|s| s as i64))),
        maps(of.iter().map(|r| r.tags.as_ref().map(nullable)))?,
    ];
    batch(of.len(), vec![("remove", structs(&PARTS.remove, columns)?)])
}

/// What the table is: its protocol, schema and transactions, as a batch of each.
pub(crate) fn front(protocol: &Protocol, meta: &MetaData, txns: &[Txn]) -> Result<Vec<RecordBatch>, StoreError> {
    let int = |n| -> ArrayRef { Arc::new(Int32Array::from(vec![n])) };
    let versions = vec![int(protocol.min_reader_version), int(protocol.min_writer_version)];
    let text = |t: Option<&str>| texts(std::iter::once(t));
    let map = |m: &super::action::Text| {
        maps(std::iter::once(Some(m.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))).collect())))
    };
    let element = Field::new("element", DataType::Utf8, true);
    let mut partitions = ListBuilder::new(StringBuilder::new()).with_field(element);
    partitions.append_value(meta.partition_columns.iter().map(Some));
    let format = vec![text(Some(&meta.format.provider)), map(&meta.format.options)?];
    let table = vec![
        text(Some(&meta.id)),
        text(meta.name.as_deref()),
        text(meta.description.as_deref()),
        structs(&PARTS.format, format)?,
        text(Some(&meta.schema_string)),
        Arc::new(partitions.finish()),
        map(&meta.configuration)?,
        longs(std::iter::once(meta.created_time)),
    ];
    let transactions = vec![
        texts(txns.iter().map(|t| Some(&*t.app_id))),
        longs(txns.iter().map(|t| Some(t.version))),
        longs(txns.iter().map(|t| t.last_updated)),
    ];
    let mut batches = vec![
        batch(1, vec![("protocol", structs(&PARTS.protocol, versions)?)])?,
        batch(1, vec![("metaData", structs(&PARTS.meta_data, table)?)])?,
    ];
    if !txns.is_empty() {
        batches.push(batch(txns.len(), vec![("txn", structs(&PARTS.txn, transactions)?)])?);
    }
    Ok(batches)
}

/// One kind of action in a batch, whoever wrote it: columns are found by name, absent ones are null.
struct Rows<'a>(&'a StructArray);

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch, action: &str) -> Option<Rows<'a>> {
        Some(Rows(batch.column_by_name(action)?.as_struct_opt()?))
    }

    /// The rows that are of this action.
    fn rows(&self) -> impl Iterator<Item = usize> + use<'a> {
        let array = self.0;
        (0..array.len()).filter(move |&i| array.is_valid(i))
    }

    fn texts(&self, name: &str) -> Option<&'a StringArray> {
        self.0.column_by_name(name)?.as_string_opt()
    }

    fn text(&self, name: &str, row: usize) -> Option<&'a str> {
        self.texts(name).filter(|a| a.is_valid(row)).map(|a| a.value(row))
    }

    fn must<T>(value: Option<T>) -> Result<T, StoreError> {
        value.ok_or_else(|| Damage::Bounds("an action of a checkpoint").into())
    }

    fn long(&self, name: &str, row: usize) -> Option<i64> {
        let array = self.0.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
        array.is_valid(row).then(|| array.value(row))
    }

    fn size(&self, row: usize) -> Option<u64> {
        self.long("size", row).and_then(|n| u64::try_from(n).ok())
    }

    fn int(&self, name: &str, row: usize) -> Option<i32> {
        let array = self.0.column_by_name(name)?.as_primitive_opt::<Int32Type>()?;
        array.is_valid(row).then(|| array.value(row))
    }

    fn flag(&self, name: &str, row: usize) -> Option<bool> {
        let array = self.0.column_by_name(name)?.as_boolean_opt()?;
        array.is_valid(row).then(|| array.value(row))
    }

    fn maps(&self, name: &str) -> Option<Maps<'a>> {
        Maps::of(self.0.column_by_name(name)?.as_map_opt()?)
    }

    fn map(&self, name: &str, row: usize) -> Option<NullableText> {
        let pairs = self.maps(name)?.row(row)?;
        Some(pairs.map(|(k, v)| (k.to_owned(), v.map(str::to_owned))).collect())
    }

    fn inner(&self, name: &str) -> Option<Rows<'a>> {
        Some(Rows(self.0.column_by_name(name)?.as_struct_opt()?))
    }
}

/// A column of maps of text.
struct Maps<'a> {
    maps: &'a MapArray,
    keys: &'a StringArray,
    values: &'a StringArray,
}

impl<'a> Maps<'a> {
    fn of(maps: &'a MapArray) -> Option<Maps<'a>> {
        Some(Maps { maps, keys: maps.keys().as_string_opt()?, values: maps.values().as_string_opt()? })
    }

    fn row(&self, row: usize) -> Option<impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a>> {
        let (maps, keys, values) = (self.maps, self.keys, self.values);
        maps.is_valid(row).then(|| {
            let offsets = maps.value_offsets();
            let pairs = offsets[row] as usize..offsets[row + 1] as usize;
            pairs.map(move |i| (keys.value(i), values.is_valid(i).then(|| values.value(i))))
        })
    }

    fn value(&self, row: usize, key: impl Fn(&str) -> bool) -> Option<&'a str> {
        self.row(row)?.find(|(k, _)| key(k)).and_then(|(_, v)| v)
    }
}

/// The files in a batch as plans know them.
pub(crate) fn read_entries(batch: &RecordBatch, into: &mut Vec<Entry>) -> Result<(), StoreError> {
    let Some(rows) = Rows::of(batch, "add") else { return Ok(()) };
    let (tags, partitions) = (rows.maps("tags"), rows.maps("partitionValues"));
    for row in rows.rows() {
        let path = Rows::must(rows.text("path", row))?.into();
        let bytes = Rows::must(rows.size(row))?;
        let tag = tags.as_ref().and_then(|maps| maps.value(row, is_tag));
        let date = partitions.as_ref().and_then(|maps| maps.value(row, |key| key == PARTITION));
        let known = Known::of(tag, date, || rows.text("stats", row).and_then(stats::rows_of));
        into.push(Entry { path, bytes, known });
    }
    Ok(())
}

/// The files in a batch, whole.
pub(crate) fn read_adds(batch: &RecordBatch, into: &mut Vec<Add>) -> Result<(), StoreError> {
    let Some(rows) = Rows::of(batch, "add") else { return Ok(()) };
    for row in rows.rows() {
        into.push(Add {
            path: Rows::must(rows.text("path", row))?.to_owned(),
            partition_values: rows.map("partitionValues", row).unwrap_or_default(),
            size: Rows::must(rows.size(row))?,
            modification_time: rows.long("modificationTime", row).unwrap_or(0),
            data_change: false,
            stats: rows.text("stats", row).map(str::to_owned),
            tags: rows.map("tags", row),
        });
    }
    Ok(())
}

/// The removed files in a batch.
pub(crate) fn read_removes(batch: &RecordBatch, into: &mut Vec<Remove>) -> Result<(), StoreError> {
    let Some(rows) = Rows::of(batch, "remove") else { return Ok(()) };
    for row in rows.rows() {
        into.push(Remove {
            path: Rows::must(rows.text("path", row))?.to_owned(),
            deletion_timestamp: rows.long("deletionTimestamp", row),
            data_change: false,
            extended_file_metadata: rows.flag("extendedFileMetadata", row),
            partition_values: rows.map("partitionValues", row),
            size: rows.size(row),
            tags: rows.map("tags", row),
        });
    }
    Ok(())
}

/// What the table is, as far as a batch says it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Front {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) meta_data: Option<MetaData>,
    pub(crate) txns: Vec<Txn>,
}

impl Front {
    pub(crate) fn read(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        if let Some(rows) = Rows::of(batch, "protocol") {
            for row in rows.rows() {
                let (reader, writer) = (rows.int("minReaderVersion", row), rows.int("minWriterVersion", row));
                let (min_reader_version, min_writer_version) = (Rows::must(reader)?, Rows::must(writer)?);
                self.protocol = Some(Protocol { min_reader_version, min_writer_version });
            }
        }
        if let Some(rows) = Rows::of(batch, "txn") {
            for row in rows.rows() {
                let (app_id, version) = (rows.text("appId", row), rows.long("version", row));
                self.txns.push(Txn {
                    app_id: Rows::must(app_id)?.to_owned(),
                    version: Rows::must(version)?,
                    last_updated: rows.long("lastUpdated", row),
                });
            }
        }
        let Some(rows) = Rows::of(batch, "metaData") else { return Ok(()) };
        for row in rows.rows() {
            self.meta_data = Some(read_meta(&rows, row)?);
        }
        Ok(())
    }
}

fn read_meta(rows: &Rows<'_>, row: usize) -> Result<MetaData, StoreError> {
    let present = |map: Option<NullableText>| -> super::action::Text {
        map.unwrap_or_default().into_iter().filter_map(|(k, v)| Some((k, v?))).collect()
    };
    let format = Rows::must(rows.inner("format"))?;
    let partitions = rows.0.column_by_name("partitionColumns").and_then(|a| a.as_list_opt::<i32>());
    let partitions = Rows::must(partitions.filter(|a| a.is_valid(row)))?.value(row);
    let partitions = Rows::must(partitions.as_string_opt::<i32>())?;
    Ok(MetaData {
        id: Rows::must(rows.text("id", row))?.to_owned(),
        name: rows.text("name", row).map(str::to_owned),
        description: rows.text("description", row).map(str::to_owned),
        format: Format {
            provider: Rows::must(format.text("provider", row))?.to_owned(),
            options: present(format.map("options", row)),
        },
        schema_string: Rows::must(rows.text("schemaString", row))?.to_owned(),
        partition_columns: partitions.iter().flatten().map(str::to_owned).collect(),
        configuration: present(rows.map("configuration", row)),
        created_time: rows.long("createdTime", row),
    })
}
