//! Columns back to OTLP: the messages of a request, or OTLP/JSON.
//!
//! ```text
//! read (cells, attributes with their tail) -> group (resources hold scopes hold items) -> traces, logs, metrics -> json
//! ```
//!
//! What reads back is what was decoded, with these liberties: attributes are ordered by key, equal resources and scopes are
//! joined, so are the points of one metric, an `AnyValue` that was missing reads back as an empty one, a resource, scope or status
//! without content as missing.

mod read;
mod group;
mod traces;
mod logs;
mod metrics;
mod json;

pub use json::{logs_json, metrics_json, traces_json};
pub use logs::logs;
pub use metrics::metrics;
pub use traces::traces;
