//! Logical fields: where the values of a name lie in a frame, and how they become one set of values.
//!
//! A name may have columns in several tables (record, scope, resource), several types, rows in the tail, or lie within an
//! array or map; which of them a frame has differs from frame to frame. In each row the first scope that has the key counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Int64Array, StringArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, UInt32Type};
use arrow::error::ArrowError;
use prism_model::{AttrType, ColumnId, Intrinsic, TableKind, Value};

use crate::eval::builder::ValsBuilder;
use crate::eval::node::{Level, PathStep, Unit};
use crate::eval::text::trace_state_member;
use crate::eval::vals::{Scalar, Text, Vals};
use crate::identity;
use crate::names::{Fixed, enum_name};
use crate::structure;
use crate::structure::ask::{Beside, OfTrace, Told};

/// A field that a query names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    /// As it was written, for messages.
    pub(crate) name: String,
    pub(crate) from: From,
}

/// Where a field's values come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum From {
    /// A fixed column of a table.
    Fixed { table: TableKind, fixed: Fixed },
    /// A member of `trace_state`.
    TraceState { table: TableKind, key: String },
    /// An attribute: the first of these tables that has the key in a row.
    Attribute { tables: Vec<TableKind>, key: Arc<str> },
    /// A part of a structured log body: `body.x.y`.
    Body { path: String },
    /// What a table adds to the identity of a point's series.
    Identity { table: TableKind },
    /// A fixed field that only rows of another kind have, among rows of all kinds.
    Absent(Fixed),
    /// A value of another span than the row's, or of its trace (`structure`).
    Beside(Beside),
}

impl From {
    /// The fixed field that it is, of whichever span.
    pub(crate) fn fixed(&self) -> Option<Fixed> {
        match self {
            From::Fixed { fixed, .. } | From::Absent(fixed) => Some(*fixed),
            From::Beside(Beside { told: Told::Field(inner), .. }) => inner.from.fixed(),
            _ => None,
        }
    }
}

/// What a frame (or several) has of a field.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Types {
    /// Attribute types, or those that a fixed field has.
    pub(crate) of: BTreeSet<AttrType>,
    /// Values may be of any type: within arrays and maps, or in the tail.
    pub(crate) any: bool,
}

impl Types {
    pub(crate) fn found(&self) -> bool {
        self.any || !self.of.is_empty()
    }
}

/// The columns that a frame has.
pub(crate) trait Columns {
    /// Ids of the columns of a table.
    fn has(&self, table: TableKind, id: &ColumnId) -> bool;
    /// The typed columns of attributes that a table has.
    fn attributes(&self, table: TableKind) -> Vec<ColumnId>;
    /// Whether the tail may hold this key; `false` only where that is certain.
    fn tail_may_hold(&self, key: &str) -> bool;
    /// Whether some duration may be below 0, which marks an absent end.
    fn negative_durations(&self) -> bool;
}

/// A place within a frame.
#[derive(Clone, Debug, PartialEq)]
enum Layer {
    /// Typed columns of one key.
    Columns { table: TableKind, key: Arc<str>, types: Vec<AttrType>, tail: bool },
    /// Within an array or map column.
    Within { table: TableKind, key: Arc<str>, tail: bool, path: String },
}

impl Field {
    /// What its values are measured in.
    pub(crate) fn unit(&self) -> Unit {
        match &self.from {
            From::Fixed { fixed, .. } | From::Absent(fixed) => match fixed {
                Fixed::Duration => Unit::Duration,
                Fixed::Time | Fixed::Plain(Intrinsic::Time) | Fixed::ObservedTime | Fixed::StartTime => Unit::Time,
                _ => Unit::Plain,
            },
            From::Beside(beside) => beside.unit(),
            _ => Unit::Plain,
        }
    }

    /// The level at which a condition on the field asks for some child; `None` for fields of the row itself.
    pub(crate) fn child(&self) -> Option<Level> {
        let table = match &self.from {
            From::Fixed { table, .. } | From::TraceState { table, .. } => *table,
            From::Attribute { tables, .. } => *tables.first()?,
            From::Body { .. } | From::Absent(_) | From::Identity { .. } | From::Beside(_) => return None,
        };
        Some(Level::of_table(table)).filter(|level| level.is_child())
    }

