//! The view of a plugin with access `rows`: tables of rows, resources and scopes as dictionary columns of the items, and a
//! table of leaves for each place.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, UInt8Type, UInt32Type};
use prism_model::{Batch, Intrinsic, Table, TableKind, Value};

use crate::bindings::base::{Dtype, Place, Role};
use crate::bindings::batches;
use crate::entries::EntriesBuilder;
use crate::leaves::{Part, dtype_of, walk};
use crate::metadata::{Need, place_of};
use crate::source::{Doc, Inner, Sources, Target, field_of, first_need, is_document, role_and_name, text_entries};
use crate::view::{Field, Map, Segment, Values, View, ViewColumn, ViewTable};

/// The view with tables of rows. `sources` (none for a filter) say which columns can be edited; `docs` are the documents of
/// the same batch, of which each stands in one row.
///
/// # Errors
/// Arrow's.
pub(crate) fn view(
    batch: &Batch,
    needs: &[Need],
    sources: &Sources,
    keys: Option<EntriesBuilder>,
) -> Result<View, String> {
    // Only redactors are shown keys.
    let mut points = Points::new(batch, keys.is_none());
    let mut view = keys.filter(|k| !k.is_empty()).map(|k| k.finish(needs)).unwrap_or_default();
    for table in batch.tables() {
        let kind = match table.kind() {
            TableKind::Items => batches::TableKind::Items,
            TableKind::Events => batches::TableKind::Events,
            TableKind::Links => batches::TableKind::Links,
            TableKind::Exemplars => batches::TableKind::Exemplars,
            _ => continue,
        };
        let mut columns = Vec::new();
        add_columns(&mut view, &mut columns, table, needs, sources, None)?;
        if kind == batches::TableKind::Items {
            for (of, pointer) in [
                (TableKind::Resources, Intrinsic::Resource),
                (TableKind::Scopes, Intrinsic::Scope),
                (TableKind::Descriptors, Intrinsic::Metric),
            ] {
                if let Some(interned) = batch.table(of) {
                    let keys = match table.index(pointer) {
                        Some(index) => index.values().clone(),
                        None => vec![0; table.rows()].into(),
                    };
                    add_columns(&mut view, &mut columns, interned, needs, sources, Some(keys))?;
                }
            }
        }
        let of = place_of(table.kind()).unwrap_or(Place::Item);
        let parents = table.index(Intrinsic::Parent).map(|p| p.values().clone());
        view.tables.push(ViewTable { kind, of, rows: table.rows(), parents, columns });
    }
    for of in [Place::Item, Place::Event, Place::Link, Place::Exemplar, Place::Resource, Place::Instrumentation] {
        add_leaves(&mut view, batch, needs, sources, of, &mut points);
    }
    Ok(view)
}

fn add_columns(
    view: &mut View,
    out: &mut Vec<ViewColumn>,
    table: &Table,
    needs: &[Need],
    sources: &Sources,
    interned: Option<ScalarBuffer<u32>>,
) -> Result<(), String> {
    let Some(place) = place_of(table.kind()) else { return Ok(()) };
    for (i, column) in table.columns().iter().enumerate() {
        let Some((role, name)) = field_of(&column.id) else { continue };
        let Some(dtype) = dtype_of_array(&column.array).filter(|_| !is_document(&column.id)) else { continue };
        let Some(need) = first_need(needs, place, role, name, dtype) else { continue };
        let field = view.field(Field { need, place: Some(place), role, name: name.into(), dtype });
        let source = sources.list.iter().position(
            |s| matches!(&s.target, Target::Column { table: t, column } if *t == table.kind() && *column == i),
        );
        let mut shown = match &interned {
            Some(keys) => interned_column(field, &column.array, keys)?,
            None => plain_column(field, &column.array),
        };
        if let Some(source) = source {
            shown.back.push(Segment { start: 0, source: source as u32, map: Map::Run(0) });
        }
        out.push(shown);
    }
    Ok(())
}

