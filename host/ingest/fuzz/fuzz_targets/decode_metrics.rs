//! Any bytes as metrics: the walk and prost must agree, and nothing may panic.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/walk/agree.rs"]
mod agree;

use prism_model::Limits;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Few columns, so that the tail is used too.
    let limits = Limits { attribute_columns_max: 4, ..Limits::default() };
    if let Err(difference) = agree::metrics(bytes, &limits) {
        panic!("{difference}");
    }
});
