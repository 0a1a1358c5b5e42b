//! Functions and aggregates that loop, allocate, trap and lie: the query that called has an error, and nobody else notices
//! (PL-2, PL-3). And those that do not: what they give is what a plain loop gives, however the rows were spread.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "only tests")]

mod sandbox;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Float64Type, Int64Type};
use prism_model::{Classify, Kind};
use prism_plugin::{
    Accumulator, Argument, Caller, Constant, Failure, Function, Functions, Memory, NotFound, Plugin, PluginError,
    PluginHost, PluginOptions, Session, World,
};
use proptest::prelude::*;
use sandbox::{binding, chain_of, dictionary, guest, host, load, mode, options, strings, tenant, text};
use serde_json::json;

fn functions(plugin: &Arc<Plugin>, how: &str) -> Functions {
    functions_of(&host(), "acme", plugin, how)
}

fn functions_of(host: &Arc<PluginHost>, of: &str, plugin: &Arc<Plugin>, how: &str) -> Functions {
    let bound = binding("it", plugin, mode(how));
    host.try_binding(&tenant(of), &bound, plugin).unwrap();
    host.functions(&tenant(of), &[(bound, plugin.clone())])
}

fn scalar() -> Arc<Plugin> {
    load("hostile-scalar", "ok;rows;yes")
}

fn aggregator() -> Arc<Plugin> {
    load("hostile-aggregator", "ok;rows;yes")
}

/// Calls a function with one argument of three values.
fn call(functions: &Functions, name: &str, arg: Argument) -> Result<ArrayRef, PluginError> {
    let rows = match &arg {
        Argument::Column(array) => array.len(),
        Argument::Constant(_) => 3,
    };
    Caller::new(functions, None).eval(&functions.find(name).unwrap(), rows, &[arg])
}

fn abc() -> Argument {
    Argument::Column(text(&[Some("a"), Some("b"), Some("c")]))
}

/// The failure of a call that must fail, by the fault of whoever asked or whose plugin it is.
fn failure(called: Result<impl std::fmt::Debug, PluginError>, how: &str) -> Failure {
    match called {
        Err(error @ PluginError::Call { .. }) => {
            assert_eq!(error.kind(), Kind::Fix);
            let words = error.to_string();
            assert!(words.contains("plugin `hostile`, binding `it`"), "{words}");
            let PluginError::Call { failure, .. } = error else { unreachable!() };
            failure
        }
        other => panic!("{how}: expected a failure, found {other:?}"),
    }
}

/// Counts the rows of three groups in two parts that are merged.
fn count(functions: &Functions, name: &str) -> Result<ArrayRef, PluginError> {
    let caller = Caller::new(functions, None);
    count_with(&caller, &functions.find(name).unwrap())
}

fn count_with(caller: &Arc<Caller>, function: &Function) -> Result<ArrayRef, PluginError> {
    let session = Session::new(caller, function);
    let fresh = || Accumulator::new(session.clone(), function.clone(), vec![Constant::Null]);
    let mut part = fresh();
    part.update(Some(&[0, 2, 0]), 3, None, 3, &[abc()])?;
    let mut whole = fresh();
    whole.merge(Some(&[1, 0, 2]), 3, &part.states(3)?)?;
    whole.finish(3)
}

