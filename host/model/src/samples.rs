//! Generated batches for tests and benches, and their rows as text for comparing.
//!
//! The same seed gives the same batch. [`batch`] is odd on purpose (nulls, extremes, strange keys, slices, dictionaries with
//! unused values); [`spans`] is like what an instrumented shop sends.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array,
    Int32Array, Int64Array, ListArray, StringArray, UInt8Array, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, UInt8Type, UInt32Type};

use crate::batch::{Batch, Origin, Redaction};
use crate::column::{AttrType, ColumnId, Intrinsic};
use crate::metric::MetricType;
use crate::reshape::default_array;
use crate::signal::Signal;
use crate::table::{Column, Table, TableKind};
use crate::value::Value;

/// A small generator of numbers (splitmix64): the same everywhere, no dependency.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, or 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

const TEXTS: [&str; 9] = [
    "",
    "a",
    "GET",
    "checkout",
    "ünï",
    "\u{0}\n\"q\"",
    "x=y",
    "{\"$double\":\"NaN\"}",
    "a very long text that is longer than any bound of a statistic, äöü",
];
const KEYS: [&str; 9] =
    ["http.route", "userId", "userid", "a key, with = odd", "", "name", "k8s.pod.name", "$x", "message"];

/// A batch with up to `rows` items whose times lie around `now`; odd in every way that the model allows.
pub fn batch(signal: Signal, rows: usize, now: i64, seed: u64) -> Batch {
    let r = &mut Random(seed);
    let mut tables = Vec::new();
    let counts = [TableKind::Resources, TableKind::Scopes, TableKind::Descriptors].map(|kind| {
        let has = rows > 0 && (kind != TableKind::Descriptors || signal == Signal::Metrics);
        let n = if has { r.below(4) } else { 0 };
        if n > 0 {
            let fixed: &[Intrinsic] = match kind {
                TableKind::Resources => &[Intrinsic::DroppedAttributes, Intrinsic::SchemaUrl, Intrinsic::EntityRefs],
                TableKind::Scopes => &[Intrinsic::Name, Intrinsic::Version, Intrinsic::DroppedAttributes],
                _ => &[
                    Intrinsic::Name,
                    Intrinsic::Unit,
                    Intrinsic::Description,
                    Intrinsic::Temporality,
                    Intrinsic::Monotonic,
                ],
            };
            let mut columns = fixed_columns(fixed, n, r);
            columns.extend(attributes(n, r));
            if kind == TableKind::Resources {
                columns.retain(|c| c.id != ColumnId::attr("service.name", AttrType::Str));
                columns.push(Column { id: ColumnId::attr("service.name", AttrType::Str), array: text(n, r) });
            }
            if kind == TableKind::Descriptors {
                let types = (0..n).map(|_| r.pick(&MetricType::ALL) as i32).collect::<Vec<_>>();
                columns.push(Column { id: Intrinsic::Type.into(), array: Arc::new(Int32Array::from(types)) });
            }
            tables.push(table(kind, n, columns));
        }
        n
    });
    let fixed: &[Intrinsic] = match signal {
        Signal::Spans => &[
            Intrinsic::TraceId,
            Intrinsic::SpanId,
            Intrinsic::ParentId,
            Intrinsic::TraceState,
            Intrinsic::Flags,
            Intrinsic::Name,
            Intrinsic::Kind,
            Intrinsic::Duration,
            Intrinsic::Status,
            Intrinsic::StatusMessage,
            Intrinsic::DroppedEvents,
            Intrinsic::Running,
            Intrinsic::SamplingWeight,
        ],
        Signal::Logs => &[
            Intrinsic::ObservedTime,
            Intrinsic::Severity,
            Intrinsic::SeverityText,
            Intrinsic::EventName,
            Intrinsic::Body,
            Intrinsic::BodyInt,
            Intrinsic::BodyDouble,
            Intrinsic::BodyBool,
            Intrinsic::BodyBytes,
            Intrinsic::BodyJson,
            Intrinsic::TraceId,
            Intrinsic::SpanId,
        ],
        Signal::Metrics => &[
            Intrinsic::Flags,
            Intrinsic::StartTime,
            Intrinsic::ValueInt,
            Intrinsic::ValueDouble,
            Intrinsic::Count,
            Intrinsic::Sum,
            Intrinsic::Min,
            Intrinsic::Max,
            Intrinsic::BucketCounts,
            Intrinsic::ExplicitBounds,
            Intrinsic::Scale,
            Intrinsic::ZeroCount,
            Intrinsic::ZeroThreshold,
            Intrinsic::PositiveOffset,
            Intrinsic::PositiveCounts,
            Intrinsic::NegativeOffset,
            Intrinsic::NegativeCounts,
            Intrinsic::Quantiles,
            Intrinsic::QuantileValues,
        ],
    };
    let mut items = fixed_columns(fixed, rows, r);
    items.extend(attributes(rows, r));
    if !r.one_in(10) {
        let spread = r.pick(&[1_000, 1_000_000_000, 3_000_000_000_000]);
        let times = (0..rows).map(|_| if r.one_in(40) { 0 } else { now - (r.number() % spread) as i64 });
        let times: ArrayRef = Arc::new(Int64Array::from_iter_values(times.collect::<Vec<_>>()));
        items.push(Column { id: Intrinsic::Time.into(), array: times });
    }
    for (pointer, n) in [Intrinsic::Resource, Intrinsic::Scope, Intrinsic::Metric].into_iter().zip(counts) {
        if n > 0 && !(r.one_in(3)) {
            let index = UInt32Array::from_iter_values((0..rows).map(|_| r.below(n) as u32).collect::<Vec<_>>());
            items.push(Column { id: pointer.into(), array: Arc::new(index) });
        }
    }
    tables.push(table(TableKind::Items, rows, items));
    let children: &[(TableKind, &[Intrinsic])] = match signal {
        Signal::Spans => &[
            (TableKind::Events, &[Intrinsic::Time, Intrinsic::Name, Intrinsic::DroppedAttributes]),
            (TableKind::Links, &[Intrinsic::TraceId, Intrinsic::SpanId, Intrinsic::TraceState, Intrinsic::Flags]),
        ],
        Signal::Logs => &[],
        Signal::Metrics => &[(
            TableKind::Exemplars,
            &[Intrinsic::Time, Intrinsic::ValueInt, Intrinsic::ValueDouble, Intrinsic::TraceId, Intrinsic::SpanId],
        )],
    };
    for (kind, fixed) in children {
        let n = if rows == 0 { 0 } else { r.below(rows * 2) };
        if n > 0 {
            let mut columns = fixed_columns(fixed, n, r);
            columns.extend(attributes(n, r));
            columns.push(Column { id: Intrinsic::Parent.into(), array: ascending(n, rows, r) });
            tables.push(table(*kind, n, columns));
        }
    }
    if let Some(tail) = tail(&tables, r) {
        tables.push(tail);
    }
    let origins = origins(rows, r);
    Batch::try_new(signal, origins, tables).unwrap_or_else(|e| unreachable!("a sample is a batch: {e}"))
}

