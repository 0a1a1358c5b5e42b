//! A filter that misbehaves as its configuration says.
include!("../../shared.rs");

wit_bindgen::generate!({ path: "../../../../../wit", world: "filter" });

use exports::prism::plugin::filtering::{Addition, Guest as Filtering, Verdict};
use exports::prism::plugin::meta::{Access, Guest as Meta, Metadata, Need};
use prism::plugin::base::{Dtype, Error, Place, Role};
use prism::plugin::batches::{Batch, Call, Field, TableKind};
use prism::plugin::columns::{BytesCol, Values};
use std::sync::Mutex;

struct Hostile;
static CONFIG: Mutex<String> = Mutex::new(String::new());

impl Meta for Hostile {
    fn describe() -> Metadata {
        hostile_describe!(Metadata, Access)
    }

    fn init(config: String) -> Result<Vec<Need>, Error> {
        let other = member(&config, "mode") == "other-needs";
        *CONFIG.lock().unwrap() = config;
        let need = |role| Need { place: None, role, name: "*".into(), dtypes: vec![], leaves: true };
        let mut needs = vec![need(Role::Attribute), need(Role::Intrinsic), need(Role::AttributeKey)];
        if other {
            // Only what the host keeps tells a second instance from the first.
            if !prism::plugin::memory::load().is_empty() {
                needs.pop();
            }
            prism::plugin::memory::save(&[1]);
        }
        Ok(needs)
    }
}

