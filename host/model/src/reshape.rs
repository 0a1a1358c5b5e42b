//! The same rows in another arrangement: part of a batch, or several as one.
//!
//! Children follow their item, interned rows that nobody points to any more are dropped, equal ones are joined.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, NullBufferBuilder,
    StringArray, UInt8Array, UInt32Array, new_null_array,
};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, UInt32Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use crate::batch::{Batch, Origin};
use crate::column::{ColumnId, Intrinsic};
use crate::table::{BadTable, Column, Table, TableKind};

/// Rows that could not be rearranged: a bug, or a column beyond the 2 GiB that 32-bit offsets reach.
#[derive(Debug, thiserror::Error)]
pub enum ReshapeError {
    /// Arrow refused.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// The result is no batch.
    #[error(transparent)]
    Table(#[from] BadTable),
}

/// The column that points into an interned table, where there is one.
fn pointer_to(kind: TableKind) -> Option<Intrinsic> {
    match kind {
        TableKind::Resources => Some(Intrinsic::Resource),
        TableKind::Scopes => Some(Intrinsic::Scope),
        TableKind::Descriptors => Some(Intrinsic::Metric),
        _ => None,
    }
}

/// An array of a column's default: what a column that is not there stands for.
pub fn default_array(id: &ColumnId, rows: usize) -> ArrayRef {
    let ColumnId::Intrinsic(intrinsic) = id else { return new_null_array(&id.data_type(), rows) };
    match (intrinsic, intrinsic.data_type()) {
        (_, DataType::UInt32) => Arc::new(UInt32Array::from_value(0, rows)),
        (_, DataType::UInt8) => Arc::new(UInt8Array::from_value(0, rows)),
        (Intrinsic::Scale | Intrinsic::PositiveOffset | Intrinsic::NegativeOffset, data_type) => {
            new_null_array(&data_type, rows)
        }
        (_, DataType::Int32) => Arc::new(Int32Array::from_value(0, rows)),
        (Intrinsic::Time | Intrinsic::Duration | Intrinsic::ObservedTime | Intrinsic::StartTime, _) => {
            Arc::new(Int64Array::from_value(0, rows))
        }
        (Intrinsic::Running | Intrinsic::Monotonic, _) => Arc::new(BooleanArray::from(vec![false; rows])),
        (Intrinsic::SamplingWeight, _) => Arc::new(Float64Array::from_value(1.0, rows)),
        (_, data_type) => new_null_array(&data_type, rows),
    }
}

impl Batch {
    /// The items at `rows` (ascending, without repetition) with all that belongs to them.
    ///
    /// # Errors
    /// [`ReshapeError`] where a row is out of bounds.
    pub fn select(&self, rows: &UInt32Array) -> Result<Batch, ReshapeError> {
        // Per table: the old rows that stay, ascending. Items first, then what hangs on them or is pointed to.
        let mut kept: HashMap<TableKind, UInt32Array> = HashMap::from([(TableKind::Items, rows.clone())]);
        for table in self.tables() {
            if let Some(pointer) = pointer_to(table.kind()) {
                let mut used = vec![false; table.rows()];
                match self.items().index(pointer) {
                    Some(index) => rows.values().iter().for_each(|&r| used[index.value(r as usize) as usize] = true),
                    None => used[0] = true,
                }
                kept.insert(table.kind(), positions(used.into_iter()));
            }
        }
        let renumber_items = renumbering(rows, self.rows());
        for kind in [TableKind::Events, TableKind::Links, TableKind::Exemplars] {
            if let Some((table, parents)) = self.table(kind).and_then(|t| Some((t, t.index(Intrinsic::Parent)?))) {
                debug_assert_eq!(table.rows(), parents.len());
                let stays = parents.values().iter().map(|&p| renumber_items[p as usize].is_some());
                kept.insert(kind, positions(stays));
            }
        }
        let renumber: HashMap<TableKind, Vec<Option<u32>>> = self
            .tables()
            .iter()
            .filter_map(|t| Some((t.kind(), renumbering(kept.get(&t.kind())?, t.rows()))))
            .collect();
        let mut tables = Vec::with_capacity(self.tables().len());
        for table in self.tables() {
            if table.kind() == TableKind::Tail {
                tables.push(select_tail(table, &renumber)?);
            } else if let Some(rows) = kept.get(&table.kind()) {
                tables.push(select_table(table, rows, &renumber)?);
            }
        }
        Ok(Batch::try_new(self.signal, select_origins(&self.origins, rows), tables)?)
    }

