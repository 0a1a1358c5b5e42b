//! The allocator of the binaries.
//!
//! The system's gives memory back and asks for it again between queries, which took up to a sixth of their time.

use std::ffi::c_int;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's option for how long freed memory is kept, ms: its header says which number that is, the bindings do not.
const PURGE_DELAY: c_int = 15;
/// As long as the next query of a reader, or the next request of a client, takes to come. At 10 ms, which is the default, pages
/// that were given back and are cleared anew took a fifth of what it takes to find a trace.
const PURGE_DELAY_MS: i64 = 1_000;

/// Settles how the allocator works, before other threads are there.
#[expect(unsafe_code, reason = "an option of the allocator, which no setting of the build reaches")]
pub(crate) fn settle() {
    // SAFETY: sets a number in a table of the allocator's, under an index that is within it; no other thread runs yet.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) }
}
