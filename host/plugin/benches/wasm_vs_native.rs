//! Wasm beside native on 16,384 rows, copies and checks counted; and what redaction costs a million spans.
//!
//! `native`: the same lines on the same Arrow buffers. `wasm`: a whole run of a chain, or a call of a query. `numeric_filter` drops a tenth of the
//! rows, as filters do; in `numeric_verdict` and `string_search` all rows stay, so that what is common to both (building the
//! new batch) does not hide the difference.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a benchmark")]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, StringArray, StringBuilder, UInt32Array,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Float64Type, Int64Type, UInt32Type};
use criterion::{Criterion, criterion_group, criterion_main};
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind};
use prism_plugin::{
    Accumulator, Argument, Binding, Call, Caller, Chain, Constant, Function, Functions, Plugin, PluginHost,
    PluginOptions, Session,
};
use prism_sdk::ScalarFunction as _;

include!("../tests/guests/kernels.rs");

const ROWS: usize = 16_384;

fn plugin(host: &Arc<PluginHost>, folder: &Path) -> Arc<Plugin> {
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

/// The only function of a plugin, and the calls of a query that never ends.
fn function(host: &Arc<PluginHost>, folder: &str) -> (Arc<Caller>, Function, Functions) {
    let plugin = plugin(host, Path::new(folder));
    let config = plugin.metadata().config_example.clone();
    let binding = Binding { name: "bench".into(), plugin: plugin.hash().into(), config, signals: vec![] };
    let functions = host.functions(&"bench".parse().unwrap(), &[(binding, plugin)]);
    (Caller::new(&functions, None), functions.find("bench").unwrap(), functions)
}

/// What the SDK's example does, on the array itself.
fn native_templates(of: &url_template::UrlTemplate, urls: &StringArray) -> StringArray {
    let (mut out, mut one) = (StringBuilder::with_capacity(urls.len(), urls.values().len()), String::new());
    for url in urls {
        match url {
            None => out.append_null(),
            Some(url) => {
                one.clear();
                of.write(url, &mut one);
                out.append_value(&one);
            }
        }
    }
    out.finish()
}

/// Satisfied, tolerated and all values of each group.
fn native_apdex(values: &[f64], groups: &[u32], count: usize) -> Vec<f64> {
    let mut counts = vec![[0u64; 3]; count];
    for (value, group) in values.iter().zip(groups) {
        let of = &mut counts[*group as usize];
        of[0] += u64::from(*value <= 3e8);
        of[1] += u64::from(*value > 3e8 && *value <= 1.2e9);
        of[2] += u64::from(!value.is_nan());
    }
    counts.iter().map(|[whole, half, all]| (*whole as f64 + *half as f64 / 2.0) / *all as f64).collect()
}

fn functions_beside_native(c: &mut Criterion) {
    let host = PluginHost::new(PluginOptions::default()).unwrap();
    let durations: Vec<f64> = (0..ROWS).map(|i| (i * 7_919 % 2_000) as f64 * 1e6).collect();
    let numbers: ArrayRef = Arc::new(Float64Array::from(durations.clone()));

    let (caller, millis_of, _bound) = function(&host, "tests/guests/bench-scalar");
    let mut group = c.benchmark_group("numeric_function");
    group.bench_function("native", |b| {
        b.iter(|| Float64Array::from(millis(std::hint::black_box(&numbers).as_primitive::<Float64Type>().values())));
    });
    let args = [Argument::Column(numbers.clone())];
    group.bench_function("wasm", |b| b.iter(|| caller.eval(&millis_of, ROWS, &args).unwrap()));
    group.finish();

    let urls = StringArray::from_iter_values(
        (0..ROWS).map(|i| format!("/api/v2/products/{}/reviews/{:012x}", i * 7_919, i * 104_729)),
    );
    let native = url_template::UrlTemplate::new(url_template::Config::default()).unwrap();
    let (caller, template, _bound) = function(&host, "../../plugins/url-template");
    let mut group = c.benchmark_group("string_function");
    group.bench_function("native", |b| b.iter(|| native_templates(&native, std::hint::black_box(&urls))));
    let args = [Argument::Column(Arc::new(urls.clone()))];
    group.bench_function("wasm", |b| b.iter(|| caller.eval(&template, ROWS, &args).unwrap()));
    let repeated = (0..ROWS).map(|i| urls.value(i % 400)).collect::<DictionaryArray<UInt32Type>>();
    let args = [Argument::Column(Arc::new(repeated))];
    group.bench_function("wasm_by_value", |b| b.iter(|| caller.eval(&template, ROWS, &args).unwrap()));
    group.finish();

    // A frame's rows into 40 groups, again and again, as a scan does; states and results come once a query.
    let groups: Vec<u32> = (0..ROWS).map(|i| (i * 31 % 40) as u32).collect();
    let (caller, apdex, _bound) = function(&host, "../../plugins/apdex");
    let mut group = c.benchmark_group("aggregate");
    group.bench_function("native", |b| b.iter(|| native_apdex(std::hint::black_box(&durations), &groups, 40)));
    let threshold = Constant::Float(3e8);
    let fresh = || {
        let constants = vec![Constant::Null, threshold.clone()];
        Accumulator::new(Session::new(&caller, &apdex), apdex.clone(), constants)
    };
    let args = [Argument::Column(numbers), Argument::Constant(threshold.clone())];
    let mut counts = fresh();
    group.bench_function("wasm", |b| b.iter(|| counts.update(Some(&groups), 40, None, ROWS, &args).unwrap()));
    group.bench_function("wasm_whole", |b| {
        b.iter(|| {
            let mut counts = fresh();
            counts.update(Some(&groups), 40, None, ROWS, &args).unwrap();
            counts.finish(40).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, wasm_beside_native, functions_beside_native, redact_spans);
criterion_main!(benches);
