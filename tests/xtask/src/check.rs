//! Everything that CI checks, in the order in which a mistake is cheapest to find.

use anyhow::bail;

use crate::build;
use crate::demo;
use crate::step::{self, cargo, target_dir};

fn run_tests(components: &std::path::Path) -> anyhow::Result<()> {
    // Whole-process tests drive the binary, so it is built before them, in the same profile and with the same features.
    let build = ["build", "--workspace", "--bins", "--tests"];
    step::run("build", cargo(&build).env("PRISM_BUNDLED_PLUGINS", components))?;
    step::run(
        "tests",
        cargo(&["test", "--workspace", "--no-fail-fast"])
            .env("PRISM_BUNDLED_PLUGINS", components)
            .env("PRISM_BIN_DIR", target_dir().join("debug")),
    )
}

fn run_all(quick: bool) -> anyhow::Result<()> {
    step::run("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    let components = build::guests()?;
    run_tests(&components)?;
    if quick {
        return Ok(());
    }
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    step::run("clippy", cargo(&clippy).env("PRISM_BUNDLED_PLUGINS", &components))?;
    // With the binaries of the tests: building them alone would choose other features and compile much anew.
    demo::run_with(&demo::Options { once: true, replay: Vec::new() }, &target_dir().join("debug"))
}

/// `cargo xtask test [--quick]`.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run_all(false),
        ["--quick"] => run_all(true),
        _ => bail!("expected nothing or `--quick`, found `{}`", args.join(" ")),
    }
}
