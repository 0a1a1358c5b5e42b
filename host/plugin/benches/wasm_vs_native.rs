//! Wasm beside native on 16,384 rows, copies and checks counted; and what redaction costs a million spans.
//!
//! `native`: the same lines on the same Arrow buffers. `wasm`: a whole run of a chain. `numeric_filter` drops a tenth of the
//! rows, as filters do; in `numeric_verdict` and `string_search` all rows stay, so that what is common to both (building the
//! new batch) does not hide the difference.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a benchmark")]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, StringArray, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int64Type, UInt32Type};
use criterion::{Criterion, criterion_group, criterion_main};
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind};
use prism_plugin::{Binding, Call, Chain, Plugin, PluginHost, PluginOptions};

include!("../tests/guests/kernels.rs");

const ROWS: usize = 16_384;

fn plugin(host: &PluginHost, folder: &Path) -> Arc<Plugin> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-guests");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let path = prism_componentize::build_guest(&manifest, &out).unwrap();
    host.load(&std::fs::read(path).unwrap()).unwrap()
}

fn chain(host: &Arc<PluginHost>, plugin: &Arc<Plugin>, config: serde_json::Value) -> Chain {
    let binding = Binding { name: "bench".into(), plugin: plugin.hash().into(), config, signals: vec![] };
    host.chain(&"bench".parse().unwrap(), &[(binding, plugin.clone())]).unwrap()
}

fn attr(key: &str, ty: AttrType, array: ArrayRef) -> Column {
    Column { id: ColumnId::attr(key, ty), array }
}

fn batch(rows: usize, resources: Vec<Table>, columns: Vec<Column>) -> Batch {
    let mut tables = resources;
    tables.push(Table::try_new(TableKind::Items, rows, columns).unwrap());
    let origin =
        Origin { batch_id: [1; 16], first_row: 0, rows: rows as u32, received_unix_nanos: 0, redactions: vec![] };
    Batch::try_new(Signal::Spans, vec![origin], tables).unwrap()
}

fn call() -> Call {
    Call { now_unix_nanos: 0, seed: 0, batch_id: [1; 16] }
}

/// A URL with an identifier, of some 60 bytes.
fn url(i: usize) -> String {
    format!("https://shop.example.com/api/v2/products/{:08x}?session={:012x}", i * 7919, i * 104_729)
}

fn wasm_beside_native(c: &mut Criterion) {
    let host = PluginHost::new(PluginOptions::default()).unwrap();
    let filter = plugin(&host, Path::new("tests/guests/bench-filter"));

    for (name, most) in [("numeric_filter", 333), ("numeric_verdict", 300)] {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(|i| 200 + i % most)));
        let times: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
        let time = Column { id: Intrinsic::Time.into(), array: times };
        let numeric = batch(ROWS, vec![], vec![attr("http.status_code", AttrType::Int, numbers.clone()), time]);
        let mut group = c.benchmark_group(name);
        group.bench_function("native", |b| {
            b.iter(|| {
                kept(&numeric, at_most(std::hint::black_box(&numbers).as_primitive::<Int64Type>().values(), 499))
            });
        });
        let bound = chain(&host, &filter, "numeric".into());
        group.bench_function("wasm", |b| b.iter(|| bound.run(numeric.clone(), &call()).unwrap()));
        group.finish();
    }

    let urls: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(url)));
    let search = batch(ROWS, vec![], vec![attr("url.full", AttrType::Str, urls.clone())]);
    let mut group = c.benchmark_group("string_search");
    group.bench_function("native", |b| {
        let finder = memchr::memmem::Finder::new("/health");
        b.iter(|| {
            let texts = std::hint::black_box(&urls).as_string::<i32>();
            let offsets = texts.offsets().inner().inner().typed_data::<u32>();
            kept(&search, without(&finder, offsets, texts.values()))
        });
    });
    let bound = chain(&host, &filter, "search".into());
    group.bench_function("wasm", |b| b.iter(|| bound.run(search.clone(), &call()).unwrap()));
    group.finish();

    // Log lines, of which every hundredth holds an address.
    let lines: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(|i| match i % 100 {
        7 => format!("user{i}@example.com asked for order {i} of the shop and was sent away"),
        _ => format!("request {i} took {} ms in the checkout of the shop, cache was warm", i % 977),
    })));
    let body = Column { id: Intrinsic::Body.into(), array: lines.clone() };
    let logs = batch(ROWS, vec![], vec![body]);
    let redactor = plugin(&host, Path::new("../../plugins/redact-pii"));
    let mut group = c.benchmark_group("pii_scan");
    group.bench_function("native", |b| b.iter(|| native_pii(std::hint::black_box(&lines))));
    let bound = chain(&host, &redactor, redactor.metadata().config_example.clone());
    group.bench_function("wasm", |b| b.iter(|| bound.run(logs.clone(), &call()).unwrap()));
    group.finish();
}

