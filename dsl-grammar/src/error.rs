//! Errors.
/// What is wrong with a query.
#[derive(Debug, thiserror::Error)]
#[error("the parser is not there yet")]
pub struct DslError;
