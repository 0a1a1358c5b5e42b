//! Room for recursion.
//!
//! Depth is bounded by [`crate::MAX_NESTING`] and [`crate::MAX_LEVELS`], but how much stack that takes depends on the build, and
//! how much is left on the caller. Each function that recurses asks here, so that the bound is one of depth alone.

/// Stack that must be left to go on: several times the largest frames between two calls of [`with_room`], which are those of
/// a debug build, and what pest takes for all levels together.
const LEAST: usize = 384 * 1024;

/// A new piece of stack: room for about 100 levels in a debug build, so that few queries need a second.
const PIECE: usize = 2 * 1024 * 1024;

/// Runs `f`, on a new piece of stack if little is left of this one.
pub(crate) fn with_room<T>(f: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(LEAST, PIECE, f)
}