fn table(kind: TableKind, rows: usize, columns: Vec<Column>) -> Table {
    Table::try_new(kind, rows, columns).unwrap_or_else(|e| unreachable!("a sample is a table: {e}"))
}

fn ascending(n: usize, below: usize, r: &mut Random) -> ArrayRef {
    let mut rows: Vec<u32> = (0..n).map(|_| r.below(below) as u32).collect();
    rows.sort_unstable();
    Arc::new(UInt32Array::from(rows))
}

fn origins(rows: usize, r: &mut Random) -> Vec<Origin> {
    let mut origins = Vec::new();
    let mut first = 0;
    while first < rows {
        let n = 1 + r.below(rows - first);
        let redactions = (0..r.below(3))
            .map(|i| Redaction {
                plugin: "pii".into(),
                version: "ab".repeat(32),
                label: format!("l{i}"),
                count: r.number(),
            })
            .collect();
        origins.push(Origin {
            batch_id: std::array::from_fn(|_| r.number() as u8),
            first_row: first as u32,
            rows: n as u32,
            received_unix_nanos: r.number() as i64,
            redactions,
        });
        first += n;
    }
    origins
}

fn tail(tables: &[Table], r: &mut Random) -> Option<Table> {
    let mut rows: Vec<(u8, u32)> = Vec::new();
    for t in tables.iter().filter(|t| t.rows() > 0) {
        if r.one_in(3) {
            let n = r.below(5);
            rows.extend((0..n).map(|_| (t.kind() as u8, r.below(t.rows()) as u32)));
        }
    }
    rows.sort_unstable();
    if rows.is_empty() {
        return None;
    }
    let n = rows.len();
    let keys: Vec<&str> = (0..n).map(|_| r.pick(&KEYS)).collect();
    let values: Vec<String> = (0..n)
        .map(|_| match r.below(3) {
            0 => Value::Int(r.number() as i64).to_text(),
            1 => Value::Str(r.pick(&TEXTS).to_owned()).to_text(),
            _ => Value::Array(vec![Value::Null, Value::Str("a".into())]).to_text(),
        })
        .collect();
    let columns = vec![
        Column { id: Intrinsic::Of.into(), array: Arc::new(UInt8Array::from_iter_values(rows.iter().map(|p| p.0))) },
        Column {
            id: Intrinsic::Parent.into(),
            array: Arc::new(UInt32Array::from_iter_values(rows.iter().map(|p| p.1))),
        },
        Column { id: Intrinsic::Key.into(), array: Arc::new(StringArray::from(keys)) },
        Column { id: Intrinsic::Value.into(), array: Arc::new(StringArray::from(values)) },
    ];
    Some(table(TableKind::Tail, n, columns))
}

