//! Answers queries over spans, log records and metric points.
//!
//! ```text
//! Ast -> bind (names to fields, operators to nodes; plugins: the tenant's own functions) -> ran (one scan: snapshot, explain (what it will cost), turns (who is next), scan (prune, read, filter: frame, field, eval) -> sink, group -> exec)
//!     (rows of all kinds: events, a scan for each; rows of other signals beside: joins, scans before or behind)
//!     -> series (earlier range, fill, functions over bins) -> finish (formulas, having, order, limit) -> answer (JSON, NDJSON, Arrow)        trace, fields, tail (each new frame on its own)
//! ```
//!
//! Invariants: QU-1 every scan is bound to a tenant and a time range or an id; QU-2 pruning never loses a row. Only this
//! crate knows DataFusion. Not here: the text of queries (`prism-dsl`), bytes of frames (`prism-store`), HTTP (`server`).

pub mod error;
mod stack;
mod names;
mod show;
mod plugins;
mod eval;
mod encode;
mod fixed;
mod field;
mod identity;
mod frame;
mod group;
mod bind;
mod events;
mod prune;
mod running;
mod joins;
mod rollup;
mod structure;
mod turns;
mod memory;
mod cost;
mod reading;
mod seat;
mod scan;
mod explain;
mod cursor;
mod distinct;
mod first;
mod sink;
mod exec;
mod series;
mod finish;
mod types;
mod answer;
mod ran;
mod engine;
mod trace;
mod fields;
mod tail;

pub use answer::{Answer, Column, Partial, Stats, TIERS, TierStats};
pub use engine::{Engine, EngineLoad, EngineOptions, RunOptions, TenantLimits};
pub use error::QueryError;
pub use explain::{Explained, ScanExplained};
pub use fields::{FieldInfo, FieldValue};
pub use plugins::calls_plugins;
pub use tail::{Before, Halfway, Tail, TailCursor, TailRows};
pub use trace::TraceAnswer;