    /// Whether its values are lists of numbers.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.from, From::Fixed { fixed: Fixed::List(_), .. } | From::Absent(Fixed::List(_)))
    }

    fn layers(&self, columns: &dyn Columns) -> Vec<Layer> {
        let From::Attribute { tables, key } = &self.from else { return Vec::new() };
        let mut layers = Vec::new();
        let exact_tail = columns.tail_may_hold(key);
        for &table in tables {
            let has = |ty: &AttrType| columns.has(table, &ColumnId::Attr { key: key.clone(), ty: *ty });
            let types: Vec<AttrType> = AttrType::ALL.into_iter().filter(has).collect();
            if !types.is_empty() || exact_tail {
                layers.push(Layer::Columns { table, key: key.clone(), types, tail: exact_tail });
            }
        }
        for (dot, _) in key.match_indices('.').collect::<Vec<_>>().into_iter().rev() {
            let (front, path) = (&key[..dot], &key[dot + 1..]);
            if front.is_empty() || path.is_empty() {
                continue;
            }
            let tail = columns.tail_may_hold(front);
            for &table in tables {
                let front: Arc<str> = front.into();
                if tail || columns.has(table, &ColumnId::Attr { key: front.clone(), ty: AttrType::Json }) {
                    layers.push(Layer::Within { table, key: front, tail, path: path.to_owned() });
                }
            }
        }
        layers
    }

    /// Which types a frame has of it.
    pub(crate) fn types(&self, columns: &dyn Columns) -> Types {
        let mut types = Types::default();
        match &self.from {
            From::Fixed { fixed, .. } => types.of.extend(fixed_types(*fixed)),
            From::TraceState { .. } => types.of.extend([AttrType::Str]),
            From::Body { .. } | From::Identity { .. } => types.any = true,
            From::Absent(_) => {}
            From::Beside(beside) => match &beside.told {
                Told::Field(inner) => return inner.types(columns),
                Told::Trace(OfTrace::Services) => types.of.extend([AttrType::Json]),
                _ => types.of.extend([AttrType::Int]),
            },
            From::Attribute { .. } => {
                for layer in self.layers(columns) {
                    match layer {
                        Layer::Columns { types: of, tail, .. } => {
                            types.of.extend(of);
                            types.any |= tail;
                        }
                        Layer::Within { .. } => types.any = true,
                    }
                }
            }
        }
        types
    }

    /// Where the key has typed columns only (so that their statistics tell everything about it): the columns, by precedence.
    pub(crate) fn plain_columns(&self, columns: &dyn Columns) -> Option<Vec<(TableKind, ColumnId)>> {
        match &self.from {
            From::Fixed { table, fixed: Fixed::Plain(i) | Fixed::Json(i) } => Some(vec![(*table, (*i).into())]),
            From::Attribute { .. } => {
                let mut out = Vec::new();
                for layer in self.layers(columns) {
                    let Layer::Columns { table, key, types, tail: false } = layer else { return None };
                    out.extend(types.into_iter().map(|ty| (table, ColumnId::Attr { key: key.clone(), ty })));
                }
                Some(out)
            }
            _ => None,
        }
    }

    /// The columns to read for it.
    pub(crate) fn wanted(&self, columns: &dyn Columns, want: &mut impl FnMut(TableKind, ColumnId)) {
        let pointer = |table: TableKind| match table {
            TableKind::Resources => Some((TableKind::Items, Intrinsic::Resource)),
            TableKind::Scopes => Some((TableKind::Items, Intrinsic::Scope)),
            TableKind::Descriptors => Some((TableKind::Items, Intrinsic::Metric)),
            TableKind::Events | TableKind::Links | TableKind::Exemplars => Some((table, Intrinsic::Parent)),
            TableKind::Items | TableKind::Tail => None,
        };
        match &self.from {
            From::Fixed { table, fixed } => {
                let need_end = *fixed != Fixed::Duration || columns.negative_durations();
                for &column in fixed.columns().iter().filter(|c| need_end || **c != Intrinsic::Time) {
                    want(*table, column.into());
                }
                pointer(*table).into_iter().for_each(|(t, i)| want(t, i.into()));
            }
            From::TraceState { table, .. } => {
                want(*table, Intrinsic::TraceState.into());
                pointer(*table).into_iter().for_each(|(t, i)| want(t, i.into()));
            }
            From::Body { .. } => want(TableKind::Items, Intrinsic::BodyJson.into()),
            From::Identity { table } => {
                identity::wanted(*table, columns, want);
                pointer(*table).into_iter().for_each(|(t, i)| want(t, i.into()));
            }
            From::Absent(_) => {}
            // Read before the scan.
            From::Beside(_) => {}
            From::Attribute { .. } => {
                for layer in self.layers(columns) {
                    let (table, key, types, tail) = match layer {
                        Layer::Columns { table, key, types, tail } => (table, key, types, tail),
                        Layer::Within { table, key, tail, .. } => (table, key, vec![AttrType::Json], tail),
                    };
                    for ty in types {
                        want(table, ColumnId::Attr { key: key.clone(), ty });
                    }
                    if tail {
                        for i in [Intrinsic::Of, Intrinsic::Parent, Intrinsic::Key, Intrinsic::Value] {
                            want(TableKind::Tail, i.into());
                        }
                    }
                    pointer(table).into_iter().for_each(|(t, i)| want(t, i.into()));
                }
            }
        }
    }

    /// The columns to read for it of the span that it is of, where that is another than the row's.
    pub(crate) fn wanted_beside(&self, columns: &dyn Columns, want: &mut impl FnMut(TableKind, ColumnId)) {
        match &self.from {
            From::Beside(Beside { told: Told::Field(inner), .. }) => inner.wanted(columns, want),
            From::Beside(Beside { told: Told::Trace(of), .. }) if of.of_services() => {
                structure::service_name().wanted(columns, want);
            }
            _ => {}
        }
    }

    /// The values of each table that may have some, by precedence. An empty list: missing in every row.
    pub(crate) fn read(&self, columns: &dyn Columns, from: &dyn Loaded) -> Result<Vec<(TableKind, Vals)>, ArrowError> {
        match &self.from {
            From::Fixed { table, fixed } => {
                Ok(read_fixed(*table, *fixed, from)?.map(|v| (*table, v)).into_iter().collect())
            }
            From::TraceState { table, key } => {
                let state = read_fixed(*table, Fixed::Plain(Intrinsic::TraceState), from)?;
                let member = |vals| trace_state_member(&vals, key).map(|v| (*table, v));
                state.map(member).transpose().map(|v| v.into_iter().collect())
            }
            From::Beside(_) => Ok(Vec::new()),
            From::Body { path } => {
                let body = from.column(TableKind::Items, &Intrinsic::BodyJson.into());
                let text = body.as_ref().and_then(Text::from_array);
                Ok(text.map(|t| (TableKind::Items, within(&t, path))).into_iter().collect())
            }
            From::Absent(_) => Ok(Vec::new()),
            From::Identity { table } => Ok(vec![(*table, identity::read(*table, columns, from)?)]),
            From::Attribute { .. } => {
                let mut out: Vec<(TableKind, Vals)> = Vec::new();
                for layer in self.layers(columns) {
                    if let Some(found) = read_layer(&layer, from)? {
                        out.push(found);
                    }
                }
                Ok(out)
            }
        }
    }
}

