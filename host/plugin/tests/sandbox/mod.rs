//! What the tests of the sandbox share: guests, a host with small bounds, and batches.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "only for tests")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryArray, DictionaryArray, Float64Array, Int64Array, ListArray,
    StringArray, UInt8Array, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt32Type};
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind, TenantId, Value};
use prism_plugin::{Binding, Call, Chain, Plugin, PluginError, PluginHost, PluginOptions};

/// Where built guests and compiled components are kept between runs.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A hostile guest that says `upload` about itself: `<mode>;<rows or entries>;<yes or no: deterministic>`.
pub fn guest(name: &str, upload: &str) -> Vec<u8> {
    static BUILT: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        ["hostile-redactor", "hostile-filter", "hostile-scalar", "hostile-aggregator"]
            .map(|name| {
                let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name);
                let path = prism_componentize::build_guest(&manifest, &folder("guests")).unwrap();
                (name.to_owned(), std::fs::read(path).unwrap())
            })
            .to_vec()
    });
    let mut bytes = built.iter().find(|(n, _)| n == name).unwrap().1.clone();
    let marker = b"PRISM-HOSTILE:";
    let at = bytes.windows(marker.len()).position(|w| w == marker).unwrap() + marker.len();
    assert!(upload.len() <= 32);
    bytes[at..at + 32].fill(b' ');
    bytes[at..at + upload.len()].copy_from_slice(upload.as_bytes());
    bytes
}

/// Small bounds, so that what breaks them breaks them soon.
pub fn options() -> PluginOptions {
    PluginOptions {
        memory_bytes_max: 64 << 20,
        output_bytes_max: 8 << 20,
        cpu_ms_max: 300,
        // What loops ends by its processor time, however little of it a busy machine gives.
        wall_ms_max: 300_000,
        cache_dir: Some(folder("compiled")),
        instances_max: 16,
        idle_instances_max: 4,
        tenant_instances_max: 4,
        ..PluginOptions::default()
    }
}

pub fn host() -> Arc<PluginHost> {
    static HOST: OnceLock<Arc<PluginHost>> = OnceLock::new();
    HOST.get_or_init(|| PluginHost::new(options()).unwrap()).clone()
}

pub fn load(name: &str, upload: &str) -> Arc<Plugin> {
    host().load(&guest(name, upload)).unwrap()
}

pub fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub fn binding(name: &str, plugin: &Plugin, config: serde_json::Value) -> Binding {
    Binding { name: name.into(), plugin: plugin.hash().into(), config, signals: Vec::new() }
}

pub fn mode(mode: &str) -> serde_json::Value {
    serde_json::json!({ "mode": mode })
}

/// A chain of one plugin.
pub fn chain_of(plugin: &Arc<Plugin>, config: serde_json::Value) -> Result<Chain, PluginError> {
    host().chain(&tenant("acme"), &[(binding("it", plugin, config), plugin.clone())])
}

pub fn call(batch: u8) -> Call {
    Call { now_unix_nanos: 1_790_000_000_000_000_000, seed: 1, batch_id: [batch; 16] }
}

