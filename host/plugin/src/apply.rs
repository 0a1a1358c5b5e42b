//! Puts changes into a batch: columns rebuilt, dictionaries kept distinct, documents rewritten, keys renamed.
//!
//! Nothing of an old value stays behind: a column with a change gets new buffers, and every buffer holds only what its rows
//! show (dictionaries: what was offered to the redactor).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, DictionaryArray, Float64Array, Int64Array, StringArray, StringBuilder,
    UInt8Array, UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt8Type, UInt32Type};
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Table, TableKind, Value};

use crate::change::Change;
use crate::leaves::{Inside, rewrite};
use crate::source::{Inner, Sources, Target};

/// Changes by entry, ascending.
type ByEntry = BTreeMap<u32, Change>;

/// Changes of one batch, collected call by call: for each source its entries.
#[derive(Default)]
pub(crate) struct Changes {
    by_source: HashMap<u32, ByEntry>,
}

impl Changes {
    pub(crate) fn insert(&mut self, source: u32, entry: u32, change: Change) {
        self.by_source.entry(source).or_default().insert(entry, change);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_source.is_empty()
    }
}

/// A row of the tail.
struct TailRow {
    of: u8,
    parent: u32,
    key: String,
    value: String,
}

/// The batch with its changes.
///
/// # Errors
/// Arrow's, where a column passes 2 GiB.
pub(crate) fn apply(batch: Batch, sources: &Sources, changes: Changes) -> Result<Batch, String> {
    if changes.is_empty() {
        return Ok(batch);
    }
    let mut columns: HashMap<(TableKind, usize), ByEntry> = HashMap::new();
    let mut keys: HashMap<TableKind, HashMap<Arc<str>, Option<String>>> = HashMap::new();
    let mut tail_keys: HashMap<u32, Change> = HashMap::new();
    let mut inside: BTreeMap<u32, Inside> = BTreeMap::new();
    for (number, by_entry) in changes.by_source {
        let Some(source) = sources.list.get(number as usize) else { continue };
        match &source.target {
            Target::Column { table, column } => columns.entry((*table, *column)).or_default().extend(by_entry),
            Target::Keys { table, keys: names } => {
                let renamed = keys.entry(*table).or_default();
                for (entry, change) in by_entry {
                    let new = if let Change::Text(new) = change { Some(new) } else { None };
                    renamed.insert(names[entry as usize].clone(), new);
                }
            }
            Target::TailKeys { rows } => tail_keys.extend(by_entry.into_iter().map(|(e, c)| (rows[e as usize], c))),
            Target::Leaves(inner) => into_docs(&mut inside, by_entry, inner, |i| &mut i.leaves),
            Target::MapKeys(inner) => into_docs(&mut inside, by_entry, inner, |i| &mut i.keys),
        }
    }
    let mut dropped_tail = Vec::new();
    for (number, inside) in inside {
        let doc = &sources.docs[number as usize];
        let is_leaf = !matches!(doc.value, Value::Array(_) | Value::Map(_));
        if doc.table == TableKind::Tail && is_leaf && inside.leaves.values().any(|c| *c == Change::Clear) {
            dropped_tail.push(doc.entry);
            continue;
        }
        let text = rewrite(&doc.value, &inside).to_text();
        columns.entry((doc.table, doc.column)).or_default().insert(doc.entry, Change::Text(text));
    }
    rebuild(batch, columns, keys, tail_keys, dropped_tail)
}

fn into_docs(
    docs: &mut BTreeMap<u32, Inside>,
    by_entry: ByEntry,
    inner: &[Inner],
    side: impl Fn(&mut Inside) -> &mut HashMap<u32, Change>,
) {
    for (entry, change) in by_entry {
        let (doc, number) = inner[entry as usize];
        side(docs.entry(doc).or_default()).insert(number, change);
    }
}