/// Columns that were read.
pub(crate) trait Loaded {
    /// A column; `None` where the frame does not have it.
    fn column(&self, table: TableKind, id: &ColumnId) -> Option<ArrayRef>;
    /// Rows of a table.
    fn rows(&self, table: TableKind) -> usize;
}

fn fixed_types(fixed: Fixed) -> Vec<AttrType> {
    match fixed {
        Fixed::Body => AttrType::ALL.to_vec(),
        Fixed::Value => vec![AttrType::Int, AttrType::Double],
        Fixed::Kind | Fixed::Status | Fixed::MetricType | Fixed::Temporality => vec![AttrType::Str],
        Fixed::Time | Fixed::Severity | Fixed::Duration | Fixed::ObservedTime | Fixed::StartTime => {
            vec![AttrType::Int]
        }
        Fixed::Json(_) | Fixed::List(_) => vec![AttrType::Json],
        Fixed::Plain(i) => vec![match i.data_type() {
            DataType::Utf8 | DataType::FixedSizeBinary(_) => AttrType::Str,
            DataType::Boolean => AttrType::Bool,
            DataType::Float64 => AttrType::Double,
            DataType::Binary => AttrType::Bytes,
            _ => AttrType::Int,
        }],
    }
}

/// A column as values of its type.
pub(crate) fn typed(array: &ArrayRef, ty: AttrType) -> Option<Vals> {
    let mut vals = Vals::nulls(array.len());
    match ty {
        AttrType::Str => vals.str = Some(Text::from_array(array)?),
        AttrType::Json => vals.json = Some(Text::from_array(array)?),
        AttrType::Int => vals.int = Some(array.as_any().downcast_ref().cloned()?),
        AttrType::Double => vals.double = Some(array.as_any().downcast_ref().cloned()?),
        AttrType::Bool => vals.bool = Some(array.as_any().downcast_ref().cloned()?),
        AttrType::Bytes => vals.bytes = Some(array.as_any().downcast_ref().cloned()?),
    }
    Some(vals)
}

