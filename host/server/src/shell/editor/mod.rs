//! Reads queries from a terminal: editing over several lines, history, completion.
//!
//! ```text
//! terminal (bytes, drawing) -> keys -> text (what is typed, the cursor) -> Asked
//! ```
//!
//! Written here because the line editors that there are bring the `libc` and `chrono` of the whole workspace to other features.

mod keys;
mod text;
mod terminal;

use std::io;

use self::keys::Key;
pub(super) use self::terminal::Terminal;
use self::text::Text;
use super::candidates::{Candidate, Known, candidates};
use super::history::History;
use crate::show::{Ink, Screen, clean};

const PROMPT: &str = "prism> ";
/// Rows of candidates that are shown.
const SHOWN_ROWS: usize = 12;

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// A command or a query.
    Text(String),
    /// It was given up by Ctrl-C.
    GivenUp,
    /// The reader leaves.
    End,
}

/// Reads a command or a query. `known` completes.
///
/// # Errors
/// The terminal's.
pub(super) fn read(
    terminal: &mut Terminal,
    history: &History,
    known: &dyn Known,
    screen: &Screen,
) -> io::Result<Typed> {
    terminal.edit()?;
    let typed = edit(terminal, history, known, screen);
    terminal.wait()?;
    typed
}

fn edit(terminal: &mut Terminal, history: &History, known: &dyn Known, screen: &Screen) -> io::Result<Typed> {
    let painted = screen.ink(Ink::Bold, PROMPT);
    let mut editing = Editing { text: Text::default(), entry: history.len(), typed: String::new() };
    loop {
        terminal.draw(PROMPT, &painted, &editing.text)?;
        let Some(key) = terminal.key()? else { return Ok(Typed::End) };
        match key {
            Key::Interrupt => {
                terminal.leave(PROMPT, &painted, &editing.text.text, "^C")?;
                return Ok(Typed::GivenUp);
            }
            Key::Leave if editing.text.text.is_empty() => {
                terminal.leave(PROMPT, &painted, "", "")?;
                return Ok(Typed::End);
            }
            Key::Enter if !goes_on(&editing.text.text) => {
                let text = editing.text.text;
                terminal.leave(PROMPT, &painted, &text, "")?;
                return Ok(Typed::Text(text));
            }
            Key::Tab => complete(&mut editing.text, known, terminal, &painted)?,
            Key::Search => {
                if let Some(found) = search(history, terminal)? {
                    editing.text = Text::of(&found);
                }
            }
            Key::Clear => terminal.clear()?,
            key => editing.take(key, history),
        }
    }
}

/// A text that is edited, among those that were asked before.
struct Editing {
    text: Text,
    /// Which entry of the history is shown; behind the last one what is typed.
    entry: usize,
    typed: String,
}

impl Editing {
    fn take(&mut self, key: Key, history: &History) {
        let text = &mut self.text;
        match key {
            Key::Char(c) => text.insert(c.encode_utf8(&mut [0; 4])),
            Key::Paste(pasted) => text.insert(&pasted),
            Key::Enter | Key::Newline => text.insert("\n"),
            Key::Backspace => text.backspace(),
            Key::Delete | Key::Leave => text.delete(),
            Key::Left => text.left(),
            Key::Right => text.right(),
            Key::WordLeft => text.word_left(),
            Key::WordRight => text.word_right(),
            Key::Home => text.home(),
            Key::End => text.end(),
            Key::CutToEnd => text.cut_to_end(),
            Key::CutToStart => text.cut_to_start(),
            Key::CutWord => text.cut_word(),
            Key::Up if !text.up() => self.turn(self.entry.checked_sub(1), history),
            Key::Down if !text.down() => self.turn(Some(self.entry + 1), history),
            _ => {}
        }
    }

    /// To another entry of the history, or back to what is typed.
    fn turn(&mut self, to: Option<usize>, history: &History) {
        let Some(to) = to.filter(|to| *to <= history.len()) else { return };
        if self.entry == history.len() {
            self.typed.clone_from(&self.text.text);
        }
        self.entry = to;
        self.text = Text::of(history.get(to).unwrap_or(&self.typed));
    }
}

/// Whether another line is wanted: the query is not finished, and the reader does not say by an empty line that it is.
fn goes_on(text: &str) -> bool {
    if text.starts_with('\\') || text.ends_with('\n') {
        return false;
    }
    text.ends_with('\\') || prism_dsl::complete::is_unfinished(text)
}

