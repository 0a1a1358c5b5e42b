//! Finds the bundled plugins and embeds them: from the folder in `PRISM_BUNDLED_PLUGINS`, which the task runner sets, else
//! from `guests/components` in the target folder. Without them the binary is built all the same, and says how to get them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const PLUGINS: [&str; 4] = ["redact-pii", "drop-filter", "apdex", "url-template"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PRISM_BUNDLED_PLUGINS");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let named = std::env::var_os("PRISM_BUNDLED_PLUGINS").map(PathBuf::from);
    // OUT_DIR is <target>[/<triple>]/<profile>/build/<package>/out.
    let built = out.ancestors().skip(4).take(2).map(|dir| dir.join("guests/components")).find(|dir| dir.is_dir());
    let mut text = String::from("&[\n");
    for name in PLUGINS {
        let Some(file) = named.as_deref().or(built.as_deref()).map(|dir| dir.join(format!("{name}.wasm"))) else {
            continue;
        };
        embed(name, &file, named.is_some(), &mut text);
    }
    text.push_str("]\n");
    if let Err(error) = std::fs::write(out.join("bundled.rs"), text) {
        println!("cargo:warning=the list of bundled plugins cannot be written: {error}");
        std::process::exit(1);
    }
}

fn embed(name: &str, file: &Path, named: bool, text: &mut String) {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    if file.is_file() {
        println!("cargo:rerun-if-changed={}", file.display());
        // Writing to a string cannot fail.
        let _infallible =
            writeln!(text, "    ({name:?}, include_bytes!({:?}).as_slice()),", file.display().to_string());
    } else if named {
        println!("cargo:rerun-if-changed={}", file.display());
        println!("cargo:warning={} is missing: the plugin `{name}` is not bundled", file.display());
    }
}
