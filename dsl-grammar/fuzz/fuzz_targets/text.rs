//! Any text: nothing panics, and a query that reads is printed as text, document and tree that read as the same.

#![no_main]

#[path = "../../tests/again/mod.rs"]
mod again;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match prism_dsl::parse_text(text) {
        Ok(query) => again::same(&query).unwrap_or_else(|difference| panic!("{difference}")),
        // An error points into what was read.
        Err(error) => drop(error.to_string()),
    }
    if let Ok(expr) = prism_dsl::parse_expr(text) {
        let printed = expr.to_string();
        assert_eq!(prism_dsl::parse_expr(&printed).as_ref(), Ok(&expr), "{printed}");
    }
});
