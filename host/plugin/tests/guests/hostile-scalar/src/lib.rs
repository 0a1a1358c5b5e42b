//! A function that misbehaves as its configuration says.
include!("../../shared.rs");

wit_bindgen::generate!({ path: "../../../../../wit", world: "scalar-function" });

use exports::prism::plugin::meta::{Access, Guest as Meta, Metadata, Need};
use exports::prism::plugin::scalar::Guest as Scalar;
use prism::plugin::base::{Dtype, Error, Role};
use prism::plugin::columns::{BytesCol, Values};
use prism::plugin::functions::{Arg, Constant, Series, Signature};
use std::sync::Mutex;

struct Hostile;
static CONFIG: Mutex<String> = Mutex::new(String::new());

impl Meta for Hostile {
    fn describe() -> Metadata {
        hostile_describe!(Metadata, Access)
    }

    fn init(config: String) -> Result<Vec<Need>, Error> {
        if member(&config, "mode") == "refuse" {
            return Err(Error::BadConfig("no thanks".into()));
        }
        let need = Need { place: None, role: Role::Attribute, name: "*".into(), dtypes: vec![], leaves: true };
        let needs = if member(&config, "mode") == "needs" { vec![need] } else { vec![] };
        *CONFIG.lock().unwrap() = config;
        Ok(needs)
    }
}

fn signature(name: &str, args: &[Dtype], returns: Dtype) -> Signature {
    Signature { name: name.into(), args: args.to_vec(), variadic: false, returns, handles_nulls: false, deterministic: true }
}

/// What is said at upload instead of the truth.
fn signatures() -> Vec<Signature> {
    let one = signature("echo", &[Dtype::Utf8], Dtype::Utf8);
    match upload(0).as_str() {
        "sig-none" => vec![],
        "sig-many" => (0..65).map(|i| signature(&format!("f{i}"), &[], Dtype::Int64)).collect(),
        "sig-twice" => vec![one.clone(), one],
        "sig-name" => vec![signature("Echo", &[], Dtype::Utf8)],
        "sig-digit" => vec![signature("1st", &[], Dtype::Utf8)],
        "sig-dot" => vec![signature("a.b", &[], Dtype::Utf8)],
        "sig-type" => vec![signature("echo", &[Dtype::Fixed], Dtype::Utf8)],
        "sig-returns" => vec![signature("echo", &[], Dtype::Uint64List)],
        "sig-args" => vec![signature("echo", &[Dtype::Utf8; 17], Dtype::Utf8)],
        "sig-variadic" => vec![Signature { variadic: true, ..signature("echo", &[], Dtype::Utf8) }],
        "sig-trap" => trap(),
        "sig-loop" => spin(),
        "sig-bomb" => vec![signature(&"x".repeat(2 << 20), &[], Dtype::Utf8)],
        _ => vec![
            one,
            signature("number", &[Dtype::Float64], Dtype::Float64),
            signature("flag", &[Dtype::Boolean], Dtype::Boolean),
            Signature { handles_nulls: true, ..signature("nulls", &[Dtype::Utf8], Dtype::Int64) },
            Signature { variadic: true, deterministic: false, ..signature("rows", &[Dtype::Utf8], Dtype::Int64) },
            signature("bytes", &[Dtype::Utf8], Dtype::Binary),
        ],
    }
}

fn entries(arg: &Arg) -> Option<usize> {
    let Arg::Series(series) = arg else { return None };
    Some(match &series.values {
        Values::Utf8(v) => v.offsets.len() - 1,
        Values::F64s(v) => v.len(),
        _ => 0,
    })
}

impl Scalar for Hostile {
    fn signatures() -> Vec<Signature> {
        signatures()
    }

