//! What lies on disk is encrypted by default, keys rotate, and a tenant is erased beside a server that runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use prost::Message as _;

use crate::harness::{Server, key, must, run, spans, until};

/// Files below a folder that hold a text, or have it in their path.
fn needles(root: &Path, needle: &str) -> Vec<String> {
    let (mut folders, mut found): (Vec<PathBuf>, Vec<String>) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let bytes = std::fs::read(&path).unwrap_or_default();
            if name.contains(needle) || bytes.windows(needle.len()).any(|w| w == needle.as_bytes()) {
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn tenants_are_encrypted_by_default_and_their_keys_rotate() {
    let data = tempfile::tempdir().expect("a folder");
    must(data.path(), &["tenant", "create", "shop"]);
    assert!(must(data.path(), &["encryption", "status"]).contains("local (`encryption.default`)"));
    let ingest = key(data.path(), "shop", "ingest,query");
    let server = Server::start(data.path(), &[]);
    let bearer = format!("Bearer {ingest}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-protobuf")];
    let send = |seed| server.send("POST", "/v1/traces", &headers, spans(seed, 5).encode_to_vec());
    let count =
        || server.send("POST", "/v1/query", &headers[..1], b"from spans last 1h select count() as n".to_vec()).cell();
    assert_eq!(send(1).status, 200);
    assert!(must(data.path(), &["encryption", "rotate", "shop"]).contains("version 2"));
    assert!(must(data.path(), &["encryption", "set", "shop", "off"]).contains("`off` from version 3"));
    let (_, error, done) = run(data.path(), &["encryption", "rotate", "shop"]);
    assert!(!done && error.contains("not encrypted"), "{error}");
    must(data.path(), &["encryption", "set", "shop", "local"]);
    let status = must(data.path(), &["encryption", "status", "shop"]);
    assert_eq!(status.matches("local").count(), 3, "{status}");
    assert!(must(data.path(), &["tenant", "show", "shop"]).contains("local, version 4"));
    assert_eq!(send(2).status, 200);
    assert_eq!(count(), 10);
    server.stop();
    let server = Server::start(data.path(), &[]);
    let answer = server.send("POST", "/v1/query", &headers[..1], b"from spans last 1h select count() as n".to_vec());
    assert_eq!(answer.cell(), 10);
    // Their services stand in no file of rows.
    assert!(needles(&data.path().join("hot"), "service.name").is_empty());
    let (_, error, done) = run(data.path(), &["encryption", "set", "nobody", "off"]);
    assert!(!done && error.contains("no tenant `nobody`"), "{error}");
    server.stop();
}

#[test]
fn ke2_a_tenant_is_erased_beside_a_server_under_load() {
    let data = tempfile::tempdir().expect("a folder");
    let (gone, stays) = ("erased-shop", "other");
    let keys: Vec<String> = [gone, stays]
        .iter()
        .map(|name| {
            must(data.path(), &["tenant", "create", name]);
            key(data.path(), name, "ingest,query")
        })
        .collect();
    must(data.path(), &["tenant", "set", gone, "--duplicate-window", "off"]);
    must(data.path(), &["plugin", "bind", "redact-pii", "--tenant", gone]);
    let server = Server::start(data.path(), &[]);
    let (_, error, done) = run(data.path(), &["tenant", "erase", gone]);
    assert!(!done && error.contains("--yes"), "{error}");
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let send = |key: &str, seed: u64| {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-protobuf")];
        server.send("POST", "/v1/traces", &headers, spans(seed, 3).encode_to_vec()).status
    };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            // Until it is refused: unknown to the directory, or erased.
            let counted = |seed| {
                sent.fetch_add(1, Relaxed);
                send(&keys[0], seed)
            };
            (0..).map(counted).find(|status| *status != 200)
        });
        let others = scope.spawn(|| {
            let all = (1 << 32..).take_while(|_| !stop.load(Relaxed)).map(|seed| send(&keys[1], seed));
            all.fold((0, true), |(n, fine), status| (n + 1, fine && status == 200))
        });
        until("rows of both", || sent.load(Relaxed) > 3);
        let dry = must(data.path(), &["tenant", "erase", gone, "--dry-run"]);
        for place in ["hot", "control", "blobs", "keys", "access keys", "nothing is changed"] {
            assert!(dry.contains(place), "{place}: {dry}");
        }
        assert!(must(data.path(), &["tenant", "erase", gone, "--yes"]).contains("is erased"));
        let refused = load.join().expect("the load");
        assert!(matches!(refused, Some(401 | 403)), "{refused:?}");
        stop.store(true, Relaxed);
        let (n, fine) = others.join().expect("the other load");
        assert!(fine && n > 0, "the other tenant did not notice");
    });
    // What was under way is swept; then the tombstone alone has its name.
    until("nothing is left but the tombstone", || {
        needles(data.path(), gone) == [format!("control/erased/{gone}/00000000000000000001")]
    });
    let id = keys[0].split('_').nth(1).expect("a key's id");
    assert!(needles(data.path(), id).is_empty(), "{:?}", needles(data.path(), id));
    server.stop();
    // Its name is taken for good; erasing again is no error.
    let (_, error, done) = run(data.path(), &["tenant", "create", gone]);
    assert!(!done && error.contains("was erased"), "{error}");
    must(data.path(), &["tenant", "erase", gone, "--yes"]);
    let (_, error, done) = run(data.path(), &["tenant", "erase", "nobody", "--yes"]);
    assert!(!done && error.contains("no tenant `nobody`"), "{error}");
}