fn ints(array: &ArrayRef) -> Vec<i64> {
    array.as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn pl_3_a_function_that_breaks_its_bounds_fails_the_call() {
    for how in ["loop", "alloc", "trap", "bomb", "error"] {
        let failure = failure(call(&functions(&scalar(), how), "echo", abc()), how);
        match how {
            "loop" => assert_eq!(failure, Failure::CpuTime { limit_ms: 300 }),
            "alloc" => assert_eq!(failure, Failure::Memory { limit: 64 << 20 }),
            "trap" => assert!(matches!(failure, Failure::Trap(_)), "{failure:?}"),
            "bomb" => assert!(matches!(failure, Failure::Memory { .. } | Failure::Output { .. }), "{failure:?}"),
            // Rows of queries have been redacted: whoever asked may read what went wrong.
            _ => assert_eq!(failure, Failure::Answered { kind: "internal", text: Some("what went wrong".into()) }),
        }
    }
}

#[test]
fn a_guests_words_are_cut_and_cannot_write_on_a_screen() {
    let failure = failure(call(&functions(&scalar(), "long-error"), "echo", abc()), "long-error");
    let words = failure.to_string();
    assert!(words.len() < 600 && !words.contains(char::is_control), "{words}");
}

#[test]
fn pl_3_every_lie_of_a_function_is_found() {
    for how in [
        "few",
        "many",
        "none",
        "type",
        "binary",
        "validity-short",
        "validity-long",
        "keys-few",
        "keys-many",
        "key-beyond",
        "key-max",
        "key-of-none",
        "no-utf8",
        "cut-utf8",
        "offsets-descend",
        "offsets-beyond",
        "offsets-start",
        "count-beyond",
    ] {
        let failure = failure(call(&functions(&scalar(), how), "echo", abc()), how);
        assert!(matches!(failure, Failure::Lied(_)), "{how}: {failure:?}");
        println!("{how}: {failure}");
    }
    // What many rows share counts for each of them.
    let spread = failure(call(&functions(&scalar(), "spread"), "echo", abc()), "spread");
    assert_eq!(spread, Failure::Output { limit: 8 << 20 });
    let missing = call(&functions(&scalar(), "key-of-missing"), "echo", abc()).unwrap();
    assert_eq!(missing.logical_null_count(), 3);
}

#[test]
fn pl_3_every_lie_of_an_aggregate_is_found() {
    for how in [
        "state-few",
        "state-many",
        "state-none",
        "state-beyond",
        "state-descend",
        "state-start",
        "finish-few",
        "finish-many",
        "finish-type",
        "finish-validity",
        "finish-key",
    ] {
        let failure = failure(count(&functions(&aggregator(), how), "many"), how);
        assert!(matches!(failure, Failure::Lied(_)), "{how}: {failure:?}");
        println!("{how}: {failure}");
    }
}

#[test]
fn pl_3_an_aggregate_that_breaks_its_bounds_fails_the_call_at_every_step() {
    for how in ["loop-in-create", "loop", "state-loop", "size-loop", "drop-loop"] {
        let failure = failure(count(&functions(&aggregator(), how), "many"), how);
        assert_eq!(failure, Failure::CpuTime { limit_ms: 300 }, "{how}");
    }
    for how in ["trap-in-create", "trap", "merge-trap", "finish-trap", "drop-trap"] {
        let failure = failure(count(&functions(&aggregator(), how), "many"), how);
        assert!(matches!(failure, Failure::Trap(_)), "{how}: {failure:?}");
    }
    for how in ["alloc", "state-bomb"] {
        let failure = failure(count(&functions(&aggregator(), how), "many"), how);
        assert!(matches!(failure, Failure::Memory { .. } | Failure::Output { .. }), "{how}: {failure:?}");
    }
    for how in ["refuse", "error", "finish-error"] {
        let failure = failure(count(&functions(&aggregator(), how), "many"), how);
        assert!(matches!(failure, Failure::Answered { text: Some(_), .. }), "{how}: {failure:?}");
    }
}

#[test]
fn an_aggregate_may_say_any_size_and_is_taken_out_in_parts() {
    for how in ["ok", "size-max"] {
        assert_eq!(ints(&count(&functions(&aggregator(), how), "many").unwrap()), [0, 2, 1], "{how}");
    }
    let failure = failure(count(&functions(&aggregator(), "no-renumber"), "many"), "no-renumber");
    assert!(matches!(failure, Failure::Lied(_)), "all where a part was asked for: {failure:?}");
}

#[test]
fn pl_3_what_groups_give_in_many_calls_is_memory_of_the_query() {
    const MOST: usize = 16 << 20;
    let functions = functions(&aggregator(), "fat");
    let function = functions.find("texts").unwrap();
    // Each of 1,000 groups is taken out alone, and gives a MiB.
    let groups: Vec<u32> = (0..1_000).collect();
    let column = Argument::Column(Arc::new(StringArray::from(vec!["a"; 1_000])));
    let give = |states: bool| {
        let taken = Arc::new(AtomicUsize::new(0));
        let memory: Memory = Box::new({
            let taken = taken.clone();
            move |bytes| {
                let sum = taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
                if sum > MOST { Err("no memory is left".into()) } else { Ok(()) }
            }
        });
        let caller = Caller::with_memory(&functions, None, memory);
        let session = Session::new(&caller, &function);
        let mut counts = Accumulator::new(session, function.clone(), vec![Constant::Null]);
        counts.update(Some(&groups), 1_000, None, 1_000, std::slice::from_ref(&column)).unwrap();
        let given = if states { counts.states(1_000).map(|_| ()) } else { counts.finish(1_000).map(|_| ()) };
        assert!(caller.spent().calls < 20, "the guest is not asked on: {:?}", caller.spent());
        (given, taken.load(Ordering::Relaxed))
    };
    for states in [true, false] {
        let (given, taken) = give(states);
        let error = given.unwrap_err();
        assert!(matches!(error, PluginError::NoMemory(_)) && error.to_string() == "no memory is left", "{error:?}");
        assert!((MOST..MOST + (2 << 20)).contains(&taken), "{taken}");
    }
}

#[test]
fn pl_3_what_rows_share_by_value_counts_for_each_of_them() {
    let functions = functions(&scalar(), "fat");
    for name in ["echo", "bytes"] {
        let rows = |rows: usize| call(&functions, name, Argument::Column(dictionary(&vec![Some("a"); rows])));
        assert_eq!(rows(100).unwrap().len(), 100, "{name}");
        // One value of 32 KiB, as if four calls had been made.
        assert_eq!(failure(rows(60_000), name), Failure::Output { limit: 4 * (8 << 20) }, "{name}");
    }
}

#[test]
fn pl_3_a_guest_that_is_called_often_does_not_flood_the_log() {
    let heard = Arc::new(Heard::default());
    tracing::subscriber::with_default(heard.clone(), || {
        let functions = functions(&scalar(), "log");
        for _ in 0..50 {
            call(&functions, "echo", abc()).unwrap();
        }
    });
    let (lines, left_out) = (heard.lines.load(Ordering::Relaxed), heard.left_out.load(Ordering::Relaxed));
    assert!(lines >= 20 && left_out > 0, "{lines} and {left_out}");
    assert_eq!(lines + left_out, 50 * 30, "what is left out is told");
}

/// Counts what guests say in the log.
#[derive(Default)]
struct Heard {
    lines: AtomicUsize,
    left_out: AtomicUsize,
}

impl tracing::Subscriber for Heard {
    fn enabled(&self, of: &tracing::Metadata<'_>) -> bool {
        of.target() == "prism_plugin::guest"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct LeftOut(Option<u64>);
        impl tracing::field::Visit for LeftOut {
            fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}

            fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
                self.0 = (field.name() == "left_out").then_some(value);
            }
        }
        let mut told = LeftOut(None);
        event.record(&mut told);
        match told.0 {
            Some(count) => self.left_out.fetch_add(count as usize, Ordering::Relaxed),
            None => self.lines.fetch_add(1, Ordering::Relaxed),
        };
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn pl_2_what_an_instance_has_lived_through_stays_within_the_binding() {
    let calls = |upload: &str, of: &str| {
        let plugin = load("hostile-scalar", upload);
        let functions = functions_of(&host(), of, &plugin, "calls");
        (0..3).map(|_| strings(&call(&functions, "echo", abc()).unwrap())[0].clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(calls("ok;rows;no", "acme"), ["1", "1", "1"], "a fresh instance for each call");
    assert_eq!(calls("ok;rows;yes", "acme"), ["1", "2", "3"], "a plugin that lies about it fools only its own binding");
    assert_eq!(calls("ok;rows;yes", "globex"), ["1", "2", "3"], "nothing of another tenant's calls");
    let lived = |upload: &str| {
        let functions = functions(&load("hostile-aggregator", upload), "ok");
        (0..2).map(|_| ints(&count(&functions, "calls").unwrap())[0] / 1_000_000).collect::<Vec<_>>()
    };
    // Two accumulators in each: both live in one instance, and their firsts are what it began with.
    assert_eq!(lived("ok;rows;no"), lived("ok;rows;no"));
    assert_eq!(lived("ok;rows;no")[0], lived("ok;rows;no")[1], "a fresh instance for each thread of a query");
    assert_ne!(lived("ok;rows;yes")[0], lived("ok;rows;yes")[1]);
}

#[test]
fn pl_2_after_a_failure_the_instance_is_gone() {
    let plugin = scalar();
    let (trapping, fine) = (functions(&plugin, "trap"), functions(&plugin, "ok"));
    for _ in 0..3 {
        assert!(call(&trapping, "echo", abc()).is_err());
        assert_eq!(strings(&call(&fine, "echo", abc()).unwrap())[2].as_deref(), Some("c"));
    }
    // In each instance the first answer is a lie, and those after it would be right.
    let (lying, counting) = (functions(&plugin, "lie-once"), functions(&aggregator(), "lie-once"));
    for _ in 0..3 {
        assert!(matches!(failure(call(&lying, "echo", abc()), "lie-once"), Failure::Lied(_)));
        assert!(matches!(failure(count(&counting, "many"), "lie-once"), Failure::Lied(_)));
    }
}

#[test]
fn pl_3_the_end_of_a_query_ends_its_guests() {
    let slow = PluginHost::new(PluginOptions { cpu_ms_max: 60_000, ..options() }).unwrap();
    let plugin = slow.load(&guest("hostile-scalar", "ok;rows;yes")).unwrap();
    let functions = functions_of(&slow, "acme", &plugin, "loop");
    let echo = functions.find("echo").unwrap();
    let began = Instant::now();
    let caller = Caller::new(&functions, Some(began + Duration::from_millis(50)));
    assert!(matches!(caller.eval(&echo, 3, &[abc()]), Err(PluginError::Interrupted)), "its time is over");
    let caller = Caller::new(&functions, None);
    std::thread::scope(|scope| {
        let looping = scope.spawn(|| caller.eval(&echo, 3, &[abc()]));
        caller.stop();
        assert!(matches!(looping.join().unwrap(), Err(PluginError::Interrupted)), "nobody waits any more");
    });
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(matches!(caller.eval(&echo, 3, &[abc()]), Err(PluginError::Interrupted)), "and none begins");
}

#[test]
fn pl_3_while_one_tenants_functions_loop_another_is_answered() {
    let options = PluginOptions {
        instances_max: 4,
        idle_instances_max: 2,
        tenant_instances_max: 2,
        cpu_ms_max: 1_000,
        ..options()
    };
    let host = PluginHost::new(options).unwrap();
    let plugin = host.load(&guest("hostile-scalar", "ok;rows;yes")).unwrap();
    let (bad, good) = (functions_of(&host, "bad", &plugin, "loop"), functions_of(&host, "good", &plugin, "ok"));
    std::thread::scope(|scope| {
        // Those that have no instance yet wait for one of the two that the tenant may have.
        let loops: Vec<_> = (0..4).map(|_| scope.spawn(|| call(&bad, "echo", abc()))).collect();
        for _ in 0..50 {
            assert_eq!(strings(&call(&good, "echo", abc()).unwrap()), ["a", "b", "c"].map(|t| Some(t.to_owned())));
        }
        for looping in loops {
            assert_eq!(failure(looping.join().unwrap(), "loop"), Failure::CpuTime { limit_ms: 1_000 });
        }
    });
}

#[test]
fn the_gate_tries_every_function() {
    for (name, upload, words) in [
        ("hostile-scalar", "sig-none;rows;yes", "expected 1 to 64 functions, found 0"),
        ("hostile-scalar", "sig-many;rows;yes", "expected 1 to 64 functions, found 65"),
        ("hostile-scalar", "sig-twice;rows;yes", "two functions are called `echo`"),
        ("hostile-scalar", "sig-name;rows;yes", "a letter first, found `Echo`"),
        ("hostile-scalar", "sig-digit;rows;yes", "a letter first, found `1st`"),
        ("hostile-scalar", "sig-dot;rows;yes", "found `a.b`"),
        ("hostile-scalar", "sig-type;rows;yes", "`echo`: expected boolean, int64, float64, utf8 or binary"),
        ("hostile-scalar", "sig-returns;rows;yes", "`echo`: expected boolean, int64, float64, utf8 or binary"),
        ("hostile-scalar", "sig-args;rows;yes", "at most 16 arguments of `echo`, found 17"),
        ("hostile-scalar", "sig-variadic;rows;yes", "variadic and has no argument"),
        ("hostile-scalar", "sig-trap;rows;yes", "signatures: it trapped"),
        ("hostile-scalar", "sig-loop;rows;yes", "signatures: it used more than"),
        ("hostile-scalar", "sig-bomb;rows;yes", "signatures: it returned more than"),
        ("hostile-scalar", "golden;rows;yes", "on the golden call of `echo`: it trapped"),
        ("hostile-scalar", "trap;rows;yes", "describe: it trapped"),
        ("hostile-aggregator", "golden;rows;yes", "on the golden call of `many`: it trapped"),
    ] {
        let error = host().load(&guest(name, upload)).unwrap_err();
        assert_eq!(error.kind(), Kind::Fix);
        assert!(error.to_string().contains(words), "{upload}: {error}");
    }
    assert_eq!((scalar().world(), aggregator().world()), (World::ScalarFunction, World::Aggregator));
    let shown: Vec<String> = scalar().signatures().iter().map(ToString::to_string).collect();
    assert_eq!(shown[0], "echo(string) -> string");
    assert_eq!(shown[4], "rows(string, …) -> int");
}

#[test]
fn bindings_of_functions_are_checked_and_stand_apart_from_those_of_data() {
    let plugin = scalar();
    let refused = |config, signals: &[prism_model::Signal]| {
        let mut bound = binding("it", &plugin, config);
        bound.signals = signals.to_vec();
        host().try_binding(&tenant("acme"), &bound, &plugin).unwrap_err().to_string()
    };
    assert!(refused(json!({ "mood": 1 }), &[]).contains("Additional properties"));
    assert!(refused(mode("refuse"), &[]).contains("no thanks"));
    assert!(refused(mode("needs"), &[]).contains("expected no needs"));
    assert!(refused(mode("ok"), &[prism_model::Signal::Logs]).contains("expected no signals"));
    assert!(chain_of(&plugin, mode("ok")).unwrap_err().to_string().contains("queries call it"));
}

#[test]
fn a_name_means_one_function() {
    let (scalar, aggregator) = (scalar(), aggregator());
    let bind = |bindings: &[(&str, &Arc<Plugin>, &str)]| {
        let all: Vec<_> = bindings.iter().map(|(n, p, m)| (binding(n, p, mode(m)), Arc::clone(p))).collect();
        host().functions(&tenant("acme"), &all)
    };
    let one = bind(&[("first", &scalar, "ok"), ("many-of", &aggregator, "ok")]);
    let found = |functions: &Functions, name: &str| functions.find(name).map(|f| format!("{f:?}"));
    assert_eq!(found(&one, "echo").unwrap(), "plugin.first.echo(string) -> string");
    assert_eq!(found(&one, "First.ECHO"), found(&one, "echo"));
    assert_eq!(found(&one, "many_of.all"), found(&one, "all"));
    assert!(one.find("many").unwrap().aggregates() && !one.find("echo").unwrap().aggregates());
    let names = ["echo", "number", "flag", "nulls", "rows", "bytes", "many", "all", "calls", "texts"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(one.find("ecko").unwrap_err(), NotFound::Unknown { known: names });
    let two = bind(&[("first", &scalar, "ok"), ("echo", &scalar, "ok"), ("broken", &scalar, "refuse")]);
    assert_eq!(found(&two, "echo").unwrap(), "plugin.echo.echo(string) -> string", "a binding's name comes first");
    assert_eq!(
        two.find("flag").unwrap_err(),
        NotFound::Ambiguous { names: vec!["first.flag".into(), "echo.flag".into()] }
    );
    assert!(two.find("first.flag").is_ok() && two.find("first.nothing").is_err() && two.find("").is_err());
    match two.find("broken.echo").unwrap_err() {
        NotFound::Broken { binding, reason } => assert!(binding == "broken" && reason.contains("no thanks")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn missing_values_are_not_shown_unless_asked_for() {
    let functions = functions(&scalar(), "ok");
    let some = |texts: &[Option<&str>]| Argument::Column(text(texts));
    let echoed = |arg| strings(&call(&functions, "echo", arg).unwrap());
    assert_eq!(echoed(some(&[Some("a"), None, Some("c")])), [Some("a".into()), None, Some("c".into())]);
    let by_value = dictionary(&[Some("a"), None, Some("a"), Some("b")]);
    let expected = [Some("a".to_owned()), None, Some("a".into()), Some("b".into())];
    assert_eq!(echoed(Argument::Column(by_value)), expected);
    assert_eq!(echoed(Argument::Constant(Constant::Null)), [None, None, None]);
    // Not even called: this one would trap.
    let trapping = self::functions(&scalar(), "trap");
    assert_eq!(call(&trapping, "echo", some(&[None, None])).unwrap().logical_null_count(), 2);
    let nulls = call(&functions, "nulls", some(&[Some("a"), None])).unwrap();
    assert_eq!(ints(&nulls), [0, 1]);
    assert!(matches!(failure(call(&trapping, "nulls", some(&[None, None])), "nulls"), Failure::Trap(_)));
    let flags = BooleanArray::from(vec![Some(true), None, Some(false)]);
    let flags = call(&functions, "flag", Argument::Column(Arc::new(flags))).unwrap();
    assert_eq!(flags.as_boolean().iter().collect::<Vec<_>>(), [Some(true), None, Some(false)]);
}

#[test]
fn what_repeats_is_asked_once_and_large_columns_in_parts() {
    let entries = functions(&scalar(), "entries");
    let column: Vec<Option<&str>> = (0..1_000).map(|i| Some(["a", "b", "unused", "c"][[0, 1, 3][i % 3]])).collect();
    let shown = call(&entries, "echo", Argument::Column(dictionary(&column))).unwrap();
    assert_eq!(strings(&shown)[999].as_deref(), Some("3"), "three distinct values");
    let part = dictionary(&column).slice(0, 1);
    assert_eq!(strings(&call(&entries, "echo", Argument::Column(part)).unwrap())[0].as_deref(), Some("1"));
    let fine = functions(&scalar(), "ok");
    let numbers: Float64Array = (0..40_000).map(|i| (i % 7 != 0).then_some(f64::from(i))).collect();
    let caller = Caller::new(&fine, None);
    let number = fine.find("number").unwrap();
    let back = caller.eval(&number, 40_000, &[Argument::Column(Arc::new(numbers.clone()))]).unwrap();
    assert_eq!(*back.as_primitive::<Float64Type>(), numbers);
    assert_eq!(caller.spent().calls, 3, "16,384 at a time");
    // One that is not deterministic is asked for each row.
    let rows = call(&fine, "rows", Argument::Column(dictionary(&column))).unwrap();
    assert_eq!(ints(&rows)[0], 1_000);
    let constant = call(&fine, "number", Argument::Constant(Constant::Int(7))).unwrap();
    assert_eq!(constant.as_primitive::<Float64Type>().values().to_vec(), [7.0; 3], "ints count as numbers");
}

#[test]
fn an_aggregate_gets_what_the_contract_promises() {
    let functions = functions(&aggregator(), "check");
    let caller = Caller::new(&functions, None);
    let of = |name: &str, arg: &ArrayRef, groups: &[u32], selected: Option<&BooleanBuffer>| {
        let function = functions.find(name).unwrap();
        let session = Session::new(&caller, &function);
        let mut counts = Accumulator::new(session, function, vec![Constant::Null]);
        counts.update(Some(groups), 3, selected, groups.len(), &[Argument::Column(arg.clone())]).unwrap();
        ints(&counts.finish(3).unwrap())
    };
    for arg in [text(&[Some("a"), None, Some("c"), Some("d")]), dictionary(&[Some("a"), None, Some("a"), Some("d")])] {
        assert_eq!(of("many", &arg, &[0, 0, 1, 1], None), [1, 2, 0]);
        assert_eq!(of("all", &arg, &[0, 0, 1, 1], None), [2, 2, 0]);
        let three = BooleanBuffer::from(vec![true, true, true, false]);
        assert_eq!(of("all", &arg, &[2, 0, 1, 1], Some(&three)), [1, 1, 1]);
        let one = BooleanBuffer::from(vec![false, true, false, false]);
        assert_eq!(of("all", &arg, &[2, 0, 1, 1], Some(&one)), [1, 0, 0], "few rows are copied out");
        assert_eq!(of("many", &arg, &[2, 0, 1, 1], Some(&one)), [0, 0, 0]);
    }
    let many = 40_000;
    let all: Vec<Option<&str>> = (0..many).map(|i| Some(["x", "y"][i % 2])).collect();
    let groups: Vec<u32> = (0..many as u32).map(|i| i % 3).collect();
    for arg in [text(&all), dictionary(&all), dictionary(&all).slice(0, many)] {
        assert_eq!(of("many", &arg, &groups, None), [13_334, 13_333, 13_333]);
    }
}

#[test]
fn the_memory_that_groups_take_is_known() {
    let functions = functions(&aggregator(), "keep");
    let caller = Caller::new(&functions, None);
    let function = functions.find("many").unwrap();
    let session = Session::new(&caller, &function);
    assert_eq!(session.lock().memory_bytes(), 0);
    let mut counts = Accumulator::new(session.clone(), function, vec![Constant::Null]);
    counts.update(None, 1, None, 3, &[abc()]).unwrap();
    assert!(session.lock().memory_bytes() > 24 << 20);
}

/// The first-party aggregate, as it is shipped.
fn apdex() -> &'static (Functions, Function) {
    static BUILT: OnceLock<(Functions, Function)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/apdex");
        let component = std::fs::read(prism_componentize::build_guest(&manifest, &out).unwrap()).unwrap();
        let plugin = host().load(&component).unwrap();
        let functions = host().functions(&tenant("acme"), &[(binding("apdex", &plugin, json!({})), plugin.clone())]);
        let function = functions.find("apdex").unwrap();
        (functions, function)
    })
}

/// What the sandbox is compared with.
fn plain_apdex(rows: &[(u32, Option<i64>)], groups: usize, threshold: i64) -> Vec<Option<f64>> {
    let of_group = |group: usize| {
        let values: Vec<i64> = rows.iter().filter(|(g, _)| *g as usize == group).filter_map(|(_, v)| *v).collect();
        let within = |most: i64| values.iter().filter(|v| **v <= most).count() as f64;
        let (all, half) = (within(threshold), within(4 * threshold));
        (!values.is_empty()).then(|| (all + (half - all) / 2.0) / values.len() as f64)
    };
    (0..groups).map(of_group).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Rows spread over parts at random, states merged in a random order and in steps.
    #[test]
    fn an_aggregate_is_the_same_however_rows_were_spread(
        rows in prop::collection::vec((0u32..6, prop::option::of(-10i64..2_000), 0usize..5), 0..300),
        order in Just((0..5).collect::<Vec<usize>>()).prop_shuffle(),
        threshold in 1i64..600,
        between in 0usize..4,
    ) {
        const GROUPS: usize = 6;
        let (functions, function) = apdex();
        let caller = Caller::new(functions, None);
        let fixed = vec![Constant::Null, Constant::Int(threshold)];
        let session = Session::new(&caller, function);
        let fresh = || Accumulator::new(session.clone(), function.clone(), fixed.clone());
        let part = |number: usize| {
            let of_part: Vec<_> = rows.iter().filter(|(.., part)| *part == number).collect();
            let values: ArrayRef = Arc::new(of_part.iter().map(|(_, v, _)| *v).collect::<Int64Array>());
            let values = arrow::compute::cast(&values, &arrow::datatypes::DataType::Float64).unwrap();
            let groups: Vec<u32> = of_part.iter().map(|(g, ..)| *g).collect();
            let mut counts = fresh();
            let args = [Argument::Column(values), Argument::Constant(Constant::Int(threshold))];
            counts.update(Some(&groups), GROUPS, None, groups.len(), &args).unwrap();
            counts.states(GROUPS).unwrap()
        };
        let states: Vec<_> = (0..5).map(part).collect();
        let own: Vec<u32> = (0..GROUPS as u32).collect();
        let mut whole = fresh();
        for (step, number) in order.iter().enumerate() {
            if step == between {
                // On the way a node merges what it has and hands that on.
                let so_far = whole.states(GROUPS).unwrap();
                whole = fresh();
                whole.merge(Some(&own), GROUPS, &so_far).unwrap();
            }
            whole.merge(Some(&own), GROUPS, &states[*number]).unwrap();
        }
        let found = whole.finish(GROUPS).unwrap();
        let found: Vec<Option<f64>> = found.as_primitive::<Float64Type>().iter().collect();
        let plain: Vec<_> = rows.iter().map(|(group, value, _)| (*group, *value)).collect();
        prop_assert_eq!(found, plain_apdex(&plain, GROUPS, threshold));
    }
}