fn fixed_columns(ids: &[Intrinsic], rows: usize, r: &mut Random) -> Vec<Column> {
    let mut columns = Vec::new();
    for id in ids {
        if r.one_in(3) {
            continue;
        }
        // Only these may be null: the others have a default of their own.
        let nullable = default_array(&(*id).into(), 1).is_null(0);
        let array = array(&id.data_type(), rows, nullable, r);
        columns.push(Column { id: (*id).into(), array });
    }
    columns
}

fn attributes(rows: usize, r: &mut Random) -> Vec<Column> {
    let mut columns: BTreeMap<ColumnId, ArrayRef> = BTreeMap::new();
    for _ in 0..r.below(7) {
        let ty = r.pick(&AttrType::ALL);
        let id = ColumnId::attr(r.pick(&KEYS), ty);
        columns.insert(id, array(&ty.data_type(), rows, true, r));
    }
    columns.into_iter().map(|(id, array)| Column { id, array }).collect()
}

/// An array of a type; sometimes a slice of a longer one, sometimes all null, with bytes under its nulls.
fn array(data_type: &DataType, rows: usize, nullable: bool, r: &mut Random) -> ArrayRef {
    let extra = if r.one_in(3) { r.below(5) } else { 0 };
    let n = rows + extra;
    let density = if nullable { r.pick(&[1, 2, 10, usize::MAX]) } else { usize::MAX };
    let valid: Vec<bool> = (0..n).map(|_| density == usize::MAX || !r.one_in(density)).collect();
    let nulls = (density != usize::MAX).then(|| arrow::buffer::NullBuffer::from(valid));
    let mut numbers = || -> Vec<i64> {
        let wide = r.one_in(4);
        (0..n).map(|i| if wide { r.number() as i64 } else { i as i64 * 3 + r.below(3) as i64 }).collect()
    };
    let array: ArrayRef = match data_type {
        DataType::Utf8 => {
            let array = text(n, r);
            return with_nulls(&array, nulls).slice(extra, rows);
        }
        DataType::Int64 => Arc::new(Int64Array::new(numbers().into(), nulls)),
        DataType::Int32 => {
            Arc::new(Int32Array::new(numbers().iter().map(|n| *n as i32).collect::<Vec<_>>().into(), nulls))
        }
        DataType::UInt32 => Arc::new(UInt32Array::from_iter_values(numbers().iter().map(|n| *n as u32))),
        DataType::UInt8 => Arc::new(UInt8Array::from_iter_values(numbers().iter().map(|n| *n as u8))),
        DataType::Float64 => {
            let values: Vec<f64> = (0..n)
                .map(|_| match r.below(5) {
                    0 => f64::from_bits(r.number()),
                    1 => -0.0,
                    _ => r.below(1000) as f64 / 8.0,
                })
                .collect();
            Arc::new(Float64Array::new(values.into(), nulls))
        }
        DataType::Boolean => {
            Arc::new(BooleanArray::new((0..n).map(|_| r.one_in(2)).collect::<Vec<bool>>().into(), nulls))
        }
        DataType::Binary => {
            let values: Vec<Option<Vec<u8>>> = (0..n)
                .map(|i| {
                    let valid = nulls.as_ref().is_none_or(|v| v.is_valid(i));
                    valid.then(|| (0..r.below(9)).map(|_| r.number() as u8).collect())
                })
                .collect();
            Arc::new(BinaryArray::from_iter(values))
        }
        DataType::FixedSizeBinary(width) => {
            let distinct = r.pick(&[3, usize::MAX]);
            let bytes: Vec<u8> = (0..n)
                .flat_map(|_| {
                    let mut id = Random(r.number() % distinct as u64);
                    (0..*width).map(move |_| id.number() as u8)
                })
                .collect();
            Arc::new(FixedSizeBinaryArray::new(*width, bytes.into(), nulls))
        }
        DataType::List(item) => {
            let lengths: Vec<usize> = (0..n).map(|_| r.below(4)).collect();
            let values = array(item.data_type(), lengths.iter().sum(), false, r);
            // Also lists without values, and values under nulls.
            Arc::new(ListArray::new(item.clone(), OffsetBuffer::from_lengths(lengths), values, nulls))
        }
        other => unreachable!("no column has type {other}"),
    };
    array.slice(extra, rows)
}

