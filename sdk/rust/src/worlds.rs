//! The worlds of the contract, each as the custom section by which `prism-componentize` makes a component of a module.

/// Rows in, rows to drop and columns to add out.
pub const FILTER: &[u8; include_bytes!(concat!(env!("OUT_DIR"), "/filter")).len()] =
    include_bytes!(concat!(env!("OUT_DIR"), "/filter"));
/// Values in, changed values out.
pub const REDACTOR: &[u8; include_bytes!(concat!(env!("OUT_DIR"), "/redactor")).len()] =
    include_bytes!(concat!(env!("OUT_DIR"), "/redactor"));
