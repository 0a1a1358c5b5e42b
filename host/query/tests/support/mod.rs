//! A store in a temporary folder with rows built by hand, and answers as text.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    StringArray, UInt8Array, UInt32Array,
};
use arrow::datatypes::DataType;
use prism_dsl::Query;
use prism_model::{
    AttrType, Batch, Cleared, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind, TenantId, Value,
};
use prism_plugin::{Binding, Functions, PluginHost, PluginOptions};
use prism_query::{Answer, Engine, EngineOptions, Explained, QueryError, RunOptions};
use prism_store::disk::RealDisk;
use prism_store::{Store, StoreOptions, Surroundings};

/// The tests' now: 2026-01-01T12:00:00Z.
pub const NOW: i64 = 1_767_268_800_000_000_000;
pub const SECOND: i64 = 1_000_000_000;
pub const MS: i64 = 1_000_000;

pub fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

pub fn str(s: &str) -> Value {
    Value::Str(s.into())
}

/// Attributes by key; a repeated key goes to the tail.
pub type Attributes = Vec<(&'static str, Value)>;

/// A record, span, point, event, link, exemplar, scope, resource or descriptor: fixed columns and attributes.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub fixed: Vec<(Intrinsic, Value)>,
    pub attributes: Attributes,
    pub resource: usize,
    pub scope: usize,
    pub events: Vec<Row>,
    pub links: Vec<Row>,
    /// Row of the descriptors.
    pub metric: usize,
    pub exemplars: Vec<Row>,
    /// Keys that go to the tail although there would be room for a column.
    pub tail: Attributes,
}

fn fixed_array(id: Intrinsic, cells: &[Option<Value>]) -> ArrayRef {
    let int = |v: &Option<Value>| match v {
        Some(Value::Int(i)) => *i,
        _ => 0,
    };
    let optional = prism_model::reshape::default_array(&id.into(), 1).null_count() == 1;
    match id.data_type() {
        DataType::Utf8 => Arc::new(
            cells
                .iter()
                .map(|v| match v {
                    Some(Value::Str(s)) => Some(s.as_str()),
                    _ => None,
                })
                .collect::<StringArray>(),
        ),
        DataType::Int64 if optional => {
            Arc::new(cells.iter().map(|v| v.as_ref().map(|_| int(v))).collect::<Int64Array>())
        }
        DataType::Int32 if optional => {
            Arc::new(cells.iter().map(|v| v.as_ref().map(|_| int(v) as i32)).collect::<Int32Array>())
        }
        DataType::Float64 if optional => attribute_array(AttrType::Double, cells),
        DataType::List(items) => {
            let list = |of: &Value| match of {
                Value::Array(items) => items.clone(),
                other => panic!("expected a list, found {other:?}"),
            };
            let lengths = cells.iter().map(|v| v.as_ref().map_or(0, |v| list(v).len()));
            let nulls: arrow::buffer::NullBuffer = cells.iter().map(Option::is_some).collect();
            let values: Vec<Option<Value>> = cells.iter().flatten().flat_map(list).map(Some).collect();
            let ty = if *items.data_type() == DataType::Int64 { AttrType::Int } else { AttrType::Double };
            let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
            Arc::new(arrow::array::ListArray::new(items.clone(), offsets, attribute_array(ty, &values), Some(nulls)))
        }
        DataType::Int64 => Arc::new(Int64Array::from_iter_values(cells.iter().map(int))),
        DataType::Int32 => Arc::new(Int32Array::from_iter_values(cells.iter().map(|v| int(v) as i32))),
        DataType::UInt32 => Arc::new(UInt32Array::from_iter_values(cells.iter().map(|v| int(v) as u32))),
        DataType::Boolean => {
            Arc::new(BooleanArray::from(cells.iter().map(|v| matches!(v, Some(Value::Bool(true)))).collect::<Vec<_>>()))
        }
        DataType::FixedSizeBinary(width) => Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                cells.iter().map(|v| match v {
                    Some(Value::Bytes(b)) => Some(b.clone()),
                    _ => None,
                }),
                width,
            )
            .unwrap(),
        ),
        other => panic!("no rows by hand have {other}"),
    }
}

