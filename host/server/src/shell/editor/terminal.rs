//! The terminal: bytes as they are typed, and a text drawn with its cursor, over as many rows as it takes.

use std::io::{self, Write as _};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use unicode_width::UnicodeWidthChar as _;

use super::keys::{self, Key};
use super::text::Text;

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// The terminal of a session: while a text is edited its keys come one by one; as it was before when dropped.
///
/// Between two texts it keeps what is typed ahead as it was typed, for the next text. In the mode that shells leave it in, Ctrl-D
/// would be taken for the end of a line there, and nothing of it would be left to read.
pub(in crate::shell) struct Terminal {
    before: Termios,
    /// The row of the cursor in what is drawn.
    row: usize,
}

/// Where a text stands on the screen.
#[derive(Debug, PartialEq, Eq)]
struct Drawn {
    text: String,
    cursor: (usize, usize),
    last_row: usize,
}

impl Terminal {
    /// Takes the terminal of standard input.
    ///
    /// # Errors
    /// There is none.
    pub(in crate::shell) fn take() -> io::Result<Terminal> {
        let terminal = Terminal { before: tcgetattr(io::stdin())?, row: 0 };
        terminal.wait()?;
        Ok(terminal)
    }

    /// Begins to give keys.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn edit(&mut self) -> io::Result<()> {
        self.row = 0;
        tcsetattr(io::stdin(), OptionalActions::Drain, &editing(&self.before))?;
        // What is pasted is marked as such.
        self.write("\u{1b}[?2004h")
    }

    /// Leaves the screen to what is printed; Ctrl-C is a signal, every other key waits.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn wait(&self) -> io::Result<()> {
        self.write("\u{1b}[?2004l")?;
        Ok(tcsetattr(io::stdin(), OptionalActions::Drain, &waiting(&self.before))?)
    }

    /// Waits for a key; `None` where there will be no more.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn key(&self) -> io::Result<Option<Key>> {
        let stdin = io::stdin();
        let mut byte = || {
            let mut one = [0];
            loop {
                match rustix::io::read(&stdin, &mut one) {
                    Ok(0) => return Ok(None),
                    Ok(_) => return Ok(Some(one[0])),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        };
        loop {
            if let Some(key) = keys::read(&mut byte)? {
                return Ok(Some(key));
            }
            // A terminal that was closed gives nothing at once.
            if tcgetattr(&stdin).is_err() {
                return Ok(None);
            }
        }
    }

    /// Draws a text with its cursor in the place of the one before.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn draw(&mut self, prompt: &str, painted: &str, text: &Text) -> io::Result<()> {
        let columns = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        let drawn = draw(prompt, painted, text, if columns < 8 { COLUMNS } else { columns });
        let mut out = self.to_first_row();
        out.push_str("\u{1b}[J");
        out.push_str(&drawn.text);
        if drawn.last_row > drawn.cursor.0 {
            out.push_str(&format!("\u{1b}[{}A", drawn.last_row - drawn.cursor.0));
        }
        out.push('\r');
        if drawn.cursor.1 > 0 {
            out.push_str(&format!("\u{1b}[{}C", drawn.cursor.1));
        }
        self.row = drawn.cursor.0;
        self.write(&out)
    }

    /// Leaves what is drawn where it is, with the cursor at the end of `text`, and goes on below it.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn leave(&mut self, prompt: &str, painted: &str, text: &str, behind: &str) -> io::Result<()> {
        self.draw(prompt, painted, &Text::of(text))?;
        self.row = 0;
        self.write(&format!("{behind}\r\n"))
    }

    /// Clears the screen.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.row = 0;
        self.write("\u{1b}[H\u{1b}[2J")
    }

    /// Columns of a line.
    pub(super) fn columns(&self) -> usize {
        tcgetwinsize(io::stdout()).map_or(COLUMNS, |size| usize::from(size.ws_col).max(8))
    }

    fn to_first_row(&self) -> String {
        match self.row {
            0 => "\r".to_owned(),
            rows => format!("\r\u{1b}[{rows}A"),
        }
    }

    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _closed = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// The modes in which keys are read one by one.
fn editing(before: &Termios) -> Termios {
    let mut raw = before.clone();
    raw.make_raw();
    // A read gives nothing after a tenth of a second: so Escape is told from what begins with it.
    raw.special_codes[SpecialCodeIndex::VMIN] = 0;
    raw.special_codes[SpecialCodeIndex::VTIME] = 1;
    raw
}

/// The modes in which something is printed while keys wait.
fn waiting(before: &Termios) -> Termios {
    let mut waiting = before.clone();
    waiting.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
    waiting.input_modes.remove(InputModes::ICRNL);
    waiting
}

/// Lays a text out behind a prompt, which is `painted`; lines after the first stand under its beginning.
fn draw(prompt: &str, painted: &str, text: &Text, columns: usize) -> Drawn {
    let indent = prompt.chars().count();
    let (mut out, mut row, mut column) = (painted.to_owned(), 0, indent);
    let mut cursor = (0, indent);
    for (at, c) in text.text.char_indices() {
        if at == text.at {
            cursor = (row, column);
        }
        if c == '\n' {
            out.push_str("\r\n");
            out.push_str(&" ".repeat(indent));
            (row, column) = (row + 1, indent);
            continue;
        }
        let shown = if c.is_control() { '\u{fffd}' } else { c };
        let width = shown.width().unwrap_or(0);
        if column + width > columns {
            out.push_str("\r\n");
            (row, column) = (row + 1, 0);
            if at == text.at {
                cursor = (row, column);
            }
        }
        out.push(shown);
        column += width;
    }
    if column >= columns {
        out.push_str("\r\n");
        (row, column) = (row + 1, 0);
    }
    if text.at >= text.text.len() {
        cursor = (row, column);
    }
    Drawn { text: out, cursor, last_row: row }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, columns: usize) -> (String, (usize, usize), usize) {
        let text = Text { at: text.find('|').unwrap(), text: text.replace('|', "") };
        let Drawn { text, cursor, last_row } = draw("> ", "> ", &text, columns);
        (text, cursor, last_row)
    }

    #[test]
    fn a_text_is_drawn_over_the_rows_that_it_takes() {
        assert_eq!(drawn("ab|", 80), ("> ab".into(), (0, 4), 0));
        assert_eq!(drawn("a|\nb", 80), ("> a\r\n  b".into(), (0, 3), 1));
        assert_eq!(drawn("abcdefgh|ij", 8), ("> abcdef\r\nghij".into(), (1, 2), 1));
        assert_eq!(drawn("abcdef|", 8), ("> abcdef\r\n".into(), (1, 0), 1), "behind the last column is the next row");
        assert_eq!(drawn("abcdef|g", 8), ("> abcdef\r\ng".into(), (1, 0), 1));
        assert_eq!(drawn("日本|語", 8), ("> 日本語\r\n".into(), (0, 6), 1));
        assert_eq!(drawn("|a\u{1b}", 80).0, "> a\u{fffd}");
    }
}
