//! Spans of 18 attributes as an instrumented shop sends them: half of the attributes have few values, the others many; statuses,
//! users and durations are as skewed as they are in practice.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, StringArray, UInt32Array,
};
use arrow::datatypes::UInt32Type;
use prism_model::samples::Random;
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind};

/// Spans of a trace.
const TRACE: usize = 10;
const SERVICES: [&str; 8] =
    ["frontend", "checkout", "cart", "payment", "catalog", "shipping", "recommendation", "currency"];
/// Routes of all services.
const ROUTES: u32 = 96;
/// Users; the first come most.
const USERS: f64 = 50_000.0;

/// The trace id of the first span of a batch: what a trace is looked up by.
pub(crate) fn trace_of(batch: u64) -> [u8; 16] {
    let mut trace = [0; 16];
    trace[..8].copy_from_slice(&(batch << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    trace[8..].copy_from_slice(&(batch << 20 | 1).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes());
    trace
}

/// The request id of the first span of a batch: rare text.
pub(crate) fn request_of(batch: u64) -> String {
    format!("req-{:016x}", Random(batch.wrapping_mul(31)).number())
}

/// The spans of one request, their times within `length` nanoseconds from `start` on, grouped by resource.
pub(crate) fn batch(rows: usize, start: i64, length: i64, number: u64) -> Result<Batch, Box<dyn std::error::Error>> {
    let r = &mut Random(number);
    let mut columns: Vec<Column> = Vec::new();
    let mut push = |id: ColumnId, array: ArrayRef| columns.push(Column { id, array });
    // Traces go through several services: in the order of arrival, the spans of a resource stand together.
    let service = |row: usize| row * SERVICES.len() / rows.max(1);
    push(Intrinsic::Resource.into(), Arc::new(UInt32Array::from_iter_values((0..rows).map(|row| service(row) as u32))));
    let traces = rows.div_ceil(TRACE);
    let first_trace = trace_of(number);
    let trace = |row: usize| -> [u8; 16] {
        let n = row % traces;
        if n == 0 {
            return first_trace;
        }
        let mut r = Random((number << 20) + n as u64);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&r.number().to_le_bytes());
        id[8..].copy_from_slice(&r.number().to_le_bytes());
        id
    };
    let span = |row: usize| Random(number << 24 | 1 << 60 | row as u64).number().to_le_bytes();
    // A span's parent is the one before it of its trace, or the root.
    let parent = |row: usize| match row / traces {
        0 => None,
        step if step % 3 == 0 => Some(span(row % traces)),
        _ => Some(span(row - traces)),
    };
    let fixed = |width, bytes: Vec<u8>| -> ArrayRef { Arc::new(FixedSizeBinaryArray::new(width, bytes.into(), None)) };
    push(Intrinsic::TraceId.into(), fixed(16, (0..rows).flat_map(trace).collect()));
    push(Intrinsic::SpanId.into(), fixed(8, (0..rows).flat_map(span).collect()));
    let parents = FixedSizeBinaryArray::try_from_sparse_iter_with_size((0..rows).map(parent), 8)?;
    push(Intrinsic::ParentId.into(), Arc::new(parents));
    let at = |row: usize, r: &mut Random| {
        start + (row % traces) as i64 * (length / traces.max(1) as i64) + (r.number() % 20_000_000) as i64
    };
    let times: Vec<i64> = (0..rows).map(|row| at(row, r)).collect();
    push(Intrinsic::Time.into(), Arc::new(Int64Array::from(times)));
    // Around 8 ms by service, with a long tail.
    let durations = (0..rows).map(|row| {
        let unit = (r.number() % 1_000_000) as f64 / 1e6 + 1e-6;
        (((service(row) + 2) as f64 * 1.2e6) / unit.sqrt()) as i64
    });
    push(Intrinsic::Duration.into(), Arc::new(Int64Array::from_iter_values(durations.collect::<Vec<_>>())));
    // Each service has routes of its own, and a route is of one kind.
    let of_service = ROUTES / SERVICES.len() as u32;
    let routes: Vec<u32> =
        (0..rows).map(|row| service(row) as u32 * of_service + skewed(r, f64::from(of_service)) as u32).collect();
    let kinds = routes.iter().map(|route| [2, 3, 2, 1][*route as usize % 4]);
    push(Intrinsic::Kind.into(), Arc::new(Int32Array::from_iter_values(kinds)));
    let failed: Vec<bool> = (0..rows).map(|_| r.one_in(50)).collect();
    let states = failed.iter().map(|failed| if *failed { 2 } else { 0 });
    push(Intrinsic::Status.into(), Arc::new(Int32Array::from_iter_values(states)));
    push(Intrinsic::Flags.into(), Arc::new(UInt32Array::from_value(0x101, rows)));
    push(Intrinsic::Name.into(), by_value(routes.iter().map(|n| Some(*n)), ROUTES, "GET /api/v1/resource-")?);
    for (key, distinct, share) in [
        ("http.request.method", 5, 1),
        ("server.address", 12, 1),
        ("network.protocol.version", 2, 1),
        ("user_agent.original", 60, 1),
        ("cloud.availability_zone", 6, 1),
        ("thread.name", 64, 1),
        ("db.system.name", 3, 3),
        ("db.operation.name", 5, 3),
        ("rpc.method", 30, 4),
    ] {
        let values = (0..rows).map(|_| r.one_in(share).then(|| skewed(r, f64::from(distinct)) as u32));
        let values: Vec<Option<u32>> = values.collect();
        push(ColumnId::attr(key, AttrType::Str), by_value(values.into_iter(), distinct, &format!("{key}-"))?);
    }
    push(
        ColumnId::attr("http.route", AttrType::Str),
        by_value(routes.iter().map(|n| Some(*n)), ROUTES, "/api/v1/resource-")?,
    );
    let texts = |of: &mut dyn FnMut(usize) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..rows).map(of)))
    };
    let attr = |key, ty| ColumnId::attr(key, ty);
    push(
        attr("url.path", AttrType::Str),
        texts(&mut |row| format!("/api/v1/resource-{}/{}", routes[row], r.number() % 1_000_000)),
    );
    push(attr("user.id", AttrType::Str), texts(&mut |_| format!("user-{}", skewed(r, USERS) as u64)));
    push(attr("session.id", AttrType::Str), texts(&mut |_| format!("s-{:08x}", skewed(r, 200_000.0) as u64)));
    push(
        attr("request.id", AttrType::Str),
        texts(&mut |row| match row {
            0 => request_of(number),
            _ => format!("req-{:016x}", r.number()),
        }),
    );
    let status = |row: usize, r: &mut Random| match failed[row] {
        true => [500, 503, 504][r.below(3)],
        false => [200, 200, 200, 200, 200, 201, 204, 304, 404][r.below(9)],
    };
    let ints =
        |of: &mut dyn FnMut(usize) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..rows).map(of))) };
    push(attr("http.response.status_code", AttrType::Int), ints(&mut |row| status(row, r)));
    push(attr("http.response.body.size", AttrType::Int), ints(&mut |_| r.below(64_000) as i64));
    push(attr("thread.id", AttrType::Int), ints(&mut |_| r.below(64) as i64));
    let waits = (0..rows).map(|_| r.below(400_000) as f64 / 1e3).collect::<Vec<_>>();
    push(attr("client.wait_ms", AttrType::Double), Arc::new(Float64Array::from(waits)));
    let resource = |key: &str, of: &dyn Fn(&str) -> String| -> Column {
        let values = StringArray::from_iter_values(SERVICES.iter().map(|service| of(service)));
        Column { id: ColumnId::attr(key, AttrType::Str), array: Arc::new(values) }
    };
    let resources = vec![
        resource("service.name", &str::to_owned),
        resource("service.version", &|_| "4.2.0".into()),
        resource("k8s.pod.name", &|service| format!("{service}-7d9c5b6f4-x{}", number % 3)),
        resource("deployment.environment.name", &|_| "production".into()),
    ];
    let scope = Column { id: Intrinsic::Name.into(), array: Arc::new(StringArray::from(vec!["shop.http"])) };
    let origin = Origin {
        batch_id: std::array::from_fn(|_| r.number() as u8),
        first_row: 0,
        rows: rows as u32,
        received_unix_nanos: start,
        redactions: Vec::new(),
    };
    let tables = vec![
        Table::try_new(TableKind::Resources, SERVICES.len(), resources)?,
        Table::try_new(TableKind::Scopes, 1, vec![scope])?,
        Table::try_new(TableKind::Items, rows, columns)?,
    ];
    Ok(Batch::try_new(Signal::Spans, vec![origin], tables)?)
}

/// A number below `bound`; small ones come most.
fn skewed(r: &mut Random, bound: f64) -> f64 {
    let unit = (r.number() >> 11) as f64 / (1u64 << 53) as f64;
    bound * unit * unit
}

fn by_value(
    numbers: impl Iterator<Item = Option<u32>>,
    distinct: u32,
    prefix: &str,
) -> Result<ArrayRef, arrow::error::ArrowError> {
    let values = StringArray::from_iter_values((0..distinct).map(|i| format!("{prefix}{i}")));
    Ok(Arc::new(DictionaryArray::<UInt32Type>::try_new(numbers.collect(), Arc::new(values))?))
}
