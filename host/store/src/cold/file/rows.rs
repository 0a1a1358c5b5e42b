//! The rows of all batches of a file in one order, without joining their columns first: each row group is gathered from the
//! batches as they came.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeBinaryArray, StringArray, StringBuilder, UInt32Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{cast, interleave};
use arrow::datatypes::{DataType, UInt32Type};
use prism_model::reshape::default_array;
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind};

use super::unwritable;
use crate::error::StoreError;
use crate::frame::bloom;

/// Values of a text column that are looked at to find out whether it repeats.
const SAMPLES: usize = 4_096;

/// The interned tables, with the column of the items that points into each.
pub(super) const INTERNED: [(TableKind, Intrinsic); 3] = [
    (TableKind::Resources, Intrinsic::Resource),
    (TableKind::Scopes, Intrinsic::Scope),
    (TableKind::Descriptors, Intrinsic::Metric),
];

/// Whether a column holds tables together.
pub(super) fn is_index(id: &ColumnId) -> bool {
    use Intrinsic::*;
    matches!(id, ColumnId::Intrinsic(Resource | Scope | Metric | Parent | Of))
}

/// All rows of a file.
pub(super) struct Rows {
    pub(super) signal: Signal,
    /// All tables but the columns of the items: of these only the pointers into interned tables, before sorting.
    pub(super) tables: Batch,
    /// The columns of the items by batch.
    pub(super) items: Vec<ItemColumn>,
    /// Sorted row -> (batch, row of it).
    pub(super) order: Vec<(usize, usize)>,
    /// Sorted row -> row of the joined items.
    pub(super) joined: Vec<u32>,
    /// Event time by sorted row.
    pub(super) times: Vec<i64>,
}

/// One column of the items, in its batches.
pub(super) struct ItemColumn {
    pub(super) id: ColumnId,
    parts: Vec<ArrayRef>,
    text: Text,
    present: u64,
}

enum Text {
    /// Not text, or text that hardly repeats.
    Plain,
    /// The distinct values of all batches, and the number of each value (of a dictionary) or row (of plain text).
    Dictionary { values: StringArray, numbers: Vec<Vec<u32>> },
}

