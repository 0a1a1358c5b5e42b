//! Bad conditions: a bucket that does not work, permissions that are lost. Ingest goes on where it can, answers say what is
//! missing, metrics count it, and nothing is lost when all is well again.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use crate::bucket::{Bucket, Mood};
use crate::harness::{Answer, PROTOBUF, Server, logs, prism, spans, until};

const COUNT: &str = "from spans last 1h select count() as n";
/// Nobody.
const NOBODY: u32 = 65_534;

/// Spans of a window that is over.
fn earlier(seed: u64, count: u64) -> ExportTraceServiceRequest {
    let mut request = spans(seed, count);
    for span in request.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans).flat_map(|s| &mut s.spans) {
        span.start_time_unix_nano -= 600_000_000_000;
        span.end_time_unix_nano -= 600_000_000_000;
    }
    request
}

fn metric(server: &Server, name: &str) -> f64 {
    let metrics = server.get("/metrics").text();
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

fn is_partial(answer: &Answer) -> bool {
    answer.json()["stats"]["partial"].as_array().is_some_and(|partial| !partial.is_empty())
}

#[test]
fn a_bucket_that_fails_is_silent_or_hangs_up_costs_no_row_and_answers_say_what_is_missing() {
    let (dir, bucket) = (tempfile::tempdir().expect("a folder"), Bucket::open());
    let credentials = dir.path().join("credentials");
    fs::write(&credentials, "[default]\naws_access_key_id = test\naws_secret_access_key = test\n").expect("writes");
    let lines = format!(
        "[objects]\nurl = \"s3://prism\"\nregion = \"eu-west-1\"\nendpoint = \"http://127.0.0.1:{}\"\n\
         credentials_file = \"{}\"\ntimeout_ms = 300\nretries = 0\n\
         [storage]\ninterval_ms = 50\nwarm_after = \"1s\"\ncold_after = \"1s\"\n",
        bucket.port,
        credentials.display()
    );
    let start = || Server::configured(dir.path(), &lines);
    let server = start();
    assert_eq!(server.traces(&earlier(1, 30)).status, 200);
    // A clean end ends its segments, so that the next process may move them.
    server.stop();
    let server = start();
    until("rows are cold", || metric(&server, "prism_store_moved_rows_total{stage=\"promote\"}") >= 30.0);
    assert!(bucket.names().iter().any(|name| name.starts_with("cold/default/spans/date=")), "{:?}", bucket.names());
    assert_eq!(server.query(COUNT).cell(), 30);
    let mut hot = 0;
    for (seed, mood) in [Mood::Fails, Mood::Silent, Mood::HangsUp].into_iter().enumerate() {
        bucket.is(mood);
        let before = metric(&server, "prism_store_move_rounds_failed_total");
        assert_eq!(server.traces(&spans(seed as u64 + 2, 5)).status, 200, "{mood:?}: ingest needs no bucket");
        hot += 5;
        let answer = server.query(COUNT);
        assert!(is_partial(&answer), "{mood:?}: {}", answer.text());
        // What was moved may still be hot beside, until no reader can need it.
        let cell = answer.cell().as_i64().expect("a number");
        assert!((hot..=30 + hot).contains(&cell), "{mood:?}: what is hot is answered: {}", answer.text());
        assert!(!answer.text().contains("127.0.0.1"), "{mood:?}: {}", answer.text());
        until("failures are counted", || metric(&server, "prism_store_move_rounds_failed_total") > before);
        bucket.is(Mood::Well);
        let answer = server.query(COUNT);
        assert!(!is_partial(&answer), "{mood:?}: {}", answer.text());
        assert_eq!(answer.cell(), 30 + hot, "{mood:?}: nothing is lost");
    }
    server.stop();
    // Neither does a server start worse for it: it is there, and says what it cannot see.
    bucket.is(Mood::Fails);
    let server = start();
    assert_eq!(server.traces(&spans(9, 1)).status, 200);
    assert!(is_partial(&server.query(COUNT)));
    bucket.is(Mood::Well);
    until("all is moved and there", || server.query(COUNT).cell() == 46);
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
