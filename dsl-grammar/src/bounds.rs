//! What is checked before any parser runs: size, depth of brackets, and that strings and brackets close.
//!
//! One pass without recursion. pest is a recursive descent: 10,000 parentheses would take it past the end of its stack,
//! which no error handling survives.

use crate::ast::Pos;
use crate::error::{DslError, code};
use crate::lexis;
use crate::position::Lines;
use crate::{MAX_BYTES, MAX_NESTING};

/// Refuses what is longer than [`MAX_BYTES`].
pub(crate) fn size(bytes: usize) -> Result<(), DslError> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let message = format!("expected a query of at most {MAX_BYTES} bytes, found {bytes}");
    Err(DslError::new(code::TOO_LONG, message).hint("split it into several queries"))
}

/// The error of brackets nested too deep.
pub(crate) fn too_deep(limit: usize, what: &str) -> DslError {
    let message = format!("nested deeper than {limit} levels of {what}");
    DslError::new(code::TOO_DEEP, message)
        .hint("name a part with `let`, or flatten a chain of and/or, which nests only once")
}

/// Refuses text that pest should not see. The error has its place but no snippet.
pub(crate) fn text(text: &str) -> Result<(), DslError> {
    match begun(text)?.pop() {
        Some((bracket, at)) => {
            let place = Lines::new(text).at(at);
            Err(DslError::new(code::SYNTAX, format!("`{bracket}` is not closed")).at(place, 1))
        }
        None => Ok(()),
    }
}

/// The brackets that are open at the end of a text, within the bounds.
pub(crate) fn begun(text: &str) -> Result<Vec<(char, usize)>, DslError> {
    size(text.len())?;
    let lines = Lines::new(text);
    let mut open: Vec<(char, usize)> = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let place = lines.at(at);
        let mut length = c.len_utf8();
        match c {
            '\'' | '`' => length = closed(text, at, c).map_err(|error| error.at(place, 1))?,
            '(' | '[' => {
                if open.len() == MAX_NESTING {
                    return Err(too_deep(MAX_NESTING, "brackets").at(place, 1));
                }
                open.push((c, at));
            }
            ')' | ']' => close(&mut open, c, &lines).map_err(|error| error.at(place, 1))?,
            _ => stray(c).map_err(|error| error.at(place, 1))?,
        }
        at += length;
    }
    Ok(open)
}

/// The length of the string or quoted name that begins at `start`.
fn closed(text: &str, start: usize, quote: char) -> Result<usize, DslError> {
    let mut escaped = false;
    for (offset, c) in text[start + 1..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Ok(offset + 2),
            '\n' | '\t' | '\r' => {}
            c if c.is_control() => {
                stray(c).map_err(|error| error.at(Lines::new(text).at(start + 1 + offset), 1))?;
            }
            _ => {}
        }
    }
    let what = if quote == '`' { "name in backticks" } else { "string" };
    let hint =
        if quote == '`' { "close it with a backtick" } else { r"close it with `'`; a quote inside is written `\'`" };
    Err(DslError::new(code::SYNTAX, format!("the {what} is not closed")).hint(hint))
}

/// Takes the bracket that `bracket` closes.
fn close(open: &mut Vec<(char, usize)>, bracket: char, lines: &Lines<'_>) -> Result<(), DslError> {
    let opener = if bracket == ')' { '(' } else { '[' };
    match open.pop() {
        Some((found, _)) if found == opener => Ok(()),
        Some((found, at)) => {
            let wanted = if found == '(' { ')' } else { ']' };
            let Pos { line, column } = lines.at(at);
            let message = format!("expected `{wanted}`, found `{bracket}`");
            let hint = format!("`{found}` was opened at line {line}, column {column}");
            Err(DslError::new(code::SYNTAX, message).hint(hint))
        }
        None => Err(DslError::new(code::SYNTAX, format!("`{bracket}` closes nothing"))),
    }
}

/// Refuses characters that have no meaning outside of strings, where one can say what to write instead.
fn stray(c: char) -> Result<(), DslError> {
    let code_point = c as u32;
    let (message, hint) = match c {
        '\n' | '\t' | '\r' => return Ok(()),
        '"' => ("expected `'`, found `\"`".into(), "text stands in single quotes, odd names in backticks".into()),
        '‘' | '’' | '“' | '”' | '´' => {
            (format!("expected `'`, found `{c}`"), "text stands in straight single quotes".into())
        }
        '\u{a0}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{feff}' => {
            let message = format!("unexpected character U+{code_point:04X}, which cannot be seen");
            (message, "remove it, or write it in a string".to_owned())
        }
        c if c.is_control() => {
            let message = format!("unexpected control character U+{code_point:04X}");
            (message, format!(r"in a string it is written \u{{{code_point:x}}}"))
        }
        _ => return Ok(()),
    };
    Err(DslError::new(code::SYNTAX, message).hint(hint))
}

/// An error for a flaw inside the token that begins at byte `start`.
pub(crate) fn flaw(flaw: lexis::Flaw, text: &str, start: usize, lines: &Lines<'_>) -> DslError {
    let from = start + flaw.offset;
    let width = text.get(from..from + flaw.length).map_or(1, |part| part.chars().count());
    DslError::new(code::LITERAL, flaw.message).hint_if(flaw.hint).at(lines.at(from), width)
}