fn read_layer(layer: &Layer, from: &dyn Loaded) -> Result<Option<(TableKind, Vals)>, ArrowError> {
    let column = |table, key: &Arc<str>, ty| from.column(table, &ColumnId::Attr { key: key.clone(), ty });
    match layer {
        Layer::Columns { table, key, types, tail } => {
            let mut layers: Vec<Vals> =
                types.iter().filter_map(|ty| column(*table, key, *ty).and_then(|a| typed(&a, *ty))).collect();
            if let Some(vals) = tail.then(|| read_tail(*table, key, from)).flatten() {
                layers.push(vals);
            }
            if layers.is_empty() { Ok(None) } else { Ok(Some((*table, Vals::coalesce(&layers)?))) }
        }
        Layer::Within { table, key, tail, path } => {
            let own = column(*table, key, AttrType::Json).as_ref().and_then(Text::from_array).map(|t| within(&t, path));
            let tail = tail.then(|| read_tail(*table, key, from)).flatten();
            let tail = tail.and_then(|v| v.json).map(|t| within(&t, path));
            let layers: Vec<Vals> = own.into_iter().chain(tail).collect();
            if layers.is_empty() { Ok(None) } else { Ok(Some((*table, Vals::coalesce(&layers)?))) }
        }
    }
}

/// The first value of the key for each row of the table that has one in the tail.
fn read_tail(table: TableKind, key: &str, from: &dyn Loaded) -> Option<Vals> {
    let tail = |i: Intrinsic| from.column(TableKind::Tail, &i.into());
    let (of, parents, keys) = (tail(Intrinsic::Of)?, tail(Intrinsic::Parent)?, tail(Intrinsic::Key)?);
    let of = of.as_any().downcast_ref::<arrow::array::UInt8Array>()?;
    let parents = parents.as_any().downcast_ref::<UInt32Array>()?;
    let same_key = Text::from_array(&keys)?.test(|k| k == key);
    let values = tail(Intrinsic::Value).as_ref().and_then(Text::from_array);
    let mut out = ValsBuilder::new();
    let mut next = 0;
    for i in same_key.set_indices().filter(|i| of.value(*i) == table as u8) {
        let row = parents.value(i) as usize;
        // Later values of the same row are behind `next` already.
        if row < next || row >= from.rows(table) {
            continue;
        }
        (next..row).for_each(|_| out.push(Scalar::Null));
        let text = values.as_ref().and_then(|v| v.get(i)).unwrap_or("null");
        out.push(Value::from_text(text).map_or(Scalar::Null, |v| Scalar::from_value(&v)));
        next = row + 1;
    }
    if next == 0 {
        return None;
    }
    (next..from.rows(table)).for_each(|_| out.push(Scalar::Null));
    Some(out.finish())
}

/// The values at a dotted path within maps. A key of a map may itself contain dots: the longest that fits counts.
fn within(text: &Text, path: &str) -> Vals {
    fn find<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
        let Value::Map(entries) = value else { return None };
        let get = |key: &str| entries.iter().find(|(k, _)| k == key).map(|(_, v)| v);
        get(path).or_else(|| {
            let mut dots = path.match_indices('.').collect::<Vec<_>>().into_iter().rev();
            dots.find_map(|(dot, _)| find(get(&path[..dot])?, &path[dot + 1..]))
        })
    }
    let mut out = ValsBuilder::new();
    for row in 0..text.len() {
        let value = text.get(row).and_then(|t| Value::from_text(t).ok());
        out.push(value.as_ref().and_then(|v| find(v, path)).map_or(Scalar::Null, Scalar::from_value));
    }
    out.finish()
}

