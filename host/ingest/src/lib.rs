//! OTLP bytes to checked columns, and columns back to OTLP.
//!
//! ```text
//! wire (protobuf fields) -> columns (builders) -> decode (a request to a batch)
//! encode (a batch to a request, or OTLP/JSON)
//! ```

pub(crate) mod wire;
pub(crate) mod columns;
pub mod decode;
pub mod encode;
