//! The hot store: what was acknowledged survives, and any process sees it within a second.
//!
//! ```text
//! append -> writer (lanes, groups) -> split (windows) -> frame (bytes) -> segment (file) -> disk
//! disk -> scan (what stands in a file) -> read (snapshots, frames)          control (numbered objects, blobs)
//! ```
//!
//! Formats and invariants are in `host/adr/0002-frames.md`. Not here: what rows mean (`query`), which plugins saw them
//! (`plugin`), leases, sealing and the colder tiers (they come next).

pub mod error;
pub mod options;
pub mod metrics;
pub mod disk;
mod place;
mod writer;
mod commit;
mod split;
mod frame;
mod segment;
mod scan;
mod cache;
mod read;
pub mod control;

pub use error::{Damage, StoreError};
#[doc(hidden)]
pub use frame::alone as frame_bytes;
pub use frame::stats::{ColumnMeta, Range, TextRange};
pub use metrics::Metrics;
pub use options::StoreOptions;
pub use place::Token;
pub use read::{Frame, FrameStats, ReadCost, Reader, Snapshot, Unreadable};
pub use writer::{Receipt, Store, Surroundings};