/// The steps of a field's path as the evaluator has them.
pub(crate) fn path_steps(steps: &[prism_dsl::Step]) -> Vec<PathStep> {
    steps
        .iter()
        .map(|step| match step {
            prism_dsl::Step::Key(key) => PathStep::Key(key.clone()),
            prism_dsl::Step::Index(i) => PathStep::Index(*i),
        })
        .collect()
}

fn to_ints(array: &ArrayRef) -> Result<Int64Array, ArrowError> {
    Ok(cast(array, &DataType::Int64)?.as_primitive().clone())
}

/// A fixed field; `None` where every row lacks it. A column that is not there holds its default, given once.
pub(crate) fn read_fixed(table: TableKind, fixed: Fixed, from: &dyn Loaded) -> Result<Option<Vals>, ArrowError> {
    let column = |i: Intrinsic| from.column(table, &i.into());
    let plain =
        |i: Intrinsic| column(i).unwrap_or_else(|| prism_model::reshape::default_array(&i.into(), from.rows(table)));
    match fixed {
        Fixed::Plain(i) => {
            let array = plain(i);
            Ok(Some(match array.data_type() {
                DataType::FixedSizeBinary(_) => Vals::of_ids(array.as_fixed_size_binary().clone()),
                DataType::Boolean => Vals::of_bools(array.as_boolean().clone()),
                DataType::Float64 => Vals::of_doubles(array.as_primitive().clone()),
                DataType::Int64 => Vals::of_ints(array.as_primitive().clone()),
                DataType::Utf8 | DataType::Dictionary(..) => match Text::from_array(&array) {
                    Some(text) => Vals::of_text(text),
                    None => return Ok(None),
                },
                _ => Vals::of_ints(to_ints(&array)?),
            }))
        }
        Fixed::Json(i) => {
            let text = column(i).as_ref().and_then(Text::from_array);
            Ok(text.map(|t| Vals { len: t.len(), json: Some(t), ..Vals::default() }))
        }
        Fixed::Time => event_time(&plain(Intrinsic::Time), column(Intrinsic::ObservedTime)).map(Some),
        Fixed::Kind | Fixed::Status | Fixed::MetricType | Fixed::Temporality => {
            let Some((names, number)) = fixed.number_names().zip(fixed.columns().first()) else { return Ok(None) };
            Ok(Some(named(&plain(*number), names)?))
        }
        Fixed::Severity | Fixed::ObservedTime | Fixed::StartTime => {
            let number = fixed.columns().first().and_then(|i| column(*i));
            Ok(number.map(|a| without_zero(&to_ints(&a)?)).transpose()?)
        }
        Fixed::List(i) => {
            Ok(column(i).as_ref().and_then(lists).map(|t| Vals { len: t.len(), json: Some(t), ..Vals::default() }))
        }
        Fixed::Duration => duration(&plain(Intrinsic::Duration), column(Intrinsic::Running), column(Intrinsic::Time)),
        Fixed::Body => {
            let parts = [
                (Intrinsic::Body, AttrType::Str),
                (Intrinsic::BodyInt, AttrType::Int),
                (Intrinsic::BodyDouble, AttrType::Double),
                (Intrinsic::BodyBool, AttrType::Bool),
                (Intrinsic::BodyBytes, AttrType::Bytes),
                (Intrinsic::BodyJson, AttrType::Json),
            ];
            siblings(&parts, &column)
        }
        Fixed::Value => {
            siblings(&[(Intrinsic::ValueInt, AttrType::Int), (Intrinsic::ValueDouble, AttrType::Double)], &column)
        }
    }
}

/// Typed columns of one logical field.
fn siblings(
    parts: &[(Intrinsic, AttrType)],
    column: &dyn Fn(Intrinsic) -> Option<ArrayRef>,
) -> Result<Option<Vals>, ArrowError> {
    let layers: Vec<Vals> = parts.iter().filter_map(|(i, ty)| column(*i).and_then(|a| typed(&a, *ty))).collect();
    if layers.is_empty() { Ok(None) } else { Ok(Some(Vals::coalesce(&layers)?)) }
}

