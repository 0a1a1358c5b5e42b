//! Cells of a table by row, with the default where the column is absent, and a row's attributes as messages.

use std::collections::HashMap;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray,
    Float64Array, Int32Array, Int64Array, ListArray, PrimitiveArray, StringArray, UInt8Array, UInt32Array,
};
use arrow::datatypes::UInt32Type;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value};
use prism_model::{AttrType, Batch, ColumnId, Intrinsic, Table, TableKind, Value};

/// A text column in either layout; every row is null where there is no column.
#[derive(Clone, Copy, Default)]
pub(super) struct Text<'a> {
    values: Option<&'a StringArray>,
    keys: Option<&'a UInt32Array>,
}

impl<'a> Text<'a> {
    pub(super) fn new(array: Option<&'a ArrayRef>) -> Text<'a> {
        let Some(array) = array else { return Text::default() };
        match array.as_any().downcast_ref::<DictionaryArray<UInt32Type>>() {
            Some(dictionary) => {
                Text { values: dictionary.values().as_any().downcast_ref(), keys: Some(dictionary.keys()) }
            }
            None => Text { values: array.as_any().downcast_ref(), keys: None },
        }
    }

    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        let values = self.values?;
        let row = match self.keys {
            Some(keys) if keys.is_null(row) => return None,
            Some(keys) => keys.value(row) as usize,
            None => row,
        };
        values.is_valid(row).then(|| values.value(row))
    }

    pub(super) fn string(&self, row: usize) -> String {
        self.get(row).unwrap_or_default().to_owned()
    }
}

/// The fixed columns of a table.
pub(super) struct Cells<'a>(pub(super) &'a Table);

impl<'a> Cells<'a> {
    pub(super) fn text(&self, id: Intrinsic) -> Text<'a> {
        Text::new(self.0.intrinsic(id))
    }

    fn array<T: 'static>(&self, id: Intrinsic) -> Option<&'a T> {
        self.0.intrinsic(id).and_then(|array| array.as_any().downcast_ref())
    }

    pub(super) fn u32(&self, id: Intrinsic) -> impl Fn(usize) -> u32 + use<'a> {
        let array: Option<&UInt32Array> = self.array(id);
        move |row| array.filter(|a| a.is_valid(row)).map_or(0, |a| a.value(row))
    }

    pub(super) fn i32(&self, id: Intrinsic) -> impl Fn(usize) -> i32 + use<'a> {
        let array: Option<&Int32Array> = self.array(id);
        move |row| array.filter(|a| a.is_valid(row)).map_or(0, |a| a.value(row))
    }

    pub(super) fn i64(&self, id: Intrinsic) -> impl Fn(usize) -> i64 + use<'a> {
        let array: Option<&Int64Array> = self.array(id);
        move |row| array.filter(|a| a.is_valid(row)).map_or(0, |a| a.value(row))
    }

    /// A number, `None` where there is none.
    pub(super) fn optional<P: ArrowPrimitiveType>(
        &self,
        id: Intrinsic,
    ) -> impl Fn(usize) -> Option<P::Native> + use<'a, P> {
        let array: Option<&PrimitiveArray<P>> = self.array(id);
        move |row| array.filter(|a| a.is_valid(row)).map(|a| a.value(row))
    }

    pub(super) fn bool(&self, id: Intrinsic) -> impl Fn(usize) -> bool + use<'a> {
        let array: Option<&BooleanArray> = self.array(id);
        move |row| array.is_some_and(|a| a.is_valid(row) && a.value(row))
    }

    /// The numbers of a list; none where there is no list.
    pub(super) fn list<P: ArrowPrimitiveType>(&self, id: Intrinsic) -> impl Fn(usize) -> &'a [P::Native] + use<'a, P> {
        let lists: Option<&ListArray> = self.array(id);
        let values: Option<&PrimitiveArray<P>> = lists.and_then(|l| l.values().as_any().downcast_ref());
        move |row| match (lists, values) {
            (Some(lists), Some(values)) if lists.is_valid(row) => {
                let offsets = lists.value_offsets();
                &values.values()[offsets[row] as usize..offsets[row + 1] as usize]
            }
            _ => &[],
        }
    }

    /// An id; empty where there is none.
    pub(super) fn id(&self, id: Intrinsic) -> impl Fn(usize) -> Vec<u8> + use<'a> {
        let array: Option<&FixedSizeBinaryArray> = self.array(id);
        move |row| array.filter(|a| a.is_valid(row)).map_or_else(Vec::new, |a| a.value(row).to_vec())
    }
}

/// The rows of a child table by item.
pub(super) fn children<'a, T, R: Fn(usize) -> T>(
    batch: &'a Batch,
    kind: TableKind,
    reader: impl FnOnce(&'a Batch, &'a Table) -> R,
) -> Vec<Vec<T>> {
    let mut by_item: Vec<Vec<T>> = Vec::new();
    by_item.resize_with(batch.rows(), Vec::new);
    if let Some(table) = batch.table(kind) {
        let parent = Cells(table).u32(Intrinsic::Parent);
        let read = reader(batch, table);
        for row in 0..table.rows() {
            by_item[parent(row) as usize].push(read(row));
        }
    }
    by_item
}

