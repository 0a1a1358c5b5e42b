//! A redactor that misbehaves as its configuration says.
include!("../../shared.rs");

wit_bindgen::generate!({ path: "../../../../../wit", world: "redactor" });

use exports::prism::plugin::meta::{Access, Guest as Meta, Metadata, Need};
use exports::prism::plugin::redacting::{Edit, Guest as Redacting};
use prism::plugin::base::{Dtype, Error, Role};
use prism::plugin::batches::{Batch, Call};
use prism::plugin::columns::{BytesCol, Values};
use std::sync::Mutex;

struct Hostile;
static CONFIG: Mutex<String> = Mutex::new(String::new());

impl Meta for Hostile {
    fn describe() -> Metadata {
        hostile_describe!(Metadata, Access)
    }

    fn init(config: String) -> Result<Vec<Need>, Error> {
        let mode = member(&config, "mode");
        match mode.as_str() {
            "trap-in-init" => trap(),
            "loop-in-init" => spin(),
            "refuse" => return Err(Error::BadConfig("no thanks".into())),
            _ => {}
        }
        *CONFIG.lock().unwrap() = config;
        let need = |role, dtypes: &[Dtype]| Need { place: None, role, name: "*".into(), dtypes: dtypes.to_vec(), leaves: true };
        let mut needs = vec![
            need(Role::Attribute, &[Dtype::Utf8, Dtype::Binary]),
            need(Role::Intrinsic, &[Dtype::Utf8, Dtype::Binary]),
            need(Role::AttributeKey, &[]),
        ];
        if mode == "many-needs" {
            needs = (0..65).map(|_| need(Role::Attribute, &[])).collect();
        }
        if mode == "path-need" {
            needs.push(need(Role::LeafPath, &[]));
        }
        if mode == "ints" {
            needs.push(need(Role::Attribute, &[Dtype::Int64, Dtype::Float64]));
        }
        Ok(needs)
    }
}

fn texts(values: &[&str]) -> Values {
    let mut col = BytesCol { offsets: vec![0], data: Vec::new() };
    for v in values {
        col.data.extend_from_slice(v.as_bytes());
        col.offsets.push(col.data.len() as u32);
    }
    Values::Utf8(col)
}

fn bytes_of(values: &Values) -> Option<&BytesCol> {
    match values {
        Values::Utf8(b) | Values::Binary(b) => Some(b),
        _ => None,
    }
}

/// Every entry, changed by `change`.
fn each(batch: &Batch, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (t, table) in batch.tables.iter().enumerate() {
        for (c, column) in table.columns.iter().enumerate() {
            let role = batch.fields[column.field as usize].role;
            let in_leaves = table.kind == prism::plugin::batches::TableKind::Leaves;
            if role == Role::LeafPath || (in_leaves && role == Role::AttributeKey) {
                continue;
            }
            let Some(old) = bytes_of(&column.values) else { continue };
            let mut new = BytesCol { offsets: vec![0], data: Vec::new() };
            let mut at = Vec::new();
            for (i, o) in old.offsets.windows(2).enumerate() {
                if let Some(bytes) = change(&old.data[o[0] as usize..o[1] as usize]) {
                    new.data.extend_from_slice(&bytes);
                    new.offsets.push(new.data.len() as u32);
                    at.push(i as u32);
                }
            }
            let labels = vec![0; at.len()];
            let values = if matches!(column.values, Values::Utf8(_)) { Values::Utf8(new) } else { Values::Binary(new) };
            if !at.is_empty() {
                edits.push(Edit { table: t as u32, column: c as u32, at, values, labels, cleared: vec![] });
            }
        }
    }
    edits
}

fn replace(text: &[u8], needle: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut i, mut found) = (0, false);
    while i < text.len() {
        if text[i..].starts_with(needle) {
            out.extend_from_slice(b"[x]");
            i += needle.len();
            found = true;
        } else {
            out.push(text[i]);
            i += 1;
        }
    }
    found.then_some(out)
}