/// Lists of numbers in the text form of arrays, by which `contains`, `length` and `[0]` know them.
fn lists(array: &ArrayRef) -> Option<Text> {
    let lists = array.as_list_opt::<i32>()?;
    let values = lists.values();
    let (ints, doubles) = (values.as_primitive_opt::<Int64Type>(), values.as_primitive_opt::<Float64Type>());
    let item = |i: usize| match (ints, doubles) {
        (Some(ints), _) => Value::Int(ints.value(i)),
        (_, Some(doubles)) => Value::Double(doubles.value(i)),
        _ => Value::Null,
    };
    let text = |row: usize| {
        let range = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
        lists.is_valid(row).then(|| Value::Array(range.map(item).collect()).to_text())
    };
    Some(Text::Plain((0..lists.len()).map(text).collect()))
}

fn without_zero(ints: &Int64Array) -> Result<Vals, ArrowError> {
    Ok(Vals::of_ints(ints.iter().map(|v| v.filter(|v| *v != 0)).collect()))
}

/// The time by which rows are placed: what `Batch::event_times` gives.
fn event_time(times: &ArrayRef, observed: Option<ArrayRef>) -> Result<Vals, ArrowError> {
    let times = to_ints(times)?;
    let Some(observed) = observed.map(|a| to_ints(&a)).transpose()? else { return Ok(Vals::of_ints(times)) };
    let pairs = times.values().iter().zip(observed.values());
    Ok(Vals::of_ints(Int64Array::from_iter_values(pairs.map(|(t, o)| if *t == 0 { *o } else { *t }))))
}

/// Missing for a running span and for one without end (end 0), whose difference means nothing.
fn duration(
    durations: &ArrayRef,
    running: Option<ArrayRef>,
    times: Option<ArrayRef>,
) -> Result<Option<Vals>, ArrowError> {
    let durations = durations.as_primitive::<arrow::datatypes::Int64Type>();
    let running: Option<BooleanArray> = running.map(|a| a.as_boolean().clone());
    if running.is_none() && durations.values().iter().all(|d| *d >= 0) {
        return Ok(Some(Vals::of_ints(durations.clone())));
    }
    let times = times.map(|a| to_ints(&a)).transpose()?;
    let no_end = |row: usize| times.as_ref().is_some_and(|t| t.value(row).wrapping_add(durations.value(row)) == 0);
    let runs = |row: usize| running.as_ref().is_some_and(|r| r.is_valid(row) && r.value(row));
    let known = (0..durations.len()).map(|row| {
        let duration = durations.value(row);
        let open = runs(row) || (duration < 0 && no_end(row));
        (!open && durations.is_valid(row)).then_some(duration)
    });
    Ok(Some(Vals::of_ints(known.collect())))
}

/// Numbers as their names, by value.
fn named(numbers: &ArrayRef, names: &[&str]) -> Result<Vals, ArrowError> {
    let numbers = numbers.as_primitive::<Int32Type>();
    let mut values: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut odd: std::collections::HashMap<i32, u32> = std::collections::HashMap::new();
    let keys: UInt32Array = numbers
        .iter()
        .map(|n| {
            let n = n?;
            match u32::try_from(n) {
                Ok(known) if (known as usize) < names.len() => Some(known),
                _ => Some(*odd.entry(n).or_insert_with(|| {
                    values.push(enum_name(names, n));
                    values.len() as u32 - 1
                })),
            }
        })
        .collect();
    let dictionary = DictionaryArray::<UInt32Type>::try_new(keys, Arc::new(StringArray::from(values)))?;
    Ok(Vals::of_text(Text::Dict(dictionary)))
}

/// The type of lists of ints, as users see it.
pub(crate) const INTS: &str = "int[]";
/// The type of lists of doubles, as users see it.
pub(crate) const DOUBLES: &str = "double[]";

/// The types of a fixed field as users see them.
pub(crate) fn shown_types(fixed: Fixed) -> Vec<&'static str> {
    match fixed {
        Fixed::Time | Fixed::ObservedTime | Fixed::StartTime | Fixed::Plain(Intrinsic::Time) => vec!["time"],
        Fixed::List(i) if i.data_type() == prism_model::column::list_of(DataType::Int64) => vec![INTS],
        Fixed::List(_) => vec![DOUBLES],
        Fixed::Duration => vec!["duration"],
        Fixed::Plain(Intrinsic::TraceId | Intrinsic::SpanId | Intrinsic::ParentId) => vec!["id"],
        other => fixed_types(other).into_iter().map(AttrType::as_str).collect(),
    }
}
