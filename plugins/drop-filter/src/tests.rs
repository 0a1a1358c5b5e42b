//! Rules against batches built by hand.

use prism_sdk::testing::{BatchBuilder, call};
use prism_sdk::{bit, testing};

use super::*;

fn plugin(config: &str) -> DropFilter {
    DropFilter::new(serde_json::from_str(config).unwrap()).unwrap()
}

fn refused(config: &str) -> String {
    match DropFilter::new(serde_json::from_str(config).unwrap()) {
        Err(Error::BadConfig(message)) => message,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

/// One condition that drops.
fn when(condition: &str) -> String {
    format!(r#"{{"rules": [{{"when": [{condition}]}}]}}"#)
}

/// The rows that are dropped, with their labels.
fn dropped(plugin: &mut DropFilter, batch: &Batch) -> Vec<(usize, String)> {
    let verdict = plugin.apply(batch, &call()).unwrap();
    let Some(keep) = verdict.keep else { return vec![] };
    let labels = DropFilter::describe().metadata().labels.clone();
    let rows = (0..batch.rows()).filter(|&row| !bit(&keep, row));
    rows.zip(verdict.reasons.unwrap()).map(|(row, label)| (row, labels[usize::from(label)].clone())).collect()
}

fn rows(config: &str, batch: &Batch) -> Vec<usize> {
    dropped(&mut plugin(config), batch).into_iter().map(|(row, _)| row).collect()
}

#[test]
fn health_checks_are_dropped_by_their_route_through_a_dictionary() {
    let mut plugin = plugin(
        r#"{"rules": [{"signal": "spans", "when": [{"field": "http.route", "scope": "attr", "op": "equals", "value": "/health"}],
            "reason": "health-check"}]}"#,
    );
    let batch = BatchBuilder::spans(5)
        .dictionary(0, "http.route", &["/buy", "/health"], &[Some(1), Some(0), None, Some(1), Some(0)])
        .build();
    assert_eq!(dropped(&mut plugin, &batch), [(0, "health-check".to_owned()), (3, "health-check".to_owned())]);
    let logs = BatchBuilder::logs(1).text(0, "http.route", &[Some("/health")]).build();
    assert!(dropped(&mut plugin, &logs).is_empty(), "the rule is for spans");
}

