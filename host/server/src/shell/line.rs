//! What was typed: a query, or a command, which begins with a backslash.

use clap::ValueEnum as _;

use crate::cli::Output;

/// A line, or the lines of a query.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    Nothing,
    Query(String),
    Command(Command),
    /// What is wrong.
    Unknown(String),
}

/// See [`COMMANDS`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    Help(Option<String>),
    Fields(Option<String>),
    Values(String),
    Last(Option<String>),
    Output(Output),
    Strict(bool),
    Explain(Option<String>),
    Tail(String),
    Quit,
}

/// Names of commands, what stands behind them, and what they do.
pub(super) const COMMANDS: [(&str, &str, &str); 9] = [
    ("help", "[WORD]", "this, or what a function does"),
    ("fields", "[PART]", "fields of stored rows: name, scope, signal, types, how many rows have it"),
    ("values", "FIELD", "the most frequent values of a field"),
    ("last", "DURATION|off", "the range of queries that name none, such as 15m or 1h"),
    ("output", "table|json|csv|ndjson", "how answers are printed"),
    ("strict", "on|off", "whether a field that no row has is an error"),
    ("explain", "[QUERY]", "what a query would read; the one before where none is named"),
    ("tail", "QUERY", "new rows as they come, until Ctrl-C"),
    ("q", "", "leave; Ctrl-D, too"),
];

impl Line {
    /// Reads what was typed.
    pub(super) fn read(text: &str) -> Line {
        // A backslash at the end of a line goes on in the next one.
        let text = text.replace("\\\n", "\n");
        let text = text.trim().trim_end_matches(';').trim_end();
        match text.strip_prefix('\\') {
            None if text.is_empty() => Line::Nothing,
            None => Line::Query(text.to_owned()),
            Some(command) => command_of(command).map_or_else(Line::Unknown, Line::Command),
        }
    }
}

fn command_of(text: &str) -> Result<Command, String> {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let some = || Some(rest.to_owned()).filter(|rest| !rest.is_empty());
    let needed = |what: &str| some().ok_or_else(|| format!("expected {what} behind `\\{name}`, found nothing"));
    Ok(match name.to_ascii_lowercase().as_str() {
        "help" | "h" | "?" => Command::Help(some()),
        "fields" => Command::Fields(some()),
        "values" => Command::Values(needed("a field")?),
        "last" => match rest {
            "off" => Command::Last(None),
            _ => {
                let last = needed("a duration such as `1h`, or `off`,")?;
                crate::when::range(Some(&last), None, None, chrono::Local::now().fixed_offset())?;
                Command::Last(Some(last))
            }
        },
        "output" => match Output::from_str(rest, true) {
            Ok(output) => Command::Output(output),
            Err(_) => return Err(format!("expected table, json, csv or ndjson behind `\\output`, found `{rest}`")),
        },
        "strict" => match rest {
            "on" | "" => Command::Strict(true),
            "off" => Command::Strict(false),
            _ => return Err(format!("expected on or off behind `\\strict`, found `{rest}`")),
        },
        "explain" => Command::Explain(some()),
        "tail" => Command::Tail(needed("a query")?),
        "q" | "quit" | "exit" => Command::Quit,
        _ => return Err(format!("there is no command `\\{name}`: `\\help` shows those that there are")),
    })
}

/// All commands and keys.
pub(super) fn help() -> String {
    let mut out =
        String::from("A query may take several lines: it is asked when it is finished, or behind an empty line.\n\n");
    for (name, behind, what) in COMMANDS {
        out.push_str(&format!("  {:<32}{what}\n", format!("\\{name} {behind}")));
    }
    out.push_str("\n  Tab completes, Ctrl-R searches what was asked before, Ctrl-C gives up what is typed or asked\n");
    out
}

/// What a function of the language does.
pub(super) fn help_of(word: &str) -> String {
    let word = word.trim_start_matches('\\').trim_end_matches(['(', ')']);
    if let Some((name, behind, what)) = COMMANDS.iter().find(|(name, ..)| *name == word) {
        return format!("\\{name} {behind}  {what}\n");
    }
    match prism_dsl::functions::find(word) {
        Some(function) => format!("{}  {}\n", function.usage, function.doc),
        None => {
            format!("`{word}` is no function and no command; the language is described in dsl-grammar/REFERENCE.md\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_queries_or_commands() {
        let command = |text: &str| match Line::read(text) {
            Line::Command(command) => command,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(Line::read("  \n"), Line::Nothing);
        assert_eq!(Line::read("from logs\\\n limit 1;\n"), Line::Query("from logs\n limit 1".into()));
        assert_eq!(Line::read("from logs where a = '\\\\'"), Line::Query("from logs where a = '\\\\'".into()));
        assert_eq!(command("\\fields http."), Command::Fields(Some("http.".into())));
        assert_eq!(command("\\last 1h"), Command::Last(Some("1h".into())));
        assert_eq!(command("\\last off"), Command::Last(None));
        assert_eq!(command("\\output CSV"), Command::Output(Output::Csv));
        assert_eq!(command("\\strict"), Command::Strict(true));
        assert_eq!(command("\\explain"), Command::Explain(None));
        assert_eq!(command("\\Q"), Command::Quit);
        for bad in ["\\", "\\nothing", "\\last", "\\last soon", "\\output x", "\\values", "\\tail", "\\strict maybe"] {
            assert!(matches!(Line::read(bad), Line::Unknown(_)), "{bad}");
        }
    }

    #[test]
    fn every_command_is_known_and_helped_with() {
        for (name, behind, _) in COMMANDS {
            let behind = behind.split(['|', ' ']).next().unwrap_or_default().replace("DURATION", "1h");
            assert!(matches!(Line::read(&format!("\\{name} {behind}")), Line::Command(_)), "{name}");
            assert!(help().contains(&format!("\\{name} ")) && help_of(name).starts_with('\\'));
        }
        assert!(
            help_of("p95").contains("p95(x)")
                && help_of("COUNT(").starts_with("count(x)")
                && help_of("x").contains("no function")
        );
    }
}