fn rebuild(
    batch: Batch,
    mut columns: HashMap<(TableKind, usize), ByEntry>,
    mut keys: HashMap<TableKind, HashMap<Arc<str>, Option<String>>>,
    tail_keys: HashMap<u32, Change>,
    dropped_tail: Vec<u32>,
) -> Result<Batch, String> {
    let (signal, origins) = (batch.signal, batch.origins.clone());
    let mut tables = Vec::new();
    let mut moved_to_tail: Vec<TailRow> = Vec::new();
    let mut tail = None;
    for table in batch.into_tables() {
        let (kind, rows) = (table.kind(), table.rows());
        let mut kept = Vec::new();
        for (i, column) in table.into_columns().into_iter().enumerate() {
            let array = match columns.remove(&(kind, i)) {
                Some(by_entry) => change_column(&column.array, &by_entry)?,
                None => column.array,
            };
            // A column that holds only its default is left out; those of the tail are always there.
            if kind == TableKind::Tail || array.is_empty() || array.logical_null_count() < array.len() {
                kept.push(Column { id: column.id, array });
            }
        }
        if let Some(renamed) = keys.remove(&kind) {
            kept = rename(kind, rows, kept, &renamed, &mut moved_to_tail)?;
        }
        let table = Table::try_new(kind, rows, kept).map_err(|e| e.to_string())?;
        if kind == TableKind::Tail { tail = Some(table) } else { tables.push(table) }
    }
    if !tail_keys.is_empty() || !dropped_tail.is_empty() || !moved_to_tail.is_empty() {
        tail = Some(rebuild_tail(tail.as_ref(), &tail_keys, &dropped_tail, moved_to_tail)?);
    }
    tables.extend(tail);
    Batch::try_new(signal, origins, tables).map_err(|e| e.to_string())
}

fn change_column(array: &ArrayRef, by_entry: &ByEntry) -> Result<ArrayRef, String> {
    if let Some(dictionary) = array.as_dictionary_opt::<UInt32Type>() {
        return change_dictionary(dictionary, by_entry);
    }
    match array.data_type() {
        DataType::Utf8 => Ok(Arc::new(change_texts(array.as_string(), by_entry))),
        DataType::Int64 => {
            let old = array.as_primitive::<Int64Type>().iter().enumerate();
            Ok(Arc::new(
                old.map(|(i, old)| match by_entry.get(&(i as u32)) {
                    None => old,
                    Some(Change::Int(new)) => Some(*new),
                    Some(_) => None,
                })
                .collect::<Int64Array>(),
            ))
        }
        DataType::Float64 => {
            let old = array.as_primitive::<Float64Type>().iter().enumerate();
            Ok(Arc::new(
                old.map(|(i, old)| match by_entry.get(&(i as u32)) {
                    None => old,
                    Some(Change::Double(new)) => Some(*new),
                    Some(_) => None,
                })
                .collect::<Float64Array>(),
            ))
        }
        DataType::Binary => {
            let mut out = BinaryBuilder::new();
            for (i, old) in array.as_binary::<i32>().iter().enumerate() {
                match by_entry.get(&(i as u32)) {
                    None => out.append_option(old),
                    Some(Change::Bytes(new)) => out.append_value(new),
                    Some(_) => out.append_null(),
                }
            }
            Ok(Arc::new(out.finish()))
        }
        other => Err(format!("a column of {other} cannot be edited")),
    }
}

fn change_texts(old: &StringArray, by_entry: &ByEntry) -> StringArray {
    let span = old.value_offsets()[old.len()] - old.value_offsets()[0];
    let mut out = StringBuilder::with_capacity(old.len(), span as usize);
    for (i, old) in old.iter().enumerate() {
        match by_entry.get(&(i as u32)) {
            None => out.append_option(old),
            Some(Change::Text(new)) => out.append_value(new),
            Some(_) => out.append_null(),
        }
    }
    out.finish()
}

/// New values, which stay distinct: two that became equal become one entry.
fn change_dictionary(dictionary: &DictionaryArray<UInt32Type>, by_entry: &ByEntry) -> Result<ArrayRef, String> {
    let values = change_texts(dictionary.values().as_string(), by_entry);
    let mut numbers: HashMap<&str, u32> = HashMap::with_capacity(values.len());
    let mut distinct = StringBuilder::new();
    let mut new_key = Vec::with_capacity(values.len());
    for value in &values {
        new_key.push(value.map(|value| {
            let next = numbers.len() as u32;
            *numbers.entry(value).or_insert_with(|| {
                distinct.append_value(value);
                next
            })
        }));
    }
    let keys: UInt32Array = dictionary.keys().iter().map(|k| k.and_then(|k| new_key[k as usize])).collect();
    let array = DictionaryArray::try_new(keys, Arc::new(distinct.finish())).map_err(|e| e.to_string())?;
    Ok(Arc::new(array))
}

