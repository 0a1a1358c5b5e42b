//! The upload gate and the check of bindings: what is refused, and in which words.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "only tests")]

mod sandbox;

use prism_model::{Classify, Kind};
use prism_plugin::{PluginHost, PluginOptions, World};
use sandbox::{binding, chain_of, guest, host, load, mode, options, tenant};
use serde_json::json;

fn refused(bytes: &[u8]) -> String {
    let error = host().load(bytes).unwrap_err();
    assert!(matches!(error.kind(), Kind::Fix | Kind::TooLarge), "{error}");
    error.to_string()
}

#[test]
fn what_is_no_component_of_a_world_is_refused() {
    for (bytes, words) in [
        (&b"hello"[..], "expected a WebAssembly component, found something else"),
        (b"\0asm\x01\0\0\0", "found a core module"),
        (b"\0asm\x0d\0\x01\0", "exports none of"),
        (b"\0asm\x0d\0\x01\0junk", "not a valid component"),
    ] {
        let message = refused(bytes);
        assert!(message.contains(words), "{message}");
    }
    let small = PluginHost::new(PluginOptions { component_bytes_max: 1_000, ..options() }).unwrap();
    let error = small.load(&guest("hostile-filter", "ok;rows;yes")).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
    assert!(error.to_string().contains("`component_bytes_max`"), "{error}");
}

#[test]
fn what_misbehaves_at_upload_is_refused() {
    for (upload, words) in [
        ("loop;entries;yes", "processor time"),
        ("alloc;entries;yes", "bytes of memory"),
        ("trap;entries;yes", "trapped"),
        ("bad-name;entries;yes", "expected a name"),
        ("many-labels;entries;yes", "at most 64 labels"),
        ("no-labels;entries;yes", "at least one label"),
        ("long;entries;yes", "description"),
        ("bad-schema;entries;yes", "no JSON Schema"),
        ("no-json;entries;yes", "config-schema is not JSON"),
        ("remote-schema;entries;yes", "no JSON Schema"),
        ("misfit;entries;yes", "does not fit config-schema: at `/mode`"),
        ("golden;entries;yes", "golden batch: it trapped"),
    ] {
        let message = refused(&guest("hostile-redactor", upload));
        assert!(message.contains(words), "{upload}: {message}");
    }
    assert!(refused(&guest("hostile-filter", "ok;entries;yes")).contains("needs access `rows`"));
}

#[test]
fn what_passes_is_known_by_its_content() {
    let (a, b) = (load("hostile-redactor", "ok;entries;yes"), load("hostile-redactor", "ok;entries;yes"));
    assert!(std::sync::Arc::ptr_eq(&a, &b));
    assert_eq!((a.world(), a.metadata().name.as_str(), a.hash().len()), (World::Redactor, "hostile", 64));
    assert_ne!(a.hash(), load("hostile-redactor", "ok;rows;yes").hash());
    assert_eq!(load("hostile-filter", "ok;rows;yes").world(), World::Filter);
}

#[test]
fn bindings_are_checked_before_anything_runs() {
    let plugin = load("hostile-redactor", "ok;entries;yes");
    for (config, words) in [
        (json!({ "mode": 7 }), "at `/mode`: 7 is not of type \"string\""),
        (json!({ "mood": "x" }), "Additional properties"),
        (json!([]), "at `/`"),
        (json!({ "mode": "x".repeat(70_000) }), "at most 65536 bytes"),
        (mode("refuse"), "error `bad-config`: no thanks"),
        (mode("trap-in-init"), "trapped"),
        (mode("loop-in-init"), "processor time"),
        (mode("many-needs"), "at most 64 needs"),
        (mode("path-need"), "leaf-path"),
    ] {
        let error = chain_of(&plugin, config).unwrap_err();
        assert_eq!(error.kind(), Kind::Fix);
        assert!(error.to_string().contains(words), "{error}");
    }
    let bind = |names: &[&str]| {
        let bindings: Vec<_> = names.iter().map(|n| (binding(n, &plugin, json!({})), plugin.clone())).collect();
        host().chain(&tenant("acme"), &bindings).map(|_| ()).map_err(|e| e.to_string())
    };
    assert!(bind(&["a", "b"]).is_ok());
    assert!(bind(&["a", "a"]).unwrap_err().contains("stands twice"));
    assert!(bind(&["../a"]).unwrap_err().contains("expected a name"));
    let mut wrong = binding("a", &plugin, json!({}));
    wrong.plugin = "0".repeat(64);
    assert!(
        host().chain(&tenant("acme"), &[(wrong, plugin.clone())]).unwrap_err().to_string().contains("expected plugin")
    );
}

#[test]
fn compiled_forms_are_kept_checked_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let options = PluginOptions { cache_dir: Some(cache.clone()), ..options() };
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(&cache)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "cwasm"))
            .collect();
        files.sort();
        files
    };
    let bytes = guest("hostile-redactor", "ok;entries;yes");
    PluginHost::new(options.clone()).unwrap().load(&bytes).unwrap();
    let [file] = &files()[..] else { panic!("expected one file") };
    let compiled = std::fs::read(file).unwrap();
    let again = || PluginHost::new(options.clone()).unwrap().load(&bytes).unwrap();
    again();
    assert_eq!(std::fs::read(file).unwrap(), compiled);

    // Damaged, cut or swapped: made anew, never run.
    for damage in
        [compiled[..compiled.len() / 2].to_vec(), [&compiled[..100], &[0xff; 200], &compiled[300..]].concat(), vec![]]
    {
        std::fs::write(file, damage).unwrap();
        again();
        assert_eq!(std::fs::read(file).unwrap().len(), compiled.len());
    }
    // A file that others could have written is not trusted.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666)).unwrap();
    again();
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);

    // The quota holds.
    let small = PluginOptions { cache_bytes_max: compiled.len() as u64 + 1_000, ..options };
    PluginHost::new(small).unwrap().load(&guest("hostile-redactor", "ok;rows;yes")).unwrap();
    assert_eq!(files().len(), 1);
    assert_ne!(files()[0], *file);
}
