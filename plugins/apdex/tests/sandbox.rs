//! The built plugin in the sandbox that runs it in production.
#![allow(clippy::unwrap_used, reason = "only tests")]

use prism_testkit::{Value, sandbox};
use serde_json::json;

/// A part of the rows.
fn part(durations: &[f64], groups: &[u32]) -> (Vec<u32>, Vec<Vec<Value>>) {
    (groups.to_vec(), durations.iter().map(|d| vec![Value::Float(*d), Value::Float(300.0)]).collect())
}

#[test]
fn values_count_whole_half_or_not_at_all() {
    let apdex = sandbox!(json!({}));
    let parts = [part(&[100.0, 300.0, 301.0, 1_200.0, 1_201.0, f64::NAN], &[0; 6]), part(&[1.0, 5_000.0], &[0, 1])];
    let found = apdex.aggregate("apdex", &[Value::Null, Value::Float(300.0)], 3, &parts).unwrap();
    assert_eq!(found, [Value::Float((3.0 + 1.0) / 6.0), Value::Float(0.0), Value::Null]);
    let strict = sandbox!(json!({ "tolerated": 1 }));
    let found = strict.aggregate("apdex", &[Value::Null, Value::Float(300.0)], 1, &parts[..1]).unwrap();
    assert_eq!(found, [Value::Float(2.0 / 5.0)]);
}

#[test]
fn a_threshold_that_differs_by_row_is_refused_in_words() {
    let apdex = sandbox!(json!({}));
    for threshold in [Value::Null, Value::Float(0.0), Value::Float(f64::NAN)] {
        let parts = [part(&[1.0], &[0])];
        let error = apdex.aggregate("apdex", &[Value::Null, threshold], 1, &parts).unwrap_err();
        assert!(error.to_string().contains("expected a fixed threshold above 0"), "{error}");
    }
    assert!(prism_testkit::refusal!(json!({ "tolerated": 0 })).contains("/tolerated"));
}