/// Completes what all candidates have in common, else shows them.
fn complete(text: &mut Text, known: &dyn Known, terminal: &mut Terminal, painted: &str) -> io::Result<()> {
    let (start, all) = candidates(&text.text, text.at, known);
    let typed = text.text[start.min(text.at)..text.at].to_owned();
    let common = common(&all);
    if all.len() == 1 || common.len() > typed.len() {
        text.replace_from(start, &common);
        return Ok(());
    }
    if all.is_empty() {
        return Ok(());
    }
    let at = text.at;
    terminal.leave(PROMPT, painted, &text.text, "")?;
    text.at = at;
    terminal.write(&listed(&all, terminal.columns()))
}

/// What the texts of all begin with.
fn common(all: &[Candidate]) -> String {
    let Some((first, rest)) = all.split_first() else { return String::new() };
    let mut common = first.text.as_str();
    for other in rest {
        let alike = common.char_indices().zip(other.text.chars()).find(|((_, a), b)| a != b);
        let end = alike.map_or(common.len().min(other.text.len()), |((at, _), _)| at);
        common = &common[..end];
    }
    common.to_owned()
}

/// Candidates in columns.
fn listed(all: &[Candidate], columns: usize) -> String {
    let shown: Vec<String> = all.iter().map(|candidate| clean(&candidate.shown)).collect();
    let width = shown.iter().map(|text| text.chars().count()).max().unwrap_or(1) + 2;
    let a_row = (columns / width).max(1);
    let mut out = String::new();
    for row in shown.chunks(a_row).take(SHOWN_ROWS) {
        let cells: Vec<String> = row.iter().map(|text| format!("{text:width$}")).collect();
        let line: String = cells.concat().trim_end().chars().take(columns.saturating_sub(1)).collect();
        out.push_str(&format!("{line}\r\n"));
    }
    if shown.len() > a_row * SHOWN_ROWS {
        out.push_str(&format!("and {} more\r\n", shown.len() - a_row * SHOWN_ROWS));
    }
    out
}

/// Looks for what was asked before; none where the reader gives up.
fn search(history: &History, terminal: &mut Terminal) -> io::Result<Option<String>> {
    let (mut typed, mut skipped) = (String::new(), 0);
    loop {
        let found = history.find(&typed, skipped);
        let prompt = format!("(search) {typed}: ");
        terminal.draw(&prompt, &prompt, &Text::of(found.unwrap_or_default()))?;
        let Some(key) = terminal.key()? else { return Ok(None) };
        match key {
            Key::Char(c) => {
                typed.push(c);
                skipped = 0;
            }
            Key::Backspace => {
                typed.pop();
                skipped = 0;
            }
            Key::Search => skipped += usize::from(history.find(&typed, skipped + 1).is_some()),
            Key::Interrupt | Key::Escape => return Ok(None),
            _ => return Ok(found.map(str::to_owned)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_goes_on_until_it_is_finished() {
        for unfinished in [
            "from logs where",
            "from logs where a = 'x",
            "from logs by (",
            "{\"from\": \"logs\"",
            "from logs\\",
            "from",
        ] {
            assert!(goes_on(unfinished), "{unfinished}");
        }
        for done in
            ["from logs", "", "\\fields", "\\explain from logs where", "from logs where\n", "form logs where", "{}"]
        {
            assert!(!goes_on(done), "{done}");
        }
    }

    #[test]
    fn entries_before_are_turned_to_and_what_is_typed_comes_back() {
        let history = History::of(&["one", "two\nlines"]);
        let mut editing = Editing { text: Text::of("typed"), entry: 2, typed: String::new() };
        let mut after = |key: Key| {
            editing.take(key, &history);
            editing.text.text.clone()
        };
        assert_eq!(after(Key::Up), "two\nlines");
        assert_eq!(after(Key::Up), "two\nlines", "to its first line");
        assert_eq!([after(Key::Up), after(Key::Up)], ["one", "one"]);
        assert_eq!([after(Key::Down), after(Key::Down)], ["two\nlines", "typed"]);
    }

    #[test]
    fn candidates_are_cut_to_what_they_share_and_to_the_screen() {
        let all: Vec<Candidate> = ["http.route", "http.response"]
            .iter()
            .map(|t| Candidate { shown: (*t).into(), text: (*t).into() })
            .collect();
        assert_eq!(common(&all), "http.r");
        assert_eq!(listed(&all, 80), "http.route     http.response\r\n");
        assert_eq!(listed(&all, 10), "http.rout\r\nhttp.resp\r\n");
        let many = vec![all[0].clone(); 100];
        assert!(listed(&many, 30).ends_with("and 76 more\r\n"));
    }
}
