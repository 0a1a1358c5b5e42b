//! The query language of Prism: text or JSON -> one [`Query`], and back.
//!
//! It owns the grammar, the Ast, and errors that point. It does not know which fields exist, what type they have, or what a
//! function computes: that is for the engine, which binds the Ast. `REFERENCE.md` beside this crate describes the language.
//!
//! ```text
//!             bounds ─> grammar ─> expression ─> build ─┐
//! text ──────────────────────────> text ────────────────┴─> rules ─> Query ─> print, print_json
//! document ─> json ─> document ─┬─ tree ─────> build ───┘
//!                               └─ strings: as text
//! ```
//!
//! # Three forms
//! The text form is for people and URLs, the JSON document for programs; each expression of a document is a string in the
//! grammar of text, or a tree. All give the same Ast:
//!
//! ```
//! use prism_dsl::{parse_json, parse_text};
//!
//! let text = parse_text("from spans last 1h where duration > 100ms by service.name select count() as n, p95(duration) as p95")?;
//! let strings = parse_json(br#"{
//!     "from": "spans", "range": {"last": "1h"}, "where": "duration > 100ms", "by": ["service.name"],
//!     "select": {"n": "count()", "p95": "p95(duration)"}
//! }"#)?;
//! let trees = parse_json(br#"{
//!     "from": "spans", "range": {"last": "1h"}, "where": {">": [{"field": "duration"}, {"duration": "100ms"}]},
//!     "by": [{"field": "service.name"}], "select": {"n": {"count": []}, "p95": "p95(duration)"}
//! }"#)?;
//! assert_eq!(text, strings);
//! assert_eq!(text, trees);
//!
//! assert_eq!(parse_text(&text.to_string())?, text);
//! assert_eq!(parse_json(text.to_json().to_string().as_bytes())?, text);
//! assert_eq!(parse_json(text.to_json_tree().to_string().as_bytes())?, text);
//! # Ok::<(), prism_dsl::DslError>(())
//! ```
//!
//! # Errors
//! An error says what was expected and found, where, and what to do:
//!
//! ```
//! let error = prism_dsl::parse_json(br#"{"from": "spans", "select": {"p95": "p95(duration) where cuont() > 1"}}"#).unwrap_err();
//! assert_eq!(error.to_string(), "\
//! no function is called `cuont`
//!  --> /select/p95, line 1, column 21
//!   |
//! 1 | p95(duration) where cuont() > 1
//!   |                     ^^^^^
//!   = hint: did you mean `count`?");
//! ```
//!
//! # Bounds
//! A query comes from a stranger. [`MAX_BYTES`] and [`MAX_NESTING`] are checked by a loop before any recursive parser runs, and
//! [`MAX_LEVELS`] while the Ast is built, so that nothing, also not a walk over the Ast or its drop, can exhaust the stack.

mod bounds;
mod stack;
mod position;
mod lexis;
mod grammar;
mod expression;
mod names;
mod build;
mod json;
mod tree;
mod text;
mod document;
mod rules;
pub mod ast;
mod print;
mod print_json;
pub mod functions;
pub mod complete;
mod nearest;
pub mod error;

pub use ast::*;
pub use error::DslError;
pub use print::expr_to_text;

/// Longest query in bytes, in either form: far above what people and dashboards write, and parsed in milliseconds.
pub const MAX_BYTES: usize = 64 * 1024;

/// Deepest nesting of brackets in text, for which pest recurses: far above what people write.
pub const MAX_NESTING: usize = 64;

/// Deepest nesting of operators in an Ast: each bracket may hold a comparison and a condition of its own.
pub const MAX_LEVELS: usize = 2 * MAX_NESTING;

/// Reads the text form of a query:
/// `from spans last 1h where duration > 1s by service.name select count() as n order n desc limit 10`.
///
/// # Errors
/// The query is at fault in all of them: [`error::code::TOO_LONG`] if it is longer than [`MAX_BYTES`], else another of
/// [`error::code`]. Line and column count in `text`.
pub fn parse_text(text: &str) -> Result<Query, DslError> {
    text::parse(text)
}

/// Reads the JSON document of a query; each expression in it is a string or a tree.
///
/// # Errors
/// As [`parse_text`]. Where the fault lies in a part of the document, the error has its JSON pointer; line and column count
/// inside the string at the pointer, if there is one, else in the document.
pub fn parse_json(json: &[u8]) -> Result<Query, DslError> {
    document::parse(json)
}

/// Reads an expression alone, as it stands in `select`: aggregates are allowed, names of `match` are not known.
///
/// ```
/// let expr = prism_dsl::parse_expr("Coalesce(http.route, name) != 'x'")?;
/// assert_eq!(expr.to_string(), "coalesce(http.route, name) != 'x'");
/// # Ok::<(), prism_dsl::DslError>(())
/// ```
///
/// # Errors
/// As [`parse_text`].
pub fn parse_expr(text: &str) -> Result<Expr, DslError> {
    let parsed = expression::parse(text, &names::Names::default());
    parsed.map(|node| node.expr).map_err(|error| error.source(text))
}
