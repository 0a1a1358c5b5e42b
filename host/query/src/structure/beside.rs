//! Values of spans beside rows: read for those spans that stand beside any, taken by the rows' places.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, DictionaryArray, StringArray, UInt32Array, UInt32Builder};
use arrow::datatypes::UInt32Type;
use arrow::error::ArrowError;

use super::ask::{Beside, OfTrace, Target, Told};
use super::pieces::each;
use super::span::{NONE, Sparse};
use super::times::UNKNOWN;
use crate::error::QueryError;
use crate::eval::node::{Level, Node};
use crate::eval::vals::Text;
use crate::eval::{self, At, Rows, Vals};
use crate::field::{Field, From};
use crate::frame::FrameRows;
use crate::scan::Scan;

/// What is told of some spans.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// A field: the values one after another, and the number of each place's.
    Field { ranks: Arc<Sparse<u32>>, vals: Box<Vals> },
    /// A number.
    Number(Arc<Sparse<i64>>),
    /// A text of a few.
    Text { numbers: Arc<Sparse<u32>>, texts: Arc<StringArray> },
}

impl Values {
    /// The values of these places, missing where there is none.
    pub(crate) fn at(&self, places: impl ExactSizeIterator<Item = u32>) -> Result<Vals, ArrowError> {
        match self {
            Values::Field { ranks, vals } => {
                let rows = places.map(|place| (place != NONE).then(|| ranks.get(place)).filter(|rank| *rank != NONE));
                let rows: UInt32Array = rows.collect();
                vals.take(&rows)
            }
            Values::Number(numbers) => {
                let known = |place: u32| (place != NONE).then(|| numbers.get(place)).filter(|n| *n != UNKNOWN);
                Ok(Vals::of_ints(places.map(known).collect()))
            }
            Values::Text { numbers, texts } => {
                let known = |place: u32| (place != NONE).then(|| numbers.get(place)).filter(|n| *n != NONE);
                let keys: UInt32Array = places.map(known).collect();
                let lists = DictionaryArray::<UInt32Type>::try_new(keys, texts.clone())?;
                Ok(Vals { len: lists.len(), json: Some(Text::Dict(lists)), ..Vals::default() })
            }
        }
    }

    /// Bytes in memory, about, beside what is [`Known`].
    pub(crate) fn read_bytes(&self) -> usize {
        match self {
            Values::Field { .. } => self.bytes(),
            Values::Number(_) | Values::Text { .. } => 0,
        }
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Values::Field { ranks, vals } => ranks.bytes() + vals.bytes(),
            Values::Number(numbers) => numbers.bytes(),
            Values::Text { numbers, texts } => numbers.bytes() + texts.get_array_memory_size(),
        }
    }
}

/// Reads fields of the spans at some places: the number of each place's values, and those of each field. Blocks on the disk.
pub(crate) fn read(
    scan: &Scan,
    threads: usize,
    bases: &[u32],
    places: &Sparse<u32>,
    fields: &[Field],
) -> Result<(Arc<Sparse<u32>>, Vec<Vals>), QueryError> {
    let read = each(scan, threads, scan.frames.len(), |number, _: &mut ()| {
        let frame = &scan.frames[number];
        let rows: UInt32Array =
            places.places(bases[number], frame.rows()).map(|place| place - bases[number]).collect::<Vec<_>>().into();
        if rows.is_empty() {
            return Ok(None);
        }
        let mut reading = scan.reading(number);
        let mut few = None;
        let read = reading.few_fields(fields, &rows).and_then(|batch| {
            few = batch;
            if few.is_none() { reading.read_fields(fields) } else { Ok(()) }
        });
        if scan.give_up(read, frame)? {
            return Ok(None);
        }
        let of_frame = match &few {
            Some(few) => FrameRows::new(fields, frame, std::slice::from_ref(few), rows.len(), None),
            None => FrameRows::new(fields, frame, reading.parts(), frame.rows(), Some(&rows)),
        };
        let vals = |field| eval::vals_at(&Node::Field(field), Level::Row, &of_frame);
        let vals = (0..fields.len()).map(vals).collect::<Result<Vec<Vals>, ArrowError>>()?;
        Ok::<_, QueryError>(Some((rows, vals)))
    })?;
    let mut ranks = Sparse::new(NONE);
    let mut parts: Vec<Vec<Vals>> = vec![Vec::new(); fields.len()];
    let mut next = 0;
    for (base, read) in bases.iter().zip(read) {
        let Some((rows, vals)) = read else { continue };
        scan.goes_on()?;
        parts.iter_mut().zip(vals).for_each(|(parts, vals)| parts.push(vals));
        for row in rows.values() {
            ranks.set(base + row, next);
            next += 1;
        }
    }
    Ok((Arc::new(ranks), parts.iter().map(|parts| concat(parts)).collect::<Result<_, _>>()?))
}

