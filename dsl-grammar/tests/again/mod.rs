//! A query that was read is the same after printing and reading in each of its forms. Used by the fuzz targets too.
#![allow(unreachable_pub, reason = "a module of tests and fuzz targets")]

use prism_dsl::{Query, parse_json, parse_text};

/// # Errors
/// Which form does not read as the same, with its text.
pub fn same(query: &Query) -> Result<(), String> {
    let text = query.to_string();
    let (document, tree) = (query.to_json().to_string(), query.to_json_tree().to_string());
    let forms = [
        ("text", &text, parse_text(&text)),
        ("document", &document, parse_json(document.as_bytes())),
        ("tree", &tree, parse_json(tree.as_bytes())),
    ];
    for (form, printed, read) in forms {
        match read {
            Ok(read) if read == *query => {}
            // What a stranger wrote densely may be longer, or deeper, than a query may be once it is printed.
            Err(error) if matches!(error.code, "query_too_long" | "query_too_deep") => {}
            Ok(_) => return Err(format!("the {form} reads as another query: {printed}")),
            Err(error) => return Err(format!("the {form} does not read: {error}\n{printed}")),
        }
    }
    Ok(())
}