    /// The rows of all batches, which are of one signal, in their order.
    ///
    /// # Errors
    /// [`ReshapeError`] where a text column would pass 2 GiB.
    pub fn concat(batches: &[Batch]) -> Result<Batch, ReshapeError> {
        if let [one] = batches {
            return Ok(one.clone());
        }
        let Some(signal) = batches.first().map(|b| b.signal) else {
            return Err(ArrowError::InvalidArgumentError("no batch to join".into()).into());
        };
        let present: Vec<TableKind> =
            INTERNED.into_iter().filter(|kind| batches.iter().any(|b| b.table(*kind).is_some())).collect();
        let completed;
        let batches = if batches.iter().any(|b| lacking(b, &present).next().is_some()) {
            completed = batches.iter().map(|b| complete(b, &present)).collect::<Result<Vec<_>, _>>()?;
            &completed
        } else {
            batches
        };
        let mut joined: HashMap<TableKind, (Table, Option<Vec<u32>>)> = HashMap::new();
        for kind in TableKind::ALL.into_iter().filter(|k| *k != TableKind::Tail) {
            let table = concat_tables(kind, batches)?;
            let (table, merged) = if pointer_to(kind).is_some() && table.rows() > 1 {
                let (table, merged) = join_equal_rows(table, &rows_with_tail(kind, batches)?)?;
                (table, Some(merged))
            } else {
                (table, None)
            };
            joined.insert(kind, (table, merged));
        }
        let items = point_to_merged(joined.remove(&TableKind::Items).map(|j| j.0), &joined)?;
        let tail = concat_tail(batches, &joined)?;
        let mut tables: Vec<Table> = joined.into_values().map(|(table, _)| table).collect();
        tables.push(items);
        tables.push(tail);
        let mut origins = Vec::new();
        let mut first = 0;
        for batch in batches {
            origins.extend(batch.origins.iter().cloned().map(|o| Origin { first_row: o.first_row + first, ..o }));
            first += batch.rows() as u32;
        }
        Ok(Batch::try_new(signal, origins, tables)?)
    }
}

/// Positions of the `true`s.
fn positions(flags: impl Iterator<Item = bool>) -> UInt32Array {
    flags.enumerate().filter(|(_, flag)| *flag).map(|(i, _)| i as u32).collect::<Vec<_>>().into()
}

/// Old row -> new row.
fn renumbering(kept: &UInt32Array, rows: usize) -> Vec<Option<u32>> {
    let mut new = vec![None; rows];
    kept.values().iter().enumerate().for_each(|(to, &from)| new[from as usize] = Some(to as u32));
    new
}

fn select_table(
    table: &Table,
    rows: &UInt32Array,
    renumber: &HashMap<TableKind, Vec<Option<u32>>>,
) -> Result<Table, ReshapeError> {
    let mut columns = Vec::with_capacity(table.columns().len());
    for column in table.columns() {
        let mut array = take_text_aware(&column.array, rows)?;
        if let Some(new) = target_of(&column.id).and_then(|kind| renumber.get(&kind)) {
            let old = array.as_primitive::<UInt32Type>();
            array = Arc::new(UInt32Array::from_iter_values(old.values().iter().filter_map(|&r| new[r as usize])));
        }
        columns.push(Column { id: column.id.clone(), array });
    }
    Ok(Table::try_new(table.kind(), rows.len(), columns)?)
}

/// `take`, after which a dictionary holds only values that are used, when that saves more than half: a few rows of a large
/// batch must not carry (or show) the values of the others.
fn take_text_aware(array: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef, ArrowError> {
    let taken = take(array, rows, None)?;
    let Some(dictionary) = taken.as_any().downcast_ref::<DictionaryArray<UInt32Type>>() else { return Ok(taken) };
    let values = dictionary.values();
    if values.is_empty() {
        return Ok(taken);
    }
    let mut used = vec![false; values.len()];
    dictionary.keys().iter().flatten().for_each(|k| used[k as usize] = true);
    let kept = positions(used.into_iter());
    if kept.len() == values.len() {
        return Ok(taken);
    }
    let new = renumbering(&kept, values.len());
    let keys: UInt32Array = dictionary.keys().iter().map(|k| k.and_then(|k| new[k as usize])).collect();
    Ok(Arc::new(DictionaryArray::try_new(keys, take(values, &kept, None)?)?))
}

fn select_tail(tail: &Table, renumber: &HashMap<TableKind, Vec<Option<u32>>>) -> Result<Table, ReshapeError> {
    let (of, parents) = tail_pointers(tail)?;
    let new_parent = |i: usize| -> Option<u32> {
        let new = renumber.get(&TableKind::from_u8(of.value(i))?)?;
        new[parents.value(i) as usize]
    };
    let rows = positions((0..tail.rows()).map(|i| new_parent(i).is_some()));
    let new_parents = UInt32Array::from_iter_values((0..tail.rows()).filter_map(new_parent));
    let mut columns = Vec::new();
    for column in tail.columns() {
        let array = match column.id {
            ColumnId::Intrinsic(Intrinsic::Parent) => Arc::new(new_parents.clone()) as ArrayRef,
            _ => take_text_aware(&column.array, &rows)?,
        };
        columns.push(Column { id: column.id.clone(), array });
    }
    Ok(Table::try_new(TableKind::Tail, rows.len(), columns)?)
}

fn tail_pointers(tail: &Table) -> Result<(&UInt8Array, &UInt32Array), BadTable> {
    let of = tail.intrinsic(Intrinsic::Of).and_then(|a| a.as_any().downcast_ref::<UInt8Array>());
    of.zip(tail.index(Intrinsic::Parent)).ok_or(BadTable::Dangling { column: "tail".into(), row: 0, rows: 0 })
}

fn select_origins(origins: &[Origin], rows: &UInt32Array) -> Vec<Origin> {
    let position = |row: u32| rows.values().partition_point(|&r| r < row) as u32;
    origins
        .iter()
        .map(|o| {
            let (first, end) = (position(o.first_row), position(o.first_row + o.rows));
            Origin { first_row: first, rows: end - first, ..o.clone() }
        })
        .filter(|o| o.rows > 0)
        .collect()
}

const INTERNED: [TableKind; 3] = [TableKind::Resources, TableKind::Scopes, TableKind::Descriptors];

/// The interned tables that some batch has and `batch` does without: its rows would then point to rows of others.
fn lacking(batch: &Batch, present: &[TableKind]) -> impl Iterator<Item = TableKind> {
    present.iter().copied().filter(|kind| batch.rows() > 0 && batch.table(*kind).is_none())
}

/// The batch with a row of defaults for each interned table that it does without and others have.
fn complete(batch: &Batch, present: &[TableKind]) -> Result<Batch, BadTable> {
    let mut tables = batch.tables().to_vec();
    tables.extend(lacking(batch, present).map(|kind| Table::empty(kind, 1)));
    Batch::try_new(batch.signal, batch.origins.clone(), tables)
}

/// The table that a column of row numbers points into.
fn target_of(id: &ColumnId) -> Option<TableKind> {
    match id {
        ColumnId::Intrinsic(Intrinsic::Resource) => Some(TableKind::Resources),
        ColumnId::Intrinsic(Intrinsic::Scope) => Some(TableKind::Scopes),
        ColumnId::Intrinsic(Intrinsic::Metric) => Some(TableKind::Descriptors),
        ColumnId::Intrinsic(Intrinsic::Parent) => Some(TableKind::Items),
        _ => None,
    }
}

/// The tables of one kind under each other; indices count on. A group may be a thousand batches of one row, so that the work
/// is by column that is there and not by column and batch.
fn concat_tables(kind: TableKind, batches: &[Batch]) -> Result<Table, ReshapeError> {
    let parts: Vec<(&Batch, Option<&Table>)> = batches.iter().map(|b| (b, b.table(kind))).collect();
    let rows_of = |part: &Option<&Table>| part.map_or(0, Table::rows);
    let rows = parts.iter().map(|(_, t)| rows_of(t)).sum();
    // The columns of any part, and where in which part each stands.
    let mut found: Vec<(&ColumnId, Vec<(usize, &ArrayRef)>)> = Vec::new();
    let mut places: HashMap<&ColumnId, usize> = HashMap::new();
    for (part, table) in parts.iter().enumerate().filter_map(|(i, (_, table))| Some((i, (*table)?))) {
        for column in table.columns() {
            let place = *places.entry(&column.id).or_insert_with(|| {
                found.push((&column.id, Vec::new()));
                found.len() - 1
            });
            found[place].1.push((part, &column.array));
        }
    }
    // An index that is absent in every part means row 0; once parts are joined it must be spelled out.
    let pointers: Vec<ColumnId> = INTERNED
        .into_iter()
        .filter(|target| kind == TableKind::Items && batches.iter().any(|b| b.table(*target).is_some()))
        .filter_map(|target| pointer_to(target).map(ColumnId::Intrinsic))
        .collect();
    found.extend(pointers.iter().filter(|p| !places.contains_key(p)).map(|p| (p, Vec::new())));
    let mut columns = Vec::with_capacity(found.len());
    for (id, arrays) in found {
        let mut arrays = arrays.into_iter().peekable();
        let in_parts = parts.iter().enumerate().map(|(i, (batch, table))| {
            (*batch, rows_of(table), arrays.next_if(|(part, _)| *part == i).map(|(_, array)| array))
        });
        let array = match target_of(id) {
            Some(target) => count_on(target, rows, in_parts),
            None => concat_arrays(&with_defaults(id, in_parts))?,
        };
        columns.push(Column { id: id.clone(), array });
    }
    Ok(Table::try_new(kind, rows, columns)?)
}

/// A column of row numbers over parts (batch, rows, the part's array), each of which counts on from the parts before it.
fn count_on<'a>(
    target: TableKind,
    rows: usize,
    parts: impl Iterator<Item = (&'a Batch, usize, Option<&'a ArrayRef>)>,
) -> ArrayRef {
    let (mut numbers, mut offset) = (Vec::with_capacity(rows), 0);
    for (batch, rows, array) in parts {
        match array {
            Some(array) => numbers.extend(array.as_primitive::<UInt32Type>().values().iter().map(|r| r + offset)),
            None => numbers.extend(std::iter::repeat_n(offset, rows)),
        }
        offset += batch.table(target).map_or(0, Table::rows) as u32;
    }
    Arc::new(UInt32Array::from(numbers))
}

/// The arrays of a column in parts, and one of defaults for each run of parts that do without it.
fn with_defaults<'a>(
    id: &ColumnId,
    parts: impl Iterator<Item = (&'a Batch, usize, Option<&'a ArrayRef>)>,
) -> Vec<ArrayRef> {
    let (mut arrays, mut without) = (Vec::new(), 0);
    for (_, rows, array) in parts {
        let Some(array) = array else {
            without += rows;
            continue;
        };
        if without > 0 {
            arrays.push(default_array(id, std::mem::take(&mut without)));
        }
        arrays.push(array.clone());
    }
    if without > 0 || arrays.is_empty() {
        arrays.push(default_array(id, without));
    }
    arrays
}

