//! What the process counts, as Prometheus text.
//!
//! ```text
//! requests (what this crate counts) + counters of store, ingest, plugin, query -> exposition (the text format)
//! ```
//!
//! Names are `prism_<crate>_<noun>_<unit>[_total]`. Label values come from closed sets, except names of tenants and of their
//! bindings, which are bounded by what operators and administrators create.

mod exposition;
mod requests;
mod inner;
mod life;

pub(crate) use exposition::{Exposition, MEDIA_TYPE as EXPOSITION_MEDIA_TYPE, Type};
pub(crate) use inner::{SMALL_RATE, expose_ingest, expose_store};
pub(crate) use life::expose_life;
pub(crate) use requests::{Requests, Route};