fn attribute(value: &Value) -> AttrType {
    match value {
        Value::Str(_) => AttrType::Str,
        Value::Int(_) => AttrType::Int,
        Value::Double(_) => AttrType::Double,
        Value::Bool(_) => AttrType::Bool,
        Value::Bytes(_) => AttrType::Bytes,
        _ => AttrType::Json,
    }
}

fn attribute_array(ty: AttrType, cells: &[Option<Value>]) -> ArrayRef {
    match ty {
        AttrType::Str => fixed_array(Intrinsic::Name, cells),
        AttrType::Json => Arc::new(cells.iter().map(|v| v.as_ref().map(Value::to_text)).collect::<StringArray>()),
        AttrType::Int => Arc::new(
            cells
                .iter()
                .map(|v| match v {
                    Some(Value::Int(i)) => Some(*i),
                    _ => None,
                })
                .collect::<Int64Array>(),
        ),
        AttrType::Double => Arc::new(
            cells
                .iter()
                .map(|v| match v {
                    Some(Value::Double(d)) => Some(*d),
                    _ => None,
                })
                .collect::<Float64Array>(),
        ),
        AttrType::Bool => Arc::new(
            cells
                .iter()
                .map(|v| match v {
                    Some(Value::Bool(b)) => Some(*b),
                    _ => None,
                })
                .collect::<BooleanArray>(),
        ),
        AttrType::Bytes => Arc::new(
            cells
                .iter()
                .map(|v| match v {
                    Some(Value::Bytes(b)) => Some(b.as_slice()),
                    _ => None,
                })
                .collect::<BinaryArray>(),
        ),
    }
}

type TailRow = (u8, u32, String, Value);

fn table(kind: TableKind, rows: &[Row], extra: Vec<Column>, tail: &mut Vec<TailRow>) -> Table {
    let mut fixed: BTreeMap<Intrinsic, Vec<Option<Value>>> = BTreeMap::new();
    let mut attributes: BTreeMap<(String, AttrType), Vec<Option<Value>>> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        for (id, value) in &row.fixed {
            fixed.entry(*id).or_insert_with(|| vec![None; rows.len()])[i] = Some(value.clone());
        }
        let mut seen = Vec::new();
        for (key, value) in &row.attributes {
            if seen.contains(key) {
                tail.push((kind as u8, i as u32, (*key).to_owned(), value.clone()));
                continue;
            }
            seen.push(key);
            let ty = attribute(value);
            attributes.entry(((*key).to_owned(), ty)).or_insert_with(|| vec![None; rows.len()])[i] =
                Some(value.clone());
        }
        tail.extend(row.tail.iter().map(|(k, v)| (kind as u8, i as u32, (*k).to_owned(), v.clone())));
    }
    let fixed = fixed.into_iter().map(|(id, cells)| Column { id: id.into(), array: fixed_array(id, &cells) });
    let attributes = attributes
        .into_iter()
        .map(|((key, ty), cells)| Column { id: ColumnId::attr(key, ty), array: attribute_array(ty, &cells) });
    Table::try_new(kind, rows.len(), fixed.chain(attributes).chain(extra).collect()).unwrap()
}

/// Spans or log records with their resources and scopes.
pub fn batch(signal: Signal, resources: &[Row], scopes: &[Row], items: &[Row]) -> Batch {
    of_tables(signal, resources, scopes, &[], items)
}

/// Metric points with their resources and descriptors.
pub fn points(resources: &[Row], descriptors: &[Row], items: &[Row]) -> Batch {
    of_tables(Signal::Metrics, resources, &[], descriptors, items)
}

