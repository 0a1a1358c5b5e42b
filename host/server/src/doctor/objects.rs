//! The objects: can be written, read, listed and deleted, and of two that create one name one wins.

use std::io;
use std::time::{Duration, Instant};

use prism_store::Objects;
use prism_store::control::Create;

use super::Finding;
use crate::config::Config;
use crate::show::{bytes, duration};

/// A query reads some objects one after the other.
const SLOW: Duration = Duration::from_millis(500);
/// Folder of what is tried; nothing else is ever in it.
const FOLDER: &str = "doctor";

/// All checks of the objects; only the first that fails.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let subject = "objects";
    let at = if config.objects.url.is_empty() { "folder in `data_dir`".to_owned() } else { config.objects.url.clone() };
    let opened = crate::storage::objects(config);
    let todo = "nothing can be sealed, and queries lack what was: see `objects` in `prism config print`";
    let left = opened.as_ref().ok().and_then(|objects| objects.leftovers().ok()).unwrap_or_default();
    let mut findings =
        match opened.map_err(|e| format!("{e:#}")).and_then(|objects| tried(&*objects).map_err(|e| e.to_string())) {
            Ok(Tried { took, exact: true }) if took < SLOW => {
                vec![Finding::ok(subject, format!("{at}: written, read and deleted in {}", shown(took)))]
            }
            Ok(Tried { took, exact: true }) => {
                let found = format!("{at}: written, read and deleted in {}", shown(took));
                vec![Finding::warn(
                    subject,
                    found,
                    "each query of older rows waits so long: bring servers and objects together",
                )]
            }
            Ok(Tried { exact: false, .. }) => {
                let todo =
                    "rows would be lost or be there twice: use a store that honours `If-None-Match: *` when it creates";
                vec![Finding::fail(subject, format!("{at}: a name was created twice"), todo)]
            }
            Err(error) => vec![Finding::fail(subject, format!("{at}: {error}"), todo)],
        };
    if !left.is_empty() {
        let size = bytes(left.iter().map(|one| one.bytes).sum());
        let found = format!("{} half written, {size}: being written, or left by a process that died", left.len());
        findings.push(match config.storage.worker {
            true => Finding::ok(subject, format!("{found}; a server removes what has not changed for an hour")),
            false => Finding::warn(subject, found, "nothing removes it: set `storage.worker` for one server"),
        });
    }
    findings
}

struct Tried {
    took: Duration,
    exact: bool,
}

fn tried(objects: &dyn Objects) -> io::Result<Tried> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    let name = format!("{FOLDER}/{}", hex::encode(random));
    let began = Instant::now();
    let work = || -> io::Result<bool> {
        let first = objects.create(&name, b"first".as_slice().into())?;
        let second = objects.create(&name, b"second".as_slice().into())?;
        let listed = objects.list(FOLDER, "")?.iter().any(|listed| listed.name == name);
        let kept = objects.get(&name)? == b"first".as_slice();
        if !listed {
            return Err(io::Error::other("what was created is not listed"));
        }
        Ok(first == Create::Created && second == Create::Lost && kept)
    };
    let exact = work();
    let took = began.elapsed();
    objects.delete(&name)?;
    Ok(Tried { took, exact: exact? })
}

fn shown(took: Duration) -> String {
    duration(i64::try_from(took.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_folder_of_objects_is_tried_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        let findings = check(&config);
        assert!(findings.len() == 1 && findings[0].level != Level::Fail, "{findings:?}");
        let left = crate::storage::objects(&config).unwrap().list(FOLDER, "").unwrap();
        assert!(left.is_empty(), "{left:?}");
        std::fs::remove_dir_all(dir.path().join("objects")).unwrap();
        std::fs::write(dir.path().join("objects"), b"").unwrap();
        assert_eq!(check(&config)[0].level, Level::Fail);
    }
}
