//! Any bytes as traces in OTLP/JSON: what is taken is JSON, the walk and prost agree on it, and nothing may panic.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/walk/agree.rs"]
mod agree;
#[path = "../../tests/walk/as_json.rs"]
mod as_json;

use prism_model::{Limits, Signal};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Few columns, so that the tail is used too.
    let limits = Limits { attribute_columns_max: 4, ..Limits::default() };
    if let Err(difference) = as_json::taken(Signal::Spans, bytes, &limits) {
        panic!("{difference}");
    }
});
