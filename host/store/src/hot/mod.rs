//! The hot tier: what was acknowledged a moment ago, in one file for each writer, window and tenant's signal.
//!
//! ```text
//! append -> writer (lanes, groups) -> split (windows) -> commit (encode, write, sync) -> segment (file)
//!                                                        open (how many segments are)
//! file -> scan (what stands in it; newest: of that what is new, claims: what is about to) -> unit (its frames)
//!             lease (of each writer) -> takeover (dead writers' segments are ended) -> list (which are)
//!             \-> ears (own commits) -> listen (new frames, each once) -> position (how far), heard (rows of before)
//!                                 \-> follow (which batches others stored) -> once (what is not written a second time) -> commit
//! ```
//!
//! Formats are in `host/adr/0002-frames.md`. Not here: what becomes of a segment that is done (`seal`).

pub(crate) mod writer;
pub(crate) mod split;
pub(crate) mod commit;
pub(crate) mod segment;
pub(crate) mod open;
pub(crate) mod scan;
pub(crate) mod newest;
pub(crate) mod claims;
pub(crate) mod source;
pub(crate) mod clock;
pub(crate) mod lease;
pub(crate) mod takeover;
pub(crate) mod list;
pub(crate) mod follow;
pub(crate) mod once;
pub(crate) mod ears;
pub(crate) mod position;
pub(crate) mod listen;
pub(crate) mod heard;