fn with_nulls(array: &ArrayRef, nulls: Option<arrow::buffer::NullBuffer>) -> ArrayRef {
    let builder = array.to_data().into_builder().nulls(nulls);
    arrow::array::make_array(builder.build().unwrap_or_else(|e| unreachable!("only nulls changed: {e}")))
}

/// Text without nulls, plain or as a dictionary that may have values nobody uses.
fn text(n: usize, r: &mut Random) -> ArrayRef {
    if r.one_in(2) {
        let unique = r.one_in(3);
        let texts = (0..n).map(|i| if unique { format!("{}{i}", r.pick(&TEXTS)) } else { r.pick(&TEXTS).to_owned() });
        return Arc::new(StringArray::from_iter_values(texts.collect::<Vec<_>>()));
    }
    let keys = UInt32Array::from_iter_values((0..n).map(|_| r.below(TEXTS.len() - 2) as u32).collect::<Vec<_>>());
    Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from(TEXTS.to_vec()))))
}

/// Each item with all that belongs to it as text: its columns, resource, scope, descriptor, children, and their tails; what
/// is a default is left out. Batches with equal texts hold the same rows.
pub fn texts(batch: &Batch) -> Vec<String> {
    (0..batch.rows()).map(|row| item_text(batch, row)).collect()
}

fn item_text(batch: &Batch, row: usize) -> String {
    let mut out = row_text(batch, batch.items(), row);
    for (pointer, kind) in [
        (Intrinsic::Resource, TableKind::Resources),
        (Intrinsic::Scope, TableKind::Scopes),
        (Intrinsic::Metric, TableKind::Descriptors),
    ] {
        if let Some(table) = batch.table(kind) {
            let to = batch.items().index(pointer).map_or(0, |i| i.value(row) as usize);
            let text = row_text(batch, table, to);
            // No scope and a scope of defaults are the same.
            if !text.is_empty() {
                out += &format!(" {kind:?}({text})");
            }
        }
    }
    for kind in [TableKind::Events, TableKind::Links, TableKind::Exemplars] {
        let Some((table, parents)) = batch.table(kind).and_then(|t| Some((t, t.index(Intrinsic::Parent)?))) else {
            continue;
        };
        // Children lie in the order of their parents.
        let before = |end: usize| parents.values().partition_point(|p| (*p as usize) < end);
        for child in before(row)..before(row + 1) {
            out += &format!(" {kind:?}({})", row_text(batch, table, child));
        }
    }
    out
}

