//! Where the values that a redactor may change stand in a batch: columns, keys, and what is inside values.
//!
//! Not here: how they are shown (`view`), how changes are put back (`apply`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt32Type};
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Table, TableKind, Value};

use crate::bindings::base::{Dtype, Place, Role};
use crate::leaves::{Part, walk};
use crate::metadata::{Need, place_of};

/// The entries of one source.
#[derive(Clone)]
pub(crate) enum Entries {
    Text(StringArray),
    Bytes(BinaryArray),
    Ints(Int64Array),
    Doubles(Float64Array),
}

impl Entries {
    pub(crate) fn len(&self) -> usize {
        self.as_array().len()
    }

    pub(crate) fn is_null(&self, entry: usize) -> bool {
        self.as_array().is_null(entry)
    }

    fn as_array(&self) -> &dyn Array {
        match self {
            Entries::Text(a) => a,
            Entries::Bytes(a) => a,
            Entries::Ints(a) => a,
            Entries::Doubles(a) => a,
        }
    }

    pub(crate) fn dtype(&self) -> Dtype {
        match self {
            Entries::Text(_) => Dtype::Utf8,
            Entries::Bytes(_) => Dtype::Binary,
            Entries::Ints(_) => Dtype::Int64,
            Entries::Doubles(_) => Dtype::Float64,
        }
    }
}

/// A leaf or nested key: number of the document, number of the leaf or key in it.
pub(crate) type Inner = (u32, u32);

/// What an entry of a source is.
pub(crate) enum Target {
    /// An entry of a column: a value of its dictionary, or of a row.
    Column { table: TableKind, column: usize },
    /// An attribute key of a table: all columns of that key.
    Keys { table: TableKind, keys: Vec<Arc<str>> },
    /// The key of a row of the tail.
    TailKeys { rows: Vec<u32> },
    /// A leaf of a document.
    Leaves(Vec<Inner>),
    /// A nested key of a document.
    MapKeys(Vec<Inner>),
}

/// Values of one need and type that can be shown and changed.
pub(crate) struct Source {
    pub(crate) need: u32,
    pub(crate) entries: Entries,
    pub(crate) target: Target,
    /// The entries are distinct and few, so that a verdict that is remembered saves a call. Plain columns hold what did not
    /// repeat enough for a dictionary.
    pub(crate) repeats: bool,
}

/// An array or map value, or an attribute of the tail.
pub(crate) struct Doc {
    pub(crate) table: TableKind,
    pub(crate) column: usize,
    pub(crate) entry: u32,
    pub(crate) value: Value,
    /// Where the attribute belongs.
    pub(crate) place: Place,
    /// The attribute's key; none for fixed fields.
    pub(crate) key: Option<Arc<str>>,
}

/// All that a binding may change in a batch.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) list: Vec<Source>,
    pub(crate) docs: Vec<Doc>,
}

/// The first need that asks for a field.
pub(crate) fn first_need(needs: &[Need], place: Place, role: Role, name: &str, dtype: Dtype) -> Option<u32> {
    needs.iter().position(|n| n.wants(place, role, name, dtype)).map(|i| i as u32)
}

fn leaf_need(needs: &[Need], place: Place, role: Role, name: &str, dtype: Dtype) -> Option<u32> {
    needs.iter().position(|n| n.leaves && n.wants(place, role, name, dtype)).map(|i| i as u32)
}

/// The role and name of a column under which a need asks for it; none for columns that hold the batch together.
pub(crate) fn field_of(id: &ColumnId) -> Option<(Role, &str)> {
    use Intrinsic::*;
    match id {
        ColumnId::Attr { key, .. } => Some((Role::Attribute, key)),
        ColumnId::Intrinsic(Resource | Scope | Metric | Parent | Of | Key | Value) => None,
        // A body is one field, whatever its type.
        ColumnId::Intrinsic(i) => Some((Role::Intrinsic, i.name().split('@').next().unwrap_or_default())),
    }
}

/// Whether the column holds [`Value`] text, which is shown by its leaves only.
pub(crate) fn is_document(id: &ColumnId) -> bool {
    match id {
        ColumnId::Attr { ty, .. } => *ty == AttrType::Json,
        ColumnId::Intrinsic(i) => matches!(i, Intrinsic::BodyJson | Intrinsic::EntityRefs | Intrinsic::Value),
    }
}

