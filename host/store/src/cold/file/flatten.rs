//! A stretch of a file's rows becomes the columns of a row group, and what is known about its tables.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, ListArray, StringArray, StructArray,
    TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, UInt8Type, UInt32Type};
use prism_model::reshape::default_array;
use prism_model::{AttrType, ColumnId, Intrinsic, Table, TableKind};

use super::filter::Tokens;
use super::meta::{GroupMeta, TableMeta, is_default, measure};
use super::nested::{Loose, Maps, TailEntry, filled, maps};
use super::rows::{INTERNED, Rows, is_index};
use super::unwritable;
use crate::cold::schema::{ChildField, Outside, child_fields, fixed_columns};
use crate::error::StoreError;
use crate::frame::bloom;
use crate::frame::encode::SERVICES_MAX;
use crate::frame::stats::ColumnMeta;

/// Everything that is the same for all row groups.
pub(super) struct Flat<'a> {
    rows: &'a Rows,
    /// The file's columns, in their order.
    pub(super) columns: Vec<Outside>,
    promoted: HashSet<(TableKind, ColumnId)>,
    interned: HashMap<TableKind, Interned>,
    children: Vec<Children<'a>>,
    tail: Tail,
    personal: &'a BTreeSet<String>,
}

/// A table that items point into.
struct Interned {
    table: Table,
    /// By joined row of the items.
    pointers: UInt32Array,
    maps: Maps,
    /// Its attributes without a column.
    columns: Vec<Loose>,
    /// By row: the keys of those that it has.
    loose: Vec<Vec<Arc<str>>>,
}

/// A table whose rows belong to items.
struct Children<'a> {
    table: &'a Table,
    /// First child of each joined row of the items, and the end.
    starts: Vec<u32>,
}

/// The tail by owner.
#[derive(Default)]
struct Tail {
    of: Vec<u8>,
    parents: Vec<u32>,
    keys: Option<ArrayRef>,
    values: Option<ArrayRef>,
}

impl Tail {
    fn read(rows: &Rows) -> Result<Tail, StoreError> {
        let Some(tail) = rows.tables.table(TableKind::Tail) else { return Ok(Tail::default()) };
        let plain = |i: Intrinsic| {
            let array = tail.intrinsic(i).cloned().unwrap_or_else(|| default_array(&i.into(), tail.rows()));
            cast(&array, &DataType::Utf8).map_err(unwritable)
        };
        let of = tail.intrinsic(Intrinsic::Of).map(|a| a.as_primitive::<UInt8Type>().values().to_vec());
        let parents = tail.index(Intrinsic::Parent).map(|p| p.values().to_vec());
        Ok(Tail {
            of: of.unwrap_or_default(),
            parents: parents.unwrap_or_default(),
            keys: Some(plain(Intrinsic::Key)?),
            values: Some(plain(Intrinsic::Value)?),
        })
    }

    /// The attributes of row `owner` of a table, as those of `row`.
    fn entries(&self, kind: TableKind, owner: u32, row: usize) -> impl Iterator<Item = TailEntry<'_>> {
        let kind = kind as u8;
        let from = self.of.partition_point(|of| *of < kind);
        let to = self.of.partition_point(|of| *of <= kind);
        let parents = self.parents.get(from..to).unwrap_or_default();
        let own = from + parents.partition_point(|p| *p < owner)..from + parents.partition_point(|p| *p <= owner);
        own.map(move |i| TailEntry {
            row,
            key: plain_text(self.keys.as_ref(), i),
            text: plain_text(self.values.as_ref(), i),
        })
    }
}

fn plain_text(array: Option<&ArrayRef>, i: usize) -> &str {
    array.map(|a| a.as_string::<i32>()).filter(|a| a.is_valid(i)).map_or("", |a| a.value(i))
}

/// What the row groups of a file give together.
#[derive(Default)]
pub(super) struct Gathered {
    /// Fingerprints of trace ids.
    pub(super) traces: Vec<u64>,
    /// Double columns (by stored name) with a NaN somewhere: their bounds are none.
    pub(super) unbounded: HashSet<String>,
    /// Attribute columns with a value somewhere.
    pub(super) attributes: BTreeSet<(TableKind, ColumnId)>,
}

