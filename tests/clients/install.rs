//! Packages of the clients: exact versions with their hashes, installed once into the build folder.
//!
//! Where they cannot be installed (no interpreter, no registry) the tests say so and are skipped; in CI (`CI`, or
//! `PRISM_REQUIRE_CLIENTS=1`) that is a failure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use prism_tests::shared::skip;

/// The folder of a client's program and of its pinned packages.
pub(crate) fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(language)
}

/// What runs the Python client; `None`, with the reason printed, where it cannot be installed.
///
/// # Errors
/// As above, where clients are required.
pub(crate) fn python() -> anyhow::Result<Option<Command>> {
    available("Python", || {
        let version = output(Command::new("python3").arg("--version"))?;
        let site = installed("python", "requirements.txt", &version, |folder, lock| {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]);
            pip.args(["--require-hashes", "--only-binary", ":all:", "--target"]).arg(folder).arg("-r").arg(lock);
            output(&mut pip).map(drop)
        })?;
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", site).arg(sources("python").join("client.py"));
        Ok(command)
    })
}

/// What runs the Node client; `None`, with the reason printed, where it cannot be installed.
///
/// # Errors
/// As above, where clients are required.
pub(crate) fn node() -> anyhow::Result<Option<Command>> {
    available("Node", || {
        let version = output(Command::new("node").arg("--version"))?;
        let folder = installed("node", "package-lock.json", &version, |folder, lock| {
            std::fs::copy(lock, folder.join("package-lock.json"))?;
            std::fs::copy(sources("node").join("package.json"), folder.join("package.json"))?;
            let mut npm = Command::new("npm");
            // No package needs a script of its own to work.
            npm.current_dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
            output(&mut npm).map(drop)
        })?;
        // A module finds its packages beside itself.
        let program = folder.join("client.mjs");
        std::fs::copy(sources("node").join("client.mjs"), &program)?;
        let mut command = Command::new("node");
        command.arg(program);
        Ok(command)
    })
}

fn available(what: &str, install: impl FnOnce() -> anyhow::Result<Command>) -> anyhow::Result<Option<Command>> {
    match install() {
        Ok(command) => Ok(Some(command)),
        Err(error) if required() => Err(error.context(format!("the {what} client is required here"))),
        Err(error) => {
            skip(&format!("the {what} client cannot be installed: {error:#}"));
            Ok(None)
        }
    }
}

fn required() -> bool {
    let set = |name: &str| std::env::var(name).is_ok_and(|v| !["", "0", "false"].contains(&v.as_str()));
    set("CI") || set("PRISM_REQUIRE_CLIENTS")
}

/// The folder with what a lock file names, filled once for its contents and the interpreter's version.
fn installed(
    language: &str,
    lock: &str,
    version: &str,
    fill: impl FnOnce(&Path, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let lock = sources(language).join(lock);
    let mut hash = DefaultHasher::new();
    (std::fs::read(&lock)?, version).hash(&mut hash);
    let test = std::env::current_exe()?;
    let cache = test.ancestors().nth(3).context("a test in target/PROFILE/deps")?.join("clients");
    let folder = cache.join(language).join(format!("{:016x}", hash.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(cache.join(language))?;
    let fresh = tempfile::tempdir_in(cache.join(language))?;
    fill(fresh.path(), &lock)?;
    // Whole or not at all; another process may have been faster.
    if std::fs::rename(fresh.path(), &folder).is_err() {
        ensure!(folder.is_dir(), "{} cannot be created", folder.display());
    }
    Ok(folder)
}

/// What a command printed.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("`{name}` does not run"))?;
    if !output.status.success() {
        bail!("`{name}`: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
