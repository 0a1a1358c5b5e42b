//! Runs cargo for a guest, and keeps its component up to date.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail};

use crate::component::componentize;
use crate::toolchain::{TARGET, Toolchain, clean, ensure_toolchain, run};

/// The plugins that Prism ships, by the name of their package and component.
pub const FIRST_PARTY: [&str; 4] = ["drop-filter", "redact-pii", "apdex", "url-template"];

/// Part of every stamp: a component is encoded anew after an update of the encoder or of the way it is called.
const ENCODER: &str = "wit-component 0.258, 1";

/// Where components of this checkout are put by default: `<target>/guests/components`.
pub fn components_dir() -> PathBuf {
    guests_dir(&checkout()).join("components")
}

/// Builds the first-party plugins into `out_dir` as `<name>.wasm`; returns their paths in the order of [`FIRST_PARTY`].
///
/// Costs a fraction of a second when nothing changed. The first call compiles for some tens of seconds, and says so on
/// standard error.
///
/// # Errors
/// There is no compiler for guests (see [`ensure_toolchain`]), or a plugin does not compile.
pub fn bundle(out_dir: &Path) -> Result<Vec<PathBuf>> {
    let toolchain = ensure_toolchain(&mut |line| eprintln!("{line}"))?;
    let plugins = checkout().join("plugins");
    FIRST_PARTY.iter().map(|name| build_guest_with(&toolchain, &plugins.join(name), out_dir)).collect()
}

/// Builds the guest whose `Cargo.toml` stands in `manifest_dir` into `<out_dir>/<package>.wasm`; returns that path.
///
/// # Errors
/// There is no compiler for guests (see [`ensure_toolchain`]), or the guest does not compile, or is no component.
pub fn build_guest(manifest_dir: &Path, out_dir: &Path) -> Result<PathBuf> {
    let toolchain = ensure_toolchain(&mut |line| eprintln!("{line}"))?;
    build_guest_with(&toolchain, manifest_dir, out_dir)
}

/// [`build_guest`] with a compiler that was found before.
///
/// # Errors
/// The guest does not compile, or is no component.
pub fn build_guest_with(toolchain: &Toolchain, manifest_dir: &Path, out_dir: &Path) -> Result<PathBuf> {
    let manifest = manifest_dir.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).with_context(|| format!("reading `{}`", manifest.display()))?;
    let package = package_name(&text).with_context(|| format!("expected a `name` in `{}`", manifest.display()))?;
    // Its own target folder: a host build neither waits for this one's lock nor throws its results away. One per way of
    // compiling, since cargo does not tell them apart by folder.
    let target_dir = guests_dir(manifest_dir).join(match toolchain {
        Toolchain::Installed => "installed",
        Toolchain::BuildStd { .. } => "build-std",
    });
    let mut cargo = toolchain.cargo_build();
    cargo
        .arg("--manifest-path")
        .arg(&manifest)
        .args(["--package", &package, "--lib", "--target-dir"])
        .arg(&target_dir)
        // SIMD makes string search eight times faster; every Wasm engine of the last years has it.
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "-Ctarget-feature=+simd128")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_INCREMENTAL", "0")
        .stdin(Stdio::null());
    if std::env::var_os("CARGO_TERM_QUIET").is_none() && std::env::var_os("CARGO_TERM_VERBOSE").is_none() {
        // Silent when all is up to date; a first build takes long enough to be told of.
        let first = !target_dir.exists();
        if first {
            eprintln!("building guests with {toolchain}");
        } else {
            cargo.arg("--quiet");
        }
    }
    // Standard output is the caller's; cargo speaks on standard error.
    let status = cargo.stdout(Stdio::null()).status().context("`cargo` cannot be run")?;
    if !status.success() {
        bail!("guest `{package}` does not compile for {TARGET}: see the messages of cargo above");
    }
    let module = target_dir.join(TARGET).join("release").join(format!("{}.wasm", package.replace('-', "_")));
    encode(&module, out_dir, &package)
}

/// Encodes anew when the module is not the one that the component was made of.
fn encode(module: &Path, out_dir: &Path, package: &str) -> Result<PathBuf> {
    let metadata = std::fs::metadata(module).with_context(|| {
        format!("guest `{package}` has no module: expected `crate-type = [\"cdylib\"]` in its Cargo.toml")
    })?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let stamp = format!("{ENCODER}\n{}\n{} bytes at {modified}\n", module.display(), metadata.len());
    let component = out_dir.join(format!("{package}.wasm"));
    let stamp_file = out_dir.join(format!(".{package}.stamp"));
    if component.exists() && std::fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(component);
    }
    std::fs::create_dir_all(out_dir).with_context(|| format!("creating `{}`", out_dir.display()))?;
    let encoded = componentize(&std::fs::read(module)?).with_context(|| format!("guest `{package}`"))?;
    replace(&component, &encoded)?;
    replace(&stamp_file, stamp.as_bytes())?;
    Ok(component)
}

/// Another process that builds or reads at the same time sees the old file or the new one, never half of one.
fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = file.with_file_name(name);
    std::fs::write(&new, bytes).with_context(|| format!("writing `{}`", new.display()))?;
    std::fs::rename(&new, file).with_context(|| format!("writing `{}`", file.display()))
}

/// The checkout that this crate was compiled in.
fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// `guests` in the target folder of the workspace that holds `manifest_dir`; guests of this checkout that are workspaces of
/// their own share one, so that the SDK is compiled once for all of them.
fn guests_dir(manifest_dir: &Path) -> PathBuf {
    let here = checkout();
    let manifest_dir = if manifest_dir.starts_with(&here) { &here } else { manifest_dir };
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR").or_else(|| std::env::var_os("CARGO_BUILD_TARGET_DIR")) {
        // Relative to the folder that cargo runs in, which is also ours.
        return std::path::absolute(PathBuf::from(target)).unwrap_or_default().join("guests");
    }
    let workspace = run(clean("cargo")
        .args(["locate-project", "--workspace", "--message-format", "plain", "--manifest-path"])
        .arg(manifest_dir.join("Cargo.toml")));
    let root = match &workspace {
        Ok(manifest) => Path::new(manifest.trim()).parent().unwrap_or(manifest_dir),
        Err(_) => manifest_dir,
    };
    root.join("target/guests")
}

/// `name` of the `[package]` table. A line scan: cargo has the last word on the rest of the file.
fn package_name(manifest: &str) -> Option<String> {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[package]").skip(1);
    lines.take_while(|line| !line.starts_with('[')).find_map(|line| {
        let value = line.strip_prefix("name")?.trim_start().strip_prefix('=')?.trim();
        Some(value.split('#').next()?.trim().trim_matches(['"', '\'']).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_package() {
        let text = "[lib]\nname = \"other\"\n[package]\nversion = \"1\"\nname = \"a-b\" # c\n[dependencies]\n";
        assert_eq!(package_name(text).as_deref(), Some("a-b"));
        assert_eq!(package_name("[lib]\nname = \"other\"\n"), None);
    }

    #[test]
    fn a_folder_without_a_guest_is_refused() {
        let error =
            build_guest_with(&Toolchain::Installed, Path::new("/nonexistent"), Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("Cargo.toml"), "{error}");
    }
}