#[test]
fn every_comparison_does_what_it_says() {
    let texts = BatchBuilder::spans(4).text(0, "a", &[Some("GET /x"), Some("POST /x"), Some(""), None]).build();
    let on_text = |op: &str| rows(&when(&format!(r#"{{"field": "a", "scope": "attr", {op}}}"#)), &texts);
    assert_eq!(on_text(r#""op": "equals", "value": "GET /x""#), [0]);
    assert_eq!(on_text(r#""op": "not_equals", "value": "GET /x""#), [1, 2]);
    assert_eq!(on_text(r#""op": "starts_with", "value": "POST""#), [1]);
    assert_eq!(on_text(r#""op": "ends_with", "value": "/x""#), [0, 1]);
    assert_eq!(on_text(r#""op": "contains", "value": "T /""#), [0, 1]);
    assert_eq!(on_text(r#""op": "exists""#), [0, 1, 2]);
    assert_eq!(on_text(r#""op": "in", "value": ["", "POST /x", 5]"#), [1, 2]);
    assert_eq!(on_text(r#""op": "greater", "value": "GET /x""#), [1]);
    assert_eq!(on_text(r#""op": "less", "value": "GET /x""#), [2]);

    let ints = BatchBuilder::spans(4).ints(0, "a", &[Some(200), Some(500), Some(-1), None]).build();
    let on_int = |op: &str| rows(&when(&format!(r#"{{"field": "a", "scope": "attr", {op}}}"#)), &ints);
    assert_eq!(on_int(r#""op": "equals", "value": 200"#), [0]);
    assert_eq!(on_int(r#""op": "equals", "value": 200.0"#), [0]);
    assert_eq!(on_int(r#""op": "not_equals", "value": 200"#), [1, 2]);
    assert_eq!(on_int(r#""op": "greater", "value": 199.5"#), [0, 1]);
    assert_eq!(on_int(r#""op": "less", "value": 0"#), [2]);
    assert_eq!(on_int(r#""op": "in", "value": [500, -1]"#), [1, 2]);
    assert_eq!(on_int(r#""op": "equals", "value": "200""#), Vec::<usize>::new(), "a number is not a text");
    assert_eq!(on_int(r#""op": "not_equals", "value": "200""#), Vec::<usize>::new());

    let floats = BatchBuilder::spans(3).floats(0, "a", &[Some(0.5), Some(2.0), Some(f64::NAN)]).build();
    let on_float = |op: &str| rows(&when(&format!(r#"{{"field": "a", "scope": "attr", {op}}}"#)), &floats);
    assert_eq!(on_float(r#""op": "equals", "value": 2"#), [1]);
    assert_eq!(on_float(r#""op": "greater", "value": 0"#), [0, 1]);
    assert_eq!(on_float(r#""op": "less", "value": 1"#), [0]);

    let booleans = BatchBuilder::spans(3).booleans(0, "a", &[true, false, true]).build();
    let on_boolean = |op: &str| rows(&when(&format!(r#"{{"field": "a", "scope": "attr", {op}}}"#)), &booleans);
    assert_eq!(on_boolean(r#""op": "equals", "value": true"#), [0, 2]);
    assert_eq!(on_boolean(r#""op": "not_equals", "value": true"#), [1]);
}

#[test]
fn status_kind_and_severity_have_names() {
    let at =
        |name: &str| BatchBuilder::logs(4).at(Place::Item, Role::Intrinsic).int32s(0, name, &[0, 2, 9, 17]).build();
    assert_eq!(rows(&when(r#"{"field": "status", "op": "equals", "value": "ERROR"}"#), &at("status")), [1]);
    assert_eq!(rows(&when(r#"{"field": "kind", "op": "in", "value": ["server"]}"#), &at("kind")), [1]);
    assert_eq!(rows(&when(r#"{"field": "severity", "op": "less", "value": "info"}"#), &at("severity")), [0, 1]);
    assert_eq!(rows(&when(r#"{"field": "severity", "op": "greater", "value": "warn"}"#), &at("severity")), [3]);
    assert_eq!(rows(&when(r#"{"field": "severity", "op": "equals", "value": "info"}"#), &at("severity")), [2]);
    assert_eq!(rows(&when(r#"{"field": "severity", "op": "equals", "value": 9}"#), &at("severity")), [2]);
    assert!(refused(&when(r#"{"field": "status", "op": "equals", "value": "fine"}"#)).contains("unset, ok, error"));
}

#[test]
fn points_are_dropped_by_what_their_metric_says() {
    // As the host shows metrics: what a metric says is a column of its points.
    let mut batch = BatchBuilder::logs(4)
        .at(Place::Item, Role::Intrinsic)
        .dictionary(0, "name", &["go.gc", "http.requests"], &[Some(0), Some(1), Some(0), Some(1)])
        .build();
    batch.signal = Signal::Metrics;
    let by_name =
        r#"{"rules": [{"signal": "metrics", "when": [{"field": "name", "op": "starts_with", "value": "go."}]}]}"#;
    assert_eq!(rows(by_name, &batch), [0, 2]);

    let rule = |when: &str| format!(r#"{{"rules": [{{"signal": "metrics", "when": [{when}]}}]}}"#);
    let of = |name: &str, numbers: &[i32]| {
        let mut batch =
            BatchBuilder::logs(numbers.len() as u32).at(Place::Item, Role::Intrinsic).int32s(0, name, numbers).build();
        batch.signal = Signal::Metrics;
        batch
    };
    let types = of("type", &[1, 2, 3, 4, 5]);
    assert_eq!(rows(&rule(r#"{"field": "type", "op": "in", "value": ["gauge", "summary"]}"#), &types), [0, 4]);
    assert_eq!(rows(&rule(r#"{"field": "type", "op": "not_equals", "value": "sum"}"#), &types), [0, 2, 3, 4]);
    let delta = rule(r#"{"field": "temporality", "op": "equals", "value": "delta"}"#);
    assert_eq!(rows(&delta, &of("temporality", &[0, 1, 2])), [1]);
    assert!(refused(&rule(r#"{"field": "type", "op": "equals", "value": "span"}"#)).contains("gauge, sum"));
    // Elsewhere these are names of attributes.
    let typed = BatchBuilder::spans(2).text(0, "type", &[Some("span"), None]).build();
    assert_eq!(rows(&when(r#"{"field": "type", "op": "equals", "value": "span"}"#), &typed), [0]);
}

#[test]
fn a_name_is_looked_for_in_the_record_then_its_scope_then_its_resource() {
    let mut plugin = plugin(&when(r#"{"field": "env", "op": "equals", "value": "dev"}"#));
    let places: Vec<_> = plugin.needs().iter().map(|need| need.place).collect();
    assert_eq!(places, [Some(Place::Item), Some(Place::Instrumentation), Some(Place::Resource)]);
    let batch = BatchBuilder::spans(4)
        .text(0, "env", &[Some("prod"), None, Some("dev"), None])
        .at(Place::Resource, Role::Attribute)
        .dictionary(2, "env", &["dev", "prod"], &[Some(0), Some(0), Some(1), Some(1)])
        .build();
    let rows: Vec<usize> = dropped(&mut plugin, &batch).into_iter().map(|(row, _)| row).collect();
    assert_eq!(rows, [1, 2]);
    for (field, place) in
        [("resource.env", Place::Resource), ("scope.env", Place::Instrumentation), ("attr.env", Place::Item)]
    {
        let needs = super::DropFilter::new(
            serde_json::from_str(&when(&format!(r#"{{"field": "{field}", "op": "exists"}}"#))).unwrap(),
        )
        .unwrap()
        .needs();
        assert_eq!((needs.len(), needs[0].name.as_str(), needs[0].place), (1, "env", Some(place)));
    }
}

#[test]
fn siblings_of_two_types_are_one_field() {
    let batch = BatchBuilder::spans(3)
        .ints(0, "code", &[Some(500), None, None])
        .text(0, "code", &[None, Some("500"), Some("x")])
        .build();
    let of = |value: &str| rows(&when(&format!(r#"{{"field": "attr.code", "op": "in", "value": [{value}]}}"#)), &batch);
    assert_eq!(of("500"), [0]);
    assert_eq!(of("\"500\""), [1]);
    assert_eq!(of("500, \"500\""), [0, 1]);
}

#[test]
fn attributes_without_a_column_are_found_among_the_leaves() {
    let batch = BatchBuilder::spans(3)
        .leaves(&[0, 1, 2])
        .text(0, "a", &[Some("x"), Some("x"), Some("y")])
        .at(Place::Item, Role::LeafPath)
        .text(0, "path", &[Some(""), Some("/0"), Some("")])
        .build();
    assert_eq!(rows(&when(r#"{"field": "attr.a", "op": "equals", "value": "x"}"#), &batch), [0]);
    assert_eq!(rows(&when(r#"{"field": "attr.a", "op": "exists"}"#), &batch), [0, 1, 2]);
}

#[test]
fn the_first_rule_that_holds_decides() {
    let mut plugin = plugin(
        r#"{"rules": [
            {"when": [{"field": "attr.a", "op": "equals", "value": "keep"}], "keep_one_in": 1},
            {"when": [{"field": "attr.a", "op": "starts_with", "value": "k"}, {"field": "attr.b", "op": "greater", "value": 1}]},
            {"when": [{"field": "attr.b", "op": "exists"}], "reason": "noise"}
        ]}"#,
    );
    let batch = BatchBuilder::spans(4)
        .text(0, "a", &[Some("keep"), Some("kill"), Some("kill"), Some("x")])
        .ints(1, "b", &[Some(5), Some(5), Some(0), None])
        .build();
    assert_eq!(dropped(&mut plugin, &batch), [(1, "rule-2".to_owned()), (2, "noise".to_owned())]);
}

/// Rules that have no conditions need what sampling needs, in this order.
fn spans_of_traces(ids: &[[u8; 16]], weights: &[Option<f64>]) -> Batch {
    let times: Vec<_> = (0..ids.len() as i64).map(Some).collect();
    BatchBuilder::spans(ids.len() as u32)
        .at(Place::Item, Role::Intrinsic)
        .fixed(0, "trace_id", ids)
        .ints(1, "time", &times)
        .floats(2, "sampling_weight", weights)
        .build()
}

#[test]
fn one_in_n_keeps_whole_traces_and_says_how_many_they_stand_for() {
    let ids: Vec<[u8; 16]> = (0..20_000u128).map(|i| (i / 2 + 1).to_be_bytes()).collect();
    let weights: Vec<_> = (0..ids.len()).map(|i| Some(if i < 10_000 { 1.0 } else { 4.0 })).collect();
    let mut kept_by = vec![];
    for n in [1u32, 2, 10, 100] {
        let mut plugin = plugin(&format!(r#"{{"rules": [{{"keep_one_in": {n}, "reason": "sampled"}}]}}"#));
        let batch = spans_of_traces(&ids, &weights);
        let verdict = plugin.apply(&batch, &testing::call()).unwrap();
        let kept: Vec<usize> =
            (0..ids.len()).filter(|&row| verdict.keep.as_ref().is_none_or(|keep| bit(keep, row))).collect();
        assert!(kept.chunks(2).all(|pair| ids[pair[0]] == ids[pair[1]]), "traces are kept whole");
        let expected = ids.len() as f64 / f64::from(n);
        assert!((kept.len() as f64 - expected).abs() < 5.0 * (2.0 * expected).sqrt(), "1 in {n}: {}", kept.len());
        if n == 1 {
            assert!(verdict.add.is_empty());
        } else {
            let (added, Values::F64s(new)) = (&verdict.add[0], &verdict.add[0].values) else {
                panic!("expected weights")
            };
            assert_eq!((added.field.name.as_str(), new.len()), ("sampling_weight", ids.len()));
            let valid = added.validity.as_ref().unwrap();
            for (row, weight) in new.iter().enumerate() {
                assert_eq!(bit(valid, row), kept.binary_search(&row).is_ok());
                if bit(valid, row) {
                    assert_eq!(*weight, weights[row].unwrap() * f64::from(n));
                }
            }
        }
        kept_by.push(kept);
    }
    assert!(
        kept_by[3].iter().all(|row| kept_by[2].binary_search(row).is_ok()),
        "what 1 in 100 keeps, 1 in 10 keeps too"
    );
}

#[test]
fn records_outside_of_traces_are_sampled_by_their_time() {
    let mut plugin = plugin(r#"{"rules": [{"keep_one_in": 10}]}"#);
    let ids = vec![[0; 16]; 10_000];
    let batch = spans_of_traces(&ids, &vec![None; ids.len()]);
    let dropped = dropped(&mut plugin, &batch);
    assert!((8_800..9_200).contains(&dropped.len()), "{}", dropped.len());
    assert_eq!(dropped[0].1, "rule-1");
}

#[test]
fn rules_that_make_no_sense_are_refused_with_their_number() {
    let message = refused(r#"{"rules": [{"keep_one_in": 2}, {"when": []}]}"#);
    assert!(message.starts_with("rule 2: ") && message.contains("drop everything"), "{message}");
    for (condition, part) in [
        (r#"{"field": "a", "op": "equals"}"#, "expected a `value`"),
        (r#"{"field": "a", "op": "exists", "value": 1}"#, "takes no value"),
        (r#"{"field": "a", "op": "in", "value": "x"}"#, "expected a list"),
        (r#"{"field": "a", "op": "equals", "value": ["x"]}"#, "expected one value"),
        (r#"{"field": "a", "op": "contains", "value": 5}"#, "expected a text"),
        (r#"{"field": "a*", "op": "exists"}"#, "one field"),
        (r#"{"field": "nme", "scope": "intrinsic", "op": "exists"}"#, "unknown fixed field"),
    ] {
        let message = refused(&when(condition));
        assert!(message.contains(part), "{message}");
    }
    assert!(refused(r#"{"rules": [{"keep_one_in": 2, "reason": "whim"}]}"#).contains("health-check"));
    let many: Vec<String> = (0..22).map(|i| format!(r#"{{"field": "f{i}", "op": "exists"}}"#)).collect();
    assert!(refused(&when(&many.join(","))).contains("too many fields"));
    assert!(serde_json::from_str::<Config>(r#"{"rules": [{"wen": []}]}"#).is_err());
}

#[test]
fn schema_example_and_description_agree() {
    let schema: serde_json::Value = serde_json::from_str(include_str!("../config.schema.json")).unwrap();
    let rule = &schema["properties"]["rules"]["items"]["properties"];
    assert_eq!(rule["reason"]["enum"], serde_json::json!(REASONS));
    assert_eq!(schema["properties"]["rules"]["maxItems"], RULES_MAX);
    let filter = plugin(include_str!("../config.example.json"));
    assert!(filter.needs().len() <= NEEDS_MAX);
    let metadata = DropFilter::describe();
    assert!(metadata.metadata().labels.len() <= 64 && metadata.metadata().deterministic);
}

#[test]
fn a_batch_without_the_fields_is_kept() {
    let mut plugin = plugin(include_str!("../config.example.json"));
    let verdict = plugin.apply(&BatchBuilder::spans(3).build(), &call()).unwrap();
    assert!(verdict.keep.is_none() && verdict.reasons.is_none() && verdict.add.is_empty());
}