/// Renames and drops the columns of keys. Where two columns come to have one name they become one; a row that has a value in
/// both keeps the one that had the name before (or came first), the other goes to the tail.
fn rename(
    table: TableKind,
    rows: usize,
    columns: Vec<Column>,
    renamed: &HashMap<Arc<str>, Option<String>>,
    tail: &mut Vec<TailRow>,
) -> Result<Vec<Column>, String> {
    let (mut kept, mut moving) = (Vec::with_capacity(columns.len()), Vec::new());
    for column in columns {
        match &column.id {
            ColumnId::Attr { key, ty } if renamed.contains_key(key) => {
                if let Some(new) = &renamed[key] {
                    moving.push(Column { id: ColumnId::attr(new.as_str(), *ty), array: column.array });
                }
            }
            _ => kept.push(column),
        }
    }
    // In the order of old keys, the order of columns means nothing.
    for column in moving {
        match kept.iter_mut().find(|c| c.id == column.id) {
            None => kept.push(column),
            Some(there) => there.array = merge(table, rows, there, &column, tail)?,
        }
    }
    // Siblings: a record has one attribute of a key, whatever its type. A renamed key may bring a second one.
    let targets: std::collections::BTreeSet<&str> = renamed.values().flatten().map(String::as_str).collect();
    for target in targets {
        part_siblings(table, rows, &mut kept, target, tail)?;
    }
    Ok(kept)
}

/// Moves to the tail what stands in a second sibling of a key.
fn part_siblings(
    table: TableKind,
    rows: usize,
    columns: &mut Vec<Column>,
    key: &str,
    tail: &mut Vec<TailRow>,
) -> Result<(), String> {
    let of_key = |c: &Column| matches!(&c.id, ColumnId::Attr { key: k, .. } if **k == *key);
    let siblings: Vec<usize> = (0..columns.len()).filter(|&i| of_key(&columns[i])).collect();
    if siblings.len() < 2 {
        return Ok(());
    }
    let mut taken = vec![false; rows];
    for i in siblings {
        let column = columns[i].clone();
        let nulls = column.array.logical_nulls();
        let valid = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
        let clash: Vec<bool> = (0..rows).map(|row| taken[row] && valid(row)).collect();
        (0..rows).for_each(|row| taken[row] |= valid(row));
        if clash.iter().any(|c| *c) {
            for row in (0..rows).filter(|&row| clash[row]) {
                tail.push(tail_row(table, row, key, &column)?);
            }
            let kept: UInt32Array = (0..rows).map(|row| (!clash[row]).then_some(row as u32)).collect();
            columns[i].array = take_clean(&column.array, &kept)?;
        }
    }
    columns.retain(|c| rows == 0 || c.array.logical_null_count() < c.array.len());
    Ok(())
}

/// `take` that leaves no value behind that no row shows.
fn take_clean(array: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef, String> {
    let plain = match array.data_type() {
        DataType::Dictionary(..) => cast(array, &DataType::Utf8).map_err(|e| e.to_string())?,
        _ => array.clone(),
    };
    take(&plain, rows, None).map_err(|e| e.to_string())
}

fn merge(
    table: TableKind,
    rows: usize,
    there: &Column,
    more: &Column,
    tail: &mut Vec<TailRow>,
) -> Result<ArrayRef, String> {
    let plain = |c: &Column| cast(&c.array, &c.id.data_type()).map_err(|e| e.to_string());
    let (a, b) = (plain(there)?, plain(more)?);
    let mut indices = Vec::with_capacity(rows);
    for row in 0..rows {
        if a.is_valid(row) && b.is_valid(row) {
            let ColumnId::Attr { key, .. } = &more.id else { continue };
            tail.push(tail_row(table, row, key, more)?);
        }
        indices.push(if a.is_valid(row) { (0, row) } else { (1, row) });
    }
    arrow::compute::interleave(&[&a, &b], &indices).map_err(|e| e.to_string())
}

fn tail_row(table: TableKind, row: usize, key: &str, column: &Column) -> Result<TailRow, String> {
    let ColumnId::Attr { ty, .. } = &column.id else { return Err("only attributes go to the tail".into()) };
    let plain = cast(&column.array.slice(row, 1), &column.id.data_type()).map_err(|e| e.to_string())?;
    let value = match ty {
        AttrType::Str => Value::Str(plain.as_string::<i32>().value(0).to_owned()).to_text(),
        AttrType::Json => plain.as_string::<i32>().value(0).to_owned(),
        AttrType::Int => Value::Int(plain.as_primitive::<Int64Type>().value(0)).to_text(),
        AttrType::Double => Value::Double(plain.as_primitive::<Float64Type>().value(0)).to_text(),
        AttrType::Bool => Value::Bool(plain.as_boolean().value(0)).to_text(),
        AttrType::Bytes => Value::Bytes(plain.as_binary::<i32>().value(0).to_vec()).to_text(),
    };
    Ok(TailRow { of: table as u8, parent: row as u32, key: key.to_owned(), value })
}

fn rebuild_tail(
    tail: Option<&Table>,
    keys: &HashMap<u32, Change>,
    dropped: &[u32],
    moved: Vec<TailRow>,
) -> Result<Table, String> {
    let mut rows = Vec::new();
    if let Some(tail) = tail {
        let text = |i: Intrinsic| tail.intrinsic(i).and_then(|a| a.as_string_opt::<i32>());
        let of = tail.intrinsic(Intrinsic::Of).and_then(|a| a.as_primitive_opt::<UInt8Type>());
        let parents = tail.index(Intrinsic::Parent);
        let (Some(old_keys), Some(values), Some(of), Some(parents)) =
            (text(Intrinsic::Key), text(Intrinsic::Value), of, parents)
        else {
            return Err("a tail without keys, values or parents".into());
        };
        let dropped: std::collections::HashSet<u32> = dropped.iter().copied().collect();
        for row in (0..tail.rows()).filter(|&r| !dropped.contains(&(r as u32))) {
            let key = match keys.get(&(row as u32)) {
                None => old_keys.value(row).to_owned(),
                Some(Change::Text(new)) => new.clone(),
                Some(_) => continue,
            };
            let value = values.value(row).to_owned();
            rows.push(TailRow { of: of.value(row), parent: parents.value(row), key, value });
        }
    }
    rows.extend(moved);
    rows.sort_by_key(|r| (r.of, r.parent));
    let columns = vec![
        Column { id: Intrinsic::Of.into(), array: Arc::new(rows.iter().map(|r| Some(r.of)).collect::<UInt8Array>()) },
        Column {
            id: Intrinsic::Parent.into(),
            array: Arc::new(rows.iter().map(|r| Some(r.parent)).collect::<UInt32Array>()),
        },
        Column {
            id: Intrinsic::Key.into(),
            array: Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.key))),
        },
        Column {
            id: Intrinsic::Value.into(),
            array: Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.value))),
        },
    ];
    Table::try_new(TableKind::Tail, rows.len(), columns).map_err(|e| e.to_string())
}

