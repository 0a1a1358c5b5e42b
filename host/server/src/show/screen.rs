//! What the terminal can do: width, colours, time zone.

use std::io::IsTerminal as _;

use chrono::{FixedOffset, Local, Offset as _};

/// Where text is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Characters in a line; `None` where the output is no terminal and nothing needs to be cut.
    pub(crate) width: Option<usize>,
    /// Whether colours are understood and wanted.
    pub(crate) colour: bool,
    /// The reader's zone.
    pub(crate) zone: FixedOffset,
}

/// Colours, as the terminal's own so that they fit its background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Headers.
    Bold,
    /// What is less important.
    Dim,
    /// Errors.
    Red,
    /// Warnings.
    Yellow,
    /// One of the colours that services take turns with.
    Service(usize),
}

impl Screen {
    /// Standard output. `NO_COLOR` (no-color.org) switches colours off, `COLUMNS` sets the width.
    pub(crate) fn of_stdout() -> Screen {
        let terminal = std::io::stdout().is_terminal();
        let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|n| *n > 0);
        let width = columns.or_else(|| {
            let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
            (terminal && size.ws_col > 0).then_some(usize::from(size.ws_col))
        });
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Screen { width, colour: terminal && !plain, zone: Local::now().offset().fix() }
    }

    /// The text in a colour.
    pub(crate) fn ink(&self, ink: Ink, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Bold => 1,
            Ink::Dim => 2,
            Ink::Red => 31,
            Ink::Yellow => 33,
            Ink::Service(n) => [36, 32, 34, 35, 33, 96, 92, 94, 95][n % 9],
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}