impl Redacting for Hostile {
    fn redact(batch: Batch, call: Call) -> Result<Vec<Edit>, Error> {
        let config = CONFIG.lock().unwrap().clone();
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        prism::plugin::host::count(0, 1);
        // The first column that has at least two entries.
        let column = batch.tables[0]
            .columns
            .iter()
            .position(|c| bytes_of(&c.values).is_some_and(|b| b.offsets.len() > 2))
            .unwrap_or(0) as u32;
        let len = batch.tables[0].columns.get(column as usize).and_then(|c| bytes_of(&c.values)).map_or(0, |b| b.offsets.len() as u32 - 1);
        let edit = |at: Vec<u32>, values, labels: Vec<u8>, cleared: Vec<u32>| Ok(vec![Edit { table: 0, column, at, values, labels, cleared }]);
        let raw = |offsets: Vec<u32>, data: &[u8]| Values::Utf8(BytesCol { offsets, data: data.to_vec() });
        match member(&config, "mode").as_str() {
            "" | "ok" | "ints" => Ok(vec![]),
            "loop" => spin(),
            "alloc" => allocate_without_end(),
            "trap" => trap(),
            "error" => Err(Error::Internal("secret of the batch".into())),
            "log" => {
                prism::plugin::host::log(prism::plugin::host::Level::Error, "secret of the batch");
                Ok(vec![])
            }
            "count-beyond" => {
                prism::plugin::host::count(9, 1);
                Ok(vec![])
            }
            "needle" => {
                let needle = member(&config, "needle").into_bytes();
                Ok(each(&batch, |text| replace(text, &needle)))
            }
            "rewrite" => Ok(each(&batch, |t| Some(t.to_vec()))),
            "same" => Ok(each(&batch, |_| Some(b"same".to_vec()))),
            "double" => Ok(each(&batch, |t| Some([t, t].concat()))),
            "clear" => {
                let mut edits = each(&batch, |t| Some(t.to_vec()));
                for edit in &mut edits {
                    edit.cleared = core::mem::take(&mut edit.at);
                    edit.values = Values::S64s(vec![]);
                }
                Ok(edits)
            }
            "calls" => Ok(each(&batch, |_| Some(format!("call {calls}").into_bytes()))),
            "seed" => Ok(each(&batch, |_| Some(format!("{:?} {}", call.batch_id, call.seed).into_bytes()))),
            "bomb" => edit(vec![0], texts(&[&"x".repeat(100 << 20)]), vec![0], vec![]),
            "spill" => Ok(each(&batch, |_| Some(vec![b'x'; 1 << 20]))),
            "lie-once" if calls > 1 => Ok(vec![]),
            "lie-once" | "no-table" => Ok(vec![Edit { table: 9, column: 0, at: vec![0], values: texts(&["a"]), labels: vec![0], cleared: vec![] }]),
            "no-column" => Ok(vec![Edit { table: 0, column: 99, at: vec![0], values: texts(&["a"]), labels: vec![0], cleared: vec![] }]),
            "twice" => Ok((0..2).map(|_| Edit { table: 0, column, at: vec![0], values: texts(&["a"]), labels: vec![0], cleared: vec![] }).collect()),
            "beyond" => edit(vec![len], texts(&["a"]), vec![0], vec![]),
            "descend" => edit(vec![1, 0], texts(&["a", "b"]), vec![0, 0], vec![]),
            "repeat" => edit(vec![0, 0], texts(&["a", "b"]), vec![0, 0], vec![]),
            "few-values" => edit(vec![0, 1], texts(&["a"]), vec![0, 0], vec![]),
            "many-values" => edit(vec![0], texts(&["a", "b"]), vec![0], vec![]),
            "few-labels" => edit(vec![0, 1], texts(&["a", "b"]), vec![0], vec![]),
            "label-beyond" => edit(vec![0], texts(&["a"]), vec![2], vec![]),
            "labels-only" => edit(vec![], texts(&[]), vec![0], vec![]),
            "both" => edit(vec![0], texts(&["a"]), vec![0, 0], vec![0]),
            "cleared-beyond" => edit(vec![], texts(&[]), vec![0], vec![u32::MAX]),
            "cleared-descend" => edit(vec![], texts(&[]), vec![0, 0], vec![1, 0]),
            "no-utf8" => edit(vec![0], raw(vec![0, 2], &[0xff, 0xfe]), vec![0], vec![]),
            "cut-utf8" => edit(vec![0, 1], raw(vec![0, 1, 2], "ü".as_bytes()), vec![0, 0], vec![]),
            "offsets-descend" => edit(vec![0, 1], raw(vec![0, 3, 2], b"ab"), vec![0, 0], vec![]),
            "offsets-beyond" => edit(vec![0], raw(vec![0, 1000], b"ab"), vec![0], vec![]),
            "offsets-start" => edit(vec![0], raw(vec![1, 2], b"ab"), vec![0], vec![]),
            "offsets-short" => edit(vec![0], raw(vec![0, 1], b"ab"), vec![0], vec![]),
            "offsets-none" => edit(vec![0], raw(vec![], b""), vec![0], vec![]),
            "type" => edit(vec![0], Values::S64s(vec![7]), vec![0], vec![]),
            "stack" => Ok(recurse(u64::from(len) + 1)),
            other => Err(Error::Unsupported(other.into())),
        }
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> Vec<Edit> {
    let held = [depth; 64];
    let mut below = recurse(std::hint::black_box(held)[7] + 1);
    below.truncate(std::hint::black_box(held)[9] as usize);
    below
}

export!(Hostile);
