//! Guests that loop, allocate, trap and lie: PL-1 (nothing comes out), PL-2 (nothing is carried over), PL-3 (nobody else
//! notices).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "only tests")]

mod sandbox;

use prism_model::{AttrType, Classify, Kind, Signal};
use prism_plugin::{Failure, PluginError, PluginHost, PluginOptions};
use sandbox::{Gen, binding, call, chain_of, facts, guest, host, load, mode, options, spans, tenant, values_of};
use serde_json::json;

/// Runs a redactor of this mode on a batch of which it sees distinct values, and expects it to fail.
fn failure(name: &str, how: &str) -> Failure {
    let access = if name == "hostile-filter" { "ok;rows;yes" } else { "ok;entries;yes" };
    let chain = chain_of(&load(name, access), mode(how)).unwrap();
    match chain.run(spans(8), &call(1)) {
        Err(error @ PluginError::Failed { .. }) => {
            assert_eq!(error.kind(), Kind::Retry);
            let PluginError::Failed { failure, .. } = error else { unreachable!() };
            failure
        }
        other => panic!("{name} {how}: expected a failure, found {other:?}"),
    }
}

#[test]
fn pl_1_pl_3_a_guest_that_breaks_its_bounds_fails_the_batch_and_nothing_comes_out() {
    for name in ["hostile-redactor", "hostile-filter"] {
        assert_eq!(failure(name, "loop"), Failure::CpuTime { limit_ms: 300 }, "{name}");
        assert_eq!(failure(name, "alloc"), Failure::Memory { limit: 64 << 20 }, "{name}");
        assert!(matches!(failure(name, "trap"), Failure::Trap(_)), "{name}");
    }
    assert!(matches!(failure("hostile-redactor", "stack"), Failure::Trap(_)));
}

#[test]
fn pl_1_a_guest_that_returns_too_much_is_stopped_before_the_host_holds_it() {
    for name in ["hostile-redactor", "hostile-filter"] {
        // 100 MiB do not even fit into the guest's own memory here.
        assert!(matches!(failure(name, "bomb"), Failure::Memory { .. } | Failure::Output { .. }), "{name}");
    }
    let options = PluginOptions { memory_bytes_max: 512 << 20, cpu_ms_max: 10_000, ..options() };
    let host = PluginHost::new(options).unwrap();
    let plugin = host.load(&guest("hostile-redactor", "ok;entries;yes")).unwrap();
    for (how, rows) in [("bomb", 8), ("spill", 64)] {
        let chain = host.chain(&tenant("acme"), &[(binding("it", &plugin, mode(how)), plugin.clone())]).unwrap();
        match chain.run(spans(rows), &call(1)) {
            Err(PluginError::Failed { failure: Failure::Output { limit }, .. }) => assert_eq!(limit, 8 << 20, "{how}"),
            other => panic!("{how}: {other:?}"),
        }
    }
}

#[test]
fn pl_1_what_a_filter_shares_between_rows_counts_for_each_of_them() {
    // 8 rows of 3 MiB, of which the guest returns 6.
    assert_eq!(failure("hostile-filter", "add-spread"), Failure::Output { limit: 8 << 20 });
    // Two columns of 8 rows of 640 KiB, of which it returns two.
    assert_eq!(failure("hostile-filter", "add-spread-twice"), Failure::Output { limit: 8 << 20 });
}

#[test]
fn pl_1_small_answers_of_many_calls_cannot_add_up() {
    let options = PluginOptions { call_values_max: 4, output_bytes_max: 5 << 20, ..options() };
    let host = PluginHost::new(options).unwrap();
    let plugin = host.load(&guest("hostile-redactor", "ok;entries;yes")).unwrap();
    let chain = host.chain(&tenant("acme"), &[(binding("it", &plugin, mode("spill")), plugin.clone())]).unwrap();
    let failed = chain.run(spans(64), &call(1));
    assert!(matches!(failed, Err(PluginError::Failed { failure: Failure::Output { .. }, .. })), "{failed:?}");
}

