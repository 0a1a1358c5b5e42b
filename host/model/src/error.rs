//! What the caller of a failed operation must do.

/// What the *caller* must do about an error. Every error type of the host answers with one of these; only the server turns
/// them into HTTP and gRPC status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The input is wrong and stays wrong: fix it before sending it again.
    Fix,
    /// The input is larger than a limit allows: send less at once.
    TooLarge,
    /// A bounded queue or budget is full: wait, then send the same again.
    Wait,
    /// A part that should work does not work now (disk full, plugin failing): send the same again later.
    Retry,
    /// No such thing, or none that the caller may know of.
    NotFound,
    /// The caller has shown no valid key.
    Unauthenticated,
    /// The caller's key does not allow this.
    Forbidden,
    /// An invariant of Prism does not hold: report it.
    Bug,
}

/// Implemented by every error that can reach a client.
pub trait Classify: std::error::Error {
    /// What the caller must do.
    fn kind(&self) -> Kind;
}
