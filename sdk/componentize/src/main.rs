//! The command: `prism-componentize build <folder of a guest> [<folder for the component>]`, or `bundle [<folder>]`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "usage: prism-componentize build <folder of a guest> [<folder for the component>]
       prism-componentize bundle [<folder for the components>]
       prism-componentize inspect <component>
       prism-componentize toolchain";

fn main() -> Result<()> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let args: Vec<&Path> = args.iter().map(PathBuf::as_path).collect();
    let (command, rest) = args.split_first().context(USAGE)?;
    let mut out = std::io::stdout().lock();
    match (command.to_str(), rest) {
        (Some("build"), [guest]) => {
            writeln!(
                out,
                "{}",
                prism_componentize::build_guest(guest, &prism_componentize::components_dir())?.display()
            )?;
        }
        (Some("build"), [guest, to]) => writeln!(out, "{}", prism_componentize::build_guest(guest, to)?.display())?,
        (Some("bundle"), []) => list(&mut out, &prism_componentize::bundle(&prism_componentize::components_dir())?)?,
        (Some("bundle"), [to]) => list(&mut out, &prism_componentize::bundle(to)?)?,
        (Some("inspect"), [component]) => {
            let bytes = std::fs::read(component).with_context(|| format!("reading `{}`", component.display()))?;
            let component = prism_componentize::inspect(&bytes)?;
            writeln!(out, "imports: {}\nexports: {}", component.imports.join(", "), component.exports.join(", "))?;
        }
        (Some("toolchain"), []) => {
            let found = prism_componentize::ensure_toolchain(&mut |line| eprintln!("{line}"))?;
            writeln!(out, "{found}")?;
        }
        _ => bail!(USAGE),
    }
    Ok(())
}

fn list(out: &mut impl std::io::Write, components: &[PathBuf]) -> Result<()> {
    for component in components {
        let bytes = std::fs::metadata(component)?.len();
        writeln!(out, "{} ({bytes} bytes)", component.display())?;
    }
    Ok(())
}
