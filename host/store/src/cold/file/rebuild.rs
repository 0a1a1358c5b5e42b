//! The columns of a row group become the tables of ADR 0001 again: interned rows by the row numbers, children out of lists, the
//! tail out of maps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, StringArray, StringBuilder, UInt8Array, UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatchReader;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::Encoding;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use prism_model::value::write_string;
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind, Value};

use super::damaged;
use super::meta::{FileMeta, GroupMeta};
use super::nested::Values;
use super::rows::{INTERNED, is_index};
use crate::cold::schema::{ChildField, Outside, child_fields};
use crate::error::{Damage, StoreError};

/// Which leaf of the Parquet schema belongs to what.
pub(super) struct Shape {
    tops: Vec<Top>,
    /// All columns in their plain types.
    plain: Result<Schema, String>,
}

/// A top-level column that is known.
struct Top {
    what: Outside,
    place: usize,
    /// Leaves: number, and the field of a child that it belongs to.
    leaves: Vec<(usize, Option<ChildField>)>,
}

impl Shape {
    pub(super) fn of(meta: &FileMeta, parquet: &ParquetMetaData) -> Shape {
        let mut known: HashMap<String, Outside> = HashMap::new();
        let mut know = |what: Outside| {
            known.insert(what.name(), what);
        };
        for table in meta.groups.iter().flat_map(|g| &g.tables) {
            let flat = table.kind == TableKind::Items || INTERNED.iter().any(|(kind, _)| *kind == table.kind);
            for column in table.columns.iter().filter(|c| flat && !is_index(&c.id)) {
                know(Outside::Column(table.kind, column.id.clone()));
            }
        }
        for kind in [TableKind::Events, TableKind::Links, TableKind::Exemplars] {
            know(Outside::Children(kind));
        }
        for kind in [TableKind::Resources, TableKind::Scopes, TableKind::Descriptors, TableKind::Items] {
            if kind != TableKind::Items {
                know(Outside::Pointer(kind));
            }
            AttrType::ALL.into_iter().for_each(|ty| know(Outside::Tail(kind, ty)));
            know(Outside::Repeated(kind));
        }
        let descriptor = parquet.file_metadata().schema_descr();
        let mut tops: BTreeMap<usize, Top> = BTreeMap::new();
        for leaf in 0..descriptor.num_columns() {
            let path = descriptor.column(leaf).path().clone();
            let Some(what) = path.parts().first().and_then(|name| known.get(name)) else { continue };
            let place = descriptor.get_column_root_idx(leaf);
            let field = match what {
                Outside::Children(kind) => {
                    let name = path.parts().get(3);
                    child_fields(*kind).into_iter().find(|(_, f)| Some(f.name()) == name).map(|(field, _)| field)
                }
                _ => None,
            };
            let top = tops.entry(place).or_insert_with(|| Top { what: what.clone(), place, leaves: Vec::new() });
            top.leaves.push((leaf, field));
        }
        let plain = parquet_to_arrow_schema(descriptor, None).map_err(|e| e.to_string());
        Shape { tops: tops.into_values().collect(), plain }
    }

    /// The leaves that have to be read of a row group.
    pub(super) fn wanted(&self, own: &GroupMeta, parquet: &[ColumnChunkMetaData], want: Want<'_>) -> Vec<usize> {
        let mut leaves = Vec::new();
        let has = |kind, id: &ColumnId| own.table(kind).is_some_and(|t| t.columns.iter().any(|c| c.id == *id));
        let tail = own.table(TableKind::Tail).is_some() && wants_tail(want);
        for top in &self.tops {
            let all = top.leaves.iter().map(|(leaf, _)| *leaf);
            match &top.what {
                Outside::Timestamp => {}
                // One row is pointed to by all.
                Outside::Pointer(kind) if own.table(*kind).is_some_and(|t| t.rows > 1) && asked(own, *kind, want) => {
                    leaves.extend(all);
                }
                Outside::Pointer(_) => {}
                Outside::Column(kind, id) if want(*kind, id) && has(*kind, id) => leaves.extend(all),
                Outside::Column(..) => {}
                Outside::Tail(..) | Outside::Repeated(_) if tail => leaves.extend(all),
                Outside::Tail(..) | Outside::Repeated(_) => {}
                Outside::Children(kind) => {
                    let Some(table) = own.table(*kind).filter(|_| asked(own, *kind, want)) else { continue };
                    let picked: Vec<usize> =
                        top.leaves
                            .iter()
                            .filter(|(_, field)| match field {
                                Some(ChildField::Fixed(i)) => has(*kind, &(*i).into()) && want(*kind, &(*i).into()),
                                Some(ChildField::Attributes(of)) => table.columns.iter().any(|c| {
                                    matches!(&c.id, ColumnId::Attr { ty, .. } if ty == of) && want(*kind, &c.id)
                                }),
                                Some(ChildField::Repeated) => tail,
                                None => false,
                            })
                            .map(|(leaf, _)| *leaf)
                            .collect();
                    // The lists' lengths stand in each leaf: the smallest of a fixed column tells them where none is wanted.
                    let fixed = top.leaves.iter().filter(|(_, f)| matches!(f, Some(ChildField::Fixed(_))));
                    let least = fixed
                        .map(|(leaf, _)| *leaf)
                        .min_by_key(|leaf| parquet.get(*leaf).map_or(0, |c| c.byte_range().1));
                    leaves.extend(if picked.is_empty() { least.into_iter().collect() } else { picked });
                }
            }
        }
        leaves
    }

