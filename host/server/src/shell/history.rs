//! What was asked before, in a file of this user alone: queries hold names and values of customers.

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Entries that are kept: some weeks of questions, and a file of 100 KB.
const ENTRIES_MAX: usize = 1_000;
/// A file that has so many is written anew.
const ENTRIES_IN_FILE_MAX: usize = 2 * ENTRIES_MAX;

/// Entries, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: Vec<String>,
    file: Option<PathBuf>,
}

impl History {
    /// What this user asked before; nothing of it where `keep` is not wanted.
    pub(super) fn open(keep: bool) -> History {
        let file = if keep { file_of(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME")) } else { None };
        History::at(file)
    }

    fn at(file: Option<PathBuf>) -> History {
        // One that cannot be read is as good as none.
        let text = file.as_ref().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        let mut entries: Vec<String> = String::from_utf8_lossy(&text).lines().map(unescaped).collect();
        let many = entries.len() > ENTRIES_IN_FILE_MAX;
        entries.drain(..entries.len().saturating_sub(ENTRIES_MAX));
        let history = History { entries, file };
        if let (true, Some(file)) = (many, &history.file) {
            let lines: String = history.entries.iter().map(|entry| escaped(entry)).collect();
            // Tried again the next time.
            let _as_it_was = anew(file, &lines);
        }
        history
    }

    #[cfg(test)]
    pub(super) fn of(entries: &[&str]) -> History {
        History { entries: entries.iter().map(|entry| (*entry).to_owned()).collect(), file: None }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, entry: usize) -> Option<&str> {
        self.entries.get(entry).map(String::as_str)
    }

    /// The newest entry that holds a text, behind so many that hold it too.
    pub(super) fn find(&self, text: &str, skipped: usize) -> Option<&str> {
        let holds = |entry: &&String| !text.is_empty() && entry.to_lowercase().contains(&text.to_lowercase());
        self.entries.iter().rev().filter(holds).nth(skipped).map(String::as_str)
    }

    /// Adds what was asked, unless it begins with a space or is the same as before. It is written at once: a session may end by a
    /// closed window.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn add(&mut self, text: &str) -> io::Result<()> {
        let text = text.trim_end();
        if text.starts_with(' ') || text.is_empty() || self.entries.last().is_some_and(|last| last == text) {
            return Ok(());
        }
        self.entries.push(text.to_owned());
        if self.entries.len() > ENTRIES_MAX {
            self.entries.remove(0);
        }
        let Some(file) = &self.file else { return Ok(()) };
        if let Some(folder) = file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        // One write at the end: another session keeps its own beside.
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(escaped(text).as_bytes())
    }

    /// Remembers in this session alone from now on.
    pub(super) fn forget_file(&mut self) {
        self.file = None;
    }
}

fn anew(file: &Path, lines: &str) -> io::Result<()> {
    let beside = file.with_extension(format!("{}.new", std::process::id()));
    let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    new.write_all(lines.as_bytes())?;
    std::fs::rename(&beside, file)
}

/// Where it lies, by the XDG base directory specification; `None` for a user without a home.
fn file_of(state: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // The specification ignores paths that are not absolute.
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let state = state.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".local/state")))?;
    Some(state.join("prism/history"))
}

fn escaped(entry: &str) -> String {
    entry.replace('\\', "\\\\").replace('\n', "\\n") + "\n"
}

fn unescaped(line: &str) -> String {
    let (mut out, mut escaped) = (String::new(), false);
    for c in line.chars() {
        match c {
            'n' if escaped => out.push('\n'),
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            c => out.push(c),
        }
        escaped = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lies_in_the_state_folder_of_its_user() {
        let of = |state: &str, home: &str| {
            let some = |text: &str| Some(OsString::from(text)).filter(|text| !text.is_empty());
            file_of(some(state), some(home)).map(|path| path.display().to_string())
        };
        assert_eq!(of("/s", "/h").as_deref(), Some("/s/prism/history"));
        assert_eq!(of("", "/h").as_deref(), Some("/h/.local/state/prism/history"));
        assert_eq!(of("relative", "/h").as_deref(), Some("/h/.local/state/prism/history"));
        assert_eq!(of("", ""), None);
    }

    #[test]
    fn it_is_private_bounded_and_shared_by_sessions() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/prism/history");
        let (mut one, mut two) = (History::at(Some(file.clone())), History::at(Some(file.clone())));
        one.add("from logs\nwhere a = '\\\\n'").unwrap();
        two.add("from spans").unwrap();
        two.add("from spans").unwrap();
        two.add(" from metrics").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let again = History::at(Some(file.clone()));
        assert_eq!(again.entries, ["from logs\nwhere a = '\\\\n'", "from spans"]);
        assert_eq!(
            (again.find("LOGS", 0), again.find("from", 1), again.find("", 0)),
            (again.get(0), again.get(0), None)
        );
        std::fs::write(&file, "x\n".repeat(ENTRIES_IN_FILE_MAX + 1)).unwrap();
        assert_eq!(History::at(Some(file.clone())).len(), ENTRIES_MAX);
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), ENTRIES_MAX);
        let mut long = History::of(&["a"; ENTRIES_MAX]);
        long.add("b").unwrap();
        assert_eq!((long.len(), long.get(ENTRIES_MAX - 1)), (ENTRIES_MAX, Some("b")));
    }
}
