//! What is taken as OTLP/JSON must be JSON, and in protobuf a request that prost and the walk read alike. Used by the fuzz
//! targets too.

use prism_ingest::json::to_protobuf;
use prism_model::{Limits, Signal};

use crate::agree;

/// Whether the bytes are taken; `Err` tells what is wrong with that.
pub(crate) fn taken(signal: Signal, json: &[u8], limits: &Limits) -> Result<bool, String> {
    let Ok(bytes) = to_protobuf(signal, json, limits) else { return Ok(false) };
    std::str::from_utf8(json).map_err(|e| format!("taken without being UTF-8: {e}"))?;
    if let Err(e) = serde_json::from_slice::<serde::de::IgnoredAny>(json)
        // serde_json stops at 127 levels, values may be deeper.
        && !e.to_string().contains("recursion limit")
    {
        return Err(format!("taken without being JSON: {e}"));
    }
    if bytes.len() > 4 * json.len() {
        return Err(format!("{} bytes of JSON became {} of protobuf", json.len(), bytes.len()));
    }
    let agreed = match signal {
        Signal::Spans => agree::traces(&bytes, limits),
        Signal::Logs => agree::logs(&bytes, limits),
        Signal::Metrics => agree::metrics(&bytes, limits),
    };
    agreed.map(|_| true)
}
