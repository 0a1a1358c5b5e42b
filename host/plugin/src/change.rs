//! One change that a redactor asks for, and where it goes.

/// The new content of an entry, of the entry's own type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// To nothing.
    Clear,
    /// New text.
    Text(String),
    /// A new int.
    Int(i64),
    /// A new double.
    Double(f64),
    /// New bytes.
    Bytes(Vec<u8>),
}
