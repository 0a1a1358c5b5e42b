//! What is nested in a row: maps of attributes by type, pairs that no map can hold, and lists of children.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, ListArray, MapArray,
    StringArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use prism_model::{AttrType, Value};

use super::filter::Tokens;
use super::unwritable;
use crate::cold::schema::Outside;
use crate::error::StoreError;

/// The values of one type of attribute, as they are appended.
pub(super) enum Values {
    Text(StringBuilder),
    Int(Int64Builder),
    Double(Float64Builder),
    Bool(BooleanBuilder),
    Bytes(BinaryBuilder),
}

impl Values {
    pub(super) fn new(ty: AttrType) -> Values {
        match ty {
            AttrType::Str | AttrType::Json => Values::Text(StringBuilder::new()),
            AttrType::Int => Values::Int(Int64Builder::new()),
            AttrType::Double => Values::Double(Float64Builder::new()),
            AttrType::Bool => Values::Bool(BooleanBuilder::new()),
            AttrType::Bytes => Values::Bytes(BinaryBuilder::new()),
        }
    }

    /// Appends the value at `row` of an array of this type in its plain form.
    pub(super) fn push(&mut self, array: &dyn Array, row: usize) {
        match self {
            Values::Text(b) => b.append_value(array.as_string::<i32>().value(row)),
            Values::Int(b) => b.append_value(array.as_primitive::<Int64Type>().value(row)),
            Values::Double(b) => b.append_value(array.as_primitive::<Float64Type>().value(row)),
            Values::Bool(b) => b.append_value(array.as_boolean().value(row)),
            Values::Bytes(b) => b.append_value(array.as_binary::<i32>().value(row)),
        }
    }