/// One set of values after another.
fn concat(parts: &[Vals]) -> Result<Vals, ArrowError> {
    let len = parts.iter().map(|part| part.len).sum();
    fn part<A: Array + Clone + 'static>(
        parts: &[Vals],
        of: impl Fn(&Vals) -> Option<&A>,
    ) -> Result<Option<A>, ArrowError> {
        let Some(ty) = parts.iter().find_map(|vals| of(vals).map(|a| a.data_type().clone())) else { return Ok(None) };
        let arrays = parts.iter().map(|vals| match of(vals) {
            Some(array) => Arc::new(array.clone()) as arrow::array::ArrayRef,
            None => arrow::array::new_null_array(&ty, vals.len),
        });
        let arrays: Vec<arrow::array::ArrayRef> = arrays.collect();
        let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
        Ok(arrow::compute::concat(&arrays)?.as_any().downcast_ref::<A>().cloned())
    }
    Ok(Vals {
        len,
        str: texts(parts, |vals| vals.str.as_ref())?,
        int: part(parts, |vals| vals.int.as_ref())?,
        double: part(parts, |vals| vals.double.as_ref())?,
        bool: part(parts, |vals| vals.bool.as_ref())?,
        bytes: part(parts, |vals| vals.bytes.as_ref())?,
        id: part(parts, |vals| vals.id.as_ref())?,
        json: texts(parts, |vals| vals.json.as_ref())?,
    })
}

/// Texts of several frames as one dictionary: the same text mostly stands in each of them.
fn texts<'v>(parts: &'v [Vals], of: impl Fn(&'v Vals) -> Option<&'v Text>) -> Result<Option<Text>, ArrowError> {
    if !parts.iter().any(|vals| of(vals).is_some()) {
        return Ok(None);
    }
    let mut numbers: HashMap<&str, u32, foldhash::fast::RandomState> = HashMap::default();
    let mut values: Vec<&str> = Vec::new();
    let mut number = |text: &'v str| {
        *numbers.entry(text).or_insert_with(|| {
            values.push(text);
            values.len() as u32 - 1
        })
    };
    let mut keys = UInt32Builder::new();
    for vals in parts {
        match of(vals) {
            None => keys.append_nulls(vals.len),
            Some(Text::Plain(texts)) => texts.iter().for_each(|text| keys.append_option(text.map(&mut number))),
            Some(Text::Dict(dictionary)) => {
                let texts = arrow::array::AsArray::as_string::<i32>(dictionary.values().as_ref());
                let of_value: Vec<Option<u32>> = texts.iter().map(|text| text.map(&mut number)).collect();
                dictionary.keys().iter().for_each(|key| keys.append_option(key.and_then(|key| of_value[key as usize])));
            }
        }
    }
    let dictionary = DictionaryArray::try_new(keys.finish(), Arc::new(StringArray::from(values)))?;
    Ok(Some(Text::Dict(dictionary)))
}

/// Whether a condition holds where all of its fields are missing, or that cannot be told.
pub(crate) fn holds_of_nothing(condition: &Node) -> bool {
    let values = HashMap::new();
    let tuples = Tuples { fields: &[], values: &values };
    eval::mask_at(condition, Level::Row, &tuples.of(&[], &[], 1)).map_or(true, |mask| mask.value(0))
}

/// Combinations of bound spans as rows to evaluate over.
pub(crate) struct Tuples<'s> {
    pub(crate) fields: &'s [Field],
    /// By field of the plan.
    pub(crate) values: &'s HashMap<usize, Values>,
}

impl<'s> Tuples<'s> {
    /// Some combinations: the place of each column's binding.
    pub(crate) fn of<'t>(&'t self, columns: &'t [usize], places: &'t [Vec<u32>], len: usize) -> TupleRows<'t> {
        TupleRows { tuples: self, columns, places, len }
    }
}

pub(crate) struct TupleRows<'t> {
    tuples: &'t Tuples<'t>,
    columns: &'t [usize],
    places: &'t [Vec<u32>],
    len: usize,
}

impl Rows for TupleRows<'_> {
    fn field(&self, field: usize) -> Result<At<Vals>, ArrowError> {
        let column = match self.tuples.fields.get(field).map(|field| &field.from) {
            Some(From::Beside(Beside { target: Target::Bound(binding), .. })) => {
                self.columns.iter().position(|column| column == binding)
            }
            _ => None,
        };
        let of = match (column, self.tuples.values.get(&field)) {
            (Some(column), Some(values)) => values.at(self.places[column].iter().copied())?,
            _ => Vals::nulls(self.len),
        };
        Ok(At { level: Level::Row, of })
    }

    fn len(&self, level: Level) -> usize {
        if level == Level::One { 1 } else { self.len }
    }

    fn lift(&self, _: Level, _: Level) -> Result<UInt32Array, ArrowError> {
        // Combinations have one level.
        Ok(UInt32Array::from_iter_values(0..self.len as u32))
    }
}

/// The numbers that are told of spans and traces.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) own: Option<Arc<Sparse<i64>>>,
    pub(crate) critical: Option<Arc<Sparse<i64>>>,
    pub(crate) of_traces: HashMap<OfTrace, Values>,
}

impl Known {
    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let own = [&self.own, &self.critical].into_iter().flatten().map(|numbers| numbers.bytes());
        own.sum::<usize>() + self.of_traces.values().map(Values::bytes).sum::<usize>()
    }

    /// What is told without a look at a field.
    pub(crate) fn values(&self, told: &Told) -> Option<Values> {
        match told {
            Told::Field(_) => None,
            Told::SelfDuration => self.own.clone().map(Values::Number),
            Told::CriticalDuration => self.critical.clone().map(Values::Number),
            Told::Trace(of) => self.of_traces.get(of).cloned(),
        }
    }
}