/// The rows whose bit is set.
fn kept(batch: &Batch, keep: Vec<u8>) -> Batch {
    let bits = BooleanBuffer::new(keep.into(), 0, batch.rows());
    if bits.count_set_bits() == batch.rows() {
        return batch.clone();
    }
    let rows = UInt32Array::from_iter_values(bits.set_indices().map(|i| i as u32));
    batch.select(&rows).unwrap()
}

/// What redact-pii does, on the array itself.
fn native_pii(lines: &ArrayRef) -> StringArray {
    use arrow::array::StringBuilder;
    let texts = lines.as_string::<i32>();
    let offsets = texts.offsets().inner().inner().typed_data::<u32>();
    let mut changed: Vec<(usize, String)> = Vec::new();
    prism_pii::scan_entries(texts.values(), offsets, prism_pii::Detectors::ALL, |entry, found| {
        let text = texts.value(entry);
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        for finding in found {
            out.push_str(&text[at..finding.start]);
            out.push('[');
            out.push_str(finding.kind.as_str());
            out.push(']');
            at = finding.end;
        }
        out.push_str(&text[at..]);
        changed.push((entry, out));
    });
    let mut out = StringBuilder::with_capacity(texts.len(), texts.values().len());
    let mut changed = changed.into_iter().peekable();
    for (i, text) in texts.iter().enumerate() {
        match changed.next_if(|(entry, _)| *entry == i) {
            Some((_, new)) => out.append_value(new),
            None => out.append_option(text),
        }
    }
    out.finish()
}

/// Spans of 15 attributes: 10 that repeat, 3 that do not, 2 numbers; the shape of HTTP servers instrumented by an SDK.
fn spans(rows: usize, salt: usize) -> Batch {
    let repeated = |name: &str, distinct: usize| {
        let values: Vec<String> = (0..rows).map(|i| format!("{name} value {}", (i * 31 + salt) % distinct)).collect();
        attr(
            name,
            AttrType::Str,
            Arc::new(values.iter().map(|v| Some(v.as_str())).collect::<DictionaryArray<UInt32Type>>()),
        )
    };
    let mut columns: Vec<Column> = [
        "http.request.method",
        "http.route",
        "server.address",
        "network.protocol.version",
        "user_agent.original",
        "url.scheme",
        "client.address",
        "db.system",
        "db.operation",
        "messaging.system",
    ]
    .iter()
    .zip([4, 40, 12, 3, 60, 2, 200, 3, 9, 2])
    .map(|(name, distinct)| repeated(name, distinct))
    .collect();
    let plain = |name: &str, f: &dyn Fn(usize) -> String| {
        attr(name, AttrType::Str, Arc::new(StringArray::from_iter_values((0..rows).map(|i| f(i + salt * rows)))))
    };
    columns.push(plain("url.full", &url));
    columns.push(plain("session.id", &|i| format!("{:032x}", (i as u128) * 0x9e37_79b9_7f4a_7c15_f39c_c060)));
    columns.push(plain("enduser.id", &|i| if i % 50 == 0 { format!("u{i}@example.com") } else { format!("user-{i}") }));
    let ints = |f: fn(i64) -> i64| Arc::new(Int64Array::from_iter_values((0..rows as i64).map(f)));
    columns.push(attr("http.response.status_code", AttrType::Int, ints(|i| 200 + i % 5)));
    columns.push(attr("server.port", AttrType::Int, ints(|_| 8080)));
    let names: Vec<String> = (0..rows).map(|i| format!("GET /route/{}", i % 40)).collect();
    let names = names.iter().map(|n| Some(n.as_str())).collect::<DictionaryArray<UInt32Type>>();
    columns.push(Column { id: Intrinsic::Name.into(), array: Arc::new(names) });
    columns.push(Column { id: Intrinsic::Time.into(), array: ints(|i| i) });
    let resource = Table::try_new(
        TableKind::Resources,
        1,
        (0..12)
            .map(|i| {
                attr(&format!("resource.{i}"), AttrType::Str, Arc::new(StringArray::from(vec![format!("value {i}")])))
            })
            .collect(),
    )
    .unwrap();
    batch(rows, vec![resource], columns)
}

/// Time per iteration times 1,000,000 / rows is the cost of a million spans.
fn redact_spans(c: &mut Criterion) {
    let host = PluginHost::new(PluginOptions::default()).unwrap();
    let redactor = plugin(&host, Path::new("../../plugins/redact-pii"));
    let mut group = c.benchmark_group("redact_spans");
    for rows in [100, 1_000, 8_192] {
        let bound = chain(&host, &redactor, redactor.metadata().config_example.clone());
        let batches: Vec<Batch> = (0..8).map(|salt| spans(rows, salt)).collect();
        let mut next = 0;
        group.throughput(criterion::Throughput::Elements(rows as u64));
        group.bench_function(format!("{rows}"), |b| {
            b.iter(|| {
                next += 1;
                bound.run(batches[next % batches.len()].clone(), &call()).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, wasm_beside_native, redact_spans);
criterion_main!(benches);