fn dtype_of_array(array: &ArrayRef) -> Option<Dtype> {
    match array.data_type() {
        DataType::Utf8 | DataType::Dictionary(..) => Some(Dtype::Utf8),
        DataType::Boolean => Some(Dtype::Boolean),
        DataType::Int32 => Some(Dtype::Int32),
        DataType::UInt32 => Some(Dtype::Uint32),
        DataType::Int64 => Some(Dtype::Int64),
        DataType::Float64 => Some(Dtype::Float64),
        DataType::Binary => Some(Dtype::Binary),
        DataType::FixedSizeBinary(_) => Some(Dtype::Fixed),
        _ => None,
    }
}

fn values_of(array: &dyn Array) -> Values {
    match array.data_type() {
        DataType::Boolean => Values::Bools(bits(array.as_boolean().values())),
        DataType::Int32 => Values::I32(array.as_primitive::<Int32Type>().values().clone()),
        DataType::UInt32 => Values::U32(array.as_primitive::<UInt32Type>().values().clone()),
        DataType::Int64 => Values::I64(array.as_primitive::<Int64Type>().values().clone()),
        DataType::Float64 => Values::F64(array.as_primitive::<Float64Type>().values().clone()),
        DataType::Binary => {
            let a = array.as_binary::<i32>();
            let (offsets, data) = offsets_and_data(a.offsets(), a.values());
            Values::Binary(offsets, data)
        }
        DataType::FixedSizeBinary(width) => {
            let a = array.as_fixed_size_binary();
            let width = *width as usize;
            Values::Fixed(width as u32, a.values().slice_with_length(0, a.len() * width))
        }
        _ => {
            let a = array.as_string::<i32>();
            let (offsets, data) = offsets_and_data(a.offsets(), a.values());
            Values::Utf8(offsets, data)
        }
    }
}

fn validity_of(nulls: Option<&NullBuffer>) -> Option<Buffer> {
    nulls.filter(|n| n.null_count() > 0).map(|n| bits(n.inner()))
}

pub(crate) fn plain_column(field: u32, array: &ArrayRef) -> ViewColumn {
    let validity = validity_of(array.logical_nulls().as_ref());
    if let (Some(dictionary), Some((values, _))) = (array.as_dictionary_opt::<UInt32Type>(), text_entries(array)) {
        let keys = dictionary.keys();
        // A null's key may be anything; guests are promised 0.
        let shown = match keys.nulls() {
            Some(nulls) if nulls.null_count() > 0 => {
                keys.values().iter().zip(nulls.iter()).map(|(&k, valid)| if valid { k } else { 0 }).collect()
            }
            _ => keys.values().clone(),
        };
        let entries = values.len();
        return ViewColumn {
            field,
            validity,
            keys: Some(shown),
            values: values_of(&values),
            entries,
            back: Vec::new(),
        };
    }
    ViewColumn { field, validity, keys: None, values: values_of(array), entries: array.len(), back: Vec::new() }
}

/// A column of resources or scopes, as a column of items: entry i is row i of its table.
fn interned_column(field: u32, array: &ArrayRef, keys: &ScalarBuffer<u32>) -> Result<ViewColumn, String> {
    let plain = match array.data_type() {
        DataType::Dictionary(..) => cast(array, &DataType::Utf8).map_err(|e| e.to_string())?,
        _ => array.clone(),
    };
    let nulls = plain.nulls().filter(|n| n.null_count() > 0);
    let validity = nulls.map(|nulls| bits(&keys.iter().map(|&k| nulls.is_valid(k as usize)).collect()));
    Ok(ViewColumn {
        field,
        validity,
        keys: Some(keys.clone()),
        values: values_of(&plain),
        entries: plain.len(),
        back: Vec::new(),
    })
}

/// The leaf columns of one place, while they are gathered: per type the values of the rows, and which source they belong to.
struct LeafColumn {
    need: u32,
    dtype: Dtype,
    rows: Vec<Option<Value>>,
    inner: Vec<Option<Inner>>,
}

