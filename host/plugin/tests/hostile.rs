//! builds
use std::path::Path;
#[test]
fn builds() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    for guest in ["hostile-redactor", "hostile-filter"] {
        let path = prism_componentize::build_guest(&here.join("tests/guests").join(guest), &out).unwrap();
        eprintln!("{}", path.display());
    }
}
