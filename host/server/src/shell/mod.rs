//! `prism shell`, and `prism query` without a query: questions one after the other, with what a terminal can do for them.
//!
//! ```text
//! editor (keys, history, lines of an unfinished query) -> line (a query, or a command such as \fields) -> ask (a server; Ctrl-C ends it) -> show
//!     \-> candidates (what may stand at the cursor) -> known (fields and their values, as the server tells them)
//! ```
//!
//! Not here: what the language is (`prism-dsl`), how answers look (`show`).

mod line;
mod candidates;
mod known;
mod editor;
mod history;
mod ask;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use self::ask::{Ask, Done};
use self::editor::{Terminal, Typed};
use self::history::History;
use self::known::Server;
use self::line::{Command, Line};
use crate::cli::{Output, Remote, Shell};
use crate::commands;
use crate::show::{Ink, Screen, clean};

/// What is shown at the beginning.
const GREETING: &str = "\\help shows what can be done here, Tab completes, Ctrl-D leaves";

/// What the reader has set.
struct Session {
    remote: Remote,
    screen: Screen,
    output: Output,
    /// The range of queries that name none, as it is written behind `last`.
    last: Option<String>,
    strict: bool,
    /// The query before.
    query: Option<String>,
}

/// Runs a session until its reader leaves.
///
/// # Errors
/// There is no terminal to talk with, or it fails.
pub(crate) fn run(shell: &Shell, screen: &Screen) -> anyhow::Result<ExitCode> {
    let (server, mut history) = (Server::new(shell.remote.clone()), History::open(!shell.no_history));
    let mut session = Session {
        remote: shell.remote.clone(),
        screen: *screen,
        output: shell.output,
        last: shell.last.clone(),
        strict: shell.strict,
        query: None,
    };
    let greeting = format!("prism {} at {}; {GREETING}", env!("CARGO_PKG_VERSION"), clean(&shell.remote.url));
    crate::print(&(screen.ink(Ink::Dim, &greeting) + "\n"));
    let new_runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    // From here on Ctrl-C ends a question and never the session, also where it comes between two questions.
    new_runtime()?.block_on(async { signal(SignalKind::interrupt()).map(drop) })?;
    let mut terminal = Terminal::take().context("expected a terminal to talk with")?;
    loop {
        let typed = editor::read(&mut terminal, &history, &server, screen);
        let text = match typed.context("expected a terminal to talk with")? {
            Typed::Text(text) => text,
            Typed::GivenUp => continue,
            Typed::End => return Ok(ExitCode::SUCCESS),
        };
        let line = Line::read(&text);
        if matches!(line, Line::Nothing) {
            continue;
        }
        if let Err(error) = history.add(&text) {
            eprintln!("warning: what is asked is remembered in this session alone: {error}");
            history.forget_file();
        }
        if matches!(line, Line::Command(Command::Quit)) {
            return Ok(ExitCode::SUCCESS);
        }
        // One for each question: with it go its connections, so that the server sees what was given up.
        let asked = async {
            // A Ctrl-C from before is not meant for this question: the runtime is told of it now.
            tokio::time::sleep(Duration::from_millis(1)).await;
            session.answer(line).await
        };
        match new_runtime()?.block_on(asked) {
            Ok(text) => crate::print(&text),
            Err(error) => eprintln!("{}", session.screen.ink(Ink::Red, &format!("error: {error:#}"))),
        }
    }
}

impl Session {
    /// What is printed for a line.
    async fn answer(&mut self, line: Line) -> anyhow::Result<String> {
        match line {
            Line::Nothing => Ok(String::new()),
            Line::Query(query) => {
                self.query = Some(query.clone());
                self.asked(&query, false).await
            }
            Line::Command(command) => self.command(command).await,
            Line::Unknown(message) => anyhow::bail!(message),
        }
    }

    async fn command(&mut self, command: Command) -> anyhow::Result<String> {
        match command {
            Command::Quit => Ok(String::new()),
            Command::Help(None) => Ok(line::help()),
            Command::Help(Some(word)) => Ok(line::help_of(&word)),
            Command::Last(last) => {
                self.last.clone_from(&last);
                Ok(match last {
                    Some(last) => format!("queries without a range ask for the last {last}\n"),
                    None => "queries without a range ask for what the server takes\n".to_owned(),
                })
            }
            Command::Output(output) => {
                self.output = output;
                Ok(String::new())
            }
            Command::Strict(strict) => {
                self.strict = strict;
                let what = if strict { "an error" } else { "a warning" };
                Ok(format!("a field that no row in the range has is {what}\n"))
            }
            Command::Explain(query) => {
                let query = query.or_else(|| self.query.clone());
                let query =
                    query.ok_or_else(|| anyhow::anyhow!("expected a query behind `\\explain`, or one before it"))?;
                self.asked(&query, true).await
            }
            Command::Fields(part) => {
                let path = commands::fields::path(None, self.last.as_deref());
                match self.ask(Ask::Get(path)).await? {
                    Done::Answered { text, .. } => commands::fields::table(&text, part.as_deref(), &self.screen),
                    Done::Interrupted => Ok(interrupted()),
                }
            }
            Command::Values(field) => {
                let path = commands::fields::values_path(&field, None, self.last.as_deref());
                match self.ask(Ask::Get(path)).await? {
                    Done::Answered { text, .. } => commands::fields::values(&text, &self.screen),
                    Done::Interrupted => Ok(interrupted()),
                }
            }
            Command::Tail(query) => {
                let tail = crate::cli::Tail {
                    query: Vec::new(),
                    last: None,
                    output: crate::cli::TailOutput::Lines,
                    remote: self.remote.clone(),
                };
                tokio::select! {
                    followed = commands::tail::follow(&tail, query, &self.screen) => followed.map(|()| String::new()),
                    _ = tokio::signal::ctrl_c() => Ok(String::new()),
                }
            }
        }
    }

    async fn asked(&self, query: &str, explain: bool) -> anyhow::Result<String> {
        let query = ask::ranged(query, self.last.as_deref());
        let path = match (explain, self.strict) {
            (true, _) => "/v1/query/explain".to_owned(),
            (false, strict) => commands::ask::path(strict),
        };
        let ask = Ask::Post { path, query, ndjson: self.output == Output::Ndjson };
        match self.ask(ask).await? {
            Done::Answered { text, took } => commands::ask::shown(&text, took, self.output, explain, &self.screen),
            Done::Interrupted => Ok(interrupted()),
        }
    }

    async fn ask(&self, ask: Ask) -> anyhow::Result<Done> {
        ask::run(&self.remote, ask).await
    }
}

fn interrupted() -> String {
    "given up\n".to_owned()
}

/// Whether there is somebody at a terminal to talk with.
pub(crate) fn is_wanted() -> bool {
    use std::io::IsTerminal as _;
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}
