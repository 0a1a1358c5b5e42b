//! Tenants' plugins in a sandbox: the Wasm engine, its limits, the upload gate, and the chain that a batch runs through.
//!
//! ```text
//! bytes -> gate (compile, describe, golden batches) -> Plugin -> Chain (bindings in order)
//! Batch -> Chain -> stage: source -> view -> guest -> edit | verdict -> apply -> Cleared
//! ```
//!
//! A guest is hostile: it gets no more than it asked for, runs within bounds of memory, time and output, and every answer is
//! checked like network input. Only the chain makes a [`prism_model::Cleared`] batch (PL-1).
//!
//! Not here: where components and bindings are kept (they are handed in), what refused batches mean to a client (`server`).

pub mod options;
pub mod error;
mod bindings;
mod engine;
mod compile;
pub mod metadata;
mod guest;
pub mod host;
mod gate;
pub mod chain;
mod stage;
mod leaves;
mod source;
mod view;
mod entries;
mod rows;
mod change;
mod edit;
mod verdict;
mod remember;
mod apply;

pub use chain::{Call, Chain, Counted, Dropped, Passed};
pub use error::{Failure, PluginError};
pub use guest::World;
pub use host::{Binding, Plugin, PluginHost};
pub use metadata::{Access, Metadata};
pub use options::PluginOptions;
