//! Aligned columns that fit a width.

use unicode_width::UnicodeWidthChar as _;

use super::screen::{Ink, Screen};

/// Between two columns.
const GAP: usize = 2;
/// A column is not cut below this: a text of fewer letters tells nothing.
const COLUMN_MIN: usize = 8;

/// Where a column's texts stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of texts under headers.
#[derive(Debug)]
pub(crate) struct Grid {
    header: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// A table without rows.
    pub(crate) fn new(header: impl IntoIterator<Item = (String, Align)>) -> Grid {
        Grid { header: header.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each column, clean texts.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The lines. Where they would be wider than the screen, the widest columns of text are cut and end in `…`; numbers
    /// are never cut, because a cut number is another number.
    pub(crate) fn render(&self, screen: &Screen) -> String {
        let mut widths: Vec<usize> = self.header.iter().map(|(name, _)| width(name)).collect();
        for row in &self.rows {
            for (i, cell) in row.iter().enumerate().take(widths.len()) {
                widths[i] = widths[i].max(width(cell));
            }
        }
        if let Some(max) = screen.width {
            self.shrink(&mut widths, max);
        }
        let mut out = String::new();
        let header: Vec<String> = self.header.iter().map(|(name, _)| name.clone()).collect();
        out.push_str(&screen.ink(Ink::Bold, &self.line(&header, &widths)));
        out.push('\n');
        let rule: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
        out.push_str(&screen.ink(Ink::Dim, &rule.join(&" ".repeat(GAP))));
        out.push('\n');
        for row in &self.rows {
            out.push_str(&self.line(row, &widths));
            out.push('\n');
        }
        out
    }

    fn shrink(&self, widths: &mut [usize], max: usize) {
        let texts: Vec<usize> = (0..widths.len()).filter(|i| self.header[*i].1 == Align::Left).collect();
        loop {
            let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
            let Some(over) = total.checked_sub(max).filter(|over| *over > 0) else { return };
            let Some(&widest) = texts.iter().filter(|i| widths[**i] > COLUMN_MIN).max_by_key(|i| widths[**i]) else {
                return;
            };
            // Down to the next widest, so that the cut is spread; at least by one, so that the loop ends.
            let next = texts.iter().filter(|i| **i != widest).map(|i| widths[*i]).max().unwrap_or(0);
            let step = (widths[widest].saturating_sub(next.max(COLUMN_MIN))).clamp(1, over);
            widths[widest] -= step;
        }
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut out = String::new();
        for (i, ((_, align), max)) in self.header.iter().zip(widths).enumerate() {
            let cell = fit(cells.get(i).map_or("", String::as_str), *max);
            let pad = " ".repeat(max - width(&cell).min(*max));
            match align {
                Align::Left => out.extend([cell.as_str(), &pad]),
                Align::Right => out.extend([pad.as_str(), &cell]),
            }
            if i + 1 < widths.len() {
                out.push_str(&" ".repeat(GAP));
            }
        }
        out.truncate(out.trim_end().len());
        out
    }
}

/// Cells of the terminal that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The text, cut with `…` where it is wider.
pub(crate) fn fit(text: &str, max: usize) -> String {
    if width(text) <= max {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > max {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: Option<usize>) -> Screen {
        Screen { width, colour: false, zone: chrono::FixedOffset::east_opt(0).unwrap() }
    }

    fn grid() -> Grid {
        let mut grid = Grid::new([
            ("service".to_owned(), Align::Left),
            ("route".to_owned(), Align::Left),
            ("n".to_owned(), Align::Right),
        ]);
        grid.push(vec!["checkout".into(), "POST /v1/orders/{id}/payment".into(), "1,234".into()]);
        grid.push(vec!["カート".into(), "GET /".into(), "7".into()]);
        grid
    }

    #[test]
    fn columns_are_aligned_by_what_the_terminal_shows() {
        assert_eq!(
            grid().render(&plain(None)),
            "service   route                             n\n\
             ────────  ────────────────────────────  ─────\n\
             checkout  POST /v1/orders/{id}/payment  1,234\n\
             カート    GET /                             7\n"
        );
    }

    #[test]
    fn wide_texts_are_cut_and_numbers_are_not() {
        assert_eq!(
            grid().render(&plain(Some(32))),
            "service   route                n\n\
             ────────  ───────────────  ─────\n\
             checkout  POST /v1/order…  1,234\n\
             カート    GET /                7\n"
        );
        // Too narrow for everything: the table keeps its shape and overflows.
        assert!(grid().render(&plain(Some(5))).contains("POST /v…  1,234\n"));
    }
}
