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
        let mut joined: Vec<u32> = Vec::with_capacity(rows);
        for slice in slices(&unsorted_times, slice_rows.max(1)) {
            let row = |i: u32| {
                let resource = resource.map_or(0, |r| r.value(i as usize));
                let rank = rank.get(resource as usize).copied().unwrap_or(0);
                (rank, traces.get(i as usize).copied().unwrap_or(0), unsorted_times[i as usize])
            };
            sort_slice(&slice, row, &mut joined);
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

/// The rows of each `slice_rows` that follow each other in time (of equal times as they came), as they came.
fn slices(times: &[i64], slice_rows: usize) -> Vec<Vec<u32>> {
    /// Moves rows to their slices; what each but the first begins with goes to `begins`.
    fn split(rows: &mut [(i64, u32)], slice_rows: usize, begins: &mut Vec<(i64, u32)>) {
        let slices = rows.len().div_ceil(slice_rows);
        if slices > 1 {
            let at = slices / 2 * slice_rows;
            rows.select_nth_unstable(at);
            let (before, behind) = rows.split_at_mut(at);
            split(before, slice_rows, begins);
            begins.push(behind[0]);
            split(behind, slice_rows, begins);
        }
    }
    let mut begins = Vec::new();
    // Finding out where slices end is cheaper than sorting all rows by time: in their slice they are sorted otherwise.
    split(&mut times.iter().copied().zip(0..).collect::<Vec<_>>(), slice_rows, &mut begins);
    let mut slices: Vec<Vec<u32>> =
        (0..=begins.len()).map(|_| Vec::with_capacity(slice_rows.min(times.len()))).collect();
    for row in times.iter().copied().zip(0..) {
        slices[begins.partition_point(|begin| *begin <= row)].push(row.1);
    }
    slices
}

/// Appends the rows of a slice, which ascend, in their order. `row` tells the rank of a row's resource, its trace and its time.
fn sort_slice(slice: &[u32], row: impl Fn(u32) -> (u32, u64, i64), sorted: &mut Vec<u32>) {
    // What is sorted are traces, which are fewer than rows: rank, begin, trace.
    let mut groups: Vec<(u32, i64, u64)> = Vec::new();
    let mut known: HashMap<(u32, u64), u32, foldhash::fast::RandomState> = HashMap::default();
    let mut of = Vec::with_capacity(slice.len());
    let mut last: Option<((u32, u64), u32)> = None;
    for &i in slice {
        let (rank, trace, time) = row(i);
        let next = groups.len() as u32;
        let group = match last {
            // A row without a trace is for itself.
            _ if trace == 0 => next,
            Some((key, group)) if key == (rank, trace) => group,
            _ => *known.entry((rank, trace)).or_insert(next),
        };
        match groups.get_mut(group as usize) {
            Some((_, begin, _)) => *begin = time.min(*begin),
            None => groups.push((rank, time, trace)),
        }
        if trace != 0 {
            last = Some(((rank, trace), group));
        }
        of.push(group);
    }
    let mut order: Vec<u32> = (0..groups.len() as u32).collect();
    order.sort_unstable_by_key(|group| (groups[*group as usize], *group));
    let mut counts = vec![0u32; groups.len()];
    of.iter().for_each(|group| counts[*group as usize] += 1);
    let mut places = vec![0; groups.len()];
    let mut end = sorted.len();
    for group in order {
        places[group as usize] = end;
        end += counts[group as usize] as usize;
    }
    sorted.resize(end, 0);
    for (i, group) in slice.iter().zip(of) {
        let place = &mut places[group as usize];
        sorted[*place] = *i;
        *place += 1;
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
                let (mut previous, mut hash): (&[u8], u64) = (&[], 0);
                hashes.extend(ids.as_fixed_size_binary().iter().map(|id| {
                    let Some(id) = id else { return 0 };
                    // The spans of a trace mostly come together.
                    if id != previous {
                        (previous, hash) = (id, bloom::trace_hash(id));
                    }
                    hash
                }));
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
    let mut known: HashMap<&str, u32, foldhash::fast::RandomState> = HashMap::default();
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

/// Values of so many bytes at these places. The compiler knows the width: variable ones take several times as long.
fn gathered<const WIDTH: usize>(parts: &[&FixedSizeBinaryArray], places: &[(usize, usize)]) -> Vec<u8> {
    let parts: Vec<&[[u8; WIDTH]]> = parts.iter().map(|part| part.value_data().as_chunks().0).collect();
    places.iter().map(|(part, row)| parts[*part][*row]).collect::<Vec<_>>().into_flattened()
}

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
        let bytes = match width {
            16 => gathered::<16>(&parts, places),
            8 => gathered::<8>(&parts, places),
            _ => places.iter().flat_map(|(part, row)| parts[*part].value(*row)).copied().collect(),
        };
        let nulls = parts.iter().any(|part| part.null_count() > 0).then(|| {
            let valid = |i: usize| parts[places[i].0].is_valid(places[i].1);
            NullBuffer::new(BooleanBuffer::collect_bool(places.len(), valid))
        });
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        Ok(Arc::new(FixedSizeBinaryArray::try_new(width, bytes.into(), nulls).map_err(unwritable)?))
    }

    /// Rows with a value.
    pub(super) fn present(&self) -> u64 {
        self.present
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The order that is told, made the slow way: by time, cut, each slice sorted by all that its rows are sorted by.
        #[test]
        fn slices_follow_each_other_in_time_and_traces_lie_together(
            rows in proptest::collection::vec((0u32..3, 0u64..6, -20i64..20), 0..120), slice_rows in 1usize..40,
        ) {
            let times: Vec<i64> = rows.iter().map(|row| row.2).collect();
            let mut found = Vec::new();
            for slice in slices(&times, slice_rows) {
                sort_slice(&slice, |i| rows[i as usize], &mut found);
            }
            let mut expected: Vec<u32> = (0..rows.len() as u32).collect();
            expected.sort_by_key(|i| times[*i as usize]);
            for slice in expected.chunks_mut(slice_rows) {
                let all = slice.to_vec();
                slice.sort_by_key(|i| {
                    let (rank, trace, time) = rows[*i as usize];
                    let same = all.iter().map(|i| rows[*i as usize]).filter(|row| (row.0, row.1) == (rank, trace));
                    let begin = if trace == 0 { time } else { same.map(|row| row.2).min().unwrap() };
                    (rank, begin, trace, *i)
                });
            }
            prop_assert_eq!(found, expected);
        }
    }
}
