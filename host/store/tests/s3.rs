//! Objects in a bucket do what those in a folder do, and a bucket that fails says how.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prism_model::window::TimeRange;
use prism_model::{Classify as _, Kind, Signal};
use prism_store::cold::ColdOptions;
use prism_store::cold::delta::Tables;
use prism_store::control::Create;
use prism_store::disk::{Disk, RealDisk};
use prism_store::keys::Keyring;
use prism_store::life::{Age, Archive, Policy, Stage, Storage};
use prism_store::objects::{LocalObjects, Objects, S3Objects, S3Options, is_archived};
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{Reader, Store, StoreError, StoreOptions, Surroundings, Tier};
use support::moto::Moto;
use support::objects::behave;
use support::{NOW, all, numbered, numbers, tenant};

fn options(endpoint: &str, url: &str) -> S3Options {
    S3Options {
        url: url.into(),
        region: "eu-west-1".into(),
        endpoint: endpoint.into(),
        credentials: Some(("test".into(), "test".into())),
        timeout_ms: 20_000,
        retries: 2,
    }
}

/// A bucket of this name.
fn bucket(moto: &Moto, name: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", moto.port)).unwrap();
    let body = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                <LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    let scope = "Credential=test/20261121/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let head = format!(
        "PUT /{name} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nauthorization: AWS4-HMAC-SHA256 {scope}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_folder_behaves() {
    let root = tempfile::tempdir().unwrap();
    behave(&LocalObjects::new(Arc::new(RealDisk), root.path(), 7));
}

