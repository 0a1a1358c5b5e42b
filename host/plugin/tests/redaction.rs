//! PL-1: what a redactor takes out is nowhere; what it leaves stays as it was.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "only tests")]

mod sandbox;

use std::sync::Arc;

use arrow::array::StringArray;
use prism_model::{AttrType, Batch, Intrinsic, Signal, Table, TableKind, Value};
use proptest::prelude::*;
use sandbox::{
    Gen, attr, call, chain_of, dictionary, facts, fixed, holds, load, mode, spans, strings, text, values_of,
};
use serde_json::json;

/// Does not occur in anything else that the generator makes, and survives JSON and base64 only if nobody removes it.
const NEEDLE: &str = "NEEDLE7";

/// Facts in which attributes that stand in columns and in the tail look alike: renaming moves some from one to the other.
fn attributes(batch: &Batch) -> usize {
    batch
        .tables()
        .iter()
        .map(|t| match t.kind() {
            TableKind::Tail => t.rows(),
            _ => t
                .columns()
                .iter()
                .filter(|c| matches!(c.id, prism_model::ColumnId::Attr { .. }))
                .map(|c| c.array.len() - c.array.logical_null_count())
                .sum(),
        })
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pl_1_a_redactor_that_finds_nothing_changes_nothing(seed in any::<u64>()) {
        let batch = Gen::new(seed, NEEDLE).batch();
        for upload in ["ok;entries;yes", "ok;rows;yes"] {
            let chain = chain_of(&load("hostile-redactor", upload), mode("ok")).unwrap();
            let passed = chain.run(batch.clone(), &call(1)).unwrap();
            prop_assert_eq!(facts(passed.cleared.batch()), facts(&batch), "{}", upload);
            prop_assert_eq!(passed.redacted, 0);
        }
    }

    #[test]
    fn pl_1_a_redactor_that_writes_every_value_anew_changes_nothing(seed in any::<u64>()) {
        let batch = Gen::new(seed, NEEDLE).batch();
        for upload in ["ok;entries;yes", "ok;rows;yes"] {
            let chain = chain_of(&load("hostile-redactor", upload), mode("rewrite")).unwrap();
            for _ in 0..2 {
                let passed = chain.run(batch.clone(), &call(1)).unwrap();
                let (new, old) = (passed.cleared.batch(), &batch);
                prop_assert_eq!(attributes(new), attributes(old), "{}", upload);
                // A record that had a key with two types has one of them in the tail now; all else is in its place.
                if new.table(TableKind::Tail).map_or(0, Table::rows) == old.table(TableKind::Tail).map_or(0, Table::rows) {
                    prop_assert_eq!(facts(new), facts(old), "{}", upload);
                }
            }
        }
    }

    #[test]
    fn pl_1_what_a_redactor_replaces_is_in_no_buffer(seed in any::<u64>()) {
        let batch = Gen::new(seed, NEEDLE).batch();
        for upload in ["ok;entries;yes", "ok;entries;no", "ok;rows;yes"] {
            let chain = chain_of(&load("hostile-redactor", upload), json!({ "mode": "needle", "needle": NEEDLE })).unwrap();
            // The second time many verdicts are remembered.
            for _ in 0..2 {
                let passed = chain.run(batch.clone(), &call(1)).unwrap();
                let new = passed.cleared.batch();
                prop_assert_eq!(holds(new, NEEDLE.as_bytes()), None, "{}", upload);
                prop_assert_eq!(new.rows(), batch.rows());
                prop_assert_eq!(attributes(new), attributes(&batch), "no attribute is lost: {}", upload);
            }
        }
    }

    #[test]
    fn pl_1_what_a_redactor_clears_is_gone(seed in any::<u64>()) {
        let batch = Gen::new(seed, NEEDLE).batch();
        for upload in ["ok;entries;yes", "ok;rows;no"] {
            let chain = chain_of(&load("hostile-redactor", upload), mode("clear")).unwrap();
            let new = chain.run(batch.clone(), &call(1)).unwrap().cleared.into_batch();
            prop_assert_eq!(attributes(&new), 0, "{}", upload);
            prop_assert_eq!(holds(&new, NEEDLE.as_bytes()), None, "{}", upload);
            prop_assert_eq!(new.rows(), batch.rows());
        }
    }
}

#[test]
fn pl_1_values_that_become_equal_become_one_entry_of_the_dictionary() {
    let chain = chain_of(&load("hostile-redactor", "ok;entries;yes"), mode("same")).unwrap();
    let columns = vec![attr("only", AttrType::Str, dictionary(&[Some("a"), None, Some("b"), Some("a")]))];
    let items = Table::try_new(TableKind::Items, 4, columns).unwrap();
    let batch = Batch::try_new(Signal::Spans, vec![], vec![items]).unwrap();
    let new = chain.run(batch, &call(1)).unwrap().cleared.into_batch();
    let column = &new.items().columns()[0];
    assert_eq!(column.id.to_string(), "same", "keys are redacted too");
    let same = Some("same".to_owned());
    assert_eq!(strings(&column.array), [same.clone(), None, same.clone(), same]);
    assert_eq!(column.array.to_data().child_data()[0].len(), 1);
}