fn add_leaves(view: &mut View, batch: &Batch, needs: &[Need], sources: &Sources, of: Place, points: &mut Points) {
    let mut keys: Vec<Option<&str>> = Vec::new();
    let mut paths: Vec<String> = Vec::new();
    let mut parents: Vec<u32> = Vec::new();
    let mut columns: Vec<LeafColumn> = Vec::new();
    for (d, doc) in sources.docs.iter().enumerate().filter(|(_, doc)| doc.place == of) {
        let (role, name) = role_and_name(doc);
        for parent in points.parents_of(batch, doc) {
            let mut leaf = 0;
            walk(&doc.value, &mut String::new(), &mut |path, part| {
                let Part::Leaf(value) = part else { return };
                let number = leaf;
                leaf += 1;
                let Some(dtype) = dtype_of(value) else { return };
                let wanted = |n: &Need| n.leaves && n.wants(of, role, name, dtype);
                let Some(need) = needs.iter().position(wanted).map(|n| n as u32) else { return };
                let at = match columns.iter().position(|c| c.need == need && c.dtype == dtype) {
                    Some(at) => at,
                    None => {
                        columns.push(LeafColumn { need, dtype, rows: Vec::new(), inner: Vec::new() });
                        columns.len() - 1
                    }
                };
                let row = keys.len();
                columns[at].rows.resize(row, None);
                columns[at].inner.resize(row, None);
                columns[at].rows.push(Some(value.clone()));
                columns[at].inner.push(Some((d as u32, number)));
                keys.push(doc.key.as_deref());
                paths.push(path.to_owned());
                parents.push(parent);
            });
        }
    }
    if keys.is_empty() {
        return;
    }
    let rows = keys.len();
    let keys: ArrayRef = Arc::new(StringArray::from(keys));
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(paths));
    let mut shown = Vec::new();
    for (role, array) in [(Role::AttributeKey, keys), (Role::LeafPath, paths)] {
        let need = columns[0].need;
        let field = view.field(Field { need, place: Some(of), role, name: "".into(), dtype: Dtype::Utf8 });
        shown.push(plain_column(field, &array));
    }
    for mut column in columns {
        column.rows.resize(rows, None);
        column.inner.resize(rows, None);
        let need = &needs[column.need as usize];
        let (role, name) = (need.role, need.name.as_str().into());
        let field = view.field(Field { need: column.need, place: Some(of), role, name, dtype: column.dtype });
        let mut out = plain_column(field, &leaf_array(column.dtype, &column.rows));
        out.back = leaf_back(sources, &column);
        shown.push(out);
    }
    view.tables.push(ViewTable {
        kind: batches::TableKind::Leaves,
        of,
        rows,
        parents: Some(parents.into()),
        columns: shown,
    });
}

/// Rows of leaves that a view may have because what a metric says is shown at each of its points.
const REPEATED_LEAVES_MAX: usize = 1 << 18;

/// The points of each metric at which its leaves are shown.
struct Points {
    of_metric: Vec<Vec<u32>>,
    /// Leaves that may still be shown at more points than the first.
    room: usize,
}

impl Points {
    /// At `every` point, as filters decide about points, or at the first, which is enough to change a value.
    fn new(batch: &Batch, every: bool) -> Points {
        let mut of_metric = vec![Vec::new(); batch.table(TableKind::Descriptors).map_or(0, Table::rows)];
        let metric_of = batch.items().index(Intrinsic::Metric);
        for row in 0..if of_metric.is_empty() { 0 } else { batch.rows() } {
            let points: &mut Vec<u32> = &mut of_metric[metric_of.map_or(0, |m| m.value(row) as usize)];
            if every || points.is_empty() {
                points.push(row as u32);
            }
        }
        Points { of_metric, room: REPEATED_LEAVES_MAX }
    }