/// Dictionary values or, in a plain column, the values themselves; and which of the two.
pub(crate) fn text_entries(array: &ArrayRef) -> Option<(StringArray, bool)> {
    if let Some(dictionary) = array.as_dictionary_opt::<UInt32Type>() {
        return Some((dictionary.values().as_string_opt::<i32>()?.clone(), true));
    }
    Some((array.as_string_opt::<i32>()?.clone(), false))
}

/// The tail with plain keys and values: rows that share an entry may belong to different attributes and places. Where rows
/// are shown (`by_row`), documents and the columns of interned tables are made plain too: they are shown by row, and a value
/// of a dictionary that no row uses would not be shown at all.
///
/// # Errors
/// Arrow's, where a column is beyond 2 GiB.
pub(crate) fn prepare(batch: Batch, by_row: bool) -> Result<Batch, String> {
    let interned = |table| matches!(table, TableKind::Resources | TableKind::Scopes | TableKind::Descriptors);
    let plain = |table, id: &ColumnId| table == TableKind::Tail || (by_row && (is_document(id) || interned(table)));
    let encoded = |c: &Column| matches!(c.array.data_type(), DataType::Dictionary(..));
    if !batch.tables().iter().any(|t| t.columns().iter().any(|c| plain(t.kind(), &c.id) && encoded(c))) {
        return Ok(batch);
    }
    let (signal, origins) = (batch.signal, batch.origins.clone());
    let mut tables = Vec::new();
    for table in batch.into_tables() {
        let (kind, rows) = (table.kind(), table.rows());
        let mut columns = table.into_columns();
        for column in &mut columns {
            if plain(kind, &column.id) && encoded(column) {
                column.array = cast(&column.array, &DataType::Utf8).map_err(|e| e.to_string())?;
            }
        }
        tables.push(Table::try_new(kind, rows, columns).map_err(|e| e.to_string())?);
    }
    Batch::try_new(signal, origins, tables).map_err(|e| e.to_string())
}

/// Everything in a prepared batch that the needs ask for and that can be changed.
///
/// # Errors
/// A document that is not the text of a value: the batch is damaged.
pub(crate) fn collect(batch: &Batch, needs: &[Need]) -> Result<Sources, String> {
    let mut sources = Sources::default();
    for table in batch.tables() {
        let kind = table.kind();
        let Some(place) = place_of(kind) else { continue };
        let mut keys: Vec<&Arc<str>> = Vec::new();
        for (i, column) in table.columns().iter().enumerate() {
            if let ColumnId::Attr { key, .. } = &column.id {
                keys.push(key);
            }
            let Some((role, name)) = field_of(&column.id) else { continue };
            if is_document(&column.id) {
                let key = if role == Role::Attribute { Some(name) } else { None };
                collect_documents(&mut sources, needs, table, i, place, (role, name), key)?;
            } else if let Some((entries, repeats)) = entries_of(&column.array, role, name)
                && let Some(need) = first_need(needs, place, role, name, entries.dtype())
            {
                let target = Target::Column { table: kind, column: i };
                let repeats = repeats && worth_remembering(entries.len(), table.rows());
                sources.list.push(Source { need, entries, target, repeats });
            }
        }
        keys.sort_unstable();
        keys.dedup();
        collect_keys(&mut sources, needs, kind, place, &keys);
    }
    // Without leaves nobody asks for the tail, and it need not be prepared.
    if let Some(tail) = batch.table(TableKind::Tail).filter(|_| needs.iter().any(|n| n.leaves)) {
        collect_tail(&mut sources, needs, tail)?;
    }
    collect_leaves(&mut sources, needs);
    sources.list.sort_by_key(|s| (s.need, s.entries.dtype() as u8));
    Ok(sources)
}

/// A dictionary that is nearly as long as its column brings mostly new values: asking the cache costs more than it saves.
fn worth_remembering(entries: usize, rows: usize) -> bool {
    entries <= 64.max(rows / 8)
}

/// The entries of a column that can be edited. Of the fixed fields other than text only a log's body is the application's
/// data; times, ids and counts are never edited.
fn entries_of(array: &ArrayRef, role: Role, name: &str) -> Option<(Entries, bool)> {
    if let Some((text, repeats)) = text_entries(array) {
        return Some((Entries::Text(text), repeats));
    }
    if role == Role::Intrinsic && name != Intrinsic::Body.name() {
        return None;
    }
    match array.data_type() {
        DataType::Int64 => Some((Entries::Ints(array.as_primitive::<Int64Type>().clone()), false)),
        DataType::Float64 => Some((Entries::Doubles(array.as_primitive::<Float64Type>().clone()), false)),
        DataType::Binary => Some((Entries::Bytes(array.as_binary::<i32>().clone()), false)),
        _ => None,
    }
}

