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
mod json;
mod tree;
mod document;
pub mod ast;
pub mod error;
pub mod functions;
mod print;
mod print_json;
pub use ast::*;
pub use error::DslError;
pub use print::expr_to_text;
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
pub fn parse_json(json: &[u8]) -> Result<Query, DslError> {
    document::parse(json)
}
