//! Guests first, then the host that embeds them.

use std::path::PathBuf;

use crate::step::{cargo, heading, run, say, target_dir};

/// Builds the bundled plugins; returns the folder of components.
pub(crate) fn guests() -> anyhow::Result<PathBuf> {
    heading("bundled plugins (Wasm components)");
    let out = target_dir().join("guests").join("components");
    for component in prism_componentize::bundle(&out)? {
        let bytes = std::fs::metadata(&component)?.len();
        say(&format!("   {} ({} KB)", component.display(), bytes / 1000));
    }
    Ok(out)
}

/// Builds binaries of the workspace and returns where they are.
///
/// The dev profile brings a new user to the first answer soonest: it compiles in a fifth of the CPU time of release.
pub(crate) fn binaries(packages: &[&str], release: bool) -> anyhow::Result<PathBuf> {
    let components = guests()?;
    let mut args = vec!["build"];
    packages.iter().for_each(|p| args.extend(["--package", p]));
    if release {
        args.push("--release");
    }
    let what = if release { "build (release)" } else { "build" };
    run(what, cargo(&args).env("PRISM_BUNDLED_PLUGINS", components))?;
    Ok(target_dir().join(if release { "release" } else { "debug" }))
}