#[test]
fn pl_1_every_lie_of_a_redactor_is_found() {
    for how in [
        "no-table",
        "no-column",
        "twice",
        "beyond",
        "descend",
        "repeat",
        "few-values",
        "many-values",
        "few-labels",
        "label-beyond",
        "labels-only",
        "both",
        "cleared-beyond",
        "cleared-descend",
        "no-utf8",
        "cut-utf8",
        "offsets-descend",
        "offsets-beyond",
        "offsets-start",
        "offsets-short",
        "offsets-none",
        "type",
        "count-beyond",
    ] {
        let failure = failure("hostile-redactor", how);
        assert!(matches!(failure, Failure::Lied(_)), "{how}: {failure:?}");
        println!("{how}: {failure}");
    }
}

#[test]
fn pl_1_every_lie_of_a_filter_is_found() {
    for how in [
        "keep-short",
        "keep-long",
        "no-reasons",
        "few-reasons",
        "reasons-only",
        "label-beyond",
        "many-additions",
        "add-twice",
        "add-short",
        "add-type",
        "add-list",
        "add-no-utf8",
        "add-cut-utf8",
        "add-offsets",
        "add-bools",
        "add-validity",
        "add-key-beyond",
        "add-few-keys",
        "add-to-resource",
        "add-intrinsic",
        "add-long-key",
        "weight-nan",
        "weight-zero",
        "weight-int",
        "remember-much",
    ] {
        let failure = failure("hostile-filter", how);
        assert!(matches!(failure, Failure::Lied(_)), "{how}: {failure:?}");
        println!("{how}: {failure}");
    }
}

#[test]
fn pl_1_a_guests_words_about_data_that_is_not_redacted_are_withheld() {
    for name in ["hostile-redactor", "hostile-filter"] {
        let failure = failure(name, "error");
        assert_eq!(failure, Failure::Answered { kind: "internal", text: None });
        assert!(!failure.to_string().contains("secret"));
    }
}

#[test]
fn pl_1_a_batch_that_fails_again_and_again_is_refused_for_good() {
    let chain = chain_of(&load("hostile-redactor", "ok;entries;yes"), mode("trap")).unwrap();
    for attempt in 1..=4 {
        let error = chain.run(spans(8), &call(7)).unwrap_err();
        let expected = if attempt < 3 { Kind::Retry } else { Kind::Fix };
        assert_eq!(error.kind(), expected, "attempt {attempt}: {error}");
    }
    assert_eq!(chain.run(spans(8), &call(8)).unwrap_err().kind(), Kind::Retry, "another batch has its own count");
}

#[test]
fn pl_1_filters_run_before_redactors_whatever_the_order_of_bindings() {
    let redactor = load("hostile-redactor", "ok;entries;yes");
    let filter = load("hostile-filter", "ok;rows;yes");
    let chain = host()
        .chain(
            &tenant("acme"),
            &[
                (binding("second", &redactor, json!({ "mode": "needle", "needle": "add" })), redactor.clone()),
                (binding("first", &filter, mode("add")), filter.clone()),
            ],
        )
        .unwrap();
    let passed = chain.run(spans(8), &call(1)).unwrap();
    let batch = passed.cleared.batch();
    assert_eq!(batch.rows(), 4);
    assert_eq!(
        values_of(batch, "user.email", AttrType::Str)[0].as_deref(),
        Some("[x]ed"),
        "what a filter adds is redacted"
    );
    assert_eq!(passed.dropped.len(), 1);
    assert_eq!(
        (passed.dropped[0].binding.as_str(), passed.dropped[0].label.as_str(), passed.dropped[0].count),
        ("first", "found", 4)
    );
}

#[test]
fn pl_1_a_redactor_bound_to_one_signal_sees_that_signal_and_the_chain_says_so() {
    let plugin = load("hostile-redactor", "ok;entries;yes");
    let mut bound = binding("logs-only", &plugin, mode("trap"));
    bound.signals = vec![Signal::Logs];
    let chain = host().chain(&tenant("acme"), &[(bound, plugin.clone())]).unwrap();
    assert!(chain.is_empty(Signal::Spans) && !chain.is_empty(Signal::Logs));
    assert_eq!(chain.run(spans(8), &call(1)).unwrap().cleared.batch().rows(), 8);
}

