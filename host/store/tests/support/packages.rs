//! Python packages for tests: those of a lock file with hashes, installed once into the build folder.
#![allow(dead_code, unreachable_pub, reason = "a part of several tests")]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with the packages of a lock file, filled once for its contents and the interpreter's version. `name` is that of
/// its place in the build folder.
pub fn installed(lock: &Path, name: &str) -> Result<PathBuf, String> {
    let version = output(Command::new("python3").arg("--version"))?;
    let mut hash = DefaultHasher::new();
    (std::fs::read(lock).map_err(|e| e.to_string())?, version).hash(&mut hash);
    let test = std::env::current_exe().map_err(|e| e.to_string())?;
    let cache = test.ancestors().nth(3).ok_or("expected a test in target/PROFILE/deps")?.join("clients").join(name);
    let folder = cache.join(format!("{:016x}", hash.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&cache).map_err(|e| e.to_string())?;
    let fresh = tempfile::tempdir_in(&cache).map_err(|e| e.to_string())?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]);
    pip.args(["--require-hashes", "--only-binary", ":all:", "--target"]).arg(fresh.path()).arg("-r").arg(lock);
    output(&mut pip)?;
    // Whole or not at all; another process may have been faster.
    match std::fs::rename(fresh.path(), &folder) {
        Err(e) if !folder.is_dir() => Err(e.to_string()),
        _ => Ok(folder),
    }
}

pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| e.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