#[test]
fn pl_1_keys_that_become_equal_keep_every_value() {
    let chain =
        chain_of(&load("hostile-redactor", "ok;entries;yes"), json!({ "mode": "needle", "needle": "@b" })).unwrap();
    let columns = vec![
        attr("k[x]", AttrType::Str, text(&[Some("1"), None, None])),
        attr("k@b", AttrType::Str, text(&[Some("2"), Some("3"), None])),
    ];
    let items = Table::try_new(TableKind::Items, 3, columns).unwrap();
    let batch = Batch::try_new(Signal::Spans, vec![], vec![items]).unwrap();
    let passed = chain.run(batch, &call(1)).unwrap();
    let new = passed.cleared.batch();
    assert_eq!(values_of(new, "k[x]", AttrType::Str), [Some("1".into()), Some("3".into()), None]);
    let tail = new.table(TableKind::Tail).unwrap();
    assert_eq!(strings(tail.intrinsic(Intrinsic::Key).unwrap()), [Some("k[x]".into())]);
    assert_eq!(strings(tail.intrinsic(Intrinsic::Value).unwrap()), [Some("\"2\"".into())]);
}

#[test]
fn pl_1_the_redaction_record_names_plugin_label_and_count_and_no_value() {
    let plugin = load("hostile-redactor", "ok;entries;yes");
    let chain = chain_of(&plugin, json!({ "mode": "needle", "needle": "@example.com" })).unwrap();
    let passed = chain.run(spans(4), &call(1)).unwrap();
    let record = &passed.cleared.batch().origins[0].redactions;
    assert_eq!(record.len(), 1);
    assert_eq!((record[0].plugin.as_str(), record[0].label.as_str(), record[0].count), ("hostile", "found", 3));
    assert_eq!(record[0].version, plugin.hash());
    assert_eq!(passed.redacted, 3);
    assert_eq!(passed.counted.len(), 1);
    assert_eq!(values_of(passed.cleared.batch(), "user.email", AttrType::Str)[0].as_deref(), Some("user0[x]"));
}

#[test]
fn verdicts_are_remembered_for_values_that_repeat() {
    let chain =
        chain_of(&load("hostile-redactor", "ok;entries;yes"), json!({ "mode": "needle", "needle": "cart" })).unwrap();
    let first = chain.run(spans(100), &call(1)).unwrap();
    assert_eq!((first.cache_hits, first.cache_misses), (0, 4), "two names and two keys");
    let second = chain.run(spans(100), &call(2)).unwrap();
    assert_eq!((second.cache_hits, second.cache_misses), (4, 0));
    assert_eq!(facts(first.cleared.batch()), facts(second.cleared.batch()));
    assert_eq!(first.redacted, second.redacted);
}

#[test]
fn pl_1_large_batches_are_cut_into_calls_and_come_out_whole() {
    for upload in ["ok;entries;yes", "ok;rows;yes", "ok;rows;no"] {
        let chain =
            chain_of(&load("hostile-redactor", upload), json!({ "mode": "needle", "needle": "@example" })).unwrap();
        let passed = chain.run(spans(40_000), &call(1)).unwrap();
        assert!(passed.guest_calls >= 3, "{upload}: {}", passed.guest_calls);
        let new = passed.cleared.batch();
        let mails = values_of(new, "user.email", AttrType::Str);
        for (i, mail) in mails.iter().enumerate() {
            assert_eq!(mail.as_deref(), (i % 4 != 3).then(|| format!("user{i}[x].com")).as_deref());
        }
        assert_eq!((new.origins.len(), new.origins[0].rows), (1, 40_000));
        assert_eq!(holds(new, b"@example"), None);
    }
}

#[test]
fn pl_1_a_value_longer_than_a_call_gets_a_call_for_itself() {
    let long = format!("{}{NEEDLE}{}", "x".repeat(5 << 20), "y".repeat(1 << 20));
    let columns =
        vec![fixed(Intrinsic::Body, Arc::new(StringArray::from(vec![Some(long.as_str()), None, Some(NEEDLE)])))];
    let items = Table::try_new(TableKind::Items, 3, columns).unwrap();
    let batch = Batch::try_new(Signal::Logs, vec![], vec![items]).unwrap();
    // Searching byte by byte takes a while in a test build's sandbox.
    let host = prism_plugin::PluginHost::new(prism_plugin::PluginOptions { cpu_ms_max: 20_000, ..sandbox::options() })
        .unwrap();
    let plugin = host.load(&sandbox::guest("hostile-redactor", "ok;entries;yes")).unwrap();
    let config = json!({ "mode": "needle", "needle": NEEDLE });
    let chain =
        host.chain(&sandbox::tenant("acme"), &[(sandbox::binding("it", &plugin, config), plugin.clone())]).unwrap();
    let passed = chain.run(batch, &call(1)).unwrap();
    assert_eq!(holds(passed.cleared.batch(), NEEDLE.as_bytes()), None);
    assert_eq!(passed.redacted, 2);
}

#[test]
fn pl_1_leaves_of_nested_values_keep_their_types() {
    let value =
        Value::from_text(r#"{"a":[1,2.0,"NEEDLE7",{"$bytes":"TkVFRExFNw=="},true,null],"NEEDLE7":"x"}"#).unwrap();
    let columns = vec![attr("doc", AttrType::Json, text(&[Some(&value.to_text()), None]))];
    let items = Table::try_new(TableKind::Items, 2, columns).unwrap();
    let batch = Batch::try_new(Signal::Logs, vec![], vec![items]).unwrap();
    for upload in ["ok;entries;yes", "ok;rows;yes"] {
        let chain = chain_of(&load("hostile-redactor", upload), json!({ "mode": "needle", "needle": NEEDLE })).unwrap();
        let new = chain.run(batch.clone(), &call(1)).unwrap().cleared.into_batch();
        let expected = r#"{"a":[1,2.0,"[x]",{"$bytes":"W3hd"},true,null],"[x]":"x"}"#;
        assert_eq!(values_of(&new, "doc", AttrType::Json)[0].as_deref(), Some(expected), "{upload}");
    }
}