fn row_text(batch: &Batch, table: &Table, row: usize) -> String {
    let mut cells: Vec<String> = Vec::new();
    for column in table.columns() {
        let pointer = matches!(
            column.id,
            ColumnId::Intrinsic(Intrinsic::Resource | Intrinsic::Scope | Intrinsic::Metric | Intrinsic::Parent)
        );
        let cell = cell_text(&column.array, row);
        if !pointer && cell != cell_text(&default_array(&column.id, 1), 0) {
            cells.push(format!("{}={}", column.id, cell.unwrap_or_default()));
        }
    }
    cells.sort();
    if let Some(tail) = batch.table(TableKind::Tail) {
        let of = tail.intrinsic(Intrinsic::Of).map(|a| a.as_primitive::<UInt8Type>());
        let (Some(of), Some(parents)) = (of, tail.index(Intrinsic::Parent)) else { return cells.join(";") };
        for i in 0..tail.rows() {
            if of.value(i) == table.kind() as u8 && parents.value(i) as usize == row {
                let cell = |id| tail.intrinsic(id).and_then(|a| cell_text(a, i)).unwrap_or_default();
                cells.push(format!("tail {}={}", cell(Intrinsic::Key), cell(Intrinsic::Value)));
            }
        }
    }
    cells.join(";")
}

fn cell_text(array: &ArrayRef, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => format!("{:?}", array.as_string::<i32>().value(row)),
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary::<UInt32Type>();
            return cell_text(dictionary.values(), dictionary.keys().value(row) as usize);
        }
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).to_string(),
        DataType::Float64 => format!("{:016x}", array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Binary => hex::encode(array.as_binary::<i32>().value(row)),
        DataType::FixedSizeBinary(_) => hex::encode(array.as_fixed_size_binary().value(row)),
        DataType::List(_) => {
            let values = array.as_list::<i32>().value(row);
            format!("{:?}", (0..values.len()).map(|i| cell_text(&values, i)).collect::<Vec<_>>())
        }
        other => format!("{other}?"),
    })
}

