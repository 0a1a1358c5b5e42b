//! What is wrong with a query, and where: the one error of this crate, which the binder may use too.
//!
//! It does not decide on a status; see [`DslError::code`].

use std::fmt::{self, Write as _};

use crate::ast::Pos;

/// The codes that this crate gives. The query is at fault in all of them; only [`code::TOO_LONG`] is a matter of size.
pub mod code {
    /// The text does not follow the grammar.
    pub const SYNTAX: &str = "query_syntax";
    /// The JSON is not JSON, or not UTF-8.
    pub const JSON: &str = "query_json";
    /// The query is longer than [`crate::MAX_BYTES`].
    pub const TOO_LONG: &str = "query_too_long";
    /// The query is nested deeper than [`crate::MAX_NESTING`] or [`crate::MAX_LEVELS`].
    pub const TOO_DEEP: &str = "query_too_deep";
    /// A string, number, duration, byte count or time that cannot be read.
    pub const LITERAL: &str = "query_literal";
    /// No function or operator has this name.
    pub const UNKNOWN_FUNCTION: &str = "query_unknown_function";
    /// A function or operator with the wrong number or kind of arguments.
    pub const ARGUMENTS: &str = "query_arguments";
    /// An aggregate or series function where there are only rows.
    pub const AGGREGATE: &str = "query_misplaced_aggregate";
    /// A key of the document, a source or a name that does not exist.
    pub const UNKNOWN: &str = "query_unknown_name";
    /// A name or clause that was given twice.
    pub const DUPLICATE: &str = "query_duplicate";
    /// A clause whose value is of the wrong kind or out of range.
    pub const VALUE: &str = "query_value";
    /// Spans of `match` used as values, or the reverse.
    pub const STRUCTURE: &str = "query_structure";
}

/// How many characters of a line are shown on each side of the caret: an 80-column terminal with the margin.
const SNIPPET_SIDE: usize = 36;

/// What is wrong with a query.
///
/// `Display` draws the line with a caret:
///
/// ```
/// let error = prism_dsl::parse_text("from spans where duraton > and").unwrap_err();
/// assert_eq!(error.to_string(), "\
/// expected a value, found `and`
///  --> line 1, column 28
///   |
/// 1 | from spans where duraton > and
///   |                            ^^^
///   = hint: `and` is a word of the language; a field of that name is written `` `and` ``");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DslError {
    /// One of [`code`], or the binder's own.
    pub code: &'static str,
    /// One line, lower case, no full stop: what was expected and what was found.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// In a JSON document the place of the value at fault, as a JSON pointer: `/select/p95`, empty for the document itself.
    pub pointer: Option<Box<str>>,
    /// From 1; 0 where no line is known. Where the value at `pointer` is a string it counts inside that string.
    pub line: u32,
    /// From 1, in characters; 0 where no column is known.
    pub column: u32,
    /// The line at fault and a caret below it, without a line break at the end; empty where no source is known.
    pub snippet: Box<str>,
    width: u32,
}

impl DslError {
    /// An error without a place.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        DslError {
            code,
            message: message.into(),
            hint: None,
            pointer: None,
            line: 0,
            column: 0,
            snippet: Box::default(),
            width: 1,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With what to do about it, if there is something.
    #[must_use]
    pub fn hint_if(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// At a place of the source, unless it already has one. `width` is how many characters the caret underlines.
    #[must_use]
    pub fn at(mut self, pos: Pos, width: usize) -> Self {
        if self.line == 0 {
            self.line = pos.line;
            self.column = pos.column;
            self.width = u32::try_from(width.max(1)).unwrap_or(u32::MAX);
        }
        self
    }

    /// In a part of a JSON document, unless it already has one.
    #[must_use]
    pub fn within(mut self, pointer: &str) -> Self {
        self.pointer.get_or_insert_with(|| pointer.into());
        self
    }

    /// Draws the snippet, unless it is already drawn or no place is known. `source` is what line and column count in.
    #[must_use]
    pub fn source(mut self, source: &str) -> Self {
        if self.snippet.is_empty() && self.line > 0 {
            self.snippet = draw(source, self.line, self.column, self.width).into();
        }
        self
    }
}

impl std::error::Error for DslError {}

impl fmt::Display for DslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match (self.pointer.as_deref().filter(|pointer| !pointer.is_empty()), self.line) {
            (Some(pointer), 0) => write!(f, "\n --> {pointer}")?,
            (Some(pointer), line) => write!(f, "\n --> {pointer}, line {line}, column {}", self.column)?,
            (None, 0) => {}
            (None, line) => write!(f, "\n --> line {line}, column {}", self.column)?,
        }
        if !self.snippet.is_empty() {
            write!(f, "\n{}", self.snippet)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  = hint: {hint}")?;
        }
        Ok(())
    }
}

/// The line, cut to what fits a terminal, and a caret below.
fn draw(source: &str, line: u32, column: u32, width: u32) -> String {
    let Some(text) = source.split('\n').nth(line as usize - 1) else { return String::new() };
    let caret = (column as usize).saturating_sub(1);
    let start = caret.saturating_sub(SNIPPET_SIDE);
    let mut window = String::new();
    let mut shown = 0;
    let mut rest = text.chars().skip(start).peekable();
    while let Some(c) = rest.next_if(|_| shown < 2 * SNIPPET_SIDE) {
        // A tab, a control or a mark that reorders text would move the caret away from its character.
        window.push(if c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}') {
            ' '
        } else {
            c
        });
        shown += 1;
    }
    if rest.peek().is_some() {
        window.push('…');
    }
    let lead = if start > 0 { "…" } else { "" };
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(caret - start + lead.chars().count());
    let carets = "^".repeat((width as usize).min(shown.saturating_sub(caret - start)).max(1));
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(out, "{margin} |\n{number} | {lead}{}\n{margin} | {indent}{carets}", window.trim_end());
    out
}
