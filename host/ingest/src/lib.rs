//! OTLP bytes to checked columns, through the tenant's plugins, to the store; and columns back to OTLP.
//!
//! ```text
//! queue (who may) -> body (decompress) -> json (OTLP/JSON to protobuf) -> wire (protobuf fields) -> columns (builders) -> decode (a request to a batch)
//!   -> settings, bindings, follow, chains (what the tenant decided) -> seen (once?) -> pipeline (all of it, to the acknowledgement)
//! encode (a batch to a request, or OTLP/JSON)
//! ```
//!
//! Not here: HTTP and gRPC (`server`), how plugins run (`plugin`), how rows become durable (`store`). Only this crate knows OTLP
//! messages.

mod metrics;
pub mod clocks;
pub mod sizes;
mod queue;
pub mod body;
pub mod json;
pub(crate) mod wire;
pub(crate) mod columns;
pub mod decode;
pub mod settings;
pub mod bindings;
mod follow;
pub mod chains;
mod seen;
pub mod pipeline;
pub mod encode;
pub mod recording;
#[cfg(feature = "sample")]
pub mod sample;

pub use chains::Chains;
pub use clocks::{Clock, Clocks};
pub use metrics::{IngestMetrics, Labelled, SignalMetrics};
pub use pipeline::{Accepted, IngestError, Pipeline, PipelineOptions, Request, Step, Steps};
