//! What a cold file costs: bytes a span by column, processor time from frames to Parquet, and reading back.
//!
//! `cargo bench -p prism-store --bench cold -- [spans] [rows of a row group] [zstd level] [templates]`.
//! The spans of the load generator (its content, ids and times; 652 B of protobuf, 15 attributes): requests of 4,000, grouped by
//! resource, 100,000 spans a second. With as many templates as requests no value comes again that the generator repeats.
//! Times are of the process's processor, so that a busy machine can be used.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, StringArray,
    UInt32Array,
};
use prism_model::samples::Random;
use prism_model::window::TimeRange;
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind};
use prism_store::cold::file::{ColdFile, FileOptions, Filter, Writer};
use prism_store::disk::RealDisk;
use prism_store::objects::{LocalObjects, Objects};
use prism_store::{Frame, frame_bytes};

const REQUEST_ROWS: usize = 4_000;
/// A group of requests that came together.
const FRAME_ROWS: usize = 4 * REQUEST_ROWS;
const REQUEST_NANOS: i64 = 40_000_000;
const TRACE_SPANS: usize = 20;
const USERS: u64 = 100_000;
const INSTANCES: usize = 8;
const SERVICES: [&str; 4] = ["frontend", "orders", "inventory", "billing"];
const REGIONS: [&str; 3] = ["eu-central-1", "eu-west-1", "us-east-1"];
const ROUTES: [&str; 6] =
    ["/users/{id}/orders", "/users/{id}", "/orders/{id}/items", "/orders/{id}", "/search/{id}", "/items/{id}/stock"];
const METHODS: [&str; 4] = ["GET", "GET", "POST", "PUT"];
const TABLES: [&str; 4] = ["users", "orders", "items", "stock"];
const BROWSERS: [&str; 3] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
];