    /// The rows of the table of its place to which a document belongs.
    fn parents_of(&mut self, batch: &Batch, doc: &Doc) -> Vec<u32> {
        let (of, row) = match batch.table(TableKind::Tail).filter(|_| doc.table == TableKind::Tail) {
            None => (doc.table, doc.entry),
            Some(tail) => {
                let of = tail.intrinsic(Intrinsic::Of).and_then(|a| a.as_primitive_opt::<UInt8Type>());
                let of = of.and_then(|of| TableKind::from_u8(of.value(doc.entry as usize)));
                let row = tail.index(Intrinsic::Parent).map_or(0, |p| p.value(doc.entry as usize));
                (of.unwrap_or(TableKind::Tail), row)
            }
        };
        match self.of_metric.get(row as usize).filter(|_| of == TableKind::Descriptors) {
            None => vec![row],
            Some(points) => {
                // A metric without points, which no client makes, is shown too: it may hold what is to be taken out.
                let first = vec![points.first().copied().unwrap_or(0)];
                let mut leaves = 0;
                walk(&doc.value, &mut String::new(), &mut |_, part| {
                    leaves += usize::from(matches!(part, Part::Leaf(_)));
                });
                match self.room.checked_sub(leaves * points.len()) {
                    Some(room) if points.len() > 1 => {
                        self.room = room;
                        points.clone()
                    }
                    _ => first,
                }
            }
        }
    }
}

fn leaf_array(dtype: Dtype, rows: &[Option<Value>]) -> ArrayRef {
    use arrow::array::{BinaryArray, Float64Array, Int64Array};
    match dtype {
        Dtype::Boolean => Arc::new(
            rows.iter().map(|v| if let Some(Value::Bool(b)) = v { Some(*b) } else { None }).collect::<BooleanArray>(),
        ),
        Dtype::Int64 => Arc::new(
            rows.iter().map(|v| if let Some(Value::Int(i)) = v { Some(*i) } else { None }).collect::<Int64Array>(),
        ),
        Dtype::Float64 => Arc::new(
            rows.iter().map(|v| if let Some(Value::Double(d)) = v { Some(*d) } else { None }).collect::<Float64Array>(),
        ),
        Dtype::Binary => Arc::new(
            rows.iter()
                .map(|v| if let Some(Value::Bytes(b)) = v { Some(b.as_slice()) } else { None })
                .collect::<BinaryArray>(),
        ),
        _ => Arc::new(
            rows.iter()
                .map(|v| if let Some(Value::Str(s)) = v { Some(s.as_str()) } else { None })
                .collect::<StringArray>(),
        ),
    }
}

/// The way from rows of leaves to the entries of the source that holds the same leaves.
fn leaf_back(sources: &Sources, column: &LeafColumn) -> Vec<Segment> {
    let source = sources.list.iter().enumerate().find_map(|(i, s)| match &s.target {
        Target::Leaves(inner) if s.need == column.need && s.entries.dtype() == column.dtype => Some((i, inner)),
        _ => None,
    });
    let Some((number, inner)) = source else { return Vec::new() };
    let position: std::collections::HashMap<Inner, u32> =
        inner.iter().enumerate().map(|(i, at)| (*at, i as u32)).collect();
    // A row that is null in this column leads nowhere: beyond the source.
    let list = column.inner.iter().map(|at| at.and_then(|at| position.get(&at).copied()).unwrap_or(u32::MAX)).collect();
    vec![Segment { start: 0, source: number as u32, map: Map::List(list) }]
}

/// Offsets that begin at 0, and the bytes they speak of. No copy where they begin at 0 already.
fn offsets_and_data(offsets: &OffsetBuffer<i32>, data: &Buffer) -> (ScalarBuffer<u32>, Buffer) {
    let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
    let unsigned = ScalarBuffer::<u32>::new(offsets.inner().inner().clone(), 0, offsets.len());
    let data = data.slice_with_length(first, last - first);
    if first == 0 {
        return (unsigned, data);
    }
    (unsigned.iter().map(|o| o - first as u32).collect(), data)
}

fn bits(buffer: &BooleanBuffer) -> Buffer {
    buffer.sliced()
}