/// The attributes of the rows of a table: those with a column, and the tail.
pub(super) struct Attributes<'a> {
    columns: Vec<(&'a str, AttrType, &'a ArrayRef)>,
    tail: HashMap<u32, Vec<(&'a str, &'a str)>>,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(batch: &'a Batch, kind: TableKind) -> Attributes<'a> {
        let mut columns: Vec<_> = batch
            .table(kind)
            .map(Table::columns)
            .unwrap_or_default()
            .iter()
            .filter_map(|column| match &column.id {
                ColumnId::Attr { key, ty } => Some((&**key, *ty, &column.array)),
                ColumnId::Intrinsic(_) => None,
            })
            .collect();
        columns.sort_by_key(|(key, ty, _)| (*key, *ty));
        Attributes { columns, tail: tail_of(batch, kind).unwrap_or_default() }
    }

    /// The attributes of a row, by key; repeated keys in the order in which they came.
    pub(super) fn of(&self, row: usize) -> Vec<KeyValue> {
        let cell = |(key, ty, array): &(&str, AttrType, &ArrayRef)| Some(key_value(key, attribute(*ty, array, row)?));
        let mut all: Vec<KeyValue> = self.columns.iter().filter_map(cell).collect();
        if let Some(tail) = self.tail.get(&(row as u32)) {
            all.extend(tail.iter().map(|(key, text)| key_value(key, value_text(text))));
            all.sort_by(|a, b| a.key.cmp(&b.key));
        }
        all
    }
}

fn tail_of(batch: &Batch, kind: TableKind) -> Option<HashMap<u32, Vec<(&str, &str)>>> {
    let tail = batch.table(TableKind::Tail)?;
    let of: &UInt8Array = tail.intrinsic(Intrinsic::Of)?.as_any().downcast_ref()?;
    let parent = tail.index(Intrinsic::Parent)?;
    let (key, value) = (Text::new(tail.intrinsic(Intrinsic::Key)), Text::new(tail.intrinsic(Intrinsic::Value)));
    let mut rows: HashMap<u32, Vec<(&str, &str)>> = HashMap::new();
    for row in (0..tail.rows()).filter(|&row| of.value(row) == kind as u8) {
        // A value that a redactor has cleared is gone with its key.
        if let Some(text) = value.get(row) {
            rows.entry(parent.value(row)).or_default().push((key.get(row).unwrap_or_default(), text));
        }
    }
    Some(rows)
}

fn key_value(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value), key_strindex: 0 }
}

/// A cell of an attribute column; `None` where the row does not have the attribute.
fn attribute(ty: AttrType, array: &ArrayRef, row: usize) -> Option<AnyValue> {
    let any = array.as_any();
    match ty {
        AttrType::Str => {
            Text::new(Some(array)).get(row).map(|text| wrap(any_value::Value::StringValue(text.to_owned())))
        }
        AttrType::Json => Text::new(Some(array)).get(row).map(value_text),
        _ if array.is_null(row) => None,
        AttrType::Int => any.downcast_ref::<Int64Array>().map(|a| wrap(any_value::Value::IntValue(a.value(row)))),
        AttrType::Double => {
            any.downcast_ref::<Float64Array>().map(|a| wrap(any_value::Value::DoubleValue(a.value(row))))
        }
        AttrType::Bool => any.downcast_ref::<BooleanArray>().map(|a| wrap(any_value::Value::BoolValue(a.value(row)))),
        AttrType::Bytes => {
            any.downcast_ref::<BinaryArray>().map(|a| wrap(any_value::Value::BytesValue(a.value(row).to_vec())))
        }
    }
}

/// The body of a log record, from whichever of its columns has it.
pub(super) fn body(table: &Table, row: usize) -> Option<AnyValue> {
    Intrinsic::BODY.into_iter().find_map(|(id, ty)| attribute(ty, table.intrinsic(id)?, row))
}

fn wrap(value: any_value::Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// The value of a text form. A text that is none (a redactor may have written over it) is itself the value.
fn value_text(text: &str) -> AnyValue {
    match Value::from_text(text) {
        Ok(value) => any(value),
        Err(_) => wrap(any_value::Value::StringValue(text.to_owned())),
    }
}

fn any(value: Value) -> AnyValue {
    wrap(match value {
        Value::Null => return AnyValue { value: None },
        Value::Str(text) => any_value::Value::StringValue(text),
        Value::Bool(b) => any_value::Value::BoolValue(b),
        Value::Int(i) => any_value::Value::IntValue(i),
        Value::Double(d) => any_value::Value::DoubleValue(d),
        Value::Bytes(bytes) => any_value::Value::BytesValue(bytes),
        Value::Array(items) => {
            any_value::Value::ArrayValue(ArrayValue { values: items.into_iter().map(any).collect() })
        }
        Value::Map(entries) => any_value::Value::KvlistValue(KeyValueList {
            values: entries.into_iter().map(|(key, value)| key_value(&key, any(value))).collect(),
        }),
    })
}