/// A span before it is a row of columns.
#[derive(Default)]
struct Span {
    instance: usize,
    trace: [u8; 16],
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    name: String,
    kind: i32,
    time: i64,
    duration: i64,
    failed: bool,
    texts: Vec<(&'static str, String)>,
    ints: Vec<(&'static str, i64)>,
    doubles: Vec<(&'static str, f64)>,
    bools: Vec<(&'static str, bool)>,
    children: Vec<Child>,
}

/// What an event or link says.
enum Child {
    Exception { time: i64, peer: &'static str },
    CacheMiss { time: i64, key: String, bytes: i64 },
    Link { trace: [u8; 16], span: [u8; 8] },
}

fn id(r: &mut Random) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&r.number().to_le_bytes());
    id[8..].copy_from_slice(&r.number().to_le_bytes());
    id
}

/// The spans of a request, grouped by resource: what is said as in one of the generator's templates, with ids of its own.
fn request(template: &mut Random, r: &mut Random, now: i64) -> Vec<Span> {
    let mut by_instance: Vec<Vec<Span>> = (0..INSTANCES).map(|_| Vec::new()).collect();
    let (mut trace, mut starts, mut ids, mut user, mut session) =
        ([0; 16], Vec::new(), Vec::new(), String::new(), String::new());
    for row in 0..REQUEST_ROWS {
        let (number, step) = (row / TRACE_SPANS, row % TRACE_SPANS);
        let mut link = None;
        if step == 0 {
            link = (number > 0).then(|| (trace, ids[0]));
            (trace, starts, ids) = (id(r), vec![5_000_000_000 - template.below(1_000_000_000) as i64], Vec::new());
            user = format!("{:08}", r.number() % USERS);
            session = format!("{:016x}{:016x}", r.number(), r.number());
        }
        let before = starts[step.saturating_sub(1) / 3] - template.below(20_000_000) as i64 * i64::from(step > 0);
        if step > 0 {
            starts.push(before);
        }
        let parent = (step > 0).then(|| ids[(step - 1) / 3]);
        ids.push(r.number().to_le_bytes());
        let instance = (number + step / 3) % INSTANCES;
        let mut span = one_span(template, r, row, instance, &user, &session, now - before);
        (span.trace, span.id, span.parent) = (trace, ids[step], parent);
        if let Some((trace, span_id)) = link.filter(|_| template.one_in(100)) {
            span.children.push(Child::Link { trace, span: span_id });
        }
        by_instance[instance].push(span);
    }
    by_instance.into_iter().flatten().collect()
}

fn one_span(
    r: &mut Random,
    ids: &mut Random,
    row: usize,
    instance: usize,
    user: &str,
    session: &str,
    time: i64,
) -> Span {
    let peer = SERVICES[(instance + 1) % SERVICES.len()];
    let (method, route, table) = (METHODS[r.below(4)], ROUTES[r.below(6)], TABLES[r.below(4)]);
    let path = route.replace("{id}", user);
    let failed = r.one_in(50);
    let (server, database) = (row.is_multiple_of(3), row % 3 == 2);
    let duration = 50_000 + r.below(4_000_000) as i64;
    let mut s = Span { instance, time, duration, failed, ..Span::default() };
    let request = format!("{:016x}{:016x}", ids.number(), ids.number());
    s.texts.extend([("user.id", format!("u-{user}")), ("request.id", request)]);
    s.texts.push(("cloud.availability_zone", REGIONS[r.below(3)].into()));
    if database {
        (s.name, s.kind) = (format!("SELECT {table}"), 3);
        s.texts.extend([
            ("db.system.name", "postgresql".into()),
            ("db.namespace", format!("shop-{}", r.below(4))),
            ("db.collection.name", table.into()),
            ("db.operation.name", "SELECT".into()),
            ("db.query.text", format!("SELECT id, tenant, state, changed_at FROM {table} WHERE tenant = $1 AND id = $2 ORDER BY id LIMIT 50")),
            ("server.address", format!("pg-{}.shop.internal", r.below(4))),
            ("thread.name", format!("pool-1-thread-{}", r.below(32))),
        ]);
        s.ints.extend([
            ("db.response.returned_rows", r.below(50) as i64),
            ("server.port", 5_432),
            ("thread.id", r.below(32) as i64),
        ]);
        s.doubles.push(("db.wait_ms", r.below(90_000) as f64 / 1e3));
        s.bools.push(("db.prepared", r.below(4) > 0));
    } else {
        (s.name, s.kind) = if server { (format!("{method} {route}"), 2) } else { (method.into(), 3) };
        s.texts.extend([
            ("http.request.method", method.into()),
            ("server.address", format!("{peer}.shop.internal")),
            ("network.protocol.version", "1.1".into()),
            ("session.id", session.to_owned()),
        ]);
        let status = if failed { 504 } else { [200, 200, 200, 201, 204, 304, 404][r.below(7)] };
        s.ints.extend([
            ("http.response.status_code", status),
            ("server.port", 8_080),
            ("http.response.body.size", r.below(64_000) as i64),
        ]);
        s.bools.push(("cache.hit", r.one_in(3)));
        if server {
            s.texts.extend([
                ("http.route", route.into()),
                ("url.path", path),
                ("client.address", format!("203.0.113.{}", r.below(254) + 1)),
                ("user_agent.original", BROWSERS[r.below(3)].into()),
            ]);
        } else {
            s.texts.extend([
                ("url.full", format!("http://{peer}.shop.internal:8080{path}")),
                ("peer.service", peer.into()),
            ]);
            s.ints.push(("http.request.resend_count", r.below(2) as i64));
            s.doubles.push(("client.wait_ms", r.below(400_000) as f64 / 1e3));
        }
    }
    if r.one_in(30) {
        s.texts.push(("user.email", format!("user-{user}@example.com")));
    }
    if failed {
        s.children.push(Child::Exception { time: time + duration, peer });
    } else if r.one_in(30) {
        let bytes = r.below(9_000) as i64;
        s.children.push(Child::CacheMiss { time, key: format!("{table}:{user}"), bytes });
    }
    s
}

/// The tables of events and links.
fn children(spans: &[Span]) -> Vec<Table> {
    type Event = (u32, i64, &'static str, [Option<String>; 4], Option<i64>);
    let mut events: Vec<Event> = Vec::new();
    let mut links: Vec<(u32, [u8; 16], [u8; 8])> = Vec::new();
    for (row, span) in spans.iter().enumerate() {
        for child in &span.children {
            match child {
                Child::Exception { time, peer } => {
                    let texts = [
                        "TimeoutError".to_owned(),
                        format!("no answer from {peer} within 2000 ms"),
                        "at call (client.js:118)\n at retry (client.js:64)\n at handle (orders.js:201)".to_owned(),
                    ];
                    let [a, b, c] = texts.map(Some);
                    events.push((row as u32, *time, "exception", [a, b, c, None], None));
                }
                Child::CacheMiss { time, key, bytes } => {
                    let texts = [None, None, None, Some(key.clone())];
                    events.push((row as u32, *time, "cache.miss", texts, Some(*bytes)));
                }
                Child::Link { trace, span } => links.push((row as u32, *trace, *span)),
            }
        }
    }
    let column = |id: ColumnId, array: ArrayRef| Column { id, array };
    let mut columns = vec![
        column(Intrinsic::Parent.into(), Arc::new(UInt32Array::from_iter_values(events.iter().map(|e| e.0)))),
        column(Intrinsic::Time.into(), Arc::new(Int64Array::from_iter_values(events.iter().map(|e| e.1)))),
        column(Intrinsic::Name.into(), texts(events.iter().map(|e| Some(e.2)).collect())),
        column(
            ColumnId::attr("cache.bytes", AttrType::Int),
            Arc::new(events.iter().map(|e| e.4).collect::<Int64Array>()),
        ),
    ];
    for (i, key) in ["exception.type", "exception.message", "exception.stacktrace", "cache.key"].iter().enumerate() {
        let values = texts(events.iter().map(|e| e.3[i].as_deref()).collect());
        columns.push(column(ColumnId::attr(*key, AttrType::Str), values));
    }
    let mut tables = Vec::new();
    if !events.is_empty() {
        tables.push(Table::try_new(TableKind::Events, events.len(), columns).unwrap());
    }
    if !links.is_empty() {
        let fixed = |w, bytes: Vec<u8>| -> ArrayRef { Arc::new(FixedSizeBinaryArray::new(w, bytes.into(), None)) };
        let columns = vec![
            column(Intrinsic::Parent.into(), Arc::new(UInt32Array::from_iter_values(links.iter().map(|l| l.0)))),
            column(Intrinsic::TraceId.into(), fixed(16, links.iter().flat_map(|l| l.1).collect())),
            column(Intrinsic::SpanId.into(), fixed(8, links.iter().flat_map(|l| l.2).collect())),
            column(Intrinsic::Flags.into(), Arc::new(UInt32Array::from_value(1, links.len()))),
        ];
        tables.push(Table::try_new(TableKind::Links, links.len(), columns).unwrap());
    }
    tables
}

fn texts(values: Vec<Option<&str>>) -> ArrayRef {
    let mut distinct: BTreeMap<&str, u32> = BTreeMap::new();
    values.iter().flatten().for_each(|v| {
        let next = distinct.len() as u32;
        distinct.entry(v).or_insert(next);
    });
    let there = values.iter().flatten().count();
    if distinct.len() * 2 > there {
        return Arc::new(StringArray::from(values));
    }
    let mut sorted: Vec<(&str, u32)> = distinct.iter().map(|(t, n)| (*t, *n)).collect();
    sorted.sort_by_key(|(_, n)| *n);
    let keys: UInt32Array = values.iter().map(|v| v.map(|v| distinct[v])).collect();
    let texts = StringArray::from_iter_values(sorted.into_iter().map(|(t, _)| t));
    Arc::new(DictionaryArray::new(keys, Arc::new(texts)))
}

fn columns_of<T: Copy>(
    spans: &[Span],
    of: impl Fn(&Span) -> &Vec<(&'static str, T)>,
    ty: AttrType,
    array: impl Fn(Vec<Option<T>>) -> ArrayRef,
    columns: &mut Vec<Column>,
) {
    let keys: std::collections::BTreeSet<&str> = spans.iter().flat_map(|s| of(s).iter().map(|(k, _)| *k)).collect();
    for key in keys {
        let values = spans.iter().map(|s| of(s).iter().find(|(k, _)| *k == key).map(|(_, v)| *v)).collect();
        columns.push(Column { id: ColumnId::attr(key, ty), array: array(values) });
    }
}

fn batch(spans: &[Span], start: i64) -> Batch {
    let mut columns: Vec<Column> = Vec::new();
    let mut push = |id: Intrinsic, array: ArrayRef| columns.push(Column { id: id.into(), array });
    let fixed = |w, bytes: Vec<u8>| -> ArrayRef { Arc::new(FixedSizeBinaryArray::new(w, bytes.into(), None)) };
    push(Intrinsic::Resource, Arc::new(UInt32Array::from_iter_values(spans.iter().map(|s| s.instance as u32))));
    push(Intrinsic::TraceId, fixed(16, spans.iter().flat_map(|s| s.trace).collect()));
    push(Intrinsic::SpanId, fixed(8, spans.iter().flat_map(|s| s.id).collect()));
    let parents = FixedSizeBinaryArray::try_from_sparse_iter_with_size(spans.iter().map(|s| s.parent), 8).unwrap();
    push(Intrinsic::ParentId, Arc::new(parents));
    push(Intrinsic::Name, texts(spans.iter().map(|s| Some(s.name.as_str())).collect()));
    push(Intrinsic::Kind, Arc::new(Int32Array::from_iter_values(spans.iter().map(|s| s.kind))));
    push(Intrinsic::Time, Arc::new(Int64Array::from_iter_values(spans.iter().map(|s| s.time))));
    push(Intrinsic::Duration, Arc::new(Int64Array::from_iter_values(spans.iter().map(|s| s.duration))));
    push(Intrinsic::Flags, Arc::new(UInt32Array::from_value(0x101, spans.len())));
    push(Intrinsic::Status, Arc::new(Int32Array::from_iter_values(spans.iter().map(|s| 2 * i32::from(s.failed)))));
    let messages = spans.iter().map(|s| s.failed.then_some("upstream timed out")).collect();
    push(Intrinsic::StatusMessage, texts(messages));
    let keys: std::collections::BTreeSet<&str> = spans.iter().flat_map(|s| s.texts.iter().map(|(k, _)| *k)).collect();
    for key in keys {
        let of = |s: &'_ Span| -> Option<usize> { s.texts.iter().position(|(k, _)| *k == key) };
        let values = spans.iter().map(|s| of(s).map(|i| s.texts[i].1.as_str())).collect();
        columns.push(Column { id: ColumnId::attr(key, AttrType::Str), array: texts(values) });
    }
    columns_of(spans, |s| &s.ints, AttrType::Int, |v| Arc::new(Int64Array::from(v)), &mut columns);
    columns_of(spans, |s| &s.doubles, AttrType::Double, |v| Arc::new(Float64Array::from(v)), &mut columns);
    columns_of(spans, |s| &s.bools, AttrType::Bool, |v| Arc::new(BooleanArray::from(v)), &mut columns);
    let mut own = children(spans);
    let pids = (0..INSTANCES).map(|i| 1_000 + i as i64);
    let pids = Column {
        id: ColumnId::attr("process.pid", AttrType::Int),
        array: Arc::new(Int64Array::from_iter_values(pids)),
    };
    let resource = |key: &'static str, of: &dyn Fn(usize) -> String| Column {
        id: ColumnId::attr(key, AttrType::Str),
        array: Arc::new(StringArray::from_iter_values((0..INSTANCES).map(of))),
    };
    let service = |i: usize| SERVICES[i % SERVICES.len()];
    let resources = vec![
        resource("service.name", &|i| service(i).into()),
        resource("service.namespace", &|_| "shop".into()),
        resource("service.version", &|_| "4.2.0".into()),
        resource("service.instance.id", &|i| format!("{}-{i}", service(i))),
        resource("deployment.environment.name", &|_| "load".into()),
        resource("k8s.pod.name", &|i| format!("{}-7d9c5b6f4-{i:05}", service(i))),
        resource("k8s.namespace.name", &|_| "shop".into()),
        resource("host.name", &|i| format!("node-{}", i % 3)),
        resource("cloud.region", &|i| REGIONS[i % 3].into()),
        resource("telemetry.sdk.language", &|_| "rust".into()),
        pids,
    ];
    let scope = Column { id: Intrinsic::Name.into(), array: Arc::new(StringArray::from(vec!["shop.http"])) };
    let mut tables = vec![
        Table::try_new(TableKind::Resources, INSTANCES, resources).unwrap(),
        Table::try_new(TableKind::Scopes, 1, vec![scope]).unwrap(),
        Table::try_new(TableKind::Items, spans.len(), columns).unwrap(),
    ];
    tables.append(&mut own);
    let origin = Origin {
        batch_id: [7; 16],
        first_row: 0,
        rows: spans.len() as u32,
        received_unix_nanos: start,
        redactions: vec![],
    };
    Batch::try_new(Signal::Spans, vec![origin], tables).unwrap()
}

/// Processor seconds of this process.
fn cpu() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

fn timed<T>(what: &str, spans: usize, run: impl FnOnce() -> T) -> T {
    let before = cpu();
    let out = run();
    let took = cpu() - before;
    println!("{what:<52} {took:>8.3} CPU-s {:>8.3} a million", took / spans as f64 * 1e6);
    out
}

fn main() {
    let mut numbers = std::env::args().filter_map(|a| a.parse::<usize>().ok());
    let spans = numbers.next().unwrap_or(500_000);
    let defaults = FileOptions::default();
    let row_group_rows = numbers.next().unwrap_or(defaults.row_group_rows);
    let zstd_level = numbers.next().unwrap_or(defaults.zstd_level as usize) as i32;
    let templates = numbers.next().unwrap_or(8).max(1);
    let mut r = Random(11);
    let mut frames = Vec::new();
    let mut requests = 0;
    let mut now = 1_800_000_000_000_000_000i64;
    let mut needle = [0; 16];
    while frames.len() * FRAME_ROWS < spans {
        let mut rows = Vec::with_capacity(FRAME_ROWS);
        while rows.len() < FRAME_ROWS {
            rows.extend(request(&mut Random((requests % templates) as u64), &mut r, now));
            requests += 1;
            now += REQUEST_NANOS;
        }
        needle = rows[5].trace;
        frames.push(frame_bytes::encode(&batch(&rows, now), 1).unwrap());
    }
    let spans = frames.len() * FRAME_ROWS;
    let hot: usize = frames.iter().map(Vec::len).sum();
    println!("{spans} spans, frames {:.1} B a span", hot as f64 / spans as f64);
    let dir = tempfile::tempdir().unwrap();
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(Arc::new(RealDisk), dir.path(), 1));
    for (name, filter) in [("off", Filter::Off), ("cuckoo", Filter::Cuckoo), ("bloom", Filter::Bloom)] {
        let options = FileOptions {
            filters: BTreeMap::from([("trace_id".into(), filter)]),
            row_group_rows,
            zstd_level,
            ..FileOptions::default()
        };
        let batches: Vec<Batch> = timed("read frames", spans, || {
            frames.iter().map(|f| frame_bytes::decode(f, &|_, _| true).unwrap()).collect()
        });
        let summary = timed(&format!("write, filter of trace ids {name}"), spans, || {
            let mut writer = Writer::begin(objects.clone(), name, Signal::Spans, &options);
            batches.into_iter().for_each(|b| writer.write(b).unwrap());
            writer.finish().unwrap()
        });
        let per = |bytes: u64| bytes as f64 / spans as f64;
        println!(
            "  {:.2} B a span, footer {} B, {} row groups",
            per(summary.bytes),
            summary.footer_bytes,
            summary.row_groups
        );
        let file = ColdFile::open(objects.clone(), name, summary.bytes).unwrap();
        let groups = file.frames(TimeRange::ALL);
        let wrong = (0..2_000)
            .filter(|_| {
                let id: [u8; 16] = std::array::from_fn(|_| r.number() as u8);
                groups[0].may_contain_trace(&id)
            })
            .count();
        println!("  {:.2} % of absent trace ids are not ruled out by a row group", wrong as f64 / 20.0);
        if filter == Filter::Bloom {
            for (column, bytes) in file.column_bytes() {
                println!("  {:>7.2} B {column}", per(bytes));
            }
            println!("  {:>7.2} B in all columns", per(file.column_bytes().iter().map(|c| c.1).sum()));
            reading(&groups, &needle, spans);
        }
    }
}

fn reading(groups: &[Frame], needle: &[u8; 16], spans: usize) {
    let read = |what: &str, want: &dyn Fn(TableKind, &ColumnId) -> bool| {
        let mut bytes = 0;
        timed(what, spans, || groups.iter().for_each(|g| bytes += g.read(want).unwrap().1.bytes));
        println!("  {bytes} bytes read");
    };
    let is = |id: &ColumnId, i: Intrinsic| *id == ColumnId::Intrinsic(i);
    read("read nothing but what holds tables together", &|_, _| false);
    read("read duration", &|_, id| is(id, Intrinsic::Duration));
    read("read service.name", &|t, id| {
        t == TableKind::Resources && *id == ColumnId::attr("service.name", AttrType::Str)
    });
    read("read http.route", &|_, id| *id == ColumnId::attr("http.route", AttrType::Str));
    read("read request.id", &|_, id| *id == ColumnId::attr("request.id", AttrType::Str));
    read("read trace_id", &|_, id| is(id, Intrinsic::TraceId));
    read("read all columns", &|_, _| true);
    let hits = timed("needle: filters", spans, || groups.iter().filter(|g| g.may_contain_trace(needle)).count());
    println!("  {hits} of {} row groups", groups.len());
    timed("needle: trace_id of those, all columns", spans, || {
        for g in groups.iter().filter(|g| g.may_contain_trace(needle)) {
            g.read(&|_, id| is(id, Intrinsic::TraceId)).unwrap();
            g.read(&|_, _| true).unwrap();
        }
    });
}