fn collect_documents(
    sources: &mut Sources,
    needs: &[Need],
    table: &Table,
    column: usize,
    place: Place,
    (role, name): (Role, &str),
    key: Option<&str>,
) -> Result<(), String> {
    // Nested keys are asked for by their own names, which are not known before the documents are read.
    let nested_keys = |n: &Need| n.role == Role::AttributeKey && n.place.is_none_or(|p| p == place);
    let by_name = |n: &Need| {
        [Dtype::Utf8, Dtype::Int64, Dtype::Float64, Dtype::Binary, Dtype::Boolean]
            .iter()
            .any(|d| n.wants(place, role, name, *d))
    };
    if !needs.iter().any(|n| n.leaves && (nested_keys(n) || by_name(n))) {
        return Ok(());
    }
    let Some((texts, _)) = text_entries(&table.columns()[column].array) else { return Ok(()) };
    let key: Option<Arc<str>> = key.map(Arc::from);
    for entry in 0..texts.len() {
        if texts.is_null(entry) {
            continue;
        }
        let value = Value::from_text(texts.value(entry)).map_err(|e| e.to_string())?;
        sources.docs.push(Doc { table: table.kind(), column, entry: entry as u32, value, place, key: key.clone() });
    }
    Ok(())
}

fn collect_keys(sources: &mut Sources, needs: &[Need], table: TableKind, place: Place, keys: &[&Arc<str>]) {
    let mut by_need: Vec<(u32, Vec<Arc<str>>)> = Vec::new();
    for &key in keys {
        if let Some(need) = first_need(needs, place, Role::AttributeKey, key, Dtype::Utf8) {
            push_grouped(&mut by_need, need, key.clone());
        }
    }
    for (need, keys) in by_need {
        let entries = Entries::Text(StringArray::from_iter_values(keys.iter()));
        sources.list.push(Source { need, entries, target: Target::Keys { table, keys }, repeats: true });
    }
}

fn push_grouped<T>(groups: &mut Vec<(u32, Vec<T>)>, need: u32, item: T) {
    match groups.iter_mut().find(|(n, _)| *n == need) {
        Some((_, items)) => items.push(item),
        None => groups.push((need, vec![item])),
    }
}

/// The place of each row of the tail.
pub(crate) fn tail_places(tail: &Table) -> Vec<Place> {
    let of = tail.intrinsic(Intrinsic::Of).and_then(|a| a.as_primitive_opt::<arrow::datatypes::UInt8Type>());
    let place = |n: u8| TableKind::from_u8(n).and_then(place_of).unwrap_or(Place::Item);
    of.map(|of| of.values().iter().map(|&n| place(n)).collect()).unwrap_or_default()
}

fn collect_tail(sources: &mut Sources, needs: &[Need], tail: &Table) -> Result<(), String> {
    let position = |i: Intrinsic| tail.columns().iter().position(|c| c.id == ColumnId::Intrinsic(i));
    let column = |i: Intrinsic| position(i).and_then(|p| Some((p, tail.columns()[p].array.as_string_opt::<i32>()?)));
    let (Some((_, keys)), Some((at, values))) = (column(Intrinsic::Key), column(Intrinsic::Value)) else {
        return Err("a tail without keys or values".into());
    };
    let places = tail_places(tail);
    let mut by_need: Vec<(u32, Vec<u32>)> = Vec::new();
    for (row, &place) in places.iter().enumerate() {
        let key = keys.value(row);
        if let Some(need) = leaf_need(needs, place, Role::AttributeKey, key, Dtype::Utf8) {
            push_grouped(&mut by_need, need, row as u32);
        }
        let value = Value::from_text(values.value(row)).map_err(|e| e.to_string())?;
        let key = Some(Arc::from(key));
        sources.docs.push(Doc { table: TableKind::Tail, column: at, entry: row as u32, value, place, key });
    }
    for (need, rows) in by_need {
        let entries = Entries::Text(StringArray::from_iter_values(rows.iter().map(|&r| keys.value(r as usize))));
        sources.list.push(Source { need, entries, target: Target::TailKeys { rows }, repeats: true });
    }
    Ok(())
}