/// The columns of a row group.
pub(super) struct Group {
    /// One for each of [`Flat::columns`].
    pub(super) arrays: Vec<ArrayRef>,
    pub(super) meta: GroupMeta,
    pub(super) tokens: Tokens,
}

impl<'a> Flat<'a> {
    /// `promoted` are the attribute columns that stay columns.
    pub(super) fn new(
        rows: &'a Rows,
        promoted: HashSet<(TableKind, ColumnId)>,
        personal: &'a BTreeSet<String>,
    ) -> Result<Flat<'a>, StoreError> {
        let tail = Tail::read(rows)?;
        let mut interned = HashMap::new();
        for (kind, pointer) in INTERNED {
            if let Some(table) = rows.tables.table(kind) {
                interned.insert(kind, Interned::new(rows, table, pointer, &promoted, &tail)?);
            }
        }
        let children = [TableKind::Events, TableKind::Links, TableKind::Exemplars];
        let children = children.iter().filter_map(|kind| rows.tables.table(*kind)).map(|table| {
            let parents = table.index(Intrinsic::Parent).map_or(&[][..], |p| p.values());
            let mut starts = Vec::with_capacity(rows.len() + 1);
            let mut next = 0;
            for item in 0..=rows.len() as u32 {
                while parents.get(next).is_some_and(|p| *p < item) {
                    next += 1;
                }
                starts.push(next as u32);
            }
            Children { table, starts }
        });
        let children = children.collect();
        let mut flat = Flat { rows, columns: Vec::new(), promoted, interned, children, tail, personal };
        flat.columns = flat.columns_of_file();
        Ok(flat)
    }

    fn columns_of_file(&self) -> Vec<Outside> {
        let rows = self.rows;
        let mut columns: Vec<Outside> = Vec::new();
        let mut fixed = |kind: TableKind, ids: &mut dyn Iterator<Item = &ColumnId>| {
            let always = fixed_columns(rows.signal, kind).iter().map(|i| ColumnId::from(*i));
            let all: BTreeSet<ColumnId> = always.chain(ids.filter(|id| !is_index(id)).cloned()).collect();
            for id in all {
                if matches!(id, ColumnId::Intrinsic(_)) || self.promoted.contains(&(kind, id.clone())) {
                    columns.push(Outside::Column(kind, id));
                }
            }
        };
        fixed(TableKind::Items, &mut rows.items.iter().map(|c| &c.id));
        for (kind, _) in INTERNED {
            let table = self.interned.get(&kind).map(|i| &i.table);
            fixed(kind, &mut table.into_iter().flat_map(Table::columns).map(|c| &c.id));
        }
        columns.push(Outside::Timestamp);
        columns.extend(
            INTERNED.iter().filter(|(kind, _)| self.interned.contains_key(kind)).map(|(k, _)| Outside::Pointer(*k)),
        );
        columns.extend(self.children.iter().map(|c| Outside::Children(c.table.kind())));
        // Which maps of the items there are is known once all were built; a column of nulls costs little.
        let loose_items = rows.items.iter().filter_map(|c| self.loose_type(TableKind::Items, &c.id));
        let mut types: BTreeSet<AttrType> = loose_items.collect();
        if self.tail.of.contains(&(TableKind::Items as u8)) {
            types.extend(AttrType::ALL);
            columns.push(Outside::Repeated(TableKind::Items));
        }
        columns.extend(types.into_iter().map(|ty| Outside::Tail(TableKind::Items, ty)));
        for (kind, _) in INTERNED {
            let Some(interned) = self.interned.get(&kind) else { continue };
            let there = AttrType::ALL.into_iter().filter(|ty| interned.maps.by_type[*ty as usize].is_some());
            columns.extend(there.map(|ty| Outside::Tail(kind, ty)));
            columns.extend(interned.maps.repeated.is_some().then_some(Outside::Repeated(kind)));
        }
        // Fixed columns, then attributes, then what is nested; each by table and name, so that equal files have equal schemas.
        let group = |c: &Outside| match c {
            Outside::Column(TableKind::Items, ColumnId::Intrinsic(_)) => 0,
            Outside::Timestamp | Outside::Pointer(_) => 1,
            Outside::Column(_, ColumnId::Intrinsic(_)) => 2,
            Outside::Column(..) => 3,
            _ => 4,
        };
        columns.sort_by(|a, b| (group(a), a).cmp(&(group(b), b)));
        columns
    }

    /// The type under which a column's values go to maps; `None` where it stays a column.
    fn loose_type(&self, table: TableKind, id: &ColumnId) -> Option<AttrType> {
        match id {
            ColumnId::Attr { ty, .. } if !self.promoted.contains(&(table, id.clone())) => Some(*ty),
            _ => None,
        }
    }

    /// The columns of sorted rows.
    pub(super) fn group(&self, range: Range<usize>, out: &mut Gathered) -> Result<Group, StoreError> {
        let group = GroupBuilder {
            flat: self,
            places: &self.rows.order[range.clone()],
            joined: &self.rows.joined[range.clone()],
            times: &self.rows.times[range],
            pointers: HashMap::new(),
            tokens: Tokens::default(),
            metas: HashMap::new(),
            table_rows: HashMap::new(),
            tail_keys: BTreeSet::new(),
            out,
        };
        group.build()
    }
}