fn of_tables(signal: Signal, resources: &[Row], scopes: &[Row], descriptors: &[Row], items: &[Row]) -> Batch {
    let mut tail = Vec::new();
    let index = |id: Intrinsic, of: &dyn Fn(&Row) -> usize| Column {
        id: id.into(),
        array: Arc::new(UInt32Array::from_iter_values(items.iter().map(|r| of(r) as u32))) as ArrayRef,
    };
    let mut extra = Vec::new();
    if !resources.is_empty() {
        extra.push(index(Intrinsic::Resource, &|r| r.resource));
    }
    if !scopes.is_empty() {
        extra.push(index(Intrinsic::Scope, &|r| r.scope));
    }
    if !descriptors.is_empty() {
        extra.push(index(Intrinsic::Metric, &|r| r.metric));
    }
    let mut tables = Vec::new();
    let interned =
        [(TableKind::Resources, resources), (TableKind::Scopes, scopes), (TableKind::Descriptors, descriptors)];
    for (kind, rows) in interned {
        if !rows.is_empty() {
            tables.push(table(kind, rows, Vec::new(), &mut tail));
        }
    }
    tables.push(table(TableKind::Items, items, extra, &mut tail));
    for kind in [TableKind::Events, TableKind::Links, TableKind::Exemplars] {
        let children = |r: &Row| match kind {
            TableKind::Events => r.events.clone(),
            TableKind::Links => r.links.clone(),
            _ => r.exemplars.clone(),
        };
        let parents: Vec<u32> = items.iter().enumerate().flat_map(|(i, r)| vec![i as u32; children(r).len()]).collect();
        let rows: Vec<Row> = items.iter().flat_map(children).collect();
        if !rows.is_empty() {
            let parent = Column { id: Intrinsic::Parent.into(), array: Arc::new(UInt32Array::from(parents)) };
            tables.push(table(kind, &rows, vec![parent], &mut tail));
        }
    }
    if !tail.is_empty() {
        tail.sort_by_key(|row| (row.0, row.1));
        let text = |of: &dyn Fn(&TailRow) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(tail.iter().map(of)))
        };
        let columns = vec![
            Column {
                id: Intrinsic::Of.into(),
                array: Arc::new(UInt8Array::from_iter_values(tail.iter().map(|r| r.0))),
            },
            Column {
                id: Intrinsic::Parent.into(),
                array: Arc::new(UInt32Array::from_iter_values(tail.iter().map(|r| r.1))),
            },
            Column { id: Intrinsic::Key.into(), array: text(&|r| r.2.clone()) },
            Column { id: Intrinsic::Value.into(), array: text(&|r| r.3.to_text()) },
        ];
        tables.push(Table::try_new(TableKind::Tail, tail.len(), columns).unwrap());
    }
    let origin = Origin {
        batch_id: [7; 16],
        first_row: 0,
        rows: items.len() as u32,
        received_unix_nanos: NOW,
        redactions: Vec::new(),
    };
    Batch::try_new(signal, vec![origin], tables).unwrap()
}

pub fn cleared(batch: Batch) -> Cleared {
    #[expect(clippy::disallowed_methods, reason = "these tests are of what is read, long behind the plugin chain")]
    Cleared::by_plugin_chain(batch)
}

/// A store in a folder that goes with it.
pub struct Lab {
    pub store: Arc<Store>,
    pub engine: Engine,
    /// What queries may call.
    pub functions: Option<Arc<Functions>>,
    _root: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with(StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, EngineOptions::default())
    }

    pub fn with(store: StoreOptions, engine: EngineOptions) -> Lab {
        let root = tempfile::tempdir().unwrap();
        let around =
            Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer: 1, keys: Default::default() };
        let store = Store::open_in(root.path(), store, around);
        let engine = Engine::new(store.reader(), engine);
        Lab { store, engine, functions: None, _root: root }
    }

    /// One frame (or more, where the batch is of several windows).
    pub async fn add(&self, batch: Batch) {
        self.store.append(&tenant(), cleared(batch)).await.unwrap();
    }

    pub async fn ask(&self, text: &str) -> Result<Answer, QueryError> {
        self.ask_with(text, RunOptions::default()).await
    }

    pub async fn ask_with(&self, text: &str, options: RunOptions) -> Result<Answer, QueryError> {
        self.run(&prism_dsl::parse_text(text)?, options).await
    }

    pub async fn run(&self, query: &Query, options: RunOptions) -> Result<Answer, QueryError> {
        let functions = options.functions.clone().or_else(|| self.functions.clone());
        self.engine.run(&tenant(), query, NOW, RunOptions { functions, ..options }).await
    }
}

/// A host with small bounds, so that what breaks them breaks them soon.
pub fn plugin_host() -> &'static Arc<PluginHost> {
    static HOST: OnceLock<Arc<PluginHost>> = OnceLock::new();
    HOST.get_or_init(|| {
        let compiled = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        let options = PluginOptions { cpu_ms_max: 400, cache_dir: Some(compiled), ..PluginOptions::default() };
        PluginHost::new(options).unwrap()
    })
}

