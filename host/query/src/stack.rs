//! Room for recursion over expressions.
//!
//! Their depth is bounded by the language and by the binder, but how much stack a level takes depends on the build, and how
//! much is left on the thread. Each function that recurses asks here, so that the bound is one of depth alone.

/// Stack that must be left to go on: several times the largest frames of a level in a debug build.
const LEAST: usize = 512 * 1024;

/// A new piece of stack: few queries need a second.
const PIECE: usize = 4 * 1024 * 1024;

/// Runs `f`, on a new piece of stack if little is left of this one.
pub(crate) fn with_room<T>(f: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(LEAST, PIECE, f)
}
