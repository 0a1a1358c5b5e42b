//! The worlds of the contract, each as the custom section by which `prism-componentize` makes a component of a module.

/// Rows in, rows to drop and columns to add out.
pub const FILTER: &[u8; include_bytes!(concat!(env!("OUT_DIR"), "/filter")).len()] =
    include_bytes!(concat!(env!("OUT_DIR"), "/filter"));
/// Values in, changed values out.
pub const REDACTOR: &[u8; include_bytes!(concat!(env!("OUT_DIR"), "/redactor")).len()] =
    include_bytes!(concat!(env!("OUT_DIR"), "/redactor"));
/// Values of rows in, a value for each out.
pub const SCALAR_FUNCTION: &[u8; include_bytes!(concat!(env!("OUT_DIR"), "/scalar-function")).len()] =
    include_bytes!(concat!(env!("OUT_DIR"), "/scalar-function"));
/// Values of rows in, a value for each group out.
pub const AGGREGATOR: &[u8; include_bytes!(concat!(env!("OUT_DIR"), "/aggregator")).len()] =
    include_bytes!(concat!(env!("OUT_DIR"), "/aggregator"));