    fn eval(function: u32, rows: u32, args: Vec<Arg>) -> Result<Series, Error> {
        let config = CONFIG.lock().unwrap().clone();
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        prism::plugin::host::count(0, 1);
        let n = rows as usize;
        let plain = |values| Ok(Series { validity: None, keys: None, values });
        let raw = |offsets: Vec<u32>, data: &[u8]| plain(Values::Utf8(BytesCol { offsets, data: data.to_vec() }));
        let texts = |rows: usize, text: &str| {
            let offsets = (0..=rows as u32).map(|i| i * text.len() as u32).collect();
            Values::Utf8(BytesCol { offsets, data: text.repeat(rows).into_bytes() })
        };
        let keyed = |keys: Vec<u32>, validity: Option<Vec<u8>>, values| Ok(Series { validity, keys: Some(keys), values });
        match member(&config, "mode").as_str() {
            "" | "ok" => match (function, args.into_iter().next()) {
                (0 | 1 | 2, Some(Arg::Series(series))) => Ok(series),
                (0, Some(Arg::Constant(Constant::Text(text)))) => plain(texts(n, &text)),
                (1, Some(Arg::Constant(Constant::Float(x)))) => plain(Values::F64s(vec![x; n])),
                (2, Some(Arg::Constant(Constant::Boolean(b)))) => {
                    plain(Values::Bools(vec![if b { 0xff } else { 0 }; n.div_ceil(8)]))
                }
                // How many values are missing.
                (3, Some(Arg::Series(series))) => {
                    let bit = |row: usize| series.validity.as_ref().is_none_or(|v| v[row / 8] >> (row % 8) & 1 == 1);
                    plain(Values::S64s((0..n).map(|row| i64::from(!bit(row))).collect()))
                }
                (3, _) => plain(Values::S64s(vec![1; n])),
                // How many rows this call has.
                (4, _) => plain(Values::S64s(vec![i64::from(rows); n])),
                (5, Some(Arg::Series(Series { validity, keys, values: Values::Utf8(texts) }))) => {
                    Ok(Series { validity, keys, values: Values::Binary(texts) })
                }
                _ => Err(Error::BadInput("another argument".into())),
            },
            // How many values this call shows.
            "entries" => plain(texts(n, &entries(&args[0]).map_or(0, |e| e).to_string())),
            "calls" => plain(texts(n, &calls.to_string())),
            // Long for each value, though no more than a call may return.
            "fat" => match (function, texts(n, &"x".repeat(32 << 10))) {
                (5, Values::Utf8(bytes)) => plain(Values::Binary(bytes)),
                (_, texts) => plain(texts),
            },
            "log" => {
                for line in 0..30 {
                    prism::plugin::host::log(prism::plugin::host::Level::Error, &format!("line {line}"));
                }
                plain(texts(n, "a"))
            }
            "lie-once" if calls > 1 => plain(texts(n, "a")),
            "lie-once" => plain(texts(n - 1, "a")),
            "loop" => spin(),
            "alloc" => allocate_without_end(),
            "trap" => trap(),
            "error" => Err(Error::Internal("what went wrong".into())),
            "long-error" => Err(Error::Internal("\u{1b}[2J\n".to_owned() + &"x".repeat(10_000))),
            "bomb" => plain(texts(n, &"x".repeat((100 << 20) / n.max(1)))),
            "count-beyond" => {
                prism::plugin::host::count(9, 1);
                plain(texts(n, "a"))
            }
            "few" => plain(texts(n - 1, "a")),
            "many" => plain(texts(n + 1, "a")),
            "none" => raw(vec![], b""),
            "type" => plain(Values::S64s(vec![1; n])),
            "binary" => plain(Values::Binary(BytesCol { offsets: vec![0; n + 1], data: vec![] })),
            "validity-short" => Ok(Series { validity: Some(vec![0; n.div_ceil(8) - 1]), keys: None, values: texts(n, "a") }),
            "validity-long" => Ok(Series { validity: Some(vec![0; n.div_ceil(8) + 1]), keys: None, values: texts(n, "a") }),
            "keys-few" => keyed(vec![0; n - 1], None, texts(1, "a")),
            "keys-many" => keyed(vec![0; n + 1], None, texts(1, "a")),
            "key-beyond" => keyed(vec![1; n], None, texts(1, "a")),
            "key-max" => keyed(vec![u32::MAX; n], None, texts(1, "a")),
            "key-of-none" => keyed(vec![0; n], None, texts(0, "a")),
            // Beyond, but in rows that are missing: that means nothing.
            "key-of-missing" => keyed(vec![7; n], Some(vec![0; n.div_ceil(8)]), texts(1, "a")),
            // Small for the guest, large for whoever writes it out.
            "spread" => keyed(vec![0; n], None, texts(1, &"x".repeat(4 << 20))),
            "no-utf8" => raw((0..=rows).collect(), &vec![0xff; n]),
            "cut-utf8" => raw((0..=rows).map(|i| i.min(1) + u32::from(i == rows)).collect(), "ü".as_bytes()),
            "offsets-descend" => raw((0..=rows).map(|i| if i == 1 { 5 } else { i.min(2) }).collect(), b"ab"),
            "offsets-beyond" => raw((0..=rows).map(|i| i * 1000).collect(), b"ab"),
            "offsets-start" => raw((1..=rows + 1).map(|i| i.min(2)).collect(), b"ab"),
            other => Err(Error::Unsupported(other.into())),
        }
    }
}

export!(Hostile);