/// Arrays under each other; dictionaries become one with distinct values, mixed text becomes plain.
fn concat_arrays(arrays: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
    let encoded = |a: &ArrayRef| matches!(a.data_type(), DataType::Dictionary(..));
    // An all-null part (a column that the part did not have) joins either layout.
    let null = |a: &ArrayRef| a.null_count() == a.len();
    if !arrays.iter().any(encoded) {
        return concat(&arrays.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    }
    if !arrays.iter().all(|a| encoded(a) || null(a)) {
        let plain: Vec<ArrayRef> = arrays.iter().map(|a| cast(a, &DataType::Utf8)).collect::<Result<_, _>>()?;
        return concat(&plain.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    }
    let mut joined = Joined::default();
    let rows = arrays.iter().map(|a| a.len()).sum();
    let (mut keys, mut nulls) = (Vec::with_capacity(rows), NullBufferBuilder::new(rows));
    for array in arrays {
        let Some(dictionary) = array.as_any().downcast_ref::<DictionaryArray<UInt32Type>>() else {
            keys.resize(keys.len() + array.len(), 0);
            nulls.append_n_nulls(array.len());
            continue;
        };
        let new = joined.numbers_of(dictionary.values().as_string());
        let own = dictionary.keys();
        match own.nulls() {
            None => {
                keys.extend(own.values().iter().map(|key| new[*key as usize]));
                nulls.append_n_non_nulls(own.len());
            }
            // Any number may stand where there is none.
            Some(there) => {
                keys.extend(own.values().iter().map(|key| new.get(*key as usize).copied().unwrap_or_default()));
                nulls.append_buffer(there);
            }
        }
    }
    let keys = UInt32Array::try_new(keys.into(), nulls.finish())?;
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(joined.texts)))?))
}