    /// Appends nulls up to a length.
    pub(super) fn fill(&mut self, len: usize) {
        while self.len() < len {
            match self {
                Values::Text(b) => b.append_null(),
                Values::Int(b) => b.append_null(),
                Values::Double(b) => b.append_null(),
                Values::Bool(b) => b.append_null(),
                Values::Bytes(b) => b.append_null(),
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        use arrow::array::ArrayBuilder as _;
        match self {
            Values::Text(b) => b.len(),
            Values::Int(b) => b.len(),
            Values::Double(b) => b.len(),
            Values::Bool(b) => b.len(),
            Values::Bytes(b) => b.len(),
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Values::Text(b) => Arc::new(b.finish()),
            Values::Int(b) => Arc::new(b.finish()),
            Values::Double(b) => Arc::new(b.finish()),
            Values::Bool(b) => Arc::new(b.finish()),
            Values::Bytes(b) => Arc::new(b.finish()),
        }
    }

    /// Appends a value of the tail; `false` where it is of another type.
    fn push_value(&mut self, value: &Value) -> bool {
        match (self, value) {
            (Values::Text(b), Value::Str(s)) => b.append_value(s),
            (Values::Int(b), Value::Int(i)) => b.append_value(*i),
            (Values::Double(b), Value::Double(d)) => b.append_value(*d),
            (Values::Bool(b), Value::Bool(v)) => b.append_value(*v),
            (Values::Bytes(b), Value::Bytes(v)) => b.append_value(v),
            _ => return false,
        }
        true
    }
}

/// Maps from key to value of one type, row after row.
struct MapBuilder {
    ty: AttrType,
    keys: StringBuilder,
    values: Values,
    count: i32,
    offsets: Vec<i32>,
}

/// An attribute column that goes into maps: by row, plain.
pub(super) struct Loose {
    pub(super) key: Arc<str>,
    pub(super) ty: AttrType,
    array: ArrayRef,
}

impl Loose {
    pub(super) fn new(key: Arc<str>, ty: AttrType, array: &ArrayRef) -> Result<Loose, StoreError> {
        Ok(Loose { key, ty, array: cast(array, &ty.data_type()).map_err(unwritable)? })
    }

    /// The rows that have it.
    pub(super) fn rows(&self) -> impl Iterator<Item = usize> {
        (0..self.array.len()).filter(|row| self.array.is_valid(*row))
    }

    /// Its values can be found though it is no column.
    pub(super) fn tokens(&self, tokens: &mut Tokens) {
        if self.ty == AttrType::Str {
            tokens.texts(&self.key, self.array.as_string::<i32>().iter().flatten());
        }
    }
}

/// One attribute of the tail, by row: ascending.
#[derive(Clone, Debug)]
pub(super) struct TailEntry<'a> {
    pub(super) row: usize,
    pub(super) key: &'a str,
    pub(super) text: &'a str,
}

/// Maps by type and the pairs that no map holds; `None` where no row has any.
pub(super) struct Maps {
    /// In the order of [`AttrType::ALL`].
    pub(super) by_type: [Option<ArrayRef>; 6],
    pub(super) repeated: Option<ArrayRef>,
}

/// Puts attribute columns and the tail of `rows` rows into maps. Where `tail_in_maps`, the tail goes into the maps of its types
/// as far as no key of its row is there yet; else it goes to the pairs, so that it can be told from columns on reading.
pub(super) fn maps(
    rows: usize,
    columns: &[Loose],
    tail: &[TailEntry<'_>],
    tail_in_maps: bool,
) -> Result<Maps, StoreError> {
    let builder =
        |ty| MapBuilder { ty, keys: StringBuilder::new(), values: Values::new(ty), count: 0, offsets: vec![0] };
    let mut maps = AttrType::ALL.map(builder);
    let (mut keys, mut texts, mut pairs) = (StringBuilder::new(), StringBuilder::new(), vec![0i32]);
    let mut tail = tail.iter().peekable();
    let mut taken: HashSet<&str> = HashSet::new();
    for row in 0..rows {
        taken.clear();
        for column in columns.iter().filter(|c| c.array.is_valid(row)) {
            let map = &mut maps[column.ty as usize];
            map.keys.append_value(&column.key);
            map.values.push(&column.array, row);
            map.count += 1;
            taken.insert(&column.key);
        }
        while let Some(entry) = tail.next_if(|e| e.row == row) {
            // What came first under a key stays before what came later: maps are read before pairs.
            let first = taken.insert(entry.key);
            if !(tail_in_maps && first && push_tail(&mut maps, entry)) {
                keys.append_value(entry.key);
                texts.append_value(entry.text);
            }
        }
        maps.iter_mut().for_each(|m| m.offsets.push(m.count));
        pairs.push(keys.len_i32()?);
    }
    let mut by_type = [const { None }; 6];
    for (slot, map) in by_type.iter_mut().zip(maps) {
        *slot = map.finish()?;
    }
    Ok(Maps { by_type, repeated: finish_pairs(keys.finish(), texts.finish(), pairs)? })
}

trait LenI32 {
    fn len_i32(&self) -> Result<i32, StoreError>;
}

impl LenI32 for StringBuilder {
    fn len_i32(&self) -> Result<i32, StoreError> {
        use arrow::array::ArrayBuilder as _;
        i32::try_from(self.len()).map_err(unwritable)
    }
}

/// Whether the entry found a map of its type: not where its text is not what that value would be written as.
fn push_tail(maps: &mut [MapBuilder; 6], entry: &TailEntry<'_>) -> bool {
    let Ok(value) = Value::from_text(entry.text) else { return false };
    if value.to_text() != entry.text {
        return false;
    }
    let ty = match value {
        Value::Str(_) => AttrType::Str,
        Value::Int(_) => AttrType::Int,
        Value::Double(_) => AttrType::Double,
        Value::Bool(_) => AttrType::Bool,
        Value::Bytes(_) => AttrType::Bytes,
        Value::Null | Value::Array(_) | Value::Map(_) => AttrType::Json,
    };
    let map = &mut maps[ty as usize];
    if !map.values.push_value(&value)
        && let Values::Text(b) = &mut map.values
    {
        b.append_value(entry.text);
    }
    map.keys.append_value(entry.key);
    map.count += 1;
    true
}

impl MapBuilder {
    fn finish(mut self) -> Result<Option<ArrayRef>, StoreError> {
        if self.count == 0 {
            return Ok(None);
        }
        let DataType::Map(entries, _) = map_type(self.ty) else { return Ok(None) };
        let DataType::Struct(fields) = entries.data_type() else { return Ok(None) };
        let pairs = vec![Arc::new(self.keys.finish()) as ArrayRef, self.values.finish()];
        let pairs = StructArray::try_new(fields.clone(), pairs, None).map_err(unwritable)?;
        let nulls = filled(&self.offsets);
        let map = MapArray::try_new(entries.clone(), OffsetBuffer::new(self.offsets.into()), pairs, nulls, false);
        Ok(Some(Arc::new(map.map_err(unwritable)?)))
    }
}

fn map_type(ty: AttrType) -> DataType {
    Outside::Tail(prism_model::TableKind::Items, ty).data_type()
}

fn finish_pairs(keys: StringArray, texts: StringArray, offsets: Vec<i32>) -> Result<Option<ArrayRef>, StoreError> {
    if keys.is_empty() {
        return Ok(None);
    }
    let data_type = Outside::Repeated(prism_model::TableKind::Items).data_type();
    let DataType::List(element) = data_type else { return Ok(None) };
    let DataType::Struct(fields) = element.data_type() else { return Ok(None) };
    let pairs = vec![Arc::new(keys) as ArrayRef, Arc::new(texts)];
    let pairs = StructArray::try_new(fields.clone(), pairs, None).map_err(unwritable)?;
    let nulls = filled(&offsets);
    let list = ListArray::try_new(element.clone(), OffsetBuffer::new(offsets.into()), Arc::new(pairs), nulls);
    Ok(Some(Arc::new(list.map_err(unwritable)?)))
}

/// Null where there is nothing: no map and an empty one are the same, and nulls cost less.
pub(super) fn filled(offsets: &[i32]) -> Option<NullBuffer> {
    let nulls: NullBuffer = offsets.windows(2).map(|w| w[0] < w[1]).collect::<Vec<bool>>().into();
    (nulls.null_count() > 0).then_some(nulls)
}
