//! The warm tier: sealed segments as immutable objects of many frames, each listed by one read of its end.
//!
//! ```text
//! seal -> write (frames of 0002, footer) -> object -> footer (one read) -> block (frames, sources, cube) -> list (what a shard has)
//! ```
//!
//! `warm/<tenant>/<signal>/<shard>/<seq, 20 digits>.blk`: a header of 256 bytes (whose block it is), frames at multiples of 8,
//! then the footer: cube, sources, index of the frames, a directory of these sections, and a tail of 64 bytes. A block holds
//! whole segments and only those, so what it covers is told by their names alone. Numbers have no gaps (`seal` sees to that).
//! Not here: which segments go to a block (`seal`), what the cube's bytes mean (`rollup`).

pub(crate) mod name;
pub(crate) mod footer;
pub(crate) mod write;
mod block;
mod list;
#[cfg(test)]
mod tests;

pub use block::{Block, BlockSource};
pub use list::{Blocks, Found};
