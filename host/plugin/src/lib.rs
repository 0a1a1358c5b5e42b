//! Tenants' plugins in a sandbox: the Wasm engine, its limits, the upload gate, and the chain that a batch runs through.
//!
//! ```text
//! bytes -> gate (compile, describe, golden batches) -> Plugin -> Chain (bindings in order), Functions (by name)
//! Batch -> Chain -> stage: source -> view -> guest -> edit | verdict -> apply -> Cleared
//! columns of a query -> Caller -> argument -> guest -> returned -> column; accumulator (rows, states in, states, results out)
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
mod signature;
mod worlds;
mod voice;
mod guest;
mod slots;
pub mod host;
mod gate;
mod trial;
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
mod returned;
mod apply;
mod argument;
pub mod functions;
mod call;
mod accumulator;

pub use accumulator::{Accumulator, Session};
pub use argument::{Argument, Constant};
pub use call::{Caller, Held, Memory, Spent};
pub use chain::{Call, Chain, Counted, Dropped, Passed};
pub use error::{Failure, PluginError};
pub use functions::{Function, Functions, NotFound};
pub use host::{Binding, Plugin, PluginHost};
pub use metadata::{Access, Metadata};
pub use options::PluginOptions;
pub use signature::{Signature, ValueType};
pub use worlds::World;
