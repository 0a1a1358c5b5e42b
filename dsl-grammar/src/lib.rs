//! Text or JSON -> one Ast.
mod position;
mod nearest;
mod lexis;
mod names;
mod bounds;
mod grammar;
mod build;
mod expression;
mod rules;
mod text;
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
/// Size.
pub const MAX_BYTES: usize = 64 * 1024;
/// Text of a query.
/// # Errors
/// Not yet written.
pub fn parse_text(text: &str) -> Result<Query, DslError> {
    text::parse(text)
}
/// JSON of a query.
/// # Errors
/// Not yet written.
pub fn parse_json(_json: &[u8]) -> Result<Query, DslError> {
    Err(DslError::new("", ""))
}
