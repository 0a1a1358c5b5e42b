//! From byte offsets to lines and columns.

use std::cell::Cell;

use crate::ast::Pos;

/// A source text, asked for the places of its parts.
pub(crate) struct Lines<'a> {
    text: &'a str,
    /// The last answer: byte offset, line, column. Parts are mostly asked for in order, so going on from it keeps the whole
    /// linear; counting from the start each time would be quadratic in a text that a stranger chose.
    last: Cell<(usize, u32, u32)>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Lines { text, last: Cell::new((0, 1, 1)) }
    }

    /// The place of the byte `offset`, which lies on a character's first byte or at the end.
    pub(crate) fn at(&self, offset: usize) -> Pos {
        let (mut from, mut line, mut column) = self.last.get();
        if offset < from {
            (from, line, column) = (0, 1, 1);
        }
        for c in self.text.get(from..offset).unwrap_or_default().chars() {
            if c == '\n' {
                line += 1;
                column = 1;
            } else {
                column += 1;
            }
        }
        self.last.set((offset, line, column));
        Pos { line, column }
    }
}
