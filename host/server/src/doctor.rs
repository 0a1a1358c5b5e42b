//! `prism doctor`: checks that Prism can run here, and says what to do where it cannot.
//!
//! ```text
//! disk (folder, space, sync, conditional create, mount, clock) -> objects (all that is done with them) -> network (ports, exposure, TLS)
//!   -> clients (of the server that runs here) -> state (tenants, plugins) -> report
//! ```
//!
//! Every check looks at the real thing: it writes, syncs and binds. Nothing that it creates is left.

mod disk;
mod objects;
mod network;
mod tls;
mod clients;
mod state;

use std::fmt;

use crate::config::Loaded;
use crate::show::{Screen, clean};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    subject: &'static str,
    found: String,
    /// What to do; empty where all is well.
    todo: String,
}

impl Finding {
    fn ok(subject: &'static str, found: impl fmt::Display) -> Finding {
        Finding { level: Level::Ok, subject, found: found.to_string(), todo: String::new() }
    }

    fn warn(subject: &'static str, found: impl fmt::Display, todo: impl fmt::Display) -> Finding {
        Finding { level: Level::Warn, subject, found: found.to_string(), todo: todo.to_string() }
    }

    fn fail(subject: &'static str, found: impl fmt::Display, todo: impl fmt::Display) -> Finding {
        Finding { level: Level::Fail, subject, found: found.to_string(), todo: todo.to_string() }
    }
}

/// Runs every check. The text of the report, and whether nothing failed.
pub(crate) fn run(loaded: &Loaded, screen: &Screen) -> (String, bool) {
    let config = &loaded.config;
    let mut findings = vec![settings(loaded)];
    findings.extend(disk::check(&config.data_dir));
    findings.extend(objects::check(config));
    findings.extend(network::check(config));
    findings.extend(clients::check(config));
    findings.extend(state::check(config));
    let sound = findings.iter().all(|f| f.level != Level::Fail);
    (report(&findings, screen), sound)
}

fn settings(loaded: &Loaded) -> Finding {
    match loaded.sources.len() {
        0 => Finding::ok("configuration", "defaults; `prism config print` shows them"),
        1 => Finding::ok("configuration", "1 setting differs from its default; `prism config print` shows which"),
        n => Finding::ok(
            "configuration",
            format!("{n} settings differ from their defaults; `prism config print` shows which"),
        ),
    }
}

fn report(findings: &[Finding], screen: &Screen) -> String {
    use crate::show::Ink;
    let mut out = String::new();
    let subject_width = findings.iter().map(|f| f.subject.len()).max().unwrap_or(0);
    for finding in findings {
        let (mark, ink) = match finding.level {
            Level::Ok => ("ok  ", Ink::Dim),
            Level::Warn => ("warn", Ink::Yellow),
            Level::Fail => ("FAIL", Ink::Red),
        };
        let mark = screen.ink(ink, mark);
        out.push_str(&format!("{mark}  {:<subject_width$}  {}\n", finding.subject, clean(&finding.found)));
        if !finding.todo.is_empty() {
            out.push_str(&format!("      {:<subject_width$}  → {}\n", "", clean(&finding.todo)));
        }
    }
    let count = |level| findings.iter().filter(|f| f.level == level).count();
    let (warned, failed) = (count(Level::Warn), count(Level::Fail));
    out.push_str(&match (warned, failed) {
        (0, 0) => "\nPrism can run here.\n".to_owned(),
        (w, 0) => format!("\nPrism can run here; {w} to look at.\n"),
        (_, f) => format!("\nPrism cannot run here as it is: {f} to repair.\n"),
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let findings = [
            Finding::ok("clock", "agrees with the disk's"),
            Finding::warn("mount", "tmpfs", "use a disk"),
            Finding::fail("port", "in use", "take another"),
        ];
        let screen = Screen { width: None, colour: false, zone: chrono::FixedOffset::east_opt(0).unwrap() };
        assert_eq!(
            report(&findings, &screen),
            "ok    clock  agrees with the disk's\n\
             warn  mount  tmpfs\n             → use a disk\n\
             FAIL  port   in use\n             → take another\n\
             \nPrism cannot run here as it is: 1 to repair.\n"
        );
        assert!(report(&findings[..2], &screen).ends_with("\nPrism can run here; 1 to look at.\n"));
        assert!(report(&findings[..1], &screen).ends_with("\nPrism can run here.\n"));
    }
}