#[test]
fn pl_2_no_guest_memory_is_carried_between_calls_unless_the_plugin_says_that_it_is_deterministic() {
    let told = |upload: &str| {
        let chain = chain_of(&load("hostile-filter", upload), mode("calls")).unwrap();
        (0..3)
            .map(|i| {
                let passed = chain.run(spans(2), &call(i)).unwrap();
                let n = passed
                    .cleared
                    .batch()
                    .items()
                    .column(&prism_model::ColumnId::attr("calls", AttrType::Int))
                    .unwrap()
                    .clone();
                arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&n).value(0)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(told("ok;rows;no"), [1, 1, 1], "a fresh instance for each call");
    assert_eq!(told("ok;rows;yes"), [1, 2, 3], "a plugin that lies about it fools only its own binding");
}

#[test]
fn pl_2_nothing_is_shared_between_bindings_and_tenants() {
    let plugin = load("hostile-redactor", "ok;entries;yes");
    let chain = |t: &str, name: &str| {
        host().chain(&tenant(t), &[(binding(name, &plugin, mode("calls")), plugin.clone())]).unwrap()
    };
    let (a, b, c) = (chain("acme", "one"), chain("acme", "two"), chain("globex", "one"));
    let first = |chain: &prism_plugin::Chain| {
        let batch = chain.run(spans(2), &call(1)).unwrap().cleared.into_batch();
        // Keys, names and values alike say which call of the instance it was.
        values_of(&batch, "call 1", AttrType::Str)[0].clone()
    };
    // Both the memory of instances and remembered verdicts would show: each chain is at its own first call.
    for chain in [&a, &b, &c] {
        assert_eq!(first(chain).as_deref(), Some("call 1"));
    }
    // After a failure the instance is gone, and with it what it kept.
    let filter = load("hostile-filter", "ok;rows;yes");
    let trapping = chain_of(&filter, mode("trap")).unwrap();
    let counting = chain_of(&filter, mode("calls")).unwrap();
    assert!(trapping.run(spans(2), &call(1)).is_err());
    assert!(counting.run(spans(2), &call(1)).is_ok());
    assert!(trapping.run(spans(2), &call(2)).is_err());
    // A lie is a failure: in each instance the first answer is one, and those after it would be right.
    for (name, upload) in [("hostile-filter", "ok;rows;yes"), ("hostile-redactor", "ok;entries;yes")] {
        let lying = chain_of(&load(name, upload), mode("lie-once")).unwrap();
        for batch in 0..3 {
            let failed = lying.run(spans(2), &call(batch));
            assert!(
                matches!(failed, Err(PluginError::Failed { failure: Failure::Lied(_), .. })),
                "{name}, batch {batch}: {failed:?}"
            );
        }
    }
}

#[test]
fn pl_2_what_a_filter_keeps_through_the_host_is_bounded_and_its_own() {
    let plugin = load("hostile-filter", "ok;rows;no");
    let seen = |chain: &prism_plugin::Chain| {
        let batch = chain.run(spans(2), &call(1)).unwrap().cleared.into_batch();
        let array = batch.items().column(&prism_model::ColumnId::attr("memory", AttrType::Int)).unwrap().clone();
        arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&array).value(0)
    };
    let (one, two) = (chain_of(&plugin, mode("remember")).unwrap(), chain_of(&plugin, mode("remember")).unwrap());
    assert_eq!((seen(&one), seen(&one), seen(&one)), (0, 1, 2));
    assert_eq!(seen(&two), 0);
}

#[test]
fn pl_3_while_one_tenants_guests_loop_another_tenant_is_served() {
    let options = PluginOptions {
        instances_max: 4,
        idle_instances_max: 2,
        tenant_instances_max: 2,
        cpu_ms_max: 1_000,
        ..options()
    };
    let host = PluginHost::new(options).unwrap();
    let plugin = host.load(&guest("hostile-redactor", "ok;entries;yes")).unwrap();
    let bad = host.chain(&tenant("bad"), &[(binding("it", &plugin, mode("loop")), plugin.clone())]).unwrap();
    let good = host.chain(&tenant("good"), &[(binding("it", &plugin, mode("ok")), plugin.clone())]).unwrap();
    std::thread::scope(|scope| {
        let loops: Vec<_> = (0..6)
            .map(|i| {
                let bad = &bad;
                scope.spawn(move || bad.run(spans(8), &call(i)))
            })
            .collect();
        for i in 0..50 {
            let passed = good.run(spans(8), &call(i)).unwrap();
            assert_eq!(facts(passed.cleared.batch()), facts(&spans(8)));
        }
        for looping in loops {
            match looping.join().unwrap().unwrap_err() {
                PluginError::Failed { failure: Failure::CpuTime { .. }, .. } => {}
                error @ PluginError::Busy { .. } => assert_eq!(error.kind(), Kind::Wait),
                other => panic!("{other}"),
            }
        }
    });
}

#[test]
fn pl_3_idle_instances_of_others_make_room() {
    let host = PluginHost::new(PluginOptions { instances_max: 4, idle_instances_max: 64, ..options() }).unwrap();
    let plugin = host.load(&guest("hostile-redactor", "ok;entries;yes")).unwrap();
    let chains: Vec<_> = (0..9)
        .map(|i| {
            host.chain(&tenant(&format!("t{i}")), &[(binding("it", &plugin, mode("ok")), plugin.clone())]).unwrap()
        })
        .collect();
    for chain in chains.iter().chain(&chains) {
        chain.run(spans(8), &call(1)).unwrap();
    }
}

#[test]
fn pl_3_a_node_without_memory_says_wait_and_blames_nobody() {
    let host = PluginHost::new(PluginOptions { memory_total_bytes_max: 16 << 20, ..options() }).unwrap();
    let plugin = host.load(&guest("hostile-redactor", "ok;entries;yes")).unwrap();
    let chain = host.chain(&tenant("acme"), &[(binding("it", &plugin, mode("alloc")), plugin.clone())]).unwrap();
    for _ in 0..5 {
        let error = chain.run(spans(8), &call(1)).unwrap_err();
        assert_eq!(error.kind(), Kind::Wait, "{error}");
        assert!(error.to_string().contains("`memory_total_bytes_max`"), "{error}");
    }
}

#[test]
fn pl_3_a_plugin_that_changes_what_it_needs_fails() {
    // Only a plugin that is not deterministic is started again for each call.
    let chain = chain_of(&load("hostile-filter", "ok;rows;no"), mode("other-needs")).unwrap();
    match chain.run(spans(8), &call(1)) {
        Err(PluginError::Failed { failure: Failure::Lied(what), .. }) => {
            assert!(what.contains("other needs"), "{what}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pl_3_a_filter_gets_what_the_contract_promises() {
    let chain = chain_of(&load("hostile-filter", "ok;rows;yes"), mode("check")).unwrap();
    for seed in 0..200 {
        let batch = Gen::new(seed, "NEEDLE7").batch();
        let before = facts(&batch);
        let passed = chain.run(batch, &call(seed as u8)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(facts(passed.cleared.batch()), before, "seed {seed}");
    }
}

#[test]
fn a_filter_drops_rows_and_adds_columns() {
    let chain = chain_of(&load("hostile-filter", "ok;rows;yes"), mode("add")).unwrap();
    let batch = chain.run(spans(9), &call(1)).unwrap().cleared.into_batch();
    let some = |t: &str| Some(t.to_owned());
    assert_eq!(values_of(&batch, "tier", AttrType::Str), ["gold", "silver", "gold", "gold", "silver"].map(some));
    // Row 0 of each eight is replaced, the others keep what they had.
    let mails = ["added", "user2@example.com", "user4@example.com", "user6@example.com", "added"].map(some);
    assert_eq!(values_of(&batch, "user.email", AttrType::Str), mails);
    assert_eq!((batch.rows(), batch.origins[0].rows), (5, 5));
    let chain = chain_of(&load("hostile-filter", "ok;rows;yes"), mode("drop-all")).unwrap();
    assert_eq!(chain.run(spans(9), &call(1)).unwrap().cleared.batch().rows(), 0);
}