impl Interned {
    fn new(
        rows: &Rows,
        table: &Table,
        pointer: Intrinsic,
        promoted: &HashSet<(TableKind, ColumnId)>,
        tail: &Tail,
    ) -> Result<Interned, StoreError> {
        let kind = table.kind();
        let pointers = rows.tables.items().index(pointer).cloned();
        let pointers = pointers.unwrap_or_else(|| UInt32Array::from_value(0, rows.len()));
        let mut columns = Vec::new();
        for column in table.columns() {
            if let ColumnId::Attr { key, ty } = &column.id
                && !promoted.contains(&(kind, column.id.clone()))
            {
                columns.push(Loose::new(key.clone(), *ty, &column.array)?);
            }
        }
        let entries: Vec<TailEntry<'_>> =
            (0..table.rows()).flat_map(|row| tail.entries(kind, row as u32, row)).collect();
        let mut loose: Vec<Vec<Arc<str>>> = vec![Vec::new(); table.rows()];
        for column in &columns {
            column.rows().for_each(|row| loose[row].push(column.key.clone()));
        }
        let maps = maps(table.rows(), &columns, &entries, true)?;
        Ok(Interned { table: table.clone(), pointers, maps, columns, loose })
    }
}

struct GroupBuilder<'a, 'b> {
    flat: &'b Flat<'a>,
    places: &'b [(usize, usize)],
    joined: &'b [u32],
    times: &'b [i64],
    /// Of each interned table: the rows of it that are used here, and where each item points.
    pointers: HashMap<TableKind, (UInt32Array, UInt32Array)>,
    tokens: Tokens,
    metas: HashMap<TableKind, Vec<ColumnMeta>>,
    table_rows: HashMap<TableKind, usize>,
    tail_keys: BTreeSet<Arc<str>>,
    out: &'b mut Gathered,
}

impl GroupBuilder<'_, '_> {
    fn build(mut self) -> Result<Group, StoreError> {
        let rows = self.places.len();
        self.table_rows.insert(TableKind::Items, rows);
        for (kind, _) in INTERNED {
            if let Some(interned) = self.flat.interned.get(&kind) {
                let own = self.joined.iter().map(|&j| interned.pointers.value(j as usize));
                let pointers = UInt32Array::from_iter_values(own);
                let used = distinct(&pointers, interned.table.rows());
                self.table_rows.insert(kind, used.len());
                self.pointers.insert(kind, (used, pointers));
            }
        }
        let items = self.item_maps()?;
        self.interned_tail();
        let flat = self.flat;
        let mut arrays = Vec::with_capacity(flat.columns.len());
        for column in &flat.columns {
            let array = match column {
                Outside::Timestamp => self.timestamps(),
                Outside::Pointer(kind) => self.pointer(*kind),
                Outside::Column(kind, id) => self.column(*kind, id, &column.name())?,
                Outside::Children(kind) => self.children(*kind)?,
                Outside::Tail(TableKind::Items, ty) => nested(items.by_type[*ty as usize].clone(), column, rows),
                Outside::Repeated(TableKind::Items) => nested(items.repeated.clone(), column, rows),
                Outside::Tail(kind, ty) => self.repeated(*kind, column, |maps| maps.by_type[*ty as usize].as_ref())?,
                Outside::Repeated(kind) => self.repeated(*kind, column, |maps| maps.repeated.as_ref())?,
            };
            arrays.push(array);
        }
        self.finish(arrays)
    }

