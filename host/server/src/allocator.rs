//! The allocators of the binaries: that of Rust's, and the C library's, which libraries in C use.
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

/// What a library in C frees goes back to the C library, zstd's contexts above all: one for each column of a row group. It gave
/// them back to the system and asked for them anew, cleared, which took a fifth of what a query of few columns takes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod of_libraries {
    use std::ffi::c_int;

    // As `malloc.h` has them.
    const TRIM_THRESHOLD: c_int = -1;
    const MMAP_THRESHOLD: c_int = -3;
    /// Free bytes at the end of a heap that stay: the contexts of some dozen columns.
    const KEPT_BYTES: c_int = 8 << 20;
    /// What is larger is asked of the system by itself. A context has 160 KB.
    const ALONE_BYTES: c_int = 1 << 20;

    #[expect(unsafe_code, reason = "options of the C library, which nothing else reaches")]
    pub(super) fn settle() {
        unsafe extern "C" {
            fn mallopt(option: c_int, value: c_int) -> c_int;
        }
        // SAFETY: sets numbers in the C library's allocator, which takes any; no other thread runs yet. What it does not know it
        // ignores.
        unsafe {
            mallopt(TRIM_THRESHOLD, KEPT_BYTES);
            mallopt(MMAP_THRESHOLD, ALONE_BYTES);
        }
    }
}

/// Settles how the allocators work, before other threads are there.
#[expect(unsafe_code, reason = "an option of the allocator, which no setting of the build reaches")]
pub(crate) fn settle() {
    // SAFETY: sets a number in a table of the allocator's, under an index that is within it; no other thread runs yet.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    of_libraries::settle();
}