/// The plugin in a folder below this crate's parent, built once.
fn component(folder: &str) -> Vec<u8> {
    static BUILT: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap();
    let build = || {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        std::fs::read(prism_componentize::build_guest(&manifest, &out).unwrap()).unwrap()
    };
    built.entry(folder.to_owned()).or_insert_with(build).clone()
}

/// The functions of bindings: name, folder of the plugin below this crate's parent, configuration.
pub fn functions(host: &Arc<PluginHost>, bound: &[(&str, &str, serde_json::Value)]) -> Arc<Functions> {
    let bindings = bound.iter().map(|(name, folder, config)| {
        let plugin = host.load(&component(folder)).unwrap();
        let (name, hash, config) = ((*name).to_owned(), plugin.hash().to_owned(), config.clone());
        let binding = Binding { name, plugin: hash, config, signals: Vec::new() };
        host.try_binding(&tenant(), &binding, &plugin).unwrap();
        (binding, plugin)
    });
    Arc::new(host.functions(&tenant(), &bindings.collect::<Vec<_>>()))
}

/// Those of the first-party plugins.
pub fn first_party() -> Arc<Functions> {
    use serde_json::json;
    functions(
        plugin_host(),
        &[
            ("apdex", "../plugins/apdex", json!({})),
            ("url-template", "../plugins/url-template", json!({})),
            ("apdex-strict", "../plugins/apdex", json!({ "tolerated": 1 })),
        ],
    )
}

/// What a query would do.
pub async fn explained(engine: &Engine, query: &Query) -> Explained {
    let mut dry = query.clone();
    dry.dry_run = true;
    let answer = engine.run(&tenant(), &dry, NOW, RunOptions::default()).await.unwrap();
    assert_eq!((answer.rows, answer.stats.rows_scanned, answer.stats.bytes_read), (0, 0, 0), "a dry run reads no row");
    answer.explained.unwrap()
}

/// What was read lies within what was said before.
pub fn assert_within(explained: &Explained, answer: &Answer, what: &str) {
    let (stats, said) = (&answer.stats, explained.text());
    let passes = explained.scans.iter().map(|scan| scan.json["passes_most"].as_u64().unwrap()).sum::<u64>();
    assert!(stats.structure_passes <= passes, "{what}: {} passes: {said}", stats.structure_passes);
    assert!(stats.rows_scanned <= explained.rows_most, "{what}: {} rows: {said}", stats.rows_scanned);
    assert!(stats.frames_read <= explained.frames_most, "{what}: {} frames: {said}", stats.frames_read);
    assert!(stats.bytes_read <= explained.bytes_most, "{what}: {} bytes: {said}", stats.bytes_read);
    assert!(stats.bytes_read >= explained.bytes_least, "{what}: {} bytes: {said}", stats.bytes_read);
    assert!(stats.reads <= explained.reads_most, "{what}: {} reads: {said}", stats.reads);
}

/// The columns and rows of an answer as a table, and its warnings.
pub fn shown(answer: &Answer) -> String {
    let mut out = String::new();
    let header = answer.columns.iter().map(|c| match c.unit {
        Some(unit) => format!("{}: {} {unit}", c.name, c.ty),
        None => format!("{}: {}", c.name, c.ty),
    });
    out.push_str(&header.collect::<Vec<_>>().join(" | "));
    for row in 0..answer.rows {
        let cells: Vec<String> = (0..answer.columns.len()).map(|c| answer.cell(row, c).to_string()).collect();
        out.push('\n');
        out.push_str(&cells.join(" | "));
    }
    for warning in &answer.stats.warnings {
        out.push_str(&format!("\nwarning: {warning}"));
    }
    for partial in &answer.stats.partial {
        out.push_str(&format!("\npartial: {}: {}", partial.what, partial.why));
    }
    out
}

/// An error with its place and hint.
pub fn shown_error(error: &QueryError) -> String {
    let place = match (error.line(), error.column()) {
        (Some(line), Some(column)) => format!(" at {line}:{column}"),
        _ => String::new(),
    };
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("error {}{place}: {error}{hint}", error.code())
}