    fn timestamps(&self) -> ArrayRef {
        let micros = self.times.iter().map(|t| t.div_euclid(1_000));
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
    }

    fn pointer(&mut self, kind: TableKind) -> ArrayRef {
        let pointers = self.pointers.get(&kind).map(|(_, p)| p.values().as_ref()).unwrap_or_default();
        if let Some((_, pointer)) = INTERNED.iter().find(|(k, _)| *k == kind) {
            self.metas.entry(TableKind::Items).or_default().push(index_meta(*pointer));
        }
        Arc::new(Int32Array::from_iter_values(pointers.iter().map(|p| *p as i32)))
    }

    fn column(&mut self, kind: TableKind, id: &ColumnId, name: &str) -> Result<ArrayRef, StoreError> {
        let rows = self.places.len();
        if kind == TableKind::Items {
            let item = self.flat.rows.items.iter().find(|c| c.id == *id);
            let Some(item) = item else { return stored(id, default_array(id, rows)) };
            let array = item.gather(self.places)?;
            self.note(kind, id, name, &array)?;
            return stored(id, array);
        }
        let interned = self.flat.interned.get(&kind).zip(self.pointers.get(&kind));
        let own = interned.and_then(|(i, pointers)| Some((i.table.column(id)?.clone(), pointers.clone())));
        let Some((own, (used, pointers))) = own else { return stored(id, default_array(id, rows)) };
        self.note(kind, id, name, &take(&own, &used, None).map_err(unwritable)?)?;
        stored(id, spread(&own, &pointers)?)
    }

    /// Statistics, tokens and trace ids of a column of a table, as it will be read back.
    fn note(&mut self, kind: TableKind, id: &ColumnId, name: &str, array: &ArrayRef) -> Result<(), StoreError> {
        if *id == ColumnId::Intrinsic(Intrinsic::TraceId) {
            let ids = array.as_fixed_size_binary();
            let mut previous: &[u8] = &[];
            for id in ids.iter().flatten() {
                if id != previous {
                    self.out.traces.push(bloom::trace_hash(id));
                    previous = id;
                }
            }
        }
        if is_default(id, array) {
            return Ok(());
        }
        let mut meta = measure(id, array, Some(&mut self.tokens))?;
        if self.flat.personal.contains(name) {
            (meta.range, meta.dictionary) = (None, None);
        }
        if meta.range.is_none() && id.data_type() == DataType::Float64 {
            self.out.unbounded.insert(name.to_owned());
        }
        if self.flat.promoted.contains(&(kind, id.clone())) {
            self.out.attributes.insert((kind, id.clone()));
        }
        self.metas.entry(kind).or_default().push(meta);
        Ok(())
    }

    /// A nested column of an interned table for each item.
    fn repeated(
        &self,
        kind: TableKind,
        column: &Outside,
        pick: impl Fn(&Maps) -> Option<&ArrayRef>,
    ) -> Result<ArrayRef, StoreError> {
        let own = self.flat.interned.get(&kind).and_then(|i| pick(&i.maps)).zip(self.pointers.get(&kind));
        let taken = own.map(|(array, (_, pointers))| take(array, pointers, None).map_err(unwritable)).transpose()?;
        Ok(nested(taken, column, self.places.len()))
    }

    /// The maps of the items' own attributes that have no column.
    fn item_maps(&mut self) -> Result<Maps, StoreError> {
        let flat = self.flat;
        let mut columns = Vec::new();
        for item in &flat.rows.items {
            if let (ColumnId::Attr { key, .. }, Some(ty)) = (&item.id, flat.loose_type(TableKind::Items, &item.id)) {
                columns.push(Loose::new(key.clone(), ty, &item.gather(self.places)?)?);
            }
        }
        let owners = self.joined.iter().enumerate();
        let entries: Vec<TailEntry<'_>> =
            owners.flat_map(|(row, &owner)| flat.tail.entries(TableKind::Items, owner, row)).collect();
        let loose = columns.iter().map(|c| (c.rows().count(), &c.key)).filter(|(rows, _)| *rows > 0);
        let loose: Vec<(usize, Arc<str>)> = loose.map(|(rows, key)| (rows, key.clone())).collect();
        for column in &columns {
            column.tokens(&mut self.tokens);
        }
        self.note_tail(loose.into_iter(), &entries);
        maps(self.places.len(), &columns, &entries, true)
    }

