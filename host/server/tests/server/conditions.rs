//! Bad conditions: permissions that are lost. Ingest goes on where it can, answers say what is
//! missing, metrics count it, and nothing is lost when all is well again.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use prost::Message as _;

use crate::harness::{Answer, PROTOBUF, Server, logs, prism, spans};

const COUNT: &str = "from spans last 1h select count() as n";
/// Nobody.
const NOBODY: u32 = 65_534;

fn metric(server: &Server, name: &str) -> f64 {
    let metrics = server.get("/metrics").text();
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

fn is_partial(answer: &Answer) -> bool {
    answer.json()["stats"]["partial"].as_array().is_some_and(|partial| !partial.is_empty())
}

#[test]
fn permissions_that_are_lost_are_told_and_what_was_refused_is_taken_when_they_are_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    fs::create_dir(&data).expect("a folder");
    let mut command = prism(&data);
    command.env("HOME", dir.path());
    if rustix::process::geteuid().is_root() {
        // For root no permission is ever lost.
        [dir.path(), &data].into_iter().for_each(|path| chown(path, Some(NOBODY), Some(NOBODY)).expect("chown"));
        command.uid(NOBODY).gid(NOBODY);
    }
    let server = Server::start_by(command, &["--dev"]);
    assert_eq!(server.traces(&spans(1, 3)).status, 200);
    let allow = |folder: &Path, mode| fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("chmod");
    let hot = data.join("hot/default");
    // Nothing new can be made in it: what has its file already is written on.
    allow(&hot, 0o500);
    let body = logs(4).encode_to_vec();
    let refused = server.send("POST", "/v1/logs", &[PROTOBUF], body.clone());
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(!refused.text().contains(&*data.to_string_lossy()), "{}", refused.text());
    assert_eq!(server.query(COUNT).cell(), 3);
    assert!(metric(&server, "prism_store_groups_failed_total") >= 1.0);
    // Nothing of it can be seen: an error, or an answer that says that it is partial, never a smaller number alone.
    allow(&hot, 0);
    let blind = server.query(COUNT);
    assert!(blind.status == 503 || is_partial(&blind), "{} {}", blind.status, blind.text());
    assert!(!blind.text().contains(&*data.to_string_lossy()), "{}", blind.text());
    allow(&hot, 0o700);
    assert_eq!(server.send("POST", "/v1/logs", &[PROTOBUF], body.clone()).status, 200);
    assert_eq!(server.send("POST", "/v1/logs", &[PROTOBUF], body).status, 200, "the same again");
    assert_eq!(server.query("from logs last 1h select count() as n").cell(), 4, "once");
    assert_eq!(server.query(COUNT).cell(), 3);
    // Objects.
    let objects = data.join("objects");
    allow(&objects, 0);
    let partial = server.query(COUNT);
    assert!(is_partial(&partial) && partial.cell() == 3, "{}", partial.text());
    assert_eq!(server.traces(&spans(2, 2)).status, 200);
    allow(&objects, 0o700);
    let whole = server.query(COUNT);
    assert!(!is_partial(&whole) && whole.cell() == 5, "{}", whole.text());
}
