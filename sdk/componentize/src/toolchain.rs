//! Which rustc compiles for `wasm32-unknown-unknown` on this machine, and how to install one.
//!
//! Three ways, in this order:
//! 1. the active rustc already has the target's standard library;
//! 2. rustup fetches it (`rustup target add wasm32-unknown-unknown`);
//! 3. a rustc with its library's source builds the standard library itself. Debian, where rustup cannot fetch, has such
//!    a one in the packages `rustc-web rust-web-src lld-19`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// The Debian packages of way 3.
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "lld-19"];

/// Chooses one way by name (`active`, `rustup`, `build-std`), so that each can be tried on a machine that has several.
const CHOICE: &str = "PRISM_GUEST_TOOLCHAIN";

/// After rustup failed it is not asked again for this long: offline it would hold up every build by its timeouts.
const RUSTUP_RETRY: Duration = Duration::from_secs(60 * 60);

/// A compiler for guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The active rustc has the standard library for the target.
    Installed,
    /// The standard library is built together with the guest (about a minute, once).
    BuildStd {
        /// The compiler, whose sysroot holds the library's source of the same version.
        rustc: PathBuf,
        /// The linker, where the compiler brings none of its own.
        linker: Option<PathBuf>,
    },
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Toolchain::Installed => write!(f, "the active rustc, which has {TARGET}"),
            Toolchain::BuildStd { rustc, linker: None } => write!(f, "{} with -Z build-std", rustc.display()),
            Toolchain::BuildStd { rustc, linker: Some(linker) } => {
                write!(f, "{} with -Z build-std and {}", rustc.display(), linker.display())
            }
        }
    }
}

impl Toolchain {
    /// `cargo build` for the target, in a clean environment; the caller adds package and folders.
    pub(crate) fn cargo_build(&self) -> Command {
        let mut command = clean("cargo");
        command.arg("build");
        if let Toolchain::BuildStd { rustc, linker } = self {
            // Bootstrap mode opens `-Z` on a stable compiler; the standard library is the only thing it is used for.
            command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1").args(["-Z", "build-std=std,panic_abort"]);
            // Without the default features (symbolising of backtraces), which a guest has no use for.
            command.args(["-Z", "build-std-features="]);
            if let Some(linker) = linker {
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            }
        }
        command.args(["--release", "--target", TARGET]);
        command
    }
}

/// A command without what an outer cargo or its user set for the host build.
pub(crate) fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    let below_cargo = std::env::var_os("CARGO").is_some();
    for (key, _) in std::env::vars_os() {
        let Some(name) = key.to_str() else { continue };
        let cargo_setting = name.starts_with("CARGO")
            && !matches!(name, "CARGO_HOME")
            && !["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_TERM_", "CARGO_SOURCE_"]
                .iter()
                .any(|keep| name.starts_with(keep));
        let compiler_setting = matches!(name, "RUSTC" | "RUSTDOC" | "RUSTFLAGS" | "RUSTDOCFLAGS" | "RUSTC_WRAPPER")
            || matches!(name, "RUSTC_WORKSPACE_WRAPPER" | "RUSTC_BOOTSTRAP" | "RUST_RECURSION_COUNT")
            || matches!(name, "OUT_DIR" | "TARGET" | "HOST" | "PROFILE" | "OPT_LEVEL" | "DEBUG" | "NUM_JOBS");
        // `cargo run` puts the host compiler's libraries in front, which another rustc must not load.
        let library_path =
            below_cargo && matches!(name, "LD_LIBRARY_PATH" | "DYLD_LIBRARY_PATH" | "DYLD_FALLBACK_LIBRARY_PATH");
        if cargo_setting || compiler_setting || library_path {
            command.env_remove(&key);
        }
    }
    command
}

/// Looks for a compiler without changing anything on the machine.
///
/// # Errors
/// Neither way 1 nor way 3 works as things are; says what each lacks.
pub fn find_toolchain() -> Result<Toolchain> {
    let choice = std::env::var(CHOICE).unwrap_or_default();
    let active = if wants(&choice, "active") || wants(&choice, "rustup") { active() } else { Err(skipped()) };
    let active = match active {
        Ok(found) => return Ok(found),
        Err(e) => e,
    };
    let build_std = if wants(&choice, "build-std") { build_std() } else { Err(skipped()) };
    match build_std {
        Ok(found) => Ok(found),
        Err(build_std) => bail!(
            "no compiler for guests ({TARGET}): \
             1. the active rustc: {active:#}. \
             2. with rustup: `rustup target add {TARGET}`. \
             3. building the standard library: {build_std:#}; on Debian `apt-get install {}`",
            PACKAGES.join(" ")
        ),
    }
}

/// Finds a compiler, else installs one: by rustup, else by apt-get. `progress` gets a line before each step that takes
/// long or changes the machine.
///
/// # Errors
/// No way works; says for each of the three why.
pub fn ensure_toolchain(progress: &mut dyn FnMut(&str)) -> Result<Toolchain> {
    let choice = std::env::var(CHOICE).unwrap_or_default();
    let mut failed = Vec::new();
    if wants(&choice, "active") {
        match active() {
            Ok(found) => return Ok(found),
            Err(e) => failed.push(format!("1. the active rustc: {e:#}")),
        }
    }
    if wants(&choice, "rustup") {
        match rustup(progress).and_then(|()| active()) {
            Ok(found) => return Ok(found),
            Err(e) => failed.push(format!("2. rustup: {e:#}")),
        }
    }
    if wants(&choice, "build-std") {
        match build_std().or_else(|_| apt(progress).and_then(|()| build_std())) {
            Ok(found) => {
                progress(&format!("guests are compiled by {found}"));
                return Ok(found);
            }
            Err(e) => failed.push(format!("3. building the standard library: {e:#}")),
        }
    }
    bail!(
        "no compiler for guests. {}. Install one by hand: `rustup target add {TARGET}`, or on Debian `apt-get install {}`",
        failed.join("; "),
        PACKAGES.join(" ")
    )
}

