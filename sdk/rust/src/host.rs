//! What a plugin may tell the host. In native tests it goes to `testing`.

use crate::Level;

/// Logs a message. The host limits rate and length, and withholds what comes from a plugin that has seen data before
/// redaction: count instead.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::host::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::record_log(level, message);
}

/// Adds to the counter at position `counter` of [`crate::Description::counters`].
pub fn count(counter: u32, by: u64) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::host::count(counter, by);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::record_count(counter, by);
}