/// The distinct texts of several dictionaries.
#[derive(Default)]
struct Joined<'a> {
    texts: Vec<&'a str>,
    numbers: HashMap<&'a str, u32, foldhash::fast::RandomState>,
}

impl<'a> Joined<'a> {
    /// The number of each value of a dictionary. What follows each other in time mostly has the same values in the same
    /// order: then one look tells.
    fn numbers_of(&mut self, values: &'a StringArray) -> Vec<u32> {
        let mut new = Vec::with_capacity(values.len());
        for i in 0..values.len() {
            let text = values.value(i);
            if self.texts.get(i) == Some(&text) {
                new.push(i as u32);
                continue;
            }
            let next = self.texts.len() as u32;
            let number = *self.numbers.entry(text).or_insert(next);
            if number == next {
                self.texts.push(text);
            }
            new.push(number);
        }
        new
    }
}

/// Rows of the joined table of this kind that own a part of the tail: their columns alone do not tell them apart.
fn rows_with_tail(kind: TableKind, batches: &[Batch]) -> Result<HashSet<u32>, ReshapeError> {
    let mut rows = HashSet::new();
    let mut offset = 0;
    for batch in batches {
        if let Some(tail) = batch.table(TableKind::Tail) {
            let (of, parents) = tail_pointers(tail)?;
            let own = of.values().iter().zip(parents.values()).filter(|(of, _)| **of == kind as u8);
            rows.extend(own.map(|(_, parent)| parent + offset));
        }
        offset += batch.table(kind).map_or(0, Table::rows) as u32;
    }
    Ok(rows)
}