pub fn text(texts: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

pub fn dictionary(texts: &[Option<&str>]) -> ArrayRef {
    Arc::new(texts.iter().copied().collect::<DictionaryArray<UInt32Type>>())
}

pub fn attr(key: &str, ty: AttrType, array: ArrayRef) -> Column {
    Column { id: ColumnId::attr(key, ty), array }
}

pub fn fixed(id: Intrinsic, array: ArrayRef) -> Column {
    Column { id: id.into(), array }
}

/// A few spans with an attribute of each layout.
pub fn spans(rows: usize) -> Batch {
    let names: Vec<Option<&str>> = (0..rows).map(|i| Some(["GET /cart", "pay", "GET /cart"][i % 3])).collect();
    let mails: Vec<String> = (0..rows).map(|i| format!("user{i}@example.com")).collect();
    let mails: Vec<Option<&str>> = mails.iter().enumerate().map(|(i, m)| (i % 4 != 3).then_some(m.as_str())).collect();
    let columns = vec![
        fixed(Intrinsic::Time, Arc::new(Int64Array::from_iter_values(0..rows as i64))),
        fixed(Intrinsic::Name, dictionary(&names)),
        attr("user.email", AttrType::Str, text(&mails)),
        attr("n", AttrType::Int, Arc::new(Int64Array::from_iter_values(0..rows as i64))),
    ];
    let items = Table::try_new(TableKind::Items, rows, columns).unwrap();
    let origin =
        Origin { batch_id: [1; 16], first_row: 0, rows: rows as u32, received_unix_nanos: 0, redactions: vec![] };
    Batch::try_new(Signal::Spans, vec![origin], vec![items]).unwrap()
}

/// The values of an attribute of the items.
pub fn values_of(batch: &Batch, key: &str, ty: AttrType) -> Vec<Option<String>> {
    let Some(array) = batch.items().column(&ColumnId::attr(key, ty)) else { return vec![None; batch.rows()] };
    strings(array)
}

pub fn strings(array: &ArrayRef) -> Vec<Option<String>> {
    let plain = cast(array, &arrow::datatypes::DataType::Utf8).unwrap();
    plain.as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect()
}

/// Every fact of a batch as text: what two batches must agree on, whatever their layout. Attributes are listed by row and
/// key, whether they stand in a column or in the tail.
pub fn facts(batch: &Batch) -> Vec<String> {
    let mut facts = vec![format!("{:?} {}", batch.signal, batch.rows())];
    for table in batch.tables() {
        for column in table.columns() {
            let plain = cast(&column.array, &column.id.data_type()).unwrap();
            for row in 0..table.rows() {
                if plain.is_valid(row) && table.kind() != TableKind::Tail {
                    let value = arrow::util::display::array_value_to_string(&plain, row).unwrap();
                    let key = format!("{:?} {row} {}", table.kind(), column.id);
                    facts.push(format!("{key} = {value}"));
                }
            }
        }
    }
    if let Some(tail) = batch.table(TableKind::Tail) {
        let of = tail.intrinsic(Intrinsic::Of).unwrap().as_primitive::<arrow::datatypes::UInt8Type>();
        let parents = tail.index(Intrinsic::Parent).unwrap();
        let keys = strings(tail.intrinsic(Intrinsic::Key).unwrap());
        let values = strings(tail.intrinsic(Intrinsic::Value).unwrap());
        for row in 0..tail.rows() {
            facts.push(format!("tail {} {} {:?} = {:?}", of.value(row), parents.value(row), keys[row], values[row]));
        }
    }
    facts.sort();
    facts
}

/// Whether any buffer that the batch holds on to contains the bytes, shown or not.
pub fn holds(batch: &Batch, needle: &[u8]) -> Option<String> {
    fn in_data(data: &ArrayData, needle: &[u8]) -> bool {
        data.buffers().iter().any(|b| b.as_slice().windows(needle.len()).any(|w| w == needle))
            || data.child_data().iter().any(|c| in_data(c, needle))
    }
    for table in batch.tables() {
        for column in table.columns() {
            let name = format!("{:?} {}", table.kind(), column.id);
            if name.as_bytes().windows(needle.len()).any(|w| w == needle) {
                return Some(format!("name of {name}"));
            }
            if in_data(&column.array.to_data(), needle) {
                return Some(name);
            }
            if column.id.is_text() {
                for value in strings(&column.array).into_iter().flatten() {
                    if Value::from_text(&value).is_ok_and(|v| in_value(&v, needle)) {
                        return Some(format!("value in {name}: {value}"));
                    }
                }
            }
        }
    }
    None
}

/// Also what the text form hides: bytes are base64 there.
fn in_value(value: &Value, needle: &[u8]) -> bool {
    let has = |bytes: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
    match value {
        Value::Str(s) => has(s.as_bytes()),
        Value::Bytes(b) => has(b),
        Value::Array(items) => items.iter().any(|v| in_value(v, needle)),
        Value::Map(entries) => entries.iter().any(|(k, v)| has(k.as_bytes()) || in_value(v, needle)),
        _ => false,
    }
}

/// A small generator of whole batches: the same seed gives the same batch.
pub struct Gen {
    state: u64,
    /// Stands somewhere in about a third of all texts.
    needle: &'static str,
}

impl Gen {
    pub fn new(seed: u64, needle: &'static str) -> Gen {
        Gen { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, needle }
    }

    fn below(&mut self, n: u64) -> u64 {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn text(&mut self) -> String {
        let word = ["", "a", "GET /cart", "grüße 😀", "x\u{0}y", "\"quoted\" \\ text"][self.below(6) as usize];
        match self.below(3) {
            0 => format!("{word}{}{word}", self.needle),
            _ => format!("{word}{}", self.below(4)),
        }
    }

    fn key(&mut self) -> String {
        let key = ["k", "http.route", "user", "$odd", "~/", "ü"][self.below(6) as usize];
        if self.below(4) == 0 { format!("{key}{}", self.needle) } else { format!("{key}{}", self.below(3)) }
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.below(if depth > 3 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => Value::Int(self.below(1_000) as i64),
            3 => Value::Double(0.5),
            4 => Value::Bytes(self.text().into_bytes()),
            5 | 6 => Value::Str(self.text()),
            7 => Value::Array((0..self.below(4)).map(|_| self.value(depth + 1)).collect()),
            _ => Value::Map((0..self.below(4)).map(|_| (self.key(), self.value(depth + 1))).collect()),
        }
    }

    fn compound(&mut self) -> String {
        loop {
            let value = self.value(0);
            if matches!(value, Value::Array(_) | Value::Map(_) | Value::Null) {
                return value.to_text();
            }
        }
    }

    /// Text in one of the layouts that reach the chain: plain, a slice of something longer, with bytes under its nulls,
    /// dictionary, dictionary with values that no row uses.
    fn column(&mut self, rows: usize, mut one: impl FnMut(&mut Gen) -> String) -> ArrayRef {
        let texts: Vec<Option<String>> = (0..rows + 4).map(|_| (self.below(5) > 0).then(|| one(self))).collect();
        let array: ArrayRef = match self.below(4) {
            0 => Arc::new(texts.iter().map(Option::as_deref).collect::<StringArray>()),
            1 => {
                let all = StringArray::from_iter_values(
                    texts.iter().map(|t| t.clone().unwrap_or_else(|| self.needle.to_owned())),
                );
                let nulls = texts.iter().map(Option::is_some).collect::<Vec<bool>>();
                Arc::new(StringArray::new(all.offsets().clone(), all.values().clone(), Some(nulls.into())))
            }
            _ => Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<UInt32Type>>()),
        };
        array.slice(self.below(4) as usize, rows)
    }

    fn attributes(&mut self, rows: usize, columns: &mut Vec<Column>) {
        for _ in 0..self.below(5) {
            let key = self.key();
            let array = self.column(rows, Gen::text);
            columns.push(attr(&key, AttrType::Str, array));
        }
        if self.below(2) == 0 {
            let array = self.column(rows, Gen::compound);
            let key = self.key();
            columns.push(attr(&key, AttrType::Json, array));
        }
        if self.below(2) == 0 {
            let bytes: Vec<Option<Vec<u8>>> =
                (0..rows).map(|_| (self.below(3) > 0).then(|| self.text().into_bytes())).collect();
            let array = Arc::new(bytes.iter().map(|b| b.as_deref()).collect::<BinaryArray>());
            let key = self.key();
            columns.push(attr(&key, AttrType::Bytes, array));
        }
        if self.below(2) == 0 {
            let ints: Int64Array = (0..rows).map(|_| (self.below(3) > 0).then_some(7)).collect();
            let key = self.key();
            columns.push(attr(&key, AttrType::Int, Arc::new(ints)));
        }
    }

    fn table(&mut self, kind: TableKind, rows: usize, mut columns: Vec<Column>, texts: &[Intrinsic]) -> Table {
        for &id in texts {
            if self.below(2) == 0 {
                let json = matches!(id, Intrinsic::EntityRefs | Intrinsic::BodyJson);
                columns.push(fixed(id, self.column(rows, if json { Gen::compound } else { Gen::text })));
            }
        }
        self.attributes(rows, &mut columns);
        let mut seen = std::collections::HashSet::new();
        columns.retain(|c| seen.insert(c.id.clone()));
        Table::try_new(kind, rows, columns).unwrap()
    }

    fn index(&mut self, rows: usize, of: usize, ascending: bool) -> ArrayRef {
        let mut index: Vec<u32> = (0..rows).map(|_| self.below(of as u64) as u32).collect();
        if ascending {
            index.sort_unstable();
        }
        Arc::new(UInt32Array::from(index))
    }

    /// Lists of numbers, which no guest sees; some rows have none.
    fn lists(&mut self, rows: usize) -> ArrayRef {
        let lengths: Vec<usize> = (0..rows).map(|_| self.below(4) as usize).collect();
        let DataType::List(item) = Intrinsic::BucketCounts.data_type() else { unreachable!("a list") };
        let values = Int64Array::from_iter_values((0..lengths.iter().sum::<usize>()).map(|i| i as i64));
        let nulls = lengths.iter().map(|n| *n > 0).collect::<Vec<bool>>();
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths), Arc::new(values), Some(nulls.into())))
    }

    /// A batch with something in every place that holds text.
    pub fn batch(&mut self) -> Batch {
        use Intrinsic::*;
        let signal = Signal::ALL[self.below(3) as usize];
        let rows = 1 + self.below(9) as usize;
        let (resources, scopes) = (1 + self.below(3) as usize, 1 + self.below(2) as usize);
        let mut tables = vec![
            self.table(TableKind::Resources, resources, vec![], &[SchemaUrl, EntityRefs]),
            self.table(TableKind::Scopes, scopes, vec![], &[Name, Version, SchemaUrl]),
        ];
        let mut items = vec![
            fixed(Time, Arc::new(Int64Array::from_iter_values(0..rows as i64))),
            fixed(Resource, self.index(rows, resources, false)),
            fixed(Scope, self.index(rows, scopes, false)),
        ];
        if signal == Signal::Metrics {
            let metrics = 1 + self.below(3) as usize;
            tables.push(self.table(TableKind::Descriptors, metrics, vec![], &[Name, Unit, Description]));
            items.push(fixed(Metric, self.index(rows, metrics, false)));
            items.push(fixed(ValueDouble, Arc::new(Float64Array::from_iter_values((0..rows).map(|row| row as f64)))));
            items.push(fixed(BucketCounts, self.lists(rows)));
        }
        if signal == Signal::Logs && self.below(2) == 0 {
            let bytes: Vec<Option<Vec<u8>>> =
                (0..rows).map(|_| (self.below(3) > 0).then(|| self.text().into_bytes())).collect();
            items.push(fixed(BodyBytes, Arc::new(bytes.iter().map(|b| b.as_deref()).collect::<BinaryArray>())));
        }
        let texts: &[Intrinsic] = match signal {
            Signal::Spans => &[Name, TraceState, StatusMessage],
            Signal::Logs => &[SeverityText, EventName, Body, BodyJson],
            Signal::Metrics => &[],
        };
        tables.push(self.table(TableKind::Items, rows, items, texts));
        let children: &[(TableKind, &[Intrinsic])] = match signal {
            Signal::Spans => &[(TableKind::Events, &[Name]), (TableKind::Links, &[TraceState])],
            Signal::Logs => &[],
            Signal::Metrics => &[(TableKind::Exemplars, &[])],
        };
        for (kind, texts) in children {
            let children = self.below(6) as usize;
            let parents = fixed(Parent, self.index(children, rows, true));
            tables.push(self.table(*kind, children, vec![parents], texts));
        }
        let tail = self.tail(&tables);
        tables.push(tail);
        let origin =
            Origin { batch_id: [1; 16], first_row: 0, rows: rows as u32, received_unix_nanos: 0, redactions: vec![] };
        Batch::try_new(signal, vec![origin], tables).unwrap()
    }

    fn tail(&mut self, tables: &[Table]) -> Table {
        let mut rows = Vec::new();
        for table in tables.iter().filter(|t| t.rows() > 0) {
            for _ in 0..self.below(3) {
                rows.push((table.kind() as u8, self.below(table.rows() as u64) as u32));
            }
        }
        rows.sort_unstable();
        let n = rows.len();
        let keys: Vec<String> = (0..n).map(|_| self.key()).collect();
        let values: Vec<String> = (0..n).map(|_| self.value(0).to_text()).collect();
        let layout = |texts: Vec<String>, dictionary: bool| -> ArrayRef {
            if dictionary {
                Arc::new(texts.iter().map(String::as_str).collect::<DictionaryArray<UInt32Type>>())
            } else {
                Arc::new(StringArray::from(texts))
            }
        };
        let columns = vec![
            fixed(Intrinsic::Of, Arc::new(UInt8Array::from_iter_values(rows.iter().map(|r| r.0)))),
            fixed(Intrinsic::Parent, Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.1)))),
            fixed(Intrinsic::Key, layout(keys, self.below(2) == 0)),
            fixed(Intrinsic::Value, layout(values, self.below(2) == 0)),
        ];
        Table::try_new(TableKind::Tail, n, columns).unwrap()
    }
}
