//! The store: what was acknowledged survives, any process sees it within a second, and it grows colder and cheaper with age.
//!
//! ```text
//! append -> hot (segments on the shared file system) -> seal -> warm (blocks of objects) -> cold (Parquet in Delta tables)
//!           read: one snapshot over all of them, each row exactly once          life: how long what stays where
//! ```
//!
//! Formats and invariants are in `host/adr`. Not here: what rows mean (`query`), which plugins saw them (`plugin`).

pub mod error;
pub mod options;
pub mod metrics;
pub mod disk;
pub mod objects;
mod place;
mod frame;
mod hot;
mod cache;
mod framed;
mod open_file;
mod unit;
pub mod rollup;
pub mod warm;
pub mod seal;
pub mod cold;
pub mod index;
mod read;
pub mod control;
pub mod keys;
pub mod life;

pub use error::{Damage, StoreError};
#[doc(hidden)]
pub use frame::alone as frame_bytes;
pub use frame::stats::{ColumnMeta, Range, TextRange};
pub use hot::follow::{Followed, Others, Stored};
pub use hot::heard::{Heard, Placed, Recent};
pub use hot::listen::{Listener, News, may_have_missed};
pub use hot::once::{Known, Once};
pub use hot::position::{Place, Position};
pub use hot::takeover::{Looked, Observer, Patience};
pub use hot::writer::{Receipt, Store, Surroundings};
pub use metrics::Metrics;
pub use objects::Objects;
pub use open_file::KeepsOpen;
pub use options::StoreOptions;
pub use place::Token;
pub use read::{
    CountOptions, Counter, Found, READ_GRACE, Reader, Rolled, Snapshot, Tiers, Uncounted, Unreadable, Used,
};
pub use unit::{Exact, Frame, FrameStats, Numbered, ReadCost, Tier};