#[test]
fn a_bucket_behaves_with_and_without_a_prefix() {
    let Some(moto) = Moto::start() else { return };
    bucket(&moto, "prism");
    behave(&S3Objects::open(&options(&moto.url(), "s3://prism"), 1).unwrap());
    let below = S3Objects::open(&options(&moto.url(), "s3://prism/data/of-one/"), 2).unwrap();
    behave(&below);
    let whole = S3Objects::open(&options(&moto.url(), "s3://prism"), 3).unwrap();
    assert_eq!(whole.get("data/of-one/a/b/8").unwrap(), b"one two"[..]);
    // What does not exist.
    let none = S3Objects::open(&options(&moto.url(), "s3://none"), 4).unwrap();
    assert_eq!(none.get("a").unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn large_objects_come_in_parts_and_are_created_once() {
    let Some(moto) = Moto::start() else { return };
    bucket(&moto, "prism");
    let objects = S3Objects::open(&options(&moto.url(), "s3://prism/x"), 1).unwrap();
    let bytes: Bytes = (0..40 << 20).map(|i: u32| (i / 7) as u8).collect::<Vec<_>>().into();
    let write = |name: &str| {
        let mut upload = objects.upload(name).unwrap();
        // Cut anyhow.
        bytes.chunks(7 << 20).for_each(|chunk| upload.write(chunk).unwrap());
        upload.finish().unwrap()
    };
    assert_eq!(write("big/1"), Create::Created);
    assert_eq!(write("big/1"), Create::Lost);
    assert_eq!(objects.create("big/1", bytes.clone()).unwrap(), Create::Lost);
    assert_eq!(objects.create("big/2", bytes.clone()).unwrap(), Create::Created);
    assert!(objects.get("big/1").unwrap() == bytes && objects.get("big/2").unwrap() == bytes);
    assert_eq!(objects.read("big/1", 17 << 20..(17 << 20) + 9).unwrap(), bytes.slice(17 << 20..(17 << 20) + 9));
    // Nothing stays aside, and nothing of it shows.
    let whole = S3Objects::open(&options(&moto.url(), "s3://prism"), 2).unwrap();
    assert_eq!(whole.folders("x").unwrap(), ["big"]);
    // Another class, in place; from the archive it must be fetched first.
    objects.set_class("big/1", "GLACIER_IR").unwrap();
    assert!(objects.get("big/1").unwrap() == bytes);
    for (name, content) in [("big/1", bytes.clone()), ("small", Bytes::from_static(b"s"))] {
        if name == "small" {
            objects.create(name, content).unwrap();
        }
        objects.set_class(name, "DEEP_ARCHIVE").unwrap();
        let error = objects.read(name, 0..1).unwrap_err();
        assert!(is_archived(&error), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    }
    // It is still there and known.
    assert_eq!(objects.len("big/1").unwrap(), 40 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_sealed_to_a_bucket_and_read_from_it() {
    let Some(moto) = Moto::start() else { return };
    bucket(&moto, "prism");
    let root = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let around = Surroundings { disk: disk.clone(), clock: Arc::new(|| NOW), writer: 1, keys: Keyring::default() };
    let store = Store::open_in(root.path(), StoreOptions::default(), around);
    for i in 0..5 {
        store.append(&tenant(), numbered(i * 100, &[NOW; 100])).await.unwrap();
    }
    store.close().await;
    let url = moto.url();
    let root: &Path = root.path();
    // From a thread that may block, below a runtime, as the server does it.
    let sealed = tokio::task::block_in_place(|| {
        let objects: Arc<dyn Objects> = Arc::new(S3Objects::open(&options(&url, "s3://prism/data"), 1).unwrap());
        let blocks = Blocks::open(objects, Keyring::default());
        let options = SealOptions::default();
        let env = SealEnv { disk: &*disk, root, blocks: &blocks, options: &options, covered: &|_, _, _| Ok(0) };
        let report = seal::pass(&env, &tenant(), Signal::Spans, NOW + 3_600_000_000_000, false).unwrap();
        assert_eq!(report.blocks[0].rows, 500);
        let block = &blocks.list(&tenant(), Signal::Spans, 0, 0).unwrap()[0];
        block.verify().unwrap();
        assert_eq!(block.cube().unwrap().unwrap().rows(), 500);
        let read = |f: &prism_store::Frame| f.read(&|_, _| true).unwrap().0.rows();
        block.frames(TimeRange::ALL).iter().map(read).sum::<usize>()
    });
    assert_eq!(sealed, 500);
}

/// Files go to the archive's class; what needs one that must be fetched back says so, and the rest goes on.
#[test]
fn archived_files_are_told_and_named_in_answers() {
    let Some(moto) = Moto::start() else { return };
    bucket(&moto, "prism");
    let day = 86_400_000_000_000;
    for class in ["GLACIER", "GLACIER_IR"] {
        let root = tempfile::tempdir().unwrap();
        let bucket = S3Objects::open(&options(&moto.url(), &format!("s3://prism/{class}")), 1).unwrap();
        let objects: Arc<dyn Objects> = Arc::new(bucket.clone());
        let (keys, grace) = (Keyring::default(), std::time::Duration::from_secs(120));
        let reader = || Reader::open_with(Arc::new(RealDisk), objects.clone(), root.path(), keys.clone(), grace);
        let storage = Storage {
            disk: Arc::new(RealDisk),
            root: root.path().to_owned(),
            blocks: Blocks::open(objects.clone(), keys.clone()),
            tables: Tables::new(objects.clone()),
            reader: reader(),
            keys: keys.clone(),
            seal: SealOptions { seal_bytes_min: 0, ..SealOptions::default() },
            cold: ColdOptions { compact_files_min: 2, ..ColdOptions::default() },
            writer: 7,
            named: Default::default(),
            archive: Some(Archive { objects: bucket, class: class.into() }),
            defaults: Policy::default(),
            objects: objects.clone(),
        };
        let append = |writer: u64, first: i64, now: i64, time: i64| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (disk, keys) = (Arc::new(RealDisk), keys.clone());
                let around = Surroundings { disk, clock: Arc::new(move || now), writer, keys };
                let store = Store::open_in(root.path(), StoreOptions::default(), around);
                store.append(&tenant(), numbered(first, &[time; 50])).await.unwrap();
                store.close().await;
            });
        };
        let archive_after = Age::ms(3 * 86_400_000);
        let policy = Policy { warm_after: Age::ms(0), cold_after: Age::ms(0), archive_after, ..Policy::default() };
        let moves = |now: i64| {
            let moved = storage.moves(&tenant(), Signal::Spans, &policy, now, false, &|| false);
            assert!(moved.failures.is_empty(), "{:?}", moved.failures);
            moved.done.iter().find(|done| done.stage == Stage::Archive).map(|done| (done.parts, done.rows)).unwrap()
        };
        append(1, 0, NOW, NOW);
        let hour = day / 24;
        assert_eq!(moves(NOW + hour), (0, 0));
        append(2, 100, NOW + 6 * day, NOW + 6 * day);
        let before = all(&storage.reader);
        assert_eq!((moves(NOW + 6 * day + hour), moves(NOW + 6 * day + 2 * hour)), ((1, 50), (0, 0)), "once");
        // Who knows its footer, and who does not.
        let fresh = all(&reader());
        if class == "GLACIER_IR" {
            assert_eq!((numbers(&fresh).len(), fresh.unreadable.len()), (100, 0));
            continue;
        }
        let cold = before.frames.iter().find(|frame| frame.tier() == Tier::Cold).unwrap();
        let error = cold.read(&|_, _| true).unwrap_err();
        assert!(matches!(error, StoreError::Archived(_)) && error.kind() == Kind::Retry, "{error:?}");
        let told = &fresh.unreadable[0];
        assert_eq!((numbers(&fresh), fresh.unreadable.len()), ((100..150).collect::<Vec<i64>>(), 1));
        assert!(
            told.what.starts_with("file date=") && told.reason.starts_with("an archived file is needed"),
            "{told:?}"
        );
        // Rows that come to its day later are not joined with it, and nothing fails for that.
        append(3, 200, NOW + 6 * day, NOW);
        moves(NOW + 6 * day + 3 * hour);
        moves(NOW + 6 * day + 4 * hour);
        assert_eq!(numbers(&all(&reader())), (100..150).chain(200..250).collect::<Vec<i64>>());
        assert_eq!(storage.tables.table(&tenant(), Signal::Spans).totals().unwrap().rows, 150);
    }
}

/// Answers every request so, until it is dropped; nothing where the answer is empty, and then it keeps the connection.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            if answer.is_empty() {
                kept.push(stream);
                continue;
            }
            std::thread::spawn(move || {
                let mut buf = [0; 16 << 10];
                let _ = stream.read(&mut buf);
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    url
}

#[test]
fn a_bucket_that_fails_says_how() {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, Other, PermissionDenied, TimedOut, WouldBlock};
    const ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    const SLOW: &str = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 43\r\n\r\n\
                        <Error><Code>SlowDown</Code></Error>       ";
    const DENIED: &str = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 40\r\n\r\n\
                          <Error><Code>AccessDenied</Code></Error>";
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let cases = [
        (answering(ERROR), &[Other][..]),
        (answering(SLOW), &[WouldBlock]),
        (answering(DENIED), &[PermissionDenied]),
        (answering("HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\nhalf"), &[ConnectionAborted, Other]),
        (answering(""), &[TimedOut]),
        (refused, &[ConnectionRefused]),
    ];
    for (url, expected) in cases {
        let options = S3Options { timeout_ms: 300, retries: 1, ..options(&url, "s3://prism") };
        let objects = S3Objects::open(&options, 1).unwrap();
        for (what, error) in [
            ("get", objects.get("a/b").map(drop)),
            ("create", objects.create("a/b", Bytes::from_static(b"x")).map(drop)),
            ("list", objects.list("a", "").map(drop)),
        ] {
            // Half an answer is one to whoever reads none of it.
            let Err(error) = error else {
                assert!(expected.contains(&ConnectionAborted), "{what} {url}");
                continue;
            };
            assert!(
                expected.contains(&error.kind()),
                "{what}: expected {expected:?}, found {:?}: {error}",
                error.kind()
            );
            assert!(!error.to_string().contains("secret"));
        }
    }
}

#[test]
fn what_is_no_bucket_is_refused() {
    for url in ["", "prism", "s3://", "s3:///x", "http://prism", "s3://prism/../x", "s3://prism/.hidden"] {
        assert!(S3Objects::open(&options("http://127.0.0.1:1", url), 1).is_err(), "{url}");
    }
    assert!(!format!("{:?}", options("", "s3://x")).contains("credentials: Some"));
}
