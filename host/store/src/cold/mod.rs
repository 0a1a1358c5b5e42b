//! Cold: sorted Parquet files in one Delta table per tenant and signal, which other engines read without us.
//!
//! ```text
//! warm blocks -> promote -> Parquet files -> one commit of the Delta log, which is the switch -> compact -> expire, vacuum
//! ```

pub mod schema;
pub mod file;
pub mod delta;
