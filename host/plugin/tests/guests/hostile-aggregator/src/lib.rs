//! An aggregate that counts, and misbehaves as its configuration says.
include!("../../shared.rs");

wit_bindgen::generate!({ path: "../../../../../wit", world: "aggregator" });

use exports::prism::plugin::aggregating::{Accumulator, Guest as Aggregating, GuestAccumulator};
use exports::prism::plugin::meta::{Access, Guest as Meta, Metadata, Need};
use prism::plugin::base::{Dtype, Error};
use prism::plugin::columns::{BytesCol, Values};
use prism::plugin::functions::{Arg, Constant, Series, Signature};
use std::cell::RefCell;
use std::sync::Mutex;

struct Hostile;
static CONFIG: Mutex<String> = Mutex::new(String::new());

fn mode() -> String {
    member(&CONFIG.lock().unwrap(), "mode")
}

impl Meta for Hostile {
    fn describe() -> Metadata {
        hostile_describe!(Metadata, Access)
    }

    fn init(config: String) -> Result<Vec<Need>, Error> {
        *CONFIG.lock().unwrap() = config;
        Ok(vec![])
    }
}

struct Counts {
    function: u32,
    of: RefCell<Vec<i64>>,
}

impl Aggregating for Hostile {
    type Accumulator = Counts;

    fn signatures() -> Vec<Signature> {
        let one = |name: &str, returns, handles_nulls| Signature {
            name: name.into(),
            args: vec![Dtype::Utf8],
            variadic: true,
            returns,
            handles_nulls,
            deterministic: true,
        };
        vec![one("many", Dtype::Int64, false), one("all", Dtype::Int64, true), one("calls", Dtype::Int64, false), one("texts", Dtype::Utf8, false)]
    }
}

impl GuestAccumulator for Counts {
    fn create(function: u32, _constants: Vec<Constant>) -> Result<Accumulator, Error> {
        match mode().as_str() {
            "loop-in-create" => spin(),
            "trap-in-create" => trap(),
            "refuse" => return Err(Error::BadInput("no thanks".into())),
            _ => {}
        }
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        // What an instance has lived through shows in the function for it.
        let start = if function == 2 { vec![i64::from(calls) * 1_000_000] } else { vec![] };
        Ok(Accumulator::new(Counts { function, of: RefCell::new(start) }))
    }

    fn update(&self, groups: Vec<u32>, count: u32, selected: Option<Vec<u8>>, args: Vec<Arg>) -> Result<(), Error> {
        match mode().as_str() {
            "loop" => spin(),
            "alloc" => allocate_without_end(),
            "trap" => trap(),
            "error" => return Err(Error::Internal("what went wrong".into())),
            "keep" => {
                let mut kept = vec![1u8; 24 << 20];
                std::hint::black_box(&mut kept);
                std::mem::forget(kept);
            }
            "check" => {
                let rows = groups.len();
                let fits = groups.iter().all(|g| *g < count)
                    && selected.as_ref().is_none_or(|s| s.len() == rows.div_ceil(8))
                    && args.iter().all(|arg| match arg {
                        Arg::Constant(_) => true,
                        Arg::Series(s) => {
                            let entries = match &s.values {
                                Values::Utf8(v) => {
                                    assert!(v.offsets[0] == 0 && *v.offsets.last().unwrap() as usize == v.data.len());
                                    v.offsets.len() - 1
                                }
                                _ => 0,
                            };
                            let keyed = |keys: &Vec<u32>| keys.len() == rows && keys.iter().all(|k| (*k as usize) < entries);
                            s.validity.as_ref().is_none_or(|v| v.len() == rows.div_ceil(8))
                                && s.keys.as_ref().map_or(entries == rows, keyed)
                        }
                    });
                assert!(fits);
            }
            _ => {}
        }
        let mut of = self.of.borrow_mut();
        let len = of.len().max(count as usize);
        of.resize(len, 0);
        for (row, group) in groups.iter().enumerate() {
            if selected.as_ref().is_none_or(|s| s[row / 8] >> (row % 8) & 1 == 1) {
                of[*group as usize] += 1;
            }
        }
        Ok(())
    }

