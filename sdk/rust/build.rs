//! Encodes each world of the contract as the custom section by which a module becomes a component.

use std::path::Path;

use anyhow::{Context as _, Result};
use wit_component::{StringEncoding, metadata};
use wit_parser::Resolve;

fn main() -> Result<()> {
    let wit = Path::new("../../wit");
    println!("cargo::rerun-if-changed={}", wit.display());
    let out = std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let worlds: Vec<_> = resolve.packages[package].worlds.iter().map(|(name, id)| (name.clone(), *id)).collect();
    for (name, world) in worlds {
        let section = metadata::encode(&resolve, world, StringEncoding::UTF8, None)?;
        std::fs::write(Path::new(&out).join(name), section)?;
    }
    Ok(())
}
