//! The built plugin in the sandbox that runs it in production.
#![allow(clippy::unwrap_used, reason = "only tests")]

use prism_testkit::{Value, sandbox};
use serde_json::json;

#[test]
fn paths_become_templates_and_missing_ones_stay_missing() {
    let urls = sandbox!(json!({ "keep": ["7"] }));
    let text = |text: &str| Value::Text(text.to_owned());
    let rows = [vec![text("/users/42")], vec![Value::Null], vec![text("/v/7")], vec![text("/users/42")]];
    let found = urls.eval("url_template", &rows).unwrap();
    assert_eq!(found, [text("/users/{n}"), Value::Null, text("/v/7"), text("/users/{n}")]);
    assert!(prism_testkit::refusal!(json!({ "hex_digits_min": 1 })).contains("/hex_digits_min"));
}
