//! The plugins that Prism ships build, and reach for nothing but the contract.

use prism_componentize::{FIRST_PARTY, bundle, inspect};

#[test]
fn first_party_plugins_build_and_import_only_the_contract() {
    let out = prism_componentize::components_dir();
    let components = bundle(&out).unwrap();
    assert_eq!(components.len(), FIRST_PARTY.len());
    for (path, name) in components.iter().zip(FIRST_PARTY) {
        assert_eq!(*path, out.join(format!("{name}.wasm")));
        let bytes = std::fs::read(path).unwrap();
        let component = inspect(&bytes).unwrap();
        assert!(component.imports.iter().all(|import| import.starts_with("prism:plugin/")), "{name}: {component:?}");
        assert!(
            component.exports.iter().any(|export| export.starts_with("prism:plugin/meta@")),
            "{name}: {component:?}"
        );
        // A guest is compiled at upload at about 0.7 s a megabyte: a reminder to look when it grows.
        assert!(bytes.len() < 300_000, "{name}: {} bytes", bytes.len());
    }
    // Nothing changed: nothing is written.
    let before = std::fs::metadata(&components[0]).unwrap().modified().unwrap();
    bundle(&out).unwrap();
    assert_eq!(std::fs::metadata(&components[0]).unwrap().modified().unwrap(), before);
}
