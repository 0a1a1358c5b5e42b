//! Running commands with progress that a person can follow.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or(here.clone(), PathBuf::from)
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Prints for the user of the task runner.
#[expect(clippy::print_stdout, reason = "printing is what a task runner does")]
pub(crate) fn say(text: &str) {
    println!("{text}");
    // A closed pipe is the reader's choice, not an error of the task.
    drop(std::io::stdout().flush());
}

/// A heading.
pub(crate) fn heading(text: &str) {
    say(&format!("\n\u{1b}[1m== {text}\u{1b}[0m"));
}

/// A cargo command in the root of the repository, with the toolchain that runs the task.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    // What cargo told of the task's own package is no setting of what it builds: some build scripts run anew when it changes, and
    // with them most dependencies would be compiled twice, with the task and without.
    for (name, _) in std::env::vars_os() {
        let own =
            name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if own {
            command.env_remove(name);
        }
    }
    command
}

/// Runs to the end with its output shown.
pub(crate) fn run(what: &str, command: &mut Command) -> anyhow::Result<()> {
    heading(what);
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{what}: {status}");
    }
    say(&format!("   {what}: done in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// Runs to the end and returns what it printed.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