    fn merge(&self, groups: Vec<u32>, count: u32, states: BytesCol) -> Result<(), Error> {
        if mode() == "merge-trap" && !groups.is_empty() {
            trap();
        }
        let mut of = self.of.borrow_mut();
        let len = of.len().max(count as usize);
        of.resize(len, 0);
        for (group, at) in groups.iter().zip(states.offsets.windows(2)) {
            let Some(state) = states.data[at[0] as usize..at[1] as usize].first_chunk::<8>() else {
                return Err(Error::BadInput("no state".into()));
            };
            of[*group as usize] += i64::from_le_bytes(*state);
        }
        Ok(())
    }

    fn state(&self, first: Option<u32>) -> Result<BytesCol, Error> {
        let mut of = self.of.borrow_mut();
        let n = first.map_or(of.len(), |n| n as usize);
        let taken: Vec<i64> = if mode() == "no-renumber" { of.clone() } else { of.drain(..n).collect() };
        let mut states = BytesCol { offsets: vec![0], data: vec![] };
        for count in &taken {
            states.data.extend(count.to_le_bytes());
            states.offsets.push(states.data.len() as u32);
        }
        match mode().as_str() {
            // Much in each call, though no more than a call may return.
            "fat" => {
                states.data.resize(1 << 20, 1);
                *states.offsets.last_mut().unwrap() = 1 << 20;
            }
            "lie-once" if CALLS.load(Ordering::Relaxed) == 1 => states.offsets.clear(),
            "state-few" => {
                states.offsets.pop();
                states.data.truncate(states.data.len() - 8);
            }
            "state-many" => states.offsets.push(states.data.len() as u32),
            "state-none" => states.offsets.clear(),
            "state-beyond" => *states.offsets.last_mut().unwrap() += 1_000_000,
            "state-descend" => states.offsets[1] = u32::MAX,
            "state-start" => states.offsets[0] = 1,
            "state-bomb" => {
                states.data.resize(100 << 20, 1);
                *states.offsets.last_mut().unwrap() = 100 << 20;
            }
            "state-loop" => spin(),
            _ => {}
        }
        Ok(states)
    }

    fn finish(&self, first: Option<u32>) -> Result<Series, Error> {
        let mut of = self.of.borrow_mut();
        let n = first.map_or(of.len(), |n| n as usize);
        let mut taken: Vec<i64> = of.drain(..n).collect();
        let (mut validity, mut keys) = (None, None);
        match mode().as_str() {
            "finish-few" => {
                taken.pop();
            }
            "finish-many" => taken.push(1),
            "finish-type" => {
                return Ok(Series { validity, keys, values: Values::F64s(taken.iter().map(|n| *n as f64).collect()) });
            }
            "finish-validity" => validity = Some(vec![0; taken.len().div_ceil(8) + 1]),
            "finish-key" => keys = Some(vec![99; taken.len()]),
            "finish-trap" => trap(),
            "finish-error" => return Err(Error::Internal("what went wrong".into())),
            _ => {}
        }
        if self.function == 3 {
            let pad = if mode() == "fat" { 1 << 20 } else { 0 };
            let mut texts = BytesCol { offsets: vec![0], data: vec![] };
            for n in taken {
                texts.data.extend(n.to_string().bytes().chain(std::iter::repeat_n(b' ', pad)));
                texts.offsets.push(texts.data.len() as u32);
            }
            return Ok(Series { validity, keys, values: Values::Utf8(texts) });
        }
        Ok(Series { validity, keys, values: Values::S64s(taken) })
    }

    fn size(&self) -> u64 {
        match mode().as_str() {
            "size-max" | "no-renumber" | "fat" => u64::MAX,
            "size-loop" => spin(),
            _ => self.of.borrow().len() as u64 * 8,
        }
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        match mode().as_str() {
            "drop-trap" => trap(),
            "drop-loop" => spin(),
            _ => {}
        }
    }
}

export!(Hostile);
