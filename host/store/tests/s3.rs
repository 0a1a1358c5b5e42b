//! Objects in a bucket do what those in a folder do, and a bucket that fails says how.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prism_model::Signal;
use prism_model::window::TimeRange;
use prism_store::control::Create;
use prism_store::disk::{Disk, RealDisk};
use prism_store::keys::Keyring;
use prism_store::objects::{LocalObjects, Objects, S3Objects, S3Options, is_archived};
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{Store, StoreOptions, Surroundings};
use support::moto::Moto;
use support::objects::behave;
use support::{NOW, numbered, tenant};

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