/// Per need: values, and where each stands.
type ByNeed<T> = Vec<(u32, (T, Vec<Inner>))>;

/// Leaves and nested keys of one need and type, while they are gathered.
#[derive(Default)]
struct Gathered {
    texts: ByNeed<StringBuilder>,
    keys: ByNeed<StringBuilder>,
    ints: ByNeed<Vec<i64>>,
    doubles: ByNeed<Vec<f64>>,
    bytes: ByNeed<Vec<Vec<u8>>>,
}

fn group<T: Default>(groups: &mut Vec<(u32, T)>, need: u32) -> &mut T {
    let at = match groups.iter().position(|(n, _)| *n == need) {
        Some(at) => at,
        None => {
            groups.push((need, T::default()));
            groups.len() - 1
        }
    };
    &mut groups[at].1
}

fn collect_leaves(sources: &mut Sources, needs: &[Need]) {
    let mut gathered = Gathered::default();
    for (d, doc) in sources.docs.iter().enumerate() {
        let (role, name) = role_and_name(doc);
        // The need for each type, looked up once a document.
        let need_of = [Dtype::Utf8, Dtype::Int64, Dtype::Float64, Dtype::Binary]
            .map(|t| leaf_need(needs, doc.place, role, name, t));
        let (mut leaf, mut key) = (0u32, 0u32);
        walk(&doc.value, &mut String::new(), &mut |_, part| match part {
            Part::Leaf(value) => {
                gathered.leaf(value, need_of, (d as u32, leaf));
                leaf += 1;
            }
            Part::Key(name) => {
                if let Some(need) = leaf_need(needs, doc.place, Role::AttributeKey, name, Dtype::Utf8) {
                    let (texts, inner) = group(&mut gathered.keys, need);
                    texts.append_value(name);
                    inner.push((d as u32, key));
                }
                key += 1;
            }
        });
    }
    let list = &mut sources.list;
    let mut push = |need, entries, target, repeats| list.push(Source { need, entries, target, repeats });
    for (need, (mut texts, inner)) in gathered.texts {
        push(need, Entries::Text(texts.finish()), Target::Leaves(inner), false);
    }
    for (need, (mut texts, inner)) in gathered.keys {
        push(need, Entries::Text(texts.finish()), Target::MapKeys(inner), true);
    }
    for (need, (ints, inner)) in gathered.ints {
        push(need, Entries::Ints(ints.into()), Target::Leaves(inner), false);
    }
    for (need, (doubles, inner)) in gathered.doubles {
        push(need, Entries::Doubles(doubles.into()), Target::Leaves(inner), false);
    }
    for (need, (bytes, inner)) in gathered.bytes {
        push(need, Entries::Bytes(BinaryArray::from_iter_values(bytes)), Target::Leaves(inner), false);
    }
}

impl Gathered {
    fn leaf(&mut self, value: &Value, [text, int, double, bytes]: [Option<u32>; 4], at: Inner) {
        match value {
            Value::Str(v) => {
                if let Some((texts, inner)) = text.map(|need| group(&mut self.texts, need)) {
                    texts.append_value(v);
                    inner.push(at);
                }
            }
            Value::Int(v) => push_leaf(&mut self.ints, int, *v, at),
            Value::Double(v) => push_leaf(&mut self.doubles, double, *v, at),
            Value::Bytes(v) => {
                if bytes.is_some() {
                    push_leaf(&mut self.bytes, bytes, v.clone(), at);
                }
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Map(_) => {}
        }
    }
}

fn push_leaf<T>(groups: &mut ByNeed<Vec<T>>, need: Option<u32>, leaf: T, at: Inner) {
    if let Some((leaves, inner)) = need.map(|need| group(groups, need)) {
        leaves.push(leaf);
        inner.push(at);
    }
}

/// The field that a document's leaves belong to.
pub(crate) fn role_and_name(doc: &Doc) -> (Role, &str) {
    match (&doc.key, doc.place) {
        (Some(key), _) => (Role::Attribute, key),
        (None, Place::Resource) => (Role::Intrinsic, Intrinsic::EntityRefs.name()),
        (None, _) => (Role::Intrinsic, Intrinsic::Body.name()),
    }
}