    /// Counts what the tail will have, and what can be found in it.
    fn note_tail(&mut self, loose: impl Iterator<Item = (usize, Arc<str>)>, entries: &[TailEntry<'_>]) {
        let rows = self.table_rows.entry(TableKind::Tail).or_default();
        *rows += entries.len();
        for (count, key) in loose {
            *rows += count;
            self.tail_keys.insert(key);
        }
        for entry in entries {
            if !self.tail_keys.contains(entry.key) {
                self.tail_keys.insert(entry.key.into());
            }
            self.tokens.tail(entry.key, entry.text);
        }
    }

    fn interned_tail(&mut self) {
        for (kind, _) in INTERNED {
            let Some((interned, (used, _))) = self.flat.interned.get(&kind).zip(self.pointers.get(&kind).cloned())
            else {
                continue;
            };
            for &row in used.values() {
                let own = &interned.loose[row as usize];
                self.note_tail(own.iter().map(|key| (1, key.clone())), &[]);
                let entries: Vec<TailEntry<'_>> = self.flat.tail.entries(kind, row, 0).collect();
                self.note_tail(std::iter::empty(), &entries);
            }
            interned.columns.iter().for_each(|c| c.tokens(&mut self.tokens));
        }
    }

    /// A list of structs for each item.
    fn children(&mut self, kind: TableKind) -> Result<ArrayRef, StoreError> {
        let rows = self.places.len();
        let column = Outside::Children(kind);
        let Some(children) = self.flat.children.iter().find(|c| c.table.kind() == kind) else {
            return Ok(nested(None, &column, rows));
        };
        let (mut picked, mut offsets) = (Vec::new(), vec![0i32]);
        for &item in self.joined {
            picked.extend(children.starts[item as usize]..children.starts[item as usize + 1]);
            offsets.push(i32::try_from(picked.len()).map_err(unwritable)?);
        }
        if picked.is_empty() {
            return Ok(nested(None, &column, rows));
        }
        self.table_rows.insert(kind, picked.len());
        self.metas.entry(kind).or_default().push(index_meta(Intrinsic::Parent));
        let picked = UInt32Array::from(picked);
        let mut fixed: HashMap<Intrinsic, ArrayRef> = HashMap::new();
        let mut loose = Vec::new();
        for column in children.table.columns().iter().filter(|c| !is_index(&c.id)) {
            let array = take(&column.array, &picked, None).map_err(unwritable)?;
            // Only values that are used may be seen, and be in filters.
            let array = if column.id.is_text() { cast(&array, &DataType::Utf8).map_err(unwritable)? } else { array };
            self.note(kind, &column.id, &format!("{}.{}", Outside::Children(kind).name(), column.id), &array)?;
            match &column.id {
                ColumnId::Intrinsic(i) => {
                    fixed.insert(*i, array);
                }
                ColumnId::Attr { key, ty } => loose.push(Loose::new(key.clone(), *ty, &array)?),
            }
        }
        let owners = picked.values().iter().enumerate();
        let entries: Vec<TailEntry<'_>> =
            owners.flat_map(|(row, &owner)| self.flat.tail.entries(kind, owner, row)).collect();
        self.note_tail(std::iter::empty(), &entries);
        let maps = maps(picked.len(), &loose, &entries, false)?;
        let (mut fields, mut arrays) = (Vec::new(), Vec::new());
        for (what, field) in child_fields(kind) {
            let array = match what {
                ChildField::Fixed(i) => {
                    let own = fixed.get(&i).cloned().unwrap_or_else(|| default_array(&i.into(), picked.len()));
                    Some(stored(&i.into(), own)?)
                }
                ChildField::Attributes(ty) => maps.by_type[ty as usize].clone(),
                ChildField::Repeated => maps.repeated.clone(),
            };
            arrays.push(array.unwrap_or_else(|| new_null_array(field.data_type(), picked.len())));
            fields.push(field);
        }
        let structs = StructArray::try_new(fields.into(), arrays, None).map_err(unwritable)?;
        let DataType::List(element) = column.data_type() else { return Err(unwritable("a list of children")) };
        let nulls = filled(&offsets);
        let list = ListArray::try_new(element, OffsetBuffer::new(offsets.into()), Arc::new(structs), nulls);
        Ok(Arc::new(list.map_err(unwritable)?))
    }

    fn finish(mut self, arrays: Vec<ArrayRef>) -> Result<Group, StoreError> {
        if self.table_rows.get(&TableKind::Tail).is_some_and(|rows| *rows > 0) {
            let keys = StringArray::from_iter_values(std::mem::take(&mut self.tail_keys));
            let tail = self.metas.entry(TableKind::Tail).or_default();
            tail.extend([Intrinsic::Of, Intrinsic::Parent, Intrinsic::Value].map(index_meta));
            tail.push(measure(&Intrinsic::Key.into(), &(Arc::new(dictionary(keys)?) as ArrayRef), None)?);
        }
        let services = self.services();
        let (min, max) = self.times.iter().fold((i64::MAX, i64::MIN), |(min, max), t| (min.min(*t), max.max(*t)));
        let tables = TableKind::ALL.into_iter().filter_map(|kind| {
            let rows = self.table_rows.get(&kind).copied().filter(|n| *n > 0)?;
            Some(TableMeta { kind, rows, columns: self.metas.remove(&kind).unwrap_or_default() })
        });
        let tables = tables.collect();
        let meta =
            GroupMeta { rows: self.places.len(), time_min: min, time_max: max, services, tables, ..Default::default() };
        Ok(Group { arrays, meta, tokens: self.tokens })
    }

    /// The distinct services; `None` where there are too many to list, or none may be listed.
    fn services(&self) -> Option<Vec<Arc<str>>> {
        let Some(interned) = self.flat.interned.get(&TableKind::Resources) else { return Some(Vec::new()) };
        let service = ColumnId::attr("service.name", AttrType::Str);
        let Some(column) = interned.table.column(&service) else { return Some(Vec::new()) };
        if self.flat.personal.contains(&Outside::Column(TableKind::Resources, service).name()) {
            return None;
        }
        let plain = cast(column, &DataType::Utf8).ok()?;
        let plain = plain.as_string::<i32>();
        let (used, _) = self.pointers.get(&TableKind::Resources)?;
        let mut distinct: Vec<Arc<str>> = Vec::new();
        let mut seen = HashSet::new();
        for &row in used.values().iter().filter(|r| plain.is_valid(**r as usize)) {
            if seen.insert(plain.value(row as usize)) {
                distinct.push(plain.value(row as usize).into());
            }
        }
        (distinct.len() <= SERVICES_MAX).then_some(distinct)
    }
}

/// Rows of a table that are pointed to, ascending.
fn distinct(pointers: &UInt32Array, rows: usize) -> UInt32Array {
    let mut used = vec![false; rows];
    pointers.values().iter().for_each(|p| used[*p as usize] = true);
    UInt32Array::from_iter_values((0..rows as u32).filter(|r| used[*r as usize]))
}

/// A column of an interned table for each item; text as a dictionary, which costs a number an item.
fn spread(own: &ArrayRef, pointers: &UInt32Array) -> Result<ArrayRef, StoreError> {
    if *own.data_type() == DataType::Utf8 {
        return take(&dictionary(own.as_string::<i32>().clone())?, pointers, None).map_err(unwritable);
    }
    take(own, pointers, None).map_err(unwritable)
}

/// Plain text as a dictionary.
fn dictionary(plain: StringArray) -> Result<DictionaryArray<UInt32Type>, StoreError> {
    let ty = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
    let cast = cast(&plain, &ty).map_err(unwritable)?;
    Ok(cast.as_dictionary::<UInt32Type>().clone())
}

fn nested(array: Option<ArrayRef>, column: &Outside, rows: usize) -> ArrayRef {
    array.unwrap_or_else(|| new_null_array(&column.data_type(), rows))
}

/// The array in the type of the file: signed, text as it is.
fn stored(id: &ColumnId, array: ArrayRef) -> Result<ArrayRef, StoreError> {
    match id.data_type() {
        DataType::UInt8 | DataType::UInt32 => cast(&array, &DataType::Int64).map_err(unwritable),
        _ => Ok(array),
    }
}

fn index_meta(id: Intrinsic) -> ColumnMeta {
    ColumnMeta { id: id.into(), null_count: 0, range: None, dictionary: None }
}