/// Rebuilds the columns whose buffers hold more than their rows show: bytes before or behind a slice, or under a null. What
/// no row shows was shown to no redactor either, and would reach disk with the buffer.
///
/// # Errors
/// Arrow's.
pub(crate) fn tidy(batch: Batch) -> Result<Batch, String> {
    if batch.tables().iter().all(|t| t.columns().iter().all(|c| is_tidy(&c.array))) {
        return Ok(batch);
    }
    let (signal, origins) = (batch.signal, batch.origins.clone());
    let mut tables = Vec::new();
    for table in batch.into_tables() {
        let (kind, rows) = (table.kind(), table.rows());
        let mut columns = table.into_columns();
        for column in columns.iter_mut().filter(|c| !is_tidy(&c.array)) {
            column.array = rewritten(&column.array)?;
        }
        tables.push(Table::try_new(kind, rows, columns).map_err(|e| e.to_string())?);
    }
    Batch::try_new(signal, origins, tables).map_err(|e| e.to_string())
}

fn is_tidy(array: &ArrayRef) -> bool {
    let spans_all = |offsets: &[i32], data: usize| offsets[0] == 0 && offsets[offsets.len() - 1] as usize == data;
    let shows_all = |offsets: &[i32], array: &dyn Array| {
        array.nulls().is_none_or(|n| {
            n.null_count() == 0 || (0..array.len()).all(|i| n.is_valid(i) || offsets[i] == offsets[i + 1])
        })
    };
    if let Some(dictionary) = array.as_dictionary_opt::<UInt32Type>() {
        return is_tidy(dictionary.values());
    }
    if let Some(a) = array.as_string_opt::<i32>() {
        return spans_all(a.value_offsets(), a.values().len()) && shows_all(a.value_offsets(), a);
    }
    if let Some(a) = array.as_binary_opt::<i32>() {
        return spans_all(a.value_offsets(), a.values().len()) && shows_all(a.value_offsets(), a);
    }
    true
}

fn rewritten(array: &ArrayRef) -> Result<ArrayRef, String> {
    if let Some(dictionary) = array.as_dictionary_opt::<UInt32Type>() {
        let values = rewritten(dictionary.values())?;
        let array = DictionaryArray::try_new(dictionary.keys().clone(), values).map_err(|e| e.to_string())?;
        return Ok(Arc::new(array));
    }
    match array.data_type() {
        DataType::Binary => Ok(Arc::new(array.as_binary::<i32>().iter().collect::<arrow::array::BinaryArray>())),
        DataType::Utf8 => Ok(Arc::new(array.as_string::<i32>().iter().collect::<StringArray>())),
        _ => Ok(array.clone()),
    }
}
