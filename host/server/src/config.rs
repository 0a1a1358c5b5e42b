//! The one configuration: what can be set, its default, and why the default is what it is.
//!
//! ```text
//! defaults <- prism.toml <- PRISM_ variables <- flags        (the right one wins)
//! ```
//!
//! No setting needs to be set. Unknown keys and unknown `PRISM_` variables are refused, because a misspelt limit that is
//! silently ignored is found in an incident. Not here: what the flags are called (`cli`).

mod settings;
mod tail;
mod sources;
mod print;

pub(crate) use settings::{
    Config, CorsSettings, HttpSettings, LogFormat, NO_ARCHIVE, QuerySettings, TelemetrySettings, TlsSettings,
};
pub(crate) use sources::{Flags, Loaded, load};
pub(crate) use tail::TailSettings;