    /// The types to read a row group in: text as a dictionary where it is one all through.
    pub(super) fn arrow(&self, parquet: &ParquetMetaData, group: usize) -> Result<SchemaRef, StoreError> {
        let plain = self.plain.as_ref().map_err(damaged)?;
        let mut fields: Vec<Arc<Field>> = plain.fields().iter().cloned().collect();
        let dictionary = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
        for top in &self.tops {
            let ([(leaf, _)], Some(field)) = (&top.leaves[..], fields.get_mut(top.place)) else { continue };
            if *field.data_type() == DataType::Utf8 && is_dictionary(parquet.row_group(group).column(*leaf)) {
                *field = Arc::new(Field::new(field.name(), dictionary.clone(), field.is_nullable()));
            }
        }
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// Which columns are asked for.
pub(super) type Want<'a> = &'a dyn Fn(TableKind, &ColumnId) -> bool;

fn wants_tail(want: Want<'_>) -> bool {
    [Intrinsic::Key, Intrinsic::Value].iter().any(|i| want(TableKind::Tail, &(*i).into()))
}

/// Whether anything of a table is asked for, or which of its rows others belong to. What is in the tail may be of any.
fn asked(own: &GroupMeta, kind: TableKind, want: Want<'_>) -> bool {
    let pointer = INTERNED.iter().find(|(of, _)| *of == kind);
    let mut columns = own.table(kind).into_iter().flat_map(|table| &table.columns);
    pointer.is_some_and(|(_, pointer)| want(TableKind::Items, &(*pointer).into()))
        || columns.any(|column| want(kind, &column.id))
        || (own.table(TableKind::Tail).is_some() && wants_tail(want))
}

/// Whether all data pages of a chunk hold numbers of its dictionary.
pub(super) fn is_dictionary(chunk: &ColumnChunkMetaData) -> bool {
    #[allow(deprecated)]
    let encoded = |e: &Encoding| matches!(e, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
    match (chunk.page_encoding_stats_mask(), chunk.page_encoding_stats()) {
        (Some(mask), _) => mask.encodings().all(|e| encoded(&e)),
        (None, Some(stats)) => stats
            .iter()
            .filter(|s| {
                matches!(s.page_type, parquet::basic::PageType::DATA_PAGE | parquet::basic::PageType::DATA_PAGE_V2)
            })
            .all(|s| encoded(&s.encoding)),
        (None, None) => false,
    }
}

/// The columns that a reader gives, by name.
pub(super) fn columns(
    mut reader: impl RecordBatchReader,
    rows: usize,
) -> Result<HashMap<String, ArrayRef>, StoreError> {
    let batch = reader.next().ok_or(Damage::Short("row group"))?.map_err(damaged)?;
    if batch.num_rows() != rows || reader.next().is_some() {
        return Err(Damage::Bounds("rows of a row group").into());
    }
    let schema = batch.schema();
    Ok(schema.fields().iter().zip(batch.columns()).map(|(f, a)| (f.name().clone(), a.clone())).collect())
}

/// One attribute of the tail.
struct Entry {
    of: TableKind,
    parent: u32,
    key: String,
    text: String,
}

/// The tables of a row group, or of some `rows` of it, out of the columns that were read of these.
pub(super) fn batch(
    signal: Signal,
    origins: Vec<Origin>,
    own: &GroupMeta,
    rows: usize,
    columns: HashMap<String, ArrayRef>,
    want: Want<'_>,
) -> Result<Batch, StoreError> {
    // How many rows other tables have is known of all rows only.
    let whole = rows == own.rows;
    let mut tables = Vec::new();
    let mut items = Vec::new();
    let mut entries = Vec::new();
    let tail = own.table(TableKind::Tail).filter(|_| wants_tail(want));
    for (kind, pointer) in INTERNED {
        let Some(table) = own.table(kind).filter(|_| asked(own, kind, want)) else { continue };
        let (first, pointers) = interned(columns.get(&Outside::Pointer(kind).name()), rows, table.rows, whole)?;
        if let Some(pointers) = pointers {
            items.push(Column { id: pointer.into(), array: Arc::new(pointers) });
        }
        let mut of_table = Vec::new();
        for meta in table.columns.iter().filter(|c| want(kind, &c.id)) {
            let array = columns.get(&Outside::Column(kind, meta.id.clone()).name()).ok_or(Damage::Short("columns"))?;
            let array = cast(&take(array, &first, None).map_err(damaged)?, &meta.id.data_type()).map_err(damaged)?;
            of_table.push(Column { id: meta.id.clone(), array });
        }
        tables.push(Table::try_new(kind, first.len(), of_table).map_err(damaged)?);
        if tail.is_some() {
            for (parent, row) in first.values().iter().enumerate() {
                tail_of(kind, *row as usize, parent as u32, &columns, &mut entries)?;
            }
        }
    }
    for meta in own.table(TableKind::Items).iter().flat_map(|t| &t.columns) {
        if is_index(&meta.id) || !want(TableKind::Items, &meta.id) {
            continue;
        }
        let name = Outside::Column(TableKind::Items, meta.id.clone()).name();
        let array = columns.get(&name).ok_or(Damage::Short("columns"))?;
        let array = match array.data_type() {
            DataType::Dictionary(..) => array.clone(),
            _ => cast(array, &meta.id.data_type()).map_err(damaged)?,
        };
        items.push(Column { id: meta.id.clone(), array });
    }
    tables.push(Table::try_new(TableKind::Items, rows, items).map_err(damaged)?);
    if tail.is_some() {
        for row in 0..rows {
            tail_of(TableKind::Items, row, row as u32, &columns, &mut entries)?;
        }
    }
    for kind in [TableKind::Events, TableKind::Links, TableKind::Exemplars] {
        let Some(meta) = own.table(kind).filter(|_| asked(own, kind, want)) else { continue };
        let list = columns.get(&Outside::Children(kind).name()).and_then(|a| a.as_list_opt::<i32>());
        let list = list.ok_or(Damage::Short("columns"))?;
        let table = children(kind, list, meta.columns.iter().map(|c| &c.id), want, tail.is_some(), &mut entries)?;
        if whole && table.rows() != meta.rows {
            return Err(Damage::Bounds("rows of a table").into());
        }
        tables.push(table);
    }
    if let Some(meta) = tail {
        if whole && entries.len() != meta.rows {
            return Err(Damage::Bounds("rows of the tail").into());
        }
        tables.push(tail_table(&entries, want)?);
    }
    Batch::try_new(signal, origins, tables).map_err(damaged)
}

/// For each row of the table an item that points to it, and the pointers as row numbers of this table. Of `whole` row groups the
/// table has the expected rows, of some of their rows those that these point to.
fn interned(
    pointers: Option<&ArrayRef>,
    rows: usize,
    expected: usize,
    whole: bool,
) -> Result<(UInt32Array, Option<UInt32Array>), StoreError> {
    let Some(pointers) = pointers else {
        return if expected == 1 && rows > 0 {
            Ok((UInt32Array::from(vec![0]), None))
        } else {
            Err(Damage::Short("columns").into())
        };
    };
    let pointers = pointers.as_primitive_opt::<Int32Type>().ok_or(Damage::Bounds("row number"))?;
    // Few distinct ones in long runs.
    let mut runs: Vec<(i32, usize)> = Vec::new();
    let mut first: BTreeMap<i32, u32> = BTreeMap::new();
    for (row, &pointer) in pointers.values().iter().enumerate() {
        match runs.last_mut() {
            Some((last, len)) if *last == pointer => *len += 1,
            _ => {
                first.entry(pointer).or_insert(row as u32);
                runs.push((pointer, 1));
            }
        }
    }
    if whole && first.len() != expected {
        return Err(Damage::Bounds("rows of a table").into());
    }
    let numbers: HashMap<i32, u32> = first.keys().enumerate().map(|(i, p)| (*p, i as u32)).collect();
    let mut local = Vec::with_capacity(rows);
    for (pointer, len) in runs {
        let number = numbers.get(&pointer).copied().unwrap_or_default();
        local.resize(local.len() + len, number);
    }
    Ok((UInt32Array::from_iter_values(first.into_values()), Some(local.into())))
}

/// The attributes of a row that are in its table's maps and pairs.
fn tail_of(
    of: TableKind,
    row: usize,
    parent: u32,
    columns: &HashMap<String, ArrayRef>,
    entries: &mut Vec<Entry>,
) -> Result<(), StoreError> {
    for ty in AttrType::ALL {
        if let Some(map) = columns.get(&Outside::Tail(of, ty).name()) {
            let map = map.as_map_opt().ok_or(Damage::Bounds("map of attributes"))?;
            for i in map_range(map, row) {
                let text = text_of(ty, map.values(), i).ok_or(Damage::Bounds("value of a map"))?;
                entries.push(Entry { of, parent, key: key_of(map.keys(), i)?, text });
            }
        }
    }
    if let Some(pairs) = columns.get(&Outside::Repeated(of).name()) {
        let list = pairs.as_list_opt::<i32>().ok_or(Damage::Bounds("pairs of attributes"))?;
        pairs_of(of, list, row, parent, entries)?;
    }
    Ok(())
}

fn pairs_of(
    of: TableKind,
    list: &ListArray,
    row: usize,
    parent: u32,
    entries: &mut Vec<Entry>,
) -> Result<(), StoreError> {
    if list.is_null(row) {
        return Ok(());
    }
    let pairs = list.values().as_struct_opt().ok_or(Damage::Bounds("pairs of attributes"))?;
    let column = |name| pairs.column_by_name(name).ok_or(Damage::Bounds("pairs of attributes"));
    let (keys, values) = (column("key")?, column("value")?);
    let offsets = list.value_offsets();
    for i in offsets[row] as usize..offsets[row + 1] as usize {
        entries.push(Entry { of, parent, key: key_of(keys, i)?, text: key_of(values, i)? });
    }
    Ok(())
}

fn map_range(map: &MapArray, row: usize) -> std::ops::Range<usize> {
    if map.is_null(row) {
        return 0..0;
    }
    map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize
}

fn key_of(keys: &ArrayRef, i: usize) -> Result<String, StoreError> {
    let keys = keys.as_string_opt::<i32>().ok_or(Damage::Bounds("key of an attribute"))?;
    Ok(if keys.is_valid(i) { keys.value(i).to_owned() } else { String::new() })
}

/// The text form of a value in a map.
fn text_of(ty: AttrType, values: &ArrayRef, i: usize) -> Option<String> {
    Some(match ty {
        AttrType::Str => {
            let mut text = String::new();
            write_string(values.as_string_opt::<i32>()?.value(i), &mut text);
            text
        }
        AttrType::Json => values.as_string_opt::<i32>()?.value(i).to_owned(),
        AttrType::Int => Value::Int(values.as_primitive_opt::<Int64Type>()?.value(i)).to_text(),
        AttrType::Double => Value::Double(values.as_primitive_opt::<Float64Type>()?.value(i)).to_text(),
        AttrType::Bool => Value::Bool(values.as_boolean_opt()?.value(i)).to_text(),
        AttrType::Bytes => Value::Bytes(values.as_binary_opt::<i32>()?.value(i).to_vec()).to_text(),
    })
}

/// A child table out of its lists.
fn children<'a>(
    kind: TableKind,
    list: &ListArray,
    ids: impl Iterator<Item = &'a ColumnId>,
    want: Want<'_>,
    with_tail: bool,
    entries: &mut Vec<Entry>,
) -> Result<Table, StoreError> {
    let offsets = list.value_offsets();
    let mut parents = Vec::new();
    let mut picked = Vec::new();
    for item in (0..list.len()).filter(|i| list.is_valid(*i)) {
        let range = offsets[item] as u32..offsets[item + 1] as u32;
        parents.extend(range.clone().map(|_| item as u32));
        picked.extend(range);
    }
    let rows = parents.len();
    let structs = list.values();
    // Usually all of them in their order.
    let structs = if structs.len() == rows {
        structs.clone()
    } else {
        take(structs, &UInt32Array::from(picked), None).map_err(damaged)?
    };
    let structs = structs.as_struct_opt().ok_or(Damage::Bounds("list of children"))?;
    let mut columns = vec![Column { id: Intrinsic::Parent.into(), array: Arc::new(UInt32Array::from(parents)) }];
    let mut loose: BTreeMap<AttrType, Vec<&ColumnId>> = BTreeMap::new();
    for id in ids.filter(|id| !is_index(id) && want(kind, id)) {
        match id {
            ColumnId::Intrinsic(i) => {
                let array = structs.column_by_name(i.name()).ok_or(Damage::Short("columns"))?;
                columns.push(Column { id: id.clone(), array: cast(array, &i.data_type()).map_err(damaged)? });
            }
            ColumnId::Attr { ty, .. } => loose.entry(*ty).or_default().push(id),
        }
    }
    for (ty, ids) in loose {
        let map = structs.column_by_name(&format!("attributes_{}", ty.as_str())).and_then(|a| a.as_map_opt());
        let map = map.ok_or(Damage::Short("columns"))?;
        columns.extend(from_maps(ty, &ids, map)?);
    }
    if with_tail && let Some(pairs) = structs.column_by_name("attributes_repeated") {
        let list = pairs.as_list_opt::<i32>().ok_or(Damage::Bounds("pairs of attributes"))?;
        for row in 0..rows {
            pairs_of(kind, list, row, row as u32, entries)?;
        }
    }
    Table::try_new(kind, rows, columns).map_err(damaged)
}

/// Attribute columns out of the maps of their type.
fn from_maps(ty: AttrType, ids: &[&ColumnId], map: &MapArray) -> Result<Vec<Column>, StoreError> {
    let mut builders: HashMap<&str, Values> = HashMap::new();
    for id in ids {
        if let ColumnId::Attr { key, .. } = id {
            builders.insert(key, Values::new(ty));
        }
    }
    let keys = map.keys().as_string_opt::<i32>().ok_or(Damage::Bounds("key of an attribute"))?;
    let right = map.values().data_type() == &ty.data_type();
    if !right {
        return Err(Damage::Bounds("value of a map").into());
    }
    for row in 0..map.len() {
        for i in map_range(map, row) {
            if let Some(values) = builders.get_mut(keys.value(i)).filter(|v| v.len() <= row) {
                values.fill(row);
                values.push(map.values(), i);
            }
        }
    }
    let columns = ids.iter().filter_map(|id| {
        let ColumnId::Attr { key, .. } = id else { return None };
        let mut values = builders.remove(&**key)?;
        values.fill(map.len());
        Some(Column { id: (*id).clone(), array: values.finish() })
    });
    Ok(columns.collect())
}

fn tail_table(entries: &[Entry], want: Want<'_>) -> Result<Table, StoreError> {
    let text = |of: fn(&Entry) -> &str| -> ArrayRef {
        let mut builder = StringBuilder::new();
        entries.iter().for_each(|e| builder.append_value(of(e)));
        Arc::new(builder.finish()) as Arc<StringArray>
    };
    let of = UInt8Array::from_iter_values(entries.iter().map(|e| e.of as u8));
    let parents = UInt32Array::from_iter_values(entries.iter().map(|e| e.parent));
    let mut columns = vec![
        Column { id: Intrinsic::Of.into(), array: Arc::new(of) },
        Column { id: Intrinsic::Parent.into(), array: Arc::new(parents) },
    ];
    for (id, array) in [(Intrinsic::Key, text(|e| &e.key)), (Intrinsic::Value, text(|e| &e.text))] {
        if want(TableKind::Tail, &id.into()) {
            columns.push(Column { id: id.into(), array });
        }
    }
    Table::try_new(TableKind::Tail, entries.len(), columns).map_err(damaged)
}