/// `rows` spans of a few services with 15 attributes each, as decoded: about ten spans a trace, times from `start` on.
pub fn spans(rows: usize, start: i64, seed: u64) -> Batch {
    let r = &mut Random(seed);
    let services = 8;
    let names: Vec<String> = (0..services).map(|i| format!("shop-service-{i}")).collect();
    let pods: Vec<String> = names.iter().map(|n| format!("{n}-{:08x}", r.number() as u32)).collect();
    let plain = |texts: Vec<String>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
    let resources = vec![
        Column { id: ColumnId::attr("service.name", AttrType::Str), array: plain(names) },
        Column { id: ColumnId::attr("k8s.pod.name", AttrType::Str), array: plain(pods) },
    ];
    let mut columns: Vec<Column> = Vec::new();
    let mut push = |id: ColumnId, array: ArrayRef| columns.push(Column { id, array });
    // Arrival order is grouped by resource.
    push(
        Intrinsic::Resource.into(),
        Arc::new(UInt32Array::from_iter_values((0..rows).map(|i| (i * services / rows.max(1)) as u32))),
    );
    push(Intrinsic::Scope.into(), Arc::new(UInt32Array::from_iter_values((0..rows).map(|i| (i % 3) as u32))));
    let mut trace = [0u8; 16];
    let (mut traces, mut ids, mut parents) = (Vec::new(), Vec::new(), Vec::new());
    let mut last: Option<[u8; 8]> = None;
    for _ in 0..rows {
        if r.one_in(10) || last.is_none() {
            trace[..8].copy_from_slice(&r.number().to_le_bytes());
            trace[8..].copy_from_slice(&r.number().to_le_bytes());
            last = None;
        }
        let id = r.number().to_le_bytes();
        traces.extend_from_slice(&trace);
        ids.extend_from_slice(&id);
        parents.push(last);
        if last.is_none() || r.one_in(2) {
            last = Some(id);
        }
    }
    let fixed = |width, bytes: Vec<u8>| -> ArrayRef { Arc::new(FixedSizeBinaryArray::new(width, bytes.into(), None)) };
    push(Intrinsic::TraceId.into(), fixed(16, traces));
    push(Intrinsic::SpanId.into(), fixed(8, ids));
    let parents = FixedSizeBinaryArray::try_from_sparse_iter_with_size(parents.into_iter(), 8);
    push(Intrinsic::ParentId.into(), Arc::new(parents.unwrap_or_else(|e| unreachable!("eight bytes each: {e}"))));
    let mut time = start;
    let times = (0..rows).map(|_| {
        time += (r.number() % 2_000_000) as i64;
        time - (r.number() % 50_000_000) as i64
    });
    push(Intrinsic::Time.into(), Arc::new(Int64Array::from_iter_values(times.collect::<Vec<_>>())));
    let durations = (0..rows).map(|_| (r.number() % 100_000) as i64 * (1 + r.below(2_000)) as i64).collect::<Vec<_>>();
    push(Intrinsic::Duration.into(), Arc::new(Int64Array::from(durations)));
    push(
        Intrinsic::Kind.into(),
        Arc::new(Int32Array::from_iter_values((0..rows).map(|_| 1 + r.below(3) as i32).collect::<Vec<_>>())),
    );
    push(
        Intrinsic::Status.into(),
        Arc::new(Int32Array::from_iter_values((0..rows).map(|_| if r.one_in(50) { 2 } else { 0 }).collect::<Vec<_>>())),
    );
    push(Intrinsic::Flags.into(), Arc::new(UInt32Array::from_value(0x101, rows)));
    push(Intrinsic::Name.into(), dictionary(rows, 40, "GET /api/v1/resource", r));
    for (key, distinct) in [
        ("http.request.method", 5),
        ("http.route", 40),
        ("server.address", 12),
        ("network.protocol.version", 2),
        ("user_agent.original", 60),
        ("rpc.system", 2),
        ("rpc.method", 30),
        ("db.system.name", 3),
        ("cloud.region", 4),
        ("thread.name", 64),
    ] {
        push(ColumnId::attr(key, AttrType::Str), dictionary(rows, distinct, key, r));
    }
    let unique = |prefix: &str, r: &mut Random| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            (0..rows).map(|_| format!("{prefix}{}", r.number() % 10_000_000)).collect::<Vec<_>>(),
        ))
    };
    push(ColumnId::attr("url.path", AttrType::Str), unique("/api/v1/orders/", r));
    push(ColumnId::attr("enduser.id", AttrType::Str), unique("u-", r));
    let ints = |bound: usize, r: &mut Random| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((0..rows).map(|_| r.below(bound) as i64).collect::<Vec<_>>()))
    };
    push(ColumnId::attr("http.response.status_code", AttrType::Int), ints(600, r));
    push(ColumnId::attr("thread.id", AttrType::Int), ints(64, r));
    push(ColumnId::attr("http.response.body.size", AttrType::Int), ints(100_000, r));
    let scopes =
        vec![Column { id: Intrinsic::Name.into(), array: plain(vec!["http".into(), "grpc".into(), "sql".into()]) }];
    let origin = Origin {
        batch_id: std::array::from_fn(|_| r.number() as u8),
        first_row: 0,
        rows: rows as u32,
        received_unix_nanos: start,
        redactions: Vec::new(),
    };
    let tables = vec![
        table(TableKind::Resources, services, resources),
        table(TableKind::Scopes, 3, scopes),
        table(TableKind::Items, rows, columns),
    ];
    Batch::try_new(Signal::Spans, vec![origin], tables).unwrap_or_else(|e| unreachable!("a sample is a batch: {e}"))
}

fn dictionary(rows: usize, distinct: usize, prefix: &str, r: &mut Random) -> ArrayRef {
    let values = StringArray::from_iter_values((0..distinct).map(|i| format!("{prefix}-{i}")));
    let keys = UInt32Array::from_iter_values((0..rows).map(|_| r.below(distinct) as u32).collect::<Vec<_>>());
    Arc::new(DictionaryArray::new(keys, Arc::new(values)))
}