/// One row for each distinct one, and old row -> new row. The rows in `apart` stay as they are.
fn join_equal_rows(table: Table, apart: &HashSet<u32>) -> Result<(Table, Vec<u32>), ReshapeError> {
    let (kind, rows) = (table.kind(), table.rows());
    let plain: Vec<ArrayRef> =
        table.columns().iter().map(|c| cast(&c.array, &c.id.data_type())).collect::<Result<_, ArrowError>>()?;
    if plain.is_empty() && apart.is_empty() {
        return Ok((Table::empty(kind, 1), vec![0; rows]));
    }
    let fields = plain.iter().map(|a| SortField::new(a.data_type().clone())).collect();
    let converted = RowConverter::new(fields)?.convert_columns(&plain)?;
    let mut distinct: HashMap<&[u8], u32> = HashMap::new();
    let mut merged = Vec::with_capacity(rows);
    let mut first = Vec::new();
    for i in 0..rows {
        let next = first.len() as u32;
        let bytes = if plain.is_empty() { &[] } else { converted.row(i).data() };
        let number = if apart.contains(&(i as u32)) { next } else { *distinct.entry(bytes).or_insert(next) };
        if number == next {
            first.push(i as u32);
        }
        merged.push(number);
    }
    let first = UInt32Array::from(first);
    let mut columns = Vec::with_capacity(table.columns().len());
    for column in table.columns() {
        columns.push(Column { id: column.id.clone(), array: take_text_aware(&column.array, &first)? });
    }
    Ok((Table::try_new(kind, first.len(), columns)?, merged))
}

