//! Any bytes as a JSON document: nothing panics, and a query that reads is printed in each form that reads as the same.

#![no_main]

#[path = "../../tests/again/mod.rs"]
mod again;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match prism_dsl::parse_json(bytes) {
        Ok(query) => again::same(&query).unwrap_or_else(|difference| panic!("{difference}")),
        Err(error) => drop(error.to_string()),
    }
});