impl Rows {
    /// The rows of batches of one signal: slices of `slice_rows` rows that follow each other in time, each sorted by resource,
    /// then by the begin of the trace there (rows without a trace: by their time), then as they came. What the rows of a trace
    /// repeat (ids, users, paths) thus lies together, and a trace in one slice or two.
    pub(super) fn sort(signal: Signal, batches: Vec<Batch>, slice_rows: usize) -> Result<Rows, StoreError> {
        let slim: Vec<Batch> = batches.iter().map(slim).collect::<Result<_, _>>()?;
        let tables = match &slim[..] {
            [] => Batch::try_new(signal, Vec::new(), Vec::new()).map_err(unwritable)?,
            slim => Batch::concat(slim).map_err(unwritable)?,
        };
        drop(slim);
        let rank = ranks(&tables)?;
        let resource = tables.items().index(Intrinsic::Resource);
        let rows = tables.rows();
        let mut unsorted_times = Vec::with_capacity(rows);
        batches.iter().for_each(|b| unsorted_times.extend_from_slice(b.event_times().values()));
        let traces = trace_hashes(&batches);
        let mut joined: Vec<u32> = (0..rows as u32).collect();
        joined.sort_by_key(|i| unsorted_times[*i as usize]);
        for slice in joined.chunks_mut(slice_rows.max(1)) {
            let mut begins: HashMap<(u32, u64), i64, foldhash::fast::RandomState> = HashMap::default();
            let mut keyed: Vec<((u32, i64, u64), u32)> = Vec::with_capacity(slice.len());
            for &i in &*slice {
                let resource = resource.map_or(0, |r| r.value(i as usize));
                let rank = rank.get(resource as usize).copied().unwrap_or(0);
                let (trace, time) = (traces.get(i as usize).copied().unwrap_or(0), unsorted_times[i as usize]);
                // Rows come here by time: the first of a trace says where it begins.
                let begin = if trace == 0 { time } else { *begins.entry((rank, trace)).or_insert(time) };
                keyed.push(((rank, begin, trace), i));
            }
            keyed.sort_unstable();
            slice.iter_mut().zip(keyed).for_each(|(place, (_, i))| *place = i);
        }
        let times = joined.iter().map(|i| unsorted_times[*i as usize]).collect();
        let mut place = Vec::with_capacity(rows);
        for (part, batch) in batches.iter().enumerate() {
            place.extend((0..batch.rows()).map(|row| (part, row)));
        }
        let order = joined.iter().map(|&i| place[i as usize]).collect();
        Ok(Rows { signal, tables, items: item_columns(&batches)?, order, joined, times })
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

/// By row: what tells traces apart, 0 where there is none. Empty where no batch has traces.
fn trace_hashes(batches: &[Batch]) -> Vec<u64> {
    let ids = |b: &Batch| b.items().intrinsic(Intrinsic::TraceId).cloned();
    if batches.iter().all(|b| ids(b).is_none()) {
        return Vec::new();
    }
    let mut hashes = Vec::with_capacity(batches.iter().map(Batch::rows).sum());
    for batch in batches {
        match ids(batch) {
            Some(ids) => {
                let ids = ids.as_fixed_size_binary();
                hashes.extend(ids.iter().map(|id| id.map_or(0, bloom::trace_hash)));
            }
            None => hashes.resize(hashes.len() + batch.rows(), 0),
        }
    }
    hashes
}

/// Everything but the columns of the items, which are gathered from where they are.
fn slim(batch: &Batch) -> Result<Batch, StoreError> {
    let mut tables: Vec<Table> = batch.tables().iter().filter(|t| t.kind() != TableKind::Items).cloned().collect();
    let pointers = batch.items().columns().iter().filter(|c| is_index(&c.id)).cloned().collect();
    tables.push(Table::try_new(TableKind::Items, batch.rows(), pointers).map_err(unwritable)?);
    // Origins would be joined for nothing: they are summed.
    let none: Vec<Origin> = Vec::new();
    Batch::try_new(batch.signal, none, tables).map_err(unwritable)
}

/// Where each resource comes: by service, so that the rows of one lie together.
fn ranks(tables: &Batch) -> Result<Vec<u32>, StoreError> {
    let Some(resources) = tables.table(TableKind::Resources) else { return Ok(vec![0]) };
    let mut order: Vec<u32> = (0..resources.rows() as u32).collect();
    if let Some(services) = resources.column(&ColumnId::attr("service.name", AttrType::Str)) {
        let plain = cast(services, &DataType::Utf8).map_err(unwritable)?;
        let plain = plain.as_string::<i32>();
        let service = |i: u32| plain.is_valid(i as usize).then(|| plain.value(i as usize));
        order.sort_by(|a, b| service(*a).cmp(&service(*b)));
    }
    let mut ranks = vec![0; order.len()];
    order.iter().enumerate().for_each(|(rank, row)| ranks[*row as usize] = rank as u32);
    Ok(ranks)
}

fn item_columns(batches: &[Batch]) -> Result<Vec<ItemColumn>, StoreError> {
    let longest = batches.iter().map(Batch::rows).max().unwrap_or(0);
    let mut found: Vec<(ColumnId, Vec<Option<ArrayRef>>)> = Vec::new();
    let mut places: HashMap<ColumnId, usize> = HashMap::new();
    for (part, batch) in batches.iter().enumerate() {
        for Column { id, array } in batch.items().columns().iter().filter(|c| !is_index(&c.id)) {
            let place = *places.entry(id.clone()).or_insert_with(|| {
                found.push((id.clone(), vec![None; batches.len()]));
                found.len() - 1
            });
            found[place].1[part] = Some(array.clone());
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.into_iter().map(|(id, parts)| item_column(id, parts, longest)).collect()
}

fn item_column(id: ColumnId, parts: Vec<Option<ArrayRef>>, longest: usize) -> Result<ItemColumn, StoreError> {
    let encoded = |a: &ArrayRef| matches!(a.data_type(), DataType::Dictionary(..));
    let nothing = |a: &ArrayRef| a.null_count() == a.len();
    let there = || parts.iter().flatten().filter(|a| !nothing(a));
    let text = if id.is_text() && there().next().is_some() && (there().all(encoded) || repeats(&parts)) {
        dictionary(&parts)
    } else {
        Text::Plain
    };
    let present = parts.iter().flatten().map(|a| (a.len() - a.null_count()) as u64).sum();
    // One array of defaults serves every batch that does without the column, whatever its length.
    let absent = default_array(&id, longest);
    let plain = |a: ArrayRef| match a.data_type() {
        DataType::Dictionary(..) if matches!(text, Text::Plain) => cast(&a, &DataType::Utf8).map_err(unwritable),
        _ => Ok(a),
    };
    let parts = parts.into_iter().map(|p| p.map_or_else(|| Ok(absent.clone()), plain)).collect::<Result<_, _>>()?;
    Ok(ItemColumn { id, parts, text, present })
}

/// Looks at some values of plain text: whether all of them together would repeat often, though those of one batch do not.
fn repeats(parts: &[Option<ArrayRef>]) -> bool {
    let present: usize = parts.iter().flatten().map(|a| a.len() - a.null_count()).sum();
    let step = (present / SAMPLES).max(1);
    let mut seen = std::collections::HashSet::new();
    let (mut at, mut looked) = (0, 0usize);
    for part in parts.iter().flatten() {
        let of = TextPart::of(part);
        for row in 0..part.len() {
            if let Some(text) = of.text(row) {
                if at % step == 0 {
                    looked += 1;
                    seen.insert(text);
                }
                at += 1;
            }
        }
    }
    // As many as met twice tell how many there are: n draws out of d values meet about n * n / 2d times.
    let met = looked - seen.len();
    met > 0 && looked.saturating_mul(looked) / (2 * met) < present / 4
}

/// Text of a batch, in either layout.
enum TextPart<'a> {
    Plain(&'a StringArray),
    Dictionary(&'a UInt32Array, &'a StringArray),
}

impl<'a> TextPart<'a> {
    fn of(array: &'a ArrayRef) -> TextPart<'a> {
        match array.as_dictionary_opt::<UInt32Type>() {
            Some(dictionary) => TextPart::Dictionary(dictionary.keys(), dictionary.values().as_string()),
            None => TextPart::Plain(array.as_string()),
        }
    }

    fn text(&self, row: usize) -> Option<&'a str> {
        match self {
            TextPart::Plain(texts) => texts.is_valid(row).then(|| texts.value(row)),
            TextPart::Dictionary(keys, values) => {
                let key = keys.is_valid(row).then(|| keys.value(row) as usize)?;
                values.is_valid(key).then(|| values.value(key))
            }
        }
    }
}

fn dictionary(parts: &[Option<ArrayRef>]) -> Text {
    let mut known: HashMap<&str, u32> = HashMap::new();
    let mut values = StringBuilder::new();
    let mut numbers = Vec::with_capacity(parts.len());
    for part in parts {
        // By value of a dictionary, by row of plain text; a null has no number.
        let texts: &StringArray = match part.as_ref().map(TextPart::of) {
            None => {
                numbers.push(Vec::new());
                continue;
            }
            Some(TextPart::Plain(texts) | TextPart::Dictionary(_, texts)) => texts,
        };
        let mut of_part = Vec::with_capacity(texts.len());
        for text in texts {
            of_part.push(text.map_or(NONE, |text| {
                let next = known.len() as u32;
                *known.entry(text).or_insert_with(|| {
                    values.append_value(text);
                    next
                })
            }));
        }
        numbers.push(of_part);
    }
    Text::Dictionary { values: values.finish(), numbers }
}

const NONE: u32 = u32::MAX;

impl ItemColumn {
    /// Its values at these places; a dictionary holds only values that are used, each once.
    pub(super) fn gather(&self, places: &[(usize, usize)]) -> Result<ArrayRef, StoreError> {
        match &self.text {
            Text::Dictionary { values, numbers } => self.gather_dictionary(places, values, numbers),
            Text::Plain => match self.id.data_type() {
                DataType::FixedSizeBinary(width) => self.gather_fixed(places, width),
                _ => {
                    let parts: Vec<&dyn Array> = self.parts.iter().map(AsRef::as_ref).collect();
                    interleave(&parts, places).map_err(unwritable)
                }
            },
        }
    }

    fn gather_dictionary(
        &self,
        places: &[(usize, usize)],
        values: &StringArray,
        numbers: &[Vec<u32>],
    ) -> Result<ArrayRef, StoreError> {
        /// How the rows of a batch find their numbers.
        enum Part<'a> {
            Keys(&'a [u32], Option<&'a NullBuffer>, &'a [u32]),
            /// Plain text is numbered by row; a batch without the column has no numbers.
            Rows(&'a [u32]),
        }
        let part = |(part, numbers)| match ArrayRef::as_dictionary_opt::<UInt32Type>(part) {
            Some(dictionary) => Part::Keys(dictionary.keys().values(), dictionary.keys().nulls(), numbers),
            None => Part::Rows(numbers),
        };
        let parts: Vec<Part<'_>> = self.parts.iter().zip(numbers.iter().map(Vec::as_slice)).map(part).collect();
        let mut local = vec![NONE; values.len()];
        let mut used: Vec<u32> = Vec::new();
        let mut keys = Vec::with_capacity(places.len());
        let mut missing = 0;
        for &(part, row) in places {
            let number = match &parts[part] {
                Part::Keys(keys, None, numbers) => numbers[keys[row] as usize],
                Part::Keys(keys, Some(nulls), numbers) if nulls.is_valid(row) => numbers[keys[row] as usize],
                Part::Keys(..) => NONE,
                Part::Rows(numbers) => numbers.get(row).copied().unwrap_or(NONE),
            };
            if number == NONE {
                missing += 1;
                keys.push(NONE);
                continue;
            }
            let key = &mut local[number as usize];
            if *key == NONE {
                *key = used.len() as u32;
                used.push(number);
            }
            keys.push(*key);
        }
        let nulls =
            (missing > 0).then(|| NullBuffer::new(BooleanBuffer::collect_bool(keys.len(), |i| keys[i] != NONE)));
        if missing > 0 {
            keys.iter_mut().filter(|key| **key == NONE).for_each(|key| *key = 0);
        }
        let texts = StringArray::from_iter_values(used.iter().map(|&n| values.value(n as usize)));
        let keys = UInt32Array::new(keys.into(), nulls);
        Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(texts)).map_err(unwritable)?))
    }

    fn gather_fixed(&self, places: &[(usize, usize)], width: i32) -> Result<ArrayRef, StoreError> {
        let parts: Vec<&FixedSizeBinaryArray> = self.parts.iter().map(|p| p.as_fixed_size_binary()).collect();
        let size = width as usize;
        let mut bytes = Vec::with_capacity(places.len() * size);
        let mut valid = Vec::with_capacity(places.len());
        for &(part, row) in places {
            bytes.extend_from_slice(&parts[part].value_data()[row * size..(row + 1) * size]);
            valid.push(parts[part].is_valid(row));
        }
        let nulls = Some(NullBuffer::from(valid)).filter(|n| n.null_count() > 0);
        Ok(Arc::new(FixedSizeBinaryArray::try_new(width, bytes.into(), nulls).map_err(unwritable)?))
    }

    /// Rows with a value.
    pub(super) fn present(&self) -> u64 {
        self.present
    }
}