fn point_to_merged(
    items: Option<Table>,
    joined: &HashMap<TableKind, (Table, Option<Vec<u32>>)>,
) -> Result<Table, ReshapeError> {
    let Some(items) = items else { return Ok(Table::empty(TableKind::Items, 0)) };
    let rows = items.rows();
    let mut columns = items.into_columns();
    for kind in INTERNED {
        let Some(pointer) = pointer_to(kind) else { continue };
        let Some((_, Some(merged))) = joined.get(&kind) else { continue };
        for column in columns.iter_mut().filter(|c| c.id == ColumnId::Intrinsic(pointer)) {
            let old = column.array.as_primitive::<UInt32Type>();
            column.array = Arc::new(UInt32Array::from_iter_values(old.values().iter().map(|&r| merged[r as usize])));
        }
    }
    Ok(Table::try_new(TableKind::Items, rows, columns)?)
}

fn concat_tail(
    batches: &[Batch],
    joined: &HashMap<TableKind, (Table, Option<Vec<u32>>)>,
) -> Result<Table, ReshapeError> {
    // (of, new parent) of each tail row in the order of the batches, then sorted, which keeps equal ones in order.
    let mut pointers: Vec<(u8, u32)> = Vec::new();
    let mut offsets = [0u32; TableKind::ALL.len()];
    let mut parts = Vec::new();
    for batch in batches {
        if let Some(tail) = batch.table(TableKind::Tail) {
            let (of, parents) = tail_pointers(tail)?;
            for (&of, &parent) in of.values().iter().zip(parents.values()) {
                let row = parent + offsets[usize::from(of)];
                let merged = TableKind::from_u8(of).and_then(|k| joined.get(&k)).and_then(|(_, m)| m.as_ref());
                pointers.push((of, merged.map_or(row, |m| m[row as usize])));
            }
            parts.push(tail.clone());
        }
        for table in batch.tables() {
            offsets[table.kind() as usize] += table.rows() as u32;
        }
    }
    let mut order: Vec<u32> = (0..pointers.len() as u32).collect();
    order.sort_by_key(|&i| pointers[i as usize]);
    let sorted = |f: fn(&(u8, u32)) -> u32| order.iter().map(|&i| f(&pointers[i as usize])).collect::<Vec<u32>>();
    let mut columns = vec![
        Column {
            id: Intrinsic::Of.into(),
            array: Arc::new(UInt8Array::from_iter_values(sorted(|p| u32::from(p.0)).into_iter().map(|of| of as u8))),
        },
        Column { id: Intrinsic::Parent.into(), array: Arc::new(UInt32Array::from(sorted(|p| p.1))) },
    ];
    for id in [Intrinsic::Key, Intrinsic::Value] {
        let id = ColumnId::Intrinsic(id);
        let arrays: Vec<ArrayRef> =
            parts.iter().map(|t| t.column(&id).cloned().unwrap_or_else(|| default_array(&id, t.rows()))).collect();
        if !arrays.is_empty() {
            let array = take(&concat_arrays(&arrays)?, &UInt32Array::from(order.clone()), None)?;
            columns.push(Column { id, array });
        }
    }
    Ok(Table::try_new(TableKind::Tail, order.len(), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Random, batch, texts};
    use crate::signal::Signal;
    use proptest::prelude::*;

    /// Rows and seed rather than the batch, so that a failure prints something readable.
    fn sample(signal: Signal, (rows, seed): (usize, u64)) -> Batch {
        batch(signal, rows, 1_800_000_000_000_000_000, seed)
    }

    fn any_signal() -> impl Strategy<Value = Signal> {
        prop_oneof![Just(Signal::Spans), Just(Signal::Logs), Just(Signal::Metrics)]
    }

    /// Which request each row came from.
    fn origins(batch: &Batch) -> Vec<[u8; 16]> {
        let mut of = vec![[0; 16]; batch.rows()];
        for o in &batch.origins {
            of[o.first_row as usize..(o.first_row + o.rows) as usize].fill(o.batch_id);
        }
        of
    }

    proptest! {
        #[test]
        fn selected_rows_keep_all_that_belongs_to_them(
            signal in any_signal(), whole in (0..30usize, any::<u64>()), seed in any::<u64>(),
        ) {
            let whole = sample(signal, whole);
            let mut random = Random(seed);
            let rows: Vec<u32> = (0..whole.rows() as u32).filter(|_| random.one_in(2)).collect();
            let part = whole.select(&UInt32Array::from(rows.clone())).unwrap();
            let (all, from) = (texts(&whole), origins(&whole));
            let expected: Vec<String> = rows.iter().map(|r| all[*r as usize].clone()).collect();
            prop_assert_eq!(texts(&part), expected);
            prop_assert_eq!(origins(&part), rows.iter().map(|r| from[*r as usize]).collect::<Vec<_>>());
        }

        #[test]
        fn joined_batches_keep_their_rows_in_order(
            signal in any_signal(), parts in proptest::collection::vec((0..12usize, any::<u64>()), 1..5),
        ) {
            let parts: Vec<Batch> = parts.into_iter().map(|p| sample(signal, p)).collect();
            let joined = Batch::concat(&parts).unwrap();
            prop_assert_eq!(texts(&joined), parts.iter().flat_map(texts).collect::<Vec<_>>());
            prop_assert_eq!(origins(&joined), parts.iter().flat_map(origins).collect::<Vec<_>>());
        }

        #[test]
        fn cut_and_joined_again_is_the_same(
            signal in any_signal(), whole in (0..30usize, any::<u64>()), at in 0..30u32,
        ) {
            let whole = sample(signal, whole);
            let at = at.min(whole.rows() as u32);
            let cut = |range: std::ops::Range<u32>| whole.select(&UInt32Array::from_iter_values(range)).unwrap();
            let joined = Batch::concat(&[cut(0..at), cut(at..whole.rows() as u32)]).unwrap();
            prop_assert_eq!(texts(&joined), texts(&whole));
        }
    }

    #[test]
    fn a_group_of_many_small_batches_of_different_columns_keeps_its_rows() {
        for signal in Signal::ALL {
            let parts: Vec<Batch> = (0..200).map(|i| sample(signal, (i as usize % 3, i))).collect();
            let joined = Batch::concat(&parts).unwrap();
            assert_eq!(texts(&joined), parts.iter().flat_map(texts).collect::<Vec<_>>());
            assert_eq!(origins(&joined), parts.iter().flat_map(origins).collect::<Vec<_>>());
        }
    }

    #[test]
    fn equal_resources_of_several_batches_become_one() {
        let one = crate::samples::spans(20, 0, 7);
        let joined = Batch::concat(&[one.clone(), one.clone(), one.clone()]).unwrap();
        let rows = |b: &Batch, kind| b.table(kind).map_or(0, Table::rows);
        assert_eq!(rows(&joined, TableKind::Resources), rows(&one, TableKind::Resources));
        assert_eq!(rows(&joined, TableKind::Scopes), rows(&one, TableKind::Scopes));
        assert_eq!(joined.rows(), 60);
    }
}
