//! Logical fields: where the values of a name lie in a frame, and how they become one set of values.
//!
//! A name may have columns in several tables (record, scope, resource), several types, rows in the tail, or lie within an
//! array or map; which of them a frame has differs from frame to frame. In each row the first scope that has the key counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::error::ArrowError;
use prism_model::{AttrType, ColumnId, Intrinsic, TableKind, Value};

use crate::eval::builder::ValsBuilder;
use crate::eval::node::{Level, PathStep, Unit};
use crate::eval::text::trace_state_member;
use crate::eval::vals::{Scalar, Text, Vals};
use crate::fixed;
use crate::identity;
use crate::names::Fixed;
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
    /// The types of the columns of an attribute that a table has, in the order of [`AttrType::ALL`].
    fn types(&self, table: TableKind, key: &str) -> Vec<AttrType>;
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
            let types = columns.types(table, key);
            if !types.is_empty() || exact_tail {
                layers.push(Layer::Columns { table, key: key.clone(), types, tail: exact_tail });
            }
        }
        for (dot, _) in key.rmatch_indices('.') {
            let (front, path) = (&key[..dot], &key[dot + 1..]);
            if front.is_empty() || path.is_empty() {
                continue;
            }
            let tail = columns.tail_may_hold(front);
            for &table in tables {
                if tail || columns.types(table, front).contains(&AttrType::Json) {
                    layers.push(Layer::Within { table, key: front.into(), tail, path: path.to_owned() });
                }
            }
        }
        layers
    }

    /// Which types a frame has of it.
    pub(crate) fn types(&self, columns: &dyn Columns) -> Types {
        let mut types = Types::default();
        match &self.from {
            From::Fixed { fixed, .. } => types.of.extend(fixed::types_of(*fixed)),
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
                Ok(fixed::read(*table, *fixed, from)?.map(|v| (*table, v)).into_iter().collect())
            }
            From::TraceState { table, key } => {
                let state = fixed::read(*table, Fixed::Plain(Intrinsic::TraceState), from)?;
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
