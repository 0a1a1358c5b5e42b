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

/// Builds binaries of some packages and returns where they are.
///
/// The dev profile brings a new user to the first answer soonest: it compiles in a fifth of the CPU time of release.
pub(crate) fn binaries(packages: &[&str]) -> anyhow::Result<PathBuf> {
    let components = guests()?;
    let packages: Vec<&str> = packages.iter().flat_map(|p| ["--package", *p]).collect();
    run("build", cargo(&["build"]).args(packages).env("PRISM_BUNDLED_PLUGINS", components))?;
    Ok(target_dir().join("debug"))
}

/// Builds what is measured and returns where it is: all of the workspace at once, so that nothing is compiled twice for two
/// measurements that ask for other packages.
pub(crate) fn measured() -> anyhow::Result<PathBuf> {
    let components = guests()?;
    let args = ["build", "--release", "--workspace", "--bins", "--example", "speed"];
    run("build (release)", cargo(&args).env("PRISM_BUNDLED_PLUGINS", components))?;
    Ok(target_dir().join("release"))
}