fn wants(choice: &str, way: &str) -> bool {
    choice.is_empty() || choice == way
}

fn skipped() -> anyhow::Error {
    anyhow::anyhow!("left out by {CHOICE}")
}

/// Way 1.
fn active() -> Result<Toolchain> {
    let sysroot = sysroot(Path::new("rustc"))?;
    let library = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let has_std = std::fs::read_dir(&library).is_ok_and(|entries| {
        entries.flatten().any(|e| {
            let name = e.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    });
    if has_std { Ok(Toolchain::Installed) } else { bail!("it has no standard library for {TARGET}") }
}

/// Way 2. A failure is remembered for [`RUSTUP_RETRY`].
fn rustup(progress: &mut dyn FnMut(&str)) -> Result<()> {
    run(clean("rustup").arg("--version")).context("rustup is not installed")?;
    let marker = std::env::temp_dir().join("prism-rustup-target-failed");
    let fresh = std::fs::metadata(&marker)
        .and_then(|m| m.modified())
        .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < RUSTUP_RETRY));
    if fresh {
        bail!("it failed within the last hour; to ask again remove `{}`", marker.display());
    }
    progress(&format!("rustup target add {TARGET}"));
    let added = run(clean("rustup").args(["target", "add", TARGET]));
    if added.is_err() {
        // Best effort: without the note the next build only waits again.
        let _noted = std::fs::write(&marker, b"");
    }
    added.map(drop)
}

/// Way 3: a rustc whose sysroot has the source of its library, and a linker.
fn build_std() -> Result<Toolchain> {
    let mut lacks = Vec::new();
    for rustc in [PathBuf::from("rustc"), PathBuf::from("/usr/bin/rustc")] {
        let Ok(sysroot) = sysroot(&rustc) else {
            lacks.push(format!("there is no `{}`", rustc.display()));
            continue;
        };
        if !sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml").exists() {
            lacks.push(format!("`{}` has no source of its library", rustc.display()));
            continue;
        }
        if let Err(e) = new_enough(&rustc) {
            lacks.push(format!("{e:#}"));
            continue;
        }
        let bundled = std::fs::read_dir(sysroot.join("lib/rustlib"))
            .is_ok_and(|hosts| hosts.flatten().any(|h| h.path().join("bin/rust-lld").exists()));
        if bundled {
            return Ok(Toolchain::BuildStd { rustc, linker: None });
        }
        match linker() {
            Some(linker) => return Ok(Toolchain::BuildStd { rustc, linker: Some(linker) }),
            None => lacks.push("there is no `wasm-ld`".to_owned()),
        }
    }
    bail!("{}", lacks.join(", "))
}

/// `wasm-ld`, or the newest `wasm-ld-<version>` on the path.
fn linker() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = std::iter::once("wasm-ld".to_owned()).chain((15..40).rev().map(|v| format!("wasm-ld-{v}")));
    names.flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(&name))).find(|file| file.is_file())
}

fn new_enough(rustc: &Path) -> Result<()> {
    let version = run(clean(rustc).arg("--version"))?;
    let minor = version.split(['.', ' ']).nth(2).and_then(|m| m.parse::<u32>().ok());
    let wanted = env!("CARGO_PKG_RUST_VERSION").split('.').nth(1).and_then(|m| m.parse::<u32>().ok());
    if minor < wanted {
        bail!("`{}` is {}, expected {} or later", rustc.display(), version.trim(), env!("CARGO_PKG_RUST_VERSION"));
    }
    Ok(())
}

fn apt(progress: &mut dyn FnMut(&str)) -> Result<()> {
    run(clean("apt-get").arg("--version")).context("apt-get is not there")?;
    let is_root = run(clean("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let install = |progress: &mut dyn FnMut(&str)| {
        // `-n`: without the right to do so at once, fail with a clear message rather than wait for a password.
        let mut words: Vec<&str> = if is_root { vec![] } else { vec!["sudo", "-n"] };
        words.extend(["apt-get", "install", "-y", "--no-install-recommends"]);
        words.extend(PACKAGES);
        progress(&words.join(" "));
        let mut command = clean(words[0]);
        command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    };
    if install(progress).is_ok() {
        return Ok(());
    }
    // The lists of a fresh image are often empty or old.
    let mut update = if is_root { clean("apt-get") } else { clean("sudo") };
    if !is_root {
        update.args(["-n", "apt-get"]);
    }
    progress("apt-get update");
    run(update.arg("update"))?;
    install(progress).map(drop)
}

fn sysroot(rustc: &Path) -> Result<PathBuf> {
    Ok(PathBuf::from(run(clean(rustc).args(["--print", "sysroot"]))?.trim()))
}

/// Runs to the end; standard output, or an error with the end of what it said.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("`{program}` cannot be run"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.trim().lines().collect();
    bail!("`{program}` failed: {}", lines[lines.len().saturating_sub(5)..].join(" | "))
}
