//! Measurements in release, as ratios and CPU time, since machines are shared and noisy.

use anyhow::bail;

/// `cargo xtask bench [NAME...]`.
pub(crate) fn run(names: &[String]) -> anyhow::Result<()> {
    bail!("not yet: {names:?}")
}