fn add(name: &str, dtype: Dtype, values: Values) -> Addition {
    let field = Field { need: 0, place: None, role: Role::Attribute, name: name.into(), dtype };
    Addition { field, validity: None, keys: None, values }
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> Values {
    let mut col = BytesCol { offsets: vec![0], data: Vec::new() };
    for v in values {
        col.data.extend_from_slice(v.as_bytes());
        col.offsets.push(col.data.len() as u32);
    }
    Values::Utf8(col)
}

impl Filtering for Hostile {
    fn apply(batch: Batch, _: Call) -> Result<Verdict, Error> {
        let config = CONFIG.lock().unwrap().clone();
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        prism::plugin::host::count(0, 1);
        let rows = batch.tables.iter().find(|t| t.kind == TableKind::Items).map_or(0, |t| t.rows as usize);
        let bytes = rows.div_ceil(8);
        let verdict = |keep: Option<Vec<u8>>, reasons: Option<Vec<u8>>, add: Vec<Addition>| Ok(Verdict { keep, reasons, add });
        let one = |a: Addition| verdict(None, None, vec![a]);
        match member(&config, "mode").as_str() {
            "" | "ok" | "other-needs" => verdict(None, None, vec![]),
            "loop" => spin(),
            "alloc" => allocate_without_end(),
            "trap" => trap(),
            "error" => Err(Error::Internal("secret of the batch".into())),
            "drop-odd" => verdict(Some(vec![0x55; bytes]), Some(vec![1; rows / 2]), vec![]),
            "drop-all" => verdict(Some(vec![0; bytes]), Some(vec![0; rows]), vec![]),
            "check" => {
                // What the host promises, checked from inside.
                for table in &batch.tables {
                    for column in &table.columns {
                        let entries = match &column.values {
                            Values::Utf8(b) | Values::Binary(b) => {
                                assert_eq!(b.offsets[0], 0);
                                assert_eq!(*b.offsets.last().unwrap() as usize, b.data.len());
                                b.offsets.len() - 1
                            }
                            Values::S64s(v) => v.len(),
                            Values::F64s(v) => v.len(),
                            Values::S32s(v) => v.len(),
                            Values::U32s(v) => v.len(),
                            Values::Fixed(f) => f.data.len() / f.width as usize,
                            Values::Bools(v) => {
                                assert_eq!(v.len(), (table.rows as usize).div_ceil(8));
                                table.rows as usize
                            }
                            _ => panic!("unexpected type"),
                        };
                        if let Some(v) = &column.validity {
                            assert_eq!(v.len(), (table.rows as usize).div_ceil(8));
                        }
                        match &column.keys {
                            Some(keys) => {
                                assert_eq!(keys.len(), table.rows as usize);
                                let valid = |i: usize| column.validity.as_ref().is_none_or(|v| v[i / 8] >> (i % 8) & 1 == 1);
                                assert!(keys.iter().enumerate().all(|(i, k)| !valid(i) || (*k as usize) < entries));
                            }
                            None => assert!(table.kind == TableKind::Entries || entries == table.rows as usize),
                        }
                        assert!((column.field as usize) < batch.fields.len());
                    }
                    if let Some(parents) = &table.parents {
                        assert_eq!(parents.len(), table.rows as usize);
                    }
                }
                verdict(None, None, vec![])
            }
            "add" => {
                let mut dictionary = add("tier", Dtype::Utf8, texts(["gold", "gold", "silver"].into_iter()));
                dictionary.keys = Some((0..rows as u32).map(|r| r % 3).collect());
                let mut sparse = add("user.email", Dtype::Utf8, texts((0..rows).map(|_| "added")));
                sparse.validity = Some(vec![0x01; bytes]);
                let mut weight = add("sampling_weight", Dtype::Float64, Values::F64s(vec![2.0; rows]));
                weight.field.role = Role::Intrinsic;
                verdict(Some(vec![0x55; bytes]), Some(vec![0; rows / 2]), vec![dictionary, sparse, weight])
            }
            "remember" => {
                let before = prism::plugin::memory::load();
                prism::plugin::memory::save(&[&before[..], &[1]].concat());
                one(add("memory", Dtype::Int64, Values::S64s(vec![before.len() as i64; rows])))
            }
            "remember-much" => {
                prism::plugin::memory::save(&vec![0; 100_000]);
                verdict(None, None, vec![])
            }
            "calls" => one(add("calls", Dtype::Int64, Values::S64s(vec![i64::from(calls); rows]))),
            "bomb" => one(add("big", Dtype::Utf8, texts((0..rows).map(|_| "x")))).map(|mut v: Verdict| {
                v.keep = Some(vec![0; 100 << 20]);
                v
            }),
            "lie-once" if calls > 1 => verdict(None, None, vec![]),
            "lie-once" | "keep-short" => verdict(Some(vec![0; bytes.saturating_sub(1)]), None, vec![]),
            "keep-long" => verdict(Some(vec![0; bytes + 1]), None, vec![]),
            "no-reasons" => verdict(Some(vec![0; bytes]), None, vec![]),
            "few-reasons" => verdict(Some(vec![0; bytes]), Some(vec![0]), vec![]),
            "reasons-only" => verdict(None, Some(vec![0]), vec![]),
            "label-beyond" => verdict(Some(vec![0; bytes]), Some(vec![9; rows]), vec![]),
            "many-additions" => verdict(None, None, (0..65).map(|i| add(&format!("a{i}"), Dtype::Int64, Values::S64s(vec![0; rows]))).collect()),
            "add-twice" => verdict(None, None, (0..2).map(|_| add("a", Dtype::Int64, Values::S64s(vec![0; rows]))).collect()),
            "add-short" => one(add("a", Dtype::Int64, Values::S64s(vec![0; rows - 1]))),
            "add-type" => one(add("a", Dtype::Utf8, Values::S64s(vec![0; rows]))),
            "add-list" => one(add("a", Dtype::Uint64, Values::U64s(vec![0; rows]))),
            "add-no-utf8" => one(add("a", Dtype::Utf8, Values::Utf8(BytesCol { offsets: (0..=rows as u32).collect(), data: vec![0xff; rows] }))),
            "add-cut-utf8" => one(add("a", Dtype::Utf8, Values::Utf8(BytesCol { offsets: (0..=rows as u32).collect(), data: "ü".repeat(rows).into_bytes()[..rows / 2 * 2].to_vec() }))),
            "add-offsets" => one(add("a", Dtype::Utf8, Values::Utf8(BytesCol { offsets: vec![7; rows + 1], data: vec![] }))),
            "add-bools" => one(add("a", Dtype::Boolean, Values::Bools(vec![0; bytes + 1]))),
            "add-validity" => {
                let mut a = add("a", Dtype::Int64, Values::S64s(vec![0; rows]));
                a.validity = Some(vec![0; bytes + 3]);
                one(a)
            }
            "add-key-beyond" => {
                let mut a = add("a", Dtype::Utf8, texts(["x"].into_iter()));
                a.keys = Some(vec![1; rows]);
                one(a)
            }
            "add-few-keys" => {
                let mut a = add("a", Dtype::Utf8, texts(["x"].into_iter()));
                a.keys = Some(vec![0; rows - 1]);
                one(a)
            }
            // Small for the guest, large for whoever writes it out: the same text twice is no dictionary.
            "add-spread" => {
                let text = "x".repeat(3 << 20);
                let mut a = add("a", Dtype::Utf8, texts([text.as_str(), text.as_str()].into_iter()));
                a.keys = Some(vec![1; rows]);
                one(a)
            }
            // Each column within its bound, all of them not.
            "add-spread-twice" => {
                let column = |name| {
                    let mut a = add(name, Dtype::Binary, Values::Binary(BytesCol { offsets: vec![0, 640 << 10], data: vec![1; 640 << 10] }));
                    a.keys = Some(vec![0; rows]);
                    a
                };
                verdict(None, None, vec![column("a"), column("b")])
            }
            "add-to-resource" => {
                let mut a = add("a", Dtype::Int64, Values::S64s(vec![0; rows]));
                a.field.place = Some(Place::Resource);
                one(a)
            }
            "add-intrinsic" => {
                let mut a = add("time", Dtype::Int64, Values::S64s(vec![0; rows]));
                a.field.role = Role::Intrinsic;
                one(a)
            }
            "add-long-key" => one(add(&"k".repeat(5_000), Dtype::Int64, Values::S64s(vec![0; rows]))),
            "weight-nan" | "weight-zero" | "weight-int" => {
                let mode = member(&config, "mode");
                let value = if mode == "weight-nan" { f64::NAN } else { 0.0 };
                let mut a = match mode.as_str() {
                    "weight-int" => add("sampling_weight", Dtype::Int64, Values::S64s(vec![1; rows])),
                    _ => add("sampling_weight", Dtype::Float64, Values::F64s(vec![value; rows])),
                };
                a.field.role = Role::Intrinsic;
                one(a)
            }
            other => Err(Error::Unsupported(other.into())),
        }
    }
}

export!(Hostile);
