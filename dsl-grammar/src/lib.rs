//! Text or JSON -> one Ast.
pub mod ast;
pub mod error;
pub mod functions;
pub mod print;
pub use ast::*;
pub use error::DslError;
/// Nesting of brackets in text.
pub const MAX_NESTING: usize = 64;
/// Nesting of operators in an Ast.
pub const MAX_LEVELS: usize = 128;
/// Text of a query.
/// # Errors
/// Not yet written.
pub fn parse_text(_text: &str) -> Result<Query, DslError> {
    Err(DslError)
}
/// JSON of a query.
/// # Errors
/// Not yet written.
pub fn parse_json(_json: &[u8]) -> Result<Query, DslError> {
    Err(DslError)
}
