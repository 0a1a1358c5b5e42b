//! A frame: the tables of some batches as bytes, with what is needed to skip it.
//!
//! ```text
//! header | schema (which columns) | meta (statistics, directory) | blooms | rollup (room) | payload (origins, columns)
//! ```
//!
//! The format is told in `host/adr/0002-frames.md`. Not here: files (`segment`), when frames are made (`writer`).

pub(crate) mod wire;
pub(crate) mod header;
pub(crate) mod crypt;
pub(crate) mod schema;
mod ints;
pub(crate) mod bloom;
pub(crate) mod stats;
pub(crate) mod buffer;
pub(crate) mod again;
pub(crate) mod column;
mod origins;
pub(crate) mod encode;
pub(crate) mod decode;
pub mod alone;

#[cfg(test)]
mod tests;
