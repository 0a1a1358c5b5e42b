//! Builds guests: Rust source -> `wasm32-unknown-unknown` module -> component.
//!
//! `toolchain` (find or install what compiles) -> `build` (cargo, in a target folder of its own) -> `component` (encode,
//! validate). It does not run guests, and knows the contract only by what the module carries in its custom sections.
//!
//! A user never types any of this: the task runner and `cargo run -p prism-componentize -- build <folder>` call it.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let plugins = prism_componentize::bundle(&prism_componentize::components_dir())?;
//! assert!(plugins.iter().all(|p| p.extension().is_some_and(|e| e == "wasm")));
//! # Ok(()) }
//! ```

mod toolchain;
mod build;
mod component;

pub use build::{FIRST_PARTY, build_guest, build_guest_with, bundle, components_dir};
pub use component::{Component, componentize, inspect};
pub use toolchain::{Toolchain, ensure_toolchain, find_toolchain};
